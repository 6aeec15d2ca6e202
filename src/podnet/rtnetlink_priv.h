/* The few things we ask of rtnetlink, each one message and its answer. */
#ifndef TIDEMILL_PODNET_RTNETLINK_PRIV_H
#define TIDEMILL_PODNET_RTNETLINK_PRIV_H

#include <netinet/in.h>

#include "base/base.h"

struct mnl_socket;
/* In the network namespace of the calling thread; keeps working on it. */
int rtnetlink_open(struct mnl_socket **ret);
void rtnetlink_close(struct mnl_socket *socket);
/* -ENODEV. */
int rtnetlink_index(struct mnl_socket *socket, const char *name, unsigned *ret);
struct rtnl_link_stats64;
int rtnetlink_stats(struct mnl_socket *socket, const char *name, struct rtnl_link_stats64 *ret);
int rtnetlink_add_bridge(struct mnl_socket *socket, const char *name, const unsigned char mac[6]);
/* `name` here as a port of the bridge and up, `peer` with this hardware address in the other namespace. */
int rtnetlink_add_veth(struct mnl_socket *socket, const char *name, unsigned bridge, const char *peer, const unsigned char mac[6],
                       int peer_namespace_fd);
/* Frames may leave through the port they came in by: a pod that reaches itself through a service (needed where bridged packets pass the IP hooks). */
int rtnetlink_hairpin(struct mnl_socket *socket, unsigned index);
int rtnetlink_delete(struct mnl_socket *socket, unsigned index);
int rtnetlink_up(struct mnl_socket *socket, unsigned index);
int rtnetlink_add_address(struct mnl_socket *socket, unsigned index, uint32_t address, unsigned prefix);
/* gateway 0: directly on the link. Existing is fine. */
int rtnetlink_add_route(struct mnl_socket *socket, unsigned index, uint32_t network, unsigned prefix, uint32_t gateway);
/* Without asking the link whether somebody has it. Existing is fine. */
int rtnetlink_add_address6(struct mnl_socket *socket, unsigned index, const struct in6_addr *address, unsigned prefix);
int rtnetlink_add_gateway6(struct mnl_socket *socket, unsigned index, const struct in6_addr *gateway);
int rtnetlink_addresses(struct mnl_socket *socket, void (*fn)(void *userdata, unsigned index, uint32_t address, unsigned prefix), void *userdata);

#endif

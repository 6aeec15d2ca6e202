/* rtnetlink through libmnl (rtnetlink(7)): one request, its acknowledgement or dump, no state. */
#include "podnet/rtnetlink_priv.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>

#include "sys/sys.h"

#define MESSAGE_BYTES 8192

int rtnetlink_open(struct mnl_socket **ret) {
    struct mnl_socket *socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    if (!socket)
        return -errno;
    if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
        int error = -errno;
        mnl_socket_close(socket);
        return error;
    }
    *ret = socket;
    return 0;
}

void rtnetlink_close(struct mnl_socket *socket) {
    if (socket)
        mnl_socket_close(socket);
}

/* Sends and reads until the acknowledgement, the error or the end of the dump. */
static int exchange(struct mnl_socket *socket, struct nlmsghdr *message, mnl_cb_t on_message, void *userdata) {
    char bytes[4 * MESSAGE_BYTES];
    unsigned port = mnl_socket_get_portid(socket);
    message->nlmsg_seq = 1;
    int fault = sys_point("netlink");
    if (fault < 0)
        return fault;
    if (mnl_socket_sendto(socket, message, message->nlmsg_len) < 0)
        return -errno;
    for (;;) {
        ssize_t n = mnl_socket_recvfrom(socket, bytes, sizeof bytes);
        if (n < 0)
            return -errno;
        int r = mnl_cb_run(bytes, (size_t)n, 1, port, on_message, userdata);
        if (r < 0)
            return -errno;
        if (r == MNL_CB_STOP)
            return 0;
    }
}

static struct ifinfomsg *link_message(char *bytes, uint16_t type, uint16_t flags, struct nlmsghdr **ret) {
    struct nlmsghdr *message = mnl_nlmsg_put_header(bytes);
    message->nlmsg_type = type;
    message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    struct ifinfomsg *info = mnl_nlmsg_put_extra_header(message, sizeof *info);
    info->ifi_family = AF_UNSPEC;
    *ret = message;
    return info;
}

static int on_index(const struct nlmsghdr *message, void *userdata) {
    const struct ifinfomsg *info = mnl_nlmsg_get_payload(message);
    *(unsigned *)userdata = (unsigned)info->ifi_index;
    return MNL_CB_OK;
}

int rtnetlink_index(struct mnl_socket *socket, const char *name, unsigned *ret) {
    char bytes[MESSAGE_BYTES];
    struct nlmsghdr *message;
    link_message(bytes, RTM_GETLINK, 0, &message);
    mnl_attr_put_strz(message, IFLA_IFNAME, name);
    return exchange(socket, message, on_index, ret);
}

static int on_stats(const struct nlmsghdr *message, void *userdata) {
    const struct nlattr *attribute;
    mnl_attr_for_each(attribute, message, sizeof(struct ifinfomsg)) {
        if (mnl_attr_get_type(attribute) == IFLA_STATS64) /* older kernels tell less of it than newer headers know */
            memcpy(userdata, mnl_attr_get_payload(attribute), MIN(mnl_attr_get_payload_len(attribute), sizeof(struct rtnl_link_stats64)));
    }
    return MNL_CB_OK;
}

int rtnetlink_stats(struct mnl_socket *socket, const char *name, struct rtnl_link_stats64 *ret) {
    char bytes[MESSAGE_BYTES];
    struct nlmsghdr *message;
    link_message(bytes, RTM_GETLINK, 0, &message);
    mnl_attr_put_strz(message, IFLA_IFNAME, name);
    memset(ret, 0, sizeof *ret);
    return exchange(socket, message, on_stats, ret);
}

int rtnetlink_add_bridge(struct mnl_socket *socket, const char *name, const unsigned char mac[6]) {
    char bytes[MESSAGE_BYTES];
    struct nlmsghdr *message;
    struct ifinfomsg *info = link_message(bytes, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &message);
    info->ifi_flags = info->ifi_change = IFF_UP;
    mnl_attr_put_strz(message, IFLA_IFNAME, name);
    mnl_attr_put(message, IFLA_ADDRESS, 6, mac); /* fixed: otherwise it follows the ports and ARP entries go stale */
    struct nlattr *link = mnl_attr_nest_start(message, IFLA_LINKINFO);
    mnl_attr_put_strz(message, IFLA_INFO_KIND, "bridge");
    mnl_attr_nest_end(message, link);
    return exchange(socket, message, NULL, NULL);
}

int rtnetlink_add_veth(struct mnl_socket *socket, const char *name, unsigned bridge, const char *peer, const unsigned char mac[6],
                       int peer_namespace_fd) {
    char bytes[MESSAGE_BYTES];
    struct nlmsghdr *message;
    struct ifinfomsg *info = link_message(bytes, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &message);
    info->ifi_flags = info->ifi_change = IFF_UP;
    mnl_attr_put_strz(message, IFLA_IFNAME, name);
    mnl_attr_put_u32(message, IFLA_MASTER, bridge);
    struct nlattr *link = mnl_attr_nest_start(message, IFLA_LINKINFO);
    mnl_attr_put_strz(message, IFLA_INFO_KIND, "veth");
    struct nlattr *data = mnl_attr_nest_start(message, IFLA_INFO_DATA);
    struct nlattr *other = mnl_attr_nest_start(message, VETH_INFO_PEER);
    mnl_nlmsg_put_extra_header(message, sizeof(struct ifinfomsg));
    mnl_attr_put_strz(message, IFLA_IFNAME, peer);
    mnl_attr_put(message, IFLA_ADDRESS, 6, mac);
    mnl_attr_put_u32(message, IFLA_NET_NS_FD, (uint32_t)peer_namespace_fd);
    mnl_attr_nest_end(message, other);
    mnl_attr_nest_end(message, data);
    mnl_attr_nest_end(message, link);
    return exchange(socket, message, NULL, NULL);
}

int rtnetlink_hairpin(struct mnl_socket *socket, unsigned index) {
    char bytes[MESSAGE_BYTES];
    struct nlmsghdr *message;
    link_message(bytes, RTM_NEWLINK, 0, &message)->ifi_index = (int)index;
    struct nlattr *link = mnl_attr_nest_start(message, IFLA_LINKINFO);
    mnl_attr_put_strz(message, IFLA_INFO_SLAVE_KIND, "bridge");
    struct nlattr *data = mnl_attr_nest_start(message, IFLA_INFO_SLAVE_DATA);
    mnl_attr_put_u8(message, IFLA_BRPORT_MODE, 1);
    mnl_attr_nest_end(message, data);
    mnl_attr_nest_end(message, link);
    return exchange(socket, message, NULL, NULL);
}

int rtnetlink_delete(struct mnl_socket *socket, unsigned index) {
    char bytes[MESSAGE_BYTES];
    struct nlmsghdr *message;
    link_message(bytes, RTM_DELLINK, 0, &message)->ifi_index = (int)index;
    return exchange(socket, message, NULL, NULL);
}

int rtnetlink_up(struct mnl_socket *socket, unsigned index) {
    char bytes[MESSAGE_BYTES];
    struct nlmsghdr *message;
    struct ifinfomsg *info = link_message(bytes, RTM_NEWLINK, 0, &message);
    info->ifi_index = (int)index;
    info->ifi_flags = info->ifi_change = IFF_UP;
    return exchange(socket, message, NULL, NULL);
}

int rtnetlink_add_address(struct mnl_socket *socket, unsigned index, uint32_t address, unsigned prefix) {
    char bytes[MESSAGE_BYTES];
    struct nlmsghdr *message = mnl_nlmsg_put_header(bytes);
    message->nlmsg_type = RTM_NEWADDR;
    message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(message, sizeof *info);
    info->ifa_family = AF_INET;
    info->ifa_prefixlen = (unsigned char)prefix;
    info->ifa_index = index;
    uint32_t wire = htonl(address), broadcast = htonl(address | (prefix ? ~(UINT32_MAX << (32 - prefix)) : UINT32_MAX));
    mnl_attr_put(message, IFA_LOCAL, 4, &wire);
    mnl_attr_put(message, IFA_ADDRESS, 4, &wire);
    mnl_attr_put(message, IFA_BROADCAST, 4, &broadcast);
    return exchange(socket, message, NULL, NULL);
}

int rtnetlink_add_route(struct mnl_socket *socket, unsigned index, uint32_t network, unsigned prefix, uint32_t gateway) {
    char bytes[MESSAGE_BYTES];
    struct nlmsghdr *message = mnl_nlmsg_put_header(bytes);
    message->nlmsg_type = RTM_NEWROUTE;
    message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    struct rtmsg *route = mnl_nlmsg_put_extra_header(message, sizeof *route);
    *route = (struct rtmsg){.rtm_family = AF_INET,
                            .rtm_dst_len = (unsigned char)prefix,
                            .rtm_table = RT_TABLE_MAIN,
                            .rtm_protocol = RTPROT_STATIC,
                            .rtm_type = RTN_UNICAST,
                            .rtm_scope = gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK};
    uint32_t wire = htonl(network), via = htonl(gateway);
    if (prefix)
        mnl_attr_put(message, RTA_DST, 4, &wire);
    if (gateway)
        mnl_attr_put(message, RTA_GATEWAY, 4, &via);
    mnl_attr_put_u32(message, RTA_OIF, index);
    return exchange(socket, message, NULL, NULL);
}

int rtnetlink_add_address6(struct mnl_socket *socket, unsigned index, const struct in6_addr *address, unsigned prefix) {
    char bytes[MESSAGE_BYTES];
    struct nlmsghdr *message = mnl_nlmsg_put_header(bytes);
    message->nlmsg_type = RTM_NEWADDR;
    message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(message, sizeof *info);
    *info = (struct ifaddrmsg){.ifa_family = AF_INET6, .ifa_prefixlen = (unsigned char)prefix, .ifa_flags = IFA_F_NODAD, .ifa_index = index};
    mnl_attr_put(message, IFA_LOCAL, sizeof *address, address);
    mnl_attr_put(message, IFA_ADDRESS, sizeof *address, address);
    return exchange(socket, message, NULL, NULL);
}

int rtnetlink_add_gateway6(struct mnl_socket *socket, unsigned index, const struct in6_addr *gateway) {
    char bytes[MESSAGE_BYTES];
    struct nlmsghdr *message = mnl_nlmsg_put_header(bytes);
    message->nlmsg_type = RTM_NEWROUTE;
    message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    struct rtmsg *route = mnl_nlmsg_put_extra_header(message, sizeof *route);
    *route = (struct rtmsg){.rtm_family = AF_INET6, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC, .rtm_type = RTN_UNICAST};
    mnl_attr_put(message, RTA_GATEWAY, sizeof *gateway, gateway);
    mnl_attr_put_u32(message, RTA_OIF, index);
    return exchange(socket, message, NULL, NULL);
}

struct address_walk {
    void (*fn)(void *userdata, unsigned index, uint32_t address, unsigned prefix);
    void *userdata;
};

static int on_address(const struct nlmsghdr *message, void *userdata) {
    const struct address_walk *walk = userdata;
    const struct ifaddrmsg *info = mnl_nlmsg_get_payload(message);
    const struct nlattr *attribute;
    if (message->nlmsg_type != RTM_NEWADDR || info->ifa_family != AF_INET)
        return MNL_CB_OK;
    mnl_attr_for_each(attribute, message, sizeof *info) {
        uint32_t wire;
        if (mnl_attr_get_type(attribute) != IFA_ADDRESS || mnl_attr_get_payload_len(attribute) != 4)
            continue;
        memcpy(&wire, mnl_attr_get_payload(attribute), 4);
        walk->fn(walk->userdata, info->ifa_index, ntohl(wire), info->ifa_prefixlen);
    }
    return MNL_CB_OK;
}

int rtnetlink_addresses(struct mnl_socket *socket, void (*fn)(void *userdata, unsigned index, uint32_t address, unsigned prefix), void *userdata) {
    char bytes[MESSAGE_BYTES];
    struct nlmsghdr *message = mnl_nlmsg_put_header(bytes);
    message->nlmsg_type = RTM_GETADDR;
    message->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(message, sizeof *info);
    info->ifa_family = AF_INET;
    struct address_walk walk = {.fn = fn, .userdata = userdata};
    return exchange(socket, message, on_address, &walk);
}

/* What pods are told when they ask for names: the cluster's DNS records (Kubernetes' DNS specification 1.1) out of services and their endpoints.
 * Pure: the services are looked up through two functions as they are at that moment. */
#ifndef TIDEMILL_PODNET_DNS_H
#define TIDEMILL_PODNET_DNS_H

#include "codec/codec.h"

#define PODNET_DNS_DOMAIN "cluster.local"
#define PODNET_DNS_TTL_S 5
#define PODNET_DNS_RECORDS_MAX 1000 /* of one answer; more endpoints are left out */

struct podnet_dns_endpoint {
    uint32_t address;     /* host order */
    const char *hostname; /* NULL: none, it is called a-b-c-d */
};
struct podnet_dns_port {
    const char *name, *protocol; /* "http" (or ""), "TCP" */
    uint16_t port;
};
struct podnet_dns_service {
    const char *namespace, *name;
    bool headless;
    uint32_t address;          /* the cluster IP, host order; unless headless */
    const char *external_name; /* NULL: none; then nothing else counts */
    const struct podnet_dns_port *ports;
    size_t ports_count;
    const struct podnet_dns_endpoint *endpoints; /* of a headless one: those that are ready */
    size_t endpoints_count;
};
struct podnet_dns_source {
    /* 0 with *ret filled (from the arena, or what stays); -ENOENT; -ENOMEM. */
    int (*find)(void *userdata, const char *namespace, const char *name, struct arena *arena, struct podnet_dns_service *ret);
    /* By cluster IP, or by the address of a headless one's endpoint (*ret_endpoint then, else NULL). */
    int (*find_address)(void *userdata, uint32_t address, struct arena *arena, struct podnet_dns_service *ret,
                        const struct podnet_dns_endpoint **ret_endpoint);
    bool (*has_namespace)(void *userdata, const char *namespace); /* some service is in it */
    void *userdata;
    uint32_t networks[2], masks[2]; /* of pods and services: reverse names therein are ours; mask 0: none */
};
#define PODNET_DNS_FORWARD 1
/* 0 with the answer (in the arena); PODNET_DNS_FORWARD: the name is none of ours; -ENOMEM. */
int podnet_dns_answer(const struct podnet_dns_source *source, const struct dns_query *query, struct arena *arena, struct dns_answer *ret);

#endif

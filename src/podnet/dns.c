/* The cluster's names, as Kubernetes' DNS specification gives them:
 *
 *   <service>.<namespace>.svc.cluster.local                   A: the cluster IP, or of a headless service its ready pods
 *   <hostname or a-b-c-d>.<service>.<namespace>.svc.…         A: one endpoint of a headless service
 *   _<port>._<protocol>.<service>.<namespace>.svc.…           SRV, with the targets' addresses beside
 *   <a-b-c-d>.<namespace>.pod.cluster.local                   A: the address that is written there
 *   <d.c.b.a>.in-addr.arpa                                    PTR of cluster IPs and of headless services' endpoints
 *
 * Names are walked from the right, one function per form. What exists but has no record of the type asked for (AAAA: there is no IPv6 here) is no
 * data, what does not exist is NXDOMAIN, both with an SOA: a resolver asks for both families, and NXDOMAIN for one would hide the other. All of
 * cluster.local and the reverse names of pods and services are answered here; everything else goes to the host's name servers. */
#include "podnet/dns.h"

#include <arpa/inet.h>

#define LABELS_MAX 8

struct lookup {
    const struct podnet_dns_source *source;
    const struct dns_query *query;
    struct arena *arena;
    struct dns_answer *answer;
    const char *labels[LABELS_MAX]; /* in front of the domain, from the right: labels[0] is "svc" or "pod" */
    size_t labels_count;
};

static bool wants(const struct lookup *lookup, enum dns_type type) {
    return lookup->query->type == type || lookup->query->type == DNS_TYPE_ANY;
}

static int not_found(struct lookup *lookup) {
    lookup->answer->rcode = DNS_RCODE_NXDOMAIN;
    return 0;
}

static int give_records(struct lookup *lookup, const struct dns_record *records, size_t count) {
    lookup->answer->records = records;
    lookup->answer->records_count = count;
    return 0;
}

static int give_address(struct lookup *lookup, uint32_t address) {
    if (!wants(lookup, DNS_TYPE_A))
        return 0;
    struct dns_record *record = ARENA_NEW(lookup->arena, struct dns_record);
    if (!record)
        return -ENOMEM;
    *record = (struct dns_record){.type = DNS_TYPE_A, .ttl_s = PODNET_DNS_TTL_S, .address = address};
    return give_records(lookup, record, 1);
}

static int give_target(struct lookup *lookup, enum dns_type type, const char *target) {
    struct dns_record *record = ARENA_NEW(lookup->arena, struct dns_record);
    if (!record || !target)
        return -ENOMEM;
    *record = (struct dns_record){.type = type, .ttl_s = PODNET_DNS_TTL_S, .target = target};
    return give_records(lookup, record, 1);
}

/* --- endpoints --- */

static const char *dashed(struct arena *arena, uint32_t address) {
    return arena_printf(arena, "%u-%u-%u-%u", address >> 24, address >> 16 & 255, address >> 8 & 255, address & 255);
}

static bool parse_dashed(const char *text, uint32_t *ret) {
    char dotted[INET_ADDRSTRLEN] = "";
    struct in_addr address;
    size_t len = strlen(text);
    if (len >= sizeof dotted)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '.')
            return false;
        dotted[i] = text[i] == '-' ? '.' : text[i];
    }
    if (inet_pton(AF_INET, dotted, &address) != 1)
        return false;
    *ret = ntohl(address.s_addr);
    return true;
}

static const char *service_name(struct arena *arena, const struct podnet_dns_service *service) {
    return arena_printf(arena, "%s.%s.svc." PODNET_DNS_DOMAIN, service->name, service->namespace);
}

static const char *endpoint_name(struct arena *arena, const struct podnet_dns_service *service, const struct podnet_dns_endpoint *endpoint) {
    const char *label = endpoint->hostname ? endpoint->hostname : dashed(arena, endpoint->address);
    return label ? arena_printf(arena, "%s.%s.%s.svc." PODNET_DNS_DOMAIN, label, service->name, service->namespace) : NULL;
}

static int give_endpoints(struct lookup *lookup, const struct podnet_dns_service *service, const char *name) {
    uint32_t address;
    bool by_address = name && parse_dashed(name, &address), found = false;
    size_t count = 0, max = MIN(service->endpoints_count, (size_t)PODNET_DNS_RECORDS_MAX);
    struct dns_record *records = ARENA_ARRAY(lookup->arena, struct dns_record, max);
    if (!records)
        return -ENOMEM;
    for (size_t i = 0; i < service->endpoints_count && count < max; i++) {
        const struct podnet_dns_endpoint *endpoint = &service->endpoints[i];
        if (name && !(by_address && endpoint->address == address) && !(endpoint->hostname && strcmp(endpoint->hostname, name) == 0))
            continue;
        found = true;
        if (wants(lookup, DNS_TYPE_A))
            records[count++] = (struct dns_record){.type = DNS_TYPE_A, .ttl_s = PODNET_DNS_TTL_S, .address = endpoint->address};
    }
    return name && !found ? not_found(lookup) : give_records(lookup, records, count);
}

/* --- SRV --- */

struct srv_list {
    struct dns_record *records, *additional;
    size_t count, max;
};

static int add_srv(struct srv_list *list, uint16_t port, uint16_t weight, const char *target, uint32_t address) {
    if (!target)
        return -ENOMEM;
    if (list->count == list->max)
        return 0;
    list->records[list->count] =
        (struct dns_record){.type = DNS_TYPE_SRV, .ttl_s = PODNET_DNS_TTL_S, .weight = weight, .port = port, .target = target};
    list->additional[list->count++] = (struct dns_record){.name = target, .type = DNS_TYPE_A, .ttl_s = PODNET_DNS_TTL_S, .address = address};
    return 0;
}

static int add_srv_port(struct lookup *lookup, const struct podnet_dns_service *service, uint16_t port, struct srv_list *list) {
    int r = 0;
    if (!service->headless)
        return add_srv(list, port, 100, service_name(lookup->arena, service), service->address);
    for (size_t i = 0; r == 0 && i < service->endpoints_count; i++)
        r = add_srv(list, port, (uint16_t)MAX((size_t)1, 100 / service->endpoints_count),
                    endpoint_name(lookup->arena, service, &service->endpoints[i]), service->endpoints[i].address);
    return r;
}

/* "_http", "_tcp" */
static int give_srv(struct lookup *lookup, const struct podnet_dns_service *service, const char *port, const char *protocol) {
    size_t max = MIN(MAX(service->endpoints_count, (size_t)1) * MAX(service->ports_count, (size_t)1), (size_t)PODNET_DNS_RECORDS_MAX);
    struct srv_list list = {.max = max};
    bool found = false;
    int r = 0;
    list.records = ARENA_ARRAY(lookup->arena, struct dns_record, max);
    list.additional = ARENA_ARRAY(lookup->arena, struct dns_record, max);
    if (!list.records || !list.additional)
        return -ENOMEM;
    for (size_t i = 0; r == 0 && i < service->ports_count; i++) {
        const struct podnet_dns_port *at = &service->ports[i];
        if (!slice_equal_nocase(slice_of(at->protocol), slice_of(protocol + 1)) || (port && strcmp(at->name, port + 1) != 0))
            continue;
        found = true;
        if (port && wants(lookup, DNS_TYPE_SRV))
            r = add_srv_port(lookup, service, at->port, &list);
    }
    if (r < 0 || !found)
        return r < 0 ? r : not_found(lookup);
    lookup->answer->additional = list.additional;
    lookup->answer->additional_count = list.count;
    return give_records(lookup, list.records, list.count);
}

/* --- the forms --- */

static int answer_service(struct lookup *lookup, const struct podnet_dns_service *service) {
    const char **rest = &lookup->labels[3];
    size_t count = lookup->labels_count - 3;
    if (service->external_name)
        return count ? not_found(lookup) : give_target(lookup, DNS_TYPE_CNAME, service->external_name);
    if (count == 0)
        return service->headless ? give_endpoints(lookup, service, NULL) : give_address(lookup, service->address);
    if (rest[0][0] == '_' && count <= 2 && (count == 1 || rest[1][0] == '_'))
        return give_srv(lookup, service, count == 2 ? rest[1] : NULL, rest[0]);
    return count == 1 && service->headless ? give_endpoints(lookup, service, rest[0]) : not_found(lookup);
}

static int answer_svc(struct lookup *lookup) {
    struct podnet_dns_service service;
    const struct podnet_dns_source *source = lookup->source;
    if (lookup->labels_count == 1)
        return 0;
    if (lookup->labels_count == 2)
        return source->has_namespace(source->userdata, lookup->labels[1]) ? 0 : not_found(lookup);
    int r = source->find(source->userdata, lookup->labels[1], lookup->labels[2], lookup->arena, &service);
    if (r == -ENOENT)
        return not_found(lookup);
    return r < 0 ? r : answer_service(lookup, &service);
}

/* The address is believed as it is written, as everywhere: it only says what the asker said. But only a pod's. */
static int answer_pod(struct lookup *lookup) {
    uint32_t address;
    const struct podnet_dns_source *source = lookup->source;
    if (lookup->labels_count == 1)
        return 0;
    if (lookup->labels_count == 2)
        return source->has_namespace(source->userdata, lookup->labels[1]) ? 0 : not_found(lookup);
    if (lookup->labels_count != 3 || !parse_dashed(lookup->labels[2], &address))
        return not_found(lookup);
    if ((address & source->masks[0]) != source->networks[0])
        return not_found(lookup);
    return give_address(lookup, address);
}

static int answer_reverse(struct lookup *lookup, uint32_t address) {
    const struct podnet_dns_source *source = lookup->source;
    const struct podnet_dns_endpoint *endpoint = NULL;
    struct podnet_dns_service service;
    int r = source->find_address(source->userdata, address, lookup->arena, &service, &endpoint);
    if (r == -ENOENT)
        return not_found(lookup);
    if (r < 0 || !wants(lookup, DNS_TYPE_PTR))
        return r;
    return give_target(lookup, DNS_TYPE_PTR, endpoint ? endpoint_name(lookup->arena, &service, endpoint) : service_name(lookup->arena, &service));
}

/* --- which form --- */

/* "4.3.2.1.in-addr.arpa" of a network that is ours. */
static bool is_our_reverse(const struct podnet_dns_source *source, const char *name, uint32_t *ret) {
    static const char suffix[] = ".in-addr.arpa";
    struct slice text = slice_of(name);
    char dotted[INET_ADDRSTRLEN];
    struct in_addr address;
    if (!slice_ends(text, SLICE(suffix)) || text.len - (sizeof suffix - 1) >= sizeof dotted)
        return false;
    memcpy(dotted, name, text.len - (sizeof suffix - 1));
    dotted[text.len - (sizeof suffix - 1)] = 0;
    if (inet_pton(AF_INET, dotted, &address) != 1)
        return false;
    *ret = __builtin_bswap32(ntohl(address.s_addr)); /* it is written backwards */
    for (size_t i = 0; i < ARRAY_LEN(source->masks); i++)
        if (source->masks[i] && (*ret & source->masks[i]) == source->networks[i])
            return true;
    return false;
}

/* The part in front of the domain as labels from the right; -ENOENT: more labels than any of our names. */
static int split(struct lookup *lookup, struct slice part) {
    char *text = arena_dup(lookup->arena, part);
    if (!text)
        return -ENOMEM;
    while (part.len) {
        size_t at = part.len;
        while (at > 0 && text[at - 1] != '.')
            at--;
        if (lookup->labels_count == LABELS_MAX)
            return -ENOENT;
        lookup->labels[lookup->labels_count++] = text + at;
        part.len = at ? at - 1 : 0;
        if (at)
            text[part.len] = 0;
    }
    return 0;
}

static int answer_cluster(struct lookup *lookup, struct slice part) {
    int r = split(lookup, part);
    if (r == -ENOENT)
        return not_found(lookup);
    if (r < 0 || lookup->labels_count == 0)
        return r;
    if (strcmp(lookup->labels[0], "svc") == 0)
        return answer_svc(lookup);
    return strcmp(lookup->labels[0], "pod") == 0 ? answer_pod(lookup) : not_found(lookup);
}

static void finish(struct dns_answer *answer, const char *zone) {
    answer->authoritative = true;
    answer->soa_serial = 1;
    answer->negative_ttl_s = PODNET_DNS_TTL_S;
    if (answer->records_count == 0)
        answer->soa_zone = zone;
}

int podnet_dns_answer(const struct podnet_dns_source *source, const struct dns_query *query, struct arena *arena, struct dns_answer *ret) {
    struct lookup lookup = {.source = source, .query = query, .arena = arena, .answer = ret};
    struct slice name = slice_of(query->name), domain = SLICE(PODNET_DNS_DOMAIN);
    uint32_t address;
    int r;
    *ret = (struct dns_answer){.rcode = DNS_RCODE_NOERROR};
    bool reverse = is_our_reverse(source, query->name, &address);
    bool cluster = slice_ends(name, domain) && (name.len == domain.len || name.data[name.len - domain.len - 1] == '.');
    if ((query->class != DNS_CLASS_IN && query->class != DNS_CLASS_ANY) || query->type == DNS_TYPE_AXFR || query->type == DNS_TYPE_IXFR) {
        ret->rcode = DNS_RCODE_REFUSED;
        return 0;
    }
    if (!reverse && !cluster)
        return PODNET_DNS_FORWARD;
    r = reverse ? answer_reverse(&lookup, address) : answer_cluster(&lookup, slice_head(name, name.len - MIN(name.len, domain.len + 1)));
    if (r == 0)
        finish(ret, reverse ? "in-addr.arpa" : PODNET_DNS_DOMAIN);
    return r;
}

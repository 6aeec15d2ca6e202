#include "podnet/dns.h"

#include <stdio.h>

#include "unit.h"

static const struct podnet_dns_port ports[] = {{"http", "TCP", 80}, {"dns", "UDP", 53}};
static const struct podnet_dns_endpoint endpoints[] = {{0x0a580002, "db-0"}, {0x0a580003, NULL}};
static const struct podnet_dns_service services[] = {
    {.namespace = "default", .name = "web", .address = 0x0a600001, .ports = ports, .ports_count = 2},
    {.namespace = "default", .name = "db", .headless = true, .ports = ports, .ports_count = 1, .endpoints = endpoints, .endpoints_count = 2},
    {.namespace = "default", .name = "empty", .headless = true, .ports = ports, .ports_count = 1},
    {.namespace = "other", .name = "far", .external_name = "far.example.com"},
};

static int find(__attribute__((unused)) void *userdata, const char *namespace, const char *name, __attribute__((unused)) struct arena *arena,
                struct podnet_dns_service *ret) {
    for (size_t i = 0; i < ARRAY_LEN(services); i++)
        if (strcmp(services[i].namespace, namespace) == 0 && strcmp(services[i].name, name) == 0) {
            *ret = services[i];
            return 0;
        }
    return -ENOENT;
}

static int find_address(__attribute__((unused)) void *userdata, uint32_t address, __attribute__((unused)) struct arena *arena,
                        struct podnet_dns_service *ret, const struct podnet_dns_endpoint **ret_endpoint) {
    *ret_endpoint = address == endpoints[0].address ? &endpoints[0] : NULL;
    *ret = services[*ret_endpoint ? 1 : 0];
    return *ret_endpoint || address == services[0].address ? 0 : -ENOENT;
}

static bool has_namespace(__attribute__((unused)) void *userdata, const char *namespace) {
    return strcmp(namespace, "default") == 0 || strcmp(namespace, "other") == 0;
}

static void put(struct buffer *out, const struct dns_record *record) {
    if (record->name)
        buffer_printf(out, " +%s", record->name);
    if (record->type == DNS_TYPE_A)
        buffer_printf(out, " %08x", record->address);
    else if (record->type == DNS_TYPE_SRV)
        buffer_printf(out, " %u:%u:%s", record->weight, record->port, record->target);
    else
        buffer_printf(out, " %s", record->target);
}

/* The answer as a line: its code, "soa" and its records; "forward". */
static void expect(const char *name, unsigned type, const char *want) {
    static const struct podnet_dns_source source = {find, find_address, has_namespace, NULL, {0x0a580000, 0x0a600000}, {0xffff0000, 0xffff0000}};
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    struct dns_query query = {.type = (uint16_t)type, .class = DNS_CLASS_IN};
    struct dns_answer answer;
    snprintf(query.name, sizeof query.name, "%s", name);
    int r = podnet_dns_answer(&source, &query, arena, &answer);
    if (r == PODNET_DNS_FORWARD)
        buffer_append_text(&out, "forward");
    else
        buffer_printf(&out, "%u%s", (unsigned)answer.rcode, answer.soa_zone ? " soa" : "");
    for (size_t i = 0; r == 0 && i < answer.records_count; i++)
        put(&out, &answer.records[i]);
    for (size_t i = 0; r == 0 && i < answer.additional_count; i++)
        put(&out, &answer.additional[i]);
    assert_string_equal(out.data, want);
}

UNIT_TEST(services_have_addresses) {
    expect("web.default.svc.cluster.local", DNS_TYPE_A, "0 0a600001");
    expect("web.default.svc.cluster.local", DNS_TYPE_ANY, "0 0a600001");
    expect("web.default.svc.cluster.local", DNS_TYPE_AAAA, "0 soa");
    expect("web.other.svc.cluster.local", DNS_TYPE_A, "3 soa");
    expect("a.web.default.svc.cluster.local", DNS_TYPE_A, "3 soa");
    expect("far.other.svc.cluster.local", DNS_TYPE_A, "0 far.example.com");
}

UNIT_TEST(headless_services_have_their_pods_addresses) {
    expect("db.default.svc.cluster.local", DNS_TYPE_A, "0 0a580002 0a580003");
    expect("db.default.svc.cluster.local", DNS_TYPE_AAAA, "0 soa");
    expect("empty.default.svc.cluster.local", DNS_TYPE_A, "0 soa");
    expect("db-0.db.default.svc.cluster.local", DNS_TYPE_A, "0 0a580002");
    expect("db-0.db.default.svc.cluster.local", DNS_TYPE_AAAA, "0 soa");
    expect("10-88-0-3.db.default.svc.cluster.local", DNS_TYPE_A, "0 0a580003");
    expect("db-1.db.default.svc.cluster.local", DNS_TYPE_A, "3 soa");
}

UNIT_TEST(ports_have_srv_records) {
    expect("_http._tcp.web.default.svc.cluster.local", DNS_TYPE_SRV,
           "0 100:80:web.default.svc.cluster.local +web.default.svc.cluster.local 0a600001");
    expect("_http._tcp.db.default.svc.cluster.local", DNS_TYPE_SRV,
           "0 50:80:db-0.db.default.svc.cluster.local 50:80:10-88-0-3.db.default.svc.cluster.local +db-0.db.default.svc.cluster.local 0a580002 "
           "+10-88-0-3.db.default.svc.cluster.local 0a580003");
    expect("_http._tcp.web.default.svc.cluster.local", DNS_TYPE_A, "0 soa");
    expect("_tcp.web.default.svc.cluster.local", DNS_TYPE_SRV, "0 soa");
    expect("_http._udp.web.default.svc.cluster.local", DNS_TYPE_SRV, "3 soa");
    expect("_http.x.web.default.svc.cluster.local", DNS_TYPE_SRV, "3 soa");
    expect("_tcp._http._tcp.web.default.svc.cluster.local", DNS_TYPE_SRV, "3 soa");
}

UNIT_TEST(pods_have_addresses_and_addresses_names) {
    expect("10-88-0-9.default.pod.cluster.local", DNS_TYPE_A, "0 0a580009");
    expect("192-0-2-1.default.pod.cluster.local", DNS_TYPE_A, "3 soa");
    expect("x.default.pod.cluster.local", DNS_TYPE_A, "3 soa");
    expect("1.0.96.10.in-addr.arpa", DNS_TYPE_PTR, "0 web.default.svc.cluster.local");
    expect("2.0.88.10.in-addr.arpa", DNS_TYPE_PTR, "0 db-0.db.default.svc.cluster.local");
    expect("9.0.96.10.in-addr.arpa", DNS_TYPE_PTR, "3 soa");
    expect("1.2.0.192.in-addr.arpa", DNS_TYPE_PTR, "forward");
}

UNIT_TEST(the_domain_is_ours_and_nothing_else) {
    expect("cluster.local", DNS_TYPE_A, "0 soa");
    expect("svc.cluster.local", DNS_TYPE_A, "0 soa");
    expect("default.svc.cluster.local", DNS_TYPE_A, "0 soa");
    expect("none.svc.cluster.local", DNS_TYPE_A, "3 soa");
    expect("x.cluster.local", DNS_TYPE_A, "3 soa");
    expect("a.b.c.d.e.f.g.h.svc.cluster.local", DNS_TYPE_A, "3 soa");
    expect("notcluster.local", DNS_TYPE_A, "forward");
    expect("", DNS_TYPE_A, "forward");
    expect("example.com", DNS_TYPE_A, "forward");
    expect("example.com", DNS_TYPE_AXFR, "5");
}

UNIT_MAIN(UNIT(services_have_addresses), UNIT(headless_services_have_their_pods_addresses), UNIT(ports_have_srv_records),
          UNIT(pods_have_addresses_and_addresses_names), UNIT(the_domain_is_ours_and_nothing_else))

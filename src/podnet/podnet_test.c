/* The pure parts (addresses, rules as text), and, as root, a real bridge with two pods, and services through nftables. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "podnet/address_priv.h"
#include "podnet/podnet_fixture_priv.h"
#include "podnet/rules_priv.h"
#include "sys/sys.h"
#include "unit.h"

UNIT_TEST(hands_out_each_address_once) {
    struct addresses addresses;
    uint32_t a, b, again;
    char uid[16], text[16];
    assert_int_equal(addresses_init(&addresses, "10.9.0.0/28"), 0);
    assert_int_equal(addresses_take(&addresses, "a", &a), 0);
    assert_int_equal(addresses_take(&addresses, "b", &b), 0);
    address_text(a, text);
    assert_string_equal(text, "10.9.0.2");
    assert_int_equal(b, a + 1);
    assert_int_equal(addresses_take(&addresses, "a", &again), 0);
    assert_int_equal(again, a);
    for (int i = 0; i < 11; i++) {
        snprintf(uid, sizeof uid, "p%d", i);
        assert_int_equal(addresses_take(&addresses, uid, &again), 0);
        assert_true(again != a && again != b);
    }
    assert_int_equal(addresses_take(&addresses, "full", &again), -ENOSPC); /* 16 less network, bridge, broadcast */
    addresses_give(&addresses, "a");
    assert_int_equal(addresses_take(&addresses, "c", &again), 0);
    assert_int_equal(again, a);
    addresses_deinit(&addresses);
}

UNIT_TEST(a_freed_address_comes_last) {
    struct addresses addresses;
    uint32_t a, b;
    assert_int_equal(addresses_init(&addresses, "10.9.0.0/24"), 0);
    assert_int_equal(addresses_take(&addresses, "a", &a), 0);
    addresses_give(&addresses, "a");
    assert_int_equal(addresses_take(&addresses, "b", &b), 0);
    assert_true(a != b);
    addresses_deinit(&addresses);
}

UNIT_TEST(a_lost_table_is_claimed_anew) {
    struct addresses addresses;
    uint32_t a, b;
    char text[16];
    assert_int_equal(addresses_init(&addresses, "10.9.0.0/24"), 0);
    addresses_claim(&addresses, "a", "10.9.0.7");
    addresses_claim(&addresses, "thief", "10.9.0.7");
    addresses_claim(&addresses, "stranger", "10.8.0.7");
    addresses_claim(&addresses, "garbage", "x");
    assert_int_equal(addresses.entries.count, 1);
    assert_int_equal(addresses_take(&addresses, "a", &a), 0);
    address_text(a, text);
    assert_string_equal(text, "10.9.0.7");
    assert_int_equal(addresses_take(&addresses, "thief", &b), 0);
    assert_true(a != b);
    addresses_deinit(&addresses);
}

UNIT_TEST(survives_in_its_text) {
    struct addresses addresses, read;
    uint32_t a, b;
    struct buffer text = BUFFER_INIT(4096);
    assert_int_equal(addresses_init(&addresses, "10.9.0.0/24"), 0);
    assert_int_equal(addresses_init(&read, "10.9.0.0/24"), 0);
    assert_int_equal(addresses_take(&addresses, "a", &a), 0);
    assert_int_equal(addresses_take(&addresses, "gone", &b), 0);
    addresses_give(&addresses, "gone");
    assert_int_equal(addresses_format(&addresses, &text), 0);
    assert_int_equal(addresses_parse(&read, buffer_slice(&text)), 0);
    assert_int_equal(addresses_take(&read, "a", &b), 0);
    assert_int_equal(a, b);
    assert_int_equal(addresses_take(&read, "c", &b), 0);
    assert_int_equal(b, a + 2);
    assert_int_equal(addresses_parse(&read, SLICE("nonsense\n10.9.0.1 bridge\n10.8.0.9 other\n10.9.0.2\n10.9.0.255 x\n999.1.1.1 y\n")), 0);
    assert_int_equal(read.entries.count, 2);
    addresses_deinit(&addresses);
    addresses_deinit(&read);
    buffer_deinit(&text);
}

UNIT_TEST(refuses_ranges_that_are_none) {
    static const char *const bad[] = {"", "10.0.0.0", "10.0.0.0/7", "10.0.0.0/29", "10.0.0.1/16", "x/16", "10.0.0.0/", "10.0.0.0/16x", "::/16"};
    uint32_t network, mask;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(address_cidr_parse(bad[i], &network, &mask), -EINVAL);
}

UNIT_TEST(rules_leave_out_what_is_malformed) {
    struct buffer text = BUFFER_INIT(RULES_BYTES_MAX);
    const struct podnet_endpoint endpoints[] = {{"10.9.0.2", 80}, {"evil; flush ruleset", 80}, {"10.9.0.3", 0}};
    const struct podnet_service services[] = {{.address = "10.96.0.1", .port = 80, .endpoints = endpoints, .endpoints_count = 3},
                                              {.address = "1; flush ruleset", .port = 80},
                                              {.address = "10.96.0.2", .port = 53, .is_udp = true}};
    const struct rules rules = {.instance = "x", .bridge = "tm-x", .cidr = "10.9.0.0/24", .cidr6 = "", .services = services, .services_count = 3};
    assert_int_equal(rules_format(&rules, &text), 0);
    assert_null(strstr(text.data, "flush"));
    assert_non_null(strstr(text.data, "numgen random mod 1 map { 0 : 10.9.0.2 . 80 }"));
    assert_non_null(strstr(text.data, "10.96.0.1 . tcp . 80 : goto service0"));
    assert_non_null(strstr(text.data, "elements = { 10.96.0.2 . udp . 53 }"));
    buffer_deinit(&text);
}

UNIT_TEST(balancers_and_affinity_have_their_rules) {
    struct buffer text = BUFFER_INIT(RULES_BYTES_MAX);
    const struct podnet_endpoint endpoints[] = {{"10.9.0.2", 80}, {"10.9.0.3", 80}, {"10.9.0.4", 80}};
    const char *const extra[] = {"192.0.2.1", "x; flush ruleset"}, *const sources[] = {"198.51.100.0/24", "0.0.0.0/0; flush ruleset"};
    const struct podnet_service services[] = {
        {.address = "10.96.0.1",
         .port = 80,
         .node_port = 30080,
         .endpoints = endpoints,
         .endpoints_count = 3,
         .affinity = true,
         .extra = extra,
         .extra_count = 2},
        {.address = "10.96.0.2", .port = 80, .endpoints = endpoints, .endpoints_count = 1, .extra = extra, .extra_count = 1},
        {.address = "10.96.0.3",
         .port = 81,
         .node_port = 30081,
         .endpoints = endpoints,
         .endpoints_count = 1,
         .extra = extra,
         .extra_count = 1,
         .sources = sources,
         .sources_count = 2}};
    const struct rules rules = {.instance = "x", .bridge = "tm-x", .cidr = "10.9.0.0/24", .cidr6 = "", .services = services, .services_count = 3};
    assert_int_equal(rules_format(&rules, &text), 0);
    assert_null(strstr(text.data, "flush"));
    assert_non_null(strstr(text.data, "192.0.2.1 . tcp . 80 : goto service0"));
    assert_null(strstr(text.data, "192.0.2.1 . tcp . 80 : goto service1")); /* the first has it */
    assert_non_null(strstr(text.data, "192.0.2.1 . tcp . 81 : goto gate2"));
    assert_non_null(strstr(text.data, "tcp . 30081 : goto gate2"));
    assert_non_null(strstr(text.data, "10.96.0.3 . tcp . 81 : goto service2"));
    assert_non_null(strstr(text.data, "ip saddr { 198.51.100.0/24 } goto service2"));
    assert_non_null(strstr(text.data, "jhash ip saddr mod 256 map { 0 : 10.9.0."));
    buffer_deinit(&text);
}

static void slots_of(size_t endpoints_count, char ret[256]) {
    struct buffer text = BUFFER_INIT(RULES_BYTES_MAX);
    const struct podnet_endpoint endpoints[] = {{"10.9.0.2", 80}, {"10.9.0.3", 80}, {"10.9.0.4", 80}};
    const struct podnet_service service = {
        .address = "10.96.0.1", .port = 80, .endpoints = endpoints, .endpoints_count = endpoints_count, .affinity = true};
    const struct rules rules = {.instance = "x", .bridge = "tm-x", .cidr = "10.9.0.0/24", .cidr6 = "", .services = &service, .services_count = 1};
    assert_int_equal(rules_format(&rules, &text), 0);
    const char *at = strstr(text.data, "map { 0");
    for (int slot = 0; slot < 256; slot++) {
        at = strstr(at, "10.9.0.") + 7;
        ret[slot] = *at;
    }
    buffer_deinit(&text);
}

UNIT_TEST(clients_stay_where_they_are_when_endpoints_come) {
    char two[256], three[256];
    int moved = 0;
    slots_of(2, two);
    slots_of(3, three);
    for (int slot = 0; slot < 256; slot++) {
        moved += two[slot] != three[slot];
        assert_true(two[slot] == three[slot] || three[slot] == '4'); /* only to the new one */
    }
    assert_true(moved > 40 && moved < 130);
}

/* --- as root --- */

static char dir[64], namespaces[128];

static void options_of(struct podnet_options *ret) {
    *ret = (struct podnet_options){
        .instance = "podt", .cidr = "10.209.0.0/24", .service_cidr = "10.210.0.0/24", .state_dir = dir, .namespace_dir = namespaces};
}

UNIT_TEST(connects_pods_and_services) {
    struct podnet_options options;
    struct podnet *podnet = NULL;
    struct podnet_pod one = {.address = ""}, two = {.address = ""}, same = {.address = ""};
    struct diag diag = DIAG_INIT;
    if (geteuid() != 0)
        fail_msg("this test makes network namespaces: run it as root");
    snprintf(dir, sizeof dir, "/tmp/podt-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(namespaces, sizeof namespaces, "%s/ns", dir);
    options_of(&options);
    if (podnet_new(&options, &podnet, &diag) < 0)
        fail_msg("%s", diag.message);
    assert_int_equal(podnet_add(podnet, &(struct podnet_sandbox){.uid = "uid-1", .hostname = "one"}, &one, &diag), 0);
    assert_int_equal(podnet_add(podnet, &(struct podnet_sandbox){.uid = "uid-2", .hostname = "two"}, &two, &diag), 0);
    podnet_free(podnet); /* the next process finds all of it */
    if (podnet_new(&options, &podnet, &diag) < 0)
        fail_msg("%s", diag.message);
    assert_int_equal(podnet_add(podnet, &(struct podnet_sandbox){.uid = "uid-1", .hostname = "one"}, &same, &diag), 0);
    assert_string_equal(one.address, same.address);
    pid_t server = serve(&two, AF_INET);
    char target[64];
    snprintf(target, sizeof target, "%s:8080", two.address);
    assert_int_equal(dial(target), 0);               /* from the host */
    assert_int_equal(in_pod(&one, dial, target), 0); /* from a pod */
    int own = podnet_connect(podnet, &two, 8080);    /* from the pod itself */
    struct pollfd connecting = {.fd = own, .events = POLLOUT};
    int error = -1;
    assert_true(own >= 0);
    assert_int_equal(poll(&connecting, 1, 5000), 1);
    assert_int_equal(getsockopt(own, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error}), 0);
    assert_int_equal(error, 0);
    close(own);
    assert_int_equal(dial(target), 0); /* this process is still at home */
    const struct podnet_endpoint endpoints[] = {{two.address, 8080}};
    const char *const outer[] = {"192.0.2.77"}, *const nobody[] = {"203.0.113.0/24"};
    const struct podnet_service services[] = {{.address = "10.210.0.5",
                                               .port = 80,
                                               .node_port = 32101,
                                               .endpoints = endpoints,
                                               .endpoints_count = 1,
                                               .affinity = true,
                                               .extra = outer,
                                               .extra_count = 1},
                                              {.address = "10.210.0.6", .port = 80},
                                              {.address = "10.210.0.7",
                                               .port = 80,
                                               .node_port = 32102,
                                               .endpoints = endpoints,
                                               .endpoints_count = 1,
                                               .sources = nobody,
                                               .sources_count = 1}};
    if (podnet_set_services(podnet, services, 3, NULL, 0, &diag) < 0)
        fail_msg("%s", diag.message);
    assert_int_equal(dial("127.0.0.1:32101"), 0);
    assert_int_equal(dial("10.209.0.1:32101"), 0); /* the bridge's own address */
    assert_int_equal(in_pod(&one, dial, "10.209.0.1:32101"), 0);
    assert_int_equal(in_pod(&one, dial, "192.0.2.77:80"), 0);
    assert_int_equal(dial("127.0.0.1:32102"), ECONNREFUSED); /* not of the ranges that may */
    assert_int_equal(dial("10.210.0.7:80"), 0);
    assert_int_equal(dial("10.210.0.5:80"), 0);
    assert_int_equal(in_pod(&one, dial, "10.210.0.5:80"), 0);
    assert_int_equal(in_pod(&two, dial, "10.210.0.5:80"), 0); /* to itself */
    assert_int_equal(in_pod(&one, dial, "10.210.0.6:80"), ECONNREFUSED);
    podnet_free(podnet); /* the next process does not cut them off while it knows nothing yet */
    if (podnet_new(&options, &podnet, &diag) < 0)
        fail_msg("%s", diag.message);
    assert_int_equal(in_pod(&one, dial, "10.210.0.5:80"), 0);
    assert_int_equal(podnet_set_services(podnet, NULL, 0, NULL, 0, &diag), 0);
    assert_int_equal(dial("127.0.0.1:32101"), ECONNREFUSED);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    assert_int_equal(podnet_remove(podnet, "uid-1"), 0);
    assert_int_equal(podnet_remove(podnet, "uid-2"), 0);
    assert_int_equal(podnet_remove(podnet, "uid-2"), 0);
    assert_int_equal(podnet_add(podnet, &(struct podnet_sandbox){.uid = "../x", .hostname = "x"}, &same, &diag), -EINVAL);
    assert_int_equal(podnet_remove_all(podnet), 0);
    podnet_free(podnet);
    sys_remove_tree(AT_FDCWD, dir);
}

UNIT_MAIN(UNIT(hands_out_each_address_once), UNIT(a_freed_address_comes_last), UNIT(a_lost_table_is_claimed_anew), UNIT(survives_in_its_text),
          UNIT(refuses_ranges_that_are_none), UNIT(rules_leave_out_what_is_malformed), UNIT(balancers_and_affinity_have_their_rules),
          UNIT(clients_stay_where_they_are_when_endpoints_come), UNIT(connects_pods_and_services))

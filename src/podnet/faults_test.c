#include <stdio.h>

#include "podnet/address_priv.h"
#include "podnet/podnet.h"
#include "podnet/rules_priv.h"

#include "faults.h"
#include "unit.h"

/* The table is whole on its way to disk and back, or it says that it is not. */
static int keep_addresses(__attribute__((unused)) void *context) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(4096);
    struct addresses addresses, read;
    uint32_t first, second, again = 0;
    assert_int_equal(addresses_init(&addresses, "10.9.0.0/24"), 0);
    assert_int_equal(addresses_init(&read, "10.9.0.0/24"), 0);
    int r = addresses_take(&addresses, "a", &first);
    if (r == 0)
        r = addresses_take(&addresses, "b", &second);
    if (r == 0)
        r = addresses_format(&addresses, &text);
    if (r == 0)
        r = addresses_parse(&read, buffer_slice(&text));
    if (r == 0)
        r = addresses_take(&read, "b", &again);
    if (r == 0)
        assert_int_equal(again, second);
    addresses_deinit(&addresses);
    addresses_deinit(&read);
    return r;
}

/* A rule less would lead traffic astray, or let it in. */
static int describe_rules(__attribute__((unused)) void *context) {
    static char expected[64 * KIB];
    static const struct podnet_endpoint endpoints[] = {{"10.9.0.2", 80}, {"10.9.0.3", 80}};
    static const struct podnet_service services[] = {{.address = "10.96.0.1", .port = 80, .endpoints = endpoints, .endpoints_count = 2},
                                                     {.address = "10.96.0.2", .port = 53, .is_udp = true}};
    const struct rules rules = {.instance = "x", .bridge = "tm-x", .cidr = "10.9.0.0/24", .cidr6 = "", .services = services, .services_count = 2};
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(RULES_BYTES_MAX);
    int r = rules_format(&rules, &text);
    if (r == 0 && !faults_struck())
        snprintf(expected, sizeof expected, "%s", text.data);
    if (r == 0)
        assert_string_equal(text.data, expected);
    return r;
}

UNIT_TEST(what_is_kept_and_what_is_let_in_is_whole) {
    TEST_FAULTS(keep_addresses, NULL);
    TEST_FAULTS(describe_rules, NULL);
}

UNIT_MAIN(UNIT(what_is_kept_and_what_is_let_in_is_whole))

#include "codec/quantity.h"
#include "codec/text.h"
#include "codec/timestamp.h"

#include "unit.h"

UNIT_TEST(quantities) {
    static const struct {
        const char *text, *canonical;
        int64_t milli;
    } cases[] = {{"0", "0", 0},
                 {"1", "1", 1000},
                 {"0.5", "500m", 500},
                 {"100m", "100m", 100},
                 {"1024Ki", "1Mi", 1048576000},
                 {"1.5Gi", "1536Mi", 1610612736000},
                 {"1e3", "1e3", 1000000},
                 {"1000", "1k", 1000000},
                 {"128974848", "128974848", 128974848000},
                 {"0.1Ki", "102400m", 102400},
                 {"1n", "1n", 1},
                 {"-2", "-2", -2000},
                 {"12E", "12E", INT64_MAX},
                 {"1500m", "1500m", 1500},
                 {"0.0001", "100u", 1}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[64];
        int64_t milli;
        assert_int_equal(quantity_canonical(slice_of(cases[i].text), text), 0);
        assert_string_equal(text, cases[i].canonical);
        assert_int_equal(quantity_parse_milli(slice_of(cases[i].text), &milli), 0);
        if (milli != cases[i].milli)
            fail_msg("%s: %" PRId64, cases[i].text, milli);
    }
    static const char *const bad[] = {"", "x", "1x", "1.2.3", "m", "--1", "1 Gi", "1Kb", "1e", "1e99"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int64_t value;
        assert_int_equal(quantity_parse(slice_of(bad[i]), &value), -EINVAL);
    }
}

UNIT_TEST(timestamps) {
    int64_t ns;
    char text[TIMESTAMP_BYTES];
    assert_int_equal(timestamp_parse(SLICE("2026-11-23T10:00:00.25+01:30"), &ns), 0);
    timestamp_format_micro(ns, text);
    assert_string_equal(text, "2026-11-23T08:30:00.250000Z");
    assert_int_equal(timestamp_parse(SLICE("1969-12-31T23:59:59.5Z"), &ns), 0);
    assert_true(ns == -500000000);
    timestamp_format(ns, text);
    assert_string_equal(text, "1969-12-31T23:59:59Z");
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-02-29T00:00:00Z",
                                      "2026-01-01T00:00:00",
                                      "2026-01-01 00:00:00Z",
                                      "2026-13-01T00:00:00Z",
                                      "2026-01-01T24:00:00Z",
                                      "2026-01-01T00:00:00.Z"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(timestamp_parse(slice_of(bad[i]), &ns), -EINVAL);
}

UNIT_TEST(durations) {
    int64_t ns;
    char text[TIMESTAMP_BYTES];
    assert_int_equal(duration_parse(SLICE("1h2m3.5s"), &ns), 0);
    assert_true(ns == INT64_C(3723500000000));
    assert_int_equal(duration_parse(SLICE("5"), &ns), -EINVAL);
    static const struct {
        int64_t seconds;
        const char *text;
    } ages[] = {{5, "5s"}, {119, "119s"}, {192, "3m12s"}, {600, "10m"}, {3600 * 4, "4h"}, {3600 * 51, "2d3h"}, {86400 * 400, "400d"}};
    for (size_t i = 0; i < ARRAY_LEN(ages); i++) {
        duration_format_age(ages[i].seconds * 1000000000, text);
        assert_string_equal(text, ages[i].text);
    }
}

UNIT_TEST(base64_both_ways) {
    for (size_t len = 0; len < 40; len++) {
        CLEANUP(buffer_deinit)
        struct buffer text = BUFFER_INIT(1024), back = BUFFER_INIT(1024), url = BUFFER_INIT(1024), url_back = BUFFER_INIT(1024);
        unsigned char bytes[40];
        for (size_t i = 0; i < len; i++)
            bytes[i] = (unsigned char)(i * 41 + 250);
        struct slice in = slice_make(bytes, len);
        assert_int_equal(base64_encode(&text, in), 0);
        assert_int_equal(base64_decode(&back, buffer_slice(&text)), 0);
        assert_true(slice_equal(in, buffer_slice(&back)));
        assert_int_equal(base64url_encode(&url, in), 0);
        assert_int_equal(base64url_decode(&url_back, buffer_slice(&url)), 0);
        assert_true(slice_equal(in, buffer_slice(&url_back)));
    }
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(100);
    assert_int_equal(base64_decode(&out, SLICE("QQ=")), -EINVAL);
    assert_int_equal(base64_decode(&out, SLICE("Q===")), -EINVAL);
    assert_int_equal(base64_decode(&out, SLICE("QR==")), -EINVAL);
}

UNIT_TEST(queries) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(65536);
    struct query query;
    assert_int_equal(query_parse(arena, SLICE("a=1&b=x%2Fy+z&c&a=2"), &query), 0);
    assert_string_equal(query_find(&query, "a"), "1");
    assert_string_equal(query_find(&query, "b"), "x/y z");
    assert_string_equal(query_find(&query, "c"), "");
    assert_null(query_find(&query, "d"));
    static const struct {
        const char *text;
        bool on;
    } flags[] = {{"f", true},        {"f=", true},       {"f=true", true}, {"f=True", true}, {"f=1", true},
                 {"f=false", false}, {"f=False", false}, {"f=0", false},   {"g=1", false}};
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        assert_int_equal(query_parse(arena, slice_of(flags[i].text), &query), 0);
        assert_int_equal(query_flag(&query, "f"), flags[i].on);
    }
    assert_int_equal(query_parse(arena, SLICE("a=%"), &query), -EINVAL);
    assert_int_equal(query_parse(arena, SLICE("a=%0"), &query), -EINVAL);
    assert_int_equal(query_parse(arena, SLICE("a=%00"), &query), -EINVAL);
}

UNIT_TEST(names) {
    assert_true(name_is_dns_label(SLICE("a-1")));
    assert_false(name_is_dns_label(SLICE("a_1")));
    assert_false(name_is_dns_label(SLICE("-a")));
    assert_true(name_is_dns_subdomain(SLICE("a.b-c.d")));
    assert_false(name_is_dns_subdomain(SLICE("a..b")));
    assert_false(name_is_dns_subdomain(SLICE("a.-b")));
    assert_true(name_is_qualified(SLICE("app.kubernetes.io/name")));
    assert_false(name_is_qualified(SLICE("/name")));
    assert_true(name_is_label_value(SLICE("")));
    assert_false(name_is_label_value(SLICE("a b")));
    assert_false(name_is_dns1035_label(SLICE("1a")));
}

UNIT_MAIN(UNIT(quantities), UNIT(timestamps), UNIT(durations), UNIT(base64_both_ways), UNIT(queries), UNIT(names))

#include "codec/dns.h"

#include "unit.h"

#define HEADER(flags, questions, additional) "\x12\x34" flags "\x00" questions "\x00\x00\x00\x00\x00" additional
#define WEB                                                                                                                                          \
    "\x03Web\x07"                                                                                                                                    \
    "default\x03svc\x07"                                                                                                                             \
    "cluster\x05local\x00\x00\x01\x00\x01"
#define OPT(size, version) "\x00\x00\x29" size "\x00" version "\x00\x00\x00\x00"
static const char plain[] = HEADER("\x01\x00", "\x01", "\x00") WEB;
static const char edns[] = HEADER("\x01\x00", "\x01", "\x01") WEB OPT("\x10\x00", "\x00");

static int parse(struct slice message, struct dns_query *ret) {
    char *copy = malloc(message.len); /* exactly so long: reading beyond shows */
    memcpy(copy, message.data, message.len);
    int r = dns_parse_query(slice_make(copy, message.len), ret);
    free(copy);
    return r;
}

UNIT_TEST(reads_a_query) {
    struct dns_query query;
    assert_int_equal(parse(SLICE(plain), &query), 0);
    assert_string_equal(query.name, "web.default.svc.cluster.local");
    assert_int_equal(query.id, 0x1234);
    assert_int_equal(query.type, DNS_TYPE_A);
    assert_int_equal(query.class, DNS_CLASS_IN);
    assert_true(query.recursion_desired && !query.has_edns);
    assert_int_equal(query.udp_bytes_max, DNS_UDP_BYTES);
    assert_int_equal(parse(SLICE(edns), &query), 0);
    assert_true(query.has_edns);
    assert_int_equal(query.udp_bytes_max, DNS_UDP_BYTES_MAX);
    assert_int_equal(parse(SLICE(HEADER("\x00\x00", "\x01", "\x00") "\x04"
                                                                    "a.\\\xff\x00\x00\x01\x00\x01"),
                           &query),
                     0);
    assert_string_equal(query.name, "a\\046\\092\\255");
}

UNIT_TEST(refuses_what_is_no_query) {
    static const struct {
        struct slice message;
        int result;
    } cases[] = {
        {{HEADER("\x01\x00", "\x01", "\x00"), 11}, -EBADMSG},
        {SLICE(HEADER("\x81\x00", "\x01", "\x00") WEB), -EBADMSG},         /* an answer */
        {SLICE(HEADER("\x10\x00", "\x01", "\x00") WEB), DNS_RCODE_NOTIMP}, /* STATUS */
        {SLICE(HEADER("\x01\x00", "\x00", "\x00")), DNS_RCODE_FORMERR},    /* no question */
        {SLICE(HEADER("\x01\x00", "\x02", "\x00") WEB WEB), DNS_RCODE_FORMERR},
        {SLICE(HEADER("\x01\x00", "\x01", "\x00") WEB "x"), DNS_RCODE_FORMERR},
        {SLICE(HEADER("\x01\x00", "\x01", "\x00") "\x03we"), DNS_RCODE_FORMERR},
        {SLICE(HEADER("\x01\x00", "\x01", "\x00") "\xc0\x0c\x00\x01\x00\x01"), DNS_RCODE_FORMERR}, /* itself */
        {SLICE(HEADER("\x01\x00", "\x01", "\x00") "\xc0\x00\x00\x01\x00\x01"), DNS_RCODE_FORMERR}, /* the header */
        {SLICE(HEADER("\x01\x00", "\x01", "\x00") "\x41"
                                                  "a\x00\x00\x01\x00\x01"),
         DNS_RCODE_FORMERR},
        {SLICE(HEADER("\x01\x00", "\x01", "\x01") WEB), DNS_RCODE_FORMERR},
        {SLICE(HEADER("\x01\x00", "\x01", "\x02") WEB OPT("\x10\x00", "\x00") OPT("\x10\x00", "\x00")), DNS_RCODE_FORMERR},
        {SLICE(HEADER("\x01\x00", "\x01", "\x01") WEB OPT("\x10\x00", "\x01")), DNS_RCODE_BADVERS},
    };
    struct dns_query query;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (parse(cases[i].message, &query) != cases[i].result)
            fail_msg("case %zu", i);
    for (size_t len = 0; len < sizeof edns - 1; len++)
        assert_int_not_equal(parse(slice_head(SLICE(edns), len), &query), 0);
}

UNIT_TEST(follows_pointers_backwards_only) {
    static const char message[] = HEADER("\x81\x80", "\x01", "\x00") "\x01"
                                                                     "a\x01"
                                                                     "b\x00"
                                                                     "\x01"
                                                                     "c\xc0\x0e"
                                                                     "\xc0\x16";
    char name[DNS_NAME_BYTES];
    size_t at = 17;
    assert_int_equal(dns_parse_name(SLICE(message), &at, name), 0);
    assert_string_equal(name, "c.b");
    assert_int_equal(at, 21);
    at = 21;
    assert_int_equal(dns_parse_name(SLICE(message), &at, name), -EBADMSG); /* forwards */
}

UNIT_TEST(writes_answers) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(DNS_MESSAGE_BYTES_MAX);
    struct dns_query query;
    const struct dns_record records[] = {
        {.type = DNS_TYPE_A, .ttl_s = 5, .address = 0x0a600001},
        {.type = DNS_TYPE_SRV, .ttl_s = 5, .weight = 100, .port = 80, .target = "w.x"},
    };
    const struct dns_answer answer = {.authoritative = true, .records = records, .records_count = 2};
    assert_int_equal(dns_parse_query(SLICE(edns), &query), 0);
    assert_int_equal(dns_format_answer(SLICE(edns), &query, &answer, 512, &out), 0);
    struct slice want =
        SLICE("\x12\x34\x85\x80\x00\x01\x00\x02\x00\x00\x00\x01" WEB "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x60\x00\x01"
              "\xc0\x0c\x00\x21\x00\x01\x00\x00\x00\x05\x00\x0b\x00\x00\x00\x64\x00\x50\x01w\x01x\x00" OPT("\x04\xd0", "\x00"));
    assert_int_equal(out.len, want.len);
    assert_memory_equal(out.data, want.data, want.len);
    assert_true(dns_is_answer_to(buffer_slice(&out), SLICE(edns)));
    assert_false(dns_is_answer_to(SLICE(edns), SLICE(edns)));
    out.data[14] ^= 0x20; /* the letters' case is part of the question */
    assert_false(dns_is_answer_to(buffer_slice(&out), SLICE(edns)));
}

UNIT_TEST(says_no) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(DNS_MESSAGE_BYTES_MAX);
    struct dns_query query;
    struct dns_answer answer = {
        .rcode = DNS_RCODE_NXDOMAIN, .authoritative = true, .soa_zone = "cluster.local", .soa_serial = 1, .negative_ttl_s = 5};
    assert_int_equal(dns_parse_query(SLICE(plain), &query), 0);
    assert_int_equal(dns_format_answer(SLICE(plain), &query, &answer, 512, &out), 0);
    assert_memory_equal(out.data, "\x12\x34\x85\x83\x00\x01\x00\x00\x00\x01\x00\x00", 12);
    assert_true(slice_find(buffer_slice(&out), SLICE("\x02ns\x07"
                                                     "cluster\x05local\x00\x0ahostmaster\x07"
                                                     "cluster\x05local\x00\x00\x00\x00\x01")) > 0);
    buffer_reset(&out);
    answer = (struct dns_answer){.rcode = DNS_RCODE_BADVERS};
    assert_int_equal(dns_parse_query(SLICE(edns), &query), 0);
    assert_int_equal(dns_format_answer(SLICE(edns), &query, &answer, 512, &out), 0);
    assert_int_equal(out.data[3] & 15, 0);
    assert_int_equal(out.data[out.len - 6], 1); /* the upper bits of the code are in OPT */
    buffer_reset(&out);
    struct slice garbage = SLICE(HEADER("\x01\x00", "\x00", "\x00"));
    answer = (struct dns_answer){.rcode = DNS_RCODE_FORMERR};
    assert_int_equal(dns_parse_query(garbage, &query), DNS_RCODE_FORMERR);
    assert_int_equal(dns_format_answer(garbage, &query, &answer, 512, &out), 0);
    assert_int_equal(out.len, DNS_HEADER_BYTES);
    buffer_reset(&out);
    const struct dns_record bad = {.type = DNS_TYPE_PTR, .target = "a..b"};
    answer = (struct dns_answer){.records = &bad, .records_count = 1};
    assert_int_equal(dns_parse_query(SLICE(plain), &query), 0);
    assert_int_equal(dns_format_answer(SLICE(plain), &query, &answer, 512, &out), -EINVAL);
    assert_int_equal(out.len, 0);
}

UNIT_TEST(truncates_at_whole_records) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(DNS_MESSAGE_BYTES_MAX), cut = BUFFER_INIT(DNS_MESSAGE_BYTES_MAX);
    struct dns_query query;
    struct dns_record records[100];
    for (size_t i = 0; i < 100; i++)
        records[i] = (struct dns_record){.type = DNS_TYPE_A, .address = (uint32_t)i};
    const struct dns_answer answer = {.records = records, .records_count = 100};
    assert_int_equal(dns_parse_query(SLICE(edns), &query), 0);
    assert_int_equal(dns_format_answer(SLICE(edns), &query, &answer, DNS_UDP_BYTES, &out), 0);
    size_t fits = (DNS_UDP_BYTES - DNS_HEADER_BYTES - (sizeof WEB - 1) - 11) / 16;
    assert_int_equal(out.len, DNS_HEADER_BYTES + (sizeof WEB - 1) + 11 + fits * 16);
    assert_int_equal(out.data[7], fits);
    assert_true(out.data[2] & 2);
    assert_int_equal(dns_format_truncated(buffer_slice(&out), &cut), 0);
    assert_int_equal(cut.len, DNS_HEADER_BYTES + sizeof WEB - 1);
    assert_true(cut.data[2] & 2);
    buffer_reset(&out);
    assert_int_equal(dns_format_answer(SLICE(edns), &query, &answer, DNS_MESSAGE_BYTES_MAX, &out), 0);
    assert_false(out.data[2] & 2);
    assert_int_equal(out.data[7], 100);
}

UNIT_MAIN(UNIT(reads_a_query), UNIT(refuses_what_is_no_query), UNIT(follows_pointers_backwards_only), UNIT(writes_answers), UNIT(says_no),
          UNIT(truncates_at_whole_records))

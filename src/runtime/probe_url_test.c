/* What probes make of paths, redirects and gRPC's answers. */
#include "runtime/probe_priv.h"
#include "unit.h"

UNIT_TEST(paths_become_targets) {
    static const struct {
        const char *host, *path, *url;
    } cases[] = {
        {"10.0.0.1", "/healthz?full=1&x=%20", "http://10.0.0.1:80/healthz?full=1&x=%20"},
        {"10.0.0.1", "", "http://10.0.0.1:80/"},
        {"10.0.0.1", "live", "http://10.0.0.1:80/live"},
        {"10.0.0.1", "/a b/\xc3\xa9#part", "http://10.0.0.1:80/a%20b/%C3%A9"},
        {"fd00::1", "/", "http://[fd00::1]:80/"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct probe_url url;
        char text[512];
        assert_int_equal(probe_url_make(false, cases[i].host, 80, cases[i].path, &url), 0);
        probe_url_format(&url, text, sizeof text);
        assert_string_equal(text, cases[i].url);
    }
}

UNIT_TEST(redirects_are_resolved) {
    static const struct {
        const char *location, *url;
        bool absolute;
    } cases[] = {
        {"/other", "http://pod:8080/other", false},
        {"next?x", "http://pod:8080/a/next?x", false},
        {"", "http://pod:8080/a/", false},
        {"https://pod/secure#f", "https://pod:443/secure", true},
        {"HTTP://Pod:81", "http://Pod:81/", true},
        {"http://u:p@other:90?q", "http://other:90/?q", true},
        {"//other/x", "http://other:80/x", true},
        {"http://[::1]:7/x", "http://[::1]:7/x", true},
        {"ftp://pod/x", NULL, false},
        {"http://", NULL, false},
        {"http://pod:0/", NULL, false},
        {"http://pod:70000/", NULL, false},
        {"http://[::1/", NULL, false},
        {"http://p d/", NULL, false},
    };
    struct probe_url from;
    assert_int_equal(probe_url_make(false, "pod", 8080, "/a/b?c=/d", &from), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct probe_url url;
        char text[512];
        bool absolute;
        int r = probe_url_resolve(&from, slice_of(cases[i].location), &url, &absolute);
        if (!cases[i].url) {
            assert_int_equal(r, -EINVAL);
            continue;
        }
        assert_int_equal(r, 0);
        probe_url_format(&url, text, sizeof text);
        assert_string_equal(text, cases[i].url);
        assert_int_equal(absolute, cases[i].absolute);
    }
}

UNIT_TEST(health_answers_are_read) {
    static const struct {
        struct slice body;
        int r;
        uint64_t status;
    } cases[] = {
        {SLICE("\0\0\0\0\2\x08\x01"), 0, 1},          {SLICE("\0\0\0\0\0"), 0, 0},
        {SLICE("\0\0\0\0\7\x12\3abc\x08\x02"), 0, 2},                                             /* with a field that we do not know */
        {SLICE("\0\0\0\0\3\x08\x80\x01"), 0, 128},    {SLICE("\1\0\0\0\2\x08\x01"), -EBADMSG, 0}, /* compressed */
        {SLICE("\0\0\0\0\3\x08\x01"), -EBADMSG, 0},   {SLICE("\0\0\0\0\2\x08\x80"), -EBADMSG, 0},
        {SLICE("\0\0\0\0\2\x12\x7f"), -EBADMSG, 0},   {SLICE("\0\0\0\0"), -EBADMSG, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t status = 0;
        assert_int_equal(grpc_health_parse(cases[i].body, &status), cases[i].r);
        assert_int_equal(status, cases[i].status);
    }
}

UNIT_TEST(durations_are_gos) {
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {{500, "500ms"}, {1000, "1s"}, {60000, "1m0s"}, {90000, "1m30s"}, {3600000, "1h0m0s"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[40];
        probe_format_duration(cases[i].ms, text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
}

UNIT_MAIN(UNIT(paths_become_targets), UNIT(redirects_are_resolved), UNIT(health_answers_are_read), UNIT(durations_are_gos))

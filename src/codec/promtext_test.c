/* The Prometheus text format. */
#include "unit.h"

#include <math.h>

#include "codec/codec.h"

UNIT_TEST(samples_are_read) {
    static const char text[] =
        "# HELP x y\n# TYPE x counter\nx 1\n\nhttp_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n"
        "escaped{path=\"C:\\\\DIR\\n\\\"q\\\"\",b=\"plain\",} +Inf\r\nnan{} NaN\n  spaced { a = \"1\" , b=\"2\" }   -1.5e3   \nex 5 # {id=\"x\"} 1\n"
        "om 1 1520879607.789\n# EOF\nlast -Inf";
    struct promtext parser;
    struct promtext_sample sample;
    struct diag diag = DIAG_INIT;
    promtext_init(&parser, SLICE(text));
    assert_int_equal(promtext_next(&parser, &sample, &diag), PROMTEXT_SAMPLE);
    assert_true(slice_is(sample.name, "x") && sample.value == 1 && !sample.has_timestamp && sample.labels_count == 0);
    assert_int_equal(promtext_next(&parser, &sample, &diag), PROMTEXT_SAMPLE);
    assert_true(slice_is(sample.labels[0].name, "method") && slice_is(sample.labels[1].value, "200") && sample.labels_count == 2);
    assert_true(sample.has_timestamp && sample.timestamp_ms == 1395066363000);
    assert_int_equal(promtext_next(&parser, &sample, &diag), PROMTEXT_SAMPLE);
    assert_true(slice_is(sample.labels[0].value, "C:\\DIR\n\"q\"") && slice_is(sample.labels[1].value, "plain") && isinf(sample.value));
    assert_int_equal(promtext_next(&parser, &sample, &diag), PROMTEXT_SAMPLE);
    assert_true(isnan(sample.value));
    assert_int_equal(promtext_next(&parser, &sample, &diag), PROMTEXT_SAMPLE);
    assert_true(sample.value == -1500 && sample.labels_count == 2 && slice_is(sample.labels[0].name, "a"));
    assert_int_equal(promtext_next(&parser, &sample, &diag), PROMTEXT_SAMPLE);
    assert_true(slice_is(sample.name, "ex") && sample.value == 5);
    assert_int_equal(promtext_next(&parser, &sample, &diag), PROMTEXT_SAMPLE);
    assert_int_equal(sample.timestamp_ms, 1520879607789);
    assert_int_equal(promtext_next(&parser, &sample, &diag), PROMTEXT_SAMPLE);
    assert_true(slice_is(sample.name, "last") && sample.value < 0);
    assert_int_equal(promtext_next(&parser, &sample, &diag), PROMTEXT_END);
    assert_int_equal(promtext_next(&parser, &sample, &diag), PROMTEXT_END);
}

UNIT_TEST(malformed_lines_are_named) {
    static const struct {
        const char *text;
        int line;
    } cases[] = {
        {"x\n", 1},
        {"ok 1\nx y\n", 2},
        {"1x 1\n", 1},
        {"x{a=1} 1\n", 1},
        {"x{a=\"1\" 1\n", 1},
        {"x{a=\"1} 1\n", 1},
        {"x{a=\"\\t\"} 1\n", 1},
        {"x{=\"1\"} 1\n", 1},
        {"x 1 2 3\n", 1},
        {"x 0x10\n", 1},
        {"x 1 abc\n", 1},
        {"x{a=\"1\"b=\"2\"} 1", 1},
        {"x{a=\"1\",a=\"2\"} 1", 1},
        {"\n\n{} 1", 3},
        {"x infinity\n", 1},
        {"x{a=\"1\",,} 1", 1},
        {"x{a=\"\\", 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct promtext parser;
        struct promtext_sample sample;
        struct diag diag = DIAG_INIT;
        enum promtext_result result;
        promtext_init(&parser, slice_of(cases[i].text));
        while ((result = promtext_next(&parser, &sample, &diag)) == PROMTEXT_SAMPLE)
            ;
        if (result != PROMTEXT_BAD || diag.line != cases[i].line)
            fail_msg("%s: %d, line %d", cases[i].text, result, diag.line);
    }
}

UNIT_TEST(values_are_written_as_prometheus_does) {
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"},
                 {-0.0, "-0"},
                 {1, "1"},
                 {-1.5, "-1.5"},
                 {0.1, "0.1"},
                 {1e21, "1000000000000000000000"},
                 {1e23, "100000000000000000000000"},
                 {0.000001, "0.000001"},
                 {123456.789, "123456.789"},
                 {1.0 / 3, "0.3333333333333333"},
                 {NAN, "NaN"},
                 {INFINITY, "+Inf"},
                 {-INFINITY, "-Inf"},
                 {10, "10"},
                 {0.05, "0.05"},
                 {5e-324, NULL}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(KIB);
        assert_int_equal(promtext_format_value(&text, cases[i].value), 0);
        if (cases[i].text)
            assert_string_equal(text.data, cases[i].text);
        else
            assert_true(strtod(text.data, NULL) == cases[i].value);
    }
}

UNIT_MAIN(UNIT(values_are_written_as_prometheus_does), UNIT(samples_are_read), UNIT(malformed_lines_are_named))

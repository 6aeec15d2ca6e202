/* Schedules and the zones they are in. */
#include "unit.h"

#include <stdio.h>

#include "codec/codec.h"

#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"

/* ---- a zone's file, made here: one block without transitions, or with one ---- */

static void put(struct buffer *out, uint64_t value, int bytes) {
    for (int i = bytes - 1; i >= 0; i--)
        buffer_append_byte(out, (char)(value >> (8 * i)));
}

static void put_header(struct buffer *out, unsigned times, unsigned types) {
    buffer_append_text(out, "TZif2");
    for (int i = 0; i < 15 + 12; i++)
        buffer_append_byte(out, 0);
    put(out, times, 4);
    put(out, types, 4);
    put(out, types ? 4 : 0, 4);
}

/* Before the transition (if any) the offset is `before`, from it on `after`, until the rule holds. */
static void put_zone(struct buffer *out, int64_t at_s, int32_t before, int32_t after, const char *rule) {
    put_header(out, 0, 0);
    put_header(out, at_s ? 1 : 0, 2);
    if (at_s) {
        put(out, (uint64_t)at_s, 8);
        put(out, 1, 1);
    }
    put(out, (uint32_t)before, 4);
    put(out, 0, 2);
    put(out, (uint32_t)after, 4);
    put(out, 0, 2);
    buffer_append(out, "LMT", 4);
    buffer_printf(out, "\n%s\n", rule);
}

static struct zone *zone_of(const char *rule) {
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(4 * KIB);
    struct zone *zone = NULL;
    put_zone(&bytes, 0, 0, 0, rule);
    assert_int_equal(zone_parse(buffer_slice(&bytes), &zone), 0);
    return zone;
}

static int64_t seconds_of(const char *text) {
    int64_t ns;
    assert_int_equal(timestamp_parse(slice_of(text), &ns), 0);
    return ns / 1000000000;
}

UNIT_TEST(offsets_follow_transitions_then_the_rule) {
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(4 * KIB);
    CLEANUP(zone_freep) struct zone *zone = NULL;
    int64_t at_s = seconds_of("1996-10-27T01:00:00Z");
    put_zone(&bytes, at_s, 3208, 3600, BERLIN);
    assert_int_equal(zone_parse(buffer_slice(&bytes), &zone), 0);
    assert_int_equal(zone_offset(zone, at_s - 1), 3208);
    assert_int_equal(zone_offset(zone, at_s), 3600);
    assert_int_equal(zone_offset(zone, seconds_of("2026-03-29T00:59:59Z")), 3600);
    assert_int_equal(zone_offset(zone, seconds_of("2026-03-29T01:00:00Z")), 7200);
    assert_int_equal(zone_offset(zone, seconds_of("2026-10-25T00:59:59Z")), 7200);
    assert_int_equal(zone_offset(zone, seconds_of("2026-10-25T01:00:00Z")), 3600);
    assert_int_equal(zone_offset(NULL, at_s), 0);
    for (size_t len = 0; len < bytes.len - 1; len++) { /* cut short it is refused, and nothing beyond is read */
        struct zone *none = NULL;
        char *copy = slice_dup(slice_head(buffer_slice(&bytes), len));
        assert_int_equal(zone_parse(slice_make(copy, len), &none), len == bytes.len - 1 - strlen(BERLIN) ? 0 : -EINVAL);
        zone_free(none);
        free(copy);
        if (len == bytes.len - 2 - strlen(BERLIN))
            len += strlen(BERLIN); /* a shorter rule may be one */
    }
}

UNIT_TEST(rules_of_all_shapes_are_read) {
    static const struct {
        const char *rule, *at;
        int32_t offset;
    } cases[] = {
        {"UTC0", "2026-07-01T00:00:00Z", 0},
        {"<+0530>-5:30", "2026-07-01T00:00:00Z", 19800},
        {"EST5EDT,M3.2.0,M11.1.0", "2026-03-08T06:59:59Z", -18000},
        {"EST5EDT,M3.2.0,M11.1.0", "2026-03-08T07:00:00Z", -14400},
        {"NZST-12NZDT,M9.5.0,M4.1.0/3", "2026-01-01T00:00:00Z", 46800}, /* the southern summer spans the new year */
        {"NZST-12NZDT,M9.5.0,M4.1.0/3", "2026-06-01T00:00:00Z", 43200},
        {"IST-1GMT0,M10.5.0,M3.5.0/1", "2026-01-01T00:00:00Z", 0}, /* "summer" in winter */
        {"IST-1GMT0,M10.5.0,M3.5.0/1", "2026-07-01T00:00:00Z", 3600},
        {"<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "2026-03-29T01:00:00Z", -3600}, /* 23:00 the day before */
        {"AAA3BBB,J60,J300", "2024-03-01T04:59:59Z", -10800},
        {"AAA3BBB,J60,J300", "2024-03-01T05:00:00Z", -7200},
        {"AAA3BBB,59,300", "2024-02-29T05:00:00Z", -7200},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(zone_freep) struct zone *zone = zone_of(cases[i].rule);
        if (zone_offset(zone, seconds_of(cases[i].at)) != cases[i].offset)
            fail_msg("%s at %s: %d", cases[i].rule, cases[i].at, zone_offset(zone, seconds_of(cases[i].at)));
    }
    static const char *const refused[] = {"X0", "CET", "CET-1CEST", "CET-1CEST,M13.1.0,M1.1.0", "CET-1CEST,M3.6.0,M1.1.0", "CET-1 ", "<CET-1"};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(4 * KIB);
        struct zone *zone = NULL;
        put_zone(&bytes, 0, 0, 0, refused[i]);
        assert_int_equal(zone_parse(buffer_slice(&bytes), &zone), -EINVAL);
    }
}

UNIT_TEST(zone_names_stay_beneath_their_folder) {
    static const char *const valid[] = {"UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"};
    static const char *const invalid[] = {"", "/etc/passwd", "../x", "Europe/../x", "Europe//Berlin", "Europe/", "a b", "x;y"};
    for (size_t i = 0; i < ARRAY_LEN(valid); i++)
        assert_true(zone_name_is_valid(slice_of(valid[i])));
    for (size_t i = 0; i < ARRAY_LEN(invalid); i++)
        assert_false(zone_name_is_valid(slice_of(invalid[i])));
}

/* ---- schedules ---- */

UNIT_TEST(next_times_are_found) {
    static const struct {
        const char *schedule, *after, *next, *rule;
    } cases[] = {
        {"* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z", NULL},
        {"* * * * *", "2026-01-01T00:00:59Z", "2026-01-01T00:01:00Z", NULL},
        {"5 * * * *", "2026-01-01T00:05:30Z", "2026-01-01T01:05:00Z", NULL},
        {"*/15 * * * *", "2026-01-01T23:50:00Z", "2026-01-02T00:00:00Z", NULL},
        {"20-35/15 * * * ?", "2026-01-01T00:00:00Z", "2026-01-01T00:20:00Z", NULL},
        {"50/5 1 * * *", "2026-01-01T01:55:00Z", "2026-01-02T01:50:00Z", NULL}, /* a value with a step goes on to the maximum */
        {"0 0 1,15 FEB-apr *", "2026-02-15T00:00:00Z", "2026-03-01T00:00:00Z", NULL},
        {"0 0 * * Mon", "2026-01-01T00:00:00Z", "2026-01-05T00:00:00Z", NULL},
        {"0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", NULL},  /* Friday or the 13th */
        {"0 0 */2 * 5", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", NULL}, /* a step restricts: either */
        {"0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z", NULL},
        {"0 0 30 2 *", "2026-01-01T00:00:00Z", NULL, NULL},
        {"0 12 31 12 *", "2026-12-31T12:00:00Z", "2027-12-31T12:00:00Z", NULL},
        {"@hourly", "2026-01-01T00:59:59Z", "2026-01-01T01:00:00Z", NULL},
        {"@daily", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", NULL},
        {"@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z", NULL},
        {"@monthly", "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z", NULL},
        {"@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z", NULL},
        {"@every 1h30m", "2026-01-01T00:00:07Z", "2026-01-01T01:30:07Z", NULL},
        {"0 9 * * *", "2026-01-01T00:00:00Z", "2026-01-01T08:00:00Z", BERLIN},
        {"0 9 * * *", "2026-07-01T00:00:00Z", "2026-07-01T07:00:00Z", BERLIN},
        {"30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z", BERLIN}, /* skipped by the clock, skipped by the schedule */
        {"30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z", BERLIN}, /* shown twice, … */
        {"30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", BERLIN}, /* … comes twice */
        {"0 0 * * *", "2026-06-01T03:00:00Z", "2026-06-01T04:00:00Z", "EST5EDT,M3.2.0,M11.1.0"},
        {"0 0 * * 1", "2026-06-06T12:00:00Z", "2026-06-07T18:30:00Z", "<+0530>-5:30"},
        {"0 5 1 9 *", "2026-08-01T00:00:00Z", "2026-09-01T08:00:00Z", "<-04>4<-03>,M9.1.2/0,M4.1.0/0"}, /* 1 September begins at one o'clock */
        {"0 5 29 3 *", "2026-03-01T00:00:00Z", "2026-03-29T02:00:00Z", "EET-2EEST,M3.5.0/0,M10.5.0/0"}, /* so does 29 March, east of UTC */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cron cron;
        struct diag diag = DIAG_INIT;
        CLEANUP(zone_freep) struct zone *zone = cases[i].rule ? zone_of(cases[i].rule) : NULL;
        if (cron_parse(slice_of(cases[i].schedule), &cron, &diag) != 0)
            fail_msg("%s: %s", cases[i].schedule, diag.message);
        int64_t next_s = cron_next(&cron, zone, seconds_of(cases[i].after)), wanted_s = cases[i].next ? seconds_of(cases[i].next) : CRON_NEVER;
        char text[TIMESTAMP_BYTES] = "never";
        if (next_s != CRON_NEVER)
            timestamp_format(next_s * 1000000000, text);
        if (next_s != wanted_s)
            fail_msg("%s after %s in %s: %s", cases[i].schedule, cases[i].after, cases[i].rule ? cases[i].rule : "UTC", text);
    }
}

UNIT_TEST(what_is_wrong_is_said) {
    static const struct {
        const char *schedule, *message;
    } cases[] = {
        {"", "empty spec string"},
        {"* * * *", "expected exactly 5 fields, found 4: [* * * *]"},
        {"60 * * * *", "end of range (60) above maximum (59): 60"},
        {"* * 0 * *", "beginning of range (0) below minimum (1): 0"},
        {"* * * * 7", "end of range (7) above maximum (6): 7"},
        {"5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"},
        {"*/0 * * * *", "step of range should be a positive number: */0"},
        {"*/-1 * * * *", "negative number (-1) not allowed: -1"},
        {"1-2-3 * * * *", "too many hyphens: 1-2-3"},
        {"1/2/3 * * * *", "too many slashes: 1/2/3"},
        {"x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"},
        {"@often", "unrecognized descriptor: @often"},
        {"@every x", "failed to parse duration @every x: time: invalid duration \"x\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cron cron;
        struct diag diag = DIAG_INIT;
        assert_int_equal(cron_parse(slice_of(cases[i].schedule), &cron, &diag), -EINVAL);
        assert_string_equal(diag.message, cases[i].message);
    }
}

UNIT_MAIN(UNIT(offsets_follow_transitions_then_the_rule), UNIT(rules_of_all_shapes_are_read), UNIT(zone_names_stay_beneath_their_folder),
          UNIT(next_times_are_found), UNIT(what_is_wrong_is_said))

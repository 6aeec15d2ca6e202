/* Cron schedules as robfig/cron v3's standard parser reads them and as its SpecSchedule finds the next time, since that is what upstream's CronJobs
 * follow, to the words of its errors:
 *   - five fields (minute, hour, day of month, month, day of week) of comma-separated `*`, `?`, a value, a range, each with an optional `/step`;
 *     months and days of the week may be named; Sunday is 0, and 7 is refused.
 *   - when days of month and of week are both restricted, either suffices. A step of more than one makes a restriction of a star.
 *   - the next time is found field by field, from the month down. A time that a clock skips in spring is skipped; one that it shows twice in autumn
 *     comes twice. */
#include "codec/cron.h"

#include <stdio.h>

#include "codec/timestamp.h"

#define YEARS_AHEAD_MAX 5
#define STEPS_MAX 20000 /* more than five years take; a zone whose clock jumps about without end must not hold us */

struct field {
    int min, max;
    const char *const *names; /* of min, min + 1, …; ends with NULL */
};
static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};
static const struct field minute_field = {0, 59, NULL}, hour_field = {0, 23, NULL}, day_field = {1, 31, NULL}, month_field = {1, 12, month_names},
                          weekday_field = {0, 6, weekday_names};

/* ---- reading ---- */

static int parse_number(struct slice text, int *ret, struct diag *diag) {
    struct slice digits = text.len && text.data[0] == '+' ? slice_from(text, 1) : text;
    int64_t value;
    int r = digits.len && digits.data == text.data + 1 && digits.data[0] == '-' ? -EINVAL : slice_parse_i64(digits, &value);
    if (r == 0 && value < 0)
        return diag_set(diag, -EINVAL, "negative number (%" PRId64 ") not allowed: %.*s", value, SLICE_ARG(text));
    if (r < 0)
        return diag_set(diag, -EINVAL, "failed to parse int from %.*s: strconv.Atoi: parsing \"%.*s\": %s", SLICE_ARG(text), SLICE_ARG(text),
                        r == -ERANGE ? "value out of range" : "invalid syntax");
    *ret = (int)MIN(value, INT32_MAX);
    return 0;
}

static int parse_value(const struct field *field, struct slice text, int *ret, struct diag *diag) {
    for (int i = 0; field->names && field->names[i]; i++)
        if (slice_equal_nocase(text, slice_of(field->names[i]))) {
            *ret = field->min + i;
            return 0;
        }
    return parse_number(text, ret, diag);
}

/* "*" "?" "5" "1-5" with an optional "/2". *ret_any: it restricts nothing. */
static int parse_range(const struct field *field, struct slice text, uint64_t *bits, bool *any, struct diag *diag) {
    struct slice step_text = text, range = slice_cut(&step_text, '/'), last = range, first = slice_cut(&last, '-');
    bool single = !last.data, star = slice_is(first, "*") || slice_is(first, "?");
    int begin = field->min, end = field->max, step = 1, r = 0;
    if (!star) {
        r = parse_value(field, first, &begin, diag);
        end = begin;
        if (r == 0 && !single && slice_index(last, '-') >= 0)
            return diag_set(diag, -EINVAL, "too many hyphens: %.*s", SLICE_ARG(text));
        if (r == 0 && !single)
            r = parse_value(field, last, &end, diag);
    }
    if (r == 0 && step_text.data) {
        if (slice_index(step_text, '/') >= 0)
            return diag_set(diag, -EINVAL, "too many slashes: %.*s", SLICE_ARG(text));
        r = parse_number(step_text, &step, diag);
        if (single)
            end = field->max;
        star = star && step <= 1;
    }
    if (r < 0)
        return r;
    if (begin < field->min)
        return diag_set(diag, -EINVAL, "beginning of range (%d) below minimum (%d): %.*s", begin, field->min, SLICE_ARG(text));
    if (end > field->max)
        return diag_set(diag, -EINVAL, "end of range (%d) above maximum (%d): %.*s", end, field->max, SLICE_ARG(text));
    if (begin > end)
        return diag_set(diag, -EINVAL, "beginning of range (%d) beyond end of range (%d): %.*s", begin, end, SLICE_ARG(text));
    if (step == 0)
        return diag_set(diag, -EINVAL, "step of range should be a positive number: %.*s", SLICE_ARG(text));
    for (int64_t i = begin; i <= end; i += step)
        *bits |= UINT64_C(1) << i;
    *any |= star;
    return 0;
}

static int parse_field(const struct field *field, struct slice text, uint64_t *ret, bool *ret_any, struct diag *diag) {
    bool any = false;
    *ret = 0;
    while (text.data) {
        struct slice part = slice_cut(&text, ',');
        int r = part.len ? parse_range(field, part, ret, &any, diag) : 0;
        if (r < 0)
            return r;
    }
    if (ret_any)
        *ret_any = any;
    return 0;
}

static int parse_descriptor(struct slice text, struct cron *ret, struct diag *diag) {
    static const struct {
        const char *name, *fields;
    } known[] = {{"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"}, {"@weekly", "0 0 * * 0"},
                 {"@daily", "0 0 * * *"},  {"@midnight", "0 0 * * *"}, {"@hourly", "0 * * * *"}};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (slice_is(text, known[i].name))
            return cron_parse(slice_of(known[i].fields), ret, diag);
    if (!slice_starts(text, SLICE("@every ")))
        return diag_set(diag, -EINVAL, "unrecognized descriptor: %.*s", SLICE_ARG(text));
    struct slice duration = slice_from(text, sizeof "@every " - 1);
    int64_t ns;
    if (duration_parse(duration, &ns) < 0)
        return diag_set(diag, -EINVAL, "failed to parse duration %.*s: time: invalid duration \"%.*s\"", SLICE_ARG(text), SLICE_ARG(duration));
    *ret = (struct cron){.every_s = MAX(ns / 1000000000, 1)};
    return 0;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f';
}

/* Its words, at most `max` of them kept; how many there are. */
static size_t split(struct slice text, struct slice *words, size_t max) {
    size_t count = 0;
    while (text.len) {
        size_t blanks = 0, len = 0;
        while (blanks < text.len && is_blank(text.data[blanks]))
            blanks++;
        text = slice_from(text, blanks);
        while (len < text.len && !is_blank(text.data[len]))
            len++;
        if (len && count < max)
            words[count] = slice_head(text, len);
        count += len > 0;
        text = slice_from(text, len);
    }
    return count;
}

int cron_parse(struct slice text, struct cron *ret, struct diag *diag) {
    struct slice words[8];
    if (text.len == 0)
        return diag_set(diag, -EINVAL, "empty spec string");
    if (text.data[0] == '@')
        return parse_descriptor(text, ret, diag);
    size_t count = split(text, words, ARRAY_LEN(words));
    if (count != 5) {
        char shown[DIAG_TEXT_MAX / 2] = "";
        for (size_t i = 0, len = 0; i < MIN(count, ARRAY_LEN(words)) && len < sizeof shown - 1; i++)
            len += (size_t)MAX(0, snprintf(shown + len, sizeof shown - len, "%s%.*s", i ? " " : "", SLICE_ARG(words[i])));
        return diag_set(diag, -EINVAL, "expected exactly 5 fields, found %zu: [%s]", count, shown);
    }
    *ret = (struct cron){.every_s = 0};
    int r = parse_field(&minute_field, words[0], &ret->minutes, NULL, diag);
    if (r == 0)
        r = parse_field(&hour_field, words[1], &ret->hours, NULL, diag);
    if (r == 0)
        r = parse_field(&day_field, words[2], &ret->days, &ret->any_day, diag);
    if (r == 0)
        r = parse_field(&month_field, words[3], &ret->months, NULL, diag);
    if (r == 0)
        r = parse_field(&weekday_field, words[4], &ret->weekdays, &ret->any_weekday, diag);
    return r;
}

/* ---- the next time ---- */

/* Walks forward from field to field. Once one was moved, the smaller ones start from their beginning. */
struct walk {
    const struct cron *cron;
    const struct zone *zone;
    int64_t at_s;
    struct civil civil; /* of at_s */
    bool moved;
    unsigned steps;
};

static void walk_to(struct walk *walk, int64_t at_s) {
    walk->at_s = at_s;
    walk->steps++;
    zone_civil(walk->zone, at_s, &walk->civil);
}

static bool has(uint64_t bits, int value) {
    return bits >> value & 1;
}

static bool day_matches(const struct walk *walk) {
    bool day = has(walk->cron->days, walk->civil.day), weekday = has(walk->cron->weekdays, walk->civil.weekday);
    return walk->cron->any_day || walk->cron->any_weekday ? day && weekday : day || weekday;
}

/* To its first hour: where clocks skip midnight, that is one o'clock. (There robfig/cron loses the day, or the month.) */
static void walk_to_day(struct walk *walk, int month, int day) {
    struct civil next = {.year = walk->civil.year, .month = month, .day = day};
    walk->moved = true;
    walk_to(walk, zone_instant(walk->zone, &next));
    if (walk->civil.hour > 12)
        walk_to(walk, walk->at_s + (24 - walk->civil.hour) * INT64_C(3600));
}

/* Each returns false when a larger field has changed and must be looked at again. */
static bool walk_months(struct walk *walk) {
    while (!has(walk->cron->months, walk->civil.month) && walk->steps < STEPS_MAX) {
        walk_to_day(walk, walk->civil.month + 1, 1);
        if (walk->civil.month == 1)
            return false;
    }
    return true;
}

static bool walk_days(struct walk *walk) {
    while (!day_matches(walk) && walk->steps < STEPS_MAX) {
        walk_to_day(walk, walk->civil.month, walk->civil.day + 1);
        if (walk->civil.day == 1)
            return false;
    }
    return true;
}

static bool walk_hours(struct walk *walk) {
    while (!has(walk->cron->hours, walk->civil.hour) && walk->steps < STEPS_MAX) {
        if (!walk->moved) {
            struct civil begin = walk->civil;
            begin.minute = begin.second = 0;
            walk->at_s = zone_instant(walk->zone, &begin);
        }
        walk->moved = true;
        walk_to(walk, walk->at_s + 3600);
        if (walk->civil.hour == 0)
            return false;
    }
    return true;
}

static bool walk_minutes(struct walk *walk) {
    while (!has(walk->cron->minutes, walk->civil.minute) && walk->steps < STEPS_MAX) {
        if (!walk->moved)
            walk->at_s -= walk->civil.second;
        walk->moved = true;
        walk_to(walk, walk->at_s + 60);
        if (walk->civil.minute == 0)
            return false;
    }
    return true;
}

/* All are for the full minute. */
static bool walk_seconds(struct walk *walk) {
    if (walk->civil.second == 0)
        return true;
    walk->moved = true;
    walk_to(walk, walk->at_s + 60 - walk->civil.second);
    return false;
}

int64_t cron_next(const struct cron *cron, const struct zone *zone, int64_t after_s) {
    if (cron->every_s)
        return after_s + cron->every_s;
    struct walk walk = {.cron = cron, .zone = zone};
    walk_to(&walk, after_s + 1);
    int64_t year_max = walk.civil.year + YEARS_AHEAD_MAX;
    while (walk.civil.year <= year_max && walk.steps < STEPS_MAX)
        if (walk_months(&walk) && walk_days(&walk) && walk_hours(&walk) && walk_minutes(&walk) && walk_seconds(&walk))
            return walk.steps < STEPS_MAX && walk.at_s > after_s ? walk.at_s : CRON_NEVER;
    return CRON_NEVER;
}

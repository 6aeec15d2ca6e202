/* Time zones. A file holds the instants at which a zone's offset changed, and (as its last line) the rule by which it changes ever after, in the
 * notation of POSIX' TZ: "CET-1CEST,M3.5.0,M10.5.0/3". Only offsets are kept: nobody here asks for abbreviations. Leap seconds are passed over, as
 * the platform's clocks do not show them. */
#include "codec/zone.h"

#define HEADER_BYTES 44
#define TRANSITIONS_MAX 8192
#define DAY_S 86400

/* When in a year a clock changes. */
struct change {
    enum { CHANGE_JULIAN, CHANGE_DAY, CHANGE_WEEKDAY } kind; /* "J60" without 29 February, "59" with it, "M3.5.0" */
    int month, week, day;
    int32_t time_s; /* local time of day, may be negative or beyond 24 h */
};
struct rule {
    bool set, has_summer;
    int32_t standard, summer; /* offsets */
    struct change begin, end; /* of summer */
};
struct zone {
    int32_t first; /* offset before the first transition */
    struct rule rule;
    size_t count;
    struct transition {
        int64_t at_s;
        int32_t offset;
    } transitions[];
};

void zone_free(struct zone *zone) {
    free(zone);
}

bool zone_name_is_valid(struct slice name) {
    if (name.len == 0 || name.len > ZONE_NAME_BYTES_MAX)
        return false;
    for (struct slice rest = name; rest.data;) {
        struct slice part = slice_cut(&rest, '/');
        if (part.len == 0 || part.data[0] == '.')
            return false;
        for (size_t i = 0; i < part.len; i++) {
            char c = part.data[i];
            if (!(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-' && c != '+')
                return false;
        }
    }
    return true;
}

/* ---- civil days (Howard Hinnant's arithmetic) ---- */

static int64_t days_from_civil(int64_t year, int month, int64_t day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400, year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static int64_t floor_div(int64_t value, int64_t by) {
    return value / by - (value % by < 0);
}

static void civil_from_days(int64_t days, struct civil *ret) {
    days += 719468;
    int64_t era = floor_div(days, 146097), day_of_era = days - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153;
    ret->day = (int)(day_of_year - (153 * shifted + 2) / 5 + 1);
    ret->month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    ret->year = year_of_era + era * 400 + (ret->month <= 2);
}

static bool is_leap(int64_t year) {
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* ---- the rule ---- */

/* Day of the change, counted from 1970. */
static int64_t change_day(const struct change *change, int64_t year) {
    int64_t january = days_from_civil(year, 1, 1);
    if (change->kind == CHANGE_JULIAN)
        return january + change->day - 1 + (is_leap(year) && change->day >= 60);
    if (change->kind == CHANGE_DAY)
        return january + change->day;
    int64_t first = days_from_civil(year, change->month, 1), next = days_from_civil(year + change->month / 12, change->month % 12 + 1, 1);
    int64_t weekday = floor_div(first + 4, 7) * -7 + first + 4; /* 1 January 1970 was a Thursday */
    int64_t day = first + (change->day - weekday + 7) % 7 + (change->week - 1) * 7;
    return day >= next ? day - 7 : day;
}

static int32_t rule_offset(const struct rule *rule, int64_t utc_s) {
    if (!rule->has_summer)
        return rule->standard;
    struct civil civil;
    civil_from_days(floor_div(utc_s + rule->standard, DAY_S), &civil);
    int64_t begin_s = change_day(&rule->begin, civil.year) * DAY_S + rule->begin.time_s - rule->standard;
    int64_t end_s = change_day(&rule->end, civil.year) * DAY_S + rule->end.time_s - rule->summer;
    bool summer = begin_s < end_s ? utc_s >= begin_s && utc_s < end_s : utc_s >= begin_s || utc_s < end_s;
    return summer ? rule->summer : rule->standard;
}

static bool take(struct slice *rest, char byte) {
    if (rest->len == 0 || rest->data[0] != byte)
        return false;
    *rest = slice_from(*rest, 1);
    return true;
}

static bool take_number(struct slice *rest, int min, int max, int *ret) {
    size_t len = 0;
    uint64_t value;
    while (len < rest->len && rest->data[len] >= '0' && rest->data[len] <= '9')
        len++;
    if (slice_parse_u64(slice_head(*rest, len), (uint64_t)max, &value) < 0 || (int)value < min)
        return false;
    *rest = slice_from(*rest, len);
    *ret = (int)value;
    return true;
}

/* "CET", "<+03>" */
static bool take_abbreviation(struct slice *rest) {
    size_t len = 0;
    if (take(rest, '<')) {
        while (len < rest->len && rest->data[len] != '>')
            len++;
        *rest = slice_from(*rest, len);
        return len > 0 && take(rest, '>');
    }
    while (len < rest->len && ((rest->data[len] | 32) >= 'a' && (rest->data[len] | 32) <= 'z'))
        len++;
    *rest = slice_from(*rest, len);
    return len >= 3;
}

/* "-1", "3:30", "+167:59:59" */
static bool take_time(struct slice *rest, int32_t *ret_s) {
    int hours, minutes = 0, seconds = 0;
    bool negative = take(rest, '-');
    if (!negative)
        take(rest, '+');
    if (!take_number(rest, 0, 167, &hours) || (take(rest, ':') && !take_number(rest, 0, 59, &minutes)) ||
        (take(rest, ':') && !take_number(rest, 0, 59, &seconds)))
        return false;
    *ret_s = (hours * 3600 + minutes * 60 + seconds) * (negative ? -1 : 1);
    return true;
}

static bool take_change(struct slice *rest, struct change *ret) {
    *ret = (struct change){.kind = CHANGE_DAY, .time_s = 2 * 3600};
    bool valid;
    if (take(rest, 'M')) {
        ret->kind = CHANGE_WEEKDAY;
        valid = take_number(rest, 1, 12, &ret->month) && take(rest, '.') && take_number(rest, 1, 5, &ret->week) && take(rest, '.') &&
                take_number(rest, 0, 6, &ret->day);
    } else if (take(rest, 'J')) {
        ret->kind = CHANGE_JULIAN;
        valid = take_number(rest, 1, 365, &ret->day);
    } else {
        valid = take_number(rest, 0, 365, &ret->day);
    }
    return valid && (!take(rest, '/') || take_time(rest, &ret->time_s));
}

/* The footer's sign is POSIX': west is positive. */
static bool parse_rule(struct slice text, struct rule *ret) {
    int32_t west;
    *ret = (struct rule){.set = true};
    if (!take_abbreviation(&text) || !take_time(&text, &west))
        return false;
    ret->standard = -west;
    if (text.len == 0)
        return true;
    ret->has_summer = true;
    ret->summer = ret->standard + 3600;
    if (!take_abbreviation(&text))
        return false;
    if (text.len && text.data[0] != ',') {
        if (!take_time(&text, &west))
            return false;
        ret->summer = -west;
    }
    return take(&text, ',') && take_change(&text, &ret->begin) && take(&text, ',') && take_change(&text, &ret->end) && text.len == 0;
}

/* ---- the file ---- */

struct counts {
    uint32_t is_utc, is_standard, leaps, times, types, letters;
};

static uint64_t big_endian(const char *bytes, size_t len) {
    uint64_t value = 0;
    for (size_t i = 0; i < len; i++)
        value = value << 8 | (unsigned char)bytes[i];
    return value;
}

static int read_header(struct slice bytes, struct counts *ret) {
    if (bytes.len < HEADER_BYTES || memcmp(bytes.data, "TZif", 4) != 0 || bytes.data[4] < '2')
        return -EINVAL;
    uint32_t *const fields[] = {&ret->is_utc, &ret->is_standard, &ret->leaps, &ret->times, &ret->types, &ret->letters};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        *fields[i] = (uint32_t)big_endian(bytes.data + 20 + 4 * i, 4);
    return 0;
}

/* Of the block that follows a header; instants have `width` bytes. */
static uint64_t block_bytes(const struct counts *counts, uint64_t width) {
    return counts->times * (width + 1) + counts->types * UINT64_C(6) + counts->letters + counts->leaps * (width + 4) + counts->is_standard +
           (uint64_t)counts->is_utc;
}

static int read_transitions(struct slice block, const struct counts *counts, struct zone *zone) {
    const char *indexes = block.data + 8 * (size_t)counts->times, *types = indexes + counts->times;
    zone->first = (int32_t)(uint32_t)big_endian(types, 4);
    for (size_t i = 0; i < counts->times; i++) {
        unsigned char type = (unsigned char)indexes[i];
        if (type >= counts->types)
            return -EINVAL;
        struct transition *transition = &zone->transitions[i];
        *transition =
            (struct transition){.at_s = (int64_t)big_endian(block.data + 8 * i, 8), .offset = (int32_t)(uint32_t)big_endian(types + 6 * type, 4)};
        if ((i && transition->at_s <= transition[-1].at_s) || transition->offset < -DAY_S * 2 || transition->offset > DAY_S * 2)
            return -EINVAL;
    }
    zone->count = counts->times;
    return zone->first < -DAY_S * 2 || zone->first > DAY_S * 2 ? -EINVAL : 0;
}

int zone_parse(struct slice bytes, struct zone **ret) {
    struct counts counts;
    if (read_header(bytes, &counts) < 0 || block_bytes(&counts, 4) > bytes.len - HEADER_BYTES)
        return -EINVAL;
    bytes = slice_from(bytes, HEADER_BYTES + (size_t)block_bytes(&counts, 4));
    if (read_header(bytes, &counts) < 0 || counts.types == 0 || counts.times > TRANSITIONS_MAX || block_bytes(&counts, 8) > bytes.len - HEADER_BYTES)
        return -EINVAL;
    struct slice block = slice_head(slice_from(bytes, HEADER_BYTES), (size_t)block_bytes(&counts, 8));
    struct slice footer = slice_from(bytes, HEADER_BYTES + block.len);
    CLEANUP(zone_freep) struct zone *zone = calloc(1, sizeof *zone + counts.times * sizeof *zone->transitions);
    if (!zone)
        return -ENOMEM;
    if (read_transitions(block, &counts, zone) < 0 || !take(&footer, '\n'))
        return -EINVAL;
    struct slice rule = slice_cut(&footer, '\n');
    if (rule.len && !parse_rule(rule, &zone->rule))
        return -EINVAL;
    *ret = TAKE(zone);
    return 0;
}

/* ---- use ---- */

int32_t zone_offset(const struct zone *zone, int64_t utc_s) {
    if (!zone)
        return 0;
    if (zone->rule.set && (zone->count == 0 || utc_s >= zone->transitions[zone->count - 1].at_s))
        return rule_offset(&zone->rule, utc_s);
    size_t low = 0, high = zone->count; /* the first transition after the instant */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (zone->transitions[middle].at_s <= utc_s)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? zone->transitions[low - 1].offset : zone->first;
}

void zone_civil(const struct zone *zone, int64_t utc_s, struct civil *ret) {
    int64_t local_s = utc_s + zone_offset(zone, utc_s), days = floor_div(local_s, DAY_S);
    int second = (int)(local_s - days * DAY_S);
    civil_from_days(days, ret);
    ret->hour = second / 3600;
    ret->minute = second / 60 % 60;
    ret->second = second % 60;
    ret->weekday = (int)(days + 4 - floor_div(days + 4, 7) * 7);
}

int64_t zone_instant(const struct zone *zone, const struct civil *civil) {
    int64_t months = civil->year * 12 + civil->month - 1, year = floor_div(months, 12);
    int64_t local_s = days_from_civil(year, (int)(months - year * 12) + 1, civil->day) * DAY_S + civil->hour * INT64_C(3600) +
                      civil->minute * INT64_C(60) + civil->second;
    int32_t offset = zone_offset(zone, local_s);
    return offset ? local_s - zone_offset(zone, local_s - offset) : local_s;
}

/* RFC 3339 by Howard Hinnant's days-from-civil arithmetic rather than timegm(), whose behaviour for odd input depends on the C library. */
#include "codec/timestamp.h"

#include <stdio.h>
#include <time.h>

#define SECOND_NS INT64_C(1000000000)
#define SECOND_US INT64_C(1000000)

static int64_t days_from_civil(int64_t year, unsigned month, unsigned day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    unsigned year_of_era = (unsigned)(year - era * 400);
    unsigned day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    unsigned day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + (int64_t)day_of_era - 719468;
}

/* `count` digits at *at; -1 when they are not. */
static int take_digits(struct slice *rest, size_t count) {
    uint64_t value;
    if (rest->len < count || slice_parse_u64(slice_head(*rest, count), 9999, &value) < 0)
        return -1;
    *rest = slice_from(*rest, count);
    return (int)value;
}

static bool take_byte(struct slice *rest, const char *any_of) {
    if (rest->len == 0 || !rest->data[0] || !strchr(any_of, rest->data[0]))
        return false;
    *rest = slice_from(*rest, 1);
    return true;
}

static int take_offset(struct slice *rest, int *ret_seconds) {
    if (rest->len == 1 && take_byte(rest, "Zz")) {
        *ret_seconds = 0;
        return 0;
    }
    bool negative = rest->len && rest->data[0] == '-';
    if (!take_byte(rest, "+-"))
        return -EINVAL;
    int hours = take_digits(rest, 2);
    if (hours < 0 || hours > 23 || !take_byte(rest, ":"))
        return -EINVAL;
    int minutes = take_digits(rest, 2);
    if (minutes < 0 || minutes > 59 || rest->len)
        return -EINVAL;
    *ret_seconds = (hours * 3600 + minutes * 60) * (negative ? -1 : 1);
    return 0;
}

static int month_days(int year, int month) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

static int parse(struct slice text, int64_t *ret_seconds, int64_t *ret_fraction) {
    struct slice rest = text;
    int part[6];
    static const char separators[6][3] = {"-", "-", "Tt", ":", ":", ""};
    for (int i = 0; i < 6; i++) {
        part[i] = take_digits(&rest, i == 0 ? 4 : 2);
        if (part[i] < 0 || (i < 5 && !take_byte(&rest, separators[i])))
            return -EINVAL;
    }
    if (part[1] < 1 || part[1] > 12 || part[2] < 1 || part[2] > month_days(part[0], part[1]) || part[3] > 23 || part[4] > 59 || part[5] > 60)
        return -EINVAL;
    int64_t fraction = 0;
    if (take_byte(&rest, ".")) {
        int64_t unit = SECOND_NS / 10;
        if (!rest.len || rest.data[0] < '0' || rest.data[0] > '9')
            return -EINVAL;
        for (; rest.len && rest.data[0] >= '0' && rest.data[0] <= '9'; rest = slice_from(rest, 1), unit /= 10)
            fraction += (rest.data[0] - '0') * unit;
    }
    int offset;
    if (take_offset(&rest, &offset) < 0)
        return -EINVAL;
    *ret_seconds = days_from_civil(part[0], (unsigned)part[1], (unsigned)part[2]) * 86400 + part[3] * 3600 + part[4] * 60 + part[5] - offset;
    *ret_fraction = fraction;
    return 0;
}

int timestamp_parse(struct slice text, int64_t *ret_ns) {
    int64_t seconds, fraction;
    if (parse(text, &seconds, &fraction) < 0 || __builtin_mul_overflow(seconds, SECOND_NS, ret_ns) ||
        __builtin_add_overflow(*ret_ns, fraction, ret_ns))
        return -EINVAL;
    return 0;
}

int timestamp_parse_far(struct slice text, int64_t *ret_us) {
    int64_t seconds, fraction;
    if (parse(text, &seconds, &fraction) < 0 || seconds < days_from_civil(0, 1, 1) * 86400 || seconds >= days_from_civil(10000, 1, 1) * 86400)
        return -EINVAL;
    *ret_us = seconds * SECOND_US + fraction / 1000;
    return 0;
}

/* As far as the seconds, and what is left of `count` units, of which a second has so many. */
static size_t format_seconds(int64_t count, int64_t units, char *text, int64_t *ret_fraction) {
    int64_t seconds = count / units, fraction = count % units;
    if (fraction < 0) {
        fraction += units;
        seconds--;
    }
    time_t time = (time_t)seconds;
    struct tm utc;
    gmtime_r(&time, &utc);
    *ret_fraction = fraction;
    size_t len = (size_t)snprintf(text, TIMESTAMP_BYTES, "%04d", (utc.tm_year + 1900) % 10000); /* strftime's %Y has no leading zeros */
    return len + strftime(text + len, TIMESTAMP_BYTES - len, "-%m-%dT%H:%M:%S", &utc);
}

void timestamp_format_far(int64_t us, bool micro, char ret[TIMESTAMP_BYTES]) {
    int64_t fraction;
    size_t len = format_seconds(us, SECOND_US, ret, &fraction);
    if (micro)
        len += (size_t)snprintf(ret + len, TIMESTAMP_BYTES - len, ".%06d", (int)fraction);
    snprintf(ret + len, TIMESTAMP_BYTES - len, "Z");
}

void timestamp_format(int64_t ns, char ret[TIMESTAMP_BYTES]) {
    int64_t fraction;
    size_t len = format_seconds(ns, SECOND_NS, ret, &fraction);
    snprintf(ret + len, TIMESTAMP_BYTES - len, "Z");
}

void timestamp_format_micro(int64_t ns, char ret[TIMESTAMP_BYTES]) {
    int64_t fraction;
    size_t len = format_seconds(ns, SECOND_NS, ret, &fraction);
    snprintf(ret + len, TIMESTAMP_BYTES - len, ".%06dZ", (int)(fraction / 1000));
}

void timestamp_format_nano(int64_t ns, char ret[TIMESTAMP_BYTES]) {
    int64_t fraction;
    size_t len = format_seconds(ns, SECOND_NS, ret, &fraction);
    snprintf(ret + len, TIMESTAMP_BYTES - len, ".%09dZ", (int)fraction);
}

int duration_parse(struct slice text, int64_t *ret_ns) {
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"h", 3600e9}, {"m", 60e9}, {"s", 1e9}, {"ms", 1e6}, {"us", 1e3}, {"µs", 1e3}, {"ns", 1}};
    struct slice rest = text;
    bool negative = rest.len && rest.data[0] == '-';
    if (rest.len && (rest.data[0] == '-' || rest.data[0] == '+'))
        rest = slice_from(rest, 1);
    double total = 0;
    if (rest.len == 0)
        return -EINVAL;
    while (rest.len && !slice_is(rest, "0")) {
        char number[32];
        size_t len = 0, unit_len = 0;
        while (len < rest.len && (rest.data[len] == '.' || (rest.data[len] >= '0' && rest.data[len] <= '9')))
            len++;
        while (len + unit_len < rest.len && rest.data[len + unit_len] != '.' && (rest.data[len + unit_len] < '0' || rest.data[len + unit_len] > '9'))
            unit_len++;
        if (len == 0 || len >= sizeof number)
            return -EINVAL;
        memcpy(number, rest.data, len);
        number[len] = '\0';
        char *end;
        double value = strtod(number, &end), scale = 0;
        for (size_t i = 0; i < ARRAY_LEN(units); i++)
            if (slice_is(slice_make(rest.data + len, unit_len), units[i].name))
                scale = units[i].ns;
        if (*end || scale == 0)
            return -EINVAL;
        total += value * scale;
        rest = slice_from(rest, len + unit_len);
    }
    if (total > 9.2e18)
        return -ERANGE;
    *ret_ns = (int64_t)(negative ? -total : total);
    return 0;
}

/* `value` of a unit of `scale` ns with as many decimals as it needs. */
static int format_unit(char *ret, size_t size, uint64_t ns, uint64_t scale, const char *unit) {
    int len = snprintf(ret, size, "%" PRIu64, ns / scale);
    uint64_t rest = ns % scale;
    if (rest && (size_t)len + 1 < size)
        ret[len++] = '.';
    for (uint64_t digit = scale / 10; rest && digit && (size_t)len + 1 < size; rest %= digit, digit /= 10)
        ret[len++] = (char)('0' + rest / digit);
    return len + snprintf(ret + len, size - (size_t)len, "%s", unit);
}

void duration_format(int64_t ns, char ret[TIMESTAMP_BYTES]) {
    uint64_t rest = ns < 0 ? -(uint64_t)ns : (uint64_t)ns, hour = 3600 * (uint64_t)SECOND_NS, minute = 60 * (uint64_t)SECOND_NS;
    char *at = ret, *end = ret + TIMESTAMP_BYTES;
    if (ns == 0) {
        snprintf(ret, TIMESTAMP_BYTES, "0s");
        return;
    }
    if (ns < 0)
        *at++ = '-';
    if (rest < 1000)
        format_unit(at, (size_t)(end - at), rest, 1, "ns");
    else if (rest < 1000000)
        format_unit(at, (size_t)(end - at), rest, 1000, "\xc2\xb5s");
    else if (rest < (uint64_t)SECOND_NS)
        format_unit(at, (size_t)(end - at), rest, 1000000, "ms");
    if (rest < (uint64_t)SECOND_NS)
        return;
    if (rest >= hour)
        at += snprintf(at, (size_t)(end - at), "%" PRIu64 "h", rest / hour);
    if (rest >= minute)
        at += snprintf(at, (size_t)(end - at), "%" PRIu64 "m", rest % hour / minute);
    format_unit(at, (size_t)(end - at), rest % minute, (uint64_t)SECOND_NS, "s");
}

void duration_format_age(int64_t ns, char ret[TIMESTAMP_BYTES]) {
    int64_t s = ns / SECOND_NS;
    int64_t m = s / 60, h = s / 3600, d = h / 24;
    if (s < -1)
        snprintf(ret, TIMESTAMP_BYTES, "<invalid>");
    else if (s < 0)
        snprintf(ret, TIMESTAMP_BYTES, "0s");
    else if (s < 120)
        snprintf(ret, TIMESTAMP_BYTES, "%" PRId64 "s", s);
    else if (m < 10 && s % 60)
        snprintf(ret, TIMESTAMP_BYTES, "%" PRId64 "m%" PRId64 "s", m, s % 60);
    else if (m < 180)
        snprintf(ret, TIMESTAMP_BYTES, "%" PRId64 "m", m);
    else if (h < 8 && m % 60)
        snprintf(ret, TIMESTAMP_BYTES, "%" PRId64 "h%" PRId64 "m", h, m % 60);
    else if (h < 48)
        snprintf(ret, TIMESTAMP_BYTES, "%" PRId64 "h", h);
    else if (d < 8 && h % 24)
        snprintf(ret, TIMESTAMP_BYTES, "%" PRId64 "d%" PRId64 "h", d, h % 24);
    else if (d < 365 * 2)
        snprintf(ret, TIMESTAMP_BYTES, "%" PRId64 "d", d);
    else if (d < 365 * 8 && d % 365)
        snprintf(ret, TIMESTAMP_BYTES, "%" PRId64 "y%" PRId64 "d", d / 365, d % 365);
    else
        snprintf(ret, TIMESTAMP_BYTES, "%" PRId64 "y", d / 365);
}

/* A quantity is <signed decimal><suffix>; kept exactly as an unscaled integer and a power of ten (or a binary suffix multiplied in), which covers
 * what Kubernetes allows within 64 bits. Specification: apimachinery resource.Quantity. */
#include "codec/quantity.h"

#include <stdio.h>

struct parsed {
    __int128 number; /* unscaled */
    int exponent;    /* of ten */
    int binary;      /* of 1024 */
    bool binary_suffix, exponent_suffix;
    bool negative;
};

static const struct {
    const char *suffix;
    int exponent, binary;
} suffixes[] = {{"", 0, 0},   {"n", -9, 0}, {"u", -6, 0}, {"m", -3, 0}, {"k", 3, 0},  {"M", 6, 0},  {"G", 9, 0},  {"T", 12, 0},
                {"P", 15, 0}, {"E", 18, 0}, {"Ki", 0, 1}, {"Mi", 0, 2}, {"Gi", 0, 3}, {"Ti", 0, 4}, {"Pi", 0, 5}, {"Ei", 0, 6}};

static int parse_suffix(struct slice text, struct parsed *parsed) {
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        if (!slice_is(text, suffixes[i].suffix))
            continue;
        parsed->exponent += suffixes[i].exponent;
        parsed->binary = suffixes[i].binary;
        parsed->binary_suffix = suffixes[i].binary > 0;
        return 0;
    }
    int64_t exponent;
    if (text.len < 2 || (text.data[0] != 'e' && text.data[0] != 'E'))
        return -EINVAL;
    text = slice_from(text, 1);
    if (text.data[0] == '+')
        text = slice_from(text, 1);
    if (slice_parse_i64(text, &exponent) < 0 || exponent > 18 || exponent < -18)
        return -EINVAL;
    parsed->exponent += (int)exponent;
    parsed->exponent_suffix = true;
    return 0;
}

static int parse(struct slice text, struct parsed *ret) {
    *ret = (struct parsed){0};
    if (text.len && (text.data[0] == '-' || text.data[0] == '+')) {
        ret->negative = text.data[0] == '-';
        text = slice_from(text, 1);
    }
    bool digit = false, point = false;
    size_t i = 0;
    for (; i < text.len; i++) {
        char c = text.data[i];
        if (c == '.' && !point) {
            point = true;
            continue;
        }
        if (c < '0' || c > '9')
            break;
        digit = true;
        if (ret->number > (__int128)INT64_MAX * 1000) /* beyond any use: saturate, and keep the magnitude */
            ret->exponent += !point;
        else
            ret->number = ret->number * 10 + (c - '0'), ret->exponent -= point;
    }
    return digit ? parse_suffix(slice_from(text, i), ret) : -EINVAL;
}

/* number * 10^exponent * 1024^binary in units of 10^unit, rounded away from zero; saturating. */
static int64_t scale(const struct parsed *parsed, int unit) {
    __int128 value = parsed->number;
    const __int128 top = (__int128)1 << 100;
    for (int i = 0; i < parsed->binary && value < top; i++)
        value *= 1024;
    int exponent = parsed->exponent - unit;
    for (; exponent > 0 && value < top; exponent--)
        value *= 10;
    bool rest = false;
    for (; exponent < 0 && value > 0; exponent++) {
        rest = rest || value % 10;
        value /= 10;
    }
    value += rest && !parsed->negative;
    value = value > INT64_MAX ? INT64_MAX : value;
    return parsed->negative ? -(int64_t)value : (int64_t)value;
}

int quantity_parse_milli(struct slice text, int64_t *ret) {
    struct parsed parsed;
    int r = parse(text, &parsed);
    if (r == 0)
        *ret = scale(&parsed, -3);
    return r;
}

int quantity_parse(struct slice text, int64_t *ret) {
    struct parsed parsed;
    int r = parse(text, &parsed);
    if (r == 0)
        *ret = scale(&parsed, 0);
    return r;
}

static void format_128(__int128 value, bool negative, const char *suffix, char ret[64]) {
    char digits[48];
    size_t at = sizeof digits;
    digits[--at] = '\0';
    do
        digits[--at] = (char)('0' + (int)(value % 10));
    while ((value /= 10) > 0);
    snprintf(ret, 64, "%s%s%s", negative ? "-" : "", digits + at, suffix);
}

static void canonical_decimal(struct parsed *parsed, char ret[64]) {
    while (parsed->number && parsed->number % 10 == 0) {
        parsed->number /= 10;
        parsed->exponent++;
    }
    while (parsed->exponent < -9) { /* finer than nano is rounded up */
        parsed->number = (parsed->number + 9) / 10;
        parsed->exponent++;
    }
    while (parsed->exponent % 3 != 0) {
        parsed->number *= 10;
        parsed->exponent--;
    }
    if (parsed->exponent > 18) {
        format_128(INT64_MAX, parsed->negative, "", ret);
        return;
    }
    char exponent[16] = "";
    const char *suffix = exponent;
    if (parsed->exponent_suffix && parsed->exponent)
        snprintf(exponent, sizeof exponent, "e%d", parsed->exponent);
    for (size_t i = 0; i < ARRAY_LEN(suffixes) && !parsed->exponent_suffix; i++)
        if (suffixes[i].binary == 0 && suffixes[i].exponent == parsed->exponent)
            suffix = suffixes[i].suffix;
    format_128(parsed->number, parsed->negative, suffix, ret);
}

int quantity_canonical(struct slice text, char ret[64]) {
    struct parsed parsed;
    int r = parse(text, &parsed);
    if (r < 0)
        return r;
    if (parsed.number == 0) {
        snprintf(ret, 64, "0");
        return 0;
    }
    if (!parsed.binary_suffix) {
        canonical_decimal(&parsed, ret);
        return 0;
    }
    /* Binary: whole bytes, then the largest power of 1024 that divides them; fractions of a byte fall back to decimal thousandths. */
    int64_t milli = scale(&parsed, -3), value = scale(&parsed, 0);
    if (milli != INT64_MAX && milli % 1000 != 0) {
        struct parsed decimal = {.number = milli < 0 ? -(__int128)milli : milli, .exponent = -3, .negative = parsed.negative};
        canonical_decimal(&decimal, ret);
        return 0;
    }
    __int128 bytes = value < 0 ? -(__int128)value : value;
    int power = 0;
    while (power < 6 && bytes % 1024 == 0) {
        bytes /= 1024;
        power++;
    }
    static const char *const names[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
    format_128(bytes, parsed.negative, names[power], ret);
    return 0;
}

void quantity_format(int64_t milli, bool binary, char ret[64]) {
    char text[40];
    if (binary && milli % 1000 == 0 && milli / 1000 % 1024 != 0) {
        snprintf(ret, 64, "%" PRId64, milli / 1000);
        return;
    }
    if (binary && milli % 1000 == 0)
        snprintf(text, sizeof text, "%" PRId64 "Ki", milli / 1000 / 1024);
    else
        snprintf(text, sizeof text, "%" PRId64 "m", milli);
    int r = quantity_canonical(slice_of(text), ret);
    ASSERT(r == 0);
}

/* Formats of strings in schemas: those that upstream knows for custom resources. Others, and those that only number types have, hold for everything,
 * as upstream ignores them too. */
#include "kube/custom_priv.h"

#include <arpa/inet.h>
#include <ctype.h>

typedef bool format_function(struct slice text);

static bool all_of(struct slice text, int (*is)(int)) {
    for (size_t i = 0; i < text.len; i++)
        if (!is((unsigned char)text.data[i]))
            return false;
    return text.len > 0;
}

static bool is_address(struct slice text, int family) {
    char copy[64], bytes[16];
    if (text.len >= sizeof copy)
        return false;
    memcpy(copy, text.data, text.len);
    copy[text.len] = 0;
    return strlen(copy) == text.len && inet_pton(family, copy, bytes) == 1;
}

static bool is_ipv4(struct slice text) {
    return is_address(text, AF_INET);
}

static bool is_ipv6(struct slice text) {
    return is_address(text, AF_INET6);
}

static bool is_cidr(struct slice text) {
    struct slice rest = text, address = slice_cut(&rest, '/');
    uint64_t bits = 0;
    if (slice_parse_u64(rest, 128, &bits) != 0)
        return false;
    return is_ipv6(address) || (is_ipv4(address) && bits <= 32);
}

static bool is_mac(struct slice text) {
    size_t pairs = 0;
    char separator = text.len > 2 ? text.data[2] : 0;
    if (separator != ':' && separator != '-')
        return false;
    while (text.len) {
        struct slice pair = slice_cut(&text, separator);
        if (pair.len != 2 || !all_of(pair, isxdigit))
            return false;
        pairs++;
    }
    return pairs == 6 || pairs == 8 || pairs == 20;
}

/* 8-4-4-4-12; the hyphens may be missing. */
static bool is_uuid(struct slice text) {
    static const size_t parts[] = {8, 4, 4, 4, 12};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (text.len < parts[i] || !all_of(slice_head(text, parts[i]), isxdigit))
            return false;
        text = slice_from(text, parts[i]);
        if (i + 1 < ARRAY_LEN(parts) && text.len && text.data[0] == '-')
            text = slice_from(text, 1);
    }
    return text.len == 0;
}

static bool is_uuid_version(struct slice text, char version) {
    size_t at = text.len > 8 && text.data[8] == '-' ? 14 : 12;
    return is_uuid(text) && text.data[at] == version;
}

static bool is_uuid3(struct slice text) {
    return is_uuid_version(text, '3');
}

static bool is_uuid4(struct slice text) {
    return is_uuid_version(text, '4');
}

static bool is_uuid5(struct slice text) {
    return is_uuid_version(text, '5');
}

static bool is_hostname(struct slice text) {
    if (text.len == 0 || text.len > 255)
        return false;
    while (text.len) {
        struct slice label = slice_cut(&text, '.');
        bool good = label.len > 0 && label.len <= 63 && label.data[0] != '-' && label.data[label.len - 1] != '-';
        for (size_t i = 0; i < label.len && good; i++)
            good = isalnum((unsigned char)label.data[i]) || label.data[i] == '-';
        if (!good)
            return false;
    }
    return true;
}

static bool is_email(struct slice text) {
    ptrdiff_t at = slice_index(text, '@');
    if (at <= 0 || slice_index(text, ' ') >= 0)
        return false;
    return is_hostname(slice_from(text, (size_t)at + 1));
}

/* A request URI: absolute, or a path from the root. */
static bool is_uri(struct slice text) {
    ptrdiff_t colon = slice_index(text, ':');
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.data[i] <= ' ' || text.data[i] == 0x7f)
            return false;
    if (text.len && text.data[0] == '/')
        return true;
    bool scheme = colon > 0 && isalpha((unsigned char)text.data[0]);
    for (ptrdiff_t i = 0; scheme && i < colon; i++)
        scheme = isalnum((unsigned char)text.data[i]) || strchr("+-.", text.data[i]);
    return scheme;
}

static bool is_date_time(struct slice text) {
    int64_t ns;
    return timestamp_parse(text, &ns) == 0;
}

static bool is_date(struct slice text) {
    char whole[] = "0000-00-00T00:00:00Z";
    if (text.len != 10)
        return false;
    memcpy(whole, text.data, 10);
    return is_date_time(slice_of(whole));
}

static bool is_duration(struct slice text) {
    int64_t ns;
    return duration_parse(text, &ns) == 0;
}

static bool is_byte(struct slice text) {
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(text.len + 8);
    return text.len == 0 || base64_decode(&bytes, text) != -EINVAL;
}

static bool is_object_id(struct slice text) {
    return text.len == 24 && all_of(text, isxdigit);
}

static bool is_hex_color(struct slice text) {
    if (text.len && text.data[0] == '#')
        text = slice_from(text, 1);
    return (text.len == 3 || text.len == 6) && all_of(text, isxdigit);
}

static bool is_rgb_color(struct slice text) {
    uint64_t part;
    if (!slice_starts(text, SLICE("rgb(")) || !slice_ends(text, SLICE(")")))
        return false;
    struct slice rest = slice_make(text.data + 4, text.len - 5);
    for (int i = 0; i < 3; i++)
        if (slice_parse_u64(slice_trim(slice_cut(&rest, ',')), 255, &part) != 0)
            return false;
    return rest.data == NULL;
}

static bool is_ssn(struct slice text) {
    static const size_t parts[] = {3, 2, 4};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        struct slice part = slice_head(text, parts[i]);
        if (part.len != parts[i] || !all_of(part, isdigit))
            return false;
        text = slice_from(text, parts[i]);
        if (i + 1 < ARRAY_LEN(parts) && text.len && (text.data[0] == '-' || text.data[0] == ' '))
            text = slice_from(text, 1);
    }
    return text.len == 0;
}

/* The digits of a number that people write with blanks and hyphens; 0: others are in it, or too many. */
static size_t take_digits(struct slice text, int digits[32]) {
    size_t count = 0;
    for (size_t i = 0; i < text.len; i++) {
        char byte = text.data[i];
        if (byte == ' ' || byte == '-')
            continue;
        bool last_x = (byte == 'X' || byte == 'x') && i + 1 == text.len;
        if ((!isdigit((unsigned char)byte) && !last_x) || count == 32)
            return 0;
        digits[count++] = last_x ? 10 : byte - '0';
    }
    return count;
}

static bool is_isbn10(struct slice text) {
    int digits[32], sum = 0;
    if (take_digits(text, digits) != 10)
        return false;
    for (int i = 0; i < 10; i++)
        sum += (i + 1) * digits[i];
    return sum % 11 == 0;
}

static bool is_isbn13(struct slice text) {
    int digits[32], sum = 0;
    if (take_digits(text, digits) != 13 || digits[12] == 10)
        return false;
    for (int i = 0; i < 13; i++)
        sum += (i % 2 ? 3 : 1) * digits[i];
    return sum % 10 == 0;
}

static bool is_isbn(struct slice text) {
    return is_isbn10(text) || is_isbn13(text);
}

/* By Luhn's check digit. */
static bool is_credit_card(struct slice text) {
    int digits[32], sum = 0;
    size_t count = take_digits(text, digits);
    if (count < 13 || count > 19)
        return false;
    for (size_t i = 0; i < count; i++) {
        int digit = digits[count - 1 - i] * (i % 2 ? 2 : 1);
        sum += digit > 9 ? digit - 9 : digit;
    }
    return sum % 10 == 0;
}

bool custom_format_holds(const char *format, struct slice text) {
    static const struct {
        const char *name;
        format_function *holds;
    } formats[] = {{"ipv4", is_ipv4},
                   {"ipv6", is_ipv6},
                   {"cidr", is_cidr},
                   {"mac", is_mac},
                   {"uuid", is_uuid},
                   {"uuid3", is_uuid3},
                   {"uuid4", is_uuid4},
                   {"uuid5", is_uuid5},
                   {"hostname", is_hostname},
                   {"email", is_email},
                   {"uri", is_uri},
                   {"date-time", is_date_time},
                   {"datetime", is_date_time},
                   {"date", is_date},
                   {"duration", is_duration},
                   {"byte", is_byte},
                   {"bsonobjectid", is_object_id},
                   {"hexcolor", is_hex_color},
                   {"rgbcolor", is_rgb_color},
                   {"ssn", is_ssn},
                   {"isbn10", is_isbn10},
                   {"isbn13", is_isbn13},
                   {"isbn", is_isbn},
                   {"creditcard", is_credit_card}};
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (strcmp(formats[i].name, format) == 0)
            return formats[i].holds(text);
    return true;
}

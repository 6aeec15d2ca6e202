/* Formats of strings (format= in the IDL), with what upstream says about those that do not fit. */
#include "kube/validate_priv.h"

#include <arpa/inet.h>

#define TOO_LONG_63 "must be no more than 63 characters"
#define TOO_LONG_253 "must be no more than 253 characters"

static const char *check_label(struct slice text) {
    if (text.len > 63)
        return TOO_LONG_63;
    return name_is_dns_label(text)
               ? NULL
               : "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
                 "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
}

static const char *check_subdomain(struct slice text) {
    if (text.len > 253)
        return TOO_LONG_253;
    return name_is_dns_subdomain(text)
               ? NULL
               : "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an "
                 "alphanumeric "
                 "character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
}

static const char *check_dns1035(struct slice text) {
    if (text.len > 63)
        return TOO_LONG_63;
    return name_is_dns1035_label(text) ? NULL
                                       : "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
                                         "character, and end with an alphanumeric "
                                         "character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
}

static const char *check_qualified(struct slice text) {
    ptrdiff_t slash = slice_index(text, '/');
    struct slice name = slash < 0 ? text : slice_from(text, (size_t)slash + 1);
    if (name_is_qualified(text))
        return NULL;
    if (name.len == 0)
        return "name part must be non-empty";
    if (name.len > 63)
        return "name part must be no more than 63 characters";
    if (slash >= 0 && !name_is_dns_subdomain(slice_head(text, (size_t)slash)))
        return slash == 0 ? "prefix part must be non-empty" : "prefix part must be a lowercase RFC 1123 subdomain";
    return "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. "
           "'MyName',  or "
           "'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
}

static const char *check_label_value(struct slice text) {
    if (text.len > 63)
        return TOO_LONG_63;
    return name_is_label_value(text) ? NULL
                                     : "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
                                       "and end with an alphanumeric "
                                       "character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
                                       "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
}

static const char *check_env_name(struct slice text) {
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] < 0x20 || text.data[i] > 0x7e || text.data[i] == '=')
            return "a valid environment variable name must consist only of printable ASCII characters other than '='";
    return NULL;
}

static bool is_alnum(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static const char *check_config_key(struct slice text) {
    if (text.len > 253)
        return TOO_LONG_253;
    bool fits = text.len > 0;
    for (size_t i = 0; i < text.len; i++)
        fits = fits && (is_alnum(text.data[i]) || strchr("-._", text.data[i]));
    if (!fits)
        return "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', "
               "regex used "
               "for validation is '[-._a-zA-Z0-9]+')";
    if (slice_is(text, "."))
        return "must not be '.'";
    if (slice_is(text, ".."))
        return "must not be '..'";
    return slice_starts(text, SLICE("..")) ? "must not start with '..'" : NULL;
}

/* IANA service names. */
static const char *check_port_name(struct slice text) {
    bool letter = false;
    if (text.len > 15)
        return "must be no more than 15 characters";
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-')
            return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";
        letter = letter || (c >= 'a' && c <= 'z');
    }
    if (!letter)
        return "must contain at least one letter (a-z)";
    if (slice_find(text, SLICE("--")) >= 0)
        return "must not contain consecutive hyphens";
    return text.data[0] == '-' || text.data[text.len - 1] == '-' ? "must not begin or end with a hyphen" : NULL;
}

bool text_is_ip6(const char *text) {
    unsigned char bytes[16];
    return text && inet_pton(AF_INET6, text, bytes) == 1;
}

bool text_is_ip(const char *text) {
    unsigned char bytes[16];
    return text && (inet_pton(AF_INET, text, bytes) == 1 || text_is_ip6(text));
}

const char not_a_cidr[] = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

int cidr_parse(const char *text, struct cidr *ret) {
    char address[64];
    struct slice rest = slice_of(text), head = slice_cut(&rest, '/');
    uint64_t bits = 0;
    if (!rest.data || head.len >= sizeof address)
        return -EINVAL;
    memcpy(address, head.data, head.len);
    address[head.len] = 0;
    *ret = (struct cidr){.length = memchr(address, ':', head.len) ? 16 : 4};
    if (inet_pton(ret->length == 16 ? AF_INET6 : AF_INET, address, ret->address) != 1 || slice_parse_u64(rest, (uint64_t)ret->length * 8, &bits) != 0)
        return -EINVAL;
    ret->bits = (int)bits;
    return 0;
}

bool cidr_contains(const struct cidr *outer, const struct cidr *inner) {
    bool within = outer->length == inner->length && inner->bits >= outer->bits;
    for (int i = 0; i < outer->bits && within; i++) {
        unsigned mask = 0x80u >> (i % 8);
        within = (outer->address[i / 8] & mask) == (inner->address[i / 8] & mask);
    }
    return within;
}

static const char *check_ip(struct slice text) {
    return text_is_ip(text.data) ? NULL : "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
}

/* A path that stays beneath where it is put. */
static const char *check_local_path(struct slice text) {
    struct slice rest = text;
    if (slice_starts(text, SLICE("/")))
        return "must be a relative path";
    while (rest.len > 0)
        if (slice_is(slice_cut(&rest, '/'), ".."))
            return "must not contain '..'";
    return slice_starts(text, SLICE("..")) ? "must not start with '..'" : NULL;
}

/* What may be a name in a path: upstream's least demanding form. */
static const char *check_path_segment(struct slice text) {
    if (slice_is(text, "."))
        return "may not be '.'";
    if (slice_is(text, ".."))
        return "may not be '..'";
    if (slice_index(text, '/') >= 0)
        return "may not contain '/'";
    return slice_index(text, '%') >= 0 ? "may not contain '%'" : NULL;
}

const char *format_check(const char *format, struct slice text) {
    static const struct {
        const char *name;
        const char *(*check)(struct slice text);
    } formats[] = {{"dns-label", check_label},          {"dns-subdomain", check_subdomain},  {"dns1035-label", check_dns1035},
                   {"qualified-name", check_qualified}, {"label-value", check_label_value},  {"env-name", check_env_name},
                   {"config-key", check_config_key},    {"port-name", check_port_name},      {"ip", check_ip},
                   {"local-path", check_local_path},    {"path-segment", check_path_segment}};
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (strcmp(format, formats[i].name) == 0)
            return formats[i].check(text);
    UNREACHABLE();
}

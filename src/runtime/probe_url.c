/* URLs as far as probes need them. */
#include "codec/codec.h"
#include "runtime/probe_priv.h"

#define PORT_HTTP 80
#define PORT_HTTPS 443

static bool is_plain(char c) {
    return c > ' ' && c <= '~' && c != '"' && c != '<' && c != '>' && c != '\\' && c != '^' && c != '`' && c != '{' && c != '|' && c != '}';
}

/* Escapes what cannot stand in a request; ends before a fragment. */
static int copy_target(struct slice text, char *ret, size_t size) {
    static const char digits[] = "0123456789ABCDEF";
    size_t len = 0;
    for (size_t i = 0; i < text.len && text.data[i] != '#'; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (len + 4 > size)
            return -ENAMETOOLONG;
        if (is_plain((char)c)) {
            ret[len++] = (char)c;
            continue;
        }
        ret[len++] = '%';
        ret[len++] = digits[c >> 4];
        ret[len++] = digits[c & 15];
    }
    ret[len] = 0;
    return 0;
}

static int set_target(struct probe_url *url, struct slice path) {
    url->target[0] = '/';
    bool has_slash = path.len && path.data[0] == '/';
    return copy_target(path, url->target + !has_slash, sizeof url->target - !has_slash);
}

int probe_url_make(bool tls, const char *host, uint16_t port, const char *path, struct probe_url *ret) {
    *ret = (struct probe_url){.tls = tls, .port = port};
    if (snprintf(ret->host, sizeof ret->host, "%s", host) >= (int)sizeof ret->host)
        return -ENAMETOOLONG;
    return set_target(ret, slice_of(path));
}

static int set_authority(struct probe_url *url, struct slice authority) {
    uint64_t port = url->tls ? PORT_HTTPS : PORT_HTTP;
    ptrdiff_t at = slice_index(authority, '@');
    if (at >= 0)
        authority = slice_from(authority, (size_t)at + 1);
    struct slice host = authority, rest = {0};
    ptrdiff_t end = slice_index(authority, ']');
    if (authority.len && authority.data[0] == '[' && end > 0) {
        host = slice_head(slice_from(authority, 1), (size_t)end - 1);
        rest = slice_from(authority, (size_t)end + 1);
        if (rest.len && rest.data[0] != ':')
            return -EINVAL;
        rest = slice_from(rest, 1);
    } else {
        rest = authority;
        host = slice_cut(&rest, ':');
    }
    if (rest.len && (slice_parse_u64(rest, UINT16_MAX, &port) < 0 || port == 0))
        return -EINVAL;
    if (host.len == 0 || host.len >= sizeof url->host)
        return -EINVAL;
    for (size_t i = 0; i < host.len; i++)
        if (!is_plain(host.data[i]) || host.data[i] == '%')
            return -EINVAL;
    snprintf(url->host, sizeof url->host, "%.*s", SLICE_ARG(host));
    url->port = (uint16_t)port;
    return 0;
}

/* The folder of the path that we are at. */
static struct slice folder_of(const struct probe_url *url) {
    struct slice path = slice_of(url->target);
    ptrdiff_t query = slice_index(path, '?');
    path = query >= 0 ? slice_head(path, (size_t)query) : path;
    while (path.len > 1 && path.data[path.len - 1] != '/')
        path.len--;
    return path;
}

int probe_url_resolve(const struct probe_url *from, struct slice location, struct probe_url *ret, bool *ret_absolute) {
    struct probe_url url = *from;
    bool is_http = location.len >= 7 && slice_equal_nocase(slice_head(location, 7), SLICE("http://"));
    bool is_https = location.len >= 8 && slice_equal_nocase(slice_head(location, 8), SLICE("https://"));
    bool has_host = is_http || is_https || slice_starts(location, SLICE("//"));
    int r = 0;
    if (has_host) {
        url.tls = is_https || (!is_http && from->tls);
        struct slice rest = slice_from(location, is_https ? 8 : is_http ? 7 : 2);
        size_t len = 0;
        while (len < rest.len && rest.data[len] != '/' && rest.data[len] != '?' && rest.data[len] != '#')
            len++;
        r = set_authority(&url, slice_head(rest, len));
        if (r == 0)
            r = set_target(&url, slice_from(rest, len));
    } else if (location.len && location.data[0] == '/') {
        r = set_target(&url, location);
    } else {
        ptrdiff_t colon = slice_index(location, ':'), slash = slice_index(location, '/');
        if (colon >= 0 && (slash < 0 || colon < slash))
            return -EINVAL; /* another scheme */
        struct slice folder = folder_of(from);
        r = copy_target(location, url.target + folder.len, sizeof url.target - folder.len);
    }
    if (r < 0)
        return r;
    *ret = url;
    *ret_absolute = has_host;
    return 0;
}

void probe_authority(const char *host, uint16_t port, char *ret, size_t size) {
    snprintf(ret, size, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
}

void probe_url_format(const struct probe_url *url, char *ret, size_t size) {
    char authority[300];
    probe_authority(url->host, url->port, authority, sizeof authority);
    snprintf(ret, size, "%s://%s%s", url->tls ? "https" : "http", authority, url->target);
}

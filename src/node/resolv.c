/* The pods' /etc/resolv.conf by dnsPolicy and dnsConfig, as kubelet writes it.
 *
 *   ClusterFirst, ClusterFirstWithHostNet   our server; search <namespace>.svc.cluster.local svc.cluster.local cluster.local and the host's; ndots:5
 *   Default, or ClusterFirst on the host's network   the host's (without name servers on loopback, which another network namespace cannot reach)
 *   None                                    nothing
 * then dnsConfig's name servers and search domains are added, and its options replace those of the same name. */
#include "node/nameserver_priv.h"

#define RESOLV_BYTES_MAX (64 * KIB)

static int add(const char **items, size_t *count, size_t max, const char *text) {
    if (!text)
        return -ENOMEM;
    for (size_t i = 0; i < *count; i++)
        if (strcmp(items[i], text) == 0)
            return 0;
    if (*count < max)
        items[(*count)++] = text;
    return 0;
}
static int add_nameserver(struct resolv *resolv, const char *text) {
    return add(resolv->nameservers, &resolv->nameservers_count, RESOLV_NAMESERVERS_MAX, text);
}
static int add_search(struct resolv *resolv, const char *text) {
    return add(resolv->searches, &resolv->searches_count, RESOLV_SEARCHES_MAX, text);
}
static int add_option(struct resolv *resolv, const char *text) {
    for (size_t i = 0; text && i < resolv->options_count; i++) {
        size_t len = strcspn(text, ":");
        if (strcspn(resolv->options[i], ":") == len && memcmp(resolv->options[i], text, len) == 0) {
            resolv->options[i] = text;
            return 0;
        }
    }
    return add(resolv->options, &resolv->options_count, RESOLV_OPTIONS_MAX, text);
}

static struct slice next_word(struct slice *rest) {
    size_t len = 0;
    *rest = slice_trim(*rest);
    while (len < rest->len && rest->data[len] != ' ' && rest->data[len] != '\t')
        len++;
    struct slice word = slice_head(*rest, len);
    *rest = slice_from(*rest, len);
    return word;
}

static int parse_line(struct slice line, bool keep_loopback, struct arena *arena, struct resolv *ret) {
    struct slice keyword = next_word(&line), word;
    int r = 0;
    if (slice_is(keyword, "nameserver")) {
        word = next_word(&line);
        bool loopback = slice_starts(word, SLICE("127.")) || slice_is(word, "::1");
        return word.len && (keep_loopback || !loopback) ? add_nameserver(ret, arena_dup(arena, word)) : 0;
    }
    bool is_search = slice_is(keyword, "search") || slice_is(keyword, "domain");
    if (!is_search && !slice_is(keyword, "options"))
        return 0;
    if (is_search)
        ret->searches_count = 0; /* the last line counts */
    while (r == 0 && (word = next_word(&line)).len)
        if (!slice_is(word, "."))
            r = is_search ? add_search(ret, arena_dup(arena, word)) : add_option(ret, arena_dup(arena, word));
    return r;
}

int resolv_parse(struct slice text, bool keep_loopback, struct arena *arena, struct resolv *ret) {
    int r = 0;
    *ret = (struct resolv){0};
    while (r == 0 && text.data)
        r = parse_line(slice_cut(&text, '\n'), keep_loopback, arena, ret);
    return r;
}

static int plan_cluster(const char *namespace, const struct resolv *host, const char *nameserver, struct arena *arena, struct resolv *ret) {
    int r = add_nameserver(ret, nameserver);
    if (r == 0)
        r = add_search(ret, arena_printf(arena, "%s.svc." PODNET_DNS_DOMAIN, namespace));
    if (r == 0)
        r = add_search(ret, "svc." PODNET_DNS_DOMAIN);
    if (r == 0)
        r = add_search(ret, PODNET_DNS_DOMAIN);
    for (size_t i = 0; r == 0 && i < host->searches_count; i++)
        r = add_search(ret, host->searches[i]);
    return r == 0 ? add_option(ret, "ndots:5") : r;
}

static int add_config(const struct kube_pod_dns_config *config, struct arena *arena, struct resolv *ret) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < config->nameservers.count; i++)
        r = add_nameserver(ret, config->nameservers.items[i]);
    for (size_t i = 0; r == 0 && i < config->searches.count; i++)
        r = add_search(ret, config->searches.items[i]);
    for (size_t i = 0; r == 0 && i < config->options.count; i++) {
        const struct kube_pod_dns_config_option *option = &config->options.items[i];
        r = add_option(ret, option->value ? arena_printf(arena, "%s:%s", option->name, option->value) : option->name);
    }
    return r;
}

int resolv_plan(const struct kube_pod_spec *spec, const char *namespace, const struct resolv *host, const char *nameserver, struct arena *arena,
                struct resolv *ret) {
    const char *policy = spec->dns_policy ? spec->dns_policy : "ClusterFirst";
    bool cluster = strcmp(policy, "ClusterFirstWithHostNet") == 0 || (strcmp(policy, "ClusterFirst") == 0 && !spec->host_network);
    int r = 0;
    *ret = (struct resolv){0};
    if (cluster && nameserver)
        r = plan_cluster(namespace, host, nameserver, arena, ret);
    else if (strcmp(policy, "None") != 0)
        *ret = *host;
    return r == 0 && spec->dns_config ? add_config(spec->dns_config, arena, ret) : r;
}

int resolv_format(const struct resolv *resolv, struct buffer *out) {
    for (size_t i = 0; i < resolv->nameservers_count; i++)
        buffer_printf(out, "nameserver %s\n", resolv->nameservers[i]);
    for (size_t i = 0; i < resolv->searches_count; i++)
        buffer_printf(out, "%s %s%s", i ? "" : "search", resolv->searches[i], i + 1 == resolv->searches_count ? "\n" : "");
    for (size_t i = 0; i < resolv->options_count; i++)
        buffer_printf(out, "%s %s%s", i ? "" : "options", resolv->options[i], i + 1 == resolv->options_count ? "\n" : "");
    return buffer_error(out);
}

/* systemd-resolved's stub is on loopback; behind it are the servers it asks. */
static int read_host(bool keep_loopback, struct arena *arena, struct resolv *ret) {
    static const char *const paths[] = {"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"};
    *ret = (struct resolv){0};
    for (size_t i = 0; i < ARRAY_LEN(paths) && ret->nameservers_count == 0; i++) {
        CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(RESOLV_BYTES_MAX + 1);
        if (sys_read_file(AT_FDCWD, paths[i], RESOLV_BYTES_MAX, &text) < 0)
            continue;
        int r = resolv_parse(buffer_slice(&text), keep_loopback, arena, ret);
        if (r < 0)
            return r;
    }
    return 0;
}

int resolv_of_pod(const struct pod *pod, struct buffer *out) {
    const struct kube_pod_spec *spec = &pod->spec_object->pod->spec;
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct resolv host, resolv;
    int r = arena ? read_host(spec->host_network, arena, &host) : -ENOMEM;
    if (r == 0)
        r = resolv_plan(spec, pod->namespace, &host, pod->node->nameserver ? podnet_gateway(pod->node->podnet) : NULL, arena, &resolv);
    return r == 0 ? resolv_format(&resolv, out) : r;
}

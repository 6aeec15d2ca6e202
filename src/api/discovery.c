/* Discovery: what kinds there are, told from the tables of kinds, subresources and group versions (kube.h) in each of the forms clients ask for:
 * aggregated (one answer for everything, kubectl ≥ 1.27) or the older lists per group version. Nothing is cached: the answers are a few tens of
 * kilobytes and clients ask once in hours, by entity tag. */
#include "api/api_priv.h"

#define DISCOVERY_BYTES_MAX (16 * MIB)

/* All kinds, then the reviews; NULL at the end. */
static const struct kube_kind *kind_at(size_t index) {
    size_t count = kube_kinds_count();
    return index < count ? kube_kind_at(index) : kube_review_at(index - count);
}

static bool is_of(const struct kube_kind *kind, const char *group, const char *version) {
    return !strcmp(kind->group, group) && (!version || !strcmp(kind->version, version));
}

struct versions {
    struct kube_group_version *items;
    size_t count;
};

static void versions_deinit(struct versions *versions) {
    free(versions->items);
}

/* The index of the first version of the next group; `at` is that of this group's first. */
static size_t next_group(const struct versions *versions, size_t at) {
    size_t next = at + 1;
    while (next < versions->count && !strcmp(versions->items[next].group, versions->items[at].group))
        next++;
    return next;
}

static void put_list(struct buffer *out, const char *key, const char *const *items) {
    if (!items || !items[0])
        return;
    buffer_printf(out, ",\"%s\":[", key);
    for (size_t i = 0; items[i]; i++)
        buffer_printf(out, "%s\"%s\"", i ? "," : "", items[i]);
    buffer_append_text(out, "]");
}

static void put_verbs(struct buffer *out, unsigned verbs) {
    static const struct {
        unsigned verb;
        const char *name;
    } names[] = {{KUBE_VERB_CREATE, "create"}, {KUBE_VERB_DELETE, "delete"}, {KUBE_VERB_DELETECOLLECTION, "deletecollection"},
                 {KUBE_VERB_GET, "get"},       {KUBE_VERB_LIST, "list"},     {KUBE_VERB_PATCH, "patch"},
                 {KUBE_VERB_UPDATE, "update"}, {KUBE_VERB_WATCH, "watch"}};
    bool first = true;
    buffer_append_text(out, "\"verbs\":[");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (!(verbs & names[i].verb))
            continue;
        buffer_printf(out, "%s\"%s\"", first ? "" : ",", names[i].name);
        first = false;
    }
    buffer_append_text(out, "]");
}

static void respond(struct request *request, const char *type, const struct buffer *out) {
    struct api_failure failure;
    if (buffer_error(out)) {
        api_fail_no_memory(&failure);
        api_respond_failure(request, &failure);
    } else
        api_respond_tagged(request, type, buffer_slice(out));
}

/* --- aggregated --- */

static void put_response_kind(struct buffer *out, const char *group, const char *version, const char *kind) {
    buffer_printf(out, "\"responseKind\":{\"group\":\"%s\",\"version\":\"%s\",\"kind\":\"%s\"},", group, version, kind);
}

static void put_aggregated_subresources(struct buffer *out, const struct kube_kind *kind) {
    struct kube_subresource sub;
    for (size_t i = 0; kube_subresource_at(kind, i, &sub); i++) {
        buffer_printf(out, "%s{\"subresource\":\"%s\",", i ? "," : ",\"subresources\":[", sub.name);
        put_response_kind(out, sub.kind_group, sub.kind_version, sub.kind);
        put_verbs(out, sub.verbs);
        buffer_append_text(out, "}");
    }
    if (kube_subresource_at(kind, 0, &sub))
        buffer_append_text(out, "]");
}

static void put_aggregated_kind(struct buffer *out, const struct kube_kind *kind) {
    buffer_printf(out, "{\"resource\":\"%s\",", kind->plural);
    put_response_kind(out, kind->group, kind->version, kind->kind);
    buffer_printf(out, "\"scope\":\"%s\",\"singularResource\":\"%s\",", kind->namespaced ? "Namespaced" : "Cluster", kind->singular);
    put_verbs(out, kube_kind_verbs(kind));
    put_list(out, "shortNames", kind->short_names);
    put_list(out, "categories", kind->categories);
    put_aggregated_subresources(out, kind);
    buffer_append_text(out, "}");
}

static void put_aggregated_version(struct buffer *out, const struct kube_group_version *version) {
    buffer_printf(out, "{\"version\":\"%s\",\"freshness\":\"Current\",\"resources\":[", version->version);
    bool first = true;
    const struct kube_kind *kind;
    for (size_t i = 0; (kind = kind_at(i)); i++) {
        if (!is_of(kind, version->group, version->version))
            continue;
        buffer_append_text(out, first ? "" : ",");
        put_aggregated_kind(out, kind);
        first = false;
    }
    buffer_append_text(out, "]}");
}

static void put_aggregated(struct buffer *out, const struct versions *versions, bool core) {
    bool first = true;
    for (size_t i = 0; i < versions->count; i = next_group(versions, i)) {
        const char *group = versions->items[i].group;
        if (!*group != core)
            continue;
        buffer_append_text(out, first ? "{\"metadata\":{" : ",{\"metadata\":{");
        first = false;
        if (*group)
            buffer_printf(out, "\"name\":\"%s\",", group);
        buffer_append_text(out, "\"creationTimestamp\":null},\"versions\":[");
        for (size_t j = i; j < next_group(versions, i); j++) {
            buffer_append_text(out, j > i ? "," : "");
            put_aggregated_version(out, &versions->items[j]);
        }
        buffer_append_text(out, "]}");
    }
}

static void serve_aggregated(struct request *request, enum discovery_form form, bool core) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(DISCOVERY_BYTES_MAX);
    CLEANUP(versions_deinit) struct versions versions = {0};
    const char *version = form == DISCOVERY_V2 ? "v2" : "v2beta1";
    buffer_printf(&out, "{\"kind\":\"APIGroupDiscoveryList\",\"apiVersion\":\"apidiscovery.k8s.io/%s\",\"metadata\":{},\"items\":[", version);
    out.error = out.error ? out.error : kube_group_versions(&versions.items, &versions.count);
    put_aggregated(&out, &versions, core);
    buffer_append_text(&out, "]}\n");
    respond(request,
            form == DISCOVERY_V2 ? "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
                                 : "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
            &out);
}

/* --- plain --- */

/* The group whose first version is at `at`. */
static void put_group(struct buffer *out, const struct versions *versions, size_t at, bool alone) {
    const char *group = versions->items[at].group, *preferred = versions->items[at].version;
    buffer_printf(out, "{%s\"name\":\"%s\",\"versions\":[", alone ? "\"kind\":\"APIGroup\",\"apiVersion\":\"v1\"," : "", group);
    for (size_t i = at; i < next_group(versions, at); i++)
        buffer_printf(out, "%s{\"groupVersion\":\"%s/%s\",\"version\":\"%s\"}", i > at ? "," : "", group, versions->items[i].version,
                      versions->items[i].version);
    buffer_printf(out, "],\"preferredVersion\":{\"groupVersion\":\"%s/%s\",\"version\":\"%s\"}}", group, preferred, preferred);
}

static void put_plain_subresources(struct buffer *out, const struct kube_kind *kind) {
    struct kube_subresource sub;
    for (size_t i = 0; kube_subresource_at(kind, i, &sub); i++) {
        bool foreign = strcmp(sub.kind_group, kind->group) || strcmp(sub.kind_version, kind->version);
        buffer_printf(out, ",{\"name\":\"%s/%s\",\"singularName\":\"\",\"namespaced\":%s,", kind->plural, sub.name,
                      kind->namespaced ? "true" : "false");
        if (foreign && *sub.kind_group)
            buffer_printf(out, "\"group\":\"%s\",", sub.kind_group);
        if (foreign)
            buffer_printf(out, "\"version\":\"%s\",", sub.kind_version);
        buffer_printf(out, "\"kind\":\"%s\",", sub.kind);
        put_verbs(out, sub.verbs);
        buffer_append_text(out, "}");
    }
}

/* What upstream calls it: the beginning of the SHA-256 of group, version and kind as they are stored. Storage migrators compare it. */
static void put_storage_hash(struct buffer *out, const struct kube_kind *served) {
    const struct kube_kind *kind = kube_kind_stored(served);
    CLEANUP(buffer_deinit) struct buffer name = BUFFER_INIT(KIB);
    char hex[65];
    uint8_t bytes[8];
    buffer_printf(&name, "%s/%s/%s", kind->group, kind->version, kind->kind);
    digest_sha256_hex(buffer_slice(&name), hex);
    for (size_t i = 0; i < sizeof bytes; i++) {
        const char *digits = "0123456789abcdef";
        bytes[i] = (uint8_t)((strchr(digits, hex[2 * i]) - digits) << 4 | (strchr(digits, hex[2 * i + 1]) - digits));
    }
    buffer_append_text(out, ",\"storageVersionHash\":\"");
    base64_encode(out, slice_make((const char *)bytes, sizeof bytes));
    buffer_append_text(out, "\"");
}

static void put_plain_kind(struct buffer *out, const struct kube_kind *kind) {
    unsigned verbs = kube_kind_verbs(kind);
    buffer_printf(out, "{\"name\":\"%s\",\"singularName\":\"%s\",\"namespaced\":%s,\"kind\":\"%s\",", kind->plural, kind->singular,
                  kind->namespaced ? "true" : "false", kind->kind);
    put_verbs(out, verbs);
    put_list(out, "shortNames", kind->short_names);
    put_list(out, "categories", kind->categories);
    if (verbs & KUBE_VERB_WATCH)
        put_storage_hash(out, kind);
    buffer_append_text(out, "}");
    put_plain_subresources(out, kind);
}

void api_serve_core_versions(struct request *request) {
    enum discovery_form form = api_accept_discovery(http_header(request->exchange, "Accept"));
    if (form != DISCOVERY_PLAIN) {
        serve_aggregated(request, form, true);
        return;
    }
    api_respond_json(request, 200, SLICE("{\"kind\":\"APIVersions\",\"versions\":[\"v1\"],\"serverAddressByClientCIDRs\":[]}\n"));
}

void api_serve_groups(struct request *request) {
    enum discovery_form form = api_accept_discovery(http_header(request->exchange, "Accept"));
    if (form != DISCOVERY_PLAIN) {
        serve_aggregated(request, form, false);
        return;
    }
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(DISCOVERY_BYTES_MAX);
    CLEANUP(versions_deinit) struct versions versions = {0};
    out.error = kube_group_versions(&versions.items, &versions.count);
    buffer_append_text(&out, "{\"kind\":\"APIGroupList\",\"apiVersion\":\"v1\",\"groups\":[");
    bool first = true;
    for (size_t i = 0; i < versions.count; i = next_group(&versions, i)) {
        if (!*versions.items[i].group)
            continue;
        buffer_append_text(&out, first ? "" : ",");
        put_group(&out, &versions, i, false);
        first = false;
    }
    buffer_append_text(&out, "]}\n");
    respond(request, "application/json", &out);
}

void api_serve_group(struct request *request) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    CLEANUP(versions_deinit) struct versions versions = {0};
    out.error = kube_group_versions(&versions.items, &versions.count);
    size_t at = 0;
    while (at < versions.count && strcmp(versions.items[at].group, request->route.group) != 0)
        at = next_group(&versions, at);
    if (!out.error && (at == versions.count || !*request->route.group)) {
        api_respond_unknown_path(request);
        return;
    }
    if (at < versions.count)
        put_group(&out, &versions, at, true);
    buffer_append_text(&out, "\n");
    respond(request, "application/json", &out);
}

void api_serve_resources(struct request *request) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(DISCOVERY_BYTES_MAX);
    const char *group = request->route.group, *version = request->route.version;
    buffer_append_text(&out, "{\"kind\":\"APIResourceList\",\"apiVersion\":\"v1\",\"groupVersion\":\"");
    buffer_printf(&out, "%s%s%s\",\"resources\":[", group, *group ? "/" : "", version);
    size_t count = 0;
    const struct kube_kind *kind;
    for (size_t i = 0; (kind = kind_at(i)); i++) {
        if (!is_of(kind, group, version))
            continue;
        buffer_append_text(&out, count++ ? "," : "");
        put_plain_kind(&out, kind);
    }
    buffer_append_text(&out, "]}\n");
    if (count)
        respond(request, "application/json", &out);
    else
        api_respond_unknown_path(request);
}

/* Discovery: what kinds there are, told from the table of kinds in each of the forms clients ask for: aggregated (one answer for everything, kubectl
 * ≥ 1.27) or the older lists per group version. Nothing is cached: the answers are a few kilobytes and clients ask once in hours. */
#include "api/api_priv.h"

struct subresource {
    const char *group, *plural; /* whose */
    const char *name;
    const char *kind_group, *kind_version, *kind;
    const char *verbs; /* as a JSON list's inside */
};

static const struct subresource subresources[] = {
    {"", "pods", "attach", "", "v1", "PodAttachOptions", "\"create\",\"get\""},
    {"", "pods", "binding", "", "v1", "Binding", "\"create\""},
    {"", "pods", "eviction", "policy", "v1", "Eviction", "\"create\""},
    {"", "pods", "exec", "", "v1", "PodExecOptions", "\"create\",\"get\""},
    {"", "pods", "log", "", "v1", "Pod", "\"get\""},
    {"", "pods", "portforward", "", "v1", "PodPortForwardOptions", "\"create\",\"get\""},
    {"", "namespaces", "finalize", "", "v1", "Namespace", "\"update\""},
    {"certificates.k8s.io", "certificatesigningrequests", "approval", "certificates.k8s.io", "v1", "CertificateSigningRequest",
     "\"get\",\"patch\",\"update\""},
    {"", "serviceaccounts", "token", "authentication.k8s.io", "v1", "TokenRequest", "\"create\""},
};

#define STATUS_VERBS "\"get\",\"patch\",\"update\""
#define OBJECT_VERBS "\"create\",\"delete\",\"deletecollection\",\"get\",\"list\",\"patch\",\"update\",\"watch\""

/* Kinds that are questions: they are created, answered and forgotten. */
#define REVIEW(in_group, name, plural_name, singular_name, in_namespace)                                                                             \
    { .group = in_group, .version = "v1", .kind = name, .plural = plural_name, .singular = singular_name, .namespaced = in_namespace }
static const struct kube_kind reviews[] = {
    REVIEW("authentication.k8s.io", "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview", false),
    REVIEW("authentication.k8s.io", "TokenReview", "tokenreviews", "tokenreview", false),
    REVIEW("authorization.k8s.io", "LocalSubjectAccessReview", "localsubjectaccessreviews", "localsubjectaccessreview", true),
    REVIEW("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews", "selfsubjectaccessreview", false),
    REVIEW("authorization.k8s.io", "SelfSubjectRulesReview", "selfsubjectrulesreviews", "selfsubjectrulesreview", false),
    REVIEW("authorization.k8s.io", "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview", false),
};

/* All kinds, then the reviews; NULL at the end. */
static const struct kube_kind *kind_at(size_t index) {
    size_t count = kube_kinds_count();
    if (index < count)
        return kube_kind_at(index);
    return index - count < ARRAY_LEN(reviews) ? &reviews[index - count] : NULL;
}

static bool is_review_kind(const struct kube_kind *kind) {
    return kind >= reviews && kind < reviews + ARRAY_LEN(reviews);
}

static const char *verbs_of(const struct kube_kind *kind) {
    return is_review_kind(kind) ? "\"create\"" : kind->is_virtual ? "\"get\",\"list\"" : OBJECT_VERBS;
}

/* The first kind of its group (or group version): lists name each once. */
static bool is_first_of(size_t index, bool with_version) {
    const struct kube_kind *kind = kind_at(index);
    for (size_t i = 0; i < index; i++) {
        const struct kube_kind *other = kind_at(i);
        if (!strcmp(other->group, kind->group) && (!with_version || !strcmp(other->version, kind->version)))
            return false;
    }
    return true;
}

static bool is_of(const struct kube_kind *kind, const char *group, const char *version) {
    return !strcmp(kind->group, group) && (!version || !strcmp(kind->version, version));
}

static void put_list(struct buffer *out, const char *key, const char *const *items) {
    if (!items || !items[0])
        return;
    buffer_printf(out, ",\"%s\":[", key);
    for (size_t i = 0; items[i]; i++)
        buffer_printf(out, "%s\"%s\"", i ? "," : "", items[i]);
    buffer_append_text(out, "]");
}

typedef void each_subresource_fn(struct buffer *out, const struct kube_kind *kind, const struct subresource *sub, bool first);

/* Calls `each` for the subresources of a kind, with its status and scale. */
static void each_subresource(struct buffer *out, const struct kube_kind *kind, bool first, each_subresource_fn *each) {
    if (kind->has_status) {
        const struct subresource status = {
            .name = "status", .kind_group = kind->group, .kind_version = kind->version, .kind = kind->kind, .verbs = STATUS_VERBS};
        each(out, kind, &status, first);
        first = false;
    }
    if (kind->has_scale) {
        const struct subresource scale = {.name = "scale", .kind_group = "autoscaling", .kind_version = "v1", .kind = "Scale", .verbs = STATUS_VERBS};
        each(out, kind, &scale, first);
        first = false;
    }
    for (size_t i = 0; i < ARRAY_LEN(subresources); i++) {
        if (strcmp(subresources[i].group, kind->group) || strcmp(subresources[i].plural, kind->plural))
            continue;
        each(out, kind, &subresources[i], first);
        first = false;
    }
}

/* --- aggregated --- */

static void put_aggregated_subresource(struct buffer *out, const struct kube_kind *kind, const struct subresource *sub, bool first) {
    (void)kind;
    buffer_printf(out, "%s{\"subresource\":\"%s\",\"responseKind\":{\"group\":\"%s\",\"version\":\"%s\",\"kind\":\"%s\"},\"verbs\":[%s]}",
                  first ? "" : ",", sub->name, sub->kind_group, sub->kind_version, sub->kind, sub->verbs);
}

static void put_aggregated_kind(struct buffer *out, const struct kube_kind *kind) {
    buffer_printf(out,
                  "{\"resource\":\"%s\",\"responseKind\":{\"group\":\"%s\",\"version\":\"%s\",\"kind\":\"%s\"},\"scope\":\"%s\",\"singularResource\":"
                  "\"%s\",\"verbs\":[%s]",
                  kind->plural, kind->group, kind->version, kind->kind, kind->namespaced ? "Namespaced" : "Cluster", kind->singular, verbs_of(kind));
    put_list(out, "shortNames", kind->short_names);
    put_list(out, "categories", kind->categories);
    size_t mark = out->len;
    buffer_append_text(out, ",\"subresources\":[");
    size_t empty = out->len;
    each_subresource(out, kind, true, put_aggregated_subresource);
    if (out->len == empty)
        buffer_truncate(out, mark);
    else
        buffer_append_text(out, "]");
    buffer_append_text(out, "}");
}

static void put_aggregated_group(struct buffer *out, const char *group) {
    if (*group)
        buffer_printf(out, "{\"metadata\":{\"name\":\"%s\",\"creationTimestamp\":null},\"versions\":[", group);
    else
        buffer_append_text(out, "{\"metadata\":{\"creationTimestamp\":null},\"versions\":[");
    bool first_version = true;
    const struct kube_kind *kind;
    for (size_t i = 0; (kind = kind_at(i)); i++) {
        if (!is_of(kind, group, NULL) || !is_first_of(i, true))
            continue;
        buffer_printf(out, "%s{\"version\":\"%s\",\"freshness\":\"Current\",\"resources\":[", first_version ? "" : ",", kind->version);
        first_version = false;
        bool first = true;
        const struct kube_kind *member;
        for (size_t j = 0; (member = kind_at(j)); j++) {
            if (!is_of(member, group, kind->version))
                continue;
            buffer_append_text(out, first ? "" : ",");
            put_aggregated_kind(out, member);
            first = false;
        }
        buffer_append_text(out, "]}");
    }
    buffer_append_text(out, "]}");
}

static void serve_aggregated(struct request *request, enum discovery_form form, bool core) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(8 * MIB);
    const char *version = form == DISCOVERY_V2 ? "v2" : "v2beta1";
    buffer_printf(&out, "{\"kind\":\"APIGroupDiscoveryList\",\"apiVersion\":\"apidiscovery.k8s.io/%s\",\"metadata\":{},\"items\":[", version);
    bool first = true;
    const struct kube_kind *kind;
    for (size_t i = 0; (kind = kind_at(i)); i++) {
        if (!*kind->group != core || !is_first_of(i, false))
            continue;
        buffer_append_text(&out, first ? "" : ",");
        put_aggregated_group(&out, kind->group);
        first = false;
    }
    buffer_append_text(&out, "]}\n");
    const char *type = form == DISCOVERY_V2 ? "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
                                            : "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
    const struct http_field fields[] = {{"Vary", "Accept"}, {NULL, NULL}};
    http_respond(request->exchange, 200, type, buffer_slice(&out), fields);
}

/* --- plain --- */

static void put_group(struct buffer *out, const char *group, bool alone) {
    buffer_printf(out, "{%s\"name\":\"%s\",\"versions\":[", alone ? "\"kind\":\"APIGroup\",\"apiVersion\":\"v1\"," : "", group);
    const char *preferred = NULL;
    const struct kube_kind *kind;
    for (size_t i = 0; (kind = kind_at(i)); i++) {
        if (!is_of(kind, group, NULL) || !is_first_of(i, true))
            continue;
        buffer_printf(out, "%s{\"groupVersion\":\"%s/%s\",\"version\":\"%s\"}", preferred ? "," : "", group, kind->version, kind->version);
        if (!preferred)
            preferred = kind->version;
    }
    buffer_printf(out, "],\"preferredVersion\":{\"groupVersion\":\"%s/%s\",\"version\":\"%s\"}}", group, preferred ? preferred : "",
                  preferred ? preferred : "");
}

static void put_plain_subresource(struct buffer *out, const struct kube_kind *kind, const struct subresource *sub, bool first) {
    (void)first;
    bool foreign = strcmp(sub->kind_group, kind->group) || strcmp(sub->kind_version, kind->version);
    buffer_printf(out, ",{\"name\":\"%s/%s\",\"singularName\":\"\",\"namespaced\":%s,", kind->plural, sub->name, kind->namespaced ? "true" : "false");
    if (foreign)
        buffer_printf(out, "\"group\":\"%s\",\"version\":\"%s\",", sub->kind_group, sub->kind_version);
    buffer_printf(out, "\"kind\":\"%s\",\"verbs\":[%s]}", sub->kind, sub->verbs);
}

static void put_plain_kind(struct buffer *out, const struct kube_kind *kind) {
    buffer_printf(out, "{\"name\":\"%s\",\"singularName\":\"%s\",\"namespaced\":%s,\"kind\":\"%s\",\"verbs\":[%s]", kind->plural, kind->singular,
                  kind->namespaced ? "true" : "false", kind->kind, verbs_of(kind));
    put_list(out, "shortNames", kind->short_names);
    put_list(out, "categories", kind->categories);
    buffer_append_text(out, "}");
    each_subresource(out, kind, false, put_plain_subresource);
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
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(8 * MIB);
    buffer_append_text(&out, "{\"kind\":\"APIGroupList\",\"apiVersion\":\"v1\",\"groups\":[");
    bool first = true;
    const struct kube_kind *kind;
    for (size_t i = 0; (kind = kind_at(i)); i++) {
        if (!*kind->group || !is_first_of(i, false))
            continue;
        buffer_append_text(&out, first ? "" : ",");
        put_group(&out, kind->group, false);
        first = false;
    }
    buffer_append_text(&out, "]}\n");
    api_respond_json(request, 200, buffer_slice(&out));
}

void api_serve_group(struct request *request) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    const struct kube_kind *kind = NULL;
    for (size_t i = 0; (kind = kind_at(i)); i++)
        if (*kind->group && is_of(kind, request->route.group, NULL))
            break;
    if (!kind) {
        api_respond_unknown_path(request);
        return;
    }
    put_group(&out, kind->group, true);
    buffer_append_text(&out, "\n");
    api_respond_json(request, 200, buffer_slice(&out));
}

void api_serve_resources(struct request *request) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(8 * MIB);
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
        api_respond_json(request, 200, buffer_slice(&out));
    else
        api_respond_unknown_path(request);
}

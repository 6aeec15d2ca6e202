/* A skeleton of the OpenAPI v3 document of a group version. kubectl asks it two things before it sends anything: does the kind exist, and does its
 * PATCH take the query parameters fieldValidation and dryRun. One PATCH per kind answers both; schemas, which `kubectl explain` needs, come later. */
#include "kube/schema_priv.h"

static void write_parameter(struct buffer *out, const char *name, bool last) {
    buffer_printf(out, "{\"name\":\"%s\",\"in\":\"query\",\"schema\":{\"type\":\"string\",\"uniqueItems\":true}}%s", name, last ? "" : ",");
}

static void write_kind(const struct kube_kind *kind, struct buffer *out) {
    const char *root = kind->group[0] ? "/apis/" : "/api/";
    buffer_printf(out, "\"%s%s%s/%s/{name}\":{\"patch\":{\"operationId\":\"patch%s%s\",\"parameters\":[", root, kind->api_version,
                  kind->namespaced ? "/namespaces/{namespace}" : "", kind->plural, kind->namespaced ? "Namespaced" : "", kind->kind);
    write_parameter(out, "dryRun", false);
    write_parameter(out, "fieldManager", false);
    write_parameter(out, "fieldValidation", true);
    buffer_printf(
        out,
        "],\"responses\":{\"200\":{\"description\":\"OK\"}},\"x-kubernetes-action\":\"patch\",\"x-kubernetes-group-version-kind\":{\"group\":\"%s\","
        "\"kind\":\"%s\",\"version\":\"%s\"}}}",
        kind->group, kind->kind, kind->version);
}

int kube_openapi_v3(struct slice group, struct slice version, struct buffer *out) {
    bool first = true;
    buffer_append_text(out, "{\"openapi\":\"3.0.0\",\"info\":{\"title\":\"Kubernetes\",\"version\":\"v1.32.0\"},\"paths\":{");
    for (size_t i = 0; i < kube_kinds_count(); i++) {
        if (!slice_is(group, kube_kind_at(i)->group) || !slice_is(version, kube_kind_at(i)->version))
            continue;
        if (!first)
            buffer_append_byte(out, ',');
        first = false;
        write_kind(kube_kind_at(i), out);
    }
    buffer_append_text(out, "},\"components\":{\"schemas\":{}}}");
    return buffer_error(out);
}

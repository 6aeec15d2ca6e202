/* OpenAPI documents: v3 with one document per group version, v2 with everything in one. What clients do with them: kubectl validates manifests and
 * computes the patches of `apply` (merge keys), prints `explain`; generators write typed clients. So schemas are complete, or patches would be wrong.
 *
 * The order of components and properties means nothing to clients (they sort), so it is that of the tables. See openapi_priv.h for the method. */
#include "kube/openapi_priv.h"

void openapi_next(struct openapi *openapi) {
    const struct buffer *out = openapi->out;
    char last = out->len ? out->data[out->len - 1] : '{';
    if (last != '{' && last != '[' && last != ':')
        buffer_append_byte(openapi->out, ',');
}

void openapi_key(struct openapi *openapi, const char *key) {
    openapi_next(openapi);
    json_format_string(openapi->out, slice_of(key));
    buffer_append_byte(openapi->out, ':');
}

void openapi_text(struct openapi *openapi, const char *key, const char *text) {
    openapi_key(openapi, key);
    json_format_string(openapi->out, slice_of(text));
}

void openapi_open(struct openapi *openapi, char bracket) {
    openapi_next(openapi);
    buffer_append_byte(openapi->out, bracket);
}

void openapi_close(struct openapi *openapi, char bracket) {
    buffer_append_byte(openapi->out, bracket);
}

/* --- documents --- */

/* All kinds, then the reviews; NULL at the end. */
static const struct kube_kind *kind_at(size_t index) {
    size_t count = kube_kinds_count();
    return index < count ? kube_kind_at(index) : kube_review_at(index - count);
}

static bool is_of(const struct kube_kind *kind, struct slice group, struct slice version) {
    return slice_is(group, kind->group) && slice_is(version, kind->version);
}

static void write_head(struct openapi *openapi, const char *key, const char *dialect) {
    openapi_open(openapi, '{');
    openapi_text(openapi, key, dialect);
    openapi_key(openapi, "info");
    buffer_append_text(openapi->out, "{\"title\":\"Kubernetes\",\"version\":\"v1.32.0\"}");
}

/* How clients prove who they are: generators make their clients ask for it. */
static void write_security(struct openapi *openapi, const char *key) {
    openapi_key(openapi, key);
    buffer_append_text(openapi->out, "{\"BearerToken\":{\"type\":\"apiKey\",\"name\":\"authorization\",\"in\":\"header\",\"description\":\"A bearer "
                                     "token.\"}}");
}

int kube_openapi_v3(struct slice group, struct slice version, struct buffer *out) {
    struct openapi openapi = {.out = out};
    const struct kube_kind *first = NULL;
    write_head(&openapi, "openapi", "3.0.0");
    openapi_key(&openapi, "paths");
    openapi_open(&openapi, '{');
    const struct kube_kind *kind;
    for (size_t i = 0; (kind = kind_at(i)); i++) {
        if (!is_of(kind, group, version))
            continue;
        if (!first)
            openapi_path_of_resources(&openapi, kind->group, kind->version);
        first = kind;
        openapi_paths_of_kind(&openapi, kind);
    }
    openapi_close(&openapi, '}');
    openapi_key(&openapi, "components");
    openapi_open(&openapi, '{');
    openapi_key(&openapi, "schemas");
    openapi_open(&openapi, '{');
    for (size_t i = 0; (kind = kind_at(i)); i++)
        if (is_of(kind, group, version))
            openapi_components_of_kind(&openapi, kind);
    openapi_components_referred(&openapi);
    openapi_close(&openapi, '}');
    write_security(&openapi, "securitySchemes");
    buffer_append_text(out, "},\"security\":[{\"BearerToken\":[]}]}");
    VECTOR_DEINIT(&openapi.types);
    return first ? buffer_error(out) : -ENOENT;
}

int kube_openapi_v2(struct buffer *out) {
    struct openapi openapi = {.out = out, .v2 = true};
    const struct kube_kind *kind;
    struct kube_group_version *versions = NULL;
    size_t count = 0;
    int error = kube_group_versions(&versions, &count);
    if (error)
        return error;
    write_head(&openapi, "swagger", "2.0");
    openapi_key(&openapi, "paths");
    openapi_open(&openapi, '{');
    for (size_t i = 0; i < count; i++)
        openapi_path_of_resources(&openapi, versions[i].group, versions[i].version);
    for (size_t i = 0; (kind = kind_at(i)); i++)
        openapi_paths_of_kind(&openapi, kind);
    openapi_close(&openapi, '}');
    openapi_key(&openapi, "definitions");
    openapi_open(&openapi, '{');
    for (size_t i = 0; (kind = kind_at(i)); i++)
        openapi_components_of_kind(&openapi, kind);
    openapi_components_referred(&openapi);
    openapi_close(&openapi, '}');
    write_security(&openapi, "securityDefinitions");
    buffer_append_text(out, ",\"security\":[{\"BearerToken\":[]}]}");
    VECTOR_DEINIT(&openapi.types);
    free(versions);
    return buffer_error(out);
}

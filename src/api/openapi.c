/* OpenAPI v3: an index of one document per group version, each named with the hash of its bytes so that clients may keep it for ever. The documents
 * come from the table of kinds (kube_openapi_v3); the hashes are made once, on the first request. */
#include "api/api_priv.h"

static bool is_first(size_t index) {
    for (size_t i = 0; i < index; i++)
        if (!strcmp(kube_kind_at(i)->group, kube_kind_at(index)->group) && !strcmp(kube_kind_at(i)->version, kube_kind_at(index)->version))
            return false;
    return true;
}

static int put_entry(struct buffer *out, const struct kube_kind *kind, bool first) {
    CLEANUP(buffer_deinit) struct buffer document = BUFFER_INIT(16 * MIB);
    int error = kube_openapi_v3(slice_of(kind->group), slice_of(kind->version), &document);
    if (error)
        return error;
    char hash[65];
    digest_sha256_hex(buffer_slice(&document), hash);
    const char *prefix = *kind->group ? "apis/" : "api";
    buffer_printf(out, "%s\"%s%s/%s\":{\"serverRelativeURL\":\"/openapi/v3/%s%s/%s?hash=%s\"}", first ? "" : ",", prefix, kind->group, kind->version,
                  prefix, kind->group, kind->version, hash);
    return 0;
}

static int make_index(struct api *api) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    buffer_append_text(&out, "{\"paths\":{");
    bool first = true;
    for (size_t i = 0; i < kube_kinds_count(); i++) {
        if (!is_first(i))
            continue;
        int error = put_entry(&out, kube_kind_at(i), first);
        if (error)
            return error;
        first = false;
    }
    buffer_append_text(&out, "}}\n");
    api->openapi_hashes = buffer_take(&out);
    return api->openapi_hashes ? 0 : -ENOMEM;
}

void api_serve_openapi_index(struct request *request) {
    struct api *api = request->api;
    if (!api->openapi_hashes && make_index(api)) {
        struct api_failure failure;
        api_fail_no_memory(&failure);
        api_respond_failure(request, &failure);
        return;
    }
    api_respond_json(request, 200, slice_of(api->openapi_hashes));
}

void api_serve_openapi_v3(struct request *request) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(16 * MIB);
    if (kube_openapi_v3(slice_of(request->route.group), slice_of(request->route.version), &out) || !out.len) {
        api_respond_unknown_path(request);
        return;
    }
    const struct http_field fields[] = {{"Cache-Control", "public, immutable"}, {"Vary", "Accept"}, {NULL, NULL}};
    http_respond(request->exchange, 200, "application/json", buffer_slice(&out), api_request_query(request, "hash") ? fields : NULL);
}

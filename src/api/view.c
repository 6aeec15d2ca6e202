/* Objects as the request asked for them. The store holds one form of each; a request names a kind, and kinds may be views of the stored one (see
 * kube/convert.c). Whoever answers with an object appends it through here: mostly that is the stored bytes as they are. */
#include "api/api_priv.h"

static int put_converted(struct kube_object *object, const struct kube_kind *kind, struct buffer *out) {
    CLEANUP(kube_object_unrefp) struct kube_object *view = NULL;
    int error = kube_convert(object, kind, &view);
    return error ? error : kube_encode_json(view, out);
}

int api_view_put(const struct request *request, struct store_object *stored, struct buffer *out) {
    if (request->table == PARTIAL_V1 || request->table == PARTIAL_V1BETA1) {
        buffer_printf(out, "{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"%s\",\"metadata\":", api_meta_version(request));
        buffer_append_slice(out, api_stored_metadata(stored->value));
        return buffer_append_text(out, "}");
    }
    if (request->kind->custom)
        return api_stored_put(request->api, request->kind, stored, out);
    if (!request->kind->stored_as)
        return api_heartbeat_put(request, stored, out);
    struct kube_object *object = api_decode(request->api, stored);
    return object ? put_converted(object, request->kind, out) : -ENOMEM;
}

int api_view_of(const struct kube_kind *kind, struct kube_object **object) {
    struct kube_object *view = NULL;
    int error = kube_convert(*object, kind, &view);
    if (error)
        return error;
    kube_object_unref(*object);
    *object = view;
    return 0;
}

void api_view_respond(struct request *request, int code, struct kube_object *object, struct slice json) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(16 * MIB);
    struct api_failure failure;
    api_audit(request, code, NULL, object);
    if (object->kind == request->kind || kube_kind_stored(request->kind) != object->kind) {
        api_respond_json(request, code, json);
    } else if (put_converted(object, request->kind, &out)) {
        api_fail_no_memory(&failure);
        api_respond_failure(request, &failure);
    } else {
        api_respond_json(request, code, buffer_slice(&out));
    }
}

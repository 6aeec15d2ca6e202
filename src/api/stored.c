/* Objects as the store holds them: their JSON, with metadata.resourceVersion as the first member of metadata. The version is known only when the
 * store accepts the write, so the value that is handed in carries none and the store's stamp puts it in. That place is fixed, so that stamping again
 * (a delete's last state) is a splice.
 *
 * Invariant: every value begins with `{"kind":…,"apiVersion":…,"metadata":{` or has the first two in the other order; both hold no braces. So the
 * first
 * `"metadata":{` is the object's own.
 *
 * The decoded form hangs on the stored version (store_object.cache is a struct kube_object), so that selectors, controllers and patches decode each
 * version once. */
#include "api/api_priv.h"

#include <stdio.h>

#define METADATA "\"metadata\":{"
#define VERSION "\"resourceVersion\":\""

struct slice api_kind_slice(const struct kube_kind *kind) {
    return slice_of(kube_kind_key(kind));
}

int api_stored_stamp_value(struct slice value, uint64_t revision, struct buffer *out) {
    ptrdiff_t at = slice_find(value, SLICE(METADATA));
    if (at < 0)
        return -EINVAL;
    size_t body = (size_t)at + sizeof METADATA - 1;
    struct slice rest = slice_from(value, body);
    if (slice_starts(rest, SLICE(VERSION))) { /* an older stamp: cut it out, with its comma */
        rest = slice_from(rest, sizeof VERSION - 1);
        slice_cut(&rest, '"');
        if (rest.len && rest.data[0] == ',')
            rest = slice_from(rest, 1);
    }
    buffer_append_slice(out, slice_head(value, body));
    buffer_printf(out, VERSION "%" PRIu64 "\"%s", revision, rest.len && rest.data[0] != '}' ? "," : "");
    return buffer_append_slice(out, rest);
}

int api_stored_stamp(void *userdata, const struct store_write *write, uint64_t revision, struct buffer *out) {
    (void)userdata;
    return api_stored_stamp_value(write->value, revision, out);
}

struct slice api_stored_metadata(struct slice value) {
    ptrdiff_t at = slice_find(value, SLICE(METADATA));
    if (at < 0)
        return SLICE("{}");
    struct slice rest = slice_from(value, (size_t)at + sizeof METADATA - 2);
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < rest.len; i++) {
        char byte = rest.data[i];
        if (in_string) {
            if (byte == '\\')
                i++;
            else if (byte == '"')
                in_string = false;
        } else if (byte == '"') {
            in_string = true;
        } else if (byte == '{') {
            depth++;
        } else if (byte == '}' && --depth == 0) {
            return slice_head(rest, i + 1);
        }
    }
    return SLICE("{}");
}

static void cache_free(void *cache) {
    kube_object_unref(cache);
}

struct kube_object *api_decode(struct store_object *stored) {
    if (stored->cache)
        return stored->cache;
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    if (kube_decode_json(NULL, stored->value, KUBE_LENIENT, &object, &diag))
        return NULL;
    stored->cache = object;
    stored->cache_free = cache_free;
    return object;
}

struct kube_object *api_stored_get(struct api *api, const struct kube_kind *kind, const char *namespace, const char *name) {
    CLEANUP(store_object_unrefp)
    struct store_object *stored = store_get_newest(api->store, api_kind_slice(kind), slice_of(kind->namespaced ? namespace : ""), slice_of(name));
    struct kube_object *object = stored ? api_decode(stored) : NULL;
    return object ? kube_object_ref(object) : NULL;
}

struct kube_object *api_get(struct api *api, const struct kube_kind *kind, const char *namespace, const char *name) {
    return api_stored_get(api, kind, namespace, name);
}

void api_stored_set_cache(struct api *api, struct kube_object *object) {
    const struct kube_object_meta *metadata = object->metadata;
    CLEANUP(store_object_unrefp)
    struct store_object *stored = store_get_newest(api->store, api_kind_slice(object->kind), slice_of(metadata->namespace), slice_of(metadata->name));
    if (!stored || stored->cache)
        return;
    stored->cache = kube_object_ref(object);
    stored->cache_free = cache_free;
}

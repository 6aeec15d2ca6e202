/* Objects as the store holds them: their JSON, with metadata.resourceVersion as the first member of metadata. The version is known only when the
 * store accepts the write, so the value that is handed in carries none and the store's stamp puts it in. That place is fixed, so that stamping again
 * (a delete's last state) is a splice.
 *
 * Invariant: every value begins with `{"kind":…,"apiVersion":…,"metadata":{` or has the first two in the other order; both hold no braces. So the
 * first
 * `"metadata":{` is the object's own.
 *
 * The decoded form hangs on the stored version (store_object.cache is a struct kube_object), so that selectors, controllers and patches decode each
 * version once.
 * It is dropped when the version has been replaced, or soon for kinds that are rarely looked at, COLD_MAX at a time. */
#include "api/api_priv.h"

#include <malloc.h>
#include <stdio.h>

#define METADATA "\"metadata\":{"
#define COLD_MAX 64        /* decoded forms that are dropped together */
#define COLD_BYTES_MAX MIB /* as JSON; decoded that may be forty times as much */
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

/* --- what is decoded and not needed any more --- */

/* Kinds that nobody looks at twice: their decoded form is dropped soon. */
static bool is_cold(const struct kube_kind *kind) {
    return kind == &kube_kind_event || kind == &kube_kind_config_map || kind == &kube_kind_secret || kind == &kube_kind_lease ||
           kind == &kube_kind_custom_resource_definition || kind->custom;
}

static bool is_full(const struct api *api) {
    return api->cold.count >= COLD_MAX || api->cold_bytes >= COLD_BYTES_MAX;
}

static void drop_all(struct api *api) {
    for (size_t i = 0; i < api->cold.count; i++) {
        struct store_object *stored = api->cold.items[i];
        if (stored->cache)
            cache_free(stored->cache);
        stored->cache = NULL;
        store_object_unref(stored);
    }
    VECTOR_DEINIT(&api->cold);
    if (api->cold_bytes >= COLD_BYTES_MAX)
        malloc_trim(0);
    api->cold_bytes = 0;
}

static void on_drop(void *userdata) {
    drop_all(userdata);
}

/* In a step of its own: whoever borrowed a decoded form in this turn is done by then. */
static void drop_later(struct api *api, struct store_object *stored) {
    struct store_object *reference = store_object_ref(stored);
    if (VECTOR_PUSH(&api->cold, reference))
        store_object_unref(reference); /* stays decoded: costs memory, harms nobody */
    else
        api->cold_bytes += stored->value.len;
    if (is_full(api))
        loop_defer_schedule(&api->drop);
}

/* Versions that were replaced live on in the store's ring of changes; decoded they would cost several times the ring's limit. */
static bool on_change(void *userdata, enum store_change change, struct store_object *object, struct store_object *previous) {
    if (previous)
        drop_later(userdata, previous);
    if (change == STORE_DELETED)
        drop_later(userdata, object);
    return true;
}

static void follow(struct api *api);

static void on_lost(void *userdata) {
    struct api *api = userdata; /* what was missed stays decoded until the ring drops it */
    store_watch_free(api->history);
    api->history = NULL;
    follow(api); /* api->drop may be scheduled: it stays as it is */
}

static void follow(struct api *api) {
    static const struct store_watch_callbacks callbacks = {.on_change = on_change, .on_lost = on_lost};
    struct slice any = {NULL, 0};
    if (store_watch_new(api->store, any, any, store_revision(api->store), &callbacks, api, &api->history))
        api->history = NULL;
}

void api_cache_start(struct api *api) {
    loop_defer_init(&api->drop, api->loop, on_drop, api);
    follow(api);
}

void api_cache_end(struct api *api) {
    store_watch_free(api->history);
    loop_defer_cancel(&api->drop);
    drop_all(api);
}

/* --- custom kinds --- */

/* The storage version of the kind of that key, "widgets.example.com"; NULL for built-in kinds, and for those whose definition is gone. */
static const struct kube_kind *custom_kind_of(struct slice key) {
    struct slice group = key, none = {NULL, 0}, plural = slice_cut(&group, '.');
    return kube_custom_version(group, none, plural);
}

/* By the schema of the version it was written in, as far as that is still known; then it counts as one of the storage version. */
static int decode_custom(const struct kube_kind *storage, struct slice value, struct kube_object **ret) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    const struct json_options options = {.allow_duplicates = true};
    struct tree *tree = NULL;
    int r = arena ? json_parse(arena, value, &options, &tree, NULL) : -ENOMEM;
    if (r)
        return r;
    struct slice version = slice_of(tree_text_or(tree_find(tree, "apiVersion"), ""));
    slice_cut(&version, '/');
    const struct kube_kind *kind = kube_custom_version(slice_of(storage->group), version, slice_of(storage->plural));
    if (tree_set_text(arena, tree, "apiVersion", kube_kind_api_version(kind)) || tree_set_text(arena, tree, "kind", kind->kind))
        return -ENOMEM;
    CLEANUP(kube_object_unrefp) struct kube_object *object = NULL;
    r = kube_decode_tree(kind, tree, KUBE_LENIENT, &object, NULL);
    if (!r)
        r = kube_default(object);
    if (r)
        return r;
    kube_custom_rename(object, storage);
    *ret = TAKE(object);
    return 0;
}

int api_stored_put_version(const struct kube_kind *kind, struct slice value, struct buffer *out) {
    struct slice mark = SLICE("\"apiVersion\":\"");
    ptrdiff_t at = kind->custom ? slice_find(value, mark) : -1;
    if (at < 0)
        return buffer_append_slice(out, value);
    struct slice rest = slice_from(value, (size_t)at + mark.len);
    buffer_append_slice(out, slice_head(value, (size_t)at + mark.len));
    slice_cut(&rest, '"');
    buffer_printf(out, "%s\"", kube_kind_api_version(kind));
    return buffer_append_slice(out, rest);
}

int api_stored_put(struct api *api, const struct kube_kind *kind, struct store_object *stored, struct buffer *out) {
    if (!kind->custom || stored->revision > kube_custom_revision(kind))
        return api_stored_put_version(kind, stored->value, out);
    const struct kube_object *object = api_decode(api, stored);
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(16 * MIB);
    if (!object || kube_encode_json(object, &json))
        return api_stored_put_version(kind, stored->value, out);
    return api_stored_put_version(kind, buffer_slice(&json), out);
}

void api_cache_drop(struct api *api) {
    drop_all(api);
}

struct kube_object *api_decode(struct api *api, struct store_object *stored) {
    if (stored->cache)
        return stored->cache;
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    const struct kube_kind *custom = custom_kind_of(stored->kind);
    int r = custom ? decode_custom(custom, stored->value, &object) : kube_decode_json(NULL, stored->value, KUBE_LENIENT, &object, &diag);
    if (r) {
        api->decode_failures += r == -ENOMEM;
        return NULL;
    }
    stored->cache = object;
    stored->cache_free = cache_free;
    if (is_cold(object->kind))
        drop_later(api, stored);
    return object;
}

void api_decode_trim(struct api *api) {
    if (is_full(api))
        drop_all(api);
}

uint64_t api_decode_failures(const struct api *api) {
    return api->decode_failures;
}

struct kube_object *api_stored_get(struct api *api, const struct kube_kind *kind, const char *namespace, const char *name) {
    CLEANUP(store_object_unrefp)
    struct store_object *stored = store_get_newest(api->store, api_kind_slice(kind), slice_of(kind->namespaced ? namespace : ""), slice_of(name));
    struct kube_object *object = stored ? api_decode(api, stored) : NULL;
    struct kube_object *view = NULL;
    if (object && kube_convert(object, kind, &view))
        api->decode_failures++;
    return view;
}

int api_stored_find(struct api *api, const struct kube_kind *kind, const char *namespace, const char *name, struct kube_object **ret,
                    struct api_failure *failure) {
    uint64_t blind = api->decode_failures;
    *ret = api_stored_get(api, kind, namespace, name);
    if (*ret)
        return 0;
    return api->decode_failures != blind ? api_fail_no_memory(failure) : api_fail_not_found(failure, kind, name);
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
    if (is_cold(object->kind))
        drop_later(api, stored);
}

/* The one way into the store, for HTTP and for controllers alike.
 *
 *   create:  name → metadata → defaults → admission and validation → store
 *   update:  newest version → versions agree? → carry over what the writer may not change → defaults → admission → validation → changed at all? →
 * store delete:  preconditions → marked only (grace period, finalizers, propagation) or removed → store
 *
 * 1. An update starts from the newest accepted version, committed or not, and the store is asked to check that very revision; all of it happens in
 * one turn of the loop, so a read-modify-write inside the process (a patch) never conflicts.
 * 2. Nobody is told of success before the store's callback: an acknowledged write is durable.
 * 3. An update that changes nothing writes nothing and answers with the version there is; unless that one is not yet durable, then it is written
 * again.
 * 4. An object that is being deleted disappears with the update that takes its last finalizer. */
#include "api/admission_priv.h"
#include "api/managed.h"

#include "sys/sys.h"

#include <stdio.h>

#define PLATFORM_MANAGER "kube-controller-manager" /* what the controllers of this process are called as field managers, as upstream */
#define NAME_SUFFIX_LEN 5
#define NAME_STEM_MAX 58 /* generateName is cut so that a label's 63 characters are kept */
#define NAME_TRIES 8

struct pending {
    struct list node;           /* among api->deferred; otherwise alone */
    struct api *api;            /* a reference */
    struct kube_object *object; /* the new version; of a delete the last one */
    struct kube_object *old;    /* of an update that is written: the version before */
    bool removed;
    write_done_fn *done;
    void *userdata;
    struct loop_defer defer; /* for answers without a write */
    struct buffer json;      /* of such an answer */
};

static void pending_free(struct pending *pending) {
    list_remove(&pending->node);
    api_unref(pending->api);
    kube_object_unref(pending->object);
    kube_object_unref(pending->old);
    buffer_deinit(&pending->json);
    free(pending);
}

/* The service by which pods find the API comes back. */
static void note_removed(struct api *api, const struct kube_object *object) {
    const struct kube_object_meta *metadata = object->metadata;
    if (object->kind == &kube_kind_service)
        api_numbers_note(api, object, false);
    if (metadata->namespace && !strcmp(metadata->namespace, "default") && !strcmp(metadata->name, "kubernetes"))
        api_bootstrap(api);
}

static void note_written(const struct pending *pending, const struct store_object *stored) {
    struct api *api = pending->api;
    if (api->closed)
        return;
    if (pending->object->kind == &kube_kind_custom_resource_definition)
        api_crd_note(api, pending->object, stored, pending->removed);
    else if (pending->object->kind->custom && pending->removed)
        api_crd_note_instance_removed(api);
    api_watch_note_write(api);
    if (pending->removed)
        note_removed(api, pending->object);
    else if (pending->old)
        api_numbers_settle(api, pending->object, pending->old, true);
    if (!pending->removed)
        api_events_note_write(api, pending->object->kind);
    api_rbac_note(api, pending->object, pending->removed);
}

static void on_written(void *userdata, int error, struct store_object *stored) {
    struct pending *pending = userdata;
    struct kube_object *object = pending->object;
    struct api_failure failure;
    if (error) {
        api_fail_store(&failure, error, object->kind, object->metadata->name);
        if (!pending->removed)
            api_numbers_settle(pending->api, object, pending->old, false);
        if (pending->done)
            pending->done(pending->userdata, &failure, NULL, (struct slice){NULL, 0});
    } else {
        note_written(pending, stored);
        if (pending->done)
            pending->done(pending->userdata, NULL, object, pending->removed ? (struct slice){NULL, 0} : stored->value);
    }
    pending_free(pending);
}

static void on_deferred(void *userdata) {
    struct pending *pending = userdata;
    if (pending->done)
        pending->done(pending->userdata, NULL, pending->object, pending->removed ? (struct slice){NULL, 0} : buffer_slice(&pending->json));
    pending_free(pending);
}

static struct pending *pending_new(struct api *api, struct kube_object *object, write_done_fn *done, void *userdata) {
    struct pending *pending = calloc(1, sizeof *pending);
    if (!pending)
        return NULL;
    *pending = (struct pending){.api = api, .object = kube_object_ref(object), .done = done, .userdata = userdata, .json = BUFFER_INIT(16 * MIB)};
    api->references++;
    list_init(&pending->node);
    loop_defer_init(&pending->defer, api->loop, on_deferred, pending);
    return pending;
}

static int set_version(struct kube_object *object, uint64_t revision) {
    object->metadata->resource_version = arena_printf(object->arena, "%" PRIu64, revision);
    return object->metadata->resource_version ? 0 : -ENOMEM;
}

/* Answers without writing: a dry run, or nothing to do. */
static int answer_later(struct api *api, struct kube_object *object, uint64_t revision, bool removed, write_done_fn *done, void *userdata,
                        struct api_failure *failure) {
    struct pending *pending = pending_new(api, object, done, userdata);
    if (!pending)
        return api_fail_no_memory(failure);
    pending->removed = removed;
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(16 * MIB);
    int error = kube_encode_json(object, &json);
    if (!error && revision && !object->metadata->resource_version)
        error = api_stored_stamp_value(buffer_slice(&json), revision, &pending->json);
    else if (!error)
        error = buffer_append_slice(&pending->json, buffer_slice(&json));
    if (error) {
        pending_free(pending);
        return api_fail_no_memory(failure);
    }
    list_push(&api->deferred, &pending->node);
    loop_defer_schedule(&pending->defer);
    return 0;
}

void api_writes_end(struct api *api) {
    while (!list_empty(&api->deferred)) {
        struct pending *pending = CONTAINER_OF(api->deferred.next, struct pending, node);
        loop_defer_cancel(&pending->defer);
        on_deferred(pending);
    }
}

/* Hands a version to the store. The object's resource_version must be unset; it is set when accepted. */
static int commit(struct api *api, enum store_verb verb, struct kube_object *object, struct kube_object *old, struct slice json, uint64_t expected,
                  write_done_fn *done, void *userdata, struct api_failure *failure) {
    const struct kube_object_meta *metadata = object->metadata;
    struct pending *pending = pending_new(api, object, done, userdata);
    if (!pending)
        return api_fail_no_memory(failure);
    pending->removed = verb == STORE_DELETE;
    pending->old = old ? kube_object_ref(old) : NULL;
    const struct store_write write = {
        .verb = verb,
        .kind = api_kind_slice(object->kind),
        .namespace = slice_of(object->kind->namespaced ? metadata->namespace : ""),
        .name = slice_of(metadata->name),
        .value = json,
        .expected_revision = expected,
    };
    uint64_t revision = 0;
    int error = store_write(api->store, &write, on_written, pending, &revision);
    if (error) {
        int code = api_fail_store(failure, error, object->kind, metadata->name);
        pending_free(pending);
        return code;
    }
    if (!set_version(object, revision) && verb != STORE_DELETE)
        api_stored_set_cache(api, object);
    return 0;
}

/* The object as it is stored: of custom kinds in the storage version. */
static int to_storage(struct kube_object **object, struct api_failure *failure) {
    const struct kube_kind *storage = kube_custom_storage((*object)->kind);
    if (!storage) /* the definition has gone since the request began */
        return api_fail(failure, 404, "NotFound", "the server could not find the requested resource");
    return api_view_of(storage, object) ? api_fail_no_memory(failure) : 0;
}

static int encode(const struct kube_object *object, struct buffer *out, struct api_failure *failure) {
    return kube_encode_json(object, out) ? api_fail_no_memory(failure) : 0;
}

/* --- create --- */

static int set_name(struct api *api, struct kube_object *object) {
    struct kube_object_meta *metadata = object->metadata;
    if ((metadata->name && *metadata->name) || !metadata->generate_name || !*metadata->generate_name)
        return 0;
    struct slice stem = slice_head(slice_of(metadata->generate_name), NAME_STEM_MAX);
    for (int i = 0; i < NAME_TRIES; i++) {
        char suffix[NAME_SUFFIX_LEN + 1];
        sys_random_name(suffix, NAME_SUFFIX_LEN);
        metadata->name = arena_printf(object->arena, "%.*s%s", SLICE_ARG(stem), suffix);
        if (!metadata->name)
            return -ENOMEM;
        CLEANUP(kube_object_unrefp) struct kube_object *taken = api_stored_get(api, object->kind, metadata->namespace, metadata->name);
        if (!taken)
            return 0;
    }
    return 0; /* the create will say that it exists */
}

static int set_identity(struct api *api, struct kube_object *object) {
    struct kube_object_meta *metadata = object->metadata;
    char uid[37];
    sys_uuid(uid);
    metadata->uid = arena_strdup(object->arena, uid);
    metadata->resource_version = NULL;
    metadata->self_link = NULL;
    metadata->deletion_timestamp.set = false;
    metadata->deletion_grace_period_seconds = NULL;
    metadata->creation_timestamp = (struct kube_time){.ns = loop_wall_ns(api->loop) / 1000000000 * 1000000000, .set = true};
    metadata->generation = object->kind->has_generation ? 1 : 0;
    if (!object->kind->namespaced)
        metadata->namespace = NULL;
    return metadata->uid ? set_name(api, object) : -ENOMEM;
}

/* A status is nothing that a creator may set: it begins empty. But for nodes, which register with it. */
static int without_status(struct kube_object *object) {
    if (!object->kind->has_status || object->kind == &kube_kind_node)
        return 0;
    CLEANUP(kube_object_unrefp) struct kube_object *nothing = kube_object_new(object->kind);
    return nothing ? kube_copy_member(object, nothing, "status") : -ENOMEM;
}

/* Who owns what from now on. */
static int track(struct api *api, struct kube_object *object, const struct kube_object *old, const struct write_options *options) {
    if (options->managed)
        return managed_write(options->managed, object);
    const struct managed_writer writer = {
        .manager = options->manager ? options->manager : PLATFORM_MANAGER,
        .subresource = options->subresource ? options->subresource
                       : options->status    ? "status"
                                            : "",
        .trusted = options->user != NULL,
    };
    return managed_track(object, old, &writer, loop_wall_ns(api->loop));
}

static struct admission admission_of(struct api *api, enum admission_operation operation, const struct write_options *options,
                                     struct api_failure *failure) {
    return (struct admission){
        .api = api,
        .operation = operation,
        .user = options->user,
        .subresource = options->subresource ? options->subresource : "",
        .dry_run = options->dry_run,
        .reader = options->reader,
        .failure = failure,
    };
}

static int prepare_create(struct admission *admission, struct kube_object *object, const struct write_options *options) {
    struct api_failure *failure = admission->failure;
    if ((!options->keep_status && without_status(object)) || set_identity(admission->api, object) || kube_default(object) ||
        track(admission->api, object, NULL, options))
        return api_fail_no_memory(failure);
    admission->object = object;
    int code = api_admit(admission, ADMIT_MUTATE);
    struct diag diag = DIAG_INIT;
    int error = code ? 0 : kube_validate(object, NULL, &diag);
    if (error)
        code = error == -ENOMEM ? api_fail_no_memory(failure) : api_fail_invalid(failure, object->kind, object->metadata->name, &diag);
    if (!code)
        code = api_admit(admission, ADMIT_VALIDATE);
    return code ? code : api_admit(admission, ADMIT_TAKE);
}

/* A dry run ends as if it had been written, and takes nothing. */
static int finish_create(struct admission *admission, write_done_fn *done, void *userdata) {
    struct api *api = admission->api;
    struct kube_object *object = admission->object;
    const struct kube_object_meta *metadata = object->metadata;
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(16 * MIB);
    int code = encode(object, &json, admission->failure);
    if (code || !admission->dry_run)
        return code ? code : commit(api, STORE_CREATE, object, NULL, buffer_slice(&json), STORE_ANY_REVISION, done, userdata, admission->failure);
    CLEANUP(kube_object_unrefp) struct kube_object *there = api_stored_get(api, object->kind, metadata->namespace, metadata->name);
    return there ? api_fail_exists(admission->failure, object->kind, metadata->name)
                 : answer_later(api, object, 0, false, done, userdata, admission->failure);
}

int api_write_create(struct api *api, struct kube_object *given, const struct write_options *options, write_done_fn *done, void *userdata,
                     struct api_failure *failure) {
    CLEANUP(kube_object_unrefp) struct kube_object *object = given;
    if (!given->kind->custom && api_view_of(kube_kind_stored(given->kind), &object))
        return api_fail_no_memory(failure);
    struct admission admission = admission_of(api, ADMIT_CREATE, options, failure);
    int code = prepare_create(&admission, object, options);
    if (!code)
        code = to_storage(&object, failure);
    if (code)
        return code;
    admission.object = object;
    code = finish_create(&admission, done, userdata);
    if (code || options->dry_run) {
        api_numbers_settle(api, object, NULL, false);
        return code;
    }
    api_admitted(&admission);
    if (object->kind == &kube_kind_namespace) /* in the same turn, so that a pod never finds a namespace without its account */
        api_bootstrap_namespace(api, object->metadata->name);
    return 0;
}

/* --- update --- */

static int check_version(const struct kube_object *object, const struct kube_object *old, uint64_t revision, struct api_failure *failure) {
    const struct kube_object_meta *metadata = object->metadata;
    const char *version = metadata->resource_version;
    uint64_t expected = 0;
    if (version && *version && (slice_parse_u64(slice_of(version), UINT64_MAX, &expected) || (expected && expected != revision)))
        return api_fail_conflict(failure, object->kind, metadata->name, NULL);
    if (metadata->uid && *metadata->uid && old->metadata->uid && strcmp(metadata->uid, old->metadata->uid)) {
        char why[200];
        snprintf(why, sizeof why, "Precondition failed: UID in precondition: %s, UID in object meta: %s", metadata->uid, old->metadata->uid);
        return api_fail_conflict(failure, object->kind, metadata->name, why);
    }
    return 0;
}

/* What this door does not open keeps its old state. A status comes with metadata, but not from the controllers of this process, whose copy may be
 * an older one; labels of a deployment are its template's business. */
static int keep_parts(struct kube_object *object, const struct kube_object *old, const struct write_options *options) {
    if (options->whole || !object->kind->has_status)
        return 0;
    if (!options->status)
        return kube_copy_member(object, old, "status");
    int error = kube_copy_spec(object, old);
    if (!error && !options->user)
        error = kube_copy_member(object, old, "metadata");
    else if (!error && object->kind == &kube_kind_deployment)
        error = kube_copy_metadata_member(object, old, "labels");
    return error;
}

static int copy_text_field(struct arena *arena, const char **to, const char *from) {
    *to = from ? arena_strdup(arena, from) : NULL;
    return from && !*to ? -ENOMEM : 0;
}

/* A binding is tracked by nobody. */
static int carry_managed_fields(struct kube_object *object, const struct kube_object *old) {
    struct managed managed = {.arena = object->arena};
    int error = managed_read(old->metadata, &managed);
    return error == -ENOMEM ? error : managed_write(&managed, object);
}

/* What the server owns in metadata. */
static int carry_metadata(struct kube_object *object, const struct kube_object *old, bool whole) {
    struct kube_object_meta *metadata = object->metadata;
    const struct kube_object_meta *before = old->metadata;
    int error = copy_text_field(object->arena, &metadata->uid, before->uid);
    if (!error)
        error = copy_text_field(object->arena, &metadata->generate_name, before->generate_name);
    metadata->creation_timestamp = before->creation_timestamp;
    metadata->generation = before->generation;
    metadata->self_link = NULL;
    metadata->resource_version = NULL;
    if (error || whole)
        return error;
    metadata->deletion_timestamp = before->deletion_timestamp;
    metadata->deletion_grace_period_seconds = NULL;
    if (before->deletion_grace_period_seconds) {
        metadata->deletion_grace_period_seconds = ARENA_NEW(object->arena, int64_t);
        if (!metadata->deletion_grace_period_seconds)
            return -ENOMEM;
        *metadata->deletion_grace_period_seconds = *before->deletion_grace_period_seconds;
    }
    return error;
}

/* Nothing keeps the object any more. */
static bool is_released(const struct kube_object *object) {
    const struct kube_object_meta *metadata = object->metadata;
    if (!metadata->deletion_timestamp.set || metadata->finalizers.count)
        return false;
    if (object->kind == &kube_kind_namespace && object->namespace_->spec.finalizers.count)
        return false;
    return !metadata->deletion_grace_period_seconds || *metadata->deletion_grace_period_seconds == 0;
}

static int check_update(struct kube_object *object, const struct kube_object *old, const struct write_options *options, struct api_failure *failure) {
    struct diag diag = DIAG_INIT;
    bool marked_now = object->metadata->deletion_timestamp.set && !old->metadata->deletion_timestamp.set;
    if (object->kind->has_generation && !options->status && (marked_now || !kube_spec_equal(object, old)))
        object->metadata->generation++;
    bool extended = options->subresource && !strcmp(options->subresource, "ephemeralcontainers"); /* checked already */
    int error = kube_validate(object, options->bind || extended ? NULL : old, &diag);
    if (error == -ENOMEM)
        return api_fail_no_memory(failure);
    return error ? api_fail_invalid(failure, object->kind, object->metadata->name, &diag) : 0;
}

static int prepare_update(struct admission *admission, struct kube_object *object, uint64_t revision, const struct write_options *options) {
    struct api_failure *failure = admission->failure;
    const struct kube_object *old = admission->old;
    int code = check_version(object, old, revision, failure);
    if (!code && !strcmp(admission->subresource, "ephemeralcontainers"))
        code = api_ephemeral_prepare(object, old, failure);
    if (code)
        return code;
    int error = keep_parts(object, old, options);
    if (!error)
        error = carry_metadata(object, old, options->whole);
    if (!error)
        error = kube_default(object);
    if (!error)
        error = options->bind ? carry_managed_fields(object, old) : track(admission->api, object, old, options);
    if (error)
        return api_fail_no_memory(failure);
    admission->object = object;
    code = api_admit(admission, ADMIT_MUTATE);
    if (!code)
        code = check_update(object, old, options, failure);
    if (!code)
        code = api_admit(admission, ADMIT_VALIDATE);
    return code ? code : api_admit(admission, ADMIT_TAKE);
}

/* Writes the prepared version, or finds that there is nothing to write. */
static int commit_update(struct api *api, struct kube_object *object, struct store_object *stored, struct kube_object *old, bool dry_run,
                         write_done_fn *done, void *userdata, struct api_failure *failure) {
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(16 * MIB), same = BUFFER_INIT(16 * MIB);
    int code = encode(object, &json, failure);
    if (code)
        return code;
    bool removed = is_released(object);
    if (dry_run)
        return answer_later(api, object, stored->revision, removed, done, userdata, failure);
    if (removed)
        return commit(api, STORE_DELETE, object, NULL, buffer_slice(&json), stored->revision, done, userdata, failure);
    bool unchanged = !api_stored_stamp_value(buffer_slice(&json), stored->revision, &same) && slice_equal(buffer_slice(&same), stored->value);
    if (unchanged && stored->revision <= store_revision(api->store))
        return answer_later(api, old, stored->revision, false, done, userdata, failure);
    return commit(api, STORE_UPDATE, object, old, buffer_slice(&json), stored->revision, done, userdata, failure);
}

int api_write_update(struct api *api, struct kube_object *given, const struct write_options *options, write_done_fn *done, void *userdata,
                     struct api_failure *failure) {
    CLEANUP(kube_object_unrefp) struct kube_object *object = given;
    if (!given->kind->custom && api_view_of(kube_kind_stored(given->kind), &object))
        return api_fail_no_memory(failure);
    const struct kube_object_meta *metadata = object->metadata;
    const char *name = metadata->name ? metadata->name : "";
    CLEANUP(store_object_unrefp)
    struct store_object *stored =
        store_get_newest(api->store, api_kind_slice(object->kind), slice_of(object->kind->namespaced ? metadata->namespace : ""), slice_of(name));
    if (!stored)
        return api_fail_not_found(failure, object->kind, name);
    struct kube_object *decoded = api_decode(api, stored);
    CLEANUP(kube_object_unrefp) struct kube_object *old = NULL;
    if (!decoded || kube_convert(decoded, object->kind, &old))
        return api_fail(failure, 500, "InternalError", "the stored object %s \"%s\" cannot be read", kube_kind_key(object->kind), name);
    struct admission admission = admission_of(api, ADMIT_UPDATE, options, failure);
    admission.old = old;
    int code = prepare_update(&admission, object, stored->revision, options);
    if (!code)
        code = to_storage(&object, failure);
    if (code)
        return code;
    admission.object = object;
    code = commit_update(api, object, stored, old, options->dry_run, done, userdata, failure);
    if (code || options->dry_run)
        api_numbers_settle(api, object, old, false);
    else
        api_admitted(&admission);
    return code;
}

/* --- delete --- */

static int check_preconditions(const struct kube_object *old, const struct api_delete_options *options, struct api_failure *failure) {
    const struct kube_object_meta *metadata = old->metadata;
    char why[300];
    if (options->uid && *options->uid && metadata->uid && strcmp(options->uid, metadata->uid)) {
        snprintf(why, sizeof why, "Precondition failed: UID in precondition: %s, UID in object meta: %s", options->uid, metadata->uid);
        return api_fail_conflict(failure, old->kind, metadata->name, why);
    }
    const char *version = metadata->resource_version;
    if (options->resource_version && *options->resource_version && version && strcmp(options->resource_version, version)) {
        snprintf(why, sizeof why, "Precondition failed: ResourceVersion in precondition: %.30s, ResourceVersion in object meta: %.30s",
                 options->resource_version, version);
        return api_fail_conflict(failure, old->kind, metadata->name, why);
    }
    return 0;
}

#define GRACE_S_MAX INT32_MAX /* nobody waits longer, and times stay within their range */

/* How long a pod may take to stop; other kinds go at once. */
static int64_t grace_of(const struct kube_object *old, const struct api_delete_options *options) {
    if (old->kind != &kube_kind_pod)
        return 0;
    const struct kube_pod *pod = old->pod;
    const char *phase = pod->status.phase ? pod->status.phase : "";
    if (!pod->spec.node_name || !*pod->spec.node_name || !strcmp(phase, "Succeeded") || !strcmp(phase, "Failed"))
        return 0; /* nothing runs */
    const int64_t *own = pod->spec.termination_grace_period_seconds;
    return MIN(options->grace_seconds >= 0 ? options->grace_seconds : own ? *own : 30, GRACE_S_MAX);
}

static int set_grace(struct kube_object *object, int64_t grace_s, int64_t now_ns) {
    struct kube_object_meta *metadata = object->metadata;
    int64_t *grace = ARENA_NEW(object->arena, int64_t);
    if (!grace)
        return -ENOMEM;
    *grace = grace_s;
    metadata->deletion_grace_period_seconds = grace;
    metadata->deletion_timestamp = (struct kube_time){.ns = (now_ns / 1000000000 + grace_s) * 1000000000, .set = true};
    return 0;
}

static bool has_finalizer(const struct kube_object *object, const char *finalizer) {
    const struct kube_string_list *list = &object->metadata->finalizers;
    for (size_t i = 0; i < list->count; i++)
        if (!strcmp(list->items[i], finalizer))
            return true;
    return false;
}

static int add_finalizer(struct kube_object *object, const char *finalizer) {
    struct kube_string_list *list = &object->metadata->finalizers;
    if (has_finalizer(object, finalizer))
        return 0;
    const char **items = ARENA_ARRAY(object->arena, const char *, list->count + 1);
    if (!items)
        return -ENOMEM;
    if (list->count)
        memcpy(items, list->items, list->count * sizeof *items);
    items[list->count] = finalizer; /* static */
    *list = (struct kube_string_list){items, list->count + 1};
    return 0;
}

/* The finalizer by which the garbage collector is asked to do the propagation. */
static const char *propagation_finalizer(const struct api_delete_options *options) {
    if (options->propagation && !strcmp(options->propagation, "Foreground"))
        return "foregroundDeletion";
    if (options->propagation && !strcmp(options->propagation, "Orphan"))
        return "orphan";
    return NULL;
}

/* A copy of the object marked as being deleted; whether that was its end is_released tells. */
static int mark(struct api *api, struct kube_object *object, const struct kube_object *old, const struct api_delete_options *options) {
    const char *finalizer = propagation_finalizer(options);
    int error = finalizer ? add_finalizer(object, finalizer) : 0;
    int64_t grace_s = grace_of(old, options), now_ns = loop_wall_ns(api->loop);
    const int64_t *granted = old->metadata->deletion_grace_period_seconds;
    bool marked = old->metadata->deletion_timestamp.set;
    if (!error && (!marked || (granted && grace_s < *granted)))
        error = set_grace(object, grace_s, now_ns);
    if (object->kind == &kube_kind_namespace)
        object->namespace_->status.phase = "Terminating";
    if (!error && object->kind == &kube_kind_custom_resource_definition && !marked)
        error = api_crd_mark_deleted(api, object);
    return error;
}

/* What the cluster cannot do without. */
static bool is_protected(const struct kube_object *object) {
    static const char *const names[] = {"default", "kube-system", "kube-public"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (object->kind == &kube_kind_namespace && !strcmp(object->metadata->name, names[i]))
            return true;
    return false;
}

static int delete_found(struct api *api, struct store_object *stored, struct kube_object *old, const struct api_delete_options *options,
                        write_done_fn *done, void *userdata, struct api_failure *failure) {
    CLEANUP(kube_object_unrefp) struct kube_object *object = kube_object_copy(old);
    if (!object || mark(api, object, old, options))
        return api_fail_no_memory(failure);
    object->metadata->resource_version = NULL;
    if (object->metadata->generation && !old->metadata->deletion_timestamp.set)
        object->metadata->generation++;
    return commit_update(api, object, stored, old, options->dry_run, done, userdata, failure);
}

int api_write_delete(struct api *api, const struct kube_kind *kind, const char *namespace, const char *name, const struct api_delete_options *options,
                     write_done_fn *done, void *userdata, struct api_failure *failure) {
    CLEANUP(store_object_unrefp)
    struct store_object *stored = store_get_newest(api->store, api_kind_slice(kind), slice_of(kind->namespaced ? namespace : ""), slice_of(name));
    if (!stored)
        return api_fail_not_found(failure, kind, name);
    struct kube_object *old = api_decode(api, stored);
    if (!old)
        return api_fail(failure, 500, "InternalError", "the stored object %s \"%s\" cannot be read", kube_kind_key(kind), name);
    if (is_protected(old))
        return api_fail_forbidden(failure, kind, name, "this namespace may not be deleted");
    int code = check_preconditions(old, options, failure);
    return code ? code : delete_found(api, stored, old, options, done, userdata, failure);
}

/* --- for controllers --- */

struct inside {
    struct api *api;
    api_done_fn *on_done;
    void *userdata;
};

static void inside_done(void *userdata, const struct api_failure *failure, struct kube_object *object, struct slice json) {
    struct inside *inside = userdata;
    (void)json;
    if (inside->on_done && !inside->api->closed)
        inside->on_done(inside->userdata, failure, object);
    free(inside);
}

static struct inside *inside_new(struct api *api, api_done_fn *on_done, void *userdata) {
    struct inside *inside = malloc(sizeof *inside);
    if (inside)
        *inside = (struct inside){api, on_done, userdata};
    return inside;
}

static int checked(int code, struct inside *inside) {
    if (code)
        free(inside);
    return code;
}

int api_create(struct api *api, struct kube_object *object, api_done_fn *on_done, void *userdata, struct api_failure *failure) {
    static const struct write_options options = {.keep_status = true};
    struct inside *inside = inside_new(api, on_done, userdata);
    return checked(api_write_create(api, object, &options, inside_done, inside, failure), inside);
}

int api_update(struct api *api, struct kube_object *object, api_done_fn *on_done, void *userdata, struct api_failure *failure) {
    static const struct write_options options = {.status = false};
    struct inside *inside = inside_new(api, on_done, userdata);
    return checked(api_write_update(api, object, &options, inside_done, inside, failure), inside);
}

int api_update_status(struct api *api, struct kube_object *object, api_done_fn *on_done, void *userdata, struct api_failure *failure) {
    static const struct write_options options = {.status = true, .subresource = "status"};
    struct inside *inside = inside_new(api, on_done, userdata);
    return checked(api_write_update(api, object, &options, inside_done, inside, failure), inside);
}

int api_bind(struct api *api, struct kube_object *object, api_done_fn *on_done, void *userdata, struct api_failure *failure) {
    static const struct write_options options = {.whole = true, .bind = true, .subresource = "binding"};
    struct inside *inside = inside_new(api, on_done, userdata);
    return checked(api_write_update(api, object, &options, inside_done, inside, failure), inside);
}

int api_delete(struct api *api, const struct kube_kind *kind, const char *namespace, const char *name, const struct api_delete_options *options,
               api_done_fn *on_done, void *userdata, struct api_failure *failure) {
    struct inside *inside = inside_new(api, on_done, userdata);
    return checked(api_write_delete(api, kind, namespace, name, options, inside_done, inside, failure), inside);
}

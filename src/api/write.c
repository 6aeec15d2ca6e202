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
 * 4. An object that is being deleted disappears with the update that takes its last finalizer.
 * 5. When webhooks are to be asked (webhook_ask.c), a write pauses after defaults and our own mutating admission, as a struct judged. What they leave
 * of the object goes through all that follows on the newest state, in one turn, so quotas and addresses are never counted on old numbers. An update
 * or delete is written only upon the version that was judged; when that is no longer the newest, it begins anew (a few times) if the writer did not
 * ask for a version, and is a conflict that says so (api_failure.stale) otherwise. */
#include "api/write_priv.h"
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
    api_webhooks_note(api, pending->object, pending->removed);
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

/* Validation of fields, and what may refuse. */
static int check_create(struct admission *admission) {
    struct diag diag = DIAG_INIT;
    struct kube_object *object = admission->object;
    int error = kube_validate(object, NULL, &diag);
    if (error)
        return error == -ENOMEM ? api_fail_no_memory(admission->failure)
                                : api_fail_invalid(admission->failure, object->kind, object->metadata->name, &diag);
    return api_admit(admission, ADMIT_VALIDATE);
}

/* The object whole, as far as it is ours to complete; also after others have changed it. */
static int settle_create(struct admission *admission, struct kube_object *object, const struct write_options *options) {
    if ((!options->keep_status && without_status(object)) || kube_default(object))
        return api_fail_no_memory(admission->failure);
    admission->object = object;
    return api_admit(admission, ADMIT_MUTATE);
}

static int prepare_create(struct admission *admission, struct kube_object *object, const struct write_options *options) {
    if ((!options->keep_status && without_status(object)) || set_identity(admission->api, object) || kube_default(object) ||
        track(admission->api, object, NULL, options))
        return api_fail_no_memory(admission->failure);
    admission->object = object;
    return api_admit(admission, ADMIT_MUTATE);
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

/* From the prepared object to the store. */
static int complete_create(struct admission *admission, struct kube_object **object, write_done_fn *done, void *userdata) {
    struct api *api = admission->api;
    int code = check_create(admission);
    if (!code)
        code = api_admit(admission, ADMIT_TAKE);
    if (!code)
        code = to_storage(object, admission->failure);
    if (code)
        return code;
    admission->object = *object;
    code = finish_create(admission, done, userdata);
    if (code || admission->dry_run) {
        api_numbers_settle(api, *object, NULL, false);
        return code;
    }
    api_admitted(admission);
    if ((*object)->kind == &kube_kind_namespace) /* in the same turn, so that a pod never finds a namespace without its account */
        api_bootstrap_namespace(api, (*object)->metadata->name);
    return 0;
}

static int settle_created(void *userdata, struct kube_object *object, struct api_failure *failure) {
    const struct judged *judged = userdata;
    struct admission admission = admission_of(judged->api, ADMIT_CREATE, &judged->options, failure);
    return settle_create(&admission, object, &judged->options);
}

static int check_created(void *userdata, struct kube_object *object, struct api_failure *failure) {
    const struct judged *judged = userdata;
    struct admission admission = admission_of(judged->api, ADMIT_CREATE, &judged->options, failure);
    admission.object = object;
    return check_create(&admission);
}

static void on_create_judged(void *userdata, const struct api_failure *refused, struct kube_object *object) {
    CLEANUP(judged_freep) struct judged *judged = userdata;
    struct api_failure failure;
    if (refused) {
        judged_refuse(judged, refused);
        return;
    }
    struct admission admission = admission_of(judged->api, ADMIT_CREATE, &judged->options, &failure);
    judged_take(judged, object);
    int code = settle_create(&admission, judged->object, &judged->options);
    if (!code)
        code = complete_create(&admission, &judged->object, judged->done, judged->userdata);
    if (code)
        judged_refuse(judged, &failure);
}

int api_write_create(struct api *api, struct kube_object *given, const struct write_options *options, write_done_fn *done, void *userdata,
                     struct api_failure *failure) {
    CLEANUP(kube_object_unrefp) struct kube_object *object = given;
    const struct attempt attempt = {api, given->kind, options, done, userdata, 0};
    if (!given->kind->custom && api_view_of(kube_kind_stored(given->kind), &object))
        return api_fail_no_memory(failure);
    struct admission admission = admission_of(api, ADMIT_CREATE, options, failure);
    int code = prepare_create(&admission, object, options);
    if (!code && needs_asking(&attempt)) {
        const struct question_to question = {ADMIT_CREATE, settle_created, check_created, on_create_judged};
        code = judge(&attempt, &question, judged_new(&attempt, object, NULL), failure);
    }
    if (code)
        return code == WEBHOOKS_ASKED ? 0 : code;
    return complete_create(&admission, &object, done, userdata);
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
    if (object->kind->has_generation && !options->status && !options->bind && (marked_now || !kube_spec_equal(object, old)))
        object->metadata->generation++;
    bool extended = options->subresource && !strcmp(options->subresource, "ephemeralcontainers"); /* checked already */
    bool resized = options->subresource && !strcmp(options->subresource, "resize");
    int error = resized ? kube_validate_resize(object, old, &diag) : kube_validate(object, options->bind || extended ? object : old, &diag);
    if (error == -ENOMEM)
        return api_fail_no_memory(failure);
    return error ? api_fail_invalid(failure, object->kind, object->metadata->name, &diag) : 0;
}

/* The new version whole, as far as it is ours to complete; also after others have changed it. */
static int complete_parts(struct admission *admission, struct kube_object *object, const struct write_options *options) {
    const struct kube_object *old = admission->old;
    int error = keep_parts(object, old, options);
    if (!error)
        error = carry_metadata(object, old, options->whole);
    if (!error)
        error = kube_default(object);
    return error ? api_fail_no_memory(admission->failure) : 0;
}

/* Doors that open a part of the spec only. */
static int prepare_part(const struct admission *admission, struct kube_object *object) {
    if (!strcmp(admission->subresource, "ephemeralcontainers"))
        return api_ephemeral_prepare(object, admission->old, admission->failure);
    return strcmp(admission->subresource, "resize") ? 0 : api_resize_prepare(object, admission->old, admission->failure);
}

static int prepare_update(struct admission *admission, struct kube_object *object, uint64_t revision, const struct write_options *options) {
    struct api_failure *failure = admission->failure;
    const struct kube_object *old = admission->old;
    int code = check_version(object, old, revision, failure);
    if (!code)
        code = prepare_part(admission, object);
    if (!code)
        code = complete_parts(admission, object, options);
    if (!code && (options->bind ? carry_managed_fields(object, old) : track(admission->api, object, old, options)))
        code = api_fail_no_memory(failure);
    admission->object = object;
    return code ? code : api_admit(admission, ADMIT_MUTATE);
}

static int settle_update(struct admission *admission, struct kube_object *object, const struct write_options *options) {
    CLEANUP(kube_object_unrefp) struct kube_object *before = kube_object_copy(object);
    if (!before)
        return api_fail_no_memory(admission->failure);
    int code = prepare_part(admission, object);
    if (!code)
        code = complete_parts(admission, object, options);
    if (!code && kube_copy_metadata_member(object, before, "managedFields"))
        code = api_fail_no_memory(admission->failure);
    admission->object = object;
    return code ? code : api_admit(admission, ADMIT_MUTATE);
}

int api_commit_update(struct api *api, struct kube_object *object, struct store_object *stored, struct kube_object *old, bool dry_run,
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

/* From the prepared version to the store. */
static int complete_update(struct admission *admission, const struct attempt *attempt, struct kube_object **object, struct store_object *stored,
                           struct kube_object *old) {
    struct api *api = attempt->api;
    const struct write_options *options = attempt->options;
    struct api_failure *failure = admission->failure;
    int code = check_update(*object, old, options, failure);
    if (!code)
        code = api_admit(admission, ADMIT_VALIDATE);
    if (!code)
        code = api_admit(admission, ADMIT_TAKE);
    if (!code)
        code = to_storage(object, failure);
    if (code)
        return code;
    admission->object = *object;
    code = api_commit_update(api, *object, stored, old, options->dry_run, attempt->done, attempt->userdata, failure);
    if (code || options->dry_run)
        api_numbers_settle(api, *object, old, false);
    else
        api_admitted(admission);
    return code;
}

static struct admission admission_of_judged(const struct judged *judged, struct kube_object *object, struct api_failure *failure) {
    struct admission admission = admission_of(judged->api, ADMIT_UPDATE, &judged->options, failure);
    admission.object = object;
    admission.old = judged->old;
    return admission;
}

static int settle_updated(void *userdata, struct kube_object *object, struct api_failure *failure) {
    const struct judged *judged = userdata;
    struct admission admission = admission_of_judged(judged, object, failure);
    return settle_update(&admission, object, &judged->options);
}

static int check_updated(void *userdata, struct kube_object *object, struct api_failure *failure) {
    const struct judged *judged = userdata;
    struct admission admission = admission_of_judged(judged, object, failure);
    int code = check_update(object, judged->old, &judged->options, failure);
    return code ? code : api_admit(&admission, ADMIT_VALIDATE);
}

static struct store_object *newest(struct api *api, const struct kube_object *object) {
    const struct kube_object_meta *metadata = object->metadata;
    return store_get_newest(api->store, api_kind_slice(object->kind), slice_of(object->kind->namespaced ? metadata->namespace : ""),
                            slice_of(metadata->name ? metadata->name : ""));
}

static int update_attempt(const struct attempt *attempt, struct kube_object *given, struct api_failure *failure);

/* Upon the version that was judged, or from the beginning. */
static int continue_update(struct judged *judged, struct kube_object *object, struct api_failure *failure) {
    const struct attempt attempt = judged_attempt(judged);
    CLEANUP(store_object_unrefp) struct store_object *stored = newest(judged->api, judged->object);
    if (!stored)
        return api_fail_not_found(failure, judged->object->kind, judged->object->metadata->name);
    if (stored->revision != judged->revision && judged->given && judged->tries < WEBHOOK_TRIES)
        return update_attempt(&attempt, TAKE(judged->given), failure);
    if (stored->revision != judged->revision)
        return judged_fail_stale(failure, judged->object);
    judged_take(judged, object);
    struct admission admission = admission_of_judged(judged, judged->object, failure);
    int code = judged->options.bind ? api_admit(&admission, ADMIT_MUTATE) : settle_update(&admission, judged->object, &judged->options);
    return code ? code : complete_update(&admission, &attempt, &judged->object, stored, judged->old);
}

static void on_update_judged(void *userdata, const struct api_failure *refused, struct kube_object *object) {
    CLEANUP(judged_freep) struct judged *judged = userdata;
    struct api_failure failure;
    if (refused)
        judged_refuse(judged, refused);
    else if (continue_update(judged, object, &failure))
        judged_refuse(judged, &failure);
}

/* `given` is the object before it was prepared; NULL: it cannot begin anew. */
static int ask_update(const struct attempt *attempt, struct kube_object *object, struct kube_object *old, struct kube_object *given,
                      uint64_t revision, struct api_failure *failure) {
    const struct question_to question = {ADMIT_UPDATE, settle_updated, check_updated, on_update_judged};
    struct judged *judged = judged_new(attempt, object, old);
    if (judged) {
        judged->given = given ? kube_object_ref(given) : NULL;
        judged->revision = revision;
    }
    return judge(attempt, &question, judged, failure);
}

/* Takes `given` over: of custom kinds in any version, of others in the stored form. */
static int update_attempt(const struct attempt *attempt, struct kube_object *given, struct api_failure *failure) {
    struct api *api = attempt->api;
    const struct write_options *options = attempt->options;
    CLEANUP(kube_object_unrefp) struct kube_object *object = given, *old = NULL, *again = NULL;
    const char *name = object->metadata->name ? object->metadata->name : "", *version = object->metadata->resource_version;
    CLEANUP(store_object_unrefp) struct store_object *stored = newest(api, object);
    if (!stored)
        return api_fail_not_found(failure, object->kind, name);
    struct kube_object *decoded = api_decode(api, stored);
    if (!decoded || kube_convert(decoded, object->kind, &old))
        return api_fail(failure, 500, "InternalError", "the stored object %s \"%s\" cannot be read", kube_kind_key(object->kind), name);
    bool asks = needs_asking(attempt);
    if (asks && !(version && *version) && !options->managed && !options->bind && !(again = kube_object_copy(object)))
        return api_fail_no_memory(failure);
    struct admission admission = admission_of(api, ADMIT_UPDATE, options, failure);
    admission.old = old;
    int code = prepare_update(&admission, object, stored->revision, options);
    if (!code && asks)
        code = ask_update(attempt, object, old, again, stored->revision, failure);
    if (code)
        return code == WEBHOOKS_ASKED ? 0 : code;
    return complete_update(&admission, attempt, &object, stored, old);
}

int api_write_update(struct api *api, struct kube_object *given, const struct write_options *options, write_done_fn *done, void *userdata,
                     struct api_failure *failure) {
    CLEANUP(kube_object_unrefp) struct kube_object *object = given;
    const struct attempt attempt = {api, given->kind, options, done, userdata, 0};
    if (!given->kind->custom && api_view_of(kube_kind_stored(given->kind), &object))
        return api_fail_no_memory(failure);
    return update_attempt(&attempt, TAKE(object), failure);
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

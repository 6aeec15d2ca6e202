/* Deleting: preconditions, what may not be deleted, the mark (grace period, finalizers, propagation) or the end. */
#include "api/write_priv.h"

#include <stdio.h>

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
    int error = finalizer ? kube_strings_add(&object->metadata->finalizers, object->arena, finalizer) : 0;
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
    return api_commit_update(api, object, stored, old, options->dry_run, done, userdata, failure);
}

struct deletion {
    const char *namespace, *name;
    const struct api_delete_options *options;
    struct store_object *stored; /* to be found, unref */
    struct kube_object *old;     /* borrowed */
};

/* What is to be deleted, and may be. */
static int find_deletion(const struct attempt *attempt, struct deletion *deletion, struct api_failure *failure) {
    const struct kube_kind *kind = attempt->kind;
    struct store_object *stored = deletion->stored =
        store_get_newest(attempt->api->store, api_kind_slice(kind), slice_of(kind->namespaced ? deletion->namespace : ""), slice_of(deletion->name));
    if (!stored)
        return api_fail_not_found(failure, kind, deletion->name);
    struct kube_object *old = deletion->old = api_decode(attempt->api, stored);
    if (!old)
        return api_fail(failure, 500, "InternalError", "the stored object %s \"%s\" cannot be read", kube_kind_key(kind), deletion->name);
    if (is_protected(old))
        return api_fail_forbidden(failure, kind, deletion->name, "this namespace may not be deleted");
    return check_preconditions(old, deletion->options, failure);
}

static int delete_attempt(const struct attempt *attempt, const char *namespace, const char *name, const struct api_delete_options *options,
                          struct api_failure *failure);

static int continue_delete(struct judged *judged, struct api_failure *failure) {
    const struct attempt attempt = judged_attempt(judged);
    struct deletion deletion = {judged->namespace, judged->name, &judged->deleting, NULL, NULL};
    int code = find_deletion(&attempt, &deletion, failure);
    CLEANUP(store_object_unrefp) struct store_object *stored = deletion.stored;
    if (code)
        return code;
    if (stored->revision == judged->revision)
        return delete_found(judged->api, stored, deletion.old, &judged->deleting, judged->done, judged->userdata, failure);
    if (judged->tries >= WEBHOOK_TRIES)
        return judged_fail_stale(failure, deletion.old);
    return delete_attempt(&attempt, judged->namespace, judged->name, &judged->deleting, failure);
}

static void on_delete_judged(void *userdata, const struct api_failure *refused, struct kube_object *object) {
    CLEANUP(judged_freep) struct judged *judged = userdata;
    struct api_failure failure;
    (void)object;
    if (refused)
        judged_refuse(judged, refused);
    else if (continue_delete(judged, &failure))
        judged_refuse(judged, &failure);
}

static const char *keep_text(struct judged *judged, const char *text, bool *complete) {
    const char *copy = text ? arena_strdup(judged->arena, text) : NULL;
    *complete = *complete && (!text || copy);
    return copy;
}

static int ask_delete(const struct attempt *attempt, const struct deletion *deletion, struct api_failure *failure) {
    static const struct question_to question = {ADMIT_DELETE, NULL, NULL, on_delete_judged};
    CLEANUP(judged_freep) struct judged *judged = judged_new(attempt, NULL, deletion->old);
    bool complete = judged != NULL;
    if (complete) {
        judged->revision = deletion->stored->revision;
        judged->deleting = *deletion->options;
        judged->deleting.uid = keep_text(judged, deletion->options->uid, &complete);
        judged->deleting.resource_version = keep_text(judged, deletion->options->resource_version, &complete);
        judged->deleting.propagation = keep_text(judged, deletion->options->propagation, &complete);
        judged->namespace = keep_text(judged, deletion->namespace, &complete);
        judged->name = keep_text(judged, deletion->name, &complete);
    }
    return complete ? judge(attempt, &question, TAKE(judged), failure) : api_fail_no_memory(failure);
}

static int delete_attempt(const struct attempt *attempt, const char *namespace, const char *name, const struct api_delete_options *options,
                          struct api_failure *failure) {
    struct deletion deletion = {namespace, name, options, NULL, NULL};
    int code = find_deletion(attempt, &deletion, failure);
    CLEANUP(store_object_unrefp) struct store_object *stored = deletion.stored;
    if (!code && needs_asking(attempt))
        code = ask_delete(attempt, &deletion, failure);
    if (code)
        return code == WEBHOOKS_ASKED ? 0 : code;
    return delete_found(attempt->api, stored, deletion.old, options, attempt->done, attempt->userdata, failure);
}

int api_write_delete(struct api *api, const struct kube_kind *kind, const char *namespace, const char *name, const struct api_delete_options *options,
                     write_done_fn *done, void *userdata, struct api_failure *failure) {
    const struct write_options writing = {.user = options->user, .reader = options->reader, .dry_run = options->dry_run, .unasked = options->unasked};
    const struct attempt attempt = {api, kind, &writing, done, userdata, 0};
    return delete_attempt(&attempt, namespace, name, options, failure);
}

/* Small facts about objects: pods above all. */
#include "control/control_priv.h"

int32_t *int32_new(struct arena *arena, int32_t value) {
    int32_t *place = ARENA_NEW(arena, int32_t);
    if (place)
        *place = value;
    return place;
}

int64_t *int64_new(struct arena *arena, int64_t value) {
    int64_t *place = ARENA_NEW(arena, int64_t);
    if (place)
        *place = value;
    return place;
}

bool *bool_new(struct arena *arena, bool value) {
    bool *place = ARENA_NEW(arena, bool);
    if (place)
        *place = value;
    return place;
}

uint64_t text_hash(uint64_t hash, const char *text) {
    for (; text && *text; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(1099511628211);
    return (hash ^ 0xff) * UINT64_C(1099511628211);
}

void safe_letters(uint64_t bits, char *ret, size_t len) {
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
    for (size_t i = 0; i < len; i++) {
        ret[i] = alphabet[bits % (sizeof alphabet - 1)];
        bits /= sizeof alphabet - 1;
    }
    ret[len] = 0;
}

bool is_deleting(const struct kube_object *object) {
    return object->metadata->deletion_timestamp.set;
}

bool pod_is_finished(const struct kube_pod *pod) {
    return text_is(pod->status.phase, "Succeeded") || text_is(pod->status.phase, "Failed");
}

bool pod_is_active(const struct kube_object *object) {
    return !is_deleting(object) && !pod_is_finished(object->pod);
}

const struct kube_pod_condition *pod_condition(const struct kube_pod *pod, const char *type) {
    for (size_t i = 0; i < pod->status.conditions.count; i++)
        if (text_is(pod->status.conditions.items[i].type, type))
            return &pod->status.conditions.items[i];
    return NULL;
}

int pod_put_condition(struct context *context, struct kube_object *copy, const char *type, const char *status, const char *reason,
                      const char *message) {
    struct kube_pod_condition_array *list = &copy->pod->status.conditions;
    struct kube_pod_condition *items = ARENA_ARRAY(copy->arena, struct kube_pod_condition, list->count + 1);
    if (!items)
        return -ENOMEM;
    size_t at = list->count;
    for (size_t i = 0; i < list->count; i++) {
        items[i] = list->items[i];
        if (text_is(items[i].type, type))
            at = i;
    }
    struct kube_time since = at < list->count && text_is(items[at].status, status) ? items[at].last_transition_time : context_now(context);
    items[at] = (struct kube_pod_condition){.type = type,
                                            .status = status,
                                            .reason = reason,
                                            .message = message ? arena_strdup(copy->arena, message) : NULL,
                                            .observed_generation = copy->metadata->generation,
                                            .last_transition_time = since};
    list->items = items;
    list->count = MAX(list->count, at + 1);
    return 0;
}

bool pod_is_available(const struct kube_pod *pod, int32_t min_ready_seconds, int64_t wall_ns, int64_t *ret_wait_ms) {
    if (!kube_pod_is_ready(pod))
        return false;
    const struct kube_pod_condition *ready = pod_condition(pod, "Ready");
    if (min_ready_seconds == 0)
        return true;
    if (!ready || !ready->last_transition_time.set)
        return false;
    int64_t left_ns = ready->last_transition_time.ns + min_ready_seconds * NS_PER_S - wall_ns;
    if (left_ns > 0 && ret_wait_ms)
        *ret_wait_ms = left_ns / NS_PER_MS + 1;
    return left_ns <= 0;
}

struct kube_object *pod_from_template(struct context *context, const struct kube_pod_template_spec *template, const struct kube_object *owner) {
    struct kube_object *object = kube_object_new(&kube_kind_pod);
    const char *prefix = arena_printf(context->arena, "%s-", owner->metadata->name);
    const char *name = prefix ? context_random_name(context, prefix) : NULL;
    if (!object || !name)
        goto fail;
    struct kube_pod *pod = object->pod;
    struct kube_object_meta from = {
        .labels = template->metadata.labels, .annotations = template->metadata.annotations, .finalizers = template->metadata.finalizers};
    pod->metadata.name = arena_strdup(object->arena, name);
    pod->metadata.generate_name = arena_strdup(object->arena, prefix);
    pod->metadata.namespace = arena_strdup(object->arena, owner->metadata->namespace);
    struct kube_object_meta copied = {.name = NULL};
    if (kube_copy(&kube_object_meta_type, object->arena, &from, &copied) < 0 ||
        kube_copy(&kube_pod_spec_type, object->arena, &template->spec, &pod->spec) < 0 || !pod->metadata.name || !pod->metadata.namespace)
        goto fail;
    pod->metadata.labels = copied.labels;
    pod->metadata.annotations = copied.annotations;
    pod->metadata.finalizers = copied.finalizers;
    if (add_controller_reference(&pod->metadata, object->arena, owner) < 0)
        goto fail;
    return object;
fail:
    kube_object_unref(object);
    context_fail(context);
    return NULL;
}

/* One stored object seen as several kinds: an autoscaler in two versions, an event in two groups, a custom resource in all versions of its
 * definition. The store, defaults, admission, validation and controllers know the stored kind alone; the API converts what comes in and what goes
 * out.
 *
 * Each pair of functions below fills everything but the metadata, which is the same in all views; a pair that needs to keep what one side cannot
 * say puts it into annotations of the other, and takes it out on the way back. Kinds without a pair have the same fields: their tree is read again.
 */
#include "kube/helpers_priv.h"

extern const struct kube_conversion kube_conversion_event;

/* ---- events: core/v1 is stored, events.k8s.io/v1 shown ---- */

static int event_from_stored(const struct kube_object *from, struct kube_object *to) {
    const struct kube_event *event = from->event;
    *to->events_event = (struct kube_events_event){
        .metadata = event->metadata,
        .event_time = event->event_time,
        .reporting_controller = event->reporting_component,
        .reporting_instance = event->reporting_instance,
        .action = event->action,
        .reason = event->reason,
        .regarding = event->involved_object,
        .related = event->related,
        .note = event->message,
        .type = event->type,
        .deprecated_source = event->source,
        .deprecated_first_timestamp = event->first_timestamp,
        .deprecated_last_timestamp = event->last_timestamp,
        .deprecated_count = event->count,
    };
    if (!event->series)
        return 0;
    struct kube_events_event_series *series = to->events_event->series = ARENA_NEW(to->arena, struct kube_events_event_series);
    if (series)
        *series = (struct kube_events_event_series){.count = event->series->count, .last_observed_time = event->series->last_observed_time};
    return series ? 0 : -ENOMEM;
}

static int event_to_stored(const struct kube_object *from, struct kube_object *to) {
    const struct kube_events_event *event = from->events_event;
    *to->event = (struct kube_event){
        .metadata = event->metadata,
        .event_time = event->event_time,
        .reporting_component = event->reporting_controller,
        .reporting_instance = event->reporting_instance,
        .action = event->action,
        .reason = event->reason,
        .involved_object = event->regarding,
        .related = event->related,
        .message = event->note,
        .type = event->type,
        .source = event->deprecated_source,
        .first_timestamp = event->deprecated_first_timestamp,
        .last_timestamp = event->deprecated_last_timestamp,
        .count = event->deprecated_count,
    };
    if (!event->series)
        return 0;
    struct kube_event_series *series = to->event->series = ARENA_NEW(to->arena, struct kube_event_series);
    if (series)
        *series = (struct kube_event_series){.count = event->series->count, .last_observed_time = event->series->last_observed_time};
    return series ? 0 : -ENOMEM;
}

const struct kube_conversion kube_conversion_event = {event_from_stored, event_to_stored};

/* ---- the walk ---- */

static int convert_same(const struct kube_object *from, struct kube_object *to) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    struct tree *tree = arena ? kube_encode_tree(from, arena) : NULL;
    struct diag diag = DIAG_INIT;
    return tree ? kube_decode_part(to->kind->type, tree, to->arena, to->data, &diag) : -ENOMEM;
}

static int convert_step(const struct kube_object *from, const struct kube_kind *kind, struct kube_object **ret) {
    const struct kube_conversion *conversion = kind->stored_as ? kind->conversion : from->kind->conversion;
    CLEANUP(kube_object_unrefp) struct kube_object *to = kube_object_new(kind);
    if (!to)
        return -ENOMEM;
    if (!conversion) {
        int error = convert_same(from, to);
        if (error == 0)
            *ret = TAKE(to);
        return error;
    }
    *to->metadata = *from->metadata; /* borrowed, as all that the pair takes over: the copy below owns */
    int error = kind->stored_as ? conversion->from_stored(from, to) : conversion->to_stored(from, to);
    if (error)
        return error;
    *ret = kube_object_copy(to);
    return *ret ? 0 : -ENOMEM;
}

int kube_convert(struct kube_object *object, const struct kube_kind *to, struct kube_object **ret) {
    if (object->kind == to) {
        *ret = kube_object_ref(object);
        return 0;
    }
    if (to->custom) {
        *ret = kube_custom_convert(object, to);
        return *ret ? 0 : -ENOMEM;
    }
    ASSERT(kube_kind_stored(object->kind) == kube_kind_stored(to));
    if (!object->kind->stored_as || !to->stored_as)
        return convert_step(object, to, ret);
    CLEANUP(kube_object_unrefp) struct kube_object *stored = NULL; /* between two views */
    int error = convert_step(object, to->stored_as, &stored);
    return error ? error : convert_step(stored, to, ret);
}

/* Events live an hour and are at most API_EVENTS_MAX. A sweep runs at start, ten minutes after an event was written, and again as long as there are
 * any; a platform without events has no timer. */
#include "api/api_priv.h"

#define SWEEP_INTERVAL_MS (10 * 60 * 1000)

struct sweep {
    struct api *api;
    int64_t oldest_ns; /* what was last seen before goes */
    VECTOR(struct store_object *) doomed;
};

static int64_t last_seen_ns(const struct kube_object *object) {
    const struct kube_event *event = object->event;
    int64_t seen = object->metadata->creation_timestamp.ns;
    if (event->last_timestamp.set)
        seen = MAX(seen, event->last_timestamp.ns);
    if (event->series && event->series->last_observed_time.set)
        seen = MAX(seen, event->series->last_observed_time.ns);
    return seen;
}

static bool look_at(void *userdata, struct store_object *stored) {
    struct sweep *sweep = userdata;
    const struct kube_object *object = api_decode(sweep->api, stored);
    if (!object || last_seen_ns(object) >= sweep->oldest_ns)
        return true; /* what cannot be decoded for want of memory waits for the next sweep */
    struct store_object *reference = store_object_ref(stored);
    if (VECTOR_PUSH(&sweep->doomed, reference))
        store_object_unref(reference);
    return true;
}

static int by_revision(const void *a, const void *b) {
    const struct store_object *const *left = a, *const *right = b;
    return (*left)->revision < (*right)->revision ? -1 : (*left)->revision > (*right)->revision;
}

static void remove_doomed(struct sweep *sweep, size_t count) {
    if (sweep->doomed.count)
        qsort(sweep->doomed.items, sweep->doomed.count, sizeof *sweep->doomed.items, by_revision);
    for (size_t i = 0; i < sweep->doomed.count; i++) {
        const struct store_object *stored = sweep->doomed.items[i];
        const struct store_write write = {.verb = STORE_DELETE, .kind = stored->kind, .namespace = stored->namespace, .name = stored->name};
        if (i < count)
            store_write(sweep->api->store, &write, NULL, NULL, NULL);
        store_object_unref(sweep->doomed.items[i]);
    }
    VECTOR_DEINIT(&sweep->doomed);
}

static void arm(struct api *api);

static void on_sweep(void *userdata) {
    struct api *api = userdata;
    struct slice none = {NULL, 0};
    struct sweep sweep = {.api = api, .oldest_ns = loop_wall_ns(api->loop) - (int64_t)API_EVENT_LIFETIME_S * 1000000000};
    store_list(api->store, api_kind_slice(&kube_kind_event), none, none, none, look_at, &sweep);
    remove_doomed(&sweep, SIZE_MAX);
    if (store_count(api->store, api_kind_slice(&kube_kind_event)))
        arm(api);
}

static void arm(struct api *api) {
    if (loop_timer_is_set(&api->event_timer))
        return;
    loop_timer_init(&api->event_timer, api->loop, on_sweep, api);
    loop_timer_set(&api->event_timer, SWEEP_INTERVAL_MS);
}

/* Too many: the oldest tenth goes, so that this is rare. */
static void trim(struct api *api) {
    struct slice none = {NULL, 0};
    struct sweep sweep = {.api = api, .oldest_ns = INT64_MAX};
    store_list(api->store, api_kind_slice(&kube_kind_event), none, none, none, look_at, &sweep);
    remove_doomed(&sweep, API_EVENTS_MAX / 10);
}

void api_events_note_write(struct api *api, const struct kube_kind *kind) {
    if (kind != &kube_kind_event)
        return;
    arm(api);
    if (store_count(api->store, api_kind_slice(kind)) > API_EVENTS_MAX)
        trim(api);
}

void api_events_start(struct api *api) {
    if (store_count(api->store, api_kind_slice(&kube_kind_event)))
        on_sweep(api);
}

/* The image of a unit: pulled when the unit starts, tried again with growing pauses. A pull that failed shows as ErrImagePull first and as
 * ImagePullBackOff while it is waited for, as a kubelet's does. */
#include "node/node_priv.h"

#define PULL_FIRST_MS 10000
#define PULL_OURS_FIRST_MS 1000 /* nobody else is bothered, and what is missing may just be being built */
#define PULL_MAX_MS 300000
#define PULL_TELL_MAX_MS 3000 /* until "is being waited for" is told */

static void set_image(struct unit *unit, const struct pulling_result *result) {
    image_unref(unit->image);
    unit->image = image_ref(result->image);
    snprintf(unit->image_id, sizeof unit->image_id, "%s", result->image_id);
}

static bool is_ours(const struct unit *unit) {
    struct slice rest = slice_of(unit->spec->image ? unit->spec->image : ""), host = slice_cut(&rest, '/');
    for (const char *const *own = unit->pod->node->own_hosts; rest.data && *own; own++)
        if (slice_is(host, *own))
            return true;
    return false;
}

static void wait_longer(struct unit *unit) {
    int64_t first_ms = is_ours(unit) ? PULL_OURS_FIRST_MS : PULL_FIRST_MS, *delay_ms = &unit->pull_backoff.delay_ms;
    *delay_ms = *delay_ms ? MIN(*delay_ms * 2, PULL_MAX_MS) : first_ms;
    unit_wake_in(unit, *delay_ms);
    loop_timer_set(&unit->timer, MIN(*delay_ms / 2, PULL_TELL_MAX_MS)); /* to tell; unit_start sets the rest */
    pod_sync_later(unit->pod);
}

static void pull_failed(struct unit *unit, const char *reason, const char *message) {
    bool never = strcmp(reason, "ErrImageNeverPull") == 0;
    if (never)
        event_pod(unit->pod, unit, "Warning", reason, "%s", message);
    else
        event_pod(unit->pod, unit, "Warning", "Failed", "Failed to pull image \"%s\": %s", unit->spec->image, message);
    event_pod(unit->pod, unit, "Warning", "Failed", "Error: %s", reason);
    if (never)
        unit_wait_with(unit, reason, "%s", message);
    else
        unit_wait_with(unit, reason, "failed to pull image \"%s\": %s", unit->spec->image, message);
    wait_longer(unit);
}

void unit_pull_tell_waiting(struct unit *unit) {
    char message[sizeof unit->waiting_message];
    if (strcmp(unit->waiting_reason, "ErrImagePull") != 0)
        return;
    event_pod(unit->pod, unit, "Normal", "BackOff", "Back-off pulling image \"%s\"", unit->spec->image);
    event_pod(unit->pod, unit, "Warning", "Failed", "Error: ImagePullBackOff");
    snprintf(message, sizeof message, "%s", unit->waiting_message);
    unit_wait_with(unit, "ImagePullBackOff", "Back-off pulling image \"%s\": ErrImagePull: %s", unit->spec->image, message);
    pod_sync_later(unit->pod);
}

static void on_pulled(void *userdata, const struct pulling_result *result) {
    struct unit *unit = userdata;
    unit->pull = NULL;
    if (!result->image)
        return pull_failed(unit, result->reason, result->message);
    set_image(unit, result);
    backoff_reset(&unit->pull_backoff);
    unit_create(unit);
}

void unit_pull_cancel(struct unit *unit) {
    pulling_cancel(TAKE(unit->pull));
}

/* It may have failed because somebody removed part of its image. Each look takes time: after the first failure, the second, the fourth, the eighth …
 */
static bool checks_image(const struct unit *unit) {
    int runs = unit->restart_count + unit->has_run;
    return unit->create_delay_ms > 0 || (unit->last.set && unit->last.code != 0 && (runs & (runs - 1)) == 0);
}

void unit_pull(struct unit *unit) {
    struct diag diag = DIAG_INIT;
    unit_pull_cancel(unit); /* the look for the image of a run that was taken over, and has ended since */
    unit->finds_by_id = false;
    const char *image = unit->spec->image ? unit->spec->image : "";
    const struct pulling_options options = {.pod = unit->pod,
                                            .unit = unit,
                                            .image = image,
                                            .policy = unit->spec->image_pull_policy,
                                            .checks = checks_image(unit),
                                            .on_done = on_pulled,
                                            .userdata = unit};
    int r = pulling_start(&options, &unit->pull, &diag);
    if (r == -EINVAL) {
        event_pod(unit->pod, unit, "Warning", "InspectFailed", "Failed to apply default image tag \"%s\": %s", image, diag.message);
        event_pod(unit->pod, unit, "Warning", "Failed", "Error: InvalidImageName");
        unit_wait_with(unit, "InvalidImageName", "Failed to apply default image tag \"%s\": %s", image, diag.message);
        return unit_wake_in(unit, PULL_MAX_MS);
    }
    if (r < 0)
        return unit_wake_in(unit, PULL_OURS_FIRST_MS);
    unit->stage = UNIT_PULLING;
}

/* --- after a restart of the node --- */

static void find(struct unit *unit, const char *image);

static void on_found(void *userdata, const struct pulling_result *result) {
    struct unit *unit = userdata;
    bool by_id = unit->finds_by_id;
    unit->pull = NULL;
    unit->finds_by_id = false;
    if (result->image && !unit->image)
        unit->image = image_ref(result->image);            /* for its stop signal */
    else if (!result->image && by_id && unit->spec->image) /* an ID of an earlier version, of the configuration */
        find(unit, unit->spec->image);
}

static void find(struct unit *unit, const char *image) {
    const struct pulling_options options = {.pod = unit->pod, .unit = unit, .image = image, .quiet = true, .on_done = on_found, .userdata = unit};
    (void)pulling_start(&options, &unit->pull, NULL);
}

void unit_find_image(struct unit *unit) {
    unit->finds_by_id = *unit->image_id != 0;
    find(unit, unit->finds_by_id ? unit->image_id : unit->spec->image ? unit->spec->image : "");
}

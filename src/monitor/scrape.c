/* Scraping: each target has a timer of its own, offset by a hash of its address, so that scrapes spread over the interval and a restart keeps the
 * offsets.
 *
 * A scrape stores its samples under the target's labels (a sample's own label of the same name becomes exported_NAME, as Prometheus does), and `up`,
 * scrape_duration_seconds, scrape_samples_scraped. Series that were in the last scrape and are not in this one end with a stale mark; so do all of
 * them when the target is down or gone. A target that is slower than the timeout, larger than SCRAPE_BYTES_MAX or not parseable is down, and
 * /api/v1/targets says why.
 *
 * Which series belong to a scrape is kept as a mark in the series: target id and generation. */
#include <stdio.h>

#include "monitor/monitor_priv.h"

static void on_timer(void *userdata);

/* --- storing --- */

static uint64_t mark_of(const struct target *target) {
    return (uint64_t)target->id << 32 | target->generation;
}

static int store_sample(struct target *target, const struct tsdb_label *labels, size_t count, int64_t time_ms, double value) {
    struct tsdb *tsdb = target->monitor->tsdb;
    struct tsdb_series *series;
    int error = tsdb_series_get(tsdb, labels, count, &series);
    if (error < 0)
        return error;
    if (tsdb_series_mark(series) >> 32 != target->id) {
        error = VECTOR_PUSH(&target->series, series);
        if (error < 0)
            return error;
        tsdb_series_pin(series);
    }
    tsdb_series_set_mark(series, mark_of(target));
    return tsdb_append(tsdb, series, time_ms, value);
}

/* The sample's labels and the target's. Returns the count, 0 when there are too many. `names` holds the exported_ names. */
static size_t join_labels(const struct target *target, struct slice name, const struct promtext_label *own, size_t own_count, struct arena *arena,
                          struct tsdb_label *out) {
    size_t count = 0;
    out[count++] = (struct tsdb_label){SLICE("__name__"), name};
    if (own_count + target->spec.labels_count + 1 > TSDB_LABELS_MAX)
        return 0;
    for (size_t i = 0; i < target->spec.labels_count; i++)
        out[count++] = target->spec.labels[i];
    for (size_t i = 0; i < own_count; i++) {
        struct tsdb_label label = {own[i].name, own[i].value};
        for (size_t j = 0; j <= target->spec.labels_count; j++)
            if (slice_equal(out[j].name, label.name)) {
                label.name = slice_of(arena_printf(arena, "exported_%.*s", SLICE_ARG(own[i].name)));
                if (!label.name.data)
                    return 0;
            }
        out[count++] = label;
    }
    return count;
}

static void store_own(struct target *target, const char *name, int64_t time_ms, double value) {
    struct tsdb_label labels[TSDB_LABELS_MAX];
    size_t count = join_labels(target, slice_of(name), NULL, 0, NULL, labels);
    store_sample(target, labels, count, time_ms, value); /* no room: counted by the store */
}

/* Ends the series of former scrapes that the last one did not bring. */
static void end_missing(struct target *target, int64_t time_ms) {
    size_t kept = 0;
    for (size_t i = 0; i < target->series.count; i++) {
        struct tsdb_series *series = target->series.items[i];
        if (tsdb_series_mark(series) == mark_of(target)) {
            target->series.items[kept++] = series;
            continue;
        }
        if (tsdb_append(target->monitor->tsdb, series, time_ms, tsdb_stale_value()) == TSDB_E_ORDER)
            tsdb_append(target->monitor->tsdb, series, time_ms + 1, tsdb_stale_value()); /* it has a sample of this very moment */
        if (tsdb_series_mark(series) >> 32 == target->id)
            tsdb_series_set_mark(series, 0);
        tsdb_series_unpin(series);
    }
    target->series.count = kept;
}

/* Reads to the end without storing: a scrape counts as a whole or not at all. */
static int scrape_check(struct promtext *parser, struct slice text, struct diag *diag) {
    struct promtext_sample sample;
    enum promtext_result result;
    size_t count = 0;
    promtext_init(parser, text);
    while ((result = promtext_next(parser, &sample, diag)) == PROMTEXT_SAMPLE)
        if (++count > SCRAPE_SAMPLES_MAX)
            return diag_set(diag, -EINVAL, "more than %d samples", SCRAPE_SAMPLES_MAX);
    return result == PROMTEXT_BAD ? -EINVAL : 0;
}

int scrape_store(struct target *target, struct slice text, int64_t time_ms, struct diag *diag) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(4 * MIB);
    CLEANUP(freep) struct promtext *parser = malloc(sizeof *parser);
    struct promtext_sample sample;
    if (!arena || !parser)
        return diag_set(diag, -ENOMEM, "out of memory");
    int error = scrape_check(parser, text, diag);
    if (error < 0)
        return error;
    promtext_init(parser, text);
    for (target->samples = 0; promtext_next(parser, &sample, diag) == PROMTEXT_SAMPLE; target->samples++) {
        struct tsdb_label labels[TSDB_LABELS_MAX];
        size_t count = join_labels(target, sample.name, sample.labels, sample.labels_count, arena, labels);
        error = count > 0 ? store_sample(target, labels, count, sample.has_timestamp ? sample.timestamp_ms : time_ms, sample.value) : -EINVAL;
        if (error < 0)
            return diag_set(diag, error, "%.*s cannot be stored: %s", SLICE_ARG(sample.name),
                            error == -EINVAL ? "too many or too long labels" : strerror(-error));
    }
    return 0;
}

/* --- one scrape --- */

static void scrape_finish(struct target *target, int error) {
    struct monitor *monitor = target->monitor;
    int64_t time_ms = target->started_ms;
    target->duration_ms = (loop_now_ns(monitor->loop) - target->started_ns) / 1000000;
    target->health = error < 0 ? TARGET_DOWN : TARGET_UP;
    monitor->scrapes++;
    monitor->scrapes_failed += error < 0;
    if (error < 0) {
        target->generation++; /* what a failed scrape brought does not count */
        target->samples = 0;
    } else {
        target->error[0] = 0;
    }
    store_own(target, "up", time_ms, error < 0 ? 0 : 1);
    store_own(target, "scrape_duration_seconds", time_ms, (double)(loop_now_ns(monitor->loop) - target->started_ns) / 1e9);
    store_own(target, "scrape_samples_scraped", time_ms, (double)target->samples);
    end_missing(target, time_ms);
}

static void on_answer(void *userdata, const struct http_answer *answer) {
    struct target *target = userdata;
    target->request = NULL;
    struct diag diag = DIAG_INIT;
    int error = answer->error;
    if (error < 0)
        diag_set(&diag, error, "%s", error == -EMSGSIZE ? "the answer is too large" : strerror(-error));
    else if (answer->status != 200)
        error = diag_set(&diag, -EIO, "server returned HTTP status %d", answer->status);
    else
        error = scrape_store(target, answer->body, target->started_ms, &diag);
    if (error < 0)
        diag_format(&diag, target->error, sizeof target->error);
    scrape_finish(target, error);
}

static void scrape_start(struct target *target) {
    static const struct http_field fields[] = {
        {"Accept", "text/plain;version=0.0.4;q=0.9,*/*;q=0.1"}, {"X-Prometheus-Scrape-Timeout-Seconds", "10"}, {NULL, NULL}};
    struct monitor *monitor = target->monitor;
    const struct http_request_options options = {
        .method = "GET",
        .target = target->spec.path,
        .fields = fields,
        .timeout_ms = MIN(SCRAPE_TIMEOUT_MS, monitor->interval_ms),
        .body_max = SCRAPE_BYTES_MAX,
    };
    target->generation++;
    target->started_ns = loop_now_ns(monitor->loop);
    target->started_ms = loop_wall_ns(monitor->loop) / 1000000;
    int error = 0;
    if (!target->http)
        error = http_client_new(monitor->loop, &(struct http_client_options){.endpoint = target->spec.endpoint, .connections_max = 1}, &target->http);
    if (error == 0)
        error = http_client_send(target->http, &options, on_answer, target, &target->request);
    if (error < 0) {
        snprintf(target->error, sizeof target->error, "%s", strerror(-error));
        scrape_finish(target, error);
    }
}

static void on_timer(void *userdata) {
    struct target *target = userdata;
    loop_timer_set(&target->timer, target->monitor->interval_ms);
    if (!target->request)
        scrape_start(target);
}

/* --- the set of targets --- */

static bool spec_equal(const struct target_spec *a, const struct target_spec *b) {
    if (strcmp(a->endpoint, b->endpoint) != 0 || strcmp(a->path, b->path) != 0 || a->labels_count != b->labels_count)
        return false;
    for (size_t i = 0; i < a->labels_count; i++)
        if (!slice_equal(a->labels[i].name, b->labels[i].name) || !slice_equal(a->labels[i].value, b->labels[i].value))
            return false;
    return true;
}

static int spec_copy(struct arena *arena, const struct target_spec *from, struct target_spec *to) {
    *to = *from;
    to->endpoint = arena_strdup(arena, from->endpoint);
    to->path = arena_strdup(arena, from->path);
    bool whole = to->endpoint && to->path;
    for (size_t i = 0; i < to->labels_count; i++) {
        to->labels[i].name.data = arena_dup(arena, from->labels[i].name);
        to->labels[i].value.data = arena_dup(arena, from->labels[i].value);
        whole = whole && to->labels[i].name.data && to->labels[i].value.data;
    }
    return whole ? 0 : -ENOMEM;
}

static void target_free(struct target *target) {
    loop_timer_cancel(&target->timer);
    http_request_cancel(target->request);
    http_client_free(target->http);
    target->generation++;
    end_missing(target, loop_wall_ns(target->monitor->loop) / 1000000);
    VECTOR_DEINIT(&target->series);
    arena_free(target->arena);
    free(target);
}

static int target_add(struct monitor *monitor, const struct target_spec *spec) {
    struct target *target = calloc(1, sizeof *target);
    if (!target)
        return -ENOMEM;
    target->monitor = monitor;
    target->id = ++monitor->next_id;
    target->arena = arena_new(64 * KIB);
    target->seen = true;
    loop_timer_init(&target->timer, monitor->loop, on_timer, target);
    if (!target->arena || spec_copy(target->arena, spec, &target->spec) < 0 || VECTOR_PUSH(&monitor->targets, target) < 0) {
        arena_free(target->arena);
        free(target);
        return -ENOMEM;
    }
    uint64_t hash = slice_hash(slice_of(target->spec.endpoint)) ^ slice_hash(slice_of(target->spec.path)) * 31;
    return loop_timer_set(&target->timer, (int64_t)(hash % (uint64_t)monitor->interval_ms));
}

static bool mark_seen(struct monitor *monitor, const struct target_spec *spec) {
    for (size_t i = 0; i < monitor->targets.count; i++)
        if (spec_equal(&monitor->targets.items[i]->spec, spec)) {
            monitor->targets.items[i]->seen = true;
            return true;
        }
    return false;
}

void targets_set(struct monitor *monitor, const target_specs *specs) {
    for (size_t i = 0; i < monitor->targets.count; i++)
        monitor->targets.items[i]->seen = false;
    for (size_t i = 0; i < specs->count; i++)
        if (!mark_seen(monitor, &specs->items[i]) && target_add(monitor, &specs->items[i]) < 0)
            log_error("no memory for target %s", specs->items[i].endpoint);
    size_t kept = 0;
    for (size_t i = 0; i < monitor->targets.count; i++) {
        struct target *target = monitor->targets.items[i];
        if (target->seen)
            monitor->targets.items[kept++] = target;
        else
            target_free(target);
    }
    monitor->targets.count = kept;
}

void targets_free(struct monitor *monitor) {
    for (size_t i = 0; i < monitor->targets.count; i++)
        target_free(monitor->targets.items[i]);
    VECTOR_DEINIT(&monitor->targets);
}

/* Prometheus' HTTP API (https://prometheus.io/docs/prometheus/latest/querying/api/) over selectors; functions and operators of PromQL are refused
 * with a sentence that says so.
 *
 * One table of paths. Parameters come in the query string or, by POST, in a form body. Answers are built in a buffer of bounded size; a query that
 * would answer with more is refused. */
#include <math.h>
#include <stdio.h>

#include "monitor/monitor_priv.h"

#define ANSWER_BYTES_MAX (16 * MIB)
#define FORM_BYTES_MAX (1 * MIB)
#define RANGE_POINTS_MAX 11000
#define SELECTORS_MAX 16

struct call {
    struct monitor *monitor;
    struct http_exchange *exchange;
    struct query query;
    struct slice path; /* behind the route's prefix */
    int64_t now_ms;
    struct buffer out;
};

/* --- answers --- */

static void respond_json(struct call *call, int status) {
    if (buffer_error(&call->out) < 0)
        http_respond(call->exchange, 422, "application/json",
                     SLICE("{\"status\":\"error\",\"errorType\":\"execution\",\"error\":\"the answer is larger than 16 MiB\"}"), NULL);
    else
        http_respond(call->exchange, status, "application/json", buffer_slice(&call->out), NULL);
}

static void respond_error(struct call *call, int status, const char *type, const char *message) {
    buffer_reset(&call->out);
    buffer_printf(&call->out, "{\"status\":\"error\",\"errorType\":\"%s\",\"error\":", type);
    json_format_string(&call->out, slice_of(message));
    buffer_append_byte(&call->out, '}');
    respond_json(call, status);
}

static void begin(struct call *call) {
    buffer_append_text(&call->out, "{\"status\":\"success\",\"data\":");
}

static void finish(struct call *call) {
    buffer_append_byte(&call->out, '}');
    respond_json(call, 200);
}

static void write_labels(struct buffer *out, const struct tsdb_label *labels, size_t count) {
    buffer_append_byte(out, '{');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buffer_append_byte(out, ',');
        json_format_string(out, labels[i].name);
        buffer_append_byte(out, ':');
        json_format_string(out, labels[i].value);
    }
    buffer_append_byte(out, '}');
}

static void write_series(struct buffer *out, const struct tsdb_series *series) {
    const struct tsdb_label *labels;
    size_t count = tsdb_series_labels(series, &labels);
    write_labels(out, labels, count);
}

static void write_seconds(struct buffer *out, int64_t time_ms) {
    promtext_format_value(out, (double)time_ms / 1000);
}

static void write_point(struct buffer *out, int64_t time_ms, double value) {
    buffer_append_byte(out, '[');
    write_seconds(out, time_ms);
    buffer_append_text(out, ",\"");
    promtext_format_value(out, value);
    buffer_append_text(out, "\"]");
}

/* --- parameters --- */

/* Unix seconds with a fraction, or RFC 3339; the fallback when absent. */
static int parameter_time(const struct call *call, const char *name, int64_t fallback_ms, int64_t *ret_ms) {
    const char *text = query_find(&call->query, name);
    double seconds;
    int64_t ns;
    if (!text || !text[0]) {
        *ret_ms = fallback_ms;
        return 0;
    }
    if (promtext_parse_value(slice_of(text), &seconds) == 0 && fabs(seconds) < 1e12) {
        *ret_ms = (int64_t)(seconds * 1000);
        return 0;
    }
    int error = timestamp_parse(slice_of(text), &ns);
    if (error == 0)
        *ret_ms = ns / 1000000;
    return error;
}

static int parameter_step(const struct call *call, int64_t *ret_ms) {
    const char *text = query_find(&call->query, "step");
    double seconds;
    int64_t ns;
    if (text && promtext_parse_value(slice_of(text), &seconds) == 0 && seconds > 0 && seconds < 1e9) {
        *ret_ms = MAX((int64_t)(seconds * 1000), 1);
        return 0;
    }
    if (text && duration_parse(slice_of(text), &ns) == 0 && ns > 0) {
        *ret_ms = MAX(ns / 1000000, 1);
        return 0;
    }
    return -EINVAL;
}

static struct tsdb_selector *parameter_selector(struct call *call, const char *name) {
    const char *text = query_find(&call->query, name);
    struct tsdb_selector *selector = NULL;
    struct diag diag = DIAG_INIT;
    char message[DIAG_TEXT_MAX + 64];
    if (text && tsdb_selector_parse(slice_of(text), &selector, &diag) == 0)
        return selector;
    snprintf(message, sizeof message, "invalid parameter \"%s\": %s", name, text ? diag.message : "missing");
    respond_error(call, 400, "bad_data", message);
    return NULL;
}

/* --- the calls --- */

static void call_query(struct call *call) {
    int64_t time_ms, found_ms;
    double value;
    if (parameter_time(call, "time", call->now_ms, &time_ms) < 0) {
        respond_error(call, 400, "bad_data", "invalid parameter \"time\": neither Unix seconds nor RFC 3339");
        return;
    }
    CLEANUP(tsdb_selector_freep) struct tsdb_selector *selector = parameter_selector(call, "query");
    if (!selector)
        return;
    begin(call);
    buffer_append_text(&call->out, "{\"resultType\":\"vector\",\"result\":[");
    const struct tsdb_series *series;
    bool first = true;
    for (size_t at = 0; (series = tsdb_next(call->monitor->tsdb, selector, &at));) {
        if (!tsdb_series_at(series, time_ms, &found_ms, &value))
            continue;
        buffer_append_text(&call->out, first ? "{\"metric\":" : ",{\"metric\":");
        write_series(&call->out, series);
        buffer_append_text(&call->out, ",\"value\":");
        write_point(&call->out, time_ms, value);
        buffer_append_byte(&call->out, '}');
        first = false;
    }
    buffer_append_text(&call->out, "]}");
    finish(call);
}

/* One series of a matrix; false when it has no point in the range (nothing is written then). */
static bool write_matrix_row(struct buffer *out, const struct tsdb_series *series, int64_t start_ms, int64_t end_ms, int64_t step_ms,
                             bool first_row) {
    bool any = false;
    for (int64_t time_ms = start_ms; time_ms <= end_ms; time_ms += step_ms) {
        int64_t found_ms;
        double value;
        if (!tsdb_series_at(series, time_ms, &found_ms, &value))
            continue;
        if (!any) {
            buffer_append_text(out, first_row ? "{\"metric\":" : ",{\"metric\":");
            write_series(out, series);
            buffer_append_text(out, ",\"values\":[");
        } else {
            buffer_append_byte(out, ',');
        }
        write_point(out, time_ms, value);
        any = true;
    }
    if (any)
        buffer_append_text(out, "]}");
    return any;
}

static void call_query_range(struct call *call) {
    int64_t start_ms, end_ms, step_ms;
    if (parameter_time(call, "start", INT64_MIN, &start_ms) < 0 || parameter_time(call, "end", INT64_MIN, &end_ms) < 0 || start_ms == INT64_MIN ||
        end_ms < start_ms) {
        respond_error(call, 400, "bad_data", "invalid parameter \"start\" or \"end\": both are needed, the end not before the start");
        return;
    }
    if (parameter_step(call, &step_ms) < 0 || (end_ms - start_ms) / step_ms > RANGE_POINTS_MAX) {
        respond_error(call, 400, "bad_data", "invalid parameter \"step\": a positive duration that gives at most 11,000 points per timeseries");
        return;
    }
    CLEANUP(tsdb_selector_freep) struct tsdb_selector *selector = parameter_selector(call, "query");
    if (!selector)
        return;
    begin(call);
    buffer_append_text(&call->out, "{\"resultType\":\"matrix\",\"result\":[");
    const struct tsdb_series *series;
    bool first = true;
    for (size_t at = 0; (series = tsdb_next(call->monitor->tsdb, selector, &at)) && buffer_error(&call->out) == 0;)
        first &= !write_matrix_row(&call->out, series, start_ms, end_ms, step_ms, first);
    buffer_append_text(&call->out, "]}");
    finish(call);
}

/* The selectors of all match[] parameters; false: an error has been answered. */
struct selectors {
    size_t count;
    struct tsdb_selector *items[SELECTORS_MAX];
};

static void selectors_deinit(struct selectors *selectors) {
    for (size_t i = 0; i < selectors->count; i++)
        tsdb_selector_free(selectors->items[i]);
}

static bool selectors_read(struct call *call, struct selectors *selectors) {
    for (size_t i = 0; i < call->query.count; i++) {
        if (!slice_is(call->query.items[i].key, "match[]"))
            continue;
        struct diag diag = DIAG_INIT;
        if (selectors->count == SELECTORS_MAX)
            diag_set(&diag, -EINVAL, "more than %d match[]", SELECTORS_MAX);
        else if (tsdb_selector_parse(call->query.items[i].value, &selectors->items[selectors->count], &diag) == 0) {
            selectors->count++;
            continue;
        }
        char message[DIAG_TEXT_MAX + 64];
        snprintf(message, sizeof message, "invalid parameter \"match[]\": %s", diag.message);
        respond_error(call, 400, "bad_data", message);
        return false;
    }
    return true;
}

static bool selectors_match(const struct selectors *selectors, const struct tsdb_series *series) {
    for (size_t i = 0; i < selectors->count; i++)
        if (tsdb_selector_matches(selectors->items[i], series))
            return true;
    return selectors->count == 0;
}

static void call_series(struct call *call) {
    CLEANUP(selectors_deinit) struct selectors selectors = {0};
    if (!selectors_read(call, &selectors))
        return;
    if (selectors.count == 0) {
        respond_error(call, 400, "bad_data", "no match[] parameter provided");
        return;
    }
    begin(call);
    buffer_append_byte(&call->out, '[');
    const struct tsdb_series *series;
    bool first = true;
    for (size_t at = 0; (series = tsdb_next(call->monitor->tsdb, NULL, &at));) {
        if (!selectors_match(&selectors, series))
            continue;
        if (!first)
            buffer_append_byte(&call->out, ',');
        write_series(&call->out, series);
        first = false;
    }
    buffer_append_byte(&call->out, ']');
    finish(call);
}

static int slices_compare(const void *a, const void *b) {
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

/* Distinct label names (name NULL) or values of a label, sorted. */
static void answer_distinct(struct call *call, const char *name) {
    CLEANUP(selectors_deinit) struct selectors selectors = {0};
    CLEANUP(map_freep) struct map *seen = map_new();
    VECTOR(struct slice) found = {0};
    if (!selectors_read(call, &selectors))
        return;
    const struct tsdb_series *series;
    for (size_t at = 0; seen && (series = tsdb_next(call->monitor->tsdb, NULL, &at));) {
        const struct tsdb_label *labels;
        size_t count = selectors_match(&selectors, series) ? tsdb_series_labels(series, &labels) : 0;
        for (size_t i = 0; i < count; i++) {
            struct slice text = name ? labels[i].value : labels[i].name;
            if ((!name || slice_is(labels[i].name, name)) && !map_find(seen, text) && map_put(seen, text, call, NULL) == 0)
                (void)VECTOR_PUSH(&found, text);
        }
    }
    if (found.count > 0)
        qsort(found.items, found.count, sizeof *found.items, slices_compare);
    begin(call);
    buffer_append_byte(&call->out, '[');
    for (size_t i = 0; i < found.count; i++) {
        if (i > 0)
            buffer_append_byte(&call->out, ',');
        json_format_string(&call->out, found.items[i]);
    }
    buffer_append_byte(&call->out, ']');
    VECTOR_DEINIT(&found);
    finish(call);
}

static void call_labels(struct call *call) {
    answer_distinct(call, NULL);
}

static void call_label_values(struct call *call) {
    struct slice name = slice_cut(&call->path, '/');
    if (!slice_is(call->path, "values") || !promtext_is_label_name(name)) {
        respond_error(call, 400, "bad_data", "expected /api/v1/label/<name>/values");
        return;
    }
    char *text = arena_dup(http_exchange_arena(call->exchange), name);
    if (text)
        answer_distinct(call, text);
    else
        respond_error(call, 503, "unavailable", "out of memory");
}

static void write_target(struct buffer *out, const struct target *target) {
    static const char *const healths[] = {"unknown", "up", "down"};
    char time[TIMESTAMP_BYTES] = "0001-01-01T00:00:00Z";
    if (target->started_ms > 0)
        timestamp_format_nano(target->started_ms * 1000000, time);
    buffer_append_text(out, "{\"discoveredLabels\":{},\"labels\":");
    write_labels(out, target->spec.labels, target->spec.labels_count);
    buffer_append_text(out, ",\"scrapePool\":");
    json_format_string(out, target->spec.labels[0].value);
    for (int global = 0; global < 2; global++) {
        buffer_append_text(out, global ? ",\"globalUrl\":" : ",\"scrapeUrl\":");
        CLEANUP(buffer_deinit) struct buffer url = BUFFER_INIT(8 * KIB);
        buffer_printf(&url, "%s%s", target->spec.endpoint, target->spec.path);
        json_format_string(out, buffer_slice(&url));
    }
    buffer_append_text(out, ",\"lastError\":");
    json_format_string(out, slice_of(target->error));
    buffer_printf(out, ",\"lastScrape\":\"%s\",\"lastScrapeDuration\":%" PRId64 ".%03" PRId64 ",\"health\":\"%s\"", time, target->duration_ms / 1000,
                  target->duration_ms % 1000, healths[target->health]);
    buffer_printf(out, ",\"scrapeInterval\":\"%" PRId64 "s\",\"scrapeTimeout\":\"%ds\"}", target->monitor->interval_ms / 1000,
                  SCRAPE_TIMEOUT_MS / 1000);
}

static void call_targets(struct call *call) {
    begin(call);
    buffer_append_text(&call->out, "{\"activeTargets\":[");
    for (size_t i = 0; i < call->monitor->targets.count; i++) {
        if (i > 0)
            buffer_append_byte(&call->out, ',');
        write_target(&call->out, call->monitor->targets.items[i]);
    }
    buffer_append_text(&call->out, "],\"droppedTargets\":[],\"droppedTargetCounts\":{}}");
    finish(call);
}

static void call_buildinfo(struct call *call) {
    begin(call);
    buffer_append_text(&call->out, "{\"version\":\"2.53.0\",\"revision\":\"tidemill-" TIDEMILL_VERSION
                                   "\",\"branch\":\"\",\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\"}");
    finish(call);
}

static void call_metadata(struct call *call) {
    begin(call);
    buffer_append_text(&call->out, "{}");
    finish(call);
}

static void call_healthy(struct call *call) {
    http_respond_text(call->exchange, 200, "tidemill monitor is healthy.\n");
}

static void metric(struct buffer *out, const char *name, const char *type, const char *help, uint64_t value) {
    buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", name, help, name, type, name, value);
}

static void call_metrics(struct call *call) {
    struct tsdb_stats stats;
    struct buffer *out = &call->out;
    tsdb_stats_get(call->monitor->tsdb, &stats);
    metric(out, "tidemill_monitor_series", "gauge", "Series in memory.", stats.series);
    metric(out, "tidemill_monitor_bytes", "gauge", "Bytes of series and samples.", stats.bytes);
    metric(out, "tidemill_monitor_bytes_max", "gauge", "The bound on them.", stats.bytes_max);
    metric(out, "tidemill_monitor_samples_total", "counter", "Samples stored.", stats.samples);
    metric(out, "tidemill_monitor_drops_for_space_total", "counter", "Times the oldest samples were dropped for want of space.",
           stats.samples_dropped);
    metric(out, "tidemill_monitor_refused_total", "counter", "Samples and series that found no space.", stats.refused);
    metric(out, "tidemill_monitor_targets", "gauge", "Targets.", call->monitor->targets.count);
    metric(out, "tidemill_monitor_scrapes_total", "counter", "Scrapes.", call->monitor->scrapes);
    metric(out, "tidemill_monitor_scrapes_failed_total", "counter", "Scrapes that failed.", call->monitor->scrapes_failed);
    http_respond(call->exchange, 200, "text/plain; version=0.0.4; charset=utf-8", buffer_slice(out), NULL);
}

/* --- the table --- */

static const struct {
    const char *path; /* ends with '/': a prefix */
    void (*answer)(struct call *call);
} routes[] = {
    {"/api/v1/query", call_query},
    {"/api/v1/query_range", call_query_range},
    {"/api/v1/series", call_series},
    {"/api/v1/labels", call_labels},
    {"/api/v1/label/", call_label_values},
    {"/api/v1/targets", call_targets},
    {"/api/v1/metadata", call_metadata},
    {"/api/v1/status/buildinfo", call_buildinfo},
    {"/metrics", call_metrics},
    {"/-/healthy", call_healthy},
    {"/-/ready", call_healthy},
    {"/healthz", call_healthy},
};

static void answer(struct monitor *monitor, struct http_exchange *exchange, struct slice parameters) {
    struct call call = {
        .monitor = monitor, .exchange = exchange, .now_ms = loop_wall_ns(monitor->loop) / 1000000, .out = BUFFER_INIT(ANSWER_BYTES_MAX)};
    struct slice path = http_path(exchange);
    if (query_parse(http_exchange_arena(exchange), parameters, &call.query) < 0) {
        respond_error(&call, 400, "bad_data", "malformed parameters");
        buffer_deinit(&call.out);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        struct slice route = slice_of(routes[i].path);
        bool prefix = slice_ends(route, SLICE("/"));
        if (prefix ? !slice_starts(path, route) : !slice_equal(path, route))
            continue;
        call.path = slice_from(path, route.len);
        routes[i].answer(&call);
        buffer_deinit(&call.out);
        return;
    }
    respond_error(&call, 404, "not_found",
                  "no such path: /api/v1/query, query_range, series, labels, label/<name>/values, targets; /metrics, /-/healthy, /-/ready");
    buffer_deinit(&call.out);
}

static void on_form(void *userdata, struct http_exchange *exchange, struct slice body) {
    answer(userdata, exchange, body);
}

void query_handle(void *userdata, struct http_exchange *exchange) {
    struct slice method = http_method(exchange);
    if (slice_is(method, "POST"))
        http_read_body(exchange, FORM_BYTES_MAX, on_form, userdata);
    else if (slice_is(method, "GET") || slice_is(method, "HEAD"))
        answer(userdata, exchange, http_query_text(exchange));
    else
        http_respond_text(exchange, 405, "only GET and POST\n");
}

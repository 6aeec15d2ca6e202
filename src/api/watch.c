/* Watches over HTTP: a chunked answer of JSON lines {"type":…,"object":…}.
 *
 *   initial ──(all sent)──► following ──(timeout, drain)──► ended
 *      └── each piece waits until the client has read the one before
 *
 * 1. A watch without a resourceVersion (or "0", or sendInitialEvents) first tells the objects there are, from references taken at one instant at
 * revision R, and then follows the change log from R: nothing is missed or told twice.
 * 2. What waits for a slow client is bounded: beyond WAITING_BYTES_MAX the store's delivery pauses; when the change ring has moved past a paused
 * watch, it gets an ERROR event 410 and ends, and the client lists again.
 * 3. A selector is judged before and after a change: an object that begins to match is ADDED to this client, one that stops is DELETED.
 * 4. Bookmarks (resourceVersion only) are sent at most once a minute and only when something was written since, so an idle server makes no timer
 * tick. */
#include "api/api_priv.h"

#include "sys/sys.h"

#define WAITING_BYTES_MAX (512 * KIB)
#define BOOKMARK_INTERVAL_MS 60000
#define TIMEOUT_S_DEFAULT 1800
#define TIMEOUT_S_MAX 86400

struct watch {
    struct list node;
    struct request *request;
    struct selection selection;
    struct store_watch *source; /* NULL while initial, and when ended */
    struct loop_timer timeout;
    VECTOR(struct store_object *) initial;
    size_t initial_next;
    uint64_t revision; /* where following starts; then of the last bookmark */
    bool bookmarks, initial_bookmark, ended, incomplete;
};

static void watch_free(struct watch *watch) {
    list_remove(&watch->node);
    loop_timer_cancel(&watch->timeout);
    store_watch_free(watch->source);
    for (size_t i = watch->initial_next; i < watch->initial.count; i++)
        store_object_unref(watch->initial.items[i]);
    VECTOR_DEINIT(&watch->initial);
    free(watch);
}

static void on_gone(struct request *request) {
    struct watch *watch = request->extra;
    request->extra = NULL;
    request->api->statistics.watches--;
    watch_free(watch);
}

/* No event follows; the exchange's close frees the watch. */
static void end(struct watch *watch) {
    if (watch->ended)
        return;
    watch->ended = true;
    store_watch_free(watch->source);
    watch->source = NULL;
    loop_timer_cancel(&watch->timeout);
    if (watch->request->exchange)
        http_respond_end(watch->request->exchange);
}

/* --- events --- */

/* An event that cannot be sent must not be missed: the connection breaks, and the client goes on from what it has. */
static void give_up(struct watch *watch) {
    if (watch->ended || !watch->request->exchange)
        return;
    watch->request->api->statistics.watches_lost++;
    watch->ended = true;
    http_abort(watch->request->exchange);
}

static void send_line(struct watch *watch, const struct buffer *line) {
    CLEANUP(buffer_deinit) struct buffer frame = BUFFER_INIT(16 * MIB);
    bool wire = watch->request->protobuf;
    int error = buffer_error(line);
    if (!error && wire)
        error = api_wire_encode_event(buffer_slice(line), &frame);
    if (!error)
        error = watch->request->exchange ? http_write(watch->request->exchange, buffer_slice(wire ? &frame : line)) : -EPIPE;
    if (error && error != -EPIPE)
        give_up(watch);
}

/* The object as the event shows it. One that left the selection is shown as it was last inside, under the event's revision. */
static int put_object(const struct watch *watch, struct store_object *stored, uint64_t revision, struct buffer *out) {
    const struct request *request = watch->request;
    if (api_is_table(request))
        return api_object_answer(request, stored, out);
    if (revision == stored->revision)
        return api_view_put(request, stored, out);
    CLEANUP(buffer_deinit) struct buffer plain = BUFFER_INIT(16 * MIB);
    int error = api_view_put(request, stored, &plain);
    return error ? error : api_stored_stamp_value(buffer_slice(&plain), revision, out);
}

static void send_object(struct watch *watch, const char *type, struct store_object *stored, uint64_t revision) {
    CLEANUP(buffer_deinit) struct buffer line = BUFFER_INIT(16 * MIB);
    buffer_printf(&line, "{\"type\":\"%s\",\"object\":", type);
    if (put_object(watch, stored, revision, &line)) {
        give_up(watch);
        return;
    }
    if (line.len && line.data[line.len - 1] == '\n')
        buffer_truncate(&line, line.len - 1);
    buffer_append_text(&line, "}\n");
    send_line(watch, &line);
}

static void send_bookmark(struct watch *watch, uint64_t revision, bool initial_end) {
    CLEANUP(buffer_deinit) struct buffer line = BUFFER_INIT(4 * KIB);
    const struct kube_kind *kind = watch->request->kind;
    bool partial = watch->request->table != TABLE_NONE;
    buffer_printf(&line,
                  "{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"%s\",\"apiVersion\":\"%s\",\"metadata\":{\"resourceVersion\":\"%" PRIu64
                  "\",\"creationTimestamp\":null%s}}}\n",
                  partial ? "PartialObjectMetadata" : kind->kind, partial ? api_meta_version(watch->request) : kube_kind_api_version(kind), revision,
                  initial_end ? ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}" : "");
    watch->revision = revision;
    send_line(watch, &line);
}

static void send_expired(struct watch *watch, uint64_t revision) {
    CLEANUP(buffer_deinit) struct buffer line = BUFFER_INIT(4 * KIB);
    struct api_failure failure;
    api_fail(&failure, 410, "Expired", "too old resource version: %" PRIu64 " (%" PRIu64 ")", revision, store_revision(watch->request->api->store));
    buffer_append_text(&line, "{\"type\":\"ERROR\",\"object\":");
    api_failure_format(&failure, &line);
    if (!buffer_error(&line))
        buffer_truncate(&line, line.len - 1);
    buffer_append_text(&line, "}\n");
    send_line(watch, &line);
}

static bool name_matches(const struct watch *watch, const struct store_object *stored) {
    const char *name = watch->request->route.name;
    return !*name || slice_is(stored->name, name);
}

static const char *event_type(struct watch *watch, enum store_change change, struct store_object *object, struct store_object *previous) {
    bool is = name_matches(watch, object) && api_selection_matches(&watch->selection, object);
    if (change != STORE_MODIFIED)
        return is ? (change == STORE_ADDED ? "ADDED" : "DELETED") : NULL;
    bool was = !previous || (name_matches(watch, previous) && api_selection_matches(&watch->selection, previous));
    if (is)
        return was ? "MODIFIED" : "ADDED";
    return was ? "DELETED" : NULL;
}

static void on_drained(void *userdata, struct http_exchange *exchange) {
    (void)exchange;
    struct watch *watch = userdata;
    if (watch->source)
        store_watch_resume(watch->source);
}

static bool is_full(struct watch *watch, void (*resume)(void *userdata, struct http_exchange *exchange)) {
    struct http_exchange *exchange = watch->request->exchange;
    if (watch->ended || !exchange)
        return true;
    if (http_write_pending(exchange) < WAITING_BYTES_MAX)
        return false;
    http_on_drained(exchange, resume, watch);
    return true;
}

static bool on_change(void *userdata, enum store_change change, struct store_object *object, struct store_object *previous) {
    struct watch *watch = userdata;
    uint64_t blind = api_decode_failures(watch->request->api);
    const char *type = event_type(watch, change, object, previous);
    if (api_decode_failures(watch->request->api) != blind) {
        give_up(watch);
        return false;
    }
    if (!type)
        return true;
    bool left = change == STORE_MODIFIED && !strcmp(type, "DELETED");
    send_object(watch, type, left ? previous : object, object->revision);
    return !is_full(watch, on_drained);
}

static void on_lost(void *userdata) {
    struct watch *watch = userdata;
    watch->request->api->statistics.watches_lost++;
    send_expired(watch, watch->revision);
    end(watch);
}

/* --- the life of a watch --- */

static void follow(struct watch *watch) {
    static const struct store_watch_callbacks callbacks = {.on_change = on_change, .on_lost = on_lost};
    struct request *request = watch->request;
    const char *namespace = request->route.namespace;
    struct slice in = *namespace ? slice_of(namespace) : (struct slice){NULL, 0};
    int error = store_watch_new(request->api->store, api_kind_slice(request->kind), in, watch->revision, &callbacks, watch, &watch->source);
    if (error) {
        send_expired(watch, watch->revision);
        end(watch);
    }
}

/* Sends the next piece of the initial objects. */
static void send_initial(void *userdata, struct http_exchange *exchange) {
    (void)exchange;
    struct watch *watch = userdata;
    while (watch->initial_next < watch->initial.count) {
        struct store_object *stored = watch->initial.items[watch->initial_next++];
        send_object(watch, "ADDED", stored, stored->revision);
        store_object_unref(stored);
        if (is_full(watch, send_initial))
            return;
    }
    if (watch->ended || watch->source)
        return;
    VECTOR_DEINIT(&watch->initial);
    watch->initial_next = 0;
    if (watch->initial_bookmark)
        send_bookmark(watch, watch->revision, true);
    follow(watch);
}

static bool collect(void *userdata, struct store_object *stored) {
    struct watch *watch = userdata;
    bool matches = name_matches(watch, stored) && api_selection_matches(&watch->selection, stored);
    api_decode_trim(watch->request->api);
    if (!matches)
        return true;
    struct store_object *reference = store_object_ref(stored);
    if (!VECTOR_PUSH(&watch->initial, reference))
        return true;
    store_object_unref(reference);
    watch->incomplete = true;
    return false;
}

static int collect_initial(struct watch *watch) {
    struct request *request = watch->request;
    uint64_t blind = api_decode_failures(request->api);
    struct slice none = {NULL, 0};
    struct slice in = *request->route.namespace ? slice_of(request->route.namespace) : none;
    store_list(request->api->store, api_kind_slice(request->kind), in, none, none, collect, watch);
    return watch->incomplete || api_decode_failures(request->api) != blind ? -ENOMEM : 0;
}

static uint64_t revision_told(const struct watch *watch) {
    return watch->source ? store_watch_revision(watch->source) : 0;
}

static void on_timeout(void *userdata) {
    struct watch *watch = userdata;
    uint64_t revision = revision_told(watch);
    if (watch->bookmarks && revision > watch->revision)
        send_bookmark(watch, revision, false);
    end(watch);
}

static int read_options(struct watch *watch, bool *ret_initial, struct api_failure *failure) {
    struct request *request = watch->request;
    uint64_t from;
    int code = api_check_list_options(request, failure);
    if (!code)
        code = api_revision_of_request(request, &from, failure);
    if (code)
        return code;
    const char *initial = api_request_query(request, "sendInitialEvents");
    bool initial_events = api_request_flag(request, "sendInitialEvents");
    *ret_initial = initial ? initial_events : from == 0;
    watch->initial_bookmark = initial_events && api_request_flag(request, "allowWatchBookmarks") && !api_is_table(request);
    watch->bookmarks = api_request_flag(request, "allowWatchBookmarks") && !api_is_table(request);
    watch->revision = *ret_initial || !from ? store_revision(request->api->store) : from;
    return api_selection_of_request(request, &watch->selection, failure);
}

static int64_t timeout_ms(const struct request *request) {
    const char *text = api_request_query(request, "timeoutSeconds");
    uint64_t seconds = 0;
    if (text && !slice_parse_u64(slice_of(text), TIMEOUT_S_MAX, &seconds) && seconds)
        return (int64_t)seconds * 1000;
    uint32_t spread;
    sys_random(&spread, sizeof spread); /* so that clients do not all come back at once */
    return (TIMEOUT_S_DEFAULT + (int64_t)(spread % TIMEOUT_S_DEFAULT)) * 1000;
}

void api_serve_watch(struct request *request) {
    struct api *api = request->api;
    struct api_failure failure;
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch) {
        api_fail_no_memory(&failure);
        api_respond_failure(request, &failure);
        return;
    }
    list_init(&watch->node);
    watch->request = request;
    loop_timer_init(&watch->timeout, api->loop, on_timeout, watch);
    bool initial = false;
    if (read_options(watch, &initial, &failure)) {
        watch_free(watch);
        api_respond_failure(request, &failure);
        return;
    }
    list_push(&api->watches, &watch->node);
    api->statistics.watches++;
    request->extra = watch;
    request->on_gone = on_gone;
    if (loop_timer_set(&watch->timeout, timeout_ms(request)) < 0 || (initial && collect_initial(watch) < 0)) {
        api_fail_no_memory(&failure);
        api_respond_failure(request, &failure);
        return;
    }
    request->protobuf = request->protobuf && !request->kind->custom;
    http_respond_begin(request->exchange, 200, request->protobuf ? API_PROTOBUF ";stream=watch" : "application/json", -1, NULL);
    send_initial(watch, request->exchange);
}

/* --- bookmarks for all --- */

static void on_bookmark_time(void *userdata) {
    struct api *api = userdata;
    LIST_FOREACH(node, &api->watches) {
        struct watch *watch = CONTAINER_OF(node, struct watch, node);
        uint64_t revision = revision_told(watch);
        if (watch->bookmarks && revision > watch->revision && http_write_pending(watch->request->exchange) == 0)
            send_bookmark(watch, revision, false);
    }
}

void api_watch_note_write(struct api *api) {
    if (loop_timer_is_set(&api->bookmark_timer) || list_empty(&api->watches))
        return;
    loop_timer_init(&api->bookmark_timer, api->loop, on_bookmark_time, api);
    loop_timer_set(&api->bookmark_timer, BOOKMARK_INTERVAL_MS);
}

void api_watches_end_kind(struct api *api, const char *key) {
    LIST_FOREACH(node, &api->watches) {
        struct watch *watch = CONTAINER_OF(node, struct watch, node);
        if (!strcmp(kube_kind_key(watch->request->kind), key))
            end(watch);
    }
}

void api_watches_end(struct api *api) {
    LIST_FOREACH(node, &api->watches)
    end(CONTAINER_OF(node, struct watch, node));
}

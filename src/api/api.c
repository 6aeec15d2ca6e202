/* The dispatcher: from an exchange to the function that serves it. Each request goes the same way: route, identity, rights, kind, verb; each step
 * that refuses answers in Kubernetes' words. Rights are checked before existence, so that nobody learns what there is by asking. */
#include "api/api_priv.h"
#include "api/audit_priv.h"

#include <malloc.h>
#include <stdio.h>

#define ARENA_LARGE_BYTES (8 * MIB) /* a request that took as much gives it back to the system: the next such one may never come */

/* --- requests --- */

static void request_free(struct request *request) {
    if (request->body_bytes)
        api_body_charge(request, 0);
    bool large = arena_used(request->arena) >= ARENA_LARGE_BYTES;
    buffer_deinit(&request->audit.annotations);
    VECTOR_DEINIT(&request->warnings);
    VECTOR_DEINIT(&request->faults);
    kube_kind_unref(request->kind);
    arena_free(request->arena);
    if (large)
        malloc_trim(0);
    free(request);
}

void api_request_hold(struct request *request) {
    if (request->body_bytes)
        api_body_charge(request, MAX(request->body_bytes, arena_used(request->arena)));
    request->holds++;
}

void api_request_release(struct request *request) {
    ASSERT(request->holds > 0);
    if (--request->holds == 0 && !request->exchange)
        request_free(request);
}

static void on_exchange_close(void *userdata, struct http_exchange *exchange, bool complete) {
    struct request *request = userdata;
    (void)exchange;
    (void)complete;
    request->exchange = NULL;
    api_request_hold(request);
    if (request->on_gone)
        request->on_gone(request);
    api_request_release(request);
}

static struct request *request_new(struct api *api, struct http_exchange *exchange) {
    struct request *request = calloc(1, sizeof *request);
    struct arena *arena = arena_new(API_REQUEST_BYTES_MAX);
    if (!request || !arena) {
        free(request);
        arena_free(arena);
        return NULL;
    }
    request->api = api;
    request->exchange = exchange;
    request->arena = arena;
    request->success_code = 200;
    request->audit.annotations = BUFFER_INIT(8 * KIB);
    http_on_close(exchange, on_exchange_close, request);
    return request;
}

const char *api_request_query(const struct request *request, const char *key) {
    return query_find(&request->query, key);
}

bool api_request_flag(const struct request *request, const char *key) {
    return query_flag(&request->query, key);
}

/* --- what is no resource --- */

static void serve_health(struct request *request) {
    bool ready = slice_starts(http_path(request->exchange), SLICE("/readyz"));
    if (ready && request->api->bootstrapping)
        http_respond_text(request->exchange, 503, "the first objects are being written");
    else
        http_respond_text(request->exchange, 200, "ok");
}

static void serve_version(struct request *request) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(4 * KIB);
    const char *version = request->api->options.version;
    buffer_printf(
        &out,
        "{\"major\":\"1\",\"minor\":\"32\",\"gitVersion\":\"v1.32.0+tidemill-%s\",\"gitCommit\":\"\",\"gitTreeState\":\"clean\",\"buildDate\":\"\","
        "\"goVersion\":\"none\",\"compiler\":\"c17\",\"platform\":\"linux/amd64\"}\n",
        version);
    api_respond_json(request, 200, buffer_slice(&out));
}

static void serve_root(struct request *request) {
    api_respond_json(request, 200,
                     SLICE("{\"paths\":[\"/api\",\"/api/v1\",\"/apis\",\"/healthz\",\"/livez\",\"/metrics\",\"/openapi/v2\",\"/openapi/v3\",\"/"
                           "readyz\",\"/version\"]}\n"));
}

static void append_audit_metrics(const struct api *api, struct buffer *out) {
    struct audit_statistics seen;
    if (!api->audit)
        return;
    audit_log_statistics(api->audit, &seen);
    buffer_printf(out,
                  "# HELP tidemill_audit_events_total Events in the audit log.\n# TYPE tidemill_audit_events_total counter\n"
                  "tidemill_audit_events_total %" PRIu64 "\n"
                  "# HELP tidemill_audit_lost_total Events for which the audit log had no room: its disk is full or hangs.\n"
                  "# TYPE tidemill_audit_lost_total counter\ntidemill_audit_lost_total %" PRIu64 "\n",
                  seen.events, seen.lost);
}

static void serve_metrics(struct request *request) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(4 * MIB);
    struct api *api = request->api;
    const struct api_statistics *seen = &api->statistics;
    buffer_printf(
        &out,
        "# HELP tidemill_api_requests_total Requests to the Kubernetes API.\n# TYPE tidemill_api_requests_total counter\ntidemill_api_requests_total "
        "%" PRIu64 "\n"
        "# HELP tidemill_api_failures_total Requests that were answered with a failure Status.\n# TYPE tidemill_api_failures_total counter\n"
        "tidemill_api_failures_total %" PRIu64 "\n"
        "# HELP tidemill_api_watches Open watches.\n# TYPE tidemill_api_watches gauge\ntidemill_api_watches %" PRIu64 "\n"
        "# HELP tidemill_api_watches_lost_total Watches ended because their client read too slowly.\n# TYPE tidemill_api_watches_lost_total counter\n"
        "tidemill_api_watches_lost_total %" PRIu64 "\n",
        seen->requests, seen->requests_failed, seen->watches, seen->watches_lost);
    append_audit_metrics(api, &out);
    api_webhooks_metrics(api, &out);
    if (api->options.metrics)
        api->options.metrics(api->options.metrics_userdata, &out);
    http_respond(request->exchange, 200, "text/plain; version=0.0.4; charset=utf-8", buffer_slice(&out), NULL);
}

/* --- resources --- */

static void respond_method(struct request *request) {
    struct api_failure failure;
    api_fail(&failure, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
    api_respond_failure(request, &failure);
}

static void serve_collection(struct request *request) {
    static const struct {
        const char *verb;
        void (*serve)(struct request *request);
    } verbs[] = {
        {"list", api_serve_list}, {"watch", api_serve_watch}, {"create", api_serve_create}, {"deletecollection", api_serve_delete_collection}};
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (!strcmp(request->verb, verbs[i].verb)) {
            verbs[i].serve(request);
            return;
        }
    }
    respond_method(request);
}

static void serve_object(struct request *request) {
    static const struct {
        const char *verb;
        void (*serve)(struct request *request);
    } verbs[] = {
        {"get", api_serve_get}, {"update", api_serve_update}, {"patch", api_serve_patch}, {"delete", api_serve_delete}, {"watch", api_serve_watch}};
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (!strcmp(request->verb, verbs[i].verb)) {
            verbs[i].serve(request);
            return;
        }
    }
    respond_method(request);
}

static void warn_deprecated(struct request *request) {
    const char *text = kube_custom_deprecation(request->kind);
    char *copy = text ? arena_strdup(request->arena, text) : NULL;
    if (copy)
        VECTOR_PUSH(&request->warnings, copy);
}

static void serve_resource(struct request *request) {
    struct api_route *route = &request->route;
    if (api_is_review(request)) {
        api_serve_review(request);
        return;
    }
    if (api_is_usage(request)) {
        api_serve_usage(request);
        return;
    }
    request->kind = kube_kind_ref(kube_kind_by_plural(slice_of(route->group), slice_of(route->version), slice_of(route->plural)));
    bool needs_namespace = request->kind && request->kind->namespaced && *route->name && !*route->namespace;
    if (!request->kind || needs_namespace || (!request->kind->namespaced && *route->namespace)) {
        api_respond_unknown_path(request);
        return;
    }
    warn_deprecated(request);
    if (request->kind->is_virtual)
        api_serve_virtual(request);
    else if (*route->subresource)
        api_serve_subresource(request);
    else if (*route->name)
        serve_object(request);
    else
        serve_collection(request);
}

static const char *verb_of(const struct request *request) {
    struct slice method = http_method(request->exchange);
    bool resource = request->route.type == ROUTE_RESOURCE, named = *request->route.name;
    if (slice_is(method, "GET") || slice_is(method, "HEAD")) {
        if (resource && !*request->route.subresource && api_request_flag(request, "watch"))
            return "watch";
        return resource && !named ? "list" : "get";
    }
    if (slice_is(method, "POST"))
        return "create";
    if (slice_is(method, "PUT"))
        return "update";
    if (slice_is(method, "PATCH"))
        return "patch";
    if (slice_is(method, "DELETE"))
        return resource && !named ? "deletecollection" : "delete";
    return "unknown";
}

static void dispatch(struct request *request) {
    static void (*const serves[])(struct request * request) = {
        [ROUTE_UNKNOWN] = api_respond_unknown_path,
        [ROUTE_ROOT] = serve_root,
        [ROUTE_HEALTH] = serve_health,
        [ROUTE_VERSION] = serve_version,
        [ROUTE_METRICS] = serve_metrics,
        [ROUTE_CORE_VERSIONS] = api_serve_core_versions,
        [ROUTE_GROUPS] = api_serve_groups,
        [ROUTE_GROUP] = api_serve_group,
        [ROUTE_RESOURCES] = api_serve_resources,
        [ROUTE_RESOURCE] = serve_resource,
        [ROUTE_OPENAPI_V2] = api_serve_openapi_v2,
        [ROUTE_OPENAPI_INDEX] = api_serve_openapi_index,
        [ROUTE_OPENAPI_V3] = api_serve_openapi_v3,
        [ROUTE_TOKEN_KEYS] = api_serve_token_keys,
        [ROUTE_TOKEN_ISSUER] = api_serve_token_issuer,
        [ROUTE_TOKENS] = api_serve_tokens,
    };
    enum api_route_type type = request->route.type;
    if (type != ROUTE_RESOURCE && type != ROUTE_TOKENS && strcmp(request->verb, "get")) {
        respond_method(request);
        return;
    }
    serves[type](request);
}

static const struct api_mount *find_mount(const struct api *api, struct slice path) {
    if (slice_starts(path, SLICE("/tidemill/tokens")))
        return NULL; /* our own, beside what is mounted */
    for (const struct api_mount *mount = api->options.mounts; mount && mount->prefix; mount++)
        if (slice_starts(path, slice_of(mount->prefix)))
            return mount;
    return NULL;
}

/* The mount's handler owns the exchange from here. */
static void hand_over(struct request *request, const struct api_mount *mount) {
    struct http_exchange *exchange = request->exchange;
    api_audit(request, 0, NULL, NULL);
    http_on_close(exchange, NULL, NULL);
    request_free(request);
    mount->handler(mount->userdata, exchange);
}

/* Who asks and for what; answers itself when that fails. A mount's paths are its own to parse. */
static bool identify(struct request *request, bool mounted) {
    struct http_exchange *exchange = request->exchange;
    struct api_failure failure;
    int error = mounted ? 0 : api_route_parse(request->arena, http_path(exchange), &request->route);
    if (!error && !mounted)
        error = query_parse(request->arena, http_query_text(exchange), &request->query);
    if (error) {
        if (error == -ENOMEM)
            api_fail_no_memory(&failure);
        else
            api_fail_bad_request(&failure, "the request's path or query is malformed");
        api_respond_failure(request, &failure);
        return false;
    }
    error = api_authenticate(request->api, exchange, request->arena, &request->user);
    int code = error == -ENOMEM ? api_fail_no_memory(&failure) : error ? api_fail(&failure, 401, "Unauthorized", "Unauthorized") : 0;
    if (!code) {
        request->verb = mounted ? api_method_verb(request) : verb_of(request);
        api_audit_begin(request, mounted);
        code = api_impersonate(request, &failure);
    }
    if (code)
        api_respond_failure(request, &failure);
    return !code;
}

void api_handle(void *userdata, struct http_exchange *exchange) {
    struct api *api = userdata;
    api->statistics.requests++;
    struct request *request = request_new(api, exchange);
    if (!request) {
        http_respond_text(exchange, 503, "out of memory");
        return;
    }
    const struct api_mount *mount = find_mount(api, http_path(exchange));
    if (!identify(request, mount != NULL))
        return;
    request->table = api_accept_table(http_header(exchange, "Accept"));
    request->protobuf = !api_is_table(request) && api_accept_protobuf(http_header(exchange, "Accept"));
    struct api_access access;
    struct api_failure failure;
    char reason[API_REASON_BYTES];
    int code = 0;
    if (!api_access_of_request(request, &access))
        code = api_fail_no_memory(&failure);
    else if (!(request->audit.allowed = api_authorize(api, &request->user, &access, reason)))
        code = api_fail_access(&failure, &request->user, &access, reason);
    request->audit.reason = request->audit.wanted && !code ? arena_strdup(request->arena, reason) : NULL;
    if (code)
        api_respond_failure(request, &failure);
    else if (mount)
        hand_over(request, mount);
    else
        dispatch(request);
}

/* --- life --- */

static const char *copy_text(struct arena *arena, const char *text, const char *fallback) {
    return text || fallback ? arena_strdup(arena, text ? text : fallback) : NULL;
}

static int copy_users(struct api *api, const struct api_unix_user *users) {
    size_t count = 0;
    while (users && users[count].name)
        count++;
    struct api_unix_user *copies = ARENA_ARRAY(api->arena, struct api_unix_user, count + 1);
    if (!copies)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        copies[i] = (struct api_unix_user){users[i].uid, copy_text(api->arena, users[i].name, NULL), copy_text(api->arena, users[i].group, NULL)};
    api->options.unix_users = copies;
    return 0;
}

static int copy_mounts(struct api *api, const struct api_mount *mounts) {
    size_t count = 0;
    while (mounts && mounts[count].prefix)
        count++;
    struct api_mount *copies = ARENA_ARRAY(api->arena, struct api_mount, count + 1);
    if (!copies)
        return -ENOMEM;
    if (count)
        memcpy(copies, mounts, count * sizeof *copies);
    api->options.mounts = copies;
    return 0;
}

static int copy_options(struct api *api, const struct api_options *options) {
    api->options = *options;
    api->options.version = copy_text(api->arena, options->version, "0");
    api->options.node_socket = copy_text(api->arena, options->node_socket, NULL);
    api->options.service_range = copy_text(api->arena, options->service_range, "10.96.0.0/16");
    api->options.advertise_address = copy_text(api->arena, options->advertise_address, NULL);
    int error = copy_mounts(api, options->mounts);
    return error ? error : copy_users(api, options->unix_users);
}

int api_new(struct loop *loop, const struct api_options *options, struct api **ret, struct diag *diag) {
    struct api *api = calloc(1, sizeof *api);
    if (!api)
        return -ENOMEM;
    api->references = 1;
    api->loop = loop;
    api->store = options->store;
    api->arena = arena_new(64 * KIB);
    list_init(&api->watches);
    list_init(&api->tunnels);
    list_init(&api->deferred);
    int error = api->arena ? copy_options(api, options) : -ENOMEM;
    if (!error && options->audit_folder)
        error = audit_log_new(loop, options->audit_folder, &api->audit, diag);
    if (!error)
        error = api_addresses_init(&api->addresses, api->options.service_range, diag);
    if (!error)
        error = api_webhooks_start(api);
    if (error) {
        audit_log_free(api->audit);
        api_addresses_deinit(&api->addresses);
        arena_free(api->arena);
        free(api);
        return error;
    }
    store_set_stamp(api->store, api_stored_stamp, NULL);
    loop_timer_init(&api->bookmark_timer, loop, NULL, api);
    loop_timer_init(&api->event_timer, loop, NULL, api);
    api_openapi_start(api);
    api_cache_start(api);
    api_crd_start(api);
    api_webhooks_load(api);
    api_numbers_load(api);
    api_events_start(api);
    api_tokens_purge(api);
    api_bootstrap(api);
    api_rbac_start(api);
    *ret = api;
    return 0;
}

void api_end_watches(struct api *api) {
    api_watches_end(api);
    api_tunnels_end(api);
}

void api_unref(struct api *api) {
    ASSERT(api->references > 0);
    if (--api->references)
        return;
    api_addresses_deinit(&api->addresses);
    free(api->webhooks);
    arena_free(api->arena);
    free(api);
}

void api_free(struct api *api) {
    if (!api)
        return;
    api->closed = true;
    api_webhooks_end(api);
    audit_log_free(TAKE(api->audit));
    api_end_watches(api);
    api_writes_end(api);
    api_crd_end(api);
    api_cache_end(api);
    api_rbac_end(api);
    api_token_cache_free(api);
    api_openapi_end(api);
    loop_timer_cancel(&api->bookmark_timer);
    loop_timer_cancel(&api->event_timer);
    http_client_free(api->node);
    api_proxies_end(api);
    store_set_stamp(api->store, NULL, NULL);
    api_unref(api);
}

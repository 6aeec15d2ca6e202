/* The audit log's events: every request that may change something, with who asked, for what, from where, and how it ended, in the form of
 * audit.k8s.io/v1 at level Metadata, so that what reads a Kubernetes audit log reads this one.
 *
 * 1. An event is made when a request is answered, also when its client has gone meanwhile: what a request did is known then.
 * 2. Never a body, a token or a header: only names. Of exec and its like the query is left out, since it holds the command.
 * 3. Not recorded: reads and questions (reviews); requests with a wrong token (they change nothing, and would let anybody roll the log over); and
 * what the machine does by itself all day, see `routine`: leases, events, and the states that the node reports. */
#include "api/audit_priv.h"
#include "api/api_priv.h"

#include "sys/sys.h"

#include <stdio.h>

#define EVENT_BYTES_MAX (32 * KIB)
#define URI_BYTES_MAX 2000
#define TEXT_BYTES_MAX 500

static const struct {
    const char *resource, *subresource;
    bool local; /* only by the platform's own parts, over the unix socket */
} routine[] = {
    {"events", "", false}, {"leases", "", false},   {"pods", "status", true},     {"nodes", "status", true},
    {"nodes", "", true},   {"endpoints", "", true}, {"endpointslices", "", true},
};

static bool is_routine(const struct request *request) {
    for (size_t i = 0; i < ARRAY_LEN(routine); i++)
        if (!strcmp(routine[i].resource, request->route.plural) && !strcmp(routine[i].subresource, request->route.subresource) &&
            (!routine[i].local || !strcmp(request->audit.from, "unix")))
            return true;
    return false;
}

/* The doors into a container are opened by a GET. */
static bool is_door(const struct request *request) {
    static const char *const names[] = {"exec", "attach", "portforward", "proxy"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!strcmp(names[i], request->route.subresource))
            return true;
    return false;
}

static bool is_change(const struct request *request) {
    static const char *const verbs[] = {"create", "update", "patch", "delete", "deletecollection"};
    bool resource = request->route.type == ROUTE_RESOURCE;
    if (resource && is_door(request))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (!strcmp(verbs[i], request->verb))
            return !resource || (!api_is_review(request) && !is_routine(request));
    return false;
}

/* --- when it comes --- */

static const char *copy_some(struct arena *arena, struct slice text, size_t most) {
    const char *copy = arena_dup(arena, slice_head(text, most));
    return copy ? copy : "";
}

/* "10.0.0.1:4711", "[::1]:4711" → the address. */
static struct slice address_of(const char *peer) {
    struct slice text = slice_of(peer ? peer : "");
    const char *colon = memrchr(text.data, ':', text.len);
    struct slice host = colon ? slice_head(text, (size_t)(colon - text.data)) : text;
    if (slice_starts(host, SLICE("[")) && slice_ends(host, SLICE("]")))
        host = slice_head(slice_from(host, 1), host.len - 2);
    return host;
}

void api_audit_begin(struct request *request, bool mounted) {
    struct http_exchange *exchange = request->exchange;
    const struct http_peer *peer = http_exchange_peer(exchange);
    struct slice method = http_method(exchange);
    if (!request->api->audit || slice_is(method, "HEAD"))
        return;
    request->audit.from = peer->is_unix ? "unix" : copy_some(request->arena, address_of(peer->address), 64);
    if (mounted ? slice_is(method, "GET") || slice_is(method, "HEAD") : !is_change(request))
        return;
    bool door = !mounted && is_door(request);
    request->audit.wanted = true;
    request->audit.begin_ns = loop_wall_ns(request->api->loop);
    request->audit.uid = peer->uid;
    request->audit.agent = copy_some(request->arena, http_header(exchange, "User-Agent"), TEXT_BYTES_MAX);
    request->audit.uri = copy_some(request->arena, door ? http_path(exchange) : http_target(exchange), URI_BYTES_MAX);
}

/* --- when it is answered --- */

static void put_text(struct buffer *out, const char *key, const char *value) {
    if (!value || !*value)
        return;
    buffer_printf(out, ",\"%s\":", key);
    json_format_string(out, slice_of(value));
}

/* Of an event that would be too long otherwise: who, all the same. */
static void put_user(struct buffer *out, const struct api_user *user, bool brief) {
    if (!brief) {
        api_put_user(out, user);
        return;
    }
    buffer_append_text(out, "{\"username\":");
    json_format_string(out, slice_head(slice_of(user->name), TEXT_BYTES_MAX));
    buffer_append_text(out, "}");
}

static void put_object(struct buffer *out, const struct request *request, const struct kube_object *written) {
    const struct api_route *route = &request->route;
    const struct kube_object_meta *metadata = written ? written->metadata : NULL;
    if (route->type != ROUTE_RESOURCE)
        return;
    buffer_append_text(out, ",\"objectRef\":{\"resource\":");
    json_format_string(out, slice_of(route->plural));
    put_text(out, "namespace", route->namespace);
    put_text(out, "name", *route->name ? route->name : metadata ? metadata->name : NULL);
    put_text(out, "uid", metadata ? metadata->uid : NULL);
    put_text(out, "apiGroup", route->group);
    put_text(out, "apiVersion", route->version);
    put_text(out, "resourceVersion", metadata ? metadata->resource_version : NULL);
    put_text(out, "subresource", route->subresource);
    buffer_append_text(out, "}");
}

static void put_status(struct buffer *out, int code, const struct api_failure *failure) {
    buffer_append_text(out, ",\"responseStatus\":{\"metadata\":{}");
    if (failure) {
        buffer_append_text(out, ",\"status\":\"Failure\"");
        put_text(out, "message", failure->message);
        put_text(out, "reason", failure->reason);
    }
    buffer_printf(out, ",\"code\":%d}", code);
}

/* Brief: without what others can make as long as they like. */
static void put_event(struct buffer *out, const struct request *request, int code, const struct api_failure *failure,
                      const struct kube_object *written, bool brief) {
    char id[37], begin[TIMESTAMP_BYTES], now[TIMESTAMP_BYTES];
    sys_uuid(id);
    timestamp_format_micro(request->audit.begin_ns, begin);
    timestamp_format_micro(loop_wall_ns(request->api->loop), now);
    buffer_printf(out, "{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"Metadata\",\"auditID\":\"%s\",\"stage\":\"%s\"", id,
                  code ? "ResponseComplete" : "RequestReceived");
    put_text(out, "requestURI", request->audit.uri);
    put_text(out, "verb", request->verb);
    buffer_append_text(out, ",\"user\":");
    put_user(out, request->impersonated ? &request->impersonator : &request->user, brief);
    if (request->impersonated) {
        buffer_append_text(out, ",\"impersonatedUser\":");
        put_user(out, &request->user, brief);
    }
    buffer_append_text(out, ",\"sourceIPs\":[");
    json_format_string(out, slice_of(request->audit.from));
    buffer_append_text(out, "]");
    put_text(out, "userAgent", request->audit.agent);
    if (!brief || written)
        put_object(out, request, written);
    if (code)
        put_status(out, code, brief ? NULL : failure);
    buffer_printf(out, ",\"requestReceivedTimestamp\":\"%s\",\"stageTimestamp\":\"%s\",\"annotations\":{", begin, now);
    buffer_printf(out, "\"authorization.k8s.io/decision\":\"%s\"", request->audit.allowed ? "allow" : "forbid");
    if (!brief)
        put_text(out, "authorization.k8s.io/reason", request->audit.reason);
    if (!strcmp(request->audit.from, "unix"))
        buffer_printf(out, ",\"tidemill.dev/uid\":\"%u\"", (unsigned)request->audit.uid);
    if (!brief)
        buffer_append_slice(out, buffer_slice(&request->audit.annotations));
    buffer_append_text(out, brief ? ",\"tidemill.dev/brief\":\"true\"}}" : "}}");
}

void api_audit(struct request *request, int code, const struct api_failure *failure, const struct kube_object *written) {
    CLEANUP(buffer_deinit) struct buffer event = BUFFER_INIT(EVENT_BYTES_MAX);
    if (!request->audit.wanted || !request->api->audit)
        return;
    request->audit.wanted = false;
    put_event(&event, request, code, failure, written, false);
    if (buffer_error(&event)) {
        buffer_reset(&event);
        put_event(&event, request, code, failure, written, true);
    }
    if (buffer_error(&event)) /* no memory */
        audit_log_append(request->api->audit,
                         SLICE("{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"Metadata\",\"stage\":\"Panic\","
                               "\"annotations\":{\"tidemill.dev/lost\":\"1\"}}"));
    else
        audit_log_append(request->api->audit, buffer_slice(&event));
}

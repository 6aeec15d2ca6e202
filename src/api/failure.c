/* Refusals in Kubernetes' words. A failure is filled where it is found and turned into a Status here, the one place. The sentences follow
 * k8s.io/apimachinery/pkg/api/errors, since clients (and people's scripts) match on them. */
#include "api/api_priv.h"

#include <stdarg.h>
#include <stdio.h>

static void set_details(struct api_failure *failure, const struct kube_kind *kind, const char *name) {
    if (!failure)
        return;
    snprintf(failure->resource, sizeof failure->resource, "%s", kind ? kind->plural : "");
    snprintf(failure->group, sizeof failure->group, "%s", kind ? kind->group : "");
    snprintf(failure->name, sizeof failure->name, "%s", name ? name : "");
}

static int set(struct api_failure *failure, int code, const char *reason, const char *format, va_list args) {
    if (!failure)
        return code;
    memset(failure, 0, sizeof *failure);
    failure->code = code;
    failure->reason = reason;
    vsnprintf(failure->message, sizeof failure->message, format, args);
    return code;
}

int api_fail(struct api_failure *failure, int code, const char *reason, const char *format, ...) {
    va_list args;
    va_start(args, format);
    set(failure, code, reason, format, args);
    va_end(args);
    return code;
}

int api_fail_bad_request(struct api_failure *failure, const char *format, ...) {
    va_list args;
    va_start(args, format);
    set(failure, 400, "BadRequest", format, args);
    va_end(args);
    return 400;
}

int api_fail_not_found(struct api_failure *failure, const struct kube_kind *kind, const char *name) {
    api_fail(failure, 404, "NotFound", "%s \"%s\" not found", kube_kind_key(kind), name);
    set_details(failure, kind, name);
    return 404;
}

int api_fail_exists(struct api_failure *failure, const struct kube_kind *kind, const char *name) {
    api_fail(failure, 409, "AlreadyExists", "%s \"%s\" already exists", kube_kind_key(kind), name);
    set_details(failure, kind, name);
    return 409;
}

int api_fail_conflict(struct api_failure *failure, const struct kube_kind *kind, const char *name, const char *why) {
    api_fail(failure, 409, "Conflict", "Operation cannot be fulfilled on %s \"%s\": %s", kube_kind_key(kind), name,
             why ? why : "the object has been modified; please apply your changes to the latest version and try again");
    set_details(failure, kind, name);
    return 409;
}

int api_fail_forbidden(struct api_failure *failure, const struct kube_kind *kind, const char *name, const char *format, ...) {
    char why[3800];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (name && *name)
        api_fail(failure, 403, "Forbidden", "%s \"%s\" is forbidden: %s", kube_kind_key(kind), name, why);
    else
        api_fail(failure, 403, "Forbidden", "%s is forbidden: %s", kube_kind_key(kind), why);
    set_details(failure, kind, name);
    return 403;
}

int api_fail_invalid(struct api_failure *failure, const struct kube_kind *kind, const char *name, const struct diag *diag) {
    api_fail(failure, 422, "Invalid", "%s", diag->message);
    set_details(failure, kind, name);
    if (failure) {
        snprintf(failure->resource, sizeof failure->resource, "%s", kind->kind);
        failure->diag = *diag;
    }
    return 422;
}

int api_fail_field(struct api_failure *failure, const struct kube_object *object, const char *reason, const char *field, const char *format, ...) {
    if (!failure)
        return 422;
    const struct kube_kind *kind = object->kind;
    const char *name = object->metadata->name ? object->metadata->name : "";
    char message[DIAG_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    api_fail(failure, 422, "Invalid", "%s%s%s \"%s\" is invalid: %s: %s", kind->kind, *kind->group ? "." : "", kind->group, name, field, message);
    set_details(failure, kind, name);
    snprintf(failure->resource, sizeof failure->resource, "%s", kind->kind);
    diag_cause(&failure->diag, reason, field, "%s", message);
    return 422;
}

int api_fail_no_memory(struct api_failure *failure) {
    return api_fail(failure, 413, "RequestEntityTooLarge", "the request needs more memory than one request may use");
}

int api_fail_store(struct api_failure *failure, int error, const struct kube_kind *kind, const char *name) {
    switch (error) {
    case STORE_E_EXISTS: return api_fail_exists(failure, kind, name);
    case STORE_E_ABSENT: return api_fail_not_found(failure, kind, name);
    case STORE_E_CONFLICT: return api_fail_conflict(failure, kind, name, NULL);
    case STORE_E_FULL:
        return api_fail(failure, 507, "InternalError",
                        "the disk or the store is full: writes are refused, reads go on; free some space and try again");
    case -EMSGSIZE: return api_fail(failure, 413, "RequestEntityTooLarge", "%s \"%s\" is larger than one object may be", kube_kind_key(kind), name);
    default: return api_fail(failure, 500, "InternalError", "the store could not write: %s", strerror(error < 0 ? -error : error));
    }
}

/* --- as JSON --- */

static void put_text(struct buffer *out, const char *key, const char *value, bool *first) {
    if (!value || !*value)
        return;
    buffer_printf(out, "%s\"%s\":", *first ? "" : ",", key);
    json_format_string(out, slice_of(value));
    *first = false;
}

static void put_causes(struct buffer *out, const struct diag *diag, bool *first) {
    int count = MIN(diag->causes_count, DIAG_CAUSES_MAX);
    if (!count)
        return;
    buffer_append_text(out, *first ? "\"causes\":[" : ",\"causes\":[");
    *first = false;
    for (int i = 0; i < count; i++) {
        bool inner = true;
        buffer_append_text(out, i ? ",{" : "{");
        put_text(out, "reason", diag->causes[i].reason, &inner);
        put_text(out, "message", diag->causes[i].message, &inner);
        put_text(out, "field", diag->causes[i].field, &inner);
        buffer_append_text(out, "}");
    }
    buffer_append_text(out, "]");
}

void api_failure_format(const struct api_failure *failure, struct buffer *out) {
    buffer_append_text(out, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{");
    if (failure->continue_token)
        buffer_printf(out, "\"continue\":\"%s\"", failure->continue_token);
    buffer_append_text(out, "},\"status\":\"Failure\",\"message\":");
    json_format_string(out, slice_of(failure->message));
    buffer_append_text(out, ",\"reason\":");
    json_format_string(out, slice_of(failure->reason ? failure->reason : ""));
    buffer_append_text(out, ",\"details\":{");
    bool first = true;
    put_text(out, "name", failure->name, &first);
    put_text(out, "group", failure->group, &first);
    put_text(out, "kind", failure->resource, &first);
    put_causes(out, &failure->diag, &first);
    if (failure->retry_after_s)
        buffer_printf(out, "%s\"retryAfterSeconds\":%d", first ? "" : ",", failure->retry_after_s);
    buffer_printf(out, "},\"code\":%d}\n", failure->code);
}

/* --- answers --- */

/* RFC 7234's Warning header as client-go reads it: 299 - "text". */
static char *format_warning(struct arena *arena, const char *text) {
    char *quoted = arena_alloc(arena, strlen(text) * 2 + 16);
    if (!quoted)
        return NULL;
    size_t at = (size_t)snprintf(quoted, 9, "299 - \"");
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            quoted[at++] = '\\';
        quoted[at++] = (unsigned char)*text < ' ' ? ' ' : *text;
    }
    quoted[at] = '"';
    return quoted;
}

static struct http_field *extra_fields(struct request *request, int retry_after_s, bool gzip) {
    size_t count = 0, max = request->warnings.count + (retry_after_s > 0) + (gzip ? 2 : 0);
    struct http_field *fields = max ? ARENA_ARRAY(request->arena, struct http_field, max + 1) : NULL;
    for (size_t i = 0; fields && i < request->warnings.count; i++) {
        const char *value = format_warning(request->arena, request->warnings.items[i]);
        if (value)
            fields[count++] = (struct http_field){"Warning", value};
    }
    if (fields && gzip) {
        fields[count++] = (struct http_field){"Content-Encoding", "gzip"};
        fields[count++] = (struct http_field){"Vary", "Accept-Encoding"};
    }
    const char *seconds = fields && retry_after_s > 0 ? arena_printf(request->arena, "%d", retry_after_s) : NULL;
    if (seconds)
        fields[count++] = (struct http_field){"Retry-After", seconds};
    return fields;
}

/* False: there is no such answer, or it is not wanted. */
static bool respond_protobuf(struct request *request, int code, struct slice body, int retry_after_s) {
    CLEANUP(buffer_deinit) struct buffer wire = BUFFER_INIT(API_ANSWER_BYTES_MAX);
    if (!request->protobuf || api_wire_encode(body, &wire))
        return false;
    http_respond(request->exchange, code, API_PROTOBUF, buffer_slice(&wire), extra_fields(request, retry_after_s, false));
    return true;
}

void api_respond_json(struct request *request, int code, struct slice body) {
    api_audit(request, code, NULL, NULL);
    CLEANUP(buffer_deinit) struct buffer pretty = BUFFER_INIT(API_ANSWER_BYTES_MAX), compressed = BUFFER_INIT(API_ANSWER_BYTES_MAX);
    if (!request->exchange || respond_protobuf(request, code, body, 0))
        return;
    bool gzip = false;
    struct slice form = api_answer_form(request, body, &pretty, &compressed, &gzip);
    struct http_field *fields = extra_fields(request, 0, gzip);
    if (gzip && !fields)
        form = body; /* no memory for the header that says so */
    http_respond(request->exchange, code, "application/json", form, fields);
}

void api_respond_tree(struct request *request, int code, const struct tree *body) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(API_ANSWER_BYTES_MAX);
    if (!body || json_format(&out, body) || buffer_append_byte(&out, '\n')) {
        struct api_failure failure;
        api_fail_no_memory(&failure);
        api_respond_failure(request, &failure);
        return;
    }
    api_respond_json(request, code, buffer_slice(&out));
}

void api_respond_failure(struct request *request, const struct api_failure *failure) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    request->api->statistics.requests_failed++;
    api_failure_format(failure, &out);
    api_audit(request, failure->code, failure, NULL);
    if (request->exchange && !respond_protobuf(request, failure->code, buffer_slice(&out), failure->retry_after_s))
        http_respond(request->exchange, failure->code, "application/json", buffer_slice(&out), extra_fields(request, failure->retry_after_s, false));
}

void api_respond_unknown_path(struct request *request) {
    struct api_failure failure;
    api_fail(&failure, 404, "NotFound", "the server could not find the requested resource");
    api_respond_failure(request, &failure);
}

void api_respond_deleted(struct request *request, const struct kube_object *object) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    bool first = true;
    buffer_append_text(&out, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Success\",\"details\":{");
    put_text(&out, "name", object->metadata->name, &first);
    put_text(&out, "group", object->kind->group, &first);
    put_text(&out, "kind", object->kind->plural, &first);
    put_text(&out, "uid", object->metadata->uid, &first);
    api_audit(request, 200, NULL, object);
    buffer_append_text(&out, "}}\n");
    api_respond_json(request, 200, buffer_slice(&out));
}

/* Bodies of requests: read, and made a tree.
 *
 * Bounded: a body by API_BODY_BYTES_MAX; all requests with bodies together by BODIES_BYTES_MAX while they are read and by REQUESTS_BYTES_MAX once
 * they are documents, since a body of many small values becomes forty times its size. Beyond it clients get 429 and come back, as upstream's do. The
 * first is always read, so that nothing is refused for ever. */
#include "api/api_priv.h"

#define BODIES_BYTES_MAX (24 * MIB)
#define REQUESTS_BYTES_MAX (96 * MIB)

/* --- reading --- */

static void respond_busy(struct request *request) {
    struct api_failure failure;
    api_fail(&failure, 429, "TooManyRequests", "Too many requests, please try again later.");
    failure.retry_after_s = 1;
    api_respond_failure(request, &failure);
}

void api_body_charge(struct request *request, size_t bytes) {
    request->api->bodies_bytes = request->api->bodies_bytes - request->body_bytes + bytes;
    request->body_bytes = bytes;
}

static void on_collected(void *userdata, struct http_exchange *exchange, struct slice body) {
    struct request *request = userdata;
    if (request->api->bodies_bytes - request->body_bytes > REQUESTS_BYTES_MAX)
        respond_busy(request);
    else
        request->on_body(request, exchange, body);
}

void api_read_body(struct request *request, void (*on_body)(void *userdata, struct http_exchange *exchange, struct slice body)) {
    const struct http1_head *head = http_head(request->exchange);
    uint64_t length = head->framing == HTTP1_BODY_LENGTH ? head->content_length : head->framing == HTTP1_BODY_CHUNKED ? API_BODY_BYTES_MAX : 0;
    size_t bytes = (size_t)MIN(length, (uint64_t)API_BODY_BYTES_MAX);
    if (request->api->bodies_bytes && request->api->bodies_bytes + bytes > BODIES_BYTES_MAX) {
        respond_busy(request);
        return;
    }
    api_body_charge(request, bytes);
    request->on_body = on_body;
    http_read_body(request->exchange, API_BODY_BYTES_MAX, on_collected, request);
}

/* --- parsing --- */

static void note_duplicate(void *userdata, const char *path) {
    struct request *request = userdata;
    const char *text = arena_printf(request->arena, "duplicate field \"%s\"", path);
    if (text)
        VECTOR_PUSH(&request->faults, text);
}

static int parse_json(struct request *request, struct slice body, struct tree **ret, struct diag *diag) {
    struct json_duplicates duplicates = {.count = 0};
    const struct json_options options = {.allow_duplicates = true, .duplicates = &duplicates};
    int error = json_parse(request->arena, body, &options, ret, diag);
    return error ? error : json_duplicates_each(*ret, &duplicates, note_duplicate, request);
}

/* Upstream turns YAML into JSON first, and that step speaks of lines. */
static int parse_yaml(struct request *request, struct slice body, struct tree **ret, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer duplicates = BUFFER_INIT(4 * KIB);
    int error = yaml_parse_lenient(request->arena, body, &duplicates, ret, diag);
    const char *text = !error && duplicates.len ? arena_printf(request->arena, "yaml: unmarshal errors:%s", duplicates.data) : NULL;
    if (text)
        VECTOR_PUSH(&request->faults, text);
    return error;
}

int api_body_parse(struct request *request, struct slice body, struct tree **ret, struct api_failure *failure) {
    struct diag diag = DIAG_INIT;
    struct slice type = http_header(request->exchange, "Content-Type");
    int error;
    enum body_form form = api_body_form_of(type);
    bool custom = request->kind && request->kind->custom && strcmp(request->verb, "delete") && strcmp(request->verb, "deletecollection");
    switch (form == BODY_PROTOBUF && custom ? BODY_UNKNOWN : form) {
    case BODY_JSON:
        /* Some clients send YAML under this name; Kubernetes reads JSON only, and so do we. */
    case BODY_JSON_PATCH:
    case BODY_MERGE_PATCH:
    case BODY_STRATEGIC_PATCH: error = parse_json(request, body, ret, &diag); break;
    case BODY_YAML:
    case BODY_APPLY: error = parse_yaml(request, body, ret, &diag); break;
    case BODY_PROTOBUF: error = kube_protobuf_to_tree(request->arena, body, ret, &diag); break;
    default:
        return api_fail(failure, 415, "UnsupportedMediaType",
                        "the body of the request was in an unknown format - accepted media types include: application/json, "
                        "application/yaml%s",
                        custom ? "" : ", application/vnd.kubernetes.protobuf");
    }
    if (error == -ENOMEM)
        return api_fail_no_memory(failure);
    if (error) {
        char text[DIAG_TEXT_MAX * 2];
        return api_fail_bad_request(failure, "the object provided is unrecognized (must be of type %s): couldn't get version/kind: %s",
                                    request->kind ? request->kind->kind : "", diag_format(&diag, text, sizeof text));
    }
    return 0;
}

void api_body_act(struct request *request, struct slice body, bool optional,
                  int (*act)(struct request *request, const struct tree *asked, struct api_failure *failure)) {
    struct api_failure failure;
    struct tree *asked = NULL;
    int code = optional && !slice_trim(body).len ? 0 : api_body_parse(request, body, &asked, &failure);
    if (code || (code = act(request, asked, &failure)))
        api_respond_failure(request, &failure);
}

/* gRPC probes: grpc.health.v1.Health/Check, as kubelet makes them. A message is a byte (not compressed), its length in four, and protobuf: the
 * request has one field (1: service), the answer one (1: status). What the call itself came to is in the trailer, grpc-status. */
#include "codec/codec.h"
#include "runtime/probe_priv.h"

#define FRAME_BYTES 5
#define SERVICE_BYTES_MAX 1024
#define SERVING 1
#define UNIMPLEMENTED 12
#define UNKNOWN 2

static const char *const code_names[] = {"OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
                                         "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
                                         "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
                                         "DataLoss", "Unauthenticated"};
static const char *const status_names[] = {"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"};

/* A server, or what stands before it, that answers without a grpc-status. */
static const struct {
    int status;
    unsigned code;
} http_codes[] = {{400, 13}, {401, 16}, {403, 7}, {404, UNIMPLEMENTED}, {429, 14}, {502, 14}, {503, 14}, {504, 14}};

static bool read_varint(struct slice *rest, uint64_t *ret) {
    *ret = 0;
    for (unsigned shift = 0; shift < 64 && rest->len; shift += 7) {
        uint64_t byte = (unsigned char)rest->data[0];
        *rest = slice_from(*rest, 1);
        *ret |= (byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}

/* Skips a field that is not ours. */
static bool skip(struct slice *rest, unsigned wire_type) {
    uint64_t len = wire_type == 1 ? 8 : wire_type == 5 ? 4 : 0;
    if (wire_type == 0)
        return read_varint(rest, &len);
    if (wire_type == 2 && !read_varint(rest, &len))
        return false;
    if ((wire_type != 1 && wire_type != 2 && wire_type != 5) || len > rest->len)
        return false;
    *rest = slice_from(*rest, (size_t)len);
    return true;
}

int grpc_health_parse(struct slice body, uint64_t *ret_status) {
    uint64_t status = 0, key;
    if (body.len < FRAME_BYTES || body.data[0] != 0)
        return -EBADMSG;
    uint64_t len = 0;
    for (size_t i = 1; i < FRAME_BYTES; i++)
        len = len << 8 | (unsigned char)body.data[i];
    struct slice rest = slice_from(body, FRAME_BYTES);
    if (len != rest.len)
        return -EBADMSG;
    while (rest.len) {
        if (!read_varint(&rest, &key))
            return -EBADMSG;
        if (key == 1 << 3 ? !read_varint(&rest, &status) : !skip(&rest, (unsigned)(key & 7)))
            return -EBADMSG;
    }
    *ret_status = status;
    return 0;
}

static void tell_rpc(struct probe_run *run, unsigned code, const char *why) {
    char duration[40];
    probe_format_duration(run->timeout_ms, duration, sizeof duration);
    if (code == UNIMPLEMENTED)
        probe_finish_with(run, PROBE_FAILURE, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", why);
    else if (code == 4)
        probe_finish_with(run, PROBE_FAILURE, "timeout: health rpc did not complete within %s", duration);
    else
        probe_finish_with(run, PROBE_FAILURE, "error: health rpc probe failed: rpc error: code = %s desc = %s",
                          code < ARRAY_LEN(code_names) ? code_names[code] : "Unknown", why);
}

static void tell_unconnected(struct probe_run *run) {
    char duration[40];
    probe_format_duration(run->timeout_ms, duration, sizeof duration);
    probe_finish_with(run, PROBE_FAILURE, "timeout: failed to connect service \"%s\" within %s: context deadline exceeded", run->authority, duration);
}

void probe_grpc_timed_out(struct probe_run *run) {
    if (run->call && http2_call_is_open(run->call))
        tell_rpc(run, 4, "");
    else
        tell_unconnected(run);
}

static void tell_health(struct probe_run *run, struct slice body) {
    uint64_t status;
    if (grpc_health_parse(body, &status) < 0)
        tell_rpc(run, 13, "the answer is no HealthCheckResponse");
    else if (status == SERVING)
        probe_finish(run, PROBE_SUCCESS);
    else if (status < ARRAY_LEN(status_names))
        probe_finish_with(run, PROBE_FAILURE, "service unhealthy (responded with \"%s\")", status_names[status]);
    else
        probe_finish_with(run, PROBE_FAILURE, "service unhealthy (responded with \"%" PRIu64 "\")", status);
}

static void on_answer(void *userdata, const struct http2_answer *answer) {
    struct probe_run *run = userdata;
    CLEANUP(buffer_deinit) struct buffer why = BUFFER_INIT(PROBE_MESSAGE_BYTES);
    struct slice code_text = http2_field(answer->call, "grpc-status");
    uint64_t code = UNKNOWN;
    run->call = NULL;
    if (answer->error == -ECONNREFUSED || answer->error == -EHOSTUNREACH || answer->error == -ENETUNREACH || answer->error == -EPROTO)
        return tell_unconnected(run); /* kubelet tries again until the time is over: so do we, with the next run */
    if (answer->error)
        return tell_rpc(run, 14, answer->error == -EBADMSG ? "connection error: desc = \"error reading server preface\"" : "connection closed");
    if (!code_text.data) {
        char text[100];
        for (size_t i = 0; i < ARRAY_LEN(http_codes); i++)
            code = http_codes[i].status == answer->status ? http_codes[i].code : code;
        snprintf(text, sizeof text, "unexpected HTTP status code received from server: %d", answer->status);
        return tell_rpc(run, (unsigned)code, text);
    }
    if (slice_parse_u64(code_text, UINT16_MAX, &code) < 0)
        code = UNKNOWN;
    if (code == 0)
        return tell_health(run, answer->body);
    if (percent_decode(&why, http2_field(answer->call, "grpc-message"), false) < 0)
        buffer_reset(&why);
    tell_rpc(run, (unsigned)code, why.data ? why.data : "");
}

int probe_grpc_start(struct probe_run *run) {
    CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(SERVICE_BYTES_MAX + 16);
    struct slice service = slice_head(slice_of(run->target.service), SERVICE_BYTES_MAX);
    char timeout[24];
    size_t len = service.len == 0 ? 0 : service.len + (service.len < 128 ? 2 : 3);
    const char frame[FRAME_BYTES] = {0, 0, 0, (char)(len >> 8), (char)(len & 255)};
    buffer_append(&body, frame, sizeof frame);
    if (service.len) {
        buffer_append_byte(&body, 1 << 3 | 2);
        if (service.len >= 128)
            buffer_append_byte(&body, (char)(128 | (service.len & 127)));
        buffer_append_byte(&body, (char)(service.len < 128 ? service.len : service.len >> 7));
        buffer_append_slice(&body, service);
    }
    snprintf(timeout, sizeof timeout, "%" PRId64 "m", MIN(run->timeout_ms, 99999999));
    const struct http_field fields[] = {
        {"Content-Type", "application/grpc"}, {"User-Agent", PROBE_USER_AGENT}, {"TE", "trailers"}, {"grpc-timeout", timeout}, {NULL, NULL}};
    const struct http2_options options = {.address = run->address,
                                          .tls = run->target.tls ? run->target.tls_2 : NULL,
                                          .peer_name = run->target.host,
                                          .method = "POST",
                                          .authority = run->authority,
                                          .target = "/grpc.health.v1.Health/Check",
                                          .fields = fields,
                                          .body = buffer_slice(&body),
                                          .body_max = PROBE_BODY_BYTES_MAX};
    return buffer_error(&body) ? buffer_error(&body) : http2_call_new(run->loop, &options, on_answer, run, &run->call);
}

/* HTTP probes as kubelet's: 200 to 399 is success. A redirect to the same host is followed, whatever the port; any other ends the probe as a success
 * that warns. Certificates are not looked at. At most PROBE_BODY_BYTES_MAX of an answer are read, and only a warning tells of them. */
#include "runtime/probe_priv.h"

#define FIELDS_MAX 128

static void ask(struct probe_run *run);

static void failed(struct probe_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void failed(struct probe_run *run, const char *format, ...) {
    char url[512], why[400];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    probe_url_format(&run->url, url, sizeof url);
    probe_finish_with(run, PROBE_FAILURE, "Get \"%s\": %s", url, why);
}

void probe_http_timed_out(struct probe_run *run) {
    if (run->status)
        probe_finish_with(run, PROBE_ERROR, "context deadline exceeded (Client.Timeout or context cancellation while reading body)");
    else
        failed(run, "context deadline exceeded (Client.Timeout exceeded while awaiting headers)");
}

static void tell_error(struct probe_run *run, int error) {
    if (error == -ECONNREFUSED || error == -EHOSTUNREACH || error == -ENETUNREACH)
        failed(run, "dial tcp %s: %s", run->authority, probe_connect_error(-error));
    else if (error == -EPROTO && run->url.tls)
        failed(run, "http: server gave HTTP response to HTTPS client");
    else if (error == -EBADMSG)
        failed(run, run->target.http2 ? "http2: frame too large" : "net/http: HTTP/1.x transport connection broken: malformed HTTP response");
    else if (error == -ECONNRESET || error == -EPIPE)
        failed(run, "EOF");
    else
        failed(run, "%s", strerror(-error));
}

static bool is_followed(int status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static bool redirect(struct probe_run *run) {
    struct probe_url to;
    bool is_absolute;
    if (!is_followed(run->status) || !run->location[0] || probe_url_resolve(&run->url, slice_of(run->location), &to, &is_absolute) < 0 ||
        strcasecmp(to.host, run->target.host) != 0)
        return false;
    if (++run->redirects > PROBE_REDIRECTS_MAX) {
        failed(run, "stopped after %d redirects", PROBE_REDIRECTS_MAX);
        return true;
    }
    run->url = to;
    run->is_absolute = run->is_absolute || is_absolute;
    int r = probe_connect(run, to.host, to.port);
    if (r < 0)
        probe_finish_with(run, PROBE_ERROR, "%s", strerror(-r));
    return true;
}

static void answered(struct probe_run *run) {
    if (redirect(run))
        return;
    if (run->target.any_answer)
        probe_finish(run, PROBE_SUCCESS);
    else if (run->status < 200 || run->status >= 400)
        probe_finish_with(run, PROBE_FAILURE, "HTTP probe failed with statuscode: %d", run->status);
    else if (run->status >= 300)
        probe_finish_with(run, PROBE_WARNING, "Probe terminated redirects, Response body: %.*s", SLICE_ARG(buffer_slice(&run->body)));
    else
        probe_finish(run, PROBE_SUCCESS);
}

/* --- HTTP/1.1 --- */

static void on_head(void *userdata, const struct http_answer *head) {
    struct probe_run *run = userdata;
    run->status = head->status;
    snprintf(run->location, sizeof run->location, "%.*s", SLICE_ARG(head->header(head, "Location")));
}

static void on_data(void *userdata, struct slice data) {
    struct probe_run *run = userdata;
    buffer_append_slice(&run->body, slice_head(data, PROBE_BODY_BYTES_MAX - run->body.len));
    if (run->body.len < PROBE_BODY_BYTES_MAX)
        return;
    http_request_cancel(TAKE(run->request)); /* enough */
    answered(run);
}

static void on_end(void *userdata, int error) {
    struct probe_run *run = userdata;
    run->request = NULL;
    if (error && run->status)
        probe_finish_with(run, PROBE_ERROR, "unexpected EOF");
    else if (error)
        tell_error(run, error);
    else
        answered(run);
}

static int ask_1(struct probe_run *run, const struct http_field *fields) {
    static const struct http_stream_handlers handlers = {.on_head = on_head, .on_data = on_data, .on_end = on_end};
    char address[100], endpoint[120];
    sys_address_format(&run->address, address, sizeof address);
    snprintf(endpoint, sizeof endpoint, "%s://%s", run->url.tls ? "https" : "http", address);
    const struct http_client_options options = {.endpoint = endpoint,
                                                .name = run->url.tls ? run->url.host : NULL,
                                                .tls = run->target.tls_1,
                                                .connect_timeout_ms = run->timeout_ms + 1000,
                                                .connections_max = 1};
    const struct http_request_options request = {.method = "GET", .target = run->url.target, .fields = fields, .timeout_ms = -1};
    http_client_free(TAKE(run->client));
    int r = http_client_new(run->loop, &options, &run->client);
    return r < 0 ? r : http_client_stream(run->client, &request, &handlers, run, &run->request);
}

/* --- HTTP/2 --- */

static void on_answer(void *userdata, const struct http2_answer *answer) {
    struct probe_run *run = userdata;
    run->call = NULL;
    if (answer->error)
        return tell_error(run, answer->error);
    run->status = answer->status;
    snprintf(run->location, sizeof run->location, "%.*s", SLICE_ARG(http2_field(answer->call, "location")));
    buffer_append_slice(&run->body, slice_head(answer->body, PROBE_BODY_BYTES_MAX));
    answered(run);
}

static int ask_2(struct probe_run *run, const struct http_field *fields, const char *authority) {
    const struct http2_options options = {.address = run->address,
                                          .tls = run->url.tls ? run->target.tls_2 : NULL,
                                          .peer_name = run->url.host,
                                          .method = "GET",
                                          .authority = authority,
                                          .target = run->url.target,
                                          .fields = fields,
                                          .body_max = MIB};
    return http2_call_new(run->loop, &options, on_answer, run, &run->call);
}

/* --- both --- */

static bool is_named(const struct http_field *field, const char *name) {
    return slice_equal_nocase(slice_of(field->name), slice_of(name));
}

/* Those that were asked for, and what kubelet adds where they do not say otherwise. An empty Accept takes ours away. */
static const char *collect_fields(struct probe_run *run, struct http_field *ret) {
    const char *host = run->authority;
    bool has_agent = false, has_accept = false;
    size_t count = 0;
    for (const struct http_field *field = run->target.fields; field->name && count < FIELDS_MAX; field++) {
        has_agent = has_agent || is_named(field, "User-Agent");
        has_accept = has_accept || is_named(field, "Accept");
        if (is_named(field, "Host"))
            host = *field->value && !run->is_absolute ? field->value : host;
        else if (!is_named(field, "Accept") || *field->value)
            ret[count++] = *field;
    }
    if (!has_agent)
        ret[count++] = (struct http_field){"User-Agent", run->target.any_answer ? "kube-lifecycle/1.32" : PROBE_USER_AGENT};
    if (!has_accept)
        ret[count++] = (struct http_field){"Accept", "*/*"};
    ret[count++] = (struct http_field){"Host", host};
    ret[count++] = (struct http_field){"Connection", "close"};
    ret[count] = (struct http_field){NULL, NULL};
    return host;
}

static void ask(struct probe_run *run) {
    struct http_field fields[FIELDS_MAX + 5];
    run->status = 0;
    run->location[0] = 0;
    buffer_reset(&run->body);
    const char *host = collect_fields(run, fields);
    int r = run->target.http2 ? ask_2(run, fields, host) : ask_1(run, fields);
    if (r < 0)
        tell_error(run, r);
}

int probe_http_start(struct probe_run *run) {
    ask(run);
    return 0;
}

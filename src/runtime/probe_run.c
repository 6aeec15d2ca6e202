/* Running a probe once. HTTP: 200 to 399 is success, redirects are not followed. TCP: the connection opens. Command: exit code 0. All are bounded by
 * the timeout. */
#include <netinet/in.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "http/http.h"
#include "runtime/probe.h"
#include "sys/sys.h"

#define MESSAGE_BYTES 512

struct probe_run {
    struct loop *loop;
    probe_done_fn *on_done;
    void *userdata;
    char target[160], message[MESSAGE_BYTES];
    bool success;
    struct loop_timer timeout;
    struct loop_defer done;
    /* one of: */
    struct http_client *client;
    struct http_request *request;
    int fd;
    struct loop_io *io;
    struct exec *exec;
    struct buffer output;
};

void probe_run_cancel(struct probe_run *run) {
    if (!run)
        return;
    loop_timer_cancel(&run->timeout);
    loop_defer_cancel(&run->done);
    http_client_free(run->client);
    loop_io_free(run->io);
    if (run->fd >= 0)
        close(run->fd);
    exec_free(run->exec);
    buffer_deinit(&run->output);
    free(run);
}
DEFINE_CLEANUP(struct probe_run, probe_run_cancel)

/* Reports in a step of its own, so that what ran can be freed safely. */
static void finish(struct probe_run *run, bool success) {
    run->success = success;
    loop_timer_cancel(&run->timeout);
    loop_defer_schedule(&run->done);
}

static void on_done(void *userdata) {
    struct probe_run *run = userdata;
    run->on_done(run->userdata, run->success, run->message);
    probe_run_cancel(run);
}

static void on_timeout(void *userdata) {
    struct probe_run *run = userdata;
    if (run->client)
        snprintf(run->message, sizeof run->message, "Get \"http://%s\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                 run->target);
    else if (run->exec)
        snprintf(run->message, sizeof run->message, "command timed out");
    else
        snprintf(run->message, sizeof run->message, "dial tcp %s: i/o timeout", run->target);
    finish(run, false);
}

static const char *connect_error(int error) {
    return error == ECONNREFUSED ? "connect: connection refused" : error == EHOSTUNREACH ? "connect: no route to host" : strerror(error);
}

/* --- HTTP --- */

static void on_answer(void *userdata, const struct http_answer *answer) {
    struct probe_run *run = userdata;
    if (answer->error)
        snprintf(run->message, sizeof run->message, "Get \"http://%s\": %s%.*s%s", run->target, answer->error == -ECONNREFUSED ? "dial tcp " : "",
                 answer->error == -ECONNREFUSED ? (int)strcspn(run->target, "/") : 0, run->target,
                 answer->error == -ECONNREFUSED                            ? ": connect: connection refused"
                 : answer->error == -ECONNRESET || answer->error == -EPIPE ? "EOF"
                                                                           : strerror(-answer->error));
    else if (answer->status < 200 || answer->status >= 400)
        snprintf(run->message, sizeof run->message, "HTTP probe failed with statuscode: %d", answer->status);
    finish(run, !answer->error && answer->status >= 200 && answer->status < 400);
}

static int run_http(struct probe_run *run, const struct probe_target *target, int64_t timeout_ms) {
    static const struct http_field default_fields[] = {{"User-Agent", "kube-probe/1.33"}, {"Accept", "*/*"}, {NULL, NULL}};
    char endpoint[96];
    snprintf(endpoint, sizeof endpoint, "http://%s:%u", target->host, target->port);
    snprintf(run->target, sizeof run->target, "%s:%u%s", target->host, target->port, target->path && *target->path ? target->path : "/");
    const struct http_client_options options = {.endpoint = endpoint, .connect_timeout_ms = timeout_ms, .connections_max = 1};
    const struct http_request_options request = {.method = "GET",
                                                 .target = target->path && *target->path ? target->path : "/",
                                                 .fields = target->fields ? target->fields : default_fields,
                                                 .timeout_ms = -1,
                                                 .body_max = MIB};
    int r = http_client_new(run->loop, &options, &run->client);
    return r < 0 ? r : http_client_send(run->client, &request, on_answer, run, &run->request);
}

/* --- TCP --- */

static void on_connected(void *userdata, __attribute__((unused)) uint32_t events) {
    struct probe_run *run = userdata;
    int error = 0;
    socklen_t len = sizeof error;
    loop_io_free(run->io);
    run->io = NULL;
    getsockopt(run->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error)
        snprintf(run->message, sizeof run->message, "dial tcp %s: %s", run->target, connect_error(error));
    finish(run, error == 0);
}

static int run_tcp(struct probe_run *run, const struct probe_target *target) {
    struct sys_address address;
    snprintf(run->target, sizeof run->target, "%s:%u", target->host, target->port);
    int r = sys_address_parse(run->target, &address);
    if (r < 0)
        return r;
    run->fd = sys_connect(&address);
    if (run->fd < 0) {
        snprintf(run->message, sizeof run->message, "dial tcp %s: %s", run->target, connect_error(-run->fd));
        finish(run, false);
        return 0;
    }
    return loop_io_new(run->loop, run->fd, EPOLLOUT, on_connected, run, &run->io);
}

/* --- commands --- */

static void on_output(void *userdata, __attribute__((unused)) int stream, struct slice data) {
    struct probe_run *run = userdata;
    buffer_append_slice(&run->output, slice_head(data, MESSAGE_BYTES - 1 - MIN(run->output.len, (size_t)MESSAGE_BYTES - 1)));
}

static void on_exit_code(void *userdata, int code, int error, const char *message) {
    struct probe_run *run = userdata;
    if (error)
        snprintf(run->message, sizeof run->message, "%s", message);
    else
        snprintf(run->message, sizeof run->message, "%.*s", SLICE_ARG(buffer_slice(&run->output)));
    finish(run, !error && code == 0);
}

static int run_command(struct probe_run *run, const struct probe_target *target) {
    const struct exec_options options = {.container_id = target->container_id, .args = target->args};
    const struct exec_callbacks callbacks = {.on_output = on_output, .on_exit = on_exit_code, .userdata = run};
    return exec_start(target->containers, &options, &callbacks, &run->exec);
}

int probe_run(struct loop *loop, const struct probe_target *target, int64_t timeout_ms, probe_done_fn *on_result, void *userdata,
              struct probe_run **ret) {
    CLEANUP(probe_run_cancelp) struct probe_run *run = calloc(1, sizeof *run);
    if (!run)
        return -ENOMEM;
    *run = (struct probe_run){.loop = loop, .on_done = on_result, .userdata = userdata, .fd = -1, .output = BUFFER_INIT(MESSAGE_BYTES)};
    loop_timer_init(&run->timeout, loop, on_timeout, run);
    loop_defer_init(&run->done, loop, on_done, run);
    int r = target->method == PROBE_HTTP  ? run_http(run, target, timeout_ms)
            : target->method == PROBE_TCP ? run_tcp(run, target)
                                          : run_command(run, target);
    if (r == 0)
        r = loop_timer_set(&run->timeout, timeout_ms);
    if (r < 0)
        return r;
    *ret = TAKE(run);
    return 0;
}

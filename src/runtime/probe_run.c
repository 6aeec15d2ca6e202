/* Running a probe once: what all have in common, TCP (the connection opens) and commands (exit code 0). All are bounded by the timeout.
 *
 *   the host is an address, or is looked up on a worker thread ─► HTTP (probe_http.c, which may come back here with a redirect), gRPC (probe_grpc.c)
 *                                                              or TCP */
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <sys/epoll.h>

#include "runtime/probe_priv.h"

#define ARENA_BYTES_MAX (256 * KIB)

/* A name on its way to an address; outlives the run when that is cancelled. */
struct probe_lookup {
    struct probe_run *run; /* NULL: nobody waits any more */
    char host[256], port[8];
    struct sys_address address;
    int error; /* getaddrinfo's */
};

static void stop(struct probe_run *run) {
    if (run->lookup)
        run->lookup->run = NULL;
    run->lookup = NULL;
    http_client_free(TAKE(run->client));
    http2_call_free(TAKE(run->call));
    loop_io_free(TAKE(run->io));
    fd_closep(&run->fd);
    run->fd = -1;
    exec_free(TAKE(run->exec));
}

void probe_run_cancel(struct probe_run *run) {
    if (!run)
        return;
    loop_timer_cancel(&run->timeout);
    loop_defer_cancel(&run->done);
    stop(run);
    buffer_deinit(&run->body);
    arena_free(run->arena);
    free(run);
}
DEFINE_CLEANUP(struct probe_run, probe_run_cancel)

/* Reports in a step of its own, so that what ran can be freed safely. */
void probe_finish(struct probe_run *run, enum probe_outcome outcome) {
    run->outcome = outcome;
    loop_timer_cancel(&run->timeout);
    loop_defer_schedule(&run->done);
}

void probe_finish_with(struct probe_run *run, enum probe_outcome outcome, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(run->message, sizeof run->message, format, args);
    va_end(args);
    probe_finish(run, outcome);
}

static void on_done(void *userdata) {
    struct probe_run *run = userdata;
    run->on_done(run->userdata, run->outcome, run->message);
    probe_run_cancel(run);
}

void probe_format_duration(int64_t ms, char *ret, size_t size) {
    int64_t s = ms / 1000;
    if (ms < 1000)
        snprintf(ret, size, "%" PRId64 "ms", ms);
    else if (s < 60)
        snprintf(ret, size, "%" PRId64 "s", s);
    else if (s < 3600)
        snprintf(ret, size, "%" PRId64 "m%" PRId64 "s", s / 60, s % 60);
    else
        snprintf(ret, size, "%" PRId64 "h%" PRId64 "m%" PRId64 "s", s / 3600, s / 60 % 60, s % 60);
}

const char *probe_connect_error(int error) {
    return error == ECONNREFUSED   ? "connect: connection refused"
           : error == EHOSTUNREACH ? "connect: no route to host"
           : error == ENETUNREACH  ? "connect: network is unreachable"
           : error == ETIMEDOUT    ? "connect: connection timed out"
                                   : strerror(error);
}

static void command_timed_out(struct probe_run *run) {
    char text[512], duration[40];
    size_t len = 0;
    probe_format_duration(run->timeout_ms, duration, sizeof duration);
    text[0] = 0;
    for (const char *const *arg = run->target.args; *arg && len < sizeof text - 1; arg++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", len ? " " : "", *arg);
    probe_finish_with(run, PROBE_FAILURE, "command timed out: \"%s\" timed out after %s", text, duration);
}

static void on_timeout(void *userdata) {
    struct probe_run *run = userdata;
    if (run->method == PROBE_HTTP)
        probe_http_timed_out(run);
    else if (run->method == PROBE_GRPC)
        probe_grpc_timed_out(run);
    else if (run->method == PROBE_COMMAND)
        command_timed_out(run);
    else
        probe_finish_with(run, PROBE_FAILURE, "dial tcp %s: i/o timeout", run->authority);
    stop(run);
}

/* --- TCP --- */

static void on_connected(void *userdata, __attribute__((unused)) uint32_t events) {
    struct probe_run *run = userdata;
    int error = 0;
    socklen_t len = sizeof error;
    loop_io_free(TAKE(run->io));
    getsockopt(run->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error)
        probe_finish_with(run, PROBE_FAILURE, "dial tcp %s: %s", run->authority, probe_connect_error(error));
    else
        probe_finish(run, PROBE_SUCCESS);
}

static int start_tcp(struct probe_run *run) {
    run->fd = sys_connect(&run->address);
    if (run->fd >= 0)
        return loop_io_new(run->loop, run->fd, EPOLLOUT, on_connected, run, &run->io);
    probe_finish_with(run, PROBE_FAILURE, "dial tcp %s: %s", run->authority, probe_connect_error(-run->fd));
    return 0;
}

/* --- names --- */

static int start(struct probe_run *run) {
    return run->method == PROBE_TCP ? start_tcp(run) : run->method == PROBE_GRPC ? probe_grpc_start(run) : probe_http_start(run);
}

static void look_up(void *userdata) {
    struct probe_lookup *lookup = userdata;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found = NULL;
    lookup->error = getaddrinfo(lookup->host, lookup->port, &hints, &found);
    if (lookup->error)
        return;
    memcpy(&lookup->address.storage, found->ai_addr, found->ai_addrlen);
    lookup->address.len = found->ai_addrlen;
    freeaddrinfo(found);
}

static void on_looked_up(void *userdata) {
    CLEANUP(freep) struct probe_lookup *lookup = userdata;
    struct probe_run *run = lookup->run;
    if (!run)
        return;
    run->lookup = NULL;
    run->address = lookup->address;
    int r = lookup->error ? -EHOSTUNREACH : start(run);
    if (lookup->error)
        probe_finish_with(run, PROBE_FAILURE, "dial tcp: lookup %s: %s", lookup->host,
                          lookup->error == EAI_NONAME ? "no such host" : gai_strerror(lookup->error));
    else if (r < 0)
        probe_finish_with(run, PROBE_ERROR, "%s", strerror(-r));
}

int probe_connect(struct probe_run *run, const char *host, uint16_t port) {
    probe_authority(host, port, run->authority, sizeof run->authority);
    if (sys_address_parse(run->authority, &run->address) == 0)
        return start(run);
    struct probe_lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup)
        return -ENOMEM;
    lookup->run = run;
    snprintf(lookup->host, sizeof lookup->host, "%s", host);
    snprintf(lookup->port, sizeof lookup->port, "%u", port);
    int r = loop_work(run->loop, LOOP_NAMES, look_up, on_looked_up, lookup);
    if (r < 0)
        free(lookup);
    else
        run->lookup = lookup;
    return r;
}

/* --- commands --- */

static void on_output(void *userdata, __attribute__((unused)) int stream, struct slice data) {
    struct probe_run *run = userdata;
    buffer_append_slice(&run->body, slice_head(data, PROBE_BODY_BYTES_MAX - run->body.len));
}

static void on_exit_code(void *userdata, int code, int error, const char *message) {
    struct probe_run *run = userdata;
    if (error)
        probe_finish_with(run, PROBE_ERROR, "%s", message);
    else
        probe_finish_with(run, code == 0 ? PROBE_SUCCESS : PROBE_FAILURE, "%.*s", SLICE_ARG(buffer_slice(&run->body)));
}

static int start_command(struct probe_run *run, const struct probe_target *target) {
    const struct exec_options options = {.container_id = target->container_id, .args = target->args};
    const struct exec_callbacks callbacks = {.on_output = on_output, .on_exit = on_exit_code, .userdata = run};
    return exec_start(target->containers, &options, &callbacks, &run->exec);
}

/* --- the whole --- */

static int copy_texts(struct probe_run *run) {
    struct probe_target *target = &run->target;
    const char **const texts[] = {&target->host, &target->path, &target->service};
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        *texts[i] = arena_strdup(run->arena, *texts[i] ? *texts[i] : "");
        if (!*texts[i])
            return -ENOMEM;
    }
    for (; target->args && target->args[count]; count++)
        ;
    const char **args = ARENA_ARRAY(run->arena, const char *, count + 1);
    for (size_t i = 0; args && i < count; i++)
        args[i] = arena_strdup(run->arena, target->args[i]);
    target->args = args;
    if (!args)
        return -ENOMEM;
    for (count = 0; target->fields && target->fields[count].name; count++)
        ;
    struct http_field *fields = ARENA_ARRAY(run->arena, struct http_field, count + 1);
    for (size_t i = 0; fields && i < count; i++)
        fields[i] = (struct http_field){arena_strdup(run->arena, target->fields[i].name), arena_strdup(run->arena, target->fields[i].value)};
    target->fields = fields;
    return fields ? 0 : -ENOMEM;
}

int probe_run(struct loop *loop, const struct probe_target *target, int64_t timeout_ms, probe_done_fn *on_result, void *userdata,
              struct probe_run **ret) {
    CLEANUP(probe_run_cancelp) struct probe_run *run = calloc(1, sizeof *run);
    if (!run)
        return -ENOMEM;
    *run = (struct probe_run){.loop = loop, .on_done = on_result, .userdata = userdata, .method = target->method, .timeout_ms = timeout_ms, .fd = -1};
    run->body = BUFFER_INIT(PROBE_BODY_BYTES_MAX);
    run->target = *target;
    loop_timer_init(&run->timeout, loop, on_timeout, run);
    loop_defer_init(&run->done, loop, on_done, run);
    run->arena = arena_new(ARENA_BYTES_MAX);
    int r = run->arena ? copy_texts(run) : -ENOMEM;
    if (r == 0 && target->method == PROBE_HTTP)
        r = probe_url_make(target->tls, target->host, target->port, target->path, &run->url);
    if (r == 0)
        r = target->method == PROBE_COMMAND ? start_command(run, target) : probe_connect(run, target->host, target->port);
    if (r == 0)
        r = loop_timer_set(&run->timeout, timeout_ms);
    if (r < 0)
        return r;
    *ret = TAKE(run);
    return 0;
}

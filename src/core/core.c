/* The role: opens everything in order, serves until it is told to stop, closes everything in the reverse order.
 *
 *   store → identity (PKI) → platform (registry, forge) → API → controllers → servers on the inherited sockets
 *
 * Stopping (SIGTERM, SIGINT): listeners close, watches and logs end cleanly so that connections drain, and after STOP_GRACE_MS at the latest the rest
 * is cut; then store_close commits what was accepted. Nothing that was acknowledged needs that: a kill -9 loses nothing either. */
#include "core/core_priv.h"

#include <arpa/inet.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "sys/sys.h"

#define CHANGES_BYTES_MAX (4 * MIB) /* of replaced versions, for watches that resume */
#define STOP_GRACE_MS 3000
#define STOP_LOOK_MS 20

struct core {
    const struct core_options *options;
    struct loop *loop;
    struct arena *arena;
    struct store *store;
    struct identity *identity;
    struct platform *platform;
    struct api *api;
    struct executor *executor;
    struct pulse *pulse;
    struct loop_signal *signals;
    struct http_server *servers[CORE_SERVERS_MAX];
    size_t servers_count;
    struct http_server *tls_servers[2]; /* those of the API over TCP: get renewed certificates */
    size_t tls_count;
    struct loop_timer stop_timer;
    int64_t stop_deadline_ns;
    bool stopping;
};

/* --- opening --- */

static int open_store(struct core *core, struct diag *diag) {
    char *folder = arena_printf(core->arena, "%s/core", core->options->state),
         *path = arena_printf(core->arena, "%s/core/store.db", core->options->state);
    char *pki = arena_printf(core->arena, "%s/pki", core->options->state);
    if (!folder || !path || !pki)
        return -ENOMEM;
    int error = sys_mkdirs(folder, 0700);
    if (!error)
        error = sys_mkdirs(pki, 0700);
    if (error)
        return diag_set(diag, error, "cannot make %s: %s", folder, strerror(-error));
    const struct store_options options = {.path = path, .changes_bytes_max = CHANGES_BYTES_MAX};
    return store_open(core->loop, &options, &core->store, diag);
}

static void on_renewed(void *userdata, struct tls_context *context) {
    struct core *core = userdata;
    for (size_t i = 0; i < core->tls_count; i++)
        http_server_set_tls(core->tls_servers[i], context);
}

static const char *first_service_address(struct core *core) {
    struct slice rest = slice_of(core->options->service_range ? core->options->service_range : "10.96.0.0/16");
    char *base = arena_dup(core->arena, slice_cut(&rest, '/'));
    struct in_addr address;
    char text[INET_ADDRSTRLEN];
    if (!base || inet_pton(AF_INET, base, &address) != 1)
        return NULL;
    address.s_addr = htonl(ntohl(address.s_addr) + 1);
    return inet_ntop(AF_INET, &address, text, sizeof text) ? arena_strdup(core->arena, text) : NULL;
}

static int open_identity(struct core *core, struct diag *diag) {
    const char **addresses = ARENA_ARRAY(core->arena, const char *, 4);
    if (!addresses)
        return -ENOMEM;
    size_t count = 0;
    const char *service = first_service_address(core);
    if (core->options->bridge_address)
        addresses[count++] = core->options->bridge_address;
    if (service)
        addresses[count++] = service;
    const struct identity_options options = {
        .state = core->options->state,
        .instance = core->options->instance ? core->options->instance : "tidemill",
        .api_address = core->options->api_address,
        .addresses = addresses,
        .on_renewed = on_renewed,
        .userdata = core,
    };
    return identity_new(core->loop, &options, &core->identity, diag);
}

static int open_platform(struct core *core, struct diag *diag) {
    const struct platform_options options = {.core = core->options, .store = core->store};
    return platform_new(core->loop, &options, &core->platform, diag);
}

static int64_t heartbeat(void *userdata, const char *node) {
    return pulse_heard_ns(((struct core *)userdata)->pulse, node);
}

static void append_metrics(void *userdata, struct buffer *out) {
    struct core *core = userdata;
    metrics_append(core->store, out);
    executor_metrics(core->executor, out);
    platform_metrics(core->platform, out);
}

static int api_port(const struct core *core) {
    const char *colon = core->options->api_address ? strrchr(core->options->api_address, ':') : NULL;
    uint64_t port = 6443;
    if (colon)
        slice_parse_u64(slice_of(colon + 1), 65535, &port);
    return (int)port;
}

static int open_api(struct core *core, struct diag *diag) {
    const struct core_options *options = core->options;
    const struct api_unix_user users[] = {
        {0, "admin", "system:masters"},
        {geteuid(), "system:tidemill", "system:tidemill"},
        {options->gateway_uid, "system:gateway", "system:gateway"},
        {0, NULL, NULL},
    };
    const struct api_mount mounts[] = {
        {"/tidemill/", platform_handle_cli, core->platform},
        {"/v2/", platform_handle_registry, core->platform},
        {NULL, NULL, NULL},
    };
    const struct api_options api = {
        .store = core->store,
        .version = options->version,
        .node_socket = arena_printf(core->arena, "%s/node.sock", options->run),
        .unix_users = users,
        .service_range = options->service_range,
        .advertise_address = options->bridge_address,
        .advertise_port = api_port(core),
        .mounts = mounts,
        .audit_folder = arena_printf(core->arena, "%s/core/audit", options->state),
        .token_keys = identity_token_keys(core->identity),
        .heartbeat = heartbeat,
        .heartbeat_userdata = core,
        .metrics = append_metrics,
        .metrics_userdata = core,
    };
    int error = api_new(core->loop, &api, &core->api, diag);
    if (error)
        return error;
    char volumes_folder[PATH_MAX];
    snprintf(volumes_folder, sizeof volumes_folder, "%s/volumes", options->state);
    const struct executor_options controllers = {.identity = core->identity, .volumes_folder = volumes_folder};
    error = executor_new(core->loop, core->store, core->api, &controllers, &core->executor);
    if (error)
        return diag_set(diag, error, "cannot start the controllers: %s", strerror(-error));
    const struct pulse_options pulse = {.loop = core->loop,
                                        .store = core->store,
                                        .api = core->api,
                                        .run = options->run,
                                        .node_name = options->node_name,
                                        .silence_ms = options->node_silence_ms};
    error = pulse_new(&pulse, &core->pulse);
    return error ? diag_set(diag, error, "cannot look after the node: %s", strerror(-error)) : 0;
}

/* --- serving --- */

static int serve(struct core *core, int fd, struct tls_context *tls, http_handler_fn *handler, void *userdata, struct diag *diag) {
    if (fd < 0)
        return 0;
    ASSERT(core->servers_count < CORE_SERVERS_MAX);
    const struct http_server_options options = {.tls = tls, .handler = handler, .userdata = userdata};
    int error = http_server_new(core->loop, fd, &options, &core->servers[core->servers_count]);
    if (error)
        return diag_set(diag, error, "cannot serve an inherited socket: %s", strerror(-error));
    if (tls)
        core->tls_servers[core->tls_count++] = core->servers[core->servers_count];
    core->servers_count++;
    return 0;
}

static int open_servers(struct core *core, struct diag *diag) {
    const struct core_options *options = core->options;
    struct platform *platform = core->platform;
    int error = serve(core, options->api_fd, identity_tls(core->identity), api_handle, core->api, diag);
    error = error ? error : serve(core, options->api_pods_fd, identity_tls(core->identity), api_handle, core->api, diag);
    error = error ? error : serve(core, options->api_unix_fd, NULL, api_handle, core->api, diag);
    error = error ? error : serve(core, options->registry_fd, NULL, platform_handle_registry, platform, diag);
    error = error ? error : serve(core, options->registry_pods_fd, NULL, platform_handle_registry, platform, diag);
    error = error ? error : serve(core, options->git_fd, NULL, platform_handle_git, platform, diag);
    return error ? error : serve(core, options->job_fd, NULL, platform_handle_job, platform, diag);
}

/* --- stopping --- */

static void on_stop_look(void *userdata) {
    struct core *core = userdata;
    size_t open = 0;
    for (size_t i = 0; i < core->servers_count; i++)
        open += http_server_connections(core->servers[i]);
    if (!open || loop_now_ns(core->loop) >= core->stop_deadline_ns)
        loop_stop(core->loop);
    else
        loop_timer_set(&core->stop_timer, STOP_LOOK_MS);
}

static void on_signal(void *userdata, int signal) {
    struct core *core = userdata;
    if (core->stopping)
        return;
    core->stopping = true;
    log_info("stopping signal=%d", signal);
    for (size_t i = 0; i < core->servers_count; i++)
        http_server_drain(core->servers[i]);
    api_end_watches(core->api);
    core->stop_deadline_ns = loop_now_ns(core->loop) + (int64_t)STOP_GRACE_MS * 1000000;
    loop_timer_set(&core->stop_timer, 0);
}

static int open_all(struct core *core, struct diag *diag) {
    static const int signals[] = {SIGTERM, SIGINT, 0};
    core->arena = arena_new(64 * KIB);
    int error = core->arena ? loop_new(&core->loop) : -ENOMEM;
    if (error)
        return diag_set(diag, error, "cannot start: %s", strerror(-error));
    loop_timer_init(&core->stop_timer, core->loop, on_stop_look, core);
    error = loop_signal_new(core->loop, signals, on_signal, core, &core->signals);
    error = error ? error : open_store(core, diag);
    error = error ? error : open_identity(core, diag);
    error = error ? error : open_platform(core, diag);
    error = error ? error : open_api(core, diag);
    return error ? error : open_servers(core, diag);
}

static void on_flushed(void *userdata, int error) {
    (void)error;
    *(bool *)userdata = true;
}

/* Waits until every write so far has called back, so that nothing calls into what is freed next: commits are in order, so one more write at the end
 * tells. */
static void flush(struct core *core) {
    bool flushed = false;
    int64_t deadline_ns = sys_monotonic_ns() + (int64_t)STOP_GRACE_MS * 1000000;
    if (store_meta_put(core->store, SLICE("core/stopped"), SLICE("1"), on_flushed, &flushed))
        return;
    while (!flushed && sys_monotonic_ns() < deadline_ns)
        loop_turn(core->loop, STOP_LOOK_MS);
    if (flushed)
        return;
    log_error("the store does not commit; leaving without waiting for it");
    _exit(1); /* the disk hangs: nothing acknowledged is lost, and the supervisor starts us again */
}

static void close_all(struct core *core) {
    for (size_t i = 0; i < core->servers_count; i++)
        http_server_free(core->servers[i]);
    pulse_free(core->pulse);
    if (core->executor)
        executor_stop(core->executor);
    if (core->store)
        flush(core);
    if (core->loop)
        loop_timer_cancel(&core->stop_timer);
    platform_free(core->platform);
    executor_free(core->executor);
    api_free(core->api);
    identity_free(core->identity);
    store_close(core->store);
    loop_signal_free(core->signals);
    loop_free(core->loop);
    arena_free(core->arena);
}

int core_run(const struct core_options *options, struct diag *diag) {
    struct core core = {.options = options};
    int64_t start_ns = sys_monotonic_ns();
    int error = open_all(&core, diag);
    if (!error) {
        log_info("ready api=%s objects_revision=%" PRIu64 " start_ms=%" PRId64, options->api_address ? options->api_address : "",
                 store_revision(core.store), (sys_monotonic_ns() - start_ns) / 1000000);
        error = loop_run(core.loop);
    }
    close_all(&core);
    return error;
}

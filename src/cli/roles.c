/* The hidden commands that are the roles: settings and inherited sockets become a role's options. A role started by hand, without a supervisor, opens
 * its own sockets. */
#include "cli/functions_priv.h"
#include "cli/roles_priv.h"
#include "cli/terminal_priv.h"

#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

#include "core/core.h"
#include "gateway/gateway.h"
#include "monitor/monitor.h"
#include "node/node.h"
#include "supervisor/supervisor.h"
#include "sys/sys.h"

#define ROLE_LISTEN_BACKLOG 1024

/* The socket that the supervisor handed down, or one of our own. Negative errno with diag. */
static int get_socket(const char *name, const char *address, struct diag *diag) {
    struct sys_address parsed;
    int fd = supervisor_socket_inherited(name);
    if (fd >= 0)
        return fd;
    int r = sys_address_parse(address, &parsed);
    if (r == 0)
        r = sys_listen(&parsed, ROLE_LISTEN_BACKLOG, 0660);
    return r < 0 ? diag_set(diag, r, "cannot listen on %s for %s: %s", address, name, strerror(-r)) : r;
}

static int get_unix_socket(const struct settings *settings, const char *name, const char *file, struct diag *diag) {
    return get_socket(name, arena_printf(settings->arena, "unix:%s/%s", settings->run, file), diag);
}

static enum log_level parse_level(const char *text) {
    static const char *const names[] = {"debug", "info", "warning", "error"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], text) == 0)
            return (enum log_level)i;
    return LOG_INFO;
}

/* Reads the settings, sets up logging, runs `role`, prints why it could not start. */
static int run_role(const struct invocation *invocation, int (*role)(const struct settings *settings, struct diag *diag)) {
    struct settings settings;
    struct diag diag = DIAG_INIT;
    if (settings_read(invocation, &settings, &diag) < 0)
        return terminal_error(&diag);
    log_setup(invocation->command->name, parse_level(settings.log_level));
    int r = role(&settings, &diag);
    if (r < 0) {
        char text[2048];
        log_error("%s", diag_format(&diag, text, sizeof text));
    }
    settings_deinit(&settings);
    return r < 0 ? 1 : 0;
}

static uid_t user_id(const char *name) {
    const struct passwd *entry = getpwnam(name);
    return entry ? entry->pw_uid : (uid_t)-1;
}

static int core(const struct settings *settings, struct diag *diag) {
    uint64_t port = 80, keep_images = IMAGES_KEPT_DEFAULT;
    const char *bridge = settings_bridge_address(settings);
    const char *registry = arena_printf(settings->arena, "%s:%s", bridge, settings_port(settings->registry_listen));
    const char *api_pods = settings_api_pods_address(settings);
    slice_parse_u64(slice_of(settings_port(settings->http_listen)), 65535, &port);
    slice_parse_u64(slice_of(settings->keep_images), IMAGES_KEPT_MAX, &keep_images);
    struct settings_image_gc image_gc = {.high_percent = 100};
    settings_image_gc(settings, &image_gc, NULL); /* checked when they were read */
    const struct core_options options = {.instance = settings->instance,
                                         .state = settings->state,
                                         .run = settings->run,
                                         .version = TIDEMILL_VERSION,
                                         .node_name = settings->node_name,
                                         .api_fd = get_socket("api", settings->api_listen, diag),
                                         .api_pods_fd = api_pods ? get_socket("api-pods", api_pods, diag) : -1,
                                         .api_unix_fd = get_unix_socket(settings, "api-unix", "api.sock", diag),
                                         .registry_fd = get_socket("registry", settings->registry_listen, diag),
                                         .registry_pods_fd = get_socket("registry-pods", registry, diag),
                                         .git_fd = get_socket("git", settings->git_listen, diag),
                                         .job_fd = get_unix_socket(settings, "job", "job/job.sock", diag),
                                         .api_address = settings->api_listen,
                                         .bridge_address = bridge,
                                         .service_range = settings->service_cidr,
                                         .registry = registry,
                                         .git_url = arena_printf(settings->arena, "http://%s", settings->git_listen),
                                         .domain = settings->domain,
                                         .gateway_port = (int)port,
                                         .gateway_uid = user_id(settings->gateway_user),
                                         .image_gc_high_percent = image_gc.high_percent,
                                         .image_gc_low_percent = image_gc.low_percent,
                                         .image_age_ns_min = image_gc.age_ns_min,
                                         .keep_images = (size_t)keep_images,
                                         .registries = settings->registries,
                                         .registry_auth = settings->registry_auth,
                                         .helper_path = executable_helper(settings->arena)};
    const int fds[] = {options.api_fd, options.api_unix_fd, options.registry_fd, options.registry_pods_fd, options.git_fd, options.job_fd};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        if (fds[i] < 0)
            return fds[i];
    if (api_pods && options.api_pods_fd < 0)
        return options.api_pods_fd;
    return core_run(&options, diag);
}

int run_core(const struct invocation *invocation) {
    return run_role(invocation, core);
}

static void fill_node(const struct settings *settings, const char *const *registry_hosts, struct node_options *ret) {
    *ret = (struct node_options){.instance = settings->instance,
                                 .state_dir = settings->state,
                                 .run_dir = settings->run,
                                 .api_endpoint = arena_printf(settings->arena, "unix:%s/api.sock", settings->run),
                                 .node_name = settings->node_name,
                                 .pod_cidr = settings->pod_cidr,
                                 .pod_cidr6 = settings->pod_cidr6,
                                 .service_cidr = settings->service_cidr,
                                 .registry_hosts = registry_hosts,
                                 .eviction_hard = settings->eviction_hard,
                                 .eviction_soft = settings->eviction_soft,
                                 .eviction_soft_grace_period = settings->eviction_soft_grace_period,
                                 .eviction_minimum_reclaim = settings->eviction_minimum_reclaim,
                                 .eviction_pressure_transition_period = settings->eviction_pressure_transition_period,
                                 .eviction_max_pod_grace_period = settings->eviction_max_pod_grace_period,
                                 .socket_fd = -1,
                                 .metrics_fd = -1};
}

static int node(const struct settings *settings, struct diag *diag) {
    const char *bridge = settings_bridge_address(settings);
    const char *const registry_hosts[] = {settings->registry_listen,
                                          arena_printf(settings->arena, "%s:%s", bridge, settings_port(settings->registry_listen)), NULL};
    struct node_options options;
    fill_node(settings, registry_hosts, &options);
    options.socket_fd = get_unix_socket(settings, "node", "node.sock", diag);
    return options.socket_fd < 0 ? options.socket_fd : node_run(&options, diag);
}

int run_node(const struct invocation *invocation) {
    return run_role(invocation, node);
}

int roles_purge_node(const struct settings *settings, struct diag *diag) {
    struct node_options options;
    fill_node(settings, NULL, &options);
    return node_purge(&options, diag);
}

static int gateway(const struct settings *settings, struct diag *diag) {
    int http_fd = get_socket("http", settings->http_listen, diag);
    const struct gateway_options options = {.http_fds = &http_fd,
                                            .http_fds_count = 1,
                                            .metrics_fd = get_unix_socket(settings, "gateway", "gateway.sock", diag),
                                            .api_endpoint = arena_printf(settings->arena, "unix:%s/api.sock", settings->run)};
    if (http_fd < 0 || options.metrics_fd < 0)
        return -EADDRINUSE;
    return gateway_run(&options, diag);
}

int run_gateway(const struct invocation *invocation) {
    return run_role(invocation, gateway);
}

/* What of pods is kept: a page of all would fill the store's few megabytes within minutes. */
#define USED                                                                                                                                         \
    "/metrics/cadvisor?name[]=container_cpu_usage_seconds_total&name[]=container_cpu_cfs_throttled_periods_total"                                    \
    "&name[]=container_memory_working_set_bytes&name[]=container_spec_memory_limit_bytes&name[]=container_oom_events_total"                          \
    "&name[]=container_fs_usage_bytes&name[]=container_network_receive_bytes_total&name[]=container_network_transmit_bytes_total"                    \
    "&name[]=container_processes&name[]=container_start_time_seconds"

static int monitor(const struct settings *settings, struct diag *diag) {
    const char *api = arena_printf(settings->arena, "unix:%s/api.sock", settings->run);
    const struct monitor_target targets[] = {
        {"tidemill-core", api, NULL},
        {"tidemill-gateway", arena_printf(settings->arena, "unix:%s/gateway.sock", settings->run), NULL},
        {"tidemill-node", arena_printf(settings->arena, "unix:%s/node.sock", settings->run), NULL},
        {"cadvisor", arena_printf(settings->arena, "unix:%s/node.sock", settings->run), USED},
        {"tidemill-monitor", arena_printf(settings->arena, "http://%s", settings->monitor_listen), NULL},
    };
    const struct monitor_options options = {.listen_fd = get_socket("monitor", settings->monitor_listen, diag),
                                            .api_endpoint = api,
                                            .targets = targets,
                                            .targets_count = ARRAY_LEN(targets)};
    return options.listen_fd < 0 ? options.listen_fd : monitor_run(&options, diag);
}

int run_monitor(const struct invocation *invocation) {
    return run_role(invocation, monitor);
}

/* Everything that can be configured: one table gives each setting its flag, its key in the configuration file and its default. Flags beat the file,
 * the file beats defaults. */
#ifndef TIDEMILL_CLI_SETTINGS_PRIV_H
#define TIDEMILL_CLI_SETTINGS_PRIV_H

#include <limits.h>
#include <sys/types.h>

#include "cli/command_priv.h"

#define SETTINGS_FILE "/etc/tidemill/config.yaml"
#define SETTINGS_RUNNING_FILE "settings.yaml" /* in the run folder: what the instance was started with */

/* Texts live in the settings' own arena. */
struct settings {
    struct arena *arena;
    const char *config;
    const char *instance; /* at most 10 of [a-z0-9]: bridges, tables, cgroups carry it */
    const char *state, *run;
    const char *api_listen, *http_listen, *registry_listen, *git_listen, *monitor_listen;
    const char *pod_cidr, *pod_cidr6, *service_cidr;
    const char *domain; /* applications are served at NAME.DOMAIN */
    const char *user, *gateway_user;
    const char *keep_images; /* a number */
    const char *image_gc_high_threshold, *image_gc_low_threshold, *minimum_image_ttl_duration;
    const char *eviction_hard, *eviction_soft, *eviction_soft_grace_period, *eviction_minimum_reclaim; /* kubelet's; "": what is usual */
    const char *eviction_pressure_transition_period, *eviction_max_pod_grace_period;
    const char *registries, *registry_auth; /* files about other registries */
    const char *node_name;
    const char *log_level;
};

struct settings_image_gc {
    unsigned high_percent, low_percent;
    int64_t age_ns_min;
};
/* What the texts about images say; -EINVAL with diag. */
int settings_image_gc(const struct settings *settings, struct settings_image_gc *ret, struct diag *diag);

/* The flags of the table, ends with name NULL. */
extern const struct flag settings_flags[];

/* Reads flags and the file (a missing default file is fine), checks every value. -EINVAL with diag. Free with settings_deinit. */
int settings_read(const struct invocation *invocation, struct settings *ret, struct diag *diag);
/* The same for a command about an instance that runs (or ran): what that instance was started with comes between the file and the flags. The instance
 * is the one of --run or $TIDEMILL_RUN. */
int settings_read_running(const struct invocation *invocation, struct settings *ret, struct diag *diag);
/* Leaves the settings in the run folder for settings_read_running. Negative errno with diag. */
int settings_write_running(const struct settings *settings, struct diag *diag);
/* Prints where things are served, a line each. */
void settings_print_addresses(const struct settings *settings);
void settings_deinit(struct settings *settings);
/* The command line that gives another process of ours the same settings: [executable, role, --flag, value, …, NULL] in the settings' arena; NULL
 * without memory. */
const char *const *settings_argv(const struct settings *settings, const char *executable, const char *role);
/* Path beneath state or run, in the settings' arena. */
const char *settings_path(const struct settings *settings, const char *base, const char *name);
/* The first host address of the pod range ("10.88.0.1"), in the arena; NULL when the range is malformed. */
const char *settings_bridge_address(const struct settings *settings);
/* Where pods reach the API: the bridge\'s address with the API\'s port; NULL when the API listens everywhere anyway. In the arena. */
const char *settings_api_pods_address(const struct settings *settings);
/* The port of a HOST:PORT text, "" when there is none. */
const char *settings_port(const char *address);

#endif

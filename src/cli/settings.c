#include "cli/settings_priv.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "codec/codec.h"
#include "node/node.h"
#include "sys/sys.h"

#define SETTINGS_FILE_BYTES_MAX (64 * KIB)

const struct flag settings_flags[] = {
    {"config", 'c', FLAG_TEXT, "FILE", SETTINGS_FILE, "settings file"},
    {"instance", 0, FLAG_TEXT, "NAME", "tidemill", "name of this instance, in bridges, firewall tables and cgroups"},
    {"state", 0, FLAG_TEXT, "DIR", "/var/lib/tidemill", "where everything that must last is kept"},
    {"run", 0, FLAG_TEXT, "DIR", "/run/tidemill", "where sockets and run-time files are kept"},
    {"api-listen", 0, FLAG_TEXT, "ADDR", "127.0.0.1:6443", "Kubernetes API over TLS"},
    {"http-listen", 0, FLAG_TEXT, "ADDR", "0.0.0.0:80", "applications over HTTP"},
    {"registry-listen", 0, FLAG_TEXT, "ADDR", "127.0.0.1:5000", "container image registry"},
    {"git-listen", 0, FLAG_TEXT, "ADDR", "127.0.0.1:3000", "git over HTTP"},
    {"monitor-listen", 0, FLAG_TEXT, "ADDR", "127.0.0.1:9090", "metrics queries"},
    {"pod-cidr", 0, FLAG_TEXT, "CIDR", "10.88.0.0/16", "addresses of pods; the first one is the bridge's"},
    {"pod-cidr6", 0, FLAG_TEXT, "CIDR", "auto", "second addresses of pods, such as fd00:88::/64; auto: a local range; none: IPv4 only"},
    {"service-cidr", 0, FLAG_TEXT, "CIDR", "10.96.0.0/16", "addresses of services"},
    {"domain", 0, FLAG_TEXT, "NAME", "localhost", "applications without an Ingress are served at APP.NAME"},
    {"user", 0, FLAG_TEXT, "USER", "tidemill", "user that core and monitor run as"},
    {"gateway-user", 0, FLAG_TEXT, "USER", "tidemill-gateway", "user that the gateway runs as"},
    {"keep-images", 0, FLAG_TEXT, "COUNT", "10", "newest images of each application that are kept; what is in use is kept in any case"},
    {"image-gc-high-threshold", 0, FLAG_TEXT, "PERCENT", "85", "with more of the disk used, pulled images that nobody needs go; 100: never"},
    {"image-gc-low-threshold", 0, FLAG_TEXT, "PERCENT", "80", "until no more than this is used"},
    {"minimum-image-ttl-duration", 0, FLAG_TEXT, "TIME", "2m", "age before which no image goes so"},
    {"eviction-hard", 0, FLAG_TEXT, "LIST", "",
     "what must stay available, as kubelet's: memory.available<100Mi,nodefs.available<10%,…; usual values when empty"},
    {"eviction-soft", 0, FLAG_TEXT, "LIST", "", "the same, for what may be short for a while"},
    {"eviction-soft-grace-period", 0, FLAG_TEXT, "LIST", "", "how long: memory.available=1m30s,…"},
    {"eviction-minimum-reclaim", 0, FLAG_TEXT, "LIST", "", "how much more than that is freed: nodefs.available=500Mi,…"},
    {"eviction-pressure-transition-period", 0, FLAG_TEXT, "TIME", "", "how long pressure is told after it has ended (5m)"},
    {"eviction-max-pod-grace-period", 0, FLAG_TEXT, "SECONDS", "", "what pods get to end at a soft threshold, at most (30)"},
    {"registries", 0, FLAG_TEXT, "FILE", "/etc/tidemill/registries.yaml", "mirrors, certificate authorities and TLS of other registries"},
    {"registry-auth", 0, FLAG_TEXT, "FILE", NULL, "credentials for other registries, a docker config.json (default: registry/auth.json in --state)"},
    {"node-name", 0, FLAG_TEXT, "NAME", NULL, "name of this node (default the host's name)"},
    {"log-level", 0, FLAG_TEXT, "LEVEL", "info", "debug, info, warning or error"},
    {.name = NULL},
};

static const struct {
    const char *flag, *key;
    size_t offset;
} places[] = {
    {"config", NULL, offsetof(struct settings, config)},
    {"instance", "instance", offsetof(struct settings, instance)},
    {"state", "state", offsetof(struct settings, state)},
    {"run", "run", offsetof(struct settings, run)},
    {"api-listen", "apiListen", offsetof(struct settings, api_listen)},
    {"http-listen", "httpListen", offsetof(struct settings, http_listen)},
    {"registry-listen", "registryListen", offsetof(struct settings, registry_listen)},
    {"git-listen", "gitListen", offsetof(struct settings, git_listen)},
    {"monitor-listen", "monitorListen", offsetof(struct settings, monitor_listen)},
    {"pod-cidr", "podCIDR", offsetof(struct settings, pod_cidr)},
    {"pod-cidr6", "podCIDR6", offsetof(struct settings, pod_cidr6)},
    {"service-cidr", "serviceCIDR", offsetof(struct settings, service_cidr)},
    {"domain", "domain", offsetof(struct settings, domain)},
    {"user", "user", offsetof(struct settings, user)},
    {"gateway-user", "gatewayUser", offsetof(struct settings, gateway_user)},
    {"keep-images", "keepImages", offsetof(struct settings, keep_images)},
    {"image-gc-high-threshold", "imageGCHighThresholdPercent", offsetof(struct settings, image_gc_high_threshold)},
    {"image-gc-low-threshold", "imageGCLowThresholdPercent", offsetof(struct settings, image_gc_low_threshold)},
    {"minimum-image-ttl-duration", "imageMinimumGCAge", offsetof(struct settings, minimum_image_ttl_duration)},
    {"eviction-hard", "evictionHard", offsetof(struct settings, eviction_hard)},
    {"eviction-soft", "evictionSoft", offsetof(struct settings, eviction_soft)},
    {"eviction-soft-grace-period", "evictionSoftGracePeriod", offsetof(struct settings, eviction_soft_grace_period)},
    {"eviction-minimum-reclaim", "evictionMinimumReclaim", offsetof(struct settings, eviction_minimum_reclaim)},
    {"eviction-pressure-transition-period", "evictionPressureTransitionPeriod", offsetof(struct settings, eviction_pressure_transition_period)},
    {"eviction-max-pod-grace-period", "evictionMaxPodGracePeriod", offsetof(struct settings, eviction_max_pod_grace_period)},
    {"registries", "registries", offsetof(struct settings, registries)},
    {"registry-auth", "registryAuth", offsetof(struct settings, registry_auth)},
    {"node-name", "nodeName", offsetof(struct settings, node_name)},
    {"log-level", "logLevel", offsetof(struct settings, log_level)},
};

static const char **slot(const struct settings *settings, size_t index) {
    return (const char **)(void *)((char *)(uintptr_t)settings + places[index].offset);
}

static int unknown_key(const struct tree_entry *entry, const char *file, struct diag *diag) {
    diag_at(diag, file, (int)entry->line, (int)entry->column);
    diag_set(diag, -EINVAL, "unknown setting \"%.*s\"", SLICE_ARG(entry->key));
    struct buffer known = BUFFER_INIT(DIAG_TEXT_MAX);
    for (size_t i = 1; i < ARRAY_LEN(places); i++)
        buffer_printf(&known, "%s%s", i > 1 ? ", " : "known are: ", places[i].key);
    diag_hint(diag, 0, "%s", known.data ? known.data : "");
    buffer_deinit(&known);
    return -EINVAL;
}

/* Text in the arena, a number as text; NULL for anything else. */
static const char *value_text(const struct settings *settings, const struct tree *value) {
    if (value->type == TREE_INT)
        return arena_printf(settings->arena, "%" PRId64, tree_int_or(value, 0));
    return value->type == TREE_STRING ? value->string.data : NULL;
}

/* The file of what runs may have been written by a newer version: what this one does not know is left out. */
static int apply_file(struct settings *settings, const struct tree *root, bool running, struct diag *diag) {
    if (root->type == TREE_NULL)
        return 0;
    if (root->type != TREE_MAP) {
        diag_at(diag, settings->config, (int)root->line, (int)root->column);
        return diag_set(diag, -EINVAL, "expected a mapping of settings, found %s", tree_type_name(root));
    }
    for (size_t i = 0; i < root->children->count; i++) {
        const struct tree_entry *entry = &root->children->items[i];
        size_t at = 1;
        while (at < ARRAY_LEN(places) && !slice_is(entry->key, places[at].key))
            at++;
        if (at == ARRAY_LEN(places) && running)
            continue;
        if (at == ARRAY_LEN(places))
            return unknown_key(entry, settings->config, diag);
        const char *text = value_text(settings, entry->value);
        if (!text) {
            diag_at(diag, settings->config, (int)entry->value->line, (int)entry->value->column);
            return diag_set(diag, -EINVAL, "%s must be text, found %s", places[at].key, tree_type_name(entry->value));
        }
        *slot(settings, at) = text;
    }
    return 0;
}

static int read_file(struct settings *settings, bool required, bool running, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(SETTINGS_FILE_BYTES_MAX);
    int r = sys_read_file(AT_FDCWD, settings->config, SETTINGS_FILE_BYTES_MAX, &text);
    if (r == -ENOENT && !required)
        return 0;
    if (r < 0)
        return diag_set(diag, r, "cannot read %s: %s", settings->config, strerror(-r));
    struct tree *root;
    diag_at(diag, settings->config, 0, 0);
    r = yaml_parse_one(settings->arena, buffer_slice(&text), &root, diag);
    if (r == 0)
        r = apply_file(settings, root, running, diag);
    if (r == 0 && diag)
        diag->file[0] = '\0';
    return r;
}

static bool is_instance_name(const char *name) {
    size_t len = strlen(name);
    for (size_t i = 0; i < len; i++)
        if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9')))
            return false;
    return len > 0 && len <= 10;
}

static int check_cidr(const char *flag, const char *text, struct diag *diag) {
    char address[64];
    struct slice rest = slice_of(text), host = slice_cut(&rest, '/');
    struct in_addr parsed;
    uint64_t bits;
    if (host.len < sizeof address && rest.data && slice_parse_u64(rest, 24, &bits) == 0 && bits >= 8) {
        snprintf(address, sizeof address, "%.*s", SLICE_ARG(host));
        if (inet_pton(AF_INET, address, &parsed) == 1 && (ntohl(parsed.s_addr) & (UINT32_MAX >> bits)) == 0)
            return 0;
    }
    return diag_set(diag, -EINVAL, "--%s: \"%s\" is no IPv4 network of 8 to 24 bits, such as 10.88.0.0/16", flag, text);
}

static int check_cidr6(const char *text, struct diag *diag) {
    char address[64];
    struct slice rest = slice_of(text), host = slice_cut(&rest, '/');
    struct in6_addr parsed;
    uint64_t bits;
    if (strcmp(text, "auto") == 0 || strcmp(text, "none") == 0)
        return 0;
    snprintf(address, sizeof address, "%.*s", (int)MIN(host.len, sizeof address - 1), host.data);
    if (rest.data && slice_parse_u64(rest, 112, &bits) == 0 && bits >= 8 && inet_pton(AF_INET6, address, &parsed) == 1)
        return 0;
    return diag_set(diag, -EINVAL, "--pod-cidr6: \"%s\" is no IPv6 network of 8 to 112 bits, such as fd00:88::/64, nor auto or none", text);
}

static int check_eviction(const struct settings *settings, struct diag *diag) {
    const struct node_options options = {.eviction_hard = settings->eviction_hard,
                                         .eviction_soft = settings->eviction_soft,
                                         .eviction_soft_grace_period = settings->eviction_soft_grace_period,
                                         .eviction_minimum_reclaim = settings->eviction_minimum_reclaim,
                                         .eviction_pressure_transition_period = settings->eviction_pressure_transition_period,
                                         .eviction_max_pod_grace_period = settings->eviction_max_pod_grace_period};
    return node_options_check(&options, diag);
}

int settings_image_gc(const struct settings *settings, struct settings_image_gc *ret, struct diag *diag) {
    uint64_t high, low;
    int64_t age_ns;
    if (slice_parse_u64(slice_of(settings->image_gc_high_threshold), 100, &high) < 0)
        return diag_set(diag, -EINVAL, "--image-gc-high-threshold: \"%s\" is no number from 0 to 100", settings->image_gc_high_threshold);
    if (slice_parse_u64(slice_of(settings->image_gc_low_threshold), 100, &low) < 0)
        return diag_set(diag, -EINVAL, "--image-gc-low-threshold: \"%s\" is no number from 0 to 100", settings->image_gc_low_threshold);
    if (low >= high)
        return diag_set(diag, -EINVAL, "--image-gc-low-threshold: %" PRIu64 " must be less than --image-gc-high-threshold, which is %" PRIu64, low,
                        high);
    if (duration_parse(slice_of(settings->minimum_image_ttl_duration), &age_ns) < 0 || age_ns < 0)
        return diag_set(diag, -EINVAL, "--minimum-image-ttl-duration: \"%s\" is no duration such as 2m", settings->minimum_image_ttl_duration);
    *ret = (struct settings_image_gc){.high_percent = (unsigned)high, .low_percent = (unsigned)low, .age_ns_min = age_ns};
    return 0;
}

static int check(const struct settings *settings, struct diag *diag) {
    struct sys_address address;
    if (!is_instance_name(settings->instance))
        return diag_set(diag, -EINVAL, "--instance: \"%s\" must be 1 to 10 characters of a-z and 0-9", settings->instance);
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        const char *value = *slot(settings, i);
        if (slice_ends(slice_of(places[i].flag), SLICE("-listen")) && sys_address_parse(value, &address) < 0)
            return diag_set(diag, -EINVAL, "--%s: \"%s\" is no address: expected HOST:PORT, such as 127.0.0.1:8080", places[i].flag, value);
    }
    uint64_t keep_images;
    if (slice_parse_u64(slice_of(settings->keep_images), IMAGES_KEPT_MAX, &keep_images) < 0 || keep_images == 0)
        return diag_set(diag, -EINVAL, "--keep-images: \"%s\" is no number from 1 to %d", settings->keep_images, IMAGES_KEPT_MAX);
    if (settings->state[0] != '/' || settings->run[0] != '/')
        return diag_set(diag, -EINVAL, "--state and --run must be absolute paths");
    if (strlen(settings->run) > 60)
        return diag_set(diag, -EINVAL, "--run: a path of at most 60 characters is needed, for its sockets");
    if (!name_is_dns_subdomain(slice_of(settings->node_name)))
        return diag_set(diag, -EINVAL, "--node-name: \"%s\" must be a lower-case DNS name", settings->node_name);
    if (!name_is_dns_subdomain(slice_of(settings->domain)))
        return diag_set(diag, -EINVAL, "--domain: \"%s\" must be a lower-case DNS name", settings->domain);
    static const char *const levels[] = {"debug", "info", "warning", "error"};
    bool level_known = false;
    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        level_known = level_known || strcmp(levels[i], settings->log_level) == 0;
    if (!level_known)
        return diag_set(diag, -EINVAL, "--log-level: \"%s\" must be debug, info, warning or error", settings->log_level);
    int r = check_cidr("pod-cidr", settings->pod_cidr, diag);
    struct settings_image_gc image_gc;
    if (r == 0)
        r = check_cidr6(settings->pod_cidr6, diag);
    if (r == 0)
        r = check_eviction(settings, diag);
    if (r == 0)
        r = settings_image_gc(settings, &image_gc, diag);
    return r < 0 ? r : check_cidr("service-cidr", settings->service_cidr, diag);
}

static const char *absolute(struct arena *arena, const char *path) {
    char here[PATH_MAX];
    if (path[0] == '/' || !getcwd(here, sizeof here))
        return path;
    return arena_printf(arena, "%s/%s", here, path);
}

static const char *host_name(struct arena *arena) {
    char name[254] = "";
    if (gethostname(name, sizeof name - 1) < 0 || !name[0])
        return "node";
    for (char *at = name; *at; at++)
        if (*at >= 'A' && *at <= 'Z')
            *at = (char)(*at + 32);
    return name_is_dns_subdomain(slice_of(name)) ? arena_strdup(arena, name) : "node";
}

/* What the instance behind --run or $TIDEMILL_RUN was started with, which `up` left in its run folder; nothing when there is none. */
static int read_running(struct settings *settings, const struct invocation *invocation, struct diag *diag) {
    const char *environment = getenv("TIDEMILL_RUN"), *config = settings->config;
    if (invocation_given(invocation, "run"))
        settings->run = invocation_text(invocation, "run");
    else if (environment && environment[0])
        settings->run = arena_strdup(settings->arena, environment);
    settings->config = arena_printf(settings->arena, "%s/%s", settings->run, SETTINGS_RUNNING_FILE);
    int r = settings->config ? read_file(settings, false, true, diag) : -ENOMEM;
    settings->config = config;
    return r == -EACCES || r == -ENOTDIR ? 0 : r;
}

static int read_all(const struct invocation *invocation, bool running, struct settings *ret, struct diag *diag) {
    struct settings settings = {.arena = arena_new(MIB)};
    if (!settings.arena)
        return diag_set(diag, -ENOMEM, "out of memory");
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        *slot(&settings, i) = settings_flags[i].fallback;
    bool has_flags = invocation->command->more_flags == settings_flags; /* others have --run alone */
    if (has_flags)
        settings.config = invocation_text(invocation, "config");
    settings.node_name = host_name(settings.arena);
    int r = read_file(&settings, has_flags && invocation_given(invocation, "config"), false, diag);
    if (r == 0 && running)
        r = read_running(&settings, invocation, diag);
    for (size_t i = 0; i < ARRAY_LEN(places) && r == 0 && has_flags; i++)
        if (invocation_given(invocation, places[i].flag))
            *slot(&settings, i) = invocation_text(invocation, places[i].flag);
    settings.state = absolute(settings.arena, settings.state);
    settings.run = absolute(settings.arena, settings.run);
    settings.registries = absolute(settings.arena, settings.registries);
    settings.registry_auth =
        settings.registry_auth ? absolute(settings.arena, settings.registry_auth) : settings_path(&settings, settings.state, "registry/auth.json");
    if (r == 0)
        r = check(&settings, diag);
    if (r < 0)
        arena_free(settings.arena);
    else
        *ret = settings;
    return r;
}

int settings_read(const struct invocation *invocation, struct settings *ret, struct diag *diag) {
    return read_all(invocation, false, ret, diag);
}

int settings_read_running(const struct invocation *invocation, struct settings *ret, struct diag *diag) {
    return read_all(invocation, true, ret, diag);
}

int settings_write_running(const struct settings *settings, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(SETTINGS_FILE_BYTES_MAX);
    struct tree *root = tree_map(settings->arena);
    for (size_t i = 1; root && i < ARRAY_LEN(places); i++)
        tree_set_text(settings->arena, root, places[i].key, *slot(settings, i));
    const char *path = settings_path(settings, settings->run, SETTINGS_RUNNING_FILE);
    int r = root && path ? json_format_pretty(&text, root) : -ENOMEM; /* JSON is YAML */
    if (r == 0)
        r = sys_write_file(AT_FDCWD, path, buffer_slice(&text), 0644);
    return r < 0 ? diag_set(diag, r, "cannot write %s: %s", path ? path : "the settings", strerror(-r)) : 0;
}

void settings_print_addresses(const struct settings *settings) {
    const char *port = settings_port(settings->http_listen);
    bool usual = strcmp(port, "80") == 0;
    printf("  applications   http://APP.%s%s%s/\n", settings->domain, usual ? "" : ":", usual ? "" : port);
    printf("  Kubernetes     export KUBECONFIG=%s/kubeconfig; kubectl get all -A\n", settings->state);
    printf("  git            http://%s/APP.git\n", settings->git_listen);
    printf("  images         %s\n", settings->registry_listen);
    printf("  metrics        http://%s/api/v1/query?query=up\n\n", settings->monitor_listen);
}

void settings_deinit(struct settings *settings) {
    arena_free(settings->arena);
    settings->arena = NULL;
}

const char *const *settings_argv(const struct settings *settings, const char *executable, const char *role) {
    const char **argv = ARENA_ARRAY(settings->arena, const char *, 3 + 2 * ARRAY_LEN(places));
    if (!argv)
        return NULL;
    size_t count = 0;
    argv[count++] = executable;
    argv[count++] = role;
    for (size_t i = 1; i < ARRAY_LEN(places); i++) { /* all but the file: its values are in here */
        argv[count++] = arena_printf(settings->arena, "--%s", places[i].flag);
        argv[count++] = *slot(settings, i);
    }
    return argv;
}

const char *settings_path(const struct settings *settings, const char *base, const char *name) {
    return arena_printf(settings->arena, "%s/%s", base, name);
}

const char *settings_bridge_address(const struct settings *settings) {
    struct slice rest = slice_of(settings->pod_cidr), host = slice_cut(&rest, '/');
    char text[INET_ADDRSTRLEN];
    struct in_addr address;
    snprintf(text, sizeof text, "%.*s", SLICE_ARG(slice_head(host, sizeof text - 1)));
    if (inet_pton(AF_INET, text, &address) != 1)
        return NULL;
    address.s_addr = htonl(ntohl(address.s_addr) + 1);
    return arena_strdup(settings->arena, inet_ntop(AF_INET, &address, text, sizeof text));
}

const char *settings_api_pods_address(const struct settings *settings) {
    static const char *const everywhere[] = {"0.0.0.0:", "[::]:", "*:", ":"};
    for (size_t i = 0; i < ARRAY_LEN(everywhere); i++)
        if (slice_starts(slice_of(settings->api_listen), slice_of(everywhere[i])))
            return NULL;
    return arena_printf(settings->arena, "%s:%s", settings_bridge_address(settings), settings_port(settings->api_listen));
}

const char *settings_port(const char *address) {
    const char *colon = strrchr(address, ':');
    return colon ? colon + 1 : "";
}

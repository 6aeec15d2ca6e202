/* What the network makes of a pod: its sandbox (namespaces, name, settings), its addresses, its /etc/hosts, and the machine's ports that lead to it.
 *
 * Namespaces are taken from a pool (podnet's pool.c), which is filled again when nothing starts; those of a pod with users of its own are made for
 * it. Kernel settings that a pod asks for are written into its namespaces before its first container; only those that cannot touch others are let
 * through, and what a pod on the host's network asks for would be the machine's. */
#include "node/node_priv.h"
#include "sys/sys.h"

#define CLUSTER_DOMAIN "cluster.local"
#define HOSTNAME_LENGTH_MAX 63
#define POOL_CALM_MS 100
#define POOL_NEXT_MS 10
#define HOSTS_BYTES_MAX (512 * KIB)
#define HOST_PORTS_MAX 4096

/* --- the pool --- */

/* A few for a rollout or a job; on a small machine fewer. */
size_t pod_network_pool_size(void) {
    return sysconf(_SC_PHYS_PAGES) / 1024 * sysconf(_SC_PAGESIZE) / 1024 < 1000 ? 3 : 8;
}

static bool is_starting(const struct pod *pod) {
    bool starting = pod->stage == POD_PREPARING && !loop_timer_is_set(&pod->retry);
    for (size_t i = 0; i < pod->units_count; i++)
        starting = starting || pod->units[i]->stage == UNIT_CREATING || pod->units[i]->stage == UNIT_STARTING;
    return starting;
}

static bool is_calm(const struct node *node) {
    void *value;
    for (size_t at = 0; map_next(node->pods, &at, NULL, &value);)
        if (is_starting(value))
            return false;
    return true;
}

static void on_pool(void *userdata) {
    struct node *node = userdata;
    if (!is_calm(node)) {
        loop_timer_set(&node->pool_timer, POOL_CALM_MS);
        return;
    }
    int r = podnet_pool_fill(node->podnet);
    if (r > 0)
        loop_timer_set(&node->pool_timer, POOL_NEXT_MS);
    else if (r < 0)
        log_debug("no namespaces in advance: %s", strerror(-r)); /* then they are made when they are needed */
}

void pod_network_init(struct node *node) {
    loop_timer_init(&node->pool_timer, node->loop, on_pool, node);
}

void pod_network_calm(struct node *node) {
    if (podnet_pool_wants(node->podnet))
        loop_timer_set(&node->pool_timer, POOL_CALM_MS);
}

/* --- names --- */

static const struct kube_pod_spec *spec_of(const struct pod *pod) {
    return &pod->spec_object->pod->spec;
}

/* Without what a cut at the longest length leaves at its end. */
static void short_name(const struct pod *pod, char ret[HOSTNAME_LENGTH_MAX + 1]) {
    const char *name = spec_of(pod)->hostname && *spec_of(pod)->hostname ? spec_of(pod)->hostname : pod->name;
    snprintf(ret, HOSTNAME_LENGTH_MAX + 1, "%s", name);
    for (size_t len = strlen(ret); len > 0 && strlen(name) > HOSTNAME_LENGTH_MAX && (ret[len - 1] == '-' || ret[len - 1] == '.'); len--)
        ret[len - 1] = 0;
}

static bool domain_of(const struct pod *pod, char *ret, size_t size) {
    const char *subdomain = spec_of(pod)->subdomain;
    if (!subdomain || !*subdomain)
        return false;
    snprintf(ret, size, "%s.%s.svc." CLUSTER_DOMAIN, subdomain, pod->namespace);
    return true;
}

int pod_hostname(const struct pod *pod, char ret[65], struct diag *diag) {
    char name[HOSTNAME_LENGTH_MAX + 1], domain[300], whole[400];
    const bool *as_fqdn = spec_of(pod)->set_hostname_as_fqdn;
    short_name(pod, name);
    snprintf(whole, sizeof whole, "%s", name);
    if (as_fqdn && *as_fqdn && domain_of(pod, domain, sizeof domain))
        snprintf(whole, sizeof whole, "%s.%s", name, domain);
    if (strlen(whole) > 64)
        return diag_set(
            diag, -ENAMETOOLONG,
            "failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (64 characters is the max, %zu characters "
            "requested)",
            whole, strlen(whole));
    snprintf(ret, 65, "%s", whole);
    return 0;
}

/* --- addresses --- */

size_t pod_addresses(const struct pod *pod, const char *ret[2]) {
    const struct node *node = pod->node;
    bool own = *pod->net.address;
    const char *const all[] = {own ? pod->net.address : node->host_address, own ? pod->net.address6 : node->host_address6};
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (*all[i])
            ret[count++] = all[i];
    return count;
}

size_t node_addresses(const struct node *node, const char *ret[2]) {
    ret[0] = node->host_address;
    ret[1] = node->host_address6;
    return *ret[1] ? 2 : 1;
}

/* --- /etc/hosts --- */

static void add_aliases(const struct pod *pod, struct buffer *out) {
    const struct kube_host_alias_array *aliases = &spec_of(pod)->host_aliases;
    if (aliases->count)
        buffer_append_text(out, "\n# Entries added by HostAliases.\n");
    for (size_t i = 0; i < aliases->count; i++) {
        buffer_append_text(out, aliases->items[i].ip);
        for (size_t k = 0; k < aliases->items[i].hostnames.count; k++)
            buffer_printf(out, "\t%s", aliases->items[i].hostnames.items[k]);
        buffer_append_byte(out, '\n');
    }
}

/* On the host's network the host's names count. */
static bool add_hosts_of_host(struct buffer *out) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(HOSTS_BYTES_MAX + 1);
    if (sys_read_file(AT_FDCWD, "/etc/hosts", HOSTS_BYTES_MAX, &text) < 0)
        return false;
    buffer_append_text(out, "# Kubernetes-managed hosts file (host network).\n");
    buffer_append_slice(out, buffer_slice(&text));
    return true;
}

void pod_hosts_format(const struct pod *pod, struct buffer *out) {
    char name[HOSTNAME_LENGTH_MAX + 1], domain[300];
    const char *addresses[2];
    if (!spec_of(pod)->host_network || !add_hosts_of_host(out)) {
        short_name(pod, name);
        buffer_append_text(
            out, "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n"
                 "fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
        for (size_t i = 0, count = pod_addresses(pod, addresses); i < count; i++) {
            buffer_printf(out, "%s\t", addresses[i]);
            if (domain_of(pod, domain, sizeof domain))
                buffer_printf(out, "%s.%s\t", name, domain);
            buffer_printf(out, "%s\n", name);
        }
    }
    add_aliases(pod, out);
}

/* --- kernel settings --- */

/* Upstream's list of those that stay within the pod. */
static bool is_safe(const char *name) {
    static const char *const safe[] = {"kernel.shm_rmid_forced",
                                       "net.ipv4.ip_local_port_range",
                                       "net.ipv4.tcp_syncookies",
                                       "net.ipv4.ping_group_range",
                                       "net.ipv4.ip_unprivileged_port_start",
                                       "net.ipv4.ip_local_reserved_ports",
                                       "net.ipv4.tcp_keepalive_time",
                                       "net.ipv4.tcp_fin_timeout",
                                       "net.ipv4.tcp_keepalive_intvl",
                                       "net.ipv4.tcp_keepalive_probes",
                                       "net.ipv4.tcp_rmem",
                                       "net.ipv4.tcp_wmem"};
    char dotted[256];
    snprintf(dotted, sizeof dotted, "%s", name);
    for (char *at = dotted; strchr(name, '/') && *at; at++)
        if (*at == '/' || *at == '.')
            *at = *at == '/' ? '.' : '/'; /* a name with slashes means by a dot a dot in a part of it */
    for (size_t i = 0; i < ARRAY_LEN(safe); i++)
        if (strcmp(dotted, safe[i]) == 0)
            return true;
    return false;
}

/* Why it may not be set; NULL: it may. */
static const char *refusal(const struct pod *pod, const char *name) {
    if (spec_of(pod)->host_network && strncmp(name, "net", 3) == 0)
        return "not allowed with host net enabled";
    if (spec_of(pod)->host_ipc && strncmp(name, "kernel", 6) == 0)
        return "not allowed with host ipc enabled";
    return is_safe(name) ? NULL : "not allowlisted";
}

static const struct kube_sysctl_array *settings_of(const struct pod *pod) {
    static const struct kube_sysctl_array none;
    return spec_of(pod)->security_context ? &spec_of(pod)->security_context->sysctls : &none;
}

bool pod_network_admits(struct pod *pod) {
    const struct kube_sysctl_array *settings = settings_of(pod);
    for (size_t i = 0; i < settings->count; i++) {
        const char *why = refusal(pod, settings->items[i].name);
        if (!why)
            continue;
        snprintf(pod->failed_reason, sizeof pod->failed_reason, "SysctlForbidden");
        snprintf(pod->failed_message, sizeof pod->failed_message, "Pod was rejected: forbidden sysctl: \"%.200s\" %s", settings->items[i].name, why);
        event_pod(pod, NULL, "Warning", "SysctlForbidden", "%s", strstr(pod->failed_message, "forbidden"));
        return false;
    }
    return true;
}

static int write_settings(const struct pod *pod, struct diag *diag) {
    const struct kube_sysctl_array *settings = settings_of(pod);
    for (size_t i = 0; i < settings->count; i++) {
        const struct kube_sysctl *setting = &settings->items[i];
        int r = podnet_set_sysctl(pod->node->podnet, &pod->net, setting->name, setting->value);
        if (r < 0)
            return diag_set(diag, r, "cannot set sysctl %s to \"%s\": %s", setting->name, setting->value, strerror(-r));
    }
    return 0;
}

/* --- the sandbox --- */

bool pod_network_ready(struct pod *pod) {
    struct diag diag = DIAG_INIT;
    char hostname[65], users[PATH_MAX];
    struct podnet_sandbox sandbox = {.uid = pod->uid, .hostname = hostname, .host_network = spec_of(pod)->host_network};
    if (pod->network_ready)
        return true;
    int r = pod_hostname(pod, hostname, &diag);
    if (r == 0 && userns_is_wanted(pod)) {
        r = userns_make(pod, users, &diag);
        sandbox.user_namespace = users;
    }
    if (r == 0)
        r = podnet_add(pod->node->podnet, &sandbox, &pod->net, &diag);
    if (r == 0)
        r = write_settings(pod, &diag);
    pod_network_calm(pod->node);
    if (r < 0) {
        event_pod(pod, NULL, "Warning", "FailedCreatePodSandBox", "Failed to create pod sandbox: %s", diag.message);
        return false;
    }
    pod->network_ready = true;
    if (pod_has_host_ports(pod))
        services_changed(pod->node);
    return true;
}

void pod_network_release(struct pod *pod) {
    podnet_remove(pod->node->podnet, pod->uid);
    if (pod->network_ready && pod_has_host_ports(pod))
        services_changed(pod->node);
}

/* --- the machine's ports --- */

bool pod_has_host_ports(const struct pod *pod) {
    for (size_t i = 0; i < pod->units_count && !spec_of(pod)->host_network; i++)
        for (size_t k = 0; k < pod->units[i]->spec->ports.count; k++)
            if (pod->units[i]->spec->ports.items[k].host_port)
                return true;
    return false;
}

static enum podnet_protocol protocol_of(const struct kube_container_port *port) {
    return port->protocol && strcmp(port->protocol, "UDP") == 0    ? PODNET_UDP
           : port->protocol && strcmp(port->protocol, "SCTP") == 0 ? PODNET_SCTP
                                                                   : PODNET_TCP;
}

static void add_ports(const struct pod *pod, struct podnet_host_port *ports, size_t max, size_t *count) {
    for (size_t i = 0; i < pod->units_count; i++)
        for (size_t k = 0; k < pod->units[i]->spec->ports.count && *count < max; k++) {
            const struct kube_container_port *port = &pod->units[i]->spec->ports.items[k];
            if (port->host_port)
                ports[(*count)++] = (struct podnet_host_port){.protocol = protocol_of(port),
                                                              .host_address = port->host_ip ? port->host_ip : "",
                                                              .host_port = (uint16_t)port->host_port,
                                                              .port = (uint16_t)port->container_port,
                                                              .address = pod->net.address,
                                                              .address6 = pod->net.address6};
        }
}

/* Pods that are on their way out keep their ports to the end: the scheduler gives them to others only then. */
struct podnet_host_port *pod_network_ports(const struct node *node, struct arena *arena, size_t *ret_count) {
    struct podnet_host_port *ports = ARENA_ARRAY(arena, struct podnet_host_port, HOST_PORTS_MAX);
    void *value;
    *ret_count = 0;
    for (size_t at = 0; ports && map_next(node->pods, &at, NULL, &value);) {
        const struct pod *pod = value;
        if (pod->network_ready && pod->stage != POD_ENDED && pod->stage != POD_CLEANING && pod_has_host_ports(pod))
            add_ports(pod, ports, HOST_PORTS_MAX, ret_count);
    }
    return ports;
}

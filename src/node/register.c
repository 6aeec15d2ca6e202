/* The Node object: made when it is missing, its status told at each start, of this process and of core. No heartbeats: that the node lives is seen by
 * the answer that core holds open (GET /alive, core's pulse.c), and an idle platform writes nothing to disk. */
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

#include "codec/codec.h"
#include "node/node_priv.h"
#include "sys/sys.h"

#define RETRY_MS 2000
#define PODS_MAX_TEXT "110"

/* The address of the interface that the default route uses; no packet is sent. */
static bool default_address(char ret[16]) {
    CLEANUP(fd_closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in far = {.sin_family = AF_INET, .sin_port = htons(9)}, own;
    socklen_t len = sizeof own;
    inet_pton(AF_INET, "192.0.2.1", &far.sin_addr);
    if (fd < 0 || connect(fd, (struct sockaddr *)&far, sizeof far) < 0 || getsockname(fd, (struct sockaddr *)&own, &len) < 0)
        return false;
    return inet_ntop(AF_INET, &own.sin_addr, ret, 16) != NULL;
}

void register_host_address(struct node *node) {
    if (node->options->host_address)
        snprintf(node->host_address, sizeof node->host_address, "%s", node->options->host_address);
    else if (!default_address(node->host_address))
        snprintf(node->host_address, sizeof node->host_address, "%s", podnet_gateway(node->podnet));
}

static void read_line(const char *path, char *ret, size_t size) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(4 * KIB);
    *ret = 0;
    if (sys_read_file(AT_FDCWD, path, 4 * KIB - 1, &text) == 0)
        snprintf(ret, size, "%.*s", SLICE_ARG(slice_trim(buffer_slice(&text))));
}

static void read_os_name(char *ret, size_t size) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(16 * KIB);
    snprintf(ret, size, "Linux");
    if (sys_read_file(AT_FDCWD, "/etc/os-release", 16 * KIB - 1, &text) < 0)
        return;
    for (struct slice rest = buffer_slice(&text); rest.data;) {
        struct slice line = slice_cut(&rest, '\n');
        if (slice_starts(line, SLICE("PRETTY_NAME=\"")) && line.len > 14)
            snprintf(ret, size, "%.*s", (int)line.len - 14, line.data + 13);
    }
}

static void add_text(struct buffer *out, const char *lead, const char *value) {
    buffer_append_text(out, lead);
    json_format_string(out, slice_of(value));
}

static void add_resources(struct node *node, struct buffer *out) {
    struct statvfs disk = {0};
    statvfs(node->state_dir, &disk);
    for (int i = 0; i < 2; i++)
        buffer_printf(out, "\"%s\":{\"cpu\":\"%ld\",\"memory\":\"%ldKi\",\"ephemeral-storage\":\"%" PRIu64 "Ki\",\"pods\":\"" PODS_MAX_TEXT "\"},",
                      i ? "allocatable" : "capacity", sysconf(_SC_NPROCESSORS_ONLN), sysconf(_SC_PHYS_PAGES) * (sysconf(_SC_PAGESIZE) / 1024),
                      (uint64_t)disk.f_blocks * disk.f_frsize / 1024);
}

static void add_info(struct buffer *out) {
    char text[256];
    struct utsname names;
    uname(&names);
    read_line("/etc/machine-id", text, sizeof text);
    add_text(out, "\"nodeInfo\":{\"machineID\":", text);
    add_text(out, ",\"systemUUID\":", text);
    read_line("/proc/sys/kernel/random/boot_id", text, sizeof text);
    add_text(out, ",\"bootID\":", text);
    add_text(out, ",\"kernelVersion\":", names.release);
    read_os_name(text, sizeof text);
    add_text(out, ",\"osImage\":", text);
    buffer_append_text(out,
                       ",\"containerRuntimeVersion\":\"crun://tidemill-" TIDEMILL_VERSION "\",\"kubeletVersion\":\"v1.32.0+tidemill-" TIDEMILL_VERSION
                       "\",\"kubeProxyVersion\":\"\",\"operatingSystem\":\"linux\",\"architecture\":\"amd64\"}");
}

static void add_conditions(struct node *node, struct buffer *out) {
    static const struct {
        const char *type, *status, *reason, *message;
    } conditions[] = {
        {"MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"},
        {"DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"},
        {"PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"},
        {"Ready", "True", "KubeletReady", "kubelet is posting ready status"},
    };
    char time[TIMESTAMP_BYTES];
    timestamp_format(loop_wall_ns(node->loop), time);
    buffer_append_text(out, "\"conditions\":[");
    for (size_t i = 0; i < ARRAY_LEN(conditions); i++)
        buffer_printf(
            out,
            "%s{\"type\":\"%s\",\"status\":\"%s\",\"lastHeartbeatTime\":\"%s\",\"lastTransitionTime\":\"%s\",\"reason\":\"%s\",\"message\":\"%s\"}",
            i ? "," : "", conditions[i].type, conditions[i].status, time, time, conditions[i].reason, conditions[i].message);
    buffer_append_text(out, "],");
}

static int format_node(struct node *node, struct buffer *out) {
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    add_text(out, "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":", node->options->node_name);
    add_text(out, ",\"labels\":{\"kubernetes.io/hostname\":", node->options->node_name);
    buffer_append_text(out, ",\"kubernetes.io/os\":\"linux\",\"kubernetes.io/arch\":\"amd64\",\"beta.kubernetes.io/"
                            "os\":\"linux\",\"beta.kubernetes.io/arch\":\"amd64\"}},");
    add_text(out, "\"spec\":{\"podCIDR\":", node->options->pod_cidr);
    add_text(out, ",\"podCIDRs\":[", node->options->pod_cidr);
    buffer_append_text(out, "]},\"status\":{");
    add_resources(node, out);
    add_conditions(node, out);
    add_text(out, "\"addresses\":[{\"type\":\"InternalIP\",\"address\":", node->host_address);
    add_text(out, "},{\"type\":\"Hostname\",\"address\":", host);
    buffer_append_text(out, "}],\"daemonEndpoints\":{\"kubeletEndpoint\":{\"Port\":0}},");
    add_info(out);
    buffer_append_text(out, "}}");
    return buffer_error(out);
}

static void on_told(void *userdata, const struct http_answer *answer);

static void on_created(void *userdata, const struct http_answer *answer) {
    struct node *node = userdata;
    struct diag diag = DIAG_INIT;
    int r = client_check(answer, &diag);
    if (r < 0 && r != -EEXIST) {
        log_warning("cannot register the node: %s", diag.message);
        loop_timer_set(&node->register_retry, RETRY_MS);
        return;
    }
    log_info("registered node %s (%s)", node->options->node_name, node->host_address);
}

static void tell(struct node *node, bool create) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * KIB);
    const char *path = arena ? client_path(arena, &kube_kind_node, NULL, create ? NULL : node->options->node_name, create ? NULL : "status") : NULL;
    int r = path ? client_request(node->client, create ? "POST" : "PATCH", path, create ? NULL : "application/merge-patch+json",
                                  buffer_slice(&node->node_json), create ? on_created : on_told, node)
                 : -ENOMEM;
    if (r < 0)
        loop_timer_set(&node->register_retry, RETRY_MS);
}

static void on_told(void *userdata, const struct http_answer *answer) {
    struct node *node = userdata;
    struct diag diag = DIAG_INIT;
    int r = client_check(answer, &diag);
    if (r == -ENOENT)
        tell(node, true);
    else if (r < 0)
        loop_timer_set(&node->register_retry, RETRY_MS);
    else
        log_info("registered node %s (%s)", node->options->node_name, node->host_address);
}

void register_node(struct node *node) {
    buffer_reset(&node->node_json);
    if (format_node(node, &node->node_json) == 0)
        tell(node, false);
}

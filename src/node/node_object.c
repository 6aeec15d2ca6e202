/* What the Node object says of this machine, in kubelet's words. */
#include <dirent.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

#include "codec/codec.h"
#include "node/fitting_priv.h"
#include "node/node_priv.h"
#include "node/pressure_priv.h"

#define HUGE_PAGES_FOLDER "/sys/kernel/mm/hugepages"

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

/* As Go, and with it every image index, names what the kernel calls so. */
const char *register_architecture(void) {
    static const struct {
        const char *kernel, *name;
    } names[] = {{"x86_64", "amd64"}, {"aarch64", "arm64"},   {"armv7l", "arm"},      {"armv6l", "arm"},
                 {"i686", "386"},     {"riscv64", "riscv64"}, {"ppc64le", "ppc64le"}, {"s390x", "s390x"}};
    struct utsname machine;
    if (uname(&machine) == 0)
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
            if (strcmp(machine.machine, names[i].kernel) == 0)
                return names[i].name;
    return "amd64";
}

static void add_text(struct buffer *out, const char *lead, const char *value) {
    buffer_append_text(out, lead);
    json_format_string(out, slice_of(value));
}

/* --- resources --- */

/* Pages that were set aside, a resource for each size. */
static void add_huge_pages(struct buffer *out) {
    DIR *dir = opendir(HUGE_PAGES_FOLDER);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        struct slice name = slice_of(entry->d_name), lead = SLICE("hugepages-");
        char path[400], text[32], size[64], total[64];
        uint64_t kib, pages;
        if (!slice_starts(name, lead) || !slice_ends(name, SLICE("kB")) ||
            slice_parse_u64(slice_head(slice_from(name, lead.len), name.len - lead.len - 2), UINT64_MAX / KIB, &kib) < 0)
            continue;
        snprintf(path, sizeof path, HUGE_PAGES_FOLDER "/%s/nr_hugepages", entry->d_name);
        read_line(path, text, sizeof text);
        if (slice_parse_u64(slice_of(text), INT64_MAX / 1000 / KIB / MAX(kib, 1), &pages) < 0)
            continue;
        quantity_format((int64_t)(kib * KIB) * 1000, true, size);
        quantity_format((int64_t)(kib * KIB * pages) * 1000, true, total);
        buffer_printf(out, "\"hugepages-%s\":\"%s\",", size, total);
    }
    if (dir)
        closedir(dir);
}

/* What pods may take of the memory: see allocatable.c. Of the disk: not what belongs to the eviction threshold, nor what is there already is taken
 * off, as upstream. */
static void add_resources(struct node *node, struct buffer *out) {
    struct statvfs disk = {0};
    statvfs(node->state_dir, &disk);
    uint64_t bytes = (uint64_t)disk.f_blocks * disk.f_frsize, reserved = eviction_reserved_disk(node, bytes);
    for (int i = 0; i < 2; i++) {
        int64_t memory = i ? allocatable_memory(node) : allocatable_machine_memory();
        buffer_printf(out, "\"%s\":{\"cpu\":\"%" PRId64 "\",\"memory\":\"%" PRId64 "Ki\",", i ? "allocatable" : "capacity",
                      allocatable_cpu_milli() / 1000, memory / (int64_t)KIB);
        add_huge_pages(out);
        if (i)
            buffer_printf(out, "\"ephemeral-storage\":\"%" PRIu64 "\"", bytes - reserved);
        else
            buffer_printf(out, "\"ephemeral-storage\":\"%" PRIu64 "Ki\"", bytes / 1024);
        buffer_printf(out, ",\"pods\":\"%d\"},", FITTING_PODS_MAX);
    }
}

/* --- what it is --- */

static void add_info(struct buffer *out) {
    char text[256], machine[256];
    struct utsname names;
    uname(&names);
    read_line("/etc/machine-id", machine, sizeof machine);
    add_text(out, "\"nodeInfo\":{\"machineID\":", machine);
    read_line("/sys/class/dmi/id/product_uuid", text, sizeof text);
    add_text(out, ",\"systemUUID\":", *text ? text : machine);
    sys_boot_id(text);
    add_text(out, ",\"bootID\":", text);
    add_text(out, ",\"kernelVersion\":", names.release);
    read_os_name(text, sizeof text);
    add_text(out, ",\"osImage\":", text);
    buffer_append_text(out,
                       ",\"containerRuntimeVersion\":\"crun://tidemill-" TIDEMILL_VERSION "\",\"kubeletVersion\":\"v1.32.0+tidemill-" TIDEMILL_VERSION
                       "\",\"kubeProxyVersion\":\"\",\"operatingSystem\":\"linux\"");
    add_text(out, ",\"architecture\":", register_architecture());
    buffer_append_byte(out, '}');
}

/* --- conditions --- */

static void add_condition(struct node *node, size_t index, const char *type, bool value, const char *reason, const char *message,
                          struct buffer *out) {
    struct node_condition_seen *seen = &node->conditions[index];
    char now[TIMESTAMP_BYTES], since[TIMESTAMP_BYTES];
    if (!seen->since_ns || seen->value != value)
        *seen = (struct node_condition_seen){.since_ns = loop_wall_ns(node->loop), .value = value};
    timestamp_format(loop_wall_ns(node->loop), now);
    timestamp_format(seen->since_ns, since);
    buffer_printf(out,
                  "%s{\"type\":\"%s\",\"status\":\"%s\",\"lastHeartbeatTime\":\"%s\",\"lastTransitionTime\":\"%s\",\"reason\":\"%s\","
                  "\"message\":\"%s\"}",
                  index ? "," : "", type, value ? "True" : "False", now, since, reason, message);
}

/* Ready is the last one, as upstream. */
static void add_conditions(struct node *node, struct buffer *out) {
    buffer_append_text(out, "\"conditions\":[");
    for (size_t i = 0; i < PRESSURE_CONDITIONS; i++) {
        const struct pressure_words *words = &pressure_words[i];
        bool value = eviction_has(node, i);
        add_condition(node, i, words->type, value, value ? words->bad.reason : words->good.reason, value ? words->bad.message : words->good.message,
                      out);
    }
    add_condition(node, PRESSURE_CONDITIONS, "Ready", true, "KubeletReady", "kubelet is posting ready status", out);
    buffer_append_text(out, "],");
}

/* Since when the conditions are as they are: what core knows from before this process. */
void register_take_conditions(struct node *node, const struct kube_object *object) {
    const struct kube_node_status *status = &object->node->status;
    for (size_t i = 0; i < status->conditions.count; i++)
        for (size_t k = 0; k < NODE_CONDITIONS; k++) {
            const struct kube_node_condition *condition = &status->conditions.items[i];
            const char *type = k < PRESSURE_CONDITIONS ? pressure_words[k].type : "Ready";
            if (!condition->type || strcmp(condition->type, type) != 0 || !condition->last_transition_time.set || !condition->status)
                continue;
            bool known = strcmp(condition->status, "Unknown") != 0;
            node->conditions[k] = (struct node_condition_seen){.since_ns = known ? condition->last_transition_time.ns : 0,
                                                               .value = strcmp(condition->status, "True") == 0};
        }
}

static bool has_user_namespaces(void) {
    char most[32];
    read_line("/proc/sys/user/max_user_namespaces", most, sizeof most); /* not there: a kernel without them */
    return *most && strcmp(most, "0") != 0;
}

/* What a pod can count on here. */
static void add_features(struct buffer *out) {
    buffer_printf(out,
                  ",\"features\":{\"supplementalGroupsPolicy\":true},\"runtimeHandlers\":[{\"name\":\"\",\"features\":{"
                  "\"recursiveReadOnlyMounts\":true,\"userNamespaces\":%s}}]",
                  has_user_namespaces() ? "true" : "false");
}

/* --- the whole --- */

static void add_metadata(struct node *node, struct buffer *out) {
    const char *name = node->options->node_name, *architecture = register_architecture();
    add_text(out, "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":", name);
    add_text(out, ",\"labels\":{\"kubernetes.io/hostname\":", name);
    add_text(out, ",\"kubernetes.io/os\":\"linux\",\"beta.kubernetes.io/os\":\"linux\",\"kubernetes.io/arch\":", architecture);
    add_text(out, ",\"beta.kubernetes.io/arch\":", architecture);
    buffer_append_text(out, "}},");
}

int register_format(struct node *node, struct buffer *out) {
    char host[256] = "", cidr6[64];
    gethostname(host, sizeof host - 1);
    add_metadata(node, out);
    add_text(out, "\"spec\":{\"podCIDR\":", node->options->pod_cidr);
    add_text(out, ",\"podCIDRs\":[", node->options->pod_cidr);
    if (*podnet_cidr6(node->podnet, cidr6))
        add_text(out, ",", cidr6);
    buffer_append_text(out, "]},\"status\":{");
    add_resources(node, out);
    add_conditions(node, out);
    add_text(out, "\"addresses\":[{\"type\":\"InternalIP\",\"address\":", node->host_address);
    if (node->host_address6[0])
        add_text(out, "},{\"type\":\"InternalIP\",\"address\":", node->host_address6);
    add_text(out, "},{\"type\":\"Hostname\",\"address\":", host);
    buffer_append_text(out, "}],\"daemonEndpoints\":{\"kubeletEndpoint\":{\"Port\":10250}},");
    add_info(out);
    if (node->images_json.len) {
        buffer_append_text(out, ",\"images\":");
        buffer_append_slice(out, buffer_slice(&node->images_json));
    }
    add_features(out);
    buffer_append_text(out, "}}");
    return buffer_error(out);
}

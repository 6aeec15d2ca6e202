/* config.json for crun, built as a tree so that nothing typed by a person can break out of its string.
 *
 * A container that is not privileged gets: no new namespaces to see the host through, masked and read-only paths of /proc and /sys, the default
 * devices only, and the seccomp program. Capabilities are set in bounding, effective and permitted, never in inheritable (CVE-2022-29162); for a user
 * other than root they count only in the bounding set, as in docker and containerd. Mount and cgroup namespaces are new, and PID too unless another's
 * is joined; network, IPC and UTS are the pod's. */
#include "runtime/bundle.h"

#include <stdio.h>
#include <unistd.h>

#include "codec/codec.h"
#include "runtime/userns.h"

#define BUNDLE_ARENA_BYTES_MAX (16 * MIB)
#define CPUS_MAX 1024

static const char *const capability_names[] = {
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
};
#define BIT(n) (UINT64_C(1) << (n))
const uint64_t BUNDLE_CAPABILITIES_DEFAULT =
    BIT(0) | BIT(1) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(10) | BIT(13) | BIT(18) | BIT(27) | BIT(29) | BIT(31);
const uint64_t BUNDLE_CAPABILITIES_ALL = BIT(ARRAY_LEN(capability_names)) - 1;

uint64_t bundle_capability(struct slice name) {
    if (name.len > 4 && slice_equal_nocase(slice_head(name, 4), SLICE("CAP_")))
        name = slice_from(name, 4);
    if (slice_equal_nocase(name, SLICE("ALL")))
        return BUNDLE_CAPABILITIES_ALL;
    for (size_t i = 0; i < ARRAY_LEN(capability_names); i++)
        if (slice_equal_nocase(name, slice_of(capability_names[i])))
            return BIT(i);
    return 0;
}

/* Builder: one error for all, checked at the end. */
struct builder {
    struct arena *arena;
    int error;
};

static void set(struct builder *b, struct tree *map, const char *key, struct tree *value) {
    if (!map || tree_set(b->arena, map, slice_of(key), value) < 0)
        b->error = -ENOMEM;
}
static struct tree *set_map(struct builder *b, struct tree *map, const char *key) {
    struct tree *value = tree_map(b->arena);
    set(b, map, key, value);
    return value;
}
static struct tree *set_list(struct builder *b, struct tree *map, const char *key) {
    struct tree *value = tree_list(b->arena);
    set(b, map, key, value);
    return value;
}
static void set_text(struct builder *b, struct tree *map, const char *key, const char *text) {
    set(b, map, key, tree_text(b->arena, text));
}
static void set_int(struct builder *b, struct tree *map, const char *key, int64_t value) {
    set(b, map, key, tree_int(b->arena, value));
}
static void set_bool(struct builder *b, struct tree *map, const char *key, bool value) {
    set(b, map, key, tree_bool(b->arena, value));
}
static void push(struct builder *b, struct tree *list, struct tree *value) {
    if (!list || tree_push(b->arena, list, value) < 0)
        b->error = -ENOMEM;
}
static void push_texts(struct builder *b, struct tree *list, const char *const *texts) {
    for (size_t i = 0; texts && texts[i]; i++)
        push(b, list, tree_text(b->arena, texts[i]));
}
static struct tree *push_map(struct builder *b, struct tree *list) {
    struct tree *value = tree_map(b->arena);
    push(b, list, value);
    return value;
}

/* --- process --- */

static void add_capabilities(struct builder *b, struct tree *process, const struct bundle_process *from) {
    static const char *const sets[] = {"bounding", "effective", "permitted"};
    struct tree *capabilities = set_map(b, process, "capabilities");
    for (size_t s = 0; s < ARRAY_LEN(sets); s++) {
        struct tree *list = set_list(b, capabilities, sets[s]);
        for (size_t i = 0; i < ARRAY_LEN(capability_names); i++)
            if ((from->capabilities & BIT(i)) && (s == 0 || from->uid == 0))
                push(b, list, tree_printf(b->arena, "CAP_%s", capability_names[i]));
    }
}

static void fill_process(struct builder *b, struct tree *process, const struct bundle_process *from) {
    set_bool(b, process, "terminal", from->terminal);
    struct tree *user = set_map(b, process, "user");
    set_int(b, user, "uid", from->uid);
    set_int(b, user, "gid", from->gid);
    struct tree *groups = set_list(b, user, "additionalGids");
    for (size_t i = 0; i < from->groups_count; i++)
        push(b, groups, tree_int(b->arena, from->groups[i]));
    push_texts(b, set_list(b, process, "args"), from->args);
    push_texts(b, set_list(b, process, "env"), from->env);
    set_text(b, process, "cwd", from->cwd && *from->cwd ? from->cwd : "/");
    add_capabilities(b, process, from);
    struct tree *rlimits = set_list(b, process, "rlimits");
    for (size_t i = 0; i < from->rlimits_count; i++) {
        struct tree *rlimit = push_map(b, rlimits);
        set_text(b, rlimit, "type", from->rlimits[i].type);
        set_int(b, rlimit, "soft", (int64_t)from->rlimits[i].soft);
        set_int(b, rlimit, "hard", (int64_t)from->rlimits[i].hard);
    }
    set_bool(b, process, "noNewPrivileges", from->no_new_privileges);
    if (from->apparmor_profile)
        set_text(b, process, "apparmorProfile", from->apparmor_profile);
    if (from->has_oom_score_adj)
        set_int(b, process, "oomScoreAdj", from->oom_score_adj);
}

/* --- mounts --- */

static void add_mount(struct builder *b, struct tree *mounts, const char *destination, const char *type, const char *source,
                      const char *const *options) {
    struct tree *mount = push_map(b, mounts);
    set_text(b, mount, "destination", destination);
    set_text(b, mount, "type", type);
    set_text(b, mount, "source", source);
    push_texts(b, set_list(b, mount, "options"), options);
}

static void add_mounts(struct builder *b, struct tree *root, const struct bundle *bundle) {
    static const char *const proc[] = {"nosuid", "noexec", "nodev", NULL}, *const dev[] = {"nosuid", "strictatime", "mode=755", "size=65536k", NULL};
    static const char *const pts[] = {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5", NULL};
    static const char *const queue[] = {"nosuid", "noexec", "nodev", NULL}, *const sys_read_only[] = {"nosuid", "noexec", "nodev", "ro", NULL};
    static const char *const sys_writable[] = {"nosuid", "noexec", "nodev", NULL}, *const cgroup[] = {"nosuid",   "noexec", "nodev",
                                                                                                      "relatime", "ro",     NULL};
    static const char *const cgroup_writable[] = {"nosuid", "noexec", "nodev", "relatime", NULL};
    static const char *const writable[] = {"rbind", "rprivate", "rw", NULL}, *const read_only[] = {"rbind", "rprivate", "ro", NULL};
    struct tree *mounts = set_list(b, root, "mounts");
    char shm_size[40];
    snprintf(shm_size, sizeof shm_size, "size=%" PRId64, bundle->shm_bytes ? bundle->shm_bytes : (int64_t)(64 * MIB));
    const char *const shm[] = {"nosuid", "noexec", "nodev", "mode=1777", shm_size, NULL};
    add_mount(b, mounts, "/proc", "proc", "proc", proc);
    add_mount(b, mounts, "/dev", "tmpfs", "tmpfs", dev);
    add_mount(b, mounts, "/dev/pts", "devpts", "devpts", pts);
    add_mount(b, mounts, "/dev/shm", "tmpfs", "shm", shm);
    if (bundle->user_namespace) {
        static const char *const shown[] = {"rbind", "rprivate", "rw", "nosuid", "noexec", "nodev", NULL}, *const shown_read_only[] = {
                                                                                                               "rbind",  "rprivate", "ro", "nosuid",
                                                                                                               "noexec", "nodev",    NULL};
        add_mount(b, mounts, "/dev/mqueue", "bind", bundle->mqueue, shown);
        add_mount(b, mounts, "/sys", "bind", bundle->sysfs, shown_read_only);
    } else {
        add_mount(b, mounts, "/dev/mqueue", "mqueue", "mqueue", queue);
        add_mount(b, mounts, "/sys", "sysfs", "sysfs", bundle->privileged ? sys_writable : sys_read_only);
    }
    add_mount(b, mounts, "/sys/fs/cgroup", "cgroup", "cgroup", bundle->privileged ? cgroup_writable : cgroup);
    for (size_t i = 0; i < bundle->mounts_count; i++) {
        const struct bundle_mount *mount = &bundle->mounts[i];
        const char *const *options = mount->options ? mount->options : mount->read_only ? read_only : writable;
        add_mount(b, mounts, mount->destination, mount->type ? mount->type : "bind", mount->source, options);
    }
}

/* --- linux --- */

static void add_namespaces(struct builder *b, struct tree *linux_, const struct bundle *bundle) {
    const struct {
        const char *type, *path;
        bool wanted;
    } namespaces[] = {
        {"mount", NULL, true},
        {"cgroup", NULL, true},
        {"pid", bundle->pid_namespace, !bundle->host_pid},
        {"user", bundle->user_namespace, bundle->user_namespace != NULL},
        {"network", bundle->network_namespace, bundle->network_namespace != NULL},
        {"ipc", bundle->ipc_namespace, bundle->ipc_namespace != NULL},
        {"uts", bundle->uts_namespace, bundle->uts_namespace != NULL},
    };
    struct tree *list = set_list(b, linux_, "namespaces");
    for (size_t i = 0; i < ARRAY_LEN(namespaces); i++) {
        if (!namespaces[i].wanted)
            continue;
        struct tree *namespace = push_map(b, list);
        set_text(b, namespace, "type", namespaces[i].type);
        if (namespaces[i].path)
            set_text(b, namespace, "path", namespaces[i].path);
    }
}

static void add_mappings(struct builder *b, struct tree *linux_, const struct bundle *bundle) {
    static const char *const names[] = {"uidMappings", "gidMappings"};
    for (size_t i = 0; bundle->user_namespace && i < ARRAY_LEN(names); i++) {
        struct tree *mapping = push_map(b, set_list(b, linux_, names[i]));
        set_int(b, mapping, "containerID", 0);
        set_int(b, mapping, "hostID", bundle->id_base);
        set_int(b, mapping, "size", USERNS_IDS);
    }
}

static void add_devices(struct builder *b, struct tree *linux_, struct tree *resources, const struct bundle *bundle) {
    struct tree *rule = push_map(b, set_list(b, resources, "devices")); /* crun itself adds the default devices to what is allowed */
    set_bool(b, rule, "allow", bundle->privileged);
    set_text(b, rule, "access", "rwm");
    struct tree *devices = set_list(b, linux_, "devices");
    for (size_t i = 0; i < bundle->devices_count; i++) {
        const struct bundle_device *from = &bundle->devices[i];
        struct tree *device = push_map(b, devices);
        const char type[2] = {from->type, 0};
        set_text(b, device, "path", from->path);
        set_text(b, device, "type", type);
        set_int(b, device, "major", from->major);
        set_int(b, device, "minor", from->minor);
        set_int(b, device, "fileMode", from->mode & 0777);
        set_int(b, device, "uid", from->uid);
        set_int(b, device, "gid", from->gid);
    }
}

static void add_resources(struct builder *b, struct tree *linux_, const struct bundle *bundle) {
    struct tree *resources = set_map(b, linux_, "resources");
    const struct cgroup_limits *limits = &bundle->limits;
    add_devices(b, linux_, resources, bundle);
    if (limits->cpu_shares || limits->cpu_quota_us > 0) {
        struct tree *cpu = set_map(b, resources, "cpu");
        if (limits->cpu_shares)
            set_int(b, cpu, "shares", (int64_t)limits->cpu_shares);
        if (limits->cpu_quota_us > 0) {
            set_int(b, cpu, "quota", limits->cpu_quota_us);
            set_int(b, cpu, "period", CGROUP_PERIOD_US);
        }
    }
    if (limits->memory_bytes > 0) {
        struct tree *memory = set_map(b, resources, "memory");
        set_int(b, memory, "limit", limits->memory_bytes);
        set_int(b, memory, "swap", limits->memory_bytes); /* memory and swap together: none of it */
    }
    if (limits->pids > 0)
        set_int(b, set_map(b, resources, "pids"), "limit", limits->pids);
    struct tree *hugepages = limits->hugepages_count ? set_list(b, resources, "hugepageLimits") : NULL;
    for (size_t i = 0; i < limits->hugepages_count; i++) {
        struct tree *limit = push_map(b, hugepages);
        set_text(b, limit, "pageSize", limits->hugepages[i].size);
        set_int(b, limit, "limit", limits->hugepages[i].bytes);
    }
    if (limits->kill_all)
        set_text(b, set_map(b, resources, "unified"), "memory.oom.group", "1");
}

/* What a neighbour computes shows in how a core is throttled. */
static void add_thermal(struct builder *b, struct tree *list) {
    long count = sysconf(_SC_NPROCESSORS_CONF);
    char path[80];
    for (long i = 0; i < MIN(count, CPUS_MAX); i++) {
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%ld/thermal_throttle", i);
        if (access(path, F_OK) == 0)
            push(b, list, tree_text(b->arena, path));
    }
}

static void add_linux(struct builder *b, struct tree *root, const struct bundle *bundle) {
    static const char *const masked[] = {"/proc/acpi",
                                         "/proc/asound",
                                         "/proc/interrupts",
                                         "/proc/kcore",
                                         "/proc/keys",
                                         "/proc/latency_stats",
                                         "/proc/timer_list",
                                         "/proc/timer_stats",
                                         "/proc/sched_debug",
                                         "/proc/scsi",
                                         "/sys/firmware",
                                         "/sys/devices/virtual/powercap",
                                         NULL};
    static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL};
    struct tree *linux_ = set_map(b, root, "linux");
    set_text(b, linux_, "cgroupsPath", bundle->cgroup_path);
    if (bundle->propagation)
        set_text(b, linux_, "rootfsPropagation", bundle->propagation);
    add_namespaces(b, linux_, bundle);
    add_mappings(b, linux_, bundle);
    add_resources(b, linux_, bundle);
    if (!bundle->privileged && !bundle->unmasked) {
        struct tree *list = set_list(b, linux_, "maskedPaths");
        push_texts(b, list, masked);
        add_thermal(b, list);
        push_texts(b, set_list(b, linux_, "readonlyPaths"), read_only);
    }
}

static int finish(struct builder *b, const struct tree *root, struct buffer *out) {
    int r = b->error;
    if (r == 0)
        r = json_format(out, root);
    return r;
}

int bundle_format(const struct bundle *bundle, struct buffer *out) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(BUNDLE_ARENA_BYTES_MAX);
    struct builder b = {.arena = arena};
    struct tree *root = arena ? tree_map(arena) : NULL;
    if (!root)
        return -ENOMEM;
    set_text(&b, root, "ociVersion", "1.0.2");
    fill_process(&b, set_map(&b, root, "process"), &bundle->process);
    struct tree *rootfs = set_map(&b, root, "root");
    set_text(&b, rootfs, "path", bundle->rootfs);
    set_bool(&b, rootfs, "readonly", bundle->read_only_rootfs);
    if (bundle->hostname)
        set_text(&b, root, "hostname", bundle->hostname);
    add_mounts(&b, root, bundle);
    add_linux(&b, root, bundle);
    if (bundle->seccomp_program)
        set_text(&b, set_map(&b, root, "annotations"), "run.oci.seccomp_bpf_data", bundle->seccomp_program);
    return finish(&b, root, out);
}

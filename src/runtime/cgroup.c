/* Control groups: v2 is the product's target, v1 and hybrid are served because hosts (and CI machines) still boot with them.
 *
 * v1: each controller is a hierarchy <root>/<controller>; a group exists in all of them. "unified" (hybrid) and dangling aliases (links such as
 * cpu,cpuacct) are left out. v2: one tree; a controller works in a group only when the parent's cgroup.subtree_control names it, so creating enables
 * them from the root down (errors are ignored: a controller that the kernel lacks shows when its limit is written). Formulas: kubelet's
 * MilliCPUToShares; crun's and runc's linear shares → weight (facts: runtime.md). */
#include "runtime/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "sys/sys.h"

#define CGROUP_FILE_BYTES_MAX (256 * KIB)
#define DEPTH_MAX 16

static bool exists(const char *folder, const char *name) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static bool is_folder_not_link(const char *folder, const char *name) {
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int cgroups_detect(const char *root, struct cgroups *ret, struct diag *diag) {
    struct cgroups cgroups = {.version = CGROUP_V1};
    snprintf(cgroups.root, sizeof cgroups.root, "%s", root);
    if (exists(root, "cgroup.controllers")) {
        cgroups.version = CGROUP_V2;
        *ret = cgroups;
        return 0;
    }
    DIR *dir = opendir(root);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.' || !is_folder_not_link(root, entry->d_name) || strlen(entry->d_name) > 31)
            continue;
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", root, entry->d_name);
        if (strcmp(entry->d_name, "unified") == 0)
            cgroups.is_hybrid = exists(path, "cgroup.procs");
        else if (exists(path, "cgroup.procs") && cgroups.controllers_count < CGROUP_CONTROLLERS_MAX)
            snprintf(cgroups.controllers[cgroups.controllers_count++], 32, "%s", entry->d_name);
    }
    if (dir)
        closedir(dir);
    if (cgroups.controllers_count == 0) {
        diag_hint(diag, 0, "mount cgroup2 there: mount -t cgroup2 none %s", root);
        return diag_set(diag, -ENOTSUP, "no control groups are mounted at %s", root);
    }
    *ret = cgroups;
    return 0;
}

uint64_t cgroup_shares_of_milli(int64_t milli) {
    int64_t shares = MIN(milli, 1000000000) * 1024 / 1000;
    return (uint64_t)MIN(MAX(shares, 2), 262144);
}
int64_t cgroup_quota_of_milli(int64_t milli) {
    return MAX(MIN(milli, 1000000000) * CGROUP_PERIOD_US / 1000, 1000);
}
uint64_t cgroup_weight_of_shares(uint64_t shares) {
    return shares < 2 ? 1 : 1 + (shares - 2) * 9999 / 262142;
}

/* The number of trees a group lives in, and its folder in one of them. */
static size_t trees(const struct cgroups *cgroups) {
    return cgroups->version == CGROUP_V2 ? 1 : cgroups->controllers_count;
}
static int folder_of(const struct cgroups *cgroups, size_t tree, const char *path, char ret[PATH_MAX]) {
    int n = cgroups->version == CGROUP_V2 ? snprintf(ret, PATH_MAX, "%s%s", cgroups->root, path)
                                          : snprintf(ret, PATH_MAX, "%s/%s%s", cgroups->root, cgroups->controllers[tree], path);
    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}
/* The v1 hierarchy with this controller, possibly mounted together with others ("cpu,cpuacct"); -1 when there is none. */
static int tree_of(const struct cgroups *cgroups, const char *controller) {
    for (size_t i = 0; i < cgroups->controllers_count; i++)
        for (struct slice rest = slice_of(cgroups->controllers[i]); rest.data;)
            if (slice_is(slice_cut(&rest, ','), controller))
                return (int)i;
    return -1;
}

static int write_file(const char *folder, const char *name, const char *text) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return -ENAMETOOLONG;
    return sys_write_existing(AT_FDCWD, path, slice_of(text));
}

/* A v1 limit; a missing hierarchy or file counts as success for zero, else as the error it is. */
static int write_v1(const struct cgroups *cgroups, const char *path, const char *controller, const char *file, int64_t value) {
    char folder[PATH_MAX], text[32];
    int tree = tree_of(cgroups, controller);
    if (value == 0)
        return 0;
    if (tree < 0)
        return -ENOTSUP;
    int r = folder_of(cgroups, (size_t)tree, path, folder);
    snprintf(text, sizeof text, "%" PRId64, value);
    return r < 0 ? r : write_file(folder, file, text);
}

static int limit_v1(const struct cgroups *cgroups, const char *path, const struct cgroup_limits *limits) {
    int r = write_v1(cgroups, path, "cpu", "cpu.shares", (int64_t)limits->cpu_shares);
    if (r == 0 && limits->cpu_quota_us)
        r = write_v1(cgroups, path, "cpu", "cpu.cfs_period_us", CGROUP_PERIOD_US);
    if (r == 0)
        r = write_v1(cgroups, path, "cpu", "cpu.cfs_quota_us", limits->cpu_quota_us);
    if (r == 0)
        r = write_v1(cgroups, path, "memory", "memory.limit_in_bytes", limits->memory_bytes);
    if (r == 0) /* without swap accounting the file is missing: no swap to limit then */
        write_v1(cgroups, path, "memory", "memory.memsw.limit_in_bytes", limits->memory_bytes);
    return r < 0 ? r : write_v1(cgroups, path, "pids", "pids.max", limits->pids);
}

static int limit_v2(const struct cgroups *cgroups, const char *path, const struct cgroup_limits *limits) {
    char folder[PATH_MAX], text[64];
    int r = folder_of(cgroups, 0, path, folder);
    if (r == 0 && limits->cpu_shares) {
        snprintf(text, sizeof text, "%" PRIu64, cgroup_weight_of_shares(limits->cpu_shares));
        r = write_file(folder, "cpu.weight", text);
    }
    if (r == 0 && limits->cpu_quota_us) {
        snprintf(text, sizeof text, "%" PRId64 " %d", limits->cpu_quota_us, CGROUP_PERIOD_US);
        r = write_file(folder, "cpu.max", text);
    }
    if (r == 0 && limits->memory_bytes) {
        snprintf(text, sizeof text, "%" PRId64, limits->memory_bytes);
        r = write_file(folder, "memory.max", text);
        write_file(folder, "memory.swap.max", "0"); /* absent without swap */
    }
    if (r == 0 && limits->pids) {
        snprintf(text, sizeof text, "%" PRId64, limits->pids);
        r = write_file(folder, "pids.max", text);
    }
    return r;
}

/* mkdir of each component; on v2 the parent first passes its controllers down. */
static int make_folders(const struct cgroups *cgroups, size_t tree, const char *path) {
    char folder[PATH_MAX];
    int r = folder_of(cgroups, tree, "", folder);
    for (const char *at = path; r == 0 && *at; at += strcspn(at + 1, "/") + 1) {
        static const char *const controllers[] = {"+cpu", "+memory", "+pids", "+cpuset", "+io"};
        for (size_t i = 0; cgroups->version == CGROUP_V2 && i < ARRAY_LEN(controllers); i++)
            write_file(folder, "cgroup.subtree_control", controllers[i]);
        char prefix[PATH_MAX];
        snprintf(prefix, sizeof prefix, "%.*s", (int)(at - path + 1 + (ptrdiff_t)strcspn(at + 1, "/")), path);
        r = folder_of(cgroups, tree, prefix, folder);
        if (r == 0 && access(folder, F_OK) < 0)
            r = sys_point("cgroup");
        if (r == 0 && mkdir(folder, 0755) < 0 && errno != EEXIST)
            r = -errno;
    }
    return r;
}

/* v1: a new cpuset group starts empty and admits nobody: take the parent's. */
static void inherit_cpuset(const struct cgroups *cgroups, const char *path) {
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    int tree = tree_of(cgroups, "cpuset");
    for (size_t end = 1; tree >= 0 && end <= strlen(path); end++) {
        if (path[end] != '/' && path[end] != 0)
            continue;
        for (size_t i = 0; i < ARRAY_LEN(files); i++) {
            CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(4 * KIB);
            char parent[PATH_MAX], folder[PATH_MAX], file[PATH_MAX + 16], prefix[PATH_MAX];
            snprintf(prefix, sizeof prefix, "%.*s", (int)end, path);
            folder_of(cgroups, (size_t)tree, prefix, folder);
            char *slash = strrchr(prefix, '/');
            *slash = 0;
            folder_of(cgroups, (size_t)tree, prefix, parent);
            snprintf(file, sizeof file, "%s/%s", parent, files[i]);
            if (sys_read_file(AT_FDCWD, file, 4 * KIB - 1, &text) == 0 && text.len)
                write_file(folder, files[i], text.data);
        }
    }
}

int cgroup_create(const struct cgroups *cgroups, const char *path, const struct cgroup_limits *limits) {
    ASSERT(path[0] == '/');
    for (size_t tree = 0; tree < trees(cgroups); tree++) {
        int r = make_folders(cgroups, tree, path);
        if (r < 0)
            return r;
    }
    if (cgroups->version == CGROUP_V1)
        inherit_cpuset(cgroups, path);
    if (!limits)
        return 0;
    return cgroups->version == CGROUP_V2 ? limit_v2(cgroups, path, limits) : limit_v1(cgroups, path, limits);
}

int cgroup_attach(const struct cgroups *cgroups, const char *path, pid_t pid) {
    char folder[PATH_MAX], text[24];
    snprintf(text, sizeof text, "%d", (int)pid);
    for (size_t tree = 0; tree < trees(cgroups); tree++) {
        int r = folder_of(cgroups, tree, path, folder);
        if (r == 0)
            r = write_file(folder, "cgroup.procs", text);
        if (r < 0)
            return r;
    }
    return 0;
}

void cgroup_folders(const struct cgroups *cgroups, const char *path, void (*fn)(void *userdata, const char *folder), void *userdata) {
    char folder[PATH_MAX];
    for (size_t tree = 0; tree < trees(cgroups); tree++)
        if (folder_of(cgroups, tree, path, folder) == 0)
            fn(userdata, folder);
}

bool cgroup_exists(const struct cgroups *cgroups, const char *path) {
    char folder[PATH_MAX];
    for (size_t tree = 0; tree < trees(cgroups); tree++)
        if (folder_of(cgroups, tree, path, folder) == 0 && access(folder, F_OK) == 0)
            return true;
    return false;
}

static void read_procs(const char *folder, void (*fn)(void *userdata, pid_t pid), void *userdata) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(CGROUP_FILE_BYTES_MAX + 1);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/cgroup.procs", folder);
    if (sys_read_file(AT_FDCWD, path, CGROUP_FILE_BYTES_MAX, &text) < 0)
        return;
    for (struct slice rest = buffer_slice(&text); rest.data;) {
        uint64_t pid;
        if (slice_parse_u64(slice_trim(slice_cut(&rest, '\n')), INT32_MAX, &pid) == 0 && pid > 1)
            fn(userdata, (pid_t)pid);
    }
}

static void on_kill(__attribute__((unused)) void *userdata, pid_t pid) {
    kill(pid, SIGKILL);
}

void cgroup_processes(const struct cgroups *cgroups, const char *path, void (*fn)(void *userdata, pid_t pid), void *userdata) {
    char folder[PATH_MAX];
    int tree = tree_of(cgroups, "pids");
    if (folder_of(cgroups, tree < 0 ? 0 : (size_t)tree, path, folder) == 0)
        read_procs(folder, fn, userdata);
}

/* Calls fn for each folder beneath (deepest first) and then for the folder itself. */
static int walk(const char *folder, int depth, int (*fn)(const char *folder)) {
    int result = 0;
    DIR *dir = depth < DEPTH_MAX ? opendir(folder) : NULL;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[PATH_MAX];
        if (entry->d_name[0] == '.' || entry->d_type != DT_DIR || snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >= PATH_MAX)
            continue;
        int r = walk(path, depth + 1, fn);
        result = r < 0 ? r : result;
    }
    if (dir)
        closedir(dir);
    int r = fn(folder);
    return r < 0 ? r : result;
}

static int kill_folder(const char *folder) {
    read_procs(folder, on_kill, NULL);
    return 0;
}
static int remove_folder(const char *folder) {
    int r = sys_point("cgroup");
    if (r < 0)
        return r;
    return rmdir(folder) < 0 && errno != ENOENT ? -errno : 0;
}

int cgroup_kill(const struct cgroups *cgroups, const char *path) {
    char folder[PATH_MAX];
    int r = folder_of(cgroups, 0, path, folder);
    if (r < 0)
        return r;
    if (cgroups->version == CGROUP_V2 && write_file(folder, "cgroup.kill", "1") == 0)
        return 0;
    int tree = tree_of(cgroups, "pids"); /* any tree that surely holds all of them; new forks are caught by the second pass */
    r = folder_of(cgroups, tree < 0 ? 0 : (size_t)tree, path, folder);
    for (int pass = 0; r == 0 && pass < 2; pass++)
        walk(folder, 0, kill_folder);
    return r;
}

int cgroup_remove(const struct cgroups *cgroups, const char *path) {
    char folder[PATH_MAX];
    int result = 0;
    for (size_t tree = 0; tree < trees(cgroups); tree++) {
        int r = folder_of(cgroups, tree, path, folder);
        if (r == 0 && access(folder, F_OK) == 0)
            r = walk(folder, 0, remove_folder);
        result = r < 0 ? r : result;
    }
    return result;
}

int cgroup_children(const struct cgroups *cgroups, const char *path, void (*on_child)(void *userdata, const char *name), void *userdata) {
    char folder[PATH_MAX];
    int r = folder_of(cgroups, 0, path, folder);
    DIR *dir = r == 0 ? opendir(folder) : NULL;
    if (!dir)
        return r < 0 ? r : errno == ENOENT ? 0 : -errno;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.' && entry->d_type == DT_DIR)
            on_child(userdata, entry->d_name);
    closedir(dir);
    return 0;
}

/* --- usage --- */

/* The number after `key` and a blank in a file of lines, or the file's only number when key is NULL; 0 when absent. */
static uint64_t read_number(const struct cgroups *cgroups, const char *controller, const char *path, const char *file, const char *key) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(CGROUP_FILE_BYTES_MAX + 1);
    char folder[PATH_MAX], name[PATH_MAX + 64];
    int tree = cgroups->version == CGROUP_V2 ? 0 : tree_of(cgroups, controller);
    uint64_t value = 0;
    if (tree < 0 || folder_of(cgroups, (size_t)tree, path, folder) < 0)
        return 0;
    snprintf(name, sizeof name, "%s/%s", folder, file);
    if (sys_read_file(AT_FDCWD, name, CGROUP_FILE_BYTES_MAX, &text) < 0)
        return 0;
    for (struct slice rest = buffer_slice(&text); rest.data;) {
        struct slice line = slice_cut(&rest, '\n');
        if (key && !slice_is(slice_cut(&line, ' '), key))
            continue;
        return slice_parse_u64(slice_trim(line), UINT64_MAX, &value) == 0 ? value : 0;
    }
    return 0;
}

void cgroup_usage(const struct cgroups *cgroups, const char *path, struct cgroup_usage *ret) {
    uint64_t memory, inactive;
    if (cgroups->version == CGROUP_V2) {
        ret->cpu_ns = read_number(cgroups, NULL, path, "cpu.stat", "usage_usec") * 1000;
        memory = read_number(cgroups, NULL, path, "memory.current", NULL);
        inactive = read_number(cgroups, NULL, path, "memory.stat", "inactive_file");
        ret->oom_kills = read_number(cgroups, NULL, path, "memory.events", "oom_kill");
        ret->pids = read_number(cgroups, NULL, path, "pids.current", NULL);
    } else {
        ret->cpu_ns = read_number(cgroups, "cpuacct", path, "cpuacct.usage", NULL);
        memory = read_number(cgroups, "memory", path, "memory.usage_in_bytes", NULL);
        inactive = read_number(cgroups, "memory", path, "memory.stat", "total_inactive_file");
        ret->oom_kills = read_number(cgroups, "memory", path, "memory.oom_control", "oom_kill");
        ret->pids = read_number(cgroups, "pids", path, "pids.current", NULL);
    }
    ret->memory_bytes = memory > inactive ? memory - inactive : 0;
}

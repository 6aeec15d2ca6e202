/* Control groups: v2 is the product's target, v1 and hybrid are served because hosts (and CI machines) still boot with them.
 *
 * v1: each controller is a hierarchy <root>/<controller>; a group exists in all of them. "unified" (hybrid) and dangling aliases (links such as
 * cpu,cpuacct) are left out.
 * v2: one tree; a controller works in a group only when the parent's cgroup.subtree_control names it, so creating a group enables them from the root
 * down, those that there are and that are not on already. A group that passes controllers down may hold no processes itself, but for the machine's
 * real root. Inside a container the root is an ordinary group with processes in it: they are moved into a leaf first (<root>/init). */
#include "runtime/cgroup_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "sys/sys.h"

#define DEPTH_MAX 16
#define CONTROLLERS_BYTES_MAX (4 * KIB)
#define EVACUATED_GROUP "init"

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

static int read_small(const char *folder, const char *name, struct buffer *out) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return sys_read_file(AT_FDCWD, path, CONTROLLERS_BYTES_MAX - 1, out);
}

static int detect_v2(struct cgroups *cgroups, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(CONTROLLERS_BYTES_MAX), type = BUFFER_INIT(CONTROLLERS_BYTES_MAX);
    cgroups->version = CGROUP_V2;
    if (read_small(cgroups->root, "cgroup.type", &type) == 0 && type.len && !slice_is(slice_trim(buffer_slice(&type)), "domain"))
        return diag_set(diag, -ENOTSUP, "the control group at %s is \"%.*s\", so limits of memory cannot be set beneath it", cgroups->root,
                        SLICE_ARG(slice_trim(buffer_slice(&type))));
    int r = read_small(cgroups->root, "cgroup.controllers", &text);
    struct slice rest = slice_trim(buffer_slice(&text));
    while (r == 0 && rest.len && cgroups->controllers_count < CGROUP_CONTROLLERS_MAX) {
        struct slice name = slice_cut(&rest, ' ');
        if (name.len && name.len < sizeof cgroups->controllers[0])
            snprintf(cgroups->controllers[cgroups->controllers_count++], sizeof cgroups->controllers[0], "%.*s", SLICE_ARG(name));
    }
    return r < 0 ? diag_set(diag, r, "cannot read %s/cgroup.controllers: %s", cgroups->root, strerror(-r)) : 0;
}

int cgroups_detect(const char *root, struct cgroups *ret, struct diag *diag) {
    struct cgroups cgroups = {.version = CGROUP_V1};
    snprintf(cgroups.root, sizeof cgroups.root, "%s", root);
    if (exists(root, "cgroup.controllers")) {
        int r = detect_v2(&cgroups, diag);
        if (r == 0)
            *ret = cgroups;
        return r;
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

/* The number of trees a group lives in. */
static size_t trees(const struct cgroups *cgroups) {
    return cgroups->version == CGROUP_V2 ? 1 : cgroups->controllers_count;
}
int cgroup_folder(const struct cgroups *cgroups, size_t tree, const char *path, char ret[PATH_MAX]) {
    int n = cgroups->version == CGROUP_V2 ? snprintf(ret, PATH_MAX, "%s%s", cgroups->root, path)
                                          : snprintf(ret, PATH_MAX, "%s/%s%s", cgroups->root, cgroups->controllers[tree], path);
    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}
int cgroup_tree_of(const struct cgroups *cgroups, const char *controller) {
    for (size_t i = 0; i < cgroups->controllers_count; i++)
        for (struct slice rest = slice_of(cgroups->controllers[i]); rest.data;)
            if (slice_is(slice_cut(&rest, ','), controller))
                return (int)i;
    return -1;
}

int cgroup_write(const char *folder, const char *name, const char *text) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return -ENAMETOOLONG;
    return sys_write_existing(AT_FDCWD, path, slice_of(text));
}

bool cgroups_has(const struct cgroups *cgroups, const char *controller) {
    return cgroup_tree_of(cgroups, controller) >= 0;
}

/* --- creating --- */

static bool names(struct slice list, const char *name) {
    list = slice_trim(list);
    while (list.len)
        if (slice_is(slice_cut(&list, ' '), name))
            return true;
    return false;
}

static void read_procs(const char *folder, void (*fn)(void *userdata, pid_t pid), void *userdata);

static void on_evacuated(void *userdata, pid_t pid) {
    char text[24];
    snprintf(text, sizeof text, "%d", (int)pid);
    cgroup_write(userdata, "cgroup.procs", text); /* one that ended meanwhile is no matter */
}

/* v2: the processes of a root that is none (see above) go into a leaf. */
static void evacuate(const struct cgroups *cgroups) {
    char leaf[PATH_MAX];
    snprintf(leaf, sizeof leaf, "%s/" EVACUATED_GROUP, cgroups->root);
    if (exists(cgroups->root, "cgroup.type") && (mkdir(leaf, 0755) == 0 || errno == EEXIST))
        read_procs(cgroups->root, on_evacuated, leaf);
}

/* v2: a folder's children get all controllers that it has itself. */
static void pass_down(const struct cgroups *cgroups, const char *folder) {
    static const char *const wanted[] = {"cpu", "memory", "pids", "cpuset", "io", "hugetlb"};
    CLEANUP(buffer_deinit) struct buffer have = BUFFER_INIT(CONTROLLERS_BYTES_MAX), on = BUFFER_INIT(CONTROLLERS_BYTES_MAX);
    bool evacuated = strcmp(folder, cgroups->root) != 0;
    if (read_small(folder, "cgroup.controllers", &have) < 0 || read_small(folder, "cgroup.subtree_control", &on) < 0)
        return;
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        char text[16];
        if (!names(buffer_slice(&have), wanted[i]) || names(buffer_slice(&on), wanted[i]))
            continue;
        if (!evacuated)
            evacuate(cgroups);
        evacuated = true;
        snprintf(text, sizeof text, "+%s", wanted[i]);
        cgroup_write(folder, "cgroup.subtree_control", text); /* one by one: the kernel refuses all when it refuses one */
    }
}

/* mkdir of each component; on v2 the parent first passes its controllers down. */
static int make_folders(const struct cgroups *cgroups, size_t tree, const char *path) {
    char folder[PATH_MAX];
    int r = cgroup_folder(cgroups, tree, "", folder);
    for (const char *at = path; r == 0 && *at; at += strcspn(at + 1, "/") + 1) {
        char prefix[PATH_MAX];
        if (cgroups->version == CGROUP_V2)
            pass_down(cgroups, folder);
        snprintf(prefix, sizeof prefix, "%.*s", (int)(at - path + 1 + (ptrdiff_t)strcspn(at + 1, "/")), path);
        r = cgroup_folder(cgroups, tree, prefix, folder);
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
    int tree = cgroup_tree_of(cgroups, "cpuset");
    for (size_t end = 1; tree >= 0 && end <= strlen(path); end++) {
        if (path[end] != '/' && path[end] != 0)
            continue;
        for (size_t i = 0; i < ARRAY_LEN(files); i++) {
            CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(4 * KIB);
            char parent[PATH_MAX], folder[PATH_MAX], file[PATH_MAX + 16], prefix[PATH_MAX];
            snprintf(prefix, sizeof prefix, "%.*s", (int)end, path);
            cgroup_folder(cgroups, (size_t)tree, prefix, folder);
            char *slash = strrchr(prefix, '/');
            *slash = 0;
            cgroup_folder(cgroups, (size_t)tree, prefix, parent);
            snprintf(file, sizeof file, "%s/%s", parent, files[i]);
            if (sys_read_file(AT_FDCWD, file, 4 * KIB - 1, &text) == 0 && text.len)
                cgroup_write(folder, files[i], text.data);
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
    return limits ? cgroup_limit(cgroups, path, limits) : 0;
}

int cgroup_attach(const struct cgroups *cgroups, const char *path, pid_t pid) {
    char folder[PATH_MAX], text[24];
    snprintf(text, sizeof text, "%d", (int)pid);
    for (size_t tree = 0; tree < trees(cgroups); tree++) {
        int r = cgroup_folder(cgroups, tree, path, folder);
        if (r == 0)
            r = cgroup_write(folder, "cgroup.procs", text);
        if (r < 0)
            return r;
    }
    return 0;
}

void cgroup_folders(const struct cgroups *cgroups, const char *path, void (*fn)(void *userdata, const char *folder), void *userdata) {
    char folder[PATH_MAX];
    for (size_t tree = 0; tree < trees(cgroups); tree++)
        if (cgroup_folder(cgroups, tree, path, folder) == 0)
            fn(userdata, folder);
}

bool cgroup_exists(const struct cgroups *cgroups, const char *path) {
    char folder[PATH_MAX];
    for (size_t tree = 0; tree < trees(cgroups); tree++)
        if (cgroup_folder(cgroups, tree, path, folder) == 0 && access(folder, F_OK) == 0)
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
        if (slice_parse_u64(slice_trim(slice_cut(&rest, '\n')), INT32_MAX, &pid) == 0 && pid > 0)
            fn(userdata, (pid_t)pid);
    }
}

static void on_kill(__attribute__((unused)) void *userdata, pid_t pid) {
    if (pid > 1)
        kill(pid, SIGKILL);
}

bool cgroup_text_names(struct slice text, const char *path) {
    while (text.len) { /* "0::/…": whatever our own root is, the path is a part of it */
        struct slice line = slice_cut(&text, '\n');
        ptrdiff_t at = slice_find(line, slice_of(path));
        struct slice rest = at < 0 ? (struct slice){0} : slice_from(line, (size_t)at + strlen(path));
        if (at >= 0 && (!rest.len || rest.data[0] == '/' || slice_is(rest, " (deleted)")))
            return true;
    }
    return false;
}

bool cgroup_text_is_of_ending(struct slice text) {
    size_t lines = 0;
    while (text.len) {
        struct slice line = slice_cut(&text, '\n');
        if (slice_starts(line, SLICE("0::")))
            continue;
        if (line.len < 2 || line.data[line.len - 2] != ':' || line.data[line.len - 1] != '/')
            return false;
        lines++;
    }
    return lines > 0;
}

void cgroup_processes(const struct cgroups *cgroups, const char *path, void (*fn)(void *userdata, pid_t pid), void *userdata) {
    char folder[PATH_MAX];
    int tree = cgroup_tree_of(cgroups, "pids");
    if (cgroup_folder(cgroups, tree < 0 ? 0 : (size_t)tree, path, folder) == 0)
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
    int r = cgroup_folder(cgroups, 0, path, folder);
    if (r < 0)
        return r;
    if (cgroups->version == CGROUP_V2 && cgroup_write(folder, "cgroup.kill", "1") == 0)
        return 0;
    int tree = cgroup_tree_of(cgroups, "pids"); /* any tree that surely holds all of them; new forks are caught by the second pass */
    r = cgroup_folder(cgroups, tree < 0 ? 0 : (size_t)tree, path, folder);
    for (int pass = 0; r == 0 && pass < 2; pass++)
        walk(folder, 0, kill_folder);
    return r;
}

int cgroup_remove(const struct cgroups *cgroups, const char *path) {
    char folder[PATH_MAX];
    int result = 0;
    for (size_t tree = 0; tree < trees(cgroups); tree++) {
        int r = cgroup_folder(cgroups, tree, path, folder);
        if (r == 0 && access(folder, F_OK) == 0)
            r = walk(folder, 0, remove_folder);
        result = r < 0 ? r : result;
    }
    return result;
}

int cgroup_children(const struct cgroups *cgroups, const char *path, void (*on_child)(void *userdata, const char *name), void *userdata) {
    char folder[PATH_MAX];
    int r = cgroup_folder(cgroups, 0, path, folder);
    DIR *dir = r == 0 ? opendir(folder) : NULL;
    if (!dir)
        return r < 0 ? r : errno == ENOENT ? 0 : -errno;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.' && entry->d_type == DT_DIR)
            on_child(userdata, entry->d_name);
    closedir(dir);
    return 0;
}

/* Why crun is not trusted with a hostile image or volume.
 *
 * Fourteen of the runtimes' escapes were one mistake: a path in a tree that an attacker writes to was resolved, and then used after it had changed or
 * where it led (CVE-2019-19921, 2021-30465, 2023-27561, 2025-31133, 2025-52565, 2025-52881). Debian's crun lacks the later fixes. So:
 *
 * Before (rootfs_prepare). The overlay has just been mounted; its upper folder is new and nobody's but ours, so it holds still. /dev, /proc and /sys
 * must be folders or absent: crun's own mounts go there. Every bind mount's target is led through the image's links here, and crun gets the path that
 * remains, which has none. Beneath the target of another mount nothing is followed: what is there belongs to the volume, and whoever shares it may
 * exchange it at any moment. Nothing may be mounted at /proc or in it, but for the few files that lxcfs serves.
 *
 * After (rootfs_verify). `crun create` leaves a process that waits for its first instruction; its mounts are made and nothing of the image has run.
 * Its mount table then tells where mounts are, whatever happened while they were made: each of the configuration must be at its place, read-only
 * where asked for, /proc a procfs, every path that is to be hidden hidden. Its working directory must be the one of that name beneath its own root
 * (CVE-2024-21626), and no descriptor may stay open into the program. Otherwise it is not started.
 *
 * Its standard input may be the machine's own /dev/null, which crun before 1.24 gives to the container's user as it does with pipes: the machine has
 * it back before that user can do anything with it.
 *
 * Rejected: making all mounts here, by descriptors, and handing crun a finished tree: each would be in the machine's mount table too, and slow the
 * start of every other container. */
#include "runtime/rootfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "codec/codec.h"
#include "sys/sys.h"

#define ARENA_BYTES_MAX (64 * MIB)
#define LINKS_MAX 40
#define MOUNTINFO_BYTES_MAX (8 * MIB)
#define PROC_MAGIC 0x9fa0

/* --- links of the image --- */

/* A path being led through links: `done` has none; `todo` is what is left. */
struct walk {
    char done[PATH_MAX], todo[PATH_MAX];
    unsigned links;
};

static bool is_mount_target(const struct tree *mounts, size_t count, const char *path) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(tree_text_or(tree_find(tree_at(mounts, i), "destination"), ""), path) == 0)
            return true;
    return false;
}

static bool is_beneath(const char *path, const char *folder) {
    size_t len = strlen(folder);
    return strncmp(path, folder, len) == 0 && path[len] == '/';
}

static int follow(int root, struct walk *walk, const char *next) {
    char target[PATH_MAX], rest[PATH_MAX];
    ssize_t len = readlinkat(root, next + 1, target, sizeof target - 1);
    if (len < 0) /* a folder, a file, or nothing */
        return errno == EINVAL || errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    target[len] = 0;
    if (++walk->links > LINKS_MAX)
        return -ELOOP;
    if (*target == '/')
        *walk->done = 0;
    if (snprintf(rest, sizeof rest, "%s/%s", target, walk->todo) >= (int)sizeof rest)
        return -ENAMETOOLONG;
    memcpy(walk->todo, rest, sizeof rest);
    return 1;
}

/* One part of `todo` goes to `done`, or is replaced by what it links to. held: nothing is followed any more. */
static int step(int root, struct walk *walk, bool held) {
    char part[NAME_MAX + 1], next[PATH_MAX];
    size_t lead = strspn(walk->todo, "/"), len = strcspn(walk->todo + lead, "/");
    if (len > NAME_MAX)
        return -ENAMETOOLONG;
    snprintf(part, sizeof part, "%.*s", (int)len, walk->todo + lead);
    memmove(walk->todo, walk->todo + lead + len, strlen(walk->todo + lead + len) + 1);
    if (!*part || strcmp(part, ".") == 0)
        return 0;
    if (strcmp(part, "..") == 0) {
        char *slash = strrchr(walk->done, '/');
        if (slash)
            *slash = 0;
        return 0;
    }
    if (snprintf(next, sizeof next, "%s/%s", walk->done, part) >= (int)sizeof next)
        return -ENAMETOOLONG;
    int r = held ? 0 : follow(root, walk, next);
    if (r == 0)
        memcpy(walk->done, next, sizeof next);
    return MIN(r, 0);
}

/* The path without links, as the image has it; what is missing is kept as it is, and so is what lies beneath the first `count` mounts. */
static int lead(int root, const char *path, const struct tree *mounts, size_t count, char ret[PATH_MAX]) {
    struct walk walk = {.links = 0};
    bool held = false;
    if (snprintf(walk.todo, sizeof walk.todo, "%s", path) >= (int)sizeof walk.todo)
        return -ENAMETOOLONG;
    for (int r = 0; walk.todo[strspn(walk.todo, "/")];) {
        r = step(root, &walk, held);
        if (r < 0)
            return r;
        held = held || is_mount_target(mounts, count, walk.done);
    }
    snprintf(ret, PATH_MAX, "%s", *walk.done ? walk.done : "/");
    return 0;
}

/* --- before --- */

static int check_folders(int root, struct diag *diag) {
    static const char *const names[] = {"dev", "proc", "sys"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct stat st;
        if (fstatat(root, names[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode))
            return diag_set(diag, -EPERM, "the image's /%s is %s: it must be a folder or absent", names[i],
                            S_ISLNK(st.st_mode) ? "a link" : "no folder");
    }
    return 0;
}

static bool is_served_proc_file(const char *path) {
    static const char *const served[] = {"/proc/cpuinfo",  "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/net/dev",
                                         "/proc/slabinfo", "/proc/stat",      "/proc/swaps",   "/proc/uptime"};
    for (size_t i = 0; i < ARRAY_LEN(served); i++)
        if (strcmp(path, served[i]) == 0)
            return true;
    return false;
}

static int check_target(const char *asked, const char *path, const char *source, struct diag *diag) {
    struct statfs fs;
    if (strcmp(path, "/") == 0)
        return diag_set(diag, -EINVAL, "\"%s\" cannot be mounted: it is the container's root", asked);
    if (strcmp(path, "/proc") == 0 && statfs(source, &fs) == 0 && fs.f_type == PROC_MAGIC)
        return 0;
    if ((strcmp(path, "/proc") == 0 || is_beneath(path, "/proc")) && !is_served_proc_file(path))
        return diag_set(diag, -EPERM, "\"%s\" cannot be mounted because it is inside /proc", asked);
    return 0;
}

static bool is_bind(const struct tree *mount) {
    return strcmp(tree_text_or(tree_find(mount, "type"), ""), "bind") == 0;
}

static int compare_targets(const void *a, const void *b) {
    const struct tree_entry *one = a, *two = b;
    return strcmp(tree_text_or(tree_find(one->value, "destination"), ""), tree_text_or(tree_find(two->value, "destination"), ""));
}

/* Those of the pod come behind ours. They are in order already, but for what links changed: a folder must come before what is in it. */
static int lead_mounts(struct arena *arena, int root, struct tree *mounts, struct diag *diag) {
    size_t first = 0, count = tree_count(mounts);
    char path[PATH_MAX];
    while (first < count && !is_bind(tree_at(mounts, first)))
        first++;
    for (size_t i = first; i < count; i++) {
        struct tree *mount = tree_at(mounts, i);
        const char *asked = tree_text_or(tree_find(mount, "destination"), "");
        int r = lead(root, asked, mounts, i, path);
        if (r < 0)
            return diag_set(diag, r, "\"%s\" cannot be mounted: the image's links lead nowhere: %s", asked, strerror(-r));
        r = check_target(asked, path, tree_text_or(tree_find(mount, "source"), ""), diag);
        if (r == 0)
            r = tree_set_text(arena, mount, "destination", path);
        if (r < 0)
            return r;
    }
    if (count > first)
        qsort(mounts->children->items + first, count - first, sizeof *mounts->children->items, compare_targets);
    return 0;
}

/* Folders that are missing on the way to `path`, which has no links. */
static int make_folders(int root, const char *path, uid_t uid, gid_t gid) {
    CLEANUP(fd_closep) int at = openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (struct slice rest = slice_of(path); at >= 0 && rest.data;) {
        char part[NAME_MAX + 1];
        struct slice text = slice_cut(&rest, '/');
        if (!text.len)
            continue;
        snprintf(part, sizeof part, "%.*s", SLICE_ARG(text));
        bool made = mkdirat(at, part, 0755) == 0;
        if (!made && errno != EEXIST)
            return -errno;
        if (made && fchownat(at, part, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
            return -errno;
        int next = openat(at, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        close(at);
        at = next;
    }
    return at < 0 ? -errno : 0;
}

/* crun refuses a working directory that is not there; docker makes it. One in a volume is the volume's. */
static int make_working_folder(int root, const struct tree *config, const struct tree *mounts, struct diag *diag) {
    const struct tree *process = tree_find(config, "process");
    const char *asked = tree_text_or(tree_find(process, "cwd"), "/");
    char path[PATH_MAX];
    int r = lead(root, asked, mounts, tree_count(mounts), path);
    if (r == 0 && (strcmp(path, "/proc") == 0 || is_beneath(path, "/proc")))
        return diag_set(diag, -EPERM, "the working directory \"%s\" is inside /proc", asked);
    for (size_t i = 0; r == 0 && i < tree_count(mounts); i++) {
        const char *target = tree_text_or(tree_find(tree_at(mounts, i), "destination"), "");
        if (strcmp(path, target) == 0 || is_beneath(path, target))
            return 0;
    }
    const struct tree *user = tree_find(process, "user"), *mapping = tree_at(tree_path(config, "linux.uidMappings"), 0);
    int64_t base = tree_int_or(tree_find(mapping, "hostID"), 0);
    if (r == 0)
        r = make_folders(root, path, (uid_t)(base + tree_int_or(tree_find(user, "uid"), 0)), (gid_t)(base + tree_int_or(tree_find(user, "gid"), 0)));
    return r < 0 ? diag_set(diag, r, "cannot make the working directory \"%s\": %s", asked, strerror(-r)) : 0;
}

static int parse(struct arena *arena, struct slice config_json, struct tree **ret) {
    return arena ? json_parse(arena, config_json, &(struct json_options){.allow_duplicates = true}, ret, NULL) : -ENOMEM;
}

int rootfs_prepare(const char *rootfs, struct slice config_json, struct buffer *out, struct diag *diag) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(ARENA_BYTES_MAX);
    CLEANUP(fd_closep) int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct tree *config = NULL;
    int r = root < 0 ? -errno : parse(arena, config_json, &config);
    if (r == 0)
        r = check_folders(root, diag);
    struct tree *mounts = tree_find(config, "mounts");
    if (r == 0)
        r = lead_mounts(arena, root, mounts, diag);
    if (r == 0)
        r = make_working_folder(root, config, mounts, diag);
    return r < 0 ? r : json_format(out, config);
}

/* --- after --- */

/* A line of /proc/<pid>/mountinfo. */
struct seen {
    struct slice target, options, type, root;
};

struct look {
    struct slice mountinfo;
    int root; /* the container's */
    struct diag *diag;
};

/* The last one at this place, which is the one that shows. Targets with spaces and the like are escaped in both. */
static bool find_mount(const struct look *look, const char *path, struct seen *ret) {
    CLEANUP(buffer_deinit) struct buffer escaped = BUFFER_INIT(4 * PATH_MAX);
    for (const char *at = path; *at; at++) {
        if (strchr(" \t\n\\", *at))
            buffer_printf(&escaped, "\\%03o", (unsigned)*at);
        else
            buffer_append_byte(&escaped, (unsigned char)*at);
    }
    bool found = false;
    for (struct slice rest = look->mountinfo; rest.data;) {
        struct slice line = slice_cut(&rest, '\n'), fields[6] = {0};
        for (size_t i = 0; i < ARRAY_LEN(fields); i++)
            fields[i] = slice_cut(&line, ' ');
        if (!fields[4].len || !slice_equal(fields[4], buffer_slice(&escaped)))
            continue;
        ptrdiff_t dash = slice_find(line, SLICE("- "));
        struct slice type = slice_from(line, dash < 0 ? line.len : (size_t)dash + 2);
        *ret = (struct seen){.target = fields[4], .options = fields[5], .root = fields[3], .type = slice_cut(&type, ' ')};
        found = true;
    }
    return found;
}

static bool has_option(const struct tree *options, const char *name) {
    for (size_t i = 0; i < tree_count(options); i++)
        if (strcmp(tree_text_or(tree_at(options, i), ""), name) == 0)
            return true;
    return false;
}

static bool is_read_only(const struct seen *seen) {
    struct slice rest = seen->options;
    while (rest.data)
        if (slice_is(slice_cut(&rest, ','), "ro"))
            return true;
    return false;
}

static int check_mount(const struct look *look, const struct tree *mount) {
    static const char *const kernel_types[] = {"proc", "sysfs", "devpts", "mqueue"};
    const char *path = tree_text_or(tree_find(mount, "destination"), ""), *type = tree_text_or(tree_find(mount, "type"), "");
    struct seen seen;
    if (!find_mount(look, path, &seen))
        return diag_set(look->diag, -EPERM, "the mount of \"%s\" is not at its place: something led it astray while it was made", path);
    for (size_t i = 0; i < ARRAY_LEN(kernel_types); i++)
        if (strcmp(type, kernel_types[i]) == 0 && (!slice_is(seen.type, type) || !slice_is(seen.root, "/")))
            return diag_set(look->diag, -EPERM, "\"%s\" is not the %s it should be", path, type);
    const struct tree *options = tree_find(mount, "options");
    if (is_bind(mount) && (has_option(options, "ro") || has_option(options, "rro")) && !is_read_only(&seen))
        return diag_set(look->diag, -EPERM, "the mount of \"%s\" is not read-only", path);
    return 0;
}

/* Paths that are to be hidden or read-only, where the kernel has them. */
static int check_paths(const struct look *look, const struct tree *paths, bool read_only) {
    for (size_t i = 0; i < tree_count(paths); i++) {
        struct seen seen;
        struct stat st;
        const char *path = tree_text_or(tree_at(paths, i), "/");
        CLEANUP(fd_closep) int fd = sys_open_in_root(look->root, path, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
        if (fd < 0 || fstat(fd, &st) < 0 || S_ISLNK(st.st_mode))
            continue;
        if (!find_mount(look, path, &seen) || (read_only && !is_read_only(&seen)))
            return diag_set(look->diag, -EPERM, "%s is not %s", path, read_only ? "read-only" : "hidden");
    }
    return 0;
}

/* The working directory is what its name says, within the container's root, and no link of procfs led there. */
static int check_working_folder(const struct look *look, pid_t pid, const char *name) {
    char path[64];
    struct stat is, should;
    snprintf(path, sizeof path, "/proc/%d/cwd", (int)pid);
    CLEANUP(fd_closep) int fd = sys_open_in_root(look->root, name, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0 || fstat(fd, &should) < 0 || stat(path, &is) < 0 || is.st_dev != should.st_dev || is.st_ino != should.st_ino)
        return diag_set(look->diag, -EPERM, "the working directory \"%s\" is not inside the container", name);
    return 0;
}

/* Flags of an open descriptor, as fdinfo has them. */
static bool closes_on_exec(int folder, const char *name) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64 * KIB);
    unsigned flags = 0;
    int r = sys_read_file(folder, name, 64 * KIB - 1, &text);
    if (r < 0)
        return r == -ENOENT; /* it was closed meanwhile */
    ptrdiff_t at = slice_find(buffer_slice(&text), SLICE("flags:"));
    struct slice digits = slice_trim(slice_from(buffer_slice(&text), at < 0 ? text.len : (size_t)at + 6));
    for (size_t i = 0; i < digits.len && digits.data[i] >= '0' && digits.data[i] <= '7'; i++)
        flags = flags * 8 + (unsigned)(digits.data[i] - '0');
    return flags & O_CLOEXEC;
}

static int check_descriptors(const struct look *look, pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fdinfo", (int)pid);
    DIR *dir = opendir(path);
    int r = dir ? 0 : -errno;
    for (struct dirent *entry; r == 0 && (entry = readdir(dir));) {
        uint64_t number;
        if (slice_parse_u64(slice_of(entry->d_name), INT_MAX, &number) == 0 && number > 2 && !closes_on_exec(dirfd(dir), entry->d_name))
            r = diag_set(look->diag, -EPERM, "descriptor %s would stay open in the container", entry->d_name);
    }
    if (dir)
        closedir(dir);
    return r;
}

static int verify(const struct look *look, pid_t pid, const struct tree *config) {
    const struct tree *mounts = tree_find(config, "mounts"), *linux_ = tree_find(config, "linux");
    int r = 0;
    for (size_t i = 0; r == 0 && i < tree_count(mounts); i++)
        r = check_mount(look, tree_at(mounts, i));
    if (r == 0)
        r = check_paths(look, tree_find(linux_, "maskedPaths"), false);
    if (r == 0)
        r = check_paths(look, tree_find(linux_, "readonlyPaths"), true);
    if (r == 0)
        r = check_working_folder(look, pid, tree_text_or(tree_path(config, "process.cwd"), "/"));
    return r < 0 ? r : check_descriptors(look, pid);
}

void rootfs_take_null_back(void) {
    struct stat st;
    CLEANUP(fd_closep) int fd = open("/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
        return;
    if ((st.st_uid != 0 || st.st_gid != 0) && chown("/dev/null", 0, 0) == 0)
        st.st_mode = 0; /* what it is now is for its owner of a moment ago to say */
    if ((st.st_mode & 07777) != 0666)
        (void)!chmod("/dev/null", 0666);
}

int rootfs_verify(pid_t pid, struct slice config_json, struct diag *diag) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(ARENA_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer mountinfo = BUFFER_INIT(MOUNTINFO_BYTES_MAX);
    struct tree *config = NULL;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/root", (int)pid);
    CLEANUP(fd_closep) int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/%d/mountinfo", (int)pid);
    int r = root < 0 ? -errno : parse(arena, config_json, &config);
    if (r == 0)
        r = sys_read_file(AT_FDCWD, path, MOUNTINFO_BYTES_MAX - 1, &mountinfo);
    if (r < 0)
        return diag_set(diag, r, "cannot look at the container's mounts: %s", strerror(-r));
    const struct look look = {.mountinfo = buffer_slice(&mountinfo), .root = root, .diag = diag};
    return verify(&look, pid, config);
}

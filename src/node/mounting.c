/* A container's mount of a volume: where it comes from, and with which options.
 *
 * A sub path is resolved inside the volume and then bound by descriptor to a path of ours, so that nobody who shares the volume can exchange it for a
 * link before crun mounts it (CVE-2017-1002101, CVE-2021-25741). */
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "node/node_priv.h"
#include "sys/sys.h"

#define OPTIONS_MAX 9

/* What others see too: its files keep their owners on disk. */
static bool is_shared(const struct kube_volume *volume) {
    return volume->host_path || volume->persistent_volume_claim || volume->ephemeral;
}

/* A folder that is missing gets the volume's mode, as from kubelet: who may write there may write here. owner -1: it stays ours, as on a shared
 * volume. */
static int make_sub_folder(int parent, const char *name, mode_t mode, uid_t owner) {
    char self[64];
    struct stat st;
    if (mkdirat(parent, name, 0700) < 0)
        return errno == EEXIST ? 0 : -errno;
    CLEANUP(fd_closep) int fd = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (owner != (uid_t)-1 && fchownat(fd, "", owner, st.st_mode & S_ISGID ? (gid_t)-1 : owner, AT_EMPTY_PATH) < 0)
        return -errno;
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    return chmod(self, mode) < 0 ? -errno : 0;
}

static int open_sub_path(int root, const char *path, uid_t owner) {
    struct stat st;
    int fd = sys_open_in_root(root, path, O_PATH | O_CLOEXEC, 0);
    if (fd != -ENOENT)
        return fd;
    if (fstat(root, &st) < 0)
        return -errno;
    char prefix[PATH_MAX];
    for (const char *at = path; *at; at += strcspn(at, "/") + (at[strcspn(at, "/")] == '/')) {
        snprintf(prefix, sizeof prefix, "%.*s", (int)(at - path), path);
        char name[NAME_MAX + 1];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, "/"), at);
        CLEANUP(fd_closep) int parent = sys_open_in_root(root, *prefix ? prefix : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
        if (parent < 0)
            return parent;
        int r = *name ? make_sub_folder(parent, name, st.st_mode & 07777, owner) : 0;
        if (r < 0)
            return r;
    }
    return sys_open_in_root(root, path, O_PATH | O_CLOEXEC, 0);
}

static const char *sub_path_target(const struct unit *unit, int attempt, size_t index, struct arena *arena) {
    char folder[PATH_MAX];
    volumes_memory_path(unit->pod, "", folder);
    return arena_printf(arena, "%s/.sub-%s-%d-%zu", folder, unit->spec->name, attempt, index);
}

/* The container has its own copy of the mount since it was created. */
static void drop_target(const char *target) {
    if (mounts_is_mounted(target))
        mounts_remove(target);
    if (unlink(target) < 0)
        rmdir(target);
}

static int bind_sub_path(const struct unit *unit, size_t index, const char *volume, uid_t owner, const char *sub_path, struct arena *arena,
                         const char **ret) {
    const struct pod *pod = unit->pod;
    char source[64], folder[PATH_MAX];
    struct stat st;
    CLEANUP(fd_closep) int root = open(volume, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return -errno;
    CLEANUP(fd_closep) int fd = payload_path_is_safe(sub_path) ? open_sub_path(root, sub_path, owner) : -EINVAL;
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return -errno;
    volumes_memory_path(pod, "", folder);
    const char *target = sub_path_target(unit, unit->restart_count, index, arena);
    const char *before =
        sub_path_target(unit, unit->restart_count - 1, index, arena); /* else a container that ends again and again leaves one each time */
    int r = target && before ? sys_mkdirs(folder, 0700) : -ENOMEM;
    if (r < 0)
        return r;
    drop_target(before);
    drop_target(target);
    if (S_ISDIR(st.st_mode))
        r = sys_mkdirs(target, 0700);
    else
        r = sys_write_file_fast(AT_FDCWD, target, SLICE(""), 0600);
    snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
    if (r == 0)
        r = mounts_bind(source, target);
    *ret = target;
    return r;
}

/* The first "$(NAME)" that no variable of the container answers. */
static const char *missing_variable(struct arena *arena, const char *text, const char *const *env) {
    for (const char *at = text; (at = strchr(at, '$')); at++) {
        const char *end = at[1] == '(' ? strchr(at, ')') : NULL;
        if (at[1] == '$')
            at++;
        if (!end)
            continue;
        size_t len = (size_t)(end - at - 2);
        bool found = false;
        for (size_t i = 0; env[i]; i++)
            found = found || (strncmp(env[i], at + 2, len) == 0 && env[i][len] == '=');
        if (!found)
            return arena_dup(arena, slice_make(at + 2, len));
    }
    return NULL;
}

static int expand_sub_path(const struct kube_volume_mount *mount, const char *const *env, struct arena *arena, const char **ret, struct diag *diag) {
    *ret = mount->sub_path && *mount->sub_path ? mount->sub_path : NULL;
    if (*ret || !mount->sub_path_expr || !*mount->sub_path_expr)
        return 0;
    const char *missing = missing_variable(arena, mount->sub_path_expr, env);
    if (missing)
        return diag_set(diag, -EINVAL, "missing value for \"%s\"", missing);
    *ret = environment_expand(arena, mount->sub_path_expr, env);
    return *ret ? 0 : -ENOMEM;
}

static bool is_read_only(const struct kube_volume *volume, const struct kube_volume_mount *mount) {
    return mount->read_only || volume->image || volumes_is_filled(volume) ||
           (volume->persistent_volume_claim && volume->persistent_volume_claim->read_only);
}

/* crun does it by mount_setattr(2), which every kernel has that we run on. */
bool mounting_is_recursive(const struct unit *unit, const struct kube_volume_mount *mount) {
    const struct kube_volume *volume = volumes_find(unit->pod, mount->name);
    const char *mode = mount->recursive_read_only;
    return volume && is_read_only(volume, mount) && mode && (strcmp(mode, "Enabled") == 0 || strcmp(mode, "IfPossible") == 0);
}

/* What mountPropagation means for the mount, and for the root that it is in. */
static const char *propagation_of(const struct kube_volume_mount *mount) {
    const char *mode = mount->mount_propagation ? mount->mount_propagation : "None";
    return strcmp(mode, "HostToContainer") == 0 ? "rslave" : strcmp(mode, "Bidirectional") == 0 ? "rshared" : "rprivate";
}

const char *mounting_propagation(const struct unit *unit) {
    const char *root = NULL;
    for (size_t i = 0; i < unit->spec->volume_mounts.count; i++) {
        const char *each = propagation_of(&unit->spec->volume_mounts.items[i]);
        if (strcmp(each, "rshared") == 0 || (strcmp(each, "rslave") == 0 && !root))
            root = each;
    }
    return root;
}

/* What is the kernel's, or no file at all, belongs to nobody inside, and that is how it is. */
static bool is_of_kernel(const char *path) {
    static const unsigned long types[] = {PROC_SUPER_MAGIC, SYSFS_MAGIC,   CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC,
                                          DEBUGFS_MAGIC,    TRACEFS_MAGIC, SECURITYFS_MAGIC,   BPF_FS_MAGIC};
    struct statfs fs;
    struct stat st;
    if (stat(path, &st) < 0 || statfs(path, &fs) < 0)
        return false;
    bool found = !S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode);
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        found = found || (unsigned long)fs.f_type == types[i];
    return found;
}

static const char *const *options_of(const struct unit *unit, const struct kube_volume *volume, const struct kube_volume_mount *mount,
                                     const char *source, struct arena *arena) {
    const char **options = ARENA_ARRAY(arena, const char *, OPTIONS_MAX);
    size_t count = 0;
    if (!options)
        return NULL;
    options[count++] = "rbind";
    options[count++] = propagation_of(mount);
    options[count++] = !is_read_only(volume, mount) ? "rw" : mounting_is_recursive(unit, mount) ? "rro" : "ro";
    if (is_shared(volume) &&
        userns_can_map(unit->pod, source)) { /* without numbers crun looks at a process that may not have joined the pod's users yet */
        options[count] = arena_printf(arena, "idmap=uids=0-%u-%d;gids=0-%u-%d", (unsigned)unit->pod->id_base, USERNS_IDS,
                                      (unsigned)unit->pod->id_base, USERNS_IDS);
        if (!options[count++])
            return NULL;
    }
    if (volume->image) { /* what is shown is data: nothing of it runs */
        options[count++] = "nosuid";
        options[count++] = "nodev";
        options[count++] = "noexec";
    }
    options[count] = NULL;
    return options;
}

int mounting_describe(const struct unit *unit, size_t mount_index, const char *const *env, struct arena *arena, struct bundle_mount *ret,
                      struct diag *diag) {
    const struct kube_volume_mount *mount = &unit->spec->volume_mounts.items[mount_index];
    const struct kube_volume *volume = volumes_find(unit->pod, mount->name);
    const char *sub_path = NULL, *source = NULL;
    char path[PATH_MAX];
    if (!volume)
        return diag_set(diag, -EINVAL, "volume mount \"%s\" names no volume of the pod", mount->name);
    if (volumes_path(unit->pod, volume, path) < 0)
        return diag_set(diag, -ENOENT, "volume \"%s\" is not mounted", mount->name);
    int r = expand_sub_path(mount, env, arena, &sub_path, diag);
    if (r < 0)
        return r;
    if (sub_path) {
        uid_t owner = unit->pod->id_base && !is_shared(volume) ? unit->pod->id_base : (uid_t)-1;
        r = bind_sub_path(unit, mount_index, path, owner, sub_path, arena, &source);
        if (r < 0)
            return diag_set(diag, r, "failed to prepare subPath for volumeMount \"%s\" of container \"%s\": \"%.200s\": %s", mount->name,
                            unit->spec->name, sub_path, strerror(-r));
    } else
        source = arena_strdup(arena, path);
    if (!source)
        return -ENOMEM;
    if (unit->pod->id_base && is_shared(volume) && !userns_can_map(unit->pod, source) && !is_of_kernel(source))
        return diag_set(diag, -EOPNOTSUPP,
                        "volume \"%s\" cannot be mapped to the pod's users (hostUsers: false): %s has no idmapped mounts on this kernel", mount->name,
                        path);
    const char *target = *mount->mount_path == '/' ? mount->mount_path : arena_printf(arena, "/%s", mount->mount_path);
    *ret = (struct bundle_mount){
        .source = source, .destination = target, .read_only = is_read_only(volume, mount), .options = options_of(unit, volume, mount, source, arena)};
    return target && ret->options ? 0 : -ENOMEM;
}

/* Applying a layer (OCI image spec, layer.md) to the folder that becomes an overlayfs lower layer.
 *
 * libarchive only reads the tar: its disk writer either replaces legitimate symlinked folders or can be led outside (facts: usrmerge tars, "a ->
 * ../victim").
 *
 * Invariants
 *  1. A path is split into parent and leaf. The parent is opened component by component inside root_fd (openat2 RESOLVE_IN_ROOT: "..", absolute links
 * and links of the tar itself stay inside); the leaf is only touched by *at calls on the parent that do not follow links. So nothing outside root_fd
 * changes.
 *  2. A leaf that exists is replaced, except a folder by a folder, which keeps its content and takes the new attributes.
 *  3. `.wh.x` becomes a character device 0:0, `.wh..wh..opq` trusted.overlay.opaque; they concern lower layers only, so what this layer brought
 * stays. Such marks in the tar itself (a 0:0 device, trusted.overlay.* or user.overlay.* attributes) are refused or dropped: an image cannot speak
 * overlayfs.
 *  4. Parents that the tar leaves out are made after the nearest lower layer that has them: a folder with its mode and owner, or the same symbolic
 * link; else 0755.
 *  5. Times of folders are set last, since writing into them changes them.
 *  6. Bytes, entries, path length and depth are limited. */
#include "runtime/layer.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "sys/sys.h"

#define COMPONENTS_MAX 256
#define FOLDERS_MAX 500000

struct folder_time {
    char *path;
    struct timespec mtime;
};

struct applier {
    const struct layer_options *options;
    struct diag *diag;
    uint64_t bytes, entries, bytes_max, entries_max;
    VECTOR(struct folder_time) times;
    layer_read_fn *read;
    void *userdata;
    int read_error;
};

/* An entry's place: the open parent and the name in it. */
struct place {
    int parent;
    const char *leaf;
    const char *path; /* cleaned, without leading slash; "" is the root */
};

static void place_close(struct place *place) {
    if (place->parent >= 0)
        close(place->parent);
}

static int fail(const struct applier *applier, int error, const char *path, const char *what) {
    return diag_set(applier->diag, error, "layer entry \"%.300s\": %s: %s", path, what, strerror(-error));
}
static int refuse(const struct applier *applier, const char *path, const char *why) {
    return diag_set(applier->diag, -EBADMSG, "layer entry \"%.300s\" is refused: %s", path, why);
}

/* Brings a path to "a/b/c" in ret (PATH_MAX bytes): no leading slash, no "." or empty components; ".." is an error. */
static int clean_path(const char *path, char *ret) {
    size_t len = 0, components = 0;
    for (struct slice rest = slice_of(path); rest.data;) {
        struct slice part = slice_cut(&rest, '/');
        if (part.len == 0 || slice_is(part, "."))
            continue;
        if (slice_is(part, "..") || part.len > NAME_MAX || ++components > COMPONENTS_MAX || len + part.len + 2 > PATH_MAX)
            return -EINVAL;
        if (len)
            ret[len++] = '/';
        memcpy(ret + len, part.data, part.len);
        len += part.len;
    }
    ret[len] = 0;
    return 0;
}

/* --- parents --- */

/* What a lower layer has at `path` (of the layer's own links only the last component is not followed). 0 and st; -ENOENT. */
static int stat_lower(const struct applier *applier, const char *path, struct stat *ret_stat, char *ret_link) {
    const struct layer_options *options = applier->options;
    const int *lowers = options->lower_fds;
    size_t count = options->lower_count;
    int r = options->lowers ? options->lowers(options->userdata, &lowers, &count) : 0;
    for (size_t i = 0; r == 0 && i < count; i++) {
        CLEANUP(fd_closep) int fd = sys_open_in_root(lowers[i], path, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
        if (fd < 0)
            continue;
        if (fstat(fd, ret_stat) < 0)
            return -errno;
        if (S_ISCHR(ret_stat->st_mode) && ret_stat->st_rdev == 0)
            return -ENOENT; /* a whiteout hides the rest */
        if (!S_ISLNK(ret_stat->st_mode))
            return 0;
        ssize_t len = readlinkat(fd, "", ret_link, PATH_MAX - 1);
        if (len < 0)
            return -errno;
        ret_link[len] = 0;
        return 0;
    }
    return r < 0 ? r : -ENOENT;
}

/* The target of the link that this layer or the nearest below has at `path`; -ENOENT when there is none. */
static int read_link(const struct applier *applier, const char *path, char *ret_link) {
    struct stat st;
    CLEANUP(fd_closep) int fd = sys_open_in_root(applier->options->root_fd, path, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
    if (fd < 0)
        return stat_lower(applier, path, &st, ret_link) == 0 && S_ISLNK(st.st_mode) ? 0 : -ENOENT;
    ssize_t len = readlinkat(fd, "", ret_link, PATH_MAX - 1);
    if (len < 0)
        return -ENOENT;
    ret_link[len] = 0;
    return 0;
}

static int make_parent(const struct applier *applier, int parent, const char *path, const char *name) {
    struct stat st;
    char link[PATH_MAX];
    int r = stat_lower(applier, path, &st, link);
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == 0 && S_ISLNK(st.st_mode))
        return symlinkat(link, parent, name) < 0 ? -errno : 0;
    if (mkdirat(parent, name, 0755) < 0)
        return -errno;
    if (r < 0 || !S_ISDIR(st.st_mode)) {
        st.st_mode = 0755;
        return fchmodat(parent, name, 0755, 0) < 0 ? -errno : 0; /* whatever the umask */
    }
    if (applier->options->keep_owner && fchownat(parent, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return fchmodat(parent, name, st.st_mode & 07777, 0) < 0 ? -errno : 0;
}

#define FOLDER_FLAGS (O_PATH | O_DIRECTORY | O_CLOEXEC)

static int set_opaque(int folder_fd) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", folder_fd);
    return setxattr(path, "trusted.overlay.opaque", "y", 1, 0) < 0 ? -errno : 0;
}

static int set_opaque_at(int parent, const char *leaf) {
    CLEANUP(fd_closep) int fd = openat(parent, leaf, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : set_opaque(fd);
}

/* The layer has removed what lies below, and now has something in a folder of that name: a new one, with nothing of the old. */
static int replace_whiteout(int parent, const char *name) {
    struct stat st;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != 0)
        return -ENOTDIR;
    if (unlinkat(parent, name, 0) < 0 || mkdirat(parent, name, 0755) < 0 || fchmodat(parent, name, 0755, 0) < 0)
        return -errno;
    return set_opaque_at(parent, name);
}

/* Opens the folder `path` inside the layer, making what is missing. */
static int open_parent(const struct applier *applier, char *path) {
    int root = applier->options->root_fd;
    int fd = sys_open_in_root(root, *path ? path : ".", FOLDER_FLAGS, 0);
    if (fd != -ENOENT && fd != -ENOTDIR)
        return fd;
    CLEANUP(fd_closep) int at = sys_open_in_root(root, ".", FOLDER_FLAGS, 0);
    for (char *next = path; at >= 0 && next;) {
        char *name = next, *slash = strchr(next, '/');
        next = slash ? slash + 1 : NULL;
        if (slash)
            *slash = 0;
        fd = sys_open_in_root(root, path, FOLDER_FLAGS, 0);
        if (fd == -ENOTDIR && replace_whiteout(at, name) == 0)
            fd = sys_open_in_root(root, path, FOLDER_FLAGS, 0);
        if (fd == -ENOENT) {
            int r = make_parent(applier, at, path, name);
            fd = r < 0 ? r : sys_open_in_root(root, path, FOLDER_FLAGS, 0);
            if ((fd == -ENOENT && r == 0) || fd == -EEXIST) /* a link whose target only a lower layer has: the caller makes the target */
                fd = -ENOTDIR;
        }
        if (slash)
            *slash = '/';
        close(at);
        at = fd;
    }
    return TAKE_FD(at);
}

/* As open_parent, but a link out of a lower layer whose target is not here yet (lib -> usr/lib) is followed by making the target. */
static int open_parent_through_links(const struct applier *applier, const char *path, int depth) {
    char copy[PATH_MAX], link[PATH_MAX], target[2 * PATH_MAX], clean[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    int fd = open_parent(applier, copy);
    if (fd != -ENOTDIR || depth > 8)
        return fd;
    for (size_t i = 0; path[i]; i++) { /* the first component that is a dangling link */
        if (path[i + 1] != '/' && path[i + 1] != 0)
            continue;
        snprintf(copy, sizeof copy, "%.*s", (int)i + 1, path);
        if (read_link(applier, copy, link) < 0)
            continue;
        char *slash = strrchr(copy, '/');
        snprintf(target, sizeof target, "%.*s/%s", link[0] == '/' || !slash ? 0 : (int)(slash - copy), copy, link);
        if (clean_path(target, clean) < 0)
            return -ENOTDIR;
        int made = open_parent_through_links(applier, clean, depth + 1);
        if (made < 0)
            return made;
        close(made);
    }
    snprintf(copy, sizeof copy, "%s", path);
    return open_parent(applier, copy);
}

/* clean: the entry's cleaned path, changed and borrowed by the place. */
static int open_place(const struct applier *applier, char *clean, struct place *ret) {
    char parent[PATH_MAX];
    char *slash = strrchr(clean, '/');
    snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - clean) : 0, clean);
    int fd = open_parent_through_links(applier, parent, 0);
    if (fd < 0)
        return fail(applier, fd, clean, "cannot open its folder");
    *ret = (struct place){.parent = fd, .leaf = slash ? slash + 1 : clean, .path = clean};
    return 0;
}

/* --- leaves --- */

static int apply_whiteout(const struct applier *applier, const struct place *place) {
    const char *hidden = place->leaf + 4;
    struct stat st;
    if (strcmp(hidden, ".wh..opq") == 0) {
        int r = set_opaque(place->parent);
        return r < 0 ? fail(applier, r, place->path, "cannot mark its folder opaque") : 0;
    }
    if (strncmp(hidden, ".wh.", 4) == 0)
        return 0; /* bookkeeping of aufs */
    if (!*hidden || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
        return refuse(applier, place->path, "a whiteout without a name");
    if (fstatat(place->parent, hidden, &st, AT_SYMLINK_NOFOLLOW) == 0) { /* of this layer: only what lies below it is hidden */
        int r = S_ISDIR(st.st_mode) ? set_opaque_at(place->parent, hidden) : 0;
        return r < 0 ? fail(applier, r, place->path, "cannot mark the folder opaque") : 0;
    }
    if (mknodat(place->parent, hidden, S_IFCHR | 0600, makedev(0, 0)) < 0)
        return fail(applier, -errno, place->path, "cannot create the whiteout");
    return 0;
}

/* Makes room for the leaf. *ret_keep: a folder is there and shall stay. *ret_was_whiteout: then a folder that takes its place must be opaque. */
static int clear_leaf(const struct applier *applier, const struct place *place, bool want_folder, bool *ret_keep, bool *ret_was_whiteout) {
    struct stat st;
    *ret_keep = *ret_was_whiteout = false;
    if (fstatat(place->parent, place->leaf, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : fail(applier, -errno, place->path, "cannot look at what is there");
    if (S_ISDIR(st.st_mode) && want_folder) {
        *ret_keep = true;
        return 0;
    }
    *ret_was_whiteout = S_ISCHR(st.st_mode) && st.st_rdev == 0;
    int r = 0;
    if (S_ISDIR(st.st_mode))
        r = sys_remove_tree(place->parent, place->leaf);
    else if (unlinkat(place->parent, place->leaf, 0) < 0)
        r = -errno;
    return r < 0 ? fail(applier, r, place->path, "cannot replace what is there") : 0;
}

static bool xattr_is_wanted(const char *name) {
    return strcmp(name, "security.capability") == 0 || (strncmp(name, "user.", 5) == 0 && strncmp(name, "user.overlay.", 13) != 0);
}

/* Owner, attributes, mode, time, in this order: a changed owner drops capabilities and set-uid bits. fd may be O_PATH. */
static int apply_attributes(struct applier *applier, struct archive_entry *entry, int fd, const struct place *place, bool is_folder) {
    char self[64];
    const char *name;
    const void *value;
    size_t size;
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);
    if (uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX)
        return refuse(applier, place->path, "its owner is out of range");
    if (applier->options->keep_owner && chown(self, (uid_t)uid, (gid_t)gid) < 0)
        return fail(applier, -errno, place->path, "cannot set its owner");
    archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK)
        if (xattr_is_wanted(name) && setxattr(self, name, value, size, 0) < 0 && errno != ENOTSUP && errno != EPERM)
            return fail(applier, -errno, place->path, "cannot set an extended attribute");
    if (chmod(self, archive_entry_mode(entry) & 07777) < 0)
        return fail(applier, -errno, place->path, "cannot set its mode");
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = archive_entry_mtime(entry), .tv_nsec = archive_entry_mtime_nsec(entry)}};
    if (is_folder) {
        struct folder_time time = {.path = strdup(place->path), .mtime = times[1]};
        if (!time.path || applier->times.count >= FOLDERS_MAX || VECTOR_PUSH(&applier->times, time) < 0)
            return free(time.path), -ENOMEM;
        return 0;
    }
    utimensat(AT_FDCWD, self, times, 0); /* a time out of the file system's range is no reason to fail */
    return 0;
}

static int apply_folder(struct applier *applier, struct archive_entry *entry, const struct place *place) {
    bool keep, was_whiteout;
    bool is_root = !*place->path;
    int r = is_root ? 0 : clear_leaf(applier, place, true, &keep, &was_whiteout);
    if (r < 0)
        return r;
    if (!is_root && !keep && mkdirat(place->parent, place->leaf, 0700) < 0)
        return fail(applier, -errno, place->path, "cannot create the folder");
    CLEANUP(fd_closep) int fd = openat(place->parent, is_root ? "." : place->leaf, FOLDER_FLAGS | O_NOFOLLOW);
    if (fd < 0)
        return fail(applier, -errno, place->path, "cannot open the folder");
    if (!is_root && was_whiteout && (r = set_opaque(fd)) < 0)
        return fail(applier, r, place->path, "cannot mark the folder opaque");
    return apply_attributes(applier, entry, fd, place, true);
}

static int copy_data(struct applier *applier, struct archive *archive, int fd, const struct place *place) {
    const void *bytes;
    size_t len;
    la_int64_t offset;
    int r;
    while ((r = archive_read_data_block(archive, &bytes, &len, &offset)) == ARCHIVE_OK) {
        applier->bytes += len;
        if (applier->bytes > applier->bytes_max || offset < 0 || (uint64_t)offset > applier->bytes_max)
            return refuse(applier, place->path, "the layer's content is larger than the limit");
        for (size_t done = 0; done < len;) {
            ssize_t n = pwrite(fd, (const char *)bytes + done, len - done, offset + (off_t)done);
            if (n < 0)
                return fail(applier, -errno, place->path, "cannot write");
            done += (size_t)n;
        }
    }
    if (r != ARCHIVE_EOF)
        return diag_set(applier->diag, applier->read_error ? applier->read_error : -EBADMSG, "layer entry \"%.300s\": %s", place->path,
                        archive_error_string(archive) ? archive_error_string(archive) : "damaged tar stream");
    return 0;
}

static int apply_file(struct applier *applier, struct archive *archive, struct archive_entry *entry, const struct place *place) {
    int64_t size = archive_entry_size(entry);
    if (size < 0 || (uint64_t)size > applier->bytes_max)
        return refuse(applier, place->path, "the layer's content is larger than the limit");
    CLEANUP(fd_closep) int fd = openat(place->parent, place->leaf, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(applier, -errno, place->path, "cannot create the file");
    int r = copy_data(applier, archive, fd, place);
    if (r == 0 && ftruncate(fd, size) < 0) /* a sparse end */
        r = fail(applier, -errno, place->path, "cannot set its size");
    return r < 0 ? r : apply_attributes(applier, entry, fd, place, false);
}

static int apply_hard_link(struct applier *applier, const char *target, const struct place *place) {
    char clean[PATH_MAX];
    struct place from = {.parent = -1};
    if (clean_path(target, clean) < 0 || !*clean)
        return refuse(applier, place->path, "its hard link points outside");
    int r = open_place(applier, clean, &from);
    if (r == 0 && strcmp(clean, place->path) != 0 && linkat(from.parent, from.leaf, place->parent, place->leaf, 0) < 0)
        r = fail(applier, -errno, place->path, errno == ENOENT ? "its hard link's target is not in this layer" : "cannot create the hard link");
    place_close(&from);
    return r;
}

static int apply_symbolic_link(struct applier *applier, struct archive_entry *entry, const struct place *place) {
    const char *target = archive_entry_symlink(entry);
    if (!target || !*target)
        return refuse(applier, place->path, "a symbolic link without target");
    if (symlinkat(target, place->parent, place->leaf) < 0)
        return fail(applier, -errno, place->path, "cannot create the symbolic link");
    if (applier->options->keep_owner &&
        fchownat(place->parent, place->leaf, (uid_t)archive_entry_uid(entry), (gid_t)archive_entry_gid(entry), AT_SYMLINK_NOFOLLOW) < 0)
        return fail(applier, -errno, place->path, "cannot set its owner");
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = archive_entry_mtime(entry), .tv_nsec = archive_entry_mtime_nsec(entry)}};
    utimensat(place->parent, place->leaf, times, AT_SYMLINK_NOFOLLOW);
    return 0;
}

static int apply_special(struct applier *applier, struct archive_entry *entry, const struct place *place) {
    mode_t type = archive_entry_filetype(entry);
    dev_t device = type == S_IFIFO ? 0 : makedev(archive_entry_rdevmajor(entry), archive_entry_rdevminor(entry));
    if (type == S_IFSOCK)
        return 0;
    if (type == S_IFCHR && device == 0)
        return refuse(applier, place->path, "a character device 0:0 would be a whiteout");
    if (mknodat(place->parent, place->leaf, type | 0600, device) < 0)
        return fail(applier, -errno, place->path, "cannot create the device");
    CLEANUP(fd_closep) int fd = openat(place->parent, place->leaf, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? fail(applier, -errno, place->path, "cannot open the device") : apply_attributes(applier, entry, fd, place, false);
}

static int apply_leaf(struct applier *applier, struct archive *archive, struct archive_entry *entry, const struct place *place) {
    bool keep, was_whiteout;
    const char *hard_link = archive_entry_hardlink(entry);
    mode_t type = archive_entry_filetype(entry);
    if (!hard_link && type == S_IFDIR)
        return apply_folder(applier, entry, place);
    if (!*place->path)
        return refuse(applier, "/", "the root must be a folder");
    if (!hard_link || strcmp(hard_link, place->path) != 0) {
        int r = clear_leaf(applier, place, false, &keep, &was_whiteout);
        if (r < 0)
            return r;
    }
    if (hard_link)
        return apply_hard_link(applier, hard_link, place);
    switch (type) {
    case S_IFREG: return apply_file(applier, archive, entry, place);
    case S_IFLNK: return apply_symbolic_link(applier, entry, place);
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK: return apply_special(applier, entry, place);
    default: return refuse(applier, place->path, "its type is unknown");
    }
}

static int apply_entry(struct applier *applier, struct archive *archive, struct archive_entry *entry) {
    char clean[PATH_MAX];
    struct place place = {.parent = -1};
    const char *path = archive_entry_pathname(entry);
    if (!path)
        path = archive_entry_pathname_utf8(entry);
    if (!path)
        return refuse(applier, "?", "its name cannot be read");
    if (++applier->entries > applier->entries_max)
        return refuse(applier, path, "the layer has too many entries");
    if (clean_path(path, clean) < 0)
        return refuse(applier, path, "its path leaves the image or is too long");
    int r = open_place(applier, clean, &place);
    if (r == 0)
        r = strncmp(place.leaf, ".wh.", 4) == 0 ? apply_whiteout(applier, &place) : apply_leaf(applier, archive, entry, &place);
    place_close(&place);
    return r;
}

static void apply_folder_times(struct applier *applier) {
    for (size_t i = applier->times.count; i-- > 0;) {
        struct folder_time *time = &applier->times.items[i];
        CLEANUP(fd_closep) int fd = sys_open_in_root(applier->options->root_fd, *time->path ? time->path : ".", FOLDER_FLAGS | O_NOFOLLOW, 0);
        char self[64];
        struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, time->mtime};
        snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
        if (fd >= 0)
            utimensat(AT_FDCWD, self, times, 0);
    }
}

static la_ssize_t on_read(__attribute__((unused)) struct archive *archive, void *userdata, const void **ret_bytes) {
    struct applier *applier = userdata;
    ssize_t n = applier->read(applier->userdata, ret_bytes);
    if (n < 0) {
        applier->read_error = (int)n;
        archive_set_error(archive, (int)-n, "%s", strerror((int)-n));
        return ARCHIVE_FATAL;
    }
    return n;
}

static int apply_all(struct applier *applier, struct archive *archive) {
    struct archive_entry *entry;
    int r;
    archive_read_support_format_tar(archive);
    archive_read_support_format_empty(archive);
    if (archive_read_open(archive, applier, NULL, on_read, NULL) != ARCHIVE_OK)
        return diag_set(applier->diag, applier->read_error ? applier->read_error : -EBADMSG, "the layer is no tar stream: %s",
                        archive_error_string(archive));
    while ((r = archive_read_next_header(archive, &entry)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
        int error = apply_entry(applier, archive, entry);
        if (error < 0)
            return error;
    }
    if (r != ARCHIVE_EOF)
        return diag_set(applier->diag, applier->read_error ? applier->read_error : -EBADMSG, "the layer's tar stream is damaged: %s",
                        archive_error_string(archive));
    apply_folder_times(applier);
    return 0;
}

int layer_apply(layer_read_fn *read, void *userdata, const struct layer_options *options, struct diag *diag) {
    struct applier applier = {.options = options, .diag = diag, .read = read, .userdata = userdata};
    applier.bytes_max = options->bytes_max ? options->bytes_max : LAYER_BYTES_MAX;
    applier.entries_max = options->entries_max ? options->entries_max : LAYER_ENTRIES_MAX;
    struct archive *archive = archive_read_new();
    if (!archive)
        return -ENOMEM;
    int r = apply_all(&applier, archive);
    archive_read_free(archive);
    for (size_t i = 0; i < applier.times.count; i++)
        free(applier.times.items[i].path);
    VECTOR_DEINIT(&applier.times);
    return r;
}

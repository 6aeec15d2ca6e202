/* Unpacking a stream of tar blocks beneath a folder.
 *
 * A machine fed with bytes: HEADER collects 512 of them and decides; EXTENDED collects a pax or GNU long-name entry for the next header; CONTENT
 * copies into the open file; SKIP passes over what is not wanted and over padding. Empty blocks are passed over, so several archives may follow one
 * another.
 *
 * Safety: the parent folder of each entry is opened by openat2 with RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS (made folder by folder where it is
 * missing), the last component is never followed: an existing file or link there is removed first and the new one made with O_EXCL. So neither
 * "../x", nor an absolute name, nor a link planted by an earlier entry leads out. */
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "job/tar_priv.h"

enum unpack_state { UNPACK_HEADER, UNPACK_EXTENDED, UNPACK_CONTENT, UNPACK_SKIP };

struct tar_unpacker {
    int folder_fd;
    enum unpack_state state;
    struct tar_header header;
    size_t header_len;
    uint64_t left;    /* bytes of content or skipped bytes still to come */
    uint64_t padding; /* behind the content */
    int file_fd;
    int64_t mtime;
    char extended_type;
    struct buffer extended;
    bool has_size;
    uint64_t next_size;
    char next_path[TAR_PATH_MAX], next_link[TAR_PATH_MAX]; /* from an extended header; empty: the plain header's */
    char path[TAR_PATH_MAX];
    size_t entries;
    uint64_t bytes;
};

struct tar_unpacker *tar_unpacker_new(int folder_fd) {
    struct tar_unpacker *unpacker = calloc(1, sizeof *unpacker);
    if (!unpacker)
        return NULL;
    unpacker->folder_fd = folder_fd;
    unpacker->file_fd = -1;
    unpacker->extended = BUFFER_INIT(TAR_EXTENDED_BYTES_MAX);
    return unpacker;
}

void tar_unpacker_free(struct tar_unpacker *unpacker) {
    if (!unpacker)
        return;
    fd_closep(&unpacker->file_fd);
    buffer_deinit(&unpacker->extended);
    free(unpacker);
}

const char *tar_unpacker_path(const struct tar_unpacker *unpacker) {
    return unpacker->path;
}

size_t tar_unpacker_entries(const struct tar_unpacker *unpacker) {
    return unpacker->entries;
}

/* --- places --- */

static int open_beneath(int folder_fd, const char *path) {
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    long fd = syscall(SYS_openat2, folder_fd, path, &how, sizeof how);
    return fd < 0 ? -errno : (int)fd;
}

/* The folder `path`, made with everything above it where missing. */
static int open_folder(int folder_fd, const char *path) {
    int fd = open_beneath(folder_fd, *path ? path : ".");
    if (fd != -ENOENT)
        return fd;
    char part[TAR_PATH_MAX];
    size_t length = strlen(path);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != 0)
            continue;
        memcpy(part, path, i);
        part[i] = 0;
        CLEANUP(fd_closep) int existing = open_beneath(folder_fd, part);
        if (existing >= 0)
            continue;
        if (existing != -ENOENT)
            return existing;
        char *slash = strrchr(part, '/');
        const char *leaf = slash ? slash + 1 : part;
        if (slash)
            *slash = 0;
        CLEANUP(fd_closep) int parent = open_beneath(folder_fd, slash ? part : ".");
        if (parent < 0)
            return parent;
        if (mkdirat(parent, leaf, 0755) < 0 && errno != EEXIST)
            return -errno;
    }
    return open_beneath(folder_fd, path);
}

/* Cleans a name: no leading '/' or "./", no trailing '/'. -EXDEV when it climbs, -EBADMSG when it is empty or too long. An archive's own "./" gives
 * "". */
static int clean_path(struct slice name, char ret[TAR_PATH_MAX]) {
    size_t length = 0;
    if (name.len >= TAR_PATH_MAX || memchr(name.data ? name.data : "", 0, name.len))
        return -EBADMSG;
    while (name.data) {
        struct slice part = slice_cut(&name, '/');
        if (part.len == 0 || slice_is(part, "."))
            continue;
        if (slice_is(part, ".."))
            return -EXDEV;
        if (length)
            ret[length++] = '/';
        memcpy(ret + length, part.data, part.len);
        length += part.len;
    }
    ret[length] = 0;
    return 0;
}

/* Opens the parent of `path` and gives its last component. */
static int open_parent(struct tar_unpacker *unpacker, const char *path, bool make, const char **ret_leaf) {
    char parent[TAR_PATH_MAX];
    const char *slash = strrchr(path, '/');
    *ret_leaf = slash ? slash + 1 : path;
    size_t length = slash ? (size_t)(slash - path) : 0;
    memcpy(parent, path, length);
    parent[length] = 0;
    return make ? open_folder(unpacker->folder_fd, parent) : open_beneath(unpacker->folder_fd, length ? parent : ".");
}

/* --- entries --- */

static int unpack_folder(struct tar_unpacker *unpacker, mode_t mode) {
    if (!unpacker->path[0])
        return 0;
    CLEANUP(fd_closep) int fd = open_folder(unpacker->folder_fd, unpacker->path);
    const char *leaf;
    if (fd == -ENOTDIR) { /* a file is in the way: the later entry wins */
        CLEANUP(fd_closep) int parent = open_parent(unpacker, unpacker->path, true, &leaf);
        if (parent < 0 || unlinkat(parent, leaf, 0) < 0)
            return parent < 0 ? parent : -errno;
        fd = open_folder(unpacker->folder_fd, unpacker->path);
    }
    if (fd < 0)
        return fd;
    CLEANUP(fd_closep) int parent = open_parent(unpacker, unpacker->path, false, &leaf);
    if (parent >= 0 && fchmodat(parent, leaf, (mode & 0777) | 0700, AT_SYMLINK_NOFOLLOW) < 0)
        return 0; /* not ours: it stays as it is */
    return 0;
}

static int clear_place(int parent, const char *leaf) {
    if (unlinkat(parent, leaf, 0) == 0 || errno == ENOENT)
        return 0;
    if ((errno == EISDIR || errno == EPERM) && unlinkat(parent, leaf, AT_REMOVEDIR) == 0)
        return 0;
    return errno == ENOENT ? 0 : -errno;
}

static int unpack_file(struct tar_unpacker *unpacker, mode_t mode) {
    const char *leaf;
    CLEANUP(fd_closep) int parent = open_parent(unpacker, unpacker->path, true, &leaf);
    int r = parent < 0 ? parent : clear_place(parent, leaf);
    if (r < 0)
        return r;
    unpacker->file_fd = openat(parent, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, (mode & 0777) | 0600);
    return unpacker->file_fd < 0 ? -errno : 0;
}

static int unpack_symbolic(struct tar_unpacker *unpacker, const char *target) {
    const char *leaf;
    CLEANUP(fd_closep) int parent = open_parent(unpacker, unpacker->path, true, &leaf);
    int r = parent < 0 ? parent : clear_place(parent, leaf);
    return r < 0 ? r : symlinkat(target, parent, leaf) < 0 ? -errno : 0;
}

static int unpack_hard(struct tar_unpacker *unpacker, const char *target) {
    char path[TAR_PATH_MAX];
    const char *leaf, *target_leaf;
    int r = clean_path(slice_of(target), path);
    if (r < 0 || strcmp(path, unpacker->path) == 0)
        return r;
    CLEANUP(fd_closep) int from = open_parent(unpacker, path, false, &target_leaf);
    CLEANUP(fd_closep) int parent = open_parent(unpacker, unpacker->path, true, &leaf);
    if (from < 0 || parent < 0)
        return from < 0 ? from : parent;
    r = clear_place(parent, leaf);
    return r < 0 ? r : linkat(from, target_leaf, parent, leaf, 0) < 0 ? -errno : 0;
}

/* --- headers --- */

/* Octal text, or GNU's base-256 (top bit set). */
static int get_number(const char *field, size_t size, uint64_t *ret) {
    const unsigned char *bytes = (const unsigned char *)field;
    uint64_t value = 0;
    if (bytes[0] & 0x80) {
        for (size_t i = 0; i < size; i++) {
            if (value >> 55)
                return -EBADMSG;
            value = value << 8 | (i == 0 ? bytes[0] & 0x7fu : bytes[i]);
        }
        *ret = value;
        return 0;
    }
    size_t at = 0;
    while (at < size && bytes[at] == ' ')
        at++;
    for (; at < size && bytes[at] >= '0' && bytes[at] <= '7'; at++) {
        if (value >> 60)
            return -EBADMSG;
        value = value << 3 | (uint64_t)(bytes[at] - '0');
    }
    if (at < size && bytes[at] != 0 && bytes[at] != ' ')
        return -EBADMSG;
    *ret = value;
    return 0;
}

static struct slice field_text(const char *field, size_t size) {
    return slice_make(field, strnlen(field, size));
}

static int header_path(const struct tar_header *header, char ret[TAR_PATH_MAX]) {
    char joined[300];
    struct slice prefix = memcmp(header->magic, "ustar", 6) == 0 ? field_text(header->prefix, sizeof header->prefix) : (struct slice){0};
    struct slice name = field_text(header->name, sizeof header->name);
    int length = snprintf(joined, sizeof joined, "%.*s%s%.*s", SLICE_ARG(prefix), prefix.len ? "/" : "", SLICE_ARG(name));
    return clean_path(slice_make(joined, (size_t)length), ret);
}

static int start_entry(struct tar_unpacker *unpacker, uint64_t size, mode_t mode) {
    const struct tar_header *header = &unpacker->header;
    char link[TAR_PATH_MAX];
    snprintf(link, sizeof link, "%s", unpacker->next_link);
    if (!link[0])
        snprintf(link, sizeof link, "%.*s", SLICE_ARG(field_text(header->link, sizeof header->link)));
    int r = unpacker->next_path[0] ? clean_path(slice_of(unpacker->next_path), unpacker->path) : header_path(header, unpacker->path);
    unpacker->next_path[0] = unpacker->next_link[0] = 0;
    unpacker->has_size = false;
    bool has_content = header->type == '0' || header->type == 0 || header->type == '7';
    unpacker->state = has_content ? UNPACK_CONTENT : UNPACK_SKIP;
    if (!has_content)
        unpacker->left = (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    unpacker->entries++;
    if (r < 0 || (!unpacker->path[0] && header->type != '5'))
        return r < 0 ? r : -EBADMSG;
    if (has_content)
        return unpack_file(unpacker, mode);
    if (header->type == '5')
        return unpack_folder(unpacker, mode);
    if (header->type == '2')
        return unpack_symbolic(unpacker, link);
    return header->type == '1' ? unpack_hard(unpacker, link) : 0; /* devices and the like are passed over */
}

static int on_header(struct tar_unpacker *unpacker) {
    static const struct tar_header empty;
    const struct tar_header *header = &unpacker->header;
    uint64_t size = 0, mode = 0, mtime = 0, checksum = 0;
    if (memcmp(header, &empty, sizeof empty) == 0) {
        return 0;
    }
    if (get_number(header->checksum, sizeof header->checksum, &checksum) < 0 || checksum != tar_checksum(header) ||
        get_number(header->size, sizeof header->size, &size) < 0 || get_number(header->mode, sizeof header->mode, &mode) < 0 ||
        get_number(header->mtime, sizeof header->mtime, &mtime) < 0)
        return -EBADMSG;
    bool is_extended = header->type == 'x' || header->type == 'L' || header->type == 'K';
    if (unpacker->has_size && !is_extended && header->type != 'g')
        size = unpacker->next_size;
    if (size > TAR_BYTES_MAX)
        return -EFBIG;
    if (unpacker->entries >= TAR_ENTRIES_MAX)
        return -E2BIG;
    unpacker->left = size;
    unpacker->padding = (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
    unpacker->mtime = (int64_t)(mtime & INT64_MAX);
    if (header->type == 'g') { /* a global header: a commit's id from git archive */
        unpacker->left += unpacker->padding;
        unpacker->state = UNPACK_SKIP;
        return 0;
    }
    if (!is_extended)
        return start_entry(unpacker, size, (mode_t)mode);
    unpacker->extended_type = header->type;
    buffer_reset(&unpacker->extended);
    unpacker->state = UNPACK_EXTENDED;
    return size > TAR_EXTENDED_BYTES_MAX ? -EFBIG : 0;
}

/* --- extended headers --- */

static int set_text(char to[TAR_PATH_MAX], struct slice value) {
    if (value.len >= TAR_PATH_MAX || (value.len && memchr(value.data, 0, value.len)))
        return -EBADMSG;
    if (value.len)
        memcpy(to, value.data, value.len);
    to[value.len] = 0;
    return 0;
}

/* Records "length key=value\n". */
static int read_records(struct tar_unpacker *unpacker, struct slice text) {
    while (text.len) {
        uint64_t length = 0;
        ptrdiff_t blank = slice_index(text, ' ');
        if (blank < 0 || slice_parse_u64(slice_head(text, (size_t)blank), TAR_EXTENDED_BYTES_MAX, &length) < 0 || length <= (size_t)blank + 1 ||
            length > text.len || text.data[length - 1] != '\n')
            return -EBADMSG;
        struct slice value = slice_make(text.data + blank + 1, (size_t)length - (size_t)blank - 2);
        struct slice key = slice_cut(&value, '=');
        int r = 0;
        if (slice_is(key, "path"))
            r = set_text(unpacker->next_path, value);
        else if (slice_is(key, "linkpath"))
            r = set_text(unpacker->next_link, value);
        else if (slice_is(key, "size"))
            unpacker->has_size = (r = slice_parse_u64(value, TAR_BYTES_MAX, &unpacker->next_size)) == 0;
        if (r < 0)
            return -EBADMSG;
        text = slice_from(text, (size_t)length);
    }
    return 0;
}

static int on_extended(struct tar_unpacker *unpacker) {
    struct slice text = buffer_slice(&unpacker->extended);
    unpacker->state = UNPACK_SKIP;
    unpacker->left = unpacker->padding;
    if (unpacker->extended_type == 'x')
        return read_records(unpacker, text);
    struct slice value = slice_make(text.data, strnlen(text.data ? text.data : "", text.len));
    return set_text(unpacker->extended_type == 'L' ? unpacker->next_path : unpacker->next_link, value);
}

/* --- content --- */

static int write_content(struct tar_unpacker *unpacker, struct slice bytes) {
    unpacker->bytes += bytes.len;
    if (unpacker->bytes > TAR_BYTES_MAX)
        return -EFBIG;
    while (bytes.len) {
        ssize_t n = write(unpacker->file_fd, bytes.data, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes = slice_from(bytes, (size_t)n);
    }
    return 0;
}

static void end_content(struct tar_unpacker *unpacker) {
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = unpacker->mtime}};
    (void)futimens(unpacker->file_fd, times); /* a wrong time is no reason to fail */
    close(unpacker->file_fd);
    unpacker->file_fd = -1;
    unpacker->state = UNPACK_SKIP;
    unpacker->left = unpacker->padding;
}

/* Takes some bytes; returns how many, or negative errno. */
static ssize_t step(struct tar_unpacker *unpacker, struct slice bytes) {
    size_t taken = (size_t)MIN((uint64_t)bytes.len, unpacker->left);
    int r = 0;
    if (unpacker->state == UNPACK_HEADER) {
        taken = MIN(bytes.len, TAR_BLOCK - unpacker->header_len);
        memcpy((char *)&unpacker->header + unpacker->header_len, bytes.data, taken);
        unpacker->header_len += taken;
        if (unpacker->header_len == TAR_BLOCK) {
            unpacker->header_len = 0;
            r = on_header(unpacker);
        }
    } else {
        unpacker->left -= taken;
        if (unpacker->state == UNPACK_EXTENDED)
            r = buffer_append(&unpacker->extended, bytes.data, taken);
        else if (unpacker->state == UNPACK_CONTENT)
            r = write_content(unpacker, slice_head(bytes, taken));
    }
    /* States without bytes left pass on by themselves: an empty file, no padding. */
    while (r == 0 && unpacker->left == 0 && unpacker->state != UNPACK_HEADER) {
        if (unpacker->state == UNPACK_EXTENDED)
            r = on_extended(unpacker);
        else if (unpacker->state == UNPACK_CONTENT)
            end_content(unpacker);
        else
            unpacker->state = UNPACK_HEADER;
    }
    return r < 0 ? r : (ssize_t)taken;
}

int tar_unpacker_feed(struct tar_unpacker *unpacker, struct slice bytes) {
    while (bytes.len) {
        ssize_t taken = step(unpacker, bytes);
        if (taken < 0)
            return (int)taken;
        bytes = slice_from(bytes, (size_t)taken);
    }
    return 0;
}

int tar_unpacker_finish(struct tar_unpacker *unpacker) {
    return unpacker->state == UNPACK_HEADER && unpacker->header_len == 0 ? 0 : -ENODATA;
}

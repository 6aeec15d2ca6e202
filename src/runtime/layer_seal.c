/* What an unpacked layer has, in one number: so that a layer from which somebody has removed something, or a disk has lost it, is noticed and
 * unpacked anew before a container fails of it again and again.
 *
 * The number is the sum, over everything in the folder, of a hash of its path, type, mode, and of a file its size and time: whoever changes a file's
 * bytes behind its back is not caught (that takes reading all of it), whoever removes, adds, cuts or replaces one is. It is kept as an attribute of
 * the folder itself, so that it goes where the folder goes. Folders without one (of an earlier version, or where there are no attributes) pass. */
#include "runtime/layer_seal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define ATTRIBUTE "trusted.tidemill.seal"
#define DEPTH_MAX 300 /* beyond what a layer may have */

struct seal {
    uint64_t sum, count;
};

static uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

static int add_folder(struct seal *seal, int fd, uint64_t path, int depth);

static int add_entry(struct seal *seal, int folder, const char *name, uint64_t path, int depth) {
    struct stat status;
    if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    path = mix(path, slice_hash(slice_of(name)));
    uint64_t hash = mix(path, status.st_mode);
    if (S_ISREG(status.st_mode))
        hash = mix(mix(hash, (uint64_t)status.st_size), (uint64_t)status.st_mtim.tv_sec);
    seal->sum += hash;
    seal->count++;
    if (!S_ISDIR(status.st_mode))
        return 0;
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : add_folder(seal, fd, path, depth + 1);
}

/* Takes fd over. */
static int add_folder(struct seal *seal, int fd, uint64_t path, int depth) {
    DIR *listing = depth < DEPTH_MAX ? fdopendir(fd) : NULL;
    if (!listing) {
        close(fd);
        return depth < DEPTH_MAX ? -ENOMEM : -ELOOP;
    }
    int r = 0;
    while (r == 0) {
        errno = 0;
        const struct dirent *entry = readdir(listing);
        if (!entry) {
            r = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            r = add_entry(seal, dirfd(listing), entry->d_name, path, depth);
    }
    closedir(listing);
    return r;
}

static int format(int folder, char ret[LAYER_SEAL_BYTES]) {
    struct seal seal = {0};
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 ? -errno : add_folder(&seal, fd, 0, 0);
    snprintf(ret, LAYER_SEAL_BYTES, "1 %" PRIu64 " %016" PRIx64, seal.count, seal.sum);
    return r;
}

int layer_seal(int folder) {
    char text[LAYER_SEAL_BYTES];
    int r = format(folder, text);
    if (r == 0 && fsetxattr(folder, ATTRIBUTE, text, strlen(text), 0) < 0)
        r = -errno;
    return r;
}

int layer_check(int folder) {
    char text[LAYER_SEAL_BYTES], kept[LAYER_SEAL_BYTES];
    ssize_t len = fgetxattr(folder, ATTRIBUTE, kept, sizeof kept - 1);
    if (len < 2 || memcmp(kept, "1 ", 2) != 0)
        return 0;
    kept[len] = 0;
    int r = format(folder, text);
    return r < 0 ? r : strcmp(text, kept) == 0 ? 0 : -EBADMSG;
}

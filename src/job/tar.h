/* Writing and unpacking tar archives (POSIX.1-2001 pax; GNU long names are read): folders, files, symbolic and hard links, nothing else. */
#ifndef TIDEMILL_JOB_TAR_H
#define TIDEMILL_JOB_TAR_H

#include <sys/types.h>

#include "base/base.h"

#define TAR_PATH_MAX 4096
#define TAR_DEPTH_MAX 128        /* folders inside folders, when packing */
#define TAR_BYTES_MAX (16 * GIB) /* of one archive */
#define TAR_ENTRIES_MAX 1000000
#define TAR_EXTENDED_BYTES_MAX (64 * KIB) /* of one extended header */

/* Where packed bytes go; 0 or negative errno, which ends the packing. */
typedef int tar_sink_fn(void *userdata, struct slice bytes);

struct tar_packer {
    tar_sink_fn *sink;
    void *userdata;
    /* Decides about each path (relative to the folder that is packed); NULL: everything. */
    enum tar_choice {
        TAR_TAKE,
        TAR_SKIP,
        TAR_PRUNE
    } (*choose)(void *userdata, struct slice path, bool is_folder); /* SKIP: not it, but look inside; PRUNE: nor inside */
    size_t entries;
    uint64_t bytes;
    char failed_path[256]; /* of the last error, for a message */
};
/* Packs what lies in the folder, in sorted order; owner root, sockets and devices left out. Folders above something taken are not added by
 * themselves. */
int tar_pack(struct tar_packer *packer, int folder_fd);
/* One file or folder (recursively) under a name of its own. */
int tar_pack_path(struct tar_packer *packer, int folder_fd, const char *path, const char *name);
/* The two empty blocks at the end. */
int tar_pack_end(struct tar_packer *packer);

/* Unpacks what is fed, beneath a folder: no entry can leave it, whatever links it or the archive holds (openat2, RESOLVE_BENEATH). Files replace
 * files and links; owners are the process's, set-user-id bits are dropped. */
struct tar_unpacker;
struct tar_unpacker *tar_unpacker_new(int folder_fd);
void tar_unpacker_free(struct tar_unpacker *unpacker);
DEFINE_CLEANUP(struct tar_unpacker, tar_unpacker_free)
/* 0; -EBADMSG when it is no tar; -EFBIG and -E2BIG beyond the limits; -EXDEV for a path that leads out; others from the disk. */
int tar_unpacker_feed(struct tar_unpacker *unpacker, struct slice bytes);
/* 0 when the archive was complete; -ENODATA when it was cut short. */
int tar_unpacker_finish(struct tar_unpacker *unpacker);
/* The entry that was being unpacked, and how many were, for messages. */
const char *tar_unpacker_path(const struct tar_unpacker *unpacker);
size_t tar_unpacker_entries(const struct tar_unpacker *unpacker);

#endif

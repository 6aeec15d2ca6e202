/* What the files of the content store share. */
#ifndef TIDEMILL_REGISTRY_CONTENT_PRIV_H
#define TIDEMILL_REGISTRY_CONTENT_PRIV_H

#include <pthread.h>

#include "registry/content.h"

#define CONTENT_PATH_MAX 640 /* the longest path beneath the root: two names of 255, two digests and the fixed words */

struct content_path {
    char text[CONTENT_PATH_MAX];
};

struct content {
    int root_fd;
    int blobs_fd;
    int lock_fd;
    uint64_t bytes_free_min;
    pthread_mutex_t lock; /* touching and holding against sweeping: a blob that a push has just seen is not removed */
    struct map *held;     /* hex → how often, as a pointer */
    struct map *partials; /* name of a file in partial/ → anything: somebody writes it */
};

struct content_writer {
    struct content *content;
    struct digest *digest;
    int fd;
    int64_t size_bytes;
    int64_t flushed_bytes;
    bool placed;     /* renamed away */
    bool is_partial; /* path is in partial/, and stays there when it is worth it */
    bool is_wrong;   /* then it does not, and becomes no blob */
    struct content_path path;
};

struct content_path content_path(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* -ENOSPC when no more than bytes_free_min of the disk are free. */
int content_check_free(struct content *content);

/* A writer has ended without a blob: its file is nobody's now. */
void content_partial_leave(struct content *content, const char *path);
/* Removes what was begun and nobody goes on with: older than that, or too much of it. */
int content_sweep_partials(struct content *content, int64_t oldest_s, struct content_gc_result *into, bool only_counts);

/* With the lock held. */
bool content_is_held(const struct content *content, const char *hex);

/* mkdir -p beneath the root of everything before the last slash. */
int content_make_parents(struct content *content, const char *path);
/* A new, small file that appears whole and durable, with its parent folders. */
int content_write_file(struct content *content, const char *path, struct slice bytes);

/* Calls `each` for every name in a folder beneath the root but those that start with '.'; stops at its first non-zero result and returns it. An
 * absent folder is empty. */
int content_each_name(struct content *content, const char *path, int (*each)(void *userdata, const char *name), void *userdata);

#endif

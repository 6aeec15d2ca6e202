/* One layer: a tar stream applied to a folder that becomes an overlayfs lower layer. Hostile input: nothing is ever written, linked or read outside
 * root_fd. */
#ifndef TIDEMILL_RUNTIME_LAYER_H
#define TIDEMILL_RUNTIME_LAYER_H

#include "base/base.h"
#include "runtime/inflate.h"

struct layer_options {
    int root_fd;          /* the empty folder of the layer */
    const int *lower_fds; /* folders of the layers below, nearest first: parents that the tar leaves out get their attributes from there */
    size_t lower_count;
    /* Instead, for layers that are unpacked at the same time: called when it matters what lies below; waits until that is there. May be NULL. */
    int (*lowers)(void *userdata, const int **ret_fds, size_t *ret_count);
    inflate_more_fn *more; /* of a blob that is still on its way; NULL: it is whole */
    void *userdata, *more_userdata;
    bool keep_owner;      /* apply uid and gid; needs root */
    uint64_t bytes_max;   /* content written; 0: LAYER_BYTES_MAX */
    uint64_t entries_max; /* 0: LAYER_ENTRIES_MAX */
};
#define LAYER_BYTES_MAX (32ull * GIB)
#define LAYER_ENTRIES_MAX 2000000ull

/* Reads the stream piece by piece: bytes and their count, 0 at the end, negative errno. */
typedef ssize_t layer_read_fn(void *userdata, const void **ret_bytes);
/* A plain tar stream. 0, or negative errno with diag. */
int layer_apply(layer_read_fn *read, void *userdata, const struct layer_options *options, struct diag *diag);
/* A blob: gzip, zstd or plain; its digest and that of the uncompressed stream are checked (either may be NULL). -EBADMSG when one does not fit. */
int layer_apply_blob(int fd, const char *digest, const char *diff_id, const struct layer_options *options, struct diag *diag);
/* The same without applying it anywhere; of the options only `more` counts. */
int layer_check_blob(int fd, const char *digest, const char *diff_id, const struct layer_options *options, struct diag *diag);

#endif

/* What unpack.c (layers) and arrival.c (blobs that are still on their way) share. */
#ifndef TIDEMILL_RUNTIME_UNPACK_PRIV_H
#define TIDEMILL_RUNTIME_UNPACK_PRIV_H

#include <limits.h>
#include <stdatomic.h>

#include "runtime/image.h"

/* Blobs that come meanwhile. */
struct arriving {
    const char *place;           /* they grow in <store>/partial/<hex>-<place> */
    const atomic_bool *stopping; /* no more will come */
    size_t layers_at_once;
};
/* image_unpack, and when arriving is not NULL of an image whose blobs are not all there. */
int unpack_layers(const struct image *image, const char *store, const char *layers, const struct arriving *arriving, struct diag *diag);

/* A blob as it grows. */
struct follow {
    char partial[PATH_MAX], blob[PATH_MAX];
    const atomic_bool *stopping;
    bool is_whole;
    int64_t seen_bytes, pause_ms;
};
/* A descriptor, when there is something to read of it; waits for that. -ENOENT, or -ECANCELED when it is stopped. */
int follow_open(struct follow *follow, const char *store, const char *digest, const struct arriving *arriving);
/* An inflate_more_fn. -EAGAIN: that file was thrown away, another one may come; -ECANCELED. */
int follow_more(void *follow, int fd);

#endif

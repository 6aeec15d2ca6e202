/* A layer made from a tar: compressed to an unlinked file, with both digests. */
#ifndef TIDEMILL_REGISTRY_LAYER_PRIV_H
#define TIDEMILL_REGISTRY_LAYER_PRIV_H

#include "registry/oci.h"

struct layer {
    int fd; /* gzip, to be read with pread */
    struct oci_digest digest, diff;
    int64_t size_bytes, tar_bytes;
    size_t entries;
};
/* Reads a tar (plain, gzip or zstd) from a file or pipe to its end. Device nodes are left out: every runtime makes its own /dev, and a builder
 * without the right to make nodes could not unpack the layer. 0, or negative errno with diag. */
int layer_make(int tar_fd, struct layer *ret, struct diag *diag);
void layer_deinit(struct layer *layer);

#endif

/* What tsdb.c and selector.c share. */
#ifndef TIDEMILL_TSDB_PRIV_H
#define TIDEMILL_TSDB_PRIV_H

#include "tsdb/chunk_priv.h"
#include "tsdb/tsdb.h"

struct tsdb_series {
    uint64_t hash;
    uint64_t mark;
    struct tsdb_series *hash_next;
    struct chunk *chunks; /* oldest first */
    uint16_t chunks_count, chunks_capacity;
    uint16_t labels_count;
    uint32_t pins;
    uint32_t label_bytes;
    struct tsdb_label labels[]; /* sorted by name; their bytes follow */
};

#endif

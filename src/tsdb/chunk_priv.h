/* A run of compressed samples of one series. Pure. */
#ifndef TIDEMILL_TSDB_CHUNK_PRIV_H
#define TIDEMILL_TSDB_CHUNK_PRIV_H

#include "base/base.h"

#define CHUNK_SAMPLES_MAX 120

struct chunk {
    int64_t first_ms, last_ms;
    int64_t last_delta_ms;
    uint64_t last_bits;
    uint8_t *data;
    uint32_t bits;     /* used */
    uint32_t capacity; /* bytes */
    uint16_t count;
    uint8_t leading, trailing; /* of the last XOR that had a window of its own */
};

/* 0, -ENOMEM, or -ENOSPC when the chunk is full: start another. time_ms is later than last_ms. */
int chunk_append(struct chunk *chunk, int64_t time_ms, double value);
void chunk_deinit(struct chunk *chunk);
/* Gives back the memory behind the last sample. */
void chunk_close(struct chunk *chunk);

struct chunk_reader {
    const struct chunk *chunk;
    uint32_t bit;
    uint16_t index;
    int64_t time_ms, delta_ms;
    uint64_t value_bits;
    uint8_t leading, trailing;
};
void chunk_reader_init(struct chunk_reader *reader, const struct chunk *chunk);
bool chunk_next(struct chunk_reader *reader, int64_t *ret_time_ms, double *ret_value);

#endif

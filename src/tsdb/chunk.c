/* Samples in few bits, after "Gorilla: A Fast, Scalable, In-Memory Time Series Database" (VLDB 2015), with classes for milliseconds.
 *
 * Times: the first in full, then the difference of differences in classes: 0 (as expected) | 10 + 8 bits | 110 + 14 bits | 1110 + 20 bits | 1111 + 64
 * bits. Values: the first in full, then the XOR with the one before: 0 (equal) | 10 + bits in the former window | 11 + 5 bits leading zeros + 6 bits
 * length + bits. A scrape at a steady interval of an unchanged value costs 2 bits. */
#include "tsdb/chunk_priv.h"

static int64_t sign_extend(uint64_t value, unsigned bits) {
    uint64_t sign = (uint64_t)1 << (bits - 1);
    return bits == 64 ? (int64_t)value : (int64_t)((value ^ sign) - sign);
}

/* --- bits; room was made before --- */

static void put_bits(struct chunk *chunk, uint64_t value, unsigned count) {
    while (count > 0) {
        unsigned room = 8 - chunk->bits % 8, take = MIN(room, count);
        uint8_t piece = (uint8_t)(value >> (count - take) & (((uint64_t)1 << take) - 1));
        chunk->data[chunk->bits / 8] |= (uint8_t)(piece << (room - take));
        chunk->bits += take;
        count -= take;
    }
}

static uint64_t get_bits(struct chunk_reader *reader, unsigned count) {
    uint64_t value = 0;
    while (count > 0) {
        unsigned room = 8 - reader->bit % 8, take = MIN(room, count);
        uint8_t piece = (uint8_t)(reader->chunk->data[reader->bit / 8] >> (room - take) & ((1u << take) - 1));
        value = value << take | piece;
        reader->bit += take;
        count -= take;
    }
    return value;
}

/* A sample takes at most 4 + 64 + 2 + 11 + 64 bits. */
#define SAMPLE_BYTES_MAX 20

static int make_room(struct chunk *chunk) {
    uint32_t need = chunk->bits / 8 + SAMPLE_BYTES_MAX;
    if (need <= chunk->capacity)
        return 0;
    uint32_t capacity = chunk->capacity ? chunk->capacity + chunk->capacity / 2 : 32;
    capacity = MAX(capacity, need);
    uint8_t *data = realloc(chunk->data, capacity);
    if (!data)
        return -ENOMEM;
    memset(data + chunk->capacity, 0, capacity - chunk->capacity);
    chunk->data = data;
    chunk->capacity = capacity;
    return 0;
}

/* --- writing --- */

static const struct { unsigned prefix, prefix_bits, bits; } time_classes[] = {{2, 2, 8}, {6, 3, 14}, {14, 4, 20}, {15, 4, 64}};

static void put_time(struct chunk *chunk, int64_t time_ms) {
    int64_t delta = time_ms - chunk->last_ms, change = delta - chunk->last_delta_ms;
    chunk->last_delta_ms = delta;
    if (change == 0) {
        put_bits(chunk, 0, 1);
        return;
    }
    size_t class = 0;
    while (time_classes[class].bits < 64 && (change < -(1 << (time_classes[class].bits - 1)) || change >= 1 << (time_classes[class].bits - 1)))
        class ++;
    put_bits(chunk, time_classes[class].prefix, time_classes[class].prefix_bits);
    put_bits(chunk, (uint64_t)change, time_classes[class].bits);
}

static void put_value(struct chunk *chunk, uint64_t bits) {
    uint64_t difference = bits ^ chunk->last_bits;
    if (difference == 0) {
        put_bits(chunk, 0, 1);
        return;
    }
    unsigned leading = MIN((unsigned)__builtin_clzll(difference), 31u), trailing = (unsigned)__builtin_ctzll(difference);
    if (chunk->leading != 0xff && leading >= chunk->leading && trailing >= chunk->trailing) {
        put_bits(chunk, 2, 2);
        put_bits(chunk, difference >> chunk->trailing, 64u - chunk->leading - chunk->trailing);
        return;
    }
    unsigned length = 64 - leading - trailing;
    put_bits(chunk, 3, 2);
    put_bits(chunk, leading, 5);
    put_bits(chunk, length & 63, 6); /* 64 is written as 0 */
    put_bits(chunk, difference >> trailing, length);
    chunk->leading = (uint8_t)leading;
    chunk->trailing = (uint8_t)trailing;
}

int chunk_append(struct chunk *chunk, int64_t time_ms, double value) {
    if (chunk->count >= CHUNK_SAMPLES_MAX)
        return -ENOSPC;
    int error = make_room(chunk);
    if (error < 0)
        return error;
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (chunk->count == 0) {
        chunk->first_ms = time_ms;
        chunk->last_delta_ms = 0;
        chunk->leading = 0xff;
        put_bits(chunk, bits, 64);
    } else {
        put_time(chunk, time_ms);
        put_value(chunk, bits);
    }
    chunk->last_ms = time_ms;
    chunk->last_bits = bits;
    chunk->count++;
    return 0;
}

void chunk_deinit(struct chunk *chunk) {
    free(chunk->data);
    *chunk = (struct chunk){0};
}

void chunk_close(struct chunk *chunk) {
    uint32_t used = (chunk->bits + 7) / 8;
    uint8_t *data = used ? realloc(chunk->data, used) : NULL;
    if (!data)
        return;
    chunk->data = data;
    chunk->capacity = used;
}

/* --- reading --- */

void chunk_reader_init(struct chunk_reader *reader, const struct chunk *chunk) {
    *reader = (struct chunk_reader){.chunk = chunk};
}

static void get_time(struct chunk_reader *reader) {
    unsigned ones = 0;
    while (ones < 4 && get_bits(reader, 1))
        ones++;
    if (ones > 0) {
        unsigned bits = time_classes[ones - 1].bits;
        reader->delta_ms += sign_extend(get_bits(reader, bits), bits);
    }
    reader->time_ms += reader->delta_ms;
}

static void get_value(struct chunk_reader *reader) {
    if (!get_bits(reader, 1))
        return;
    if (get_bits(reader, 1)) {
        reader->leading = (uint8_t)get_bits(reader, 5);
        unsigned length = (unsigned)get_bits(reader, 6);
        reader->trailing = (uint8_t)(64 - reader->leading - (length ? length : 64));
    }
    reader->value_bits ^= get_bits(reader, 64u - reader->leading - reader->trailing) << reader->trailing;
}

bool chunk_next(struct chunk_reader *reader, int64_t *ret_time_ms, double *ret_value) {
    if (reader->index >= reader->chunk->count)
        return false;
    if (reader->index++ == 0) {
        reader->time_ms = reader->chunk->first_ms;
        reader->value_bits = get_bits(reader, 64);
    } else {
        get_time(reader);
        get_value(reader);
    }
    *ret_time_ms = reader->time_ms;
    memcpy(ret_value, &reader->value_bits, sizeof *ret_value);
    return true;
}

/* Series and their samples. Problem: keep a few thousand series for some hours in a few megabytes, beside everything else on a small machine, and
 * never more.
 *
 * A series is one block: header, labels sorted by name, their bytes. Samples lie in compressed chunks of at most 120 (chunk.c). Series are found by a
 * hash of their labels, and stand in a vector that queries scan: some thousand comparisons of a name, some ten microseconds.
 *
 * Bound: `bytes` counts every block and chunk. When an append or a new series would pass the bound, the oldest tenth of the time that is covered is
 * dropped, again and again, but nothing younger than a tenth of the retention; what then finds no room is refused and counted. So under pressure the
 * memory of the past shrinks first, and the present stays whole.
 *
 * Invariants: (1) times within a series rise strictly; (2) chunks of a series do not overlap, and only the last grows; (3) a series that is pinned or
 * has samples is never freed. */
#include "tsdb/tsdb_priv.h"

#define BYTES_DEFAULT (8 * MIB)
#define RETENTION_DEFAULT_MS (2 * 3600 * 1000)

struct tsdb {
    struct tsdb_options options;
    struct tsdb_series **buckets;
    size_t buckets_count; /* a power of two */
    VECTOR(struct tsdb_series *) series;
    int64_t newest_ms;
    size_t bytes;
    uint64_t samples, samples_dropped, refused;
};

int tsdb_new(const struct tsdb_options *options, struct tsdb **ret) {
    struct tsdb *tsdb = calloc(1, sizeof *tsdb);
    if (!tsdb)
        return -ENOMEM;
    tsdb->buckets_count = 256;
    tsdb->buckets = calloc(tsdb->buckets_count, sizeof *tsdb->buckets);
    if (!tsdb->buckets) {
        free(tsdb);
        return -ENOMEM;
    }
    if (options)
        tsdb->options = *options;
    if (tsdb->options.bytes_max == 0)
        tsdb->options.bytes_max = BYTES_DEFAULT;
    if (tsdb->options.retention_ms == 0)
        tsdb->options.retention_ms = RETENTION_DEFAULT_MS;
    *ret = tsdb;
    return 0;
}

static size_t series_bytes(const struct tsdb_series *series) {
    return sizeof *series + series->labels_count * sizeof *series->labels + series->label_bytes + sizeof(void *);
}

static void series_free(struct tsdb *tsdb, struct tsdb_series *series) {
    for (size_t i = 0; i < series->chunks_count; i++) {
        tsdb->bytes -= series->chunks[i].capacity;
        chunk_deinit(&series->chunks[i]);
    }
    tsdb->bytes -= series->chunks_capacity * sizeof *series->chunks + series_bytes(series);
    free(series->chunks);
    free(series);
}

void tsdb_free(struct tsdb *tsdb) {
    if (!tsdb)
        return;
    for (size_t i = 0; i < tsdb->series.count; i++)
        series_free(tsdb, tsdb->series.items[i]);
    ASSERT(tsdb->bytes == 0);
    VECTOR_DEINIT(&tsdb->series);
    free(tsdb->buckets);
    free(tsdb);
}

/* --- dropping --- */

static void unlink_series(struct tsdb *tsdb, struct tsdb_series *series) {
    struct tsdb_series **link = &tsdb->buckets[series->hash & (tsdb->buckets_count - 1)];
    while (*link != series)
        link = &(*link)->hash_next;
    *link = series->hash_next;
}

/* Chunks that end before the time. */
static void series_drop_before(struct tsdb *tsdb, struct tsdb_series *series, int64_t before_ms) {
    size_t drop = 0;
    while (drop < series->chunks_count && series->chunks[drop].last_ms < before_ms) {
        tsdb->bytes -= series->chunks[drop].capacity;
        chunk_deinit(&series->chunks[drop++]);
    }
    if (drop == 0)
        return;
    series->chunks_count = (uint16_t)(series->chunks_count - drop);
    memmove(series->chunks, series->chunks + drop, series->chunks_count * sizeof *series->chunks);
}

static void drop_before(struct tsdb *tsdb, int64_t before_ms, const struct tsdb_series *keep) {
    size_t kept = 0;
    for (size_t i = 0; i < tsdb->series.count; i++) {
        struct tsdb_series *series = tsdb->series.items[i];
        series_drop_before(tsdb, series, before_ms);
        if (series->chunks_count > 0 || series->pins > 0 || series == keep) {
            tsdb->series.items[kept++] = series;
            continue;
        }
        unlink_series(tsdb, series);
        series_free(tsdb, series);
    }
    tsdb->series.count = kept;
}

void tsdb_expire(struct tsdb *tsdb, int64_t now_ms) {
    drop_before(tsdb, now_ms - tsdb->options.retention_ms, NULL);
}

static int64_t oldest_ms(const struct tsdb *tsdb) {
    int64_t oldest = INT64_MAX;
    for (size_t i = 0; i < tsdb->series.count; i++)
        if (tsdb->series.items[i]->chunks_count > 0)
            oldest = MIN(oldest, tsdb->series.items[i]->chunks[0].first_ms);
    return oldest;
}

/* Room for so many bytes more; -ENOSPC. keep: is in use and stays. */
static int make_room(struct tsdb *tsdb, size_t bytes, const struct tsdb_series *keep) {
    while (tsdb->bytes + bytes > tsdb->options.bytes_max) {
        int64_t oldest = oldest_ms(tsdb), youngest = tsdb->newest_ms - tsdb->options.retention_ms / 10;
        if (oldest >= youngest) {
            tsdb->refused++;
            return -ENOSPC;
        }
        int64_t before = oldest + MAX((tsdb->newest_ms - oldest) / 10, 1);
        drop_before(tsdb, MIN(before, youngest), keep);
        tsdb->samples_dropped++;
        if (oldest_ms(tsdb) == oldest) /* the oldest chunk reaches further: drop it as a whole */
            drop_before(tsdb, youngest, keep);
        if (oldest_ms(tsdb) == oldest) {
            tsdb->refused++;
            return -ENOSPC;
        }
    }
    return 0;
}

/* --- finding and making series --- */

static int label_compare(const void *a, const void *b) {
    return slice_compare(((const struct tsdb_label *)a)->name, ((const struct tsdb_label *)b)->name);
}

static uint64_t labels_hash(const struct tsdb_label *labels, size_t count) {
    uint64_t hash = 0;
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ slice_hash(labels[i].name)) * UINT64_C(0x9e3779b97f4a7c15) ^ slice_hash(labels[i].value);
    return hash ^ hash >> 32;
}

static bool labels_equal(const struct tsdb_series *series, const struct tsdb_label *labels, size_t count) {
    if (series->labels_count != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!slice_equal(series->labels[i].value, labels[i].value) || !slice_equal(series->labels[i].name, labels[i].name))
            return false;
    return true;
}

static struct tsdb_series *find(const struct tsdb *tsdb, uint64_t hash, const struct tsdb_label *labels, size_t count) {
    struct tsdb_series *series = tsdb->buckets[hash & (tsdb->buckets_count - 1)];
    while (series && (series->hash != hash || !labels_equal(series, labels, count)))
        series = series->hash_next;
    return series;
}

/* Twice the buckets; without memory the chains just stay longer. */
static void grow_buckets(struct tsdb *tsdb) {
    size_t count = tsdb->buckets_count * 2;
    struct tsdb_series **buckets = calloc(count, sizeof *buckets);
    if (!buckets)
        return;
    for (size_t i = 0; i < tsdb->series.count; i++) {
        struct tsdb_series *series = tsdb->series.items[i];
        series->hash_next = buckets[series->hash & (count - 1)];
        buckets[series->hash & (count - 1)] = series;
    }
    free(tsdb->buckets);
    tsdb->buckets = buckets;
    tsdb->buckets_count = count;
}

static struct tsdb_series *series_make(const struct tsdb_label *labels, size_t count, size_t bytes, uint64_t hash) {
    struct tsdb_series *series = calloc(1, sizeof *series + count * sizeof *labels + bytes);
    if (!series)
        return NULL;
    series->hash = hash;
    series->labels_count = (uint16_t)count;
    series->label_bytes = (uint32_t)bytes;
    char *at = (char *)&series->labels[count];
    for (size_t i = 0; i < count; i++) {
        series->labels[i].name = slice_make(memcpy(at, labels[i].name.data, labels[i].name.len), labels[i].name.len);
        at += labels[i].name.len;
        series->labels[i].value = slice_make(memcpy(at, labels[i].value.data, labels[i].value.len), labels[i].value.len);
        at += labels[i].value.len;
    }
    return series;
}

static int series_add(struct tsdb *tsdb, const struct tsdb_label *labels, size_t count, size_t bytes, uint64_t hash, struct tsdb_series **ret) {
    struct tsdb_series *series = series_make(labels, count, bytes, hash);
    if (!series)
        return -ENOMEM;
    int error = make_room(tsdb, series_bytes(series), NULL);
    if (error == 0 && tsdb->series.count >= tsdb->buckets_count)
        grow_buckets(tsdb);
    if (error == 0)
        error = VECTOR_PUSH(&tsdb->series, series);
    if (error < 0) {
        free(series);
        return error;
    }
    struct tsdb_series **bucket = &tsdb->buckets[hash & (tsdb->buckets_count - 1)];
    series->hash_next = *bucket;
    *bucket = series;
    tsdb->bytes += series_bytes(series);
    *ret = series;
    return 0;
}

int tsdb_series_get(struct tsdb *tsdb, const struct tsdb_label *labels, size_t count, struct tsdb_series **ret) {
    struct tsdb_label sorted[TSDB_LABELS_MAX];
    size_t used = 0, bytes = 0;
    for (size_t i = 0; i < count; i++) {
        if (labels[i].value.len == 0)
            continue;
        if (used == TSDB_LABELS_MAX)
            return -EINVAL;
        bytes += labels[i].name.len + labels[i].value.len;
        sorted[used++] = labels[i];
    }
    if (used == 0 || bytes > TSDB_LABEL_BYTES_MAX)
        return -EINVAL;
    qsort(sorted, used, sizeof *sorted, label_compare);
    for (size_t i = 1; i < used; i++)
        if (slice_equal(sorted[i].name, sorted[i - 1].name))
            return -EINVAL;
    uint64_t hash = labels_hash(sorted, used);
    *ret = find(tsdb, hash, sorted, used);
    return *ret ? 0 : series_add(tsdb, sorted, used, bytes, hash, ret);
}

void tsdb_series_pin(struct tsdb_series *series) {
    series->pins++;
}

void tsdb_series_unpin(struct tsdb_series *series) {
    ASSERT(series->pins > 0);
    series->pins--;
}

void tsdb_series_set_mark(struct tsdb_series *series, uint64_t mark) {
    series->mark = mark;
}

uint64_t tsdb_series_mark(const struct tsdb_series *series) {
    return series->mark;
}

size_t tsdb_series_labels(const struct tsdb_series *series, const struct tsdb_label **ret) {
    *ret = series->labels;
    return series->labels_count;
}

struct slice tsdb_series_label(const struct tsdb_series *series, const char *name) {
    for (size_t i = 0; i < series->labels_count; i++)
        if (slice_is(series->labels[i].name, name))
            return series->labels[i].value;
    return (struct slice){0};
}

/* --- appending --- */

static int chunk_add(struct tsdb *tsdb, struct tsdb_series *series) {
    if (series->chunks_count > 0) {
        struct chunk *last = &series->chunks[series->chunks_count - 1];
        tsdb->bytes -= last->capacity;
        chunk_close(last);
        tsdb->bytes += last->capacity;
    }
    if (series->chunks_count == series->chunks_capacity) {
        size_t capacity = series->chunks_capacity ? series->chunks_capacity * 2u : 1;
        if (capacity > UINT16_MAX)
            return -ENOSPC;
        struct chunk *chunks = realloc(series->chunks, capacity * sizeof *chunks);
        if (!chunks)
            return -ENOMEM;
        tsdb->bytes += (capacity - series->chunks_capacity) * sizeof *chunks;
        series->chunks = chunks;
        series->chunks_capacity = (uint16_t)capacity;
    }
    series->chunks[series->chunks_count++] = (struct chunk){0};
    return 0;
}

#define APPEND_BYTES_MAX (2 * sizeof(struct chunk) + 128) /* what one append may add, about */

int tsdb_append(struct tsdb *tsdb, struct tsdb_series *series, int64_t time_ms, double value) {
    if (series->chunks_count > 0 && time_ms <= series->chunks[series->chunks_count - 1].last_ms)
        return TSDB_E_ORDER;
    tsdb->newest_ms = MAX(tsdb->newest_ms, time_ms);
    int error = make_room(tsdb, APPEND_BYTES_MAX, series);
    if (error < 0)
        return error;
    if (series->chunks_count == 0 || series->chunks[series->chunks_count - 1].count >= CHUNK_SAMPLES_MAX)
        error = chunk_add(tsdb, series);
    if (error < 0)
        return error;
    struct chunk *chunk = &series->chunks[series->chunks_count - 1];
    tsdb->bytes -= chunk->capacity;
    error = chunk_append(chunk, time_ms, value);
    tsdb->bytes += chunk->capacity;
    if (error < 0 && chunk->count == 0)
        series->chunks_count--;
    tsdb->samples += error == 0;
    return error;
}

double tsdb_stale_value(void) {
    uint64_t bits = UINT64_C(0x7ff0000000000002);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static bool is_stale(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits == UINT64_C(0x7ff0000000000002);
}

/* --- reading --- */

bool tsdb_series_at(const struct tsdb_series *series, int64_t time_ms, int64_t *ret_time_ms, double *ret_value) {
    size_t i = series->chunks_count;
    while (i > 0 && series->chunks[i - 1].first_ms > time_ms)
        i--;
    if (i == 0)
        return false;
    const struct chunk *chunk = &series->chunks[i - 1];
    int64_t found_ms = chunk->last_ms, at_ms;
    double found, value;
    memcpy(&found, &chunk->last_bits, sizeof found);
    if (chunk->last_ms > time_ms) {
        struct chunk_reader reader;
        chunk_reader_init(&reader, chunk);
        while (chunk_next(&reader, &at_ms, &value) && at_ms <= time_ms) {
            found_ms = at_ms;
            found = value;
        }
    }
    if (found_ms <= time_ms - TSDB_LOOKBACK_MS || is_stale(found))
        return false;
    *ret_time_ms = found_ms;
    *ret_value = found;
    return true;
}

struct tsdb_series *tsdb_next(const struct tsdb *tsdb, const struct tsdb_selector *selector, size_t *at) {
    while (*at < tsdb->series.count) {
        struct tsdb_series *series = tsdb->series.items[(*at)++];
        if (!selector || tsdb_selector_matches(selector, series))
            return series;
    }
    return NULL;
}

void tsdb_stats_get(const struct tsdb *tsdb, struct tsdb_stats *ret) {
    *ret = (struct tsdb_stats){
        .series = tsdb->series.count,
        .bytes = tsdb->bytes,
        .bytes_max = tsdb->options.bytes_max,
        .samples = tsdb->samples,
        .samples_dropped = tsdb->samples_dropped,
        .refused = tsdb->refused,
    };
}

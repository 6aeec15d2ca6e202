/* file ─► digest ─► decompress ─► ring of blocks ─► whoever takes them
 *
 * The left part runs on a thread, so that decompressing one piece and writing the last one to disk go on at the same time. ISA-L decompresses gzip
 * three to four times as fast as zlib.
 *
 * 1. The ring is bounded: the thread waits when nobody takes.
 * 2. Behind a compressed stream there may be another member or frame; other bytes there are digested, and dropped, at most TRAILER_BYTES_MAX of them.
 * 3. A bomb costs what its taker lets it cost: nothing is decompressed beyond the ring. A zstd window is at most 128 MiB (libzstd's own limit). */
#include "runtime/inflate.h"

#include <isa-l/igzip_lib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>
#include <zstd.h>

#include "http/http.h"

#define IN_BYTES (256 * KIB)
#define BLOCK_BYTES (256 * KIB)
#define BLOCKS 8
#define TRAILER_BYTES_MAX (16 * MIB)

struct inflate {
    int fd;
    inflate_more_fn *more;
    void *userdata;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* the ring, beneath the lock; the bytes of a block belong to the side that has it */
    char *blocks[BLOCKS];
    size_t lengths[BLOCKS];
    size_t filled, taken; /* counts of blocks since the beginning */
    bool ended, stopping;
    int error;
    char message[128];
    /* the taker's */
    bool holds;
    /* the thread's, and after its end anybody's */
    struct digest *digest;
    char *in;
    size_t in_len, in_at;
    bool in_ended;
    struct inflate_state *gzip;
    ZSTD_DStream *zstd;
};

/* --- the thread --- */

static int fail(struct inflate *inflate, int error, const char *what) {
    snprintf(inflate->message, sizeof inflate->message, "%s", what);
    return error;
}

static bool is_stopping(struct inflate *inflate) {
    pthread_mutex_lock(&inflate->lock);
    bool is = inflate->stopping;
    pthread_mutex_unlock(&inflate->lock);
    return is;
}

/* 0: that is all there will be. */
static ssize_t read_file(struct inflate *inflate) {
    for (;;) {
        ssize_t n = read(inflate->fd, inflate->in, IN_BYTES);
        int r = n == 0 && inflate->more && !is_stopping(inflate) ? inflate->more(inflate->userdata, inflate->fd) : 0;
        if (r <= 0)
            return r < 0 ? r : n < 0 ? -errno : n;
    }
}

/* More of the file, when all before it was used. 0, also at the end. */
static int fill_in(struct inflate *inflate) {
    if (inflate->in_at < inflate->in_len || inflate->in_ended)
        return 0;
    ssize_t n = read_file(inflate);
    if (n < 0)
        return (int)n;
    inflate->in_at = 0;
    inflate->in_len = (size_t)n;
    inflate->in_ended = n == 0;
    digest_update(inflate->digest, slice_make(inflate->in, (size_t)n));
    return 0;
}

/* An empty block, once there is one; NULL: nobody wants more. */
static char *take_empty(struct inflate *inflate) {
    pthread_mutex_lock(&inflate->lock);
    while (inflate->filled - inflate->taken == BLOCKS && !inflate->stopping)
        pthread_cond_wait(&inflate->changed, &inflate->lock);
    char *block = inflate->stopping ? NULL : inflate->blocks[inflate->filled % BLOCKS];
    pthread_mutex_unlock(&inflate->lock);
    return block;
}

static void give(struct inflate *inflate, size_t len) {
    if (!len)
        return;
    pthread_mutex_lock(&inflate->lock);
    inflate->lengths[inflate->filled++ % BLOCKS] = len;
    pthread_cond_broadcast(&inflate->changed);
    pthread_mutex_unlock(&inflate->lock);
}

static bool begins_with(const struct inflate *inflate, const char *magic, size_t len) {
    size_t left = inflate->in_len - inflate->in_at;
    return left > 0 && memcmp(inflate->in + inflate->in_at, magic, MIN(left, len)) == 0;
}
static bool is_gzip(const struct inflate *inflate) {
    return begins_with(inflate, "\x1f\x8b", 2);
}
static bool is_zstd(const struct inflate *inflate) {
    return begins_with(inflate, "\x28\xb5\x2f\xfd", 4);
}

static int drop_trailer(struct inflate *inflate) {
    size_t total = 0;
    int r = 0;
    while (r == 0 && !inflate->in_ended && total <= TRAILER_BYTES_MAX) {
        total += inflate->in_len - inflate->in_at;
        inflate->in_at = inflate->in_len;
        r = fill_in(inflate);
    }
    return r == 0 && total > TRAILER_BYTES_MAX ? fail(inflate, -EBADMSG, "it goes on for more than 16 MiB behind its compressed stream") : r;
}

/* One block of a gzip stream. */
static int gunzip_block(struct inflate *inflate, char *block, size_t *ret_len, bool *ret_ended) {
    struct inflate_state *state = inflate->gzip;
    state->next_out = (uint8_t *)block;
    state->avail_out = BLOCK_BYTES;
    int r = 0;
    *ret_ended = false;
    while (state->avail_out && !*ret_ended && (r = fill_in(inflate)) == 0) {
        if (inflate->in_ended)
            return fail(inflate, -EBADMSG, "its gzip stream ends too early");
        state->next_in = (uint8_t *)inflate->in + inflate->in_at;
        state->avail_in = (uint32_t)(inflate->in_len - inflate->in_at);
        if (isal_inflate(state) < 0)
            return fail(inflate, -EBADMSG, "its gzip stream is damaged");
        inflate->in_at = inflate->in_len - state->avail_in;
        if (state->block_state != ISAL_BLOCK_FINISH)
            continue;
        r = fill_in(inflate);
        *ret_ended = r < 0 || inflate->in_ended || !is_gzip(inflate);
        if (!*ret_ended) { /* another member */
            isal_inflate_reset(state);
            state->crc_flag = ISAL_GZIP;
        }
    }
    *ret_len = BLOCK_BYTES - state->avail_out;
    return r;
}

static int unzstd_block(struct inflate *inflate, char *block, size_t *ret_len, bool *ret_ended) {
    ZSTD_outBuffer out = {block, BLOCK_BYTES, 0};
    int r = 0;
    size_t left = 1;
    *ret_ended = false;
    while (out.pos < out.size && !*ret_ended && (r = fill_in(inflate)) == 0) {
        if (inflate->in_ended)
            return fail(inflate, -EBADMSG, "its zstd stream ends too early");
        ZSTD_inBuffer in = {inflate->in + inflate->in_at, inflate->in_len - inflate->in_at, 0};
        left = ZSTD_decompressStream(inflate->zstd, &out, &in);
        if (ZSTD_isError(left))
            return fail(inflate, -EBADMSG, ZSTD_getErrorName(left));
        inflate->in_at += in.pos;
        if (left == 0) {
            r = fill_in(inflate);
            *ret_ended = r < 0 || inflate->in_ended || !is_zstd(inflate);
        }
    }
    *ret_len = out.pos;
    return r;
}

static int copy_block(struct inflate *inflate, char *block, size_t *ret_len, bool *ret_ended) {
    int r = fill_in(inflate);
    size_t len = r < 0 ? 0 : MIN(inflate->in_len - inflate->in_at, (size_t)BLOCK_BYTES);
    memcpy(block, inflate->in + inflate->in_at, len);
    inflate->in_at += len;
    *ret_len = len;
    *ret_ended = r < 0 || inflate->in_ended;
    return r;
}

typedef int block_fn(struct inflate *inflate, char *block, size_t *ret_len, bool *ret_ended);

/* By the first bytes. */
static int choose(struct inflate *inflate, block_fn **ret) {
    *ret = copy_block;
    if (is_gzip(inflate)) {
        *ret = gunzip_block;
        inflate->gzip = malloc(sizeof *inflate->gzip);
        if (!inflate->gzip)
            return -ENOMEM;
        isal_inflate_init(inflate->gzip);
        inflate->gzip->crc_flag = ISAL_GZIP;
    } else if (is_zstd(inflate)) {
        *ret = unzstd_block;
        inflate->zstd = ZSTD_createDStream();
        if (!inflate->zstd || ZSTD_isError(ZSTD_initDStream(inflate->zstd)))
            return -ENOMEM;
    }
    return 0;
}

static int run(struct inflate *inflate) {
    block_fn *next = NULL;
    bool ended = false;
    int r = fill_in(inflate);
    r = r ? r : choose(inflate, &next);
    while (r == 0 && !ended) {
        size_t len = 0;
        char *block = take_empty(inflate);
        if (!block)
            return -ECANCELED;
        r = next(inflate, block, &len, &ended);
        if (r == 0)
            give(inflate, len);
    }
    return r ? r : drop_trailer(inflate);
}

static void *thread_main(void *userdata) {
    struct inflate *inflate = userdata;
    int r = run(inflate);
    pthread_mutex_lock(&inflate->lock);
    inflate->error = r;
    inflate->ended = true;
    pthread_cond_broadcast(&inflate->changed);
    pthread_mutex_unlock(&inflate->lock);
    return NULL;
}

/* --- the taker --- */

static void release(struct inflate *inflate) {
    for (size_t i = 0; i < BLOCKS; i++)
        free(inflate->blocks[i]);
    digest_free(inflate->digest);
    free(inflate->in);
    free(inflate->gzip);
    ZSTD_freeDStream(inflate->zstd);
    pthread_cond_destroy(&inflate->changed);
    pthread_mutex_destroy(&inflate->lock);
    free(inflate);
}

int inflate_new(int fd, inflate_more_fn *more, void *userdata, struct inflate **ret) {
    struct inflate *inflate = calloc(1, sizeof *inflate);
    if (!inflate)
        return -ENOMEM;
    inflate->fd = fd;
    inflate->more = more;
    inflate->userdata = userdata;
    pthread_mutex_init(&inflate->lock, NULL);
    pthread_cond_init(&inflate->changed, NULL);
    inflate->digest = digest_new();
    inflate->in = malloc(IN_BYTES);
    bool ok = inflate->digest && inflate->in;
    for (size_t i = 0; i < BLOCKS; i++)
        ok = (inflate->blocks[i] = malloc(BLOCK_BYTES)) && ok;
    int r = ok ? -pthread_create(&inflate->thread, NULL, thread_main, inflate) : -ENOMEM;
    if (r < 0)
        release(inflate);
    else
        *ret = inflate;
    return r;
}

void inflate_free(struct inflate *inflate) {
    if (!inflate)
        return;
    pthread_mutex_lock(&inflate->lock);
    inflate->stopping = true;
    pthread_cond_broadcast(&inflate->changed);
    pthread_mutex_unlock(&inflate->lock);
    pthread_join(inflate->thread, NULL);
    release(inflate);
}

ssize_t inflate_read(struct inflate *inflate, const void **ret_bytes) {
    ssize_t n;
    pthread_mutex_lock(&inflate->lock);
    if (inflate->holds) {
        inflate->taken++;
        inflate->holds = false;
        pthread_cond_broadcast(&inflate->changed);
    }
    while (inflate->filled == inflate->taken && !inflate->ended)
        pthread_cond_wait(&inflate->changed, &inflate->lock);
    if (inflate->filled != inflate->taken) {
        *ret_bytes = inflate->blocks[inflate->taken % BLOCKS];
        n = (ssize_t)inflate->lengths[inflate->taken % BLOCKS];
        inflate->holds = true;
    } else {
        n = inflate->error;
    }
    pthread_mutex_unlock(&inflate->lock);
    return n;
}

const char *inflate_error(const struct inflate *inflate) {
    return inflate->message;
}

void inflate_digest(struct inflate *inflate, char ret[65]) {
    digest_finish_hex(inflate->digest, ret);
}

/* Logs of jobs and pipelines.
 *
 * The file is the only copy: a follower is an offset into it, read as fast as its connection takes it, so that a slow reader costs no memory and a
 * late one misses nothing. The page cache does the rest.
 *
 * Invariants
 * 1. A follower lives exactly as long as its exchange: http_on_close frees it.
 * 2. A log lives as long as its opener and its followers. */
#include "forge/joblog_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "sys/sys.h"

#define CHUNK_BYTES (32 * KIB)
#define PENDING_MAX (128 * KIB)
#define LINE_MAX_BYTES 4096

static const char cut_notice[] = "\n(the log is longer than 4 MiB: the rest is left out)\n";

struct joblog {
    unsigned references;
    int fd;
    int64_t size;
    bool closed, cut;
    struct list followers;
};

struct follower {
    struct list node;
    struct joblog *log;
    struct http_exchange *exchange;
    struct joblog_follow_options options;
    int64_t offset;
    bool ended;
};

int joblog_open(const char *path, bool writable, struct joblog **ret) {
    struct joblog *log = calloc(1, sizeof *log);
    struct stat status;
    if (!log)
        return -ENOMEM;
    log->references = 1;
    log->closed = !writable;
    list_init(&log->followers);
    log->fd = open(path, writable ? O_RDWR | O_CREAT | O_CLOEXEC : O_RDONLY | O_CLOEXEC, 0640);
    int error = log->fd < 0 || fstat(log->fd, &status) < 0 ? -errno : 0;
    if (error) {
        joblog_unref(log);
        return error;
    }
    log->size = status.st_size;
    *ret = log;
    return 0;
}

void joblog_unref(struct joblog *log) {
    if (!log || --log->references > 0)
        return;
    ASSERT(list_empty(&log->followers));
    if (log->fd >= 0)
        close(log->fd);
    free(log);
}

int64_t joblog_size(const struct joblog *log) {
    return log->size;
}

/* --- followers --- */

static void end_follower(struct follower *follower) {
    CLEANUP(buffer_deinit) struct buffer last = BUFFER_INIT(LINE_MAX_BYTES);
    follower->ended = true;
    if (follower->options.ending)
        follower->options.ending(follower->options.userdata, &last);
    if (last.len > 0)
        http_write(follower->exchange, buffer_slice(&last));
    http_respond_end(follower->exchange);
}

static void pump(struct follower *follower);

static void on_drained(void *userdata, struct http_exchange *exchange) {
    (void)exchange;
    pump(userdata);
}

static void pump(struct follower *follower) {
    char chunk[CHUNK_BYTES];
    const struct joblog *log = follower->log;
    while (!follower->ended && follower->offset < log->size) {
        if (http_write_pending(follower->exchange) > PENDING_MAX) {
            http_on_drained(follower->exchange, on_drained, follower);
            return;
        }
        ssize_t got = pread(log->fd, chunk, MIN(sizeof chunk, (size_t)(log->size - follower->offset)), follower->offset);
        if (got <= 0)
            break;
        if (http_write(follower->exchange, slice_make(chunk, (size_t)got)))
            return; /* gone: its on_close comes */
        follower->offset += got;
    }
    if (!follower->ended && (log->closed || !follower->options.live))
        end_follower(follower);
}

static void on_close(void *userdata, struct http_exchange *exchange, bool complete) {
    (void)exchange;
    (void)complete;
    struct follower *follower = userdata;
    list_remove(&follower->node);
    joblog_unref(follower->log);
    free(follower);
}

int joblog_follow(struct joblog *log, struct http_exchange *exchange, const struct joblog_follow_options *options) {
    struct follower *follower = calloc(1, sizeof *follower);
    if (!follower)
        return -ENOMEM;
    *follower = (struct follower){.log = log, .exchange = exchange, .options = *options, .offset = options->offset};
    log->references++;
    list_push(&log->followers, &follower->node);
    http_on_close(exchange, on_close, follower);
    pump(follower);
    return 0;
}

static void pump_all(struct joblog *log) {
    log->references++; /* a follower's end may drop the last */
    LIST_FOREACH(it, &log->followers) {
        pump(CONTAINER_OF(it, struct follower, node));
    }
    joblog_unref(log);
}

/* --- writing --- */

static int write_at_end(struct joblog *log, struct slice bytes) {
    while (bytes.len > 0) {
        ssize_t put = pwrite(log->fd, bytes.data, bytes.len, log->size);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        log->size += put;
        bytes = slice_from(bytes, (size_t)put);
    }
    return 0;
}

int joblog_append(struct joblog *log, struct slice bytes) {
    if (log->closed || log->cut || bytes.len == 0)
        return 0;
    int64_t room = (int64_t)JOBLOG_BYTES_MAX - log->size;
    log->cut = (int64_t)bytes.len > room;
    int error = write_at_end(log, slice_head(bytes, room > 0 ? (size_t)room : 0));
    if (!error && log->cut)
        error = write_at_end(log, slice_of(cut_notice));
    pump_all(log);
    return error;
}

int joblog_printf(struct joblog *log, const char *format, ...) {
    char line[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    return joblog_append(log, slice_make(line, (size_t)MIN(MAX(len, 0), (int)sizeof line - 1)));
}

void joblog_close(struct joblog *log) {
    if (log->closed)
        return;
    log->closed = true;
    pump_all(log);
}

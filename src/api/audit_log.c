/* The file behind the audit log: JSON lines in <folder>/audit.log.
 *
 * Durable how: an event is in memory when its request is answered; the worker thread writes what has gathered at the end of that turn of the loop,
 * so that a kill -9 can lose the events of some milliseconds; once a second while there is something new the file is synced, so that a power cut can
 * lose a second's. No request waits for any of it. (What was written is in the store, durably, before it is acknowledged; the log says who did it.)
 *
 *   events ──► pending ──(worker: write, rotate, sync)──► audit.log ──(FILE_BYTES_MAX)──► audit-TIME.log ──(FILES_MAX)──► gone
 *
 * 1. One batch is under way at a time; what comes meanwhile gathers in `pending`, at most PENDING_BYTES_MAX: a disk that is full or hangs costs
 * events, not the service. Those that are lost are counted, and the next line that comes through says how many.
 * 2. Each line carries in its annotation "tidemill.dev/chain" the SHA-256 of the chain so far and the line without it. Who removes or changes a line
 * breaks the chain from there on; `tidemill audit --verify` looks. The chain goes on over rotations and restarts.
 * A disk that is full or broken at the start does not keep the API from starting either: the file is opened with the first batch that can be.
 * 3. A line that a crash tore is ended at the next start; its successor begins a new chain ("torn" as the chain so far), which verifying tells. */
#include "api/audit_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "http/http.h"
#include "sys/sys.h"

#define FILE_BYTES_MAX (8 * MIB)
#define FILES_MAX 8 /* rotated ones */
#define PENDING_BYTES_MAX (8 * MIB)
#define EVENT_BYTES_MAX (64 * KIB)
#define TAIL_BYTES (128 * KIB)
#define SYNC_MS 1000
#define RETRY_MS 1000
#define CHAIN "\"tidemill.dev/chain\":\""

struct audit_log {
    struct loop *loop;
    char *folder;
    int fd;
    struct buffer pending, writing;
    size_t written; /* of `writing` */
    off_t size;
    bool busy, unsynced, sync_due;
    int error; /* of the batch under way */
    char chain[65];
    uint64_t events, lost, lost_untold;
    struct loop_defer flush;
    struct loop_timer later;
};

/* --- files (worker) --- */

static int open_file(struct audit_log *log) {
    char path[512];
    struct stat status;
    int error = sys_mkdirs(log->folder, 0700);
    if (error)
        return error;
    snprintf(path, sizeof path, "%s/audit.log", log->folder);
    log->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log->fd < 0)
        return -errno;
    log->size = fstat(log->fd, &status) == 0 ? status.st_size : 0;
    return 0;
}

static int is_rotated(const struct dirent *entry) {
    struct slice name = slice_of(entry->d_name);
    return slice_starts(name, SLICE("audit-")) && slice_ends(name, SLICE(".log"));
}

/* Names are times, so their order is that of age. */
static void prune(const struct audit_log *log) {
    struct dirent **names = NULL;
    int count = scandir(log->folder, &names, is_rotated, alphasort);
    for (int i = 0; i < count; i++) {
        char path[800];
        snprintf(path, sizeof path, "%s/%s", log->folder, names[i]->d_name);
        if (i < count - FILES_MAX)
            unlink(path);
        free(names[i]);
    }
    free(names);
}

static int rotate(struct audit_log *log) {
    char from[512], to[600], text[40];
    int64_t now_ns = sys_wall_ns();
    time_t now_s = (time_t)(now_ns / 1000000000);
    struct tm tm;
    strftime(text, sizeof text, "%Y%m%dT%H%M%S", gmtime_r(&now_s, &tm));
    snprintf(from, sizeof from, "%s/audit.log", log->folder);
    snprintf(to, sizeof to, "%s/audit-%s.%09dZ.log", log->folder, text, (int)(now_ns % 1000000000));
    if (fdatasync(log->fd) < 0 || rename(from, to) < 0)
        return -errno;
    close(log->fd);
    log->fd = -1;
    prune(log);
    return open_file(log);
}

static void work(void *userdata) {
    struct audit_log *log = userdata;
    log->error = log->fd < 0 ? open_file(log) : 0;
    while (!log->error && log->written < log->writing.len) {
        ssize_t len = write(log->fd, log->writing.data + log->written, log->writing.len - log->written);
        if (len < 0 && errno == EINTR)
            continue;
        log->error = len < 0 ? -errno : 0;
        log->written += len > 0 ? (size_t)len : 0;
        log->size += len > 0 ? len : 0;
    }
    if (!log->error && log->sync_due && fdatasync(log->fd) < 0)
        log->error = -errno;
    if (!log->error && log->size > (off_t)FILE_BYTES_MAX)
        log->error = rotate(log);
}

/* --- batches (loop) --- */

static void on_worked(void *userdata);

static void submit(struct audit_log *log) {
    if (log->busy)
        return;
    if (log->written == log->writing.len) {
        struct buffer empty = log->writing;
        buffer_reset(&empty);
        log->writing = log->pending;
        log->pending = empty;
        log->written = 0;
    }
    if (!log->writing.len && !log->sync_due)
        return;
    log->busy = loop_work(log->loop, LOOP_QUICK, work, on_worked, log) == 0;
    if (!log->busy)
        loop_timer_set(&log->later, RETRY_MS);
}

static void on_worked(void *userdata) {
    struct audit_log *log = userdata;
    bool written = log->writing.len > 0;
    log->busy = false;
    if (log->error) {
        log_error("the audit log %s/audit.log cannot be written (%s); trying again", log->folder, strerror(-log->error));
        loop_timer_set(&log->later, RETRY_MS);
        return;
    }
    buffer_release(&log->pending);
    log->unsynced = written ? !log->sync_due : log->unsynced && !log->sync_due;
    log->sync_due = false;
    if (log->pending.len)
        submit(log);
    else if (log->unsynced && !loop_timer_is_set(&log->later))
        loop_timer_set(&log->later, SYNC_MS);
}

static void on_later(void *userdata) {
    struct audit_log *log = userdata;
    log->sync_due = true;
    submit(log);
}

static void on_flush(void *userdata) {
    submit(userdata);
}

/* --- events --- */

static void append_line(struct audit_log *log, struct slice event) {
    char chain[65];
    struct digest *digest = digest_new();
    if (!digest || log->pending.len + event.len + sizeof CHAIN + 70 > PENDING_BYTES_MAX ||
        buffer_reserve(&log->pending, event.len + sizeof CHAIN + 70)) {
        digest_free(digest);
        log->lost++;
        log->lost_untold++;
        return;
    }
    digest_update(digest, slice_of(log->chain));
    digest_update(digest, event);
    digest_finish_hex(digest, chain);
    digest_free(digest);
    buffer_append_slice(&log->pending, slice_head(event, event.len - 2));
    buffer_printf(&log->pending, "," CHAIN "%s\"}}\n", chain);
    memcpy(log->chain, chain, sizeof chain);
    log->events++;
}

/* What was lost stands in the log itself. */
static void tell_lost(struct audit_log *log) {
    char event[300], id[37];
    uint64_t count = log->lost_untold;
    sys_uuid(id);
    snprintf(event, sizeof event,
             "{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"Metadata\",\"auditID\":\"%s\",\"stage\":\"Panic\",\"annotations\":{"
             "\"tidemill.dev/lost\":\"%" PRIu64 "\"}}",
             id, count);
    append_line(log, slice_of(event));
    if (log->lost_untold == count)
        log->lost_untold = 0;
}

void audit_log_append(struct audit_log *log, struct slice event) {
    ASSERT(event.len > 2 && slice_ends(event, SLICE("}}")));
    if (log->lost_untold)
        tell_lost(log);
    append_line(log, event);
    loop_defer_schedule(&log->flush);
}

void audit_log_statistics(const struct audit_log *log, struct audit_statistics *ret) {
    *ret = (struct audit_statistics){log->events, log->lost};
}

/* --- the chain so far --- */

/* The last bytes of a file; 0 also when there are none. */
static int read_tail(const char *path, struct buffer *out) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    int error = fstat(fd, &status) < 0 ? -errno : buffer_reserve(out, TAIL_BYTES);
    off_t from = !error && status.st_size > (off_t)TAIL_BYTES ? status.st_size - (off_t)TAIL_BYTES : 0;
    ssize_t len = error ? 0 : pread(fd, out->data, TAIL_BYTES, from);
    if (len < 0)
        error = -errno;
    else
        buffer_commit(out, (size_t)len);
    close(fd);
    return error;
}

/* The last line's chain; "" when there is no line; "torn" when the last is no whole one. */
static void last_chain(struct slice tail, char ret[65]) {
    ret[0] = '\0';
    if (!tail.len)
        return;
    snprintf(ret, 65, "torn");
    if (tail.data[tail.len - 1] != '\n')
        return;
    struct slice line = slice_head(tail, tail.len - 1);
    const char *begin = memrchr(line.data, '\n', line.len);
    line = begin ? slice_from(line, (size_t)(begin - line.data) + 1) : line;
    if (line.len > sizeof CHAIN + 66 && slice_starts(slice_from(line, line.len - sizeof CHAIN + 1 - 67), SLICE(CHAIN)))
        snprintf(ret, 65, "%.64s", line.data + line.len - 67);
}

static int newest_rotated(const struct audit_log *log, struct buffer *tail) {
    struct dirent **names = NULL;
    int count = scandir(log->folder, &names, is_rotated, alphasort), error = 0;
    char path[800];
    if (count > 0) {
        snprintf(path, sizeof path, "%s/%s", log->folder, names[count - 1]->d_name);
        error = read_tail(path, tail);
    }
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    return error;
}

static int go_on(struct audit_log *log) {
    CLEANUP(buffer_deinit) struct buffer tail = BUFFER_INIT(2 * TAIL_BYTES);
    char path[512];
    snprintf(path, sizeof path, "%s/audit.log", log->folder);
    int error = read_tail(path, &tail);
    bool torn = tail.len && tail.data[tail.len - 1] != '\n';
    if (!error && !tail.len)
        error = newest_rotated(log, &tail);
    if (error)
        return error;
    last_chain(buffer_slice(&tail), log->chain);
    return torn ? sys_write_all(log->fd, SLICE("\n")) : 0;
}

/* --- life --- */

int audit_log_new(struct loop *loop, const char *folder, struct audit_log **ret, struct diag *diag) {
    struct audit_log *log = calloc(1, sizeof *log);
    if (!log)
        return -ENOMEM;
    *log = (struct audit_log){.loop = loop, .fd = -1, .pending = BUFFER_INIT(PENDING_BYTES_MAX), .writing = BUFFER_INIT(PENDING_BYTES_MAX)};
    loop_defer_init(&log->flush, loop, on_flush, log);
    loop_timer_init(&log->later, loop, on_later, log);
    log->folder = strdup(folder);
    if (!log->folder) {
        audit_log_free(log);
        return diag_set(diag, -ENOMEM, "cannot open the audit log in %s", folder);
    }
    int error = open_file(log);
    error = error ? error : go_on(log);
    if (error)
        log_error("the audit log in %s cannot be opened (%s); trying again with the next event", folder, strerror(-error));
    *ret = log;
    return 0;
}

void audit_log_free(struct audit_log *log) {
    if (!log)
        return;
    while (log->busy)
        loop_turn(log->loop, 10);
    loop_defer_cancel(&log->flush);
    loop_timer_cancel(&log->later);
    for (int i = 0; i < 2 && log->fd >= 0 && (log->pending.len || log->written < log->writing.len || log->unsynced); i++) {
        if (log->written == log->writing.len) {
            struct buffer full = log->pending;
            log->pending = log->writing;
            buffer_reset(&log->pending);
            log->writing = full;
            log->written = 0;
        }
        log->sync_due = true;
        work(log);
        log->unsynced = false;
    }
    if (log->fd >= 0)
        close(log->fd);
    buffer_deinit(&log->pending);
    buffer_deinit(&log->writing);
    free(log->folder);
    free(log);
}

/* A reader of one log file, a piece per turn of the loop so that a large log blocks nobody.
 *
 *   position (tail, by counting newlines backwards) ─► read pieces ─► at the end: done, or wait for inotify on the folder: "modified" reads on,
 * "created" under the same name (rotation) reads the old file to its end and changes over to the one after it.
 *
 * Invariants of following
 *  1. A slow reader may be several rotations behind: the next file is the one that was begun after its own, whatever that is called by now. Only what
 *     rotation has removed meanwhile is lost.
 *  2. That the next file exists shows that the own one is complete, for its writer has changed over: it is read once more after that was seen.
 *  3. The end of the container may be told before the kernel tells of a new file: so at the end one is looked for unasked.
 *
 * A line without its newline yet stays in the buffer; a line longer than LINE_BYTES_MAX is cut there (conmon writes at most 8 KiB per entry). */
#include "runtime/logread.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "codec/codec.h"
#include "runtime/crilog.h"

#define PIECE_BYTES (64 * KIB)
#define LINE_BYTES_MAX (256 * KIB)

struct logread {
    struct loop *loop;
    struct logread_options options;
    struct logread_callbacks callbacks;
    char *path, *folder;
    const char *name;
    int fd, inotify_fd;
    int next_fd; /* the file after this one, which is read to its end first; -1: none was seen */
    struct loop_io *io;
    struct loop_defer step;
    struct buffer pending, out;
    bool paused, finishing, in_partial, rotated;
    int64_t left; /* of limit_bytes */
};

static void on_step(void *userdata);
static void on_inotify(void *userdata, uint32_t events);

void logread_free(struct logread *reader) {
    if (!reader)
        return;
    loop_defer_cancel(&reader->step);
    loop_io_free(reader->io);
    if (reader->inotify_fd >= 0)
        close(reader->inotify_fd);
    if (reader->fd >= 0)
        close(reader->fd);
    if (reader->next_fd >= 0)
        close(reader->next_fd);
    buffer_deinit(&reader->pending);
    buffer_deinit(&reader->out);
    free(reader->path);
    free(reader->folder);
    free(reader);
}
DEFINE_CLEANUP(struct logread, logread_free)

/* The offset of the last `lines` lines. */
static off_t tail_offset(int fd, int64_t lines) {
    char bytes[16 * KIB];
    off_t end = lseek(fd, 0, SEEK_END);
    int64_t seen = 0;
    if (lines == 0)
        return end;
    for (off_t at = end; at > 0;) {
        size_t want = (size_t)MIN(at, (off_t)sizeof bytes);
        at -= (off_t)want;
        ssize_t n = pread(fd, bytes, want, at);
        for (ssize_t i = n; i-- > 0;)
            if (bytes[i] == '\n' && at + i != end - 1 && ++seen == lines)
                return at + i + 1;
    }
    return 0;
}

static int start_following(struct logread *reader) {
    reader->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (reader->inotify_fd < 0 || inotify_add_watch(reader->inotify_fd, reader->folder, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
        return -errno;
    return loop_io_new(reader->loop, reader->inotify_fd, EPOLLIN, on_inotify, reader, &reader->io);
}

int logread_new(struct loop *loop, const struct logread_options *options, const struct logread_callbacks *callbacks, struct logread **ret) {
    CLEANUP(logread_freep) struct logread *reader = calloc(1, sizeof *reader);
    if (!reader)
        return -ENOMEM;
    *reader = (struct logread){
        .loop = loop, .options = *options, .callbacks = *callbacks, .fd = -1, .inotify_fd = -1, .next_fd = -1, .left = options->limit_bytes};
    reader->pending = BUFFER_INIT(LINE_BYTES_MAX + PIECE_BYTES);
    reader->out = BUFFER_INIT(2 * (LINE_BYTES_MAX + PIECE_BYTES) + MIB);
    loop_defer_init(&reader->step, loop, on_step, reader);
    reader->path = strdup(options->path);
    reader->folder = strdup(options->path);
    if (!reader->path || !reader->folder)
        return -ENOMEM;
    char *slash = strrchr(reader->folder, '/');
    if (!slash)
        return -EINVAL;
    *slash = 0;
    reader->name = reader->path + (slash - reader->folder) + 1;
    reader->fd = open(reader->path, O_RDONLY | O_CLOEXEC);
    if (reader->fd < 0)
        return -errno;
    int r = options->follow ? start_following(reader) : 0;
    if (r < 0)
        return r;
    if (options->tail_lines >= 0)
        lseek(reader->fd, tail_offset(reader->fd, options->tail_lines), SEEK_SET);
    loop_defer_schedule(&reader->step);
    *ret = TAKE(reader);
    return 0;
}

static void on_inotify(void *userdata, __attribute__((unused)) uint32_t events) {
    struct logread *reader = userdata;
    char bytes[4 * KIB] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n;
    bool wake = false;
    while ((n = read(reader->inotify_fd, bytes, sizeof bytes)) > 0) {
        for (char *at = bytes; at < bytes + n;) {
            const struct inotify_event *event = (const struct inotify_event *)(void *)at;
            bool ours = (event->mask & IN_Q_OVERFLOW) || (event->len && strcmp(event->name, reader->name) == 0);
            wake = wake || ours;
            reader->rotated = reader->rotated || (ours && (event->mask & (IN_CREATE | IN_MOVED_TO)));
            at += sizeof *event + event->len;
        }
    }
    if (wake)
        loop_defer_schedule(&reader->step);
}

static void add_line(struct logread *reader, struct slice line) {
    struct crilog_line parsed;
    char time[TIMESTAMP_BYTES];
    if (crilog_parse(line, &parsed) < 0)
        return;
    if (parsed.ns < reader->options.since_ns || (reader->options.stream && parsed.stream != reader->options.stream))
        return;
    if (reader->options.timestamps && !reader->in_partial) {
        timestamp_format_nano(parsed.ns, time);
        buffer_printf(&reader->out, "%s ", time);
    }
    buffer_append_slice(&reader->out, parsed.text);
    if (!parsed.is_partial)
        buffer_append_byte(&reader->out, '\n');
    reader->in_partial = parsed.is_partial;
}

/* Turns the complete lines of `pending` into output. */
static void take_lines(struct logread *reader) {
    struct slice rest = buffer_slice(&reader->pending);
    size_t done = 0;
    for (ptrdiff_t end; (end = slice_index(rest, '\n')) >= 0; rest = slice_from(rest, (size_t)end + 1)) {
        add_line(reader, slice_head(rest, (size_t)end));
        done += (size_t)end + 1;
    }
    if (done == 0 && rest.len > LINE_BYTES_MAX)
        done = rest.len; /* no log of ours: drop it */
    buffer_consume(&reader->pending, done);
}

/* path, path.1 … */
static const char *rotated_path(const char *path, int number, char ret[PATH_MAX]) {
    snprintf(ret, PATH_MAX, number ? "%s.%d" : "%s", path, number);
    return ret;
}

/* Under which number the own file is now; that of the oldest and one more when rotation has removed it. */
static int own_number(const struct logread *reader) {
    struct stat own, other;
    char path[PATH_MAX];
    int number = 0, end = 0;
    if (fstat(reader->fd, &own) < 0)
        return 0;
    for (; number < LOG_ROTATE_FILES; number++) {
        if (stat(rotated_path(reader->path, number, path), &other) < 0)
            continue;
        if (other.st_ino == own.st_ino && other.st_dev == own.st_dev)
            return number;
        end = number + 1;
    }
    return end;
}

/* Opens the file after the own one; false when there is none (yet). */
static bool open_next(struct logread *reader) {
    char path[PATH_MAX];
    int number = own_number(reader);
    reader->rotated = number > 1; /* then that one is not the last either */
    if (number > 0)
        reader->next_fd = open(rotated_path(reader->path, number - 1, path), O_RDONLY | O_CLOEXEC);
    return reader->next_fd >= 0;
}

/* All of the file was read, as far as it is written: true when there is something to read after it. */
static bool go_on(struct logread *reader) {
    if (reader->next_fd < 0)
        return (reader->rotated || (reader->options.follow && reader->finishing)) && open_next(reader);
    close(reader->fd);
    reader->fd = TAKE_FD(reader->next_fd);
    return true;
}

static void end(struct logread *reader, int error) {
    reader->callbacks.on_end(reader->callbacks.userdata, error);
}

static void on_step(void *userdata) {
    struct logread *reader = userdata;
    if (reader->paused)
        return;
    if (buffer_reserve(&reader->pending, PIECE_BYTES) < 0)
        return end(reader, -ENOMEM);
    ssize_t n = read(reader->fd, reader->pending.data + reader->pending.len, PIECE_BYTES);
    if (n < 0)
        return end(reader, -errno);
    if (n == 0) {
        if (go_on(reader))
            return loop_defer_schedule(&reader->step);
        if (!reader->options.follow || reader->finishing)
            end(reader, 0);
        return;
    }
    buffer_commit(&reader->pending, (size_t)n);
    take_lines(reader);
    struct slice out = buffer_slice(&reader->out);
    bool full = reader->options.limit_bytes >= 0 && (int64_t)out.len >= reader->left;
    if (full)
        out = slice_head(out, (size_t)reader->left);
    reader->left -= (int64_t)out.len;
    loop_defer_schedule(&reader->step); /* before the callbacks, which may free the reader */
    if (full)
        loop_defer_cancel(&reader->step);
    if (out.len)
        reader->callbacks.on_data(reader->callbacks.userdata, out);
    buffer_reset(&reader->out);
    if (full)
        end(reader, 0);
}

void logread_pause(struct logread *reader, bool paused) {
    reader->paused = paused;
    if (!paused)
        loop_defer_schedule(&reader->step);
}

void logread_finish(struct logread *reader) {
    reader->finishing = true;
    loop_defer_schedule(&reader->step);
}

int log_rotate(const char *path) {
    char from[PATH_MAX], to[PATH_MAX];
    for (int i = LOG_ROTATE_FILES - 1; i >= 1; i--)
        if (rename(rotated_path(path, i - 1, from), rotated_path(path, i, to)) < 0 && errno != ENOENT)
            return -errno;
    return 0;
}

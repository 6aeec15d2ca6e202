/* A byte connection on the loop.
 *
 *            socket ──read──► [tls] ──► input  ──► owner (on_input, connection_consume)
 *            socket ◄─send─── wire ◄── [tls] ◄── output ◄── owner (connection_write)      then: a part of a file (sendfile)
 *
 * Invariants
 * 1. Bounded: input holds at most INPUT_BYTES_MAX; beyond it, or when paused, the socket is not read, so TCP's window pushes back. output holds
 *    HTTP_OUTPUT_BYTES_MAX (and what
 *    is forced); wire a few records.
 * 2. Writes are sent once, at the end of the turn: answers made of pieces leave in one system call.
 * 3. Callbacks come from the loop only (descriptor or deferred), never from inside a call of the owner; after each, `gone` tells whether the owner
 *    freed us.
 * 4. An idle connection holds no buffer: input, output and wire are released when empty.
 * 5. After an error on_closed runs once and nothing after it. */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>

#include "http/connection_priv.h"
#include "sys/sys.h"

#define INPUT_BYTES_MAX (HTTP_HEAD_BYTES_MAX + 64 * KIB)
#define READ_BYTES_SMALL (8 * KIB)
#define READ_BYTES_LARGE (64 * KIB)
#define TURN_BYTES_MAX (1 * MIB) /* moved in one turn each way: others want their turn */
#define FILE_PIECE_BYTES (64 * KIB)

struct queue {
    struct buffer bytes;
    size_t at; /* bytes before it are gone */
};

struct connection {
    struct loop *loop;
    int fd;
    struct loop_io *io;
    struct loop_defer defer; /* pump: flush, and announce unread input */
    struct tls_session *tls;
    struct connection_events events;
    void *userdata;
    struct queue input, output, wire;
    int file_fd;
    int64_t file_offset, file_left;
    int64_t progress_ns;
    int error;
    bool connecting, handshaken;
    bool paused, announce; /* announce: on_input is due */
    bool refill;           /* TLS may hold decrypted bytes that no socket event will announce */
    bool eof, socket_eof, eof_clean;
    bool blocked;     /* the socket takes no more: wait for EPOLLOUT */
    bool drained_due; /* something was written since on_drained */
    bool shutdown_wanted, shutdown_done;
    bool *gone; /* set while a callback runs */
};

/* --- queues --- */

static size_t queue_len(const struct queue *queue) {
    return queue->bytes.len - queue->at;
}

static struct slice queue_slice(const struct queue *queue) {
    return slice_from(buffer_slice(&queue->bytes), queue->at);
}

static void queue_consume(struct queue *queue, size_t len) {
    ASSERT(len <= queue_len(queue));
    queue->at += len;
    if (queue->at == queue->bytes.len) {
        queue->at = 0;
        buffer_deinit(&queue->bytes);
    }
}

/* Room for len more bytes: what is gone makes way when it is at least half, so that each byte moves once at most on average. */
static int queue_reserve(struct queue *queue, size_t len) {
    if (queue->at > 0 && queue->at >= queue_len(queue)) {
        buffer_consume(&queue->bytes, queue->at);
        queue->at = 0;
    }
    int r = buffer_reserve(&queue->bytes, len);
    queue->bytes.error = 0;
    return r;
}

/* --- interest and callbacks --- */

static bool has_output(const struct connection *connection) {
    return queue_len(&connection->wire) > 0 || queue_len(&connection->output) > 0 || connection->file_left > 0;
}

static void update_interest(struct connection *connection) {
    uint32_t events = 0;
    if (connection->error)
        events = 0;
    else if (connection->connecting)
        events = EPOLLOUT;
    else {
        if (!connection->paused && !connection->socket_eof && !connection->eof && queue_len(&connection->input) < INPUT_BYTES_MAX)
            events |= EPOLLIN;
        if (connection->blocked && has_output(connection))
            events |= EPOLLOUT;
    }
    int r = loop_io_set(connection->io, events);
    if (r < 0 && !connection->error) { /* epoll refuses memory: the connection breaks, told by the deferred pump */
        connection->error = r;
        loop_defer_schedule(&connection->defer);
    }
}

/* Runs a callback; false when the owner freed the connection in it. */
static bool notify(struct connection *connection, void (*callback)(void *userdata)) {
    bool gone = false;
    connection->gone = &gone;
    callback(connection->userdata);
    if (gone)
        return false;
    connection->gone = NULL;
    return true;
}

static void report_error(struct connection *connection) {
    int error = connection->error;
    void (*on_closed)(void *, int) = connection->events.on_closed;
    loop_defer_cancel(&connection->defer);
    loop_io_set(connection->io, 0);
    on_closed(connection->userdata, error);
}

/* --- reading --- */

/* One read from the socket; count, 0 at the end, -EAGAIN, negative errno. */
static ssize_t read_socket(struct connection *connection, char *bytes, size_t len) {
    ssize_t n;
    do
        n = read(connection->fd, bytes, len);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    connection->progress_ns = loop_now_ns(connection->loop);
    return n;
}

static ssize_t fill_plain(struct connection *connection, char *bytes, size_t len) {
    ssize_t n = read_socket(connection, bytes, len);
    if (n == 0)
        connection->socket_eof = connection->eof = connection->eof_clean = true;
    return n == 0 ? -EAGAIN : n;
}

/* Plain bytes from the session, which is fed from the socket whenever it runs dry. */
static ssize_t fill_tls(struct connection *connection, char *bytes, size_t len) {
    for (;;) {
        ssize_t n = tls_session_read(connection->tls, bytes, len);
        if (n > 0)
            return n;
        if (n == 0)
            connection->eof = connection->eof_clean = true;
        if (n == -EAGAIN && connection->socket_eof)
            connection->eof = true;
        if (connection->eof)
            return -EAGAIN;
        if (n != -EAGAIN)
            return n;
        char records[16 * KIB];
        n = read_socket(connection, records, sizeof records);
        if (n == 0) {
            connection->socket_eof = true;
            continue;
        }
        int r = n < 0 ? (int)n : tls_session_feed(connection->tls, slice_make(records, (size_t)n));
        if (r < 0)
            return r;
    }
}

/* Reads until the socket is empty, the input full, or the turn's share used. */
static void fill_input(struct connection *connection) {
    size_t total = 0, before = queue_len(&connection->input);
    while (!connection->eof && !connection->error && total < TURN_BYTES_MAX) {
        size_t room = INPUT_BYTES_MAX - MIN((size_t)INPUT_BYTES_MAX, queue_len(&connection->input));
        size_t want = MIN(room, total ? READ_BYTES_LARGE : READ_BYTES_SMALL);
        if (want == 0)
            break;
        int r = queue_reserve(&connection->input, want);
        struct buffer *bytes = &connection->input.bytes;
        ssize_t n = r < 0             ? r
                    : connection->tls ? fill_tls(connection, bytes->data + bytes->len, want)
                                      : fill_plain(connection, bytes->data + bytes->len, want);
        if (n == -EAGAIN)
            break;
        if (n < 0) {
            connection->error = (int)n;
        } else {
            buffer_commit(bytes, (size_t)n);
            total += (size_t)n;
            if ((size_t)n < want && !connection->tls)
                break; /* the socket is empty: spare the read that would say so */
        }
    }
    if (connection->tls && total >= TURN_BYTES_MAX) {
        connection->refill = true;
        loop_defer_schedule(&connection->defer);
    }
    if (queue_len(&connection->input) == 0)
        queue_consume(&connection->input, 0);
    if (queue_len(&connection->input) > before || connection->eof)
        connection->announce = true;
}

/* --- writing --- */

/* Sends from the queue; 0, or -EAGAIN, or negative errno. */
static int send_queue(struct connection *connection, struct queue *queue) {
    struct slice bytes = queue_slice(queue);
    ssize_t n;
    do
        n = send(connection->fd, bytes.data, MIN(bytes.len, (size_t)TURN_BYTES_MAX), MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    connection->progress_ns = loop_now_ns(connection->loop);
    queue_consume(queue, (size_t)n);
    return (size_t)n < bytes.len ? -EAGAIN : 0;
}

/* Encrypts a piece of the output into the wire queue. -EAGAIN: the handshake is not through. */
static int encrypt(struct connection *connection) {
    struct slice bytes = slice_head(queue_slice(&connection->output), 64 * KIB);
    ssize_t n = tls_session_write(connection->tls, bytes);
    if (n < 0)
        return (int)n;
    queue_consume(&connection->output, (size_t)n);
    return tls_session_take(connection->tls, &connection->wire.bytes);
}

/* A piece of the file: straight to the socket, or through TLS into the output. A file that is shorter than promised breaks the connection. */
static int send_file(struct connection *connection) {
    ssize_t n;
    if (connection->tls) {
        size_t len = (size_t)MIN((int64_t)FILE_PIECE_BYTES, connection->file_left);
        int r = queue_reserve(&connection->output, len);
        if (r < 0)
            return r;
        n = pread(connection->file_fd, connection->output.bytes.data + connection->output.bytes.len, len, connection->file_offset);
        if (n > 0) {
            buffer_commit(&connection->output.bytes, (size_t)n);
            connection->file_offset += n;
        }
    } else {
        n = sendfile(connection->fd, connection->file_fd, &connection->file_offset, (size_t)MIN((int64_t)TURN_BYTES_MAX, connection->file_left));
    }
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    if (n == 0)
        return -EIO;
    connection->progress_ns = loop_now_ns(connection->loop);
    connection->file_left -= n;
    if (connection->file_left == 0) {
        close(connection->file_fd);
        connection->file_fd = -1;
    }
    return 0;
}

static int flush_step(struct connection *connection) {
    if (queue_len(&connection->wire) > 0)
        return send_queue(connection, &connection->wire);
    if (queue_len(&connection->output) > 0)
        return connection->tls ? encrypt(connection) : send_queue(connection, &connection->output);
    return send_file(connection);
}

static void end_direction(struct connection *connection) {
    if (connection->tls && !connection->shutdown_done) {
        connection->shutdown_done = true;
        tls_session_shutdown(connection->tls);
        if (tls_session_take(connection->tls, &connection->wire.bytes) == 0 && has_output(connection))
            send_queue(connection, &connection->wire); /* best effort: a full socket loses the close_notify, not data */
    }
    connection->shutdown_done = true;
    shutdown(connection->fd, SHUT_WR);
}

/* Sends what the socket takes. */
static void flush(struct connection *connection) {
    int64_t start = connection->file_left;
    connection->blocked = false;
    if (connection->tls && tls_session_take(connection->tls, &connection->wire.bytes) < 0)
        connection->error = -ENOMEM;
    while (has_output(connection) && !connection->error && !connection->blocked) {
        int r = flush_step(connection);
        bool waits_for_handshake = r == -EAGAIN && connection->tls && !connection->handshaken && queue_len(&connection->wire) == 0;
        if (waits_for_handshake)
            break;
        if (r == -EAGAIN || start - connection->file_left > (int64_t)TURN_BYTES_MAX)
            connection->blocked = true;
        else if (r < 0)
            connection->error = r;
    }
    if (!has_output(connection) && connection->shutdown_wanted && !connection->shutdown_done && !connection->error)
        end_direction(connection);
}

/* --- the pump --- */

static void advance_handshake(struct connection *connection) {
    if (!connection->tls || connection->handshaken || connection->error)
        return;
    int r = tls_session_handshake(connection->tls);
    if (r == 0)
        connection->handshaken = true;
    else if (r != -EAGAIN)
        connection->error = r;
}

/* A failed handshake leaves an alert that tells the peer why: sent if the socket takes it. */
static void send_alert(struct connection *connection) {
    if (connection->tls && tls_session_take(connection->tls, &connection->wire.bytes) == 0 && queue_len(&connection->wire) > 0)
        send_queue(connection, &connection->wire);
}

/* Everything that may be due, in the order: bytes out, input announced, drained announced, error reported. */
static void pump(struct connection *connection) {
    if (!connection->connecting)
        flush(connection);
    if (connection->announce && !connection->paused && (connection->eof || queue_len(&connection->input) > 0)) {
        connection->announce = false;
        if (!notify(connection, connection->events.on_input))
            return;
    }
    if (connection->drained_due && !connection->connecting && !has_output(connection) && !connection->error) {
        connection->drained_due = false;
        if (connection->events.on_drained && !notify(connection, connection->events.on_drained))
            return;
    }
    if (connection->error) {
        send_alert(connection);
        report_error(connection);
    } else {
        update_interest(connection);
    }
}

static void on_deferred(void *userdata) {
    struct connection *connection = userdata;
    if (connection->refill && connection->tls && !connection->paused && !connection->connecting) {
        connection->refill = false;
        fill_input(connection);
    }
    pump(connection);
}

static void finish_connect(struct connection *connection) {
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    connection->error = -error;
    connection->connecting = false;
}

static void on_ready(void *userdata, uint32_t events) {
    struct connection *connection = userdata;
    if (connection->connecting)
        finish_connect(connection);
    else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !connection->paused)
        fill_input(connection);
    advance_handshake(connection);
    /* An error after input: the owner sees the input first, it may hold a complete answer. */
    pump(connection);
}

/* --- the owner's calls --- */

int connection_new(struct loop *loop, int fd, struct tls_session *tls, bool connecting, const struct connection_events *events, void *userdata,
                   struct connection **ret) {
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        close(fd);
        tls_session_free(tls);
        return -ENOMEM;
    }
    *connection = (struct connection){.loop = loop,
                                      .fd = fd,
                                      .file_fd = -1,
                                      .tls = tls,
                                      .events = *events,
                                      .userdata = userdata,
                                      .connecting = connecting,
                                      .progress_ns = loop_now_ns(loop)};
    connection->handshaken = !tls;
    buffer_init(&connection->input.bytes, 2 * INPUT_BYTES_MAX);
    buffer_init(&connection->output.bytes, HTTP_ANSWER_BYTES_MAX);
    buffer_init(&connection->wire.bytes, 2 * MIB);
    loop_defer_init(&connection->defer, loop, on_deferred, connection);
    int r = loop_io_new(loop, fd, connecting ? EPOLLOUT : EPOLLIN, on_ready, connection, &connection->io);
    if (r < 0) {
        connection_free(connection);
        return r;
    }
    *ret = connection;
    return 0;
}

void connection_free(struct connection *connection) {
    if (!connection)
        return;
    if (connection->gone)
        *connection->gone = true;
    loop_defer_cancel(&connection->defer);
    loop_io_free(connection->io);
    tls_session_free(connection->tls);
    buffer_deinit(&connection->input.bytes);
    buffer_deinit(&connection->output.bytes);
    buffer_deinit(&connection->wire.bytes);
    fd_closep(&connection->file_fd);
    fd_closep(&connection->fd);
    free(connection);
}

void connection_rebind(struct connection *connection, const struct connection_events *events, void *userdata) {
    connection->events = *events;
    connection->userdata = userdata;
    connection->paused = false;
    connection->announce = connection->refill = true;
    loop_defer_schedule(&connection->defer);
}

struct slice connection_input(const struct connection *connection) {
    return queue_slice(&connection->input);
}

void connection_consume(struct connection *connection, size_t len) {
    bool was_full = queue_len(&connection->input) >= INPUT_BYTES_MAX;
    queue_consume(&connection->input, len);
    if (was_full && len > 0) {
        connection->refill = true;
        loop_defer_schedule(&connection->defer);
    }
}

bool connection_eof(const struct connection *connection) {
    return connection->eof;
}

bool connection_eof_clean(const struct connection *connection) {
    return connection->eof && connection->eof_clean;
}

void connection_pause(struct connection *connection) {
    connection->paused = true;
    loop_defer_schedule(&connection->defer);
}

void connection_resume(struct connection *connection) {
    connection->paused = false;
    connection->announce = connection->refill = true;
    loop_defer_schedule(&connection->defer);
}

int connection_write_forced(struct connection *connection, struct slice bytes) {
    if (connection->error || connection->shutdown_wanted)
        return -EPIPE;
    ASSERT(connection->file_left == 0 || bytes.len == 0);
    if (bytes.len == 0)
        return 0;
    int r = queue_reserve(&connection->output, bytes.len);
    if (r < 0)
        return r == -EMSGSIZE ? -ENOBUFS : r;
    buffer_append_slice(&connection->output.bytes, bytes);
    connection->drained_due = true;
    loop_defer_schedule(&connection->defer);
    return 0;
}

int connection_write(struct connection *connection, struct slice bytes) {
    if (bytes.len > HTTP_OUTPUT_BYTES_MAX || connection_pending(connection) > HTTP_OUTPUT_BYTES_MAX - bytes.len)
        return connection->error || connection->shutdown_wanted ? -EPIPE : -ENOBUFS;
    return connection_write_forced(connection, bytes);
}

int connection_write_file(struct connection *connection, int fd, int64_t offset, int64_t len) {
    ASSERT(connection->file_left == 0);
    if (connection->error || connection->shutdown_wanted || len <= 0) {
        close(fd);
        return len == 0 ? 0 : -EPIPE;
    }
    connection->file_fd = fd;
    connection->file_offset = offset;
    connection->file_left = len;
    connection->drained_due = true;
    loop_defer_schedule(&connection->defer);
    return 0;
}

size_t connection_pending(const struct connection *connection) {
    return queue_len(&connection->wire) + queue_len(&connection->output);
}

bool connection_is_drained(const struct connection *connection) {
    return !has_output(connection);
}

void connection_shutdown(struct connection *connection) {
    connection->shutdown_wanted = true;
    loop_defer_schedule(&connection->defer);
}

bool connection_is_open(const struct connection *connection) {
    return !connection->connecting && connection->handshaken && !connection->error;
}

int64_t connection_progress_ns(const struct connection *connection) {
    return connection->progress_ns;
}

struct tls_session *connection_tls(const struct connection *connection) {
    return connection->tls;
}

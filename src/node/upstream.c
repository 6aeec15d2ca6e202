/* Questions that are passed on to the host's name servers, as they came.
 *
 * 1. Each attempt has a socket of its own (so a random port), connected (so only that server is heard), and a random id; an answer must repeat the
 *    question byte for byte. What does not match is dropped and the wait goes on: guessing must hit port, id and letters' case together.
 * 2. At most UPSTREAM_REQUESTS_MAX at once, each at most ATTEMPTS_MAX times ATTEMPT_MS: pods cannot make the node hold more.
 * 3. /etc/resolv.conf is looked at again when a question comes and the file has changed: nothing watches, nothing polls.
 * A question that came over TCP goes on over TCP: its asker wants what does not fit. Not cached: resolvers and the host's server do that. */
#include <netdb.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "codec/codec.h"
#include "node/nameserver_priv.h"

#define ATTEMPT_MS 2000
#define ATTEMPTS_MAX 3
#define ATTEMPTS_MIN 2
#define FRAME_BYTES 2
#define RESOLV_BYTES_MAX (64 * KIB)

struct upstream {
    struct loop *loop;
    const char *resolv_path;
    char own[INET_ADDRSTRLEN];
    struct sys_address servers[UPSTREAM_SERVERS_MAX];
    size_t servers_count;
    struct stat read; /* of the file when it was read */
    struct list requests;
    unsigned requests_count;
};

struct upstream_request {
    struct list node;
    struct upstream *upstream;
    upstream_fn *on_done;
    void *userdata;
    struct buffer query; /* with TCP's length in front */
    struct buffer reply; /* TCP: what came so far */
    size_t sent;
    unsigned attempts;
    uint16_t id; /* the asker's */
    bool tcp;
    int fd;
    struct loop_io *io;
    struct loop_timer timer;
};

/* --- servers --- */

static bool parse_server(const char *text, struct sys_address *ret) {
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM};
    struct addrinfo *found = NULL;
    if (getaddrinfo(text, "53", &hints, &found) != 0)
        return false;
    memcpy(&ret->storage, found->ai_addr, found->ai_addrlen);
    ret->len = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

static int read_servers(struct upstream *upstream) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(RESOLV_BYTES_MAX + 1);
    struct resolv resolv;
    int r = arena ? sys_read_file(AT_FDCWD, upstream->resolv_path, RESOLV_BYTES_MAX, &text) : -ENOMEM;
    if (r == 0)
        r = resolv_parse(buffer_slice(&text), true, arena, &resolv);
    if (r < 0)
        return r;
    upstream->servers_count = 0;
    for (size_t i = 0; i < resolv.nameservers_count; i++)
        if (strcmp(resolv.nameservers[i], upstream->own) != 0 && parse_server(resolv.nameservers[i], &upstream->servers[upstream->servers_count]))
            upstream->servers_count++;
    return 0;
}

static void refresh_servers(struct upstream *upstream) {
    struct stat now;
    if (stat(upstream->resolv_path, &now) < 0)
        return;
    const struct stat *read = &upstream->read;
    if (now.st_ino == read->st_ino && now.st_size == read->st_size && now.st_mtim.tv_sec == read->st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == read->st_mtim.tv_nsec)
        return;
    if (read_servers(upstream) == 0)
        upstream->read = now;
}

/* --- requests --- */

static void hang_up(struct upstream_request *request) {
    loop_timer_cancel(&request->timer);
    if (request->io)
        loop_io_free(request->io);
    request->io = NULL;
    if (request->fd >= 0)
        close(TAKE_FD(request->fd));
}

static void request_free(struct upstream_request *request) {
    hang_up(request);
    list_remove(&request->node);
    request->upstream->requests_count--;
    buffer_deinit(&request->query);
    buffer_deinit(&request->reply);
    free(request);
}

void upstream_cancel(struct upstream_request *request) {
    if (request)
        request_free(request);
}

static void finish(struct upstream_request *request, char *answer, size_t len) {
    hang_up(request);
    if (len) {
        answer[0] = (char)(request->id >> 8);
        answer[1] = (char)request->id;
    }
    request->on_done(request->userdata, slice_make(answer, len));
    request_free(request);
}

static struct slice asked(const struct upstream_request *request) {
    return slice_from(buffer_slice(&request->query), FRAME_BYTES);
}

static void on_ready(void *userdata, uint32_t events);

static int try_server(struct upstream_request *request, const struct sys_address *server) {
    int type = (request->tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
    request->fd = socket(server->storage.ss_family, type, 0);
    if (request->fd < 0)
        return -errno;
    if (connect(request->fd, (const struct sockaddr *)&server->storage, server->len) < 0 && errno != EINPROGRESS)
        return -errno;
    sys_random(request->query.data + FRAME_BYTES, 2);
    request->sent = 0;
    buffer_reset(&request->reply);
    if (!request->tcp && send(request->fd, asked(request).data, asked(request).len, MSG_NOSIGNAL) < 0)
        return -errno;
    int r = loop_io_new(request->upstream->loop, request->fd, request->tcp ? EPOLLOUT : EPOLLIN, on_ready, request, &request->io);
    return r < 0 ? r : loop_timer_set(&request->timer, ATTEMPT_MS);
}

static int next_attempt(struct upstream_request *request) {
    const struct upstream *upstream = request->upstream;
    unsigned max = MIN(MAX((unsigned)upstream->servers_count, ATTEMPTS_MIN), ATTEMPTS_MAX);
    int r = -EHOSTUNREACH;
    hang_up(request);
    while (upstream->servers_count && request->attempts < max) {
        r = try_server(request, &upstream->servers[request->attempts++ % upstream->servers_count]);
        if (r == 0)
            return 0;
        hang_up(request);
    }
    return r < 0 ? r : -EHOSTUNREACH;
}

static void retry(struct upstream_request *request) {
    if (next_attempt(request) < 0)
        finish(request, NULL, 0);
}

static void on_timeout(void *userdata) {
    retry(userdata);
}

static void read_datagrams(struct upstream_request *request) {
    char bytes[DNS_MESSAGE_BYTES_MAX];
    for (;;) {
        ssize_t len = recv(request->fd, bytes, sizeof bytes, 0);
        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0 && errno == EAGAIN)
            return;
        if (len < 0)
            return retry(request); /* refused: the next server */
        if (dns_is_answer_to(slice_make(bytes, (size_t)len), asked(request)))
            return finish(request, bytes, (size_t)len);
    }
}

static void send_stream(struct upstream_request *request) {
    struct slice rest = slice_from(buffer_slice(&request->query), request->sent);
    ssize_t len = send(request->fd, rest.data, rest.len, MSG_NOSIGNAL);
    if (len < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (len < 0)
        return retry(request);
    request->sent += (size_t)len;
    if (request->sent == request->query.len && loop_io_set(request->io, EPOLLIN) < 0)
        retry(request);
}

static void read_stream(struct upstream_request *request) {
    struct buffer *reply = &request->reply;
    if (buffer_reserve(reply, 4 * KIB) < 0)
        return retry(request);
    ssize_t len = recv(request->fd, reply->data + reply->len, 4 * KIB, 0);
    if (len < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (len <= 0)
        return retry(request);
    buffer_commit(reply, (size_t)len);
    if (reply->len < FRAME_BYTES)
        return;
    size_t whole = (size_t)((uint8_t)reply->data[0] << 8 | (uint8_t)reply->data[1]);
    if (reply->len < FRAME_BYTES + whole)
        return;
    if (!dns_is_answer_to(slice_make(reply->data + FRAME_BYTES, whole), asked(request)))
        return retry(request);
    finish(request, reply->data + FRAME_BYTES, whole);
}

static void on_ready(void *userdata, __attribute__((unused)) uint32_t events) {
    struct upstream_request *request = userdata;
    if (!request->tcp)
        read_datagrams(request);
    else if (request->sent < request->query.len)
        send_stream(request);
    else
        read_stream(request);
}

int upstream_ask(struct upstream *upstream, struct slice message, bool tcp, upstream_fn *on_done, void *userdata, struct upstream_request **ret) {
    if (upstream->requests_count >= UPSTREAM_REQUESTS_MAX)
        return -EBUSY;
    refresh_servers(upstream);
    struct upstream_request *request = calloc(1, sizeof *request);
    if (!request)
        return -ENOMEM;
    *request = (struct upstream_request){.upstream = upstream, .on_done = on_done, .userdata = userdata, .tcp = tcp, .fd = -1};
    request->query = BUFFER_INIT(FRAME_BYTES + DNS_MESSAGE_BYTES_MAX);
    request->reply = BUFFER_INIT(FRAME_BYTES + DNS_MESSAGE_BYTES_MAX + 8 * KIB);
    request->id = (uint16_t)((uint8_t)message.data[0] << 8 | (uint8_t)message.data[1]);
    loop_timer_init(&request->timer, upstream->loop, on_timeout, request);
    list_push(&upstream->requests, &request->node);
    upstream->requests_count++;
    buffer_append_byte(&request->query, (char)(message.len >> 8));
    buffer_append_byte(&request->query, (char)message.len);
    int r = buffer_append_slice(&request->query, message);
    if (r == 0)
        r = next_attempt(request);
    if (r < 0)
        request_free(request);
    else
        *ret = request;
    return r;
}

int upstream_new(struct loop *loop, const char *resolv_path, const char *own, struct upstream **ret) {
    struct upstream *upstream = calloc(1, sizeof *upstream);
    if (!upstream)
        return -ENOMEM;
    upstream->loop = loop;
    upstream->resolv_path = resolv_path;
    snprintf(upstream->own, sizeof upstream->own, "%s", own);
    list_init(&upstream->requests);
    *ret = upstream;
    return 0;
}

void upstream_free(struct upstream *upstream) {
    if (!upstream)
        return;
    LIST_FOREACH(at, &upstream->requests)
    request_free(CONTAINER_OF(at, struct upstream_request, node));
    free(upstream);
}

/* The name server of the pods: port 53 of the bridge's address, UDP and TCP.
 *
 * 1. Only sources in the pods' network are answered (the host itself comes from the bridge's address): nobody outside may use it as an open resolver.
 * 2. Names of the cluster are answered at once out of the informers (names.c, podnet's answers); before these are complete with SERVFAIL, so that a
 *    resolver asks again instead of believing that a service does not exist. Other names are passed on (upstream.c).
 * 3. A question over UDP holds memory only while it waits for an upstream; a connection takes one question at a time and ends after IDLE_MS.
 * 4. A taken port is no failure of the node: pods are given the host's name servers then (resolv.c asks whether node->nameserver is there). */
#include <netinet/in.h>
#include <sys/epoll.h>

#include "codec/codec.h"
#include "node/nameserver_priv.h"

#define CONNECTIONS_MAX 64
#define DATAGRAMS_PER_TURN 64
#define IDLE_MS 10000
#define QUERY_BYTES_MAX (4 * KIB)
#define FRAME_BYTES 2
#define ANSWER_ARENA_BYTES_MAX (4 * MIB)

struct nameserver {
    struct node *node;
    struct podnet_dns_source source;
    struct upstream *upstream;
    int udp_fd, tcp_fd;
    struct loop_io *udp_io, *tcp_io;
    struct list waiting, connections;
    unsigned connections_count;
};

/* A question over UDP whose answer comes from upstream. */
struct waiting {
    struct list node;
    struct nameserver *server;
    struct upstream_request *request;
    struct sockaddr_in peer;
    struct buffer query;
};

struct connection {
    struct list node;
    struct nameserver *server;
    int fd;
    struct loop_io *io;
    struct loop_timer idle;
    struct buffer in, out;
    size_t query_bytes; /* of the question at the front of `in` that waits for upstream */
    struct upstream_request *request;
};

/* --- answers --- */

static int format_rcode(struct slice message, const struct dns_query *query, enum dns_rcode rcode, struct buffer *out) {
    const struct dns_answer answer = {.rcode = rcode};
    return dns_format_answer(message, query, &answer, DNS_UDP_BYTES, out);
}

static int format_failure(struct slice message, struct buffer *out) {
    struct dns_query query;
    int r = dns_parse_query(message, &query);
    return r < 0 ? r : format_rcode(message, &query, DNS_RCODE_SERVFAIL, out);
}

/* 0 with the answer in `out`; PODNET_DNS_FORWARD; negative: say nothing. */
static int answer(const struct nameserver *server, struct slice message, bool tcp, struct buffer *out) {
    const struct node *node = server->node;
    struct dns_query query;
    struct dns_answer found;
    int r = dns_parse_query(message, &query);
    if (r != 0)
        return r < 0 ? r : format_rcode(message, &query, (enum dns_rcode)r, out);
    CLEANUP(arena_freep) struct arena *arena = arena_new(ANSWER_ARENA_BYTES_MAX);
    r = arena ? podnet_dns_answer(&server->source, &query, arena, &found) : -ENOMEM;
    if (r == PODNET_DNS_FORWARD)
        return r;
    bool known = informer_synced(node->services_informer) && informer_synced(node->slices_informer);
    if (r == 0 && known)
        r = dns_format_answer(message, &query, &found, tcp ? DNS_MESSAGE_BYTES_MAX : query.udp_bytes_max, out);
    else
        r = -EAGAIN;
    return r == 0 ? 0 : format_rcode(message, &query, DNS_RCODE_SERVFAIL, out);
}

/* --- UDP --- */

static void send_datagram(const struct nameserver *server, struct slice bytes, const struct sockaddr_in *peer) {
    /* What the socket does not take is lost, as datagrams are: the resolver asks again. */
    (void)!sendto(server->udp_fd, bytes.data, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT, (const struct sockaddr *)peer, sizeof *peer);
}

static void waiting_free(struct waiting *waiting) {
    list_remove(&waiting->node);
    upstream_cancel(waiting->request);
    buffer_deinit(&waiting->query);
    free(waiting);
}

static void on_datagram_answered(void *userdata, struct slice bytes) {
    struct waiting *waiting = userdata;
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(DNS_MESSAGE_BYTES_MAX);
    struct dns_query query;
    waiting->request = NULL;
    int r = dns_parse_query(buffer_slice(&waiting->query), &query);
    if (r == 0 && bytes.len == 0)
        r = format_rcode(buffer_slice(&waiting->query), &query, DNS_RCODE_SERVFAIL, &out);
    else if (r == 0 && bytes.len > DNS_UDP_BYTES && !query.has_edns) /* else upstream kept to what the question allows */
        r = dns_format_truncated(bytes, &out);
    else if (r == 0)
        r = buffer_append_slice(&out, bytes);
    if (r == 0)
        send_datagram(waiting->server, buffer_slice(&out), &waiting->peer);
    waiting_free(waiting);
}

static int forward_datagram(struct nameserver *server, struct slice message, const struct sockaddr_in *peer) {
    struct waiting *waiting = calloc(1, sizeof *waiting);
    if (!waiting)
        return -ENOMEM;
    *waiting = (struct waiting){.server = server, .peer = *peer, .query = BUFFER_INIT(QUERY_BYTES_MAX)};
    list_push(&server->waiting, &waiting->node);
    int r = buffer_append_slice(&waiting->query, message);
    if (r == 0)
        r = upstream_ask(server->upstream, message, false, on_datagram_answered, waiting, &waiting->request);
    if (r < 0)
        waiting_free(waiting);
    return r;
}

static bool is_ours(const struct nameserver *server, const struct sockaddr_in *peer) {
    return peer->sin_family == AF_INET && (ntohl(peer->sin_addr.s_addr) & server->source.masks[0]) == server->source.networks[0];
}

static void on_datagram(struct nameserver *server, struct slice message, const struct sockaddr_in *peer) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(DNS_MESSAGE_BYTES_MAX);
    int r = answer(server, message, false, &out);
    if (r == PODNET_DNS_FORWARD) {
        r = forward_datagram(server, message, peer);
        if (r == 0)
            return;
        r = format_failure(message, &out);
    }
    if (r == 0)
        send_datagram(server, buffer_slice(&out), peer);
}

static void on_udp(void *userdata, __attribute__((unused)) uint32_t events) {
    struct nameserver *server = userdata;
    char bytes[QUERY_BYTES_MAX];
    for (int i = 0; i < DATAGRAMS_PER_TURN; i++) {
        struct sockaddr_in peer = {0};
        socklen_t peer_len = sizeof peer;
        ssize_t len = recvfrom(server->udp_fd, bytes, sizeof bytes, MSG_TRUNC, (struct sockaddr *)&peer, &peer_len);
        if (len < 0)
            return;
        if ((size_t)len <= sizeof bytes && is_ours(server, &peer))
            on_datagram(server, slice_make(bytes, (size_t)len), &peer);
    }
}

/* --- TCP --- */

static void connection_free(struct connection *connection) {
    list_remove(&connection->node);
    connection->server->connections_count--;
    upstream_cancel(connection->request);
    loop_timer_cancel(&connection->idle);
    if (connection->io)
        loop_io_free(connection->io);
    close(connection->fd);
    buffer_deinit(&connection->in);
    buffer_deinit(&connection->out);
    free(connection);
}

static void on_idle(void *userdata) {
    connection_free(userdata);
}

static bool is_whole(const struct connection *connection, size_t *ret_bytes) {
    const struct buffer *in = &connection->in;
    if (in->len < FRAME_BYTES)
        return false;
    *ret_bytes = (size_t)((uint8_t)in->data[0] << 8 | (uint8_t)in->data[1]);
    return in->len >= FRAME_BYTES + *ret_bytes;
}

/* The answer is in `out` from `begin` on, behind the place of its length. */
static void end_frame(struct buffer *out, size_t begin) {
    size_t len = out->len - begin - FRAME_BYTES;
    out->data[begin] = (char)(len >> 8);
    out->data[begin + 1] = (char)len;
}

static void on_stream_answered(void *userdata, struct slice bytes);

/* Each step answers at most the question at the front; negative: the connection is of no use any more. */
static int take_question(struct connection *connection, size_t bytes) {
    struct nameserver *server = connection->server;
    struct slice message = slice_make(connection->in.data + FRAME_BYTES, bytes);
    int r = buffer_append(&connection->out, "\0\0", FRAME_BYTES);
    if (r == 0)
        r = answer(server, message, true, &connection->out);
    if (r == PODNET_DNS_FORWARD) {
        connection->query_bytes = bytes;
        r = upstream_ask(server->upstream, message, true, on_stream_answered, connection, &connection->request);
        if (r == 0) {
            buffer_reset(&connection->out);
            return 0;
        }
        r = format_failure(message, &connection->out);
    }
    if (r == 0)
        end_frame(&connection->out, 0);
    buffer_consume(&connection->in, FRAME_BYTES + bytes);
    return r;
}

static int flush(struct connection *connection) {
    while (connection->out.len) {
        ssize_t len = send(connection->fd, connection->out.data, connection->out.len, MSG_NOSIGNAL);
        if (len < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        buffer_consume(&connection->out, (size_t)len);
    }
    return 0;
}

static int fill_input(struct connection *connection) {
    int r = buffer_reserve(&connection->in, QUERY_BYTES_MAX - MIN(connection->in.len, (size_t)QUERY_BYTES_MAX));
    if (r < 0 || connection->in.len >= QUERY_BYTES_MAX)
        return r < 0 ? r : -EMSGSIZE;
    ssize_t len = recv(connection->fd, connection->in.data + connection->in.len, QUERY_BYTES_MAX - connection->in.len, 0);
    if (len < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (len == 0)
        return -EPIPE;
    buffer_commit(&connection->in, (size_t)len);
    return 0;
}

/* Answers what is there as far as the peer takes it, then says what to wait for. */
static void step(struct connection *connection) {
    size_t bytes;
    int r = flush(connection);
    while (r == 0 && !connection->request && !connection->out.len && is_whole(connection, &bytes)) {
        r = take_question(connection, bytes);
        if (r == 0)
            r = flush(connection);
    }
    if (r == 0)
        r = loop_io_set(connection->io, connection->out.len ? EPOLLOUT : connection->request ? 0 : EPOLLIN);
    if (r == 0)
        r = loop_timer_set(&connection->idle, IDLE_MS);
    if (r < 0)
        connection_free(connection);
}

static void on_stream_answered(void *userdata, struct slice bytes) {
    struct connection *connection = userdata;
    struct slice message = slice_make(connection->in.data + FRAME_BYTES, connection->query_bytes);
    connection->request = NULL;
    buffer_append(&connection->out, "\0\0", FRAME_BYTES);
    int r = bytes.len ? buffer_append_slice(&connection->out, bytes) : format_failure(message, &connection->out);
    if (r < 0)
        return connection_free(connection);
    end_frame(&connection->out, 0);
    buffer_consume(&connection->in, FRAME_BYTES + connection->query_bytes);
    step(connection);
}

static void on_stream(void *userdata, uint32_t events) {
    struct connection *connection = userdata;
    if ((events & ~(uint32_t)EPOLLOUT) && !connection->out.len && fill_input(connection) < 0)
        return connection_free(connection);
    step(connection);
}

static void on_tcp(void *userdata, __attribute__((unused)) uint32_t events) {
    struct nameserver *server = userdata;
    struct sockaddr_in peer = {0};
    socklen_t peer_len = sizeof peer;
    CLEANUP(fd_closep) int fd = accept4(server->tcp_fd, (struct sockaddr *)&peer, &peer_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 || !is_ours(server, &peer) || server->connections_count == CONNECTIONS_MAX)
        return;
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return;
    *connection = (struct connection){.server = server, .fd = TAKE_FD(fd), .in = BUFFER_INIT(2 * QUERY_BYTES_MAX)};
    connection->out = BUFFER_INIT(FRAME_BYTES + DNS_MESSAGE_BYTES_MAX);
    list_push(&server->connections, &connection->node);
    server->connections_count++;
    loop_timer_init(&connection->idle, server->node->loop, on_idle, connection);
    int r = loop_io_new(server->node->loop, connection->fd, EPOLLIN, on_stream, connection, &connection->io);
    if (r == 0)
        r = loop_timer_set(&connection->idle, IDLE_MS);
    if (r < 0)
        connection_free(connection);
}

/* --- life --- */

static int listen_both(struct nameserver *server, const char *text) {
    struct sys_address address;
    int r = sys_address_parse(text, &address);
    if (r < 0)
        return r;
    server->udp_fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (server->udp_fd < 0 || bind(server->udp_fd, (const struct sockaddr *)&address.storage, address.len) < 0)
        return -errno;
    r = server->tcp_fd = sys_listen(&address, 64, 0);
    if (r >= 0)
        r = loop_io_new(server->node->loop, server->udp_fd, EPOLLIN, on_udp, server, &server->udp_io);
    return r < 0 ? r : loop_io_new(server->node->loop, server->tcp_fd, EPOLLIN, on_tcp, server, &server->tcp_io);
}

void nameserver_start(struct node *node) {
    char text[32];
    struct nameserver *server = calloc(1, sizeof *server);
    int r = server ? 0 : -ENOMEM;
    snprintf(text, sizeof text, "%s:53", podnet_gateway(node->podnet));
    node->nameserver = server;
    if (r == 0) {
        *server = (struct nameserver){.node = node, .udp_fd = -1, .tcp_fd = -1};
        list_init(&server->waiting);
        list_init(&server->connections);
        names_init(&server->source, node);
        r = upstream_new(node->loop, "/etc/resolv.conf", podnet_gateway(node->podnet), &server->upstream);
    }
    if (r == 0)
        r = listen_both(server, text);
    if (r == 0)
        return;
    log_warning("cannot serve names to pods on %s: %s; they get the host's name servers and cannot find services by name%s", text, strerror(-r),
                r == -EADDRINUSE ? "; another name server listens there or on every address: bind it to its own and restart" : "");
    nameserver_stop(node);
}

void nameserver_stop(struct node *node) {
    struct nameserver *server = TAKE(node->nameserver);
    if (!server)
        return;
    LIST_FOREACH(at, &server->waiting)
    waiting_free(CONTAINER_OF(at, struct waiting, node));
    LIST_FOREACH(at, &server->connections)
    connection_free(CONTAINER_OF(at, struct connection, node));
    upstream_free(server->upstream);
    if (server->udp_io)
        loop_io_free(server->udp_io);
    if (server->tcp_io)
        loop_io_free(server->tcp_io);
    fd_closep(&server->udp_fd);
    fd_closep(&server->tcp_fd);
    free(server);
}

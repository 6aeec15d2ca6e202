/* The engine's inside: what its files share. Reading order: deadline.c, upstream.c, client.c (connections and heads), exchange.c (one request:
 * dispatch, retry, hold, end), relay.c (moving bytes), meter.c, proxy.c. */
#ifndef TIDEMILL_PROXY_PRIV_H
#define TIDEMILL_PROXY_PRIV_H

#include "codec/codec.h"
#include "proxy/balancer_priv.h"
#include "proxy/head_priv.h"
#include "proxy/proxy.h"
#include "proxy/route_priv.h"

/* --- deadlines: everything of one kind has the same timeout, so a queue in order of arrival is sorted by itself: arming and moving are O(1), and one
 * timer serves all --- */

enum deadline_kind {
    DEADLINE_NONE,
    DEADLINE_HEAD,
    DEADLINE_IDLE,
    DEADLINE_CONNECT,
    DEADLINE_RESPONSE,
    DEADLINE_TRANSFER,
    DEADLINE_TUNNEL,
    DEADLINE_HOLD,
    DEADLINE_REFUSED, /* held because every endpoint refused to connect */
    DEADLINE_LINGER,
    DEADLINE_UPSTREAM_IDLE,
    DEADLINE_KINDS,
};

struct deadline {
    struct list node;
    int64_t at_ns;
};

struct deadline_queue {
    struct proxy *proxy;
    enum deadline_kind kind;
    int64_t timeout_ns;
    struct list head;
    struct loop_timer timer;
};

void deadline_queue_init(struct deadline_queue *queue, struct proxy *proxy, enum deadline_kind kind, int64_t timeout_ms);
void deadline_queue_deinit(struct deadline_queue *queue);
/* (Re)arms: moves to the end of the queue. */
void deadline_arm(struct deadline_queue *queue, struct deadline *deadline);

/* --- metering: one per upstream, one for what no route matched --- */

#define METER_BUCKETS 12
struct meter {
    uint64_t requests[6];         /* by status / 100; 0: the client left before an answer */
    uint64_t bytes_in, bytes_out; /* bodies and heads on the client's side */
    uint64_t latency_buckets[METER_BUCKETS + 1];
    uint64_t latency_sum_ns;
    uint32_t in_flight;
};
void meter_count(struct meter *meter, int status, int64_t duration_ns);

/* --- upstreams --- */

struct link;

struct endpoint {
    struct balancer_view view; /* view.ready: takes new requests */
    struct sys_address address;
    struct proxy_upstream *upstream; /* NULL once it is gone */
    unsigned references;             /* of the upstream, and one per link */
    struct list idle;                /* links, most recently used first */
    size_t idle_count;
};

struct proxy_upstream {
    unsigned references;
    struct proxy *proxy; /* NULL after proxy_free */
    char *name;          /* "namespace/service:port" */
    char *namespace, *service, *port;
    VECTOR(struct endpoint *) endpoints;
    struct list held; /* exchanges */
    struct meter meter;
};

/* A connection to an endpoint: serves one exchange at a time or waits in the endpoint's pool. */
struct link {
    struct list node;
    struct deadline deadline; /* in the pool */
    struct proxy *proxy;
    struct endpoint *endpoint; /* a reference */
    struct exchange *exchange;
    struct loop_io *io;
    int64_t idle_since_ns;
    int fd;
    bool connected, readable, writable, hangup, reused;
};

/* A kept connection, or a new one whose connect is under way; 0 or negative errno. fresh: never a kept one; recent: only one that was used within a
 * second. */
int link_open(struct endpoint *endpoint, bool fresh, bool recent, struct link **ret);
/* Into the pool, or closed when the endpoint is gone or the pool full. */
void link_keep(struct link *link);
void link_close(struct link *link);
struct endpoint *upstream_pick(struct proxy_upstream *upstream, uint32_t request_id);
/* The proxy goes away: no connection of the upstream may stay. */
void upstream_detach(struct proxy_upstream *upstream);

/* --- clients --- */

enum client_state { CLIENT_IDLE, CLIENT_HEAD, CLIENT_EXCHANGE, CLIENT_LINGER };

/* An idle connection is this and its loop_io, nothing more. */
struct client {
    struct list node;
    struct deadline deadline;
    struct proxy *proxy;
    struct loop_io *io;
    struct exchange *exchange; /* NULL while idle */
    int fd;
    uint8_t state;         /* enum client_state */
    uint8_t deadline_kind; /* enum deadline_kind */
    uint8_t family;        /* AF_INET, AF_INET6, other: unix */
    bool secure, readable, writable, hangup;
    uint8_t address[16];
};

#define ADDRESS_TEXT_BYTES 48
/* The client's address as text; returns its length. */
size_t client_address_format(const struct client *client, char text[ADDRESS_TEXT_BYTES]);
void client_on_ready(void *userdata, uint32_t events);
int downstream_new(struct proxy *proxy, int fd, bool secure, const struct sockaddr_storage *address);
void client_close(struct client *client);
/* Closes after the peer has had time to read what was sent. */
void client_linger(struct client *client);
void client_set_deadline(struct client *client, enum deadline_kind kind);
/* The exchange ended and the connection stays: idle, or on with what was pipelined. */
void client_next(struct client *client);
/* Reads and takes heads as far as there are bytes. May free the client. */
void client_read_heads(struct client *client);
void client_on_deadline(struct client *client);

/* --- exchanges --- */

/* One request and its response. */
struct exchange {
    struct client *client;
    struct list again;               /* in proxy->again: more to do in the next turn */
    struct list held;                /* in upstream->held */
    struct proxy_upstream *upstream; /* a reference; NULL before the route is known */
    struct link *link;
    uint32_t id;
    uint8_t attempts;
    int64_t started_ns;
    int64_t held_since_ns; /* 0: never held */
    char request_id[33];

    /* client → upstream */
    struct buffer input; /* bytes of the client which nobody took yet: a partial head, a body that must wait, pipelined requests */
    struct http1_scan scan;
    struct buffer request; /* for the upstream: head and framed body; kept from its start while `replayable` */
    size_t request_sent;
    uint64_t request_left; /* of a body with a length */
    struct http1_chunked request_chunked;
    uint8_t request_framing; /* enum http1_framing; UNTIL_CLOSE: a tunnel */
    bool replayable, idempotent, head_request, old_client /* HTTP/1.0 */, keep_alive, upgrade, fresh_only;
    bool request_complete; /* the whole body was taken from the client */
    bool request_broken;   /* the upstream takes no more of it */
    bool request_shut;     /* a tunnel's direction is closed */

    /* upstream → client */
    struct buffer response_input; /* a partial head */
    struct http1_scan response_scan;
    struct buffer response; /* for the client */
    size_t response_sent;
    uint64_t response_left;
    struct http1_chunked response_chunked;
    uint8_t response_framing;
    bool answered;          /* a byte of the response came */
    bool response_started;  /* its final head was written for the client */
    bool response_complete; /* all of it is in the buffer or sent */
    bool response_chunks;   /* we frame the body as chunks */
    bool response_shut;
    bool upstream_reusable, tunnel;
    bool counted; /* in flight */
    bool doomed;  /* both connections are to break */
    int status;
};

struct exchange *relay_exchange_new(struct client *client);
/* Ready for the connection's next request: keeps `input`. */
void exchange_reset(struct exchange *exchange);
/* Forgets the exchange; its link is closed. */
void relay_exchange_free(struct exchange *exchange);
/* A head is complete: routes, builds the upstream's head, dispatches. */
void exchange_begin(struct exchange *exchange, const struct http1_head *head);
/* Moves what can be moved and acts on what follows. May free exchange and client. */
void exchange_run(struct exchange *exchange);
/* Answers with a page of our own (unless a response has started: then both connections are to break). Frees nothing; follow with exchange_run. */
void exchange_fail(struct exchange *exchange, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Breaks both connections. Frees. */
void exchange_abort(struct exchange *exchange);
/* The attempt on the current link broke: goes elsewhere, holds or fails. Frees nothing. */
void exchange_attempt_broke(struct exchange *exchange, bool timed_out);
/* Finds an endpoint and a connection to it, or holds, or fails. Frees nothing. */
void exchange_dispatch(struct exchange *exchange);
void exchange_on_deadline(struct exchange *exchange, enum deadline_kind kind);

/* --- relay: moving bytes. Each returns true when it made progress. They free nothing: what breaks is noted in the exchange --- */

bool relay_request(struct exchange *exchange);
bool relay_response(struct exchange *exchange);
/* Frames body bytes of the client into `request`; returns how many it took, or -EBADMSG, or the buffer's error. */
ptrdiff_t relay_take_body(struct exchange *exchange, struct slice bytes);

/* --- the proxy --- */

#define EXCHANGES_CACHED_MAX 64
#define BUFFER_KEPT_BYTES (4 * KIB)

struct listener {
    struct proxy *proxy;
    struct loop_io *io;
    int fd;
    bool secure;
};

struct proxy {
    struct loop *loop;
    struct proxy_options options;
    struct proxy_routes *routes;
    struct map *upstreams; /* name → upstream, borrowed */
    VECTOR(struct listener *) listeners;
    struct list clients;
    struct deadline_queue deadlines[DEADLINE_KINDS];
    struct list again; /* exchanges */
    struct loop_timer again_timer;
    struct loop_timer refused_timer; /* another try for requests whose endpoints all refused */
    struct loop_timer accept_timer;  /* accepting goes on after an error */
    struct exchange *cache[EXCHANGES_CACHED_MAX];
    size_t cache_count;
    uint64_t random_state;
    uint32_t next_id;
    bool draining;
    bool accept_paused;
    void (*on_drained)(void *userdata);
    void *drain_userdata;
    struct loop_timer drain_timer;
    struct loop_defer drained;
    struct meter unmatched;
    struct proxy_stats stats;
    char scratch[PROXY_BUFFER_BYTES + 2 * KIB]; /* a head and 32 KB of body in one read: 64 KB bodies take two reads, not three */
    char path_scratch[HTTP_TARGET_BYTES_MAX];
};

uint64_t proxy_random(struct proxy *proxy);
void proxy_again(struct proxy *proxy, struct exchange *exchange);
/* A client is gone: accept again, or report that draining is complete. */
void proxy_on_client_gone(struct proxy *proxy);
/* A client became idle: it can make room for another. */
void proxy_on_client_idle(struct proxy *proxy);
void upstream_hold_wake(struct proxy_upstream *upstream, bool refused_only);

#endif

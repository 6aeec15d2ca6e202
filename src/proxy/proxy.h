/* The gateway's engine: an HTTP/1.1 reverse proxy on the event loop. It knows hosts, paths, services and endpoints, not Kubernetes: the role
 * translates.
 *
 *   client ──► listener ──► route (host, path) ──► upstream (a service port) ──► balancer ──► endpoint (a pod) ──► kept connections
 *
 * What it promises: a request is answered once or told why not; a connect failure goes to another endpoint; an endpoint that leaves finishes what it
 * has; a request that finds no ready endpoint is held for one (hold_timeout_ms) before it gets 503; only complete and valid heads are forwarded;
 * memory per connection is bounded both ways (PROXY_BUFFER_BYTES) and an idle connection holds no buffer. Single-threaded, like the loop. */
#ifndef TIDEMILL_PROXY_H
#define TIDEMILL_PROXY_H

#include "base/base.h"
#include "loop/loop.h"
#include "sys/sys.h"

#define PROXY_BUFFER_BYTES (32 * KIB) /* one direction of one connection, beside a head of at most HTTP_HEAD_BYTES_MAX */

struct proxy;
struct proxy_upstream;
struct proxy_routes;

struct proxy_options {                /* 0 means the default in parentheses */
    int64_t head_timeout_ms;          /* from a request's first byte to the end of its head (30,000): slow heads do not live longer */
    int64_t idle_timeout_ms;          /* a kept client connection without a request (75,000) */
    int64_t connect_timeout_ms;       /* one attempt (2,000) */
    int64_t response_timeout_ms;      /* from the request sent to the response's head (60,000): 504 */
    int64_t transfer_timeout_ms;      /* a body without any progress (120,000) */
    int64_t tunnel_timeout_ms;        /* an upgraded connection without any byte (3,600,000) */
    int64_t hold_timeout_ms;          /* a request without a ready endpoint (10,000): 503 */
    int64_t upstream_idle_timeout_ms; /* a kept upstream connection (30,000) */
    size_t connections_max;           /* clients (8,000); beyond it the longest idle is closed, and when none is, accepting pauses */
    size_t holds_max;                 /* requests held at a time (1,000) */
    size_t upstream_idle_max;         /* kept connections per endpoint (64) */
    int64_t drain_idle_ms;            /* while draining, an idle client connection may still bring a request for so long (500) */
    bool trust_forwarded;             /* keep the X-Forwarded-* of the client: only behind another proxy. Otherwise they are replaced */
};

/* 0 or negative errno. */
int proxy_new(struct loop *loop, const struct proxy_options *options, struct proxy **ret);
/* Closes every connection at once. Upstreams and routes which the caller holds must be released before. NULL is fine. */
void proxy_free(struct proxy *proxy);

/* Serves a listening socket (non-blocking); the descriptor stays the caller's and must outlive the proxy. secure: X-Forwarded-Proto says https. */
int proxy_listen(struct proxy *proxy, int fd, bool secure);
/* Stops accepting, answers with `Connection: close`, lets requests in flight finish; on_drained runs once when no connection is left (never before
 * this returns). */
void proxy_drain(struct proxy *proxy, void (*on_drained)(void *userdata), void *userdata);

/* --- upstreams: live objects, reference counted, one per service port; they outlive route snapshots, so their connections and counters stay --- */

/* Finds or makes the upstream of a service port; *ret is a reference of the caller. 0 or -ENOMEM. */
int proxy_upstream_get(struct proxy *proxy, const char *namespace, const char *service, const char *port, struct proxy_upstream **ret);
struct proxy_upstream *proxy_upstream_ref(struct proxy_upstream *upstream);
void proxy_upstream_unref(struct proxy_upstream *upstream); /* NULL is fine */

struct proxy_endpoint_spec {
    struct sys_address address;
    bool ready; /* takes new requests: the pod is ready and not terminating */
};
/* The whole set, each address once. Those that are no longer there, or not ready, get no new requests; what they have in flight finishes, their idle
 * connections close. Requests held for the upstream go on when one is ready. 0 or -ENOMEM (then nothing changed). */
int proxy_upstream_set_endpoints(struct proxy_upstream *upstream, const struct proxy_endpoint_spec *endpoints, size_t count);

/* --- routes: an immutable snapshot --- */

enum proxy_path_type { PROXY_PATH_PREFIX, PROXY_PATH_EXACT }; /* ImplementationSpecific is PREFIX */
struct proxy_route {
    const char *host; /* "example.org", "*.example.org" (exactly one label), NULL or "": every host */
    const char *path; /* starts with '/'; NULL or "": "/" */
    enum proxy_path_type path_type;
    struct proxy_upstream *upstream; /* the snapshot takes a reference of its own; NULL: the backend does not exist: 503 */
    const char *backend;             /* "namespace/service:port", for the page that says what is missing; copied */
};
/* An empty snapshot, one reference; NULL without memory. */
struct proxy_routes *proxy_routes_new(void);
/* Adds a route; of two with the same host, path and type the first stays (0). A route without host and path type PREFIX "/" is the default backend.
 * -EINVAL: bad host or path; -ENOMEM. */
int proxy_routes_add(struct proxy_routes *routes, const struct proxy_route *route);
/* What answers when no route matches; the first stays. */
int proxy_routes_set_default(struct proxy_routes *routes, struct proxy_upstream *upstream, const char *backend);
size_t proxy_routes_count(const struct proxy_routes *routes);
void proxy_routes_unref(struct proxy_routes *routes); /* NULL is fine */
DEFINE_CLEANUP(struct proxy_routes, proxy_routes_unref)
/* Swaps the snapshot (takes over the caller's reference); requests in flight keep theirs. */
void proxy_set_routes(struct proxy *proxy, struct proxy_routes *routes);

/* --- metering --- */
struct proxy_stats {
    size_t connections, connections_idle, requests_in_flight, requests_held;
    uint64_t accepted, requests, malformed, retries, connect_failures, upstream_connections, upstream_reused;
};
void proxy_stats_get(const struct proxy *proxy, struct proxy_stats *ret);
/* Appends Prometheus text: the above and, per service, requests by code class, bytes, latency, in flight. */
int proxy_format_metrics(const struct proxy *proxy, struct buffer *out);

#endif

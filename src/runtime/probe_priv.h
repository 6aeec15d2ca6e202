/* What the runners share. */
#ifndef TIDEMILL_RUNTIME_PROBE_PRIV_H
#define TIDEMILL_RUNTIME_PROBE_PRIV_H

#include <stdio.h>

#include "http/http.h"
#include "runtime/probe.h"
#include "sys/sys.h"

#define PROBE_MESSAGE_BYTES 1024
#define PROBE_BODY_BYTES_MAX (10 * KIB) /* of an answer or a command's output; what is beyond is not read */
#define PROBE_REDIRECTS_MAX 10

/* "http://host:port/path?query", taken apart. */
struct probe_url {
    bool tls;
    char host[256]; /* without brackets */
    uint16_t port;
    char target[2048]; /* encoded, begins with '/' */
};
/* path: a person's words; what cannot stand in a request is escaped, a fragment left out. -ENAMETOOLONG. */
int probe_url_make(bool tls, const char *host, uint16_t port, const char *path, struct probe_url *ret);
/* What a Location means, seen from `from`. -EINVAL when it is no URL of HTTP. *ret_absolute: it names a host. */
int probe_url_resolve(const struct probe_url *from, struct slice location, struct probe_url *ret, bool *ret_absolute);
void probe_url_format(const struct probe_url *url, char *ret, size_t size);
/* "host:port", with brackets where they belong. */
void probe_authority(const char *host, uint16_t port, char *ret, size_t size);

struct probe_lookup;
struct probe_run {
    struct loop *loop;
    probe_done_fn *on_done;
    void *userdata;
    enum probe_method method;
    char message[PROBE_MESSAGE_BYTES];
    enum probe_outcome outcome;
    int64_t timeout_ms;
    struct loop_timer timeout;
    struct loop_defer done;
    struct arena *arena;        /* of target's texts */
    struct probe_target target; /* our copy */
    char authority[300];
    struct sys_address address;
    struct probe_lookup *lookup;
    /* HTTP */
    struct probe_url url;
    unsigned redirects;
    int status;
    bool is_absolute; /* the last redirect named a host: the Host header that was asked for ends there */
    char location[2048];
    struct http_client *client;
    struct http_request *request;
    /* HTTP/2, gRPC */
    struct http2_call *call;
    /* TCP */
    int fd;
    struct loop_io *io;
    /* commands */
    struct exec *exec;
    struct buffer body; /* of an answer, or a command's output */
};

/* The address is known: goes on with HTTP or gRPC. */
int probe_http_start(struct probe_run *run);
int probe_grpc_start(struct probe_run *run);
/* What a run that exceeded its time failed of. */
void probe_http_timed_out(struct probe_run *run);
void probe_grpc_timed_out(struct probe_run *run);
/* Looks run->target.host up, then starts (again). */
int probe_connect(struct probe_run *run, const char *host, uint16_t port);

void probe_finish(struct probe_run *run, enum probe_outcome outcome);
void probe_finish_with(struct probe_run *run, enum probe_outcome outcome, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* "connect: connection refused" and the like, in Go's words. */
const char *probe_connect_error(int error);

/* The health service's answer: 0 and *ret_status, or -EBADMSG. */
int grpc_health_parse(struct slice body, uint64_t *ret_status);

#endif

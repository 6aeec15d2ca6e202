/* What server.c (connections), exchange.c (one request and its answer) and stream.c (a connection taken over) share. Private to http/. */
#ifndef TIDEMILL_HTTP_SERVER_PRIV_H
#define TIDEMILL_HTTP_SERVER_PRIV_H

#include "http/connection_priv.h"
#include "http/server.h"

#define DISCARD_BYTES_MAX (256 * KIB) /* of an unread body, to keep the connection; more of it costs the connection */

struct server_connection;

enum body_mode { BODY_WAITING, BODY_COLLECT, BODY_STREAM, BODY_DISCARD };
enum response_state { RESPONSE_NONE, RESPONSE_STREAMING, RESPONSE_ENDED };

struct http_exchange {
    struct server_connection *owner;
    struct arena *arena;
    struct http1_head head; /* slices point into the arena */

    enum body_mode body_mode;
    bool body_received; /* the last byte has been taken from the connection */
    bool body_told;     /* the reader knows: nothing more to call */
    bool body_paused;
    bool continue_due; /* the client waits for "100 Continue" */
    uint64_t body_left;
    struct http1_chunked chunked;
    struct buffer body;
    size_t discarded;
    void (*on_body)(void *userdata, struct http_exchange *exchange, struct slice body);
    void (*on_data)(void *userdata, struct http_exchange *exchange, struct slice data);
    void *body_userdata;

    enum response_state response;
    bool response_chunked, response_bodyless;
    bool close_after, aborted, upgraded;
    bool has_length;
    int64_t length_left;
    void (*on_drained)(void *userdata, struct http_exchange *exchange);
    void *on_drained_userdata;
    void (*on_close)(void *userdata, struct http_exchange *exchange, bool complete);
    void *on_close_userdata;
};

struct server_connection {
    struct list node;
    struct http_server *server;
    struct connection *connection; /* NULL once a stream has taken it */
    struct http_exchange *exchange;
    struct arena *identity; /* names of the client certificate; NULL: none */
    struct http_peer peer;
    char address[64];
    struct http1_scan scan;
    struct loop_defer defer; /* advance */
    struct loop_timer timer;
    int64_t timer_due_ns;
    int64_t head_start_ns;
    unsigned requests_count;
    bool identified;
    bool lingering;
    size_t lingered;
    int64_t linger_start_ns;
    bool *gone;
};

/* exchange.c */
/* Copies the head (and what its slices point to) into the exchange. -ENOMEM. */
int exchange_new(struct server_connection *owner, const struct http1_head *head, struct slice input, struct http_exchange **ret);
void exchange_free(struct http_exchange *exchange);
/* Moves the body on as far as input and reader allow; false when a callback ended the connection. */
bool exchange_pump_body(struct http_exchange *exchange);
/* An answer of the server's own to a request that could not be parsed: head and text, then the connection closes. */
void exchange_refuse(struct connection *connection, int status, const char *reason);

/* server.c */
/* Runs the connection's next step at the end of the turn. */
void server_connection_schedule(struct server_connection *owner);
bool server_is_draining(const struct http_server *server);
struct loop *server_loop(const struct http_server *server);
/* "Sun, 06 Nov 1994 08:49:37 GMT" for the Date field. */
const char *server_date(struct http_server *server);

/* stream.c */
/* Takes the connection over. */
int stream_new(struct connection *connection, const struct http_stream_callbacks *callbacks, void *userdata, struct http_stream **ret);

#endif

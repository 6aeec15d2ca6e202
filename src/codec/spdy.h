/* One SPDY/3.1 connection without I/O: bytes of the peer in, events out; what is to be sent collects in a buffer. kubectl up to 1.29 runs commands
 * over it, every kubectl forwards ports over it. Either side: the server's is used, the client's is for tests. */
#ifndef TIDEMILL_CODEC_SPDY_H
#define TIDEMILL_CODEC_SPDY_H

#include "base/base.h"

#define SPDY_FRAME_BYTES_MAX (1 * MIB)
#define SPDY_HEADER_BYTES_MAX (16 * KIB) /* one block of headers, packed and unpacked */
#define SPDY_HEADERS_MAX 64
#define SPDY_WAITING_BYTES_MAX (1 * MIB) /* of one stream, for the peer's window */
#define SPDY_OUTPUT_BYTES_MAX (4 * MIB)

enum spdy_status { /* of RST_STREAM */
                   SPDY_PROTOCOL_ERROR = 1,
                   SPDY_INVALID_STREAM = 2,
                   SPDY_REFUSED_STREAM = 3,
                   SPDY_CANCEL = 5,
                   SPDY_INTERNAL_ERROR = 6,
                   SPDY_FLOW_CONTROL_ERROR = 7,
};

struct spdy_header {
    struct slice name, value;
};

enum spdy_event_type {
    SPDY_EVENT_NONE,   /* all input is consumed, more is needed */
    SPDY_EVENT_OPEN,   /* the peer opened a stream: answer with spdy_reply or spdy_reset */
    SPDY_EVENT_REPLY,  /* to a stream of ours */
    SPDY_EVENT_DATA,   /* a piece of a stream, perhaps empty with is_last */
    SPDY_EVENT_RESET,  /* the stream is gone, status tells why */
    SPDY_EVENT_GOAWAY, /* the peer opens no more */
    SPDY_EVENT_ERROR,  /* the peer broke the protocol or memory is out; a GOAWAY is in the output. The connection is done */
};
struct spdy_event {
    enum spdy_event_type type;
    uint32_t stream;
    bool is_last; /* the peer sends no more on this stream */
    uint32_t status;
    struct slice payload;              /* borrowed until the next call, like the headers */
    const struct spdy_header *headers; /* names in lower case */
    size_t header_count;
};

struct spdy;
/* At most streams_max are open at a time; more are refused. */
int spdy_new(bool is_server, size_t streams_max, struct spdy **ret);
void spdy_free(struct spdy *spdy);
DEFINE_CLEANUP(struct spdy, spdy_free)
/* Reads on: consumes *ret_used bytes of the input and yields at most one event. Call again with the rest until SPDY_EVENT_NONE. Pings and windows are
 * answered by itself: look at the output afterwards. */
void spdy_step(struct spdy *spdy, struct slice input, size_t *ret_used, struct spdy_event *ret);
/* The event's header; data NULL when absent. */
struct slice spdy_event_header(const struct spdy_event *event, const char *name);

/* What is to be sent. Send all and say so. -ENOMEM or -EMSGSIZE when it could not be collected: the connection must be closed. */
int spdy_output(const struct spdy *spdy, struct slice *ret);
void spdy_output_sent(struct spdy *spdy);

/* Opens a stream (a client's): 0; -ENOBUFS when streams_max are open. */
int spdy_open(struct spdy *spdy, const struct spdy_header *headers, size_t count, bool is_last, uint32_t *ret_stream);
void spdy_reply(struct spdy *spdy, uint32_t stream);
/* Any length. 0; -EPIPE when the stream is closed in our direction or gone; -ENOBUFS when SPDY_WAITING_BYTES_MAX wait for the peer's window (nothing
 * is taken). */
int spdy_send(struct spdy *spdy, uint32_t stream, struct slice bytes, bool is_last);
/* Bytes of all streams that wait for windows. */
size_t spdy_waiting(const struct spdy *spdy);
void spdy_reset(struct spdy *spdy, uint32_t stream, enum spdy_status status);
void spdy_goaway(struct spdy *spdy);

#endif

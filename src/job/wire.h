/* A blocking HTTP/1.1 client for one request at a time over a unix socket: all that a job needs, without an event loop, TLS or names. */
#ifndef TIDEMILL_JOB_WIRE_H
#define TIDEMILL_JOB_WIRE_H

#include "base/base.h"

#define WIRE_HEAD_BYTES_MAX (32 * KIB)
#define WIRE_ERROR_BYTES_MAX (16 * KIB) /* of an error's text */

/* Where the platform listens, and our right to ask. Borrowed. */
struct wire {
    const char *socket_path;
    const char *token;
};

/* Writes one piece of a request's body; 0 or negative errno. */
struct wire_body;
int wire_body_write(struct wire_body *body, struct slice bytes);

struct wire_request {
    const char *method;
    const char *target;       /* path and query, already encoded */
    const char *content_type; /* NULL: no body */
    /* Writes the body by wire_body_write(), as much as it likes; what it returns (negative) ends the request. NULL with content_type NULL. */
    int (*write_body)(void *userdata, struct wire_body *body);
    /* The answer's body, piece by piece, when the status is 2xx; what it returns (negative) ends the request. */
    int (*on_data)(void *userdata, struct slice data);
    void *userdata;
};
/* The status (100…599), or a negative errno (-EPROTO for nonsense, -ECONNRESET for an answer cut short). The body of an answer that is not 2xx goes
 * to `error`, cut at its maximum. */
int wire_call(const struct wire *wire, const struct wire_request *request, struct buffer *error);

#endif

/* The streams between a client and a command (kubernetes/remotecommand), whichever protocol carries them: the channels of a WebSocket, or SPDY/3.1
 * streams. */
#ifndef TIDEMILL_NODE_REMOTE_PRIV_H
#define TIDEMILL_NODE_REMOTE_PRIV_H

#include "http/http.h"

enum remote_channel { /* the numbers of the WebSocket protocol */
                      REMOTE_STDIN = 0,
                      REMOTE_STDOUT = 1,
                      REMOTE_STDERR = 2,
                      REMOTE_RESULT = 3, /* a v1.Status at the end */
                      REMOTE_RESIZE = 4, /* {"Width":80,"Height":24} */
};
#define REMOTE_CHANNELS 5

struct remote;
struct remote_options {
    bool wants[REMOTE_CHANNELS]; /* which the request asks for */
};
struct remote_callbacks {
    void (*on_ready)(void *userdata); /* all streams are there. May run before remote_accept has returned */
    /* Input, or one whole message about the size. Standard input ends with is_last. */
    void (*on_data)(void *userdata, enum remote_channel channel, struct slice data, bool is_last);
    void (*on_drained)(void *userdata);
    void (*on_close)(void *userdata); /* once, last: free it later from the loop */
};
bool remote_is_upgrade(const struct http_exchange *exchange);
/* 0, or negative errno when it answered the request itself. */
int remote_accept(struct http_exchange *exchange, const struct remote_options *options, const struct remote_callbacks *callbacks, void *userdata,
                  struct remote **ret);
/* To a channel that the client did not ask for: dropped. */
void remote_send(struct remote *remote, enum remote_channel channel, struct slice data);
size_t remote_pending(const struct remote *remote);
void remote_pause(struct remote *remote);
void remote_resume(struct remote *remote);
/* The result, in JSON and (of a failure) in words, then the end of all streams. on_close follows. */
void remote_finish(struct remote *remote, struct slice status, struct slice words);
/* At once; no callback. NULL is fine. */
void remote_free(struct remote *remote);

#endif

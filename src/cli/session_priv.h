/* Talking to a running instance from a command: requests that block until answered. */
#ifndef TIDEMILL_CLI_SESSION_PRIV_H
#define TIDEMILL_CLI_SESSION_PRIV_H

#include "cli/command_priv.h"
#include "client/client.h"

struct session {
    struct loop *loop;
    struct client *client;
    struct arena *arena; /* for answers and what is made of them; lives as long as the session */
    const char *run;
    int timeout_ms; /* for one call; 0: none */
};

/* How commands say where the platform is: --run DIR, or $TIDEMILL_RUN. */
extern const struct flag session_flags[];
/* The same with -o FORMAT. */
extern const struct flag session_output_flags[];

/* Connects to <run>/api.sock, or, without permission for that, as $KUBECONFIG says. Negative errno with diag. */
int session_open(const struct invocation *invocation, struct session *ret, struct diag *diag);
int session_open_run(const char *run, struct session *ret, struct diag *diag);
void session_close(struct session *session);
/* Does the node's process itself answer? The API's word about it may be from before a restart. As root. */
bool session_node_answers(const char *run);

struct session_answer {
    int status;
    struct slice body; /* in the session's arena */
    struct tree *tree; /* the body as JSON; NULL when it is none */
};
/* Blocks. 0 for 2xx; otherwise negative errno with diag from the Status in the answer (ret is filled when there was an answer). body data NULL: none.
 */
int session_call(struct session *session, const char *method, const char *path, const char *content_type, struct slice body,
                 struct session_answer *ret, struct diag *diag);
/* Streams an answer to `on_data` until it ends. Same result. */
int session_stream(struct session *session, const char *method, const char *path, const char *content_type, struct slice body,
                   void (*on_data)(void *userdata, struct slice data), void *userdata, struct diag *diag);
/* An on_data that copies to standard output (userdata unused). */
void session_print(void *userdata, struct slice data);
bool session_wants_json(const struct invocation *invocation);

#endif

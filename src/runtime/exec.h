/* A command in a running container, and the attachment to its own streams. Both are a session: output comes in pieces, input may be written, a
 * terminal resized. */
#ifndef TIDEMILL_RUNTIME_EXEC_H
#define TIDEMILL_RUNTIME_EXEC_H

#include "base/base.h"
#include "runtime/container.h"

#define EXEC_INPUT_BYTES_MAX (1 * MIB)

struct exec;
struct exec_callbacks {
    void (*on_output)(void *userdata, int stream /* 1 or 2 */, struct slice data);
    /* The last callback. code: the command's, 128 + n for signal n; error: negative errno with message, in runc's words, when it could not run (code
     * is then 127 when there is no such program, else 126). Call exec_free. */
    void (*on_exit)(void *userdata, int code, int error, const char *message);
    void (*on_input_drained)(void *userdata); /* may be NULL */
    void *userdata;
};
struct exec_options {
    const char *container_id;
    const char *const *args; /* ends with NULL */
    bool terminal;           /* then all output is stream 1 */
    bool open_stdin;
};
/* Runs the arguments as the container's own process would run: user, environment, folder, capabilities are those of its config.json. */
int exec_start(struct containers *containers, const struct exec_options *options, const struct exec_callbacks *callbacks, struct exec **ret);
/* To conmon's attach socket. on_exit comes when the container ends (code 0). */
int exec_attach(struct containers *containers, const char *container_id, const struct exec_callbacks *callbacks, struct exec **ret);
/* -ENOBUFS when more than EXEC_INPUT_BYTES_MAX would wait. */
int exec_write(struct exec *exec, struct slice bytes);
size_t exec_input_pending(const struct exec *exec);
void exec_close_input(struct exec *exec);
void exec_resize(struct exec *exec, unsigned columns, unsigned rows);
/* Back-pressure on the output. */
void exec_pause(struct exec *exec, bool paused);
/* Kills the command and what is in its session, if it still runs (an attached container goes on); no callback follows. NULL is fine. */
void exec_free(struct exec *exec);

#endif

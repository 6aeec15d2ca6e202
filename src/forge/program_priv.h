/* A program whose output is streamed, and whose input may be: git, mostly. */
#ifndef TIDEMILL_FORGE_PROGRAM_PRIV_H
#define TIDEMILL_FORGE_PROGRAM_PRIV_H

#include "loop/loop.h"

struct program;
struct program_handlers {
    /* A piece of standard output. False: no more until program_resume. */
    bool (*on_output)(void *userdata, struct slice output);
    /* All input that was written has been taken; may be NULL. */
    void (*on_input_taken)(void *userdata);
    /* Standard output ended and the program is gone: wait status. Last callback; call program_free. */
    void (*on_end)(void *userdata, int status);
};
struct program_options {
    const char *const *argv;
    const char *const *envp;
    bool has_input;
};
int program_start(struct loop *loop, const struct program_options *options, const struct program_handlers *handlers, void *userdata,
                  struct program **ret);
/* Copies; program_input_pending tells how much waits. Nothing happens after the program closed its input. 0 or -ENOMEM. */
int program_write(struct program *program, struct slice bytes);
size_t program_input_pending(const struct program *program);
/* The end of input, once what waits is written. */
void program_close_input(struct program *program);
void program_resume(struct program *program);
/* Kills it when it still runs; no callback follows. NULL is fine. */
void program_free(struct program *program);

#endif

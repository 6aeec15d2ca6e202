/* Reading a container's log: from the end or a time on, with time stamps, following it while it grows (inotify) and across rotation; and rotating it.
 */
#ifndef TIDEMILL_RUNTIME_LOGREAD_H
#define TIDEMILL_RUNTIME_LOGREAD_H

#include "base/base.h"
#include "loop/loop.h"

#define LOG_ROTATE_BYTES (10 * MIB)
#define LOG_ROTATE_FILES 5

struct logread;
struct logread_options {
    const char *path;
    bool follow, timestamps;
    int64_t tail_lines;  /* -1: all */
    int64_t since_ns;    /* 0: from the start */
    int64_t limit_bytes; /* -1: none */
    int stream;          /* 0: both, 1, 2 */
};
struct logread_callbacks {
    void (*on_data)(void *userdata, struct slice data); /* whole lines as the program wrote them */
    void (*on_end)(void *userdata, int error);          /* the last callback; call logread_free */
    void *userdata;
};
/* Callbacks come in later steps. -ENOENT when there is no log. */
int logread_new(struct loop *loop, const struct logread_options *options, const struct logread_callbacks *callbacks, struct logread **ret);
void logread_pause(struct logread *reader, bool paused);
/* The container ended: read what is there, then end instead of following. */
void logread_finish(struct logread *reader);
void logread_free(struct logread *reader);

/* path → path.1 → … → path.4; the writer must be told to open path anew. */
int log_rotate(const char *path);

#endif

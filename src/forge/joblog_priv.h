/* A log that grows in a file, with a maximum, and those who follow it: pushes, `pipeline logs -f`. */
#ifndef TIDEMILL_FORGE_JOBLOG_PRIV_H
#define TIDEMILL_FORGE_JOBLOG_PRIV_H

#include "http/http.h"

#define JOBLOG_BYTES_MAX (4 * MIB)

struct joblog;

/* Opens or continues the file. Reference counted: the opener holds one, each follower one. */
int joblog_open(const char *path, bool writable, struct joblog **ret);
void joblog_unref(struct joblog *log); /* NULL is fine */
/* Beyond JOBLOG_BYTES_MAX one line tells that the rest is left out. A full disk loses output, never the job: the error is returned for a log line. */
int joblog_append(struct joblog *log, struct slice bytes);
int joblog_printf(struct joblog *log, const char *format, ...) __attribute__((format(printf, 2, 3)));
int64_t joblog_size(const struct joblog *log);
/* Nothing more comes: followers get the rest and then the end. */
void joblog_close(struct joblog *log);

/* Writes what is in the log from `offset`, and what comes, into an exchange whose response has begun, and ends it when the log is closed (at once at
 * the end of what is there when not `live`). `ending` is written last; it may be NULL, and is asked for only then. */
struct joblog_follow_options {
    int64_t offset;
    bool live;
    /* Appends the last words (an exit line); may be NULL. */
    void (*ending)(void *userdata, struct buffer *out);
    void *userdata;
};
int joblog_follow(struct joblog *log, struct http_exchange *exchange, const struct joblog_follow_options *options);

#endif

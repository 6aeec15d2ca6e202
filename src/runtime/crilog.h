/* One line of a container log in CRI format: "2026-11-22T20:27:35.862865287+00:00 stdout F text". Pure. */
#ifndef TIDEMILL_RUNTIME_CRILOG_H
#define TIDEMILL_RUNTIME_CRILOG_H

#include "base/base.h"

struct crilog_line {
    int64_t ns;        /* since 1970 */
    int stream;        /* 1 or 2 */
    bool is_partial;   /* "P": the line goes on in the next entry */
    struct slice text; /* without the newline */
};
/* `line` without its newline. -EINVAL. */
int crilog_parse(struct slice line, struct crilog_line *ret);

#endif

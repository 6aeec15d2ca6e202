/* The report of a failed assertion goes to stderr with write(2) only: the heap may be what is broken. */
#include "base/base.h"

#include <execinfo.h>
#include <stdio.h>
#include <unistd.h>

static _Thread_local const char *doing;

void assert_doing(const char *what) {
    doing = what;
}

_Noreturn void assert_fail(const char *condition, const char *file, int line, const char *function) {
    char report[1024];
    int len = snprintf(report, sizeof report, "tidemill: BUG: %s:%d: %s: assertion failed: %s%s%s\n", file, line, function, condition,
                       doing ? "; while " : "", doing ? doing : "");
    if (len > 0 && write(STDERR_FILENO, report, MIN((size_t)len, sizeof report - 1)) < 0) {
        /* Nobody is left to tell. */
    }
    void *frames[48];
    int depth = backtrace(frames, (int)ARRAY_LEN(frames));
    backtrace_symbols_fd(frames, depth, STDERR_FILENO);
    abort();
}

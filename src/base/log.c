#include "base/base.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const char *role_name = "tidemill";
static enum log_level level_min = LOG_INFO;

void log_setup(const char *role, enum log_level level) {
    role_name = role;
    level_min = level;
}

enum log_level log_level_get(void) {
    return level_min;
}

static void escape_controls(char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = ' ';
}

void log_write(enum log_level level, const char *format, ...) {
    static const char *const names[] = {"debug", "info", "warning", "error"};
    if (level < level_min)
        return;
    int saved_errno = errno;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char line[LOG_LINE_MAX];
    size_t len = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    len += (size_t)snprintf(line + len, sizeof line - len, ".%03ldZ %s %s ", now.tv_nsec / 1000000, names[level], role_name);
    va_list args;
    va_start(args, format);
    int written = vsnprintf(line + len, sizeof line - len - 1, format, args);
    va_end(args);
    size_t end = MIN(len + (size_t)MAX(written, 0), sizeof line - 2);
    escape_controls(line, end);
    line[end] = '\n';
    if (write(STDERR_FILENO, line, end + 1) < 0) {
        /* A log that cannot be written has nowhere to say so. */
    }
    errno = saved_errno;
}

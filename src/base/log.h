/* Log lines: one per event, on stderr, `time level role message key=value …` (logfmt behind the message). Library code does not log: the level that
 * decides does. Written with one write(2), at most LOG_LINE_MAX bytes; control characters in values are escaped. */
#ifndef TIDEMILL_BASE_LOG_H
#define TIDEMILL_BASE_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

#define LOG_LINE_MAX 2048

/* The role's name that starts each line (borrowed, static) and the lowest level that is written. Call before threads start. */
void log_setup(const char *role, enum log_level level);
enum log_level log_level_get(void);

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define log_debug(...) (log_level_get() <= LOG_DEBUG ? log_write(LOG_DEBUG, __VA_ARGS__) : (void)0)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

#endif

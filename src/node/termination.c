/* Why a container could not be started, in the words that people look up; and the last word of a program: the end of its termination message file,
 * or, when it failed and its policy says so, the end of its log. Kubelet's bounds: 4,096 bytes of the file; of the log 80 lines and of those 2,048
 * bytes. */
#include <fcntl.h>

#include "node/node_priv.h"

#define LOG_BYTES_MAX 2048
#define LOG_LINES_MAX 80
#define LOG_READ_BYTES (24 * KIB) /* so much can LOG_BYTES_MAX take in the log's format, with a line of the longest before it */

static int read_end(const char *path, size_t bytes_max, struct buffer *out) {
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (end < 0)
        return -errno;
    int r = buffer_reserve(out, bytes_max);
    ssize_t n = r < 0 ? 0 : pread(fd, out->data, bytes_max, MAX(0, end - (off_t)bytes_max));
    if (n > 0)
        buffer_commit(out, (size_t)n);
    return r < 0 ? r : n < 0 ? -errno : 0;
}

/* From the log's format back to what was written; the last lines of it. */
static struct slice text_of_log(struct slice log, struct buffer *out) {
    for (struct slice rest = log; rest.len;) {
        struct crilog_line line;
        if (crilog_parse(slice_cut(&rest, '\n'), &line) < 0)
            continue; /* the first one may have been cut */
        buffer_append_slice(out, line.text);
        if (!line.is_partial)
            buffer_append_byte(out, '\n');
    }
    struct slice text = buffer_slice(out);
    text = text.len > LOG_BYTES_MAX ? slice_from(text, text.len - LOG_BYTES_MAX) : text;
    size_t lines = 0;
    for (size_t i = text.len; i-- > 0;)
        if (text.data[i] == '\n' && i + 1 < text.len && ++lines == LOG_LINES_MAX)
            return slice_from(text, i + 1);
    return text;
}

void termination_read_message(const struct unit *unit, const char *path, char *ret, size_t size) {
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(LOG_READ_BYTES + 1);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(LOG_READ_BYTES + 1);
    const char *policy = unit->spec->termination_message_policy;
    char log[PATH_MAX];
    if (read_end(path, TERMINATION_MESSAGE_BYTES_MAX, &bytes) == 0 && bytes.len) {
        snprintf(ret, size, "%.*s", SLICE_ARG(buffer_slice(&bytes)));
        return;
    }
    if (unit->current.code == 0 || !policy || strcmp(policy, "FallbackToLogsOnError") != 0)
        return;
    unit_log_path(unit, unit->restart_count, log);
    if (read_end(log, LOG_READ_BYTES, &bytes) < 0)
        return;
    struct slice words = text_of_log(buffer_slice(&bytes), &text);
    snprintf(ret, size, "%.*s", SLICE_ARG(words));
}

/* crun's words become runc's where it is the command that is wrong. */
void termination_explain_start(const char *crun, char *ret, size_t size) {
    static const char begin[] = "executable file `", end[] = "` not found in $PATH";
    const char *name = strstr(crun, begin), *after = name ? strstr(name, end) : NULL;
    if (!after) {
        snprintf(ret, size, "failed to start container: %s", crun);
        return;
    }
    name += sizeof begin - 1;
    int len = (int)(after - name);
    bool is_path = memchr(name, '/', (size_t)len) != NULL;
    snprintf(ret, size, "failed to start container: OCI runtime create failed: unable to start container process: exec: \"%.*s\": %s%.*s%s: unknown",
             len, name, is_path ? "stat " : "executable file not found in $PATH", is_path ? len : 0, name,
             is_path ? ": no such file or directory" : "");
}

/* The shell program of a job.
 *
 * Each snippet runs by `eval` of its quoted text, so that a syntax error (an open quote, a here-document without end) stays inside its own snippet
 * and is reported as its failure. All run in one shell: variables, functions and the current folder carry over. Before each, its number goes to a
 * descriptor the helper keeps (no trap: that belongs to the job's author) and its first line is shown. */
#include "job/job.h"

/* 'text' with every ' as '\'' */
static void add_quoted(struct buffer *out, struct slice text) {
    buffer_append_byte(out, '\'');
    while (text.data) {
        ptrdiff_t quote = slice_index(text, '\'');
        buffer_append_slice(out, quote < 0 ? text : slice_head(text, (size_t)quote));
        if (quote < 0)
            break;
        buffer_append_text(out, "'\\''");
        text = slice_from(text, (size_t)quote + 1);
    }
    buffer_append_byte(out, '\'');
}

static void add_entry(struct buffer *out, struct slice entry, size_t number, int progress_fd) {
    struct slice rest = entry;
    while (rest.len && rest.data[rest.len - 1] == '\n')
        rest.len--;
    struct slice first = slice_cut(&rest, '\n');
    buffer_printf(out, "{ echo %zu >&%d; } 2>/dev/null || :\nprintf '%%s\\n' ", number, progress_fd);
    CLEANUP(buffer_deinit) struct buffer shown = BUFFER_INIT(MIB);
    buffer_append_text(&shown, "$ ");
    buffer_append_slice(&shown, first);
    buffer_append_text(&shown, rest.len ? " …" : "");
    add_quoted(out, buffer_slice(&shown));
    buffer_append_text(out, "\neval ");
    add_quoted(out, entry);
    buffer_append_byte(out, '\n');
}

int job_script_format(struct buffer *out, const struct slice *entries, size_t count, bool is_bash, int progress_fd, const char *tool_path) {
    buffer_append_text(out, is_bash ? "set -eo pipefail\n" : "set -e\n");
    if (tool_path) {
        buffer_append_text(out, "tidemill() { ");
        add_quoted(out, slice_of(tool_path));
        buffer_append_text(out, " \"$@\"; }\n");
    }
    for (size_t i = 0; i < count; i++)
        add_entry(out, entries[i], i + 1, progress_fd);
    return buffer_error(out);
}

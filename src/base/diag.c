#include "base/base.h"

#include <stdio.h>

int diag_set(struct diag *diag, int error, const char *format, ...) {
    if (!diag)
        return error;
    va_list args;
    va_start(args, format);
    vsnprintf(diag->message, sizeof diag->message, format, args);
    va_end(args);
    return error;
}

int diag_hint(struct diag *diag, int error, const char *format, ...) {
    if (!diag)
        return error;
    va_list args;
    va_start(args, format);
    vsnprintf(diag->hint, sizeof diag->hint, format, args);
    va_end(args);
    return error;
}

void diag_at(struct diag *diag, const char *file, int line, int column) {
    if (!diag)
        return;
    if (file)
        snprintf(diag->file, sizeof diag->file, "%s", file);
    if (line >= 0)
        diag->line = line;
    if (column >= 0)
        diag->column = column;
}

void diag_cause(struct diag *diag, const char *reason, const char *field, const char *format, ...) {
    if (!diag)
        return;
    int at = diag->causes_count++;
    if (at >= DIAG_CAUSES_MAX)
        return;
    struct diag_cause *cause = &diag->causes[at];
    snprintf(cause->reason, sizeof cause->reason, "%s", reason);
    snprintf(cause->field, sizeof cause->field, "%s", field);
    va_list args;
    va_start(args, format);
    vsnprintf(cause->message, sizeof cause->message, format, args);
    va_end(args);
}

char *diag_format(const struct diag *diag, char *text, unsigned long size) {
    struct buffer out = BUFFER_INIT(4096);
    if (diag->file[0])
        buffer_printf(&out, "%s:", diag->file);
    if (diag->line > 0)
        buffer_printf(&out, diag->file[0] ? "%d:" : "line %d:", diag->line);
    if (diag->line > 0 && diag->column > 0)
        buffer_printf(&out, diag->file[0] ? "%d:" : " column %d:", diag->column);
    if (out.len)
        buffer_append_byte(&out, ' ');
    if (diag->path[0])
        buffer_printf(&out, "%s: ", diag->path);
    buffer_append_text(&out, diag->message);
    int kept = MIN(diag->causes_count, DIAG_CAUSES_MAX);
    for (int i = 0; i < kept && !diag->message[0]; i++)
        buffer_printf(&out, "%s%s: %s", i ? ", " : "", diag->causes[i].field, diag->causes[i].message);
    if (diag->hint[0])
        buffer_printf(&out, " (%s)", diag->hint);
    snprintf(text, size, "%s", out.data ? out.data : "");
    buffer_deinit(&out);
    return text;
}

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

/* What is written so far, cut at the end of the caller's storage: an error is told even when no memory is left. */
struct line {
    char *text;
    unsigned long size, len;
};

static void __attribute__((format(printf, 2, 3))) add(struct line *line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int len = line->len < line->size ? vsnprintf(line->text + line->len, line->size - line->len, format, args) : 0;
    va_end(args);
    line->len = MIN(line->size, line->len + (unsigned long)MAX(len, 0));
}

char *diag_format(const struct diag *diag, char *text, unsigned long size) {
    struct line line = {.text = text, .size = size};
    if (size)
        text[0] = '\0';
    if (diag->file[0])
        add(&line, "%s:", diag->file);
    if (diag->line > 0)
        add(&line, diag->file[0] ? "%d:" : "line %d:", diag->line);
    if (diag->line > 0 && diag->column > 0)
        add(&line, diag->file[0] ? "%d:" : " column %d:", diag->column);
    if (line.len)
        add(&line, " ");
    if (diag->path[0])
        add(&line, "%s: ", diag->path);
    add(&line, "%s", diag->message);
    int kept = MIN(diag->causes_count, DIAG_CAUSES_MAX);
    for (int i = 0; i < kept && !diag->message[0]; i++)
        add(&line, "%s%s: %s", i ? ", " : "", diag->causes[i].field, diag->causes[i].message);
    if (diag->hint[0])
        add(&line, " (%s)", diag->hint);
    return text;
}

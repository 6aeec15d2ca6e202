/* An error for a person. Functions that read what people wrote (manifests, pipelines, flags, API bodies) fill a diag of the caller: what was found,
 * what was expected, what to do. One place turns it into a Kubernetes Status, another into a line on the terminal. Functions accept NULL where a diag
 * is optional. */
#ifndef TIDEMILL_BASE_DIAG_H
#define TIDEMILL_BASE_DIAG_H

#include <stdarg.h>

#define DIAG_CAUSES_MAX 16
#define DIAG_TEXT_MAX 512

/* One field that is wrong, in Kubernetes' words. */
struct diag_cause {
    char reason[40]; /* FieldValueInvalid, FieldValueRequired, FieldValueNotSupported, … */
    char field[200]; /* spec.template.spec.containers[0].image */
    char message[DIAG_TEXT_MAX];
};

struct diag {
    char file[200];              /* empty: none */
    int line, column;            /* from 1; 0: none */
    char path[200];              /* the field at fault; empty: none */
    char message[DIAG_TEXT_MAX]; /* one sentence, no capital, no full stop */
    char hint[DIAG_TEXT_MAX];    /* what to do next; empty: none */
    struct diag_cause causes[DIAG_CAUSES_MAX];
    int causes_count; /* those beyond the maximum are counted, not kept */
};

#define DIAG_INIT ((struct diag){.line = 0})

/* Sets the message; returns `error` so that one can `return diag_set(diag, -EINVAL, "…")`. */
int diag_set(struct diag *diag, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
int diag_hint(struct diag *diag, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Sets the position; -1 leaves a number as it is. */
void diag_at(struct diag *diag, const char *file, int line, int column);
/* Adds a field error. */
void diag_cause(struct diag *diag, const char *reason, const char *field, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* "file:line:column: path: message (hint)" into text (size bytes, always terminated); returns text. */
char *diag_format(const struct diag *diag, char *text, unsigned long size);

#endif

/* What a person sees: colours only on a terminal (and never with NO_COLOR), progress lines, errors with hints, aligned tables. */
#ifndef TIDEMILL_CLI_TERMINAL_PRIV_H
#define TIDEMILL_CLI_TERMINAL_PRIV_H

#include <stdio.h>

#include "base/base.h"

enum terminal_style { TERMINAL_PLAIN, TERMINAL_RED, TERMINAL_GREEN, TERMINAL_YELLOW, TERMINAL_BOLD, TERMINAL_DIM };
/* The escape sequence, or "" when `out` is no terminal. */
const char *terminal_color(FILE *out, enum terminal_style style);
/* "tidemill: message (hint)" on stderr; returns 1, so that a command can `return terminal_error(&diag)`. */
int terminal_error(const struct diag *diag);
int terminal_error_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A step of something that takes longer than a second. */
void terminal_step(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "1.5 GB", "12.0 MB", "34 B" into text (24 bytes); returns text. */
const char *terminal_size(uint64_t bytes, char text[24]);

/* A table on stdout: set the header, add rows of as many cells, print. Columns are as wide as their widest cell plus three blanks, as kubectl's. */
#define TERMINAL_COLUMNS_MAX 8
struct terminal_table {
    size_t columns;
    VECTOR(char *) cells;
};
void terminal_table_row(struct terminal_table *table, const char *const *cells);
void terminal_table_print(struct terminal_table *table);

#endif

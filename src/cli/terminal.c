#include "cli/terminal_priv.h"

#include <unistd.h>

const char *terminal_color(FILE *out, enum terminal_style style) {
    static const char *const sequences[] = {"\x1b[0m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[2m"};
    const char *no_color = getenv("NO_COLOR");
    if (!isatty(fileno(out)) || (no_color && no_color[0]))
        return "";
    return sequences[style];
}

int terminal_error(const struct diag *diag) {
    char text[2048];
    struct diag bare = *diag;
    bare.hint[0] = '\0';
    fprintf(stderr, "%stidemill: %s%s\n", terminal_color(stderr, TERMINAL_RED), terminal_color(stderr, TERMINAL_PLAIN),
            diag_format(&bare, text, sizeof text));
    if (diag->hint[0])
        fprintf(stderr, "  hint: %s\n", diag->hint);
    return 1;
}

int terminal_error_text(const char *format, ...) {
    struct diag diag = DIAG_INIT;
    va_list args;
    va_start(args, format);
    vsnprintf(diag.message, sizeof diag.message, format, args);
    va_end(args);
    return terminal_error(&diag);
}

void terminal_step(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s==>%s ", terminal_color(stderr, TERMINAL_GREEN), terminal_color(stderr, TERMINAL_PLAIN));
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

const char *terminal_size(uint64_t bytes, char text[24]) {
    static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)bytes / 1000;
    size_t unit = 0;
    for (; value >= 999.95 && unit + 1 < ARRAY_LEN(units); unit++)
        value /= 1000;
    if (bytes < 1000)
        snprintf(text, 24, "%u B", (unsigned)bytes);
    else
        snprintf(text, 24, "%.1f %s", value, units[unit]);
    return text;
}

void terminal_table_row(struct terminal_table *table, const char *const *cells) {
    for (size_t i = 0; i < table->columns; i++) {
        char *copy = slice_dup(slice_of(cells[i] ? cells[i] : ""));
        if (!copy || VECTOR_PUSH(&table->cells, copy) < 0)
            free(copy);
    }
}

void terminal_table_print(struct terminal_table *table) {
    size_t widths[TERMINAL_COLUMNS_MAX] = {0};
    ASSERT(table->columns && table->columns <= TERMINAL_COLUMNS_MAX);
    for (size_t i = 0; i < table->cells.count; i++)
        widths[i % table->columns] = MAX(widths[i % table->columns], strlen(table->cells.items[i]));
    for (size_t i = 0; i < table->cells.count; i++) {
        bool last = i % table->columns == table->columns - 1;
        printf("%-*s%s", last ? 0 : (int)widths[i % table->columns], table->cells.items[i], last ? "\n" : "   ");
        free(table->cells.items[i]);
    }
    VECTOR_DEINIT(&table->cells);
}

/* What the cells of tables are made with. A cell is `CELL(name) { … }`: a function of the object, found by the schema under that name. */
#ifndef TIDEMILL_KUBE_CELL_PRIV_H
#define TIDEMILL_KUBE_CELL_PRIV_H

#include "kube/helpers_priv.h"

#define CELL(name)                                                                                                                                   \
    extern const struct kube_cell kube_cell_##name;                                                                                                  \
    static struct tree *make_##name(const struct kube_object *object, struct arena *arena, __attribute__((unused)) int64_t now_ns);                  \
    const struct kube_cell kube_cell_##name = {.make = make_##name};                                                                                 \
    static struct tree *make_##name(const struct kube_object *object, struct arena *arena, __attribute__((unused)) int64_t now_ns)

#define CELL_BYTES_MAX 4096

/* "5m", or "<unknown>" when not set. */
const char *cell_since(struct arena *arena, struct kube_time since, int64_t now_ns);
/* The text, or the fallback when NULL or empty. */
struct tree *cell_text(struct arena *arena, const char *text, const char *fallback);
/* The buffer's bytes, or the fallback when it is empty; frees the buffer. */
struct tree *cell_take(struct arena *arena, struct buffer *buffer, const char *fallback);
/* Appends `text`, with a comma before it when something stands there already. */
void cell_join(struct buffer *buffer, const char *text);
/* "a=b,c=d" */
void cell_labels(struct buffer *buffer, const struct kube_string_map *labels);

#endif

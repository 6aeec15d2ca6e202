/* Variables of pipelines: lists that later ones override, and the expansion of $NAME and ${NAME}.
 *
 * Expansion is recursive (a value may name other variables) and bounded: a chain deeper than EXPANSION_DEPTH_MAX, which a circle is, leaves the
 * reference as it stands; EXPANSION_REFERENCES_MAX and the output buffer's maximum bound the rest. `$$` gives `$`, as GitLab's convention for values
 * is. */
#include "forge/pipeline_priv.h"

#include <ctype.h>

#define EXPANSION_DEPTH_MAX 10
#define EXPANSION_REFERENCES_MAX 10000

static struct pipeline_variable *find(const struct pipeline_variables *variables, struct slice name) {
    for (size_t i = variables->count; i-- > 0;)
        if (slice_is(name, variables->items[i].name))
            return &variables->items[i];
    return NULL;
}

const char *pipeline_variables_find(const struct pipeline_variables *variables, const char *name) {
    const struct pipeline_variable *variable = find(variables, slice_of(name));
    return variable ? variable->value : NULL;
}

static int put(struct arena *arena, struct pipeline_variables *variables, const struct pipeline_variable *from) {
    struct pipeline_variable *variable = find(variables, slice_of(from->name));
    if (variable) {
        *variable = *from;
        return 0;
    }
    if ((variables->count & (variables->count - 1)) == 0) {
        struct pipeline_variable *items = ARENA_ARRAY(arena, struct pipeline_variable, variables->count ? 2 * variables->count : 1);
        if (!items)
            return -ENOMEM;
        if (variables->count)
            memcpy(items, variables->items, variables->count * sizeof *items);
        variables->items = items;
    }
    variables->items[variables->count++] = *from;
    return 0;
}

int pipeline_variables_set(struct arena *arena, struct pipeline_variables *variables, const char *name, const char *value, bool raw) {
    const struct pipeline_variable variable = {.name = arena_strdup(arena, name), .value = arena_strdup(arena, value), .raw = raw};
    return variable.name && variable.value ? put(arena, variables, &variable) : -ENOMEM;
}

int pipeline_variables_merge(struct arena *arena, struct pipeline_variables *variables, const struct pipeline_variables *from) {
    int error = 0;
    for (size_t i = 0; !error && i < from->count; i++)
        error = put(arena, variables, &from->items[i]);
    return error;
}

/* The length of the reference that starts with the `$` at the front, and its name; 0 when it is none. */
static size_t reference_length(struct slice text, struct slice *ret_name) {
    size_t start = text.len > 1 && text.data[1] == '{' ? 2 : 1, at = start;
    while (at < text.len && (isalnum((unsigned char)text.data[at]) || text.data[at] == '_'))
        at++;
    *ret_name = slice_make(text.data + start, at - start);
    if (at == start || isdigit((unsigned char)text.data[start]))
        return 0;
    if (start == 1)
        return at;
    return at < text.len && text.data[at] == '}' ? at + 1 : 0;
}

struct expansion {
    const struct pipeline_variables *variables;
    enum pipeline_unknown unknown;
    size_t references;
    struct buffer *out;
};

static int expand(struct expansion *expansion, struct slice text, int depth) {
    struct buffer *out = expansion->out;
    enum pipeline_unknown unknown = expansion->unknown;
    while (text.len > 0) {
        ptrdiff_t dollar = slice_index(text, '$');
        buffer_append_slice(out, dollar < 0 ? text : slice_head(text, (size_t)dollar));
        if (dollar < 0)
            break;
        text = slice_from(text, (size_t)dollar);
        struct slice name;
        size_t len = reference_length(text, &name);
        const struct pipeline_variable *variable = len ? find(expansion->variables, name) : NULL;
        if (++expansion->references > EXPANSION_REFERENCES_MAX)
            return -EMSGSIZE;
        if (slice_starts(text, SLICE("$$")) && unknown == PIPELINE_UNKNOWN_EMPTY) {
            buffer_append_byte(out, '$');
            len = 2;
        } else if (len == 0 || (!variable && unknown == PIPELINE_UNKNOWN_KEEP) || (variable && !variable->raw && depth >= EXPANSION_DEPTH_MAX)) {
            len = len ? len : 1;
            buffer_append(out, text.data, len);
        } else if (variable && variable->raw) {
            buffer_append_text(out, variable->value);
        } else if (variable) {
            int error = expand(expansion, slice_of(variable->value), depth + 1);
            if (error)
                return error;
        }
        text = slice_from(text, len);
    }
    return buffer_error(out);
}

int pipeline_expand(const struct pipeline_variables *variables, struct slice text, enum pipeline_unknown unknown, struct buffer *out) {
    struct expansion expansion = {.variables = variables, .unknown = unknown, .out = out};
    return expand(&expansion, text, 0);
}

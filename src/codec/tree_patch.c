/* JSON merge patch (RFC 7386) and JSON patch (RFC 6902) on trees. Both leave the target untouched: what changes is copied shallowly along the path.
 * JSON patch starts from a deep copy, since its operations may move nodes about. Paths are JSON pointers (RFC 6901).
 *
 * A small JSON patch can ask for much: copies that double a document or its depth, moves about a long list. So copies are bounded together as
 * upstream bounds them, whatever is put somewhere may not stand deeper than JSON_DEPTH_MAX, and what is moved about is counted. */
#include "codec/tree.h"

#define COPIED_BYTES_MAX (3 * MIB) /* by all copies of one patch, as JSON */
#define MOVED_ENTRIES_MAX 20000000 /* by all operations of one patch: a fraction of a second */

struct patching {
    struct arena *arena;
    struct tree *root;
    struct diag *diag;
    size_t copied_bytes, moved_entries;
};

struct tree *tree_merge_patch(struct arena *arena, const struct tree *target, const struct tree *patch) {
    if (patch->type != TREE_MAP)
        return tree_copy(arena, patch);
    struct tree *result = tree_map(arena);
    if (!result)
        return NULL;
    for (size_t i = 0; target && target->type == TREE_MAP && i < target->children->count; i++) {
        struct tree_entry entry = target->children->items[i];
        const struct tree_entry *change = tree_find_entry(patch, entry.key);
        if (change && change->value->type == TREE_NULL)
            continue;
        if (change)
            entry.value = tree_merge_patch(arena, entry.value, change->value);
        if (tree_add(arena, result, &entry) < 0)
            return NULL;
    }
    for (size_t i = 0; i < patch->children->count; i++) {
        struct tree_entry entry = patch->children->items[i];
        if (entry.value->type == TREE_NULL || (target && tree_find_entry(target, entry.key)))
            continue;
        entry.value = tree_merge_patch(arena, NULL, entry.value);
        if (tree_add(arena, result, &entry) < 0)
            return NULL;
    }
    return result;
}

struct operation {
    const char *op, *path;
    const char *from; /* of copy and move only */
    const struct tree *value;
};

/* Where a pointer leads: the parent and the last token, unescaped. */
struct place {
    struct tree *parent; /* NULL: the pointer is the whole document */
    struct slice token;
};

static int unescape_token(struct arena *arena, struct slice token, struct slice *ret) {
    char *text = arena_alloc(arena, token.len + 1);
    if (!text)
        return -ENOMEM;
    size_t len = 0;
    for (size_t i = 0; i < token.len; i++) {
        char c = token.data[i];
        if (c == '~') {
            if (i + 1 == token.len || (token.data[i + 1] != '0' && token.data[i + 1] != '1'))
                return -EINVAL;
            c = token.data[++i] == '0' ? '~' : '/';
        }
        text[len++] = c;
    }
    *ret = (struct slice){text, len};
    return 0;
}

/* The index a token names in a list; `end` allows one past the last ("-" or count). */
static int list_index(const struct tree *list, struct slice token, bool end, size_t *ret) {
    size_t count = list->children->count;
    if (end && slice_is(token, "-")) {
        *ret = count;
        return 0;
    }
    uint64_t index;
    if ((token.len > 1 && token.data[0] == '0') || slice_parse_u64(token, SIZE_MAX, &index) < 0)
        return -EINVAL;
    if (index > count || (index == count && !end))
        return -ENOENT;
    *ret = (size_t)index;
    return 0;
}

static struct tree *child(const struct tree *parent, struct slice token) {
    if (parent->type == TREE_MAP) {
        struct tree_entry *entry = tree_find_entry(parent, token);
        return entry ? entry->value : NULL;
    }
    size_t index;
    if (parent->type != TREE_LIST || list_index(parent, token, false, &index) < 0)
        return NULL;
    return parent->children->items[index].value;
}

static int locate(struct arena *arena, struct tree *root, const char *pointer, struct place *ret, struct diag *diag) {
    struct slice rest = slice_of(pointer);
    *ret = (struct place){0};
    if (rest.len == 0)
        return 0;
    if (rest.data[0] != '/')
        return diag_set(diag, -EINVAL, "JSON pointer \"%s\" must start with \"/\"", pointer);
    rest = slice_from(rest, 1);
    struct tree *node = root;
    for (;;) {
        struct slice token = slice_cut(&rest, '/');
        int r = unescape_token(arena, token, &token);
        if (r == -ENOMEM)
            return r;
        if (r < 0)
            return diag_set(diag, r, "JSON pointer \"%s\" has a bad escape: after \"~\" only \"0\" or \"1\" may follow", pointer);
        *ret = (struct place){node, token};
        if (!rest.data)
            return 0;
        node = child(node, token);
        if (!node)
            return diag_set(diag, -ENOENT, "the path \"%s\" does not exist: no \"%s\"", pointer, token.data);
    }
}

static struct tree *value_at(const struct place *place, struct tree *root) {
    return place->parent ? child(place->parent, place->token) : root;
}

/* --- what an operation costs --- */

struct weight {
    size_t bytes; /* as JSON, about */
    size_t nodes;
};

/* False when it is deeper than `levels`. */
static bool weigh(const struct tree *node, size_t levels, struct weight *weight) {
    weight->nodes++;
    weight->bytes += node->type == TREE_STRING ? node->string.len + 2 : 4;
    if (node->type != TREE_MAP && node->type != TREE_LIST)
        return true;
    if (levels == 0)
        return false;
    for (size_t i = 0; i < node->children->count; i++) {
        weight->bytes += node->children->items[i].key.len + 3;
        if (!weigh(node->children->items[i].value, levels - 1, weight))
            return false;
    }
    return true;
}

static int charge_moved(struct patching *patching, size_t entries) {
    patching->moved_entries += entries;
    return patching->moved_entries <= MOVED_ENTRIES_MAX ? 0 : diag_set(patching->diag, -E2BIG, "the operations of the patch move too much about");
}

/* The value may be put at the path. */
static int charge_value(struct patching *patching, const struct operation *operation, const struct tree *value) {
    struct weight weight = {0};
    size_t depth = 0;
    for (const char *at = operation->path; *at; at++)
        depth += *at == '/';
    if (depth > JSON_DEPTH_MAX || !weigh(value, JSON_DEPTH_MAX - depth, &weight))
        return diag_set(patching->diag, -E2BIG, "the document would be nested deeper than %d levels", JSON_DEPTH_MAX);
    if (strcmp(operation->op, "copy") != 0)
        return charge_moved(patching, weight.nodes);
    patching->copied_bytes += weight.bytes;
    if (patching->copied_bytes <= COPIED_BYTES_MAX)
        return 0;
    return diag_set(patching->diag, -E2BIG, "Unable to complete the copy, the accumulated size increase of copy is %zu, exceeding the limit %zu",
                    patching->copied_bytes, COPIED_BYTES_MAX);
}

/* --- operations --- */

static int add_at(struct patching *patching, const struct place *place, struct tree *value, bool replace) {
    if (!place->parent) {
        patching->root = value;
        return 0;
    }
    if (place->parent->type == TREE_MAP)
        return tree_set(patching->arena, place->parent, place->token, value);
    if (place->parent->type != TREE_LIST)
        return -ENOENT;
    size_t index;
    int r = list_index(place->parent, place->token, !replace, &index);
    if (r < 0)
        return r;
    struct tree_children *children = place->parent->children;
    if (!replace) {
        r = charge_moved(patching, children->count - index);
        if (r == 0)
            r = tree_push(patching->arena, place->parent, value);
        if (r < 0)
            return r;
        memmove(&children->items[index + 1], &children->items[index], (children->count - 1 - index) * sizeof *children->items);
        children->items[index] = (struct tree_entry){0};
    }
    children->items[index].value = value;
    return 0;
}

static int remove_at(struct patching *patching, const struct place *place) {
    if (!place->parent)
        return -EINVAL;
    size_t index;
    int r = charge_moved(patching, tree_count(place->parent));
    if (r < 0)
        return r;
    if (place->parent->type == TREE_MAP)
        return tree_unset(place->parent, place->token) ? 0 : -ENOENT;
    if (place->parent->type != TREE_LIST || list_index(place->parent, place->token, false, &index) < 0)
        return -ENOENT;
    tree_list_remove(place->parent, index);
    return 0;
}

/* The value that copy and move take from elsewhere; a moved one is gone from there. */
static int take_source(struct patching *patching, const struct operation *operation, struct tree **ret) {
    struct place from;
    bool moves = strcmp(operation->op, "move") == 0;
    size_t len = strlen(operation->from);
    int r = locate(patching->arena, patching->root, operation->from, &from, patching->diag);
    if (r < 0)
        return r == -ENOMEM ? r : -ENOENT;
    struct tree *node = value_at(&from, patching->root);
    if (!node)
        return diag_set(patching->diag, -ENOENT, "the path \"%s\" does not exist", operation->from);
    if (moves && strncmp(operation->path, operation->from, len) == 0 && operation->path[len] == '/')
        return diag_set(patching->diag, -EINVAL, "cannot move \"%s\" into itself", operation->from);
    r = charge_value(patching, operation, node);
    if (r == 0 && moves) {
        r = remove_at(patching, &from);
        if (r == -EINVAL)
            return diag_set(patching->diag, r, "cannot move the whole document");
    }
    if (r == 0)
        *ret = moves ? node : tree_copy(patching->arena, node);
    return r < 0 || *ret ? r : -ENOMEM;
}

static int test_value(struct patching *patching, const struct operation *operation, const struct place *place) {
    const struct tree *found = value_at(place, patching->root);
    if (found && tree_equal(found, operation->value))
        return 0;
    return diag_set(patching->diag, -ENOENT, "testing path \"%s\" value failed", operation->path);
}

static int put_value(struct patching *patching, const struct operation *operation, const struct place *place, struct tree *value) {
    bool replace = strcmp(operation->op, "replace") == 0;
    if (replace && !value_at(place, patching->root))
        return -ENOENT;
    if (!operation->from) {
        int r = charge_value(patching, operation, operation->value);
        value = r < 0 ? NULL : tree_copy(patching->arena, operation->value);
        if (!value)
            return r < 0 ? r : -ENOMEM;
    }
    return add_at(patching, place, value, replace);
}

static int apply_operation(struct patching *patching, const struct operation *operation) {
    struct place place;
    struct tree *value = NULL;
    int r = operation->from ? take_source(patching, operation, &value) : 0;
    if (r == 0)
        r = locate(patching->arena, patching->root, operation->path, &place, patching->diag);
    if (r < 0)
        return r;
    if (strcmp(operation->op, "test") == 0)
        return test_value(patching, operation, &place);
    r = strcmp(operation->op, "remove") == 0 ? remove_at(patching, &place) : put_value(patching, operation, &place, value);
    if (r == -ENOENT || r == -EINVAL)
        return diag_set(patching->diag, r, "%s operation does not apply: the path \"%s\" does not exist", operation->op, operation->path);
    return r;
}

static int read_operation(const struct tree *item, size_t index, struct operation *ret, struct diag *diag) {
    static const struct {
        const char *op;
        bool value, from;
    } known[] = {{"add", true, false},  {"remove", false, false}, {"replace", true, false},
                 {"move", false, true}, {"copy", false, true},    {"test", true, false}};
    *ret = (struct operation){tree_text_or(tree_find(item, "op"), NULL), tree_text_or(tree_find(item, "path"), NULL),
                              tree_text_or(tree_find(item, "from"), NULL), tree_find(item, "value")};
    for (size_t i = 0; ret->op && i < ARRAY_LEN(known); i++) {
        if (strcmp(ret->op, known[i].op) != 0)
            continue;
        if (!ret->path || (known[i].value && !ret->value) || (known[i].from && !ret->from))
            return diag_set(diag, -EINVAL, "JSON patch operation %zu (%s) needs \"path\"%s%s", index, ret->op, known[i].value ? " and \"value\"" : "",
                            known[i].from ? " and \"from\"" : "");
        if (!known[i].from)
            ret->from = NULL;
        return 0;
    }
    return diag_set(diag, -EINVAL, "JSON patch operation %zu: \"op\" must be one of add, remove, replace, move, copy, test", index);
}

int tree_json_patch(struct arena *arena, const struct tree *target, const struct tree *patch, struct tree **ret, struct diag *diag) {
    if (patch->type != TREE_LIST)
        return diag_set(diag, -EINVAL, "a JSON patch must be an array of operations, found %s", tree_type_name(patch));
    struct patching patching = {.arena = arena, .root = tree_copy(arena, target), .diag = diag};
    if (!patching.root)
        return -ENOMEM;
    for (size_t i = 0; i < patch->children->count; i++) {
        struct operation operation;
        int r = read_operation(patch->children->items[i].value, i, &operation, diag);
        if (r == 0)
            r = apply_operation(&patching, &operation);
        if (r < 0)
            return r;
    }
    *ret = patching.root;
    return 0;
}

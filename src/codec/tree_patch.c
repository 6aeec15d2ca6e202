/* JSON merge patch (RFC 7386) and JSON patch (RFC 6902) on trees. Both leave the target untouched: what changes is copied shallowly along the path.
 * JSON patch starts from a deep copy, since its operations may move nodes about. Paths are JSON pointers (RFC 6901). */
#include "codec/tree.h"

struct tree *tree_merge_patch(struct arena *arena, const struct tree *target, const struct tree *patch) {
    if (patch->type != TREE_MAP)
        return tree_copy(arena, patch);
    struct tree *result = tree_map(arena);
    if (!result)
        return NULL;
    size_t kept = target && target->type == TREE_MAP ? target->children->count : 0;
    for (size_t i = 0; i < kept; i++)
        if (tree_set(arena, result, target->children->items[i].key, target->children->items[i].value) < 0)
            return NULL;
    for (size_t i = 0; i < patch->children->count; i++) {
        const struct tree_entry *entry = &patch->children->items[i];
        if (entry->value->type == TREE_NULL) {
            tree_unset(result, entry->key);
            continue;
        }
        const struct tree_entry *old = tree_find_entry(result, entry->key);
        if (tree_set(arena, result, entry->key, tree_merge_patch(arena, old ? old->value : NULL, entry->value)) < 0)
            return NULL;
    }
    return result;
}

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

static int add_at(struct arena *arena, const struct place *place, struct tree **root, struct tree *value, bool replace) {
    if (!place->parent) {
        *root = value;
        return 0;
    }
    if (place->parent->type == TREE_MAP)
        return tree_set(arena, place->parent, place->token, value);
    if (place->parent->type != TREE_LIST)
        return -ENOENT;
    size_t index;
    int r = list_index(place->parent, place->token, !replace, &index);
    if (r < 0)
        return r;
    struct tree_children *children = place->parent->children;
    if (!replace) {
        r = tree_push(arena, place->parent, value);
        if (r < 0)
            return r;
        memmove(&children->items[index + 1], &children->items[index], (children->count - 1 - index) * sizeof *children->items);
        children->items[index] = (struct tree_entry){0};
    }
    children->items[index].value = value;
    return 0;
}

static int remove_at(const struct place *place) {
    if (!place->parent)
        return -EINVAL;
    if (place->parent->type == TREE_MAP)
        return tree_unset(place->parent, place->token) ? 0 : -ENOENT;
    size_t index;
    if (place->parent->type != TREE_LIST || list_index(place->parent, place->token, false, &index) < 0)
        return -ENOENT;
    tree_list_remove(place->parent, index);
    return 0;
}

struct operation {
    const char *op, *path, *from;
    const struct tree *value;
};

/* copy and move need an existing node. */
static int source_of(struct arena *arena, struct tree *root, const char *pointer, struct place *place, struct tree **ret, struct diag *diag) {
    int r = locate(arena, root, pointer, place, diag);
    if (r < 0)
        return r == -ENOMEM ? r : -ENOENT;
    *ret = value_at(place, root);
    return *ret ? 0 : diag_set(diag, -ENOENT, "the path \"%s\" does not exist", pointer);
}

static int apply_operation(struct arena *arena, struct tree **root, const struct operation *operation, struct diag *diag) {
    struct place place, from;
    bool is_copy = strcmp(operation->op, "copy") == 0, is_move = strcmp(operation->op, "move") == 0;
    struct tree *value = operation->value ? tree_copy(arena, operation->value) : NULL;
    if (is_copy || is_move) {
        struct tree *node;
        int r = source_of(arena, *root, operation->from, &from, &node, diag);
        if (r < 0)
            return r;
        size_t len = strlen(operation->from);
        if (is_move && strncmp(operation->path, operation->from, len) == 0 && operation->path[len] == '/')
            return diag_set(diag, -EINVAL, "cannot move \"%s\" into itself", operation->from);
        value = is_move ? node : tree_copy(arena, node);
        if (is_move && remove_at(&from) < 0)
            return diag_set(diag, -EINVAL, "cannot move the whole document");
    }
    int r = locate(arena, *root, operation->path, &place, diag);
    if (r < 0)
        return r;
    if (strcmp(operation->op, "remove") == 0) {
        r = remove_at(&place);
    } else if (strcmp(operation->op, "test") == 0) {
        const struct tree *found = value_at(&place, *root);
        if (!found || !tree_equal(found, operation->value))
            return diag_set(diag, -ENOENT, "testing path \"%s\" value failed", operation->path);
        return 0;
    } else {
        bool replace = strcmp(operation->op, "replace") == 0;
        if (replace && !value_at(&place, *root))
            r = -ENOENT;
        else
            r = value ? add_at(arena, &place, root, value, replace) : -ENOMEM;
    }
    if (r == -ENOENT || r == -EINVAL)
        return diag_set(diag, r, "%s operation does not apply: the path \"%s\" does not exist", operation->op, operation->path);
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
        return 0;
    }
    return diag_set(diag, -EINVAL, "JSON patch operation %zu: \"op\" must be one of add, remove, replace, move, copy, test", index);
}

int tree_json_patch(struct arena *arena, const struct tree *target, const struct tree *patch, struct tree **ret, struct diag *diag) {
    if (patch->type != TREE_LIST)
        return diag_set(diag, -EINVAL, "a JSON patch must be an array of operations, found %s", tree_type_name(patch));
    struct tree *root = tree_copy(arena, target);
    if (!root)
        return -ENOMEM;
    for (size_t i = 0; i < patch->children->count; i++) {
        struct operation operation;
        int r = read_operation(patch->children->items[i].value, i, &operation, diag);
        if (r == 0)
            r = apply_operation(arena, &root, &operation, diag);
        if (r < 0)
            return r;
    }
    *ret = root;
    return 0;
}

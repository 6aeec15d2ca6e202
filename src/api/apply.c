/* Server-side apply, a simple form of it.
 *
 * What a manager applies is remembered as a set of fields (fieldsV1) in metadata.managedFields, one entry per manager with operation "Apply". An
 * apply
 *   1. looks for conflicts: a leaf that another manager applied and whose value would change, unless force=true (then the other loses it);
 *   2. merges the applied configuration into the newest version by the kind's merge keys (strategic merge without directives);
 *   3. removes what this manager applied before, applies no more, and nobody else applies: map keys, and items of keyed lists;
 *   4. records the new set.
 *
 * Not yet: ownership of fields written by other operations than apply (they are recorded by nobody, so they conflict with nobody), set lists, and
 * keyed lists other than those in `list_keys`, which count as one atomic leaf. */
#include "api/api_priv.h"

#include <stdio.h>

#define KEYS_MAX 2
#define CONFLICTS_MAX DIAG_CAUSES_MAX

/* Lists whose items are known by one or two of their fields, by the list's field name. */
static const struct list_key {
    const char *list;
    const char *keys[KEYS_MAX + 1];
} list_keys[] = {
    {"containers", {"name"}},
    {"initContainers", {"name"}},
    {"ephemeralContainers", {"name"}},
    {"volumes", {"name"}},
    {"env", {"name"}},
    {"ports", {"containerPort", "protocol"}},
    {"ports", {"port", "protocol"}},
    {"volumeMounts", {"mountPath"}},
    {"conditions", {"type"}},
    {"imagePullSecrets", {"name"}},
    {"ownerReferences", {"uid"}},
    {"hostAliases", {"ip"}},
};

static bool is_identity(const char *field) {
    static const char *const fields[] = {"apiVersion", "kind"};
    static const char *const metadata[] = {"name",          "namespace",    "creationTimestamp", "uid", "resourceVersion",
                                           "managedFields", "generateName", "generation"};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        if (!strcmp(field, fields[i]))
            return true;
    for (size_t i = 0; i < ARRAY_LEN(metadata); i++)
        if (!strcmp(field, metadata[i]))
            return true;
    return false;
}

/* Every item has the first key; the others may default. */
static const struct list_key *find_list_key(const char *field, const struct tree *list) {
    for (size_t i = 0; i < ARRAY_LEN(list_keys); i++) {
        if (strcmp(list_keys[i].list, field))
            continue;
        bool all = tree_count(list) > 0;
        for (size_t j = 0; j < tree_count(list); j++)
            all = all && tree_find(tree_at(list, j), list_keys[i].keys[0]);
        if (all)
            return &list_keys[i];
    }
    return NULL;
}

/* k:{"name":"c"} */
static char *item_key(struct arena *arena, const struct list_key *key, const struct tree *item) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(4 * KIB);
    buffer_append_text(&out, "k:{");
    for (size_t i = 0; key->keys[i]; i++) {
        const struct tree *value = tree_find(item, key->keys[i]);
        buffer_printf(&out, "%s\"%s\":", i ? "," : "", key->keys[i]);
        if (value)
            json_format(&out, value);
        else
            buffer_append_text(&out, "\"TCP\""); /* the only key that defaults: protocol */
    }
    buffer_append_text(&out, "}");
    return buffer_error(&out) ? NULL : arena_dup(arena, buffer_slice(&out));
}

/* --- sets of fields --- */

static struct tree *fields_of(struct arena *arena, const struct tree *value, const char *field, int depth);

static int add_map_fields(struct arena *arena, struct tree *set, const struct tree *map, int depth) {
    for (size_t i = 0; i < tree_count(map); i++) {
        const struct tree_entry *entry = &map->children->items[i];
        bool skip =
            depth == 0 ? !strcmp(entry->key.data, "apiVersion") || !strcmp(entry->key.data, "kind") : depth == -1 && is_identity(entry->key.data);
        if (skip)
            continue;
        char *name = arena_printf(arena, "f:%s", entry->key.data);
        bool metadata = depth == 0 && !strcmp(entry->key.data, "metadata");
        struct tree *inner = fields_of(arena, entry->value, entry->key.data, metadata ? -1 : 1);
        if (metadata && inner && !tree_count(inner))
            continue; /* only a name: nothing that one could own */
        if (!name || tree_set(arena, set, slice_of(name), inner))
            return -ENOMEM;
    }
    return 0;
}

static int add_item_fields(struct arena *arena, struct tree *set, const struct tree *list, const struct list_key *key) {
    for (size_t i = 0; i < tree_count(list); i++) {
        char *name = item_key(arena, key, tree_at(list, i));
        struct tree *inner = fields_of(arena, tree_at(list, i), "", 1);
        if (!name || !inner || tree_set(arena, inner, SLICE("."), tree_map(arena)) || tree_set(arena, set, slice_of(name), inner))
            return -ENOMEM;
    }
    return 0;
}

/* depth 0: the object; -1: its metadata; 1: below. */
static struct tree *fields_of(struct arena *arena, const struct tree *value, const char *field, int depth) {
    struct tree *set = tree_map(arena);
    if (!set)
        return NULL;
    const struct list_key *key = value->type == TREE_LIST ? find_list_key(field, value) : NULL;
    int error = 0;
    if (value->type == TREE_MAP)
        error = add_map_fields(arena, set, value, depth);
    else if (key)
        error = add_item_fields(arena, set, value, key);
    return error ? NULL : set;
}

/* The child of a live value that a set's element names; NULL when absent. *ret_index is its place in a list. */
static struct tree *child_of(struct arena *arena, const struct tree *value, const char *element, const char *field, size_t *ret_index) {
    if (!strncmp(element, "f:", 2))
        return tree_find(value, element + 2);
    const struct list_key *key = !strncmp(element, "k:", 2) && value && value->type == TREE_LIST ? find_list_key(field, value) : NULL;
    for (size_t i = 0; key && i < tree_count(value); i++) {
        const char *name = item_key(arena, key, tree_at(value, i));
        if (name && !strcmp(name, element)) {
            *ret_index = i;
            return tree_at(value, i);
        }
    }
    return NULL;
}

static const char *field_name(const char *element) {
    return !strncmp(element, "f:", 2) ? element + 2 : "";
}

/* --- removing what is applied no more --- */

static bool in_others(const struct tree *others, const char *element) {
    for (size_t i = 0; i < tree_count(others); i++)
        if (tree_find(tree_at(others, i), element))
            return true;
    return false;
}

/* The same element of each of the others' sets. */
static struct tree *others_below(struct arena *arena, const struct tree *others, const char *element) {
    struct tree *below = tree_list(arena);
    for (size_t i = 0; below && i < tree_count(others); i++) {
        struct tree *set = tree_find(tree_at(others, i), element);
        if (set && tree_push(arena, below, set))
            return NULL;
    }
    return below;
}

static int remove_dropped(struct arena *arena, struct tree *live, const struct tree *before, const struct tree *now, const struct tree *others,
                          const char *field) {
    for (size_t i = 0; i < tree_count(before); i++) {
        const struct tree_entry *entry = &before->children->items[i];
        const char *element = entry->key.data;
        size_t index = 0;
        struct tree *child = child_of(arena, live, element, field, &index), *still = tree_find(now, element);
        if (!child)
            continue;
        bool kept_by_other = in_others(others, element);
        if (!still && !kept_by_other && !strncmp(element, "f:", 2)) {
            tree_unset(live, slice_of(element + 2));
        } else if (!still && !kept_by_other) {
            tree_list_remove(live, index);
        } else {
            struct tree *below = others_below(arena, others, element);
            int error = below ? remove_dropped(arena, child, entry->value, still, below, field_name(element)) : -ENOMEM;
            if (error)
                return error;
        }
    }
    return 0;
}

/* --- conflicts --- */

struct conflict_walk {
    struct arena *arena;
    const char *manager;
    struct api_failure *failure;
    bool steal; /* take the leaf from the other's set instead of reporting it */
    size_t count;
};

static void note_conflict(struct conflict_walk *walk, const char *path) {
    if (walk->failure)
        diag_cause(&walk->failure->diag, "FieldManagerConflict", path, "conflict with \"%s\"", walk->manager);
    walk->count++;
}

/* ".spec.containers[name=\"c\"].image" */
static const char *path_below(struct arena *arena, const char *path, const char *element) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(4 * KIB);
    if (!strncmp(element, "f:", 2)) {
        const char *below = arena_printf(arena, "%s.%s", path, element + 2);
        return below ? below : path;
    }
    buffer_printf(&out, "%s[", path);
    struct slice keys = slice_of(element + sizeof "k:{" - 1);
    keys.len -= keys.len > 0;
    while (keys.len) {
        struct slice pair = slice_cut(&keys, ','), key = slice_cut(&pair, ':');
        buffer_printf(&out, "%.*s=%.*s%s", (int)(key.len > 2 ? key.len - 2 : 0), key.data + 1, SLICE_ARG(pair), keys.len ? "," : "");
    }
    buffer_append_text(&out, "]");
    const char *below = buffer_error(&out) ? NULL : arena_dup(arena, buffer_slice(&out));
    return below ? below : path;
}

/* Leaves that are in both sets and whose applied value differs from the live one. */
static void find_conflicts(struct conflict_walk *walk, const struct tree *mine, struct tree *theirs, const struct tree *applied,
                           const struct tree *live, const char *field, const char *path) {
    for (size_t i = 0; i < tree_count(mine); i++) {
        const struct tree_entry *entry = &mine->children->items[i];
        const char *element = entry->key.data;
        struct tree *other = tree_find(theirs, element);
        size_t index = 0;
        const struct tree *wanted = other ? child_of(walk->arena, applied, element, field, &index) : NULL;
        const struct tree *there = wanted ? child_of(walk->arena, live, element, field, &index) : NULL;
        if (!there)
            continue;
        const char *below = path_below(walk->arena, path, element);
        if (tree_count(entry->value) && tree_count(other))
            find_conflicts(walk, entry->value, other, wanted, there, field_name(element), below);
        else if (!(wanted->type == TREE_MAP && there->type == TREE_MAP) && !tree_equal(wanted, there) && walk->steal)
            tree_unset(theirs, entry->key);
        else if (!(wanted->type == TREE_MAP && there->type == TREE_MAP) && !tree_equal(wanted, there))
            note_conflict(walk, below);
    }
}

static int check_conflicts(struct request *request, const struct tree *live, const struct tree *applied, const struct tree *mine, const char *manager,
                           struct api_failure *failure) {
    const struct tree *entries = tree_path(live, "metadata.managedFields");
    struct api_failure found = {.code = 0};
    struct conflict_walk walk = {.arena = request->arena, .failure = &found};
    for (size_t i = 0; i < tree_count(entries); i++) {
        const struct tree *entry = tree_at(entries, i);
        walk.manager = tree_text_or(tree_find(entry, "manager"), "");
        if (strcmp(walk.manager, manager))
            find_conflicts(&walk, mine, tree_find(entry, "fieldsV1"), applied, live, "", "");
    }
    if (!walk.count)
        return 0;
    const struct diag_cause *first = &found.diag.causes[0];
    struct diag causes = found.diag;
    api_fail(failure, 409, "Conflict", "Apply failed with %zu conflict%s: %s: %s", walk.count, walk.count > 1 ? "s" : "", first->message,
             first->field);
    if (failure)
        failure->diag = causes;
    return 409;
}

/* --- managedFields --- */

static struct tree *entry_of(struct request *request, const char *manager, struct tree *set) {
    struct arena *arena = request->arena;
    struct tree *entry = tree_map(arena);
    char time[TIMESTAMP_BYTES];
    timestamp_format(loop_wall_ns(request->api->loop), time);
    int error = entry ? tree_set_text(arena, entry, "manager", manager) : -ENOMEM;
    error = error ? error : tree_set_text(arena, entry, "operation", "Apply");
    error = error ? error : tree_set_text(arena, entry, "apiVersion", kube_kind_api_version(request->kind));
    error = error ? error : tree_set_text(arena, entry, "time", time);
    error = error ? error : tree_set_text(arena, entry, "fieldsType", "FieldsV1");
    error = error ? error : tree_set(arena, entry, SLICE("fieldsV1"), set);
    return error ? NULL : entry;
}

/* Splits the live entries: the sets of others into *others, ours into *mine; the list without ours is returned. */
static struct tree *split_entries(struct arena *arena, const struct tree *live, const char *manager, struct tree *others, struct tree **mine) {
    const struct tree *entries = tree_path(live, "metadata.managedFields");
    struct tree *kept = tree_list(arena);
    for (size_t i = 0; kept && i < tree_count(entries); i++) {
        struct tree *entry = tree_at(entries, i), *set = tree_find(entry, "fieldsV1");
        if (!strcmp(tree_text_or(tree_find(entry, "manager"), ""), manager)) {
            *mine = set;
            continue;
        }
        if (tree_push(arena, kept, entry) || (set && tree_push(arena, others, set)))
            return NULL;
    }
    return kept;
}

static int merge(struct request *request, const struct kube_object *old, struct tree *applied, struct tree *set, const char *manager,
                 struct tree **ret, struct api_failure *failure) {
    struct arena *arena = request->arena;
    struct tree *live = kube_encode_tree(old, arena), *others = tree_list(arena), *before = NULL, *merged = NULL;
    if (live && !(live = tree_copy(arena, live))) /* the sets below are changed, and the object may share them */
        return api_fail_no_memory(failure);
    struct tree *kept = live && others ? split_entries(arena, live, manager, others, &before) : NULL;
    struct diag diag = DIAG_INIT;
    if (!kept)
        return api_fail_no_memory(failure);
    struct conflict_walk walk = {.arena = arena, .steal = true}; /* without force there are no conflicts left to steal */
    for (size_t i = 0; i < tree_count(others); i++)
        find_conflicts(&walk, set, tree_at(others, i), applied, live, "", "");
    int error = kube_strategic_merge(request->kind, arena, live, applied, &merged, &diag);
    if (error == -EINVAL)
        return api_fail_bad_request(failure, "%s", diag.message);
    if (!error && !(merged = tree_copy(arena, merged))) /* parts may be shared with the patch, and are changed next */
        error = -ENOMEM;
    if (!error)
        error = remove_dropped(arena, merged, before, set, others, "");
    if (!error)
        error = tree_push(arena, kept, entry_of(request, manager, set));
    if (!error)
        error = tree_set(arena, tree_find(merged, "metadata"), SLICE("managedFields"), kept);
    *ret = merged;
    return error ? api_fail_no_memory(failure) : 0;
}

/* A null in an applied configuration says nothing. */
static void strip_nulls(struct tree *node) {
    bool is_map = node->type == TREE_MAP;
    if (!is_map && node->type != TREE_LIST)
        return;
    for (size_t i = node->children->count; i-- > 0;) {
        struct tree_entry *entry = &node->children->items[i];
        if (is_map && entry->value->type == TREE_NULL)
            tree_unset(node, entry->key);
        else
            strip_nulls(entry->value);
    }
}

int api_apply_patch(struct request *request, const struct kube_object *old, struct tree *applied, const char *manager, bool force, struct tree **ret,
                    struct api_failure *failure) {
    struct arena *arena = request->arena;
    strip_nulls(applied);
    const struct tree *given = tree_find(applied, "metadata");
    if (given && given->type != TREE_MAP)
        return api_fail_bad_request(failure, "metadata must be an object, not a JSON %s", tree_type_name(given));
    if (tree_count(tree_path(applied, "metadata.managedFields")))
        return api_fail_bad_request(failure, "metadata.managedFields must be nil");
    struct tree *set = fields_of(arena, applied, "", 0);
    if (!set)
        return api_fail_no_memory(failure);
    if (old) {
        struct tree *live = force ? NULL : kube_encode_tree(old, arena);
        int code = live ? check_conflicts(request, live, applied, set, manager, failure) : 0;
        return code ? code : merge(request, old, applied, set, manager, ret, failure);
    }
    struct tree *tree = tree_copy(arena, applied), *metadata = tree ? tree_find(tree, "metadata") : NULL, *entries = tree_list(arena);
    if (tree && !metadata && (metadata = tree_map(arena)) && tree_set(arena, tree, SLICE("metadata"), metadata))
        metadata = NULL;
    if (!metadata || !entries || tree_push(arena, entries, entry_of(request, manager, set)) ||
        tree_set(arena, metadata, SLICE("managedFields"), entries))
        return api_fail_no_memory(failure);
    *ret = tree;
    return 0;
}

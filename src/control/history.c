/* ControllerRevisions (upstream: pkg/controller/history, and what the StatefulSet and DaemonSet controllers do with it).
 *
 * A revision keeps the template as a strategic merge patch of its owner, {"spec":{"template":{…,"$patch":"replace"}}}: that is what kubectl sends to
 * go back. kubectl compares it byte by byte with what it encodes itself, so keys are sorted and the null that Go's encoder writes is there.
 *
 * 1. Revisions are numbered from 1; the present template's has the highest number. Going back to an old template raises its revision's number
 *    instead of keeping the same thing twice.
 * 2. A name is <owner>-<hash>. One that another object has is a collision: the owner's collisionCount, part of what is hashed, goes up, in its
 *    status, so that the same name comes out next time.
 * 3. What pods still bear is never deleted. */
#include "control/history_priv.h"

#define COLLISIONS_PER_RUN_MAX 32
#define NAME_PREFIX_MAX 223
#define HASH_LETTERS 10

/* ---- what a revision holds ---- */

static int compare_keys(const void *left, const void *right) {
    return slice_compare(((const struct tree_entry *)left)->key, ((const struct tree_entry *)right)->key);
}

static void sort_keys(struct tree *node) {
    if (node->type != TREE_MAP && node->type != TREE_LIST)
        return;
    for (size_t i = 0; i < node->children->count; i++)
        sort_keys(node->children->items[i].value);
    if (node->type != TREE_MAP || !node->children->count)
        return;
    qsort(node->children->items, node->children->count, sizeof *node->children->items, compare_keys);
    tree_truncate(node, node->children->count); /* they have moved */
}

/* Depth is bounded by that of the pod template's types. */
static struct tree *make_data(struct context *context, const struct kube_object *owner) {
    struct arena *arena = context->arena;
    struct tree *object = kube_encode_tree(owner, arena), *template = tree_path(object, "spec.template");
    struct tree *data = tree_map(arena), *spec = tree_map(arena);
    if (!template || !data || !spec)
        return NULL;
    struct tree *metadata = tree_find(template, "metadata");
    if (metadata && !tree_find(metadata, "creationTimestamp") && tree_set(arena, metadata, SLICE("creationTimestamp"), tree_null(arena)) < 0)
        return NULL;
    if (tree_set_text(arena, template, "$patch", "replace") < 0 || tree_set(arena, spec, SLICE("template"), template) < 0 ||
        tree_set(arena, data, SLICE("spec"), spec) < 0)
        return NULL;
    sort_keys(data);
    return data;
}

static int hash_data(const struct tree *data, int32_t collision_count, char ret[HASH_LETTERS + 1]) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(API_BODY_BYTES_MAX);
    int r = json_format(&text, data);
    if (r == 0 && collision_count > 0)
        r = buffer_printf(&text, "%d", collision_count);
    if (r == 0)
        safe_letters(slice_hash(buffer_slice(&text)), ret, HASH_LETTERS);
    return r;
}

const struct kube_pod_template_spec *history_template(const struct history *history, const struct kube_object *revision) {
    struct context *context = history->context;
    const struct tree *kept = tree_path(revision->controller_revision->data, "spec.template");
    struct tree *template = kept ? tree_copy(context->arena, kept) : NULL;
    struct kube_pod_template_spec *ret = ARENA_NEW(context->arena, struct kube_pod_template_spec);
    struct diag diag = DIAG_INIT;
    if (kept && (!template || !ret))
        context_fail(context);
    if (!template || !ret)
        return NULL;
    tree_unset(template, SLICE("$patch"));
    int r = kube_decode_part(&kube_pod_template_spec_type, template, context->arena, ret, &diag);
    if (r == -ENOMEM)
        context_fail(context);
    return r == 0 ? ret : NULL;
}

const char *history_pod_label(const struct history *history, const struct kube_object *revision) {
    return history->options->pods_bear_hash ? kube_map_find(&revision->metadata->labels, history->options->hash_label) : revision->metadata->name;
}

/* ---- finding and making ---- */

static int compare_revisions(const void *left, const void *right) {
    const struct kube_object *a = ((const struct managed *)left)->object, *b = ((const struct managed *)right)->object;
    int64_t by_number = a->controller_revision->revision - b->controller_revision->revision;
    int64_t by_age = a->metadata->creation_timestamp.ns - b->metadata->creation_timestamp.ns;
    int64_t difference = by_number ? by_number : by_age;
    return difference ? (difference > 0) - (difference < 0) : strcmp(a->metadata->name, b->metadata->name);
}

const struct kube_object *history_find(const struct history *history, const char *name) {
    for (size_t i = 0; name && i < history->revisions.list.count; i++)
        if (text_is(history->revisions.list.items[i].object->metadata->name, name))
            return history->revisions.list.items[i].object;
    return name && history->created && text_is(history->created->metadata->name, name) ? history->created : NULL;
}

/* The latest that holds the same, or NULL. */
static struct managed *find_equal(const struct history *history, const struct tree *data) {
    for (size_t i = history->revisions.list.count; i-- > 0;) {
        struct managed *managed = &history->revisions.list.items[i];
        const struct tree *kept = managed->object->controller_revision->data;
        if (kept && tree_equal(kept, data) && !is_deleting(managed->object) && history_pod_label(history, managed->object))
            return managed;
    }
    return NULL;
}

static int64_t next_number(const struct history *history) {
    size_t count = history->revisions.list.count;
    return count ? history->revisions.list.items[count - 1].object->controller_revision->revision + 1 : 1;
}

/* A free name for the data; false: no memory. */
static bool choose_name(struct history *history, const struct tree *data, char *ret_hash, const char **ret_name) {
    const struct kube_object_meta *owner = history->owner->metadata;
    for (int i = 0; i < COLLISIONS_PER_RUN_MAX; i++) {
        if (hash_data(data, history->collision_count, ret_hash) < 0)
            return false;
        *ret_name = arena_printf(history->context->arena, "%.*s-%s", NAME_PREFIX_MAX, owner->name, ret_hash);
        if (!*ret_name)
            return false;
        if (!context_get(history->context, &kube_kind_controller_revision, owner->namespace, *ret_name))
            return true;
        history->collision_count++;
    }
    return true; /* the write will be refused, and the next run goes on from this count */
}

static int fill(const struct history *history, struct kube_object *object, const struct kube_pod_template_spec *template, const struct tree *data,
                const char *hash) {
    struct arena *arena = object->arena;
    const struct kube_string_map *labels = &template->metadata.labels, *annotations = &history->owner->metadata->annotations;
    int r = 0;
    for (size_t i = 0; i < labels->count && r == 0; i++)
        r = kube_map_set(&object->metadata->labels, arena, labels->items[i].key, labels->items[i].value);
    for (size_t i = 0; i < annotations->count && r == 0; i++)
        r = kube_map_set(&object->metadata->annotations, arena, annotations->items[i].key, annotations->items[i].value);
    if (r == 0)
        r = kube_map_set(&object->metadata->labels, arena, history->options->hash_label, hash);
    if (r == 0)
        r = add_controller_reference(object->metadata, arena, history->owner);
    object->metadata->namespace = arena_strdup(arena, history->owner->metadata->namespace);
    object->controller_revision->data = tree_copy(arena, data);
    object->controller_revision->revision = next_number(history);
    return r == 0 && object->metadata->namespace && object->controller_revision->data ? 0 : -ENOMEM;
}

static void create(struct history *history, const struct kube_pod_template_spec *template, const struct tree *data) {
    char hash[HASH_LETTERS + 1];
    const char *name;
    struct kube_object *object = choose_name(history, data, hash, &name) ? kube_object_new(&kube_kind_controller_revision) : NULL;
    if (object)
        object->metadata->name = arena_strdup(object->arena, name);
    if (!object || !object->metadata->name || fill(history, object, template, data, hash) < 0) {
        kube_object_unref(object);
        context_fail(history->context);
        return;
    }
    history->update = history->created = object;
}

static void find_update(struct history *history, const struct kube_pod_template_spec *template) {
    const struct tree *data = make_data(history->context, history->owner);
    if (!data) {
        context_fail(history->context);
        return;
    }
    struct managed *equal = find_equal(history, data);
    if (!equal) {
        create(history, template, data);
        return;
    }
    if (equal->object != history->revisions.list.items[history->revisions.list.count - 1].object) {
        int64_t number = next_number(history);
        struct kube_object *copy = managed_change(history->context, equal);
        if (copy)
            copy->controller_revision->revision = number;
    }
    history->update = equal->object;
}

void history_collect(struct context *context, const struct kube_object *owner, const struct kube_label_selector *selector,
                     const struct kube_pod_template_spec *template, int32_t collision_count, const struct history_options *options,
                     struct history *ret) {
    *ret = (struct history){.context = context, .owner = owner, .options = options, .collision_count = collision_count};
    context_claim(context, &kube_kind_controller_revision, owner, selector, NULL, &ret->revisions);
    if (ret->revisions.list.count)
        qsort(ret->revisions.list.items, ret->revisions.list.count, sizeof *ret->revisions.list.items, compare_revisions);
    if (!context->error)
        find_update(ret, template);
}

void history_write(struct history *history) {
    if (history->created)
        context_create(history->context, kube_object_ref(history->created));
    for (size_t i = 0; i < history->revisions.list.count; i++)
        if (history->revisions.list.items[i].changed)
            context_update(history->context, kube_object_ref(history->revisions.list.items[i].changed));
}

/* ---- forgetting ---- */

static bool is_live(const struct history *history, const struct kube_object *revision, const struct kube_object *current,
                    const struct managed_list *pods) {
    if (revision == history->update || revision == current)
        return true;
    const char *label = history_pod_label(history, revision);
    for (size_t i = 0; label && i < pods->list.count; i++)
        if (same_text(kube_map_find(&pods->list.items[i].object->metadata->labels, LABEL_REVISION), label))
            return true;
    return false;
}

void history_truncate(struct history *history, int32_t limit, const struct kube_object *current, const struct managed_list *pods) {
    size_t spare = 0, kept = (size_t)MAX(0, limit);
    for (size_t i = history->revisions.list.count; i-- > 0;) {
        const struct managed *managed = &history->revisions.list.items[i];
        if (is_live(history, managed->object, current, pods) || is_deleting(managed->object))
            continue;
        if (++spare > kept && !managed->changed)
            context_delete(history->context, managed->object, NULL, -1);
    }
}

void history_deinit(struct history *history) {
    for (size_t i = 0; i < history->revisions.list.count; i++)
        kube_object_unref(history->revisions.list.items[i].changed);
    VECTOR_DEINIT(&history->revisions.list);
    kube_object_unref(history->created);
}

/* Server-side apply: a manager states what it wants, and the server keeps what is nobody's and what others own. An apply
 *
 *   1. checks the configuration against the kind (unknown fields, lists whose items cannot be told apart);
 *   2. puts it upon the live object (kube_owned_merge);
 *   3. takes out what this manager applied before, applies no more, and nobody else owns (kube_owned_prune);
 *   4. compares the result with the live object: what changed and another manager owns is a conflict, unless force, which takes it from them;
 *   5. records what it names as this manager's Apply entry.
 *
 * The result then goes the way of every update (defaults, admission, validation). What was never tracked (an object of before there were entries)
 * counts as written by "before-first-apply". kubectl's own migration: what an object's last-applied annotation says, and still is so, kubectl may
 * take over without force; and it keeps the annotation up to date while it is there. */
#include "api/api_priv.h"
#include "api/managed.h"

#include <stdio.h>

#define BEFORE_FIRST_APPLY "before-first-apply"
#define KUBECTL "kubectl"
#define LAST_APPLIED "kubectl.kubernetes.io/last-applied-configuration"
#define LAST_APPLIED_BYTES_MAX (256 * KIB)
#define CONFLICT_TEXT_BYTES_MAX (64 * KIB)

/* What nobody owns: who names it says which object is meant. */
#define IDENTITY                                                                                                                                     \
    "{\"f:apiVersion\":{},\"f:kind\":{},\"f:metadata\":{\".\":{},\"f:name\":{},\"f:namespace\":{},\"f:creationTimestamp\":{},\"f:selfLink\":{},"     \
    "\"f:uid\":{},\"f:generation\":{},\"f:managedFields\":{},\"f:resourceVersion\":{}}}"

struct apply {
    struct request *request;
    struct arena *arena;
    const struct kube_kind *kind;
    const char *manager, *subresource;
    bool force;
    struct kube_shape_node shape;
    struct tree *live; /* without managedFields */
    struct managed *managed;
    struct managed_entry like; /* what this manager's entry is called */
    struct api_failure *failure;
};

static int no_memory(const struct apply *apply) {
    return api_fail_no_memory(apply->failure);
}

/* --- conflicts --- */

struct conflicts {
    struct apply *apply;
    const struct managed_entry *entry; /* whose are being told */
    const char *whose;                 /* "kubectl-create" using apps/v1 */
    struct buffer text;
    size_t count;
    char first[DIAG_TEXT_MAX];
    struct diag diag;
};

static const char *quoted(struct arena *arena, const char *text) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(4 * KIB);
    return json_format_string(&out, slice_of(text)) ? NULL : arena_dup(arena, buffer_slice(&out));
}

static const char *describe(struct arena *arena, const struct managed_entry *entry) {
    const char *manager = quoted(arena, entry->manager), *subresource = quoted(arena, entry->subresource);
    if (!manager || !subresource)
        return NULL;
    if (*entry->subresource)
        manager = arena_printf(arena, "%s with subresource %s", manager, subresource);
    return manager && !strcmp(entry->operation, "Update") ? arena_printf(arena, "%s using %s", manager, entry->api_version) : manager;
}

static int note_conflict(void *userdata, const char *path) {
    struct conflicts *conflicts = userdata;
    if (!conflicts->count++)
        snprintf(conflicts->first, sizeof conflicts->first, "conflict with %s: %s", conflicts->whose, path);
    diag_cause(&conflicts->diag, "FieldManagerConflict", path, "conflict with %s", conflicts->whose);
    buffer_printf(&conflicts->text, "\n- %s", path);
    return 0;
}

/* Of one entry. What kubectl may take over without force is no conflict. */
static int conflicts_with(struct conflicts *conflicts, struct managed_entry *entry, const struct kube_fieldset *changed,
                          const struct kube_fieldset *allowed) {
    struct apply *apply = conflicts->apply;
    struct kube_fieldset common = {.count = 0};
    int error = managed_parse(apply->managed, entry);
    if (!error)
        error = kube_fieldset_intersect(apply->arena, &entry->set, changed, &common);
    if (error)
        return error;
    kube_fieldset_subtract(&common, allowed);
    if (kube_fieldset_is_empty(&common))
        return 0;
    conflicts->whose = describe(apply->arena, entry);
    if (!conflicts->whose)
        return -ENOMEM;
    buffer_printf(&conflicts->text, "%sconflicts with %s:", conflicts->text.len ? "\n" : "", conflicts->whose);
    return kube_fieldset_each(&common, note_conflict, conflicts);
}

static int by_manager(const void *a, const void *b) {
    const struct managed_entry *const *x = a, *const *y = b;
    return strcmp((*x)->manager, (*y)->manager);
}

static int find_conflicts(struct apply *apply, const struct managed_entry *own, const struct kube_fieldset *changed,
                          const struct kube_fieldset *allowed) {
    struct managed *managed = apply->managed;
    struct conflicts conflicts = {.apply = apply, .text = BUFFER_INIT(CONFLICT_TEXT_BYTES_MAX)};
    struct managed_entry **others = ARENA_ARRAY(apply->arena, struct managed_entry *, managed->count + 1);
    size_t count = 0;
    for (size_t i = 0; others && i < managed->count; i++)
        if (&managed->items[i] != own)
            others[count++] = &managed->items[i];
    if (count)
        qsort(others, count, sizeof *others, by_manager);
    int error = others ? 0 : -ENOMEM;
    for (size_t i = 0; i < count && !error; i++)
        error = conflicts_with(&conflicts, others[i], changed, allowed);
    int code = error ? no_memory(apply) : 0;
    if (!error && conflicts.count == 1)
        code = api_fail(apply->failure, 409, "Conflict", "Apply failed with 1 conflict: %s", conflicts.first);
    else if (!error && conflicts.count)
        code = api_fail(apply->failure, 409, "Conflict", "Apply failed with %zu conflicts: %s", conflicts.count, conflicts.text.data);
    if (code == 409 && apply->failure)
        apply->failure->diag = conflicts.diag;
    buffer_deinit(&conflicts.text);
    return code;
}

/* --- kubectl's annotation --- */

static struct tree *annotations_of(const struct tree *object) {
    return tree_find(tree_find(object, "metadata"), "annotations");
}

/* What the annotation names and the live object still has. */
static int allowed_by_annotation(struct apply *apply, struct kube_fieldset *allowed) {
    const char *text = tree_text_or(tree_find(annotations_of(apply->live), LAST_APPLIED), "");
    struct tree *last = NULL;
    struct kube_fieldset differs = {.count = 0};
    if (strcmp(apply->manager, KUBECTL) || !*text)
        return 0;
    int error = json_parse(apply->arena, slice_of(text), NULL, &last, NULL);
    if (error || last->type != TREE_MAP || strcmp(tree_text_or(tree_find(last, "apiVersion"), ""), kube_kind_api_version(apply->kind)))
        return error == -ENOMEM ? error : 0;
    error = kube_owned_paths(apply->arena, &apply->shape, last, allowed);
    if (!error)
        error = kube_owned_changes(apply->arena, &apply->shape, last, apply->live, &differs, &differs);
    kube_fieldset_subtract(allowed, &differs);
    return error;
}

static int keep_annotation(struct apply *apply, const struct tree *config, struct tree *merged) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(LAST_APPLIED_BYTES_MAX);
    struct arena *arena = apply->arena;
    struct tree *metadata = tree_find(merged, "metadata"), *annotations = annotations_of(merged);
    if (strcmp(apply->manager, KUBECTL) || !annotations || !tree_find(annotations, LAST_APPLIED))
        return 0;
    struct tree *copy = tree_copy(arena, config), *own = copy ? annotations_of(copy) : NULL;
    if (own)
        tree_unset(own, SLICE(LAST_APPLIED));
    if (!copy || json_format(&text, copy) == -ENOMEM)
        return -ENOMEM;
    if (buffer_error(&text) || buffer_append_byte(&text, '\n'))
        return 0;                                /* too large to be kept */
    annotations = tree_copy(arena, annotations); /* shared with the live object */
    metadata = annotations ? tree_copy(arena, metadata) : NULL;
    if (!metadata || tree_set(arena, annotations, SLICE(LAST_APPLIED), tree_string(arena, buffer_slice(&text))) ||
        tree_set(arena, metadata, SLICE("annotations"), annotations))
        return -ENOMEM;
    return tree_set(arena, merged, SLICE("metadata"), metadata);
}

/* --- the apply --- */

/* All that others own, and what this manager names now. */
static int owned_by_anyone(struct apply *apply, const struct managed_entry *own, const struct kube_fieldset *now, struct kube_fieldset *all) {
    int error = kube_fieldset_add(apply->arena, all, now);
    for (size_t i = 0; i < apply->managed->count && !error; i++) {
        struct managed_entry *entry = &apply->managed->items[i];
        error = entry == own ? 0 : managed_parse(apply->managed, entry);
        if (!error && entry != own)
            error = kube_fieldset_add(apply->arena, all, &entry->set);
    }
    return error;
}

static struct tree *merge_and_prune(struct apply *apply, const struct tree *config, const struct managed_entry *own,
                                    const struct kube_fieldset *now) {
    struct kube_fieldset all = {.count = 0};
    struct tree *merged = kube_owned_merge(apply->arena, &apply->shape, apply->live, config);
    if (!merged || kube_fieldset_is_empty(&own->set))
        return merged;
    if (owned_by_anyone(apply, own, now, &all))
        return NULL;
    return kube_owned_prune(apply->arena, &apply->shape, merged, &own->set, &all);
}

static int take_over(struct apply *apply, struct managed_entry *own, const struct kube_fieldset *now, const struct kube_fieldset *changed,
                     const struct kube_fieldset *removed) {
    int error = managed_take(apply->managed, own, changed);
    if (!error)
        error = managed_take(apply->managed, own, removed);
    if (error)
        return no_memory(apply);
    if (!kube_fieldset_equal(&own->set, now) || !own->text)
        own->text = NULL;
    own->set = *now;
    own->api_version = apply->like.api_version;
    if (!kube_fieldset_is_empty(changed) || !kube_fieldset_is_empty(removed))
        own->time = (struct kube_time){.ns = loop_wall_ns(apply->request->api->loop) / 1000000000 * 1000000000, .set = true};
    return 0;
}

static int names_of(struct apply *apply, const struct tree *config, struct kube_fieldset *ret) {
    struct kube_fieldset identity;
    int error = kube_owned_paths(apply->arena, &apply->shape, config, ret);
    if (!error)
        error = kube_fieldset_parse(apply->arena, SLICE(IDENTITY), &identity);
    if (error)
        return error;
    kube_fieldset_subtract(ret, &identity);
    return managed_filter(apply->arena, apply->kind, apply->subresource, ret);
}

static int run(struct apply *apply, const struct tree *config, struct tree **ret) {
    struct arena *arena = apply->arena;
    struct kube_fieldset now = {.count = 0}, changed = {.count = 0}, removed = {.count = 0}, allowed = {.count = 0};
    struct managed_entry *own = managed_make(apply->managed, &apply->like);
    int error = own ? managed_parse(apply->managed, own) : -ENOMEM;
    if (!error)
        error = names_of(apply, config, &now);
    struct tree *merged = error ? NULL : merge_and_prune(apply, config, own, &now);
    if (!merged)
        return no_memory(apply);
    error = kube_owned_changes(arena, &apply->shape, apply->live, merged, &changed, &removed);
    if (!error)
        error = managed_filter(arena, apply->kind, apply->subresource, &changed);
    if (!error)
        error = managed_filter(arena, apply->kind, apply->subresource, &removed);
    if (!error && !apply->force)
        error = allowed_by_annotation(apply, &allowed);
    if (error)
        return no_memory(apply);
    int code = apply->force ? 0 : find_conflicts(apply, own, &changed, &allowed);
    if (!code)
        code = take_over(apply, own, &now, &changed, &removed);
    if (!code && keep_annotation(apply, config, merged))
        code = no_memory(apply);
    *ret = merged;
    return code;
}

static int check(struct apply *apply, const struct tree *config) {
    struct diag diag = DIAG_INIT;
    const struct kube_kind *kind = apply->kind;
    const struct tree *metadata = tree_find(config, "metadata");
    const char *version = tree_text_or(tree_find(config, "apiVersion"), "");
    if (strcmp(version, kube_kind_api_version(kind)))
        return api_fail_bad_request(apply->failure, "Incorrect version specified in apply patch. Specified patch version: %.100s, expected: %s",
                                    version, kube_kind_api_version(kind));
    if (tree_find(metadata, "managedFields") && tree_find(metadata, "managedFields")->type != TREE_NULL)
        return api_fail_bad_request(apply->failure, "metadata.managedFields must be nil");
    int error = kube_owned_check(apply->arena, &apply->shape, config, &diag);
    if (error == -ENOMEM)
        return no_memory(apply);
    if (error)
        return api_fail(apply->failure, 500, "", "failed to create typed patch object (%.63s/%.253s; %s, Kind=%s): %s",
                        tree_text_or(tree_find(metadata, "namespace"), ""), tree_text_or(tree_find(metadata, "name"), ""),
                        kube_kind_api_version(kind), kind->kind, diag.message);
    return 0;
}

/* The live object's tree without what is no field, and its entries. */
static int open_live(struct apply *apply, const struct kube_object *old) {
    CLEANUP(kube_object_unrefp) struct kube_object *nothing = old ? NULL : kube_object_new(apply->kind);
    const struct kube_object *live = old ? old : nothing;
    apply->live = live ? kube_encode_tree(live, apply->arena) : NULL;
    if (!apply->live)
        return no_memory(apply);
    tree_unset(tree_find(apply->live, "metadata"), SLICE("managedFields"));
    int error = old ? managed_read(old->metadata, apply->managed) : 0;
    if (error == -EINVAL)
        return api_fail(apply->failure, 500, "", "failed to decode managed fields");
    if (!error && old && !apply->managed->count) {
        const struct managed_entry like = {
            .manager = BEFORE_FIRST_APPLY, .operation = "Update", .api_version = kube_kind_api_version(apply->kind), .subresource = ""};
        struct kube_fieldset removed = {.count = 0};
        struct managed_entry *before = managed_make(apply->managed, &like);
        error = before ? managed_changes(apply->arena, NULL, old, &before->set, &removed) : -ENOMEM;
        if (before)
            before->time = (struct kube_time){.ns = loop_wall_ns(apply->request->api->loop) / 1000000000 * 1000000000, .set = true};
    }
    return error ? no_memory(apply) : 0;
}

int api_apply_patch(struct request *request, const struct kube_object *old, const struct tree *config, const char *manager, bool force,
                    struct managed *managed, struct tree **ret, struct api_failure *failure) {
    struct apply apply = {
        .request = request,
        .arena = request->arena,
        .kind = request->kind,
        .manager = manager,
        .subresource = request->route.subresource,
        .force = force,
        .managed = managed,
        .like = {.manager = manager,
                 .operation = "Apply",
                 .api_version = kube_kind_api_version(request->kind),
                 .subresource = request->route.subresource},
        .failure = failure,
    };
    *managed = (struct managed){.arena = request->arena};
    kube_shape_of(request->kind, &apply.shape);
    int code = check(&apply, config);
    if (!code)
        code = open_live(&apply, old);
    return code ? code : run(&apply, config, ret);
}

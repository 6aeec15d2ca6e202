/* metadata.managedFields: who owns which fields. An entry is known by manager, operation, apiVersion and subresource, and holds a set of paths.
 *
 *   any write but an apply    what changed belongs to the writer's Update entry and to nobody else; what went belongs to nobody
 *   an apply                  see apply.c
 *
 * 1. A write that changes no field changes no entry, so that a write without effect stays one; the time of an entry is that of the last write that
 * gave it a field.
 * 2. There are at most UPDATERS_MAX Update entries: the oldest are merged into one, "ancient-changes".
 * 3. Entries are parsed only when a change may touch them: a status written every second leaves the texts of the others alone.
 * 4. Entries that a client sends with an ordinary update replace the stored ones (that is how kubectl moves from client-side apply to server-side
 * apply); none, or ones that make no sense, mean the stored ones; [] and [{}] mean: forget all. */
#include "api/managed.h"

#include "kube/kube.h"

#define UPDATERS_MAX 10
#define ANCIENT "ancient-changes"
#define MANAGED_BYTES_MAX TREE_BYTES_MAX
#define ENTRY_TEXT_BYTES_MAX (4 * MIB)

static bool is_update(const struct managed_entry *entry) {
    return !strcmp(entry->operation, "Update");
}

static struct managed_entry *push(struct managed *managed) {
    if (managed->count == managed->capacity) {
        size_t capacity = managed->capacity ? managed->capacity * 2 : 8;
        struct managed_entry *items = ARENA_ARRAY(managed->arena, struct managed_entry, capacity);
        if (!items)
            return NULL;
        if (managed->count)
            memcpy(items, managed->items, managed->count * sizeof *items);
        managed->items = items;
        managed->capacity = capacity;
    }
    struct managed_entry *entry = &managed->items[managed->count++];
    *entry = (struct managed_entry){.manager = "", .operation = "", .api_version = "", .subresource = ""};
    return entry;
}

static const char *text_of(const char *text) {
    return text ? text : "";
}

int managed_read(const struct kube_object_meta *metadata, struct managed *managed) {
    managed->count = 0;
    for (size_t i = 0; i < metadata->managed_fields.count; i++) {
        const struct kube_managed_fields_entry *from = &metadata->managed_fields.items[i];
        const char *operation = text_of(from->operation);
        bool sound =
            (!strcmp(operation, "Apply") || !strcmp(operation, "Update")) && from->api_version && !strcmp(text_of(from->fields_type), "FieldsV1");
        if (!sound)
            return -EINVAL;
        struct managed_entry *entry = push(managed);
        if (!entry)
            return -ENOMEM;
        *entry = (struct managed_entry){
            .manager = text_of(from->manager),
            .operation = operation,
            .api_version = from->api_version,
            .subresource = text_of(from->subresource),
            .time = from->time,
            .text = from->fields_v1 ? from->fields_v1 : "{}",
        };
    }
    return 0;
}

static bool is_reset(const struct kube_object_meta *metadata) {
    static const struct kube_managed_fields_entry nothing;
    if (metadata->managed_fields.count == 0)
        return metadata->managed_fields.items != NULL;
    return metadata->managed_fields.count == 1 && kube_equal(&kube_managed_fields_entry_type, &metadata->managed_fields.items[0], &nothing);
}

int managed_read_newest(const struct kube_object_meta *given, const struct kube_object_meta *old, struct managed *managed) {
    static const struct kube_object_meta none;
    if (given && is_reset(given)) {
        managed->count = 0;
        return 0;
    }
    int error = given ? managed_read(given, managed) : 0;
    if (error == -EINVAL || !given || !managed->count)
        error = managed_read(old ? old : &none, managed);
    if (error == -EINVAL)
        managed->count = 0;
    return error == -ENOMEM ? error : 0;
}

struct managed_entry *managed_find(struct managed *managed, const struct managed_entry *like) {
    for (size_t i = 0; i < managed->count; i++) {
        struct managed_entry *entry = &managed->items[i];
        bool apply = !strcmp(like->operation, "Apply"); /* an applier keeps its entry from version to version */
        if (!strcmp(entry->manager, like->manager) && !strcmp(entry->operation, like->operation) && !strcmp(entry->subresource, like->subresource) &&
            (apply || !strcmp(entry->api_version, like->api_version)))
            return entry;
    }
    return NULL;
}

struct managed_entry *managed_make(struct managed *managed, const struct managed_entry *like) {
    struct managed_entry *entry = managed_find(managed, like);
    if (entry || !(entry = push(managed)))
        return entry;
    *entry = (struct managed_entry){
        .manager = like->manager, .operation = like->operation, .api_version = like->api_version, .subresource = like->subresource, .parsed = true};
    return entry;
}

int managed_parse(struct managed *managed, struct managed_entry *entry) {
    if (entry->parsed)
        return 0;
    int error = kube_fieldset_parse(managed->arena, slice_of(entry->text), &entry->set);
    if (error == -EINVAL)
        entry->set = (struct kube_fieldset){.count = 0}; /* nobody can own what makes no sense */
    entry->parsed = true;
    return error == -ENOMEM ? error : 0;
}

/* Whether a member of the changes may be in the entry: judged by the first elements, as they stand in its text. */
static int may_touch(const struct managed_entry *entry, const struct kube_fieldset *changes, bool *ret) {
    CLEANUP(buffer_deinit) struct buffer element = BUFFER_INIT(ENTRY_TEXT_BYTES_MAX);
    *ret = entry->parsed;
    for (size_t i = 0; i < changes->count && !*ret; i++) {
        buffer_reset(&element);
        if (json_format_string(&element, changes->items[i].element))
            return -ENOMEM;
        *ret = slice_find(slice_of(entry->text), buffer_slice(&element)) >= 0;
    }
    return 0;
}

int managed_take(struct managed *managed, const struct managed_entry *keep, const struct kube_fieldset *fields) {
    for (size_t i = 0; i < managed->count; i++) {
        struct managed_entry *entry = &managed->items[i];
        struct kube_fieldset common = {.count = 0};
        bool touched = false;
        int error = entry == keep ? 0 : may_touch(entry, fields, &touched);
        if (!error && touched)
            error = managed_parse(managed, entry);
        if (!error && touched)
            error = kube_fieldset_intersect(managed->arena, &entry->set, fields, &common);
        if (error)
            return error;
        if (kube_fieldset_is_empty(&common))
            continue;
        kube_fieldset_subtract(&entry->set, fields);
        entry->text = NULL;
    }
    return 0;
}

/* --- bounds and order --- */

static bool is_older(const struct managed_entry *a, const struct managed_entry *b) {
    int64_t x = a->time.set ? a->time.ns / 1000000000 : 0, y = b->time.set ? b->time.ns / 1000000000 : 0;
    return x != y ? x < y : strcmp(a->manager, b->manager) < 0;
}

static struct managed_entry *oldest_updater(struct managed *managed, size_t *ret_count) {
    struct managed_entry *oldest = NULL;
    *ret_count = 0;
    for (size_t i = 0; i < managed->count; i++) {
        struct managed_entry *entry = &managed->items[i];
        if (!is_update(entry))
            continue;
        ++*ret_count;
        if (strcmp(entry->manager, ANCIENT) && (!oldest || is_older(entry, oldest)))
            oldest = entry;
    }
    return oldest;
}

static int cap_updaters(struct managed *managed) {
    for (;;) {
        size_t count;
        struct managed_entry *oldest = oldest_updater(managed, &count);
        if (count <= UPDATERS_MAX || !oldest)
            return 0;
        size_t at = (size_t)(oldest - managed->items);
        const struct managed_entry like = {.manager = ANCIENT, .operation = "Update", .api_version = oldest->api_version, .subresource = ""};
        struct managed_entry *bucket = managed_make(managed, &like);
        oldest = &managed->items[at]; /* making one may move them */
        int error = bucket ? managed_parse(managed, bucket) : -ENOMEM;
        if (!error)
            error = managed_parse(managed, oldest);
        if (!error)
            error = kube_fieldset_add(managed->arena, &bucket->set, &oldest->set);
        if (error)
            return error;
        bucket->text = NULL;
        bucket->time = oldest->time;
        memmove(oldest, oldest + 1, (managed->count - at - 1) * sizeof *oldest);
        managed->count--;
    }
}

static int compare_entries(const void *a, const void *b) {
    const struct managed_entry *x = a, *y = b;
    int64_t at = x->time.set ? x->time.ns / 1000000000 : 0, other = y->time.set ? y->time.ns / 1000000000 : 0;
    int order = strcmp(x->operation, y->operation);
    if (!order && at != other)
        return at < other ? -1 : 1;
    order = order ? order : strcmp(x->manager, y->manager);
    order = order ? order : strcmp(x->api_version, y->api_version);
    return order ? order : strcmp(x->subresource, y->subresource);
}

/* --- writing them --- */

static const char *fields_of(const struct managed_entry *entry, struct arena *arena) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(ENTRY_TEXT_BYTES_MAX);
    if (entry->text)
        return arena_strdup(arena, entry->text);
    return kube_fieldset_format(&entry->set, &text) ? NULL : arena_dup(arena, buffer_slice(&text));
}

static const char *text_or_null(struct arena *arena, const char *text) {
    return *text ? arena_strdup(arena, text) : NULL;
}

int managed_write(struct managed *managed, struct kube_object *object) {
    struct kube_object_meta *metadata = object->metadata;
    struct arena *arena = object->arena;
    int error = cap_updaters(managed);
    if (error)
        return error;
    if (managed->count)
        qsort(managed->items, managed->count, sizeof *managed->items, compare_entries);
    struct kube_managed_fields_entry *items = ARENA_ARRAY(arena, struct kube_managed_fields_entry, managed->count + 1);
    size_t count = 0;
    for (size_t i = 0; i < managed->count && items; i++) {
        const struct managed_entry *entry = &managed->items[i];
        if (entry->text ? !strcmp(entry->text, "{}") : kube_fieldset_is_empty(&entry->set))
            continue;
        struct kube_managed_fields_entry *to = &items[count++];
        *to = (struct kube_managed_fields_entry){
            .manager = text_or_null(arena, entry->manager),
            .operation = arena_strdup(arena, entry->operation),
            .api_version = arena_strdup(arena, entry->api_version),
            .time = entry->time,
            .fields_type = "FieldsV1",
            .fields_v1 = fields_of(entry, arena),
            .subresource = text_or_null(arena, entry->subresource),
        };
        if (!to->operation || !to->api_version || !to->fields_v1)
            return -ENOMEM;
    }
    metadata->managed_fields.items = count ? items : NULL;
    metadata->managed_fields.count = count;
    return items ? 0 : -ENOMEM;
}

/* --- ordinary writes --- */

/* What belongs to another door than the one that is written through. */
static const char *const reset_texts[] = {"{\"f:status\":{}}", "{\"f:spec\":{}}"};

int managed_filter(struct arena *arena, const struct kube_kind *kind, const char *subresource, struct kube_fieldset *fields) {
    struct kube_fieldset reset;
    bool status = !strcmp(subresource, "status");
    if (!kind->has_status || (*subresource && !status))
        return 0;
    int error = kube_fieldset_parse(arena, slice_of(reset_texts[status]), &reset);
    if (!error)
        kube_fieldset_subtract_below(fields, &reset);
    return error;
}

/* An object of the kind in which nothing is set: what a created one is compared with. */
static struct kube_object *nothing_of(const struct kube_kind *kind) {
    return kube_object_new(kind);
}

int managed_changes(struct arena *arena, const struct kube_object *old, const struct kube_object *new, struct kube_fieldset *changed,
                    struct kube_fieldset *removed) {
    CLEANUP(kube_object_unrefp) struct kube_object *nothing = old ? NULL : nothing_of(new->kind);
    const struct kube_object *before = old ? old : nothing;
    struct tree *trees[2];
    struct kube_shape_node shape;
    kube_shape_of(new->kind, &shape);
    int error = before ? kube_encode_differences(before, new, arena, &trees[0], &trees[1]) : -ENOMEM;
    return error ? error : kube_owned_changes(arena, &shape, trees[0], trees[1], changed, removed);
}

int managed_track(struct kube_object *object, const struct kube_object *old, const struct managed_writer *writer, int64_t now_ns) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MANAGED_BYTES_MAX);
    struct managed managed = {.arena = arena};
    struct kube_fieldset changed = {.count = 0}, removed = {.count = 0};
    bool own = writer->trusted && !*writer->subresource;
    int error = arena ? managed_read_newest(own ? object->metadata : NULL, old ? old->metadata : NULL, &managed) : -ENOMEM;
    if (!error)
        error = managed_changes(arena, old, object, &changed, &removed);
    if (!error)
        error = managed_filter(arena, object->kind, writer->subresource, &changed);
    if (!error)
        error = managed_filter(arena, object->kind, writer->subresource, &removed);
    if (error)
        return error;
    struct managed_entry *self = NULL;
    if (!kube_fieldset_is_empty(&changed)) {
        const struct managed_entry like = {.manager = writer->manager,
                                           .operation = "Update",
                                           .api_version = kube_kind_api_version(object->kind),
                                           .subresource = writer->subresource};
        self = managed_make(&managed, &like);
        error = self ? managed_parse(&managed, self) : -ENOMEM;
        if (!error)
            error = kube_fieldset_add(arena, &self->set, &changed);
        if (error)
            return error;
        self->text = NULL;
        self->time = (struct kube_time){.ns = now_ns / 1000000000 * 1000000000, .set = true};
        error = managed_take(&managed, self, &changed);
    }
    if (!error)
        error = managed_take(&managed, NULL, &removed);
    return error ? error : managed_write(&managed, object);
}

/* Kinds that custom resource definitions make, and their objects.
 *
 * 1. A kind's address, names and scope never change; what is behind it (schema, columns, flags) is replaced in place when the definition changes, so
 *    everything that holds the kind sees the newest. What is replaced is freed at once: nothing of it may be kept across turns of the loop.
 * 2. The table holds one reference of each installed kind, each object of a kind one more. A removed kind is found by nobody and lives until the last
 *    of its objects has gone.
 * 3. The table is sorted as discovery shows it: by group, then from the best version down (v2, v1, v1beta1, v1alpha1, others by name), then plural.
 */
#include "kube/custom_priv.h"

#include <ctype.h>

const struct kube_field custom_metadata_field = {
    .name = "metadata", .type = &kube_object_meta_type, .number = 1, .flags = KUBE_ALWAYS, .form = KUBE_FORM_STRUCT, .shape = KUBE_SHAPE_VALUE};

struct kube_custom_set {
    struct kube_custom **kinds;
    size_t count;
};

/* One per process, like the table of built-in kinds. `served` are those of them that requests find, in the same order. */
static VECTOR(struct kube_custom *) table;
static VECTOR(struct kube_custom *) served;

static struct kube_custom *custom_of(const struct kube_kind *kind) {
    return (struct kube_custom *)(uintptr_t)kind->custom;
}

static void content_free(struct custom_content *content) {
    custom_regexes_free(content->regexes);
    arena_free(content->arena);
}

const struct kube_kind *kube_kind_ref(const struct kube_kind *kind) {
    if (kind && kind->custom)
        custom_of(kind)->references++;
    return kind;
}

void kube_kind_unref(const struct kube_kind *kind) {
    if (!kind || !kind->custom)
        return;
    struct kube_custom *custom = custom_of(kind);
    ASSERT(custom->references > 0);
    if (--custom->references)
        return;
    content_free(&custom->content);
    free(custom);
}

/* --- making kinds --- */

/* The kind with its names behind it, in one piece. */
static struct kube_custom *kind_new(const struct tree *spec, const char *version) {
    const char *texts[] = {tree_text_or(tree_find(spec, "group"), ""), version, tree_text_or(tree_path(spec, "names.kind"), ""),
                           tree_text_or(tree_path(spec, "names.plural"), "")};
    size_t lens[ARRAY_LEN(texts)], total = 0;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        total += (lens[i] = strlen(texts[i]) + 1);
    struct kube_custom *custom = calloc(1, sizeof *custom + total + lens[3] + lens[0] + lens[0] + lens[1]);
    if (!custom)
        return NULL;
    char *at = (char *)(custom + 1), *copies[ARRAY_LEN(texts)];
    for (size_t i = 0; i < ARRAY_LEN(texts); i++, at += lens[i - 1])
        copies[i] = memcpy(at, texts[i], lens[i]);
    char *key = at, *api_version = at + lens[3] + lens[0];
    memcpy(key, texts[3], lens[3] - 1);
    key[lens[3] - 1] = '.';
    memcpy(key + lens[3], texts[0], lens[0]);
    memcpy(api_version, texts[0], lens[0] - 1);
    api_version[lens[0] - 1] = '/';
    memcpy(api_version + lens[0], version, lens[1]);
    custom->references = 1;
    custom->type =
        (struct kube_type){.name = copies[2], .fields = &custom_metadata_field, .fields_count = 1, .size = sizeof(struct kube_custom_object)};
    custom->kind = (struct kube_kind){.group = copies[0],
                                      .version = copies[1],
                                      .kind = copies[2],
                                      .plural = copies[3],
                                      .namespaced = strcmp(tree_text_or(tree_find(spec, "scope"), ""), "Namespaced") == 0,
                                      .has_generation = true,
                                      .type = &custom->type,
                                      .key = key,
                                      .api_version = api_version,
                                      .custom = custom};
    return custom;
}

/* Shows what is in the content through the kind. */
static void show_content(struct kube_custom *custom) {
    const struct custom_content *content = &custom->content;
    custom->kind.singular = content->singular;
    custom->kind.short_names = content->short_names;
    custom->kind.categories = content->categories;
    custom->kind.has_status = content->has_status;
    custom->kind.has_scale = content->has_scale;
    custom->kind.columns = content->columns;
    custom->kind.columns_count = content->columns_count;
}

static int copy_text(struct arena *arena, const char *from, const char **ret) {
    *ret = arena_strdup(arena, from);
    return *ret ? 0 : -ENOMEM;
}

static int copy_list(struct arena *arena, const struct tree *list, const char *const **ret) {
    size_t count = tree_count(list);
    const char **items = ARENA_ARRAY(arena, const char *, count + 1);
    int error = items ? 0 : -ENOMEM;
    for (size_t i = 0; i < count && error == 0; i++)
        error = copy_text(arena, tree_text_or(tree_at(list, i), ""), &items[i]);
    *ret = items;
    return error;
}

static int copy_path(struct arena *arena, const struct tree *path, const char **ret) {
    const char *text = tree_text_or(path, "");
    *ret = NULL;
    return *text ? copy_text(arena, *text == '.' ? text + 1 : text, ret) : 0;
}

static int read_scale(struct custom_content *content, const struct tree *scale) {
    content->has_scale = scale != NULL;
    int error = copy_path(content->arena, tree_find(scale, "specReplicasPath"), &content->scale.spec_replicas);
    if (error == 0)
        error = copy_path(content->arena, tree_find(scale, "statusReplicasPath"), &content->scale.status_replicas);
    if (error == 0)
        error = copy_path(content->arena, tree_find(scale, "labelSelectorPath"), &content->scale.selector);
    content->has_scale = content->has_scale && content->scale.spec_replicas && content->scale.status_replicas;
    return error;
}

static int read_selectable(struct custom_content *content, const struct tree *fields) {
    struct custom_selectable *items = ARENA_ARRAY(content->arena, struct custom_selectable, tree_count(fields));
    if (!items)
        return -ENOMEM;
    content->selectable = items;
    for (size_t i = 0; i < tree_count(fields); i++) {
        const char *text = tree_text_or(tree_find(tree_at(fields, i), "jsonPath"), "");
        struct custom_path *path = NULL;
        int error = custom_path_parse(content->arena, slice_of(text), &path);
        if (error == -EINVAL || *text != '.')
            continue;
        if (error == 0)
            error = copy_text(content->arena, text + 1, &items[content->selectable_count].label);
        if (error)
            return error;
        items[content->selectable_count++].path = path;
    }
    return 0;
}

static int read_deprecation(struct custom_content *content, const struct kube_kind *kind, const struct tree *version) {
    const char *text = tree_text_or(tree_find(version, "deprecationWarning"), NULL);
    content->deprecated = tree_bool_or(tree_find(version, "deprecated"), false);
    if (!content->deprecated)
        return 0;
    content->deprecation =
        text ? arena_strdup(content->arena, text) : arena_printf(content->arena, "%s %s is deprecated", kind->api_version, kind->kind);
    return content->deprecation ? 0 : -ENOMEM;
}

static int read_names(struct custom_content *content, const struct kube_kind *kind, const struct tree *names) {
    const char *list_kind = tree_text_or(tree_find(names, "listKind"), "");
    int error = copy_text(content->arena, tree_text_or(tree_find(names, "singular"), ""), &content->singular);
    content->list_kind = *list_kind ? arena_strdup(content->arena, list_kind) : arena_printf(content->arena, "%sList", kind->kind);
    if (error || !content->list_kind)
        return -ENOMEM;
    error = copy_list(content->arena, tree_find(names, "shortNames"), &content->short_names);
    return error ? error : copy_list(content->arena, tree_find(names, "categories"), &content->categories);
}

static int keep_text(struct custom_content *content, const struct tree *schema) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(16 * MIB);
    int error = schema ? json_format(&text, schema) : buffer_append_text(&text, "{}");
    char *copy = error ? NULL : arena_dup(content->arena, buffer_slice(&text));
    content->text = slice_make(copy, text.len);
    return copy ? 0 : -ENOMEM;
}

struct tree *custom_schema_tree(const struct kube_kind *kind, struct arena *arena) {
    struct tree *tree = NULL;
    return json_parse(arena, kind->custom->content.text, NULL, &tree, NULL) == 0 ? tree : NULL;
}

static int fill_content(struct kube_custom *custom, const struct tree *names, const struct tree *version, size_t *nodes) {
    struct custom_content *content = &custom->content;
    content->arena = arena_new(CUSTOM_ARENA_BYTES_MAX);
    if (!content->arena)
        return -ENOMEM;
    struct custom_compiler compiler = {.arena = content->arena, .nodes = *nodes};
    content->served = tree_bool_or(tree_find(version, "served"), false);
    content->storage = tree_bool_or(tree_find(version, "storage"), false);
    content->has_status = tree_path(version, "subresources.status") != NULL;
    content->schema = custom_schema_compile(&compiler, tree_path(version, "schema.openAPIV3Schema"));
    content->regexes = compiler.regexes;
    *nodes = compiler.nodes;
    int error = compiler.nodes > CUSTOM_SCHEMA_NODES_MAX ? -E2BIG
                : content->schema                        ? keep_text(content, tree_path(version, "schema.openAPIV3Schema"))
                                                         : -ENOMEM;
    if (error == 0)
        error = read_names(content, &custom->kind, names);
    if (error == 0)
        error = read_scale(content, tree_path(version, "subresources.scale"));
    if (error == 0)
        error = read_selectable(content, tree_find(version, "selectableFields"));
    if (error == 0)
        error = read_deprecation(content, &custom->kind, version);
    if (error == 0)
        error = custom_columns_compile(content->arena, tree_find(version, "additionalPrinterColumns"), &content->columns, &content->columns_count);
    show_content(custom);
    return error;
}

void kube_custom_set_free(struct kube_custom_set *set) {
    for (size_t i = 0; set && i < set->count; i++)
        kube_kind_unref(&set->kinds[i]->kind);
    if (set)
        free(set->kinds);
    free(set);
}

int kube_custom_compile(const struct tree *definition, struct kube_custom_set **ret, struct diag *diag) {
    const struct tree *spec = tree_find(definition, "spec"), *names = tree_find(spec, "names"), *versions = tree_find(spec, "versions");
    const char *const required[] = {"group", "names.kind", "names.plural"};
    for (size_t i = 0; i < ARRAY_LEN(required); i++)
        if (!*tree_text_or(tree_path(spec, required[i]), ""))
            return diag_set(diag, -EINVAL, "the definition has no spec.%s", required[i]);
    CLEANUP(kube_custom_set_freep) struct kube_custom_set *set = calloc(1, sizeof *set);
    size_t count = tree_count(versions), nodes = 0;
    uint64_t revision = 0;
    if (slice_parse_u64(slice_of(tree_text_or(tree_path(definition, "metadata.resourceVersion"), "")), UINT64_MAX, &revision) != 0)
        revision = UINT64_MAX;
    bool webhook = strcmp(tree_text_or(tree_path(spec, "conversion.strategy"), ""), "Webhook") == 0;
    if (!set || !(set->kinds = calloc(count + 1, sizeof *set->kinds)))
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        struct kube_custom *custom = kind_new(spec, tree_text_or(tree_find(tree_at(versions, i), "name"), ""));
        if (!custom)
            return -ENOMEM;
        set->kinds[set->count++] = custom;
        int error = fill_content(custom, names, tree_at(versions, i), &nodes);
        if (error)
            return error;
        custom->content.generation = tree_int_or(tree_path(definition, "metadata.generation"), 0);
        custom->content.revision = revision;
        if (webhook && !custom->content.storage)
            custom->content.served = false; /* nobody converts to it */
    }
    *ret = TAKE(set);
    return 0;
}

/* --- the table --- */

/* "v2" before "v1" before "v2beta1" before "v1alpha3"; what is no such version comes last, by name. */
static void version_rank(const char *version, int64_t rank[3]) {
    static const char *const stages[] = {"alpha", "beta"};
    struct slice rest = slice_of(version);
    int64_t major = 0, minor = 0;
    size_t digits = 0;
    memset(rank, 0, 3 * sizeof *rank);
    if (rest.len < 2 || rest.data[0] != 'v')
        return;
    rest = slice_from(rest, 1);
    while (digits < rest.len && isdigit((unsigned char)rest.data[digits]))
        digits++;
    if (slice_parse_i64(slice_head(rest, digits), &major) != 0)
        return;
    rest = slice_from(rest, digits);
    int64_t stage = rest.len == 0 ? 3 : 0;
    for (size_t i = 0; i < ARRAY_LEN(stages); i++)
        if (slice_starts(rest, slice_of(stages[i])) && slice_parse_i64(slice_from(rest, strlen(stages[i])), &minor) == 0)
            stage = (int64_t)i + 1;
    rank[0] = stage;
    rank[1] = stage ? major : 0;
    rank[2] = minor;
}

static int compare(const struct kube_kind *a, const struct kube_kind *b) {
    int order = strcmp(a->group, b->group);
    int64_t ranks[2][3];
    version_rank(a->version, ranks[0]);
    version_rank(b->version, ranks[1]);
    for (size_t i = 0; i < 3 && order == 0; i++)
        order = ranks[0][i] == ranks[1][i] ? 0 : ranks[0][i] > ranks[1][i] ? -1 : 1;
    if (order == 0)
        order = strcmp(a->version, b->version);
    return order ? order : strcmp(a->plural, b->plural);
}

static void table_insert(struct kube_custom *custom) {
    size_t at = table.count++;
    for (; at > 0 && compare(&custom->kind, &table.items[at - 1]->kind) < 0; at--)
        table.items[at] = table.items[at - 1];
    table.items[at] = custom;
    custom->installed = true;
}

static void table_remove(size_t index) {
    struct kube_custom *custom = table.items[index];
    VECTOR_REMOVE(&table, index);
    custom->installed = false;
    custom->kind.stored_as = NULL;
    kube_kind_unref(&custom->kind);
}

static bool is_same_kind(const struct kube_kind *a, const struct kube_kind *b) {
    return !strcmp(a->group, b->group) && !strcmp(a->plural, b->plural) && !strcmp(a->version, b->version) && !strcmp(a->kind, b->kind) &&
           a->namespaced == b->namespaced;
}

static bool is_of(const struct kube_custom *custom, struct slice group, struct slice plural) {
    return slice_is(group, custom->kind.group) && slice_is(plural, custom->kind.plural);
}

/* The installed kind takes over the content of the new one. */
static bool take_over(struct kube_custom_set *set, struct kube_custom *installed) {
    for (size_t i = 0; i < set->count; i++) {
        struct kube_custom *new_one = set->kinds[i];
        if (new_one->spent || !is_same_kind(&new_one->kind, &installed->kind))
            continue;
        struct custom_content old = installed->content;
        installed->content = new_one->content;
        if (old.generation == new_one->content.generation || slice_equal(old.text, installed->content.text))
            installed->content.revision = old.revision; /* what was written by the old schema was written by the new one */
        new_one->content = old;
        show_content(installed);
        new_one->spent = true;
        return true;
    }
    return false;
}

/* Which versions are views of which, and which are served. There is room in `served` for all. */
static void table_changed(void) {
    struct slice none = {NULL, 0};
    served.count = 0;
    for (size_t i = 0; i < table.count; i++)
        if (table.items[i]->content.served)
            served.items[served.count++] = table.items[i];
    for (size_t i = 0; i < table.count; i++) {
        struct kube_kind *kind = &table.items[i]->kind;
        kind->stored_as = table.items[i]->content.storage ? NULL : kube_custom_version(slice_of(kind->group), none, slice_of(kind->plural));
    }
    kube_kinds_changed();
}

int kube_custom_install(struct kube_custom_set *set) {
    if (table.count + set->count > CUSTOM_KINDS_MAX)
        return -E2BIG;
    while (table.capacity < table.count + set->count)
        if (vector_grow(&table.items, table.capacity, &table.capacity, sizeof *table.items) < 0)
            return -ENOMEM;
    while (served.capacity < table.capacity)
        if (vector_grow(&served.items, served.capacity, &served.capacity, sizeof *served.items) < 0)
            return -ENOMEM;
    const struct kube_kind *first = set->count ? &set->kinds[0]->kind : NULL;
    for (size_t i = table.count; first && i-- > 0;) {
        struct kube_custom *custom = table.items[i];
        if (!is_of(custom, slice_of(first->group), slice_of(first->plural)) || take_over(set, custom))
            continue;
        table_remove(i);
    }
    for (size_t i = 0; i < set->count; i++)
        if (set->kinds[i]->spent)
            kube_kind_unref(&set->kinds[i]->kind);
        else
            table_insert(set->kinds[i]);
    free(set->kinds);
    free(set);
    table_changed();
    return 0;
}

void kube_custom_remove(struct slice group, struct slice plural) {
    for (size_t i = table.count; i-- > 0;)
        if (is_of(table.items[i], group, plural))
            table_remove(i);
    table_changed();
    if (table.count == 0) {
        VECTOR_DEINIT(&table);
        VECTOR_DEINIT(&served);
    }
}

size_t custom_kinds_served(void) {
    return served.count;
}

const struct kube_kind *custom_kind_served_at(size_t index) {
    return index < served.count ? &served.items[index]->kind : NULL;
}

const struct kube_kind *custom_kind_find(struct slice group, struct slice version, struct slice kind) {
    for (size_t i = 0; i < table.count; i++) {
        const struct kube_kind *found = &table.items[i]->kind;
        if (slice_is(kind, found->kind) && slice_is(group, found->group) && slice_is(version, found->version))
            return found;
    }
    return NULL;
}

const struct kube_kind *kube_custom_version(struct slice group, struct slice version, struct slice plural) {
    const struct kube_kind *storage = NULL;
    for (size_t i = 0; i < table.count; i++) {
        const struct kube_custom *custom = table.items[i];
        if (!is_of(custom, group, plural))
            continue;
        if (slice_is(version, custom->kind.version))
            return &custom->kind;
        if (custom->content.storage)
            storage = &custom->kind;
    }
    return storage;
}

const struct kube_kind *kube_custom_storage(const struct kube_kind *kind) {
    return kind->custom && !kind->custom->installed ? NULL : kube_kind_stored(kind);
}

uint64_t kube_custom_revision(const struct kube_kind *kind) {
    return kind->custom->content.revision;
}

const char *kube_custom_deprecation(const struct kube_kind *kind) {
    return kind->custom ? kind->custom->content.deprecation : NULL;
}

const char *kube_custom_list_kind(const struct kube_kind *kind) {
    return kind->custom->content.list_kind;
}

const struct kube_scale_paths *kube_custom_scale(const struct kube_kind *kind) {
    return kind->custom && kind->custom->content.has_scale ? &kind->custom->content.scale : NULL;
}

/* --- objects --- */

struct tree *custom_tree(const struct kube_object *object, struct arena *arena, bool metadata) {
    struct tree *map = tree_map(arena);
    if (!map)
        return NULL;
    if (metadata) {
        struct tree *meta = kube_field_tree(&custom_metadata_field, object->metadata, arena);
        if (tree_set_text(arena, map, "kind", object->kind->kind) != 0 || tree_set_text(arena, map, "apiVersion", object->kind->api_version) != 0 ||
            tree_set(arena, map, SLICE("metadata"), meta) != 0)
            return NULL;
    }
    const struct tree *content = object->custom->content;
    for (size_t i = 0; i < tree_count(content); i++)
        if (tree_set(arena, map, content->children->items[i].key, tree_copy(arena, content->children->items[i].value)) != 0)
            return NULL;
    return map;
}

struct kube_object *kube_custom_convert(const struct kube_object *object, const struct kube_kind *kind) {
    struct kube_object *copy = kube_object_copy(object);
    if (copy)
        kube_custom_rename(copy, kind);
    return copy;
}

void kube_custom_rename(struct kube_object *object, const struct kube_kind *kind) {
    kube_kind_ref(kind);
    kube_kind_unref(object->kind);
    object->kind = kind;
}

bool kube_object_equal(const struct kube_object *a, const struct kube_object *b) {
    if (a->kind != b->kind || !kube_equal(a->kind->type, a->data, b->data))
        return false;
    return !a->kind->custom || tree_equal(a->custom->content, b->custom->content);
}

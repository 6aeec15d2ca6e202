/* Tree → struct. The walker takes each entry of a JSON object to the field of that name; null is absent, as in Go. What the type does not know is
 * dropped, reported or refused according to the strictness. Messages are those of upstream's decoder: "json: cannot unmarshal string into Go struct
 * field DeploymentSpec.spec.replicas of type int32", and all unknown fields in one "strict decoding error: unknown field "a", unknown field "b"".
 *
 * Invariants: everything decoded is copied into the arena, nothing points into the tree; map entries are sorted by key, the last of equal ones wins;
 * strings with a NUL byte are refused, since C strings cannot hold them. */
#include "kube/custom_priv.h"
#include "kube/decode_priv.h"
#include "kube/helpers_priv.h"

#include <stdio.h>

#define UNKNOWN_TEXT_MAX 4096

struct decoder {
    struct arena *arena;
    enum kube_strictness strictness;
    struct diag *diag;
    const char *struct_name; /* of the struct at hand, for messages */
    struct kube_path path;
    struct buffer unknown; /* "unknown field …, unknown field …" */
};

static int decode_struct(struct decoder *decoder, const struct kube_type *type, const struct tree *tree, void *data);

/* Go's path has no indices. */
static void go_path(const struct kube_path *path, char *out, size_t size) {
    size_t at = 0;
    int depth = 0;
    for (size_t i = 0; i < path->len && at + 1 < size; i++) {
        depth += path->text[i] == '[';
        if (depth == 0)
            out[at++] = path->text[i];
        depth -= path->text[i] == ']';
    }
    out[at] = 0;
}

static const char *go_kind_of(const struct tree *tree) {
    static const char *const names[] = {[TREE_NULL] = "null",     [TREE_BOOL] = "bool",  [TREE_INT] = "number", [TREE_FLOAT] = "number",
                                        [TREE_STRING] = "string", [TREE_LIST] = "array", [TREE_MAP] = "object"};
    return names[tree->type];
}

static int type_error(struct decoder *decoder, const struct tree *tree, const char *go_type) {
    char path[400], number[40] = "";
    go_path(&decoder->path, path, sizeof path);
    if (tree->type == TREE_INT)
        snprintf(number, sizeof number, " %" PRId64, tree->integer);
    else if (tree->type == TREE_FLOAT)
        snprintf(number, sizeof number, " %g", tree->real);
    if (strcmp(go_type, "string") == 0)
        number[0] = 0;
    diag_at(decoder->diag, NULL, (int)tree->line, (int)tree->column);
    if (path[0] == 0)
        return diag_set(decoder->diag, -EINVAL, "json: cannot unmarshal %s%s into Go value of type %s", go_kind_of(tree), number, go_type);
    return diag_set(decoder->diag, -EINVAL, "json: cannot unmarshal %s%s into Go struct field %s.%s of type %s", go_kind_of(tree), number,
                    decoder->struct_name, path, go_type);
}

static int value_error(struct decoder *decoder, const struct tree *tree, const char *message) {
    diag_at(decoder->diag, NULL, (int)tree->line, (int)tree->column);
    if (decoder->diag)
        snprintf(decoder->diag->path, sizeof decoder->diag->path, "%.199s", decoder->path.text);
    return diag_set(decoder->diag, -EINVAL, "%s", message);
}

static int decode_string(struct decoder *decoder, const struct tree *tree, const char **ret) {
    if (tree->type != TREE_STRING)
        return type_error(decoder, tree, "string");
    if (memchr(tree->string.data, 0, tree->string.len))
        return value_error(decoder, tree, "the string holds a NUL character, which is not supported");
    *ret = arena_dup(decoder->arena, tree->string);
    return *ret ? 0 : -ENOMEM;
}

static int decode_integer(struct decoder *decoder, const struct tree *tree, int64_t low, int64_t high, const char *go_type, int64_t *ret) {
    int64_t value = 0;
    if (tree->type == TREE_INT)
        value = tree->integer;
    else if (tree->type == TREE_FLOAT && tree->real >= -9e15 && tree->real <= 9e15 && tree->real == (double)(int64_t)tree->real)
        value = (int64_t)tree->real; /* 1e3 and 3.0, as sigs.k8s.io/json takes them */
    else
        return type_error(decoder, tree, go_type);
    if (value < low || value > high)
        return type_error(decoder, tree, go_type);
    *ret = value;
    return 0;
}

/* Fractions that the encoder would drop are dropped here, so that what is stored is what was decoded. */
static int64_t round_down(int64_t ns, int64_t unit) {
    return ns / unit * unit - (ns % unit < 0 ? unit : 0);
}

static int decode_time(struct decoder *decoder, const struct tree *tree, int64_t unit_ns, struct kube_time *ret) {
    if (tree->type != TREE_STRING)
        return type_error(decoder, tree, "string");
    int64_t us;
    if (timestamp_parse(tree->string, &ret->ns) == 0) {
        ret->ns = round_down(ret->ns, unit_ns);
        ret->set = true;
    } else if (timestamp_parse_far(tree->string, &us) == 0) {
        *ret = kube_time_far(round_down(us, unit_ns / 1000));
    } else {
        char message[DIAG_TEXT_MAX];
        snprintf(message, sizeof message, "parsing time \"%.*s\" as \"2006-01-02T15:04:05Z07:00\": cannot parse it", (int)MIN(tree->string.len, 100),
                 tree->string.data);
        return value_error(decoder, tree, message);
    }
    return 0;
}

static int decode_duration(struct decoder *decoder, const struct tree *tree, int64_t *ret) {
    if (tree->type != TREE_STRING)
        return type_error(decoder, tree, "string");
    if (duration_parse(tree->string, ret) == 0)
        return 0;
    char message[DIAG_TEXT_MAX];
    snprintf(message, sizeof message, "time: invalid duration \"%.*s\"", (int)MIN(tree->string.len, 100), tree->string.data);
    return value_error(decoder, tree, message);
}

int kube_quantity_set(struct kube_quantity *quantity, struct arena *arena, struct slice text) {
    char canonical[64];
    if (quantity_parse_milli(text, &quantity->milli) != 0 || quantity_canonical(text, canonical) != 0)
        return -EINVAL;
    quantity->text = arena_strdup(arena, canonical);
    return quantity->text ? 0 : -ENOMEM;
}

static int decode_quantity(struct decoder *decoder, const struct tree *tree, struct kube_quantity *ret) {
    char number[40];
    struct slice text = tree->string;
    if (tree->type == TREE_INT)
        text = slice_make(number, (size_t)snprintf(number, sizeof number, "%" PRId64, tree->integer));
    else if (tree->type == TREE_FLOAT)
        text = slice_make(number, (size_t)snprintf(number, sizeof number, "%.17g", tree->real));
    else if (tree->type != TREE_STRING)
        return type_error(decoder, tree, "resource.Quantity");
    int error = kube_quantity_set(ret, decoder->arena, text);
    if (error == -EINVAL)
        return value_error(decoder, tree, "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
    return error;
}

static int decode_int_or_string(struct decoder *decoder, const struct tree *tree, struct kube_int_or_string *ret) {
    int64_t number = 0;
    ret->is_string = tree->type == TREE_STRING;
    if (ret->is_string)
        return decode_string(decoder, tree, &ret->text);
    int error = decode_integer(decoder, tree, INT32_MIN, INT32_MAX, "int32", &number);
    ret->number = (int32_t)number;
    return error;
}

static int decode_bytes(struct decoder *decoder, const struct tree *tree, struct slice *ret) {
    if (tree->type != TREE_STRING)
        return type_error(decoder, tree, "[]uint8");
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(tree->string.len + 64);
    int error = base64_decode(&bytes, tree->string);
    if (error == -EINVAL)
        return value_error(decoder, tree, "illegal base64 data");
    if (error)
        return error;
    const char *copy = arena_dup(decoder->arena, buffer_slice(&bytes));
    *ret = slice_make(copy, bytes.len);
    return copy ? 0 : -ENOMEM;
}

static int decode_strings(struct decoder *decoder, const struct tree *tree, struct kube_string_list *ret) {
    if (tree->type != TREE_LIST)
        return type_error(decoder, tree, "[]string");
    ret->count = tree_count(tree);
    ret->items = ARENA_ARRAY(decoder->arena, const char *, ret->count);
    int error = ret->items ? 0 : -ENOMEM;
    for (size_t i = 0; i < ret->count && error == 0; i++)
        error = decode_string(decoder, tree->children->items[i].value, &ret->items[i]);
    return error;
}

static int decode_fields(struct decoder *decoder, const struct tree *tree, const char **ret) {
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(OBJECT_ARENA_BYTES_MAX);
    if (tree->type != TREE_MAP)
        return type_error(decoder, tree, "v1.FieldsV1");
    *ret = json_format(&json, tree) == 0 ? arena_dup(decoder->arena, buffer_slice(&json)) : NULL;
    return *ret ? 0 : -ENOMEM;
}

/* One value of the field's form, wherever it stands. */
static int decode_value(struct decoder *decoder, const struct kube_field *field, const struct tree *tree, void *at) {
    int64_t number = 0;
    int error = 0;
    switch ((enum kube_form)field->form) {
    case KUBE_FORM_STRING: return decode_string(decoder, tree, at);
    case KUBE_FORM_BOOL:
        if (tree->type != TREE_BOOL)
            return type_error(decoder, tree, "bool");
        *(bool *)at = tree->boolean;
        return 0;
    case KUBE_FORM_INT32:
        error = decode_integer(decoder, tree, INT32_MIN, INT32_MAX, "int32", &number);
        *(int32_t *)at = (int32_t)number;
        return error;
    case KUBE_FORM_INT64: return decode_integer(decoder, tree, INT64_MIN, INT64_MAX, "int64", at);
    case KUBE_FORM_DOUBLE:
        if (tree->type != TREE_INT && tree->type != TREE_FLOAT)
            return type_error(decoder, tree, "float64");
        *(double *)at = tree->type == TREE_INT ? (double)tree->integer : tree->real;
        return 0;
    case KUBE_FORM_TIME:
    case KUBE_FORM_MICROTIME: return decode_time(decoder, tree, field->form == KUBE_FORM_TIME ? 1000000000 : 1000, at);
    case KUBE_FORM_DURATION: return decode_duration(decoder, tree, at);
    case KUBE_FORM_QUANTITY: return decode_quantity(decoder, tree, at);
    case KUBE_FORM_INT_OR_STRING: return decode_int_or_string(decoder, tree, at);
    case KUBE_FORM_BYTES: return decode_bytes(decoder, tree, at);
    case KUBE_FORM_FIELDS: return decode_fields(decoder, tree, at);
    case KUBE_FORM_RAW:
    case KUBE_FORM_JSON: *(struct tree **)at = tree_copy(decoder->arena, tree); return *(struct tree **)at ? 0 : -ENOMEM;
    case KUBE_FORM_STRINGS: return decode_strings(decoder, tree, at);
    case KUBE_FORM_STRUCT: return decode_struct(decoder, field->type, tree, at);
    }
    UNREACHABLE();
}

static int decode_list(struct decoder *decoder, const struct kube_field *field, const struct tree *tree, struct kube_array *array) {
    if (tree->type != TREE_LIST) {
        char go_type[120];
        snprintf(go_type, sizeof go_type, "[]%s", field->type ? field->type->name : field->form == KUBE_FORM_STRING ? "string" : "int32");
        return type_error(decoder, tree, go_type);
    }
    size_t size = kube_value_size(field);
    if (field->form == KUBE_FORM_STRUCT && tree_count(tree) > KUBE_LIST_STRUCTS_MAX) {
        char message[100];
        snprintf(message, sizeof message, "Too many: %zu: must have at most %d items", tree_count(tree), KUBE_LIST_STRUCTS_MAX);
        return value_error(decoder, tree, message);
    }
    array->count = tree_count(tree);
    array->items = arena_array(decoder->arena, array->count, size);
    if (!array->items)
        return -ENOMEM;
    for (size_t i = 0; i < array->count; i++) {
        const struct tree *item = tree->children->items[i].value;
        size_t before = kube_path_push_index(&decoder->path, i);
        int error = 0;
        if (item->type != TREE_NULL)
            error = decode_value(decoder, field, item, (char *)array->items + i * size);
        else if (field->form == KUBE_FORM_STRING) /* Go gives the zero value */
            ((const char **)array->items)[i] = "";
        kube_path_pop(&decoder->path, before);
        if (error)
            return error;
    }
    return 0;
}

static int compare_pairs(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void kube_map_sort(const struct kube_field *field, struct kube_array *map) {
    size_t size = kube_pair_size(field), kept = 0;
    if (map->count < 2)
        return;
    qsort(map->items, map->count, size, compare_pairs);
    for (size_t i = 1; i < map->count; i++) {
        char *last = (char *)map->items + kept * size, *pair = (char *)map->items + i * size;
        if (compare_pairs(last, pair) != 0)
            last = (char *)map->items + ++kept * size;
        memmove(last, pair, size);
    }
    map->count = kept + 1;
}

static int decode_map(struct decoder *decoder, const struct kube_field *field, const struct tree *tree, struct kube_array *map) {
    if (tree->type != TREE_MAP)
        return type_error(decoder, tree, field->form == KUBE_FORM_QUANTITY ? "v1.ResourceList" : "map[string]string");
    size_t size = kube_pair_size(field);
    map->count = tree_count(tree);
    map->items = arena_array(decoder->arena, map->count, size);
    if (!map->items)
        return -ENOMEM;
    for (size_t i = 0; i < map->count; i++) {
        const struct tree_entry *entry = &tree->children->items[i];
        char *pair = (char *)map->items + i * size;
        if (memchr(entry->key.data, 0, entry->key.len))
            return value_error(decoder, tree, "a key holds a NUL character, which is not supported");
        *(const char **)(void *)pair = arena_dup(decoder->arena, entry->key);
        if (!*(const char **)(void *)pair)
            return -ENOMEM;
        size_t before = kube_path_push(&decoder->path, entry->key.data, entry->key.len);
        int error = 0;
        if (entry->value->type != TREE_NULL)
            error = decode_value(decoder, field, entry->value, pair + sizeof(char *));
        else if (field->form == KUBE_FORM_STRING)
            *(const char **)(void *)(pair + sizeof(char *)) = "";
        else if (field->form == KUBE_FORM_QUANTITY)
            error = kube_quantity_set((void *)(pair + sizeof(char *)), decoder->arena, SLICE("0"));
        kube_path_pop(&decoder->path, before);
        if (error)
            return error;
    }
    kube_map_sort(field, map);
    return 0;
}

static int decode_field(struct decoder *decoder, const struct kube_field *field, const struct tree *tree, void *at) {
    if (tree->type == TREE_NULL)
        return 0;
    switch ((enum kube_shape)field->shape) {
    case KUBE_SHAPE_LIST: return decode_list(decoder, field, tree, at);
    case KUBE_SHAPE_MAP: return decode_map(decoder, field, tree, at);
    case KUBE_SHAPE_POINTER:
        if (kube_form_is_own_pointer(field))
            return decode_value(decoder, field, tree, at);
        *(void **)at = arena_alloc(decoder->arena, kube_value_size(field));
        return *(void **)at ? decode_value(decoder, field, tree, *(void **)at) : -ENOMEM;
    case KUBE_SHAPE_VALUE:
        if (field->form == KUBE_FORM_STRING && tree->type == TREE_STRING && tree->string.len == 0)
            return 0;
        return decode_value(decoder, field, tree, at);
    }
    UNREACHABLE();
}

static void report_pruned(void *userdata, const char *path) {
    struct decoder *decoder = userdata;
    if (decoder->strictness == KUBE_WARN)
        diag_cause(decoder->diag, "FieldValueInvalid", path, "unknown field \"%s\"", path);
    else
        buffer_printf(&decoder->unknown, "%sunknown field \"%s\"", decoder->unknown.len > 0 ? ", " : "", path);
}

static void report_unknown(struct decoder *decoder, struct slice name) {
    if (decoder->strictness == KUBE_LENIENT)
        return;
    size_t before = kube_path_push(&decoder->path, name.data, name.len);
    report_pruned(decoder, decoder->path.text);
    kube_path_pop(&decoder->path, before);
}

/* Entries mostly come in the order of the fields: look from the one behind the last. */
static const struct kube_field *next_field(const struct kube_type *type, struct slice name, size_t *hint) {
    for (size_t i = 0; i < type->fields_count; i++) {
        size_t at = (*hint + i) % type->fields_count;
        if (slice_is(name, type->fields[at].name)) {
            *hint = at + 1;
            return &type->fields[at];
        }
    }
    return NULL;
}

/* A union: the node's type tells which of its fields it is. A boolean beside a struct means that there is one. */
static int decode_either(struct decoder *decoder, const struct kube_type *type, const struct tree *tree, void *data) {
    const struct kube_field *field = kube_either_for(type, tree);
    if (!field)
        return value_error(decoder, tree, "boolean, array or JSON schema expected");
    for (size_t i = 0; i < type->fields_count; i++)
        if (type->fields[i].form == KUBE_FORM_BOOL && &type->fields[i] != field)
            *(bool *)kube_at(&type->fields[i], data) = true;
    return decode_field(decoder, field, tree, kube_at(field, data));
}

static int decode_struct(struct decoder *decoder, const struct kube_type *type, const struct tree *tree, void *data) {
    if (type->either)
        return decode_either(decoder, type, tree, data);
    if (tree->type != TREE_MAP) {
        char go_type[120];
        snprintf(go_type, sizeof go_type, "v1.%s", type->name);
        return type_error(decoder, tree, go_type);
    }
    size_t hint = 0;
    bool root = decoder->path.len == 0;
    const char *outer = decoder->struct_name;
    decoder->struct_name = type->name;
    int error = 0;
    for (size_t i = 0; i < tree_count(tree) && error == 0; i++) {
        const struct tree_entry *entry = &tree->children->items[i];
        const struct kube_field *field = next_field(type, entry->key, &hint);
        if (!field) {
            if (!root || !(slice_is(entry->key, "kind") || slice_is(entry->key, "apiVersion")))
                report_unknown(decoder, entry->key);
            continue;
        }
        size_t before = kube_path_push_field(&decoder->path, field->name);
        error = decode_field(decoder, field, entry->value, kube_at(field, data));
        kube_path_pop(&decoder->path, before);
    }
    decoder->struct_name = outer;
    return error;
}

/* The walker knows the root and what is in metadata; a custom kind's schema knows the rest. */
static int decode_custom(struct decoder *decoder, const struct custom_schema *schema, const struct tree *tree, struct kube_custom_object *object) {
    if (tree->type != TREE_MAP)
        return type_error(decoder, tree, "map[string]interface {}");
    const struct tree *metadata = tree_find(tree, "metadata");
    size_t before = kube_path_push_field(&decoder->path, "metadata");
    int error = metadata ? decode_field(decoder, &custom_metadata_field, metadata, &object->metadata) : 0;
    kube_path_pop(&decoder->path, before);
    struct custom_pruner pruner = {
        .arena = decoder->arena, .path = &decoder->path, .unknown = decoder->strictness == KUBE_LENIENT ? NULL : report_pruned, .userdata = decoder};
    if (error == 0)
        object->content = custom_prune_root(&pruner, schema, tree);
    return object->content ? error : -ENOMEM;
}

static int run(struct decoder *decoder, const struct kube_type *type, const struct custom_schema *schema, const struct tree *tree, void *data) {
    decoder->unknown = BUFFER_INIT(UNKNOWN_TEXT_MAX);
    decoder->struct_name = type->name;
    int error = schema ? decode_custom(decoder, schema, tree, data) : decode_struct(decoder, type, tree, data);
    if (error == -ENOMEM)
        diag_set(decoder->diag, error, "the object is too large");
    if (error == 0 && buffer_error(&decoder->unknown) == -ENOMEM)
        error = -ENOMEM; /* an unknown field that cannot be named is no known one */
    else if (error == 0 && decoder->unknown.len > 0)
        error = diag_set(decoder->diag, -EINVAL, "strict decoding error: %s", decoder->unknown.data);
    buffer_deinit(&decoder->unknown);
    return error;
}

int kube_decode_part(const struct kube_type *type, const struct tree *tree, struct arena *arena, void *data, struct diag *diag) {
    struct decoder decoder = {.arena = arena, .diag = diag, .strictness = KUBE_LENIENT};
    return run(&decoder, type, NULL, tree, data);
}

/* apiVersion and kind, when present, must be those of the kind; absent ones are taken as meant. */
static int check_type_meta(const struct kube_kind *kind, const struct tree *tree, struct diag *diag) {
    const struct tree *api_version = tree_find(tree, "apiVersion"), *kind_name = tree_find(tree, "kind");
    const char *found_version = tree_text_or(api_version, ""), *found_kind = tree_text_or(kind_name, "");
    if (found_version[0] && strcmp(found_version, kind->api_version) != 0)
        return diag_set(diag, -EINVAL, "the API version in the data (%s) does not match the expected API version (%s)", found_version,
                        kind->api_version);
    if (found_kind[0] && strcmp(found_kind, kind->kind) != 0)
        return diag_set(diag, -EINVAL, "the kind in the data (%s) does not match the expected kind (%s)", found_kind, kind->kind);
    return 0;
}

int kube_decode_tree(const struct kube_kind *kind, const struct tree *tree, enum kube_strictness strictness, struct kube_object **ret,
                     struct diag *diag) {
    int error = check_type_meta(kind, tree, diag);
    if (error)
        return error;
    CLEANUP(kube_object_unrefp) struct kube_object *object = kube_object_new(kind);
    if (!object)
        return -ENOMEM;
    struct decoder decoder = {.arena = object->arena, .diag = diag, .strictness = strictness};
    error = run(&decoder, kind->type, kind->custom ? custom_schema_of(kind) : NULL, tree, object->data);
    if (error)
        return error;
    *ret = TAKE(object);
    return 0;
}

void kube_api_version_cut(struct slice api_version, struct slice *ret_group, struct slice *ret_version) {
    struct slice rest = api_version, group = slice_cut(&rest, '/');
    *ret_group = rest.data ? group : SLICE("");
    *ret_version = rest.data ? rest : group;
}

int kube_decode_json(const struct kube_kind *kind, struct slice json, enum kube_strictness strictness, struct kube_object **ret, struct diag *diag) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    struct json_options options = {.allow_duplicates = strictness != KUBE_STRICT};
    struct tree *tree = NULL;
    if (!arena)
        return -ENOMEM;
    int error = json_parse(arena, json, &options, &tree, diag);
    if (error)
        return error;
    if (!kind) {
        struct slice group, version;
        const char *api_version = tree_text_or(tree_find(tree, "apiVersion"), ""), *name = tree_text_or(tree_find(tree, "kind"), "");
        if (!name[0])
            return diag_set(diag, -EINVAL, "Object 'Kind' is missing");
        if (!api_version[0])
            return diag_set(diag, -EINVAL, "Object 'apiVersion' is missing");
        kube_api_version_cut(slice_of(api_version), &group, &version);
        kind = kube_kind_find(group, version, slice_of(name));
        if (!kind)
            return diag_set(diag, -EINVAL, "no kind \"%s\" is registered for version \"%s\"", name, api_version);
    }
    return kube_decode_tree(kind, tree, strictness, ret, diag);
}

/* The descriptor tables that the schema compiler writes (kube_tables.c) and everything here walks. A type is a list of fields with offsets into its
 * struct; a field has a form (what a single value is) and a shape (one value, a pointer, a list, a map). */
#ifndef TIDEMILL_KUBE_SCHEMA_PRIV_H
#define TIDEMILL_KUBE_SCHEMA_PRIV_H

#include "kube/kube.h"

enum kube_form {
    KUBE_FORM_STRING,
    KUBE_FORM_BOOL,
    KUBE_FORM_INT32,
    KUBE_FORM_INT64,
    KUBE_FORM_DOUBLE,
    KUBE_FORM_TIME,
    KUBE_FORM_MICROTIME,
    KUBE_FORM_DURATION, /* Duration: nanoseconds; "30s" in JSON, {duration = 1} on the wire */
    KUBE_FORM_QUANTITY,
    KUBE_FORM_INT_OR_STRING,
    KUBE_FORM_BYTES,
    KUBE_FORM_RAW,     /* RawExtension, and JSON of apiextensions: a message {raw = 1} on the wire */
    KUBE_FORM_FIELDS,  /* FieldsV1: {Raw = 1}; kept as JSON text */
    KUBE_FORM_JSON,    /* any value; has no wire form */
    KUBE_FORM_STRINGS, /* only in maps: lists of strings, {items = 1} */
    KUBE_FORM_STRUCT,
};
enum kube_shape { KUBE_SHAPE_VALUE, KUBE_SHAPE_POINTER, KUBE_SHAPE_LIST, KUBE_SHAPE_MAP };

enum kube_flags {
    KUBE_ALWAYS = 1, /* written even when empty (no omitempty upstream) */
    KUBE_REQUIRED = 2,
    KUBE_IMMUTABLE = 4, /* a change is an invalid value; KUBE_FIXED: a forbidden one, upstream has both */
    KUBE_LIST_MAP = 8,  /* a list keyed by rules->keys */
    KUBE_LIST_SET = 16,
    KUBE_ATOMIC = 32,
    KUBE_PATCH_MERGE = 64, /* strategic merge by rules->merge_key; without a key: a set of scalars */
    KUBE_PATCH_RETAIN_KEYS = 128,
    KUBE_PATCH_REPLACE = 256,
    KUBE_GRANULAR = 512, /* member by member, though its type is atomic */
    KUBE_PUBLISH = 1024, /* the default stands in OpenAPI too */
    KUBE_FIXED = 2048,
};

struct kube_values {
    const char *name;
    bool closed;
    const char *const *items; /* ends with NULL */
};

/* What few fields have. */
struct kube_rules {
    const char *default_, *keys, *merge_key, *format;
    bool has_min, has_max;
    int64_t min, max;
};

struct kube_field {
    const char *name;
    const struct kube_type *type;     /* of KUBE_FORM_STRUCT */
    const struct kube_values *values; /* of named strings; or NULL */
    const struct kube_rules *rules;   /* or NULL */
    uint16_t offset, number;
    uint16_t inline_number; /* wire numbers of the inlined messages it belongs to, a byte each, the outermost lowest; 0: of the type itself */
    uint16_t flags;
    uint8_t form, shape;
};

struct kube_type {
    const char *name; /* upstream's */
    const struct kube_field *fields;
    size_t fields_count;
    size_t size;
    bool atomic;         /* managers own it as a whole */
    bool either;         /* a union: in JSON the value of the field that is set stands alone, and its type tells which field it is */
    const char *package; /* upstream's: "io.k8s.api.apps.v1" */
    const char *docs;    /* a sentence about the type, then one about each field, each ended by NUL; NULL: none */
};

/* Between a kind and the one it is stored as: fills `to`, whose metadata is that of `from`; what it hangs there may belong to either object's arena.
 * 0 or -ENOMEM. */
struct kube_conversion {
    int (*from_stored)(const struct kube_object *from, struct kube_object *to);
    int (*to_stored)(const struct kube_object *from, struct kube_object *to);
};

extern const struct kube_kind *const kube_builtin_kinds[];
extern const size_t kube_builtin_kinds_count;

/* Everything that has apiVersion and kind on the wire, served or not. */
struct kube_message {
    const char *group, *version, *kind;
    const struct kube_type *type;
};
extern const struct kube_message kube_messages[]; /* ends with kind NULL */

/* How a table's cell is made: by a path of JSON names ("status.phase"), or by code. */
struct kube_cell {
    const char *path;
    struct tree *(*make)(const struct kube_object *object, struct arena *arena, int64_t now_ns);
};

/* The layouts that all lists and maps share. */
struct kube_array {
    void *items;
    size_t count;
};

static inline void *kube_at(const struct kube_field *field, const void *data) {
    return (char *)(uintptr_t)data + field->offset;
}
static inline const struct kube_rules *kube_rules_of(const struct kube_field *field) {
    static const struct kube_rules none;
    return field->rules ? field->rules : &none;
}

/* Bytes of one value of the field: of an item of a list, of what a pointer points to; of a key-value pair of a map. */
size_t kube_value_size(const struct kube_field *field);
size_t kube_pair_size(const struct kube_field *field);
/* Of a union: the field that is set, or the one that the JSON node is meant for; NULL: none fits. */
const struct kube_field *kube_either_of(const struct kube_type *type, const void *data);
const struct kube_field *kube_either_for(const struct kube_type *type, const struct tree *tree);
/* A form whose optional version is stored like the plain one: absence is NULL, or a time that is not set. */
bool kube_form_is_own_pointer(const struct kube_field *field);
/* NULL when the type has no such field. */
const struct kube_field *kube_field_find(const struct kube_type *type, struct slice name);
/* Absent or zero, as Go's omitempty sees it; inline structs never are. */
bool kube_field_is_empty(const struct kube_field *field, const void *at);
int kube_field_copy(const struct kube_field *field, struct arena *arena, const void *from, void *to);
bool kube_field_equal(const struct kube_field *field, const void *a, const void *b);
/* The field's value; NULL at the arena's limit. */
struct tree *kube_field_tree(const struct kube_field *field, const void *at, struct arena *arena);
/* A struct with kind and apiVersion before its fields; NULL at the arena's limit. */
struct tree *kube_tree_of(const char *api_version, const char *kind, const struct kube_type *type, const void *data, struct arena *arena);

#endif

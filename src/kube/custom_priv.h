/* Custom kinds within the folder: compiled schemas and what walks them. Reading order: custom.c (kinds and objects), custom_schema.c (compiling),
 * custom_structural.c (is it a structural schema at all?), custom_prune.c (pruning and defaults), custom_check.c and custom_format.c (validation),
 * custom_path.c (JSONPath, columns, field selectors). */
#ifndef TIDEMILL_KUBE_CUSTOM_PRIV_H
#define TIDEMILL_KUBE_CUSTOM_PRIV_H

#include "kube/path_priv.h"
#include "kube/schema_priv.h"
#include "kube/validate_priv.h"

#define CUSTOM_KINDS_MAX 16384            /* versions of all definitions together */
#define CUSTOM_VERSIONS_MAX 16            /* of one definition */
#define CUSTOM_SCHEMA_NODES_MAX 100000    /* of one definition */
#define CUSTOM_PATTERN_STEPS_MAX 1000000  /* PCRE2's match limit: a pattern that needs more does not match */
#define CUSTOM_PATTERN_HEAP_KIB_MAX 1024  /* … and its memory */
#define CUSTOM_CHECKS_MAX 5000000         /* nodes visited in one validation, alternatives (anyOf) included */
#define CUSTOM_ARENA_BYTES_MAX (64 * MIB) /* compiled versions of one definition */

/* What a value may be: a set of bits; 0: anything. */
enum custom_type {
    CUSTOM_OBJECT = 1,
    CUSTOM_ARRAY = 2,
    CUSTOM_STRING = 4,
    CUSTOM_INTEGER = 8,
    CUSTOM_NUMBER = 16,
    CUSTOM_BOOLEAN = 32,
};
enum custom_flags {
    CUSTOM_NULLABLE = 1,
    CUSTOM_PRESERVE = 2, /* x-kubernetes-preserve-unknown-fields */
    CUSTOM_EMBEDDED = 4, /* x-kubernetes-embedded-resource */
    CUSTOM_INT_OR_STRING = 8,
    CUSTOM_LIST_SET = 16,
    CUSTOM_LIST_MAP = 32,
    CUSTOM_MAP_ATOMIC = 64,
    CUSTOM_ADDITIONAL = 128, /* any key is allowed: additionalProperties is there */
    CUSTOM_DEFAULTS = 256,   /* there is a default here or below */
    CUSTOM_RULES = 512,      /* x-kubernetes-validations, kept but not evaluated */
    CUSTOM_HAS_MIN = 1024,
    CUSTOM_HAS_MAX = 2048,
    CUSTOM_MIN_EXCLUSIVE = 4096,
    CUSTOM_MAX_EXCLUSIVE = 8192,
};

struct custom_property {
    const char *name;
    size_t name_len;
    const struct custom_schema *schema;
};

struct custom_alternatives {
    const struct custom_schema **items;
    size_t count;
};

/* The checks that few nodes have. Lengths: -1 is none. */
struct custom_checks {
    const struct tree *enum_;                           /* a list */
    const struct tree *minimum, *maximum, *multiple_of; /* as written, for messages */
    const char *pattern, *format;
    void *regex; /* pcre2_code; NULL when the pattern does not compile */
    int64_t min_length, max_length, min_items, max_items, min_properties, max_properties;
    struct custom_alternatives all_of, any_of, one_of;
    const struct custom_schema *not_;
    struct custom_checks *next_regex; /* those with a regex, for freeing */
};

struct custom_schema {
    uint8_t type;
    uint16_t flags;
    uint32_t properties_count;
    const struct custom_property *properties; /* sorted by name */
    const struct custom_schema *items;
    const struct custom_schema *additional; /* NULL: any value, see CUSTOM_ADDITIONAL */
    const struct tree *default_;
    const struct tree *required, *map_keys; /* lists of strings, or NULL */
    const struct custom_checks *checks;
};

/* --- custom_schema.c --- */
struct custom_compiler {
    struct arena *arena;
    size_t nodes;
    struct custom_checks *regexes;
};
/* NULL for want of memory or beyond the limit of nodes. `node` may be NULL or nonsense: then it is a schema that allows anything. */
const struct custom_schema *custom_schema_compile(struct custom_compiler *compiler, const struct tree *node);
void custom_regexes_free(struct custom_checks *first);
const struct custom_schema *custom_property_find(const struct custom_schema *schema, struct slice name);
bool custom_is_meta(struct slice name); /* apiVersion, kind, metadata */

/* --- custom_path.c: the JSONPath of columns, and simple dotted paths --- */
struct custom_path;
/* -EINVAL: not understood. */
int custom_path_parse(struct arena *arena, struct slice text, struct custom_path **ret);
/* The first value it finds, or NULL. */
const struct tree *custom_path_find(const struct custom_path *path, const struct tree *root);

/* --- custom.c --- */
struct custom_selectable {
    const char *label; /* "spec.color" */
    const struct custom_path *path;
};
/* What may be replaced behind a kind. */
struct custom_content {
    struct arena *arena;
    const struct custom_schema *schema;
    struct slice text; /* the schema's JSON, for documents: a tree of it would cost five times as much */
    struct custom_checks *regexes;
    bool served, storage, deprecated;
    int64_t generation; /* of the definition */
    uint64_t revision;
    const char *deprecation, *list_kind;
    struct kube_scale_paths scale;
    bool has_scale;
    const struct custom_selectable *selectable;
    size_t selectable_count;
    /* of the kind */
    const char *singular;
    const char *const *short_names, *const *categories;
    bool has_status;
    const struct kube_column *columns;
    size_t columns_count;
};
struct kube_custom {
    struct kube_kind kind; /* kind.custom is this */
    unsigned references;   /* one of the table's while installed */
    struct kube_type type; /* metadata alone: what generic walkers see */
    struct custom_content content;
    bool installed;
    bool spent; /* its content has gone to the installed kind of its name */
};
extern const struct kube_field custom_metadata_field;
size_t custom_kinds_served(void);
const struct kube_kind *custom_kind_served_at(size_t index);
const struct kube_kind *custom_kind_find(struct slice group, struct slice version, struct slice kind);
static inline const struct custom_schema *custom_schema_of(const struct kube_kind *kind) {
    return kind->custom->content.schema;
}
/* The schema as it was written; NULL without memory. */
struct tree *custom_schema_tree(const struct kube_kind *kind, struct arena *arena);
/* The whole object as upstream's code sees it, for paths; `whole` false: without apiVersion, kind and metadata. */
struct tree *custom_tree(const struct kube_object *object, struct arena *arena, bool metadata);

/* --- custom_prune.c --- */
struct custom_pruner {
    struct arena *arena;
    struct kube_path *path;
    void (*unknown)(void *userdata, const char *path); /* what is dropped; NULL: nobody asks */
    void *userdata;
};
/* A copy of the value with what the schema knows. The root's apiVersion, kind and metadata are left out. NULL without memory. */
struct tree *custom_prune_root(struct custom_pruner *pruner, const struct custom_schema *schema, const struct tree *tree);
struct tree *custom_prune(struct custom_pruner *pruner, const struct custom_schema *schema, const struct tree *value);
/* Fills defaults and drops nulls where null is no value, in place. -ENOMEM. */
int custom_default(const struct custom_schema *schema, struct arena *arena, struct tree *value);

/* --- custom_check.c, custom_format.c, custom_structural.c --- */
void custom_check(struct validator *validator, const struct kube_object *object, const struct kube_object *old);
/* --- custom_definition.c --- */
int custom_default_definition(struct arena *arena, void *data);
/* Reports what keeps a schema from being structural; the path is that of the schema. */
void custom_check_structural(struct validator *validator, const struct tree *schema);
/* Unknown formats hold for everything. */
bool custom_format_holds(const char *format, struct slice text);
/* Checks a value against a schema as a default is checked; the path is that of the value. */
void custom_check_default(struct validator *validator, const struct custom_schema *schema, const struct tree *value);
bool custom_pattern_matches(const struct custom_checks *checks, struct slice text);
/* NULL when it compiles; otherwise why not, in the arena. */
const char *custom_pattern_error(struct arena *arena, const char *pattern);

/* --- custom_parts.c: what parts.c does, for the content --- */
int custom_copy_member(struct kube_object *to, const struct kube_object *from, const char *member);
int custom_copy_spec(struct kube_object *to, const struct kube_object *from);
bool custom_spec_equal(const struct kube_object *a, const struct kube_object *b);
int custom_put_differences(const struct kube_object *old, const struct kube_object *new, struct arena *arena, struct tree *trees[2]);

/* --- custom_shape.c --- */
void custom_shape_of(const struct kube_kind *kind, struct kube_shape_node *ret);

/* --- custom_path.c: Tables and field selectors --- */
int custom_columns_compile(struct arena *arena, const struct tree *columns, const struct kube_column **ret, size_t *ret_count);
struct tree *custom_table_row(const struct kube_object *object, struct arena *arena, int64_t now_ns);
bool custom_is_selectable(const struct kube_kind *kind, const char *label);
/* The text of a selectable field, "" when absent; numbers are written to the caller's place. */
const char *custom_selected(const struct kube_object *object, const char *label, char *number, size_t size);

#endif

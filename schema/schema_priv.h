/* The schema compiler's own model: what the .idl files say, read by read.c, completed by resolve.c, written by header.c and tables.c. See README.md.
 */
#ifndef TIDEMILL_SCHEMA_PRIV_H
#define TIDEMILL_SCHEMA_PRIV_H

#include "base/base.h"

#define SCHEMA_BYTES_MAX (64 * MIB)
#define SCHEMA_WORDS_MAX 256 /* words of one statement */

/* How a value is stored; the runtime has the same list under the names KUBE_FORM_*. */
struct schema_form {
    const char *name;    /* in the IDL */
    const char *runtime; /* KUBE_FORM_… */
    const char *value;   /* C type of a field, NULL: cannot stand alone */
    const char *pointer; /* of an optional one */
    const char *list;
    const char *map;
};

enum schema_shape { SHAPE_VALUE, SHAPE_POINTER, SHAPE_LIST, SHAPE_MAP };

struct schema_values {
    const char *name;
    const char **items;
    size_t count;
    bool closed; /* enum: other values are refused; otherwise known names only */
    bool used;   /* a field refers to it */
};

struct schema_type;
struct schema_field {
    const char *file;
    int line;
    const char *name; /* NULL: inline */
    const char *c_name;
    const char *text; /* the type as written */
    int number;
    int inline_number; /* wire numbers of the inlined messages around it, a byte each, the outermost lowest; 0: none */
    bool always, required, immutable, fixed, atomic, granular, publish;
    const char *list, *keys, *patch, *merge_key, *default_, *format;
    bool has_min, has_max;
    int64_t min, max;
    /* resolved */
    enum schema_shape shape;
    const struct schema_form *form; /* NULL: a struct */
    const char *origin;             /* the type that declares it, when it came in by `inline` */
    const char *doc;                /* the sentence about it; NULL: none */
    struct schema_type *type;       /* of a struct */
    struct schema_values *values;
};

struct schema_type {
    const char *file;
    int line;
    const char *name, *c_name;
    const char *upstream, *package; /* what upstream calls it, and where it has it */
    VECTOR(struct schema_field *) fields;
    bool flat, written, listed, mapped, atomic;
    const char *doc; /* the sentence about it; NULL: none */
    size_t doc_at;   /* where its sentences begin, when it is `described` */
    bool described, reached;
    bool either; /* a union: in JSON the value of whichever field is set stands alone */
};

/* A sentence about a type (field NULL) or a field, see docs.c. */
struct schema_doc {
    const char *file;
    int line;
    const char *type, *field, *like, *text;
    bool used;
};

struct schema_column {
    const char *name, *type, *format, *source, *description;
    int priority;
};

struct schema_kind {
    const char *file;
    int line;
    const char *group, *version, *name, *c_name, *type_name;
    struct schema_type *type;
    const char *plural, *singular;
    const char *stored_type, *conversion; /* the kind (by its type) that the store holds, and the pair of functions between them; NULL: itself */
    VECTOR(const char *) short_names;
    VECTOR(const char *) categories;
    VECTOR(struct schema_column *) columns;
    bool namespaced, status, scale, served, virtual, generation;
    struct schema_kind *stored; /* resolved; NULL: itself */
};

struct schema {
    struct arena *arena;
    struct map *types_by_name, *values_by_name;
    VECTOR(struct schema_type *) types;
    VECTOR(struct schema_values *) values;
    VECTOR(struct schema_kind *) kinds;
    VECTOR(struct schema_doc *) docs;
    struct map *docs_by_name;
};

/* Adds the statements of one file. 0, -EINVAL with diag (file, line), -ENOMEM. */
int schema_read(struct schema *schema, const char *file, struct slice text, struct diag *diag);
/* Resolves names, flattens inlined types, checks the whole. */
int schema_resolve(struct schema *schema, struct diag *diag);
/* The same for descriptions: adds those of one .doc file; then gives each type and field its sentence. */
int schema_read_docs(struct schema *schema, const char *file, struct slice text, struct diag *diag);
int schema_resolve_docs(struct schema *schema, struct diag *diag);
const struct schema_form *schema_form_find(const char *name);
/* "podIPs" → "pod_ips", C keywords get an underscore; in the arena. */
const char *schema_c_name(struct arena *arena, const char *name);
int schema_write_header(struct schema *schema, struct buffer *out);
int schema_write_tables(struct schema *schema, struct buffer *out);
/* The sentences, as one array of bytes in which each type has its place. */
void schema_write_docs(struct schema *schema, struct buffer *out);
/* As a C string, quoted; NULL for NULL. */
void schema_write_string(struct buffer *out, const char *text);

#endif

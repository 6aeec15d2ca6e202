/* How OpenAPI documents are made: as JSON text, straight from the tables into one buffer, in one of two dialects (v3: one document per group version;
 * v2: one for everything). A document is paths, then components; whoever writes a reference notes what it refers to, and the components are written
 * until nothing new is referred to. The protobuf forms are made from the finished JSON (openapi_wire.c).
 *
 * A kind that comes with a schema of its own (a version of a CustomResourceDefinition) takes part like any other kind: it is in kube_kind_at(), its
 * paths follow from struct kube_kind, and openapi_custom.c writes from the version's openAPIV3Schema (custom_schema_tree) the
 * component. Whoever adds, changes or removes kinds calls kube_kinds_changed() (kube.h), and the index of documents changes with the next request. */
#ifndef TIDEMILL_KUBE_OPENAPI_PRIV_H
#define TIDEMILL_KUBE_OPENAPI_PRIV_H

#include "kube/schema_priv.h"

/* Components that no type table describes. */
enum openapi_plain {
    OPENAPI_TIME,
    OPENAPI_MICROTIME,
    OPENAPI_DURATION,
    OPENAPI_QUANTITY,
    OPENAPI_INT_OR_STRING,
    OPENAPI_RAW,
    OPENAPI_FIELDS,
    OPENAPI_JSON,
    OPENAPI_PATCH,
    OPENAPI_PLAIN_COUNT,
};

struct openapi {
    struct buffer *out;
    bool v2;
    VECTOR(const struct kube_type *) types; /* referred to, each once, in the order they are written */
    unsigned plain;                         /* bit i: enum openapi_plain i is referred to */
    size_t components;                      /* written so far */
    const struct kube_type *within;         /* being written */
};

/* --- openapi.c: pieces of JSON --- */
/* `"key":` and its value, with a comma before it unless it is the first of its object. */
void openapi_key(struct openapi *openapi, const char *key);
void openapi_text(struct openapi *openapi, const char *key, const char *text);
void openapi_open(struct openapi *openapi, char bracket);  /* '{' or '[' */
void openapi_close(struct openapi *openapi, char bracket); /* '}' or ']' */
/* A comma unless it is the first of its list or object. */
void openapi_next(struct openapi *openapi);

/* --- openapi_schema.c: components from type tables --- */
/* "$ref": a member of the open object. */
void openapi_ref_type(struct openapi *openapi, const struct kube_type *type);
void openapi_ref_plain(struct openapi *openapi, enum openapi_plain plain);
void openapi_ref_kind(struct openapi *openapi, const struct kube_kind *kind, const char *suffix); /* "" or "List" */
/* `"x-kubernetes-group-version-kind":` one object, or a list of it. */
void openapi_gvk(struct openapi *openapi, const char *group, const char *version, const char *kind, bool list);
/* apiVersion and kind, as every object has them. */
void openapi_type_meta(struct openapi *openapi);
/* The kind's component and that of its list. */
void openapi_components_of_kind(struct openapi *openapi, const struct kube_kind *kind);
/* What is referred to and not yet written. */
void openapi_components_referred(struct openapi *openapi);
/* type, format and enum of a scalar field: members of the open object. */
void openapi_scalar(struct openapi *openapi, const struct kube_field *field);
/* The sentence about a type (index 0) or its fields (index 1 and up); NULL: none. */
const char *openapi_doc(const struct kube_type *type, size_t index);

/* --- openapi_custom.c --- */
/* "com.example.v1.Widget" of group example.com. */
void openapi_custom_name(const struct kube_kind *kind, struct buffer *out);
/* The value of the component, from kind->schema. */
void openapi_custom_component(struct openapi *openapi, const struct kube_kind *kind, const struct tree *schema);

/* --- openapi_paths.c --- */
void openapi_paths_of_kind(struct openapi *openapi, const struct kube_kind *kind);
/* GET of what lists a group version's resources. */
void openapi_path_of_resources(struct openapi *openapi, const char *group, const char *version);

#endif

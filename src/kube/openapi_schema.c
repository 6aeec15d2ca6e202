/* Components of OpenAPI documents from type tables, as upstream publishes them: what kubectl's patches depend on are x-kubernetes-patch-merge-key and
 * x-kubernetes-patch-strategy, what server-side appliers depend on are x-kubernetes-list-type, x-kubernetes-list-map-keys and x-kubernetes-map-type.
 *
 * The dialects differ in references: v2 allows members beside "$ref", v3 does not, so there the reference stands in an "allOf". Defaults are
 * published in v3 only, and only those that upstream publishes (rule `publish` of the IDL, and the zero of what is always written): a generated
 * client fills published defaults into objects before it sends them, so that a patch would reset what it does not mention. */
#include "kube/custom_priv.h"
#include "kube/openapi_priv.h"

static const struct plain {
    const char *name, *type, *format, *description;
    const char *v3; /* members instead of type and format */
} plains[] = {
    [OPENAPI_TIME] = {"io.k8s.apimachinery.pkg.apis.meta.v1.Time", "string", "date-time", "A moment, as RFC 3339 writes it, to the second.", NULL},
    [OPENAPI_MICROTIME] = {"io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "string", "date-time",
                           "A moment, as RFC 3339 writes it, to the microsecond.", NULL},
    [OPENAPI_DURATION] = {"io.k8s.apimachinery.pkg.apis.meta.v1.Duration", "string", NULL, "A length of time such as 1h30m or 250ms.", NULL},
    [OPENAPI_QUANTITY] = {"io.k8s.apimachinery.pkg.api.resource.Quantity", "string", NULL,
                          "An amount with an optional unit: decimal (n, u, m, k, M, G, T, P, E), binary (Ki, Mi, Gi, Ti, Pi, Ei) or an exponent "
                          "(1e3); for example 250m, 1.5 or 64Mi.",
                          "\"oneOf\":[{\"type\":\"string\"},{\"type\":\"number\"}]"},
    [OPENAPI_INT_OR_STRING] = {"io.k8s.apimachinery.pkg.util.intstr.IntOrString", "string", "int-or-string",
                               "A whole number or a string: a port by number or by name, an amount or a percentage.",
                               "\"format\":\"int-or-string\",\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]"},
    [OPENAPI_RAW] = {"io.k8s.apimachinery.pkg.runtime.RawExtension", "object", NULL, "An object of any kind.", NULL},
    [OPENAPI_FIELDS] = {"io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "object", NULL,
                        "A set of fields as nested maps: f:name for a field, k:{keys} for an item by its keys, v:value for an item by its value.",
                        NULL},
    [OPENAPI_JSON] = {"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", NULL, NULL, "Any JSON value.", NULL},
    [OPENAPI_PATCH] = {"io.k8s.apimachinery.pkg.apis.meta.v1.Patch", "object", NULL,
                       "A change: in the form that the request's content type names, JSON patch, merge patch, strategic merge patch or apply.", NULL},
};

/* What a form is in a schema: a scalar, or a component of its own. */
static const struct form {
    const char *type, *format;
    const char *zero; /* the default that stands beside what is always written */
    int plain;        /* enum openapi_plain + 1, 0: a scalar */
} forms[] = {
    [KUBE_FORM_STRING] = {"string", NULL, "\"\"", 0},
    [KUBE_FORM_BOOL] = {"boolean", NULL, "false", 0},
    [KUBE_FORM_INT32] = {"integer", "int32", "0", 0},
    [KUBE_FORM_INT64] = {"integer", "int64", "0", 0},
    [KUBE_FORM_DOUBLE] = {"number", "double", "0", 0},
    [KUBE_FORM_TIME] = {NULL, NULL, NULL, OPENAPI_TIME + 1},
    [KUBE_FORM_MICROTIME] = {NULL, NULL, NULL, OPENAPI_MICROTIME + 1},
    [KUBE_FORM_DURATION] = {NULL, NULL, NULL, OPENAPI_DURATION + 1},
    [KUBE_FORM_QUANTITY] = {NULL, NULL, NULL, OPENAPI_QUANTITY + 1},
    [KUBE_FORM_INT_OR_STRING] = {NULL, NULL, NULL, OPENAPI_INT_OR_STRING + 1},
    [KUBE_FORM_BYTES] = {"string", "byte", NULL, 0},
    [KUBE_FORM_RAW] = {NULL, NULL, NULL, OPENAPI_RAW + 1},
    [KUBE_FORM_FIELDS] = {NULL, NULL, NULL, OPENAPI_FIELDS + 1},
    [KUBE_FORM_JSON] = {NULL, NULL, NULL, OPENAPI_JSON + 1},
    [KUBE_FORM_STRUCT] = {NULL, NULL, "{}", 0},
};

const char *openapi_doc(const struct kube_type *type, size_t index) {
    const char *doc = type->docs;
    if (!doc)
        return NULL;
    for (; index; index--)
        doc += strlen(doc) + 1;
    return *doc ? doc : NULL;
}

/* --- references --- */

static void ref_begin(struct openapi *openapi) {
    openapi_key(openapi, "$ref");
    buffer_append_text(openapi->out, openapi->v2 ? "\"#/definitions/" : "\"#/components/schemas/");
}

/* The type's component is to be written. */
static void refer(struct openapi *openapi, const struct kube_type *type) {
    for (size_t i = 0; i < openapi->types.count; i++)
        if (openapi->types.items[i] == type)
            return;
    if (VECTOR_PUSH(&openapi->types, type) != 0 && !openapi->out->error)
        openapi->out->error = -ENOMEM;
}

void openapi_ref_type(struct openapi *openapi, const struct kube_type *type) {
    ref_begin(openapi);
    buffer_append_text(openapi->out, type->package);
    buffer_append_byte(openapi->out, '.');
    buffer_append_text(openapi->out, type->name);
    buffer_append_byte(openapi->out, '"');
    refer(openapi, type);
}

void openapi_ref_plain(struct openapi *openapi, enum openapi_plain plain) {
    ref_begin(openapi);
    buffer_append_text(openapi->out, plains[plain].name);
    buffer_append_byte(openapi->out, '"');
    openapi->plain |= 1u << plain;
}

static void kind_name(struct openapi *openapi, const struct kube_kind *kind, const char *suffix) {
    if (kind->custom) {
        openapi_custom_name(kind, openapi->out);
    } else {
        buffer_append_text(openapi->out, kind->type->package);
        buffer_append_byte(openapi->out, '.');
        buffer_append_text(openapi->out, kind->type->name);
    }
    buffer_append_text(openapi->out, suffix);
}

void openapi_ref_kind(struct openapi *openapi, const struct kube_kind *kind, const char *suffix) {
    ref_begin(openapi);
    kind_name(openapi, kind, suffix);
    buffer_append_byte(openapi->out, '"');
}

void openapi_gvk(struct openapi *openapi, const char *group, const char *version, const char *kind, bool list) {
    openapi_key(openapi, "x-kubernetes-group-version-kind");
    if (list)
        openapi_open(openapi, '[');
    openapi_open(openapi, '{');
    openapi_text(openapi, "group", group);
    openapi_text(openapi, "kind", kind);
    openapi_text(openapi, "version", version);
    openapi_close(openapi, '}');
    if (list)
        openapi_close(openapi, ']');
}

/* --- values --- */

void openapi_scalar(struct openapi *openapi, const struct kube_field *field) {
    const struct form *form = &forms[field->form];
    if (form->type)
        openapi_text(openapi, "type", form->type);
    if (form->format)
        openapi_text(openapi, "format", form->format);
    if (!field->values || !field->values->closed)
        return;
    openapi_key(openapi, "enum");
    openapi_open(openapi, '[');
    for (size_t i = 0; field->values->items[i]; i++) {
        openapi_next(openapi);
        json_format_string(openapi->out, slice_of(field->values->items[i]));
    }
    openapi_close(openapi, ']');
}

/* A default in its JSON form. */
static void put_default(struct openapi *openapi, const struct kube_field *field, bool alone) {
    const struct form *form = &forms[field->form];
    const char *text = (field->flags & KUBE_PUBLISH) && alone ? kube_rules_of(field)->default_ : NULL;
    bool is_struct = field->form == KUBE_FORM_STRUCT;
    bool zero = form->zero && (is_struct || !alone || (field->flags & KUBE_ALWAYS));
    if (openapi->v2 || (field->shape == KUBE_SHAPE_POINTER && !text) || (!text && !zero))
        return;
    openapi_key(openapi, "default");
    if (text && field->form == KUBE_FORM_STRING)
        json_format_string(openapi->out, slice_of(text));
    else
        buffer_append_text(openapi->out, text ? text : form->zero);
}

/* The component that the field's form is, counted from 1; 0: none. */
static int plain_of(const struct openapi *openapi, const struct kube_field *field) {
    bool any = field->form == KUBE_FORM_RAW && strstr(openapi->within->package, "apiextensions"); /* there it is any JSON value */
    return any ? OPENAPI_JSON + 1 : forms[field->form].plain;
}

/* The members of one value's schema; `alone`: not an item of a list or map. */
static void put_value(struct openapi *openapi, const struct kube_field *field, bool alone) {
    int plain = plain_of(openapi, field);
    put_default(openapi, field, alone);
    if (field->form != KUBE_FORM_STRUCT && !plain) {
        openapi_scalar(openapi, field);
        return;
    }
    bool wrapped = !openapi->v2 && (alone || (openapi->out->len && openapi->out->data[openapi->out->len - 1] != '{'));
    if (wrapped) {
        openapi_key(openapi, "allOf");
        buffer_append_text(openapi->out, "[{");
    }
    if (plain)
        openapi_ref_plain(openapi, plain - 1);
    else
        openapi_ref_type(openapi, field->type);
    if (wrapped)
        buffer_append_text(openapi->out, "}]");
}

static void put_keys(struct openapi *openapi, const char *keys) {
    struct slice rest = slice_of(keys);
    openapi_key(openapi, "x-kubernetes-list-map-keys");
    openapi_open(openapi, '[');
    while (rest.len) {
        openapi_next(openapi);
        json_format_string(openapi->out, slice_cut(&rest, ','));
    }
    openapi_close(openapi, ']');
}

static void put_extensions(struct openapi *openapi, const struct kube_field *field) {
    static const struct {
        unsigned flags;
        const char *strategy;
    } strategies[] = {{KUBE_PATCH_MERGE | KUBE_PATCH_RETAIN_KEYS, "merge,retainKeys"},
                      {KUBE_PATCH_MERGE, "merge"},
                      {KUBE_PATCH_RETAIN_KEYS, "retainKeys"},
                      {KUBE_PATCH_REPLACE, "replace"}};
    const struct kube_rules *rules = kube_rules_of(field);
    if (field->shape == KUBE_SHAPE_LIST) {
        if ((field->flags & KUBE_LIST_MAP) && rules->keys)
            put_keys(openapi, rules->keys);
        openapi_text(openapi, "x-kubernetes-list-type", field->flags & KUBE_LIST_MAP ? "map" : field->flags & KUBE_LIST_SET ? "set" : "atomic");
    } else if (field->flags & (KUBE_ATOMIC | KUBE_GRANULAR)) {
        openapi_text(openapi, "x-kubernetes-map-type", field->flags & KUBE_ATOMIC ? "atomic" : "granular");
    }
    if (rules->merge_key)
        openapi_text(openapi, "x-kubernetes-patch-merge-key", rules->merge_key);
    for (size_t i = 0; i < ARRAY_LEN(strategies); i++)
        if ((field->flags & strategies[i].flags) == strategies[i].flags) {
            openapi_text(openapi, "x-kubernetes-patch-strategy", strategies[i].strategy);
            break;
        }
}

static void put_items(struct openapi *openapi, const struct kube_field *field) {
    bool list = field->shape == KUBE_SHAPE_LIST;
    openapi_text(openapi, "type", list ? "array" : "object");
    openapi_key(openapi, list ? "items" : "additionalProperties");
    openapi_open(openapi, '{');
    if (field->form == KUBE_FORM_STRINGS)
        buffer_append_text(openapi->out, openapi->v2 ? "\"type\":\"array\",\"items\":{\"type\":\"string\"}"
                                                     : "\"type\":\"array\",\"items\":{\"default\":\"\",\"type\":\"string\"}");
    else
        put_value(openapi, field, false);
    openapi_close(openapi, '}');
}

static void put_field(struct openapi *openapi, const struct kube_field *field, const char *doc) {
    openapi_key(openapi, field->name);
    openapi_open(openapi, '{');
    if (doc)
        openapi_text(openapi, "description", doc);
    if (field->shape == KUBE_SHAPE_LIST || field->shape == KUBE_SHAPE_MAP)
        put_items(openapi, field);
    else
        put_value(openapi, field, true);
    put_extensions(openapi, field);
    openapi_close(openapi, '}');
}

/* --- components --- */

void openapi_type_meta(struct openapi *openapi) {
    openapi_key(openapi, "apiVersion");
    buffer_append_text(
        openapi->out,
        "{\"description\":\"APIVersion defines in which group and version the object is written, such as v1 or apps/v1.\",\"type\":\"string\"}");
    openapi_key(openapi, "kind");
    buffer_append_text(openapi->out, "{\"description\":\"What kind of object this is, in CamelCase.\",\"type\":\"string\"}");
}

static bool is_message(const struct kube_type *type) {
    for (const struct kube_message *message = kube_messages; message->kind; message++)
        if (message->type == type)
            return true;
    return false;
}

static void put_kinds_of(struct openapi *openapi, const struct kube_type *type) {
    for (const struct kube_message *message = kube_messages; message->kind; message++)
        if (message->type == type)
            openapi_gvk(openapi, strcmp(message->group, "meta") ? message->group : "", message->version, message->kind, true);
}

static void put_required(struct openapi *openapi, const struct kube_type *type) {
    bool any = false;
    for (size_t i = 0; i < type->fields_count; i++) {
        if (!(type->fields[i].flags & KUBE_ALWAYS))
            continue;
        if (!any) {
            openapi_key(openapi, "required");
            openapi_open(openapi, '[');
        }
        any = true;
        openapi_next(openapi);
        json_format_string(openapi->out, slice_of(type->fields[i].name));
    }
    if (any)
        openapi_close(openapi, ']');
}

static void put_type(struct openapi *openapi, const struct kube_type *type) {
    bool message = is_message(type);
    openapi_next(openapi);
    buffer_printf(openapi->out, "\"%s.%s\":{", type->package, type->name);
    if (openapi_doc(type, 0))
        openapi_text(openapi, "description", openapi_doc(type, 0));
    openapi->within = type;
    if (!type->either) /* a union is whatever its members are */
        openapi_text(openapi, "type", "object");
    if (!type->either && (type->fields_count || message)) {
        openapi_key(openapi, "properties");
        openapi_open(openapi, '{');
        if (message)
            openapi_type_meta(openapi);
        const char *doc = type->docs;
        for (size_t i = 0; i < type->fields_count; i++) {
            doc = doc ? doc + strlen(doc) + 1 : NULL;
            put_field(openapi, &type->fields[i], doc && *doc ? doc : NULL);
        }
        openapi_close(openapi, '}');
    }
    put_required(openapi, type);
    if (type->atomic)
        openapi_text(openapi, "x-kubernetes-map-type", "atomic");
    if (message)
        put_kinds_of(openapi, type);
    openapi_close(openapi, '}');
}

static void put_plain(struct openapi *openapi, const struct plain *plain) {
    openapi_key(openapi, plain->name);
    openapi_open(openapi, '{');
    openapi_text(openapi, "description", plain->description);
    if (plain->v3 && !openapi->v2) {
        openapi_next(openapi);
        buffer_append_text(openapi->out, plain->v3);
    } else {
        if (plain->type)
            openapi_text(openapi, "type", plain->type);
        if (plain->format)
            openapi_text(openapi, "format", plain->format);
    }
    openapi_close(openapi, '}');
}

static void put_list(struct openapi *openapi, const struct kube_kind *kind) {
    openapi_next(openapi);
    buffer_append_byte(openapi->out, '"');
    kind_name(openapi, kind, "List");
    buffer_append_text(openapi->out, "\":{\"description\":\"");
    buffer_printf(openapi->out, "A list of %s.\",\"type\":\"object\",\"properties\":{", kind->plural);
    openapi_type_meta(openapi);
    openapi_key(openapi, "items");
    buffer_append_text(openapi->out, "{\"description\":\"The objects.\",\"type\":\"array\",\"items\":{");
    if (!openapi->v2)
        buffer_append_text(openapi->out, "\"default\":{},\"allOf\":[{");
    openapi_ref_kind(openapi, kind, "");
    buffer_append_text(openapi->out, openapi->v2 ? "}}" : "}]}}");
    openapi_key(openapi, "metadata");
    buffer_append_text(openapi->out, "{\"description\":\"Metadata of the list: its version, and where to continue.\"");
    if (!openapi->v2)
        buffer_append_text(openapi->out, ",\"default\":{},\"allOf\":[{");
    openapi_ref_type(openapi, &kube_list_meta_type);
    buffer_append_text(openapi->out, openapi->v2 ? "}}" : "}]}}");
    buffer_append_text(openapi->out, ",\"required\":[\"items\"]");
    CLEANUP(buffer_deinit) struct buffer name = BUFFER_INIT(KIB);
    buffer_printf(&name, "%sList", kind->kind);
    openapi_gvk(openapi, kind->group, kind->version, name.data ? name.data : "", true);
    openapi_close(openapi, '}');
}

void openapi_components_of_kind(struct openapi *openapi, const struct kube_kind *kind) {
    if (kind->custom) {
        CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
        const struct tree *schema = arena ? custom_schema_tree(kind, arena) : NULL;
        if (!schema)
            openapi->out->error = -ENOMEM;
        openapi_next(openapi);
        buffer_append_byte(openapi->out, '"');
        kind_name(openapi, kind, "");
        buffer_append_text(openapi->out, "\":");
        openapi_custom_component(openapi, kind, schema);
    } else {
        refer(openapi, kind->type);
    }
    if (kube_kind_verbs(kind) & KUBE_VERB_LIST)
        put_list(openapi, kind);
}

void openapi_components_referred(struct openapi *openapi) {
    for (; openapi->components < openapi->types.count; openapi->components++)
        put_type(openapi, openapi->types.items[openapi->components]);
    for (size_t i = 0; i < OPENAPI_PLAIN_COUNT; i++)
        if (openapi->plain & 1u << i)
            put_plain(openapi, &plains[i]);
}

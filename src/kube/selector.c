/* Selectors: as they stand in objects (LabelSelector), as text in requests ("a=b,c in (x,y),!d"), and over fields ("metadata.name=x").
 *
 * Text is parsed into requirements in the caller's arena; all must hold. As upstream, `!=` and `notin` also hold for objects without the label. Field
 * selectors compare the text form of the field, "" when absent. */
#include "kube/custom_priv.h"
#include "kube/helpers_priv.h"

#include <stdio.h>

#define FIELD_DEPTH_MAX 8

enum operation { OP_IN, OP_NOT_IN, OP_EXISTS, OP_ABSENT, OP_GREATER, OP_LESS };

struct requirement {
    struct requirement *next;
    enum operation operation;
    const char *key;
    const char **values;
    size_t count;
    const struct kube_field *steps[FIELD_DEPTH_MAX]; /* of a field selector: the way to the field, ends with NULL */
    const struct kube_field *otherwise;              /* the object's own field that stands in when that one is empty; NULL: none */
};

struct kube_selector {
    struct requirement *first;
};

static bool requirement_holds(const struct requirement *requirement, const char *value) {
    bool found = false;
    int64_t bound = 0, number = 0;
    for (size_t i = 0; i < requirement->count && value; i++)
        found = found || strcmp(requirement->values[i], value) == 0;
    switch (requirement->operation) {
    case OP_IN: return found;
    case OP_NOT_IN: return !found;
    case OP_EXISTS: return value != NULL;
    case OP_ABSENT: return value == NULL;
    case OP_GREATER:
    case OP_LESS:
        if (!value || slice_parse_i64(slice_of(value), &number) != 0 || slice_parse_i64(slice_of(requirement->values[0]), &bound) != 0)
            return false;
        return requirement->operation == OP_GREATER ? number > bound : number < bound;
    }
    UNREACHABLE();
}

bool kube_selector_match(const struct kube_selector *selector, const struct kube_string_map *labels) {
    for (const struct requirement *at = selector->first; at; at = at->next)
        if (!requirement_holds(at, kube_map_find(labels, at->key)))
            return false;
    return true;
}

static bool expression_holds(const struct kube_label_selector_requirement *expression, const struct kube_string_map *labels) {
    static const struct {
        const char *name;
        enum operation operation;
    } operations[] = {{"In", OP_IN}, {"NotIn", OP_NOT_IN}, {"Exists", OP_EXISTS}, {"DoesNotExist", OP_ABSENT}};
    for (size_t i = 0; i < ARRAY_LEN(operations); i++)
        if (kube_text_is(expression->operator, operations[i].name)) {
            struct requirement requirement = {
                .operation = operations[i].operation, .values = expression->values.items, .count = expression->values.count};
            return requirement_holds(&requirement, expression->key ? kube_map_find(labels, expression->key) : NULL);
        }
    return false;
}

bool kube_selector_matches(const struct kube_label_selector *selector, const struct kube_string_map *labels) {
    if (!selector)
        return false;
    for (size_t i = 0; i < selector->match_labels.count; i++) {
        const char *value = kube_map_find(labels, selector->match_labels.items[i].key);
        if (!value || strcmp(value, selector->match_labels.items[i].value) != 0)
            return false;
    }
    for (size_t i = 0; i < selector->match_expressions.count; i++)
        if (!expression_holds(&selector->match_expressions.items[i], labels))
            return false;
    return true;
}

/* ---- parsing ---- */

struct parser {
    struct arena *arena;
    struct slice rest;
    struct diag *diag;
};

static int parse_error(struct parser *parser, const char *expected) {
    struct slice found = slice_head(parser->rest, 40);
    return diag_set(parser->diag, -EINVAL, "unable to parse requirement: found '%.*s', expected: %s", SLICE_ARG(found), expected);
}

static void skip_blanks(struct parser *parser) {
    while (parser->rest.len > 0 && strchr(" \t\r\n", parser->rest.data[0]))
        parser->rest = slice_from(parser->rest, 1);
}

static bool take_sign(struct parser *parser, const char *sign) {
    skip_blanks(parser);
    if (!slice_starts(parser->rest, slice_of(sign)))
        return false;
    parser->rest = slice_from(parser->rest, strlen(sign));
    return true;
}

/* A run of anything but blanks and signs. */
static struct slice take_word(struct parser *parser) {
    size_t len = 0;
    skip_blanks(parser);
    while (len < parser->rest.len && parser->rest.data[len] && !strchr(" \t\r\n,()=!<>", parser->rest.data[len]))
        len++;
    struct slice word = slice_head(parser->rest, len);
    parser->rest = slice_from(parser->rest, len);
    return word;
}

static int add_value(struct parser *parser, struct requirement *requirement, struct slice value) {
    if (!name_is_label_value(value))
        return diag_set(
            parser->diag, -EINVAL,
            "values[%zu][%s]: Invalid value: \"%.*s\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
            "'.', and must start and end with an alphanumeric character",
            requirement->count, requirement->key, SLICE_ARG(slice_head(value, 100)));
    const char *copy = arena_dup(parser->arena, value);
    requirement->values[requirement->count++] = copy;
    return copy ? 0 : -ENOMEM;
}

/* Room for as many values as there can be. */
static int make_room(struct parser *parser, struct requirement *requirement) {
    size_t count = 1;
    for (size_t i = 0; i < parser->rest.len && parser->rest.data[i] != ')'; i++)
        count += parser->rest.data[i] == ',';
    requirement->values = ARENA_ARRAY(parser->arena, const char *, count);
    return requirement->values ? 0 : -ENOMEM;
}

static int parse_set(struct parser *parser, struct requirement *requirement) {
    if (!take_sign(parser, "("))
        return parse_error(parser, "'('");
    if (make_room(parser, requirement))
        return -ENOMEM;
    for (;;) {
        int error = add_value(parser, requirement, take_word(parser));
        if (error)
            return error;
        if (take_sign(parser, ")"))
            return 0;
        if (!take_sign(parser, ","))
            return parse_error(parser, "',' or ')'");
    }
}

static int parse_operation(struct parser *parser, struct requirement *requirement) {
    static const struct {
        const char *sign;
        enum operation operation;
    } signs[] = {{"==", OP_IN}, {"=", OP_IN}, {"!=", OP_NOT_IN}, {">", OP_GREATER}, {"<", OP_LESS}};
    requirement->operation = OP_EXISTS;
    skip_blanks(parser);
    if (parser->rest.len == 0 || parser->rest.data[0] == ',')
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(signs); i++)
        if (take_sign(parser, signs[i].sign)) {
            requirement->operation = signs[i].operation;
            requirement->values = ARENA_ARRAY(parser->arena, const char *, 1);
            return !requirement->values ? -ENOMEM : add_value(parser, requirement, take_word(parser));
        }
    struct parser before = *parser;
    struct slice word = take_word(parser);
    requirement->operation = slice_is(word, "in") ? OP_IN : OP_NOT_IN;
    if (!slice_is(word, "in") && !slice_is(word, "notin"))
        return parse_error(&before, "in, notin, =, ==, !=, gt, lt");
    return parse_set(parser, requirement);
}

static int parse_requirement(struct parser *parser, struct requirement *requirement) {
    bool absent = take_sign(parser, "!");
    struct slice key = take_word(parser);
    if (key.len == 0)
        return parse_error(parser, "!, identifier, or 'end of string'");
    if (!name_is_qualified(key))
        return diag_set(parser->diag, -EINVAL, "key: Invalid value: \"%.*s\": name part must consist of alphanumeric characters, '-', '_' or '.'",
                        SLICE_ARG(slice_head(key, 100)));
    requirement->key = arena_dup(parser->arena, key);
    if (!requirement->key)
        return -ENOMEM;
    requirement->operation = OP_ABSENT;
    return absent ? 0 : parse_operation(parser, requirement);
}

int kube_selector_parse(struct arena *arena, struct slice text, struct kube_selector **ret, struct diag *diag) {
    struct parser parser = {.arena = arena, .rest = text, .diag = diag};
    struct kube_selector *selector = ARENA_NEW(arena, struct kube_selector);
    if (!selector)
        return -ENOMEM;
    struct requirement **next = &selector->first;
    skip_blanks(&parser);
    while (parser.rest.len > 0) {
        *next = ARENA_NEW(arena, struct requirement);
        int error = *next ? parse_requirement(&parser, *next) : -ENOMEM;
        if (error)
            return error;
        next = &(*next)->next;
        skip_blanks(&parser);
        if (parser.rest.len == 0)
            break;
        if (!take_sign(&parser, ","))
            return parse_error(&parser, "',' or 'end of string'");
        skip_blanks(&parser);
        if (parser.rest.len == 0)
            return parse_error(&parser, "identifier after ','");
    }
    *ret = selector;
    return 0;
}

/* ---- fields ---- */

/* What may be selected by, beside metadata.name and metadata.namespace, as upstream has it. */
static const struct selectable {
    const char *group, *kind;
    const char *fields[12];
} selectables[] = {
    {"",
     "Pod",
     {"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork", "status.phase", "status.podIP",
      "status.nominatedNodeName"}},
    {"", "Node", {"spec.unschedulable"}},
    {"", "Namespace", {"status.phase"}},
    {"", "ReplicationController", {"status.replicas"}},
    {"", "Secret", {"type"}},
    {"", "Service", {"spec.clusterIP", "spec.type"}},
    {"",
     "Event",
     {"involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid", "involvedObject.apiVersion",
      "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type"}},
    {"events.k8s.io",
     "Event",
     {"regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "regarding.apiVersion", "regarding.resourceVersion",
      "regarding.fieldPath", "reason", "reportingController", "type"}},
    {"batch", "Job", {"status.successful"}},
    {"certificates.k8s.io", "CertificateSigningRequest", {"spec.signerName"}},
};

static const struct selectable *selectable_of(const struct kube_kind *kind) {
    for (size_t i = 0; i < ARRAY_LEN(selectables); i++)
        if (strcmp(selectables[i].kind, kind->kind) == 0 && strcmp(selectables[i].group, kind->group) == 0)
            return &selectables[i];
    return NULL;
}

static int check_selectable(const struct kube_kind *kind, const char *label, struct slice path, struct diag *diag) {
    const struct selectable *selectable = selectable_of(kind);
    if (slice_is(path, "metadata.name") || slice_is(path, "metadata.namespace"))
        return 0;
    for (size_t i = 0; selectable && i < ARRAY_LEN(selectable->fields) && selectable->fields[i]; i++)
        if (slice_is(path, selectable->fields[i]))
            return 0;
    if (!selectable && !kind->custom)
        return diag_set(diag, -EINVAL, "\"%.200s\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"", label);
    if (kind == &kube_kind_job)
        return diag_set(diag, -EINVAL, "field label \"%.200s\" not supported for batchv1.Job", label);
    return diag_set(diag, -EINVAL, "field label not supported: %.200s", label);
}

/* Names that upstream has for fields that are called otherwise. */
static struct slice path_of_label(const struct kube_kind *kind, const char *label) {
    if (kind == &kube_kind_event && strcmp(label, "source") == 0)
        return SLICE("source.component");
    if (kind == &kube_kind_job && strcmp(label, "status.successful") == 0)
        return SLICE("status.succeeded");
    return slice_of(label);
}

static int resolve_field(const struct kube_kind *kind, struct requirement *requirement, struct diag *diag) {
    const struct kube_type *type = kind->type;
    struct slice rest = path_of_label(kind, requirement->key);
    const struct kube_field *field = NULL;
    if (kind->custom && custom_is_selectable(kind, requirement->key))
        return 0; /* steps stay empty */
    int error = check_selectable(kind, requirement->key, slice_of(requirement->key), diag);
    if (error)
        return error;
    for (size_t i = 0; i + 1 < FIELD_DEPTH_MAX && rest.len > 0 && type; i++) {
        field = kube_field_find(type, slice_cut(&rest, '.'));
        requirement->steps[i] = field;
        type = field && field->shape <= KUBE_SHAPE_POINTER ? field->type : NULL;
    }
    if (kind == &kube_kind_event && strcmp(requirement->key, "source") == 0)
        requirement->otherwise = kube_field_find(kind->type, SLICE("reportingComponent"));
    bool plain = field && rest.len == 0 && field->shape <= KUBE_SHAPE_POINTER && field->form <= KUBE_FORM_INT64;
    return plain ? 0 : diag_set(diag, -EINVAL, "field label not supported: %s", requirement->key);
}

static int parse_term(struct arena *arena, const struct kube_kind *kind, struct slice term, struct requirement *requirement, struct diag *diag) {
    ptrdiff_t at = slice_index(term, '=');
    if (at <= 0)
        return diag_set(diag, -EINVAL, "invalid selector: '%.*s'; can't understand '%.*s'", SLICE_ARG(slice_head(term, 100)),
                        SLICE_ARG(slice_head(term, 100)));
    struct slice key = slice_head(term, (size_t)at), value = slice_from(term, (size_t)at + 1);
    requirement->operation = slice_ends(key, SLICE("!")) ? OP_NOT_IN : OP_IN;
    if (requirement->operation == OP_NOT_IN)
        key = slice_head(key, key.len - 1);
    else if (slice_starts(value, SLICE("=")))
        value = slice_from(value, 1);
    char *text = arena_dup(arena, value);
    requirement->key = arena_dup(arena, slice_trim(key));
    requirement->values = ARENA_ARRAY(arena, const char *, 1);
    if (!text || !requirement->key || !requirement->values)
        return -ENOMEM;
    size_t len = 0;
    for (size_t i = 0; i < value.len; i++) { /* "\," "\=" and "\\" are escapes */
        if (text[i] == '\\' && i + 1 < value.len)
            i++;
        text[len++] = text[i];
    }
    text[len] = 0;
    requirement->values[0] = text;
    requirement->count = 1;
    return resolve_field(kind, requirement, diag);
}

/* Up to a comma that is not escaped. */
static struct slice take_term(struct slice *rest) {
    size_t len = 0;
    while (len < rest->len && rest->data[len] != ',')
        len += rest->data[len] == '\\' && len + 1 < rest->len ? 2 : 1;
    struct slice term = slice_head(*rest, len);
    *rest = slice_from(*rest, len + 1);
    return term;
}

int kube_field_selector_parse(const struct kube_kind *kind, struct arena *arena, struct slice text, struct kube_selector **ret, struct diag *diag) {
    struct kube_selector *selector = ARENA_NEW(arena, struct kube_selector);
    if (!selector)
        return -ENOMEM;
    struct requirement **next = &selector->first;
    while (text.len > 0) {
        struct slice term = slice_trim(take_term(&text));
        if (term.len == 0)
            continue;
        *next = ARENA_NEW(arena, struct requirement);
        int error = *next ? parse_term(arena, kind, term, *next, diag) : -ENOMEM;
        if (error)
            return error;
        next = &(*next)->next;
    }
    *ret = selector;
    return 0;
}

static const char *field_text(const struct kube_field *const *steps, const void *data, char *number, size_t size) {
    const struct kube_field *field = NULL;
    for (size_t i = 0;; i++) {
        field = steps[i];
        const void *at = kube_at(field, data);
        if (field->shape == KUBE_SHAPE_POINTER && !kube_form_is_own_pointer(field)) {
            if (!*(void *const *)at)
                return "";
            at = *(void *const *)at;
        }
        data = at;
        if (!steps[i + 1])
            break;
    }
    switch ((enum kube_form)field->form) {
    case KUBE_FORM_STRING: return *(const char *const *)data ? *(const char *const *)data : "";
    case KUBE_FORM_BOOL: return *(const bool *)data ? "true" : "false";
    case KUBE_FORM_INT32: snprintf(number, size, "%" PRId32, *(const int32_t *)data); return number;
    default: snprintf(number, size, "%" PRId64, *(const int64_t *)data); return number;
    }
}

bool kube_field_selector_match(const struct kube_selector *selector, const struct kube_object *object) {
    char number[32];
    for (const struct requirement *at = selector->first; at; at = at->next) {
        const char *text =
            at->steps[0] ? field_text(at->steps, object->data, number, sizeof number) : custom_selected(object, at->key, number, sizeof number);
        if (at->otherwise && !*text)
            text = field_text((const struct kube_field *const[]){at->otherwise, NULL}, object->data, number, sizeof number);
        if (!requirement_holds(at, text))
            return false;
    }
    return true;
}

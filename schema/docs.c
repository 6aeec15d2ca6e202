/* Reads the .doc files: a sentence about each type and each field, for OpenAPI and `kubectl explain`.
 *
 *   Type: Sentence.                         about the type
 *       field: Sentence.                    about a field of the type above
 *   Type like Other: Sentence.              what Type has no sentence for is said of Other (its own sentence too, when it is left out)
 *   *Suffix:                                what follows is about fields of every type whose name ends so, where nothing nearer is said;  *: of all
 *
 * Fields that came in by `inline` are described where they were declared, or again at the type that inlines them. Invariants, checked in
 * schema_resolve_docs(): a sentence about nothing is an error at its line, and so is a type or field that a served kind reaches and nothing
 * describes. */
#include "schema_priv.h"

#define DOC_LIKE_MAX 4 /* `like` of `like` … */

static int doc_error(const char *file, int line, struct diag *diag, const char *format, const char *what) {
    diag_at(diag, file, line, 0);
    return diag_set(diag, -EINVAL, format, what);
}

/* "Type.field", or "Type.": the key of a sentence. */
static struct slice key_of(struct schema *schema, const char *type, const char *field) {
    const char *key = arena_printf(schema->arena, "%s.%s", type, field ? field : "");
    return key ? slice_of(key) : SLICE("");
}

static int add_doc(struct schema *schema, struct schema_doc *doc, struct diag *diag) {
    struct slice key = key_of(schema, doc->type, doc->field);
    void *old = NULL;
    if (!key.len || VECTOR_PUSH(&schema->docs, doc) != 0)
        return -ENOMEM;
    int error = map_put(schema->docs_by_name, key, doc, &old);
    return old ? doc_error(doc->file, doc->line, diag, "\"%s\" is described twice", key.data) : error;
}

/* "Type like Other" → both. */
static int read_head(struct schema *schema, struct slice head, struct schema_doc *doc) {
    struct slice type = slice_trim(slice_cut(&head, ' ')), like = slice_trim(slice_cut(&head, ' ')), other = slice_trim(head);
    doc->type = arena_dup(schema->arena, type);
    if (!like.len && !other.len)
        return doc->type ? 0 : -ENOMEM;
    if (!slice_is(like, "like") || !other.len || memchr(other.data, ' ', other.len))
        return -EINVAL;
    doc->like = arena_dup(schema->arena, other);
    return doc->type && doc->like ? 0 : -ENOMEM;
}

static int read_line(struct schema *schema, struct slice line, const struct schema_doc *at, const char **type, struct diag *diag) {
    bool field = line.data[0] == ' ';
    struct slice rest = line, name = slice_trim(slice_cut(&rest, ':'));
    struct schema_doc *doc = ARENA_NEW(schema->arena, struct schema_doc);
    if (!doc)
        return -ENOMEM;
    *doc = *at;
    if (!memchr(line.data, ':', line.len) || !name.len || (field && !*type))
        return doc_error(at->file, at->line, diag, "expected \"Type: Sentence.\" or, indented, \"field: Sentence.\"%s", "");
    rest = slice_trim(rest);
    doc->text = arena_dup(schema->arena, rest);
    int error = doc->text ? 0 : -ENOMEM;
    if (!error && field) {
        doc->type = *type;
        doc->field = arena_dup(schema->arena, name);
        error = doc->field ? 0 : -ENOMEM;
    } else if (!error)
        error = read_head(schema, name, doc);
    if (error == -EINVAL)
        return doc_error(at->file, at->line, diag, "expected \"Type like Other: Sentence.\"%s", "");
    *type = doc->type;
    bool needs_text = field || (!doc->like && doc->type && doc->type[0] != '*');
    if (!error && needs_text && (!rest.len || rest.data[rest.len - 1] != '.'))
        return doc_error(at->file, at->line, diag, "the sentence about \"%s\" must end with a full stop", field ? doc->field : doc->type);
    return error ? error : add_doc(schema, doc, diag);
}

int schema_read_docs(struct schema *schema, const char *file, struct slice text, struct diag *diag) {
    const char *type = NULL;
    for (int number = 1; text.len > 0; number++) {
        struct slice line = slice_cut(&text, '\n');
        if (!slice_trim(line).len || line.data[0] == '#')
            continue;
        int error = read_line(schema, line, &(struct schema_doc){.file = file, .line = number}, &type, diag);
        if (error)
            return error;
    }
    return 0;
}

/* --- which sentence is about what --- */

static struct schema_doc *find_exact(struct schema *schema, const char *type, const char *field) {
    struct schema_doc *doc = NULL;
    for (int i = 0; i < DOC_LIKE_MAX && type; i++) {
        doc = map_find(schema->docs_by_name, key_of(schema, type, field));
        if (doc && *doc->text)
            return doc;
        const struct schema_doc *head = map_find(schema->docs_by_name, key_of(schema, type, NULL));
        type = head ? head->like : NULL;
    }
    return NULL;
}

/* The nearest pattern: that with the longest suffix. */
static struct schema_doc *find_pattern(struct schema *schema, const char *type, const char *field) {
    struct schema_doc *best = NULL;
    for (size_t i = 0; i < schema->docs.count; i++) {
        struct schema_doc *doc = schema->docs.items[i];
        bool fits = doc->field && doc->type[0] == '*' && strcmp(doc->field, field) == 0 && slice_ends(slice_of(type), slice_of(doc->type + 1));
        if (fits && (!best || strlen(doc->type) > strlen(best->type)))
            best = doc;
    }
    return best;
}

static const char *sentence_of(struct schema *schema, const struct schema_type *type, const struct schema_field *field) {
    struct schema_doc *doc = find_exact(schema, type->name, field ? field->name : NULL);
    if (!doc && field && field->origin)
        doc = find_exact(schema, field->origin, field->name);
    if (!doc && field)
        doc = find_pattern(schema, type->name, field->name);
    if (doc)
        doc->used = true;
    return doc ? doc->text : NULL;
}

static void describe(struct schema *schema, struct schema_type *type) {
    type->doc = sentence_of(schema, type, NULL);
    type->described = type->doc != NULL;
    for (size_t i = 0; i < type->fields.count; i++) {
        type->fields.items[i]->doc = sentence_of(schema, type, type->fields.items[i]);
        type->described |= type->fields.items[i]->doc != NULL;
    }
}

/* A type that a served kind reaches must be described whole. */
static int require(struct schema_type *type, struct diag *diag) {
    if (type->reached)
        return 0;
    type->reached = true;
    if (!type->doc)
        return doc_error(type->file, type->line, diag, "type \"%s\" has no sentence in a .doc file", type->name);
    for (size_t i = 0; i < type->fields.count; i++) {
        struct schema_field *field = type->fields.items[i];
        if (!field->doc) {
            diag_at(diag, field->file, field->line, 0);
            return diag_set(diag, -EINVAL, "field \"%s\" of \"%s\" has no sentence in a .doc file", field->name, type->name);
        }
        int error = field->type ? require(field->type, diag) : 0;
        if (error)
            return error;
    }
    return 0;
}

static bool has_type(struct schema *schema, const char *name) {
    return map_find(schema->types_by_name, slice_of(name)) != NULL;
}

static int check_used(struct schema *schema, const struct schema_doc *doc, struct diag *diag) {
    if (doc->type[0] != '*' && !has_type(schema, doc->type))
        return doc_error(doc->file, doc->line, diag, "there is no type \"%s\"", doc->type);
    if (doc->like && !has_type(schema, doc->like))
        return doc_error(doc->file, doc->line, diag, "there is no type \"%s\"", doc->like);
    if (doc->field && !doc->used)
        return doc_error(doc->file, doc->line, diag, "no field \"%s\" needs this sentence", doc->field);
    return 0;
}

int schema_resolve_docs(struct schema *schema, struct diag *diag) {
    int error = 0;
    for (size_t i = 0; i < schema->types.count; i++)
        describe(schema, schema->types.items[i]);
    for (size_t i = 0; i < schema->kinds.count && error == 0; i++)
        if (schema->kinds.items[i]->served)
            error = require(schema->kinds.items[i]->type, diag);
    for (size_t i = 0; i < schema->docs.count && error == 0; i++)
        error = check_used(schema, schema->docs.items[i], diag);
    return error;
}

/* --- the blob --- */

void schema_write_docs(struct schema *schema, struct buffer *out) {
    size_t at = 0;
    buffer_append_text(out, "static const char kube_docs[] =\n");
    for (size_t i = 0; i < schema->types.count; i++) {
        struct schema_type *type = schema->types.items[i];
        if (!type->described)
            continue;
        type->doc_at = at;
        for (size_t j = 0; j <= type->fields.count; j++) {
            const char *text = j ? type->fields.items[j - 1]->doc : type->doc;
            buffer_append_text(out, "    ");
            schema_write_string(out, text ? text : "");
            buffer_append_text(out, " \"\\0\"\n");
            at += strlen(text ? text : "") + 1;
        }
    }
    buffer_append_text(out, "    \"\";\n\n");
}

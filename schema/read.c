/* Reads the IDL: statements of words, one per line (a backslash at the end joins the next), '#' starts a comment, "quoted words" may hold blanks.
 *
 *   group NAME VERSION                    what follows belongs to it
 *   enum NAME VALUE…                      a closed set of strings;  names NAME VALUE…  an open one
 *   type NAME [as UPSTREAMS_NAME] [atomic] { FIELD TYPE NUMBER RULE… ; inline TYPE NUMBER }      union NAME { … } : in JSON one of the fields, bare
 *   kind NAME { plural X; singular X; short X; category X; scope namespaced|cluster; status; scale; generation; served; virtual; type T;
 *               stored-as TYPE CONVERSION; column NAME TYPE SOURCE PRIORITY "DESCRIPTION" }
 *
 * The words of each statement and their rules are tables below; an unknown word is an error at its line. */
#include "schema_priv.h"

struct reader {
    struct schema *schema;
    const char *file;
    int line;
    struct diag *diag;
    const char *group, *version;
    struct schema_type *type; /* open block */
    struct schema_kind *kind;
    char *words[SCHEMA_WORDS_MAX];
    size_t count;
};

static int reader_error(struct reader *reader, const char *format, const char *what) {
    diag_at(reader->diag, reader->file, reader->line, 0);
    return diag_set(reader->diag, -EINVAL, format, what);
}

/* Splits one line into words, appended to those of a joined line before. */
static int reader_split(struct reader *reader, struct slice line, bool *ret_joined) {
    *ret_joined = false;
    for (size_t i = 0; i < line.len;) {
        if (line.data[i] == ' ' || line.data[i] == '\t') {
            i++;
            continue;
        }
        if (line.data[i] == '#')
            break;
        if (line.data[i] == '\\' && i + 1 == line.len) {
            *ret_joined = true;
            break;
        }
        size_t start = i;
        bool quoted = line.data[i] == '"';
        if (quoted)
            for (start = ++i; i < line.len && line.data[i] != '"';)
                i++;
        else
            while (i < line.len && line.data[i] != ' ' && line.data[i] != '\t')
                i++;
        if (quoted && i == line.len)
            return reader_error(reader, "a quote is not closed%s", "");
        if (reader->count == SCHEMA_WORDS_MAX)
            return reader_error(reader, "too many words in one statement%s", "");
        char *word = arena_dup(reader->schema->arena, slice_make(line.data + start, i - start));
        if (!word)
            return -ENOMEM;
        reader->words[reader->count++] = word;
        i += quoted;
    }
    return 0;
}

static int read_number(struct reader *reader, const char *text, int64_t *ret) {
    if (slice_parse_i64(slice_of(text), ret) != 0)
        return reader_error(reader, "\"%s\" is no number", text);
    return 0;
}

/* "merge(name)" → "merge" and "name". */
static void split_argument(char *text, const char **ret_word, const char **ret_argument) {
    char *open = strchr(text, '(');
    size_t len = strlen(text);
    *ret_word = text;
    if (open && text[len - 1] == ')') {
        text[len - 1] = 0;
        *open = 0;
        *ret_argument = open + 1;
    }
}

static int read_rule(struct reader *reader, struct schema_field *field, char *rule) {
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {{"always", &field->always}, {"required", &field->required}, {"immutable", &field->immutable}, {"atomic", &field->atomic},
                 {"fixed", &field->fixed},   {"granular", &field->granular}, {"publish", &field->publish}};
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (strcmp(rule, flags[i].name) == 0) {
            *flags[i].flag = true;
            return 0;
        }
    char *value = strchr(rule, '=');
    if (!value)
        return reader_error(
            reader,
            "unknown rule \"%s\"; known: always required immutable fixed atomic granular publish list= patch= default= format= min= max=", rule);
    *value++ = 0;
    if (strcmp(rule, "list") == 0)
        split_argument(value, &field->list, &field->keys);
    else if (strcmp(rule, "patch") == 0)
        split_argument(value, &field->patch, &field->merge_key);
    else if (strcmp(rule, "default") == 0)
        field->default_ = strcmp(value, "\"\"") == 0 ? "" : value;
    else if (strcmp(rule, "format") == 0)
        field->format = value;
    else if (strcmp(rule, "min") == 0) {
        field->has_min = true;
        return read_number(reader, value, &field->min);
    } else if (strcmp(rule, "max") == 0) {
        field->has_max = true;
        return read_number(reader, value, &field->max);
    } else
        return reader_error(
            reader,
            "unknown rule \"%s\"; known: always required immutable fixed atomic granular publish list= patch= default= format= min= max=", rule);
    return 0;
}

static int read_field(struct reader *reader) {
    if (reader->count < 3)
        return reader_error(reader, "a field needs a name, a type and a number%s", "");
    struct schema_field *field = ARENA_NEW(reader->schema->arena, struct schema_field);
    int64_t number = 0;
    if (!field)
        return -ENOMEM;
    field->file = reader->file;
    field->line = reader->line;
    field->name = strcmp(reader->words[0], "inline") == 0 ? NULL : reader->words[0];
    field->text = reader->words[1];
    int error = read_number(reader, reader->words[2], &number);
    field->number = (int)number;
    for (size_t i = 3; i < reader->count && error == 0; i++)
        error = read_rule(reader, field, reader->words[i]);
    return error ? error : VECTOR_PUSH(&reader->type->fields, field);
}

static int read_column(struct reader *reader) {
    struct schema_column *column = ARENA_NEW(reader->schema->arena, struct schema_column);
    int64_t priority = 0;
    if (!column)
        return -ENOMEM;
    if (reader->count != 6)
        return reader_error(reader, "a column needs a name, a type, a source, a priority and a description%s", "");
    column->name = reader->words[1];
    column->type = reader->words[2];
    column->format = "";
    char *format = strchr(reader->words[2], '/');
    if (format) {
        *format = 0;
        column->format = format + 1;
    }
    column->source = reader->words[3];
    column->description = reader->words[5];
    int error = read_number(reader, reader->words[4], &priority);
    column->priority = (int)priority;
    return error ? error : VECTOR_PUSH(&reader->kind->columns, column);
}

static int read_kind_line(struct reader *reader) {
    struct schema_kind *kind = reader->kind;
    const char *word = reader->words[0], *value = reader->count == 2 ? reader->words[1] : NULL;
    if (strcmp(word, "column") == 0)
        return read_column(reader);
    if (strcmp(word, "stored-as") == 0 && reader->count == 3) {
        kind->stored_type = reader->words[1];
        kind->conversion = reader->words[2];
        return 0;
    }
    if (strcmp(word, "status") == 0)
        kind->status = true;
    else if (strcmp(word, "scale") == 0)
        kind->scale = true;
    else if (strcmp(word, "generation") == 0)
        kind->generation = true;
    else if (strcmp(word, "served") == 0)
        kind->served = true;
    else if (strcmp(word, "virtual") == 0)
        kind->virtual = true;
    else if (!value)
        return reader_error(reader, "\"%s\" needs one value", word);
    else if (strcmp(word, "short") == 0)
        return VECTOR_PUSH(&kind->short_names, value);
    else if (strcmp(word, "category") == 0)
        return VECTOR_PUSH(&kind->categories, value);
    else if (strcmp(word, "plural") == 0)
        kind->plural = value;
    else if (strcmp(word, "singular") == 0)
        kind->singular = value;
    else if (strcmp(word, "type") == 0)
        kind->type_name = value;
    else if (strcmp(word, "scope") == 0 && (strcmp(value, "namespaced") == 0 || strcmp(value, "cluster") == 0))
        kind->namespaced = value[0] == 'n';
    else
        return reader_error(reader, "unknown statement \"%s\" in a kind", word);
    return 0;
}

/* Upstream's name of the Go package that has the group's types: "io.k8s.api.apps.v1". */
static const char *package_of(const struct reader *reader) {
    static const char *const elsewhere[][2] = {
        {"meta", "io.k8s.apimachinery.pkg.apis.meta"},
        {"apiextensions.k8s.io", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions"},
        {"metrics.k8s.io", "io.k8s.metrics.pkg.apis.metrics"},
    };
    const char *group = reader->group ? reader->group : "", *version = reader->version ? reader->version : "";
    for (size_t i = 0; i < ARRAY_LEN(elsewhere); i++)
        if (strcmp(elsewhere[i][0], group) == 0)
            return arena_printf(reader->schema->arena, "%s.%s", elsewhere[i][1], version);
    int first = (int)strcspn(group, ".");
    return arena_printf(reader->schema->arena, "io.k8s.api.%.*s.%s", first ? first : 4, first ? group : "core", version);
}

static int open_type(struct reader *reader, bool either) {
    struct schema *schema = reader->schema;
    struct schema_type *type = ARENA_NEW(schema->arena, struct schema_type);
    if (!type || VECTOR_PUSH(&schema->types, type) != 0)
        return -ENOMEM;
    *type =
        (struct schema_type){.file = reader->file, .line = reader->line, .name = reader->words[1], .either = either, .upstream = reader->words[1]};
    type->package = package_of(reader);
    if (!type->package)
        return -ENOMEM;
    for (size_t i = 2; i + 1 < reader->count; i++) {
        if (strcmp(reader->words[i], "atomic") == 0)
            type->atomic = true;
        else if (strcmp(reader->words[i], "as") == 0 && i + 2 < reader->count)
            type->upstream = reader->words[++i];
        else
            return reader_error(reader, "unknown word \"%s\" before a type's block", reader->words[i]);
    }
    void *old = NULL;
    int error = map_put(schema->types_by_name, slice_of(type->name), type, &old);
    if (old)
        return reader_error(reader, "type \"%s\" is described twice", type->name);
    reader->type = type;
    return error;
}

static int open_kind(struct reader *reader) {
    struct schema_kind *kind = ARENA_NEW(reader->schema->arena, struct schema_kind);
    if (!kind || VECTOR_PUSH(&reader->schema->kinds, kind) != 0)
        return -ENOMEM;
    if (!reader->group)
        return reader_error(reader, "kind \"%s\" stands before any group", reader->words[1]);
    *kind = (struct schema_kind){.file = reader->file,
                                 .line = reader->line,
                                 .group = reader->group,
                                 .version = reader->version,
                                 .name = reader->words[1],
                                 .type_name = reader->words[1]};
    reader->kind = kind;
    return 0;
}

static int read_values(struct reader *reader, bool closed) {
    struct schema *schema = reader->schema;
    struct schema_values *values = ARENA_NEW(schema->arena, struct schema_values);
    if (!values || VECTOR_PUSH(&schema->values, values) != 0)
        return -ENOMEM;
    values->name = reader->words[1];
    values->closed = closed;
    values->count = reader->count - 2;
    values->items = ARENA_ARRAY(schema->arena, const char *, values->count);
    if (!values->items)
        return -ENOMEM;
    for (size_t i = 0; i < values->count; i++)
        values->items[i] = reader->words[i + 2];
    void *old = NULL;
    int error = map_put(schema->values_by_name, slice_of(values->name), values, &old);
    return old ? reader_error(reader, "the values \"%s\" are described twice", values->name) : error;
}

static int read_statement(struct reader *reader) {
    const char *word = reader->words[0];
    bool block = reader->count >= 3 && strcmp(reader->words[reader->count - 1], "{") == 0;
    if (strcmp(word, "}") == 0 && (reader->type || reader->kind)) {
        reader->type = NULL;
        reader->kind = NULL;
        return 0;
    }
    if (reader->type)
        return read_field(reader);
    if (reader->kind)
        return read_kind_line(reader);
    if (strcmp(word, "group") == 0 && reader->count == 3) {
        reader->group = reader->words[1];
        reader->version = reader->words[2];
        return 0;
    }
    if (strcmp(word, "enum") == 0 && reader->count > 2)
        return read_values(reader, true);
    if (strcmp(word, "names") == 0 && reader->count > 2)
        return read_values(reader, false);
    bool either = strcmp(word, "union") == 0;
    if ((either || strcmp(word, "type") == 0) && block)
        return open_type(reader, either);
    if (strcmp(word, "kind") == 0 && block && reader->count == 3)
        return open_kind(reader);
    return reader_error(reader, "expected a group, enum, names, type, union or kind, found \"%s\"", word);
}

int schema_read(struct schema *schema, const char *file, struct slice text, struct diag *diag) {
    struct reader reader = {.schema = schema, .file = file, .diag = diag};
    while (text.len > 0) {
        struct slice line = slice_cut(&text, '\n');
        bool joined = false;
        reader.line++;
        int error = reader_split(&reader, line, &joined);
        if (error == 0 && reader.count > 0 && !joined) {
            error = read_statement(&reader);
            reader.count = 0;
        }
        if (error)
            return error;
    }
    if (reader.type || reader.kind)
        return reader_error(&reader, "a block is not closed%s", "");
    return 0;
}

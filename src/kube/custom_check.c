/* Objects against their schema, in the words of upstream's validator: "spec.replicas in body must be of type integer: \"string\"".
 *
 * 1. Every keyword reports for itself, whatever the type of the value: a length is checked of strings, a bound of numbers. null is only looked at
 *    by type and enum.
 * 2. Of allOf, anyOf, oneOf and not each alternative is first tried silently; of those that all fail, the one with the fewest errors is told.
 * 3. On an update, what is equal to the old object's value at the same place is not checked (upstream: ratcheting), so that a schema that became
 *    stricter does not hold up those who change something else. Items of lists are only compared when the list is a map, by its keys.
 * 4. The work is bounded: alternatives within alternatives could make it exponential. */
#include "kube/custom_priv.h"

#include <math.h>
#include <stdio.h>

struct checker {
    struct validator *validator;
    bool quiet;
    size_t errors; /* also the quiet ones */
    size_t steps;
};

static void check(struct checker *checker, const struct custom_schema *schema, const struct tree *value, const struct tree *old);

/* --- reporting --- */

static const char *shown(const struct tree *value, struct buffer *out) {
    json_format(out, value);
    return out->data ? out->data : "null";
}

static const char *path_of(const struct checker *checker) {
    return checker->validator->path.text;
}

/* `Invalid value: VALUE: PATH in body MESSAGE`. */
static void fail(struct checker *checker, const char *reason, const struct tree *value, const char *format, ...) {
    char message[300];
    checker->errors++;
    if (checker->quiet)
        return;
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(API_BODY_BYTES_MAX);
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    fail_reason(checker->validator, reason, NULL, "Invalid value: %.150s: %s in body %s", shown(value, &text), path_of(checker), message);
}

/* Errors about a place as a whole, which upstream reports without a field. */
static void fail_whole(struct checker *checker, const char *message) {
    checker->errors++;
    if (checker->quiet)
        return;
    char quoted[450];
    snprintf(quoted, sizeof quoted, "%s", path_of(checker));
    size_t before = checker->validator->path.len;
    char kept[sizeof checker->validator->path.text];
    memcpy(kept, checker->validator->path.text, before + 1);
    checker->validator->path.len = 0;
    checker->validator->path.text[0] = 0;
    fail_reason(checker->validator, "FieldValueInvalid", NULL, "Invalid value: \"\": \"%s\" %s", quoted, message);
    memcpy(checker->validator->path.text, kept, before + 1);
    checker->validator->path.len = before;
}

static void fail_plain(struct checker *checker, const char *reason, const char *name, const char *message) {
    checker->errors++;
    if (!checker->quiet)
        fail_reason(checker->validator, reason, name, "%s", message);
}

/* --- types --- */

static const char *type_of(const struct tree *value) {
    static const char *const names[] = {[TREE_NULL] = "null",     [TREE_BOOL] = "boolean", [TREE_INT] = "integer", [TREE_FLOAT] = "number",
                                        [TREE_STRING] = "string", [TREE_LIST] = "array",   [TREE_MAP] = "object"};
    return names[value->type];
}

static bool is_whole(double value) {
    return value >= -9e15 && value <= 9e15 && value == floor(value);
}

static bool fits_type(uint8_t types, const struct tree *value) {
    static const uint8_t bits[] = {[TREE_NULL] = 0,
                                   [TREE_BOOL] = CUSTOM_BOOLEAN,
                                   [TREE_INT] = CUSTOM_INTEGER | CUSTOM_NUMBER,
                                   [TREE_FLOAT] = CUSTOM_NUMBER,
                                   [TREE_STRING] = CUSTOM_STRING,
                                   [TREE_LIST] = CUSTOM_ARRAY,
                                   [TREE_MAP] = CUSTOM_OBJECT};
    if (types & bits[value->type])
        return true;
    return value->type == TREE_FLOAT && types & CUSTOM_INTEGER && is_whole(value->real);
}

static const char *type_names(uint8_t types) {
    static const char *const names[] = {"object", "array", "string", "integer", "number", "boolean"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (types == 1u << i)
            return names[i];
    return "integer,string";
}

static void check_type(struct checker *checker, const struct custom_schema *schema, const struct tree *value) {
    uint8_t types = schema->flags & CUSTOM_INT_OR_STRING ? CUSTOM_INTEGER | CUSTOM_STRING : schema->type;
    if (!types || (value->type == TREE_NULL && schema->flags & CUSTOM_NULLABLE) || fits_type(types, value))
        return;
    const struct tree name = {.type = TREE_STRING, .string = slice_of(type_of(value))};
    fail(checker, "FieldValueTypeInvalid", &name, "must be of type %s: \"%s\"", type_names(types), type_of(value));
}

/* --- values --- */

static double number_of(const struct tree *value) {
    return value->type == TREE_INT ? (double)value->integer : value->real;
}

static int compare_numbers(const struct tree *a, const struct tree *b) {
    if (a->type == TREE_INT && b->type == TREE_INT)
        return (a->integer > b->integer) - (a->integer < b->integer);
    double x = number_of(a), y = number_of(b);
    return (x > y) - (x < y);
}

static bool is_multiple(const struct tree *value, const struct tree *factor) {
    if (value->type == TREE_INT && factor->type == TREE_INT)
        return factor->integer == 0 || factor->integer == -1 || value->integer % factor->integer == 0;
    double quotient = number_of(factor) > 0 || number_of(factor) < 0 ? number_of(value) / number_of(factor) : 0;
    return is_whole(quotient);
}

static void check_number(struct checker *checker, const struct custom_schema *schema, const struct tree *value) {
    const struct custom_checks *checks = schema->checks;
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(KIB);
    bool above = schema->flags & CUSTOM_MIN_EXCLUSIVE, below = schema->flags & CUSTOM_MAX_EXCLUSIVE;
    if (checks->multiple_of && !is_multiple(value, checks->multiple_of))
        fail(checker, "FieldValueInvalid", value, "should be a multiple of %s", shown(checks->multiple_of, &text));
    buffer_reset(&text);
    if (checks->maximum && compare_numbers(value, checks->maximum) > (below ? -1 : 0))
        fail(checker, "FieldValueInvalid", value, "should be less than %s%s", below ? "" : "or equal to ", shown(checks->maximum, &text));
    buffer_reset(&text);
    if (checks->minimum && compare_numbers(value, checks->minimum) < (above ? 1 : 0))
        fail(checker, "FieldValueInvalid", value, "should be greater than %s%s", above ? "" : "or equal to ", shown(checks->minimum, &text));
    if (checks->format && !strcmp(checks->format, "int32") && value->type == TREE_INT && (value->integer > INT32_MAX || value->integer < INT32_MIN))
        fail(checker, "FieldValueInvalid", value, "must be of type integer with format int32");
}

static int64_t count_characters(struct slice text) {
    int64_t count = 0;
    for (size_t i = 0; i < text.len; i++)
        count += ((unsigned char)text.data[i] & 0xc0) != 0x80;
    return count;
}

static void check_text(struct checker *checker, const struct custom_checks *checks, const struct tree *value) {
    int64_t length = checks->min_length >= 0 || checks->max_length >= 0 ? count_characters(value->string) : 0;
    char message[80];
    if (checks->max_length >= 0 && length > checks->max_length) {
        snprintf(message, sizeof message, "Too long: may not be more than %" PRId64 " bytes", checks->max_length);
        fail_plain(checker, "FieldValueTooLong", NULL, message);
    }
    if (checks->min_length >= 0 && length < checks->min_length)
        fail(checker, "FieldValueInvalid", value, "should be at least %" PRId64 " chars long", checks->min_length);
    if (checks->pattern && !custom_pattern_matches(checks, value->string))
        fail(checker, "FieldValueInvalid", value, "should match '%s'", checks->pattern);
    if (checks->format && !custom_format_holds(checks->format, value->string))
        fail(checker, "FieldValueTypeInvalid", value, "must be of type %s: \"%.*s\"", checks->format, (int)MIN(value->string.len, 100),
             value->string.data);
}

static void check_counts(struct checker *checker, const struct tree *value, int64_t low, int64_t high, const char *what) {
    int64_t count = (int64_t)tree_count(value);
    char message[80];
    if (high >= 0 && count > high) {
        snprintf(message, sizeof message, "Too many: %" PRId64 ": must have at most %" PRId64 " items", count, high);
        fail_plain(checker, "FieldValueTooMany", NULL, message);
    }
    if (low >= 0 && count < low)
        fail(checker, "FieldValueInvalid", value, "should have at least %" PRId64 " %s", low, what);
}

static void check_enum(struct checker *checker, const struct tree *list, const struct tree *value) {
    for (size_t i = 0; i < tree_count(list); i++)
        if (tree_equal(tree_at(list, i), value))
            return;
    if (checker->quiet) {
        checker->errors++;
        return;
    }
    CLEANUP(buffer_deinit) struct buffer message = BUFFER_INIT(API_BODY_BYTES_MAX), item = BUFFER_INIT(API_BODY_BYTES_MAX);
    buffer_append_text(&message, "Unsupported value: ");
    json_format(&message, value);
    for (size_t i = 0; i < tree_count(list); i++) {
        const struct tree *allowed = tree_at(list, i);
        buffer_append_text(&message, i ? ", " : ": supported values: ");
        buffer_reset(&item);
        if (allowed->type != TREE_STRING)
            json_format(&item, allowed);
        json_format_string(&message, allowed->type == TREE_STRING ? allowed->string : buffer_slice(&item));
    }
    fail_plain(checker, "FieldValueNotSupported", NULL, message.data ? message.data : "Unsupported value");
}

/* --- alternatives --- */

static size_t count_errors(struct checker *checker, const struct custom_schema *schema, const struct tree *value) {
    bool quiet = checker->quiet;
    size_t before = checker->errors;
    checker->quiet = true;
    check(checker, schema, value, NULL);
    size_t errors = checker->errors - before;
    checker->errors = before;
    checker->quiet = quiet;
    return errors;
}

struct trial {
    size_t valid, fewest;
    const struct custom_schema *best; /* the one that fails least, with `fewest` errors; NULL: all hold */
};

static struct trial try_all(struct checker *checker, const struct custom_alternatives *list, const struct tree *value, bool one_will_do) {
    struct trial trial = {.fewest = SIZE_MAX};
    for (size_t i = 0; i < list->count && !(one_will_do && trial.valid); i++) {
        size_t errors = count_errors(checker, list->items[i], value);
        trial.valid += errors == 0;
        if (errors && errors < trial.fewest) {
            trial.fewest = errors;
            trial.best = list->items[i];
        }
    }
    return trial;
}

/* Tells what is wrong with the best one; who is silent has counted already, and must not walk again: that would double at every level. */
static void tell_best(struct checker *checker, const struct trial *trial, const struct tree *value) {
    if (trial->best && checker->quiet)
        checker->errors += trial->fewest;
    else if (trial->best)
        check(checker, trial->best, value, NULL);
}

static void check_alternatives(struct checker *checker, const struct custom_checks *checks, const struct tree *value) {
    char message[100];
    struct trial any = try_all(checker, &checks->any_of, value, true), one = try_all(checker, &checks->one_of, value, false);
    size_t valid = one.valid;
    if (checks->any_of.count && any.valid == 0) {
        fail_whole(checker, "must validate at least one schema (anyOf)");
        tell_best(checker, &any, value);
    }
    if (checks->one_of.count && valid != 1) {
        snprintf(message, sizeof message,
                 valid ? "must validate one and only one schema (oneOf). Found %zu valid alternatives"
                       : "must validate one and only one schema (oneOf). Found none valid",
                 valid);
        fail_whole(checker, message);
        tell_best(checker, &one, value);
    }
    valid = 0;
    for (size_t i = 0; i < checks->all_of.count; i++) {
        size_t before = checker->errors;
        check(checker, checks->all_of.items[i], value, NULL);
        valid += checker->errors == before;
    }
    if (valid < checks->all_of.count)
        fail_whole(checker, valid ? "must validate all the schemas (allOf)" : "must validate all the schemas (allOf). None validated");
    if (checks->not_ && count_errors(checker, checks->not_, value) == 0)
        fail_whole(checker, "must not validate the schema (not)");
}

/* --- lists that are sets or maps --- */

static bool same_keys(const struct custom_schema *schema, const struct tree *a, const struct tree *b) {
    bool same = a->type == TREE_MAP && b->type == TREE_MAP;
    for (size_t i = 0; same && i < tree_count(schema->map_keys); i++) {
        const char *key = tree_text_or(tree_at(schema->map_keys, i), "");
        const struct tree *x = tree_find(a, key), *y = tree_find(b, key);
        same = (!x && !y) || (x && y && tree_equal(x, y));
    }
    return same;
}

static void fail_duplicate_item(struct checker *checker, const struct custom_schema *schema, const struct tree *item) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(API_BODY_BYTES_MAX);
    buffer_append_text(&text, "Duplicate value: ");
    if (schema->flags & CUSTOM_LIST_SET) {
        json_format(&text, item);
    } else {
        size_t put = 0;
        buffer_append_text(&text, "{");
        for (size_t i = 0; i < tree_count(schema->map_keys); i++) {
            const char *key = tree_text_or(tree_at(schema->map_keys, i), "");
            const struct tree *value = tree_find(item, key);
            if (!value)
                continue;
            buffer_append_text(&text, put++ ? "," : "");
            json_format_string(&text, slice_of(key));
            buffer_append_text(&text, ":");
            json_format(&text, value);
        }
        buffer_append_text(&text, "}");
    }
    fail_plain(checker, "FieldValueDuplicate", NULL, text.data ? text.data : "Duplicate value");
}

/* What two items that are the same have in common: their JSON, or that of their keys. */
static bool put_identity(const struct custom_schema *schema, const struct tree *item, struct buffer *out) {
    buffer_reset(out);
    if (schema->flags & CUSTOM_LIST_SET)
        return json_format(out, item) == 0;
    for (size_t i = 0; i < tree_count(schema->map_keys); i++) {
        const struct tree *value = tree_find(item, tree_text_or(tree_at(schema->map_keys, i), ""));
        if (value)
            json_format(out, value);
        buffer_append_byte(out, ',');
    }
    return buffer_error(out) == 0;
}

static void check_duplicates(struct checker *checker, const struct custom_schema *schema, const struct tree *list) {
    CLEANUP(buffer_deinit) struct buffer identity = BUFFER_INIT(API_BODY_BYTES_MAX);
    CLEANUP(map_freep) struct map *seen = map_new();
    static char here;
    for (size_t i = 0; i < tree_count(list); i++) {
        void *before = NULL;
        if (!seen || !put_identity(schema, tree_at(list, i), &identity) || map_put(seen, buffer_slice(&identity), &here, &before) != 0) {
            checker->validator->no_memory = true;
            return;
        }
        if (!before)
            continue;
        size_t path = kube_path_push_index(&checker->validator->path, i);
        fail_duplicate_item(checker, schema, tree_at(list, i));
        kube_path_pop(&checker->validator->path, path);
    }
}

static const struct tree *find_old_item(struct checker *checker, const struct custom_schema *schema, const struct tree *old,
                                        const struct tree *item) {
    for (size_t i = 0; schema->flags & CUSTOM_LIST_MAP && i < tree_count(old) && checker->steps < CUSTOM_CHECKS_MAX; i++, checker->steps++)
        if (same_keys(schema, tree_at(old, i), item))
            return tree_at(old, i);
    return NULL;
}

/* --- structure --- */

static void check_list(struct checker *checker, const struct custom_schema *schema, const struct tree *value, const struct tree *old) {
    if (schema->flags & (CUSTOM_LIST_SET | CUSTOM_LIST_MAP))
        check_duplicates(checker, schema, value);
    for (size_t i = 0; schema->items && i < tree_count(value); i++) {
        size_t before = kube_path_push_index(&checker->validator->path, i);
        check(checker, schema->items, tree_at(value, i), find_old_item(checker, schema, old, tree_at(value, i)));
        kube_path_pop(&checker->validator->path, before);
    }
}

static bool is_meta_place(const struct checker *checker, const struct custom_schema *schema, struct slice name) {
    return (checker->validator->path.len == 0 || schema->flags & CUSTOM_EMBEDDED) && custom_is_meta(name);
}

static void check_embedded(struct checker *checker, const struct tree *value) {
    static const char *const names[] = {"apiVersion", "kind"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!*tree_text_or(tree_find(value, names[i]), ""))
            fail_plain(checker, "FieldValueRequired", names[i], "Required value: must not be empty");
}

static void check_map(struct checker *checker, const struct custom_schema *schema, const struct tree *value, const struct tree *old) {
    for (size_t i = 0; i < tree_count(schema->required); i++) {
        struct slice name = slice_of(tree_text_or(tree_at(schema->required, i), ""));
        if (!tree_find_entry(value, name) && !is_meta_place(checker, schema, name))
            fail_plain(checker, "FieldValueRequired", name.data, "Required value");
    }
    for (size_t i = 0; i < tree_count(value); i++) {
        const struct tree_entry *entry = &value->children->items[i];
        const struct custom_schema *child = custom_property_find(schema, entry->key);
        if (!child)
            child = schema->additional;
        if (!child)
            continue;
        size_t before = kube_path_push(&checker->validator->path, entry->key.data, entry->key.len);
        const struct tree_entry *old_entry = old ? tree_find_entry(old, entry->key) : NULL;
        check(checker, child, entry->value, old_entry ? old_entry->value : NULL);
        kube_path_pop(&checker->validator->path, before);
    }
    if (schema->flags & CUSTOM_EMBEDDED)
        check_embedded(checker, value);
}

static void check_value(struct checker *checker, const struct custom_schema *schema, const struct tree *value) {
    const struct custom_checks *checks = schema->checks;
    check_alternatives(checker, checks, value);
    if (value->type == TREE_STRING)
        check_text(checker, checks, value);
    if (value->type == TREE_INT || value->type == TREE_FLOAT)
        check_number(checker, schema, value);
    if (value->type == TREE_LIST)
        check_counts(checker, value, checks->min_items, checks->max_items, "items");
    if (value->type == TREE_MAP)
        check_counts(checker, value, checks->min_properties, checks->max_properties, "properties");
}

static void check(struct checker *checker, const struct custom_schema *schema, const struct tree *value, const struct tree *old) {
    if (old && tree_equal(value, old))
        return;
    if (++checker->steps >= CUSTOM_CHECKS_MAX) {
        checker->errors++;
        return;
    }
    check_type(checker, schema, value);
    if (value->type != TREE_NULL && schema->checks)
        check_value(checker, schema, value);
    if (schema->checks && schema->checks->enum_ && !(value->type == TREE_NULL && schema->flags & CUSTOM_NULLABLE))
        check_enum(checker, schema->checks->enum_, value);
    if (value->type == TREE_LIST)
        check_list(checker, schema, value, old);
    if (value->type == TREE_MAP)
        check_map(checker, schema, value, old);
}

/* Restrictions of the root's metadata: of its name, as a rule. */
static void check_metadata(struct checker *checker, const struct custom_schema *schema, const struct kube_object *object) {
    const struct custom_schema *metadata = custom_property_find(schema, SLICE("metadata"));
    if (!metadata || !metadata->properties_count)
        return;
    const char *const texts[][2] = {{"name", object->metadata->name}, {"generateName", object->metadata->generate_name}};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        const struct custom_schema *property = custom_property_find(metadata, slice_of(texts[i][0]));
        const struct tree value = {.type = TREE_STRING, .string = slice_of(texts[i][1])};
        if (!property || !texts[i][1])
            continue;
        size_t before = kube_path_push_field(&checker->validator->path, "metadata");
        kube_path_push_field(&checker->validator->path, texts[i][0]);
        check(checker, property, &value, NULL);
        kube_path_pop(&checker->validator->path, before);
    }
}

void custom_check(struct validator *validator, const struct kube_object *object, const struct kube_object *old) {
    struct checker checker = {.validator = validator};
    const struct custom_schema *schema = custom_schema_of(object->kind);
    check(&checker, schema, object->custom->content, old ? old->custom->content : NULL);
    if (!old)
        check_metadata(&checker, schema, object);
    if (checker.steps >= CUSTOM_CHECKS_MAX)
        fail_reason(validator, "FieldValueInvalid", NULL,
                    "Invalid value: \"\": takes too many steps to validate: many alternatives, and many values");
}

void custom_check_default(struct validator *validator, const struct custom_schema *schema, const struct tree *value) {
    struct checker checker = {.validator = validator};
    check(&checker, schema, value, NULL);
}

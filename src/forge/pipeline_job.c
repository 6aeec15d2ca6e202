/* The keywords of a job: one table. A keyword is read, has no effect here (a warning tells), or is refused because leaving it out would change what
 * the pipeline means. A word that is in none of these is an error that names the nearest known one. */
#include "forge/pipeline_priv.h"

#include <ctype.h>
#include <stdio.h>

#define SECONDS_PER_DAY 86400

typedef int read_fn(struct reader *reader, const struct tree *node, struct pipeline_job *job);

static int read_script(struct reader *reader, const struct tree *node, struct pipeline_job *job) {
    int error = reader_strings(reader, node, "script", &job->script);
    if (!error && job->script.count == 0)
        return reader_refuse(reader, node, "script", "the script is empty: at least one command was expected");
    return error;
}
static int read_before_script(struct reader *reader, const struct tree *node, struct pipeline_job *job) {
    return reader_strings(reader, node, "before_script", &job->before_script);
}
static int read_after_script(struct reader *reader, const struct tree *node, struct pipeline_job *job) {
    int error = reader_strings(reader, node, "after_script", &job->after_script);
    if (!error && job->after_script.count && reader_warn(reader, node, "`after_script` has no effect yet"))
        return reader_no_memory(reader);
    return error;
}
static int read_stage(struct reader *reader, const struct tree *node, struct pipeline_job *job) {
    return reader_scalar(reader, node, "stage", &job->stage);
}

static int read_image(struct reader *reader, const struct tree *node, struct pipeline_job *job) {
    if (node->type != TREE_MAP) {
        int error = reader_scalar(reader, node, "image", &job->image);
        return !error && !*job->image ? reader_refuse(reader, node, "image", "the name of an image was expected") : error;
    }
    for (size_t i = 0; i < node->children->count; i++) {
        const struct tree_entry *entry = &node->children->items[i];
        int error;
        if (slice_is(entry->key, "name"))
            error = reader_scalar(reader, entry->value, "image.name", &job->image);
        else if (slice_is(entry->key, "entrypoint"))
            error = reader_strings(reader, entry->value, "image.entrypoint", &job->entrypoint);
        else if (slice_is(entry->key, "pull_policy") || slice_is(entry->key, "docker") || slice_is(entry->key, "kubernetes"))
            error = reader_warn(reader, entry->value, "`image:%s` has no effect here", entry->key.data);
        else
            error = reader_refuse(reader, entry->value, "image", "unknown key \"%s\" of an image: name or entrypoint was expected", entry->key.data);
        if (error)
            return error;
    }
    return job->image && *job->image ? 0 : reader_refuse(reader, node, "image", "the image has no name: {name: IMAGE} was expected");
}

static int read_variables(struct reader *reader, const struct tree *node, struct pipeline_job *job) {
    return reader_variables(reader, node, "variables", &job->variables);
}
static int read_needs(struct reader *reader, const struct tree *node, struct pipeline_job *job) {
    job->has_needs = true;
    return reader_needs(reader, node, "needs", &job->needs);
}
static int read_dependencies(struct reader *reader, const struct tree *node, struct pipeline_job *job) {
    job->has_dependencies = true;
    return reader_strings(reader, node, "dependencies", &job->dependencies);
}
static int read_rules(struct reader *reader, const struct tree *node, struct pipeline_job *job) {
    job->has_rules = true;
    return reader_rules(reader, node, "rules", &job->rules);
}
static int read_when(struct reader *reader, const struct tree *node, struct pipeline_job *job) {
    job->has_when = true;
    return reader_when(reader, node, "when", 31, &job->when);
}

static int read_allow_failure(struct reader *reader, const struct tree *node, struct pipeline_job *job) {
    job->has_allow_failure = true;
    if (node->type == TREE_MAP)
        return reader_refuse(reader, node, "allow_failure", "true or false was expected: `exit_codes` is not supported yet");
    return reader_bool(reader, node, "allow_failure", &job->allow_failure);
}

static int read_refs(struct reader *reader, const struct tree *node, const char *key, struct pipeline_strings *ret) {
    if (node->type != TREE_MAP)
        return reader_strings(reader, node, key, ret);
    const struct tree *refs = tree_find(node, "refs");
    if (tree_count(node) != 1 || !refs)
        return reader_refuse(reader, node, key, "a list of branches, or {refs: …}, was expected: use `rules` for everything else");
    return reader_strings(reader, refs, key, ret);
}
static int read_only(struct reader *reader, const struct tree *node, struct pipeline_job *job) {
    job->has_only = true;
    return read_refs(reader, node, "only", &job->only);
}
static int read_except(struct reader *reader, const struct tree *node, struct pipeline_job *job) {
    return read_refs(reader, node, "except", &job->except);
}

static int read_artifacts(struct reader *reader, const struct tree *node, struct pipeline_job *job) {
    if (node->type != TREE_MAP)
        return reader_refuse(reader, node, "artifacts", "a map like {paths: […]} was expected, found %s", tree_type_name(node));
    static const char *const silent[] = {"name", "expire_in", "expose_as", "public", "access"};
    for (size_t i = 0; i < node->children->count; i++) {
        const struct tree_entry *entry = &node->children->items[i];
        bool known = false;
        for (size_t k = 0; k < ARRAY_LEN(silent); k++)
            known |= slice_is(entry->key, silent[k]);
        int error = 0;
        if (slice_is(entry->key, "paths"))
            error = reader_strings(reader, entry->value, "artifacts.paths", &job->artifact_paths);
        else if (slice_is(entry->key, "exclude"))
            error = reader_strings(reader, entry->value, "artifacts.exclude", &job->artifact_excludes);
        else if (slice_is(entry->key, "when"))
            error = reader_when(reader, entry->value, "artifacts.when", 7, &job->artifacts_when);
        else if (slice_is(entry->key, "reports") || slice_is(entry->key, "untracked"))
            error = reader_warn(reader, entry->value, "`artifacts:%s` has no effect here", entry->key.data);
        else if (!known)
            error = reader_refuse(reader, entry->value, "artifacts", "unknown key \"%s\" of artifacts: paths, exclude or when was expected",
                                  entry->key.data);
        if (error)
            return error;
    }
    return 0;
}

/* "1h 30m", "2 hours", "90" (seconds). -EINVAL. */
static int parse_duration_s(struct slice text, int64_t *ret_s) {
    static const struct {
        const char *unit;
        int64_t seconds;
    } units[] = {{"s", 1},
                 {"sec", 1},
                 {"second", 1},
                 {"m", 60},
                 {"min", 60},
                 {"minute", 60},
                 {"h", 3600},
                 {"hr", 3600},
                 {"hour", 3600},
                 {"d", SECONDS_PER_DAY},
                 {"day", SECONDS_PER_DAY}};
    int64_t total = 0;
    text = slice_trim(text);
    if (text.len == 0)
        return -EINVAL;
    while (text.len > 0) {
        size_t digits = 0, letters = 0;
        while (digits < text.len && isdigit((unsigned char)text.data[digits]))
            digits++;
        uint64_t number = 0;
        if (slice_parse_u64(slice_head(text, digits), PIPELINE_JOB_TIMEOUT_S_MAX, &number))
            return -EINVAL;
        text = slice_trim(slice_from(text, digits));
        while (letters < text.len && isalpha((unsigned char)text.data[letters]))
            letters++;
        struct slice unit = slice_head(text, letters);
        if (unit.len > 1 && unit.data[unit.len - 1] == 's')
            unit.len--;
        int64_t seconds = unit.len == 0 ? 1 : 0;
        for (size_t i = 0; i < ARRAY_LEN(units); i++)
            if (slice_is(unit, units[i].unit))
                seconds = units[i].seconds;
        if (!seconds)
            return -EINVAL;
        total += (int64_t)number * seconds;
        text = slice_trim(slice_from(text, letters));
    }
    *ret_s = total;
    return 0;
}

static int read_timeout(struct reader *reader, const struct tree *node, struct pipeline_job *job) {
    const char *text = NULL;
    int error = reader_scalar(reader, node, "timeout", &text);
    if (error)
        return error;
    if (parse_duration_s(slice_of(text), &job->timeout_s) || job->timeout_s <= 0 || job->timeout_s > PIPELINE_JOB_TIMEOUT_S_MAX)
        return reader_refuse(reader, node, "timeout", "a duration like \"1h 30m\" of at most 24 hours was expected, found \"%s\"", text);
    return 0;
}

enum keyword_kind { READ, NO_EFFECT, UNSUPPORTED };
static const struct keyword {
    const char *name;
    enum keyword_kind kind;
    bool in_default;
    read_fn *read;
} keywords[] = {
    {"stage", READ, false, read_stage},
    {"image", READ, true, read_image},
    {"variables", READ, false, read_variables},
    {"before_script", READ, true, read_before_script},
    {"script", READ, false, read_script},
    {"after_script", READ, true, read_after_script},
    {"needs", READ, false, read_needs},
    {"dependencies", READ, false, read_dependencies},
    {"rules", READ, false, read_rules},
    {"only", READ, false, read_only},
    {"except", READ, false, read_except},
    {"when", READ, false, read_when},
    {"allow_failure", READ, false, read_allow_failure},
    {"artifacts", READ, true, read_artifacts},
    {"timeout", READ, true, read_timeout},
    {"extends", READ, false, NULL}, /* merged before */
    {"cache", NO_EFFECT, true, NULL},
    {"tags", NO_EFFECT, true, NULL},
    {"interruptible", NO_EFFECT, true, NULL},
    {"environment", NO_EFFECT, false, NULL},
    {"coverage", NO_EFFECT, false, NULL},
    {"resource_group", NO_EFFECT, false, NULL},
    {"retry", NO_EFFECT, true, NULL},
    {"services", UNSUPPORTED, true, NULL},
    {"trigger", UNSUPPORTED, false, NULL},
    {"parallel", UNSUPPORTED, false, NULL},
    {"run", UNSUPPORTED, false, NULL},
    {"inherit", UNSUPPORTED, false, NULL},
    {"hooks", UNSUPPORTED, true, NULL},
    {"secrets", UNSUPPORTED, false, NULL},
    {"id_tokens", UNSUPPORTED, true, NULL},
    {"identity", UNSUPPORTED, true, NULL},
    {"release", UNSUPPORTED, false, NULL},
    {"pages", UNSUPPORTED, false, NULL},
    {"start_in", UNSUPPORTED, false, NULL},
    {"manual_confirmation", UNSUPPORTED, false, NULL},
    {"inputs", UNSUPPORTED, false, NULL},
};

bool reader_is_default_keyword(struct slice key) {
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++)
        if (keywords[i].in_default && slice_is(key, keywords[i].name))
            return true;
    return false;
}

static int unknown_keyword(struct reader *reader, const struct tree_entry *entry) {
    const char *names[ARRAY_LEN(keywords)];
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++)
        names[i] = keywords[i].name;
    const char *near = reader_nearest(entry->key, names, ARRAY_LEN(keywords));
    const struct tree at = {.line = entry->line ? entry->line : entry->value->line, .column = entry->line ? entry->column : entry->value->column};
    reader_refuse(reader, &at, entry->key.data, "unknown keyword \"%s\": a keyword of a job (script, image, stage, needs, rules, …) was expected",
                  entry->key.data);
    return near ? diag_hint(reader->diag, -EINVAL, "did you mean \"%s\"?", near) : -EINVAL;
}

static int read_keyword(struct reader *reader, const struct tree_entry *entry, struct pipeline_job *job) {
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
        const struct keyword *keyword = &keywords[i];
        if (!slice_is(entry->key, keyword->name))
            continue;
        if (keyword->kind == NO_EFFECT)
            return reader_warn(reader, entry->value, "`%s` has no effect here", keyword->name) ? reader_no_memory(reader) : 0;
        if (keyword->kind == UNSUPPORTED) {
            reader_refuse(reader, entry->value, keyword->name, "`%s` is not supported yet", keyword->name);
            return diag_hint(reader->diag, -EINVAL, "remove it: a job cannot run as it is meant without it");
        }
        return keyword->read ? keyword->read(reader, entry->value, job) : 0;
    }
    return unknown_keyword(reader, entry);
}

int reader_job(struct reader *reader, const struct tree *node, struct pipeline_job *job) {
    job->stage = "test";
    job->timeout_s = PIPELINE_JOB_TIMEOUT_S;
    for (size_t i = 0; i < node->children->count; i++) {
        int error = read_keyword(reader, &node->children->items[i], job);
        if (error)
            return error;
    }
    const struct tree at = {.line = job->line, .column = job->column};
    if (job->script.count == 0) {
        reader_refuse(reader, &at, NULL, "the job has no script");
        return diag_hint(reader->diag, -EINVAL, "add `script:` with its commands, or put a dot before the name to make it a template");
    }
    if (job->has_rules && (job->has_only || job->except.count))
        return reader_refuse(reader, &at, "rules", "rules and only/except cannot be used in the same job");
    return 0;
}

/* A pipeline file: document → templates merged → jobs read → checked as a whole.
 *
 * Order, as GitLab compiles it: YAML (anchors and merge keys are the YAML reader's), `extends`, `!reference`, `default:`, keywords, then what
 * concerns several jobs: stages, needs, cycles. The merging works on trees, so that each node keeps the line it was written on and messages stay
 * exact.
 *
 * Merging (extends): maps merge key by key, anything else replaces; lists never join; null removes what was inherited. */
#include "forge/expression.h"
#include "forge/pipeline_priv.h"

#include <stdio.h>

#define REFERENCE_DEPTH_MAX 10
#define STAGE_FIRST ".pre"
#define STAGE_LAST ".post"

static const char *const global_keywords[] = {"stages",       "default", "variables", "workflow", "image", "before_script",
                                              "after_script", "include", "services",  "cache",    "spec",  "pages"};

static bool is_global(struct slice key) {
    for (size_t i = 0; i < ARRAY_LEN(global_keywords); i++)
        if (slice_is(key, global_keywords[i]))
            return true;
    return false;
}

/* --- extends --- */

/* tree_set keeps no position of the key; unknown keywords want it. */
static int set_entry(struct reader *reader, struct tree *map, const struct tree_entry *entry, struct tree *value) {
    if (tree_set(reader->arena, map, entry->key, value))
        return reader_no_memory(reader);
    struct tree_entry *set = tree_find_entry(map, entry->key);
    set->line = entry->line;
    set->column = entry->column;
    return 0;
}

static int merge(struct reader *reader, const struct tree *base, const struct tree *over, struct tree **ret) {
    struct tree *map = tree_map(reader->arena);
    if (!map)
        return reader_no_memory(reader);
    map->line = over->line;
    map->column = over->column;
    int error = 0;
    for (size_t i = 0; !error && i < base->children->count; i++)
        error = set_entry(reader, map, &base->children->items[i], base->children->items[i].value);
    for (size_t i = 0; !error && i < over->children->count; i++) {
        const struct tree_entry *entry = &over->children->items[i];
        struct tree_entry *inherited = tree_find_entry(map, entry->key);
        struct tree *value = entry->value;
        if (value->type == TREE_NULL && inherited) {
            tree_unset(map, entry->key);
            continue;
        }
        if (inherited && inherited->value->type == TREE_MAP && value->type == TREE_MAP)
            error = merge(reader, inherited->value, entry->value, &value);
        if (!error)
            error = set_entry(reader, map, entry, value);
    }
    *ret = map;
    return error;
}

static int refuse_parent(struct reader *reader, const struct tree *root, const struct tree *at, const char *parent) {
    const char *names[PIPELINE_JOBS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < root->children->count && count < ARRAY_LEN(names); i++)
        if (!is_global(root->children->items[i].key))
            names[count++] = root->children->items[i].key.data;
    const char *near = reader_nearest(slice_of(parent), names, count);
    reader_refuse(reader, at, "extends", "there is no job or template \"%s\"", parent);
    return near ? diag_hint(reader->diag, -EINVAL, "did you mean \"%s\"?", near) : -EINVAL;
}

/* The job with all its parents merged in. */
static int extend(struct reader *reader, const struct tree *root, const struct tree *node, int depth, struct tree **ret) {
    const struct tree *extends = tree_find(node, "extends");
    struct pipeline_strings parents = {0};
    *ret = tree_copy(reader->arena, node);
    if (!*ret)
        return reader_no_memory(reader);
    if (!extends)
        return 0;
    int error = reader_strings(reader, extends, "extends", &parents);
    if (error)
        return error;
    if (depth >= PIPELINE_EXTENDS_DEPTH_MAX) {
        reader_refuse(reader, extends, "extends", "templates extend each other more than %d deep", PIPELINE_EXTENDS_DEPTH_MAX);
        return diag_hint(reader->diag, -EINVAL, "is there a circle? %s extends %s", reader->job, parents.count ? parents.items[0] : "nothing");
    }
    struct tree *base = NULL;
    for (size_t i = 0; i < parents.count; i++) {
        const struct tree *parent = tree_find(root, parents.items[i]);
        struct tree *extended = NULL;
        if (!parent || is_global(slice_of(parents.items[i])))
            return refuse_parent(reader, root, extends, parents.items[i]);
        if (parent->type != TREE_MAP)
            return reader_refuse(reader, parent, NULL, "\"%s\" is no template: a map was expected, found %s", parents.items[i],
                                 tree_type_name(parent));
        if ((error = extend(reader, root, parent, depth + 1, &extended)))
            return error;
        tree_unset(extended, SLICE("extends"));
        error = base ? merge(reader, base, extended, &base) : 0;
        if (error)
            return error;
        base = base ? base : extended;
    }
    return base ? merge(reader, base, *ret, ret) : 0;
}

/* --- !reference [job, key, …] --- */

static int resolve_references(struct reader *reader, const struct tree *root, struct tree *node, int depth);

static int resolve_reference(struct reader *reader, const struct tree *root, const struct tree *node, int depth, struct tree **ret) {
    const struct tree *at = root;
    const struct tree *path = node->children->items[0].value;
    if (depth >= REFERENCE_DEPTH_MAX)
        return reader_refuse(reader, path, "!reference", "references are nested more than %d deep", REFERENCE_DEPTH_MAX);
    if (path->type != TREE_LIST || tree_count(path) < 2)
        return reader_refuse(reader, path, "!reference", "a list like [.template, script] was expected");
    for (size_t i = 0; i < path->children->count; i++) {
        const char *key = tree_text_or(path->children->items[i].value, "");
        at = tree_find(at, key);
        if (!at)
            return reader_refuse(reader, path, "!reference", "there is no \"%s\"", key);
    }
    *ret = tree_copy(reader->arena, at);
    return *ret ? resolve_references(reader, root, *ret, depth + 1) : reader_no_memory(reader);
}

static int resolve_references(struct reader *reader, const struct tree *root, struct tree *node, int depth) {
    if (node->type != TREE_LIST && node->type != TREE_MAP)
        return 0;
    int error = 0;
    for (size_t i = 0; !error && i < node->children->count; i++) {
        struct tree_entry *entry = &node->children->items[i];
        const struct tree *value = entry->value;
        if (value->type == TREE_MAP && tree_count(value) == 1 && slice_is(value->children->items[0].key, "!reference"))
            error = resolve_reference(reader, root, value, depth, &entry->value);
        else
            error = resolve_references(reader, root, entry->value, depth);
    }
    return error;
}

/* --- globals --- */

static int read_stages(struct reader *reader, const struct tree *root) {
    const char *usual[] = {"build", "test", "deploy"};
    struct pipeline_strings *stages = &reader->pipeline->stages, named = {.items = usual, .count = ARRAY_LEN(usual)};
    const struct tree *node = tree_find(root, "stages");
    int error = node ? reader_strings(reader, node, "stages", &named) : 0;
    if (error)
        return error;
    if (node && named.count == 0)
        return reader_refuse(reader, node, "stages", "a list of stages was expected");
    if (named.count > PIPELINE_STAGES_MAX)
        return reader_refuse(reader, node, "stages", "more than %d stages", PIPELINE_STAGES_MAX);
    error = pipeline_strings_push(reader->arena, stages, STAGE_FIRST);
    for (size_t i = 0; !error && i < named.count; i++) {
        bool known = strcmp(named.items[i], STAGE_LAST) == 0;
        for (size_t k = 0; k < stages->count; k++)
            known |= strcmp(stages->items[k], named.items[i]) == 0;
        if (!known)
            error = pipeline_strings_push(reader->arena, stages, named.items[i]);
    }
    if (!error)
        error = pipeline_strings_push(reader->arena, stages, STAGE_LAST);
    return error ? reader_no_memory(reader) : 0;
}

static int read_workflow(struct reader *reader, const struct tree *node) {
    if (node->type != TREE_MAP)
        return reader_refuse(reader, node, "workflow", "a map like {rules: […]} was expected, found %s", tree_type_name(node));
    for (size_t i = 0; i < node->children->count; i++) {
        const struct tree_entry *entry = &node->children->items[i];
        int error = 0;
        if (slice_is(entry->key, "rules")) {
            reader->pipeline->has_workflow_rules = true;
            error = reader_rules(reader, entry->value, "workflow.rules", &reader->pipeline->workflow_rules);
        } else if (slice_is(entry->key, "name") || slice_is(entry->key, "auto_cancel")) {
            error = reader_warn(reader, entry->value, "`workflow:%s` has no effect here", entry->key.data);
        } else {
            error = reader_refuse(reader, entry->value, "workflow", "unknown key \"%s\": rules was expected", entry->key.data);
        }
        if (error)
            return error;
    }
    return 0;
}

/* `default:` and its older form at the top level, as one map. */
static int read_default(struct reader *reader, const struct tree *root, struct tree **ret) {
    struct tree *defaults = tree_map(reader->arena);
    const struct tree *node = tree_find(root, "default");
    if (!defaults)
        return reader_no_memory(reader);
    if (node && node->type != TREE_MAP && node->type != TREE_NULL)
        return reader_refuse(reader, node, "default", "a map was expected, found %s", tree_type_name(node));
    for (size_t i = 0; i < root->children->count; i++) {
        const struct tree_entry *entry = &root->children->items[i];
        if (is_global(entry->key) && reader_is_default_keyword(entry->key) && set_entry(reader, defaults, entry, entry->value))
            return -ENOMEM;
    }
    for (size_t i = 0; i < tree_count(node); i++) {
        const struct tree_entry *entry = &node->children->items[i];
        if (!reader_is_default_keyword(entry->key))
            return reader_refuse(reader, entry->value, "default",
                                 "\"%s\" cannot be a default: image, before_script, after_script, artifacts or timeout was expected",
                                 entry->key.data);
        if (set_entry(reader, defaults, entry, entry->value))
            return -ENOMEM;
    }
    *ret = defaults;
    return resolve_references(reader, root, defaults, 0);
}

static int read_globals(struct reader *reader, const struct tree *root, struct tree **ret_defaults) {
    const struct tree *node = tree_find(root, "variables");
    const struct tree *include = tree_find(root, "include");
    int error = read_stages(reader, root);
    if (!error && include) {
        reader_refuse(reader, include, "include", "`include` is not supported yet");
        return diag_hint(reader->diag, -EINVAL, "copy the included jobs into " PIPELINE_FILE);
    }
    if (!error && node)
        error = reader_variables(reader, node, "variables", &reader->pipeline->variables);
    if (!error && (node = tree_find(root, "workflow")))
        error = read_workflow(reader, node);
    return error ? error : read_default(reader, root, ret_defaults);
}

/* --- jobs --- */

static int read_job(struct reader *reader, const struct tree *root, const struct tree *defaults, const struct tree_entry *entry) {
    struct pipeline *pipeline = reader->pipeline;
    struct tree *node = NULL;
    const struct tree at = {.line = entry->line ? entry->line : entry->value->line, .column = entry->line ? entry->column : entry->value->column};
    reader->job = entry->key.data;
    if (entry->key.len == 0 || entry->key.len > PIPELINE_NAME_BYTES_MAX || slice_index(entry->key, '\0') >= 0)
        return reader_refuse(reader, &at, NULL, "the name of a job has between 1 and %d characters", PIPELINE_NAME_BYTES_MAX);
    if (entry->value->type != TREE_MAP) {
        reader_refuse(reader, &at, NULL, "a job (a map with `script`) was expected, found %s", tree_type_name(entry->value));
        const char *near = reader_nearest(entry->key, global_keywords, ARRAY_LEN(global_keywords));
        return near ? diag_hint(reader->diag, -EINVAL, "did you mean \"%s\"?", near) : -EINVAL;
    }
    int error = extend(reader, root, entry->value, 0, &node);
    if (!error)
        error = resolve_references(reader, root, node, 0);
    for (size_t i = 0; !error && i < defaults->children->count; i++) {
        const struct tree_entry *inherited = &defaults->children->items[i];
        if (!tree_find_entry(node, inherited->key))
            error = set_entry(reader, node, inherited, inherited->value);
    }
    if (error)
        return error;
    struct pipeline_job *job = &pipeline->jobs[pipeline->jobs_count];
    *job = (struct pipeline_job){.name = entry->key.data, .line = at.line, .column = at.column};
    error = reader_job(reader, node, job);
    pipeline->jobs_count += !error;
    return error;
}

static int read_jobs(struct reader *reader, const struct tree *root, const struct tree *defaults) {
    struct pipeline *pipeline = reader->pipeline;
    size_t count = 0;
    for (size_t i = 0; i < root->children->count; i++)
        count += !is_global(root->children->items[i].key) && !slice_starts(root->children->items[i].key, SLICE("."));
    if (count > PIPELINE_JOBS_MAX)
        return reader_refuse(reader, root, NULL, "more than %d jobs", PIPELINE_JOBS_MAX);
    if (count == 0) {
        reader_refuse(reader, root, NULL, "the pipeline has no job");
        return diag_hint(reader->diag, -EINVAL, "a job is a name with a script beneath it: {test: {script: [make test]}}");
    }
    pipeline->jobs = ARENA_ARRAY(reader->arena, struct pipeline_job, count);
    if (!pipeline->jobs)
        return reader_no_memory(reader);
    for (size_t i = 0; i < root->children->count; i++) {
        const struct tree_entry *entry = &root->children->items[i];
        if (is_global(entry->key) || slice_starts(entry->key, SLICE(".")))
            continue;
        int error = read_job(reader, root, defaults, entry);
        if (error)
            return error;
    }
    reader->job = NULL;
    return 0;
}

/* --- what concerns several jobs --- */

static struct pipeline_job *find_job(const struct pipeline *pipeline, const char *name) {
    for (size_t i = 0; i < pipeline->jobs_count; i++)
        if (strcmp(pipeline->jobs[i].name, name) == 0)
            return &pipeline->jobs[i];
    return NULL;
}

static int check_stage(struct reader *reader, struct pipeline_job *job) {
    const struct pipeline_strings *stages = &reader->pipeline->stages;
    for (size_t i = 0; i < stages->count; i++) {
        if (strcmp(stages->items[i], job->stage) == 0) {
            job->stage_index = i;
            return 0;
        }
    }
    CLEANUP(buffer_deinit) struct buffer names = BUFFER_INIT(DIAG_TEXT_MAX);
    for (size_t i = 0; i < stages->count; i++)
        buffer_printf(&names, "%s%s", i ? ", " : "", stages->items[i]);
    const struct tree at = {.line = job->line, .column = job->column};
    reader_refuse(reader, &at, "stage", "unknown stage \"%s\": one of %s was expected", job->stage, names.data ? names.data : "the stages");
    const char *near = reader_nearest(slice_of(job->stage), stages->items, stages->count);
    return near ? diag_hint(reader->diag, -EINVAL, "did you mean \"%s\"?", near)
                : diag_hint(reader->diag, -EINVAL, "add it to `stages:`, or give the job one of those");
}

static int check_need(struct reader *reader, const struct pipeline_job *job, const struct pipeline_need *need) {
    struct pipeline *pipeline = reader->pipeline;
    const struct pipeline_job *needed = find_job(pipeline, need->job);
    const struct tree at = {.line = need->line, .column = need->column};
    if (!needed && need->optional)
        return 0;
    if (!needed) {
        const char *names[PIPELINE_JOBS_MAX];
        for (size_t i = 0; i < pipeline->jobs_count; i++)
            names[i] = pipeline->jobs[i].name;
        const char *near = reader_nearest(slice_of(need->job), names, pipeline->jobs_count);
        reader_refuse(reader, &at, "needs", "there is no job \"%s\"", need->job);
        return near ? diag_hint(reader->diag, -EINVAL, "did you mean \"%s\"?", near) : diag_hint(reader->diag, -EINVAL, "name a job of this file");
    }
    if (needed == job)
        return reader_refuse(reader, &at, "needs", "the job needs itself");
    if (needed->stage_index > job->stage_index)
        return reader_refuse(reader, &at, "needs", "\"%s\" belongs to the later stage \"%s\": a job of stage \"%s\" or before was expected",
                             need->job, needed->stage, job->stage);
    return 0;
}

/* Depth first; marks: 0 new, 1 on the way, 2 done. Recursion is bounded by PIPELINE_JOBS_MAX. */
static int check_cycle(struct reader *reader, size_t index, unsigned char *marks) {
    struct pipeline *pipeline = reader->pipeline;
    const struct pipeline_job *job = &pipeline->jobs[index];
    marks[index] = 1;
    for (size_t i = 0; i < job->needs.count; i++) {
        const struct pipeline_need *need = &job->needs.items[i];
        const struct pipeline_job *needed = find_job(pipeline, need->job);
        size_t at = needed ? (size_t)(needed - pipeline->jobs) : 0;
        if (!needed || marks[at] == 2)
            continue;
        if (marks[at] == 1) {
            const struct tree position = {.line = need->line, .column = need->column};
            reader->job = job->name;
            reader_refuse(reader, &position, "needs", "the needs form a circle: \"%s\" needs \"%s\", which needs \"%s\"", job->name, needed->name,
                          job->name);
            return diag_hint(reader->diag, -EINVAL, "none of them could ever start: remove one of the needs");
        }
        int error = check_cycle(reader, at, marks);
        if (error)
            return error;
    }
    marks[index] = 2;
    return 0;
}

static int check_jobs(struct reader *reader) {
    struct pipeline *pipeline = reader->pipeline;
    unsigned char marks[PIPELINE_JOBS_MAX] = {0};
    int error = 0;
    for (size_t i = 0; !error && i < pipeline->jobs_count; i++) {
        reader->job = pipeline->jobs[i].name;
        error = check_stage(reader, &pipeline->jobs[i]);
    }
    for (size_t i = 0; !error && i < pipeline->jobs_count; i++) {
        const struct pipeline_job *job = &pipeline->jobs[i];
        reader->job = job->name;
        for (size_t k = 0; !error && k < job->needs.count; k++)
            error = check_need(reader, job, &job->needs.items[k]);
        for (size_t r = 0; !error && r < job->rules.count; r++)
            for (size_t k = 0; !error && k < job->rules.items[r].needs.count; k++)
                error = check_need(reader, job, &job->rules.items[r].needs.items[k]);
    }
    for (size_t i = 0; !error && i < pipeline->jobs_count; i++)
        error = marks[i] ? 0 : check_cycle(reader, i, marks);
    return error;
}

int pipeline_parse(struct arena *arena, const char *file, struct slice text, struct pipeline **ret, struct diag *diag) {
    struct reader reader = {.arena = arena, .file = file, .pipeline = ARENA_NEW(arena, struct pipeline), .diag = diag};
    struct tree *root = NULL, *defaults = NULL;
    diag_at(diag, file, 0, 0);
    if (!reader.pipeline || !(reader.pipeline->file = arena_strdup(arena, file)))
        return reader_no_memory(&reader);
    if (text.len > PIPELINE_FILE_BYTES_MAX)
        return reader_refuse(&reader, NULL, NULL, "the file has %zu bytes, more than the %zu allowed", text.len, PIPELINE_FILE_BYTES_MAX);
    int error = yaml_parse_one(arena, text, &root, diag);
    diag_at(diag, file, -1, -1);
    if (error)
        return error;
    if (root->type != TREE_MAP)
        return reader_refuse(&reader, root, NULL, "a map of jobs was expected, found %s",
                             root->type == TREE_NULL ? "an empty file" : tree_type_name(root));
    error = read_globals(&reader, root, &defaults);
    if (!error)
        error = read_jobs(&reader, root, defaults);
    if (!error)
        error = check_jobs(&reader);
    if (!error)
        *ret = reader.pipeline;
    return error;
}

/* Other branches are built, only the default one is deployed. */
int pipeline_default(struct arena *arena, struct pipeline **ret) {
    static const struct pipeline_job jobs[] = {
        {.name = "build", .stage = "build", .stage_index = 0, .builtin = PIPELINE_BUILTIN_BUILD, .timeout_s = PIPELINE_JOB_TIMEOUT_S},
        {.name = "deploy",
         .stage = "deploy",
         .stage_index = 1,
         .builtin = PIPELINE_BUILTIN_DEPLOY,
         .has_rules = true,
         .timeout_s = PIPELINE_JOB_TIMEOUT_S},
    };
    struct pipeline *pipeline = ARENA_NEW(arena, struct pipeline);
    struct pipeline_rule *rule = ARENA_NEW(arena, struct pipeline_rule);
    if (!rule || !pipeline || !(pipeline->jobs = ARENA_ARRAY(arena, struct pipeline_job, ARRAY_LEN(jobs))))
        return -ENOMEM;
    int error = expression_parse(arena, SLICE("$CI_COMMIT_BRANCH && $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"), &rule->condition, NULL);
    pipeline->file = "(default pipeline)";
    if (error || pipeline_strings_push(arena, &pipeline->stages, "build") || pipeline_strings_push(arena, &pipeline->stages, "deploy"))
        return -ENOMEM;
    memcpy(pipeline->jobs, jobs, sizeof jobs);
    pipeline->jobs[1].rules = (struct pipeline_rules){.items = rule, .count = 1};
    pipeline->jobs_count = ARRAY_LEN(jobs);
    *ret = pipeline;
    return 0;
}

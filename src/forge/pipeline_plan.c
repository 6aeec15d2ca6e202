/* Which jobs run for this push: rules and only/except decide in or out and set when, allow_failure, variables and needs; then needs become indices.
 *
 * Facts of GitLab that are easy to get wrong
 * 1. The first rule that matches wins; none matches: the job is out.
 * 2. `when: manual` of a rule makes the pipeline wait (allow_failure false); of a job without rules it does not.
 * 3. A job without `needs` waits for all earlier stages and gets their artifacts; with `needs`, even an empty list, for those alone.
 * 4. A need that was left out by its rules is an error unless it is optional. */
#include "forge/expression.h"
#include "forge/pipeline_priv.h"

struct planner {
    struct arena *arena;
    const struct pipeline *pipeline;
    const struct pipeline_variables *predefined;
    struct plan *plan;
    struct diag *diag;
};

/* What a matching rule says; NULL members: the job's own. */
struct verdict {
    bool included;
    const struct pipeline_rule *rule;
};

static int refuse(struct planner *planner, const struct pipeline_job *job, uint32_t line, uint32_t column, const char *path) {
    if (planner->diag) {
        diag_at(planner->diag, planner->pipeline->file, (int)(line ? line : job->line), (int)(line ? column : job->column));
        const char *text = arena_printf(planner->arena, "%s.%s", job->name, path);
        size_t len = MIN(text ? strlen(text) : 0, sizeof planner->diag->path - 1);
        memcpy(planner->diag->path, text ? text : "", len);
        planner->diag->path[len] = '\0';
    }
    return -EINVAL;
}

static int no_memory(struct planner *planner) {
    return diag_set(planner->diag, -ENOMEM, "the pipeline is too large");
}

static const char *lookup(void *userdata, const char *name) {
    return pipeline_variables_find(userdata, name);
}

/* --- in or out --- */

static int first_matching(struct planner *planner, const struct pipeline_rules *rules, struct pipeline_variables *variables, struct verdict *ret) {
    *ret = (struct verdict){.included = false};
    for (size_t i = 0; i < rules->count; i++) {
        const struct pipeline_rule *rule = &rules->items[i];
        bool matches = true;
        int error = rule->condition ? expression_evaluate(rule->condition, lookup, variables, &matches, planner->diag) : 0;
        if (error)
            return error;
        if (matches) {
            *ret = (struct verdict){.included = true, .rule = rule};
            return 0;
        }
    }
    return 0;
}

static int ref_matches(struct planner *planner, const char *ref, struct pipeline_variables *variables, bool *ret) {
    static const struct {
        const char *keyword, *variable, *value; /* value NULL: the variable is set */
    } keywords[] = {
        {"branches", "CI_COMMIT_BRANCH", NULL},        {"tags", "CI_COMMIT_TAG", NULL},
        {"pushes", "CI_PIPELINE_SOURCE", "push"},      {"schedules", "CI_PIPELINE_SOURCE", "schedule"},
        {"web", "CI_PIPELINE_SOURCE", "web"},          {"api", "CI_PIPELINE_SOURCE", "api"},
        {"triggers", "CI_PIPELINE_SOURCE", "trigger"}, {"merge_requests", "CI_PIPELINE_SOURCE", "merge_request_event"},
    };
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
        if (strcmp(ref, keywords[i].keyword) != 0)
            continue;
        const char *value = pipeline_variables_find(variables, keywords[i].variable);
        *ret = value && (!keywords[i].value || strcmp(value, keywords[i].value) == 0);
        return 0;
    }
    const char *name = pipeline_variables_find(variables, "CI_COMMIT_REF_NAME");
    *ret = name && strcmp(name, ref) == 0;
    if (ref[0] != '/')
        return 0;
    struct expression *expression = NULL;
    const char *text = arena_printf(planner->arena, "$CI_COMMIT_REF_NAME =~ %s", ref);
    int error = text ? expression_parse(planner->arena, slice_of(text), &expression, planner->diag) : no_memory(planner);
    return error ? error : expression_evaluate(expression, lookup, variables, ret, planner->diag);
}

static int any_ref_matches(struct planner *planner, const struct pipeline_strings *refs, struct pipeline_variables *variables, bool *ret) {
    int error = 0;
    *ret = false;
    for (size_t i = 0; !error && !*ret && i < refs->count; i++)
        error = ref_matches(planner, refs->items[i], variables, ret);
    return error;
}

static int judge(struct planner *planner, const struct pipeline_job *job, struct pipeline_variables *variables, struct verdict *ret) {
    if (job->has_rules)
        return first_matching(planner, &job->rules, variables, ret);
    bool only = true, except = false;
    int error = job->has_only ? any_ref_matches(planner, &job->only, variables, &only) : 0;
    if (!error)
        error = any_ref_matches(planner, &job->except, variables, &except);
    *ret = (struct verdict){.included = only && !except};
    return error;
}

static int add_job(struct planner *planner, const struct pipeline_job *job, const struct pipeline_variables *workflow) {
    struct plan_job plan_job = {.job = job};
    struct pipeline_variables *variables = &plan_job.variables;
    struct verdict verdict;
    int error = pipeline_variables_merge(planner->arena, variables, planner->predefined);
    if (!error)
        error = pipeline_variables_set(planner->arena, variables, "CI_JOB_NAME", job->name, true);
    if (!error)
        error = pipeline_variables_set(planner->arena, variables, "CI_JOB_STAGE", job->stage, true);
    if (!error)
        error = pipeline_variables_merge(planner->arena, variables, &planner->pipeline->variables);
    if (!error)
        error = pipeline_variables_merge(planner->arena, variables, workflow);
    if (!error)
        error = pipeline_variables_merge(planner->arena, variables, &job->variables);
    if (error)
        return no_memory(planner);
    if ((error = judge(planner, job, variables, &verdict)))
        return refuse(planner, job, 0, 0, job->has_rules ? "rules" : "only");
    const struct pipeline_rule *rule = verdict.rule;
    plan_job.when = rule && rule->has_when ? rule->when : job->when;
    if (!verdict.included || plan_job.when == PIPELINE_NEVER)
        return 0;
    plan_job.allow_failure = plan_job.when == PIPELINE_MANUAL && !job->has_rules;
    if (rule && rule->has_allow_failure)
        plan_job.allow_failure = rule->allow_failure;
    else if (job->has_allow_failure)
        plan_job.allow_failure = job->allow_failure;
    if (rule && pipeline_variables_merge(planner->arena, variables, &rule->variables))
        return no_memory(planner);
    plan_job.dag = job->has_needs || (rule && rule->has_needs);
    plan_job.declared_needs = rule && rule->has_needs ? &rule->needs : &job->needs;
    planner->plan->jobs[planner->plan->jobs_count++] = plan_job;
    return 0;
}

/* --- stages, needs, artifacts --- */

static int collect_stages(struct planner *planner) {
    const struct pipeline_strings *all = &planner->pipeline->stages;
    struct plan *plan = planner->plan;
    struct plan_job *sorted = ARENA_ARRAY(planner->arena, struct plan_job, plan->jobs_count);
    size_t count = 0;
    if (!sorted)
        return no_memory(planner);
    for (size_t s = 0; s < all->count; s++) {
        size_t before = count;
        for (size_t i = 0; i < plan->jobs_count; i++) {
            if (plan->jobs[i].job->stage_index != s)
                continue;
            sorted[count] = plan->jobs[i];
            sorted[count++].stage = plan->stages.count;
        }
        if (count > before && pipeline_strings_push(planner->arena, &plan->stages, all->items[s]))
            return no_memory(planner);
    }
    plan->jobs = sorted;
    return 0;
}

static bool find(const struct plan *plan, const char *name, size_t *ret) {
    for (size_t i = 0; i < plan->jobs_count; i++) {
        if (strcmp(plan->jobs[i].job->name, name) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

static bool depends_on(const struct plan_job *job, const char *name) {
    for (size_t i = 0; i < job->job->dependencies.count; i++)
        if (strcmp(job->job->dependencies.items[i], name) == 0)
            return true;
    return !job->job->has_dependencies;
}

static int resolve_needs(struct planner *planner, struct plan_job *plan_job) {
    const struct pipeline_job *job = plan_job->job;
    const struct pipeline_needs *needs = plan_job->declared_needs;
    plan_job->needs = ARENA_ARRAY(planner->arena, size_t, needs->count + 1);
    plan_job->artifact_sources = ARENA_ARRAY(planner->arena, size_t, planner->plan->jobs_count + 1);
    if (!plan_job->needs || !plan_job->artifact_sources)
        return no_memory(planner);
    for (size_t i = 0; i < needs->count; i++) {
        const struct pipeline_need *need = &needs->items[i];
        size_t at;
        if (find(planner->plan, need->job, &at)) {
            plan_job->needs[plan_job->needs_count++] = at;
            if (need->artifacts && depends_on(plan_job, need->job))
                plan_job->artifact_sources[plan_job->artifact_sources_count++] = at;
        } else if (!need->optional) {
            diag_set(planner->diag, -EINVAL, "the job needs \"%s\", which its rules leave out of this pipeline", need->job);
            diag_hint(planner->diag, -EINVAL, "write {job: %s, optional: true} when it may be absent", need->job);
            return refuse(planner, job, need->line, need->column, "needs");
        }
    }
    for (size_t i = 0; !plan_job->dag && i < planner->plan->jobs_count; i++) {
        const struct plan_job *earlier = &planner->plan->jobs[i];
        if (earlier->stage < plan_job->stage && earlier->job->artifact_paths.count && depends_on(plan_job, earlier->job->name))
            plan_job->artifact_sources[plan_job->artifact_sources_count++] = i;
    }
    return 0;
}

/* Appends the job to the order behind the jobs of its own stage that it needs. The parser has refused cycles among the jobs' needs; those of rules
 * are found here. */
static int place(struct planner *planner, size_t index, unsigned char *marks, size_t *count) {
    struct plan *plan = planner->plan;
    const struct plan_job *plan_job = &plan->jobs[index];
    if (marks[index] == 2)
        return 0;
    if (marks[index] == 1) {
        diag_set(planner->diag, -EINVAL, "the needs form a circle through \"%s\"", plan_job->job->name);
        diag_hint(planner->diag, -EINVAL, "none of them could ever start: remove one of the needs");
        return refuse(planner, plan_job->job, 0, 0, "needs");
    }
    marks[index] = 1;
    for (size_t i = 0; i < plan_job->needs_count; i++) {
        int error = place(planner, plan_job->needs[i], marks, count);
        if (error)
            return error;
    }
    marks[index] = 2;
    plan->order[(*count)++] = index;
    return 0;
}

static int order(struct planner *planner) {
    unsigned char marks[PIPELINE_JOBS_MAX] = {0};
    size_t count = 0;
    int error = 0;
    planner->plan->order = ARENA_ARRAY(planner->arena, size_t, planner->plan->jobs_count);
    if (!planner->plan->order)
        return no_memory(planner);
    for (size_t i = 0; !error && i < planner->plan->jobs_count; i++)
        error = place(planner, i, marks, &count);
    return error;
}

/* Does the pipeline run at all, and with which further variables? */
static int judge_workflow(struct planner *planner, const struct pipeline_variables **ret_variables, bool *ret_runs) {
    static const struct pipeline_variables none = {0};
    struct pipeline_variables variables = {0};
    struct verdict verdict;
    *ret_variables = &none;
    *ret_runs = true;
    if (!planner->pipeline->has_workflow_rules)
        return 0;
    if (pipeline_variables_merge(planner->arena, &variables, planner->predefined) ||
        pipeline_variables_merge(planner->arena, &variables, &planner->pipeline->variables))
        return no_memory(planner);
    int error = first_matching(planner, &planner->pipeline->workflow_rules, &variables, &verdict);
    if (error)
        return error;
    *ret_runs = verdict.included && !(verdict.rule->has_when && verdict.rule->when == PIPELINE_NEVER);
    if (verdict.rule)
        *ret_variables = &verdict.rule->variables;
    return 0;
}

int pipeline_plan(struct arena *arena, const struct pipeline *pipeline, const struct pipeline_variables *predefined, struct plan **ret,
                  struct diag *diag) {
    struct planner planner = {.arena = arena, .pipeline = pipeline, .predefined = predefined, .diag = diag};
    const struct pipeline_variables *workflow = NULL;
    bool runs = false, real = false;
    struct plan *plan = planner.plan = ARENA_NEW(arena, struct plan);
    if (!plan || !(plan->jobs = ARENA_ARRAY(arena, struct plan_job, pipeline->jobs_count)))
        return no_memory(&planner);
    int error = judge_workflow(&planner, &workflow, &runs);
    for (size_t i = 0; !error && runs && i < pipeline->jobs_count; i++)
        error = add_job(&planner, &pipeline->jobs[i], workflow);
    for (size_t i = 0; i < plan->jobs_count; i++)
        real |= plan->jobs[i].job->stage[0] != '.';
    if (!real) /* nothing, or only .pre and .post: no pipeline */
        plan->jobs_count = 0;
    if (!error)
        error = collect_stages(&planner);
    for (size_t i = 0; !error && i < plan->jobs_count; i++)
        error = resolve_needs(&planner, &plan->jobs[i]);
    if (!error)
        error = order(&planner);
    if (!error)
        *ret = plan;
    return error;
}

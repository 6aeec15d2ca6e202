/* A job's policies: the first rule that matches a failed pod says what the failure means; the first rule that matches the indexes that succeeded ends
 * the job (upstream: pkg/controller/job pod_failure_policy.go, success_policy.go). */
#include "control/job_priv.h"

/* ---- failures ---- */

static bool code_matches(const struct kube_pod_failure_policy_on_exit_codes_requirement *rule, int32_t code) {
    bool listed = false;
    for (size_t i = 0; i < rule->values.count; i++)
        listed |= rule->values.items[i] == code;
    return code != 0 && listed == text_is(rule->operator, "In");
}

static const struct kube_container_status *match_codes(const struct kube_pod *pod,
                                                       const struct kube_pod_failure_policy_on_exit_codes_requirement *rule) {
    const struct kube_container_status_array *lists[] = {&pod->status.container_statuses, &pod->status.init_container_statuses};
    for (size_t k = 0; k < ARRAY_LEN(lists); k++)
        for (size_t i = 0; i < lists[k]->count; i++) {
            const struct kube_container_status *container = &lists[k]->items[i];
            if (container->state.terminated && (!rule->container_name || text_is(rule->container_name, container->name)) &&
                code_matches(rule, container->state.terminated->exit_code))
                return container;
        }
    return NULL;
}

static const struct kube_pod_condition *match_conditions(const struct kube_pod *pod,
                                                         const struct kube_pod_failure_policy_on_pod_conditions_pattern_array *patterns) {
    for (size_t i = 0; i < pod->status.conditions.count; i++)
        for (size_t k = 0; k < patterns->count; k++)
            if (same_text(pod->status.conditions.items[i].type, patterns->items[k].type) &&
                same_text(pod->status.conditions.items[i].status, patterns->items[k].status ? patterns->items[k].status : "True"))
                return &pod->status.conditions.items[i];
    return NULL;
}

static enum failure_action action_of(const char *name) {
    return text_is(name, "FailJob")     ? FAILURE_FAILS_JOB
           : text_is(name, "Ignore")    ? FAILURE_IGNORED
           : text_is(name, "FailIndex") ? FAILURE_FAILS_INDEX
                                        : FAILURE_COUNTS;
}

enum failure_action job_judge(struct job_run *run, const struct kube_object *pod, const char **ret_message) {
    const struct kube_pod_failure_policy *policy = run->job->spec.pod_failure_policy;
    const char *namespace = pod->metadata->namespace, *name = pod->metadata->name;
    for (size_t i = 0; policy && i < policy->rules.count; i++) {
        const struct kube_pod_failure_policy_rule *rule = &policy->rules.items[i];
        const struct kube_container_status *container = rule->on_exit_codes ? match_codes(pod->pod, rule->on_exit_codes) : NULL;
        const struct kube_pod_condition *condition = container ? NULL : match_conditions(pod->pod, &rule->on_pod_conditions);
        if (!container && !condition)
            continue;
        enum failure_action action = action_of(rule->action);
        if (action == FAILURE_FAILS_JOB && ret_message)
            *ret_message =
                container ? arena_printf(run->context->arena, "Container %s for pod %s/%s failed with exit code %d matching %s rule at index %zu",
                                         container->name, namespace, name, container->state.terminated->exit_code, rule->action, i)
                          : arena_printf(run->context->arena, "Pod %s/%s has condition %s matching %s rule at index %zu", namespace, name,
                                         condition->type, rule->action, i);
        return action;
    }
    return FAILURE_COUNTS;
}

/* ---- successes ---- */

struct tally {
    const struct job_run *run;
    int32_t succeeded, other;
};

static void tally_index(void *userdata, int32_t index) {
    struct tally *tally = userdata;
    if (tally->run->indexes[index] == INDEX_SUCCEEDED)
        tally->succeeded++;
    else
        tally->other++;
}

static bool is_met(const struct job_run *run, const struct kube_success_policy_rule *rule) {
    struct tally tally = {.run = run};
    if (!rule->succeeded_indexes)
        return rule->succeeded_count && run->indexes_succeeded >= *rule->succeeded_count;
    job_each_index(run, rule->succeeded_indexes, tally_index, &tally);
    return rule->succeeded_count ? tally.succeeded >= *rule->succeeded_count : tally.other == 0 && tally.succeeded > 0;
}

const char *job_success(struct job_run *run) {
    const struct kube_success_policy *policy = run->job->spec.success_policy;
    for (size_t i = 0; policy && run->indexed && i < policy->rules.count; i++)
        if (is_met(run, &policy->rules.items[i]))
            return arena_printf(run->context->arena, "Matched rules at index %zu", i);
    return NULL;
}

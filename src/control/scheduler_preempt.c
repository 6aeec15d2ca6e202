/* Making room: pods of less priority are asked to go (upstream: the plugin DefaultPreemption).
 *
 * On each node that would fit if pods went, all pods of less priority are taken away in thought; if the pod fits then, they are brought back one
 * after the other, the most important first, as long as it still fits: those whose going a disruption budget forbids before the others. What cannot
 * be brought back are the victims. Of all nodes the one is taken where the fewest budgets are broken, then where the victims matter least. They are
 * deleted with their grace, and the pod is nominated to the node: it keeps the room against pods of no more priority until it is bound. */
#include "control/scheduler_priv.h"

struct budget {
    const struct kube_object *object;
    int64_t allowed;
};
struct plan {
    struct host *host;
    struct occupant **victims; /* the most important first */
    size_t count;
    size_t violations;
};
struct preemption {
    struct snapshot *snapshot;
    struct wish *wish;
    struct objects budgets;
    struct budget *left; /* while a node is looked at */
};

/* ---- order ---- */

static int64_t started_ns(const struct kube_object *pod) {
    return pod->pod->status.start_time.set ? pod->pod->status.start_time.ns : INT64_MAX;
}

static int compare_importance(const void *left, const void *right) {
    const struct kube_object *a = (*(struct occupant *const *)left)->object, *b = (*(struct occupant *const *)right)->object;
    if (pod_priority(a) != pod_priority(b))
        return pod_priority(a) > pod_priority(b) ? -1 : 1;
    if (started_ns(a) != started_ns(b))
        return started_ns(a) < started_ns(b) ? -1 : 1;
    return strcmp(a->metadata->uid, b->metadata->uid);
}

/* Whether plan a is to be preferred. */
static bool is_better(const struct plan *a, const struct plan *b) {
    if (a->violations != b->violations)
        return a->violations < b->violations;
    int32_t highest_a = pod_priority(a->victims[0]->object), highest_b = pod_priority(b->victims[0]->object);
    if (highest_a != highest_b)
        return highest_a < highest_b;
    int64_t sum_a = 0, sum_b = 0;
    for (size_t i = 0; i < a->count; i++)
        sum_a += pod_priority(a->victims[i]->object) - (int64_t)INT32_MIN;
    for (size_t i = 0; i < b->count; i++)
        sum_b += pod_priority(b->victims[i]->object) - (int64_t)INT32_MIN;
    if (sum_a != sum_b)
        return sum_a < sum_b;
    if (a->count != b->count)
        return a->count < b->count;
    return started_ns(a->victims[0]->object) > started_ns(b->victims[0]->object);
}

/* ---- budgets ---- */

static bool covers(const struct kube_object *budget, const struct kube_object *pod) {
    const struct kube_label_selector *selector = budget->pod_disruption_budget->spec.selector;
    return same_text(budget->metadata->namespace, pod->metadata->namespace) && selector &&
           selector->match_labels.count + selector->match_expressions.count > 0 && kube_selector_matches(selector, &pod->metadata->labels);
}

static bool is_disrupted_already(const struct kube_object *budget, const struct kube_object *pod) {
    const struct kube_time_map *pods = &budget->pod_disruption_budget->status.disrupted_pods;
    for (size_t i = 0; i < pods->count; i++)
        if (same_text(pods->items[i].key, pod->metadata->name))
            return true;
    return false;
}

/* Its going is charged to the budgets that cover it. */
static bool breaks_budget(struct preemption *preemption, const struct kube_object *pod) {
    bool breaks = false;
    for (size_t i = 0; i < preemption->budgets.list.count; i++) {
        struct budget *budget = &preemption->left[i];
        if (covers(budget->object, pod) && !is_disrupted_already(budget->object, pod))
            breaks |= --budget->allowed < 0;
    }
    return breaks;
}

/* ---- one node ---- */

static enum fit try(struct preemption *preemption, const struct host *host, struct verdict *verdict) {
    affinity_prepare(preemption->snapshot, preemption->wish);
    return fits(preemption->snapshot, preemption->wish, host, verdict);
}

/* Brings back those that can stay; `broken`: of those whose going breaks a budget. */
static void bring_back(struct preemption *preemption, struct plan *plan, struct occupant **candidates, size_t count, const bool *breaks,
                       bool broken) {
    for (size_t i = 0; i < count; i++) {
        struct verdict unused = {.count = 0};
        if (breaks[i] != broken)
            continue;
        host_add(preemption->snapshot, plan->host, candidates[i]);
        if (try(preemption, plan->host, &unused) == FITS)
            continue;
        host_remove(preemption->snapshot, plan->host, candidates[i]);
        plan->victims[plan->count++] = candidates[i];
        plan->violations += broken;
    }
}

/* False, with the reason in the verdict, when it would not help. The host is afterwards as it was. */
static bool make_plan(struct preemption *preemption, struct host *host, struct plan *plan, struct verdict *verdict) {
    struct arena *arena = preemption->snapshot->context->arena;
    size_t most = host->pods.count, count = 0;
    struct occupant **candidates = ARENA_ARRAY(arena, struct occupant *, most);
    bool *breaks = ARENA_ARRAY(arena, bool, most);
    *plan = (struct plan){.host = host, .victims = ARENA_ARRAY(arena, struct occupant *, most)};
    preemption->left = ARENA_ARRAY(arena, struct budget, preemption->budgets.list.count);
    if (!candidates || !breaks || !plan->victims || !preemption->left) {
        context_fail(preemption->snapshot->context);
        return false;
    }
    for (size_t i = 0; i < most; i++)
        if (pod_priority(host->pods.items[i]->object) < pod_priority(preemption->wish->object) && !host->pods.items[i]->waits)
            candidates[count++] = host->pods.items[i];
    if (count == 0) {
        verdict_add(verdict, "No preemption victims found for incoming pod");
        return false;
    }
    qsort(candidates, count, sizeof *candidates, compare_importance);
    for (size_t i = 0; i < preemption->budgets.list.count; i++)
        preemption->left[i] =
            (struct budget){preemption->budgets.list.items[i], preemption->budgets.list.items[i]->pod_disruption_budget->status.disruptions_allowed};
    for (size_t i = 0; i < count; i++) {
        host_remove(preemption->snapshot, host, candidates[i]);
        breaks[i] = breaks_budget(preemption, candidates[i]->object);
    }
    bool helps = try(preemption, host, verdict) == FITS;
    if (helps) {
        bring_back(preemption, plan, candidates, count, breaks, true);
        bring_back(preemption, plan, candidates, count, breaks, false);
        for (size_t i = 0; i < plan->count; i++)
            host_add(preemption->snapshot, host, plan->victims[i]);
        if (plan->count)
            qsort(plan->victims, plan->count, sizeof *plan->victims, compare_importance);
    } else {
        for (size_t i = 0; i < count; i++)
            host_add(preemption->snapshot, host, candidates[i]);
    }
    return helps && plan->count > 0;
}

/* ---- all nodes ---- */

static void let_go(struct preemption *preemption, const struct plan *plan) {
    struct context *context = preemption->snapshot->context;
    for (size_t i = 0; i < plan->count; i++) {
        const struct kube_object *victim = plan->victims[i]->object;
        if (is_deleting(victim))
            continue;
        struct kube_object *copy = context_copy(context, victim);
        if (copy && pod_put_condition(context, copy, "DisruptionTarget", "True", "PreemptionByScheduler",
                                      "default-scheduler: preempting to accommodate a higher priority pod") < 0)
            context_fail(context);
        context_update_status(context, copy);
        context_delete(context, victim, NULL, -1);
        context_event(context, victim, "Normal", "Preempted", "Preempted by pod %s on node %s", preemption->wish->object->metadata->uid,
                      plan->host->object->metadata->name);
    }
}

/* Why it may not ask others to go; NULL: it may. */
static const char *why_not(const struct snapshot *snapshot, const struct wish *wish) {
    if (text_is(wish->spec->preemption_policy, "Never"))
        return "not eligible due to preemptionPolicy=Never.";
    const struct host *nominated = host_find(snapshot, wish->object->pod->status.nominated_node_name);
    for (size_t i = 0; nominated && i < nominated->pods.count; i++) {
        const struct kube_object *pod = nominated->pods.items[i]->object;
        if (is_deleting(pod) && pod_priority(pod) < pod_priority(wish->object))
            return "not eligible due to a terminating pod on the nominated node.";
    }
    return NULL;
}

struct host *preempt(struct snapshot *snapshot, struct wish *wish, const enum fit *fits_now, const char **ret_why) {
    struct context *context = snapshot->context;
    struct preemption preemption = {.snapshot = snapshot, .wish = wish};
    struct verdict verdict = {.count = 0};
    struct plan best = {.host = NULL}, plan;
    const char *why = why_not(snapshot, wish);
    *ret_why = why;
    if (why)
        return NULL;
    context_list(context, &kube_kind_pod_disruption_budget, NULL, &preemption.budgets);
    for (size_t i = 0; i < snapshot->hosts_count && !context->error; i++) {
        if (fits_now[i] == FITS_NEVER)
            verdict_add(&verdict, "Preemption is not helpful for scheduling");
        else if (make_plan(&preemption, &snapshot->hosts[i], &plan, &verdict) && (!best.host || is_better(&plan, &best)))
            best = plan;
    }
    objects_deinit(&preemption.budgets);
    affinity_prepare(snapshot, wish);
    if (best.host)
        let_go(&preemption, &best);
    else
        *ret_why = verdict_format(context, &verdict, snapshot->hosts_count);
    return best.host;
}

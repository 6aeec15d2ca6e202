/* Which of the nodes that fit (upstream: the score plugins with their default weights). Each gives a node 0 to 100; what is not a share by itself is
 * stretched over the nodes at hand. */
#include "control/scheduler_priv.h"

#define SCORE_MAX 100
#define CPU_ASSUMED_MILLI 100 /* of a pod that does not say */
#define MEMORY_ASSUMED_MILLI (INT64_C(200) * 1024 * 1024 * 1000)

static int64_t assumed(const struct occupant *occupant, size_t resource) {
    int64_t request = occupant->requests_milli[resource];
    return request ? request : resource == RESOURCE_CPU ? CPU_ASSUMED_MILLI : MEMORY_ASSUMED_MILLI;
}

/* In thousandths of what the node has. */
static int64_t share(const struct wish *wish, const struct host *host, size_t resource) {
    double used = (double)assumed(wish->occupant, resource);
    for (size_t i = 0; i < host->pods.count; i++)
        used += (double)assumed(host->pods.items[i], resource);
    double has = (double)host->allocatable_milli[resource];
    return has <= 0 || used >= has ? 1000 : (int64_t)(used * 1000 / has);
}

/* The emptier the better. */
static int64_t score_room(const struct snapshot *snapshot, const struct wish *wish, const struct host *host) {
    (void)snapshot;
    return SCORE_MAX - (share(wish, host, RESOURCE_CPU) + share(wish, host, RESOURCE_MEMORY)) / 20;
}

/* The nearer the shares of processor and memory are to each other, the better. */
static int64_t score_balance(const struct snapshot *snapshot, const struct wish *wish, const struct host *host) {
    int64_t difference = share(wish, host, RESOURCE_CPU) - share(wish, host, RESOURCE_MEMORY);
    (void)snapshot;
    return SCORE_MAX - (difference < 0 ? -difference : difference) / 20;
}

static int64_t score_taints(const struct snapshot *snapshot, const struct wish *wish, const struct host *host) {
    const struct kube_taint_array *taints = &host->object->node->spec.taints;
    int64_t score = 0;
    (void)snapshot;
    for (size_t i = 0; i < taints->count; i++)
        score -= text_is(taints->items[i].effect, "PreferNoSchedule") && !pod_tolerates(wish->spec, &taints->items[i]);
    return score;
}

static int64_t score_node_affinity(const struct snapshot *snapshot, const struct wish *wish, const struct host *host) {
    const struct kube_node_affinity *affinity = wish->spec->affinity ? wish->spec->affinity->node_affinity : NULL;
    int64_t score = 0;
    (void)snapshot;
    for (size_t i = 0; affinity && i < affinity->preferred_during_scheduling_ignored_during_execution.count; i++) {
        struct kube_preferred_scheduling_term *term = &affinity->preferred_during_scheduling_ignored_during_execution.items[i];
        const struct kube_node_selector one = {.node_selector_terms = {.items = &term->preference, .count = 1}};
        score += node_selector_matches(&one, host->object) ? term->weight : 0;
    }
    return score;
}

static const struct scorer {
    int64_t (*score)(const struct snapshot *snapshot, const struct wish *wish, const struct host *host);
    int weight;
    bool stretched;
} scorers[] = {
    {score_room, 1, false},         {score_balance, 1, false}, {score_taints, 3, true},
    {score_node_affinity, 2, true}, {affinity_score, 2, true}, {spread_score, 2, true},
};

struct host *choose(const struct snapshot *snapshot, const struct wish *wish, struct host *const *fitting, size_t count) {
    if (count == 1)
        return fitting[0];
    int64_t *totals = ARENA_ARRAY(snapshot->context->arena, int64_t, 2 * count), *scores = totals + count;
    if (!totals) {
        context_fail(snapshot->context);
        return fitting[0];
    }
    for (size_t k = 0; k < ARRAY_LEN(scorers); k++) {
        int64_t least = INT64_MAX, most = INT64_MIN;
        for (size_t i = 0; i < count; i++) {
            scores[i] = scorers[k].score(snapshot, wish, fitting[i]);
            least = MIN(least, scores[i]);
            most = MAX(most, scores[i]);
        }
        for (size_t i = 0; i < count; i++) {
            int64_t score = !scorers[k].stretched ? scores[i] : most == least ? 0 : (scores[i] - least) * SCORE_MAX / (most - least);
            totals[i] += scorers[k].weight * score;
        }
    }
    size_t best = 0;
    for (size_t i = 1; i < count; i++)
        if (totals[i] > totals[best])
            best = i;
    return fitting[best];
}

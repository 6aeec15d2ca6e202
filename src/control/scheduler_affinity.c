/* Pods near to each other, far from each other, and spread evenly (upstream: the plugins InterPodAffinity and PodTopologySpread).
 *
 * A topology key is a node label; nodes of the same value form a domain. For each term or constraint of the pod that is being placed, pods are
 * counted by domain once (affinity_prepare); asking for a node is then a look-up. Terms of pods that are there count too: their anti-affinity keeps
 * the new pod out of their domains, their preferences draw it. */
#include "control/scheduler_priv.h"

#define WEIGHT_OF_REQUIRED 1 /* upstream's hardPodAffinityWeight */

struct spread {
    const struct kube_topology_spread_constraint *constraint;
    struct domains domains; /* those that count, with the pods that match */
    int64_t least;          /* of all domains; 0 when there are fewer than minDomains */
    bool matches_self;
};
struct affinity {
    struct domains near, far, kept_out, drawn;
    bool is_first;          /* nobody is near yet, and it would do for itself */
    struct spread *spreads; /* of all its constraints */
    size_t spreads_count;
};

/* ---- domains ---- */

static struct domain *domain_find(const struct domains *domains, const char *key, const char *value) {
    for (size_t i = 0; i < domains->count; i++)
        if (strcmp(domains->items[i].value, value) == 0 && strcmp(domains->items[i].key, key) == 0)
            return &domains->items[i];
    return NULL;
}

/* The domain that the host is in by this key gets so many more; a host without the label is in none. */
static void count_at(struct snapshot *snapshot, struct domains *domains, const struct host *host, const char *key, int64_t by) {
    const char *value = host_label(host, key);
    struct domain *domain = value ? domain_find(domains, key, value) : NULL;
    if (domain)
        domain->count += by;
    if (domain || !value)
        return;
    if (domains->count == domains->capacity) {
        size_t capacity = domains->capacity ? 2 * domains->capacity : 8;
        struct domain *items = ARENA_ARRAY(snapshot->context->arena, struct domain, capacity);
        if (!items) {
            context_fail(snapshot->context);
            return;
        }
        if (domains->count)
            memcpy(items, domains->items, domains->count * sizeof *items);
        domains->items = items;
        domains->capacity = capacity;
    }
    domains->items[domains->count++] = (struct domain){key, value, by};
}

/* How many are counted where the host is. */
static int64_t counted_at(const struct domains *domains, const struct host *host, const char *key) {
    const char *value = host_label(host, key);
    const struct domain *domain = value ? domain_find(domains, key, value) : NULL;
    return domain ? domain->count : 0;
}

static bool is_in(const struct host *host, const struct domain *domain) {
    return same_text(host_label(host, domain->key), domain->value);
}

/* ---- terms ---- */

static bool keys_agree(const struct kube_string_list *keys, const struct kube_object *owner, const struct kube_object *other, bool equal) {
    for (size_t i = 0; i < keys->count; i++) {
        const char *wanted = kube_map_find(&owner->metadata->labels, keys->items[i]);
        if (wanted && same_text(wanted, kube_map_find(&other->metadata->labels, keys->items[i])) != equal)
            return false;
    }
    return true;
}

static bool is_in_namespaces(struct context *context, const struct kube_pod_affinity_term *term, const struct kube_object *owner,
                             const struct kube_object *other) {
    if (term->namespaces.count == 0 && !term->namespace_selector)
        return same_text(owner->metadata->namespace, other->metadata->namespace);
    if (kube_strings_has(&term->namespaces, other->metadata->namespace))
        return true;
    const struct kube_object *namespace =
        term->namespace_selector ? context_get(context, &kube_kind_namespace, NULL, other->metadata->namespace) : NULL;
    static const struct kube_string_map none;
    return term->namespace_selector && kube_selector_matches(term->namespace_selector, namespace ? &namespace->metadata->labels : &none);
}

/* Does the owner's term mean the other pod? */
static bool term_means(struct context *context, const struct kube_pod_affinity_term *term, const struct kube_object *owner,
                       const struct kube_object *other) {
    return kube_selector_matches(term->label_selector, &other->metadata->labels) && keys_agree(&term->match_label_keys, owner, other, true) &&
           keys_agree(&term->mismatch_label_keys, owner, other, false) && is_in_namespaces(context, term, owner, other);
}

static bool means_all(struct context *context, const struct kube_pod_affinity_term_array *terms, const struct kube_object *owner,
                      const struct kube_object *other) {
    for (size_t i = 0; i < terms->count; i++)
        if (!term_means(context, &terms->items[i], owner, other))
            return false;
    return terms->count > 0;
}

static const struct kube_pod_affinity_term_array *required_near(const struct kube_object *pod) {
    static const struct kube_pod_affinity_term_array none;
    const struct kube_affinity *affinity = pod->pod->spec.affinity;
    return affinity && affinity->pod_affinity ? &affinity->pod_affinity->required_during_scheduling_ignored_during_execution : &none;
}

static const struct kube_pod_affinity_term_array *required_far(const struct kube_object *pod) {
    static const struct kube_pod_affinity_term_array none;
    const struct kube_affinity *affinity = pod->pod->spec.affinity;
    return affinity && affinity->pod_anti_affinity ? &affinity->pod_anti_affinity->required_during_scheduling_ignored_during_execution : &none;
}

/* Adds what the owner's preferences say about the other pod to the domain of the host. */
static void draw(struct snapshot *snapshot, struct domains *drawn, const struct kube_object *owner, const struct kube_object *other,
                 const struct host *host) {
    const struct kube_affinity *affinity = owner->pod->spec.affinity;
    const struct kube_weighted_pod_affinity_term_array *lists[] = {
        affinity && affinity->pod_affinity ? &affinity->pod_affinity->preferred_during_scheduling_ignored_during_execution : NULL,
        affinity && affinity->pod_anti_affinity ? &affinity->pod_anti_affinity->preferred_during_scheduling_ignored_during_execution : NULL};
    for (size_t k = 0; k < ARRAY_LEN(lists); k++)
        for (size_t i = 0; lists[k] && i < lists[k]->count; i++)
            if (term_means(snapshot->context, &lists[k]->items[i].pod_affinity_term, owner, other))
                count_at(snapshot, drawn, host, lists[k]->items[i].pod_affinity_term.topology_key, (k ? -1 : 1) * lists[k]->items[i].weight);
}

/* One pod that is there, seen from the one that comes. */
static void look_at(struct snapshot *snapshot, const struct wish *wish, const struct kube_object *other, const struct host *host) {
    struct context *context = snapshot->context;
    struct affinity *affinity = wish->affinity;
    const struct kube_pod_affinity_term_array *near = required_near(wish->object), *far = required_far(wish->object);
    if (means_all(context, near, wish->object, other))
        for (size_t i = 0; i < near->count; i++)
            count_at(snapshot, &affinity->near, host, near->items[i].topology_key, 1);
    for (size_t i = 0; i < far->count; i++)
        if (term_means(context, &far->items[i], wish->object, other))
            count_at(snapshot, &affinity->far, host, far->items[i].topology_key, 1);
    draw(snapshot, &affinity->drawn, wish->object, other, host);
    if (!other->pod->spec.affinity)
        return;
    const struct kube_pod_affinity_term_array *theirs = required_far(other);
    for (size_t i = 0; i < theirs->count; i++)
        if (term_means(context, &theirs->items[i], other, wish->object))
            count_at(snapshot, &affinity->kept_out, host, theirs->items[i].topology_key, 1);
    theirs = required_near(other);
    for (size_t i = 0; i < theirs->count; i++)
        if (term_means(context, &theirs->items[i], other, wish->object))
            count_at(snapshot, &affinity->drawn, host, theirs->items[i].topology_key, WEIGHT_OF_REQUIRED);
    draw(snapshot, &affinity->drawn, other, wish->object, host);
}

/* ---- spreading ---- */

static bool honors(const char *policy, bool fallback) {
    return policy ? text_is(policy, "Honor") : fallback;
}

static bool has_untolerated_taint(const struct wish *wish, const struct host *host) {
    const struct kube_taint_array *taints = &host->object->node->spec.taints;
    for (size_t i = 0; i < taints->count; i++)
        if (!text_is(taints->items[i].effect, "PreferNoSchedule") && !pod_tolerates(wish->spec, &taints->items[i]))
            return true;
    return false;
}

/* Nodes that lack a key of any constraint are no place to spread to. */
static bool has_all_keys(const struct wish *wish, const struct host *host, const char *when) {
    const struct kube_topology_spread_constraint_array *constraints = &wish->spec->topology_spread_constraints;
    for (size_t i = 0; i < constraints->count; i++)
        if (text_is(constraints->items[i].when_unsatisfiable, when) && !host_label(host, constraints->items[i].topology_key))
            return false;
    return true;
}

static bool counts_for(const struct wish *wish, const struct host *host, const struct kube_topology_spread_constraint *constraint) {
    return has_all_keys(wish, host, constraint->when_unsatisfiable) &&
           (!honors(constraint->node_affinity_policy, true) || pod_selects_node(wish->spec, host->object)) &&
           (!honors(constraint->node_taints_policy, false) || !has_untolerated_taint(wish, host));
}

static bool spread_means(const struct kube_topology_spread_constraint *constraint, const struct kube_object *owner, const struct kube_object *other) {
    return same_text(owner->metadata->namespace, other->metadata->namespace) &&
           kube_selector_matches(constraint->label_selector, &other->metadata->labels) &&
           keys_agree(&constraint->match_label_keys, owner, other, true);
}

static void prepare_spread(struct snapshot *snapshot, const struct wish *wish, const struct kube_topology_spread_constraint *constraint,
                           struct spread *spread) {
    *spread = (struct spread){.constraint = constraint, .matches_self = spread_means(constraint, wish->object, wish->object)};
    for (size_t i = 0; i < snapshot->hosts_count; i++) {
        const struct host *host = &snapshot->hosts[i];
        if (!counts_for(wish, host, constraint))
            continue;
        int64_t count = 0;
        for (size_t k = 0; k < host->pods.count; k++)
            count += !is_deleting(host->pods.items[k]->object) && spread_means(constraint, wish->object, host->pods.items[k]->object);
        count_at(snapshot, &spread->domains, host, constraint->topology_key, count);
    }
    spread->least = spread->domains.count ? spread->domains.items[0].count : 0;
    for (size_t i = 1; i < spread->domains.count; i++)
        spread->least = MIN(spread->least, spread->domains.items[i].count);
    if ((int64_t)spread->domains.count < int32_or(constraint->min_domains, 1))
        spread->least = 0;
}

/* ---- all of it ---- */

void affinity_prepare(struct snapshot *snapshot, struct wish *wish) {
    const struct kube_affinity *own = wish->spec->affinity;
    const struct kube_topology_spread_constraint_array *constraints = &wish->spec->topology_spread_constraints;
    bool pods_matter = snapshot->with_affinity || (own && (own->pod_affinity || own->pod_anti_affinity));
    wish->affinity = NULL;
    if (!pods_matter && constraints->count == 0)
        return;
    struct affinity *affinity = wish->affinity = ARENA_NEW(snapshot->context->arena, struct affinity);
    if (affinity)
        affinity->spreads = ARENA_ARRAY(snapshot->context->arena, struct spread, constraints->count);
    if (!affinity || !affinity->spreads) {
        wish->affinity = NULL;
        context_fail(snapshot->context);
        return;
    }
    affinity->spreads_count = constraints->count;
    for (size_t i = 0; i < constraints->count; i++)
        prepare_spread(snapshot, wish, &constraints->items[i], &affinity->spreads[i]);
    for (size_t i = 0; pods_matter && i < snapshot->hosts_count; i++)
        for (size_t k = 0; k < snapshot->hosts[i].pods.count; k++)
            look_at(snapshot, wish, snapshot->hosts[i].pods.items[k]->object, &snapshot->hosts[i]);
    affinity->is_first = affinity->near.count == 0 && means_all(snapshot->context, required_near(wish->object), wish->object, wish->object);
}

static enum fit refuse(struct verdict *verdict, enum fit fit, const char *reason) {
    verdict_add(verdict, reason);
    return fit;
}

enum fit affinity_check(const struct snapshot *snapshot, const struct wish *wish, const struct host *host, struct verdict *verdict) {
    const struct affinity *affinity = wish->affinity;
    (void)snapshot;
    if (!affinity)
        return FITS;
    const struct kube_pod_affinity_term_array *near = required_near(wish->object), *far = required_far(wish->object);
    bool are_near = true;
    for (size_t i = 0; i < near->count; i++) {
        if (!host_label(host, near->items[i].topology_key))
            return refuse(verdict, FITS_NEVER, "node(s) didn't match pod affinity rules");
        are_near &= counted_at(&affinity->near, host, near->items[i].topology_key) > 0;
    }
    if (!are_near && !affinity->is_first)
        return refuse(verdict, FITS_NEVER, "node(s) didn't match pod affinity rules");
    for (size_t i = 0; i < far->count; i++)
        if (counted_at(&affinity->far, host, far->items[i].topology_key) > 0)
            return refuse(verdict, FITS_NOT, "node(s) didn't match pod anti-affinity rules");
    for (size_t i = 0; i < affinity->kept_out.count; i++) {
        if (is_in(host, &affinity->kept_out.items[i]))
            return refuse(verdict, FITS_NOT, "node(s) didn't satisfy existing pods anti-affinity rules");
    }
    return FITS;
}

enum fit spread_check(const struct snapshot *snapshot, const struct wish *wish, const struct host *host, struct verdict *verdict) {
    (void)snapshot;
    for (size_t i = 0; wish->affinity && i < wish->affinity->spreads_count; i++) {
        const struct spread *spread = &wish->affinity->spreads[i];
        if (!text_is(spread->constraint->when_unsatisfiable, "DoNotSchedule"))
            continue;
        if (!host_label(host, spread->constraint->topology_key))
            return refuse(verdict, FITS_NEVER, "node(s) didn't match pod topology spread constraints (missing required label)");
        int64_t skew = counted_at(&spread->domains, host, spread->constraint->topology_key) + spread->matches_self - spread->least;
        if (skew > spread->constraint->max_skew)
            return refuse(verdict, FITS_NOT, "node(s) didn't match pod topology spread constraints");
    }
    return FITS;
}

int64_t affinity_score(const struct snapshot *snapshot, const struct wish *wish, const struct host *host) {
    int64_t score = 0;
    (void)snapshot;
    for (size_t i = 0; wish->affinity && i < wish->affinity->drawn.count; i++)
        if (is_in(host, &wish->affinity->drawn.items[i]))
            score += wish->affinity->drawn.items[i].count;
    return score;
}

static bool same_owner(const struct kube_object *a, const struct kube_object *b) {
    const struct kube_owner_reference *owner = kube_controller_of(a->metadata);
    return owner && kube_is_controlled_by(b->metadata, owner->uid);
}

/* Constraints that may be missed count their pods in the host's domain; a pod without constraints keeps away from its siblings. */
int64_t spread_score(const struct snapshot *snapshot, const struct wish *wish, const struct host *host) {
    int64_t crowd = 0;
    (void)snapshot;
    if (wish->spec->topology_spread_constraints.count == 0) {
        for (size_t i = 0; i < host->pods.count; i++)
            crowd += same_owner(wish->object, host->pods.items[i]->object);
        return -crowd;
    }
    for (size_t i = 0; wish->affinity && i < wish->affinity->spreads_count; i++) {
        const struct spread *spread = &wish->affinity->spreads[i];
        const char *value = host_label(host, spread->constraint->topology_key);
        const struct domain *domain = value ? domain_find(&spread->domains, spread->constraint->topology_key, value) : NULL;
        if (text_is(spread->constraint->when_unsatisfiable, "ScheduleAnyway"))
            crowd += domain ? domain->count : INT32_MAX; /* outside all domains is worst */
    }
    return -crowd;
}

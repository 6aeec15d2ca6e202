/* Aggregated ClusterRoles: the rules of one with an aggregationRule are those of the roles that its selectors match, each rule once, in the order of
 * the roles' names (upstream: pkg/controller/clusterroleaggregation). One that aggregates may itself be aggregated (view → edit → admin): its change
 * brings the next round.
 *
 * There are few such roles, so one key stands for all of them. */
#include "control/control_priv.h"

int cluster_role_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_kind *kind = (object ? object : old)->kind;
    return kind == &kube_kind_cluster_role ? control_enqueue(control, CONTROLLER_CLUSTER_ROLE, kind, NULL, "") : 0;
}

static int compare_names(const void *left, const void *right) {
    const struct kube_object *const *a = left, *const *b = right;
    return strcmp((*a)->metadata->name, (*b)->metadata->name);
}

static bool is_selected(const struct kube_aggregation_rule *rule, const struct kube_object *role) {
    for (size_t i = 0; i < rule->cluster_role_selectors.count; i++)
        if (kube_selector_matches(&rule->cluster_role_selectors.items[i], &role->metadata->labels))
            return true;
    return false;
}

static bool has_rule(const struct kube_policy_rule *rules, size_t count, const struct kube_policy_rule *rule) {
    for (size_t i = 0; i < count; i++)
        if (kube_equal(&kube_policy_rule_type, &rules[i], rule))
            return true;
    return false;
}

/* Borrowed from the roles they come from. */
static struct kube_policy_rule_array gather(struct context *context, const struct kube_object *role, const struct objects *roles) {
    size_t most = 0;
    for (size_t i = 0; i < roles->list.count; i++)
        most += roles->list.items[i]->cluster_role->rules.count;
    struct kube_policy_rule_array all = {ARENA_ARRAY(context->arena, struct kube_policy_rule, most), 0};
    if (!all.items)
        context_fail(context);
    for (size_t i = 0; i < roles->list.count && all.items; i++) {
        const struct kube_object *other = roles->list.items[i];
        if (other == role || !is_selected(role->cluster_role->aggregation_rule, other))
            continue;
        for (size_t j = 0; j < other->cluster_role->rules.count; j++)
            if (!has_rule(all.items, all.count, &other->cluster_role->rules.items[j]))
                all.items[all.count++] = other->cluster_role->rules.items[j];
    }
    return all;
}

static bool same_rules(const struct kube_policy_rule_array *a, const struct kube_policy_rule_array *b) {
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!kube_equal(&kube_policy_rule_type, &a->items[i], &b->items[i]))
            return false;
    return true;
}

static void set_rules(struct context *context, struct kube_object *role, const struct kube_policy_rule_array *rules) {
    struct kube_policy_rule_array *own = &role->cluster_role->rules;
    *own = (struct kube_policy_rule_array){ARENA_ARRAY(role->arena, struct kube_policy_rule, rules->count), rules->count};
    int error = own->items ? 0 : -ENOMEM;
    for (size_t i = 0; i < rules->count && !error; i++)
        error = kube_copy(&kube_policy_rule_type, role->arena, &rules->items[i], &own->items[i]);
    if (error)
        context_fail(context);
}

void cluster_role_reconcile(struct context *context) {
    struct objects roles = {.list = {.items = NULL}};
    context_list(context, &kube_kind_cluster_role, NULL, &roles);
    if (roles.list.count)
        qsort(roles.list.items, roles.list.count, sizeof *roles.list.items, compare_names);
    for (size_t i = 0; i < roles.list.count; i++) {
        const struct kube_object *role = roles.list.items[i];
        if (!role->cluster_role->aggregation_rule || is_deleting(role))
            continue;
        struct kube_policy_rule_array rules = gather(context, role, &roles);
        struct kube_object *changed = same_rules(&rules, &role->cluster_role->rules) ? NULL : context_copy(context, role);
        context->group++;
        if (changed) {
            set_rules(context, changed, &rules);
            context_update(context, changed);
        }
    }
    objects_deinit(&roles);
}

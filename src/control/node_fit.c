/* What a pod says about nodes: which taints it bears and which labels it asks for. Used by the scheduler and by DaemonSets, which must agree. */
#include "control/control_priv.h"

bool pod_tolerates(const struct kube_pod_spec *pod, const struct kube_taint *taint) {
    for (size_t i = 0; i < pod->tolerations.count; i++) {
        const struct kube_toleration *toleration = &pod->tolerations.items[i];
        if (toleration->effect && !same_text(toleration->effect, taint->effect))
            continue;
        if (toleration->key && !same_text(toleration->key, taint->key))
            continue;
        if (text_is(toleration->operator, "Exists") ||
            (toleration->key && same_text(toleration->value ? toleration->value : "", taint->value ? taint->value : "")))
            return true;
    }
    return false;
}

static bool meets(const struct kube_node_selector_requirement *requirement, const char *value) {
    bool listed = false;
    for (size_t i = 0; i < requirement->values.count; i++)
        listed |= same_text(value, requirement->values.items[i]);
    if (text_is(requirement->operator, "In"))
        return value && listed;
    if (text_is(requirement->operator, "NotIn"))
        return !value || !listed;
    if (text_is(requirement->operator, "Exists"))
        return value != NULL;
    if (text_is(requirement->operator, "DoesNotExist"))
        return value == NULL;
    int64_t have, bound;
    if (!value || requirement->values.count != 1 || slice_parse_i64(slice_of(value), &have) < 0 ||
        slice_parse_i64(slice_of(requirement->values.items[0]), &bound) < 0)
        return false;
    return text_is(requirement->operator, "Gt") ? have > bound : have < bound;
}

static bool meets_term(const struct kube_node_selector_term *term, const struct kube_object *node) {
    for (size_t i = 0; i < term->match_expressions.count; i++)
        if (!meets(&term->match_expressions.items[i], kube_map_find(&node->metadata->labels, term->match_expressions.items[i].key)))
            return false;
    for (size_t i = 0; i < term->match_fields.count; i++)
        if (!meets(&term->match_fields.items[i], node->metadata->name))
            return false;
    return term->match_expressions.count + term->match_fields.count > 0;
}

bool node_selector_matches(const struct kube_node_selector *selector, const struct kube_object *node) {
    for (size_t i = 0; i < selector->node_selector_terms.count; i++)
        if (meets_term(&selector->node_selector_terms.items[i], node))
            return true;
    return false;
}

bool pod_selects_node(const struct kube_pod_spec *pod, const struct kube_object *node) {
    for (size_t i = 0; i < pod->node_selector.count; i++)
        if (!same_text(kube_map_find(&node->metadata->labels, pod->node_selector.items[i].key), pod->node_selector.items[i].value))
            return false;
    const struct kube_node_affinity *affinity = pod->affinity ? pod->affinity->node_affinity : NULL;
    const struct kube_node_selector *required = affinity ? affinity->required_during_scheduling_ignored_during_execution : NULL;
    return !required || node_selector_matches(required, node);
}

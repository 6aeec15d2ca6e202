/* Cells of the kinds that configure the cluster, in the words of upstream's printers. */
#include "kube/cell_priv.h"

static const struct kube_component_condition *health_of(const struct kube_object *object) {
    const struct kube_component_status *status = object->component_status;
    for (size_t i = 0; i < status->conditions.count; i++)
        if (kube_text_is(status->conditions.items[i].type, "Healthy"))
            return &status->conditions.items[i];
    return NULL;
}

CELL(component_status) {
    const struct kube_component_condition *health = health_of(object);
    return tree_text(arena, !health ? "Unknown" : kube_text_is(health->status, "True") ? "Healthy" : "Unhealthy");
}
CELL(component_message) {
    const struct kube_component_condition *health = health_of(object);
    return cell_text(arena, health ? health->message : NULL, "");
}
CELL(component_error) {
    const struct kube_component_condition *health = health_of(object);
    return cell_text(arena, health ? health->error : NULL, "");
}

/* ---- admission ---- */

CELL(webhooks_count) {
    bool mutating = object->kind == &kube_kind_mutating_webhook_configuration;
    return tree_int(arena, (int64_t)(mutating ? object->mutating_webhook_configuration->webhooks.count
                                              : object->validating_webhook_configuration->webhooks.count));
}
CELL(validations_count) {
    return tree_int(arena, (int64_t)object->validating_admission_policy->spec.validations.count);
}
CELL(param_kind) {
    const struct kube_param_kind *kind = object->validating_admission_policy->spec.param_kind;
    return kind ? tree_printf(arena, "%s/%s", kube_text_or(kind->api_version, ""), kube_text_or(kind->kind, "")) : tree_text(arena, "<unset>");
}
CELL(param_ref) {
    const struct kube_param_ref *reference = object->validating_admission_policy_binding->spec.param_ref;
    if (!reference)
        return tree_text(arena, "<unset>");
    if (reference->selector && !reference->name)
        return tree_text(arena, "*/*");
    return reference->namespace ? tree_printf(arena, "%s/%s", reference->namespace, kube_text_or(reference->name, ""))
                                : cell_text(arena, reference->name, "");
}

CELL(created_at) {
    char text[TIMESTAMP_BYTES];
    if (!object->metadata->creation_timestamp.set)
        return tree_text(arena, "");
    timestamp_format(object->metadata->creation_timestamp.ns, text);
    return tree_text(arena, text);
}

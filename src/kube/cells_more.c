/* Cells of what configures the cluster and its networks, of policies, rights and autoscalers, in the words of upstream's printers. */
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

/* ---- networking ---- */

CELL(class_parameters) {
    const struct kube_ingress_class_parameters_reference *parameters = object->ingress_class->spec.parameters;
    if (!parameters)
        return tree_text(arena, "<none>");
    return tree_printf(arena, "%s%s%s/%s", kube_text_or(parameters->kind, ""), parameters->api_group ? "." : "",
                       kube_text_or(parameters->api_group, ""), kube_text_or(parameters->name, ""));
}

CELL(address_parent) {
    const struct kube_parent_reference *parent = object->ip_address->spec.parent_ref;
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    if (!parent)
        return tree_text(arena, "<none>");
    buffer_printf(&text, "%s", kube_text_or(parent->resource, ""));
    if (parent->group)
        buffer_printf(&text, ".%s", parent->group);
    if (parent->namespace)
        buffer_printf(&text, "/%s", parent->namespace);
    buffer_printf(&text, "/%s", kube_text_or(parent->name, ""));
    return cell_take(arena, &text, "");
}

CELL(service_cidrs) {
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    for (size_t i = 0; i < object->service_cidr->spec.cidrs.count; i++)
        cell_join(&text, object->service_cidr->spec.cidrs.items[i]);
    return cell_take(arena, &text, "");
}

/* ---- policy ---- */

static struct tree *share_cell(struct arena *arena, const struct kube_int_or_string *share) {
    if (!share)
        return tree_text(arena, "N/A");
    return share->is_string ? cell_text(arena, share->text, "") : tree_printf(arena, "%" PRId32, share->number);
}
CELL(budget_min) {
    return share_cell(arena, object->pod_disruption_budget->spec.min_available);
}
CELL(budget_max) {
    return share_cell(arena, object->pod_disruption_budget->spec.max_unavailable);
}

static struct tree *quota_cell(struct arena *arena, const struct kube_resource_quota *quota, bool limits) {
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    for (size_t i = 0; i < quota->status.hard.count; i++) {
        const struct kube_quantity_pair *hard = &quota->status.hard.items[i];
        const struct kube_quantity_pair *used = kube_pair_find(&quota->status.used, sizeof *used, hard->key);
        if (slice_starts(slice_of(hard->key), SLICE("limits.")) != limits)
            continue;
        buffer_printf(&text, "%s%s: %s/%s", text.len ? ", " : "", hard->key, used ? kube_text_or(used->value.text, "0") : "0",
                      kube_text_or(hard->value.text, "0"));
    }
    return cell_take(arena, &text, "");
}
CELL(quota_request) {
    return quota_cell(arena, object->resource_quota, false);
}
CELL(quota_limit) {
    return quota_cell(arena, object->resource_quota, true);
}

/* ---- rights ---- */

static const struct kube_subject_array *subjects_of(const struct kube_object *object) {
    return object->kind == &kube_kind_role_binding ? &object->role_binding->subjects : &object->cluster_role_binding->subjects;
}

static struct tree *subjects_cell(struct arena *arena, const struct kube_object *object, const char *kind) {
    const struct kube_subject_array *subjects = subjects_of(object);
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    for (size_t i = 0; i < subjects->count; i++) {
        const struct kube_subject *subject = &subjects->items[i];
        if (!kube_text_is(subject->kind, kind))
            continue;
        buffer_append_text(&text, text.len ? ", " : "");
        if (strcmp(kind, "ServiceAccount") == 0 && subject->namespace)
            buffer_printf(&text, "%s/", subject->namespace);
        buffer_append_text(&text, kube_text_or(subject->name, ""));
    }
    return cell_take(arena, &text, "");
}

CELL(binding_role) {
    const struct kube_role_ref *role =
        object->kind == &kube_kind_role_binding ? &object->role_binding->role_ref : &object->cluster_role_binding->role_ref;
    return tree_printf(arena, "%s/%s", kube_text_or(role->kind, ""), kube_text_or(role->name, ""));
}
CELL(binding_users) {
    return subjects_cell(arena, object, "User");
}
CELL(binding_groups) {
    return subjects_cell(arena, object, "Group");
}
CELL(binding_accounts) {
    return subjects_cell(arena, object, "ServiceAccount");
}

CELL(csr_signer) {
    return cell_text(arena, object->certificate_signing_request->spec.signer_name, "<none>");
}
CELL(csr_duration) {
    const int32_t *seconds = object->certificate_signing_request->spec.expiration_seconds;
    char text[TIMESTAMP_BYTES];
    if (!seconds)
        return tree_text(arena, "<none>");
    duration_format_age((int64_t)*seconds * 1000000000, text);
    return tree_text(arena, text);
}
CELL(csr_condition) {
    const struct kube_certificate_signing_request_status *status = &object->certificate_signing_request->status;
    bool approved = false, denied = false, failed = false;
    for (size_t i = 0; i < status->conditions.count; i++) {
        approved |= kube_text_is(status->conditions.items[i].type, "Approved");
        denied |= kube_text_is(status->conditions.items[i].type, "Denied");
        failed |= kube_text_is(status->conditions.items[i].type, "Failed");
    }
    return tree_printf(arena, "%s%s%s",
                       denied     ? "Denied"
                       : approved ? "Approved"
                                  : "Pending",
                       failed ? ",Failed" : "", status->certificate.len ? ",Issued" : "");
}

/* ---- autoscalers ---- */

#define METRICS_SHOWN_MAX 2

/* A metric's target and current value, wherever they stand. */
struct metric_view {
    const char *name; /* shown before them; NULL: not */
    const struct kube_v2_metric_target *target;
    const struct kube_v2_metric_value_status *current; /* NULL: unknown */
    bool utilization;                                  /* percentages, unless an average value is asked for */
};

static struct metric_view view_metric(const struct kube_v2_metric_spec *spec, const struct kube_v2_metric_status *status) {
    struct metric_view view = {.name = NULL};
    if (spec->resource)
        view =
            (struct metric_view){spec->resource->name, &spec->resource->target, status && status->resource ? &status->resource->current : NULL, true};
    else if (spec->container_resource)
        view = (struct metric_view){spec->container_resource->name, &spec->container_resource->target,
                                    status && status->container_resource ? &status->container_resource->current : NULL, true};
    else if (spec->pods)
        view = (struct metric_view){NULL, &spec->pods->target, status && status->pods ? &status->pods->current : NULL, false};
    else if (spec->object)
        view = (struct metric_view){NULL, &spec->object->target, status && status->object ? &status->object->current : NULL, false};
    else if (spec->external)
        view = (struct metric_view){NULL, &spec->external->target, status && status->external ? &status->external->current : NULL, false};
    return view;
}

static const char *quantity_text(const struct kube_quantity *quantity, const char *fallback) {
    return quantity ? kube_text_or(quantity->text, "0") : fallback;
}

static void join_metric(struct buffer *text, const struct kube_v2_metric_spec *spec, const struct metric_view *view) {
    const struct kube_v2_metric_target *target = view->target;
    const struct kube_v2_metric_value_status *current = view->current;
    if (view->name)
        buffer_printf(text, "%s: ", view->name);
    if (!target) {
        buffer_append_text(text, "<unknown type>");
    } else if (target->average_value) {
        buffer_printf(text, "%s/%s%s", current ? quantity_text(current->average_value, "<unknown>") : "<unknown>",
                      quantity_text(target->average_value, ""), view->utilization || spec->pods ? "" : " (avg)");
    } else if (!view->utilization) {
        buffer_printf(text, "%s/%s", current ? quantity_text(current->value, "<unknown>") : "<unknown>", quantity_text(target->value, "0"));
    } else {
        if (current && current->average_utilization)
            buffer_printf(text, "%" PRId32 "%%/", *current->average_utilization);
        else
            buffer_append_text(text, "<unknown>/");
        if (target->average_utilization)
            buffer_printf(text, "%" PRId32 "%%", *target->average_utilization);
        else
            buffer_append_text(text, "<auto>");
    }
}

CELL(autoscaler_target) {
    const struct kube_v2_cross_version_object_reference *target = &object->horizontal_pod_autoscaler->spec.scale_target_ref;
    return tree_printf(arena, "%s/%s", kube_text_or(target->kind, ""), kube_text_or(target->name, ""));
}
CELL(autoscaler_metrics) {
    const struct kube_v2_horizontal_pod_autoscaler *autoscaler = object->horizontal_pod_autoscaler;
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    size_t count = autoscaler->spec.metrics.count;
    for (size_t i = 0; i < MIN(count, (size_t)METRICS_SHOWN_MAX); i++) {
        const struct kube_v2_metric_status *status =
            i < autoscaler->status.current_metrics.count ? &autoscaler->status.current_metrics.items[i] : NULL;
        struct metric_view view = view_metric(&autoscaler->spec.metrics.items[i], status);
        buffer_append_text(&text, i ? ", " : "");
        join_metric(&text, &autoscaler->spec.metrics.items[i], &view);
    }
    if (count > METRICS_SHOWN_MAX)
        buffer_printf(&text, " + %zu more...", count - METRICS_SHOWN_MAX);
    return cell_take(arena, &text, "<none>");
}
CELL(autoscaler_min) {
    const int32_t *least = object->horizontal_pod_autoscaler->spec.min_replicas;
    return least ? tree_printf(arena, "%" PRId32, *least) : tree_text(arena, "<unset>");
}

/* Autoscalers. */
#include "kube/validate_priv.h"

#define WINDOW_S_MAX 3600
#define PERIOD_S_MAX 1800

static const char *const metric_types[] = {"ContainerResource", "External", "Object", "Pods", "Resource", NULL};

static bool is_one_of(const char *const *names, const char *name) {
    for (; name && *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

static void check_target(struct validator *validator, const struct kube_v2_metric_target *target) {
    static const char *const types[] = {"AverageValue", "Utilization", "Value", NULL};
    if (!target->type)
        fail_required(validator, "type", "must specify a metric target type");
    else if (!is_one_of(types, target->type))
        fail_supported(validator, "type", target->type, types);
    if (target->value && target->value->milli <= 0)
        fail_text(validator, "value", target->value->text, "must be positive");
    if (target->average_value && target->average_value->milli <= 0)
        fail_text(validator, "averageValue", target->average_value->text, "must be positive");
    if (target->average_utilization && *target->average_utilization < 1)
        fail_number(validator, "averageUtilization", *target->average_utilization, "must be greater than 0");
}

/* Of resources: a share or a value, not both. */
static void check_resource_target(struct validator *validator, const struct kube_v2_metric_target *target) {
    size_t before = kube_path_push_field(&validator->path, "target");
    check_target(validator, target);
    if (!target->average_utilization && !target->average_value)
        fail_required(validator, "averageUtilization", "must set either a target raw value or a target utilization");
    if (target->average_utilization && target->average_value)
        fail_forbidden(validator, "averageValue", "may not set both a target raw value and a target utilization");
    kube_path_pop(&validator->path, before);
}

static void check_metric_target(struct validator *validator, const struct kube_v2_metric_target *target, const char *missing) {
    size_t before = kube_path_push_field(&validator->path, "target");
    check_target(validator, target);
    if (!target->value && !target->average_value)
        fail_required(validator, "averageValue", missing);
    kube_path_pop(&validator->path, before);
}

/* The source's own fields, below its name. */
static void check_source(struct validator *validator, const struct kube_v2_metric_spec *metric, const char *field) {
    size_t before = kube_path_push_field(&validator->path, field);
    if (metric->resource && !metric->resource->name)
        fail_required(validator, "name", "must specify a resource name");
    if (metric->container_resource && !metric->container_resource->name)
        fail_required(validator, "name", "must specify a resource name");
    if (metric->container_resource && !metric->container_resource->container)
        fail_required(validator, "container", "must specify a container");
    if (metric->resource)
        check_resource_target(validator, &metric->resource->target);
    else if (metric->container_resource)
        check_resource_target(validator, &metric->container_resource->target);
    else if (metric->pods)
        check_metric_target(validator, &metric->pods->target, "must specify a positive target averageValue");
    else if (metric->object)
        check_metric_target(validator, &metric->object->target, "must set either a target value or averageValue");
    else if (metric->external)
        check_metric_target(validator, &metric->external->target, "must set either a target value for metric or a per-pod target");
    const struct kube_v2_metric_identifier *named = metric->pods       ? &metric->pods->metric
                                                    : metric->object   ? &metric->object->metric
                                                    : metric->external ? &metric->external->metric
                                                                       : NULL;
    if (named && !named->name)
        fail_required(validator, "metric.name", "must specify a metric name");
    kube_path_pop(&validator->path, before);
}

void validate_metric_spec(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_v2_metric_spec *metric = data;
    const struct {
        const char *type, *field;
        const void *set;
    } sources[] = {{"Object", "object", metric->object},
                   {"Pods", "pods", metric->pods},
                   {"Resource", "resource", metric->resource},
                   {"External", "external", metric->external},
                   {"ContainerResource", "containerResource", metric->container_resource}};
    if (!metric->type)
        fail_required(validator, "type", "must specify a metric source type");
    else if (!is_one_of(metric_types, metric->type))
        fail_supported(validator, "type", metric->type, metric_types);
    for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
        bool meant = kube_text_is(metric->type, sources[i].type);
        if (meant && !sources[i].set)
            fail_required(validator, sources[i].field, "must populate information for the given metric source");
        else if (!meant && sources[i].set && is_one_of(metric_types, metric->type))
            fail_forbidden(validator, sources[i].field, "must populate the given metric source only");
        else if (meant)
            check_source(validator, metric, sources[i].field);
    }
}

void validate_scaling_rules(struct validator *validator, const void *data, const void *old) {
    static const char *const selects[] = {"Disabled", "Max", "Min", NULL}, *const types[] = {"Percent", "Pods", NULL};
    (void)old;
    const struct kube_v2_hpa_scaling_rules *rules = data;
    if (rules->stabilization_window_seconds && *rules->stabilization_window_seconds < 0)
        fail_number(validator, "stabilizationWindowSeconds", *rules->stabilization_window_seconds, "must be greater than or equal to zero");
    if (rules->stabilization_window_seconds && *rules->stabilization_window_seconds > WINDOW_S_MAX)
        fail_number(validator, "stabilizationWindowSeconds", *rules->stabilization_window_seconds, "must be less than or equal to %d", WINDOW_S_MAX);
    if (rules->select_policy && !is_one_of(selects, rules->select_policy))
        fail_supported(validator, "selectPolicy", rules->select_policy, selects);
    if (rules->policies.count == 0)
        fail_required(validator, "policies", "must specify at least one Policy");
    for (size_t i = 0; i < rules->policies.count; i++) {
        const struct kube_v2_hpa_scaling_policy *policy = &rules->policies.items[i];
        size_t before = kube_path_push_field(&validator->path, "policies");
        kube_path_push_index(&validator->path, i);
        if (!is_one_of(types, policy->type))
            fail_supported(validator, "type", policy->type, types);
        if (policy->value <= 0)
            fail_number(validator, "value", policy->value, "must be greater than zero");
        if (policy->period_seconds <= 0)
            fail_number(validator, "periodSeconds", policy->period_seconds, "must be greater than zero");
        if (policy->period_seconds > PERIOD_S_MAX)
            fail_number(validator, "periodSeconds", policy->period_seconds, "must be less than or equal to %d", PERIOD_S_MAX);
        kube_path_pop(&validator->path, before);
    }
}

void validate_autoscaler_spec(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_v2_horizontal_pod_autoscaler_spec *spec = data;
    if (spec->min_replicas && *spec->min_replicas < 1)
        fail_number(validator, "minReplicas", *spec->min_replicas, "must be greater than or equal to 1");
    if (spec->max_replicas < 1)
        fail_number(validator, "maxReplicas", spec->max_replicas, "must be greater than 0");
    if (spec->min_replicas && spec->max_replicas < *spec->min_replicas)
        fail_number(validator, "maxReplicas", spec->max_replicas, "must be greater than or equal to `minReplicas`");
    if (!spec->scale_target_ref.kind)
        fail_required(validator, "scaleTargetRef.kind", "");
    if (!spec->scale_target_ref.name)
        fail_required(validator, "scaleTargetRef.name", "");
}

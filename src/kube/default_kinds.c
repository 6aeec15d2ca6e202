/* Defaults of controllers, autoscalers and what configures the cluster, as far as they depend on other fields. */
#include "kube/default_priv.h"

#define CPU_PERCENT_DEFAULT 80

/* ---- workloads ---- */

int default_deployment_strategy(struct arena *arena, void *data) {
    struct kube_deployment_strategy *strategy = data;
    const struct kube_int_or_string quarter = {.is_string = true, .text = "25%"};
    if (!kube_text_is(strategy->type, "RollingUpdate"))
        return 0;
    if (!strategy->rolling_update)
        strategy->rolling_update = ARENA_NEW(arena, struct kube_rolling_update_deployment);
    if (!strategy->rolling_update)
        return -ENOMEM;
    int error = set_int_or_string(arena, &strategy->rolling_update->max_unavailable, quarter);
    return error ? error : set_int_or_string(arena, &strategy->rolling_update->max_surge, quarter);
}

int default_daemon_set_strategy(struct arena *arena, void *data) {
    struct kube_daemon_set_update_strategy *strategy = data;
    if (!kube_text_is(strategy->type, "RollingUpdate"))
        return 0;
    if (!strategy->rolling_update)
        strategy->rolling_update = ARENA_NEW(arena, struct kube_rolling_update_daemon_set);
    if (!strategy->rolling_update)
        return -ENOMEM;
    int error = set_int_or_string(arena, &strategy->rolling_update->max_unavailable, (struct kube_int_or_string){.number = 1});
    return error ? error : set_int_or_string(arena, &strategy->rolling_update->max_surge, (struct kube_int_or_string){.number = 0});
}

/* An update strategy that says nothing gets its whole; one that names its type only a partition where there is something to hold it. */
int default_stateful_set_spec(struct arena *arena, void *data) {
    struct kube_stateful_set_spec *spec = data;
    struct kube_stateful_set_update_strategy *strategy = &spec->update_strategy;
    if (!strategy->type && !strategy->rolling_update) {
        strategy->rolling_update = ARENA_NEW(arena, struct kube_rolling_update_stateful_set_strategy);
        if (!strategy->rolling_update)
            return -ENOMEM;
    }
    set_text(&strategy->type, "RollingUpdate");
    if (!spec->persistent_volume_claim_retention_policy)
        spec->persistent_volume_claim_retention_policy = ARENA_NEW(arena, struct kube_stateful_set_persistent_volume_claim_retention_policy);
    if (!spec->persistent_volume_claim_retention_policy)
        return -ENOMEM;
    set_text(&spec->persistent_volume_claim_retention_policy->when_deleted, "Retain");
    set_text(&spec->persistent_volume_claim_retention_policy->when_scaled, "Retain");
    bool rolling = kube_text_is(strategy->type, "RollingUpdate") && strategy->rolling_update;
    return rolling ? set_int32(arena, &strategy->rolling_update->partition, 0) : 0;
}

/* Of jobs alone: what a cron job's template leaves out is filled in the jobs made of it. */
int default_job(struct arena *arena, void *data) {
    struct kube_job *job = data;
    struct kube_job_spec *spec = &job->spec;
    int error = 0;
    if (!spec->completions && !spec->parallelism)
        error = set_int32(arena, &spec->completions, 1);
    if (error == 0)
        error = set_int32(arena, &spec->parallelism, 1);
    set_text(&spec->pod_replacement_policy, spec->pod_failure_policy ? "Failed" : "TerminatingOrFailed");
    set_text(&spec->completion_mode, "NonIndexed");
    if (error == 0)
        error = set_int32(arena, &spec->backoff_limit, spec->backoff_limit_per_index ? INT32_MAX : 6);
    if (error == 0)
        error = set_bool(arena, &spec->suspend, false);
    const struct kube_string_map *labels = &spec->template.metadata.labels;
    bool bare = job->metadata.labels.count == 0;
    for (size_t i = 0; bare && i < labels->count && error == 0; i++)
        error = kube_map_set(&job->metadata.labels, arena, labels->items[i].key, labels->items[i].value);
    return error;
}

int default_replication_controller(struct arena *arena, void *data) {
    struct kube_replication_controller *controller = data;
    const struct kube_string_map *labels = controller->spec.template ? &controller->spec.template->metadata.labels : NULL;
    bool select = controller->spec.selector.count == 0, label = controller->metadata.labels.count == 0;
    int error = 0;
    for (size_t i = 0; labels && i < labels->count && error == 0; i++) {
        if (select)
            error = kube_map_set(&controller->spec.selector, arena, labels->items[i].key, labels->items[i].value);
        if (label && error == 0)
            error = kube_map_set(&controller->metadata.labels, arena, labels->items[i].key, labels->items[i].value);
    }
    return error;
}

/* ---- autoscalers ---- */

int default_autoscaler_spec(struct arena *arena, void *data) {
    struct kube_v2_horizontal_pod_autoscaler_spec *spec = data;
    if (spec->metrics.count > 0)
        return 0;
    struct kube_v2_metric_spec *metric = ARENA_ARRAY(arena, struct kube_v2_metric_spec, 1);
    struct kube_v2_resource_metric_source *resource = ARENA_NEW(arena, struct kube_v2_resource_metric_source);
    if (!metric || !resource)
        return -ENOMEM;
    *resource = (struct kube_v2_resource_metric_source){.name = "cpu", .target = {.type = "Utilization"}};
    *metric = (struct kube_v2_metric_spec){.type = "Resource", .resource = resource};
    spec->metrics.items = metric;
    spec->metrics.count = 1;
    return set_int32(arena, &resource->target.average_utilization, CPU_PERCENT_DEFAULT);
}

static int default_scaling_rules(struct arena *arena, struct kube_v2_hpa_scaling_rules **rules, const struct kube_v2_hpa_scaling_policy *policies,
                                 size_t count) {
    if (!*rules)
        *rules = ARENA_NEW(arena, struct kube_v2_hpa_scaling_rules);
    if (!*rules)
        return -ENOMEM;
    set_text(&(*rules)->select_policy, "Max");
    if ((*rules)->policies.items)
        return 0;
    struct kube_v2_hpa_scaling_policy *items = ARENA_ARRAY(arena, struct kube_v2_hpa_scaling_policy, count);
    if (!items)
        return -ENOMEM;
    memcpy(items, policies, count * sizeof *items);
    (*rules)->policies.items = items;
    (*rules)->policies.count = count;
    return 0;
}

/* Up fast, down by as much as one likes, but (in the controller) only after five quiet minutes. */
int default_autoscaler_behavior(struct arena *arena, void *data) {
    static const struct kube_v2_hpa_scaling_policy up[] = {{"Pods", 4, 15}, {"Percent", 100, 15}}, down[] = {{"Percent", 100, 15}};
    struct kube_v2_horizontal_pod_autoscaler_behavior *behavior = data;
    int error = default_scaling_rules(arena, &behavior->scale_up, up, ARRAY_LEN(up));
    if (error == 0)
        error = set_int32(arena, &behavior->scale_up->stabilization_window_seconds, 0);
    return error ? error : default_scaling_rules(arena, &behavior->scale_down, down, ARRAY_LEN(down));
}

/* ---- rights, networks, drivers, nodes ---- */

int default_subject(struct arena *arena, void *data) {
    (void)arena;
    struct kube_subject *subject = data;
    if (kube_text_is(subject->kind, "User") || kube_text_is(subject->kind, "Group"))
        set_text(&subject->api_group, "rbac.authorization.k8s.io");
    return 0;
}

int default_network_policy_spec(struct arena *arena, void *data) {
    struct kube_network_policy_spec *spec = data;
    if (spec->policy_types.count > 0)
        return 0;
    spec->policy_types.items = ARENA_ARRAY(arena, const char *, 2);
    if (!spec->policy_types.items)
        return -ENOMEM;
    spec->policy_types.items[spec->policy_types.count++] = "Ingress";
    if (spec->egress.count > 0)
        spec->policy_types.items[spec->policy_types.count++] = "Egress";
    return 0;
}

int default_csi_driver_spec(struct arena *arena, void *data) {
    struct kube_csi_driver_spec *spec = data;
    if (spec->volume_lifecycle_modes.count > 0)
        return 0;
    spec->volume_lifecycle_modes.items = ARENA_ARRAY(arena, const char *, 1);
    if (!spec->volume_lifecycle_modes.items)
        return -ENOMEM;
    spec->volume_lifecycle_modes.items[spec->volume_lifecycle_modes.count++] = "Persistent";
    return 0;
}

int default_node_status(struct arena *arena, void *data) {
    struct kube_node_status *status = data;
    int error = 0;
    if (status->allocatable.count > 0)
        return 0;
    for (size_t i = 0; i < status->capacity.count && error == 0; i++)
        error = kube_quantities_set(&status->allocatable, arena, status->capacity.items[i].key, status->capacity.items[i].value);
    return error;
}

/* HorizontalPodAutoscaler between autoscaling/v2, which is stored, and autoscaling/v1, which knows one metric: the average use of CPU in percent. As
 * upstream, whatever else a stored one has is shown as JSON in annotations of v1, and read from there when a v1 one is written:
 *
 *   autoscaling.alpha.kubernetes.io/metrics            the other metrics, as a list of v1's own MetricSpec
 *   autoscaling.alpha.kubernetes.io/current-metrics    status.currentMetrics, all of them
 *   autoscaling.alpha.kubernetes.io/conditions         status.conditions
 *   autoscaling.alpha.kubernetes.io/behavior           spec.behavior, its names with capitals (upstream writes an internal struct)
 *
 * An annotation that is no such JSON is ignored. A v1 one without any metric means 80 % of CPU. */
#include "kube/helpers_priv.h"

#define ANNOTATION "autoscaling.alpha.kubernetes.io/"
#define ANNOTATION_BYTES_MAX (256 * KIB)
#define CPU_PERCENT_DEFAULT 80

extern const struct kube_conversion kube_conversion_autoscaler;

/* Any list of structs as it is held in objects. */
struct list_form {
    const struct kube_type *type;
    const char *annotation;
};

static const struct list_form metric_list = {&kube_metric_spec_type, ANNOTATION "metrics"};
static const struct list_form current_list = {&kube_metric_status_type, ANNOTATION "current-metrics"};
static const struct list_form condition_list = {&kube_v2_horizontal_pod_autoscaler_condition_type, ANNOTATION "conditions"};
static const char behavior_annotation[] = ANNOTATION "behavior";

/* ---- annotations ---- */

/* Annotations are shared with the object converted from until one is set: then a list of our own. */
static int annotate(struct kube_object *object, const char *key, const struct buffer *json) {
    struct kube_string_map *map = &object->metadata->annotations;
    const char *text = arena_dup(object->arena, buffer_slice(json));
    return text && !buffer_error(json) ? kube_map_set(map, object->arena, key, text) : -ENOMEM;
}

static int write_list(struct kube_object *object, const struct list_form *form, const struct kube_array *list) {
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(ANNOTATION_BYTES_MAX);
    buffer_append_byte(&json, '[');
    for (size_t i = 0; i < list->count; i++) {
        buffer_append_text(&json, i ? "," : "");
        kube_encode_part(form->type, (const char *)list->items + i * form->type->size, &json);
    }
    buffer_append_byte(&json, ']');
    return list->count ? annotate(object, form->annotation, &json) : 0;
}

static struct tree *read_annotation(const struct kube_object *object, struct arena *arena, const char *key) {
    const char *text = kube_map_find(&object->metadata->annotations, key);
    struct tree *tree = NULL;
    struct diag diag = DIAG_INIT;
    return text && json_parse(arena, slice_of(text), NULL, &tree, &diag) == 0 ? tree : NULL;
}

static int read_list(const struct kube_object *from, struct arena *arena, const struct list_form *form, struct kube_array *list) {
    const struct tree *tree = read_annotation(from, arena, form->annotation);
    struct diag diag = DIAG_INIT;
    *list = (struct kube_array){.items = NULL};
    if (!tree || tree->type != TREE_LIST || tree_count(tree) == 0)
        return 0;
    list->items = arena_array(arena, tree_count(tree), form->type->size);
    if (!list->items)
        return -ENOMEM;
    for (size_t i = 0; i < tree_count(tree); i++) {
        int error = kube_decode_part(form->type, tree_at(tree, i), arena, (char *)list->items + i * form->type->size, &diag);
        if (error == -ENOMEM)
            return error;
        if (error)
            break;
        list->count++;
    }
    return 0;
}

/* Copies without the converter's own: what a stored object has in its metadata is the user's. The four may stand there, written by old clients. */
static int own_annotations(struct kube_object *to, bool drop) {
    struct kube_string_map given = to->metadata->annotations, *map = &to->metadata->annotations;
    *map = (struct kube_string_map){.items = ARENA_ARRAY(to->arena, struct kube_string_pair, given.count + 4)};
    if (!map->items)
        return -ENOMEM;
    for (size_t i = 0; i < given.count; i++) {
        const char *key = given.items[i].key;
        bool ours = strcmp(key, metric_list.annotation) == 0 || strcmp(key, current_list.annotation) == 0 ||
                    strcmp(key, condition_list.annotation) == 0 || strcmp(key, behavior_annotation) == 0;
        if (!drop || !ours)
            map->items[map->count++] = given.items[i];
    }
    if (map->count == 0)
        map->items = NULL;
    return 0;
}

/* The first letter of every name to capitals, or back. */
static void change_case(struct tree *tree, bool up) {
    if (!tree || (tree->type != TREE_MAP && tree->type != TREE_LIST))
        return;
    for (size_t i = 0; i < tree_count(tree); i++) {
        struct tree_entry *entry = &tree->children->items[i];
        change_case(entry->value, up);
        if (tree->type != TREE_MAP || entry->key.len == 0)
            continue;
        char *first = (char *)(uintptr_t)entry->key.data; /* in our own arena */
        if (up ? *first >= 'a' && *first <= 'z' : *first >= 'A' && *first <= 'Z')
            *first = (char)(*first ^ 0x20);
    }
}

static int write_behavior(struct kube_object *object, const struct kube_v2_horizontal_pod_autoscaler_behavior *behavior) {
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(ANNOTATION_BYTES_MAX), plain = BUFFER_INIT(ANNOTATION_BYTES_MAX);
    struct tree *tree = NULL;
    if (!behavior)
        return 0;
    if (kube_encode_part(&kube_v2_horizontal_pod_autoscaler_behavior_type, behavior, &plain) != 0 ||
        json_parse(object->arena, buffer_slice(&plain), NULL, &tree, NULL) != 0)
        return -ENOMEM;
    change_case(tree, true);
    json_format(&json, tree);
    return annotate(object, behavior_annotation, &json);
}

static int read_behavior(const struct kube_object *from, struct arena *arena, struct kube_v2_horizontal_pod_autoscaler_behavior **ret) {
    struct tree *tree = read_annotation(from, arena, behavior_annotation);
    struct kube_v2_horizontal_pod_autoscaler_behavior *behavior = ARENA_NEW(arena, struct kube_v2_horizontal_pod_autoscaler_behavior);
    struct diag diag = DIAG_INIT;
    if (!behavior)
        return -ENOMEM;
    if (!tree)
        return 0;
    change_case(tree, false);
    int error = kube_decode_part(&kube_v2_horizontal_pod_autoscaler_behavior_type, tree, arena, behavior, &diag);
    if (error == 0)
        *ret = behavior;
    return error == -ENOMEM ? error : 0;
}

/* ---- metrics, v2 to v1 ---- */

static struct kube_cross_version_object_reference reference_to_v1(const struct kube_v2_cross_version_object_reference *from) {
    return (struct kube_cross_version_object_reference){.kind = from->kind, .name = from->name, .api_version = from->api_version};
}

static struct kube_v2_cross_version_object_reference reference_to_v2(const struct kube_cross_version_object_reference *from) {
    return (struct kube_v2_cross_version_object_reference){.kind = from->kind, .name = from->name, .api_version = from->api_version};
}

static struct kube_quantity quantity_or_zero(const struct kube_quantity *quantity) {
    return quantity ? *quantity : (struct kube_quantity){.text = "0"};
}

static bool is_cpu(const char *type, const struct kube_v2_resource_metric_source *resource) {
    return kube_text_is(type, "Resource") && resource && kube_text_is(resource->name, "cpu");
}

#define HANG(pointer, arena, ...)                                                                                                                    \
    do {                                                                                                                                             \
        (pointer) = arena_alloc(arena, sizeof *(pointer));                                                                                           \
        if (!(pointer))                                                                                                                              \
            return -ENOMEM;                                                                                                                          \
        *(pointer) = (__typeof__(*(pointer)))__VA_ARGS__;                                                                                            \
    } while (0)

static int metric_to_v1(struct arena *arena, const struct kube_v2_metric_spec *from, struct kube_metric_spec *to) {
    to->type = from->type;
    if (from->object)
        HANG(to->object, arena,
             {.target = reference_to_v1(&from->object->described_object),
              .metric_name = from->object->metric.name,
              .target_value = quantity_or_zero(from->object->target.value),
              .selector = from->object->metric.selector,
              .average_value = from->object->target.average_value});
    if (from->pods)
        HANG(to->pods, arena,
             {.metric_name = from->pods->metric.name,
              .target_average_value = quantity_or_zero(from->pods->target.average_value),
              .selector = from->pods->metric.selector});
    if (from->resource)
        HANG(to->resource, arena,
             {.name = from->resource->name,
              .target_average_utilization = from->resource->target.average_utilization,
              .target_average_value = from->resource->target.average_value});
    if (from->container_resource)
        HANG(to->container_resource, arena,
             {.name = from->container_resource->name,
              .container = from->container_resource->container,
              .target_average_utilization = from->container_resource->target.average_utilization,
              .target_average_value = from->container_resource->target.average_value});
    if (from->external)
        HANG(to->external, arena,
             {.metric_name = from->external->metric.name,
              .metric_selector = from->external->metric.selector,
              .target_value = from->external->target.value,
              .target_average_value = from->external->target.average_value});
    return 0;
}

static int status_to_v1(struct arena *arena, const struct kube_v2_metric_status *from, struct kube_metric_status *to) {
    to->type = from->type;
    if (from->object)
        HANG(to->object, arena,
             {.target = reference_to_v1(&from->object->described_object),
              .metric_name = from->object->metric.name,
              .current_value = quantity_or_zero(from->object->current.value),
              .selector = from->object->metric.selector,
              .average_value = from->object->current.average_value});
    if (from->pods)
        HANG(to->pods, arena,
             {.metric_name = from->pods->metric.name,
              .current_average_value = quantity_or_zero(from->pods->current.average_value),
              .selector = from->pods->metric.selector});
    if (from->resource)
        HANG(to->resource, arena,
             {.name = from->resource->name,
              .current_average_utilization = from->resource->current.average_utilization,
              .current_average_value = quantity_or_zero(from->resource->current.average_value)});
    if (from->container_resource)
        HANG(to->container_resource, arena,
             {.name = from->container_resource->name,
              .container = from->container_resource->container,
              .current_average_utilization = from->container_resource->current.average_utilization,
              .current_average_value = quantity_or_zero(from->container_resource->current.average_value)});
    if (from->external)
        HANG(to->external, arena,
             {.metric_name = from->external->metric.name,
              .metric_selector = from->external->metric.selector,
              .current_value = quantity_or_zero(from->external->current.value),
              .current_average_value = from->external->current.average_value});
    return 0;
}

static int autoscaler_from_stored(const struct kube_object *from, struct kube_object *to) {
    const struct kube_v2_horizontal_pod_autoscaler_spec *spec = &from->horizontal_pod_autoscaler->spec;
    const struct kube_v2_horizontal_pod_autoscaler_status *status = &from->horizontal_pod_autoscaler->status;
    struct kube_horizontal_pod_autoscaler *out = to->v1_horizontal_pod_autoscaler;
    struct kube_metric_spec *metrics = ARENA_ARRAY(to->arena, struct kube_metric_spec, spec->metrics.count + 1);
    struct kube_metric_status *current = ARENA_ARRAY(to->arena, struct kube_metric_status, status->current_metrics.count + 1);
    size_t others = 0;
    int error = metrics && current ? own_annotations(to, true) : -ENOMEM;
    out->spec.scale_target_ref = reference_to_v1(&spec->scale_target_ref);
    out->spec.min_replicas = spec->min_replicas;
    out->spec.max_replicas = spec->max_replicas;
    for (size_t i = 0; i < spec->metrics.count && error == 0; i++) {
        const struct kube_v2_metric_spec *metric = &spec->metrics.items[i];
        if (is_cpu(metric->type, metric->resource) && metric->resource->target.average_utilization && !out->spec.target_cpu_utilization_percentage)
            out->spec.target_cpu_utilization_percentage = metric->resource->target.average_utilization;
        else
            error = metric_to_v1(to->arena, metric, &metrics[others++]);
    }
    out->status.observed_generation = status->observed_generation;
    out->status.last_scale_time = status->last_scale_time;
    out->status.current_replicas = status->current_replicas;
    out->status.desired_replicas = status->desired_replicas;
    for (size_t i = 0; i < status->current_metrics.count && error == 0; i++) {
        const struct kube_v2_metric_status *metric = &status->current_metrics.items[i];
        if (kube_text_is(metric->type, "Resource") && metric->resource && kube_text_is(metric->resource->name, "cpu"))
            out->status.current_cpu_utilization_percentage = metric->resource->current.average_utilization;
        error = status_to_v1(to->arena, metric, &current[i]);
    }
    if (error == 0)
        error = write_list(to, &metric_list, &(struct kube_array){metrics, others});
    if (error == 0)
        error = write_list(to, &current_list, &(struct kube_array){current, status->current_metrics.count});
    if (error == 0) /* the conditions of both versions have the same fields */
        error = write_list(to, &condition_list, &(struct kube_array){status->conditions.items, status->conditions.count});
    return error ? error : write_behavior(to, spec->behavior);
}

/* ---- metrics, v1 to v2 ---- */

/* What v1 writes as "0" because it cannot leave it out. */
static struct kube_quantity *present(struct arena *arena, struct kube_quantity quantity) {
    struct kube_quantity *copy = quantity.text && quantity.milli != 0 ? ARENA_NEW(arena, struct kube_quantity) : NULL;
    if (copy)
        *copy = quantity;
    return copy;
}

static struct kube_v2_metric_target target_of(int32_t *utilization, struct kube_quantity *average, struct kube_quantity *value) {
    return (struct kube_v2_metric_target){
        .type = utilization ? "Utilization"
                : average   ? "AverageValue"
                            : "Value",
        .average_utilization = utilization,
        .average_value = average,
        .value = average ? NULL : value,
    };
}

static int metric_to_v2(struct arena *arena, const struct kube_metric_spec *from, struct kube_v2_metric_spec *to) {
    to->type = from->type;
    if (from->object)
        HANG(to->object, arena,
             {.described_object = reference_to_v2(&from->object->target),
              .metric = {.name = from->object->metric_name, .selector = from->object->selector},
              .target = target_of(NULL, from->object->average_value, present(arena, from->object->target_value))});
    if (from->pods)
        HANG(to->pods, arena,
             {.metric = {.name = from->pods->metric_name, .selector = from->pods->selector},
              .target = {.type = "AverageValue", .average_value = present(arena, from->pods->target_average_value)}});
    if (from->resource)
        HANG(to->resource, arena,
             {.name = from->resource->name,
              .target = target_of(from->resource->target_average_utilization, from->resource->target_average_value, NULL)});
    if (from->container_resource)
        HANG(to->container_resource, arena,
             {.name = from->container_resource->name,
              .container = from->container_resource->container,
              .target = target_of(from->container_resource->target_average_utilization, from->container_resource->target_average_value, NULL)});
    if (from->external)
        HANG(to->external, arena,
             {.metric = {.name = from->external->metric_name, .selector = from->external->metric_selector},
              .target = target_of(NULL, from->external->target_average_value, from->external->target_value)});
    return 0;
}

static int status_to_v2(struct arena *arena, const struct kube_metric_status *from, struct kube_v2_metric_status *to) {
    to->type = from->type;
    if (from->object)
        HANG(to->object, arena,
             {.described_object = reference_to_v2(&from->object->target),
              .metric = {.name = from->object->metric_name, .selector = from->object->selector},
              .current = {.value = present(arena, from->object->current_value), .average_value = from->object->average_value}});
    if (from->pods)
        HANG(to->pods, arena,
             {.metric = {.name = from->pods->metric_name, .selector = from->pods->selector},
              .current = {.average_value = present(arena, from->pods->current_average_value)}});
    if (from->resource)
        HANG(to->resource, arena,
             {.name = from->resource->name,
              .current = {.average_utilization = from->resource->current_average_utilization,
                          .average_value = present(arena, from->resource->current_average_value)}});
    if (from->container_resource)
        HANG(to->container_resource, arena,
             {.name = from->container_resource->name,
              .container = from->container_resource->container,
              .current = {.average_utilization = from->container_resource->current_average_utilization,
                          .average_value = present(arena, from->container_resource->current_average_value)}});
    if (from->external)
        HANG(to->external, arena,
             {.metric = {.name = from->external->metric_name, .selector = from->external->metric_selector},
              .current = {.value = present(arena, from->external->current_value), .average_value = from->external->current_average_value}});
    return 0;
}

static int cpu_metric(struct arena *arena, const int32_t *percent, struct kube_v2_metric_spec *to) {
    int32_t *copy = ARENA_NEW(arena, int32_t);
    if (!copy)
        return -ENOMEM;
    *copy = percent ? *percent : CPU_PERCENT_DEFAULT;
    to->type = "Resource";
    HANG(to->resource, arena, {.name = "cpu", .target = {.type = "Utilization", .average_utilization = copy}});
    return 0;
}

static int spec_to_stored(const struct kube_object *from, struct kube_object *to) {
    const struct kube_horizontal_pod_autoscaler_spec *spec = &from->v1_horizontal_pod_autoscaler->spec;
    struct kube_v2_horizontal_pod_autoscaler_spec *out = &to->horizontal_pod_autoscaler->spec;
    struct kube_array others;
    int error = read_list(from, to->arena, &metric_list, &others);
    if (error)
        return error;
    out->scale_target_ref = reference_to_v2(&spec->scale_target_ref);
    out->min_replicas = spec->min_replicas;
    out->max_replicas = spec->max_replicas;
    out->metrics.items = ARENA_ARRAY(to->arena, struct kube_v2_metric_spec, others.count + 1);
    if (!out->metrics.items)
        return -ENOMEM;
    if (spec->target_cpu_utilization_percentage || others.count == 0)
        error = cpu_metric(to->arena, spec->target_cpu_utilization_percentage, &out->metrics.items[out->metrics.count++]);
    for (size_t i = 0; i < others.count && error == 0; i++)
        error = metric_to_v2(to->arena, &((struct kube_metric_spec *)others.items)[i], &out->metrics.items[out->metrics.count++]);
    return error ? error : read_behavior(from, to->arena, &out->behavior);
}

static int status_to_stored(const struct kube_object *from, struct kube_object *to) {
    const struct kube_horizontal_pod_autoscaler_status *status = &from->v1_horizontal_pod_autoscaler->status;
    struct kube_v2_horizontal_pod_autoscaler_status *out = &to->horizontal_pod_autoscaler->status;
    struct kube_array current, conditions;
    int error = read_list(from, to->arena, &current_list, &current);
    if (error == 0)
        error = read_list(from, to->arena, &condition_list, &conditions);
    if (error)
        return error;
    out->observed_generation = status->observed_generation;
    out->last_scale_time = status->last_scale_time;
    out->current_replicas = status->current_replicas;
    out->desired_replicas = status->desired_replicas;
    out->conditions.items = conditions.items;
    out->conditions.count = conditions.count;
    out->current_metrics.items = ARENA_ARRAY(to->arena, struct kube_v2_metric_status, current.count + 1);
    if (!out->current_metrics.items)
        return -ENOMEM;
    for (size_t i = 0; i < current.count && error == 0; i++)
        error = status_to_v2(to->arena, &((struct kube_metric_status *)current.items)[i], &out->current_metrics.items[out->current_metrics.count++]);
    if (current.count > 0 || !status->current_cpu_utilization_percentage || error)
        return error;
    out->current_metrics.items[out->current_metrics.count++].type = "Resource";
    HANG(out->current_metrics.items[0].resource, to->arena,
         {.name = "cpu", .current = {.average_utilization = status->current_cpu_utilization_percentage}});
    return 0;
}

static int autoscaler_to_stored(const struct kube_object *from, struct kube_object *to) {
    int error = spec_to_stored(from, to);
    if (error == 0)
        error = status_to_stored(from, to);
    return error ? error : own_annotations(to, true);
}

const struct kube_conversion kube_conversion_autoscaler = {autoscaler_from_stored, autoscaler_to_stored};

/* What may change of a running pod's resources (pods/resize), in upstream's words: cpu and memory of its containers and sidecars; nothing is taken
 * away, and the pod stays in its class. */
#include <stdio.h>

#include "kube/validate_priv.h"

static bool is_removed(const struct kube_quantity_map *now, const struct kube_quantity_map *before) {
    for (size_t i = 0; i < before->count; i++)
        if (!kube_pair_find(now, sizeof *now->items, before->items[i].key))
            return true;
    return false;
}

static void check_resources(struct validator *validator, const struct kube_resource_requirements *now,
                            const struct kube_resource_requirements *before) {
    if (is_removed(&now->requests, &before->requests))
        fail_forbidden(validator, "requests", "resource requests cannot be removed");
    if (is_removed(&now->limits, &before->limits))
        fail_forbidden(validator, "limits", "resource limits cannot be removed");
}

/* They are told apart by their place from here on. */
static bool check_names(struct validator *validator, const char *list, const struct kube_container_array *now,
                        const struct kube_container_array *before) {
    char field[64];
    snprintf(field, sizeof field, "spec.%s", list);
    if (now->count != before->count) {
        fail_forbidden(validator, field, "%s may not be added or removed on resize", list);
        return false;
    }
    for (size_t i = 0; i < now->count; i++) {
        if (kube_text_is(now->items[i].name, before->items[i].name))
            continue;
        snprintf(field, sizeof field, "spec.%s[%zu].name", list, i);
        fail_forbidden(validator, field, "%s may not be renamed or reordered on resize", list);
        return false;
    }
    return true;
}

static void check_containers(struct validator *validator, const char *list, const struct kube_container_array *now,
                             const struct kube_container_array *before, bool is_init) {
    size_t outer = kube_path_push_field(&validator->path, "spec");
    for (size_t i = 0; i < now->count; i++) {
        const struct kube_resource_requirements *resources = &now->items[i].resources, *old = &before->items[i].resources;
        size_t at = kube_path_push_field(&validator->path, list);
        kube_path_push_index(&validator->path, i);
        kube_path_push_field(&validator->path, "resources");
        if (!is_init || kube_text_is(before->items[i].restart_policy, "Always"))
            check_resources(validator, resources, old);
        else if (!kube_equal(&kube_resource_requirements_type, resources, old))
            fail_forbidden(validator, NULL, "resources for non-sidecar init containers are immutable");
        kube_path_pop(&validator->path, at);
    }
    kube_path_pop(&validator->path, outer);
}

/* cpu and memory of one map become those of another. */
static int take_compute(struct kube_quantity_map *to, struct arena *arena, const struct kube_quantity_map *from) {
    static const char *const names[] = {"cpu", "memory"};
    int error = 0;
    for (size_t i = 0; i < ARRAY_LEN(names) && !error; i++) {
        const struct kube_quantity_pair *pair = kube_pair_find(from, sizeof *pair, names[i]);
        if (pair)
            error = kube_quantities_set(to, arena, names[i], pair->value);
    }
    return error;
}

static int take_containers(struct kube_container_array *to, struct arena *arena, const struct kube_container_array *from) {
    int error = 0;
    for (size_t i = 0; i < to->count && !error; i++) {
        struct kube_resource_requirements *resources = &to->items[i].resources;
        error = take_compute(&resources->requests, arena, &from->items[i].resources.requests);
        error = error ? error : take_compute(&resources->limits, arena, &from->items[i].resources.limits);
    }
    return error;
}

/* The old spec with cpu and memory as they are to be: what still differs may not. */
static void check_rest(struct validator *validator, const struct kube_pod_spec *now, const struct kube_pod_spec *before) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(OBJECT_ARENA_BYTES_MAX);
    struct kube_pod_spec *allowed = arena ? ARENA_NEW(arena, struct kube_pod_spec) : NULL;
    if (!allowed || kube_copy(&kube_pod_spec_type, arena, before, allowed) || take_containers(&allowed->containers, arena, &now->containers) ||
        take_containers(&allowed->init_containers, arena, &now->init_containers))
        validator->no_memory = true;
    else if (!kube_equal(&kube_pod_spec_type, allowed, now))
        fail_forbidden(validator, "spec", "only cpu and memory resources are mutable");
}

void validate_pod_resize(struct validator *validator, const void *data, const void *old) {
    const struct kube_pod *pod = data, *before = old;
    const char *class = kube_text_or(before->status.qos_class, kube_pod_qos_class(&before->spec));
    if (strcmp(class, kube_pod_qos_class(&pod->spec)) != 0)
        fail_text(validator, "spec", class, "Pod QOS Class may not change as a result of resizing");
    if (kube_pod_level(&before->spec))
        fail_forbidden(validator, "spec", "pods with pod-level resources cannot be resized");
    bool same = check_names(validator, "containers", &pod->spec.containers, &before->spec.containers);
    same = check_names(validator, "initContainers", &pod->spec.init_containers, &before->spec.init_containers) && same;
    if (!same)
        return;
    check_containers(validator, "initContainers", &pod->spec.init_containers, &before->spec.init_containers, true);
    check_containers(validator, "containers", &pod->spec.containers, &before->spec.containers, false);
    check_rest(validator, &pod->spec, &before->spec);
}

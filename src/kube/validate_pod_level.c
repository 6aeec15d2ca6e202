/* Resources of the pod as a whole (spec.resources, KEP-2837): only some, no less than its containers request together, no less than each may use. */
#include "kube/validate_priv.h"

#include <stdio.h>

static void fail_pod_level(struct validator *validator, const char *field, const char *key, const char *value, const char *what, const char *bound) {
    char path[400];
    snprintf(path, sizeof path, "resources.%s[%s]", field, key);
    fail_text(validator, path, value, "must be %s of %s", what, bound);
}

static void check_pod_level_names(struct validator *validator, const struct kube_quantity_map *map, const char *field) {
    static const char *const supported[] = {"cpu", "hugepages-", "memory", NULL};
    char path[400];
    for (size_t i = 0; i < map->count; i++) {
        snprintf(path, sizeof path, "resources.%s[%s]", field, map->items[i].key);
        if (!kube_pod_level_supports(map->items[i].key))
            fail_supported(validator, path, map->items[i].key, supported);
    }
}

static void check_limits_within(struct validator *validator, const struct kube_container_array *list, const char *name,
                                const struct kube_quantity_map *pod) {
    for (size_t i = 0; i < list->count; i++)
        for (size_t k = 0; k < list->items[i].resources.limits.count; k++) {
            const struct kube_quantity_pair *limit = &list->items[i].resources.limits.items[k], *all = kube_pair_find(pod, sizeof *all, limit->key);
            char field[100];
            snprintf(field, sizeof field, "%s[%zu]", name, i);
            if (all && limit->value.milli > all->value.milli)
                fail_pod_level(validator, field, limit->key, limit->value.text, "less than or equal to pod limits", all->value.text);
        }
}

/* Whoever wrote them before they were looked at may still change everything else. */
void validate_pod_level(struct validator *validator, const struct kube_pod_spec *spec) {
    CLEANUP(arena_freep) struct arena *arena = spec->resources && !validator->old ? arena_new(OBJECT_ARENA_BYTES_MAX) : NULL;
    struct kube_quantity_map together;
    if (!spec->resources || validator->old)
        return;
    check_pod_level_names(validator, &spec->resources->limits, "limits");
    check_pod_level_names(validator, &spec->resources->requests, "requests");
    if (spec->resources->claims.count)
        fail_forbidden(validator, "resources.claims", "claims may not be set for Resources at pod-level");
    if (!arena || kube_pod_container_requests(spec, arena, &together) < 0) {
        validator->no_memory = true;
        return;
    }
    for (size_t i = 0; i < together.count; i++) {
        const struct kube_quantity_pair *sum = &together.items[i], *all = kube_pair_find(&spec->resources->requests, sizeof *all, sum->key);
        if (all && sum->value.milli > all->value.milli)
            fail_pod_level(validator, "requests", sum->key, all->value.text, "greater than or equal to aggregate container requests",
                           sum->value.text);
    }
    check_limits_within(validator, &spec->containers, "containers", &spec->resources->limits);
    check_limits_within(validator, &spec->init_containers, "initContainers", &spec->resources->limits);
}

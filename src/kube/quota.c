/* What objects count for resource quotas: the one source for admission, which refuses what would exceed a quota, and for the controller, which
 * recounts. Follows Kubernetes' quota evaluators (pods, services, claims, and plain counts for every other kind). Pure. */
#include "kube/helpers_priv.h"

#include <stdio.h>

#define PREFIX_MAX 320 /* "<storage class>.storageclass.storage.k8s.io/persistentvolumeclaims" */

/* --- sums of quantities --- */

static bool is_binary(const char *text) {
    size_t len = text ? strlen(text) : 0;
    return len > 0 && text[len - 1] == 'i';
}

int kube_quantities_set(struct kube_quantity_map *map, struct arena *arena, const char *key, struct kube_quantity value) {
    struct kube_quantity_pair *pair = kube_pair_add(map, arena, sizeof *pair, key);
    if (!pair)
        return -ENOMEM;
    pair->value = value;
    return 0;
}

int kube_quantities_add(struct kube_quantity_map *map, struct arena *arena, const char *key, struct kube_quantity value, int sign) {
    struct kube_quantity_pair *pair = kube_pair_add(map, arena, sizeof *pair, key);
    char text[64];
    if (!pair)
        return -ENOMEM;
    bool binary = is_binary(pair->value.milli ? pair->value.text : value.text);
    int64_t change = sign < 0 ? -value.milli : value.milli;
    if (__builtin_add_overflow(pair->value.milli, change, &pair->value.milli))
        pair->value.milli = change > 0 ? INT64_MAX : INT64_MIN + 1;
    quantity_format(pair->value.milli, binary, text);
    pair->value.text = arena_strdup(arena, text);
    return pair->value.text ? 0 : -ENOMEM;
}

struct kube_quantity kube_quantity_of(struct arena *arena, int64_t value) {
    char text[64];
    quantity_format(value * 1000, false, text);
    return (struct kube_quantity){arena_strdup(arena, text), value * 1000};
}

/* --- pods --- */

static bool is_compute(const char *resource) {
    return !strcmp(resource, "cpu") || !strcmp(resource, "memory") || !strcmp(resource, "ephemeral-storage");
}

static bool is_huge(const char *resource) {
    return !strncmp(resource, "hugepages-", 10);
}

/* A device and the like: "vendor.example/gpu". */
static bool is_extended(const char *resource) {
    const char *slash = strchr(resource, '/');
    if (!slash || !strncmp(resource, "requests.", 9))
        return false;
    struct slice domain = slice_make(resource, (size_t)(slash - resource));
    return !slice_is(domain, "kubernetes.io") && !slice_ends(domain, SLICE(".kubernetes.io"));
}

static int add_compute(struct kube_quantity_map *ret, struct arena *arena, const struct kube_quantity_map *map, bool limits) {
    char name[PREFIX_MAX];
    int error = 0;
    for (size_t i = 0; i < map->count && !error; i++) {
        const struct kube_quantity_pair *pair = &map->items[i];
        bool plain = !limits && (is_compute(pair->key) || is_huge(pair->key));
        bool prefixed = is_compute(pair->key) || (!limits && (is_huge(pair->key) || is_extended(pair->key)));
        snprintf(name, sizeof name, "%s.%s", limits ? "limits" : "requests", pair->key);
        if (plain)
            error = kube_quantities_set(ret, arena, pair->key, pair->value);
        if (prefixed && !error)
            error = kube_quantities_set(ret, arena, name, pair->value);
    }
    return error;
}

int kube_quota_container_usage(const struct kube_resource_requirements *resources, struct arena *arena, struct kube_quantity_map *ret) {
    *ret = (struct kube_quantity_map){.count = 0};
    int error = add_compute(ret, arena, &resources->requests, false);
    return error ? error : add_compute(ret, arena, &resources->limits, true);
}

static int count_pod(const struct kube_pod *pod, struct arena *arena, struct kube_quantity_map *ret) {
    struct kube_quantity_map requests, limits;
    if (kube_text_is(pod->status.phase, "Succeeded") || kube_text_is(pod->status.phase, "Failed"))
        return 0; /* it only takes room in the store */
    int error = kube_pod_resources_held(pod, arena, &requests, &limits);
    error = error ? error : kube_quantities_set(ret, arena, "pods", kube_quantity_of(arena, 1));
    error = error ? error : add_compute(ret, arena, &requests, false);
    return error ? error : add_compute(ret, arena, &limits, true);
}

/* --- services, claims --- */

static int count_service(const struct kube_service_spec *spec, struct arena *arena, struct kube_quantity_map *ret) {
    int64_t ports = 0, balancers = kube_text_is(spec->type, "LoadBalancer");
    bool allocated = !spec->allocate_load_balancer_node_ports || *spec->allocate_load_balancer_node_ports;
    for (size_t i = 0; i < spec->ports.count; i++)
        ports += kube_text_is(spec->type, "NodePort") || (balancers && (allocated || spec->ports.items[i].node_port));
    int error = kube_quantities_set(ret, arena, "services.nodeports", kube_quantity_of(arena, ports));
    return error ? error : kube_quantities_set(ret, arena, "services.loadbalancers", kube_quantity_of(arena, balancers));
}

static int count_claim(const struct kube_persistent_volume_claim *claim, struct arena *arena, struct kube_quantity_map *ret) {
    static const char infix[] = ".storageclass.storage.k8s.io/";
    const struct kube_quantity_pair *request = kube_pair_find(&claim->spec.resources.requests, sizeof *request, "storage");
    const char *class = claim->spec.storage_class_name;
    char name[PREFIX_MAX];
    int error = request ? kube_quantities_set(ret, arena, "requests.storage", request->value) : 0;
    if (!class || !*class)
        return error;
    snprintf(name, sizeof name, "%.253s%spersistentvolumeclaims", class, infix);
    error = error ? error : kube_quantities_set(ret, arena, name, kube_quantity_of(arena, 1));
    snprintf(name, sizeof name, "%.253s%srequests.storage", class, infix);
    return error || !request ? error : kube_quantities_set(ret, arena, name, request->value);
}

/* --- all kinds --- */

/* Counted by their plural too, besides count/…; pods only as long as they run. */
static bool has_plain_count(const struct kube_kind *kind) {
    static const struct kube_kind *const kinds[] = {&kube_kind_service,        &kube_kind_config_map,
                                                    &kube_kind_secret,         &kube_kind_replication_controller,
                                                    &kube_kind_resource_quota, &kube_kind_persistent_volume_claim};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i] == kind)
            return true;
    return false;
}

int kube_quota_usage(const struct kube_object *object, struct arena *arena, struct kube_quantity_map *ret) {
    const struct kube_kind *kind = object->kind;
    char name[PREFIX_MAX];
    *ret = (struct kube_quantity_map){.count = 0};
    snprintf(name, sizeof name, "count/%s", kube_kind_key(kind));
    int error = kube_quantities_set(ret, arena, name, kube_quantity_of(arena, 1));
    if (!error && has_plain_count(kind))
        error = kube_quantities_set(ret, arena, kind->plural, kube_quantity_of(arena, 1));
    if (!error && kind == &kube_kind_pod)
        error = count_pod(object->pod, arena, ret);
    else if (!error && kind == &kube_kind_service)
        error = count_service(&object->service->spec, arena, ret);
    else if (!error && kind == &kube_kind_persistent_volume_claim)
        error = count_claim(object->persistent_volume_claim, arena, ret);
    return error;
}

static bool is_pod_resource(const char *resource) {
    static const char *const prefixes[] = {"requests.", "limits."};
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        size_t len = strlen(prefixes[i]);
        if (!strncmp(resource, prefixes[i], len))
            return is_compute(resource + len) || (i == 0 && (is_huge(resource + len) || is_extended(resource + len)));
    }
    return !strcmp(resource, "pods") || is_compute(resource) || is_huge(resource);
}

bool kube_quota_concerns(const struct kube_kind *kind, const char *resource) {
    if (!strncmp(resource, "count/", 6))
        return !strcmp(resource + 6, kube_kind_key(kind));
    if (has_plain_count(kind) && !strcmp(resource, kind->plural))
        return true;
    if (kind == &kube_kind_pod)
        return is_pod_resource(resource);
    if (kind == &kube_kind_service)
        return !strcmp(resource, "services.nodeports") || !strcmp(resource, "services.loadbalancers");
    return kind == &kube_kind_persistent_volume_claim &&
           (!strcmp(resource, "requests.storage") || strstr(resource, ".storageclass.storage.k8s.io/") != NULL);
}

/* --- scopes --- */

static bool is_best_effort(const struct kube_pod_spec *spec) {
    if (kube_pod_level(spec))
        return strcmp(kube_pod_qos_class(spec), "BestEffort") == 0;
    const struct kube_container_array *const lists[] = {&spec->containers, &spec->init_containers};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->count; i++) {
            const struct kube_quantity_map *const maps[] = {&lists[l]->items[i].resources.requests, &lists[l]->items[i].resources.limits};
            for (size_t m = 0; m < ARRAY_LEN(maps); m++)
                if (kube_quantity_milli(maps[m], "cpu", 0) > 0 || kube_quantity_milli(maps[m], "memory", 0) > 0)
                    return false;
        }
    return true;
}

static bool term_crosses(const struct kube_pod_affinity_term *term) {
    return term->namespaces.count > 0 || term->namespace_selector;
}

static bool terms_cross(const struct kube_pod_affinity_term_array *required, const struct kube_weighted_pod_affinity_term_array *preferred) {
    for (size_t i = 0; i < required->count; i++)
        if (term_crosses(&required->items[i]))
            return true;
    for (size_t i = 0; i < preferred->count; i++)
        if (term_crosses(&preferred->items[i].pod_affinity_term))
            return true;
    return false;
}

static bool crosses_namespaces(const struct kube_affinity *affinity) {
    const struct kube_pod_affinity *with = affinity ? affinity->pod_affinity : NULL;
    const struct kube_pod_anti_affinity *without = affinity ? affinity->pod_anti_affinity : NULL;
    return (with &&
            terms_cross(&with->required_during_scheduling_ignored_during_execution, &with->preferred_during_scheduling_ignored_during_execution)) ||
           (without && terms_cross(&without->required_during_scheduling_ignored_during_execution,
                                   &without->preferred_during_scheduling_ignored_during_execution));
}

static bool has_value(const struct kube_string_list *values, const char *value) {
    for (size_t i = 0; i < values->count; i++)
        if (kube_text_is(value, values->items[i]))
            return true;
    return false;
}

static bool fits_class(const char *class, const char *operator, const struct kube_string_list * values) {
    bool set = class && *class;
    if (kube_text_is(operator, "In"))
        return set && has_value(values, class);
    if (kube_text_is(operator, "NotIn"))
        return !set || !has_value(values, class);
    return kube_text_is(operator, "DoesNotExist") ? !set : set;
}

static bool in_scope(const struct kube_pod *pod, const char *scope, const char *operator, const struct kube_string_list * values) {
    const struct kube_pod_spec *spec = &pod->spec;
    bool ends = spec->active_deadline_seconds && *spec->active_deadline_seconds >= 0;
    if (!strcmp(scope, "Terminating") || !strcmp(scope, "NotTerminating"))
        return ends == !strcmp(scope, "Terminating");
    if (!strcmp(scope, "BestEffort") || !strcmp(scope, "NotBestEffort"))
        return is_best_effort(spec) == !strcmp(scope, "BestEffort");
    if (!strcmp(scope, "PriorityClass"))
        return fits_class(spec->priority_class_name, operator, values);
    return !strcmp(scope, "CrossNamespacePodAffinity") && crosses_namespaces(spec->affinity);
}

bool kube_quota_covers(const struct kube_resource_quota *quota, const struct kube_object *object) {
    static const struct kube_string_list none = {NULL, 0};
    const struct kube_string_list *scopes = &quota->spec.scopes;
    const struct kube_scope_selector *selector = quota->spec.scope_selector;
    size_t expressions = selector ? selector->match_expressions.count : 0;
    if (object->kind != &kube_kind_pod)
        return scopes->count + expressions == 0; /* scopes are about pods */
    for (size_t i = 0; i < scopes->count; i++)
        if (!in_scope(object->pod, scopes->items[i], "Exists", &none))
            return false;
    for (size_t i = 0; i < expressions; i++) {
        const struct kube_scoped_resource_selector_requirement *it = &selector->match_expressions.items[i];
        if (!in_scope(object->pod, it->scope_name ? it->scope_name : "", it->operator, & it->values))
            return false;
    }
    return true;
}

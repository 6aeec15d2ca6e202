/* What the server fills in when a pod is created, besides what has a file of its own: its phase and quality of service, tolerations of a node that
 * is away for a while (DefaultTolerationSeconds), and what a runtime class says (RuntimeClass). */
#include "api/admission_priv.h"

int admit_pod(struct admission *admission) {
    struct kube_pod *pod = admission->object->pod;
    if (!pod->status.phase)
        pod->status.phase = "Pending";
    pod->status.qos_class = kube_pod_qos_class(&pod->spec);
    return 0;
}

/* --- tolerations --- */

#define TOLERATION_SECONDS 300

static int add_toleration(struct kube_object *object, const struct kube_toleration *toleration) {
    struct kube_toleration_array *list = &object->pod->spec.tolerations;
    struct kube_toleration *items = ARENA_ARRAY(object->arena, struct kube_toleration, list->count + 1);
    if (!items)
        return -ENOMEM;
    if (list->count)
        memcpy(items, list->items, list->count * sizeof *items);
    if (kube_copy(&kube_toleration_type, object->arena, toleration, &items[list->count]))
        return -ENOMEM;
    *list = (struct kube_toleration_array){items, list->count + 1};
    return 0;
}

static bool tolerates(const struct kube_toleration_array *list, const char *key) {
    for (size_t i = 0; i < list->count; i++) {
        const struct kube_toleration *it = &list->items[i];
        bool same = !it->key || !*it->key || !strcmp(it->key, key);
        if (same && (!it->effect || !*it->effect || !strcmp(it->effect, "NoExecute")))
            return true;
    }
    return false;
}

int admit_tolerations(struct admission *admission) {
    static const char *const keys[] = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"};
    struct kube_object *object = admission->object;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        int64_t seconds = TOLERATION_SECONDS;
        const struct kube_toleration toleration = {.key = keys[i], .operator= "Exists", .effect = "NoExecute", .toleration_seconds = &seconds};
        if (!tolerates(&object->pod->spec.tolerations, keys[i]) && add_toleration(object, &toleration))
            return admission_no_memory(admission);
    }
    return 0;
}

/* --- runtime classes --- */

static int merge_scheduling(struct admission *admission, const struct kube_scheduling *scheduling) {
    struct kube_object *object = admission->object;
    struct kube_pod_spec *spec = &object->pod->spec;
    for (size_t i = 0; i < scheduling->node_selector.count; i++) {
        const struct kube_string_pair *pair = &scheduling->node_selector.items[i];
        const char *own = kube_map_find(&spec->node_selector, pair->key);
        if (own && strcmp(own, pair->value))
            return admission_forbid(admission, "conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", pair->key,
                                    pair->value, pair->key, own);
        if (kube_map_set(&spec->node_selector, object->arena, pair->key, pair->value))
            return admission_no_memory(admission);
    }
    for (size_t i = 0; i < scheduling->tolerations.count; i++) {
        bool there = false;
        for (size_t j = 0; j < spec->tolerations.count && !there; j++)
            there = kube_equal(&kube_toleration_type, &spec->tolerations.items[j], &scheduling->tolerations.items[i]);
        if (!there && add_toleration(object, &scheduling->tolerations.items[i]))
            return admission_no_memory(admission);
    }
    return 0;
}

static int set_overhead(struct admission *admission, const struct kube_quantity_map *overhead) {
    struct kube_object *object = admission->object;
    struct kube_quantity_map *own = &object->pod->spec.overhead;
    bool same = own->count == overhead->count;
    for (size_t i = 0; i < own->count && same; i++)
        same = !strcmp(own->items[i].key, overhead->items[i].key) && own->items[i].value.milli == overhead->items[i].value.milli;
    if (own->count && !same)
        return admission_forbid(admission, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead");
    for (size_t i = 0; i < overhead->count; i++) {
        struct kube_quantity value = overhead->items[i].value;
        value.text = arena_strdup(object->arena, value.text);
        if (!value.text || kube_quantities_set(own, object->arena, overhead->items[i].key, value))
            return admission_no_memory(admission);
    }
    return 0;
}

int admit_runtime_class(struct admission *admission) {
    static const struct kube_quantity_map none = {NULL, 0};
    const char *name = admission->object->pod->spec.runtime_class_name;
    if (!name || !*name)
        return admission->object->pod->spec.overhead.count
                   ? admission_forbid(admission, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
                   : 0;
    CLEANUP(kube_object_unrefp) struct kube_object *class = api_stored_get(admission->api, &kube_kind_runtime_class, "", name);
    if (!class)
        return admission_forbid(admission, "pod rejected: RuntimeClass \"%s\" not found", name);
    const struct kube_runtime_class *spec = class->runtime_class;
    int code = set_overhead(admission, spec->overhead ? &spec->overhead->pod_fixed : &none);
    return code || !spec->scheduling ? code : merge_scheduling(admission, spec->scheduling);
}

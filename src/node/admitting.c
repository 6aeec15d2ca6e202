/* Whether a pod that comes is taken on at all: the machine must not be short (eviction.c), the pod must be for this system, and fit (fitting.c):
 * beside the others when no scheduler has seen it, in any case alone, since whoever may bind pods may bind any. Asked once; a pod that is here is not
 * sent away because less is left after a restart. */
#include "node/fitting_priv.h"
#include "node/node_priv.h"

#include <stdio.h>

/* By its binding; a nodeName that its author wrote comes without. */
static bool was_scheduled(const struct kube_pod *pod) {
    for (size_t i = 0; i < pod->status.conditions.count; i++)
        if (strcmp(pod->status.conditions.items[i].type, "PodScheduled") == 0)
            return strcmp(pod->status.conditions.items[i].status, "True") == 0;
    return false;
}

/* Until it has ended it holds what it asked for. */
static bool counts(const struct pod *other, const struct pod *pod) {
    return other != pod && ((other->stage <= POD_ACTIVE && !other->failed_reason[0]) || other->stage == POD_STOPPING);
}

static bool reject(struct pod *pod, const char *reason, const char *message) {
    snprintf(pod->failed_reason, sizeof pod->failed_reason, "%s", reason);
    snprintf(pod->failed_message, sizeof pod->failed_message, "Pod was rejected: %s", message);
    event_pod(pod, NULL, "Warning", pod->failed_reason, "%s", message);
    return false;
}

static bool fits(struct pod *pod) {
    struct node *node = pod->node;
    const struct fitting_room room = {allocatable_cpu_milli(), allocatable_memory(node), allocatable_disk(node), FITTING_PODS_MAX};
    const struct kube_pod **others = calloc(map_count(node->pods) + 1, sizeof *others);
    struct fitting_refusal refusal;
    size_t count = 0;
    struct slice uid;
    void *value;
    for (size_t at = 0; others && !was_scheduled(pod->spec_object->pod) && map_next(node->pods, &at, &uid, &value);)
        if (counts(value, pod))
            others[count++] = ((struct pod *)value)->spec_object->pod;
    bool fit = !others || fitting_check(pod->spec_object->pod, others, count, &room, &refusal);
    free(others);
    return fit || reject(pod, refusal.reason, refusal.message);
}

static bool is_for_this_system(struct pod *pod) {
    const struct kube_pod_os *system = pod->spec_object->pod->spec.os;
    const char *label = kube_map_find(&pod->spec_object->metadata->labels, "kubernetes.io/os");
    if (label && strcmp(label, "linux") != 0)
        return reject(pod, "PodOSSelectorNodeLabelDoesNotMatch", "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label");
    if (system && system->name && strcmp(system->name, "linux") != 0)
        return reject(pod, "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS");
    return true;
}

bool admitting_admits(struct pod *pod) {
    return eviction_admits(pod) && is_for_this_system(pod) && fits(pod);
}

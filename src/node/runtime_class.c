/* The class of runtime that a pod asks for: there is one here, which answers to the names that promise no more. A pod that wants another (a sandbox
 * of gVisor's, a machine of Kata's) waits, as on a node where that is not installed; it is never run with less. */
#include "node/node_priv.h"

bool runtime_class_ready(struct pod *pod) {
    static const char *const handlers[] = {"", "runc", "crun"};
    const char *name = pod->spec_object->pod->spec.runtime_class_name;
    const struct kube_object *class = references_find(pod, &kube_kind_runtime_class, name);
    if (!name || !class) /* it asks for none, or waits for it (references.c) */
        return !name;
    const char *handler = class->runtime_class->handler ? class->runtime_class->handler : "";
    for (size_t i = 0; i < ARRAY_LEN(handlers); i++)
        if (strcmp(handler, handlers[i]) == 0)
            return true;
    event_pod(pod, NULL, "Warning", "FailedCreatePodSandBox", "Failed to create pod sandbox: no runtime for \"%.200s\" is configured", handler);
    pod_retry(pod);
    return false;
}

/* Does a pod fit beside the others that are here? Logic alone. Asked of pods that name their node themselves: the scheduler has looked at all others.
 */
#ifndef TIDEMILL_NODE_FITTING_PRIV_H
#define TIDEMILL_NODE_FITTING_PRIV_H

#include "kube/kube.h"

#define FITTING_PODS_MAX 110 /* as upstream's kubelet */

struct fitting_room { /* what pods may take together; memory and disk in bytes */
    int64_t cpu_milli, memory, disk, pods;
};
struct fitting_refusal {
    char reason[40], message[256]; /* in kubelet's words, as `kubectl describe` shows them */
};

/* `others` are those that have not ended. False with *ret_refusal. Without memory it fits: who asks is about to find out. */
bool fitting_check(const struct kube_pod *pod, const struct kube_pod *const *others, size_t others_count, const struct fitting_room *room,
                   struct fitting_refusal *ret_refusal);

#endif

/* The control group that holds all of a pod's containers.
 *
 * Made by a worker thread: the first thing that moves a process after a rest costs a grace period of the kernel, 10 ms and more, in which no group
 * can be made either (cgroup_door.h). The thread pays for it, while the pod's network, tokens, volumes and image are seen to.
 *
 * Invariant: a group that comes to be after its pod has gone is removed by whoever made it. */
#include "node/node_priv.h"

struct making {
    struct node *node;
    char uid[64], path[QOS_PATH_BYTES];
    struct cgroup_limits limits;
    bool is_fresh, is_in_the_way;
    int error;
};

static bool told(struct pod *pod, const char *path, int error) {
    if (error < 0)
        event_pod(pod, NULL, "Warning", "FailedCreatePodContainer", "unable to ensure pod container exists: failed to create cgroup %s: %s", path,
                  strerror(-error));
    pod->cgroup = error < 0 ? POD_CGROUP_NONE : POD_CGROUP_READY;
    qos_changed(pod->node);
    return error == 0;
}

static void make(void *userdata) {
    struct making *making = userdata;
    const struct cgroups *cgroups = &making->node->cgroups;
    if (making->is_fresh && cgroup_exists(cgroups, making->path)) { /* its record was lost: what ran must be gone before it runs again */
        cgroup_kill(cgroups, making->path);
        making->is_in_the_way = cgroup_remove(cgroups, making->path) < 0;
    }
    if (!making->is_in_the_way)
        making->error = cgroup_create(cgroups, making->path, &making->limits);
    cgroup_warm(cgroups);
}

static void on_made(void *userdata) {
    CLEANUP(freep) struct making *making = userdata;
    struct node *node = making->node;
    struct pod *pod = node->pods ? map_find(node->pods, slice_of(making->uid)) : NULL;
    if (pod && pod->cgroup == POD_CGROUP_UNDER_WAY) {
        pod->is_fresh = making->is_in_the_way;
        if (making->is_in_the_way)
            pod->cgroup = POD_CGROUP_NONE;
        if (making->is_in_the_way || !told(pod, making->path, making->error))
            pod_retry(pod);
        pod_sync_later(pod);
    } else if (node->pods) /* without: the node is ending, and the next one takes the pod over */
        cgroup_remove(&node->cgroups, making->path);
}

bool pod_cgroup_ready(struct pod *pod) {
    if (pod->cgroup != POD_CGROUP_NONE)
        return pod->cgroup == POD_CGROUP_READY;
    struct making *making = calloc(1, sizeof *making);
    if (!making)
        return pod_retry(pod), false;
    making->node = pod->node;
    making->is_fresh = pod->is_fresh;
    snprintf(making->uid, sizeof making->uid, "%s", pod->uid);
    snprintf(making->path, sizeof making->path, "%s", pod->group);
    qos_pod_limits(pod, &making->limits);
    pod->cgroup = POD_CGROUP_UNDER_WAY;
    int r = loop_work(pod->node->loop, LOOP_QUICK, make, on_made, making);
    if (r < 0) {
        free(making);
        pod->cgroup = POD_CGROUP_NONE;
        pod_retry(pod);
    }
    return false;
}

bool pod_cgroup_make(struct pod *pod) {
    struct cgroup_limits limits;
    qos_pod_limits(pod, &limits);
    return told(pod, pod->group, cgroup_create(&pod->node->cgroups, pod->group, &limits));
}

void pod_cgroup_remove(struct pod *pod) {
    pod->cgroup = POD_CGROUP_NONE;
    cgroup_remove(&pod->node->cgroups, pod->group);
    qos_changed(pod->node);
}

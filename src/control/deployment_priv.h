/* What deployment.c (what to do) and deployment_status.c (what to say) share. */
#ifndef TIDEMILL_CONTROL_DEPLOYMENT_PRIV_H
#define TIDEMILL_CONTROL_DEPLOYMENT_PRIV_H

#include "control/control_priv.h"

#define ANNOTATION_REVISION "deployment.kubernetes.io/revision"
#define ANNOTATION_REVISION_HISTORY "deployment.kubernetes.io/revision-history"
#define ANNOTATION_DESIRED "deployment.kubernetes.io/desired-replicas"
#define ANNOTATION_MAX "deployment.kubernetes.io/max-replicas"
#define LABEL_HASH "pod-template-hash"

/* One ReplicaSet of the deployment during a run. */
struct revision {
    struct managed managed;
    bool is_new;      /* the one of the present template */
    bool is_created;  /* in this run */
    int32_t replicas; /* spec.replicas, as changed in this run */
};

struct rollout {
    struct context *context;
    const struct kube_object *object;
    const struct kube_deployment *deployment;
    struct kube_object *changed; /* metadata, NULL: unchanged */
    struct kube_object *status;  /* a copy whose status is changed */
    struct revision *revisions;  /* oldest first */
    size_t count;
    struct revision *newest; /* of the present template, or NULL */
    int32_t replicas, max_surge, max_unavailable;
    const char *creation_failure; /* why the last run could not make the ReplicaSet; NULL: it could */
};

static inline const struct kube_replica_set *revision_set(const struct revision *revision) {
    return revision->managed.object->replica_set;
}
/* Sums over all revisions, or over the old ones. */
int32_t rollout_sum_replicas(const struct rollout *rollout, bool old_only);
int32_t rollout_sum_status(const struct rollout *rollout, bool old_only);

bool rollout_has_deadline(const struct rollout *rollout);
const struct kube_deployment_condition *deployment_condition(const struct kube_deployment_status *status, const char *type);
/* Sets a condition as upstream does: same status and reason: nothing changes. message in the arena or static. */
void rollout_set_condition(struct rollout *rollout, const char *type, const char *status, const char *reason, const char *message);
void rollout_check_paused(struct rollout *rollout);
/* All counts and conditions. `progressing`: those of a rollout too (upstream's syncRolloutStatus, otherwise syncDeploymentStatus). */
void rollout_set_status(struct rollout *rollout, bool progressing);
bool rollout_is_complete(const struct rollout *rollout, const struct kube_deployment_status *status);

#endif

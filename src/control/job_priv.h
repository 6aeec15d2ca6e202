/* The Job controller within its files.
 *
 *   job.c          one run: what is counted, what is to be done, how it ends
 *   job_count.c    finished pods counted once; indexes
 *   job_policy.c   which failures count, which successes suffice
 *   job_pods.c     pods made and taken away */
#ifndef TIDEMILL_CONTROL_JOB_PRIV_H
#define TIDEMILL_CONTROL_JOB_PRIV_H

#include "control/control_priv.h"

#define JOB_FINALIZER "batch.kubernetes.io/job-tracking"
#define JOB_INDEX_KEY "batch.kubernetes.io/job-completion-index"              /* annotation and label of a pod */
#define JOB_FAILURES_ANNOTATION "batch.kubernetes.io/job-index-failure-count" /* of a pod: how often its index failed before */
#define JOB_IGNORED_ANNOTATION "batch.kubernetes.io/job-index-ignored-failure-count"
#define JOB_UNCOUNTED_MAX 500      /* pods that are counted at a time */
#define JOB_COMPLETIONS_MAX 100000 /* of an indexed job */

enum index_state { INDEX_OPEN, INDEX_ACTIVE, INDEX_SUCCEEDED, INDEX_FAILED };

struct job_run {
    struct context *context;
    const struct kube_object *object;
    const struct kube_job *job;
    struct kube_object *copy; /* its status is changed */
    struct kube_job_status *status;
    struct managed_list pods; /* all of the job's */
    /* what there is */
    int32_t active, ready, terminating;
    int32_t succeeded, failed; /* counted or about to be */
    int32_t restarts;
    int32_t failures_in_a_row;
    int64_t last_failure_ns;
    const char *fail_message; /* the failure policy ends the job; NULL: it does not */
    /* of an indexed job */
    bool indexed;
    int32_t completions; /* -1: any success ends it */
    uint8_t *indexes;    /* enum index_state by index */
    int32_t indexes_succeeded, indexes_failed;
    const struct kube_object **latest_failures; /* by index: the pod whose failures the next one takes over; NULL without backoffLimitPerIndex */
    /* what is decided in this run */
    bool ending;             /* a terminal condition is on its way: no more pods */
    struct objects released; /* pods whose finalizer was taken in this run */
};

static inline bool job_is_suspended(const struct kube_job *job) {
    return job->spec.suspend && *job->spec.suspend;
}
/* Pods are replaced when they have failed, not when they begin to end. */
static inline bool job_waits_for_failure(const struct kube_job *job) {
    return text_is(job->spec.pod_replacement_policy, "Failed");
}
/* ---- counting ---- */
bool job_has_finalizer(const struct kube_object *pod);
bool job_pod_has_failed(const struct kube_job *job, const struct kube_object *pod);
/* Its index, -1: none that is the job's. */
int32_t job_pod_index(const struct job_run *run, const struct kube_object *pod);
int32_t job_annotation_number(const struct kube_object *pod, const char *key);
/* Looks at all pods; moves what was uncounted and has no finalizer any more into the counters, and what has finished since into the uncounted. */
void job_count(struct job_run *run);
/* After the status was written: the finalizers of what is in it come off. */
void job_release_counted(struct job_run *run);
void job_release(struct job_run *run, struct managed *pod);
/* "0-2,5" of those in this state, in the copy's arena; "" none. */
const char *job_format_indexes(struct job_run *run, enum index_state state);
/* Calls for each index that the text names, within the completions. */
void job_each_index(const struct job_run *run, const char *text, void (*each)(void *userdata, int32_t index), void *userdata);

/* ---- policies ---- */
enum failure_action { FAILURE_COUNTS, FAILURE_IGNORED, FAILURE_FAILS_INDEX, FAILURE_FAILS_JOB };
/* What the failed pod does to the job; *ret_message (may be NULL) says why, when it ends it. */
enum failure_action job_judge(struct job_run *run, const struct kube_object *pod, const char **ret_message);
/* The success policy is met: why. NULL: it is not. */
const char *job_success(struct job_run *run);

/* ---- pods ---- */
void job_delete_active(struct job_run *run, int32_t most, bool counts);
void job_adjust(struct job_run *run);

#endif

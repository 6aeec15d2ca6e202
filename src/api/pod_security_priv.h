/* The Pod Security Standards: what a pod may ask of its machine at each level. Pure. */
#ifndef TIDEMILL_API_POD_SECURITY_PRIV_H
#define TIDEMILL_API_POD_SECURITY_PRIV_H

#include "base/base.h"
#include "kube/kube.h"

enum pod_security_level { LEVEL_PRIVILEGED, LEVEL_BASELINE, LEVEL_RESTRICTED };
#define POD_SECURITY_LATEST INT_MAX

struct pod_security_policy {
    enum pod_security_level level;
    int minor; /* of the version "v1.<minor>"; POD_SECURITY_LATEST */
};
/* "baseline:latest", "restricted:v1.25" */
void pod_security_format(const struct pod_security_policy *policy, char ret[40]);
/* Appends what the pod violates: with details `privileged (container "c" must not set securityContext.privileged=true), hostPort (…)`, without them
 * only the reasons. Nothing: it may run. */
void pod_security_check(const struct pod_security_policy *policy, const struct kube_object_meta *metadata, const struct kube_pod_spec *spec,
                        bool details, struct buffer *out);

#endif

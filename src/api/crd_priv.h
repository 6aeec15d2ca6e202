/* Custom resource definitions within the folder. */
#ifndef TIDEMILL_API_CRD_PRIV_H
#define TIDEMILL_API_CRD_PRIV_H

#include "api/api_priv.h"

#define API_CRD_FINALIZER "customresourcecleanup.apiextensions.k8s.io"

/* What is known of a stored definition without decoding it. */
struct crd {
    struct list node; /* among api->crds */
    struct api *api;
    struct arena *arena; /* of the texts */
    const char *name, *group, *plural;
    struct kube_custom_resource_definition_names accepted;
    uint64_t created;   /* the revision: of two that want a name, the older has it */
    int64_t generation; /* that is in the table of kinds; 0: none */
    bool installed, accepted_all, terminating;
    bool refused;    /* could not be installed, and not for want of memory */
    bool reconsider; /* names may have become free */
};
/* NULL when there is none. */
struct crd *api_crd_find(const struct api *api, struct slice name);

/* --- crd_names.c --- */
/* Fills the status of a definition that was created at that revision (UINT64_MAX: is being created): accepted names, stored versions, conditions. */
int api_crd_judge(struct api *api, struct kube_object *object, uint64_t created);
bool api_crd_condition_is(const struct kube_custom_resource_definition *definition, const char *type, const char *status);
int api_crd_set_condition(struct api *api, struct kube_object *object, const char *type, const char *status, const char *reason, const char *message);

#endif

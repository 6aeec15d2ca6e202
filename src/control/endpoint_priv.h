/* What endpoint slices and endpoints have in common: the pods behind a service. */
#ifndef TIDEMILL_CONTROL_ENDPOINT_PRIV_H
#define TIDEMILL_CONTROL_ENDPOINT_PRIV_H

#include "control/control_priv.h"

#define SERVICE_PORTS_MAX 128
#define SLICE_ENDPOINTS_MAX 100 /* upstream's */
#define LABEL_SERVICE "kubernetes.io/service-name"
#define LABEL_SLICE_MANAGER "endpointslice.kubernetes.io/managed-by"

/* A pod behind a service, and which of its ports each of the service's ports means (0: none). */
struct backend {
    const struct kube_object *object;
    const struct kube_pod *pod;
    const char *ip;
    const char *zone; /* of its node; NULL: it is in none */
    bool ready, terminating;
    size_t group; /* pods whose ports are the same have the same group */
    int32_t ports[SERVICE_PORTS_MAX];
};
struct backends {
    struct backend *items; /* in the order of names */
    size_t count, groups;
};

/* Enqueues the services that the change touches. */
int endpoint_enqueue(struct control *control, enum controller_id controller, const struct kube_kind *made, const struct kube_object *object,
                     const struct kube_object *old);
/* A service whose endpoints are the controllers' business. */
bool endpoint_is_managed(const struct kube_object *service);
void endpoint_collect(struct context *context, const struct kube_object *service, struct backends *ret);
/* The name of an owner's slice number `index`: always the same. */
const char *endpoint_slice_name(struct context *context, const struct kube_object *owner, size_t index);
/* Deletes the service's slices that `manager` keeps, but for those named. */
void endpoint_delete_others(struct context *context, const char *service, const char *manager, const char *const *names, size_t count);
/* Creates or changes the slice. It takes over the reference; present NULL: it is new. */
void endpoint_write_slice(struct context *context, struct kube_object *slice, const struct kube_object *present);
int endpoint_target(struct arena *arena, const struct kube_object *pod, struct kube_object_reference **ret);

#endif

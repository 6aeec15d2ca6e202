/* Defaults within the folder: what their functions are made of. */
#ifndef TIDEMILL_KUBE_DEFAULT_PRIV_H
#define TIDEMILL_KUBE_DEFAULT_PRIV_H

#include "kube/helpers_priv.h"

/* Fills one struct of the type it is registered for. 0 or -ENOMEM. */
typedef int default_function(struct arena *arena, void *data);

/* default_kinds.c */
default_function default_deployment_strategy, default_daemon_set_strategy, default_stateful_set_spec, default_job, default_replication_controller,
    default_autoscaler_spec, default_autoscaler_behavior, default_subject, default_network_policy_spec, default_csi_driver_spec, default_node_status;

static inline int set_int32(struct arena *arena, int32_t **field, int32_t value) {
    if (*field)
        return 0;
    *field = ARENA_NEW(arena, int32_t);
    if (!*field)
        return -ENOMEM;
    **field = value;
    return 0;
}

static inline int set_bool(struct arena *arena, bool **field, bool value) {
    if (*field)
        return 0;
    *field = ARENA_NEW(arena, bool);
    if (!*field)
        return -ENOMEM;
    **field = value;
    return 0;
}

static inline int set_int_or_string(struct arena *arena, struct kube_int_or_string **field, struct kube_int_or_string value) {
    if (*field)
        return 0;
    *field = ARENA_NEW(arena, struct kube_int_or_string);
    if (!*field)
        return -ENOMEM;
    **field = value;
    return 0;
}

static inline void set_text(const char **field, const char *value) {
    if (!*field || !**field)
        *field = value;
}

#endif

/* The table of roles and bindings that the cluster begins with. */
#ifndef TIDEMILL_API_RBAC_BOOTSTRAP_PRIV_H
#define TIDEMILL_API_RBAC_BOOTSTRAP_PRIV_H

#include "api/api_priv.h"

struct rbac_policy_role {
    const char *name;          /* NULL ends a table */
    const char *namespace;     /* of a Role; NULL: a ClusterRole */
    const char *aggregates;    /* its rules are those of the roles labelled aggregate-to-THIS; NULL: its own */
    const char *aggregated_to; /* it bears that label; NULL: none */
    const char *subject;       /* of a Role: to whom it is bound; NULL: to nobody */
    const char *rules;         /* lines, see rbac_policy.c */
};
struct rbac_policy_binding {
    const char *role; /* a ClusterRole, and the name of the binding; NULL ends the table */
    const char *subjects;
};
extern const struct rbac_policy_role rbac_policy_roles[], rbac_policy_controllers[], rbac_policy_namespaced[];
extern const struct rbac_policy_binding rbac_policy_bindings[];

#endif

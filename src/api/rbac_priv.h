/* Role-based access control as an index: who is bound to what, found by name. Pure: no store, no request. See rbac.c. */
#ifndef TIDEMILL_API_RBAC_PRIV_H
#define TIDEMILL_API_RBAC_PRIV_H

#include "api/api.h"

struct rbac;
/* NULL without memory. */
struct rbac *rbac_new(void);
void rbac_free(struct rbac *rbac); /* NULL is fine */

/* Takes in a Role, ClusterRole, RoleBinding or ClusterRoleBinding in place of the one of that name; other kinds are ignored. -ENOMEM: the old one is
 * gone and the new one is not (wholly) there, so that less is allowed than should be; the caller builds the index anew. */
int rbac_put(struct rbac *rbac, struct kube_object *object);
void rbac_remove(struct rbac *rbac, const struct kube_object *object);

/* What one binding gives to one subject. */
struct rbac_grant {
    const struct kube_object *binding; /* RoleBinding or ClusterRoleBinding */
    size_t subject;                    /* which of its subjects */
};
/* A rule that a user has by a grant; rule NULL: the role that the binding refers to does not exist. Returns false to stop. */
typedef bool rbac_visit_fn(void *userdata, const struct rbac_grant *grant, const struct kube_policy_rule *rule);
/* Everything that the user may, cluster-wide and, with a namespace that is not empty, there. False when it was stopped. */
bool rbac_visit(const struct rbac *rbac, const struct api_user *user, const char *namespace, rbac_visit_fn *visit, void *userdata);
/* The rules of a role, NULL when there is no such role. namespace: of the binding, for Roles. */
const struct kube_policy_rule_array *rbac_rules(const struct rbac *rbac, const struct kube_role_ref *ref, const char *namespace);

bool rbac_rule_allows(const struct kube_policy_rule *rule, const struct api_access *access);
/* `ClusterRoleBinding "x" of ClusterRole "y" to User "z"`. */
void rbac_describe(const struct rbac_grant *grant, char *text, size_t size);

/* --- escalation: may one who has these rules give those away? --- */

/* Whether the user's own rules cover all of `wanted`; otherwise false with what is missing, a line of upstream's short form for each, in *ret_missing
 * (buffer of the caller). -ENOMEM as false with an empty text. */
bool rbac_covers(const struct rbac *rbac, const struct api_user *user, const char *namespace, const struct kube_policy_rule_array *wanted,
                 struct buffer *ret_missing);

/* What a rule lists, or everything by "*". */
static inline bool rbac_list_covers(const struct kube_string_list *list, const char *item) {
    return kube_strings_has(list, "*") || kube_strings_has(list, item);
}

#endif

/* Roles and bindings. Their names are what fits into one segment of a path: "system:node" is one. */
#include "kube/validate_priv.h"

#include <stdio.h>

#define RBAC_GROUP "rbac.authorization.k8s.io"

static void check_rule(struct validator *validator, const struct kube_policy_rule *rule, bool namespaced) {
    if (rule->verbs.count == 0)
        fail_required(validator, "verbs", "verbs must contain at least one value");
    if (rule->non_resource_urls.count > 0) {
        if (namespaced)
            fail_value(validator, "nonResourceURLs", "[…]", "namespaced rules cannot apply to non-resource URLs");
        if (rule->api_groups.count > 0 || rule->resources.count > 0 || rule->resource_names.count > 0)
            fail_value(validator, "nonResourceURLs", "[…]", "rules cannot apply to both regular resources and non-resource URLs");
        return;
    }
    if (rule->api_groups.count == 0)
        fail_required(validator, "apiGroups", "resource rules must supply at least one api group");
    if (rule->resources.count == 0)
        fail_required(validator, "resources", "resource rules must supply at least one resource");
}

static void check_rules(struct validator *validator, const struct kube_policy_rule_array *rules, bool namespaced) {
    for (size_t i = 0; i < rules->count; i++) {
        size_t before = kube_path_push_field(&validator->path, "rules");
        kube_path_push_index(&validator->path, i);
        check_rule(validator, &rules->items[i], namespaced);
        kube_path_pop(&validator->path, before);
    }
}

void validate_role(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_role *role = data;
    check_rules(validator, &role->rules, true);
}

void validate_cluster_role(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_cluster_role *role = data;
    check_rules(validator, &role->rules, false);
    if (role->aggregation_rule && role->aggregation_rule->cluster_role_selectors.count == 0)
        fail_required(validator, "aggregationRule.clusterRoleSelectors", "at least one clusterRoleSelector required if aggregationRule is non-nil");
}

static void check_subject(struct validator *validator, const struct kube_subject *subject, bool namespaced) {
    static const char *const kinds[] = {"Group", "ServiceAccount", "User", NULL}, *const groups[] = {RBAC_GROUP, NULL}, *const none[] = {"", NULL};
    bool account = kube_text_is(subject->kind, "ServiceAccount");
    const char *group = kube_text_or(subject->api_group, "");
    if (!subject->name)
        fail_required(validator, "name", "");
    if (account) {
        const char *wrong = subject->name ? format_check("dns-subdomain", slice_of(subject->name)) : NULL;
        if (wrong)
            fail_text(validator, "name", subject->name, "%s", wrong);
        if (*group)
            fail_supported(validator, "apiGroup", group, none);
        if (!namespaced && !subject->namespace)
            fail_required(validator, "namespace", "");
    } else if (kube_text_is(subject->kind, "User") || kube_text_is(subject->kind, "Group")) {
        if (strcmp(group, RBAC_GROUP) != 0)
            fail_supported(validator, "apiGroup", group, groups);
    } else {
        fail_supported(validator, "kind", kube_text_or(subject->kind, ""), kinds);
    }
}

static void check_reference(struct validator *validator, const struct kube_role_ref *ref, const struct kube_role_ref *old, bool namespaced) {
    static const char *const either[] = {"ClusterRole", "Role", NULL}, *const cluster[] = {"ClusterRole", NULL}, *const groups[] = {RBAC_GROUP, NULL};
    size_t before = kube_path_push_field(&validator->path, "roleRef");
    if (!kube_text_is(ref->api_group, RBAC_GROUP))
        fail_supported(validator, "apiGroup", kube_text_or(ref->api_group, ""), groups);
    if (!kube_text_is(ref->kind, "ClusterRole") && !(namespaced && kube_text_is(ref->kind, "Role")))
        fail_supported(validator, "kind", kube_text_or(ref->kind, ""), namespaced ? either : cluster);
    const char *wrong = ref->name ? format_check("path-segment", slice_of(ref->name)) : NULL;
    if (!ref->name)
        fail_required(validator, "name", "");
    else if (wrong)
        fail_text(validator, "name", ref->name, "%s", wrong);
    if (old && !kube_equal(&kube_role_ref_type, ref, old)) {
        char shown[600];
        snprintf(shown, sizeof shown, "{\"apiGroup\":\"%.100s\",\"kind\":\"%.40s\",\"name\":\"%.253s\"}", kube_text_or(ref->api_group, ""),
                 kube_text_or(ref->kind, ""), kube_text_or(ref->name, ""));
        fail_value(validator, NULL, shown, "cannot change roleRef");
    }
    kube_path_pop(&validator->path, before);
}

static void check_binding(struct validator *validator, const struct kube_subject_array *subjects, bool namespaced) {
    for (size_t i = 0; i < subjects->count; i++) {
        size_t before = kube_path_push_field(&validator->path, "subjects");
        kube_path_push_index(&validator->path, i);
        check_subject(validator, &subjects->items[i], namespaced);
        kube_path_pop(&validator->path, before);
    }
}

void validate_role_binding(struct validator *validator, const void *data, const void *old) {
    const struct kube_role_binding *binding = data, *was = old;
    check_reference(validator, &binding->role_ref, was ? &was->role_ref : NULL, true);
    check_binding(validator, &binding->subjects, true);
}

void validate_cluster_role_binding(struct validator *validator, const void *data, const void *old) {
    const struct kube_cluster_role_binding *binding = data, *was = old;
    check_reference(validator, &binding->role_ref, was ? &was->role_ref : NULL, false);
    check_binding(validator, &binding->subjects, false);
}

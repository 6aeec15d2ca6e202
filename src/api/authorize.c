/* May they: the one authorisation function, what of a request it is asked about, and the rules for writing rules.
 *
 * system:masters may everything, so that nobody can lock the administrator out; all else is RBAC, by the index of rbac.c. Whoever writes a role must
 * have every right in it, or the verb `escalate` on it; whoever binds one must have its rights, or the verb `bind` on it. */
#include "api/admission_priv.h"
#include "api/rbac_priv.h"

#include <stdio.h>

#define MASTERS "system:masters"
#define RBAC_GROUP "rbac.authorization.k8s.io"

/* --- the index follows the store --- */

static const struct kube_kind *const indexed[] = {&kube_kind_cluster_role, &kube_kind_role, &kube_kind_cluster_role_binding, &kube_kind_role_binding};

static bool take_in(void *userdata, struct store_object *stored) {
    struct api *api = userdata;
    struct kube_object *object = api_decode(api, stored);
    if (!object || rbac_put(api->rbac, object))
        api->rbac_stale = true;
    return true;
}

/* Builds it anew: at start, and when memory was missing on the way. */
static void load(struct api *api) {
    struct slice none = {NULL, 0};
    rbac_free(api->rbac);
    api->rbac = rbac_new();
    api->rbac_stale = !api->rbac;
    for (size_t i = 0; i < ARRAY_LEN(indexed) && api->rbac; i++)
        store_list(api->store, api_kind_slice(indexed[i]), none, none, none, take_in, api);
}

void api_rbac_note(struct api *api, struct kube_object *object, bool removed) {
    if (!api->rbac)
        return;
    if (removed)
        rbac_remove(api->rbac, object);
    else if (rbac_put(api->rbac, object))
        api->rbac_stale = true;
}

void api_rbac_start(struct api *api) {
    load(api);
    api_rbac_bootstrap(api);
}

void api_rbac_end(struct api *api) {
    rbac_free(api->rbac);
    api->rbac = NULL;
}

/* --- deciding --- */

bool api_user_in_group(const struct api_user *user, const char *group) {
    for (size_t i = 0; user->groups[i]; i++)
        if (!strcmp(user->groups[i], group))
            return true;
    return false;
}

struct asking {
    const struct api_access *access;
    char *reason;
    size_t size, missing_len;
};

/* Until the first rule that allows it. Roles that are referred to and do not exist are remembered, since that is often why it is refused. */
static bool try_rule(void *userdata, const struct rbac_grant *grant, const struct kube_policy_rule *rule) {
    struct asking *asking = userdata;
    if (rule && !rbac_rule_allows(rule, asking->access))
        return true;
    if (!asking->reason)
        return !rule;
    if (rule) {
        char text[800];
        rbac_describe(grant, text, sizeof text);
        snprintf(asking->reason, asking->size, "RBAC: allowed by %s", text);
        return false;
    }
    bool cluster = grant->binding->kind == &kube_kind_cluster_role_binding;
    const struct kube_role_ref *ref = cluster ? &grant->binding->cluster_role_binding->role_ref : &grant->binding->role_binding->role_ref;
    int written =
        snprintf(asking->reason + asking->missing_len, asking->size - asking->missing_len, "%s%s." RBAC_GROUP " \"%s\" not found",
                 asking->missing_len ? ", " : "", !strcmp(ref->kind ? ref->kind : "", "Role") ? "role" : "clusterrole", ref->name ? ref->name : "");
    asking->missing_len = MIN(asking->missing_len + (size_t)MAX(written, 0), asking->size - 1);
    return true;
}

static void word_refusal(struct asking *asking) {
    char missing[API_REASON_BYTES];
    bool several = asking->missing_len && strstr(asking->reason, "found, ");
    snprintf(missing, sizeof missing, "%s", asking->reason);
    if (asking->missing_len)
        snprintf(asking->reason, asking->size, several ? "RBAC: [%s]" : "RBAC: %s", missing);
}

bool api_authorize(struct api *api, const struct api_user *user, const struct api_access *access, char ret_reason[API_REASON_BYTES]) {
    if (ret_reason)
        *ret_reason = '\0';
    if (api_user_in_group(user, MASTERS))
        return true;
    if (api->rbac_stale)
        load(api);
    if (!api->rbac)
        return false;
    struct asking asking = {access, ret_reason, API_REASON_BYTES, 0};
    bool allowed = !rbac_visit(api->rbac, user, access->namespace, try_rule, &asking);
    if (!allowed && ret_reason)
        word_refusal(&asking);
    return allowed;
}

const struct rbac *api_rbac_get(struct api *api) {
    if (api->rbac_stale)
        load(api);
    return api->rbac;
}

/* --- of a request --- */

static bool is_of_many(const char *verb) {
    return !strcmp(verb, "list") || !strcmp(verb, "watch") || !strcmp(verb, "deletecollection");
}

/* "metadata.name=x" among the field selectors makes a list one of that name, so that a rule with resourceNames can allow it. No name needs an escape,
 * and a selector that has one is not looked into: behind "\," no requirement begins. */
static const char *selected_name(const struct request *request) {
    static const char *const prefixes[] = {"metadata.name==", "metadata.name="};
    struct slice rest = slice_of(api_request_query(request, "fieldSelector"));
    if (!is_of_many(request->verb) || slice_index(rest, '\\') >= 0)
        return "";
    while (rest.len) {
        struct slice requirement = slice_cut(&rest, ',');
        for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
            if (slice_starts(requirement, slice_of(prefixes[i])))
                return arena_dup(request->arena, slice_from(requirement, strlen(prefixes[i])));
    }
    return "";
}

/* What is no resource is asked for by the HTTP method. */
const char *api_method_verb(const struct request *request) {
    struct slice method = http_method(request->exchange);
    char *verb = arena_dup(request->arena, method);
    for (size_t i = 0; verb && verb[i]; i++)
        if (verb[i] >= 'A' && verb[i] <= 'Z')
            verb[i] = (char)(verb[i] - 'A' + 'a');
    return verb && !strcmp(verb, "head") ? "get" : verb;
}

bool api_access_of_request(const struct request *request, struct api_access *ret) {
    const struct api_route *route = &request->route;
    *ret = (struct api_access){.verb = request->verb};
    if (route->type != ROUTE_RESOURCE) {
        ret->path = arena_dup(request->arena, http_path(request->exchange));
        ret->verb = api_method_verb(request);
        return ret->path && ret->verb;
    }
    bool own = !strcmp(route->plural, "namespaces") && !*route->group;
    ret->group = route->group;
    ret->version = route->version;
    ret->resource = route->plural;
    ret->subresource = route->subresource;
    ret->name = *route->name ? route->name : selected_name(request);
    ret->namespace = own && !*route->namespace ? route->name : route->namespace; /* a namespace is within itself */
    return ret->name != NULL;
}

int api_fail_access(struct api_failure *failure, const struct api_user *user, const struct api_access *access, const char *reason) {
    char why[API_REASON_BYTES + 4] = "", where[400] = "at the cluster scope";
    if (reason && *reason)
        snprintf(why, sizeof why, ": %s", reason);
    if (access->path || !access->resource)
        return api_fail(failure, 403, "Forbidden", "forbidden: User \"%s\" cannot %s path \"%s\"%s", user->name, access->verb,
                        access->path ? access->path : "", why);
    const char *group = access->group ? access->group : "", *sub = access->subresource ? access->subresource : "",
               *name = access->name ? access->name : "";
    if (access->namespace && *access->namespace)
        snprintf(where, sizeof where, "in the namespace \"%s\"", access->namespace);
    api_fail(failure, 403, "Forbidden", "%s%s%s%s%s%s is forbidden: User \"%s\" cannot %s resource \"%s%s%s\" in API group \"%s\" %s%s",
             access->resource, *group ? "." : "", group, *name ? " \"" : "", name, *name ? "\"" : "", user->name, access->verb, access->resource,
             *sub ? "/" : "", sub, group, where, why);
    snprintf(failure->resource, sizeof failure->resource, "%s", access->resource);
    snprintf(failure->group, sizeof failure->group, "%s", group);
    snprintf(failure->name, sizeof failure->name, "%s", name);
    return 403;
}

/* --- who may write rules --- */

static bool may(struct api *api, const struct api_user *user, const char *verb, const struct kube_kind *kind, const char *namespace,
                const char *name) {
    const struct api_access access = {.verb = verb, .group = RBAC_GROUP, .resource = kind->plural, .namespace = namespace, .name = name};
    return api_authorize(api, user, &access, NULL);
}

static int refuse_escalation(const struct api_user *user, const struct kube_object *object, const struct buffer *missing,
                             struct api_failure *failure) {
    char groups[400] = "";
    size_t len = 0;
    for (size_t i = 0; user->groups[i] && len < sizeof groups; i++)
        len += (size_t)snprintf(groups + len, sizeof groups - len, "%s\"%s\"", i ? " " : "", user->groups[i]);
    return api_fail_forbidden(failure, object->kind, object->metadata->name,
                              "user \"%s\" (groups=[%s]) is attempting to grant RBAC permissions not currently held:\n%s", user->name, groups,
                              missing->data ? missing->data : "");
}

static int check_rules(struct api *api, const struct api_user *user, const struct kube_object *object, const struct kube_policy_rule_array *rules,
                       struct api_failure *failure) {
    CLEANUP(buffer_deinit) struct buffer missing = BUFFER_INIT(16 * KIB);
    const struct rbac *rbac = api_rbac_get(api);
    if (rbac && rbac_covers(rbac, user, object->metadata->namespace ? object->metadata->namespace : "", rules, &missing))
        return 0;
    return refuse_escalation(user, object, &missing, failure);
}

static int check_role(struct api *api, const struct api_user *user, const struct kube_object *object, const struct kube_object *old,
                      struct api_failure *failure) {
    const struct kube_object_meta *metadata = object->metadata;
    bool cluster = object->kind == &kube_kind_cluster_role;
    const struct kube_policy_rule_array *rules = cluster ? &object->cluster_role->rules : &object->role->rules;
    const char *star = "*";
    const struct kube_string_list any = {&star, 1};
    if (may(api, user, "escalate", object->kind, metadata->namespace ? metadata->namespace : "", metadata->name))
        return 0;
    if (old && kube_equal(object->kind->type, object->data, old->data))
        return 0;
    int code = check_rules(api, user, object, rules, failure);
    bool aggregates = cluster && (object->cluster_role->aggregation_rule || (old && old->cluster_role->aggregation_rule));
    if (code || !aggregates)
        return code;
    struct kube_policy_rule all[] = {{.verbs = any, .api_groups = any, .resources = any}, {.verbs = any, .non_resource_urls = any}};
    const struct kube_policy_rule_array everything = {all, ARRAY_LEN(all)};
    if (!check_rules(api, user, object, &everything, NULL))
        return 0;
    return api_fail_forbidden(failure, object->kind, metadata->name, "must have cluster-admin privileges to use the aggregationRule");
}

static int check_binding(struct api *api, const struct api_user *user, const struct kube_object *object, const struct kube_object *old,
                         struct api_failure *failure) {
    const struct kube_object_meta *metadata = object->metadata;
    const char *namespace = metadata->namespace ? metadata->namespace : "";
    const struct kube_role_ref *ref =
        object->kind == &kube_kind_role_binding ? &object->role_binding->role_ref : &object->cluster_role_binding->role_ref;
    bool cluster = !strcmp(ref->kind ? ref->kind : "", "ClusterRole");
    const struct kube_kind *kind = cluster ? &kube_kind_cluster_role : &kube_kind_role;
    const char *name = ref->name ? ref->name : "";
    const struct rbac *rbac = api_rbac_get(api);
    if (old && kube_equal(object->kind->type, object->data, old->data))
        return 0;
    if (may(api, user, "bind", kind, namespace, name))
        return 0;
    const struct kube_policy_rule_array *rules = rbac ? rbac_rules(rbac, ref, namespace) : NULL;
    return rules ? check_rules(api, user, object, rules, failure) : api_fail_not_found(failure, kind, name);
}

int admit_roles(struct admission *admission) {
    const struct kube_object *object = admission->object;
    if (!admission->user || api_user_in_group(admission->user, MASTERS))
        return 0;
    bool role = object->kind == &kube_kind_role || object->kind == &kube_kind_cluster_role;
    return role ? check_role(admission->api, admission->user, object, admission->old, admission->failure)
                : check_binding(admission->api, admission->user, object, admission->old, admission->failure);
}

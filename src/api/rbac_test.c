/* Rules as data: who may what, in upstream's words; and that nobody gives away what he has not. */
#include "unit.h"

#include "api/rbac_priv.h"

static struct kube_object *object_of(const char *json) {
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    if (kube_decode_json(NULL, slice_of(json), KUBE_STRICT, &object, &diag))
        fail_msg("%s: %s", json, diag.message);
    assert_int_equal(kube_default(object), 0);
    if (kube_validate(object, NULL, &diag))
        fail_msg("%s", diag.message);
    return object;
}

static void put(struct rbac *rbac, const char *json) {
    CLEANUP(kube_object_unrefp) struct kube_object *object = object_of(json);
    assert_int_equal(rbac_put(rbac, object), 0);
}

static void drop(struct rbac *rbac, const char *json) {
    CLEANUP(kube_object_unrefp) struct kube_object *object = object_of(json);
    rbac_remove(rbac, object);
}

#define OF(kind, name, rest) "{\"apiVersion\":\"rbac.authorization.k8s.io/v1\",\"kind\":\"" kind "\",\"metadata\":{\"name\":\"" name "\"" rest "}"
#define IN(kind, namespace, name, rest) OF(kind, name, ",\"namespace\":\"" namespace "\"}," rest)
#define ALL(kind, name, rest) OF(kind, name, "}," rest)
#define REF(kind, name) "\"roleRef\":{\"kind\":\"" kind "\",\"name\":\"" name "\"}"
#define TO(kind, name, more) "\"subjects\":[{\"kind\":\"" kind "\",\"name\":\"" name "\"" more "}],"

static const char reader[] = IN("Role", "a", "reader",
                                "\"rules\":[{\"verbs\":[\"get\",\"list\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\",\"pods/log\"]},"
                                "{\"verbs\":[\"update\"],\"apiGroups\":[\"apps\"],\"resources\":[\"*/scale\"]},"
                                "{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"secrets\"],\"resourceNames\":[\"one\"]}]");
static const char to_ann[] = IN("RoleBinding", "a", "ann", TO("User", "ann", "") REF("Role", "reader"));
static const char to_robot[] = IN("RoleBinding", "a", "robot", TO("ServiceAccount", "robot", "") REF("Role", "reader"));
static const char checker[] = ALL("ClusterRole", "checker", "\"rules\":[{\"verbs\":[\"get\"],\"nonResourceURLs\":[\"/healthz\",\"/logs/*\"]}]");
static const char to_team[] = ALL("ClusterRoleBinding", "team", TO("Group", "team", "") REF("ClusterRole", "checker"));
static const char everything[] = ALL("ClusterRole", "all", "\"rules\":[{\"verbs\":[\"*\"],\"apiGroups\":[\"*\"],\"resources\":[\"*\"]}]");
static const char to_boss[] = ALL("ClusterRoleBinding", "boss", TO("User", "boss", "") REF("ClusterRole", "all"));

static struct rbac *sample(void) {
    static const char *const objects[] = {reader, to_ann, to_robot, checker, to_team, everything, to_boss};
    struct rbac *rbac = rbac_new();
    assert_non_null(rbac);
    for (size_t i = 0; i < ARRAY_LEN(objects); i++)
        put(rbac, objects[i]);
    return rbac;
}

struct asking {
    const struct api_access *access;
    char reason[400];
};

static bool try_rule(void *userdata, const struct rbac_grant *grant, const struct kube_policy_rule *rule) {
    struct asking *asking = userdata;
    if (!rule || !rbac_rule_allows(rule, asking->access))
        return true;
    rbac_describe(grant, asking->reason, sizeof asking->reason);
    return false;
}

static const char *nobody[] = {NULL}, *team[] = {"team", NULL};

/* The reason; "" when refused. */
static const char *ask(const struct rbac *rbac, const char *name, const char *const *groups, struct api_access access) {
    static struct asking asking;
    const struct api_user user = {.name = name, .groups = groups};
    asking = (struct asking){.access = &access};
    rbac_visit(rbac, &user, access.namespace, try_rule, &asking);
    return asking.reason;
}

#define MAY(user, ...) assert_string_not_equal(ask(rbac, user, nobody, (struct api_access){__VA_ARGS__}), "")
#define MAY_NOT(user, ...) assert_string_equal(ask(rbac, user, nobody, (struct api_access){__VA_ARGS__}), "")

UNIT_TEST(decides) {
    struct rbac *rbac = sample();
    MAY("ann", .verb = "list", .resource = "pods", .namespace = "a");
    MAY("ann", .verb = "get", .resource = "pods", .subresource = "log", .namespace = "a", .name = "p");
    MAY_NOT("ann", .verb = "get", .resource = "pods", .subresource = "exec", .namespace = "a");
    MAY_NOT("ann", .verb = "list", .resource = "pods", .namespace = "b");
    MAY_NOT("ann", .verb = "list", .resource = "pods");
    MAY_NOT("ann", .verb = "list", .resource = "pods", .group = "metrics.k8s.io", .namespace = "a");
    MAY_NOT("ann", .verb = "delete", .resource = "pods", .namespace = "a");
    MAY_NOT("bob", .verb = "list", .resource = "pods", .namespace = "a");
    MAY("ann", .verb = "update", .group = "apps", .resource = "deployments", .subresource = "scale", .namespace = "a");
    MAY_NOT("ann", .verb = "update", .group = "apps", .resource = "deployments", .namespace = "a");
    MAY("ann", .verb = "get", .resource = "secrets", .namespace = "a", .name = "one");
    MAY_NOT("ann", .verb = "get", .resource = "secrets", .namespace = "a", .name = "two");
    MAY_NOT("ann", .verb = "get", .resource = "secrets", .namespace = "a");
    MAY("system:serviceaccount:a:robot", .verb = "list", .resource = "pods", .namespace = "a");
    MAY_NOT("system:serviceaccount:b:robot", .verb = "list", .resource = "pods", .namespace = "a");
    MAY("boss", .verb = "escalate", .group = "x", .resource = "y", .subresource = "z", .namespace = "any");
    MAY_NOT("boss", .verb = "get", .path = "/metrics");
    rbac_free(rbac);
}

UNIT_TEST(words_reasons) {
    struct rbac *rbac = sample();
    assert_string_equal(ask(rbac, "ann", nobody, (struct api_access){.verb = "list", .resource = "pods", .namespace = "a"}),
                        "RoleBinding \"ann/a\" of Role \"reader\" to User \"ann\"");
    assert_string_equal(ask(rbac, "system:serviceaccount:a:robot", nobody, (struct api_access){.verb = "list", .resource = "pods", .namespace = "a"}),
                        "RoleBinding \"robot/a\" of Role \"reader\" to ServiceAccount \"robot/a\"");
    assert_string_equal(ask(rbac, "x", team, (struct api_access){.verb = "get", .path = "/logs/a/b"}),
                        "ClusterRoleBinding \"team\" of ClusterRole \"checker\" to Group \"team\"");
    assert_string_equal(ask(rbac, "x", team, (struct api_access){.verb = "get", .path = "/healthz/x"}), "");
    rbac_free(rbac);
}

UNIT_TEST(follows_changes) {
    struct rbac *rbac = sample();
    const struct api_access list = {.verb = "list", .resource = "pods", .namespace = "a"};
    put(rbac, IN("RoleBinding", "a", "ann", TO("User", "cat", "") REF("Role", "reader"))); /* in place of the old one */
    assert_string_equal(ask(rbac, "ann", nobody, list), "");
    assert_string_not_equal(ask(rbac, "cat", nobody, list), "");
    put(rbac, IN("Role", "a", "reader", "\"rules\":[]"));
    assert_string_equal(ask(rbac, "cat", nobody, list), "");
    put(rbac, reader);
    assert_string_not_equal(ask(rbac, "cat", nobody, list), "");
    drop(rbac, reader);
    assert_string_equal(ask(rbac, "cat", nobody, list), "");
    put(rbac, reader);
    drop(rbac, to_ann);
    assert_string_equal(ask(rbac, "cat", nobody, list), "");
    rbac_free(rbac);
}

/* What is missing; "" when all is covered. */
static void missing(const struct rbac *rbac, const char *name, const char *namespace, const char *role, const char *expected) {
    CLEANUP(kube_object_unrefp) struct kube_object *object = object_of(role);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(16 * KIB);
    const struct api_user user = {.name = name, .groups = nobody};
    const struct kube_policy_rule_array *rules = object->kind == &kube_kind_role ? &object->role->rules : &object->cluster_role->rules;
    assert_int_equal(rbac_covers(rbac, &user, namespace, rules, &text), !*expected);
    assert_string_equal(text.data ? text.data : "", expected);
}

UNIT_TEST(prevents_escalation) {
    struct rbac *rbac = sample();
    missing(rbac, "boss", "", everything, "");
    missing(rbac, "ann", "a", reader, "");
    missing(rbac, "ann", "b", IN("Role", "b", "r", "\"rules\":[{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"]}]"),
            "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\"]}");
    missing(rbac, "ann", "a",
            IN("Role", "a", "r", "\"rules\":[{\"verbs\":[\"get\",\"watch\",\"delete\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\",\"nodes\"]}]"),
            "{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"watch\" \"delete\"]}\n"
            "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"watch\" \"delete\"]}");
    missing(rbac, "ann", "a", IN("Role", "a", "r", "\"rules\":[{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"secrets\"]}]"),
            "{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}");
    missing(rbac, "ann", "a",
            IN("Role", "a", "r",
               "\"rules\":[{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"secrets\"],\"resourceNames\":[\"one\",\"two\"]}]"),
            "{APIGroups:[\"\"], Resources:[\"secrets\"], ResourceNames:[\"two\"], Verbs:[\"get\"]}");
    missing(rbac, "ann", "a", IN("Role", "a", "r", "\"rules\":[{\"verbs\":[\"*\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"]}]"),
            "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"*\"]}");
    missing(rbac, "boss", "", checker, "{NonResourceURLs:[\"/healthz\"], Verbs:[\"get\"]}\n{NonResourceURLs:[\"/logs/*\"], Verbs:[\"get\"]}");
    rbac_free(rbac);
}

UNIT_MAIN(UNIT(decides), UNIT(words_reasons), UNIT(follows_changes), UNIT(prevents_escalation))

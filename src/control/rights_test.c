/* What keeps identities and rights in order, by example: aggregated roles, the authority's certificate, signing requests, secrets with tokens. */
#include "control/cluster_testing_priv.h"

#define HOUR 3600

static const char role_of[] = "{'metadata':{'name':'%s','labels':{'%s':'true'}},'rules':[{'verbs':['get'],'apiGroups':[''],'resources':['%s']}]}";
static const char gathering[] =
    "{'metadata':{'name':'%s','labels':{'%s':'true'}},'rules':[],'aggregationRule':{'clusterRoleSelectors':[{'matchLabels':{'%s':'true'}}]}}";

static void add(struct cluster *cluster, const struct kube_kind *kind, const char *format, const char *a, const char *b, const char *c) {
    char text[1000];
    snprintf(text, sizeof text, format, a, b, c);
    cluster_add(cluster, kind, text);
}

static const struct kube_policy_rule_array *rules_of(struct cluster *cluster, const char *name) {
    const struct kube_object *role = cluster_get(cluster, &kube_kind_cluster_role, NULL, name);
    assert_non_null(role);
    return &role->cluster_role->rules;
}

UNIT_TEST(roles_gather_the_rules_of_others) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    add(&cluster, &kube_kind_cluster_role, gathering, "edit", "to-admin", "to-edit");
    add(&cluster, &kube_kind_cluster_role, gathering, "admin", "none", "to-admin");
    add(&cluster, &kube_kind_cluster_role, role_of, "pods", "to-edit", "pods");
    add(&cluster, &kube_kind_cluster_role, role_of, "roles", "to-admin", "roles");
    cluster_settle(&cluster);
    assert_int_equal(rules_of(&cluster, "edit")->count, 1);
    assert_int_equal(rules_of(&cluster, "admin")->count, 2); /* by way of edit */
    add(&cluster, &kube_kind_cluster_role, role_of, "pods-again", "to-edit", "pods");
    add(&cluster, &kube_kind_cluster_role, role_of, "jobs", "to-edit", "jobs");
    cluster_settle(&cluster);
    assert_int_equal(rules_of(&cluster, "admin")->count, 3); /* each rule once */
    assert_null(cluster_delete(&cluster, &kube_kind_cluster_role, NULL, "jobs", NULL, NULL, -1));
    cluster_settle(&cluster);
    assert_int_equal(rules_of(&cluster, "edit")->count, 1);
    assert_int_equal(rules_of(&cluster, "admin")->count, 2);
    cluster_deinit(&cluster);
}

static const char *published(struct cluster *cluster) {
    const struct kube_object *map = cluster_get(cluster, &kube_kind_config_map, "d", "kube-root-ca.crt");
    return map ? kube_map_find(&map->config_map->data, "ca.crt") : NULL;
}

UNIT_TEST(every_namespace_knows_the_authority) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster.control->root_ca = "PEM";
    cluster_add(&cluster, &kube_kind_namespace, "{'metadata':{'name':'d'}}");
    cluster_settle(&cluster);
    assert_string_equal(published(&cluster), "PEM");
    assert_null(cluster_delete(&cluster, &kube_kind_config_map, "d", "kube-root-ca.crt", NULL, NULL, -1));
    cluster_settle(&cluster);
    assert_string_equal(published(&cluster), "PEM");
    struct kube_object *map = cluster_edit(&cluster, &kube_kind_config_map, "d", "kube-root-ca.crt");
    map->config_map->data.items[0].value = "forged";
    assert_null(cluster_update(&cluster, map, false));
    cluster_settle(&cluster);
    assert_string_equal(published(&cluster), "PEM");
    size_t actions = cluster.actions;
    cluster_wait(&cluster, HOUR);
    assert_int_equal(cluster.actions, actions); /* at rest */
    cluster_deinit(&cluster);
}

static const char request[] =
    "{'metadata':{'name':'%s'},'spec':{'request':'eA==','signerName':'%s','usages':['client auth']},'status':{'conditions':[%s]}}";
#define CLIENT "kubernetes.io/kube-apiserver-client"
#define CONDITION(type) "{'type':'" type "','status':'True','lastUpdateTime':'2027-01-15T08:00:00Z'}" /* the cluster's first second */

static const struct kube_certificate_signing_request *find_request(struct cluster *cluster, const char *name) {
    const struct kube_object *object = cluster_get(cluster, &kube_kind_certificate_signing_request, NULL, name);
    return object ? object->certificate_signing_request : NULL;
}

UNIT_TEST(approved_requests_are_signed_and_old_ones_go) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    add(&cluster, &kube_kind_certificate_signing_request, request, "approved", CLIENT, CONDITION("Approved"));
    add(&cluster, &kube_kind_certificate_signing_request, request, "denied", CLIENT, CONDITION("Denied"));
    add(&cluster, &kube_kind_certificate_signing_request, request, "open", CLIENT, "");
    add(&cluster, &kube_kind_certificate_signing_request, request, "foreign", "example.com/signer", CONDITION("Approved"));
    cluster_settle(&cluster);
    assert_int_equal(find_request(&cluster, "approved")->status.certificate.len, 6);
    assert_int_equal(find_request(&cluster, "denied")->status.certificate.len, 0);
    assert_int_equal(find_request(&cluster, "open")->status.certificate.len, 0);
    assert_int_equal(find_request(&cluster, "foreign")->status.certificate.len, 0);
    cluster_wait(&cluster, HOUR - 60);
    assert_int_equal(cluster_count(&cluster, &kube_kind_certificate_signing_request), 4);
    cluster_wait(&cluster, 120);
    assert_null(find_request(&cluster, "approved"));
    assert_null(find_request(&cluster, "denied"));
    assert_non_null(find_request(&cluster, "open"));
    cluster_wait(&cluster, 24 * HOUR);
    assert_int_equal(cluster_count(&cluster, &kube_kind_certificate_signing_request), 0);
    cluster_deinit(&cluster);
}

static const char secret[] = "{'metadata':{'name':'%s','namespace':'d','annotations':{'kubernetes.io/service-account.name':'%s'}},'type':'%s'}";
#define TOKEN "kubernetes.io/service-account-token"

UNIT_TEST(secrets_get_tokens_and_end_with_their_account) {
    struct cluster cluster;
    cluster_init(&cluster, 1);
    cluster_add(&cluster, &kube_kind_service_account, "{'metadata':{'name':'robot','namespace':'d'}}");
    add(&cluster, &kube_kind_secret, secret, "token", "robot", TOKEN);
    add(&cluster, &kube_kind_secret, secret, "other", "robot", "Opaque");
    add(&cluster, &kube_kind_secret, secret, "nobody", "absent", TOKEN);
    cluster_settle(&cluster);
    const struct kube_object *token = cluster_get(&cluster, &kube_kind_secret, "d", "token");
    const struct kube_object *account = cluster_get(&cluster, &kube_kind_service_account, "d", "robot");
    assert_int_equal(token->secret->data.count, 3);
    assert_string_equal(kube_map_find(&token->metadata->annotations, "kubernetes.io/service-account.uid"), account->metadata->uid);
    assert_int_equal(cluster_get(&cluster, &kube_kind_secret, "d", "other")->secret->data.count, 0);
    assert_null(cluster_get(&cluster, &kube_kind_secret, "d", "nobody"));
    assert_null(cluster_delete(&cluster, &kube_kind_service_account, "d", "robot", NULL, NULL, -1));
    cluster_settle(&cluster);
    assert_null(cluster_get(&cluster, &kube_kind_secret, "d", "token"));
    assert_non_null(cluster_get(&cluster, &kube_kind_secret, "d", "other"));
    cluster_deinit(&cluster);
}

UNIT_MAIN(UNIT(roles_gather_the_rules_of_others), UNIT(every_namespace_knows_the_authority), UNIT(approved_requests_are_signed_and_old_ones_go),
          UNIT(secrets_get_tokens_and_end_with_their_account))

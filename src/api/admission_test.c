/* What the server decides, as tables of (what is there, what is written) → words; over HTTP, as clients see it. */
#include "api/api_testing_priv.h"

#define NAMESPACE(name, labels) "{\"metadata\":{\"name\":\"" name "\",\"labels\":{" labels "}}}"
#define POD(name, spec, container)                                                                                                                   \
    "{\"metadata\":{\"name\":\"" name "\"},\"spec\":{" spec "\"containers\":[{\"name\":\"c\",\"image\":\"x:1\"" container "}]}}"
#define SERVICE(name, spec) "{\"metadata\":{\"name\":\"" name "\"},\"spec\":{\"ports\":[{\"port\":80}]" spec "}}"
#define AT(path) "/api/v1/namespaces/default/" path

static struct reply make(struct fixture *fixture, const char *target, const char *body) {
    struct reply reply = ask(fixture, "POST", target, body);
    if (reply.status != 201)
        fail_msg("%s: %s", target, text(&reply, "message"));
    return reply;
}

static void refuses(struct fixture *fixture, const char *target, const char *body, int status, const char *words) {
    struct reply reply = ask(fixture, "POST", target, body);
    assert_string_equal(text(&reply, "message"), words);
    assert_int_equal(reply.status, status);
}

/* --- the Pod Security Standards --- */

UNIT_TEST(pods_keep_the_standard_of_their_namespace) {
    static const struct {
        const char *level, *body, *words; /* words NULL: accepted */
    } cases[] = {
        {"baseline", POD("p", "", ""), NULL},
        {"baseline", POD("p", "", ",\"securityContext\":{\"privileged\":true}"),
         "privileged (container \"c\" must not set securityContext.privileged=true)"},
        {"baseline", POD("p", "\"hostNetwork\":true,\"hostPID\":true,", ""), "host namespaces (hostNetwork=true, hostPID=true)"},
        {"baseline", POD("p", "", ",\"ports\":[{\"containerPort\":80,\"hostPort\":80}]"), "hostPort (container \"c\" uses hostPort 80)"},
        {"baseline", POD("p", "\"volumes\":[{\"name\":\"v\",\"hostPath\":{\"path\":\"/\"}}],", ""), "hostPath volumes (volume \"v\")"},
        {"baseline", POD("p", "", ",\"securityContext\":{\"capabilities\":{\"add\":[\"SYS_ADMIN\",\"KILL\",\"NET_RAW\"]}}"),
         "non-default capabilities (container \"c\" must not include \"NET_RAW\", \"SYS_ADMIN\" in securityContext.capabilities.add)"},
        {"baseline", POD("p", "\"securityContext\":{\"seccompProfile\":{\"type\":\"Unconfined\"}},", ""),
         "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")"},
        {"baseline", POD("p", "\"securityContext\":{\"sysctls\":[{\"name\":\"net.core.somaxconn\",\"value\":\"1\"}]},", ""),
         "forbidden sysctls (net.core.somaxconn)"},
        {"baseline", POD("p", "\"securityContext\":{\"seLinuxOptions\":{\"type\":\"x\",\"user\":\"u\"}},", ""),
         "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"x\"; user may not be set)"},
        {"baseline", POD("p", "\"hostUsers\":false,", ",\"securityContext\":{\"procMount\":\"Unmasked\"}"),
         "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")"},
        {"baseline", POD("p", "", ",\"securityContext\":{\"appArmorProfile\":{\"type\":\"Unconfined\"}}"),
         "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")"},
        {"restricted", POD("p", "", ""),
         "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities "
         "(container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set "
         "securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to "
         "\"RuntimeDefault\" or \"Localhost\")"},
        {"restricted",
         POD("p",
             "\"securityContext\":{\"runAsNonRoot\":true,\"seccompProfile\":{\"type\":\"RuntimeDefault\"}},\"volumes\":[{\"name\":\"v\",\"hostPath\":"
             "{"
             "\"path\":\"/\"}}],",
             ",\"securityContext\":{\"allowPrivilegeEscalation\":false,\"capabilities\":{\"drop\":[\"ALL\"]}}"),
         "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")"},
        {"restricted",
         POD("p", "\"securityContext\":{\"runAsNonRoot\":true,\"runAsUser\":0,\"seccompProfile\":{\"type\":\"RuntimeDefault\"}},",
             ",\"securityContext\":{\"allowPrivilegeEscalation\":false,\"capabilities\":{\"drop\":[\"ALL\"]}}"),
         "runAsUser=0 (pod must not set runAsUser=0)"},
        {"restricted",
         POD("p", "\"securityContext\":{\"runAsNonRoot\":true,\"seccompProfile\":{\"type\":\"RuntimeDefault\"}},",
             ",\"securityContext\":{\"allowPrivilegeEscalation\":false,\"capabilities\":{\"drop\":[\"ALL\"]}}"),
         NULL},
    };
    struct fixture *fixture = *state;
    make(fixture, "/api/v1/namespaces", NAMESPACE("baseline", "\"pod-security.kubernetes.io/enforce\":\"baseline\""));
    make(fixture, "/api/v1/namespaces",
         NAMESPACE("restricted", "\"pod-security.kubernetes.io/enforce\":\"restricted\",\"pod-security.kubernetes.io/enforce-version\":\"v1.32\""));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char target[100], words[1024];
        snprintf(target, sizeof target, "/api/v1/namespaces/%s/pods?dryRun=All", cases[i].level);
        snprintf(words, sizeof words, "pods \"p\" is forbidden: violates PodSecurity \"%s:%s\": %s", cases[i].level,
                 strcmp(cases[i].level, "baseline") ? "v1.32" : "latest", cases[i].words ? cases[i].words : "");
        struct reply reply = ask(fixture, "POST", target, cases[i].body);
        assert_string_equal(text(&reply, "message"), cases[i].words ? words : "");
        assert_int_equal(reply.status, cases[i].words ? 403 : 201);
    }
}

UNIT_TEST(what_makes_pods_is_only_warned_of) {
    struct fixture *fixture = *state;
    make(fixture, "/api/v1/namespaces", NAMESPACE("b", "\"pod-security.kubernetes.io/enforce\":\"baseline\""));
    struct reply reply =
        make(fixture, "/apis/apps/v1/namespaces/b/deployments",
             "{\"metadata\":{\"name\":\"d\"},\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"template\":{\"metadata\":{\"labels\":{"
             "\"a\":\"b\"}},\"spec\":{\"hostNetwork\":true,\"containers\":[{\"name\":\"c\",\"image\":\"x:1\"}]}}}}");
    assert_string_equal(reply.warning, "299 - \"would violate PodSecurity \\\"baseline:latest\\\": host namespaces (hostNetwork=true)\"");
    refuses(
        fixture, "/api/v1/namespaces", NAMESPACE("bad", "\"pod-security.kubernetes.io/enforce\":\"strict\""), 422,
        "Namespace \"bad\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, "
        "baseline, restricted");
    make(fixture, AT("pods"), POD("p", "\"hostNetwork\":true,", ""));
    reply = ask_as(fixture, "PATCH", "/api/v1/namespaces/default", "application/merge-patch+json",
                   "{\"metadata\":{\"labels\":{\"pod-security.kubernetes.io/enforce\":\"baseline\"}}}", NULL);
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply.warning, "299 - \"existing pods in namespace \\\"default\\\" violate the new PodSecurity enforce level "
                                       "\\\"baseline:latest\\\"\"");
}

/* --- accounts, priorities, tolerations --- */

UNIT_TEST(pods_get_what_the_cluster_gives) {
    struct fixture *fixture = *state;
    struct reply reply = make(fixture, AT("pods"), POD("p", "\"priorityClassName\":\"system-node-critical\",", ""));
    assert_string_equal(text(&reply, "spec.serviceAccountName"), "default");
    assert_int_equal(tree_int_or(tree_path(reply.tree, "spec.priority"), 0), 2000001000);
    assert_string_equal(text(&reply, "spec.preemptionPolicy"), "PreemptLowerPriority");
    const struct tree *tolerations = tree_path(reply.tree, "spec.tolerations");
    assert_int_equal(tree_count(tolerations), 2);
    assert_string_equal(tree_text_or(tree_find(tree_at(tolerations, 1), "key"), ""), "node.kubernetes.io/unreachable");
    const struct tree *mount = tree_at(tree_path(tree_at(tree_path(reply.tree, "spec.containers"), 0), "volumeMounts"), 0);
    const struct tree *volume = tree_at(tree_path(reply.tree, "spec.volumes"), 0);
    assert_string_equal(tree_text_or(tree_find(mount, "mountPath"), ""), "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_string_equal(tree_text_or(tree_find(mount, "name"), ""), tree_text_or(tree_find(volume, "name"), "none"));
    assert_int_equal(tree_count(tree_path(volume, "projected.sources")), 3);
    reply = make(fixture, AT("pods"), POD("alone", "\"automountServiceAccountToken\":false,", ""));
    assert_int_equal(tree_count(tree_path(reply.tree, "spec.volumes")), 0);
    refuses(fixture, AT("pods"), POD("q", "\"priorityClassName\":\"none\",", ""), 403,
            "pods \"q\" is forbidden: no PriorityClass with name none was found");
    refuses(
        fixture, AT("pods"), POD("q", "\"priority\":7,", ""), 403,
        "pods \"q\" is forbidden: the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 0 from "
        "the given PriorityClass name");
    refuses(fixture, AT("pods"), POD("q", "\"serviceAccountName\":\"none\",", ""), 403,
            "pods \"q\" is forbidden: error looking up service account default/none: serviceaccount \"none\" not found");
    refuses(fixture, AT("pods"), POD("q", "\"runtimeClassName\":\"none\",", ""), 403,
            "pods \"q\" is forbidden: pod rejected: RuntimeClass \"none\" not found");
}

UNIT_TEST(classes_that_are_the_default_are_filled_in) {
    struct fixture *fixture = *state;
    make(fixture, "/apis/scheduling.k8s.io/v1/priorityclasses", "{\"metadata\":{\"name\":\"usual\"},\"value\":5,\"globalDefault\":true}");
    refuses(fixture, "/apis/scheduling.k8s.io/v1/priorityclasses", "{\"metadata\":{\"name\":\"other\"},\"value\":6,\"globalDefault\":true}", 403,
            "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass usual is already marked as default. Only one default can exist");
    struct reply reply = make(fixture, AT("pods"), POD("p", "", ""));
    assert_string_equal(text(&reply, "spec.priorityClassName"), "usual");
    assert_int_equal(tree_int_or(tree_path(reply.tree, "spec.priority"), 0), 5);
    make(fixture, "/apis/storage.k8s.io/v1/storageclasses",
         "{\"metadata\":{\"name\":\"fast\",\"annotations\":{\"storageclass.kubernetes.io/is-default-class\":\"true\"}},\"provisioner\":\"x\"}");
    reply = make(fixture, AT("persistentvolumeclaims"),
                 "{\"metadata\":{\"name\":\"c\"},\"spec\":{\"accessModes\":[\"ReadWriteOnce\"],\"resources\":{\"requests\":{\"storage\":\"1Gi\"}}}}");
    assert_string_equal(text(&reply, "spec.storageClassName"), "fast");
    assert_string_equal(tree_text_or(tree_at(tree_path(reply.tree, "metadata.finalizers"), 0), ""), "kubernetes.io/pvc-protection");
    make(fixture, "/apis/networking.k8s.io/v1/ingressclasses",
         "{\"metadata\":{\"name\":\"gate\",\"annotations\":{\"ingressclass.kubernetes.io/is-default-class\":\"true\"}},\"spec\":{\"controller\":\"x/"
         "y\"}}");
    reply = make(fixture, "/apis/networking.k8s.io/v1/namespaces/default/ingresses",
                 "{\"metadata\":{\"name\":\"i\"},\"spec\":{\"defaultBackend\":{\"service\":{\"name\":\"s\",\"port\":{\"number\":80}}}}}");
    assert_string_equal(text(&reply, "spec.ingressClassName"), "gate");
}

/* --- limits and quotas --- */

UNIT_TEST(limit_ranges_fill_in_and_bound) {
    struct fixture *fixture = *state;
    make(fixture, AT("limitranges"),
         "{\"metadata\":{\"name\":\"l\"},\"spec\":{\"limits\":[{\"type\":\"Container\",\"default\":{\"cpu\":\"500m\",\"memory\":\"128Mi\"},"
         "\"defaultRequest\":{\"cpu\":\"100m\"},\"max\":{\"cpu\":\"1\"},\"min\":{\"cpu\":\"50m\"},\"maxLimitRequestRatio\":{\"cpu\":\"5\"}},"
         "{\"type\":\"PersistentVolumeClaim\",\"min\":{\"storage\":\"1Gi\"}}]}}");
    struct reply reply = make(fixture, AT("pods"), POD("p", "", ""));
    const struct tree *container = tree_at(tree_path(reply.tree, "spec.containers"), 0);
    assert_string_equal(tree_text_or(tree_path(container, "resources.limits.cpu"), ""), "500m");
    assert_string_equal(tree_text_or(tree_path(container, "resources.requests.cpu"), ""), "100m");
    assert_string_equal(tree_text_or(tree_find(tree_path(reply.tree, "metadata.annotations"), "kubernetes.io/limit-ranger"), ""),
                        "LimitRanger plugin set: cpu, memory request for container c; cpu, memory limit for container c");
    refuses(
        fixture, AT("pods"), POD("q", "", ",\"resources\":{\"limits\":{\"cpu\":\"2\"},\"requests\":{\"cpu\":\"10m\"}}"), 403,
        "pods \"q\" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m, maximum cpu usage per Container is 1, but limit is 2, "
        "cpu max limit to request ratio per Container is 5, but provided ratio is 200.000000]");
    refuses(fixture, AT("persistentvolumeclaims"),
            "{\"metadata\":{\"name\":\"c\"},\"spec\":{\"accessModes\":[\"ReadWriteOnce\"],\"resources\":{\"requests\":{\"storage\":\"1Mi\"}}}}", 403,
            "persistentvolumeclaims \"c\" is forbidden: minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi");
}

#define QUOTAS AT("resourcequotas")
#define RESOURCES ",\"resources\":{\"requests\":{\"cpu\":\"300m\"}}"

/* A quota that the controller has counted, so to speak. */
static void make_quota(struct fixture *fixture, const char *name, const char *spec, const char *hard, const char *used) {
    char body[512], target[200];
    snprintf(body, sizeof body, "{\"metadata\":{\"name\":\"%s\"},\"spec\":{%s\"hard\":{%s}}}", name, spec, hard);
    make(fixture, QUOTAS, body);
    snprintf(target, sizeof target, QUOTAS "/%s/status", name);
    snprintf(body, sizeof body, "{\"status\":{\"hard\":{%s},\"used\":{%s}}}", hard, used);
    struct reply reply = ask_as(fixture, "PATCH", target, "application/merge-patch+json", body, NULL);
    assert_int_equal(reply.status, 200);
}

UNIT_TEST(quotas_are_not_exceeded_by_creates_that_arrive_together) {
    struct fixture *fixture = *state;
    make_quota(fixture, "q", "", "\"pods\":\"2\",\"requests.cpu\":\"500m\"", "\"pods\":\"0\",\"requests.cpu\":\"0\"");
    refuses(fixture, AT("pods"), POD("a", "", ""), 403, "pods \"a\" is forbidden: failed quota: q: must specify requests.cpu for: c");
    struct kube_object *objects[2];
    struct diag diag = DIAG_INIT;
    const char *const bodies[] = {POD("a", "", RESOURCES), POD("b", "", RESOURCES)};
    for (size_t i = 0; i < ARRAY_LEN(objects); i++) {
        assert_int_equal(kube_decode_json(&kube_kind_pod, slice_of(bodies[i]), KUBE_STRICT, &objects[i], &diag), 0);
        objects[i]->metadata->namespace = "default";
    }
    struct api_failure failure;
    assert_int_equal(api_create(fixture->api, objects[0], NULL, NULL, &failure), 0);
    assert_int_equal(api_create(fixture->api, objects[1], NULL, NULL, &failure), 403); /* the first is not yet committed */
    assert_string_equal(
        failure.message,
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=300m, used: requests.cpu=300m, limited: requests.cpu=500m");
    make(fixture, AT("configmaps"), "{\"metadata\":{\"name\":\"later\"}}"); /* committed behind it */
    struct reply reply = ask(fixture, "GET", QUOTAS "/q", NULL);
    assert_string_equal(text(&reply, "status.used.pods"), "1");
    assert_string_equal(tree_text_or(tree_find(tree_path(reply.tree, "status.used"), "requests.cpu"), ""), "300m");
}

UNIT_TEST(quotas_count_all_kinds_and_keep_to_their_scopes) {
    struct fixture *fixture = *state;
    make_quota(fixture, "n", "", "\"configmaps\":\"1\",\"count/deployments.apps\":\"0\",\"services.nodeports\":\"1\"",
               "\"configmaps\":\"0\",\"count/deployments.apps\":\"0\",\"services.nodeports\":\"0\"");
    make_quota(
        fixture, "s",
        "\"scopeSelector\":{\"matchExpressions\":[{\"scopeName\":\"PriorityClass\",\"operator\":\"In\",\"values\":[\"system-node-critical\"]}]},",
        "\"pods\":\"0\"", "\"pods\":\"0\"");
    make(fixture, AT("configmaps"), "{\"metadata\":{\"name\":\"a\"}}");
    refuses(fixture, AT("configmaps"), "{\"metadata\":{\"name\":\"b\"}}", 403,
            "configmaps \"b\" is forbidden: exceeded quota: n, requested: configmaps=1, used: configmaps=1, limited: configmaps=1");
    refuses(
        fixture, "/apis/apps/v1/namespaces/default/deployments",
        "{\"metadata\":{\"name\":\"d\"},\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"template\":{\"metadata\":{\"labels\":{\"a\":\"b\"}},"
        "\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"x:1\"}]}}}}",
        403,
        "deployments.apps \"d\" is forbidden: exceeded quota: n, requested: count/deployments.apps=1, used: count/deployments.apps=0, limited: "
        "count/deployments.apps=0");
    make(fixture, AT("pods"), POD("a", "", ""));
    refuses(fixture, AT("pods"), POD("b", "\"priorityClassName\":\"system-node-critical\",", ""), 403,
            "pods \"b\" is forbidden: exceeded quota: s, requested: pods=1, used: pods=0, limited: pods=0");
    make(fixture, AT("services"), SERVICE("a", ""));
    struct reply reply = ask_as(fixture, "PATCH", AT("services/a"), "application/merge-patch+json", "{\"spec\":{\"type\":\"NodePort\"}}", NULL);
    assert_int_equal(reply.status, 200);
    refuses(
        fixture, AT("services"), SERVICE("b", ",\"type\":\"NodePort\""), 403,
        "services \"b\" is forbidden: exceeded quota: n, requested: services.nodeports=1, used: services.nodeports=1, limited: services.nodeports=1");
}

/* --- services --- */

static int64_t node_port(const struct reply *reply) {
    return tree_int_or(tree_find(tree_at(tree_path(reply->tree, "spec.ports"), 0), "nodePort"), 0);
}

UNIT_TEST(node_ports_are_given_kept_and_given_back) {
    struct fixture *fixture = *state;
    struct reply reply = make(fixture, AT("services"), SERVICE("a", ",\"type\":\"NodePort\""));
    int64_t port = node_port(&reply);
    assert_true(port >= 30086 && port <= 32767);
    make(fixture, AT("services"),
         "{\"metadata\":{\"name\":\"f\"},\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"name\":\"t\",\"port\":53,\"nodePort\":30053},"
         "{\"name\":\"u\",\"port\":53,\"protocol\":\"UDP\",\"nodePort\":30053}]}}");
    const char *taken = "{\"metadata\":{\"name\":\"g\"},\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"port\":80,\"nodePort\":30053}]}}";
    refuses(fixture, AT("services"), taken, 422,
            "Service \"g\" is invalid: spec.ports[0].nodePort: Invalid value: 30053: provided port is already allocated");
    refuses(
        fixture, AT("services"), "{\"metadata\":{\"name\":\"g\"},\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"port\":80,\"nodePort\":80}]}}", 422,
        "Service \"g\" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is "
        "30000-32767");
    /* An update that names no port keeps it; another type gives it back. */
    reply = ask_as(fixture, "PUT", AT("services/a"), "application/json", SERVICE("a", ",\"type\":\"NodePort\",\"selector\":{\"x\":\"y\"}"), NULL);
    assert_int_equal(node_port(&reply), port);
    reply = ask_as(fixture, "PATCH", AT("services/f"), "application/merge-patch+json", "{\"spec\":{\"type\":\"ClusterIP\"}}", NULL);
    assert_int_equal(reply.status, 200);
    assert_int_equal(node_port(&reply), 0);
    make(fixture, AT("services"), taken);
    assert_int_equal(ask(fixture, "DELETE", AT("services/g"), NULL).status, 200);
    make(fixture, AT("services?dryRun=All"), taken);
    make(fixture, AT("services"), taken);
}

UNIT_TEST(balancers_get_what_they_ask_for) {
    struct fixture *fixture = *state;
    struct reply reply = make(fixture, AT("services"), SERVICE("a", ",\"type\":\"LoadBalancer\",\"externalTrafficPolicy\":\"Local\""));
    assert_true(node_port(&reply) >= 30000);
    assert_true(tree_int_or(tree_path(reply.tree, "spec.healthCheckNodePort"), 0) >= 30000);
    reply = make(fixture, AT("services"), SERVICE("b", ",\"type\":\"LoadBalancer\",\"allocateLoadBalancerNodePorts\":false"));
    assert_int_equal(node_port(&reply), 0);
    reply = make(fixture, AT("services"), SERVICE("c", ",\"clusterIP\":\"None\""));
    assert_string_equal(text(&reply, "spec.clusterIP"), "None");
    reply = make(fixture, AT("services"), SERVICE("d", ",\"type\":\"ExternalName\",\"externalName\":\"example.com\""));
    assert_string_equal(text(&reply, "spec.clusterIP"), "");
    reply =
        ask_as(fixture, "PATCH", AT("services/d"), "application/merge-patch+json", "{\"spec\":{\"type\":\"ClusterIP\",\"externalName\":null}}", NULL);
    assert_int_equal(reply.status, 200);
    assert_true(*text(&reply, "spec.clusterIP"));
    reply = ask_as(fixture, "PATCH", AT("services/a"), "application/merge-patch+json",
                   "{\"spec\":{\"type\":\"ExternalName\",\"externalName\":\"e.com\"}}", NULL);
    assert_int_equal(reply.status, 200);
    assert_string_equal(text(&reply, "spec.clusterIP"), "");
}

/* --- subresources --- */

#define EVICTION "{\"apiVersion\":\"policy/v1\",\"kind\":\"Eviction\",\"metadata\":{\"name\":\"p\"}}"

static void set_status(struct fixture *fixture, const char *target, const char *status) {
    struct reply reply = ask_as(fixture, "PATCH", target, "application/merge-patch+json", status, NULL);
    if (reply.status != 200)
        fail_msg("%s: %s", target, text(&reply, "message"));
}

UNIT_TEST(evictions_ask_the_budget) {
    struct fixture *fixture = *state;
    make(fixture, AT("pods"),
         "{\"metadata\":{\"name\":\"p\",\"labels\":{\"app\":\"web\"}},\"spec\":{\"nodeName\":\"n\",\"containers\":[{\"name\":\"c\",\"image\":\"x:1\"}"
         "]}}");
    set_status(fixture, AT("pods/p/status"), "{\"status\":{\"phase\":\"Running\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}");
    make(fixture, "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
         "{\"metadata\":{\"name\":\"b\"},\"spec\":{\"minAvailable\":1,\"selector\":{\"matchLabels\":{\"app\":\"web\"}}}}");
    struct reply reply = ask(fixture, "POST", AT("pods/p/eviction"), EVICTION);
    assert_int_equal(reply.status, 429);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "details.retryAfterSeconds"), 0), 10);
    set_status(fixture, "/apis/policy/v1/namespaces/default/poddisruptionbudgets/b/status",
               "{\"status\":{\"observedGeneration\":1,\"disruptionsAllowed\":0,\"currentHealthy\":1,\"desiredHealthy\":1,\"expectedPods\":1}}");
    reply = ask(fixture, "POST", AT("pods/p/eviction"), EVICTION);
    assert_int_equal(reply.status, 429);
    assert_string_equal(text(&reply, "reason"), "TooManyRequests");
    assert_string_equal(text(&reply, "message"), "Cannot evict pod as it would violate the pod's disruption budget.");
    const struct tree *cause = tree_at(tree_path(reply.tree, "details.causes"), 0);
    assert_string_equal(tree_text_or(tree_find(cause, "reason"), ""), "DisruptionBudget");
    assert_string_equal(tree_text_or(tree_find(cause, "message"), ""), "The disruption budget b needs 1 healthy pods and has 1 currently");
    set_status(fixture, "/apis/policy/v1/namespaces/default/poddisruptionbudgets/b/status",
               "{\"status\":{\"disruptionsAllowed\":1,\"currentHealthy\":2}}");
    assert_int_equal(ask(fixture, "POST", AT("pods/p/eviction?dryRun=All"), EVICTION).status, 201);
    reply = ask(fixture, "POST", AT("pods/p/eviction"), EVICTION);
    assert_int_equal(reply.status, 201);
    assert_string_equal(text(&reply, "status"), "Success");
    reply = ask(fixture, "GET", "/apis/policy/v1/namespaces/default/poddisruptionbudgets/b", NULL);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "status.disruptionsAllowed"), -1), 0);
    assert_true(*text(&reply, "status.disruptedPods.p"));
    reply = ask(fixture, "GET", AT("pods/p"), NULL);
    assert_true(*text(&reply, "metadata.deletionTimestamp"));
    assert_string_equal(tree_text_or(tree_find(tree_at(tree_path(reply.tree, "status.conditions"), 1), "type"), ""), "DisruptionTarget");
}

#define CRON_JOBS "/apis/batch/v1/namespaces/default/cronjobs"
#define CRON_JOB(zone)                                                                                                                               \
    "{\"metadata\":{\"name\":\"c\"},\"spec\":{\"schedule\":\"* * * * *\",\"timeZone\":\"" zone                                                       \
    "\",\"jobTemplate\":{\"spec\":{\"template\":{\"spec\":{\"restartPolicy\":\"Never\",\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}}}}}"

UNIT_TEST(time_zones_are_known) {
    struct fixture *fixture = *state;
    refuses(fixture, CRON_JOBS, CRON_JOB("Europe/Nowhere"), 422,
            "CronJob.batch \"c\" is invalid: spec.timeZone: Invalid value: \"Europe/Nowhere\": unknown time zone Europe/Nowhere");
    assert_int_equal(ask(fixture, "POST", CRON_JOBS, CRON_JOB("UTC")).status, 201);
}

UNIT_TEST(ephemeral_containers_are_only_added) {
    static const struct {
        const char *list, *words;
    } cases[] = {
        {"[{\"name\":\"c\",\"image\":\"x\"}]", "spec.ephemeralContainers[0].name: Duplicate value: \"c\""},
        {"[{\"name\":\"d\"}]", "spec.ephemeralContainers[0].image: Required value"},
        {"[{\"name\":\"d\",\"image\":\"x\",\"ports\":[{\"containerPort\":1}]}]",
         "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container"},
        {"[{\"name\":\"d\",\"image\":\"x\",\"targetContainerName\":\"e\"}]", "spec.ephemeralContainers[0].targetContainerName: Not found: \"e\""},
        {"[{\"name\":\"d\",\"image\":\"x\",\"targetContainerName\":\"c\"}]", NULL},
        {"[{\"name\":\"d\",\"image\":\"y\",\"targetContainerName\":\"c\"}]",
         "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be changed\n"},
        {"null", "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be removed\n"},
    };
    struct fixture *fixture = *state;
    make(fixture, AT("pods"), POD("p", "", ""));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char body[300], words[300];
        snprintf(body, sizeof body, "{\"metadata\":{\"labels\":{\"a\":\"b\"}},\"spec\":{\"ephemeralContainers\":%s}}", cases[i].list);
        snprintf(words, sizeof words, "Pod \"p\" is invalid: %s", cases[i].words ? cases[i].words : "");
        struct reply reply = ask_as(fixture, "PATCH", AT("pods/p/ephemeralcontainers"), "application/merge-patch+json", body, NULL);
        assert_string_equal(text(&reply, "message"), cases[i].words ? words : "");
    }
    struct reply reply = ask(fixture, "GET", AT("pods/p/ephemeralcontainers"), NULL);
    assert_int_equal(tree_count(tree_path(reply.tree, "spec.ephemeralContainers")), 1);
    assert_string_equal(text(&reply, "metadata.labels.a"), ""); /* nothing else changes here */
    reply = ask_as(fixture, "PATCH", AT("pods/p"), "application/merge-patch+json", "{\"spec\":{\"ephemeralContainers\":null}}", NULL);
    assert_int_equal(reply.status, 422);
}

UNIT_TEST(scales_and_logs_are_refused_in_their_words) {
    struct fixture *fixture = *state;
    make(fixture, AT("replicationcontrollers"),
         "{\"metadata\":{\"name\":\"r\"},\"spec\":{\"replicas\":2,\"selector\":{\"a\":\"b\"},\"template\":{\"metadata\":{\"labels\":{\"a\":\"b\"}},"
         "\"spec\":{"
         "\"containers\":[{\"name\":\"c\",\"image\":\"x:1\"}]}}}}");
    struct reply reply = ask(fixture, "GET", AT("replicationcontrollers/r/scale"), NULL);
    assert_string_equal(text(&reply, "status.selector"), "a=b");
    reply = ask_as(fixture, "PATCH", AT("replicationcontrollers/r/scale"), "application/merge-patch+json", "{\"spec\":{\"replicas\":-1}}", NULL);
    assert_int_equal(reply.status, 422);
    assert_string_equal(text(&reply, "message"),
                        "Scale.autoscaling \"r\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0");
    make(fixture, AT("pods"),
         "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"x:1\"},{\"name\":\"b\",\"image\":\"x:1\"}],"
         "\"initContainers\":[{\"name\":\"i\",\"image\":\"x:1\"}]}}");
    static const char *const cases[][2] = {
        {AT("pods/p/log"), "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"},
        {AT("pods/p/log?container=z"), "container z is not valid for pod p"},
        {AT("pods/p/log?sinceSeconds=0"), "PodLogOptions \"p\" is invalid: sinceSeconds: Invalid value: 0: must be greater than 0"},
        {AT("pods/p/log?tailLines=-1"), "PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"},
        {AT("pods/p/log?container=a"), "pod p does not have a host assigned"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        reply = ask(fixture, "GET", cases[i][0], NULL);
        assert_string_equal(text(&reply, "message"), cases[i][1]);
    }
}

/* --- the token of the account --- */

static const char *mounted(const struct reply *reply) {
    const struct tree *mounts = tree_find(tree_at(tree_path(reply->tree, "spec.containers"), 0), "volumeMounts");
    for (size_t i = 0; i < tree_count(mounts); i++)
        if (!strcmp(tree_text_or(tree_find(tree_at(mounts, i), "mountPath"), ""), "/var/run/secrets/kubernetes.io/serviceaccount"))
            return tree_text_or(tree_find(tree_at(mounts, i), "name"), "");
    return NULL;
}

static const struct tree *token_volume(const struct reply *reply) {
    const struct tree *volumes = tree_path(reply->tree, "spec.volumes");
    for (size_t i = 0; i < tree_count(volumes); i++)
        if (tree_path(tree_at(volumes, i), "projected.sources"))
            return tree_at(volumes, i);
    return NULL;
}

UNIT_TEST(pods_find_a_token_unless_they_say_otherwise) {
    struct fixture *fixture = *state;
    make(fixture, AT("serviceaccounts"), "{\"metadata\":{\"name\":\"quiet\"},\"automountServiceAccountToken\":false}");
    struct reply reply = make(fixture, AT("pods"), POD("yes", "", ""));
    const struct tree *volume = token_volume(&reply), *sources = tree_path(volume, "projected.sources");
    assert_int_equal(tree_count(sources), 3);
    assert_int_equal(tree_int_or(tree_path(tree_at(sources, 0), "serviceAccountToken.expirationSeconds"), 0), 3607);
    assert_string_equal(tree_text_or(tree_path(tree_at(sources, 1), "configMap.name"), ""), "kube-root-ca.crt");
    assert_string_equal(mounted(&reply), tree_text_or(tree_find(volume, "name"), "?"));
    assert_int_equal(strncmp(mounted(&reply), "kube-api-access-", 16), 0);

    static const char *const silent[] = {
        POD("no", "\"automountServiceAccountToken\":false,", ""),
        POD("by-account", "\"serviceAccountName\":\"quiet\",", ""),
    };
    for (size_t i = 0; i < ARRAY_LEN(silent); i++) {
        reply = make(fixture, AT("pods"), silent[i]);
        assert_null(token_volume(&reply));
        assert_null(mounted(&reply));
    }
    reply = make(fixture, AT("pods"), POD("by-pod", "\"serviceAccountName\":\"quiet\",\"automountServiceAccountToken\":true,", ""));
    assert_non_null(mounted(&reply));
    reply = make(fixture, AT("pods"), /* what is mounted there by the pod's own wish stays */
                 POD("own", "\"volumes\":[{\"name\":\"v\",\"emptyDir\":{}}],",
                     ",\"volumeMounts\":[{\"name\":\"v\",\"mountPath\":\"/var/run/secrets/kubernetes.io/serviceaccount\"}]"));
    assert_string_equal(mounted(&reply), "v");
    assert_null(token_volume(&reply));
}

#define WITH_API(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

UNIT_MAIN(WITH_API(pods_keep_the_standard_of_their_namespace), WITH_API(what_makes_pods_is_only_warned_of), WITH_API(pods_get_what_the_cluster_gives),
          WITH_API(classes_that_are_the_default_are_filled_in), WITH_API(limit_ranges_fill_in_and_bound),
          WITH_API(quotas_are_not_exceeded_by_creates_that_arrive_together), WITH_API(quotas_count_all_kinds_and_keep_to_their_scopes),
          WITH_API(node_ports_are_given_kept_and_given_back), WITH_API(balancers_get_what_they_ask_for), WITH_API(evictions_ask_the_budget),
          WITH_API(time_zones_are_known), WITH_API(ephemeral_containers_are_only_added), WITH_API(pods_find_a_token_unless_they_say_otherwise),
          WITH_API(scales_and_logs_are_refused_in_their_words))

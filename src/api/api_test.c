/* The API as clients see it: a real store in a temporary folder, a real server on a unix socket, and our own client, all in one loop. */
#include "api/api_priv.h"
#include "api/api_testing_priv.h"

#define MAPS "/api/v1/namespaces/default/configmaps"
#define DEPLOYMENTS "/apis/apps/v1/namespaces/default/deployments"
#define PODS "/api/v1/namespaces/default/pods"
#define DEPLOYMENT                                                                                                                                   \
    "{\"apiVersion\":\"apps/"                                                                                                                        \
    "v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"web\"},\"spec\":{\"selector\":{\"matchLabels\":{\"app\":\"web\"}},"                       \
    "\"template\":{\"metadata\":{\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"nginx:1\"}]}}}}"
#define MAP(name, labels) "{\"metadata\":{\"name\":\"" name "\",\"labels\":{" labels "}},\"data\":{\"k\":\"v\"}}"

UNIT_TEST(bootstraps_namespaces) {
    struct fixture *fixture = *state;
    struct reply reply = {.status = 0};
    for (int i = 0; i < TURNS_MAX && reply.status != 200; i++)
        reply = ask(fixture, "GET", "/readyz", NULL);
    reply = ask(fixture, "GET", "/api/v1/namespaces", NULL);
    assert_int_equal(reply.status, 200);
    assert_int_equal(tree_count(tree_find(reply.tree, "items")), 4);
    reply = ask(fixture, "GET", "/api/v1/namespaces/default/services/kubernetes", NULL);
    assert_string_equal(text(&reply, "spec.clusterIP"), "10.96.0.1");
}

#define HPA "\"metadata\":{\"name\":\"h\"},\"spec\":{\"scaleTargetRef\":{\"kind\":\"Deployment\",\"name\":\"web\"},\"maxReplicas\":3"

UNIT_TEST(kinds_are_views_of_one_object) {
    struct fixture *fixture = *state;
    const char *v1 = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers",
               *v2 = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    struct reply reply = ask(fixture, "POST", v1, "{" HPA ",\"targetCPUUtilizationPercentage\":50}}");
    assert_int_equal(reply.status, 201);
    assert_string_equal(text(&reply, "apiVersion"), "autoscaling/v1");
    reply = ask(fixture, "GET", v2, NULL);
    const struct tree *item = tree_at(tree_find(reply.tree, "items"), 0);
    assert_string_equal(tree_text_or(tree_find(item, "apiVersion"), ""), "autoscaling/v2");
    const struct tree *metric = tree_at(tree_path(item, "spec.metrics"), 0);
    assert_int_equal(tree_int_or(tree_path(metric, "resource.target.averageUtilization"), 0), 50);
    char path[200];
    snprintf(path, sizeof path, "%s/h", v1);
    reply = ask_as(fixture, "PATCH", path, "application/merge-patch+json", "{\"spec\":{\"targetCPUUtilizationPercentage\":70}}", NULL);
    assert_int_equal(reply.status, 200);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "spec.targetCPUUtilizationPercentage"), 0), 70);
    snprintf(path, sizeof path, "%s?watch=true&timeoutSeconds=1", v1);
    reply = ask(fixture, "GET", path, NULL);
    assert_string_equal(text(&reply, "object.apiVersion"), "autoscaling/v1");
    snprintf(path, sizeof path, "%s/h", v2);
    reply = ask(fixture, "DELETE", path, NULL);
    assert_int_equal(reply.status, 200);
    reply = ask(fixture, "GET", v1, NULL);
    assert_int_equal(tree_count(tree_find(reply.tree, "items")), 0);
}

UNIT_TEST(events_of_both_groups_are_one_store) {
    struct fixture *fixture = *state;
    struct reply reply =
        ask(fixture, "POST", "/apis/events.k8s.io/v1/namespaces/default/events",
            "{\"metadata\":{\"name\":\"e\"},\"reason\":\"R\",\"note\":\"n\",\"regarding\":{\"namespace\":\"default\",\"name\":\"p\"},"
            "\"type\":\"Normal\",\"action\":\"A\",\"reportingController\":\"a.b/c\",\"reportingInstance\":\"i\",\"eventTime\":"
            "\"2024-01-01T00:00:00.000000Z\"}");
    assert_int_equal(reply.status, 201);
    reply = ask(fixture, "GET", "/api/v1/namespaces/default/events/e", NULL);
    assert_string_equal(text(&reply, "message"), "n");
    reply = ask(fixture, "GET", "/apis/events.k8s.io/v1/events?fieldSelector=regarding.name=p", NULL);
    assert_int_equal(tree_count(tree_find(reply.tree, "items")), 1);
}

static void on_stored(void *userdata, int error, struct store_object *object) {
    (void)object;
    assert_int_equal(error, 0);
    *(bool *)userdata = true;
}

static void store_event(struct fixture *fixture, const char *name, int64_t seen_ns) {
    char value[400], seen[TIMESTAMP_BYTES];
    bool done = false;
    timestamp_format(seen_ns, seen);
    snprintf(value, sizeof value,
             "{\"kind\":\"Event\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"default\","
             "\"creationTimestamp\":\"2020-01-01T00:00:00Z\"},\"involvedObject\":{\"namespace\":\"default\"},\"lastTimestamp\":\"%s\"}",
             name, seen);
    const struct store_write write = {
        .verb = STORE_CREATE, .kind = SLICE("events"), .namespace = SLICE("default"), .name = slice_of(name), .value = slice_of(value)};
    assert_int_equal(store_write(fixture->store, &write, on_stored, &done, NULL), 0);
    for (int i = 0; i < TURNS_MAX && !done; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_true(done);
}

UNIT_TEST(events_are_forgotten) {
    struct fixture *fixture = *state;
    store_event(fixture, "old", sys_wall_ns() - INT64_C(3700) * 1000000000);
    store_event(fixture, "young", sys_wall_ns() - INT64_C(3500) * 1000000000);
    close_all(fixture);
    open_all(fixture); /* sweeps */
    struct reply reply = ask(fixture, "GET", "/api/v1/namespaces/default/events/young", NULL);
    assert_int_equal(reply.status, 200);
    ask(fixture, "DELETE", "/api/v1/namespaces/default/events/young", NULL); /* committed behind the sweep */
    reply = ask(fixture, "GET", "/api/v1/namespaces/default/events/old", NULL);
    assert_int_equal(reply.status, 404);
}

UNIT_TEST(component_statuses_are_made_up) {
    struct fixture *fixture = *state;
    struct reply reply = ask(fixture, "GET", "/api/v1/componentstatuses", NULL);
    assert_int_equal(reply.status, 200);
    assert_int_equal(tree_count(tree_find(reply.tree, "items")), 3);
    reply = ask(fixture, "GET", "/api/v1/componentstatuses/scheduler", NULL);
    assert_string_equal(text(&reply, "kind"), "ComponentStatus");
    reply = ask(fixture, "GET", "/api/v1/componentstatuses/x", NULL);
    assert_int_equal(reply.status, 404);
    reply = ask(fixture, "POST", "/api/v1/componentstatuses", "{}");
    assert_int_equal(reply.status, 405);
}

UNIT_TEST(creates_reads_updates_deletes) {
    struct fixture *fixture = *state;
    struct reply reply = ask(fixture, "POST", MAPS, MAP("a", ""));
    assert_int_equal(reply.status, 201);
    assert_true(*text(&reply, "metadata.uid") && *text(&reply, "metadata.creationTimestamp") && *text(&reply, "metadata.resourceVersion"));
    const char *version = text(&reply, "metadata.resourceVersion");
    reply = ask(fixture, "POST", MAPS, MAP("a", ""));
    assert_int_equal(reply.status, 409);
    assert_string_equal(text(&reply, "message"), "configmaps \"a\" already exists");
    assert_string_equal(text(&reply, "reason"), "AlreadyExists");
    char body[300];
    snprintf(body, sizeof body, "{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"%s\"},\"data\":{\"k\":\"w\"}}", version);
    reply = ask(fixture, "PUT", MAPS "/a", body);
    assert_int_equal(reply.status, 200);
    assert_string_equal(text(&reply, "data.k"), "w");
    reply = ask(fixture, "PUT", MAPS "/a", body);
    assert_int_equal(reply.status, 409);
    assert_string_equal(text(&reply, "message"), "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your "
                                                 "changes to the latest version and try again");
    reply = ask(fixture, "DELETE", MAPS "/a", NULL);
    assert_int_equal(reply.status, 200);
    assert_string_equal(text(&reply, "status"), "Success");
    reply = ask(fixture, "GET", MAPS "/a", NULL);
    assert_int_equal(reply.status, 404);
    assert_string_equal(text(&reply, "message"), "configmaps \"a\" not found");
}

UNIT_TEST(refuses_missing_namespace) {
    struct reply reply = ask(*state, "POST", "/api/v1/namespaces/nope/configmaps", MAP("a", ""));
    assert_int_equal(reply.status, 404);
    assert_string_equal(text(&reply, "message"), "namespaces \"nope\" not found");
}

UNIT_TEST(terminates_namespaces) {
    struct fixture *fixture = *state;
    ask(fixture, "POST", "/api/v1/namespaces", "{\"metadata\":{\"name\":\"gone\"}}");
    struct reply reply = ask(fixture, "DELETE", "/api/v1/namespaces/default", NULL);
    assert_int_equal(reply.status, 403);
    reply =
        ask_as(fixture, "PATCH", "/api/v1/namespaces/gone", "application/merge-patch+json", "{\"spec\":null,\"metadata\":{\"labels\":null}}", NULL);
    assert_int_equal(reply.status, 200);
    reply = ask(fixture, "DELETE", "/api/v1/namespaces/gone", NULL);
    assert_int_equal(reply.status, 200);
    assert_string_equal(text(&reply, "status.phase"), "Terminating");
    reply = ask(fixture, "POST", "/api/v1/namespaces/gone/configmaps", MAP("a", ""));
    assert_int_equal(reply.status, 403);
    assert_string_equal(text(&reply, "message"),
                        "configmaps \"a\" is forbidden: unable to create new content in namespace gone because it is being terminated");
    reply = ask(fixture, "PUT", "/api/v1/namespaces/gone/finalize", "{\"metadata\":{\"name\":\"gone\"},\"spec\":{\"finalizers\":[]}}");
    assert_int_equal(reply.status, 200);
    reply = ask(fixture, "GET", "/api/v1/namespaces/gone", NULL);
    assert_int_equal(reply.status, 404);
}

UNIT_TEST(lists_by_pages_and_selectors) {
    struct fixture *fixture = *state;
    ask(fixture, "POST", MAPS, MAP("a", "\"x\":\"1\""));
    ask(fixture, "POST", MAPS, MAP("b", "\"x\":\"2\""));
    ask(fixture, "POST", MAPS, MAP("c", "\"x\":\"1\""));
    struct reply reply = ask(fixture, "GET", MAPS "?limit=2", NULL);
    assert_int_equal(tree_count(tree_find(reply.tree, "items")), 2);
    char target[300];
    snprintf(target, sizeof target, MAPS "?limit=2&continue=%s", text(&reply, "metadata.continue"));
    reply = ask(fixture, "GET", target, NULL);
    assert_int_equal(tree_count(tree_find(reply.tree, "items")), 1);
    assert_null(tree_path(reply.tree, "metadata.continue"));
    reply = ask(fixture, "GET", MAPS "?labelSelector=x%3D1", NULL);
    assert_int_equal(tree_count(tree_find(reply.tree, "items")), 2);
    reply = ask(fixture, "GET", MAPS "?fieldSelector=metadata.name%3Db", NULL);
    assert_int_equal(tree_count(tree_find(reply.tree, "items")), 1);
    reply = ask(fixture, "GET", MAPS "?continue=garbage", NULL);
    assert_int_equal(reply.status, 400);
    reply = ask(fixture, "DELETE", MAPS "?labelSelector=x%3D1", NULL);
    assert_int_equal(reply.status, 200);
    reply = ask(fixture, "GET", "/api/v1/configmaps", NULL);
    assert_int_equal(tree_count(tree_find(reply.tree, "items")), 1);
}

UNIT_TEST(answers_tables) {
    struct fixture *fixture = *state;
    ask(fixture, "POST", MAPS, MAP("a", ""));
    struct reply reply = ask_as(fixture, "GET", MAPS, NULL, NULL, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json");
    assert_string_equal(text(&reply, "kind"), "Table");
    const struct tree *row = tree_at(tree_find(reply.tree, "rows"), 0);
    assert_string_equal(tree_text_or(tree_at(tree_find(row, "cells"), 0), ""), "a");
    assert_string_equal(tree_text_or(tree_path(row, "object.metadata.name"), ""), "a");
}

UNIT_TEST(bumps_generation_on_spec_only) {
    struct fixture *fixture = *state;
    struct reply reply = ask(fixture, "POST", DEPLOYMENTS, DEPLOYMENT);
    assert_int_equal(reply.status, 201);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "metadata.generation"), 0), 1);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "spec.replicas"), 0), 1);
    reply = ask_as(fixture, "PATCH", DEPLOYMENTS "/web", "application/merge-patch+json", "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}", NULL);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "metadata.generation"), 0), 1);
    reply = ask_as(fixture, "PATCH", DEPLOYMENTS "/web", "application/strategic-merge-patch+json",
                   "{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"nginx:2\"}]}}}}", NULL);
    assert_int_equal(reply.status, 200);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "metadata.generation"), 0), 2);
    reply = ask_as(fixture, "PATCH", DEPLOYMENTS "/web/status", "application/merge-patch+json",
                   "{\"status\":{\"replicas\":3},\"spec\":{\"replicas\":9}}", NULL);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "metadata.generation"), 0), 2);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "status.replicas"), 0), 3);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "spec.replicas"), 0), 1);
    reply = ask_as(fixture, "PATCH", DEPLOYMENTS "/web", "application/json-patch+json",
                   "[{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":4}]", NULL);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "status.replicas"), 0), 3);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "metadata.generation"), 0), 3);
}

UNIT_TEST(writes_nothing_when_nothing_changes) {
    struct fixture *fixture = *state;
    struct reply first = ask(fixture, "POST", DEPLOYMENTS, DEPLOYMENT);
    struct reply again = ask_as(fixture, "PATCH", DEPLOYMENTS "/web", "application/merge-patch+json", "{\"spec\":{\"replicas\":1}}", NULL);
    assert_int_equal(again.status, 200);
    assert_string_equal(text(&again, "metadata.resourceVersion"), text(&first, "metadata.resourceVersion"));
}

UNIT_TEST(scales) {
    struct fixture *fixture = *state;
    ask(fixture, "POST", DEPLOYMENTS, DEPLOYMENT);
    struct reply reply = ask_as(fixture, "PATCH", DEPLOYMENTS "/web/scale", "application/merge-patch+json", "{\"spec\":{\"replicas\":5}}", NULL);
    assert_int_equal(reply.status, 200);
    assert_string_equal(text(&reply, "kind"), "Scale");
    assert_string_equal(text(&reply, "status.selector"), "app=web");
    reply = ask(fixture, "GET", DEPLOYMENTS "/web", NULL);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "spec.replicas"), 0), 5);
}

UNIT_TEST(validates_fields) {
    struct fixture *fixture = *state;
    const char *body = "{\"metadata\":{\"name\":\"a\"},\"dta\":{}}";
    struct reply reply = ask(fixture, "POST", MAPS "?fieldValidation=Strict", body);
    assert_int_equal(reply.status, 400);
    assert_string_equal(text(&reply, "message"),
                        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dta\"");
    reply = ask(fixture, "POST", MAPS "?dryRun=All", body);
    assert_int_equal(reply.status, 201);
    assert_string_equal(reply.warning, "299 - \"unknown field \\\"dta\\\"\"");
    reply = ask(fixture, "GET", MAPS "/a", NULL);
    assert_int_equal(reply.status, 404);
    reply = ask(fixture, "POST", MAPS "?fieldValidation=Ignore", body);
    assert_int_equal(reply.status, 201);
    assert_string_equal(reply.warning, "");
    reply = ask(fixture, "POST", MAPS, "{\"metadata\":{\"name\":\"A_b\"}}");
    assert_int_equal(reply.status, 422);
    assert_string_equal(text(&reply, "reason"), "Invalid");
    assert_string_equal(tree_text_or(tree_find(tree_at(tree_path(reply.tree, "details.causes"), 0), "field"), ""), "metadata.name");
}

UNIT_TEST(applies_and_detects_conflicts) {
    struct fixture *fixture = *state;
    struct reply reply = ask_as(fixture, "PATCH", MAPS "/a?fieldManager=one", "application/apply-patch+yaml",
                                "apiVersion: v1\nkind: ConfigMap\ndata: {x: '1', y: '2'}\n", NULL);
    assert_int_equal(reply.status, 201);
    reply = ask_as(fixture, "PATCH", MAPS "/a?fieldManager=two", "application/apply-patch+yaml", "apiVersion: v1\nkind: ConfigMap\ndata: {x: '3'}\n",
                   NULL);
    assert_int_equal(reply.status, 409);
    assert_string_equal(text(&reply, "message"), "Apply failed with 1 conflict: conflict with \"one\": .data.x");
    reply = ask_as(fixture, "PATCH", MAPS "/a?fieldManager=two&force=true", "application/apply-patch+yaml",
                   "apiVersion: v1\nkind: ConfigMap\ndata: {x: '3'}\n", NULL);
    assert_int_equal(reply.status, 200);
    assert_string_equal(text(&reply, "data.x"), "3");
    /* One drops both: y goes, x is two's by now. */
    reply = ask_as(fixture, "PATCH", MAPS "/a?fieldManager=one", "application/apply-patch+yaml", "apiVersion: v1\nkind: ConfigMap\ndata: {z: '1'}\n",
                   NULL);
    assert_int_equal(reply.status, 200);
    assert_string_equal(text(&reply, "data.x"), "3");
    assert_string_equal(text(&reply, "data.z"), "1");
    assert_null(tree_path(reply.tree, "data.y"));
}

UNIT_TEST(deletes_pods_gracefully) {
    struct fixture *fixture = *state;
    ask(fixture, "POST", PODS, "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"x\"}]}}");
    struct reply reply =
        ask(fixture, "POST", PODS "/p/binding", "{\"apiVersion\":\"v1\",\"kind\":\"Binding\",\"target\":{\"kind\":\"Node\",\"name\":\"n1\"}}");
    assert_int_equal(reply.status, 201);
    reply = ask(fixture, "GET", PODS "/p", NULL); /* nobody sees it bound but not scheduled */
    const struct tree *condition = tree_at(tree_path(reply.tree, "status.conditions"), 0);
    assert_string_equal(tree_text_or(tree_find(condition, "type"), ""), "PodScheduled");
    assert_string_equal(tree_text_or(tree_find(condition, "status"), ""), "True");
    reply = ask(fixture, "POST", PODS "/p/binding", "{\"target\":{\"name\":\"n2\"}}");
    assert_int_equal(reply.status, 409);
    reply = ask(fixture, "DELETE", PODS "/p", NULL);
    assert_int_equal(reply.status, 200);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "metadata.deletionGracePeriodSeconds"), -1), 30);
    assert_true(*text(&reply, "metadata.deletionTimestamp"));
    reply = ask(fixture, "DELETE", PODS "/p", "{\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":\"other\"}}");
    assert_int_equal(reply.status, 409);
    reply = ask(fixture, "DELETE", PODS "/p", "{\"gracePeriodSeconds\":0}");
    assert_int_equal(reply.status, 200);
    reply = ask(fixture, "GET", PODS "/p", NULL);
    assert_int_equal(reply.status, 404);
}

UNIT_TEST(bounds_how_long_a_pod_may_take) {
    struct fixture *fixture = *state;
    ask(fixture, "POST", "/api/v1/namespaces/default/pods",
        "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"nodeName\":\"n\",\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}");
    struct reply reply = ask(fixture, "DELETE", "/api/v1/namespaces/default/pods/p?gracePeriodSeconds=9223372036854775807", NULL);
    assert_int_equal(reply.status, 200);
    assert_int_equal(tree_int_or(tree_path(reply.tree, "metadata.deletionGracePeriodSeconds"), 0), INT32_MAX);
}

UNIT_TEST(waits_for_finalizers) {
    struct fixture *fixture = *state;
    ask(fixture, "POST", MAPS, "{\"metadata\":{\"name\":\"f\",\"finalizers\":[\"example.com/x\"]}}");
    struct reply reply = ask(fixture, "DELETE", MAPS "/f", NULL);
    assert_true(*text(&reply, "metadata.deletionTimestamp"));
    reply = ask(fixture, "GET", MAPS "/f", NULL);
    assert_int_equal(reply.status, 200);
    reply = ask_as(fixture, "PATCH", MAPS "/f", "application/merge-patch+json", "{\"metadata\":{\"finalizers\":null}}", NULL);
    assert_int_equal(reply.status, 200);
    reply = ask(fixture, "GET", MAPS "/f", NULL);
    assert_int_equal(reply.status, 404);
}

UNIT_TEST(allocates_service_addresses) {
    struct fixture *fixture = *state;
    const char *body = "{\"metadata\":{\"generateName\":\"s-\"},\"spec\":{\"ports\":[{\"port\":80}]}}";
    struct reply first = ask(fixture, "POST", "/api/v1/namespaces/default/services", body);
    struct reply second = ask(fixture, "POST", "/api/v1/namespaces/default/services", body);
    assert_int_equal(first.status, 201);
    assert_string_not_equal(text(&first, "spec.clusterIP"), text(&second, "spec.clusterIP"));
    assert_string_not_equal(text(&first, "metadata.name"), text(&second, "metadata.name"));
    char target[200], taken[300];
    snprintf(taken, sizeof taken, "{\"metadata\":{\"name\":\"t\"},\"spec\":{\"clusterIP\":\"%s\",\"ports\":[{\"port\":80}]}}",
             text(&first, "spec.clusterIP"));
    struct reply reply = ask(fixture, "POST", "/api/v1/namespaces/default/services", taken);
    assert_int_equal(reply.status, 422);
    snprintf(target, sizeof target, "/api/v1/namespaces/default/services/%s", text(&first, "metadata.name"));
    reply = ask_as(fixture, "PATCH", target, "application/merge-patch+json", "{\"spec\":{\"clusterIP\":\"10.96.0.99\"}}", NULL);
    assert_int_equal(reply.status, 422);
    ask(fixture, "DELETE", target, NULL);
    reply = ask(fixture, "POST", "/api/v1/namespaces/default/services", taken);
    assert_int_equal(reply.status, 201);
}

UNIT_TEST(merges_string_data) {
    struct reply reply = ask(*state, "POST", "/api/v1/namespaces/default/secrets",
                             "{\"metadata\":{\"name\":\"s\"},\"data\":{\"a\":\"b2xk\",\"c\":\"Yw==\"},\"stringData\":{\"a\":\"new\",\"b\":\"x\"}}");
    assert_int_equal(reply.status, 201);
    assert_string_equal(text(&reply, "data.a"), "bmV3");
    assert_string_equal(text(&reply, "data.b"), "eA==");
    assert_string_equal(text(&reply, "data.c"), "Yw==");
    assert_null(tree_find(reply.tree, "stringData"));
}

UNIT_TEST(survives_a_restart) {
    struct fixture *fixture = *state;
    struct reply first =
        ask(fixture, "POST", "/api/v1/namespaces/default/services", "{\"metadata\":{\"name\":\"s\"},\"spec\":{\"ports\":[{\"port\":80}]}}");
    close_all(fixture);
    open_all(fixture);
    struct reply again = ask(fixture, "GET", "/api/v1/namespaces/default/services/s", NULL);
    assert_string_equal(text(&again, "metadata.resourceVersion"), text(&first, "metadata.resourceVersion"));
    struct reply other =
        ask(fixture, "POST", "/api/v1/namespaces/default/services", "{\"metadata\":{\"name\":\"t\"},\"spec\":{\"ports\":[{\"port\":80}]}}");
    assert_string_not_equal(text(&other, "spec.clusterIP"), text(&first, "spec.clusterIP"));
}

/* --- watches --- */

struct seen {
    struct buffer lines;
    bool head, ended;
    int status;
};

static void on_head(void *userdata, const struct http_answer *head) {
    struct seen *seen = userdata;
    seen->head = true;
    seen->status = head->status;
}

static void on_data(void *userdata, struct slice data) {
    struct seen *seen = userdata;
    buffer_append_slice(&seen->lines, data);
}

static void on_end(void *userdata, int error) {
    struct seen *seen = userdata;
    (void)error;
    seen->ended = true;
}

static struct http_request *watch(struct fixture *fixture, const char *target, struct seen *seen) {
    static const struct http_stream_handlers handlers = {.on_head = on_head, .on_data = on_data, .on_end = on_end};
    const struct http_request_options options = {.method = "GET", .target = target};
    struct http_request *request = NULL;
    buffer_init(&seen->lines, 4 * MIB);
    assert_int_equal(http_client_stream(fixture->client, &options, &handlers, seen, &request), 0);
    for (int i = 0; i < TURNS_MAX && !seen->head; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_true(seen->head);
    return request;
}

static size_t count_lines(const struct seen *seen) {
    size_t count = 0;
    for (size_t i = 0; i < seen->lines.len; i++)
        count += seen->lines.data[i] == '\n';
    return count;
}

static void wait_lines(struct fixture *fixture, const struct seen *seen, size_t count) {
    for (int i = 0; i < TURNS_MAX && count_lines(seen) < count; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_int_equal(count_lines(seen), count);
}

static const char *line_type(struct fixture *fixture, const struct seen *seen, size_t index) {
    struct slice rest = buffer_slice(&seen->lines), line = {NULL, 0};
    struct tree *tree = NULL;
    struct diag diag = DIAG_INIT;
    for (size_t i = 0; i <= index; i++)
        line = slice_cut(&rest, '\n');
    assert_int_equal(json_parse(fixture->arena, line, NULL, &tree, &diag), 0);
    return tree_text_or(tree_find(tree, "type"), "");
}

UNIT_TEST(watches_with_selector) {
    struct fixture *fixture = *state;
    struct seen seen = {.head = false};
    ask(fixture, "POST", MAPS, MAP("old", "\"x\":\"1\""));
    struct http_request *request = watch(fixture, MAPS "?watch=true&labelSelector=x%3D1", &seen);
    wait_lines(fixture, &seen, 1);
    ask(fixture, "POST", MAPS, MAP("other", ""));
    ask_as(fixture, "PATCH", MAPS "/other", "application/merge-patch+json", "{\"metadata\":{\"labels\":{\"x\":\"1\"}}}", NULL);
    ask_as(fixture, "PATCH", MAPS "/other", "application/merge-patch+json", "{\"data\":{\"k\":\"2\"}}", NULL);
    ask_as(fixture, "PATCH", MAPS "/other", "application/merge-patch+json", "{\"metadata\":{\"labels\":null}}", NULL);
    ask(fixture, "DELETE", MAPS "/other", NULL);
    ask(fixture, "DELETE", MAPS "/old", NULL);
    wait_lines(fixture, &seen, 5);
    static const char *const expected[] = {"ADDED", "ADDED", "MODIFIED", "DELETED", "DELETED"};
    for (size_t i = 0; i < ARRAY_LEN(expected); i++)
        assert_string_equal(line_type(fixture, &seen, i), expected[i]);
    http_request_cancel(request);
    buffer_deinit(&seen.lines);
}

UNIT_TEST(resumes_watches) {
    struct fixture *fixture = *state;
    struct seen seen = {.head = false};
    struct reply reply = ask(fixture, "POST", MAPS, MAP("a", ""));
    ask(fixture, "POST", MAPS, MAP("b", ""));
    char target[200];
    snprintf(target, sizeof target, MAPS "?watch=true&timeoutSeconds=3600&resourceVersion=%s", text(&reply, "metadata.resourceVersion"));
    watch(fixture, target, &seen);
    wait_lines(fixture, &seen, 1);
    assert_non_null(strstr(seen.lines.data, "\"name\":\"b\""));
    api_end_watches(fixture->api);
    for (int i = 0; i < TURNS_MAX && !seen.ended; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_true(seen.ended);
    buffer_deinit(&seen.lines);
}

UNIT_TEST(tells_watches_that_are_too_old) {
    struct fixture *fixture = *state;
    struct seen seen = {.head = false};
    for (int i = 0; i < 40; i++) {
        char body[200];
        snprintf(body, sizeof body, MAP("m%d", ""), i);
        assert_int_equal(ask(fixture, "POST", MAPS, body).status, 201);
    }
    watch(fixture, MAPS "?watch=true&resourceVersion=5", &seen);
    wait_lines(fixture, &seen, 1);
    assert_string_equal(line_type(fixture, &seen, 0), "ERROR");
    assert_non_null(strstr(seen.lines.data, "\"code\":410"));
    for (int i = 0; i < TURNS_MAX && !seen.ended; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_true(seen.ended);
    buffer_deinit(&seen.lines);
}

/* A client that stops reading costs a bounded amount, gets ERROR 410 when the ring has passed it by, and harms nobody. */
UNIT_TEST(bounds_slow_watchers) {
    static char body[300 * 1024];
    struct fixture *fixture = *state;
    struct seen slow = {.head = false};
    struct http_request *request = watch(fixture, MAPS "?watch=true", &slow);
    http_request_pause(request);
    int prefix = snprintf(body, sizeof body, "{\"metadata\":{\"name\":\"big\"},\"data\":{\"k\":\"");
    memset(body + prefix, 'x', 200 * 1024);
    snprintf(body + prefix + 200 * 1024, sizeof body - (size_t)prefix - 200 * 1024, "\"}}");
    assert_int_equal(ask(fixture, "POST", MAPS, body).status, 201);
    for (int i = 0; i < 60; i++) {
        body[prefix] = (char)('a' + i % 26);
        assert_int_equal(ask(fixture, "PUT", MAPS "/big", body).status, 200);
    }
    http_request_resume(request);
    for (int i = 0; i < TURNS_MAX && !slow.ended; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_true(slow.ended);
    assert_int_equal(fixture->api->statistics.watches_lost, 1);
    assert_int_equal(fixture->api->statistics.watches, 0);
    buffer_deinit(&slow.lines);
}

/* --- from inside --- */

struct inside {
    bool done;
    int code;
    char version[32];
};

static void on_inside(void *userdata, const struct api_failure *failure, struct kube_object *object) {
    struct inside *inside = userdata;
    inside->done = true;
    inside->code = failure ? failure->code : 0;
    if (object)
        snprintf(inside->version, sizeof inside->version, "%s", object->metadata->resource_version);
}

UNIT_TEST(writes_from_inside) {
    struct fixture *fixture = *state;
    struct inside first = {.done = false};
    struct api_failure failure;
    struct kube_object *object = kube_object_new(&kube_kind_config_map);
    object->metadata->name = arena_strdup(object->arena, "in");
    object->metadata->namespace = arena_strdup(object->arena, "default");
    assert_int_equal(api_create(fixture->api, kube_object_ref(object), on_inside, &first, &failure), 0);
    assert_false(first.done);
    CLEANUP(kube_object_unrefp) struct kube_object *accepted = api_get(fixture->api, &kube_kind_config_map, "default", "in");
    assert_ptr_equal(accepted, object); /* the newest accepted version, before it is durable */
    assert_int_equal(api_create(fixture->api, kube_object_copy(object), on_inside, &first, &failure), 409);
    kube_object_unref(object);
    assert_string_equal(failure.reason, "AlreadyExists");
    for (int i = 0; i < TURNS_MAX && !first.done; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_int_equal(first.code, 0);
    assert_true(*first.version);
    struct reply reply = ask(fixture, "GET", MAPS "/in", NULL);
    assert_string_equal(text(&reply, "metadata.resourceVersion"), first.version);
    const struct api_delete_options options = {.uid = "other", .grace_seconds = -1};
    assert_int_equal(api_delete(fixture->api, &kube_kind_config_map, "default", "in", &options, on_inside, &first, &failure), 409);
}

/* --- tokens --- */

static void on_token(void *userdata, int error) {
    assert_int_equal(error, 0);
    *(bool *)userdata = true;
}

static const char *whoami(struct fixture *fixture, const char *token, int *ret_status) {
    char value[100];
    snprintf(value, sizeof value, "Bearer %s", token);
    const struct http_field fields[] = {{"Authorization", value}, {NULL, NULL}};
    const struct http_request_options options = {.method = "POST",
                                                 .target = "/apis/authentication.k8s.io/v1/selfsubjectreviews",
                                                 .content_type = "application/json",
                                                 .body = SLICE("{}"),
                                                 .fields = fields};
    struct reply reply = {.fixture = fixture};
    struct http_request *request = NULL;
    assert_int_equal(http_client_send(fixture->client, &options, on_answer, &reply, &request), 0);
    for (int i = 0; i < TURNS_MAX && !reply.done; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    *ret_status = reply.status;
    return text(&reply, "status.userInfo.username");
}

static bool count_one(void *userdata, struct slice key, struct slice value) {
    (void)key;
    (void)value;
    ++*(size_t *)userdata;
    return true;
}

static bool is_authenticated(struct fixture *fixture, const char *token, const char *more) {
    char body[400];
    snprintf(body, sizeof body, "{\"spec\":{\"token\":\"%s\"%s}}", token, more);
    struct reply reply = ask(fixture, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", body);
    assert_int_equal(reply.status, 201);
    return tree_bool_or(tree_path(reply.tree, "status.authenticated"), false);
}

UNIT_TEST(knows_tokens) {
    static const char *const groups[] = {"team", NULL};
    struct fixture *fixture = *state;
    char lasting[API_TOKEN_BYTES], expired[API_TOKEN_BYTES];
    bool done = false;
    int status = 0;
    assert_int_equal(api_token_new(fixture->api, "bob", groups, 0, lasting, NULL, NULL), 0);
    assert_int_equal(api_token_new(fixture->api, "eve", groups, 1, expired, on_token, &done), 0);
    for (int i = 0; i < TURNS_MAX && !done; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_string_equal(whoami(fixture, lasting, &status), "bob");
    assert_int_equal(status, 201);
    whoami(fixture, expired, &status);
    assert_int_equal(status, 401);
    assert_true(is_authenticated(fixture, lasting, ""));
    assert_true(is_authenticated(fixture, lasting, ",\"audiences\":[\"https://kubernetes.default.svc.cluster.local\"]"));
    assert_false(is_authenticated(fixture, lasting, ",\"audiences\":[\"vault\"]"));
    assert_int_equal(ask(fixture, "POST", "/tidemill/tokens", "{\"user\":\"bob\",\"expiresSeconds\":9223372036854775807}").status, 400);
    whoami(fixture, "tm-guess", &status);
    assert_int_equal(status, 401);
    close_all(fixture);
    open_all(fixture); /* drops what has expired */
    assert_string_equal(whoami(fixture, lasting, &status), "bob");
    size_t count = 0;
    store_meta_list(fixture->store, SLICE("token/"), count_one, &count);
    assert_int_equal(count, 1);
}

#define WITH_API(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_API(bootstraps_namespaces),
        WITH_API(kinds_are_views_of_one_object),
        WITH_API(events_of_both_groups_are_one_store),
        WITH_API(events_are_forgotten),
        WITH_API(component_statuses_are_made_up),
        WITH_API(creates_reads_updates_deletes),
        WITH_API(refuses_missing_namespace),
        WITH_API(terminates_namespaces),
        WITH_API(lists_by_pages_and_selectors),
        WITH_API(answers_tables),
        WITH_API(bumps_generation_on_spec_only),
        WITH_API(writes_nothing_when_nothing_changes),
        WITH_API(scales),
        WITH_API(validates_fields),
        WITH_API(applies_and_detects_conflicts),
        WITH_API(deletes_pods_gracefully),
        WITH_API(bounds_how_long_a_pod_may_take),
        WITH_API(waits_for_finalizers),
        WITH_API(allocates_service_addresses),
        WITH_API(merges_string_data),
        WITH_API(survives_a_restart),
        WITH_API(watches_with_selector),
        WITH_API(resumes_watches),
        WITH_API(tells_watches_that_are_too_old),
        WITH_API(bounds_slow_watchers),
        WITH_API(writes_from_inside),
        WITH_API(knows_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Discovery from objects, storing a scrape, and the whole role in one loop: a target on a real socket, scraped, asked through the HTTP API. */
#include "unit.h"

#include <stdio.h>
#include <unistd.h>

#include "monitor/monitor_priv.h"

/* --- discovery --- */

#define POD(annotations, phase)                                                                                                                      \
    "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\",\"namespace\":\"n\",\"labels\":{\"app\":\"hello\"},\"annotations\":"       \
    "{" annotations "}},"                                                                                                                            \
    "\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"ports\":[{\"containerPort\":8080}]}]},\"status\":{\"phase\":\"" phase               \
    "\",\"podIP\":\"10.0.0.7\"}}"
#define SERVICE                                                                                                                                      \
    "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"s\",\"namespace\":\"n\",\"annotations\":{\"prometheus.io/"                 \
    "scrape\":\"true\"}},\"spec\":{}}"
#define SLICE_OF_SERVICE                                                                                                                             \
    "{\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":\"EndpointSlice\",\"metadata\":{\"name\":\"s-1\",\"namespace\":\"n\",\"labels\":{"             \
    "\"kubernetes.io/service-name\":\"s\"}},\"addressType\":\"IPv4\",\"ports\":[{\"port\":9090}],\"endpoints\":["                                    \
    "{\"addresses\":[\"10.0.0.8\"],\"targetRef\":{\"kind\":\"Pod\",\"name\":\"p8\"}},{\"addresses\":[\"10.0.0.9\"]}]}"

static struct kube_object *object(const char *json) {
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    if (kube_decode_json(NULL, slice_of(json), KUBE_STRICT, &object, &diag) < 0)
        fail_msg("%s: %s", diag.message, json);
    return object;
}

static const char *label(const struct target_spec *spec, const char *name) {
    for (size_t i = 0; i < spec->labels_count; i++)
        if (slice_is(spec->labels[i].name, name))
            return spec->labels[i].value.data;
    return "";
}

static size_t pod_targets(const char *json, char endpoint[80], char path[80]) {
    struct arena *arena = arena_new(MIB);
    struct kube_object *pod = object(json);
    target_specs specs = {0};
    assert_int_equal(discover_pod(arena, pod, &specs), 0);
    size_t count = specs.count;
    if (count > 0) {
        snprintf(endpoint, 80, "%s", specs.items[0].endpoint);
        snprintf(path, 80, "%s", specs.items[0].path);
        assert_string_equal(label(&specs.items[0], "app"), "hello");
        assert_string_equal(label(&specs.items[0], "pod"), "p");
    }
    VECTOR_DEINIT(&specs);
    kube_object_unref(pod);
    arena_free(arena);
    return count;
}

UNIT_TEST(annotated_pods_are_targets) {
    char endpoint[80], path[80];
    assert_int_equal(pod_targets(POD("\"prometheus.io/scrape\":\"true\",\"prometheus.io/port\":\"9090\",\"prometheus.io/path\":\"/m\"", "Running"),
                                 endpoint, path),
                     1);
    assert_string_equal(endpoint, "http://10.0.0.7:9090");
    assert_string_equal(path, "/m");
    assert_int_equal(pod_targets(POD("\"prometheus.io/scrape\":\"true\"", "Running"), endpoint, path), 1);
    assert_string_equal(endpoint, "http://10.0.0.7:8080");
    assert_string_equal(path, "/metrics");
    assert_int_equal(pod_targets(POD("\"prometheus.io/scrape\":\"true\"", "Succeeded"), endpoint, path), 0);
    assert_int_equal(pod_targets(POD("\"prometheus.io/scrape\":\"false\"", "Running"), endpoint, path), 0);
    assert_int_equal(pod_targets(POD("\"a\":\"b\"", "Running"), endpoint, path), 0);
    assert_int_equal(pod_targets(POD("\"prometheus.io/scrape\":\"true\",\"prometheus.io/path\":\"/a b\"", "Running"), endpoint, path), 0);
}

UNIT_TEST(annotated_services_give_their_endpoints) {
    struct arena *arena = arena_new(MIB);
    struct kube_object *service = object(SERVICE), *slice = object(SLICE_OF_SERVICE);
    target_specs specs = {0};
    assert_int_equal(discover_service(arena, service, slice, &specs), 0);
    assert_int_equal(specs.count, 2);
    assert_string_equal(specs.items[0].endpoint, "http://10.0.0.8:9090");
    assert_string_equal(label(&specs.items[0], "pod"), "p8");
    assert_string_equal(label(&specs.items[1], "service"), "s");
    VECTOR_DEINIT(&specs);
    kube_object_unref(service);
    kube_object_unref(slice);
    arena_free(arena);
}

/* --- the role on real sockets --- */

struct fixture {
    char folder[64], api[96], scraped[96];
    struct monitor_options options;
    struct monitor monitor;
    struct http_server *target_server, *api_server;
    int target_fd, api_fd;
    const char *text; /* what the target says; NULL: 500 */
    struct http_client *http;
    char *answer;
    int status;
};

static void target_handle(void *userdata, struct http_exchange *exchange) {
    struct fixture *f = userdata;
    if (f->text)
        http_respond(exchange, 200, "text/plain", slice_of(f->text), NULL);
    else
        http_respond_text(exchange, 500, "broken\n");
}

static int listen_unix(const char *path) {
    struct sys_address address;
    char text[128];
    snprintf(text, sizeof text, "unix:%s", path);
    assert_int_equal(sys_address_parse(text, &address), 0);
    int fd = sys_listen(&address, 16, 0600);
    assert_true(fd >= 0);
    return fd;
}

static void setup(struct fixture *f) {
    *f = (struct fixture){.folder = "/tmp/tidemill-monitor-XXXXXX"};
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->api, sizeof f->api, "%s/api", f->folder);
    snprintf(f->scraped, sizeof f->scraped, "%s/target", f->folder);
    f->api_fd = listen_unix(f->api);
    f->target_fd = listen_unix(f->scraped);
    f->monitor = (struct monitor){.options = &f->options, .interval_ms = 20};
    assert_int_equal(loop_new(&f->monitor.loop), 0);
    assert_int_equal(tsdb_new(NULL, &f->monitor.tsdb), 0);
    assert_int_equal(
        http_server_new(f->monitor.loop, f->target_fd, &(struct http_server_options){.handler = target_handle, .userdata = f}, &f->target_server), 0);
    assert_int_equal(
        http_server_new(f->monitor.loop, f->api_fd, &(struct http_server_options){.handler = query_handle, .userdata = &f->monitor}, &f->api_server),
        0);
    char endpoint[128];
    snprintf(endpoint, sizeof endpoint, "unix:%s", f->api);
    assert_int_equal(http_client_new(f->monitor.loop, &(struct http_client_options){.endpoint = endpoint}, &f->http), 0);
    snprintf(endpoint, sizeof endpoint, "unix:%s", f->scraped);
    struct arena *arena = arena_new(MIB);
    target_specs specs = {0};
    const struct monitor_target target = {.job = "test", .endpoint = endpoint};
    assert_int_equal(discover_static(arena, &target, &specs), 0);
    targets_set(&f->monitor, &specs);
    VECTOR_DEINIT(&specs);
    arena_free(arena);
}

static void teardown(struct fixture *f) {
    targets_free(&f->monitor);
    http_client_free(f->http);
    http_server_free(f->target_server);
    http_server_free(f->api_server);
    tsdb_free(f->monitor.tsdb);
    loop_free(f->monitor.loop);
    close(f->api_fd);
    close(f->target_fd);
    unlink(f->api);
    unlink(f->scraped);
    rmdir(f->folder);
    free(f->answer);
}

static void until(struct fixture *f, enum target_health health) {
    for (int turns = 0; turns < 20000; turns++) {
        if (f->monitor.targets.items[0]->health == health)
            return;
        assert_int_equal(loop_turn(f->monitor.loop, 1), 0);
    }
    fail_msg("the target's health never became %d: %s", health, f->monitor.targets.items[0]->error);
}

static void on_answer(void *userdata, const struct http_answer *answer) {
    struct fixture *f = userdata;
    assert_int_equal(answer->error, 0);
    f->status = answer->status;
    f->answer = slice_dup(answer->body);
}

static const char *ask(struct fixture *f, const char *target, int status) {
    struct http_request *request;
    free(f->answer);
    f->answer = NULL;
    assert_int_equal(http_client_send(f->http, &(struct http_request_options){.method = "GET", .target = target}, on_answer, f, &request), 0);
    for (int turns = 0; turns < 20000 && !f->answer; turns++)
        assert_int_equal(loop_turn(f->monitor.loop, 1), 0);
    assert_non_null(f->answer);
    if (f->status != status)
        fail_msg("%s: %d: %s", target, f->status, f->answer);
    return f->answer;
}

static void assert_has(const char *text, const char *part) {
    if (!strstr(text, part))
        fail_msg("\"%s\" is not in: %s", part, text);
}

/* A stale mark may lie a millisecond ahead: asks until the answer has the part. */
static void ask_until(struct fixture *f, const char *target, const char *part) {
    for (int i = 0; i < 1000; i++)
        if (strstr(ask(f, target, 200), part))
            return;
    assert_has(f->answer, part);
}

UNIT_TEST(scraped_and_asked) {
    struct fixture f;
    setup(&f);
    f.text = "# TYPE hits counter\nhits{path=\"/\",job=\"own\"} 3\nhits{path=\"/x\"} 4\nratio 0.1\n";
    until(&f, TARGET_UP);
    assert_has(ask(&f, "/api/v1/query?query=up", 200), "{\"metric\":{\"__name__\":\"up\",\"instance\":\"test\",\"job\":\"test\"},\"value\":[");
    assert_has(f.answer, ",\"1\"]}");
    assert_has(f.answer, "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[");
    assert_has(ask(&f, "/api/v1/query?query=hits%7Bpath%3D%22%2F%22%7D", 200), "\"exported_job\":\"own\"");
    assert_has(f.answer, ",\"3\"]}");
    assert_has(ask(&f, "/api/v1/query?query=ratio", 200), ",\"0.1\"]}");
    assert_has(ask(&f, "/api/v1/query?query=nothing", 200), "\"result\":[]");
    assert_has(ask(&f, "/api/v1/query?query=rate(hits%5B5m%5D)", 400), "\"errorType\":\"bad_data\"");
    assert_has(ask(&f, "/api/v1/query", 400), "missing");
    assert_has(ask(&f, "/api/v1/series?match[]=hits", 200), "\"path\":\"/x\"}]");
    assert_has(ask(&f, "/api/v1/labels", 200), "[\"__name__\",\"exported_job\",\"instance\",\"job\",\"path\"]");
    assert_has(ask(&f, "/api/v1/label/path/values", 200), "[\"/\",\"/x\"]");
    assert_has(ask(&f, "/api/v1/targets", 200), "\"health\":\"up\"");
    assert_has(f.answer, "\"lastError\":\"\"");
    assert_has(ask(&f, "/metrics", 200), "tidemill_monitor_targets 1\n");
    ask(&f, "/-/ready", 200);
    ask(&f, "/nowhere", 404);
    teardown(&f);
}

UNIT_TEST(series_end_when_the_target_breaks) {
    struct fixture f;
    setup(&f);
    f.text = "hits 3\n";
    until(&f, TARGET_UP);
    assert_has(ask(&f, "/api/v1/query?query=hits", 200), ",\"3\"]}");
    f.text = NULL;
    until(&f, TARGET_DOWN);
    assert_has(ask(&f, "/api/v1/query?query=up", 200), ",\"0\"]}");
    ask_until(&f, "/api/v1/query?query=hits", "\"result\":[]");
    assert_has(ask(&f, "/api/v1/targets", 200), "server returned HTTP status 500");
    f.text = "hits 4\nbroken{\n";
    f.monitor.targets.items[0]->health = TARGET_UNKNOWN;
    until(&f, TARGET_DOWN);
    assert_has(ask(&f, "/api/v1/targets", 200), "expected a label name");
    ask_until(&f, "/api/v1/query?query=hits", "\"result\":[]");
    f.text = "hits 5\n";
    until(&f, TARGET_UP);
    assert_has(ask(&f, "/api/v1/query?query=hits", 200), ",\"5\"]}");
    target_specs none = {0};
    targets_set(&f.monitor, &none);
    assert_int_equal(f.monitor.targets.count, 0);
    ask_until(&f, "/api/v1/query?query=up", "\"result\":[]");
    teardown(&f);
}

UNIT_MAIN(UNIT(annotated_pods_are_targets), UNIT(annotated_services_give_their_endpoints), UNIT(scraped_and_asked),
          UNIT(series_end_when_the_target_breaks))

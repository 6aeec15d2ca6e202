/* Logs and exec through to a node that is played by a second server in the same loop. */
#include "unit.h"

#include "api/api.h"
#include "sys/sys.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define TURNS_MAX 2000

struct fixture {
    char folder[64];
    struct loop *loop;
    struct store *store;
    struct api *api;
    struct http_server *server, *node;
    struct http_client *client;
    int listen_fd, node_fd;
    char node_target[300];
    struct websocket *socket;
    struct http_stream *stream;
};

struct seen {
    int status;
    struct buffer data;
    bool head, ended;
    int error;
    char protocol[40], location[200], extra[40];
};

/* --- the node --- */

static void on_message(void *userdata, bool binary, struct slice message) {
    struct fixture *fixture = userdata;
    websocket_send(fixture->socket, binary, message); /* an echo */
}

static void on_socket_close(void *userdata, int code) {
    struct fixture *fixture = userdata;
    (void)code;
    websocket_free(fixture->socket);
    fixture->socket = NULL;
}

static void on_raw_data(void *userdata, struct slice data) {
    struct fixture *fixture = userdata;
    http_stream_write(fixture->stream, data); /* an echo */
}

static void on_raw_end(void *userdata, int error) {
    struct fixture *fixture = userdata;
    (void)error;
    http_stream_free(fixture->stream);
    fixture->stream = NULL;
}

/* What it speaks it chooses itself: here the last that was offered. */
static void accept_spdy(struct fixture *fixture, struct http_exchange *exchange) {
    static const struct http_stream_callbacks callbacks = {.on_data = on_raw_data, .on_end = on_raw_end};
    char last[40] = "";
    for (size_t i = 0; i < http_header_count(exchange); i++) {
        struct slice name, value;
        http_header_at(exchange, i, &name, &value);
        if (slice_equal_nocase(name, SLICE("X-Stream-Protocol-Version")))
            snprintf(last, sizeof last, "%.*s", SLICE_ARG(value));
    }
    const struct http_field fields[] = {{"Upgrade", "SPDY/3.1"}, {"Connection", "Upgrade"}, {"X-Stream-Protocol-Version", last}, {NULL, NULL}};
    assert_true(slice_is(http_method(exchange), "POST"));
    assert_int_equal(http_upgrade(exchange, fields, &callbacks, fixture, &fixture->stream), 0);
}

static void serve_node(void *userdata, struct http_exchange *exchange) {
    static const char *const protocols[] = {"v5.channel.k8s.io", NULL};
    static const struct websocket_callbacks callbacks = {.on_message = on_message, .on_close = on_socket_close};
    struct fixture *fixture = userdata;
    struct slice target = http_target(exchange);
    snprintf(fixture->node_target, sizeof fixture->node_target, "%.*s", SLICE_ARG(target));
    const char *protocol = NULL;
    if (websocket_is_upgrade(exchange)) {
        assert_int_equal(websocket_accept(exchange, protocols, MIB, &callbacks, fixture, &protocol, &fixture->socket), 0);
        return;
    }
    if (http_head(exchange)->upgrade.len)
        return accept_spdy(fixture, exchange);
    if (slice_is(http_path(exchange), "/old")) {
        const struct http_field fields[] = {
            {"Location", "/new?a=b"}, {"X-Seen", http_header(exchange, "Authorization").len ? "token" : "nothing"}, {NULL, NULL}};
        http_respond(exchange, 302, "text/html", SLICE("<a href='/new?a=b'>moved</a>"), fields);
        return;
    }
    http_respond_begin(exchange, 200, "text/plain", -1, NULL);
    http_write(exchange, SLICE("first\n"));
    http_write(exchange, SLICE("second\n"));
    http_respond_end(exchange);
}

/* --- set-up --- */

static int listen_at(struct fixture *fixture, const char *name, char endpoint[128]) {
    struct sys_address address;
    snprintf(endpoint, 128, "unix:%s/%s", fixture->folder, name);
    assert_int_equal(sys_address_parse(endpoint, &address), 0);
    int fd = sys_listen(&address, 16, 0600);
    assert_true(fd >= 0);
    return fd;
}

static void on_created(void *userdata, const struct api_failure *failure, struct kube_object *object) {
    (void)object;
    assert_null(failure);
    *(bool *)userdata = true;
}

static void create_of(struct fixture *fixture, const struct kube_kind *kind, const char *json, bool *done) {
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    struct api_failure failure = {.code = 0};
    assert_int_equal(kube_decode_json(kind, slice_of(json), KUBE_STRICT, &object, &diag), 0);
    assert_int_equal(api_create(fixture->api, object, on_created, done, &failure), 0);
    for (int i = 0; i < TURNS_MAX && !*done; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_true(*done);
}

static void create(struct fixture *fixture, const char *json, bool *done) {
    create_of(fixture, &kube_kind_pod, json, done);
}

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    char path[128], endpoint[128], node_endpoint[128], node_path[128];
    struct diag diag = DIAG_INIT;
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/tidemill-api-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    assert_int_equal(loop_new(&fixture->loop), 0);
    snprintf(path, sizeof path, "%s/store.db", fixture->folder);
    snprintf(node_path, sizeof node_path, "%s/node.sock", fixture->folder);
    const struct store_options options = {.path = path};
    assert_int_equal(store_open(fixture->loop, &options, &fixture->store, &diag), 0);
    const struct api_unix_user users[] = {{geteuid(), "admin", "system:masters"}, {0, NULL, NULL}};
    const struct api_options api = {.store = fixture->store, .unix_users = users, .node_socket = node_path, .audit_folder = fixture->folder};
    assert_int_equal(api_new(fixture->loop, &api, &fixture->api, &diag), 0);
    fixture->listen_fd = listen_at(fixture, "api.sock", endpoint);
    fixture->node_fd = listen_at(fixture, "node.sock", node_endpoint);
    const struct http_server_options server = {.handler = api_handle, .userdata = fixture->api}, node = {.handler = serve_node, .userdata = fixture};
    assert_int_equal(http_server_new(fixture->loop, fixture->listen_fd, &server, &fixture->server), 0);
    assert_int_equal(http_server_new(fixture->loop, fixture->node_fd, &node, &fixture->node), 0);
    const struct http_client_options client = {.endpoint = endpoint};
    assert_int_equal(http_client_new(fixture->loop, &client, &fixture->client), 0);
    bool one = false, two = false;
    create(
        fixture,
        "{\"metadata\":{\"name\":\"p\",\"namespace\":\"default\"},\"spec\":{\"nodeName\":\"n1\",\"containers\":[{\"name\":\"c\",\"image\":\"x\"}]}}",
        &one);
    create(fixture,
           "{\"metadata\":{\"name\":\"q\",\"namespace\":\"default\"},\"spec\":{\"nodeName\":\"n1\",\"containers\":[{\"name\":\"a\",\"image\":\"x\"},{"
           "\"name\":\"b\",\"image\":\"x\"}]}}",
           &two);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    http_client_free(fixture->client);
    websocket_free(fixture->socket);
    http_stream_free(fixture->stream);
    http_server_free(fixture->server);
    api_free(fixture->api);
    http_server_free(fixture->node);
    close(fixture->listen_fd);
    close(fixture->node_fd);
    store_close(fixture->store);
    loop_free(fixture->loop);
    sys_remove_tree(AT_FDCWD, fixture->folder);
    free(fixture);
    return 0;
}

/* --- the client --- */

static void on_head(void *userdata, const struct http_answer *head) {
    struct seen *seen = userdata;
    struct slice protocol = head->header(head, "X-Stream-Protocol-Version");
    seen->head = true;
    seen->status = head->status;
    snprintf(seen->protocol, sizeof seen->protocol, "%.*s", SLICE_ARG(protocol));
    struct slice location = head->header(head, "Location"), extra = head->header(head, "X-Seen");
    snprintf(seen->location, sizeof seen->location, "%.*s", SLICE_ARG(location));
    snprintf(seen->extra, sizeof seen->extra, "%.*s", SLICE_ARG(extra));
}

static void on_data(void *userdata, struct slice data) {
    struct seen *seen = userdata;
    buffer_append_slice(&seen->data, data);
}

static void on_end(void *userdata, int error) {
    struct seen *seen = userdata;
    seen->ended = true;
    seen->error = error;
}

static const struct http_stream_handlers handlers = {.on_head = on_head, .on_data = on_data, .on_end = on_end};

static void wait_for(struct fixture *fixture, const bool *what) {
    for (int i = 0; i < TURNS_MAX && !*what; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_true(*what);
}

static struct seen get(struct fixture *fixture, const char *target) {
    static const struct http_field fields[] = {{"Authorization", "Basic x"}, {NULL, NULL}}; /* says nothing to us, and goes no further */
    struct seen seen = {.data = BUFFER_INIT(MIB)};
    struct http_request *request = NULL;
    const struct http_request_options options = {.method = "GET", .target = target, .fields = fields};
    assert_int_equal(http_client_stream(fixture->client, &options, &handlers, &seen, &request), 0);
    wait_for(fixture, &seen.ended);
    return seen;
}

UNIT_TEST(streams_logs) {
    struct fixture *fixture = *state;
    struct seen seen = get(fixture, "/api/v1/namespaces/default/pods/p/log?follow=true&tailLines=5");
    assert_int_equal(seen.status, 200);
    assert_string_equal(seen.data.data, "first\nsecond\n");
    assert_string_equal(fixture->node_target, "/containerLogs/default/p/c?follow=true&tailLines=5");
    buffer_deinit(&seen.data);
}

UNIT_TEST(asks_which_container) {
    struct fixture *fixture = *state;
    struct seen seen = get(fixture, "/api/v1/namespaces/default/pods/q/log");
    assert_int_equal(seen.status, 400);
    assert_non_null(strstr(seen.data.data, "a container name must be specified for pod q, choose one of: [a b]"));
    buffer_deinit(&seen.data);
    seen = get(fixture, "/api/v1/namespaces/default/pods/q/log?container=b");
    assert_int_equal(seen.status, 200);
    assert_string_equal(fixture->node_target, "/containerLogs/default/q/b");
    buffer_deinit(&seen.data);
    seen = get(fixture, "/api/v1/namespaces/default/pods/q/log?container=z");
    assert_int_equal(seen.status, 400);
    buffer_deinit(&seen.data);
    seen = get(fixture, "/api/v1/namespaces/default/pods/nope/log");
    assert_int_equal(seen.status, 404);
    buffer_deinit(&seen.data);
}

UNIT_TEST(says_when_the_node_is_away) {
    struct fixture *fixture = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/node.sock", fixture->folder);
    assert_int_equal(unlink(path), 0);
    struct seen seen = get(fixture, "/api/v1/namespaces/default/pods/p/log");
    assert_int_equal(seen.status, 503);
    assert_non_null(strstr(seen.data.data, "the node does not answer"));
    buffer_deinit(&seen.data);
}

UNIT_TEST(tunnels_what_a_websocket_is_asked_for) {
    static const struct http_field fields[] = {{"Upgrade", "websocket"},
                                               {"Connection", "Upgrade"},
                                               {"Sec-WebSocket-Version", "13"},
                                               {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="},
                                               {"Sec-WebSocket-Protocol", "v5.channel.k8s.io"},
                                               {NULL, NULL}};
    struct fixture *fixture = *state;
    static const char *const cases[][2] = {
        {"/api/v1/namespaces/default/pods/p/log?follow=true", "/containerLogs/default/p/c?follow=true"},
        {"/api/v1/namespaces/default/pods/p/exec?command=ls&command=-l&container=c&stdout=true",
         "/exec/default/p/c?command=ls&command=-l&stdout=true"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct seen seen = {.data = BUFFER_INIT(MIB)};
        struct http_request *request = NULL;
        const struct http_request_options options = {.method = "GET", .target = cases[i][0], .fields = fields};
        assert_int_equal(http_client_upgrade(fixture->client, &options, &handlers, &seen, &request), 0);
        wait_for(fixture, &seen.head);
        assert_int_equal(seen.status, 101);
        assert_string_equal(fixture->node_target, cases[i][1]);
        /* A masked binary frame "hi" with mask 0: comes back unmasked. */
        assert_int_equal(http_request_write(request, SLICE("\x82\x82\0\0\0\0hi")), 0);
        for (int turn = 0; turn < TURNS_MAX && seen.data.len < 4; turn++)
            assert_int_equal(loop_turn(fixture->loop, 1000), 0);
        assert_true(slice_equal(buffer_slice(&seen.data), SLICE("\x82\x02hi")));
        /* The node closes: so does our side. */
        websocket_free(fixture->socket);
        fixture->socket = NULL;
        wait_for(fixture, &seen.ended);
        buffer_deinit(&seen.data);
    }
}

UNIT_TEST(client_that_leaves_ends_exec) {
    static const struct http_field fields[] = {{"Upgrade", "websocket"},
                                               {"Connection", "Upgrade"},
                                               {"Sec-WebSocket-Version", "13"},
                                               {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="},
                                               {"Sec-WebSocket-Protocol", "v5.channel.k8s.io"},
                                               {NULL, NULL}};
    struct fixture *fixture = *state;
    struct seen seen = {.data = BUFFER_INIT(MIB)};
    struct http_request *request = NULL;
    const struct http_request_options options = {.method = "GET", .target = "/api/v1/namespaces/default/pods/p/exec?command=sh", .fields = fields};
    assert_int_equal(http_client_upgrade(fixture->client, &options, &handlers, &seen, &request), 0);
    wait_for(fixture, &seen.head);
    http_request_cancel(request);
    for (int i = 0; i < TURNS_MAX && fixture->socket; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_null(fixture->socket);
    buffer_deinit(&seen.data);
}

/* SPDY's bytes are the node's; all versions of the streams that the client offers reach it. */
static void tunnel_spdy(struct fixture *fixture, const char *target, const char *wanted) {
    static const struct http_field fields[] = {{"Upgrade", "SPDY/3.1"},
                                               {"Connection", "Upgrade"},
                                               {"X-Stream-Protocol-Version", "v5.channel.k8s.io"},
                                               {"X-Stream-Protocol-Version", "v4.channel.k8s.io"},
                                               {NULL, NULL}};
    struct seen seen = {.data = BUFFER_INIT(MIB)};
    struct http_request *request = NULL;
    const struct http_request_options options = {.method = "POST", .target = target, .fields = fields};
    assert_int_equal(http_client_upgrade(fixture->client, &options, &handlers, &seen, &request), 0);
    wait_for(fixture, &seen.head);
    assert_int_equal(seen.status, 101);
    assert_string_equal(seen.protocol, "v4.channel.k8s.io");
    assert_string_equal(fixture->node_target, wanted);
    assert_int_equal(http_request_write(request, SLICE("\x80\x03\0\x06")), 0);
    for (int i = 0; i < TURNS_MAX && seen.data.len < 4; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_true(slice_equal(buffer_slice(&seen.data), SLICE("\x80\x03\0\x06")));
    http_stream_free(fixture->stream);
    fixture->stream = NULL;
    wait_for(fixture, &seen.ended);
    buffer_deinit(&seen.data);
}

UNIT_TEST(tunnels_spdy) {
    tunnel_spdy(*state, "/api/v1/namespaces/default/pods/p/exec?command=ls&container=c&stdout=true", "/exec/default/p/c?command=ls&stdout=true");
    tunnel_spdy(*state, "/api/v1/namespaces/default/pods/q/portforward", "/portforward/default/q"); /* of a pod, not a container */
}

UNIT_TEST(asks_for_an_upgrade) {
    struct seen seen = get(*state, "/api/v1/namespaces/default/pods/p/exec?command=ls");
    assert_int_equal(seen.status, 400);
    assert_non_null(strstr(seen.data.data, "WebSocket"));
    buffer_deinit(&seen.data);
}

/* The log is written by a thread. */
static void wait_audited(struct fixture *fixture, const char *text) {
    CLEANUP(buffer_deinit) struct buffer log = BUFFER_INIT(MIB);
    char path[128];
    snprintf(path, sizeof path, "%s/audit.log", fixture->folder);
    for (int i = 0; i < TURNS_MAX && slice_find(buffer_slice(&log), slice_of(text)) < 0; i++) {
        assert_int_equal(loop_turn(fixture->loop, 10), 0);
        buffer_reset(&log);
        (void)sys_read_file(AT_FDCWD, path, MIB - 1, &log);
    }
    assert_true(slice_find(buffer_slice(&log), slice_of(text)) >= 0);
}

UNIT_TEST(passes_requests_to_servers_in_the_cluster) {
    static const char *const cases[][2] = {
        {"/api/v1/namespaces/default/pods/p/proxy/x", "address not allowed"},
        {"/api/v1/namespaces/default/pods/a:b:c:d/proxy/x", "invalid pod request \\\"a:b:c:d\\\""},
        {"/api/v1/namespaces/default/services/none/proxy/x", "services \\\"none\\\" not found"},
        {"/api/v1/namespaces/default/services/s/proxy/x", "no endpoints available for service \\\"s\\\""},
        {"/api/v1/namespaces/default/services/s:81/proxy/x", "no service port 81 found for service \\\"s\\\""},
        {"/api/v1/nodes/n2/proxy/x", "nodes \\\"n2\\\" not found"},
        {"/api/v1/nodes/n1:22/proxy/x", "address not allowed"},
    };
    struct fixture *fixture = *state;
    bool node = false, service = false;
    create_of(fixture, &kube_kind_node, "{\"metadata\":{\"name\":\"n1\"}}", &node);
    create_of(fixture, &kube_kind_service, "{\"metadata\":{\"name\":\"s\",\"namespace\":\"default\"},\"spec\":{\"ports\":[{\"port\":80}]}}",
              &service);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct seen seen = get(fixture, cases[i][0]);
        if (!strstr(seen.data.data, cases[i][1]))
            fail_msg("%s: %s", cases[i][1], seen.data.data);
        buffer_deinit(&seen.data);
    }
    struct seen seen = get(fixture, "/api/v1/nodes/n1/proxy/a%2Fb?c=d");
    assert_int_equal(seen.status, 200);
    assert_string_equal(seen.data.data, "first\nsecond\n");
    assert_string_equal(fixture->node_target, "/a%2Fb?c=d");
    buffer_deinit(&seen.data);
    seen = get(fixture, "/api/v1/nodes/https:n1:10250/proxy/c");
    assert_string_equal(fixture->node_target, "/c");
    buffer_deinit(&seen.data);
    seen = get(fixture, "/api/v1/nodes/n1/proxy/old");
    assert_int_equal(seen.status, 302);
    assert_string_equal(seen.location, "/api/v1/nodes/n1/proxy/new?a=b");
    assert_string_equal(seen.data.data, "<a href='/api/v1/nodes/n1/proxy/new?a=b'>moved</a>");
    assert_string_equal(seen.extra, "nothing");
    buffer_deinit(&seen.data);
    seen = get(fixture, "/api/v1/nodes/n1/proxy?a=b");
    assert_int_equal(seen.status, 301);
    assert_string_equal(seen.location, "/api/v1/nodes/n1/proxy/?a=b");
    buffer_deinit(&seen.data);
    tunnel_spdy(fixture, "/api/v1/nodes/n1/proxy/up?x=y", "/up?x=y");
    wait_audited(fixture, "\"requestURI\":\"/api/v1/nodes/n1/proxy/up\"");
}

#define WITH_NODE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {WITH_NODE(streams_logs),
                                       WITH_NODE(asks_which_container),
                                       WITH_NODE(says_when_the_node_is_away),
                                       WITH_NODE(tunnels_what_a_websocket_is_asked_for),
                                       WITH_NODE(client_that_leaves_ends_exec),
                                       WITH_NODE(tunnels_spdy),
                                       WITH_NODE(asks_for_an_upgrade),
                                       WITH_NODE(passes_requests_to_servers_in_the_cluster)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

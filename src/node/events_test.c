/* How events reach the API, here a server of a few lines that writes down what it was told. */
#include <stdio.h>

#include "codec/codec.h"
#include "node/node_priv.h"
#include "sys/sys.h"
#include "unit.h"

static struct told {
    char what[64][1600]; /* "POST …", "PATCH …"; the last ones */
    size_t count;
    int status; /* of the next answers; 0: as it should be */
} told;

static void on_body(__attribute__((unused)) void *userdata, struct http_exchange *exchange, struct slice body) {
    struct slice method = http_method(exchange);
    snprintf(told.what[told.count++ % ARRAY_LEN(told.what)], sizeof told.what[0], "%.*s %.*s", SLICE_ARG(method), SLICE_ARG(body));
    http_respond(exchange,
                 told.status                ? told.status
                 : slice_is(method, "POST") ? 201
                                            : 200,
                 "application/json", SLICE("{\"reason\":\"AlreadyExists\"}"), NULL);
}

static void on_request(void *userdata, struct http_exchange *exchange) {
    http_read_body(exchange, 64 * KIB, on_body, userdata);
}

struct fixture {
    char folder[24];
    struct node node;
    struct http_server *server;
    int listen_fd;
};

static int setup(void **state) {
    static const struct node_options options = {.node_name = "n1"};
    static struct fixture fixture;
    struct sys_address address;
    struct diag diag = DIAG_INIT;
    char endpoint[80];
    fixture = (struct fixture){.folder = "/tmp/events-XXXXXX", .node = {.options = &options}};
    told = (struct told){0};
    *state = &fixture;
    assert_non_null(mkdtemp(fixture.folder));
    snprintf(endpoint, sizeof endpoint, "unix:%s/s", fixture.folder);
    assert_int_equal(sys_address_parse(endpoint, &address), 0);
    fixture.listen_fd = sys_listen(&address, 8, 0600);
    assert_int_equal(loop_new(&fixture.node.loop), 0);
    assert_int_equal(http_server_new(fixture.node.loop, fixture.listen_fd, &(struct http_server_options){.handler = on_request}, &fixture.server), 0);
    assert_int_equal(client_new(fixture.node.loop, &(struct client_options){.endpoint = endpoint}, &fixture.node.client, &diag), 0);
    return events_new(&fixture.node, &fixture.node.events);
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    client_free(fixture->node.client);
    events_free(fixture->node.events);
    http_server_free(fixture->server);
    close(fixture->listen_fd);
    loop_free(fixture->node.loop);
    return sys_remove_tree(AT_FDCWD, fixture->folder);
}

static void wait_told(struct fixture *fixture, size_t count) {
    while (told.count < count)
        assert_int_equal(loop_turn(fixture->node.loop, 10000), 0);
    loop_turn(fixture->node.loop, 20); /* the answer */
    assert_int_equal(told.count, count);
}

static void assert_told(size_t index, const char *first, const char *text) {
    if (strncmp(told.what[index], first, strlen(first)) != 0 || !strstr(told.what[index], text))
        fail_msg("%s … %s is missing in %s", first, text, told.what[index]);
}

UNIT_TEST(what_repeats_is_counted) {
    struct fixture *fixture = *state;
    event_node(&fixture->node, "Warning", "Odd", "it is %s", "odd");
    event_node(&fixture->node, "Warning", "Odd", "it is odd"); /* while the first is on its way: */
    event_node(&fixture->node, "Warning", "Odd", "it is odd"); /* told with the next */
    wait_told(fixture, 2);
    assert_told(0, "POST {\"apiVersion\":\"v1\",\"kind\":\"Event\"",
                "\"source\":{\"component\":\"kubelet\",\"host\":\"n1\"},\"type\":\"Warning\",\"reason\":\"Odd\"");
    assert_told(0, "POST", "\"count\":1,");
    assert_told(1, "PATCH {\"count\":3,\"lastTimestamp\":\"", "\"message\":\"it is odd\"}");
    told.status = 404; /* it has been forgotten there: made anew, which is refused as well here */
    event_node(&fixture->node, "Warning", "Odd", "it is odd");
    wait_told(fixture, 4);
    assert_told(2, "PATCH", "\"count\":4,");
    assert_told(3, "POST", "\"count\":4,");
    told.status = 409; /* it was made all the same */
    event_node(&fixture->node, "Warning", "Odd", "it is odd");
    wait_told(fixture, 5);
    assert_told(4, "POST", "\"count\":5,");
    told.status = 0;
    event_node(&fixture->node, "Warning", "Odd", "it is odd");
    wait_told(fixture, 6);
    assert_told(5, "PATCH", "\"count\":6,");
}

UNIT_TEST(what_is_similar_is_combined_and_too_much_is_left_out) {
    struct fixture *fixture = *state;
    for (int i = 0; i < 40; i++) {
        event_node(&fixture->node, "Normal", "Odd", "number %d", i);
        wait_told(fixture, MIN((size_t)i + 1, 25));
    }
    assert_told(8, "POST", "\"message\":\"number 8\"");
    assert_told(9, "POST", "\"message\":\"(combined from similar events): number 9\"");
    assert_told(24, "PATCH {\"count\":16,", "\"message\":\"(combined from similar events): number 24\"");
}

static void tell_twice(void *userdata) {
    event_pod(userdata, NULL, "Normal", "First", "one");
    event_pod(userdata, NULL, "Normal", "Second", "two");
}

UNIT_TEST(each_has_a_name_of_its_own_however_many_came_before) {
    struct fixture *fixture = *state;
    struct kube_object_meta meta = {.name = NULL};
    struct kube_object object = {.metadata = &meta};
    char uid[16], first[80], second[80];
    struct pod pod = {
        .node = &fixture->node, .spec_object = &object, .uid = uid, .namespace = "n", .name = uid}; /* so many of one pod would be left out */
    struct loop_defer defer;
    for (size_t i = 1; i <= 600; i++) { /* more than are remembered */
        snprintf(uid, sizeof uid, "u%zu", i);
        event_pod(&pod, NULL, "Normal", "Before", "it was");
        if (i % 8 == 0)
            wait_told(fixture, i);
    }
    loop_defer_init(&defer, fixture->node.loop, tell_twice, &pod); /* time stands still within a turn */
    loop_defer_schedule(&defer);
    wait_told(fixture, 602);
    sscanf(strstr(told.what[600 % ARRAY_LEN(told.what)], "\"name\":"), "\"name\":\"%79[^\"]", first);
    sscanf(strstr(told.what[601 % ARRAY_LEN(told.what)], "\"name\":"), "\"name\":\"%79[^\"]", second);
    assert_string_not_equal(first, second);
}

#define WITH(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {WITH(what_repeats_is_counted), WITH(what_is_similar_is_combined_and_too_much_is_left_out),
                                       WITH(each_has_a_name_of_its_own_however_many_came_before)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Tokens of a pod, from an API server of a few lines that gives a new one each time, about to end at once. */
#include <stdio.h>

#include "codec/codec.h"
#include "node/node_priv.h"
#include "sys/sys.h"
#include "unit.h"

static struct server {
    struct http_server *http;
    int answers, refusals;
    int64_t life_s; /* of the tokens */
    char asked[600], target[200];
} server;

static void on_body(__attribute__((unused)) void *userdata, struct http_exchange *exchange, struct slice asked) {
    char body[200], until[TIMESTAMP_BYTES];
    snprintf(server.asked, sizeof server.asked, "%.*s", SLICE_ARG(asked));
    snprintf(server.target, sizeof server.target, "%.*s", SLICE_ARG(http_target(exchange)));
    if (server.refusals) {
        server.refusals--;
        return http_respond_text(exchange, 503, "not now");
    }
    timestamp_format(sys_wall_ns() + server.life_s * 1000000000, until);
    snprintf(body, sizeof body, "{\"status\":{\"token\":\"token-%d\",\"expirationTimestamp\":\"%s\"}}", ++server.answers, until);
    http_respond(exchange, 201, "application/json", slice_of(body), NULL);
}

static void on_request(void *userdata, struct http_exchange *exchange) {
    http_read_body(exchange, 64 * KIB, on_body, userdata);
}

static void on_sync(__attribute__((unused)) void *userdata) {
}

static bool has(const struct pod *pod, const char *text) {
    const struct kube_volume *volume = &pod->spec_object->pod->spec.volumes.items[0];
    return slice_is(tokens_find(pod, volume->projected->sources.items[0].service_account_token), text);
}

UNIT_TEST(a_token_is_replaced_before_it_ends) {
    struct node node = {.socket_fd = -1};
    struct pod pod = {.node = &node, .namespace = "team", .name = "p", .uid = "u-1"};
    struct sys_address address;
    struct diag diag = DIAG_INIT;
    char folder[] = "/tmp/token-XXXXXX", endpoint[80];
    assert_non_null(mkdtemp(folder));
    snprintf(endpoint, sizeof endpoint, "unix:%s/s", folder);
    assert_int_equal(sys_address_parse(endpoint, &address), 0);
    int listen_fd = sys_listen(&address, 8, 0600);
    assert_int_equal(loop_new(&node.loop), 0);
    assert_int_equal(http_server_new(node.loop, listen_fd, &(struct http_server_options){.handler = on_request}, &server.http), 0);
    assert_int_equal(client_new(node.loop, &(struct client_options){.endpoint = endpoint}, &node.client, &diag), 0);
    assert_int_equal(
        kube_decode_json(&kube_kind_pod,
                         SLICE("{\"metadata\":{\"name\":\"p\",\"namespace\":\"team\"},\"spec\":{\"serviceAccountName\":\"robot\",\"volumes\":[{"
                               "\"name\":\"v\",\"projected\":{\"sources\":[{\"serviceAccountToken\":{\"path\":\"t\",\"audience\":\"vault\","
                               "\"expirationSeconds\":600}}]}}]}}"),
                         KUBE_LENIENT, &pod.spec_object, &diag),
        0);
    loop_defer_init(&pod.sync, node.loop, on_sync, &pod);
    assert_int_equal(tokens_collect(&pod), 0);
    assert_false(tokens_ready(&pod));
    while (!has(&pod, "token-1"))
        assert_int_equal(loop_turn(node.loop, 10000), 0);
    assert_true(tokens_ready(&pod) && pod.volumes_stale);
    assert_string_equal(server.target, "/api/v1/namespaces/team/serviceaccounts/robot/token");
    assert_non_null(strstr(server.asked,
                           "\"audiences\":[\"vault\"],\"expirationSeconds\":600,\"boundObjectRef\":{\"apiVersion\":\"v1\",\"kind\":\"Pod\","
                           "\"name\":\"p\",\"uid\":\"u-1\"}"));
    pod.volumes_stale = false;
    server.refusals = 1; /* the old one stays meanwhile */
    while (has(&pod, "token-1"))
        assert_int_equal(loop_turn(node.loop, 10000), 0);
    assert_true(has(&pod, "token-2") && pod.volumes_stale);
    server.life_s = 3600;
    while (!has(&pod, "token-3"))
        assert_int_equal(loop_turn(node.loop, 10000), 0);
    assert_in_range(pod.tokens[0].due_ns - sys_wall_ns(), INT64_C(2870) * 1000000000, INT64_C(2880) * 1000000000);
    tokens_clock_set(&pod); /* by nothing */
    assert_int_equal(loop_turn(node.loop, 0), 0);
    assert_null(pod.tokens[0].request);
    pod.tokens[0].due_ns = sys_wall_ns() - 1; /* the machine slept for an hour */
    tokens_clock_set(&pod);
    while (!has(&pod, "token-4"))
        assert_int_equal(loop_turn(node.loop, 10000), 0);
    tokens_free(&pod);
    loop_defer_cancel(&pod.sync);
    kube_object_unref(pod.spec_object);
    client_free(node.client);
    http_server_free(server.http);
    close(listen_fd);
    loop_free(node.loop);
    assert_int_equal(sys_remove_tree(AT_FDCWD, folder), 0);
}

/* As kubelet: when a fifth of its life is left, and after a day however long it lives. */
UNIT_TEST(when_the_next_token_is_due) {
    assert_int_equal(tokens_refresh_ms(600 * 1000), 480 * 1000);
    assert_int_equal(tokens_refresh_ms(3607 * 1000), 2885600);
    assert_int_equal(tokens_refresh_ms(INT64_C(365) * 24 * 3600 * 1000), 24 * 3600 * 1000);
    assert_int_equal(tokens_refresh_ms(0), 1000); /* its issuer's clock is another: not again and again at once */
}

UNIT_MAIN(UNIT(a_token_is_replaced_before_it_ends), UNIT(when_the_next_token_is_due))

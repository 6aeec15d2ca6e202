/* What tests of the API stand on: a real store in a temporary folder, a real server on a unix socket, and our own client, all in one loop. */
#ifndef TIDEMILL_API_TESTING_PRIV_H
#define TIDEMILL_API_TESTING_PRIV_H

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
    struct http_server *server;
    struct http_client *client;
    int listen_fd;
    struct arena *arena;
    const struct jwt_key *const *token_keys; /* NULL: no tokens */
    int64_t heard_ns;                        /* of the node n1 */
};

struct reply {
    bool done;
    int status;
    struct tree *tree;
    struct buffer body;
    struct slice bytes; /* of the body; in the fixture's arena */
    struct fixture *fixture;
    char warning[1024];
};

static inline int64_t fixture_heartbeat(void *userdata, const char *node) {
    return strcmp(node, "n1") == 0 ? ((struct fixture *)userdata)->heard_ns : 0;
}

static inline void open_all(struct fixture *fixture) {
    char path[128], endpoint[128];
    struct diag diag = DIAG_INIT;
    assert_int_equal(loop_new(&fixture->loop), 0);
    snprintf(path, sizeof path, "%s/store.db", fixture->folder);
    const struct store_options options = {.path = path, .changes_kept = 16};
    assert_int_equal(store_open(fixture->loop, &options, &fixture->store, &diag), 0);
    const struct api_unix_user users[] = {{geteuid(), "admin", "system:masters"}, {0, NULL, NULL}};
    const struct api_options api = {.store = fixture->store,
                                    .version = "test",
                                    .unix_users = users,
                                    .service_range = "10.96.0.0/24",
                                    .token_keys = fixture->token_keys,
                                    .heartbeat = fixture_heartbeat,
                                    .heartbeat_userdata = fixture};
    assert_int_equal(api_new(fixture->loop, &api, &fixture->api, &diag), 0);
    struct sys_address address;
    snprintf(endpoint, sizeof endpoint, "unix:%s/api.sock", fixture->folder);
    assert_int_equal(sys_address_parse(endpoint, &address), 0);
    fixture->listen_fd = sys_listen(&address, 16, 0600);
    assert_true(fixture->listen_fd >= 0);
    const struct http_server_options server = {.handler = api_handle, .userdata = fixture->api};
    assert_int_equal(http_server_new(fixture->loop, fixture->listen_fd, &server, &fixture->server), 0);
    const struct http_client_options client = {.endpoint = endpoint};
    assert_int_equal(http_client_new(fixture->loop, &client, &fixture->client), 0);
}

static inline void close_all(struct fixture *fixture) {
    http_client_free(fixture->client);
    http_server_free(fixture->server);
    close(fixture->listen_fd);
    api_free(fixture->api);
    store_close(fixture->store);
    loop_free(fixture->loop);
}

static inline int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/tidemill-api-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    fixture->arena = arena_new(64 * MIB);
    open_all(fixture);
    *state = fixture;
    return 0;
}

static inline int teardown(void **state) {
    struct fixture *fixture = *state;
    close_all(fixture);
    sys_remove_tree(AT_FDCWD, fixture->folder);
    arena_free(fixture->arena);
    free(fixture);
    return 0;
}

static inline void on_answer(void *userdata, const struct http_answer *answer) {
    struct reply *reply = userdata;
    struct diag diag = DIAG_INIT;
    reply->done = true;
    reply->status = answer->status;
    assert_int_equal(answer->error, 0);
    struct slice warning = answer->header(answer, "Warning");
    snprintf(reply->warning, sizeof reply->warning, "%.*s", SLICE_ARG(warning));
    const char *copy = arena_dup(reply->fixture->arena, answer->body);
    reply->bytes = slice_make(copy, answer->body.len);
    if (answer->body.len && answer->body.data[0] == '{')
        assert_int_equal(json_parse(reply->fixture->arena, slice_make(copy, answer->body.len), NULL, &reply->tree, &diag), 0);
}

static inline struct reply ask_as(struct fixture *fixture, const char *method, const char *target, const char *type, const char *body,
                                  const char *accept) {
    struct reply reply = {.fixture = fixture};
    const struct http_field fields[] = {{accept ? "Accept" : NULL, accept}, {NULL, NULL}};
    const struct http_request_options options = {.method = method, .target = target, .content_type = type, .body = slice_of(body), .fields = fields};
    struct http_request *request = NULL;
    assert_int_equal(http_client_send(fixture->client, &options, on_answer, &reply, &request), 0);
    for (int i = 0; i < TURNS_MAX && !reply.done; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_true(reply.done);
    return reply;
}

static inline struct reply ask(struct fixture *fixture, const char *method, const char *target, const char *body) {
    return ask_as(fixture, method, target, body ? "application/json" : NULL, body, NULL);
}

static inline const char *text(const struct reply *reply, const char *path) {
    return tree_text_or(tree_path(reply->tree, path), "");
}

#endif

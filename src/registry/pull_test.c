/* Pulling, with one registry of ours as the remote and another as the platform's; a gate in front of the remote asks for tokens and spoils answers.
 */
#include "registry/registry.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#include "registry/image_priv.h"
#include "sys/sys.h"
#include "unit.h"

static struct {
    char folder[64];
    char host[64];
    struct loop *loop;
    int listen_fd;
    struct http_server *server;
    struct registry *remote, *local;
    bool wants_token, spoils_blobs;
    size_t tokens, blobs;
    /* the result */
    bool done;
    int error;
    char message[DIAG_TEXT_MAX];
    char name[OCI_NAME_MAX + 1];
    struct oci_digest digest;
    uint64_t progress;
} fixture;

static void gate(void *userdata, struct http_exchange *exchange) {
    (void)userdata;
    struct slice path = http_path(exchange);
    char challenge[256];
    snprintf(challenge, sizeof challenge, "Bearer realm=\"http://%s/token\",service=\"the registry\"", fixture.host);
    const struct http_field fields[] = {{"WWW-Authenticate", challenge}, {NULL, NULL}};
    if (slice_is(path, "/token")) {
        assert_non_null(
            memmem(http_query_text(exchange).data, http_query_text(exchange).len, "service=the%20registry&scope=repository%3Aapp%3Apull", 52));
        fixture.tokens++;
        http_respond(exchange, 200, "application/json", SLICE("{\"access_token\":\"tok\"}"), NULL);
        return;
    }
    if (fixture.wants_token && !slice_is(http_header(exchange, "Authorization"), "Bearer tok")) {
        http_respond(exchange, 401, "application/json", SLICE("{}"), fields);
        return;
    }
    bool blob = slice_find(path, SLICE("/blobs/")) >= 0;
    fixture.blobs += blob;
    if (blob && fixture.spoils_blobs)
        http_respond(exchange, 200, "application/octet-stream", SLICE("xx"), NULL);
    else
        registry_handle(fixture.remote, exchange);
}

static int set_up(void **state) {
    (void)state;
    struct sys_address address;
    struct sockaddr_in bound;
    socklen_t length = sizeof bound;
    char path[128];
    snprintf(fixture.folder, sizeof fixture.folder, "/tmp/tidemill-pull-XXXXXX");
    if (!mkdtemp(fixture.folder) || loop_new(&fixture.loop) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/remote", fixture.folder);
    int r = registry_new(fixture.loop, &(struct registry_options){.path = path, .bytes_free_min = 1}, &fixture.remote, NULL);
    snprintf(path, sizeof path, "%s/local", fixture.folder);
    r = r ? r : registry_new(fixture.loop, &(struct registry_options){.path = path, .bytes_free_min = 1}, &fixture.local, NULL);
    r = r ? r : sys_address_parse("127.0.0.1:0", &address);
    fixture.listen_fd = r ? -1 : sys_listen(&address, 8, 0);
    if (fixture.listen_fd < 0 || getsockname(fixture.listen_fd, (struct sockaddr *)&bound, &length) < 0)
        return -1;
    snprintf(fixture.host, sizeof fixture.host, "127.0.0.1:%d", ntohs(bound.sin_port));
    return http_server_new(fixture.loop, fixture.listen_fd, &(struct http_server_options){.handler = gate}, &fixture.server);
}

static int tear_down(void **state) {
    (void)state;
    http_server_free(fixture.server);
    registry_free(fixture.remote);
    registry_free(fixture.local);
    loop_free(fixture.loop);
    close(fixture.listen_fd);
    return sys_remove_tree(AT_FDCWD, fixture.folder);
}

static struct oci_digest put_remote_blob(struct slice bytes) {
    struct oci_digest digest = {0};
    struct content *content = registry_content(fixture.remote);
    assert_int_equal(content_write_blob(content, bytes, &digest), 0);
    assert_int_equal(content_link(content, "app", CONTENT_LINK_BLOB, &digest, (struct slice){0}), 0);
    return digest;
}

static struct oci_digest put_remote_manifest(const char *tag, const char *text) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct oci_manifest manifest;
    struct oci_digest digest = {0};
    assert_int_equal(oci_manifest_parse(arena, slice_of(text), (struct slice){0}, &manifest, NULL), 0);
    assert_int_equal(content_put_manifest(registry_content(fixture.remote), "app", tag, slice_of(text), &manifest, &digest), 0);
    return digest;
}

/* An image with a layer of its own for each `salt`. */
static struct oci_digest put_remote_image(const char *tag, char salt) {
    static char layer[3 * MIB];
    char text[2048];
    memset(layer, salt, sizeof layer);
    struct oci_digest config = put_remote_blob(SLICE("{}")), blob = put_remote_blob(slice_make(layer, sizeof layer));
    snprintf(text, sizeof text,
             "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_DOCKER_MANIFEST
             "\",\"config\":{\"mediaType\":\"c\",\"digest\":\"sha256:%s\",\"size\":2},"
             "\"layers\":[{\"mediaType\":\"l\",\"digest\":\"sha256:%s\",\"size\":%zu}]}",
             config.hex, blob.hex, sizeof layer);
    return put_remote_manifest(tag, text);
}

static void on_progress(void *userdata, uint64_t done, uint64_t total) {
    (void)userdata;
    assert_true(done <= total);
    fixture.progress = done;
}

static void on_done(void *userdata, const struct registry_pull_result *result) {
    (void)userdata;
    fixture.done = true;
    fixture.error = result->error;
    snprintf(fixture.message, sizeof fixture.message, "%s", result->diag->message);
    snprintf(fixture.name, sizeof fixture.name, "%s", result->name);
    fixture.digest = result->digest;
}

static int pull(const char *rest) {
    char reference[512];
    snprintf(reference, sizeof reference, "%s/%s", fixture.host, rest);
    const struct registry_pull_options options = {.reference = reference, .insecure = true, .on_progress = on_progress, .on_done = on_done};
    fixture.done = false;
    assert_int_equal(registry_pull(fixture.local, &options, NULL, NULL), 0);
    while (!fixture.done)
        assert_int_equal(loop_turn(fixture.loop, 10000), 0);
    return fixture.error;
}

UNIT_TEST(an_image_arrives_whole) {
    struct oci_digest image = put_remote_image("v1", 'a'), found;
    fixture.wants_token = true;
    assert_int_equal(pull("app:v1"), 0);
    fixture.wants_token = false;
    assert_int_equal(fixture.tokens, 1);
    assert_true(oci_digest_equal(&image, &fixture.digest));
    assert_true(fixture.progress > 0);
    assert_int_equal(content_get_tag(registry_content(fixture.local), fixture.name, "v1", &found), 0);
    assert_true(oci_digest_equal(&image, &found));
    size_t blobs = fixture.blobs;
    assert_int_equal(pull("app:v1"), 0);
    assert_int_equal(fixture.blobs, blobs); /* nothing is fetched twice */
}

UNIT_TEST(an_index_gives_this_machines_image) {
    char text[2048], reference[256];
    struct oci_digest mine = put_remote_image("", 'b');
    snprintf(text, sizeof text,
             "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":[{\"mediaType\":\"" OCI_TYPE_MANIFEST
             "\",\"digest\":\"sha256:%064d\",\"size\":1,\"platform\":{\"os\":\"plan9\","
             "\"architecture\":\"amd64\"}},{\"mediaType\":\"" OCI_TYPE_DOCKER_MANIFEST
             "\",\"digest\":\"sha256:%s\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"%s\"}}]}",
             0, mine.hex, sys_architecture(NULL));
    struct oci_digest index = put_remote_manifest("multi", text);
    assert_int_equal(pull("app:multi"), 0);
    assert_true(oci_digest_equal(&mine, &fixture.digest));
    snprintf(reference, sizeof reference, "app@sha256:%s", index.hex);
    assert_int_equal(pull(reference), 0);
    assert_int_equal(content_find_link(registry_content(fixture.local), fixture.name, CONTENT_LINK_MANIFEST, &index, NULL), 0);
}

UNIT_TEST(what_is_wrong_leaves_no_image) {
    struct oci_digest found;
    put_remote_image("bad", 'c');
    fixture.spoils_blobs = true;
    assert_int_equal(pull("app:bad"), -EBADMSG);
    fixture.spoils_blobs = false;
    assert_non_null(strstr(fixture.message, "does not have its digest"));
    assert_int_equal(content_get_tag(registry_content(fixture.local), fixture.name, "bad", &found), -ENOENT);
    assert_int_equal(pull("app:none"), -ENOENT);
    assert_non_null(strstr(fixture.message, "has no image none of app"));
    struct registry_pull_options options = {.reference = "Bad Name", .on_done = on_done};
    struct diag diag = DIAG_INIT;
    assert_int_equal(registry_pull(fixture.local, &options, NULL, &diag), -EINVAL);
    assert_non_null(strstr(diag.message, "Bad Name"));
}

UNIT_TEST(a_registry_that_is_not_there_is_named) {
    struct registry_pull_options options = {.reference = "127.0.0.1:1/app:v1", .insecure = true, .on_done = on_done};
    fixture.done = false;
    assert_int_equal(registry_pull(fixture.local, &options, NULL, NULL), 0);
    while (!fixture.done)
        assert_int_equal(loop_turn(fixture.loop, 10000), 0);
    assert_int_equal(fixture.error, -EHOSTUNREACH);
    assert_non_null(strstr(fixture.message, "127.0.0.1:1"));
}

static void on_answer(void *userdata, const struct http_answer *answer) {
    struct buffer *text = userdata;
    buffer_printf(text, "%d\n%.*s", answer->error ? answer->error : answer->status, SLICE_ARG(answer->body));
    fixture.done = true;
}

UNIT_TEST(root_may_ask_for_a_pull_over_http) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    char endpoint[128], target[256];
    struct sys_address address;
    struct http_server *server = NULL;
    struct http_client *client = NULL;
    struct http_request *request = NULL;
    put_remote_image("http", 'd');
    snprintf(endpoint, sizeof endpoint, "unix:%s/s", fixture.folder);
    assert_int_equal(sys_address_parse(endpoint, &address), 0);
    int fd = sys_listen(&address, 8, 0600);
    assert_int_equal(http_server_new(fixture.loop, fd, &(struct http_server_options){.handler = registry_handle, .userdata = fixture.local}, &server),
                     0);
    assert_int_equal(http_client_new(fixture.loop, &(struct http_client_options){.endpoint = endpoint}, &client), 0);
    static const struct {
        const char *image, *begin, *end;
    } cases[] = {{"app:http", "200\n", "TIDEMILL-EXIT 0\n"}, {"app:none", "200\n", "TIDEMILL-EXIT 1\n"}, {"App", "400\n", "}\n"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buffer_reset(&text);
        snprintf(target, sizeof target, "/v2/_tidemill/pull?insecure=1&reference=%s/%s", fixture.host, cases[i].image);
        fixture.done = false;
        assert_int_equal(http_client_send(client, &(struct http_request_options){.method = "POST", .target = target}, on_answer, &text, &request), 0);
        while (!fixture.done)
            assert_int_equal(loop_turn(fixture.loop, 10000), 0);
        assert_true(slice_starts(buffer_slice(&text), slice_of(cases[i].begin)));
        assert_true(slice_ends(buffer_slice(&text), slice_of(cases[i].end)));
    }
    http_client_free(client);
    http_server_free(server);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(an_image_arrives_whole), UNIT(an_index_gives_this_machines_image), UNIT(what_is_wrong_leaves_no_image),
                                       UNIT(a_registry_that_is_not_there_is_named), UNIT(root_may_ask_for_a_pull_over_http)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

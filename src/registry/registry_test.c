/* The distribution server, asked over HTTP as clients do: specification by specification line. */
#include "registry/pulled.h"
#include "registry/registry.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "sys/sys.h"
#include "unit.h"

static struct {
    char folder[64];
    char endpoint[128];
    struct loop *loop;
    int listen_fd;
    struct http_server *server;
    struct registry *registry;
    struct http_client *client;
    /* the last answer */
    bool done;
    int status;
    struct buffer body;
    char headers[8][512];
    /* the last tag pushed */
    char tagged[512];
} fixture;

enum { H_LOCATION, H_RANGE, H_DIGEST, H_LINK, H_SUBJECT, H_FILTERS, H_TYPE, H_CONTENT_RANGE };
static const char *const header_names[] = {"Location",     "Range",        "Docker-Content-Digest", "Link", "OCI-Subject", "OCI-Filters-Applied",
                                           "Content-Type", "Content-Range"};

static enum registry_verdict authorize(void *userdata, const struct registry_access *access) {
    (void)userdata;
    if (strcmp(access->password, "secret") == 0)
        return access->repository && strncmp(access->repository, "private", 7) == 0 && access->write ? REGISTRY_DENIED : REGISTRY_ALLOWED;
    return *access->password ? REGISTRY_UNAUTHORIZED : access->write ? REGISTRY_UNAUTHORIZED : REGISTRY_ALLOWED;
}

static void on_tag(void *userdata, const char *name, const char *tag, const struct oci_digest *digest) {
    (void)userdata;
    snprintf(fixture.tagged, sizeof fixture.tagged, "%s:%s@%s", name, tag, digest->hex);
}

static int set_up(void **state) {
    (void)state;
    struct sys_address address;
    char path[128];
    snprintf(fixture.folder, sizeof fixture.folder, "/tmp/tidemill-registry-XXXXXX");
    if (!mkdtemp(fixture.folder))
        return -1;
    snprintf(fixture.endpoint, sizeof fixture.endpoint, "unix:%s/s", fixture.folder);
    snprintf(path, sizeof path, "%s/registry", fixture.folder);
    fixture.body = BUFFER_INIT(64 * MIB);
    const struct registry_options options = {.path = path, .bytes_free_min = 1, .authorize = authorize, .on_tag = on_tag, .uploads_max = 3};
    int r = loop_new(&fixture.loop);
    r = r ? r : registry_new(fixture.loop, &options, &fixture.registry, NULL);
    r = r ? r : sys_address_parse(fixture.endpoint, &address);
    fixture.listen_fd = r ? -1 : sys_listen(&address, 8, 0600);
    r = r ? r : fixture.listen_fd < 0 ? fixture.listen_fd : 0;
    const struct http_server_options server = {.handler = registry_handle, .userdata = fixture.registry};
    r = r ? r : http_server_new(fixture.loop, fixture.listen_fd, &server, &fixture.server);
    const struct http_client_options client = {.endpoint = fixture.endpoint};
    return r ? r : http_client_new(fixture.loop, &client, &fixture.client);
}

static int tear_down(void **state) {
    (void)state;
    http_client_free(fixture.client);
    http_server_free(fixture.server);
    registry_free(fixture.registry);
    loop_free(fixture.loop);
    close(fixture.listen_fd);
    buffer_deinit(&fixture.body);
    return sys_remove_tree(AT_FDCWD, fixture.folder);
}

static void on_answer(void *userdata, const struct http_answer *answer) {
    (void)userdata;
    fixture.done = true;
    fixture.status = answer->error ? answer->error : answer->status;
    buffer_reset(&fixture.body);
    buffer_append_slice(&fixture.body, answer->error ? (struct slice){0} : answer->body);
    for (size_t i = 0; i < ARRAY_LEN(header_names); i++) {
        struct slice value = answer->error ? (struct slice){0} : answer->header(answer, header_names[i]);
        snprintf(fixture.headers[i], sizeof fixture.headers[i], "%.*s", SLICE_ARG(value));
    }
}

/* One request; further headers are pairs. The status. */
static int ask(const char *method, const char *target, const char *type, struct slice body, const struct http_field *fields) {
    static const struct http_field credentials[] = {{"Authorization", "Basic am9iOnNlY3JldA=="}, {NULL, NULL}};
    struct http_request *request = NULL;
    struct http_request_options options = {
        .method = method, .target = target, .content_type = type, .body = body, .fields = fields ? fields : credentials};
    fixture.done = false;
    assert_int_equal(http_client_send(fixture.client, &options, on_answer, NULL, &request), 0);
    while (!fixture.done)
        assert_int_equal(loop_turn(fixture.loop, 10000), 0);
    return fixture.status;
}

static int get(const char *target) {
    return ask("GET", target, NULL, (struct slice){0}, NULL);
}

static const char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *text(const char *format, ...) {
    static char texts[8][2048];
    static size_t next;
    char *out = texts[next++ % 8];
    va_list args;
    va_start(args, format);
    vsnprintf(out, sizeof texts[0], format, args);
    va_end(args);
    return out;
}

static bool has_code(const char *code) {
    return fixture.body.data && strstr(fixture.body.data, text("{\"errors\":[{\"code\":\"%s\"", code));
}

static struct oci_digest digest_of(struct slice bytes) {
    struct oci_digest digest;
    digest_sha256_hex(bytes, digest.hex);
    return digest;
}

static struct oci_digest push_blob(const char *name, struct slice bytes) {
    struct oci_digest digest = digest_of(bytes);
    assert_int_equal(ask("POST", text("/v2/%s/blobs/uploads/?digest=sha256:%s", name, digest.hex), "application/octet-stream", bytes, NULL), 201);
    return digest;
}

static const char *manifest_of(const char *name, const char *layer, const char *more) {
    struct oci_digest config = push_blob(name, SLICE("{}")), blob = push_blob(name, slice_of(layer));
    return text("{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"config\":{\"mediaType\":\"" OCI_TYPE_CONFIG
                "\",\"digest\":\"sha256:%s\",\"size\":2},"
                "\"layers\":[{\"mediaType\":\"" OCI_TYPE_LAYER_GZIP "\",\"digest\":\"sha256:%s\",\"size\":%zu}]%s}",
                config.hex, blob.hex, strlen(layer), more);
}

static struct oci_digest push_image(const char *name, const char *reference, const char *layer, const char *more) {
    const char *manifest = manifest_of(name, layer, more);
    assert_int_equal(ask("PUT", text("/v2/%s/manifests/%s", name, reference), OCI_TYPE_MANIFEST, slice_of(manifest), NULL), 201);
    return digest_of(slice_of(manifest));
}

UNIT_TEST(answers_who_may_do_what) {
    static const struct http_field nobody[] = {{NULL, NULL}}, wrong[] = {{"Authorization", "Basic am9iOndyb25n"}, {NULL, NULL}},
                                   bearer[] = {{"Authorization", "Bearer secret"}, {NULL, NULL}};
    assert_int_equal(ask("GET", "/v2/", NULL, (struct slice){0}, nobody), 200);
    assert_int_equal(ask("GET", "/v2/", NULL, (struct slice){0}, wrong), 401);
    assert_true(has_code("UNAUTHORIZED"));
    assert_int_equal(ask("POST", "/v2/a/blobs/uploads/", NULL, (struct slice){0}, nobody), 401);
    assert_int_equal(ask("POST", "/v2/private/x/blobs/uploads/", NULL, (struct slice){0}, bearer), 403);
    assert_true(has_code("DENIED"));
    assert_int_equal(ask("POST", "/v2/a/blobs/uploads/", NULL, (struct slice){0}, bearer), 202);
    assert_int_equal(ask("DELETE", fixture.headers[H_LOCATION], NULL, (struct slice){0}, bearer), 204);
}

UNIT_TEST(refuses_what_is_no_route) {
    assert_int_equal(get("/other"), 404);
    assert_int_equal(get("/v2/Upper/tags/list"), 400);
    assert_true(has_code("NAME_INVALID"));
    assert_int_equal(get("/v2/a/../b/tags/list"), 400);
    assert_int_equal(get("/v2/%2e%2e/tags/list"), 400);
    assert_int_equal(get("/v2/a%00b/tags/list"), 400);
    assert_int_equal(get("/v2/a/tags/other"), 404);
    assert_int_equal(ask("PUT", "/v2/a/tags/list", NULL, (struct slice){0}, NULL), 405);
    assert_int_equal(get("/v2/a/blobs/sha256:../../lock"), 404);
    assert_int_equal(get("/v2/a/blobs/sha256:lock"), 400);
    assert_int_equal(get("/v2/nowhere/tags/list"), 404);
    assert_true(has_code("NAME_UNKNOWN"));
    assert_int_equal(get("/v2/a/manifests/..%2f..%2flock"), 404);
}

UNIT_TEST(takes_blobs_in_every_way) {
    struct slice whole = SLICE("the whole blob");
    struct oci_digest digest = digest_of(whole);
    const struct http_field first[] = {{"Authorization", "Basic am9iOnNlY3JldA=="}, {"Content-Range", "0-3"}, {NULL, NULL}};
    const struct http_field third[] = {{"Authorization", "Basic am9iOnNlY3JldA=="}, {"Content-Range", "7-8"}, {NULL, NULL}};
    assert_int_equal(get(text("/v2/up/blobs/sha256:%s", digest.hex)), 404);
    /* chunks */
    assert_int_equal(ask("POST", "/v2/up/blobs/uploads/", NULL, (struct slice){0}, NULL), 202);
    const char *location = text("%s", fixture.headers[H_LOCATION]);
    assert_int_equal(ask("PATCH", location, "application/octet-stream", slice_head(whole, 4), first), 202);
    assert_string_equal(fixture.headers[H_RANGE], "0-3");
    assert_int_equal(ask("PATCH", location, "application/octet-stream", SLICE("xx"), third), 416);
    assert_string_equal(fixture.headers[H_RANGE], "0-3");
    assert_int_equal(get(location), 204);
    assert_string_equal(fixture.headers[H_RANGE], "0-3");
    assert_int_equal(ask("PATCH", location, "application/octet-stream", slice_make(whole.data + 4, 6), NULL), 202);
    assert_int_equal(ask("PUT", location, NULL, (struct slice){0}, NULL), 400);
    assert_int_equal(ask("PUT", text("%s?digest=sha256:%s", location, digest.hex), "application/octet-stream", slice_from(whole, 10), NULL), 201);
    assert_string_equal(fixture.headers[H_LOCATION], text("/v2/up/blobs/sha256:%s", digest.hex));
    assert_int_equal(get(location), 404);
    assert_true(has_code("BLOB_UPLOAD_UNKNOWN"));
    assert_int_equal(get(text("/v2/up/blobs/sha256:%s", digest.hex)), 200);
    assert_true(slice_equal(buffer_slice(&fixture.body), whole));
    assert_string_equal(fixture.headers[H_DIGEST], text("sha256:%s", digest.hex));
    /* in one piece, wrong */
    assert_int_equal(ask("POST", text("/v2/up/blobs/uploads/?digest=sha256:%s", digest.hex), "application/octet-stream", SLICE("other"), NULL), 400);
    assert_true(has_code("DIGEST_INVALID"));
    /* another repository's blob is not ours until it is mounted */
    assert_int_equal(get(text("/v2/down/blobs/sha256:%s", digest.hex)), 404);
    assert_int_equal(ask("POST", text("/v2/down/blobs/uploads/?mount=sha256:%s&from=up", digest.hex), NULL, (struct slice){0}, NULL), 201);
    assert_int_equal(ask("HEAD", text("/v2/down/blobs/sha256:%s", digest.hex), NULL, (struct slice){0}, NULL), 200);
    assert_int_equal(ask("POST", text("/v2/down/blobs/uploads/?mount=sha256:%s&from=none", digest.hex), NULL, (struct slice){0}, NULL), 202);
    assert_int_equal(ask("DELETE", fixture.headers[H_LOCATION], NULL, (struct slice){0}, NULL), 204);
    assert_int_equal(ask("DELETE", text("/v2/down/blobs/sha256:%s", digest.hex), NULL, (struct slice){0}, NULL), 202);
    assert_int_equal(get(text("/v2/down/blobs/sha256:%s", digest.hex)), 404);
    assert_int_equal(get(text("/v2/up/blobs/sha256:%s", digest.hex)), 200);
}

UNIT_TEST(uploads_are_bounded) {
    char locations[3][512];
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(ask("POST", "/v2/up/blobs/uploads/", NULL, (struct slice){0}, NULL), 202);
        snprintf(locations[i], sizeof locations[i], "%s", fixture.headers[H_LOCATION]);
    }
    assert_int_equal(ask("POST", "/v2/up/blobs/uploads/", NULL, (struct slice){0}, NULL), 429);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(ask("DELETE", locations[i], NULL, (struct slice){0}, NULL), 204);
}

UNIT_TEST(serves_ranges) {
    static const struct {
        const char *range;
        int status;
        const char *body, *content_range;
    } cases[] = {
        {"bytes=0-3", 206, "0123", "bytes 0-3/10"},       {"bytes=7-", 206, "789", "bytes 7-9/10"}, {"bytes=-2", 206, "89", "bytes 8-9/10"},
        {"bytes=4-99", 206, "456789", "bytes 4-9/10"},    {"bytes=10-", 416, "", "bytes */10"},     {"bytes=5-3", 200, "0123456789", ""},
        {"bytes=0-1,3-4", 200, "0123456789", ""},         {"lines=1-2", 200, "0123456789", ""},     {"bytes=-0", 416, "", "bytes */10"},
        {"bytes=-99", 206, "0123456789", "bytes 0-9/10"},
    };
    struct oci_digest digest = push_blob("ranges", SLICE("0123456789"));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct http_field fields[] = {{"Range", cases[i].range}, {NULL, NULL}};
        assert_int_equal(ask("GET", text("/v2/ranges/blobs/sha256:%s", digest.hex), NULL, (struct slice){0}, fields), cases[i].status);
        assert_true(slice_is(buffer_slice(&fixture.body), cases[i].body));
        assert_string_equal(fixture.headers[H_CONTENT_RANGE], cases[i].content_range);
    }
    const struct http_field known[] = {{"If-None-Match", text("\"sha256:%s\"", digest.hex)}, {NULL, NULL}};
    assert_int_equal(ask("GET", text("/v2/ranges/blobs/sha256:%s", digest.hex), NULL, (struct slice){0}, known), 304);
}

UNIT_TEST(keeps_manifests_whole) {
    const char *manifest = manifest_of("m", "layer", "");
    struct oci_digest digest = digest_of(slice_of(manifest));
    assert_int_equal(ask("PUT", "/v2/m/manifests/v1", OCI_TYPE_MANIFEST, slice_of(manifest), NULL), 201);
    assert_string_equal(fixture.headers[H_DIGEST], text("sha256:%s", digest.hex));
    assert_string_equal(fixture.tagged, text("m:v1@%s", digest.hex));
    assert_int_equal(get("/v2/m/manifests/v1"), 200);
    assert_true(slice_is(buffer_slice(&fixture.body), manifest));
    assert_string_equal(fixture.headers[H_TYPE], OCI_TYPE_MANIFEST);
    assert_int_equal(ask("HEAD", text("/v2/m/manifests/sha256:%s", digest.hex), NULL, (struct slice){0}, NULL), 200);
    assert_int_equal(ask("PUT", text("/v2/m/manifests/sha256:%s", digest.hex), OCI_TYPE_MANIFEST, slice_of(manifest), NULL), 201);
    /* bad ones change nothing */
    assert_int_equal(ask("PUT", "/v2/other/manifests/v1", OCI_TYPE_MANIFEST, slice_of(manifest), NULL), 404);
    assert_true(has_code("MANIFEST_BLOB_UNKNOWN"));
    assert_int_equal(get("/v2/other/manifests/v1"), 404);
    assert_int_equal(ask("PUT", "/v2/m/manifests/v2", OCI_TYPE_INDEX, slice_of(manifest), NULL), 400);
    assert_true(has_code("MANIFEST_INVALID"));
    assert_int_equal(ask("PUT", "/v2/m/manifests/v2", OCI_TYPE_MANIFEST, SLICE("{"), NULL), 400);
    assert_int_equal(ask("PUT", "/v2/m/manifests/-bad", OCI_TYPE_MANIFEST, slice_of(manifest), NULL), 400);
    assert_int_equal(ask("PUT", text("/v2/m/manifests/sha256:%064d", 0), OCI_TYPE_MANIFEST, slice_of(manifest), NULL), 400);
    assert_true(has_code("DIGEST_INVALID"));
    assert_int_equal(get("/v2/m/manifests/v2"), 404);
    assert_true(has_code("MANIFEST_UNKNOWN"));
    /* deleting */
    assert_int_equal(ask("DELETE", "/v2/m/manifests/v1", NULL, (struct slice){0}, NULL), 202);
    assert_int_equal(get("/v2/m/manifests/v1"), 404);
    assert_int_equal(get(text("/v2/m/manifests/sha256:%s", digest.hex)), 200);
    assert_int_equal(ask("DELETE", text("/v2/m/manifests/sha256:%s", digest.hex), NULL, (struct slice){0}, NULL), 202);
    assert_int_equal(get(text("/v2/m/manifests/sha256:%s", digest.hex)), 404);
}

UNIT_TEST(lists_tags_in_pages) {
    push_image("list", "b", "layer", "");
    push_image("list", "a", "layer", "");
    push_image("list", "c", "layer", "");
    assert_int_equal(get("/v2/list/tags/list"), 200);
    assert_string_equal(fixture.body.data, "{\"name\":\"list\",\"tags\":[\"a\",\"b\",\"c\"]}");
    assert_int_equal(get("/v2/list/tags/list?n=2"), 200);
    assert_string_equal(fixture.body.data, "{\"name\":\"list\",\"tags\":[\"a\",\"b\"]}");
    assert_string_equal(fixture.headers[H_LINK], "</v2/list/tags/list?n=2&last=b>; rel=\"next\"");
    assert_int_equal(get("/v2/list/tags/list?n=2&last=b"), 200);
    assert_string_equal(fixture.body.data, "{\"name\":\"list\",\"tags\":[\"c\"]}");
    assert_string_equal(fixture.headers[H_LINK], "");
    assert_int_equal(get("/v2/list/tags/list?n=0"), 200);
    assert_string_equal(fixture.body.data, "{\"name\":\"list\",\"tags\":[]}");
    assert_int_equal(get("/v2/list/tags/list?n=x"), 400);
}

/* What was pulled by credentials before, and is pushed by who has all of it. */
UNIT_TEST(a_push_makes_an_image_ours) {
    struct content *content = registry_content(fixture.registry);
    const char *manifest = manifest_of("pushed", "pulled before", "");
    struct oci_digest digest = digest_of(slice_of(manifest)), layer = digest_of(SLICE("pulled before"));
    struct pulled_key key;
    char user[] = "ann";
    struct docker_credential credential = {.user = user};
    assert_int_equal(content_unlink(content, "pushed", CONTENT_LINK_BLOB, &layer), 0);
    assert_int_equal(content_link_private(content, "pushed", &layer, "r.example"), 0);
    assert_int_equal(pulled_key_open(content, &key), 0);
    assert_int_equal(pulled_note(content, &key, "pushed", &digest, "ghcr.io/pushed@sha256:0", "ghcr.io", &credential), 0);
    push_blob("pushed", SLICE("pulled before"));
    assert_true(content_is_shown(content, "pushed", &layer));
    assert_int_equal(ask("PUT", "/v2/pushed/manifests/v1", OCI_TYPE_MANIFEST, slice_of(manifest), NULL), 201);
    assert_false(pulled_is_private(content, "pushed", &digest));
    assert_true(pulled_is_ours(content, "pushed", &digest));

    /* That a layer is kept elsewhere is no way to one that is here. */
    const char *foreign =
        text("{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"config\":{\"mediaType\":\"c\",\"digest\":\"sha256:%s\",\"size\":2},"
             "\"layers\":[{\"mediaType\":\"l\",\"digest\":\"sha256:%s\",\"size\":13,\"urls\":[\"http://a/\"]}]}",
             push_blob("other", SLICE("{}")).hex, layer.hex);
    assert_int_equal(ask("PUT", "/v2/other/manifests/v1", OCI_TYPE_MANIFEST, slice_of(foreign), NULL), 404);
    assert_true(has_code("MANIFEST_BLOB_UNKNOWN"));
}

UNIT_TEST(tells_referrers) {
    struct oci_digest image = push_image("ref", "v1", "layer", "");
    char subject[512];
    snprintf(subject, sizeof subject,
             ",\"artifactType\":\"test/signature\",\"annotations\":{\"k\":\"v\"},\"subject\":{\"mediaType\":\"" OCI_TYPE_MANIFEST
             "\",\"digest\":\"sha256:%s\",\"size\":1}",
             image.hex);
    struct oci_digest signature = push_image("ref", "signature", "signed", subject);
    assert_string_equal(fixture.headers[H_SUBJECT], text("sha256:%s", image.hex));
    assert_int_equal(get(text("/v2/ref/referrers/sha256:%s", image.hex)), 200);
    assert_string_equal(fixture.headers[H_TYPE], OCI_TYPE_INDEX);
    assert_non_null(strstr(fixture.body.data, signature.hex));
    assert_non_null(strstr(fixture.body.data, "\"artifactType\":\"test/signature\",\"annotations\":{\"k\":\"v\"}"));
    assert_int_equal(get(text("/v2/ref/referrers/sha256:%s?artifactType=other", image.hex)), 200);
    assert_string_equal(fixture.headers[H_FILTERS], "artifactType");
    assert_null(strstr(fixture.body.data, signature.hex));
    assert_int_equal(get(text("/v2/ref/referrers/sha256:%s", signature.hex)), 200);
    assert_non_null(strstr(fixture.body.data, "\"manifests\":[]"));
}

static bool collected;
static void on_collected(void *userdata, int error, const struct content_gc_result *result) {
    (void)userdata;
    assert_int_equal(error, 0);
    assert_true(result->blobs_kept > 0);
    collected = true;
}

UNIT_TEST(collects_garbage_beside_requests) {
    push_image("gc", "v1", "layer", "");
    const struct content_gc_options options = {.grace_s = 3600};
    assert_int_equal(registry_collect_garbage(fixture.registry, &options, on_collected, NULL), 0);
    assert_int_equal(registry_collect_garbage(fixture.registry, &options, on_collected, NULL), -EBUSY);
    while (!collected)
        assert_int_equal(loop_turn(fixture.loop, 10000), 0);
    assert_int_equal(get("/v2/gc/manifests/v1"), 200);
}

static int collection_error = 1;
static void on_given_up(void *userdata, int error, const struct content_gc_result *result) {
    (void)userdata;
    (void)result;
    collection_error = error;
}

/* Whether it was in the middle or done: it tells before the registry is gone. */
UNIT_TEST(freeing_a_registry_ends_its_garbage_collection) {
    struct registry *registry = NULL;
    struct oci_digest digest;
    char folder[] = "/tmp/tidemill-registry-XXXXXX";
    assert_non_null(mkdtemp(folder));
    const struct registry_options options = {.path = folder};
    assert_int_equal(registry_new(fixture.loop, &options, &registry, NULL), 0);
    for (int i = 0; i < 200; i++)
        assert_int_equal(content_write_blob(registry_content(registry), slice_of(text("blob %d", i)), &digest), 0);
    assert_int_equal(registry_collect_garbage(registry, &(struct content_gc_options){.grace_s = -3600}, on_given_up, NULL), 0);
    registry_free(registry);
    assert_true(collection_error == 0 || collection_error == -ECANCELED);
    sys_remove_tree(AT_FDCWD, folder);
}

UNIT_TEST(the_builder_image_is_made_once) {
    struct oci_digest digest, again;
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    assert_int_equal(registry_ensure_builder_image(fixture.registry), 0);
    assert_int_equal(content_get_tag(registry_content(fixture.registry), BUILDER_IMAGE_NAME, "1", &digest), 0);
    assert_int_equal(registry_ensure_builder_image(fixture.registry), 0);
    assert_int_equal(content_get_tag(registry_content(fixture.registry), BUILDER_IMAGE_NAME, "1", &again), 0);
    assert_true(oci_digest_equal(&digest, &again));
    const struct build_options options = {.name = "b",
                                          .namespace = "n",
                                          .work_folder = "/w",
                                          .cache_folder = "/c",
                                          .image = "a:1",
                                          .registry = "10.0.0.1:5000",
                                          .dockerfile = "x;reboot"};
    char *json = registry_build_pod_json(arena, &options);
    struct tree *pod = NULL;
    assert_int_equal(json_parse(arena, slice_of(json), NULL, &pod, NULL), 0);
    struct tree *container = tree_at(tree_path(pod, "spec.containers"), 0);
    assert_string_equal(tree_text_or(tree_find(container, "image"), ""), "tidemill/builder:1");
    assert_null(strstr(tree_text_or(tree_at(tree_find(container, "command"), 2), ""), "reboot"));
    assert_false(tree_bool_or(tree_path(container, "securityContext.privileged"), true));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        UNIT(answers_who_may_do_what),
        UNIT(refuses_what_is_no_route),
        UNIT(takes_blobs_in_every_way),
        UNIT(uploads_are_bounded),
        UNIT(serves_ranges),
        UNIT(keeps_manifests_whole),
        UNIT(lists_tags_in_pages),
        UNIT(a_push_makes_an_image_ours),
        UNIT(tells_referrers),
        UNIT(collects_garbage_beside_requests),
        UNIT(freeing_a_registry_ends_its_garbage_collection),
        UNIT(the_builder_image_is_made_once),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

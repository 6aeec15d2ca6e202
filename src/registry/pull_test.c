/* Pulling, with one registry of ours as the remote and another as the platform's; a gate in front of the remote asks for tokens and spoils answers.
 */
#include "registry/registry.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "registry/hub_priv.h"
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
    bool wants_token, wants_user, wants_basic, spoils_blobs, redirects_tokens, breaks_blobs;
    const char *redirects_blobs; /* to that name of this machine */
    int busy;                    /* so many requests are turned away first */
    size_t cuts_after;           /* so many bytes of a layer the connection breaks */
    bool drips;                  /* layers never come to their end, but for that one */
    char spared[65];
    size_t token_uses; /* a token is good for so many requests; 0: for all */
    size_t tokens, uses, blobs, requests, leaked, heads;
    int64_t range_start; /* of the last request for a part; -1: there was none */
    /* the result */
    bool done;
    int error;
    char message[DIAG_TEXT_MAX], sites[128], credentials[128];
    char name[OCI_NAME_MAX + 1];
    struct oci_digest digest;
    uint64_t progress;
} fixture;

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
#define CONFIG "{\"rootfs\":{\"diff_ids\":[\"sha256:" ZEROS "\"]}}"

/* "ann:secret" */
#define ANN "Basic YW5uOnNlY3JldA=="

static void give_token(struct http_exchange *exchange) {
    static const struct slice expected = {"service=the%20registry&scope=repository%3Aapp%3Apull", 52};
    struct slice authorization = http_header(exchange, "Authorization");
    if (fixture.redirects_tokens) {
        char location[128];
        fixture.leaked += !slice_starts(http_header(exchange, "Host"), SLICE("127."));
        snprintf(location, sizeof location, "http://localhost%s/token", strchr(fixture.host, ':'));
        return http_respond(exchange, 307, NULL, (struct slice){0}, (const struct http_field[]){{"Location", location}, {NULL, NULL}});
    }
    assert_int_equal(slice_find(http_query_text(exchange), expected), 0);
    fixture.tokens++;
    fixture.uses = 0;
    CLEANUP(buffer_deinit) struct buffer answer = BUFFER_INIT(KIB);
    buffer_printf(&answer, "{\"access_token\":\"tok%zu\"}", fixture.tokens);
    if (fixture.wants_user && !slice_is(authorization, ANN))
        http_respond(exchange, 401, "application/json", SLICE("{\"errors\":[{\"code\":\"DENIED\",\"message\":\"who are you\"}]}"), NULL);
    else
        http_respond(exchange, 200, "application/json", buffer_slice(&answer), NULL);
}

static void on_drained(void *userdata, struct http_exchange *exchange) {
    (void)userdata;
    http_abort(exchange);
}

/* Of what was asked for, so many bytes at most. */
static void give_part(struct http_exchange *exchange, size_t bytes_max) {
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(4 * MIB);
    struct slice path = http_path(exchange);
    struct oci_digest digest;
    char range[128];
    size_t start = (size_t)MAX(fixture.range_start, (int64_t)0);
    assert_int_equal(oci_digest_parse(slice_from(path, path.len - (OCI_DIGEST_TEXT - 1)), &digest), 0);
    assert_int_equal(content_read_blob(registry_content(fixture.remote), &digest, 4 * MIB, &bytes), 0);
    snprintf(range, sizeof range, "bytes %zu-%zu/%zu", start, bytes.len - 1, bytes.len);
    const struct http_field fields[] = {{start ? "Content-Range" : "X-Whole", range}, {NULL, NULL}};
    struct slice rest = slice_from(buffer_slice(&bytes), start);
    http_respond_begin(exchange, start ? 206 : 200, "application/octet-stream", (int64_t)rest.len, fields);
    if (bytes_max)
        http_on_drained(exchange, on_drained, NULL);
    assert_int_equal(http_write(exchange, slice_head(rest, MAX(bytes_max, (size_t)1))), 0);
}

static void note_range(struct http_exchange *exchange) {
    struct slice range = http_header(exchange, "Range");
    uint64_t start;
    fixture.range_start = -1;
    if (slice_starts(range, SLICE("bytes=")) && slice_ends(range, SLICE("-")) &&
        slice_parse_u64(slice_make(range.data + 6, range.len - 7), INT64_MAX, &start) == 0)
        fixture.range_start = (int64_t)start;
}

static bool is_layer(struct http_exchange *exchange) {
    char hex[65];
    digest_sha256_hex(SLICE(CONFIG), hex);
    return !slice_ends(http_path(exchange), slice_of(hex));
}

static void give_blob(struct http_exchange *exchange) {
    char location[512];
    struct slice host = http_header(exchange, "Host");
    bool is_head = slice_is(http_method(exchange), "HEAD");
    fixture.blobs += !is_head;
    if (!is_head && is_layer(exchange)) {
        note_range(exchange);
        bool drips = fixture.drips && !slice_ends(http_path(exchange), slice_of(fixture.spared));
        if (drips || fixture.cuts_after)
            return give_part(exchange, drips ? 0 : fixture.cuts_after);
    }
    if (fixture.spoils_blobs)
        return http_respond(exchange, 200, "application/octet-stream", SLICE("xx}"), NULL);
    if (fixture.breaks_blobs && slice_starts(host, SLICE("localhost"))) {
        http_respond_begin(exchange, 200, "application/octet-stream", 3 * MIB, NULL);
        http_on_drained(exchange, on_drained, NULL);
        assert_int_equal(http_write(exchange, SLICE("wrong")), 0);
        return;
    }
    if (fixture.redirects_blobs && slice_starts(host, SLICE("127."))) { /* localhost is another origin, of the same server */
        snprintf(location, sizeof location, "http://%s%s%.*s", fixture.redirects_blobs, strchr(fixture.host, ':'), SLICE_ARG(http_path(exchange)));
        return http_respond(exchange, 307, NULL, (struct slice){0}, (const struct http_field[]){{"Location", location}, {NULL, NULL}});
    }
    registry_handle(fixture.remote, exchange);
}

static void gate(void *userdata, struct http_exchange *exchange) {
    (void)userdata;
    struct slice path = http_path(exchange), authorization = http_header(exchange, "Authorization");
    bool elsewhere = slice_starts(http_header(exchange, "Host"), SLICE("localhost"));
    char challenge[256];
    snprintf(challenge, sizeof challenge, "Bearer realm=\"http://%s/token\",service=\"the registry\"", fixture.host);
    const struct http_field bearer[] = {{"WWW-Authenticate", challenge}, {NULL, NULL}},
                            basic[] = {{"WWW-Authenticate", "Basic realm=x"}, {NULL, NULL}};
    if (http_header(exchange, "X-Local").len) /* a build that asks the platform's registry by its port */
        return registry_handle(fixture.local, exchange);
    fixture.leaked += elsewhere && authorization.len > 0;
    if (slice_is(path, "/token"))
        return give_token(exchange);
    if (slice_is(path, "/v2/app/manifests/old"))
        return http_respond(exchange, 200, "application/vnd.docker.distribution.manifest.v1+prettyjws", SLICE("{}"), NULL);
    fixture.requests++;
    fixture.heads += slice_is(http_method(exchange), "HEAD");
    if (fixture.busy > 0 && !slice_is(path, "/v2/")) {
        fixture.busy--;
        return http_respond(exchange, 429, NULL, (struct slice){0}, (const struct http_field[]){{"Retry-After", "0"}, {NULL, NULL}});
    }
    if (fixture.wants_basic && !elsewhere && !slice_is(authorization, ANN))
        return http_respond(exchange, 401, "application/json", SLICE("{}"), basic);
    char token[64];
    snprintf(token, sizeof token, "Bearer tok%zu", fixture.tokens);
    bool is_good =
        fixture.token_uses ? slice_is(authorization, token) && fixture.uses++ < fixture.token_uses : slice_starts(authorization, SLICE("Bearer tok"));
    if (fixture.wants_token && !elsewhere && !is_good)
        return http_respond(exchange, 401, "application/json", SLICE("{}"), bearer);
    if (slice_find(path, SLICE("/blobs/")) >= 0)
        return give_blob(exchange);
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
    snprintf(fixture.sites, sizeof fixture.sites, "%s/registries.yaml", fixture.folder);
    snprintf(fixture.credentials, sizeof fixture.credentials, "%s/auth.json", fixture.folder);
    const struct registry_options local = {
        .path = path, .bytes_free_min = 1, .sites_path = fixture.sites, .credentials_path = fixture.credentials, .retry_ms = 1, .slow_ms = 20};
    r = r ? r : registry_new(fixture.loop, &local, &fixture.local, NULL);
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
    struct oci_digest config = put_remote_blob(SLICE(CONFIG)), blob = put_remote_blob(slice_make(layer, sizeof layer));
    snprintf(text, sizeof text,
             "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_DOCKER_MANIFEST
             "\",\"config\":{\"mediaType\":\"c\",\"digest\":\"sha256:%s\",\"size\":%zu},"
             "\"layers\":[{\"mediaType\":\"l\",\"digest\":\"sha256:%s\",\"size\":%zu}]}",
             config.hex, sizeof CONFIG - 1, blob.hex, sizeof layer);
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

static int pull_reference(const char *reference, struct registry_pull_options options) {
    options.reference = reference;
    options.on_progress = on_progress;
    options.on_done = on_done;
    fixture.done = false;
    fixture.message[0] = 0;
    fixture.progress = 0;
    assert_int_equal(registry_pull(fixture.local, &options, NULL, NULL), 0);
    while (!fixture.done)
        assert_int_equal(loop_turn(fixture.loop, 10000), 0);
    return fixture.error;
}

static int pull_with(const char *rest, struct registry_pull_options options) {
    char reference[512];
    snprintf(reference, sizeof reference, "%s/%s", fixture.host, rest);
    return pull_reference(reference, options);
}

static int pull(const char *rest) {
    return pull_with(rest, (struct registry_pull_options){.policy = REGISTRY_PULL_ALWAYS});
}

/* As ann, when the password is right. */
static int pull_as(const char *rest, const char *password, enum registry_pull_policy policy) {
    struct docker_config config = {0};
    assert_int_equal(docker_config_add(&config, fixture.host, SLICE("ann"), slice_of(password)), 0);
    return pull_with(rest, (struct registry_pull_options){.credentials = &config, .policy = policy});
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
    size_t blobs = fixture.blobs, heads = fixture.heads, requests = fixture.requests;
    assert_int_equal(pull("app:v1"), 0);
    assert_int_equal(fixture.blobs, blobs); /* nothing is fetched twice */
    assert_int_equal(fixture.heads, heads + 1);
    assert_int_equal(pull_with("app:v1", (struct registry_pull_options){.policy = REGISTRY_PULL_IF_NOT_PRESENT}), 0);
    assert_int_equal(fixture.requests, requests + 2); /* whether it is plain HTTP, and HEAD; nothing for what is here */
    assert_int_equal(fixture.progress, 0);
}

UNIT_TEST(a_tag_that_was_moved_brings_the_new_image) {
    struct oci_digest old = put_remote_image("moves", 'e'), new, found;
    assert_int_equal(pull("app:moves"), 0);
    new = put_remote_image("moves", 'f');
    assert_int_equal(pull_with("app:moves", (struct registry_pull_options){.policy = REGISTRY_PULL_IF_NOT_PRESENT}), 0);
    assert_true(oci_digest_equal(&old, &fixture.digest));
    assert_int_equal(pull("app:moves"), 0);
    assert_true(oci_digest_equal(&new, &fixture.digest));
    assert_int_equal(content_get_tag(registry_content(fixture.local), fixture.name, "moves", &found), 0);
    assert_true(oci_digest_equal(&new, &found));
}

UNIT_TEST(who_has_no_right_does_not_get_what_another_one_brought) {
    put_remote_image("private", 'g');
    fixture.wants_basic = true;
    assert_int_equal(pull("app:private"), -EACCES);
    assert_non_null(strstr(fixture.message, "wants credentials for app"));
    assert_int_equal(pull_as("app:private", "wrong", REGISTRY_PULL_ALWAYS), -EACCES);
    assert_non_null(strstr(fixture.message, "refuses the credentials for app"));
    assert_int_equal(pull_as("app:private", "secret", REGISTRY_PULL_IF_NOT_PRESENT), 0);
    size_t requests = fixture.requests;
    assert_int_equal(pull_as("app:private", "secret", REGISTRY_PULL_IF_NOT_PRESENT), 0);
    assert_int_equal(pull_as("app:private", "secret", REGISTRY_PULL_NEVER), 0);
    assert_int_equal(fixture.requests, requests); /* the same credentials got it before */
    assert_int_equal(pull_with("app:private", (struct registry_pull_options){.policy = REGISTRY_PULL_NEVER}), -ENOENT);
    assert_int_equal(fixture.requests, requests);
    assert_int_equal(pull_with("app:private", (struct registry_pull_options){.policy = REGISTRY_PULL_IF_NOT_PRESENT}), -EACCES);
    fixture.wants_basic = false; /* made public */
    assert_int_equal(pull_with("app:private", (struct registry_pull_options){.policy = REGISTRY_PULL_IF_NOT_PRESENT}), 0);
    assert_int_equal(pull_with("app:private", (struct registry_pull_options){.policy = REGISTRY_PULL_NEVER}), 0);
}

UNIT_TEST(the_next_credential_is_tried_at_the_token_server) {
    struct docker_config config = {0};
    char key[128];
    put_remote_image("token", 'h');
    snprintf(key, sizeof key, "%s/app", fixture.host);
    assert_int_equal(docker_config_add(&config, key, SLICE("bob"), SLICE("wrong")), 0); /* the more specific one: tried first */
    assert_int_equal(docker_config_add(&config, fixture.host, SLICE("ann"), SLICE("secret")), 0);
    fixture.wants_token = fixture.wants_user = true;
    fixture.tokens = 0;
    assert_int_equal(pull_with("app:token", (struct registry_pull_options){.credentials = &config}), 0);
    assert_int_equal(fixture.tokens, 3); /* and whether anybody may have it */
    assert_int_equal(pull("app:token"), -EACCES);
    assert_non_null(strstr(fixture.message, "DENIED: who are you"));
    fixture.wants_token = fixture.wants_user = false;
}

static void write_sites(const char *format, const char *host) {
    char text[512];
    snprintf(text, sizeof text, format, host);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, fixture.sites, slice_of(text), 0600), 0);
}

UNIT_TEST(redirects_get_no_credentials) {
    put_remote_image("elsewhere", 'i');
    fixture.wants_basic = true;
    fixture.redirects_blobs = "localhost";
    assert_int_equal(pull_as("app:elsewhere", "secret", REGISTRY_PULL_ALWAYS), 0);
    fixture.wants_basic = false;
    fixture.redirects_blobs = NULL;
    assert_int_equal(fixture.leaked, 0);
}

UNIT_TEST(a_refresh_token_is_not_sent_on) {
    struct docker_config config = {0};
    char text[256];
    put_remote_image("refresh", 'n');
    snprintf(text, sizeof text, "{\"auths\":{\"%s\":{\"identitytoken\":\"refresh\"}}}", fixture.host);
    assert_int_equal(docker_config_read(&config, slice_of(text), NULL), 0);
    fixture.wants_token = fixture.redirects_tokens = true;
    assert_int_equal(pull_with("app:refresh", (struct registry_pull_options){.credentials = &config}), -EACCES);
    fixture.wants_token = fixture.redirects_tokens = false;
    assert_non_null(strstr(fixture.message, "status 307"));
    assert_int_equal(fixture.leaked, 0);
}

UNIT_TEST(loopback_is_an_address_and_no_name) {
    static const struct {
        const char *host;
        bool is;
    } cases[] = {{"127.0.0.1", true},
                 {"127.8.9.10:5000", true},
                 {"localhost", true},
                 {"localhost:5000", true},
                 {"[::1]", true},
                 {"[::1]:5000", true},
                 {"127.evil.example", false},
                 {"127.0.0.1.evil.example:80", false},
                 {"127.0.0.1234567890", false},
                 {"localhost.evil.example", false},
                 {"128.0.0.1", false},
                 {"[::1].evil", false},
                 {"[::10]", false},
                 {"127.1", false},
                 {"", false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(hub_is_on_loopback(cases[i].host), cases[i].is);
    put_remote_image("away", 'o');
    fixture.redirects_blobs = "0.0.0.0"; /* leads here, but is no loopback address */
    assert_int_not_equal(pull("app:away"), 0);
    write_sites("%s: {insecure: true}\n", fixture.host);
    assert_int_equal(pull("app:away"), 0); /* its owner says so */
    fixture.redirects_blobs = NULL;
    assert_int_equal(unlink(fixture.sites), 0);
}

UNIT_TEST(who_logs_in_says_a_user_and_a_password) {
    struct docker_config config = {0};
    struct registry_pull *ignored = NULL;
    struct diag diag = DIAG_INIT;
    assert_int_equal(docker_config_read(&config, SLICE("{\"r.example\":{\"identitytoken\":\"t\"}}"), NULL), 0);
    const struct registry_pull_options options = {.reference = "r.example/login", .credentials = &config, .on_done = on_done};
    assert_int_equal(registry_login(fixture.local, &options, &ignored, &diag), -EINVAL);
    assert_string_equal(diag.message, "expected a user and a password for one registry");
}

UNIT_TEST(a_busy_registry_is_asked_again) {
    put_remote_image("busy", 'j');
    fixture.busy = 3;
    assert_int_equal(pull("app:busy"), 0);
    assert_int_equal(fixture.busy, 0);
    put_remote_image("busier", 'k');
    fixture.busy = 1000;
    assert_int_equal(pull("app:busier"), -EBUSY);
    assert_non_null(strstr(fixture.message, "wants fewer requests"));
    fixture.busy = 0;
}

/* What a build is answered. */
static int status_of(const char *format, ...) __attribute__((format(printf, 1, 2)));
static struct {
    bool done;
    int status;
    char body[4096];
} look;

static void on_look(void *userdata, const struct http_answer *answer) {
    (void)userdata;
    look.status = answer->error ? answer->error : answer->status;
    snprintf(look.body, sizeof look.body, "%.*s", SLICE_ARG(slice_head(answer->body, MIN(answer->body.len, sizeof look.body - 1))));
    look.done = true;
}

static int status_of(const char *format, ...) {
    static const struct http_field fields[] = {{"X-Local", "1"}, {NULL, NULL}};
    char endpoint[128], target[1024], path[768];
    struct http_client *client = NULL;
    struct http_request *request = NULL;
    va_list args;
    va_start(args, format);
    vsnprintf(path, sizeof path, format, args);
    va_end(args);
    snprintf(endpoint, sizeof endpoint, "http://%s", fixture.host);
    snprintf(target, sizeof target, "/v2/%s/%s", fixture.name, path);
    assert_int_equal(http_client_new(fixture.loop, &(struct http_client_options){.endpoint = endpoint}, &client), 0);
    look.done = false;
    assert_int_equal(
        http_client_send(client, &(struct http_request_options){.method = "GET", .target = target, .fields = fields}, on_look, NULL, &request), 0);
    while (!look.done)
        assert_int_equal(loop_turn(fixture.loop, 10000), 0);
    http_client_free(client);
    return look.status;
}

static void digest_of_layer(char salt, char ret[65]) {
    static char layer[3 * MIB];
    memset(layer, salt, sizeof layer);
    digest_sha256_hex(slice_make(layer, sizeof layer), ret);
}

/* An image of the platform's own, in the repository that another registry's image is kept in. */
static struct oci_digest put_own_image(const char *tag, struct slice layer, struct oci_digest *ret_layer) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct content *content = registry_content(fixture.local);
    struct oci_manifest manifest;
    struct oci_digest digest;
    char text[512];
    assert_int_equal(content_write_blob(content, layer, ret_layer), 0);
    assert_int_equal(content_link(content, fixture.name, CONTENT_LINK_BLOB, ret_layer, (struct slice){0}), 0);
    snprintf(text, sizeof text,
             "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST
             "\",\"config\":{\"mediaType\":\"c\",\"digest\":\"sha256:%s\",\"size\":%zu},\"layers\":[]}",
             ret_layer->hex, layer.len);
    assert_int_equal(oci_manifest_parse(arena, slice_of(text), (struct slice){0}, &manifest, NULL), 0);
    assert_int_equal(content_put_manifest(content, fixture.name, tag, slice_of(text), &manifest, &digest), 0);
    return digest;
}

UNIT_TEST(what_credentials_brought_is_hidden_and_nothing_else) {
    char layer[65];
    struct oci_digest own_layer;
    put_remote_image("hidden", 'N');
    digest_of_layer('N', layer);
    fixture.wants_basic = true;
    assert_int_equal(pull_as("app:hidden", "secret", REGISTRY_PULL_ALWAYS), 0);
    struct oci_digest hidden = fixture.digest, own = put_own_image("own", SLICE("mine"), &own_layer);
    assert_int_equal(status_of("manifests/own"), 200);
    assert_int_equal(status_of("manifests/sha256:%s", own.hex), 200);
    assert_int_equal(status_of("blobs/sha256:%s", own_layer.hex), 200);
    assert_int_equal(status_of("manifests/hidden"), 401);
    assert_int_equal(status_of("manifests/sha256:%s", hidden.hex), 401);
    assert_int_equal(status_of("blobs/sha256:%s", hidden.hex), 404);
    assert_int_equal(status_of("blobs/sha256:%s", layer), 404);
    assert_int_equal(status_of("referrers/sha256:%s", hidden.hex), 401);
    assert_int_equal(status_of("tags/list"), 200);
    assert_non_null(strstr(look.body, "\"own\""));
    assert_null(strstr(look.body, "hidden"));

    /* A pull by credentials makes nothing of ours private: neither image nor layer. */
    struct oci_digest both = put_remote_image("both", 'O');
    fixture.wants_basic = false;
    assert_int_equal(pull("app:both"), 0);
    fixture.wants_basic = true;
    assert_int_equal(pull_as("app:both", "secret", REGISTRY_PULL_ALWAYS), 0);
    digest_of_layer('O', layer);
    assert_int_equal(status_of("manifests/sha256:%s", both.hex), 200);
    assert_int_equal(status_of("blobs/sha256:%s", layer), 200);

    fixture.wants_basic = false; /* made public: its layers are shown as well */
    assert_int_equal(pull("app:hidden"), 0);
    digest_of_layer('N', layer);
    assert_int_equal(status_of("manifests/hidden"), 200);
    assert_int_equal(status_of("blobs/sha256:%s", layer), 200);
}

UNIT_TEST(what_was_ours_before_it_was_pulled_stays_ours) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    struct content *content = registry_content(fixture.local);
    struct oci_digest pushed = put_remote_image("pushed", 'P'), ignored;
    struct oci_manifest manifest;
    assert_int_equal(content_read_blob(registry_content(fixture.remote), &pushed, MIB, &text), 0);
    assert_int_equal(oci_manifest_parse(arena, buffer_slice(&text), (struct slice){0}, &manifest, NULL), 0);
    assert_int_equal(content_put_manifest(content, fixture.name, "", buffer_slice(&text), &manifest, &ignored), 0);
    fixture.wants_basic = true;
    assert_int_equal(pull_as("app:pushed", "secret", REGISTRY_PULL_ALWAYS), 0);
    fixture.wants_basic = false;
    assert_int_equal(status_of("manifests/pushed"), 200);
}

/* After a login every token is fetched by credentials, also that for what is public. */
UNIT_TEST(a_login_hides_nothing_that_is_public) {
    char layer[65];
    struct oci_digest image = put_remote_image("open", 'Q');
    digest_of_layer('Q', layer);
    fixture.wants_token = true;
    assert_int_equal(pull_as("app:open", "secret", REGISTRY_PULL_ALWAYS), 0);
    fixture.wants_token = false;
    assert_int_equal(status_of("manifests/sha256:%s", image.hex), 200);
    assert_int_equal(status_of("blobs/sha256:%s", layer), 200);
    assert_int_equal(pull_with("app:open", (struct registry_pull_options){.policy = REGISTRY_PULL_NEVER}), 0);
}

/* Whenever it ends: what has a link has a record. */
UNIT_TEST(a_pull_that_is_killed_shows_nothing) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    struct content *content = registry_content(fixture.local);
    struct oci_digest image = put_remote_image("killed", 'R'), ignored;
    struct oci_manifest manifest;
    char reference[OCI_DIGEST_TEXT + 8];
    snprintf(reference, sizeof reference, "app@sha256:%s", image.hex);
    fixture.wants_basic = fixture.spoils_blobs = true;
    assert_int_equal(pull_as("app:killed", "secret", REGISTRY_PULL_ALWAYS), -EBADMSG); /* it ends before its links */
    fixture.wants_basic = fixture.spoils_blobs = false;
    assert_int_equal(content_find_link(content, fixture.name, CONTENT_LINK_MANIFEST, &image, NULL), -ENOENT);
    assert_int_equal(content_read_blob(registry_content(fixture.remote), &image, MIB, &text), 0);
    assert_int_equal(oci_manifest_parse(arena, buffer_slice(&text), (struct slice){0}, &manifest, NULL), 0);
    assert_int_equal(content_put_manifest(content, fixture.name, "", buffer_slice(&text), &manifest, &ignored), 0); /* it ends after the first */
    assert_int_equal(status_of("manifests/sha256:%s", image.hex), 401);
    assert_int_equal(pull_with(reference, (struct registry_pull_options){.policy = REGISTRY_PULL_NEVER}), -ENOENT);
}

UNIT_TEST(a_manifest_gives_nothing_that_its_registry_never_had) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    struct content *remote = registry_content(fixture.remote);
    struct oci_digest image = put_remote_image("kept", 'S'), layer;
    struct oci_manifest manifest;
    fixture.wants_basic = true;
    assert_int_equal(pull_as("app:kept", "secret", REGISTRY_PULL_ALWAYS), 0);
    fixture.wants_basic = false;
    digest_of_layer('S', layer.hex);
    assert_int_equal(content_read_blob(remote, &image, MIB, &text), 0);
    assert_int_equal(oci_manifest_parse(arena, buffer_slice(&text), (struct slice){0}, &manifest, NULL), 0);
    assert_int_equal(content_put_manifest(remote, "evil", "v1", buffer_slice(&text), &manifest, &image), 0);
    assert_int_equal(content_link(remote, "evil", CONTENT_LINK_BLOB, &manifest.config.digest, (struct slice){0}), 0);
    assert_int_equal(pull("evil:v1"), -ENOENT); /* it knows the digest only */
    assert_int_equal(content_link(remote, "evil", CONTENT_LINK_BLOB, &layer, (struct slice){0}), 0);
    assert_int_equal(pull("evil:v1"), 0); /* it has the layer, and says so; the configuration is everybody's */
    assert_int_equal(status_of("blobs/sha256:%s", layer.hex), 200);
}

/* What "app" has, for another name too. */
static void link_blobs(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/remote/repositories/app/_blobs", fixture.folder);
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        struct oci_digest digest;
        char text[OCI_DIGEST_TEXT + 200];
        snprintf(text, sizeof text, "sha256:%s", entry->d_name);
        if (oci_digest_parse(slice_of(text), &digest) == 0)
            assert_int_equal(content_link(registry_content(fixture.remote), name, CONTENT_LINK_BLOB, &digest, (struct slice){0}), 0);
    }
    closedir(dir);
}

static void spoil_blob(const char *hex) {
    char path[256];
    snprintf(path, sizeof path, "%s/local/blobs/sha256/%s", fixture.folder, hex);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, SLICE("lost"), 0644), 0);
}

UNIT_TEST(what_is_damaged_here_is_fetched_anew) {
    struct oci_digest layer, own_config;
    struct registry_pull_options options = {.policy = REGISTRY_PULL_IF_NOT_PRESENT, .checks = true, .keeps_ours = true};
    put_remote_image("rots", 'Z');
    digest_of_layer('Z', layer.hex);
    assert_int_equal(pull("app:rots"), 0);
    spoil_blob(layer.hex);
    size_t blobs = fixture.blobs;
    assert_int_equal(pull_with("app:rots", options), 0);
    assert_int_equal(fixture.blobs, blobs + 1);
    assert_int_equal(content_check_blob(registry_content(fixture.local), &layer), 0);
    assert_int_equal(pull_with("app:rots", options), 0);
    assert_int_equal(fixture.blobs, blobs + 1);

    /* One of our own is not replaced by what the other registry has under that name. */
    put_own_image("rots-too", SLICE("of our own"), &own_config);
    put_remote_image("rots-too", 'z');
    spoil_blob(own_config.hex);
    assert_int_equal(pull_with("app:rots-too", options), -ENOENT);
    assert_non_null(strstr(fixture.message, "push or build it again"));
    assert_int_equal(content_touch_blob(registry_content(fixture.local), &own_config), -ENOENT);
}

UNIT_TEST(mirrors_are_asked_in_their_order) {
    struct oci_digest image = put_remote_image("mirrored", 'l'), found;
    /* the first is not there, the second keeps all under its root, though docker.io has app in library/ */
    write_sites("docker.io:\n  mirrors: ['http://127.0.0.1:1', 'http://%s']\n", fixture.host);
    assert_int_equal(content_link(registry_content(fixture.remote), "org/app", CONTENT_LINK_MANIFEST, &image, SLICE(OCI_TYPE_DOCKER_MANIFEST)), 0);
    assert_int_equal(content_set_tag(registry_content(fixture.remote), "org/app", "mirrored", &image), 0);
    link_blobs("org/app");
    assert_int_equal(pull_reference("org/app:mirrored", (struct registry_pull_options){0}), 0);
    assert_string_equal(fixture.name, "org/app");
    assert_int_equal(content_get_tag(registry_content(fixture.local), "org/app", "mirrored", &found), 0);
    write_sites("%s:\n  mirrors: nonsense\n", fixture.host);
    assert_int_equal(pull("app:mirrored"), -EINVAL);
    assert_non_null(strstr(fixture.message, "mirrors must be a list of URLs"));
    assert_int_equal(unlink(fixture.sites), 0);
}

/* The only one of those files; its size, or -1. */
static int64_t size_of_partial(char ret_path[PATH_MAX]) {
    char folder[128];
    struct stat status = {.st_size = -1};
    snprintf(folder, sizeof folder, "%s/local/partial", fixture.folder);
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.') {
            assert_int_equal(status.st_size, -1);
            snprintf(ret_path, PATH_MAX, "%s/%s", folder, entry->d_name);
            assert_int_equal(stat(ret_path, &status), 0);
        }
    closedir(dir);
    return status.st_size;
}

/* Five tries of 300,000 bytes each, none of which counts as progress. */
static int64_t pull_by_halves(const char *tag, char salt, char ret_path[PATH_MAX]) {
    char reference[64];
    put_remote_image(tag, salt);
    snprintf(reference, sizeof reference, "app:%s", tag);
    fixture.cuts_after = 300000;
    assert_int_equal(pull(reference), -EIO);
    fixture.cuts_after = 0;
    assert_int_equal(size_of_partial(ret_path), 5 * 300000);
    return 5 * 300000;
}

UNIT_TEST(what_broke_off_is_gone_on_with_by_the_next_pull) {
    char path[PATH_MAX];
    int64_t size = pull_by_halves("halves", 'T', path);
    size_t blobs = fixture.blobs;
    assert_int_equal(pull("app:halves"), 0);
    assert_int_equal(fixture.range_start, size);
    assert_int_equal(fixture.blobs, blobs + 1);
    assert_int_equal(size_of_partial(path), -1);
}

UNIT_TEST(a_beginning_that_is_wrong_is_thrown_away_once) {
    char path[PATH_MAX];
    pull_by_halves("wrong", 'U', path);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "?", 1, 1000), 1); /* as after a power cut */
    close(fd);
    size_t blobs = fixture.blobs;
    assert_int_equal(pull("app:wrong"), 0);
    assert_int_equal(fixture.range_start, -1);
    assert_int_equal(fixture.blobs, blobs + 2); /* the rest in vain, then all */
    assert_int_equal(size_of_partial(path), -1);
}

UNIT_TEST(all_of_it_that_nobody_looked_at_is_not_fetched_again) {
    static char layer[3 * MIB];
    char path[PATH_MAX];
    memset(layer, 'V', sizeof layer);
    pull_by_halves("ended", 'V', path);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, slice_make(layer, sizeof layer), 0644), 0);
    size_t blobs = fixture.blobs;
    assert_int_equal(pull("app:ended"), 0);
    assert_int_equal(fixture.blobs, blobs);
}

/* What another repository's pull has begun would be got by guessing its end. */
UNIT_TEST(a_beginning_is_its_repositorys_alone) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    char path[PATH_MAX];
    struct content *remote = registry_content(fixture.remote);
    struct oci_digest image, layer;
    struct oci_manifest manifest;
    pull_by_halves("guess", 'W', path);
    digest_of_layer('W', layer.hex);
    assert_int_equal(content_get_tag(remote, "app", "guess", &image), 0);
    assert_int_equal(content_read_blob(remote, &image, MIB, &text), 0);
    assert_int_equal(oci_manifest_parse(arena, buffer_slice(&text), (struct slice){0}, &manifest, NULL), 0);
    assert_int_equal(content_put_manifest(remote, "guesser", "v1", buffer_slice(&text), &manifest, &image), 0);
    assert_int_equal(content_link(remote, "guesser", CONTENT_LINK_BLOB, &layer, (struct slice){0}), 0);
    assert_int_equal(pull("guesser:v1"), 0);
    assert_int_equal(fixture.range_start, -1);
    assert_int_equal(unlink(path), 0);
}

UNIT_TEST(a_token_that_ends_within_a_blob_costs_another_token) {
    put_remote_image("expires", 'X');
    fixture.wants_token = true;
    fixture.token_uses = 2;
    fixture.cuts_after = MIB;
    size_t tokens = fixture.tokens, blobs = fixture.blobs;
    assert_int_equal(pull("app:expires"), 0);
    fixture.wants_token = false;
    fixture.token_uses = fixture.cuts_after = 0;
    assert_int_equal(fixture.blobs, blobs + 3); /* each went on where the last one broke */
    assert_int_equal(fixture.range_start, 2 * MIB);
    assert_true(fixture.tokens >= tokens + 2);
}

static const char *const waiting[] = {"app:one", "app:two", "app:three", "app:four", "app:five", "app:six", "app:seven", "app:quick"};
static struct registry_pull *pulls[ARRAY_LEN(waiting)];
static size_t slow_ended;

static void on_slow_done(void *userdata, const struct registry_pull_result *result) {
    assert_int_equal(result->error, -ETIMEDOUT);
    assert_non_null(strstr(result->diag->message, "is slow, and others wait"));
    *(struct registry_pull **)userdata = NULL;
    slow_ended++;
}

/* Seven that drip and one that does not: four go on aside and one has a place, so that two have to end. */
UNIT_TEST(who_drips_holds_nobody_up) {
    size_t last = ARRAY_LEN(waiting) - 1;
    fixture.drips = true;
    digest_of_layer((char)('0' + last), fixture.spared);
    fixture.done = false;
    slow_ended = 0;
    for (size_t i = 0; i <= last; i++) {
        char reference[128];
        put_remote_image(waiting[i] + 4, (char)('0' + i));
        snprintf(reference, sizeof reference, "%s/%s", fixture.host, waiting[i]);
        const struct registry_pull_options options = {.reference = reference, .on_done = i < last ? on_slow_done : on_done, .userdata = &pulls[i]};
        assert_int_equal(registry_pull(fixture.local, &options, &pulls[i], NULL), 0);
    }
    while (!fixture.done)
        assert_int_equal(loop_turn(fixture.loop, 10000), 0);
    assert_int_equal(fixture.error, 0);
    assert_int_equal(slow_ended, 2); /* nobody waits any more: the others may take their time */
    for (size_t i = 0; i < last; i++)
        if (pulls[i])
            registry_pull_cancel(pulls[i]);
    while (registry_pulls(fixture.local))
        assert_int_equal(loop_turn(fixture.loop, 10000), 0);
    fixture.drips = false;
}

UNIT_TEST(a_private_layer_is_fetched_once_for_all_repositories_of_a_registry) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    struct content *remote = registry_content(fixture.remote);
    struct oci_digest image = put_remote_image("base", 'Y'), layer;
    struct oci_manifest manifest;
    char path[PATH_MAX], elsewhere[128];
    fixture.wants_basic = true;
    assert_int_equal(pull_as("app:base", "secret", REGISTRY_PULL_ALWAYS), 0);
    digest_of_layer('Y', layer.hex);
    assert_int_equal(content_read_blob(remote, &image, MIB, &text), 0);
    assert_int_equal(oci_manifest_parse(arena, buffer_slice(&text), (struct slice){0}, &manifest, NULL), 0);
    for (size_t i = 0; i < 2; i++) {
        const char *name = i ? "second" : "third";
        assert_int_equal(content_put_manifest(remote, name, "v1", buffer_slice(&text), &manifest, &image), 0);
        assert_int_equal(content_link(remote, name, CONTENT_LINK_BLOB, &layer, (struct slice){0}), 0);
        assert_int_equal(content_link(remote, name, CONTENT_LINK_BLOB, &manifest.config.digest, (struct slice){0}), 0);
    }
    size_t blobs = fixture.blobs;
    assert_int_equal(pull_as("second:v1", "secret", REGISTRY_PULL_ALWAYS), 0);
    assert_int_equal(fixture.blobs, blobs); /* HEAD was enough */
    assert_int_equal(status_of("blobs/sha256:%s", layer.hex), 404);
    fixture.wants_basic = false;

    /* Another registry's word is not: it has to show what it names. */
    snprintf(elsewhere, sizeof elsewhere, "localhost%s/third:v1", strchr(fixture.host, ':'));
    assert_int_equal(pull_reference(elsewhere, (struct registry_pull_options){0}), 0);
    assert_int_equal(fixture.blobs, blobs + 1);
    assert_int_equal(size_of_partial(path), -1);
}

/* What one has begun the next goes on with; when that is wrong, it does it all. */
UNIT_TEST(a_mirror_that_begins_wrong_and_breaks_spoils_nothing) {
    char sites[256];
    put_remote_image("broken", 'p');
    snprintf(sites, sizeof sites, "%s:\n  mirrors: ['http://localhost%s']\n", fixture.host, strchr(fixture.host, ':'));
    assert_int_equal(sys_write_file_fast(AT_FDCWD, fixture.sites, slice_of(sites), 0600), 0);
    fixture.breaks_blobs = true;
    assert_int_equal(pull("app:broken"), 0);
    fixture.breaks_blobs = false;
    assert_int_equal(unlink(fixture.sites), 0);
}

UNIT_TEST(logging_out_finds_dockers_own_way_to_write_it) {
    assert_int_equal(sys_write_file_fast(AT_FDCWD, fixture.credentials,
                                         SLICE("{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"YW5uOnNlY3JldA==\"}}}"), 0600),
                     0);
    assert_int_equal(registry_logout(fixture.local, "docker.io", NULL), 0);
    assert_int_equal(registry_logout(fixture.local, "docker.io", NULL), -ENOENT);
    assert_int_equal(unlink(fixture.credentials), 0);
}

UNIT_TEST(the_machines_own_credentials_serve_all) {
    char text[256];
    put_remote_image("machine", 'm');
    snprintf(text, sizeof text, "{\"auths\":{\"http://%s/v2/\":{\"auth\":\"YW5uOnNlY3JldA==\"}}}", fixture.host);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, fixture.credentials, slice_of(text), 0600), 0);
    fixture.wants_basic = true;
    assert_int_equal(pull("app:machine"), 0);
    fixture.wants_basic = false;
    assert_int_equal(unlink(fixture.credentials), 0);
}

UNIT_TEST(a_manifest_of_another_machine_or_of_old_is_refused) {
    char text[2048];
    snprintf(text, sizeof text,
             "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":[{\"mediaType\":\"" OCI_TYPE_MANIFEST
             "\",\"digest\":\"sha256:%064d\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"vax\"}}]}",
             0);
    put_remote_manifest("vax", text);
    assert_int_equal(pull("app:vax"), -ENOENT);
    assert_non_null(strstr(fixture.message, "app has no image for linux/"));
    assert_int_equal(pull("app:old"), -ENOTSUP);
    assert_non_null(strstr(fixture.message, "schema 1"));
    assert_int_equal(pull_with("app:vax", (struct registry_pull_options){.platform = "linux/vax"}), -ENOENT);
    assert_non_null(strstr(fixture.message, "sha256:" ZEROS)); /* that one is for it, but not there */
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
    assert_non_null(strstr(fixture.message, "not as large as its manifest says"));
    struct oci_digest config = put_remote_blob(SLICE("{ }"));
    char text[512];
    snprintf(text, sizeof text, "{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:%s\",\"size\":3},\"layers\":[]}", config.hex);
    put_remote_manifest("bare", text);
    fixture.spoils_blobs = true;
    assert_int_equal(pull("app:bare"), -EBADMSG);
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
    assert_int_equal(pull_reference("127.0.0.1:1/app:v1", (struct registry_pull_options){0}), -EHOSTUNREACH);
    assert_non_null(strstr(fixture.message, "cannot reach 127.0.0.1"));
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
    const struct CMUnitTest tests[] = {UNIT(an_image_arrives_whole),
                                       UNIT(a_tag_that_was_moved_brings_the_new_image),
                                       UNIT(who_has_no_right_does_not_get_what_another_one_brought),
                                       UNIT(the_next_credential_is_tried_at_the_token_server),
                                       UNIT(what_credentials_brought_is_hidden_and_nothing_else),
                                       UNIT(what_was_ours_before_it_was_pulled_stays_ours),
                                       UNIT(a_login_hides_nothing_that_is_public),
                                       UNIT(a_pull_that_is_killed_shows_nothing),
                                       UNIT(a_manifest_gives_nothing_that_its_registry_never_had),
                                       UNIT(redirects_get_no_credentials),
                                       UNIT(a_refresh_token_is_not_sent_on),
                                       UNIT(loopback_is_an_address_and_no_name),
                                       UNIT(who_logs_in_says_a_user_and_a_password),
                                       UNIT(a_busy_registry_is_asked_again),
                                       UNIT(what_is_damaged_here_is_fetched_anew),
                                       UNIT(mirrors_are_asked_in_their_order),
                                       UNIT(a_mirror_that_begins_wrong_and_breaks_spoils_nothing),
                                       UNIT(what_broke_off_is_gone_on_with_by_the_next_pull),
                                       UNIT(a_beginning_that_is_wrong_is_thrown_away_once),
                                       UNIT(all_of_it_that_nobody_looked_at_is_not_fetched_again),
                                       UNIT(a_beginning_is_its_repositorys_alone),
                                       UNIT(a_token_that_ends_within_a_blob_costs_another_token),
                                       UNIT(who_drips_holds_nobody_up),
                                       UNIT(a_private_layer_is_fetched_once_for_all_repositories_of_a_registry),
                                       UNIT(logging_out_finds_dockers_own_way_to_write_it),
                                       UNIT(the_machines_own_credentials_serve_all),
                                       UNIT(a_manifest_of_another_machine_or_of_old_is_refused),
                                       UNIT(an_index_gives_this_machines_image),
                                       UNIT(what_is_wrong_leaves_no_image),
                                       UNIT(a_registry_that_is_not_there_is_named),
                                       UNIT(root_may_ask_for_a_pull_over_http)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

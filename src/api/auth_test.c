/* Tokens of service accounts against a real store: who is taken for whom, and which token no longer is one. */
#include "unit.h"

#include "api/api_priv.h"
#include "sys/sys.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define TURNS_MAX 2000
#define ISSUER "https://kubernetes.default.svc.cluster.local"

struct fixture {
    char folder[64];
    struct loop *loop;
    struct store *store;
    struct api *api;
    struct arena *arena;
    struct jwt_key *keys[2];
    const char *uid; /* of default/robot */
    int64_t now_s;
};

static struct jwt_key *new_key(void) {
    CLEANUP(secret_freep) struct secret *pem = NULL;
    struct jwt_key *key = NULL;
    assert_int_equal(jwt_key_generate(&pem), 0);
    assert_int_equal(jwt_key_parse(secret_reveal(pem), &key), 0);
    return key;
}

static void on_written(void *userdata, const struct api_failure *failure, struct kube_object *object) {
    (void)object;
    assert_null(failure);
    *(bool *)userdata = true;
}

static void turn_until(struct fixture *fixture, const bool *done) {
    for (int i = 0; i < TURNS_MAX && !*done; i++)
        assert_int_equal(loop_turn(fixture->loop, 1000), 0);
    assert_true(*done);
}

static void create(struct fixture *fixture, const char *json) {
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    struct api_failure failure;
    bool done = false;
    assert_int_equal(kube_decode_json(NULL, slice_of(json), KUBE_STRICT, &object, &diag), 0);
    if (api_create(fixture->api, object, on_written, &done, &failure))
        fail_msg("%s", failure.message);
    turn_until(fixture, &done);
}

static void delete (struct fixture *fixture, const struct kube_kind *kind, const char *name) {
    static const struct api_delete_options options = {.grace_seconds = -1};
    bool done = false;
    assert_int_equal(api_delete(fixture->api, kind, "default", name, &options, on_written, &done, NULL), 0);
    turn_until(fixture, &done);
}

static void open_all(struct fixture *fixture) {
    char path[128];
    struct diag diag = DIAG_INIT;
    assert_int_equal(loop_new(&fixture->loop), 0);
    snprintf(path, sizeof path, "%s/store.db", fixture->folder);
    assert_int_equal(store_open(fixture->loop, &(struct store_options){.path = path}, &fixture->store, &diag), 0);
    const struct api_options options = {
        .store = fixture->store, .service_range = "10.96.0.0/24", .token_keys = (const struct jwt_key *const *)fixture->keys};
    assert_int_equal(api_new(fixture->loop, &options, &fixture->api, &diag), 0);
}

static void close_all(struct fixture *fixture) {
    api_free(fixture->api);
    store_close(fixture->store);
    loop_free(fixture->loop);
}

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/tidemill-auth-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    fixture->arena = arena_new(64 * MIB);
    fixture->keys[0] = new_key();
    open_all(fixture);
    create(fixture, "{\"apiVersion\":\"v1\",\"kind\":\"ServiceAccount\",\"metadata\":{\"name\":\"robot\",\"namespace\":\"default\"}}");
    CLEANUP(kube_object_unrefp) struct kube_object *account = api_get(fixture->api, &kube_kind_service_account, "default", "robot");
    assert_non_null(account);
    fixture->uid = arena_strdup(fixture->arena, account->metadata->uid);
    fixture->now_s = sys_wall_ns() / 1000000000;
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    close_all(fixture);
    jwt_key_free(fixture->keys[0]);
    sys_remove_tree(AT_FDCWD, fixture->folder);
    arena_free(fixture->arena);
    free(fixture);
    return 0;
}

struct claims {
    const char *issuer, *audience, *uid, *more; /* NULL: as they should be */
    int64_t expires_in_s, begins_in_s;
};

static const char *token_of(struct fixture *fixture, const struct jwt_key *key, struct claims claims) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64 * KIB), token = BUFFER_INIT(64 * KIB);
    buffer_printf(&text,
                  "{\"iss\":\"%s\",\"aud\":[\"%s\"],\"exp\":%" PRId64 ",\"nbf\":%" PRId64 ",\"jti\":\"id\",\"sub\":\"system:serviceaccount:default:"
                  "robot\",\"kubernetes.io\":{\"namespace\":\"default\",\"serviceaccount\":{\"name\":\"robot\",\"uid\":\"%s\"}%s}}",
                  claims.issuer ? claims.issuer : ISSUER, claims.audience ? claims.audience : ISSUER,
                  fixture->now_s + (claims.expires_in_s ? claims.expires_in_s : 3600), fixture->now_s + claims.begins_in_s,
                  claims.uid ? claims.uid : fixture->uid, claims.more ? claims.more : "");
    assert_int_equal(jwt_sign(key ? key : fixture->keys[0], buffer_slice(&text), &token), 0);
    return arena_dup(fixture->arena, buffer_slice(&token));
}

/* The message; "" when it is taken. */
static const char *check(struct fixture *fixture, const char *token, struct api_user *user) {
    struct account_answer *answer = ARENA_NEW(fixture->arena, struct account_answer);
    int error = api_account_user(fixture->api, slice_of(token), NULL, fixture->arena, user, answer);
    assert_true(error == 0 || error == -EACCES);
    return error == 0 ? "" : *answer->message ? answer->message : "refused";
}

#define TOKEN(...) token_of(fixture, NULL, (struct claims){__VA_ARGS__})

static void takes_what_is_good(void **state) {
    struct fixture *fixture = *state;
    struct api_user user;
    for (int i = 0; i < 2; i++) { /* the second time by the cache */
        assert_string_equal(check(fixture, TOKEN(.issuer = NULL), &user), "");
        assert_string_equal(user.name, "system:serviceaccount:default:robot");
        assert_string_equal(user.uid, fixture->uid);
        assert_string_equal(user.groups[1], "system:serviceaccounts:default");
        assert_string_equal(user.groups[2], "system:authenticated");
    }
}

static void refuses_what_is_not(void **state) {
    struct fixture *fixture = *state;
    struct jwt_key *other = new_key();
    struct api_user user;
    assert_string_equal(check(fixture, TOKEN(.expires_in_s = -1), &user), "service account token has expired");
    assert_string_equal(check(fixture, TOKEN(.begins_in_s = 60), &user), "service account token is not valid yet");
    assert_string_equal(check(fixture, TOKEN(.audience = "vault"), &user), "token audiences are invalid for the target audiences");
    assert_string_equal(check(fixture, TOKEN(.issuer = "https://elsewhere"), &user), "refused");
    assert_string_not_equal(check(fixture, TOKEN(.uid = "another"), &user), "");
    assert_string_equal(check(fixture, TOKEN(.more = ",\"pod\":{\"name\":\"gone\",\"uid\":\"1\"}"), &user),
                        "service account token has been invalidated");
    assert_string_equal(check(fixture, token_of(fixture, other, (struct claims){.issuer = NULL}), &user), "refused");
    assert_string_equal(check(fixture, "", &user), "refused");
    assert_string_equal(check(fixture, "a.b.c", &user), "refused");
    jwt_key_free(other);
}

static void ends_with_the_account(void **state) {
    struct fixture *fixture = *state;
    struct api_user user;
    const char *token = TOKEN(.issuer = NULL);
    assert_string_equal(check(fixture, token, &user), "");
    delete (fixture, &kube_kind_service_account, "robot");
    assert_string_not_equal(check(fixture, token, &user), "");
    create(fixture, "{\"apiVersion\":\"v1\",\"kind\":\"ServiceAccount\",\"metadata\":{\"name\":\"robot\",\"namespace\":\"default\"}}");
    assert_string_not_equal(check(fixture, token, &user), ""); /* the same name is not the same account */
}

/* The table of the first roles is good data, and what the platform's parts need is in it. */
static bool may(struct fixture *fixture, const char *group, const char *verb, const char *api_group, const char *resource, const char *subresource) {
    const char *groups[] = {group, "system:authenticated", NULL};
    const struct api_user user = {.name = "x", .groups = groups};
    const struct api_access access = {
        .verb = verb, .group = api_group, .resource = resource, .subresource = subresource, .namespace = "", .name = ""};
    return api_authorize(fixture->api, &user, &access, NULL);
}

static bool may_path(struct fixture *fixture, const char *group, const char *path) {
    const char *groups[] = {group, NULL};
    const struct api_user user = {.name = "x", .groups = groups};
    const struct api_access access = {.verb = "get", .path = path};
    return api_authorize(fixture->api, &user, &access, NULL);
}

static void knows_the_first_roles(void **state) {
    struct fixture *fixture = *state;
    assert_true(may(fixture, "system:masters", "delete", "apps", "deployments", ""));
    assert_true(may(fixture, "system:masters", "create", "", "pods", "exec"));
    assert_true(may(fixture, "system:gateway", "watch", "", "services", ""));
    assert_true(may(fixture, "system:gateway", "list", "networking.k8s.io", "ingresses", ""));
    assert_false(may(fixture, "system:gateway", "list", "", "secrets", ""));
    assert_false(may(fixture, "system:gateway", "update", "", "services", ""));
    assert_false(may(fixture, "system:gateway", "get", "", "pods", "exec"));
    assert_false(may(fixture, "system:gateway", "get", "", "pods", "log"));
    assert_true(may(fixture, "system:tidemill", "create", "batch", "jobs", ""));
    assert_false(may(fixture, "system:tidemill", "create", "rbac.authorization.k8s.io", "roles", ""));
    assert_false(may(fixture, "system:serviceaccounts", "get", "", "pods", ""));
    assert_true(may(fixture, "system:serviceaccounts", "create", "authorization.k8s.io", "selfsubjectaccessreviews", ""));
    assert_true(may_path(fixture, "system:unauthenticated", "/version"));
    assert_true(may_path(fixture, "system:unauthenticated", "/readyz"));
    assert_false(may_path(fixture, "system:unauthenticated", "/apis/apps"));
    assert_true(may_path(fixture, "system:authenticated", "/apis/apps"));
    assert_false(may_path(fixture, "system:authenticated", "/metrics"));
    assert_false(may_path(fixture, "system:authenticated", "/tidemill/apps"));
    assert_true(may_path(fixture, "system:tidemill", "/tidemill/apps"));
    assert_true(may_path(fixture, "system:monitoring", "/metrics"));
}

static void strip(struct fixture *fixture, const char *name, const char *autoupdate) {
    CLEANUP(kube_object_unrefp) struct kube_object *role = api_get(fixture->api, &kube_kind_cluster_role, NULL, name);
    struct kube_object *copy = role ? kube_object_copy(role) : NULL;
    bool done = false;
    assert_non_null(copy);
    copy->cluster_role->rules.count = 0;
    assert_int_equal(kube_map_set(&copy->metadata->annotations, copy->arena, "rbac.authorization.kubernetes.io/autoupdate", autoupdate), 0);
    assert_int_equal(api_update(fixture->api, copy, on_written, &done, NULL), 0);
    turn_until(fixture, &done);
}

static void completes_the_first_roles_at_start(void **state) {
    struct fixture *fixture = *state;
    bool done = false;
    strip(fixture, "system:basic-user", "true");
    strip(fixture, "system:monitoring", "false");
    static const struct api_delete_options options = {.grace_seconds = -1};
    assert_int_equal(api_delete(fixture->api, &kube_kind_cluster_role_binding, NULL, "system:discovery", &options, on_written, &done, NULL), 0);
    turn_until(fixture, &done);
    assert_false(may(fixture, "x", "create", "authorization.k8s.io", "selfsubjectaccessreviews", ""));
    assert_false(may_path(fixture, "system:authenticated", "/apis/apps"));
    close_all(fixture);
    open_all(fixture);
    assert_true(may(fixture, "x", "create", "authorization.k8s.io", "selfsubjectaccessreviews", ""));
    assert_true(may_path(fixture, "system:authenticated", "/apis/apps"));
    assert_false(may_path(fixture, "system:monitoring", "/metrics")); /* left alone, as its annotation wants */
}

#define WITH_API(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {WITH_API(takes_what_is_good), WITH_API(refuses_what_is_not), WITH_API(ends_with_the_account),
                                       WITH_API(knows_the_first_roles), WITH_API(completes_the_first_roles_at_start)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

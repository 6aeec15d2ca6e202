/* Credentials and challenges: what others write, and whom it is for. */
#include <stdio.h>

#include "registry/challenge.h"
#include "registry/docker_config.h"
#include "registry/sites.h"
#include "unit.h"

static const char *users(const struct docker_config *config, const char *registry, const char *name, char ret[128]) {
    const struct docker_credential *found[8];
    size_t count = docker_config_find(config, registry, name, found, ARRAY_LEN(found));
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(127);
    for (size_t i = 0; i < count; i++)
        buffer_printf(&text, "%s%s", i ? " " : "", found[i]->user);
    snprintf(ret, 128, "%s", text.data ? text.data : "");
    return ret;
}

UNIT_TEST(credentials_are_matched_as_a_kubelet_does) {
    static const char json[] = "{\"auths\":{"
                               "\"https://index.docker.io/v1/\":{\"username\":\"hub\",\"password\":\"x\"},"
                               "\"ghcr.io\":{\"username\":\"all\",\"password\":\"x\"},"
                               "\"ghcr.io/team\":{\"username\":\"team\",\"password\":\"x\"},"
                               "\"*.example.com\":{\"username\":\"stars\",\"password\":\"x\"},"
                               "\"*.example.com:5000\":{\"username\":\"port\",\"password\":\"x\"},"
                               "\"http://reg.test/v2/\":{\"username\":\"scheme\",\"password\":\"x\"},"
                               "\"nothing.test\":{}}}";
    static const struct {
        const char *registry, *name, *users;
    } cases[] = {{"docker.io", "library/nginx", "hub"}, {"ghcr.io", "other/app", "all"}, {"ghcr.io", "team/app", "team all"},
                 {"a.example.com", "x", "stars"},       {"a.b.example.com", "x", ""},    {"example.com", "x", ""},
                 {"a.example.com:5000", "x", "port"},   {"a.example.com:5001", "x", ""}, {"reg.test", "x", "scheme"},
                 {"ghcr.io.evil.test", "team/app", ""}, {"nothing.test", "x", ""},       {"index.docker.io", "x", "hub"}};
    struct docker_config config = {0};
    char text[128];
    assert_int_equal(docker_config_read(&config, SLICE(json), NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(users(&config, cases[i].registry, cases[i].name, text), cases[i].users);
    docker_config_deinit(&config);
}

UNIT_TEST(a_key_is_its_registrys_however_it_is_written) {
    static const struct {
        const char *key, *registry;
        bool is;
    } cases[] = {{"https://index.docker.io/v1/", "docker.io", true},
                 {"docker.io", "docker.io", true},
                 {"http://r:5000/v2/", "r:5000", true},
                 {"docker.io/team", "docker.io", false},
                 {"index.docker.io.evil", "docker.io", false},
                 {"r", "r:5000", false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(docker_config_key_is(slice_of(cases[i].key), cases[i].registry), cases[i].is);
}

UNIT_TEST(credentials_have_many_forms) {
    static const struct {
        const char *json, *user, *password;
    } cases[] = {{"{\"auths\":{\"r\":{\"auth\":\"YW5uOnNlY3JldA==\"}}}", "ann", "secret"},
                 {"{\"r\":{\"auth\":\"YW5uOnNlY3JldA\"}}", "ann", "secret"}, /* .dockercfg; padding left out */
                 {"{\"r\":{\"auth\":\"YW5uOmE6Yg==\",\"username\":\"other\",\"password\":\"other\"}}", "ann", "a:b"},
                 {"{\"r\":{\"auth\":\"YW5uOnB3AAAA\"}}", "ann", "pw"}, /* padded with NULs */
                 {"{\"auths\":{\"r\":{\"identitytoken\":\"t\"}},\"credsStore\":\"desktop\"}", "", NULL}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct docker_config config = {0};
        assert_int_equal(docker_config_read(&config, slice_of(cases[i].json), NULL), 0);
        assert_int_equal(config.items.count, 1);
        assert_string_equal(config.items.items[0].user, cases[i].user);
        if (cases[i].password)
            assert_true(slice_is(secret_reveal(config.items.items[0].password), cases[i].password));
        else
            assert_true(slice_is(secret_reveal(config.items.items[0].identity_token), "t"));
        docker_config_deinit(&config);
    }
    static const char *const bad[] = {"", "[]", "{\"auths\":[]}", "{\"r\":{\"auth\":\"????\"}}", "{\"r\":{\"auth\":\"bm9jb2xvbg==\"}}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct docker_config config = {0};
        assert_int_equal(docker_config_read(&config, slice_of(bad[i]), NULL), -EINVAL);
        docker_config_deinit(&config);
    }
}

UNIT_TEST(challenges_are_read_in_every_form) {
    static const struct {
        const char *header, *realm, *service, *scope;
        bool basic, bearer;
    } cases[] = {
        {"Bearer realm=\"https://a/token\",service=\"s\",scope=\"repository:x:pull,push\"", "https://a/token", "s", "repository:x:pull,push", false,
         true},
        {"bearer  realm = https://a/token , service=s", "https://a/token", "s", "", false, true},
        {"Basic realm=\"x, Bearer realm=y\"", "", "", "", true, false},
        {"Basic realm=\"x\", Bearer realm=\"r\", error=\"invalid_token\"", "r", "", "", true, true},
        {"Bearer service=\"s\", Basic", "", "s", "", true, true},
        {"Negotiate abc==, Basic realm=x", "", "", "", true, false},
        {"Bearer realm=\"a\\\"b\"", "a\"b", "", "", false, true},
        {"Bearer realm=\"never ends", "", "", "", false, true},
        {"", "", "", "", false, false},
        {"\xff\xfe,,,=", "", "", "", false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct challenges read = {0};
        challenges_read(slice_of(cases[i].header), &read);
        assert_string_equal(read.realm, cases[i].realm);
        assert_string_equal(read.service, cases[i].service);
        assert_string_equal(read.scope, cases[i].scope);
        assert_int_equal(read.basic, cases[i].basic);
        assert_int_equal(read.bearer, cases[i].bearer);
    }
}

UNIT_TEST(what_is_written_is_read_again) {
    struct buffer text = BUFFER_INIT(KIB), huge = BUFFER_INIT(2 * DOCKER_PAIR_BYTES_MAX);
    struct docker_config config = {0};
    struct diag diag = DIAG_INIT;
    assert_int_equal(docker_config_format(&text, "ghcr.io", "ann", SLICE("a:\"b\"")), 0);
    assert_int_equal(docker_config_read(&config, buffer_slice(&text), &diag), 0);
    assert_int_equal(config.items.count, 1);
    assert_string_equal(config.items.items[0].key, "ghcr.io");
    assert_string_equal(config.items.items[0].user, "ann");
    assert_true(slice_is(secret_reveal(config.items.items[0].password), "a:\"b\""));
    while (huge.len <= DOCKER_PAIR_BYTES_MAX)
        buffer_append_text(&huge, "a password of no end ");
    assert_true(docker_config_format(&text, "ghcr.io", "ann", buffer_slice(&huge)) < 0);
    docker_config_deinit(&config);
    buffer_deinit(&huge);
    buffer_deinit(&text);
}

UNIT_TEST(the_file_of_registries_says_what_is_wrong_with_it) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct sites sites;
    assert_int_equal(sites_parse(arena, SLICE("'*': {insecure: true}\nr:5000:\n  ca: /ca\n  mirrors: [https://m/x]\n"), "f", &sites, NULL), 0);
    assert_string_equal(sites_find(&sites, "r:5000")->ca, "/ca");
    assert_string_equal(sites_find(&sites, "r:5000")->mirrors[0], "https://m/x");
    assert_true(sites_find(&sites, "other")->insecure);
    assert_int_equal(sites_parse(arena, SLICE(""), "f", &sites, NULL), 0);
    assert_false(sites_find(&sites, "other")->insecure);
    static const struct {
        const char *yaml, *message;
        int line;
    } bad[] = {{"- a\n", "expected a mapping of registries", 1},
               {"r:\n  mirrors: https://m\n", "a list of URLs", 2},
               {"r:\n  mirrors: [m.example]\n", "must be a URL", 2},
               {"r:\n  insecur: true\n", "insecure (true or false)", 2},
               {"r: yes\n", "expected mirrors, ca or insecure", 1}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct diag diag = DIAG_INIT;
        assert_int_equal(sites_parse(arena, slice_of(bad[i].yaml), "f", &sites, &diag), -EINVAL);
        assert_non_null(strstr(diag.message, bad[i].message));
        assert_int_equal(diag.line, bad[i].line);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(credentials_are_matched_as_a_kubelet_does),
                                       UNIT(credentials_have_many_forms),
                                       UNIT(a_key_is_its_registrys_however_it_is_written),
                                       UNIT(challenges_are_read_in_every_form),
                                       UNIT(what_is_written_is_read_again),
                                       UNIT(the_file_of_registries_says_what_is_wrong_with_it)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "http/http_fixture_priv.h"
#include "http/pki_testing_priv.h"

#define NOW_S 1800000000 /* the tests' certificates are made for the real clock below; this one is for expiry alone */

static struct pki_pair authority, other_authority;

static struct pki_pair issue(const struct pki_pair *by, struct pki_subject subject) {
    struct pki_pair pair;
    subject.now_s = sys_wall_ns() / 1000000000;
    subject.days = 10;
    assert_int_equal(pki_issue(by, &subject, &pair), 0);
    return pair;
}

static struct tls_context *context(const struct pki_pair *pair, const struct pki_pair *trusts, bool server) {
    struct tls_context *ret = NULL;
    struct diag diag = DIAG_INIT;
    char *key = pair ? slice_dup(secret_reveal(pair->key_pem)) : NULL;
    struct tls_options options = {
        .certificate_pem = pair ? pair->certificate_pem : NULL, .key_pem = key, .ca_pem = trusts ? trusts->certificate_pem : NULL, .server = server};
    if (tls_context_new(&options, &ret, &diag) < 0)
        fail_msg("%s", diag.message);
    free(key);
    return ret;
}

static void on_request(void *userdata, struct http_exchange *exchange) {
    (void)userdata;
    const struct http_peer *peer = http_exchange_peer(exchange);
    struct buffer text = BUFFER_INIT(GIB);
    if (slice_is(http_path(exchange), "/big")) {
        for (int i = 0; i < 200000; i++)
            buffer_printf(&text, "%08d\n", i);
    } else {
        buffer_printf(&text, "%s:", peer->certificate_common_name ? peer->certificate_common_name : "nobody");
        for (const char *const *organization = peer->certificate_organizations; organization && *organization; organization++)
            buffer_printf(&text, " %s", *organization);
    }
    http_respond(exchange, 200, "text/plain", buffer_slice(&text), NULL);
    buffer_deinit(&text);
}

static int setup(void **state) {
    (void)state;
    int64_t now = sys_wall_ns() / 1000000000;
    assert_int_equal(pki_authority_new("test authority", now, 100, &authority), 0);
    assert_int_equal(pki_authority_new("another authority", now, 100, &other_authority), 0);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    pki_pair_deinit(&authority);
    pki_pair_deinit(&other_authority);
    return 0;
}

static const struct pki_subject server_subject = {.common_name = "server",
                                                  .dns_names = (const char *const[]){"localhost", "kubernetes.default", NULL},
                                                  .ip_addresses = (const char *const[]){"127.0.0.1", "::1", NULL},
                                                  .server = true};

/* Serves with TLS; the client has `identity` (NULL: none) and trusts `trusts`. */
static void start(struct fixture *fixture, const struct pki_pair *server, const struct pki_pair *identity, const struct pki_pair *trusts) {
    CLEANUP(tls_context_unrefp) struct tls_context *server_tls = context(server, &authority, true);
    CLEANUP(tls_context_unrefp) struct tls_context *client_tls = context(identity, trusts, false);
    fixture_serve(fixture, true, &(struct http_server_options){.handler = on_request, .tls = server_tls});
    fixture_connect(fixture, client_tls);
}

UNIT_TEST(client_certificates_tell_who_one_is) {
    struct pki_pair server = issue(&authority, server_subject);
    struct pki_pair client = issue(&authority, (struct pki_subject){.common_name = "admin", .organization = "system:masters", .client = true});
    for (int with = 0; with <= 1; with++) {
        struct fixture fixture;
        start(&fixture, &server, with ? &client : NULL, &authority);
        for (int i = 0; i < 2; i++) {
            struct result result = fetch(&fixture, "GET", "/", (struct slice){0});
            assert_int_equal(result.error, 0);
            assert_string_equal(result.body.data, with ? "admin: system:masters" : "nobody:");
            buffer_deinit(&result.body);
        }
        struct result result = fetch(&fixture, "GET", "/big", (struct slice){0});
        assert_int_equal(result.error, 0);
        assert_int_equal(result.body.len, 9 * 200000);
        assert_memory_equal(result.body.data + 9 * 199999, "00199999\n", 9);
        assert_int_equal(http_server_connections(fixture.server), 1);
        buffer_deinit(&result.body);
        fixture_end(&fixture);
    }
    pki_pair_deinit(&server);
    pki_pair_deinit(&client);
}

UNIT_TEST(who_is_not_trusted_is_refused_on_either_side) {
    struct pki_pair server = issue(&authority, server_subject);
    struct pki_pair stranger =
        issue(&other_authority, (struct pki_subject){.common_name = "admin", .organization = "system:masters", .client = true});
    struct pki_pair wrong_name =
        issue(&authority, (struct pki_subject){.common_name = "127.0.0.1", .dns_names = (const char *const[]){"elsewhere", NULL}, .server = true});
    struct pki_pair wrong_usage =
        issue(&authority, (struct pki_subject){.common_name = "server", .ip_addresses = (const char *const[]){"127.0.0.1", NULL}, .client = true});
    const struct {
        const struct pki_pair *server, *client, *trusts;
    } cases[] = {
        {&server, NULL, &other_authority}, /* the server's certificate is from someone else */
        {&wrong_name, NULL, &authority},   /* … is for another name */
        {&wrong_usage, NULL, &authority},  /* … is a client's */
        {&server, &stranger, &authority},  /* the client's certificate is from someone else */
        {&server, &server, &authority},    /* … is a server's */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture fixture;
        start(&fixture, cases[i].server, cases[i].client, cases[i].trusts);
        struct result result = fetch(&fixture, "GET", "/", (struct slice){0});
        assert_true(i < 3 ? result.error == -EACCES : result.error < 0);
        assert_int_equal(result.status, 0);
        buffer_deinit(&result.body);
        fixture_end(&fixture);
    }
    pki_pair_deinit(&server);
    pki_pair_deinit(&stranger);
    pki_pair_deinit(&wrong_name);
    pki_pair_deinit(&wrong_usage);
}

UNIT_TEST(a_renewed_certificate_serves_new_connections) {
    struct pki_pair server = issue(&authority, server_subject), renewed = issue(&other_authority, server_subject);
    struct fixture fixture;
    start(&fixture, &server, NULL, &authority);
    struct result result = fetch(&fixture, "GET", "/", (struct slice){0});
    assert_int_equal(result.status, 200);
    buffer_deinit(&result.body);
    CLEANUP(tls_context_unrefp) struct tls_context *next = context(&renewed, NULL, true);
    http_server_set_tls(fixture.server, next);
    result = fetch(&fixture, "GET", "/", (struct slice){0}); /* the kept connection */
    assert_int_equal(result.status, 200);
    buffer_deinit(&result.body);
    http_client_free(TAKE(fixture.client));
    CLEANUP(tls_context_unrefp) struct tls_context *trusting = context(NULL, &other_authority, false);
    fixture_connect(&fixture, trusting);
    result = fetch(&fixture, "GET", "/", (struct slice){0});
    assert_int_equal(result.status, 200);
    buffer_deinit(&result.body);
    fixture_end(&fixture);
    pki_pair_deinit(&server);
    pki_pair_deinit(&renewed);
}

UNIT_TEST(plain_bytes_on_a_tls_port_are_no_harm) {
    struct pki_pair server = issue(&authority, server_subject);
    struct fixture fixture;
    start(&fixture, &server, NULL, &authority);
    char *answer = raw_exchange(&fixture, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", NULL);
    assert_null(strstr(answer, "nobody"));
    free(answer);
    WAIT_FOR(&fixture, http_server_connections(fixture.server) == 0);
    fixture_end(&fixture);
    pki_pair_deinit(&server);
}

UNIT_TEST(certificates_say_when_they_expire_and_bad_texts_are_refused) {
    struct pki_pair pair;
    assert_int_equal(pki_authority_new("x", NOW_S, 100, &pair), 0);
    assert_int_equal(expiry_of(pair.certificate_pem), NOW_S + 100 * 86400);
    struct pki_pair mixed = {pair.certificate_pem, authority.key_pem}, out;
    assert_int_equal(pki_issue(&mixed, &server_subject, &out), -EINVAL);
    struct pki_subject bad = server_subject;
    bad.ip_addresses = (const char *const[]){"300.1.1.1", NULL};
    assert_int_equal(pki_issue(&pair, &bad, &out), -EINVAL);
    struct tls_context *tls = NULL;
    struct diag diag = DIAG_INIT;
    assert_int_equal(tls_context_new(&(struct tls_options){.certificate_pem = "x", .server = true}, &tls, &diag), -EINVAL);
    assert_true(strlen(diag.message) > 0);
    char *key = slice_dup(secret_reveal(pair.key_pem));
    assert_int_equal(
        tls_context_new(&(struct tls_options){.certificate_pem = authority.certificate_pem, .key_pem = key, .server = true}, &tls, &diag), -EINVAL);
    assert_int_equal(tls_context_new(&(struct tls_options){.ca_pem = "nothing"}, &tls, &diag), -EINVAL);
    free(key);
    pki_pair_deinit(&pair);
}

UNIT_TEST(digests_are_those_of_the_standard) {
    char hex[65];
    digest_sha256_hex(SLICE("abc"), hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    struct digest *digest = digest_new();
    digest_update(digest, SLICE("a"));
    digest_update(digest, SLICE("bc"));
    digest_finish_hex(digest, hex);
    digest_free(digest);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(client_certificates_tell_who_one_is),
                                       UNIT(who_is_not_trusted_is_refused_on_either_side),
                                       UNIT(a_renewed_certificate_serves_new_connections),
                                       UNIT(plain_bytes_on_a_tls_port_are_no_harm),
                                       UNIT(certificates_say_when_they_expire_and_bad_texts_are_refused),
                                       UNIT(digests_are_those_of_the_standard)};
    return cmocka_run_group_tests(tests, setup, teardown);
}

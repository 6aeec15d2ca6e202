#include "http/http_fixture_priv.h"

#include "faults.h"

/* ---- a server and its client in one loop ---- */

static void on_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    (void)userdata;
    http_respond(exchange, 200, "text/plain", body, (const struct http_field[]){{"X-Answer", "yes"}, {NULL, NULL}});
}

static void on_drained(void *userdata, struct http_exchange *exchange) {
    (void)userdata;
    http_respond_end(exchange);
}

static void on_request(void *userdata, struct http_exchange *exchange) {
    if (slice_is(http_method(exchange), "POST")) {
        http_read_body(exchange, MIB, on_body, userdata);
        return;
    }
    http_respond_begin(exchange, 200, "text/plain", -1, NULL);
    if (http_write(exchange, SLICE("some text")) < 0) {
        http_abort(exchange);
        return;
    }
    http_on_drained(exchange, on_drained, userdata);
}

struct outcome {
    bool done;
    int error, status;
    char body[64];
};

static void on_answer(void *userdata, const struct http_answer *answer) {
    struct outcome *outcome = userdata;
    assert_false(outcome->done);
    outcome->done = true;
    outcome->error = answer->error;
    outcome->status = answer->status;
    snprintf(outcome->body, sizeof outcome->body, "%.*s", SLICE_ARG(answer->body));
}

/* The answer is whole and right, or an error; each request ends in one callback, whoever failed. */
static int ask(struct fixture *fixture, const char *method, const char *body) {
    struct outcome outcome = {0};
    struct http_request_options options = {
        .method = method, .target = "/path?query", .body = slice_of(body), .content_type = body ? "text/plain" : NULL, .timeout_ms = 60000};
    int r = http_client_send(fixture->client, &options, on_answer, &outcome, NULL);
    if (r < 0)
        return r;
    assert_false(outcome.done);
    while (!outcome.done)
        (void)loop_turn(fixture->loop, 1000);
    if (outcome.error < 0)
        return outcome.error;
    if (outcome.status >= 500)
        return -EIO;
    assert_int_equal(outcome.status, 200);
    assert_string_equal(outcome.body, body ? body : "some text");
    return 0;
}

static struct tls_context *server_tls, *client_tls;

static int exchange(void *context) {
    const bool *tls = context;
    struct fixture fixture;
    faults_pause();
    fixture_listen(&fixture, *tls);
    faults_resume();
    struct http_server_options options = {.handler = on_request, .tls = *tls ? server_tls : NULL};
    char endpoint[160];
    snprintf(endpoint, sizeof endpoint, "%s%s", *tls ? "https://" : "", fixture.endpoint);
    int r = http_server_new(fixture.loop, fixture.listen_fd, &options, &fixture.server);
    if (r == 0)
        r = http_client_new(fixture.loop, &(struct http_client_options){.endpoint = endpoint, .tls = *tls ? client_tls : NULL}, &fixture.client);
    if (r == 0) {
        r = ask(&fixture, "POST", "hello");
        int streamed = ask(&fixture, "GET", NULL);
        r = r < 0 ? r : streamed;
        faults_pause();
        assert_int_equal(ask(&fixture, "POST", "again"), 0); /* whatever happened before, both go on */
        faults_resume();
    }
    faults_pause();
    fixture_end(&fixture);
    faults_resume();
    return r;
}

UNIT_TEST(exchanges_end_whole_or_in_an_error) {
    static const bool plain = false, tls = true;
    TEST_FAULTS_ANY(exchange, &plain);
    TEST_FAULTS_ANY(exchange, &tls);
}

/* ---- certificates and digests ---- */

static int issue(__attribute__((unused)) void *context) {
    struct pki_pair authority = {0}, pair = {0};
    struct tls_context *tls = NULL;
    struct diag diag = DIAG_INIT;
    int r = pki_authority_new("authority", sys_wall_ns() / 1000000000, 10, &authority);
    if (r < 0)
        return r;
    struct pki_subject subject = {.common_name = "name",
                                  .organization = "group",
                                  .dns_names = (const char *const[]){"localhost", NULL},
                                  .ip_addresses = (const char *const[]){"127.0.0.1", NULL},
                                  .server = true,
                                  .now_s = sys_wall_ns() / 1000000000,
                                  .days = 10};
    r = pki_issue(&authority, &subject, &pair);
    if (r == 0) {
        faults_pause();
        char *key = slice_dup(secret_reveal(pair.key_pem));
        faults_resume();
        struct tls_options options = {.certificate_pem = pair.certificate_pem, .key_pem = key, .ca_pem = authority.certificate_pem, .server = true};
        r = tls_context_new(&options, &tls, &diag);
        free(key);
    }
    tls_context_unref(tls);
    pki_pair_deinit(&pair);
    pki_pair_deinit(&authority);
    return r;
}

UNIT_TEST(certificates) {
    TEST_FAULTS_ANY(issue, NULL);
}

static int setup(void **state) {
    (void)state;
    struct pki_pair authority, pair;
    struct diag diag = DIAG_INIT;
    int64_t now_s = sys_wall_ns() / 1000000000;
    struct pki_subject subject = {
        .common_name = "server", .ip_addresses = (const char *const[]){"127.0.0.1", NULL}, .server = true, .now_s = now_s, .days = 10};
    assert_int_equal(pki_authority_new("authority", now_s, 10, &authority), 0);
    assert_int_equal(pki_issue(&authority, &subject, &pair), 0);
    char *key = slice_dup(secret_reveal(pair.key_pem));
    assert_int_equal(
        tls_context_new(&(struct tls_options){.certificate_pem = pair.certificate_pem, .key_pem = key, .server = true}, &server_tls, &diag), 0);
    assert_int_equal(tls_context_new(&(struct tls_options){.ca_pem = authority.certificate_pem}, &client_tls, &diag), 0);
    free(key);
    pki_pair_deinit(&pair);
    pki_pair_deinit(&authority);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tls_context_unref(server_tls);
    tls_context_unref(client_tls);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(certificates), UNIT(exchanges_end_whole_or_in_an_error)};
    faults_skip_time(5);
    return cmocka_run_group_tests(tests, setup, teardown);
}

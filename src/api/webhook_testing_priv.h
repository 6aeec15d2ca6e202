/* A server for tests to call as a webhook: in the fixture's loop, on a port of its own, with a certificate of an authority of its own. */
#ifndef TIDEMILL_API_WEBHOOK_TESTING_PRIV_H
#define TIDEMILL_API_WEBHOOK_TESTING_PRIV_H

#include "api/api_testing_priv.h"

#include <netinet/in.h>

struct hook_server {
    struct pki_pair authority, pair;
    struct tls_context *tls;
    struct http_server *server;
    int fd, port;
    struct buffer ca; /* as caBundle has it */
};

static inline void hook_server_open(struct hook_server *hook, struct loop *loop, http_handler_fn *handler, void *userdata) {
    static const char *const ips[] = {"127.0.0.1", NULL};
    struct diag diag = DIAG_INIT;
    struct sys_address address;
    int64_t now = sys_wall_ns() / 1000000000;
    const struct pki_subject subject = {.common_name = "webhook", .ip_addresses = ips, .server = true, .now_s = now, .days = 10};
    assert_int_equal(pki_authority_new("authority of webhooks", now, 10, &hook->authority), 0);
    assert_int_equal(pki_issue(&hook->authority, &subject, &hook->pair), 0);
    CLEANUP(freep) char *key = slice_dup(secret_reveal(hook->pair.key_pem));
    const struct tls_options tls = {.certificate_pem = hook->pair.certificate_pem, .key_pem = key, .server = true};
    assert_int_equal(tls_context_new(&tls, &hook->tls, &diag), 0);
    assert_int_equal(sys_address_parse("127.0.0.1:0", &address), 0);
    hook->fd = sys_listen(&address, 16, 0600);
    address.len = sizeof address.storage;
    getsockname(hook->fd, (struct sockaddr *)&address.storage, &address.len);
    hook->port = ntohs(((const struct sockaddr_in *)(const void *)&address.storage)->sin_port);
    const struct http_server_options server = {.tls = hook->tls, .handler = handler, .userdata = userdata};
    assert_int_equal(http_server_new(loop, hook->fd, &server, &hook->server), 0);
    hook->ca = BUFFER_INIT(16 * KIB);
    base64_encode(&hook->ca, slice_of(hook->authority.certificate_pem));
}

static inline void hook_server_close(struct hook_server *hook) {
    http_server_free(hook->server);
    close(hook->fd);
    tls_context_unref(hook->tls);
    pki_pair_deinit(&hook->authority);
    pki_pair_deinit(&hook->pair);
    buffer_deinit(&hook->ca);
}

#endif

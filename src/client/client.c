/* Requests to a Kubernetes API: who one is (TLS, token, or the uid on a unix socket), one request, and what its answer means. */
#include <stdio.h>

#include "client/client.h"
#include "client/informer_priv.h"
#include "sys/sys.h"

#define ANSWER_BYTES_MAX (256 * MIB)

struct client {
    struct loop *loop;
    struct http_client *http;
};

static int make_tls(const struct client_options *options, struct tls_context **ret, struct diag *diag) {
    struct tls_options tls = {.certificate_pem = options->certificate_pem, .key_pem = options->key_pem, .ca_pem = options->ca_pem};
    return tls_context_new(&tls, ret, diag);
}

int client_new(struct loop *loop, const struct client_options *options, struct client **ret, struct diag *diag) {
    CLEANUP(freep) struct client *client = calloc(1, sizeof *client);
    CLEANUP(tls_context_unrefp) struct tls_context *tls = NULL;
    CLEANUP(buffer_deinit) struct buffer authorization = BUFFER_INIT(64 * KIB);
    if (!client)
        return -ENOMEM;
    client->loop = loop;
    bool secure = strncmp(options->endpoint, "https:", 6) == 0;
    int r = secure ? make_tls(options, &tls, diag) : 0;
    if (r < 0)
        return r;
    if (options->token)
        r = buffer_printf(&authorization, "Bearer %s", options->token);
    struct http_client_options http = {.endpoint = options->endpoint, .tls = tls, .authorization = authorization.data};
    if (r == 0)
        r = http_client_new(loop, &http, &client->http);
    if (authorization.data)
        explicit_bzero(authorization.data, authorization.len);
    if (r < 0)
        return diag_set(diag, r, "cannot use %s as the address of an API server: %s", options->endpoint, strerror(-r));
    *ret = TAKE(client);
    return 0;
}

void client_free(struct client *client) {
    if (!client)
        return;
    http_client_free(client->http);
    free(client);
}

struct loop *client_loop(struct client *client) {
    return client->loop;
}

struct http_client *client_http(struct client *client) {
    return client->http;
}

int client_request(struct client *client, const char *method, const char *target, const char *content_type, struct slice body,
                   http_answer_fn *on_answer, void *userdata) {
    static const struct http_field fields[] = {{"Accept", "application/json"}, {NULL, NULL}};
    int r = sys_point("send");
    if (r < 0)
        return r;
    struct http_request_options options = {.method = method,
                                           .target = target,
                                           .content_type = body.len == 0  ? NULL
                                                           : content_type ? content_type
                                                                          : "application/json",
                                           .body = body,
                                           .fields = fields,
                                           .body_max = ANSWER_BYTES_MAX};
    return http_client_send(client->http, &options, on_answer, userdata, NULL);
}

/* --- what an answer means --- */

static int error_of(int status, const char *reason) {
    switch (status) {
    case 400:
    case 422: return -EINVAL;
    case 401: return -EACCES;
    case 403: return -EPERM;
    case 404: return -ENOENT;
    case 409: return strcmp(reason, "AlreadyExists") == 0 ? -EEXIST : -EAGAIN;
    case 410: return -ESTALE;
    case 429:
    case 503: return -EBUSY;
    default: return -EIO;
    }
}

/* The field errors of a Status. */
static void take_causes(const struct tree *status, struct diag *diag) {
    const struct tree *causes = tree_path(status, "details.causes");
    for (size_t i = 0; i < tree_count(causes); i++) {
        const struct tree *cause = tree_at(causes, i);
        diag_cause(diag, tree_text_or(tree_find(cause, "reason"), ""), tree_text_or(tree_find(cause, "field"), ""), "%s",
                   tree_text_or(tree_find(cause, "message"), ""));
    }
}

int client_check(const struct http_answer *answer, struct diag *diag) {
    if (answer->error)
        return diag ? diag_set(diag, answer->error, "the API server did not answer: %s", strerror(-answer->error)) : answer->error;
    if (answer->status >= 200 && answer->status < 300)
        return 0;
    CLEANUP(arena_freep) struct arena *arena = arena_new(4 * MIB);
    struct tree *status = NULL;
    struct diag ignored = DIAG_INIT;
    if (!arena || json_parse(arena, slice_head(answer->body, MIB), NULL, &status, &ignored) < 0)
        status = NULL;
    const char *message = tree_text_or(tree_find(status, "message"), NULL);
    int error = error_of(answer->status, tree_text_or(tree_find(status, "reason"), ""));
    if (!diag)
        return error;
    take_causes(status, diag);
    if (message)
        return diag_set(diag, error, "%s", message);
    return diag_set(diag, error, "the API server answered %d %s", answer->status, http1_reason(answer->status));
}

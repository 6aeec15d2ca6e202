/* From a 401 to an Authorization header (distribution.github.io/distribution/spec/auth: token, oauth).
 *
 * 1. Credentials are those that were found for the registry's host; they go to that host, or to the token server that its challenge names, and there
 *    never over plain HTTP unless the registry itself is asked over plain HTTP. None follows a redirect of the token server: neither a header nor the
 *    form with a refresh token.
 * 2. A credential that is refused makes room for the next; none is asked twice in vain. After one has proved right, a 401 means that its token has
 *    ended.
 * 3. The lock is held all the while: of several connections one gets the token, the others find it there. */
#include <stdio.h>

#include "codec/codec.h"
#include "http/http.h"
#include "registry/hub_priv.h"
#include "sys/sys.h"

#define EXPIRES_DEFAULT_S 60
#define EXPIRES_MAX_S (24 * 3600)
#define TOKEN_REDIRECTS_MAX 3

bool hub_next_credential(struct endpoint *endpoint) {
    if (endpoint->credentials_at + 1 >= endpoint->credentials_count)
        return false;
    endpoint->credentials_at++;
    secret_free(TAKE(endpoint->authorization));
    endpoint->generation++;
    endpoint->proven = endpoint->used_credential = false;
    return true;
}

static const struct docker_credential *current(const struct endpoint *endpoint) {
    return endpoint->credentials_at < endpoint->credentials_count ? endpoint->credentials[endpoint->credentials_at] : NULL;
}

static int set_authorization(struct endpoint *endpoint, const char *scheme, struct slice value, int64_t expires_ns) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(HUB_TOKEN_BYTES_MAX + KIB);
    for (size_t i = 0; i < value.len; i++)
        if ((unsigned char)value.data[i] <= ' ' || value.data[i] == 0x7f)
            return -EPROTO; /* it would become another header */
    buffer_printf(&text, "Authorization: %s %.*s", scheme, SLICE_ARG(value));
    struct secret *authorization = buffer_error(&text) ? NULL : secret_new(buffer_slice(&text));
    if (text.data)
        explicit_bzero(text.data, text.len);
    if (!authorization)
        return -ENOMEM;
    secret_free(endpoint->authorization);
    endpoint->authorization = authorization;
    endpoint->expires_ns = expires_ns;
    endpoint->generation++;
    return 0;
}

static int format_basic(const struct docker_credential *credential, struct buffer *encoded) {
    CLEANUP(buffer_deinit) struct buffer pair = BUFFER_INIT(64 * KIB);
    struct slice password = secret_reveal(credential->password);
    buffer_printf(&pair, "%s:%.*s", credential->user, SLICE_ARG(password));
    int r = buffer_error(&pair) ? buffer_error(&pair) : base64_encode(encoded, buffer_slice(&pair));
    if (pair.data)
        explicit_bzero(pair.data, pair.len);
    return r;
}

/* --- tokens --- */

static int keep(void *userdata, struct slice bytes) {
    return buffer_append_slice(userdata, bytes);
}

static void append_scopes(const struct hub *hub, const struct endpoint *endpoint, const struct challenges *challenges, struct buffer *out) {
    CLEANUP(buffer_deinit) struct buffer own = BUFFER_INIT(KIB);
    buffer_printf(&own, "repository:%s%s:%s", endpoint->path, hub->name, hub->options.pushes ? "pull,push" : "pull");
    struct slice scopes = *challenges->scope ? slice_of(challenges->scope) : buffer_slice(&own);
    while (scopes.data) {
        buffer_append_text(out, "&scope=");
        percent_encode(out, slice_cut(&scopes, ' '));
    }
}

/* The token server's answer, beneath the hub's lock. The status; negative with diag. */
static int ask(struct hub_connection *connection, const struct endpoint *endpoint, const char *url, struct hub_call *call, struct slice basic,
               struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer target = BUFFER_INIT(HUB_URL_BYTES_MAX), authorization = BUFFER_INIT(128 * KIB);
    buffer_append_text(&target, url);
    if (basic.len)
        buffer_printf(&authorization, "Authorization: Basic %.*s", SLICE_ARG(basic));
    int r = buffer_error(&target) || buffer_error(&authorization) ? -EMSGSIZE : 0;
    for (int i = 0; r == 0 && i <= TOKEN_REDIRECTS_MAX; i++) {
        const struct transfer transfer = {.url = target.data,
                                          .authorization = i ? (struct slice){0} : buffer_slice(&authorization),
                                          .call = call,
                                          .plain = endpoint->is_plain && (!i || hub_is_lenient(endpoint, target.data)),
                                          .trusts_all = endpoint->trusts_all && (!i || hub_is_lenient(endpoint, target.data)),
                                          .ca = endpoint->ca};
        r = hub_transfer_run(connection, &transfer, diag);
        const char *next = r == 0 && call->status / 100 == 3 && !call->body.len ? hub_transfer_redirect(connection) : NULL;
        if (!next)
            break;
        buffer_reset(&target);
        r = buffer_append_text(&target, next);
    }
    if (authorization.data)
        explicit_bzero(authorization.data, authorization.len);
    return r < 0 ? r : call->status;
}

static int read_token(struct endpoint *endpoint, struct slice json) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct tree *root = NULL;
    if (!arena || json_parse(arena, json, NULL, &root, NULL) < 0)
        return -EPROTO;
    const char *token = tree_text_or(tree_find(root, "token"), "");
    if (!*token)
        token = tree_text_or(tree_find(root, "access_token"), "");
    int64_t seconds = MIN(MAX(tree_int_or(tree_find(root, "expires_in"), EXPIRES_DEFAULT_S), (int64_t)1), (int64_t)EXPIRES_MAX_S);
    seconds -= seconds > 20 ? 5 : 0; /* it takes a while to get there */
    return *token ? set_authorization(endpoint, "Bearer", slice_of(token), sys_monotonic_ns() + seconds * 1000000000) : -EPROTO;
}

static int fetch_token(struct hub_connection *connection, struct endpoint *endpoint, const struct challenges *challenges, struct diag *diag) {
    const struct docker_credential *credential = current(endpoint);
    CLEANUP(buffer_deinit)
    struct buffer url = BUFFER_INIT(HUB_URL_BYTES_MAX), query = BUFFER_INIT(HUB_TOKEN_BYTES_MAX), body = BUFFER_INIT(HUB_TOKEN_BYTES_MAX),
                  basic = BUFFER_INIT(128 * KIB);
    bool secure = strncmp(challenges->realm, "https://", 8) == 0;
    if (!secure && !(endpoint->is_plain && strncmp(challenges->realm, "http://", 7) == 0))
        return diag_set(diag, -EACCES, "%s names a token server that is not asked: \"%s\"", endpoint->host, challenges->realm);
    bool oauth = credential && credential->identity_token;
    buffer_append_text(&query, "service=");
    percent_encode(&query, slice_of(challenges->service));
    append_scopes(connection->hub, endpoint, challenges, &query);
    struct hub_call call = HUB_CALL(oauth ? "POST" : "GET", "");
    call.on_body = keep;
    call.userdata = &body;
    int r = 0;
    if (oauth) {
        buffer_append_text(&query, "&client_id=tidemill&grant_type=refresh_token&refresh_token=");
        percent_encode(&query, secret_reveal(credential->identity_token));
        call.body = buffer_slice(&query);
        call.content_type = "application/x-www-form-urlencoded";
        buffer_append_text(&url, challenges->realm);
    } else {
        buffer_printf(&url, "%s%c%.*s", challenges->realm, strchr(challenges->realm, '?') ? '&' : '?', SLICE_ARG(buffer_slice(&query)));
        r = credential && credential->password ? format_basic(credential, &basic) : 0;
    }
    r = r ? r : buffer_error(&url) ? buffer_error(&url) : buffer_error(&query);
    if (r < 0)
        return diag_set(diag, -EACCES, "%s asks for a token in a way that is not understood", endpoint->host);
    int status = ask(connection, endpoint, url.data, &call, buffer_slice(&basic), diag);
    if (oauth)
        explicit_bzero(query.data, query.len);
    if (status == 200 && read_token(endpoint, buffer_slice(&body)) == 0) {
        endpoint->used_credential = credential != NULL;
        return 0;
    }
    if (status == 200)
        return diag_set(diag, -EPROTO, "the token server of %s gave no token", endpoint->host);
    if (status == 429 || status >= 500)
        return diag_set(diag, -EIO, "the token server of %s answered with status %d", endpoint->host, status);
    return status < 0 ? status
                      : diag_set(diag, -EACCES, "%s refused a token for %s%s%s%s (status %d)", endpoint->host, connection->hub->name,
                                 *call.words ? " (" : "", call.words, *call.words ? ")" : "", status);
}

/* --- which way --- */

static int obtain(struct hub_connection *connection, struct endpoint *endpoint, const struct challenges *challenges, struct diag *diag) {
    const struct docker_credential *credential = current(endpoint);
    CLEANUP(buffer_deinit) struct buffer basic = BUFFER_INIT(128 * KIB);
    if (credential && credential->registry_token) {
        endpoint->used_credential = true;
        return set_authorization(endpoint, "Bearer", secret_reveal(credential->registry_token), INT64_MAX);
    }
    if (challenges->bearer)
        return fetch_token(connection, endpoint, challenges, diag);
    if (!challenges->basic || !credential || !credential->password)
        return diag_set(diag, -EACCES, "%s wants credentials for %s", endpoint->host, connection->hub->name);
    endpoint->used_credential = true;
    int r = format_basic(credential, &basic);
    r = r ? r : set_authorization(endpoint, "Basic", buffer_slice(&basic), INT64_MAX);
    if (basic.data)
        explicit_bzero(basic.data, basic.len);
    return r;
}

int hub_authenticate(struct hub_connection *connection, struct endpoint *endpoint, unsigned generation, struct diag *diag) {
    const struct challenges challenges = connection->challenges; /* the next transfer writes there */
    struct hub *hub = connection->hub;
    pthread_mutex_lock(&hub->lock);
    int r = 0;
    if (endpoint->generation == generation) {
        bool refused = endpoint->authorization && !endpoint->proven;
        if (refused && !hub_next_credential(endpoint))
            r = diag_set(diag, -EACCES, "%s refuses the credentials for %s", endpoint->host, hub->name);
        r = r ? r : obtain(connection, endpoint, &challenges, diag);
        while (r == -EACCES && hub_next_credential(endpoint))
            r = obtain(connection, endpoint, &challenges, diag);
    }
    pthread_mutex_unlock(&hub->lock);
    return r;
}

/* Bearer tokens of people and machines ("tm-…"). A token is 128+ random bits; the store keeps its SHA-256 only ("token/<hex>" → JSON with user,
 * groups, expiry), so that neither a stolen database nor a timing attack on the look-up gives one away. What one may do follows from its user and
 * groups, like everybody's. */
#include "api/api_priv.h"

#include "sys/sys.h"

#include <stdio.h>

#define TOKEN_PREFIX "token/"

int api_bearer_user(struct api *api, struct slice token, struct arena *arena, struct api_user *ret) {
    char key[sizeof TOKEN_PREFIX + 65] = TOKEN_PREFIX;
    digest_sha256_hex(token, key + sizeof TOKEN_PREFIX - 1);
    struct slice record = store_meta_get(api->store, slice_of(key));
    struct tree *tree = NULL;
    struct diag diag = DIAG_INIT;
    if (!record.data || json_parse(arena, record, NULL, &tree, &diag))
        return -EACCES;
    int64_t expires_s = tree_int_or(tree_find(tree, "expires"), 0);
    if (expires_s && expires_s <= loop_wall_ns(api->loop) / 1000000000)
        return -EACCES;
    const struct tree *list = tree_find(tree, "groups");
    const char **groups = ARENA_ARRAY(arena, const char *, tree_count(list) + 1);
    if (!groups)
        return -ENOMEM;
    for (size_t i = 0; i < tree_count(list); i++)
        groups[i] = tree_text_or(tree_at(list, i), "");
    return api_user_set(arena, tree_text_or(tree_find(tree, "user"), ""), groups, "system:authenticated", ret);
}

/* --- tokens that have expired go at start and whenever one is made --- */

#define TOKENS_PURGED_MAX 100 /* at a time */

struct purge {
    struct arena *arena;
    int64_t now_s;
    const char *keys[TOKENS_PURGED_MAX];
    size_t count;
};

static bool find_expired(void *userdata, struct slice key, struct slice value) {
    struct purge *purge = userdata;
    struct tree *record = NULL;
    struct diag diag = DIAG_INIT;
    if (json_parse(purge->arena, value, NULL, &record, &diag))
        return true;
    int64_t expires_s = tree_int_or(tree_find(record, "expires"), 0);
    char *copy = expires_s && expires_s <= purge->now_s ? arena_dup(purge->arena, key) : NULL;
    if (copy)
        purge->keys[purge->count++] = copy;
    return purge->count < TOKENS_PURGED_MAX;
}

void api_tokens_purge(struct api *api) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    struct purge purge = {.arena = arena, .now_s = loop_wall_ns(api->loop) / 1000000000};
    if (!arena)
        return;
    store_meta_list(api->store, SLICE(TOKEN_PREFIX), find_expired, &purge);
    for (size_t i = 0; i < purge.count; i++)
        store_meta_put(api->store, slice_of(purge.keys[i]), (struct slice){NULL, 0}, NULL, NULL);
}

int api_token_new(struct api *api, const char *user, const char *const *groups, int64_t expires_s, char ret[API_TOKEN_BYTES],
                  void (*on_done)(void *userdata, int error), void *userdata) {
    char token[API_TOKEN_BYTES] = "tm-";
    sys_random_name(token + 3, sizeof token - 4);
    char key[sizeof TOKEN_PREFIX + 65] = TOKEN_PREFIX;
    digest_sha256_hex(slice_of(token), key + sizeof TOKEN_PREFIX - 1);
    CLEANUP(buffer_deinit) struct buffer record = BUFFER_INIT(64 * KIB);
    buffer_append_text(&record, "{\"user\":");
    json_format_string(&record, slice_of(user));
    buffer_append_text(&record, ",\"groups\":[");
    for (size_t i = 0; groups && groups[i]; i++) {
        buffer_append_text(&record, i ? "," : "");
        json_format_string(&record, slice_of(groups[i]));
    }
    buffer_printf(&record, "],\"expires\":%" PRId64 "}", expires_s);
    if (buffer_error(&record))
        return buffer_error(&record);
    int error = store_meta_put(api->store, slice_of(key), buffer_slice(&record), on_done, userdata);
    if (error)
        return error;
    memcpy(ret, token, sizeof token);
    api_tokens_purge(api);
    return 0;
}

/* --- over HTTP: POST, GET and DELETE of /tidemill/tokens ---
 *
 * Whoever may impersonate a user and its groups may make a token for it; a token is named by the first letters of its digest. */

#define NAME_LEN 12 /* shown; enough to tell tokens apart, of no use for finding one */
#define TOKEN_GROUPS_MAX 64
#define TOKEN_SECONDS_MAX (INT64_C(1) << 32)

static void answer_new(struct request *request, const char *token, int64_t expires_s) {
    char digest[65];
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(4 * KIB);
    digest_sha256_hex(slice_of(token), digest);
    buffer_printf(&out, "{\"name\":\"%.*s\",\"token\":\"%s\",\"expires\":%" PRId64 "}\n", NAME_LEN, digest, token, expires_s);
    api_respond_json(request, 201, buffer_slice(&out));
    explicit_bzero(out.data, out.len);
}

struct new_token {
    struct request *request;
    int64_t expires_s;
    char token[API_TOKEN_BYTES];
};

static void on_stored(void *userdata, int error) {
    struct new_token *made = userdata;
    struct request *request = made->request;
    struct api_failure failure;
    if (error) {
        api_fail(&failure, 500, "InternalError", "the token could not be stored: %s", strerror(error < 0 ? -error : ENOSPC));
        api_respond_failure(request, &failure);
    } else {
        answer_new(request, made->token, made->expires_s);
    }
    explicit_bzero(made, sizeof *made);
    free(made);
    api_request_release(request);
}

static int make(struct request *request, const struct tree *asked, struct api_failure *failure) {
    const char *user = tree_text_or(tree_find(asked, "user"), ""), *groups[TOKEN_GROUPS_MAX + 1];
    const struct tree *list = tree_find(asked, "groups");
    int64_t seconds = tree_int_or(tree_find(asked, "expiresSeconds"), 0);
    size_t count = tree_count(list);
    if (!*user || strlen(user) > 253 || count > TOKEN_GROUPS_MAX || seconds < 0 || seconds > TOKEN_SECONDS_MAX)
        return api_fail_bad_request(failure, "a token needs \"user\", at most %d \"groups\", and \"expiresSeconds\" up to %" PRId64 ", or 0 for ever",
                                    TOKEN_GROUPS_MAX, TOKEN_SECONDS_MAX);
    for (size_t i = 0; i < count; i++)
        groups[i] = tree_text_or(tree_at(list, i), "");
    groups[count] = NULL;
    int code = api_check_impersonation(request, user, groups, failure);
    struct new_token *made = code ? NULL : calloc(1, sizeof *made);
    if (!made)
        return code ? code : api_fail_no_memory(failure);
    made->request = request;
    made->expires_s = seconds ? loop_wall_ns(request->api->loop) / 1000000000 + seconds : 0;
    api_request_hold(request);
    if (!api_token_new(request->api, user, groups, made->expires_s, made->token, on_stored, made))
        return 0;
    free(made);
    api_fail_no_memory(failure);
    api_respond_failure(request, failure);
    api_request_release(request);
    return 0;
}

static void on_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    (void)exchange;
    api_body_act(userdata, body, false, make);
}

static bool put_token(void *userdata, struct slice key, struct slice value) {
    struct buffer *out = userdata;
    struct slice digest = slice_from(key, sizeof TOKEN_PREFIX - 1);
    buffer_printf(out, "%s{\"name\":\"%.*s\",", out->data[out->len - 1] == '[' ? "" : ",", NAME_LEN, digest.data);
    return buffer_append_slice(out, slice_from(value, 1)) == 0;
}

static void list_tokens(struct request *request) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(16 * MIB);
    struct api_failure failure;
    buffer_append_text(&out, "{\"tokens\":[");
    if (!buffer_error(&out))
        store_meta_list(request->api->store, SLICE(TOKEN_PREFIX), put_token, &out);
    if (buffer_append_text(&out, "]}\n")) {
        api_fail_no_memory(&failure);
        api_respond_failure(request, &failure);
    } else {
        api_respond_json(request, 200, buffer_slice(&out));
    }
}

static bool keep_key(void *userdata, struct slice key, struct slice value) {
    (void)value;
    snprintf(userdata, sizeof TOKEN_PREFIX + 65, "%.*s", SLICE_ARG(key));
    return false;
}

static void on_revoked(void *userdata, int error) {
    struct request *request = userdata;
    struct api_failure failure;
    if (error) {
        api_fail(&failure, 500, "InternalError", "the store could not write");
        api_respond_failure(request, &failure);
    } else {
        api_respond_json(request, 200, SLICE("{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Success\"}\n"));
    }
    api_request_release(request);
}

static void revoke_token(struct request *request) {
    char key[sizeof TOKEN_PREFIX + 65] = "", prefix[sizeof TOKEN_PREFIX + NAME_LEN + 1];
    struct api_failure failure;
    if (strlen(request->route.name) == NAME_LEN) {
        snprintf(prefix, sizeof prefix, TOKEN_PREFIX "%s", request->route.name);
        store_meta_list(request->api->store, slice_of(prefix), keep_key, key);
    }
    api_request_hold(request);
    if (*key && !store_meta_put(request->api->store, slice_of(key), (struct slice){NULL, 0}, on_revoked, request))
        return;
    api_fail(&failure, 404, "NotFound", "there is no token \"%.40s\"", request->route.name);
    api_respond_failure(request, &failure);
    api_request_release(request);
}

void api_serve_tokens(struct request *request) {
    struct api_failure failure;
    bool named = *request->route.name;
    struct slice method = http_method(request->exchange);
    if (!named && slice_is(method, "POST")) {
        http_read_body(request->exchange, 64 * KIB, on_body, request);
    } else if (!named && slice_is(method, "GET")) {
        list_tokens(request);
    } else if (named && slice_is(method, "DELETE")) {
        revoke_token(request);
    } else {
        api_fail(&failure, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
        api_respond_failure(request, &failure);
    }
}

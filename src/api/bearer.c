/* Bearer tokens of people and machines ("tm-…"). A token is 128+ random bits; the store keeps its SHA-256 only ("token/<hex>" → JSON with user,
 * groups, expiry), so that neither a stolen database nor a timing attack on the look-up gives one away. What one may do follows from its user and
 * groups, like everybody's. */
#include "api/api_priv.h"

#include "sys/sys.h"

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

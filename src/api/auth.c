/* Who is asking, and may they.
 *
 * Identity comes from, in this order: a bearer token, a verified client certificate (common name = user, organizations = groups), the uid of a unix
 * socket's peer. Nothing of these: system:anonymous. A wrong token is refused outright (401) rather than degraded, so that a typing mistake is told
 * as such. Tokens are 128+ random bits; the store keeps their SHA-256 only ("token/<hex>" → JSON with user, groups, expiry), so that neither a stolen
 * database nor a timing attack on the lookup gives one away.
 *
 * Rights are one table below, by group. RBAC objects are stored but not yet consulted: whoever is not in the table may nothing. */
#include "api/api_priv.h"

#include "sys/sys.h"

#include <stdio.h>

#define TOKEN_PREFIX "token/"

enum { GET = 1, LIST = 2, WATCH = 4, CREATE = 8, UPDATE = 16, PATCH = 32, DELETE = 64, READ = GET | LIST | WATCH, ALL = 127 };

struct rule {
    const char *to; /* the user's group */
    unsigned verbs;
    const char *group;    /* API group; "*" any */
    const char *resource; /* "*": any, with all subresources; otherwise the resource alone, since reading `pods` must not mean `pods/exec` */
};

static const struct rule rules[] = {
    {"system:masters", ALL, "*", "*"},
    {"system:tidemill", READ, "*", "*"},
    {"system:tidemill", ALL, "", "*"},
    {"system:tidemill", ALL, "apps", "*"},
    {"system:tidemill", ALL, "batch", "*"},
    {"system:tidemill", ALL, "autoscaling", "*"},
    {"system:tidemill", ALL, "networking.k8s.io", "*"},
    {"system:tidemill", ALL, "discovery.k8s.io", "*"},
    {"system:tidemill", ALL, "policy", "*"},
    {"system:tidemill", ALL, "coordination.k8s.io", "*"},
    {"system:tidemill", ALL, "events.k8s.io", "*"},
    {"system:gateway", READ, "networking.k8s.io", "ingresses"},
    {"system:gateway", READ, "networking.k8s.io", "ingressclasses"},
    {"system:gateway", READ, "discovery.k8s.io", "endpointslices"},
    {"system:gateway", READ, "", "services"},
    {"system:gateway", READ, "", "endpoints"},
    {"system:gateway", READ, "", "pods"},
    {"system:gateway", READ, "", "nodes"},
    {"system:authenticated", CREATE, "authorization.k8s.io", "selfsubjectaccessreviews"},
    {"system:authenticated", CREATE, "authorization.k8s.io", "selfsubjectrulesreviews"},
    {"system:authenticated", CREATE, "authentication.k8s.io", "selfsubjectreviews"},
};

static const struct {
    const char *to;
    const char *path; /* with a trailing '*': a prefix */
} path_rules[] = {
    {"system:masters", "*"},
    {"system:tidemill", "*"},
    {"system:unauthenticated", "/version"},
    {"system:unauthenticated", "/healthz*"},
    {"system:unauthenticated", "/livez*"},
    {"system:unauthenticated", "/readyz*"},
    {"system:authenticated", "/version"},
    {"system:authenticated", "/healthz*"},
    {"system:authenticated", "/livez*"},
    {"system:authenticated", "/readyz*"},
    {"system:authenticated", "/api*"},
    {"system:authenticated", "/openapi*"},
    {"system:authenticated", "/"},
};

static const struct {
    const char *verb;
    unsigned bit;
} verb_bits[] = {
    {"get", GET},       {"list", LIST},   {"watch", WATCH},   {"create", CREATE},
    {"update", UPDATE}, {"patch", PATCH}, {"delete", DELETE}, {"deletecollection", DELETE},
};

static bool in_group(const struct api_user *user, const char *group) {
    for (size_t i = 0; user->groups[i]; i++)
        if (!strcmp(user->groups[i], group))
            return true;
    return false;
}

static bool path_matches(const char *pattern, const char *path) {
    size_t len = strlen(pattern);
    if (len && pattern[len - 1] == '*')
        return !strncmp(pattern, path, len - 1);
    return !strcmp(pattern, path);
}

static bool authorize_path(const struct api_user *user, const char *path) {
    for (size_t i = 0; i < ARRAY_LEN(path_rules); i++)
        if (path_matches(path_rules[i].path, path) && in_group(user, path_rules[i].to))
            return true;
    return false;
}

static bool is_or_any(const char *pattern, const char *value) {
    return !strcmp(pattern, "*") || !strcmp(pattern, value ? value : "");
}

static bool rule_fits(const struct rule *rule, unsigned bit, const struct api_access *access) {
    bool sub = access->subresource && *access->subresource;
    if (!(rule->verbs & bit) && !(rule->verbs == ALL && !bit))
        return false;
    if (sub && strcmp(rule->resource, "*"))
        return false;
    return is_or_any(rule->group, access->group) && is_or_any(rule->resource, access->resource);
}

bool api_authorize(const struct api_user *user, const struct api_access *access) {
    if (access->path)
        return authorize_path(user, access->path);
    unsigned bit = 0;
    for (size_t i = 0; i < ARRAY_LEN(verb_bits); i++)
        if (!strcmp(verb_bits[i].verb, access->verb))
            bit = verb_bits[i].bit;
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (rule_fits(&rules[i], bit, access) && in_group(user, rules[i].to))
            return true;
    return false;
}

/* --- identity --- */

/* The user with its groups and `last` appended. */
static int set_user(struct arena *arena, const char *name, const char *const *groups, const char *last, struct api_user *ret) {
    size_t count = 0;
    while (groups && groups[count])
        count++;
    const char **all = ARENA_ARRAY(arena, const char *, count + 2);
    char *copy = arena_strdup(arena, name);
    if (!all || !copy)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        if (!(all[i] = arena_strdup(arena, groups[i])))
            return -ENOMEM;
    all[count] = last;
    *ret = (struct api_user){.name = copy, .groups = all};
    return 0;
}

static int user_of_token(struct api *api, struct slice token, struct arena *arena, struct api_user *ret) {
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
    return set_user(arena, tree_text_or(tree_find(tree, "user"), ""), groups, "system:authenticated", ret);
}

static int user_of_uid(struct api *api, uid_t uid, struct arena *arena, struct api_user *ret) {
    for (const struct api_unix_user *it = api->options.unix_users; it && it->name; it++) {
        const char *groups[] = {it->group, NULL};
        if (it->uid == uid)
            return set_user(arena, it->name, groups, "system:authenticated", ret);
    }
    return set_user(arena, "system:anonymous", NULL, "system:unauthenticated", ret);
}

int api_authenticate(struct api *api, struct http_exchange *exchange, struct arena *arena, struct api_user *ret) {
    struct slice authorization = http_header(exchange, "Authorization");
    struct slice scheme = slice_head(authorization, 7);
    if (slice_equal_nocase(scheme, SLICE("Bearer ")))
        return user_of_token(api, slice_trim(slice_from(authorization, 7)), arena, ret);
    const struct http_peer *peer = http_exchange_peer(exchange);
    if (peer->certificate_common_name)
        return set_user(arena, peer->certificate_common_name, peer->certificate_organizations, "system:authenticated", ret);
    if (peer->is_unix)
        return user_of_uid(api, peer->uid, arena, ret);
    return set_user(arena, "system:anonymous", NULL, "system:unauthenticated", ret);
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

/* --- of a request --- */

bool api_access_of_request(const struct request *request, struct api_access *ret) {
    const struct api_route *route = &request->route;
    *ret = (struct api_access){.verb = request->verb};
    if (route->type != ROUTE_RESOURCE) {
        struct slice path = http_path(request->exchange);
        ret->path = arena_dup(request->arena, path);
        return ret->path != NULL;
    }
    ret->group = route->group;
    ret->resource = route->plural;
    ret->subresource = route->subresource;
    ret->namespace = route->namespace;
    ret->name = route->name;
    return true;
}

void api_respond_forbidden(struct request *request, const struct api_access *access) {
    struct api_failure failure;
    const char *user = request->user.name;
    if (access->path || !access->resource) {
        api_fail(&failure, 403, "Forbidden", "forbidden: User \"%s\" cannot %s path \"%s\"", user, access->verb, access->path ? access->path : "");
        api_respond_failure(request, &failure);
        return;
    }
    char where[400];
    if (*access->namespace)
        snprintf(where, sizeof where, "in the namespace \"%s\"", access->namespace);
    else
        snprintf(where, sizeof where, "at the cluster scope");
    bool sub = *access->subresource, named = *access->name;
    api_fail(&failure, 403, "Forbidden", "%s%s%s%s%s%s is forbidden: User \"%s\" cannot %s resource \"%s%s%s\" in API group \"%s\" %s",
             access->resource, *access->group ? "." : "", access->group, named ? " \"" : "", named ? access->name : "", named ? "\"" : "", user,
             access->verb, access->resource, sub ? "/" : "", access->subresource, access->group, where);
    snprintf(failure.resource, sizeof failure.resource, "%s", access->resource);
    snprintf(failure.group, sizeof failure.group, "%s", access->group);
    snprintf(failure.name, sizeof failure.name, "%s", access->name);
    api_respond_failure(request, &failure);
}

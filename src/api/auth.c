/* Who is asking.
 *
 * Identity comes from, in this order: a bearer token, a verified client certificate (common name = user, organizations = groups), the uid of a unix
 * socket's peer. Nothing of these: system:anonymous. A wrong token is refused outright (401) rather than degraded, so that a typing mistake is told
 * as such. What looks like neither of our tokens (bearer.c, account_token.c) costs no look-up.
 *
 * Who may impersonate (Impersonate-User, -Group, -Uid, -Extra-*) then is the other one for the rest of the request; who it really was stays known to
 * the audit log. Each of the values needs the verb `impersonate` on it, as upstream has it. */
#include "api/api_priv.h"

#include <stdio.h>

/* --- identity --- */

/* The user with its groups and `last` appended. */
int api_user_set(struct arena *arena, const char *name, const char *const *groups, const char *last, struct api_user *ret) {
    size_t count = 0;
    while (groups && groups[count] && count < API_GROUPS_MAX)
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
    if (slice_starts(token, SLICE("tm-")))
        return api_bearer_user(api, token, arena, ret);
    return api_account_user(api, token, NULL, arena, ret, NULL);
}

static int user_of_uid(struct api *api, uid_t uid, struct arena *arena, struct api_user *ret) {
    for (const struct api_unix_user *it = api->options.unix_users; it && it->name; it++) {
        const char *groups[] = {it->group, NULL};
        if (it->uid == uid)
            return api_user_set(arena, it->name, groups, "system:authenticated", ret);
    }
    return api_user_set(arena, "system:anonymous", NULL, "system:unauthenticated", ret);
}

int api_authenticate(struct api *api, struct http_exchange *exchange, struct arena *arena, struct api_user *ret) {
    struct slice authorization = http_header(exchange, "Authorization");
    struct slice scheme = slice_head(authorization, 7);
    if (slice_equal_nocase(scheme, SLICE("Bearer ")))
        return user_of_token(api, slice_trim(slice_from(authorization, 7)), arena, ret);
    const struct http_peer *peer = http_exchange_peer(exchange);
    if (peer->certificate_common_name && *peer->certificate_common_name)
        return api_user_set(arena, peer->certificate_common_name, peer->certificate_organizations, "system:authenticated", ret);
    if (peer->is_unix)
        return user_of_uid(api, peer->uid, arena, ret);
    return api_user_set(arena, "system:anonymous", NULL, "system:unauthenticated", ret);
}

/* --- impersonation --- */

#define USER_HEADER "Impersonate-User"
#define GROUP_HEADER "Impersonate-Group"
#define UID_HEADER "Impersonate-Uid"
#define EXTRA_HEADER "Impersonate-Extra-"

/* What the headers ask for. */
struct wanted {
    const char *user, *uid;
    const char *groups[HTTP_HEADERS_MAX + 1];
    size_t groups_count;
    struct {
        const char *key, *value;
    } extra[HTTP_HEADERS_MAX];
    size_t extra_count;
};

static char *lower_key(struct arena *arena, struct slice raw) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(HTTP_HEAD_BYTES_MAX);
    if (percent_decode(&text, raw, false))
        return arena_dup(arena, raw);
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] >= 'A' && text.data[i] <= 'Z')
            text.data[i] = (char)(text.data[i] - 'A' + 'a');
    return arena_dup(arena, buffer_slice(&text));
}

static int read_headers(struct request *request, struct wanted *ret) {
    struct http_exchange *exchange = request->exchange;
    struct arena *arena = request->arena;
    size_t count = http_header_count(exchange), prefix = sizeof EXTRA_HEADER - 1;
    for (size_t i = 0; i < count; i++) {
        struct slice name, value;
        http_header_at(exchange, i, &name, &value);
        if (!slice_equal_nocase(slice_head(name, 12), SLICE("Impersonate-")))
            continue;
        char *copy = arena_dup(arena, value);
        if (!copy)
            return -ENOMEM;
        if (slice_equal_nocase(name, SLICE(USER_HEADER)))
            ret->user = copy;
        else if (slice_equal_nocase(name, SLICE(UID_HEADER)))
            ret->uid = copy;
        else if (slice_equal_nocase(name, SLICE(GROUP_HEADER)))
            ret->groups[ret->groups_count++] = copy;
        else if (slice_equal_nocase(slice_head(name, prefix), SLICE(EXTRA_HEADER)) &&
                 !(ret->extra[ret->extra_count].key = lower_key(arena, slice_from(name, prefix))))
            return -ENOMEM;
        else if (ret->extra[ret->extra_count].key)
            ret->extra[ret->extra_count++].value = copy;
    }
    return 0;
}

static int check(struct request *request, struct api_access *access, struct api_failure *failure) {
    char reason[API_REASON_BYTES];
    access->verb = "impersonate";
    if (api_authorize(request->api, &request->user, access, reason))
        return 0;
    return api_fail_access(failure, &request->user, access, reason);
}

/* "system:serviceaccount:NAMESPACE:NAME" → its two parts, in the arena. */
static bool split_account(struct arena *arena, const char *user, const char **ret_namespace, const char **ret_name) {
    struct slice rest = slice_of(user);
    if (!slice_starts(rest, SLICE("system:serviceaccount:")))
        return false;
    rest = slice_from(rest, sizeof "system:serviceaccount:" - 1);
    struct slice namespace = slice_cut(&rest, ':');
    if (!name_is_dns_label(namespace) || !name_is_dns_subdomain(rest))
        return false;
    *ret_namespace = arena_dup(arena, namespace);
    *ret_name = arena_dup(arena, rest);
    return *ret_namespace && *ret_name;
}

static int check_all(struct request *request, const struct wanted *wanted, const char *namespace, const char *account, struct api_failure *failure) {
    struct api_access user = {.resource = account ? "serviceaccounts" : "users", .namespace = namespace, .name = account ? account : wanted->user};
    int code = check(request, &user, failure);
    for (size_t i = 0; i < wanted->groups_count && !code; i++) {
        struct api_access group = {.resource = "groups", .name = wanted->groups[i]};
        code = check(request, &group, failure);
    }
    if (!code && wanted->uid) {
        struct api_access uid = {.group = "authentication.k8s.io", .resource = "uids", .name = wanted->uid};
        code = check(request, &uid, failure);
    }
    for (size_t i = 0; i < wanted->extra_count && !code; i++) {
        struct api_access extra = {
            .group = "authentication.k8s.io", .resource = "userextras", .subresource = wanted->extra[i].key, .name = wanted->extra[i].value};
        code = check(request, &extra, failure);
    }
    return code;
}

int api_check_impersonation(struct request *request, const char *user, const char *const *groups, struct api_failure *failure) {
    struct wanted wanted = {.user = user};
    const char *namespace = NULL, *account = NULL;
    while (groups[wanted.groups_count] && wanted.groups_count < HTTP_HEADERS_MAX) {
        wanted.groups[wanted.groups_count] = groups[wanted.groups_count];
        wanted.groups_count++;
    }
    split_account(request->arena, user, &namespace, &account);
    return check_all(request, &wanted, namespace, account, failure);
}

/* One entry a key, in order of first appearance. */
static int set_extra(struct arena *arena, const struct wanted *wanted, struct api_user *user) {
    struct kube_strings_map *extra = &user->extra;
    extra->items = ARENA_ARRAY(arena, struct kube_strings_pair, wanted->extra_count + 1);
    for (size_t i = 0; extra->items && i < wanted->extra_count; i++) {
        size_t at = 0;
        while (at < extra->count && strcmp(extra->items[at].key, wanted->extra[i].key))
            at++;
        struct kube_string_list *list = &extra->items[at].value;
        if (at == extra->count) {
            extra->items[extra->count++].key = wanted->extra[i].key;
            if (!(list->items = ARENA_ARRAY(arena, const char *, wanted->extra_count)))
                return -ENOMEM;
        }
        list->items[list->count++] = wanted->extra[i].value;
    }
    return extra->items ? 0 : -ENOMEM;
}

static int become(struct request *request, struct wanted *wanted, const char *namespace) {
    struct arena *arena = request->arena;
    struct api_user user;
    bool anonymous = !strcmp(wanted->user, "system:anonymous"), said = false;
    for (size_t i = 0; i < wanted->groups_count; i++)
        said = said || !strcmp(wanted->groups[i], "system:authenticated") || !strcmp(wanted->groups[i], "system:unauthenticated");
    if (namespace && !wanted->groups_count) {
        wanted->groups[wanted->groups_count++] = "system:serviceaccounts";
        wanted->groups[wanted->groups_count++] = arena_printf(arena, "system:serviceaccounts:%s", namespace);
    }
    const char *last = said ? NULL : anonymous ? "system:unauthenticated" : "system:authenticated";
    int error = api_user_set(arena, wanted->user, wanted->groups, last, &user);
    error = error ? error : set_extra(arena, wanted, &user);
    if (error)
        return error;
    user.uid = wanted->uid;
    request->impersonator = request->user;
    request->impersonated = true;
    request->user = user;
    return 0;
}

int api_impersonate(struct request *request, struct api_failure *failure) {
    struct wanted wanted = {.user = NULL};
    const char *namespace = NULL, *account = NULL;
    if (read_headers(request, &wanted))
        return api_fail_no_memory(failure);
    if (!wanted.user && !wanted.uid && !wanted.groups_count && !wanted.extra_count)
        return 0;
    if (!wanted.user || !*wanted.user)
        return api_fail(failure, 500, "InternalError",
                        "Internal error occurred: requested groups, a uid or extra fields without impersonating a user");
    split_account(request->arena, wanted.user, &namespace, &account);
    int code = check_all(request, &wanted, namespace, account, failure);
    return code ? code : become(request, &wanted, namespace) ? api_fail_no_memory(failure) : 0;
}

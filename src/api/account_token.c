/* Service account tokens: JSON Web Tokens that the API signs (TokenRequest, KEP-1205) and takes as a proof of identity.
 *
 *   bound tokens    `iss` is this cluster, `aud` says who may take it, `exp` when it ends; `kubernetes.io` names the account and the pod, secret or
 *                   node that it is bound to, by uid
 *   legacy tokens   of secrets of type kubernetes.io/service-account-token: no audience, no end; flat claims name the account and the secret
 *
 * 1. A signature says only that we made it. On every use the account, and what the token is bound to, must still be there with that uid: deleting a
 * pod, secret or account ends its tokens at once.
 * 2. The order is from cheap to dear: form, header, key id, then the signature; and a signature that was found good is remembered by the token's
 * digest, so that a busy client pays for it once. Wrong ones are not remembered: they cannot push out good ones.
 * 3. Tokens are written nowhere: not to the store, not to a log. */
#include "api/api_priv.h"

#include "sys/sys.h"

#include <stdio.h>

#define ISSUER "https://kubernetes.default.svc.cluster.local"
#define LEGACY_ISSUER "kubernetes/serviceaccount"
#define LEGACY "kubernetes.io/serviceaccount/"
#define EXPIRES_DEFAULT_S 3600
#define EXPIRES_MIN_S 600
#define EXPIRES_MAX_S (INT64_C(1) << 32)
#define CACHE_ENTRIES 64
#define CLAIMS_BYTES_MAX (8 * KIB)
#define AUDIENCES_MAX 50

const char *const api_own_audiences[] = {ISSUER, NULL};

/* --- signatures that were found good --- */

struct token_cache {
    struct {
        char digest[65];
        char *claims;
    } entries[CACHE_ENTRIES];
};

void api_token_cache_free(struct api *api) {
    for (size_t i = 0; api->token_cache && i < CACHE_ENTRIES; i++)
        free(api->token_cache->entries[i].claims);
    free(api->token_cache);
    api->token_cache = NULL;
}

static void remember(struct api *api, size_t slot, const char digest[65], struct slice claims) {
    if (!api->token_cache && !(api->token_cache = calloc(1, sizeof *api->token_cache)))
        return;
    char *copy = slice_dup(claims);
    if (!copy)
        return;
    free(api->token_cache->entries[slot].claims);
    api->token_cache->entries[slot].claims = copy;
    memcpy(api->token_cache->entries[slot].digest, digest, sizeof api->token_cache->entries[slot].digest);
}

/* The claims of a token that we signed. */
static int read_claims(struct api *api, struct slice token, struct arena *arena, struct tree **ret) {
    char digest[65];
    CLEANUP(buffer_deinit) struct buffer claims = BUFFER_INIT(CLAIMS_BYTES_MAX);
    struct diag diag = DIAG_INIT;
    digest_sha256_hex(token, digest);
    size_t slot = (size_t)slice_hash(slice_of(digest)) % CACHE_ENTRIES;
    const char *known = api->token_cache && !strcmp(api->token_cache->entries[slot].digest, digest) ? api->token_cache->entries[slot].claims : NULL;
    int error = known ? buffer_append_text(&claims, known) : jwt_verify(api->options.token_keys, token, &claims);
    if (error)
        return error == -ENOMEM ? error : -EACCES;
    if (!known)
        remember(api, slot, digest, buffer_slice(&claims));
    error = json_parse(arena, buffer_slice(&claims), NULL, ret, &diag);
    return error == -ENOMEM ? error : error ? -EACCES : 0;
}

/* --- what the claims must fulfil --- */

struct checking {
    struct api *api;
    struct arena *arena;
    const struct tree *claims;
    const char *namespace;
    struct kube_strings_map *extra;
    char *message; /* of the answer; the size of its message */
    size_t size;
};

static int refuse(struct checking *checking, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int refuse(struct checking *checking, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (checking->message)
        vsnprintf(checking->message, checking->size, format, args);
    va_end(args);
    return -EACCES;
}

static const char *flat(const struct tree *claims, const char *name) {
    char key[100];
    snprintf(key, sizeof key, LEGACY "%s", name);
    return tree_text_or(tree_find(claims, key), "");
}

/* An object that must be there, with that uid. *ret is to be unref'd. */
static int check_object(struct checking *checking, const struct kube_kind *kind, const char *namespace, const char *name, const char *uid,
                        struct kube_object **ret) {
    struct kube_object *object = *name ? api_stored_get(checking->api, kind, namespace, name) : NULL;
    const char *seen = object && object->metadata->uid ? object->metadata->uid : "";
    if (object && !strcmp(seen, uid)) {
        *ret = object;
        return 0;
    }
    kube_object_unref(object);
    if (kind != &kube_kind_service_account)
        return refuse(checking, "service account token has been invalidated");
    if (!object)
        return refuse(checking, "serviceaccounts \"%.100s\" not found", name);
    return refuse(checking, "service account UID (%.40s) does not match claim (%.40s)", seen, uid);
}

static int add_extra(struct checking *checking, const char *key, const char *value) {
    struct kube_strings_map *extra = checking->extra;
    const char **items = ARENA_ARRAY(checking->arena, const char *, 1);
    if (!items || !(items[0] = arena_strdup(checking->arena, value)))
        return -ENOMEM;
    extra->items[extra->count++] = (struct kube_strings_pair){key, {items, 1}};
    return 0;
}

#define EXTRA_MAX 8

/* What a bound token is bound to besides its account; each is told among the extra fields, as upstream does. */
static int check_bound(struct checking *checking, const struct tree *own) {
    static const struct {
        const char *claim;
        const struct kube_kind *kind;
        const char *name_key, *uid_key; /* NULL: not told */
        bool checked;                   /* a pod's node may go while its pods are being deleted */
    } bounds[] = {
        {"node", &kube_kind_node, "authentication.kubernetes.io/node-name", "authentication.kubernetes.io/node-uid", false},
        {"pod", &kube_kind_pod, "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid", true},
        {"secret", &kube_kind_secret, NULL, NULL, true},
    };
    const char *id = tree_text_or(tree_find(checking->claims, "jti"), "");
    char *credential = *id ? arena_printf(checking->arena, "JTI=%s", id) : NULL;
    int error = credential ? add_extra(checking, "authentication.kubernetes.io/credential-id", credential) : 0;
    for (size_t i = 0; i < ARRAY_LEN(bounds) && !error; i++) {
        const struct tree *bound = tree_find(own, bounds[i].claim);
        const char *name = tree_text_or(tree_find(bound, "name"), ""), *uid = tree_text_or(tree_find(bound, "uid"), "");
        bool checked = bounds[i].checked || !tree_find(own, "pod");
        if (!bound)
            continue;
        CLEANUP(kube_object_unrefp) struct kube_object *object = NULL;
        error = checked ? check_object(checking, bounds[i].kind, checking->namespace, name, uid, &object) : 0;
        if (!error && bounds[i].name_key)
            error = add_extra(checking, bounds[i].name_key, name);
        if (!error && bounds[i].uid_key && *uid)
            error = add_extra(checking, bounds[i].uid_key, uid);
    }
    return error;
}

static int check_time(struct checking *checking) {
    int64_t now_s = loop_wall_ns(checking->api->loop) / 1000000000;
    if (tree_int_or(tree_find(checking->claims, "exp"), 0) <= now_s)
        return refuse(checking, "service account token has expired");
    if (tree_int_or(tree_find(checking->claims, "nbf"), 0) > now_s)
        return refuse(checking, "service account token is not valid yet");
    return 0;
}

/* The token's audiences among those that are asked for, in *ret. */
static int check_audience(struct checking *checking, const char *const *wanted, const char ***ret) {
    const struct tree *list = tree_find(checking->claims, "aud");
    size_t count = 0, found = 0;
    while (wanted[count])
        count++;
    const char **both = ARENA_ARRAY(checking->arena, const char *, count + 1);
    if (!both)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < tree_count(list); j++)
            if (!strcmp(tree_text_or(tree_at(list, j), ""), wanted[i]) && (!found || both[found - 1] != wanted[i]))
                both[found++] = wanted[i];
    if (!found)
        return refuse(checking, "token audiences are invalid for the target audiences");
    *ret = both;
    return 0;
}

static int set_user(struct checking *checking, const char *name, const char *uid, struct api_user *ret) {
    char *user = arena_printf(checking->arena, "system:serviceaccount:%s:%s", checking->namespace, name);
    char *group = arena_printf(checking->arena, "system:serviceaccounts:%s", checking->namespace);
    const char *groups[] = {"system:serviceaccounts", group, NULL};
    char *copy = arena_strdup(checking->arena, uid);
    const struct kube_strings_map extra = *checking->extra;
    if (!user || !group || !copy || api_user_set(checking->arena, user, groups, "system:authenticated", ret))
        return -ENOMEM;
    ret->uid = copy;
    ret->extra = extra;
    return 0;
}

static int check_account(struct checking *checking, const char *name, const char *uid, struct api_user *ret) {
    CLEANUP(kube_object_unrefp) struct kube_object *account = NULL;
    int error = check_object(checking, &kube_kind_service_account, checking->namespace, name, uid, &account);
    return error ? error : set_user(checking, name, uid, ret);
}

static int check_modern(struct checking *checking, const char *const *audiences, struct api_user *ret, const char ***ret_audiences) {
    const struct tree *own = tree_find(checking->claims, "kubernetes.io"), *account = tree_find(own, "serviceaccount");
    checking->namespace = tree_text_or(tree_find(own, "namespace"), "");
    int error = check_time(checking);
    error = error ? error : check_audience(checking, audiences, ret_audiences);
    error = error ? error : check_bound(checking, own);
    return error ? error : check_account(checking, tree_text_or(tree_find(account, "name"), ""), tree_text_or(tree_find(account, "uid"), ""), ret);
}

/* It must be the very token that the secret holds. */
static int check_legacy(struct checking *checking, struct slice token, struct api_user *ret) {
    checking->namespace = flat(checking->claims, "namespace");
    const char *secret_name = flat(checking->claims, "secret.name");
    CLEANUP(kube_object_unrefp)
    struct kube_object *secret = *secret_name ? api_stored_get(checking->api, &kube_kind_secret, checking->namespace, secret_name) : NULL;
    const struct kube_bytes_map *data = secret ? &secret->secret->data : NULL;
    for (size_t i = 0; data && i < data->count; i++)
        if (!strcmp(data->items[i].key, "token") && secret_equal(data->items[i].value, token))
            return check_account(checking, flat(checking->claims, "service-account.name"), flat(checking->claims, "service-account.uid"), ret);
    return refuse(checking, "service account token has been invalidated");
}

int api_account_user(struct api *api, struct slice token, const char *const *audiences, struct arena *arena, struct api_user *ret,
                     struct account_answer *ret_answer) {
    struct tree *claims = NULL;
    struct kube_strings_map extra = {ARENA_ARRAY(arena, struct kube_strings_pair, EXTRA_MAX), 0};
    const char **fitting = NULL;
    if (!extra.items)
        return -ENOMEM;
    if (!api->options.token_keys)
        return -EACCES;
    int error = read_claims(api, token, arena, &claims);
    if (error)
        return error;
    struct checking checking = {.api = api, .arena = arena, .claims = claims, .extra = &extra};
    if (ret_answer) {
        checking.message = ret_answer->message;
        checking.size = sizeof ret_answer->message;
    }
    const char *issuer = tree_text_or(tree_find(claims, "iss"), "");
    audiences = audiences ? audiences : api_own_audiences;
    if (!strcmp(issuer, ISSUER))
        error = check_modern(&checking, audiences, ret, &fitting);
    else if (!strcmp(issuer, LEGACY_ISSUER) && audiences == api_own_audiences)
        error = check_legacy(&checking, token, ret);
    else
        error = -EACCES;
    if (!error && ret_answer)
        ret_answer->audiences = fitting;
    return error;
}

/* --- making them --- */

/* What a token is bound to. */
struct binding {
    struct kube_object *account, *object, *node; /* object: a pod, secret or node, or NULL; node: of a pod, or NULL */
    const char *claim;                           /* "pod", "secret", "node" */
};

static void binding_deinit(struct binding *binding) {
    kube_object_unref(binding->account);
    kube_object_unref(binding->object);
    kube_object_unref(binding->node);
}

static void put_reference(struct buffer *out, const char *claim, const struct kube_object *object) {
    buffer_printf(out, ",\"%s\":{\"name\":", claim);
    json_format_string(out, slice_of(object->metadata->name));
    buffer_printf(out, ",\"uid\":\"%s\"}", object->metadata->uid ? object->metadata->uid : "");
}

static void put_audiences(struct buffer *out, const struct tree *audiences) {
    buffer_append_text(out, "[");
    for (size_t i = 0; i < tree_count(audiences); i++) {
        buffer_append_text(out, i ? "," : "");
        json_format_string(out, slice_of(tree_text_or(tree_at(audiences, i), "")));
    }
    buffer_append_text(out, tree_count(audiences) ? "]" : "\"" ISSUER "\"]");
}

static int put_claims(const struct binding *binding, const struct tree *audiences, int64_t now_s, int64_t seconds, struct buffer *out) {
    char id[37];
    const struct kube_object_meta *metadata = binding->account->metadata;
    sys_uuid(id);
    buffer_append_text(out, "{\"aud\":");
    put_audiences(out, audiences);
    buffer_printf(out, ",\"exp\":%" PRId64 ",\"iat\":%" PRId64 ",\"iss\":\"" ISSUER "\",\"jti\":\"%s\",\"kubernetes.io\":{\"namespace\":\"%s\"",
                  now_s + seconds, now_s, id, metadata->namespace);
    if (binding->node)
        put_reference(out, "node", binding->node);
    if (binding->object)
        put_reference(out, binding->claim, binding->object);
    put_reference(out, "serviceaccount", binding->account);
    return buffer_printf(out, "},\"nbf\":%" PRId64 ",\"sub\":\"system:serviceaccount:%s:%s\"}", now_s, metadata->namespace, metadata->name);
}

int api_account_token(struct api *api, const struct kube_object *account, const struct kube_object *secret, struct buffer *out) {
    const struct kube_object_meta *metadata = account->metadata;
    CLEANUP(buffer_deinit) struct buffer claims = BUFFER_INIT(CLAIMS_BYTES_MAX);
    if (!api->options.token_keys)
        return -ENOTSUP;
    int error = buffer_printf(&claims,
                              "{\"iss\":\"" LEGACY_ISSUER "\",\"" LEGACY "namespace\":\"%s\",\"" LEGACY "secret.name\":\"%s\",\"" LEGACY
                              "service-account.name\":\"%s\",\"" LEGACY "service-account.uid\":\"%s\",\"sub\":\"system:serviceaccount:%s:%s\"}",
                              metadata->namespace, secret->metadata->name, metadata->name, metadata->uid ? metadata->uid : "", metadata->namespace,
                              metadata->name);
    return error ? error : jwt_sign(api->options.token_keys[0], buffer_slice(&claims), out);
}

/* --- TokenRequest --- */

static int fail_seconds(struct api_failure *failure, const char *name, int64_t seconds, const char *why) {
    api_fail(failure, 422, "Invalid", "TokenRequest.authentication.k8s.io \"%s\" is invalid: spec.expirationSeconds: Invalid value: %" PRId64 ": %s",
             name, seconds, why);
    snprintf(failure->resource, sizeof failure->resource, "TokenRequest");
    snprintf(failure->group, sizeof failure->group, "authentication.k8s.io");
    snprintf(failure->name, sizeof failure->name, "%s", name);
    diag_cause(&failure->diag, "FieldValueInvalid", "spec.expirationSeconds", "Invalid value: %" PRId64 ": %s", seconds, why);
    return 422;
}

static int read_seconds(const struct request *request, const struct tree *asked, int64_t *ret, struct api_failure *failure) {
    *ret = tree_int_or(tree_path(asked, "spec.expirationSeconds"), EXPIRES_DEFAULT_S);
    if (*ret < EXPIRES_MIN_S)
        return fail_seconds(failure, request->route.name, *ret, "may not specify a duration less than 10 minutes");
    if (*ret > EXPIRES_MAX_S)
        return fail_seconds(failure, request->route.name, *ret, "may not specify a duration larger than 2^32 seconds");
    return 0;
}

static int bind_pod(struct request *request, struct binding *binding, struct api_failure *failure) {
    const struct kube_pod_spec *spec = &binding->object->pod->spec;
    const char *account = spec->service_account_name ? spec->service_account_name : "";
    if (strcmp(account, request->route.name))
        return api_fail_bad_request(failure, "cannot bind token for serviceaccount \"%s\" to pod running with different serviceaccount name.",
                                    request->route.name);
    if (spec->node_name && *spec->node_name)
        binding->node = api_stored_get(request->api, &kube_kind_node, "", spec->node_name);
    return 0;
}

static int bind_object(struct request *request, const struct tree *reference, struct binding *binding, struct api_failure *failure) {
    static const struct {
        const char *kind, *claim;
        const struct kube_kind *of;
    } kinds[] = {{"Pod", "pod", &kube_kind_pod}, {"Secret", "secret", &kube_kind_secret}, {"Node", "node", &kube_kind_node}};
    const char *kind = tree_text_or(tree_find(reference, "kind"), ""), *name = tree_text_or(tree_find(reference, "name"), ""),
               *uid = tree_text_or(tree_find(reference, "uid"), ""), *version = tree_text_or(tree_find(reference, "apiVersion"), "");
    size_t at = 0;
    while (at < ARRAY_LEN(kinds) && (strcmp(kinds[at].kind, kind) || strcmp(version, "v1")))
        at++;
    if (at == ARRAY_LEN(kinds))
        return api_fail_bad_request(failure, "cannot bind token to object of type %.60s, Kind=%.60s", version, kind);
    int code = api_stored_find(request->api, kinds[at].of, kinds[at].of->namespaced ? request->route.namespace : "", name, &binding->object, failure);
    if (code)
        return code;
    binding->claim = kinds[at].claim;
    const char *seen = binding->object->metadata->uid ? binding->object->metadata->uid : "";
    if (*uid && strcmp(uid, seen)) {
        char why[300];
        snprintf(why, sizeof why,
                 "the UID in the bound object reference (%.40s) does not match the UID in record. The object might have been deleted and then "
                 "recreated",
                 uid);
        return api_fail_conflict(failure, kinds[at].of, name, why);
    }
    return kinds[at].of == &kube_kind_pod ? bind_pod(request, binding, failure) : 0;
}

static void answer_token(struct request *request, const struct binding *binding, const struct tree *asked, int64_t seconds, struct slice token,
                         int64_t now_s) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(64 * KIB);
    char now[TIMESTAMP_BYTES], expires[TIMESTAMP_BYTES];
    const struct tree *reference = tree_path(asked, "spec.boundObjectRef");
    timestamp_format(now_s * 1000000000, now);
    timestamp_format((now_s + seconds) * 1000000000, expires);
    buffer_printf(&out,
                  "{\"kind\":\"TokenRequest\",\"apiVersion\":\"authentication.k8s.io/v1\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"%s\","
                  "\"creationTimestamp\":\"%s\"},\"spec\":{\"audiences\":",
                  binding->account->metadata->name, binding->account->metadata->namespace, now);
    put_audiences(&out, tree_path(asked, "spec.audiences"));
    buffer_printf(&out, ",\"expirationSeconds\":%" PRId64 ",\"boundObjectRef\":", seconds);
    if (reference)
        json_format(&out, reference);
    buffer_printf(&out, "%s},\"status\":{\"token\":\"%.*s\",\"expirationTimestamp\":\"%s\"}}\n", reference ? "" : "null", SLICE_ARG(token), expires);
    api_respond_json(request, 201, buffer_slice(&out));
    if (out.data)
        explicit_bzero(out.data, out.len);
}

static int make_token(struct request *request, const struct tree *asked, struct api_failure *failure) {
    struct api *api = request->api;
    CLEANUP(buffer_deinit) struct buffer claims = BUFFER_INIT(CLAIMS_BYTES_MAX), token = BUFFER_INIT(JWT_BYTES_MAX);
    CLEANUP(binding_deinit) struct binding binding = {.account = NULL};
    const struct tree *audiences = tree_path(asked, "spec.audiences"), *reference = tree_path(asked, "spec.boundObjectRef");
    int64_t seconds = 0, now_s = loop_wall_ns(api->loop) / 1000000000;
    if (!api->options.token_keys)
        return api_fail(failure, 501, "NotImplemented", "this server has no keys to sign service account tokens with");
    if (tree_count(audiences) > AUDIENCES_MAX)
        return api_fail_bad_request(failure, "a token may have at most %d audiences", AUDIENCES_MAX);
    int code = api_stored_find(api, &kube_kind_service_account, request->route.namespace, request->route.name, &binding.account, failure);
    code = code ? code : read_seconds(request, asked, &seconds, failure);
    if (!code && reference && reference->type == TREE_MAP)
        code = bind_object(request, reference, &binding, failure);
    if (code)
        return code;
    if (put_claims(&binding, audiences, now_s, seconds, &claims) || jwt_sign(api->options.token_keys[0], buffer_slice(&claims), &token))
        return api_fail_no_memory(failure);
    answer_token(request, &binding, asked, seconds, buffer_slice(&token), now_s);
    return 0;
}

static void on_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    (void)exchange;
    api_body_act(userdata, body, true, make_token);
}

void api_serve_token(struct request *request) {
    struct api_failure failure;
    if (!strcmp(request->verb, "create")) {
        api_read_body(request, on_body);
        return;
    }
    api_fail(&failure, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
    api_respond_failure(request, &failure);
}

/* --- for those who check our tokens themselves --- */

void api_serve_token_keys(struct request *request) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(64 * KIB);
    const struct jwt_key *const *keys = request->api->options.token_keys;
    buffer_append_text(&out, "{\"keys\":[");
    for (size_t i = 0; keys && keys[i]; i++) {
        buffer_append_text(&out, i ? "," : "");
        jwt_key_format(keys[i], &out);
    }
    buffer_append_text(&out, "]}\n");
    http_respond(request->exchange, 200, "application/jwk-set+json", buffer_slice(&out), NULL);
}

void api_serve_token_issuer(struct request *request) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(4 * KIB);
    const struct api_options *options = &request->api->options;
    buffer_append_text(&out, "{\"issuer\":\"" ISSUER "\",\"jwks_uri\":");
    if (options->advertise_address)
        buffer_printf(&out, "\"https://%s:%d/openid/v1/jwks\"", options->advertise_address, options->advertise_port);
    else
        buffer_append_text(&out, "\"" ISSUER "/openid/v1/jwks\"");
    buffer_append_text(&out, ",\"response_types_supported\":[\"id_token\"],\"subject_types_supported\":[\"public\"],"
                             "\"id_token_signing_alg_values_supported\":[\"ES256\"]}\n");
    http_respond(request->exchange, 200, "application/json", buffer_slice(&out), NULL);
}

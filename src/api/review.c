/* Questions in the form of objects: "may I …?", "may she …?", "what may I?", "who am I?", "whose token is this?". They are posted, answered in their
 * status, and not stored. The answers are those of the functions that decide about requests themselves. */
#include "api/rbac_priv.h"
#include "api/api_priv.h"

#include <stdio.h>

#define LIST_MAX 100 /* groups and extra keys that a question may name */

/* Appends the status; or fills failure and returns its code. */
typedef int answer_fn(struct request *request, const struct tree *asked, struct buffer *out, struct api_failure *failure);

static int fail_invalid(const struct tree *asked, const char *kind, const char *field, const char *why, struct api_failure *failure) {
    const char *name = tree_text_or(tree_path(asked, "metadata.name"), "");
    api_fail(failure, 422, "Invalid", "%s.authorization.k8s.io \"%s\" is invalid: %s: %s", kind, name, field, why);
    snprintf(failure->resource, sizeof failure->resource, "%s", kind);
    snprintf(failure->group, sizeof failure->group, "authorization.k8s.io");
    diag_cause(&failure->diag, "FieldValueInvalid", field, "%s", why);
    return 422;
}

/* --- may …? --- */

static int read_access(const struct tree *asked, const char *kind, struct api_access *ret, struct api_failure *failure) {
    const struct tree *resource = tree_path(asked, "spec.resourceAttributes"), *other = tree_path(asked, "spec.nonResourceAttributes");
    bool has_resource = resource && resource->type == TREE_MAP, has_other = other && other->type == TREE_MAP;
    if (has_resource == has_other)
        return fail_invalid(asked, kind, has_other ? "spec.nonResourceAttributes" : "spec.resourceAttributes",
                            has_other ? "Invalid value: cannot be specified in combination with resourceAttributes"
                                      : "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
                            failure);
    *ret = (struct api_access){
        .verb = tree_text_or(tree_find(has_resource ? resource : other, "verb"), ""),
        .group = tree_text_or(tree_find(resource, "group"), ""),
        .version = tree_text_or(tree_find(resource, "version"), ""),
        .resource = tree_text_or(tree_find(resource, "resource"), ""),
        .subresource = tree_text_or(tree_find(resource, "subresource"), ""),
        .namespace = tree_text_or(tree_find(resource, "namespace"), ""),
        .name = tree_text_or(tree_find(resource, "name"), ""),
        .path = has_other ? tree_text_or(tree_find(other, "path"), "") : NULL,
    };
    return 0;
}

static int put_decision(struct api *api, const struct api_user *user, const struct api_access *access, struct buffer *out) {
    char reason[API_REASON_BYTES];
    bool allowed = api_authorize(api, user, access, reason);
    buffer_printf(out, "{\"allowed\":%s", allowed ? "true" : "false");
    if (*reason) {
        buffer_append_text(out, ",\"reason\":");
        json_format_string(out, slice_of(reason));
    }
    return buffer_append_text(out, "}");
}

static int answer_self_access(struct request *request, const struct tree *asked, struct buffer *out, struct api_failure *failure) {
    struct api_access access;
    int code = read_access(asked, "SelfSubjectAccessReview", &access, failure);
    return code ? code : put_decision(request->api, &request->user, &access, out) ? api_fail_no_memory(failure) : 0;
}

/* The user that a question is about. */
static int read_user(struct request *request, const struct tree *spec, struct api_user *ret) {
    const struct tree *groups = tree_find(spec, "groups");
    const char *list[LIST_MAX + 1];
    size_t count = MIN(tree_count(groups), LIST_MAX);
    for (size_t i = 0; i < count; i++)
        list[i] = tree_text_or(tree_at(groups, i), "");
    list[count] = NULL;
    return api_user_set(request->arena, tree_text_or(tree_find(spec, "user"), ""), list, NULL, ret);
}

static int answer_other(struct request *request, const struct tree *asked, const char *kind, struct buffer *out, struct api_failure *failure) {
    const struct tree *spec = tree_find(asked, "spec");
    const char *namespace = request->route.namespace;
    struct api_access access;
    struct api_user user;
    int code = read_access(asked, kind, &access, failure);
    if (!code && !*tree_text_or(tree_find(spec, "user"), "") && !tree_count(tree_find(spec, "groups")))
        code = fail_invalid(asked, kind, "spec.user", "Invalid value: \"\": at least one of user or group must be specified", failure);
    if (!code && *namespace && access.path)
        code = fail_invalid(asked, kind, "spec.nonResourceAttributes", "Invalid value: disallowed on this kind of request", failure);
    if (!code && *namespace && strcmp(access.namespace, namespace))
        code = fail_invalid(asked, kind, "spec.resourceAttributes.namespace", "Invalid value: must match metadata.namespace", failure);
    if (code)
        return code;
    if (read_user(request, spec, &user) || put_decision(request->api, &user, &access, out))
        return api_fail_no_memory(failure);
    return 0;
}

static int answer_access(struct request *request, const struct tree *asked, struct buffer *out, struct api_failure *failure) {
    return answer_other(request, asked, "SubjectAccessReview", out, failure);
}

static int answer_local_access(struct request *request, const struct tree *asked, struct buffer *out, struct api_failure *failure) {
    return answer_other(request, asked, "LocalSubjectAccessReview", out, failure);
}

/* --- what may I? --- */

struct rules {
    struct buffer resources, paths;
    struct buffer missing; /* roles that do not exist */
};

static void put_strings(struct buffer *out, const char *key, const struct kube_string_list *list, bool first) {
    if (!list->count)
        return;
    buffer_printf(out, "%s\"%s\":[", first ? "" : ",", key);
    for (size_t i = 0; i < list->count; i++) {
        buffer_append_text(out, i ? "," : "");
        json_format_string(out, slice_of(list->items[i]));
    }
    buffer_append_text(out, "]");
}

static bool put_rule(void *userdata, const struct rbac_grant *grant, const struct kube_policy_rule *rule) {
    struct rules *rules = userdata;
    if (!rule) {
        char text[800];
        rbac_describe(grant, text, sizeof text);
        buffer_printf(&rules->missing, "%sthe role of %s does not exist", rules->missing.len ? "; " : "", text);
        return true;
    }
    bool path = rule->non_resource_urls.count > 0;
    struct buffer *out = path ? &rules->paths : &rules->resources;
    buffer_append_text(out, out->len ? ",{" : "{");
    put_strings(out, "verbs", &rule->verbs, true);
    put_strings(out, "apiGroups", &rule->api_groups, false);
    put_strings(out, "resources", &rule->resources, false);
    put_strings(out, "resourceNames", &rule->resource_names, false);
    put_strings(out, "nonResourceURLs", &rule->non_resource_urls, false);
    buffer_append_text(out, "}");
    return true;
}

static void put_everything(struct rules *rules) {
    const char *star = "*";
    const struct kube_string_list all = {&star, 1};
    const struct kube_policy_rule resources = {.verbs = all, .api_groups = all, .resources = all}, paths = {.verbs = all, .non_resource_urls = all};
    put_rule(rules, NULL, &resources);
    put_rule(rules, NULL, &paths);
}

static int answer_rules(struct request *request, const struct tree *asked, struct buffer *out, struct api_failure *failure) {
    const char *namespace = tree_text_or(tree_path(asked, "spec.namespace"), "");
    struct rules rules = {BUFFER_INIT(MIB), BUFFER_INIT(MIB), BUFFER_INIT(16 * KIB)};
    const struct rbac *rbac = api_rbac_get(request->api);
    if (!*namespace)
        return api_fail_bad_request(failure, "no namespace on request");
    if (api_user_in_group(&request->user, "system:masters"))
        put_everything(&rules);
    if (rbac)
        rbac_visit(rbac, &request->user, namespace, put_rule, &rules);
    buffer_append_text(out, "{\"resourceRules\":[");
    buffer_append_slice(out, buffer_slice(&rules.resources));
    buffer_append_text(out, "],\"nonResourceRules\":[");
    buffer_append_slice(out, buffer_slice(&rules.paths));
    buffer_printf(out, "],\"incomplete\":%s", rbac && !rules.missing.len ? "false" : "true");
    if (rules.missing.len) {
        buffer_append_text(out, ",\"evaluationError\":");
        json_format_string(out, buffer_slice(&rules.missing));
    }
    buffer_append_text(out, "}");
    bool failed = buffer_error(&rules.resources) || buffer_error(&rules.paths) || buffer_error(out);
    buffer_deinit(&rules.resources);
    buffer_deinit(&rules.paths);
    buffer_deinit(&rules.missing);
    return failed ? api_fail_no_memory(failure) : 0;
}

/* --- who? --- */

int api_put_user(struct buffer *out, const struct api_user *user) {
    buffer_append_text(out, "{\"username\":");
    json_format_string(out, slice_of(user->name));
    if (user->uid && *user->uid) {
        buffer_append_text(out, ",\"uid\":");
        json_format_string(out, slice_of(user->uid));
    }
    buffer_append_text(out, ",\"groups\":[");
    for (size_t i = 0; user->groups[i]; i++) {
        buffer_append_text(out, i ? "," : "");
        json_format_string(out, slice_of(user->groups[i]));
    }
    buffer_append_text(out, "]");
    for (size_t i = 0; i < user->extra.count; i++) {
        buffer_append_text(out, i ? "," : ",\"extra\":{");
        json_format_string(out, slice_of(user->extra.items[i].key));
        buffer_append_text(out, ":[");
        for (size_t j = 0; j < user->extra.items[i].value.count; j++) {
            buffer_append_text(out, j ? "," : "");
            json_format_string(out, slice_of(user->extra.items[i].value.items[j]));
        }
        buffer_append_text(out, "]");
    }
    return buffer_append_text(out, user->extra.count ? "}}" : "}");
}

static int answer_self(struct request *request, const struct tree *asked, struct buffer *out, struct api_failure *failure) {
    (void)asked;
    buffer_append_text(out, "{\"userInfo\":");
    api_put_user(out, &request->user);
    return buffer_append_text(out, "}") ? api_fail_no_memory(failure) : 0;
}

static void put_authenticated(struct buffer *out, const struct api_user *user, const char *const *audiences) {
    buffer_append_text(out, "{\"authenticated\":true,\"user\":");
    api_put_user(out, user);
    buffer_append_text(out, ",\"audiences\":[");
    for (size_t i = 0; audiences && audiences[i]; i++) {
        buffer_append_text(out, i ? "," : "");
        json_format_string(out, slice_of(audiences[i]));
    }
    buffer_append_text(out, "]}");
}

/* Tokens of people are for this API alone: they are nobody's for whom another audience is meant. */
static int person_of(struct request *request, struct slice token, const char *const *audiences, struct api_user *ret, struct account_answer *answer) {
    size_t at = 0;
    while (audiences[at] && strcmp(audiences[at], *api_own_audiences))
        at++;
    answer->audiences = audiences[at] ? api_own_audiences : NULL;
    return *audiences && !audiences[at] ? -EACCES : api_bearer_user(request->api, token, request->arena, ret);
}

static int answer_token(struct request *request, const struct tree *asked, struct buffer *out, struct api_failure *failure) {
    struct slice token = slice_of(tree_text_or(tree_path(asked, "spec.token"), ""));
    const struct tree *list = tree_path(asked, "spec.audiences");
    const char *audiences[LIST_MAX + 1];
    size_t count = MIN(tree_count(list), LIST_MAX);
    struct api_user user;
    struct account_answer answer = {.audiences = NULL};
    for (size_t i = 0; i < count; i++)
        audiences[i] = tree_text_or(tree_at(list, i), "");
    audiences[count] = NULL;
    if (!token.len)
        return api_fail_bad_request(failure, "token is required for TokenReview in authentication");
    bool person = slice_starts(token, SLICE("tm-"));
    int error = person ? person_of(request, token, audiences, &user, &answer)
                       : api_account_user(request->api, token, count ? audiences : NULL, request->arena, &user, &answer);
    if (error == -ENOMEM)
        return api_fail_no_memory(failure);
    if (!error) {
        put_authenticated(out, &user, answer.audiences);
    } else {
        buffer_append_text(out, "{\"user\":{},\"error\":");
        json_format_string(out, slice_of(*answer.message ? answer.message : "invalid bearer token"));
        buffer_append_text(out, "}");
    }
    return buffer_error(out) ? api_fail_no_memory(failure) : 0;
}

/* --- the table --- */

static const struct review {
    const char *group, *plural, *kind;
    bool namespaced;
    answer_fn *answer;
} reviews[] = {
    {"authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview", false, answer_self_access},
    {"authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", false, answer_access},
    {"authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", true, answer_local_access},
    {"authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview", false, answer_rules},
    {"authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview", false, answer_self},
    {"authentication.k8s.io", "tokenreviews", "TokenReview", false, answer_token},
};

static const struct review *find(const struct request *request) {
    const struct api_route *route = &request->route;
    for (size_t i = 0; i < ARRAY_LEN(reviews); i++)
        if (!strcmp(route->group, reviews[i].group) && !strcmp(route->plural, reviews[i].plural) && !strcmp(route->version, "v1") && !*route->name &&
            (*route->namespace != '\0') == reviews[i].namespaced)
            return &reviews[i];
    return NULL;
}

bool api_is_review(const struct request *request) {
    return find(request) != NULL;
}

/* The question with its answer. */
static int put_review(const struct request *request, const struct review *review, const struct tree *asked, struct slice status, struct buffer *out) {
    const struct tree *spec = tree_find(asked, "spec");
    buffer_printf(out, "{\"kind\":\"%s\",\"apiVersion\":\"%s/v1\",\"metadata\":{", review->kind, review->group);
    if (*request->route.namespace)
        buffer_printf(out, "\"namespace\":\"%s\",", request->route.namespace);
    buffer_append_text(out, "\"creationTimestamp\":null}");
    if (review->answer != answer_self) {
        buffer_append_text(out, ",\"spec\":");
        if (spec)
            json_format(out, spec);
        else
            buffer_append_text(out, "{}");
    }
    buffer_append_text(out, ",\"status\":");
    buffer_append_slice(out, status);
    return buffer_append_text(out, "}\n");
}

static void on_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    (void)exchange;
    struct request *request = userdata;
    const struct review *review = find(request);
    struct api_failure failure;
    struct tree *asked = NULL;
    CLEANUP(buffer_deinit) struct buffer status = BUFFER_INIT(4 * MIB), out = BUFFER_INIT(8 * MIB);
    int code = api_body_parse(request, body, &asked, &failure);
    if (!code)
        code = review->answer(request, asked, &status, &failure);
    if (!code && put_review(request, review, asked, buffer_slice(&status), &out))
        code = api_fail_no_memory(&failure);
    if (code)
        api_respond_failure(request, &failure);
    else
        api_respond_json(request, 201, buffer_slice(&out));
}

/* Nothing else that the client would take. */
static bool wants_only_tables(const struct request *request) {
    struct slice accept = http_header(request->exchange, "Accept");
    while (accept.len)
        if (slice_find(slice_cut(&accept, ','), SLICE("as=")) < 0)
            return false;
    return api_is_table(request);
}

void api_serve_review(struct request *request) {
    struct api_failure failure;
    if (!strcmp(request->verb, "create") && !wants_only_tables(request)) {
        api_read_body(request, on_body);
        return;
    }
    if (!strcmp(request->verb, "create")) /* an answer is no object: it has neither rows nor metadata */
        api_fail(&failure, 406, "NotAcceptable",
                 "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf");
    else
        api_fail(&failure, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
    api_respond_failure(request, &failure);
}

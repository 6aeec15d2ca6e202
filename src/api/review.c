/* Questions in the form of objects: "may I …?", "what may I?", "who am I?". They are posted, answered and not stored. */
#include "api/api_priv.h"

typedef int answer_fn(struct request *request, const struct tree *asked, struct buffer *out);

/* SelfSubjectAccessReview */
static int answer_access(struct request *request, const struct tree *asked, struct buffer *out) {
    const struct tree *resource = tree_path(asked, "spec.resourceAttributes"), *other = tree_path(asked, "spec.nonResourceAttributes");
    const struct api_access access = {
        .verb = tree_text_or(tree_find(resource ? resource : other, "verb"), ""),
        .group = tree_text_or(tree_find(resource, "group"), ""),
        .resource = tree_text_or(tree_find(resource, "resource"), ""),
        .subresource = tree_text_or(tree_find(resource, "subresource"), ""),
        .namespace = tree_text_or(tree_find(resource, "namespace"), ""),
        .name = tree_text_or(tree_find(resource, "name"), ""),
        .path = tree_text_or(tree_find(other, "path"), NULL),
    };
    bool allowed = api_authorize(&request->user, &access);
    buffer_append_text(
        out, "{\"kind\":\"SelfSubjectAccessReview\",\"apiVersion\":\"authorization.k8s.io/v1\",\"metadata\":{\"creationTimestamp\":null},\"spec\":");
    if (tree_find(asked, "spec"))
        json_format(out, tree_find(asked, "spec"));
    else
        buffer_append_text(out, "{}");
    return buffer_printf(out, ",\"status\":{\"allowed\":%s}}\n", allowed ? "true" : "false");
}

/* SelfSubjectRulesReview: told by asking the one function about a few telling cases. */
static int answer_rules(struct request *request, const struct tree *asked, struct buffer *out) {
    (void)asked;
    static const char *const verbs[] = {"get", "list", "watch", "create", "update", "patch", "delete"};
    buffer_append_text(
        out, "{\"kind\":\"SelfSubjectRulesReview\",\"apiVersion\":\"authorization.k8s.io/v1\",\"metadata\":{\"creationTimestamp\":null},\"spec\":{},"
             "\"status\":{\"incomplete\":false,\"nonResourceRules\":[{\"verbs\":[\"get\"],\"nonResourceURLs\":[\"/version\",\"/"
             "healthz\"]}],\"resourceRules\":[");
    size_t rules = 0;
    for (size_t i = 0; i < kube_kinds_count(); i++) {
        size_t allowed = 0;
        for (size_t j = 0; j < ARRAY_LEN(verbs); j++) {
            const struct api_access access = {.verb = verbs[j], .group = kube_kind_at(i)->group, .resource = kube_kind_at(i)->plural};
            if (!api_authorize(&request->user, &access))
                continue;
            buffer_printf(out, "%s\"%s\"", allowed ? "," : rules ? ",{\"verbs\":[" : "{\"verbs\":[", verbs[j]);
            allowed++;
        }
        if (!allowed)
            continue;
        buffer_printf(out, "],\"apiGroups\":[\"%s\"],\"resources\":[\"%s\"]}", kube_kind_at(i)->group, kube_kind_at(i)->plural);
        rules++;
    }
    return buffer_append_text(out, "]}}\n");
}

/* SelfSubjectReview */
static int answer_self(struct request *request, const struct tree *asked, struct buffer *out) {
    (void)asked;
    buffer_append_text(out, "{\"kind\":\"SelfSubjectReview\",\"apiVersion\":\"authentication.k8s.io/"
                            "v1\",\"metadata\":{\"creationTimestamp\":null},\"status\":{\"userInfo\":{\"username\":");
    json_format_string(out, slice_of(request->user.name));
    buffer_append_text(out, ",\"groups\":[");
    for (size_t i = 0; request->user.groups[i]; i++) {
        buffer_append_text(out, i ? "," : "");
        json_format_string(out, slice_of(request->user.groups[i]));
    }
    return buffer_append_text(out, "]}}}\n");
}

static const struct {
    const char *group, *plural;
    answer_fn *answer;
} reviews[] = {
    {"authorization.k8s.io", "selfsubjectaccessreviews", answer_access},
    {"authorization.k8s.io", "selfsubjectrulesreviews", answer_rules},
    {"authentication.k8s.io", "selfsubjectreviews", answer_self},
};

static answer_fn *find(const struct request *request) {
    for (size_t i = 0; i < ARRAY_LEN(reviews); i++)
        if (!strcmp(request->route.group, reviews[i].group) && !strcmp(request->route.plural, reviews[i].plural))
            return reviews[i].answer;
    return NULL;
}

bool api_is_review(const struct request *request) {
    return find(request) != NULL;
}

static void on_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    (void)exchange;
    struct request *request = userdata;
    struct api_failure failure;
    struct tree *asked = NULL;
    if (api_body_parse(request, body, &asked, &failure)) {
        api_respond_failure(request, &failure);
        return;
    }
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    if (find(request)(request, asked, &out)) {
        api_fail_no_memory(&failure);
        api_respond_failure(request, &failure);
        return;
    }
    api_respond_json(request, 201, buffer_slice(&out));
}

void api_serve_review(struct request *request) {
    if (!strcmp(request->verb, "create")) {
        http_read_body(request->exchange, API_BODY_BYTES_MAX, on_body, request);
        return;
    }
    struct api_failure failure;
    api_fail(&failure, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
    api_respond_failure(request, &failure);
}

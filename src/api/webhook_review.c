/* AdmissionReview (admission.k8s.io/v1 and v1beta1, which differ in nothing that is sent): what webhooks are asked, and what they answer. Pure: no
 * clock, no socket. Answers are foreign bytes: bounded by the arena, checked as upstream checks them, in its words. */
#include "api/webhook_priv.h"

#include <stdio.h>

/* Who the controllers of this process are, to webhooks. */
static const char *const platform_groups[] = {"system:authenticated", NULL};
static const struct api_user platform_user = {.name = "system:kube-controller-manager", .groups = platform_groups};

/* --- asking --- */

static void put_text(struct buffer *out, const char *key, const char *value) {
    buffer_printf(out, ",\"%s\":", key);
    json_format_string(out, slice_of(value ? value : ""));
}

/* group, version and a third member, `name`. */
static void put_triple(struct buffer *out, const char *key, const char *group, const char *version, const char *name, const char *value) {
    buffer_printf(out, ",\"%s\":{\"group\":\"%s\",\"version\":\"%s\",\"%s\":", key, group, version, name);
    json_format_string(out, slice_of(value));
    buffer_append_text(out, "}");
}

static void put_kind(struct buffer *out, const char *key, const struct webhook_matter *matter, const struct kube_kind *kind) {
    if (!matter->document_kind) {
        put_triple(out, key, kind->group, kind->version, "kind", kind->kind);
        return;
    }
    const char *slash = strchr(matter->document_version, '/'), *version = slash ? slash + 1 : matter->document_version;
    char group[100] = "";
    if (slash)
        snprintf(group, sizeof group, "%.*s", (int)(slash - matter->document_version), matter->document_version);
    put_triple(out, key, group, version, "kind", matter->document_kind);
}

static void put_document(struct buffer *out, const char *key, struct slice json) {
    buffer_printf(out, ",\"%s\":", key);
    buffer_append_slice(out, json.len ? json : SLICE("null"));
}

int webhook_review_format(struct buffer *out, const struct webhook *webhook, const struct webhook_matter *matter, const struct kube_kind *as,
                          const char *uid, const struct webhook_documents *documents) {
    static const char *const operations[] = {
        [ADMIT_CREATE] = "CREATE", [ADMIT_UPDATE] = "UPDATE", [ADMIT_DELETE] = "DELETE", [ADMIT_CONNECT] = "CONNECT"};
    const struct kube_kind *kind = matter->kind;
    const struct api_user *user = matter->user ? matter->user : &platform_user;
    bool sub = matter->subresource && *matter->subresource;
    buffer_printf(out, "{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/%s\",\"request\":{\"uid\":\"%s\"", webhook->version, uid);
    put_kind(out, "kind", matter, as);
    put_triple(out, "resource", as->group, as->version, "resource", as->plural);
    if (sub)
        put_text(out, "subResource", matter->subresource);
    put_kind(out, "requestKind", matter, kind);
    put_triple(out, "requestResource", kind->group, kind->version, "resource", kind->plural);
    if (sub)
        put_text(out, "requestSubResource", matter->subresource);
    if (matter->name && *matter->name)
        put_text(out, "name", matter->name);
    if (matter->namespace && *matter->namespace)
        put_text(out, "namespace", matter->namespace);
    put_text(out, "operation", operations[matter->operation]);
    buffer_append_text(out, ",\"userInfo\":");
    api_put_user(out, user);
    put_document(out, "object", documents->object);
    put_document(out, "oldObject", documents->old);
    buffer_printf(out, ",\"dryRun\":%s", matter->dry_run ? "true" : "false");
    put_document(out, "options", matter->options ? slice_of(matter->options) : (struct slice){NULL, 0});
    return buffer_append_text(out, "}}");
}

/* --- what is answered --- */

#define REFUSE(...) (snprintf(error, WEBHOOK_ERROR_BYTES, __VA_ARGS__), -EINVAL)
#define INVALID "received invalid webhook response: "

static int parse_patch(struct arena *arena, const struct tree *response, const struct webhook *webhook, struct webhook_response *ret,
                       char error[WEBHOOK_ERROR_BYTES]) {
    const struct tree *patch = tree_find(response, "patch"), *type = tree_find(response, "patchType");
    const char *text = tree_text_or(patch, "");
    bool beta = strcmp(webhook->version, "v1") != 0, typed = type && type->type != TREE_NULL;
    struct diag diag = DIAG_INIT;
    if (!webhook->mutating && *text && !beta)
        return REFUSE(INVALID "validating webhook may not return response.patch");
    if (!webhook->mutating && typed && !beta)
        return REFUSE(INVALID "validating webhook may not return response.patchType");
    if (webhook->mutating && *text && !typed && !beta)
        return REFUSE(INVALID "webhook returned response.patch but not response.patchType");
    if (webhook->mutating && !*text && typed && !beta)
        return REFUSE(INVALID "webhook returned response.patchType but not response.patch");
    if (!webhook->mutating || !*text || !ret->allowed)
        return 0;
    if (typed && strcmp(tree_text_or(type, ""), "JSONPatch"))
        return REFUSE("unsupported patch type \"%.100s\"", tree_text_or(type, ""));
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(WEBHOOK_ANSWER_BYTES_MAX);
    int r = base64_decode(&json, patch->string);
    if (!r)
        r = json_parse(arena, buffer_slice(&json), NULL, &ret->patch, &diag);
    if (r == -ENOMEM)
        return r;
    if (r || ret->patch->type != TREE_LIST)
        return REFUSE("received undecodable patch in webhook response: %.200s",
                      r && *diag.message ? diag.message : "a list of operations in base64 is expected");
    if (!tree_count(ret->patch))
        ret->patch = NULL;
    return 0;
}

static int parse_response(struct arena *arena, const struct tree *review, const struct webhook *webhook, const char *uid,
                          struct webhook_response *ret, char error[WEBHOOK_ERROR_BYTES]) {
    const struct tree *response = tree_find(review, "response"), *status = tree_find(response, "status");
    const char *version = tree_text_or(tree_find(review, "apiVersion"), ""), *kind = tree_text_or(tree_find(review, "kind"), ""),
               *answered = tree_text_or(tree_find(response, "uid"), "");
    bool beta = strcmp(webhook->version, "v1") != 0;
    if (!response || response->type != TREE_MAP)
        return REFUSE(INVALID "webhook response was absent");
    if (!beta && strcmp(answered, uid))
        return REFUSE(INVALID "expected response.uid=\"%s\", got \"%.100s\"", uid, answered);
    if (!beta && (strcmp(version, "admission.k8s.io/v1") || strcmp(kind, "AdmissionReview")))
        return REFUSE(INVALID "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got %.100s, Kind=%.100s",
                      *version ? version : "/", kind);
    const struct tree *warnings = tree_find(response, "warnings"), *allowed = tree_find(response, "allowed");
    if (allowed && allowed->type != TREE_BOOL)
        return REFUSE("failed to call webhook: json: cannot unmarshal %s into Go struct field AdmissionResponse.response.allowed of type bool",
                      tree_type_name(allowed));
    ret->allowed = tree_bool_or(allowed, false);
    int64_t code = tree_int_or(tree_find(status, "code"), 0);
    ret->code = code > 0 && code < 1000 ? (int)code : 0;
    ret->reason = tree_text_or(tree_find(status, "reason"), "");
    ret->message = tree_text_or(tree_find(status, "message"), "");
    ret->details = tree_find(status, "details");
    ret->annotations = tree_find(response, "auditAnnotations");
    for (size_t i = 0; i < tree_count(warnings) && i < WEBHOOK_WARNINGS_MAX; i++)
        ret->warnings[ret->warnings_count++] = tree_text_or(tree_at(warnings, i), "");
    return parse_patch(arena, response, webhook, ret, error);
}

int webhook_response_parse(struct arena *arena, struct slice body, const struct webhook *webhook, const char *uid, struct webhook_response *ret,
                           char error[WEBHOOK_ERROR_BYTES]) {
    struct diag diag = DIAG_INIT;
    struct tree *review = NULL;
    *ret = (struct webhook_response){.reason = "", .message = ""};
    int r = json_parse(arena, body, NULL, &review, &diag);
    if (r == -ENOMEM)
        return r;
    if (r || review->type != TREE_MAP)
        return REFUSE("failed to call webhook: couldn't get version/kind; json parse error: %.300s", r ? diag.message : "an object is expected");
    return parse_response(arena, review, webhook, uid, ret, error);
}

/* --- denials --- */

/* Reasons outlive the answer: one that Kubernetes does not know is not passed on. */
static const char *known_reason(const char *reason) {
    static const char *const known[] = {"Unauthorized", "Forbidden",        "NotFound",        "AlreadyExists",         "Conflict",
                                        "Gone",         "Invalid",          "ServerTimeout",   "StoreReadError",        "Timeout",
                                        "BadRequest",   "MethodNotAllowed", "NotAcceptable",   "RequestEntityTooLarge", "UnsupportedMediaType",
                                        "Expired",      "InternalError",    "TooManyRequests", "ServiceUnavailable"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (!strcmp(reason, known[i]))
            return known[i];
    return "";
}

int webhook_fail_denied(struct api_failure *failure, const char *name, const struct webhook_response *response) {
    const char *why = *response->message ? response->message : response->reason;
    int code = response->code < 400 ? 400 : response->code;
    api_fail(failure, code, known_reason(response->reason), "admission webhook \"%s\" denied the request%s%s", name,
             *why ? ": " : " without explanation", why);
    const struct tree *causes = tree_find(response->details, "causes");
    if (!failure)
        return code;
    snprintf(failure->resource, sizeof failure->resource, "%s", tree_text_or(tree_find(response->details, "kind"), ""));
    snprintf(failure->group, sizeof failure->group, "%s", tree_text_or(tree_find(response->details, "group"), ""));
    snprintf(failure->name, sizeof failure->name, "%s", tree_text_or(tree_find(response->details, "name"), ""));
    for (size_t i = 0; i < tree_count(causes) && i < DIAG_CAUSES_MAX; i++) {
        const struct tree *cause = tree_at(causes, i);
        diag_cause(&failure->diag, tree_text_or(tree_find(cause, "reason"), ""), tree_text_or(tree_find(cause, "field"), ""), "%s",
                   tree_text_or(tree_find(cause, "message"), ""));
    }
    return code;
}

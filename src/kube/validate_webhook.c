/* Webhooks and admission policies. */
#include "kube/validate_priv.h"

/* ---- clients ---- */

static void check_url(struct validator *validator, const char *url) {
    static const char form[] = "desired format: https://host[/path]";
    struct slice text = slice_of(url), rest = slice_starts(text, SLICE("https://")) ? slice_from(text, 8) : text, host = slice_cut(&rest, '/');
    if (!slice_starts(text, SLICE("https://")))
        fail_text(validator, "url", url, "'https' is the only allowed URL scheme; %s", form);
    else if (host.len == 0)
        fail_text(validator, "url", "", "host must be specified; %s", form);
    else if (memchr(host.data, '@', host.len))
        fail_text(validator, "url", url, "user information is not permitted in the URL");
    if (strchr(url, '#'))
        fail_text(validator, "url", strchr(url, '#') + 1, "fragments are not permitted in the URL");
    if (strchr(url, '?'))
        fail_text(validator, "url", strchr(url, '?') + 1, "query parameters are not permitted in the URL");
}

static void check_service(struct validator *validator, const struct kube_service_reference *service) {
    if (!service->name)
        fail_required(validator, "service.name", "service name is required");
    if (!service->namespace)
        fail_required(validator, "service.namespace", "service namespace is required");
    if (service->port && (*service->port < 1 || *service->port > 65535))
        fail_number(validator, "service.port", *service->port, "port is not valid: must be between 1 and 65535, inclusive");
    if (service->path && service->path[0] && service->path[0] != '/') /* "" is "/" */
        fail_text(validator, "service.path", service->path, "must start with a '/'");
}

void validate_webhook_client(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_webhook_client_config *client = data;
    if (!!client->url == !!client->service)
        fail_required(validator, NULL, "exactly one of url or service is required");
    else if (client->url)
        check_url(validator, client->url);
    else
        check_service(validator, client->service);
}

/* ---- rules ---- */

static void check_star(struct validator *validator, const char *field, const struct kube_string_list *list, const char *words) {
    bool star = false;
    for (size_t i = 0; i < list->count; i++)
        star |= strcmp(list->items[i], "*") == 0;
    if (star && list->count > 1)
        fail_value(validator, field, "[…]", "%s", words);
}

static void check_rule(struct validator *validator, const struct kube_string_list *operations, const struct kube_string_list *groups,
                       const struct kube_string_list *versions, const struct kube_string_list *resources) {
    static const char *const supported[] = {"*", "CONNECT", "CREATE", "DELETE", "UPDATE", NULL};
    const struct {
        const char *name;
        const struct kube_string_list *list;
    } parts[] = {{"operations", operations}, {"apiGroups", groups}, {"apiVersions", versions}, {"resources", resources}};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (parts[i].list->count == 0)
            fail_required(validator, parts[i].name, "");
    check_star(validator, "operations", operations, "if '*' is present, must not specify other operations");
    check_star(validator, "apiGroups", groups, "if '*' is present, must not specify other API groups");
    check_star(validator, "apiVersions", versions, "if '*' is present, must not specify other API versions");
    for (size_t i = 0; i < operations->count; i++) {
        bool known = false;
        for (size_t k = 0; supported[k] && !known; k++)
            known = strcmp(operations->items[i], supported[k]) == 0;
        if (known)
            continue;
        size_t before = kube_path_push_field(&validator->path, "operations");
        kube_path_push_index(&validator->path, i);
        fail_supported(validator, NULL, operations->items[i], supported);
        kube_path_pop(&validator->path, before);
    }
}

void validate_rule_with_operations(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_rule_with_operations *rule = data;
    check_rule(validator, &rule->operations, &rule->api_groups, &rule->api_versions, &rule->resources);
}

void validate_named_rule(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_named_rule_with_operations *rule = data;
    check_rule(validator, &rule->operations, &rule->api_groups, &rule->api_versions, &rule->resources);
}

/* ---- webhooks: both kinds have these in common ---- */

struct hook {
    const char *name, *side_effects;
    const int32_t *timeout;
    const struct kube_string_list *versions;
};

static void check_hook(struct validator *validator, const struct hook *hook) {
    size_t dots = 0;
    for (const char *c = kube_text_or(hook->name, ""); *c; c++)
        dots += *c == '.';
    const char *wrong = hook->name ? format_check("dns-subdomain", slice_of(hook->name)) : NULL;
    if (!hook->name)
        fail_required(validator, "name", "");
    else if (wrong)
        fail_text(validator, "name", hook->name, "%s", wrong);
    else if (dots < 2)
        fail_text(validator, "name", hook->name, "should be a domain with at least three segments separated by dots");
    if (!hook->side_effects)
        fail_required(validator, "sideEffects", "must specify one of None, NoneOnDryRun");
    if (hook->timeout && (*hook->timeout < 1 || *hook->timeout > 30))
        fail_number(validator, "timeoutSeconds", *hook->timeout, "the timeout value must be between 1 and 30 seconds");
    bool known = false;
    for (size_t i = 0; i < hook->versions->count; i++)
        known |= strcmp(hook->versions->items[i], "v1") == 0 || strcmp(hook->versions->items[i], "v1beta1") == 0;
    if (hook->versions->count == 0)
        fail_required(validator, "admissionReviewVersions", "must specify one of v1, v1beta1");
    else if (!known)
        fail_value(validator, "admissionReviewVersions", "[…]", "must include at least one of v1, v1beta1");
}

void validate_validating_webhook(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_validating_webhook *webhook = data;
    const struct hook hook = {webhook->name, webhook->side_effects, webhook->timeout_seconds, &webhook->admission_review_versions};
    check_hook(validator, &hook);
}

void validate_mutating_webhook(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_mutating_webhook *webhook = data;
    const struct hook hook = {webhook->name, webhook->side_effects, webhook->timeout_seconds, &webhook->admission_review_versions};
    check_hook(validator, &hook);
}

/* ---- admission policies ---- */

void validate_admission_policy_spec(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_validating_admission_policy_spec *spec = data;
    if (!spec->match_constraints)
        fail_required(validator, "matchConstraints", "");
    else if (spec->match_constraints->resource_rules.count == 0)
        fail_required(validator, "matchConstraints.resourceRules", "");
    if (spec->validations.count + spec->audit_annotations.count == 0) {
        fail_required(validator, "validations", "validations or auditAnnotations must contain at least one item");
        fail_required(validator, "auditAnnotations", "validations or auditAnnotations must contain at least one item");
    }
}

void validate_admission_binding_spec(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_validating_admission_policy_binding_spec *spec = data;
    bool deny = false, warn = false;
    if (!spec->policy_name)
        fail_required(validator, "policyName", "");
    if (spec->validation_actions.count == 0)
        fail_required(validator, "validationActions", "");
    for (size_t i = 0; i < spec->validation_actions.count; i++) {
        deny |= strcmp(spec->validation_actions.items[i], "Deny") == 0;
        warn |= strcmp(spec->validation_actions.items[i], "Warn") == 0;
    }
    if (deny && warn)
        fail_value(validator, "validationActions", "[\"Deny\",\"Warn\"]",
                   "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no "
                   "purpose)");
    if (spec->param_ref && !spec->param_ref->name == !spec->param_ref->selector)
        fail_required(validator, "paramRef.name", "one of name or selector must be specified");
    if (spec->param_ref && !spec->param_ref->parameter_not_found_action)
        fail_required(validator, "paramRef.parameterNotFoundAction", "");
}

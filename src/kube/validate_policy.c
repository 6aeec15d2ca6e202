/* What limits and guards: network policies, disruption budgets, quotas, limit ranges, priorities, certificate requests. */
#include "kube/validate_priv.h"

/* ---- network policies ---- */

void validate_network_policy_port(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_network_policy_port *port = data;
    if (port->port)
        validate_port(validator, "port", port->port);
    if (!port->end_port)
        return;
    if (!port->port)
        fail_number(validator, "endPort", *port->end_port, "may not be specified when `port` is not specified");
    else if (port->port->is_string)
        fail_number(validator, "endPort", *port->end_port, "may not be specified when `port` is non-numeric");
    else if (*port->end_port < port->port->number)
        fail_number(validator, "endPort", port->port->number, "must be greater than or equal to `port`");
    else if (*port->end_port > 65535)
        fail_number(validator, "endPort", *port->end_port, "must be between 1 and 65535, inclusive");
}

void validate_network_policy_peer(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_network_policy_peer *peer = data;
    int count = !!peer->pod_selector + !!peer->namespace_selector + !!peer->ip_block;
    if (count == 0)
        fail_required(validator, NULL, "must specify a peer");
    else if (count > 1 && peer->ip_block)
        fail_forbidden(validator, NULL, "may not specify both ipBlock and another peer");
}

void validate_ip_block(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_ip_block *block = data;
    struct cidr outer, inner;
    if (!block->cidr) {
        fail_required(validator, "cidr", "");
        return;
    }
    if (cidr_parse(block->cidr, &outer) != 0) {
        fail_text(validator, "cidr", block->cidr, "%s", not_a_cidr);
        return;
    }
    for (size_t i = 0; i < block->except.count; i++) {
        size_t before = kube_path_push_field(&validator->path, "except");
        kube_path_push_index(&validator->path, i);
        if (cidr_parse(block->except.items[i], &inner) != 0)
            fail_text(validator, NULL, block->except.items[i], "%s", not_a_cidr);
        else if (!cidr_contains(&outer, &inner) || inner.bits <= outer.bits)
            fail_text(validator, NULL, block->except.items[i], "must be a strict subset of `cidr`");
        kube_path_pop(&validator->path, before);
    }
}

/* ---- disruption budgets ---- */

static void check_share(struct validator *validator, const char *name, const struct kube_int_or_string *share) {
    int value = 0;
    if (!share)
        return;
    if (kube_int_or_percent(share, 100, true, &value) != 0)
        fail_text(validator, name, share->text,
                  "a valid percent string must be a numeric string followed by an ending '%%' (e.g. '1%%',  or '93%%', regex used for validation is "
                  "'[0-9]+%%')");
    else if (value < 0)
        fail_number(validator, name, value, "must be greater than or equal to 0");
    else if (share->is_string && value > 100)
        fail_text(validator, name, share->text, "must not be greater than 100%%");
}

void validate_disruption_budget_spec(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_pod_disruption_budget_spec *spec = data;
    if (spec->min_available && spec->max_unavailable)
        fail_value(validator, NULL, "{…}", "minAvailable and maxUnavailable cannot be both set");
    check_share(validator, "minAvailable", spec->min_available);
    check_share(validator, "maxUnavailable", spec->max_unavailable);
}

/* ---- quotas ---- */

static bool is_listed(const char *const *names, const char *name) {
    for (; *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

static const char *quota_name_wrong(const char *name) {
    static const char *const standard[] = {"cpu",
                                           "memory",
                                           "ephemeral-storage",
                                           "requests.cpu",
                                           "requests.memory",
                                           "requests.storage",
                                           "requests.ephemeral-storage",
                                           "limits.cpu",
                                           "limits.memory",
                                           "limits.ephemeral-storage",
                                           "pods",
                                           "resourcequotas",
                                           "services",
                                           "replicationcontrollers",
                                           "secrets",
                                           "persistentvolumeclaims",
                                           "configmaps",
                                           "services.nodeports",
                                           "services.loadbalancers",
                                           NULL};
    const char *wrong = format_check("qualified-name", slice_of(name));
    if (wrong || strchr(name, '/') || is_listed(standard, name))
        return wrong;
    bool huge = slice_starts(slice_of(name), SLICE("hugepages-")) || slice_starts(slice_of(name), SLICE("requests.hugepages-"));
    return huge ? NULL : "must be a standard resource for quotas";
}

static void check_hard(struct validator *validator, const struct kube_quantity_map *hard) {
    static const char *const counted[] = {"pods",
                                          "services",
                                          "replicationcontrollers",
                                          "resourcequotas",
                                          "secrets",
                                          "configmaps",
                                          "persistentvolumeclaims",
                                          "services.nodeports",
                                          "services.loadbalancers",
                                          NULL};
    for (size_t i = 0; i < hard->count; i++) {
        const struct kube_quantity_pair *pair = &hard->items[i];
        const char *wrong = quota_name_wrong(pair->key);
        size_t before = kube_path_push_field(&validator->path, "hard");
        kube_path_push_key(&validator->path, pair->key);
        if (wrong)
            fail_text(validator, NULL, pair->key, "%s", wrong);
        if (pair->value.milli < 0)
            fail_text(validator, NULL, pair->value.text, "must be greater than or equal to 0");
        bool whole = is_listed(counted, pair->key) || slice_starts(slice_of(pair->key), SLICE("count/"));
        if (whole && pair->value.milli % 1000 != 0)
            fail_text(validator, NULL, pair->value.text, "must be an integer");
        kube_path_pop(&validator->path, before);
    }
}

static bool has_scope(const struct kube_string_list *scopes, const char *scope) {
    for (size_t i = 0; i < scopes->count; i++)
        if (strcmp(scopes->items[i], scope) == 0)
            return true;
    return false;
}

void validate_resource_quota_spec(struct validator *validator, const void *data, const void *old) {
    static const char *const known[] = {
        "BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass", "Terminating", "VolumeAttributesClass", NULL};
    const struct kube_resource_quota_spec *spec = data, *before = old;
    check_hard(validator, &spec->hard);
    for (size_t i = 0; i < spec->scopes.count; i++)
        if (!is_listed(known, spec->scopes.items[i]))
            fail_text(validator, "scopes", spec->scopes.items[i], "unsupported scope");
    if ((has_scope(&spec->scopes, "BestEffort") && has_scope(&spec->scopes, "NotBestEffort")) ||
        (has_scope(&spec->scopes, "Terminating") && has_scope(&spec->scopes, "NotTerminating")))
        fail_value(validator, "scopes", "[…]", "conflicting scopes");
    const struct kube_field *field = kube_field_find(&kube_resource_quota_spec_type, SLICE("scopes"));
    if (before && !kube_field_equal(field, &spec->scopes, &before->scopes))
        fail_value(validator, "scopes", "[…]", "field is immutable");
}

void validate_scoped_requirement(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_scoped_resource_selector_requirement *requirement = data;
    bool set = kube_text_is(requirement->operator, "In") || kube_text_is(requirement->operator, "NotIn");
    bool unary = kube_text_is(requirement->operator, "Exists") || kube_text_is(requirement->operator, "DoesNotExist");
    if (set && requirement->values.count == 0)
        fail_required(validator, "values", "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector");
    if (unary && requirement->values.count > 0)
        fail_text(validator, "values", requirement->values.items[0],
                  "must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector");
    if (!set && !unary)
        fail_text(validator, "operator", requirement->operator, "not a valid selector operator");
}

/* ---- limit ranges ---- */

/* Fails when a value of `low` is greater than that of `high`. */
static void check_order(struct validator *validator, const char *field, const struct kube_quantity_map *low, const struct kube_quantity_map *high,
                        bool show_low, const char *words) {
    for (size_t i = 0; i < low->count; i++) {
        const struct kube_quantity_pair *a = &low->items[i], *b = kube_pair_find(high, sizeof *b, a->key);
        if (!b || a->value.milli <= b->value.milli)
            continue;
        size_t before = kube_path_push_field(&validator->path, field);
        kube_path_push_key(&validator->path, a->key);
        fail_text(validator, NULL, show_low ? a->value.text : b->value.text, words, a->value.text, b->value.text);
        kube_path_pop(&validator->path, before);
    }
}

void validate_limit_range_item(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_limit_range_item *item = data;
    if (!item->type)
        fail_required(validator, "type", "");
    if (kube_text_is(item->type, "Pod") && item->default_.count > 0)
        fail_forbidden(validator, "default", "may not be specified when `type` is 'Pod'");
    if (kube_text_is(item->type, "Pod") && item->default_request.count > 0)
        fail_forbidden(validator, "defaultRequest", "may not be specified when `type` is 'Pod'");
    bool claim = kube_text_is(item->type, "PersistentVolumeClaim");
    if (claim && !kube_pair_find(&item->min, sizeof *item->min.items, "storage") && !kube_pair_find(&item->max, sizeof *item->max.items, "storage"))
        fail_required(validator, "limits", "either minimum or maximum storage value is required, but neither was provided");
    check_order(validator, "min", &item->min, &item->max, true, "min value %s is greater than max value %s");
    check_order(validator, "defaultRequest", &item->min, &item->default_request, false, "min value %s is greater than default request value %s");
    check_order(validator, "defaultRequest", &item->default_request, &item->max, true, "default request value %s is greater than max value %s");
    check_order(validator, "defaultRequest", &item->default_request, &item->default_, true,
                "default request value %s is greater than default limit value %s");
    check_order(validator, "default", &item->min, &item->default_, true, "min value %s is greater than default value %s");
    check_order(validator, "default", &item->default_, &item->max, true, "default value %s is greater than max value %s");
    for (size_t i = 0; i < item->max_limit_request_ratio.count; i++)
        if (item->max_limit_request_ratio.items[i].value.milli < 1000) {
            size_t before = kube_path_push_field(&validator->path, "maxLimitRequestRatio");
            kube_path_push_key(&validator->path, item->max_limit_request_ratio.items[i].key);
            fail_text(validator, NULL, item->max_limit_request_ratio.items[i].value.text, "ratio %s is less than 1",
                      item->max_limit_request_ratio.items[i].value.text);
            kube_path_pop(&validator->path, before);
        }
}

void validate_limit_range_spec(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_limit_range_spec *spec = data;
    for (size_t i = 0; i < spec->limits.count; i++)
        for (size_t j = 0; j < i; j++) {
            if (!spec->limits.items[i].type || !kube_text_is(spec->limits.items[j].type, spec->limits.items[i].type))
                continue;
            size_t before = kube_path_push_field(&validator->path, "limits");
            kube_path_push_index(&validator->path, i);
            fail_duplicate(validator, "type", spec->limits.items[i].type);
            kube_path_pop(&validator->path, before);
            break;
        }
}

/* ---- priorities ---- */

#define USER_PRIORITY_MAX 1000000000

void validate_priority_class(struct validator *validator, const void *data, const void *old) {
    const struct kube_priority_class *class = data, *before = old;
    bool system = class->metadata.name && slice_starts(slice_of(class->metadata.name), SLICE("system-"));
    bool own = kube_text_is(class->metadata.name, "system-node-critical") || kube_text_is(class->metadata.name, "system-cluster-critical");
    if (system && !own)
        fail_forbidden(validator, "metadata.name", "priority class names with 'system-' prefix are reserved for system use only");
    if (!system && class->value > USER_PRIORITY_MAX)
        fail_forbidden(validator, "value", "maximum allowed value of a user defined priority is %d", USER_PRIORITY_MAX);
    if (before && class->value != before->value)
        fail_forbidden(validator, "value", "may not be changed in an update.");
}

/* ---- certificate requests ---- */

static const char *signer_wrong(const char *name) {
    const char *slash = strchr(name, '/');
    bool good = slash && slash[1] && name_is_dns_subdomain(slice_make(name, (size_t)(slash - name))) && memchr(name, '.', (size_t)(slash - name));
    return good ? NULL : "must be a fully qualified domain and path of the form 'example.com/signer-name'";
}

void validate_signing_request_spec(struct validator *validator, const void *data, const void *old) {
    const struct kube_certificate_signing_request_spec *spec = data;
    const char *wrong = spec->signer_name ? signer_wrong(spec->signer_name) : NULL;
    if (old) /* the spec of one that exists stays as it is */
        return;
    if (!slice_starts(spec->request, SLICE("-----BEGIN CERTIFICATE REQUEST-----")) &&
        !slice_starts(spec->request, SLICE("-----BEGIN NEW CERTIFICATE REQUEST-----")))
        fail_value(validator, "request", "[…]", "PEM block type must be CERTIFICATE REQUEST");
    if (!spec->signer_name)
        fail_required(validator, "signerName", "");
    else if (wrong)
        fail_text(validator, "signerName", spec->signer_name, "%s", wrong);
    else if (strcmp(spec->signer_name, "kubernetes.io/legacy-unknown") == 0)
        fail_text(validator, "signerName", spec->signer_name, "the legacy signerName is not allowed via this API version");
    if (spec->usages.count == 0)
        fail_required(validator, "usages", "usages is required");
    for (size_t i = 0; i < spec->usages.count; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(spec->usages.items[i], spec->usages.items[j]) == 0) {
                size_t before = kube_path_push_field(&validator->path, "usages");
                kube_path_push_index(&validator->path, i);
                fail_duplicate(validator, NULL, spec->usages.items[i]);
                kube_path_pop(&validator->path, before);
                break;
            }
    if (spec->expiration_seconds && *spec->expiration_seconds < 600)
        fail_number(validator, "expirationSeconds", *spec->expiration_seconds, "may not specify a duration less than 600 seconds (10 minutes)");
}

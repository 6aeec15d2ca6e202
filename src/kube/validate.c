/* Validation. What a field can say for itself stands in the IDL (required, enum, bounds, format, immutable) and is checked by one walk over the
 * tables; what concerns several fields is a function per type, found in the table below and called after the struct's own fields. Messages and field
 * paths are upstream's, since people and tools read them.
 *
 * Invariants: nothing below a root's `status` is checked (it is written by controllers, not people); immutability is only checked where the old
 * struct is known for certain: not within lists. Defaults have been filled before. */
#include "kube/custom_priv.h"
#include "kube/validate_priv.h"

#include <stdio.h>

#define SUMMARY_BYTES_MAX (16 * KIB)
#define SHOWN_BYTES_MAX 200 /* of a value in a message */
#define ANNOTATIONS_BYTES_MAX (256 * KIB)

static const struct {
    const struct kube_type *type;
    validate_function *function;
} functions[] = {
    {&kube_label_selector_requirement_type, validate_label_requirement},
    {&kube_pod_type, validate_pod},
    {&kube_pod_spec_type, validate_pod_spec},
    {&kube_volume_type, validate_volume},
    {&kube_toleration_type, validate_toleration},
    {&kube_container_type, validate_container},
    {&kube_env_var_type, validate_env_var},
    {&kube_env_from_source_type, validate_env_from},
    {&kube_probe_type, validate_probe},
    {&kube_lifecycle_handler_type, validate_lifecycle_handler},
    {&kube_http_get_action_type, validate_http_get},
    {&kube_tcp_socket_action_type, validate_tcp_socket},
    {&kube_resource_requirements_type, validate_resources},
    {&kube_security_context_type, validate_security_context},
    {&kube_pod_security_context_type, validate_pod_security_context},
    {&kube_volume_mount_type, validate_volume_mount},
    {&kube_deployment_spec_type, validate_deployment_spec},
    {&kube_deployment_strategy_type, validate_deployment_strategy},
    {&kube_replica_set_spec_type, validate_replica_set_spec},
    {&kube_job_spec_type, validate_job_spec},
    {&kube_service_spec_type, validate_service_spec},
    {&kube_service_port_type, validate_service_port},
    {&kube_ingress_spec_type, validate_ingress_spec},
    {&kube_ingress_rule_type, validate_ingress_rule},
    {&kube_http_ingress_rule_value_type, validate_http_rule},
    {&kube_http_ingress_path_type, validate_ingress_path},
    {&kube_ingress_backend_type, validate_ingress_backend},
    {&kube_endpoint_subset_type, validate_endpoint_subset},
    {&kube_endpoint_address_type, validate_endpoint_address},
    {&kube_endpoint_slice_type, validate_endpoint_slice},
    {&kube_config_map_type, validate_config_map},
    {&kube_secret_type, validate_secret},
    {&kube_event_type, validate_event},
    {&kube_role_type, validate_role},
    {&kube_cluster_role_type, validate_cluster_role},
    {&kube_role_binding_type, validate_role_binding},
    {&kube_cluster_role_binding_type, validate_cluster_role_binding},
    {&kube_custom_resource_definition_type, validate_custom_resource_definition},
    {&kube_node_selector_type, validate_node_selector},
    {&kube_node_selector_requirement_type, validate_node_requirement},
    {&kube_stateful_set_spec_type, validate_stateful_set_spec},
    {&kube_daemon_set_spec_type, validate_daemon_set_spec},
    {&kube_replication_controller_spec_type, validate_replication_controller_spec},
    {&kube_cron_job_type, validate_cron_job},
    {&kube_cron_job_spec_type, validate_cron_job_spec},
    {&kube_pod_failure_policy_rule_type, validate_failure_rule},
    {&kube_persistent_volume_spec_type, validate_persistent_volume_spec},
    {&kube_volume_node_affinity_type, validate_volume_node_affinity},
    {&kube_persistent_volume_claim_type, validate_persistent_volume_claim},
    {&kube_persistent_volume_claim_spec_type, validate_persistent_volume_claim_spec},
    {&kube_storage_class_type, validate_storage_class},
    {&kube_network_policy_port_type, validate_network_policy_port},
    {&kube_network_policy_peer_type, validate_network_policy_peer},
    {&kube_ip_block_type, validate_ip_block},
    {&kube_ingress_class_spec_type, validate_ingress_class_spec},
    {&kube_pod_disruption_budget_spec_type, validate_disruption_budget_spec},
    {&kube_resource_quota_spec_type, validate_resource_quota_spec},
    {&kube_scoped_resource_selector_requirement_type, validate_scoped_requirement},
    {&kube_limit_range_item_type, validate_limit_range_item},
    {&kube_limit_range_spec_type, validate_limit_range_spec},
    {&kube_priority_class_type, validate_priority_class},
    {&kube_certificate_signing_request_spec_type, validate_signing_request_spec},
    {&kube_webhook_client_config_type, validate_webhook_client},
    {&kube_rule_with_operations_type, validate_rule_with_operations},
    {&kube_named_rule_with_operations_type, validate_named_rule},
    {&kube_validating_webhook_type, validate_validating_webhook},
    {&kube_mutating_webhook_type, validate_mutating_webhook},
    {&kube_validating_admission_policy_spec_type, validate_admission_policy_spec},
    {&kube_validating_admission_policy_binding_spec_type, validate_admission_binding_spec},
    {&kube_v2_metric_spec_type, validate_metric_spec},
    {&kube_v2_hpa_scaling_rules_type, validate_scaling_rules},
    {&kube_v2_horizontal_pod_autoscaler_spec_type, validate_autoscaler_spec},
};

/* ---- reporting ---- */

static void report(struct validator *validator, const char *reason, const char *name, const char *message) {
    size_t before = name ? kube_path_push_field(&validator->path, name) : validator->path.len;
    diag_cause(validator->diag, reason, validator->path.text, "%s", message);
    buffer_printf(&validator->summary, "%s%s: %s", validator->errors > 0 ? ", " : "", validator->path.len > 0 ? validator->path.text : "<nil>",
                  message);
    validator->errors++;
    kube_path_pop(&validator->path, before);
}

static void report_invalid(struct validator *validator, const char *name, const char *value, const char *format, va_list args) {
    char message[DIAG_TEXT_MAX];
    int at = snprintf(message, sizeof message, "Invalid value: %s: ", value);
    vsnprintf(message + at, sizeof message - (size_t)at, format, args);
    report(validator, "FieldValueInvalid", name, message);
}

void fail_reason(struct validator *validator, const char *reason, const char *name, const char *format, ...) {
    char message[DIAG_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    report(validator, reason, name, message);
}

void fail_required(struct validator *validator, const char *name, const char *detail) {
    char message[DIAG_TEXT_MAX];
    snprintf(message, sizeof message, "Required value%s%s", detail[0] ? ": " : "", detail);
    report(validator, "FieldValueRequired", name, message);
}

void fail_forbidden(struct validator *validator, const char *name, const char *format, ...) {
    char message[DIAG_TEXT_MAX] = "Forbidden: ";
    size_t at = strlen(message);
    va_list args;
    va_start(args, format);
    vsnprintf(message + at, sizeof message - at, format, args);
    va_end(args);
    report(validator, "FieldValueForbidden", name, message);
}

void fail_duplicate(struct validator *validator, const char *name, const char *value) {
    char message[DIAG_TEXT_MAX];
    snprintf(message, sizeof message, "Duplicate value: \"%.*s\"", SHOWN_BYTES_MAX, kube_text_or(value, ""));
    report(validator, "FieldValueDuplicate", name, message);
}

void fail_not_found(struct validator *validator, const char *name, const char *value) {
    char message[DIAG_TEXT_MAX];
    snprintf(message, sizeof message, "Not found: \"%.*s\"", SHOWN_BYTES_MAX, kube_text_or(value, ""));
    report(validator, "FieldValueNotFound", name, message);
}

void fail_text(struct validator *validator, const char *name, const char *value, const char *format, ...) {
    char shown[SHOWN_BYTES_MAX + 3];
    va_list args;
    snprintf(shown, sizeof shown, "\"%.*s\"", SHOWN_BYTES_MAX, kube_text_or(value, ""));
    va_start(args, format);
    report_invalid(validator, name, shown, format, args);
    va_end(args);
}

void fail_number(struct validator *validator, const char *name, int64_t value, const char *format, ...) {
    char shown[40];
    va_list args;
    snprintf(shown, sizeof shown, "%" PRId64, value);
    va_start(args, format);
    report_invalid(validator, name, shown, format, args);
    va_end(args);
}

void fail_value(struct validator *validator, const char *name, const char *value, const char *format, ...) {
    char shown[SHOWN_BYTES_MAX + 1];
    va_list args;
    snprintf(shown, sizeof shown, "%.*s", SHOWN_BYTES_MAX, value);
    va_start(args, format);
    report_invalid(validator, name, shown, format, args);
    va_end(args);
}

void fail_long(struct validator *validator, const char *name, size_t bytes_max) {
    char message[DIAG_TEXT_MAX];
    snprintf(message, sizeof message, "Too long: may not be more than %zu bytes", bytes_max);
    report(validator, "FieldValueTooLong", name, message);
}

void fail_supported(struct validator *validator, const char *name, const char *value, const char *const *supported) {
    struct buffer message = BUFFER_INIT(DIAG_TEXT_MAX);
    buffer_printf(&message, "Unsupported value: \"%.*s\": supported values: ", SHOWN_BYTES_MAX, kube_text_or(value, ""));
    for (size_t i = 0; supported[i]; i++)
        buffer_printf(&message, "%s\"%s\"", i ? ", " : "", supported[i]);
    report(validator, "FieldValueNotSupported", name, message.data ? message.data : "Unsupported value");
    buffer_deinit(&message);
}

void validate_format(struct validator *validator, const char *name, const char *text, const char *format) {
    const char *wrong = text && text[0] ? format_check(format, slice_of(text)) : NULL;
    if (wrong)
        fail_text(validator, name, text, "%s", wrong);
}

/* ---- one field ---- */

static void check_enum(struct validator *validator, const struct kube_field *field, const char *value) {
    for (size_t i = 0; field->values->items[i]; i++)
        if (strcmp(field->values->items[i], value) == 0)
            return;
    fail_supported(validator, NULL, value, field->values->items);
}

static void check_bounds(struct validator *validator, const struct kube_rules *rules, int64_t value) {
    bool low = rules->has_min && value < rules->min, high = rules->has_max && value > rules->max;
    if (!low && !high)
        return;
    if (rules->has_min && rules->has_max)
        fail_number(validator, NULL, value, "must be between %" PRId64 " and %" PRId64 ", inclusive", rules->min, rules->max);
    else if (low && rules->min == 1)
        fail_number(validator, NULL, value, "must be greater than 0");
    else if (low)
        fail_number(validator, NULL, value, "must be greater than or equal to %" PRId64, rules->min);
    else
        fail_number(validator, NULL, value, "must be less than or equal to %" PRId64, rules->max);
}

static void check_text(struct validator *validator, const struct kube_field *field, const char *value) {
    const char *format = kube_rules_of(field)->format;
    if (!value || !value[0])
        return;
    if (field->values && field->values->closed)
        check_enum(validator, field, value);
    const char *wrong = format ? format_check(format, slice_of(value)) : NULL;
    if (wrong)
        fail_text(validator, NULL, value, "%s", wrong);
}

static void check_pairs(struct validator *validator, const struct kube_string_map *map, bool labels) {
    size_t total = 0;
    for (size_t i = 0; i < map->count; i++) {
        const char *key = map->items[i].key, *value = map->items[i].value;
        const char *wrong = format_check("qualified-name", slice_of(key));
        if (wrong)
            fail_text(validator, NULL, key, "%s", wrong);
        wrong = labels ? format_check("label-value", slice_of(value)) : NULL;
        if (wrong)
            fail_text(validator, NULL, value, "%s", wrong);
        total += strlen(key) + strlen(value);
    }
    if (!labels && total > ANNOTATIONS_BYTES_MAX)
        fail_long(validator, NULL, ANNOTATIONS_BYTES_MAX);
}

static void check_immutable(struct validator *validator, const struct kube_field *field, const void *at, const void *old) {
    if (kube_field_equal(field, at, old))
        return;
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(API_BODY_BYTES_MAX);
    struct tree *value = arena ? kube_field_tree(field, at, arena) : NULL;
    if (value)
        json_format(&text, value);
    fail_value(validator, NULL, text.data ? text.data : "null", "field is immutable");
}

static void check_value(struct validator *validator, const struct kube_field *field, const void *at) {
    const struct kube_rules *rules = kube_rules_of(field);
    const struct kube_string_list *list = at;
    bool bounded = rules->has_min || rules->has_max;
    if (field->shape == KUBE_SHAPE_MAP && rules->format)
        check_pairs(validator, at, strcmp(rules->format, "labels") == 0);
    for (size_t i = 0; field->shape == KUBE_SHAPE_LIST && field->form == KUBE_FORM_STRING && i < list->count; i++) {
        size_t before = kube_path_push_index(&validator->path, i);
        check_text(validator, field, list->items[i]);
        kube_path_pop(&validator->path, before);
    }
    if (field->shape > KUBE_SHAPE_POINTER)
        return;
    if (field->form == KUBE_FORM_STRING)
        check_text(validator, field, *(const char *const *)at);
    bool empty = kube_field_is_empty(field, at);
    if (!bounded || (empty && (field->shape == KUBE_SHAPE_POINTER || !(field->flags & KUBE_ALWAYS))))
        return;
    const void *number = field->shape == KUBE_SHAPE_POINTER ? *(void *const *)at : at;
    check_bounds(validator, rules, field->form == KUBE_FORM_INT32 ? *(const int32_t *)number : *(const int64_t *)number);
}

static void validate_struct(struct validator *validator, const struct kube_type *type, const void *data, const void *old);

static void validate_children(struct validator *validator, const struct kube_field *field, const void *at, const void *old) {
    const struct kube_array *items = at;
    if (field->shape == KUBE_SHAPE_VALUE)
        validate_struct(validator, field->type, at, old);
    else if (field->shape == KUBE_SHAPE_POINTER && *(void *const *)at)
        validate_struct(validator, field->type, *(void *const *)at, old ? *(void *const *)old : NULL);
    for (size_t i = 0; field->shape == KUBE_SHAPE_LIST && i < items->count; i++) {
        size_t before = kube_path_push_index(&validator->path, i);
        validate_struct(validator, field->type, (const char *)items->items + i * field->type->size, NULL);
        kube_path_pop(&validator->path, before);
    }
}

static void validate_field(struct validator *validator, const struct kube_field *field, const void *at, const void *old) {
    if (field->flags & KUBE_REQUIRED && kube_field_is_empty(field, at)) {
        fail_required(validator, NULL, "");
        return;
    }
    if (old && field->flags & KUBE_FIXED && !kube_field_equal(field, at, old))
        fail_forbidden(validator, NULL, "updates to %s are forbidden.", field->name);
    if (old && field->flags & KUBE_IMMUTABLE)
        check_immutable(validator, field, at, old);
    if (field->form == KUBE_FORM_STRUCT)
        validate_children(validator, field, at, old);
    else if (field->rules || field->values)
        check_value(validator, field, at);
}

/* A part of the object that an update leaves as it is was judged when it was written: by what a later release thinks of it neither its status nor its
 * finalizers are held up. Not so when the object is its own old version, whose changes were checked elsewhere. */
static bool is_left(const struct kube_field *field, const void *data, const void *old) {
    return old && old != data && strcmp(field->name, "metadata") != 0 && kube_field_equal(field, kube_at(field, data), kube_at(field, old));
}

static void validate_struct(struct validator *validator, const struct kube_type *type, const void *data, const void *old) {
    bool root = validator->path.len == 0;
    for (size_t i = 0; i < type->fields_count; i++) {
        const struct kube_field *field = &type->fields[i];
        if (root && (strcmp(field->name, "status") == 0 || is_left(field, data, old)))
            continue;
        size_t before = kube_path_push_field(&validator->path, field->name);
        validate_field(validator, field, kube_at(field, data), old ? kube_at(field, old) : NULL);
        kube_path_pop(&validator->path, before);
    }
    for (size_t i = 0; i < ARRAY_LEN(functions); i++)
        if (functions[i].type == type)
            functions[i].function(validator, data, old);
}

static int validate(const struct kube_object *object, const struct kube_object *old, validate_function *more, const void *more_old,
                    struct diag *diag) {
    struct validator validator = {.object = object, .old = old, .diag = diag, .summary = BUFFER_INIT(SUMMARY_BYTES_MAX)};
    const struct kube_kind *kind = object->kind;
    size_t before = kube_path_push_field(&validator.path, "metadata");
    validate_metadata(&validator, object->metadata, old ? old->metadata : NULL);
    kube_path_pop(&validator.path, before);
    validate_struct(&validator, kind->type, object->data, old ? old->data : NULL);
    if (kind->custom)
        custom_check(&validator, object, old);
    if (more)
        more(&validator, object->data, more_old);
    if (validator.errors > 0)
        diag_set(diag, -EINVAL, "%s%s%s \"%s\" is invalid: %s%s%s", kind->kind, kind->group[0] ? "." : "", kind->group,
                 kube_text_or(object->metadata->name, ""), validator.errors > 1 ? "[" : "", validator.summary.data, validator.errors > 1 ? "]" : "");
    buffer_deinit(&validator.summary);
    if (validator.no_memory)
        return diag_set(diag, -ENOMEM, "the object takes too much memory to check");
    return validator.errors > 0 ? -EINVAL : 0;
}

int kube_validate(const struct kube_object *object, const struct kube_object *old, struct diag *diag) {
    return validate(object, old, NULL, NULL, diag);
}

int kube_validate_resize(const struct kube_object *object, const struct kube_object *old, struct diag *diag) {
    return validate(object, object, validate_pod_resize, old->data, diag);
}

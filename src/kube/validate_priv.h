/* Validation within the folder: the state that walks along, and how errors are reported in upstream's words. */
#ifndef TIDEMILL_KUBE_VALIDATE_PRIV_H
#define TIDEMILL_KUBE_VALIDATE_PRIV_H

#include "kube/helpers_priv.h"
#include "kube/path_priv.h"

struct validator {
    const struct kube_object *object, *old; /* old NULL: being created */
    struct diag *diag;
    struct kube_path path;
    size_t errors;
    bool no_memory;        /* to check with: nothing can be said of the object */
    struct buffer summary; /* "spec.a: Required value, spec.b: …" */
};

/* Checks one struct; `data` is of the type it is registered for, the path is that of the struct. old is NULL on create or within lists. */
typedef void validate_function(struct validator *validator, const void *data, const void *old);

/* Any reason ("FieldValueTypeInvalid") and message, the latter as it stands. */
__attribute__((format(printf, 4, 5))) void fail_reason(struct validator *validator, const char *reason, const char *name, const char *format, ...);
/* Reports an error of the field `name` below the path; name NULL: of the path itself. */
void fail_required(struct validator *validator, const char *name, const char *detail); /* detail may be "" */
__attribute__((format(printf, 3, 4))) void fail_forbidden(struct validator *validator, const char *name, const char *format, ...);
void fail_duplicate(struct validator *validator, const char *name, const char *value);
void fail_not_found(struct validator *validator, const char *name, const char *value);
/* Value is quoted. */
__attribute__((format(printf, 4, 5))) void fail_text(struct validator *validator, const char *name, const char *value, const char *format, ...);
__attribute__((format(printf, 4, 5))) void fail_number(struct validator *validator, const char *name, int64_t value, const char *format, ...);
/* Value is written as it is: JSON. */
__attribute__((format(printf, 4, 5))) void fail_value(struct validator *validator, const char *name, const char *value, const char *format, ...);
void fail_long(struct validator *validator, const char *name, size_t bytes_max);
/* `Unsupported value: "x": supported values: "A", "B"`; supported ends with NULL. */
void fail_supported(struct validator *validator, const char *name, const char *value, const char *const *supported);

/* What is wrong with the text, in upstream's words; NULL when nothing is. Unknown format names are bugs. */
const char *format_check(const char *format, struct slice text);
/* Checks what is there against a format. */
void validate_format(struct validator *validator, const char *name, const char *text, const char *format);
struct cidr {
    unsigned char address[16]; /* of IPv4 the first four bytes */
    int length;                /* of the address: 4 or 16 */
    int bits;
};
extern const char not_a_cidr[];
int cidr_parse(const char *text, struct cidr *ret); /* 0 or -EINVAL */
bool cidr_contains(const struct cidr *outer, const struct cidr *inner);
bool text_is_ip(const char *text);
bool text_is_ip6(const char *text);
/* Checks a port number or name. */
void validate_pod_level(struct validator *validator, const struct kube_pod_spec *spec);
void validate_port(struct validator *validator, const char *name, const struct kube_int_or_string *port);

validate_function validate_metadata, validate_label_requirement;
validate_function validate_pod, validate_pod_resize, validate_pod_spec, validate_volume, validate_toleration;
validate_function validate_container, validate_env_var, validate_env_from, validate_probe, validate_lifecycle_handler, validate_http_get,
    validate_tcp_socket, validate_resources, validate_security_context, validate_pod_security_context, validate_volume_mount;
validate_function validate_deployment_spec, validate_deployment_strategy, validate_replica_set_spec, validate_job_spec;
validate_function validate_service_spec, validate_service_port, validate_ingress_spec, validate_ingress_rule, validate_ingress_path,
    validate_ingress_backend, validate_http_rule, validate_endpoint_subset, validate_endpoint_slice, validate_endpoint_address;
validate_function validate_node_selector, validate_node_requirement;
validate_function validate_stateful_set_spec, validate_daemon_set_spec, validate_replication_controller_spec, validate_cron_job,
    validate_cron_job_spec, validate_failure_rule;
validate_function validate_persistent_volume_spec, validate_volume_node_affinity, validate_persistent_volume_claim,
    validate_persistent_volume_claim_spec, validate_storage_class;
validate_function validate_network_policy_port, validate_network_policy_peer, validate_ip_block, validate_ingress_class_spec;
validate_function validate_disruption_budget_spec, validate_resource_quota_spec, validate_scoped_requirement, validate_limit_range_item,
    validate_limit_range_spec, validate_priority_class, validate_signing_request_spec;
validate_function validate_webhook_client, validate_rule_with_operations, validate_named_rule, validate_validating_webhook, validate_mutating_webhook,
    validate_admission_policy_spec, validate_admission_binding_spec;
validate_function validate_metric_spec, validate_scaling_rules, validate_autoscaler_spec;
validate_function validate_config_map, validate_secret, validate_event;
validate_function validate_role, validate_cluster_role, validate_role_binding, validate_cluster_role_binding;
validate_function validate_custom_resource_definition;

#endif

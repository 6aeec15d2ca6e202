/* Containers: environment, probes, ports, resources, security. */
#include <stdio.h>

#include "kube/validate_priv.h"

static void check_ports(struct validator *validator, const struct kube_container *container) {
    for (size_t i = 0; i < container->ports.count; i++) {
        const char *name = container->ports.items[i].name;
        for (size_t j = 0; name && j < i; j++)
            if (kube_text_is(container->ports.items[j].name, name)) {
                size_t before = kube_path_push_field(&validator->path, "ports");
                kube_path_push_index(&validator->path, i);
                fail_duplicate(validator, "name", name);
                kube_path_pop(&validator->path, before);
                break;
            }
    }
}

static void check_propagation(struct validator *validator, const struct kube_container *container) {
    const struct kube_security_context *security = container->security_context;
    for (size_t i = 0; i < container->volume_mounts.count; i++) {
        if (!kube_text_is(container->volume_mounts.items[i].mount_propagation, "Bidirectional") ||
            (security && security->privileged && *security->privileged))
            continue;
        size_t before = kube_path_push_field(&validator->path, "volumeMounts");
        kube_path_push_index(&validator->path, i);
        fail_forbidden(validator, "mountPropagation", "Bidirectional mount propagation is available only to privileged containers");
        kube_path_pop(&validator->path, before);
    }
}

void validate_container(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_container *container = data;
    struct slice image = slice_of(container->image);
    if (!container->image)
        fail_required(validator, "image", "");
    else if (slice_trim(image).len != image.len)
        fail_text(validator, "image", container->image, "must not have leading or trailing whitespace");
    check_ports(validator, container);
    check_propagation(validator, container);
    const struct kube_probe *const strict[] = {container->liveness_probe, container->startup_probe};
    for (size_t i = 0; i < ARRAY_LEN(strict); i++)
        if (strict[i] && strict[i]->success_threshold != 1)
            fail_number(validator, i == 0 ? "livenessProbe.successThreshold" : "startupProbe.successThreshold", strict[i]->success_threshold,
                        "must be 1");
}

void validate_volume_mount(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_volume_mount *mount = data;
    if (mount->sub_path) {
        const char *wrong = format_check("local-path", slice_of(mount->sub_path));
        if (wrong)
            fail_text(validator, "subPath", mount->sub_path, "%s", wrong);
    }
    if (mount->sub_path && mount->sub_path_expr)
        fail_text(validator, "subPathExpr", mount->sub_path_expr, "subPathExpr and subPath are mutually exclusive");
    bool recursive = mount->recursive_read_only && !kube_text_is(mount->recursive_read_only, "Disabled");
    if (recursive && !mount->read_only)
        fail_forbidden(validator, "recursiveReadOnly", "may only be specified when readOnly is true");
    if (recursive && mount->mount_propagation && !kube_text_is(mount->mount_propagation, "None"))
        fail_forbidden(validator, "recursiveReadOnly", "may only be specified when mountPropagation is None or not specified");
}

void validate_env_var(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_env_var *env = data;
    const struct kube_env_var_source *source = env->value_from;
    if (!source)
        return;
    int count = !!source->field_ref + !!source->resource_field_ref + !!source->config_map_key_ref + !!source->secret_key_ref + !!source->file_key_ref;
    if (count == 0)
        fail_text(validator, "valueFrom", "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`");
    else if (env->value)
        fail_text(validator, "valueFrom", "", "may not be specified when `value` is not empty");
    else if (count > 1)
        fail_text(validator, "valueFrom", "", "may not have more than one field specified at a time");
    if (source->config_map_key_ref && !source->config_map_key_ref->name)
        fail_required(validator, "valueFrom.configMapKeyRef.name", "");
    if (source->secret_key_ref && !source->secret_key_ref->name)
        fail_required(validator, "valueFrom.secretKeyRef.name", "");
}

void validate_env_from(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_env_from_source *source = data;
    if (!source->config_map_ref && !source->secret_ref)
        fail_text(validator, NULL, "", "must specify one of: `configMapRef` or `secretRef`");
    if (source->config_map_ref && source->secret_ref)
        fail_text(validator, NULL, "", "may not have more than one field specified at a time");
    if (source->config_map_ref && !source->config_map_ref->name)
        fail_required(validator, "configMapRef.name", "");
    if (source->secret_ref && !source->secret_ref->name)
        fail_required(validator, "secretRef.name", "");
}

/* ---- probes and hooks ---- */

struct handler {
    const void *set;
    const char *name;
};

static void check_one_handler(struct validator *validator, const struct handler *handlers, size_t count) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        if (handlers[i].set && ++found > 1)
            fail_forbidden(validator, handlers[i].name, "may not specify more than 1 handler type");
    if (found == 0)
        fail_required(validator, NULL, "must specify a handler type");
}

void validate_probe(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_probe *probe = data;
    const struct handler handlers[] = {{probe->exec, "exec"}, {probe->http_get, "httpGet"}, {probe->tcp_socket, "tcpSocket"}, {probe->grpc, "grpc"}};
    check_one_handler(validator, handlers, ARRAY_LEN(handlers));
    if (probe->termination_grace_period_seconds && *probe->termination_grace_period_seconds <= 0)
        fail_number(validator, "terminationGracePeriodSeconds", *probe->termination_grace_period_seconds, "must be greater than 0");
}

void validate_lifecycle_handler(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_lifecycle_handler *hook = data;
    const struct handler handlers[] = {{hook->exec, "exec"}, {hook->http_get, "httpGet"}, {hook->tcp_socket, "tcpSocket"}, {hook->sleep, "sleep"}};
    check_one_handler(validator, handlers, ARRAY_LEN(handlers));
}

void validate_port(struct validator *validator, const char *name, const struct kube_int_or_string *port) {
    if (!port->is_string) {
        if (port->number < 1 || port->number > 65535)
            fail_number(validator, name, port->number, "must be between 1 and 65535, inclusive");
        return;
    }
    const char *text = kube_text_or(port->text, "");
    const char *wrong = text[0] ? format_check("port-name", slice_of(text)) : "must contain at least one letter (a-z)";
    if (wrong)
        fail_text(validator, name, text, "%s", wrong);
}

void validate_http_get(struct validator *validator, const void *data, const void *old) {
    (void)old;
    validate_port(validator, "port", &((const struct kube_http_get_action *)data)->port);
}

void validate_tcp_socket(struct validator *validator, const void *data, const void *old) {
    (void)old;
    validate_port(validator, "port", &((const struct kube_tcp_socket_action *)data)->port);
}

/* ---- resources ---- */

static bool is_standard_resource(const char *name) {
    static const char *const names[] = {"cpu", "memory", "ephemeral-storage"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return strncmp(name, "hugepages-", 10) == 0;
}

static void check_quantities(struct validator *validator, const struct kube_quantity_map *map, const char *field) {
    for (size_t i = 0; i < map->count; i++) {
        const char *name = map->items[i].key;
        const char *wrong = format_check("qualified-name", slice_of(name));
        size_t before = kube_path_push_field(&validator->path, field);
        kube_path_push_key(&validator->path, name);
        if (wrong)
            fail_text(validator, NULL, name, "%s", wrong);
        else if (!strchr(name, '/') && !is_standard_resource(name))
            fail_text(validator, NULL, name, "must be a standard resource for containers");
        if (map->items[i].value.milli < 0)
            fail_text(validator, NULL, map->items[i].value.text, "must be greater than or equal to 0");
        kube_path_pop(&validator->path, before);
    }
}

void validate_resources(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_resource_requirements *resources = data;
    check_quantities(validator, &resources->limits, "limits");
    check_quantities(validator, &resources->requests, "requests");
    for (size_t i = 0; i < resources->requests.count; i++) {
        const struct kube_quantity_pair *request = &resources->requests.items[i];
        const struct kube_quantity_pair *limit = kube_pair_find(&resources->limits, sizeof *limit, request->key);
        if (limit && request->value.milli > limit->value.milli)
            fail_text(validator, "requests", request->value.text, "must be less than or equal to %s limit of %s", request->key, limit->value.text);
    }
}

/* ---- security ---- */

static void check_id(struct validator *validator, const char *name, const int64_t *id) {
    if (id && (*id < 0 || *id > INT32_MAX))
        fail_number(validator, name, *id, "must be between 0 and 2147483647, inclusive");
}

static bool has_back_step(const char *path) {
    for (struct slice rest = slice_of(path); rest.data;)
        if (slice_is(slice_cut(&rest, '/'), ".."))
            return true;
    return false;
}

static bool has_outer_space(const char *text) {
    struct slice all = slice_of(text);
    return slice_trim(all).len != all.len;
}

/* A profile of seccomp or AppArmor: the name of a file or of a loaded profile belongs to the type Localhost alone. */
static void check_profile(struct validator *validator, const char *field, const char *what, const char *type, const char *name) {
    bool local = kube_text_is(type, "Localhost");
    char path[64], missing[64];
    snprintf(path, sizeof path, "%s.type", field);
    snprintf(missing, sizeof missing, "type is required when %s is set", field);
    if (!type || !*type)
        fail_required(validator, path, missing);
    snprintf(path, sizeof path, "%s.localhostProfile", field);
    snprintf(missing, sizeof missing, "must be set when %s type is Localhost", what);
    if (local && (!name || !*name))
        fail_required(validator, path, missing);
    else if (!local && name)
        fail_text(validator, path, name, "can only be set when %s type is Localhost", what);
}

static void check_profiles(struct validator *validator, const struct kube_seccomp_profile *seccomp, const struct kube_app_armor_profile *apparmor) {
    if (seccomp)
        check_profile(validator, "seccompProfile", "seccomp", seccomp->type, seccomp->localhost_profile);
    if (seccomp && seccomp->localhost_profile && *seccomp->localhost_profile == '/')
        fail_text(validator, "seccompProfile.localhostProfile", seccomp->localhost_profile, "must be a relative path");
    if (seccomp && seccomp->localhost_profile && has_back_step(seccomp->localhost_profile))
        fail_text(validator, "seccompProfile.localhostProfile", seccomp->localhost_profile, "must not contain '..'");
    if (apparmor)
        check_profile(validator, "appArmorProfile", "AppArmor", apparmor->type, apparmor->localhost_profile);
    if (apparmor && apparmor->localhost_profile && has_outer_space(apparmor->localhost_profile))
        fail_text(validator, "appArmorProfile.localhostProfile", apparmor->localhost_profile, "must not be padded with whitespace");
}

static bool adds_capability(const struct kube_security_context *context, const char *name) {
    for (size_t i = 0; context->capabilities && i < context->capabilities->add.count; i++)
        if (kube_text_is(context->capabilities->add.items[i], name))
            return true;
    return false;
}

void validate_security_context(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_security_context *context = data;
    check_id(validator, "runAsUser", context->run_as_user);
    check_id(validator, "runAsGroup", context->run_as_group);
    check_profiles(validator, context->seccomp_profile, context->app_armor_profile);
    bool no_escalation = context->allow_privilege_escalation && !*context->allow_privilege_escalation;
    if (no_escalation && context->privileged && *context->privileged)
        fail_value(validator, NULL, "{…}", "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
    if (no_escalation && adds_capability(context, "CAP_SYS_ADMIN")) /* SYS_ADMIN, the usual way to write it, is let through upstream too */
        fail_value(validator, NULL, "{…}", "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
}

void validate_pod_security_context(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_pod_security_context *context = data;
    check_id(validator, "runAsUser", context->run_as_user);
    check_id(validator, "runAsGroup", context->run_as_group);
    check_id(validator, "fsGroup", context->fs_group);
    check_profiles(validator, context->seccomp_profile, context->app_armor_profile);
    for (size_t i = 0; i < context->supplemental_groups.count; i++)
        check_id(validator, "supplementalGroups", &context->supplemental_groups.items[i]);
}

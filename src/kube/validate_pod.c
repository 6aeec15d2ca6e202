/* Pods: what holds between containers, volumes and the pod; and what may change of a pod that exists. */
#include "kube/validate_priv.h"

#define SYSCTL_NAME_BYTES_MAX 253

#include <stdio.h>

/* ---- names across containers ---- */

static bool container_named_before(const struct kube_pod_spec *spec, const char *name, const struct kube_container *until) {
    const struct kube_container_array *const lists[] = {&spec->init_containers, &spec->containers};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->count; i++) {
            if (&lists[l]->items[i] == until)
                return false;
            if (kube_text_is(lists[l]->items[i].name, name))
                return true;
        }
    return false;
}

/* Pods of a stateful set also get its claims. */
static bool has_claim_template(const struct kube_object *object, const char *name) {
    if (object->kind != &kube_kind_stateful_set)
        return false;
    const struct kube_persistent_volume_claim_array *claims = &object->stateful_set->spec.volume_claim_templates;
    for (size_t i = 0; i < claims->count; i++)
        if (kube_text_is(claims->items[i].metadata.name, name))
            return true;
    return false;
}

static bool has_volume(const struct validator *validator, const struct kube_pod_spec *spec, const char *name) {
    for (size_t i = 0; i < spec->volumes.count; i++)
        if (kube_text_is(spec->volumes.items[i].name, name))
            return true;
    return has_claim_template(validator->object, name);
}

static void check_mounts(struct validator *validator, const struct kube_pod_spec *spec, const struct kube_container *container) {
    for (size_t i = 0; i < container->volume_mounts.count; i++) {
        const struct kube_volume_mount *mount = &container->volume_mounts.items[i];
        size_t before = kube_path_push_field(&validator->path, "volumeMounts");
        kube_path_push_index(&validator->path, i);
        if (mount->name && !has_volume(validator, spec, mount->name))
            fail_not_found(validator, "name", mount->name);
        for (size_t j = 0; mount->mount_path && j < i; j++)
            if (kube_text_is(container->volume_mounts.items[j].mount_path, mount->mount_path)) {
                fail_text(validator, "mountPath", mount->mount_path, "must be unique");
                break;
            }
        kube_path_pop(&validator->path, before);
    }
}

static void check_host_ports(struct validator *validator, const struct kube_pod_spec *spec, const struct kube_container *container) {
    for (size_t i = 0; spec->host_network && i < container->ports.count; i++) {
        const struct kube_container_port *port = &container->ports.items[i];
        size_t before = kube_path_push_field(&validator->path, "ports");
        kube_path_push_index(&validator->path, i);
        if (port->host_port != port->container_port)
            fail_number(validator, "hostPort", port->host_port, "must match `containerPort` when `hostNetwork` is true");
        kube_path_pop(&validator->path, before);
    }
}

#define RESTART_RULES_MAX 20
#define RESTART_CODES_MAX 255

static void check_restart_rule(struct validator *validator, const struct kube_container_restart_rule *rule) {
    static const char *const actions[] = {"Restart", NULL};
    if (!kube_text_is(rule->action, actions[0]))
        fail_supported(validator, "action", rule->action, actions);
    if (!rule->exit_codes)
        return fail_required(validator, "exitCodes", "must be specified");
    if (rule->exit_codes->values.count > RESTART_CODES_MAX)
        fail_forbidden(validator, "exitCodes", "must have at most 255 values");
}

static void check_restart_policy(struct validator *validator, const struct kube_container *container, bool init) {
    const struct kube_container_restart_rule_array *rules = &container->restart_policy_rules;
    bool sidecar = kube_text_is(container->restart_policy, "Always");
    if (!container->restart_policy && rules->count)
        fail_required(validator, "restartPolicy", "must specify restartPolicy when restart rules are used");
    if (rules->count > RESTART_RULES_MAX)
        fail_forbidden(validator, "restartPolicyRules", "must have at most 20 rules");
    for (size_t i = 0; i < rules->count; i++) {
        size_t before = kube_path_push_field(&validator->path, "restartPolicyRules");
        kube_path_push_index(&validator->path, i);
        check_restart_rule(validator, &rules->items[i]);
        kube_path_pop(&validator->path, before);
    }
    if (!init || sidecar)
        return;
    const struct {
        const void *set;
        const char *name;
    } refused[] = {{container->lifecycle, "lifecycle"},
                   {container->liveness_probe, "livenessProbe"},
                   {container->readiness_probe, "readinessProbe"},
                   {container->startup_probe, "startupProbe"}};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (refused[i].set)
            fail_forbidden(validator, refused[i].name, "may not be set for init containers without restartPolicy=Always");
}

static void check_resize_policy(struct validator *validator, const struct kube_pod_spec *spec, const struct kube_container *container) {
    static const char *const resources[] = {"cpu", "memory", NULL};
    const struct kube_container_resize_policy_array *list = &container->resize_policy;
    for (size_t i = 0; i < list->count; i++) {
        const char *name = kube_text_or(list->items[i].resource_name, ""), *policy = kube_text_or(list->items[i].restart_policy, "");
        size_t before = kube_path_push_field(&validator->path, "resizePolicy");
        for (size_t j = 0; j < i; j++)
            if (kube_text_is(list->items[j].resource_name, name))
                fail_duplicate(validator, NULL, name);
        if (strcmp(name, "cpu") != 0 && strcmp(name, "memory") != 0)
            fail_supported(validator, NULL, name, resources);
        if (kube_text_is(spec->restart_policy, "Never") && strcmp(policy, "RestartContainer") == 0)
            fail_text(validator, NULL, policy, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        kube_path_pop(&validator->path, before);
    }
}

static void check_containers(struct validator *validator, const struct kube_pod_spec *spec, const struct kube_container_array *list,
                             const char *name) {
    for (size_t i = 0; i < list->count; i++) {
        const struct kube_container *container = &list->items[i];
        size_t before = kube_path_push_field(&validator->path, name);
        kube_path_push_index(&validator->path, i);
        if (container->name && container_named_before(spec, container->name, container))
            fail_duplicate(validator, "name", container->name);
        check_restart_policy(validator, container, list == &spec->init_containers);
        check_resize_policy(validator, spec, container);
        check_mounts(validator, spec, container);
        check_host_ports(validator, spec, container);
        kube_path_pop(&validator->path, before);
    }
}

/* Two containers of a pod cannot have the same port of the host. */
static void check_port_conflicts(struct validator *validator, const struct kube_pod_spec *spec) {
    for (size_t i = 0; i < spec->containers.count; i++)
        for (size_t p = 0; p < spec->containers.items[i].ports.count; p++) {
            const struct kube_container_port *port = &spec->containers.items[i].ports.items[p];
            bool taken = false;
            for (size_t j = 0; port->host_port != 0 && j <= i; j++)
                for (size_t q = 0; q < (j == i ? p : spec->containers.items[j].ports.count); q++) {
                    const struct kube_container_port *other = &spec->containers.items[j].ports.items[q];
                    bool same_address = strcmp(kube_text_or(port->host_ip, ""), kube_text_or(other->host_ip, "")) == 0;
                    taken = taken || (port->host_port == other->host_port && same_address &&
                                      strcmp(kube_text_or(port->protocol, "TCP"), kube_text_or(other->protocol, "TCP")) == 0);
                }
            if (!taken)
                continue;
            size_t before = kube_path_push_field(&validator->path, "containers");
            kube_path_push_index(&validator->path, i);
            kube_path_push_field(&validator->path, "ports");
            kube_path_push_index(&validator->path, p);
            fail_duplicate(validator, "hostPort", kube_text_or(port->protocol, "TCP"));
            kube_path_pop(&validator->path, before);
        }
}

static void check_dns(struct validator *validator, const struct kube_pod_spec *spec) {
    bool none = kube_text_is(spec->dns_policy, "None");
    if (none && !spec->dns_config)
        fail_required(validator, "dnsConfig", "must provide `dnsConfig` when `dnsPolicy` is None");
    else if (none && spec->dns_config->nameservers.count == 0)
        fail_required(validator, "dnsConfig.nameservers", "must provide at least one DNS nameserver when `dnsPolicy` is None");
    for (size_t i = 0; spec->dns_config && i < spec->dns_config->nameservers.count; i++)
        if (!text_is_ip(spec->dns_config->nameservers.items[i])) {
            size_t before = kube_path_push_field(&validator->path, "dnsConfig.nameservers");
            kube_path_push_index(&validator->path, i);
            fail_text(validator, NULL, spec->dns_config->nameservers.items[i], "must be valid IP address");
            kube_path_pop(&validator->path, before);
        }
}

static void check_spread(struct validator *validator, const struct kube_pod_spec *spec) {
    for (size_t i = 0; i < spec->topology_spread_constraints.count; i++) {
        const struct kube_topology_spread_constraint *constraint = &spec->topology_spread_constraints.items[i];
        bool twice = false, strict = kube_text_is(constraint->when_unsatisfiable, "DoNotSchedule");
        size_t before = kube_path_push_field(&validator->path, "topologySpreadConstraints");
        kube_path_push_index(&validator->path, i);
        if (constraint->min_domains && *constraint->min_domains <= 0)
            fail_number(validator, "minDomains", *constraint->min_domains, "must be greater than 0");
        else if (constraint->min_domains && !strict)
            fail_number(validator, "minDomains", *constraint->min_domains, "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not %s",
                        kube_text_or(constraint->when_unsatisfiable, ""));
        for (size_t j = 0; j < i && constraint->topology_key && constraint->when_unsatisfiable; j++)
            twice |= kube_text_is(spec->topology_spread_constraints.items[j].topology_key, constraint->topology_key) &&
                     kube_text_is(spec->topology_spread_constraints.items[j].when_unsatisfiable, constraint->when_unsatisfiable);
        if (twice) {
            char pair[200];
            snprintf(pair, sizeof pair, "{%.100s, %.40s}", constraint->topology_key, constraint->when_unsatisfiable);
            fail_duplicate(validator, "{topologyKey, whenUnsatisfiable}", pair);
        }
        kube_path_pop(&validator->path, before);
    }
}

/* A user namespace of its own shares none of the host's others, and is the condition for seeing all of /proc. */
static void check_host_users(struct validator *validator, const struct kube_pod_spec *spec) {
    bool own = spec->host_users && !*spec->host_users;
    const struct {
        const char *name;
        bool set;
    } shared[] = {{"hostNetwork", spec->host_network}, {"HostPID", spec->host_pid}, {"HostIPC", spec->host_ipc}};
    const struct {
        const char *name;
        const struct kube_container_array *list;
    } lists[] = {{"initContainers", &spec->init_containers}, {"containers", &spec->containers}};
    for (size_t i = 0; own && i < ARRAY_LEN(shared); i++)
        if (shared[i].set)
            fail_forbidden(validator, shared[i].name, "when `pod.Spec.HostUsers` is false");
    for (size_t l = 0; !own && l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l].list->count; i++) {
            const struct kube_security_context *security = lists[l].list->items[i].security_context;
            if (!security || !kube_text_is(security->proc_mount, "Unmasked"))
                continue;
            size_t before = kube_path_push_field(&validator->path, lists[l].name);
            kube_path_push_index(&validator->path, i);
            kube_path_push_field(&validator->path, "securityContext");
            fail_text(validator, "procMount", security->proc_mount, "`hostUsers` must be false to use `Unmasked`");
            kube_path_pop(&validator->path, before);
        }
}

/* Parts of lower-case letters and digits, with "-" and "_" within, separated by dots or slashes. */
static bool is_sysctl_name(const char *name) {
    bool outer = true; /* a letter or digit must come, or has come */
    for (const char *at = name; *at; at++) {
        bool ends = *at == '.' || *at == '/', inner = *at == '-' || *at == '_', plain = (*at >= 'a' && *at <= 'z') || (*at >= '0' && *at <= '9');
        char before = at == name ? '.' : at[-1];
        if ((!ends && !inner && !plain) || (!plain && (before == '.' || before == '/')) || (ends && (before == '-' || before == '_')))
            return false;
        outer = !plain;
    }
    return !outer && strlen(name) <= SYSCTL_NAME_BYTES_MAX;
}

/* What was there before the host's namespaces were looked at may still be changed otherwise. */
static const char *sysctl_refusal(const struct kube_pod_spec *spec, const char *name, bool is_new) {
    static const char *const of_ipc[] = {"kernel.shm", "kernel/shm", "kernel.msg", "kernel/msg",
                                         "kernel.sem", "kernel/sem", "fs.mqueue.", "fs/mqueue/"};
    if (!is_sysctl_name(name))
        return "must have at most 253 characters and match regex ([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
    if (is_new && spec->host_network && (strncmp(name, "net.", 4) == 0 || strncmp(name, "net/", 4) == 0))
        return "may not be specified when 'hostNetwork' is true";
    for (size_t i = 0; is_new && spec->host_ipc && i < ARRAY_LEN(of_ipc); i++)
        if (strncmp(name, of_ipc[i], strlen(of_ipc[i])) == 0)
            return "may not be specified when 'hostIPC' is true";
    return NULL;
}

static void check_sysctls(struct validator *validator, const struct kube_pod_spec *spec) {
    for (size_t i = 0; spec->security_context && i < spec->security_context->sysctls.count; i++) {
        const struct kube_sysctl *items = spec->security_context->sysctls.items;
        const char *name = kube_text_or(items[i].name, ""), *why = sysctl_refusal(spec, name, !validator->old);
        bool twice = false;
        for (size_t j = 0; j < i; j++)
            twice = twice || kube_text_is(items[j].name, name);
        size_t before = kube_path_push_field(&validator->path, "securityContext.sysctls");
        kube_path_push_index(&validator->path, i);
        if (!*name)
            fail_required(validator, "name", "");
        else if (why)
            fail_text(validator, "name", name, "%s", why);
        else if (twice)
            fail_duplicate(validator, "name", name);
        kube_path_pop(&validator->path, before);
    }
}

void validate_pod_spec(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_pod_spec *spec = data;
    for (size_t i = 0; i < spec->volumes.count; i++)
        for (size_t j = 0; j < i; j++)
            if (spec->volumes.items[i].name && kube_text_is(spec->volumes.items[j].name, spec->volumes.items[i].name)) {
                size_t before = kube_path_push_field(&validator->path, "volumes");
                kube_path_push_index(&validator->path, i);
                fail_duplicate(validator, "name", spec->volumes.items[i].name);
                kube_path_pop(&validator->path, before);
                break;
            }
    check_spread(validator, spec);
    check_containers(validator, spec, &spec->init_containers, "initContainers");
    check_containers(validator, spec, &spec->containers, "containers");
    check_port_conflicts(validator, spec);
    check_dns(validator, spec);
    check_host_users(validator, spec);
    check_sysctls(validator, spec);
    validate_pod_level(validator, spec);
}

/* Whoever wrote a shorter life before this was checked may still change everything else. */
static void check_tokens(struct validator *validator, const struct kube_projected_volume_source *projected) {
    for (size_t i = 0; projected && !validator->old && i < projected->sources.count; i++) {
        const struct kube_service_account_token_projection *token = projected->sources.items[i].service_account_token;
        const int64_t *life_s = token ? token->expiration_seconds : NULL;
        char field[100];
        snprintf(field, sizeof field, "projected.sources[%zu].serviceAccountToken.expirationSeconds", i);
        if (life_s && *life_s < 600)
            fail_number(validator, field, *life_s, "may not specify a duration less than 10 minutes");
        else if (life_s && *life_s > INT64_C(1) << 32)
            fail_number(validator, field, *life_s, "may not specify a duration larger than 2^32 seconds");
    }
}

/* Exactly one source. */
void validate_volume(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_volume *volume = data;
    size_t sources = 0;
    for (size_t i = 0; i < kube_volume_type.fields_count; i++) {
        const struct kube_field *field = &kube_volume_type.fields[i];
        if (!field->inline_number || kube_field_is_empty(field, kube_at(field, volume)))
            continue;
        if (++sources > 1)
            fail_forbidden(validator, field->name, "may not specify more than 1 volume type");
    }
    if (sources == 0)
        fail_required(validator, NULL, "must specify a volume type");
    if (volume->host_path && volume->host_path->path && strstr(volume->host_path->path, ".."))
        fail_text(validator, "hostPath.path", volume->host_path->path, "must not contain '..'");
    if (volume->config_map && !volume->config_map->name)
        fail_required(validator, "configMap.name", "");
    check_tokens(validator, volume->projected);
    if (volume->empty_dir && volume->empty_dir->size_limit && volume->empty_dir->size_limit->milli < 0)
        fail_forbidden(validator, "emptyDir.sizeLimit", "SizeLimit field must be a valid resource quantity");
}

void validate_toleration(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_toleration *toleration = data;
    if (!toleration->key && !kube_text_is(toleration->operator, "Exists"))
        fail_text(validator, "operator", toleration->operator,
                  "operator must be Exists when `key` is empty, which means \"match all values and all keys\"");
    if (kube_text_is(toleration->operator, "Exists") && toleration->value)
        fail_text(validator, "operator", toleration->value, "value must be empty when `operator` is 'Exists'");
    if (toleration->toleration_seconds && !kube_text_is(toleration->effect, "NoExecute"))
        fail_text(validator, "effect", toleration->effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
}

/* ---- nodes to choose from ---- */

void validate_node_selector(struct validator *validator, const void *data, const void *old) {
    (void)old;
    if (((const struct kube_node_selector *)data)->node_selector_terms.count == 0)
        fail_required(validator, "nodeSelectorTerms", "must have at least one node selector term");
}

void validate_node_requirement(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_node_selector_requirement *requirement = data;
    bool set = kube_text_is(requirement->operator, "In") || kube_text_is(requirement->operator, "NotIn");
    bool unary = kube_text_is(requirement->operator, "Exists") || kube_text_is(requirement->operator, "DoesNotExist");
    bool order = kube_text_is(requirement->operator, "Gt") || kube_text_is(requirement->operator, "Lt");
    if (set && requirement->values.count == 0)
        fail_required(validator, "values", "must be specified when `operator` is 'In' or 'NotIn'");
    if (unary && requirement->values.count > 0)
        fail_forbidden(validator, "values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
    if (order && requirement->values.count != 1)
        fail_required(validator, "values", "must be specified single value when `operator` is 'Lt' or 'Gt'");
    if (!requirement->operator)
        fail_text(validator, "operator", "", "not a valid selector operator");
}

/* ---- changes ---- */

static void take_images(struct kube_container_array *to, const struct kube_container_array *from) {
    for (size_t i = 0; i < to->count && i < from->count; i++)
        to->items[i].image = from->items[i].image;
}

/* The old spec with everything taken over that may change: what still differs then may not. The scheduler sets nodeName once. */
void validate_pod(struct validator *validator, const void *data, const void *old) {
    const struct kube_pod *pod = data, *before = old;
    if (!before)
        return;
    CLEANUP(arena_freep) struct arena *arena = arena_new(OBJECT_ARENA_BYTES_MAX);
    struct kube_pod_spec *allowed = arena ? ARENA_NEW(arena, struct kube_pod_spec) : NULL;
    if (!allowed || kube_copy(&kube_pod_spec_type, arena, &before->spec, allowed) != 0)
        return;
    if (pod->spec.containers.count != before->spec.containers.count) {
        fail_forbidden(validator, "spec.containers", "pod updates may not add or remove containers");
        return;
    }
    take_images(&allowed->containers, &pod->spec.containers);
    take_images(&allowed->init_containers, &pod->spec.init_containers);
    allowed->active_deadline_seconds = pod->spec.active_deadline_seconds;
    allowed->tolerations = pod->spec.tolerations;
    allowed->scheduling_gates = pod->spec.scheduling_gates;
    if (!before->spec.node_name)
        allowed->node_name = pod->spec.node_name;
    if (pod->spec.termination_grace_period_seconds && *pod->spec.termination_grace_period_seconds == 1 &&
        before->spec.termination_grace_period_seconds && *before->spec.termination_grace_period_seconds < 0)
        allowed->termination_grace_period_seconds = pod->spec.termination_grace_period_seconds;
    if (!kube_equal(&kube_pod_spec_type, allowed, &pod->spec))
        fail_forbidden(validator, "spec",
                       "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
                       "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
                       "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)");
}

/* What a pipeline may not ask for: a way out of its pods onto the machine.
 *
 * Whoever may push an application decides what runs in its namespace, not what happens to the machine and to the others on it. So manifests from
 * pipelines are held to the "baseline" of Kubernetes' pod security standards (https://kubernetes.io/docs/concepts/security/pod-security-standards):
 * nothing of the host's files, namespaces, devices or ports, no capabilities beyond the usual ones, the seccomp profile stays on. The administrator's
 * kubectl is not held to it. A Service must not take addresses that are not its own (CVE-2020-8554). What an administrator sets the application as a
 * limit is not the pipeline's to change, and its pods may not drive out those of others. */
#include <stdio.h>

#include "forge/manifest_priv.h"

static int refuse(struct diag *diag, const char *what, const char *name) {
    return diag_set(diag, -EPERM,
                    "%s%s%s%s is not allowed in a pipeline's manifests: it reaches beyond the application; an administrator can apply it", what,
                    name ? " \"" : "", name ? name : "", name ? "\"" : "");
}

static bool is_usual_capability(const char *name) {
    static const char *const usual[] = {"AUDIT_WRITE",      "CHOWN",   "DAC_OVERRIDE", "FOWNER",  "FSETID", "KILL",       "MKNOD",
                                        "NET_BIND_SERVICE", "SETFCAP", "SETGID",       "SETPCAP", "SETUID", "SYS_CHROOT", "NET_RAW"};
    for (size_t i = 0; i < ARRAY_LEN(usual); i++)
        if (slice_equal_nocase(slice_of(name), slice_of(usual[i])))
            return true;
    return false;
}

static bool is_unconfined(const struct kube_seccomp_profile *profile) {
    return profile && profile->type && strcmp(profile->type, "Unconfined") == 0;
}

static bool is_unarmored(const struct kube_app_armor_profile *profile) {
    return profile && profile->type && strcmp(profile->type, "Unconfined") == 0;
}

static int check_security(const struct kube_security_context *security, const char *container, struct diag *diag) {
    if (!security)
        return 0;
    if (security->privileged && *security->privileged)
        return refuse(diag, "securityContext.privileged of container", container);
    if (is_unconfined(security->seccomp_profile))
        return refuse(diag, "seccompProfile Unconfined of container", container);
    if (is_unarmored(security->app_armor_profile))
        return refuse(diag, "appArmorProfile Unconfined of container", container);
    if (security->proc_mount && strcmp(security->proc_mount, "Default") != 0)
        return refuse(diag, "securityContext.procMount of container", container);
    for (size_t i = 0; security->capabilities && i < security->capabilities->add.count; i++) {
        const char *name = security->capabilities->add.items[i];
        if (!is_usual_capability(name ? name : ""))
            return refuse(diag, "the capability", name ? name : "");
    }
    return 0;
}

static int check_containers(const struct kube_container_array *containers, struct diag *diag) {
    int error = 0;
    for (size_t i = 0; !error && i < containers->count; i++) {
        const struct kube_container *container = &containers->items[i];
        error = check_security(container->security_context, container->name, diag);
        for (size_t k = 0; !error && k < container->ports.count; k++)
            if (container->ports.items[k].host_port)
                error = refuse(diag, "hostPort of container", container->name);
    }
    return error;
}

static int check_pod_spec(const struct kube_pod_spec *spec, struct diag *diag) {
    if (spec->host_network || spec->host_pid || spec->host_ipc)
        return refuse(diag, spec->host_network ? "hostNetwork" : spec->host_pid ? "hostPID" : "hostIPC", NULL);
    if (spec->security_context && is_unconfined(spec->security_context->seccomp_profile))
        return refuse(diag, "seccompProfile Unconfined", NULL);
    if (spec->security_context && is_unarmored(spec->security_context->app_armor_profile))
        return refuse(diag, "appArmorProfile Unconfined", NULL);
    if (spec->security_context && spec->security_context->sysctls.count)
        return refuse(diag, "securityContext.sysctls", NULL);
    if (spec->priority_class_name && slice_starts(slice_of(spec->priority_class_name), SLICE("system-")))
        return refuse(diag, "the priorityClassName", spec->priority_class_name); /* others' pods would have to go for it */
    for (size_t i = 0; i < spec->volumes.count; i++)
        if (spec->volumes.items[i].host_path)
            return refuse(diag, "the hostPath of volume", spec->volumes.items[i].name);
    for (size_t i = 0; i < spec->ephemeral_containers.count; i++)
        if (check_security(spec->ephemeral_containers.items[i].security_context, spec->ephemeral_containers.items[i].name, diag))
            return -EPERM;
    int error = check_containers(&spec->init_containers, diag);
    return error ? error : check_containers(&spec->containers, diag);
}

static bool is_refused_kind(const struct kube_kind *kind) {
    static const struct kube_kind *const refused[] = {
        &kube_kind_endpoints, &kube_kind_endpoint_slice,  /* the gateway would ask whatever address it names, from the host */
        &kube_kind_controller_revision,                   /* pods are made of what it holds, and nobody looks into it */
        &kube_kind_resource_quota, &kube_kind_limit_range /* of the administrator, for the application */
    };
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (refused[i] == kind)
            return true;
    return false;
}

int manifest_check_policy(const struct kube_object *object, struct diag *diag) {
    const struct kube_pod_spec *spec = kube_pod_spec_of(object);
    if (object->kind == &kube_kind_service && object->service->spec.external_ips.count)
        return refuse(diag, "externalIPs", NULL);
    if (is_refused_kind(object->kind))
        return refuse(diag, "the kind", object->kind->kind);
    return spec ? check_pod_spec(spec, diag) : 0;
}

/* pods/ephemeralcontainers: containers that are put into a running pod, to look into it. Only that list changes, and only by additions; an ephemeral
 * container has a name of its own and nothing that would keep the pod from being what it is: no ports, probes, lifecycle or resources. */
#include "api/api_priv.h"

#include <stdio.h>

#define FIELD_BYTES 120

static bool same_text(const char *a, const char *b) {
    return !strcmp(a ? a : "", b ? b : "");
}

static const struct kube_ephemeral_container *find(const struct kube_ephemeral_container_array *list, const char *name) {
    for (size_t i = 0; i < list->count; i++)
        if (same_text(list->items[i].name, name))
            return &list->items[i];
    return NULL;
}

static bool has_container(const struct kube_pod_spec *spec, const char *name) {
    const struct kube_container_array *const lists[] = {&spec->containers, &spec->init_containers};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->count; i++)
            if (same_text(lists[l]->items[i].name, name))
                return true;
    return false;
}

/* The first field that an ephemeral container may not have; NULL: none. */
static const char *forbidden_field(const struct kube_ephemeral_container *it) {
    const struct {
        const char *name;
        bool set;
    } fields[] = {
        {"ports", it->ports.count},
        {"livenessProbe", it->liveness_probe},
        {"readinessProbe", it->readiness_probe},
        {"startupProbe", it->startup_probe},
        {"lifecycle", it->lifecycle},
        {"resources", it->resources.limits.count || it->resources.requests.count},
        {"resizePolicy", it->resize_policy.count},
        {"restartPolicy", it->restart_policy},
    };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        if (fields[i].set)
            return fields[i].name;
    return NULL;
}

static int check_one(const struct kube_object *pod, const struct kube_ephemeral_container_array *list, size_t index, struct api_failure *failure) {
    const struct kube_ephemeral_container *it = &list->items[index];
    const char *name = it->name ? it->name : "", *forbidden = forbidden_field(it);
    char at[FIELD_BYTES], field[FIELD_BYTES + 32];
    snprintf(at, sizeof at, "spec.ephemeralContainers[%zu]", index);
    snprintf(field, sizeof field, "%s.%s", at, forbidden ? forbidden : "name");
    if (!*name)
        return api_fail_field(failure, pod, "FieldValueRequired", field, "Required value");
    if (!name_is_dns_label(slice_of(name)))
        return api_fail_field(failure, pod, "FieldValueInvalid", field,
                              "Invalid value: \"%s\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must "
                              "start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
                              "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                              name);
    if (find(list, name) != it || has_container(&pod->pod->spec, name))
        return api_fail_field(failure, pod, "FieldValueDuplicate", field, "Duplicate value: \"%s\"", name);
    if (forbidden)
        return api_fail_field(failure, pod, "FieldValueForbidden", field, "Forbidden: cannot be set for an Ephemeral Container");
    snprintf(field, sizeof field, "%s.image", at);
    if (!it->image || !*it->image)
        return api_fail_field(failure, pod, "FieldValueRequired", field, "Required value");
    snprintf(field, sizeof field, "%s.targetContainerName", at);
    if (it->target_container_name && *it->target_container_name && !has_container(&pod->pod->spec, it->target_container_name))
        return api_fail_field(failure, pod, "FieldValueNotFound", field, "Not found: \"%s\"", it->target_container_name);
    return 0;
}

static int check_old(const struct kube_object *pod, const struct kube_ephemeral_container_array *list, struct api_failure *failure) {
    const struct kube_ephemeral_container_array *before = &pod->pod->spec.ephemeral_containers;
    for (size_t i = 0; i < before->count; i++) {
        const struct kube_ephemeral_container *now = find(list, before->items[i].name);
        if (!now || !kube_equal(&kube_ephemeral_container_type, now, &before->items[i]))
            return api_fail_field(failure, pod, "FieldValueForbidden", "spec.ephemeralContainers",
                                  "Forbidden: existing ephemeral containers \"%s\" may not be %s\n", before->items[i].name,
                                  now ? "changed" : "removed");
    }
    return 0;
}

int api_ephemeral_prepare(struct kube_object *object, const struct kube_object *old, struct api_failure *failure) {
    if (kube_default(object)) /* first: they are compared */
        return api_fail_no_memory(failure);
    const struct kube_ephemeral_container_array list = object->pod->spec.ephemeral_containers;
    int code = check_old(old, &list, failure);
    for (size_t i = 0; i < list.count && !code; i++)
        code = check_one(old, &list, i, failure);
    if (code)
        return code;
    if (kube_copy_spec(object, old) || kube_copy_member(object, old, "metadata") || kube_copy_member(object, old, "status"))
        return api_fail_no_memory(failure);
    object->pod->spec.ephemeral_containers = list;
    return 0;
}

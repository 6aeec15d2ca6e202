/* Priority: a pod's number follows from its PriorityClass, or from the class that is the default of all; nobody writes it himself. */
#include "api/admission_priv.h"

struct default_class {
    struct kube_object *object; /* a reference */
    const char *but;            /* the name of one that does not count */
};

static bool keep_default(void *userdata, const struct kube_object *object) {
    struct default_class *found = userdata;
    const struct kube_priority_class *class = object->priority_class;
    if (!class->global_default || (found->but && !strcmp(found->but, object->metadata->name)))
        return true;
    if (!found->object || class->value < found->object->priority_class->value) {
        kube_object_unref(found->object);
        CLEANUP(kube_object_unrefp) struct kube_object *copy = kube_object_copy(object);
        found->object = TAKE(copy);
    }
    return true;
}

static struct kube_object *find_class(struct admission *admission, const char *name) {
    struct default_class found = {NULL, NULL};
    if (name && *name)
        return api_stored_get(admission->api, &kube_kind_priority_class, "", name);
    admission_list(admission, &kube_kind_priority_class, NULL, keep_default, &found);
    return found.object;
}

int admit_priority(struct admission *admission) {
    struct kube_object *object = admission->object;
    struct kube_pod_spec *spec = &object->pod->spec;
    CLEANUP(kube_object_unrefp) struct kube_object *found = find_class(admission, spec->priority_class_name);
    const char *named = spec->priority_class_name, *policy = "PreemptLowerPriority";
    if (!found && named && *named)
        return admission_forbid(admission, "no PriorityClass with name %s was found", named);
    const struct kube_priority_class *class = found ? found->priority_class : NULL;
    int32_t value = class ? class->value : 0;
    if (class && class->preemption_policy && !strcmp(class->preemption_policy, "Never"))
        policy = "Never";
    if (class && !(spec->priority_class_name = arena_strdup(object->arena, class->metadata.name)))
        return admission_no_memory(admission);
    if (spec->priority && *spec->priority != value)
        return admission_forbid(admission,
                                "the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from "
                                "the given PriorityClass name",
                                *spec->priority, value);
    if (spec->preemption_policy && *spec->preemption_policy && strcmp(spec->preemption_policy, policy))
        return admission_forbid(admission,
                                "the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed "
                                "%s from the given PriorityClass name",
                                spec->preemption_policy, policy);
    spec->preemption_policy = policy;
    if (!spec->priority && !(spec->priority = ARENA_NEW(object->arena, int32_t)))
        return admission_no_memory(admission);
    *spec->priority = value;
    return 0;
}

/* There is one default at most. */
int admit_priority_class(struct admission *admission) {
    const struct kube_object *object = admission->object;
    if (!object->priority_class->global_default)
        return 0;
    struct default_class found = {NULL, object->metadata->name};
    admission_list(admission, &kube_kind_priority_class, NULL, keep_default, &found);
    CLEANUP(kube_object_unrefp) struct kube_object *other = found.object;
    return other ? admission_forbid(admission, "PriorityClass %s is already marked as default. Only one default can exist", other->metadata->name)
                 : 0;
}

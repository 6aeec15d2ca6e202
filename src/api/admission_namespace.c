/* NamespaceLifecycle: nothing is created in a namespace that is not there or on its way out. And what every namespace bears: a phase, the finalizer
 * by which it is emptied before it goes, its name as a label. */
#include "api/admission_priv.h"

int admit_lifecycle(struct admission *admission) {
    const struct kube_object *object = admission->object;
    const struct kube_object_meta *metadata = object->metadata;
    struct api_failure *failure = admission->failure;
    if (!object->kind->namespaced)
        return 0;
    const char *name = metadata->namespace ? metadata->namespace : "";
    if (!*name)
        return api_fail_bad_request(failure, "an empty namespace may not be set during creation");
    CLEANUP(kube_object_unrefp) struct kube_object *namespace = NULL;
    int code = api_stored_find(admission->api, &kube_kind_namespace, "", name, &namespace, failure);
    if (code || !namespace->metadata->deletion_timestamp.set)
        return code;
    code = admission_forbid(admission, "unable to create new content in namespace %s because it is being terminated", name);
    if (failure)
        diag_cause(&failure->diag, "NamespaceTerminating", "metadata.namespace", "namespace %s is being terminated", name);
    return code;
}

static int create_namespace(struct kube_object *object) {
    struct kube_namespace *namespace = object->namespace_;
    struct kube_string_list *list = &namespace->spec.finalizers;
    namespace->status.phase = "Active";
    list->items = ARENA_NEW(object->arena, const char *);
    if (!list->items)
        return -ENOMEM;
    list->items[0] = "kubernetes";
    list->count = 1;
    return 0;
}

/* As long as it is not being deleted a namespace keeps its finalizers, whatever the writer leaves out. */
static int keep_finalizers(struct kube_object *object, const struct kube_object *old) {
    const struct kube_string_list *before = &old->namespace_->spec.finalizers;
    struct kube_string_list *list = &object->namespace_->spec.finalizers;
    *list = (struct kube_string_list){ARENA_ARRAY(object->arena, const char *, before->count + 1), before->count};
    for (size_t i = 0; i < before->count && list->items; i++)
        if (!(list->items[i] = arena_strdup(object->arena, before->items[i])))
            return -ENOMEM;
    return list->items ? 0 : -ENOMEM;
}

int admit_namespace(struct admission *admission) {
    struct kube_object *object = admission->object;
    struct kube_object_meta *metadata = object->metadata;
    int error = 0;
    if (admission->operation == ADMIT_CREATE)
        error = create_namespace(object);
    else if (!admission->old->metadata->deletion_timestamp.set)
        error = keep_finalizers(object, admission->old);
    if (!error && metadata->name)
        error = kube_map_set(&metadata->labels, object->arena, "kubernetes.io/metadata.name", metadata->name);
    return error ? admission_no_memory(admission) : 0;
}

/* Custom resource definitions: their status is decided in the write itself (see crd_names.c), and what is accepted and yet not done is said. Their
 * objects: none is created any more while the definition is on its way out. */
#include "api/admission_priv.h"
#include "api/crd_priv.h"

static bool has_rules(const struct tree *node) {
    bool found = node && node->type == TREE_MAP && tree_count(tree_find(node, "x-kubernetes-validations"));
    for (size_t i = 0; i < tree_count(node) && !found; i++)
        found = has_rules(node->children->items[i].value);
    return found;
}

static void warn(struct admission *admission) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(2 * TREE_BYTES_MAX);
    const struct tree *spec = arena ? tree_find(kube_encode_tree(admission->object, arena), "spec") : NULL, *versions = tree_find(spec, "versions");
    if (!strcmp(tree_text_or(tree_path(spec, "conversion.strategy"), ""), "Webhook") && tree_count(versions) > 1)
        admission_warn(admission, "spec.conversion: conversion webhooks are not called: only the storage version is served");
    for (size_t i = 0; i < tree_count(versions); i++)
        if (has_rules(tree_path(tree_at(versions, i), "schema.openAPIV3Schema")))
            admission_warn(
                admission,
                "spec.versions[%zu].schema.openAPIV3Schema: x-kubernetes-validations are kept, but not evaluated: objects are not checked by "
                "these rules",
                i);
}

/* A policy that is kept and does nothing must not look like one that protects. */
int admit_policy(struct admission *admission) {
    admission_warn(admission, "spec.validations: CEL is not evaluated: this policy is kept, and refuses nothing");
    return 0;
}

/* Nor one that nobody is sent to like one that answers. */
int admit_api_service(struct admission *admission) {
    const struct kube_api_service_spec *spec = &admission->object->api_service->spec;
    if (spec->service && !(text_equal(spec->group, "metrics.k8s.io") && text_equal(spec->version, "v1beta1"))) /* which we answer ourselves */
        admission_warn(admission, "spec.service: requests are not passed on to other API servers: this object is kept, and does nothing");
    return 0;
}

int admit_custom_definition(struct admission *admission) {
    struct kube_object *object = admission->object;
    const struct crd *crd = admission->old ? api_crd_find(admission->api, slice_of(object->metadata->name)) : NULL;
    if (!admission->old)
        object->custom_resource_definition->status = (struct kube_custom_resource_definition_status){.conditions = {NULL, 0}};
    if (api_crd_judge(admission->api, object, crd ? crd->created : UINT64_MAX))
        return admission_no_memory(admission);
    if (admission->reader)
        warn(admission);
    return 0;
}

int admit_custom_object(struct admission *admission) {
    const struct kube_kind *kind = admission->object->kind;
    const struct crd *crd = kind->custom ? api_crd_find(admission->api, api_kind_slice(kind)) : NULL;
    if (!crd || !crd->terminating)
        return 0;
    return api_fail(admission->failure, 405, "MethodNotAllowed", "create not allowed while custom resource definition is terminating");
}

/* pods/resize: what the containers of a running pod may use is changed. Only their resources and resize policies are taken from what is given;
 * everything else stays as it is, silently, as upstream does it. Whether the change is allowed is validation's to say (kube/validate_resize.c),
 * whether there is room for it the node's. */
#include "api/api_priv.h"

static bool have_same_names(const struct kube_container_array *a, const struct kube_container_array *b) {
    bool same = a->count == b->count;
    for (size_t i = 0; i < a->count && same; i++)
        same = !strcmp(a->items[i].name ? a->items[i].name : "", b->items[i].name ? b->items[i].name : "");
    return same;
}

static void take_resources(struct kube_container_array *to, const struct kube_container_array *from) {
    for (size_t i = 0; i < to->count; i++) {
        to->items[i].resources = from->items[i].resources;
        to->items[i].resize_policy = from->items[i].resize_policy;
    }
}

int api_resize_prepare(struct kube_object *object, const struct kube_object *old, struct api_failure *failure) {
    if (kube_default(object)) /* first: a limit alone is a request as well */
        return api_fail_no_memory(failure);
    const struct kube_container_array containers = object->pod->spec.containers, inits = object->pod->spec.init_containers;
    if (kube_copy_member(object, old, "metadata") || kube_copy_member(object, old, "status"))
        return api_fail_no_memory(failure);
    if (!have_same_names(&containers, &old->pod->spec.containers) || !have_same_names(&inits, &old->pod->spec.init_containers))
        return 0; /* validation will say so */
    if (kube_copy_spec(object, old))
        return api_fail_no_memory(failure);
    take_resources(&object->pod->spec.containers, &containers);
    take_resources(&object->pod->spec.init_containers, &inits);
    return 0;
}

/* DefaultIngressClass: an ingress that names no class gets the class that is marked as the default. */
#include "api/admission_priv.h"

#define IS_DEFAULT "ingressclass.kubernetes.io/is-default-class"

struct choice {
    const struct kube_object *object; /* borrowed within the turn */
};

/* Of several defaults the newest counts. */
static bool keep_newest(void *userdata, const struct kube_object *object) {
    struct choice *choice = userdata;
    const char *value = kube_map_find(&object->metadata->annotations, IS_DEFAULT);
    if (!value || strcmp(value, "true"))
        return true;
    if (!choice->object || object->metadata->creation_timestamp.ns > choice->object->metadata->creation_timestamp.ns)
        choice->object = object;
    return true;
}

int admit_ingress_class(struct admission *admission) {
    struct kube_object *object = admission->object;
    struct kube_ingress_spec *spec = &object->ingress->spec;
    struct choice choice = {NULL};
    if (spec->ingress_class_name || kube_map_find(&object->metadata->annotations, "kubernetes.io/ingress.class"))
        return 0;
    admission_list(admission, &kube_kind_ingress_class, NULL, keep_newest, &choice);
    if (choice.object && !(spec->ingress_class_name = arena_strdup(object->arena, choice.object->metadata->name)))
        return admission_no_memory(admission);
    return 0;
}

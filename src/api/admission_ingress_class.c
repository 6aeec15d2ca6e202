/* DefaultIngressClass: an ingress that names no class gets the class that is marked as the default. */
#include "api/admission_priv.h"

int admit_ingress_class(struct admission *admission) {
    struct kube_object *object = admission->object;
    struct kube_ingress_spec *spec = &object->ingress->spec;
    static const char *const marks[] = {"ingressclass.kubernetes.io/is-default-class", NULL};
    if (spec->ingress_class_name || kube_map_find(&object->metadata->annotations, "kubernetes.io/ingress.class"))
        return 0;
    return admission_default_class(admission, &kube_kind_ingress_class, marks, &spec->ingress_class_name);
}

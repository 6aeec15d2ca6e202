/* Every namespace has the ConfigMap kube-root-ca.crt with the certificate of the cluster's authority, by which pods know the API; deleted or changed,
 * it comes back (upstream: pkg/controller/certificates/rootcacertpublisher). */
#include "control/control_priv.h"

#define MAP "kube-root-ca.crt"
#define KEY "ca.crt"
#define NOTE "kubernetes.io/description"

int root_ca_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *some = object ? object : old;
    if (!control->root_ca)
        return 0;
    if (some->kind == &kube_kind_namespace && object && !is_deleting(object) && !old)
        return control_enqueue(control, CONTROLLER_ROOT_CA, &kube_kind_namespace, NULL, some->metadata->name);
    if (some->kind == &kube_kind_config_map && text_is(some->metadata->name, MAP))
        return control_enqueue(control, CONTROLLER_ROOT_CA, &kube_kind_namespace, NULL, some->metadata->namespace);
    return 0;
}

static void fill(struct context *context, struct kube_object *map) {
    struct kube_string_map *data = map ? &map->config_map->data : NULL;
    if (!map)
        return;
    *data = (struct kube_string_map){NULL, 0};
    if (kube_map_set(data, map->arena, KEY, context->control->root_ca) < 0 ||
        kube_map_set(&map->metadata->annotations, map->arena, NOTE, "The certificate of the authority by which clients know this cluster's API.") < 0)
        context_fail(context);
}

void root_ca_reconcile(struct context *context) {
    const struct kube_object *namespace = context_get(context, &kube_kind_namespace, NULL, context->name);
    if (!namespace || is_deleting(namespace))
        return;
    const struct kube_object *map = context_get(context, &kube_kind_config_map, context->name, MAP);
    const struct kube_string_map *data = map ? &map->config_map->data : NULL;
    if (map && data->count == 1 && same_text(kube_map_find(data, KEY), context->control->root_ca))
        return;
    struct kube_object *wanted = map ? context_copy(context, map) : kube_object_new(&kube_kind_config_map);
    if (wanted && !map) {
        wanted->metadata->name = arena_strdup(wanted->arena, MAP);
        wanted->metadata->namespace = arena_strdup(wanted->arena, context->name);
        if (!wanted->metadata->name || !wanted->metadata->namespace)
            context_fail(context);
    }
    fill(context, wanted);
    if (map)
        context_update(context, wanted);
    else
        context_create(context, wanted);
}

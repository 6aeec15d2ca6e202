/* Objects that pods refer to, each watched by its name while some pod does: a configuration map or secret that changes reaches the volumes of the
 * pods at once, one that is missing is taken up when it appears, and nothing is asked for in vain meanwhile. Pods that name the same object share
 * the watch.
 *
 * What cannot change any more (an immutable map or secret, a bound claim and its volume) is kept, and its watch ended: watched_freeze. */
#include "node/node_priv.h"

#include <stdio.h>

struct watched {
    struct node *node;
    char *key;
    const struct kube_kind *kind;
    const char *namespace, *name; /* in key */
    struct informer *informer;    /* NULL: frozen */
    struct kube_object *frozen;
    unsigned references;
};

static void tell_pods(struct watched *watched) {
    void *value;
    for (size_t at = 0; map_next(watched->node->pods, &at, NULL, &value);)
        if (references_has(value, watched))
            pod_reference_changed(value);
}

void watched_freeze(struct watched *watched) {
    const struct kube_object *object = watched_object(watched);
    if (!watched->informer || !object)
        return;
    watched->frozen = kube_object_ref((struct kube_object *)object);
    informer_free(TAKE(watched->informer));
}

static bool is_immutable(const struct kube_object *object) {
    const bool *immutable = object->kind == &kube_kind_config_map ? object->config_map->immutable
                            : object->kind == &kube_kind_secret   ? object->secret->immutable
                                                                  : NULL;
    return immutable && *immutable;
}

static void on_event(void *userdata, enum informer_event event, struct kube_object *object, struct kube_object *old) {
    struct watched *watched = userdata;
    (void)old;
    if (!informer_synced(watched->informer))
        return; /* on_synced comes */
    if (event != INFORMER_DELETED && is_immutable(object))
        watched_freeze(watched);
    tell_pods(watched);
}

static void on_synced(void *userdata) {
    struct watched *watched = userdata;
    const struct kube_object *object = watched_object(watched);
    if (object && is_immutable(object))
        watched_freeze(watched);
    tell_pods(watched);
}

static struct watched *watched_new(struct node *node, const struct kube_kind *kind, const char *namespace, const char *name, const char *key) {
    struct watched *watched = calloc(1, sizeof *watched);
    char selector[300];
    if (!watched)
        return NULL;
    *watched = (struct watched){.node = node, .kind = kind, .key = strdup(key)};
    if (watched->key) {
        watched->namespace = watched->key + strlen(kind->plural) + 1;
        watched->name = watched->namespace + strlen(namespace) + 1;
        *(watched->key + strlen(kind->plural) + 1 + strlen(namespace)) = 0;
    }
    snprintf(selector, sizeof selector, "metadata.name=%s", name);
    const struct informer_options options = {.namespace = *namespace ? watched->namespace : NULL,
                                             .field_selector = selector,
                                             .on_event = on_event,
                                             .on_synced = on_synced,
                                             .userdata = watched};
    if (!watched->key || map_put(node->watched, slice_of(key), watched, NULL) < 0) {
        free(watched->key);
        free(watched);
        return NULL;
    }
    watched->references = 1;
    if (informer_new(node->client, kind, &options, &watched->informer) < 0) {
        watched_unref(watched);
        return NULL;
    }
    return watched;
}

static void format_key(const struct kube_kind *kind, const char *namespace, const char *name, char ret[WATCHED_KEY_BYTES]) {
    snprintf(ret, WATCHED_KEY_BYTES, "%s/%s/%s", kind->plural, namespace, name);
}

struct watched *watched_get(struct node *node, const struct kube_kind *kind, const char *namespace, const char *name) {
    char key[WATCHED_KEY_BYTES];
    namespace = kind->namespaced ? namespace : "";
    format_key(kind, namespace, name, key);
    struct watched *known = map_find(node->watched, slice_of(key));
    if (!known)
        return watched_new(node, kind, namespace, name, key);
    known->references++;
    return known;
}

void watched_unref(struct watched *watched) {
    char key[WATCHED_KEY_BYTES];
    if (!watched || --watched->references)
        return;
    format_key(watched->kind, watched->namespace, watched->name, key);
    map_remove(watched->node->watched, slice_of(key));
    informer_free(watched->informer);
    kube_object_unref(watched->frozen);
    free(watched->key);
    free(watched);
}

bool watched_is_known(const struct watched *watched) {
    return watched->frozen || informer_synced(watched->informer);
}

const struct kube_object *watched_object(const struct watched *watched) {
    return watched->frozen ? watched->frozen : informer_find(watched->informer, watched->namespace, watched->name);
}

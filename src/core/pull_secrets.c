/* Pull secrets of the cluster for the registry: what a kubelet takes from those that a pod names. A secret of another type, or one that cannot be
 * read, counts as one that is not there. */
#include "core/pull_secrets_priv.h"

#include "codec/codec.h"
#include "kube/kube.h"

static const struct {
    const char *type, *key;
} kinds[] = {{"kubernetes.io/dockerconfigjson", ".dockerconfigjson"}, {"kubernetes.io/dockercfg", ".dockercfg"}};

static int read_secret(struct slice json, struct docker_config *into) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * DOCKER_CONFIG_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(DOCKER_CONFIG_BYTES_MAX + 1);
    struct tree *root = NULL;
    int r = arena ? json_parse(arena, json, NULL, &root, NULL) : -ENOMEM;
    if (r < 0)
        return r;
    const char *type = tree_text_or(tree_find(root, "type"), ""), *data = NULL;
    for (size_t i = 0; i < ARRAY_LEN(kinds) && !data; i++)
        if (strcmp(type, kinds[i].type) == 0)
            data = tree_text_or(tree_find(tree_find(root, "data"), kinds[i].key), NULL);
    r = data ? base64_decode(&text, slice_of(data)) : -ENOENT;
    r = r ? r : docker_config_read(into, buffer_slice(&text), NULL);
    if (text.data)
        explicit_bzero(text.data, text.len);
    return r;
}

int pull_secrets_read(struct store *store, const char *namespace, const char *const *names, size_t count, struct docker_config *into,
                      struct buffer *missing) {
    for (size_t i = 0; i < count; i++) {
        CLEANUP(store_object_unrefp)
        struct store_object *object = store_get(store, slice_of(kube_kind_key(&kube_kind_secret)), slice_of(namespace), slice_of(names[i]));
        int r = object ? read_secret(object->value, into) : -ENOENT;
        if (r == -ENOMEM)
            return r;
        if (r < 0)
            buffer_printf(missing, "%s%s", missing->len ? ", " : "", names[i]);
    }
    return 0;
}

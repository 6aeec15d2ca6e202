/* The path of the field at hand, "spec.containers[0].image", kept by every walker for its messages; cut when too long. */
#ifndef TIDEMILL_KUBE_PATH_PRIV_H
#define TIDEMILL_KUBE_PATH_PRIV_H

#include <stddef.h>
#include <string.h>

struct kube_path {
    char text[400];
    size_t len;
};

/* Each returns what kube_path_pop takes. */
size_t kube_path_push(struct kube_path *path, const char *name, size_t len);
static inline size_t kube_path_push_field(struct kube_path *path, const char *name) {
    return kube_path_push(path, name, strlen(name));
}
size_t kube_path_push_index(struct kube_path *path, size_t index);
size_t kube_path_push_key(struct kube_path *path, const char *key);
void kube_path_pop(struct kube_path *path, size_t before);

#endif

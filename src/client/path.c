/* Request paths of the Kubernetes API: /api/v1 for the core group, /apis/GROUP/VERSION for all others. */
#include "client/client.h"

char *client_path(struct arena *arena, const struct kube_kind *kind, const char *namespace, const char *name, const char *subresource) {
    bool core = kind->group[0] == '\0';
    bool in_namespace = kind->namespaced && namespace;
    return arena_printf(arena, "/%s%s%s/%s%s%s/%s%s%s%s%s", core ? "api" : "apis", core ? "" : "/", kind->group, kind->version,
                        in_namespace ? "/namespaces/" : "", in_namespace ? namespace : "", kind->plural, name ? "/" : "", name ? name : "",
                        subresource ? "/" : "", subresource ? subresource : "");
}

/* Heartbeats of nodes are not stored: a write every ten seconds for ever is what an idle platform must not do. Who reads a node's lease or its
 * conditions is told when the node was last heard of, in place of the time that was stored with them. Both texts have the same length, so the stored
 * bytes are copied and overwritten in place. Nobody is woken: a watch shows a new time with the next change.
 *
 * Inside a string of the object the same text would stand with its quotes escaped, so it is not found there. */
#include "api/api_priv.h"

#include <stdio.h>

#define LEASES_NAMESPACE "kube-node-lease"

static bool is_lease_of_node(const struct store_object *stored) {
    return slice_is(stored->namespace, LEASES_NAMESPACE);
}

/* The key of the times in such an object; NULL: it has none. */
static const char *key_of(const struct kube_kind *kind, const struct store_object *stored) {
    if (kind == &kube_kind_node)
        return "\"lastHeartbeatTime\":\"";
    return kind == &kube_kind_lease && is_lease_of_node(stored) ? "\"renewTime\":\"" : NULL;
}

int api_heartbeat_put(const struct request *request, struct store_object *stored, struct buffer *out) {
    const struct api_options *options = &request->api->options;
    const char *key = options->heartbeat ? key_of(request->kind, stored) : NULL;
    size_t from = out->len;
    char name[256], time[TIMESTAMP_BYTES];
    int error = buffer_append_slice(out, stored->value);
    if (error || !key)
        return error;
    snprintf(name, sizeof name, "%.*s", SLICE_ARG(stored->name));
    int64_t heard_ns = options->heartbeat(options->heartbeat_userdata, name);
    if (!heard_ns)
        return 0;
    if (request->kind == &kube_kind_node)
        timestamp_format(heard_ns, time);
    else
        timestamp_format_micro(heard_ns, time);
    ptrdiff_t at;
    for (struct slice rest = slice_from(buffer_slice(out), from); (at = slice_find(rest, slice_of(key))) >= 0;) {
        rest = slice_from(rest, (size_t)at + strlen(key));
        if (slice_index(rest, '"') == (ptrdiff_t)strlen(time) && memcmp(rest.data, time, strlen(time)) < 0)
            memcpy(out->data + (rest.data - out->data), time, strlen(time));
    }
    return 0;
}

/* From Kubernetes objects to the proxy's routes and endpoints. No I/O: the objects come as arrays, the result goes into a proxy. */
#ifndef TIDEMILL_GATEWAY_ROUTING_PRIV_H
#define TIDEMILL_GATEWAY_ROUTING_PRIV_H

#include "kube/kube.h"
#include "proxy/proxy.h"

#define ROUTING_ENDPOINTS_MAX 1000 /* of one service port */

typedef VECTOR(struct kube_object *) routing_objects;

/* Borrowed objects, in any order. */
struct routing_input {
    routing_objects ingresses, services, slices;
};

/* The upstreams in use: references that keep them, their connections and counters from one application to the next. */
struct routing {
    VECTOR(struct proxy_upstream *) upstreams;
};

/* Brings the proxy in step with the objects: endpoints first, then the snapshot, so that a new route finds its endpoints. On -ENOMEM the former
 * snapshot stays. */
int routing_apply(struct routing *routing, struct proxy *proxy, const struct routing_input *input);
void routing_deinit(struct routing *routing);

#endif

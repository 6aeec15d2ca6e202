/* The Node object: made when it is missing, its status told at each start, of this process and of core, and when a condition changes. No heartbeats:
 * that the node lives is seen by the answer that core holds open (GET /alive, core's pulse.c), and an idle platform writes nothing to disk.
 *
 *   asked for (to learn since when its conditions hold) ──► its status is patched
 *                                                     └──► not there: made
 * One of these at a time; who asks meanwhile gets another. */
#include <arpa/inet.h>
#include <sys/socket.h>

#include "codec/codec.h"
#include "node/node_priv.h"
#include "sys/sys.h"

#define RETRY_MS 2000
#define NODE_BYTES_MAX (4 * MIB)

/* The address of the interface that the default route uses; no packet is sent. */
static bool default_address(const struct sockaddr *far, socklen_t len, char *ret, socklen_t size) {
    struct sockaddr_storage own = {0};
    CLEANUP(fd_closep) int fd = socket(far->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, far, len) < 0 || getsockname(fd, (struct sockaddr *)&own, &len) < 0)
        return false;
    const void *address =
        far->sa_family == AF_INET ? (const void *)&((struct sockaddr_in *)&own)->sin_addr : &((struct sockaddr_in6 *)&own)->sin6_addr;
    return inet_ntop(far->sa_family, address, ret, size) != NULL;
}

void register_host_address(struct node *node) {
    struct sockaddr_in far = {.sin_family = AF_INET, .sin_port = htons(9)};
    struct sockaddr_in6 far6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
    inet_pton(AF_INET, "192.0.2.1", &far.sin_addr);
    inet_pton(AF_INET6, "2001:db8::1", &far6.sin6_addr);
    if (node->options->host_address)
        snprintf(node->host_address, sizeof node->host_address, "%s", node->options->host_address);
    else if (!default_address((struct sockaddr *)&far, sizeof far, node->host_address, sizeof node->host_address))
        snprintf(node->host_address, sizeof node->host_address, "%s", podnet_gateway(node->podnet));
    if (!default_address((struct sockaddr *)&far6, sizeof far6, node->host_address6, sizeof node->host_address6))
        node->host_address6[0] = 0;
}

/* --- telling --- */

static void on_got(void *userdata, const struct http_answer *answer);
static void on_told(void *userdata, const struct http_answer *answer);

static int request(struct node *node, const char *method, http_answer_fn *on_answer) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * KIB);
    CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(NODE_BYTES_MAX);
    bool is_new = strcmp(method, "POST") == 0, is_get = strcmp(method, "GET") == 0;
    const char *name = node->options->node_name;
    const char *path = arena ? client_path(arena, &kube_kind_node, NULL, is_new ? NULL : name, is_new || is_get ? NULL : "status") : NULL;
    int r = path ? 0 : -ENOMEM;
    if (r == 0 && !is_get)
        r = register_format(node, &body);
    return r < 0 ? r
                 : client_request(node->client, method, path, is_new || is_get ? NULL : "application/merge-patch+json", buffer_slice(&body),
                                  on_answer, node);
}

static void end(struct node *node, bool again) {
    node->register_in_flight = false;
    if (again)
        loop_timer_set(&node->register_retry, RETRY_MS);
    else if (node->register_dirty)
        register_node(node);
}

/* --- the lease: made once, never renewed on disk; core tells when it last heard of us in its place --- */

#define LEASES_NAMESPACE "kube-node-lease"
#define LEASE_S 40

static void on_leased(void *userdata, const struct http_answer *answer) {
    struct diag diag = DIAG_INIT;
    (void)userdata;
    int r = client_check(answer, &diag);
    if (r < 0 && r != -EEXIST)
        log_warning("cannot make the lease of the node: %s", diag.message);
}

static void make_lease(struct node *node, const char *uid) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * KIB);
    CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(16 * KIB);
    const char *path = arena ? client_path(arena, &kube_kind_lease, LEASES_NAMESPACE, NULL, NULL) : NULL;
    const char *name = node->options->node_name;
    char time[TIMESTAMP_BYTES];
    timestamp_format_micro(loop_wall_ns(node->loop), time);
    buffer_printf(&body,
                  "{\"apiVersion\":\"coordination.k8s.io/v1\",\"kind\":\"Lease\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"" LEASES_NAMESPACE
                  "\",\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"name\":\"%s\",\"uid\":\"%s\"}]},\"spec\":{\"holderIdentity\":"
                  "\"%s\",\"leaseDurationSeconds\":%d,\"renewTime\":\"%s\"}}",
                  name, name, uid, name, LEASE_S, time);
    if (path && buffer_error(&body) == 0)
        client_request(node->client, "POST", path, NULL, buffer_slice(&body), on_leased, node);
}

/* The answer is the Node as it is now. */
static void lease(struct node *node, struct slice answer) {
    struct kube_object *object = NULL;
    if (kube_decode_json(&kube_kind_node, answer, KUBE_LENIENT, &object, NULL) == 0 && object->metadata->uid)
        make_lease(node, object->metadata->uid);
    kube_object_unref(object);
}

static void tell_start(struct node *node) {
    const char *name = node->options->node_name;
    log_info("registered node %s (%s)", name, node->host_address);
    event_node(node, "Normal", "Starting", "Starting kubelet.");
    if (!node->is_made)
        event_node(node, "Normal", "NodeReady", "Node %s status is now: NodeReady", name);
}

/* The object is as an earlier process left it. */
static void look_for_reboot(struct node *node, const struct kube_object *object) {
    const char *before = object->node->status.node_info.boot_id;
    char now[37];
    sys_boot_id(now);
    if (!node->is_registered && before && *before && strcmp(before, now) != 0)
        event_node(node, "Warning", "Rebooted", "Node %s has been rebooted, boot id: %s", node->options->node_name, now);
}

static void on_told(void *userdata, const struct http_answer *answer) {
    struct node *node = userdata;
    struct diag diag = DIAG_INIT;
    int r = client_check(answer, &diag);
    if (r == 0)
        lease(node, answer->body);
    if (r < 0)
        log_warning("cannot register the node: %s", diag.message);
    else if (!node->is_registered)
        tell_start(node);
    node->is_registered = node->is_registered || r == 0;
    end(node, r < 0);
}

static void tell(struct node *node) {
    if (request(node, node->is_made ? "PATCH" : "POST", on_told) < 0)
        end(node, true);
}

static void on_got(void *userdata, const struct http_answer *answer) {
    struct node *node = userdata;
    struct kube_object *object = NULL;
    int r = client_check(answer, NULL);
    if (r == 0 && kube_decode_json(&kube_kind_node, answer->body, KUBE_LENIENT, &object, NULL) == 0) {
        register_take_conditions(node, object);
        look_for_reboot(node, object);
    }
    kube_object_unref(object);
    node->is_made = r == 0;
    if (r < 0 && r != -ENOENT)
        return end(node, true);
    if (!node->images_stale || images_read(node) < 0)
        tell(node);
}

void register_images_read(struct node *node) {
    tell(node);
}

void register_node(struct node *node) {
    node->register_dirty = node->register_in_flight;
    if (node->register_in_flight)
        return;
    node->register_in_flight = request(node, "GET", on_got) == 0;
    if (!node->register_in_flight)
        loop_timer_set(&node->register_retry, RETRY_MS);
}

/* The role: sets the machine up, takes over what an earlier node left, and then only reacts.
 *
 * Order at start, and why
 *  1. checks (root, overlayfs, cgroups, one node per state): a clear error before anything is touched
 *  2. <run>/node becomes a shared mount point; then, on hybrid hosts, a mount namespace of our own hides cgroup2 (mounts.c)
 *  3. bridge, table
 *  4. pods from disk are taken over: their containers are watched again before anything else happens
 *  5. what belongs to no pod is removed (strays.c)
 *  6. the API: pods, services, endpoint slices; the first complete list tells which pods are orphans
 *
 * At the end (SIGTERM) nothing of the pods is touched: conmon and the kernel keep them. */
#include <malloc.h>
#include <signal.h>
#include <sys/stat.h>

#include "http/http.h"
#include "node/measure_priv.h"
#include "node/node_priv.h"
#include "sys/sys.h"

#define SHUTDOWN_TURNS_MAX 300

/* --- checks and folders --- */

static int check_machine(struct node *node, struct diag *diag) {
    if (geteuid() != 0) {
        diag_hint(diag, 0, "run as root: containers need namespaces, mounts and control groups");
        return diag_set(diag, -EPERM, "the node must run as root");
    }
    if (!mounts_kernel_has("overlay")) {
        diag_hint(diag, 0, "modprobe overlay, or use a kernel with CONFIG_OVERLAY_FS");
        return diag_set(diag, -ENOTSUP, "this kernel has no overlayfs, which containers' file systems need");
    }
    return cgroups_detect("/sys/fs/cgroup", &node->cgroups, diag);
}

static int make_folder(const char *path, struct diag *diag) {
    int r = sys_mkdirs(path, 0711);
    return r < 0 ? diag_set(diag, r, "cannot create %s: %s", path, strerror(-r)) : 0;
}

static int set_paths(struct node *node, struct diag *diag) {
    const struct node_options *options = node->options;
    snprintf(node->run_dir, PATH_MAX, "%s/node", options->run_dir);
    snprintf(node->state_dir, PATH_MAX, "%s/node", options->state_dir);
    snprintf(node->store_dir, PATH_MAX, "%s/registry", options->state_dir);
    snprintf(node->volumes_dir, PATH_MAX, "%s/volumes", options->state_dir);
    snprintf(node->layers_dir, PATH_MAX, "%s/layers", node->state_dir);
    snprintf(node->cgroup_root, sizeof node->cgroup_root, "/tidemill-%s", options->instance);
    int r = make_folder(node->run_dir, diag);
    if (r == 0)
        r = make_folder(node->state_dir, diag);
    return r == 0 ? make_folder(node->layers_dir, diag) : r;
}

static int take_lock(const struct node *node, struct diag *diag) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/lock", node->state_dir);
    int fd = sys_lock_file(path);
    if (fd == -EBUSY)
        return diag_set(diag, fd, "another node already runs on %s", node->state_dir);
    return fd < 0 ? diag_set(diag, fd, "cannot lock %s: %s", path, strerror(-fd)) : fd;
}

static int set_mounts(struct node *node, struct diag *diag) {
    int r = mounts_share(node->run_dir);
    if (r < 0)
        return diag_set(diag, r, "cannot make %s a mount point: %s", node->run_dir, strerror(-r));
    r = node->cgroups.is_hybrid ? mounts_hide_unified_cgroup() : 0;
    return r < 0 ? diag_set(diag, r, "cannot hide /sys/fs/cgroup/unified: %s", strerror(-r)) : 0;
}

static void set_own_hosts(struct node *node) {
    size_t count = 0;
    snprintf(node->own_hosts_text[0], sizeof node->own_hosts_text[0], "%s:5000", podnet_gateway(node->podnet));
    snprintf(node->own_hosts_text[1], sizeof node->own_hosts_text[1], "127.0.0.1:5000");
    snprintf(node->own_hosts_text[2], sizeof node->own_hosts_text[2], "localhost:5000");
    for (; count < ARRAY_LEN(node->own_hosts_text); count++)
        node->own_hosts[count] = node->own_hosts_text[count];
    for (size_t i = 0; node->options->registry_hosts && node->options->registry_hosts[i] && count + 1 < ARRAY_LEN(node->own_hosts); i++)
        node->own_hosts[count++] = node->options->registry_hosts[i];
}

/* --- engines --- */

static int start_network(struct node *node, struct diag *diag) {
    char state[PATH_MAX], namespaces[PATH_MAX];
    snprintf(state, sizeof state, "%s/podnet", node->state_dir);
    snprintf(namespaces, sizeof namespaces, "%s/ns", node->run_dir);
    const struct podnet_options options = {.instance = node->options->instance,
                                           .cidr = node->options->pod_cidr,
                                           .service_cidr = node->options->service_cidr,
                                           .cidr6 = node->options->pod_cidr6,
                                           .pool = pod_network_pool_size(),
                                           .state_dir = state,
                                           .namespace_dir = namespaces};
    int r = podnet_new(&options, &node->podnet, diag);
    for (size_t i = 0; r == 0 && podnet_note(node->podnet, i); i++)
        log_warning("%s", podnet_note(node->podnet, i));
    return r;
}

static int start_containers(struct node *node, struct diag *diag) {
    char conmon[64];
    snprintf(conmon, sizeof conmon, "%s/conmon", node->cgroup_root);
    const struct containers_options options = {.dir = node->run_dir, .cgroups = &node->cgroups, .conmon_cgroup = conmon};
    return containers_new(node->loop, &options, &node->containers, diag);
}

static int open_socket(struct node *node, struct diag *diag) {
    char text[PATH_MAX + 16];
    struct sys_address address;
    node->socket_fd = node->options->socket_fd;
    if (node->socket_fd >= 0)
        return 0;
    snprintf(text, sizeof text, "unix:%s/node.sock", node->options->run_dir);
    int r = sys_address_parse(text, &address);
    if (r == 0)
        r = node->socket_fd = sys_listen(&address, 128, 0600);
    return r < 0 ? diag_set(diag, r, "cannot listen on %s: %s", text + 5, strerror(-r)) : 0;
}

/* --- the API --- */

/* A full disk may stand in the way. */
static void take_on(struct node *node, struct kube_object *object) {
    int r = pod_add(node, object, false);
    if (r == 0)
        return;
    log_error("cannot take on pod %s/%s: %s", object->metadata->namespace, object->metadata->name, strerror(-r));
    loop_timer_set(&node->take_on_retry, TAKE_ON_RETRY_MS);
}

static void on_pod(void *userdata, enum informer_event event, struct kube_object *object, struct kube_object *old) {
    struct node *node = userdata;
    const char *uid = object->metadata->uid ? object->metadata->uid : "";
    struct pod *pod = map_find(node->pods, slice_of(uid));
    if (old && old->metadata->uid && strcmp(old->metadata->uid, uid) != 0) { /* deleted and made again while nobody looked */
        struct pod *before = map_find(node->pods, slice_of(old->metadata->uid));
        if (before)
            pod_orphaned(before);
    }
    if (event == INFORMER_DELETED) {
        if (pod)
            pod_orphaned(pod);
        return;
    }
    if (pod) {
        pod_update(pod, object);
        return;
    }
    take_on(node, object);
}

static void on_take_on_retry(void *userdata) {
    struct node *node = userdata;
    struct kube_object *object;
    for (size_t at = 0; (object = informer_next(node->pods_informer, &at));)
        if (object->metadata->uid && !map_find(node->pods, slice_of(object->metadata->uid)))
            take_on(node, object);
}

static void on_pods_synced(void *userdata) {
    struct node *node = userdata;
    struct slice key;
    void *value;
    for (size_t at = 0; map_next(node->pods, &at, &key, &value);) {
        struct pod *pod = value;
        if (!pod->object)
            pod_orphaned(pod);
    }
    loop_defer_schedule(&node->reclaim_defer);
    strays_remove_folders(node);
    pod_network_calm(node);
    log_info("%zu pods", map_count(node->pods));
}

static void on_service(void *userdata, enum informer_event event, struct kube_object *object, struct kube_object *old) {
    (void)event;
    (void)object;
    (void)old;
    services_changed(userdata);
}
static void on_services_synced(void *userdata) {
    struct node *node = userdata;
    void *value;
    services_changed(node);
    for (size_t at = 0; map_next(node->pods, &at, NULL, &value);)
        pod_sync_later(value);
}
static void on_services_defer(void *userdata) {
    services_apply(userdata);
}
static void on_volume(void *userdata, enum informer_event event, struct kube_object *object, struct kube_object *old) {
    struct node *node = userdata;
    (void)old;
    if (event != INFORMER_DELETED && object->metadata->deletion_timestamp.set)
        loop_defer_schedule(&node->reclaim_defer);
}
static void on_reclaim(void *userdata) {
    reclaim_volumes(userdata);
}
static void on_register_retry(void *userdata) {
    register_node(userdata);
}

static void on_strays_retry(void *userdata) {
    strays_again(userdata);
}

static void on_trim(__attribute__((unused)) void *userdata) {
    malloc_trim(0);
}

static int start_informers(struct node *node) {
    char selector[300];
    snprintf(selector, sizeof selector, "spec.nodeName=%s", node->options->node_name);
    const struct informer_options pods = {.field_selector = selector, .on_event = on_pod, .on_synced = on_pods_synced, .userdata = node};
    const struct informer_options services = {.on_event = on_service, .on_synced = on_services_synced, .userdata = node};
    const struct informer_options volumes = {.on_event = on_volume, .userdata = node};
    int r = informer_new(node->client, &kube_kind_service, &services, &node->services_informer);
    if (r == 0)
        r = informer_new(node->client, &kube_kind_endpoint_slice, &services, &node->slices_informer);
    if (r == 0)
        r = informer_new(node->client, &kube_kind_persistent_volume, &volumes, &node->volumes_informer);
    return r == 0 ? informer_new(node->client, &kube_kind_pod, &pods, &node->pods_informer) : r;
}

static int start_client(struct node *node, struct diag *diag) {
    const struct client_options options = {.endpoint = node->options->api_endpoint};
    return client_new(node->loop, &options, &node->client, diag);
}

/* --- life --- */

static void on_signal(void *userdata, int signal) {
    struct node *node = userdata;
    log_info("signal %d: stopping; pods keep running", signal);
    loop_stop(node->loop);
}

static bool has_deletions(const struct node *node) {
    struct slice key;
    void *value;
    for (size_t at = 0; map_next(node->pods, &at, &key, &value);)
        if (((struct pod *)value)->deletions)
            return true;
    return false;
}

static void free_pods(struct node *node) {
    struct slice key;
    void *value;
    for (;;) {
        size_t at = 0;
        if (!map_next(node->pods, &at, &key, &value))
            break;
        pod_free(value);
    }
}

static void free_programs(struct node *node) {
    struct slice key;
    void *value;
    for (size_t at = 0; map_next(node->seccomp, &at, &key, &value);)
        free(value);
    map_free(node->seccomp);
}

/* Takes the node away when something of it goes on until the process ends. */
static void stop_node(struct node **holder) {
    struct node *node = *holder;
    if (!node->loop)
        return;
    atomic_store(&node->is_ending, true);
    nameserver_stop(node);
    informer_free(node->pods_informer);
    informer_free(node->services_informer);
    informer_free(node->slices_informer);
    informer_free(TAKE(node->volumes_informer));
    node->services_informer = NULL;
    for (int i = 0; i < SHUTDOWN_TURNS_MAX && node->loop && node->pods && has_deletions(node); i++)
        loop_turn(node->loop, 10);
    if (node->pods && has_deletions(node))
        return (void)TAKE(*holder); /* the process ends anyway; the next one finds the bundles */
    prune_stop(node);
    measure_stop(node);
    trash_stop(node);
    system_oom_stop(node);
    eviction_free(TAKE(node->eviction));
    images_stop(node);
    storage_limits_free(TAKE(node->storage_limits));
    sessions_free(node);
    server_stop(node);
    if (node->pods)
        free_pods(node);
    map_free(TAKE(node->pods));
    map_free(TAKE(node->watched)); /* empty, as the next: the pods held them */
    map_free(TAKE(node->pullings));
    image_arrivals_end(&node->arrivals);
    for (size_t i = 0; i < ARRAY_LEN(node->probe_tls); i++)
        tls_context_unref(TAKE(node->probe_tls[i]));
    if (node->seccomp)
        free_programs(node);
    rotation_stop(node);
    clock_stop(node);
    client_free(node->client);
    events_free(node->events);
    containers_free(node->containers);
    podnet_free(node->podnet);
    loop_defer_cancel(&node->services_defer);
    loop_defer_cancel(&node->reclaim_defer);
    loop_timer_cancel(&node->reclaim_retry);
    loop_timer_cancel(&node->register_retry);
    loop_timer_cancel(&node->pool_timer);
    loop_timer_cancel(&node->strays_retry);
    loop_timer_cancel(&node->take_on_retry);
    loop_timer_cancel(&node->trim);
    loop_free(node->loop);
    reclaim_stop(node);
}

static int start_node(struct node *node, struct diag *diag) {
    apparmor_start(node);
    int r = qos_start(node, diag);
    if (r == 0)
        r = start_containers(node, diag);
    if (r == 0)
        r = start_network(node, diag);
    if (r == 0)
        r = start_client(node, diag);
    if (r == 0)
        r = open_socket(node, diag);
    if (r < 0)
        return r;
    nameserver_start(node);
    register_host_address(node);
    set_own_hosts(node);
    r = rotation_start(node);
    if (r == 0)
        r = clock_start(node);
    if (r == 0)
        r = events_new(node, &node->events);
    if (r == 0)
        r = storage_limits_new(node);
    if (r == 0)
        r = eviction_new(node, diag);
    if (r < 0 && diag->message[0])
        return r;
    if (r == 0)
        r = trash_start(node);
    if (r == 0)
        strays_remove_layers(node); /* before any pod asks for its image: what is being unpacked looks the same */
    if (r == 0)
        r = record_load_all(node);
    if (r < 0)
        return diag_set(diag, r, "cannot read what runs from %s: %s", node->state_dir, strerror(-r));
    strays_remove(node);
    r = server_start(node, diag);
    if (r == 0)
        r = start_informers(node);
    if (r == 0) {
        eviction_start(node);
        system_oom_start(node);
        register_node(node);
    }
    return r;
}

static int prepare(struct node *node, struct diag *diag) {
    int r = check_machine(node, diag);
    if (r == 0)
        r = set_paths(node, diag);
    return r;
}

/* After the mount namespace was entered: the loop may start threads. */
static int init(struct node *node) {
    int r = loop_new(&node->loop);
    if (r < 0)
        return r;
    loop_defer_init(&node->reclaim_defer, node->loop, on_reclaim, node);
    loop_timer_init(&node->reclaim_retry, node->loop, on_reclaim, node);
    loop_defer_init(&node->services_defer, node->loop, on_services_defer, node);
    loop_timer_init(&node->register_retry, node->loop, on_register_retry, node);
    pod_network_init(node);
    loop_timer_init(&node->strays_retry, node->loop, on_strays_retry, node);
    loop_timer_init(&node->take_on_retry, node->loop, on_take_on_retry, node);
    loop_timer_init(&node->trim, node->loop, on_trim, node);
    node->pods = map_new();
    node->watched = map_new();
    node->pullings = map_new();
    list_init(&node->arrivals);
    node->seccomp = map_new();
    node->removals = map_new();
    return node->pods && node->watched && node->seccomp && node->removals ? 0 : -ENOMEM;
}

static int run(struct node *node, struct diag *diag) {
    static const int signals[] = {SIGTERM, SIGINT, 0};
    struct loop_signal *signal_source = NULL;
    int r = loop_signal_new(node->loop, signals, on_signal, node, &signal_source);
    if (r == 0)
        r = start_node(node, diag);
    if (r == 0) {
        log_info("the node %s runs, pods on %s", node->options->node_name, node->options->pod_cidr);
        r = loop_run(node->loop);
    }
    loop_signal_free(signal_source);
    return r;
}

static struct node *node_new(const struct node_options *options) {
    struct node *node = calloc(1, sizeof *node);
    if (!node)
        return NULL;
    node->options = options;
    node->socket_fd = node->rotation_fd = node->clock_fd = -1;
    node->images_stale = true;
    node->images_json = BUFFER_INIT(MIB);
    list_init(&node->sessions);
    return node;
}

int node_run(const struct node_options *options, struct diag *diag) {
    CLEANUP(freep) struct node *node = node_new(options);
    if (!node)
        return -ENOMEM;
    int r = prepare(node, diag);
    if (r < 0)
        return r;
    CLEANUP(fd_closep) int lock = take_lock(node, diag);
    r = lock < 0 ? lock : set_mounts(node, diag);
    if (r < 0)
        return r;
    r = init(node);
    if (r == 0)
        r = run(node, diag);
    if (r < 0 && !diag->message[0])
        diag_set(diag, r, "%s", strerror(-r));
    stop_node(&node);
    return r;
}

/* --- taking the instance down --- */

struct purge {
    struct node *node;
    unsigned pending;
};

static void on_purged(void *userdata, int error, const char *message) {
    struct purge *purge = userdata;
    purge->pending--;
    if (error)
        log_warning("cannot remove a container: %s", message);
}

static void on_purge_bundle(void *userdata, const char *id) {
    struct purge *purge = userdata;
    if (container_delete_id(purge->node->containers, id, on_purged, purge) == 0)
        purge->pending++;
}

static void on_purge_pod(void *userdata, const char *uid) {
    podnet_remove(((struct node *)userdata)->podnet, uid);
}

static void remove_pods_from_disk(const struct node *node) {
    static const char *const names[] = {"pods", "podnet", "logs", "trash"};
    char path[PATH_MAX];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/%s", node->state_dir, names[i]);
        sys_remove_tree(AT_FDCWD, path);
    }
}

static int purge(struct node *node, struct diag *diag) {
    struct purge purge = {.node = node};
    int r = start_containers(node, diag);
    if (r < 0)
        return r;
    /* A network that cannot be had now (its range is somebody else's) was never made by us: the rest goes all the same. */
    bool has_network = start_network(node, diag) == 0;
    containers_list(node->containers, on_purge_bundle, &purge);
    while (purge.pending)
        if ((r = loop_turn(node->loop, -1)) < 0)
            return r;
    cgroup_kill(&node->cgroups, node->cgroup_root);
    if (has_network) {
        podnet_list(node->podnet, on_purge_pod, node);
        podnet_remove_all(node->podnet);
    }
    mounts_unshare(node->run_dir);
    sys_remove_tree(AT_FDCWD, node->run_dir);
    remove_pods_from_disk(node);
    for (int i = 0; i < SHUTDOWN_TURNS_MAX && cgroup_remove(&node->cgroups, node->cgroup_root) < 0; i++)
        loop_turn(node->loop, 10); /* killed processes take a moment to leave their group */
    return 0;
}

int node_purge(const struct node_options *options, struct diag *diag) {
    CLEANUP(freep) struct node *node = node_new(options);
    if (!node)
        return -ENOMEM;
    int r = prepare(node, diag);
    if (r < 0)
        return r;
    CLEANUP(fd_closep) int lock = take_lock(node, diag);
    r = lock < 0 ? lock : set_mounts(node, diag);
    if (r == 0)
        r = init(node);
    if (r == 0)
        r = purge(node, diag);
    if (r < 0 && !diag->message[0])
        diag_set(diag, r, "%s", strerror(-r));
    stop_node(&node);
    return r;
}

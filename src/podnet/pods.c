/* Pods' namespaces.
 *
 * <namespace_dir>/<uid>/{net,uts,ipc} are the namespaces, bound to files so that they live without a process (no pause container) and are seen by the
 * next node. "net" is bound last: when it is there, the rest is.
 *
 * Making them: this thread alone moves (unshare is per thread), binds /proc/thread-self/ns/…, opens a netlink socket that stays in there, and moves
 * back before anything else happens; failing to move back would leave the process in a pod, hence the assertions.
 *
 * Removing: unbinding lets the kernel collect namespace and veth when the last process is gone, asynchronously; an explicit RTM_DELLINK would block
 * all networking for 30 ms. */
#include <arpa/inet.h>
#include <linux/if_link.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "podnet/podnet_priv.h"
#include "podnet/rtnetlink_priv.h"
#include "sys/sys.h"

void pod_namespaces_path(const struct podnet *podnet, const char *uid, const char *name, char *ret, size_t size) {
    snprintf(ret, size, "%s/%s%s%s", podnet->namespace_dir, uid, *name ? "/" : "", name);
}

/* A namespace is bound there when the file is on nsfs: its device differs from the folder's. */
bool pod_namespace_is_bound(const char *path) {
    struct stat file, own;
    return stat(path, &file) == 0 && stat("/proc/self/ns/net", &own) == 0 && file.st_dev == own.st_dev;
}

static int bind_file(const char *source, const char *path) {
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0400);
    int r = sys_point("mount");
    if (r < 0)
        return r;
    return fd < 0 || mount(source, path, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

static int bind_namespace(const char *name, const char *path) {
    char source[64];
    snprintf(source, sizeof source, "/proc/thread-self/ns/%s", name);
    return bind_file(source, path);
}

static int open_own(const char *name) {
    char path[64];
    snprintf(path, sizeof path, "/proc/thread-self/ns/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

struct paths {
    char network[PATH_MAX], uts[PATH_MAX], ipc[PATH_MAX];
};
struct made {
    struct mnl_socket *socket;
    int net_fd;
};

/* Runs inside the new namespaces. */
static int fill_namespaces(const struct podnet_sandbox *sandbox, const struct paths *paths, struct made *ret) {
    if (sethostname(sandbox->hostname, strlen(sandbox->hostname)) < 0)
        return -errno;
    int r = bind_namespace("uts", paths->uts);
    if (r == 0)
        r = bind_namespace("ipc", paths->ipc);
    if (r < 0 || sandbox->host_network)
        return r;
    ret->net_fd = open_own("net");
    r = ret->net_fd < 0 ? ret->net_fd : rtnetlink_open(&ret->socket);
    podnet_write_sysctl("ipv4/ping_group_range", "0 2147483647");
    podnet_write_sysctl("ipv4/ip_unprivileged_port_start", "0"); /* a pod has its ports for itself */
    podnet_write_sysctl("ipv6/conf/default/accept_ra", "0");
    podnet_write_sysctl("ipv6/conf/default/accept_dad", "0"); /* no second of waiting: nobody else has its addresses */
    return r;
}

/* This thread goes into new namespaces: ours, or what another user namespace owns. */
static int enter_new(const struct podnet_sandbox *sandbox) {
    struct owned owned = OWNED_INIT;
    if (!sandbox->user_namespace)
        return unshare(CLONE_NEWUTS | CLONE_NEWIPC | (sandbox->host_network ? 0 : CLONE_NEWNET)) < 0 ? -errno : 0;
    int r = owned_make(sandbox->user_namespace, sandbox->host_network, &owned);
    if (r == 0 &&
        (setns(owned.uts, CLONE_NEWUTS) < 0 || setns(owned.ipc, CLONE_NEWIPC) < 0 || (!sandbox->host_network && setns(owned.net, CLONE_NEWNET) < 0)))
        r = -errno;
    owned_deinit(&owned);
    return r;
}

static int make_namespaces(struct podnet *podnet, const struct podnet_sandbox *sandbox, const struct paths *paths, struct made *ret) {
    int r = enter_new(sandbox);
    if (r == 0)
        r = fill_namespaces(sandbox, paths, ret);
    ASSERT(setns(podnet->own_uts, CLONE_NEWUTS) == 0);
    ASSERT(setns(podnet->own_ipc, CLONE_NEWIPC) == 0);
    ASSERT(setns(podnet->own_net, CLONE_NEWNET) == 0);
    return r;
}

/* A socket belongs to the namespace in which it was made, whatever its maker does afterwards. */
int podnet_connect(struct podnet *podnet, const struct podnet_pod *pod, uint16_t port) {
    struct sys_address address;
    char text[32];
    snprintf(text, sizeof text, "127.0.0.1:%u", port);
    int r = sys_address_parse(text, &address);
    if (r < 0 || !pod->network[0])
        return r < 0 ? r : sys_connect(&address);
    CLEANUP(fd_closep) int fd = open(pod->network, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
        return -errno;
    r = sys_connect(&address);
    ASSERT(setns(podnet->own_net, CLONE_NEWNET) == 0);
    return r;
}

/* The pod's second address, where pods have one. */
static int add_ipv6(const struct podnet *podnet, uint32_t address, const struct made *made, unsigned device) {
    struct in6_addr own = range6_at(&podnet->range6, address & ~podnet->addresses.mask), gateway = range6_at(&podnet->range6, 1);
    int r = rtnetlink_add_address6(made->socket, device, &own, podnet->range6.prefix);
    return r < 0 ? r : rtnetlink_add_gateway6(made->socket, device, &gateway);
}

static int connect_pod(struct podnet *podnet, uint32_t address, const struct made *made) {
    char name[IFNAMSIZ];
    unsigned char mac[6];
    unsigned stale, port, loopback, device;
    podnet_port_name(podnet, address, name);
    podnet_mac(address, mac);
    if (rtnetlink_index(podnet->socket, name, &stale) == 0)
        rtnetlink_delete(podnet->socket, stale); /* what a crash left half-made */
    int r = rtnetlink_add_veth(podnet->socket, name, podnet->bridge_index, "eth0", mac, made->net_fd);
    if (r == 0)
        r = rtnetlink_index(podnet->socket, name, &port);
    if (r == 0)
        r = rtnetlink_hairpin(podnet->socket, port);
    if (r == 0)
        r = rtnetlink_index(made->socket, "lo", &loopback);
    if (r == 0)
        r = rtnetlink_up(made->socket, loopback);
    if (r == 0)
        r = rtnetlink_index(made->socket, "eth0", &device);
    if (r == 0)
        r = rtnetlink_add_address(made->socket, device, address, podnet->prefix);
    if (r == 0)
        r = rtnetlink_up(made->socket, device);
    if (r == 0)
        r = rtnetlink_add_route(made->socket, device, 0, 0, podnet->addresses.network + 1);
    return r == 0 && podnet->range6.prefix ? add_ipv6(podnet, address, made, device) : r;
}

void pod_namespaces_unbind(const struct podnet *podnet, const char *uid) {
    static const char *const names[] = {"net", "ipc", "uts"};
    char path[PATH_MAX];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        pod_namespaces_path(podnet, uid, names[i], path, sizeof path);
        sys_point("unmount");
        while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
            ;
        unlink(path);
    }
    pod_namespaces_path(podnet, uid, "", path, sizeof path);
    sys_point("remove");
    rmdir(path);
}

int pod_namespaces_make(struct podnet *podnet, const char *name, const struct podnet_sandbox *sandbox, uint32_t address) {
    struct made made = {.net_fd = -1};
    struct paths paths;
    char path[PATH_MAX];
    pod_namespaces_unbind(podnet, name); /* what a crash left half-made */
    pod_namespaces_path(podnet, name, "", path, sizeof path);
    pod_namespaces_path(podnet, name, "net", paths.network, sizeof paths.network);
    pod_namespaces_path(podnet, name, "uts", paths.uts, sizeof paths.uts);
    pod_namespaces_path(podnet, name, "ipc", paths.ipc, sizeof paths.ipc);
    int r = sys_mkdirs(path, 0700);
    if (r == 0)
        r = make_namespaces(podnet, sandbox, &paths, &made);
    if (r == 0 && !sandbox->host_network)
        r = connect_pod(podnet, address, &made);
    snprintf(path, sizeof path, "/proc/self/fd/%d", made.net_fd);
    if (r == 0 && !sandbox->host_network)
        r = bind_file(path, paths.network);
    rtnetlink_close(made.socket);
    if (made.net_fd >= 0)
        close(made.net_fd);
    if (r < 0)
        pod_namespaces_unbind(podnet, name);
    return r;
}

/* Goes into one namespace, does something, and comes back. */
static int inside(const char *path, int kind, int home, int (*fn)(const void *argument), const void *argument) {
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, kind) < 0)
        return -errno;
    int r = fn(argument);
    ASSERT(setns(home, kind) == 0);
    return r;
}

static int set_hostname(const void *argument) {
    const char *hostname = argument;
    return sethostname(hostname, strlen(hostname)) < 0 ? -errno : 0;
}

int pod_namespaces_rename(struct podnet *podnet, const char *uts, const char *hostname) {
    return inside(uts, CLONE_NEWUTS, podnet->own_uts, set_hostname, hostname);
}

struct sysctl {
    const char *name, *value;
};

static int set_sysctl(const void *argument) {
    const struct sysctl *sysctl = argument;
    char path[PATH_MAX];
    int len = snprintf(path, sizeof path, "/proc/sys/%s", sysctl->name);
    if (len >= (int)sizeof path || strstr(path, ".."))
        return -EINVAL;
    for (char *at = path + strlen("/proc/sys/"); !strchr(sysctl->name, '/') && *at; at++)
        if (*at == '.')
            *at = '/';
    return sys_write_existing(AT_FDCWD, path, slice_of(sysctl->value));
}

int podnet_set_sysctl(struct podnet *podnet, const struct podnet_pod *pod, const char *name, const char *value) {
    const struct sysctl sysctl = {name, value};
    bool is_net = strncmp(name, "net.", 4) == 0 || strncmp(name, "net/", 4) == 0;
    const char *path = is_net ? pod->network : pod->ipc;
    if (!*path)
        return -EINVAL;
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    CLEANUP(fd_closep) int user_fd = fd < 0 ? -errno : owned_by(fd);
    if (user_fd >= 0)
        return owned_run(user_fd, fd, set_sysctl, &sysctl);
    return inside(path, is_net ? CLONE_NEWNET : CLONE_NEWIPC, is_net ? podnet->own_net : podnet->own_ipc, set_sysctl, &sysctl);
}

/* Is the address configured there? A pod from before pods had IPv6 has none. */
static int look_for_address6(const void *argument) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64 * KIB);
    char wanted[33];
    const struct in6_addr *address = argument;
    for (int i = 0; i < 16; i++)
        snprintf(wanted + 2 * i, 3, "%02x", address->s6_addr[i]);
    int r = sys_read_file(AT_FDCWD, "/proc/thread-self/net/if_inet6", 64 * KIB - 1, &text);
    return r < 0 ? r : slice_find(buffer_slice(&text), slice_of(wanted)) < 0 ? -ENOENT : 0;
}

static void describe_address6(struct podnet *podnet, bool look, uint32_t address, struct podnet_pod *pod) {
    struct in6_addr own = range6_at(&podnet->range6, address & ~podnet->addresses.mask);
    if (!podnet->range6.prefix || (look && inside(pod->network, CLONE_NEWNET, podnet->own_net, look_for_address6, &own) < 0))
        return;
    inet_ntop(AF_INET6, &own, pod->address6, sizeof pod->address6);
}

static bool uid_is_safe(const char *uid) {
    size_t len = strlen(uid);
    return len > 0 && len < UID_BYTES_MAX && uid[0] != '.' && !strchr(uid, '/') && strspn(uid, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == len;
}

static int describe(const struct podnet *podnet, const char *uid, bool host_network, struct podnet_pod *ret) {
    pod_namespaces_path(podnet, uid, "uts", ret->uts, sizeof ret->uts);
    pod_namespaces_path(podnet, uid, "ipc", ret->ipc, sizeof ret->ipc);
    if (!host_network)
        pod_namespaces_path(podnet, uid, "net", ret->network, sizeof ret->network);
    return strlen(ret->uts) + 1 >= sizeof ret->uts ? -ENAMETOOLONG : 0;
}

static bool is_whole(const struct podnet_pod *pod) {
    return pod_namespace_is_bound(pod->uts) && pod_namespace_is_bound(pod->ipc) && (!pod->network[0] || pod_namespace_is_bound(pod->network));
}

static int take_address(struct podnet *podnet, const char *uid, uint32_t *ret) {
    bool had = addresses_find(&podnet->addresses, uid, ret);
    int r = addresses_take(&podnet->addresses, uid, ret);
    if (r == -ENOSPC && pool_yield(podnet))
        r = addresses_take(&podnet->addresses, uid, ret);
    if (r == 0)
        podnet_guard(podnet, *ret);
    return r < 0 || had ? r : podnet_save_addresses(podnet);
}

bool podnet_has(const struct podnet *podnet, const char *uid, bool host_network) {
    struct podnet_pod pod = {.address = ""};
    return uid_is_safe(uid) && describe(podnet, uid, host_network, &pod) == 0 && is_whole(&pod);
}

int podnet_add(struct podnet *podnet, const struct podnet_sandbox *sandbox, struct podnet_pod *ret, struct diag *diag) {
    const char *uid = sandbox->uid;
    bool host_network = sandbox->host_network;
    struct podnet_pod pod = {.address = ""};
    uint32_t address = 0;
    if (!uid_is_safe(uid))
        return diag_set(diag, -EINVAL, "\"%s\" is no pod uid", uid);
    int r = describe(podnet, uid, host_network, &pod);
    if (r < 0)
        return diag_set(diag, r, "the path %s is too long", podnet->namespace_dir);
    bool was_whole = is_whole(&pod);
    if (!host_network && ret->address[0] && !addresses_find(&podnet->addresses, uid, &address))
        addresses_claim(&podnet->addresses, uid, ret->address);
    bool pooled = !host_network && !was_whole && !sandbox->user_namespace && !addresses_find(&podnet->addresses, uid, &address) &&
                  pool_take(podnet, uid, sandbox->hostname, &address) == 0;
    if (!host_network && !pooled)
        r = take_address(podnet, uid, &address);
    if (r < 0)
        return diag_set(diag, r, "no address for the pod in %s: %s", podnet->cidr, strerror(-r));
    if (!was_whole && !pooled)
        r = pod_namespaces_make(podnet, uid, sandbox, address);
    if (r < 0)
        return diag_set(diag, r, "cannot make the pod's network: %s", strerror(-r));
    if (!host_network) {
        address_text(address, pod.address);
        describe_address6(podnet, was_whole, address, &pod);
    }
    *ret = pod;
    return 0;
}

int podnet_remove(struct podnet *podnet, const char *uid) {
    uint32_t address;
    if (!uid_is_safe(uid))
        return -EINVAL;
    pod_namespaces_unbind(podnet, uid);
    if (!addresses_find(&podnet->addresses, uid, &address))
        return 0;
    addresses_give(&podnet->addresses, uid);
    return podnet_save_addresses(podnet);
}

int podnet_list(struct podnet *podnet, void (*fn)(void *userdata, const char *uid), void *userdata) {
    CLEANUP(map_freep) struct map *uids = map_new();
    struct slice key;
    void *value;
    int r = uids ? 0 : -ENOMEM;
    for (size_t i = 0; r == 0 && i < podnet->addresses.entries.count; i++)
        if (podnet->addresses.entries.items[i].uid[0] != '.')
            r = map_put(uids, slice_of(podnet->addresses.entries.items[i].uid), podnet, NULL);
    DIR *dir = opendir(podnet->namespace_dir);
    for (struct dirent *entry; r == 0 && dir && (entry = readdir(dir));)
        if (entry->d_name[0] != '.')
            r = map_put(uids, slice_of(entry->d_name), podnet, NULL);
    if (dir)
        closedir(dir);
    for (size_t at = 0; r == 0 && map_next(uids, &at, &key, &value);) {
        char uid[256];
        snprintf(uid, sizeof uid, "%.*s", SLICE_ARG(key));
        fn(userdata, uid);
    }
    return r;
}

/* --- counting --- */

int podnet_traffic(struct podnet *podnet, const struct podnet_pod *pod, struct podnet_traffic *ret) {
    struct rtnl_link_stats64 stats;
    struct in_addr address;
    char name[IFNAMSIZ];
    if (!*pod->address || inet_pton(AF_INET, pod->address, &address) != 1)
        return -ENODEV;
    podnet_port_name(podnet, ntohl(address.s_addr), name);
    int r = rtnetlink_stats(podnet->socket, name, &stats);
    if (r < 0)
        return r;
    *ret = (struct podnet_traffic){.rx_bytes = stats.tx_bytes, /* what leaves here arrives there */
                                   .rx_packets = stats.tx_packets,
                                   .rx_errors = stats.tx_errors,
                                   .rx_dropped = stats.tx_dropped,
                                   .tx_bytes = stats.rx_bytes,
                                   .tx_packets = stats.rx_packets,
                                   .tx_errors = stats.rx_errors,
                                   .tx_dropped = stats.rx_dropped};
    return 0;
}

/* Bridge, pods' namespaces and service rules of one instance.
 *
 * Names: bridge "tm-<instance>", table "tidemill_<instance>", veth "tm" + 12 hexadecimal digits of a hash over instance and pod.
 * <namespace_dir>/<uid>/{net,uts,ipc} are the namespaces, bound to files so that they live without a process (no pause container) and are seen by the
 * next node. "net" is bound last: when it is there, the rest is.
 *
 * Making a pod's namespaces: this thread alone moves (unshare is per thread), binds /proc/thread-self/ns/…, opens a netlink socket that stays in
 * there, and moves back before anything else happens; failing to move back would leave the process in a pod, hence the assertion.
 *
 * Removing: unbinding lets the kernel collect namespace and veth when the last process is gone, asynchronously; an explicit RTM_DELLINK would block
 * all networking for 30 ms. */
#include "podnet/podnet.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <nftables/libnftables.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "podnet/address_priv.h"
#include "podnet/rtnetlink_priv.h"
#include "podnet/rules_priv.h"
#include "sys/sys.h"

struct podnet {
    char instance[16], cidr[32], bridge[IFNAMSIZ], gateway[16];
    char *state_dir, *namespace_dir;
    struct addresses addresses;
    struct mnl_socket *socket;
    unsigned bridge_index, prefix;
    uint64_t rules_hash;           /* of what the kernel has; 0: unknown */
    int own_net, own_uts, own_ipc; /* where we live */
};

/* --- the address table on disk --- */

static int save_addresses(struct podnet *podnet) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/addresses", podnet->state_dir);
    int r = addresses_format(&podnet->addresses, &text);
    return r < 0 ? r : sys_write_file_fast(AT_FDCWD, path, buffer_slice(&text), 0600);
}

static int load_addresses(struct podnet *podnet) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB + 1);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/addresses", podnet->state_dir);
    int r = sys_read_file(AT_FDCWD, path, MIB, &text);
    if (r == -ENOMEM || r == 0)
        return r < 0 ? r : addresses_parse(&podnet->addresses, buffer_slice(&text));
    return sys_remove_tree(AT_FDCWD, path); /* it is not there, or cannot be read: who has an address says so (podnet_add) */
}

/* --- bridge --- */

struct overlap {
    const struct podnet *podnet;
    unsigned index;
    uint32_t address;
};

static void on_host_address(void *userdata, unsigned index, uint32_t address, unsigned prefix) {
    struct overlap *overlap = userdata;
    uint32_t mask = overlap->podnet->addresses.mask & (prefix ? UINT32_MAX << (32 - prefix) : 0);
    if (index != overlap->podnet->bridge_index && prefix && (address & mask) == (overlap->podnet->addresses.network & mask)) {
        overlap->index = index;
        overlap->address = address;
    }
}

static int check_overlap(struct podnet *podnet, struct diag *diag) {
    struct overlap overlap = {.podnet = podnet};
    char name[IFNAMSIZ] = "?", address[16];
    int r = rtnetlink_addresses(podnet->socket, on_host_address, &overlap);
    if (r < 0 || !overlap.index)
        return r;
    if_indextoname(overlap.index, name);
    address_text(overlap.address, address);
    diag_hint(diag, 0, "choose another range for pods");
    return diag_set(diag, -EADDRINUSE, "the pods' address range %s overlaps with interface %s (%s)", podnet->cidr, name, address);
}

static void write_sysctl(const char *name, const char *value) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "/proc/sys/net/%s", name);
    sys_write_existing(AT_FDCWD, path, slice_of(value));
}

static int make_bridge(struct podnet *podnet, struct diag *diag) {
    uint64_t hash = slice_hash(slice_of(podnet->bridge));
    const unsigned char mac[6] = {
        0x02, 0x74, (unsigned char)hash, (unsigned char)(hash >> 8), (unsigned char)(hash >> 16), (unsigned char)(hash >> 24)};
    char name[64];
    /* Looked for before anything is made, so that a range that is taken leaves nothing behind. An index of 0: the bridge is not there yet. */
    if (rtnetlink_index(podnet->socket, podnet->bridge, &podnet->bridge_index) < 0)
        podnet->bridge_index = 0;
    int r = check_overlap(podnet, diag);
    if (r < 0)
        return r;
    r = rtnetlink_add_bridge(podnet->socket, podnet->bridge, mac);
    if (r < 0 && r != -EEXIST)
        return diag_set(diag, r, "cannot create the bridge %s: %s", podnet->bridge, strerror(-r));
    r = rtnetlink_index(podnet->socket, podnet->bridge, &podnet->bridge_index);
    if (r == 0)
        r = rtnetlink_up(podnet->socket, podnet->bridge_index);
    if (r < 0)
        return diag_set(diag, r, "cannot bring up the bridge %s: %s", podnet->bridge, strerror(-r));
    r = rtnetlink_add_address(podnet->socket, podnet->bridge_index, podnet->addresses.network + 1, podnet->prefix);
    if (r < 0 && r != -EEXIST)
        return diag_set(diag, r, "cannot give %s to the bridge: %s", podnet->gateway, strerror(-r));
    snprintf(name, sizeof name, "ipv6/conf/%s/disable_ipv6", podnet->bridge);
    write_sysctl(name, "1");
    snprintf(name, sizeof name, "ipv4/conf/%s/route_localnet", podnet->bridge); /* node ports at 127.0.0.1; the table keeps pods away from there */
    write_sysctl(name, "1");
    write_sysctl("ipv4/ip_forward", "1");
    return 0;
}

static int route_services(struct podnet *podnet, const char *service_cidr, struct diag *diag) {
    uint32_t network, mask;
    int r = address_cidr_parse(service_cidr, &network, &mask);
    if (r < 0)
        return diag_set(diag, r, "\"%s\" is no address range such as 10.96.0.0/16", service_cidr);
    r = rtnetlink_add_route(podnet->socket, podnet->bridge_index, network, (unsigned)__builtin_popcount(mask), 0);
    return r < 0 ? diag_set(diag, r, "cannot route %s to the bridge: %s", service_cidr, strerror(-r)) : 0;
}

static int open_own(const char *name) {
    char path[64];
    snprintf(path, sizeof path, "/proc/thread-self/ns/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static bool instance_is_valid(const char *name) {
    size_t len = strlen(name);
    return len >= 1 && len <= 10 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") == len;
}

static int set_names(struct podnet *podnet, const struct podnet_options *options, struct diag *diag) {
    if (!instance_is_valid(options->instance))
        return diag_set(diag, -EINVAL, "\"%s\" is no instance name: 1 to 10 of a-z and 0-9", options->instance);
    snprintf(podnet->instance, sizeof podnet->instance, "%s", options->instance);
    snprintf(podnet->bridge, sizeof podnet->bridge, "tm-%s", options->instance);
    snprintf(podnet->cidr, sizeof podnet->cidr, "%s", options->cidr);
    if (addresses_init(&podnet->addresses, options->cidr) < 0)
        return diag_set(diag, -EINVAL, "\"%s\" is no address range such as 10.88.0.0/16", options->cidr);
    podnet->prefix = (unsigned)__builtin_popcount(podnet->addresses.mask);
    address_text(podnet->addresses.network + 1, podnet->gateway);
    podnet->state_dir = strdup(options->state_dir);
    podnet->namespace_dir = strdup(options->namespace_dir);
    return podnet->state_dir && podnet->namespace_dir ? 0 : -ENOMEM;
}

int podnet_new(const struct podnet_options *options, struct podnet **ret, struct diag *diag) {
    CLEANUP(podnet_freep) struct podnet *podnet = calloc(1, sizeof *podnet);
    if (!podnet)
        return -ENOMEM;
    podnet->own_net = podnet->own_uts = podnet->own_ipc = -1;
    int r = set_names(podnet, options, diag);
    if (r < 0)
        return r;
    podnet->own_net = open_own("net");
    podnet->own_uts = open_own("uts");
    podnet->own_ipc = open_own("ipc");
    if (podnet->own_net < 0 || podnet->own_uts < 0 || podnet->own_ipc < 0)
        return diag_set(diag, -EIO, "cannot open this process' namespaces in /proc");
    r = sys_mkdirs(options->state_dir, 0700);
    if (r == 0)
        r = sys_mkdirs(options->namespace_dir, 0700);
    if (r == 0)
        r = load_addresses(podnet);
    if (r < 0)
        return diag_set(diag, r, "cannot prepare %s and %s: %s", options->state_dir, options->namespace_dir, strerror(-r));
    r = rtnetlink_open(&podnet->socket);
    if (r < 0)
        return diag_set(diag, r, "cannot open a netlink socket: %s", strerror(-r));
    r = make_bridge(podnet, diag);
    if (r == 0 && options->service_cidr)
        r = route_services(podnet, options->service_cidr, diag);
    if (r == 0)
        r = podnet_set_services(podnet, NULL, 0, diag);
    if (r < 0)
        return r;
    *ret = TAKE(podnet);
    return 0;
}

void podnet_free(struct podnet *podnet) {
    if (!podnet)
        return;
    rtnetlink_close(podnet->socket);
    addresses_deinit(&podnet->addresses);
    const int fds[] = {podnet->own_net, podnet->own_uts, podnet->own_ipc};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(podnet->state_dir);
    free(podnet->namespace_dir);
    free(podnet);
}

const char *podnet_gateway(const struct podnet *podnet) {
    return podnet->gateway;
}
/* --- pods --- */

static void namespace_path(const struct podnet *podnet, const char *uid, const char *name, char *ret, size_t size) {
    snprintf(ret, size, "%s/%s%s%s", podnet->namespace_dir, uid, *name ? "/" : "", name);
}

/* A namespace is bound there when the file is on nsfs: its device differs from the folder's. */
static bool is_bound(const char *path) {
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

struct made {
    struct mnl_socket *socket;
    int net_fd;
};

/* Runs inside the new namespaces. */
static int fill_namespaces(const char *hostname, bool host_network, const struct podnet_pod *pod, struct made *ret) {
    if (sethostname(hostname, strlen(hostname)) < 0)
        return -errno;
    int r = bind_namespace("uts", pod->uts);
    if (r == 0)
        r = bind_namespace("ipc", pod->ipc);
    if (r < 0 || host_network)
        return r;
    ret->net_fd = open_own("net");
    r = ret->net_fd < 0 ? ret->net_fd : rtnetlink_open(&ret->socket);
    write_sysctl("ipv4/ping_group_range", "0 2147483647");
    write_sysctl("ipv4/ip_unprivileged_port_start", "0"); /* a pod has its ports for itself */
    return r;
}

static int make_namespaces(struct podnet *podnet, const char *hostname, bool host_network, const struct podnet_pod *pod, struct made *ret) {
    if (unshare(CLONE_NEWUTS | CLONE_NEWIPC | (host_network ? 0 : CLONE_NEWNET)) < 0)
        return -errno;
    int r = fill_namespaces(hostname, host_network, pod, ret);
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

static void veth_name(const struct podnet *podnet, const char *uid, char ret[IFNAMSIZ]) {
    char text[128];
    snprintf(text, sizeof text, "%s/%s", podnet->instance, uid);
    snprintf(ret, IFNAMSIZ, "tm%012" PRIx64, slice_hash(slice_of(text)) & UINT64_C(0xffffffffffff));
}

static int connect_pod(struct podnet *podnet, const char *uid, uint32_t address, const struct made *made) {
    char name[IFNAMSIZ];
    unsigned stale, port, loopback, device;
    veth_name(podnet, uid, name);
    if (rtnetlink_index(podnet->socket, name, &stale) == 0)
        rtnetlink_delete(podnet->socket, stale);
    int r = rtnetlink_add_veth(podnet->socket, name, podnet->bridge_index, "eth0", made->net_fd);
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
    return r < 0 ? r : rtnetlink_add_route(made->socket, device, 0, 0, podnet->addresses.network + 1);
}

static void unbind(const struct podnet *podnet, const char *uid) {
    static const char *const names[] = {"net", "ipc", "uts"};
    char path[PATH_MAX];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        namespace_path(podnet, uid, names[i], path, sizeof path);
        sys_point("unmount");
        while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
            ;
        unlink(path);
    }
    namespace_path(podnet, uid, "", path, sizeof path);
    sys_point("remove");
    rmdir(path);
}

static int make_pod(struct podnet *podnet, const char *uid, const char *hostname, bool host_network, const struct podnet_pod *pod, uint32_t address) {
    struct made made = {.net_fd = -1};
    char path[PATH_MAX];
    unbind(podnet, uid); /* what a crash left half-made */
    namespace_path(podnet, uid, "", path, sizeof path);
    int r = sys_mkdirs(path, 0700);
    if (r == 0)
        r = make_namespaces(podnet, hostname, host_network, pod, &made);
    if (r == 0 && !host_network)
        r = connect_pod(podnet, uid, address, &made);
    snprintf(path, sizeof path, "/proc/self/fd/%d", made.net_fd);
    if (r == 0 && !host_network)
        r = bind_file(path, pod->network);
    rtnetlink_close(made.socket);
    if (made.net_fd >= 0)
        close(made.net_fd);
    if (r < 0)
        unbind(podnet, uid);
    return r;
}

static bool uid_is_safe(const char *uid) {
    size_t len = strlen(uid);
    return len > 0 && len < UID_BYTES_MAX && uid[0] != '.' && !strchr(uid, '/') && strspn(uid, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == len;
}

int podnet_add(struct podnet *podnet, const char *uid, const char *hostname, bool host_network, struct podnet_pod *ret, struct diag *diag) {
    struct podnet_pod pod = {.address = ""};
    uint32_t address = 0;
    int r = 0;
    if (!uid_is_safe(uid))
        return diag_set(diag, -EINVAL, "\"%s\" is no pod uid", uid);
    namespace_path(podnet, uid, "uts", pod.uts, sizeof pod.uts);
    namespace_path(podnet, uid, "ipc", pod.ipc, sizeof pod.ipc);
    if (strlen(pod.uts) + 1 >= sizeof pod.uts)
        return diag_set(diag, -ENAMETOOLONG, "the path %s is too long", podnet->namespace_dir);
    if (!host_network) {
        bool had = addresses_find(&podnet->addresses, uid, &address);
        if (!had && ret->address[0])
            addresses_claim(&podnet->addresses, uid, ret->address);
        namespace_path(podnet, uid, "net", pod.network, sizeof pod.network);
        r = addresses_take(&podnet->addresses, uid, &address);
        if (r == 0 && !had)
            r = save_addresses(podnet);
        if (r < 0)
            return diag_set(diag, r, "no address for the pod in %s: %s", podnet->cidr, strerror(-r));
        address_text(address, pod.address);
    }
    if (!is_bound(pod.uts) || !is_bound(pod.ipc) || (!host_network && !is_bound(pod.network)))
        r = make_pod(podnet, uid, hostname, host_network, &pod, address);
    if (r < 0)
        return diag_set(diag, r, "cannot make the pod's network: %s", strerror(-r));
    *ret = pod;
    return 0;
}

int podnet_remove(struct podnet *podnet, const char *uid) {
    uint32_t address;
    if (!uid_is_safe(uid))
        return -EINVAL;
    unbind(podnet, uid);
    if (!addresses_find(&podnet->addresses, uid, &address))
        return 0;
    addresses_give(&podnet->addresses, uid);
    return save_addresses(podnet);
}

int podnet_list(struct podnet *podnet, void (*fn)(void *userdata, const char *uid), void *userdata) {
    CLEANUP(map_freep) struct map *uids = map_new();
    struct slice key;
    void *value;
    int r = uids ? 0 : -ENOMEM;
    for (size_t i = 0; r == 0 && i < podnet->addresses.entries.count; i++)
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

/* --- rules --- */

static int run_nft(const char *text, struct diag *diag) {
    if (sys_point("nftables") < 0)
        return diag_set(diag, -EIO, "nftables refuses the rules: a fault was asked for");
    struct nft_ctx *context = nft_ctx_new(NFT_CTX_DEFAULT);
    if (!context)
        return diag_set(diag, -ENOMEM, "cannot start libnftables");
    nft_ctx_buffer_error(context);
    nft_ctx_buffer_output(context);
    int r = nft_run_cmd_from_buffer(context, text);
    if (r != 0) {
        const char *error = nft_ctx_get_error_buffer(context);
        r = diag_set(diag, -EIO, "nftables refuses the rules: %.300s", error && *error ? error : "unknown error");
    }
    nft_ctx_free(context);
    return r;
}

int podnet_set_services(struct podnet *podnet, const struct podnet_service *services, size_t count, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(RULES_BYTES_MAX);
    const struct rules rules = {
        .instance = podnet->instance, .bridge = podnet->bridge, .cidr = podnet->cidr, .services = services, .services_count = count};
    int r = rules_format(&rules, &text);
    if (r < 0)
        return diag_set(diag, r, "too many services for one table");
    uint64_t hash = slice_hash(buffer_slice(&text));
    if (hash == podnet->rules_hash)
        return 0;
    r = run_nft(text.data, diag);
    podnet->rules_hash = r == 0 ? hash : 0;
    return r;
}

int podnet_remove_all(struct podnet *podnet) {
    char text[128];
    struct diag diag = DIAG_INIT;
    snprintf(text, sizeof text, "table ip tidemill_%s {}\ndelete table ip tidemill_%s\n", podnet->instance, podnet->instance);
    int r = run_nft(text, &diag);
    int removed = rtnetlink_delete(podnet->socket, podnet->bridge_index);
    return r < 0 ? r : removed;
}

/* Bridge and tables of one instance. Names: bridge "tm-<instance>", tables "tidemill_<instance>" of the families ip, ip6 and bridge; of a pod's veth
 * see podnet_port_name.
 *
 * IPv6 is a matter of luck: a kernel without it, or told to leave it, costs the pods their second address and nothing else; a note says so. Routing
 * it makes the kernel ignore router advertisements on interfaces that listen to them, which would cut the machine off: those are told to listen on.
 */
#include "podnet/podnet.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <nftables/libnftables.h>
#include <stdarg.h>
#include <stdio.h>

#include "podnet/guard_priv.h"
#include "podnet/podnet_priv.h"
#include "podnet/rtnetlink_priv.h"
#include "podnet/rules_priv.h"
#include "sys/sys.h"

void podnet_note_down(struct podnet *podnet, const char *format, ...) {
    va_list args;
    if (podnet->notes_count == PODNET_NOTES_MAX)
        return;
    va_start(args, format);
    vsnprintf(podnet->notes[podnet->notes_count++], sizeof podnet->notes[0], format, args);
    va_end(args);
}

const char *podnet_note(const struct podnet *podnet, size_t index) {
    return index < podnet->notes_count ? podnet->notes[index] : NULL;
}

void podnet_port_name(const struct podnet *podnet, uint32_t address, char ret[IFNAMSIZ]) {
    snprintf(ret, IFNAMSIZ, "%s%08x", podnet->port_prefix, address);
}

void podnet_mac(uint32_t address, unsigned char ret[6]) {
    const unsigned char mac[6] = {
        0x02, 0x74, (unsigned char)(address >> 24), (unsigned char)(address >> 16), (unsigned char)(address >> 8), (unsigned char)address};
    memcpy(ret, mac, sizeof mac);
}

/* --- the address table on disk --- */

int podnet_save_addresses(struct podnet *podnet) {
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

void podnet_write_sysctl(const char *name, const char *value) {
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
    snprintf(name, sizeof name, "ipv4/conf/%s/route_localnet", podnet->bridge); /* node ports at 127.0.0.1; the table keeps pods away from there */
    podnet_write_sysctl(name, "1");
    podnet_write_sysctl("ipv4/ip_forward", "1");
    return 0;
}

/* --- rules --- */

int podnet_run_nft(const char *text, struct diag *diag) {
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

typedef int rules_fn(const struct rules *rules, struct buffer *out);

/* Nothing is done when the kernel has just these already. */
static int apply(const struct rules *rules, rules_fn *format, uint64_t *hash, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(RULES_BYTES_MAX);
    int r = format(rules, &text);
    if (r < 0)
        return diag_set(diag, r, "too many services for one table");
    uint64_t wanted = slice_hash(buffer_slice(&text));
    if (wanted == *hash)
        return 0;
    r = podnet_run_nft(text.data, diag);
    *hash = r == 0 ? wanted : 0;
    return r;
}

int podnet_set_services(struct podnet *podnet, const struct podnet_service *services, size_t count, const struct podnet_host_port *ports,
                        size_t ports_count, struct diag *diag) {
    char cidr6[64];
    const struct rules rules = {.instance = podnet->instance,
                                .bridge = podnet->bridge,
                                .cidr = podnet->cidr,
                                .cidr6 = podnet_cidr6(podnet, cidr6),
                                .services = services,
                                .services_count = count,
                                .ports = ports,
                                .ports_count = ports_count};
    int r = apply(&rules, rules_format, &podnet->rules_hash, diag);
    return r < 0 || !*cidr6 ? r : apply(&rules, rules6_format, &podnet->rules6_hash, diag);
}

/* The rules that an earlier process left are good until the first services are known, however long that takes: without core, say. */
static int keep_or_make_rules(struct podnet *podnet, const char *family, rules_fn *format, uint64_t *hash, struct diag *diag) {
    char text[64], cidr6[64];
    struct diag none = DIAG_INIT;
    const struct rules rules = {.instance = podnet->instance, .bridge = podnet->bridge, .cidr = podnet->cidr, .cidr6 = podnet_cidr6(podnet, cidr6)};
    snprintf(text, sizeof text, "list table %s tidemill_%s\n", family, podnet->instance);
    return podnet_run_nft(text, &none) == 0 ? 0 : apply(&rules, format, hash, diag);
}

/* --- IPv6 --- */

static bool sysctl_is(const char *path, const char *value) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(256);
    return sys_read_file(AT_FDCWD, path, 255, &text) == 0 && slice_is(slice_trim(buffer_slice(&text)), value);
}

/* Interfaces that take routers' word keep taking it when we route: 2 instead of 1. */
static void keep_listening_to_routers(void) {
    DIR *dir = opendir("/proc/sys/net/ipv6/conf");
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[PATH_MAX];
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, "all") == 0)
            continue;
        snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/accept_ra", entry->d_name);
        if (sysctl_is(path, "1"))
            sys_write_existing(AT_FDCWD, path, SLICE("2"));
    }
    if (dir)
        closedir(dir);
}

static int bring_up_ipv6(struct podnet *podnet, struct diag *diag) {
    static const char *const settings[][2] = {{"disable_ipv6", "0"}, {"accept_ra", "0"}, {"accept_dad", "0"}};
    char name[64];
    struct in6_addr gateway = range6_at(&podnet->range6, 1);
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        snprintf(name, sizeof name, "ipv6/conf/%s/%s", podnet->bridge, settings[i][0]);
        podnet_write_sysctl(name, settings[i][1]);
    }
    if (!sysctl_is("/proc/sys/net/ipv6/conf/all/forwarding", "1")) {
        keep_listening_to_routers();
        podnet_write_sysctl("ipv6/conf/all/forwarding", "1");
    }
    inet_ntop(AF_INET6, &gateway, podnet->gateway6, sizeof podnet->gateway6);
    int r = rtnetlink_add_address6(podnet->socket, podnet->bridge_index, &gateway, podnet->range6.prefix);
    if (r < 0 && r != -EEXIST)
        return diag_set(diag, r, "cannot give %s to the bridge: %s", podnet->gateway6, strerror(-r));
    return keep_or_make_rules(podnet, "ip6", rules6_format, &podnet->rules6_hash, diag);
}

static int remove_table(const struct podnet *podnet, const char *family);

static void give_up_ipv6(struct podnet *podnet) {
    char name[64];
    remove_table(podnet, "ip6");
    podnet->range6.prefix = 0;
    podnet->gateway6[0] = 0;
    snprintf(name, sizeof name, "ipv6/conf/%s/disable_ipv6", podnet->bridge);
    podnet_write_sysctl(name, "1");
}

static void seed_of(const struct podnet *podnet, struct buffer *out) {
    sys_read_file(AT_FDCWD, "/etc/machine-id", 255, out); /* without one the instance's name is enough */
    buffer_append_text(out, podnet->instance);
}

static int choose_range6(struct podnet *podnet, const char *cidr6, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer seed = BUFFER_INIT(512);
    seed_of(podnet, &seed);
    if (!cidr6 || strcmp(cidr6, "none") == 0)
        return 0;
    if (strcmp(cidr6, "auto") == 0) {
        range6_local(buffer_slice(&seed), &podnet->range6);
        return 0;
    }
    if (range6_parse(cidr6, &podnet->range6) < 0 || podnet->range6.prefix > 96 + podnet->prefix)
        return diag_set(diag, -EINVAL, "\"%s\" is no IPv6 range such as fd00:88::/64 with room for the addresses of %s", cidr6, podnet->cidr);
    return 0;
}

static int set_up_ipv6(struct podnet *podnet, const char *cidr6, struct diag *diag) {
    struct diag why = DIAG_INIT;
    int r = choose_range6(podnet, cidr6, diag);
    bool wanted = podnet->range6.prefix > 0;
    if (r < 0)
        return r;
    if (wanted && access("/proc/sys/net/ipv6", F_OK) < 0)
        podnet_note_down(podnet, "pods have IPv4 addresses only: this kernel has no IPv6");
    else if (wanted && sysctl_is("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"))
        podnet_note_down(podnet, "pods have IPv4 addresses only: IPv6 is switched off (net.ipv6.conf.all.disable_ipv6)");
    else if (wanted && bring_up_ipv6(podnet, &why) < 0)
        podnet_note_down(podnet, "pods have IPv4 addresses only: %s", why.message);
    else if (wanted)
        return 0;
    give_up_ipv6(podnet);
    return 0;
}

/* --- the guard --- */

static void write_guard(struct podnet *podnet) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(GUARD_BYTES_MAX);
    struct diag diag = DIAG_INIT;
    int r = guard_format(podnet, &text);
    if (r == 0)
        r = podnet_run_nft(text.data, &diag);
    if (r < 0 && podnet->guard_works)
        podnet_note_down(podnet, "a pod with the capability NET_RAW can pose as another: %s", diag.message[0] ? diag.message : strerror(-r));
    podnet->guard_works = r == 0;
}

void podnet_guard(struct podnet *podnet, uint32_t address) {
    if (!podnet->guard_works || (address >= podnet->guarded_from && address < podnet->guarded_to))
        return;
    podnet->guarded_from = address;
    podnet->guarded_to = MIN(address + GUARD_WINDOW, podnet->addresses.network | ~podnet->addresses.mask);
    write_guard(podnet);
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
    podnet->pool_max = MIN(options->pool, (size_t)PODNET_POOL_MAX);
    podnet->guard_works = true;
    snprintf(podnet->port_prefix, sizeof podnet->port_prefix, "tmp%04x", (unsigned)(slice_hash(slice_of(podnet->instance)) & 0xffff));
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
        r = keep_or_make_rules(podnet, "ip", rules_format, &podnet->rules_hash, diag);
    if (r == 0)
        r = set_up_ipv6(podnet, options->cidr6, diag);
    if (r < 0)
        return r;
    pool_find(podnet);
    podnet_guard(podnet, podnet->addresses.last + 1);
    *ret = TAKE(podnet);
    return 0;
}

void podnet_free(struct podnet *podnet) {
    if (!podnet)
        return;
    rtnetlink_close(podnet->socket);
    addresses_deinit(&podnet->addresses);
    VECTOR_DEINIT(&podnet->pool);
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

const char *podnet_cidr6(const struct podnet *podnet, char ret[64]) {
    ret[0] = 0;
    if (podnet->range6.prefix)
        range6_text(&podnet->range6, ret);
    return ret;
}

/* A table that was never made is no error: each family is asked for by itself. */
static int remove_table(const struct podnet *podnet, const char *family) {
    char text[128];
    struct diag diag = DIAG_INIT;
    snprintf(text, sizeof text, "table %s tidemill_%s {}\ndelete table %s tidemill_%s\n", family, podnet->instance, family, podnet->instance);
    return podnet_run_nft(text, &diag);
}

int podnet_remove_all(struct podnet *podnet) {
    int r = remove_table(podnet, "ip");
    remove_table(podnet, "ip6");
    remove_table(podnet, "bridge");
    podnet->pool_max = 0;
    while (podnet->pool.count)
        pool_yield(podnet);
    int removed = rtnetlink_delete(podnet->socket, podnet->bridge_index);
    return r < 0 ? r : removed;
}

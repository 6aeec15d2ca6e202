/* Namespaces made in advance: whole, with veth, addresses and the guard's leave, so that a pod's start renames a folder and writes a hostname.
 *
 * A member is the folder ".pool-<mark>-<address>" and an entry of that name in the address table; the mark stands for everything that members are
 * made with (ranges, instance, version), so that those of another configuration are thrown away. Nothing about them is kept in memory but the
 * address: the next process finds them.
 *
 * Taking one: hostname, then the entry gets the pod's uid, then the folder is renamed. A crash before the entry leaves a member, one behind it a pod
 * with an address and without namespaces, which is made anew, and a folder without an entry, which goes. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "podnet/podnet_priv.h"
#include "podnet/rtnetlink_priv.h"
#include "sys/sys.h"

#define POOL_VERSION 1

static uint32_t mark_of(const struct podnet *podnet) {
    char text[256], range6[64] = "";
    if (podnet->range6.prefix)
        range6_text(&podnet->range6, range6);
    snprintf(text, sizeof text, "%d %s %s %s", POOL_VERSION, podnet->instance, podnet->cidr, range6);
    return (uint32_t)slice_hash(slice_of(text));
}

static void member_name(const struct podnet *podnet, uint32_t address, char ret[UID_BYTES_MAX]) {
    snprintf(ret, UID_BYTES_MAX, POOL_PREFIX "%08x-%08x", mark_of(podnet), address);
}

static bool is_member(const struct podnet *podnet, const char *name, uint32_t *ret) {
    char expected[UID_BYTES_MAX], path[PATH_MAX];
    if (!addresses_find(&podnet->addresses, name, ret))
        return false;
    member_name(podnet, *ret, expected);
    pod_namespaces_path(podnet, name, "net", path, sizeof path);
    return strcmp(name, expected) == 0 && pod_namespace_is_bound(path);
}

static void drop_folders(struct podnet *podnet) {
    DIR *dir = opendir(podnet->namespace_dir);
    uint32_t address;
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (strncmp(entry->d_name, POOL_PREFIX, strlen(POOL_PREFIX)) == 0 && !is_member(podnet, entry->d_name, &address))
            pod_namespaces_unbind(podnet, entry->d_name);
    if (dir)
        closedir(dir);
}

/* What an earlier process left: members, and what is none any more. */
void pool_find(struct podnet *podnet) {
    bool changed = false;
    drop_folders(podnet);
    for (size_t i = podnet->addresses.entries.count; i-- > 0;) {
        const struct address_entry entry = podnet->addresses.entries.items[i];
        uint32_t address;
        if (entry.uid[0] != '.' || (is_member(podnet, entry.uid, &address) && VECTOR_PUSH(&podnet->pool, address) == 0))
            continue;
        addresses_give(&podnet->addresses, entry.uid);
        changed = true;
    }
    while (podnet->pool.count > podnet->pool_max)
        pool_yield(podnet);
    if (changed)
        podnet_save_addresses(podnet);
}

int pool_take(struct podnet *podnet, const char *uid, const char *hostname, uint32_t *ret) {
    char name[UID_BYTES_MAX], from[PATH_MAX], to[PATH_MAX];
    if (podnet->pool.count == 0)
        return -ENOENT;
    uint32_t address = podnet->pool.items[0]; /* the oldest: its address has rested longest */
    VECTOR_REMOVE(&podnet->pool, 0);
    member_name(podnet, address, name);
    pod_namespaces_unbind(podnet, uid); /* a folder that a crash left */
    pod_namespaces_path(podnet, name, "uts", from, sizeof from);
    int r = pod_namespaces_rename(podnet, from, hostname);
    if (r == 0)
        r = addresses_rename(&podnet->addresses, name, uid);
    if (r == 0)
        r = podnet_save_addresses(podnet);
    pod_namespaces_path(podnet, name, "", from, sizeof from);
    pod_namespaces_path(podnet, uid, "", to, sizeof to);
    if (r == 0 && rename(from, to) < 0)
        r = -errno;
    if (r < 0) {
        addresses_give(&podnet->addresses, uid);
        addresses_give(&podnet->addresses, name);
        pod_namespaces_unbind(podnet, name);
        return r;
    }
    *ret = address;
    return 0;
}

bool pool_yield(struct podnet *podnet) {
    char name[UID_BYTES_MAX];
    if (podnet->pool.count == 0)
        return false;
    member_name(podnet, podnet->pool.items[0], name);
    VECTOR_REMOVE(&podnet->pool, 0);
    pod_namespaces_unbind(podnet, name);
    addresses_give(&podnet->addresses, name);
    return true;
}

/* The name of a member holds its address, which is known only when it has one: it is taken under a name that nobody has. */
static int make_member(struct podnet *podnet) {
    static const char making[] = POOL_PREFIX "making";
    char name[UID_BYTES_MAX];
    uint32_t address;
    int r = addresses_take(&podnet->addresses, making, &address);
    if (r < 0)
        return r;
    member_name(podnet, address, name);
    r = addresses_rename(&podnet->addresses, making, name);
    if (r == 0)
        podnet_guard(podnet, address);
    if (r == 0)
        r = podnet_save_addresses(podnet);
    if (r == 0)
        r = pod_namespaces_make(podnet, name, &(struct podnet_sandbox){.hostname = "localhost"}, address);
    if (r == 0)
        r = VECTOR_PUSH(&podnet->pool, address);
    if (r < 0) {
        pod_namespaces_unbind(podnet, name);
        addresses_give(&podnet->addresses, making);
        addresses_give(&podnet->addresses, name);
    }
    return r;
}

bool podnet_pool_wants(const struct podnet *podnet) {
    uint32_t size = ~podnet->addresses.mask - 2;
    return podnet->pool.count < podnet->pool_max && podnet->addresses.entries.count < size / 2; /* a small range is the pods' own */
}

int podnet_pool_fill(struct podnet *podnet) {
    int r = podnet_pool_wants(podnet) ? make_member(podnet) : 0;
    return r < 0 ? r : podnet_pool_wants(podnet);
}

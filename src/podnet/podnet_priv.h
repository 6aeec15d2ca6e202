/* What the files of podnet share. */
#ifndef TIDEMILL_PODNET_PODNET_PRIV_H
#define TIDEMILL_PODNET_PODNET_PRIV_H

#include <net/if.h>

#include "podnet/address6_priv.h"
#include "podnet/address_priv.h"
#include "podnet/podnet.h"

#define PODNET_NOTES_MAX 4
#define POOL_PREFIX ".pool-" /* of the folder and the address of a member: no pod's uid begins with a dot */

struct mnl_socket;
struct podnet {
    char instance[16], cidr[32], bridge[IFNAMSIZ], gateway[INET_ADDRSTRLEN], gateway6[INET6_ADDRSTRLEN];
    char port_prefix[IFNAMSIZ]; /* of the names of this instance's veths */
    char *state_dir, *namespace_dir;
    struct addresses addresses;
    struct range6 range6; /* prefix 0: pods have no IPv6 */
    struct mnl_socket *socket;
    unsigned bridge_index, prefix;
    uint64_t rules_hash, rules6_hash; /* of what the kernel has; 0: unknown */
    int own_net, own_uts, own_ipc;    /* where we live */
    size_t pool_max;
    VECTOR(uint32_t) pool; /* the addresses of what is ready */
    /* the guard's addresses: those in use when it was written, and a window of those that come next */
    uint32_t guarded_from, guarded_to;
    bool guard_works;
    char notes[PODNET_NOTES_MAX][256];
    size_t notes_count;
};

/* podnet.c */
int podnet_save_addresses(struct podnet *podnet);
void podnet_note_down(struct podnet *podnet, const char *format, ...) __attribute__((format(printf, 2, 3)));
void podnet_write_sysctl(const char *name, const char *value);
int podnet_run_nft(const char *text, struct diag *diag);
/* The veth of an address, and its end in the pod: both names follow from the address, so that nothing has to be remembered. */
void podnet_port_name(const struct podnet *podnet, uint32_t address, char ret[IFNAMSIZ]);
void podnet_mac(uint32_t address, unsigned char ret[6]);

/* The address may be used from now on. */
void podnet_guard(struct podnet *podnet, uint32_t address);

/* pool.c */
void pool_find(struct podnet *podnet);
/* A ready one becomes the pod's; -ENOENT: there is none. */
int pool_take(struct podnet *podnet, const char *uid, const char *hostname, uint32_t *ret);
/* Gives back one member's address, since there are no others; false: there is none. */
bool pool_yield(struct podnet *podnet);

/* pods.c */
int pod_namespaces_make(struct podnet *podnet, const char *name, const struct podnet_sandbox *sandbox, uint32_t address);
void pod_namespaces_path(const struct podnet *podnet, const char *uid, const char *name, char *ret, size_t size);
bool pod_namespace_is_bound(const char *path);
int pod_namespaces_rename(struct podnet *podnet, const char *uts, const char *hostname);
void pod_namespaces_unbind(const struct podnet *podnet, const char *uid);

/* owned.c: namespaces of another user namespace */
struct owned {
    int net, uts, ipc;
};
#define OWNED_INIT ((struct owned){.net = -1, .uts = -1, .ipc = -1})
void owned_deinit(struct owned *owned);
/* Makes them; net stays -1 with host_network. */
int owned_make(const char *user_namespace, bool host_network, struct owned *ret);
/* A descriptor of the user namespace that owns this one; -ENOENT: it is ours. */
int owned_by(int namespace_fd);
/* Calls fn as root of the user namespace, and in the other namespace. fn runs in a forked child: system calls only. */
int owned_run(int user_fd, int namespace_fd, int (*fn)(const void *argument), const void *argument);

#endif

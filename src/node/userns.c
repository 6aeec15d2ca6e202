/* Pods with users of their own (hostUsers: false): 65536 users and groups that nobody else on the machine has, so that who breaks out of the
 * container is nobody outside.
 *
 *   <run>/volumes/<uid>/.user             the namespace, shared by the pod's containers
 *   <run>/volumes/<uid>/.sysfs, .mqueue   what the kernel lets a container mount only where its network and IPC namespaces are its own users'
 *
 * The range is recorded before anything is made with it, and kept until the pod is gone. Images are shown through an overlay whose layers are mapped;
 * what belongs to the pod alone (empty folders, files from the API, /etc) is given to its users; what it shares (hostPath, claims) is mapped by crun
 * where the file system can do that, so that it looks the same to pods with and without.
 *
 * The network namespace is the initial user namespace's: within, ports below 1024 and ping work, by sysctls; but CAP_NET_ADMIN and raw sockets have
 * no effect, and sysctls are read-only. */
#include <sys/stat.h>

#include "node/node_priv.h"
#include "sys/sys.h"

#define SLOT_FIRST 16 /* below are the users that builds and people's own containers have */
#define SLOTS 32000

bool userns_is_wanted(const struct pod *pod) {
    const bool *host_users = pod->spec_object->pod->spec.host_users;
    return host_users && !*host_users;
}

void userns_path(const struct pod *pod, enum userns_file file, char ret[PATH_MAX]) {
    static const char *const names[] = {[USERNS_USER] = ".user", [USERNS_SYSFS] = ".sysfs", [USERNS_MQUEUE] = ".mqueue"};
    volumes_memory_path(pod, names[file], ret);
}

static bool is_taken(const struct node *node, uid_t base) {
    struct slice key;
    void *value;
    for (size_t at = 0; map_next(node->pods, &at, &key, &value);)
        if (((const struct pod *)value)->id_base == base)
            return true;
    return false;
}

/* By the pod's uid, so that other instances on this machine hardly ever choose the same. */
static int take_range(struct pod *pod) {
    uint64_t slot = slice_hash(slice_of(pod->uid)) % SLOTS;
    for (size_t i = 0; i < SLOTS && !pod->id_base; i++, slot = (slot + 1) % SLOTS) {
        uid_t base = (uid_t)((SLOT_FIRST + slot) * USERNS_IDS);
        if (!is_taken(pod->node, base))
            pod->id_base = base;
    }
    if (!pod->id_base)
        return -EUSERS;
    record_save(pod);
    return 0;
}

static int mount_kernel(const struct pod *pod, enum userns_file file, const char *type, const char *namespace) {
    char path[PATH_MAX];
    userns_path(pod, file, path);
    if (mounts_is_mounted(path))
        return 0;
    int r = sys_mkdirs(path, 0755);
    return r < 0 ? r : mounts_of_namespace(type, path, namespace);
}

int userns_prepare(struct pod *pod, struct diag *diag) {
    char path[PATH_MAX];
    if (!userns_is_wanted(pod))
        return 0;
    int r = pod->id_base ? 0 : take_range(pod);
    volumes_memory_path(pod, "", path);
    if (r == 0)
        r = sys_mkdirs(path, 0711);
    if (r == 0 && chmod(path, 0711) < 0) /* volumes of its are beneath */
        r = -errno;
    userns_path(pod, USERNS_USER, path);
    if (r == 0 && !mounts_is_mounted(path))
        r = userns_pin(pod->id_base, path);
    if (r == 0)
        r = mount_kernel(pod, USERNS_SYSFS, "sysfs", pod->net.network);
    if (r == 0)
        r = mount_kernel(pod, USERNS_MQUEUE, "mqueue", pod->net.ipc);
    return r < 0 ? diag_set(diag, r, "cannot make the pod's user namespace: %s", strerror(-r)) : 0;
}

bool userns_can_map(const struct pod *pod, const char *path) {
    char file[PATH_MAX];
    userns_path(pod, USERNS_USER, file);
    CLEANUP(fd_closep) int user = pod->id_base ? open(file, O_RDONLY | O_CLOEXEC) : -1;
    return user >= 0 && mounts_can_map(path, user);
}

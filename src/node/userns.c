/* Pods with users of their own (hostUsers: false): 65536 users and groups that nobody else on the machine has, so that who breaks out of the
 * container is nobody outside.
 *
 *   <run>/volumes/<uid>/.user             the namespace, shared by the pod's containers
 *   <run>/volumes/<uid>/.sysfs, .mqueue   of the pod's network and IPC namespaces, mounted by us: a container on a machine that hides parts of its
 *                                         own /sys may not
 *
 * It is made first, and the pod's other namespaces belong to it (podnet's owned.c): root inside rules its network, as far as its capabilities go.
 * Pods of earlier versions have namespaces of the machine's to their end. The range is recorded before anything is made with it, and kept until the
 * pod is gone. Images are shown through an overlay whose layers are mapped; what belongs to the pod alone (empty folders, files from the API, /etc)
 * is given to its users; what it shares (hostPath, claims) is mapped by crun where the file system can do that, so that it looks the same to pods
 * with and without. */
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
    if (r == 0)
        r = mounts_of_namespace(type, path, namespace);
    if (r == 0 && file == USERNS_MQUEUE && chown(path, pod->id_base, pod->id_base) < 0)
        r = -errno;
    return r;
}

int userns_make(struct pod *pod, char ret[PATH_MAX], struct diag *diag) {
    int r = pod->id_base ? 0 : take_range(pod);
    volumes_memory_path(pod, "", ret);
    if (r == 0)
        r = sys_mkdirs(ret, 0711);
    if (r == 0 && chmod(ret, 0711) < 0) /* volumes of its are beneath */
        r = -errno;
    userns_path(pod, USERNS_USER, ret);
    if (r == 0 && !mounts_is_mounted(ret))
        r = userns_pin(pod->id_base, ret);
    return r < 0 ? diag_set(diag, r, "cannot make the pod's user namespace: %s", strerror(-r)) : 0;
}

int userns_prepare(struct pod *pod, struct diag *diag) {
    if (!userns_is_wanted(pod))
        return 0;
    int r = mount_kernel(pod, USERNS_SYSFS, "sysfs", pod->net.network);
    if (r == 0)
        r = mount_kernel(pod, USERNS_MQUEUE, "mqueue", pod->net.ipc);
    return r < 0 ? diag_set(diag, r, "cannot mount what belongs to the pod's namespaces: %s", strerror(-r)) : 0;
}

bool userns_can_map(const struct pod *pod, const char *path) {
    char file[PATH_MAX];
    userns_path(pod, USERNS_USER, file);
    CLEANUP(fd_closep) int user = pod->id_base ? open(file, O_RDONLY | O_CLOEXEC) : -1;
    return user >= 0 && mounts_can_map(path, user);
}

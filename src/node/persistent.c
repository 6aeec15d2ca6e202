/* Persistent volumes of pods. A pod names claims; each is bound to a volume, and the volume is a folder of this machine: one of ours, made here when
 * the first pod mounts it, or one that a person named (local, hostPath). Claim and volume are references of the pod, watched like its secrets.
 *
 * Ours are <state>/volumes/<volume>, nothing else: a volume that says it is ours and names another path is refused, here and when it is removed
 * (reclaim.c). They are made with mode 0777, since nobody knows which user a container runs as; the folder above them is root's alone, so that only
 * those get in to whom they are mounted. A pod with an fsGroup gets them by group before its first container starts (ownership.c). */
#include <fcntl.h>
#include <sys/stat.h>

#include "node/node_priv.h"
#include "sys/sys.h"

#define QUICK_ENTRIES_MAX 1000 /* of a tree that is seen to before all others */

/* A tree is being given to a group. Lives until the worker is done, whatever becomes of the pod. */
struct giving {
    struct node *node;
    char uid[64];
    struct ownership how;
    int result;
    size_t count;
    char (*paths)[PATH_MAX];
};

const char *persistent_claim_name(const struct pod *pod, const struct kube_volume *volume) {
    if (volume->persistent_volume_claim)
        return volume->persistent_volume_claim->claim_name;
    return volume->ephemeral ? arena_printf(pod->spec_object->arena, "%s-%s", pod->name, volume->name) : NULL;
}

const char *persistent_claim_text(const struct pod *pod, const struct kube_volume *volume, char ret[PERSISTENT_CLAIM_BYTES]) {
    if (!volume->persistent_volume_claim && !volume->ephemeral)
        return NULL;
    if (volume->ephemeral)
        snprintf(ret, PERSISTENT_CLAIM_BYTES, "%s-%s", pod->name, volume->name);
    else
        snprintf(ret, PERSISTENT_CLAIM_BYTES, "%s", volume->persistent_volume_claim->claim_name);
    return ret;
}

bool persistent_has_claim(const struct pod *pod, const char *namespace, const char *name) {
    const struct kube_volume_array *volumes = &pod->spec_object->pod->spec.volumes;
    for (size_t i = 0; strcmp(pod->namespace, namespace) == 0 && i < volumes->count; i++) {
        char text[PERSISTENT_CLAIM_BYTES];
        const char *claim = persistent_claim_text(pod, &volumes->items[i], text);
        if (claim && strcmp(claim, name) == 0)
            return true;
    }
    return false;
}

static const struct kube_object *find_volume(const struct pod *pod, const struct kube_volume *volume) {
    char name[PERSISTENT_CLAIM_BYTES];
    const struct kube_object *claim =
        persistent_claim_text(pod, volume, name) ? references_find(pod, &kube_kind_persistent_volume_claim, name) : NULL;
    return claim ? references_find(pod, &kube_kind_persistent_volume, claim->persistent_volume_claim->spec.volume_name) : NULL;
}

bool persistent_is_ours(const struct node *node, const struct kube_object *volume, char ret[PATH_MAX]) {
    const struct kube_local_volume_source *local = volume->persistent_volume->spec.local;
    snprintf(ret, PATH_MAX, "%s/%s", node->volumes_dir, volume->metadata->name);
    return local && local->path && strcmp(local->path, ret) == 0;
}

bool persistent_path(const struct pod *pod, const struct kube_volume *volume, char ret[PATH_MAX]) {
    const struct kube_object *found = find_volume(pod, volume);
    if (!found)
        return false;
    const struct kube_persistent_volume_spec *spec = &found->persistent_volume->spec;
    if (!persistent_is_ours(pod->node, found, ret))
        snprintf(ret, PATH_MAX, "%s", spec->local ? spec->local->path : spec->host_path ? spec->host_path->path : "");
    return *ret != 0;
}

static int make_folder(const struct node *node, const char *name) {
    int r = sys_mkdirs(node->volumes_dir, 0700);
    CLEANUP(fd_closep) int folder = r < 0 ? r : open(node->volumes_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return r < 0 ? r : -errno;
    if (mkdirat(folder, name, 0700) < 0)
        return errno == EEXIST ? 0 : -errno;
    return fchmodat(folder, name, 0777, 0) < 0 || fsync(folder) < 0 ? -errno : 0;
}

int persistent_prepare(const struct pod *pod, const struct kube_volume *volume, struct diag *diag) {
    char path[PATH_MAX];
    struct stat st;
    const struct kube_object *found = find_volume(pod, volume);
    const char *claim = persistent_claim_name(pod, volume);
    if (!found || !claim)
        return diag_set(diag, -ENOENT, "MountVolume.SetUp failed for volume \"%s\" : persistentvolumeclaim \"%s\" has no volume", volume->name,
                        claim ? claim : "");
    const struct kube_persistent_volume_spec *spec = &found->persistent_volume->spec;
    if (!spec->claim_ref || !spec->claim_ref->name || strcmp(spec->claim_ref->name, claim) != 0 || !spec->claim_ref->namespace ||
        strcmp(spec->claim_ref->namespace, pod->namespace) != 0)
        return diag_set(diag, -EBUSY, "MountVolume.SetUp failed for volume \"%s\" : volume \"%s\" belongs to another claim", volume->name,
                        found->metadata->name);
    if (spec->volume_mode && strcmp(spec->volume_mode, "Block") == 0)
        return diag_set(diag, -ENOTSUP, "MountVolume.SetUp failed for volume \"%s\" : block volumes are not supported", volume->name);
    if (persistent_is_ours(pod->node, found, path)) {
        int r = make_folder(pod->node, found->metadata->name);
        return r < 0 ? diag_set(diag, r, "MountVolume.SetUp failed for volume \"%s\" : %s: %s", volume->name, path, strerror(-r)) : 0;
    }
    if (spec->host_path)
        return volumes_check_host_path(volume->name, spec->host_path, diag);
    if (!spec->local)
        return diag_set(diag, -ENOTSUP, "MountVolume.SetUp failed for volume \"%s\" : this kind of persistent volume is not supported", volume->name);
    if (stat(spec->local->path, &st) < 0)
        return diag_set(diag, -ENOENT, "MountVolume.NewMounter initialization failed for volume \"%s\" : path \"%s\" does not exist",
                        found->metadata->name, spec->local->path);
    return 0;
}

/* ---- fsGroup ---- */

static void giving_free(struct giving *giving) {
    free(giving->paths);
    free(giving);
}

static void give_done(void *userdata);

static void give_work(void *userdata) {
    struct giving *giving = userdata;
    for (size_t i = 0; giving->result == 0 && i < giving->count; i++)
        giving->result = ownership_give(giving->paths[i], &giving->how);
}

/* A small tree is not made to wait for the large ones of others: each is tried within a few milliseconds first. */
static bool goes_on_as_bulk(struct giving *giving) {
    if (giving->result != -EAGAIN)
        return false;
    giving->how.entries_max = SIZE_MAX;
    giving->result = 0;
    int r = loop_work(giving->node->loop, LOOP_BULK, give_work, give_done, giving);
    giving->result = r;
    return r == 0;
}

static void give_done(void *userdata) {
    struct giving *giving = userdata;
    if (goes_on_as_bulk(giving))
        return;
    struct pod *pod = giving->node->pods ? map_find(giving->node->pods, slice_of(giving->uid)) : NULL;
    if (pod) {
        pod->giving = false;
        pod->given = giving->result == 0;
        if (giving->result < 0 && giving->result != -ECANCELED) { /* the next node goes on with it */
            event_pod(pod, NULL, "Warning", "FailedMount", "MountVolume.SetUp failed: applying fsGroup %u: %s", (unsigned)giving->how.group,
                      strerror(-giving->result));
            pod_retry(pod);
        }
        pod_sync_later(pod);
    }
    giving_free(giving);
}

/* Those that kubelet gives too: hostPath and read-only ones stay as they are. */
static int collect_paths(const struct pod *pod, struct giving *giving) {
    const struct kube_volume_array *volumes = &pod->spec_object->pod->spec.volumes;
    char path[PATH_MAX];
    giving->paths = calloc(volumes->count, sizeof *giving->paths);
    if (!giving->paths)
        return -ENOMEM;
    for (size_t i = 0; i < volumes->count; i++) {
        const struct kube_volume *volume = &volumes->items[i];
        const struct kube_object *found = find_volume(pod, volume);
        if (found && found->persistent_volume->spec.local && !(volume->persistent_volume_claim && volume->persistent_volume_claim->read_only) &&
            persistent_path(pod, volume, path) && realpath(path, giving->paths[giving->count])) /* a person's path may be a link, as for the mount */
            giving->count++;
    }
    return 0;
}

bool persistent_ready(struct pod *pod) {
    const struct kube_pod_spec *spec = &pod->spec_object->pod->spec;
    const struct kube_pod_security_context *security = spec->security_context;
    if (pod->given || !security || !security->fs_group || spec->volumes.count == 0)
        return true;
    if (pod->giving)
        return false;
    struct giving *giving = calloc(1, sizeof *giving);
    int r = giving ? collect_paths(pod, giving) : -ENOMEM;
    if (r == 0 && giving->count == 0) {
        giving_free(giving);
        return pod->given = true;
    }
    if (r == 0) {
        giving->node = pod->node;
        giving->how = (struct ownership){.group = (gid_t)*security->fs_group,
                                         .only_on_mismatch =
                                             security->fs_group_change_policy && strcmp(security->fs_group_change_policy, "OnRootMismatch") == 0,
                                         .entries_max = QUICK_ENTRIES_MAX,
                                         .stop = &pod->node->is_ending};
        snprintf(giving->uid, sizeof giving->uid, "%s", pod->uid);
        r = loop_work(pod->node->loop, LOOP_QUICK, give_work, give_done, giving);
    }
    pod->giving = r == 0;
    if (r < 0) {
        if (giving)
            giving_free(giving);
        pod_retry(pod);
    }
    return false;
}

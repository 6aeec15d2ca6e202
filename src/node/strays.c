/* What belongs to nobody: what an earlier node had begun and never wrote down, or had written down and never finished removing.
 *
 * Looked for once, at start, after the pods on disk were taken over, so that each thing that a pod still holds is known by name: bundles and crun's
 * states by their container's id, conmons by the id in their command line, namespaces, mounts and control groups by the pod's uid. A pod whose record
 * could not be read is nobody's either: its processes end here, and the API's word brings it back (pod.c waits until its group is empty).
 * Folders of pods and their logs wait for the API's first list: it may still know the pod. A deletion that did not work is tried again. */
#include <dirent.h>
#include <sys/stat.h>

#include "node/node_priv.h"
#include "sys/sys.h"

static bool is_known_container(const struct node *node, const char *id) {
    struct slice key;
    void *value;
    for (size_t at = 0; map_next(node->pods, &at, &key, &value);) {
        const struct pod *pod = value;
        for (size_t i = 0; i < pod->units_count; i++)
            if (pod->units[i]->container && strcmp(pod->units[i]->id, id) == 0)
                return true;
    }
    return false;
}

void strays_retry(struct node *node) {
    if (!loop_timer_is_set(&node->strays_retry))
        loop_timer_set(&node->strays_retry, STRAYS_RETRY_MS);
}

static void on_stray_deleted(void *userdata, int error, const char *message) {
    struct node *node = userdata;
    node->stray_deletions--;
    if (!error)
        return;
    log_warning("cannot remove a stray container: %s", message);
    strays_retry(node);
}

static void on_container(void *userdata, const char *id) {
    struct node *node = userdata;
    if (is_known_container(node, id))
        return;
    if (container_delete_id(node->containers, id, on_stray_deleted, node) < 0)
        return strays_retry(node);
    node->stray_deletions++;
    log_info("removing container %s, which no pod knows", id);
}

static void on_network_pod(void *userdata, const char *uid) {
    struct node *node = userdata;
    if (!map_find(node->pods, slice_of(uid)))
        podnet_remove(node->podnet, uid);
}

static void on_group(struct node *node, const char *path, const char *uid) {
    if (map_find(node->pods, slice_of(uid)))
        return;
    cgroup_kill(&node->cgroups, path);
    if (cgroup_remove(&node->cgroups, path) < 0) /* busy until its processes are gone */
        strays_retry(node);
}

static void on_mount(void *userdata, const char *target) {
    struct node *node = userdata;
    const char *at = strstr(target, "/node/volumes/"); /* target is a real path, ours may hold links */
    if (!at)
        return;
    at += strlen("/node/volumes/");
    if (!map_find(node->pods, slice_make(at, strcspn(at, "/"))))
        mounts_remove(target);
}

/* Calls fn with the name of each entry of a folder; one that is not there is empty. */
static void each_entry(const char *folder, const char *name, void (*fn)(struct node *node, const char *folder, const struct dirent *entry),
                       struct node *node) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fn(node, path, entry);
    if (dir)
        closedir(dir);
}

static void remove_entry(struct node *node, const char *folder, const char *name) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path)
        trash_put(node, path);
}

/* What a command inside a container needed, and files that were being written. */
static void on_file(struct node *node, const char *folder, const struct dirent *entry) {
    if (entry->d_type == DT_REG && (strncmp(entry->d_name, "e-", 2) == 0 || strstr(entry->d_name, ".tmp-")))
        remove_entry(node, folder, entry->d_name);
}

static void on_uid_folder(struct node *node, const char *folder, const struct dirent *entry) {
    if (!map_find(node->pods, slice_of(entry->d_name)))
        remove_entry(node, folder, entry->d_name);
}

/* An unpacking that was cut short, layers that were about to go. */
static void on_layer(struct node *node, const char *folder, const struct dirent *entry) {
    if (image_is_left_over(entry->d_name))
        remove_entry(node, folder, entry->d_name);
}

void strays_remove_layers(struct node *node) {
    each_entry(node->layers_dir, "", on_layer, node);
}

/* "<namespace>_<name>_<uid>" */
static void on_log_folder(struct node *node, const char *folder, const struct dirent *entry) {
    const char *last = strrchr(entry->d_name, '_');
    if (!last || !map_find(node->pods, slice_of(last + 1)))
        remove_entry(node, folder, entry->d_name);
}

void strays_remove_folders(struct node *node) {
    each_entry(node->state_dir, "logs", on_log_folder, node);
    each_entry(node->state_dir, "pods", on_uid_folder, node);
}

static bool has_deletions(const struct node *node) {
    struct slice key;
    void *value;
    bool found = node->stray_deletions > 0;
    for (size_t at = 0; !found && map_next(node->pods, &at, &key, &value);)
        found = ((struct pod *)value)->deletions > 0;
    return found;
}

/* Those that are being deleted now are nobody's as well: they are left to who does it. */
void strays_again(struct node *node) {
    if (has_deletions(node))
        return strays_retry(node);
    containers_list(node->containers, on_container, node);
    qos_each_group(node, on_group);
}

void strays_remove(struct node *node) {
    containers_list(node->containers, on_container, node);
    podnet_list(node->podnet, on_network_pod, node);
    qos_each_group(node, on_group);
    mounts_beneath(node->run_dir, on_mount, node);
    each_entry(node->run_dir, "volumes", on_uid_folder, node);
    each_entry(node->run_dir, "", on_file, node);
    each_entry(node->state_dir, "podnet", on_file, node);
    each_entry(node->state_dir, "", on_file, node);
}

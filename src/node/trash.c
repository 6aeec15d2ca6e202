/* Removing what may be large: what pods and containers wrote, the logs of pods that are gone, layers that were being unpacked. A tree of a million
 * files takes minutes, and nobody shall wait for that: neither the loop, nor a pod's next run, nor who asks whether the pod is gone.
 *
 *   put: renamed into <state>/node/trash (one rename) ──► a worker thread removes one after the other ──► eviction looks whether that is enough
 *
 * Invariants
 *  1. After trash_put nothing is at the path, whatever becomes of this process: the folder survives, and the next node goes on with it.
 *  2. At most one thread is busy with it, and nothing is kept in memory about what waits: the folder itself is the queue.
 *  3. What cannot be removed (something is mounted in it) gets a dot before its name and is left until the next start, so that it holds up nobody.
 *  4. What is on another file system, or cannot be renamed for another reason, is removed at once. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "node/node_priv.h"
#include "sys/sys.h"

#define NAME_LEN 16

struct trash {
    struct node *node; /* NULL: it ends */
    const atomic_bool *stop;
    bool is_working, has_more;
    /* the worker's, while it works */
    int folder;
    char stuck[NAME_LEN + 2];
    int error; /* of the one that is stuck */
    bool found;
};

static void trash_free(struct trash *trash) {
    fd_closep(&trash->folder);
    free(trash);
}

/* The name of one that waits; false: there is none. */
static bool find(int folder, char ret[NAME_LEN + 2]) {
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    bool found = false;
    if (!dir && fd >= 0)
        close(fd);
    while (dir && !found && (entry = readdir(dir)))
        if (entry->d_name[0] != '.' && strlen(entry->d_name) <= NAME_LEN) {
            snprintf(ret, NAME_LEN + 2, "%s", entry->d_name);
            found = true;
        }
    if (dir)
        closedir(dir);
    return found;
}

static void work(void *userdata) {
    struct trash *trash = userdata;
    char name[NAME_LEN + 2];
    trash->error = 0;
    trash->found = find(trash->folder, name);
    int r = trash->found ? sys_remove_tree_until(trash->folder, name, trash->stop) : 0;
    if (r == 0 || r == -ECANCELED)
        return;
    trash->error = r;
    snprintf(trash->stuck, sizeof trash->stuck, ".%.*s", NAME_LEN, name);
    if (renameat(trash->folder, name, trash->folder, trash->stuck) < 0)
        trash->found = false; /* not even that: no more until the next one comes */
}

static void begin(struct trash *trash);

static void done(void *userdata) {
    struct trash *trash = userdata;
    bool goes_on = trash->found || trash->has_more;
    trash->is_working = false;
    if (!trash->node)
        return trash_free(trash);
    if (trash->error)
        log_warning("cannot remove %s/trash/%s: %s", trash->node->state_dir, trash->stuck, strerror(-trash->error));
    if (trash->found)
        eviction_pod_ended(trash->node);
    if (goes_on)
        begin(trash);
}

/* Without a thread for it, it stays until the next one comes. */
static void begin(struct trash *trash) {
    trash->has_more = trash->is_working;
    if (!trash->is_working)
        trash->is_working = loop_work(trash->node->loop, LOOP_SWEEP, work, done, trash) == 0;
}

static int put(struct node *node, const char *path) {
    char to[NAME_LEN + 1];
    if (!node->trash)
        return -ENOENT;
    sys_random_name(to, NAME_LEN);
    int r = sys_point("rename");
    if (r < 0 || renameat(AT_FDCWD, path, node->trash->folder, to) < 0)
        return r < 0 ? r : -errno;
    begin(node->trash);
    return 0;
}

int trash_put(struct node *node, const char *path) {
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISDIR(st.st_mode)) /* quickly done */
        return sys_remove_tree(AT_FDCWD, path);
    return put(node, path) == 0 ? 0 : sys_remove_tree(AT_FDCWD, path);
}

bool trash_is_busy(const struct node *node) {
    return node->trash && node->trash->is_working;
}

void trash_pod_files(struct pod *pod) {
    static const char *const folders[] = {"volumes", "containers"};
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", pod->dir, folders[i]);
        trash_put(pod->node, path);
    }
}

/* --- life --- */

/* What was stuck is tried again: mounts do not outlive a start of the machine. */
static void free_stuck(int folder) {
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir && fd >= 0)
        close(fd);
    for (const struct dirent *entry; dir && (entry = readdir(dir));)
        if (entry->d_name[0] == '.' && entry->d_name[1] && entry->d_name[1] != '.')
            renameat(folder, entry->d_name, folder, entry->d_name + 1);
    if (dir)
        closedir(dir);
}

int trash_start(struct node *node) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/trash", node->state_dir);
    int r = sys_mkdirs(path, 0700);
    struct trash *trash = r == 0 ? calloc(1, sizeof *trash) : NULL;
    if (!trash)
        return r < 0 ? r : -ENOMEM;
    *trash = (struct trash){.node = node, .stop = &node->is_ending};
    trash->folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (trash->folder < 0) {
        r = -errno;
        free(trash);
        return r;
    }
    node->trash = trash;
    free_stuck(trash->folder);
    begin(trash);
    return 0;
}

void trash_stop(struct node *node) {
    struct trash *trash = node->trash;
    node->trash = NULL;
    if (trash && trash->is_working)
        trash->node = NULL; /* its end frees it */
    else if (trash)
        trash_free(trash);
}

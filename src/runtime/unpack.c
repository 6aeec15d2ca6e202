/* The layers of an image, unpacked: several at a time, each by two threads (inflate.c).
 *
 * 1. <layers>/<chain id> exists only complete: unpacked aside, synced to disk, renamed. Two unpackers of one layer both work, the second rename loses
 *    and is thrown away.
 * 2. A layer seldom depends on those below it: only for parents that its tar leaves out. Then its thread waits until they are there. Layers are begun
 *    from the lowest on, so what is waited for is always being worked on.
 * 3. One sync of the file system at the end of each layer, none for each file.
 * 4. A blob that is still on its way (arrival.c) is read as it grows. Its digests decide at the end, as always.
 * 5. A layer that is there already counts for those images only whose own blob has that content (layer_proof.c).
 * 6. The first failure ends what has not begun, and what waits. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/image.h"
#include "runtime/layer.h"
#include "runtime/layer_proof.h"
#include "runtime/layer_seal.h"
#include "runtime/unpack_priv.h"
#include "sys/sys.h"

#define LAYERS_AT_ONCE 4
#define TRIES_MAX 3 /* of a blob that was thrown away while it came */

struct unpacking {
    const struct image *image;
    const char *store, *layers;
    const struct arriving *arriving; /* NULL: all blobs are here */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done[IMAGE_LAYERS_MAX];
    size_t next;
    int error; /* the first, with its diag */
    struct diag *diag;
};

/* One layer on its way. */
struct task {
    struct unpacking *unpacking;
    size_t index;
    int lowers[IMAGE_LAYERS_MAX]; /* open folders of the layers below, the nearest first; filled when they are asked for */
    size_t lowers_count;
    struct diag diag;
};

static char *layer_path(const char *layers, const struct image_layer *layer) {
    char *path = NULL;
    return asprintf(&path, "%s/%s", layers, layer->chain_id + 7) < 0 ? NULL : path;
}

static bool layer_exists(const char *layers, const struct image_layer *layer) {
    CLEANUP(freep) char *path = layer_path(layers, layer);
    struct stat st;
    return path && stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* And may be used by who names it so. */
static bool layer_is_ready(const char *layers, const struct image_layer *layer) {
    CLEANUP(freep) char *path = layer_path(layers, layer);
    return path && layer_exists(layers, layer) && layer_is_proven(path, layer->digest);
}

/* --- one layer --- */

static int wait_for_lowers(struct unpacking *unpacking, size_t index) {
    pthread_mutex_lock(&unpacking->lock);
    for (size_t i = 0; i < index && !unpacking->error;)
        if (unpacking->done[i])
            i++;
        else
            pthread_cond_wait(&unpacking->changed, &unpacking->lock);
    int r = unpacking->error ? -ECANCELED : 0;
    pthread_mutex_unlock(&unpacking->lock);
    return r;
}

static int open_lowers(void *userdata, const int **ret_fds, size_t *ret_count) {
    struct task *task = userdata;
    const struct unpacking *unpacking = task->unpacking;
    int r = task->lowers_count == task->index ? 0 : wait_for_lowers(task->unpacking, task->index);
    for (size_t i = task->index - task->lowers_count; r == 0 && i-- > 0;) {
        const struct image_layer *layer = &unpacking->image->layers[i];
        CLEANUP(freep) char *path = layer_path(unpacking->layers, layer);
        int fd = path ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
        if (fd < 0)
            return diag_set(&task->diag, -EIO, "layer %s vanished from %s", layer->chain_id, unpacking->layers);
        task->lowers[task->lowers_count++] = fd;
    }
    *ret_fds = task->lowers;
    *ret_count = task->lowers_count;
    return r;
}

/* Applies the blob to the folder, or finds out whether it is what the folder was made of. */
static int take_blob(struct task *task, int root, bool applies) {
    const struct unpacking *unpacking = task->unpacking;
    const struct image_layer *layer = &unpacking->image->layers[task->index];
    struct follow follow;
    CLEANUP(fd_closep) int fd = follow_open(&follow, unpacking->store, layer->digest, unpacking->arriving);
    if (fd < 0)
        return diag_set(&task->diag, fd, "layer %s is not in the content store", layer->digest);
    const struct layer_options options = {.root_fd = root,
                                          .lowers = open_lowers,
                                          .userdata = task,
                                          .more = follow.is_whole ? NULL : follow_more,
                                          .more_userdata = &follow,
                                          .keep_owner = geteuid() == 0};
    int r = (applies ? layer_apply_blob : layer_check_blob)(fd, layer->digest, layer->diff_id, &options, &task->diag);
    if (r == 0 && (r = layer_prove(root, layer->digest)) < 0)
        r = r == -ENOTSUP ? 0 : diag_set(&task->diag, r, "cannot note what %s is: %s", layer->chain_id, strerror(-r));
    return r;
}

static int fill(struct task *task, const char *folder) {
    const struct unpacking *unpacking = task->unpacking;
    CLEANUP(fd_closep) int root = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return -errno;
    int r = take_blob(task, root, true);
    if (r == 0)
        (void)layer_seal(root); /* without one it is only not checked */
    if (r == 0 && syncfs(root) < 0)
        r = diag_set(&task->diag, -errno, "cannot sync %s: %s", unpacking->layers, strerror(errno));
    return r;
}

static int prove(struct task *task, const char *path) {
    CLEANUP(fd_closep) int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return root < 0 ? -errno : take_blob(task, root, false);
}

/* Somebody else may have been as quick; what is no folder was damaged. */
static int put_in_place(const char *folder, const char *path) {
    if (rename(folder, path) == 0 || errno == EEXIST || errno == ENOTEMPTY)
        return 0;
    if (errno != ENOTDIR || unlink(path) < 0 || rename(folder, path) < 0)
        return -errno;
    return 0;
}

static int unpack_once(struct task *task) {
    const struct unpacking *unpacking = task->unpacking;
    CLEANUP(freep) char *path = layer_path(unpacking->layers, &unpacking->image->layers[task->index]);
    CLEANUP(freep) char *folder = NULL;
    char name[17];
    if (!path)
        return -ENOMEM;
    if (layer_exists(unpacking->layers, &unpacking->image->layers[task->index]))
        return layer_is_ready(unpacking->layers, &unpacking->image->layers[task->index]) ? 0 : prove(task, path);
    sys_random_name(name, 16);
    if (asprintf(&folder, "%s/tmp-%s", unpacking->layers, name) < 0)
        return -ENOMEM;
    if (mkdir(folder, 0755) < 0)
        return diag_set(&task->diag, -errno, "cannot create %s: %s", folder, strerror(errno));
    int r = fill(task, folder);
    int moved = r == 0 ? put_in_place(folder, path) : 0;
    if (moved < 0)
        r = diag_set(&task->diag, moved, "cannot rename %s: %s", folder, strerror(-moved));
    if (access(folder, F_OK) == 0)
        sys_remove_tree(AT_FDCWD, folder);
    return r;
}

static int unpack_layer(struct task *task) {
    int r = -EAGAIN;
    for (int i = 0; r == -EAGAIN && i < TRIES_MAX; i++) {
        task->diag = DIAG_INIT;
        r = unpack_once(task);
    }
    return r;
}

/* --- several at a time --- */

static bool take(struct unpacking *unpacking, size_t *ret_index) {
    pthread_mutex_lock(&unpacking->lock);
    bool is_stopping = unpacking->arriving && atomic_load(unpacking->arriving->stopping);
    bool more = !unpacking->error && !is_stopping && unpacking->next < unpacking->image->layers_count;
    if (more)
        *ret_index = unpacking->next++;
    pthread_mutex_unlock(&unpacking->lock);
    return more;
}

static void finish(struct task *task, int error) {
    struct unpacking *unpacking = task->unpacking;
    for (size_t i = 0; i < task->lowers_count; i++)
        close(task->lowers[i]);
    pthread_mutex_lock(&unpacking->lock);
    unpacking->done[task->index] = error == 0;
    if (error < 0 && !unpacking->error) {
        unpacking->error = error;
        if (unpacking->diag)
            *unpacking->diag = task->diag;
    }
    pthread_cond_broadcast(&unpacking->changed);
    pthread_mutex_unlock(&unpacking->lock);
}

static void *unpacker_main(void *userdata) {
    struct task task = {.unpacking = userdata};
    while (take(task.unpacking, &task.index)) {
        task.lowers_count = 0;
        finish(&task, unpack_layer(&task));
    }
    return NULL;
}

bool image_is_unpacked(const struct image *image, const char *layers) {
    for (size_t i = 0; i < image->layers_count; i++)
        if (!layer_is_ready(layers, &image->layers[i]))
            return false;
    return true;
}

int image_unpack(const struct image *image, const char *store, const char *layers, struct diag *diag) {
    return unpack_layers(image, store, layers, NULL, diag);
}

int unpack_layers(const struct image *image, const char *store, const char *layers, const struct arriving *arriving, struct diag *diag) {
    struct unpacking unpacking = {.image = image, .store = store, .layers = layers, .arriving = arriving, .diag = diag};
    pthread_t threads[LAYERS_AT_ONCE - 1];
    size_t started = 0, missing = 0;
    for (size_t i = 0; i < image->layers_count; i++)
        missing += !layer_is_ready(layers, &image->layers[i]);
    int r = missing ? sys_mkdirs(layers, 0700) : 0;
    if (r < 0 || !missing)
        return r < 0 ? diag_set(diag, r, "cannot create %s: %s", layers, strerror(-r)) : 0;
    pthread_mutex_init(&unpacking.lock, NULL);
    pthread_cond_init(&unpacking.changed, NULL);
    size_t at_once = arriving ? arriving->layers_at_once : LAYERS_AT_ONCE;
    while (started + 1 < MIN(missing, at_once) && pthread_create(&threads[started], NULL, unpacker_main, &unpacking) == 0)
        started++;
    unpacker_main(&unpacking);
    while (started > 0)
        pthread_join(threads[--started], NULL);
    pthread_cond_destroy(&unpacking.changed);
    pthread_mutex_destroy(&unpacking.lock);
    return unpacking.error;
}

/* --- what is not as it was unpacked --- */

#define BOOT_LEN 8 /* characters of the boot's id in such a name */

/* Out of the way by a new name: containers that run from it keep what there is of it, as long as the machine runs. */
static bool set_aside(const char *layers, const char *path, const struct image_layer *layer) {
    char boot[37], random[9], to[PATH_MAX];
    sys_boot_id(boot);
    sys_random_name(random, 8);
    snprintf(to, sizeof to, "%s/" IMAGE_DAMAGED_LEAD "%-*.*s%s-%s", layers, BOOT_LEN, BOOT_LEN, boot, random, layer->chain_id + 7);
    return rename(path, to) == 0;
}

size_t image_check(const struct image *image, const char *layers) {
    size_t damaged = 0;
    for (size_t i = 0; i < image->layers_count; i++) {
        CLEANUP(freep) char *path = layer_path(layers, &image->layers[i]);
        CLEANUP(fd_closep) int fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        int r = fd < 0 ? 0 : layer_check(fd);
        bool is_unknown = r == -ENOMEM || r == -EMFILE || r == -ENFILE; /* it is this process that lacks something */
        if (r < 0 && !is_unknown)
            damaged += set_aside(layers, path, &image->layers[i]);
    }
    return damaged;
}

bool image_is_left_over(const char *name) {
    char boot[37];
    size_t lead = strlen(IMAGE_DAMAGED_LEAD);
    if (strncmp(name, "tmp-", 4) == 0)
        return true;
    sys_boot_id(boot);
    /* No container that ran from it has survived another boot. */
    return strncmp(name, IMAGE_DAMAGED_LEAD, lead) == 0 && *boot && strncmp(name + lead, boot, BOOT_LEN) != 0;
}

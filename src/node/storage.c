/* What pods take of the disk: writable layers, logs, empty folders. Trees are walked on a worker thread; what is asked for is written down before, so
 * that pods may come and go meanwhile. */
#include "node/node_priv.h"
#include "sys/sys.h"

#define STORAGE_ARENA_BYTES_MAX (16 * MIB)

struct storage {
    struct arena *arena;
    VECTOR(struct storage_item) items;
    storage_done_fn *on_done; /* NULL: nobody waits any more */
    void *userdata;
    const atomic_bool *stop;
};

static int add(struct storage *storage, const struct pod *pod, enum storage_kind kind, const char *name, const char *path) {
    struct storage_item item = {
        .uid = arena_strdup(storage->arena, pod->uid), .name = arena_strdup(storage->arena, name), .kind = kind, .path = path};
    return item.uid && item.name && path ? VECTOR_PUSH(&storage->items, item) : -ENOMEM;
}

static int add_unit(struct storage *storage, const struct pod *pod, const struct unit *unit) {
    char log[PATH_MAX];
    unit_log_path(unit, 0, log);
    *strrchr(log, '/') = 0;
    int r = add(storage, pod, STORAGE_ROOTFS, unit->spec->name, arena_printf(storage->arena, "%s/containers/%s", pod->dir, unit->spec->name));
    return r < 0 ? r : add(storage, pod, STORAGE_LOGS, unit->spec->name, arena_strdup(storage->arena, log));
}

bool storage_is_empty_dir_on_disk(const struct kube_volume *volume) {
    return volume->empty_dir && !(volume->empty_dir->medium && strncmp(volume->empty_dir->medium, "Memory", 6) == 0);
}

static int add_claim(struct storage *storage, const struct pod *pod, const struct kube_volume *volume) {
    char path[PATH_MAX];
    if ((!volume->persistent_volume_claim && !volume->ephemeral) || !persistent_path(pod, volume, path))
        return 0;
    return add(storage, pod, STORAGE_CLAIM, volume->name, arena_strdup(storage->arena, path));
}

static int add_pod(struct storage *storage, const struct pod *pod, bool with_claims) {
    const struct kube_volume_array *volumes = &pod->spec_object->pod->spec.volumes;
    int r = 0;
    for (size_t i = 0; r == 0 && i < pod->units_count; i++)
        r = add_unit(storage, pod, pod->units[i]);
    for (size_t i = 0; r == 0 && i < volumes->count; i++)
        if (storage_is_empty_dir_on_disk(&volumes->items[i]))
            r = add(storage, pod, STORAGE_EMPTY_DIR, volumes->items[i].name,
                    arena_printf(storage->arena, "%s/volumes/%s", pod->dir, volumes->items[i].name));
        else if (with_claims)
            r = add_claim(storage, pod, &volumes->items[i]);
    return r;
}

static void storage_free(struct storage *storage) {
    VECTOR_DEINIT(&storage->items);
    arena_free(storage->arena);
    free(storage);
}

static void measure_work(void *userdata) {
    struct storage *storage = userdata;
    for (size_t i = 0; i < storage->items.count; i++)
        sys_tree_usage_until(storage->items.items[i].path, storage->stop, &storage->items.items[i].usage);
}

static void measure_done(void *userdata) {
    struct storage *storage = userdata;
    if (storage->on_done)
        storage->on_done(storage->userdata, storage->items.items, storage->items.count);
    storage_free(storage);
}

int storage_measure(struct node *node, bool (*wanted)(const struct pod *pod), bool with_claims, storage_done_fn *on_done, void *userdata,
                    struct storage **ret) {
    struct storage *storage = calloc(1, sizeof *storage);
    void *value;
    if (!storage)
        return -ENOMEM;
    storage->arena = arena_new(STORAGE_ARENA_BYTES_MAX);
    storage->on_done = on_done;
    storage->userdata = userdata;
    storage->stop = &node->is_ending;
    int r = storage->arena ? 0 : -ENOMEM;
    for (size_t at = 0; r == 0 && map_next(node->pods, &at, NULL, &value);)
        if (wanted(value))
            r = add_pod(storage, value, with_claims);
    if (r == 0)
        r = loop_work(node->loop, LOOP_MEASURE, measure_work, measure_done, storage);
    if (r < 0) {
        storage_free(storage);
        return r;
    }
    *ret = storage;
    return 0;
}

void storage_forget(struct storage *storage) {
    if (storage)
        storage->on_done = NULL;
}

void storage_sum(const struct storage_item *items, size_t count, const char *uid, const char *container, struct sys_usage *ret) {
    *ret = (struct sys_usage){0, 0};
    for (size_t i = 0; i < count; i++) {
        const struct storage_item *item = &items[i];
        if (item->kind == STORAGE_CLAIM || strcmp(item->uid, uid) != 0 ||
            (container && (item->kind == STORAGE_EMPTY_DIR || strcmp(item->name, container) != 0)))
            continue;
        ret->bytes += item->usage.bytes;
        ret->entries += item->usage.entries;
    }
}

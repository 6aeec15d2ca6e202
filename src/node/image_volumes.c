/* Images as volumes: pulled like a container's, and shown read-only as an overlay of their unpacked layers.
 *
 * A folder of the pod remembers which image is mounted, so that the next node process knows which layers are in use: they are never removed beneath
 * a mount. */
#include "node/node_priv.h"
#include "sys/sys.h"

static const struct kube_volume *volume_of(const struct image_volume *each) {
    return &each->pod->spec_object->pod->spec.volumes.items[each->volume];
}

static const char *reference_of(const struct image_volume *each) {
    const char *reference = volume_of(each)->image->reference;
    return reference ? reference : "";
}

static void record_path(const struct image_volume *each, char ret[PATH_MAX]) {
    snprintf(ret, PATH_MAX, "%s/images/%s", each->pod->dir, volume_of(each)->name);
}

int image_volumes_collect(struct pod *pod) {
    const struct kube_volume_array *volumes = &pod->spec_object->pod->spec.volumes;
    size_t count = 0;
    for (size_t i = 0; i < volumes->count; i++)
        count += volumes->items[i].image != NULL;
    if (!count)
        return 0;
    pod->image_volumes = calloc(count, sizeof *pod->image_volumes);
    if (!pod->image_volumes)
        return -ENOMEM;
    for (size_t i = 0; i < volumes->count; i++)
        if (volumes->items[i].image)
            pod->image_volumes[pod->image_volumes_count++] = (struct image_volume){.pod = pod, .volume = i};
    return 0;
}

void image_volumes_free(struct pod *pod) {
    for (size_t i = 0; i < pod->image_volumes_count; i++) {
        pulling_cancel(pod->image_volumes[i].pull);
        image_unref(pod->image_volumes[i].image);
    }
    free(pod->image_volumes);
}

static bool mounts_it(const struct unit *unit, const char *name) {
    for (size_t i = 0; i < unit->spec->volume_mounts.count; i++)
        if (strcmp(unit->spec->volume_mounts.items[i].name, name) == 0)
            return true;
    return false;
}

/* Those that wait for it show why. */
static void tell(const struct image_volume *each, const char *reason, const char *message) {
    struct pod *pod = each->pod;
    for (size_t i = 0; i < pod->units_count; i++)
        if (pod->units[i]->stage == UNIT_WAITING && mounts_it(pod->units[i], volume_of(each)->name))
            unit_wait_with(pod->units[i], reason, "%s", message);
}

static void failed(struct image_volume *each, const char *reason, const char *message) {
    char text[1024];
    snprintf(text, sizeof text, "failed to pull image \"%.200s\": %.700s", reference_of(each), message);
    event_pod(each->pod, NULL, "Warning", "Failed", "Failed to pull image \"%s\": %s", reference_of(each), message);
    event_pod(each->pod, NULL, "Warning", "Failed", "Error: %s", reason);
    tell(each, reason, strcmp(reason, "ErrImageNeverPull") == 0 ? message : text);
    pod_retry(each->pod);
    pod_sync_later(each->pod);
}

static void on_pulled(void *userdata, const struct pulling_result *result) {
    struct image_volume *each = userdata;
    each->pull = NULL;
    if (!result->image)
        return failed(each, result->reason, result->message);
    each->image = image_ref(result->image);
    snprintf(each->image_id, sizeof each->image_id, "%s", result->image_id);
    tell(each, "ContainerCreating", "");
    pod_sync_later(each->pod);
}

static void pull(struct image_volume *each) {
    struct diag diag = DIAG_INIT;
    const struct pulling_options options = {
        .pod = each->pod, .image = reference_of(each), .policy = volume_of(each)->image->pull_policy, .on_done = on_pulled, .userdata = each};
    int r = pulling_start(&options, &each->pull, &diag);
    if (r < 0)
        failed(each, r == -EINVAL ? "InvalidImageName" : "ErrImagePull", diag.message[0] ? diag.message : strerror(-r));
}

bool image_volumes_ready(struct pod *pod) {
    bool ready = true;
    for (size_t i = 0; i < pod->image_volumes_count; i++) {
        struct image_volume *each = &pod->image_volumes[i];
        if (!each->image && !each->pull && !loop_timer_is_set(&pod->retry))
            pull(each);
        ready = ready && each->image;
    }
    return ready;
}

/* --- mounting --- */

static int mount_layers(const struct pod *pod, const struct image *image, const char *path) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(2 * MIB);
    const char **layers = arena ? ARENA_ARRAY(arena, const char *, image->layers_count + 2) : NULL;
    char empty[PATH_MAX];
    volumes_memory_path(pod, ".empty", empty);
    int r = layers ? sys_mkdirs(empty, 0755) : -ENOMEM;
    for (size_t i = 0; r == 0 && i < image->layers_count; i++) {
        layers[i] = arena_printf(arena, "%s/%s", pod->node->layers_dir, image->layers[image->layers_count - 1 - i].chain_id + 7);
        r = layers[i] ? 0 : -ENOMEM;
    }
    if (r < 0)
        return r;
    layers[image->layers_count] = layers[image->layers_count + 1] =
        arena_strdup(arena, empty); /* two at least; the second is there for an image of none */
    if (!layers[image->layers_count])
        return -ENOMEM;
    userns_path(pod, USERNS_USER, empty);
    CLEANUP(fd_closep) int user = pod->id_base ? open(empty, O_RDONLY | O_CLOEXEC) : -1;
    return pod->id_base && user < 0 ? -errno : mounts_layers(layers, MAX(image->layers_count + 1, 2), path, user);
}

int image_volumes_mount(struct pod *pod, const struct kube_volume *volume, struct diag *diag) {
    struct image_volume *found = NULL;
    char path[PATH_MAX], record[PATH_MAX];
    for (size_t i = 0; i < pod->image_volumes_count; i++)
        if (volume_of(&pod->image_volumes[i]) == volume)
            found = &pod->image_volumes[i];
    volumes_memory_path(pod, volume->name, path);
    if (mounts_is_mounted(path))
        return 0;
    int r = found && found->image ? sys_mkdirs(path, 0755) : -EAGAIN;
    snprintf(record, sizeof record, "%s/images", pod->dir);
    if (r == 0)
        r = sys_mkdirs(record, 0700);
    if (r == 0) {
        record_path(found, record);
        r = sys_write_file_fast(AT_FDCWD, record, slice_of(found->image_id), 0600);
    }
    if (r == 0)
        r = mount_layers(pod, found->image, path);
    return r < 0 ? diag_set(diag, r, "MountVolume.SetUp failed for volume \"%s\" : cannot mount image \"%s\": %s", volume->name,
                            volume->image->reference ? volume->image->reference : "", strerror(-r))
                 : 0;
}

/* --- after a restart of the node --- */

static void on_found(void *userdata, const struct pulling_result *result) {
    struct image_volume *each = userdata;
    each->pull = NULL;
    if (result->image)
        each->image = image_ref(result->image);
}

void image_volumes_adopt(struct pod *pod) {
    for (size_t i = 0; i < pod->image_volumes_count; i++) {
        CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(PULLING_ID_BYTES);
        struct image_volume *each = &pod->image_volumes[i];
        char path[PATH_MAX];
        record_path(each, path);
        if (sys_read_file(AT_FDCWD, path, PULLING_ID_BYTES - 1, &text) < 0)
            continue;
        snprintf(each->image_id, sizeof each->image_id, "%.*s", SLICE_ARG(buffer_slice(&text)));
        const struct pulling_options options = {.pod = pod, .image = each->image_id, .quiet = true, .on_done = on_found, .userdata = each};
        (void)pulling_start(&options, &each->pull, NULL); /* what it does not find stays named by its digest: prune.c keeps that too */
    }
}

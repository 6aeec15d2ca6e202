/* A pod's volumes and its files of /etc.
 *
 *   <pod>/volumes/<name>       empty folders on disk, configuration maps, downward API
 *   <run>/volumes/<uid>/<name> tmpfs: empty folders in memory, secrets, tokens (they never touch the disk)
 *   <pod>/etc/{hosts,hostname,resolv.conf}
 * Everything is made idempotently; what is filled from the API is replaced as a whole when it changes (payload.c). A sub path is resolved inside the
 * volume and then bound by descriptor to a path of ours, so that a container cannot swap it for a link before crun mounts it. */
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "codec/codec.h"
#include "node/node_priv.h"
#include "sys/sys.h"

/* What a volume is being filled with. */
struct writer {
    struct pod *pod;
    const struct kube_volume *volume;
    struct arena *arena;
    struct payload *payload;
    mode_t mode;
    struct diag *diag;
};

static int failed(struct diag *diag, int error, const struct kube_volume *volume, const char *what) {
    return diag_set(diag, error, "MountVolume.SetUp failed for volume \"%s\" : %s: %s", volume->name, what, strerror(-error));
}

static void disk_path(const struct pod *pod, const char *name, char ret[PATH_MAX]) {
    snprintf(ret, PATH_MAX, "%s/volumes/%s", pod->dir, name);
}
void volumes_memory_path(const struct pod *pod, const char *name, char ret[PATH_MAX]) {
    snprintf(ret, PATH_MAX, "%s/volumes/%s%s%s", pod->node->run_dir, pod->uid, *name ? "/" : "", name);
}

const struct kube_volume *volumes_find(const struct pod *pod, const char *name) {
    const struct kube_pod_spec *spec = &pod->spec_object->pod->spec;
    for (size_t i = 0; i < spec->volumes.count; i++)
        if (strcmp(spec->volumes.items[i].name, name) == 0)
            return &spec->volumes.items[i];
    return NULL;
}

/* A mount of its own beneath <run>: tmpfs, huge pages, an image. */
static bool in_memory(const struct kube_volume *volume) {
    if (volume->empty_dir)
        return volume->empty_dir->medium && *volume->empty_dir->medium;
    return volume->secret || volume->projected || volume->image;
}

int volumes_path(const struct pod *pod, const struct kube_volume *volume, char ret[PATH_MAX]) {
    if (volume->host_path)
        snprintf(ret, PATH_MAX, "%s", volume->host_path->path);
    else if (volume->persistent_volume_claim || volume->ephemeral)
        return persistent_path(pod, volume, ret) ? 0 : -ENOENT;
    else if (in_memory(volume))
        volumes_memory_path(pod, volume->name, ret);
    else
        disk_path(pod, volume->name, ret);
    return 0;
}

/* --- files of configuration maps, secrets, downward API --- */

/* A pod with an fsGroup can read all of its volumes through it. */
static mode_t mode_for_group(const struct pod *pod, mode_t mode) {
    const struct kube_pod_security_context *security = pod->spec_object->pod->spec.security_context;
    return security && security->fs_group ? mode | 0440 : mode;
}

static int put(const struct writer *writer, const char *path, struct slice bytes, const int32_t *mode) {
    if (!payload_path_is_safe(path))
        return diag_set(writer->diag, -EINVAL, "MountVolume.SetUp failed for volume \"%s\" : invalid path \"%.200s\"", writer->volume->name, path);
    mode_t wanted = mode_for_group(writer->pod, mode ? (mode_t)*mode & 0777 : writer->mode);
    int r = payload_put(writer->payload, path, bytes, wanted);
    return r < 0 ? failed(writer->diag, r, writer->volume, path) : 0;
}

static bool find_key(const struct kube_object *object, const char *key, struct slice *ret) {
    if (object->kind == &kube_kind_config_map) {
        const char *text = kube_map_find(&object->config_map->data, key);
        if (text)
            return *ret = slice_of(text), true;
    }
    const struct kube_bytes_map *map = object->kind == &kube_kind_secret ? &object->secret->data : &object->config_map->binary_data;
    for (size_t i = 0; i < map->count; i++)
        if (strcmp(map->items[i].key, key) == 0)
            return *ret = map->items[i].value, true;
    return false;
}

static int write_all(const struct writer *writer, const struct kube_object *object) {
    const struct kube_bytes_map *map = object->kind == &kube_kind_secret ? &object->secret->data : &object->config_map->binary_data;
    int r = 0;
    for (size_t i = 0; r == 0 && object->kind == &kube_kind_config_map && i < object->config_map->data.count; i++)
        r = put(writer, object->config_map->data.items[i].key, slice_of(object->config_map->data.items[i].value), NULL);
    for (size_t i = 0; r == 0 && i < map->count; i++)
        r = put(writer, map->items[i].key, map->items[i].value, NULL);
    return r;
}

static int write_object(const struct writer *writer, const struct kube_kind *kind, const char *name, const struct kube_key_to_path_array *items,
                        const bool *optional) {
    const struct kube_object *object = references_find(writer->pod, kind, name);
    struct slice value;
    if (!object)
        return optional && *optional ? 0
                                     : diag_set(writer->diag, -ENOENT, "MountVolume.SetUp failed for volume \"%s\" : %s \"%s\" not found",
                                                writer->volume->name, kind->singular, name);
    if (items->count == 0)
        return write_all(writer, object);
    for (size_t i = 0; i < items->count; i++) {
        const struct kube_key_to_path *item = &items->items[i];
        if (!find_key(object, item->key, &value)) {
            if (optional && *optional)
                continue;
            return kind == &kube_kind_secret
                       ? diag_set(writer->diag, -ENOENT, "MountVolume.SetUp failed for volume \"%s\" : references non-existent secret key: %s",
                                  writer->volume->name, item->key)
                       : diag_set(writer->diag, -ENOENT,
                                  "MountVolume.SetUp failed for volume \"%s\" : configmap references non-existent config key: %s",
                                  writer->volume->name, item->key);
        }
        int r = put(writer, item->path, value, item->mode);
        if (r < 0)
            return r;
    }
    return 0;
}

static int write_downward(const struct writer *writer, const struct kube_downward_api_volume_file_array *items) {
    for (size_t i = 0; i < items->count; i++) {
        const struct kube_downward_api_volume_file *item = &items->items[i];
        const char *value = "";
        int r = -EINVAL;
        if (item->field_ref)
            r = environment_field(writer->pod, writer->arena, item->field_ref->field_path, &value);
        else if (item->resource_field_ref && writer->pod->units_count)
            r = environment_resource(writer->pod->units[0], writer->arena, item->resource_field_ref, &value);
        if (r < 0)
            return failed(writer->diag, r, writer->volume, item->path);
        r = put(writer, item->path, slice_of(value), item->mode);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The one user that all containers run as, by their own words; -1: there is none. */
static uid_t common_user(const struct pod *pod) {
    const struct kube_pod_security_context *of_pod = pod->spec_object->pod->spec.security_context;
    int64_t common = -1;
    for (size_t i = 0; i < pod->units_count; i++) {
        const struct kube_security_context *security = pod->units[i]->spec->security_context;
        const int64_t *user = security && security->run_as_user ? security->run_as_user : of_pod ? of_pod->run_as_user : NULL;
        if (!user || (i && *user != common))
            return (uid_t)-1;
        common = *user;
    }
    return (uid_t)common;
}

static int write_token(const struct writer *writer, const struct kube_service_account_token_projection *source) {
    const struct kube_pod_security_context *security = writer->pod->spec_object->pod->spec.security_context;
    bool narrow = (security && security->fs_group) || common_user(writer->pod) != (uid_t)-1;
    struct slice token = tokens_find(writer->pod, source);
    int32_t mode = 0600;
    if (!token.len)
        return failed(writer->diag, -EAGAIN, writer->volume, "failed to fetch token");
    return put(writer, source->path, token, narrow ? &mode : NULL);
}

static int write_projected(const struct writer *writer, const struct kube_projected_volume_source *projected) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < projected->sources.count; i++) {
        const struct kube_volume_projection *source = &projected->sources.items[i];
        const char *unknown = source->cluster_trust_bundle ? "clusterTrustBundle" : source->pod_certificate ? "podCertificate" : NULL;
        if (unknown)
            return diag_set(writer->diag, -ENOTSUP,
                            "MountVolume.SetUp failed for volume \"%s\" : this platform has nothing to project for sources of type %s",
                            writer->volume->name, unknown);
        if (source->config_map)
            r = write_object(writer, &kube_kind_config_map, source->config_map->name, &source->config_map->items, source->config_map->optional);
        if (r == 0 && source->secret)
            r = write_object(writer, &kube_kind_secret, source->secret->name, &source->secret->items, source->secret->optional);
        if (r == 0 && source->downward_api)
            r = write_downward(writer, &source->downward_api->items);
        if (r == 0 && source->service_account_token)
            r = write_token(writer, source->service_account_token);
    }
    return r;
}

static mode_t mode_or(const int32_t *mode) {
    return mode ? (mode_t)*mode & 0777 : 0644;
}

bool volumes_is_filled(const struct kube_volume *volume) {
    return volume->config_map || volume->secret || volume->downward_api || volume->projected;
}

static int collect_files(struct writer *writer) {
    const struct kube_volume *volume = writer->volume;
    if (volume->config_map) {
        writer->mode = mode_or(volume->config_map->default_mode);
        return write_object(writer, &kube_kind_config_map, volume->config_map->name, &volume->config_map->items, volume->config_map->optional);
    }
    if (volume->secret) {
        writer->mode = mode_or(volume->secret->default_mode);
        return write_object(writer, &kube_kind_secret, volume->secret->secret_name, &volume->secret->items, volume->secret->optional);
    }
    if (volume->downward_api) {
        writer->mode = mode_or(volume->downward_api->default_mode);
        return write_downward(writer, &volume->downward_api->items);
    }
    writer->mode = mode_or(volume->projected->default_mode);
    return write_projected(writer, volume->projected);
}

static int fill_volume(struct pod *pod, const struct kube_volume *volume, const char *path, struct diag *diag) {
    const struct kube_pod_security_context *security = pod->spec_object->pod->spec.security_context;
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    uid_t user = volume->projected ? common_user(pod) : (uid_t)-1;
    gid_t group = security && security->fs_group ? (gid_t)*security->fs_group : (gid_t)-1;
    if (pod->id_base) { /* nothing of it is the machine's root's */
        user = pod->id_base + (user == (uid_t)-1 ? 0 : user);
        group = pod->id_base + (group == (gid_t)-1 ? 0 : group);
    }
    struct payload payload = {.user = user, .group = group};
    struct writer writer = {.pod = pod, .volume = volume, .arena = arena, .payload = &payload, .diag = diag};
    bool changed = false;
    int r = arena ? collect_files(&writer) : -ENOMEM;
    if (r == 0) {
        r = payload_write(path, &payload, &changed);
        if (r < 0)
            failed(diag, r, volume, path);
    }
    VECTOR_DEINIT(&payload);
    return r;
}

/* --- folders --- */

/* What a folder in memory may hold: what it was given, and no more than the pod's containers may have together; 0: half of the machine's memory. */
static int64_t memory_bytes(const struct pod *pod, const struct kube_volume *volume) {
    const struct kube_quantity *limit = volume->empty_dir ? volume->empty_dir->size_limit : NULL;
    int64_t bytes = limit && limit->text ? limit->milli / 1000 : 0;
    struct cgroup_limits limits;
    qos_pod_limits(pod, &limits);
    return limits.memory_bytes > 0 && (bytes == 0 || limits.memory_bytes < bytes) ? limits.memory_bytes : bytes;
}

/* Medium "Memory", "HugePages" or "HugePages-2Mi". */
static int mount_memory(const struct pod *pod, const struct kube_volume *volume, const char *path, mode_t mode) {
    const struct kube_quantity *limit = volume->empty_dir ? volume->empty_dir->size_limit : NULL;
    const char *medium = volume->empty_dir ? volume->empty_dir->medium : NULL;
    int64_t page_bytes = 0;
    if (!medium || strncmp(medium, "HugePages", 9) != 0)
        return mounts_tmpfs(path, memory_bytes(pod, volume), mode);
    if (medium[9] == '-' && quantity_parse(slice_of(medium + 10), &page_bytes) < 0)
        return -EINVAL;
    return mounts_huge_pages(path, page_bytes, limit && limit->text ? limit->milli / 1000 : 0, mode);
}

static int make_folder(struct pod *pod, const struct kube_volume *volume, const char *path, mode_t mode, struct diag *diag) {
    const struct kube_pod_security_context *security = pod->spec_object->pod->spec.security_context;
    bool existed = access(path, F_OK) == 0;
    int r = sys_mkdirs(path, 0755);
    if (r == 0 && in_memory(volume) && !mounts_is_mounted(path)) {
        r = mount_memory(pod, volume, path, mode);
        existed = false;
    }
    if (r == 0 && !existed && chmod(path, mode) < 0)
        r = -errno;
    if (r == 0 && !existed && pod->id_base && chown(path, pod->id_base, pod->id_base) < 0)
        r = -errno;
    if (r == 0 && !existed && security && security->fs_group) {
        if (chown(path, (uid_t)-1, pod->id_base + (gid_t)*security->fs_group) < 0 || chmod(path, mode | 02070) < 0)
            r = -errno;
    }
    return r < 0 ? failed(diag, r, volume, path) : 0;
}

/* The types of hostPath, with what the folder or file must be, and kubelet's words for it. */
static const struct host_type {
    const char *type;
    mode_t format;
    const char *words;
    bool creates;
} host_types[] = {{"DirectoryOrCreate", S_IFDIR, "directory", true}, {"Directory", S_IFDIR, "directory", false},
                  {"FileOrCreate", S_IFREG, "file", true},           {"File", S_IFREG, "file", false},
                  {"Socket", S_IFSOCK, "socket file", false},        {"CharDevice", S_IFCHR, "character device", false},
                  {"BlockDevice", S_IFBLK, "block device", false}};

static int make_host_path(const char *path, bool is_file) {
    if (!is_file)
        return sys_mkdirs(path, 0755);
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    return fd < 0 ? -errno : 0;
}

int volumes_check_host_path(const char *name, const struct kube_host_path_volume_source *source, struct diag *diag) {
    const char *path = source->path, *wanted = source->type ? source->type : "";
    const struct host_type *type = NULL;
    struct stat st;
    for (size_t i = 0; i < ARRAY_LEN(host_types); i++)
        if (strcmp(wanted, host_types[i].type) == 0)
            type = &host_types[i];
    bool there = stat(path, &st) == 0;
    int r = there || (type && !type->creates) ? 0 : make_host_path(path, type && type->format == S_IFREG);
    if (r < 0)
        return diag_set(diag, r, "MountVolume.SetUp failed for volume \"%s\" : cannot make %s: %s", name, path, strerror(-r));
    if (type && (there || !type->creates) && (!there || (st.st_mode & S_IFMT) != type->format))
        return diag_set(diag, -EINVAL, "MountVolume.SetUp failed for volume \"%s\" : hostPath type check failed: %s is not a %s", name, path,
                        type->words);
    return 0;
}

static int prepare_volume(struct pod *pod, const struct kube_volume *volume, struct diag *diag) {
    char path[PATH_MAX];
    if (volume->host_path)
        return volumes_check_host_path(volume->name, volume->host_path, diag);
    if (volume->persistent_volume_claim || volume->ephemeral)
        return persistent_prepare(pod, volume, diag);
    if (volume->image)
        return image_volumes_mount(pod, volume, diag);
    if (!volume->empty_dir && !volumes_is_filled(volume))
        return diag_set(diag, -ENOTSUP, "MountVolume.SetUp failed for volume \"%s\" : this platform has no driver for volumes of type %s",
                        volume->name, kube_volume_kind(volume));
    if (in_memory(volume))
        volumes_memory_path(pod, volume->name, path);
    else
        disk_path(pod, volume->name, path);
    mode_t shared = in_memory(volume) ? 01777 : 0777; /* a tmpfs is sticky, as upstream */
    int r = make_folder(pod, volume, path, volume->empty_dir ? shared : 0755, diag);
    return r < 0 || volume->empty_dir ? r : fill_volume(pod, volume, path, diag);
}

/* After something that a filled volume shows has changed. What cannot be shown any more stays as it was. */
void volumes_refresh(struct pod *pod) {
    const struct kube_volume_array *volumes = &pod->spec_object->pod->spec.volumes;
    char path[PATH_MAX];
    for (size_t i = 0; i < volumes->count; i++) {
        struct diag diag = DIAG_INIT;
        const struct kube_volume *volume = &volumes->items[i];
        if (!volumes_is_filled(volume))
            continue;
        if (in_memory(volume))
            volumes_memory_path(pod, volume->name, path);
        else
            disk_path(pod, volume->name, path);
        if (fill_volume(pod, volume, path, &diag) < 0)
            event_pod(pod, NULL, "Warning", "FailedMount", "%s", diag.message);
    }
}

/* Those that were made before are still there: tmpfs is gone after a restart of the machine. */
bool volumes_are_there(const struct pod *pod) {
    const struct kube_volume_array *volumes = &pod->spec_object->pod->spec.volumes;
    char path[PATH_MAX];
    userns_path(pod, USERNS_USER, path);
    bool there = !userns_is_wanted(pod) || mounts_is_mounted(path);
    for (size_t i = 0; i < volumes->count && there; i++) {
        const struct kube_volume *volume = &volumes->items[i];
        if (in_memory(volume)) {
            volumes_memory_path(pod, volume->name, path);
            there = mounts_is_mounted(path);
        } else if (volumes_is_filled(volume) || volume->empty_dir) {
            disk_path(pod, volume->name, path);
            there = access(path, F_OK) == 0;
        }
    }
    return there;
}

/* --- /etc --- */

/* The file may be mounted, so it must stay the same one; what a container has appended to it stays as well. */
static int rewrite(const char *path, struct slice text) {
    CLEANUP(buffer_deinit) struct buffer before = BUFFER_INIT(MIB + 1);
    if (sys_read_file(AT_FDCWD, path, MIB, &before) == 0 && slice_starts(buffer_slice(&before), text))
        return 0;
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : sys_write_all(fd, text);
}

static int write_etc(const struct pod *pod, const char *name, const struct buffer *text) {
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/etc/%s", pod->dir, name);
    if (buffer_error(text))
        return buffer_error(text);
    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
        return rewrite(path, buffer_slice(text));
    int r = sys_remove_tree(AT_FDCWD, path);
    if (r == 0)
        r = sys_write_file_fast(AT_FDCWD, path, buffer_slice(text), 0644);
    if (r == 0 && pod->id_base && chown(path, pod->id_base, pod->id_base) < 0)
        return -errno;
    return r == 0 && chmod(path, 0644) < 0 ? -errno : r;
}

int volumes_write_hosts(const struct pod *pod) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    pod_hosts_format(pod, &text);
    return write_etc(pod, "hosts", &text);
}

static int write_resolv(const struct pod *pod) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    int r = resolv_of_pod(pod, &text);
    return r < 0 ? r : write_etc(pod, "resolv.conf", &text);
}

static int write_hostname(const struct pod *pod) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(1024);
    char hostname[65];
    int r = pod_hostname(pod, hostname, NULL);
    if (r < 0)
        return r;
    buffer_printf(&text, "%s\n", hostname);
    return write_etc(pod, "hostname", &text);
}

int volumes_write_etc(const struct pod *pod) {
    int r = volumes_write_hosts(pod);
    if (r == 0)
        r = write_hostname(pod);
    return r == 0 ? write_resolv(pod) : r;
}

int volumes_prepare(struct pod *pod, struct diag *diag) {
    const struct kube_pod_spec *spec = &pod->spec_object->pod->spec;
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/etc", pod->dir);
    int r = lstat(path, &st) == 0 && !S_ISDIR(st.st_mode) ? sys_remove_tree(AT_FDCWD, path) : 0;
    if (r == 0)
        r = sys_mkdirs(path, 0755);
    if (r == 0)
        r = volumes_write_etc(pod);
    if (r < 0)
        return diag_set(diag, r, "cannot write %s: %s", path, strerror(-r));
    for (size_t i = 0; r == 0 && i < spec->volumes.count; i++)
        r = prepare_volume(pod, &spec->volumes.items[i], diag);
    return r;
}

static void on_mount(void *userdata, const char *target) {
    mounts_remove_later(((struct node *)userdata)->loop, target);
}

void volumes_remove(struct pod *pod) {
    char path[PATH_MAX];
    volumes_memory_path(pod, "", path);
    mounts_beneath(path, on_mount, pod->node);
    sys_remove_tree(AT_FDCWD, path);
}

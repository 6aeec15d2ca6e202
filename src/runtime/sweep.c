/* Finding unpacked layers that nobody needs: mark from every tag of the content store and from what the caller still uses, the rest is unused.
 *
 * 1. A layer is needed by its chain ID, so what counts is the configuration's list of diff_ids, not which blobs the registry still has.
 * 2. A tag that cannot be resolved (being pushed, damaged) reaches nothing: should it become whole again, its layers are unpacked again.
 * 3. A configuration of a running container that cannot be read stops the sweep: a layer beneath a mounted overlay must never go.
 * 4. The list may be out of date when it is used. Whoever retires a layer does so where no unpacking can begin in between, and looks at what has come
 *    into use since. */
#include "runtime/sweep.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "codec/codec.h"
#include "http/http.h"
#include "runtime/image.h"
#include "sys/sys.h"

#define REPOSITORY_DEPTH_MAX 16
#define REPOSITORY_NAME_MAX 255
#define LAYERS_FOUND_MAX 100000
#define CONFIG_ARENA_BYTES_MAX (16 * MIB)
#define MANIFESTS_DEPTH_MAX 4

struct marker {
    const char *store;
    struct map *needed; /* chain ID in hex → anything */
};

static int need(struct marker *marker, const char *chain) {
    return map_put(marker->needed, slice_of(chain + strlen("sha256:")), marker, NULL);
}

/* --- walking through tags --- */

struct walker {
    sweep_tag_fn *fn;
    void *userdata;
    int depth;
    char name[REPOSITORY_NAME_MAX + 1]; /* of the repository where it is */
};

static int walk_tags(struct walker *walker, int parent_fd) {
    int fd = openat(parent_fd, "tags", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return fd < 0 ? 0 : -ENOMEM;
    for (struct dirent *entry; r == 0 && (entry = readdir(dir));)
        if (entry->d_name[0] != '.')
            r = walker->fn(walker->userdata, walker->name, entry->d_name);
    closedir(dir);
    return r;
}

static int walk_folder(struct walker *walker, int parent_fd, const char *name) {
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return fd < 0 && (errno == ENOENT || errno == ENOTDIR) ? 0 : -errno;
    int r = walker->name[0] ? walk_tags(walker, fd) : 0;
    size_t len = strlen(walker->name);
    for (struct dirent *entry; r == 0 && walker->depth < REPOSITORY_DEPTH_MAX && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.' || entry->d_name[0] == '_' || strcmp(entry->d_name, "tags") == 0 ||
            len + strlen(entry->d_name) + 1 > REPOSITORY_NAME_MAX)
            continue;
        snprintf(walker->name + len, sizeof walker->name - len, "%s%s", len ? "/" : "", entry->d_name);
        walker->depth++;
        r = walk_folder(walker, fd, entry->d_name);
        walker->depth--;
        walker->name[len] = 0;
    }
    closedir(dir);
    return r;
}

int sweep_each_tag(const char *store, sweep_tag_fn *fn, void *userdata) {
    struct walker walker = {.fn = fn, .userdata = userdata};
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/repositories", store);
    return walk_folder(&walker, AT_FDCWD, path);
}

static int mark_tag(void *userdata, const char *repository, const char *tag) {
    struct marker *marker = userdata;
    CLEANUP(image_unrefp) struct image *image = NULL;
    const struct image_reference reference = {.repository = repository, .tag = tag};
    int r = image_resolve(marker->store, &reference, &image, NULL);
    if (r == -ENOMEM)
        return r;
    for (size_t i = 0; image && i < image->layers_count; i++)
        if (need(marker, image->layers[i].chain_id) < 0)
            return -ENOMEM;
    return 0;
}

/* --- marking from configurations --- */

/* digest: of a configuration, or of the manifest or index that leads to it. */
static int mark_config(struct marker *marker, const char *digest, int depth, struct diag *diag) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(CONFIG_ARENA_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(IMAGE_MANIFEST_BYTES_MAX + 1);
    CLEANUP(image_unrefp) struct image *image = image_new();
    char path[PATH_MAX], chain[80] = "";
    const char *next = NULL;
    struct tree *root = NULL;
    if (!arena || !image || !image_digest_is_valid(slice_of(digest)))
        return arena && image ? diag_set(diag, -ENOENT, "\"%s\" is no image", digest) : -ENOMEM;
    snprintf(path, sizeof path, "%s/blobs/sha256/%s", marker->store, digest + 7);
    int r = sys_read_file(AT_FDCWD, path, IMAGE_MANIFEST_BYTES_MAX, &json);
    r = r ? r : json_parse(arena, buffer_slice(&json), &(struct json_options){.allow_duplicates = true}, &root, NULL);
    if (r < 0 || depth > MANIFESTS_DEPTH_MAX)
        return diag_set(diag, -ENOENT, "the configuration %s of an image in use cannot be read: %s", digest, strerror(r ? -r : ELOOP));
    if (image_parse_manifest(image, buffer_slice(&json), &next, NULL) == 0)
        return mark_config(marker, next ? next : image->config_digest, depth + 1, diag);
    const struct tree *diffs = tree_path(root, "rootfs.diff_ids");
    for (size_t i = 0; i < tree_count(diffs) && r == 0; i++) {
        const char *diff = tree_text_or(tree_at(diffs, i), "");
        char hex[65], text[160];
        snprintf(text, sizeof text, "%s %s", chain, diff);
        digest_sha256_hex(slice_of(text), hex);
        snprintf(chain, sizeof chain, "%s%s", i ? "sha256:" : "", i ? hex : diff);
        r = image_digest_is_valid(slice_of(chain)) ? need(marker, chain) : diag_set(diag, -ENOENT, "%s is no image's configuration", digest);
    }
    return r;
}

static int mark_all(struct marker *marker, const struct sweep_needs *needs, struct diag *diag) {
    int r = 0;
    for (size_t i = 0; r == 0 && needs->configs && needs->configs[i]; i++)
        r = mark_config(marker, needs->configs[i], 0, diag);
    for (size_t i = 0; r == 0 && needs->chains && needs->chains[i]; i++)
        r = need(marker, needs->chains[i]);
    if (r < 0)
        return r;
    r = sweep_each_tag(marker->store, mark_tag, marker);
    return r < 0 ? diag_set(diag, r, "cannot read the registry's tags: %s", strerror(-r)) : 0;
}

/* --- what is left --- */

const char *sweep_chain(const char *name) {
    size_t lead = strlen(IMAGE_DAMAGED_LEAD);
    if (strncmp(name, IMAGE_DAMAGED_LEAD, lead) == 0)
        name += MIN(strlen(name), lead + 17);
    return strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64 ? name : NULL;
}

int sweep_find(struct arena *arena, const char *store, const char *layers, const struct sweep_needs *needs, char ***ret, size_t *ret_count,
               struct diag *diag) {
    CLEANUP(map_freep) struct map *needed = map_new();
    struct marker marker = {.store = store, .needed = needed};
    VECTOR(char *) found = {0};
    int r = needed ? mark_all(&marker, needs, diag) : -ENOMEM;
    DIR *dir = r == 0 ? opendir(layers) : NULL;
    for (struct dirent *entry; dir && r == 0 && found.count < LAYERS_FOUND_MAX && (entry = readdir(dir));) {
        const char *chain = sweep_chain(entry->d_name);
        if (!chain || map_find(needed, slice_of(chain)))
            continue;
        char *copy = arena_strdup(arena, entry->d_name);
        r = copy ? VECTOR_PUSH(&found, copy) : -ENOMEM;
    }
    if (dir)
        closedir(dir);
    char **items = r == 0 ? ARENA_ARRAY(arena, char *, found.count + 1) : NULL;
    if (items) {
        if (found.count)
            memcpy(items, found.items, found.count * sizeof *items);
        *ret = items;
        *ret_count = found.count;
    }
    VECTOR_DEINIT(&found);
    return r < 0 ? r : items ? 0 : -ENOMEM;
}

int sweep_retire(const char *layers, const char *name, char ret[SWEEP_NAME_BYTES]) {
    char from[PATH_MAX], to[PATH_MAX], random[17];
    sys_random_name(random, 16);
    snprintf(ret, SWEEP_NAME_BYTES, "tmp-%s", random);
    snprintf(from, sizeof from, "%s/%s", layers, name);
    snprintf(to, sizeof to, "%s/%s", layers, ret);
    return rename(from, to) < 0 ? -errno : 0;
}

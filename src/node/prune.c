/* Giving disk space back: unpacked layers that no tag and no pod needs, and the build cache when it has grown too large. core decides when (it
 * removes the tags first) and asks by POST /prune[?cacheBytesMax=N]; here is what must be done as root, and what only the node can know.
 *
 *   calm? ──► find (worker) ──► calm? ──► retire (rename, at once) ──► remove one folder after the other (worker) ──► answer
 *
 * Invariants
 *  1. A layer in use is never touched. "In use" are the images of all pods that are not ended: those that unit->image holds and those whose
 *     configuration was recorded (containers that an earlier node started).
 *  2. Layers are retired in one step of the loop in which nothing is being pulled: an unpacking that begins later finds them gone and unpacks again.
 *  3. What is removed was renamed to <layers>/tmp-… before, which the next start clears away: a crash at any point leaves nothing half.
 *  4. One prune at a time, one folder per turn of a worker thread, and nothing at all when nobody asks. */
#include <dirent.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "http/http.h"
#include "node/node_priv.h"
#include "sys/sys.h"

#define CALM_LOOK_MS 250
#define CALM_LOOKS_MAX 480 /* two minutes */
#define PRUNE_ARENA_BYTES_MAX (32 * MIB)
#define CACHE_FOLDER "forge/cache"
#define CACHES_MAX 1000
#define PLATFORM_LOG_BYTES_MAX (16 * MIB)

/* A folder of the build cache. */
struct cache {
    const char *name;
    uint64_t bytes;
};

struct prune {
    struct node *node; /* NULL: the node ends */
    const atomic_bool *stop;
    struct http_exchange *exchange;
    struct arena *arena;
    struct loop_timer timer;
    int looks;
    bool found;
    struct sweep_needs needs;
    char **layers; /* candidates */
    size_t layers_count;
    struct retired {
        char name[SWEEP_NAME_BYTES];
        uint64_t bytes; /* of a cache, which was measured before */
        bool is_cache;
    } * retired;
    size_t retired_count, removed_count, retired_layers;
    VECTOR(struct cache) caches;
    bool prunes_cache;
    uint64_t cache_bytes_max, cache_bytes;
    uint64_t bytes[2]; /* freed: of layers, of the cache */
    int error;
    struct diag diag;
    char layers_dir[PATH_MAX], store_dir[PATH_MAX], cache_dir[PATH_MAX], log_path[PATH_MAX];
};

static void look(void *userdata);

static void on_close(void *userdata, struct http_exchange *exchange, bool complete) {
    (void)exchange;
    (void)complete;
    ((struct prune *)userdata)->exchange = NULL;
}

static void ignore_close(void *userdata, struct http_exchange *exchange, bool complete) {
    (void)userdata;
    (void)exchange;
    (void)complete;
}

static void prune_free(struct prune *prune) {
    if (prune->exchange)
        http_on_close(prune->exchange, ignore_close, NULL);
    loop_timer_cancel(&prune->timer);
    arena_free(prune->arena);
    free(prune->retired);
    VECTOR_DEINIT(&prune->caches);
    free(prune);
}

static void answer(struct prune *prune) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(4 * KIB);
    struct http_exchange *exchange = prune->exchange;
    if (!exchange)
        return;
    http_on_close(exchange, ignore_close, NULL);
    prune->exchange = NULL;
    buffer_printf(&out, "{\"layersRemoved\":%zu,\"layerBytes\":%" PRIu64 ",\"cacheBytes\":%" PRIu64 ",\"cacheBytesRemoved\":%" PRIu64,
                  prune->retired_layers, prune->bytes[0], prune->cache_bytes, prune->bytes[1]);
    if (prune->error) {
        buffer_append_text(&out, ",\"message\":");
        json_format_string(&out, slice_of(prune->diag.message[0] ? prune->diag.message : strerror(-prune->error)));
    }
    buffer_append_text(&out, "}\n");
    http_respond(exchange, 200, "application/json", buffer_slice(&out), NULL);
}

static void finish(struct prune *prune) {
    struct node *node = prune->node;
    if (prune->error && node)
        log_warning("disk space could not be freed: %s", prune->diag.message[0] ? prune->diag.message : strerror(-prune->error));
    answer(prune);
    if (node)
        node->prune = NULL;
    if (node && prune->retired_layers)
        images_changed(node);
    prune_free(prune);
}

/* --- what the pods need --- */

static bool needs_image(const struct pod *pod) {
    bool needs = pod->stage != POD_ENDED || pod->deletions;
    for (size_t i = 0; !needs && i < pod->units_count; i++)
        needs = pod->units[i]->container != NULL; /* its root file system may still be mounted */
    return needs;
}

static bool is_calm(const struct node *node) {
    return !pulling_is_unpacking(node);
}

/* The recorded manifest (of earlier versions: the configuration) when it is not what unit->image holds: a container of an earlier node. "" when there
 * is none. */
static const char *recorded_image(const struct unit *unit) {
    const char *digest = strstr(unit->image_id, "sha256:");
    const struct image *image = unit->image;
    bool held = digest && image && (strcmp(image->digest, digest) == 0 || (image->repo_digest && strcmp(image->repo_digest, unit->image_id) == 0));
    return digest && !held ? digest : "";
}

/* Texts are copied: pods may go while a worker reads. */
static int add_unit(struct prune *prune, const struct unit *unit, const char ***configs, const char ***chains) {
    if (*recorded_image(unit) && !(*(*configs)++ = arena_strdup(prune->arena, recorded_image(unit))))
        return -ENOMEM;
    for (size_t i = 0; unit->image && i < unit->image->layers_count; i++)
        if (!(*(*chains)++ = arena_strdup(prune->arena, unit->image->layers[i].chain_id)))
            return -ENOMEM;
    return 0;
}

/* The same of an image that is a volume. */
static int add_volume(struct prune *prune, const struct image_volume *volume, const char ***configs, const char ***chains) {
    const char *digest = strstr(volume->image_id, "sha256:");
    if (!volume->image && digest && !(*(*configs)++ = arena_strdup(prune->arena, digest)))
        return -ENOMEM;
    for (size_t i = 0; volume->image && i < volume->image->layers_count; i++)
        if (!(*(*chains)++ = arena_strdup(prune->arena, volume->image->layers[i].chain_id)))
            return -ENOMEM;
    return 0;
}

static int collect_needs(struct prune *prune) {
    size_t units = 0, layers = 0;
    struct slice key;
    void *value;
    for (size_t at = 0; map_next(prune->node->pods, &at, &key, &value);) {
        const struct pod *pod = value;
        units += pod->units_count + pod->image_volumes_count;
        for (size_t i = 0; i < pod->units_count; i++)
            layers += pod->units[i]->image ? pod->units[i]->image->layers_count : 0;
        for (size_t i = 0; i < pod->image_volumes_count; i++)
            layers += pod->image_volumes[i].image ? pod->image_volumes[i].image->layers_count : 0;
    }
    const char **configs = ARENA_ARRAY(prune->arena, const char *, units + 1), **chains = ARENA_ARRAY(prune->arena, const char *, layers + 1);
    if (!configs || !chains)
        return -ENOMEM;
    prune->needs = (struct sweep_needs){.configs = configs, .chains = chains};
    for (size_t at = 0; map_next(prune->node->pods, &at, &key, &value);) {
        const struct pod *pod = value;
        for (size_t i = 0; needs_image(pod) && i < pod->units_count; i++)
            if (add_unit(prune, pod->units[i], &configs, &chains) < 0)
                return -ENOMEM;
        for (size_t i = 0; needs_image(pod) && i < pod->image_volumes_count; i++)
            if (add_volume(prune, &pod->image_volumes[i], &configs, &chains) < 0)
                return -ENOMEM;
    }
    *configs = *chains = NULL;
    return 0;
}

static bool has_layer(const struct image *image, const char *layer) {
    for (size_t i = 0; image && i < image->layers_count; i++)
        if (strcmp(image->layers[i].chain_id + 7, layer) == 0)
            return true;
    return false;
}

static bool is_needed_now(const struct prune *prune, const char *layer) {
    struct slice key;
    void *value;
    for (size_t at = 0; map_next(prune->node->pods, &at, &key, &value);) {
        const struct pod *pod = value;
        for (size_t i = 0; needs_image(pod) && i < pod->units_count; i++)
            if (has_layer(pod->units[i]->image, layer))
                return true;
        for (size_t i = 0; needs_image(pod) && i < pod->image_volumes_count; i++)
            if (has_layer(pod->image_volumes[i].image, layer))
                return true;
    }
    return false;
}

/* --- removing, one folder at a time --- */

/* On a worker thread, which the node's end waits for. */
static uint64_t bytes_of(const struct prune *prune, const char *path) {
    struct sys_usage usage;
    sys_tree_usage_until(path, prune->stop, &usage);
    return usage.bytes;
}

static void remove_work(void *userdata) {
    struct prune *prune = userdata;
    const struct retired *retired = &prune->retired[prune->removed_count];
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", prune->layers_dir, retired->name);
    uint64_t bytes = retired->is_cache ? retired->bytes : bytes_of(prune, path);
    int r = sys_remove_tree_until(AT_FDCWD, path, prune->stop);
    if (r < 0)
        prune->error = diag_set(&prune->diag, r, "cannot remove %s: %s", path, strerror(-r));
    else
        prune->bytes[retired->is_cache] += bytes;
}

static void remove_next(struct prune *prune);
static void remove_done(void *userdata) {
    struct prune *prune = userdata;
    prune->removed_count++;
    remove_next(prune);
}

static void remove_next(struct prune *prune) {
    int r = prune->node && prune->removed_count < prune->retired_count ? loop_work(prune->node->loop, LOOP_BULK, remove_work, remove_done, prune) : 1;
    if (r == 0)
        return;
    prune->error = r < 0 ? r : prune->error;
    finish(prune);
}

/* --- retiring --- */

/* The cache is buildah's folder, or has one per application: a pod mounts that one or all. */
static bool is_cache_in_use(const struct prune *prune, const char *name) {
    struct slice key;
    void *value;
    for (size_t at = 0; map_next(prune->node->pods, &at, &key, &value);) {
        const struct pod *pod = value;
        const struct kube_pod_spec *spec = &pod->spec_object->pod->spec;
        for (size_t i = 0; needs_image(pod) && i < spec->volumes.count; i++) {
            const struct kube_host_path_volume_source *volume = spec->volumes.items[i].host_path;
            const char *inside = volume && volume->path ? strstr(volume->path, "/" CACHE_FOLDER) : NULL;
            inside = inside ? inside + sizeof CACHE_FOLDER : NULL;
            if (inside && (!*inside || (*inside == '/' && strcmp(inside + 1, name) == 0)))
                return true;
        }
    }
    return false;
}

static int by_size(const void *a, const void *b) {
    const struct cache *left = a, *right = b;
    return (left->bytes < right->bytes) - (left->bytes > right->bytes);
}

/* The largest go first, until the rest fits. They move among what the next start clears away; the next build makes its folder again. */
static void retire_caches(struct prune *prune) {
    uint64_t left = prune->cache_bytes;
    if (prune->caches.count)
        qsort(prune->caches.items, prune->caches.count, sizeof(struct cache), by_size);
    for (size_t i = 0; i < prune->caches.count && left > prune->cache_bytes_max; i++) {
        const struct cache *cache = &prune->caches.items[i];
        struct retired *retired = &prune->retired[prune->retired_count];
        char from[PATH_MAX], to[PATH_MAX], random[17];
        sys_random_name(random, 16);
        snprintf(retired->name, SWEEP_NAME_BYTES, "tmp-%s", random);
        snprintf(from, sizeof from, "%s/%s", prune->cache_dir, cache->name);
        snprintf(to, sizeof to, "%s/%s", prune->layers_dir, retired->name);
        if (is_cache_in_use(prune, cache->name) || rename(from, to) < 0)
            continue;
        retired->is_cache = true;
        retired->bytes = cache->bytes;
        prune->retired_count++;
        left -= cache->bytes;
    }
}

static void retire(struct prune *prune) {
    for (size_t i = 0; i < prune->layers_count; i++)
        if (!is_needed_now(prune, sweep_chain(prune->layers[i])) &&
            sweep_retire(prune->layers_dir, prune->layers[i], prune->retired[prune->retired_count].name) == 0)
            prune->retired_count++;
    prune->retired_layers = prune->retired_count;
    retire_caches(prune);
    remove_next(prune);
}

/* --- finding --- */

static void measure_caches(struct prune *prune) {
    DIR *dir = opendir(prune->cache_dir);
    for (struct dirent *entry; dir && prune->caches.count < CACHES_MAX && (entry = readdir(dir));) {
        char path[PATH_MAX];
        struct cache cache = {.name = entry->d_name[0] == '.' ? NULL : arena_strdup(prune->arena, entry->d_name)};
        if (!cache.name)
            continue;
        snprintf(path, sizeof path, "%s/%s", prune->cache_dir, cache.name);
        cache.bytes = bytes_of(prune, path);
        if (VECTOR_PUSH(&prune->caches, cache) == 0)
            prune->cache_bytes += cache.bytes;
    }
    if (dir)
        closedir(dir);
}

/* What --detach writes to, for years: cut when it is large, one older part stays. Everybody writes with O_APPEND, so cutting it is safe; a line that
 * is written while it is copied may be lost. */
static void cut_platform_log(const struct prune *prune) {
    CLEANUP(fd_closep) int from = open(prune->log_path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;
    char path[PATH_MAX];
    if (from < 0 || fstat(from, &status) < 0 || !S_ISREG(status.st_mode) || (uint64_t)status.st_size <= PLATFORM_LOG_BYTES_MAX)
        return;
    snprintf(path, sizeof path, "%s.1", prune->log_path);
    CLEANUP(fd_closep) int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640);
    off_t start = MAX(status.st_size - (off_t)PLATFORM_LOG_BYTES_MAX, (off_t)0);
    while (to >= 0 && sendfile(to, from, &start, MIB) > 0)
        ;
    if (ftruncate(from, 0) < 0)
        log_warning("cannot cut %s: %s", prune->log_path, strerror(errno));
}

static void find_work(void *userdata) {
    struct prune *prune = userdata;
    prune->error = sweep_find(prune->arena, prune->store_dir, prune->layers_dir, &prune->needs, &prune->layers, &prune->layers_count, &prune->diag);
    if (prune->prunes_cache)
        measure_caches(prune);
    cut_platform_log(prune);
}

static void find_done(void *userdata) {
    struct prune *prune = userdata;
    prune->found = true;
    if (prune->error) /* no layer goes; the cache may */
        prune->layers_count = 0;
    prune->retired = calloc(prune->layers_count + prune->caches.count + 1, sizeof *prune->retired);
    look(prune);
}

/* --- waiting for a calm moment --- */

static void look(void *userdata) {
    struct prune *prune = userdata;
    if (!prune->node || (prune->found && !prune->retired)) {
        prune->error = prune->error ? prune->error : -ENOMEM;
        finish(prune);
        return;
    }
    if (!is_calm(prune->node)) {
        if (++prune->looks <= CALM_LOOKS_MAX && loop_timer_set(&prune->timer, CALM_LOOK_MS) == 0)
            return;
        prune->error = diag_set(&prune->diag, -EBUSY, "images are being unpacked all the time");
        finish(prune);
        return;
    }
    if (prune->found) {
        retire(prune);
        return;
    }
    prune->error = collect_needs(prune);
    if (!prune->error)
        prune->error = loop_work(prune->node->loop, LOOP_MEASURE, find_work, find_done, prune);
    if (prune->error)
        finish(prune);
}

void prune_serve(struct node *node, struct http_exchange *exchange, const struct query *query) {
    const char *cache = query_find(query, "cacheBytesMax");
    if (node->prune)
        return http_respond_text(exchange, 409, "disk space is being freed already\n");
    struct prune *prune = calloc(1, sizeof *prune);
    if (!prune || !(prune->arena = arena_new(PRUNE_ARENA_BYTES_MAX))) {
        free(prune);
        return http_respond_text(exchange, 503, "no memory\n");
    }
    prune->node = node;
    prune->stop = &node->is_ending;
    prune->exchange = exchange;
    prune->prunes_cache = cache && slice_parse_u64(slice_of(cache), UINT64_MAX / 2, &prune->cache_bytes_max) == 0;
    prune->diag = (struct diag)DIAG_INIT;
    snprintf(prune->layers_dir, PATH_MAX, "%s", node->layers_dir);
    snprintf(prune->store_dir, PATH_MAX, "%s", node->store_dir);
    snprintf(prune->cache_dir, PATH_MAX, "%s/" CACHE_FOLDER, node->options->state_dir);
    snprintf(prune->log_path, PATH_MAX, "%s/tidemill.log", node->options->run_dir);
    loop_timer_init(&prune->timer, node->loop, look, prune);
    node->prune = prune;
    http_on_close(exchange, on_close, prune);
    look(prune);
}

void prune_stop(struct node *node) {
    struct prune *prune = node->prune;
    if (!prune)
        return;
    node->prune = NULL;
    prune->node = NULL;
    if (loop_timer_is_set(&prune->timer))
        prune_free(prune); /* otherwise a worker has it: its end frees it */
}

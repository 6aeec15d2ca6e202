/* Removing the folders of volumes that are deleted. A volume of ours is deleted in the API first, where its finalizer keeps it; the folder is removed
 * (on a worker thread: it may be large), and then the finalizer. Every step can be repeated: after a crash anywhere the volume is still there, marked
 * as deleted, and is found by the next list.
 *
 * A folder is removed only when all of this holds: the volume is marked as deleted, bears our finalizer, is no longer bound, is to be deleted by its
 * policy, names <state>/volumes/<its name> as its path, and no pod that is left on this node, known to the API or not, has its claim. With the policy
 * Retain the finalizer goes and the data stays. */
#include <fcntl.h>

#include "codec/codec.h"
#include "node/node_priv.h"
#include "sys/sys.h"

#define RETRY_MS 5000

struct removal {
    struct node *node;
    char name[256], folder[PATH_MAX];
    int result;
};

static bool names(const struct kube_node_selector_requirement_array *requirements, const char *key, const char *value) {
    for (size_t i = 0; i < requirements->count; i++)
        for (size_t k = 0; k < requirements->items[i].values.count; k++)
            if (strcmp(requirements->items[i].key, key) == 0 && strcmp(requirements->items[i].values.items[k], value) == 0)
                return true;
    return false;
}

static bool is_here(const struct node *node, const struct kube_object *volume) {
    const struct kube_volume_node_affinity *affinity = volume->persistent_volume->spec.node_affinity;
    for (size_t i = 0; affinity && affinity->required && i < affinity->required->node_selector_terms.count; i++) {
        const struct kube_node_selector_term *term = &affinity->required->node_selector_terms.items[i];
        if (names(&term->match_expressions, "kubernetes.io/hostname", node->options->node_name) ||
            names(&term->match_fields, "metadata.name", node->options->node_name))
            return true;
    }
    return false;
}

static bool is_in_use(const struct node *node, const struct kube_object *volume) {
    const struct kube_object_reference *claim = volume->persistent_volume->spec.claim_ref;
    struct slice key;
    void *value;
    for (size_t at = 0; claim && claim->name && claim->namespace && map_next(node->pods, &at, &key, &value);)
        if (persistent_has_claim(value, claim->namespace, claim->name))
            return true;
    return false;
}

static bool is_due(const struct node *node, const struct kube_object *volume) {
    const char *phase = volume->persistent_volume->status.phase;
    return volume->metadata->deletion_timestamp.set && kube_strings_has(&volume->metadata->finalizers, TIDEMILL_VOLUME_FINALIZER) &&
           is_here(node, volume) && phase && strcmp(phase, "Bound") != 0 && !is_in_use(node, volume) &&
           !map_find(node->removals, slice_of(volume->metadata->name));
}

static void end(struct removal *removal) {
    struct node *node = removal->node;
    bool failed = removal->result < 0;
    map_remove(node->removals, slice_of(removal->name));
    free(removal);
    if (failed && node->volumes_informer)
        loop_timer_set(&node->reclaim_retry, RETRY_MS);
}

static void on_released(void *userdata, const struct http_answer *answer) {
    struct removal *removal = userdata;
    struct diag diag = DIAG_INIT;
    removal->result = client_check(answer, &diag);
    if (removal->result == -ENOENT)
        removal->result = 0;
    if (removal->result < 0)
        log_warning("cannot release volume %s: %s", removal->name, diag.message);
    end(removal);
}

/* All finalizers but ours, provided that nobody has changed the object. */
static int format_patch(const struct kube_object *volume, struct buffer *out) {
    const struct kube_string_list *finalizers = &volume->metadata->finalizers;
    buffer_append_text(out, "{\"metadata\":{\"resourceVersion\":");
    json_format_string(out, slice_of(volume->metadata->resource_version));
    buffer_append_text(out, ",\"finalizers\":[");
    for (size_t i = 0, written = 0; i < finalizers->count; i++) {
        if (strcmp(finalizers->items[i], TIDEMILL_VOLUME_FINALIZER) == 0)
            continue;
        buffer_append_text(out, written++ ? "," : "");
        json_format_string(out, slice_of(finalizers->items[i]));
    }
    buffer_append_text(out, "]}}");
    return buffer_error(out);
}

static void release(struct removal *removal) {
    const struct kube_object *volume = informer_find(removal->node->volumes_informer, NULL, removal->name);
    CLEANUP(buffer_deinit) struct buffer patch = BUFFER_INIT(64 * KIB);
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * KIB);
    if (!volume) { /* gone already */
        end(removal);
        return;
    }
    const char *path = arena ? client_path(arena, &kube_kind_persistent_volume, NULL, removal->name, NULL) : NULL;
    removal->result = path ? format_patch(volume, &patch) : -ENOMEM;
    if (removal->result == 0)
        removal->result =
            client_request(removal->node->client, "PATCH", path, "application/merge-patch+json", buffer_slice(&patch), on_released, removal);
    if (removal->result < 0)
        end(removal);
}

static void remove_work(void *userdata) {
    struct removal *removal = userdata;
    CLEANUP(fd_closep) int folder = open(removal->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        removal->result = errno == ENOENT ? 0 : -errno; /* no volume was ever mounted */
        return;
    }
    removal->result = sys_remove_tree_until(folder, removal->name, &removal->node->is_ending);
    if (removal->result == 0 && fsync(folder) < 0)
        removal->result = -errno;
}

static void remove_done(void *userdata) {
    struct removal *removal = userdata;
    if (!removal->node->volumes_informer) { /* the node ends: the next one repeats it */
        end(removal);
        return;
    }
    if (removal->result < 0) {
        log_error("cannot remove the folder of volume %s: %s", removal->name, strerror(-removal->result));
        end(removal);
        return;
    }
    release(removal);
}

static void start(struct node *node, const struct kube_object *volume) {
    char path[PATH_MAX];
    const char *policy = volume->persistent_volume->spec.persistent_volume_reclaim_policy, *name = volume->metadata->name;
    struct removal *removal = calloc(1, sizeof *removal);
    if (!removal || strchr(name, '/') || name[0] == '.' || map_put(node->removals, slice_of(name), removal, NULL) < 0) {
        free(removal);
        return;
    }
    removal->node = node;
    snprintf(removal->name, sizeof removal->name, "%s", name);
    snprintf(removal->folder, sizeof removal->folder, "%s", node->volumes_dir);
    bool goes = policy && strcmp(policy, "Delete") == 0 && persistent_is_ours(node, volume, path);
    if (!goes)
        release(removal);
    else if ((removal->result = loop_work(node->loop, LOOP_SWEEP, remove_work, remove_done, removal)) < 0)
        end(removal);
}

void reclaim_stop(struct node *node) {
    void *value;
    for (size_t at = 0; node->removals && map_next(node->removals, &at, NULL, &value);)
        free(value); /* its request was cancelled */
    map_free(TAKE(node->removals));
}

void reclaim_volumes(struct node *node) {
    struct kube_object *volume;
    if (!node->volumes_informer || !informer_synced(node->pods_informer))
        return; /* who has which volume is not known yet */
    for (size_t at = 0; (volume = informer_next(node->volumes_informer, &at));)
        if (is_due(node, volume))
            start(node, volume);
}

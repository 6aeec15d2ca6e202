/* Pulling from another registry: distribution-spec "Pulling manifests" and "Pulling blobs".
 *
 *   thread (pull_queue.c): here already? ─► the tag still means the same? (HEAD) ─► manifest ─► index: this platform's ─► records ─► blobs ─► links,
 * tag
 *
 * The transfer has a thread and makes blocking calls (hub.h); it touches only its own `struct registry_pull` and the content store, which any thread
 * may use.
 *
 * 1. Nothing counts before it was checked: each manifest's digest (when the reference or an index had one), the size and digest of every blob, that
 *    the configuration speaks of as many layers as the manifest. The tag is set last.
 * 2. Of an index, the manifest for the platform is taken, and tagged; the index is kept beside it, since the image is known by its digest.
 * 3. What was fetched stays whole until the tag is set, though a cleaning runs meanwhile: it is held.
 * 4. A mirror that fails in whatever way makes room for the next, at last for the registry itself.
 * 5. What is had by credentials is private unless the registry shows it without (HEAD), and is so before it can be seen: its record is there before
 *    its link. What becomes public becomes so last. What was ours before it was pulled stays ours.
 * 6. Everything has a limit: manifests, layers, blobs (their announced size), time without progress, redirects, tries. */
#include "registry/pull_priv.h"

#include <stdio.h>

#include "http/http.h"
#include "sys/sys.h"

#define PULL_LAYERS_MAX 200
#define CONFIG_BYTES_MAX (8 * MIB)
#define ACCEPT OCI_TYPE_MANIFEST ", " OCI_TYPE_INDEX ", " OCI_TYPE_DOCKER_MANIFEST ", " OCI_TYPE_DOCKER_LIST

/* A manifest on the way from the reference to the image. */
struct level {
    struct buffer bytes;
    struct oci_manifest manifest;
    struct oci_digest digest;
};

/* --- manifests --- */

static int keep_bytes(void *userdata, struct slice bytes) {
    return buffer_append_slice(userdata, bytes);
}

static int check_type(const struct registry_pull *pull, size_t endpoint, const struct hub_call *call, struct diag *diag) {
    if (!strstr(call->type, "docker.distribution.manifest.v1+"))
        return 0;
    return diag_set(diag, -ENOTSUP, "%s has %s as a schema 1 manifest, which is obsolete: push the image again with a current tool",
                    hub_host(atomic_load(&pull->hub), endpoint), pull->reference.name);
}

/* One endpoint's manifest, with its digest compared. */
static int fetch_from(struct registry_pull *pull, struct hub_connection *connection, size_t endpoint, const char *what,
                      const struct oci_digest *wanted, struct level *level, struct diag *diag) {
    struct hub *hub = atomic_load(&pull->hub);
    char path[16 + OCI_TAG_MAX], image[16 + OCI_TAG_MAX];
    snprintf(path, sizeof path, "manifests/%s", what);
    snprintf(image, sizeof image, "image %s", what);
    struct hub_call call = HUB_CALL("GET", path);
    call.accept = ACCEPT;
    call.on_body = keep_bytes;
    call.userdata = &level->bytes;
    int r, attempt = 0;
    do {
        buffer_reset(&level->bytes);
        r = hub_exchange(connection, endpoint, &call, diag);
    } while (hub_waits(connection, &call, r, &attempt));
    if (r == -EMSGSIZE)
        return diag_set(diag, r, "%s sent a manifest of more than %zu bytes", hub_host(hub, endpoint), OCI_MANIFEST_BYTES_MAX);
    if (r < 0 || call.status != 200)
        return r ? r : hub_refused(hub, endpoint, &call, image, diag);
    digest_sha256_hex(buffer_slice(&level->bytes), level->digest.hex);
    if (wanted->hex[0] && !oci_digest_equal(wanted, &level->digest))
        return diag_set(diag, -EBADMSG, "%s sent a manifest with the digest sha256:%s instead of sha256:%s", hub_host(hub, endpoint),
                        level->digest.hex, wanted->hex);
    return check_type(pull, endpoint, &call, diag);
}

/* From the first endpoint that has it; what it leads to is asked for there. */
static int fetch_manifest(struct registry_pull *pull, struct hub_connection *connection, struct arena *arena, const char *what,
                          const struct oci_digest *wanted, struct level *level) {
    struct hub *hub = atomic_load(&pull->hub);
    int r = -ENOENT;
    for (size_t i = pull->endpoint; i < hub_endpoints(hub); i++) {
        r = fetch_from(pull, connection, i, what, wanted, level, &pull->diag);
        if (r == 0)
            r = oci_manifest_parse(arena, buffer_slice(&level->bytes), (struct slice){0}, &level->manifest, &pull->diag);
        if (r == 0 || r == -ECANCELED) {
            pull->endpoint = r ? pull->endpoint : i;
            break;
        }
    }
    return r ? r : pull_hold(pull, &level->digest) ? diag_set(&pull->diag, -ENOMEM, "out of memory") : 0;
}

static const struct oci_descriptor *pick_platform(const struct registry_pull *pull, const struct oci_manifest *index) {
    const struct oci_descriptor *found = NULL;
    int best = 0;
    for (size_t i = 0; i < index->count; i++) {
        const struct oci_descriptor *item = &index->items[i];
        const struct image_platform offered = {item->os, item->architecture, item->variant};
        int rank = image_platform_rank(&pull->platform, &offered);
        if (rank > best) {
            best = rank;
            found = item;
        }
    }
    return found;
}

/* --- what is here --- */

/* 0: it is here, and young again. */
static int look_at_blob(struct registry_pull *pull, const struct oci_digest *digest) {
    int r = pull->options.checks ? content_check_blob(pull->registry->content, digest) : 0;
    return r ? r : content_touch_blob(pull->registry->content, digest);
}

static int read_manifest(struct registry_pull *pull, struct arena *arena, const struct oci_digest *digest, struct oci_manifest *ret) {
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(OCI_MANIFEST_BYTES_MAX + 1);
    if (pull_hold(pull, digest) < 0 || look_at_blob(pull, digest) < 0)
        return -ENOENT;
    int r = content_find_link(pull->registry->content, pull->name, CONTENT_LINK_MANIFEST, digest, NULL);
    r = r ? r : content_read_blob(pull->registry->content, digest, OCI_MANIFEST_BYTES_MAX, &bytes);
    return r ? r : oci_manifest_parse(arena, buffer_slice(&bytes), (struct slice){0}, ret, NULL);
}

/* Is the whole image here, for the platform? *digest becomes its manifest's. */
static bool is_complete(struct registry_pull *pull, struct arena *arena, struct oci_digest *digest) {
    struct oci_manifest manifest;
    for (int depth = 0; depth <= PULL_INDEX_DEPTH_MAX; depth++) {
        if (read_manifest(pull, arena, digest, &manifest) < 0)
            return false;
        if (!manifest.is_index)
            break;
        const struct oci_descriptor *mine = pick_platform(pull, &manifest);
        if (!mine)
            return false;
        *digest = mine->digest;
    }
    bool complete = !manifest.is_index && look_at_blob(pull, &manifest.config.digest) == 0;
    for (size_t i = 0; complete && i < manifest.count; i++)
        complete = look_at_blob(pull, &manifest.items[i].digest) == 0;
    return complete;
}

static const struct docker_config *const *configs_of(const struct registry_pull *pull, const struct docker_config *ret[HUB_CONFIGS]) {
    ret[0] = &pull->credentials;
    ret[1] = &pull->machine;
    return ret;
}

/* 1: it is here and may be had as it is. 0: the registry must be asked. Negative, with diag. */
static int find_here(struct registry_pull *pull, struct arena *arena, struct oci_digest *ret_named) {
    struct registry *registry = pull->registry;
    const struct docker_config *configs[HUB_CONFIGS];
    struct oci_digest named = pull->reference.digest;
    bool by_digest = named.hex[0];
    if (!by_digest && content_get_tag(registry->content, pull->name, pull->reference.tag, &named) < 0)
        return 0;
    pull->digest = named;
    bool is_ours = pull->options.keeps_ours && pulled_is_ours(registry->content, pull->name, &named);
    if (!is_complete(pull, arena, &pull->digest))
        return is_ours ? diag_set(&pull->diag, -ENOENT,
                                  "%s is an image of this platform's own, and part of it is lost or damaged: push or build it again", pull->name)
                       : 0;
    *ret_named = named;
    configs_of(pull, configs);
    enum pulled_verdict verdict = pulled_check(registry->content, &registry->pulled_key, pull->name, &named, &pull->reference, configs);
    if (verdict != PULLED_UNKNOWN && !oci_digest_equal(&named, &pull->digest)) /* an index of ours may name what is not */
        verdict = pulled_check(registry->content, &registry->pulled_key, pull->name, &pull->digest, &pull->reference, configs);
    bool stays = by_digest || pull->options.policy != REGISTRY_PULL_ALWAYS;
    return stays && verdict != PULLED_UNKNOWN;
}

/* --- the end --- */

static int note_origin(struct registry_pull *pull, const struct oci_digest *digest, const struct oci_digest *top) {
    char repo_digest[2 * OCI_NAME_MAX + OCI_DIGEST_TEXT + 4];
    struct registry *registry = pull->registry;
    snprintf(repo_digest, sizeof repo_digest, "%s/%s@sha256:%s", pull->reference.registry, pull->reference.name, top->hex);
    return pulled_note(registry->content, &registry->pulled_key, pull->name, digest, repo_digest, pull->reference.registry, pull->credential);
}

/* Before anything is linked (`before`) and afterwards: opens what was private. */
static int note_levels(struct registry_pull *pull, const struct level *levels, int count, bool before) {
    struct content *content = pull->registry->content;
    int r = 0;
    for (int i = count; r == 0 && i-- > 0;) {
        const struct oci_digest *digest = &levels[i].digest;
        bool opens = !pull->credential && pulled_is_private(content, pull->name, digest);
        if (opens != before && !pulled_is_ours(content, pull->name, digest))
            r = note_origin(pull, digest, &levels[0].digest);
    }
    return r < 0 ? diag_set(&pull->diag, r, "cannot note where the image came from: %s", strerror(-r)) : 0;
}

/* Which hub it is that registry_pull_cancel stops. */
static void attach(struct registry_pull *pull, struct hub *hub) {
    pthread_mutex_lock(&pull->registry->arriving_lock);
    atomic_store(&pull->hub, hub);
    if (hub && atomic_load(&pull->stopping))
        hub_cancel(hub);
    pthread_mutex_unlock(&pull->registry->arriving_lock);
}

static struct hub_options options_of(const struct registry_pull *pull) {
    return (struct hub_options){.reference = &pull->reference,
                                .sites = pull->sites,
                                .pushes = pull->kind != PULL_IMAGE,
                                .insecure = pull->options.insecure,
                                .retry_ms = pull->registry->options.retry_ms};
}

/* Does the registry show the manifest to who brings nothing? A registry that is logged into wants a token for everything, also for what is public. */
static bool is_for_all(struct registry_pull *pull, const struct oci_digest *digest) {
    CLEANUP(hub_freep) struct hub *hub = NULL;
    CLEANUP(hub_connection_freep) struct hub_connection *connection = NULL;
    struct hub *asked = atomic_load(&pull->hub);
    const struct hub_options options = options_of(pull);
    struct diag ignored = DIAG_INIT;
    char path[16 + OCI_DIGEST_TEXT], text[OCI_DIGEST_TEXT];
    snprintf(path, sizeof path, "manifests/%s", oci_digest_format(digest, text));
    struct hub_call call = HUB_CALL("HEAD", path);
    call.accept = ACCEPT;
    if (hub_new(&options, &hub, &ignored) < 0 || hub_connect(hub, &connection) < 0)
        return false;
    attach(pull, hub);
    int r, attempt = 0;
    do
        r = hub_exchange(connection, pull->endpoint, &call, &ignored);
    while (hub_waits(connection, &call, r, &attempt));
    attach(pull, asked);
    return r == 0 && call.status == 200;
}

/* The registry says by HEAD that the tag means what it meant when the image was pulled. Some registries count this less than a GET. */
static bool is_unchanged(struct registry_pull *pull, struct hub_connection *connection, const struct oci_digest *named) {
    struct hub *hub = atomic_load(&pull->hub);
    char path[16 + OCI_TAG_MAX];
    struct oci_digest top;
    struct diag ignored = DIAG_INIT;
    bool known = named->hex[0] && pull->reference.tag[0] && !pull->reference.digest.hex[0];
    snprintf(path, sizeof path, "manifests/%s", pull->reference.tag);
    for (size_t i = 0; known && i < hub_endpoints(hub); i++) {
        struct hub_call call = HUB_CALL("HEAD", path);
        call.accept = ACCEPT;
        int r = hub_exchange(connection, i, &call, &ignored);
        if (r < 0 || call.status != 200)
            continue;
        pull->endpoint = i;
        pull->credential = hub_credential(hub, i);
        bool same = oci_digest_parse(slice_of(call.digest), &top) == 0 && pulled_is_of(pull->registry->content, pull->name, named, &top) &&
                    (pull->credential || !pulled_is_private(pull->registry->content, pull->name, named)) && /* else its links are to be opened too */
                    note_origin(pull, named, &top) == 0;
        pull->endpoint = same ? i : 0;
        return same;
    }
    return false;
}

static int check_config(struct registry_pull *pull, const struct oci_manifest *manifest) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(CONFIG_BYTES_MAX + 1);
    struct tree *root = NULL;
    int r = arena ? content_read_blob(pull->registry->content, &manifest->config.digest, CONFIG_BYTES_MAX, &json) : -ENOMEM;
    r = r ? r : json_parse(arena, buffer_slice(&json), &(struct json_options){.allow_duplicates = true}, &root, NULL);
    const struct tree *diffs = r == 0 ? tree_path(root, "rootfs.diff_ids") : NULL;
    if (r < 0 || tree_count(diffs) != manifest->count)
        return diag_set(&pull->diag, -EBADMSG, "%s is no image: its configuration has %zu layers, its manifest %zu", pull->reference.name,
                        tree_count(diffs), manifest->count);
    for (size_t i = 0; i < tree_count(diffs); i++) {
        struct oci_digest ignored;
        if (oci_digest_parse(slice_of(tree_text_or(tree_at(diffs, i), "")), &ignored) < 0)
            return diag_set(&pull->diag, -EBADMSG, "%s is damaged: diff_id %zu of its configuration is no digest", pull->reference.name, i);
    }
    return 0;
}

static int check_layers(struct registry_pull *pull, const struct oci_manifest *manifest) {
    if (manifest->count > PULL_LAYERS_MAX)
        return diag_set(&pull->diag, -EINVAL, "%s has %zu layers; at most %d are accepted", pull->reference.name, manifest->count, PULL_LAYERS_MAX);
    for (size_t i = 0; i < manifest->count; i++)
        if (strstr(manifest->items[i].media_type, "+encrypted"))
            return diag_set(&pull->diag, -ENOTSUP, "layer %zu of %s is encrypted", i, pull->reference.name);
    return 0;
}

/* The hold ends with the pull, and a cleaning that has marked already knows nothing of the tag: from here on they are young. */
static int touch_blobs(struct content *content, const struct oci_manifest *manifest) {
    int r = content_touch_blob(content, &manifest->config.digest);
    for (size_t i = 0; r == 0 && i < manifest->count; i++)
        r = content_touch_blob(content, &manifest->items[i].digest);
    return r;
}

/* The innermost first, so that nothing names what is not there; the tag last of all. */
static int store_image(struct registry_pull *pull, struct level *levels, int count) {
    struct content *content = pull->registry->content;
    struct oci_digest ignored;
    const char *tag = pull->reference.digest.hex[0] ? "" : pull->reference.tag;
    int r = touch_blobs(content, &levels[count - 1].manifest);
    for (int i = count; r == 0 && i-- > 0;)
        r = content_put_manifest(content, pull->name, "", buffer_slice(&levels[i].bytes), &levels[i].manifest, &ignored);
    pull->digest = levels[count - 1].digest;
    if (r == 0 && *tag)
        r = content_set_tag(content, pull->name, tag, &pull->digest);
    return r < 0 ? diag_set(&pull->diag, r, "cannot store the image: %s", strerror(-r)) : 0;
}

/* For those who unpack while the rest comes. Without a link it is nobody's. */
static int keep_manifest(struct registry_pull *pull, const struct level *level) {
    struct oci_digest ignored;
    int r = content_write_blob(pull->registry->content, buffer_slice(&level->bytes), &ignored);
    return r < 0 ? diag_set(&pull->diag, r, "cannot store the image's manifest: %s", strerror(-r)) : 0;
}

static int fetch_image(struct registry_pull *pull, struct hub_connection *connection, struct arena *arena, struct level *levels) {
    char text[OCI_DIGEST_TEXT];
    const struct oci_digest *wanted = &pull->reference.digest;
    const char *what = wanted->hex[0] ? oci_digest_format(wanted, text) : pull->reference.tag;
    int count = 0, r;
    for (;;) {
        struct level *level = &levels[count++];
        r = fetch_manifest(pull, connection, arena, what, wanted, level);
        if (r < 0)
            return r;
        if (!level->manifest.is_index)
            break;
        const struct oci_descriptor *mine = pick_platform(pull, &level->manifest);
        if (!mine)
            return diag_set(&pull->diag, -ENOENT, "%s has no image for %s/%s%s%s", pull->reference.name, pull->platform.os,
                            pull->platform.architecture, *pull->platform.variant ? "/" : "", pull->platform.variant);
        if (count > PULL_INDEX_DEPTH_MAX)
            return diag_set(&pull->diag, -ENOTSUP, "the indexes of %s are nested deeper than %d", pull->reference.name, PULL_INDEX_DEPTH_MAX);
        wanted = &mine->digest;
        what = oci_digest_format(wanted, text);
    }
    const struct oci_manifest *manifest = &levels[count - 1].manifest;
    pull->credential = hub_credential(atomic_load(&pull->hub), pull->endpoint);
    if (pull->credential && is_for_all(pull, &levels[0].digest))
        pull->credential = NULL;
    r = check_layers(pull, manifest);
    r = r ? r : note_levels(pull, levels, count, true);
    r = r ? r : keep_manifest(pull, &levels[count - 1]);
    r = r ? r : pull_blobs(pull, &levels[count - 1].digest, manifest);
    r = r ? r : check_config(pull, manifest);
    r = r ? r : store_image(pull, levels, count);
    return r ? r : note_levels(pull, levels, count, false);
}

static int pull_from(struct registry_pull *pull, struct hub_connection *connection, struct arena *arena, const struct oci_digest *named) {
    struct level levels[PULL_INDEX_DEPTH_MAX + 2];
    if (is_unchanged(pull, connection, named))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        levels[i].bytes = BUFFER_INIT(OCI_MANIFEST_BYTES_MAX);
    int r = fetch_image(pull, connection, arena, levels);
    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        buffer_deinit(&levels[i].bytes);
    return r;
}

static int ask_registry(struct registry_pull *pull, struct arena *arena, const struct sites *sites, const struct oci_digest *named) {
    CLEANUP(hub_freep) struct hub *hub = NULL;
    CLEANUP(hub_connection_freep) struct hub_connection *connection = NULL;
    pull->sites = sites;
    struct hub_options options = options_of(pull);
    configs_of(pull, options.credentials);
    int r = hub_new(&options, &hub, &pull->diag);
    if (r == 0) {
        attach(pull, hub);
        r = hub_connect(hub, &connection) ? diag_set(&pull->diag, -ENOMEM, "out of memory") : 0;
    }
    if (r == 0)
        r = pull->kind == PULL_IMAGE   ? pull_from(pull, connection, arena, named)
            : pull->kind == PUSH_IMAGE ? push_image(pull, connection, arena)
                                       : login(pull, connection, arena);
    attach(pull, NULL);
    return r;
}

static int work(struct registry_pull *pull, struct arena *arena) {
    struct sites sites = {0};
    struct oci_digest named = {{0}};
    int r = registry_read_sites(pull->registry, arena, &sites, &pull->diag);
    if (r == 0 && pull->kind != LOGIN)
        r = registry_read_credentials(pull->registry, &pull->machine, &pull->diag);
    if (r == 0 && pull->kind == PULL_IMAGE && (r = find_here(pull, arena, &named)) > 0)
        return 0;
    if (r == 0 && pull->kind == PULL_IMAGE && pull->options.policy == REGISTRY_PULL_NEVER)
        r = diag_set(&pull->diag, -ENOENT, "%s is not here, or not for these credentials", pull->reference.name);
    return r ? r : ask_registry(pull, arena, &sites, &named);
}

int pull_work(struct registry_pull *pull) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(2 * TREE_BYTES_MAX);
    return arena ? work(pull, arena) : diag_set(&pull->diag, -ENOMEM, "out of memory");
}

/* Disk use stays bounded: what pushes leave behind goes again. A round takes away, in this order,
 *
 *   image tags of applications beyond the newest builds (keep_images) ──► blobs that nothing reaches ──► unpacked layers, build cache (node) ──► git
 * gc
 *
 * and, when more of the disk is used than the budget allows (disk_budget.c), before all that the images that were pulled from elsewhere and that
 * nobody refers to, who was of use the longest ago first; after a round that freed something but not enough comes another.
 *
 * It runs soon after a pipeline has ended, at start, once a day, when somebody asks (`tidemill image prune`; the node before it lets pods go), and at
 * once when the disk is nearly full. Between rounds there is one timer that looks at the free space.
 *
 * Invariants
 *  1. No tag goes that an object of the API refers to (whatever ReplicaSet, Job, Pod, … has it: see images.c), that a running pipeline has built or
 * will build, or that is no build at all: base images, images of repositories that were never an application's. Pulled images go only when space is
 * needed: they can be pulled again.
 *  2. Tags are chosen and removed in one step of the loop, from committed objects: nothing new can come to refer to them in between.
 *  3. Blobs that pods run from stay, by their digests in the pods' status, though their tag may have moved on.
 *  4. One round at a time; who asks meanwhile gets the next one. A round that fails half way is harmless: each of its steps stands alone.
 *
 * Repositories of deleted applications are known by a mark in the side table, "core/built/<name>", which an application's first image sets. */
#include "core/retention_priv.h"

#include <limits.h>
#include <stdio.h>

#include "core/images_priv.h"

#define LOOK_MS (10 * 60 * 1000) /* at the free space */
#define FIRST_MS (20 * 1000)     /* after the start: the rest of the platform comes first */
#define SOON_MS 2000             /* after a pipeline: its last pods are going, the next one may follow at once */
#define ROUND_NS (24ll * 3600 * 1000000000)
#define URGENT_NS (3600ll * 1000000000) /* a full disk that nothing more can be done about is no reason to try all the time */
#define GRACE_S 3600                    /* of blobs without a tag: an image may be on its way */
#define GRACE_QUIET_S 60                /* the same while nothing is being pushed or built */
#define NODE_TIMEOUT_MS (15 * 60 * 1000)
#define ROUND_ARENA_BYTES_MAX (64 * MIB)
#define BUILT_PREFIX "core/built/"
#define PATH_PREFIX "/tidemill/v1/images"
#define KEPT_TOTAL 2        /* builds per application that stay when everything dispensable has to go */
#define NAME_LISTED_MAX 200 /* of removed images in an answer */

struct waiter {
    struct list node;
    struct http_exchange *exchange;
};

struct retention {
    struct retention_options options;
    struct http_client *node_client;
    struct loop_timer look_timer, soon_timer;
    struct round *round; /* under way */
    struct list waiters; /* for the next round */
    int64_t last_round_ns, last_urgent_ns;
    struct map *uses;         /* "repository:tag" of pulled images → the second in which somebody was last seen to refer to it */
    bool closing, total_next; /* somebody asked for a total one meanwhile */
};

struct round {
    struct retention *retention; /* NULL: gone, while the registry collects garbage */
    struct arena *arena;
    bool urgent, is_total /* as much as possible goes */, is_listing /* a worker reads the registry */, waits_for_node,
        is_put_off /* the registry was busy: blobs go soon */;
    struct list waiters;
    VECTOR(struct image_tag) tags;
    struct content *content;
    const char *state; /* the folder */
    int error;
    uint64_t total, free_before, wanted; /* bytes of pulled images that have to go */
    size_t pulled_removed;
    /* what went */
    VECTOR(const char *) removed; /* "name:tag" */
    struct content_gc_result gc;
    int64_t layers, layer_bytes, cache_bytes;
    char warning[256]; /* what did not work; empty: all did */
};

enum urgency { ROUND_USUAL, ROUND_URGENT, ROUND_MORE /* the last one did not reach the low threshold */, ROUND_TOTAL };
static void round_start(struct retention *retention, enum urgency urgency);

/* --- answering --- */

static void on_waiter_close(void *userdata, struct http_exchange *exchange, bool complete) {
    (void)exchange;
    (void)complete;
    struct waiter *waiter = userdata;
    list_remove(&waiter->node);
    free(waiter);
}

static void waiters_drop(struct list *waiters) {
    for (struct list *node; (node = list_pop(waiters));) /* on_waiter_close frees each, now or later */
        http_respond_text(CONTAINER_OF(node, struct waiter, node)->exchange, 503, "no memory\n");
}

static struct tree *result_tree(const struct round *round, struct arena *arena) {
    struct tree *tree = tree_map(arena), *images = tree_list(arena);
    if (!tree || !images)
        return NULL;
    for (size_t i = 0; i < MIN(round->removed.count, (size_t)NAME_LISTED_MAX); i++)
        tree_push(arena, images, tree_text(arena, round->removed.items[i]));
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {
        {"imagesRemoved", (int64_t)round->removed.count},
        {"blobsRemoved", (int64_t)round->gc.blobs_removed},
        {"blobBytes", (int64_t)round->gc.bytes_removed},
        {"layersRemoved", round->layers},
        {"layerBytes", round->layer_bytes},
        {"cacheBytes", round->cache_bytes},
    };
    tree_set(arena, tree, SLICE("images"), images);
    if (round->warning[0])
        tree_set_text(arena, tree, "warning", round->warning);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        tree_set(arena, tree, slice_of(numbers[i].name), tree_int(arena, numbers[i].value));
    return tree;
}

static void respond_tree(struct http_exchange *exchange, int status, const struct tree *tree) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    if (!tree || json_format(&out, tree) || buffer_append_byte(&out, '\n'))
        http_respond_text(exchange, 500, "no memory\n");
    else
        http_respond(exchange, status, "application/json", buffer_slice(&out), NULL);
}

static void respond_message(struct http_exchange *exchange, int status, const char *hint, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static void respond_message(struct http_exchange *exchange, int status, const char *hint, const char *format, ...) {
    struct arena *arena = http_exchange_arena(exchange);
    struct tree *tree = tree_map(arena);
    va_list args;
    va_start(args, format);
    const char *message = arena_vprintf(arena, format, args);
    va_end(args);
    if (tree && message) {
        tree_set_text(arena, tree, "message", message);
        if (hint)
            tree_set_text(arena, tree, "hint", hint);
        tree_set(arena, tree, SLICE("code"), tree_int(arena, status));
    }
    respond_tree(exchange, status, tree);
}

/* --- the end of a round --- */

static void on_event_answer(void *userdata, const struct http_answer *answer) {
    (void)userdata;
    (void)answer; /* best effort */
}

static void send_event(struct retention *retention, const char *reason, const char *message) {
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(16 * KIB);
    const char *node = retention->options.node_name;
    char time[TIMESTAMP_BYTES];
    int64_t now_ns = loop_wall_ns(retention->options.loop);
    timestamp_format(now_ns, time);
    buffer_printf(&json, "{\"apiVersion\":\"v1\",\"kind\":\"Event\",\"metadata\":{\"name\":\"%s.%016" PRIx64 "\",\"namespace\":\"default\"},", node,
                  (uint64_t)now_ns + slice_hash(slice_of(reason)) % 1000); /* two in one turn have names of their own */
    buffer_printf(&json, "\"involvedObject\":{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"name\":\"%s\",\"uid\":\"%s\"},", node, node);
    buffer_printf(&json, "\"source\":{\"component\":\"tidemill\",\"host\":\"%s\"},\"reportingComponent\":\"tidemill\",\"reportingInstance\":\"%s\",",
                  node, node);
    buffer_printf(&json, "\"type\":\"Warning\",\"reason\":\"%s\",\"count\":1,\"firstTimestamp\":\"%s\",\"lastTimestamp\":\"%s\",\"message\":", reason,
                  time, time);
    json_format_string(&json, slice_of(message));
    buffer_append_byte(&json, '}');
    if (!buffer_error(&json))
        client_request(retention->options.client, "POST", "/api/v1/namespaces/default/events", NULL, buffer_slice(&json), on_event_answer, NULL);
}

static double mebibytes(uint64_t bytes) {
    return (double)bytes / (double)MIB;
}

static void tell(const struct round *round) {
    char text[512];
    uint64_t bytes = round->gc.bytes_removed + (uint64_t)round->layer_bytes + (uint64_t)round->cache_bytes;
    snprintf(text, sizeof text,
             "freed %.1f MiB: %zu images, %" PRIu64 " blobs (%.1f MiB), %" PRId64 " unpacked layers (%.1f MiB), %.1f MiB of build cache",
             mebibytes(bytes), round->removed.count, round->gc.blobs_removed, mebibytes(round->gc.bytes_removed), round->layers,
             mebibytes((uint64_t)round->layer_bytes), mebibytes((uint64_t)round->cache_bytes));
    bool is_scarce = disk_space_is_scarce(&(struct disk_space){.free = round->free_before, .total = round->total});
    if (round->is_total || (round->urgent && is_scarce)) {
        char message[700];
        snprintf(message, sizeof message, "only %.0f MiB of disk space were free; %s", mebibytes(round->free_before), text);
        log_warning("%s", message);
        send_event(round->retention, "DiskNearlyFull", message);
    } else if (bytes || round->removed.count) {
        log_info("%s", text);
    }
}

static void round_free(struct round *round) {
    waiters_drop(&round->waiters);
    VECTOR_DEINIT(&round->tags);
    VECTOR_DEINIT(&round->removed);
    arena_free(round->arena);
    free(round);
}

/* Another round when the last one freed something but not enough; when nothing more can go, that is told. */
static bool goes_on(struct round *round) {
    struct retention *retention = round->retention;
    struct disk_space space = disk_space_of(retention->options.state);
    uint64_t rest = disk_budget_rest(&retention->options.budget, &space),
             freed = space.free > round->free_before ? space.free - round->free_before : 0;
    char message[200];
    if (!round->wanted || round->is_total || round->is_put_off || !rest)
        return false;
    if (round->pulled_removed && round->gc.bytes_removed + (uint64_t)round->layer_bytes)
        return true; /* when nothing came of it (blobs too young), more images would go in vain */
    snprintf(message, sizeof message,
             "Failed to garbage collect required amount of images. Attempted to free %" PRIu64 " bytes, but only found %" PRIu64
             " bytes eligible to free.",
             round->wanted, freed);
    log_warning("%s", message);
    send_event(retention, "FreeDiskSpaceFailed", message);
    return false;
}

static void round_end(struct round *round) {
    struct retention *retention = round->retention;
    tell(round);
    if (round->urgent && round->warning[0])
        send_event(retention, "ImageGCFailed", round->warning);
    bool more = goes_on(round);
    retention->round = NULL;
    for (struct list *node; (node = list_pop(&round->waiters));) {
        struct waiter *waiter = CONTAINER_OF(node, struct waiter, node);
        respond_tree(waiter->exchange, 200, result_tree(round, http_exchange_arena(waiter->exchange)));
    }
    round_free(round);
    forge_clean(retention->options.forge);
    if (more || retention->total_next || !list_empty(&retention->waiters))
        round_start(retention, retention->total_next ? ROUND_TOTAL : more ? ROUND_MORE : ROUND_USUAL);
}

/* --- 3: the node's part --- */

static void warn(struct round *round, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void warn(struct round *round, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(round->warning, sizeof round->warning, format, args);
    va_end(args);
    log_warning("%s", round->warning);
}

static void on_node_answer(void *userdata, const struct http_answer *answer) {
    struct round *round = userdata;
    struct tree *tree = NULL;
    if (!answer->error && answer->status == 200 && json_parse(round->arena, answer->body, NULL, &tree, NULL) == 0) {
        round->layers = tree_int_or(tree_find(tree, "layersRemoved"), 0);
        round->layer_bytes = tree_int_or(tree_find(tree, "layerBytes"), 0);
        round->cache_bytes = tree_int_or(tree_find(tree, "cacheBytesRemoved"), 0);
        const char *message = tree_text_or(tree_find(tree, "message"), "");
        if (*message)
            warn(round, "the node did not free everything: %s", message);
    } else {
        warn(round, "the node did not free disk space: %s", answer->error ? strerror(-answer->error) : "it refused");
    }
    round_end(round);
}

static void prune_node(struct round *round) {
    struct retention *retention = round->retention;
    struct disk_space space = disk_space_of(retention->options.state);
    char target[64];
    snprintf(target, sizeof target, "/prune?cacheBytesMax=%" PRIu64, disk_budget_cache(&space));
    const struct http_request_options options = {.method = "POST", .target = target, .timeout_ms = NODE_TIMEOUT_MS, .body_max = 64 * KIB};
    round->waits_for_node = true;
    if (http_client_send(retention->node_client, &options, on_node_answer, round, NULL))
        round_end(round);
}

/* --- 2: blobs --- */

static void on_collected(void *userdata, int error, const struct content_gc_result *result) {
    struct round *round = userdata;
    if (!round->retention) {
        round_free(round);
        return;
    }
    if (error)
        warn(round, "the registry's garbage could not be collected: %s", strerror(-error));
    else
        round->gc = *result;
    prune_node(round);
}

static void collect_blobs(struct round *round, const struct images_used *used) {
    struct retention *retention = round->retention;
    struct forge_statistics seen;
    forge_statistics(retention->options.forge, &seen);
    bool quiet = seen.builds_running == 0 && seen.jobs_running == 0 && registry_uploads(retention->options.registry) == 0;
    const struct content_gc_options options = {.roots = used->digests_list.items,
                                               .roots_count = used->digests_list.count,
                                               .urgent = round->urgent,
                                               .grace_s = quiet && (round->urgent || !list_empty(&round->waiters)) ? GRACE_QUIET_S : GRACE_S};
    int r = registry_collect_garbage(retention->options.registry, &options, on_collected, round);
    if (r == 0)
        return;
    round->is_put_off = r == -EBUSY; /* somebody counts what could be freed */
    if (round->is_put_off) {
        retention->last_urgent_ns = round->urgent ? 0 : retention->last_urgent_ns;
        loop_timer_set(&retention->soon_timer, SOON_MS);
    }
    warn(round, "the registry's garbage could not be collected: %s", round->is_put_off ? "it is being counted; soon again" : strerror(-r));
    prune_node(round);
}

/* --- 1: tags --- */

static bool is_marked(const struct retention *retention, const char *repository) {
    char key[sizeof BUILT_PREFIX + OCI_NAME_MAX];
    snprintf(key, sizeof key, BUILT_PREFIX "%s", repository);
    return store_meta_get(retention->options.store, slice_of(key)).data != NULL;
}

/* Made by `tidemill image bootstrap` or import: such an image says where it is from. What is built on it inherits that, but names its base as well.
 */
static bool is_base_image(struct round *round, const struct image_tag *tag) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(OCI_MANIFEST_BYTES_MAX + 1);
    struct oci_manifest manifest;
    if (!arena || content_read_blob(round->content, &tag->digest, OCI_MANIFEST_BYTES_MAX, &text) < 0 ||
        oci_manifest_parse(arena, buffer_slice(&text), (struct slice){0}, &manifest, NULL) < 0)
        return false;
    return tree_find(manifest.annotations, "tidemill.dev/source") && !tree_find(manifest.annotations, "org.opencontainers.image.base.digest");
}

/* Nobody refers to it, and nothing that runs will. */
static bool is_free(const struct round *round, const struct images_used *used, const struct image_tag *tag) {
    return !images_used_by(used, tag->repository, tag->tag, &tag->digest) &&
           !forge_awaits_image(round->retention->options.forge, tag->repository, tag->tag);
}

static bool may_go(struct round *round, const struct images_used *used, size_t index) {
    const struct retention *retention = round->retention;
    const struct image_tag *tag = &round->tags.items[index];
    bool has_app = forge_has_app(retention->options.forge, tag->repository);
    size_t kept = round->is_total ? MIN(retention->options.keep_images, (size_t)KEPT_TOTAL) : retention->options.keep_images;
    if (!has_app && !is_marked(retention, tag->repository))
        return false;
    if (has_app && (strcmp(tag->tag, "latest") == 0 || images_rank(round->tags.items, index) < kept))
        return false;
    return is_free(round, used, tag) && !is_base_image(round, tag);
}

static void remove_tag(struct round *round, const struct image_tag *tag) {
    if (content_delete_tag(round->content, tag->repository, tag->tag) < 0)
        return;
    const char *name = arena_printf(round->arena, "%s:%s", tag->repository, tag->tag);
    if (name)
        VECTOR_PUSH(&round->removed, name);
}

static void remove_tags(struct round *round, const struct images_used *used) {
    images_sort(round->tags.items, round->tags.count);
    for (size_t i = 0; i < round->tags.count; i++)
        if (may_go(round, used, i))
            remove_tag(round, &round->tags.items[i]);
}

/* When each pulled image was last of use, carried on from round to round; what is gone is forgotten. */
static void note_uses(struct round *round, const struct images_used *used) {
    struct retention *retention = round->retention;
    struct map *uses = map_new();
    int64_t now_ns = loop_wall_ns(retention->options.loop);
    for (size_t i = 0; uses && i < round->tags.count; i++) {
        struct image_tag *tag = &round->tags.items[i];
        char key[OCI_NAME_MAX + OCI_TAG_MAX + 2];
        if (!tag->is_pulled)
            continue;
        snprintf(key, sizeof key, "%s:%s", tag->repository, tag->tag);
        tag->is_needed = !is_free(round, used, tag);
        tag->used_ns = tag->is_needed ? now_ns : (int64_t)(uintptr_t)map_find(retention->uses, slice_of(key)) * 1000000000;
        if (tag->used_ns)
            map_put(uses, slice_of(key), (void *)(uintptr_t)(tag->used_ns / 1000000000), NULL);
    }
    if (!uses)
        return;
    map_free(retention->uses);
    retention->uses = uses;
}

static void remove_pulled(struct round *round) {
    struct retention *retention = round->retention;
    size_t *chosen = round->wanted ? ARENA_ARRAY(round->arena, size_t, round->tags.count + 1) : NULL;
    if (!chosen)
        return;
    int64_t before_ns = loop_wall_ns(retention->options.loop) - retention->options.budget.age_ns_min;
    round->pulled_removed = images_choose(round->tags.items, round->tags.count, round->wanted, before_ns, chosen);
    for (size_t i = 0; i < round->pulled_removed; i++)
        remove_tag(round, &round->tags.items[chosen[i]]);
}

static void list_done(void *userdata) {
    struct round *round = userdata;
    struct retention *retention = round->retention;
    struct images_used used;
    round->is_listing = false;
    if (retention->closing) {
        retention->round = NULL;
        round_free(round);
        return;
    }
    int error = images_used_init(&used, round->arena);
    error = error ? error : images_used_collect(&used, retention->options.store);
    error = error ? error : round->error;
    if (!error) {
        remove_tags(round, &used);
        note_uses(round, &used);
        remove_pulled(round);
    } else
        warn(round, "images could not be looked through: %s", strerror(-error));
    if (error)
        prune_node(round);
    else
        collect_blobs(round, &used);
    images_used_deinit(&used);
}

/* Whether it came from another registry, and its size as it is stored; what cannot be told counts nothing. */
static void look_at_image(struct round *round, struct image_tag *tag) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(OCI_MANIFEST_BYTES_MAX + 1);
    struct oci_manifest manifest;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/registry/repositories/%s/_pulled/%s", round->state, tag->repository, tag->digest.hex);
    tag->is_pulled = access(path, F_OK) == 0;
    if (!tag->is_pulled || !arena || content_read_blob(round->content, &tag->digest, OCI_MANIFEST_BYTES_MAX, &text) < 0 ||
        oci_manifest_parse(arena, buffer_slice(&text), (struct slice){0}, &manifest, NULL) < 0)
        return;
    for (size_t i = 0; i < manifest.count; i++)
        tag->bytes += (uint64_t)MAX(manifest.items[i].size_bytes, 0);
}

static int list_repository(struct round *round, const char *name) {
    char **tags = NULL;
    size_t count = 0;
    int r = content_list_tags(round->content, round->arena, name, &tags, &count);
    for (size_t i = 0; r == 0 && i < count; i++) {
        struct image_tag tag = {.repository = name, .tag = tags[i]};
        if (content_get_tag(round->content, name, tags[i], &tag.digest) == 0 &&
            content_get_tag_time(round->content, name, tags[i], &tag.time_ns) == 0) {
            look_at_image(round, &tag);
            r = VECTOR_PUSH(&round->tags, tag);
        }
    }
    return r == -ENOENT ? 0 : r;
}

static void list_work(void *userdata) {
    struct round *round = userdata;
    char **names = NULL;
    size_t count = 0;
    round->error = content_list_repositories(round->content, round->arena, &names, &count);
    for (size_t i = 0; round->error == 0 && i < count; i++)
        round->error = list_repository(round, names[i]);
}

static void round_start(struct retention *retention, enum urgency urgency) {
    struct disk_space space = disk_space_of(retention->options.state);
    struct round *round = calloc(1, sizeof *round);
    if (!round || !(round->arena = arena_new(ROUND_ARENA_BYTES_MAX))) {
        free(round);
        return;
    }
    list_init(&round->waiters);
    for (struct list *node; (node = list_pop(&retention->waiters));)
        list_push(&round->waiters, node);
    round->retention = retention;
    round->content = registry_content(retention->options.registry);
    round->state = retention->options.state;
    round->urgent = urgency != ROUND_USUAL;
    round->is_total = urgency == ROUND_TOTAL;
    round->total = space.total;
    round->free_before = space.free;
    round->wanted =
        round->is_total ? UINT64_MAX : (urgency == ROUND_MORE ? disk_budget_rest : disk_budget_excess)(&retention->options.budget, &space);
    retention->total_next = false;
    retention->last_round_ns = loop_now_ns(retention->options.loop);
    retention->round = round;
    round->is_listing = true;
    if (loop_work(retention->options.loop, LOOP_MEASURE, list_work, list_done, round)) {
        retention->round = NULL;
        round_free(round);
    }
}

/* --- when --- */

static bool is_scarce(const struct retention *retention, const struct disk_space *space) {
    return disk_space_is_scarce(space) || disk_budget_excess(&retention->options.budget, space);
}

static void look(void *userdata) {
    struct retention *retention = userdata;
    struct disk_space space = disk_space_of(retention->options.state);
    int64_t now_ns = loop_now_ns(retention->options.loop);
    bool scarce = is_scarce(retention, &space);
    bool urgent = scarce && (!retention->last_urgent_ns || now_ns - retention->last_urgent_ns >= URGENT_NS);
    bool due = !retention->last_round_ns || now_ns - retention->last_round_ns >= ROUND_NS;
    loop_timer_set(&retention->look_timer, LOOK_MS);
    if ((!urgent && !due) || retention->round)
        return;
    if (urgent)
        retention->last_urgent_ns = now_ns;
    round_start(retention, urgent ? ROUND_URGENT : ROUND_USUAL);
}

static void on_soon(void *userdata) {
    struct retention *retention = userdata;
    struct disk_space space = disk_space_of(retention->options.state);
    if (is_scarce(retention, &space))
        look(retention);
    if (!retention->round)
        round_start(retention, ROUND_USUAL);
    else
        loop_timer_set(&retention->soon_timer, SOON_MS);
}

void retention_soon(struct retention *retention) {
    loop_timer_set(&retention->soon_timer, SOON_MS);
}

static void on_marked(void *userdata, int error) {
    (void)userdata;
    (void)error; /* the next build marks again */
}

void retention_note_build(struct retention *retention, const char *repository) {
    char key[sizeof BUILT_PREFIX + OCI_NAME_MAX];
    snprintf(key, sizeof key, BUILT_PREFIX "%s", repository);
    if (!store_meta_get(retention->options.store, slice_of(key)).data)
        store_meta_put(retention->options.store, slice_of(key), SLICE("1"), on_marked, NULL);
}

/* --- asked --- */

static void serve_prune(struct retention *retention, struct http_exchange *exchange) {
    struct waiter *waiter = calloc(1, sizeof *waiter);
    struct query query;
    bool is_read = query_parse(http_exchange_arena(exchange), http_query_text(exchange), &query) == 0;
    if (!waiter || !is_read) {
        free(waiter);
        return respond_message(exchange, is_read ? 503 : 400, NULL, is_read ? "no memory" : "the query cannot be read");
    }
    bool total = query_flag(&query, "total"); /* by the node, before it lets pods go */
    waiter->exchange = exchange;
    list_push(&retention->waiters, &waiter->node);
    http_on_close(exchange, on_waiter_close, waiter);
    if (!retention->round)
        round_start(retention, total ? ROUND_TOTAL : ROUND_USUAL);
    else
        retention->total_next = retention->total_next || total;
}

static void serve_remove(struct retention *retention, struct http_exchange *exchange) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(ROUND_ARENA_BYTES_MAX);
    struct content *content = registry_content(retention->options.registry);
    struct query query;
    struct images_used used;
    struct oci_digest digest;
    if (!arena || query_parse(http_exchange_arena(exchange), http_query_text(exchange), &query))
        return respond_message(exchange, 400, NULL, "the query cannot be read");
    const char *name = query_find(&query, "name"), *tag = query_find(&query, "tag");
    if (!name || !tag || !oci_name_is_valid(slice_of(name)) || !oci_tag_is_valid(slice_of(tag)))
        return respond_message(exchange, 422, "images are named NAME:TAG, as `tidemill image list` shows them", "this is no image's name");
    int error = content_get_tag(content, name, tag, &digest);
    if (error == -ENOENT)
        return respond_message(exchange, 404, "`tidemill image list` shows what there is", "there is no image %s:%s", name, tag);
    error = images_used_init(&used, arena);
    error = error ? error : images_used_collect(&used, retention->options.store);
    const char *holder = error ? NULL : images_used_by(&used, name, tag, &digest);
    if (error)
        respond_message(exchange, 503, NULL, "no memory");
    else if (holder)
        respond_message(exchange, 409, "delete or change that object first", "%s:%s is in use by %s", name, tag, holder);
    else if (forge_awaits_image(retention->options.forge, name, tag) || strcmp(name, BUILDER_IMAGE_NAME) == 0)
        respond_message(exchange, 409, NULL, "%s:%s is needed by %s", name, tag,
                        strcmp(name, BUILDER_IMAGE_NAME) == 0 ? "the platform, to build images" : "a running pipeline");
    else if ((error = content_delete_tag(content, name, tag)) < 0)
        respond_message(exchange, 500, NULL, "%s:%s cannot be removed: %s", name, tag, strerror(-error));
    else
        respond_message(exchange, 200, NULL, "removed %s:%s", name, tag);
    images_used_deinit(&used);
}

bool retention_handle(struct retention *retention, struct http_exchange *exchange) {
    struct slice path = http_path(exchange), method = http_method(exchange);
    bool is_prune = slice_is(path, PATH_PREFIX "/prune");
    if (!is_prune && !slice_is(path, PATH_PREFIX))
        return false;
    if (is_prune && slice_is(method, "POST"))
        serve_prune(retention, exchange);
    else if (!is_prune && slice_is(method, "DELETE"))
        serve_remove(retention, exchange);
    else
        respond_message(exchange, 405, NULL, "this method is not allowed here");
    return true;
}

/* --- life --- */

int retention_new(const struct retention_options *options, struct retention **ret, struct diag *diag) {
    struct retention *retention = calloc(1, sizeof *retention);
    if (!retention)
        return diag_set(diag, -ENOMEM, "no memory");
    char endpoint[PATH_MAX];
    snprintf(endpoint, sizeof endpoint, "unix:%s/node.sock", options->run);
    retention->options = *options;
    if (!retention->options.keep_images)
        retention->options.keep_images = IMAGES_KEPT_DEFAULT;
    list_init(&retention->waiters);
    retention->uses = map_new();
    loop_timer_init(&retention->look_timer, options->loop, look, retention);
    loop_timer_init(&retention->soon_timer, options->loop, on_soon, retention);
    const struct http_client_options client = {.endpoint = endpoint, .connections_max = 1};
    int error = retention->uses ? http_client_new(options->loop, &client, &retention->node_client) : -ENOMEM;
    error = error ? error : loop_timer_set(&retention->look_timer, FIRST_MS);
    if (error) {
        retention_free(retention);
        return diag_set(diag, error, "cannot watch over the disk: %s", strerror(-error));
    }
    *ret = retention;
    return 0;
}

void retention_free(struct retention *retention) {
    if (!retention)
        return;
    retention->closing = true;
    loop_timer_cancel(&retention->look_timer);
    loop_timer_cancel(&retention->soon_timer);
    while (retention->round && retention->round->is_listing && loop_turn(retention->options.loop, -1) >= 0)
        ;
    struct round *round = retention->round;
    http_client_free(retention->node_client); /* no callback: a round that waits for the node is ours to free */
    if (round && round->waits_for_node)
        round_free(round);
    else if (round)
        round->retention = NULL; /* the registry has it, and gives it back when it is freed */
    map_free(retention->uses);
    free(retention);
}

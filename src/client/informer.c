/* Informers: list, then watch from the list's resourceVersion, for ever.
 *
 *   LISTING ──200──► WATCHING ──stream ends──► (pause) ──► WATCHING again from the last resourceVersion
 *      ▲                 └──410, in the answer or as an ERROR event──► LISTING
 *      └── failure: pause (100 ms doubling to 10 s, at once after something went well)
 *
 * Invariants
 * 1. `objects` is always a state the server had: a list replaces it by differences, in one go; each event changes one object.
 * 2. A list that fails in the middle changes nothing: it is decoded completely before the first callback.
 * 3. resource_version only ever comes from the server, and is that of the last thing applied (bookmarks move it on while nothing happens).
 * 4. After every callback `gone` tells whether the informer was freed.
 * 5. What cannot be taken in for want of memory is not passed over: the informer forgets the version and lists again after a pause.
 * An object that cannot be decoded is skipped: one broken object must not blind us to all others. */
#include <stdio.h>

#include "client/client.h"
#include "client/informer_priv.h"

#define BACKOFF_MS_MIN 100
#define BACKOFF_MS_MAX 10000
#define LIST_ARENA_BYTES_MAX (512 * MIB)
#define EVENT_BYTES_MAX (16 * MIB) /* one line of a watch */

struct informer {
    struct client *client;
    const struct kube_kind *kind;
    struct informer_options options;
    char *path; /* with the selectors as a query */
    struct map *objects;
    char *resource_version; /* NULL: list first */
    bool synced;
    bool progress; /* the current watch has delivered something */
    int64_t backoff_ms;
    int watch_status;
    struct http_request *request;
    struct loop_timer timer;
    struct loop_defer timer_again; /* there was no memory to set the timer */
    struct buffer line;
    bool *gone;
};

static void list(struct informer *informer);
static void watch(struct informer *informer);

/* --- going on after an end --- */

static void on_timer(void *userdata) {
    struct informer *informer = userdata;
    if (informer->resource_version)
        watch(informer);
    else
        list(informer);
}

static void forget_version(struct informer *informer) {
    free(informer->resource_version);
    informer->resource_version = NULL;
}

static void go_on(struct informer *informer, bool at_once) {
    int64_t delay_ms = at_once ? 0 : informer->backoff_ms;
    informer->backoff_ms = at_once ? BACKOFF_MS_MIN : MIN(informer->backoff_ms * 2, (int64_t)BACKOFF_MS_MAX);
    buffer_reset(&informer->line);
    buffer_release(&informer->line);
    if (loop_timer_set(&informer->timer, delay_ms) < 0)
        loop_defer_schedule(&informer->timer_again);
}

static void on_timer_again(void *userdata) {
    struct informer *informer = userdata;
    go_on(informer, false);
}

/* --- objects --- */

static int object_key(const struct kube_object *object, char *key, size_t size) {
    const struct kube_object_meta *metadata = object->metadata;
    if (!metadata->name)
        return -EINVAL;
    int len = snprintf(key, size, "%s/%s", metadata->namespace ? metadata->namespace : "", metadata->name);
    return len < 0 || (size_t)len >= size ? -ENAMETOOLONG : 0;
}

static bool same_version(const struct kube_object *a, const struct kube_object *b) {
    const char *version_a = a->metadata->resource_version, *version_b = b->metadata->resource_version;
    const char *uid_a = a->metadata->uid, *uid_b = b->metadata->uid;
    return version_a && version_b && strcmp(version_a, version_b) == 0 && strcmp(uid_a ? uid_a : "", uid_b ? uid_b : "") == 0;
}

/* Calls on_event; false when the informer was freed in it. */
static bool tell(struct informer *informer, enum informer_event event, struct kube_object *object, struct kube_object *old) {
    bool gone = false;
    if (!informer->options.on_event)
        return true;
    informer->gone = &gone;
    informer->options.on_event(informer->options.userdata, event, object, old);
    if (!gone)
        informer->gone = NULL;
    return !gone;
}

/* What came of taking something in. LOST: it could not be kept, only a list will bring it. */
enum outcome { OUTCOME_GOOD, OUTCOME_FREED, OUTCOME_STALE, OUTCOME_BROKEN, OUTCOME_LOST };

/* Takes the caller's reference to the object. */
static enum outcome put_object(struct informer *informer, struct kube_object *object) {
    char key[600];
    CLEANUP(kube_object_unrefp) struct kube_object *before = NULL;
    bool usable = object_key(object, key, sizeof key) == 0;
    const struct kube_object *known = usable ? map_find(informer->objects, slice_of(key)) : NULL;
    void *old = NULL;
    bool wanted = usable && !(known && same_version(known, object));
    if (!wanted || map_put(informer->objects, slice_of(key), object, &old) < 0) {
        kube_object_unref(object);
        return wanted ? OUTCOME_LOST : OUTCOME_GOOD;
    }
    before = old;
    CLEANUP(kube_object_unrefp) struct kube_object *held = kube_object_ref(object); /* the callback may make it leave the map */
    return tell(informer, before ? INFORMER_UPDATED : INFORMER_ADDED, held, before) ? OUTCOME_GOOD : OUTCOME_FREED;
}

/* `last`: the object as it was at its end, NULL: only the key is known. */
static bool remove_object(struct informer *informer, struct slice key, struct kube_object *last) {
    CLEANUP(kube_object_unrefp) struct kube_object *old = map_remove(informer->objects, key);
    return !old || tell(informer, INFORMER_DELETED, last ? last : old, old);
}

static int set_version(struct informer *informer, const char *version) {
    if (!version || !*version)
        return 0;
    char *copy = strdup(version);
    if (!copy)
        return -ENOMEM;
    free(informer->resource_version);
    informer->resource_version = copy;
    return 0;
}

/* --- listing --- */

struct listed {
    struct kube_object **objects;
    size_t count;
};

static void listed_deinit(struct listed *listed) {
    for (size_t i = 0; i < listed->count; i++)
        kube_object_unref(listed->objects[i]);
    free(listed->objects);
}

static int decode_list(const struct informer *informer, const struct tree *items, struct listed *ret) {
    ret->objects = calloc(tree_count(items) + 1, sizeof *ret->objects);
    if (!ret->objects)
        return -ENOMEM;
    for (size_t i = 0; i < tree_count(items); i++) {
        struct diag ignored = DIAG_INIT;
        int r = kube_decode_tree(informer->kind, tree_at(items, i), KUBE_LENIENT, &ret->objects[ret->count], &ignored);
        if (r == -ENOMEM)
            return r;
        ret->count += r == 0;
    }
    return 0;
}

/* What is in our objects and not in the list has gone. */
static enum outcome remove_unlisted(struct informer *informer, const struct listed *listed) {
    CLEANUP(map_freep) struct map *present = map_new();
    char text[600];
    if (!present)
        return OUTCOME_LOST;
    for (size_t i = 0; i < listed->count; i++)
        if (object_key(listed->objects[i], text, sizeof text) == 0 && map_put(present, slice_of(text), listed->objects[i], NULL) < 0)
            return OUTCOME_LOST;
    struct slice key;
    void *value;
    for (size_t at = 0; map_next(informer->objects, &at, &key, &value);) {
        if (map_find(present, key))
            continue;
        snprintf(text, sizeof text, "%.*s", SLICE_ARG(key));
        if (!remove_object(informer, slice_of(text), NULL))
            return OUTCOME_FREED;
    }
    return OUTCOME_GOOD;
}

static enum outcome apply_list(struct informer *informer, struct listed *listed) {
    enum outcome outcome = remove_unlisted(informer, listed);
    for (size_t i = 0; i < listed->count && outcome == OUTCOME_GOOD; i++)
        outcome = put_object(informer, kube_object_ref(listed->objects[i]));
    if (outcome != OUTCOME_GOOD || informer->synced)
        return outcome;
    informer->synced = true;
    if (!informer->options.on_synced)
        return OUTCOME_GOOD;
    bool gone = false;
    informer->gone = &gone;
    informer->options.on_synced(informer->options.userdata);
    if (!gone)
        informer->gone = NULL;
    return gone ? OUTCOME_FREED : OUTCOME_GOOD;
}

static int read_list(struct informer *informer, const struct http_answer *answer, struct listed *listed) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(LIST_ARENA_BYTES_MAX);
    struct tree *root;
    struct diag ignored = DIAG_INIT;
    int r = client_check(answer, NULL);
    if (r < 0)
        return r;
    r = arena ? json_parse(arena, answer->body, NULL, &root, &ignored) : -ENOMEM;
    if (r == 0)
        r = decode_list(informer, tree_find(root, "items"), listed);
    if (r == 0)
        r = set_version(informer, tree_text_or(tree_path(root, "metadata.resourceVersion"), NULL));
    if (r == 0 && !informer->resource_version)
        r = -EBADMSG;
    return r;
}

static void on_list(void *userdata, const struct http_answer *answer) {
    struct informer *informer = userdata;
    struct listed listed = {0};
    informer->request = NULL;
    int r = read_list(informer, answer, &listed);
    enum outcome outcome = r < 0 ? OUTCOME_BROKEN : apply_list(informer, &listed);
    listed_deinit(&listed);
    if (outcome == OUTCOME_LOST)
        forget_version(informer);
    if (outcome == OUTCOME_LOST || outcome == OUTCOME_BROKEN)
        go_on(informer, false);
    else if (outcome == OUTCOME_GOOD)
        watch(informer);
}

static void list(struct informer *informer) {
    struct http_request_options options = {.method = "GET", .target = informer->path, .body_max = 256 * MIB};
    static const struct http_field fields[] = {{"Accept", "application/json"}, {NULL, NULL}};
    options.fields = fields;
    if (http_client_send(client_http(informer->client), &options, on_list, informer, &informer->request) < 0)
        go_on(informer, false);
}

/* --- watching --- */

static enum outcome apply_object(struct informer *informer, const struct tree *tree, bool deleted) {
    struct kube_object *object;
    struct diag ignored = DIAG_INIT;
    int r = kube_decode_tree(informer->kind, tree, KUBE_LENIENT, &object, &ignored);
    if (r < 0)
        return r == -ENOMEM ? OUTCOME_LOST : OUTCOME_GOOD;
    if (!deleted)
        return put_object(informer, object);
    char key[600];
    CLEANUP(kube_object_unrefp) struct kube_object *last = object;
    if (object_key(last, key, sizeof key) < 0)
        return OUTCOME_GOOD;
    return remove_object(informer, slice_of(key), last) ? OUTCOME_GOOD : OUTCOME_FREED;
}

static enum outcome apply_event(struct informer *informer, struct slice line) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    struct tree *root;
    struct diag ignored = DIAG_INIT;
    if (slice_trim(line).len == 0)
        return OUTCOME_GOOD;
    if (!arena || json_parse(arena, line, NULL, &root, &ignored) < 0)
        return OUTCOME_BROKEN;
    const char *type = tree_text_or(tree_find(root, "type"), "");
    const struct tree *object = tree_find(root, "object");
    if (strcmp(type, "ERROR") == 0)
        return tree_int_or(tree_find(object, "code"), 0) == 410 ? OUTCOME_STALE : OUTCOME_BROKEN;
    if (set_version(informer, tree_text_or(tree_path(object, "metadata.resourceVersion"), NULL)) < 0)
        return OUTCOME_BROKEN;
    informer->progress = true;
    if (strcmp(type, "BOOKMARK") == 0)
        return OUTCOME_GOOD;
    return apply_object(informer, object, strcmp(type, "DELETED") == 0);
}

/* Ends the watch from within. */
static void stop_watch(struct informer *informer, enum outcome outcome) {
    http_request_cancel(TAKE(informer->request));
    if (outcome == OUTCOME_STALE || outcome == OUTCOME_LOST)
        forget_version(informer);
    go_on(informer, outcome == OUTCOME_STALE && informer->progress);
}

static void on_watch_head(void *userdata, const struct http_answer *head) {
    struct informer *informer = userdata;
    informer->watch_status = head->status;
}

static void on_watch_data(void *userdata, struct slice data) {
    struct informer *informer = userdata;
    while (data.len > 0 && informer->watch_status == 200) {
        struct slice rest = data, piece = slice_cut(&rest, '\n');
        bool whole = rest.data != NULL;
        if (whole && informer->line.len == 0) {
            data = rest;
        } else {
            if (buffer_append_slice(&informer->line, piece) < 0) {
                stop_watch(informer, OUTCOME_BROKEN);
                return;
            }
            if (!whole)
                return;
            data = rest;
            piece = buffer_slice(&informer->line);
        }
        enum outcome outcome = apply_event(informer, piece);
        if (outcome == OUTCOME_FREED)
            return;
        buffer_reset(&informer->line);
        buffer_release(&informer->line);
        if (outcome != OUTCOME_GOOD) {
            stop_watch(informer, outcome);
            return;
        }
    }
}

static void on_watch_end(void *userdata, int error) {
    struct informer *informer = userdata;
    informer->request = NULL;
    bool refused = error == 0 && informer->watch_status != 200;
    if (refused) /* 410 above all; whatever it is, a list will tell */
        forget_version(informer);
    go_on(informer, informer->progress || (error == 0 && informer->watch_status == 410));
}

static void watch(struct informer *informer) {
    static const struct http_stream_handlers handlers = {.on_head = on_watch_head, .on_data = on_watch_data, .on_end = on_watch_end};
    static const struct http_field fields[] = {{"Accept", "application/json"}, {NULL, NULL}};
    CLEANUP(buffer_deinit) struct buffer target = BUFFER_INIT(HTTP_TARGET_BYTES_MAX);
    informer->progress = false;
    informer->watch_status = 0;
    buffer_printf(&target, "%s%cwatch=true&allowWatchBookmarks=true&resourceVersion=", informer->path, strchr(informer->path, '?') ? '&' : '?');
    percent_encode(&target, slice_of(informer->resource_version));
    struct http_request_options options = {.method = "GET", .target = target.data, .fields = fields};
    if (buffer_error(&target) || http_client_stream(client_http(informer->client), &options, &handlers, informer, &informer->request) < 0)
        go_on(informer, false);
}

/* --- the caller's side --- */

static int append_selector(struct buffer *path, const char *name, const char *selector) {
    if (!selector || !*selector)
        return 0;
    buffer_printf(path, "%c%s=", memchr(path->data, '?', path->len) ? '&' : '?', name);
    return percent_encode(path, slice_of(selector));
}

static int build_path(struct informer *informer) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * KIB);
    CLEANUP(buffer_deinit) struct buffer path = BUFFER_INIT(HTTP_TARGET_BYTES_MAX / 2);
    const char *base = arena ? client_path(arena, informer->kind, informer->options.namespace, NULL, NULL) : NULL;
    if (!base)
        return -ENOMEM;
    int r = buffer_append_text(&path, base);
    if (r == 0)
        r = append_selector(&path, "fieldSelector", informer->options.field_selector);
    if (r == 0)
        r = append_selector(&path, "labelSelector", informer->options.label_selector);
    if (r < 0)
        return r;
    informer->path = buffer_take(&path);
    return informer->path ? 0 : -ENOMEM;
}

int informer_new(struct client *client, const struct kube_kind *kind, const struct informer_options *options, struct informer **ret) {
    struct informer *informer = calloc(1, sizeof *informer);
    if (!informer)
        return -ENOMEM;
    *informer = (struct informer){.client = client, .kind = kind, .options = *options, .backoff_ms = BACKOFF_MS_MIN};
    buffer_init(&informer->line, EVENT_BYTES_MAX);
    loop_timer_init(&informer->timer, client_loop(client), on_timer, informer);
    loop_defer_init(&informer->timer_again, client_loop(client), on_timer_again, informer);
    informer->objects = map_new();
    int r = informer->objects ? build_path(informer) : -ENOMEM;
    if (r < 0) {
        informer_free(informer);
        return r;
    }
    list(informer);
    *ret = informer;
    return 0;
}

void informer_free(struct informer *informer) {
    if (!informer)
        return;
    if (informer->gone)
        *informer->gone = true;
    http_request_cancel(informer->request);
    loop_timer_cancel(&informer->timer);
    loop_defer_cancel(&informer->timer_again);
    void *object;
    for (size_t at = 0; informer->objects && map_next(informer->objects, &at, NULL, &object);)
        kube_object_unref(object);
    map_free(informer->objects);
    buffer_deinit(&informer->line);
    free(informer->path);
    free(informer->resource_version);
    free(informer);
}

bool informer_synced(const struct informer *informer) {
    return informer->synced;
}

struct kube_object *informer_find(const struct informer *informer, const char *namespace, const char *name) {
    char key[600];
    int len = snprintf(key, sizeof key, "%s/%s", namespace ? namespace : "", name);
    return len < 0 || (size_t)len >= sizeof key ? NULL : map_find(informer->objects, slice_of(key));
}

struct kube_object *informer_next(const struct informer *informer, size_t *at) {
    void *object;
    return map_next(informer->objects, at, NULL, &object) ? object : NULL;
}

size_t informer_count(const struct informer *informer) {
    return map_count(informer->objects);
}

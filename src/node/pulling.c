/* An image made ready for a pod: found in our registry's store or fetched from the registry that its name means, and unpacked. Containers and image
 * volumes come here.
 *
 *   LOOKING (worker: resolve, unpack) ──► here, and the pod may use it ─────────────► done
 *      │  not here, or to be asked for again                                            ▲
 *      └──► FETCHING (core), and unpacking what comes ──► UNPACKING (worker) the rest ──┘
 *
 * Invariants
 *  1. What is pushed or built here is ours: it is used as it is, whatever the policy, and no other registry is asked. What came from elsewhere is
 * asked for again under the policy Always, and when it came by credentials: core knows by which, and lets a pod have it that shows the same.
 *  2. Those that want the same with the same rights at the same time share one effort: fifty pods of a new image unpack it once.
 *  3. Events are worded as kubelet's. Waiting and trying again is the caller's. */
#include "node/node_priv.h"

#define KEY_BYTES_MAX (16 * KIB)

struct effort {
    struct node *node;
    char *key;
    struct list pullings; /* those who wait for it */
    struct image_request *look;
    struct remote_image *fetch;
    struct image_arrival *ahead; /* unpacks what comes while it comes */
    bool fetched;
    int64_t fetch_began_ms; /* 0: nothing was fetched that anybody was told of */
};

struct pulling {
    struct list node;
    struct effort *effort;
    struct pod *pod;
    const struct unit *unit;
    char *image;
    enum pulling_policy policy;
    bool quiet, checks;
    pulling_fn *on_done;
    void *userdata;
    int64_t began_ms;
};

enum pulling_policy pulling_policy_of(const char *policy, const char *image) {
    if (policy && strcmp(policy, "Never") == 0)
        return PULLING_NEVER;
    if (policy && strcmp(policy, "Always") == 0)
        return PULLING_ALWAYS;
    if (policy && *policy)
        return PULLING_IF_NOT_PRESENT;
    CLEANUP(arena_freep) struct arena *arena = arena_new(4 * KIB);
    struct image_reference reference;
    bool latest = arena && image_reference_parse(arena, slice_of(image), NULL, &reference, NULL) == 0 && !reference.digest &&
                  strcmp(reference.tag, "latest") == 0;
    return latest ? PULLING_ALWAYS : PULLING_IF_NOT_PRESENT;
}

/* --- what may be used as it is --- */

static bool is_usable_now(const struct image *image) {
    return !image->is_private;
}
static bool is_ours(const struct image *image) {
    return !image->is_pulled;
}
static image_wanted_fn *wanted_by(const struct effort *effort, enum pulling_policy policy) {
    return effort->fetched ? NULL : policy == PULLING_ALWAYS ? is_ours : is_usable_now;
}

/* --- the end --- */

static void effort_free(struct effort *effort) {
    if (!effort)
        return;
    image_request_cancel(effort->look);
    remote_image_free(effort->fetch);
    image_arrival_cancel(effort->ahead);
    free(effort->key);
    free(effort);
}

static void pulling_free(struct pulling *pulling) {
    list_remove(&pulling->node);
    free(pulling->image);
    free(pulling);
}

static struct pulling *first_of(const struct effort *effort) {
    return CONTAINER_OF(effort->pullings.next, struct pulling, node);
}

/* Go's way with durations: "1.234s", "56ms", "1m2.5s". */
static const char *format_duration(int64_t ms, char ret[32]) {
    if (ms < 1000)
        return snprintf(ret, 32, "%" PRId64 "%s", ms, ms ? "ms" : "s"), ret;
    int at = ms >= 3600000 ? snprintf(ret, 32, "%" PRId64 "h%" PRId64 "m", ms / 3600000, ms / 60000 % 60)
             : ms >= 60000 ? snprintf(ret, 32, "%" PRId64 "m", ms / 60000)
                           : 0;
    at += snprintf(ret + at, 32 - (size_t)at, "%" PRId64 ".%03" PRId64, ms / 1000 % 60, ms % 1000);
    while (ret[at - 1] == '0')
        at--;
    at -= ret[at - 1] == '.';
    snprintf(ret + at, 32 - (size_t)at, "s");
    return ret;
}

static void tell_ready(const struct effort *effort, const struct pulling *pulling, const struct image *image) {
    char took[32], waited[32];
    int64_t now_ms = loop_now_ns(effort->node->loop) / 1000000;
    if (pulling->quiet)
        return;
    if (!effort->fetch_began_ms)
        return event_pod(pulling->pod, pulling->unit, "Normal", "Pulled", "Container image \"%s\" already present on machine", pulling->image);
    event_pod(pulling->pod, pulling->unit, "Normal", "Pulled",
              "Successfully pulled image \"%s\" in %s (%s including waiting). Image size: %" PRId64 " bytes.", pulling->image,
              format_duration(now_ms - effort->fetch_began_ms, took), format_duration(now_ms - pulling->began_ms, waited), image->size_bytes);
}

/* Our own images are named as the pod names them, without the tag. */
static void format_id(const struct pulling *pulling, const struct image *image, char *ret, size_t size) {
    struct slice name = slice_of(pulling->image);
    ptrdiff_t at = slice_index(name, '@');
    if (image->repo_digest) {
        snprintf(ret, size, "%s", image->repo_digest);
        return;
    }
    name = at < 0 ? name : slice_head(name, (size_t)at);
    for (size_t i = name.len; i-- > 0 && name.data[i] != '/';)
        if (name.data[i] == ':')
            name.len = i;
    snprintf(ret, size, "%.*s@%s", SLICE_ARG(name), image->digest);
}

/* Callbacks may start pullings, and cancel others of this effort: nobody finds it any more. */
static void end_effort(struct effort *effort, struct image *image, const char *reason, const char *message) {
    struct list ending;
    list_init(&ending);
    map_remove(effort->node->pullings, slice_of(effort->key));
    for (struct list *node; (node = list_pop(&effort->pullings));) {
        CONTAINER_OF(node, struct pulling, node)->effort = NULL;
        list_push(&ending, node);
    }
    if (image)
        image_ref(image);
    if (image && effort->fetched)
        images_changed(effort->node);
    while (!list_empty(&ending)) {
        struct pulling *pulling = CONTAINER_OF(ending.next, struct pulling, node);
        char id[PULLING_ID_BYTES] = "";
        if (image) {
            tell_ready(effort, pulling, image);
            format_id(pulling, image, id, sizeof id);
        }
        pulling_fn *on_done = pulling->on_done;
        void *userdata = pulling->userdata;
        pulling_free(pulling);
        on_done(userdata, &(struct pulling_result){.image = image, .image_id = id, .reason = reason, .message = message});
    }
    image_unref(image);
    effort_free(effort);
}

static void end_never(struct effort *effort) {
    char message[1024];
    snprintf(message, sizeof message, "Container image \"%s\" is not present with pull policy of Never", first_of(effort)->image);
    end_effort(effort, NULL, "ErrImageNeverPull", message);
}

/* --- the way --- */

static void tell_pulling(const struct pulling *pulling) {
    event_pod(pulling->pod, pulling->unit, "Normal", "Pulling", "Pulling image \"%s\"", pulling->image);
}

static int look(struct effort *effort, struct diag *diag);

static void look_again(struct effort *effort) {
    struct diag diag = DIAG_INIT;
    int r = look(effort, &diag);
    if (r < 0)
        end_effort(effort, NULL, "ErrImagePull", diag.message[0] ? diag.message : strerror(-r));
}

static void on_unpacked_ahead(void *userdata) {
    struct effort *effort = userdata;
    effort->ahead = NULL;
    if (effort->fetched)
        look_again(effort);
}

static void on_arriving(void *userdata, const char *manifest, const char *place) {
    struct effort *effort = userdata;
    struct node *node = effort->node;
    const struct image_arrival_options options = {
        .store = node->store_dir, .layers = node->layers_dir, .manifest = manifest, .place = place, .on_done = on_unpacked_ahead, .userdata = effort};
    (void)image_arrival_start(node->loop, &node->arrivals, &options, &effort->ahead); /* otherwise it is unpacked when all is here */
}

static void on_fetched(void *userdata, const struct remote_image_result *result) {
    struct effort *effort = userdata;
    const struct pulling *first = first_of(effort);
    effort->fetch = NULL;
    effort->fetched = true;
    if (*result->missing)
        LIST_FOREACH(at, &effort->pullings)
    event_pod(CONTAINER_OF(at, struct pulling, node)->pod, NULL, "Warning", "FailedToRetrieveImagePullSecret",
              "Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", result->missing);
    if (result->error && first->policy == PULLING_NEVER)
        return end_never(effort);
    if (result->error)
        return end_effort(effort, NULL, "ErrImagePull", result->message);
    if (effort->fetch_began_ms && result->began_ms)
        effort->fetch_began_ms = result->began_ms;
    if (!effort->ahead) /* else when that has ended: all it waits for is here */
        look_again(effort);
}

/* checks: something that is here is damaged. */
static void fetch(struct effort *effort, bool tells, bool checks) {
    const struct pulling *first = first_of(effort);
    const struct kube_pod_spec *spec = &first->pod->spec_object->pod->spec;
    static const char *const policies[] = {[PULLING_IF_NOT_PRESENT] = "IfNotPresent", [PULLING_ALWAYS] = "Always", [PULLING_NEVER] = "Never"};
    const struct remote_image_options options = {.image = first->image,
                                                 .policy = policies[first->policy],
                                                 .namespace = first->pod->namespace,
                                                 .checks = checks,
                                                 .secrets = &spec->image_pull_secrets,
                                                 .on_arriving = on_arriving,
                                                 .on_done = on_fetched,
                                                 .userdata = effort};
    if (tells) {
        effort->fetch_began_ms = loop_now_ns(effort->node->loop) / 1000000;
        LIST_FOREACH(at, &effort->pullings)
        tell_pulling(CONTAINER_OF(at, struct pulling, node));
    }
    int r = remote_image_pull(effort->node, &options, &effort->fetch);
    if (r < 0)
        end_effort(effort, NULL, "ErrImagePull", strerror(-r));
}

/* Names that begin with one of our registry's addresses mean it and no other. */
static bool is_elsewhere(const struct node *node, const char *image) {
    struct slice rest = slice_of(image), host = slice_cut(&rest, '/');
    for (const char *const *own = node->own_hosts; rest.data && *own; own++)
        if (slice_is(host, *own))
            return false;
    return true;
}

static void on_looked(void *userdata, struct image *image, int error, const struct diag *diag) {
    struct effort *effort = userdata;
    const struct pulling *first = first_of(effort);
    image_wanted_fn *wanted = wanted_by(effort, first->policy);
    effort->look = NULL;
    if (image && (first->quiet || !wanted || wanted(image)))
        return end_effort(effort, image, NULL, NULL);
    bool asks = !effort->fetched && !first->quiet && is_elsewhere(effort->node, first->image) && (image || error == -ENOENT || error == -EBADMSG);
    if (!image && first->policy == PULLING_NEVER)
        return end_never(effort);
    if (asks)
        return fetch(effort, !image || first->policy == PULLING_ALWAYS, error == -EBADMSG);
    end_effort(effort, NULL, "ErrImagePull",
               image ? "it came from another registry by credentials: name it as that registry does, so that it can be asked" : diag->message);
}

static int look(struct effort *effort, struct diag *diag) {
    struct node *node = effort->node;
    const struct pulling *first = first_of(effort);
    struct image_reference reference;
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * KIB);
    int r = arena ? image_reference_parse(arena, slice_of(first->image), node->own_hosts, &reference, diag) : -ENOMEM;
    const struct image_request_options options = {.store = node->store_dir,
                                                  .layers = node->layers_dir,
                                                  .reference = &reference,
                                                  .wanted = first->quiet ? NULL : wanted_by(effort, first->policy),
                                                  .checks = first->checks,
                                                  .on_done = on_looked,
                                                  .userdata = effort};
    return r ? r : image_ensure(node->loop, &options, &effort->look);
}

/* --- starting --- */

static int format_key(const struct pulling_options *options, enum pulling_policy policy, struct buffer *out) {
    const struct kube_pod_spec *spec = &options->pod->spec_object->pod->spec;
    buffer_printf(out, "%d%d%d\n%s\n%s", policy, options->quiet, options->checks, options->image, options->pod->namespace);
    for (size_t i = 0; i < spec->image_pull_secrets.count; i++)
        buffer_printf(out, "\n%s", spec->image_pull_secrets.items[i].name ? spec->image_pull_secrets.items[i].name : "");
    return buffer_error(out);
}

static int effort_new(struct node *node, const char *key, struct effort **ret) {
    struct effort *effort = calloc(1, sizeof *effort);
    if (!effort)
        return -ENOMEM;
    list_init(&effort->pullings);
    effort->node = node;
    effort->key = strdup(key);
    int r = effort->key ? map_put(node->pullings, slice_of(key), effort, NULL) : -ENOMEM;
    if (r < 0)
        effort_free(effort);
    else
        *ret = effort;
    return r;
}

static int join(struct pulling *pulling, const char *key, struct diag *diag) {
    struct node *node = pulling->pod->node;
    struct effort *effort = map_find(node->pullings, slice_of(key));
    bool is_new = !effort;
    int r = is_new ? effort_new(node, key, &effort) : 0;
    if (r < 0)
        return r;
    pulling->effort = effort;
    list_push(&effort->pullings, &pulling->node);
    if (effort->fetch_began_ms)
        tell_pulling(pulling);
    r = is_new ? look(effort, diag) : 0;
    if (r < 0) {
        list_remove(&pulling->node);
        map_remove(node->pullings, slice_of(key));
        effort_free(effort);
    }
    return r;
}

int pulling_start(const struct pulling_options *options, struct pulling **ret, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer key = BUFFER_INIT(KEY_BYTES_MAX);
    struct pulling *pulling = calloc(1, sizeof *pulling);
    if (!pulling)
        return -ENOMEM;
    *pulling = (struct pulling){.pod = options->pod,
                                .unit = options->unit,
                                .image = strdup(options->image),
                                .policy = pulling_policy_of(options->policy, options->image),
                                .quiet = options->quiet,
                                .checks = options->checks,
                                .on_done = options->on_done,
                                .userdata = options->userdata,
                                .began_ms = loop_now_ns(options->pod->node->loop) / 1000000};
    list_init(&pulling->node);
    int r = pulling->image ? format_key(options, pulling->policy, &key) : -ENOMEM;
    r = r ? r : join(pulling, key.data, diag);
    if (r < 0) {
        pulling_free(pulling);
        return r;
    }
    *ret = pulling;
    return 0;
}

bool pulling_is_unpacking(const struct node *node) {
    void *value;
    for (size_t at = 0; map_next(node->pullings, &at, NULL, &value);)
        if (((const struct effort *)value)->look)
            return true;
    return !list_empty(&node->arrivals);
}

void pulling_cancel(struct pulling *pulling) {
    if (!pulling)
        return;
    struct effort *effort = pulling->effort;
    pulling_free(pulling);
    if (!effort || !list_empty(&effort->pullings))
        return;
    map_remove(effort->node->pullings, slice_of(effort->key));
    effort_free(effort);
}

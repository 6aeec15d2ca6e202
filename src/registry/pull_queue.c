/* The queue of pulls, pushes and logins, and the thread that each of those under way has.
 *
 *   queued ─► has a place (REGISTRY_PULLS_MAX) ─┬─────────────────────────────────► done
 *                                               └─ is slow, and others wait: goes on without ─┬─► done
 *                                                       too many of these, and others wait: the oldest fails
 *
 * 1. Who drips holds nobody up: neither those who wait for a place nor, since a thread of the loop's pool is not used, a commit of the database.
 * 2. Whether one is slow is only looked at while others wait. What a failed one has brought is kept (content_partial.c), so that giving way costs it
 *    little. Pushes give their place, and never fail for it.
 * 3. The thread tells the loop by an eventfd; the loop alone starts, joins and frees. */
#include <curl/curl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "registry/pull_priv.h"
#include "sys/sys.h"

#define PROGRESS_BYTES (512 * KIB)
#define SLOW_MS 20000

static void start_next(struct registry *registry);

static void pull_free(struct registry_pull *pull) {
    if (!pull)
        return;
    for (size_t i = 0; i < pull->held.count; i++)
        content_release(pull->registry->content, &pull->held.items[i]);
    VECTOR_DEINIT(&pull->held);
    list_remove(&pull->node);
    loop_io_free(pull->wake);
    fd_closep(&pull->wake_fd);
    docker_config_deinit(&pull->credentials);
    docker_config_deinit(&pull->machine);
    free(pull);
}

/* --- on the thread --- */

static void wake(struct registry_pull *pull) {
    uint64_t one = 1;
    (void)!write(pull->wake_fd, &one, sizeof one); /* full: the loop is awake already */
}

void pull_report(struct registry_pull *pull, uint64_t bytes) {
    uint64_t done = atomic_fetch_add(&pull->bytes_done, bytes) + bytes;
    if (done - atomic_load(&pull->bytes_reported) < PROGRESS_BYTES)
        return;
    atomic_store(&pull->bytes_reported, done);
    wake(pull);
}

void pull_tell_arriving(struct registry_pull *pull, const struct oci_digest *manifest) {
    pull->arriving = *manifest;
    atomic_store(&pull->is_arriving, true);
    wake(pull);
}

int pull_hold(struct registry_pull *pull, const struct oci_digest *digest) {
    int r = content_hold(pull->registry->content, digest);
    if (r == 0 && (r = VECTOR_PUSH(&pull->held, *digest)) < 0)
        content_release(pull->registry->content, digest);
    return r;
}

static void *thread_main(void *userdata) {
    struct registry_pull *pull = userdata;
    pull->error = pull_work(pull);
    atomic_store(&pull->is_done, true);
    wake(pull);
    return NULL;
}

/* --- who is slow --- */

static int64_t now_ms(void) {
    return sys_monotonic_ns() / 1000000;
}

static int64_t slow_ms(const struct registry *registry) {
    return registry->options.slow_ms ? registry->options.slow_ms : SLOW_MS;
}

/* Since it was last looked at, for long enough. */
static void look_at(const struct registry *registry, struct registry_pull *pull) {
    int64_t now = now_ms(), since_ms = now - pull->looked_ms;
    uint64_t done = atomic_load(&pull->bytes_done), came = done - pull->looked_bytes;
    if (since_ms < slow_ms(registry))
        return;
    pull->looked_ms = now;
    pull->looked_bytes = done;
    pull->is_slow = came < (uint64_t)since_ms * REGISTRY_PULL_BYTES_PER_S_MIN / 1000;
}

static void stop(struct registry_pull *pull) {
    struct registry *registry = pull->registry;
    atomic_store(&pull->stopping, true);
    pthread_mutex_lock(&registry->arriving_lock);
    struct hub *hub = atomic_load(&pull->hub);
    if (hub)
        hub_cancel(hub);
    pthread_cond_broadcast(&registry->arrived);
    pthread_mutex_unlock(&registry->arriving_lock);
}

/* Ends the pull that has been slow for longest: its place beside the others is free when its thread has ended. */
static void stop_slowest(struct registry *registry) {
    struct registry_pull *slowest = NULL;
    LIST_FOREACH(at, &registry->pulls) {
        struct registry_pull *pull = CONTAINER_OF(at, struct registry_pull, node);
        if (pull->gave_way) /* one at a time */
            return;
        if (pull->is_aside && pull->is_slow && pull->kind == PULL_IMAGE && (!slowest || pull->aside_since_ms < slowest->aside_since_ms))
            slowest = pull;
    }
    if (!slowest)
        return;
    slowest->gave_way = true;
    stop(slowest);
}

static void step_aside(struct registry_pull *pull) {
    struct registry *registry = pull->registry;
    if (registry->pulls_aside_count >= REGISTRY_PULLS_SLOW_MAX)
        return stop_slowest(registry);
    pull->is_aside = true;
    pull->aside_since_ms = now_ms();
    registry->pulls_aside_count++;
    registry->pulls_count--;
}

static void pulls_on_look(void *userdata) {
    struct registry *registry = userdata;
    LIST_FOREACH(at, &registry->pulls)
    look_at(registry, CONTAINER_OF(at, struct registry_pull, node));
    LIST_FOREACH(at, &registry->pulls) {
        struct registry_pull *pull = CONTAINER_OF(at, struct registry_pull, node);
        bool is_missed = registry->pulls_queued_count > REGISTRY_PULLS_MAX - registry->pulls_count;
        if (pull->is_slow && !pull->is_aside && is_missed)
            step_aside(pull);
    }
    start_next(registry);
}

/* --- on the loop --- */

static void finish(struct registry_pull *pull) {
    const struct registry_pull_options *options = &pull->options;
    struct registry *registry = pull->registry;
    const char *tag = pull->reference.digest.hex[0] ? "" : pull->reference.tag;
    if (pull->error < 0 && pull->gave_way)
        pull->error =
            diag_set(&pull->diag, -ETIMEDOUT, "%s is slow, and others wait: what has come so far is kept for the next try", pull->reference.registry);
    const struct registry_pull_result result = {.error = pull->error,
                                                .diag = &pull->diag,
                                                .name = pull->name,
                                                .tag = tag,
                                                .digest = pull->digest,
                                                .bytes = atomic_load(&pull->bytes_fetched)};
    *(pull->is_aside ? &registry->pulls_aside_count : &registry->pulls_count) -= 1;
    list_remove(&pull->node);
    if (!pull->cancelled)
        options->on_done(options->userdata, &result);
    pull_free(pull);
    start_next(registry);
}

static void start_next(struct registry *registry) {
    while (registry->pulls_count < REGISTRY_PULLS_MAX && !list_empty(&registry->pulls_queued)) {
        struct registry_pull *pull = CONTAINER_OF(list_pop(&registry->pulls_queued), struct registry_pull, node);
        registry->pulls_queued_count--;
        list_push(&registry->pulls, &pull->node);
        registry->pulls_count++;
        pull->begun = true;
        pull->looked_ms = now_ms();
        if (pull->options.on_begin)
            pull->options.on_begin(pull->options.userdata);
        int r = pull->cancelled ? -ECANCELED : sys_thread_start(&pull->thread, thread_main, pull);
        if (r < 0) {
            pull->error = diag_set(&pull->diag, r, "cannot start the pull: %s", strerror(-r));
            finish(pull);
            return; /* which went on with the next */
        }
    }
    if (list_empty(&registry->pulls_queued))
        loop_timer_cancel(&registry->pulls_look);
    else
        loop_timer_set(&registry->pulls_look, slow_ms(registry) / 4);
}

static void pull_on_start(void *userdata) {
    start_next(userdata);
}

static void pull_on_wake(void *userdata, uint32_t events) {
    struct registry_pull *pull = userdata;
    const struct registry_pull_options *options = &pull->options;
    uint64_t count, total = atomic_load(&pull->bytes_total);
    char place[CONTENT_PLACE_BYTES];
    (void)events;
    bool is_done = atomic_load(&pull->is_done); /* before the read: what is written afterwards wakes again */
    if (read(pull->wake_fd, &count, sizeof count) == sizeof count && options->on_progress && !pull->cancelled && total)
        options->on_progress(options->userdata, MIN(atomic_load(&pull->bytes_done), total), total);
    if (atomic_exchange(&pull->is_arriving, false) && options->on_arriving && !pull->cancelled && !is_done) {
        content_partial_place(pull->name, place);
        options->on_arriving(options->userdata, &pull->arriving, place);
    }
    if (!is_done)
        return;
    pthread_join(pull->thread, NULL);
    finish(pull);
}

static int prepare(struct registry_pull *pull, struct diag *diag) {
    const struct registry_pull_options *options = &pull->options;
    int r = oci_reference_parse(slice_of(options->reference), &pull->reference, diag);
    if (r < 0)
        return r;
    if (oci_reference_local_name(&pull->reference, NULL, pull->name) < 0)
        return diag_set(diag, -EINVAL, "\"%s\" cannot be kept under a name of its own", options->reference);
    pull->platform.os = "linux";
    pull->platform.architecture = sys_architecture(&pull->platform.variant);
    if (options->platform && image_platform_parse(options->platform, pull->platform_text, &pull->platform) < 0)
        return diag_set(diag, -EINVAL, "\"%s\" is no platform: expected linux/ARCHITECTURE[/VARIANT]", options->platform);
    pull->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = pull->wake_fd < 0 ? -errno : loop_io_new(pull->registry->loop, pull->wake_fd, EPOLLIN, pull_on_wake, pull, &pull->wake);
    pull->options.reference = pull->options.platform = NULL;
    return r < 0 ? diag_set(diag, r, "cannot start the pull: %s", strerror(-r)) : 0;
}

static int enqueue(struct registry *registry, enum pull_kind kind, const struct registry_pull_options *options, struct registry_pull **ret,
                   struct diag *diag) {
    struct registry_pull *pull = calloc(1, sizeof *pull);
    if (pull) {
        list_init(&pull->node);
        pull->kind = kind;
        pull->registry = registry;
        pull->options = *options;
        pull->wake_fd = -1;
    }
    if (options->credentials) {
        struct docker_config *from = options->credentials;
        if (pull)
            pull->credentials = *from;
        else
            docker_config_deinit(from);
        *from = (struct docker_config){0};
    }
    if (!pull)
        return diag_set(diag, -ENOMEM, "out of memory");
    pull->options.credentials = NULL;
    int r = registry->pulls_queued_count >= REGISTRY_PULLS_QUEUED_MAX
                ? diag_set(diag, -EBUSY, "%d images wait to be pulled already", REGISTRY_PULLS_QUEUED_MAX)
                : prepare(pull, diag);
    if (r < 0) {
        pull_free(pull);
        return r;
    }
    list_push(&registry->pulls_queued, &pull->node);
    registry->pulls_queued_count++;
    loop_defer_schedule(&registry->pulls_start);
    *ret = pull;
    return 0;
}

int registry_pull(struct registry *registry, const struct registry_pull_options *options, struct registry_pull **ret, struct diag *diag) {
    struct registry_pull *pull;
    return enqueue(registry, PULL_IMAGE, options, ret ? ret : &pull, diag);
}

int registry_push(struct registry *registry, const char *name, const char *tag, const struct registry_pull_options *options,
                  struct registry_pull **ret, struct diag *diag) {
    if (!oci_name_is_valid(slice_of(name)) || !oci_tag_is_valid(slice_of(tag))) {
        if (options->credentials)
            docker_config_deinit(options->credentials);
        return diag_set(diag, -EINVAL, "\"%s:%s\" is no image of ours: expected NAME:TAG", name, tag);
    }
    int r = enqueue(registry, PUSH_IMAGE, options, ret, diag);
    if (r == 0) {
        snprintf((*ret)->name, sizeof(*ret)->name, "%s", name);
        snprintf((*ret)->source_tag, sizeof(*ret)->source_tag, "%s", tag);
    }
    return r;
}

int registry_login(struct registry *registry, const struct registry_pull_options *options, struct registry_pull **ret, struct diag *diag) {
    const struct docker_config *credentials = options->credentials;
    if (!credentials || credentials->items.count != 1 || !credentials->items.items[0].password) {
        if (credentials)
            docker_config_deinit(options->credentials);
        return diag_set(diag, -EINVAL, "expected a user and a password for one registry");
    }
    return enqueue(registry, LOGIN, options, ret, diag);
}

void registry_pull_cancel(struct registry_pull *pull) {
    struct registry *registry = pull->registry;
    pull->cancelled = true;
    if (pull->begun)
        return stop(pull);
    registry->pulls_queued_count--;
    pull_free(pull);
}

size_t registry_pulls(const struct registry *registry) {
    return (size_t)(registry->pulls_count + registry->pulls_aside_count + registry->pulls_queued_count);
}

int registry_pulls_init(struct registry *registry) {
    list_init(&registry->pulls);
    list_init(&registry->pulls_queued);
    pthread_mutex_init(&registry->arriving_lock, NULL);
    pthread_cond_init(&registry->arrived, NULL);
    loop_defer_init(&registry->pulls_start, registry->loop, pull_on_start, registry);
    loop_timer_init(&registry->pulls_look, registry->loop, pulls_on_look, registry);
    registry->arriving = map_new();
    return registry->arriving && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 0
                                                                                   : -ENOMEM; /* counted by libcurl; only the first does something */
}

void registry_pulls_deinit(struct registry *registry) {
    loop_defer_cancel(&registry->pulls_start);
    loop_timer_cancel(&registry->pulls_look);
    LIST_FOREACH(at, &registry->pulls_queued)
    registry_pull_cancel(CONTAINER_OF(at, struct registry_pull, node));
    LIST_FOREACH(at, &registry->pulls)
    registry_pull_cancel(CONTAINER_OF(at, struct registry_pull, node));
    while (!list_empty(&registry->pulls) && loop_turn(registry->loop, -1) >= 0)
        ;
    map_free(registry->arriving);
    pthread_cond_destroy(&registry->arrived);
    pthread_mutex_destroy(&registry->arriving_lock);
}

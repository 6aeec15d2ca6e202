/* Drives the controllers: their view of the store, their keys, and their actions as writes of the API.
 *
 *   committed change ──► control_on_change ──► step (deferred): control_next → control_reconcile → writes ──(all durable, or one refused)──►
 * control_done ──► step
 *
 * 1. The view shows committed state only: the store's index, decoded once per version. It does not change while a reconcile runs, since commits
 * arrive between turns.
 * 2. The actions of one key are submitted together, in order, and so share a commit; one that is refused at once ends its group. control_done
 * comes when every accepted one has called back, so a key never runs beside its own writes.
 *    A write that admission webhooks are asked about is accepted or refused later: the key's next actions wait for it, since they may be of its
 * group. Other keys do not wait.
 *    What an object that cannot be decoded (no memory) would be taken for is absent, so such a run's actions are dropped and it is repeated: who does
 *    not see all must not delete or replace anything. For the same reason a change that could not be told makes the controllers start over.
 * 3. A turn runs at most KEYS_PER_TURN keys, so that requests are not kept waiting by a large backlog.
 * 4. Nothing to do means no timer: the deadline's timer is set only when there is a deadline. */
#include "core/core_priv.h"

#include <limits.h>
#include <stdio.h>

#include "sys/sys.h"

#define KEYS_PER_TURN 64
#define START_OVER_AFTER_MS 100

struct executor {
    struct loop *loop;
    struct store *store;
    struct api *api;
    const struct identity *identity;
    struct control *control;
    struct zones *zones;
    struct store_watch *watch;
    struct list runs; /* struct run by its node */
    bool stopped;
    bool behind; /* a change was not told to the controllers */
    struct loop_defer step;
    struct loop_timer deadline;
};

/* One run of a key, until its writes have ended. */
struct run {
    struct list node;
    struct executor *executor;
    struct control_key key;
    size_t waiting;
    bool failed;
    char failure[1024];
    struct control_actions actions;
    struct arena *arena; /* of actions that outlast their reconcile; NULL: none does */
    size_t next;         /* action to be submitted */
    unsigned stopped;    /* the group that one was refused in; UINT_MAX: none */
    bool asking;         /* webhooks are asked about the last one */
    struct result {
        struct run *run;
        struct control_action *action;
        bool optional, is_delete, asked;
    } * results; /* one per action */
};

static void schedule(struct executor *executor) {
    if (!executor->stopped)
        loop_defer_schedule(&executor->step);
}

/* --- the view --- */

static struct slice key_of(const struct kube_kind *kind) {
    return slice_of(kube_kind_key(kind));
}

static const struct kube_object *view_get(void *userdata, const struct kube_kind *kind, const char *namespace, const char *name) {
    struct executor *executor = userdata;
    CLEANUP(store_object_unrefp)
    struct store_object *stored = store_get(executor->store, key_of(kind), slice_of(kind->namespaced ? namespace : ""), slice_of(name));
    return stored ? api_decode(executor->api, stored) : NULL; /* the store keeps its own reference until the next commit */
}

struct listing {
    struct api *api;
    bool (*each)(void *userdata, const struct kube_object *object);
    void *userdata;
};

static bool list_one(void *userdata, struct store_object *stored) {
    const struct listing *listing = userdata;
    const struct kube_object *object = api_decode(listing->api, stored);
    return object ? listing->each(listing->userdata, object) : true;
}

static void view_list(void *userdata, const struct kube_kind *kind, const char *namespace,
                      bool (*each)(void *userdata, const struct kube_object *object), void *each_userdata) {
    struct executor *executor = userdata;
    struct listing listing = {executor->api, each, each_userdata};
    struct slice none = {NULL, 0};
    store_list(executor->store, key_of(kind), namespace ? slice_of(namespace) : none, none, none, list_one, &listing);
}

static int view_zone(void *userdata, const char *name, const struct zone **ret) {
    struct executor *executor = userdata;
    return zones_find(executor->zones, name, ret);
}

/* --- changes --- */

static void tell(struct executor *executor, const struct kube_object *object, const struct kube_object *old) {
    if (!object && !old)
        return;
    if (control_on_change(executor->control, object, old, loop_now_ns(executor->loop)))
        executor->behind = true;
    schedule(executor);
}

static bool on_change(void *userdata, enum store_change change, struct store_object *stored, struct store_object *previous) {
    struct executor *executor = userdata;
    uint64_t blind = api_decode_failures(executor->api);
    const struct kube_object *object = api_decode(executor->api, stored);
    if (!object && api_decode_failures(executor->api) != blind)
        executor->behind = true; /* not to be told as a deletion; of a kind that is no more nothing is told */
    if (object && change == STORE_DELETED)
        tell(executor, NULL, object);
    else if (object)
        tell(executor, object, previous ? api_decode(executor->api, previous) : NULL);
    schedule(executor);
    return true;
}

static bool tell_present(void *userdata, struct store_object *stored) {
    struct executor *executor = userdata;
    tell(executor, api_decode(executor->api, stored), NULL);
    api_decode_trim(executor->api); /* the controllers keep nothing of it; a store's worth of decoded objects would be several times its size */
    return true;
}

static int follow(struct executor *executor);

/* Cannot happen while the loop runs, since we never pause. */
static void on_lost(void *userdata) {
    struct executor *executor = userdata;
    executor->behind = true;
    schedule(executor);
}

/* A change was not told: everything is told again, until it comes through. */
static void start_over(struct executor *executor) {
    log_warning("a change did not reach the controllers (out of memory, or behind the change log); they start over");
    executor->behind = false;
    store_watch_free(TAKE(executor->watch));
    if (follow(executor) != 0 || executor->behind) {
        executor->behind = true;
        if (loop_timer_set(&executor->deadline, START_OVER_AFTER_MS) < 0)
            schedule(executor);
    }
}

static int follow(struct executor *executor) {
    static const struct store_watch_callbacks callbacks = {.on_change = on_change, .on_lost = on_lost};
    struct slice none = {NULL, 0};
    for (size_t i = 0; i < kube_kinds_count(); i++)
        if (kube_kind_is_stored(kube_kind_at(i)))
            store_list(executor->store, key_of(kube_kind_at(i)), none, none, none, tell_present, executor);
    return store_watch_new(executor->store, none, none, store_revision(executor->store), &callbacks, executor, &executor->watch);
}

/* --- actions --- */

static void run_free(struct run *run) {
    list_remove(&run->node);
    for (size_t i = 0; i < run->actions.count && run->arena; i++)
        kube_kind_unref(run->actions.items[i].kind);
    control_actions_deinit(&run->actions);
    arena_free(run->arena);
    free(run->results);
    free(run);
}

static void run_end(struct run *run) {
    if (--run->waiting)
        return;
    struct executor *executor = run->executor;
    control_done(executor->control, &run->key, run->failed ? run->failure : NULL, loop_now_ns(executor->loop));
    schedule(executor);
    run_free(run);
}

/* What a delete wanted is so: the object is gone, or is another by now. */
static bool is_moot(bool is_delete, const struct api_failure *failure) {
    return is_delete && failure->code == 404;
}

static void note_failure(struct run *run, bool optional, bool is_delete, const struct api_failure *failure) {
    if (optional || run->failed || is_moot(is_delete, failure))
        return;
    run->failed = true;
    snprintf(run->failure, sizeof run->failure, "%s: %.900s", failure->reason, failure->message);
    if (failure->code != 409)
        log_debug("a controller's write was refused controller=%s name=%s/%s: %s", control_controller_name(run->key.controller),
                  run->key.namespace ? run->key.namespace : "", run->key.name ? run->key.name : "", run->failure);
}

static void note_result(struct result *result, const struct api_failure *failure) {
    note_failure(result->run, result->optional, result->is_delete, failure);
    if (!result->optional && !is_moot(result->is_delete, failure))
        result->run->stopped = result->action->group;
}

static void submit_all(struct run *run);

static void on_written(void *userdata, const struct api_failure *failure, struct kube_object *object) {
    struct result *result = userdata;
    struct run *run = result->run;
    (void)object;
    if (failure && result->asked)
        note_result(result, failure);
    else if (failure)
        note_failure(run, result->optional, result->is_delete, failure);
    if (result->asked) {
        run->asking = false;
        submit_all(run);
    }
    run_end(run);
}

/* The object is the action's alone: nobody else has seen it. */
static int sign(struct executor *executor, struct control_action *action, struct result *result, struct api_failure *failure) {
    bool is_request = action->kind == &kube_kind_certificate_signing_request;
    int error = signer_complete(executor->identity, executor->api, action->object, loop_wall_ns(executor->loop) / 1000000000);
    if (error) {
        *failure = (struct api_failure){.code = 500, .reason = "InternalError"};
        snprintf(failure->message, sizeof failure->message, "cannot sign: %s", strerror(-error));
        return failure->code;
    }
    return is_request ? api_update_status(executor->api, TAKE(action->object), on_written, result, failure)
                      : api_update(executor->api, TAKE(action->object), on_written, result, failure);
}

/* Hands one action over; 0 when it will call back. */
static int submit(struct executor *executor, struct control_action *action, struct result *result, struct api_failure *failure) {
    struct api *api = executor->api;
    switch (action->verb) {
    case CONTROL_CREATE: return api_create(api, TAKE(action->object), on_written, result, failure);
    case CONTROL_UPDATE: return api_update(api, TAKE(action->object), on_written, result, failure);
    case CONTROL_UPDATE_STATUS: return api_update_status(api, TAKE(action->object), on_written, result, failure);
    case CONTROL_BIND: return api_bind(api, TAKE(action->object), on_written, result, failure);
    case CONTROL_SIGN: return sign(executor, action, result, failure);
    case CONTROL_DELETE: {
        const struct api_delete_options options = {.uid = action->uid, .grace_seconds = action->grace_seconds, .propagation = action->propagation};
        return api_delete(api, action->kind, action->namespace ? action->namespace : "", action->name, &options, on_written, result, failure);
    }
    }
    UNREACHABLE();
}

static void submit_one(struct run *run, struct control_action *action, struct result *result) {
    struct api *api = run->executor->api;
    uint64_t asked = api_writes_asked(api);
    struct api_failure failure;
    *result = (struct result){run, action, action->optional, action->verb == CONTROL_DELETE, false};
    run->waiting++;
    if (submit(run->executor, action, result, &failure)) {
        note_result(result, &failure);
        run->waiting--;
    } else if (api_writes_asked(api) != asked) {
        result->asked = run->asking = true;
    }
}

/* From the next one on, until one must wait. */
static void submit_all(struct run *run) {
    while (run->next < run->actions.count && !run->asking && !run->executor->stopped) {
        struct control_action *action = &run->actions.items[run->next];
        if (action->group != run->stopped)
            submit_one(run, action, &run->results[run->next]);
        run->next++;
    }
}

static const char *keep_text(struct run *run, const char *text, bool *complete) {
    const char *copy = text ? arena_strdup(run->arena, text) : NULL;
    *complete = *complete && (!text || copy);
    return copy;
}

/* What actions name lasts as long as the reconcile; some will be submitted later. */
static void keep_rest(struct run *run) {
    bool complete = (run->arena = arena_new(MIB)) != NULL;
    for (size_t i = 0; i < run->actions.count && run->arena; i++) {
        struct control_action *action = &run->actions.items[i];
        kube_kind_ref(action->kind);
        action->namespace = keep_text(run, action->namespace, &complete);
        action->name = keep_text(run, action->name, &complete);
        action->uid = keep_text(run, action->uid, &complete);
    }
    if (complete)
        return;
    run->next = run->actions.count;
    run->failed = true;
    snprintf(run->failure, sizeof run->failure, "out of memory");
}

static struct run *run_new(struct executor *executor, const struct control_key *key, size_t actions) {
    struct run *run = calloc(1, sizeof *run);
    struct result *results = calloc(actions + 1, sizeof *results);
    if (!run || !results) {
        free(run);
        free(results);
        return NULL;
    }
    *run = (struct run){.executor = executor, .key = *key, .waiting = 1, .results = results, .stopped = UINT_MAX};
    list_push(&executor->runs, &run->node);
    return run;
}

static void run_key(struct executor *executor, const struct control_key *key) {
    struct control_actions actions = {.count = 0};
    uint64_t blind = api_decode_failures(executor->api);
    int error = control_reconcile(executor->control, key, loop_wall_ns(executor->loop), &actions);
    struct run *run = error || api_decode_failures(executor->api) != blind ? NULL : run_new(executor, key, actions.count);
    if (run) {
        run->actions = actions;
        submit_all(run);
        if (run->asking && run->next < run->actions.count)
            keep_rest(run);
        run_end(run);
    } else {
        control_done(executor->control, key, "out of memory", loop_now_ns(executor->loop));
        control_actions_deinit(&actions);
    }
}

static void on_step(void *userdata) {
    struct executor *executor = userdata;
    if (executor->behind)
        start_over(executor);
    if (executor->behind)
        return;
    int64_t now_ns = loop_now_ns(executor->loop);
    struct control_key key;
    size_t count = 0;
    while (count < KEYS_PER_TURN && control_next(executor->control, now_ns, &key)) {
        run_key(executor, &key);
        count++;
    }
    int64_t deadline_ns = control_deadline(executor->control);
    if (count == KEYS_PER_TURN || deadline_ns == INT64_MAX)
        loop_timer_cancel(&executor->deadline);
    if (count == KEYS_PER_TURN)
        schedule(executor);
    else if (deadline_ns != INT64_MAX && loop_timer_set(&executor->deadline, MAX(0, (deadline_ns - now_ns + 999999) / 1000000)) < 0)
        schedule(executor);
}

/* --- life --- */

int executor_new(struct loop *loop, struct store *store, struct api *api, const struct executor_options *own, struct executor **ret) {
    struct executor *executor = calloc(1, sizeof *executor);
    if (!executor)
        return -ENOMEM;
    *executor = (struct executor){.loop = loop, .store = store, .api = api, .identity = own->identity};
    list_init(&executor->runs);
    loop_defer_init(&executor->step, loop, on_step, executor);
    loop_timer_init(&executor->deadline, loop, on_step, executor);
    struct control_options options = {.view = {.userdata = executor, .get = view_get, .list = view_list, .zone = view_zone},
                                      .root_ca = identity_authority(own->identity),
                                      .volumes_folder = own->volumes_folder};
    sys_random(&options.seed, sizeof options.seed);
    executor->zones = zones_new();
    executor->control = executor->zones ? control_new(&options) : NULL;
    int error = executor->control ? follow(executor) : -ENOMEM;
    if (error) {
        executor_free(executor);
        return error;
    }
    schedule(executor);
    *ret = executor;
    return 0;
}

void executor_stop(struct executor *executor) {
    executor->stopped = true;
    store_watch_free(executor->watch);
    executor->watch = NULL;
    loop_defer_cancel(&executor->step);
    loop_timer_cancel(&executor->deadline);
}

void executor_free(struct executor *executor) {
    if (!executor)
        return;
    executor_stop(executor);
    LIST_FOREACH(node, &executor->runs)
    run_free(CONTAINER_OF(node, struct run, node));
    control_free(executor->control);
    zones_free(executor->zones);
    free(executor);
}

void executor_metrics(const struct executor *executor, struct buffer *out) {
    struct control_statistics seen;
    control_statistics(executor->control, &seen);
    buffer_printf(
        out,
        "# HELP tidemill_control_reconciles_total Runs of a controller over one object.\n# TYPE tidemill_control_reconciles_total counter\n"
        "tidemill_control_reconciles_total %" PRIu64 "\n"
        "# HELP tidemill_control_actions_total Writes that controllers asked for.\n# TYPE tidemill_control_actions_total counter\n"
        "tidemill_control_actions_total %" PRIu64 "\n"
        "# HELP tidemill_control_failures_total Runs that are to be repeated because a write was refused.\n# TYPE tidemill_control_failures_total "
        "counter\n"
        "tidemill_control_failures_total %" PRIu64 "\n"
        "# HELP tidemill_control_queue Objects that wait for a controller.\n# TYPE tidemill_control_queue gauge\ntidemill_control_queue %zu\n",
        seen.reconciles, seen.actions, seen.failures, seen.queued);
}

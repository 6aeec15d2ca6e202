/* The store: a log with a cache.
 *
 * A write is checked against the newest accepted state (the committed index, overlaid by `newest`: the last write under way of each key), gets the
 * next revision and waits in `queue`. At the end of the loop's turn the whole queue becomes one batch, one transaction, one fsync, on a worker
 * thread; what is written meanwhile is the next batch. When a batch is durable it is applied to the index and the ring, callbacks run, watches wake.
 *
 *   store_write ─► queue ─► batch in flight (worker) ─► index, ring ─► on_done, watches
 *
 * Invariants
 *  1. Only one batch is in flight, so commits happen in the order of revisions, and the database connection belongs to one thread at a time.
 *  2. The index, the ring and store_revision() show durable state only.
 *  3. A write that builds on an unfinished one of the same key is linked behind it and fails when that fails; revisions of failed writes are never
 *     used again while the process lives.
 *  4. Everything that applying a batch needs is allocated before the batch is handed to the worker: after a commit nothing can fail.
 *
 * A full disk fails the batch with STORE_E_FULL; the writes are then tried one by one, so that a delete or a smaller object still gets through
 * (database.c). */
#include "store/store_priv.h"

#include <pthread.h>

#include "sys/sys.h"

struct batch {
    struct store *store; /* NULL when the store was closed meanwhile */
    struct database *database;
    struct list writes;
    size_t count;
    uint64_t changes_dropped;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool finished; /* by the worker, under the mutex */
};

/* ---- keys ---- */

static int key_format(struct slice kind, struct slice namespace, struct slice name, char *text, struct slice *ret) {
    if (kind.len == 0 || name.len == 0 || kind.len + namespace.len + name.len + 2 > STORE_KEY_BYTES_MAX)
        return -EINVAL;
    char *at = text;
    struct slice parts[] = {kind, namespace, name};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (i)
            *at++ = 0;
        if (parts[i].len)
            memcpy(at, parts[i].data, parts[i].len);
        at += parts[i].len;
    }
    *ret = slice_make(text, (size_t)(at - text));
    return 0;
}

static struct pending *newest_pending(const struct store *store, struct slice kind, struct slice namespace, struct slice name) {
    char text[STORE_KEY_BYTES_MAX];
    struct slice key;
    return key_format(kind, namespace, name, text, &key) == 0 ? map_find(store->newest, key) : NULL;
}

/* ---- reads ---- */

uint64_t store_revision(const struct store *store) {
    return store->revision_committed;
}

struct store_object *store_get(struct store *store, struct slice kind, struct slice namespace, struct slice name) {
    struct store_object *object = index_find(&store->index, kind, namespace, name);
    return object ? store_object_ref(object) : NULL;
}

/* Borrowed. */
static struct store_object *find_newest(struct store *store, struct slice kind, struct slice namespace, struct slice name,
                                        struct pending **ret_pending) {
    struct pending *pending = newest_pending(store, kind, namespace, name);
    *ret_pending = pending;
    if (pending)
        return pending->change == STORE_DELETED ? NULL : pending->object;
    return index_find(&store->index, kind, namespace, name);
}

struct store_object *store_get_newest(struct store *store, struct slice kind, struct slice namespace, struct slice name) {
    struct pending *pending;
    struct store_object *object = find_newest(store, kind, namespace, name, &pending);
    return object ? store_object_ref(object) : NULL;
}

void store_list(struct store *store, struct slice kind_name, struct slice namespace, struct slice after_namespace, struct slice after_name,
                store_each_fn *each, void *userdata) {
    const struct kind_index *kind = index_kind(&store->index, kind_name);
    if (!kind)
        return;
    size_t at = namespace.data ? index_position(kind, namespace, slice_make(NULL, 0), false) : 0;
    if (after_namespace.data || after_name.data)
        at = MAX(at, index_position(kind, after_namespace, after_name, true));
    for (; at < kind->objects.count; at++) {
        struct store_object *object = kind->objects.items[at];
        if (namespace.data && !slice_equal(object->namespace, namespace))
            return;
        if (!each(userdata, object))
            return;
    }
}

size_t store_count(struct store *store, struct slice kind_name) {
    const struct kind_index *kind = index_kind(&store->index, kind_name);
    return kind ? kind->objects.count : 0;
}

size_t store_count_behind(struct store *store, struct slice kind_name, struct slice namespace, struct slice after_namespace,
                          struct slice after_name) {
    const struct kind_index *kind = index_kind(&store->index, kind_name);
    if (!kind)
        return 0;
    size_t from = index_position(kind, after_namespace, after_name, true);
    size_t to = namespace.data ? index_position(kind, namespace, SLICE("\xff"), true) : kind->objects.count; /* no name sorts behind that */
    return to > from ? to - from : 0;
}

void store_statistics(const struct store *store, struct store_statistics *ret) {
    *ret = store->statistics;
}

/* ---- writes ---- */

void pending_queue(struct store *store, struct pending *pending) {
    if (pending->after)
        pending->after->before = pending;
    list_push(&store->queue, &pending->node);
    store->pending_bytes += pending->bytes;
    if (!store->in_flight)
        loop_defer_schedule(&store->start_defer);
}

static void pending_free(struct pending *pending) {
    if (!pending)
        return;
    store_object_unref(pending->object);
    store_object_unref(pending->previous);
    meta_value_unref(pending->meta_value);
    free(pending);
}
DEFINE_CLEANUP(struct pending, pending_free)

static int check(const struct store_write *write, const struct store_object *current) {
    if (write->verb == STORE_CREATE)
        return current ? STORE_E_EXISTS : 0;
    if (!current)
        return STORE_E_ABSENT;
    if (write->expected_revision != STORE_ANY_REVISION && write->expected_revision != current->revision)
        return STORE_E_CONFLICT;
    return 0;
}

/* The size limit: creates stop at it; updates, most of them of a status, have a sixteenth more; deletes always pass. */
static bool is_within_limit(const struct store *store, const struct store_write *write, size_t bytes, const struct store_object *current) {
    if (write->verb == STORE_DELETE)
        return true;
    size_t replaced = current ? current->value.len : 0;
    if (bytes <= replaced)
        return true;
    size_t limit = write->verb == STORE_CREATE ? store->bytes_max : store->bytes_max + store->bytes_max / 16;
    return store->bytes_newest - replaced + bytes <= limit;
}

/* The new version's bytes: those given, or what the stamp makes of them. */
static int make_object(struct store *store, const struct store_write *write, const struct store_object *current, struct store_object **ret) {
    struct store_write copy = *write;
    if (write->verb == STORE_DELETE && write->value.len == 0)
        copy.value = current->value;
    uint64_t revision = store->revision_newest + 1;
    CLEANUP(buffer_deinit) struct buffer stamped = BUFFER_INIT(STORE_VALUE_BYTES_MAX);
    struct slice value = copy.value;
    if (store->stamp) {
        int r = store->stamp(store->stamp_userdata, &copy, revision, &stamped);
        if (r == 0)
            r = buffer_error(&stamped);
        if (r < 0)
            return r;
        value = buffer_slice(&stamped);
    }
    if (value.len > STORE_VALUE_BYTES_MAX)
        return -EMSGSIZE;
    *ret = object_new(write->kind, write->namespace, write->name, revision, current ? current->created_revision : revision, value);
    return *ret ? 0 : -ENOMEM;
}

int store_write(struct store *store, const struct store_write *write, store_written_fn *on_done, void *userdata, uint64_t *ret_revision) {
    static const enum store_change changes[] = {[STORE_CREATE] = STORE_ADDED, [STORE_UPDATE] = STORE_MODIFIED, [STORE_DELETE] = STORE_DELETED};
    char text[STORE_KEY_BYTES_MAX];
    struct slice key;
    int r = key_format(write->kind, write->namespace, write->name, text, &key);
    if (r < 0)
        return r;
    struct pending *last;
    struct store_object *current = find_newest(store, write->kind, write->namespace, write->name, &last);
    r = check(write, current);
    if (r != 0)
        return r;
    CLEANUP(pending_freep) struct pending *pending = calloc(1, sizeof *pending);
    r = pending ? make_object(store, write, current, &pending->object) : -ENOMEM;
    if (r < 0)
        return r;
    if (!is_within_limit(store, write, pending->object->value.len, current))
        return STORE_E_FULL;
    pending->bytes = pending->object->value.len;
    if (store->pending_bytes + pending->bytes > STORE_PENDING_BYTES_MAX)
        return -EBUSY;
    r = map_put(store->newest, key, pending, NULL);
    if (r < 0)
        return r;
    pending->previous = current ? store_object_ref(current) : NULL;
    pending->change = changes[write->verb];
    pending->after = last;
    pending->on_written = on_done;
    pending->userdata = userdata;
    store->revision_newest = pending->object->revision;
    store->bytes_newest += write->verb == STORE_DELETE ? 0 : pending->object->value.len;
    store->bytes_newest -= current ? current->value.len : 0;
    if (ret_revision)
        *ret_revision = pending->object->revision;
    pending_queue(store, TAKE(pending));
    return 0;
}

void store_set_stamp(struct store *store, store_stamp_fn *stamp, void *userdata) {
    store->stamp = stamp;
    store->stamp_userdata = userdata;
}

/* ---- what becomes of a write ---- */

static void forget_newest(struct store *store, struct pending *pending) {
    char text[STORE_KEY_BYTES_MAX];
    struct slice key;
    const struct store_object *object = pending->object;
    int r = key_format(object->kind, object->namespace, object->name, text, &key);
    ASSERT(r == 0);
    if (map_find(store->newest, key) == pending)
        map_remove(store->newest, key);
}

static void apply_object(struct store *store, struct pending *pending) {
    struct store_object *object = pending->object;
    if (pending->change == STORE_DELETED)
        index_remove(&store->index, object);
    else
        index_put(&store->index, object);
    ring_push(&store->ring, pending->change, object->revision, object, pending->previous);
    store->revision_committed = object->revision;
    store->statistics.writes++;
    store->statistics.objects += pending->change == STORE_ADDED;
    store->statistics.objects -= pending->change == STORE_DELETED;
    store->statistics.bytes += pending->change == STORE_DELETED ? 0 : object->value.len;
    store->statistics.bytes -= pending->previous ? pending->previous->value.len : 0;
    forget_newest(store, pending);
}

static void fail_object(struct store *store, struct pending *pending) {
    store->bytes_newest -= pending->change == STORE_DELETED ? 0 : pending->object->value.len;
    store->bytes_newest += pending->previous ? pending->previous->value.len : 0;
    struct pending *end = pending;
    while (end->before)
        end = end->before;
    forget_newest(store, end);
}

/* Index and ring, or the side table; then the links: who built on a failed write fails too. */
static void finish(struct store *store, struct pending *pending) {
    store->pending_bytes -= pending->bytes;
    if (pending->meta)
        meta_on_finished(store, pending);
    else if (pending->error)
        fail_object(store, pending);
    else
        apply_object(store, pending);
    if (pending->before) {
        pending->before->after = NULL;
        if (pending->error)
            pending->before->error = pending->error;
        pending->before = NULL;
    }
}

static void call_back(struct pending *pending) {
    if (pending->on_meta)
        pending->on_meta(pending->userdata, pending->error);
    if (pending->on_written)
        pending->on_written(pending->userdata, pending->error, pending->error ? NULL : pending->object);
}

static void finish_all(struct store *store, struct list *writes) {
    bool changed = false;
    LIST_FOREACH(node, writes) {
        struct pending *pending = CONTAINER_OF(node, struct pending, node);
        finish(store, pending);
        changed |= !pending->error && !pending->meta;
    }
    if (changed)
        watches_on_change(store);
}

static void call_back_all(struct list *writes) {
    struct list *node;
    while ((node = list_pop(writes))) {
        struct pending *pending = CONTAINER_OF(node, struct pending, node);
        call_back(pending);
        pending_free(pending);
    }
}

/* ---- batches ---- */

static void work(void *userdata) {
    struct batch *batch = userdata;
    database_commit(batch->database, &batch->writes, batch->changes_dropped);
    pthread_mutex_lock(&batch->mutex);
    batch->finished = true;
    pthread_cond_signal(&batch->cond);
    pthread_mutex_unlock(&batch->mutex);
}

static void start(void *userdata);
static void batch_deinit(struct batch *batch);

static void done(void *userdata) {
    struct batch *batch = userdata;
    struct store *store = batch->store;
    if (store) {
        store->in_flight = NULL;
        store->statistics.commits++;
        finish_all(store, &batch->writes);
        start(store); /* first, so that the disk works while callbacks run */
        call_back_all(&batch->writes);
    }
    batch_deinit(batch);
    free(batch);
}

static void batch_init(struct batch *batch, struct store *store) {
    *batch = (struct batch){.store = store, .database = store->database, .changes_dropped = store->ring.base_revision};
    list_init(&batch->writes);
    pthread_mutex_init(&batch->mutex, NULL);
    pthread_cond_init(&batch->cond, NULL);
    while (batch->count < STORE_BATCH_WRITES_MAX && !list_empty(&store->queue)) {
        list_push(&batch->writes, list_pop(&store->queue));
        batch->count++;
    }
}

static void batch_deinit(struct batch *batch) {
    pthread_mutex_destroy(&batch->mutex);
    pthread_cond_destroy(&batch->cond);
}

/* Invariant 4. Without memory the writes fail now. */
static void reserve(struct store *store, struct batch *batch) {
    int r = ring_reserve(&store->ring, batch->count);
    LIST_FOREACH(node, &batch->writes) {
        struct pending *pending = CONTAINER_OF(node, struct pending, node);
        if (r == 0 && pending->change == STORE_ADDED && pending->object)
            r = index_reserve(&store->index, pending->object->kind, batch->count);
        if (r < 0 && !pending->error)
            pending->error = r;
    }
}

static void start(void *userdata) {
    struct store *store = userdata;
    if (store->in_flight || list_empty(&store->queue))
        return;
    struct batch *batch = malloc(sizeof *batch);
    if (!batch) {
        loop_defer_schedule(&store->start_defer); /* memory may come back: writes wait */
        return;
    }
    batch_init(batch, store);
    reserve(store, batch);
    store->in_flight = batch;
    int r = loop_work(store->loop, LOOP_QUICK, work, done, batch);
    if (r < 0) { /* no thread to be had: slower, but right */
        work(batch);
        done(batch);
    }
}

/* ---- opening and closing ---- */

static int lock(const char *path, int *ret_fd, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer lock_path = BUFFER_INIT(4096);
    int r = buffer_printf(&lock_path, "%s.lock", path);
    if (r < 0)
        return diag_set(diag, -ENAMETOOLONG, "the path of the database is too long: %.200s", path);
    int fd = sys_lock_file(lock_path.data);
    if (fd == -EBUSY) {
        diag_set(diag, fd, "the database %s is in use by another process", path);
        return diag_hint(diag, fd, "stop the other instance, or give this one a state folder of its own");
    }
    if (fd < 0)
        return diag_set(diag, fd, "cannot lock the database %s: %s", path, strerror(-fd));
    *ret_fd = fd;
    return 0;
}

static void store_free(struct store *store) {
    if (!store)
        return;
    database_close(store->database);
    ring_deinit(&store->ring);
    index_deinit(&store->index);
    meta_deinit(store);
    map_free(store->newest);
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    free(store);
}
DEFINE_CLEANUP(struct store, store_free)

int store_open(struct loop *loop, const struct store_options *options, struct store **ret, struct diag *diag) {
    CLEANUP(store_freep) struct store *store = calloc(1, sizeof *store);
    if (!store)
        return diag_set(diag, -ENOMEM, "out of memory");
    store->lock_fd = -1;
    store->loop = loop;
    store->bytes_max = options->bytes_max ? options->bytes_max : STORE_BYTES_DEFAULT;
    store->ring.count_max = options->changes_kept ? options->changes_kept : STORE_CHANGES_KEPT_DEFAULT;
    store->ring.bytes_max = options->changes_bytes_max ? options->changes_bytes_max : STORE_CHANGES_BYTES_DEFAULT;
    list_init(&store->queue);
    watches_init(store);
    loop_defer_init(&store->start_defer, loop, start, store);
    store->newest = map_new();
    store->meta = map_new();
    int r = index_init(&store->index);
    if (r < 0 || !store->newest || !store->meta)
        return diag_set(diag, -ENOMEM, "out of memory");
    r = lock(options->path, &store->lock_fd, diag);
    if (r < 0)
        return r;
    r = database_open(options->path, &store->database, diag);
    if (r < 0)
        return r;
    r = database_load(store->database, store, diag);
    if (r < 0)
        return r;
    store->revision_committed = store->revision_newest;
    store->bytes_newest = store->statistics.bytes;
    *ret = TAKE(store);
    return 0;
}

static void wait_in_flight(struct store *store) {
    struct batch *batch = store->in_flight;
    if (!batch)
        return;
    pthread_mutex_lock(&batch->mutex);
    while (!batch->finished)
        pthread_cond_wait(&batch->cond, &batch->mutex);
    pthread_mutex_unlock(&batch->mutex);
    struct list writes;
    list_init(&writes);
    struct list *node;
    while ((node = list_pop(&batch->writes)))
        list_push(&writes, node);
    batch->store = NULL; /* its done() only frees it */
    store->in_flight = NULL;
    finish_all(store, &writes);
    call_back_all(&writes);
}

void store_close(struct store *store) {
    if (!store)
        return;
    ASSERT(store->statistics.watches == 0);
    wait_in_flight(store);
    while (!list_empty(&store->queue)) {
        struct batch batch;
        batch_init(&batch, store);
        reserve(store, &batch);
        work(&batch);
        finish_all(store, &batch.writes);
        call_back_all(&batch.writes);
        batch_deinit(&batch);
    }
    loop_defer_cancel(&store->start_defer);
    loop_defer_cancel(&store->deliver_defer);
    store_free(store);
}

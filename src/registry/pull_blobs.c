/* The blobs of an image: at most BLOBS_AT_ONCE connections, each takes the next blob that nobody has.
 *
 * 1. A blob that another pull is fetching is waited for (registry->arriving), and fetched only when that one did not manage, or takes so long that
 * its registry may be in no hurry.
 * 2. What a broken connection has brought is kept: the next try, or the next pull, asks for the rest (Range). Since the digest of the whole is
 * compared at the end, it does not matter who sent which part, or whether the server ignores the range and sends all again.
 * 3. More bytes than announced end the transfer at once; fewer are as wrong. `urls` of a descriptor are never followed (they may lead anywhere, also
 *    into this machine's network).
 * 4. The first failure ends the others. */
#include "registry/pull_priv.h"

#include <stdio.h>
#include <time.h>

#include "codec/codec.h"
#include "sys/sys.h"

#define BLOBS_AT_ONCE 4
#define ARRIVAL_WAIT_NS (120ll * 1000000000)
#define PROGRESS_BYTES_MIN (int64_t) MIB /* of one try, to count as none */

struct fetcher {
    struct registry_pull *pull;
    struct oci_descriptor *items; /* each digest once */
    size_t count;
    atomic_size_t next;
    pthread_mutex_t lock;
    int error; /* the first */
};

/* --- one fetch of a blob at a time --- */

/* Afterwards it is ours in `arriving`, or nobody waits for us. */
static int begin_arrival(struct registry_pull *pull, const struct oci_digest *digest) {
    struct registry *registry = pull->registry;
    struct slice key = slice_make(digest->hex, 64);
    const struct hub *hub = atomic_load(&pull->hub); /* cancelled when another blob of ours has failed, too */
    int64_t end_ns = sys_monotonic_ns() + ARRIVAL_WAIT_NS;
    pthread_mutex_lock(&registry->arriving_lock);
    while (map_find(registry->arriving, key) && !hub_is_cancelled(hub) && sys_monotonic_ns() < end_ns) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec++; /* to look whether it is cancelled */
        pthread_cond_timedwait(&registry->arrived, &registry->arriving_lock, &until);
    }
    int r = hub_is_cancelled(hub) ? -ECANCELED : map_find(registry->arriving, key) ? 0 : map_put(registry->arriving, key, pull, NULL);
    pthread_mutex_unlock(&registry->arriving_lock);
    return r;
}

static void end_arrival(struct registry_pull *pull, const struct oci_digest *digest) {
    struct registry *registry = pull->registry;
    struct slice key = slice_make(digest->hex, 64);
    pthread_mutex_lock(&registry->arriving_lock);
    if (map_find(registry->arriving, key) == pull)
        map_remove(registry->arriving, key);
    pthread_cond_broadcast(&registry->arrived);
    pthread_mutex_unlock(&registry->arriving_lock);
}

/* --- one blob --- */

struct sink {
    struct registry_pull *pull;
    struct content_writer *writer;
    int64_t size_bytes;
};

static int on_body(void *userdata, struct slice bytes) {
    struct sink *sink = userdata;
    if (content_writer_size(sink->writer) + (int64_t)bytes.len > sink->size_bytes)
        return -EMSGSIZE;
    int r = content_writer_append(sink->writer, bytes);
    if (r == 0) {
        pull_report(sink->pull, bytes.len);
        atomic_fetch_add(&sink->pull->bytes_fetched, bytes.len);
    }
    return r;
}

static int wrong_size(struct sink *sink, const char *host, const char *digest, struct diag *diag) {
    return diag_set(diag, -EBADMSG, "%s sent a blob that is not as large as its manifest says: %s, %" PRId64 " bytes", host, digest,
                    sink->size_bytes);
}

/* All bytes are in the writer afterwards; whether they are right is not known yet. */
static int download(struct hub_connection *connection, size_t endpoint, const char *digest, struct sink *sink, struct diag *diag) {
    struct hub *hub = atomic_load(&sink->pull->hub);
    char path[16 + OCI_DIGEST_TEXT], what[16 + OCI_DIGEST_TEXT];
    snprintf(path, sizeof path, "blobs/%s", digest);
    snprintf(what, sizeof what, "blob %s", digest);
    int64_t began_ns = sys_monotonic_ns(), began_offset = content_writer_size(sink->writer);
    if (sink->size_bytes && content_writer_size(sink->writer) == sink->size_bytes)
        return 0; /* an earlier pull brought it all, and ended before it looked */
    for (int attempt = 0;;) {
        int64_t before = content_writer_size(sink->writer);
        struct hub_call call = HUB_CALL("GET", path);
        call.offset = before;
        call.began_ns = began_ns;
        call.began_offset = began_offset;
        call.on_body = on_body;
        call.userdata = sink;
        int r = hub_exchange(connection, endpoint, &call, diag);
        int64_t now = content_writer_size(sink->writer);
        if (r == -EMSGSIZE)
            return wrong_size(sink, hub_host(hub, endpoint), digest, diag);
        if (r == -ENOSPC || r == -EDQUOT)
            return diag_set(diag, r, "the disk is full: no place for a blob of %" PRId64 " bytes", sink->size_bytes);
        if (r == 0 && (call.status == 200 || call.status == 206))
            return now == sink->size_bytes ? 0 : wrong_size(sink, hub_host(hub, endpoint), digest, diag);
        if (now - before >= PROGRESS_BYTES_MIN)
            attempt = 0;
        if (!hub_waits(connection, &call, r, &attempt))
            return r ? r : hub_refused(hub, endpoint, &call, what, diag);
    }
}

static void throw_away(struct content_writer **writer) {
    if (*writer)
        content_writer_reject(*writer);
    content_writer_free(TAKE(*writer));
}

/* With what an earlier pull of this name has brought, unless there is a writer already. */
static int begin_writing(struct registry_pull *pull, const struct oci_descriptor *descriptor, struct content_writer **writer, struct diag *diag) {
    int r = *writer ? 0 : content_writer_resume(pull->registry->content, pull->name, &descriptor->digest, writer);
    if (r == 0 && content_writer_size(*writer) > descriptor->size_bytes) {
        throw_away(writer);
        r = content_writer_resume(pull->registry->content, pull->name, &descriptor->digest, writer);
    }
    return r < 0 ? diag_set(diag, r, "cannot store a blob: %s", strerror(-r)) : 0;
}

static int fetch_from(struct registry_pull *pull, struct hub_connection *connection, size_t endpoint, const struct oci_descriptor *descriptor,
                      struct content_writer **writer, struct diag *diag) {
    char text[OCI_DIGEST_TEXT];
    struct oci_digest found;
    int r = begin_writing(pull, descriptor, writer, diag);
    if (r < 0)
        return r;
    struct sink sink = {.pull = pull, .writer = *writer, .size_bytes = descriptor->size_bytes};
    r = download(connection, endpoint, oci_digest_format(&descriptor->digest, text), &sink, diag);
    if (r < 0)
        return r;
    r = content_writer_commit(*writer, &descriptor->digest, &found);
    if (r == -EBADMSG)
        diag_set(diag, r, "%s sent a blob that does not have its digest sha256:%s", hub_host(atomic_load(&pull->hub), endpoint),
                 descriptor->digest.hex);
    else if (r < 0)
        diag_set(diag, r, "cannot store a blob: %s", strerror(-r));
    if (r < 0)
        throw_away(writer); /* the next one writes anew */
    return r;
}

/* From where the manifest came, then from those that come after it. What one has begun, or an earlier pull, the next goes on with; what was wrong
 * begins anew. */
static int fetch(struct registry_pull *pull, struct hub_connection *connection, const struct oci_descriptor *descriptor, struct diag *diag) {
    CLEANUP(content_writer_freep) struct content_writer *writer = NULL;
    struct hub *hub = atomic_load(&pull->hub);
    int r = begin_writing(pull, descriptor, &writer, diag);
    if (r < 0)
        return r;
    pull_report(pull, (uint64_t)content_writer_size(writer));
    for (size_t i = pull->endpoint; i < hub_endpoints(hub); i++) {
        bool mixed = writer && content_writer_size(writer) > 0;
        r = fetch_from(pull, connection, i, descriptor, &writer, diag);
        if (r == -EBADMSG)
            throw_away(&writer);
        if (r == -EBADMSG && mixed) /* by whose fault is not known: once more, all from this one */
            r = fetch_from(pull, connection, i, descriptor, &writer, diag);
        if (r == -EBADMSG || r == -ENOSPC || r == -EDQUOT)
            throw_away(&writer);
        if (r == 0 || r == -ECANCELED || r == -ENOSPC || r == -EDQUOT)
            return r;
    }
    return r;
}

/* Are the bytes that are here as good as those that would come? Not when all that is known of them is that others got them by credentials, elsewhere:
 * a manifest may name what its own registry never had. */
static bool may_reuse(struct registry_pull *pull, const struct oci_digest *digest) {
    struct content *content = pull->registry->content;
    return content_touch_blob(content, digest) == 0 &&
           (content_find_link(content, pull->name, CONTENT_LINK_BLOB, digest, NULL) == 0 || content_is_shown_anywhere(content, digest));
}

/* They are, when it is that registry which others got them from, and it says that whoever asks now may have them as well. */
static bool is_granted(struct registry_pull *pull, struct hub_connection *connection, const struct oci_digest *digest) {
    struct content *content = pull->registry->content;
    struct diag ignored = DIAG_INIT;
    char path[16 + OCI_DIGEST_TEXT], text[OCI_DIGEST_TEXT];
    if (content_touch_blob(content, digest) < 0 || !content_came_from(content, digest, pull->reference.registry))
        return false;
    snprintf(path, sizeof path, "blobs/%s", oci_digest_format(digest, text));
    struct hub_call call = HUB_CALL("HEAD", path);
    return hub_exchange(connection, pull->endpoint, &call, &ignored) == 0 && call.status == 200;
}

static int link_blob(struct registry_pull *pull, const struct oci_digest *digest) {
    struct content *content = pull->registry->content;
    return pull->credential ? content_link_private(content, pull->name, digest, pull->reference.registry)
                            : content_link(content, pull->name, CONTENT_LINK_BLOB, digest, (struct slice){0});
}

static int bring(struct registry_pull *pull, struct hub_connection *connection, const struct oci_descriptor *descriptor, struct diag *diag) {
    int r = begin_arrival(pull, &descriptor->digest);
    if (r < 0)
        return diag_set(diag, r, "%s", r == -ECANCELED ? "cancelled" : "out of memory");
    if (may_reuse(pull, &descriptor->digest) || is_granted(pull, connection, &descriptor->digest))
        pull_report(pull, (uint64_t)descriptor->size_bytes);
    else
        r = fetch(pull, connection, descriptor, diag);
    if (r == 0 && (r = link_blob(pull, &descriptor->digest)) < 0) /* before the next one looks whether it may have it */
        diag_set(diag, r, "cannot store a blob: %s", strerror(-r));
    end_arrival(pull, &descriptor->digest);
    return r;
}

/* --- several at once --- */

static void *fetcher_main(void *userdata) {
    struct fetcher *fetcher = userdata;
    struct hub *hub = atomic_load(&fetcher->pull->hub);
    CLEANUP(hub_connection_freep) struct hub_connection *connection = NULL;
    struct diag diag = DIAG_INIT;
    int r = hub_connect(hub, &connection);
    if (r < 0)
        diag_set(&diag, r, "out of memory");
    for (size_t i; r == 0 && (i = atomic_fetch_add(&fetcher->next, 1)) < fetcher->count;)
        r = bring(fetcher->pull, connection, &fetcher->items[i], &diag);
    if (r == 0)
        return NULL;
    pthread_mutex_lock(&fetcher->lock);
    bool first = fetcher->error == 0;
    if (first) {
        fetcher->error = r;
        fetcher->pull->diag = diag;
    }
    pthread_mutex_unlock(&fetcher->lock);
    atomic_store(&fetcher->next, fetcher->count);
    if (first)
        hub_cancel(hub);
    return NULL;
}

static void run(struct fetcher *fetcher) {
    pthread_t threads[BLOBS_AT_ONCE - 1];
    size_t started = 0, wanted = MIN(fetcher->count, (size_t)BLOBS_AT_ONCE);
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, fetcher_main, fetcher) == 0)
        started++;
    fetcher_main(fetcher);
    while (started > 0)
        pthread_join(threads[--started], NULL);
}

static bool add(struct fetcher *fetcher, const struct oci_descriptor *descriptor) {
    for (size_t i = 0; i < fetcher->count; i++)
        if (oci_digest_equal(&fetcher->items[i].digest, &descriptor->digest))
            return true;
    fetcher->items[fetcher->count++] = *descriptor;
    return pull_hold(fetcher->pull, &descriptor->digest) == 0;
}

int pull_blobs(struct registry_pull *pull, const struct oci_digest *digest, const struct oci_manifest *manifest) {
    CLEANUP(freep) struct oci_descriptor *items = calloc(manifest->count + 1, sizeof *items);
    struct fetcher fetcher = {.pull = pull, .items = items};
    bool ok = items && (!manifest->has_config || add(&fetcher, &manifest->config));
    for (size_t i = 0; ok && i < manifest->count; i++)
        ok = add(&fetcher, &manifest->items[i]);
    if (!ok)
        return diag_set(&pull->diag, -ENOMEM, "out of memory");
    uint64_t total = 0, missing = 0;
    for (size_t i = 0; i < fetcher.count; i++) {
        if ((uint64_t)items[i].size_bytes > CONTENT_BLOB_BYTES_MAX)
            return diag_set(&pull->diag, -EFBIG, "a layer of %s has %" PRId64 " bytes, more than is accepted", pull->reference.name,
                            items[i].size_bytes);
        total += (uint64_t)items[i].size_bytes;
        if (content_touch_blob(pull->registry->content, &items[i].digest) < 0)
            missing += (uint64_t)MAX(items[i].size_bytes - content_partial_size(pull->registry->content, pull->name, &items[i].digest), (int64_t)0);
    }
    if (content_check_space(pull->registry->content, missing) < 0)
        return diag_set(&pull->diag, -ENOSPC, "the disk is too full for %s: %" PRIu64 " bytes have to come", pull->reference.name, missing);
    atomic_store(&pull->bytes_total, total);
    if (missing >= REGISTRY_PULL_ARRIVING_BYTES_MIN)
        pull_tell_arriving(pull, digest);
    pthread_mutex_init(&fetcher.lock, NULL);
    run(&fetcher);
    pthread_mutex_destroy(&fetcher.lock);
    return fetcher.error;
}

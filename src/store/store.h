/* Objects in SQLite, with revisions and watch. See README.md.
 *
 * Every write becomes part of one SQLite transaction that sets the object and appends to the change log under the next revision; writes that arrive
 * together share a commit, done on a worker thread, and a write's callback runs only when its commit is durable (WAL, synchronous=FULL). Reads and
 * watches see committed state only, from memory; a write is checked against the newest accepted state, committed or not. Revisions are one counter
 * for the whole store, starting at 1; each object carries the revision of its last change. Values are opaque bytes. Keys are `kind` + `namespace`
 * (empty for cluster kinds) + `name`. Everything runs on the loop's thread. */
#ifndef TIDEMILL_STORE_H
#define TIDEMILL_STORE_H

#include "base/base.h"
#include "loop/loop.h"

struct store;

enum store_error {
    STORE_OK = 0,
    STORE_E_EXISTS = 1,   /* create: the key is taken */
    STORE_E_ABSENT = 2,   /* update, delete: no such key */
    STORE_E_CONFLICT = 3, /* the object's revision is not the expected one */
    STORE_E_FULL = 4,     /* the disk is full or the store's size limit is reached: reads go on, writes are refused */
    STORE_E_EXPIRED = 5,  /* watch: the revision is older than the change ring */
};

/* An immutable, reference-counted version of an object. */
struct store_object {
    unsigned references;
    uint64_t revision; /* of the change that made it */
    uint64_t created_revision;
    struct slice kind, namespace, name;
    struct slice value;
    void *cache; /* the user's decoded form; freed with cache_free when the object goes */
    void (*cache_free)(void *cache);
};
struct store_object *store_object_ref(struct store_object *object);
void store_object_unref(struct store_object *object); /* NULL is fine */
DEFINE_CLEANUP(struct store_object, store_object_unref)

struct store_options {
    const char *path;         /* the database file; its folder must exist and is locked against a second process (-EBUSY) */
    size_t changes_kept;      /* length of the change ring for watches; 0: 10000 */
    size_t changes_bytes_max; /* memory of old versions that the ring may hold, whatever changes_kept says; 0: 8 MiB */
    size_t bytes_max;         /* of all values; beyond it creates fail with STORE_E_FULL; 0: 1 GiB */
};
/* Opens or creates; loads everything into memory. Negative errno with diag: -EBUSY another instance, -EUCLEAN corrupt. */
int store_open(struct loop *loop, const struct store_options *options, struct store **ret, struct diag *diag);
/* Commits what is pending (blocks) and calls the callbacks of those writes, then frees. Watches must be freed before. NULL is fine. */
void store_close(struct store *store);

/* The newest committed revision. */
uint64_t store_revision(const struct store *store);
/* A new reference, or NULL. */
struct store_object *store_get(struct store *store, struct slice kind, struct slice namespace, struct slice name);
/* As store_get, but the newest accepted version, committed or not: what a read-modify-write must start from. */
struct store_object *store_get_newest(struct store *store, struct slice kind, struct slice namespace, struct slice name);
/* Calls `each` for committed objects of a kind in order of namespace and name; namespace data NULL: all. `each` returns false to stop. It may take
 * references, and must not write. `after_namespace`/`after_name` (data NULL: from the start) continue a list behind a key. */
typedef bool store_each_fn(void *userdata, struct store_object *object);
void store_list(struct store *store, struct slice kind, struct slice namespace, struct slice after_namespace, struct slice after_name,
                store_each_fn *each, void *userdata);
/* The same as of an earlier revision, exactly, as long as the ring of changes reaches back to it: 0, STORE_E_EXPIRED, -ENOMEM. */
int store_list_at(struct store *store, uint64_t revision, struct slice kind, struct slice namespace, struct slice after_namespace,
                  struct slice after_name, store_each_fn *each, void *userdata);
size_t store_count(struct store *store, struct slice kind);
/* How many committed objects of a kind (and namespace; data NULL: all) come behind a key. Costs two searches, whatever the number. */
size_t store_count_behind(struct store *store, struct slice kind, struct slice namespace, struct slice after_namespace, struct slice after_name);

enum store_verb { STORE_CREATE, STORE_UPDATE, STORE_DELETE };
#define STORE_ANY_REVISION 0
struct store_write {
    enum store_verb verb;
    struct slice kind, namespace, name;
    struct slice value;         /* copied; for STORE_DELETE the last state that watchers get (empty: the current one) */
    uint64_t expected_revision; /* update and delete: STORE_ANY_REVISION or the revision the object must have */
};
/* Called once, on the loop, never before store_write returns. error: 0, STORE_E_FULL, or a negative errno (an I/O error: the write did not happen).
 * `object` is the new version (of a delete: the last one, with the delete's revision); take a reference to keep it. */
typedef void store_written_fn(void *userdata, int error, struct store_object *object);
/* Checks at once and returns STORE_E_* without calling back, or -EINVAL (a malformed key), -EMSGSIZE (more than 4 MiB), -EBUSY (64 MiB wait for the
 * disk), -ENOMEM, or what the stamp returned; 0 when accepted, with *ret_revision (may be NULL) the revision it will have.
 * The value of an object that carries its own resourceVersion is stamped by `stamp`, see store_set_stamp. on_done may be NULL. */
int store_write(struct store *store, const struct store_write *write, store_written_fn *on_done, void *userdata, uint64_t *ret_revision);
/* Called with the revision an accepted write gets, to append the value to be stored to `out` (e.g. with metadata.resourceVersion set): the API's
 * hook. Optional. */
typedef int store_stamp_fn(void *userdata, const struct store_write *write, uint64_t revision, struct buffer *out);
void store_set_stamp(struct store *store, store_stamp_fn *stamp, void *userdata);

/* Watches: committed changes of a kind (data NULL: every kind) and namespace (data NULL: all) after `revision`, in order. Events are delivered from
 * the loop, at most a batch per turn; the callback may free the watch. A watch that starts behind the ring gets STORE_E_EXPIRED from store_watch_new.
 * The callback returns false when it cannot take more (a slow client): delivery pauses until store_watch_resume; a paused watch that falls behind the
 * ring gets on_lost and no more. */
enum store_change { STORE_ADDED, STORE_MODIFIED, STORE_DELETED };
struct store_watch_callbacks {
    bool (*on_change)(void *userdata, enum store_change change, struct store_object *object,
                      struct store_object *previous); /* previous: NULL when added */
    void (*on_lost)(void *userdata);
};
struct store_watch;
int store_watch_new(struct store *store, struct slice kind, struct slice namespace, uint64_t revision, const struct store_watch_callbacks *callbacks,
                    void *userdata, struct store_watch **ret);
void store_watch_resume(struct store_watch *watch);
void store_watch_free(struct store_watch *watch); /* NULL is fine */
/* The revision up to which everything has been delivered: what a bookmark may name. */
uint64_t store_watch_revision(const struct store_watch *watch);

/* A durable key-value side table for what is no object (counters, tokens, pipeline records): same guarantees, no watch. value data NULL deletes. A
 * put shows at once, so that a counter can build on it; should its commit fail, the last durable value returns. Errors as of store_write. */
int store_meta_put(struct store *store, struct slice key, struct slice value, void (*on_done)(void *userdata, int error), void *userdata);
/* Borrowed until the next store_meta_put of the key; data NULL when absent. */
struct slice store_meta_get(struct store *store, struct slice key);
void store_meta_list(struct store *store, struct slice prefix, bool (*each)(void *userdata, struct slice key, struct slice value), void *userdata);

struct store_statistics {
    uint64_t commits, writes, bytes, objects, watches;
};
void store_statistics(const struct store *store, struct store_statistics *ret);

#endif

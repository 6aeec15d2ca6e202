/* The insides of the store, shared by its files. */
#ifndef TIDEMILL_STORE_PRIV_H
#define TIDEMILL_STORE_PRIV_H

#include "store/store.h"

#define STORE_CHANGES_KEPT_DEFAULT 10000
#define STORE_CHANGES_BYTES_DEFAULT (8 * MIB) /* of old versions held only for watches */
#define STORE_BYTES_DEFAULT (1 * GIB)
#define STORE_VALUE_BYTES_MAX (4 * MIB)
#define STORE_KEY_BYTES_MAX 1024
#define STORE_PENDING_BYTES_MAX (64 * MIB) /* accepted and not yet durable */
#define STORE_BATCH_WRITES_MAX 4096
#define STORE_WATCH_EVENTS_PER_TURN 64
#define STORE_WATCH_SCANNED_PER_TURN 1024

/* ---- objects ---- */

/* One malloc holds the struct, its key and its value. NULL without memory. */
struct store_object *object_new(struct slice kind, struct slice namespace, struct slice name, uint64_t revision, uint64_t created_revision,
                                struct slice value);
/* FNV-1a over key, revisions and value: finds rotten bits that SQLite itself would not see. */
uint64_t object_checksum(const struct store_object *object);
static inline size_t object_bytes(const struct store_object *object) {
    return sizeof *object + object->kind.len + object->namespace.len + object->name.len + object->value.len;
}

/* ---- the committed objects of one kind, sorted by namespace and name ---- */

struct kind_index {
    VECTOR(struct store_object *) objects;
};
struct index {
    struct map *kinds; /* kind → struct kind_index */
};
int index_init(struct index *index);
void index_deinit(struct index *index);
struct kind_index *index_kind(const struct index *index, struct slice kind); /* NULL when the kind was never stored */
/* Borrowed or NULL. */
struct store_object *index_find(const struct index *index, struct slice kind, struct slice namespace, struct slice name);
/* Position of the first object behind the key (or at it, when not `after`). */
size_t index_position(const struct kind_index *kind, struct slice namespace, struct slice name, bool after);
/* So that index_put cannot fail: room for one more object of the kind. */
int index_reserve(struct index *index, struct slice kind, size_t extra);
/* Sets the object under its key (takes a reference). The room must have been reserved. */
void index_put(struct index *index, struct store_object *object);
void index_remove(struct index *index, const struct store_object *object);

/* ---- the ring of recent changes ---- */

struct ring_entry {
    enum store_change change;
    uint64_t revision;
    struct store_object *object, *previous;
};
/* Entries are numbered for ever from 0; those from `first` on are kept. */
struct ring {
    struct ring_entry *items; /* capacity is a power of two */
    size_t capacity;
    uint64_t first, next;
    uint64_t base_revision; /* of the newest change that is no longer there: watches may start from here on */
    size_t bytes;
    size_t count_max, bytes_max;
};
void ring_deinit(struct ring *ring);
int ring_reserve(struct ring *ring, size_t extra);
/* Takes references. Drops the oldest beyond the limits, but never the last. */
void ring_push(struct ring *ring, enum store_change change, uint64_t revision, struct store_object *object, struct store_object *previous);
struct ring_entry *ring_at(const struct ring *ring, uint64_t number);
/* Number of the first entry with a revision above. */
uint64_t ring_after(const struct ring *ring, uint64_t revision);

/* ---- the side table ---- */

struct meta_value {
    unsigned references;
    size_t len;
    char data[];
};
struct meta_entry {
    struct meta_value *committed, *newest; /* a reference each; NULL: absent */
    struct pending *last;                  /* the newest write under way that has not failed */
    size_t writes;                         /* under way, failed ones too: they point here */
    char *key;
    size_t key_len;
};
void meta_value_unref(struct meta_value *value); /* NULL is fine */

/* ---- writes under way ---- */

/* A write that was accepted. It may build on an earlier one of the same key that is not durable either (`after`): should that fail, so does this. */
struct pending {
    struct list node;
    struct store_object *object;   /* the new version, of a delete the last one; NULL for the side table */
    struct store_object *previous; /* NULL when created */
    enum store_change change;
    struct meta_entry *meta;        /* side table only */
    struct meta_value *meta_value;  /* a reference; NULL deletes */
    struct pending *after, *before; /* the one it builds on, the one that builds on it */
    int error;                      /* STORE_E_FULL or negative errno */
    size_t bytes;
    store_written_fn *on_written;
    void (*on_meta)(void *userdata, int error);
    void *userdata;
};

/* ---- the database file: opened on the loop's thread, then used by one worker at a time ---- */

struct database;
int database_open(const char *path, struct database **ret, struct diag *diag);
void database_close(struct database *database);
/* Fills index, ring, side table and newest revision. */
int database_load(struct database *database, struct store *store, struct diag *diag);
/* Makes the writes of the list durable in one transaction (after a full disk: each in its own, so that what still fits gets through) and sets their
 * `error`. Forgets changes up to `changes_dropped`. Runs on a worker thread. */
void database_commit(struct database *database, struct list *writes, uint64_t changes_dropped);
/* For tests: runs SQL. 0 or -EIO. */
int database_execute(struct database *database, const char *sql);

/* ---- the store ---- */

struct batch;

struct store {
    struct loop *loop;
    struct database *database;
    int lock_fd;
    struct index index;
    struct ring ring;
    struct map *newest; /* kind NUL namespace NUL name → struct pending: keys with writes under way, and the last of them */
    struct map *meta;   /* key → struct meta_entry */
    struct list queue;  /* accepted, not yet handed to a worker */
    size_t pending_bytes;
    struct batch *in_flight;
    struct loop_defer start_defer;
    uint64_t revision_committed, revision_newest;
    size_t bytes_max, bytes_newest;
    store_stamp_fn *stamp;
    void *stamp_userdata;
    struct list watches_idle, watches_ready, watches_paused, watches_lost;
    struct loop_defer deliver_defer;
    struct store_statistics statistics;
};

/* Makes room in memory, links behind an unfinished write of the same key, and queues. */
void pending_queue(struct store *store, struct pending *pending);
void watches_init(struct store *store);
/* There are new changes, or the ring has moved on. */
void watches_on_change(struct store *store);
/* Side table: loading, and what becomes of a write. */
int meta_load(struct store *store, struct slice key, struct slice value);
void meta_on_finished(struct store *store, struct pending *pending);
void meta_deinit(struct store *store);

#endif

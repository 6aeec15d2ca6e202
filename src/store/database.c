/* The database file: SQLite in WAL mode with synchronous=FULL, so a transaction is one append to the WAL and one fsync.
 *
 *   objects(kind, namespace, name → revision, created, value, checksum)   the newest version of each object
 *   changes(revision → change, key, the version *before* the change)      the log behind the watch ring, bounded
 *   meta(key → value)                                                     the side table
 *
 * The log keeps the version before, not after: together with `objects` that is enough to rebuild every version in it, going backwards (load_changes),
 * and gives each change its `previous`. Of a delete, which leaves nothing in `objects`, it also keeps the last state that watchers got. The checksum
 * covers what SQLite does not: bits that rot inside a value. Rejected: WITHOUT ROWID (large values would fill interior pages). The WAL is bounded by
 * SQLite's automatic checkpoint (1000 pages, run by the committing worker) and journal_size_limit. */
#include "store/store_priv.h"

#include <sqlite3.h>

#define SCHEMA_VERSION 1

enum statement { PUT_OBJECT, DELETE_OBJECT, PUT_CHANGE, DROP_CHANGES, PUT_META, DELETE_META, BEGIN, COMMIT, ROLLBACK, STATEMENTS };

static const char *const statement_sql[STATEMENTS] = {
    [PUT_OBJECT] = "INSERT INTO objects(kind, namespace, name, revision, created, checksum, value) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"
                   " ON CONFLICT(kind, namespace, name) DO UPDATE SET revision = ?4, created = ?5, checksum = ?6, value = ?7",
    [DELETE_OBJECT] = "DELETE FROM objects WHERE kind = ?1 AND namespace = ?2 AND name = ?3",
    [PUT_CHANGE] = "INSERT INTO changes(revision, change, kind, namespace, name, before_revision, created, before, last)"
                   " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    [DROP_CHANGES] = "DELETE FROM changes WHERE revision <= ?1",
    [PUT_META] = "INSERT INTO meta(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2",
    [DELETE_META] = "DELETE FROM meta WHERE key = ?1",
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
};

static const char schema_sql[] =
    "CREATE TABLE objects(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,"
    " revision INTEGER NOT NULL, created INTEGER NOT NULL, checksum INTEGER NOT NULL, value BLOB NOT NULL,"
    " UNIQUE(kind, namespace, name));"
    "CREATE TABLE changes(revision INTEGER PRIMARY KEY, change INTEGER NOT NULL, kind TEXT NOT NULL, namespace TEXT NOT NULL,"
    " name TEXT NOT NULL, before_revision INTEGER NOT NULL, created INTEGER NOT NULL, before BLOB, last BLOB);"
    "CREATE TABLE meta(key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;";

struct database {
    sqlite3 *connection;
    sqlite3_stmt *statements[STATEMENTS];
    char *path;
};

/* ---- errors ---- */

static int to_error(struct database *database, int code) {
    switch (code & 0xff) {
    case SQLITE_OK:
    case SQLITE_DONE:
    case SQLITE_ROW: return 0;
    case SQLITE_FULL: return STORE_E_FULL;
    case SQLITE_NOMEM: return -ENOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return -EUCLEAN;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return -EBUSY;
    case SQLITE_READONLY:
    case SQLITE_PERM: return -EACCES;
    default: {
        int error = database->connection ? sqlite3_system_errno(database->connection) : 0;
        return error == ENOSPC || error == EDQUOT ? STORE_E_FULL : -EIO;
    }
    }
}

static int say_corrupt(struct database *database, struct diag *diag, const char *what) {
    diag_set(diag, -EUCLEAN, "the database %.250s is damaged: %.150s", database->path, what);
    return diag_hint(diag, -EUCLEAN,
                     "stop tidemill, keep a copy of the file with its -wal and -shm, then restore the last backup, or recover what can be read with "
                     "`sqlite3 FILE .recover | sqlite3 NEW`; moving the file away starts empty");
}

static int say(struct database *database, int code, struct diag *diag) {
    int error = to_error(database, code);
    const char *what = database->connection ? sqlite3_errmsg(database->connection) : sqlite3_errstr(code);
    if (error == -EUCLEAN)
        return say_corrupt(database, diag, what);
    if (error == STORE_E_FULL) {
        diag_set(diag, -ENOSPC, "the disk is full: cannot open the database %s", database->path);
        return diag_hint(diag, -ENOSPC, "free some space on the state folder's file system");
    }
    return diag_set(diag, error, "cannot open the database %s: %s", database->path, what);
}

/* ---- statements ---- */

/* Runs a statement to its end and leaves it ready for the next use. */
static int run(struct database *database, enum statement statement) {
    sqlite3_stmt *prepared = database->statements[statement];
    int code = sqlite3_step(prepared);
    int error = to_error(database, code);
    sqlite3_reset(prepared);
    sqlite3_clear_bindings(prepared);
    return error;
}

static void bind_text(sqlite3_stmt *statement, int at, struct slice text) {
    sqlite3_bind_text(statement, at, text.len ? text.data : "", (int)text.len, SQLITE_STATIC);
}

static void bind_blob(sqlite3_stmt *statement, int at, struct slice bytes) {
    sqlite3_bind_blob(statement, at, bytes.len ? bytes.data : "", (int)bytes.len, SQLITE_STATIC);
}

static void bind_key(sqlite3_stmt *statement, int at, const struct store_object *object) {
    bind_text(statement, at, object->kind);
    bind_text(statement, at + 1, object->namespace);
    bind_text(statement, at + 2, object->name);
}

/* ---- commit ---- */

static int write_object(struct database *database, const struct pending *pending) {
    const struct store_object *object = pending->object;
    sqlite3_stmt *statement = database->statements[pending->change == STORE_DELETED ? DELETE_OBJECT : PUT_OBJECT];
    bind_key(statement, 1, object);
    if (pending->change != STORE_DELETED) {
        sqlite3_bind_int64(statement, 4, (sqlite3_int64)object->revision);
        sqlite3_bind_int64(statement, 5, (sqlite3_int64)object->created_revision);
        sqlite3_bind_int64(statement, 6, (sqlite3_int64)object_checksum(object));
        bind_blob(statement, 7, object->value);
    }
    return run(database, pending->change == STORE_DELETED ? DELETE_OBJECT : PUT_OBJECT);
}

static int write_change(struct database *database, const struct pending *pending) {
    const struct store_object *object = pending->object, *previous = pending->previous;
    sqlite3_stmt *statement = database->statements[PUT_CHANGE];
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)object->revision);
    sqlite3_bind_int(statement, 2, (int)pending->change);
    bind_key(statement, 3, object);
    sqlite3_bind_int64(statement, 6, previous ? (sqlite3_int64)previous->revision : 0);
    sqlite3_bind_int64(statement, 7, (sqlite3_int64)object->created_revision);
    if (previous)
        bind_blob(statement, 8, previous->value);
    if (pending->change == STORE_DELETED)
        bind_blob(statement, 9, object->value);
    return run(database, PUT_CHANGE);
}

static int write_meta(struct database *database, const struct pending *pending) {
    enum statement which = pending->meta_value ? PUT_META : DELETE_META;
    sqlite3_stmt *statement = database->statements[which];
    bind_blob(statement, 1, slice_make(pending->meta->key, pending->meta->key_len));
    if (pending->meta_value)
        bind_blob(statement, 2, slice_make(pending->meta_value->data, pending->meta_value->len));
    return run(database, which);
}

/* False: the write was refused already, or one that it builds on was. */
static bool is_due(struct pending *pending) {
    if (!pending->error && pending->after && pending->after->error)
        pending->error = pending->after->error;
    return !pending->error;
}

static int write_one(struct database *database, struct pending *pending) {
    if (pending->meta)
        return write_meta(database, pending);
    int r = write_object(database, pending);
    return r == 0 ? write_change(database, pending) : r;
}

static int finish(struct database *database, int error) {
    if (error == 0)
        error = run(database, COMMIT);
    /* A failed statement or commit may have rolled back by itself. */
    if (error != 0 && !sqlite3_get_autocommit(database->connection))
        run(database, ROLLBACK);
    return error;
}

static int drop_changes(struct database *database, uint64_t changes_dropped) {
    sqlite3_bind_int64(database->statements[DROP_CHANGES], 1, (sqlite3_int64)changes_dropped);
    return run(database, DROP_CHANGES);
}

static int commit_together(struct database *database, struct list *writes, uint64_t changes_dropped) {
    int r = run(database, BEGIN);
    LIST_FOREACH(node, writes) {
        struct pending *pending = CONTAINER_OF(node, struct pending, node);
        if (r == 0 && is_due(pending))
            r = write_one(database, pending);
    }
    if (r == 0)
        r = drop_changes(database, changes_dropped);
    return finish(database, r);
}

static void commit_apart(struct database *database, struct list *writes) {
    LIST_FOREACH(node, writes) {
        struct pending *pending = CONTAINER_OF(node, struct pending, node);
        if (!is_due(pending))
            continue;
        int r = run(database, BEGIN);
        if (r == 0)
            r = write_one(database, pending);
        pending->error = finish(database, r);
    }
}

void database_commit(struct database *database, struct list *writes, uint64_t changes_dropped) {
    int r = commit_together(database, writes, changes_dropped);
    if (r == STORE_E_FULL) {
        commit_apart(database, writes);
        return;
    }
    LIST_FOREACH(node, writes) {
        struct pending *pending = CONTAINER_OF(node, struct pending, node);
        if (!pending->error)
            pending->error = r;
    }
}

int database_execute(struct database *database, const char *sql) {
    return sqlite3_exec(database->connection, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : -EIO;
}

/* ---- open ---- */

static int read_version(struct database *database, int *ret) {
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(database->connection, "PRAGMA user_version", -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code == SQLITE_ROW)
        *ret = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    return code == SQLITE_ROW ? SQLITE_OK : code;
}

static int prepare_schema(struct database *database, struct diag *diag) {
    int version = 0;
    int code = read_version(database, &version);
    if (code != SQLITE_OK)
        return say(database, code, diag);
    if (version > SCHEMA_VERSION) {
        diag_set(diag, -ENOTSUP, "the database %s has schema %d; this tidemill knows up to %d", database->path, version, SCHEMA_VERSION);
        return diag_hint(diag, -ENOTSUP, "it was written by a newer tidemill: run that version, or restore a backup made before the upgrade");
    }
    if (version == 0) {
        CLEANUP(buffer_deinit) struct buffer sql = BUFFER_INIT(8 * KIB);
        buffer_printf(&sql, "BEGIN IMMEDIATE; %s PRAGMA user_version = %d; COMMIT;", schema_sql, SCHEMA_VERSION);
        if (buffer_error(&sql))
            return diag_set(diag, buffer_error(&sql), "out of memory");
        code = sqlite3_exec(database->connection, sql.data, NULL, NULL, NULL);
        if (code != SQLITE_OK)
            return say(database, code, diag);
    }
    for (int i = 0; i < STATEMENTS; i++) {
        code = sqlite3_prepare_v3(database->connection, statement_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &database->statements[i], NULL);
        if (code != SQLITE_OK)
            return (code & 0xff) == SQLITE_ERROR ? say_corrupt(database, diag, sqlite3_errmsg(database->connection)) : say(database, code, diag);
    }
    return 0;
}

DEFINE_CLEANUP(struct database, database_close)

int database_open(const char *path, struct database **ret, struct diag *diag) {
    CLEANUP(database_closep) struct database *database = calloc(1, sizeof *database);
    if (!database || !(database->path = slice_dup(slice_of(path))))
        return diag_set(diag, -ENOMEM, "out of memory");
    int code = sqlite3_open_v2(path, &database->connection, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code != SQLITE_OK)
        return say(database, code, diag);
    sqlite3_extended_result_codes(database->connection, 1);
    sqlite3_busy_timeout(database->connection, 10000); /* somebody makes a backup */
    code = sqlite3_exec(database->connection,
                        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 4194304;"
                        "PRAGMA cache_size = -1024; PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;",
                        NULL, NULL, NULL);
    if (code != SQLITE_OK)
        return say(database, code, diag);
    int r = prepare_schema(database, diag);
    if (r < 0)
        return r;
    *ret = TAKE(database);
    return 0;
}

void database_close(struct database *database) {
    if (!database)
        return;
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(database->statements[i]);
    sqlite3_close(database->connection);
    free(database->path);
    free(database);
}

/* ---- load ---- */

static struct slice column(sqlite3_stmt *statement, int at) {
    const void *data = sqlite3_column_blob(statement, at);
    return slice_make(data ? data : "", (size_t)sqlite3_column_bytes(statement, at));
}

/* Calls `each` per row; it returns 0, 1 to stop, or a negative errno. */
static int for_rows(struct database *database, const char *sql, int (*each)(void *userdata, sqlite3_stmt *row), void *userdata, struct diag *diag) {
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(database->connection, sql, -1, &statement, NULL);
    if (code != SQLITE_OK)
        return say(database, code, diag);
    int r = 0;
    while (r == 0 && (code = sqlite3_step(statement)) == SQLITE_ROW)
        r = each(userdata, statement);
    if (r == 0 && code != SQLITE_DONE)
        r = say(database, code, diag);
    sqlite3_finalize(statement);
    return r < 0 ? r : 0;
}

static int load_object(void *userdata, sqlite3_stmt *row) {
    struct store *store = userdata;
    struct store_object *object = object_new(column(row, 0), column(row, 1), column(row, 2), (uint64_t)sqlite3_column_int64(row, 3),
                                             (uint64_t)sqlite3_column_int64(row, 4), column(row, 6));
    if (!object)
        return -ENOMEM;
    int r = object_checksum(object) == (uint64_t)sqlite3_column_int64(row, 5) ? index_reserve(&store->index, object->kind, 1) : -EUCLEAN;
    if (r == 0) {
        index_put(&store->index, object);
        store->statistics.objects++;
        store->statistics.bytes += object->value.len;
        store->revision_newest = MAX(store->revision_newest, object->revision);
    }
    store_object_unref(object);
    return r;
}

static int load_meta(void *userdata, sqlite3_stmt *row) {
    return meta_load(userdata, column(row, 0), column(row, 1));
}

/* Rebuilding the ring, from the newest change back: `known` says which version each key had after the change at hand. */
struct replay {
    struct store *store;
    struct map *known;                 /* kind NUL namespace NUL name → struct store_object (a reference) */
    VECTOR(struct ring_entry) entries; /* newest first */
    size_t bytes;
};

static int replay_key(struct replay *replay, sqlite3_stmt *row, struct buffer *key, struct store_object **ret_known) {
    struct slice kind = column(row, 2), namespace = column(row, 3), name = column(row, 4);
    buffer_append_slice(key, kind);
    buffer_append_byte(key, 0);
    buffer_append_slice(key, namespace);
    buffer_append_byte(key, 0);
    int r = buffer_append_slice(key, name);
    if (r < 0)
        return r;
    struct store_object *known = map_remove(replay->known, buffer_slice(key));
    if (!known && (known = index_find(&replay->store->index, kind, namespace, name)))
        store_object_ref(known);
    *ret_known = known;
    return 0;
}

static struct store_object *replay_object(sqlite3_stmt *row, int64_t revision, int value) {
    return object_new(column(row, 2), column(row, 3), column(row, 4), (uint64_t)revision, (uint64_t)sqlite3_column_int64(row, 6), column(row, value));
}

static int load_change(void *userdata, sqlite3_stmt *row) {
    struct replay *replay = userdata;
    const struct ring *ring = &replay->store->ring;
    struct ring_entry entry = {.revision = (uint64_t)sqlite3_column_int64(row, 0), .change = (enum store_change)sqlite3_column_int(row, 1)};
    replay->store->revision_newest = MAX(replay->store->revision_newest, entry.revision);
    if (replay->entries.count >= ring->count_max || (replay->entries.count && replay->bytes >= ring->bytes_max)) {
        replay->store->ring.base_revision = entry.revision;
        return 1;
    }
    CLEANUP(buffer_deinit) struct buffer key = BUFFER_INIT(STORE_KEY_BYTES_MAX);
    CLEANUP(store_object_unrefp) struct store_object *known = NULL, *previous = NULL;
    int r = replay_key(replay, row, &key, &known);
    if (r < 0)
        return r;
    if (entry.change == STORE_DELETED) {
        store_object_unref(known);
        known = replay_object(row, (int64_t)entry.revision, 8);
        if (!known)
            return -ENOMEM;
    }
    if (entry.change != STORE_ADDED && !(previous = replay_object(row, sqlite3_column_int64(row, 5), 7)))
        return -ENOMEM;
    if (!known || known->revision != entry.revision)
        return -EUCLEAN;
    if (previous) {
        r = map_put(replay->known, buffer_slice(&key), previous, NULL);
        if (r < 0)
            return r;
        store_object_ref(previous);
    }
    entry.object = known;
    entry.previous = previous;
    r = VECTOR_PUSH(&replay->entries, entry);
    if (r < 0)
        return r;
    replay->bytes += object_bytes(known);
    known = previous = NULL; /* the entry owns them */
    return 0;
}

static int load_changes(struct database *database, struct store *store, struct diag *diag) {
    struct replay replay = {.store = store, .known = map_new()};
    if (!replay.known)
        return -ENOMEM;
    int r = for_rows(database,
                     "SELECT revision, change, kind, namespace, name, before_revision, created, before, last FROM changes ORDER BY revision DESC",
                     load_change, &replay, diag);
    if (r == 0 && replay.entries.count && !store->ring.base_revision)
        store->ring.base_revision = replay.entries.items[replay.entries.count - 1].revision - 1;
    if (r == 0)
        r = ring_reserve(&store->ring, replay.entries.count + 1);
    for (size_t i = replay.entries.count; i-- > 0;) {
        struct ring_entry *entry = &replay.entries.items[i];
        if (r == 0)
            ring_push(&store->ring, entry->change, entry->revision, entry->object, entry->previous);
        store_object_unref(entry->object);
        store_object_unref(entry->previous);
    }
    VECTOR_DEINIT(&replay.entries);
    void *value;
    for (size_t at = 0; map_next(replay.known, &at, NULL, &value);)
        store_object_unref(value);
    map_free(replay.known);
    return r;
}

int database_load(struct database *database, struct store *store, struct diag *diag) {
    int r = for_rows(database, "SELECT kind, namespace, name, revision, created, checksum, value FROM objects ORDER BY kind, namespace, name",
                     load_object, store, diag);
    if (r == 0)
        r = load_changes(database, store, diag);
    if (r == 0)
        r = for_rows(database, "SELECT key, value FROM meta", load_meta, store, diag);
    if (r == 0 && store->ring.next == 0)
        store->ring.base_revision = store->revision_newest;
    sqlite3_db_release_memory(database->connection);
    if (r == -EUCLEAN && (!diag || !diag->message[0]))
        return say_corrupt(database, diag, "an object does not match its checksum, or the change log does not match the objects");
    if (r == -ENOMEM)
        return diag_set(diag, r, "out of memory while loading the database %s", database->path);
    return r;
}

/* Here SQLite allocates through the same countdown: see sqlite_memory. */
#include <fcntl.h>
#include <stdio.h>
#include <sqlite3.h>

#include "store/store_priv.h"
#include "sys/sys.h"

#include "faults.h"
#include "unit.h"

struct fixture {
    char folder[64], path[80];
    struct loop *loop;
    struct store *store;
};

static void fixture_init(struct fixture *fixture) {
    *fixture = (struct fixture){.folder = "/dev/shm/store_faults.XXXXXX"};
    faults_pause();
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(fixture->path, sizeof fixture->path, "%s/objects.db", fixture->folder);
    assert_int_equal(loop_new(&fixture->loop), 0);
    faults_resume();
}

static int fixture_open(struct fixture *fixture) {
    struct diag diag = DIAG_INIT;
    int r = store_open(fixture->loop, &(struct store_options){.path = fixture->path}, &fixture->store, &diag);
    if (r < 0)
        assert_true(diag.message[0]);
    if (faults_struck_memory())
        assert_int_not_equal(r, -EUCLEAN); /* nothing is damaged; a disk that cannot be read counts as damage for SQLite */
    return r;
}

static void fixture_deinit(struct fixture *fixture) {
    store_close(fixture->store);
    loop_free(fixture->loop);
    faults_pause();
    assert_int_equal(sys_remove_tree(AT_FDCWD, fixture->folder), 0);
    faults_resume();
}

struct outcome {
    int calls, error;
};

static void on_written(void *userdata, int error, struct store_object *object) {
    struct outcome *outcome = userdata;
    assert_true(error == 0 || !object || object->revision);
    outcome->calls++;
    outcome->error = error;
}

static void on_meta(void *userdata, int error) {
    on_written(userdata, error, NULL);
}

static int wait_for(struct fixture *f, const int *count, int wanted) {
    int r = 0;
    while (*count < wanted && r == 0)
        r = loop_turn(f->loop, 1000);
    return r;
}

/* An error that was told is the end of the matter; one that comes later is told to the callback, exactly once. */
static int write_now(struct fixture *f, enum store_verb verb, const char *name, const char *value) {
    struct outcome outcome = {0};
    struct store_write write = {.verb = verb, .kind = SLICE("pods"), .namespace = SLICE("default"), .name = slice_of(name), .value = slice_of(value)};
    int r = store_write(f->store, &write, on_written, &outcome, NULL);
    if (r == 0) {
        while (outcome.calls == 0)
            (void)loop_turn(f->loop, 1000);
        r = outcome.error;
    }
    return r;
}

static bool has(struct fixture *f, const char *name, const char *value) {
    CLEANUP(store_object_unrefp) struct store_object *object = store_get(f->store, SLICE("pods"), SLICE("default"), slice_of(name));
    return object ? value && slice_is(object->value, value) : !value;
}

static bool count_each(void *userdata, struct store_object *object) {
    (void)object;
    ++*(int *)userdata;
    return true;
}

/* What was acknowledged is there after opening anew, and what was refused is not, neither before nor after. */
static int write_and_reopen(__attribute__((unused)) void *context) {
    struct fixture f;
    fixture_init(&f);
    bool created = false, updated = false, deleted = false;
    int r = fixture_open(&f);
    if (r == 0) {
        r = write_now(&f, STORE_CREATE, "a", "1");
        created = r == 0;
        faults_pause();
        assert_true(has(&f, "a", created ? "1" : NULL));
        faults_resume();
    }
    if (r == 0) {
        r = write_now(&f, STORE_UPDATE, "a", "2");
        updated = r == 0;
        faults_pause();
        assert_true(has(&f, "a", updated ? "2" : "1"));
        faults_resume();
    }
    if (r == 0)
        r = write_now(&f, STORE_CREATE, "b", "x");
    if (r == 0) {
        r = write_now(&f, STORE_DELETE, "b", "x");
        deleted = r == 0;
        faults_pause();
        assert_true(has(&f, "b", deleted ? NULL : "x"));
        faults_resume();
    }
    if (r == 0) {
        int count = 0;
        store_list(f.store, SLICE("pods"), (struct slice){0}, (struct slice){0}, (struct slice){0}, count_each, &count);
        assert_int_equal(count, 1);
    }
    store_close(TAKE(f.store));
    int reopened = fixture_open(&f);
    if (reopened < 0) { /* the fault struck here: the next one opens */
        faults_pause();
        assert_int_equal(fixture_open(&f), 0);
        faults_resume();
    }
    faults_pause();
    assert_true(has(&f, "a", updated ? "2" : created ? "1" : NULL));
    assert_true(!deleted || has(&f, "b", NULL));
    faults_resume();
    fixture_deinit(&f);
    return r != 0 ? r : reopened;
}

struct events {
    int count, lost;
    bool in_order;
    uint64_t last;
};

static bool on_change(void *userdata, enum store_change change, struct store_object *object, struct store_object *previous) {
    struct events *events = userdata;
    assert_true(object->revision > events->last);
    assert_true((previous == NULL) == (change == STORE_ADDED));
    events->last = object->revision;
    events->count++;
    return true;
}

static void on_lost(void *userdata) {
    ((struct events *)userdata)->lost++;
}

/* A watch hears of every write that was acknowledged, or is told that it lost. */
static int watch(__attribute__((unused)) void *context) {
    static const struct store_watch_callbacks callbacks = {on_change, on_lost};
    struct events events = {0};
    struct store_watch *watch = NULL;
    struct fixture f;
    int written = 0;
    fixture_init(&f);
    faults_pause();
    assert_int_equal(fixture_open(&f), 0);
    faults_resume();
    int r = store_watch_new(f.store, SLICE("pods"), (struct slice){0}, 0, &callbacks, &events, &watch);
    for (int i = 0; i < 6 && r == 0; i++) {
        char name[8];
        snprintf(name, sizeof name, "p%d", i % 3);
        r = write_now(&f, i < 3 ? STORE_CREATE : i < 5 ? STORE_UPDATE : STORE_DELETE, name, "v");
        written += r == 0;
    }
    while (watch && events.count < written && !events.lost)
        (void)loop_turn(f.loop, 1000);
    store_watch_free(watch);
    fixture_deinit(&f);
    return r;
}

static int meta(__attribute__((unused)) void *context) {
    struct outcome outcome = {0};
    struct fixture f;
    fixture_init(&f);
    faults_pause();
    assert_int_equal(fixture_open(&f), 0);
    faults_resume();
    int r = 0, accepted = 0;
    for (int i = 0; i < 4 && r == 0; i++) {
        r = store_meta_put(f.store, i == 2 ? SLICE("other") : SLICE("key"), i == 3 ? (struct slice){0} : SLICE("value"), on_meta, &outcome);
        accepted += r == 0;
    }
    (void)wait_for(&f, &outcome.calls, accepted);
    assert_int_equal(outcome.calls, accepted);
    r = r != 0 ? r : outcome.error;
    if (r == 0) {
        assert_true(slice_is(store_meta_get(f.store, SLICE("other")), "value"));
        assert_null(store_meta_get(f.store, SLICE("key")).data);
    }
    fixture_deinit(&f);
    return r;
}

UNIT_TEST(acknowledged_is_durable) {
    TEST_FAULTS_ANY(write_and_reopen, NULL);
}

UNIT_TEST(watches_hear_all) {
    TEST_FAULTS_ANY(watch, NULL);
}

UNIT_TEST(side_table) {
    TEST_FAULTS_ANY(meta, NULL);
}

/* ---- SQLite's memory and system calls ---- */

static sqlite3_mem_methods sqlite_memory;

static void *sqlite_malloc(int size) {
    return faults_strike_memory() ? NULL : sqlite_memory.xMalloc(size);
}

static void *sqlite_realloc(void *memory, int size) {
    return faults_strike_memory() ? NULL : sqlite_memory.xRealloc(memory, size);
}

/* The linker has put the countdown in front of these names. */
static void fail_sqlite_calls(void) {
    static const struct {
        const char *name;
        sqlite3_syscall_ptr call;
    } calls[] = {{"pwrite", (sqlite3_syscall_ptr)pwrite},
                 {"pwrite64", (sqlite3_syscall_ptr)pwrite},
                 {"pread", (sqlite3_syscall_ptr)pread},
                 {"pread64", (sqlite3_syscall_ptr)pread},
                 {"ftruncate", (sqlite3_syscall_ptr)ftruncate}};
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        vfs->xSetSystemCall(vfs, calls[i].name, calls[i].call);
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(acknowledged_is_durable), UNIT(watches_hear_all), UNIT(side_table)};
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite_memory);
    sqlite3_mem_methods failing = sqlite_memory;
    failing.xMalloc = sqlite_malloc;
    failing.xRealloc = sqlite_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &failing);
    fail_sqlite_calls();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "store/store_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "sys/sys.h"
#include "unit.h"

/* ---- a store in a folder of its own ---- */

struct fixture {
    char folder[64], path[80];
    struct loop *loop;
    struct store *store;
    struct store_options options;
};

static void fixture_open(struct fixture *fixture) {
    struct diag diag = DIAG_INIT;
    fixture->options.path = fixture->path;
    int r = store_open(fixture->loop, &fixture->options, &fixture->store, &diag);
    if (r != 0)
        print_error("%s\n", diag.message);
    assert_int_equal(r, 0);
}

static void fixture_init(struct fixture *fixture, const struct store_options *options) {
    *fixture = (struct fixture){.options = *options};
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/store_test.XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(fixture->path, sizeof fixture->path, "%s/objects.db", fixture->folder);
    assert_int_equal(loop_new(&fixture->loop), 0);
    fixture_open(fixture);
}

static void fixture_reopen(struct fixture *fixture) {
    store_close(fixture->store);
    fixture_open(fixture);
}

static void fixture_deinit(struct fixture *fixture) {
    store_close(fixture->store);
    loop_free(fixture->loop);
    assert_int_equal(sys_remove_tree(AT_FDCWD, fixture->folder), 0);
}

/* ---- writing and waiting ---- */

struct result {
    bool called;
    int error;
    uint64_t revision;
};

static void on_written(void *userdata, int error, struct store_object *object) {
    struct result *result = userdata;
    assert_false(result->called);
    *result = (struct result){.called = true, .error = error, .revision = object ? object->revision : 0};
}

static int write_later(struct fixture *f, enum store_verb verb, const char *name, const char *value, uint64_t expected, struct result *result) {
    struct store_write write = {.verb = verb,
                                .kind = SLICE("pods"),
                                .namespace = SLICE("default"),
                                .name = slice_of(name),
                                .value = slice_of(value),
                                .expected_revision = expected};
    *result = (struct result){.called = false};
    return store_write(f->store, &write, on_written, result, NULL);
}

static void wait_for(struct fixture *f, const bool *condition) {
    while (!*condition)
        assert_int_equal(loop_turn(f->loop, 10000), 0);
}

static uint64_t write_now(struct fixture *f, enum store_verb verb, const char *name, const char *value) {
    struct result result;
    assert_int_equal(write_later(f, verb, name, value, STORE_ANY_REVISION, &result), 0);
    wait_for(f, &result.called);
    assert_int_equal(result.error, 0);
    return result.revision;
}

static void assert_value(struct fixture *f, const char *name, const char *value) {
    CLEANUP(store_object_unrefp) struct store_object *object = store_get(f->store, SLICE("pods"), SLICE("default"), slice_of(name));
    if (!value) {
        assert_null(object);
        return;
    }
    assert_non_null(object);
    assert_true(slice_is(object->value, value));
}

/* ---- writes and reads ---- */

UNIT_TEST(writes_become_visible_when_durable) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.path = NULL});
    assert_int_equal(store_revision(f.store), 0);
    struct result result;
    assert_int_equal(write_later(&f, STORE_CREATE, "a", "1", 0, &result), 0);
    assert_value(&f, "a", NULL);
    struct store_object *newest = store_get_newest(f.store, SLICE("pods"), SLICE("default"), SLICE("a"));
    assert_int_equal(newest->revision, 1);
    store_object_unref(newest);
    assert_false(result.called);
    wait_for(&f, &result.called);
    assert_int_equal(result.revision, 1);
    assert_value(&f, "a", "1");
    assert_int_equal(store_revision(f.store), 1);
    write_now(&f, STORE_UPDATE, "a", "2");
    fixture_reopen(&f);
    assert_value(&f, "a", "2");
    assert_int_equal(store_revision(f.store), 2);
    CLEANUP(store_object_unrefp) struct store_object *object = store_get(f.store, SLICE("pods"), SLICE("default"), SLICE("a"));
    assert_int_equal(object->created_revision, 1);
    write_now(&f, STORE_DELETE, "a", "");
    assert_value(&f, "a", NULL);
    fixture_reopen(&f);
    assert_value(&f, "a", NULL);
    assert_int_equal(store_revision(f.store), 3);
    fixture_deinit(&f);
}

UNIT_TEST(checks_against_the_newest_accepted_state) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.path = NULL});
    struct result first, second, third, fourth;
    assert_int_equal(write_later(&f, STORE_UPDATE, "a", "x", 0, &first), STORE_E_ABSENT);
    assert_int_equal(write_later(&f, STORE_DELETE, "a", "x", 0, &first), STORE_E_ABSENT);
    assert_int_equal(write_later(&f, STORE_CREATE, "a", "1", 0, &first), 0);
    assert_int_equal(write_later(&f, STORE_CREATE, "a", "2", 0, &second), STORE_E_EXISTS);
    assert_int_equal(write_later(&f, STORE_UPDATE, "a", "2", 7, &second), STORE_E_CONFLICT);
    assert_int_equal(write_later(&f, STORE_UPDATE, "a", "2", 1, &second), 0);
    assert_int_equal(write_later(&f, STORE_UPDATE, "a", "3", 1, &third), STORE_E_CONFLICT);
    assert_int_equal(write_later(&f, STORE_DELETE, "a", "", 2, &third), 0);
    assert_int_equal(write_later(&f, STORE_CREATE, "a", "4", 0, &fourth), 0);
    wait_for(&f, &fourth.called);
    assert_true(first.called && second.called && third.called);
    struct store_statistics statistics;
    store_statistics(f.store, &statistics);
    assert_int_equal(statistics.commits, 1);
    assert_int_equal(statistics.writes, 4);
    assert_int_equal(statistics.objects, 1);
    assert_int_equal(statistics.bytes, 1);
    assert_value(&f, "a", "4");
    fixture_reopen(&f);
    assert_value(&f, "a", "4");
    fixture_deinit(&f);
}

UNIT_TEST(refuses_malformed_keys_and_huge_values) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.path = NULL});
    struct result result;
    assert_int_equal(write_later(&f, STORE_CREATE, "", "1", 0, &result), -EINVAL);
    char *huge = calloc(1, STORE_VALUE_BYTES_MAX + 2);
    memset(huge, 'x', STORE_VALUE_BYTES_MAX + 1);
    assert_int_equal(write_later(&f, STORE_CREATE, "a", huge, 0, &result), -EMSGSIZE);
    free(huge);
    fixture_deinit(&f);
}

struct listing {
    char text[256];
    size_t left;
};
static bool append_name(void *userdata, struct store_object *object) {
    struct listing *listing = userdata;
    size_t len = strlen(listing->text);
    snprintf(listing->text + len, sizeof listing->text - len, "%.*s/%.*s ", SLICE_ARG(object->namespace), SLICE_ARG(object->name));
    return --listing->left > 0;
}
static void assert_list(struct store *store, const char *namespace, const char *after_namespace, const char *after_name, size_t limit,
                        const char *expected) {
    struct listing listing = {.left = limit};
    store_list(store, SLICE("pods"), slice_of(namespace), slice_of(after_namespace), slice_of(after_name), append_name, &listing);
    assert_string_equal(listing.text, expected);
}

UNIT_TEST(lists_in_order_and_in_pages) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.path = NULL});
    static const char *const keys[][2] = {{"b", "1"}, {"a", "2"}, {"b", "0"}, {"a", "10"}, {"", "x"}, {"ab", "1"}};
    struct result result = {.called = false};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct store_write write = {
            .verb = STORE_CREATE, .kind = SLICE("pods"), .namespace = slice_of(keys[i][0]), .name = slice_of(keys[i][1]), .value = SLICE("v")};
        assert_int_equal(store_write(f.store, &write, i + 1 == ARRAY_LEN(keys) ? on_written : NULL, &result, NULL), 0);
    }
    wait_for(&f, &result.called);
    for (int reopened = 0; reopened < 2; reopened++) {
        assert_list(f.store, NULL, NULL, NULL, 100, "/x a/10 a/2 ab/1 b/0 b/1 ");
        assert_list(f.store, "a", NULL, NULL, 100, "a/10 a/2 ");
        assert_list(f.store, "aa", NULL, NULL, 100, "");
        assert_list(f.store, NULL, NULL, NULL, 2, "/x a/10 ");
        assert_list(f.store, NULL, "a", "10", 2, "a/2 ab/1 ");
        assert_list(f.store, "b", "b", "0", 9, "b/1 ");
        assert_list(f.store, "b", "a", "2", 9, "b/0 b/1 ");
        assert_int_equal(store_count(f.store, SLICE("pods")), 6);
        assert_int_equal(store_count(f.store, SLICE("nodes")), 0);
        struct slice all = {NULL, 0};
        assert_int_equal(store_count_behind(f.store, SLICE("pods"), all, SLICE("a"), SLICE("10")), 4);
        assert_int_equal(store_count_behind(f.store, SLICE("pods"), SLICE("a"), SLICE("a"), SLICE("10")), 1);
        assert_int_equal(store_count_behind(f.store, SLICE("pods"), SLICE("a"), SLICE("a"), SLICE("2")), 0);
        assert_int_equal(store_count_behind(f.store, SLICE("pods"), all, SLICE("b"), SLICE("1")), 0);
        assert_int_equal(store_count_behind(f.store, SLICE("nodes"), all, SLICE("b"), SLICE("1")), 0);
        fixture_reopen(&f);
    }
    fixture_deinit(&f);
}

static int stamp(void *userdata, const struct store_write *write, uint64_t revision, struct buffer *out) {
    (void)userdata;
    return buffer_printf(out, "%.*s@%" PRIu64, SLICE_ARG(write->value), revision);
}

UNIT_TEST(stamps_revisions) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.path = NULL});
    store_set_stamp(f.store, stamp, NULL);
    write_now(&f, STORE_CREATE, "a", "x");
    assert_value(&f, "a", "x@1");
    write_now(&f, STORE_UPDATE, "a", "y");
    assert_value(&f, "a", "y@2");
    fixture_deinit(&f);
}

/* ---- limits and failures ---- */

UNIT_TEST(refuses_creates_beyond_its_size) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.bytes_max = 320});
    char big[257] = "";
    memset(big, 'x', 256);
    struct result result;
    write_now(&f, STORE_CREATE, "a", big);
    assert_int_equal(write_later(&f, STORE_CREATE, "b", big, 0, &result), STORE_E_FULL);
    write_now(&f, STORE_CREATE, "c", "small");
    write_now(&f, STORE_UPDATE, "c", "a little more");
    write_now(&f, STORE_DELETE, "a", "");
    write_now(&f, STORE_CREATE, "b", big);
    fixture_deinit(&f);
}

UNIT_TEST(a_full_disk_refuses_writes_and_keeps_reading) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.path = NULL});
    char *big = calloc(1, 60001);
    memset(big, 'x', 60000);
    write_now(&f, STORE_CREATE, "before", "1");
    write_now(&f, STORE_CREATE, "victim", big);
    assert_int_equal(database_execute(f.store->database, "PRAGMA max_page_count = 1"), 0); /* SQLite raises it to the present size */
    struct result big_create, dependent, small, removal, after;
    assert_int_equal(write_later(&f, STORE_CREATE, "big", big, 0, &big_create), 0);
    assert_int_equal(write_later(&f, STORE_UPDATE, "big", "now small", 0, &dependent), 0);
    assert_int_equal(write_later(&f, STORE_UPDATE, "before", "2", 0, &small), 0);
    wait_for(&f, &small.called);
    assert_int_equal(big_create.error, STORE_E_FULL);
    assert_int_equal(dependent.error, STORE_E_FULL);
    assert_int_equal(small.error, 0);
    assert_value(&f, "big", NULL);
    assert_value(&f, "before", "2");
    /* Writes accepted while a failing batch is in flight fail only when they build on it. */
    assert_int_equal(write_later(&f, STORE_CREATE, "big", big, 0, &big_create), 0);
    assert_int_equal(loop_turn(f.loop, 0), 0);
    assert_non_null(f.store->in_flight);
    assert_int_equal(write_later(&f, STORE_UPDATE, "big", "now small", 0, &dependent), 0);
    assert_int_equal(write_later(&f, STORE_UPDATE, "before", "3", 0, &after), 0);
    wait_for(&f, &after.called);
    assert_int_equal(dependent.error, STORE_E_FULL);
    assert_int_equal(after.error, 0);
    assert_int_equal(database_execute(f.store->database, "PRAGMA max_page_count = 1000000"), 0);
    assert_int_equal(write_later(&f, STORE_DELETE, "victim", "", 0, &removal), 0);
    wait_for(&f, &removal.called);
    assert_int_equal(removal.error, 0);
    write_now(&f, STORE_CREATE, "big", big);
    struct store_statistics statistics;
    store_statistics(f.store, &statistics);
    assert_int_equal(statistics.bytes, f.store->bytes_newest);
    fixture_reopen(&f);
    assert_value(&f, "big", big);
    assert_value(&f, "before", "3");
    store_statistics(f.store, &statistics);
    assert_int_equal(statistics.bytes, 60001);
    free(big);
    fixture_deinit(&f);
}

UNIT_TEST(refuses_a_second_opener) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.path = NULL});
    struct store *second;
    struct diag diag = DIAG_INIT;
    assert_int_equal(store_open(f.loop, &f.options, &second, &diag), -EBUSY);
    assert_non_null(strstr(diag.message, "in use"));
    fixture_deinit(&f);
}

/* Overwrites `len` bytes of the file where `needle` first stands. */
static void damage(const char *path, const char *needle, const char *replacement) {
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(64 * MIB);
    assert_int_equal(sys_read_file(AT_FDCWD, path, 64 * MIB, &bytes), 0);
    ptrdiff_t at = slice_find(buffer_slice(&bytes), slice_of(needle));
    assert_true(at >= 0);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, replacement, strlen(replacement), at), (ssize_t)strlen(replacement));
    close(fd);
}

static void assert_damaged(struct fixture *f) {
    struct diag diag = DIAG_INIT;
    assert_int_equal(store_open(f->loop, &f->options, &f->store, &diag), -EUCLEAN);
    assert_non_null(strstr(diag.message, "damaged"));
    assert_non_null(strstr(diag.hint, "backup"));
    f->store = NULL;
}

UNIT_TEST(reports_a_damaged_file) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.path = NULL});
    write_now(&f, STORE_CREATE, "a", "an unmistakable value");
    store_close(f.store);
    damage(f.path, "unmistakable", "unmistakenly");
    assert_damaged(&f);
    damage(f.path, "unmistakenly", "unmistakable");
    fixture_open(&f);
    assert_value(&f, "a", "an unmistakable value");
    store_close(f.store);
    damage(f.path, "SQLite format 3", "SQLite Format 3");
    assert_damaged(&f);
    fixture_deinit(&f);
}

UNIT_TEST(refuses_a_newer_schema) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.path = NULL});
    assert_int_equal(database_execute(f.store->database, "PRAGMA user_version = 99"), 0);
    store_close(f.store);
    struct diag diag = DIAG_INIT;
    assert_int_equal(store_open(f.loop, &f.options, &f.store, &diag), -ENOTSUP);
    f.store = NULL;
    fixture_deinit(&f);
}

UNIT_TEST(close_commits_what_is_pending) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.path = NULL});
    struct result first, second;
    assert_int_equal(write_later(&f, STORE_CREATE, "a", "1", 0, &first), 0);
    assert_int_equal(loop_turn(f.loop, 0), 0); /* now in flight, or done already */
    assert_int_equal(write_later(&f, STORE_CREATE, "b", "2", 0, &second), 0);
    fixture_reopen(&f);
    assert_true(first.called && second.called);
    assert_value(&f, "a", "1");
    assert_value(&f, "b", "2");
    fixture_deinit(&f);
}

UNIT_TEST(the_log_and_the_wal_stay_bounded) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.changes_kept = 50});
    char *value = calloc(1, 20001);
    memset(value, 'v', 20000);
    write_now(&f, STORE_CREATE, "a", value);
    struct result result;
    for (int i = 0; i < 2000; i++) {
        struct store_write write = {
            .verb = STORE_UPDATE, .kind = SLICE("pods"), .namespace = SLICE("default"), .name = SLICE("a"), .value = slice_of(value)};
        result.called = false;
        assert_int_equal(store_write(f.store, &write, i % 20 ? NULL : on_written, &result, NULL), 0);
        if (i % 20 == 0)
            wait_for(&f, &result.called);
    }
    struct stat status;
    char wal[100];
    snprintf(wal, sizeof wal, "%s-wal", f.path);
    assert_int_equal(stat(wal, &status), 0);
    assert_true(status.st_size < (off_t)(16 * MIB));
    fixture_reopen(&f);
    assert_int_equal(stat(f.path, &status), 0);
    assert_true(status.st_size < (off_t)(8 * MIB));
    assert_true(f.store->ring.next - f.store->ring.first <= 50);
    free(value);
    fixture_deinit(&f);
}

/* ---- watches ---- */

struct watcher {
    struct store_watch *watch;
    char text[4096];
    bool lost, free_in_callback, enough;
    size_t pause_after, events, events_wanted;
};

static bool on_change(void *userdata, enum store_change change, struct store_object *object, struct store_object *previous) {
    struct watcher *watcher = userdata;
    assert_int_equal(change == STORE_ADDED, previous == NULL);
    size_t len = strlen(watcher->text);
    snprintf(watcher->text + len, sizeof watcher->text - len, "%c%.*s=%.*s(%.*s) ", "+~-"[change], SLICE_ARG(object->name), SLICE_ARG(object->value),
             SLICE_ARG(previous ? previous->value : slice_make(NULL, 0)));
    watcher->enough = ++watcher->events >= watcher->events_wanted;
    if (watcher->free_in_callback) {
        store_watch_free(watcher->watch);
        watcher->watch = NULL;
    }
    return watcher->pause_after == 0 || watcher->events % watcher->pause_after != 0;
}

static void on_lost(void *userdata) {
    ((struct watcher *)userdata)->lost = true;
}

static int watch(struct fixture *f, uint64_t revision, struct watcher *watcher) {
    static const struct store_watch_callbacks callbacks = {on_change, on_lost};
    return store_watch_new(f->store, SLICE("pods"), slice_make(NULL, 0), revision, &callbacks, watcher, &watcher->watch);
}

static void write_history(struct fixture *f) {
    write_now(f, STORE_CREATE, "a", "1");
    write_now(f, STORE_UPDATE, "a", "2");
    write_now(f, STORE_CREATE, "b", "1");
    write_now(f, STORE_DELETE, "a", "");
    write_now(f, STORE_CREATE, "a", "3");
    write_now(f, STORE_UPDATE, "b", "2");
    write_now(f, STORE_DELETE, "b", "gone");
}

UNIT_TEST(watches_resume_exactly_even_after_a_restart) {
    static const char *const events[] = {"+a=1() ", "~a=2(1) ", "+b=1() ", "-a=2(2) ", "+a=3() ", "~b=2(1) ", "-b=gone(2) "};
    struct fixture f;
    fixture_init(&f, &(struct store_options){.path = NULL});
    write_history(&f);
    for (int reopened = 0; reopened < 2; reopened++) {
        for (size_t from = 0; from < ARRAY_LEN(events); from++) {
            struct watcher watcher = {.events_wanted = ARRAY_LEN(events) - from};
            assert_int_equal(watch(&f, from, &watcher), 0);
            wait_for(&f, &watcher.enough);
            char expected[256] = "";
            for (size_t i = from; i < ARRAY_LEN(events); i++)
                strncat(expected, events[i], 100);
            assert_string_equal(watcher.text, expected);
            store_watch_free(watcher.watch);
        }
        fixture_reopen(&f);
    }
    fixture_deinit(&f);
}

UNIT_TEST(watches_live_and_filters) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.path = NULL});
    struct watcher pods = {.events_wanted = 7}, other = {.events_wanted = 1}, future = {.events_wanted = 1};
    static const struct store_watch_callbacks callbacks = {on_change, on_lost};
    assert_int_equal(watch(&f, 0, &pods), 0);
    assert_int_equal(store_watch_new(f.store, SLICE("pods"), SLICE("other"), 0, &callbacks, &other, &other.watch), 0);
    assert_int_equal(watch(&f, 6, &future), 0);
    write_history(&f);
    wait_for(&f, &pods.enough);
    assert_string_equal(pods.text, "+a=1() ~a=2(1) +b=1() -a=2(2) +a=3() ~b=2(1) -b=gone(2) ");
    assert_string_equal(other.text, "");
    assert_string_equal(future.text, "-b=gone(2) ");
    assert_int_equal(store_watch_revision(other.watch), 7); /* nothing for it, but told all the same */
    store_watch_free(pods.watch);
    store_watch_free(other.watch);
    store_watch_free(future.watch);
    fixture_deinit(&f);
}

UNIT_TEST(a_watch_behind_the_ring_expires) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.changes_kept = 3});
    write_history(&f);
    for (int reopened = 0; reopened < 2; reopened++) {
        struct watcher watcher = {.events_wanted = 3};
        assert_int_equal(watch(&f, 3, &watcher), STORE_E_EXPIRED);
        assert_int_equal(watch(&f, 4, &watcher), 0);
        wait_for(&f, &watcher.enough);
        store_watch_free(watcher.watch);
        fixture_reopen(&f);
    }
    fixture_deinit(&f);
}

UNIT_TEST(a_paused_watch_resumes_or_gets_lost) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.changes_kept = 4});
    struct watcher slow = {.pause_after = 2, .events_wanted = 2}, stuck = {.pause_after = 1, .events_wanted = 1};
    assert_int_equal(watch(&f, 0, &slow), 0);
    assert_int_equal(watch(&f, 0, &stuck), 0);
    write_now(&f, STORE_CREATE, "a", "1");
    write_now(&f, STORE_UPDATE, "a", "2");
    write_now(&f, STORE_UPDATE, "a", "3");
    wait_for(&f, &slow.enough);
    assert_int_equal(loop_turn(f.loop, 0), 0);
    assert_string_equal(slow.text, "+a=1() ~a=2(1) ");
    store_watch_resume(slow.watch);
    slow.events_wanted = 3;
    slow.enough = false;
    wait_for(&f, &slow.enough);
    assert_string_equal(slow.text, "+a=1() ~a=2(1) ~a=3(2) ");
    assert_string_equal(stuck.text, "+a=1() ");
    for (int i = 0; i < 4; i++)
        write_now(&f, STORE_UPDATE, "a", "x");
    wait_for(&f, &stuck.lost);
    store_watch_resume(stuck.watch);
    assert_int_equal(loop_turn(f.loop, 0), 0);
    assert_string_equal(stuck.text, "+a=1() ");
    store_watch_free(slow.watch);
    store_watch_free(stuck.watch);
    fixture_deinit(&f);
}

UNIT_TEST(a_watch_may_be_freed_in_its_callback) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.path = NULL});
    struct watcher first = {.free_in_callback = true, .events_wanted = 1}, second = {.events_wanted = 7};
    assert_int_equal(watch(&f, 0, &first), 0);
    assert_int_equal(watch(&f, 0, &second), 0);
    write_history(&f);
    wait_for(&f, &second.enough);
    assert_int_equal(first.events, 1);
    store_watch_free(second.watch);
    fixture_deinit(&f);
}

UNIT_TEST(delivery_is_bounded_per_turn) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.path = NULL});
    struct result result;
    char name[16];
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "p%d", i);
        struct store_write write = {.verb = STORE_CREATE, .kind = SLICE("pods"), .namespace = SLICE("default"), .name = slice_of(name)};
        result.called = false;
        assert_int_equal(store_write(f.store, &write, i < 199 ? NULL : on_written, &result, NULL), 0);
    }
    wait_for(&f, &result.called);
    struct watcher watcher = {.events_wanted = 200};
    assert_int_equal(watch(&f, 0, &watcher), 0);
    assert_int_equal(loop_turn(f.loop, 0), 0);
    assert_int_equal(watcher.events, STORE_WATCH_EVENTS_PER_TURN);
    wait_for(&f, &watcher.enough);
    store_watch_free(watcher.watch);
    fixture_deinit(&f);
}

/* ---- the side table ---- */

static void on_meta(void *userdata, int error) {
    struct result *result = userdata;
    *result = (struct result){.called = true, .error = error};
}

static bool append_meta(void *userdata, struct slice key, struct slice value) {
    struct listing *listing = userdata;
    size_t len = strlen(listing->text);
    snprintf(listing->text + len, sizeof listing->text - len, "%.*s=%.*s ", SLICE_ARG(key), SLICE_ARG(value));
    return true;
}

static bool put_name(void *userdata, struct store_object *object) {
    buffer_printf(userdata, "%.*s=%.*s ", SLICE_ARG(object->name), SLICE_ARG(object->value));
    return true;
}

static void assert_list_at(struct fixture *f, uint64_t revision, const char *after, const char *expected) {
    struct buffer out = BUFFER_INIT(MIB);
    struct slice none = {NULL, 0};
    int r = store_list_at(f->store, revision, SLICE("pods"), SLICE("default"), after ? SLICE("default") : none, after ? slice_of(after) : none,
                          put_name, &out);
    assert_int_equal(r, 0);
    assert_string_equal(out.data ? out.data : "", expected);
    buffer_deinit(&out);
}

UNIT_TEST(lists_as_of_an_earlier_revision) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.changes_kept = 5});
    write_now(&f, STORE_CREATE, "b", "1");
    write_now(&f, STORE_CREATE, "d", "1");
    uint64_t then = write_now(&f, STORE_CREATE, "f", "1");
    assert_list_at(&f, then, NULL, "b=1 d=1 f=1 ");
    write_now(&f, STORE_UPDATE, "b", "2");
    write_now(&f, STORE_DELETE, "f", "");
    write_now(&f, STORE_CREATE, "a", "1");
    write_now(&f, STORE_DELETE, "d", "");
    uint64_t last = write_now(&f, STORE_CREATE, "d", "3");
    assert_list_at(&f, then, NULL, "b=1 d=1 f=1 ");
    assert_list_at(&f, then, "b", "d=1 f=1 ");
    assert_list_at(&f, then + 2, NULL, "b=2 d=1 ");
    assert_list_at(&f, last - 1, NULL, "a=1 b=2 ");
    assert_list_at(&f, last, NULL, "a=1 b=2 d=3 ");
    write_now(&f, STORE_UPDATE, "b", "3");
    struct slice none = {NULL, 0};
    struct buffer out = BUFFER_INIT(MIB);
    assert_int_equal(store_list_at(f.store, then, SLICE("pods"), none, none, none, put_name, &out), STORE_E_EXPIRED);
    buffer_deinit(&out);
    fixture_deinit(&f);
}

UNIT_TEST(the_side_table_is_durable) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.path = NULL});
    struct result result = {.called = false};
    assert_null(store_meta_get(f.store, SLICE("n/1")).data);
    assert_int_equal(store_meta_put(f.store, SLICE("n/2"), SLICE("two"), NULL, NULL), 0);
    assert_int_equal(store_meta_put(f.store, SLICE("n/1"), SLICE("zero"), NULL, NULL), 0);
    assert_int_equal(store_meta_put(f.store, SLICE("n/1"), SLICE("one"), NULL, NULL), 0);
    assert_int_equal(store_meta_put(f.store, SLICE("m"), SLICE(""), NULL, NULL), 0);
    assert_int_equal(store_meta_put(f.store, SLICE("n/3"), SLICE("three"), NULL, NULL), 0);
    assert_int_equal(store_meta_put(f.store, SLICE("n/3"), slice_make(NULL, 0), on_meta, &result), 0);
    assert_true(slice_is(store_meta_get(f.store, SLICE("n/1")), "one"));
    wait_for(&f, &result.called);
    for (int reopened = 0; reopened < 2; reopened++) {
        struct listing listing = {.left = 0};
        store_meta_list(f.store, SLICE("n/"), append_meta, &listing);
        assert_string_equal(listing.text, "n/1=one n/2=two ");
        assert_non_null(store_meta_get(f.store, SLICE("m")).data);
        assert_int_equal(store_meta_get(f.store, SLICE("m")).len, 0);
        fixture_reopen(&f);
    }
    fixture_deinit(&f);
}

UNIT_TEST(a_failed_put_returns_to_the_last_durable_value) {
    struct fixture f;
    fixture_init(&f, &(struct store_options){.path = NULL});
    char *big = calloc(1, 60001);
    memset(big, 'x', 60000);
    struct result first = {.called = false}, second = first, created = first;
    assert_int_equal(store_meta_put(f.store, SLICE("k"), SLICE("old"), on_meta, &first), 0);
    wait_for(&f, &first.called);
    assert_int_equal(database_execute(f.store->database, "PRAGMA max_page_count = 1"), 0);
    first.called = false;
    assert_int_equal(store_meta_put(f.store, SLICE("k"), slice_of(big), on_meta, &first), 0);
    assert_int_equal(store_meta_put(f.store, SLICE("new"), slice_of(big), on_meta, &created), 0);
    assert_int_equal(store_meta_put(f.store, SLICE("k"), SLICE("newer"), on_meta, &second), 0);
    assert_true(slice_is(store_meta_get(f.store, SLICE("k")), "newer"));
    wait_for(&f, &second.called);
    assert_int_equal(first.error, STORE_E_FULL);
    assert_int_equal(second.error, STORE_E_FULL);
    assert_int_equal(created.error, STORE_E_FULL);
    assert_true(slice_is(store_meta_get(f.store, SLICE("k")), "old"));
    assert_null(store_meta_get(f.store, SLICE("new")).data);
    second.called = false;
    assert_int_equal(store_meta_put(f.store, SLICE("k"), SLICE("fits"), on_meta, &second), 0);
    wait_for(&f, &second.called);
    assert_int_equal(second.error, 0);
    fixture_reopen(&f);
    assert_true(slice_is(store_meta_get(f.store, SLICE("k")), "fits"));
    free(big);
    fixture_deinit(&f);
}

UNIT_MAIN(UNIT(writes_become_visible_when_durable), UNIT(checks_against_the_newest_accepted_state), UNIT(refuses_malformed_keys_and_huge_values),
          UNIT(lists_in_order_and_in_pages), UNIT(stamps_revisions), UNIT(refuses_creates_beyond_its_size),
          UNIT(a_full_disk_refuses_writes_and_keeps_reading), UNIT(refuses_a_second_opener), UNIT(reports_a_damaged_file),
          UNIT(refuses_a_newer_schema), UNIT(close_commits_what_is_pending), UNIT(the_log_and_the_wal_stay_bounded),
          UNIT(watches_resume_exactly_even_after_a_restart), UNIT(watches_live_and_filters), UNIT(a_watch_behind_the_ring_expires),
          UNIT(a_paused_watch_resumes_or_gets_lost), UNIT(a_watch_may_be_freed_in_its_callback), UNIT(delivery_is_bounded_per_turn),
          UNIT(lists_as_of_an_earlier_revision), UNIT(the_side_table_is_durable), UNIT(a_failed_put_returns_to_the_last_durable_value))

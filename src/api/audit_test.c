/* The audit log's file: lines come in order, chained, over restarts and rotations; what a crash tore is told. */
#include "unit.h"

#include "api/audit_priv.h"
#include "codec/codec.h"
#include "http/http.h"
#include "sys/sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define EVENT(name) SLICE("{\"auditID\":\"" name "\",\"annotations\":{\"a\":\"b\"}}")
#define CHAIN ",\"tidemill.dev/chain\":\""

struct fixture {
    char folder[64], path[100];
    struct loop *loop;
    struct audit_log *log;
};

static void open_log(struct fixture *fixture) {
    struct diag diag = DIAG_INIT;
    assert_int_equal(loop_new(&fixture->loop), 0);
    assert_int_equal(audit_log_new(fixture->loop, fixture->folder, &fixture->log, &diag), 0);
}

static void close_log(struct fixture *fixture) {
    audit_log_free(fixture->log);
    loop_free(fixture->loop);
}

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/tidemill-audit-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(fixture->path, sizeof fixture->path, "%s/audit.log", fixture->folder);
    open_log(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    close_log(fixture);
    sys_remove_tree(AT_FDCWD, fixture->folder);
    free(fixture);
    return 0;
}

/* Checks every line against the chain, which goes on from `chain`; returns the count of lines. */
static size_t check_file(const char *path, char chain[65]) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(32 * MIB);
    size_t count = 0;
    assert_int_equal(sys_read_file(AT_FDCWD, path, 32 * MIB, &text), 0);
    for (struct slice rest = buffer_slice(&text); rest.len; count++) {
        struct slice line = slice_cut(&rest, '\n');
        ptrdiff_t at = slice_find(line, SLICE(CHAIN));
        char expected[65];
        struct digest *digest = digest_new();
        assert_true(at > 0);
        digest_update(digest, slice_of(chain));
        digest_update(digest, slice_head(line, (size_t)at));
        digest_update(digest, SLICE("}}"));
        digest_finish_hex(digest, expected);
        digest_free(digest);
        assert_memory_equal(line.data + at + sizeof CHAIN - 1, expected, 64);
        memcpy(chain, expected, 65);
    }
    return count;
}

static void chains_over_restarts(void **state) {
    struct fixture *fixture = *state;
    char chain[65] = "";
    audit_log_append(fixture->log, EVENT("1"));
    audit_log_append(fixture->log, EVENT("2"));
    close_log(fixture);
    open_log(fixture);
    audit_log_append(fixture->log, EVENT("3"));
    close_log(fixture);
    open_log(fixture);
    assert_int_equal(check_file(fixture->path, chain), 3);
}

static void writes_by_itself(void **state) {
    struct fixture *fixture = *state;
    char chain[65] = "";
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    audit_log_append(fixture->log, EVENT("1"));
    while (!text.len) {
        assert_int_equal(loop_turn(fixture->loop, 100), 0);
        assert_int_equal(sys_read_file(AT_FDCWD, fixture->path, MIB, &text), 0);
    }
    assert_int_equal(check_file(fixture->path, chain), 1);
}

static void ends_torn_lines(void **state) {
    struct fixture *fixture = *state;
    char chain[65] = "torn";
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    close_log(fixture);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, fixture->path, SLICE("{\"auditID\":\"1\",\"anno"), 0600), 0);
    open_log(fixture);
    audit_log_append(fixture->log, EVENT("2"));
    close_log(fixture);
    open_log(fixture);
    assert_int_equal(sys_read_file(AT_FDCWD, fixture->path, MIB, &text), 0);
    struct slice rest = buffer_slice(&text);
    assert_true(slice_is(slice_cut(&rest, '\n'), "{\"auditID\":\"1\",\"anno"));
    assert_int_equal(sys_write_file_fast(AT_FDCWD, fixture->path, rest, 0600), 0);
    assert_int_equal(check_file(fixture->path, chain), 1);
}

/* The folder cannot be made at first: a file is in its place. */
static void opens_when_it_can(void **state) {
    struct fixture *fixture = *state;
    char chain[65] = "";
    close_log(fixture);
    sys_remove_tree(AT_FDCWD, fixture->folder);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, fixture->folder, SLICE("x"), 0600), 0);
    open_log(fixture);
    assert_int_equal(unlink(fixture->folder), 0);
    audit_log_append(fixture->log, EVENT("1"));
    while (access(fixture->path, F_OK) < 0)
        assert_int_equal(loop_turn(fixture->loop, 100), 0);
    close_log(fixture);
    open_log(fixture);
    assert_int_equal(check_file(fixture->path, chain), 1);
}

static int is_rotated(const struct dirent *entry) {
    return slice_starts(slice_of(entry->d_name), SLICE("audit-"));
}

static void rotates_and_forgets(void **state) {
    struct fixture *fixture = *state;
    size_t size = 60 * KIB;
    char *event = malloc(size + 1), chain[65];
    memset(event, 'x', size);
    memcpy(event, "{\"auditID\":\"", 12);
    memcpy(event + size - 26, "\",\"annotations\":{\"a\":\"b\"}}", 27);
    for (int i = 0; i < 1600; i++) { /* 94 MiB */
        audit_log_append(fixture->log, slice_make(event, size));
        if (i % 120 == 119) { /* less than may be pending */
            close_log(fixture);
            open_log(fixture);
        }
    }
    close_log(fixture);
    open_log(fixture);
    struct dirent **names = NULL;
    int count = scandir(fixture->folder, &names, is_rotated, alphasort);
    assert_true(count > 0 && count <= 8);
    char path[400];
    CLEANUP(buffer_deinit) struct buffer first = BUFFER_INIT(32 * MIB);
    snprintf(path, sizeof path, "%s/%s", fixture->folder, names[0]->d_name);
    assert_int_equal(sys_read_file(AT_FDCWD, path, 32 * MIB, &first), 0);
    struct slice rest = buffer_slice(&first), line = slice_cut(&rest, '\n');
    memcpy(chain, line.data + line.len - 67, 64); /* taken for right: what came before is gone */
    chain[64] = '\0';
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, rest, 0600), 0);
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", fixture->folder, names[i]->d_name);
        assert_true(check_file(path, chain) > 0);
        free(names[i]);
    }
    free(names);
    free(event);
}

#define WITH_LOG(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {WITH_LOG(chains_over_restarts), WITH_LOG(writes_by_itself), WITH_LOG(ends_torn_lines),
                                       WITH_LOG(opens_when_it_can), WITH_LOG(rotates_and_forgets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* CRI log lines, and reading logs: tail, since, following across a rotation. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "runtime/crilog.h"
#include "runtime/logread.h"
#include "sys/sys.h"
#include "unit.h"

UNIT_TEST(parses_lines) {
    struct crilog_line line;
    assert_int_equal(crilog_parse(SLICE("2026-11-22T20:27:35.862865287+00:00 stdout F hello world"), &line), 0);
    assert_int_equal(line.stream, 1);
    assert_false(line.is_partial);
    assert_true(slice_is(line.text, "hello world"));
    assert_int_equal(line.ns % 1000000000, 862865287);
    assert_int_equal(crilog_parse(SLICE("2026-11-22T20:27:35Z stderr P "), &line), 0);
    assert_int_equal(line.stream, 2);
    assert_true(line.is_partial);
    assert_int_equal(line.text.len, 0);
    assert_int_equal(crilog_parse(SLICE("2026-11-22T20:27:35Z stdout F:x text"), &line), 0);
}

UNIT_TEST(refuses_other_lines) {
    static const char *const bad[] = {"",
                                      "x",
                                      "2026-11-22T20:27:35Z",
                                      "2026-11-22T20:27:35Z stdout",
                                      "2026-11-22T20:27:35Z stdout F",
                                      "2026-11-22T20:27:35Z stdin F x",
                                      "2026-11-22T20:27:35Z stdout X x",
                                      "yesterday stdout F x",
                                      " stdout F x"};
    struct crilog_line line;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(crilog_parse(slice_of(bad[i]), &line), -EINVAL);
}

struct seen {
    char text[65536];
    bool ended;
    int error;
};
static char dir[64], path[96];
static struct loop *loop;

static void on_data(void *userdata, struct slice data) {
    struct seen *seen = userdata;
    size_t len = strlen(seen->text);
    snprintf(seen->text + len, sizeof seen->text - len, "%.*s", SLICE_ARG(data));
}
static void on_end(void *userdata, int error) {
    struct seen *seen = userdata;
    seen->ended = true;
    seen->error = error;
}

static void append(const char *text) {
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(sys_write_all(fd, slice_of(text)), 0);
    close(fd);
}

static int setup(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/log-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/0.log", dir);
    append("2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr F two\n2026-01-01T00:00:03Z stdout P thr\n2026-01-01T00:00:03Z stdout F "
           "ee\n");
    return loop_new(&loop);
}
static int teardown(void **state) {
    (void)state;
    loop_free(loop);
    return sys_remove_tree(AT_FDCWD, dir);
}

static void read_with(struct logread_options options, struct seen *seen) {
    struct logread *reader = NULL;
    const struct logread_callbacks callbacks = {.on_data = on_data, .on_end = on_end, .userdata = seen};
    options.path = path;
    assert_int_equal(logread_new(loop, &options, &callbacks, &reader), 0);
    while (!seen->ended)
        assert_int_equal(loop_turn(loop, 10000), 0);
    assert_int_equal(seen->error, 0);
    logread_free(reader);
}

UNIT_TEST(reads_all_and_joins_partial_lines) {
    static struct seen seen;
    read_with((struct logread_options){.tail_lines = -1, .limit_bytes = -1}, &seen);
    assert_string_equal(seen.text, "one\ntwo\nthree\n");
}

UNIT_TEST(reads_tail_since_stream_and_limit) {
    static struct seen tail, none, since, errors, limit, times;
    read_with((struct logread_options){.tail_lines = 2, .limit_bytes = -1}, &tail);
    assert_string_equal(tail.text, "three\n");
    read_with((struct logread_options){.tail_lines = 0, .limit_bytes = -1}, &none);
    assert_string_equal(none.text, "");
    read_with((struct logread_options){.tail_lines = -1, .limit_bytes = -1, .since_ns = 1767225602000000000}, &since);
    assert_string_equal(since.text, "two\nthree\n");
    read_with((struct logread_options){.tail_lines = -1, .limit_bytes = -1, .stream = 2}, &errors);
    assert_string_equal(errors.text, "two\n");
    read_with((struct logread_options){.tail_lines = -1, .limit_bytes = 5}, &limit);
    assert_string_equal(limit.text, "one\nt");
    read_with((struct logread_options){.tail_lines = 3, .limit_bytes = -1, .timestamps = true}, &times);
    assert_string_equal(times.text, "2026-01-01T00:00:02.000000000Z two\n2026-01-01T00:00:03.000000000Z three\n");
}

UNIT_TEST(follows_across_a_rotation) {
    static struct seen seen;
    struct logread *reader = NULL;
    const struct logread_callbacks callbacks = {.on_data = on_data, .on_end = on_end, .userdata = &seen};
    const struct logread_options options = {.path = path, .follow = true, .tail_lines = 0, .limit_bytes = -1};
    assert_int_equal(logread_new(loop, &options, &callbacks, &reader), 0);
    append("2026-01-01T00:00:04Z stdout F four\n2026-01-01T00:00:05Z std");
    while (!strstr(seen.text, "four\n"))
        assert_int_equal(loop_turn(loop, 10000), 0);
    append("out F five\n");
    assert_int_equal(log_rotate(path), 0);
    append("2026-01-01T00:00:06Z stdout F six\n");
    while (!strstr(seen.text, "six\n"))
        assert_int_equal(loop_turn(loop, 10000), 0);
    assert_string_equal(seen.text, "four\nfive\nsix\n");
    logread_finish(reader);
    while (!seen.ended)
        assert_int_equal(loop_turn(loop, 10000), 0);
    logread_free(reader);
}

/* A reader that was held up while the log was cut `cuts` times, and whose container has ended before the kernel told of anything. */
static void read_late(int cuts, struct seen *seen) {
    struct logread *reader = NULL;
    const struct logread_callbacks callbacks = {.on_data = on_data, .on_end = on_end, .userdata = seen};
    const struct logread_options options = {.path = path, .follow = true, .tail_lines = 0, .limit_bytes = -1};
    char line[80];
    assert_int_equal(logread_new(loop, &options, &callbacks, &reader), 0);
    logread_pause(reader, true);
    for (int i = 0; i < cuts; i++) {
        snprintf(line, sizeof line, "2026-01-01T00:00:04Z stdout F before %d\n", i + 1);
        append(line);
        assert_int_equal(log_rotate(path), 0);
    }
    append("2026-01-01T00:00:05Z stdout F last\n");
    logread_finish(reader);
    logread_pause(reader, false);
    while (!seen->ended)
        assert_int_equal(loop_turn(loop, 10000), 0);
    logread_free(reader);
}

UNIT_TEST(a_slow_follower_misses_no_file) {
    static struct seen one, all, lost;
    read_late(1, &one);
    assert_string_equal(one.text, "before 1\nlast\n");
    read_late(4, &all);
    assert_string_equal(all.text, "before 1\nbefore 2\nbefore 3\nbefore 4\nlast\n");
    read_late(6, &lost); /* its own is held open, the one after it is gone */
    assert_string_equal(lost.text, "before 1\nbefore 3\nbefore 4\nbefore 5\nbefore 6\nlast\n");
}

UNIT_TEST(keeps_five_files) {
    char old[128];
    for (int i = 0; i < 8; i++) {
        append("x\n");
        assert_int_equal(log_rotate(path), 0);
    }
    for (int i = 1; i <= 5; i++) {
        snprintf(old, sizeof old, "%s.%d", path, i);
        assert_int_equal(access(old, F_OK), i < 5 ? 0 : -1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(parses_lines),
                                       UNIT(refuses_other_lines),
                                       cmocka_unit_test_setup_teardown(reads_all_and_joins_partial_lines, setup, teardown),
                                       cmocka_unit_test_setup_teardown(reads_tail_since_stream_and_limit, setup, teardown),
                                       cmocka_unit_test_setup_teardown(follows_across_a_rotation, setup, teardown),
                                       cmocka_unit_test_setup_teardown(a_slow_follower_misses_no_file, setup, teardown),
                                       cmocka_unit_test_setup_teardown(keeps_five_files, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

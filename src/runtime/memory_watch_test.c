/* Waking up, against trees of plain files: limits of both versions, a change of memory.events. */
#include <fcntl.h>
#include <stdio.h>

#include "runtime/memory_watch.h"
#include "sys/sys.h"
#include "unit.h"

static char root[64];

static void write_at(const char *folder, const char *name, const char *text) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", root, folder);
    assert_int_equal(sys_mkdirs(path, 0755), 0);
    snprintf(path, sizeof path, "%s/%s/%s", root, folder, name);
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(sys_write_all(fd, slice_of(text)), 0);
}

static struct cgroups make_tree(enum cgroup_version version) {
    struct cgroups cgroups = {.version = version};
    snprintf(root, sizeof root, "/tmp/memory-watch-XXXXXX");
    assert_non_null(mkdtemp(root));
    snprintf(cgroups.root, sizeof cgroups.root, "%s", root);
    return cgroups;
}

static void on_low(void *userdata) {
    ++*(int *)userdata;
}

UNIT_TEST(limits_are_read) {
    struct cgroups cgroups = make_tree(CGROUP_V1);
    write_at("memory/pods", "memory.limit_in_bytes", "1048576\n");
    write_at("memory/free", "memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(memory_watch_limit(&cgroups, "/pods"), 1048576);
    assert_int_equal(memory_watch_limit(&cgroups, "/free"), 0);
    assert_int_equal(memory_watch_limit(&cgroups, "/absent"), 0);
    cgroups.version = CGROUP_V2;
    write_at("pods", "memory.max", "2097152\n");
    write_at("free", "memory.max", "max\n");
    assert_int_equal(memory_watch_limit(&cgroups, "/pods"), 2097152);
    assert_int_equal(memory_watch_limit(&cgroups, "/free"), 0);
    sys_remove_tree(AT_FDCWD, root);
}

UNIT_TEST(a_group_at_its_limit_wakes) {
    struct cgroups cgroups = make_tree(CGROUP_V2);
    struct memory_watch *watch = NULL;
    struct loop *loop = NULL;
    int woken = 0;
    write_at("pods", "memory.events", "low 0\nhigh 0\nmax 0\noom 0\n");
    assert_int_equal(loop_new(&loop), 0);
    assert_int_equal(memory_watch_new(loop, &cgroups, "/pods", on_low, &woken, &watch), 0);
    memory_watch_arm(watch, 1000, 1000); /* nothing to arm here */
    assert_int_equal(loop_turn(loop, 0), 0);
    assert_int_equal(woken, 0);
    write_at("pods", "memory.events", "low 0\nhigh 0\nmax 1\noom 0\n");
    for (int i = 0; i < 1000 && !woken; i++)
        assert_int_equal(loop_turn(loop, 100), 0);
    assert_true(woken > 0);
    memory_watch_free(watch);
    loop_free(loop);
    sys_remove_tree(AT_FDCWD, root);
}

UNIT_TEST(version_1_registers_a_threshold_for_both_groups) {
    struct cgroups cgroups = make_tree(CGROUP_V1);
    struct memory_watch *watch = NULL;
    struct loop *loop = NULL;
    int woken = 0;
    write_at("memory", "memory.usage_in_bytes", "5000\n");
    write_at("memory", "cgroup.event_control", "");
    write_at("memory/pods", "memory.usage_in_bytes", "3000\n");
    write_at("memory/pods", "cgroup.event_control", "");
    assert_int_equal(loop_new(&loop), 0);
    assert_int_equal(memory_watch_new(loop, &cgroups, "/pods", on_low, &woken, &watch), 0);
    memory_watch_arm(watch, 100, 200);
    assert_true(memory_watch_works(watch));
    static const struct {
        const char *path, *expected;
    } files[] = {{"memory/cgroup.event_control", "5100"}, {"memory/pods/cgroup.event_control", "3200"}};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(100);
        char path[300];
        int event_fd = -1, usage_fd = -1, end = 0;
        snprintf(path, sizeof path, "%s/%s", root, files[i].path);
        assert_int_equal(sys_read_file(AT_FDCWD, path, 99, &text), 0);
        assert_int_equal(sscanf(text.data, "%d %d %n", &event_fd, &usage_fd, &end), 2);
        assert_string_equal(text.data + end, files[i].expected);
        if (i == 0)
            assert_int_equal(sys_write_all(event_fd, slice_make(&(uint64_t){1}, 8)), 0); /* as the kernel would */
    }
    for (int i = 0; i < 1000 && !woken; i++)
        assert_int_equal(loop_turn(loop, 100), 0);
    assert_int_equal(woken, 1);
    memory_watch_free(watch);
    loop_free(loop);
    sys_remove_tree(AT_FDCWD, root);
}

UNIT_MAIN(UNIT(limits_are_read), UNIT(a_group_at_its_limit_wakes), UNIT(version_1_registers_a_threshold_for_both_groups))

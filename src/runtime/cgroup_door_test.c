/* Real control groups: needs root. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "loop/loop.h"
#include "runtime/cgroup_door.h"
#include "sys/sys.h"
#include "unit.h"

/* Of this process: several checkouts may be tested on one machine. */
static char group[64];

static void read_groups(const char *path, struct buffer *out) {
    buffer_reset(out);
    assert_int_equal(sys_read_file(AT_FDCWD, path, 64 * KIB, out), 0);
}

static pid_t spawn_sleeper(void) {
    const char *const argv[] = {"sleep", "100", NULL};
    const struct loop_spawn_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    pid_t pid;
    assert_int_equal(loop_spawn(&options, &pid), 0);
    return pid;
}

/* v2's way; a process that has been reaped leaves its group empty at once. */
static void spawn_into(struct cgroup_door *door) {
    const char *const argv[] = {"sleep", "100", NULL};
    const struct loop_spawn_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cgroup_fd = door->folder};
    struct buffer child = BUFFER_INIT(128 * KIB);
    char path[64];
    pid_t pid;
    assert_true(door->folder > 0);
    assert_int_equal(loop_spawn(&options, &pid), 0);
    snprintf(path, sizeof path, "/proc/%d/cgroup", (int)pid);
    read_groups(path, &child);
    char expected[80];
    snprintf(expected, sizeof expected, "0::%s\n", group);
    assert_true(slice_find(buffer_slice(&child), slice_of(expected)) >= 0);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    cgroup_door_close(door);
    buffer_deinit(&child);
}

/* Also where v2 has no controllers, beside v1: that it is v2 is enough. */
UNIT_TEST(what_is_spawned_into_a_group_of_v2_is_in_it) {
    static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    struct cgroups cgroups;
    struct cgroup_door door;
    struct diag diag = DIAG_INIT;
    size_t tried = 0;
    for (size_t i = 0; i < ARRAY_LEN(roots); i++) {
        if (cgroups_detect(roots[i], &cgroups, &diag) < 0 || cgroups.version != CGROUP_V2)
            continue;
        assert_int_equal(cgroup_create(&cgroups, group, NULL), 0);
        assert_int_equal(cgroup_door_open(&cgroups, group, &door), 0);
        spawn_into(&door);
        assert_int_equal(cgroup_remove(&cgroups, group), 0);
        tried++;
    }
    assert_true(tried > 0 || access("/sys/fs/cgroup/unified/cgroup.procs", F_OK) < 0);
}

UNIT_TEST(what_is_spawned_behind_the_door_is_in_the_group) {
    struct cgroups cgroups;
    struct cgroup_door door;
    struct diag diag = DIAG_INIT;
    struct buffer before = BUFFER_INIT(128 * KIB), child = BUFFER_INIT(128 * KIB), after = BUFFER_INIT(128 * KIB);
    char path[64];
    assert_int_equal(cgroups_detect("/sys/fs/cgroup", &cgroups, &diag), 0);
    assert_int_equal(cgroup_create(&cgroups, group, NULL), 0);
    assert_int_equal(cgroup_door_open(&cgroups, group, &door), 0);
    if (cgroups.version == CGROUP_V2) {
        spawn_into(&door);
        assert_int_equal(cgroup_remove(&cgroups, group), 0);
        return;
    }
    read_groups("/proc/thread-self/cgroup", &before);
    assert_true(cgroup_door_enter(&door));
    pid_t pid = spawn_sleeper();
    cgroup_door_leave(&door);
    read_groups("/proc/thread-self/cgroup", &after);
    assert_true(slice_equal(buffer_slice(&before), buffer_slice(&after)));
    snprintf(path, sizeof path, "/proc/%d/cgroup", (int)pid);
    read_groups(path, &child);
    char ending[80];
    snprintf(ending, sizeof ending, ":%s", group);
    size_t inside = 0;
    for (struct slice rest = buffer_slice(&child); rest.data;)
        inside += slice_ends(slice_cut(&rest, '\n'), slice_of(ending));
    assert_int_equal(inside, cgroups.controllers_count);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    cgroup_door_close(&door);
    assert_false(cgroup_door_enter(&door));
    assert_int_equal(cgroup_remove(&cgroups, group), 0);
    buffer_deinit(&before);
    buffer_deinit(&child);
    buffer_deinit(&after);
}

UNIT_TEST(warming_moves_nobody) {
    struct cgroups cgroups;
    struct diag diag = DIAG_INIT;
    struct buffer before = BUFFER_INIT(128 * KIB), after = BUFFER_INIT(128 * KIB);
    assert_int_equal(cgroups_detect("/sys/fs/cgroup", &cgroups, &diag), 0);
    read_groups("/proc/thread-self/cgroup", &before);
    cgroup_warm(&cgroups);
    read_groups("/proc/thread-self/cgroup", &after);
    assert_true(slice_equal(buffer_slice(&before), buffer_slice(&after)));
    buffer_deinit(&before);
    buffer_deinit(&after);
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(what_is_spawned_into_a_group_of_v2_is_in_it), UNIT(what_is_spawned_behind_the_door_is_in_the_group),
                                       UNIT(warming_moves_nobody)};
    snprintf(group, sizeof group, "/tidemilldoor-%d", (int)getpid());
    return cmocka_run_group_tests(tests, NULL, NULL);
}

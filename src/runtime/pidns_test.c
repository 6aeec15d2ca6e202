/* A PID namespace that outlives who made it. Needs root. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>

#include "runtime/pidns.h"
#include "sys/sys.h"
#include "unit.h"

#define CGROUP "/tidemillpn/pause"

static void namespace_of(const char *process, const char *which, char ret[64]) {
    char path[128];
    snprintf(path, sizeof path, "/proc/%s/ns/%s", process, which);
    ssize_t len = readlink(path, ret, 63);
    assert_true(len > 0);
    ret[len] = 0;
}

UNIT_TEST(a_namespace_is_found_again_and_ends) {
    struct cgroups cgroups;
    struct diag diag = DIAG_INIT;
    pid_t pid = 0;
    char process[16], own[64], children[64], there[64], path[64];
    if (geteuid() != 0)
        fail_msg("namespaces are made by root: run this test as root");
    assert_int_equal(cgroups_detect("/sys/fs/cgroup", &cgroups, &diag), 0);
    assert_int_equal(pidns_find(&cgroups, CGROUP), 0);
    assert_int_equal(pidns_start(&cgroups, CGROUP, HELPER_PROGRAM, &pid), 0);
    assert_int_equal(pidns_find(&cgroups, CGROUP), pid);
    snprintf(process, sizeof process, "%d", (int)pid);
    namespace_of("self", "pid", own);
    namespace_of("self", "pid_for_children", children);
    assert_string_equal(own, children); /* what is started next is not born in there */
    namespace_of(process, "pid", there);
    assert_string_not_equal(own, there);

    snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)pid);
    int ready[2];
    char byte;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t outside = fork();
    if (outside == 0) {
        int fd = open(path, O_RDONLY | O_CLOEXEC), status = 0;
        pid_t member = setns(fd, CLONE_NEWPID) == 0 ? fork() : -1;
        if (member == 0)
            for (;;)
                pause();
        status = write(ready[1], "", 1) == 1 ? 0 : 1;
        waitpid(member, &status, 0);
        _exit(member > 0 && WIFSIGNALED(status) ? 0 : 1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    pidns_stop(&cgroups, CGROUP);
    int status;
    assert_int_equal(waitpid(outside, &status, 0), outside);
    assert_int_equal(status, 0); /* who joined ended with it */
    assert_int_equal(pidns_find(&cgroups, CGROUP), 0);
    assert_false(cgroup_exists(&cgroups, CGROUP));
    pidns_stop(&cgroups, CGROUP); /* absent is fine */
    assert_int_equal(cgroup_remove(&cgroups, "/tidemillpn"), 0);
}

UNIT_TEST(a_program_that_is_not_there_leaves_nothing) {
    struct cgroups cgroups;
    struct diag diag = DIAG_INIT;
    pid_t pid = 0;
    assert_int_equal(cgroups_detect("/sys/fs/cgroup", &cgroups, &diag), 0);
    assert_int_equal(pidns_start(&cgroups, CGROUP, "/does/not/exist", &pid), -ENOENT);
    assert_int_equal(pidns_find(&cgroups, CGROUP), 0);
    pidns_stop(&cgroups, CGROUP);
    assert_int_equal(cgroup_remove(&cgroups, "/tidemillpn"), 0);
}

UNIT_MAIN(UNIT(a_program_that_is_not_there_leaves_nothing), UNIT(a_namespace_is_found_again_and_ends))

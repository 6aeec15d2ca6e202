#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "sys/sys.h"

#include "unit.h"

static char plan_path[] = "/tmp/tidemill-faults-XXXXXX";

static void set_plan(const char *text) {
    assert_int_equal(sys_write_file_fast(AT_FDCWD, plan_path, slice_of(text), 0600), 0);
}

UNIT_TEST(operations_fail_as_planned_and_no_longer) {
    set_plan("fail mount 2 12\n");
    assert_int_equal(sys_point("rename"), 0);
    assert_int_equal(sys_point("mount"), -12);
    assert_int_equal(sys_point("mount"), -12);
    assert_int_equal(sys_point("mount"), 0);
    assert_int_equal(access(plan_path, F_OK), -1);
    static const char *const nonsense[] = {"", "\n", "fail", "fail mount", "fail mount 0", "fail mount x", "fail mount 1 x", "fail mount 1 99999"};
    for (size_t i = 0; i < ARRAY_LEN(nonsense); i++) {
        FILE *file = fopen(plan_path, "we");
        assert_true(file && fputs(nonsense[i], file) >= 0 && fclose(file) == 0);
        assert_int_equal(sys_point("mount"), 0);
    }
}

UNIT_TEST(the_process_ends_before_the_operation_that_is_meant) {
    int status;
    set_plan("die * 3\n");
    pid_t pid = fork();
    if (pid == 0) {
        sys_point("rename");
        sys_point("mount");
        sys_point("spawn");
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(access(plan_path, F_OK), -1);
}

int main(void) {
    int fd = mkstemp(plan_path);
    close(fd);
    unlink(plan_path); /* writing a plan is an operation itself: the file must not be there then */
    setenv("TIDEMILL_FAULTS", plan_path, 1);
    const struct CMUnitTest tests[] = {UNIT(operations_fail_as_planned_and_no_longer), UNIT(the_process_ends_before_the_operation_that_is_meant)};
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(plan_path);
    return r;
}

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/wait.h>

#include "loop/loop.h"
#include "runtime/program.h"
#include "sys/sys.h"
#include "unit.h"

static int run(const char *path) {
    const char *const argv[] = {path, NULL};
    const struct loop_spawn_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    pid_t pid;
    int status;
    assert_int_equal(loop_spawn(&options, &pid), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status);
}

UNIT_TEST(a_copy_runs_and_cannot_be_written) {
    struct program program;
    struct diag diag = DIAG_INIT;
    assert_int_equal(program_find(&program, "true", &diag), 0);
    const char *copy = program_sealed(&program);
    assert_string_not_equal(copy, program.path);
    assert_int_equal(run(copy), 0);
    assert_int_equal(fcntl(program.fd, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    assert_true(write(program.fd, "x", 1) < 0);
    program_deinit(&program);
}

UNIT_TEST(an_upgrade_is_noticed_and_the_path_stays_good) {
    struct program program;
    struct diag diag = DIAG_INIT;
    char folder[] = "/tmp/tmprogram-XXXXXX", copy[64];
    assert_non_null(mkdtemp(folder));
    assert_int_equal(program_find(&program, "true", &diag), 0);
    struct buffer before = BUFFER_INIT(MIB), after = BUFFER_INIT(MIB);
    assert_int_equal(sys_read_file(AT_FDCWD, "/bin/true", MIB - 1, &before), 0);
    assert_int_equal(sys_read_file(AT_FDCWD, "/bin/false", MIB - 1, &after), 0);
    snprintf(program.path, sizeof program.path, "%s/program", folder);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, program.path, buffer_slice(&before), 0755), 0);
    snprintf(copy, sizeof copy, "%s", program_sealed(&program));
    assert_int_equal(run(copy), 0);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, program.path, buffer_slice(&after), 0755), 0);
    assert_string_equal(program_sealed(&program), copy);
    assert_int_equal(run(copy), 1);
    assert_int_equal(unlink(program.path), 0);
    assert_string_equal(program_sealed(&program), copy); /* in the middle of an upgrade */
    assert_int_equal(run(copy), 1);
    program_deinit(&program);
    buffer_deinit(&before);
    buffer_deinit(&after);
    sys_remove_tree(AT_FDCWD, folder);
}

UNIT_TEST(a_missing_program_is_named) {
    struct program program;
    struct diag diag = DIAG_INIT;
    assert_int_equal(program_find(&program, "no-such-program", &diag), -ENOENT);
    assert_string_equal(diag.message, "the program no-such-program is not installed");
}

UNIT_MAIN(UNIT(a_copy_runs_and_cannot_be_written), UNIT(an_upgrade_is_noticed_and_the_path_stays_good), UNIT(a_missing_program_is_named))

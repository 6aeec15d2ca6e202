#include "supervisor/supervisor_priv.h"

#include <fcntl.h>
#include <unistd.h>

#include "sys/sys.h"

#include "faults.h"
#include "unit.h"

/* This process stands for a role that lives. */
static int write_and_adopt(void *context) {
    static const char *const socket_names[] = {"http", NULL};
    const struct supervisor_role role = {.name = "core", .socket_names = socket_names};
    const struct supervisor_socket socket = {.name = "http"};
    const struct supervisor_options options = {.run_dir = context, .roles = &role, .roles_count = 1, .sockets = &socket, .sockets_count = 1};
    struct supervisor before = {.options = &options, .fds = {STDERR_FILENO}}, after = {.options = &options, .fds = {-1}};
    before.running[0] = (struct running){.role = &role, .pid = getpid()};
    after.running[0] = (struct running){.role = &role};
    int r = process_start_ticks(getpid(), &before.running[0].start_ticks);
    if (r == 0)
        r = record_write(&before);
    int adopted = record_adopt(&after); /* of this record or, when it could not be written, the one before: never half */
    if (r == 0 && adopted == 0) {
        assert_int_equal(after.running[0].pid, getpid());
        assert_true(after.fds[0] >= 0);
    }
    fd_closep(&after.fds[0]);
    return r < 0 ? r : adopted;
}

UNIT_TEST(living_roles_are_found_or_an_error_is_told) {
    char folder[] = "/tmp/tidemill-record-XXXXXX";
    assert_non_null(mkdtemp(folder));
    TEST_FAULTS_ANY(write_and_adopt, folder);
    assert_int_equal(sys_remove_tree(AT_FDCWD, folder), 0);
}

UNIT_MAIN(UNIT(living_roles_are_found_or_an_error_is_told))

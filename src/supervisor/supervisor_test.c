/* The supervisor in a process of its own, with `sleep` for roles and real sockets. */
#include "supervisor/supervisor_priv.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sys/sys.h"
#include "unit.h"

#define WAIT_MS 10000

struct fixture {
    char dir[64];
    char address[128];
    struct supervisor_socket sockets[1];
    struct supervisor_role roles[2];
    struct supervisor_options options;
};

static const char *const sleeper[] = {"sleep", "1000", NULL};
static const char *const door[] = {"door", NULL};
static const char *const none[] = {NULL};

static void make_fixture(struct fixture *fixture) {
    *fixture = (struct fixture){.dir = "/tmp/tidemill-supervisor-XXXXXX"};
    assert_non_null(mkdtemp(fixture->dir));
    snprintf(fixture->address, sizeof fixture->address, "unix:%s/door.sock", fixture->dir);
    fixture->sockets[0] = (struct supervisor_socket){"door", fixture->address, 0600, getuid(), getgid()};
    fixture->roles[0] = (struct supervisor_role){.name = "one", .argv = sleeper, .socket_names = door};
    fixture->roles[1] = (struct supervisor_role){.name = "two", .argv = sleeper, .socket_names = none};
    fixture->options = (struct supervisor_options){
        .run_dir = fixture->dir, .sockets = fixture->sockets, .sockets_count = 1, .roles = fixture->roles, .roles_count = 2};
}

static pid_t run_supervisor(const struct fixture *fixture) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct diag diag = DIAG_INIT;
        log_setup("supervisor", LOG_ERROR);
        _exit(supervisor_run(&fixture->options, &diag) == 0 ? 0 : 1);
    }
    return pid;
}

/* The pid of a role in the state file; 0: none. */
static pid_t role_pid(const struct fixture *fixture, const char *name) {
    char path[PATH_MAX];
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64 * KIB);
    snprintf(path, sizeof path, "%s/supervisor.state", fixture->dir);
    if (sys_read_file(AT_FDCWD, path, 64 * KIB, &text) < 0)
        return 0;
    struct slice rest = buffer_slice(&text);
    while (rest.data) {
        struct slice line = slice_cut(&rest, '\n'), word = slice_cut(&line, ' '), role = slice_cut(&line, ' ');
        uint64_t pid;
        if (slice_is(word, "role") && slice_is(role, name) && slice_parse_u64(slice_cut(&line, ' '), INT32_MAX, &pid) == 0)
            return (pid_t)pid;
    }
    return 0;
}

/* Waits until the role has a pid other than `old`. */
static pid_t wait_for_role(const struct fixture *fixture, const char *name, pid_t old) {
    for (int waited = 0; waited < WAIT_MS; waited += 5) {
        pid_t pid = role_pid(fixture, name);
        if (pid && pid != old)
            return pid;
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    fail_msg("role %s did not appear", name);
    return 0;
}

static bool is_alive(pid_t pid) {
    uint64_t ticks;
    return process_start_ticks(pid, &ticks) == 0;
}

static void wait_until_gone(pid_t pid) {
    for (int waited = 0; waited < WAIT_MS && is_alive(pid); waited += 5)
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    assert_false(is_alive(pid));
}

static bool door_is_open(const struct fixture *fixture) {
    struct sys_address address;
    assert_int_equal(sys_address_parse(fixture->address, &address), 0);
    CLEANUP(fd_closep) int fd = sys_connect(&address);
    return fd >= 0;
}

static void stop(const struct fixture *fixture, pid_t supervisor) {
    int status;
    kill(supervisor, SIGTERM);
    assert_int_equal(waitpid(supervisor, &status, 0), supervisor);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_false(door_is_open(fixture));
    assert_int_equal(sys_remove_tree(AT_FDCWD, fixture->dir), 0);
}

UNIT_TEST(a_role_that_dies_is_started_again) {
    struct fixture fixture;
    make_fixture(&fixture);
    pid_t supervisor = run_supervisor(&fixture);
    pid_t one = wait_for_role(&fixture, "one", 0), two = wait_for_role(&fixture, "two", 0);
    kill(one, SIGKILL);
    pid_t again = wait_for_role(&fixture, "one", one);
    assert_true(is_alive(again));
    assert_int_equal(role_pid(&fixture, "two"), two);
    stop(&fixture, supervisor);
    assert_false(is_alive(again));
    assert_false(is_alive(two));
}

UNIT_TEST(the_next_supervisor_adopts_what_lives) {
    struct fixture fixture;
    make_fixture(&fixture);
    pid_t supervisor = run_supervisor(&fixture);
    pid_t one = wait_for_role(&fixture, "one", 0), two = wait_for_role(&fixture, "two", 0);
    kill(supervisor, SIGKILL);
    waitpid(supervisor, NULL, 0);
    assert_true(is_alive(one));
    assert_true(door_is_open(&fixture)); /* the role holds it */
    kill(two, SIGKILL);
    wait_until_gone(two);
    supervisor = run_supervisor(&fixture);
    pid_t new_two = wait_for_role(&fixture, "two", two);
    assert_int_equal(role_pid(&fixture, "one"), one);
    assert_true(is_alive(one));
    assert_true(door_is_open(&fixture));
    kill(one, SIGKILL); /* adopted ones are watched too */
    pid_t new_one = wait_for_role(&fixture, "one", one);
    assert_true(door_is_open(&fixture));
    stop(&fixture, supervisor);
    assert_false(is_alive(new_one));
    assert_false(is_alive(new_two));
}

UNIT_TEST(a_state_file_of_strangers_adopts_nobody) {
    struct fixture fixture;
    make_fixture(&fixture);
    char path[PATH_MAX], text[200];
    snprintf(path, sizeof path, "%s/supervisor.state", fixture.dir);
    /* Our own pid with a wrong start time, garbage, a descriptor of nobody. */
    snprintf(text, sizeof text, "role one %d 1\nsocket door %d 0\nrole\n\xff\xfe x y z\nrole two 99999999999 5\nsocket door 1 3\n", (int)getpid(),
             (int)getpid());
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, slice_of(text), 0600), 0);
    pid_t supervisor = run_supervisor(&fixture);
    pid_t one = wait_for_role(&fixture, "one", getpid());
    assert_true(is_alive(one));
    wait_for_role(&fixture, "two", 0);
    stop(&fixture, supervisor);
}

UNIT_TEST(one_lock_holder) {
    char path[] = "/tmp/tidemill-lock-XXXXXX";
    struct diag diag = DIAG_INIT;
    CLEANUP(fd_closep) int made = mkstemp(path);
    assert_true(made >= 0);
    CLEANUP(fd_closep) int lock = supervisor_lock(path, &diag);
    assert_true(lock >= 0);
    assert_int_equal(supervisor_lock(path, &diag), -EBUSY);
    assert_non_null(strstr(diag.hint, "--state"));
    unlink(path);
}

UNIT_TEST(a_port_in_use_is_told) {
    struct fixture fixture;
    make_fixture(&fixture);
    struct sys_address address;
    struct diag diag = DIAG_INIT;
    assert_int_equal(sys_address_parse("127.0.0.1:0", &address), 0);
    CLEANUP(fd_closep) int taken = sys_listen(&address, 1, 0);
    struct sockaddr_in bound;
    socklen_t len = sizeof bound;
    assert_int_equal(getsockname(taken, (struct sockaddr *)&bound, &len), 0);
    char text[64];
    snprintf(text, sizeof text, "127.0.0.1:%d", ntohs(bound.sin_port));
    fixture.sockets[0].address = text;
    assert_int_equal(supervisor_run(&fixture.options, &diag), -EADDRINUSE);
    assert_non_null(strstr(diag.hint, "--door-listen"));
    sys_remove_tree(AT_FDCWD, fixture.dir);
}

UNIT_TEST(sockets_are_found_by_name) {
    setenv("TIDEMILL_SOCKETS", "api=2,http=1,bad=x", 1);
    assert_int_equal(supervisor_socket_inherited("nope"), -1);
    assert_int_equal(supervisor_socket_inherited("bad"), -1);
    int copy = dup(2);
    char text[32];
    snprintf(text, sizeof text, "a=7777,api=%d", copy);
    setenv("TIDEMILL_SOCKETS", text, 1);
    assert_int_equal(supervisor_socket_inherited("api"), copy);
    assert_true(fcntl(copy, F_GETFD) & FD_CLOEXEC);
    close(copy);
    unsetenv("TIDEMILL_SOCKETS");
}

UNIT_MAIN(UNIT(a_role_that_dies_is_started_again), UNIT(the_next_supervisor_adopts_what_lives), UNIT(a_state_file_of_strangers_adopts_nobody),
          UNIT(one_lock_holder), UNIT(a_port_in_use_is_told), UNIT(sockets_are_found_by_name))

/* The supervisor in a process of its own, with `sleep` for roles and real sockets. */
#include "supervisor/supervisor_priv.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <netinet/in.h>
#include <poll.h>
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
    char seconds[32];
    const char *sleeper[3], *idler[4]; /* no other process has this command line */
    struct supervisor_socket sockets[1];
    struct supervisor_role roles[2];
    struct supervisor_options options;
};

static const char *const door[] = {"door", NULL};
static const char *const none[] = {NULL};

static void make_fixture(struct fixture *fixture) {
    *fixture = (struct fixture){
        .dir = "/tmp/tidemill-supervisor-XXXXXX", .sleeper = {"/bin/sleep", fixture->seconds}, .idler = {"/bin/sleep", "1000", fixture->seconds}};
    snprintf(fixture->seconds, sizeof fixture->seconds, "1000.%d", (int)getpid());
    assert_non_null(mkdtemp(fixture->dir));
    snprintf(fixture->address, sizeof fixture->address, "unix:%s/door.sock", fixture->dir);
    fixture->sockets[0] = (struct supervisor_socket){"door", fixture->address, 0600, getuid(), getgid()};
    fixture->roles[0] = (struct supervisor_role){.name = "one", .argv = fixture->sleeper, .socket_names = door};
    fixture->roles[1] = (struct supervisor_role){.name = "two", .argv = fixture->idler, .socket_names = none};
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
    CLEANUP(fd_closep) int fd = sys_connect(&address); /* which does not wait */
    int error = -1;
    return fd >= 0 && poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, WAIT_MS) == 1 &&
           getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error}) == 0 && error == 0;
}

static void stop(const struct fixture *fixture, pid_t supervisor) {
    int status;
    kill(supervisor, SIGTERM);
    assert_int_equal(waitpid(supervisor, &status, 0), supervisor);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_false(door_is_open(fixture));
    assert_int_equal(sys_remove_tree(AT_FDCWD, fixture->dir), 0);
}

static void wait_for_text(const struct fixture *fixture, const char *name, const char *wanted) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", fixture->dir, name);
    for (int waited = 0; waited < WAIT_MS; waited += 5) {
        CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(4096);
        if (sys_read_file(AT_FDCWD, path, 4096, &text) == 0 && slice_starts(buffer_slice(&text), slice_of(wanted)))
            return;
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    fail_msg("%s does not say \"%s\"", path, wanted);
}

/* The supervisor has started or found every role: its file is written before, the other after. */
static void wait_for_pid_file(const struct fixture *fixture, pid_t supervisor) {
    char text[32];
    snprintf(text, sizeof text, "%d\n", (int)supervisor);
    wait_for_text(fixture, "supervisor.pid", text);
    wait_for_text(fixture, SUPERVISOR_RELOADED, "ok\n");
}

static void kill_supervisor(const struct fixture *fixture, pid_t pid) {
    char path[PATH_MAX];
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    snprintf(path, sizeof path, "%s/" SUPERVISOR_RELOADED, fixture->dir);
    assert_int_equal(unlink(path), 0);
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
    CLEANUP(fd_closep) int shift = dup(STDERR_FILENO); /* the copies get other numbers */
    assert_true(shift >= 0);
    supervisor = run_supervisor(&fixture);
    pid_t new_two = wait_for_role(&fixture, "two", two);
    assert_int_equal(role_pid(&fixture, "one"), one);
    assert_true(is_alive(one));
    assert_true(door_is_open(&fixture));
    wait_for_pid_file(&fixture, supervisor);
    kill_supervisor(&fixture, supervisor); /* once more: it is still known under which number a role has its socket */
    supervisor = run_supervisor(&fixture);
    wait_for_pid_file(&fixture, supervisor);
    assert_int_equal(role_pid(&fixture, "one"), one);
    kill(one, SIGKILL); /* adopted ones are watched too */
    pid_t new_one = wait_for_role(&fixture, "one", one);
    assert_true(door_is_open(&fixture));
    stop(&fixture, supervisor);
    assert_false(is_alive(new_one));
    assert_false(is_alive(new_two));
}

static void copy_program(const char *from, const char *to) {
    CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(16 * MIB);
    assert_int_equal(sys_read_file(AT_FDCWD, from, 16 * MIB, &bytes), 0);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, to, buffer_slice(&bytes), 0755), 0);
}

/* One has another command line, two another program under the same name; what neither has changed stays. */
UNIT_TEST(the_next_supervisor_replaces_what_is_of_another_version) {
    struct fixture fixture;
    make_fixture(&fixture);
    char program[PATH_MAX];
    snprintf(program, sizeof program, "%s/program", fixture.dir);
    copy_program("/bin/sleep", program);
    const char *const longer[] = {"sleep", "1001", NULL}, *const copied[] = {program, "1000", NULL};
    fixture.roles[1] = (struct supervisor_role){.name = "two", .argv = copied, .socket_names = none, .overlaps = true};
    pid_t supervisor = run_supervisor(&fixture);
    wait_for_pid_file(&fixture, supervisor);
    pid_t one = role_pid(&fixture, "one"), two = role_pid(&fixture, "two");

    kill_supervisor(&fixture, supervisor);
    supervisor = run_supervisor(&fixture);
    wait_for_pid_file(&fixture, supervisor);
    assert_int_equal(role_pid(&fixture, "one"), one);
    assert_int_equal(role_pid(&fixture, "two"), two);

    kill_supervisor(&fixture, supervisor);
    fixture.roles[0].argv = longer;
    fixture.options.reload_argv = fixture.options.check_argv = (const char *const[]){"/bin/false", NULL};
    fixture.options.reload_dir = "/";
    copy_program("/bin/sleep", program);
    supervisor = run_supervisor(&fixture);
    pid_t new_two = wait_for_role(&fixture, "two", two);
    assert_true(is_alive(two)); /* beside it for a while */
    kill(supervisor, SIGUSR2);  /* it waits until this is over, and nobody is told anything before */
    assert_true(door_is_open(&fixture));
    pid_t new_one = role_pid(&fixture, "one");
    assert_int_not_equal(new_one, one);
    assert_false(is_alive(one)); /* before the next one's turn came */
    wait_for_text(&fixture, SUPERVISOR_RELOADED, "the new program would not start");
    assert_false(is_alive(two));
    stop(&fixture, supervisor);
    assert_false(is_alive(new_one));
    assert_false(is_alive(new_two));
}

/* A supervisor that dies while one role has two processes leaves the next one to end the older. */
UNIT_TEST(a_successor_is_not_left_with_the_one_before) {
    struct fixture fixture;
    make_fixture(&fixture);
    const char *const longer[] = {"sleep", "1001", NULL};
    fixture.roles[1].overlaps = true;
    pid_t supervisor = run_supervisor(&fixture);
    wait_for_pid_file(&fixture, supervisor);
    pid_t two = role_pid(&fixture, "two");
    kill_supervisor(&fixture, supervisor);
    fixture.roles[1].argv = longer;
    supervisor = run_supervisor(&fixture);
    pid_t new_two = wait_for_role(&fixture, "two", two);
    kill(supervisor, SIGKILL);
    waitpid(supervisor, NULL, 0);
    supervisor = run_supervisor(&fixture);
    wait_until_gone(two);
    assert_int_equal(role_pid(&fixture, "two"), new_two);
    stop(&fixture, supervisor);
}

UNIT_TEST(it_becomes_another_program_only_when_that_would_start) {
    struct fixture fixture;
    make_fixture(&fixture);
    char script[PATH_MAX];
    snprintf(script, sizeof script, "echo $$ $TIDEMILL_SOCKETS > %s/became; exec sleep 1000", fixture.dir);
    const char *const shell[] = {"/bin/sh", "-c", script, NULL}, *const no[] = {"/bin/false", NULL}, *const yes[] = {"/bin/true", NULL};
    const char *const never[] = {"/bin/sleep", "1000", NULL};
    fixture.options.reload_argv = shell;
    fixture.options.reload_dir = "/";
    fixture.options.check_argv = no;
    pid_t supervisor = run_supervisor(&fixture);
    wait_for_pid_file(&fixture, supervisor);
    pid_t one = role_pid(&fixture, "one");
    kill(supervisor, SIGUSR2);
    wait_for_text(&fixture, SUPERVISOR_RELOADED, "the new program would not start");
    assert_int_equal(role_pid(&fixture, "one"), one);

    kill_supervisor(&fixture, supervisor);
    fixture.options.check_argv = never;
    fixture.options.check_timeout_ms = 50;
    supervisor = run_supervisor(&fixture);
    wait_for_pid_file(&fixture, supervisor);
    kill(supervisor, SIGUSR2);
    wait_for_text(&fixture, SUPERVISOR_RELOADED, "the new program would not start");

    kill_supervisor(&fixture, supervisor);
    fixture.options.check_timeout_ms = 0;
    fixture.options.check_argv = yes;
    supervisor = run_supervisor(&fixture);
    wait_for_pid_file(&fixture, supervisor);
    kill(supervisor, SIGUSR2);
    char wanted[64];
    snprintf(wanted, sizeof wanted, "%d door=", (int)supervisor);
    wait_for_text(&fixture, "became", wanted);
    assert_true(is_alive(one));

    kill_supervisor(&fixture, supervisor);
    fixture.options.reload_argv = NULL;
    supervisor = run_supervisor(&fixture);
    wait_for_pid_file(&fixture, supervisor);
    assert_int_equal(role_pid(&fixture, "one"), one);
    stop(&fixture, supervisor);
}

/* The one before was killed between starting a role and writing that down. */
UNIT_TEST(a_role_without_a_record_is_found) {
    struct fixture fixture;
    char path[PATH_MAX];
    make_fixture(&fixture);
    pid_t supervisor = run_supervisor(&fixture);
    wait_for_pid_file(&fixture, supervisor);
    pid_t one = role_pid(&fixture, "one"), two = role_pid(&fixture, "two");
    kill_supervisor(&fixture, supervisor);
    snprintf(path, sizeof path, "%s/supervisor.state", fixture.dir);
    assert_int_equal(unlink(path), 0);
    supervisor = run_supervisor(&fixture);
    wait_for_pid_file(&fixture, supervisor);
    assert_int_equal(role_pid(&fixture, "one"), one);
    assert_int_equal(role_pid(&fixture, "two"), two);
    assert_true(door_is_open(&fixture));
    stop(&fixture, supervisor);
}

UNIT_TEST(a_socket_moves_with_its_address) {
    struct fixture fixture;
    make_fixture(&fixture);
    pid_t supervisor = run_supervisor(&fixture);
    wait_for_pid_file(&fixture, supervisor);
    kill_supervisor(&fixture, supervisor);
    snprintf(fixture.address, sizeof fixture.address, "unix:%s/other.sock", fixture.dir);
    supervisor = run_supervisor(&fixture);
    wait_for_pid_file(&fixture, supervisor);
    assert_true(door_is_open(&fixture));
    stop(&fixture, supervisor);
}

/* Whoever listens at one address keeps all others of the port from us. */
UNIT_TEST(a_socket_moves_to_where_its_role_is_in_the_way) {
    struct fixture fixture;
    make_fixture(&fixture);
    const char *const longer[] = {"sleep", "1001", NULL};
    struct sys_address address = {.len = sizeof address.storage};
    char free_one[100];
    int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(probe, (const struct sockaddr *)&(struct sockaddr_in){.sin_family = AF_INET}, sizeof(struct sockaddr_in)), 0);
    assert_int_equal(getsockname(probe, (struct sockaddr *)(void *)&address.storage, &address.len), 0);
    close(probe);
    const char *port = strrchr(sys_address_format(&address, free_one, sizeof free_one), ':');
    snprintf(fixture.address, sizeof fixture.address, "127.0.0.1%s", port);
    pid_t supervisor = run_supervisor(&fixture);
    wait_for_pid_file(&fixture, supervisor);
    pid_t one = role_pid(&fixture, "one");
    kill_supervisor(&fixture, supervisor);
    snprintf(fixture.address, sizeof fixture.address, "0.0.0.0%s", port);
    fixture.roles[0].argv = longer;
    supervisor = run_supervisor(&fixture);
    wait_for_pid_file(&fixture, supervisor);
    assert_int_not_equal(role_pid(&fixture, "one"), one);
    assert_false(is_alive(one));
    assert_true(door_is_open(&fixture));
    stop(&fixture, supervisor);
}

UNIT_TEST(an_inherited_socket_that_nobody_wants_is_closed) {
    struct fixture fixture;
    make_fixture(&fixture);
    struct supervisor supervisor = {.options = &fixture.options};
    char text[64];
    int wanted = open("/dev/null", O_RDONLY), other = open("/dev/null", O_RDONLY);
    snprintf(text, sizeof text, "gone=%d,door=%d", other, wanted);
    setenv(SUPERVISOR_SOCKETS, text, 1);
    reload_inherit(&supervisor);
    assert_int_equal(supervisor.fds[0], wanted);
    assert_int_equal(fcntl(wanted, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(other, F_GETFD), -1);
    assert_null(getenv(SUPERVISOR_SOCKETS));
    close(wanted);
    assert_int_equal(sys_remove_tree(AT_FDCWD, fixture.dir), 0);
}

/* Else the next supervisor would take over whatever has that number there. */
UNIT_TEST(a_socket_that_a_role_has_not_got_is_not_recorded) {
    struct fixture fixture;
    char path[PATH_MAX];
    make_fixture(&fixture);
    struct supervisor supervisor = {.options = &fixture.options, .fds = {-1}};
    supervisor.running[0] = (struct running){.supervisor = &supervisor, .role = &fixture.roles[0], .pid = getpid(), .numbers = {-1}};
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(4096);
    snprintf(path, sizeof path, "%s/supervisor.state", fixture.dir);
    assert_int_equal(record_write(&supervisor), 0);
    assert_int_equal(sys_read_file(AT_FDCWD, path, 4096, &text), 0);
    assert_true(slice_starts(buffer_slice(&text), SLICE("role one ")));
    assert_true(slice_find(buffer_slice(&text), SLICE("socket")) < 0);
    assert_int_equal(sys_remove_tree(AT_FDCWD, fixture.dir), 0);
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

UNIT_MAIN(UNIT(a_role_that_dies_is_started_again), UNIT(the_next_supervisor_adopts_what_lives),
          UNIT(the_next_supervisor_replaces_what_is_of_another_version), UNIT(a_successor_is_not_left_with_the_one_before),
          UNIT(it_becomes_another_program_only_when_that_would_start), UNIT(a_role_without_a_record_is_found), UNIT(a_socket_moves_with_its_address),
          UNIT(a_socket_moves_to_where_its_role_is_in_the_way), UNIT(an_inherited_socket_that_nobody_wants_is_closed),
          UNIT(a_socket_that_a_role_has_not_got_is_not_recorded), UNIT(a_state_file_of_strangers_adopts_nobody), UNIT(one_lock_holder),
          UNIT(a_port_in_use_is_told), UNIT(sockets_are_found_by_name))

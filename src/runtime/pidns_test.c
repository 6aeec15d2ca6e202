/* A PID namespace that outlives who made it. Needs root. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "runtime/pidns.h"
#include "runtime/userns.h"
#include "sys/sys.h"
#include "unit.h"

/* Of this process: several checkouts may be tested on one machine. */
static char group_above[64], group[80];

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
    assert_int_equal(pidns_find(&cgroups, group), 0);
    assert_int_equal(pidns_start(&cgroups, group, (const char *const[]){NULL}, &pid), 0);
    assert_int_equal(pidns_find(&cgroups, group), pid);
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
    pidns_stop(&cgroups, group);
    int status;
    assert_int_equal(waitpid(outside, &status, 0), outside);
    assert_int_equal(status, 0); /* who joined ended with it */
    assert_int_equal(pidns_find(&cgroups, group), 0);
    assert_false(cgroup_exists(&cgroups, group));
    pidns_stop(&cgroups, group); /* absent is fine */
    assert_int_equal(cgroup_remove(&cgroups, group_above), 0);
}

static void check_line(pid_t pid, const char *line) {
    struct buffer text = BUFFER_INIT(64 * KIB);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    assert_int_equal(sys_read_file(AT_FDCWD, path, 64 * KIB - 1, &text), 0);
    if (!strstr(text.data, line))
        fail_msg("%s is not in %s", line, text.data);
    buffer_deinit(&text);
}

/* What it has is everybody's in the pod who may trace. */
static void check_is_worth_nothing(pid_t pid) {
    char process[16], path[64], own[64], there[64];
    struct dirent *entry;
    snprintf(process, sizeof process, "%d", (int)pid);
    check_line(pid, "Uid:\t65535\t65535\t65535\t65535\n");
    check_line(pid, "Groups:\t \n");
    check_line(pid, "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n");
    check_line(pid, "NoNewPrivs:\t1\nSeccomp:\t2\n");
    namespace_of("self", "mnt", own);
    namespace_of(process, "mnt", there);
    assert_string_not_equal(own, there);
    static const char *const folders[] = {"root", "cwd", "root/..", "fd"};
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, folders[i]);
        DIR *dir = opendir(path);
        assert_non_null(dir);
        while ((entry = readdir(dir)))
            if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                fail_msg("it has %s in %s", entry->d_name, path);
        closedir(dir);
    }
    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    int exe = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(fcntl(exe, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    close(exe);
}

/* A child of ours that dies in there after its parent. */
static int leave_an_orphan(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC), words[2];
    char byte;
    if (fd < 0 || setns(fd, CLONE_NEWPID) < 0 || pipe(words) < 0)
        return 1;
    pid_t parent = fork(); /* its own child is the orphan, which ends later */
    if (parent == 0) {
        pid_t orphan = fork();
        if (orphan != 0)
            _exit(orphan < 0);
        while (getppid() != 1)
            sched_yield();
        _exit((int)write(words[1], "", 1) - 1);
    }
    close(words[1]);
    int status = 1;
    waitpid(parent, &status, 0);
    return status != 0 || read(words[0], &byte, 1) != 1 || read(words[0], &byte, 1) != 0;
}

static size_t processes_in(const char *which, pid_t of) {
    size_t count = 0;
    char own[64], other[64], process[16];
    snprintf(process, sizeof process, "%d", (int)of);
    namespace_of(process, which, own);
    DIR *dir = opendir("/proc");
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[300];
        snprintf(path, sizeof path, "/proc/%s/ns/%s", entry->d_name, which);
        ssize_t len = entry->d_name[0] >= '0' && entry->d_name[0] <= '9' ? readlink(path, other, sizeof other - 1) : 0;
        count += len > 0 && strncmp(other, own, (size_t)len) == 0;
    }
    closedir(dir);
    return count;
}

UNIT_TEST(what_keeps_it_is_worth_nothing) {
    struct cgroups cgroups;
    struct diag diag = DIAG_INIT;
    pid_t pid = 0;
    char path[64];
    int status;
    assert_int_equal(cgroups_detect("/sys/fs/cgroup", &cgroups, &diag), 0);
    assert_int_equal(pidns_start(&cgroups, group, (const char *const[]){NULL}, &pid), 0);
    check_is_worth_nothing(pid);
    snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)pid);
    pid_t child = fork();
    if (child == 0)
        _exit(leave_an_orphan(path));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    while (processes_in("pid", pid) != 1) /* the orphan is reaped, or this hangs */
        sched_yield();
    pidns_stop(&cgroups, group);
    assert_int_equal(cgroup_remove(&cgroups, group_above), 0);
}

/* A node that is killed while another process prepares the namespace: that one is in the machine's own. */
UNIT_TEST(what_is_not_ready_is_not_found) {
    struct cgroups cgroups;
    struct diag diag = DIAG_INIT;
    int status;
    assert_int_equal(cgroups_detect("/sys/fs/cgroup", &cgroups, &diag), 0);
    assert_int_equal(cgroup_create(&cgroups, group, NULL), 0);
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    assert_int_equal(cgroup_attach(&cgroups, group, pid), 0);
    assert_int_equal(pidns_find(&cgroups, group), 0);
    pidns_stop(&cgroups, group);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    pidns_stop(&cgroups, group);
    assert_false(cgroup_exists(&cgroups, group));
    assert_int_equal(cgroup_remove(&cgroups, group_above), 0);
}

UNIT_TEST(it_belongs_to_a_user_namespace) {
    struct cgroups cgroups;
    struct diag diag = DIAG_INIT;
    struct stat owner, wanted;
    char user[64], net[64], path[64], process[16], joined[64], there[64];
    assert_int_equal(cgroups_detect("/sys/fs/cgroup", &cgroups, &diag), 0);
    int user_fd = userns_new(700000);
    assert_true(user_fd >= 0);
    assert_int_equal(prctl(PR_GET_DUMPABLE), 1); /* again */
    pid_t other = fork();
    if (other == 0) {
        if (unshare(CLONE_NEWNET) < 0)
            _exit(1);
        kill(getpid(), SIGSTOP);
        _exit(0);
    }
    waitpid(other, NULL, WUNTRACED);
    snprintf(user, sizeof user, "/proc/self/fd/%d", user_fd);
    snprintf(net, sizeof net, "/proc/%d/ns/net", (int)other);
    pid_t pid = 0;
    assert_int_equal(pidns_start(&cgroups, group, (const char *const[]){net, user, NULL}, &pid), 0);
    snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC), owner_fd = ioctl(fd, NS_GET_USERNS);
    assert_int_equal(fstat(owner_fd, &owner), 0);
    assert_int_equal(fstat(user_fd, &wanted), 0);
    assert_int_equal(owner.st_ino, wanted.st_ino);
    snprintf(process, sizeof process, "%d", (int)pid);
    namespace_of(process, "net", there);
    snprintf(process, sizeof process, "%d", (int)other);
    namespace_of(process, "net", joined);
    assert_string_equal(there, joined);
    check_line(pid, "Uid:\t765535\t765535\t765535\t765535\n");
    close(fd);
    close(owner_fd);
    close(user_fd);
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    pidns_stop(&cgroups, group);
    assert_int_equal(cgroup_remove(&cgroups, group_above), 0);
}

UNIT_TEST(what_cannot_be_joined_leaves_nothing) {
    struct cgroups cgroups;
    struct diag diag = DIAG_INIT;
    pid_t pid = 0;
    assert_int_equal(cgroups_detect("/sys/fs/cgroup", &cgroups, &diag), 0);
    assert_int_equal(pidns_start(&cgroups, group, (const char *const[]){"/does/not/exist", NULL}, &pid), -ENOENT);
    assert_int_equal(pidns_start(&cgroups, group, (const char *const[]){"/dev/null", NULL}, &pid), -EINVAL);
    assert_int_equal(pidns_find(&cgroups, group), 0);
    pidns_stop(&cgroups, group);
    assert_int_equal(cgroup_remove(&cgroups, group_above), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(what_cannot_be_joined_leaves_nothing), UNIT(a_namespace_is_found_again_and_ends),
                                       UNIT(what_keeps_it_is_worth_nothing), UNIT(what_is_not_ready_is_not_found),
                                       UNIT(it_belongs_to_a_user_namespace)};
    snprintf(group_above, sizeof group_above, "/tidemillpn-%d", (int)getpid());
    snprintf(group, sizeof group, "%s/pause", group_above);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

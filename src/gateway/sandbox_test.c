/* The filter for real: a child enters it and tries what it must and must not be able to do. */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "gateway/sandbox_priv.h"

static bool denied(long result) {
    return result == -1 && errno == EPERM;
}

/* Returns the number of the check that failed, 0 when all hold. */
static int checks(void) {
    if (sandbox_enter() < 0)
        return 1;
    if (!denied(open("/etc/passwd", O_RDONLY)))
        return 2;
    if (!denied(execve("/bin/true", (char *[]){(char *)"true", NULL}, NULL)))
        return 3;
    if (!denied(fork()))
        return 4;
    if (!denied(socket(AF_NETLINK, SOCK_RAW, 0)))
        return 5;
    if (!denied((long)mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)))
        return 6;
    if (!denied(setuid(12345)))
        return 7;
    if (!denied(kill(getppid(), 0)))
        return 8;
    if (!denied(unlink("/tmp/x")))
        return 9;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || close(fd) < 0)
        return 10;
    void *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || munmap(memory, 1 << 20) < 0)
        return 11;
    return 0;
}

UNIT_TEST(filter_denies_all_but_its_list) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(checks());
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int drop_checks(void) {
    if (sandbox_drop_root(12345, 12346) < 0)
        return 1;
    uid_t real, effective, saved;
    getresuid(&real, &effective, &saved);
    if (real != 12345 || effective != 12345 || saved != 12345 || getegid() != 12346 || getgroups(0, NULL) != 0)
        return 2;
    if (setuid(0) == 0)
        return 3;
    char line[256];
    FILE *file = fopen("/proc/self/status", "re");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "Cap", 3) == 0 && strstr(line, "CapBnd") && !strstr(line, "0000000000000000"))
            return 4;
    return file ? 0 : 5;
}

UNIT_TEST(root_is_dropped_for_good) {
    if (geteuid() != 0)
        skip();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(drop_checks());
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

UNIT_MAIN(UNIT(filter_denies_all_but_its_list), UNIT(root_is_dropped_for_good))

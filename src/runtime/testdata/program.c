/* What runs inside test containers: a static program with a few verbs. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void on_term(int signal) {
    (void)signal;
    _exit(7);
}

_Noreturn static void wait_for_term(void) {
    signal(SIGTERM, on_term);
    printf("waiting\n");
    fflush(stdout);
    for (;;)
        pause();
}

static int cat(void) {
    char bytes[4096];
    ssize_t n;
    while ((n = read(0, bytes, sizeof bytes)) > 0)
        if (write(1, bytes, (size_t)n) < 0)
            return 1;
    return 0;
}

_Noreturn static void eat_memory(void) {
    for (;;) {
        char *bytes = malloc(1 << 20);
        if (bytes)
            memset(bytes, 1, 1 << 20);
    }
}

/* Tries what a container must not be able to do; prints the number of successes. */
static int escape(void) {
    int bad = 0;
    bad += mount("none", "/", "tmpfs", 0, NULL) == 0;
    bad += open("/proc/sysrq-trigger", O_WRONLY) >= 0;
    bad += open("/proc/kcore", O_RDONLY) >= 0 && read(open("/proc/kcore", O_RDONLY), &bad, 1) > 0;
    bad += access("/etc/shadow", F_OK) == 0;
    bad += unshare(CLONE_NEWNS) == 0;
    printf("escapes %d\n", bad);
    return bad;
}

/* What the kernel knows of us, as far as it is a matter of privileges. */
static int status(void) {
    static const char *const keys[] = {"Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp:", "Seccomp_filters:"};
    char line[512], path[512];
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
            if (strncmp(line, keys[i], strlen(keys[i])) == 0)
                fputs(line, stdout);
    struct rlimit limit = {0};
    getrlimit(RLIMIT_NOFILE, &limit);
    printf("files %ld\ncwd %s\n", (long)limit.rlim_cur, getcwd(path, sizeof path));
    file = fopen("/proc/self/oom_score_adj", "r");
    printf("oom %s", file && fgets(line, sizeof line, file) ? line : "?\n");
    for (int fd = 3; fd < 100; fd++)
        if (fcntl(fd, F_GETFD) >= 0 && (!file || fd > fileno(file)))
            printf("descriptor %d\n", fd);
    return 0;
}

/* Four processes of one session, each but the first in a group of its own, that never end. */
_Noreturn static void family(void) {
    for (int i = 0; i < 2; i++)
        if (fork() == 0)
            setpgid(0, 0);
    printf("born\n");
    fflush(stdout);
    for (;;)
        pause();
}

int main(int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "exit") == 0)
        return argc > 2 ? argv[2][0] - '0' : 0;
    if (strcmp(verb, "echo") == 0)
        return printf("%s\n", argc > 2 ? argv[2] : "") < 0;
    if (strcmp(verb, "err") == 0)
        return fprintf(stderr, "%s\n", argc > 2 ? argv[2] : "") < 0;
    if (strcmp(verb, "env") == 0)
        return printf("%s\n", getenv(argv[2]) ? getenv(argv[2]) : "(unset)") < 0;
    if (strcmp(verb, "wait") == 0)
        wait_for_term();
    if (strcmp(verb, "cat") == 0)
        return cat();
    if (strcmp(verb, "oom") == 0)
        eat_memory();
    if (strcmp(verb, "escape") == 0)
        return escape();
    if (strcmp(verb, "status") == 0)
        return status();
    if (strcmp(verb, "family") == 0)
        family();
    if (strcmp(verb, "tty") == 0)
        return printf("tty %d\n", isatty(1)) < 0;
    return 64;
}

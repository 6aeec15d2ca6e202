/* A countdown for the whole process, threads included: the points of failure lower it, and who brings it to zero fails. What a thread does may shift
 * the order between runs; the walk ends all the same, for a run that meets fewer points than the countdown is the last one.
 *
 * Beyond FAULTS_EXACT points, or SECONDS_EXACT of time, the walk takes growing strides, so that long bodies stay quick. FAULTS_ALL=1 in the
 * environment walks every one, FAULTS_AT=n runs only the n-th. A failure tells which point it was, with the stack that met it. */
#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "base/base.h"
#include "faults.h"
#include "unit.h"

#define FAULTS_EXACT 600
#define SECONDS_EXACT 2

static atomic_int countdown; /* 0: off */
static atomic_int paused;
static atomic_int active_kinds;
static atomic_bool struck;
static atomic_bool struck_memory;
static atomic_int patience; /* 0: time passes as it does */
static _Atomic int64_t skipped_ns;
static bool walking; /* still set at exit: a check inside a body failed */
static int current;
static const char *current_name;
static void *frames[40];
static int frames_count;

void __sanitizer_symbolize_pc(void *pc, const char *format, char *text, size_t size) __attribute__((weak));
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static void tell(void) {
    char line[512];
    fprintf(stderr, "faults: %s, FAULTS_AT=%d, %s\n", current_name, current, atomic_load(&struck) ? "failed here:" : "nothing failed");
    for (int i = 1; atomic_load(&struck) && i < frames_count; i++) {
        snprintf(line, sizeof line, "%p", frames[i]);
        if (__sanitizer_symbolize_pc)
            __sanitizer_symbolize_pc((char *)frames[i] - 1, "%f %s:%l", line, sizeof line);
        fprintf(stderr, "    %s\n", line);
    }
}

static void __attribute__((destructor)) on_death(void) {
    if (walking)
        tell();
    walking = false;
}

static void on_abort(int number) {
    on_death();
    signal(number, SIG_DFL);
    raise(number);
}

static bool strike(int kind) {
    if (atomic_load(&countdown) == 0 || atomic_load(&paused) || !(atomic_load(&active_kinds) & kind))
        return false;
    if (atomic_fetch_sub(&countdown, 1) != 1)
        return false;
    frames_count = backtrace(frames, (int)ARRAY_LEN(frames));
    atomic_store(&struck_memory, kind == FAULTS_MEMORY);
    atomic_store(&struck, true);
    return true;
}

bool faults_strike_memory(void) {
    return strike(FAULTS_MEMORY);
}

bool faults_struck(void) {
    return atomic_load(&struck);
}

bool faults_struck_memory(void) {
    return atomic_load(&struck) && atomic_load(&struck_memory);
}

void faults_pause(void) {
    atomic_fetch_add(&paused, 1);
}

void faults_resume(void) {
    atomic_fetch_sub(&paused, 1);
}

static int descriptors_open(void) {
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder && readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void run(faults_body_fn *body, void *context, int kinds) {
    int descriptors = descriptors_open();
    atomic_store(&paused, 0);
    atomic_store(&struck, false);
    atomic_store(&active_kinds, kinds);
    walking = true;
    atomic_store(&countdown, current);
    int r = body(context);
    atomic_store(&countdown, 0);
    walking = false;
    bool memory = atomic_load(&struck_memory);
    bool wrong = !atomic_load(&struck) ? r != 0 : memory && !(kinds & FAULTS_ANY_ERROR) && r != 0 && r != -ENOMEM;
    int left = descriptors_open() - descriptors;
    if (wrong || left != 0)
        tell();
    if (wrong)
        fail_msg("%s returned %d", current_name, r);
    if (left != 0)
        fail_msg("%s left %d descriptors open", current_name, left);
    if (getenv("FAULTS_LEAKS") && __lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check()) {
        tell();
        fail_msg("%s lost memory", current_name);
    }
}

static int stride(time_t start) {
    int slow = time(NULL) - start > SECONDS_EXACT ? current / 10 : 0;
    return MAX(slow, current < FAULTS_EXACT ? 1 : current / 100);
}

void faults_walk(const char *name, faults_body_fn *body, const void *constant, int kinds) {
    void *context = (void *)(uintptr_t)constant;
    const char *at = getenv("FAULTS_AT");
    bool all = getenv("FAULTS_ALL") != NULL;
    int64_t only = 0;
    if (at && slice_parse_i64(slice_of(at), &only) < 0)
        fail_msg("FAULTS_AT is no number");
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(on_death);
    signal(SIGABRT, on_abort);
    on_death(); /* of the walk before */
    current_name = name;
    current = 0;
    run(body, context, kinds); /* what is made once per process (caches of libraries) is made here */
    int runs = 0;
    time_t start = time(NULL);
    for (current = only ? (int)only : 1;; current += all ? 1 : stride(start)) {
        run(body, context, kinds);
        if (only || !atomic_load(&struck))
            break;
        runs++;
    }
    print_message("%s: %d faults, %d runs\n", name, current - 1, runs);
    if (__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check())
        fail_msg("%s lost memory; FAULTS_LEAKS=1 finds out when", name);
}

/* ---- time ---- */

int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret) {
    int r = __real_clock_gettime(clock, ret);
    if (clock == CLOCK_MONOTONIC) {
        int64_t ns = ret->tv_nsec + atomic_load(&skipped_ns);
        ret->tv_sec += ns / 1000000000;
        ret->tv_nsec = ns % 1000000000;
    }
    return r;
}

int __real_epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms) {
    int patience_ms = atomic_load(&patience);
    if (patience_ms == 0 || (timeout_ms >= 0 && timeout_ms <= patience_ms))
        return __real_epoll_wait(fd, events, max, timeout_ms);
    int count = __real_epoll_wait(fd, events, max, patience_ms);
    if (count == 0 && timeout_ms > 0)
        atomic_fetch_add(&skipped_ns, (int64_t)timeout_ms * 1000000);
    return count;
}

void faults_skip_time(int patience_ms) {
    atomic_store(&patience, patience_ms);
}

/* ---- points of failure: memory ---- */

#define MEMORY(type, name, parameters, arguments)                                                                                                    \
    type __real_##name parameters;                                                                                                                   \
    type __wrap_##name parameters;                                                                                                                   \
    type __wrap_##name parameters {                                                                                                                  \
        if (strike(FAULTS_MEMORY)) {                                                                                                                 \
            errno = ENOMEM;                                                                                                                          \
            return NULL;                                                                                                                             \
        }                                                                                                                                            \
        return __real_##name arguments;                                                                                                              \
    }

MEMORY(void *, malloc, (size_t size), (size))
MEMORY(void *, calloc, (size_t count, size_t size), (count, size))
MEMORY(void *, realloc, (void *memory, size_t size), (memory, size))
MEMORY(char *, strdup, (const char *text), (text))
MEMORY(char *, strndup, (const char *text, size_t len), (text, len))
MEMORY(void *, arena_alloc, (struct arena * arena, size_t size), (arena, size))
MEMORY(void *, arena_array, (struct arena * arena, size_t count, size_t size), (arena, count, size))
MEMORY(char *, arena_dup, (struct arena * arena, struct slice bytes), (arena, bytes))
MEMORY(char *, arena_strdup, (struct arena * arena, const char *text), (arena, text))

char *__wrap_arena_printf(struct arena *arena, const char *format, ...);
char *__wrap_arena_printf(struct arena *arena, const char *format, ...) {
    if (strike(FAULTS_MEMORY))
        return NULL;
    va_list args;
    va_start(args, format);
    char *text = arena_vprintf(arena, format, args);
    va_end(args);
    return text;
}

/* ---- points of failure: system calls, each with an error it really gives ---- */

#define CALL(type, name, error, parameters, arguments)                                                                                               \
    type __real_##name parameters;                                                                                                                   \
    type __wrap_##name parameters;                                                                                                                   \
    type __wrap_##name parameters {                                                                                                                  \
        if (strike(FAULTS_CALLS)) {                                                                                                                  \
            errno = (error);                                                                                                                         \
            return -1;                                                                                                                               \
        }                                                                                                                                            \
        return __real_##name arguments;                                                                                                              \
    }

/* open and openat: the mode is passed on whether it is there or not, as the C library itself does. */
CALL(int, open, EMFILE, (const char *path, int flags, mode_t mode), (path, flags, mode))
CALL(int, openat, EMFILE, (int folder, const char *path, int flags, mode_t mode), (folder, path, flags, mode))
CALL(ssize_t, read, EIO, (int fd, void *bytes, size_t size), (fd, bytes, size))
CALL(ssize_t, write, ENOSPC, (int fd, const void *bytes, size_t size), (fd, bytes, size))
CALL(ssize_t, pread, EIO, (int fd, void *bytes, size_t size, off_t at), (fd, bytes, size, at))
CALL(ssize_t, pwrite, ENOSPC, (int fd, const void *bytes, size_t size, off_t at), (fd, bytes, size, at))
CALL(ssize_t, send, ECONNRESET, (int fd, const void *bytes, size_t size, int flags), (fd, bytes, size, flags))
CALL(ssize_t, recv, ECONNRESET, (int fd, void *bytes, size_t size, int flags), (fd, bytes, size, flags))
CALL(ssize_t, sendfile, EIO, (int to, int from, off_t *at, size_t size), (to, from, at, size))
CALL(int, fsync, EIO, (int fd), (fd))
CALL(int, ftruncate, EFBIG, (int fd, off_t size), (fd, size))
CALL(off_t, lseek, EOVERFLOW, (int fd, off_t at, int whence), (fd, at, whence))
CALL(int, fstat, EIO, (int fd, struct stat *info), (fd, info))
CALL(int, fstatat, EIO, (int folder, const char *path, struct stat *info, int flags), (folder, path, info, flags))
CALL(int, mkdir, ENOSPC, (const char *path, mode_t mode), (path, mode))
CALL(int, mkdirat, ENOSPC, (int folder, const char *path, mode_t mode), (folder, path, mode))
CALL(int, symlinkat, ENOSPC, (const char *target, int folder, const char *path), (target, folder, path))
CALL(int, linkat, EMLINK, (int from, const char *path, int to, const char *link, int flags), (from, path, to, link, flags))
CALL(int, rename, ENOSPC, (const char *from, const char *to), (from, to))
CALL(int, renameat, ENOSPC, (int from, const char *path, int to, const char *name), (from, path, to, name))
CALL(int, socket, EMFILE, (int domain, int type, int protocol), (domain, type, protocol))
CALL(int, bind, EADDRINUSE, (int fd, const struct sockaddr *address, socklen_t len), (fd, address, len))
CALL(int, listen, EADDRINUSE, (int fd, int backlog), (fd, backlog))
CALL(int, connect, ECONNREFUSED, (int fd, const struct sockaddr *address, socklen_t len), (fd, address, len))
CALL(int, accept4, EMFILE, (int fd, struct sockaddr *address, socklen_t *len, int flags), (fd, address, len, flags))
CALL(int, epoll_create1, EMFILE, (int flags), (flags))
CALL(int, eventfd, EMFILE, (unsigned start, int flags), (start, flags))
CALL(int, signalfd, EMFILE, (int fd, const sigset_t *mask, int flags), (fd, mask, flags))
CALL(int, pipe2, EMFILE, (int fds[2], int flags), (fds, flags))
CALL(int, memfd_create, EMFILE, (const char *name, unsigned flags), (name, flags))
CALL(pid_t, fork, EAGAIN, (void), ())

/* Taking something out never fails. */
int __real_epoll_ctl(int fd, int op, int target, struct epoll_event *event);
int __wrap_epoll_ctl(int fd, int op, int target, struct epoll_event *event);
int __wrap_epoll_ctl(int fd, int op, int target, struct epoll_event *event) {
    if (op == EPOLL_CTL_DEL || !strike(FAULTS_CALLS))
        return __real_epoll_ctl(fd, op, target, event);
    errno = ENOMEM;
    return -1;
}

DIR *__real_opendir(const char *path);
DIR *__wrap_opendir(const char *path);
DIR *__wrap_opendir(const char *path) {
    if (!strike(FAULTS_CALLS))
        return __real_opendir(path);
    errno = EMFILE;
    return NULL;
}

DIR *__real_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd) {
    if (!strike(FAULTS_CALLS))
        return __real_fdopendir(fd);
    errno = ENOMEM;
    return NULL;
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    return strike(FAULTS_CALLS) ? EAGAIN : __real_pthread_create(thread, attributes, start, argument);
}

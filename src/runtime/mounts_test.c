/* Needs root. In a mount namespace of its own. */
#include "loop/loop.h"
#include "runtime/mounts.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "sys/sys.h"
#include "unit.h"

#define FIRST_ID 7000000

static char dir[] = "/tmp/tidemill-mounts-XXXXXX";

static const char *at(const char *name) {
    static char paths[8][PATH_MAX];
    static size_t next;
    char *path = paths[next++ % ARRAY_LEN(paths)];
    snprintf(path, PATH_MAX, "%s/%s", dir, name);
    return path;
}

static void map_ids(pid_t pid, const char *name) {
    char path[64], text[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int n = snprintf(text, sizeof text, "0 %d 65536\n", FIRST_ID);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, (size_t)n), n);
    close(fd);
}

static int make_users(void) {
    char path[64];
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (unshare(CLONE_NEWUSER) < 0 || write(ready[1], "", 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    map_ids(pid, "uid_map");
    map_ids(pid, "gid_map");
    snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(ready[0]);
    close(ready[1]);
    return fd;
}

static void make_layer(const char *name, const char *file) {
    char path[PATH_MAX];
    assert_int_equal(sys_mkdirs(at(name), 0755), 0);
    snprintf(path, sizeof path, "%s/%s", at(name), file);
    assert_int_equal(sys_write_file(AT_FDCWD, path, slice_of(name), 0644), 0);
    snprintf(path, sizeof path, "%s/both", at(name));
    assert_int_equal(sys_write_file(AT_FDCWD, path, slice_of(name), 0644), 0);
}

static void count(void *userdata, const char *target) {
    (void)target;
    ++*(size_t *)userdata;
}

static void assert_mapped(const char *name, const char *content) {
    struct stat st;
    struct buffer text = BUFFER_INIT(100);
    assert_int_equal(stat(at(name), &st), 0);
    assert_int_equal(st.st_uid, FIRST_ID);
    assert_int_equal(sys_read_file(AT_FDCWD, at(name), 99, &text), 0);
    assert_true(slice_is(buffer_slice(&text), content));
    buffer_deinit(&text);
}

static int set_up(void **state) {
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(unshare(CLONE_NEWNS), 0);
    assert_int_equal(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL), 0);
    assert_int_equal(mounts_share(dir), 0); /* as the node's folder is */
    make_layer("high", "a");
    make_layer("low", "b");
    static const char *const folders[] = {"upper", "work", "root", "shown"};
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        assert_int_equal(sys_mkdirs(at(folders[i]), 0755), 0);
    assert_int_equal(chown(at("upper"), FIRST_ID, FIRST_ID), 0);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    mounts_unshare(dir);
    return sys_remove_tree(AT_FDCWD, dir);
}

UNIT_TEST(layers_are_seen_with_other_owners) {
    const char *lower[] = {strdup(at("high")), strdup(at("low"))};
    int users = make_users();
    size_t mounts = 0;
    assert_int_equal(mounts_overlay(lower, 2, at("upper"), at("work"), at("root"), users), 0);
    assert_int_equal(mounts_layers(lower, 2, at("shown"), users), 0);
    assert_mapped("root/a", "high");
    assert_mapped("root/b", "low");
    assert_mapped("root/both", "high");
    assert_mapped("shown/b", "low");
    assert_mapped("shown/both", "high");
    assert_int_equal(mounts_beneath(dir, count, &mounts), 0);
    assert_int_equal(mounts, 2); /* nothing stands beside them any more */
    assert_int_equal(access(at("root.layers"), F_OK), -1);
    assert_int_equal(mounts_remove(at("root")), 0);
    assert_int_equal(mounts_remove(at("shown")), 0);
    close(users);
    free((char *)lower[0]);
    free((char *)lower[1]);
}

UNIT_TEST(what_a_killed_mounting_left_is_detached) {
    size_t mounts = 0;
    assert_int_equal(sys_mkdirs(at("root.layers"), 0700), 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(mounts_bind(at("low"), at("root.layers")), 0);
    mounts_detach_layers(at("root"));
    assert_int_equal(mounts_beneath(dir, count, &mounts), 0);
    assert_int_equal(mounts, 0);
    assert_int_equal(access(at("root.layers"), F_OK), -1);
    assert_int_equal(access(at("low/b"), F_OK), 0);
    mounts_detach_layers(at("root")); /* nothing is fine */
}

UNIT_TEST(what_the_kernel_has) {
    assert_true(mounts_kernel_has("overlay"));
    assert_false(mounts_kernel_has("tidemillfs"));
}

static size_t count_descriptors(void) {
    DIR *open_ones = opendir("/proc/self/fd");
    size_t found = 0;
    assert_non_null(open_ones);
    while (readdir(open_ones))
        found++;
    closedir(open_ones);
    return found;
}

UNIT_TEST(what_is_large_is_let_go_of_by_a_thread) {
    size_t before = count_descriptors(), mounts = 0;
    struct loop *loop = NULL;
    assert_int_equal(loop_new(&loop), 0);
    assert_int_equal(mounts_tmpfs(at("root"), 0, 0755), 0);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, at("root/file"), SLICE("x"), 0644), 0);
    assert_int_equal(mounts_remove_later(loop, at("root")), 0);
    assert_int_equal(mounts_beneath(dir, count, &mounts), 0);
    assert_int_equal(mounts, 0);
    assert_int_equal(access(at("root/file"), F_OK), -1);
    assert_int_equal(mounts_remove_later(loop, at("root")), 0); /* no mount point, and nothing at all, are fine */
    assert_int_equal(mounts_remove_later(loop, at("absent")), 0);
    loop_free(loop);
    assert_int_equal(count_descriptors(), before);
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(what_the_kernel_has), UNIT(layers_are_seen_with_other_owners),
                                       UNIT(what_a_killed_mounting_left_is_detached), UNIT(what_is_large_is_let_go_of_by_a_thread)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "sys/sys.h"

#include "unit.h"

/* A folder of the test's own; the caller frees the name and removes the tree. */
static char *make_temporary(void) {
    char *path = strdup("/tmp/tidemill-sys-XXXXXX");
    assert_non_null(mkdtemp(path));
    return path;
}

static int count_entries(const char *path) {
    DIR *dir = opendir(path);
    int count = 0;
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void assert_content(const char *path, const char *wanted) {
    CLEANUP(buffer_deinit) struct buffer content = BUFFER_INIT(1000);
    assert_int_equal(sys_read_file(AT_FDCWD, path, 1000, &content), 0);
    assert_int_equal(buffer_append_text(&content, ""), 0);
    assert_string_equal(content.data ? content.data : "", wanted);
}

UNIT_TEST(written_files_are_whole_or_untouched) {
    CLEANUP(freep) char *folder = make_temporary();
    char path[100];
    snprintf(path, sizeof path, "%s/file", folder);
    assert_int_equal(sys_write_file(AT_FDCWD, path, SLICE("old"), 0640), 0);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    int failures = 0;
    for (int after = 1;; after++) {
        sys_fault_set(after, ENOSPC);
        int r = sys_write_file(AT_FDCWD, path, SLICE("new"), 0640);
        sys_fault_set(0, 0);
        if (r == 0)
            break;
        failures++;
        assert_int_equal(r, -ENOSPC);
        assert_int_equal(count_entries(folder), 1);
    }
    assert_true(failures >= 4);
    assert_content(path, "new");
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, SLICE("fast"), 0600), 0);
    assert_content(path, "fast");
    assert_int_equal(sys_write_existing(AT_FDCWD, path, SLICE("over")), 0);
    snprintf(path, sizeof path, "%s/absent", folder);
    assert_int_equal(sys_write_existing(AT_FDCWD, path, SLICE("x")), -ENOENT);
    assert_int_equal(sys_remove_tree(AT_FDCWD, folder), 0);
}

UNIT_TEST(reading_has_a_maximum) {
    CLEANUP(freep) char *folder = make_temporary();
    char path[100];
    snprintf(path, sizeof path, "%s/file", folder);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, SLICE("12345"), 0600), 0);
    CLEANUP(buffer_deinit) struct buffer content = BUFFER_INIT(5);
    assert_int_equal(sys_read_file(AT_FDCWD, path, 4, &content), -EFBIG);
    assert_int_equal(content.len, 0);
    assert_int_equal(sys_read_file(AT_FDCWD, path, 5, &content), 0);
    assert_string_equal(content.data, "12345");
    CLEANUP(buffer_deinit) struct buffer stat_line = BUFFER_INIT(10000);
    assert_int_equal(sys_read_file(AT_FDCWD, "/proc/self/stat", 10000, &stat_line), 0);
    assert_true(stat_line.len > 10);
    assert_int_equal(sys_read_file(AT_FDCWD, "/proc/self/stat", 3, &stat_line), -EFBIG);
    /* The kernel's own files say that they have a page. */
    CLEANUP(buffer_deinit) struct buffer mtu = BUFFER_INIT(64);
    assert_int_equal(sys_read_file(AT_FDCWD, "/sys/class/net/lo/mtu", 16, &mtu), 0);
    assert_int_equal(sys_remove_tree(AT_FDCWD, folder), 0);
}

UNIT_TEST(trees_are_removed_without_following_links) {
    CLEANUP(freep) char *folder = make_temporary();
    char path[2000];
    snprintf(path, sizeof path, "%s/keep", folder);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, SLICE("kept"), 0600), 0);
    size_t len = (size_t)snprintf(path, sizeof path, "%s/tree", folder);
    for (int depth = 0; depth < 200; depth++)
        len += (size_t)snprintf(path + len, sizeof path - len, "/d");
    assert_int_equal(sys_mkdirs(path, 0755), 0);
    assert_int_equal(sys_mkdirs(path, 0755), 0);
    snprintf(path + len, sizeof path - len, "/link");
    assert_int_equal(symlink(folder, path), 0);
    snprintf(path, sizeof path, "%s/tree", folder);
    assert_int_equal(sys_remove_tree(AT_FDCWD, path), 0);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(sys_remove_tree(AT_FDCWD, path), 0);
    snprintf(path, sizeof path, "%s/keep", folder);
    assert_content(path, "kept");
    assert_int_equal(sys_mkdirs(path, 0755), -EEXIST);
    assert_int_equal(sys_remove_tree(AT_FDCWD, folder), 0);
    assert_int_equal(access(folder, F_OK), -1);
}

UNIT_TEST(opening_beneath_never_leaves) {
    CLEANUP(freep) char *folder = make_temporary();
    char path[100];
    snprintf(path, sizeof path, "%s/in/side", folder);
    assert_int_equal(sys_mkdirs(path, 0755), 0);
    snprintf(path, sizeof path, "%s/in/link", folder);
    assert_int_equal(symlink("/etc", path), 0);
    snprintf(path, sizeof path, "%s/in", folder);
    CLEANUP(fd_closep) int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(sys_open_beneath(dir_fd, "../in", O_RDONLY, 0), -EXDEV);
    assert_int_equal(sys_open_beneath(dir_fd, "link/passwd", O_RDONLY, 0), -EXDEV);
    assert_int_equal(sys_open_beneath(dir_fd, "/etc/passwd", O_RDONLY, 0), -EXDEV);
    assert_int_equal(sys_open_in_root(dir_fd, "link/passwd", O_RDONLY, 0), -ENOENT);
    CLEANUP(fd_closep) int inside = sys_open_in_root(dir_fd, "/../../side", O_RDONLY | O_DIRECTORY, 0);
    assert_true(inside >= 0);
    CLEANUP(fd_closep) int made = sys_open_beneath(dir_fd, "side/new", O_WRONLY | O_CREAT | O_EXCL, 0640);
    assert_true(made >= 0);
    assert_int_equal(sys_remove_tree(AT_FDCWD, folder), 0);
}

UNIT_TEST(a_tree_takes_what_its_files_take_together) {
    CLEANUP(freep) char *folder = make_temporary();
    static const char bytes[64 * 1024] = {1};
    char path[100], link_path[100];
    uint64_t empty = sys_tree_bytes(folder);
    snprintf(path, sizeof path, "%s/a", folder);
    assert_int_equal(sys_mkdirs(path, 0755), 0);
    snprintf(path, sizeof path, "%s/a/file", folder);
    snprintf(link_path, sizeof link_path, "%s/link", folder);
    assert_int_equal(sys_write_file(AT_FDCWD, path, slice_make(bytes, sizeof bytes), 0644), 0);
    assert_int_equal(link(path, link_path), 0); /* counts once */
    uint64_t full = sys_tree_bytes(folder);
    assert_true(full >= empty + sizeof bytes && full < empty + 2 * sizeof bytes);
    assert_int_equal(sys_tree_bytes("/nonexistent"), 0);
    assert_int_equal(sys_remove_tree(AT_FDCWD, folder), 0);
}

UNIT_TEST(a_lock_is_exclusive_and_dies_with_its_holder) {
    CLEANUP(freep) char *folder = make_temporary();
    char path[100];
    snprintf(path, sizeof path, "%s/lock", folder);
    pid_t pid = fork();
    if (pid == 0)
        _exit(sys_lock_file(path) >= 0 ? 0 : 1);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    CLEANUP(fd_closep) int fd = sys_lock_file(path);
    assert_true(fd >= 0);
    assert_int_equal(sys_lock_file(path), -EBUSY);
    assert_int_equal(sys_remove_tree(AT_FDCWD, folder), 0);
}

UNIT_TEST(random_names_use_their_alphabet) {
    char name[201], uuid[37], other[37];
    sys_random_name(name, 200);
    assert_int_equal(strlen(name), 200);
    assert_int_equal(strspn(name, "bcdfghjklmnpqrstvwxz2456789"), 200);
    sys_uuid(uuid);
    sys_uuid(other);
    assert_int_equal(strlen(uuid), 36);
    assert_int_equal(uuid[14], '4');
    assert_non_null(strchr("89ab", uuid[19]));
    assert_string_not_equal(uuid, other);
    assert_true(sys_wall_ns() > 1500000000LL * 1000000000);
    assert_true(sys_monotonic_ns() > 0);
}

UNIT_MAIN(UNIT(a_tree_takes_what_its_files_take_together), UNIT(written_files_are_whole_or_untouched), UNIT(reading_has_a_maximum),
          UNIT(trees_are_removed_without_following_links), UNIT(opening_beneath_never_leaves), UNIT(a_lock_is_exclusive_and_dies_with_its_holder),
          UNIT(random_names_use_their_alphabet))

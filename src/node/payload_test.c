/* Volumes' files: what readers see before, after, and when nothing changed. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "node/node_priv.h"
#include "sys/sys.h"
#include "unit.h"

static char dir[64];

static void make_dir(void) {
    snprintf(dir, sizeof dir, "/tmp/payload-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

/* "path=text path=text" as files of mode 0644. */
static void write_files(const char *text, bool expect_change) {
    struct payload payload = {.user = (uid_t)-1, .group = (gid_t)-1};
    struct arena *arena = arena_new(64 * KIB);
    bool changed = !expect_change;
    for (struct slice rest = slice_of(text); rest.len;) {
        struct slice word = slice_cut(&rest, ' '), path = slice_cut(&word, '=');
        assert_int_equal(payload_put(&payload, arena_dup(arena, path), word, 0644), 0);
    }
    assert_int_equal(payload_write(dir, &payload, &changed), 0);
    assert_int_equal(changed, expect_change);
    VECTOR_DEINIT(&payload);
    arena_free(arena);
}

static void check_file(const char *name, const char *expected) {
    char path[160];
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(KIB);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(sys_read_file(AT_FDCWD, path, KIB - 1, &text), expected ? 0 : -ENOENT);
    if (expected)
        assert_true(slice_is(buffer_slice(&text), expected));
}

static size_t count_entries(void) {
    DIR *listing = opendir(dir);
    size_t count = 0;
    while (readdir(listing))
        count++;
    closedir(listing);
    return count - 2;
}

UNIT_TEST(files_change_all_at_once) {
    char data[160], link[160] = "";
    make_dir();
    write_files("a=1 deep/in/b=2 deep/c=3", true);
    check_file("a", "1");
    check_file("deep/in/b", "2");
    check_file("..data/deep/c", "3");
    assert_int_equal(count_entries(), 4); /* ..data, the folder behind it, a, deep */
    snprintf(data, sizeof data, "%s/..data", dir);
    assert_true(readlink(data, link, sizeof link - 1) > 0);
    CLEANUP(fd_closep) int held = open(data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    write_files("a=1 deep/in/b=2 deep/c=3", false);
    char again[160] = "";
    assert_true(readlink(data, again, sizeof again - 1) > 0);
    assert_string_equal(again, link);

    write_files("a=new d=4", true);
    check_file("a", "new");
    check_file("d", "4");
    check_file("deep/c", NULL);
    assert_int_equal(count_entries(), 4);
    assert_int_equal(openat(held, "deep/c", O_RDONLY), -1); /* the old ones are gone, not left behind */
    write_files("", true);
    assert_int_equal(count_entries(), 2);
    sys_remove_tree(AT_FDCWD, dir);
}

UNIT_TEST(what_a_crash_left_is_completed) {
    char path[160];
    make_dir();
    snprintf(path, sizeof path, "%s/..2026_half", dir);
    assert_int_equal(sys_mkdirs(path, 0755), 0);
    snprintf(path, sizeof path, "%s/..data_tmp", dir);
    assert_int_equal(symlink("..2026_half", path), 0);
    snprintf(path, sizeof path, "%s/a", dir); /* a plain file where a link belongs */
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, SLICE("old"), 0600), 0);
    write_files("a=1", true);
    check_file("a", "1");
    assert_int_equal(count_entries(), 3);
    assert_int_equal(unlink(path), 0);
    write_files("a=1", false);
    check_file("a", "1");
    sys_remove_tree(AT_FDCWD, dir);
}

UNIT_TEST(modes_are_kept_and_compared) {
    struct payload payload = {.user = (uid_t)-1, .group = (gid_t)-1};
    struct stat st;
    char path[160];
    bool changed = false;
    make_dir();
    assert_int_equal(payload_put(&payload, "a", SLICE("x"), 0400), 0);
    assert_int_equal(payload_write(dir, &payload, &changed), 0);
    snprintf(path, sizeof path, "%s/a", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0400);
    assert_int_equal(payload_put(&payload, "a", SLICE("x"), 0440), 0); /* the same path again */
    assert_int_equal(payload.count, 1);
    assert_int_equal(payload_write(dir, &payload, &changed), 0);
    assert_true(changed);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0440);
    VECTOR_DEINIT(&payload);
    sys_remove_tree(AT_FDCWD, dir);
}

UNIT_TEST(paths_stay_inside) {
    static const char *const bad[] = {"", "/a", "a//b", "a/", "..", "../a", "a/../b", "..data", "..data/a", "./a", "a/."};
    static const char *const good[] = {"a", "a/b", ".hidden", "a.b/c-d", "tls.crt"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (payload_path_is_safe(bad[i]))
            fail_msg("%s", bad[i]);
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (!payload_path_is_safe(good[i]))
            fail_msg("%s", good[i]);
}

UNIT_MAIN(UNIT(files_change_all_at_once), UNIT(what_a_crash_left_is_completed), UNIT(modes_are_kept_and_compared), UNIT(paths_stay_inside))

/* Folders that go: at once for who asks, later on the disk, also when there was a restart in between. And trees that are given to a group. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "node/node_priv.h"
#include "sys/sys.h"
#include "unit.h"

static char dir[64];

static struct node *make_node(void) {
    struct node *node = calloc(1, sizeof *node);
    assert_non_null(node);
    snprintf(node->state_dir, sizeof node->state_dir, "%s", dir);
    assert_int_equal(loop_new(&node->loop), 0);
    return node;
}

static void free_node(struct node *node) {
    atomic_store(&node->is_ending, true);
    trash_stop(node);
    loop_free(node->loop);
    free(node);
}

static const char *beneath(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void make_tree(const char *name, int files) {
    char path[256];
    for (int i = 0; i < files; i++) {
        snprintf(path, sizeof path, "%s/%s/folder-%d", dir, name, i % 7);
        assert_int_equal(sys_mkdirs(path, 0755), 0);
        snprintf(path, sizeof path, "%s/%s/folder-%d/file-%d", dir, name, i % 7, i);
        assert_int_equal(sys_write_file_fast(AT_FDCWD, path, SLICE("x"), 0644), 0);
    }
}

static unsigned folders_in_trash(void) {
    DIR *trash = opendir(beneath("trash"));
    unsigned count = 0;
    assert_non_null(trash);
    while (readdir(trash))
        count++;
    closedir(trash);
    return count - 2;
}

static void wait_until_empty(struct node *node, unsigned wanted) {
    while (folders_in_trash() != wanted)
        assert_int_equal(loop_turn(node->loop, 10), 0);
}

static void begin(void) {
    snprintf(dir, sizeof dir, "/var/tmp/trash-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

UNIT_TEST(what_is_put_is_gone_and_removed_later) {
    begin();
    struct node *node = make_node();
    assert_int_equal(trash_start(node), 0);
    assert_int_equal(trash_put(node, beneath("absent")), 0);
    make_tree("one", 50);
    make_tree("two", 1);
    assert_int_equal(trash_put(node, beneath("one")), 0);
    assert_int_equal(access(beneath("one"), F_OK), -1);
    assert_true(trash_is_busy(node));
    assert_int_equal(trash_put(node, beneath("two")), 0); /* while the first is under way */
    wait_until_empty(node, 0);
    while (trash_is_busy(node))
        assert_int_equal(loop_turn(node->loop, 10), 0);
    make_tree("three", 3);
    assert_int_equal(trash_put(node, beneath("three")), 0);
    wait_until_empty(node, 0);
    free_node(node);
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

UNIT_TEST(what_a_node_leaves_the_next_one_removes) {
    begin();
    make_tree("trash/left", 20);
    struct node *node = make_node();
    assert_int_equal(trash_start(node), 0);
    wait_until_empty(node, 0);
    free_node(node);

    make_tree("trash/left", 20);
    node = make_node();
    atomic_store(&node->is_ending, true); /* it ends before it has removed anything */
    assert_int_equal(trash_start(node), 0);
    free_node(node);
    assert_int_equal(folders_in_trash(), 1);
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

UNIT_TEST(what_cannot_be_removed_holds_up_nobody) {
    begin();
    struct node *node = make_node();
    make_tree("mounted", 1);
    if (mount("none", beneath("mounted/folder-0"), "tmpfs", 0, NULL) < 0)
        skip();
    assert_int_equal(trash_start(node), 0);
    assert_int_equal(trash_put(node, beneath("mounted")), 0);
    wait_until_empty(node, 1);
    make_tree("other", 5);
    assert_int_equal(trash_put(node, beneath("other")), 0);
    wait_until_empty(node, 1);
    free_node(node);
    char path[512];
    DIR *trash = opendir(beneath("trash"));
    assert_non_null(trash);
    for (const struct dirent *entry; (entry = readdir(trash));) {
        snprintf(path, sizeof path, "trash/%s/folder-0", entry->d_name);
        umount(beneath(path));
    }
    closedir(trash);
    node = make_node();
    assert_int_equal(trash_start(node), 0); /* tried again */
    wait_until_empty(node, 0);
    free_node(node);
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

UNIT_TEST(a_tree_is_given_to_a_group_or_is_too_large_for_now) {
    begin();
    make_tree("volume", 30); /* 37 entries */
    struct ownership how = {.group = getgid(), .entries_max = 36};
    struct stat st;
    atomic_bool stop = true;
    assert_int_equal(ownership_give(beneath("volume"), &how), -EAGAIN);
    assert_int_equal(stat(beneath("volume"), &st), 0);
    assert_int_equal(st.st_mode & 02070, 00050); /* it does not say that all is done */
    how.entries_max = 37;
    how.stop = &stop;
    assert_int_equal(ownership_give(beneath("volume"), &how), -ECANCELED);
    stop = false;
    assert_int_equal(ownership_give(beneath("volume"), &how), 0);
    assert_int_equal(stat(beneath("volume"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 02775);
    assert_int_equal(stat(beneath("volume/folder-1/file-29"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0664);
    how.only_on_mismatch = true;
    how.entries_max = 0;
    assert_int_equal(ownership_give(beneath("volume"), &how), 0);
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

UNIT_MAIN(UNIT(what_is_put_is_gone_and_removed_later), UNIT(what_a_node_leaves_the_next_one_removes), UNIT(what_cannot_be_removed_holds_up_nobody),
          UNIT(a_tree_is_given_to_a_group_or_is_too_large_for_now))

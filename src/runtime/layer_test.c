/* Layers: what must be applied, and what must not get out. Tars are made with libarchive's writer. Runs with and without root (owners and trusted
 * attributes need root). */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "http/http.h"
#include "runtime/image.h"
#include "runtime/layer.h"
#include "sys/sys.h"
#include "unit.h"

struct tar {
    struct archive *archive;
    char bytes[256 * 1024];
    size_t len;
};
struct reader {
    const struct tar *tar;
    size_t at;
};
struct area {
    char dir[64];
    int root, lower, outside;
};

static void tar_begin(struct tar *tar) {
    tar->archive = archive_write_new();
    archive_write_set_format_pax_restricted(tar->archive);
    archive_write_set_bytes_per_block(tar->archive, 512);
    assert_int_equal(archive_write_open_memory(tar->archive, tar->bytes, sizeof tar->bytes, &tar->len), ARCHIVE_OK);
}

static struct archive_entry *entry_new(const char *path, mode_t type, mode_t mode) {
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, path);
    archive_entry_set_filetype(entry, type);
    archive_entry_set_perm(entry, mode);
    archive_entry_set_size(entry, 0);
    archive_entry_set_uid(entry, (la_int64_t)geteuid());
    archive_entry_set_gid(entry, (la_int64_t)getegid());
    archive_entry_set_mtime(entry, 1000000000, 0);
    return entry;
}

static void put(struct tar *tar, struct archive_entry *entry, const char *content) {
    assert_int_equal(archive_write_header(tar->archive, entry), ARCHIVE_OK);
    if (content)
        assert_int_equal(archive_write_data(tar->archive, content, strlen(content)), strlen(content));
    archive_entry_free(entry);
}
static void add_file(struct tar *tar, const char *path, const char *content) {
    struct archive_entry *entry = entry_new(path, S_IFREG, 0644);
    archive_entry_set_size(entry, (la_int64_t)strlen(content));
    put(tar, entry, content);
}
static void add_folder(struct tar *tar, const char *path, mode_t mode) {
    put(tar, entry_new(path, S_IFDIR, mode), NULL);
}
static void add_symlink(struct tar *tar, const char *path, const char *target) {
    struct archive_entry *entry = entry_new(path, S_IFLNK, 0777);
    archive_entry_set_symlink(entry, target);
    put(tar, entry, NULL);
}
static void add_hard_link(struct tar *tar, const char *path, const char *target) {
    struct archive_entry *entry = entry_new(path, S_IFREG, 0644);
    archive_entry_set_hardlink(entry, target);
    put(tar, entry, NULL);
}
static void tar_end(struct tar *tar) {
    assert_int_equal(archive_write_close(tar->archive), ARCHIVE_OK);
    archive_write_free(tar->archive);
}

static ssize_t on_read(void *userdata, const void **ret_bytes) {
    struct reader *reader = userdata;
    size_t n = MIN((size_t)512, reader->tar->len - reader->at);
    *ret_bytes = reader->tar->bytes + reader->at;
    reader->at += n;
    return (ssize_t)n;
}

static int open_folder(const struct area *area, const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", area->dir, name);
    assert_int_equal(mkdir(path, 0755), 0);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void area_init(struct area *area) {
    snprintf(area->dir, sizeof area->dir, "/tmp/layer-XXXXXX");
    assert_non_null(mkdtemp(area->dir));
    area->root = open_folder(area, "root");
    area->lower = open_folder(area, "lower");
    area->outside = open_folder(area, "outside");
    assert_int_equal(sys_write_file_fast(area->outside, "secret", SLICE("secret"), 0600), 0);
}
static void area_deinit(struct area *area) {
    struct buffer text = BUFFER_INIT(100);
    assert_int_equal(sys_read_file(area->outside, "secret", 99, &text), 0); /* nobody touched it */
    assert_string_equal(text.data, "secret");
    buffer_deinit(&text);
    close(area->root);
    close(area->lower);
    close(area->outside);
    assert_int_equal(sys_remove_tree(AT_FDCWD, area->dir), 0);
}

static int apply(const struct area *area, const struct tar *tar, struct diag *diag) {
    struct reader reader = {.tar = tar};
    const struct layer_options options = {
        .root_fd = area->root, .lower_fds = &area->lower, .lower_count = 1, .keep_owner = geteuid() == 0, .bytes_max = MIB, .entries_max = 100};
    *diag = DIAG_INIT;
    return layer_apply(on_read, &reader, &options, diag);
}

static void assert_content(int folder, const char *path, const char *expected) {
    struct buffer text = BUFFER_INIT(4096);
    assert_int_equal(sys_read_file(folder, path, 4095, &text), 0);
    assert_string_equal(text.data ? text.data : "", expected);
    buffer_deinit(&text);
}
static mode_t mode_of(int folder, const char *path) {
    struct stat st;
    assert_int_equal(fstatat(folder, path, &st, AT_SYMLINK_NOFOLLOW), 0);
    return st.st_mode;
}
static bool exists(int folder, const char *path) {
    struct stat st;
    return fstatat(folder, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}
static bool is_whiteout(int folder, const char *path) {
    struct stat st;
    return fstatat(folder, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0;
}
static bool is_opaque(const struct area *area, const char *path) {
    char full[256], value[4];
    snprintf(full, sizeof full, "%s/root/%s", area->dir, path);
    return lgetxattr(full, "trusted.overlay.opaque", value, sizeof value) == 1 && value[0] == 'y';
}

/* A test's usual frame: T is built between BEGIN and APPLY. */
#define BEGIN                                                                                                                                        \
    struct area area;                                                                                                                                \
    struct diag diag;                                                                                                                                \
    static struct tar tar;                                                                                                                           \
    area_init(&area);                                                                                                                                \
    tar_begin(&tar);
#define APPLY(result)                                                                                                                                \
    tar_end(&tar);                                                                                                                                   \
    assert_int_equal(apply(&area, &tar, &diag), result);

UNIT_TEST(applies_files_folders_and_links) {
    BEGIN
    add_folder(&tar, "./etc/", 0700);
    add_file(&tar, "./etc/hosts", "content");
    add_symlink(&tar, "etc/link", "hosts");
    add_hard_link(&tar, "etc/hard", "etc/hosts");
    add_file(&tar, "deep/er/file", "x");
    add_file(&tar, "etc/hosts2", "");
    APPLY(0)
    struct stat one, two;
    assert_content(area.root, "etc/hosts", "content");
    assert_content(area.root, "etc/link", "content");
    assert_int_equal(fstatat(area.root, "etc/hosts", &one, 0), 0);
    assert_int_equal(fstatat(area.root, "etc/hard", &two, 0), 0);
    assert_true(one.st_ino == two.st_ino);
    assert_int_equal(one.st_mtim.tv_sec, 1000000000);
    assert_int_equal(mode_of(area.root, "etc") & 07777, 0700);
    assert_int_equal(mode_of(area.root, "deep/er") & 07777, 0755);
    assert_int_equal(fstatat(area.root, "etc", &one, 0), 0);
    assert_int_equal(one.st_mtim.tv_sec, 1000000000);
    area_deinit(&area);
}

UNIT_TEST(follows_the_layers_own_folder_links) { /* usrmerge */
    BEGIN
    add_folder(&tar, "usr/lib", 0755);
    add_symlink(&tar, "lib", "usr/lib");
    add_file(&tar, "lib/x", "in usr");
    APPLY(0)
    assert_true(S_ISLNK(mode_of(area.root, "lib")));
    assert_content(area.root, "usr/lib/x", "in usr");
    area_deinit(&area);
}

UNIT_TEST(takes_missing_parents_from_the_lower_layer) {
    BEGIN
    assert_int_equal(mkdirat(area.lower, "usr", 0755), 0);
    assert_int_equal(mkdirat(area.lower, "usr/lib", 0711), 0);
    assert_int_equal(fchmodat(area.lower, "usr/lib", 0711, 0), 0);
    assert_int_equal(symlinkat("usr/lib", area.lower, "lib"), 0);
    add_file(&tar, "lib/x", "x");
    APPLY(0)
    assert_true(S_ISLNK(mode_of(area.root, "lib")));
    assert_content(area.root, "usr/lib/x", "x");
    assert_int_equal(mode_of(area.root, "usr/lib") & 07777, 0711);
    area_deinit(&area);
}

UNIT_TEST(a_link_cannot_lead_outside) {
    static const char *const targets[] = {"../outside", "/../outside", "../../../../../../../../tmp", "/tmp"};
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        BEGIN
        add_symlink(&tar, "out", targets[i]);
        add_file(&tar, "out/secret", "overwritten");
        add_file(&tar, "out/layer-escape", "created");
        tar_end(&tar);
        apply(&area, &tar, &diag); /* whether refused or made inside: nothing outside */
        assert_false(exists(area.outside, "layer-escape"));
        assert_false(exists(AT_FDCWD, "/tmp/layer-escape"));
        area_deinit(&area);
    }
}

UNIT_TEST(dots_are_refused) {
    static const char *const paths[] = {"../outside/secret", "a/../../outside/secret", "..", "a/.."};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        BEGIN
        add_file(&tar, paths[i], "overwritten");
        APPLY(-EBADMSG)
        assert_non_null(strstr(diag.message, "leaves the image"));
        area_deinit(&area);
    }
}

UNIT_TEST(absolute_paths_stay_inside) {
    BEGIN
    add_file(&tar, "/tmp/layer-absolute", "x");
    APPLY(0)
    assert_content(area.root, "tmp/layer-absolute", "x");
    assert_false(exists(AT_FDCWD, "/tmp/layer-absolute"));
    area_deinit(&area);
}

UNIT_TEST(hard_links_cannot_reach_outside) {
    static const char *const targets[] = {"../outside/secret", "out/secret", "/etc/passwd"};
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        BEGIN
        add_symlink(&tar, "out", "../outside");
        add_hard_link(&tar, "stolen", targets[i]);
        tar_end(&tar);
        assert_true(apply(&area, &tar, &diag) < 0);
        assert_false(exists(area.root, "stolen"));
        area_deinit(&area);
    }
}

UNIT_TEST(a_leaf_that_is_a_link_is_replaced) {
    BEGIN
    add_symlink(&tar, "f", "../outside/secret");
    add_file(&tar, "f", "mine");
    APPLY(0)
    assert_true(S_ISREG(mode_of(area.root, "f")));
    assert_content(area.root, "f", "mine");
    area_deinit(&area);
}

UNIT_TEST(types_replace_each_other) {
    BEGIN
    add_folder(&tar, "d", 0755);
    add_file(&tar, "d/x", "x");
    add_file(&tar, "d", "now a file");
    add_file(&tar, "e", "file");
    add_folder(&tar, "e", 0755);
    add_folder(&tar, "keep", 0755);
    add_file(&tar, "keep/x", "x");
    add_folder(&tar, "keep", 0700);
    APPLY(0)
    assert_content(area.root, "d", "now a file");
    assert_true(S_ISDIR(mode_of(area.root, "e")));
    assert_content(area.root, "keep/x", "x");
    assert_int_equal(mode_of(area.root, "keep") & 07777, 0700);
    area_deinit(&area);
}

UNIT_TEST(whiteouts_become_overlays) {
    BEGIN
    if (geteuid() != 0) {
        tar_end(&tar);
        area_deinit(&area);
        fail_msg("trusted.overlay attributes need root: run as root");
    }
    add_folder(&tar, "d", 0755);
    add_file(&tar, "d/.wh.gone", "");
    add_file(&tar, "d/kept", "kept");
    add_file(&tar, "d/.wh.kept", "");
    add_folder(&tar, "o", 0755);
    add_file(&tar, "o/before", "b");
    add_file(&tar, "o/.wh..wh..opq", "");
    add_file(&tar, "o/after", "a");
    add_file(&tar, ".wh.r", "");
    add_folder(&tar, "r", 0755);
    add_file(&tar, ".wh..wh.plnk", "");
    APPLY(0)
    assert_true(is_whiteout(area.root, "d/gone"));
    assert_content(area.root, "d/kept", "kept"); /* only what is below is hidden */
    assert_true(is_opaque(&area, "o"));
    assert_content(area.root, "o/before", "b");
    assert_content(area.root, "o/after", "a");
    assert_true(is_opaque(&area, "r"));
    assert_false(exists(area.root, ".wh.r"));
    assert_false(exists(area.root, ".wh..wh.plnk"));
    area_deinit(&area);
}

/* The lower folder is gone, and a new one of that name has something: nothing of the old shows, though the tar does not say "folder". */
UNIT_TEST(a_removed_folder_may_come_back_by_what_is_in_it) {
    BEGIN
    add_file(&tar, "d/.wh.sub", "");
    add_file(&tar, "d/sub/deep/new", "new");
    add_file(&tar, "f", "file");
    add_file(&tar, "f/in", "no folder");
    tar_end(&tar);
    assert_true(apply(&area, &tar, &diag) < 0);
    assert_non_null(strstr(diag.message, "f/in"));
    assert_content(area.root, "d/sub/deep/new", "new");
    assert_true(is_opaque(&area, "d/sub"));
    area_deinit(&area);
}

/* chown(2) takes these bits away: they are set after it. */
UNIT_TEST(set_user_bits_survive_the_owner) {
    BEGIN
    struct archive_entry *entry = entry_new("su", S_IFREG, 06755);
    struct stat st;
    archive_entry_set_uid(entry, 1234);
    archive_entry_set_gid(entry, 3000000000);
    put(&tar, entry, NULL);
    tar_end(&tar);
    assert_int_equal(apply(&area, &tar, &diag), 0);
    assert_int_equal(fstatat(area.root, "su", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_mode & 07777, 06755);
    assert_int_equal(st.st_uid, 1234);
    assert_int_equal(st.st_gid, 3000000000);
    area_deinit(&area);
}

UNIT_TEST(a_bare_whiteout_is_refused) {
    static const char *const names[] = {".wh.", ".wh..", "d/.wh..."};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        BEGIN
        add_file(&tar, names[i], "");
        APPLY(-EBADMSG)
        area_deinit(&area);
    }
}

UNIT_TEST(an_image_cannot_speak_overlayfs) {
    BEGIN
    struct archive_entry *device = entry_new("spoof", S_IFCHR, 0600);
    archive_entry_set_rdev(device, makedev(0, 0));
    put(&tar, device, NULL);
    APPLY(-EBADMSG)
    area_deinit(&area);
}

UNIT_TEST(overlay_attributes_are_dropped) {
    BEGIN
    char path[256], value[8];
    struct archive_entry *entry = entry_new("d", S_IFDIR, 0755);
    archive_entry_xattr_add_entry(entry, "trusted.overlay.opaque", "y", 1);
    archive_entry_xattr_add_entry(entry, "user.overlay.opaque", "y", 1);
    archive_entry_xattr_add_entry(entry, "user.kept", "v", 1);
    put(&tar, entry, NULL);
    APPLY(0)
    snprintf(path, sizeof path, "%s/root/d", area.dir);
    assert_int_equal(lgetxattr(path, "trusted.overlay.opaque", value, sizeof value), -1);
    assert_int_equal(lgetxattr(path, "user.overlay.opaque", value, sizeof value), -1);
    assert_int_equal(lgetxattr(path, "user.kept", value, sizeof value), 1);
    area_deinit(&area);
}

UNIT_TEST(limits_hold) {
    BEGIN
    char name[32];
    for (int i = 0; i < 101; i++) {
        snprintf(name, sizeof name, "f%d", i);
        add_file(&tar, name, "");
    }
    APPLY(-EBADMSG)
    assert_non_null(strstr(diag.message, "too many entries"));
    area_deinit(&area);
}

UNIT_TEST(a_truncated_stream_is_damage) {
    BEGIN
    add_file(&tar, "f", "content that is cut off");
    tar_end(&tar);
    tar.len = 520;
    assert_true(apply(&area, &tar, &diag) < 0);
    area_deinit(&area);
}

UNIT_TEST(a_blob_is_checked) {
    BEGIN
    char hex[65], digest[80], path[128];
    add_file(&tar, "f", "content");
    tar_end(&tar);
    digest_sha256_hex(slice_make(tar.bytes, tar.len), hex);
    snprintf(digest, sizeof digest, "sha256:%s", hex);
    snprintf(path, sizeof path, "%s/blob", area.dir);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, slice_make(tar.bytes, tar.len), 0600), 0);
    const struct layer_options options = {.root_fd = area.root, .keep_owner = false};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(layer_apply_blob(fd, digest, digest, &options, &diag), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    digest[10] = digest[10] == 'a' ? 'b' : 'a';
    assert_int_equal(layer_apply_blob(fd, NULL, digest, &options, &diag), -EBADMSG);
    assert_non_null(strstr(diag.message, "damaged"));
    close(fd);
    area_deinit(&area);
}

UNIT_MAIN(UNIT(applies_files_folders_and_links), UNIT(follows_the_layers_own_folder_links), UNIT(takes_missing_parents_from_the_lower_layer),
          UNIT(a_link_cannot_lead_outside), UNIT(dots_are_refused), UNIT(absolute_paths_stay_inside), UNIT(hard_links_cannot_reach_outside),
          UNIT(a_leaf_that_is_a_link_is_replaced), UNIT(types_replace_each_other), UNIT(whiteouts_become_overlays), UNIT(a_bare_whiteout_is_refused),
          UNIT(a_removed_folder_may_come_back_by_what_is_in_it), UNIT(set_user_bits_survive_the_owner), UNIT(an_image_cannot_speak_overlayfs),
          UNIT(overlay_attributes_are_dropped), UNIT(limits_hold), UNIT(a_truncated_stream_is_damage), UNIT(a_blob_is_checked))

#include "job/tar_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"

struct place {
    char path[64];
    int fd;
};

static struct place make_place(void) {
    struct place place;
    snprintf(place.path, sizeof place.path, "/tmp/tidemill-tar-XXXXXX");
    assert_non_null(mkdtemp(place.path));
    place.fd = open(place.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(place.fd >= 0);
    return place;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk) {
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static void drop_place(struct place *place) {
    close(place->fd);
    nftw(place->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void put(int folder, const char *path, const char *text) {
    int fd = openat(folder, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void expect(int folder, const char *path, const char *text) {
    char found[256];
    int fd = openat(folder, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    assert_true(fd >= 0);
    ssize_t n = read(fd, found, sizeof found - 1);
    assert_true(n >= 0);
    found[n] = 0;
    assert_string_equal(found, text);
    close(fd);
}

static int append(void *userdata, struct slice bytes) {
    return buffer_append_slice(userdata, bytes);
}

static int unpack(int folder, struct slice bytes, size_t step) {
    struct tar_unpacker *unpacker = tar_unpacker_new(folder);
    int r = 0;
    while (r == 0 && bytes.len) {
        struct slice piece = slice_head(bytes, step);
        r = tar_unpacker_feed(unpacker, piece);
        bytes = slice_from(bytes, piece.len);
    }
    r = r ? r : tar_unpacker_finish(unpacker);
    tar_unpacker_free(unpacker);
    return r;
}

UNIT_TEST(what_is_packed_comes_out_again) {
    struct place from = make_place(), to = make_place();
    CLEANUP(buffer_deinit) struct buffer tar = BUFFER_INIT(16 * MIB);
    char deep[300] = "long", name[320];
    for (size_t i = 4; i < 200; i++)
        deep[i] = 'x';
    deep[200] = 0;
    assert_int_equal(mkdirat(from.fd, deep, 0755), 0);
    snprintf(name, sizeof name, "%s/inner-%s", deep, "file");
    put(from.fd, name, "deep");
    put(from.fd, "empty", "");
    put(from.fd, "script.sh", "#!/bin/sh\n");
    assert_int_equal(fchmodat(from.fd, "script.sh", 0755, 0), 0);
    assert_int_equal(symlinkat("script.sh", from.fd, "link"), 0);
    assert_int_equal(mkfifoat(from.fd, "pipe", 0600), 0);
    struct tar_packer packer = {.sink = append, .userdata = &tar};
    assert_int_equal(tar_pack(&packer, from.fd), 0);
    assert_int_equal(tar_pack_end(&packer), 0);
    assert_int_equal(packer.entries, 5);
    static const size_t steps[] = {1, 511, 512, 1000000};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        assert_int_equal(unpack(to.fd, buffer_slice(&tar), steps[i]), 0); /* again and again over what is there */
        expect(to.fd, name, "deep");
        expect(to.fd, "empty", "");
        expect(to.fd, "script.sh", "#!/bin/sh\n");
        char target[32] = {0};
        assert_int_equal(readlinkat(to.fd, "link", target, sizeof target - 1), 9);
        struct stat status;
        assert_int_equal(fstatat(to.fd, "script.sh", &status, 0), 0);
        assert_int_equal(status.st_mode & 0777, 0755);
        assert_int_equal(fstatat(to.fd, "pipe", &status, 0), -1);
    }
    assert_int_equal(unpack(to.fd, slice_head(buffer_slice(&tar), 700), 700), -ENODATA);
    drop_place(&from);
    drop_place(&to);
}

/* A header written by hand: what a hostile archive may hold. */
static void add_entry(struct buffer *tar, char type, const char *name, const char *link, const char *text) {
    struct tar_header header = {.type = type, .magic = "ustar", .version = {'0', '0'}};
    memcpy(header.name, name, MIN(strlen(name), sizeof header.name));
    memcpy(header.link, link, MIN(strlen(link), sizeof header.link));
    snprintf(header.mode, sizeof header.mode, "%07o", 0644);
    snprintf(header.size, sizeof header.size, "%011zo", strlen(text));
    snprintf(header.checksum, sizeof header.checksum, "%06o", tar_checksum(&header));
    buffer_append(tar, &header, sizeof header);
    buffer_append_text(tar, text);
    while (tar->len % TAR_BLOCK)
        buffer_append_byte(tar, 0);
}

UNIT_TEST(no_entry_leaves_the_folder) {
    static const struct {
        const char *type, *names[3], *links[3];
    } attacks[] = {
        {"0", {"../escaped"}, {""}},
        {"0", {"a/../../escaped"}, {""}},
        {"20", {"a", "a/escaped"}, {"..", ""}},
        {"20", {"a", "a/escaped"}, {"/tmp", ""}},
        {"220", {"a", "b", "b/escaped"}, {"..", "a", ""}},
        {"1", {"stolen"}, {"../secret"}},
        {"21", {"a", "stolen"}, {"..", "a/secret"}},
        {"25", {"a", "a/escaped"}, {"..", ""}},
    };
    struct place outer = make_place();
    put(outer.fd, "secret", "secret");
    for (size_t i = 0; i < ARRAY_LEN(attacks); i++) {
        CLEANUP(buffer_deinit) struct buffer tar = BUFFER_INIT(MIB);
        assert_int_equal(mkdirat(outer.fd, "inside", 0755), 0);
        int inside = openat(outer.fd, "inside", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        for (size_t j = 0; attacks[i].type[j]; j++)
            add_entry(&tar, attacks[i].type[j], attacks[i].names[j], attacks[i].links[j], attacks[i].type[j] == '0' ? "bad" : "");
        assert_true(unpack(inside, buffer_slice(&tar), 100) < 0);
        struct stat status;
        assert_int_equal(fstatat(outer.fd, "escaped", &status, AT_SYMLINK_NOFOLLOW), -1);
        assert_int_equal(fstatat(AT_FDCWD, "/tmp/escaped", &status, AT_SYMLINK_NOFOLLOW), -1);
        assert_int_equal(fstatat(inside, "stolen", &status, AT_SYMLINK_NOFOLLOW), -1);
        close(inside);
        char path[128];
        snprintf(path, sizeof path, "%s/inside", outer.path);
        nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
    expect(outer.fd, "secret", "secret");
    drop_place(&outer);
}

UNIT_TEST(a_link_in_place_of_a_file_is_replaced) {
    struct place place = make_place();
    CLEANUP(buffer_deinit) struct buffer tar = BUFFER_INIT(MIB);
    put(place.fd, "target", "kept");
    add_entry(&tar, '2', "name", "target", "");
    add_entry(&tar, '0', "/name", "", "new"); /* absolute names are taken as relative */
    add_entry(&tar, '3', "device", "", "");
    add_entry(&tar, '1', "second", "name", "");
    add_entry(&tar, '0', "new/folder/file", "", "x");
    assert_int_equal(unpack(place.fd, buffer_slice(&tar), 4096), 0);
    expect(place.fd, "target", "kept");
    expect(place.fd, "name", "new");
    expect(place.fd, "second", "new");
    expect(place.fd, "new/folder/file", "x");
    assert_int_equal(faccessat(place.fd, "device", F_OK, 0), -1);
    drop_place(&place);
}

UNIT_TEST(garbage_is_refused) {
    struct place place = make_place();
    CLEANUP(buffer_deinit) struct buffer tar = BUFFER_INIT(MIB);
    char noise[TAR_BLOCK];
    memset(noise, 'x', sizeof noise);
    assert_int_equal(unpack(place.fd, slice_make(noise, sizeof noise), 512), -EBADMSG);
    add_entry(&tar, 'x', "pax", "", "99 path=a\n");
    assert_int_equal(unpack(place.fd, buffer_slice(&tar), 512), -EBADMSG);
    buffer_reset(&tar);
    add_entry(&tar, 'x', "pax", "", "11 path=ab\n");
    add_entry(&tar, '0', "other", "", "text");
    assert_int_equal(unpack(place.fd, buffer_slice(&tar), 512), 0);
    expect(place.fd, "ab", "text");
    buffer_reset(&tar);
    add_entry(&tar, 'L', "././@LongLink", "", "gnu-name");
    add_entry(&tar, '0', "other", "", "text");
    assert_int_equal(unpack(place.fd, buffer_slice(&tar), 512), 0);
    expect(place.fd, "gnu-name", "text");
    drop_place(&place);
}

UNIT_MAIN(UNIT(what_is_packed_comes_out_again), UNIT(no_entry_leaves_the_folder), UNIT(a_link_in_place_of_a_file_is_replaced),
          UNIT(garbage_is_refused))

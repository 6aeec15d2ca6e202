#include "registry/content.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "http/http.h"
#include "registry/pulled.h"
#include "sys/sys.h"
#include "unit.h"

static char folder[64];
static struct content *content;

static int set_up(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/tidemill-content-XXXXXX");
    return mkdtemp(folder) ? content_open(folder, 1, &content, NULL) : -1;
}

static int tear_down(void **state) {
    (void)state;
    content_close(content);
    content = NULL;
    return sys_remove_tree(AT_FDCWD, folder);
}

static char *path_of(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static size_t count_names(const char *name) {
    size_t count = 0;
    DIR *listing = opendir(path_of(name));
    assert_non_null(listing);
    while (readdir(listing))
        count++;
    closedir(listing);
    return count;
}

static struct oci_digest put_blob(const char *repository, const char *text) {
    struct oci_digest digest = {0};
    assert_int_equal(content_write_blob(content, slice_of(text), &digest), 0);
    assert_int_equal(content_link(content, repository, CONTENT_LINK_BLOB, &digest, (struct slice){0}), 0);
    return digest;
}

/* A manifest of two blobs, tagged unless tag is empty; subject may be NULL. */
static struct oci_digest put_image(const char *repository, const char *tag, const char *layer_text, const struct oci_digest *subject) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    struct oci_digest config = put_blob(repository, "{}"), layer = put_blob(repository, layer_text), digest = {0};
    struct oci_manifest manifest;
    buffer_printf(&text,
                  "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" OCI_TYPE_CONFIG "\",\"digest\":\"sha256:%s\",\"size\":2},"
                  "\"layers\":[{\"mediaType\":\"" OCI_TYPE_LAYER_GZIP "\",\"digest\":\"sha256:%s\",\"size\":%zu}]",
                  config.hex, layer.hex, strlen(layer_text));
    if (subject)
        buffer_printf(&text, ",\"subject\":{\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"digest\":\"sha256:%s\",\"size\":1}", subject->hex);
    buffer_append_text(&text, "}");
    assert_int_equal(oci_manifest_parse(arena, buffer_slice(&text), (struct slice){0}, &manifest, NULL), 0);
    assert_int_equal(content_put_manifest(content, repository, tag, buffer_slice(&text), &manifest, &digest), 0);
    return digest;
}

UNIT_TEST(a_blob_appears_whole_or_not_at_all) {
    struct oci_digest digest, wrong = {.hex = "0000000000000000000000000000000000000000000000000000000000000000"};
    struct content_writer *writer = NULL;
    struct stat status;
    char name[128];
    assert_int_equal(content_writer_new(content, &writer), 0);
    assert_int_equal(content_writer_append(writer, SLICE("hello ")), 0);
    assert_int_equal(content_writer_append(writer, SLICE("world")), 0);
    assert_int_equal(content_writer_size(writer), 11);
    assert_int_equal(content_writer_commit(writer, &wrong, &digest), -EBADMSG);
    content_writer_free(writer);
    assert_int_equal(content_touch_blob(content, &wrong), -ENOENT);
    mode_t mask = umask(077);
    assert_int_equal(content_write_blob(content, SLICE("hello world"), &digest), 0);
    umask(mask);
    assert_string_equal(digest.hex, "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9");
    snprintf(name, sizeof name, "blobs/sha256/%s", digest.hex);
    assert_int_equal(stat(path_of(name), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0644);
    assert_int_equal(content_write_blob(content, SLICE("hello world"), &digest), 0);
    int64_t size = 0;
    int fd = content_open_blob(content, &digest, &size);
    assert_true(fd >= 0 && size == 11);
    close(fd);
    size_t empty = count_names("uploads");
    assert_int_equal(content_writer_new(content, &writer), 0);
    assert_true(count_names("uploads") > empty);
    content_writer_free(writer);
    assert_int_equal(count_names("uploads"), empty);
}

UNIT_TEST(what_was_begun_before_a_crash_is_gone) {
    struct content *other = NULL;
    struct diag diag = DIAG_INIT;
    size_t empty = count_names("uploads");
    int fd = open(path_of("uploads/left"), O_CREAT | O_WRONLY, 0644);
    close(fd);
    assert_int_equal(content_open(folder, 1, &other, &diag), -EBUSY);
    assert_non_null(strstr(diag.message, "another process"));
    content_close(content);
    content = NULL;
    assert_int_equal(content_open(folder, 1, &content, NULL), 0);
    assert_int_equal(count_names("uploads"), empty);
}

UNIT_TEST(the_last_of_the_disk_is_left_to_others) {
    struct content *full = NULL;
    struct oci_digest digest;
    char path[128];
    snprintf(path, sizeof path, "%s/full", folder);
    assert_int_equal(content_open(path, UINT64_MAX, &full, NULL), 0);
    assert_int_equal(content_write_blob(full, SLICE("x"), &digest), -ENOSPC);
    content_close(full);
    assert_int_equal(content_check_space(content, UINT64_MAX / 2), -ENOSPC);
    assert_int_equal(content_check_space(content, 0), 0);
}

UNIT_TEST(tags_repositories_and_referrers) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    char **names = NULL;
    size_t count = 0;
    struct oci_digest found;
    struct tree *list = NULL;
    struct oci_digest image = put_image("team/app", "v2", "layer", NULL);
    put_image("team", "v1", "other", NULL);
    assert_int_equal(content_set_tag(content, "team/app", "v1", &image), 0);
    assert_int_equal(content_list_tags(content, arena, "team/app", &names, &count), 0);
    assert_int_equal(count, 2);
    assert_string_equal(names[0], "v1");
    assert_int_equal(content_list_tags(content, arena, "team/none", &names, &count), -ENOENT);
    assert_int_equal(content_list_repositories(content, arena, &names, &count), 0);
    assert_int_equal(count, 2);
    assert_string_equal(names[0], "team");
    assert_string_equal(names[1], "team/app");
    assert_int_equal(content_find_link(content, "team/app", CONTENT_LINK_MANIFEST, &image, &text), 0);
    assert_string_equal(text.data, OCI_TYPE_MANIFEST);
    struct oci_digest signature = put_image("team/app", "", "signature", &image);
    assert_int_equal(content_list_referrers(content, arena, "team/app", &image, &list), 0);
    assert_int_equal(tree_count(list), 1);
    assert_non_null(strstr(tree_text_or(tree_find(tree_at(list, 0), "digest"), ""), signature.hex));
    assert_int_equal(content_delete_manifest(content, "team/app", &signature), 0);
    assert_int_equal(content_list_referrers(content, arena, "team/app", &image, &list), 0);
    assert_int_equal(tree_count(list), 0);
    assert_int_equal(content_delete_manifest(content, "team/app", &image), 0);
    assert_int_equal(content_get_tag(content, "team/app", "v1", &found), -ENOENT);
    assert_int_equal(content_delete_manifest(content, "team/app", &image), -ENOENT);
}

UNIT_TEST(garbage_goes_and_nothing_else) {
    struct oci_digest tagged = put_image("gc", "keep", "tagged layer", NULL);
    struct oci_digest untagged = put_image("gc", "", "untagged layer", NULL);
    struct oci_digest rooted = put_image("gc", "", "rooted layer", NULL);
    struct oci_digest signature = put_image("gc", "", "signature layer", &tagged);
    struct oci_digest orphan = put_image("gc", "", "orphan signature", &untagged);
    struct oci_digest loose = put_blob("gc", "loose");
    struct content_gc_result result;
    struct content_gc_options options = {.roots = &rooted, .roots_count = 1, .grace_s = 3600};
    assert_int_equal(content_collect_garbage(content, &options, &result), 0);
    assert_int_equal(result.blobs_removed, 0);
    options.grace_s = -10; /* as if everything were old */
    assert_int_equal(content_collect_garbage(content, &options, &result), 0);
    assert_int_equal(content_touch_blob(content, &tagged), 0);
    assert_int_equal(content_touch_blob(content, &rooted), 0);
    assert_int_equal(content_touch_blob(content, &signature), 0);
    assert_int_equal(content_touch_blob(content, &untagged), -ENOENT);
    assert_int_equal(content_touch_blob(content, &orphan), -ENOENT);
    assert_int_equal(content_touch_blob(content, &loose), -ENOENT);
    assert_int_equal(content_find_link(content, "gc", CONTENT_LINK_MANIFEST, &untagged, NULL), -ENOENT);
    assert_int_equal(content_find_link(content, "gc", CONTENT_LINK_BLOB, &loose, NULL), -ENOENT);
    struct oci_digest layer;
    digest_sha256_hex(SLICE("tagged layer"), layer.hex);
    assert_int_equal(content_touch_blob(content, &layer), 0);
    digest_sha256_hex(SLICE("untagged layer"), layer.hex);
    assert_int_equal(content_touch_blob(content, &layer), -ENOENT);
    assert_int_equal(result.manifests_removed, 2);
}

UNIT_TEST(a_failing_disk_is_reported_and_leaves_nothing) {
    struct oci_digest digest;
    char text[32];
    size_t empty = count_names("uploads");
    for (int i = 1; i < 4; i++) {
        snprintf(text, sizeof text, "fault %d", i);
        sys_fault_set(i, EIO);
        int r = content_write_blob(content, slice_of(text), &digest);
        sys_fault_set(0, 0);
        assert_true(r == 0 || r == -EIO);
        assert_int_equal(count_names("uploads"), empty);
        assert_int_equal(content_write_blob(content, slice_of(text), &digest), 0);
    }
}

/* Whoever has several sources may come again with the writer of the one before. */
UNIT_TEST(what_proved_wrong_becomes_no_blob) {
    CLEANUP(content_writer_freep) struct content_writer *writer = NULL;
    struct oci_digest other, digest;
    digest_sha256_hex(SLICE("what was asked for"), other.hex);
    assert_int_equal(content_writer_new(content, &writer), 0);
    assert_int_equal(content_writer_append(writer, SLICE("what came")), 0);
    assert_int_equal(content_writer_commit(writer, &other, &digest), -EBADMSG);
    assert_int_equal(content_writer_append(writer, SLICE("more")), -EIO);
    assert_int_equal(content_writer_commit(writer, NULL, &digest), -EIO);
    digest_sha256_hex(SLICE("what came"), digest.hex);
    assert_int_equal(content_touch_blob(content, &digest), -ENOENT);
}

UNIT_TEST(what_is_held_is_no_garbage) {
    struct oci_digest manifest = put_image("held", "", "held layer", NULL), loose = put_blob("held", "held loose");
    struct content_gc_options options = {.grace_s = -10};
    struct content_gc_result result;
    assert_int_equal(content_hold(content, &manifest), 0);
    assert_int_equal(content_hold(content, &loose), 0);
    assert_int_equal(content_hold(content, &loose), 0); /* by two pulls */
    content_release(content, &loose);
    assert_int_equal(content_collect_garbage(content, &options, &result), 0);
    assert_int_equal(content_find_link(content, "held", CONTENT_LINK_MANIFEST, &manifest, NULL), 0);
    assert_int_equal(content_find_link(content, "held", CONTENT_LINK_BLOB, &loose, NULL), 0);
    assert_int_equal(content_touch_blob(content, &manifest), 0);
    assert_int_equal(content_touch_blob(content, &loose), 0);
    content_release(content, &manifest);
    content_release(content, &loose);
    assert_int_equal(content_collect_garbage(content, &options, &result), 0);
    assert_int_equal(content_touch_blob(content, &manifest), -ENOENT);
    assert_int_equal(content_touch_blob(content, &loose), -ENOENT);
}

static void *collect_old(void *userdata) {
    const struct content_gc_options options = {.grace_s = 10};
    *(int *)userdata = content_collect_garbage(content, &options, &(struct content_gc_result){0});
    return NULL;
}

/* A tag that is a pipe stops the collection while it marks; what comes meanwhile into a repository that it has been through stays. */
UNIT_TEST(what_arrives_between_marking_and_sweeping_stays) {
    struct oci_digest found, image;
    pthread_t thread;
    int result = -1;
    put_image("race/a", "v0", "race", NULL);
    put_image("race/b", "v0", "race", NULL);
    struct oci_digest old = put_image("race/a", "", "race old", NULL);
    char link[128];
    snprintf(link, sizeof link, "repositories/race/a/_manifests/%s", old.hex);
    assert_int_equal(utimensat(AT_FDCWD, path_of(link), (const struct timespec[]){{1, 0}, {1, 0}}, 0), 0);
    assert_int_equal(mkfifo(path_of("repositories/race/b/tags/pipe"), 0600), 0);
    assert_int_equal(pthread_create(&thread, NULL, collect_old, &result), 0);
    int fd = open(path_of("repositories/race/b/tags/pipe"), O_WRONLY | O_CLOEXEC); /* until it is there */
    assert_true(fd >= 0);
    assert_int_equal(unlink(path_of("repositories/race/b/tags/pipe")), 0);
    image = put_image("race/a", "v1", "race new", NULL);
    close(fd);
    pthread_join(thread, NULL);
    assert_int_equal(result, 0);
    assert_int_equal(content_get_tag(content, "race/a", "v1", &found), 0);
    assert_true(oci_digest_equal(&image, &found));
    assert_int_equal(content_find_link(content, "race/a", CONTENT_LINK_MANIFEST, &image, NULL), 0);
    assert_int_equal(content_find_link(content, "race/a", CONTENT_LINK_MANIFEST, &old, NULL), -ENOENT);
}

/* The index that a pulled image is known by stays with it, though no tag points to it. */
UNIT_TEST(an_image_keeps_the_index_it_came_by) {
    struct oci_digest image = put_image("origin", "v1", "origin layer", NULL), index = put_image("origin", "", "as an index", NULL);
    struct content_gc_options options = {.grace_s = -10};
    struct content_gc_result result;
    struct pulled_key key;
    char name[128];
    snprintf(name, sizeof name, "ghcr.io/origin@sha256:%s", index.hex);
    assert_int_equal(pulled_key_open(content, &key), 0);
    assert_int_equal(pulled_note(content, &key, "origin", &image, name, "ghcr.io", NULL), 0);
    assert_int_equal(content_collect_garbage(content, &options, &result), 0);
    assert_int_equal(content_touch_blob(content, &index), 0);
    assert_int_equal(content_delete_tag(content, "origin", "v1"), 0);
    assert_int_equal(content_collect_garbage(content, &options, &result), 0);
    assert_int_equal(content_touch_blob(content, &index), -ENOENT);
    assert_false(pulled_is_of(content, "origin", &image, &index)); /* the record went with the manifest */
}

/* A manifest without a record would be our own. */
UNIT_TEST(a_record_goes_after_its_manifest) {
    struct oci_digest image = put_image("record", "v1", "a layer with a record", NULL);
    struct pulled_key key;
    char path[256], user[] = "ann";
    struct docker_credential credential = {.user = user};
    assert_int_equal(pulled_key_open(content, &key), 0);
    assert_true(pulled_is_ours(content, "record", &image));
    assert_int_equal(pulled_note(content, &key, "record", &image, "ghcr.io/record@sha256:0", "ghcr.io", &credential), 0);
    assert_int_equal(content_unlink(content, "record", CONTENT_LINK_MANIFEST, &image), 0);
    snprintf(path, sizeof path, "%s/repositories/record/_manifests/%s", folder, image.hex);
    assert_int_equal(mkdir(path, 0700), 0); /* cannot be unlinked */
    assert_true(content_delete_manifest(content, "record", &image) < 0);
    assert_true(pulled_is_private(content, "record", &image));
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(content_link(content, "record", CONTENT_LINK_MANIFEST, &image, SLICE(OCI_TYPE_MANIFEST)), 0);
    assert_int_equal(content_delete_manifest(content, "record", &image), 0);
    assert_false(pulled_is_private(content, "record", &image));
}

static void begin_blob(const char *name, const struct oci_digest *digest, size_t len) {
    static char bytes[2 * CONTENT_PARTIAL_BYTES_MIN];
    struct content_writer *writer = NULL;
    memset(bytes, 'x', sizeof bytes);
    assert_int_equal(content_writer_resume(content, name, digest, &writer), 0);
    assert_int_equal(content_writer_append(writer, slice_make(bytes, len)), 0);
    content_writer_free(writer);
}

UNIT_TEST(what_a_transfer_has_begun_stays_within_bounds) {
    struct content_writer *writer = NULL, *second = NULL;
    struct oci_digest digest = {.hex = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"};
    struct content_gc_result result;
    int64_t size = CONTENT_PARTIAL_BYTES_MIN;
    begin_blob("begun", &digest, (size_t)size - 1); /* not worth it */
    assert_int_equal(content_partial_size(content, "begun", &digest), 0);
    begin_blob("begun", &digest, (size_t)size);
    content_close(TAKE(content)); /* a kill, or a new start */
    assert_int_equal(content_open(folder, 1, &content, NULL), 0);
    assert_int_equal(content_partial_size(content, "begun", &digest), size);
    assert_int_equal(content_partial_size(content, "other", &digest), 0);

    assert_int_equal(content_writer_resume(content, "begun", &digest, &writer), 0);
    assert_int_equal(content_writer_size(writer), size);
    assert_int_equal(content_writer_resume(content, "begun", &digest, &second), 0);
    assert_int_equal(content_writer_size(second), 0);
    content_writer_free(second);
    const struct content_gc_options urgent = {.urgent = true, .grace_s = -10}, usual = {.grace_s = -10};
    assert_int_equal(content_collect_garbage(content, &urgent, &result), 0);
    assert_int_equal(content_partial_size(content, "begun", &digest), size); /* it is being written */
    content_writer_free(writer);
    assert_int_equal(content_collect_garbage(content, &usual, &result), 0);
    assert_int_equal(content_partial_size(content, "begun", &digest), size);
    assert_int_equal(content_collect_garbage(content, &urgent, &result), 0);
    assert_int_equal(content_partial_size(content, "begun", &digest), 0);
    assert_true(result.bytes_removed >= (uint64_t)size);

    for (int i = 0; i < CONTENT_PARTIALS_MAX + 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "begun%d", i);
        begin_blob(name, &digest, (size_t)size);
    }
    assert_int_equal(count_names("partial"), 2 + CONTENT_PARTIALS_MAX);
    assert_int_equal(content_partial_size(content, "begun0", &digest), 0); /* the oldest went */
    assert_int_equal(content_collect_garbage(content, &urgent, &result), 0);
    assert_int_equal(count_names("partial"), 2);
}

UNIT_TEST(a_private_link_gives_way_to_one_that_shows) {
    struct oci_digest digest;
    assert_int_equal(content_write_blob(content, SLICE("linked"), &digest), 0);
    assert_int_equal(content_link_private(content, "links", &digest, "r.example"), 0);
    assert_int_equal(content_find_link(content, "links", CONTENT_LINK_BLOB, &digest, NULL), 0);
    assert_false(content_is_shown_anywhere(content, &digest));
    assert_true(content_came_from(content, &digest, "r.example"));
    assert_false(content_came_from(content, &digest, "r.exampl"));
    assert_int_equal(content_link(content, "links", CONTENT_LINK_BLOB, &digest, (struct slice){0}), 0);
    assert_int_equal(content_link_private(content, "links", &digest, "r.example"), 0);
    assert_true(content_is_shown(content, "links", &digest));
    assert_true(content_is_shown_anywhere(content, &digest));
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(a_blob_appears_whole_or_not_at_all),
                                       UNIT(what_was_begun_before_a_crash_is_gone),
                                       UNIT(the_last_of_the_disk_is_left_to_others),
                                       UNIT(tags_repositories_and_referrers),
                                       UNIT(garbage_goes_and_nothing_else),
                                       UNIT(what_proved_wrong_becomes_no_blob),
                                       UNIT(what_is_held_is_no_garbage),
                                       UNIT(what_arrives_between_marking_and_sweeping_stays),
                                       UNIT(an_image_keeps_the_index_it_came_by),
                                       UNIT(a_record_goes_after_its_manifest),
                                       UNIT(what_a_transfer_has_begun_stays_within_bounds),
                                       UNIT(a_private_link_gives_way_to_one_that_shows),
                                       UNIT(a_failing_disk_is_reported_and_leaves_nothing)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

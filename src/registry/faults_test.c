#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "registry/content.h"
#include "sys/sys.h"

#include "faults.h"
#include "unit.h"

static const char EMPTY[] = "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"config\":{\"mediaType\":\"" OCI_TYPE_CONFIG
                            "\",\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2},\"layers\":[]}";

static size_t count_uploads(const char *folder) {
    char path[128];
    size_t count = 0;
    snprintf(path, sizeof path, "%s/uploads", folder);
    DIR *listing = opendir(path);
    while (listing && readdir(listing))
        count++;
    if (listing)
        closedir(listing);
    return count;
}

/* What was acknowledged is whole, what was refused leaves nothing half, and the store opens again. */
static int push_and_clean(__attribute__((unused)) void *context) {
    char folder[] = "/dev/shm/tidemill-content-XXXXXX";
    struct content *content = NULL;
    struct diag diag = DIAG_INIT;
    struct oci_digest config, digest, found;
    struct oci_manifest manifest;
    CLEANUP(arena_freep) struct arena *arena = NULL;
    faults_pause();
    assert_non_null(mkdtemp(folder));
    assert_non_null(arena = arena_new(MIB));
    faults_resume();
    int r = content_open(folder, 1, &content, &diag);
    size_t uploads = 0;
    if (r == 0) {
        faults_pause();
        uploads = count_uploads(folder);
        faults_resume();
        r = content_write_blob(content, SLICE("{}"), &config);
    }
    if (r == 0)
        r = content_link(content, "a/b", CONTENT_LINK_BLOB, &config, (struct slice){0});
    if (r == 0)
        r = oci_manifest_parse(arena, slice_of(EMPTY), (struct slice){0}, &manifest, &diag);
    bool tagged = false;
    if (r == 0) {
        r = content_put_manifest(content, "a/b", "latest", slice_of(EMPTY), &manifest, &digest);
        tagged = r == 0;
    }
    struct content_writer *writer = NULL;
    if (r == 0)
        r = content_writer_resume(content, "a/b", &config, &writer);
    if (r == 0)
        r = content_writer_append(writer, SLICE("{"));
    content_writer_free(writer);
    char **names = NULL;
    size_t count = 0;
    if (r == 0)
        r = content_list_tags(content, arena, "a/b", &names, &count);
    if (r == 0)
        assert_int_equal(count, 1);
    struct content_gc_result collected;
    if (r == 0)
        r = content_collect_garbage(content, &(struct content_gc_options){.grace_s = -10}, &collected);
    faults_pause();
    if (content)
        assert_int_equal(count_uploads(folder), uploads); /* nor is one byte of a transfer worth a file */
    content_close(TAKE(content));
    assert_int_equal(content_open(folder, 1, &content, &diag), 0);
    if (tagged) { /* and garbage collection has not taken it */
        CLEANUP(buffer_deinit) struct buffer bytes = BUFFER_INIT(MIB);
        assert_int_equal(content_get_tag(content, "a/b", "latest", &found), 0);
        assert_int_equal(content_read_blob(content, &found, MIB, &bytes), 0);
        assert_string_equal(bytes.data, EMPTY);
        assert_int_equal(content_touch_blob(content, &config), 0);
    }
    content_close(content);
    assert_int_equal(sys_remove_tree(AT_FDCWD, folder), 0);
    faults_resume();
    return r;
}

UNIT_TEST(pushes_are_whole_or_refused) {
    TEST_FAULTS_ANY(push_and_clean, NULL);
}

UNIT_MAIN(UNIT(pushes_are_whole_or_refused))

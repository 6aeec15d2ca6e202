#include <fcntl.h>
#include <stdio.h>

#include "node/node_priv.h"
#include "sys/sys.h"

#include "faults.h"
#include "unit.h"

static char dir[] = "/tmp/tidemill-payload-XXXXXX";

static void show(const char *expected) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(KIB);
    char path[80];
    snprintf(path, sizeof path, "%s/key", dir);
    assert_int_equal(sys_read_file(AT_FDCWD, path, KIB - 1, &text), 0);
    if (expected)
        assert_true(slice_is(buffer_slice(&text), expected));
    assert_true(slice_is(buffer_slice(&text), "old") || slice_is(buffer_slice(&text), "new"));
}

static int write_key(const char *value) {
    struct payload payload = {.user = (uid_t)-1, .group = (gid_t)-1};
    bool changed;
    int r = payload_put(&payload, "key", slice_of(value), 0644);
    if (r == 0)
        r = payload_put(&payload, "folder/other", slice_of(value), 0644);
    if (r == 0)
        r = payload_write(dir, &payload, &changed);
    VECTOR_DEINIT(&payload);
    return r;
}

/* Who reads a volume sees what was there before, or what comes after, never a mixture and never nothing. */
static int replace(__attribute__((unused)) void *context) {
    faults_pause();
    assert_int_equal(write_key("old"), 0);
    faults_resume();
    int r = write_key("new");
    faults_pause();
    show(r == 0 ? "new" : NULL);
    faults_resume();
    return r;
}

UNIT_TEST(a_volume_is_never_half_written) {
    assert_non_null(mkdtemp(dir));
    TEST_FAULTS_ANY(replace, NULL);
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

UNIT_MAIN(UNIT(a_volume_is_never_half_written))

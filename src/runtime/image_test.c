/* References, manifests, configurations, and a small content store. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <zstd.h>

#include "http/http.h"
#include "runtime/image.h"
#include "runtime/sweep.h"
#include "sys/sys.h"
#include "unit.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static bool is_unpacked(const struct image *image, const char *folder) {
    char path[200];
    for (size_t i = 0; i < image->layers_count; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, image->layers[i].chain_id + 7);
        if (access(path, F_OK) < 0)
            return false;
    }
    return true;
}

static const char *const own[] = {"127.0.0.1:5000", "10.88.0.1:5000", NULL};

static void check(const char *text, const char *repository, const char *tag, const char *digest) {
    struct arena *arena = arena_new(64 * KIB);
    struct image_reference reference;
    assert_int_equal(image_reference_parse(arena, slice_of(text), own, &reference, NULL), 0);
    assert_string_equal(reference.repository, repository);
    assert_string_equal(reference.tag ? reference.tag : "-", tag);
    assert_string_equal(reference.digest ? reference.digest : "-", digest);
    arena_free(arena);
}

UNIT_TEST(reads_references) {
    check("hello", "hello", "latest", "-");
    check("hello:abc", "hello", "abc", "-");
    check("debian:12", "debian", "12", "-");
    check("docker.io/library/debian:12", "debian", "12", "-");
    check("docker.io/team/app", "team/app", "latest", "-");
    check("library/debian", "debian", "latest", "-");
    check("127.0.0.1:5000/hello:abc", "hello", "abc", "-");
    check("10.88.0.1:5000/a/b/c@sha256:" HEX64, "a/b/c", "-", "sha256:" HEX64);
    check("10.88.0.1:5000/a:v1@sha256:" HEX64, "a", "v1", "sha256:" HEX64);
    check("quay.io/team/app:v1", "quay.io/team/app", "v1", "-");
    check("localhost/x", "localhost/x", "latest", "-");
    check("team/app__x-y.z:V1_.", "team/app__x-y.z", "V1_.", "-");
}

UNIT_TEST(refuses_what_is_no_reference) {
    static const char *const bad[] = {"",
                                      ":",
                                      "a:",
                                      "/a",
                                      "a/",
                                      "a//b",
                                      "../a",
                                      "a/../b",
                                      "a/..",
                                      "A",
                                      "a:../../x",
                                      "a:.x",
                                      "a@sha256:abc",
                                      "a@md5:" HEX64,
                                      "a b",
                                      "a@sha256:" HEX64 "0",
                                      "127.0.0.1:5000/",
                                      "..:5000/x",
                                      "a..b",
                                      "-a",
                                      "a\nb"};
    struct arena *arena = arena_new(64 * KIB);
    struct image_reference reference;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct diag diag = DIAG_INIT;
        if (image_reference_parse(arena, slice_of(bad[i]), own, &reference, &diag) != -EINVAL)
            fail_msg("\"%s\" was taken for a reference", bad[i]);
        assert_non_null(strstr(diag.message, "invalid reference format"));
    }
    arena_free(arena);
}

UNIT_TEST(chooses_what_this_machine_runs) {
    struct image *image = image_new();
    const char *next;
    char text[1024];
    assert_int_equal(image_parse_manifest(image,
                                          SLICE("{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"sha256:" HEX64
                                                "\",\"platform\":{\"os\":\"linux\",\"architecture\":\"vax\"}}]}"),
                                          &next, NULL),
                     -ENOENT);
    snprintf(text, sizeof text,
             "{\"manifests\":[{\"digest\":\"x\",\"platform\":{\"os\":\"linux\",\"architecture\":\"%s\"}},{\"digest\":\"sha256:" HEX64
             "\",\"platform\":{\"os\":\"linux\",\"architecture\":\"%s\"}}]}",
             sys_architecture(NULL), sys_architecture(NULL));
    assert_int_equal(image_parse_manifest(image, slice_of(text), &next, NULL), 0);
    assert_string_equal(next, "sha256:" HEX64);
    image_unref(image);
}

UNIT_TEST(refuses_bad_manifests) {
    static const char *const bad[] = {"",
                                      "[]",
                                      "{}",
                                      "{\"schemaVersion\":1}",
                                      "{\"schemaVersion\":2}",
                                      "{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:../../etc/passwd\"}}",
                                      "{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:" HEX64 "\"},\"layers\":[{}]}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct image *image = image_new();
        struct diag diag = DIAG_INIT;
        const char *next;
        assert_true(image_parse_manifest(image, slice_of(bad[i]), &next, &diag) < 0);
        image_unref(image);
    }
}

/* --- a store --- */

static char dir[64], store[96], layers[96];

static void store_blob(struct slice bytes, char ret_digest[80]) {
    char hex[65], path[256];
    digest_sha256_hex(bytes, hex);
    snprintf(ret_digest, 80, "sha256:%s", hex);
    snprintf(path, sizeof path, "%s/blobs/sha256/%s", store, hex);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, bytes, 0644), 0);
}

static void make_store(void) {
    char path[128];
    snprintf(dir, sizeof dir, "/tmp/image-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(store, sizeof store, "%s/registry", dir);
    snprintf(layers, sizeof layers, "%s/layers", dir);
    snprintf(path, sizeof path, "%s/blobs/sha256", store);
    assert_int_equal(sys_mkdirs(path, 0755), 0);
    static const char *const folders[] = {"tags", "_manifests", "_pulled"};
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        snprintf(path, sizeof path, "%s/repositories/app/%s", store, folders[i]);
        assert_int_equal(sys_mkdirs(path, 0755), 0);
    }
}

/* A file about a manifest in the repository "app". */
static void write_beside(const char *folder, const char *manifest, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/repositories/app/%s/%s", store, folder, manifest + 7);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, slice_of(text), 0644), 0);
}

/* An image of one layer: an empty tar. */
static void make_image(char ret_manifest[80]) {
    static const char zeros[1024];
    char layer[80], config[80], text[1024], path[256];
    store_blob(slice_make(zeros, sizeof zeros), layer);
    snprintf(text, sizeof text,
             "{\"config\":{\"Env\":[\"A=b\"],\"Cmd\":[\"run\"],\"User\":\"app\",\"WorkingDir\":\"/w\"},\"rootfs\":{\"diff_ids\":[\"%s\"]}}", layer);
    store_blob(slice_of(text), config);
    snprintf(text, sizeof text, "{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\"},\"layers\":[{\"digest\":\"%s\",\"size\":1024}]}", config, layer);
    store_blob(slice_of(text), ret_manifest);
    snprintf(path, sizeof path, "%s/repositories/app/tags/v1", store);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, slice_of(ret_manifest), 0644), 0);
    write_beside("_manifests", ret_manifest, "");
}

UNIT_TEST(resolves_and_unpacks) {
    struct image *image = NULL;
    struct diag diag = DIAG_INIT;
    char manifest[80];
    make_store();
    make_image(manifest);
    const struct image_reference by_tag = {.repository = "app", .tag = "v1"}, by_digest = {.repository = "app", .digest = manifest},
                                 unknown = {.repository = "app", .tag = "v2"};
    assert_int_equal(image_resolve(store, &by_tag, &image, &diag), 0);
    assert_string_equal(image->digest, manifest);
    assert_string_equal(image->env.items[0], "A=b");
    assert_string_equal(image->command.items[0], "run");
    assert_string_equal(image->user, "app");
    assert_int_equal(image->layers_count, 1);
    assert_string_equal(image->layers[0].chain_id, image->layers[0].diff_id);
    assert_false(is_unpacked(image, layers));
    assert_int_equal(image_unpack(image, store, layers, &diag), 0);
    assert_true(is_unpacked(image, layers));
    assert_int_equal(image_unpack(image, store, layers, &diag), 0);
    image_unref(image);
    assert_int_equal(image_resolve(store, &by_digest, &image, &diag), 0);
    image_unref(image);
    assert_int_equal(image_resolve(store, &unknown, &image, &diag), -ENOENT);
    assert_non_null(strstr(diag.message, "not found"));
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

/* A tar of one entry: a folder when the path ends in '/', else an empty file. */
static struct slice tar_of(const char *path, unsigned mode, char tar[1536]) {
    unsigned sum = 0;
    size_t len = strlen(path);
    memset(tar, 0, 1536);
    memcpy(tar, path, len);
    snprintf(tar + 100, 8, "%07o", mode);
    snprintf(tar + 108, 8, "%07o", (unsigned)geteuid());
    snprintf(tar + 116, 8, "%07o", (unsigned)getegid());
    snprintf(tar + 124, 12, "%011o", 0u);
    snprintf(tar + 136, 12, "%011o", 0u);
    memset(tar + 148, ' ', 8);
    tar[156] = path[len - 1] == '/' ? '5' : '0';
    memcpy(tar + 257, "ustar\00000", 8);
    for (size_t i = 0; i < 512; i++)
        sum += (unsigned char)tar[i];
    snprintf(tar + 148, 8, "%06o", sum);
    return slice_make(tar, 1536);
}

/* Layers are unpacked together; each of these needs to know what the ones below say of its parents. */
UNIT_TEST(layers_that_depend_on_each_other_find_each_other) {
    enum { COUNT = 12 };
    CLEANUP(buffer_deinit) struct buffer list = BUFFER_INIT(64 * KIB), diffs = BUFFER_INIT(64 * KIB);
    char tar[1536], digest[80], path[256], text[256], manifest[80];
    struct image *image = NULL;
    struct diag diag = DIAG_INIT;
    struct stat st;
    make_store();
    for (int i = 0; i < COUNT; i++) {
        snprintf(path, sizeof path, i ? "d/%d" : "d/", i);
        store_blob(tar_of(path, i ? 0644 : 0711, tar), digest);
        buffer_printf(&list, "%s{\"digest\":\"%s\",\"size\":1536}", i ? "," : "", digest);
        buffer_printf(&diffs, "%s\"%s\"", i ? "," : "", digest);
    }
    char *config = NULL;
    assert_true(asprintf(&config, "{\"rootfs\":{\"diff_ids\":[%s]}}", diffs.data) > 0);
    store_blob(slice_of(config), digest);
    free(config);
    assert_true(asprintf(&config, "{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\"},\"layers\":[%s]}", digest, list.data) > 0);
    store_blob(slice_of(config), manifest);
    free(config);
    write_beside("_manifests", manifest, "");
    const struct image_reference reference = {.repository = "app", .digest = manifest};
    assert_int_equal(image_resolve(store, &reference, &image, &diag), 0);
    assert_int_equal(image_unpack(image, store, layers, &diag), 0);
    for (int i = 1; i < COUNT; i++) {
        snprintf(text, sizeof text, "%s/%s/d", layers, image->layers[i].chain_id + 7);
        assert_int_equal(stat(text, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0711);
    }
    /* One that is damaged ends those that wait for it. */
    assert_int_equal(sys_remove_tree(AT_FDCWD, layers), 0);
    snprintf(path, sizeof path, "%s/blobs/sha256/%s", store, image->layers[0].digest + 7);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, slice_make(tar, 512), 0644), 0);
    assert_int_equal(image_unpack(image, store, layers, &diag), -EBADMSG);
    assert_non_null(strstr(diag.message, "damaged"));
    assert_false(is_unpacked(image, layers));
    image_unref(image);
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

/* --- blobs that are still on their way --- */

#define PLACE "0123456789abcdef"

static void on_arrived(void *userdata) {
    *(bool *)userdata = true;
}

static void partial_path(const char *digest, char ret[256]) {
    snprintf(ret, 256, "%s/partial", store);
    assert_int_equal(sys_mkdirs(ret, 0755), 0);
    snprintf(ret, 256, "%s/partial/%s-" PLACE, store, digest + 7);
}

static void append(const char *path, struct slice bytes) {
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(sys_write_all(fd, bytes), 0);
    close(fd);
}

/* The path of "tmp-…/name" in layers; false while there is none. */
static bool is_applied(const char *name) {
    struct stat status;
    char path[512];
    bool found = false;
    DIR *listing = opendir(layers);
    for (struct dirent *entry; listing && (entry = readdir(listing));) {
        snprintf(path, sizeof path, "%s/%s/%s", layers, entry->d_name, name);
        found = found || (strncmp(entry->d_name, "tmp-", 4) == 0 && stat(path, &status) == 0);
    }
    if (listing)
        closedir(listing);
    return found;
}

/* An image of one layer. Configuration and layer are not there yet. */
static void announce(struct slice layer, char ret_manifest[80], char ret_layer[80], char ret_config[200]) {
    char hex[65], text[512];
    digest_sha256_hex(layer, hex);
    snprintf(ret_layer, 80, "sha256:%s", hex);
    snprintf(ret_config, 200, "{\"rootfs\":{\"diff_ids\":[\"%s\"]}}", ret_layer);
    digest_sha256_hex(slice_of(ret_config), hex);
    snprintf(text, sizeof text, "{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:%s\"},\"layers\":[{\"digest\":\"%s\",\"size\":%zu}]}", hex,
             ret_layer, layer.len);
    store_blob(slice_of(text), ret_manifest);
}

/* An image of one layer, "first", that a node follows as it comes. */
struct coming {
    struct loop *loop;
    struct list arrivals;
    struct image_arrival *arrival;
    struct image_arrival_options options;
    char tar[1536], manifest[80], layer[80], config[200], ignored[80], partial[256], blob[256];
    struct slice bytes;
    bool done;
};

static void start_coming(struct coming *coming) {
    *coming = (struct coming){0};
    make_store();
    list_init(&coming->arrivals);
    assert_int_equal(loop_new(&coming->loop), 0);
    coming->bytes = tar_of("first", 0644, coming->tar);
    announce(coming->bytes, coming->manifest, coming->layer, coming->config);
    partial_path(coming->layer, coming->partial);
    snprintf(coming->blob, sizeof coming->blob, "%s/blobs/sha256/%s", store, coming->layer + 7);
    coming->options = (struct image_arrival_options){
        .store = store, .layers = layers, .manifest = coming->manifest, .place = PLACE, .on_done = on_arrived, .userdata = &coming->done};
}

static void follow(struct coming *coming) {
    assert_int_equal(image_arrival_start(coming->loop, &coming->arrivals, &coming->options, &coming->arrival), 0);
}

static void until_applied(struct coming *coming) {
    while (!is_applied("first"))
        assert_int_equal(loop_turn(coming->loop, 10), 0);
}

static void until_done(struct coming *coming) {
    while (!coming->done)
        assert_int_equal(loop_turn(coming->loop, 10000), 0);
}

static bool has_come(struct coming *coming) {
    struct image *image = NULL;
    assert_int_equal(image_read(store, coming->manifest, &image, NULL), 0);
    bool all = is_unpacked(image, layers);
    image_unref(image);
    return all;
}

static void end_coming(struct coming *coming) {
    loop_free(coming->loop);
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

UNIT_TEST(an_image_is_unpacked_while_it_arrives) {
    struct coming coming;
    start_coming(&coming);
    struct image_arrival_options wrong = coming.options;
    wrong.place = "../x";
    assert_int_equal(image_arrival_start(coming.loop, &coming.arrivals, &wrong, &coming.arrival), -EINVAL);
    follow(&coming);
    append(coming.partial, SLICE("what proves wrong is thrown away, and comes anew"));
    store_blob(slice_of(coming.config), coming.ignored);
    assert_int_equal(unlink(coming.partial), 0);
    append(coming.partial, slice_head(coming.bytes, 1024));
    until_applied(&coming);
    assert_false(has_come(&coming)); /* its end may be wrong */
    append(coming.partial, slice_from(coming.bytes, 1024));
    assert_int_equal(rename(coming.partial, coming.blob), 0);
    until_done(&coming);
    assert_true(has_come(&coming));
    assert_true(list_empty(&coming.arrivals));
    end_coming(&coming);
}

/* What an earlier pull has begun nobody goes on with, when the blob comes by another. */
UNIT_TEST(who_follows_what_ends_in_the_middle_is_told_of_the_whole) {
    struct coming coming;
    start_coming(&coming);
    store_blob(slice_of(coming.config), coming.ignored);
    append(coming.partial, slice_head(coming.bytes, 1024));
    follow(&coming);
    until_applied(&coming);
    store_blob(coming.bytes, coming.ignored);
    until_done(&coming);
    assert_true(has_come(&coming));
    end_coming(&coming);
}

UNIT_TEST(what_does_not_arrive_whole_leaves_nothing) {
    struct coming coming;
    start_coming(&coming);
    store_blob(slice_of(coming.config), coming.ignored);
    append(coming.partial, slice_head(coming.bytes, 1024));
    append(coming.partial, SLICE("other bytes than those of the digest"));
    follow(&coming);
    until_applied(&coming);
    assert_int_equal(rename(coming.partial, coming.blob), 0);
    until_done(&coming);
    assert_false(is_applied("first"));
    assert_false(has_come(&coming));

    /* The pull is given up, in the middle. */
    assert_int_equal(rename(coming.blob, coming.partial), 0);
    follow(&coming);
    until_applied(&coming);
    image_arrivals_end(&coming.arrivals);
    assert_false(is_applied("first"));
    end_coming(&coming);
}

UNIT_TEST(a_damaged_blob_is_not_used) {
    struct image *image = NULL;
    struct diag diag = DIAG_INIT;
    char manifest[80], path[256];
    make_store();
    make_image(manifest);
    snprintf(path, sizeof path, "%s/blobs/sha256/%s", store, manifest + 7);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, SLICE("{\"schemaVersion\":2}"), 0644), 0);
    const struct image_reference by_tag = {.repository = "app", .tag = "v1"};
    assert_int_equal(image_resolve(store, &by_tag, &image, &diag), -EBADMSG);
    assert_non_null(strstr(diag.message, "damaged"));
    snprintf(path, sizeof path, "%s/repositories/app/tags/v1", store);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, SLICE("sha256:../../../etc/passwd"), 0644), 0);
    assert_int_equal(image_resolve(store, &by_tag, &image, &diag), -EBADMSG);
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

/* An unpacked layer that no image has. */
static void make_stray(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", layers, name);
    assert_int_equal(sys_mkdirs(path, 0755), 0);
}

static size_t count_unused(const struct sweep_needs *needs, char ret_first[128]) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct diag diag = DIAG_INIT;
    char **names = NULL;
    size_t count = 0;
    assert_int_equal(sweep_find(arena, store, layers, needs, &names, &count, &diag), 0);
    snprintf(ret_first, 128, "%s", count ? names[0] : "");
    return count;
}

UNIT_TEST(finds_layers_that_nobody_needs) {
    struct image *image = NULL;
    char manifest[80], path[256], first[128], name[SWEEP_NAME_BYTES];
    make_store();
    make_image(manifest);
    const struct image_reference by_tag = {.repository = "app", .tag = "v1"};
    assert_int_equal(image_resolve(store, &by_tag, &image, NULL), 0);
    assert_int_equal(image_unpack(image, store, layers, NULL), 0);
    make_stray(HEX64);
    make_stray("tmp-unpacking");
    assert_int_equal(count_unused(&(struct sweep_needs){0}, first), 1); /* the tag holds the other; what is being unpacked is none */
    assert_string_equal(first, HEX64);
    const char *const chains[] = {"sha256:" HEX64, NULL};
    assert_int_equal(count_unused(&(struct sweep_needs){.chains = chains}, first), 0);

    snprintf(path, sizeof path, "%s/repositories/app/tags/v1", store);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(count_unused(&(struct sweep_needs){0}, first), 2);
    const char *const configs[] = {image->config_digest, NULL}, *const manifests[] = {image->digest, NULL};
    assert_int_equal(count_unused(&(struct sweep_needs){.configs = configs}, first), 1); /* a container runs from it */
    assert_int_equal(count_unused(&(struct sweep_needs){.configs = manifests}, first), 1);
    assert_string_equal(first, HEX64);

    assert_int_equal(sweep_retire(layers, first, name), 0);
    assert_int_equal(sweep_retire(layers, first, name), -ENOENT);
    assert_int_equal(count_unused(&(struct sweep_needs){.configs = configs}, first), 0);
    assert_true(is_unpacked(image, layers));
    image_unref(image);
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

/* An image with that layer, which its configuration says to have that content. */
static struct image *image_claiming(const char *layer, const char *diff_id) {
    struct image *image = NULL;
    char text[512], config[80], manifest[80];
    snprintf(text, sizeof text, "{\"rootfs\":{\"diff_ids\":[\"%s\"]}}", diff_id);
    store_blob(slice_of(text), config);
    snprintf(text, sizeof text, "{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\"},\"layers\":[{\"digest\":\"%s\",\"size\":1}]}", config, layer);
    store_blob(slice_of(text), manifest);
    assert_int_equal(image_read(store, manifest, &image, NULL), 0);
    return image;
}

/* A hash that was seen in a configuration is no claim to what it stands for. */
UNIT_TEST(a_layer_is_of_those_who_have_a_blob_of_it) {
    char tar[1536], other[1536], packed[4 * KIB], content[80], wrong[80], again[80];
    struct diag diag = DIAG_INIT;
    make_store();
    struct slice bytes = tar_of("first", 0644, tar);
    store_blob(bytes, content);
    store_blob(tar_of("second", 0644, other), wrong);
    store_blob(slice_make(packed, ZSTD_compress(packed, sizeof packed, bytes.data, bytes.len, 1)), again);
    struct image *own_image = image_claiming(content, content), *guesser = image_claiming(wrong, content), *repacked = image_claiming(again, content);
    assert_int_equal(image_unpack(own_image, store, layers, NULL), 0);
    assert_true(image_is_unpacked(own_image, layers));
    assert_false(image_is_unpacked(guesser, layers));
    assert_int_equal(image_unpack(guesser, store, layers, &diag), -EBADMSG);
    assert_non_null(strstr(diag.message, "uncompressed content"));
    assert_false(image_is_unpacked(guesser, layers));
    assert_false(image_is_unpacked(repacked, layers));
    assert_int_equal(image_unpack(repacked, store, layers, NULL), 0);
    assert_true(image_is_unpacked(repacked, layers));
    assert_true(image_is_unpacked(own_image, layers));
    image_unref(own_image);
    image_unref(guesser);
    image_unref(repacked);
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

UNIT_TEST(a_layer_that_lost_something_is_unpacked_anew) {
    struct image *image = NULL;
    char tar[1536], manifest[80], layer[80], config[200], ignored[80], path[256], first[128];
    make_store();
    struct slice bytes = tar_of("first", 0644, tar);
    announce(bytes, manifest, layer, config);
    store_blob(slice_of(config), ignored);
    store_blob(bytes, ignored);
    assert_int_equal(image_read(store, manifest, &image, NULL), 0);
    assert_int_equal(image_unpack(image, store, layers, NULL), 0);
    assert_int_equal(image_check(image, layers), 0);
    snprintf(path, sizeof path, "%s/%s/first", layers, layer + 7);
    append(path, SLICE("longer"));
    assert_int_equal(image_check(image, layers), 1);
    assert_false(is_unpacked(image, layers));
    assert_int_equal(image_unpack(image, store, layers, NULL), 0);
    assert_int_equal(image_check(image, layers), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(image_check(image, layers), 1);
    assert_int_equal(image_unpack(image, store, layers, NULL), 0);
    assert_int_equal(access(path, F_OK), 0);

    /* Those that were set aside stay for whoever runs from them. */
    const char *const configs[] = {manifest, NULL};
    assert_int_equal(count_unused(&(struct sweep_needs){.configs = configs}, first), 0);
    assert_int_equal(count_unused(&(struct sweep_needs){0}, first), 3);
    assert_string_equal(sweep_chain(first), layer + 7);
    assert_null(sweep_chain("damaged-"));
    char boot[37];
    sys_boot_id(boot);
    snprintf(first, sizeof first, "damaged-0123456789abcdef-%s", layer + 7);
    assert_true(image_is_left_over(first)); /* of another boot */
    snprintf(first, sizeof first, "damaged-%.8s89abcdef-%s", boot, layer + 7);
    assert_string_equal(sweep_chain(first), layer + 7);
    make_stray(first);
    assert_false(image_is_left_over(first));
    assert_true(image_is_left_over("tmp-half"));
    assert_false(image_is_left_over(layer + 7));
    assert_null(sweep_chain("tmp-0123456789abcdef"));
    image_unref(image);
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

UNIT_TEST(knows_where_an_image_came_from) {
    static const struct {
        const char *record, *repo_digest;
        bool is_private, is_damaged;
    } cases[] = {{"{\"repoDigest\":\"ghcr.io/a@sha256:" HEX64 "\",\"credentials\":[]}", "ghcr.io/a@sha256:" HEX64, false, false},
                 {"{\"repoDigest\":\"ghcr.io/a@sha256:" HEX64 "\",\"credentials\":[\"00\"]}", "ghcr.io/a@sha256:" HEX64, true, false},
                 {"{\"repoDig", NULL, true, true}};
    char manifest[80];
    make_store();
    make_image(manifest);
    const struct image_reference by_tag = {.repository = "app", .tag = "v1"}, elsewhere = {.repository = "other", .digest = manifest};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct image *image = NULL;
        write_beside("_pulled", manifest, cases[i].record);
        assert_int_equal(image_resolve(store, &by_tag, &image, NULL), 0);
        assert_int_equal(image->is_pulled, cases[i].repo_digest || cases[i].is_damaged);
        assert_int_equal(image->is_private, cases[i].is_private);
        if (cases[i].repo_digest)
            assert_string_equal(image->repo_digest, cases[i].repo_digest);
        image_unref(image);
    }
    struct image *image = NULL;
    assert_int_equal(image_resolve(store, &elsewhere, &image, NULL), -ENOENT); /* its blob is here, but that repository has no such manifest */
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

/* Whoever may push may push an index that names whatever they like. */
UNIT_TEST(an_index_of_ours_is_no_way_to_what_is_private) {
    char manifest[80], index[80], text[512], path[256];
    struct image *image = NULL;
    make_store();
    make_image(manifest);
    snprintf(text, sizeof text, "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"%s\",\"platform\":{\"os\":\"linux\",\"architecture\":\"%s\"}}]}",
             manifest, sys_architecture(NULL));
    store_blob(slice_of(text), index);
    write_beside("_manifests", index, "");
    const struct image_reference reference = {.repository = "app", .digest = index};
    assert_int_equal(image_resolve(store, &reference, &image, NULL), 0);
    assert_false(image->is_private);
    image_unref(TAKE(image));
    write_beside("_pulled", manifest, "{\"repoDigest\":\"ghcr.io/a@sha256:" HEX64 "\",\"credentials\":[\"00\"]}");
    assert_int_equal(image_resolve(store, &reference, &image, NULL), 0);
    assert_true(image->is_private);
    image_unref(TAKE(image));
    snprintf(path, sizeof path, "%s/repositories/app/_manifests/%s", store, manifest + 7);
    assert_int_equal(unlink(path), 0); /* another repository's */
    assert_int_equal(image_resolve(store, &reference, &image, NULL), -ENOENT);
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

UNIT_TEST(sweeps_nothing_when_a_running_image_cannot_be_read) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct diag diag = DIAG_INIT;
    char **names = NULL;
    size_t count = 0;
    make_store();
    make_stray(HEX64);
    const char *const configs[] = {"sha256:" HEX64, NULL};
    assert_int_equal(sweep_find(arena, store, layers, &(struct sweep_needs){.configs = configs}, &names, &count, &diag), -ENOENT);
    assert_non_null(strstr(diag.message, HEX64));
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

UNIT_MAIN(UNIT(reads_references), UNIT(refuses_what_is_no_reference), UNIT(chooses_what_this_machine_runs), UNIT(refuses_bad_manifests),
          UNIT(resolves_and_unpacks), UNIT(layers_that_depend_on_each_other_find_each_other), UNIT(an_image_is_unpacked_while_it_arrives),
          UNIT(who_follows_what_ends_in_the_middle_is_told_of_the_whole), UNIT(what_does_not_arrive_whole_leaves_nothing),
          UNIT(a_damaged_blob_is_not_used), UNIT(finds_layers_that_nobody_needs), UNIT(a_layer_is_of_those_who_have_a_blob_of_it),
          UNIT(a_layer_that_lost_something_is_unpacked_anew), UNIT(knows_where_an_image_came_from),
          UNIT(an_index_of_ours_is_no_way_to_what_is_private), UNIT(sweeps_nothing_when_a_running_image_cannot_be_read))

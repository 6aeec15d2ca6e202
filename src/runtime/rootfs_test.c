/* Where an image's links lead the targets of mounts; a plain folder stands for the overlay. */
#include "runtime/rootfs.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "codec/codec.h"
#include "sys/sys.h"
#include "unit.h"

static char root[64];
static struct diag diag;
static struct arena *arena;

static void make_image(void) {
    static const char *const folders[] = {"proc", "etc", "data", "run", "usr/lib", "a/b"};
    static const struct {
        const char *name, *target;
    } links[] = {
        {"lib", "usr/lib"},        {"var", "/"},       {"up", "../../../../run"}, {"data/inside", "/etc"},
        {"loop", "loop"},          {"procs", "/proc"}, {"hidden", "a/../proc"},   {"etc/hosts", "gone"},
        {"fd", "/proc/self/fd/7"}, {"outer", "data"},  {"etc/dangling", "/x/y"},  {"zero", "a"},
    };
    char path[256];
    snprintf(root, sizeof root, "/tmp/rootfs-test-XXXXXX");
    assert_non_null(mkdtemp(root));
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        snprintf(path, sizeof path, "%s/%s", root, folders[i]);
        assert_int_equal(sys_mkdirs(path, 0755), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(links); i++) {
        snprintf(path, sizeof path, "%s/%s", root, links[i].name);
        assert_int_equal(symlink(links[i].target, path), 0);
    }
    arena = arena_new(4 * MIB);
}

static void remove_image(void) {
    sys_remove_tree(AT_FDCWD, root);
    arena_free(arena);
}

/* The targets that become of these two (the second may be NULL), in order, as "a b"; NULL with diag when they are refused. */
static const char *lead(const char *one, const char *two, const char *cwd) {
    struct buffer out = BUFFER_INIT(64 * KIB);
    struct tree *config = NULL;
    const char *text = arena_printf(arena,
                                    "{\"process\":{\"cwd\":\"%s\",\"user\":{\"uid\":%u,\"gid\":%u}},\"mounts\":[{\"type\":\"proc\",\"destination\":"
                                    "\"/proc\"},{\"type\":\"bind\",\"source\":\"/tmp\",\"destination\":\"%s\"}%s%s%s]}",
                                    cwd, geteuid(), getegid(), one, two ? ",{\"type\":\"bind\",\"source\":\"/tmp\",\"destination\":\"" : "",
                                    two ? two : "", two ? "\"}" : "");
    diag = DIAG_INIT;
    if (rootfs_prepare(root, slice_of(text), &out, &diag) < 0)
        return buffer_deinit(&out), NULL;
    assert_int_equal(json_parse(arena, buffer_slice(&out), &(struct json_options){.allow_duplicates = false}, &config, NULL), 0);
    const struct tree *mounts = tree_find(config, "mounts");
    text = arena_strdup(arena, tree_text_or(tree_find(tree_at(mounts, 1), "destination"), ""));
    if (two)
        text = arena_printf(arena, "%s %s", text, tree_text_or(tree_find(tree_at(mounts, 2), "destination"), ""));
    buffer_deinit(&out);
    return text;
}

UNIT_TEST(targets_are_led_through_links_and_stay_inside) {
    static const struct {
        const char *one, *two, *lead;
    } cases[] = {
        {"/data", NULL, "/data"},
        {"/lib/x", NULL, "/usr/lib/x"},
        {"/var/var/run", NULL, "/run"},
        {"/up/x", NULL, "/run/x"},
        {"/../../x", NULL, "/x"},
        {"/etc/hosts", NULL, "/etc/gone"},
        {"/etc/dangling/z", NULL, "/x/y/z"},
        {"//data/./x/", NULL, "/data/x"},
        {"/missing/folder", NULL, "/missing/folder"},
        {"/data", "/data/inside/x", "/data /data/inside/x"}, /* beneath a volume the image's link is hidden, and the volume's own is not followed */
        {"/data", "/outer/inside/x", "/data /data/inside/x"},
        {"/a", "/zero/b", "/a /a/b"},
        {"/b", "/zero", "/a /b"},
        {"/proc/cpuinfo", NULL, "/proc/cpuinfo"},
    };
    make_image();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *led = lead(cases[i].one, cases[i].two, "/");
        if (!led)
            fail_msg("%s: %s", cases[i].one, diag.message);
        assert_string_equal(led, cases[i].lead);
    }
    remove_image();
}

UNIT_TEST(nothing_is_mounted_over_proc_or_the_root) {
    static const char *const refused[] = {"/proc", "/proc/self/attr", "/procs/x", "/hidden/sys", "/var/proc/sysrq-trigger", "/", "/var", "/loop/x"};
    make_image();
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        assert_null(lead(refused[i], NULL, "/"));
        assert_non_null(strstr(diag.message, "cannot be mounted"));
    }
    remove_image();
}

UNIT_TEST(an_image_whose_kernel_folders_are_links_is_refused) {
    static const char *const names[] = {"dev", "proc", "sys"};
    make_image();
    assert_int_equal(unlinkat(AT_FDCWD, arena_printf(arena, "%s/proc", root), AT_REMOVEDIR), 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *path = arena_printf(arena, "%s/%s", root, names[i]);
        assert_int_equal(symlink("/tmp", path), 0);
        assert_null(lead("/data", NULL, "/"));
        assert_non_null(strstr(diag.message, arena_printf(arena, "the image's /%s is a link", names[i])));
        assert_int_equal(unlink(path), 0);
    }
    assert_non_null(lead("/data", NULL, "/")); /* absent is fine */
    remove_image();
}

UNIT_TEST(the_working_directory_is_made_inside_and_not_in_proc) {
    struct stat st;
    make_image();
    assert_non_null(lead("/data", NULL, "/lib/new/deep"));
    assert_int_equal(stat(arena_printf(arena, "%s/usr/lib/new/deep", root), &st), 0);
    assert_non_null(lead("/data", NULL, "/data/within")); /* the volume's matter */
    assert_int_equal(stat(arena_printf(arena, "%s/data/within", root), &st), -1);
    assert_null(lead("/data", NULL, "/fd"));
    assert_non_null(strstr(diag.message, "the working directory \"/fd\" is inside /proc"));
    assert_null(lead("/data", NULL, "/proc/self/fd/9"));
    remove_image();
}

/* --- the kernel's opinion --- */

static uint32_t random_below(uint32_t *seed, uint32_t limit) {
    *seed = *seed * 1664525 + 1013904223;
    return (*seed >> 8) % limit;
}

/* "a/b/../c", relative or not. */
static void random_path(uint32_t *seed, bool absolute, char ret[64]) {
    static const char *const names[] = {"a", "b", "c", "..", ".", "a", "b"};
    snprintf(ret, 64, "%s", absolute ? "/" : "");
    for (uint32_t i = 0, count = 1 + random_below(seed, 4); i < count; i++)
        snprintf(ret + strlen(ret), 64 - strlen(ret), "%s%s", i ? "/" : "", names[random_below(seed, ARRAY_LEN(names))]);
}

/* A few folders and links at random places, whatever of them can be made. */
static void random_image(uint32_t *seed) {
    snprintf(root, sizeof root, "/tmp/rootfs-test-XXXXXX");
    assert_non_null(mkdtemp(root));
    CLEANUP(fd_closep) int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 12; i++) {
        char path[64], target[64];
        random_path(seed, false, path);
        random_path(seed, random_below(seed, 2), target);
        if (strstr(path, ".."))
            continue;
        if (random_below(seed, 5) < 2)
            (void)!symlinkat(target, fd, path);
        else
            (void)mkdirat(fd, path, 0755);
    }
}

/* Where the kernel's own resolution within the root ends; "" when it ends nowhere. */
static void ask_kernel(const char *path, char ret[128]) {
    char self[64], real[256];
    CLEANUP(fd_closep) int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(fd_closep) int found = sys_open_in_root(fd, path, O_PATH | O_CLOEXEC, 0);
    snprintf(self, sizeof self, "/proc/self/fd/%d", found);
    ssize_t len = found < 0 ? -1 : readlink(self, real, sizeof real - 1);
    real[MAX(len, 0)] = 0;
    snprintf(ret, 128, "%s", len < 0 ? "" : real[strlen(root)] ? real + strlen(root) : "/");
}

UNIT_TEST(a_path_leads_where_the_kernel_says) {
    uint32_t seed = 4711;
    int compared = 0;
    for (int i = 0; i < 300; i++) {
        random_image(&seed);
        arena = arena_new(16 * MIB);
        for (int k = 0; k < 10; k++) {
            char path[64], kernel[128];
            random_path(&seed, true, path);
            ask_kernel(path, kernel);
            const char *ours = lead(path, NULL, "/");
            if (!*kernel)
                continue; /* something is missing: then we say where it would be */
            compared++;
            if (strcmp(kernel, "/") == 0 ? ours != NULL : !ours || strcmp(ours, kernel) != 0)
                fail_msg("seed %u: %s: the kernel says %s, we say %s (%s)", seed, path, kernel, ours ? ours : "nothing", diag.message);
        }
        remove_image();
    }
    assert_true(compared > 500);
}

UNIT_MAIN(UNIT(a_path_leads_where_the_kernel_says), UNIT(targets_are_led_through_links_and_stay_inside),
          UNIT(nothing_is_mounted_over_proc_or_the_root), UNIT(an_image_whose_kernel_folders_are_links_is_refused),
          UNIT(the_working_directory_is_made_inside_and_not_in_proc))

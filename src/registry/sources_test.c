#include "registry/sources_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "registry/bootstrap.h"
#include "sys/sys.h"
#include "unit.h"

static char folder[64];

static int set_up(void **state) {
    (void)state;
    char template[] = "/tmp/tidemill-sources-XXXXXX";
    if (!mkdtemp(template))
        return -1;
    snprintf(folder, sizeof folder, "%s", template);
    char path[128];
    snprintf(path, sizeof path, "%s/sources.list.d", folder);
    return mkdir(path, 0755);
}

static int tear_down(void **state) {
    (void)state;
    return sys_remove_tree(AT_FDCWD, folder);
}

static void put(const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, slice_of(text), 0644), 0);
}

UNIT_TEST(keeps_the_distributions_own_sources) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(64 * KIB);
    put("sources.list", "# a comment\n"
                        "deb http://mirror.example/debian bookworm main contrib # trailing\n"
                        "deb-src http://mirror.example/debian bookworm main\n"
                        "deb [arch=amd64 signed-by=/etc/k.asc] https://download.example.com/linux/debian bookworm stable\n"
                        "deb [signed-by=/etc/k.asc] https://evil.example/debian bookworm main\n"
                        "deb http://mirror.example/debian bookworm-backports main\n"
                        "deb cdrom:[Debian]/debian bookworm main\n");
    put("sources.list.d/debian.sources", "Types: deb deb-src\n"
                                         "# note\n"
                                         "URIs: http://deb.example/debian\n"
                                         "Suites: bookworm bookworm-updates\n"
                                         "Components: main\n"
                                         "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
                                         "\n"
                                         "Types: deb\n"
                                         "URIs: http://deb.example/debian-security\n"
                                         "Suites:\n bookworm-security\n"
                                         "Components: main\n"
                                         "Enabled: yes\n"
                                         "\n"
                                         "Types: deb\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n");
    put("sources.list.d/node.sources",
        "Types: deb\nURIs: https://deb.example/node_20.x\nSuites: nodistro\nComponents: main\nSigned-By: /usr/share/keyrings/node.gpg\n");
    assert_int_equal(bootstrap_collect_sources(folder, "bookworm", &out, NULL), 0);
    assert_string_equal(out.data, "deb http://mirror.example/debian bookworm main contrib\n"
                                  "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.example/debian bookworm main\n"
                                  "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.example/debian bookworm-updates main\n"
                                  "deb http://deb.example/debian-security bookworm-security main\n");
    buffer_reset(&out);
    assert_int_equal(bootstrap_collect_sources(folder, "trixie", &out, NULL), 0);
    assert_non_null(strstr(out.data, "deb http://deb.example/debian-security trixie-security main\n"));
    buffer_reset(&out);
    struct diag diag = DIAG_INIT;
    assert_int_equal(bootstrap_collect_sources(folder, "noble", &out, &diag), -ENOENT);
    assert_non_null(strstr(diag.message, "noble"));
}

UNIT_TEST(finds_the_release_of_a_tag) {
    char suite[64];
    assert_int_equal(sources_find_suite("debian", "12", suite, NULL), 0);
    assert_string_equal(suite, "bookworm");
    assert_int_equal(sources_find_suite("debian", "trixie-slim", suite, NULL), 0);
    assert_string_equal(suite, "trixie");
    assert_int_equal(sources_find_suite("ubuntu", "24.04", suite, NULL), 0);
    assert_string_equal(suite, "noble");
    assert_int_equal(sources_find_suite("debian", "7", suite, NULL), -EINVAL);
    assert_int_equal(sources_find_suite("alpine", "3", suite, NULL), -EINVAL);
}

UNIT_TEST(bad_wishes_change_nothing) {
    struct bootstrap_result result;
    static const char *const includes[] = {"a; rm -rf /", NULL};
    struct diag diag = DIAG_INIT;
    struct bootstrap_options options = {
        .image = "debian:12", .includes = includes, .endpoint = {.address = "unix:/nonexistent"}, .apt_folder = folder};
    assert_int_equal(registry_bootstrap(&options, &result, &diag), -EINVAL);
    assert_non_null(strstr(diag.message, "no valid name of a package"));
    options = (struct bootstrap_options){.image = "Debian", .endpoint = {.address = "unix:/nonexistent"}};
    assert_int_equal(registry_bootstrap(&options, &result, NULL), -EINVAL);
    options = (struct bootstrap_options){.image = "debian:12", .suite = "$(reboot)", .endpoint = {.address = "unix:/nonexistent"}};
    assert_int_equal(registry_bootstrap(&options, &result, NULL), -EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(keeps_the_distributions_own_sources), UNIT(finds_the_release_of_a_tag), UNIT(bad_wishes_change_nothing)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* Settings: flags over file over defaults, and what is refused. */
#include "cli/settings_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "sys/sys.h"
#include "unit.h"

static const struct command command = {.name = "up", .more_flags = settings_flags};

/* An invocation with pairs of flag and value, ends with NULL. */
static struct invocation invoke(const char *const *pairs) {
    struct invocation invocation = {.command = &command};
    for (; pairs && pairs[0]; pairs += 2)
        for (const struct flag *flag = settings_flags; flag->name; flag++)
            if (strcmp(flag->name, pairs[0]) == 0) {
                invocation.values[invocation.values_count].flag = flag;
                invocation.values[invocation.values_count++].value = pairs[1];
            }
    return invocation;
}

static void write_file(char *path, const char *text) {
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

UNIT_TEST(flags_beat_the_file_which_beats_defaults) {
    char path[] = "/tmp/tidemill-settings-XXXXXX";
    write_file(path, "instance: fromfile\ndomain: example.com\nhttpListen: 127.0.0.1:81\n");
    struct invocation invocation = invoke((const char *const[]){"config", path, "http-listen", "127.0.0.1:82", NULL});
    struct settings settings;
    struct diag diag = DIAG_INIT;
    assert_int_equal(settings_read(&invocation, &settings, &diag), 0);
    assert_string_equal(settings.instance, "fromfile");
    assert_string_equal(settings.domain, "example.com");
    assert_string_equal(settings.http_listen, "127.0.0.1:82");
    assert_string_equal(settings.api_listen, "127.0.0.1:6443");
    assert_string_equal(settings_bridge_address(&settings), "10.88.0.1");
    settings_deinit(&settings);
    unlink(path);
}

UNIT_TEST(another_process_gets_the_same) {
    struct invocation invocation = invoke((const char *const[]){"state", "/a/state", "pod-cidr", "10.1.0.0/16", "node-name", "n", NULL}),
                      again = {.command = &command};
    struct settings settings, copy;
    struct diag diag = DIAG_INIT;
    assert_int_equal(settings_read(&invocation, &settings, &diag), 0);
    const char *const *argv = settings_argv(&settings, "/bin/x", "core");
    assert_string_equal(argv[0], "/bin/x");
    assert_string_equal(argv[1], "core");
    const char *pairs[64] = {NULL};
    for (size_t i = 2; argv[i]; i++)
        pairs[i - 2] = argv[i] + ((i & 1) ? 0 : 2);
    again = invoke(pairs);
    assert_int_equal(settings_read(&again, &copy, &diag), 0);
    assert_string_equal(copy.state, "/a/state");
    assert_string_equal(copy.pod_cidr, "10.1.0.0/16");
    assert_string_equal(copy.log_level, settings.log_level);
    settings_deinit(&settings);
    settings_deinit(&copy);
}

/* So that a platform can be stopped and asked by the version before the one that started it. */
UNIT_TEST(what_a_newer_version_left_is_read) {
    char folder[] = "/tmp/tidemill-running-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/settings.yaml", folder);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, SLICE("{\"domain\": \"example.com\", \"ofTheFuture\": [1]}"), 0644), 0);
    struct invocation invocation = invoke((const char *const[]){"run", folder, NULL});
    struct settings settings;
    struct diag diag = DIAG_INIT;
    assert_int_equal(settings_read_running(&invocation, &settings, &diag), 0);
    assert_string_equal(settings.domain, "example.com");
    settings_deinit(&settings);
    assert_int_equal(sys_remove_tree(AT_FDCWD, folder), 0);
}

static void check_api_for_pods(const char *listen, const char *expected) {
    struct settings settings;
    struct diag diag = DIAG_INIT;
    struct invocation invocation = invoke((const char *const[]){"api-listen", listen, "pod-cidr", "10.7.0.0/16", NULL});
    assert_int_equal(settings_read(&invocation, &settings, &diag), 0);
    const char *seen = settings_api_pods_address(&settings);
    assert_string_equal(seen ? seen : "", expected);
    settings_deinit(&settings);
}

UNIT_TEST(pods_reach_the_api_at_the_bridge) {
    check_api_for_pods("127.0.0.1:6443", "10.7.0.1:6443");
    check_api_for_pods("192.0.2.1:8443", "10.7.0.1:8443");
    check_api_for_pods("0.0.0.0:6443", "");
}

UNIT_TEST(bad_values_are_told) {
    static const struct {
        const char *flag, *value, *words;
    } cases[] = {
        {"instance", "Has Blank", "--instance"},      {"instance", "elevenchars", "--instance"},  {"api-listen", "nowhere", "--api-listen"},
        {"pod-cidr", "10.0.0.0/33", "--pod-cidr"},    {"pod-cidr", "10.0.0.1/16", "--pod-cidr"},  {"service-cidr", "x", "--service-cidr"},
        {"pod-cidr6", "fd00::/200", "--pod-cidr6"},   {"pod-cidr6", "10.0.0.0/8", "--pod-cidr6"}, {"pod-cidr6", "", "--pod-cidr6"},
        {"domain", "not a domain", "--domain"},       {"node-name", "UPPER", "--node-name"},      {"log-level", "loud", "--log-level"},
        {"config", "/does/not/exist", "cannot read"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct invocation invocation = invoke((const char *const[]){cases[i].flag, cases[i].value, NULL});
        struct settings settings;
        struct diag diag = DIAG_INIT;
        assert_int_not_equal(settings_read(&invocation, &settings, &diag), 0);
        if (!strstr(diag.message, cases[i].words))
            fail_msg("%s=%s: %s", cases[i].flag, cases[i].value, diag.message);
    }
}

UNIT_MAIN(UNIT(flags_beat_the_file_which_beats_defaults), UNIT(another_process_gets_the_same), UNIT(what_a_newer_version_left_is_read),
          UNIT(pods_reach_the_api_at_the_bridge), UNIT(bad_values_are_told))

#include <stdio.h>

#include "codec/codec.h"
#include "runtime/bundle.h"
#include "runtime/seccomp.h"

#include "faults.h"
#include "unit.h"

/* A container is described whole or not at all: one mask less would be a hole. */
static int describe(__attribute__((unused)) void *context) {
    static char expected[64 * KIB];
    static const char *const args[] = {"/bin/sh", "-c", "x", NULL}, *const env[] = {"A=b", NULL};
    static const struct bundle_mount mounts[] = {{.source = "/host/x", .destination = "/data", .read_only = true}};
    const struct bundle bundle = {.process = {.args = args, .env = env, .capabilities = BUNDLE_CAPABILITIES_DEFAULT, .no_new_privileges = true},
                                  .rootfs = "rootfs",
                                  .network_namespace = "/ns/net",
                                  .cgroup_path = "/t/pod/c",
                                  .limits = {.memory_bytes = 1000, .cpu_shares = 5, .pids = 9},
                                  .mounts = mounts,
                                  .mounts_count = 1,
                                  .seccomp_program = "QUJD"};
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(BUNDLE_BYTES_MAX);
    int r = bundle_format(&bundle, &json);
    if (r == 0 && !faults_struck())
        snprintf(expected, sizeof expected, "%s", json.data);
    if (r == 0)
        assert_string_equal(json.data, expected);
    return r;
}

static int compile(__attribute__((unused)) void *context) {
    static size_t len;
    CLEANUP(buffer_deinit) struct buffer program = BUFFER_INIT(MIB);
    int r = seccomp_program(BUNDLE_CAPABILITIES_DEFAULT, &program);
    if (r == 0 && !faults_struck())
        len = program.len;
    if (r == 0)
        assert_int_equal(program.len, len);
    return r;
}

UNIT_TEST(a_container_is_confined_whole_or_not_at_all) {
    TEST_FAULTS(describe, NULL);
    TEST_FAULTS_ANY(compile, NULL);
}

UNIT_MAIN(UNIT(a_container_is_confined_whole_or_not_at_all))

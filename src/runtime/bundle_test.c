/* config.json, as text that is read again. */
#include "codec/codec.h"
#include "runtime/bundle.h"
#include "runtime/seccomp.h"
#include "unit.h"

static struct tree *format(struct arena *arena, const struct bundle *bundle) {
    struct buffer json = BUFFER_INIT(BUNDLE_BYTES_MAX);
    struct tree *root = NULL;
    assert_int_equal(bundle_format(bundle, &json), 0);
    assert_int_equal(json_parse(arena, buffer_slice(&json), &(struct json_options){.allow_duplicates = false}, &root, NULL), 0);
    buffer_deinit(&json);
    return root;
}

static bool has_mount(const struct tree *root, const char *destination, const char *option) {
    const struct tree *mounts = tree_find(root, "mounts");
    for (size_t i = 0; i < tree_count(mounts); i++) {
        const struct tree *mount = tree_at(mounts, i), *options = tree_find(mount, "options");
        for (size_t k = 0; k < tree_count(options); k++)
            if (strcmp(tree_text_or(tree_find(mount, "destination"), ""), destination) == 0 &&
                strcmp(tree_text_or(tree_at(options, k), ""), option) == 0)
                return true;
    }
    return false;
}

static struct bundle bundle_of(void) {
    static const char *const args[] = {"/bin/sh", "-c", "echo \"$(quoted)\" \n", NULL}, *const env[] = {"A=b", NULL};
    static const struct bundle_mount mounts[] = {{.source = "/host/x", .destination = "/data", .read_only = true}};
    return (struct bundle){.process = {.args = args, .env = env, .capabilities = BUNDLE_CAPABILITIES_DEFAULT, .no_new_privileges = true},
                           .rootfs = "rootfs",
                           .network_namespace = "/ns/net",
                           .cgroup_path = "/t/pod/c",
                           .limits = {.memory_bytes = 1000, .cpu_shares = 5, .pids = 9},
                           .mounts = mounts,
                           .mounts_count = 1,
                           .seccomp_program = "QUJD"};
}

UNIT_TEST(describes_a_confined_container) {
    struct arena *arena = arena_new(16 * MIB);
    struct bundle bundle = bundle_of();
    struct tree *root = format(arena, &bundle);
    assert_string_equal(tree_text_or(tree_at(tree_path(root, "process.args"), 2), ""), "echo \"$(quoted)\" \n");
    assert_true(tree_bool_or(tree_path(root, "process.noNewPrivileges"), false));
    assert_int_equal(tree_count(tree_path(root, "process.capabilities.effective")), 14);
    assert_null(tree_path(root, "process.capabilities.inheritable"));
    assert_true(tree_count(tree_path(root, "linux.maskedPaths")) > 5);
    assert_int_equal(tree_int_or(tree_path(root, "linux.resources.memory.limit"), 0), 1000);
    assert_int_equal(tree_int_or(tree_path(root, "linux.resources.pids.limit"), 0), 9);
    assert_false(tree_bool_or(tree_find(tree_at(tree_path(root, "linux.resources.devices"), 0), "allow"), true));
    assert_string_equal(tree_text_or(tree_find(tree_find(root, "annotations"), "run.oci.seccomp_bpf_data"), ""), "QUJD");
    assert_true(has_mount(root, "/data", "ro"));
    assert_true(has_mount(root, "/sys", "ro"));
    arena_free(arena);
}

UNIT_TEST(a_user_namespace_gets_what_it_may_not_mount_itself) {
    struct arena *arena = arena_new(16 * MIB);
    struct bundle bundle = bundle_of();
    bundle.user_namespace = "/ns/user";
    bundle.id_base = 131072;
    bundle.sysfs = "/m/sys";
    bundle.mqueue = "/m/queue";
    struct tree *root = format(arena, &bundle);
    const struct tree *mapping = tree_at(tree_path(root, "linux.gidMappings"), 0);
    assert_int_equal(tree_int_or(tree_find(mapping, "hostID"), 0), 131072);
    assert_int_equal(tree_int_or(tree_find(mapping, "size"), 0), 65536);
    assert_true(has_mount(root, "/sys", "rbind") && has_mount(root, "/sys", "ro") && has_mount(root, "/dev/mqueue", "rbind"));
    arena_free(arena);
}

static const struct tree *pid_namespace(const struct tree *root) {
    const struct tree *list = tree_path(root, "linux.namespaces");
    for (size_t i = 0; i < tree_count(list); i++)
        if (strcmp(tree_text_or(tree_find(tree_at(list, i), "type"), ""), "pid") == 0)
            return tree_at(list, i);
    return NULL;
}

UNIT_TEST(processes_are_its_own_another_s_or_the_hosts) {
    struct arena *arena = arena_new(16 * MIB);
    struct bundle bundle = bundle_of();
    const struct tree *own = pid_namespace(format(arena, &bundle));
    assert_non_null(own);
    assert_null(tree_find(own, "path"));
    bundle.pid_namespace = "/proc/7/ns/pid";
    assert_string_equal(tree_text_or(tree_find(pid_namespace(format(arena, &bundle)), "path"), ""), "/proc/7/ns/pid");
    bundle.host_pid = true;
    assert_null(pid_namespace(format(arena, &bundle)));
    arena_free(arena);
}

UNIT_TEST(another_user_has_no_effective_capabilities) {
    struct arena *arena = arena_new(16 * MIB);
    struct bundle bundle = bundle_of();
    bundle.process.uid = 1000;
    struct tree *root = format(arena, &bundle);
    assert_int_equal(tree_count(tree_path(root, "process.capabilities.effective")), 0);
    assert_int_equal(tree_count(tree_path(root, "process.capabilities.bounding")), 14);
    arena_free(arena);
}

UNIT_TEST(a_privileged_container_is_not_masked) {
    struct arena *arena = arena_new(16 * MIB);
    struct bundle bundle = bundle_of();
    bundle.privileged = true;
    bundle.host_pid = true;
    struct tree *root = format(arena, &bundle);
    assert_null(tree_path(root, "linux.maskedPaths"));
    assert_true(tree_bool_or(tree_find(tree_at(tree_path(root, "linux.resources.devices"), 0), "allow"), false));
    assert_false(has_mount(root, "/sys", "ro"));
    const struct tree *namespaces = tree_path(root, "linux.namespaces");
    for (size_t i = 0; i < tree_count(namespaces); i++)
        assert_string_not_equal(tree_text_or(tree_find(tree_at(namespaces, i), "type"), ""), "pid");
    arena_free(arena);
}

UNIT_TEST(knows_capabilities) {
    assert_int_equal(bundle_capability(SLICE("CHOWN")), 1);
    assert_int_equal(bundle_capability(SLICE("cap_net_admin")), 1 << 12);
    assert_true(bundle_capability(SLICE("ALL")) == BUNDLE_CAPABILITIES_ALL);
    assert_int_equal(bundle_capability(SLICE("EVERYTHING")), 0);
    assert_int_equal(bundle_capability(SLICE("")), 0);
}

UNIT_TEST(compiles_the_seccomp_profile) {
    struct buffer plain = BUFFER_INIT(MIB), admin = BUFFER_INIT(MIB);
    assert_int_equal(seccomp_program(BUNDLE_CAPABILITIES_DEFAULT, &plain), 0);
    assert_int_equal(seccomp_program(BUNDLE_CAPABILITIES_ALL, &admin), 0);
    assert_true(plain.len > 500);
    assert_false(slice_equal(buffer_slice(&plain), buffer_slice(&admin)));
    buffer_deinit(&plain);
    buffer_deinit(&admin);
}

UNIT_TEST(compiles_profiles_that_somebody_wrote) {
    static const char head[] = "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38,\"syscalls\":[", tail[] = "]}";
    static const struct {
        const char *entry, *wrong; /* wrong NULL: it compiles */
        bool matters;              /* the program differs from that of no entry */
    } cases[] = {
        {"{\"names\":[\"read\",\"no_such_call\"],\"action\":\"SCMP_ACT_ALLOW\"}", NULL, true},
        {"{\"name\":\"read\",\"action\":\"SCMP_ACT_LOG\"}", NULL, true},
        {"{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":38}", NULL, false},
        {"{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}}", NULL, false},
        {"{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"excludes\":{\"caps\":[\"CAP_CHOWN\"]}}", NULL, false},
        {"{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"minKernel\":\"4.8\",\"caps\":[\"CAP_CHOWN\"]}}", NULL, true},
        {"{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"minKernel\":\"999.0\"}}", NULL, false},
        {"{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"excludes\":{\"arches\":[\"amd64\",\"arm64\"]}}", NULL, false},
        {"{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"value\":1,\"op\":\"SCMP_CMP_EQ\"},"
         "{\"index\":0,\"value\":2,\"op\":\"SCMP_CMP_EQ\"}]}",
         NULL, true},
        {"{\"names\":[\"read\"],\"action\":\"SCMP_ACT_NOTIFY\"}", "\"SCMP_ACT_NOTIFY\" is no action", false},
        {"{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":9,\"op\":\"SCMP_CMP_EQ\"}]}", "unknown index", false},
    };
    struct buffer empty = BUFFER_INIT(MIB);
    assert_int_equal(seccomp_profile_program(SLICE("{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38}"), 1, &empty, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buffer json = BUFFER_INIT(KIB), program = BUFFER_INIT(MIB);
        struct diag diag = DIAG_INIT;
        buffer_printf(&json, "%s%s%s", head, cases[i].entry, tail);
        int r = seccomp_profile_program(buffer_slice(&json), BUNDLE_CAPABILITIES_DEFAULT, &program, &diag);
        if (r != (cases[i].wrong ? -EINVAL : 0) || (cases[i].wrong && !strstr(diag.message, cases[i].wrong)) ||
            (r == 0 && slice_equal(buffer_slice(&program), buffer_slice(&empty)) == cases[i].matters))
            fail_msg("%s: %d %s", cases[i].entry, r, diag.message);
        buffer_deinit(&json);
        buffer_deinit(&program);
    }
    assert_int_equal(seccomp_profile_program(SLICE("{}"), 1, &empty, NULL), -EINVAL);
    assert_int_equal(seccomp_profile_program(SLICE("[1"), 1, &empty, NULL), -EINVAL);
    buffer_deinit(&empty);
}

UNIT_MAIN(UNIT(a_user_namespace_gets_what_it_may_not_mount_itself), UNIT(describes_a_confined_container),
          UNIT(processes_are_its_own_another_s_or_the_hosts), UNIT(another_user_has_no_effective_capabilities),
          UNIT(a_privileged_container_is_not_masked), UNIT(knows_capabilities), UNIT(compiles_the_seccomp_profile),
          UNIT(compiles_profiles_that_somebody_wrote))

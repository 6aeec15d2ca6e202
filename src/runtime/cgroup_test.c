/* Control groups against trees of plain files. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "runtime/cgroup.h"
#include "sys/sys.h"
#include "unit.h"

static char root[64];

static void write_at(const char *path, const char *text) {
    char full[300];
    snprintf(full, sizeof full, "%s/%s", root, path);
    char *slash = strrchr(full, '/');
    *slash = 0;
    assert_int_equal(sys_mkdirs(full, 0755), 0);
    *slash = '/';
    assert_int_equal(sys_write_file_fast(AT_FDCWD, full, slice_of(text), 0644), 0);
}

static void assert_at(const char *path, const char *expected) {
    char full[300];
    struct buffer text = BUFFER_INIT(4096);
    snprintf(full, sizeof full, "%s/%s", root, path);
    assert_int_equal(sys_read_file(AT_FDCWD, full, 4095, &text), 0);
    assert_true(slice_is(slice_head(buffer_slice(&text), strlen(expected)), expected) && (*expected || !text.len));
    buffer_deinit(&text);
}

static void make_root(void) {
    snprintf(root, sizeof root, "/tmp/cgroup-XXXXXX");
    assert_non_null(mkdtemp(root));
}
static void remove_root(void) {
    assert_int_equal(sys_remove_tree(AT_FDCWD, root), 0);
}

UNIT_TEST(version_2) {
    struct cgroups cgroups;
    struct cgroup_usage usage;
    const struct cgroup_limits limits = {.cpu_shares = 1024, .cpu_quota_us = 50000, .memory_bytes = 1 << 20, .pids = 7};
    make_root();
    write_at("cgroup.controllers", "cpu memory pids rdma\n");
    write_at("cgroup.subtree_control", "cpu");
    write_at("t/cgroup.controllers", "cpu memory pids\n");
    write_at("t/cgroup.subtree_control", "cpu memory pids\n");
    static const char *const files[] = {"cpu.weight", "cpu.max", "memory.max", "memory.swap.max", "pids.max", "cgroup.procs", "cgroup.kill"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[100];
        snprintf(path, sizeof path, "t/pod/%s", files[i]);
        write_at(path, "");
    }
    assert_int_equal(cgroups_detect(root, &cgroups, NULL), 0);
    assert_int_equal(cgroups.version, CGROUP_V2);
    assert_int_equal(cgroup_create(&cgroups, "/t/pod", &limits), 0);
    assert_at("t/pod/cpu.weight", "39");
    assert_at("t/pod/cpu.max", "50000 100000");
    assert_at("t/pod/memory.max", "1048576");
    assert_at("t/pod/memory.swap.max", "0");
    assert_at("t/pod/pids.max", "7");
    assert_at("cgroup.subtree_control", "+pids"); /* the last of those that were missing (written over the text); nobody wants rdma */
    assert_at("t/cgroup.subtree_control", "cpu memory pids\n");
    assert_true(cgroups_has(&cgroups, "pids"));
    assert_false(cgroups_has(&cgroups, "hugetlb"));
    assert_int_equal(cgroup_attach(&cgroups, "/t/pod", 42), 0);
    assert_at("t/pod/cgroup.procs", "42");
    assert_int_equal(cgroup_kill(&cgroups, "/t/pod"), 0);
    assert_at("t/pod/cgroup.kill", "1");
    write_at("t/pod/cpu.stat", "usage_usec 1500\nuser_usec 1\nsystem_usec 2\nnr_periods 9\nnr_throttled 3\nthrottled_usec 5\n");
    write_at("t/pod/memory.current", "1000\n");
    write_at("t/pod/memory.stat", "anon 1\nfile 500\ninactive_file 400\n");
    write_at("t/pod/memory.events", "low 0\nmax 8\noom 1\noom_kill 2\n");
    write_at("t/pod/memory.peak", "2000\n");
    write_at("t/pod/pids.current", "3\n");
    cgroup_usage(&cgroups, "/t/pod", &usage);
    assert_int_equal(usage.cpu_ns, 1500000);
    assert_int_equal(usage.memory_bytes, 600);
    assert_int_equal(usage.oom_kills, 2);
    assert_int_equal(cgroup_oom_kills(&cgroups, "/t/pod"), 2);
    assert_int_equal(usage.pids, 3);
    assert_int_equal(usage.memory_peak, 0);
    cgroup_usage_all(&cgroups, "/t/pod", &usage);
    assert_int_equal(usage.memory_peak, 2000);
    assert_int_equal(usage.throttled_ns, 5000);
    assert_int_equal(usage.throttled_periods, 3);
    assert_int_equal(usage.memory_rss, 1);
    assert_int_equal(usage.memory_cache, 500);
    assert_true(cgroup_exists(&cgroups, "/t/pod"));
    assert_false(cgroup_exists(&cgroups, "/t/other"));
    remove_root();
}

UNIT_TEST(version_1_and_hybrid) {
    struct cgroups cgroups;
    struct cgroup_usage usage;
    const struct cgroup_limits limits = {.cpu_shares = 512, .cpu_quota_us = 50000, .memory_bytes = 1 << 20, .pids = 7};
    make_root();
    static const char *const files[] = {"cpu,cpuacct/cgroup.procs",
                                        "memory/cgroup.procs",
                                        "pids/cgroup.procs",
                                        "cpuset/cgroup.procs",
                                        "unified/cgroup.procs",
                                        "cpu,cpuacct/t/pod/cpu.shares",
                                        "cpu,cpuacct/t/pod/cpu.cfs_quota_us",
                                        "cpu,cpuacct/t/pod/cpu.cfs_period_us",
                                        "memory/t/pod/memory.limit_in_bytes",
                                        "pids/t/pod/pids.max",
                                        "cpuset/t/cpuset.cpus",
                                        "cpuset/t/cpuset.mems",
                                        "cpuset/t/pod/cpuset.cpus",
                                        "cpuset/t/pod/cpuset.mems"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        write_at(files[i], "");
    write_at("cpuset/cpuset.cpus", "0-1\n");
    write_at("cpuset/cpuset.mems", "0\n");
    assert_int_equal(cgroups_detect(root, &cgroups, NULL), 0);
    assert_int_equal(cgroups.version, CGROUP_V1);
    assert_true(cgroups.is_hybrid);
    assert_int_equal(cgroups.controllers_count, 4);
    assert_int_equal(cgroup_create(&cgroups, "/t/pod", &limits), 0);
    assert_at("cpu,cpuacct/t/pod/cpu.shares", "512");
    assert_at("cpu,cpuacct/t/pod/cpu.cfs_quota_us", "50000");
    assert_at("cpu,cpuacct/t/pod/cpu.cfs_period_us", "100000");
    assert_at("memory/t/pod/memory.limit_in_bytes", "1048576"); /* memory.memsw is not there: no swap accounting */
    assert_at("pids/t/pod/pids.max", "7");
    assert_at("cpuset/t/pod/cpuset.cpus", "0-1");
    write_at("cpu,cpuacct/t/pod/cpuacct.usage", "77\n");
    write_at("memory/t/pod/memory.usage_in_bytes", "100\n");
    write_at("memory/t/pod/memory.stat", "total_inactive_file 300\n");
    write_at("memory/t/pod/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
    cgroup_usage(&cgroups, "/t/pod", &usage);
    assert_int_equal(usage.cpu_ns, 77);
    assert_int_equal(usage.memory_bytes, 0); /* never below zero */
    assert_int_equal(usage.oom_kills, 1);
    write_at("cpu,cpuacct/t/pod/cpuacct.stat", "user 2\nsystem 3\n");
    write_at("cpu,cpuacct/t/pod/cpu.stat", "nr_periods 4\nnr_throttled 2\nthrottled_time 7\n");
    cgroup_usage_all(&cgroups, "/t/pod", &usage);
    assert_int_equal(usage.cpu_user_ns, 20000000);
    assert_int_equal(usage.cpu_system_ns, 30000000);
    assert_int_equal(usage.throttled_ns, 7);
    remove_root();
}

/* What a change of a running group writes, and what becomes of a limit without a controller. */
UNIT_TEST(limits_are_changed_and_taken_away) {
    struct cgroups cgroups;
    const struct cgroup_limits none = {.cpu_quota_us = CGROUP_UNLIMITED, .memory_bytes = CGROUP_UNLIMITED, .pids = CGROUP_UNLIMITED};
    const struct cgroup_limits batch = {.cpu_shares = 2, .idle = true, .kill_all = true};
    const struct cgroup_limits huge = {.hugepages = {{"2MB", 4 << 20}}, .hugepages_count = 1};
    make_root();
    write_at("cgroup.controllers", "cpu memory\n");
    static const char *const files[] = {"cpu.weight", "cpu.idle",        "io.weight",        "cpu.max",
                                        "memory.max", "memory.swap.max", "memory.oom.group", "hugetlb.2MB.max"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[100];
        snprintf(path, sizeof path, "g/%s", files[i]);
        write_at(path, "");
    }
    assert_int_equal(cgroups_detect(root, &cgroups, NULL), 0);
    assert_int_equal(cgroup_limit(&cgroups, "/g", &none), 0); /* that there is no pids.max is no matter */
    assert_at("g/cpu.max", "max 100000");
    assert_at("g/memory.max", "max");
    assert_at("g/memory.swap.max", "max");
    assert_at("g/cpu.weight", "");
    assert_int_equal(cgroup_limit(&cgroups, "/g", &batch), 0);
    assert_at("g/cpu.weight", "1");
    assert_at("g/cpu.idle", "1");
    assert_at("g/io.weight", "1");
    assert_at("g/memory.oom.group", "1");
    assert_at("g/memory.max", "max");
    assert_int_equal(cgroup_limit(&cgroups, "/g", &huge), 0);
    assert_at("g/hugetlb.2MB.max", "4194304");
    assert_int_equal(cgroup_limit(&cgroups, "/g", &(struct cgroup_limits){.pids = 5}), 0);
    char path[100];
    snprintf(path, sizeof path, "%s/g/memory.max", root);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(cgroup_limit(&cgroups, "/g", &(struct cgroup_limits){.memory_bytes = 1 << 20}), -ENOTSUP);
    assert_int_equal(cgroup_limit(&cgroups, "/g", &none), 0);
    remove_root();
}

/* In a container the root of the tree is an ordinary group: it may not hold processes and pass controllers down. */
UNIT_TEST(processes_of_a_root_that_is_none_move_aside) {
    struct cgroups cgroups;
    make_root();
    write_at("cgroup.controllers", "memory\n");
    write_at("cgroup.subtree_control", "");
    write_at("cgroup.procs", "41\n42\n");
    write_at("init/cgroup.procs", "");
    assert_int_equal(cgroups_detect(root, &cgroups, NULL), 0);
    assert_int_equal(cgroup_create(&cgroups, "/a", NULL), 0);
    assert_at("init/cgroup.procs", ""); /* the real root may */
    assert_at("cgroup.subtree_control", "+memory");
    write_at("cgroup.type", "domain\n");
    write_at("cgroup.subtree_control", "");
    assert_int_equal(cgroup_create(&cgroups, "/a", NULL), 0);
    assert_at("init/cgroup.procs", "42");
    assert_at("cgroup.subtree_control", "+memory");
    write_at("cgroup.procs", "0\n1\n"); /* somebody outside, and ourselves in a container of our own */
    write_at("cgroup.subtree_control", "");
    write_at("init/cgroup.procs", "");
    assert_int_equal(cgroup_create(&cgroups, "/a", NULL), 0);
    assert_at("init/cgroup.procs", "1");
    remove_root();
}

UNIT_TEST(a_threaded_root_is_a_clear_error) {
    struct cgroups cgroups;
    struct diag diag = DIAG_INIT;
    make_root();
    write_at("cgroup.controllers", "cpu\n");
    write_at("cgroup.type", "threaded\n");
    assert_int_equal(cgroups_detect(root, &cgroups, &diag), -ENOTSUP);
    assert_non_null(strstr(diag.message, "\"threaded\""));
    remove_root();
}

UNIT_TEST(empty_groups_are_removed) {
    struct cgroups cgroups;
    char path[100];
    make_root();
    write_at("cgroup.controllers", "");
    assert_int_equal(cgroups_detect(root, &cgroups, NULL), 0);
    assert_int_equal(cgroup_create(&cgroups, "/a/b/c", NULL), 0);
    assert_true(cgroup_exists(&cgroups, "/a/b/c"));
    assert_int_equal(cgroup_remove(&cgroups, "/a"), 0);
    snprintf(path, sizeof path, "%s/a", root);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(cgroup_remove(&cgroups, "/a"), 0); /* absent is fine */
    remove_root();
}

UNIT_TEST(no_groups_is_a_clear_error) {
    struct cgroups cgroups;
    struct diag diag = DIAG_INIT;
    make_root();
    assert_int_equal(cgroups_detect(root, &cgroups, &diag), -ENOTSUP);
    assert_non_null(strstr(diag.message, "no control groups"));
    assert_non_null(strstr(diag.hint, "mount"));
    remove_root();
}

UNIT_TEST(kubernetes_formulas) {
    assert_int_equal(cgroup_shares_of_milli(1000), 1024);
    assert_int_equal(cgroup_shares_of_milli(0), 2);
    assert_int_equal(cgroup_shares_of_milli(INT64_MAX), 262144);
    assert_int_equal(cgroup_weight_of_shares(2), 1);
    assert_int_equal(cgroup_weight_of_shares(1024), 39);
    assert_int_equal(cgroup_weight_of_shares(262144), 10000);
    assert_int_equal(cgroup_quota_of_milli(500), 50000);
    assert_int_equal(cgroup_quota_of_milli(1), 1000);
}

UNIT_TEST(who_is_in_a_group) {
    const struct slice text = SLICE("9:pids:/outer/t/pod\n1:cpu:/t/pods\n0::/\n");
    assert_true(cgroup_text_names(text, "/t/pod"));
    assert_true(cgroup_text_names(text, "/outer/t"));
    assert_true(cgroup_text_names(SLICE("0::/t/pod/inner"), "/t/pod"));
    assert_false(cgroup_text_names(text, "/pod/t"));
    assert_false(cgroup_text_names(text, "/t/po"));
    assert_false(cgroup_text_names(SLICE("0::/t\n"), "/t/pod"));
    assert_false(cgroup_text_names(SLICE(""), "/t/pod"));
    assert_true(cgroup_text_names(SLICE("0::/t/pod (deleted)\n"), "/t/pod"));
    assert_true(cgroup_text_is_of_ending(SLICE("9:pids:/\n1:name=systemd:/\n0::/some.service\n")));
    assert_false(cgroup_text_is_of_ending(SLICE("9:pids:/t\n1:cpu:/\n0::/\n")));
    assert_false(cgroup_text_is_of_ending(SLICE("0::/\n")));
    assert_false(cgroup_text_is_of_ending(SLICE("")));
}

UNIT_MAIN(UNIT(version_2), UNIT(version_1_and_hybrid), UNIT(limits_are_changed_and_taken_away), UNIT(processes_of_a_root_that_is_none_move_aside),
          UNIT(a_threaded_root_is_a_clear_error), UNIT(empty_groups_are_removed), UNIT(no_groups_is_a_clear_error), UNIT(kubernetes_formulas),
          UNIT(who_is_in_a_group))

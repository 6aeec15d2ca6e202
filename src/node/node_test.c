/* The node's pure parts: variables in environments, users of an image. */
#include <fcntl.h>
#include <sys/stat.h>

#include "node/node_priv.h"
#include "sys/sys.h"
#include "unit.h"

static void check_expand(const char *text, const char *expected) {
    static const char *const env[] = {"A=1", "LONG_NAME=value", "EMPTY=", NULL};
    struct arena *arena = arena_new(64 * KIB);
    assert_string_equal(environment_expand(arena, text, env), expected);
    arena_free(arena);
}

UNIT_TEST(expands_variables_as_kubernetes_does) {
    check_expand("", "");
    check_expand("plain", "plain");
    check_expand("$(A)", "1");
    check_expand("x$(A)y$(LONG_NAME)", "x1yvalue");
    check_expand("$(EMPTY)|", "|");
    check_expand("$(UNKNOWN)", "$(UNKNOWN)");
    check_expand("$$(A)", "$(A)");
    check_expand("$$$(A)", "$1");
    check_expand("$A ${A} $", "$A ${A} $");
    check_expand("$(A", "$(A");
    check_expand("$()", "$()");
    check_expand("$(A)$(A)", "11");
}

static char dir[64], low[80], high[80];

static void make_layers(void) {
    char path[128];
    snprintf(dir, sizeof dir, "/tmp/identity-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(low, sizeof low, "%s/low", dir);
    snprintf(high, sizeof high, "%s/high", dir);
    snprintf(path, sizeof path, "%s/etc", low);
    assert_int_equal(sys_mkdirs(path, 0755), 0);
    assert_int_equal(sys_mkdirs(high, 0755), 0);
    snprintf(path, sizeof path, "%s/etc/passwd", low);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, SLICE("root:x:0:0::/root:/bin/sh\nbroken\napp:x:1000:1001::/home/app:/bin/sh\n"), 0644), 0);
    snprintf(path, sizeof path, "%s/etc/group", low);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, SLICE("root:x:0:\napp:x:1001:\nextra:x:2000:other,app\n"), 0644), 0);
}

UNIT_TEST(finds_users_in_the_image) {
    struct identity identity;
    struct diag diag = DIAG_INIT;
    make_layers();
    const char *const layers[] = {high, low};
    assert_int_equal(identity_resolve(layers, 2, "", &identity, &diag), 0);
    assert_int_equal(identity.uid, 0);
    assert_string_equal(identity.home, "/root");
    assert_int_equal(identity_resolve(layers, 2, "app", &identity, &diag), 0);
    assert_int_equal(identity.uid, 1000);
    assert_int_equal(identity.gid, 1001);
    assert_int_equal(identity.groups_count, 1);
    assert_int_equal(identity.groups[0], 2000);
    assert_string_equal(identity.home, "/home/app");
    assert_int_equal(identity_resolve(layers, 2, "app:extra", &identity, &diag), 0);
    assert_int_equal(identity.gid, 2000);
    assert_int_equal(identity_resolve(layers, 2, "4711", &identity, &diag), 0);
    assert_int_equal(identity.uid, 4711);
    assert_int_equal(identity.gid, 0);
    assert_int_equal(identity_resolve(layers, 2, "1000:7", &identity, &diag), 0);
    assert_int_equal(identity.gid, 7);
    assert_int_equal(identity_resolve(layers, 2, "nobody", &identity, &diag), -ENOENT);
    assert_non_null(strstr(diag.message, "unable to find user nobody"));
    assert_int_equal(identity_resolve(layers, 2, "app:none", &identity, &diag), -ENOENT);
    sys_remove_tree(AT_FDCWD, dir);
}

UNIT_TEST(a_link_in_the_image_does_not_read_the_hosts_users) {
    struct identity identity;
    struct diag diag = DIAG_INIT;
    char path[128];
    make_layers();
    snprintf(path, sizeof path, "%s/etc/passwd", low);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("../../../../../../etc/passwd", path), 0); /* inside the image this is /etc/passwd itself: a loop */
    const char *const layers[] = {low};
    assert_int_equal(identity_resolve(layers, 1, "daemon", &identity, &diag), -ENOENT);
    sys_remove_tree(AT_FDCWD, dir);
}

UNIT_TEST(tokens_are_renewed_in_time) {
    const int64_t hour_ms = 3600 * INT64_C(1000);
    assert_int_equal(tokens_refresh_ms(hour_ms), 2880 * INT64_C(1000));
    assert_int_equal(tokens_refresh_ms(365 * 24 * hour_ms), 24 * hour_ms);
    assert_int_equal(tokens_refresh_ms(0), 1000); /* the clock is wrong: not in a hot loop */
}

UNIT_TEST(labels_are_files_too) {
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    struct arena *arena = arena_new(64 * KIB);
    const char *text = NULL;
    assert_int_equal(kube_decode_json(&kube_kind_pod, SLICE("{\"metadata\":{\"name\":\"p\",\"labels\":{\"b\":\"2\",\"a\":\"x\\\"y\"}}}"),
                                      KUBE_LENIENT, &object, &diag),
                     0);
    const struct node_options options = {.node_name = "n"};
    struct node node = {.options = &options};
    struct pod pod = {.node = &node, .spec_object = object, .name = "p"};
    assert_int_equal(environment_field(&pod, arena, "metadata.labels", &text), 0);
    assert_string_equal(text, "a=\"x\\\"y\"\nb=\"2\"");
    assert_int_equal(environment_field(&pod, arena, "metadata.labels['b']", &text), 0);
    assert_string_equal(text, "2");
    assert_int_equal(environment_field(&pod, arena, "metadata.annotations", &text), 0);
    assert_string_equal(text, "");
    assert_int_equal(environment_field(&pod, arena, "metadata.nothing", &text), -EINVAL);
    kube_object_unref(object);
    arena_free(arena);
}

static bool leaves_alone(const char *label) {
    struct kube_string_pair pair = {label, ""};
    struct kube_service service = {.metadata = {.labels = {&pair, 1}}};
    return services_leave_alone(&service);
}

UNIT_TEST(services_of_others_are_left_alone) {
    assert_true(leaves_alone("service.kubernetes.io/headless"));
    assert_true(leaves_alone("service.kubernetes.io/service-proxy-name"));
    assert_false(leaves_alone("app"));
}

static bool wants_restart(const char *policy, bool unhealthy, int code) {
    struct kube_object *object = kube_object_new(&kube_kind_pod);
    assert_non_null(object);
    object->pod->spec.restart_policy = policy;
    const struct kube_container container = {.name = "c"};
    struct pod pod = {.spec_object = object};
    struct unit unit = {.pod = &pod, .spec = &container, .killed_by_liveness = unhealthy, .current = {.set = true, .code = code}};
    bool wants = unit_wants_restart(&unit);
    kube_object_unref(object);
    return wants;
}

UNIT_TEST(who_was_unhealthy_runs_again_however_politely_it_ended) {
    assert_true(wants_restart("OnFailure", true, 0));
    assert_true(wants_restart("Always", true, 0));
    assert_false(wants_restart("Never", true, 137));
    assert_false(wants_restart("OnFailure", false, 0));
    assert_true(wants_restart("OnFailure", false, 1));
}

/* Of a pod "u" with a folder "d" of at most 1000 bytes, and two containers of 300 and 500. */
static void check_storage(uint64_t folder, uint64_t a_layer, uint64_t a_log, uint64_t b_layer, const char *expected) {
    struct kube_object *object = NULL;
    char text[256] = "";
    const struct storage_item items[] = {{.uid = "u", .name = "d", .kind = STORAGE_EMPTY_DIR, .usage = {.bytes = folder}},
                                         {.uid = "u", .name = "a", .kind = STORAGE_ROOTFS, .usage = {.bytes = a_layer}},
                                         {.uid = "u", .name = "a", .kind = STORAGE_LOGS, .usage = {.bytes = a_log}},
                                         {.uid = "u", .name = "b", .kind = STORAGE_ROOTFS, .usage = {.bytes = b_layer}},
                                         {.uid = "other", .name = "d", .kind = STORAGE_EMPTY_DIR, .usage = {.bytes = 1 << 20}}};
    assert_int_equal(
        kube_decode_json(&kube_kind_pod,
                         SLICE("{\"spec\":{\"volumes\":[{\"name\":\"d\",\"emptyDir\":{\"sizeLimit\":\"1k\"}},{\"name\":\"m\",\"emptyDir\":{"
                               "\"medium\":\"Memory\",\"sizeLimit\":\"1\"}}],\"containers\":[{\"name\":\"a\",\"resources\":{\"limits\":{"
                               "\"ephemeral-storage\":\"300\"}}},{\"name\":\"b\",\"resources\":{\"limits\":{\"ephemeral-storage\":\"500\"}}}]}}"),
                         KUBE_LENIENT, &object, NULL),
        0);
    bool exceeds = storage_exceeds(&object->pod->spec, "u", items, ARRAY_LEN(items), text, sizeof text);
    assert_string_equal(text, expected);
    assert_int_equal(exceeds, *expected != 0);
    kube_object_unref(object);
}

UNIT_TEST(storage_limits_are_upstreams) {
    check_storage(800, 0, 0, 0, "");
    check_storage(0, 100, 200, 500, "");
    check_storage(1001, 0, 0, 0, "Usage of EmptyDir volume \"d\" exceeds the limit \"1k\". ");
    check_storage(801, 0, 0, 0, "Pod ephemeral local storage usage exceeds the total limit of containers 800. ");
    check_storage(0, 100, 201, 0, "Container a exceeded its local ephemeral storage limit \"300\". ");
    check_storage(0, 0, 0, 501, "Container b exceeded its local ephemeral storage limit \"500\". ");
    check_storage(1, 299, 0, 501, "Pod ephemeral local storage usage exceeds the total limit of containers 800. ");
}

UNIT_TEST(a_hook_of_what_has_ended_holds_up_nobody) {
    const struct kube_container container = {.name = "c"};
    struct unit unit = {.spec = &container, .stage = UNIT_RUNNING, .post_starting = true};
    assert_true(hooks_hold_others(&unit));
    unit.stage = UNIT_EXITED; /* as its record said when the machine went down */
    assert_false(hooks_hold_others(&unit));
}

UNIT_MAIN(UNIT(a_hook_of_what_has_ended_holds_up_nobody), UNIT(expands_variables_as_kubernetes_does), UNIT(finds_users_in_the_image),
          UNIT(a_link_in_the_image_does_not_read_the_hosts_users), UNIT(tokens_are_renewed_in_time), UNIT(labels_are_files_too),
          UNIT(services_of_others_are_left_alone), UNIT(who_was_unhealthy_runs_again_however_politely_it_ended), UNIT(storage_limits_are_upstreams))

/* Round trips of fully populated objects that others made (the golden files of the Kubernetes API): JSON → object → JSON must give the same document,
 * and the protobuf of the same object must decode to it. The files are found by TIDEMILL_CONFORMANCE, or beside the source tree. */
#include "kube/kube.h"
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define FILE_BYTES_MAX (4 * MIB)

/* Fields of these files that no schema here describes: alpha, and of packages that are not part of the API's stable groups. */
static const char *const undescribed[][2] = {{"Job", "spec.scheduling"}, {"CronJob", "spec.jobTemplate.spec.scheduling"}};

static const char *directory(void) {
    const char *given = getenv("TIDEMILL_CONFORMANCE");
    return given ? given : "../shared/conformance/kubernetes-api";
}

static bool available(void) {
    if (access(directory(), R_OK) == 0)
        return true;
    fprintf(stderr, "SKIPPED: no conformance files in %s (set TIDEMILL_CONFORMANCE)\n", directory());
    return false;
}

static bool load(const char *group, const char *version, const char *kind, const char *ending, struct buffer *out) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s.%s.%s.%s", directory(), group[0] ? group : "core", version, kind, ending);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = 1;
    while (got > 0) {
        assert_int_equal(buffer_reserve(out, 64 * KIB), 0);
        got = read(fd, out->data + out->len, 64 * KIB);
        if (got > 0)
            buffer_commit(out, (size_t)got);
    }
    close(fd);
    return got == 0;
}

static void drop(struct tree *tree, const char *path) {
    struct slice rest = slice_of(path);
    for (;;) {
        struct slice name = slice_cut(&rest, '.');
        if (rest.len == 0) {
            tree_unset(tree, name);
            return;
        }
        struct tree_entry *entry = tree_find_entry(tree, name);
        if (!entry)
            return;
        tree = entry->value;
    }
}

static struct tree *expected(struct arena *arena, const char *kind, const struct buffer *json) {
    struct tree *tree = NULL;
    assert_int_equal(json_parse(arena, buffer_slice(json), NULL, &tree, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(undescribed); i++)
        if (strcmp(kind, undescribed[i][0]) == 0)
            drop(tree, undescribed[i][1]);
    return tree;
}

static void check_same(const char *what, const char *kind, struct arena *arena, const struct tree *want, const struct buffer *got) {
    struct tree *tree = NULL;
    struct diag diag = DIAG_INIT;
    if (json_parse(arena, buffer_slice(got), NULL, &tree, &diag) != 0)
        fail_msg("%s of %s gives no JSON: %s", what, kind, diag.message);
    struct buffer text = BUFFER_INIT(FILE_BYTES_MAX);
    json_format(&text, want);
    if (tree_equal(want, tree) && slice_equal(buffer_slice(&text), buffer_slice(got))) { /* the order of fields as well */
        buffer_deinit(&text);
        return;
    }
    fprintf(stderr, "want %s\n got %s\n", text.data, got->data);
    buffer_deinit(&text);
    fail_msg("%s of %s differs", what, kind);
}

static void round_trip(const struct kube_kind *kind) {
    struct arena *arena = arena_new(TREE_BYTES_MAX);
    struct buffer json = BUFFER_INIT(FILE_BYTES_MAX), wire = BUFFER_INIT(FILE_BYTES_MAX), out = BUFFER_INIT(FILE_BYTES_MAX);
    struct kube_object *object = NULL, *copy = NULL;
    struct diag diag = DIAG_INIT;
    assert_true(load(kind->group, kind->version, kind->kind, "json", &json));
    assert_true(load(kind->group, kind->version, kind->kind, "pb", &wire));
    const struct tree *want = expected(arena, kind->kind, &json);

    if (kube_decode_tree(kind, want, KUBE_STRICT, &object, &diag) != 0)
        fail_msg("%s: %s", kind->kind, diag.message);
    assert_int_equal(kube_encode_json(object, &out), 0);
    check_same("the JSON", kind->kind, arena, want, &out);
    assert_true(tree_equal(want, kube_encode_tree(object, arena)));
    copy = kube_object_copy(object);
    assert_true(kube_equal(kind->type, object->data, copy->data));
    kube_object_unref(object);
    buffer_reset(&out);
    assert_int_equal(kube_encode_json(copy, &out), 0);
    check_same("the copy", kind->kind, arena, want, &out);

    struct kube_object *from_wire = NULL;
    if (kube_decode_protobuf(kind, buffer_slice(&wire), &from_wire, &diag) != 0)
        fail_msg("%s: %s", kind->kind, diag.message);
    buffer_reset(&out);
    assert_int_equal(kube_encode_json(from_wire, &out), 0);
    check_same("the protobuf", kind->kind, arena, want, &out);
    kube_object_unref(from_wire);
    kube_object_unref(copy);
    buffer_deinit(&json);
    buffer_deinit(&wire);
    buffer_deinit(&out);
    arena_free(arena);
}

UNIT_TEST(served_kinds_round_trip) {
    if (!available())
        skip();
    for (size_t i = 0; i < kube_kinds_count(); i++) {
        const struct kube_kind *kind = kube_kind_at(i);
        bool in_files =
            kind != &kube_kind_custom_resource_definition && strcmp(kind->group, "metrics.k8s.io") != 0; /* those groups are not among them */
        if (in_files)
            round_trip(kind);
    }
}

UNIT_TEST(other_messages_decode_from_protobuf) {
    static const char *const messages[][3] = {{"", "v1", "DeleteOptions"},
                                              {"policy", "v1", "Eviction"},
                                              {"", "v1", "CreateOptions"},
                                              {"autoscaling", "v1", "Scale"},
                                              {"", "v1", "Binding"},
                                              {"authentication.k8s.io", "v1", "TokenRequest"},
                                              {"", "v1", "Status"},
                                              {"authorization.k8s.io", "v1", "SelfSubjectAccessReview"},
                                              {"batch", "v1", "CronJob"},
                                              {"autoscaling", "v2", "HorizontalPodAutoscaler"},
                                              {"apps", "v1", "StatefulSet"},
                                              {"apps", "v1", "DaemonSet"},
                                              {"", "v1", "PersistentVolumeClaim"},
                                              {"", "v1", "PersistentVolume"},
                                              {"networking.k8s.io", "v1", "NetworkPolicy"},
                                              {"events.k8s.io", "v1", "Event"},
                                              {"rbac.authorization.k8s.io", "v1", "ClusterRole"},
                                              {"policy", "v1", "PodDisruptionBudget"},
                                              {"authentication.k8s.io", "v1", "SelfSubjectReview"},
                                              {"", "v1", "ResourceQuota"}};
    if (!available())
        skip();
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        struct arena *arena = arena_new(TREE_BYTES_MAX);
        struct buffer json = BUFFER_INIT(FILE_BYTES_MAX), wire = BUFFER_INIT(FILE_BYTES_MAX), out = BUFFER_INIT(FILE_BYTES_MAX);
        struct tree *got = NULL;
        struct diag diag = DIAG_INIT;
        assert_true(load(messages[i][0], messages[i][1], messages[i][2], "json", &json));
        assert_true(load(messages[i][0], messages[i][1], messages[i][2], "pb", &wire));
        struct tree *want = expected(arena, messages[i][2], &json);
        if (strcmp(messages[i][2], "CronJob") == 0)
            drop(want, "spec.jobTemplate.spec.scheduling");
        if (kube_protobuf_to_tree(arena, buffer_slice(&wire), &got, &diag) != 0)
            fail_msg("%s: %s", messages[i][2], diag.message);
        json_format(&out, got);
        check_same("the protobuf", messages[i][2], arena, want, &out);
        buffer_deinit(&json);
        buffer_deinit(&wire);
        buffer_deinit(&out);
        arena_free(arena);
    }
}

UNIT_MAIN(UNIT(served_kinds_round_trip), UNIT(other_messages_decode_from_protobuf))

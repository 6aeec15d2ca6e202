/* Round trips of fully populated objects that others made (the golden files of the Kubernetes API): every file there, by its name GROUP.VERSION.KIND.
 * JSON → object → JSON must give the same document with its fields in the same order, the YAML must be the same document, the protobuf must decode to
 * it, and the object must encode to that very protobuf. The files are found by TIDEMILL_CONFORMANCE, or beside the source tree. */
#include "kube/decode_priv.h"
#include "kube/kube.h"
#include "unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define FILE_BYTES_MAX (4 * MIB)
#define FILES_MIN 85 /* kinds that must be found: an empty folder is no success */

/* What is not described here, and why. A field that newer versions have and ours does not is dropped from the document before it is compared; then
 * the bytes cannot be those of the file, and must decode to the same document instead. */
static const char *const undescribed[][3] = {
    {"Job", "spec.scheduling", "alpha, behind a gate that is off"},
    {"CronJob", "spec.jobTemplate.spec.scheduling", "alpha, behind a gate that is off"},
};

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

struct subject {
    char stem[200]; /* "apps.v1.Deployment" */
    char api_version[100], kind[100];
    const struct kube_message *message;
    struct arena *arena;
    struct buffer json, yaml, wire;
    struct tree *want;
    bool whole; /* nothing was dropped */
};

static void load(const struct subject *subject, const char *ending, struct buffer *out) {
    char path[500];
    snprintf(path, sizeof path, "%s/%s.%s", directory(), subject->stem, ending);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        fail_msg("%s is missing", path);
    ssize_t got = 1;
    while (got > 0) {
        assert_int_equal(buffer_reserve(out, 64 * KIB), 0);
        got = read(fd, out->data + out->len, 64 * KIB);
        if (got > 0)
            buffer_commit(out, (size_t)got);
    }
    close(fd);
    assert_int_equal(got, 0);
}

static void drop(struct tree *tree, const char *path) {
    struct slice rest = slice_of(path);
    for (;;) {
        struct slice name = slice_cut(&rest, '.');
        if (rest.len == 0) {
            assert_true(tree_unset(tree, name)); /* an exception that is none any more must go */
            return;
        }
        struct tree_entry *entry = tree_find_entry(tree, name);
        assert_non_null(entry);
        tree = entry->value;
    }
}

/* "admissionregistration.k8s.io.v1.Rule" → "admissionregistration.k8s.io/v1", "Rule". */
static void name_subject(struct subject *subject, const char *stem) {
    char group[200];
    snprintf(subject->stem, sizeof subject->stem, "%s", stem);
    snprintf(group, sizeof group, "%s", stem);
    char *kind = strrchr(group, '.');
    *kind++ = 0;
    char *version = strrchr(group, '.');
    *version++ = 0;
    bool core = strcmp(group, "core") == 0;
    snprintf(subject->kind, sizeof subject->kind, "%s", kind);
    snprintf(subject->api_version, sizeof subject->api_version, "%.60s%s%.30s", core ? "" : group, core ? "" : "/", version);
}

static void open_subject(struct subject *subject, const char *stem) {
    *subject = (struct subject){.arena = arena_new(TREE_BYTES_MAX), .whole = true};
    subject->json = subject->yaml = subject->wire = BUFFER_INIT(FILE_BYTES_MAX);
    name_subject(subject, stem);
    subject->message = kube_message_find(slice_of(subject->api_version), slice_of(subject->kind));
    if (!subject->message)
        fail_msg("%s is not described", stem);
    load(subject, "json", &subject->json);
    load(subject, "yaml", &subject->yaml);
    load(subject, "pb", &subject->wire);
    assert_int_equal(json_parse(subject->arena, buffer_slice(&subject->json), NULL, &subject->want, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(undescribed); i++)
        if (strcmp(subject->kind, undescribed[i][0]) == 0) {
            drop(subject->want, undescribed[i][1]);
            subject->whole = false;
        }
}

static void close_subject(struct subject *subject) {
    buffer_deinit(&subject->json);
    buffer_deinit(&subject->yaml);
    buffer_deinit(&subject->wire);
    arena_free(subject->arena);
}

static void check_text(const struct subject *subject, const char *what, const struct buffer *got) {
    struct buffer want = BUFFER_INIT(FILE_BYTES_MAX);
    json_format(&want, subject->want);
    if (!slice_equal(buffer_slice(&want), buffer_slice(got))) {
        fprintf(stderr, "want %s\n got %.*s\n", want.data, SLICE_ARG(buffer_slice(got)));
        fail_msg("%s of %s differs", what, subject->stem);
    }
    buffer_deinit(&want);
}

static void check_tree(const struct subject *subject, const char *what, const struct tree *got) {
    struct buffer text = BUFFER_INIT(FILE_BYTES_MAX);
    json_format(&text, got);
    check_text(subject, what, &text);
    buffer_deinit(&text);
}

/* ---- any described kind: tree ↔ struct ↔ protobuf ---- */

static void check_yaml(struct subject *subject) {
    struct tree *tree = NULL;
    struct diag diag = DIAG_INIT;
    if (yaml_parse_one(subject->arena, buffer_slice(&subject->yaml), &tree, &diag) != 0)
        fail_msg("%s.yaml: %s", subject->stem, diag.message);
    for (size_t i = 0; i < ARRAY_LEN(undescribed); i++)
        if (strcmp(subject->kind, undescribed[i][0]) == 0)
            drop(tree, undescribed[i][1]);
    if (!tree_equal(tree, subject->want))
        fail_msg("%s.yaml is another document than %s.json", subject->stem, subject->stem);
}

static void check_wire(struct subject *subject) {
    struct buffer out = BUFFER_INIT(FILE_BYTES_MAX);
    struct tree *tree = NULL;
    struct diag diag = DIAG_INIT;
    bool named = tree_find(subject->want, "kind") != NULL; /* an event of a watch names no kind of its own */
    if (named) {
        if (kube_protobuf_to_tree(subject->arena, buffer_slice(&subject->wire), &tree, &diag) != 0)
            fail_msg("%s.pb: %s", subject->stem, diag.message);
        check_tree(subject, "the protobuf", tree);
        assert_int_equal(kube_tree_to_protobuf(subject->want, &out), 0);
    } else {
        struct buffer raw = BUFFER_INIT(FILE_BYTES_MAX);
        assert_int_equal(kube_tree_to_protobuf_part(subject->api_version, subject->kind, subject->want, &raw), 0);
        assert_int_equal(kube_protobuf_wrap("", "", buffer_slice(&raw), &out), 0);
        buffer_deinit(&raw);
    }
    if (subject->whole && !slice_equal(buffer_slice(&out), buffer_slice(&subject->wire)))
        fail_msg("the encoded protobuf of %s is not that of %s.pb", subject->stem, subject->stem);
    if (!subject->whole) {
        assert_int_equal(kube_protobuf_to_tree(subject->arena, buffer_slice(&out), &tree, &diag), 0);
        check_tree(subject, "the encoded protobuf", tree);
    }
    buffer_deinit(&out);
}

/* ---- kinds that are served: objects ---- */

static void check_object(struct subject *subject, const struct kube_kind *kind) {
    struct buffer out = BUFFER_INIT(FILE_BYTES_MAX);
    struct kube_object *object = NULL, *copy = NULL, *from_wire = NULL;
    struct diag diag = DIAG_INIT;
    if (kube_decode_tree(kind, subject->want, KUBE_STRICT, &object, &diag) != 0)
        fail_msg("%s: %s", subject->stem, diag.message);
    assert_int_equal(kube_encode_json(object, &out), 0);
    check_text(subject, "the JSON", &out);
    assert_true(tree_equal(subject->want, kube_encode_tree(object, subject->arena)));
    copy = kube_object_copy(object);
    assert_true(kube_equal(kind->type, object->data, copy->data));
    kube_object_unref(object);
    buffer_reset(&out);
    assert_int_equal(kube_encode_json(copy, &out), 0);
    check_text(subject, "the copy", &out);
    if (kube_decode_protobuf(kind, buffer_slice(&subject->wire), &from_wire, &diag) != 0)
        fail_msg("%s: %s", subject->stem, diag.message);
    buffer_reset(&out);
    assert_int_equal(kube_encode_json(from_wire, &out), 0);
    check_text(subject, "the object from protobuf", &out);
    buffer_reset(&out);
    assert_int_equal(kube_encode_protobuf(from_wire, &out), 0);
    assert_true(!subject->whole || slice_equal(buffer_slice(&out), buffer_slice(&subject->wire)));
    kube_object_unref(from_wire);
    kube_object_unref(copy);
    buffer_deinit(&out);
}

static void check_subject(const char *stem) {
    struct subject subject;
    open_subject(&subject, stem);
    check_yaml(&subject);
    check_wire(&subject);
    struct slice group, version;
    kube_api_version_cut(slice_of(subject.api_version), &group, &version);
    const struct kube_kind *kind = kube_kind_find(group, version, slice_of(subject.kind));
    if (kind)
        check_object(&subject, kind);
    close_subject(&subject);
}

UNIT_TEST(every_file_round_trips) {
    if (!available())
        skip();
    DIR *folder = opendir(directory());
    assert_non_null(folder);
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        char stem[200];
        struct slice name = slice_of(entry->d_name);
        if (!slice_ends(name, SLICE(".json")) || name.len >= sizeof stem)
            continue;
        snprintf(stem, sizeof stem, "%.*s", (int)(name.len - 5), name.data);
        check_subject(stem);
        count++;
    }
    closedir(folder);
    assert_true(count >= FILES_MIN);
}

/* Every served kind has its file, but those of three groups of which there are none: definitions of custom resources, API services, and metrics. */
UNIT_TEST(every_served_kind_has_a_file) {
    if (!available())
        skip();
    for (size_t i = 0; i < kube_kinds_count(); i++) {
        const struct kube_kind *kind = kube_kind_at(i);
        char path[500];
        if (kind == &kube_kind_custom_resource_definition || kind == &kube_kind_api_service || strcmp(kind->group, "metrics.k8s.io") == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s.%s.%s.pb", directory(), kind->group[0] ? kind->group : "core", kind->version, kind->kind);
        if (access(path, R_OK) != 0)
            fail_msg("%s is missing", path);
    }
}

UNIT_MAIN(UNIT(every_file_round_trips), UNIT(every_served_kind_has_a_file))

#include "kube/shape.h"

#include "kube/schema_priv.h"
#include "kube/testing_priv.h"

/* Every step of a dotted path; "[]" steps into a list. */
static struct kube_shape_node at(const struct kube_kind *kind, const char *path) {
    struct kube_shape_node shape;
    kube_shape_of(kind, &shape);
    for (struct slice rest = slice_of(path); rest.len;) {
        struct slice step = slice_cut(&rest, '.');
        struct kube_shape_node below;
        if (slice_is(step, "[]"))
            kube_shape_item(&shape, &below);
        else
            assert_true(kube_shape_member(&shape, step, &below));
        shape = below;
    }
    return shape;
}

static void each_node_is_what_upstream_says(void **state) {
    (void)state;
    const struct {
        const struct kube_kind *kind;
        const char *path;
        enum kube_merge merge;
    } cases[] = {
        {&kube_kind_deployment, "kind", KUBE_MERGE_ATOMIC},
        {&kube_kind_deployment, "spec", KUBE_MERGE_STRUCT},
        {&kube_kind_deployment, "spec.replicas", KUBE_MERGE_ATOMIC},
        {&kube_kind_deployment, "spec.selector", KUBE_MERGE_ATOMIC}, /* its type is */
        {&kube_kind_deployment, "spec.template.metadata.labels", KUBE_MERGE_MAP},
        {&kube_kind_deployment, "spec.template.metadata.labels.app", KUBE_MERGE_ATOMIC},
        {&kube_kind_deployment, "spec.template.spec.containers", KUBE_MERGE_KEYED},
        {&kube_kind_deployment, "spec.template.spec.containers.[].resources.limits", KUBE_MERGE_MAP},
        {&kube_kind_deployment, "spec.template.spec.containers.[].args", KUBE_MERGE_ATOMIC},
        {&kube_kind_deployment, "spec.template.spec.nodeSelector", KUBE_MERGE_ATOMIC},
        {&kube_kind_deployment, "metadata.finalizers", KUBE_MERGE_SET},
        {&kube_kind_deployment, "metadata.ownerReferences", KUBE_MERGE_KEYED},
        {&kube_kind_deployment, "metadata.ownerReferences.[]", KUBE_MERGE_ATOMIC},
        {&kube_kind_service, "spec.selector", KUBE_MERGE_ATOMIC},
        {&kube_kind_persistent_volume, "spec.claimRef", KUBE_MERGE_STRUCT}, /* the field outdoes its type */
        {&kube_kind_persistent_volume, "spec.csi.nodePublishSecretRef", KUBE_MERGE_ATOMIC},
        {&kube_kind_controller_revision, "data", KUBE_MERGE_FREE},
        {&kube_kind_controller_revision, "data.anything.below", KUBE_MERGE_FREE},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (at(cases[i].kind, cases[i].path).merge != cases[i].merge)
            fail_msg("%s %s", cases[i].kind->kind, cases[i].path);
}

static void unknown_members_of_structs_are_told(void **state) {
    (void)state;
    struct kube_shape_node spec = at(&kube_kind_deployment, "spec"), below;
    assert_false(kube_shape_member(&spec, SLICE("replica"), &below));
    assert_int_equal(below.merge, KUBE_MERGE_FREE);
}

static void keys_have_defaults(void **state) {
    (void)state;
    struct kube_shape_node ports = at(&kube_kind_service, "spec.ports");
    struct kube_shape_key key;
    assert_true(kube_shape_key(&ports, 0, &key));
    assert_true(slice_is(key.name, "port"));
    assert_null(key.default_);
    assert_true(kube_shape_key(&ports, 1, &key));
    assert_true(slice_is(key.name, "protocol"));
    assert_string_equal(tree_text_or(key.default_, ""), "TCP");
    assert_false(kube_shape_key(&ports, 2, &key));
}

/* Whatever the tables call keyed has keys that its items have. */
static void all_keys_exist(void **state) {
    (void)state;
    size_t seen = 0;
    for (const struct kube_message *message = kube_messages; message->kind; message++)
        for (size_t i = 0; i < message->type->fields_count; i++) {
            const struct kube_type *type = message->type->fields[i].type;
            for (size_t j = 0; type && j < type->fields_count; j++) {
                const struct kube_field *field = &type->fields[j];
                struct slice rest = slice_of(kube_rules_of(field)->keys);
                while (field->flags & KUBE_LIST_MAP && rest.len) {
                    assert_non_null(kube_field_find(field->type, slice_cut(&rest, ',')));
                    seen++;
                }
            }
        }
    assert_true(seen > 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_node_is_what_upstream_says),
        cmocka_unit_test(unknown_members_of_structs_are_told),
        cmocka_unit_test(keys_have_defaults),
        cmocka_unit_test(all_keys_exist),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

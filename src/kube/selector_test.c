#include "kube/testing_priv.h"

static bool label_match(const char *text, const char *labels) {
    struct arena *arena = arena_new(MIB);
    struct buffer json = BUFFER_INIT(4096);
    buffer_printf(&json, "{'metadata':{'labels':%s}}", labels);
    struct kube_object *object = object_from(&kube_kind_pod, json.data);
    struct kube_selector *selector = NULL;
    struct diag diag = DIAG_INIT;
    if (kube_selector_parse(arena, slice_of(text), &selector, &diag) != 0)
        fail_msg("%s", diag.message);
    bool match = kube_selector_match(selector, &object->metadata->labels);
    kube_object_unref(object);
    buffer_deinit(&json);
    arena_free(arena);
    return match;
}

UNIT_TEST(text_selectors) {
    const char *labels = "{'app':'web','tier':'front','n':'5'}";
    static const char *const matching[] = {"",        "app=web",    "app == web , tier!=back", "app in (db, web)", "x notin (a)", "app", "!x", "x!=1",
                                           "n>4,n<6", "app.io/x!=a"};
    static const char *const failing[] = {"app=db", "app=web,tier=back", "app in (db)", "app notin (web)", "x", "!app", "n>5", "x in (a)", "x="};
    for (size_t i = 0; i < ARRAY_LEN(matching); i++)
        if (!label_match(matching[i], labels))
            fail_msg("\"%s\" should match", matching[i]);
    for (size_t i = 0; i < ARRAY_LEN(failing); i++)
        if (label_match(failing[i], labels))
            fail_msg("\"%s\" should not match", failing[i]);
}

UNIT_TEST(bad_text) {
    static const char *const bad[] = {"a in b", "=x", "a=b,", "a in (b", "a=b c", "a b", "-x", "a=b/c", "a in ("};
    struct arena *arena = arena_new(MIB);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct kube_selector *selector = NULL;
        struct diag diag = DIAG_INIT;
        if (kube_selector_parse(arena, slice_of(bad[i]), &selector, &diag) != -EINVAL || !diag.message[0])
            fail_msg("\"%s\" should be refused", bad[i]);
    }
    arena_free(arena);
}

UNIT_TEST(label_selectors) {
    struct kube_object *object =
        object_from(&kube_kind_deployment, "{'metadata':{'labels':{'a':'1'}},'spec':{'selector':{'matchLabels':{'a':'1'},"
                                           "'matchExpressions':[{'key':'b','operator':'DoesNotExist'},{'key':'a','operator':'In',"
                                           "'values':['1','2']}]}}}");
    struct kube_label_selector everything = {.match_labels.count = 0};
    assert_true(kube_selector_matches(object->deployment->spec.selector, &object->metadata->labels));
    assert_true(kube_selector_matches(&everything, &object->metadata->labels));
    assert_false(kube_selector_matches(NULL, &object->metadata->labels));
    assert_int_equal(kube_map_set(&object->metadata->labels, object->arena, "b", "x"), 0);
    assert_false(kube_selector_matches(object->deployment->spec.selector, &object->metadata->labels));
    kube_map_unset(&object->metadata->labels, "b");
    assert_true(kube_selector_matches(object->deployment->spec.selector, &object->metadata->labels));
    kube_object_unref(object);
}

static int field_match(const struct kube_object *object, const char *text) {
    struct arena *arena = arena_new(MIB);
    struct kube_selector *selector = NULL;
    struct diag diag = DIAG_INIT;
    int result = kube_field_selector_parse(object->kind, arena, slice_of(text), &selector, &diag);
    if (result == 0)
        result = kube_field_selector_match(selector, object);
    arena_free(arena);
    return result;
}

UNIT_TEST(field_selectors) {
    struct kube_object *pod = object_from(&kube_kind_pod, "{'metadata':{'name':'p'},'spec':{'nodeName':'n1'},'status':{'phase':'Running'}}");
    assert_int_equal(field_match(pod, "metadata.name=p,spec.nodeName!=n2"), 1);
    assert_int_equal(field_match(pod, "spec.nodeName==n1,status.phase=Running,"), 1);
    assert_int_equal(field_match(pod, "spec.nodeName="), 0);
    assert_int_equal(field_match(pod, "status.podIP="), 1);
    assert_int_equal(field_match(pod, "spec.nodes=x"), -EINVAL);
    assert_int_equal(field_match(pod, "spec.containers=x"), -EINVAL);
    assert_int_equal(field_match(pod, "spec=x"), -EINVAL);
    assert_int_equal(field_match(pod, "metadata.name"), -EINVAL);
    kube_object_unref(pod);
    struct kube_object *event = object_from(&kube_kind_event, "{'involvedObject':{'name':'a,b','uid':'u'},'source':{'component':'node'}}");
    assert_int_equal(field_match(event, "involvedObject.name=a\\,b,source=node"), 1);
    assert_int_equal(field_match(event, "source.component=node"), -EINVAL);
    kube_object_unref(event);
    event = object_from(&kube_kind_event, "{'reportingComponent':'controller'}"); /* as the newer API writes them */
    assert_int_equal(field_match(event, "source=controller,reportingComponent=controller"), 1);
    kube_object_unref(event);
}

UNIT_TEST(percentages) {
    const struct {
        struct kube_int_or_string value;
        int total;
        bool up;
        int want;
    } cases[] = {{{.number = 3}, 10, true, 3},
                 {{.is_string = true, .text = "25%"}, 3, true, 1},
                 {{.is_string = true, .text = "25%"}, 3, false, 0},
                 {{.is_string = true, .text = "100%"}, 7, false, 7}};
    int got = 0;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(kube_int_or_percent(&cases[i].value, cases[i].total, cases[i].up, &got), 0);
        assert_int_equal(got, cases[i].want);
    }
    assert_int_equal(kube_int_or_percent(&(struct kube_int_or_string){.is_string = true, .text = "x"}, 1, true, &got), -EINVAL);
    assert_int_equal(kube_int_or_percent(&(struct kube_int_or_string){.is_string = true, .text = "%"}, 1, true, &got), -EINVAL);
}

UNIT_TEST(template_hashes) {
    struct kube_object *a = object_from(&kube_kind_deployment, "{'spec':{'template':{'spec':{'containers':[{'name':'c','image':'i:1'}]}}}}");
    struct kube_object *b = object_from(&kube_kind_deployment, "{'spec':{'template':{'spec':{'containers':[{'name':'c','image':'i:2'}]}}}}");
    char first[12], again[12], other[12], collided[12];
    kube_template_hash(&a->deployment->spec.template, 0, first);
    kube_template_hash(&a->deployment->spec.template, 0, again);
    kube_template_hash(&b->deployment->spec.template, 0, other);
    kube_template_hash(&a->deployment->spec.template, 1, collided);
    assert_string_equal(first, again);
    assert_string_not_equal(first, other);
    assert_string_not_equal(first, collided);
    assert_true(name_is_dns_label(slice_of(first)));
    kube_object_unref(a);
    kube_object_unref(b);
}

UNIT_MAIN(UNIT(text_selectors), UNIT(bad_text), UNIT(label_selectors), UNIT(field_selectors), UNIT(percentages), UNIT(template_hashes))

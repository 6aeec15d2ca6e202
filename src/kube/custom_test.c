/* Schemas and instances as data: what is pruned, filled in, refused, shown, and in which words. */
#include "kube/custom_testing_priv.h"

#define NOW (INT64_C(1700000600) * 1000000000)
#define META "'metadata':{'name':'w','namespace':'n'}"

/* --- what a schema does to an object --- */

/* The object's content after decoding and defaults, as JSON with single quotes. */
static const struct {
    const char *schema, *given, *want, *unknown;
} kept[] = {
    {"{'type':'object','properties':{'spec':{'type':'object','properties':{'a':{'type':'string'}}}}}", "'spec':{'a':'x','b':1},'other':2",
     "'spec':{'a':'x'}", "unknown field \"spec.b\", unknown field \"other\""},
    {"{'type':'object','x-kubernetes-preserve-unknown-fields':true}", "'any':{'b':null,'c':[]},'n':1.5", "'any':{'b':null,'c':[]},'n':1.5", ""},
    {"{'type':'object','properties':{'spec':{'type':'object','x-kubernetes-preserve-unknown-fields':true,'properties':{'k':{'type':'object'}}}}}",
     "'spec':{'free':{'x':1},'k':{'gone':1}}", "'spec':{'free':{'x':1},'k':{}}", "unknown field \"spec.k.gone\""},
    {"{'type':'object','properties':{'m':{'type':'object','additionalProperties':{'type':'object','properties':{'a':{'type':'integer'}}}}}}",
     "'m':{'x':{'a':1,'b':2}}", "'m':{'x':{'a':1}}", "unknown field \"m.x.b\""},
    {"{'type':'object','properties':{'l':{'type':'array','items':{'type':'object','properties':{'a':{'type':'integer'}}}}}}", "'l':[{'a':1},{'b':2}]",
     "'l':[{'a':1},{}]", "unknown field \"l[1].b\""},
    {"{'type':'object','properties':{'t':{'type':'object','x-kubernetes-embedded-resource':true,'properties':{'spec':{'type':'object'}}}}}",
     "'t':{'apiVersion':'v1','kind':'Pod','metadata':{'name':'x','nom':'y','ownerReferences':[{'uid':'u','uuid':'v'}]},'more':1}",
     "'t':{'apiVersion':'v1','kind':'Pod','metadata':{'name':'x','ownerReferences':[{'uid':'u'}]}}",
     "unknown field \"t.metadata.nom\", unknown field \"t.metadata.ownerReferences[0].uuid\", unknown field \"t.more\""},
    /* defaults: for what is absent, and for null where null is no value; below defaults too */
    {"{'type':'object','properties':{'spec':{'type':'object','default':{},'properties':{'n':{'type':'integer','default':3},'s':{'type':'string'}}}}}",
     "", "'spec':{'n':3}", ""},
    {"{'type':'object','properties':{'a':{'type':'integer','default':1},'b':{'type':'integer','default':1,'nullable':true},'c':{'type':'integer'},"
     "'d':{'type':'integer','nullable':true}}}",
     "'a':null,'b':null,'c':null,'d':null", "'a':1,'b':null,'d':null", ""},
    {"{'type':'object','properties':{'l':{'type':'array','items':{'type':'object','properties':{'p':{'type':'string','default':'TCP'}}}},"
     "'m':{'type':'object','additionalProperties':{'type':'object','properties':{'q':{'type':'boolean','default':false}}}}}}",
     "'l':[{}],'m':{'k':{}}", "'l':[{'p':'TCP'}],'m':{'k':{'q':false}}", ""},
    /* what was written stays as it was written */
    {"{'type':'object','properties':{'z':{'type':'integer'},'a':{'type':'array','items':{'type':'string'}},'o':{'type':'object'}}}",
     "'z':0,'a':[],'o':{}", "'z':0,'a':[],'o':{}", ""},
};

UNIT_TEST(pruning_and_defaults) {
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        struct arena *arena = arena_new(TREE_BYTES_MAX);
        struct kube_object *object = NULL;
        struct diag diag = DIAG_INIT;
        assert_int_equal(widgets_install(arena, widgets_from(arena, kept[i].schema, "")), 0);
        const char *comma = *kept[i].given ? "," : "";
        struct tree *tree =
            tree_from(arena, arena_printf(arena, "{'apiVersion':'example.com/v1','kind':'Widget'," META "%s%s}", comma, kept[i].given));
        int strict = kube_decode_tree(widget("v1"), tree, KUBE_STRICT, &object, &diag);
        if (*kept[i].unknown) {
            assert_int_equal(strict, -EINVAL);
            assert_string_equal(diag.message, arena_printf(arena, "strict decoding error: %s", kept[i].unknown));
        } else {
            assert_int_equal(strict, 0);
            kube_object_unref(object);
        }
        assert_int_equal(kube_decode_tree(widget("v1"), tree, KUBE_LENIENT, &object, &diag), 0);
        assert_int_equal(kube_default(object), 0);
        comma = *kept[i].want ? "," : "";
        char *want =
            arena_printf(arena, "{'kind':'Widget','apiVersion':'example.com/v1','metadata':{'name':'w','namespace':'n'}%s%s}", comma, kept[i].want);
        assert_json(object, want);
        /* a second time changes nothing, and a copy is the same */
        struct kube_object *copy = kube_object_copy(object);
        assert_int_equal(kube_default(copy), 0);
        assert_true(kube_object_equal(object, copy));
        assert_json(copy, want);
        kube_object_unref(copy);
        kube_object_unref(object);
        widgets_remove();
        arena_free(arena);
    }
}

/* --- what a schema refuses --- */

static const struct {
    const char *property, *value; /* spec.x of this schema and value */
    const char *message;          /* behind the name; NULL: fine */
} checked[] = {
    {"{'type':'integer'}", "'a'", "spec.x: Invalid value: \"string\": spec.x in body must be of type integer: \"string\""},
    {"{'type':'integer'}", "1.0", NULL},
    {"{'type':'integer'}", "1.5", "spec.x: Invalid value: \"number\": spec.x in body must be of type integer: \"number\""},
    {"{'type':'number'}", "1", NULL},
    {"{'type':'boolean'}", "{}", "spec.x: Invalid value: \"object\": spec.x in body must be of type boolean: \"object\""},
    {"{'type':'string','enum':['a','b']}", "'c'", "spec.x: Unsupported value: \"c\": supported values: \"a\", \"b\""},
    {"{'type':'integer','enum':[1,2]}", "3", "spec.x: Unsupported value: 3: supported values: \"1\", \"2\""},
    {"{'type':'string','pattern':'^a+$'}", "'ab'", "spec.x: Invalid value: \"ab\": spec.x in body should match '^a+$'"},
    {"{'type':'string','pattern':'^a+$'}", "'aa'", NULL},
    {"{'type':'string','pattern':'^(a+)+$'}", "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab'",
     "spec.x: Invalid value: \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\": spec.x in body should match '^(a+)+$'"},
    {"{'type':'string','maxLength':2}", "'abc'", "spec.x: Too long: may not be more than 2 bytes"},
    {"{'type':'string','maxLength':2}", "'\xc3\xa4\xc3\xb6'", NULL},
    {"{'type':'string','minLength':2}", "'a'", "spec.x: Invalid value: \"a\": spec.x in body should be at least 2 chars long"},
    {"{'type':'string','format':'date-time'}", "'soon'", "spec.x: Invalid value: \"soon\": spec.x in body must be of type date-time: \"soon\""},
    {"{'type':'string','format':'ipv4'}", "'10.0.0.1'", NULL},
    {"{'type':'string','format':'unheard-of'}", "'x'", NULL},
    {"{'type':'integer','minimum':1}", "0", "spec.x: Invalid value: 0: spec.x in body should be greater than or equal to 1"},
    {"{'type':'integer','minimum':1,'exclusiveMinimum':true}", "1", "spec.x: Invalid value: 1: spec.x in body should be greater than 1"},
    {"{'type':'integer','maximum':5}", "6", "spec.x: Invalid value: 6: spec.x in body should be less than or equal to 5"},
    {"{'type':'integer','maximum':5,'exclusiveMaximum':true}", "5", "spec.x: Invalid value: 5: spec.x in body should be less than 5"},
    {"{'type':'integer','multipleOf':4}", "6", "spec.x: Invalid value: 6: spec.x in body should be a multiple of 4"},
    {"{'type':'array','maxItems':1,'items':{'type':'string'}}", "['a','b']", "spec.x: Too many: 2: must have at most 1 items"},
    {"{'type':'array','minItems':1,'items':{'type':'string'}}", "[]", "spec.x: Invalid value: []: spec.x in body should have at least 1 items"},
    {"{'type':'array','items':{'type':'string'}}", "[1]",
     "spec.x[0]: Invalid value: \"integer\": spec.x[0] in body must be of type string: \"integer\""},
    {"{'type':'array','x-kubernetes-list-type':'set','items':{'type':'string'}}", "['a','b','a']", "spec.x[2]: Duplicate value: \"a\""},
    {"{'type':'array','x-kubernetes-list-type':'map','x-kubernetes-list-map-keys':['k'],'items':{'type':'object','required':['k'],'properties':{'k':"
     "{'type':'string'}}}}",
     "[{'k':'a'},{'k':'a'}]", "spec.x[1]: Duplicate value: {\"k\":\"a\"}"},
    {"{'type':'object','required':['a'],'properties':{'a':{'type':'string'}}}", "{}", "spec.x.a: Required value"},
    {"{'type':'object','maxProperties':1,'additionalProperties':{'type':'string'}}", "{'a':'','b':''}",
     "spec.x: Too many: 2: must have at most 1 items"},
    {"{'x-kubernetes-int-or-string':true}", "'50%'", NULL},
    {"{'x-kubernetes-int-or-string':true}", "true", "spec.x: Invalid value: \"boolean\": spec.x in body must be of type integer,string: \"boolean\""},
    {"{'type':'object','properties':{'a':{'type':'integer'},'b':{'type':'integer'}},'oneOf':[{'required':['a']},{'required':['b']}]}",
     "{'a':1,'b':1}", "<nil>: Invalid value: \"\": \"spec.x\" must validate one and only one schema (oneOf). Found 2 valid alternatives"},
    {"{'type':'object','properties':{'a':{'type':'integer'}},'anyOf':[{'required':['a']}]}", "{}",
     "[<nil>: Invalid value: \"\": \"spec.x\" must validate at least one schema (anyOf), spec.x.a: Required value]"},
    {"{'type':'object','properties':{'a':{'type':'integer'}},'not':{'required':['a']}}", "{'a':1}",
     "<nil>: Invalid value: \"\": \"spec.x\" must not validate the schema (not)"},
    {"{'type':'string','nullable':true,'enum':['a']}", "null", NULL},
    {"{'type':'object','x-kubernetes-embedded-resource':true,'x-kubernetes-preserve-unknown-fields':true}", "{'kind':'A'}",
     "spec.x.apiVersion: Required value: must not be empty"},
};

static struct kube_object *widget_with(struct arena *arena, const char *content) {
    return object_from(widget("v1"), arena_printf(arena, "{" META ",%s}", content));
}

UNIT_TEST(validation) {
    for (size_t i = 0; i < ARRAY_LEN(checked); i++) {
        struct arena *arena = arena_new(TREE_BYTES_MAX);
        struct diag diag = DIAG_INIT;
        char *schema = arena_printf(arena, "{'type':'object','properties':{'spec':{'type':'object','properties':{'x':%s}}}}", checked[i].property);
        assert_int_equal(widgets_install(arena, widgets_from(arena, schema, "")), 0);
        struct kube_object *object = widget_with(arena, arena_printf(arena, "'spec':{'x':%s}", checked[i].value));
        int error = kube_validate(object, NULL, &diag);
        if (checked[i].message) {
            assert_int_equal(error, -EINVAL);
            assert_string_equal(diag.message, arena_printf(arena, "Widget.example.com \"w\" is invalid: %s", checked[i].message));
            /* what was so before is not held against an update */
            assert_int_equal(kube_validate(object, object, &diag), 0);
        } else if (error) {
            fail_msg("%s", diag.message);
        }
        kube_object_unref(object);
        widgets_remove();
        arena_free(arena);
    }
}

/* --- which schemas are structural --- */

static const struct {
    const char *schema, *message; /* NULL: it is */
} schemas[] = {
    {"{'type':'object'}", NULL},
    {"{}", "type: Required value: must not be empty at the root"},
    {"{'type':'string'}", "type: Invalid value: \"string\": must be object at the root"},
    {"{'type':'object','properties':{'x':{}}}", "properties[x].type: Required value: must not be empty for specified object fields"},
    {"{'type':'object','properties':{'x':{'type':'array','items':{}}}}",
     "properties[x].items.type: Required value: must not be empty for specified array items"},
    {"{'type':'object','properties':{'x':{'type':'array'}}}", "properties[x].items: Required value: must be specified"},
    {"{'type':'object','properties':{'x':{'type':'thing'}}}",
     "properties[x].type: Unsupported value: \"thing\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\""},
    {"{'type':'object','properties':{'x':{'type':'object','anyOf':[{'type':'object'}]}}}",
     "properties[x].anyOf[0].type: Forbidden: must be empty to be structural"},
    {"{'type':'object','properties':{'x':{'x-kubernetes-int-or-string':true,'anyOf':[{'type':'integer'},{'type':'string'}]}}}", NULL},
    {"{'type':'object','properties':{'x':{'type':'string','pattern':'['}}}",
     "properties[x].pattern: Invalid value: \"[\": must be a valid regular expression, but isn't: "},
    {"{'type':'object','properties':{'x':{'type':'array','uniqueItems':true,'items':{'type':'string'}}}}",
     "properties[x].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"},
    {"{'type':'object','properties':{'x':{'$ref':'#/a','type':'object'}}}", "properties[x].$ref: Forbidden: $ref is not supported"},
    {"{'type':'object','properties':{'metadata':{'type':'object','properties':{'labels':{'type':'object'}}}}}",
     "properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"},
    {"{'type':'object','properties':{'metadata':{'type':'object','properties':{'name':{'type':'string','maxLength':5}}}}}", NULL},
    {"{'type':'object','additionalProperties':{'type':'string'}}", "additionalProperties: Forbidden: must not be used at the root"},
    {"{'type':'object','properties':{'x':{'type':'integer','default':'a'}}}",
     "properties[x].default: Invalid value: \"string\": spec.versions[0].schema.openAPIV3Schema.properties[x].default in body must be of type "
     "integer: \"string\""},
    {"{'type':'object','properties':{'x':{'type':'array','x-kubernetes-list-type':'map','items':{'type':'object'}}}}",
     "properties[x].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map"},
};

UNIT_TEST(structural_schemas) {
    const struct kube_kind *kind = &kube_kind_custom_resource_definition;
    for (size_t i = 0; i < ARRAY_LEN(schemas); i++) {
        struct arena *arena = arena_new(TREE_BYTES_MAX);
        struct diag diag = DIAG_INIT;
        struct kube_object *object = object_from(kind, widgets_from(arena, schemas[i].schema, ""));
        assert_int_equal(kube_default(object), 0);
        int error = kube_validate(object, NULL, &diag);
        if (schemas[i].message) {
            assert_int_equal(error, -EINVAL);
            const char *want = arena_printf(arena,
                                            "CustomResourceDefinition.apiextensions.k8s.io \"widgets.example.com\" is invalid: "
                                            "spec.versions[0].schema.openAPIV3Schema.%s",
                                            schemas[i].message);
            if (!slice_starts(slice_of(diag.message), slice_of(want)))
                assert_string_equal(diag.message, want);
        } else if (error) {
            fail_msg("%s: %s", schemas[i].schema, diag.message);
        }
        kube_object_unref(object);
        arena_free(arena);
    }
}

/* --- kinds that come and go --- */

#define FREE "{'type':'object','x-kubernetes-preserve-unknown-fields':true}"

UNIT_TEST(kinds_join_the_table) {
    struct arena *arena = arena_new(TREE_BYTES_MAX);
    size_t before = kube_kinds_count();
    char *two =
        arena_printf(arena, WIDGETS "{'name':'v1beta1','served':true,'storage':false,'deprecated':true,'schema':{'openAPIV3Schema':" FREE "}},"
                                    "{'name':'v1','served':true,'storage':true,'schema':{'openAPIV3Schema':" FREE "}},"
                                    "{'name':'v1alpha1','served':false,'storage':false,'schema':{'openAPIV3Schema':" FREE "}}]}}");
    assert_int_equal(widgets_install(arena, two), 0);
    assert_int_equal(kube_kinds_count(), before + 2);
    assert_string_equal(kube_kind_at(before)->version, "v1"); /* the best first */
    assert_string_equal(kube_kind_at(before + 1)->version, "v1beta1");
    const struct kube_kind *kind = kube_kind_by_plural(SLICE("example.com"), SLICE("v1beta1"), SLICE("widgets"));
    assert_non_null(kind);
    assert_string_equal(kube_kind_key(kind), "widgets.example.com");
    assert_string_equal(kube_kind_api_version(kind), "example.com/v1beta1");
    assert_string_equal(kube_custom_deprecation(kind), "example.com/v1beta1 Widget is deprecated");
    assert_string_equal(kube_custom_storage(kind)->version, "v1");
    assert_null(kube_kind_by_plural(SLICE("example.com"), SLICE("v1alpha1"), SLICE("widgets")));
    assert_non_null(kube_kind_find(SLICE("example.com"), SLICE("v1alpha1"), SLICE("Widget"))); /* stored once, perhaps */

    struct kube_object *object = object_from(kind, "{" META ",'spec':{'a':1}}");
    struct kube_object *stored = kube_custom_convert(object, kube_custom_storage(kind));
    assert_json(stored, "{'kind':'Widget','apiVersion':'example.com/v1','metadata':{'name':'w','namespace':'n'},'spec':{'a':1}}");
    kube_object_unref(stored);

    /* a change keeps the address, and removal the objects there are */
    assert_int_equal(widgets_install(arena, two), 0);
    assert_ptr_equal(kube_kind_by_plural(SLICE("example.com"), SLICE("v1beta1"), SLICE("widgets")), kind);
    widgets_remove();
    assert_int_equal(kube_kinds_count(), before);
    assert_null(kube_kind_find(SLICE("example.com"), SLICE("v1"), SLICE("Widget")));
    assert_json(object, "{'kind':'Widget','apiVersion':'example.com/v1beta1','metadata':{'name':'w','namespace':'n'},'spec':{'a':1}}");
    kube_object_unref(object);
    arena_free(arena);
}

/* --- tables, selectors, scale, shapes --- */

UNIT_TEST(tables_and_selectors) {
    struct arena *arena = arena_new(TREE_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(KIB);
    struct tree *tree = tree_from(arena, widgets_from(arena, FREE, ""));
    struct tree *version = tree_at(tree_path(tree, "spec.versions"), 0), *parts = NULL;
    struct diag diag = DIAG_INIT;
    static const char json[] =
        "{\"subresources\":{\"status\":{},\"scale\":{\"specReplicasPath\":\".spec.n\",\"statusReplicasPath\":\".status.n\",\"labelSelectorPath\":\"."
        "status.sel\"}},"
        "\"selectableFields\":[{\"jsonPath\":\".spec.color\"},{\"jsonPath\":\".spec.n\"}],"
        "\"additionalPrinterColumns\":[{\"name\":\"N\",\"type\":\"integer\",\"jsonPath\":\".spec.n\"},"
        "{\"name\":\"Ready\",\"type\":\"string\",\"jsonPath\":\".status.conditions[?(@.type=='Ready')].status\"},"
        "{\"name\":\"Label\",\"type\":\"string\",\"jsonPath\":\".metadata.labels.a\\\\.b/c\"},"
        "{\"name\":\"List\",\"type\":\"string\",\"jsonPath\":\".spec.list\"},{\"name\":\"Last\",\"type\":\"string\",\"jsonPath\":\".spec.list[-1]\"},"
        "{\"name\":\"When\",\"type\":\"date\",\"jsonPath\":\".spec.when\",\"priority\":1},"
        "{\"name\":\"Gone\",\"type\":\"string\",\"jsonPath\":\".spec.nothing.here\"}]}";
    assert_int_equal(json_parse(arena, slice_of(json), NULL, &parts, &diag), 0);
    for (size_t i = 0; i < tree_count(parts); i++)
        assert_int_equal(tree_set(arena, version, parts->children->items[i].key, parts->children->items[i].value), 0);
    struct kube_custom_set *set = NULL;
    assert_int_equal(kube_custom_compile(tree, &set, &diag), 0);
    assert_int_equal(kube_custom_install(set), 0);

    const struct kube_kind *kind = widget("v1");
    assert_true(kind->has_status && kind->has_scale);
    assert_string_equal(kube_custom_scale(kind)->selector, "status.sel");
    assert_int_equal(kind->columns_count, 8);
    assert_string_equal(kind->columns[0].name, "Name");
    assert_int_equal(kind->columns[6].priority, 1);
    struct kube_object *object = object_from(
        kind, "{'metadata':{'name':'w','labels':{'a.b/c':'v'}},'spec':{'n':3,'color':'red','list':['x','y'],'when':'2023-11-14T22:13:20Z'},"
              "'status':{'conditions':[{'type':'Other','status':'False'},{'type':'Ready','status':'True'}]}}");
    json_format(&text, kube_table_row(object, arena, NOW));
    assert_string_equal(text.data, "[\"w\",3,\"True\",\"v\",\"[\\\"x\\\",\\\"y\\\"]\",\"y\",\"10m\",null]");

    static const struct {
        const char *text;
        bool holds;
    } selectors[] = {{"spec.color=red", true}, {"spec.color!=red", false}, {"spec.n=3,metadata.name=w", true}, {"metadata.name=x", false}};
    struct kube_selector *selector = NULL;
    for (size_t i = 0; i < ARRAY_LEN(selectors); i++) {
        assert_int_equal(kube_field_selector_parse(kind, arena, slice_of(selectors[i].text), &selector, &diag), 0);
        assert_int_equal(kube_field_selector_match(selector, object), selectors[i].holds);
    }
    assert_int_equal(kube_field_selector_parse(kind, arena, SLICE("spec.list=x"), &selector, &diag), -EINVAL);
    assert_string_equal(diag.message, "field label not supported: spec.list");
    kube_object_unref(object);
    widgets_remove();
    arena_free(arena);
}

UNIT_TEST(shapes) {
    struct arena *arena = arena_new(TREE_BYTES_MAX);
    static const struct {
        const char *name;
        enum kube_merge merge;
    } members[] = {{"m", KUBE_MERGE_MAP},       {"s", KUBE_MERGE_STRUCT},     {"set", KUBE_MERGE_SET},     {"keyed", KUBE_MERGE_KEYED},
                   {"list", KUBE_MERGE_ATOMIC}, {"whole", KUBE_MERGE_ATOMIC}, {"text", KUBE_MERGE_ATOMIC}, {"free", KUBE_MERGE_FREE}};
    assert_int_equal(
        widgets_install(
            arena,
            widgets_from(
                arena,
                "{'type':'object','properties':{'m':{'type':'object','additionalProperties':{'type':'string'}},'s':{'type':'object','properties':"
                "{'a':{'type':'string'}}},'set':{'type':'array','x-kubernetes-list-type':'set','items':{'type':'string'}},'keyed':{'type':'array',"
                "'x-kubernetes-list-type':'map','x-kubernetes-list-map-keys':['b','a'],'items':{'type':'object','properties':{'a':{'type':'string',"
                "'default':'x'},'b':{'type':'string'}}}},'list':{'type':'array','items':{'type':'string'}},'whole':{'type':'object',"
                "'x-kubernetes-map-type':'atomic','properties':{'a':{'type':'string'}}},'text':{'type':'string'},'free':{'type':'object',"
                "'x-kubernetes-preserve-unknown-fields':true}}}",
                "")),
        0);
    struct kube_shape_node root, member;
    struct kube_shape_key key;
    kube_shape_of(widget("v1"), &root);
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        assert_true(kube_shape_member(&root, slice_of(members[i].name), &member));
        assert_int_equal(member.merge, members[i].merge);
    }
    assert_true(kube_shape_member(&root, SLICE("metadata"), &member));
    assert_int_equal(member.merge, KUBE_MERGE_STRUCT);
    assert_false(kube_shape_member(&root, SLICE("unknown"), &member));
    kube_shape_member(&root, SLICE("keyed"), &member);
    assert_true(kube_shape_key(&member, 0, &key));
    assert_true(slice_is(key.name, "a"));
    assert_string_equal(tree_text_or(key.default_, ""), "x");
    assert_true(kube_shape_key(&member, 1, &key));
    assert_true(slice_is(key.name, "b"));
    assert_false(kube_shape_key(&member, 2, &key));
    widgets_remove();
    arena_free(arena);
}

/* Alternatives within alternatives cost no more than their number; and many of them upon many items are cut off, and that is said. */
UNIT_TEST(alternatives_are_bounded) {
    struct arena *arena = arena_new(TREE_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer schema = BUFFER_INIT(MIB), list = BUFFER_INIT(MIB);
    struct diag diag = DIAG_INIT;
    const char *nested = "{'required':['a']}";
    for (int i = 0; i < 60; i++)
        nested = arena_printf(arena, "{'anyOf':[%s]}", nested);
    assert_int_equal(
        widgets_install(arena, widgets_from(arena, arena_printf(arena, "{'x-kubernetes-preserve-unknown-fields':true,'anyOf':[%s]}", nested), "")),
        0);
    struct kube_object *object = widget_with(arena, "'b':1");
    assert_int_equal(kube_validate(object, NULL, &diag), -EINVAL);
    kube_object_unref(object);

    buffer_append_text(&schema, "{'x-kubernetes-preserve-unknown-fields':true,'properties':{'l':{'type':'array','items':{'oneOf':[{'enum':[1]}");
    for (int i = 0; i < 300; i++)
        buffer_append_text(&schema, ",{'enum':[2]}");
    buffer_append_text(&schema, "]}}}}");
    buffer_append_text(&list, "'l':[1");
    for (int i = 0; i < 20000; i++)
        buffer_append_text(&list, ",1");
    buffer_append_text(&list, "]");
    assert_int_equal(widgets_install(arena, widgets_from(arena, schema.data, "")), 0);
    object = widget_with(arena, list.data);
    diag = DIAG_INIT;
    assert_int_equal(kube_validate(object, NULL, &diag), -EINVAL);
    assert_non_null(strstr(diag.message, "takes too many steps to validate"));
    kube_object_unref(object);
    widgets_remove();
    arena_free(arena);
}

UNIT_MAIN(UNIT(pruning_and_defaults), UNIT(validation), UNIT(structural_schemas), UNIT(kinds_join_the_table), UNIT(tables_and_selectors),
          UNIT(shapes), UNIT(alternatives_are_bounded))

/* The schema compiler's errors name file and line, and its names follow the rules at the top of kube.h. */
#include "schema_priv.h"

#include "unit.h"

static void schema_deinit(struct schema *schema) {
    for (size_t i = 0; i < schema->types.count; i++)
        VECTOR_DEINIT(&schema->types.items[i]->fields);
    for (size_t i = 0; i < schema->kinds.count; i++) {
        VECTOR_DEINIT(&schema->kinds.items[i]->short_names);
        VECTOR_DEINIT(&schema->kinds.items[i]->categories);
        VECTOR_DEINIT(&schema->kinds.items[i]->columns);
    }
    VECTOR_DEINIT(&schema->types);
    VECTOR_DEINIT(&schema->kinds);
    VECTOR_DEINIT(&schema->docs);
    map_free(schema->docs_by_name);
    VECTOR_DEINIT(&schema->values);
    map_free(schema->types_by_name);
    map_free(schema->values_by_name);
    arena_free(schema->arena);
}

/* Compiles the text, and its descriptions unless `docs` is NULL; the formatted error, or "". */
static void compile_with(const char *text, const char *docs, char *ret, size_t size) {
    struct schema schema = {.arena = arena_new(MIB), .types_by_name = map_new(), .values_by_name = map_new(), .docs_by_name = map_new()};
    struct diag diag = DIAG_INIT;
    int error = schema_read(&schema, "x.idl", slice_of(text), &diag);
    if (error == 0)
        error = schema_resolve(&schema, &diag);
    if (error == 0 && docs)
        error = schema_read_docs(&schema, "x.doc", slice_of(docs), &diag);
    if (error == 0 && docs)
        error = schema_resolve_docs(&schema, &diag);
    ret[0] = 0;
    if (error)
        diag_format(&diag, ret, size);
    schema_deinit(&schema);
}

static void compile(const char *text, char *ret, size_t size) {
    compile_with(text, NULL, ret, size);
}

UNIT_TEST(errors_name_the_line) {
    static const char *const cases[][2] = {
        {"group a v1\ntype X {\n    a string 1\n}\n", ""},
        {"group a v1\ntype X {\n    a strin 1\n}\n", "x.idl:3: unknown type \"strin\""},
        {"type X {\n    a string one\n}\n", "x.idl:2: \"one\" is no number"},
        {"type X {\n    a string 1\n    a bool 2\n}\n", "x.idl:3: field \"a\" is described twice"},
        {"type X {\n}\n\ntype X {\n}\n", "x.idl:4: type \"X\" is described twice"},
        {"type X {\n    a string 1\n", "x.idl:2: a block is not closed"},
        {"typo X {\n", "x.idl:1: expected a group, enum, names, type, union or kind, found \"typo\""},
        {"group a v1\nkind X {\n    plural xs\n    singular x\n    served\n}\n", "x.idl:2: kind \"X\" has no type \"X\""},
        {"group a v1\nkind X {\n    scope galaxy\n}\n", "x.idl:3: unknown statement \"scope\" in a kind"},
        {"type X {\n    inline Y 1\n}\n", "x.idl:2: unknown type \"Y\""},
        {"group a v1\ntype X {\n    a string 1\n}\nkind X {\n    stored-as X y\n}\n", "x.idl:5: kind \"X\" is not served"},
        {"# \"fine\ntype X { # \"too\n}\nnames A \"b c\n", "x.idl:4: a quote is not closed"},
    };
    char got[1024];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        compile(cases[i][0], got, sizeof got);
        assert_string_equal(got, cases[i][1]);
    }
}

UNIT_TEST(every_field_of_a_served_kind_is_described) {
    static const char schema[] =
        "group a v1\ntype ObjectMeta {\n}\ntype In {\n    b string 1\n}\ntype ACondition {\n    s string 1\n}\ntype A {\n    "
        "metadata ObjectMeta 1\n    inline In 2\n    c ACondition 3\n}\ntype Other {\n    d string 1\n}\nkind A {\n    plural as\n   "
        " singular a\n    served\n}\n";
#define META "ObjectMeta: Meta.\n"
    static const char *const cases[][2] = {
        {META "A: One.\n    metadata: M.\n    c: C.\nIn: Two.\n    b: B.\n*Condition:\n    s: S.\nACondition: Three.\n", ""},
        {META "A: One.\n    c: C.\nIn:\n    b: B.\n*:\n    metadata: M.\nACondition like In: C.\n    s: S.\n",
         "x.doc:4: the sentence about \"In\" must end with "
         "a full stop"},
        {META "A: One.\n    metadata: M.\n    b: B.\n    c: C.\n*:\n    s: S.\nIn: I.\nACondition like In:\n", ""},
        {META "A: One.\n    metadata: M.\n    c: C.\n    b: B.\nACondition: C.\n",
         "x.idl:8: field \"s\" of \"ACondition\" has no sentence in a .doc file"},
        {META "A: One.\n    metadata: M.\n    c: C.\n    b: B.\n", "x.idl:7: type \"ACondition\" has no sentence in a .doc file"},
        {META "A: One.\n    metadata: M.\n    c: C.\n    b: B.\n    e: E.\nACondition: C.\n    s: S.\n",
         "x.doc:6: no field \"e\" needs this sentence"},
        {META "A: One.\n    metadata: M.\n    c: C.\n    b: B.\nACondition: C.\n    s: S.\nB: B.\n", "x.doc:8: there is no type \"B\""},
        {META "A: One.\nA: Two.\n", "x.doc:3: \"A.\" is described twice"},
        {"    a: A.\n", "x.doc:1: expected \"Type: Sentence.\" or, indented, \"field: Sentence.\""},
        {"A like: A.\n", "x.doc:1: expected \"Type like Other: Sentence.\""},
        {"A: No end\n", "x.doc:1: the sentence about \"A\" must end with a full stop"},
    };
    char got[1024];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        compile_with(schema, cases[i][0], got, sizeof got);
        assert_string_equal(got, cases[i][1]);
    }
}

UNIT_TEST(names) {
    static const char *const cases[][2] = {{"podIPs", "pod_ips"},
                                           {"hostIP", "host_ip"},
                                           {"HTTPGetAction", "http_get_action"},
                                           {"clusterIPs", "cluster_ips"},
                                           {"hostPID", "host_pid"},
                                           {"default", "default_"},
                                           {"fieldsV1", "fields_v1"},
                                           {"V2MetricSpec", "v2_metric_spec"},
                                           {"setHostnameAsFQDN", "set_hostname_as_fqdn"},
                                           {"ttlSecondsAfterFinished", "ttl_seconds_after_finished"},
                                           {"IPBlock", "ip_block"},
                                           {"$ref", "ref"},
                                           {"x-kubernetes-list-type", "x_kubernetes_list_type"}};
    struct arena *arena = arena_new(MIB);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(schema_c_name(arena, cases[i][0]), cases[i][1]);
    arena_free(arena);
}

UNIT_MAIN(UNIT(errors_name_the_line), UNIT(names), UNIT(every_field_of_a_served_kind_is_described))

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
    VECTOR_DEINIT(&schema->values);
    map_free(schema->types_by_name);
    map_free(schema->values_by_name);
    arena_free(schema->arena);
}

/* Compiles the text; the formatted error, or "". */
static void compile(const char *text, char *ret, size_t size) {
    struct schema schema = {.arena = arena_new(MIB), .types_by_name = map_new(), .values_by_name = map_new()};
    struct diag diag = DIAG_INIT;
    int error = schema_read(&schema, "x.idl", slice_of(text), &diag);
    if (error == 0)
        error = schema_resolve(&schema, &diag);
    ret[0] = 0;
    if (error)
        diag_format(&diag, ret, size);
    schema_deinit(&schema);
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

UNIT_MAIN(UNIT(errors_name_the_line), UNIT(names))

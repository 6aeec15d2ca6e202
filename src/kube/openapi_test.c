/* OpenAPI documents: well formed, complete (every reference leads somewhere), and right in what kubectl computes patches from. */
#include "kube/openapi_priv.h"

#include <stdio.h>

#include "unit.h"

struct document {
    struct arena *arena;
    struct buffer json;
    struct tree *root;
    const struct tree *schemas;
};

static void load(struct document *document, const char *group, const char *version) {
    struct diag diag = DIAG_INIT;
    *document = (struct document){.arena = arena_new(256 * MIB), .json = BUFFER_INIT(64 * MIB)};
    assert_non_null(document->arena);
    int error = group ? kube_openapi_v3(slice_of(group), slice_of(version), &document->json) : kube_openapi_v2(&document->json);
    assert_int_equal(error, 0);
    assert_int_equal(json_parse(document->arena, buffer_slice(&document->json), NULL, &document->root, &diag), 0);
    document->schemas = group ? tree_path(document->root, "components.schemas") : tree_find(document->root, "definitions");
    assert_non_null(document->schemas);
}

static void unload(struct document *document) {
    buffer_deinit(&document->json);
    arena_free(document->arena);
}

/* Every "$ref" below node names a component. */
static size_t check_references(const struct document *document, const struct tree *node) {
    size_t count = 0;
    for (size_t i = 0; (node->type == TREE_MAP || node->type == TREE_LIST) && i < node->children->count; i++) {
        const struct tree_entry *entry = &node->children->items[i];
        if (node->type == TREE_MAP && slice_is(entry->key, "$ref") && entry->value->type == TREE_STRING) {
            const char *name = strrchr(entry->value->string.data, '/');
            assert_non_null(name);
            if (!tree_find(document->schemas, name + 1))
                fail_msg("%s leads nowhere", entry->value->string.data);
            count++;
        } else
            count += check_references(document, entry->value);
    }
    return count;
}

UNIT_TEST(every_reference_leads_to_a_component) {
    struct kube_group_version *versions = NULL;
    size_t count = 0;
    struct document document;
    assert_int_equal(kube_group_versions(&versions, &count), 0);
    for (size_t i = 0; i < count; i++) {
        load(&document, versions[i].group, versions[i].version);
        assert_true(check_references(&document, document.root) > 10);
        unload(&document);
    }
    free(versions);
    load(&document, NULL, NULL);
    assert_true(check_references(&document, document.root) > 1000);
    unload(&document);
    assert_int_equal(kube_openapi_v3(SLICE("nothing"), SLICE("v1"), &document.json), -ENOENT);
    buffer_deinit(&document.json);
}

/* Every kind's component bears its group, version and kind: that is how kubectl finds it. */
UNIT_TEST(every_kind_is_found_by_its_name) {
    struct document document;
    load(&document, NULL, NULL);
    for (size_t i = 0; i < kube_kinds_count(); i++) {
        const struct kube_kind *kind = kube_kind_at(i);
        char name[256];
        snprintf(name, sizeof name, "%s.%s", kind->type->package, kind->type->name);
        bool found = false;
        const struct tree *names = tree_find(tree_find(document.schemas, name), "x-kubernetes-group-version-kind");
        for (size_t j = 0; j < tree_count(names); j++)
            found |= !strcmp(tree_text_or(tree_find(tree_at(names, j), "kind"), ""), kind->kind) &&
                     !strcmp(tree_text_or(tree_find(tree_at(names, j), "version"), ""), kind->version) &&
                     !strcmp(tree_text_or(tree_find(tree_at(names, j), "group"), ""), kind->group);
        if (!found)
            fail_msg("%s has no component under its name", name);
    }
    unload(&document);
}

static bool is_described(const struct tree *schema) {
    return *tree_text_or(tree_find(schema, "description"), "");
}

/* Also of what no served kind reaches, and the schema compiler so does not check: reviews, options, lists. */
UNIT_TEST(everything_is_described) {
    struct document document;
    load(&document, NULL, NULL);
    for (size_t i = 0; i < tree_count(document.schemas); i++) {
        const struct tree_entry *entry = &document.schemas->children->items[i];
        const struct tree *properties = tree_find(entry->value, "properties");
        if (!is_described(entry->value))
            fail_msg("%s has no description", entry->key.data);
        for (size_t j = 0; j < tree_count(properties); j++)
            if (!is_described(properties->children->items[j].value))
                fail_msg("%s of %s has no description", properties->children->items[j].key.data, entry->key.data);
    }
    unload(&document);
}

/* The schema of a field as JSON, its description left out. */
static void field_is(const struct document *document, const char *type, const char *field, const char *expected) {
    struct tree *schema = tree_find(tree_find(tree_find(document->schemas, type), "properties"), field);
    if (!schema)
        fail_msg("%s has no field %s", type, field);
    tree_unset(schema, SLICE("description"));
    struct buffer json = BUFFER_INIT(64 * KIB);
    json_format(&json, schema);
    assert_string_equal(json.data, expected);
    buffer_deinit(&json);
}

#define CORE "io.k8s.api.core.v1."
#define META "io.k8s.apimachinery.pkg.apis.meta.v1."
#define REF(name) "{\"$ref\":\"#/components/schemas/" name "\"}"

UNIT_TEST(schemas_say_what_upstreams_say) {
    static const char *const facts[][3] = {
        {CORE "PodSpec", "containers",
         "{\"type\":\"array\",\"items\":{\"default\":{},\"allOf\":[" REF(
             CORE "Container") "]},\"x-kubernetes-list-map-keys\":[\"name\"],\"x-kubernetes-list-type\":\"map\",\"x-kubernetes-patch-merge-key\":"
                               "\"name\",\"x-kubernetes-patch-strategy\":\"merge\"}"},
        {CORE "PodSpec", "volumes",
         "{\"type\":\"array\",\"items\":{\"default\":{},\"allOf\":[" REF(
             CORE "Volume") "]},\"x-kubernetes-list-map-keys\":[\"name\"],\"x-kubernetes-list-type\":\"map\",\"x-kubernetes-patch-merge-key\":"
                            "\"name\",\"x-kubernetes-patch-strategy\":\"merge,retainKeys\"}"},
        {CORE "PodSpec", "nodeSelector",
         "{\"type\":\"object\",\"additionalProperties\":{\"default\":\"\",\"type\":\"string\"},\"x-kubernetes-map-type\":\"atomic\"}"},
        {CORE "PodSpec", "restartPolicy", "{\"type\":\"string\",\"enum\":[\"Always\",\"Never\",\"OnFailure\"]}"},
        {CORE "Container", "ports",
         "{\"type\":\"array\",\"items\":{\"default\":{},\"allOf\":[" REF(
             CORE "ContainerPort") "]},\"x-kubernetes-list-map-keys\":[\"containerPort\",\"protocol\"],\"x-kubernetes-list-type\":\"map\",\"x-"
                                   "kubernetes-patch-merge-key\":\"containerPort\",\"x-kubernetes-patch-strategy\":\"merge\"}"},
        {CORE "Container", "name", "{\"default\":\"\",\"type\":\"string\"}"},
        {CORE "Container", "args", "{\"type\":\"array\",\"items\":{\"default\":\"\",\"type\":\"string\"},\"x-kubernetes-list-type\":\"atomic\"}"},
        {CORE "Container", "livenessProbe", "{\"allOf\":[" REF(CORE "Probe") "]}"},
        {CORE "ContainerPort", "protocol", "{\"default\":\"TCP\",\"type\":\"string\",\"enum\":[\"SCTP\",\"TCP\",\"UDP\"]}"},
        {CORE "ResourceRequirements", "limits",
         "{\"type\":\"object\",\"additionalProperties\":" REF("io.k8s.apimachinery.pkg.api.resource.Quantity") "}"},
        {CORE "HTTPGetAction", "port", "{\"allOf\":[" REF("io.k8s.apimachinery.pkg.util.intstr.IntOrString") "]}"},
        {META "ObjectMeta", "finalizers",
         "{\"type\":\"array\",\"items\":{\"default\":\"\",\"type\":\"string\"},\"x-kubernetes-list-type\":\"set\",\"x-kubernetes-patch-strategy\":"
         "\"merge\"}"},
        {META "ObjectMeta", "creationTimestamp", "{\"allOf\":[" REF(META "Time") "]}"},
        {"io.k8s.api.apps.v1.DeploymentSpec", "replicas", "{\"type\":\"integer\",\"format\":\"int32\"}"},
        {"io.k8s.api.apps.v1.DeploymentSpec", "strategy",
         "{\"default\":{},\"allOf\":[" REF("io.k8s.api.apps.v1.DeploymentStrategy") "],\"x-kubernetes-patch-strategy\":\"retainKeys\"}"},
    };
    struct document document;
    load(&document, "apps", "v1");
    for (size_t i = 0; i < ARRAY_LEN(facts); i++)
        field_is(&document, facts[i][0], facts[i][1], facts[i][2]);
    const struct tree *spec = tree_find(document.schemas, "io.k8s.api.apps.v1.DeploymentSpec");
    assert_int_equal(tree_count(tree_find(spec, "required")), 2);
    assert_string_equal(tree_text_or(tree_find(tree_find(document.schemas, META "LabelSelector"), "x-kubernetes-map-type"), ""), "atomic");
    assert_int_equal(tree_count(tree_find(tree_find(document.schemas, "io.k8s.apimachinery.pkg.util.intstr.IntOrString"), "oneOf")), 2);
    unload(&document);
}

/* kubectl looks for these before it sends anything. */
UNIT_TEST(a_patch_lists_its_parameters_and_forms) {
    struct document document;
    load(&document, "apps", "v1");
    const struct tree *path = tree_find(tree_find(document.root, "paths"), "/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
    const struct tree *patch = tree_find(path, "patch"), *parameters = tree_find(patch, "parameters");
    assert_string_equal(tree_text_or(tree_path(patch, "x-kubernetes-group-version-kind.kind"), ""), "Deployment");
    assert_string_equal(tree_text_or(tree_find(patch, "operationId"), ""), "patchAppsV1NamespacedDeployment");
    assert_int_equal(tree_count(parameters), 4);
    assert_string_equal(tree_text_or(tree_find(tree_at(parameters, 2), "name"), ""), "fieldValidation");
    assert_int_equal(tree_count(tree_path(patch, "requestBody.content")), 4);
    path = tree_find(tree_find(document.root, "paths"), "/apis/apps/v1/deployments");
    assert_string_equal(tree_text_or(tree_path(path, "get.operationId"), ""), "listAppsV1DeploymentForAllNamespaces");
    path = tree_find(tree_find(document.root, "paths"), "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale");
    assert_string_equal(tree_text_or(tree_path(path, "put.operationId"), ""), "replaceAppsV1NamespacedDeploymentScale");
    unload(&document);
    load(&document, "", "v1");
    path = tree_find(tree_find(document.root, "paths"), "/api/v1/namespaces/{namespace}/pods/{name}/exec");
    assert_string_equal(tree_text_or(tree_path(path, "post.operationId"), ""), "connectCoreV1PostNamespacedPodExec");
    path = tree_find(tree_find(document.root, "paths"), "/api/v1/namespaces/{namespace}/pods");
    assert_string_equal(tree_text_or(tree_path(path, "delete.operationId"), ""), "deleteCoreV1CollectionNamespacedPod");
    unload(&document);
}

/* --- custom kinds --- */

static const struct kube_type widget_type = {.name = "Widget", .package = "x"};

static void custom_is(const char *schema, bool v2, const char *expected) {
    struct diag diag = DIAG_INIT;
    struct arena *arena = arena_new(MIB);
    struct tree *tree = NULL;
    assert_int_equal(json_parse(arena, slice_of(schema), NULL, &tree, &diag), 0);
    const struct kube_kind kind = {.group = "stable.example.com", .version = "v1", .kind = "Widget", .type = &widget_type};
    struct buffer out = BUFFER_INIT(MIB);
    struct openapi openapi = {.out = &out, .v2 = v2};
    openapi_custom_name(&kind, &out);
    assert_string_equal(out.data, "com.example.stable.v1.Widget");
    buffer_reset(&out);
    openapi_custom_component(&openapi, &kind, tree);
    assert_string_equal(out.data, expected);
    VECTOR_DEINIT(&openapi.types);
    buffer_deinit(&out);
    arena_free(arena);
}

#define TYPE_META                                                                                                                                    \
    "\"apiVersion\":{\"description\":\"APIVersion defines in which group and version the object is written, such as v1 or "                          \
    "apps/v1.\",\"type\":\"string\"},\"kind\":{"                                                                                                     \
    "\"description\":\"What kind of object this is, in CamelCase.\",\"type\":\"string\"},\"metadata\":{\"description\":\"Name, namespace, labels "   \
    "and what else all objects have.\","
#define WIDGET_NAME ",\"x-kubernetes-group-version-kind\":[{\"group\":\"stable.example.com\",\"kind\":\"Widget\",\"version\":\"v1\"}]}"

UNIT_TEST(custom_kinds_publish_their_schema) {
    static const char schema[] =
        "{\"type\":\"object\",\"description\":\"A widget.\",\"properties\":{\"metadata\":{\"type\":\"object\"},\"spec\":{\"type\":\"object\","
        "\"properties\":{\"port\":{\"x-kubernetes-int-or-string\":true,\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]},\"size\":{\"type\":"
        "\"integer\",\"default\":3,\"minimum\":1}}}}}";
    custom_is(schema, false,
              "{\"type\":\"object\",\"description\":\"A widget.\",\"properties\":{" TYPE_META "\"allOf\":[{\"$ref\":\"#/components/schemas/" META
              "ObjectMeta\"}]},\"spec\":{\"type\":\"object\",\"properties\":{\"port\":{\"x-kubernetes-int-or-string\":true,\"anyOf\":[{\"type\":"
              "\"integer\"},{\"type\":\"string\"}]},\"size\":{\"type\":\"integer\",\"default\":3,\"minimum\":1}}}}" WIDGET_NAME);
    custom_is(schema, true,
              "{\"type\":\"object\",\"description\":\"A widget.\",\"properties\":{" TYPE_META "\"$ref\":\"#/definitions/" META
              "ObjectMeta\"},\"spec\":{\"type\":\"object\",\"properties\":{\"port\":{\"x-kubernetes-int-or-string\":true},\"size\":{\"type\":"
              "\"integer\",\"minimum\":1}}}}" WIDGET_NAME);
    custom_is("{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true}", true, "{\"type\":\"object\"" WIDGET_NAME);
}

/* --- protobuf --- */

/* Expected bytes are worked out by hand from gnostic's message numbers. */
UNIT_TEST(documents_in_protobuf) {
    static const uint8_t plain[] = {0x0a, 0x03, 0x32, 0x2e, 0x30, 0x12, 0x06, 0x0a, 0x01, 0x4b, 0x12, 0x01, 0x76};
    /* definitions {name, value {type {value}, x-k {name, value {yaml}}}} */
    static const uint8_t v2[] = {0x0a, 0x03, 0x32, 0x2e, 0x30, 0x4a, 0x23, 0x0a, 0x21, 0x0a, 0x01, 0x41, 0x12, 0x1c,
                                 0xb2, 0x01, 0x08, 0x0a, 0x06, 0x6f, 0x62, 0x6a, 0x65, 0x63, 0x74, 0xfa, 0x01, 0x0e,
                                 0x0a, 0x03, 0x78, 0x2d, 0x6b, 0x12, 0x07, 0x12, 0x05, 0x5b, 0x22, 0x61, 0x22, 0x5d};
    /* components.schemas: a reference, and a schema whose description has an escape and whose default is a boolean */
    static const uint8_t v3[] = {0x0a, 0x01, 0x33, 0x2a, 0x24, 0x0a, 0x22, 0x0a, 0x0c, 0x0a, 0x01, 0x41, 0x12, 0x07,
                                 0x12, 0x05, 0x0a, 0x03, 0x23, 0x2f, 0x42, 0x0a, 0x12, 0x0a, 0x01, 0x42, 0x12, 0x0d,
                                 0x0a, 0x0b, 0x92, 0x02, 0x03, 0x61, 0x22, 0x62, 0x8a, 0x02, 0x02, 0x10, 0x01};
    static const struct {
        const char *json;
        const uint8_t *bytes;
        size_t len;
    } cases[] = {
        {"{\"swagger\":\"2.0\",\"info\":{\"title\":\"K\",\"version\":\"v\"}}", plain, sizeof plain},
        {"{\"swagger\":\"2.0\",\"definitions\":{\"A\":{\"type\":\"object\",\"x-k\":[\"a\"]}}}", v2, sizeof v2},
        {"{\"openapi\":\"3\",\"components\":{\"schemas\":{\"A\":{\"$ref\":\"#/B\"},\"B\":{\"description\":\"a\\\"b\",\"default\":true}}}}", v3,
         sizeof v3},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buffer out = BUFFER_INIT(MIB);
        assert_int_equal(kube_openapi_to_protobuf(slice_of(cases[i].json), &out), 0);
        assert_int_equal(out.len, cases[i].len);
        assert_memory_equal(out.data, cases[i].bytes, cases[i].len);
        buffer_deinit(&out);
    }
}

UNIT_TEST(what_is_no_document_is_refused) {
    static const char *const wrong[] = {
        "",
        "{}",
        "[]",
        "{\"swagger\":",
        "{\"swagger\":\"2.0\"",
        "{\"swagger\":\"2.0\",}",
        "{\"swagger\":\"2.0\",\"paths\":[[[",
        "{\"openapi\":\"3.0.0\",\"components\":{\"schemas\":{\"a\":}}}",
        "{\"openapi\":\"3.0.0\" \"info\":{}}",
        "{\"openapi\":\"3.0.0\\",
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct buffer out = BUFFER_INIT(MIB);
        assert_int_equal(kube_openapi_to_protobuf(slice_of(wrong[i]), &out), -EINVAL);
        buffer_deinit(&out);
    }
}

/* --- the order of discovery --- */

UNIT_TEST(group_versions_stand_in_upstreams_order) {
    static const char *const expected[] = {"", "apps", "authentication.k8s.io", "authorization.k8s.io", "autoscaling", "batch"};
    struct kube_group_version *versions = NULL;
    size_t count = 0, found = 0;
    assert_int_equal(kube_group_versions(&versions, &count), 0);
    for (size_t i = 0; i < count && found < ARRAY_LEN(expected); i++)
        found += !strcmp(versions[i].group, expected[found]);
    assert_int_equal(found, ARRAY_LEN(expected));
    free(versions);
}

UNIT_MAIN(UNIT(every_reference_leads_to_a_component), UNIT(every_kind_is_found_by_its_name), UNIT(everything_is_described),
          UNIT(schemas_say_what_upstreams_say), UNIT(a_patch_lists_its_parameters_and_forms), UNIT(custom_kinds_publish_their_schema),
          UNIT(documents_in_protobuf), UNIT(what_is_no_document_is_refused), UNIT(group_versions_stand_in_upstreams_order))

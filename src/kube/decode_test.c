#include "kube/testing_priv.h"

static void refused(const struct kube_kind *kind, enum kube_strictness strictness, const char *json, const char *message) {
    struct arena *arena = arena_new(TREE_BYTES_MAX);
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    assert_int_equal(kube_decode_tree(kind, tree_from(arena, json), strictness, &object, &diag), -EINVAL);
    assert_string_equal(diag.message, message);
    arena_free(arena);
}

UNIT_TEST(strict_names_unknown_fields) {
    refused(&kube_kind_deployment, KUBE_STRICT, "{'spec':{'foo':1}}", "strict decoding error: unknown field \"spec.foo\"");
    refused(&kube_kind_deployment, KUBE_STRICT, "{'x':1,'spec':{'template':{'spec':{'containers':[{},{'imagee':'a'}]}}}}",
            "strict decoding error: unknown field \"x\", unknown field \"spec.template.spec.containers[1].imagee\"");
}

UNIT_TEST(warn_reports_and_succeeds) {
    struct arena *arena = arena_new(TREE_BYTES_MAX);
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    struct tree *tree = tree_from(arena, "{'metadata':{'name':'a','nam':'b'}}");
    assert_int_equal(kube_decode_tree(&kube_kind_pod, tree, KUBE_WARN, &object, &diag), 0);
    assert_int_equal(diag.causes_count, 1);
    assert_string_equal(diag.causes[0].message, "unknown field \"metadata.nam\"");
    assert_string_equal(object->pod->metadata.name, "a");
    kube_object_unref(object);
    diag = DIAG_INIT;
    assert_int_equal(kube_decode_tree(&kube_kind_pod, tree, KUBE_LENIENT, &object, &diag), 0);
    assert_int_equal(diag.causes_count, 0);
    kube_object_unref(object);
    arena_free(arena);
}

UNIT_TEST(type_errors_are_upstreams) {
    refused(&kube_kind_deployment, KUBE_LENIENT, "{'spec':{'replicas':'3'}}",
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32");
    refused(&kube_kind_pod, KUBE_LENIENT, "{'spec':{'containers':[{'name':1}]}}",
            "json: cannot unmarshal number into Go struct field Container.spec.containers.name of type string");
    refused(&kube_kind_pod, KUBE_LENIENT, "{'spec':{'hostNetwork':'yes'}}",
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool");
    refused(&kube_kind_deployment, KUBE_LENIENT, "{'spec':{'replicas':3000000000}}",
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32");
    refused(&kube_kind_pod, KUBE_LENIENT, "{'metadata':{'name':'a\\u0000b'}}", "the string holds a NUL character, which is not supported");
    refused(&kube_kind_pod, KUBE_LENIENT, "{'kind':'Service'}", "the kind in the data (Service) does not match the expected kind (Pod)");
    refused(&kube_kind_secret, KUBE_LENIENT, "{'data':{'a':'*'}}", "illegal base64 data");
}

UNIT_TEST(special_values) {
    struct kube_object *object = object_from(
        &kube_kind_pod,
        "{'metadata':{'name':'','labels':{'b':'2','a':''},'creationTimestamp':null},'spec':{'containers':[{'name':'c','resources':{'limits':"
        "{'cpu':0.5,'memory':'1024Mi'}},'env':[{'name':'E'}],'livenessProbe':{'httpGet':{'port':'web'}}}],"
        "'activeDeadlineSeconds':0,'automountServiceAccountToken':false}}");
    const struct kube_pod *pod = object->pod;
    assert_null(pod->metadata.name);
    assert_string_equal(pod->metadata.labels.items[0].key, "a");
    assert_false(pod->metadata.creation_timestamp.set);
    assert_int_equal(kube_quantity_milli(&pod->spec.containers.items[0].resources.limits, "cpu", 0), 500);
    assert_int_equal(*pod->spec.active_deadline_seconds, 0);
    assert_false(*pod->spec.automount_service_account_token);
    assert_json(object,
                "{'kind':'Pod','apiVersion':'v1','metadata':{'labels':{'a':'','b':'2'}},'spec':{'containers':[{'name':'c','env':[{'name':'E'}],"
                "'resources':{'limits':{'cpu':'500m','memory':'1Gi'}},'livenessProbe':{'httpGet':{'port':'web'}}}],"
                "'activeDeadlineSeconds':0,'automountServiceAccountToken':false},'status':{}}");
    kube_object_unref(object);
}

UNIT_TEST(kinds_are_found) {
    assert_ptr_equal(kube_kind_find(SLICE("apps"), SLICE("v1"), SLICE("Deployment")), &kube_kind_deployment);
    assert_ptr_equal(kube_kind_by_plural(SLICE(""), SLICE("v1"), SLICE("pods")), &kube_kind_pod);
    assert_null(kube_kind_find(SLICE("apps"), SLICE("v2"), SLICE("Deployment")));
    assert_string_equal(kube_kind_key(&kube_kind_deployment), "deployments.apps");
    assert_string_equal(kube_kind_key(&kube_kind_pod), "pods");
    assert_string_equal(kube_kind_api_version(&kube_kind_deployment), "apps/v1");
}

UNIT_TEST(protobuf_refuses_garbage) {
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    static const char cut[] = "k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x05\x0a\x09";
    assert_int_equal(kube_decode_protobuf(&kube_kind_pod, SLICE("nope"), &object, &diag), -EINVAL);
    assert_int_equal(kube_decode_protobuf(&kube_kind_pod, slice_make(cut, sizeof cut - 1), &object, &diag), -EINVAL);
    static const char name[] = "k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x05\x0a\x03\x0a\x01z";
    assert_int_equal(kube_decode_protobuf(NULL, slice_make(name, sizeof name - 1), &object, &diag), 0);
    assert_string_equal(object->pod->metadata.name, "z");
    kube_object_unref(object);
    assert_int_equal(kube_decode_protobuf(&kube_kind_node, slice_make(name, sizeof name - 1), &object, &diag), -EINVAL);
}

UNIT_TEST(times_are_kept_however_far_away) {
    static const char json[] = "{\"kind\":\"Lease\",\"apiVersion\":\"coordination.k8s.io/v1\",\"metadata\":{\"name\":\"l\",\"creationTimestamp\":"
                               "\"9999-12-31T23:59:59Z\"},\"spec\":{\"acquireTime\":\"0001-01-01T00:00:02.000005Z\",\"renewTime\":"
                               "\"2026-11-28T10:00:00.000000Z\"}}";
    CLEANUP(buffer_deinit) struct buffer wire = BUFFER_INIT(MIB), again = BUFFER_INIT(MIB);
    struct kube_object *lease = NULL, *back = NULL;
    struct diag diag = DIAG_INIT;
    assert_int_equal(kube_decode_json(&kube_kind_lease, slice_of(json), KUBE_STRICT, &lease, &diag), 0);
    assert_true(lease->lease->spec.acquire_time.ns < lease->lease->spec.renew_time.ns);
    assert_true(lease->lease->spec.renew_time.ns < lease->metadata->creation_timestamp.ns);
    assert_int_equal(kube_encode_protobuf(lease, &wire), 0);
    assert_int_equal(kube_decode_protobuf(&kube_kind_lease, buffer_slice(&wire), &back, &diag), 0);
    assert_true(kube_equal(&kube_lease_type, lease->data, back->data));
    assert_int_equal(kube_encode_json(back, &again), 0);
    assert_string_equal(again.data, json);
    refused(&kube_kind_lease, KUBE_LENIENT, "{'spec':{'renewTime':'9999-12-31T23:59:59-01:00'}}",
            "parsing time \"9999-12-31T23:59:59-01:00\" as \"2006-01-02T15:04:05Z07:00\": cannot parse it");
    kube_object_unref(lease);
    kube_object_unref(back);
}

UNIT_MAIN(UNIT(times_are_kept_however_far_away), UNIT(strict_names_unknown_fields), UNIT(warn_reports_and_succeeds), UNIT(type_errors_are_upstreams),
          UNIT(special_values), UNIT(kinds_are_found), UNIT(protobuf_refuses_garbage))

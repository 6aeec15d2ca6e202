#include "kube/testing_priv.h"

static void converts(const struct kube_kind *from, const char *given, const struct kube_kind *to, const char *expected) {
    struct kube_object *object = object_from(from, given), *view = NULL;
    assert_int_equal(kube_convert(object, to, &view), 0);
    kube_object_unref(object); /* the view stands alone */
    assert_json(view, expected);
    kube_object_unref(view);
}

#define V1 "'kind':'HorizontalPodAutoscaler','apiVersion':'autoscaling/v1',"
#define V2 "'kind':'HorizontalPodAutoscaler','apiVersion':'autoscaling/v2',"
#define TARGET "'scaleTargetRef':{'kind':'Deployment','name':'web','apiVersion':'apps/v1'},'minReplicas':2,'maxReplicas':5"
#define CPU(percent) "{'type':'Resource','resource':{'name':'cpu','target':{'type':'Utilization','averageUtilization':" percent "}}}"

UNIT_TEST(autoscaler_with_cpu_alone) {
    const char *v1 = "{" V1 "'metadata':{'name':'a'},'spec':{" TARGET ",'targetCPUUtilizationPercentage':60},"
                     "'status':{'currentReplicas':3,'desiredReplicas':4,'currentCPUUtilizationPercentage':55}}";
    const char *v2 =
        "{" V2 "'metadata':{'name':'a'},'spec':{" TARGET
        ",'metrics':[" CPU("60") "]},'status':{'currentReplicas':3,'desiredReplicas':4,"
                                 "'currentMetrics':[{'type':'Resource','resource':{'name':'cpu','current':{'averageUtilization':55}}}]}}";
    converts(&kube_kind_horizontal_pod_autoscaler, v1, &kube_kind_v2_horizontal_pod_autoscaler, v2);
    converts(&kube_kind_horizontal_pod_autoscaler, "{'metadata':{'name':'a'},'spec':{" TARGET "}}", &kube_kind_v2_horizontal_pod_autoscaler,
             "{" V2 "'metadata':{'name':'a'},'spec':{" TARGET ",'metrics':[" CPU("80") "]},'status':{'desiredReplicas':0}}");
}

UNIT_TEST(autoscaler_keeps_what_v1_cannot_say) {
    const char *v2 = "{" V2 "'metadata':{'name':'a','annotations':{'mine':'x'}},'spec':{" TARGET ",'metrics':[" CPU(
        "60") ",{'type':'Pods','pods':{'metric':{'name':'hits'},'target':{'type':'AverageValue','averageValue':'10'}}},"
              "{'type':'Object','object':{'describedObject':{'kind':'Ingress','name':'i'},'target':{'type':'Value','value':'3'},'metric':{'name':'m'}"
              "}},"
              "{'type':'External','external':{'metric':{'name':'q'},'target':{'type':'AverageValue','averageValue':'7'}}}],"
              "'behavior':{'scaleDown':{'stabilizationWindowSeconds':60,'selectPolicy':'Max','policies':[{'type':'Pods','value':1,'periodSeconds':15}"
              "]}}},"
              "'status':{'currentReplicas':1,'desiredReplicas':1,'currentMetrics':[{'type':'Resource','resource':{'name':'cpu','current':"
              "{'averageValue':'5m','averageUtilization':9}}}],'conditions':[{'type':'AbleToScale','status':'True'}]}}";
    struct kube_object *object = object_from(&kube_kind_v2_horizontal_pod_autoscaler, v2), *view = NULL, *back = NULL;
    assert_int_equal(kube_convert(object, &kube_kind_horizontal_pod_autoscaler, &view), 0);
    const struct kube_string_map *annotations = &view->metadata->annotations;
    assert_int_equal(annotations->count, 5);
    assert_string_equal(kube_map_find(annotations, "autoscaling.alpha.kubernetes.io/behavior"),
                        "{\"ScaleDown\":{\"StabilizationWindowSeconds\":60,\"SelectPolicy\":\"Max\",\"Policies\":[{\"Type\":\"Pods\",\"Value\":1,"
                        "\"PeriodSeconds\":15}]}}");
    assert_non_null(strstr(kube_map_find(annotations, "autoscaling.alpha.kubernetes.io/metrics"), "\"metricName\":\"hits\""));
    assert_int_equal(*view->v1_horizontal_pod_autoscaler->spec.target_cpu_utilization_percentage, 60);
    assert_int_equal(kube_convert(view, &kube_kind_v2_horizontal_pod_autoscaler, &back), 0);
    assert_json(back, v2);
    kube_object_unref(object);
    kube_object_unref(view);
    kube_object_unref(back);
}

UNIT_TEST(annotations_that_are_no_json_are_ignored) {
    struct kube_object *view = NULL, *object = object_from(&kube_kind_horizontal_pod_autoscaler,
                                                           "{'metadata':{'name':'a','annotations':{'autoscaling.alpha.kubernetes.io/metrics':'[1',"
                                                           "'autoscaling.alpha.kubernetes.io/behavior':'[]'}},'spec':{" TARGET "}}");
    assert_int_equal(kube_convert(object, &kube_kind_v2_horizontal_pod_autoscaler, &view), 0);
    assert_int_equal(view->horizontal_pod_autoscaler->spec.metrics.count, 1);
    assert_null(view->horizontal_pod_autoscaler->spec.behavior);
    kube_object_unref(object);
    kube_object_unref(view);
}

UNIT_TEST(events_of_both_groups) {
    const char *core =
        "{'kind':'Event','apiVersion':'v1','metadata':{'name':'e'},'involvedObject':{'kind':'Pod','name':'p'},'reason':'R',"
        "'message':'m','source':{'component':'c'},'count':2,'type':'Normal','series':{'count':3},'action':'A','reportingComponent':'x',"
        "'reportingInstance':'y'}";
    const char *events = "{'kind':'Event','apiVersion':'events.k8s.io/v1','metadata':{'name':'e'},'series':{'count':3},'reportingController':'x',"
                         "'reportingInstance':'y','action':'A','reason':'R','regarding':{'kind':'Pod','name':'p'},'note':'m','type':'Normal',"
                         "'deprecatedSource':{'component':'c'},'deprecatedCount':2}";
    converts(&kube_kind_event, core, &kube_kind_events_event, events);
    converts(&kube_kind_events_event, events, &kube_kind_event, core);
}

UNIT_TEST(unions_take_the_type_of_their_value) {
    const char *json =
        "{'kind':'CustomResourceDefinition','apiVersion':'apiextensions.k8s.io/v1','metadata':{'name':'a'},'spec':{'group':'g',"
        "'names':{'plural':'p','kind':'K'},'scope':'Cluster','versions':[{'name':'v1','served':true,'storage':true,'schema':{"
        "'openAPIV3Schema':{'$ref':'r','default':{'x':[1]},'enum':[1,'a',null],'items':[{'type':'string'}],'properties':{'a':{'items':{'type':"
        "'integer'}},'b':{'additionalProperties':false}},'additionalProperties':{'type':'object'},'dependencies':{'c':['d'],'e':{'type':'x'}},"
        "'x-kubernetes-int-or-string':true}}}]},'status':{'conditions':null,'acceptedNames':{'plural':'','kind':''},'storedVersions':null}}";
    struct kube_object *object = object_from(&kube_kind_custom_resource_definition, json);
    struct kube_object *copy = kube_object_copy(object);
    const struct kube_json_schema_props *schema = object->custom_resource_definition->spec.versions.items[0].schema->open_apiv3_schema;
    assert_json(object, json);
    assert_json(copy, json);
    assert_true(schema->additional_properties->allows);
    assert_string_equal(schema->properties.items[1].key, "b");
    assert_false(schema->properties.items[1].value.additional_properties->allows);
    assert_int_equal(schema->items->json_schemas.count, 1);
    kube_object_unref(object);
    kube_object_unref(copy);
}

UNIT_MAIN(UNIT(autoscaler_with_cpu_alone), UNIT(autoscaler_keeps_what_v1_cannot_say), UNIT(annotations_that_are_no_json_are_ignored),
          UNIT(events_of_both_groups), UNIT(unions_take_the_type_of_their_value))

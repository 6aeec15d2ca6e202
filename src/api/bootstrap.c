/* What a new platform has from its first moment: the four namespaces, a default storage class, a service account "default" in each namespace, the two
 * priority classes of the system, and the service default/kubernetes with its endpoints, by which pods find this API. Everything is created only when
 * missing, so a restart writes nothing. */
#include "api/api_priv.h"

#include <arpa/inet.h>
#include <stdio.h>

static struct kube_object *named(const struct kube_kind *kind, const char *namespace, const char *name) {
    struct kube_object *object = kube_object_new(kind);
    if (!object)
        return NULL;
    object->metadata->name = arena_strdup(object->arena, name);
    object->metadata->namespace = namespace ? arena_strdup(object->arena, namespace) : NULL;
    return object;
}

static void on_written(void *userdata, const struct api_failure *failure, struct kube_object *object, struct slice json) {
    struct api *api = userdata;
    (void)failure; /* tried again at the next start */
    (void)object;
    (void)json;
    api->bootstrapping--;
}

void api_bootstrap_create(struct api *api, struct kube_object *object) {
    static const struct write_options options = {.keep_status = true, .unasked = true}; /* no webhook keeps the platform from being there */
    api->bootstrapping++;
    if (api_write_create(api, object, &options, on_written, api, NULL))
        api->bootstrapping--;
}

static bool exists(struct api *api, const struct kube_kind *kind, const char *namespace, const char *name) {
    CLEANUP(kube_object_unrefp) struct kube_object *object = api_stored_get(api, kind, namespace, name);
    return object != NULL;
}

void api_bootstrap_namespace(struct api *api, const char *name) {
    struct kube_object *account =
        exists(api, &kube_kind_service_account, name, "default") ? NULL : named(&kube_kind_service_account, name, "default");
    if (account)
        api_bootstrap_create(api, account);
}

static void create_namespaces(struct api *api) {
    static const char *const names[] = {"default", "kube-system", "kube-public", "kube-node-lease"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct kube_object *namespace = exists(api, &kube_kind_namespace, "", names[i]) ? NULL : named(&kube_kind_namespace, NULL, names[i]);
        if (namespace)
            api_bootstrap_create(api, namespace);
    }
}

/* From JSON: these few objects are easier to read so. */
static void create_json(struct api *api, const struct kube_kind *kind, const char *text) {
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    int error = kube_decode_json(kind, slice_of(text), KUBE_LENIENT, &object, &diag);
    ASSERT(error == 0 || error == -ENOMEM);
    if (!error)
        api_bootstrap_create(api, object);
}

static void create_priorities(struct api *api) {
    static const struct {
        const char *name, *json;
    } classes[] = {
        {"system-cluster-critical",
         "{\"metadata\":{\"name\":\"system-cluster-critical\"},\"value\":2000000000,\"description\":\"For pods of the system that "
         "the cluster needs, and that may move to another node.\"}"},
        {"tidemill-batch", "{\"metadata\":{\"name\":\"tidemill-batch\"},\"value\":-1000,\"preemptionPolicy\":\"Never\",\"description\":\"For "
                           "builds, jobs and other work that takes only what services leave.\"}"},
        {"system-node-critical",
         "{\"metadata\":{\"name\":\"system-node-critical\"},\"value\":2000001000,\"description\":\"For pods of the system that their "
         "node needs, and that stay where they are.\"}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        if (!exists(api, &kube_kind_priority_class, "", classes[i].name))
            create_json(api, &kube_kind_priority_class, classes[i].json);
}

static void create_service(struct api *api) {
    struct in_addr address = {.s_addr = htonl(api->addresses.base + 1)};
    char ip[INET_ADDRSTRLEN], text[1024];
    inet_ntop(AF_INET, &address, ip, sizeof ip);
    snprintf(text, sizeof text,
             "{\"metadata\":{\"name\":\"kubernetes\",\"namespace\":\"default\",\"labels\":{\"component\":\"apiserver\",\"provider\":\"kubernetes\"}},"
             "\"spec\":{\"clusterIP\":\"%s\",\"ports\":[{\"name\":\"https\",\"port\":443,\"protocol\":\"TCP\",\"targetPort\":%d}]}}",
             ip, api->options.advertise_port);
    if (!exists(api, &kube_kind_service, "default", "kubernetes"))
        create_json(api, &kube_kind_service, text);
}

/* The address may differ from that of the last start: then the old ones are replaced. */
static bool has_endpoint(struct api *api) {
    CLEANUP(kube_object_unrefp) struct kube_object *slice = api_stored_get(api, &kube_kind_endpoint_slice, "default", "kubernetes");
    if (!slice)
        return false;
    const struct kube_endpoint_slice *spec = slice->endpoint_slice;
    bool same = spec->endpoints.count == 1 && spec->endpoints.items[0].addresses.count == 1 &&
                !strcmp(spec->endpoints.items[0].addresses.items[0], api->options.advertise_address) && spec->ports.count == 1 &&
                spec->ports.items[0].port && *spec->ports.items[0].port == api->options.advertise_port;
    if (same)
        return true;
    static const struct api_delete_options options = {.unasked = true, .grace_seconds = -1};
    api_delete(api, &kube_kind_endpoint_slice, "default", "kubernetes", &options, NULL, NULL, NULL);
    api_delete(api, &kube_kind_endpoints, "default", "kubernetes", &options, NULL, NULL, NULL);
    return false;
}

static void create_endpoints(struct api *api) {
    char text[1024];
    const char *address = api->options.advertise_address;
    int port = api->options.advertise_port;
    if (!address || has_endpoint(api))
        return;
    snprintf(text, sizeof text,
             "{\"metadata\":{\"name\":\"kubernetes\",\"namespace\":\"default\",\"labels\":{\"endpointslice.kubernetes.io/skip-mirror\":\"true\"}},"
             "\"subsets\":[{\"addresses\":[{\"ip\":\"%s\"}],\"ports\":[{\"name\":\"https\",\"port\":%d,\"protocol\":\"TCP\"}]}]}",
             address, port);
    create_json(api, &kube_kind_endpoints, text);
    snprintf(
        text, sizeof text,
        "{\"metadata\":{\"name\":\"kubernetes\",\"namespace\":\"default\",\"labels\":{\"kubernetes.io/"
        "service-name\":\"kubernetes\"}},\"addressType\":\"IPv4\","
        "\"endpoints\":[{\"addresses\":[\"%s\"],\"conditions\":{\"ready\":true}}],\"ports\":[{\"name\":\"https\",\"port\":%d,\"protocol\":\"TCP\"}]}",
        address, port);
    create_json(api, &kube_kind_endpoint_slice, text);
}

/* The default one: its volumes are folders of the node that the pod runs on. The name is that of other small clusters, so that charts fit. */
static void create_storage_class(struct api *api) {
    static const char text[] = "{\"metadata\":{\"name\":\"local-path\",\"annotations\":{\"storageclass.kubernetes.io/is-default-class\":\"true\"}},"
                               "\"provisioner\":\"" TIDEMILL_PROVISIONER
                               "\",\"reclaimPolicy\":\"Delete\",\"volumeBindingMode\":\"WaitForFirstConsumer\",\"allowVolumeExpansion\":true}";
    if (!exists(api, &kube_kind_storage_class, "", "local-path"))
        create_json(api, &kube_kind_storage_class, text);
}

void api_bootstrap(struct api *api) {
    create_storage_class(api);
    create_namespaces(api);
    create_priorities(api);
    create_service(api);
    create_endpoints(api);
}

/* Defaults, as upstream's defaults.go fills them. What is a constant stands in the IDL (default=…); what depends on other fields is one of the
 * functions below, found by the type of the struct. The walk is pre-order: a struct's own constants, then its function, then what hangs on it, so
 * that a function may rely on the constants of its struct and may create children, which are then visited. Applying the defaults twice changes
 * nothing.
 *
 * Not here: what upstream's admission plugins and strategies add when an object is created (service account, cluster address, uid, status of new
 * pods). */
#include "kube/custom_priv.h"
#include "kube/default_priv.h"

/* ":latest" or no tag: pull always; a digest or another tag: only when absent. */
static const char *pull_policy(const char *image) {
    const char *slash = image ? strrchr(image, '/') : NULL, *last = slash ? slash + 1 : image;
    if (!image)
        return "Always";
    if (strchr(image, '@'))
        return "IfNotPresent";
    const char *tag = strrchr(last, ':');
    return !tag || strcmp(tag, ":latest") == 0 ? "Always" : "IfNotPresent";
}

static int default_container(struct arena *arena, void *data) {
    (void)arena;
    struct kube_container *container = data;
    set_text(&container->image_pull_policy, pull_policy(container->image));
    return 0;
}

static int default_ephemeral_container(struct arena *arena, void *data) {
    (void)arena;
    struct kube_ephemeral_container *container = data;
    set_text(&container->image_pull_policy, pull_policy(container->image));
    return 0;
}

/* Requests that are not given equal the limits. */
static int default_requests(struct arena *arena, struct kube_resource_requirements *resources) {
    for (size_t i = 0; i < resources->limits.count; i++) {
        const struct kube_quantity_pair *limit = &resources->limits.items[i];
        if (kube_pair_find(&resources->requests, sizeof *limit, limit->key))
            continue;
        struct kube_quantity_pair *request = kube_pair_add(&resources->requests, arena, sizeof *request, limit->key);
        if (!request)
            return -ENOMEM;
        request->value = limit->value;
    }
    return 0;
}

/* A pod's own requests where it has limits: what its containers request together, or else the limits. */
static int default_pod_level(struct arena *arena, struct kube_pod_spec *spec) {
    struct kube_resource_requirements *level = spec->resources;
    struct kube_quantity_map together;
    if (!level || !level->limits.count)
        return 0;
    int error = kube_pod_container_requests(spec, arena, &together);
    for (size_t i = 0; i < together.count && !error; i++) {
        const struct kube_quantity_pair *pair = &together.items[i];
        bool counts = !strcmp(pair->key, "cpu") || !strcmp(pair->key, "memory");
        if (counts && !kube_pair_find(&level->requests, sizeof *pair, pair->key))
            error = kube_quantities_set(&level->requests, arena, pair->key, pair->value);
    }
    return error ? error : default_requests(arena, level);
}

static void host_ports(struct kube_container_array *containers) {
    for (size_t i = 0; i < containers->count; i++)
        for (size_t j = 0; j < containers->items[i].ports.count; j++) {
            struct kube_container_port *port = &containers->items[i].ports.items[j];
            if (port->host_port == 0)
                port->host_port = port->container_port;
        }
}

static int default_pod(struct arena *arena, void *data) {
    struct kube_pod *pod = data;
    int error = set_bool(arena, &pod->spec.enable_service_links, true);
    if (pod->spec.termination_grace_period_seconds && *pod->spec.termination_grace_period_seconds < 0)
        *pod->spec.termination_grace_period_seconds = 1; /* of a pod, not of a template */
    for (size_t i = 0; i < pod->spec.containers.count && error == 0; i++)
        error = default_requests(arena, &pod->spec.containers.items[i].resources);
    for (size_t i = 0; i < pod->spec.init_containers.count && error == 0; i++)
        error = default_requests(arena, &pod->spec.init_containers.items[i].resources);
    error = error ? error : default_pod_level(arena, &pod->spec);
    if (pod->spec.host_network) {
        host_ports(&pod->spec.containers);
        host_ports(&pod->spec.init_containers);
    }
    return error;
}

static int default_pod_spec(struct arena *arena, void *data) {
    (void)arena;
    struct kube_pod_spec *spec = data;
    /* The old name of the same field. */
    set_text(&spec->service_account_name, spec->service_account);
    set_text(&spec->service_account, spec->service_account_name);
    return 0;
}

/* A volume without a source is an emptyDir. */
static int default_volume(struct arena *arena, void *data) {
    struct kube_volume *volume = data;
    for (size_t i = 0; i < kube_volume_type.fields_count; i++) {
        const struct kube_field *field = &kube_volume_type.fields[i];
        if (field->inline_number && !kube_field_is_empty(field, kube_at(field, volume)))
            return 0;
    }
    volume->empty_dir = ARENA_NEW(arena, struct kube_empty_dir_volume_source);
    return volume->empty_dir ? 0 : -ENOMEM;
}

static int default_service_spec(struct arena *arena, void *data) {
    struct kube_service_spec *spec = data;
    bool balanced = kube_text_is(spec->type, "LoadBalancer"), cluster = kube_text_is(spec->type, "ClusterIP");
    bool outside = balanced || kube_text_is(spec->type, "NodePort") || (cluster && spec->external_ips.count > 0);
    if (outside)
        set_text(&spec->external_traffic_policy, "Cluster");
    if (outside || cluster)
        set_text(&spec->internal_traffic_policy, "Cluster");
    if (kube_text_is(spec->session_affinity, "None"))
        spec->session_affinity_config = NULL;
    if (kube_text_is(spec->session_affinity, "ClientIP")) {
        struct kube_session_affinity_config *config = spec->session_affinity_config;
        if (!config)
            config = spec->session_affinity_config = ARENA_NEW(arena, struct kube_session_affinity_config);
        if (config && !config->client_ip)
            config->client_ip = ARENA_NEW(arena, struct kube_client_ip_config);
        if (!config || !config->client_ip || set_int32(arena, &config->client_ip->timeout_seconds, 10800) != 0)
            return -ENOMEM;
    }
    return balanced ? set_bool(arena, &spec->allocate_load_balancer_node_ports, true) : 0;
}

/* Addresses of balancers are virtual unless they say otherwise. */
static int default_service(struct arena *arena, void *data) {
    (void)arena;
    struct kube_service *service = data;
    struct kube_load_balancer_ingress_array *ingress = &service->status.load_balancer.ingress;
    for (size_t i = 0; i < ingress->count && kube_text_is(service->spec.type, "LoadBalancer"); i++)
        if (ingress->items[i].ip && !ingress->items[i].ip_mode)
            ingress->items[i].ip_mode = "VIP";
    return 0;
}

static int default_service_port(struct arena *arena, void *data) {
    (void)arena;
    struct kube_service_port *port = data;
    struct kube_int_or_string *target = &port->target_port;
    if (target->is_string ? !target->text || !target->text[0] : target->number == 0)
        *target = (struct kube_int_or_string){.number = port->port};
    return 0;
}

static int default_namespace(struct arena *arena, void *data) {
    struct kube_namespace *namespace_ = data;
    const char *name = namespace_->metadata.name;
    return name ? kube_map_set(&namespace_->metadata.labels, arena, "kubernetes.io/metadata.name", name) : 0;
}

/* stringData is for people's writing only: it goes into data. */
static int default_secret(struct arena *arena, void *data) {
    struct kube_secret *secret = data;
    for (size_t i = 0; i < secret->string_data.count; i++) {
        struct kube_bytes_pair *pair = kube_pair_add(&secret->data, arena, sizeof *pair, secret->string_data.items[i].key);
        if (!pair)
            return -ENOMEM;
        pair->value = slice_of(secret->string_data.items[i].value);
    }
    secret->string_data = (struct kube_string_map){.count = 0};
    return 0;
}

static int add_missing(struct arena *arena, struct kube_quantity_map *to, const struct kube_quantity_map *from) {
    int error = 0;
    for (size_t i = 0; i < from->count && error == 0; i++)
        if (!kube_pair_find(to, sizeof *to->items, from->items[i].key))
            error = kube_quantities_set(to, arena, from->items[i].key, from->items[i].value);
    return error;
}

/* A container's limit is by default the most there may be, its request the limit, or else the least. */
static int default_limit_range_item(struct arena *arena, void *data) {
    struct kube_limit_range_item *item = data;
    if (!kube_text_is(item->type, "Container"))
        return 0;
    int error = add_missing(arena, &item->default_, &item->max);
    error = error ? error : add_missing(arena, &item->default_request, &item->default_);
    return error ? error : add_missing(arena, &item->default_request, &item->min);
}

static const struct {
    const struct kube_type *type;
    default_function *function;
} functions[] = {
    {&kube_container_type, default_container},
    {&kube_ephemeral_container_type, default_ephemeral_container},
    {&kube_pod_type, default_pod},
    {&kube_pod_spec_type, default_pod_spec},
    {&kube_volume_type, default_volume},
    {&kube_service_spec_type, default_service_spec},
    {&kube_service_port_type, default_service_port},
    {&kube_namespace_type, default_namespace},
    {&kube_secret_type, default_secret},
    {&kube_limit_range_item_type, default_limit_range_item},
    {&kube_deployment_strategy_type, default_deployment_strategy},
    {&kube_daemon_set_update_strategy_type, default_daemon_set_strategy},
    {&kube_stateful_set_spec_type, default_stateful_set_spec},
    {&kube_job_type, default_job},
    {&kube_replication_controller_type, default_replication_controller},
    {&kube_v2_horizontal_pod_autoscaler_spec_type, default_autoscaler_spec},
    {&kube_v2_horizontal_pod_autoscaler_behavior_type, default_autoscaler_behavior},
    {&kube_subject_type, default_subject},
    {&kube_network_policy_spec_type, default_network_policy_spec},
    {&kube_csi_driver_spec_type, default_csi_driver_spec},
    {&kube_node_status_type, default_node_status},
    {&kube_service_type, default_service},
    {&kube_custom_resource_definition_type, custom_default_definition},
};

/* Writes a constant of the IDL; the schema's author is trusted to have written a good one. */
static int set_constant(const struct kube_field *field, struct arena *arena, const char *text, void *at) {
    void *value = at;
    int64_t number = 0;
    if (field->form == KUBE_FORM_STRING) {
        *(const char **)at = text;
        return 0;
    }
    if (field->shape == KUBE_SHAPE_POINTER) {
        value = arena_alloc(arena, kube_value_size(field));
        if (!value)
            return -ENOMEM;
        *(void **)at = value;
    }
    if (field->form == KUBE_FORM_STRUCT)
        return 0;
    if (field->form == KUBE_FORM_BOOL) {
        *(bool *)value = strcmp(text, "true") == 0;
        return 0;
    }
    ASSERT(slice_parse_i64(slice_of(text), &number) == 0);
    if (field->form == KUBE_FORM_INT32)
        *(int32_t *)value = (int32_t)number;
    else
        *(int64_t *)value = number;
    return 0;
}

static int default_struct(const struct kube_type *type, struct arena *arena, void *data);

static int default_children(const struct kube_field *field, struct arena *arena, void *at) {
    struct kube_array *items = at;
    int error = 0;
    if (field->shape == KUBE_SHAPE_VALUE)
        return default_struct(field->type, arena, at);
    if (field->shape == KUBE_SHAPE_POINTER)
        return *(void **)at ? default_struct(field->type, arena, *(void **)at) : 0;
    bool pairs = field->shape == KUBE_SHAPE_MAP;
    size_t size = pairs ? kube_pair_size(field) : field->type->size, skip = pairs ? sizeof(char *) : 0;
    for (size_t i = 0; i < items->count && error == 0; i++)
        error = default_struct(field->type, arena, (char *)items->items + i * size + skip);
    return error;
}

static int default_struct(const struct kube_type *type, struct arena *arena, void *data) {
    int error = 0;
    for (size_t i = 0; i < type->fields_count && error == 0; i++) {
        const struct kube_field *field = &type->fields[i];
        const char *text = kube_rules_of(field)->default_;
        if (text && kube_field_is_empty(field, kube_at(field, data)))
            error = set_constant(field, arena, text, kube_at(field, data));
    }
    for (size_t i = 0; i < ARRAY_LEN(functions) && error == 0; i++)
        if (functions[i].type == type)
            error = functions[i].function(arena, data);
    for (size_t i = 0; i < type->fields_count && error == 0; i++)
        if (type->fields[i].form == KUBE_FORM_STRUCT)
            error = default_children(&type->fields[i], arena, kube_at(&type->fields[i], data));
    return error;
}

int kube_default(struct kube_object *object) {
    if (object->kind->custom)
        return custom_default(custom_schema_of(object->kind), object->arena, object->custom->content);
    return default_struct(object->kind->type, object->arena, object->data);
}

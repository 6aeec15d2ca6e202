/* Services: addresses and node ports, and what becomes of them when a service changes its type.
 *
 * Addresses are a bit each in the configured range, node ports a bit each of 30000 to 32767. The bits are rebuilt from the stored services at start,
 * so the objects themselves are what persists; a number is taken in the turn in which its service is admitted, so two creates in one commit never get
 * the same, and given back when the store refuses or when the version that bore it has been replaced (api_numbers_settle).
 *
 * New services get the lowest free address behind the last one given, so that an address is not at once reused by another service. The first 16 are
 * kept for fixed purposes (.1 is the API, .10 the DNS by custom). Node ports are drawn at random, the first 86 only when nothing else is left: there
 * people choose by hand. */
#include "api/admission_priv.h"

#include "sys/sys.h"

#include <arpa/inet.h>
#include <stdio.h>

#define ADDRESSES_FIXED 16
#define NODE_PORTS_FIXED 86

/* --- addresses --- */

int api_addresses_init(struct addresses *addresses, const char *range, struct diag *diag) {
    struct slice rest = slice_of(range);
    char *base = slice_dup(slice_cut(&rest, '/'));
    struct in_addr address;
    uint64_t prefix = 0;
    bool good = base && inet_pton(AF_INET, base, &address) == 1 && !slice_parse_u64(rest, 28, &prefix) && prefix >= 16;
    free(base);
    if (!good)
        return diag_set(diag, -EINVAL, "the service range \"%s\" is not an IPv4 network with a prefix of 16 to 28, such as 10.96.0.0/16", range);
    addresses->count = 1u << (32 - prefix);
    addresses->base = ntohl(address.s_addr) & ~(addresses->count - 1);
    addresses->next = ADDRESSES_FIXED;
    addresses->taken = calloc(addresses->count / 64 + 1, sizeof *addresses->taken);
    return addresses->taken ? 0 : -ENOMEM;
}

void api_addresses_deinit(struct addresses *addresses) {
    free(addresses->taken);
    addresses->taken = NULL;
}

/* The offset within the range; -1 when it is not of the range. */
static int64_t offset_of(const struct addresses *addresses, const char *text) {
    struct in_addr address;
    if (!text || inet_pton(AF_INET, text, &address) != 1)
        return -1;
    uint32_t number = ntohl(address.s_addr);
    return number >= addresses->base && number - addresses->base < addresses->count ? (int64_t)(number - addresses->base) : -1;
}

static bool is_taken(const struct addresses *addresses, uint32_t offset) {
    return addresses->taken[offset / 64] >> (offset % 64) & 1;
}

static void set_taken(struct addresses *addresses, uint32_t offset, bool taken) {
    uint64_t bit = (uint64_t)1 << (offset % 64);
    if (taken)
        addresses->taken[offset / 64] |= bit;
    else
        addresses->taken[offset / 64] &= ~bit;
}

static void note_port(struct api *api, int32_t port, bool taken) {
    if (port < NODE_PORT_MIN || port > NODE_PORT_MAX)
        return;
    uint64_t *word = &api->node_ports[(port - NODE_PORT_MIN) / 64], bit = (uint64_t)1 << ((port - NODE_PORT_MIN) % 64);
    *word = taken ? *word | bit : *word & ~bit;
}

void api_numbers_note(struct api *api, const struct kube_object *service, bool taken) {
    const struct kube_service_spec *spec = &service->service->spec;
    int64_t offset = offset_of(&api->addresses, spec->cluster_ip);
    if (offset >= 0)
        set_taken(&api->addresses, (uint32_t)offset, taken);
    for (size_t i = 0; i < spec->ports.count; i++)
        note_port(api, spec->ports.items[i].node_port, taken);
    note_port(api, spec->health_check_node_port, taken);
}

void api_numbers_settle(struct api *api, const struct kube_object *object, const struct kube_object *old, bool written) {
    if (object->kind != &kube_kind_service)
        return;
    const struct kube_object_meta *metadata = object->metadata;
    const struct kube_object *lost = written ? old : object, *kept = written ? object : old;
    CLEANUP(kube_object_unrefp) struct kube_object *newest = api_stored_get(api, &kube_kind_service, metadata->namespace, metadata->name);
    if (lost)
        api_numbers_note(api, lost, false);
    if (kept)
        api_numbers_note(api, kept, true);
    if (newest && text_equal(newest->metadata->uid, metadata->uid))
        api_numbers_note(api, newest, true);
}

static bool note_stored(void *userdata, struct store_object *stored) {
    struct kube_object *service = api_decode(userdata, stored);
    if (service)
        api_numbers_note(userdata, service, true);
    return true;
}

void api_numbers_load(struct api *api) {
    struct slice none = {NULL, 0};
    store_list(api->store, api_kind_slice(&kube_kind_service), none, none, none, note_stored, api);
}

/* 0 when the range is exhausted. */
static uint32_t allocate(struct addresses *addresses) {
    for (uint32_t tried = 0; tried < addresses->count; tried++) {
        uint32_t offset = addresses->next;
        addresses->next = offset + 2 < addresses->count ? offset + 1 : ADDRESSES_FIXED; /* not the broadcast address */
        if (offset < addresses->count - 1 && !is_taken(addresses, offset))
            return offset;
    }
    return 0;
}

/* --- the table of types --- */

static bool is_type(const struct kube_service_spec *spec, const char *type) {
    return text_equal(spec->type ? spec->type : "ClusterIP", type);
}

static bool has_address(const struct kube_service_spec *spec) {
    return !is_type(spec, "ExternalName");
}

/* Whether every port of it gets a node port. */
static bool wants_node_ports(const struct kube_service_spec *spec) {
    const bool *allocate = spec->allocate_load_balancer_node_ports;
    return is_type(spec, "NodePort") || (is_type(spec, "LoadBalancer") && (!allocate || *allocate));
}

static bool may_have_node_ports(const struct kube_service_spec *spec) {
    return is_type(spec, "NodePort") || is_type(spec, "LoadBalancer");
}

static bool wants_health_port(const struct kube_service_spec *spec) {
    return is_type(spec, "LoadBalancer") && text_equal(spec->external_traffic_policy, "Local");
}

/* --- what a writer leaves out means what was --- */

static bool bears_port(const struct kube_service_spec *spec, int32_t port) {
    for (size_t i = 0; i < spec->ports.count; i++)
        if (spec->ports.items[i].node_port == port)
            return true;
    return false;
}

static void keep_node_ports(struct kube_service_spec *spec, const struct kube_service_spec *before) {
    for (size_t i = 0; i < spec->ports.count; i++) {
        struct kube_service_port *port = &spec->ports.items[i];
        for (size_t k = 0; k < before->ports.count && !port->node_port; k++) {
            const struct kube_service_port *was = &before->ports.items[k];
            bool same = was->port == port->port && text_equal(was->protocol, port->protocol);
            if (same && was->node_port && !bears_port(spec, was->node_port))
                port->node_port = was->node_port;
        }
    }
}

/* A change of type drops what only the old type had, as far as the writer did not give it anew. */
static void drop_of_old_type(struct kube_service_spec *spec, const struct kube_service_spec *before) {
    if (!has_address(spec) && has_address(before) && text_equal(spec->cluster_ip, before->cluster_ip)) {
        spec->cluster_ip = NULL;
        spec->cluster_ips.count = 0;
        spec->ip_families.count = 0;
        spec->ip_family_policy = NULL;
    }
    for (size_t i = 0; i < spec->ports.count && !may_have_node_ports(spec) && may_have_node_ports(before); i++)
        if (bears_port(before, spec->ports.items[i].node_port))
            spec->ports.items[i].node_port = 0;
    if (!wants_health_port(spec) && wants_health_port(before) && spec->health_check_node_port == before->health_check_node_port)
        spec->health_check_node_port = 0;
    if (is_type(before, "LoadBalancer") && !is_type(spec, "LoadBalancer")) {
        spec->allocate_load_balancer_node_ports = NULL;
        if (text_equal(spec->load_balancer_class, before->load_balancer_class))
            spec->load_balancer_class = NULL;
    }
    if (!may_have_node_ports(spec) && !spec->external_ips.count && may_have_node_ports(before))
        spec->external_traffic_policy = NULL;
    if (is_type(before, "ExternalName") && !is_type(spec, "ExternalName") && text_equal(spec->external_name, before->external_name))
        spec->external_name = NULL;
    if (!has_address(spec))
        spec->internal_traffic_policy = NULL;
}

int admit_service(struct admission *admission) {
    struct kube_object *object = admission->object;
    struct kube_service_spec *spec = &object->service->spec;
    if (!spec->cluster_ip && spec->cluster_ips.count)
        spec->cluster_ip = spec->cluster_ips.items[0];
    if (!admission->old)
        return 0;
    const struct kube_service_spec *before = &admission->old->service->spec;
    bool kept = has_address(spec) && has_address(before) && before->cluster_ip;
    if (kept && !spec->cluster_ip && !(spec->cluster_ip = arena_strdup(object->arena, before->cluster_ip)))
        return admission_no_memory(admission);
    if (may_have_node_ports(spec) && may_have_node_ports(before))
        keep_node_ports(spec, before);
    if (wants_health_port(spec) && wants_health_port(before) && !spec->health_check_node_port)
        spec->health_check_node_port = before->health_check_node_port;
    drop_of_old_type(spec, before);
    return 0;
}

/* --- taking addresses --- */

static int set_list(struct kube_object *object, struct kube_string_list *list, const char *only) {
    list->items = ARENA_NEW(object->arena, const char *);
    if (!list->items)
        return -ENOMEM;
    list->items[0] = only;
    list->count = 1;
    return 0;
}

static int set_address(struct kube_object *object, const char *address) {
    struct kube_service_spec *spec = &object->service->spec;
    spec->cluster_ip = address;
    int error = set_list(object, &spec->cluster_ips, address);
    if (!error && !spec->ip_families.count && strcmp(address, "None"))
        error = set_list(object, &spec->ip_families, "IPv4");
    if (!spec->ip_family_policy)
        spec->ip_family_policy = "SingleStack";
    return error;
}

static int take_wanted(struct admission *admission, const char *wanted) {
    struct api *api = admission->api;
    struct kube_object *object = admission->object;
    struct api_failure *failure = admission->failure;
    int64_t offset = offset_of(&api->addresses, wanted);
    if (offset <= 0)
        return api_fail_field(failure, object, "FieldValueInvalid", "spec.clusterIPs",
                              "Invalid value: [\"%s\"]: failed to allocate IP %s: the provided IP is not in the valid range "
                              "%s",
                              wanted, wanted, api->options.service_range);
    if (is_taken(&api->addresses, (uint32_t)offset))
        return api_fail_field(failure, object, "FieldValueInvalid", "spec.clusterIPs",
                              "Invalid value: [\"%s\"]: failed to allocate IP %s: provided IP is already allocated", wanted, wanted);
    char *copy = arena_strdup(object->arena, wanted);
    if (!copy || set_address(object, copy))
        return api_fail_no_memory(failure);
    set_taken(&api->addresses, (uint32_t)offset, true);
    return 0;
}

static int give_address(struct admission *admission) {
    struct addresses *addresses = &admission->api->addresses;
    struct kube_object *object = admission->object;
    struct api_failure *failure = admission->failure;
    uint32_t offset = allocate(addresses);
    if (!offset)
        return api_fail(failure, 500, "InternalError", "failed to allocate a serviceIP: range is full");
    struct in_addr address = {.s_addr = htonl(addresses->base + offset)};
    char text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &address, text, sizeof text);
    char *copy = arena_strdup(object->arena, text);
    if (!copy || set_address(object, copy))
        return api_fail_no_memory(failure);
    set_taken(addresses, offset, true);
    return 0;
}

static int take_address(struct admission *admission) {
    struct kube_object *object = admission->object;
    const struct kube_service_spec *spec = &object->service->spec, *before = admission->old ? &admission->old->service->spec : NULL;
    const char *wanted = spec->cluster_ip;
    if (!has_address(spec))
        return 0;
    if (!wanted || !*wanted)
        return give_address(admission);
    if (!strcmp(wanted, "None") || (before && text_equal(before->cluster_ip, wanted)))
        return set_address(object, wanted) ? admission_no_memory(admission) : 0;
    return take_wanted(admission, wanted);
}

/* --- taking node ports --- */

static bool port_is_taken(const struct api *api, int32_t port) {
    return api->node_ports[(port - NODE_PORT_MIN) / 64] >> ((port - NODE_PORT_MIN) % 64) & 1;
}

/* 0: none is free. */
static int32_t free_port_of(const struct api *api, int32_t first, int32_t last) {
    uint32_t draw, count = (uint32_t)(last - first + 1);
    sys_random(&draw, sizeof draw);
    for (uint32_t i = 0; i < count; i++) {
        int32_t port = first + (int32_t)((draw + i) % count);
        if (!port_is_taken(api, port))
            return port;
    }
    return 0;
}

static int take_port(struct admission *admission, const char *field, int32_t *port, const struct kube_service_spec *before) {
    struct api *api = admission->api;
    if (*port && before && (bears_port(before, *port) || before->health_check_node_port == *port))
        return 0;
    if (*port && (*port < NODE_PORT_MIN || *port > NODE_PORT_MAX))
        return api_fail_field(admission->failure, admission->object, "FieldValueInvalid", field,
                              "Invalid value: %d: provided port is not in the valid range. The range of valid ports is %d-%d", *port, NODE_PORT_MIN,
                              NODE_PORT_MAX);
    if (*port && port_is_taken(api, *port))
        return api_fail_field(admission->failure, admission->object, "FieldValueInvalid", field,
                              "Invalid value: %d: provided port is already allocated", *port);
    if (!*port)
        *port = free_port_of(api, NODE_PORT_MIN + NODE_PORTS_FIXED, NODE_PORT_MAX);
    if (!*port)
        *port = free_port_of(api, NODE_PORT_MIN, NODE_PORT_MIN + NODE_PORTS_FIXED - 1);
    if (!*port)
        return api_fail(admission->failure, 500, "InternalError", "failed to allocate a nodePort: range is full");
    note_port(api, *port, true);
    return 0;
}

/* Two ports of one service may share a number when their protocols differ; then only the first is taken. */
static bool shares(const struct kube_service_spec *spec, size_t index) {
    const struct kube_service_port *port = &spec->ports.items[index];
    for (size_t i = 0; i < index; i++)
        if (port->node_port && spec->ports.items[i].node_port == port->node_port && !text_equal(spec->ports.items[i].protocol, port->protocol))
            return true;
    return false;
}

static int take_ports(struct admission *admission) {
    struct kube_service_spec *spec = &admission->object->service->spec;
    const struct kube_service_spec *before = admission->old ? &admission->old->service->spec : NULL;
    char field[64];
    int code = 0;
    for (size_t i = 0; i < spec->ports.count && !code; i++) {
        snprintf(field, sizeof field, "spec.ports[%zu].nodePort", i);
        bool wanted = spec->ports.items[i].node_port ? may_have_node_ports(spec) : wants_node_ports(spec);
        if (wanted && !shares(spec, i))
            code = take_port(admission, field, &spec->ports.items[i].node_port, before);
    }
    if (!code && wants_health_port(spec))
        code = take_port(admission, "spec.healthCheckNodePort", &spec->health_check_node_port, before);
    return code;
}

/* All or nothing. */
int admit_service_numbers(struct admission *admission) {
    struct api *api = admission->api;
    const struct kube_service_spec *spec = &admission->object->service->spec, *before = admission->old ? &admission->old->service->spec : NULL;
    uint64_t ports[ARRAY_LEN(api->node_ports)];
    memcpy(ports, api->node_ports, sizeof ports);
    int code = take_address(admission);
    if (code)
        return code;
    code = take_ports(admission);
    if (!code)
        return 0;
    memcpy(api->node_ports, ports, sizeof ports);
    int64_t offset = offset_of(&api->addresses, spec->cluster_ip);
    if (offset >= 0 && !(before && text_equal(before->cluster_ip, spec->cluster_ip)))
        set_taken(&api->addresses, (uint32_t)offset, false);
    return code;
}

/* What the server decides about an object beyond defaults and validation of its fields: a table of functions by kind.
 *
 * Service addresses are a bit each in the configured range. The bits are rebuilt from the stored services at start, so the objects themselves are
 * what persists; an address is taken in the turn in which its service is admitted, so two creates in one commit never get the same. New services get
 * the lowest free address behind the last one given, so that an address is not at once reused by another service. The first 16 are kept for fixed
 * purposes (.1 is the API, .10 the DNS by custom). */
#include "api/api_priv.h"

#include <arpa/inet.h>
#include <stdio.h>

#define ADDRESSES_FIXED 16

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

void api_addresses_note(struct api *api, const struct kube_object *service, bool taken) {
    int64_t offset = offset_of(&api->addresses, service->service->spec.cluster_ip);
    if (offset >= 0)
        set_taken(&api->addresses, (uint32_t)offset, taken);
}

static bool note_stored(void *userdata, struct store_object *stored) {
    struct kube_object *service = api_decode(userdata, stored);
    if (service)
        api_addresses_note(userdata, service, true);
    return true;
}

void api_addresses_load(struct api *api) {
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

/* --- services --- */

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

static int take_wanted(struct api *api, struct kube_object *object, const char *wanted, struct api_failure *failure) {
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

static int give_address(struct api *api, struct kube_object *object, struct api_failure *failure) {
    struct addresses *addresses = &api->addresses;
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

static bool has_address(const struct kube_object *service) {
    const char *type = service->service->spec.type;
    return !type || strcmp(type, "ExternalName");
}

static int create_service(struct api *api, struct kube_object *object, struct api_failure *failure) {
    struct kube_service_spec *spec = &object->service->spec;
    if (!has_address(object))
        return 0;
    const char *wanted = spec->cluster_ip && *spec->cluster_ip ? spec->cluster_ip : spec->cluster_ips.count ? spec->cluster_ips.items[0] : NULL;
    if (!wanted)
        return give_address(api, object, failure);
    if (!strcmp(wanted, "None"))
        return set_address(object, "None") ? api_fail_no_memory(failure) : 0;
    return take_wanted(api, object, wanted, failure);
}

/* The address stays what it was; a client that leaves it out means that. */
static int update_service(struct api *api, struct kube_object *object, const struct kube_object *old, struct api_failure *failure) {
    struct kube_service_spec *spec = &object->service->spec;
    const struct kube_service_spec *before = &old->service->spec;
    if (!has_address(object))
        return 0;
    if (!before->cluster_ip || !*before->cluster_ip)
        return create_service(api, object, failure);
    if (spec->cluster_ip && *spec->cluster_ip && strcmp(spec->cluster_ip, before->cluster_ip))
        return api_fail_field(failure, object, "FieldValueInvalid", "spec.clusterIPs[0]", "Invalid value: [\"%s\"]: may not change once set",
                              spec->cluster_ip);
    char *copy = arena_strdup(object->arena, before->cluster_ip);
    return !copy || set_address(object, copy) ? api_fail_no_memory(failure) : 0;
}

/* --- namespaces --- */

static int create_namespace(struct api *api, struct kube_object *object, struct api_failure *failure) {
    (void)api;
    struct kube_namespace *namespace = object->namespace_;
    namespace->status.phase = "Active";
    int error = set_list(object, &namespace->spec.finalizers, "kubernetes");
    if (!error && object->metadata->name)
        error = kube_map_set(&object->metadata->labels, object->arena, "kubernetes.io/metadata.name", object->metadata->name);
    return error ? api_fail_no_memory(failure) : 0;
}

/* As long as it is not being deleted a namespace keeps its finalizers and its name label, whatever the writer leaves out. */
static int update_namespace(struct api *api, struct kube_object *object, const struct kube_object *old, struct api_failure *failure) {
    (void)api;
    const struct kube_string_list *before = &old->namespace_->spec.finalizers;
    struct kube_string_list *list = &object->namespace_->spec.finalizers;
    int error = kube_map_set(&object->metadata->labels, object->arena, "kubernetes.io/metadata.name", object->metadata->name);
    if (!error && !old->metadata->deletion_timestamp.set) {
        *list = (struct kube_string_list){ARENA_ARRAY(object->arena, const char *, before->count + 1), before->count};
        for (size_t i = 0; i < before->count && list->items && !error; i++)
            error = (list->items[i] = arena_strdup(object->arena, before->items[i])) ? 0 : -ENOMEM;
        error = list->items ? error : -ENOMEM;
    }
    return error ? api_fail_no_memory(failure) : 0;
}

/* --- pods --- */

static bool is_compute(const char *resource) {
    return !strcmp(resource, "cpu") || !strcmp(resource, "memory");
}

/* What one container says: sets *any when it names cpu or memory at all; returns whether its limits equal its requests for both. */
static bool is_guaranteed(const struct kube_resource_requirements *resources, bool *any) {
    size_t limits = 0;
    bool equal = true;
    for (size_t i = 0; i < resources->requests.count; i++) {
        const char *key = resources->requests.items[i].key;
        if (!is_compute(key) || resources->requests.items[i].value.milli == 0)
            continue;
        *any = true;
        equal = equal && kube_quantity_milli(&resources->limits, key, -1) == resources->requests.items[i].value.milli;
    }
    for (size_t i = 0; i < resources->limits.count; i++) {
        if (!is_compute(resources->limits.items[i].key) || resources->limits.items[i].value.milli == 0)
            continue;
        *any = true;
        limits++;
    }
    return equal && limits == 2;
}

static const char *qos_class(const struct kube_pod_spec *spec) {
    bool any = false, guaranteed = true;
    for (size_t i = 0; i < spec->containers.count; i++)
        guaranteed = is_guaranteed(&spec->containers.items[i].resources, &any) && guaranteed;
    for (size_t i = 0; i < spec->init_containers.count; i++)
        guaranteed = is_guaranteed(&spec->init_containers.items[i].resources, &any) && guaranteed;
    if (!any)
        return "BestEffort";
    return guaranteed ? "Guaranteed" : "Burstable";
}

static int create_pod(struct api *api, struct kube_object *object, struct api_failure *failure) {
    (void)api;
    struct kube_pod *pod = object->pod;
    if (!pod->status.phase)
        pod->status.phase = "Pending";
    pod->status.qos_class = qos_class(&pod->spec);
    if (!pod->spec.service_account_name || !*pod->spec.service_account_name)
        pod->spec.service_account_name = "default";
    pod->spec.service_account = pod->spec.service_account_name;
    if (!pod->spec.priority && !(pod->spec.priority = ARENA_NEW(object->arena, int32_t)))
        return api_fail_no_memory(failure);
    if (!pod->spec.preemption_policy)
        pod->spec.preemption_policy = "PreemptLowerPriority";
    return 0;
}

/* --- secrets --- */

/* stringData is write-only: it is put into data. */
static int merge_string_data(struct kube_object *object, struct api_failure *failure) {
    struct kube_secret *secret = object->secret;
    size_t extra = secret->string_data.count;
    if (!extra)
        return 0;
    struct kube_bytes_pair *items = ARENA_ARRAY(object->arena, struct kube_bytes_pair, secret->data.count + extra);
    if (!items)
        return api_fail_no_memory(failure);
    size_t count = 0, from = 0;
    while (from < secret->data.count || extra) {
        const struct kube_string_pair *text = &secret->string_data.items[secret->string_data.count - extra];
        int order = from == secret->data.count ? 1 : !extra ? -1 : strcmp(secret->data.items[from].key, text->key);
        if (order >= 0) {
            items[count++] = (struct kube_bytes_pair){text->key, slice_of(text->value ? text->value : "")};
            extra--;
            from += order == 0;
        } else {
            items[count++] = secret->data.items[from++];
        }
    }
    secret->data.items = items;
    secret->data.count = count;
    secret->string_data = (struct kube_string_map){NULL, 0};
    return 0;
}

static int create_secret(struct api *api, struct kube_object *object, struct api_failure *failure) {
    (void)api;
    return merge_string_data(object, failure);
}

static int update_secret(struct api *api, struct kube_object *object, const struct kube_object *old, struct api_failure *failure) {
    (void)api;
    (void)old;
    return merge_string_data(object, failure);
}

/* --- jobs --- */

/* A job's pods are found by its uid: the selector and the template's labels are the server's, unless the user says manualSelector. */
static int create_job(struct api *api, struct kube_object *object, struct api_failure *failure) {
    (void)api;
    struct kube_job_spec *spec = &object->job->spec;
    if ((spec->manual_selector && *spec->manual_selector) || !object->metadata->name)
        return 0;
    const char *uid = object->metadata->uid, *name = object->metadata->name;
    if (!spec->selector && !(spec->selector = ARENA_NEW(object->arena, struct kube_label_selector)))
        return api_fail_no_memory(failure);
    struct kube_string_map *labels = &spec->template.metadata.labels;
    const char *pairs[][2] = {
        {"controller-uid", uid}, {"batch.kubernetes.io/controller-uid", uid}, {"job-name", name}, {"batch.kubernetes.io/job-name", name}};
    int error = kube_map_set(&spec->selector->match_labels, object->arena, "batch.kubernetes.io/controller-uid", uid);
    for (size_t i = 0; i < ARRAY_LEN(pairs) && !error; i++)
        error = kube_map_set(labels, object->arena, pairs[i][0], pairs[i][1]);
    return error ? api_fail_no_memory(failure) : 0;
}

/* --- the table --- */

static const struct {
    const struct kube_kind *kind;
    int (*create)(struct api *api, struct kube_object *object, struct api_failure *failure);
    int (*update)(struct api *api, struct kube_object *object, const struct kube_object *old, struct api_failure *failure);
} admissions[] = {
    {&kube_kind_service, create_service, update_service},
    {&kube_kind_namespace, create_namespace, update_namespace},
    {&kube_kind_pod, create_pod, NULL},
    {&kube_kind_secret, create_secret, update_secret},
    {&kube_kind_job, create_job, NULL},
};

int api_admit_create(struct api *api, struct kube_object *object, struct api_failure *failure) {
    for (size_t i = 0; i < ARRAY_LEN(admissions); i++)
        if (admissions[i].kind == object->kind)
            return admissions[i].create(api, object, failure);
    return 0;
}

int api_admit_update(struct api *api, struct kube_object *object, const struct kube_object *old, struct api_failure *failure) {
    for (size_t i = 0; i < ARRAY_LEN(admissions); i++)
        if (admissions[i].kind == object->kind && admissions[i].update)
            return admissions[i].update(api, object, old, failure);
    return 0;
}

/* The object model: one table per kind drives everything. schema/ describes each type once (.idl); the schema compiler turns it into plain structs
 * (generated "kube_types.h") and descriptor tables, and the generic functions here walk those tables. See README.md and schema/README.md.
 *
 * How a type reads in C (the compiler's naming rules):
 *   type Deployment of apps/v1           struct kube_deployment           table  kube_deployment_type, kind  kube_kind_deployment
 *   type PodSpec                         struct kube_pod_spec             (names are unique across groups: events.k8s.io's Event is
 *                                        kube_events_event, autoscaling/v2's types get a v2_)
 *   field terminationGracePeriodSeconds  termination_grace_period_seconds; C keywords get a trailing underscore (default_, template is fine);
 *                                        hostIP → host_ip, podIPs → pod_ips, externalIPs → external_ips, hostPID → host_pid, TTL… → ttl_…
 *   string, named string types           const char *      NULL when absent or empty
 *   *string                              const char *      NULL when absent ("" is present and empty)
 *   bool int32 int64 float64             bool int32_t int64_t double
 *   *bool *int32 *int64                  bool * int32_t * int64_t *        NULL when absent
 *   T, *T (structs)                      struct kube_t inline, struct kube_t *
 *   []T                                  struct kube_t_array { struct kube_t *items; size_t count; }
 *   []string, []int32                    struct kube_string_list, struct kube_int32_list
 *   map[string]string                    struct kube_string_map (sorted by key)
 *   map[string]Quantity (ResourceList)   struct kube_quantity_map
 *   map[string]T                         struct kube_t_map, its items {const char *key; struct kube_t value;}
 *   Duration                             int64_t, nanoseconds
 *   Quantity, *Quantity                  struct kube_quantity {const char *text; int64_t milli;}, pointer to it
 *   map[string][]byte                    struct kube_bytes_map (decoded from base64);  []byte: struct slice
 *   IntOrString                          struct kube_int_or_string {bool is_string; int32_t number; const char *text;}; pointer when optional
 *   Time, MicroTime                      struct kube_time {int64_t ns, far_us; bool set;} (UTC); *Time: the same, set tells
 *   RawExtension, JSON                   struct tree * (generic), NULL when absent
 *   FieldsV1                             const char * (compact JSON: a tree would cost ten times as much in every object), NULL when absent
 *   named twice in upstream's groups     discovery's EndpointPort is kube_discovery_endpoint_port, core's Preconditions kube_core_preconditions
 *   inlined types (json:",inline")       their fields stand in the outer struct (struct kube_volume has name, host_path, empty_dir, … side by side)
 *
 * Every kind's struct starts with `struct kube_object_meta metadata` (TypeMeta is not stored); lists of a kind have no struct.
 */
#ifndef TIDEMILL_KUBE_H
#define TIDEMILL_KUBE_H

#include "base/base.h"
#include "codec/codec.h"
#include "kube/fieldset.h"
#include "kube/ownership.h"
#include "kube/shape.h"

struct kube_string_list {
    const char **items;
    size_t count;
};
struct kube_string_map {
    struct kube_string_pair {
        const char *key;
        const char *value;
    } * items;
    size_t count;
};
struct kube_quantity {
    const char *text; /* canonical; NULL: absent */
    int64_t milli;
};
struct kube_quantity_map {
    struct kube_quantity_pair {
        const char *key;
        struct kube_quantity value;
    } * items;
    size_t count;
};
struct kube_bytes_map {
    struct kube_bytes_pair {
        const char *key;
        struct slice value;
    } * items;
    size_t count;
};
struct kube_strings_map { /* map[string][]string */
    struct kube_strings_pair {
        const char *key;
        struct kube_string_list value;
    } * items;
    size_t count;
};
struct kube_int32_list {
    int32_t *items;
    size_t count;
};
struct kube_int64_list {
    int64_t *items;
    size_t count;
};
struct kube_tree_list {
    struct tree **items;
    size_t count;
};
struct kube_int_or_string {
    bool is_string;
    int32_t number;
    const char *text;
};
struct kube_time {
    int64_t ns;     /* since 1970, UTC */
    int64_t far_us; /* of a time that ns does not reach: since 1970 in microseconds, and ns is the farthest that can be reckoned with; else 0 */
    bool set;
};
struct kube_time_map {
    struct kube_time_pair {
        const char *key;
        struct kube_time value;
    } * items;
    size_t count;
};

#include "kube_types.h" /* generated */

/* A kind that the API serves. */
struct kube_type;
struct kube_column;
struct kube_conversion;
struct kube_custom; /* what a custom resource definition made, see below */
struct kube_kind {
    const char *group; /* "" for core */
    const char *version;
    const char *kind;   /* "Deployment" */
    const char *plural; /* "deployments": also the store's kind together with the group, see kube_kind_key */
    const char *singular;
    const char *const *short_names; /* ends with NULL */
    const char *const *categories;  /* "all"; ends with NULL */
    bool namespaced;
    bool has_status; /* a /status subresource */
    bool has_scale;
    bool has_generation; /* metadata.generation counts changes of all but metadata and status */
    const struct kube_type *type;
    const struct kube_column *columns; /* what a Table shows, see kube_table_row */
    size_t columns_count;
    const char *key, *api_version; /* see kube_kind_key, kube_kind_api_version */
    /* A view of objects that the store holds as another kind (the same resource in another version or group); NULL: stored as it is. `conversion`
     * NULL: the two have the same fields. */
    const struct kube_kind *stored_as;
    const struct kube_conversion *conversion;
    bool is_virtual;                  /* nothing is stored: the server makes its objects up when they are asked for */
    const struct kube_custom *custom; /* NULL: built in */
};
/* All kinds, in discovery order: the built-in ones, then those that custom resource definitions add. Calls while `index` < kube_kinds_count(). */
size_t kube_kinds_count(void);
const struct kube_kind *kube_kind_at(size_t index);
/* NULL when unknown. */
const struct kube_kind *kube_kind_find(struct slice group, struct slice version, struct slice kind);
const struct kube_kind *kube_kind_by_plural(struct slice group, struct slice version, struct slice plural);
/* A kind that a definition made can go: who keeps one across turns of the loop holds a reference. Built-in kinds take no count. */
const struct kube_kind *kube_kind_ref(const struct kube_kind *kind);
void kube_kind_unref(const struct kube_kind *kind); /* NULL is fine */
/* The kind whose objects the store holds for it: itself mostly. */
static inline const struct kube_kind *kube_kind_stored(const struct kube_kind *kind) {
    return kind->stored_as ? kind->stored_as : kind;
}
/* The store has objects of its own for it: who walks over all that is stored walks over these. */
static inline bool kube_kind_is_stored(const struct kube_kind *kind) {
    return !kind->stored_as && !kind->is_virtual;
}
/* "deployments.apps", "pods": the (stored) kind's name in the store and in messages. */
const char *kube_kind_key(const struct kube_kind *kind);
/* "apps/v1", "v1". */
const char *kube_kind_api_version(const struct kube_kind *kind);

/* What kinds there are has changed (custom ones came or went): answers made of all kinds, such as discovery and OpenAPI, are to be made anew. */
void kube_kinds_changed(void);
/* Another number after each change. */
uint64_t kube_kinds_generation(void);

/* What can be done with a kind or a subresource. */
enum kube_verbs {
    KUBE_VERB_CREATE = 1,
    KUBE_VERB_DELETE = 2,
    KUBE_VERB_DELETECOLLECTION = 4,
    KUBE_VERB_GET = 8,
    KUBE_VERB_LIST = 16,
    KUBE_VERB_PATCH = 32,
    KUBE_VERB_UPDATE = 64,
    KUBE_VERB_WATCH = 128,
};
unsigned kube_kind_verbs(const struct kube_kind *kind);
/* Kinds that are questions: they are created, answered and forgotten, and are not among kube_kind_at(). NULL: there are no more. */
const struct kube_kind *kube_review_at(size_t index);
struct kube_subresource {
    const char *group, *plural; /* whose */
    const char *name;
    const char *kind_group, *kind_version, *kind; /* what is sent and answered */
    const struct kube_type *type;                 /* its type; NULL: that of the object */
    unsigned verbs;
    const struct kube_type *options; /* query parameters; or NULL */
    bool connect;                    /* a connection or a proxied request */
};
/* The index-th subresource of the kind, status and scale first; false when there are no more. */
bool kube_subresource_at(const struct kube_kind *kind, size_t index, struct kube_subresource *ret);

/* The group versions of all kinds and reviews, each once, in upstream's order of priority: this is the order of discovery and decides what a short
 * name means. A group's versions stand together; the first is the preferred one. To be freed; 0 or -ENOMEM. */
struct kube_group_version {
    const char *group, *version;
};
int kube_group_versions(struct kube_group_version **ret, size_t *ret_count);

/* An object of a kind that a definition made: what the schema says about it is only known at run time, so all but the metadata stays a tree, as it
 * was written (absent, null and empty are three things, keys keep their order). */
struct kube_custom_object {
    struct kube_object_meta metadata;
    struct tree *content; /* a map without apiVersion, kind and metadata; never NULL */
};

/* A decoded object: immutable once published, reference counted (single-threaded). The struct and all it points to live in its arena. */
struct kube_object {
    unsigned references;
    const struct kube_kind *kind;
    struct arena *arena;
    union {
        void *data;
        struct kube_object_meta *metadata; /* each kind's first member */
        struct kube_pod *pod;
        struct kube_deployment *deployment;
        struct kube_replica_set *replica_set;
        struct kube_job *job;
        struct kube_service *service;
        struct kube_endpoints *endpoints;
        struct kube_endpoint_slice *endpoint_slice;
        struct kube_namespace *namespace_;
        struct kube_node *node;
        struct kube_config_map *config_map;
        struct kube_secret *secret;
        struct kube_service_account *service_account;
        struct kube_event *event;
        struct kube_ingress *ingress;
        struct kube_lease *lease;
        struct kube_stateful_set *stateful_set;
        struct kube_daemon_set *daemon_set;
        struct kube_controller_revision *controller_revision;
        struct kube_cron_job *cron_job;
        struct kube_pod_template *pod_template;
        struct kube_api_service *api_service;
        struct kube_replication_controller *replication_controller;
        struct kube_limit_range *limit_range;
        struct kube_resource_quota *resource_quota;
        struct kube_persistent_volume *persistent_volume;
        struct kube_persistent_volume_claim *persistent_volume_claim;
        struct kube_certificate_signing_request *certificate_signing_request;
        struct kube_network_policy *network_policy;
        struct kube_ingress_class *ingress_class;
        struct kube_ip_address *ip_address;
        struct kube_service_cidr *service_cidr;
        struct kube_runtime_class *runtime_class;
        struct kube_pod_disruption_budget *pod_disruption_budget;
        struct kube_role *role;
        struct kube_role_binding *role_binding;
        struct kube_cluster_role *cluster_role;
        struct kube_cluster_role_binding *cluster_role_binding;
        struct kube_priority_class *priority_class;
        struct kube_storage_class *storage_class;
        struct kube_volume_attachment *volume_attachment;
        struct kube_csi_driver *csi_driver;
        struct kube_csi_node *csi_node;
        struct kube_csi_storage_capacity *csi_storage_capacity;
        struct kube_v2_horizontal_pod_autoscaler *horizontal_pod_autoscaler;
        struct kube_horizontal_pod_autoscaler *v1_horizontal_pod_autoscaler;
        struct kube_events_event *events_event;
        struct kube_component_status *component_status;
        struct kube_volume_attributes_class *volume_attributes_class;
        struct kube_validating_webhook_configuration *validating_webhook_configuration;
        struct kube_mutating_webhook_configuration *mutating_webhook_configuration;
        struct kube_validating_admission_policy *validating_admission_policy;
        struct kube_validating_admission_policy_binding *validating_admission_policy_binding;
        struct kube_custom_resource_definition *custom_resource_definition;
        struct kube_custom_object *custom;
    };
};
/* An empty object of the kind, one reference; NULL without memory. */
struct kube_object *kube_object_new(const struct kube_kind *kind);
struct kube_object *kube_object_ref(struct kube_object *object);
void kube_object_unref(struct kube_object *object); /* NULL is fine */
DEFINE_CLEANUP(struct kube_object, kube_object_unref)
/* A deep, changeable copy. */
struct kube_object *kube_object_copy(const struct kube_object *object);

/* The object as another kind that is stored as the same one; the object itself (a new reference) when it is of that kind already. -ENOMEM. */
int kube_convert(struct kube_object *object, const struct kube_kind *to, struct kube_object **ret);

enum kube_strictness {
    KUBE_LENIENT, /* unknown fields are dropped, as upstream's "Ignore" */
    KUBE_WARN,    /* … and reported through diag causes, decoding succeeds */
    KUBE_STRICT,  /* … and are errors */
};
/* Tree → object. -EINVAL with diag in upstream's words ("strict decoding error: unknown field \"spec.foo\""; "json: cannot unmarshal string into Go
 * struct field …"). */
int kube_decode_tree(const struct kube_kind *kind, const struct tree *tree, enum kube_strictness strictness, struct kube_object **ret,
                     struct diag *diag);
/* JSON → object, of a known kind (apiVersion and kind are checked when present) or, kind NULL, of the kind it names. */
int kube_decode_json(const struct kube_kind *kind, struct slice json, enum kube_strictness strictness, struct kube_object **ret, struct diag *diag);
/* Kubernetes protobuf ("k8s\0" envelope) → object. */
int kube_decode_protobuf(const struct kube_kind *kind, struct slice bytes, struct kube_object **ret, struct diag *diag);
/* As above to a tree of any described type (DeleteOptions, Eviction, …) by name. */
int kube_protobuf_to_tree(struct arena *arena, struct slice bytes, struct tree **ret, struct diag *diag);

/* The object as Kubernetes protobuf in its envelope, byte for byte as upstream writes it. -ENOTSUP: custom kinds have no protobuf. */
int kube_encode_protobuf(const struct kube_object *object, struct buffer *out);
/* Any described struct, without an envelope. */
int kube_encode_protobuf_part(const struct kube_type *type, const void *data, struct buffer *out);
/* A tree of any described kind; -ENOTSUP when it is of none, -EINVAL when it does not fit it. `_part`: without the envelope, of the kind given. */
int kube_tree_to_protobuf(const struct tree *tree, struct buffer *out);
int kube_tree_to_protobuf_part(const char *api_version, const char *kind, const struct tree *tree, struct buffer *out);
/* The envelope around a message; a message as field `number` of another (lists and watch events are put together of these). */
int kube_protobuf_wrap(const char *api_version, const char *kind, struct slice raw, struct buffer *out);
int kube_protobuf_put(uint32_t number, struct slice message, struct buffer *out);

/* Appends the object as JSON with apiVersion and kind first, as upstream's encoder orders fields; empty optional fields are left out. */
int kube_encode_json(const struct kube_object *object, struct buffer *out);
/* NULL at the arena's limit. */
struct tree *kube_encode_tree(const struct kube_object *object, struct arena *arena);
/* Any described struct by its type table, without apiVersion/kind. */
int kube_encode_part(const struct kube_type *type, const void *data, struct buffer *out);
int kube_decode_part(const struct kube_type *type, const struct tree *tree, struct arena *arena, void *data, struct diag *diag);
/* Deep equality and copy of any described struct (both in place; the copy's memory comes from the arena). */
bool kube_equal(const struct kube_type *type, const void *a, const void *b);
int kube_copy(const struct kube_type *type, struct arena *arena, const void *from, void *to);

/* Parts of objects of one kind: a top-level member ("status"), or all but metadata and status, copied over what stands there; -ENOMEM. */
int kube_copy_member(struct kube_object *to, const struct kube_object *from, const char *member);
int kube_copy_metadata_member(struct kube_object *to, const struct kube_object *from, const char *member);
int kube_copy_spec(struct kube_object *to, const struct kube_object *from);
bool kube_spec_equal(const struct kube_object *a, const struct kube_object *b);
/* Trees of the top-level members, and of the members of metadata, in which the two differ; without managedFields and what the server sets. */
int kube_encode_differences(const struct kube_object *old, const struct kube_object *new, struct arena *arena, struct tree **ret_old,
                            struct tree **ret_new);

/* Fills upstream's defaults in place. -ENOMEM. */
int kube_default(struct kube_object *object);
/* Upstream's validation: 0, or -EINVAL with one diag cause per field and diag->message = `Deployment.apps "web" is invalid: spec.x: Required value,
 * …`. `old` is NULL on create, the object itself when what may change was checked already. -ENOMEM: it could not be checked. */
int kube_validate(const struct kube_object *object, const struct kube_object *old, struct diag *diag);
/* Of a pod whose resources are changed while it runs (pods/resize). */
int kube_validate_resize(const struct kube_object *object, const struct kube_object *old, struct diag *diag);

/* Strategic merge patch by the kind's merge keys, all directives ($patch, $retainKeys, $setElementOrder, $deleteFromPrimitiveList). */
int kube_strategic_merge(const struct kube_kind *kind, struct arena *arena, const struct tree *target, const struct tree *patch, struct tree **ret,
                         struct diag *diag);

/* Tables: the columns of `kubectl get`. Cells are strings, numbers or booleans; now_ns for ages. */
struct kube_column {
    const char *name, *type, *format, *description;
    int priority;       /* 0: always, 1: -o wide */
    const void *source; /* private: how the cell is computed */
};
/* The cells of one object as a TREE_LIST; NULL at the arena's limit. */
struct tree *kube_table_row(const struct kube_object *object, struct arena *arena, int64_t now_ns);

/* OpenAPI documents as JSON, appended: v3 of one group version ("apps", "v1"; -ENOENT when there is none), v2 of everything. */
int kube_openapi_v3(struct slice group, struct slice version, struct buffer *out);
int kube_openapi_v2(struct buffer *out);
/* A document of the above in its protobuf form (gnostic's messages), appended. -EINVAL when it is no such document. */
int kube_openapi_to_protobuf(struct slice json, struct buffer *out);

/* --- kinds made at run time (custom*.c) ---
 * A custom resource definition makes one kind per version, each with a compiled schema by which its objects are pruned, defaulted, checked and shown.
 * The table of kinds is one per process, like that of the built-in ones: kube_kind_at() and its like see custom kinds from kube_custom_install() on.
 * A kind keeps its address while its names and scope stay the same: a new version of the definition changes what is behind it. */
struct kube_custom_set; /* the compiled kinds of one definition, not yet installed */
/* Compiles all versions of the definition (CustomResourceDefinition as a tree). What is wrong in a schema is left out, since validation has refused
 * it before it was stored: so a definition can always be loaded. -EINVAL with diag when not even the names can be read; -E2BIG: more than the
 * limit of nodes; -ENOMEM. */
int kube_custom_compile(const struct tree *definition, struct kube_custom_set **ret, struct diag *diag);
void kube_custom_set_free(struct kube_custom_set *set); /* NULL is fine */
DEFINE_CLEANUP(struct kube_custom_set, kube_custom_set_free)
/* Installs the set in place of an earlier one of the same group and plural, and frees it. -ENOMEM: everything is as it was (the set too), -E2BIG:
 * there are too many kinds. */
int kube_custom_install(struct kube_custom_set *set);
/* No new request finds the kinds any more; those who hold references keep them. */
void kube_custom_remove(struct slice group, struct slice plural);
/* The definition's resourceVersion when its present generation took effect: objects of later revisions were written by its schemas. */
uint64_t kube_custom_revision(const struct kube_kind *kind);
/* The kind under which objects of this one are stored: itself, or another version of its definition; NULL when the kind has been removed. */
const struct kube_kind *kube_custom_storage(const struct kube_kind *kind);
/* Any version of a definition's kinds, served or not; the storage version when `version` is unknown; NULL when there is no such definition. */
const struct kube_kind *kube_custom_version(struct slice group, struct slice version, struct slice plural);
/* The text that a request for a deprecated version is warned with; NULL: it is not deprecated. */
const char *kube_custom_deprecation(const struct kube_kind *kind);
const char *kube_custom_list_kind(const struct kube_kind *kind);
/* The object becomes one of another version of its kind; only for objects that nobody else holds. */
void kube_custom_rename(struct kube_object *object, const struct kube_kind *kind);
/* An object of one version as one of another: apiVersion alone differs (conversion "None"). A new reference; NULL without memory. */
struct kube_object *kube_custom_convert(const struct kube_object *object, const struct kube_kind *kind);
/* Dotted paths, without the leading dot, of what the scale subresource shows; selector may be NULL. NULL: the kind has none. */
struct kube_scale_paths {
    const char *spec_replicas, *status_replicas, *selector;
};
const struct kube_scale_paths *kube_custom_scale(const struct kube_kind *kind);
/* Objects of these kinds are compared, and copied, by these rather than by kube_equal(object->kind->type, …). */
bool kube_object_equal(const struct kube_object *a, const struct kube_object *b);

/* Selectors. NULL selector matches nothing; an empty one everything (LabelSelectorAsSelector). */
bool kube_selector_matches(const struct kube_label_selector *selector, const struct kube_string_map *labels);
/* "a=b,c!=d,e in (x,y),!f" → parsed in the arena; -EINVAL with diag. */
struct kube_selector;
int kube_selector_parse(struct arena *arena, struct slice text, struct kube_selector **ret, struct diag *diag);
bool kube_selector_match(const struct kube_selector *selector, const struct kube_string_map *labels);
/* Field selectors ("metadata.name=x,spec.nodeName!=y"): compared with the string form of the field, absent is "". */
int kube_field_selector_parse(const struct kube_kind *kind, struct arena *arena, struct slice text, struct kube_selector **ret, struct diag *diag);
bool kube_field_selector_match(const struct kube_selector *selector, const struct kube_object *object);

/* Names of ours that the API, the controllers and the node agree on. */
#define TIDEMILL_PROVISIONER "tidemill.dev/local-path"         /* of the default storage class: folders beneath the state folder */
#define TIDEMILL_VOLUME_FINALIZER "tidemill.dev/volume-folder" /* of such a volume, until the node has removed its folder */

/* Small helpers everybody needs. */
/* The member that says what kind of volume it is ("emptyDir"); "" when there is none. */
const char *kube_volume_kind(const struct kube_volume *volume);
const char *kube_map_find(const struct kube_string_map *map, const char *key); /* NULL when absent */
/* Sets or replaces, keeping the order by key; copies into the arena. */
int kube_map_set(struct kube_string_map *map, struct arena *arena, const char *key, const char *value);
void kube_map_unset(struct kube_string_map *map, const char *key);
/* Lists of strings. What is in the list already is not added again; the text is not copied. False from drop: it was not there. */
bool kube_strings_has(const struct kube_string_list *list, const char *text);
int kube_strings_add(struct kube_string_list *list, struct arena *arena, const char *text);
bool kube_strings_drop(struct kube_string_list *list, const char *text);
int64_t kube_quantity_milli(const struct kube_quantity_map *map, const char *key, int64_t fallback);
/* Sets or replaces, keeping the order by key; the key is copied, the value's text is not. */
int kube_quantities_set(struct kube_quantity_map *map, struct arena *arena, const char *key, struct kube_quantity value);
/* Adds (sign 1) or subtracts (-1); the sum is written as the first summand was (binary or decimal). */
int kube_quantities_add(struct kube_quantity_map *map, struct arena *arena, const char *key, struct kube_quantity value, int sign);
/* A whole number. */
struct kube_quantity kube_quantity_of(struct arena *arena, int64_t value);

/* --- what pods ask for (pod_resources.c), and what quotas count (quota.c) --- */
/* What a pod asks for: its containers together, or an init container that asks for more; with its overhead. -ENOMEM. */
int kube_pod_resources(const struct kube_pod_spec *spec, struct arena *arena, struct kube_quantity_map *ret_requests,
                       struct kube_quantity_map *ret_limits);
/* What the pod as a whole says (spec.resources); NULL: nothing, its containers do. */
const struct kube_resource_requirements *kube_pod_level(const struct kube_pod_spec *spec);
bool kube_pod_level_supports(const char *resource);
/* The containers' requests together, whatever the pod says as a whole. */
int kube_pod_container_requests(const struct kube_pod_spec *spec, struct arena *arena, struct kube_quantity_map *ret);
/* As long as the pod runs: a resize that is under way counts with the larger of both, see pod_resources.c. */
int kube_pod_resources_held(const struct kube_pod *pod, struct arena *arena, struct kube_quantity_map *ret_requests,
                            struct kube_quantity_map *ret_limits);
/* Of one container; status NULL: what it asks for. */
int64_t kube_request_held(const struct kube_pod_status *status, const struct kube_container *container, const char *resource);
/* Both want the same port of the machine at the same address. */
bool kube_host_ports_clash(const struct kube_pod_spec *a, const struct kube_pod_spec *b);
const char *kube_pod_qos_class(const struct kube_pod_spec *spec); /* "Guaranteed", "Burstable", "BestEffort" */
/* What the object adds to the quotas of its namespace, by the names that quotas use ("pods", "requests.cpu", "count/deployments.apps"). */
int kube_quota_usage(const struct kube_object *object, struct arena *arena, struct kube_quantity_map *ret);
/* What a container adds to a quota's compute resources: for what a quota demands of each container. */
int kube_quota_container_usage(const struct kube_resource_requirements *resources, struct arena *arena, struct kube_quantity_map *ret);
/* Whether objects of the kind can add to this resource. */
bool kube_quota_concerns(const struct kube_kind *kind, const char *resource);
/* The quota's scopes include the object. */
bool kube_quota_covers(const struct kube_resource_quota *quota, const struct kube_object *object);

/* The owner reference with controller=true, or NULL. */
const struct kube_owner_reference *kube_controller_of(const struct kube_object_meta *metadata);
bool kube_is_controlled_by(const struct kube_object_meta *metadata, const char *uid);
/* A pod's condition "Ready" is "True". */
bool kube_pod_is_ready(const struct kube_pod *pod);
/* The specification of the pods that an object is or makes; NULL: it makes none. */
const struct kube_pod_spec *kube_pod_spec_of(const struct kube_object *object);
/* Scaled value of maxSurge/maxUnavailable: a number, or a percentage of total rounded up or down; -EINVAL. */
int kube_int_or_percent(const struct kube_int_or_string *value, int total, bool round_up, int *ret);
/* "safe encoded" 32-bit FNV hash of a pod template as upstream names it (pod-template-hash): any stable hash will do. */
void kube_template_hash(const struct kube_pod_template_spec *template_, int collision, char ret[12]);

#endif

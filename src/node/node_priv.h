/* The node's insides: one struct node, a struct pod per pod that is ours, a struct unit per container of it. */
#ifndef TIDEMILL_NODE_PRIV_H
#define TIDEMILL_NODE_PRIV_H

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "client/client.h"
#include "node/node.h"
#include "podnet/podnet.h"
#include "runtime/runtime.h"
#include "sys/sys.h"

#define POD_GRACE_DEFAULT_S 30
#define POD_PIDS_MAX 4096
#define UNIT_GROUPS_MAX 65
#define QOS_PATH_BYTES 160 /* of a control group: see qos.c */
#define QOS_BATCH_CLASS "tidemill-batch"
#define RESIZE_MESSAGE_BYTES 400
#define NODE_TRIM_MS 3000
#define TERMINATION_MESSAGE_BYTES_MAX 4096
#define STRAYS_RETRY_MS 10000
#define TAKE_ON_RETRY_MS 5000
#define NODE_CONDITIONS 4 /* of pressure three, and Ready */
#define POD_DEADLINE_MESSAGE "Pod was active on the node longer than the specified deadline"
#define RECORD_BYTES_MAX (1 * MIB)

struct events;
struct eviction;
struct storage_limits;
struct prune;

/* Two looks at a counter of CPU time, see stats.c. */
struct stats_sample {
    int64_t at_ns; /* CLOCK_REALTIME; 0: none */
    uint64_t cpu_ns;
};
struct stats_window {
    struct stats_sample older, newer;
};

/* What a pod asks for, and may use at most, with all its containers (qos.c); a limit of 0: none, since not each of them has one. */
struct pod_resources {
    int64_t cpu_request_milli, memory_request, cpu_limit_milli, memory_limit;
};

struct nameserver;
struct node {
    const struct node_options *options;
    int socket_fd;
    struct loop *loop;
    struct client *client;
    struct informer *pods_informer, *services_informer, *slices_informer, *volumes_informer;
    struct cgroups cgroups;
    struct containers *containers;
    struct podnet *podnet;
    struct nameserver *nameserver; /* NULL: the port is taken, pods ask the host's name servers */
    struct events *events;
    char cgroup_root[32], host_address[16], host_address6[46]; /* the second may be "" */
    struct {
        uint64_t burstable_shares;
        int64_t batch_bytes;
    } qos; /* as last set */
    char run_dir[PATH_MAX], state_dir[PATH_MAX], store_dir[PATH_MAX], layers_dir[PATH_MAX], volumes_dir[PATH_MAX];
    char own_hosts_text[3][80];
    const char *own_hosts[16];
    struct map *pods;     /* uid → struct pod */
    struct map *watched;  /* "plural/namespace/name" → struct watched */
    struct map *pullings; /* what is being made ready, see pulling.c */
    struct list arrivals; /* images that are unpacked while they come, see runtime/image.h */
    struct map *seccomp;  /* capabilities as text → program (char *) */
    struct map *removals; /* volume → struct removal */
    struct loop_defer reclaim_defer;
    struct loop_timer reclaim_retry;
    struct loop_defer services_defer;
    bool services_dirty;
    struct loop_timer register_retry, strays_retry, take_on_retry;
    unsigned stray_deletions;
    struct loop_timer pool_timer; /* fills the pool of namespaces */
    struct loop_timer trim;       /* gives memory back to the system a while after the last work */
    bool register_in_flight, register_dirty, is_registered, is_made /* the object is there */, images_stale;
    struct buffer images_json;             /* what the Node lists */
    struct images_reading *images_reading; /* NULL: they are not being read */
    struct node_condition_seen {
        int64_t since_ns; /* 0: not known */
        bool value;
    } conditions[NODE_CONDITIONS];
    struct http_server *socket_server, *metrics_server;
    struct list sessions; /* running logs, exec and attach */
    struct trash *trash;  /* what is being removed */
    struct prune *prune;  /* disk space is being freed; NULL: it is not */
    struct eviction *eviction;
    struct storage_limits *storage_limits;
    struct system_oom *system_oom;    /* NULL: the kernel's log cannot be read */
    struct disk_count *disk_count;    /* measure.c */
    struct tls_context *probe_tls[2]; /* for probes over HTTP/1.1 and HTTP/2; NULL: none was needed yet */
    struct stats_window stats;        /* of the machine */
    atomic_bool is_ending;            /* for worker threads: long walks end early */
    int rotation_fd;                  /* inotify on logs that are quiet now */
    struct loop_io *rotation_io;
    int clock_fd; /* tells when the wall clock is set */
    struct loop_io *clock_io;
};

/* --- what pods refer to: configuration maps, secrets, claims and their volumes (references.c), each watched once (watched.c) --- */

#define WATCHED_KEY_BYTES 600

struct watched;
/* +1; NULL: no memory. Its pods get pod_reference_changed. */
struct watched *watched_get(struct node *node, const struct kube_kind *kind, const char *namespace, const char *name);
void watched_unref(struct watched *watched); /* NULL is fine */
bool watched_is_known(const struct watched *watched);
const struct kube_object *watched_object(const struct watched *watched); /* NULL: it is not there */
/* Keeps the object as it is now, and watches no more. */
void watched_freeze(struct watched *watched);

struct reference {
    const struct kube_kind *kind;
    char *name;
    bool optional, for_volume;
    int64_t tell_ms, pause_ms; /* when it is said again that it is missing; 0: it was not yet */
    struct watched *watched;   /* NULL: not asked for yet */
};

/* A service account token of a projected volume (token.c). */
struct pod_token {
    struct pod *pod;
    size_t volume, source; /* which of the pod's spec */
    struct secret *text;   /* NULL: not there yet */
    struct http_request *request;
    struct loop_timer timer; /* when the next one is due */
    int64_t due_ns;          /* the same, by the wall clock */
    int64_t retry_ms;
};

/* --- images of other registries (remote_image.c) --- */

struct remote_image;
struct remote_image_result {
    int error; /* 0: the image is in our registry's store now; otherwise `message` says why not */
    const char *message;
    const char *missing; /* "a, b": pull secrets that are not there; "" when all are */
    int64_t began_ms;    /* when our turn came; 0: it did not */
};
typedef void remote_image_fn(void *userdata, const struct remote_image_result *result);
typedef void remote_image_arriving_fn(void *userdata, const char *manifest, const char *place);
struct remote_image_options {
    const char *image, *policy, *namespace;
    bool checks;                                             /* something of it is here, and damaged */
    const struct kube_local_object_reference_array *secrets; /* spec.imagePullSecrets */
    remote_image_arriving_fn *on_arriving;                   /* its blobs have begun to come, see image_arrival_start; once at most */
    remote_image_fn *on_done;                                /* once, unless freed before; the handle is dead then */
    void *userdata;
};
int remote_image_pull(struct node *node, const struct remote_image_options *options, struct remote_image **ret);
void remote_image_free(struct remote_image *remote); /* NULL is fine */

/* --- an image made ready for a pod (pulling.c) --- */

#define PULLING_ID_BYTES 512
enum pulling_policy { PULLING_IF_NOT_PRESENT, PULLING_ALWAYS, PULLING_NEVER };
/* imagePullPolicy; the default of the API where it is absent. */
enum pulling_policy pulling_policy_of(const char *policy, const char *image);

struct pulling;
struct pulling_result {
    struct image *image;          /* unpacked; borrowed. NULL: not to be had, by reason and message */
    const char *image_id;         /* for the status: "repository@sha256:…" of the manifest */
    const char *reason, *message; /* ErrImagePull, ErrImageNeverPull */
};
typedef void pulling_fn(void *userdata, const struct pulling_result *result);
struct pulling_options {
    struct pod *pod;
    const struct unit *unit; /* whose events these are; NULL: the pod's (an image volume) */
    const char *image;       /* as the pod names it */
    const char *policy;      /* imagePullPolicy; NULL or "": the default */
    bool quiet;              /* what is here, without events: nothing is fetched */
    bool checks;             /* what is unpacked of it is looked over before */
    pulling_fn *on_done;     /* once and never at once, unless cancelled before; the handle is dead then */
    void *userdata;
};
/* -EINVAL with diag when the name is no image's. */
int pulling_start(const struct pulling_options *options, struct pulling **ret, struct diag *diag);
void pulling_cancel(struct pulling *pulling); /* NULL is fine */
/* Is a worker looking at layers, or making them? What waits for another registry does not count. */
bool pulling_is_unpacking(const struct node *node);

/* --- a container of a pod (unit.c) --- */

enum unit_stage {
    UNIT_WAITING, /* not begun, or backing off until start_at_ms */
    UNIT_PULLING,
    UNIT_CREATING,
    UNIT_STARTING,
    UNIT_RUNNING,
    UNIT_EXITED, /* for good, or until the pod decides to run it again */
};

struct termination {
    bool set;
    int code;
    char reason[32]; /* Completed, Error, OOMKilled, … */
    char message[TERMINATION_MESSAGE_BYTES_MAX + 1];
    int64_t started_ns, finished_ns;
    char id[CONTAINER_ID_LEN + 1];
};

struct unit_probe {
    struct unit *unit;
    const struct kube_probe *spec; /* NULL: none */
    struct probe probe;
    struct loop_timer timer;
    struct probe_run *run;
};

struct unit {
    struct pod *pod;
    const struct kube_container *spec; /* of pod->spec_object, or `ephemeral` */
    struct kube_container ephemeral;   /* what an ephemeral one is, in the words of the others */
    const char *target;                /* ephemeral: whose processes it sees; or NULL */
    bool is_init, is_sidecar, is_ephemeral;
    bool respecified; /* its image was changed: it runs again whatever the policy */
    enum unit_stage stage;
    char waiting_reason[40], waiting_message[1024];
    int restart_count;
    bool has_run; /* restart_count counts from the second creation on */
    char id[CONTAINER_ID_LEN + 1];
    struct container *container;
    struct unit_user {
        bool known;
        uid_t uid;
        gid_t gid;
        gid_t groups[UNIT_GROUPS_MAX]; /* its own first */
        size_t groups_count;
    } user; /* of the container, as its first process has it */
    struct image *image;
    char image_id[PULLING_ID_BYTES];
    struct pulling *pull;
    bool finds_by_id; /* the image of an adopted container */
    struct backoff backoff, pull_backoff;
    int64_t create_delay_ms, kill_delay_ms; /* after a creation that failed through no fault of the container */
    int64_t start_at_ms;                    /* monotonic; 0: now */
    struct loop_timer timer;                /* back-off */
    int64_t started_ns, started_ms;
    bool started, ready; /* as the status tells: startup probe passed; readiness */
    struct termination current, last;
    struct kube_object *actuated; /* the version of the pod whose resources the running container has; NULL: not known */
    struct stats_window stats;
    char stats_id[CONTAINER_ID_LEN + 1]; /* the run that stats is of */
    uint64_t nano_cores;                 /* of the last summary, and of which time */
    int64_t window_ns;
    struct sys_usage disk_rootfs, disk_logs; /* as last counted */
    uint64_t probe_results[3][4];            /* by kind and enum probe_outcome */
    struct unit_probe probes[3];             /* by enum probe_kind */
    struct probe_run *hook;                  /* postStart or preStop */
    struct loop_timer hook_timer;            /* that sleeps, or could not begin */
    bool post_starting;                      /* it runs, and its postStart hook too: to the outside it is still being created */
    /* stopping */
    bool stopping, term_sent, killed_by_liveness;
    int64_t grace_ms;
    struct loop_timer kill_timer;
    int64_t stop_began_ms;
    struct loop_timer log_timer; /* rotation.c */
    int log_watch;
};

/* --- a pod (pod.c) --- */

enum pod_stage {
    POD_PREPARING, /* network, folders, references, volumes */
    POD_ACTIVE,
    POD_ENDED,    /* Succeeded or Failed: nothing runs any more; waits for its deletion */
    POD_STOPPING, /* deleted: units are being stopped */
    POD_CLEANING, /* nothing runs; being removed from disk and from the API */
};

struct pod {
    struct node *node;
    struct kube_object *spec_object;    /* as when we took it on */
    struct kube_object *object;         /* the newest that the API told; NULL for what was found on disk and not seen yet */
    const char *uid, *namespace, *name; /* in spec_object */
    char dir[PATH_MAX], group[QOS_PATH_BYTES];
    struct pod_resources resources; /* allocated */
    bool is_counted;                /* its files were, once */
    struct sys_usage *disk_volumes; /* of each volume, as last counted; NULL: never */
    struct pod_resize {
        struct kube_object *allocated; /* the version whose resources were granted */
        struct pod_resources applied;  /* to its group */
        bool in_progress;
        char pending[16], pending_message[RESIZE_MESSAGE_BYTES]; /* Deferred, Infeasible; "" */
        char error[RESIZE_MESSAGE_BYTES];                        /* why it is still in progress; "" */
        int64_t pending_since_ns, progress_since_ns;
    } resize;
    enum pod_stage stage;
    bool last_word; /* deleted: its last status was sent */
    unsigned last_word_tries;
    bool is_fresh; /* not from disk, and its group was not looked at yet */
    enum { POD_CGROUP_NONE, POD_CGROUP_UNDER_WAY, POD_CGROUP_READY } cgroup;
    bool network_ready, volumes_ready, giving /* its volumes to its fsGroup */, given, orphan /* gone from the API */, needs_sync;
    struct podnet_pod net;
    uid_t id_base; /* hostUsers: false: whom its root is outside; 0: no user namespace */
    VECTOR(struct reference) references;
    struct pod_token *tokens;
    size_t tokens_count;
    struct image_volume *image_volumes;
    size_t image_volumes_count;
    bool volumes_stale;  /* what is shown in a volume has changed */
    struct unit **units; /* init containers first, ephemeral ones last */
    size_t units_count;
    int64_t start_time_ns;
    const char *phase;
    char failed_reason[40], failed_message[1024]; /* DeadlineExceeded, Evicted: it has to end */
    int64_t failed_grace_s;                       /* what it gets then; -1: its own */
    bool is_disrupted;                            /* and says so in a condition */
    int64_t disrupted_ns;
    uint64_t measured_cpu_ns; /* what its processes had used when its storage was last measured */
    bool is_measured;         /* now */
    struct pod_conditions {
        int64_t since_ns[4]; /* by enum pod_condition */
        bool value[4];
        bool known[4];
    } conditions;
    struct loop_child *pause; /* of a shared PID namespace that this node began */
    struct loop_defer sync;
    struct loop_timer retry, deadline;
    int64_t retry_ms;
    /* status */
    struct buffer status_json; /* last sent and accepted */
    struct buffer status_sending;
    struct loop_timer status_retry;
    bool status_in_flight, status_dirty, status_failed, delete_in_flight, delete_done;
    unsigned deletions; /* containers being deleted; each holds the pod */
    int64_t grace_s;
    int64_t stop_began_ms; /* monotonic; 0: not yet */
    bool ended_before;     /* when we first saw it: its status is not ours to tell */
    bool gone;             /* cleaned: freed when the last deletion ends */
};

/* pod.c */
int pod_add(struct node *node, struct kube_object *object, bool adopted);
void pod_update(struct pod *pod, struct kube_object *object);
void pod_orphaned(struct pod *pod);
void pod_retry(struct pod *pod); /* with growing pauses */
void pod_reference_changed(struct pod *pod);
void pod_sync_later(struct pod *pod);
void pod_free(struct pod *pod);
struct pod *pod_find(const struct node *node, const char *namespace, const char *name);
struct unit *pod_unit(const struct pod *pod, const char *name);
bool pod_is_deleted(const struct pod *pod);
const char *pod_restart_policy(const struct pod *pod);

/* pod_network.c */
size_t pod_network_pool_size(void);
void pod_network_init(struct node *node);
void pod_network_calm(struct node *node); /* the pool is filled again when nothing starts for a while */
/* False: the pod has been failed, since it asks for kernel settings that are not its own. */
bool pod_network_admits(struct pod *pod);
/* Makes the sandbox; false, with an event, when that is not possible now. */
bool pod_network_ready(struct pod *pod);
void pod_network_release(struct pod *pod);
/* The name that its programs see: of one part, or whole when it wants that and has a subdomain. */
int pod_hostname(const struct pod *pod, char ret[65], struct diag *diag);
/* One or two, IPv4 first; of the machine when the pod is on its network. */
size_t pod_addresses(const struct pod *pod, const char *ret[2]);
size_t node_addresses(const struct node *node, const char *ret[2]);
void pod_hosts_format(const struct pod *pod, struct buffer *out);
bool pod_has_host_ports(const struct pod *pod);
/* In the arena; NULL without memory. */
struct podnet_host_port *pod_network_ports(const struct node *node, struct arena *arena, size_t *ret_count);

/* pod_cgroup.c: the pod's own control group */
/* True when it is there; otherwise it is being made by a worker thread, and the pod is synced when that is done. */
bool pod_cgroup_ready(struct pod *pod);
/* Now, blocking: after a restart of the node. */
bool pod_cgroup_make(struct pod *pod);
void pod_cgroup_remove(struct pod *pod); /* absent is fine */

/* unit.c */
struct unit *unit_new(struct pod *pod, const struct kube_container *spec, bool is_init);
struct unit *unit_new_ephemeral(struct pod *pod, const struct kube_ephemeral_container *spec);
/* The pod's object was replaced. */
void unit_respecify(struct unit *unit, const struct kube_container *spec);
void unit_respecify_ephemeral(struct unit *unit, const struct kube_ephemeral_container *spec);
void unit_reconsider(struct unit *unit); /* what it lacked may be there now */
void unit_free(struct unit *unit);
void unit_start(struct unit *unit);        /* from UNIT_WAITING; does nothing before start_at_ms */
void unit_lose_sandbox(struct unit *unit); /* after unit_adopt */
void unit_adopt(struct unit *unit);        /* after loading: looks what became of unit->id */
/* restarting.c */
bool unit_wants_restart(const struct unit *unit); /* one that has ended */
void unit_restart(struct unit *unit);             /* from UNIT_EXITED: waits out the back-off */
void unit_back_off(struct unit *unit, int64_t delay_ms, int64_t left_ms);
void unit_stop(struct unit *unit, int64_t grace_s, const char *why);
void unit_is_up(struct unit *unit); /* its postStart hook is done */
bool unit_is_shown_running(const struct unit *unit);
bool unit_is_busy(const struct unit *unit); /* something of it may still run */
bool unit_failed(const struct unit *unit);
void unit_remove_container(struct unit *unit);
void unit_settle(struct unit *unit); /* the container of a run that has ended goes, once its end is on disk */
void unit_wait_with(struct unit *unit, const char *reason, const char *format, ...) __attribute__((format(printf, 3, 4)));
void unit_wake_in(struct unit *unit, int64_t delay_ms);
void unit_create(struct unit *unit); /* its image is there */
void unit_log_path(const struct unit *unit, int attempt, char ret[PATH_MAX]);

/* unit_pull.c: the image of a unit */
void unit_pull(struct unit *unit);
void unit_pull_cancel(struct unit *unit);
void unit_pull_tell_waiting(struct unit *unit); /* its last pull failed and the next one is a while off */
void unit_find_image(struct unit *unit);        /* what an adopted container runs from */

/* probing.c */
void probing_begin(struct unit *unit);
void probing_end(struct unit *unit);
/* The container is being stopped: only its readiness is still asked for. */
void probing_stopping(struct unit *unit);
void probing_respecify(struct unit *unit);
/* A hook's command or request: done(unit, outcome, message). */
int probing_run_handler(struct unit *unit, const struct kube_lifecycle_handler *handler, int64_t timeout_ms, probe_done_fn *done);

/* hooks.c */
bool hooks_post_start(struct unit *unit); /* false: there is none; otherwise unit_is_up follows, or the unit is stopped */
bool hooks_pre_stop(struct unit *unit);   /* false: there is none; otherwise unit_terminate follows */
/* The pod's next containers wait: this one is on its way to the end of its postStart hook. */
bool hooks_hold_others(const struct unit *unit);
void hooks_cancel(struct unit *unit);
void hooks_unit_ended(struct unit *unit);

/* stopping.c */
void stopping_init(struct unit *unit);
void unit_terminate(struct unit *unit); /* the stop signal */

/* termination.c: path: the container's termination message file */
void termination_explain_start(const char *crun, char *ret, size_t size);
void termination_read_message(const struct unit *unit, const char *path, char *ret, size_t size);

/* spec.c: from the API's container to the runtime's */
int spec_format(struct unit *unit, struct buffer *out, struct diag *diag);

/* security.c: what a container may do, and as whom */
struct identity;
bool spec_is_privileged(const struct unit *unit);
uint64_t security_capabilities(const struct unit *unit);
/* User and groups; also into unit->user. layers: folders, highest first. */
int security_user(struct unit *unit, struct arena *arena, const char *const *layers, struct identity *ret, struct diag *diag);
/* The user of a container that an earlier process began. */
void security_adopt_user(struct unit *unit);
/* In base64, the node's; NULL: unconfined. */
int security_seccomp(const struct unit *unit, uint64_t capabilities, const char **ret, struct diag *diag);
bool security_is_unmasked(const struct unit *unit);

/* apparmor.c: the profiles of containers */
/* Loads ours where the kernel has AppArmor; before anything else uses the loop. */
void apparmor_start(struct node *node);
/* Refuses what this machine cannot enforce: the pod has failed then, and says why. */
bool apparmor_admits(struct pod *pod);
/* The container's profile, NULL when it runs without; -ENOENT with diag when it asks for one that is not loaded. */
int apparmor_profile(const struct unit *unit, const char **ret, struct diag *diag);

/* qos.c: where a pod stands among the others */
int qos_start(struct node *node, struct diag *diag);
int qos_pod_resources(const struct kube_pod_spec *spec, struct pod_resources *ret);
/* Sets pod->group and pod->resources; makes nothing. */
int qos_place(struct pod *pod);
/* A pod's group came or went, or the pod was resized. */
void qos_changed(struct node *node);
void qos_pods_path(const struct node *node, char ret[QOS_PATH_BYTES]); /* of all together */
/* Calls fn with each pod's group, in the tree of an earlier version too; fn may remove it. */
void qos_each_group(struct node *node, void (*fn)(struct node *node, const char *path, const char *uid));
void qos_container_path(const struct unit *unit, char ret[QOS_PATH_BYTES]);
/* The group of the process that keeps the pod's shared PID namespace. */
void qos_pause_path(const struct pod *pod, char ret[QOS_PATH_BYTES]);
void qos_container_limits(const struct unit *unit, const struct kube_resource_requirements *resources, struct cgroup_limits *ret);
void qos_pod_limits(const struct pod *pod, struct cgroup_limits *ret);
int qos_oom_score(const struct unit *unit);

/* resize.c: resources that change while the pod runs */
const struct kube_resource_requirements *resize_allocated(const struct unit *unit);
const struct kube_resource_requirements *resize_actuated(const struct unit *unit);
void resize_begin(struct unit *unit); /* its container is made, with what is allocated */
/* Before a spec that was not granted is saved; after both were loaded. */
int resize_keep(const struct pod *pod);
int resize_load(struct pod *pod);
void resize_step(struct pod *pod); /* of an active pod */
void resize_room_changed(struct node *node);

/* allocatable.c: what the machine has, and what of it pods may take together */
int64_t allocatable_reserve(int64_t memory_bytes);
int64_t allocatable_machine_memory(void);
int64_t allocatable_pods_memory(void);               /* the limit of the group of all pods */
int64_t allocatable_memory(const struct node *node); /* as the Node tells it */
int64_t allocatable_disk(const struct node *node);
int64_t allocatable_cpu_milli(void);
int64_t allocatable_pids(void);
int64_t allocatable_machine_pids(void); /* 0: unknown */

/* environment.c: pure but for the references that the pod holds */
/* NAME=value lines for the unit; -ENOENT with diag when a map, secret or key is missing. NULL-terminated, in the arena. */
int environment_build(const struct unit *unit, struct arena *arena, const char *const **ret, struct diag *diag);
/* "$(A) $$(B)" with the variables in env ("A=x"; NULL-terminated). In the arena; NULL at its limit. */
const char *environment_expand(struct arena *arena, const char *text, const char *const *env);
/* metadata.name, status.podIP, metadata.labels['x'] …; -EINVAL. */
int environment_field(const struct pod *pod, struct arena *arena, const char *path, const char **ret);
int environment_resource(const struct unit *unit, struct arena *arena, const struct kube_resource_field_selector *selector, const char **ret);

/* identity.c: names of the image's own passwd and group files */
struct identity {
    uid_t uid;
    gid_t gid;
    gid_t groups[64];
    size_t groups_count;
    char home[256];
};
/* "user", "1000", "user:group", "1000:1000"; "" is root. -ENOENT with diag. layers: folders, highest first. */
int identity_resolve(const char *const *layers, size_t count, const char *user, struct identity *ret, struct diag *diag);
bool identity_has_group(const struct identity *identity, gid_t group);

/* volumes.c */
int volumes_prepare(struct pod *pod, struct diag *diag);
const struct kube_volume *volumes_find(const struct pod *pod, const char *name);
/* Where a prepared volume is; -ENOENT when a claim has none. */
int volumes_path(const struct pod *pod, const struct kube_volume *volume, char ret[PATH_MAX]);
/* Of what is mounted for the pod; name "": the folder of all. */
void volumes_memory_path(const struct pod *pod, const char *name, char ret[PATH_MAX]);
bool volumes_is_filled(const struct kube_volume *volume); /* from the API: read-only for all */
int volumes_check_host_path(const char *name, const struct kube_host_path_volume_source *source, struct diag *diag);
void volumes_remove(struct pod *pod);
void volumes_refresh(struct pod *pod);
bool volumes_are_there(const struct pod *pod);
int volumes_write_hosts(const struct pod *pod);
/* That one, hostname and resolv.conf. What is there and right stays the same file; what is no file any more is made anew. */
int volumes_write_etc(const struct pod *pod);

/* mounting.c: a container's mount of a volume */
/* Its sub path resolved safely. env: the container's, for subPathExpr. In the arena. */
int mounting_describe(const struct unit *unit, size_t mount_index, const char *const *env, struct arena *arena, struct bundle_mount *ret,
                      struct diag *diag);
const char *mounting_propagation(const struct unit *unit);                                  /* of the root, as its mounts need it; NULL: none */
bool mounting_is_recursive(const struct unit *unit, const struct kube_volume_mount *mount); /* read-only with all beneath */

/* userns.c: a pod's user namespace */
bool userns_is_wanted(const struct pod *pod);
/* Idempotent; takes a range of users for the pod when it has none. Returns the namespace's file: before the pod's other namespaces are made. */
int userns_make(struct pod *pod, char ret[PATH_MAX], struct diag *diag);
/* Idempotent: the mounts that come with it, when the others are there. */
int userns_prepare(struct pod *pod, struct diag *diag);
enum userns_file { USERNS_USER, USERNS_SYSFS, USERNS_MQUEUE };
void userns_path(const struct pod *pod, enum userns_file file, char ret[PATH_MAX]);
/* Whether a mount of `path` can show the owners as the pod's. */
bool userns_can_map(const struct pod *pod, const char *path);

/* image_volumes.c: images as volumes */
struct image_volume {
    struct pod *pod;
    size_t volume; /* which of the pod's */
    struct pulling *pull;
    struct image *image;             /* NULL: not there yet, or of an earlier node process */
    char image_id[PULLING_ID_BYTES]; /* "" until it is known */
};
int image_volumes_collect(struct pod *pod);
bool image_volumes_ready(struct pod *pod); /* all are here; otherwise the pod is synced when one came or failed */
int image_volumes_mount(struct pod *pod, const struct kube_volume *volume, struct diag *diag);
void image_volumes_adopt(struct pod *pod); /* looks what its mounted images are */
void image_volumes_free(struct pod *pod);

/* references.c */
int references_collect(struct pod *pod);
int references_collect_container(struct pod *pod, const struct kube_container *container);
/* Begins to watch what is not watched yet. True when all is known, and nothing that a volume needs is missing; the pod is synced when that changes.
 */
bool references_ready(struct pod *pod);
/* After which something that is missing is told again; 0: nothing is. */
int64_t references_pause_ms(const struct pod *pod);
bool references_has(const struct pod *pod, const struct watched *watched);
const struct kube_object *references_find(const struct pod *pod, const struct kube_kind *kind, const char *name);
void references_free(struct pod *pod);

/* token.c */
int tokens_collect(struct pod *pod);
/* True when all are there; otherwise they are being asked for, and the pod is synced when one came. */
bool tokens_ready(struct pod *pod);
struct slice tokens_find(const struct pod *pod, const struct kube_service_account_token_projection *source); /* empty: not there */
void tokens_free(struct pod *pod);
void tokens_clock_set(struct pod *pod); /* the wall clock was set */
/* After how much of a token's life the next one is asked for. */
int64_t tokens_refresh_ms(int64_t life_ms);

/* payload.c: the files of a volume, replaced all at once. Paths and bytes are the caller's. */
#define PAYLOAD_BYTES_MAX (4 * MIB) /* of one file */
struct payload_file {
    const char *path;
    struct slice bytes;
    mode_t mode;
};
struct payload {
    struct payload_file *items;
    size_t count, capacity;
    uid_t user; /* owner and group of the files; -1: ours */
    gid_t group;
};
/* Relative, without ".", "..", empty parts, and parts that begin with "..". */
bool payload_path_is_safe(const char *path);
/* A path that is there already is replaced. */
int payload_put(struct payload *payload, const char *path, struct slice bytes, mode_t mode);
/* Writes nothing when the folder shows exactly these files. */
int payload_write(const char *path, const struct payload *payload, bool *ret_changed);

/* persistent.c: volumes that outlive the pod */
const char *persistent_claim_name(const struct pod *pod, const struct kube_volume *volume); /* NULL: it names none */
/* The same without taking memory of the pod's, for what is asked again and again. */
#define PERSISTENT_CLAIM_BYTES 600
const char *persistent_claim_text(const struct pod *pod, const struct kube_volume *volume, char ret[PERSISTENT_CLAIM_BYTES]);
bool persistent_has_claim(const struct pod *pod, const char *namespace, const char *name);
/* Whether the volume is a folder that we made, and which that is. */
bool persistent_is_ours(const struct node *node, const struct kube_object *volume, char ret[PATH_MAX]);
int persistent_prepare(const struct pod *pod, const struct kube_volume *volume, struct diag *diag);
/* Where a prepared one is; false: it is not. */
bool persistent_path(const struct pod *pod, const struct kube_volume *volume, char ret[PATH_MAX]);
/* Its volumes belong to its fsGroup. False: that is under way, the pod is synced when it is done. */
bool persistent_ready(struct pod *pod);
/* ownership.c: the tree to the group, blocking. only_on_mismatch: unless its top belongs to the group already. -EAGAIN when that takes more than
 * entries_max (it may be begun again: what is given already costs little), -ECANCELED after somebody has set *stop, which may be NULL. */
struct ownership {
    gid_t group;
    bool only_on_mismatch;
    size_t entries_max;
    const atomic_bool *stop;
};
int ownership_give(const char *path, const struct ownership *ownership);
/* reclaim.c: removes what is due, and may do so as soon as pods and volumes are known */
void reclaim_volumes(struct node *node);
void reclaim_stop(struct node *node); /* after the loop has ended */

/* record.c: the pod's state on disk */
int record_save(struct pod *pod);
int record_save_spec(const struct pod *pod);
int record_load(struct pod *pod);
int record_load_all(struct node *node);
void record_remove(struct pod *pod);

/* strays.c: what no pod knows */
void strays_remove(struct node *node);
void strays_remove_layers(struct node *node);  /* before the pods are */
void strays_remove_folders(struct node *node); /* when the API's pods are known */
void strays_retry(struct node *node);          /* something could not be removed: later */
void strays_again(struct node *node);

/* status.c */
void status_update(struct pod *pod);
void status_compute_phase(struct pod *pod);
int status_format(struct pod *pod, struct buffer *out);
void status_take_conditions(struct pod *pod);
void status_load(struct pod *pod);
void status_free(struct pod *pod);

/* events.c */
int events_new(struct node *node, struct events **ret);
void events_free(struct events *events);
/* unit NULL: about the pod. type "Normal" or "Warning". */
void event_pod(struct pod *pod, const struct unit *unit, const char *type, const char *reason, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* About the node itself. */
void event_node(struct node *node, const char *type, const char *reason, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* storage.c: what pods take of the disk */
enum storage_kind {
    STORAGE_ROOTFS,
    STORAGE_LOGS,
    STORAGE_EMPTY_DIR,
    STORAGE_CLAIM, /* outlives the pod, and is no part of what it takes */
};
struct storage_item {
    const char *uid, *name; /* the pod's; the container's or the volume's */
    enum storage_kind kind;
    const char *path;
    struct sys_usage usage;
};
struct storage;
typedef void storage_done_fn(void *userdata, const struct storage_item *items, size_t count);
/* on_done runs once, unless forgotten; the handle is dead then. */
int storage_measure(struct node *node, bool (*wanted)(const struct pod *pod), bool with_claims, storage_done_fn *on_done, void *userdata,
                    struct storage **ret);
void storage_forget(struct storage *storage); /* NULL is fine */
/* Of the whole pod, or of one container without volumes. */
void storage_sum(const struct storage_item *items, size_t count, const char *uid, const char *container, struct sys_usage *ret);
bool storage_is_empty_dir_on_disk(const struct kube_volume *volume);

/* --- trash.c: removing what may be large --- */

/* Afterwards nothing is at the path: it was moved away, and a worker thread removes it some time, also after this process. Where that cannot be, it
 * is removed at once. Absent is fine. */
int trash_put(struct node *node, const char *path);
/* The pod has ended for good: what it wrote goes, but for logs. */
void trash_pod_files(struct pod *pod);
bool trash_is_busy(const struct node *node); /* something is still being removed */
int trash_start(struct node *node);          /* removes what an earlier node left */
void trash_stop(struct node *node);

/* storage_limits.c */
int storage_limits_new(struct node *node);
void storage_limits_free(struct storage_limits *limits); /* NULL is fine */
/* It is active, and may have limits. */
void storage_limits_watch(struct pod *pod);
/* Whether the pod took more than it may; then ret says what. */
bool storage_exceeds(const struct kube_pod_spec *spec, const char *uid, const struct storage_item *items, size_t count, char *ret, size_t size);

/* eviction.c: what happens when the machine runs short */
int eviction_new(struct node *node, struct diag *diag);
void eviction_free(struct eviction *eviction); /* NULL is fine */
/* False: the pod has failed, and says why. */
bool eviction_admits(struct pod *pod);
bool admitting_admits(struct pod *pod); /* admitting.c */
/* --- runtime_class.c --- */
/* The runtime that the pod asks for is there. */
bool runtime_class_ready(struct pod *pod);
/* Its space may be free now. */
void eviction_pod_ended(struct node *node);
void eviction_evict(struct pod *pod, int64_t grace_s, bool disruption, const char *message);
/* Looks for the first time: what is short already is known before anything begins. */
void eviction_start(struct node *node);
/* Of a disk of that size, what the threshold keeps from pods. */
uint64_t eviction_reserved_disk(const struct node *node, uint64_t bytes);
int64_t eviction_reserved_memory(const struct node *node);
/* condition: by enum pressure_condition */
bool eviction_has(const struct node *node, size_t condition);

/* system_oom.c: the kernel kills because the machine is out of memory */
void system_oom_start(struct node *node);
void system_oom_stop(struct node *node);

/* register.c */
void register_node(struct node *node);
/* node_object.c: its content */
int register_format(struct node *node, struct buffer *out);
void register_take_conditions(struct node *node, const struct kube_object *object);
const char *register_architecture(void); /* "amd64" */
/* node_images.c: reads what the Node lists on a worker thread, then register_images_read. */
int images_read(struct node *node);
void images_stop(struct node *node);
void register_images_read(struct node *node);
/* Something was pulled or removed: the Node tells it in a while. */
void images_changed(struct node *node);
void register_host_address(struct node *node);

/* services.c */
void services_changed(struct node *node);
void services_apply(struct node *node);
bool services_leave_alone(const struct kube_service *service); /* its labels say so */

/* nameserver.c, resolv.c */
void nameserver_start(struct node *node); /* warns when it cannot */
void nameserver_stop(struct node *node);
int resolv_of_pod(const struct pod *pod, struct buffer *out); /* its /etc/resolv.conf */

/* clock.c: what is due at a time of day follows when the wall clock is set */
int clock_start(struct node *node);
void clock_stop(struct node *node);

/* rotation.c: logs are cut at LOG_ROTATE_BYTES; a quiet log costs nothing */
int rotation_start(struct node *node);
void rotation_stop(struct node *node);
void rotation_watch(struct unit *unit);
void rotation_forget(struct unit *unit);

/* prune.c: POST /prune[?cacheBytesMax=N] */
void prune_serve(struct node *node, struct http_exchange *exchange, const struct query *query);
void prune_stop(struct node *node);

/* server.c, session.c, metrics.c */
int server_start(struct node *node, struct diag *diag);
void server_stop(struct node *node);
void session_serve_log(struct node *node, struct http_exchange *exchange, struct unit *unit, const struct query *query);
void session_serve_exec(struct node *node, struct http_exchange *exchange, struct unit *unit, const struct query *query, bool attach);
void session_serve_forward(struct node *node, struct http_exchange *exchange, struct pod *pod, const struct query *query);
/* The unit's container ended: attached logs end. */
void session_unit_ended(struct node *node, const struct unit *unit);
void sessions_free(struct node *node);
int metrics_format(struct node *node, struct buffer *out);
/* Of the machine, as the kernel estimates it. */
int stats_memory(uint64_t *ret_total, uint64_t *ret_available);
/* kubelet's /stats/summary, appended; brief: CPU and memory only. */
int stats_format(struct node *node, bool brief, struct buffer *out);

#endif

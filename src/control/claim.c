/* PersistentVolumeClaims: each gets a volume of its own (upstream: pkg/controller/volume/persistentvolume, the half that looks at claims).
 *
 *   Pending ──(a volume suits, or one was made)──► Bound ──(its volume is gone, or another's)──► Lost
 *
 * Binding writes three times, in this order: the volume names the claim, the claim names the volume (with an annotation that says that it is done),
 * the claim's status says Bound. Interrupted anywhere, the next run finds the volume that names the claim and goes on. `volume.c` does the volume's
 * own status.
 *
 * Claims of a class that waits for its first consumer are bound when the scheduler has chosen: it reserves a free volume, or names the node
 * (SELECTED_NODE_ANNOTATION) for which one is to be made.
 *
 * Volumes of our own class are made here: an object that names a folder of the node. The folder itself is the node's, which makes it when the first
 * pod mounts it and removes it when the object is deleted; until then a finalizer keeps the object. */
#include "control/volume_priv.h"

#define STORAGE_PROVISIONER_ANNOTATION "volume.kubernetes.io/storage-provisioner"
#define BETA_STORAGE_PROVISIONER_ANNOTATION "volume.beta.kubernetes.io/storage-provisioner"
#define DEFAULT_CLASS_ANNOTATION "storageclass.kubernetes.io/is-default-class"
#define BETA_DEFAULT_CLASS_ANNOTATION "storageclass.beta.kubernetes.io/is-default-class"

static int look_at_all(struct control *control) {
    return control_enqueue(control, CONTROLLER_CLAIM, &kube_kind_persistent_volume_claim, NULL, "");
}

int claim_on_change(struct control *control, const struct kube_object *object, const struct kube_object *old) {
    const struct kube_object *either = object ? object : old;
    if (either->kind == &kube_kind_persistent_volume_claim)
        return control_enqueue_object(control, CONTROLLER_CLAIM, either);
    if (either->kind == &kube_kind_storage_class)
        return object ? look_at_all(control) : 0;
    if (either->kind == &kube_kind_node) /* the one that a volume is to be made on is back */
        return object && !old ? look_at_all(control) : 0;
    if (either->kind != &kube_kind_persistent_volume)
        return 0;
    const struct kube_object_reference *reference = either->persistent_volume->spec.claim_ref;
    if (reference && reference->name && reference->namespace)
        return control_enqueue(control, CONTROLLER_CLAIM, &kube_kind_persistent_volume_claim, reference->namespace, reference->name);
    return object ? look_at_all(control) : 0;
}

struct run {
    struct context *context;
    const struct kube_object *claim;
    const struct kube_object *class; /* NULL: none, or not there */
    const struct objects *volumes;
    struct kube_object *changed, *status; /* copies to be written; NULL: as they are */
};

static struct kube_object *change(struct run *run) {
    if (!run->changed)
        run->changed = context_copy(run->context, run->claim);
    return run->changed;
}

static struct kube_persistent_volume_claim_status *change_status(struct run *run) {
    if (!run->status)
        run->status = context_copy(run->context, run->claim);
    return run->status ? &run->status->persistent_volume_claim->status : NULL;
}

static void annotate(struct run *run, const char *key, const char *value) {
    if (same_text(kube_map_find(&run->claim->metadata->annotations, key), value) || !change(run))
        return;
    if (kube_map_set(&run->changed->metadata->annotations, run->changed->arena, key, value) < 0)
        context_fail(run->context);
}

static void set_phase(struct run *run, const char *phase) {
    struct kube_persistent_volume_claim_status *status =
        text_is(run->claim->persistent_volume_claim->status.phase, phase) ? NULL : change_status(run);
    if (status)
        status->phase = phase;
}

/* ---- binding ---- */

static void copy_capacity(struct run *run, const struct kube_object *volume) {
    struct kube_persistent_volume_claim_status from = {
        .phase = "Bound", .access_modes = volume->persistent_volume->spec.access_modes, .capacity = volume->persistent_volume->spec.capacity};
    const struct kube_persistent_volume_claim_status *present = &run->claim->persistent_volume_claim->status;
    struct kube_persistent_volume_claim_status same = {.phase = present->phase, .access_modes = present->access_modes, .capacity = present->capacity};
    struct kube_persistent_volume_claim_status copied, *status;
    if (kube_equal(&kube_persistent_volume_claim_status_type, &from, &same) || !(status = change_status(run)))
        return;
    if (kube_copy(&kube_persistent_volume_claim_status_type, run->status->arena, &from, &copied) < 0) {
        context_fail(run->context);
        return;
    }
    status->phase = "Bound";
    status->access_modes = copied.access_modes;
    status->capacity = copied.capacity;
}

static void bind(struct run *run, const struct kube_object *volume) {
    const struct kube_object_reference *reference = volume->persistent_volume->spec.claim_ref;
    if (!reference || !same_text(reference->uid, run->claim->metadata->uid)) {
        struct kube_object *copy = context_copy(run->context, volume);
        if (copy && volume_reserve(copy, run->claim) < 0)
            context_fail(run->context);
        context_update(run->context, copy);
    }
    const char *name = run->claim->persistent_volume_claim->spec.volume_name;
    if (!same_text(name, volume->metadata->name) && change(run)) {
        run->changed->persistent_volume_claim->spec.volume_name = arena_strdup(run->changed->arena, volume->metadata->name);
        annotate(run, BOUND_BY_CONTROLLER_ANNOTATION, "yes");
    }
    annotate(run, BOUND_ANNOTATION, "yes");
    if (!text_is(run->claim->persistent_volume_claim->status.phase, "Bound"))
        copy_capacity(run, volume);
}

/* ---- making volumes ---- */

static const struct kube_object *find_node(struct run *run) {
    const char *selected = kube_map_find(&run->claim->metadata->annotations, SELECTED_NODE_ANNOTATION);
    if (selected)
        return context_get(run->context, &kube_kind_node, NULL, selected);
    struct objects nodes = {.list = {.items = NULL}};
    context_list(run->context, &kube_kind_node, NULL, &nodes);
    const struct kube_object *node = nodes.list.count ? nodes.list.items[0] : NULL;
    objects_deinit(&nodes);
    return node;
}

/* The folder is on one node, and so the volume. */
static struct kube_volume_node_affinity *affinity_to(struct arena *arena, const struct kube_object *node) {
    struct kube_volume_node_affinity *affinity = ARENA_NEW(arena, struct kube_volume_node_affinity);
    struct kube_node_selector *selector = ARENA_NEW(arena, struct kube_node_selector);
    struct kube_node_selector_term *term = ARENA_NEW(arena, struct kube_node_selector_term);
    struct kube_node_selector_requirement *requirement = ARENA_NEW(arena, struct kube_node_selector_requirement);
    const char **value = ARENA_NEW(arena, const char *);
    const char *hostname = kube_map_find(&node->metadata->labels, "kubernetes.io/hostname");
    if (!affinity || !selector || !term || !requirement || !value)
        return NULL;
    *value = arena_strdup(arena, hostname ? hostname : node->metadata->name);
    *requirement = (struct kube_node_selector_requirement){
        .key = hostname ? "kubernetes.io/hostname" : "metadata.name", .operator= "In", .values = {.items = value, .count = 1}};
    if (hostname)
        term->match_expressions = (struct kube_node_selector_requirement_array){.items = requirement, .count = 1};
    else
        term->match_fields = (struct kube_node_selector_requirement_array){.items = requirement, .count = 1};
    *selector = (struct kube_node_selector){.node_selector_terms = {.items = term, .count = 1}};
    affinity->required = selector;
    return *value ? affinity : NULL;
}

static int set_finalizer(struct kube_object *volume) {
    const char **item = ARENA_NEW(volume->arena, const char *);
    if (!item)
        return -ENOMEM;
    *item = TIDEMILL_VOLUME_FINALIZER;
    volume->metadata->finalizers = (struct kube_string_list){.items = item, .count = 1};
    return 0;
}

static struct kube_object *volume_new(struct run *run, const char *name, const struct kube_object *node) {
    const struct kube_persistent_volume_claim_spec *claim = &run->claim->persistent_volume_claim->spec;
    struct kube_object *object = kube_object_new(&kube_kind_persistent_volume);
    if (!object)
        return NULL;
    struct arena *arena = object->arena;
    struct kube_persistent_volume_spec *spec = &object->persistent_volume->spec;
    const char *policy = run->class->storage_class->reclaim_policy;
    struct kube_persistent_volume_spec from = {
        .access_modes = claim->access_modes, .capacity = claim->resources.requests, .volume_mode = claim->volume_mode};
    if (kube_copy(&kube_persistent_volume_spec_type, arena, &from, spec) < 0)
        goto fail;
    object->metadata->name = arena_strdup(arena, name);
    spec->storage_class_name = arena_strdup(arena, claim_class(run->claim));
    spec->persistent_volume_reclaim_policy = arena_strdup(arena, policy ? policy : "Delete");
    spec->local = ARENA_NEW(arena, struct kube_local_volume_source);
    spec->node_affinity = affinity_to(arena, node);
    if (!object->metadata->name || !spec->storage_class_name || !spec->persistent_volume_reclaim_policy || !spec->local || !spec->node_affinity)
        goto fail;
    spec->local->path = arena_printf(arena, "%s/%s", run->context->control->volumes_folder, name);
    if (!spec->local->path || volume_reserve(object, run->claim) < 0 || set_finalizer(object) < 0 ||
        kube_map_set(&object->metadata->annotations, arena, PROVISIONED_BY_ANNOTATION, TIDEMILL_PROVISIONER) < 0)
        goto fail;
    kube_map_unset(&object->metadata->annotations, BOUND_BY_CONTROLLER_ANNOTATION);
    return object;
fail:
    kube_object_unref(object);
    return NULL;
}

static const char *why_not(const struct run *run) {
    const struct kube_persistent_volume_claim_spec *spec = &run->claim->persistent_volume_claim->spec;
    if (text_is(spec->volume_mode, "Block"))
        return "volumes of mode Block are not supported";
    if (spec->selector)
        return "claim.Spec.Selector is not supported";
    if (spec->data_source || spec->data_source_ref)
        return "data sources are not supported";
    return NULL;
}

static void make_volume(struct run *run) {
    struct context *context = run->context;
    const char *class = claim_class(run->claim), *reason = why_not(run);
    const struct kube_object *node = reason ? NULL : find_node(run);
    if (reason) {
        context_event(context, run->claim, "Warning", "ProvisioningFailed", "failed to provision volume with StorageClass \"%s\": %s", class, reason);
        return;
    }
    const char *name = arena_printf(context->arena, "pvc-%s", run->claim->metadata->uid);
    if (!name)
        context_fail(context);
    if (!node || !name || context_get(context, &kube_kind_persistent_volume, NULL, name))
        return; /* it is bound when it is seen, and tried again when there is a node */
    struct kube_object *volume = volume_new(run, name, node);
    if (volume)
        context_event(context, run->claim, "Normal", "Provisioning", "External provisioner is provisioning volume for claim \"%s/%s\"",
                      run->claim->metadata->namespace, run->claim->metadata->name);
    context_create(context, volume);
    context_event(context, run->claim, "Normal", "ProvisioningSucceeded", "Successfully provisioned volume %s", name);
}

static void provision(struct run *run) {
    struct context *context = run->context;
    const char *class = claim_class(run->claim);
    if (!run->class) {
        context_event(context, run->claim, "Warning", "ProvisioningFailed", "storageclass.storage.k8s.io \"%s\" not found", class);
        return;
    }
    const char *provisioner = run->class->storage_class->provisioner;
    if (text_is(provisioner, NO_PROVISIONER)) {
        context_event(context, run->claim, "Warning", "ProvisioningFailed", "no volume plugin matched name: %s", provisioner);
        return;
    }
    annotate(run, BETA_STORAGE_PROVISIONER_ANNOTATION, provisioner);
    annotate(run, STORAGE_PROVISIONER_ANNOTATION, provisioner);
    if (text_is(provisioner, TIDEMILL_PROVISIONER))
        make_volume(run);
    else
        context_event(context, run->claim, "Normal", "ExternalProvisioning",
                      "Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. If volume "
                      "creation is delayed, please verify that the provisioner is running and correctly registered.",
                      provisioner);
}

/* ---- claims that are not bound ---- */

static bool is_default(const struct kube_object *class) {
    return text_is(kube_map_find(&class->metadata->annotations, DEFAULT_CLASS_ANNOTATION), "true") ||
           text_is(kube_map_find(&class->metadata->annotations, BETA_DEFAULT_CLASS_ANNOTATION), "true");
}

/* A claim that names no class gets the default one (of several the newest), also when it comes later than the claim. */
static void assign_class(struct run *run) {
    const struct kube_object *best = NULL;
    struct objects classes = {.list = {.items = NULL}};
    context_list(run->context, &kube_kind_storage_class, NULL, &classes);
    for (size_t i = 0; i < classes.list.count; i++) {
        const struct kube_object *class = classes.list.items[i];
        if (is_default(class) && (!best || class->metadata->creation_timestamp.ns > best->metadata->creation_timestamp.ns))
            best = class;
    }
    objects_deinit(&classes);
    if (!best || !change(run))
        return;
    run->changed->persistent_volume_claim->spec.storage_class_name = arena_strdup(run->changed->arena, best->metadata->name);
}

static void find_volume(struct run *run) {
    struct context *context = run->context;
    const struct kube_object *claim = run->claim;
    const char *class = claim_class(claim);
    bool waits = class_waits(context, class) && !kube_map_find(&claim->metadata->annotations, SELECTED_NODE_ANNOTATION);
    const struct kube_object *volume = volume_match(run->volumes, claim, NULL, waits, NULL);
    if (volume) {
        bind(run, volume);
        return;
    }
    if (waits)
        context_event(context, claim, "Normal", "WaitForFirstConsumer", "waiting for first consumer to be created before binding");
    else if (*class)
        provision(run);
    else
        context_event(context, claim, "Normal", "FailedBinding", "no persistent volumes available for this claim and no storage class is set");
    set_phase(run, "Pending");
}

/* The user names the volume. */
static void take_volume(struct run *run) {
    const char *name = run->claim->persistent_volume_claim->spec.volume_name;
    const struct kube_object *volume = context_get(run->context, &kube_kind_persistent_volume, NULL, name);
    const char *mismatch = volume ? volume_mismatch(volume, run->claim) : "";
    if (volume && volume->persistent_volume->spec.claim_ref && !volume_is_for(volume, run->claim))
        context_event(run->context, run->claim, "Warning", "FailedBinding", "volume \"%s\" already bound to a different claim.", name);
    else if (volume && *mismatch && !volume->persistent_volume->spec.claim_ref)
        context_event(run->context, run->claim, "Warning", "VolumeMismatch", "Cannot bind to requested volume \"%s\": %s", name, mismatch);
    else if (volume && !is_deleting(volume)) {
        bind(run, volume);
        return;
    }
    set_phase(run, "Pending");
}

/* ---- claims that are bound ---- */

static void lose(struct run *run, const char *reason, const char *message) {
    if (text_is(run->claim->persistent_volume_claim->status.phase, "Lost"))
        return;
    context_event(run->context, run->claim, "Warning", reason, "%s", message);
    struct kube_persistent_volume_claim_status *status = change_status(run);
    if (!status)
        return;
    status->phase = "Lost";
    status->access_modes.count = 0;
    status->capacity.count = 0;
}

/* A folder grows by itself: what the claim asks for is noted. */
static void expand(struct run *run, const struct kube_object *volume) {
    if (!text_is(kube_map_find(&volume->metadata->annotations, PROVISIONED_BY_ANNOTATION), TIDEMILL_PROVISIONER))
        return;
    const struct kube_quantity_map *requests = &run->claim->persistent_volume_claim->spec.resources.requests;
    if (kube_quantity_milli(requests, "storage", 0) <= kube_quantity_milli(&volume->persistent_volume->spec.capacity, "storage", 0)) {
        copy_capacity(run, volume);
        return;
    }
    struct kube_object *copy = context_copy(run->context, volume);
    struct kube_persistent_volume_spec from = {.capacity = *requests}, copied;
    if (copy && kube_copy(&kube_persistent_volume_spec_type, copy->arena, &from, &copied) < 0)
        context_fail(run->context);
    else if (copy)
        copy->persistent_volume->spec.capacity = copied.capacity;
    context_update(run->context, copy);
    context_event(run->context, run->claim, "Normal", "VolumeResizeSuccessful", "ExpandVolume succeeded for volume %s", volume->metadata->name);
}

static void check_bound(struct run *run) {
    const char *name = run->claim->persistent_volume_claim->spec.volume_name;
    const struct kube_object *volume = name ? context_get(run->context, &kube_kind_persistent_volume, NULL, name) : NULL;
    const struct kube_object_reference *reference = volume ? volume->persistent_volume->spec.claim_ref : NULL;
    if (!name)
        lose(run, "ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!");
    else if (!volume)
        lose(run, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    else if (reference && !volume_is_for(volume, run->claim))
        lose(run, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly");
    else {
        bind(run, volume);
        expand(run, volume);
    }
}

/* ---- runs ---- */

static void look_at(struct context *context, const struct kube_object *claim, const struct objects *volumes) {
    struct run run = {.context = context, .claim = claim, .volumes = volumes};
    const char *class = claim_class(claim);
    run.class = *class ? context_get(context, &kube_kind_storage_class, NULL, class) : NULL;
    if (claim_is_bound(claim))
        check_bound(&run);
    else if (is_deleting(claim))
        return;
    else if (claim->persistent_volume_claim->spec.volume_name)
        take_volume(&run);
    else if (!*class && !claim->persistent_volume_claim->spec.storage_class_name)
        assign_class(&run);
    if (!claim_is_bound(claim) && !run.changed && !run.status && !claim->persistent_volume_claim->spec.volume_name)
        find_volume(&run);
    if (run.changed)
        context_update(context, TAKE(run.changed));
    if (run.status)
        context_update_status(context, TAKE(run.status));
}

void claim_reconcile(struct context *context) {
    struct objects volumes = {.list = {.items = NULL}}, claims = {.list = {.items = NULL}};
    const struct kube_object *claim = *context->name ? context_get(context, context->kind, context->namespace, context->name) : NULL;
    if (claim && VECTOR_PUSH(&claims.list, claim) < 0)
        context_fail(context);
    if (!*context->name)
        context_list(context, &kube_kind_persistent_volume_claim, NULL, &claims);
    if (claims.list.count)
        context_list(context, &kube_kind_persistent_volume, NULL, &volumes);
    for (size_t i = 0; i < claims.list.count; i++) {
        if (!*context->name && claim_is_bound(claims.list.items[i]))
            continue;
        context->group++; /* a claim that cannot be bound does not hold up the others */
        look_at(context, claims.list.items[i], &volumes);
    }
    objects_deinit(&claims);
    objects_deinit(&volumes);
}

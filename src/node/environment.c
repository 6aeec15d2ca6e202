/* A container's environment, in kubelet's order of precedence: the image's, the services of its namespace (and, always, the API), envFrom, env; later
 * ones win. $(NAME) in a value refers to what was defined before it, $$(NAME) is a literal, an unknown name stays as it is. */
#include <ctype.h>
#include <stdio.h>

#include "codec/codec.h"
#include "node/node_priv.h"

#define ENVIRONMENT_MAX 4096

struct builder {
    const struct unit *unit;
    struct arena *arena;
    const char **items; /* "A=b", NULL-terminated */
    size_t count;
    struct diag *diag;
};

static const char *find(const char *const *env, struct slice name) {
    for (size_t i = 0; env[i]; i++)
        if (strncmp(env[i], name.data, name.len) == 0 && env[i][name.len] == '=')
            return env[i] + name.len + 1;
    return NULL;
}

static int set(struct builder *b, const char *name, struct slice value) {
    if (memchr(value.data ? value.data : "", 0, value.len))
        return diag_set(b->diag, -EINVAL, "environment variable %.100s holds a NUL byte", name);
    const char *text = arena_printf(b->arena, "%s=%.*s", name, SLICE_ARG(value));
    if (!text)
        return -ENOMEM;
    size_t len = strlen(name);
    for (size_t i = 0; i < b->count; i++) {
        if (strncmp(b->items[i], name, len) == 0 && b->items[i][len] == '=') {
            b->items[i] = text;
            return 0;
        }
    }
    if (b->count == ENVIRONMENT_MAX)
        return diag_set(b->diag, -E2BIG, "more than %d environment variables", ENVIRONMENT_MAX);
    b->items[b->count++] = text;
    b->items[b->count] = NULL;
    return 0;
}

const char *environment_expand(struct arena *arena, const char *text, const char *const *env) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(4 * MIB);
    for (const char *at = text; *at; at++) {
        const char *end = at[0] == '$' && at[1] == '(' ? strchr(at, ')') : NULL;
        const char *value = end ? find(env, slice_make(at + 2, (size_t)(end - at - 2))) : NULL;
        if (at[0] == '$' && at[1] == '$') {
            buffer_append_byte(&out, '$');
            at++;
        } else if (value) {
            buffer_append_text(&out, value);
            at = end;
        } else
            buffer_append_byte(&out, *at);
    }
    return buffer_error(&out) ? NULL : arena_dup(arena, buffer_slice(&out));
}

/* --- valueFrom --- */

static bool is_subscript(const char *path, const char *lead, struct slice *ret) {
    size_t len = strlen(path), lead_len = strlen(lead);
    if (strncmp(path, lead, lead_len) != 0 || len < lead_len + 4 || strncmp(path + lead_len, "['", 2) != 0 || strcmp(path + len - 2, "']") != 0)
        return false;
    *ret = slice_make(path + lead_len + 2, len - lead_len - 4);
    return true;
}

/* As a file shows them: key="value", a line each. */
static const char *format_map(struct arena *arena, const struct kube_string_map *map) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    for (size_t i = 0; i < map->count; i++) {
        buffer_printf(&out, "%s%s=", i ? "\n" : "", map->items[i].key);
        json_format_string(&out, slice_of(map->items[i].value ? map->items[i].value : ""));
    }
    return buffer_error(&out) ? NULL : arena_dup(arena, buffer_slice(&out));
}

static void join(const char *const *list, size_t count, char *ret) {
    snprintf(ret, 2 * INET6_ADDRSTRLEN, "%s%s%s", list[0], count > 1 ? "," : "", count > 1 ? list[1] : "");
}

int environment_field(const struct pod *pod, struct arena *arena, const char *path, const char **ret) {
    const struct kube_pod *spec = (pod->object ? pod->object : pod->spec_object)->pod; /* labels and annotations as they are now */
    const struct kube_string_map *map = strcmp(path, "metadata.labels") == 0        ? &spec->metadata.labels
                                        : strcmp(path, "metadata.annotations") == 0 ? &spec->metadata.annotations
                                                                                    : NULL;
    if (map)
        return (*ret = format_map(arena, map)) ? 0 : -ENOMEM;
    char addresses[2][2 * INET6_ADDRSTRLEN];
    const char *list[2];
    join(list, pod_addresses(pod, list), addresses[0]);
    join(list, node_addresses(pod->node, list), addresses[1]);
    const struct {
        const char *path, *value;
    } fields[] = {
        {"metadata.name", pod->name},
        {"metadata.namespace", pod->namespace},
        {"metadata.uid", pod->uid},
        {"spec.nodeName", pod->node->options->node_name},
        {"status.podIP", *pod->net.address ? pod->net.address : pod->node->host_address},
        {"status.podIPs", addresses[0]},
        {"status.hostIP", pod->node->host_address},
        {"status.hostIPs", addresses[1]},
        {"spec.serviceAccountName", spec->spec.service_account_name},
    };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        if (strcmp(path, fields[i].path) == 0)
            return (*ret = arena_strdup(arena, fields[i].value ? fields[i].value : "")) ? 0 : -ENOMEM;
    struct slice name;
    map = is_subscript(path, "metadata.labels", &name)        ? &spec->metadata.labels
          : is_subscript(path, "metadata.annotations", &name) ? &spec->metadata.annotations
                                                              : NULL;
    const char *key = map ? arena_dup(arena, name) : NULL;
    if (!key)
        return map ? -ENOMEM : -EINVAL;
    const char *found = kube_map_find(map, key);
    *ret = found ? found : "";
    return 0;
}

int environment_resource(const struct unit *unit, struct arena *arena, const struct kube_resource_field_selector *selector, const char **ret) {
    struct unit *of = selector->container_name ? pod_unit(unit->pod, selector->container_name) : NULL;
    const struct kube_resource_requirements *resources = resize_allocated(of ? of : unit);
    struct slice rest = slice_of(selector->resource ? selector->resource : "");
    struct slice kind = slice_cut(&rest, '.');
    const struct kube_quantity_map *map = slice_is(kind, "limits") ? &resources->limits : slice_is(kind, "requests") ? &resources->requests : NULL;
    if (!map || !rest.len)
        return -EINVAL;
    int64_t milli = kube_quantity_milli(map, rest.data, -1),
            divisor = selector->divisor.text && selector->divisor.milli > 0 ? selector->divisor.milli : 1000;
    const struct kube_resource_requirements *level = kube_pod_level(&unit->pod->spec_object->pod->spec);
    if (milli < 0 && slice_is(kind, "limits") && level) /* its pod's */
        milli = kube_quantity_milli(&level->limits, rest.data, -1);
    if (milli < 0 && slice_is(kind, "limits")) /* none: the whole machine, as far as it is for pods */
        milli = slice_is(rest, "cpu")                 ? allocatable_cpu_milli()
                : slice_is(rest, "memory")            ? allocatable_memory(unit->pod->node) * 1000
                : slice_is(rest, "ephemeral-storage") ? allocatable_disk(unit->pod->node) * 1000
                                                      : 0;
    milli = MAX(milli, 0);
    *ret = arena_printf(arena, "%" PRId64, milli / divisor + (milli % divisor > 0));
    return *ret ? 0 : -ENOMEM;
}

static int key_of_config_map(struct builder *b, const struct kube_config_map_key_selector *selector, struct slice *ret) {
    bool optional = selector->optional && *selector->optional;
    const struct kube_object *object = references_find(b->unit->pod, &kube_kind_config_map, selector->name);
    if (!object)
        return optional ? -EAGAIN : diag_set(b->diag, -ENOENT, "configmap \"%s\" not found", selector->name);
    const char *value = kube_map_find(&object->config_map->data, selector->key);
    if (!value)
        return optional
                   ? -EAGAIN
                   : diag_set(b->diag, -ENOENT, "couldn't find key %s in ConfigMap %s/%s", selector->key, b->unit->pod->namespace, selector->name);
    *ret = slice_of(value);
    return 0;
}

static int key_of_secret(struct builder *b, const struct kube_secret_key_selector *selector, struct slice *ret) {
    bool optional = selector->optional && *selector->optional;
    const struct kube_object *object = references_find(b->unit->pod, &kube_kind_secret, selector->name);
    if (!object)
        return optional ? -EAGAIN : diag_set(b->diag, -ENOENT, "secret \"%s\" not found", selector->name);
    const struct kube_bytes_map *data = &object->secret->data;
    for (size_t i = 0; i < data->count; i++)
        if (strcmp(data->items[i].key, selector->key) == 0)
            return *ret = data->items[i].value, 0;
    return optional ? -EAGAIN
                    : diag_set(b->diag, -ENOENT, "couldn't find key %s in Secret %s/%s", selector->key, b->unit->pod->namespace, selector->name);
}

/* -EAGAIN: optional and not there; the variable is left out. */
static int value_from(struct builder *b, const struct kube_env_var_source *source, struct slice *ret) {
    const char *text = NULL;
    int r;
    if (source->config_map_key_ref)
        return key_of_config_map(b, source->config_map_key_ref, ret);
    if (source->secret_key_ref)
        return key_of_secret(b, source->secret_key_ref, ret);
    if (source->field_ref) {
        r = environment_field(b->unit->pod, b->arena, source->field_ref->field_path ? source->field_ref->field_path : "", &text);
        if (r < 0)
            return diag_set(b->diag, r, "unsupported fieldPath: %.200s", source->field_ref->field_path);
    } else if (source->resource_field_ref) {
        r = environment_resource(b->unit, b->arena, source->resource_field_ref, &text);
        if (r < 0)
            return diag_set(b->diag, r, "unsupported container resource: %.200s", source->resource_field_ref->resource);
    } else
        return diag_set(b->diag, -EINVAL, "unsupported valueFrom");
    *ret = slice_of(text);
    return 0;
}

/* --- the parts --- */

static int add_image(struct builder *b) {
    int r = set(b, "PATH", SLICE("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    const char *hostname = b->unit->pod->spec_object->pod->spec.hostname;
    if (r == 0)
        r = set(b, "HOSTNAME", slice_of(hostname ? hostname : b->unit->pod->name));
    for (size_t i = 0; r == 0 && b->unit->image && i < b->unit->image->env.count; i++) {
        struct slice rest = slice_of(b->unit->image->env.items[i]);
        const char *name = arena_dup(b->arena, slice_cut(&rest, '='));
        r = name ? set(b, name, rest) : -ENOMEM;
    }
    return r;
}

/* NAME_SUFFIX as upper case with underscores. */
static int set_service(struct builder *b, const char *name, const char *suffix, const char *value) {
    char text[300];
    snprintf(text, sizeof text, "%s_%s", name, suffix);
    for (char *at = text; *at; at++)
        *at = *at == '-' ? '_' : (char)toupper((unsigned char)*at);
    return set(b, text, slice_of(value));
}

/* As links between containers were told once, which some programs still read. */
static int add_link(struct builder *b, const struct kube_service *service, const struct kube_service_port *port, bool first) {
    const char *protocol = port->protocol ? port->protocol : "TCP";
    char scheme[8], url[100], number[16], suffix[100];
    snprintf(scheme, sizeof scheme, "%s", protocol);
    for (char *at = scheme; *at; at++)
        *at = (char)tolower((unsigned char)*at);
    snprintf(number, sizeof number, "%d", port->port);
    snprintf(url, sizeof url, "%s://%s:%d", scheme, service->spec.cluster_ip, port->port);
    const struct {
        const char *suffix, *value;
    } variables[] = {{"", url}, {"_PROTO", scheme}, {"_PORT", number}, {"_ADDR", service->spec.cluster_ip}};
    int r = first ? set_service(b, service->metadata.name, "PORT", url) : 0;
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(variables); i++) {
        snprintf(suffix, sizeof suffix, "PORT_%d_%s%s", port->port, protocol, variables[i].suffix);
        r = set_service(b, service->metadata.name, suffix, variables[i].value);
    }
    return r;
}

static int add_service(struct builder *b, const struct kube_service *service) {
    char number[16], suffix[100];
    int r = set_service(b, service->metadata.name, "SERVICE_HOST", service->spec.cluster_ip);
    for (size_t i = 0; r == 0 && i < service->spec.ports.count; i++) {
        const struct kube_service_port *port = &service->spec.ports.items[i];
        snprintf(number, sizeof number, "%d", port->port);
        if (i == 0)
            r = set_service(b, service->metadata.name, "SERVICE_PORT", number);
        snprintf(suffix, sizeof suffix, "SERVICE_PORT_%s", port->name ? port->name : "");
        if (r == 0 && port->name)
            r = set_service(b, service->metadata.name, suffix, number);
        if (r == 0)
            r = add_link(b, service, port, i == 0);
    }
    return r;
}

static int add_services(struct builder *b) {
    const bool *wanted = b->unit->pod->spec_object->pod->spec.enable_service_links;
    bool links = !wanted || *wanted;
    const struct informer *informer = b->unit->pod->node->services_informer;
    struct kube_object *object;
    int r = 0;
    if (!informer)
        return 0;
    for (size_t at = 0; r == 0 && (object = informer_next(informer, &at));) {
        const char *address = object->service->spec.cluster_ip;
        bool own = links && strcmp(object->metadata->namespace, b->unit->pod->namespace) == 0;
        bool api = strcmp(object->metadata->namespace, "default") == 0 && strcmp(object->metadata->name, "kubernetes") == 0;
        if (address && *address && strcmp(address, "None") != 0 && (own || api))
            r = add_service(b, object->service);
    }
    return r;
}

static int add_pair(struct builder *b, const char *prefix, const char *key, struct slice value) {
    const char *name = arena_printf(b->arena, "%s%s", prefix ? prefix : "", key);
    return name ? set(b, name, value) : -ENOMEM; /* all that may be a key may be a variable's name */
}

static int add_from(struct builder *b, const struct kube_env_from_source *source) {
    int r = 0;
    if (source->config_map_ref) {
        const struct kube_object *object = references_find(b->unit->pod, &kube_kind_config_map, source->config_map_ref->name);
        if (!object && !(source->config_map_ref->optional && *source->config_map_ref->optional))
            return diag_set(b->diag, -ENOENT, "configmap \"%s\" not found", source->config_map_ref->name);
        for (size_t i = 0; object && r == 0 && i < object->config_map->data.count; i++)
            r = add_pair(b, source->prefix, object->config_map->data.items[i].key, slice_of(object->config_map->data.items[i].value));
    }
    if (r == 0 && source->secret_ref) {
        const struct kube_object *object = references_find(b->unit->pod, &kube_kind_secret, source->secret_ref->name);
        if (!object && !(source->secret_ref->optional && *source->secret_ref->optional))
            return diag_set(b->diag, -ENOENT, "secret \"%s\" not found", source->secret_ref->name);
        for (size_t i = 0; object && r == 0 && i < object->secret->data.count; i++)
            r = add_pair(b, source->prefix, object->secret->data.items[i].key, object->secret->data.items[i].value);
    }
    return r;
}

static int add_variable(struct builder *b, const struct kube_env_var *variable) {
    struct slice value = {0};
    if (variable->value_from) {
        int r = value_from(b, variable->value_from, &value);
        return r == -EAGAIN ? 0 : r < 0 ? r : set(b, variable->name, value);
    }
    const char *text = environment_expand(b->arena, variable->value ? variable->value : "", (const char *const *)b->items);
    return text ? set(b, variable->name, slice_of(text)) : -ENOMEM;
}

int environment_build(const struct unit *unit, struct arena *arena, const char *const **ret, struct diag *diag) {
    struct builder b = {.unit = unit, .arena = arena, .diag = diag, .items = ARENA_ARRAY(arena, const char *, ENVIRONMENT_MAX + 1)};
    if (!b.items)
        return -ENOMEM;
    int r = add_image(&b);
    if (r == 0)
        r = add_services(&b);
    for (size_t i = 0; r == 0 && i < unit->spec->env_from.count; i++)
        r = add_from(&b, &unit->spec->env_from.items[i]);
    for (size_t i = 0; r == 0 && i < unit->spec->env.count; i++)
        r = add_variable(&b, &unit->spec->env.items[i]);
    if (r == 0)
        *ret = (const char *const *)b.items;
    return r;
}

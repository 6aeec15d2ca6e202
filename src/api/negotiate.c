/* What the client sends and what it wants, by its headers. Accept lists are read in the client's order and the first form that we have wins; whoever
 * accepts anything gets JSON. Protobuf is made of the JSON, see wire.c. */
#include "api/api_priv.h"

static bool parameter_is(struct slice part, const char *name, const char *value) {
    slice_cut(&part, ';');
    while (part.len) {
        struct slice parameter = slice_trim(slice_cut(&part, ';'));
        struct slice key = slice_cut(&parameter, '=');
        if (slice_is(slice_trim(key), name) && slice_is(slice_trim(parameter), value))
            return true;
    }
    return false;
}

static struct slice media_type(struct slice part) {
    return slice_trim(slice_cut(&part, ';'));
}

enum table_form api_accept_table(struct slice accept) {
    static const struct {
        const char *as, *version;
        enum table_form form;
    } forms[] = {
        {"Table", "v1", TABLE_V1},
        {"Table", "v1beta1", TABLE_V1BETA1},
        {"PartialObjectMetadata", "v1", PARTIAL_V1},
        {"PartialObjectMetadata", "v1beta1", PARTIAL_V1BETA1},
        {"PartialObjectMetadataList", "v1", PARTIAL_V1},
        {"PartialObjectMetadataList", "v1beta1", PARTIAL_V1BETA1},
    };
    while (accept.len) {
        struct slice part = slice_trim(slice_cut(&accept, ','));
        if (!slice_is(media_type(part), "application/json"))
            continue;
        if (slice_find(part, SLICE("as=")) < 0)
            return TABLE_NONE;
        for (size_t i = 0; i < ARRAY_LEN(forms) && parameter_is(part, "g", "meta.k8s.io"); i++)
            if (parameter_is(part, "as", forms[i].as) && parameter_is(part, "v", forms[i].version))
                return forms[i].form;
    }
    return TABLE_NONE;
}

bool api_accept_protobuf(struct slice accept) {
    while (accept.len) {
        struct slice type = media_type(slice_trim(slice_cut(&accept, ',')));
        if (slice_is(type, API_PROTOBUF))
            return true;
        if (slice_is(type, "application/json") || slice_is(type, "application/yaml") || slice_is(type, "*/*") || slice_is(type, "application/*"))
            return false;
    }
    return false;
}

enum discovery_form api_accept_discovery(struct slice accept) {
    while (accept.len) {
        struct slice part = slice_trim(slice_cut(&accept, ','));
        if (!slice_is(media_type(part), "application/json"))
            continue;
        if (!parameter_is(part, "as", "APIGroupDiscoveryList"))
            return DISCOVERY_PLAIN;
        if (parameter_is(part, "v", "v2"))
            return DISCOVERY_V2;
        if (parameter_is(part, "v", "v2beta1"))
            return DISCOVERY_V2BETA1;
    }
    return DISCOVERY_PLAIN;
}

enum body_form api_body_form_of(struct slice content_type) {
    static const struct {
        const char *type;
        enum body_form form;
    } types[] = {
        {"", BODY_JSON},
        {"application/json", BODY_JSON},
        {"application/yaml", BODY_YAML},
        {"application/vnd.kubernetes.protobuf", BODY_PROTOBUF},
        {"application/json-patch+json", BODY_JSON_PATCH},
        {"application/merge-patch+json", BODY_MERGE_PATCH},
        {"application/strategic-merge-patch+json", BODY_STRATEGIC_PATCH},
        {"application/apply-patch+yaml", BODY_APPLY},
    };
    struct slice type = media_type(content_type);
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (slice_equal_nocase(type, slice_of(types[i].type)))
            return types[i].form;
    return BODY_UNKNOWN;
}

static void note_duplicate(void *userdata, const char *path) {
    struct request *request = userdata;
    const char *text = arena_printf(request->arena, "duplicate field \"%s\"", path);
    if (text)
        VECTOR_PUSH(&request->faults, text);
}

static int parse_json(struct request *request, struct slice body, struct tree **ret, struct diag *diag) {
    struct json_duplicates duplicates = {.count = 0};
    const struct json_options options = {.allow_duplicates = true, .duplicates = &duplicates};
    int error = json_parse(request->arena, body, &options, ret, diag);
    return error ? error : json_duplicates_each(*ret, &duplicates, note_duplicate, request);
}

/* Upstream turns YAML into JSON first, and that step speaks of lines. */
static int parse_yaml(struct request *request, struct slice body, struct tree **ret, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer duplicates = BUFFER_INIT(4 * KIB);
    int error = yaml_parse_lenient(request->arena, body, &duplicates, ret, diag);
    const char *text = !error && duplicates.len ? arena_printf(request->arena, "yaml: unmarshal errors:%s", duplicates.data) : NULL;
    if (text)
        VECTOR_PUSH(&request->faults, text);
    return error;
}

int api_body_parse(struct request *request, struct slice body, struct tree **ret, struct api_failure *failure) {
    struct diag diag = DIAG_INIT;
    struct slice type = http_header(request->exchange, "Content-Type");
    int error;
    enum body_form form = api_body_form_of(type);
    bool custom = request->kind && request->kind->custom && strcmp(request->verb, "delete") && strcmp(request->verb, "deletecollection");
    switch (form == BODY_PROTOBUF && custom ? BODY_UNKNOWN : form) {
    case BODY_JSON:
        /* Some clients send YAML under this name; Kubernetes reads JSON only, and so do we. */
    case BODY_JSON_PATCH:
    case BODY_MERGE_PATCH:
    case BODY_STRATEGIC_PATCH: error = parse_json(request, body, ret, &diag); break;
    case BODY_YAML:
    case BODY_APPLY: error = parse_yaml(request, body, ret, &diag); break;
    case BODY_PROTOBUF: error = kube_protobuf_to_tree(request->arena, body, ret, &diag); break;
    default:
        return api_fail(failure, 415, "UnsupportedMediaType",
                        "the body of the request was in an unknown format - accepted media types include: application/json, "
                        "application/yaml%s",
                        custom ? "" : ", application/vnd.kubernetes.protobuf");
    }
    if (error == -ENOMEM)
        return api_fail_no_memory(failure);
    if (error) {
        char text[DIAG_TEXT_MAX * 2];
        return api_fail_bad_request(failure, "the object provided is unrecognized (must be of type %s): couldn't get version/kind: %s",
                                    request->kind ? request->kind->kind : "", diag_format(&diag, text, sizeof text));
    }
    return 0;
}

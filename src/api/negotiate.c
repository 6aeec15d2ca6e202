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

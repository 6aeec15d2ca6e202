/* Tables: what `kubectl get` prints. The cells come from the kind's columns; `object` of each row is the metadata (default), the whole object, or
 * nothing, as ?includeObject= says. Metadata is cut out of the stored bytes. */
#include "api/api_priv.h"

enum table_include api_table_include_of(const struct request *request) {
    const char *include = api_request_query(request, "includeObject");
    if (include && !strcmp(include, "None"))
        return INCLUDE_NONE;
    return include && !strcmp(include, "Object") ? INCLUDE_OBJECT : INCLUDE_METADATA;
}

static void put_column(struct buffer *out, const struct kube_column *column) {
    const char *texts[][2] = {{"name", column->name}, {"type", column->type}, {"format", column->format}, {"description", column->description}};
    buffer_append_text(out, "{");
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        buffer_printf(out, "\"%s\":", texts[i][0]);
        json_format_string(out, slice_of(texts[i][1] ? texts[i][1] : ""));
        buffer_append_text(out, ",");
    }
    buffer_printf(out, "\"priority\":%d}", column->priority);
}

void api_table_begin(const struct request *request, const struct kube_kind *kind, uint64_t revision, const char *continue_token, struct buffer *out) {
    buffer_printf(out, "{\"kind\":\"Table\",\"apiVersion\":\"%s\",\"metadata\":{\"resourceVersion\":\"%" PRIu64 "\"", api_meta_version(request),
                  revision);
    if (continue_token)
        buffer_printf(out, ",\"continue\":\"%s\"", continue_token);
    buffer_append_text(out, "},\"columnDefinitions\":[");
    kind = kind->custom ? kind : kube_kind_stored(kind); /* cells are made of stored objects; each version of a custom kind has its own */
    for (size_t i = 0; i < kind->columns_count; i++) {
        buffer_append_text(out, i ? "," : "");
        put_column(out, &kind->columns[i]);
    }
    buffer_append_text(out, "],\"rows\":[");
}

static void put_cells(const struct request *request, struct store_object *stored, struct buffer *out) {
    CLEANUP(kube_object_unrefp) struct kube_object *object = NULL;
    struct kube_object *decoded = api_decode(request->api, stored);
    const struct kube_kind *kind = request->kind->custom ? request->kind : kube_kind_stored(request->kind);
    if (decoded && kube_convert(decoded, kind, &object))
        object = NULL;
    struct arena *arena = arena_new(MIB); /* of its own: a list's rows together may be large */
    struct tree *cells = object && arena ? kube_table_row(object, arena, loop_wall_ns(request->api->loop)) : NULL;
    if (cells)
        json_format(out, cells);
    else
        buffer_append_text(out, "[]");
    arena_free(arena);
}

void api_table_row(const struct request *request, struct store_object *stored, bool first, struct buffer *out) {
    buffer_append_text(out, first ? "{\"cells\":" : ",{\"cells\":");
    put_cells(request, stored, out);
    enum table_include include = api_table_include_of(request);
    if (include == INCLUDE_OBJECT) {
        buffer_append_text(out, ",\"object\":");
        api_view_put(request, stored, out);
    } else if (include == INCLUDE_METADATA) {
        buffer_printf(out, ",\"object\":{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"%s\",\"metadata\":", api_meta_version(request));
        buffer_append_slice(out, api_stored_metadata(stored->value));
        buffer_append_text(out, "}");
    }
    buffer_append_text(out, "}");
}

void api_table_end(struct buffer *out) {
    buffer_append_text(out, "]}\n");
}

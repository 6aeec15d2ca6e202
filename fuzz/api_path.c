/* Request paths and queries: the router must refuse or understand every byte string, and what it returns must be usable text. */
#include "api/route.h"
#include "codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice input = slice_make(data, size);
    struct slice query_text = input, path = slice_cut(&query_text, '?');
    struct arena *arena = arena_new(MIB);
    struct api_route route;
    struct query query;
    if (!arena)
        return 0;
    if (api_route_parse(arena, path, &route) == 0) {
        const char *texts[] = {route.group, route.version, route.namespace, route.plural, route.name, route.subresource};
        for (size_t i = 0; i < ARRAY_LEN(texts); i++)
            ASSERT(texts[i] && strcmp(texts[i], ".") && strcmp(texts[i], ".."));
        ASSERT(route.type != ROUTE_RESOURCE || *route.plural);
    }
    if (query_parse(arena, query_text, &query) == 0)
        for (size_t i = 0; i < query.count; i++)
            ASSERT(query.items[i].key.data[query.items[i].key.len] == '\0');
    arena_free(arena);
    return 0;
}

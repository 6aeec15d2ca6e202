/* Answers of admission webhooks: whatever they send is a decision, or an error with words; a patch goes upon an object or is refused. */
#include "api/webhook_priv.h"

#define OBJECT "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\",\"labels\":{\"l\":\"x\"}},\"data\":{\"k\":\"v\"}}"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take(struct slice body, const struct webhook *webhook) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(4 * MIB);
    char error[WEBHOOK_ERROR_BYTES] = "";
    struct webhook_response response;
    struct api_failure failure;
    struct diag diag = DIAG_INIT;
    struct tree *object = NULL, *patched = NULL;
    int r = arena ? webhook_response_parse(arena, body, webhook, "u", &response, error) : -ENOMEM;
    ASSERT(r == 0 || r == -ENOMEM || (r == -EINVAL && *error));
    if (r)
        return;
    ASSERT(!response.patch || (webhook->mutating && response.allowed && response.patch->type == TREE_LIST));
    if (!response.allowed) {
        int code = webhook_fail_denied(&failure, "h", &response);
        ASSERT(code >= 400 && code < 1000 && failure.code == code && *failure.message);
    }
    if (response.patch && json_parse(arena, SLICE(OBJECT), NULL, &object, &diag) == 0)
        (void)tree_json_patch(arena, object, response.patch, &patched, &diag);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct webhook webhooks[] = {
        {.name = "h", .version = "v1"}, {.name = "h", .version = "v1", .mutating = true}, {.name = "h", .version = "v1beta1", .mutating = true}};
    for (size_t i = 0; i < ARRAY_LEN(webhooks); i++)
        take(slice_make((const char *)data, size), &webhooks[i]);
    return 0;
}

/* Secrets: what was written as text (stringData) becomes data. */
#include "api/admission_priv.h"

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

int admit_secret(struct admission *admission) {
    return merge_string_data(admission->object, admission->failure);
}

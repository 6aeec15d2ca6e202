/* Which images are in use. The stored objects' JSON is searched as text for `"image":"…"`, `"reference":"…"` and for digests, so that pods, workloads
 * of every kind, their revisions and whatever a later kind brings are covered without a list of fields; at worst something is kept that nobody needs.
 *
 * A reference is known under the name without its registry and under the name with it, since the platform's registry has several addresses and keeps
 * other registries' images under their whole names. */
#include "core/images_priv.h"

#include <stdio.h>

#include "kube/kube.h"

static const char *const image_keys[] = {"\"image\":\"", "\"reference\":\"" /* of a volume */};
#define DIGEST_LEAD "sha256:"
#define HEX_LEN 64

int images_used_init(struct images_used *used, struct arena *arena) {
    *used = (struct images_used){.arena = arena, .names = map_new(), .digests = map_new()};
    return used->names && used->digests ? 0 : -ENOMEM;
}

void images_used_deinit(struct images_used *used) {
    map_free(used->names);
    map_free(used->digests);
    VECTOR_DEINIT(&used->digests_list);
}

static void note(struct images_used *used, int error) {
    used->error = used->error ? used->error : error;
}

static void add_name(struct images_used *used, const char *name, const char *tag) {
    char key[2 * OCI_NAME_MAX + OCI_TAG_MAX + 4];
    snprintf(key, sizeof key, "%s:%s", name, tag);
    if (!map_find(used->names, slice_of(key)))
        note(used, map_put(used->names, slice_of(key), (void *)(uintptr_t)used->holder, NULL));
}

static void add_reference(struct images_used *used, struct slice text) {
    struct oci_reference reference;
    char whole[2 * OCI_NAME_MAX + 2];
    if (oci_reference_parse(text, &reference, NULL) < 0 || !reference.tag[0])
        return;
    const char *name = reference.name;
    if (strncmp(name, "library/", 8) == 0)
        name += 8;
    snprintf(whole, sizeof whole, "%s/%s", reference.registry, name);
    add_name(used, name, reference.tag);
    add_name(used, whole, reference.tag);
}

static void add_digest(struct images_used *used, struct slice text) {
    struct oci_digest digest;
    if (oci_digest_parse(text, &digest) < 0 || map_find(used->digests, slice_make(digest.hex, HEX_LEN)))
        return;
    note(used, map_put(used->digests, slice_make(digest.hex, HEX_LEN), (void *)(uintptr_t)used->holder, NULL));
    note(used, VECTOR_PUSH(&used->digests_list, digest));
}

void images_used_scan(struct images_used *used, struct slice json, const char *holder) {
    ptrdiff_t at;
    used->holder = holder;
    for (size_t i = 0; i < ARRAY_LEN(image_keys); i++)
        for (struct slice rest = json; (at = slice_find(rest, slice_of(image_keys[i]))) >= 0;) {
            rest = slice_from(rest, (size_t)at + strlen(image_keys[i]));
            add_reference(used, slice_head(rest, (size_t)MAX(slice_index(rest, '"'), 0)));
        }
    for (struct slice rest = json; (at = slice_find(rest, SLICE(DIGEST_LEAD))) >= 0;) {
        rest = slice_from(rest, (size_t)at);
        add_digest(used, slice_head(rest, sizeof DIGEST_LEAD - 1 + HEX_LEN));
        rest = slice_from(rest, sizeof DIGEST_LEAD - 1);
    }
}

struct collection {
    struct images_used *used;
    const struct kube_kind *kind;
};

static bool scan_one(void *userdata, struct store_object *object) {
    struct collection *collection = userdata;
    struct images_used *used = collection->used;
    bool refers = slice_find(object->value, SLICE(DIGEST_LEAD)) >= 0;
    for (size_t i = 0; !refers && i < ARRAY_LEN(image_keys); i++)
        refers = slice_find(object->value, slice_of(image_keys[i])) >= 0;
    const char *holder =
        refers ? arena_printf(used->arena, "%s %.*s/%.*s", collection->kind->kind, SLICE_ARG(object->namespace), SLICE_ARG(object->name)) : "";
    if (!holder)
        note(used, -ENOMEM);
    else if (refers)
        images_used_scan(used, object->value, holder);
    return !used->error;
}

int images_used_collect(struct images_used *used, struct store *store) {
    const struct slice none = {NULL, 0};
    for (size_t i = 0; i < kube_kinds_count(); i++) {
        const struct kube_kind *kind = kube_kind_at(i);
        if (!kube_kind_is_stored(kind) || kind == &kube_kind_event || kind == &kube_kind_config_map || kind == &kube_kind_secret ||
            kind == &kube_kind_node)
            continue;
        struct collection collection = {.used = used, .kind = kind};
        store_list(store, slice_of(kube_kind_key(kind)), none, none, none, scan_one, &collection);
    }
    return used->error;
}

const char *images_used_by(const struct images_used *used, const char *name, const char *tag, const struct oci_digest *digest) {
    char key[2 * OCI_NAME_MAX + OCI_TAG_MAX + 4];
    snprintf(key, sizeof key, "%s:%s", name, tag);
    const char *holder = map_find(used->names, slice_of(key));
    return holder ? holder : map_find(used->digests, slice_make(digest->hex, HEX_LEN));
}

/* --- which are too many --- */

static int compare(const void *a, const void *b) {
    const struct image_tag *left = a, *right = b;
    int order = strcmp(left->repository, right->repository);
    if (order == 0)
        order = (left->time_ns < right->time_ns) - (left->time_ns > right->time_ns);
    return order ? order : strcmp(left->tag, right->tag);
}

void images_sort(struct image_tag *tags, size_t count) {
    if (count)
        qsort(tags, count, sizeof *tags, compare);
}

size_t images_rank(const struct image_tag *tags, size_t index) {
    size_t rank = 0;
    if (strcmp(tags[index].tag, "latest") == 0)
        return 0;
    for (size_t i = index; i-- > 0 && strcmp(tags[i].repository, tags[index].repository) == 0;)
        rank += strcmp(tags[i].tag, "latest") != 0;
    return rank;
}

/* --- which are worth their space the least --- */

#define UNPACKED_FACTOR 3 /* an image takes its compressed size, and about twice that unpacked */

struct choice {
    size_t index;
    const struct image_tag *tag;
};

static int compare_use(const void *a, const void *b) {
    const struct image_tag *left = ((const struct choice *)a)->tag, *right = ((const struct choice *)b)->tag;
    int order = (left->used_ns > right->used_ns) - (left->used_ns < right->used_ns);
    order = order ? order : (left->time_ns > right->time_ns) - (left->time_ns < right->time_ns);
    order = order ? order : strcmp(left->repository, right->repository);
    return order ? order : strcmp(left->tag, right->tag);
}

size_t images_choose(const struct image_tag *tags, size_t count, uint64_t bytes, int64_t pulled_before_ns, size_t *ret) {
    struct choice *choices = count ? calloc(count, sizeof *choices) : NULL;
    size_t choices_count = 0, chosen = 0;
    uint64_t freed = 0;
    for (size_t i = 0; choices && i < count; i++)
        if (tags[i].is_pulled && !tags[i].is_needed && tags[i].time_ns <= pulled_before_ns)
            choices[choices_count++] = (struct choice){.index = i, .tag = &tags[i]};
    if (choices_count)
        qsort(choices, choices_count, sizeof *choices, compare_use);
    while (chosen < choices_count && freed < bytes) {
        freed += choices[chosen].tag->bytes * UNPACKED_FACTOR;
        ret[chosen] = choices[chosen].index;
        chosen++;
    }
    free(choices);
    return chosen;
}

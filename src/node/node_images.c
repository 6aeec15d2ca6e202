/* The images that the Node object lists, the largest IMAGES_TOLD_MAX of them, as a kubelet lists its own: all that the platform's store has, by tag
 * and by digest, with the size they have there.
 *
 * They are read anew on a worker thread when the node registers after something may have changed: a pull, a cleaning up. What is pushed or built
 * meanwhile shows at the next such time; nobody looks for it. */
#include "node/node_priv.h"

#define IMAGES_TOLD_MAX 50
#define IMAGES_READ_MAX 5000
#define IMAGES_JSON_BYTES_MAX (256 * KIB)
#define IMAGES_ARENA_BYTES_MAX (8 * MIB)
#define CHANGED_MS 10000 /* several pulls are told in one write */

struct told {
    const char *by_digest, *by_tag;
    int64_t size_bytes;
};

struct images_reading {
    struct node *node; /* NULL: it ends */
    struct arena *arena;
    char store[PATH_MAX];
    size_t read;
    VECTOR(struct told) images;
    struct buffer json;
    int error;
};

static int add(void *userdata, const char *repository, const char *tag) {
    struct images_reading *reading = userdata;
    CLEANUP(image_unrefp) struct image *image = NULL;
    const struct image_reference reference = {.repository = repository, .tag = tag};
    if (reading->read++ == IMAGES_READ_MAX)
        return 1;
    int r = image_resolve(reading->store, &reference, &image, NULL);
    if (r < 0)
        return r == -ENOMEM ? r : 0; /* being pushed, or damaged */
    struct told told = {.by_digest = image->repo_digest ? arena_strdup(reading->arena, image->repo_digest)
                                                        : arena_printf(reading->arena, "%s@%s", repository, image->digest),
                        .by_tag = arena_printf(reading->arena, "%s:%s", repository, tag),
                        .size_bytes = image->size_bytes};
    return told.by_digest && told.by_tag ? VECTOR_PUSH(&reading->images, told) : -ENOMEM;
}

static int by_size(const void *a, const void *b) {
    const struct told *left = a, *right = b;
    int order = (left->size_bytes < right->size_bytes) - (left->size_bytes > right->size_bytes);
    return order ? order : strcmp(left->by_tag, right->by_tag);
}

static void read_work(void *userdata) {
    struct images_reading *reading = userdata;
    int r = sweep_each_tag(reading->store, add, reading);
    if (reading->images.count)
        qsort(reading->images.items, reading->images.count, sizeof(struct told), by_size);
    buffer_append_byte(&reading->json, '[');
    for (size_t i = 0; i < MIN(reading->images.count, (size_t)IMAGES_TOLD_MAX); i++) {
        const struct told *told = &reading->images.items[i];
        buffer_append_text(&reading->json, i ? ",{\"names\":[" : "{\"names\":[");
        json_format_string(&reading->json, slice_of(told->by_digest));
        buffer_append_byte(&reading->json, ',');
        json_format_string(&reading->json, slice_of(told->by_tag));
        buffer_printf(&reading->json, "],\"sizeBytes\":%" PRId64 "}", told->size_bytes);
    }
    buffer_append_byte(&reading->json, ']');
    reading->error = r < 0 ? r : buffer_error(&reading->json);
}

static void read_done(void *userdata) {
    struct images_reading *reading = userdata;
    struct node *node = reading->node;
    if (reading->error == 0 && node) {
        buffer_reset(&node->images_json);
        buffer_append_slice(&node->images_json, buffer_slice(&reading->json));
    }
    buffer_deinit(&reading->json);
    VECTOR_DEINIT(&reading->images);
    arena_free(reading->arena);
    free(reading);
    if (!node)
        return;
    node->images_reading = NULL;
    register_images_read(node);
}

int images_read(struct node *node) {
    struct images_reading *reading = calloc(1, sizeof *reading);
    if (!reading)
        return -ENOMEM;
    reading->node = node;
    reading->arena = arena_new(IMAGES_ARENA_BYTES_MAX);
    reading->json = BUFFER_INIT(IMAGES_JSON_BYTES_MAX);
    snprintf(reading->store, sizeof reading->store, "%s", node->store_dir);
    int r = reading->arena ? loop_work(node->loop, LOOP_QUICK, read_work, read_done, reading) : -ENOMEM;
    node->images_stale = r < 0;
    node->images_reading = r < 0 ? NULL : reading;
    if (r < 0) {
        arena_free(reading->arena);
        free(reading);
    }
    return r;
}

void images_stop(struct node *node) {
    if (node->images_reading)
        node->images_reading->node = NULL;
    buffer_deinit(&node->images_json);
}

void images_changed(struct node *node) {
    node->images_stale = true;
    if (!loop_timer_is_set(&node->register_retry))
        loop_timer_set(&node->register_retry, CHANGED_MS);
}

/* An image is unpacked while its blobs arrive: what the registry has written of each so far is read as it grows, decompressed and applied to a folder
 * aside (unpack.c), so that an image is ready soon after its last byte came.
 *
 *   manifest (a blob) ─► wait for the configuration ─► layers from the lowest on, a few at a time: wait for the blob's first bytes ─► follow it ─►
 * publish
 *
 * 1. Nothing counts before its digests were compared, though it is read before: a layer gets its name when both digests of its whole stream are
 * right. Until then it is a folder aside, which goes when it is wrong, or when the blob does not come to its end.
 * 2. A blob that was followed is whole when the registry has renamed that very file to its digest; one that was thrown away, or that came by
 * another way, begins anew.
 * 3. It has threads of its own: waiting for a slow network must not keep a thread of the loop from those who need it.
 * 4. It never fails anybody: who needs the image makes ready what is missing. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/unpack_priv.h"
#include "sys/sys.h"

#define LAYERS_AT_ONCE 2
#define PAUSE_FIRST_MS 5
#define PAUSE_MAX_MS 100 /* when little comes; so much may be lost at the end */
#define MUCH_BYTES (256 * KIB)
#define CONFIG_PAUSE_MS 20

struct image_arrival {
    struct list node;
    struct loop_io *io;
    int wake_fd;
    pthread_t thread;
    atomic_bool stopping;
    void (*on_done)(void *userdata);
    void *userdata;
    char manifest[80], place[32];
    char store[PATH_MAX], layers[PATH_MAX];
};

static void pause_ms(int64_t ms) {
    const struct timespec time = {.tv_nsec = ms * 1000000};
    nanosleep(&time, NULL);
}

/* --- one blob --- */

static bool is_file(const char *path, const struct stat *file) {
    struct stat status;
    return stat(path, &status) == 0 && status.st_ino == file->st_ino && status.st_dev == file->st_dev;
}

int follow_open(struct follow *follow, const char *store, const char *digest, const struct arriving *arriving) {
    *follow = (struct follow){.stopping = arriving ? arriving->stopping : NULL, .pause_ms = PAUSE_FIRST_MS};
    int blob = snprintf(follow->blob, PATH_MAX, "%s/blobs/sha256/%s", store, digest + 7);
    int partial = snprintf(follow->partial, PATH_MAX, "%s/partial/%s-%s", store, digest + 7, arriving ? arriving->place : "");
    if (blob >= PATH_MAX || partial >= PATH_MAX)
        return -ENAMETOOLONG;
    for (;;) {
        int fd = open(follow->blob, O_RDONLY | O_CLOEXEC);
        follow->is_whole = fd >= 0;
        if (fd < 0 && errno == ENOENT && arriving)
            fd = open(follow->partial, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 || errno != ENOENT || !arriving)
            return fd < 0 ? -errno : fd;
        if (atomic_load(arriving->stopping))
            return -ECANCELED;
        pause_ms(PAUSE_MAX_MS);
    }
}

int follow_more(void *userdata, int fd) {
    struct follow *follow = userdata;
    struct stat status;
    if (follow->is_whole)
        return 0;
    if (atomic_load(follow->stopping))
        return -ECANCELED;
    if (fstat(fd, &status) < 0)
        return -errno;
    bool grows = is_file(follow->partial, &status);  /* looked for in this order: it goes from here to there */
    if (!grows || access(follow->blob, F_OK) == 0) { /* it may have come by another way, while nobody goes on with this */
        follow->is_whole = is_file(follow->blob, &status);
        return follow->is_whole ? 1 : -EAGAIN;
    }
    follow->pause_ms = status.st_size - follow->seen_bytes >= (int64_t)MUCH_BYTES ? PAUSE_FIRST_MS : MIN(2 * follow->pause_ms, (int64_t)PAUSE_MAX_MS);
    follow->seen_bytes = status.st_size;
    pause_ms(follow->pause_ms);
    return 1;
}

/* --- the image --- */

static void work(struct image_arrival *arrival) {
    CLEANUP(image_unrefp) struct image *image = NULL;
    const struct arriving arriving = {.place = arrival->place, .stopping = &arrival->stopping, .layers_at_once = LAYERS_AT_ONCE};
    int r;
    while ((r = image_read(arrival->store, arrival->manifest, &image, NULL)) == -ENOENT && !atomic_load(&arrival->stopping))
        pause_ms(CONFIG_PAUSE_MS);
    if (r == 0)
        (void)unpack_layers(image, arrival->store, arrival->layers, &arriving, NULL);
}

static void *thread_main(void *userdata) {
    struct image_arrival *arrival = userdata;
    uint64_t one = 1;
    work(arrival);
    (void)!write(arrival->wake_fd, &one, sizeof one);
    return NULL;
}

/* --- on the loop --- */

static void arrival_free(struct image_arrival *arrival) {
    list_remove(&arrival->node);
    loop_io_free(arrival->io);
    fd_closep(&arrival->wake_fd);
    free(arrival);
}

static void on_wake(void *userdata, __attribute__((unused)) uint32_t events) {
    struct image_arrival *arrival = userdata;
    void (*on_done)(void *userdata) = arrival->on_done;
    void *receiver = arrival->userdata;
    pthread_join(arrival->thread, NULL);
    arrival_free(arrival);
    if (on_done)
        on_done(receiver);
}

static bool is_place(const char *text) {
    size_t len = strlen(text);
    return len > 0 && len < sizeof((struct image_arrival *)NULL)->place && strspn(text, "0123456789abcdef") == len;
}

int image_arrival_start(struct loop *loop, struct list *arrivals, const struct image_arrival_options *options, struct image_arrival **ret) {
    int count = 0;
    LIST_FOREACH(at, arrivals)
    count++;
    if (!image_digest_is_valid(slice_of(options->manifest)) || !is_place(options->place))
        return -EINVAL;
    if (count >= IMAGE_ARRIVALS_MAX)
        return -EBUSY;
    struct image_arrival *arrival = calloc(1, sizeof *arrival);
    if (!arrival)
        return -ENOMEM;
    list_init(&arrival->node);
    arrival->on_done = options->on_done;
    arrival->userdata = options->userdata;
    snprintf(arrival->manifest, sizeof arrival->manifest, "%s", options->manifest);
    snprintf(arrival->place, sizeof arrival->place, "%s", options->place);
    snprintf(arrival->store, sizeof arrival->store, "%s", options->store);
    snprintf(arrival->layers, sizeof arrival->layers, "%s", options->layers);
    arrival->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = arrival->wake_fd < 0 ? -errno : loop_io_new(loop, arrival->wake_fd, EPOLLIN, on_wake, arrival, &arrival->io);
    r = r ? r : sys_thread_start(&arrival->thread, thread_main, arrival);
    if (r < 0) {
        arrival_free(arrival);
        return r;
    }
    list_push(arrivals, &arrival->node);
    *ret = arrival;
    return 0;
}

void image_arrival_cancel(struct image_arrival *arrival) {
    if (!arrival)
        return;
    arrival->on_done = NULL;
    atomic_store(&arrival->stopping, true);
}

void image_arrivals_end(struct list *arrivals) {
    LIST_FOREACH(at, arrivals)
    image_arrival_cancel(CONTAINER_OF(at, struct image_arrival, node));
    while (!list_empty(arrivals)) {
        struct image_arrival *arrival = CONTAINER_OF(arrivals->next, struct image_arrival, node);
        pthread_join(arrival->thread, NULL);
        arrival_free(arrival);
    }
}

/* What was acknowledged survives SIGKILL at any instant: a child writes for ever and tells each acknowledged write through a pipe; it is killed after
 * a random time; then the store is opened again and must hold every write that came through the pipe, and nothing that was never asked for. */
#include "store/store.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "sys/sys.h"
#include "unit.h"

#define ROUNDS 200
#define KEYS 16

/* Through the pipe: key `key` was set to `number` (increasing over the whole test), or deleted, durably; or its deletion is about to be asked for. */
enum happening { SET, DELETED, DELETING };
struct note {
    uint32_t key;
    enum happening happening;
    uint64_t number, revision;
};

/* What the parent knows of a key. */
struct knowledge {
    struct note acknowledged;
    uint64_t deleting; /* number of the last deletion asked for */
};

struct writer {
    struct store *store;
    int pipe;
    uint64_t number;
    struct note notes[KEYS];
    bool busy[KEYS];
};

struct slot {
    struct writer *writer;
    uint32_t key;
};

static void on_written(void *userdata, int error, struct store_object *object) {
    struct slot *slot = userdata;
    if (error != 0)
        _exit(3);
    slot->writer->busy[slot->key] = false;
    slot->writer->notes[slot->key].revision = object->revision;
    if (sys_write_all(slot->writer->pipe, slice_make(&slot->writer->notes[slot->key], sizeof(struct note))) < 0)
        _exit(4);
}

static void write_key(struct writer *writer, struct slot *slot, unsigned random) {
    char name[16], value[2048];
    snprintf(name, sizeof name, "k%u", slot->key);
    writer->number++;
    int len = snprintf(value, sizeof value, "%" PRIu64 " ", writer->number);
    size_t padding = random % (sizeof value - 32);
    memset(value + len, 'p', padding);
    struct store_object *current = store_get_newest(writer->store, SLICE("things"), SLICE("x"), slice_of(name));
    bool deleted = current && random % 5 == 0;
    struct store_write write = {.verb = deleted   ? STORE_DELETE
                                        : current ? STORE_UPDATE
                                                  : STORE_CREATE,
                                .kind = SLICE("things"),
                                .namespace = SLICE("x"),
                                .name = slice_of(name),
                                .value = slice_make(value, (size_t)len + padding)};
    store_object_unref(current);
    struct note note = {.key = slot->key, .happening = DELETING, .number = writer->number};
    if (deleted && sys_write_all(writer->pipe, slice_make(&note, sizeof note)) < 0)
        _exit(4);
    writer->notes[slot->key] = (struct note){.key = slot->key, .happening = deleted ? DELETED : SET, .number = writer->number};
    writer->busy[slot->key] = true;
    if (store_write(writer->store, &write, on_written, slot, NULL) != 0)
        _exit(5);
}

static _Noreturn void child(const char *path, int pipe, uint64_t number, unsigned seed) {
    struct loop *loop;
    struct diag diag = DIAG_INIT;
    static struct writer writer;
    static struct slot slots[KEYS];
    writer = (struct writer){.pipe = pipe, .number = number};
    if (loop_new(&loop) < 0 || store_open(loop, &(struct store_options){.path = path, .changes_kept = 40}, &writer.store, &diag) < 0)
        _exit(2);
    for (;;) {
        for (uint32_t key = 0; key < KEYS; key++) {
            slots[key] = (struct slot){&writer, key};
            seed = seed * 1103515245 + 12345;
            if (!writer.busy[key] && (seed >> 16) % 3 == 0)
                write_key(&writer, &slots[key], seed >> 16);
        }
        if (loop_turn(loop, 1) < 0)
            _exit(6);
    }
}

/* Reads notes until `wanted` have come or the pipe ends. */
static void collect(int fd, struct knowledge *known, uint64_t *number_max, int wanted) {
    struct note note;
    for (int i = 0; i < wanted; i++) {
        ssize_t len = read(fd, &note, sizeof note); /* at most PIPE_BUF: whole notes */
        if (len == 0)
            return;
        assert_int_equal(len, sizeof note);
        assert_true(note.key < KEYS);
        if (note.happening == DELETING)
            known[note.key].deleting = note.number;
        else
            known[note.key].acknowledged = note;
        *number_max = MAX(*number_max, note.number);
    }
}

struct expectation {
    const struct knowledge *known;
    bool seen[KEYS];
    uint64_t number_max;
};

static bool check_object(void *userdata, struct store_object *object) {
    struct expectation *expected = userdata;
    uint64_t key, number;
    struct slice rest = object->value;
    assert_int_equal(slice_parse_u64(slice_from(object->name, 1), KEYS - 1, &key), 0);
    assert_int_equal(slice_parse_u64(slice_cut(&rest, ' '), UINT64_MAX, &number), 0);
    const struct note *note = &expected->known[key].acknowledged;
    /* The last acknowledged one, or a later one that was not acknowledged any more. */
    assert_true(number >= note->number);
    assert_true(number > note->number || note->happening == SET);
    if (number == note->number)
        assert_int_equal(object->revision, note->revision);
    expected->seen[key] = true;
    expected->number_max = MAX(expected->number_max, number);
    return true;
}

static void check(struct loop *loop, const char *path, const struct knowledge *known, uint64_t *number_max) {
    struct diag diag = DIAG_INIT;
    struct store *store;
    int r = store_open(loop, &(struct store_options){.path = path, .changes_kept = 40}, &store, &diag);
    if (r < 0)
        print_error("%s\n", diag.message);
    assert_int_equal(r, 0);
    struct expectation expected = {.known = known};
    store_list(store, SLICE("things"), slice_make(NULL, 0), slice_make(NULL, 0), slice_make(NULL, 0), check_object, &expected);
    for (uint32_t key = 0; key < KEYS; key++) {
        /* Absent though acknowledged as present: only a deletion that was asked for later may have done that. */
        if (!expected.seen[key] && known[key].acknowledged.happening == SET)
            assert_true(known[key].deleting >= known[key].acknowledged.number);
    }
    *number_max = MAX(*number_max, expected.number_max) + KEYS;
    store_close(store);
}

UNIT_TEST(acknowledged_writes_survive_sigkill) {
    char folder[] = "/tmp/crash_test.XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/objects.db", folder);
    struct knowledge known[KEYS] = {{.deleting = 0}};
    uint64_t number = 0, total = 0;
    unsigned seed;
    sys_random(&seed, sizeof seed);
    print_message("seed %u\n", seed);
    struct loop *loop;
    assert_int_equal(loop_new(&loop), 0);
    for (int round = 0; round < ROUNDS; round++) {
        int fds[2];
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid_t pid = fork();
        if (pid == 0)
            child(path, fds[1], number, seed + (unsigned)round);
        close(fds[1]);
        seed = seed * 1103515245 + 12345;
        collect(fds[0], known, &number, 1 + (int)((seed >> 16) % 60));
        kill(pid, SIGKILL);
        collect(fds[0], known, &number, INT32_MAX);
        close(fds[0]);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        total = number;
        check(loop, path, known, &number);
    }
    assert_true(total > ROUNDS);
    loop_free(loop);
    assert_int_equal(sys_remove_tree(AT_FDCWD, folder), 0);
}

UNIT_MAIN(UNIT(acknowledged_writes_survive_sigkill))

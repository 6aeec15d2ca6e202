/* Reading a commit: one `git cat-file --batch` answers for the commit itself, its pipeline file, its Dockerfile and its deploy/ folder.
 *
 * While a push is being checked its objects lie in git's quarantine folder; git is told to look there as well. Its name came from the hook and is
 * checked to be one name, so that it stays beneath the repository. */
#include "forge/forge_priv.h"

#include <ctype.h>
#include <stdio.h>

#define READ_TIMEOUT_MS 60000
#define READ_BYTES_MAX (4 * MIB)
#define DOCKERFILE_BYTES_MAX (256 * KIB)

struct reading {
    struct operation base;
    struct arena *arena;
    struct commit commit;
    commit_fn *on_done;
    void *userdata;
};

bool sha_is_valid(struct slice sha) {
    for (size_t i = 0; i < sha.len; i++)
        if (!isdigit((unsigned char)sha.data[i]) && !(sha.data[i] >= 'a' && sha.data[i] <= 'f'))
            return false;
    return sha.len == 40 || sha.len == 64;
}

bool sha_is_zero(struct slice sha) {
    for (size_t i = 0; i < sha.len; i++)
        if (sha.data[i] != '0')
            return false;
    return true;
}

static void destroy(struct operation *base) {
    struct reading *reading = CONTAINER_OF(base, struct reading, base);
    arena_free(reading->arena);
    free(reading);
}

/* "<id> <type> <size>\n<bytes>\n" or "<name> missing\n". */
static int next_object(struct slice *rest, struct slice *ret_id, struct slice *ret_type, struct slice *ret_bytes) {
    struct slice line = slice_cut(rest, '\n');
    *ret_id = *ret_type = *ret_bytes = (struct slice){0};
    if (slice_ends(line, SLICE(" missing")))
        return 0;
    *ret_id = slice_cut(&line, ' ');
    *ret_type = slice_cut(&line, ' ');
    uint64_t size = 0;
    if (slice_parse_u64(line, rest->len, &size))
        return -EBADMSG;
    *ret_bytes = slice_head(*rest, (size_t)size);
    *rest = slice_from(*rest, (size_t)size + 1);
    return 0;
}

/* "author Name <mail> 1700000000 +0100" */
static void read_author(struct reading *reading, struct slice line) {
    ptrdiff_t mail = slice_find(line, SLICE(" <"));
    struct slice name = mail < 0 ? line : slice_head(line, (size_t)mail);
    reading->commit.author = arena_dup(reading->arena, slice_head(name, COMMIT_TITLE_MAX));
    ptrdiff_t end = slice_find(line, SLICE("> "));
    uint64_t seconds = 0;
    struct slice when = end < 0 ? (struct slice){0} : slice_from(line, (size_t)end + 2);
    char text[TIMESTAMP_BYTES];
    slice_parse_u64(slice_cut(&when, ' '), INT64_MAX / 1000000000, &seconds);
    timestamp_format((int64_t)seconds * 1000000000, text);
    reading->commit.timestamp = arena_strdup(reading->arena, text);
}

static void read_commit_object(struct reading *reading, struct slice bytes) {
    struct slice rest = bytes;
    while (rest.len > 0) {
        struct slice line = slice_cut(&rest, '\n');
        if (line.len == 0)
            break;
        if (slice_starts(line, SLICE("author ")))
            read_author(reading, slice_from(line, 7));
    }
    struct slice message = slice_trim(rest);
    reading->commit.message = arena_dup(reading->arena, message);
    struct slice title = slice_trim(slice_cut(&message, '\n'));
    reading->commit.title = arena_dup(reading->arena, slice_head(title, COMMIT_TITLE_MAX));
}

static int read_answer(struct reading *reading, struct slice out, struct diag *diag) {
    struct commit *commit = &reading->commit;
    struct slice id, type, bytes;
    int error = next_object(&out, &id, &type, &bytes);
    if (error || !slice_is(type, "commit"))
        return diag_set(diag, error ? error : -ENOENT, "%s is no commit", commit->sha);
    snprintf(commit->sha, sizeof commit->sha, "%.*s", SLICE_ARG(id)); /* a tag's commit, not the tag */
    read_commit_object(reading, bytes);
    if ((error = next_object(&out, &id, &type, &bytes)) == 0 && slice_is(type, "blob"))
        commit->pipeline_file = slice_make(bytes.data ? bytes.data : "", bytes.len);
    if (!error && (error = next_object(&out, &id, &type, &bytes)) == 0 && slice_is(type, "blob"))
        commit->dockerfile = slice_head(bytes, DOCKERFILE_BYTES_MAX);
    if (!error && (error = next_object(&out, &id, &type, &bytes)) == 0)
        commit->has_deploy = slice_is(type, "tree");
    if (error)
        return diag_set(diag, -EFBIG, "the commit's pipeline file, Dockerfile and message are too large: at most %zu bytes together", READ_BYTES_MAX);
    return commit->author && commit->title && commit->message && commit->timestamp
               ? 0
               : diag_set(diag, -EINVAL, "the commit %s names no author", commit->sha);
}

static void on_read(void *userdata, int status, struct slice out, struct slice err) {
    struct reading *reading = userdata;
    struct diag diag = DIAG_INIT;
    reading->base.command = NULL;
    int error = status < 0 ? status : status > 0 ? -EIO : 0;
    if (error)
        diag_set(&diag, error, "git could not read the commit %s: %.*s", reading->commit.sha, SLICE_ARG(slice_head(slice_trim(err), 300)));
    else
        error = read_answer(reading, out, &diag);
    reading->on_done(reading->userdata, error, &reading->commit, &diag);
    operation_end(&reading->base);
}

/* One path element that cannot lead elsewhere. */
static bool is_quarantine_name(const char *name) {
    for (const char *at = name; *at; at++)
        if (!isalnum((unsigned char)*at) && *at != '-' && *at != '_')
            return false;
    return *name && strlen(name) < 100;
}

int commit_read(struct forge_app *app, const char *sha, const char *quarantine, commit_fn *on_done, void *userdata) {
    struct forge *forge = app->forge;
    if (quarantine && !is_quarantine_name(quarantine))
        return -EINVAL;
    struct reading *reading = calloc(1, sizeof *reading);
    if (!reading || !(reading->arena = arena_new(READ_BYTES_MAX * 2))) {
        free(reading);
        return -ENOMEM;
    }
    reading->on_done = on_done;
    reading->userdata = userdata;
    snprintf(reading->commit.sha, sizeof reading->commit.sha, "%s", sha);
    operation_init(&reading->base, forge, NULL, destroy);
    struct arena *arena = reading->arena;
    const char *repository = forge_path(forge, arena, "repos/%s.git", app->name);
    const char *argv[] = {"git", arena_printf(arena, "--git-dir=%s", repository), "cat-file", "--batch", NULL};
    const char *extra[] = {quarantine ? arena_printf(arena, "GIT_OBJECT_DIRECTORY=%s/objects/%s", repository, quarantine) : NULL,
                           arena_printf(arena, "GIT_ALTERNATE_OBJECT_DIRECTORIES=%s/objects", repository), NULL};
    const char *input =
        arena_printf(arena, "%s^{commit}\n%s^{commit}:%s\n%s^{commit}:Dockerfile\n%s^{commit}:deploy\n", sha, sha, PIPELINE_FILE, sha, sha);
    struct loop_command_options options = {
        .spawn = {.argv = argv, .envp = extra}, .input = slice_of(input), .output_max = READ_BYTES_MAX, .timeout_ms = READ_TIMEOUT_MS};
    int error = argv[1] && extra[1] && input ? operation_git(&reading->base, &options, on_read) : -ENOMEM;
    if (error)
        operation_end(&reading->base);
    return error;
}

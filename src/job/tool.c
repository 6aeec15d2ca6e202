/* `tidemill build` and `tidemill apply` inside a job, and the hooks of the platform's git repositories: each packs or reads something, sends it,
 * prints what comes back as it comes, and exits with the code of the last line, "TIDEMILL-EXIT <code>", which is not printed. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job/job.h"

#define FILES_MAX 100
#define ARGUMENTS_MAX 100
#define TARGET_BYTES_MAX (15 * KIB)
#define IGNORE_BYTES_MAX (256 * KIB)
#define LINE_BYTES_MAX (256 * KIB)
#define UPDATES_BYTES_MAX MIB
#define EXIT_USAGE 2

static const char build_help[] = "Usage: tidemill build [-t NAME[:TAG]] [-f DOCKERFILE] [--target STAGE] [--build-arg K=V]... [CONTEXT]\n"
                                 "\n"
                                 "Builds an image from a Dockerfile and pushes it to the platform's registry.\n"
                                 "CONTEXT is the folder the Dockerfile may copy from (.dockerignore applies), by default the current one.\n"
                                 "Without -t the image is $CI_REGISTRY_IMAGE:$CI_COMMIT_SHORT_SHA.\n";
static const char apply_help[] = "Usage: tidemill apply -f FILE|FOLDER [-f ...]\n"
                                 "\n"
                                 "Applies Kubernetes manifests and waits until what they describe is running.\n"
                                 "The job's variables ($CI_COMMIT_SHORT_SHA, ${IMAGE}, ...) are filled in.\n";

static int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int complain(const char *format, ...) {
    va_list args;
    fflush(stdout);
    fputs("tidemill: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return 1;
}

/* --- the answer --- */

/* Prints whole lines, except the one that carries the exit code. */
struct output {
    struct buffer line; /* begun, not yet printed */
    bool line_started;  /* part of the current line was printed already: it cannot be the trailer */
    int exit_code;      /* -1: no trailer yet */
};

static bool read_trailer(struct output *output, struct slice line) {
    struct slice prefix = SLICE("TIDEMILL-EXIT ");
    uint64_t code = 0;
    if (output->line_started || !slice_starts(line, prefix) || slice_parse_u64(slice_trim(slice_from(line, prefix.len)), 255, &code) < 0)
        return false;
    output->exit_code = (int)code;
    return true;
}

static int on_output(void *userdata, struct slice data) {
    struct output *output = userdata;
    while (data.len) {
        ptrdiff_t end = slice_index(data, '\n');
        struct slice piece = end < 0 ? data : slice_head(data, (size_t)end + 1);
        data = slice_from(data, piece.len);
        if (buffer_append_slice(&output->line, piece) < 0)
            return -EMSGSIZE;
        struct slice line = buffer_slice(&output->line);
        /* What may still become the trailer waits for its end; everything else is shown at once. */
        bool may_be_trailer = !output->line_started && slice_starts(SLICE("TIDEMILL-EXIT "), slice_head(line, 14));
        if (end < 0 && may_be_trailer)
            continue;
        if (end < 0 || !read_trailer(output, line))
            fwrite(line.data, 1, line.len, stdout);
        output->line_started = end < 0;
        buffer_reset(&output->line);
    }
    fflush(stdout);
    return 0;
}

/* Sends the request and shows the answer; the exit status. */
static int converse(const struct wire *wire, struct wire_request *request, struct output *output, const char *what) {
    CLEANUP(buffer_deinit) struct buffer error = BUFFER_INIT(WIRE_ERROR_BYTES_MAX);
    int status = wire_call(wire, request, &error);
    struct slice text = slice_trim(buffer_slice(&error));
    if (status < 0)
        return complain("%s failed: %s", what, status == -ECONNRESET ? "the platform hung up" : strerror(-status));
    if (status >= 300)
        return complain("%s was refused: %.*s (status %d)", what, SLICE_ARG(text), status);
    if (output->line.len)
        read_trailer(output, buffer_slice(&output->line));
    return output->exit_code >= 0 ? output->exit_code : complain("%s was cut off before its end", what);
}

/* --- packing --- */

struct packing {
    struct output output; /* first: on_output gets the packing as user data */
    struct wire_body *body;
    struct glob_rules rules;
    const char *dockerfile; /* never ignored: the builder needs it */
    int folder_fd;
    const char *const *files; /* of apply; NULL: the whole folder */
    size_t files_count;
    char failed_path[256];
};
_Static_assert(offsetof(struct packing, output) == 0, "on_output() reads a packing as an output");

static void packing_deinit(struct packing *packing) {
    buffer_deinit(&packing->output.line);
    glob_rules_deinit(&packing->rules);
    fd_closep(&packing->folder_fd);
}

static int send_piece(void *userdata, struct slice bytes) {
    struct packing *packing = userdata;
    return wire_body_write(packing->body, bytes);
}

static enum tar_choice choose_context(void *userdata, struct slice path, bool is_folder) {
    struct packing *packing = userdata;
    if (slice_is(path, packing->dockerfile) || slice_is(path, ".dockerignore"))
        return TAR_TAKE;
    if (!glob_rules_exclude(&packing->rules, path))
        return TAR_TAKE;
    if (!is_folder)
        return TAR_PRUNE;
    struct slice above = slice_make(packing->dockerfile, MIN(path.len, strlen(packing->dockerfile)));
    bool leads_to_dockerfile = slice_equal(above, path) && packing->dockerfile[path.len] == '/';
    return glob_rules_are_final(&packing->rules) && !leads_to_dockerfile ? TAR_PRUNE : TAR_SKIP;
}

static int pack_context(void *userdata, struct wire_body *body) {
    struct packing *packing = userdata;
    packing->body = body;
    struct tar_packer packer = {.sink = send_piece, .choose = choose_context, .userdata = packing};
    int r = tar_pack(&packer, packing->folder_fd);
    memcpy(packing->failed_path, packer.failed_path, sizeof packing->failed_path);
    return r ? r : tar_pack_end(&packer);
}

/* The name inside the archive: the path as typed, without what would lead out of it. */
static const char *archive_name(const char *path) {
    while (*path == '/' || strncmp(path, "./", 2) == 0 || strncmp(path, "../", 3) == 0)
        path += *path == '/' ? 1 : path[1] == '/' ? 2 : 3;
    return *path && strcmp(path, ".") != 0 ? path : "manifests";
}

static enum tar_choice choose_manifest(void *userdata, struct slice path, bool is_folder) {
    struct packing *packing = userdata;
    static const char *const endings[] = {".yaml", ".yml", ".json"};
    for (size_t i = 0; i < packing->files_count; i++) {
        if (slice_is(path, archive_name(packing->files[i])) && !is_folder)
            return TAR_TAKE; /* named by the user, whatever it is called */
    }
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        if (!is_folder && slice_ends(path, slice_of(endings[i])))
            return TAR_TAKE;
    }
    return is_folder ? TAR_SKIP : TAR_PRUNE;
}

static int pack_manifests(void *userdata, struct wire_body *body) {
    struct packing *packing = userdata;
    packing->body = body;
    struct tar_packer packer = {.sink = send_piece, .choose = choose_manifest, .userdata = packing};
    int r = 0;
    for (size_t i = 0; r == 0 && i < packing->files_count; i++)
        r = tar_pack_path(&packer, AT_FDCWD, packing->files[i], archive_name(packing->files[i]));
    memcpy(packing->failed_path, packer.failed_path, sizeof packing->failed_path);
    if (r == 0 && packer.entries == 0)
        return -ENODATA;
    return r ? r : tar_pack_end(&packer);
}

/* --- build --- */

struct build_arguments {
    const char *image, *dockerfile, *target, *context;
    const char *arguments[ARGUMENTS_MAX];
    size_t count;
};

static void add_query(struct buffer *target, const char *key, const char *value) {
    static const char hex[] = "0123456789ABCDEF";
    buffer_printf(target, "%c%s=", strchr(target->data, '?') ? '&' : '?', key);
    for (const char *at = value; *at; at++) {
        unsigned char c = (unsigned char)*at;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~/:", c);
        if (plain)
            buffer_append_byte(target, *at);
        else
            buffer_printf(target, "%%%c%c", hex[c >> 4], hex[c & 15]);
    }
}

static int default_image(struct buffer *out) {
    const char *image = getenv("CI_REGISTRY_IMAGE"), *tag = getenv("CI_COMMIT_SHORT_SHA");
    if (!image || !*image || !tag || !*tag)
        return complain("build: name the image with -t: $CI_REGISTRY_IMAGE and $CI_COMMIT_SHORT_SHA are not set");
    buffer_printf(out, "%s:%s", image, tag);
    return buffer_error(out) ? 1 : 0;
}

static int read_build_arguments(int argc, char **argv, struct build_arguments *arguments) {
    static const struct option options[] = {{"tag", required_argument, NULL, 't'},    {"file", required_argument, NULL, 'f'},
                                            {"target", required_argument, NULL, 'T'}, {"build-arg", required_argument, NULL, 'a'},
                                            {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
    optind = 1;
    for (int option; (option = getopt_long(argc, argv, "t:f:h", options, NULL)) != -1;) {
        if (option == 't')
            arguments->image = optarg;
        else if (option == 'f')
            arguments->dockerfile = optarg;
        else if (option == 'T')
            arguments->target = optarg;
        else if (option == 'a' && arguments->count < ARGUMENTS_MAX)
            arguments->arguments[arguments->count++] = optarg;
        else {
            fputs(build_help, option == 'h' ? stdout : stderr);
            return option == 'h' ? -1 : EXIT_USAGE;
        }
    }
    if (argc - optind > 1) {
        complain("build: one CONTEXT is expected, found \"%s\" too", argv[optind + 1]);
        return EXIT_USAGE;
    }
    arguments->context = optind < argc ? argv[optind] : ".";
    return 0;
}

static int read_ignore_file(struct packing *packing) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(IGNORE_BYTES_MAX);
    CLEANUP(fd_closep) int fd = openat(packing->folder_fd, ".dockerignore", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    for (;;) {
        int r = buffer_reserve(&text, 4096);
        ssize_t n = r < 0 ? r : read(fd, text.data + text.len, 4096);
        if (n < 0)
            return r < 0 ? r : -errno;
        if (n == 0)
            return glob_rules_parse(&packing->rules, buffer_slice(&text));
        buffer_commit(&text, (size_t)n);
    }
}

/* Opens the folder, reads .dockerignore, finds the Dockerfile; says what is wrong. */
static int prepare_context(struct packing *packing, const struct build_arguments *arguments) {
    packing->folder_fd = open(arguments->context, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (packing->folder_fd < 0)
        return complain("build: cannot open the context %s: %s", arguments->context, strerror(errno));
    const char *dockerfile = arguments->dockerfile ? arguments->dockerfile : "Dockerfile";
    while (strncmp(dockerfile, "./", 2) == 0)
        dockerfile += 2;
    /* -f is a path as docker reads it: from the current folder, and it must lie in the context. */
    size_t length = strlen(arguments->context);
    const char *context = arguments->context;
    if (strcmp(context, ".") != 0 && strncmp(dockerfile, context, length) == 0 &&
        (dockerfile[length] == '/' || (length && context[length - 1] == '/')))
        dockerfile += length + (dockerfile[length] == '/');
    packing->dockerfile = dockerfile;
    if (faccessat(packing->folder_fd, dockerfile, R_OK, 0) < 0)
        return complain("build: there is no %s in %s: %s", dockerfile, arguments->context, strerror(errno));
    int r = read_ignore_file(packing);
    return r < 0 ? complain("build: cannot read .dockerignore: %s", strerror(-r)) : 0;
}

static int run_build(const struct wire *wire, int argc, char **argv) {
    struct build_arguments arguments = {0};
    CLEANUP(buffer_deinit) struct buffer target = BUFFER_INIT(TARGET_BYTES_MAX), image = BUFFER_INIT(KIB);
    CLEANUP(packing_deinit) struct packing packing = {.folder_fd = -1, .output = {.line = BUFFER_INIT(LINE_BYTES_MAX), .exit_code = -1}};
    int status = read_build_arguments(argc, argv, &arguments);
    if (status)
        return status < 0 ? 0 : status;
    status = prepare_context(&packing, &arguments);
    if (status == 0 && !arguments.image)
        status = default_image(&image);
    if (status)
        return status;
    buffer_append_text(&target, "/job/v1/build");
    add_query(&target, "tag", arguments.image ? arguments.image : image.data);
    add_query(&target, "dockerfile", packing.dockerfile);
    if (arguments.target)
        add_query(&target, "target", arguments.target);
    for (size_t i = 0; i < arguments.count; i++)
        add_query(&target, "build_arg", arguments.arguments[i]);
    if (buffer_error(&target))
        return complain("build: the arguments are too long");
    struct wire_request request = {.method = "POST",
                                   .target = target.data,
                                   .content_type = "application/x-tar",
                                   .write_body = pack_context,
                                   .on_data = on_output,
                                   .userdata = &packing};
    status = converse(wire, &request, &packing.output, "the build");
    if (packing.failed_path[0])
        complain("build: cannot read %s", packing.failed_path);
    return status;
}

/* --- apply --- */

static int run_apply(const struct wire *wire, int argc, char **argv) {
    static const struct option options[] = {{"filename", required_argument, NULL, 'f'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    const char *files[FILES_MAX];
    CLEANUP(packing_deinit)
    struct packing packing = {.folder_fd = -1, .files = files, .output = {.line = BUFFER_INIT(LINE_BYTES_MAX), .exit_code = -1}};
    optind = 1;
    for (int option; (option = getopt_long(argc, argv, "f:h", options, NULL)) != -1;) {
        if (option != 'f' || packing.files_count == FILES_MAX) {
            fputs(apply_help, option == 'h' ? stdout : stderr);
            return option == 'h' ? 0 : EXIT_USAGE;
        }
        files[packing.files_count++] = optarg;
    }
    if (packing.files_count == 0 || optind < argc) {
        fputs(apply_help, stderr);
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < packing.files_count; i++) {
        if (access(files[i], R_OK) < 0)
            return complain("apply: cannot read %s: %s", files[i], strerror(errno));
    }
    struct wire_request request = {.method = "POST",
                                   .target = "/job/v1/apply",
                                   .content_type = "application/x-tar",
                                   .write_body = pack_manifests,
                                   .on_data = on_output,
                                   .userdata = &packing};
    int status = converse(wire, &request, &packing.output, "apply");
    if (packing.failed_path[0])
        complain("apply: cannot read %s", packing.failed_path);
    return status;
}

int job_tool(const struct wire *wire, int argc, char **argv) {
    static const struct {
        const char *name;
        int (*run)(const struct wire *wire, int argc, char **argv);
    } tools[] = {{"build", run_build}, {"apply", run_apply}};
    for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
        if (argc < 1 || strcmp(argv[0], tools[i].name) != 0)
            continue;
        bool help = argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
        if (!wire && !help)
            return complain("%s: this command works inside a pipeline's job: TIDEMILL_JOB_SOCKET and TIDEMILL_JOB_TOKEN are not set", argv[0]);
        return tools[i].run(wire, argc, argv);
    }
    fputs("Usage: tidemill build|apply ...\n\nInside a pipeline's job:\n  build   build an image and push it to the platform's registry\n  apply   "
          "apply Kubernetes manifests\n",
          stderr);
    return EXIT_USAGE;
}

/* --- git hooks --- */

struct hook {
    struct output output; /* first, as in packing */
    struct buffer updates;
};

static int write_updates(void *userdata, struct wire_body *body) {
    struct hook *hook = userdata;
    return wire_body_write(body, buffer_slice(&hook->updates));
}

static int read_input(struct buffer *out) {
    for (;;) {
        int r = buffer_reserve(out, 4096);
        ssize_t n = r < 0 ? r : read(STDIN_FILENO, out->data + out->len, 4096);
        if (n < 0 && r == 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? 0 : r < 0 ? r : -errno;
        buffer_commit(out, (size_t)n);
    }
}

int job_hook(const struct wire *wire, const char *name) {
    CLEANUP(buffer_deinit) struct buffer target = BUFFER_INIT(TARGET_BYTES_MAX);
    struct hook hook = {.output = {.line = BUFFER_INIT(LINE_BYTES_MAX), .exit_code = -1}, .updates = BUFFER_INIT(UPDATES_BYTES_MAX)};
    const char *quarantine = getenv("GIT_QUARANTINE_PATH");
    if (!wire)
        return complain("%s: pushes go through the platform: TIDEMILL_HOOK_SOCKET and TIDEMILL_HOOK_TOKEN are not set", name);
    buffer_printf(&target, "/hook/v1/%s", name);
    if (quarantine && *quarantine) {
        const char *slash = strrchr(quarantine, '/');
        add_query(&target, "quarantine", slash ? slash + 1 : quarantine);
    }
    int r = read_input(&hook.updates);
    struct wire_request request = {
        .method = "POST", .target = target.data, .content_type = "text/plain", .write_body = write_updates, .on_data = on_output, .userdata = &hook};
    int status =
        r < 0 || buffer_error(&target) ? complain("%s: cannot read the list of updates", name) : converse(wire, &request, &hook.output, "the push");
    buffer_deinit(&hook.output.line);
    buffer_deinit(&hook.updates);
    return status;
}

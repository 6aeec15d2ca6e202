/* Running a job: sources, artifacts, script, result. See job.h for the protocol.
 *
 * We are usually process 1 of the container: orphans are reaped while the script runs, and signals are passed on (a cancelled job's SIGTERM goes to
 * every process of the container, since the shell alone would not forward it). Everything is written to standard output in the order it happens; the
 * script inherits it.
 *
 * The result is delivered last and tried again for a while: the platform may be restarting, and a job that ran for an hour should not be lost to
 * that. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "job/job.h"

#define SCRIPT_BYTES_MAX (4 * MIB)
#define ENTRIES_MAX 10000
#define PATTERNS_BYTES_MAX (256 * KIB)
#define PROGRESS_FD 8 /* one digit: all that a POSIX shell can redirect to */
#define TRIES_MAX 20
#define TRY_PAUSE_MS 500

struct job {
    const struct wire *wire;
    const char *own_path;
    int folder_fd;                /* $CI_PROJECT_DIR */
    struct buffer script;         /* as received */
    VECTOR(struct slice) entries; /* in script */
    int exit_code;
    size_t failed_line; /* from 1; 0: none */
    struct buffer patterns_text;
    VECTOR(char *) patterns; /* in patterns_text */
};

static void job_deinit(struct job *job) {
    fd_closep(&job->folder_fd);
    buffer_deinit(&job->script);
    VECTOR_DEINIT(&job->entries);
    buffer_deinit(&job->patterns_text);
    VECTOR_DEINIT(&job->patterns);
}

/* --- talking --- */

/* One line for the log, in front of whatever the script writes next. */
static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

static void pause_ms(long ms) {
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* Calls; while the platform does not answer, again. 0 for 2xx; otherwise an error that was said. */
static int call(const struct job *job, const struct wire_request *request, const char *what) {
    CLEANUP(buffer_deinit) struct buffer error = BUFFER_INIT(WIRE_ERROR_BYTES_MAX);
    int status = -EIO;
    for (int i = 0; i < TRIES_MAX; i++) {
        buffer_reset(&error);
        status = wire_call(job->wire, request, &error);
        bool absent = status == -ENOENT || status == -ECONNREFUSED || status == 503;
        if (!absent)
            break;
        pause_ms(TRY_PAUSE_MS);
    }
    if (status >= 200 && status < 300)
        return 0;
    struct slice text = slice_trim(buffer_slice(&error));
    if (status > 0)
        say("ERROR: the platform refused %s: %.*s (status %d)", what, SLICE_ARG(text), status);
    else
        say("ERROR: %s failed: %s", what, strerror(-status));
    return status > 0 ? -EREMOTEIO : status;
}

static int collect(void *userdata, struct slice data) {
    return buffer_append_slice(userdata, data);
}

/* --- unpacking --- */

static int feed(void *userdata, struct slice data) {
    return tar_unpacker_feed(userdata, data);
}

static int fetch_tar(struct job *job, const char *target, const char *what) {
    CLEANUP(tar_unpacker_freep) struct tar_unpacker *unpacker = tar_unpacker_new(job->folder_fd);
    if (!unpacker)
        return -ENOMEM;
    const struct wire_request request = {.method = "GET", .target = target, .on_data = feed, .userdata = unpacker};
    int r = call(job, &request, what);
    if (r == 0 && (r = tar_unpacker_finish(unpacker)) < 0)
        say("ERROR: %s arrived incomplete", what);
    else if (r < 0 && tar_unpacker_path(unpacker)[0])
        say("ERROR: while unpacking %s", tar_unpacker_path(unpacker));
    if (r == 0 && tar_unpacker_entries(unpacker))
        say("Unpacked %zu files of %s", tar_unpacker_entries(unpacker), what);
    return r;
}

/* Cuts "a\0b\0" into its parts; a last part without NUL counts too. */
static int cut_entries(struct job *job) {
    for (struct slice rest = buffer_slice(&job->script); rest.len;) {
        struct slice entry = slice_cut(&rest, 0);
        if (job->entries.count == ENTRIES_MAX)
            return -E2BIG;
        if (entry.len && VECTOR_PUSH(&job->entries, entry) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int fetch_script(struct job *job) {
    const struct wire_request request = {.method = "GET", .target = "/job/v1/script", .on_data = collect, .userdata = &job->script};
    int r = call(job, &request, "the script");
    return r ? r : cut_entries(job);
}

/* --- the script --- */

static const char *find_shell(bool *ret_is_bash) {
    static const char *const shells[] = {"/bin/bash", "/usr/bin/bash", "/bin/sh"};
    for (size_t i = 0; i < ARRAY_LEN(shells); i++) {
        *ret_is_bash = i < 2;
        if (access(shells[i], X_OK) == 0)
            return shells[i];
    }
    return NULL;
}

/* Our own folder first in PATH, so that `tidemill` is found there, by programs that the script starts too. */
static void extend_path(const char *own_path) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64 * KIB);
    const char *slash = strrchr(own_path, '/');
    const char *path = getenv("PATH");
    if (!slash || slash == own_path)
        return;
    buffer_printf(&text, "%.*s:%s", (int)(slash - own_path), own_path, path ? path : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    if (!buffer_error(&text))
        setenv("PATH", text.data, 1);
}

/* A memory file with the shell's program; reading it from standard input would let a command that reads input eat the rest. */
static int write_program(struct job *job, bool is_bash) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(8 * SCRIPT_BYTES_MAX);
    CLEANUP(fd_closep) int fd = memfd_create("job", 0);
    int r = job_script_format(&text, job->entries.items, job->entries.count, is_bash, PROGRESS_FD, job->own_path);
    if (fd < 0 || r < 0)
        return fd < 0 ? -errno : r;
    for (size_t at = 0; at < text.len;) {
        ssize_t n = write(fd, text.data + at, text.len - at);
        if (n < 0)
            return -errno;
        at += (size_t)n;
    }
    return TAKE_FD(fd);
}

static volatile sig_atomic_t shell_pid; /* for the handler only; the one global that a signal handler needs */

static void pass_signal(int signal) {
    int saved = errno;
    if (getpid() == 1)
        kill(-1, signal);
    else if (shell_pid > 0)
        kill((pid_t)shell_pid, signal);
    errno = saved;
}

static pid_t start_shell(struct job *job, const char *shell, int program_fd, int progress_fd) {
    char program[64];
    snprintf(program, sizeof program, "/proc/self/fd/%d", program_fd);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    int null = open("/dev/null", O_RDONLY);
    if (fchdir(job->folder_fd) == 0 && (null < 0 || dup2(null, STDIN_FILENO) >= 0) && dup2(progress_fd, PROGRESS_FD) >= 0)
        execl(shell, shell, program, (char *)NULL);
    _exit(126);
}

/* Waits for the shell and, on the way, for whatever else became our child. */
static int wait_for(pid_t pid) {
    int status = 0;
    for (;;) {
        pid_t ended = waitpid(-1, &status, 0);
        if (ended == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (ended < 0 && errno != EINTR)
            return JOB_EXIT_PLATFORM;
    }
}

/* The last number that the shell wrote. */
static size_t read_progress(int fd) {
    char text[32];
    uint64_t number = 0;
    struct stat status;
    if (fstat(fd, &status) < 0)
        return 0;
    off_t from = status.st_size > (off_t)sizeof text ? status.st_size - (off_t)sizeof text : 0;
    ssize_t n = pread(fd, text, sizeof text, from);
    struct slice rest = slice_trim(slice_make(text, n > 0 ? (size_t)n : 0));
    for (struct slice line; rest.data;) {
        line = slice_cut(&rest, '\n');
        if (slice_parse_u64(line, ENTRIES_MAX, &number) < 0)
            number = 0;
    }
    return (size_t)number;
}

static void handle_signals(void) {
    struct sigaction action = {.sa_handler = pass_signal, .sa_flags = SA_RESTART};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

static int run_script(struct job *job) {
    bool is_bash = false;
    const char *shell = find_shell(&is_bash);
    if (!shell) {
        say("ERROR: the image has no /bin/sh, so it cannot run a job's script");
        return -ENOENT;
    }
    extend_path(job->own_path);
    CLEANUP(fd_closep) int program = write_program(job, is_bash);
    CLEANUP(fd_closep) int progress = memfd_create("progress", MFD_CLOEXEC);
    if (program < 0 || progress < 0)
        return program < 0 ? program : -errno;
    if (program == PROGRESS_FD || progress == PROGRESS_FD) /* somebody left us few descriptors: keep clear of the one that the shell uses */
        return -EBADF;
    handle_signals();
    pid_t pid = start_shell(job, shell, program, progress);
    if (pid < 0)
        return -errno;
    shell_pid = pid;
    job->exit_code = wait_for(pid);
    job->failed_line = job->exit_code ? read_progress(progress) : 0;
    return 0;
}

static struct slice failed_entry(const struct job *job) {
    return job->failed_line > 0 && job->failed_line <= job->entries.count ? job->entries.items[job->failed_line - 1] : (struct slice){0};
}

static void say_failure(const struct job *job) {
    struct slice rest = failed_entry(job);
    struct slice first = slice_cut(&rest, '\n');
    if (job->exit_code == 0)
        return;
    say("ERROR: script line %zu failed: %.*s%s (exit code %d)", job->failed_line, SLICE_ARG(first), slice_trim(rest).len ? " …" : "", job->exit_code);
}

/* --- artifacts --- */

static int fetch_patterns(struct job *job) {
    char target[64];
    snprintf(target, sizeof target, "/job/v1/artifact-paths?exit_code=%d", job->exit_code);
    const struct wire_request request = {.method = "GET", .target = target, .on_data = collect, .userdata = &job->patterns_text};
    int r = call(job, &request, "the list of artifacts");
    /* Each pattern ends with its NUL in place; the buffer itself is NUL-terminated behind the last. */
    for (size_t at = 0; r == 0 && at < job->patterns_text.len;) {
        char *pattern = job->patterns_text.data + at;
        at += strlen(pattern) + 1;
        if (*pattern && job->patterns.count < GLOB_PATTERNS_MAX)
            r = VECTOR_PUSH(&job->patterns, pattern);
    }
    return r;
}

/* What the packer is given: it chooses by the job's patterns and writes to the body, or only counts. */
struct artifacts {
    struct job *job;
    struct wire_body *body; /* NULL: count */
    size_t entries;
    char failed_path[256];
};

static enum tar_choice choose_artifact(void *userdata, struct slice path, bool is_folder) {
    const struct artifacts *artifacts = userdata;
    const struct job *job = artifacts->job;
    for (size_t i = 0; i < job->patterns.count; i++) {
        if (glob_match(slice_of(job->patterns.items[i]), path))
            return TAR_TAKE;
    }
    return is_folder ? TAR_SKIP : TAR_PRUNE;
}

static int send_piece(void *userdata, struct slice bytes) {
    struct artifacts *artifacts = userdata;
    return artifacts->body ? wire_body_write(artifacts->body, bytes) : 0;
}

static int pack_artifacts(void *userdata, struct wire_body *body) {
    struct artifacts *artifacts = userdata;
    artifacts->body = body;
    struct tar_packer packer = {.sink = send_piece, .choose = choose_artifact, .userdata = artifacts};
    int r = tar_pack(&packer, artifacts->job->folder_fd);
    r = r ? r : tar_pack_end(&packer);
    artifacts->entries = packer.entries;
    memcpy(artifacts->failed_path, packer.failed_path, sizeof artifacts->failed_path);
    return r;
}

static int send_artifacts(struct job *job) {
    struct artifacts artifacts = {.job = job};
    int r = fetch_patterns(job);
    if (r < 0 || job->patterns.count == 0)
        return r;
    r = pack_artifacts(&artifacts, NULL);
    if (r == 0 && artifacts.entries == 0) {
        say("WARNING: no files match the job's artifacts:paths");
        return 0;
    }
    if (r < 0) {
        say("ERROR: cannot read the artifact %s: %s", artifacts.failed_path, strerror(-r));
        return r;
    }
    const struct wire_request request = {
        .method = "POST", .target = "/job/v1/artifacts", .content_type = "application/x-tar", .write_body = pack_artifacts, .userdata = &artifacts};
    r = call(job, &request, "the artifacts");
    if (r == 0)
        say("Kept %zu files as artifacts", artifacts.entries);
    return r;
}

/* --- the result --- */

static void add_json_text(struct buffer *out, struct slice text) {
    buffer_append_byte(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c < 0x20 || c == '"' || c == '\\')
            buffer_printf(out, "\\u%04x", c);
        else
            buffer_append_byte(out, (char)c);
    }
    buffer_append_byte(out, '"');
}

static int write_text(void *userdata, struct wire_body *body) {
    return wire_body_write(body, buffer_slice(userdata));
}

static int send_result(struct job *job) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(8 * SCRIPT_BYTES_MAX);
    struct slice command = slice_trim(failed_entry(job));
    buffer_printf(&text, "{\"exit_code\":%d,\"failed_line\":%zu,\"failed_command\":", job->exit_code, job->failed_line);
    add_json_text(&text, slice_head(command, 4 * KIB));
    buffer_append_text(&text, "}");
    if (buffer_error(&text))
        return buffer_error(&text);
    const struct wire_request request = {
        .method = "POST", .target = "/job/v1/result", .content_type = "application/json", .write_body = write_text, .userdata = &text};
    return call(job, &request, "the job's result");
}

/* --- the whole --- */

/* mkdir -p, then open. */
static int open_project(const char *path) {
    char part[TAR_PATH_MAX];
    if (strlen(path) >= sizeof part)
        return -ENAMETOOLONG;
    for (size_t i = 1; i <= strlen(path); i++) {
        if (path[i] != '/' && path[i] != 0)
            continue;
        memcpy(part, path, i);
        part[i] = 0;
        if (mkdir(part, 0755) < 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
            return -errno; /* what stands above may belong to somebody else */
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int job_run(const struct wire *wire, const char *project_folder, const char *own_path) {
    CLEANUP(job_deinit)
    struct job job = {.wire = wire, .own_path = own_path, .script = BUFFER_INIT(SCRIPT_BYTES_MAX), .patterns_text = BUFFER_INIT(PATTERNS_BYTES_MAX)};
    job.folder_fd = open_project(project_folder);
    if (job.folder_fd < 0) {
        say("ERROR: cannot open the project's folder %s: %s", project_folder, strerror(-job.folder_fd));
        return JOB_EXIT_PLATFORM;
    }
    int r = fetch_tar(&job, "/job/v1/source", "the sources");
    r = r ? r : fetch_tar(&job, "/job/v1/artifacts", "earlier jobs' artifacts");
    r = r ? r : fetch_script(&job);
    if (r == 0 && (r = run_script(&job)) < 0)
        say("ERROR: the script could not be started: %s", strerror(-r));
    if (r == 0) {
        say_failure(&job);
        if (send_artifacts(&job) < 0 && job.exit_code == 0)
            job.exit_code = JOB_EXIT_PLATFORM; /* the next jobs count on them */
    } else {
        job.exit_code = JOB_EXIT_PLATFORM;
    }
    return send_result(&job) < 0 ? JOB_EXIT_PLATFORM : job.exit_code;
}

#include "job/job.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

/* A platform in a process of its own: answers each request from a file named after its path ("/job/v1/script" → answers/script), and keeps what was
 * sent in sent/<name>. */
static char folder[64];
static char socket_path[128];
static pid_t server;
static struct wire wire;

static char *path_of(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *path_of(const char *format, ...) {
    static char paths[8][512];
    static size_t next;
    char *path = paths[next++ % 8];
    int length = snprintf(path, 512, "%s/", folder);
    va_list args;
    va_start(args, format);
    vsnprintf(path + length, (size_t)(512 - length), format, args);
    va_end(args);
    return path;
}

static void put(const char *path, struct slice text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text.data, text.len), text.len);
    close(fd);
}

static void get(const char *path, struct buffer *out) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    buffer_reset(out);
    for (ssize_t n = 1; fd >= 0 && n > 0; buffer_commit(out, n > 0 ? (size_t)n : 0)) {
        buffer_reserve(out, 4096);
        n = read(fd, out->data + out->len, 4096);
    }
    if (fd >= 0)
        close(fd);
}

/* Reads one request: the head, then chunks until the last. */
static void serve_one(int fd) {
    CLEANUP(buffer_deinit) struct buffer in = BUFFER_INIT(16 * MIB), body = BUFFER_INIT(16 * MIB), out = BUFFER_INIT(16 * MIB);
    char name[128] = "", line[256];
    ptrdiff_t end = -1;
    while ((end = slice_find(buffer_slice(&in), SLICE("\r\n\r\n"))) < 0 ||
           (slice_find(buffer_slice(&in), SLICE("chunked")) >= 0 && !slice_ends(buffer_slice(&in), SLICE("\r\n0\r\n\r\n")) &&
            !slice_ends(buffer_slice(&in), SLICE("\r\n\r\n0\r\n\r\n")))) {
        buffer_reserve(&in, 4096);
        ssize_t n = read(fd, in.data + in.len, 4096);
        if (n <= 0)
            return;
        buffer_commit(&in, (size_t)n);
    }
    sscanf(in.data, "%*s /%*[a-z]/v1/%100[a-z-]", name);
    struct slice rest = slice_from(buffer_slice(&in), (size_t)end + 4);
    while (rest.len) {
        struct slice size_text = slice_cut(&rest, '\n');
        size_t size = 0;
        snprintf(line, sizeof line, "%.*s", SLICE_ARG(size_text));
        sscanf(line, "%zx", &size);
        buffer_append_slice(&body, slice_head(rest, size));
        rest = slice_from(rest, size + 2);
    }
    put(path_of("sent/%s", name), buffer_slice(&body));
    put(path_of("sent/%s.head", name), slice_head(buffer_slice(&in), (size_t)end));
    get(path_of("answers/%s", name), &out);
    bool refused = access(path_of("answers/%s", name), R_OK) < 0;
    dprintf(fd, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n",
            refused   ? "404 Not Found"
            : out.len ? "200 OK"
                      : "204 No Content",
            refused ? 4 : out.len);
    if (refused)
        (void)!write(fd, "nope", 4);
    else if (out.len)
        (void)!write(fd, out.data, out.len);
}

static int set_up(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/tidemill-job-XXXXXX");
    if (!mkdtemp(folder) || mkdir(path_of("answers"), 0755) || mkdir(path_of("sent"), 0755) || mkdir(path_of("bin"), 0755))
        return -1;
    snprintf(socket_path, sizeof socket_path, "%s", path_of("s"));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16))
        return -1;
    wire = (struct wire){.socket_path = socket_path, .token = "t0ken"};
    server = fork();
    for (; server == 0;) {
        int fd = accept(listener, NULL, NULL);
        serve_one(fd);
        close(fd);
    }
    close(listener);
    return server < 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk) {
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static int tear_down(void **state) {
    (void)state;
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int append(void *userdata, struct slice bytes) {
    return buffer_append_slice(userdata, bytes);
}

static void answer_sources(void) {
    CLEANUP(buffer_deinit) struct buffer tar = BUFFER_INIT(MIB);
    struct tar_packer packer = {.sink = append, .userdata = &tar};
    mkdir(path_of("tree"), 0755);
    put(path_of("tree/hello.txt"), SLICE("hello\n"));
    int fd = open(path_of("tree"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(tar_pack(&packer, fd) | tar_pack_end(&packer), 0);
    close(fd);
    put(path_of("answers/source"), buffer_slice(&tar));
    put(path_of("answers/result"), SLICE(""));
}

/* Runs `fn` in a child with its output in "log"; the exit status. */
static int run_in_child(int (*fn)(void *userdata), void *userdata) {
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(path_of("log"), O_WRONLY | O_CREAT | O_TRUNC, 0644);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        int code = fn(userdata);
        fflush(stdout);
        _exit(code);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int run_job(void *userdata) {
    (void)userdata;
    setenv("CI_PROJECT_DIR", path_of("project"), 1);
    return job_run(&wire, path_of("project"), path_of("bin/tidemill-job"));
}

static int run_script(struct slice script) {
    answer_sources();
    put(path_of("answers/artifacts"), SLICE(""));
    put(path_of("answers/artifact-paths"), SLICE("out/\0*.xml\0"));
    put(path_of("answers/script"), script);
    return run_in_child(run_job, NULL);
}

UNIT_TEST(a_job_runs_from_sources_to_result) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    assert_int_equal(
        run_script(SLICE(
            "cat hello.txt\0X='it'\"'\"'s'\ncd /\0echo \"$X in $PWD\"\0mkdir -p \"$CI_PROJECT_DIR/out\" && echo a > \"$CI_PROJECT_DIR/out/a\"\0")),
        0);
    get(path_of("log"), &text);
    assert_non_null(strstr(text.data, "$ cat hello.txt\nhello\n$ X='it'\"'\"'s' …\n$ echo \"$X in $PWD\"\nit's in /\n"));
    get(path_of("sent/result"), &text);
    assert_string_equal(text.data, "{\"exit_code\":0,\"failed_line\":0,\"failed_command\":\"\"}");
    get(path_of("sent/artifacts"), &text);
    assert_true(text.len > 1024);
    assert_non_null(memmem(text.data, text.len, "out/a", 6));
    get(path_of("sent/result.head"), &text);
    assert_non_null(strstr(text.data, "Authorization: Bearer t0ken"));
}

UNIT_TEST(a_failure_names_its_line) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    assert_int_equal(run_script(SLICE("true\0echo \"a\"\nsh -c 'exit 42'\necho never\0echo never\0")), 42);
    get(path_of("log"), &text);
    assert_non_null(strstr(text.data, "ERROR: script line 2 failed: echo \"a\" … (exit code 42)\n"));
    assert_null(strstr(text.data, "never\n"));
    get(path_of("sent/result"), &text);
    assert_string_equal(text.data,
                        "{\"exit_code\":42,\"failed_line\":2,\"failed_command\":\"echo \\u0022a\\u0022\\u000ash -c 'exit 42'\\u000aecho never\"}");
    /* An open quote stays inside its own line. */
    assert_int_not_equal(run_script(SLICE("echo one\0echo 'two\0echo three\0")), 0);
    get(path_of("log"), &text);
    assert_non_null(strstr(text.data, "ERROR: script line 2 failed: echo 'two"));
    assert_int_equal(run_script(SLICE("kill -9 $$\0")), 137);
    assert_int_equal(run_script(SLICE("false | true\0")), access("/bin/bash", X_OK) == 0 ? 1 : 0);
    /* A command that reads its input finds none, not the rest of the script. */
    assert_int_equal(run_script(SLICE("cat\0exit 7\0")), 7);
}

UNIT_TEST(a_refusing_platform_is_not_the_scripts_fault) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    answer_sources();
    unlink(path_of("answers/script"));
    assert_int_equal(run_in_child(run_job, NULL), JOB_EXIT_PLATFORM);
    get(path_of("log"), &text);
    assert_non_null(strstr(text.data, "ERROR: the platform refused the script: nope (status 404)"));
}

static int run_tool(void *userdata) {
    const char *const *words = userdata;
    char *argv[16] = {0};
    int argc = 0;
    for (; words[argc]; argc++)
        argv[argc] = slice_dup(slice_of(words[argc]));
    if (chdir(path_of("context")) < 0)
        return 99;
    return job_tool(&wire, argc, argv);
}

UNIT_TEST(tools_pass_the_exit_code_on) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB);
    mkdir(path_of("context"), 0755);
    mkdir(path_of("context/node_modules"), 0755);
    put(path_of("context/Dockerfile"), SLICE("FROM scratch\n"));
    put(path_of("context/node_modules/big"), SLICE("secret-in-modules"));
    put(path_of("context/app.js"), SLICE("app"));
    put(path_of("context/.dockerignore"), SLICE("node_modules\nDockerfile\n"));
    put(path_of("answers/build"), SLICE("STEP 1\nTIDEMILL-EXITED is no trailer\nlast line\nTIDEMILL-EXIT 3\n"));
    const char *build[] = {"build", "-t", "my app:1", "--build-arg", "A=b&c", NULL};
    assert_int_equal(run_in_child(run_tool, build), 3);
    get(path_of("log"), &text);
    assert_string_equal(text.data, "STEP 1\nTIDEMILL-EXITED is no trailer\nlast line\n");
    get(path_of("sent/build.head"), &text);
    assert_non_null(strstr(text.data, "POST /job/v1/build?tag=my%20app:1&dockerfile=Dockerfile&build_arg=A%3Db%26c HTTP/1.1"));
    get(path_of("sent/build"), &text);
    assert_non_null(memmem(text.data, text.len, "FROM scratch", 12));
    assert_null(memmem(text.data, text.len, "secret-in-modules", 17));
    put(path_of("answers/build"), SLICE("STEP 1\nTIDEMILL-EXIT 0 but more\n"));
    assert_int_equal(run_in_child(run_tool, build), 1);
    const char *missing[] = {"build", "-f", "Nowhere", NULL};
    assert_int_equal(run_in_child(run_tool, missing), 1);
    get(path_of("log"), &text);
    assert_non_null(strstr(text.data, "there is no Nowhere in ."));
    const char *nothing[] = {"apply", NULL};
    assert_int_equal(run_in_child(run_tool, nothing), 2);
    mkdir(path_of("context/deploy"), 0755);
    put(path_of("context/deploy/a.yaml"), SLICE("kind: Service"));
    put(path_of("context/deploy/README"), SLICE("not a manifest"));
    put(path_of("answers/apply"), SLICE("service/a created\nTIDEMILL-EXIT 0"));
    const char *apply[] = {"apply", "-f", "./deploy/", NULL};
    assert_int_equal(run_in_child(run_tool, apply), 0);
    get(path_of("sent/apply"), &text);
    assert_non_null(memmem(text.data, text.len, "kind: Service", 13));
    assert_null(memmem(text.data, text.len, "not a manifest", 14));
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(a_job_runs_from_sources_to_result), UNIT(a_failure_names_its_line),
                                       UNIT(a_refusing_platform_is_not_the_scripts_fault), UNIT(tools_pass_the_exit_code_on)};
    setenv("CI_PROJECT_DIR", "unset", 1);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

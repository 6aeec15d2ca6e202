/* Base images from the distribution's packages, made by mmdebstrap.
 *
 * debian, ubuntu: --variant=minbase (required packages and apt), so that `RUN apt-get install` works as in the images people know; without manuals,
 * translations and most of /usr/share/doc (copyright files stay), and dpkg does not sync each file, in the image too: a container's layer is thrown
 * away after a crash anyway. busybox: one static binary, its links, and the few files without which programs complain (2 MB).
 *
 * 1. Package and release names are checked against Debian's syntax before they become arguments; the hooks, which mmdebstrap gives to a shell, are
 * constants of ours.
 * 2. Nothing of this machine stays in the image: mmdebstrap copies resolv.conf and hostname for its own use, a hook empties them.
 * 3. SOURCE_DATE_EPOCH is today's midnight. A fixed old date would be older than the packages' files, and clamping their times would make Python
 * distrust its byte code.
 * 4. What an image was made from (release, packages, sources) is hashed into its manifest's annotation: the same wish within age_max_s is answered
 * from the registry.
 *
 * mmdebstrap's tar goes to an unlinked file, then registry_image_import_rootfs() takes over. An interrupted mmdebstrap cleans up after itself, so it
 * shares our process group and is not killed with us. */
#include "registry/bootstrap.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "http/http.h"
#include "loop/loop.h"
#include "registry/sources_priv.h"
#include "sys/sys.h"

#define FORMAT_VERSION "1" /* raise when the same packages should give another image */
#define SOURCES_BYTES_MAX (64 * KIB)
#define ARGUMENTS_MAX 48
#define INCLUDES_BYTES_MAX (32 * KIB)
#define REMEMBERED_LINES 6
#define LINE_BYTES_MAX 400
#define DAY_S 86400

static const char debian_hook[] = "rm -f \"$1/etc/hostname\" \"$1/etc/resolv.conf\" && : > \"$1/etc/hostname\" && : > \"$1/etc/resolv.conf\" && rm "
                                  "-rf \"$1\"/var/cache/debconf/*-old";
static const char busybox_hook[] =
    "cd \"$1\" && mkdir -p bin sbin usr/bin usr/sbin etc tmp root proc sys dev run var/tmp var/www && chmod 1777 tmp var/tmp"
    " && { [ -e bin/busybox ] || mv usr/bin/busybox bin/; }" /* where Debian 13 has it */
    " && chroot \"$1\" /bin/busybox --install -s"
    " && printf 'root:x:0:0:root:/root:/bin/sh\\nwww-data:x:33:33:www-data:/var/www:/bin/false\\nnobody:x:65534:65534:nobody:/:/bin/false\\n' > "
    "etc/passwd"
    " && printf 'root:x:0:\\nwww-data:x:33:\\nnogroup:x:65534:\\n' > etc/group && printf 'hosts: files dns\\n' > etc/nsswitch.conf && rm -rf "
    "tmp/mmdebstrap.* etc/apt etc/dpkg etc/fstab usr/share var/lib/apt var/lib/dpkg var/cache var/log"
    " && rm -f etc/hostname etc/resolv.conf && : > etc/hostname && : > etc/resolv.conf";

static const char *const debian_arguments[] = {
    "--variant=minbase",
    "--aptopt=Acquire::Languages \"none\"",
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    NULL,
};
/* extract unpacks without running any package's scripts; the hook removes what apt and dpkg leave, which mmdebstrap's own cleanup would miss. */
static const char *const busybox_arguments[] = {"--variant=extract", "--skip=cleanup", "--aptopt=Acquire::Languages \"none\"", NULL};

struct bootstrap {
    const struct bootstrap_options *options;
    struct oci_reference reference;
    bool is_busybox;
    char name[OCI_NAME_MAX + 1];
    char suite[64];
    char key[65];           /* see 4 */
    struct buffer includes; /* "a,b,c"; empty: none */
    struct buffer sources;
    char lines[REMEMBERED_LINES][LINE_BYTES_MAX]; /* mmdebstrap's last words */
    size_t lines_count;
};

static void bootstrap_deinit(struct bootstrap *bootstrap) {
    buffer_deinit(&bootstrap->includes);
    buffer_deinit(&bootstrap->sources);
}

static void progress(struct bootstrap *bootstrap, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void progress(struct bootstrap *bootstrap, const char *format, ...) {
    char line[LINE_BYTES_MAX + 64];
    if (!bootstrap->options->on_progress)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    bootstrap->options->on_progress(bootstrap->options->userdata, line);
}

/* --- the wish --- */

/* Debian Policy 5.6.1, with an optional =version or /release as apt reads them. */
static bool package_is_valid(struct slice name) {
    if (name.len < 2 || name.len > 200)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        bool inner = c == '+' || c == '.' || c == '-' || c == ':' || c == '=' || c == '~' || c == '/' || (c >= 'A' && c <= 'Z');
        if (!plain && !(i > 0 && inner))
            return false;
    }
    return true;
}

static int compare_texts(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted, without doubles, so that the same wish in another order is the same wish. */
static int read_includes(struct bootstrap *bootstrap, struct diag *diag) {
    const char *names[BOOTSTRAP_INCLUDES_MAX];
    size_t count = 0;
    const char *const *includes = bootstrap->options->includes;
    for (; includes && includes[count]; count++) {
        if (count == BOOTSTRAP_INCLUDES_MAX)
            return diag_set(diag, -E2BIG, "at most %d packages may be included; install more with RUN apt-get install in a Dockerfile",
                            BOOTSTRAP_INCLUDES_MAX);
        if (!package_is_valid(slice_of(includes[count])))
            return diag_set(diag, -EINVAL, "\"%s\" is no valid name of a package", includes[count]);
        names[count] = includes[count];
    }
    qsort(names, count, sizeof names[0], compare_texts);
    if (bootstrap->is_busybox)
        buffer_append_text(&bootstrap->includes, "busybox-static");
    for (size_t i = 0; i < count; i++) {
        if ((i > 0 && strcmp(names[i], names[i - 1]) == 0) || (bootstrap->is_busybox && strcmp(names[i], "busybox-static") == 0))
            continue;
        buffer_printf(&bootstrap->includes, "%s%s", bootstrap->includes.len ? "," : "", names[i]);
    }
    return buffer_error(&bootstrap->includes) ? diag_set(diag, -E2BIG, "the names of the included packages are too long") : 0;
}

static int make_key(struct bootstrap *bootstrap, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(INCLUDES_BYTES_MAX + SOURCES_BYTES_MAX + KIB);
    buffer_printf(&text, "%s\n%s\n%s\n%s\n", FORMAT_VERSION, bootstrap->is_busybox ? "busybox" : "minbase", bootstrap->suite,
                  bootstrap->includes.len ? bootstrap->includes.data : "");
    buffer_append_slice(&text, buffer_slice(&bootstrap->sources));
    if (buffer_error(&text))
        return diag_set(diag, buffer_error(&text), "the list of packages is too long");
    digest_sha256_hex(buffer_slice(&text), bootstrap->key);
    return 0;
}

static int understand(struct bootstrap *bootstrap, struct diag *diag) {
    const struct bootstrap_options *options = bootstrap->options;
    int r = oci_reference_parse(slice_of(options->image), &bootstrap->reference, diag);
    if (r < 0)
        return r;
    if (!bootstrap->reference.tag[0] || oci_reference_local_name(&bootstrap->reference, NULL, bootstrap->name) < 0)
        return diag_set(diag, -EINVAL, "\"%s\": expected a name and a tag, such as debian:12", options->image);
    bootstrap->is_busybox = strcmp(bootstrap->name, "busybox") == 0;
    if (options->suite && !package_is_valid(slice_of(options->suite)))
        return diag_set(diag, -EINVAL, "\"%s\" is no valid name of a release", options->suite);
    if (options->suite)
        snprintf(bootstrap->suite, sizeof bootstrap->suite, "%s", options->suite);
    else
        r = sources_find_suite(bootstrap->name, bootstrap->reference.tag, bootstrap->suite, diag);
    r = r ? r : read_includes(bootstrap, diag);
    r = r ? r : bootstrap_collect_sources(options->apt_folder, bootstrap->suite, &bootstrap->sources, diag);
    return r ? r : make_key(bootstrap, diag);
}

/* True when the registry has what is asked for, young enough. */
static bool find_cached(struct bootstrap *bootstrap, struct bootstrap_result *ret) {
    const struct bootstrap_options *options = bootstrap->options;
    struct registry_image_facts facts;
    int64_t now_s = sys_wall_ns() / 1000000000, age_max_s = options->age_max_s ? options->age_max_s : BOOTSTRAP_AGE_MAX_S_DEFAULT;
    if (options->refresh || registry_image_inspect(&options->endpoint, bootstrap->name, bootstrap->reference.tag, &facts, NULL) < 0)
        return false;
    if (strcmp(facts.annotation, bootstrap->key) != 0 || facts.created_s > now_s || now_s - facts.created_s > age_max_s)
        return false;
    *ret = (struct bootstrap_result){.digest = facts.digest, .cached = true};
    return true;
}

/* --- mmdebstrap --- */

/* A pipe's or file's worth of text for the child to read. */
static int open_input(struct slice text) {
    CLEANUP(fd_closep) int fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int r = sys_write_all(fd, text);
    if (r < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return r < 0 ? r : -errno;
    return TAKE_FD(fd);
}

/* "I: running apt-get update..." becomes a line for a person; everything is remembered for the error message. */
static void on_line(struct bootstrap *bootstrap, struct slice line) {
    static const struct {
        const char *prefix, *text;
    } phases[] = {
        {"I: running apt-get update", "Reading the package lists"},
        {"I: downloading packages", "Downloading the packages"},
        {"I: extracting archives", "Unpacking the base system"},
        {"I: installing essential packages", "Installing the base system"},
        {"I: installing remaining packages", "Installing the other packages"},
        {"I: creating tarball", "Packing the image"},
    };
    line = slice_trim(line);
    for (size_t i = 0; i < ARRAY_LEN(phases); i++) {
        if (slice_starts(line, slice_of(phases[i].prefix)))
            progress(bootstrap, "%s", phases[i].text);
    }
    if (line.len == 0 || slice_starts(line, SLICE("I: ")))
        return;
    snprintf(bootstrap->lines[bootstrap->lines_count++ % REMEMBERED_LINES], LINE_BYTES_MAX, "%.*s", SLICE_ARG(line));
}

static void read_lines(struct bootstrap *bootstrap, int fd) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64 * KIB);
    for (;;) {
        if (buffer_reserve(&text, 4096) < 0)
            buffer_reset(&text); /* a line without end is not worth keeping */
        if (buffer_reserve(&text, 4096) < 0)
            return;
        ssize_t n = read(fd, text.data + text.len, 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        buffer_commit(&text, (size_t)n);
        for (ptrdiff_t end; (end = slice_index(buffer_slice(&text), '\n')) >= 0; buffer_consume(&text, (size_t)end + 1))
            on_line(bootstrap, slice_head(buffer_slice(&text), (size_t)end));
    }
    on_line(bootstrap, buffer_slice(&text));
}

static int failed(struct bootstrap *bootstrap, int status, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(DIAG_TEXT_MAX);
    size_t first = bootstrap->lines_count > REMEMBERED_LINES ? bootstrap->lines_count - REMEMBERED_LINES : 0;
    for (size_t i = first; i < bootstrap->lines_count; i++)
        buffer_printf(&text, "\n  %.*s", 90, bootstrap->lines[i % REMEMBERED_LINES]);
    if (WIFSIGNALED(status))
        return diag_set(diag, -EINTR, "mmdebstrap was ended by signal %d", WTERMSIG(status));
    diag_set(diag, -EIO, "mmdebstrap failed with status %d:%s", WEXITSTATUS(status), text.data ? text.data : "");
    return diag_hint(diag, -EIO, "check that the packages exist in %s and that its archive can be reached", bootstrap->suite);
}

static int spawn(struct bootstrap *bootstrap, const char *const *argv, int tar_fd, struct diag *diag) {
    CLEANUP(fd_closep) int input = open_input(buffer_slice(&bootstrap->sources));
    int ends[2];
    if (input < 0 || pipe2(ends, O_CLOEXEC) < 0)
        return diag_set(diag, input < 0 ? input : -errno, "cannot start mmdebstrap: %s", strerror(input < 0 ? -input : errno));
    char epoch[64];
    snprintf(epoch, sizeof epoch, "SOURCE_DATE_EPOCH=%" PRId64, sys_wall_ns() / 1000000000 / DAY_S * DAY_S);
    const char *proxy = getenv("http_proxy");
    char proxy_text[512];
    snprintf(proxy_text, sizeof proxy_text, "http_proxy=%s", proxy ? proxy : "");
    const char *const environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                       "LC_ALL=C.UTF-8",
                                       "DEBIAN_FRONTEND=noninteractive",
                                       "TMPDIR=/var/tmp",
                                       epoch,
                                       proxy ? proxy_text : NULL,
                                       NULL};
    pid_t pid = -1;
    int status = 0;
    const struct loop_spawn_options options = {.argv = argv, .envp = environment, .stdin_fd = input, .stdout_fd = tar_fd, .stderr_fd = ends[1]};
    int r = loop_spawn(&options, &pid);
    close(ends[1]);
    if (r == 0) {
        read_lines(bootstrap, ends[0]);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            continue;
    }
    close(ends[0]);
    if (r == -ENOENT) {
        diag_set(diag, r, "the program mmdebstrap is not installed");
        return diag_hint(diag, r, "apt-get install mmdebstrap");
    }
    if (r < 0)
        return diag_set(diag, r, "cannot start mmdebstrap: %s", strerror(-r));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : failed(bootstrap, status, diag);
}

static int run_mmdebstrap(struct bootstrap *bootstrap, int tar_fd, struct diag *diag) {
    const char *argv[ARGUMENTS_MAX] = {"mmdebstrap", "--mode=root", "--format=tar"};
    CLEANUP(buffer_deinit) struct buffer include = BUFFER_INIT(INCLUDES_BYTES_MAX + 32), hook = BUFFER_INIT(4 * KIB);
    const char *const *more = bootstrap->is_busybox ? busybox_arguments : debian_arguments;
    size_t count = 3;
    for (size_t i = 0; more[i]; i++)
        argv[count++] = more[i];
    buffer_printf(&hook, "%s=%s", bootstrap->is_busybox ? "--extract-hook" : "--customize-hook", bootstrap->is_busybox ? busybox_hook : debian_hook);
    argv[count++] = hook.data;
    if (bootstrap->includes.len) {
        buffer_printf(&include, "--include=%s", bootstrap->includes.data);
        argv[count++] = include.data;
    }
    if (buffer_error(&hook) || buffer_error(&include))
        return diag_set(diag, -ENOMEM, "out of memory");
    argv[count++] = bootstrap->suite;
    argv[count++] = "-"; /* the tar to standard output */
    argv[count++] = "-"; /* the sources from standard input */
    ASSERT(count < ARGUMENTS_MAX);
    return spawn(bootstrap, argv, tar_fd, diag);
}

/* --- the whole --- */

static int make_image(struct bootstrap *bootstrap, struct oci_digest *ret, struct diag *diag) {
    static const char *const bash[] = {"bash", NULL}, *const sh[] = {"sh", NULL};
    CLEANUP(fd_closep) int tar = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (tar < 0)
        return diag_set(diag, -errno, "cannot make a temporary file in /var/tmp: %s", strerror(errno));
    int r = run_mmdebstrap(bootstrap, tar, diag);
    if (r < 0)
        return r;
    if (lseek(tar, 0, SEEK_SET) < 0)
        return diag_set(diag, -errno, "cannot read the image back: %s", strerror(errno));
    const struct registry_import_options import = {
        .endpoint = bootstrap->options->endpoint,
        .name = bootstrap->name,
        .tag = bootstrap->reference.tag,
        .command = bootstrap->is_busybox ? sh : bash,
        .annotation = bootstrap->key,
        .created_s = sys_wall_ns() / 1000000000,
        .on_progress = bootstrap->options->on_progress,
        .userdata = bootstrap->options->userdata,
    };
    return registry_image_import_rootfs(&import, tar, ret, diag);
}

int registry_bootstrap(const struct bootstrap_options *options, struct bootstrap_result *ret, struct diag *diag) {
    struct bootstrap bootstrap = {.options = options, .includes = BUFFER_INIT(INCLUDES_BYTES_MAX), .sources = BUFFER_INIT(SOURCES_BYTES_MAX)};
    struct oci_digest digest;
    int r = understand(&bootstrap, diag);
    if (r == 0 && find_cached(&bootstrap, ret)) {
        progress(&bootstrap, "%s:%s is there already", bootstrap.name, bootstrap.reference.tag);
    } else if (r == 0) {
        progress(&bootstrap, "Making %s:%s from the packages of %s", bootstrap.name, bootstrap.reference.tag, bootstrap.suite);
        r = geteuid() == 0 ? make_image(&bootstrap, &digest, diag)
                           : diag_set(diag, -EPERM, "making a base image needs root: run this command with sudo");
        if (r == 0)
            *ret = (struct bootstrap_result){.digest = digest};
    }
    bootstrap_deinit(&bootstrap);
    return r;
}

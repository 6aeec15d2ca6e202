/* `tidemill image pull|push|login|logout`: images of other registries. The work is done by the platform (src/registry/registry_remote.c); here its
 * answer is shown as it comes: progress on a terminal, what happened at the end. */
#include "cli/functions_priv.h"
#include "cli/session_priv.h"
#include "cli/terminal_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <termios.h>
#include <unistd.h>

#include "registry/registry.h"
#include "sys/sys.h"

#define PASSWORD_BYTES_MAX (32 * KIB)

/* The answer, line by line. */
struct show {
    struct buffer line;
    char last[2 * DIAG_TEXT_MAX]; /* the last that is no sign of ours */
    bool ended, good, on_terminal, has_progress;
};

static void wipe_progress(struct show *show) {
    if (show->has_progress)
        fputs("\r\x1b[K", stderr);
    show->has_progress = false;
}

static void take_line(struct show *show, struct slice line) {
    if (slice_starts(line, SLICE("TIDEMILL-EXIT "))) {
        show->ended = true;
        show->good = slice_is(line, "TIDEMILL-EXIT 0");
        return;
    }
    if (slice_starts(line, SLICE("TIDEMILL-")))
        return;
    snprintf(show->last, sizeof show->last, "%.*s", SLICE_ARG(slice_head(line, sizeof show->last - 1)));
    if (show->on_terminal && slice_ends(line, SLICE(" MB"))) {
        fprintf(stderr, "\r\x1b[K%s", show->last);
        show->has_progress = true;
    }
}

static void on_data(void *userdata, struct slice data) {
    struct show *show = userdata;
    buffer_append_slice(&show->line, data);
    for (ptrdiff_t end; (end = slice_index(buffer_slice(&show->line), '\n')) >= 0;) {
        take_line(show, slice_head(buffer_slice(&show->line), (size_t)end));
        buffer_consume(&show->line, (size_t)end + 1);
    }
}

/* POST, and what comes of it. body: a docker config.json, or nothing. */
static int ask(const struct invocation *invocation, struct session *session, const char *path, struct slice body) {
    struct diag diag = DIAG_INIT;
    struct show show = {.line = BUFFER_INIT(64 * KIB), .on_terminal = isatty(STDERR_FILENO)};
    (void)invocation;
    int r = session_stream(session, "POST", path, body.len ? "application/json" : NULL, body, on_data, &show, &diag);
    wipe_progress(&show);
    buffer_deinit(&show.line);
    if (r < 0)
        return terminal_error(&diag);
    if (!show.ended)
        return terminal_error_text("the platform went away meanwhile");
    if (!show.good)
        return terminal_error_text("%s", show.last);
    printf("%s\n", show.last);
    return 0;
}

/* --auth-file's content; empty without. */
static int read_auth_file(const struct invocation *invocation, struct buffer *out) {
    const char *path = invocation_text(invocation, "auth-file");
    int r = path ? sys_read_file(AT_FDCWD, path, DOCKER_CONFIG_BYTES_MAX, out) : 0;
    return r < 0 ? terminal_error_text("cannot read %s: %s", path, strerror(-r)) : 0;
}

static int transfer(const struct invocation *invocation, const char *path) {
    CLEANUP(buffer_deinit) struct buffer auth = BUFFER_INIT(DOCKER_CONFIG_BYTES_MAX + 1);
    struct diag diag = DIAG_INIT;
    struct session session;
    if (read_auth_file(invocation, &auth))
        return 1;
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    int code = ask(invocation, &session, path, buffer_slice(&auth));
    session_close(&session);
    if (auth.data)
        explicit_bzero(auth.data, auth.len);
    return code;
}

int run_image_pull(const struct invocation *invocation) {
    CLEANUP(buffer_deinit) struct buffer path = BUFFER_INIT(8 * KIB);
    const char *platform = invocation_text(invocation, "platform");
    buffer_printf(&path, "/v2/_tidemill/pull?insecure=%d&reference=", invocation_bool(invocation, "insecure"));
    percent_encode(&path, slice_of(invocation->arguments[0]));
    if (platform) {
        buffer_append_text(&path, "&platform=");
        percent_encode(&path, slice_of(platform));
    }
    return buffer_error(&path) ? terminal_error_text("the image's name is too long") : transfer(invocation, path.data);
}

int run_image_push(const struct invocation *invocation) {
    CLEANUP(buffer_deinit) struct buffer path = BUFFER_INIT(8 * KIB);
    const char *source = invocation->arguments[0], *target = invocation->arguments_count > 1 ? invocation->arguments[1] : source;
    struct slice tag = slice_of(source), name = slice_cut(&tag, ':');
    if (!oci_name_is_valid(name) || !oci_tag_is_valid(tag))
        return terminal_error_text("expected NAME:TAG, as `tidemill image list` shows it, and where to push it: REGISTRY/NAME:TAG");
    buffer_printf(&path, "/v2/_tidemill/push?insecure=%d&source=", invocation_bool(invocation, "insecure"));
    percent_encode(&path, slice_of(source));
    buffer_append_text(&path, "&reference=");
    percent_encode(&path, slice_of(target));
    return buffer_error(&path) ? terminal_error_text("the image's name is too long") : transfer(invocation, path.data);
}

/* --- logging in --- */

/* A line of standard input, not shown when that is a terminal. */
static int read_password(struct buffer *out) {
    struct termios shown, hidden;
    bool on_terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &shown) == 0;
    if (on_terminal) {
        fputs("Password: ", stderr);
        hidden = shown;
        hidden.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
    }
    char bytes[512];
    ssize_t n;
    while ((n = read(STDIN_FILENO, bytes, sizeof bytes)) > 0 && buffer_append(out, bytes, (size_t)n) == 0 && bytes[n - 1] != '\n')
        ;
    explicit_bzero(bytes, sizeof bytes);
    if (on_terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
        fputc('\n', stderr);
    }
    while (out->len && (out->data[out->len - 1] == '\n' || out->data[out->len - 1] == '\r'))
        out->data[--out->len] = 0;
    return n < 0 || buffer_error(out) || !out->len ? -EINVAL : 0;
}

static void login_path(const char *registry, bool insecure, struct buffer *out) {
    buffer_printf(out, "/v2/_tidemill/login?insecure=%d&registry=", insecure);
    percent_encode(out, slice_of(registry));
}

int run_image_login(const struct invocation *invocation) {
    CLEANUP(buffer_deinit) struct buffer path = BUFFER_INIT(4 * KIB), password = BUFFER_INIT(PASSWORD_BYTES_MAX), body = BUFFER_INIT(128 * KIB);
    const char *registry = invocation->arguments[0], *user = invocation_text(invocation, "username");
    struct diag diag = DIAG_INIT;
    struct session session;
    if (!user)
        return terminal_error_text("who? Give --username NAME; the password is read from standard input");
    login_path(registry, invocation_bool(invocation, "insecure"), &path);
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    int code;
    if (read_password(&password) < 0 || buffer_error(&path) || docker_config_format(&body, registry, user, buffer_slice(&password)) < 0)
        code = terminal_error_text("expected a password on standard input");
    else
        code = ask(invocation, &session, path.data, buffer_slice(&body));
    if (password.data)
        explicit_bzero(password.data, password.len);
    if (body.data)
        explicit_bzero(body.data, body.len);
    session_close(&session);
    return code;
}

int run_image_logout(const struct invocation *invocation) {
    CLEANUP(buffer_deinit) struct buffer path = BUFFER_INIT(4 * KIB);
    struct diag diag = DIAG_INIT;
    struct session session;
    struct session_answer answer;
    login_path(invocation->arguments[0], false, &path);
    if (session_open(invocation, &session, &diag) < 0)
        return terminal_error(&diag);
    int r = buffer_error(&path) ? buffer_error(&path) : session_call(&session, "DELETE", path.data, NULL, (struct slice){NULL, 0}, &answer, &diag);
    if (r == 0)
        printf("the credentials for %s are gone\n", invocation->arguments[0]);
    session_close(&session);
    return r < 0 ? terminal_error(&diag) : 0;
}

/* `tidemill audit`: reads the audit log's files (api/audit_log.c) where they are, so it also works when the platform is down. Following waits for the
 * folder to change; a rotation in between loses nothing, since the old file is read to its end first. */
#include "cli/functions_priv.h"
#include "cli/session_priv.h"
#include "cli/settings_priv.h"
#include "cli/terminal_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "http/http.h"
#include "sys/sys.h"

#define FILE_BYTES_MAX (32 * MIB)
#define LINE_ARENA_BYTES_MAX (4 * MIB)
#define CHAIN ",\"tidemill.dev/chain\":\""

struct reader {
    const struct invocation *invocation;
    const char *folder;
    struct arena *arena; /* of one line */
    bool json, verify;
    int64_t skip; /* matching lines not to be shown: all but the last so many */
    int64_t matched;
    bool counting; /* only count */
    /* verifying */
    char chain[65];
    bool begun;
    size_t lines, broken;
    /* following */
    ino_t inode;
    off_t offset; /* behind the last whole line that was read */
};

/* --- one line --- */

static const char *field(const struct tree *event, const char *path) {
    return tree_text_or(tree_path(event, path), "");
}

static bool same(const struct reader *reader, const char *flag, const char *value) {
    const char *wanted = invocation_text(reader->invocation, flag);
    return !wanted || !strcmp(wanted, value);
}

static bool is_wanted(const struct reader *reader, const struct tree *event) {
    return (same(reader, "by", field(event, "user.username")) || same(reader, "by", field(event, "impersonatedUser.username"))) &&
           same(reader, "namespace", field(event, "objectRef.namespace")) && same(reader, "verb", field(event, "verb")) &&
           same(reader, "resource", field(event, "objectRef.resource"));
}

static void print_event(struct arena *arena, const struct tree *event) {
    const char *user = field(event, "user.username"), *other = field(event, "impersonatedUser.username");
    const char *namespace = field(event, "objectRef.namespace"), *resource = field(event, "objectRef.resource");
    const char *sub = field(event, "objectRef.subresource"), *name = field(event, "objectRef.name");
    const struct tree *code = tree_path(event, "responseStatus.code");
    char time[24], number[16] = "-";
    snprintf(time, sizeof time, "%.19sZ", field(event, "requestReceivedTimestamp"));
    if (code)
        snprintf(number, sizeof number, "%" PRId64, tree_int_or(code, 0));
    char *who = *other ? arena_printf(arena, "%s as %s", user, other) : arena_strdup(arena, user);
    char *what = *resource
                     ? arena_printf(arena, "%s%s%s%s%s%s%s", namespace, *namespace ? "/" : "", resource, *sub ? "/" : "", sub, *name ? "/" : "", name)
                     : arena_strdup(arena, field(event, "requestURI"));
    printf("%-20s  %-24s  %-16s  %-3s  %-44s  %s\n", time, who ? who : "", field(event, "verb"), number, what ? what : "",
           tree_text_or(tree_at(tree_find(event, "sourceIPs"), 0), ""));
}

/* Whether the line's chain follows from the chain so far. The first line that is seen is taken for right: what came before may be gone. */
static void check_chain(struct reader *reader, struct slice line) {
    ptrdiff_t at = slice_find(line, SLICE(CHAIN));
    struct digest *digest = digest_new();
    char expected[65];
    reader->lines++;
    if (at < 0 || line.len < (size_t)at + sizeof CHAIN - 1 + 64 || !digest) {
        reader->broken++;
        printf("line %zu bears no chain: it was torn by a crash, or is not ours\n", reader->lines);
        snprintf(reader->chain, sizeof reader->chain, "torn");
        digest_free(digest);
        return;
    }
    digest_update(digest, slice_of(reader->chain));
    digest_update(digest, slice_head(line, (size_t)at));
    digest_update(digest, SLICE("}}"));
    digest_finish_hex(digest, expected);
    digest_free(digest);
    const char *given = line.data + at + sizeof CHAIN - 1;
    if (reader->begun && memcmp(given, expected, 64) != 0) {
        reader->broken++;
        printf("line %zu does not follow from what stands before it: something was changed or removed there\n", reader->lines);
    }
    snprintf(reader->chain, sizeof reader->chain, "%.64s", given);
    reader->begun = true;
}

static void on_line(struct reader *reader, struct slice line) {
    struct tree *event = NULL;
    struct diag diag = DIAG_INIT;
    if (!line.len)
        return;
    if (reader->verify) {
        check_chain(reader, line);
        return;
    }
    arena_reset(reader->arena);
    if (json_parse(reader->arena, line, NULL, &event, &diag) || !is_wanted(reader, event))
        return;
    reader->matched++;
    if (reader->counting || reader->matched <= reader->skip)
        return;
    if (reader->json)
        printf("%.*s\n", SLICE_ARG(line));
    else
        print_event(reader->arena, event);
}

/* --- files --- */

/* The whole lines of an open file from `offset` on; returns where the next read begins. */
static off_t read_lines(struct reader *reader, int fd, off_t offset) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(FILE_BYTES_MAX);
    ssize_t len = 1;
    while (len > 0 && buffer_reserve(&text, 64 * KIB) == 0) {
        len = pread(fd, text.data + text.len, 64 * KIB, offset + (off_t)text.len);
        buffer_commit(&text, len > 0 ? (size_t)len : 0);
    }
    struct slice rest = buffer_slice(&text);
    while (rest.len) {
        ptrdiff_t end = slice_index(rest, '\n');
        if (end < 0)
            break;
        on_line(reader, slice_head(rest, (size_t)end));
        rest = slice_from(rest, (size_t)end + 1);
    }
    return offset + (off_t)(text.len - rest.len);
}

static int open_in(const struct reader *reader, const char *name) {
    char path[800];
    snprintf(path, sizeof path, "%s/%s", reader->folder, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static void read_rotated(struct reader *reader, const char *name) {
    int fd = open_in(reader, name);
    struct stat status;
    if (fd < 0)
        return;
    if (fstat(fd, &status) == 0)
        read_lines(reader, fd, status.st_ino == reader->inode ? reader->offset : 0);
    close(fd);
}

static int is_rotated(const struct dirent *entry) {
    struct slice name = slice_of(entry->d_name);
    return slice_starts(name, SLICE("audit-")) && slice_ends(name, SLICE(".log"));
}

/* From the oldest on. -ENOENT: there is no log. */
static int read_all(struct reader *reader) {
    struct dirent **names = NULL;
    struct stat status;
    int count = scandir(reader->folder, &names, is_rotated, alphasort), error = count < 0 ? -errno : 0;
    reader->inode = 0;
    for (int i = 0; i < count; i++) {
        read_rotated(reader, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    int fd = error ? -1 : open_in(reader, "audit.log");
    if (fd < 0)
        return error ? error : count > 0 ? 0 : -errno;
    reader->offset = read_lines(reader, fd, 0);
    reader->inode = fstat(fd, &status) == 0 ? status.st_ino : 0;
    close(fd);
    return 0;
}

/* What was rotated since is read to its end first: the file we were at has another name by now. */
static void read_new(struct reader *reader) {
    struct stat status;
    int fd = open_in(reader, "audit.log");
    if (fd < 0)
        return;
    if (fstat(fd, &status) == 0 && status.st_ino != reader->inode) {
        struct dirent **names = NULL;
        int count = scandir(reader->folder, &names, is_rotated, alphasort);
        if (count > 0)
            read_rotated(reader, names[count - 1]->d_name);
        for (int i = 0; i < count; i++)
            free(names[i]);
        free(names);
        reader->inode = status.st_ino;
        reader->offset = 0;
    }
    reader->offset = read_lines(reader, fd, reader->offset);
    close(fd);
    fflush(stdout);
}

static int follow(struct reader *reader) {
    char events[4096] __attribute__((aligned(8)));
    int fd = inotify_init1(IN_CLOEXEC);
    if (fd < 0 || inotify_add_watch(fd, reader->folder, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0) {
        int error = -errno;
        if (fd >= 0)
            close(fd);
        return error;
    }
    read_new(reader); /* what came before the watch was there */
    while (read(fd, events, sizeof events) > 0)
        read_new(reader);
    close(fd);
    return 0;
}

/* --- the command --- */

static int show(struct reader *reader) {
    const struct invocation *invocation = reader->invocation;
    int r = 0;
    if (invocation_given(invocation, "tail")) {
        reader->counting = true;
        r = read_all(reader);
        reader->skip = MAX(0, reader->matched - invocation_number(invocation, "tail"));
        reader->counting = false;
        reader->matched = 0;
    }
    if (!reader->json && !reader->verify)
        printf("%-20s  %-24s  %-16s  %-3s  %-44s  %s\n", "TIME", "USER", "VERB", "", "OBJECT", "FROM");
    r = r ? r : read_all(reader);
    fflush(stdout);
    return r == 0 && invocation_bool(invocation, "follow") ? follow(reader) : r;
}

int run_audit(const struct invocation *invocation) {
    struct settings settings;
    struct diag diag = DIAG_INIT;
    if (settings_read_running(invocation, &settings, &diag) < 0)
        return terminal_error(&diag);
    CLEANUP(arena_freep) struct arena *arena = arena_new(LINE_ARENA_BYTES_MAX);
    struct reader reader = {.invocation = invocation,
                            .folder = settings_path(&settings, settings.state, "core/audit"),
                            .arena = arena,
                            .json = session_wants_json(invocation),
                            .verify = invocation_bool(invocation, "verify")};
    int r = arena ? show(&reader) : -ENOMEM, result = 0;
    if (r < 0) {
        diag_set(&diag, r, "cannot read the audit log in %s: %s", reader.folder, strerror(-r));
        diag_hint(&diag, r, r == -ENOENT ? "it is begun when the platform starts: `tidemill up`" : "run this as root");
        result = terminal_error(&diag);
    } else if (reader.verify) {
        printf("%zu lines, %s\n", reader.lines, reader.broken ? "not whole" : "whole");
        result = reader.broken != 0;
    }
    settings_deinit(&settings);
    return result;
}

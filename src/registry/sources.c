/* The machine's apt sources, as far as they are the distribution's own.
 *
 * An image should hold what its name says: `debian:12` is Debian 12 from Debian's archives (or a mirror of them), not that plus whatever third-party
 * repositories this machine uses. So of all sources (one-line format in *.list, deb822 in *.sources; sources.list(5)) those are kept that
 *   - offer binary packages from the component main for a suite of a known release, its -updates or its -security, and
 *   - are signed by the distribution's keyring, or, when nothing is said about keys, have the path of a distribution's archive (…/debian,
 * …/debian-security, …/ubuntu). Their suites are rewritten to the wanted release, so a machine of one release can bootstrap another from the same
 * mirror. */
#include "registry/sources_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "registry/bootstrap.h"
#include "sys/sys.h"

#define FILE_BYTES_MAX (256 * KIB)
#define FILES_MAX 200

static const struct release {
    const char *distribution, *version, *codename;
} releases[] = {
    {"debian", "11", "bullseye"}, {"debian", "12", "bookworm"},    {"debian", "13", "trixie"},
    {"debian", "14", "forky"},    {"debian", "unstable", "sid"},   {"ubuntu", "22.04", "jammy"},
    {"ubuntu", "24.04", "noble"}, {"ubuntu", "25.10", "questing"}, {"ubuntu", "26.04", "resolute"},
};

static const struct release *find_release(struct slice codename) {
    for (size_t i = 0; i < ARRAY_LEN(releases); i++) {
        if (slice_is(codename, releases[i].codename))
            return &releases[i];
    }
    return NULL;
}

/* --- image name → suite --- */

static void read_own_codename(char ret[64]) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64 * KIB);
    ret[0] = 0;
    if (sys_read_file(AT_FDCWD, "/etc/os-release", 32 * KIB, &text) < 0)
        return;
    for (struct slice rest = buffer_slice(&text); rest.data;) {
        struct slice line = slice_cut(&rest, '\n');
        if (!slice_starts(line, SLICE("VERSION_CODENAME=")))
            continue;
        struct slice value = slice_trim(slice_from(line, 17));
        if (value.len >= 2 && value.data[0] == '"')
            value = slice_make(value.data + 1, value.len - 2);
        snprintf(ret, 64, "%.*s", SLICE_ARG(value));
    }
}

int sources_find_suite(const char *name, const char *tag, char ret[64], struct diag *diag) {
    struct slice version = slice_of(tag);
    bool busybox = strcmp(name, "busybox") == 0;
    char own[64];
    if (slice_ends(version, SLICE("-slim")))
        version = slice_head(version, version.len - 5);
    if (busybox || slice_is(version, "latest")) {
        read_own_codename(own);
        const struct release *release = find_release(slice_of(own));
        if (release && (busybox || strcmp(release->distribution, name) == 0)) {
            snprintf(ret, 64, "%s", own);
            return 0;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(releases); i++) {
        if (strcmp(releases[i].distribution, name) == 0 && (slice_is(version, releases[i].version) || slice_is(version, releases[i].codename))) {
            snprintf(ret, 64, "%s", releases[i].codename);
            return 0;
        }
    }
    diag_set(diag, -EINVAL, "no release is known for the image %s:%s", name, tag);
    return diag_hint(diag, -EINVAL, "use debian:12, debian:13, ubuntu:24.04 or busybox, or name the release with --suite");
}

/* --- reading sources --- */

/* One source, lists separated by blanks; borrowed from the file. */
struct source {
    struct slice types, uris, suites, components, signed_by;
    bool disabled;
};

struct collector {
    const char *suite;
    const struct release *release; /* of the wanted suite; NULL: unknown, then only its literal name fits */
    struct buffer *out;
    size_t found;
};

/* The next word of a list, empty at its end. */
static struct slice next_word(struct slice *rest) {
    *rest = slice_trim(*rest);
    size_t length = 0;
    while (length < rest->len && !strchr(" \t\r\n", rest->data[length]))
        length++;
    struct slice word = slice_head(*rest, length);
    *rest = slice_from(*rest, length);
    return word;
}

static bool has_word(struct slice list, const char *word) {
    for (struct slice found; (found = next_word(&list)).len;) {
        if (slice_is(found, word))
            return true;
    }
    return false;
}

/* "-updates", "-security" or "" behind the codename of a release of the wanted distribution; false when the suite is something else (backports,
 * another vendor's). */
static bool suite_ending(const struct collector *collector, struct slice suite, struct slice *ret_ending) {
    static const char *const endings[] = {"", "-updates", "-security"};
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        struct slice ending = slice_of(endings[i]);
        if (!slice_ends(suite, ending))
            continue;
        struct slice codename = slice_head(suite, suite.len - ending.len);
        const struct release *release = find_release(codename);
        bool same = release && collector->release ? strcmp(release->distribution, collector->release->distribution) == 0
                                                  : slice_is(codename, collector->suite);
        if (same) {
            *ret_ending = ending;
            return true;
        }
    }
    return false;
}

static bool is_own_archive(struct slice uri, struct slice signed_by) {
    static const char *const folders[] = {"debian", "debian-security", "ubuntu", "ubuntu-ports"};
    if (!slice_starts(uri, SLICE("http://")) && !slice_starts(uri, SLICE("https://")) && !slice_starts(uri, SLICE("file:")) &&
        !slice_starts(uri, SLICE("mirror+")))
        return false;
    if (signed_by.len)
        return slice_find(signed_by, SLICE("debian-archive")) >= 0 || slice_find(signed_by, SLICE("ubuntu-archive")) >= 0;
    while (uri.len && uri.data[uri.len - 1] == '/')
        uri.len--;
    const char *slash = uri.len ? memrchr(uri.data, '/', uri.len) : NULL;
    struct slice last = slash ? slice_from(uri, (size_t)(slash + 1 - uri.data)) : uri;
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        if (slice_is(last, folders[i]))
            return true;
    }
    return false;
}

/* Appends the lines that a source gives, each once. */
static void add_source(struct collector *collector, const struct source *source) {
    struct slice uri, suite, ending;
    if (source->disabled || !has_word(source->types, "deb") || !has_word(source->components, "main") ||
        slice_find(source->signed_by, SLICE("BEGIN PGP")) >= 0)
        return;
    for (struct slice uris = source->uris; (uri = next_word(&uris)).len;) {
        if (!is_own_archive(uri, source->signed_by))
            continue;
        for (struct slice suites = source->suites; (suite = next_word(&suites)).len;) {
            if (!suite_ending(collector, suite, &ending))
                continue;
            CLEANUP(buffer_deinit) struct buffer line = BUFFER_INIT(8 * KIB);
            buffer_append_text(&line, "deb ");
            if (source->signed_by.len)
                buffer_printf(&line, "[signed-by=%.*s] ", SLICE_ARG(source->signed_by));
            buffer_printf(&line, "%.*s %s%.*s", SLICE_ARG(uri), collector->suite, SLICE_ARG(ending));
            struct slice components = source->components;
            for (struct slice component; (component = next_word(&components)).len;)
                buffer_printf(&line, " %.*s", SLICE_ARG(component));
            buffer_append_byte(&line, '\n');
            if (buffer_error(&line) || slice_find(buffer_slice(collector->out), buffer_slice(&line)) >= 0)
                continue;
            buffer_append_slice(collector->out, buffer_slice(&line));
            collector->found++;
        }
    }
}

/* "deb [signed-by=K arch=A] URI SUITE COMPONENT…" */
static void read_line(struct collector *collector, struct slice line) {
    struct source source = {0};
    ptrdiff_t comment = slice_index(line, '#');
    if (comment >= 0)
        line = slice_head(line, (size_t)comment);
    source.types = next_word(&line);
    line = slice_trim(line);
    if (line.len && line.data[0] == '[') {
        ptrdiff_t end = slice_index(line, ']');
        if (end < 0)
            return;
        struct slice options = slice_make(line.data + 1, (size_t)end - 1);
        for (struct slice option; (option = next_word(&options)).len;) {
            if (slice_starts(option, SLICE("signed-by=")))
                source.signed_by = slice_from(option, 10);
        }
        line = slice_from(line, (size_t)end + 1);
    }
    source.uris = next_word(&line);
    source.suites = next_word(&line);
    source.components = slice_trim(line);
    add_source(collector, &source);
}

static void read_lines(struct collector *collector, struct slice text) {
    while (text.data)
        read_line(collector, slice_cut(&text, '\n'));
}

/* The value of a field goes on over lines that begin with a blank; *rest starts behind the field's first line. */
static struct slice read_value(struct slice first, struct slice *rest) {
    struct slice value = first;
    while (rest->len && (rest->data[0] == ' ' || rest->data[0] == '\t')) {
        struct slice line = slice_cut(rest, '\n');
        value.len = (size_t)(line.data + line.len - value.data);
    }
    return slice_trim(value);
}

static void read_field(struct source *source, struct slice name, struct slice value) {
    const struct {
        const char *name;
        struct slice *value;
    } fields[] = {{"Types", &source->types},
                  {"URIs", &source->uris},
                  {"Suites", &source->suites},
                  {"Components", &source->components},
                  {"Signed-By", &source->signed_by}};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (slice_equal_nocase(name, slice_of(fields[i].name)))
            *fields[i].value = value;
    }
    if (slice_equal_nocase(name, SLICE("Enabled")) && (slice_equal_nocase(value, SLICE("no")) || slice_equal_nocase(value, SLICE("false"))))
        source->disabled = true;
}

/* deb822: stanzas of "Field: value", separated by empty lines. */
static void read_stanzas(struct collector *collector, struct slice text) {
    struct source source = {0};
    while (text.data) {
        struct slice line = slice_cut(&text, '\n');
        if (slice_trim(line).len == 0) {
            add_source(collector, &source);
            source = (struct source){0};
            continue;
        }
        if (line.data[0] == '#')
            continue;
        struct slice value = line;
        struct slice name = slice_trim(slice_cut(&value, ':'));
        if (value.data)
            read_field(&source, name, read_value(value, &text));
    }
    add_source(collector, &source);
}

static int read_file(struct collector *collector, const char *path) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(FILE_BYTES_MAX + 1);
    int r = sys_read_file(AT_FDCWD, path, FILE_BYTES_MAX, &text);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    if (slice_ends(slice_of(path), SLICE(".sources")))
        read_stanzas(collector, buffer_slice(&text));
    else
        read_lines(collector, buffer_slice(&text));
    return 0;
}

static int is_source_file(const struct dirent *entry) {
    struct slice name = slice_of(entry->d_name);
    return name.data[0] != '.' && (slice_ends(name, SLICE(".list")) || slice_ends(name, SLICE(".sources")));
}

static int read_folder(struct collector *collector, const char *folder) {
    struct dirent **entries = NULL;
    char path[4096];
    int count = scandir(folder, &entries, is_source_file, alphasort);
    int r = count < 0 && errno != ENOENT ? -errno : 0;
    for (int i = 0; i < count; i++) {
        int length = snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (r == 0 && i < FILES_MAX && length > 0 && (size_t)length < sizeof path)
            r = read_file(collector, path);
        free(entries[i]);
    }
    free(entries);
    return r;
}

int bootstrap_collect_sources(const char *apt_folder, const char *suite, struct buffer *out, struct diag *diag) {
    struct collector collector = {.suite = suite, .release = find_release(slice_of(suite)), .out = out};
    const char *folder = apt_folder ? apt_folder : "/etc/apt";
    char path[4096];
    snprintf(path, sizeof path, "%s/sources.list", folder);
    int r = read_file(&collector, path);
    snprintf(path, sizeof path, "%s/sources.list.d", folder);
    r = r ? r : read_folder(&collector, path);
    if (r < 0)
        return diag_set(diag, r, "cannot read the apt sources in %s: %s", folder, strerror(-r));
    if (collector.found == 0) {
        diag_set(diag, -ENOENT, "none of the apt sources in %s serves %s from its distribution's own archive", folder, suite);
        return diag_hint(diag, -ENOENT, "add a line such as: deb MIRROR %s main", suite);
    }
    return buffer_error(out) ? diag_set(diag, buffer_error(out), "the list of apt sources is too long") : 0;
}

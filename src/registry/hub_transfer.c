/* One HTTP request by libcurl. Redirects are not followed here, and libcurl is given no credentials of its own: whoever calls decides what goes
 * where. Proxies are as the environment says (HTTPS_PROXY, NO_PROXY, …), which is libcurl's own doing. */
#include <stdio.h>
#include <unistd.h>

#include "codec/codec.h"
#include "registry/hub_priv.h"
#include "sys/sys.h"

#define CONNECT_TIMEOUT_S 10L
#define STALL_TIMEOUT_S 60L
#define STALL_BYTES_PER_S 500L
#define SLOW_ALLOWANCE_NS (600ll * 1000000000) /* then all that came has to have come this fast, or who drips would keep a place for ever: */
#define SLOW_BYTES_PER_S (int64_t)(16 * KIB)
#define WORDS_BYTES_MAX (16 * KIB)
#define RETRY_AFTER_MAX_S 3600

struct running {
    struct hub_connection *connection;
    struct hub_call *call;
    struct buffer words; /* the body of an error */
    int64_t skip;        /* bytes before what is wanted: the whole came instead of a part */
    int64_t sent;
    int64_t range_start;
    int64_t start_ns;
    bool began, is_late;
    int error;
};

/* --- what comes --- */

static void begin_body(struct running *running) {
    struct hub_call *call = running->call;
    long status = 0;
    curl_easy_getinfo(running->connection->curl, CURLINFO_RESPONSE_CODE, &status);
    running->began = true;
    call->status = (int)status;
    call->partial = status == 206;
    running->skip = status == 200 ? call->offset : 0;
    if (status == 206 && running->range_start != call->offset)
        running->error = -EPROTO;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *userdata) {
    struct running *running = userdata;
    struct hub_call *call = running->call;
    struct slice data = slice_make(bytes, size * count);
    if (!running->began)
        begin_body(running);
    if (running->error)
        return 0;
    if (call->status != 200 && call->status != 206) {
        if (running->words.len + data.len <= WORDS_BYTES_MAX)
            buffer_append_slice(&running->words, data);
        return size * count;
    }
    int64_t skipped = MIN(running->skip, (int64_t)data.len);
    running->skip -= skipped;
    data = slice_from(data, (size_t)skipped);
    if (data.len && call->on_body)
        running->error = call->on_body(call->userdata, data);
    return running->error ? 0 : size * count;
}

static void copy_header(char *to, size_t size, struct slice value) {
    if (value.len < size)
        snprintf(to, size, "%.*s", SLICE_ARG(value));
}

static size_t on_header(char *bytes, size_t size, size_t count, void *userdata) {
    struct running *running = userdata;
    struct hub_call *call = running->call;
    struct slice value = slice_make(bytes, size * count), name = slice_cut(&value, ':');
    uint64_t number;
    value = slice_trim(value);
    if (slice_equal_nocase(name, SLICE("WWW-Authenticate"))) {
        challenges_read(value, &running->connection->challenges);
    } else if (slice_equal_nocase(name, SLICE("Content-Type"))) {
        copy_header(call->type, sizeof call->type, value);
    } else if (slice_equal_nocase(name, SLICE("Docker-Content-Digest"))) {
        copy_header(call->digest, sizeof call->digest, value);
    } else if (slice_equal_nocase(name, SLICE("Retry-After"))) {
        call->retry_after_s = slice_parse_u64(value, RETRY_AFTER_MAX_S, &number) == 0 ? (int64_t)number : call->retry_after_s;
    } else if (slice_equal_nocase(name, SLICE("Content-Range")) && slice_starts(value, SLICE("bytes "))) {
        struct slice rest = slice_from(value, 6);
        running->range_start = slice_parse_u64(slice_cut(&rest, '-'), INT64_MAX, &number) == 0 ? (int64_t)number : -1;
    }
    return size * count;
}

static size_t on_read(char *to, size_t size, size_t count, void *userdata) {
    struct running *running = userdata;
    struct hub_call *call = running->call;
    size_t want = MIN(size * count, (size_t)((call->fd >= 0 ? call->length : (int64_t)call->body.len) - running->sent));
    if (call->fd < 0) {
        memcpy(to, call->body.data + running->sent, want);
    } else {
        ssize_t n = want ? pread(call->fd, to, want, call->fd_offset + running->sent) : 0;
        if (n < 0 || (want && n == 0)) {
            running->error = n < 0 ? -errno : -EIO;
            return CURL_READFUNC_ABORT;
        }
        want = (size_t)n;
    }
    running->sent += (int64_t)want;
    return want;
}

static int on_seek(void *userdata, curl_off_t offset, int origin) {
    struct running *running = userdata;
    if (origin != SEEK_SET)
        return CURL_SEEKFUNC_CANTSEEK;
    running->sent = offset;
    return CURL_SEEKFUNC_OK;
}

static int on_progress(void *userdata, __attribute__((unused)) curl_off_t down_total, curl_off_t down, __attribute__((unused)) curl_off_t up_total,
                       curl_off_t up) {
    struct running *running = userdata;
    int64_t seconds = (running->call->offset - running->call->began_offset + down + up) / SLOW_BYTES_PER_S;
    running->is_late = sys_monotonic_ns() - running->start_ns > SLOW_ALLOWANCE_NS + seconds * 1000000000;
    return running->is_late || atomic_load_explicit(&running->connection->hub->cancelled, memory_order_relaxed);
}

/* --- what goes --- */

static struct curl_slist *append(struct curl_slist *list, bool *ok, const char *format, ...) __attribute__((format(printf, 3, 4)));
static struct curl_slist *append(struct curl_slist *list, bool *ok, const char *format, ...) {
    CLEANUP(buffer_deinit) struct buffer line = BUFFER_INIT(HUB_TOKEN_BYTES_MAX + KIB);
    va_list args;
    va_start(args, format);
    buffer_vprintf(&line, format, args);
    va_end(args);
    struct curl_slist *longer = buffer_error(&line) ? NULL : curl_slist_append(list, line.data);
    if (line.data)
        explicit_bzero(line.data, line.len);
    *ok = *ok && longer;
    return longer ? longer : list;
}

static void wipe_headers(struct curl_slist *list) {
    for (struct curl_slist *at = list; at; at = at->next)
        explicit_bzero(at->data, strlen(at->data));
    curl_slist_free_all(list);
}

static struct curl_slist *make_headers(const struct transfer *transfer, bool *ok) {
    const struct hub_call *call = transfer->call;
    struct curl_slist *list = NULL;
    if (call->accept)
        list = append(list, ok, "Accept: %s", call->accept);
    if (call->content_type)
        list = append(list, ok, "Content-Type: %s", call->content_type);
    if (call->offset)
        list = append(list, ok, "Range: bytes=%" PRId64 "-", call->offset);
    if (call->fd >= 0 && strcmp(call->method, "PATCH") == 0)
        list = append(list, ok, "Content-Range: %" PRId64 "-%" PRId64, call->fd_offset, call->fd_offset + call->length - 1);
    if (transfer->authorization.len)
        list = append(list, ok, "%.*s", SLICE_ARG(transfer->authorization));
    return append(list, ok, "Expect:"); /* no round trip more for a body */
}

static void set_method(CURL *curl, struct running *running) {
    const struct hub_call *call = running->call;
    if (strcmp(call->method, "HEAD") == 0) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    } else if (strcmp(call->method, "GET") != 0) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, call->method);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(curl, CURLOPT_READDATA, running);
        curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(curl, CURLOPT_SEEKDATA, running);
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)(call->fd >= 0 ? call->length : (int64_t)call->body.len));
    }
}

static void set_options(CURL *curl, const struct transfer *transfer, struct running *running, char *error) {
    const char *protocols = transfer->plain ? "http,https" : "https";
    curl_easy_setopt(curl, CURLOPT_URL, transfer->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, protocols);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, STALL_TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES_PER_S);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 256L * 1024);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "tidemill/" TIDEMILL_VERSION);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, running);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, running);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, running);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    if (transfer->ca)
        curl_easy_setopt(curl, CURLOPT_CAINFO, transfer->ca);
    if (transfer->trusts_all) {
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    set_method(curl, running);
}

/* --- the result --- */

/* {"errors":[{"code":…,"message":…,"detail":…}]}, or {"details": …} of token servers; anything else is somebody's web page. */
static void read_words(struct running *running) {
    struct hub_call *call = running->call;
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct tree *root = NULL;
    if (!arena || !running->words.len || json_parse(arena, buffer_slice(&running->words), NULL, &root, NULL) < 0)
        return;
    const struct tree *first = tree_at(tree_find(root, "errors"), 0);
    const char *code = tree_text_or(tree_find(first, "code"), ""), *message = tree_text_or(tree_find(first, "message"), "");
    if (!*message)
        message = tree_text_or(tree_find(root, "details"), tree_text_or(tree_find(root, "message"), ""));
    snprintf(call->words, sizeof call->words, "%s%s%s", code, *code && *message ? ": " : "", message);
    for (char *at = call->words; *at; at++)
        *at = (unsigned char)*at < ' ' ? ' ' : *at;
}

static void find_location(struct running *running) {
    struct hub_call *call = running->call;
    struct curl_header *header = NULL;
    char *text = NULL;
    char *base = NULL;
    curl_easy_getinfo(running->connection->curl, CURLINFO_EFFECTIVE_URL, &base);
    if (curl_easy_header(running->connection->curl, "Location", 0, CURLH_HEADER, -1, &header) != CURLHE_OK || !base)
        return;
    CURLU *url = curl_url();
    if (url && curl_url_set(url, CURLUPART_URL, base, 0) == CURLUE_OK && curl_url_set(url, CURLUPART_URL, header->value, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_URL, &text, 0) == CURLUE_OK)
        copy_header(call->location, sizeof call->location, slice_of(text));
    curl_free(text);
    curl_url_cleanup(url);
}

static int failed(const struct running *running, const struct transfer *transfer, CURLcode code, const char *error, struct diag *diag) {
    CURLU *url = curl_url();
    char *host = NULL;
    if (url && curl_url_set(url, CURLUPART_URL, transfer->url, 0) == CURLUE_OK)
        curl_url_get(url, CURLUPART_HOST, &host, 0);
    const char *name = host ? host : "the registry";
    bool cut = code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING || code == CURLE_SEND_ERROR ||
               (code == CURLE_OPERATION_TIMEDOUT && running->began);
    int r;
    if (atomic_load(&running->connection->hub->cancelled))
        r = diag_set(diag, -ECANCELED, "cancelled");
    else if (running->is_late)
        r = diag_set(diag, -ETIMEDOUT, "%s is too slow: less than %" PRId64 " bytes in a second", name, SLOW_BYTES_PER_S);
    else if (running->error == -EPROTO)
        r = diag_set(diag, -EPROTO, "%s sent another part of the content than was asked for", name);
    else if (running->error)
        r = diag_set(diag, running->error, "%s: %s", name, strerror(-running->error));
    else
        r = diag_set(diag, cut ? -EIO : -EHOSTUNREACH, "%s %s: %s", cut ? "the connection broke to" : "cannot reach", name,
                     *error ? error : curl_easy_strerror(code));
    if (code == CURLE_PEER_FAILED_VERIFICATION)
        diag_hint(diag, 0, "an authority of your own is named by `ca` in the file of registries");
    curl_free(host);
    curl_url_cleanup(url);
    return r;
}

int hub_transfer_run(struct hub_connection *connection, const struct transfer *transfer, struct diag *diag) {
    struct hub_call *call = transfer->call;
    CURL *curl = connection->curl;
    char error[CURL_ERROR_SIZE] = "";
    struct running running = {.connection = connection, .call = call, .words = BUFFER_INIT(WORDS_BYTES_MAX), .range_start = -1};
    running.start_ns = call->began_ns ? call->began_ns : sys_monotonic_ns();
    bool ok = true;
    struct curl_slist *headers = make_headers(transfer, &ok);
    memset(&connection->challenges, 0, sizeof connection->challenges);
    call->status = 0;
    call->partial = false;
    call->type[0] = call->location[0] = call->words[0] = call->digest[0] = 0;
    call->retry_after_s = -1;
    curl_easy_reset(curl);
    set_options(curl, transfer, &running, error);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    CURLcode code = ok ? curl_easy_perform(curl) : CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OK && !running.began)
        begin_body(&running);
    int r = code == CURLE_OK && !running.error ? 0 : failed(&running, transfer, code, error, diag);
    read_words(&running);
    find_location(&running);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, NULL);
    wipe_headers(headers);
    buffer_deinit(&running.words);
    return r;
}

const char *hub_transfer_redirect(const struct hub_connection *connection) {
    char *url = NULL;
    curl_easy_getinfo(connection->curl, CURLINFO_REDIRECT_URL, &url);
    return url;
}

static char *part_of(const char *text, CURLUPart part, unsigned flags) {
    char *value = NULL;
    CURLU *url = curl_url();
    if (!url || curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK || curl_url_get(url, part, &value, flags) != CURLUE_OK)
        value = NULL;
    curl_url_cleanup(url);
    return value;
}

bool hub_transfer_same_origin(const char *a, const char *b) {
    static const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT};
    bool same = true;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        char *left = part_of(a, parts[i], CURLU_DEFAULT_PORT), *right = part_of(b, parts[i], CURLU_DEFAULT_PORT);
        same = same && left && right && strcasecmp(left, right) == 0;
        curl_free(left);
        curl_free(right);
    }
    return same;
}

bool hub_transfer_is_on_loopback(const char *url) {
    char *host = part_of(url, CURLUPART_HOST, 0);
    bool is = host && hub_is_on_loopback(host);
    curl_free(host);
    return is;
}

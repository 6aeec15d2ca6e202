/* OpenAPI over HTTP: an index of one v3 document per group version, each named with the hash of its bytes so that clients keep it for ever, and v2.
 *
 * Documents are made from the tables when they are asked for. What is kept is their hashes, and for a while the compressed bytes of those that were
 * asked for: 1. nothing is made before the first question, 2. only compressed forms are kept, and dropped when nobody has asked for
 * API_OPENAPI_IDLE_MS,
 * 3. converting and compressing are a worker thread's, 4. when kinds come and go (kube_kinds_generation), documents of groups without custom kinds
 * keep their hash. The entity tag is the hash of the JSON form, also for protobuf: answers vary by Accept. */
#include "api/api_priv.h"

#include <malloc.h>
#include <stdio.h>

#define OPENAPI_BYTES_MAX (64 * MIB)
#define OPENAPI_INDEX_BYTES_MAX (4 * MIB)
#define OPENAPI_YEAR_NS (365 * INT64_C(86400) * 1000000000)

/* --- what is known of the documents --- */

static int make_json(const struct openapi_entry *entry, struct buffer *out) {
    return entry->group ? kube_openapi_v3(slice_of(entry->group), slice_of(entry->version), out) : kube_openapi_v2(out);
}

static bool has_custom_kinds(const char *group) {
    for (size_t i = 0; i < kube_kinds_count(); i++)
        if (kube_kind_at(i)->custom && !strcmp(kube_kind_at(i)->group, group))
            return true;
    return false;
}

static void entry_deinit(struct openapi_entry *entry) {
    for (size_t i = 0; i < ARRAY_LEN(entry->packed); i++)
        free(entry->packed[i].data);
    free(entry->group);
    free(entry->version);
}

static void entries_deinit(struct openapi_cache *cache) {
    for (size_t i = 0; i < cache->entries.count; i++)
        entry_deinit(&cache->entries.items[i]);
    VECTOR_DEINIT(&cache->entries);
}

static struct openapi_entry *find_entry(struct openapi_cache *cache, const char *group, const char *version) {
    for (size_t i = 0; i < cache->entries.count; i++) {
        struct openapi_entry *entry = &cache->entries.items[i];
        bool same = group && entry->group ? !strcmp(entry->group, group) && !strcmp(entry->version, version) : group == entry->group;
        if (same)
            return entry;
    }
    return NULL;
}

/* The hash of the document as it is now. */
static int entry_hash(struct openapi_entry *entry) {
    if (*entry->hash)
        return 0;
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(OPENAPI_BYTES_MAX);
    int error = make_json(entry, &json);
    if (!error)
        digest_sha256_hex(buffer_slice(&json), entry->hash);
    return error;
}

/* Adds an entry; what an old one of the same name knows passes over to it, unless kinds of its may have changed. */
static int add_entry(struct openapi_cache *cache, struct openapi_cache *old, const char *group, const char *version) {
    struct openapi_entry entry = {.custom = !group || has_custom_kinds(group)};
    struct openapi_entry *before = find_entry(old, group, version);
    if (group) {
        entry.group = strdup(group);
        entry.version = strdup(version);
    }
    int error = group && (!entry.group || !entry.version) ? -ENOMEM : VECTOR_PUSH(&cache->entries, entry);
    if (error) {
        entry_deinit(&entry);
        return error;
    }
    struct openapi_entry *added = &cache->entries.items[cache->entries.count - 1];
    if (before && !before->custom && !added->custom) {
        memcpy(added->hash, before->hash, sizeof added->hash);
        memcpy(added->packed, before->packed, sizeof added->packed);
        memset(before->packed, 0, sizeof before->packed);
    }
    return 0;
}

/* Brings the entries up to the kinds there are: one per group version, and v2's. */
static int refresh(struct openapi_cache *cache) {
    if (cache->generation == kube_kinds_generation())
        return 0;
    CLEANUP(freep) struct kube_group_version *versions = NULL;
    struct openapi_cache fresh = {.generation = kube_kinds_generation()};
    size_t count = 0;
    int error = kube_group_versions(&versions, &count);
    error = error ? error : add_entry(&fresh, cache, NULL, NULL);
    for (size_t i = 0; i < count && !error; i++)
        error = add_entry(&fresh, cache, versions[i].group, versions[i].version);
    if (error) {
        entries_deinit(&fresh);
        cache->generation = 0; /* what was handed over is gone: begin anew */
        entries_deinit(cache);
        return error;
    }
    entries_deinit(cache);
    cache->entries.items = fresh.entries.items;
    cache->entries.count = fresh.entries.count;
    cache->entries.capacity = fresh.entries.capacity;
    cache->generation = fresh.generation;
    return 0;
}

static void on_idle(void *userdata) {
    struct api *api = userdata;
    for (size_t i = 0; i < api->openapi.entries.count; i++)
        for (size_t j = 0; j < OPENAPI_FORMS; j++) {
            free(api->openapi.entries.items[i].packed[j].data);
            api->openapi.entries.items[i].packed[j] = (struct openapi_packed){0};
        }
    malloc_trim(0); /* making them left megabytes with the allocator */
}

void api_openapi_start(struct api *api) {
    loop_timer_init(&api->openapi.idle, api->loop, on_idle, api);
}

void api_openapi_end(struct api *api) {
    loop_timer_cancel(&api->openapi.idle);
    entries_deinit(&api->openapi);
}

/* --- the index --- */

static int put_index(struct openapi_cache *cache, struct buffer *out) {
    buffer_append_text(out, "{\"paths\":{");
    bool first = true;
    for (size_t i = 0; i < cache->entries.count; i++) {
        struct openapi_entry *entry = &cache->entries.items[i];
        if (!entry->group)
            continue;
        int error = entry_hash(entry);
        if (error)
            return error;
        const char *prefix = *entry->group ? "apis/" : "api";
        buffer_printf(out, "%s\"%s%s/%s\":{\"serverRelativeURL\":\"/openapi/v3/%s%s/%s?hash=%s\"}", first ? "" : ",", prefix, entry->group,
                      entry->version, prefix, entry->group, entry->version, entry->hash);
        first = false;
    }
    return buffer_append_text(out, "}}\n");
}

static void respond_no_memory(struct request *request) {
    struct api_failure failure;
    api_fail_no_memory(&failure);
    api_respond_failure(request, &failure);
}

void api_serve_openapi_index(struct request *request) {
    struct openapi_cache *cache = &request->api->openapi;
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(OPENAPI_INDEX_BYTES_MAX);
    if (refresh(cache) || put_index(cache, &out))
        respond_no_memory(request);
    else
        api_respond_tagged(request, "application/json", buffer_slice(&out));
}

/* --- documents --- */

static const struct {
    const char *type, *answer;
    enum openapi_form form;
} types[] = {
    {"application/json", "application/json", OPENAPI_FORM_JSON},
    {"application/com.github.proto-openapi.spec.v2@v1.0+protobuf", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", OPENAPI_FORM_V2},
    {"application/com.github.proto-openapi.spec.v2.v1.0+protobuf", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", OPENAPI_FORM_V2},
    {"application/com.github.proto-openapi.spec.v3@v1.0+protobuf", "application/com.github.proto-openapi.spec.v3.v1.0+protobuf", OPENAPI_FORM_V3},
    {"application/com.github.proto-openapi.spec.v3.v1.0+protobuf", "application/com.github.proto-openapi.spec.v3.v1.0+protobuf", OPENAPI_FORM_V3},
};

/* The form that is wanted: an index of `types`; -1: none that there is. */
static int wanted(struct slice accept, bool v2) {
    if (!accept.len)
        return 0;
    while (accept.len) {
        struct slice part = slice_cut(&accept, ','), type = slice_trim(slice_cut(&part, ';'));
        if (slice_is(type, "*/*") || slice_is(type, "application/*"))
            return 0;
        for (size_t i = 0; i < ARRAY_LEN(types); i++)
            if (slice_is(type, types[i].type) && types[i].form != (v2 ? OPENAPI_FORM_V3 : OPENAPI_FORM_V2))
                return (int)i;
    }
    return -1;
}

/* A document on its way: made on the loop, since kinds come and go there; converted and compressed on a worker thread; kept and sent on the loop. */
struct openapi_job {
    struct api *api;
    struct request *request;
    char *group, *version; /* NULL: v2 */
    char hash[65];
    int type;  /* of `types` */
    bool pack; /* the client takes gzip */
    struct buffer plain, packed;
    int error; /* of converting; what cannot be compressed goes as it is */
};

static void job_free(struct openapi_job *job) {
    buffer_deinit(&job->plain);
    buffer_deinit(&job->packed);
    free(job->group);
    free(job->version);
    free(job);
}

static void respond_document(struct request *request, int type, const char *hash, struct slice body, bool packed) {
    if (!request->exchange)
        return;
    char tag[sizeof "\"\"" + 64], expires[HTTP_DATE_BYTES];
    snprintf(tag, sizeof tag, "\"%s\"", hash);
    struct http_field fields[6] = {{"ETag", tag}, {"Vary", "Accept, Accept-Encoding"}, {NULL, NULL}};
    size_t count = 2;
    if (packed)
        fields[count++] = (struct http_field){"Content-Encoding", "gzip"};
    if (api_request_query(request, "hash")) {
        http_date_format(loop_wall_ns(request->api->loop) + OPENAPI_YEAR_NS, expires);
        fields[count++] = (struct http_field){"Cache-Control", "public, immutable"};
        fields[count++] = (struct http_field){"Expires", expires};
    }
    http_respond(request->exchange, 200, types[type].answer, body, fields);
}

static void job_work(void *userdata) {
    struct openapi_job *job = userdata;
    if (types[job->type].form != OPENAPI_FORM_JSON) {
        struct buffer wire = BUFFER_INIT(OPENAPI_BYTES_MAX);
        job->error = kube_openapi_to_protobuf(buffer_slice(&job->plain), &wire);
        buffer_deinit(&job->plain);
        job->plain = wire;
    }
    if (!job->error && job->pack && gzip_encode(buffer_slice(&job->plain), &job->packed) != 0)
        job->pack = false;
}

static void keep(struct openapi_job *job) {
    struct openapi_cache *cache = &job->api->openapi;
    struct openapi_entry *entry = job->api->closed || refresh(cache) ? NULL : find_entry(cache, job->group, job->version);
    if (!entry || strcmp(entry->hash, job->hash) != 0)
        return;
    struct openapi_packed *packed = &entry->packed[types[job->type].form == OPENAPI_FORM_JSON ? 0 : 1];
    size_t len = job->packed.len;
    char *exact = malloc(len); /* the buffer has room for the worst case */
    if (!exact)
        return;
    memcpy(exact, job->packed.data, len);
    free(packed->data);
    *packed = (struct openapi_packed){exact, len};
    (void)loop_timer_set(&cache->idle, API_OPENAPI_IDLE_MS); /* without it, the bytes stay */
}

static void respond_job(struct openapi_job *job) {
    if (job->error) {
        respond_no_memory(job->request);
        return;
    }
    if (job->pack)
        keep(job);
    respond_document(job->request, job->type, job->hash, buffer_slice(job->pack ? &job->packed : &job->plain), job->pack);
}

static void job_done(void *userdata) {
    struct openapi_job *job = userdata;
    respond_job(job);
    api_request_release(job->request);
    api_unref(job->api);
    job_free(job);
}

/* Makes the document and answers, now or when a worker thread is done with it. */
static int make_and_respond(struct request *request, struct openapi_entry *entry, int type, bool gzip) {
    struct openapi_job *job = calloc(1, sizeof *job);
    if (!job)
        return -ENOMEM;
    *job = (struct openapi_job){.api = request->api, .request = request, .type = type, .pack = gzip, .plain = BUFFER_INIT(OPENAPI_BYTES_MAX)};
    job->packed = BUFFER_INIT(OPENAPI_BYTES_MAX);
    memcpy(job->hash, entry->hash, sizeof job->hash);
    int error = make_json(entry, &job->plain);
    if (!error && entry->group) {
        job->group = strdup(entry->group);
        job->version = strdup(entry->version);
        error = job->group && job->version ? 0 : -ENOMEM;
    }
    bool work = gzip || types[type].form != OPENAPI_FORM_JSON;
    if (!error && work && loop_work(request->api->loop, LOOP_BULK, job_work, job_done, job) == 0) {
        request->api->references++;
        api_request_hold(request);
        return 0;
    }
    if (!error) {
        job->pack = false;
        job_work(job);
        respond_job(job);
    }
    job_free(job);
    return error;
}

static void respond_moved(struct request *request, const struct openapi_entry *entry) {
    char url[HTTP_TARGET_BYTES_MAX];
    const char *prefix = *entry->group ? "apis/" : "api";
    snprintf(url, sizeof url, "/openapi/v3/%s%s/%s?hash=%s", prefix, entry->group, entry->version, entry->hash);
    const struct http_field fields[] = {{"Location", url}, {"Vary", "Accept"}, {NULL, NULL}};
    http_respond(request->exchange, 301, NULL, SLICE(""), fields);
}

static bool accepts_gzip(const struct request *request) {
    struct slice accept = http_header(request->exchange, "Accept-Encoding");
    while (accept.len) {
        struct slice part = slice_cut(&accept, ','), name = slice_trim(slice_cut(&part, ';'));
        struct slice weight = slice_trim(part);
        if (slice_is(name, "gzip") && !slice_is(weight, "q=0") && !slice_is(weight, "q=0.0"))
            return true;
    }
    return false;
}

static void serve_document(struct request *request, const char *group, const char *version) {
    struct openapi_cache *cache = &request->api->openapi;
    int type = wanted(http_header(request->exchange, "Accept"), !group);
    if (type < 0) {
        http_respond(request->exchange, 406, NULL, SLICE(""), NULL);
        return;
    }
    struct openapi_entry *entry = refresh(cache) ? NULL : find_entry(cache, group, version);
    if (!entry && cache->generation == kube_kinds_generation()) {
        api_respond_unknown_path(request);
        return;
    }
    if (!entry || entry_hash(entry)) {
        respond_no_memory(request);
        return;
    }
    const char *hash = api_request_query(request, "hash");
    if (group && hash && strcmp(hash, entry->hash) != 0) {
        respond_moved(request, entry);
        return;
    }
    if (api_respond_if_known(request, entry->hash))
        return;
    bool gzip = accepts_gzip(request);
    const struct openapi_packed *packed = &entry->packed[types[type].form == OPENAPI_FORM_JSON ? 0 : 1];
    if (gzip && packed->data) {
        respond_document(request, type, entry->hash, slice_make(packed->data, packed->len), true);
        (void)loop_timer_set(&cache->idle, API_OPENAPI_IDLE_MS);
    } else if (make_and_respond(request, entry, type, gzip))
        respond_no_memory(request);
}

void api_serve_openapi_v3(struct request *request) {
    serve_document(request, request->route.group, request->route.version);
}

void api_serve_openapi_v2(struct request *request) {
    serve_document(request, NULL, NULL);
}

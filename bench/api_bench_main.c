/* Load for the Kubernetes API, for bench/api.py: closed loops over keep-alive TLS connections, each request timed.
 *   api_bench_main KUBECONFIG create CONNECTIONS COUNT PREFIX   COUNT config maps of about 500 bytes, named PREFIX-n
 *   api_bench_main KUBECONFIG get CONNECTIONS COUNT PREFIX      reads PREFIX-0 and on, round and round, of a thousand
 *   api_bench_main KUBECONFIG list CONNECTIONS COUNT PREFIX     the first thousand of namespace PREFIX
 *   api_bench_main KUBECONFIG watch WATCHERS COUNT PREFIX       COUNT writes one after another; from sending each until the last watcher has its
 * event Prints one JSON object. */
#include <stdio.h>
#include <stdlib.h>

#include "client/client.h"
#include "sys/sys.h"

#define CONNECTIONS_MAX 2000
#define READ_NAMES 1000

struct bench {
    struct loop *loop;
    const char *verb, *prefix;
    size_t connections, count, sent, done, failed;
    int64_t *times_ns;
    int64_t start_ns;
    size_t bytes;
    struct worker {
        struct bench *bench;
        struct client *client;
        int64_t sent_ns;
    } workers[CONNECTIONS_MAX];
    /* watch */
    size_t seen, ready;
    unsigned long long revision;
};

static void finish(struct bench *bench) {
    if (bench->done == bench->count)
        loop_stop(bench->loop);
}

static int write_body(const struct bench *bench, size_t number, struct buffer *out) {
    return buffer_printf(out,
                         "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"%s-%zu\",\"labels\":{\"app\":\"bench\"}},"
                         "\"data\":{\"a\":\"%0200zu\",\"b\":\"%0150zu\"}}",
                         bench->prefix, number, number, number);
}

static void on_answer(void *userdata, const struct http_answer *answer);

static void on_written(void *userdata, const struct http_answer *answer) {
    (void)userdata;
    if (answer->error || answer->status != 201) {
        fprintf(stderr, "a write failed: %d\n", answer->status);
        exit(1);
    }
}

static void send_next(struct worker *worker) {
    struct bench *bench = worker->bench;
    CLEANUP(buffer_deinit) struct buffer body = BUFFER_INIT(4 * KIB);
    if (bench->sent == bench->count)
        return;
    size_t number = bench->sent++;
    const char *method = "GET";
    char target[300];
    if (strcmp(bench->verb, "list") == 0) {
        snprintf(target, sizeof target, "/api/v1/namespaces/default/configmaps?limit=%d", READ_NAMES);
    } else if (strcmp(bench->verb, "get") == 0) {
        snprintf(target, sizeof target, "/api/v1/namespaces/default/configmaps/%s-%zu", bench->prefix, number % READ_NAMES);
    } else {
        method = "POST";
        snprintf(target, sizeof target, "/api/v1/namespaces/default/configmaps");
        write_body(bench, number, &body);
    }
    worker->sent_ns = sys_monotonic_ns();
    http_answer_fn *handler = strcmp(bench->verb, "watch") == 0 ? on_written : on_answer;
    int error = client_request(worker->client, method, target, NULL, buffer_slice(&body), handler, worker);
    if (error) {
        fprintf(stderr, "cannot send: %s\n", strerror(-error));
        exit(1);
    }
}

static void on_answer(void *userdata, const struct http_answer *answer) {
    struct worker *worker = userdata;
    struct bench *bench = worker->bench;
    bench->times_ns[bench->done++] = sys_monotonic_ns() - worker->sent_ns;
    bench->bytes += answer->body.len;
    if (answer->error || answer->status >= 300) {
        if (!bench->failed++)
            fprintf(stderr, "first failure: %d %s %.*s\n", answer->status, answer->error ? strerror(-answer->error) : "", (int)answer->body.len,
                    answer->body.len ? answer->body.data : "");
    }
    finish(bench);
    send_next(worker);
}

/* --- watch: one writer, many watchers --- */

static void start_watch(struct bench *bench);

static void on_watch_head(void *userdata, const struct http_answer *head) {
    struct worker *worker = userdata;
    struct bench *bench = worker->bench;
    if (head->status != 200) {
        fprintf(stderr, "watch refused: %d\n", head->status);
        exit(1);
    }
    if (++bench->ready < bench->connections)
        start_watch(bench); /* one after another: a thousand handshakes at once would measure those */
    else
        send_next(&bench->workers[0]);
}

static void on_watch_data(void *userdata, struct slice data) {
    struct worker *worker = userdata;
    struct bench *bench = worker->bench;
    for (size_t i = 0; i < data.len; i++)
        bench->seen += data.data[i] == '\n';
    if (bench->seen < bench->connections)
        return;
    bench->seen = 0;
    bench->times_ns[bench->done++] = sys_monotonic_ns() - bench->workers[0].sent_ns;
    finish(bench);
    send_next(&bench->workers[0]);
}

static void on_watch_end(void *userdata, int error) {
    (void)userdata;
    fprintf(stderr, "a watch ended: %s\n", strerror(-error));
    exit(1);
}

static struct client *watching[CONNECTIONS_MAX];

static void start_watch(struct bench *bench) {
    static const struct http_stream_handlers handlers = {.on_head = on_watch_head, .on_data = on_watch_data, .on_end = on_watch_end};
    char target[200];
    snprintf(target, sizeof target, "/api/v1/namespaces/default/configmaps?watch=true&resourceVersion=%llu", bench->revision);
    const struct http_request_options options = {.method = "GET", .target = target, .timeout_ms = -1};
    if (http_client_stream(client_http(watching[bench->ready]), &options, &handlers, &bench->workers[bench->ready], NULL)) {
        fprintf(stderr, "cannot watch\n");
        exit(1);
    }
}

/* The answer of a list: from its version on they watch. */
static void on_listed(void *userdata, const struct http_answer *answer) {
    static const char member[] = "\"resourceVersion\":\"";
    struct bench *bench = userdata;
    ptrdiff_t at = slice_find(answer->body, slice_of(member));
    if (at < 0) {
        fprintf(stderr, "cannot list: %d\n", answer->status);
        exit(1);
    }
    bench->revision = strtoull(answer->body.data + at + strlen(member), NULL, 10);
    start_watch(bench);
}

/* --- */

static int compare(const void *a, const void *b) {
    const int64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static void report(struct bench *bench) {
    double seconds = (double)(sys_monotonic_ns() - bench->start_ns) / 1e9;
    qsort(bench->times_ns, bench->done, sizeof *bench->times_ns, compare);
    printf("{\"count\": %zu, \"failed\": %zu, \"seconds\": %.4f, \"per_second\": %.0f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"bytes\": %zu}\n",
           bench->done, bench->failed, seconds, (double)bench->done / seconds, (double)bench->times_ns[bench->done / 2] / 1e6,
           (double)bench->times_ns[bench->done * 99 / 100] / 1e6, bench->bytes);
}

int main(int argc, char **argv) {
    static struct bench bench;
    if (argc != 6) {
        fprintf(stderr, "usage: api_bench_main KUBECONFIG create|get|list|watch CONNECTIONS COUNT PREFIX\n");
        return 2;
    }
    bench = (struct bench){.verb = argv[2], .prefix = argv[5], .connections = strtoul(argv[3], NULL, 10), .count = strtoul(argv[4], NULL, 10)};
    bool watch = strcmp(bench.verb, "watch") == 0;
    struct diag diag = DIAG_INIT;
    bench.times_ns = calloc(bench.count + 1, sizeof *bench.times_ns);
    if (!bench.times_ns || !bench.connections || bench.connections > CONNECTIONS_MAX || loop_new(&bench.loop))
        return 1;
    for (size_t i = 0; i < bench.connections; i++) {
        int error = client_new_kubeconfig(bench.loop, argv[1], &bench.workers[i].client, &diag);
        if (!error && watch)
            error = client_new_kubeconfig(bench.loop, argv[1], &watching[i], &diag);
        if (error) {
            fprintf(stderr, "%s\n", diag.message);
            return 1;
        }
        bench.workers[i].bench = &bench;
    }
    bench.start_ns = sys_monotonic_ns();
    if (watch)
        client_request(bench.workers[0].client, "GET", "/api/v1/namespaces/default/configmaps?limit=1", NULL, slice_make(NULL, 0), on_listed,
                       &bench);
    else
        for (size_t i = 0; i < bench.connections; i++)
            send_next(&bench.workers[i]);
    loop_run(bench.loop);
    report(&bench);
    return bench.failed ? 1 : 0;
}

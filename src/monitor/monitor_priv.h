/* What the monitor's files share. */
#ifndef TIDEMILL_MONITOR_PRIV_H
#define TIDEMILL_MONITOR_PRIV_H

#include "client/client.h"
#include "codec/codec.h"
#include "http/http.h"
#include "kube/kube.h"
#include "loop/loop.h"
#include "monitor/monitor.h"
#include "sys/sys.h"
#include "tsdb/tsdb.h"

#define MONITOR_TARGETS_MAX 500
#define MONITOR_TARGET_LABELS_MAX 12
#define SCRAPE_BYTES_MAX (4 * MIB)
#define SCRAPE_SAMPLES_MAX 20000
#define SCRAPE_TIMEOUT_MS 10000

/* --- what is to be scraped: pure --- */

struct target_spec {
    const char *endpoint;                                /* "http://10.88.0.7:9090", "unix:/run/…" */
    const char *path;                                    /* "/metrics" */
    struct tsdb_label labels[MONITOR_TARGET_LABELS_MAX]; /* job, instance, … sorted as given */
    size_t labels_count;
};
typedef VECTOR(struct target_spec) target_specs;

/* Targets of an annotated pod, of an annotated service with its slices; texts in the arena. What asks for nothing, or is not running, adds nothing. 0
 * or -ENOMEM. */
int discover_pod(struct arena *arena, const struct kube_object *pod, target_specs *out);
int discover_service(struct arena *arena, const struct kube_object *service, const struct kube_object *slice, target_specs *out);
int discover_static(struct arena *arena, const struct monitor_target *target, target_specs *out);

/* --- scraping --- */

enum target_health { TARGET_UNKNOWN, TARGET_UP, TARGET_DOWN };

struct target {
    struct monitor *monitor;
    uint32_t id;
    struct arena *arena; /* of the texts */
    struct target_spec spec;
    struct http_client *http;
    struct http_request *request;
    struct loop_timer timer;
    bool seen; /* by the discovery under way */
    enum target_health health;
    char error[200];
    int64_t started_ms, duration_ms; /* of the last scrape; wall and length */
    int64_t started_ns;
    size_t samples;
    uint32_t generation;
    VECTOR(struct tsdb_series *) series; /* of the last scrape, pinned */
};

struct monitor {
    const struct monitor_options *options;
    struct loop *loop;
    struct loop_signal *signals;
    struct client *client;
    struct informer *pods, *services, *slices;
    struct http_server *server;
    struct tsdb *tsdb;
    struct loop_defer discovery;
    struct loop_timer expire_timer;
    int64_t interval_ms;
    VECTOR(struct target *) targets;
    uint32_t next_id;
    uint64_t scrapes, scrapes_failed;
};

/* Makes the targets those of the specs: new ones start at a moment of their own within the interval, those that are gone end with stale marks. */
void targets_set(struct monitor *monitor, const target_specs *specs);
void targets_free(struct monitor *monitor);
/* Stores what a target said at a time; 0 or -EINVAL with diag. */
int scrape_store(struct target *target, struct slice text, int64_t time_ms, struct diag *diag);

/* --- Prometheus' HTTP API --- */
void query_handle(void *userdata, struct http_exchange *exchange);

#endif

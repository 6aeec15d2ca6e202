/* Probes: when to run the next, and what a result means (step logic, pure), and the runners for HTTP, TCP, gRPC and commands. */
#ifndef TIDEMILL_RUNTIME_PROBE_H
#define TIDEMILL_RUNTIME_PROBE_H

#include "base/base.h"
#include "runtime/exec.h"

enum probe_kind { PROBE_STARTUP, PROBE_LIVENESS, PROBE_READINESS };

struct probe_timing {
    int initial_delay_s, period_s, timeout_s, success_threshold, failure_threshold; /* 0: upstream's default */
};
struct probe {
    enum probe_kind kind;
    struct probe_timing timing;
    int64_t due_ms; /* when the next run starts, on the caller's clock */
    bool has_run;
    bool is_healthy;  /* the verdict: starts as true for liveness only */
    bool was_healthy; /* ever, since the container started */
    bool counted;     /* the last run counted: it was no quick one that failed */
    int64_t regular_ms, quick_ms;
    int streak; /* equal results in a row */
    bool last_success;
};
/* started_ms: when the container started, on the caller's clock. */
void probe_init(struct probe *probe, enum probe_kind kind, const struct probe_timing *timing, int64_t started_ms);
/* A run that began at now_ms ended so. True when the verdict changed, or, for a failed startup or liveness probe, when the failure threshold is
 * reached: the container is to be killed. */
bool probe_step(struct probe *probe, bool success, int64_t now_ms);
int64_t probe_timeout_ms(const struct probe *probe);

/* The run neither succeeded nor failed (it could not be made): nothing is counted. True when it was a regular one, which is worth an event. */
bool probe_step_error(struct probe *probe, int64_t now_ms);

enum probe_method { PROBE_HTTP, PROBE_TCP, PROBE_COMMAND, PROBE_GRPC };
/* PROBE_WARNING: a success that is worth an event. PROBE_ERROR: the run could not be made. */
enum probe_outcome { PROBE_SUCCESS, PROBE_WARNING, PROBE_FAILURE, PROBE_ERROR };
struct http_field;
struct tls_context;
/* All of it is copied or done with when probe_run returns, but for the contexts. */
struct probe_target {
    enum probe_method method;
    const char *host; /* an address, or a name that is looked up then; without brackets */
    uint16_t port;
    bool tls, http2;                   /* HTTP, gRPC */
    struct tls_context *tls_1, *tls_2; /* for HTTP/1.1 and HTTP/2; borrowed */
    const char *path;                  /* HTTP: with its query */
    const struct http_field *fields;   /* HTTP; ends with name NULL; may be NULL */
    bool any_answer;                   /* HTTP: whatever the status, an answer is a success, as for hooks */
    const char *service;               /* gRPC: "" is the server as a whole */
    struct containers *containers;     /* commands */
    const char *container_id;
    const char *const *args; /* ends with NULL */
};
#define PROBE_USER_AGENT "kube-probe/1.32"
struct probe_run;
/* message: why it failed, as kubelet words it; borrowed. */
typedef void probe_done_fn(void *userdata, enum probe_outcome outcome, const char *message);
/* Runs once. on_done comes in a later step, once. A command that exceeds its time is killed with all that it started. */
int probe_run(struct loop *loop, const struct probe_target *target, int64_t timeout_ms, probe_done_fn *on_done, void *userdata,
              struct probe_run **ret);
/* on_done does not come. NULL is fine. After on_done the run has freed itself. */
void probe_run_cancel(struct probe_run *run);
/* 90000 → "1m30s", as Go prints durations. */
void probe_format_duration(int64_t ms, char *ret, size_t size);

#endif

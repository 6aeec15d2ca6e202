/* When does the machine run short, and what follows? Logic alone: thresholds in kubelet's syntax, what is met by what was observed, which conditions
 * hold, when one has to look again. What is observed and what is done about it is eviction.c. */
#ifndef TIDEMILL_NODE_PRESSURE_PRIV_H
#define TIDEMILL_NODE_PRESSURE_PRIV_H

#include "base/base.h"

enum pressure_signal {
    SIGNAL_MEMORY_AVAILABLE,
    SIGNAL_ALLOCATABLE_MEMORY_AVAILABLE, /* of the group of all pods, where it has a limit; follows memory.available */
    SIGNAL_NODEFS_AVAILABLE,
    SIGNAL_NODEFS_INODES_FREE,
    SIGNAL_IMAGEFS_AVAILABLE,
    SIGNAL_IMAGEFS_INODES_FREE,
    SIGNAL_PID_AVAILABLE,
    SIGNALS
};
enum pressure_condition { PRESSURE_MEMORY, PRESSURE_DISK, PRESSURE_PID, PRESSURE_CONDITIONS };

/* What a condition is called, what it says when it holds and when it does not, and the events that tell of the change. */
struct pressure_words {
    const char *type;
    struct {
        const char *reason, *message, *event;
    } bad, good;
};
extern const struct pressure_words pressure_words[PRESSURE_CONDITIONS];

/* "memory.available" */
const char *pressure_signal_name(enum pressure_signal signal);
/* What it is about in messages: memory, ephemeral-storage, inodes, pids. */
const char *pressure_resource(enum pressure_signal signal);
enum pressure_condition pressure_condition_of(enum pressure_signal signal);

/* A quantity, a part of the capacity, or the smaller of both; 0: not given. */
struct pressure_value {
    int64_t quantity;
    double part;
};
int64_t pressure_quantity(const struct pressure_value *value, int64_t capacity);

struct pressure_threshold {
    enum pressure_signal signal;
    struct pressure_value value, min_reclaim;
    int64_t grace_ms; /* how long it must be met; 0: a hard one */
};
#define PRESSURE_THRESHOLDS_MAX (2 * SIGNALS)
struct pressure_config {
    struct pressure_threshold thresholds[PRESSURE_THRESHOLDS_MAX];
    size_t count;
    bool is_memory_watched;  /* somebody wakes us when it is used up */
    int64_t transition_ms;   /* a condition stays that long after its last cause */
    int64_t pod_grace_s_max; /* what pods get at a soft threshold at most */
};
/* Kubelet's texts ("memory.available<100Mi,nodefs.available<10%"); NULL or empty: what is usual here. */
struct pressure_texts {
    const char *hard, *soft, *soft_grace_period, *minimum_reclaim, *transition_period, *max_pod_grace_period;
};
/* -EINVAL with diag. */
int pressure_config_parse(const struct pressure_texts *texts, struct pressure_config *ret, struct diag *diag);

struct pressure_observation {
    bool known;
    int64_t available, capacity;
};
/* All zero at first. */
struct pressure_state {
    int64_t first_ms[PRESSURE_THRESHOLDS_MAX]; /* since when it is met; 0: it is not */
    bool met[PRESSURE_THRESHOLDS_MAX];         /* for its whole grace period; until its minimum is reclaimed */
    int64_t last_ms[PRESSURE_CONDITIONS];      /* when it was last caused; 0: never */
    struct pressure_observation last[SIGNALS]; /* what was seen then: */
    int64_t stepped_ms;                        /* 0: never */
    int64_t fell_ms;                           /* when memory was last seen to fall; 0: never */
};
#define PRESSURE_HURRY_MS 100 /* between two looks at most, while memory goes fast */
struct pressure_verdict {
    unsigned conditions;  /* a bit for each that holds */
    int reclaim;          /* the index of the threshold to do something about; -1: none */
    int64_t next_look_ms; /* from now on */
};
/* observations: SIGNALS of them. now_ms > 0, on a clock that never goes back. */
void pressure_step(const struct pressure_config *config, struct pressure_state *state, const struct pressure_observation *observations,
                   int64_t now_ms, struct pressure_verdict *ret);
/* Memory goes so fast, since the last step, that a threshold could be met within seconds, or goes on below one; or did so a moment ago. */
bool pressure_is_falling(const struct pressure_config *config, const struct pressure_state *state, const struct pressure_observation *observations,
                         int64_t now_ms);
/* So little is left of memory that who was told to go is not waited for: half of what a hard threshold wants. */
bool pressure_is_pressing(const struct pressure_config *config, const struct pressure_observation *observations);
/* What was freed is enough: no threshold is met, those that were met with their minimum. */
bool pressure_is_relieved(const struct pressure_config *config, const struct pressure_observation *observations);
/* How much is lacking until the threshold is no longer met, its minimum included. */
int64_t pressure_lacking(const struct pressure_threshold *threshold, const struct pressure_observation *observation);

/* --- who has to go (eviction_rank.c) --- */

struct eviction_candidate {
    void *userdata;
    const char *uid; /* decides between equals, so that the order is the same every time */
    int64_t priority;
    bool is_known; /* what it uses */
    int64_t usage, request;
};
#define PRIORITY_SYSTEM_CRITICAL 2000000000

/* In upstream's order, the first to go first. */
void eviction_rank(enum pressure_signal signal, struct eviction_candidate *candidates, size_t count);
/* Whether anybody would notice that it went: see eviction_rank.c. */
bool eviction_helps(const struct eviction_candidate *candidate, int64_t lacking);

#define EVICTION_USAGES_MAX 64 /* containers that a message can name */
struct eviction_usage {
    const char *container;
    int64_t usage, request;
};
/* "The node was low on resource: memory. Threshold quantity: 100Mi, available: 88Mi. Container x was using …" */
void eviction_message(const struct pressure_threshold *threshold, const struct pressure_observation *observation, const struct eviction_usage *usages,
                      size_t count, char *ret, size_t size);

#endif

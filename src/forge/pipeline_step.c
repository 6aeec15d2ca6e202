/* The job processing state machine, as GitLab's ProcessPipelineService has it, without I/O: step(state, event, now) → actions.
 *
 *   created ──► pending ──► running ──► success | failed        start, container runs, ends
 *      │ └────► manual ──(play)──► pending                      a person decides
 *      └──────► skipped | canceled                              what was before it failed; the pipeline was cancelled
 *
 * After each event every `created` job is looked at, needed ones first: what is before it (its needs, or all jobs of earlier stages) is one composite
 * status; when that is complete, `when` says whether the job starts, waits for a person, or is skipped.
 *
 * Invariants
 * 1. Only `created` jobs are decided about, so repeating an event (after a restart) repeats no action.
 * 2. A job that may fail counts as success everywhere once it failed; on_failure jobs do not run for it.
 * 3. A cancelled pipeline starts nothing. */
#include "forge/pipeline.h"

static const char *const status_names[] = {"created", "pending", "running", "success", "failed", "canceled", "skipped", "manual"};

const char *job_status_name(enum job_status status) {
    return status_names[status];
}

int job_status_parse(struct slice name, enum job_status *ret) {
    for (size_t i = 0; i < ARRAY_LEN(status_names); i++) {
        if (slice_is(name, status_names[i])) {
            *ret = (enum job_status)i;
            return 0;
        }
    }
    return -EINVAL;
}

int pipeline_state_init(struct arena *arena, const struct plan *plan, struct pipeline_state *ret) {
    struct job_state *jobs = ARENA_ARRAY(arena, struct job_state, plan->jobs_count);
    if (!jobs)
        return -ENOMEM;
    *ret = (struct pipeline_state){.plan = plan, .status = JOB_CREATED, .jobs = jobs};
    return 0;
}

/* --- composite status --- */

/* Two more that only composites know, and all of them as bits. */
#define WARNED (JOB_MANUAL + 1)
#define IGNORED (JOB_MANUAL + 2)
#define BIT(status) (1U << (status))

static unsigned bit_of(const struct pipeline_state *state, size_t job) {
    enum job_status status = state->jobs[job].status;
    bool lenient = state->plan->jobs[job].allow_failure;
    if (lenient && (status == JOB_FAILED || status == JOB_CANCELED))
        return BIT(WARNED);
    return lenient && status == JOB_MANUAL ? BIT(IGNORED) : BIT(status);
}

static enum job_status composite_of(unsigned bits, bool dag) {
    const unsigned quiet = BIT(JOB_SKIPPED) | BIT(WARNED) | BIT(IGNORED);
    const struct {
        unsigned only; /* no other bit is set */
        enum job_status status;
    } onlys[] = {
        {BIT(JOB_SKIPPED) | BIT(IGNORED), JOB_SKIPPED},
        {BIT(JOB_SUCCESS) | quiet, JOB_SUCCESS},
        {BIT(JOB_CREATED) | BIT(WARNED) | BIT(IGNORED), JOB_CREATED},
        {BIT(JOB_CANCELED) | BIT(JOB_SUCCESS) | quiet, JOB_CANCELED},
        {BIT(JOB_PENDING) | BIT(JOB_CREATED) | quiet, JOB_PENDING},
    };
    const struct {
        unsigned any;
        enum job_status status;
    } anys[] = {{BIT(JOB_RUNNING) | BIT(JOB_PENDING), JOB_RUNNING}, {BIT(JOB_MANUAL), JOB_MANUAL}, {BIT(JOB_CREATED), JOB_RUNNING}};
    if (dag && (bits & (BIT(JOB_SKIPPED) | BIT(IGNORED))))
        return JOB_SKIPPED;
    if (dag && (bits & ~(BIT(JOB_SUCCESS) | BIT(JOB_FAILED) | BIT(JOB_CANCELED) | BIT(JOB_SKIPPED) | BIT(WARNED))))
        return JOB_PENDING;
    for (size_t i = 0; i < ARRAY_LEN(onlys); i++)
        if ((bits & ~onlys[i].only) == 0)
            return onlys[i].status;
    for (size_t i = 0; i < ARRAY_LEN(anys); i++)
        if (bits & anys[i].any)
            return anys[i].status;
    return JOB_FAILED;
}

enum job_status pipeline_composite(const struct pipeline_state *state, const size_t *jobs, size_t count, bool dag, bool *ret_empty) {
    unsigned bits = 0;
    for (size_t i = 0; i < count; i++)
        bits |= bit_of(state, jobs[i]);
    *ret_empty = bits == 0;
    return bits ? composite_of(bits, dag) : JOB_SUCCESS;
}

/* What stands before a job; with nothing before it, success. */
static enum job_status previous(const struct pipeline_state *state, size_t job) {
    const struct plan_job *plan_job = &state->plan->jobs[job];
    bool empty;
    if (plan_job->dag)
        return pipeline_composite(state, plan_job->needs, plan_job->needs_count, true, &empty);
    unsigned bits = 0;
    for (size_t i = 0; i < state->plan->jobs_count; i++)
        bits |= state->plan->jobs[i].stage < plan_job->stage ? bit_of(state, i) : 0;
    return bits ? composite_of(bits, false) : JOB_SUCCESS;
}

/* --- stepping --- */

static void act(struct pipeline_actions *actions, enum pipeline_action_type type, size_t job) {
    ASSERT(actions->count < ARRAY_LEN(actions->items));
    actions->items[actions->count++] = (struct pipeline_action){.type = type, .job = job};
}

static void start(struct pipeline_state *state, size_t job, struct pipeline_actions *actions) {
    state->jobs[job] = (struct job_state){.status = JOB_PENDING};
    act(actions, PIPELINE_ACTION_START_JOB, job);
}

static void decide(struct pipeline_state *state, size_t job, int64_t now_ms, struct pipeline_actions *actions) {
    const struct plan_job *plan_job = &state->plan->jobs[job];
    enum job_status before = previous(state, job);
    bool runs = false;
    if (!job_status_is_final(before))
        return;
    if (plan_job->when == PIPELINE_ON_FAILURE)
        runs = before == JOB_FAILED;
    else if (plan_job->when == PIPELINE_ALWAYS)
        runs = before == JOB_SUCCESS || before == JOB_FAILED || before == JOB_SKIPPED;
    else
        runs = before == JOB_SUCCESS || (before == JOB_SKIPPED && !plan_job->dag);
    if (runs && plan_job->when == PIPELINE_MANUAL) {
        state->jobs[job].status = JOB_MANUAL;
        act(actions, PIPELINE_ACTION_MANUAL, job);
    } else if (runs) {
        start(state, job, actions);
    } else {
        state->jobs[job] = (struct job_state){.status = JOB_SKIPPED, .finished_ms = now_ms};
        act(actions, PIPELINE_ACTION_SKIPPED, job);
    }
}

/* By stage, and within a stage in the order of needs: needs never point to a later stage, so one pass sees every consequence. */
static void process(struct pipeline_state *state, int64_t now_ms, struct pipeline_actions *actions) {
    for (size_t stage = 0; stage < state->plan->stages.count; stage++) {
        for (size_t i = 0; i < state->plan->jobs_count; i++) {
            size_t job = state->plan->order[i];
            if (state->plan->jobs[job].stage == stage && state->jobs[job].status == JOB_CREATED)
                decide(state, job, now_ms, actions);
        }
    }
}

/* Jobs that were skipped because of this one, or cancelled before they started, get another chance. */
static void reset_skipped(struct pipeline_state *state, size_t job) {
    bool affected[PIPELINE_JOBS_MAX] = {false};
    affected[job] = true;
    for (size_t i = 0; i < state->plan->jobs_count; i++) {
        size_t at = state->plan->order[i];
        const struct plan_job *plan_job = &state->plan->jobs[at];
        bool hit = !plan_job->dag && plan_job->stage > state->plan->jobs[job].stage;
        for (size_t k = 0; k < plan_job->needs_count; k++)
            hit |= affected[plan_job->needs[k]];
        if (hit && at != job) {
            affected[at] = true;
            if (state->jobs[at].status == JOB_SKIPPED || (state->jobs[at].status == JOB_CANCELED && !state->jobs[at].started_ms))
                state->jobs[at] = (struct job_state){.status = JOB_CREATED};
        }
    }
}

static void cancel(struct pipeline_state *state, int64_t now_ms, struct pipeline_actions *actions) {
    state->canceling = true;
    for (size_t i = 0; i < state->plan->jobs_count; i++) {
        enum job_status status = state->jobs[i].status;
        if (status == JOB_PENDING || status == JOB_RUNNING)
            act(actions, PIPELINE_ACTION_STOP_JOB, i);
        else if (status == JOB_CREATED || status == JOB_MANUAL)
            state->jobs[i] = (struct job_state){.status = JOB_CANCELED, .finished_ms = now_ms};
    }
}

static bool finish(struct job_state *job, enum job_status status, int64_t now_ms) {
    if (job->status != JOB_PENDING && job->status != JOB_RUNNING)
        return false;
    job->status = status;
    job->finished_ms = now_ms;
    job->started_ms = job->started_ms ? job->started_ms : now_ms;
    return true;
}

static bool apply(struct pipeline_state *state, const struct pipeline_event *event, int64_t now_ms, struct pipeline_actions *actions) {
    bool of_job = event->type != PIPELINE_EVENT_START && event->type != PIPELINE_EVENT_CANCEL;
    if (of_job && event->job >= state->plan->jobs_count)
        return false;
    struct job_state *job = of_job ? &state->jobs[event->job] : NULL;
    switch (event->type) {
    case PIPELINE_EVENT_START: return true;
    case PIPELINE_EVENT_JOB_RUNNING:
        if (job->status != JOB_PENDING)
            return false;
        *job = (struct job_state){.status = JOB_RUNNING, .started_ms = now_ms};
        return true;
    case PIPELINE_EVENT_JOB_SUCCESS: return finish(job, JOB_SUCCESS, now_ms);
    case PIPELINE_EVENT_JOB_FAILED: return finish(job, state->canceling ? JOB_CANCELED : JOB_FAILED, now_ms);
    case PIPELINE_EVENT_JOB_CANCELED: return finish(job, JOB_CANCELED, now_ms);
    case PIPELINE_EVENT_JOB_PLAY:
    case PIPELINE_EVENT_JOB_RETRY:
        if (event->type == PIPELINE_EVENT_JOB_PLAY ? job->status != JOB_MANUAL : !job_status_is_final(job->status) || job->status == JOB_SKIPPED)
            return false;
        state->canceling = false;
        start(state, event->job, actions);
        reset_skipped(state, event->job);
        return true;
    case PIPELINE_EVENT_CANCEL: cancel(state, now_ms, actions); return true;
    }
    return false;
}

bool pipeline_step(struct pipeline_state *state, const struct pipeline_event *event, int64_t now_ms, struct pipeline_actions *ret) {
    ret->count = 0;
    if (!apply(state, event, now_ms, ret))
        return false;
    if (!state->canceling)
        process(state, now_ms, ret);
    unsigned bits = 0;
    for (size_t i = 0; i < state->plan->jobs_count; i++)
        bits |= bit_of(state, i);
    enum job_status status = bits ? composite_of(bits, false) : JOB_SUCCESS;
    if (status != state->status) {
        state->status = status;
        act(ret, PIPELINE_ACTION_STATUS, 0);
    }
    return true;
}

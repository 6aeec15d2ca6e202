/* Pipeline files, without I/O: .gitlab-ci.yml → struct pipeline (parse) → struct plan (what runs for this push) → actions (step by step).
 *
 * Everything lives in the arena that was given to the parser; strings are NUL-terminated; nothing is freed singly. */
#ifndef TIDEMILL_FORGE_PIPELINE_H
#define TIDEMILL_FORGE_PIPELINE_H

#include "base/base.h"
#include "codec/codec.h"

#define PIPELINE_FILE ".gitlab-ci.yml"
#define PIPELINE_FILE_BYTES_MAX (512 * KIB)
#define PIPELINE_ARENA_BYTES_MAX (16 * MIB)
#define PIPELINE_JOBS_MAX 200
#define PIPELINE_STAGES_MAX 50
#define PIPELINE_NEEDS_MAX 50
#define PIPELINE_EXTENDS_DEPTH_MAX 11
#define PIPELINE_NAME_BYTES_MAX 255
#define PIPELINE_VARIABLES_MAX 500
#define PIPELINE_SCRIPT_LINES_MAX 1000
#define PIPELINE_WARNINGS_MAX 16
#define PIPELINE_JOB_TIMEOUT_S 3600
#define PIPELINE_JOB_TIMEOUT_S_MAX (24 * 3600)

struct pipeline_strings {
    const char **items;
    size_t count;
};
struct pipeline_variable {
    const char *name;
    const char *value;
    bool raw; /* `expand: false`: taken as it stands */
};
struct pipeline_variables {
    struct pipeline_variable *items;
    size_t count;
};

enum pipeline_when { PIPELINE_ON_SUCCESS, PIPELINE_ON_FAILURE, PIPELINE_ALWAYS, PIPELINE_MANUAL, PIPELINE_NEVER };

struct pipeline_need {
    const char *job;
    bool optional;  /* the job may be left out by its rules */
    bool artifacts; /* fetch its artifacts; default true */
    uint32_t line, column;
};
struct pipeline_needs {
    struct pipeline_need *items;
    size_t count;
};
struct expression;
struct pipeline_rule {
    struct expression *condition; /* NULL: always matches */
    bool has_when, has_allow_failure, has_needs;
    enum pipeline_when when;
    bool allow_failure;
    struct pipeline_variables variables;
    struct pipeline_needs needs;
};
struct pipeline_rules {
    struct pipeline_rule *items;
    size_t count;
};

/* Jobs of the generated pipeline that the forge does itself, without a script and a pod for it. */
enum pipeline_builtin { PIPELINE_SCRIPT, PIPELINE_BUILTIN_BUILD, PIPELINE_BUILTIN_DEPLOY };

struct pipeline_job {
    const char *name;
    const char *stage;
    size_t stage_index;
    enum pipeline_builtin builtin;
    const char *image; /* NULL: the platform's default */
    struct pipeline_strings entrypoint;
    struct pipeline_strings before_script, script, after_script;
    struct pipeline_variables variables;
    bool has_needs; /* scheduled by its needs alone ("dag"), even when the list is empty */
    struct pipeline_needs needs;
    bool has_dependencies;
    struct pipeline_strings dependencies;
    bool has_rules;
    struct pipeline_rules rules;
    bool has_only;
    struct pipeline_strings only, except;
    bool has_when, has_allow_failure;
    enum pipeline_when when;
    bool allow_failure;
    struct pipeline_strings artifact_paths, artifact_excludes;
    enum pipeline_when artifacts_when; /* on_success, on_failure, always */
    int64_t timeout_s;
    uint32_t line, column;
};

struct pipeline {
    const char *file;
    struct pipeline_strings stages; /* .pre first, .post last */
    struct pipeline_job *jobs;      /* in source order */
    size_t jobs_count;
    struct pipeline_variables variables;
    bool has_workflow_rules;
    struct pipeline_rules workflow_rules;
    struct pipeline_strings warnings; /* "file:line: …": what was understood and has no effect here */
};

/* 0 and *ret in the arena; -EINVAL with diag (file, line, column, path, message, hint); -ENOMEM at the arena's limit (diag set as well). `file` names
 * the text in messages. */
int pipeline_parse(struct arena *arena, const char *file, struct slice text, struct pipeline **ret, struct diag *diag);

/* The pipeline of a repository without a file: build the image, then deploy. */
int pipeline_default(struct arena *arena, struct pipeline **ret);

/* --- variables --- */
/* NULL when absent. The last of equal names wins. */
const char *pipeline_variables_find(const struct pipeline_variables *variables, const char *name);
/* Sets or replaces; name and value are copied into the arena. 0, -ENOMEM. */
int pipeline_variables_set(struct arena *arena, struct pipeline_variables *variables, const char *name, const char *value, bool raw);
/* All of `from`, over what is there; names and values are shared, not copied. */
int pipeline_variables_merge(struct arena *arena, struct pipeline_variables *variables, const struct pipeline_variables *from);
enum pipeline_unknown { PIPELINE_UNKNOWN_EMPTY, PIPELINE_UNKNOWN_KEEP };
/* Appends `text` with $NAME and ${NAME} replaced by (once more expanded) values, `$$` by `$`. A reference to a name that is not set disappears or
 * stays as it is. References in a circle stay as they are. 0, or the buffer's error. */
int pipeline_expand(const struct pipeline_variables *variables, struct slice text, enum pipeline_unknown unknown, struct buffer *out);

/* --- plan --- */
struct plan_job {
    const struct pipeline_job *job;
    enum pipeline_when when;
    bool allow_failure;
    bool dag;
    size_t stage;                                /* index into plan->stages */
    const struct pipeline_needs *declared_needs; /* the job's, or those of the rule that matched */
    size_t *needs;                               /* indices of plan jobs; absent optional ones are left out */
    size_t needs_count;
    size_t *artifact_sources; /* plan jobs whose artifacts are fetched before the script */
    size_t artifact_sources_count;
    struct pipeline_variables variables; /* predefined, global, job, rule: merged, not expanded */
};
struct plan {
    struct pipeline_strings stages; /* those that have a job */
    struct plan_job *jobs;          /* by stage, then in source order */
    size_t jobs_count;
    size_t *order; /* indices of jobs: within a stage, needed ones first */
};
/* `predefined` are the CI_* variables of this push (CI_COMMIT_BRANCH absent for tags). 0 with a plan, whose jobs_count is 0 when rules leave nothing
 * to run; -EINVAL with diag (a needed job was left out by its rules, …); -ENOMEM. */
int pipeline_plan(struct arena *arena, const struct pipeline *pipeline, const struct pipeline_variables *predefined, struct plan **ret,
                  struct diag *diag);

/* --- step --- */
enum job_status { JOB_CREATED, JOB_PENDING, JOB_RUNNING, JOB_SUCCESS, JOB_FAILED, JOB_CANCELED, JOB_SKIPPED, JOB_MANUAL };
const char *job_status_name(enum job_status status);
/* -EINVAL when unknown. */
int job_status_parse(struct slice name, enum job_status *ret);
static inline bool job_status_is_final(enum job_status status) {
    return status == JOB_SUCCESS || status == JOB_FAILED || status == JOB_CANCELED || status == JOB_SKIPPED;
}

struct job_state {
    enum job_status status;
    int64_t started_ms, finished_ms; /* 0: not yet */
};
/* Plain data that the caller keeps and stores; jobs[i] belongs to plan->jobs[i]. */
struct pipeline_state {
    const struct plan *plan;
    enum job_status status; /* of the whole: created, pending, running, success, failed, canceled, skipped, manual */
    struct job_state *jobs;
    bool canceling;
};
int pipeline_state_init(struct arena *arena, const struct plan *plan, struct pipeline_state *ret);

enum pipeline_event_type {
    PIPELINE_EVENT_START,       /* the first step; also after a restart: repeats nothing */
    PIPELINE_EVENT_JOB_RUNNING, /* its container runs */
    PIPELINE_EVENT_JOB_SUCCESS,
    PIPELINE_EVENT_JOB_FAILED,
    PIPELINE_EVENT_JOB_CANCELED,
    PIPELINE_EVENT_JOB_PLAY,  /* a person starts a manual job */
    PIPELINE_EVENT_JOB_RETRY, /* a person starts a finished job again */
    PIPELINE_EVENT_CANCEL,    /* the whole pipeline */
};
struct pipeline_event {
    enum pipeline_event_type type;
    size_t job;
};
enum pipeline_action_type {
    PIPELINE_ACTION_START_JOB, /* its status is pending now */
    PIPELINE_ACTION_STOP_JOB,  /* of a cancelled pipeline: kill it, then send JOB_CANCELED */
    PIPELINE_ACTION_SKIPPED,   /* tell the person */
    PIPELINE_ACTION_MANUAL,    /* tell the person: it waits to be played */
    PIPELINE_ACTION_STATUS,    /* the pipeline's own status changed; state->status has it */
};
struct pipeline_action {
    enum pipeline_action_type type;
    size_t job;
};
struct pipeline_actions {
    struct pipeline_action items[2 * PIPELINE_JOBS_MAX + 2];
    size_t count;
};
/* Applies the event to the state and says what to do. Events that do not fit the job's status (a late success of a cancelled job) are ignored: false.
 */
bool pipeline_step(struct pipeline_state *state, const struct pipeline_event *event, int64_t now_ms, struct pipeline_actions *ret);
/* GitLab's composite status of a set of jobs; exported for tests. */
enum job_status pipeline_composite(const struct pipeline_state *state, const size_t *jobs, size_t count, bool dag, bool *ret_empty);

/* --- what is generated for a repository that has only a Dockerfile --- */
/* The first EXPOSE of the last stage, or 8080. */
int dockerfile_exposed_port(struct slice text);
/* Appends a Deployment, a Service and an Ingress as YAML. */
struct manifest_options {
    const char *app, *image, *domain;
    int port;
};
int manifest_generate(const struct manifest_options *options, struct buffer *out);

#endif

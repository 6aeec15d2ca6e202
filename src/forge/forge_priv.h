/* The forge from inside. Who is who:
 *
 *   app      a repository and a namespace                       app.c, git.c (HTTP), commit.c (reading commits), hook.c (pushes)
 *   run      one pipeline of one commit                         run.c (life), run_job.c (its jobs), record.c (durable form)
 *   podrun   one pod from creation to its end, with its log     podrun.c
 *   build    one image being built; one at a time               build.c
 *   apply    manifests being applied and rolled out             apply.c
 *   joblog   a growing log and its followers                    joblog.c */
#ifndef TIDEMILL_FORGE_FORGE_PRIV_H
#define TIDEMILL_FORGE_FORGE_PRIV_H

#include "forge/forge.h"
#include "forge/joblog_priv.h"

#define TOKEN_BYTES 32  /* characters of a token, of [0-9a-z] without look-alikes */
#define DIGEST_BYTES 65 /* SHA-256 in hex and NUL */
#define SHA_BYTES 65    /* an object id in hex (SHA-1 or SHA-256) and NUL */
#define APP_NAME_MAX 50 /* leaves room for pod names */
#define APPS_MAX 1000
#define RUNS_KEPT_PER_APP 100
#define ARTIFACTS_KEPT_PER_APP 10
#define RECORD_BYTES_MAX (1 * MIB)
#define RUN_ARENA_BYTES_MAX (32 * MIB)
#define REQUEST_BODY_MAX (64 * KIB)
#define UPDATES_MAX 32 /* refs of one push */
#define COMMIT_TITLE_MAX 200
#define ARTIFACTS_BYTES_MAX (1 * GIB)
#define CONTEXT_BYTES_MAX (1 * GIB)
#define MANIFESTS_BYTES_MAX (8 * MIB)

struct forge_app {
    struct forge *forge;
    char name[APP_NAME_MAX + 1];
    char token_digest[DIGEST_BYTES];
    int64_t created_ms;
    bool deleting;
    bool pushed; /* since its repository was looked after, or unknown */
};

struct forge {
    struct loop *loop;
    struct forge_options options; /* texts are in the arena */
    struct arena *arena;
    const char *folder; /* <state>/forge */
    struct map *apps;
    VECTOR(struct run *) runs; /* by id, oldest first */
    uint64_t next_run, next_build;
    struct informer *pods;
    void (*on_ready)(struct forge *forge); /* once the pods are known */
    struct list podruns;
    struct list builds; /* the first one runs */
    struct list pushes;
    struct list operations; /* answers under way that must be cancelled in forge_free */
    bool cleaning; /* see clean.c */
    bool closing;
};

/* --- forge.c --- */
char *forge_path(const struct forge *forge, struct arena *arena, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Heap. */
char *forge_path_new(const struct forge *forge, const char *format, ...) __attribute__((format(printf, 2, 3)));
int64_t forge_now_ms(const struct forge *forge);
void token_make(char ret[TOKEN_BYTES + 1]);
void token_digest(const char *token, char ret[DIGEST_BYTES]);
bool token_matches(struct slice token, const char *digest);
/* The bearer token of a request; data NULL when there is none. */
struct slice bearer_of(const struct http_exchange *exchange);
/* A JSON answer {"message": …, "hint": …}. */
void respond_diag(struct http_exchange *exchange, int status, const struct diag *diag);
void respond_message(struct http_exchange *exchange, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
void respond_tree(struct http_exchange *exchange, int status, const struct tree *tree);
int status_of_error(int error);
/* Environment and arguments for git in the arena: quarantine is the folder of objects of a push that is not accepted yet, or NULL. `extra` ("K=v")
 * ends with NULL, may be NULL. */
const char *const *git_environment(struct forge *forge, struct arena *arena, const char *const *extra);

/* Something asynchronous that forge_free must be able to end: embed it first. Each has at most one request or command under way. */
struct operation {
    struct list node;
    struct forge *forge;
    struct http_exchange *exchange; /* NULL once it is gone, or when there is none */
    struct http_request *request;
    struct loop_command *command;
    void (*destroy)(struct operation *operation); /* frees what the outer struct owns, and it */
    bool writing;                                 /* a record is on its way: its on_done asks operation_written first */
    bool orphaned;
};
void operation_init(struct operation *operation, struct forge *forge, struct http_exchange *exchange, void (*destroy)(struct operation *operation));
/* Cancels what is under way and destroys, at once or, when a record is being written, after that. */
void operation_end(struct operation *operation);
/* To our own API; on_answer gets the operation (forget operation->request first thing: operation_answered). */
int operation_request(struct operation *operation, const char *method, const char *target, const char *content_type, struct slice body,
                      http_answer_fn *on_answer);
/* Writes a record; on_done gets the operation and returns at once when operation_written(operation) is false. */
int operation_put(struct operation *operation, struct slice key, struct slice value, void (*on_done)(void *userdata, int error));
bool operation_written(struct operation *operation);
/* Runs git with the repository as its folder; on_done gets the operation. */
int operation_git(struct operation *operation, struct loop_command_options *options, loop_command_fn *on_done);

/* --- app.c --- */
struct forge_app *app_find(const struct forge *forge, struct slice name);
int apps_load(struct forge *forge, struct diag *diag);
/* The JSON of an app for the command line; NULL at the arena's limit. */
struct tree *app_tree(struct forge_app *app, struct arena *arena);
/* Asynchronous; each answers the exchange. */
void app_create(struct forge *forge, struct http_exchange *exchange, const char *name);
void app_delete(struct forge_app *app, struct http_exchange *exchange);
void app_new_token(struct forge_app *app, struct http_exchange *exchange);
char *app_url(const struct forge_app *app, struct arena *arena);

/* --- commit.c --- */
/* What the forge wants to know of a commit. Texts are in `arena`. */
struct commit {
    char sha[SHA_BYTES];
    const char *author, *title, *message, *timestamp;
    struct slice pipeline_file; /* data NULL: none */
    struct slice dockerfile;    /* data NULL: none */
    bool has_deploy;            /* a folder deploy/ */
};
typedef void commit_fn(void *userdata, int error, const struct commit *commit, const struct diag *diag);
/* Reads a commit; on_done runs later, with everything borrowed for the call. `quarantine` may be NULL. */
int commit_read(struct forge_app *app, const char *sha, const char *quarantine, commit_fn *on_done, void *userdata);
bool sha_is_valid(struct slice sha);
bool sha_is_zero(struct slice sha);

/* --- git.c, hook.c --- */
/* A request to git under way. That of a push lets git's hooks talk to us: its token is theirs. */
struct push {
    struct list node;
    struct forge *forge;
    char app[APP_NAME_MAX + 1];
    char token[TOKEN_BYTES + 1];
    struct http_exchange *exchange; /* NULL: the client is gone, git finishes alone */
    struct program *program;
    struct buffer head;
    bool head_done, body_done;
};
void pushes_free(struct forge *forge);
struct push *push_find(const struct forge *forge, struct slice token);
void hook_handle(struct forge *forge, struct http_exchange *exchange);

/* --- run.c: a pipeline's life --- */
struct run;
struct ref_update {
    char old_sha[SHA_BYTES], new_sha[SHA_BYTES];
    char ref[256]; /* refs/heads/main */
};
struct podrun;
struct build;
struct apply;

struct run_job {
    struct run *run;
    size_t index;
    const char *name, *stage; /* in the run's arena */
    bool allow_failure;
    char token_digest[DIGEST_BYTES]; /* empty: has none */
    char pod_name[64];               /* of the last attempt */
    int exit_code;
    int failed_line;            /* of the script, from 1; 0: unknown */
    const char *failed_command; /* NULL: unknown; in the run's arena */
    const char *reason;         /* why it failed, when not by its script; in the run's arena */
    /* while it runs */
    struct podrun *pod;
    struct build *build;
    struct apply *apply;
    struct operation *fetching; /* the sources, for a job without a pod */
    struct joblog *log;
    struct buffer line; /* the unfinished line, for the run's log */
    struct loop_timer timeout;
    bool stopping; /* as soon as its pod is known */
};

struct run {
    struct forge *forge;
    uint64_t id;
    char app[APP_NAME_MAX + 1];
    struct ref_update update;
    char sha[SHA_BYTES];
    const char *title, *author, *message, *timestamp, *default_branch;
    int port; /* that the Dockerfile exposes */
    bool has_deploy;
    const char *address; /* where what it deployed answers; NULL or empty: nowhere */
    int64_t created_ms, finished_ms;
    struct arena *arena;
    struct pipeline *pipeline; /* NULL: only the record is loaded */
    struct pipeline_variables predefined;
    struct pipeline_state state; /* state.plan is NULL as well then; state.jobs is always there */
    struct run_job *jobs;
    size_t jobs_count;
    struct joblog *log;      /* NULL: nobody writes */
    struct run_write *write; /* a record on its way to the disk */
    bool dirty;
    VECTOR(struct pipeline_event) events;
    struct loop_defer stepping;
};

/* Is this a ref whose pushes start pipelines? */
bool ref_starts_pipeline(const struct ref_update *update);
/* "refs/heads/main" → "main". */
const char *ref_short(const char *ref);
/* What a pipeline is made from. */
struct run_source {
    const char *app;
    const struct ref_update *update;
    const struct commit *commit;
    const char *default_branch;
    uint64_t id;
};
struct prepared {
    struct pipeline *pipeline; /* NULL: neither a pipeline file nor a Dockerfile */
    struct plan *plan;
    struct pipeline_variables predefined;
};
/* Parses the commit's pipeline file, or makes the default one, and plans: to check a push and to start a run. */
int run_prepare(const struct forge *forge, const struct run_source *source, struct arena *arena, struct prepared *ret, struct diag *diag);
/* Starts a pipeline; *ret is NULL when there is nothing to run (diag says why). */
int run_create(struct forge *forge, struct run_source *source, struct run **ret, struct diag *diag);
/* An empty one with an arena. */
struct run *run_new(struct forge *forge, uint64_t id);
struct run *run_find(const struct forge *forge, uint64_t id);
/* Loads the plan of a recorded run again, to continue, play or retry. */
int run_activate(struct run *run, struct diag *diag);
/* Queues an event; it is processed at the end of this turn. */
void run_post(struct run *run, enum pipeline_event_type type, size_t job);
/* A line of the run's own log: what pushes see. */
void run_say(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Notes where the application answers, for the last line of the log; the first address stays. */
void run_set_address(struct run *run, const char *url);
void run_free(struct run *run);
void runs_free(struct forge *forge);
int runs_load(struct forge *forge, struct diag *diag);
/* Cancels what runs and removes records and files. */
void runs_forget_app(struct forge_app *app);
struct tree *run_tree(const struct run *run, struct arena *arena, bool with_jobs);
struct tree *run_last_tree(const struct forge_app *app, struct arena *arena);
enum job_status run_job_status(const struct run *run, size_t job);

/* --- record.c: a run's durable form --- */
int run_save(struct run *run);
void run_write_orphan(struct run *run);
/* A finished run keeps what its record has, in a fresh arena. */
void run_shrink(struct run *run);
void run_forget(struct run *run);
int records_load(struct forge *forge, struct diag *diag);

/* --- run_job.c: its jobs --- */
void job_start(struct run_job *job);
/* As on_end of its pod comes: reason is NULL when the script decided. */
void job_end(struct run_job *job, int exit_code, const char *reason);
void job_stop(struct run_job *job);
/* After a restart: finds the pod again, or fails. */
void job_adopt(struct run_job *job);
void job_output(struct run_job *job, struct slice bytes);
/* Stops everything without a word: the forge ends. The pod goes on. */
void job_detach(struct run_job *job);
char *job_log_path(const struct run_job *job);
char *job_artifacts_path(const struct run *run, size_t job);
struct run_job *job_by_token(const struct forge *forge, struct slice token);
/* The image as manifests and jobs name it: <registry>/<app>:<short sha>. In the arena. */
char *run_image(const struct run *run, struct arena *arena);

/* --- job_api.c: what job pods ask --- */
void job_handle(struct forge *forge, struct http_exchange *exchange);

/* --- podrun.c --- */
struct podrun_end {
    bool started;       /* a container ran */
    int exit_code;      /* of the container; -1: unknown */
    const char *reason; /* NULL: its exit code says all; borrowed */
};
struct podrun_handlers {
    void (*on_running)(void *userdata); /* may be NULL */
    void (*on_output)(void *userdata, struct slice output);
    void (*on_end)(void *userdata, const struct podrun_end *end); /* last callback; the podrun is gone afterwards */
};
struct podrun_options {
    const char *name;   /* copied */
    struct slice json;  /* data NULL: adopts a pod that exists */
    int64_t log_offset; /* bytes of the log that are already known */
};
int podrun_start(struct forge *forge, const struct podrun_options *options, const struct podrun_handlers *handlers, void *userdata,
                 struct podrun **ret);
/* Deletes the pod; no callback follows. */
void podrun_kill(struct podrun *podrun);
/* Forgets it and lets the pod run; no callback follows. */
void podrun_detach(struct podrun *podrun);
void podruns_free(struct forge *forge);
/* The informer over FORGE_NAMESPACE; runs on_ready once it knows all pods. */
int podruns_watch(struct forge *forge, void (*on_ready)(struct forge *forge));

/* --- build.c, apply.c --- */
/* Where a build or deployment writes to and what it tells at its end. */
struct work_handlers {
    void (*on_output)(void *userdata, struct slice output);
    void (*on_address)(void *userdata, const char *url); /* an Ingress was applied; may be NULL */
    void (*on_done)(void *userdata, int exit_code);      /* last callback; the work is gone afterwards */
};
struct build_request {
    const char *app, *tag;              /* the image is <app>:<tag>, and :latest */
    const char *dockerfile, *target;    /* NULL: the usual */
    const char *const *build_arguments; /* ends with NULL; may be NULL */
};
/* The folder for a new build, in the arena: the caller puts context.tar there. NULL on failure. */
char *build_folder_new(struct forge *forge, struct arena *arena);
/* Takes over the folder; builds run one after the other. */
int build_start(struct forge *forge, const char *folder, const struct build_request *request, const struct work_handlers *handlers, void *userdata,
                struct build **ret);
/* No callback follows. NULL is fine. */
void build_cancel(struct build *build);
bool build_token_allows(const struct forge *forge, struct slice token, const char *repository);

struct apply_request {
    const char *app;
    const struct pipeline_variables *variables; /* borrowed until apply_start returns */
    struct slice tar;                           /* of manifests; or data NULL: */
    struct slice manifest;                      /* one text */
    const char *manifest_name;
};
int apply_start(struct forge *forge, const struct apply_request *request, const struct work_handlers *handlers, void *userdata, struct apply **ret);
void apply_cancel(struct apply *apply);

#endif

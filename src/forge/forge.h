/* The forge: git hosting over smart HTTP, a pipeline per push, jobs as pods, image builds and deployments from jobs. See README.md.
 *
 * The pure parts (pipeline files, plans, the state machine) are in pipeline.h and do no I/O; this is what runs them. Everything happens on the loop's
 * thread; the cluster is reached through the client alone. Records are written through forge_storage before they are shown, so that a restart finds
 * every pipeline again. */
#ifndef TIDEMILL_FORGE_H
#define TIDEMILL_FORGE_H

#include "base/base.h"
#include "client/client.h"
#include "forge/pipeline.h"
#include "http/http.h"
#include "loop/loop.h"

/* Where jobs and builds run: out of the applications' sight. */
#define FORGE_NAMESPACE "tidemill-ci"

struct forge;

/* A durable key-value table; has the signatures of store_meta_put, store_meta_get and store_meta_list behind their first argument. Keys start with
 * "forge/". */
struct forge_storage {
    int (*put)(void *userdata, struct slice key, struct slice value, void (*on_done)(void *userdata, int error),
               void *done_userdata);                       /* data NULL deletes */
    struct slice (*get)(void *userdata, struct slice key); /* borrowed until the next put; data NULL when absent */
    void (*list)(void *userdata, struct slice prefix, bool (*each)(void *userdata, struct slice key, struct slice value), void *each_userdata);
    void *userdata;
};

/* An image to be built by a pod. Lists end with NULL. */
struct forge_build {
    const char *name, *namespace;    /* of the pod */
    const char *const *labels;       /* "key=value" */
    const char *work_folder;         /* on this machine: holds context.tar; the callback may add what the pod needs (auth.json) */
    const char *cache_folder;        /* one build at a time uses it: the forge sees to that */
    const char *dockerfile, *target; /* NULL: the usual */
    const char *image;               /* "app:tag", without registry */
    const char *const *build_arguments;
    const char *user, *password; /* credentials for the registry that allow pushing this repository while the build runs, see forge_registry_allows */
};

struct forge_options {
    const char *state;     /* the platform's state folder; the forge's is <state>/forge */
    struct client *client; /* to our own API, as an administrator; borrowed */
    struct forge_storage storage;
    const char *instance;
    const char *helper_path;   /* the tidemill-job program; copied to <state>/forge/helper, which job pods and git's hooks see */
    const char *job_socket;    /* where forge_handle_job is served; the folder it is in is mounted into job pods and must hold nothing else */
    const char *git_url;       /* "http://127.0.0.1:7080": where forge_handle_git is served */
    const char *registry;      /* "10.42.0.1:5000", as pods reach it: CI_REGISTRY */
    const char *domain;        /* of applications: "localhost" gives http://app.localhost */
    int gateway_port;          /* for the URLs that are printed; 80 is left out */
    const char *default_image; /* of jobs without `image`; NULL: "debian:12" */
    const char *job_cpu_limit, *job_memory_limit; /* quantities; NULL: "1" and "512Mi" */
    /* The pod that builds, as JSON in the arena; NULL on failure with diag. */
    char *(*build_pod_json)(void *userdata, struct arena *arena, const struct forge_build *build, struct diag *diag);
    /* Gives an image of the registry a second tag; 0 or negative errno. May be NULL. */
    int (*image_tag)(void *userdata, const char *repository, const char *tag, const char *new_tag);
    /* A pipeline has ended, whatever came of it: a good moment to tidy up. May be NULL. */
    void (*on_pipeline_end)(void *userdata);
    void *userdata;
};

/* Reads the records; pipelines that were running go on as soon as the API answers. Copies the options' texts. -EINVAL or negative errno with diag. */
int forge_new(struct loop *loop, const struct forge_options *options, struct forge **ret, struct diag *diag);
/* The servers that feed it, and running jobs' exchanges with them, must be freed before. Pods of running jobs keep running. NULL is fine. */
void forge_free(struct forge *forge);
DEFINE_CLEANUP(struct forge, forge_free)

/* --- http_handler_fn's; userdata is the forge --- */

/* git's smart HTTP: /<app>.git/… with basic authentication (any user name, the application's token as password). */
void forge_handle_git(void *forge, struct http_exchange *exchange);
/* Beneath /tidemill/v1/, for a caller that was authorised as administrator:
 *   GET|POST /apps {name}    GET|DELETE /apps/{app}    POST /apps/{app}/token    GET /apps/{app}/pipelines
 *   GET /pipelines[?app=]    GET /pipelines/{id}    GET /pipelines/{id}/logs[?job=][&follow=1]
 *   POST /pipelines/{id}/cancel    POST /pipelines/{id}/retry    POST /pipelines/{id}/jobs/{name}/play|retry
 * JSON, but for logs, which are text. Errors are {"message": …, "hint": …}. */
void forge_handle_cli(void *forge, struct http_exchange *exchange);
/* For the job socket: /job/v1/… with a job's token, /hook/v1/… with a push's token. */
void forge_handle_job(void *forge, struct http_exchange *exchange);

/* For the registry's authorisation: may the bearer of this password (a job's or build's token, whatever the user) read or write the repository? */
bool forge_registry_allows(struct forge *forge, const char *password, const char *repository, bool write);

/* Looks after the repositories that were pushed to (git gc --auto), in the background; harmless at any time. */
void forge_clean(struct forge *forge);
/* Before an image is removed: is this the repository of an application, and is the image that of a
 * commit whose pipeline has not ended? */
bool forge_has_app(const struct forge *forge, const char *name);
bool forge_awaits_image(const struct forge *forge, const char *repository, const char *tag);

struct forge_statistics {
    uint64_t apps, pipelines, jobs_running, builds_running; /* pipelines: all that were ever started */
};
void forge_statistics(const struct forge *forge, struct forge_statistics *ret);

#endif

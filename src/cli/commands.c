/* The one table of commands. Order: as `tidemill --help` lists them. */
#include "cli/command_priv.h"
#include "cli/functions_priv.h"
#include "cli/session_priv.h"
#include "cli/settings_priv.h"

static const struct flag up_flags[] = {
    {"detach", 'd', FLAG_BOOL, NULL, NULL, "return when the platform is ready; it runs on in the background"},
    {"check", 0, FLAG_BOOL, NULL, NULL, "only look whether the settings and the machine are fit, and end"},
    {.name = NULL},
};
static const struct flag down_flags[] = {
    {"all", 0, FLAG_BOOL, NULL, NULL, "end the containers too, and remove the networks made for them"},
    {.name = NULL},
};
static const struct flag apply_flags[] = {
    {"filename", 'f', FLAG_LIST, "FILE", NULL, "manifest file, folder of manifests, or - for standard input; may be repeated"},
    {"namespace", 'n', FLAG_TEXT, "NAME", "default", "namespace of objects that name none"},
    {.name = NULL},
};
static const struct flag logs_flags[] = {
    {"follow", 'f', FLAG_BOOL, NULL, NULL, "go on as new lines come"},
    {"tail", 0, FLAG_NUMBER, "LINES", NULL, "only the last so many lines of each container"},
    {"previous", 'p', FLAG_BOOL, NULL, NULL, "of the container's run before the last restart"},
    {"container", 'c', FLAG_TEXT, "NAME", NULL, "only this container"},
    {.name = NULL},
};
static const struct flag pipeline_logs_flags[] = {
    {"follow", 'f', FLAG_BOOL, NULL, NULL, "go on until the pipeline ends"},
    {"job", 'j', FLAG_TEXT, "NAME", NULL, "only this job"},
    {.name = NULL},
};
static const struct flag bootstrap_flags[] = {
    {"include", 0, FLAG_LIST, "PACKAGES", NULL, "further packages, comma-separated; may be repeated"},
    {"suite", 0, FLAG_TEXT, "NAME", NULL, "release to take packages from (default: the one this machine runs)"},
    {"force", 0, FLAG_BOOL, NULL, NULL, "build it even when the same image was built lately"},
    {.name = NULL},
};

static const struct flag pull_flags[] = {
    {"platform", 0, FLAG_TEXT, "OS/ARCH", NULL, "of an image for several platforms, this one (default: this machine's)"},
    {"auth-file", 0, FLAG_TEXT, "FILE", NULL, "credentials, as docker's config.json; beside those of `tidemill image login`"},
    {"insecure", 0, FLAG_BOOL, NULL, NULL, "plain HTTP, or a certificate that nobody checks, is fine"},
    {.name = NULL},
};
static const struct flag push_flags[] = {
    {"auth-file", 0, FLAG_TEXT, "FILE", NULL, "credentials, as docker's config.json; beside those of `tidemill image login`"},
    {"insecure", 0, FLAG_BOOL, NULL, NULL, "plain HTTP, or a certificate that nobody checks, is fine"},
    {.name = NULL},
};
static const struct flag login_flags[] = {
    {"username", 'u', FLAG_TEXT, "NAME", NULL, "whose password or token it is"},
    {"insecure", 0, FLAG_BOOL, NULL, NULL, "plain HTTP, or a certificate that nobody checks, is fine"},
    {.name = NULL},
};
static const struct flag kubeconfig_flags[] = {
    {"group", 'g', FLAG_LIST, "GROUP", NULL, "a group that the user is in; may be repeated"},
    {"service-account", 0, FLAG_TEXT, "NS/NAME", NULL, "for this service account, instead of a user"},
    {"expires", 0, FLAG_NUMBER, "HOURS", NULL, "how long the token is good (default: a user's until it is revoked, a service account's 720)"},
    {"server", 0, FLAG_TEXT, "URL", NULL, "where the API is reached (default: as in the administrator's kubeconfig)"},
    {.name = NULL},
};
static const struct flag audit_flags[] = {
    {"by", 0, FLAG_TEXT, "USER", NULL, "only what this user did, also when impersonating or impersonated"},
    {"namespace", 'n', FLAG_TEXT, "NAME", NULL, "only in this namespace"},
    {"verb", 0, FLAG_TEXT, "VERB", NULL, "only this: create, update, patch, delete, deletecollection, get (exec and its like)"},
    {"resource", 0, FLAG_TEXT, "NAME", NULL, "only this resource: pods, deployments, …"},
    {"tail", 0, FLAG_NUMBER, "LINES", NULL, "only the last so many"},
    {"follow", 'f', FLAG_BOOL, NULL, NULL, "go on as new ones come"},
    {"verify", 0, FLAG_BOOL, NULL, NULL, "check that nothing was changed or removed"},
    {"output", 'o', FLAG_FORMAT, "FORMAT", "text", "text, or json for scripts"},
    {.name = NULL},
};

const struct command commands[] = {
    {"up", "", 0, 0, "Start the platform on this machine",
     "Starts the platform and stays in the foreground (a systemd unit does the same).\n"
     "Containers that still run from before are found again.",
     "tidemill up\ntidemill up --detach --http-listen 127.0.0.1:8080", up_flags, settings_flags, run_up, false},
    {"down", "", 0, 0, "Stop the platform; containers keep running",
     "Lets running requests finish, then stops every role. Containers go on, and the next `tidemill up`\nadopts them; --all ends them as well.",
     "tidemill down\ntidemill down --all", down_flags, settings_flags, run_down, false},
    {"reload", "", 0, 0, "Go on with the program as it is installed now, and with the settings file as it is now",
     "After an upgrade or a change of settings. Containers run on, no port closes, requests in the gateway are\nfinished. When the new program would "
     "not "
     "start, all stays as it is.",
     "tidemill reload", NULL, settings_flags, run_reload, false},
    {"status", "", 0, 0, "Show where things are served, what runs and what it uses", "Ends with 0 when the platform is ready, otherwise with 1.",
     "tidemill status\ntidemill status -o json", NULL, session_output_flags, run_status, false},
    {"app create", "NAME", 1, 1, "Make an application: a repository to push to, and a namespace",
     "Prints the URL to push to. A push runs the repository's pipeline (.gitlab-ci.yml); a repository\nwith only a Dockerfile is built and deployed "
     "by a default one.",
     "tidemill app create hello\ngit remote add tidemill URL     # the one that it printed\ngit push tidemill main", NULL, session_output_flags,
     run_app_create, false},
    {"app list", "", 0, 0, "List the applications: URL, pods ready, last pipeline", NULL, NULL, NULL, session_output_flags, run_app_list, false},
    {"app show", "NAME", 1, 1, "Show one application: its URLs and last pipelines", NULL, NULL, NULL, session_output_flags, run_app_show, false},
    {"app token", "NAME", 1, 1, "Replace an application's token; prints the new remote",
     "Only a digest of the token is kept, so a lost one cannot be shown again. The old one no longer works.",
     "git remote set-url tidemill \"$(tidemill app token hello)\"", NULL, session_output_flags, run_app_token, false},
    {"app delete", "NAME", 1, 1, "Delete an application, its repository and all that it runs",
     "At once, and for good: the repository, the pipelines' logs, and the namespace with every pod, Secret and Service\nin it. Its images go with "
     "the next cleaning.",
     NULL, NULL, session_output_flags, run_app_delete, false},
    {"pipeline list", "[APP]", 0, 1, "List pipelines, the newest first", NULL, NULL, NULL, session_output_flags, run_pipeline_list, false},
    {"pipeline show", "ID|APP", 1, 1, "Show a pipeline's jobs (of an application: the last pipeline)", NULL, "tidemill pipeline show hello", NULL,
     session_output_flags, run_pipeline_show, false},
    {"pipeline logs", "ID|APP", 1, 1, "Print what a pipeline's jobs printed (of an application: the last pipeline)", NULL,
     "tidemill pipeline logs hello -f\ntidemill pipeline logs 7 --job test", pipeline_logs_flags, session_flags, run_pipeline_logs, false},
    {"pipeline play", "ID|APP JOB", 2, 2, "Start a job that waits for a person (when: manual)", NULL, "tidemill pipeline play hello deploy", NULL,
     session_flags, run_pipeline_act, false},
    {"pipeline retry", "ID|APP [JOB]", 1, 2, "Run a pipeline's failed jobs again, or one of its jobs", NULL,
     "tidemill pipeline retry hello\ntidemill pipeline retry 7 test", NULL, session_flags, run_pipeline_act, false},
    {"pipeline cancel", "ID|APP", 1, 1, "Stop a pipeline", NULL, NULL, NULL, session_flags, run_pipeline_act, false},
    {"apply", "-f FILE", 0, 0, "Create or change objects from manifests",
     "Sends every document of the files to the Kubernetes API as a server-side apply. All files are read\nbefore anything is sent.",
     "tidemill apply -f deploy/\ncat app.yaml | tidemill apply -f -", apply_flags, session_flags, run_apply, false},
    {"logs", "APP|NAMESPACE/POD", 1, 1, "Print the logs of an application's pods", NULL, "tidemill logs hello -f\ntidemill logs hello --tail 20",
     logs_flags, session_flags, run_logs, false},
    {"image list", "", 0, 0, "List the images in the registry: size, age, who uses them",
     "What was pushed, built and made here, and what was fetched from other registries; those of docker.io without its\nname. With -o json also "
     "where "
     "each came from.",
     "tidemill image list", NULL, session_output_flags, run_image_list, false},
    {"image pull", "IMAGE", 1, 1, "Fetch an image from another registry",
     "Pods fetch what they need by themselves; this is for having it before, and for Dockerfiles. An image that is here\nalready is brought up to "
     "date: only what is new is fetched.",
     "tidemill image pull nginx:1.25\ntidemill image pull ghcr.io/org/app@sha256:… --auth-file ~/.docker/config.json", pull_flags, session_flags,
     run_image_pull, false},
    {"image push", "NAME:TAG [IMAGE]", 1, 2, "Send an image to another registry",
     "NAME:TAG is one of `tidemill image list`, IMAGE where it goes: REGISTRY/NAME:TAG; without, NAME says it. What is there\nalready is not sent "
     "again.",
     "tidemill image push shop:latest ghcr.io/ann/shop:2.1", push_flags, session_flags, run_image_push, false},
    {"image login", "REGISTRY", 1, 1, "Keep credentials for a registry, for the whole machine",
     "The password is read from standard input, tried, and kept where only the platform reads it. All pods may then use\nimages of that registry; "
     "for some alone, make a pull secret (kubectl create secret docker-registry).",
     "tidemill image login ghcr.io -u ann < token.txt\ntidemill image login docker.io -u ann", login_flags, session_flags, run_image_login, false},
    {"image logout", "REGISTRY", 1, 1, "Forget the credentials for a registry", NULL, "tidemill image logout ghcr.io", NULL, session_flags,
     run_image_logout, false},
    {"image df", "", 0, 0, "Show what images and what comes of them take on the disk",
     "Blobs are images as they were pushed or fetched, layers what they are unpacked to. RECLAIMABLE is what\n`tidemill image prune` gives back.",
     "tidemill image df", NULL, session_output_flags, run_image_df, false},
    {"image bootstrap", "NAME:TAG", 1, 1, "Build a base image from this machine's own package sources",
     "Builds a root file system with mmdebstrap and puts it into the registry, where a Dockerfile's\nFROM NAME:TAG finds it. No container registry "
     "is needed.",
     "tidemill image bootstrap debian:12\ntidemill image bootstrap debian:12 --include python3-flask,python3-waitress", bootstrap_flags,
     session_flags, run_image_bootstrap, false},
    {"image prune", "", 0, 0, "Remove images, layers and caches that nothing needs",
     "The platform does this by itself after each pipeline, once a day, and when the disk is nearly full. What\nis removed: images of an application "
     "beyond its newest (--keep-images of `tidemill up`) that no object\nrefers to, what no image needs any more, and a build cache that has grown "
     "too "
     "large.",
     "tidemill image prune", NULL, session_output_flags, run_image_prune, false},
    {"image rm", "NAME:TAG", 1, 1, "Remove an image from the registry",
     "Refused when an object of the cluster refers to it. Its disk space is given back by the next\n`tidemill image prune`, or soon without.",
     "tidemill image rm debian:12", NULL, session_flags, run_image_rm, false},
    {"kubeconfig", "[USER]", 0, 1, "Print the administrator's kubeconfig, or make one for somebody else",
     "Without USER: the administrator's, which opens everything: treat it as a password. With USER: one with a new token\nfor that user. What the "
     "user may do, roles say that are bound to it or its groups (`kubectl create rolebinding`);\n`tidemill token revoke` ends it. With "
     "--service-account: one with a token of that service account, for a machine.",
     "tidemill kubeconfig > ~/.kube/config\ntidemill kubeconfig ann --group team-a --server https://host.example:6443 > ann.kubeconfig\n"
     "tidemill kubeconfig --service-account ci/deployer --expires 720 > ci.kubeconfig",
     kubeconfig_flags, settings_flags, run_kubeconfig, false},
    {"token list", "", 0, 0, "List the tokens that were made for people and machines", NULL, NULL, NULL, session_output_flags, run_token_list, false},
    {"token revoke", "NAME", 1, 1, "End a token at once", NULL, "tidemill token list\ntidemill token revoke 0f3a9c21bb42", NULL, session_flags,
     run_token_revoke, false},
    {"audit", "", 0, 0, "Show who changed what",
     "Every request that may change something, with who asked, from where, and how it ended: the newest last. As root, on\nthe machine itself. "
     "-o json prints the events as they are (audit.k8s.io/v1). --verify tells whether a line\nwas changed or removed since it was written.",
     "tidemill audit --tail 20\ntidemill audit -f --by ann\ntidemill audit --namespace shop --verb delete -o json\ntidemill audit --verify",
     audit_flags, settings_flags, run_audit, false},
    {"completion", "", 0, 0, "Print the bash completion", NULL, "source <(tidemill completion)", NULL, NULL, run_completion, false},
    {"version", "", 0, 0, "Print the version", NULL, NULL, NULL, session_output_flags, run_version, false},
    {"core", "", 0, 0, "The role that keeps objects and serves the API", NULL, NULL, NULL, settings_flags, run_core, true},
    {"node", "", 0, 0, "The role that runs pods", NULL, NULL, NULL, settings_flags, run_node, true},
    {"gateway", "", 0, 0, "The role that serves applications", NULL, NULL, NULL, settings_flags, run_gateway, true},
    {"monitor", "", 0, 0, "The role that measures", NULL, NULL, NULL, settings_flags, run_monitor, true},
    {.name = NULL},
};

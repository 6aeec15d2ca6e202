/* tidemill-job: what runs inside a job's container, in any image that has /bin/sh. Static, without configuration files, as any user. One include for
 * all.
 *
 * Environment: TIDEMILL_JOB_SOCKET (path of a unix socket), TIDEMILL_JOB_TOKEN, CI_PROJECT_DIR; for `tidemill build` also CI_REGISTRY_IMAGE and
 * CI_COMMIT_SHORT_SHA.
 *
 * The protocol, HTTP/1.1 on that socket, each request with "Authorization: Bearer <token>":
 *
 *   GET  /job/v1/source                      tar of the sources, unpacked into $CI_PROJECT_DIR; 204 when there are none
 *   GET  /job/v1/artifacts                   tar of earlier jobs' artifacts, unpacked over it; 204 when there are none
 *   GET  /job/v1/script                      shell snippets, each followed by a NUL: before_script, then script
 *   GET  /job/v1/artifact-paths?exit_code=N  glob patterns, each followed by a NUL; empty when this job keeps nothing. After the script
 *   POST /job/v1/artifacts                   tar of what the patterns match; only sent when something matches
 *   POST /job/v1/result                      {"exit_code":N,"failed_line":N,"failed_command":"…"}; failed_line counts snippets from 1,
 *                                            0 and "" on success. The last request of a job
 *   POST /job/v1/build?tag=IMAGE&dockerfile=PATH[&target=STAGE][&build_arg=K%3DV…]
 *                                            tar of the context; IMAGE as typed, or $CI_REGISTRY_IMAGE:$CI_COMMIT_SHORT_SHA
 *   POST /job/v1/apply                       tar of the manifests
 *
 * The last two are answered 200 with text that streams to the job's log, and ends with the line "TIDEMILL-EXIT <code>". Bodies of requests are
 * chunked. Any status but 2xx is an error whose body is text for the log. */
#ifndef TIDEMILL_JOB_H
#define TIDEMILL_JOB_H

#include "base/base.h"
#include "job/glob.h"
#include "job/tar.h"
#include "job/wire.h"

#define JOB_EXIT_PLATFORM 125 /* the job could not be run or its result not be delivered: not the script's fault */

/* Runs the job that the environment names; the exit status for the process. Prints to standard output. */
int job_run(const struct wire *wire, const char *project_folder, const char *own_path);

/* `tidemill build …`, `tidemill apply …`: argv[0] is the subcommand. The exit status. wire NULL: there is no job around; says so. */
int job_tool(const struct wire *wire, int argc, char **argv);

/* A hook of one of the platform's repositories ("pre-receive", "post-receive"): sends the updates on standard input, prints the answer. The exit
 * status. Environment: TIDEMILL_HOOK_SOCKET, TIDEMILL_HOOK_TOKEN, and git's GIT_QUARANTINE_PATH. The protocol is POST
 * /hook/v1/<name>[?quarantine=NAME], answered as builds are. */
int job_hook(const struct wire *wire, const char *name);

/* The shell program that runs the snippets one by one, writing each one's number to descriptor `progress_fd` before it starts. `tool_path` NULL, or
 * what `tidemill` shall call. */
int job_script_format(struct buffer *out, const struct slice *entries, size_t count, bool is_bash, int progress_fd, const char *tool_path);

#endif

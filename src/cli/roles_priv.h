/* From settings to the roles' options, and what `up`, `down` and `reload` share. */
#ifndef TIDEMILL_CLI_ROLES_PRIV_H
#define TIDEMILL_CLI_ROLES_PRIV_H

#include "cli/settings_priv.h"

/* Ends every container of the instance and removes what its node made in the kernel. The node must not run. */
int roles_purge_node(const struct settings *settings, struct diag *diag);

/* The supervisor's process id, as its file says; it may have ended. */
int running_supervisor(const struct settings *settings, pid_t *ret);
/* Waits until the platform is ready, prints where things are, and returns the command's exit code: not 0 when `pid` (of the supervisor, our child; 0:
 * nobody's) ends. A node that does not come is told and is no failure: the API is there to look into it. */
int wait_until_ready(const struct settings *settings, pid_t pid);

/* The first folder on the way along `path`, the last part included, that other users cannot enter; NULL: none. In the arena. */
const char *executable_closed_folder(struct arena *arena, const char *path);
/* tidemill-job, or NULL when it is not installed. In the arena. */
const char *executable_helper(struct arena *arena);
/* Of this program; NULL without /proc. */
const char *executable_own_path(struct arena *arena);
/* This process's command line with that path, and `more` (may be NULL) at its end. NULL when it cannot be told. */
const char *const *reload_command(struct arena *arena, const char *more);
/* A path of this program that every user can reach, in the settings' arena; NULL with diag. The state folder must be there. */
const char *executable_for_roles(const struct settings *settings, struct diag *diag);

#endif

/* From settings to the roles' options. */
#ifndef TIDEMILL_CLI_ROLES_PRIV_H
#define TIDEMILL_CLI_ROLES_PRIV_H

#include "cli/settings_priv.h"

/* Ends every container of the instance and removes what its node made in the kernel. The node must not run. */
int roles_purge_node(const struct settings *settings, struct diag *diag);

/* The first folder on the way along `path`, the last part included, that other users cannot enter; NULL: none. In the arena. */
const char *executable_closed_folder(struct arena *arena, const char *path);
/* tidemill-job, or NULL when it is not installed. In the arena. */
const char *executable_helper(struct arena *arena);
/* A path of this program that every user can reach, in the settings' arena; NULL with diag. The state folder must be there. */
const char *executable_for_roles(const struct settings *settings, struct diag *diag);

#endif

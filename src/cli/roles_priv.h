/* From settings to the roles' options. */
#ifndef TIDEMILL_CLI_ROLES_PRIV_H
#define TIDEMILL_CLI_ROLES_PRIV_H

#include "cli/settings_priv.h"

/* Ends every container of the instance and removes what its node made in the kernel. The node must not run. */
int roles_purge_node(const struct settings *settings, struct diag *diag);

#endif

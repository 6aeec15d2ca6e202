/* The functions behind the command table, one file each (or one per group). */
#ifndef TIDEMILL_CLI_FUNCTIONS_PRIV_H
#define TIDEMILL_CLI_FUNCTIONS_PRIV_H

#include "cli/command_priv.h"

int run_up(const struct invocation *invocation);
int run_down(const struct invocation *invocation);
int run_reload(const struct invocation *invocation);
int run_status(const struct invocation *invocation);
int run_version(const struct invocation *invocation);
int run_completion(const struct invocation *invocation);
int run_audit(const struct invocation *invocation);
int run_token_list(const struct invocation *invocation);
int run_token_revoke(const struct invocation *invocation);
int run_kubeconfig(const struct invocation *invocation);
int run_apply(const struct invocation *invocation);
int run_logs(const struct invocation *invocation);
int run_app_create(const struct invocation *invocation);
int run_app_list(const struct invocation *invocation);
int run_app_show(const struct invocation *invocation);
int run_app_token(const struct invocation *invocation);
int run_app_delete(const struct invocation *invocation);
int run_pipeline_list(const struct invocation *invocation);
int run_pipeline_show(const struct invocation *invocation);
int run_pipeline_logs(const struct invocation *invocation);
int run_pipeline_act(const struct invocation *invocation);
int run_image_list(const struct invocation *invocation);
int run_image_pull(const struct invocation *invocation);
int run_image_push(const struct invocation *invocation);
int run_image_login(const struct invocation *invocation);
int run_image_logout(const struct invocation *invocation);
int run_image_df(const struct invocation *invocation);
int run_image_bootstrap(const struct invocation *invocation);
int run_image_prune(const struct invocation *invocation);
int run_image_rm(const struct invocation *invocation);
int run_core(const struct invocation *invocation);
int run_node(const struct invocation *invocation);
int run_gateway(const struct invocation *invocation);
int run_monitor(const struct invocation *invocation);

#endif

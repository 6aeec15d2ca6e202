/* Disk use stays bounded: which images, layers and caches go, and when. See retention.c. */
#ifndef TIDEMILL_CORE_RETENTION_PRIV_H
#define TIDEMILL_CORE_RETENTION_PRIV_H

#include "core/core_priv.h"
#include "core/disk_budget_priv.h"

struct retention;
struct retention_options {
    struct loop *loop;
    struct store *store;
    struct registry *registry;
    struct forge *forge;
    struct client *client;
    const char *state, *run;
    const char *node_name;
    struct disk_budget budget;
    size_t keep_images; /* newest builds per application; 0: IMAGES_KEPT_DEFAULT */
};
/* Borrows everything and copies no text. */
int retention_new(const struct retention_options *options, struct retention **ret, struct diag *diag);
/* Before what it borrows is freed, and after the servers. NULL is fine. */
void retention_free(struct retention *retention);
/* Something has ended that may leave things behind: a round in a moment. */
void retention_soon(struct retention *retention);
/* An image was built for that repository: it stays known as an application's when the application is gone. */
void retention_note_build(struct retention *retention, const char *repository);
/* POST /tidemill/v1/images/prune, DELETE /tidemill/v1/images?name=NAME&tag=TAG, for a caller that was authorised as administrator. False: not ours.
 */
bool retention_handle(struct retention *retention, struct http_exchange *exchange);

#endif

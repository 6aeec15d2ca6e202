/* What pidns.c starts. */
#ifndef TIDEMILL_RUNTIME_PIDNS_PRIV_H
#define TIDEMILL_RUNTIME_PIDNS_PRIV_H

/* A memory file of the program of pause/, sealed, so that nobody can change it through /proc/1/exe. A descriptor. */
int pause_load(void);

#endif

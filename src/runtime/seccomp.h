/* The system calls that a container may make, compiled once per process to BPF for crun's annotation run.oci.seccomp_bpf_data (compiling in crun
 * costs 16 ms per start). */
#ifndef TIDEMILL_RUNTIME_SECCOMP_H
#define TIDEMILL_RUNTIME_SECCOMP_H

#include "base/base.h"

/* Appends the program in base64. capabilities: bit n set when the container has capability n; some add system calls. Costs 2 ms: keep the result. */
int seccomp_program(uint64_t capabilities, struct buffer *out);

#define SECCOMP_PROFILE_BYTES_MAX (1 * MIB)
/* Of a profile that somebody wrote, in the JSON that container runtimes share. -EINVAL with diag. */
int seccomp_profile_program(struct slice json, uint64_t capabilities, struct buffer *out, struct diag *diag);

#endif

/* Assertions: what a program can check is not a comment. A failed one is a bug of ours: it prints where, what was being done and a stack, and aborts;
 * the supervisor restarts the role. Never for input, never for what the system may refuse. Always compiled in. */
#ifndef TIDEMILL_BASE_ASSERT_H
#define TIDEMILL_BASE_ASSERT_H

#define ASSERT(cond) ((cond) ? (void)0 : assert_fail(#cond, __FILE__, __LINE__, __func__))
#define UNREACHABLE() assert_fail("unreachable", __FILE__, __LINE__, __func__)

_Noreturn void assert_fail(const char *condition, const char *file, int line, const char *function);

/* What the process is doing now, for the report of a failed assertion: a static or long-lived string, borrowed; NULL clears it. One per thread. */
void assert_doing(const char *what);

#endif

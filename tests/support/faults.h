/* Every allocation and every system call made to fail in turn. A test `faults_test.c` is linked with tests/support/faults.c: the linker puts it in
 * front of malloc and its kin, of the arena's functions, and of the system calls listed in CMakeLists.txt, for the code under test alone (shared
 * libraries and the sanitizers keep the real ones).
 *
 *   static int parses(void *context) { …; return r; }           // what is under test: sets up, does it, checks the outcome, cleans up
 *   UNIT_TEST(parser_survives) { TEST_FAULTS(parses, context); }
 *
 * The body runs once per fault: the first time the first point fails, then the second, until a run meets none. It returns 0 when it succeeded (and
 * then has checked that the result is right), otherwise the error that the code under test reported. After each run no descriptor may be left open,
 * after the walk no memory may be lost, and the run without a fault must have returned 0. What must not fail (the fixture, the checks) stands between
 * faults_pause() and faults_resume(). */
#ifndef TIDEMILL_TESTS_FAULTS_H
#define TIDEMILL_TESTS_FAULTS_H

#include <stdbool.h>

typedef int faults_body_fn(void *context);

enum faults_kind {
    FAULTS_MEMORY = 1, /* a body may report it as -ENOMEM only: nobody may be blamed for what the machine lacks */
    FAULTS_CALLS = 2,  /* any error will do */
    FAULTS_ANY_ERROR = 4,
};
#define TEST_FAULTS(body, context) faults_walk(#body, (body), (context), FAULTS_MEMORY | FAULTS_CALLS)
/* For exchanges between parties, where the error of one reaches the other as another one. */
#define TEST_FAULTS_ANY(body, context) faults_walk(#body, (body), (context), FAULTS_MEMORY | FAULTS_CALLS | FAULTS_ANY_ERROR)
void faults_walk(const char *name, faults_body_fn *body, const void *context, int kinds);

/* Nothing fails in between. They nest. */
void faults_pause(void);
void faults_resume(void);
/* From now on a loop that has found nothing to do for so long goes to its next timer at once: back-offs and timeouts cost no time. Only where all
 * that can happen happens in this process. */
void faults_skip_time(int patience_ms);
/* True when the point of failure that calls it has to fail: for libraries that take an allocator (SQLite). */
bool faults_strike_memory(void);
/* The walk is on and the fault of this run has happened. */
bool faults_struck(void);
/* … and it was one of memory. */
bool faults_struck_memory(void);

#endif

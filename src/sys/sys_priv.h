/* Shared by the files of sys/: the gate through which every call passes that can fail, so that tests can make each of them fail in turn. */
#ifndef TIDEMILL_SYS_PRIV_H
#define TIDEMILL_SYS_PRIV_H

#include "sys/sys.h"

/* 0, or the injected negative errno. */
int sys_fault_check(void);

#endif

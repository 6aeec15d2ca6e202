/* The command line: one call from main. */
#ifndef TIDEMILL_CLI_H
#define TIDEMILL_CLI_H

/* Runs the command in argv and returns its exit status: 0 success, 1 it failed, 2 it was misused. */
int cli_main(int argc, char **argv);

#endif

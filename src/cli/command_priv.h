/* The command table's shape and what parsing makes of a command line. */
#ifndef TIDEMILL_CLI_COMMAND_PRIV_H
#define TIDEMILL_CLI_COMMAND_PRIV_H

#include "base/base.h"

enum flag_kind { FLAG_BOOL, FLAG_TEXT, FLAG_NUMBER, FLAG_LIST, FLAG_FORMAT /* text or json */ };

struct flag {
    const char *name; /* "follow" */
    char letter;      /* 'f'; 0: none */
    enum flag_kind kind;
    const char *value_name; /* "FILE" */
    const char *fallback;   /* default, shown in help; NULL: none */
    const char *help;
};

#define INVOCATION_VALUES_MAX 256
#define INVOCATION_ARGUMENTS_MAX 64

/* A parsed command line: everything is borrowed from argv and the table. */
struct invocation {
    const struct command *command;
    struct {
        const struct flag *flag;
        const char *value; /* FLAG_BOOL: "true" or "false" */
    } values[INVOCATION_VALUES_MAX];
    size_t values_count;
    const char *arguments[INVOCATION_ARGUMENTS_MAX];
    size_t arguments_count;
};

struct command {
    const char *name;      /* "app create": words as typed */
    const char *arguments; /* "NAME", "[POD]"; "" for none */
    size_t arguments_min, arguments_max;
    const char *summary;           /* one line for lists */
    const char *description;       /* paragraphs; NULL: none */
    const char *examples;          /* lines; NULL: none */
    const struct flag *flags;      /* ends with name NULL; NULL: none */
    const struct flag *more_flags; /* a second set, such as the common ones */
    int (*run)(const struct invocation *invocation);
    bool hidden; /* not in the list of commands: the roles */
};

/* The table, ends with name NULL. */
extern const struct command commands[];

/* The last value given, or the flag's default, or NULL. ASSERTs that the command has the flag. */
const char *invocation_text(const struct invocation *invocation, const char *flag);
bool invocation_bool(const struct invocation *invocation, const char *flag);
int64_t invocation_number(const struct invocation *invocation, const char *flag);
/* Value `index` of a FLAG_LIST, or NULL past the end. */
const char *invocation_item(const struct invocation *invocation, const char *flag, size_t index);
/* True when the flag was given on the command line. */
bool invocation_given(const struct invocation *invocation, const char *flag);

#endif

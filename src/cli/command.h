/* A subcommand: one cmd_NAME.c with one exported `const struct command NAME_command`, and one line
 * in cli/list.h. A command returns a status and fills *e; main prints the error line. Results go to
 * standard output through print_*, so that a full or closed stdout is noticed.
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H
#include "base/buf.h"
#include "cli/option.h"
#include "codec/json.h"
#include "convert/run.h"

struct command {
    const char *name;
    const char *args;     /* "SRC... -o DST" */
    const char *summary;  /* one line */
    const enum opt *opts; /* besides the common ones; ended by OPT_N */
    size_t min_args, max_args;
    enum status (*run)(struct args *a, struct err *e);
    bool devices; /* may use OpenCL: main starts the spawner before anything else */
};
extern const struct command *const commands[];
extern const size_t n_commands;
const struct command *command_find(struct str name);

/* Standard output, buffered; errors stick and are reported by print_end. */
void print_fmt(const char *fmt, ...) PRINTF(1, 2);
void print_str(struct str s);
/* s with control bytes escaped, for foreign names */
void print_name(struct str s);
/* A verdict's word: in colour where --color asks for it, the same bytes without it. */
enum ink { INK_GOOD, INK_DOUBT, INK_BAD };
void print_ink(enum ink ink, const char *word);
void print_set_color(bool on); /* off at first */
MUSTCHECK enum status print_end(struct err *e);

/* JSON result: begun by the command, fields added, ended by main with "result" and "exit". */
struct json_w *print_json(void); /* the open top object; begins it on first use */
bool print_json_open(void);
void print_json_end(enum status st, const struct err *e);

/* What several commands share. */
MUSTCHECK enum status open_source(const struct args *a, const char *path, struct model *m,
                                  const struct format **found, struct err *e);
const char *recognised_framework(const struct model *m);      /* "" when nobody knows it */
void shape_text(const struct tensor *t, char *out, size_t n); /* "[3, 4]" */
void size_text(uint64_t bytes, char *out, size_t n);          /* "12.3 MiB" */
/* The text of --map, empty where there is none; freed by the caller. */
MUSTCHECK enum status read_rules_file(const struct args *a, struct buf *text, struct err *e);
void run_opt_fill(const struct args *a, struct run_opt *o);

void help_print(const struct command *c); /* NULL: the overview */

/* What main settled at the start, for commands that report it. */
struct host {
    uint64_t memory; /* --memory or the default */
    int threads;
    const char *why; /* what limited the threads: "affinity", "OMP_NUM_THREADS" ... */
};
extern struct host host;
#endif

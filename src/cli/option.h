/* The one option table. It feeds the parser, --help, completion and the lint that compares the
 * manual with it. A command lists the options it takes; the common ones come with every command.
 */
#ifndef CLI_OPTION_H
#define CLI_OPTION_H
#include "base/err.h"
#include "base/str.h"

enum opt {
    OPT_OUTPUT,
    OPT_FORCE,
    OPT_FROM,
    OPT_TO,
    OPT_FORMAT,
    OPT_INPUT_FORMAT,
    OPT_LIKE,
    OPT_MAP,
    OPT_DTYPE,
    OPT_ALLOW_OVERFLOW,
    OPT_CAST_REPORT,
    OPT_SELECT,
    OPT_TRAIN_STATE,
    OPT_WEIGHTS_ONLY,
    OPT_UPGRADE,
    OPT_FOLD_NORMS,
    OPT_MERGE_LORA,
    OPT_AS_IS,
    OPT_LAYOUT,
    OPT_SUMS,
    OPT_NO_PROVENANCE,
    OPT_COMPRESS,
    OPT_MAX_SHARD_SIZE,
    OPT_ALLOW_DROP,
    OPT_ALLOW_SYNTH,
    OPT_MAX_OUTPUT,
    OPT_DRY_RUN,
    OPT_KEEP_GOING,
    OPT_STATS,
    OPT_TREE,
    OPT_CANONICAL,
    OPT_TENSORS,
    OPT_DEVICE,
    OPT_LEVEL,
    OPT_SEED,
    OPT_RTOL,
    OPT_ATOL,
    OPT_MIN_COVERAGE,
    OPT_SOURCE,
    /* common */
    OPT_JSON,
    OPT_QUIET,
    OPT_VERBOSE,
    OPT_THREADS,
    OPT_MEMORY,
    OPT_TMPDIR,
    OPT_IO,
    OPT_ROOT,
    OPT_PROGRESS,
    OPT_LOG,
    OPT_COLOR,
    OPT_SIMD,
    OPT_HELP,
    OPT_VERSION,
    OPT_N
};
enum opt_type { OPT_FLAG, OPT_TEXT, OPT_CHOICE, OPT_SIZE, OPT_NUMBER, OPT_REAL, OPT_MANY };
struct opt_info {
    const char *name; /* without the dashes */
    char letter;      /* 0 = none */
    enum opt_type type;
    const char *arg;     /* metavariable, NULL for flags */
    const char *choices; /* CHOICE: "a|b|c"; also offered by completion */
    const char *help;
};
extern const struct opt_info opt_info[OPT_N];
extern const enum opt common_opts[]; /* ended by OPT_N */

struct command;
#define MAX_MANY 256
struct args {
    const struct command *cmd;
    bool set[OPT_N];
    const char *text[OPT_N];
    uint64_t number[OPT_N]; /* SIZE (bytes), NUMBER */
    double real[OPT_N];
    const char *many[OPT_N][MAX_MANY + 1]; /* MANY: NULL-terminated */
    const char **arg;
    size_t n_args;
};
/* argv[0] is the command's name. Options may stand anywhere; "--" ends them. */
MUSTCHECK enum status args_parse(struct args *a, const struct command *cmd, int argc,
                                 const char **argv, struct err *e);
/* "64M", "1.5G" is refused, "4096", "5GB" (decimal), "5GiB"; K M G T are powers of 1024 */
bool size_parse(struct str s, uint64_t *out);
/* closest name in a NULL-terminated list, for "did you mean"; NULL when none is near */
const char *nearest(const char *word, const char *const *list);
#endif

/* See option.h. */
#include "cli/option.h"
#include "base/checked.h"
#include "cli/command.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* "|pytorch|flax ...", from the registry: one line there is enough */
#define X(name) "|" #name
static const char from_names[] =
#include "framework/list.h"
    ;
static const char to_names[] =
#include "framework/list.h" // NOLINT(readability-duplicate-include)
    "|source";
#undef X
const struct opt_info opt_info[OPT_N] = {
    [OPT_OUTPUT] = {"output", 'o', OPT_TEXT, "DST", NULL, "write to DST"},
    [OPT_FORCE] = {"force", 'f', OPT_FLAG, NULL, NULL, "replace DST when it exists"},
    [OPT_FROM] = {"from", 0, OPT_CHOICE, "FRAMEWORK", from_names + 1,
                  "take the names and axes of SRC as this framework's"},
    [OPT_TO] = {"to", 0, OPT_CHOICE, "FRAMEWORK", to_names + 1,
                "write this framework's names and axes; source: those before the archive"},
    [OPT_FORMAT] = {"format", 0, OPT_TEXT, "FORMAT", NULL,
                    "write this format (see nnferry formats)"},
    [OPT_INPUT_FORMAT] = {"input-format", 0, OPT_TEXT, "FORMAT", NULL, "read SRC as this format"},
    [OPT_LIKE] = {"like", 0, OPT_TEXT, "SKELETON", NULL,
                  "meet the names, shapes and types of this checkpoint"},
    [OPT_MAP] = {"map", 0, OPT_TEXT, "RULES", NULL, "name rules, see nnferry-map(5)"},
    [OPT_DTYPE] = {"dtype", 0, OPT_MANY, "MAP", NULL,
                   "cast: TYPE for all float tensors, or GLOB=TYPE; may be given again"},
    [OPT_ALLOW_OVERFLOW] = {"allow-overflow", 0, OPT_FLAG, NULL, NULL,
                            "let a cast turn finite values into infinities"},
    [OPT_CAST_REPORT] = {"cast-report", 0, OPT_FLAG, NULL, NULL,
                         "measure what casts cost, tensor by tensor"},
    [OPT_SELECT] = {"select", 0, OPT_MANY, "GLOB", NULL, "only tensors with such names"},
    [OPT_TRAIN_STATE] = {"train-state", 0, OPT_CHOICE, "keep|drop", "keep|drop",
                         "keep or drop optimizer state (default keep)"},
    [OPT_WEIGHTS_ONLY] = {"weights-only", 0, OPT_FLAG, NULL, NULL,
                          "leave attachments, structure and train state behind"},
    [OPT_UPGRADE] = {"upgrade", 0, OPT_FLAG, NULL, NULL,
                     "take wrappers' prefixes off, write old names as releases of today do"},
    [OPT_FOLD_NORMS] = {"fold-norms", 0, OPT_FLAG, NULL, NULL,
                        "compute the weights that weight and spectral norms make up"},
    [OPT_MERGE_LORA] = {"merge-lora", 0, OPT_TEXT, "ADAPTER", NULL,
                        "add this LoRA adapter (a folder of peft) to the weights"},
    [OPT_AS_IS] = {"as-is", 0, OPT_FLAG, NULL, NULL, "archive: keep names and axes as they came"},
    [OPT_LAYOUT] = {"layout", 0, OPT_CHOICE, "planes|plain", "planes|plain",
                    "archive: byte planes, or safetensors shards (default planes)"},
    [OPT_SUMS] = {"sums", 0, OPT_CHOICE, "manifest|full", "manifest|full",
                  "archive: SHA256SUMS over all members but the weights, or all"},
    [OPT_NO_PROVENANCE] = {"no-provenance", 0, OPT_FLAG, NULL, NULL,
                           "archive: leave out where the weights came from"},
    [OPT_COMPRESS] = {"compress", 0, OPT_FLAG, NULL, NULL, "npz: deflate the members"},
    [OPT_MAX_SHARD_SIZE] = {"max-shard-size", 0, OPT_SIZE, "SIZE", NULL,
                            "split into shards of at most SIZE"},
    [OPT_ALLOW_DROP] = {"allow-drop", 0, OPT_MANY, "GLOB", NULL,
                        "these tensors or structures may be left behind"},
    [OPT_ALLOW_SYNTH] = {"allow-synth", 0, OPT_MANY, "GLOB", NULL,
                         "these target tensors may be filled without a source"},
    [OPT_MAX_OUTPUT] = {"max-output", 0, OPT_SIZE, "SIZE", NULL,
                        "largest output (default: 1 GiB or 64 times the input)"},
    [OPT_DRY_RUN] = {"dry-run", 'n', OPT_FLAG, NULL, NULL,
                     "print the plan, its cost and its ledger; write nothing"},
    [OPT_KEEP_GOING] = {"keep-going", 0, OPT_FLAG, NULL, NULL,
                        "several sources: go on after one that fails, then exit 4"},
    [OPT_STATS] = {"stats", 0, OPT_FLAG, NULL, NULL, "read the values: least, mean, most, NaNs"},
    [OPT_TREE] = {"tree", 0, OPT_FLAG, NULL, NULL, "show the structure around the tensors"},
    [OPT_CANONICAL] = {"canonical", 0, OPT_FLAG, NULL, NULL,
                       "digest over canonical names and axes (nnc1)"},
    [OPT_TENSORS] = {"tensors", 0, OPT_FLAG, NULL, NULL, "list one digest per tensor"},
    [OPT_DEVICE] = {"device", 0, OPT_TEXT, "SEL", NULL,
                    "OpenCL device: number, part of its name, gpu, cpu, or native"},
    [OPT_LEVEL] = {"level", 0, OPT_CHOICE, "tensor|layer", "tensor|layer",
                   "what to compare (default layer)"},
    [OPT_SEED] = {"seed", 0, OPT_NUMBER, "N", NULL, "seed of the inputs (default 1)"},
    [OPT_RTOL] = {"rtol", 0, OPT_REAL, "X", NULL, "relative tolerance"},
    [OPT_ATOL] = {"atol", 0, OPT_REAL, "X", NULL, "absolute tolerance"},
    [OPT_MIN_COVERAGE] = {"min-coverage", 0, OPT_REAL, "X", NULL,
                          "share of parameters that must be proven (default 1)"},
    [OPT_SOURCE] = {"source", 0, OPT_FLAG, NULL, NULL, "print the page's mdoc source"},
    [OPT_JSON] = {"json", 0, OPT_FLAG, NULL, NULL, "results as JSON"},
    [OPT_QUIET] = {"quiet", 'q', OPT_FLAG, NULL, NULL, "errors only"},
    [OPT_VERBOSE] = {"verbose", 'v', OPT_FLAG, NULL, NULL, "say more"},
    [OPT_THREADS] = {"threads", 'j', OPT_NUMBER, "N", NULL, "threads (beats the environment)"},
    [OPT_MEMORY] = {"memory", 0, OPT_SIZE, "SIZE", NULL,
                    "bound on private memory and mapped windows (at least 48M)"},
    [OPT_TMPDIR] = {"tmpdir", 0, OPT_TEXT, "DIR", NULL, "where to spool"},
    [OPT_IO] = {"io", 0, OPT_CHOICE, "auto|mmap|read", "auto|mmap|read", "how inputs are read"},
    [OPT_ROOT] = {"root", 0, OPT_MANY, "DIR", NULL, "symlinks inside SRC may lead here"},
    [OPT_PROGRESS] = {"progress", 0, OPT_CHOICE, "auto|always|never", "auto|always|never",
                      "progress on standard error"},
    [OPT_LOG] = {"log", 0, OPT_CHOICE, "plain|json", "plain|json", "form of messages"},
    [OPT_COLOR] = {"color", 0, OPT_CHOICE, "auto|always|never", "auto|always|never",
                   "colour in verdicts and messages"},
    [OPT_SIMD] = {"simd", 0, OPT_CHOICE, "auto|scalar", "auto|scalar",
                  "instruction set of the kernels; the bytes are the same"},
    [OPT_HELP] = {"help", 'h', OPT_FLAG, NULL, NULL, "show this help"},
    [OPT_VERSION] = {"version", 'V', OPT_FLAG, NULL, NULL, "show the version"},
};
const enum opt common_opts[] = {OPT_JSON,   OPT_QUIET, OPT_VERBOSE, OPT_THREADS,  OPT_MEMORY,
                                OPT_TMPDIR, OPT_IO,    OPT_ROOT,    OPT_PROGRESS, OPT_LOG,
                                OPT_COLOR,  OPT_SIMD,  OPT_HELP,    OPT_VERSION,  OPT_N};

bool size_parse(struct str s, uint64_t *out)
{
    static const struct {
        const char *suffix;
        uint64_t factor;
    } unit[] = {{"KiB", UINT64_C(1) << 10},
                {"MiB", UINT64_C(1) << 20},
                {"GiB", UINT64_C(1) << 30},
                {"TiB", UINT64_C(1) << 40},
                {"KB", 1000},
                {"MB", 1000000},
                {"GB", 1000000000},
                {"TB", 1000000000000},
                {"K", UINT64_C(1) << 10},
                {"M", UINT64_C(1) << 20},
                {"G", UINT64_C(1) << 30},
                {"T", UINT64_C(1) << 40},
                {"k", UINT64_C(1) << 10},
                {"m", UINT64_C(1) << 20},
                {"g", UINT64_C(1) << 30},
                {"B", 1}};
    uint64_t factor = 1, v;
    for (size_t i = 0; i < sizeof unit / sizeof *unit; i++) {
        if (str_ends(s, str_from(unit[i].suffix))) {
            factor = unit[i].factor;
            s.n -= strlen(unit[i].suffix);
            break;
        }
    }
    return str_u64(s, &v) && mul_u64(v, factor, out);
}

static size_t distance(const char *a, const char *b)
{
    size_t row[64], n = strlen(b);
    if (n >= 63)
        return 99;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diag = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            size_t cost = diag + (a[i] != b[j]);
            diag = row[j + 1];
            if (row[j] + 1 < cost)
                cost = row[j] + 1;
            if (diag + 1 < cost)
                cost = diag + 1;
            row[j + 1] = cost;
        }
    }
    return row[n];
}

const char *nearest(const char *word, const char *const *list)
{
    const char *best = NULL;
    size_t least = 3;
    for (; *list; list++) {
        size_t d = distance(word, *list);
        if (d < least && d < strlen(*list)) {
            least = d;
            best = *list;
        }
    }
    return best;
}

static bool takes(const struct command *cmd, enum opt o)
{
    for (const enum opt *p = cmd->opts; p && *p != OPT_N; p++)
        if (*p == o)
            return true;
    for (const enum opt *p = common_opts; *p != OPT_N; p++)
        if (*p == o)
            return true;
    return false;
}

static enum opt find_long(const struct command *cmd, struct str name)
{
    for (int o = 0; o < OPT_N; o++)
        if (takes(cmd, (enum opt)o) && str_is(name, opt_info[o].name))
            return (enum opt)o;
    return OPT_N;
}

static enum opt find_short(const struct command *cmd, char letter)
{
    for (int o = 0; o < OPT_N; o++)
        if (opt_info[o].letter == letter && takes(cmd, (enum opt)o))
            return (enum opt)o;
    return OPT_N;
}

static bool is_choice(const char *choices, const char *v)
{
    struct str rest = str_from(choices), one;
    while (str_split(&rest, '|', &one))
        if (str_is(one, v))
            return true;
    return false;
}

static enum status store(struct args *a, enum opt o, const char *v, struct err *e)
{
    const struct opt_info *i = &opt_info[o];
    char *end;
    a->set[o] = true;
    a->text[o] = v;
    switch (i->type) {
    case OPT_FLAG:
    case OPT_TEXT:
        return ST_OK;
    case OPT_CHOICE:
        return is_choice(i->choices, v)
                   ? ST_OK
                   : err_set(e, ST_USAGE, NULL, "--%s takes one of %s, not '%s'", i->name,
                             i->choices, v);
    case OPT_SIZE:
        return size_parse(str_from(v), &a->number[o])
                   ? ST_OK
                   : err_set(e, ST_USAGE, NULL, "--%s takes a size such as 64M, not '%s'", i->name,
                             v);
    case OPT_NUMBER:
        return str_u64(str_from(v), &a->number[o])
                   ? ST_OK
                   : err_set(e, ST_USAGE, NULL, "--%s takes a whole number, not '%s'", i->name, v);
    case OPT_REAL:
        errno = 0;
        a->real[o] = strtod(v, &end);
        return v[0] && !*end && errno == 0 && a->real[o] >= 0 && a->real[o] < 1e300
                   ? ST_OK
                   : err_set(e, ST_USAGE, NULL, "--%s takes a number, not '%s'", i->name, v);
    case OPT_MANY: {
        size_t n = 0;
        while (a->many[o][n])
            n++;
        if (n >= MAX_MANY)
            return err_set(e, ST_USAGE, NULL, "--%s stands too often", i->name);
        a->many[o][n] = v;
        return ST_OK;
    }
    }
    return err_set(e, ST_BUG, NULL, "unknown option type");
}

static enum status unknown(const struct command *cmd, const char *word, struct err *e)
{
    const char *names[OPT_N + 1], *near;
    size_t n = 0;
    for (int o = 0; o < OPT_N; o++)
        if (takes(cmd, (enum opt)o))
            names[n++] = opt_info[o].name;
    names[n] = NULL;
    near = nearest(word + strspn(word, "-"), names);
    return near ? err_set(e, ST_USAGE, NULL, "%s has no option %s; is --%s meant?", cmd->name, word,
                          near)
                : err_set(e, ST_USAGE, NULL, "%s has no option %s; see nnferry %s --help",
                          cmd->name, word, cmd->name);
}

static enum status one_option(struct args *a, int argc, const char **argv, int *i, struct err *e)
{
    const char *w = argv[*i];
    if (w[1] == '-') {
        struct str name = str_from(w + 2);
        size_t eq = str_find(name, '=', 0);
        enum opt o = find_long(a->cmd, str_sub(name, 0, eq));
        if (o == OPT_N)
            return unknown(a->cmd, w, e);
        if (opt_info[o].type == OPT_FLAG)
            return eq < name.n ? err_set(e, ST_USAGE, NULL, "--%s takes no value", opt_info[o].name)
                               : store(a, o, "", e);
        if (eq < name.n)
            return store(a, o, name.p + eq + 1, e);
        if (*i + 1 >= argc)
            return err_set(e, ST_USAGE, NULL, "--%s needs a value: %s", opt_info[o].name,
                           opt_info[o].arg);
        return store(a, o, argv[++*i], e);
    }
    for (size_t k = 1; w[k]; k++) {
        enum opt o = find_short(a->cmd, w[k]);
        if (o == OPT_N)
            return unknown(a->cmd, w, e);
        if (opt_info[o].type == OPT_FLAG) {
            TRY(store(a, o, "", e));
            continue;
        }
        if (w[k + 1])
            return store(a, o, w + k + 1, e);
        if (*i + 1 >= argc)
            return err_set(e, ST_USAGE, NULL, "-%c needs a value: %s", w[k], opt_info[o].arg);
        return store(a, o, argv[++*i], e);
    }
    return ST_OK;
}

enum status args_parse(struct args *a, const struct command *cmd, int argc, const char **argv,
                       struct err *e)
{
    bool only_args = false;
    memset(a, 0, sizeof *a);
    a->cmd = cmd;
    a->arg = argv; /* reused in place: arguments are fewer than argv */
    for (int i = 1; i < argc; i++) {
        if (!only_args && strcmp(argv[i], "--") == 0)
            only_args = true;
        else if (!only_args && argv[i][0] == '-' && argv[i][1])
            TRY(one_option(a, argc, argv, &i, e));
        else if (argv[i][0] == '-' && !argv[i][1])
            return err_set(e, ST_USAGE, NULL, "'-' is not taken: name a file");
        else
            a->arg[a->n_args++] = argv[i];
    }
    if (a->set[OPT_HELP] || a->set[OPT_VERSION])
        return ST_OK;
    if (a->n_args < cmd->min_args || a->n_args > cmd->max_args)
        return err_set(e, ST_USAGE, NULL, "usage: nnferry %s %s", cmd->name, cmd->args);
    if (a->text[OPT_OUTPUT] && strcmp(a->text[OPT_OUTPUT], "-") == 0)
        return err_set(e, ST_USAGE, NULL, "'-' is not taken: name a file");
    return ST_OK;
}

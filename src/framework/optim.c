/* Tables of optimizers. See optim.h. */
#include "framework/optim.h"

static const struct {
    const char *name;
    unsigned must, may;
    bool counts;
} optims[OPTIMS] = {
    [OPTIM_NONE] = {"none", ~0u, 0, false},
    [OPTIM_SGD] = {"sgd", SLOT_BIT(SLOT_TRACE), 0, false},
    [OPTIM_ADAM] = {"adam", SLOT_BIT(SLOT_MEAN) | SLOT_BIT(SLOT_SQUARE), SLOT_BIT(SLOT_MAX), true},
    [OPTIM_RMSPROP] = {"rmsprop", SLOT_BIT(SLOT_POWER),
                       SLOT_BIT(SLOT_TRACE) | SLOT_BIT(SLOT_CENTER), false},
    [OPTIM_ADAGRAD] = {"adagrad", SLOT_BIT(SLOT_SUM), 0, false},
    [OPTIM_LION] = {"lion", SLOT_BIT(SLOT_MEAN), 0, false},
    [OPTIM_ADADELTA] = {"adadelta", SLOT_BIT(SLOT_POWER) | SLOT_BIT(SLOT_DELTA), 0, false},
    [OPTIM_ADAMAX] = {"adamax", SLOT_BIT(SLOT_MEAN) | SLOT_BIT(SLOT_NORM), 0, true},
    [OPTIM_NADAM] = {"nadam", SLOT_BIT(SLOT_MEAN) | SLOT_BIT(SLOT_SQUARE), 0, true},
};

static const char *const slots[SLOT_N] = {
    [SLOT_MEAN] = "mean",   [SLOT_SQUARE] = "square", [SLOT_MAX] = "max",
    [SLOT_TRACE] = "trace", [SLOT_POWER] = "power",   [SLOT_CENTER] = "center",
    [SLOT_SUM] = "sum",     [SLOT_DELTA] = "delta",   [SLOT_NORM] = "norm",
};

/* The leaf of each slot. Keras numbers them: the order is what counts, see slot_block. Where there
 * are several, the first is the one written. */
static const struct {
    enum optim_style style;
    enum slot slot;
    const char *leaf;
    enum optim kind; /* NONE: any that has no own */
} spelled[] = {
    {STYLE_TORCH, SLOT_MEAN, "exp_avg", OPTIM_NONE},
    {STYLE_TORCH, SLOT_SQUARE, "exp_avg_sq", OPTIM_NONE},
    {STYLE_TORCH, SLOT_MAX, "max_exp_avg_sq", OPTIM_NONE},
    {STYLE_TORCH, SLOT_TRACE, "momentum_buffer", OPTIM_NONE},
    {STYLE_TORCH, SLOT_POWER, "square_avg", OPTIM_NONE},
    {STYLE_TORCH, SLOT_CENTER, "grad_avg", OPTIM_NONE},
    {STYLE_TORCH, SLOT_SUM, "sum", OPTIM_NONE},
    {STYLE_TORCH, SLOT_DELTA, "acc_delta", OPTIM_NONE},
    {STYLE_TORCH, SLOT_NORM, "exp_inf", OPTIM_NONE},
    {STYLE_OPTAX, SLOT_MEAN, "mu", OPTIM_NONE},
    {STYLE_OPTAX, SLOT_SQUARE, "nu", OPTIM_NONE},
    {STYLE_OPTAX, SLOT_TRACE, "trace", OPTIM_NONE},
    {STYLE_OPTAX, SLOT_POWER, "nu", OPTIM_NONE},
    {STYLE_OPTAX, SLOT_CENTER, "mu", OPTIM_NONE},
    {STYLE_OPTAX, SLOT_SUM, "sum_of_squares", OPTIM_NONE},
    {STYLE_OPTAX, SLOT_POWER, "e_g", OPTIM_ADADELTA},
    {STYLE_OPTAX, SLOT_DELTA, "e_x", OPTIM_NONE},
    {STYLE_OPTAX, SLOT_NORM, "nu", OPTIM_NONE},
    {STYLE_NAMED, SLOT_MEAN, "m", OPTIM_NONE},
    {STYLE_NAMED, SLOT_SQUARE, "v", OPTIM_NONE},
    {STYLE_NAMED, SLOT_MAX, "vhat", OPTIM_NONE},
    {STYLE_NAMED, SLOT_TRACE, "momentum", OPTIM_NONE},
    {STYLE_NAMED, SLOT_MAX, "v_hat", OPTIM_NONE},
    {STYLE_NAMED, SLOT_POWER, "rms", OPTIM_NONE},
    {STYLE_NAMED, SLOT_POWER, "velocity", OPTIM_NONE},
    {STYLE_NAMED, SLOT_CENTER, "mg", OPTIM_NONE},
    {STYLE_NAMED, SLOT_CENTER, "average_gradient", OPTIM_NONE},
    {STYLE_NAMED, SLOT_SUM, "accumulator", OPTIM_NONE},
    {STYLE_NAMED, SLOT_POWER, "accumulated_grad", OPTIM_ADADELTA},
    {STYLE_NAMED, SLOT_POWER, "accum_grad", OPTIM_ADADELTA},
    {STYLE_NAMED, SLOT_DELTA, "accumulated_delta_var", OPTIM_NONE},
    {STYLE_NAMED, SLOT_DELTA, "accum_var", OPTIM_NONE},
    {STYLE_NAMED, SLOT_NORM, "u", OPTIM_NONE},
    {STYLE_TF1, SLOT_MEAN, "Adam", OPTIM_NONE},
    {STYLE_TF1, SLOT_SQUARE, "Adam_1", OPTIM_NONE},
    {STYLE_TF1, SLOT_TRACE, "Momentum", OPTIM_NONE},
    {STYLE_TF1, SLOT_POWER, "RMSProp", OPTIM_NONE},
    {STYLE_TF1, SLOT_SUM, "Adagrad", OPTIM_NONE},
    {STYLE_TF1, SLOT_POWER, "Adadelta", OPTIM_ADADELTA},
    {STYLE_TF1, SLOT_DELTA, "Adadelta_1", OPTIM_NONE},
};

#define CHAIN(name, ...) static const char *const name[] = {__VA_ARGS__, NULL}
CHAIN(adam_chain, "count mu nu", "");
CHAIN(adamw_chain, "count mu nu", "", "");
CHAIN(sgd_chain, "trace", "");
CHAIN(rmsprop_chain, "nu", "", "");
CHAIN(rmsprop_center_chain, "mu nu", "", "");
CHAIN(rmsprop_trace_chain, "nu", "", "trace");
CHAIN(rmsprop_both_chain, "mu nu", "", "trace");
CHAIN(adagrad_chain, "sum_of_squares", "");
CHAIN(lion_chain, "count mu", "", "");
CHAIN(adadelta_chain, "", "e_g e_x", "");
#undef CHAIN

static const struct optim_chain chains[] = {
    {OPTIM_ADAM, SLOT_BIT(SLOT_MEAN) | SLOT_BIT(SLOT_SQUARE), false, adam_chain},
    {OPTIM_ADAM, SLOT_BIT(SLOT_MEAN) | SLOT_BIT(SLOT_SQUARE), true, adamw_chain},
    {OPTIM_SGD, SLOT_BIT(SLOT_TRACE), false, sgd_chain},
    {OPTIM_RMSPROP, SLOT_BIT(SLOT_POWER), false, rmsprop_chain},
    {OPTIM_RMSPROP, SLOT_BIT(SLOT_POWER) | SLOT_BIT(SLOT_CENTER), false, rmsprop_center_chain},
    {OPTIM_RMSPROP, SLOT_BIT(SLOT_POWER) | SLOT_BIT(SLOT_TRACE), false, rmsprop_trace_chain},
    {OPTIM_RMSPROP, SLOT_BIT(SLOT_POWER) | SLOT_BIT(SLOT_CENTER) | SLOT_BIT(SLOT_TRACE), false,
     rmsprop_both_chain},
    {OPTIM_ADAGRAD, SLOT_BIT(SLOT_SUM), false, adagrad_chain},
    {OPTIM_LION, SLOT_BIT(SLOT_MEAN), false, lion_chain},
    {OPTIM_ADADELTA, SLOT_BIT(SLOT_POWER) | SLOT_BIT(SLOT_DELTA), false, adadelta_chain},
    {OPTIM_ADAMAX, SLOT_BIT(SLOT_MEAN) | SLOT_BIT(SLOT_NORM), false, adam_chain},
    {OPTIM_NADAM, SLOT_BIT(SLOT_MEAN) | SLOT_BIT(SLOT_SQUARE), false, adam_chain},
};

/* IEEE double bits of torch's defaults */
#define D_0 0x0000000000000000u
#define D_1E_4 0x3f1a36e2eb1c432du
#define D_1 0x3ff0000000000000u
#define D_1E_6 0x3eb0c6f7a0b5ed8du
#define D_2E_3 0x3f60624dd2f1a9fcu
#define D_4E_3 0x3f70624dd2f1a9fcu
#define D_1E_3 0x3f50624dd2f1a9fcu
#define D_1E_2 0x3f847ae147ae147bu
#define D_1E_8 0x3e45798ee2308c3au
#define D_1E_10 0x3ddb7cdfd9d7bdbbu
#define D_0_9 0x3feccccccccccccdu
#define D_0_99 0x3fefae147ae147aeu
#define D_0_999 0x3feff7ced916872bu
#define K(k) (1u << OPTIM_##k)
#define LATER (K(ADADELTA) | K(ADAMAX) | K(NADAM))
#define EACH (K(SGD) | K(ADAM) | K(RMSPROP) | K(ADAGRAD) | K(LION) | LATER)
#define TORCH (EACH & ~K(LION))
const struct optim_hyper optim_hypers[] = {
    {"lr", K(ADAM) | K(SGD), HYPER_FLOAT, {D_1E_3}, false},
    {"lr", K(RMSPROP) | K(ADAGRAD), HYPER_FLOAT, {D_1E_2}, false},
    {"lr", K(LION), HYPER_FLOAT, {D_1E_4}, false},
    {"lr", K(ADADELTA), HYPER_FLOAT, {D_1}, false},
    {"lr", K(ADAMAX) | K(NADAM), HYPER_FLOAT, {D_2E_3}, false},
    {"rho", K(ADADELTA), HYPER_FLOAT, {D_0_9}, false},
    {"eps", K(ADADELTA), HYPER_FLOAT, {D_1E_6}, false},
    {"momentum_decay", K(NADAM), HYPER_FLOAT, {D_4E_3}, false},
    {"lr_decay", K(ADAGRAD), HYPER_FLOAT, {D_0}, false},
    {"betas", K(ADAM) | K(ADAMAX) | K(NADAM), HYPER_PAIR, {D_0_9, D_0_999}, false},
    {"betas", K(LION), HYPER_PAIR, {D_0_9, D_0_99}, false},
    {"momentum", K(SGD), HYPER_FLOAT, {D_0_9}, false},
    {"momentum", K(RMSPROP), HYPER_FLOAT, {D_0}, false},
    {"alpha", K(RMSPROP), HYPER_FLOAT, {D_0_99}, false},
    {"eps", K(ADAM) | K(RMSPROP) | K(ADAMAX) | K(NADAM), HYPER_FLOAT, {D_1E_8}, false},
    {"eps", K(ADAGRAD), HYPER_FLOAT, {D_1E_10}, false},
    {"centered", K(RMSPROP), HYPER_BOOL, {0}, false},
    {"dampening", K(SGD), HYPER_FLOAT, {D_0}, false},
    {"weight_decay", EACH, HYPER_FLOAT, {D_0}, false},
    {"nesterov", K(SGD), HYPER_BOOL, {0}, false},
    {"amsgrad", K(ADAM), HYPER_BOOL, {0}, false},
    {"initial_accumulator_value", K(ADAGRAD), HYPER_FLOAT, {D_0}, false},
    {"decoupled_weight_decay", K(ADAM) | K(NADAM), HYPER_BOOL, {0}, false},
    {"maximize", TORCH, HYPER_BOOL, {0}, false},
    {"foreach", TORCH, HYPER_NONE, {0}, true},
    {"differentiable", TORCH, HYPER_BOOL, {0}, true},
    {"fused", K(SGD) | K(ADAM) | K(ADAGRAD), HYPER_NONE, {0}, true},
    {"capturable", K(ADAM) | K(RMSPROP) | LATER, HYPER_BOOL, {0}, true},
};
const size_t n_optim_hypers = sizeof optim_hypers / sizeof *optim_hypers;

const char *optim_name(enum optim k)
{
    return optims[k].name;
}
const char *slot_name(enum slot s)
{
    return slots[s];
}
int slot_rate(enum optim_style style, enum optim k, enum slot s)
{
    static const struct {
        enum optim_style style;
        enum optim kind;
        int rate;
    } rates[] = {
        {STYLE_OPTAX, OPTIM_RMSPROP, -1}, /* the trace comes behind the scaling */
        {STYLE_KERAS, OPTIM_RMSPROP, 1},  {STYLE_KERAS, OPTIM_SGD, -1},
        {STYLE_NAMED, OPTIM_RMSPROP, 1},  {STYLE_NAMED, OPTIM_SGD, -1},
        {STYLE_TF1, OPTIM_RMSPROP, 1},
    };
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        if (s == SLOT_TRACE && rates[i].style == style && rates[i].kind == k)
            return rates[i].rate;
    return 0;
}

unsigned slot_block(enum optim k, unsigned set, size_t i)
{
    static const unsigned blocks[] = {
        SLOT_BIT(SLOT_MEAN) | SLOT_BIT(SLOT_SQUARE) | SLOT_BIT(SLOT_NORM),
        SLOT_BIT(SLOT_MAX),
        SLOT_BIT(SLOT_POWER) | SLOT_BIT(SLOT_DELTA),
        SLOT_BIT(SLOT_TRACE),
        SLOT_BIT(SLOT_CENTER),
        SLOT_BIT(SLOT_SUM),
    };
    (void)k;
    for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) {
        unsigned held = blocks[b] & set;
        if (held && i == 0)
            return held;
        i -= held != 0;
    }
    return 0;
}

enum optim optim_of_keras(struct str name)
{
    static const struct {
        const char *name;
        enum optim kind;
    } called[] = {
        {"sgd", OPTIM_SGD},           {"adam", OPTIM_ADAM},       {"adamw", OPTIM_ADAM},
        {"adam_w", OPTIM_ADAM},       {"rmsprop", OPTIM_RMSPROP}, {"rm_sprop", OPTIM_RMSPROP},
        {"rms_prop", OPTIM_RMSPROP},  {"adagrad", OPTIM_ADAGRAD}, {"lion", OPTIM_LION},
        {"adadelta", OPTIM_ADADELTA}, {"adamax", OPTIM_ADAMAX},   {"nadam", OPTIM_NADAM},
    };
    size_t end = name.n;
    while (end > 0 && name.p[end - 1] >= '0' && name.p[end - 1] <= '9')
        end--;
    if (end < name.n && end > 1 && name.p[end - 1] == '_')
        name = str_sub(name, 0, end - 1);
    for (size_t i = 0; i < sizeof called / sizeof *called; i++)
        if (str_is(name, called[i].name))
            return called[i].kind;
    return OPTIM_NONE;
}

enum role slot_role(enum slot s)
{
    return s == SLOT_MEAN || s == SLOT_TRACE || s == SLOT_CENTER ? ROLE_MOMENT1 : ROLE_MOMENT2;
}
bool optim_counts(enum optim k)
{
    return optims[k].counts;
}

bool optim_steps(enum optim_style style, enum optim k)
{
    return style == STYLE_TORCH && k != OPTIM_NONE && k != OPTIM_SGD && k != OPTIM_LION;
}

enum optim optim_of(unsigned set)
{
    for (unsigned k = OPTIM_NONE + 1; k < OPTIMS; k++)
        if ((set & optims[k].must) == optims[k].must &&
            (set & ~(optims[k].must | optims[k].may)) == 0)
            return (enum optim)k;
    return OPTIM_NONE;
}

bool optim_keeps(enum optim k, enum slot s)
{
    return k != OPTIM_NONE && (optims[k].must | optims[k].may) & SLOT_BIT(s);
}

const char *slot_spelled(enum optim_style style, enum optim k, enum slot s)
{
    if (!optim_keeps(k, s))
        return NULL;
    const char *any = NULL;
    for (size_t i = 0; i < sizeof spelled / sizeof *spelled; i++) {
        if (spelled[i].style != style || spelled[i].slot != s)
            continue;
        if (spelled[i].kind == k)
            return spelled[i].leaf;
        if (spelled[i].kind == OPTIM_NONE && !any)
            any = spelled[i].leaf;
    }
    return any;
}

bool slot_parse(enum optim_style style, struct str leaf, enum slot *out)
{
    for (size_t i = 0; i < sizeof spelled / sizeof *spelled; i++)
        if (spelled[i].style == style && str_is(leaf, spelled[i].leaf)) {
            *out = spelled[i].slot;
            return true;
        }
    return false;
}

const struct optim_chain *optim_chain_of(enum optim k, unsigned set, bool decays)
{
    for (size_t i = 0; i < sizeof chains / sizeof *chains; i++)
        if (chains[i].kind == k && chains[i].slots == set &&
            (chains[i].decays == decays || k != OPTIM_ADAM))
            return &chains[i];
    return NULL;
}

enum optim_style optim_style_of(const struct framework *f)
{
    static const struct {
        const char *framework;
        enum optim_style style;
    } of[] = {
        {"pytorch", STYLE_TORCH}, {"hf", STYLE_TORCH},       {"flax", STYLE_OPTAX},
        {"hf_flax", STYLE_OPTAX}, {"nnx", STYLE_OPTAX},      {"haiku", STYLE_OPTAX},
        {"keras", STYLE_KERAS},   {"tensorflow", STYLE_TF1}, {"equinox", STYLE_OPTAX},
    };
    for (size_t i = 0; f && i < sizeof of / sizeof *of; i++)
        if (str_is(str_from(f->name), of[i].framework))
            return of[i].style;
    return STYLE_NONE;
}

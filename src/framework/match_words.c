/* What names say. Words are lower case, cut at '_', '-', case changes and digits, and spelled one
 * way: the tables below. A telling word names a thing that a network has few of (query, gate,
 * position table); the others (dense, conv, norm, proj, block) only say what the shapes say.
 */
#include "framework/match_int.h"
#include "framework/recognise.h"
#include <string.h>

enum { TELLS_ONLY = 1, KNOWN = 2, DROPPED = 4, TELLS = TELLS_ONLY | KNOWN };
struct word {
    const char *is, *as;
    int how;
};
/* Spellings of one word; words that are not here stand for themselves and tell. */
static const struct word words[] = {
    {"q", "query", TELLS},
    {"query", "query", TELLS},
    {"queries", "query", TELLS},
    {"wq", "query", TELLS},
    {"k", "key", TELLS},
    {"key", "key", TELLS},
    {"keys", "key", TELLS},
    {"wk", "key", TELLS},
    {"v", "value", TELLS},
    {"value", "value", TELLS},
    {"values", "value", TELLS},
    {"wv", "value", TELLS},
    {"qkv", "qkv", TELLS},
    {"wqkv", "qkv", TELLS},
    {"kv", "kv", TELLS},
    {"attn", "attention", TELLS},
    {"attention", "attention", TELLS},
    {"attentions", "attention", TELLS},
    {"selfattention", "attention", TELLS},
    {"mha", "attention", TELLS},
    {"mhsa", "attention", TELLS},
    {"crossattention", "cross", TELLS},
    {"crossattn", "cross", TELLS},
    {"cross", "cross", TELLS},
    {"mlp", "mlp", TELLS},
    {"ffn", "mlp", TELLS},
    {"ff", "mlp", TELLS},
    {"feedforward", "mlp", TELLS},
    {"gate", "gate", TELLS},
    {"up", "up", TELLS},
    {"down", "down", TELLS},
    {"pos", "position", TELLS},
    {"position", "position", TELLS},
    {"positions", "position", TELLS},
    {"positional", "position", TELLS},
    {"wpe", "position", TELLS},
    {"wte", "token", TELLS},
    {"tok", "token", TELLS},
    {"token", "token", TELLS},
    {"tokens", "token", TELLS},
    {"vocab", "token", TELLS},
    {"cls", "cls", TELLS},
    {"patch", "patch", TELLS},
    {"downsample", "shortcut", TELLS},
    {"shortcut", "shortcut", TELLS},
    {"head", "head", TELLS},
    {"heads", "head", TELLS},
    {"classifier", "head", TELLS},
    {"logits", "head", TELLS},
    {"gamma", "scale", TELLS},
    {"scale", "scale", TELLS},
    /* what shapes say as well */
    {"fc", "dense", 0},
    {"linear", "dense", 0},
    {"dense", "dense", 0},
    {"lin", "dense", 0},
    {"proj", "dense", 0},
    {"projection", "dense", 0},
    {"out", "out", 0},
    {"output", "out", 0},
    {"o", "out", 0},
    {"wo", "out", 0},
    {"conv", "conv", 0},
    {"convs", "conv", 0},
    {"convolution", "conv", 0},
    {"norm", "norm", 0},
    {"norms", "norm", 0},
    {"normalization", "norm", 0},
    {"ln", "norm", 0},
    {"layernorm", "norm", 0},
    {"rmsnorm", "norm", 0},
    {"rms", "norm", 0},
    {"bn", "norm", 0},
    {"batchnorm", "norm", 0},
    {"gn", "norm", 0},
    {"groupnorm", "norm", 0},
    {"embed", "embed", 0},
    {"embedding", "embed", 0},
    {"embeddings", "embed", 0},
    {"emb", "embed", 0},
    {"block", "", DROPPED},
    {"blocks", "", DROPPED},
    {"encoderblock", "", DROPPED},
    {"resblock", "", DROPPED},
    {"resblocks", "", DROPPED},
    {"layer", "", DROPPED},
    {"layers", "", DROPPED},
    {"stage", "", DROPPED},
    {"stages", "", DROPPED},
    {"h", "", DROPPED},
    /* wrappers and filling */
    {"module", "", DROPPED},
    {"model", "", DROPPED},
    {"net", "", DROPPED},
    {"network", "", DROPPED},
    {"backbone", "", DROPPED},
    {"transformer", "", DROPPED},
    {"trunk", "", DROPPED},
    {"orig", "", DROPPED},
    {"mod", "", DROPPED},
    {"self", "", DROPPED},
    {"to", "", DROPPED},
    {"c", "", DROPPED},
    {"the", "", DROPPED},
};

/* What the words of one segment say. */
struct said {
    uint64_t words;   /* hash of them all; 0 = none */
    uint64_t telling; /* of the telling ones; 0 = none */
    uint64_t known;   /* ... of those in the table */
    uint64_t last[2]; /* the last two; 0 = none */
    bool tells[2];
    bool norm;
    uint8_t rank;
    enum part_of part;
    enum joined joined;
};

static bool has(const struct words *w, const char *what)
{
    for (size_t i = 0; i < w->n; i++)
        if (strcmp(w->word[i], what) == 0)
            return true;
    return false;
}

static bool is_digits(const char *w)
{
    return *w >= '0' && *w <= '9';
}

/* The first or the second norm of a block, where words say so. */
static uint8_t norm_rank(const struct words *w, bool attention, bool mlp)
{
    if (has(w, "before") || has(w, "pre") || has(w, "input"))
        return 1;
    if (has(w, "after") || has(w, "post") || has(w, "final"))
        return 2;
    return attention ? 1 : mlp ? 2 : 0;
}

static void take_word(struct said *out, const char *as, int how)
{
    uint64_t h = str_hash(str_from(as), 1);
    out->words = match_mix(out->words, h);
    out->last[0] = out->last[1];
    out->tells[0] = out->tells[1];
    out->last[1] = h;
    out->tells[1] = how & TELLS_ONLY;
    if (how & TELLS_ONLY)
        out->telling = match_mix(out->telling, h);
    if (how & KNOWN)
        out->known = match_mix(out->known, h);
}

static const struct word *word_at(const char *is)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i].is, is) == 0)
            return &words[i];
    return NULL;
}

/* What else stands in a norm's segment: "expand_BN". */
static void take_others(struct said *out, const struct words *w)
{
    static const char *const no[] = {"layer", "batch", "group", "before", "after",
                                     "pre",   "post",  "input", "final",  "instance"};
    for (size_t i = 0; i < w->n; i++) {
        const struct word *at = word_at(w->word[i]);
        bool skip = is_digits(w->word[i]) || (at && strcmp(at->as, "norm") == 0) ||
                    (at && (at->how & DROPPED));
        for (size_t k = 0; k < sizeof no / sizeof *no; k++)
            skip = skip || strcmp(w->word[i], no[k]) == 0;
        if (!skip)
            take_word(out, at ? at->as : w->word[i], at ? at->how : TELLS_ONLY);
    }
}

/* Words that are one thing together are told first. */
static void say(const struct words *w, struct said *out)
{
    *out = (struct said){0};
    bool embed = has(w, "embed") || has(w, "embedding") || has(w, "embeddings") || has(w, "emb");
    bool attention = has(w, "attn") || has(w, "attention") || has(w, "selfattention");
    bool norm = has(w, "norm") || has(w, "ln") || has(w, "layernorm") || has(w, "rmsnorm") ||
                has(w, "bn") || has(w, "batchnorm") || has(w, "normalization");
    bool q = has(w, "q") || has(w, "query") || has(w, "wq"),
         k = has(w, "k") || has(w, "key") || has(w, "wk"),
         v = has(w, "v") || has(w, "value") || has(w, "wv");
    if (norm) {
        out->norm = true;
        out->rank = norm_rank(w, attention, has(w, "ffn") || has(w, "mlp"));
        take_others(out, w);
        take_word(out, "norm", 0);
        return;
    }
    if (q && k && v) { /* in which order its rows are, the families do not agree */
        take_word(out, "qkv", TELLS);
        return;
    }
    if (has(w, "qkv") || has(w, "wqkv") || (has(w, "c") && has(w, "attn")) ||
        (has(w, "in") && has(w, "proj"))) {
        out->joined = JOINED_QKV;
        take_word(out, "qkv", TELLS);
        return;
    }
    if (has(w, "kv") || has(w, "wkv")) {
        out->joined = JOINED_KV;
        take_word(out, "kv", TELLS);
        return;
    }
    if (has(w, "gate") && has(w, "up")) {
        out->joined = JOINED_GATE_UP;
        take_word(out, "gate", TELLS);
        take_word(out, "up", TELLS);
        return;
    }
    if ((has(w, "gate") || has(w, "up")) && (has(w, "proj") || w->n == 1)) {
        out->part = has(w, "gate") ? PART_GATE : PART_UP;
        take_word(out, has(w, "gate") ? "gate" : "up", TELLS);
        return;
    }
    if (q + k + v == 1) {
        out->part = q ? PART_Q : k ? PART_K : PART_V;
        take_word(out, q ? "query" : k ? "key" : "value", TELLS);
        return;
    }
    if (embed && (has(w, "pos") || has(w, "position") || has(w, "positional"))) {
        take_word(out, "position", TELLS);
        return;
    }
    if (embed && has(w, "type")) {
        take_word(out, "type", TELLS);
        return;
    }
    if (embed && (has(w, "token") || has(w, "tokens") || has(w, "word") || has(w, "tok"))) {
        take_word(out, "token", TELLS);
        return;
    }
    if ((has(w, "class") || has(w, "cls")) && (embed || has(w, "token"))) {
        take_word(out, "cls", TELLS);
        return;
    }
    if (attention) {
        bool other = has(w, "cross") || has(w, "enc") || has(w, "encoder");
        take_word(out, other ? "cross" : "attention", TELLS);
        return;
    }
    if (has(w, "multi") && has(w, "head")) {
        take_word(out, "attention", TELLS);
        return;
    }
    if (has(w, "feed") && has(w, "forward")) {
        take_word(out, "mlp", TELLS);
        return;
    }
    if ((has(w, "in") || has(w, "out")) && has(w, "layer")) { /* in_layers.0 */
        take_word(out, has(w, "in") ? "in" : "out", 0);
        return;
    }
    for (size_t i = 0; i < w->n; i++) {
        if (is_digits(w->word[i]))
            continue;
        const struct word *at = word_at(w->word[i]);
        if (!at)
            take_word(out, w->word[i], TELLS_ONLY);
        else if (!(at->how & DROPPED))
            take_word(out, at->as, at->how);
    }
}

/* "2d", "1d": no number but a part of the word before. */
static bool spatial(const struct words *w, size_t i)
{
    return i + 1 < w->n && is_digits(w->word[i]) && strcmp(w->word[i + 1], "d") == 0;
}

static uint64_t number_of(const char *p)
{
    uint64_t v = 0; /* leading zeros are fine here, and so is wrapping: only order counts */
    for (; *p; p++)
        v = v * 10 + (uint64_t)(*p - '0');
    return v;
}

static void plain_words(struct str seg, struct words *out)
{
    struct words w;
    words_of(seg, &w);
    out->n = 0;
    for (size_t i = 0; i < w.n; i++)
        if (spatial(&w, i))
            i++;
        else
            memcpy(out->word[out->n++], w.word[i], sizeof w.word[i]);
}

/* The segment as it is: what tells places apart is its letters, not its meaning. A number parts it:
 * "block_1_expand" is expand in the first block. */
static void steps_of(const struct words *w, struct spoken *out)
{
    uint64_t text = 0;
    for (size_t i = 0; i <= w->n; i++) {
        bool number = i < w->n && is_digits(w->word[i]);
        if (text && (number || i == w->n) && out->n < STEPS_MAX) {
            out->step[out->n++] = (struct step){false, text};
            text = 0;
        }
        if (number && out->n < STEPS_MAX) /* 0 is for places that have no number beside others */
            out->step[out->n++] = (struct step){true, number_of(w->word[i]) + 1};
        else if (!number && i < w->n)
            text = match_mix(text, str_hash(str_from(w->word[i]), 2));
    }
}

static unsigned tower_of(const struct words *w)
{
    static const struct {
        const char *is;
        unsigned bit;
    } tower[] = {{"text", TOWER_TEXT},     {"textual", TOWER_TEXT},   {"language", TOWER_TEXT},
                 {"vision", TOWER_IMAGE},  {"visual", TOWER_IMAGE},   {"image", TOWER_IMAGE},
                 {"encoder", TOWER_FIRST}, {"decoder", TOWER_SECOND}, {"enc", TOWER_FIRST},
                 {"dec", TOWER_SECOND}};
    unsigned bits = 0;
    for (size_t i = 0; i < sizeof tower / sizeof *tower; i++)
        if (has(w, tower[i].is))
            bits |= tower[i].bit;
    return bits;
}

/* Which way a cell reads. "r2l" is three words. */
static unsigned way_of(const struct words *w)
{
    static const struct {
        const char *is;
        unsigned bit;
    } way[] = {{"forward", WAY_AHEAD}, {"fwd", WAY_AHEAD},     {"fw", WAY_AHEAD},
               {"ltr", WAY_AHEAD},     {"backward", WAY_BACK}, {"backwards", WAY_BACK},
               {"bwd", WAY_BACK},      {"bw", WAY_BACK},       {"rtl", WAY_BACK},
               {"reverse", WAY_BACK},  {"reversed", WAY_BACK}};
    unsigned bits = 0;
    for (size_t i = 0; i < sizeof way / sizeof *way; i++)
        if (has(w, way[i].is))
            bits |= way[i].bit;
    for (size_t i = 0; i + 2 < w->n; i++) {
        if (strcmp(w->word[i + 1], "2") != 0)
            continue;
        if (strcmp(w->word[i], "l") == 0 && strcmp(w->word[i + 2], "r") == 0)
            bits |= WAY_AHEAD;
        if (strcmp(w->word[i], "r") == 0 && strcmp(w->word[i + 2], "l") == 0)
            bits |= WAY_BACK;
    }
    return bits;
}

/* What a norm stands in, below the last number: BERT's attention.output.LayerNorm is its block's
 * first, as a norm called attn_norm is. */
static void half_of(const struct words *w, bool *attention, bool *mlp)
{
    for (size_t i = 0; i < w->n; i++) {
        const struct word *at = word_at(w->word[i]);
        if (is_digits(w->word[i]))
            *attention = *mlp = false;
        *attention = *attention || (at && strcmp(at->as, "attention") == 0);
        *mlp = *mlp || (at && strcmp(at->as, "mlp") == 0);
    }
}

enum status speak(struct str path, struct arena *a, struct spoken *out, struct err *e)
{
    struct step step[STEPS_MAX] = {{0}};
    uint64_t last[2] = {0};
    bool tells[2] = {false}, attention = false, mlp = false;
    *out = (struct spoken){.step = step};
    struct str rest = path, seg;
    while (name_head(&rest, &seg)) {
        struct words w;
        struct said it;
        plain_words(seg, &w);
        say(&w, &it);
        if (it.norm && !it.rank && !it.telling && attention != mlp)
            it.rank = attention ? 1 : 2;
        half_of(&w, &attention, &mlp);
        steps_of(&w, out);
        out->tower |= tower_of(&w) | way_of(&w);
        if (it.words)
            out->full = match_mix(out->full, it.words);
        for (int i = 0; i < 2; i++)
            if (it.last[i]) {
                last[0] = last[1];
                tells[0] = tells[1];
                last[1] = it.last[i];
                tells[1] = it.tells[i];
            }
        if (it.known)
            out->telling = match_mix(out->telling, it.known);
        bool spelled = false;
        for (size_t i = 0; i < w.n; i++)
            spelled = spelled || !is_digits(w.word[i]);
        if (spelled) {
            out->own = it.telling;
            out->norm = it.norm;
            out->rank = it.rank;
            out->part = it.part;
        }
    }
    if (last[0] && (tells[0] || tells[1]))
        out->last = match_mix(last[0], last[1]);
    size_t n = out->n;
    out->step = ARENA_ARRAY(a, struct step, 2 * n + 1); /* room for numbers to be put in */
    if (!out->step)
        return err_nomem(e, n * sizeof *out->step);
    memcpy(out->step, step, n * sizeof *step);
    return ST_OK;
}

static void last_said(struct str path, struct said *out)
{
    struct str rest = path, seg;
    *out = (struct said){0};
    while (name_head(&rest, &seg)) {
        struct words w;
        bool spelled = false;
        plain_words(seg, &w);
        for (size_t i = 0; i < w.n; i++)
            spelled = spelled || !is_digits(w.word[i]);
        if (spelled)
            say(&w, out);
    }
}

enum part_of part_said(struct str path)
{
    struct said s;
    last_said(path, &s);
    return s.part;
}

enum joined joined_said(struct str path)
{
    struct said s;
    last_said(path, &s);
    return s.joined;
}

static bool wrapper(const char *word)
{
    static const char *const is[] = {"module", "model", "net", "backbone", "orig", "mod", "params"};
    for (size_t i = 0; i < sizeof is / sizeof *is; i++)
        if (strcmp(word, is[i]) == 0)
            return true;
    return false;
}

uint64_t text_hash(struct str path, bool numbers, bool wrappers)
{
    uint64_t h = 7;
    struct str rest = path, seg;
    while (name_head(&rest, &seg)) {
        struct words w;
        words_of(seg, &w);
        bool skip = w.n > 0 && !wrappers;
        for (size_t i = 0; i < w.n; i++)
            skip = skip && wrapper(w.word[i]);
        for (size_t i = 0; i < w.n && !skip; i++)
            h = match_mix(h,
                          !numbers && is_digits(w.word[i]) ? 5 : str_hash(str_from(w.word[i]), 3));
    }
    return h;
}

/* A plan: for every tensor of the target model a recipe that tiles it exactly once from views of
 * source tensors, with the ops applied on the way. Nothing is read from a weight before the plan,
 * its memory, its disk and its ledger are known and printable.
 */
#ifndef CONVERT_PLAN_H
#define CONVERT_PLAN_H
#include "base/buf.h"
#include "model/model.h"

/* What an op does to values. Byte order and sub-byte packing of the source are undone by the engine
 * before the first op and need no op. Block types are carried as raw blocks unless UNPACK comes
 * first. */
enum op_kind {
    OP_UNPACK, /* blocks to float32; only as the first op, of a source of a block type */
    OP_CAST,   /* to op.to; round to nearest even, integer code. float32 to a block type that
                  block_packs says yes to: only as the last op, into a target of that type */
    OP_ADD,    /* + operand (same dtype, broadcast by stride 0): bias sums */
    OP_NEG,
    OP_MUL,   /* * operand (of type op.to, broadcast by stride 0), rounded once: scales */
    OP_SCALE, /* * op.scale (exact powers of two and the like; dtype kept) */
    OP_OFFSET /* + a small whole number, op.scale_bits: rounded once to nearest, ties to even */
};
struct op {
    enum op_kind kind;
    enum dtype to;       /* CAST; MUL: the operand's */
    bool allow_overflow; /* CAST to float16 of a finite value beyond its range: else ST_CANNOT */
    uint32_t operand;    /* ADD, MUL: source tensor */
    const struct view_kept *view; /* ADD, MUL: same dims as the part's box */
    uint64_t scale_bits;          /* SCALE, OFFSET: IEEE double */
};
struct part {
    const uint64_t *lo, *hi;      /* box in the target's logical axes */
    int64_t src;                  /* source tensor, -1: a fill */
    const struct view_kept *view; /* on src's storage; dims = box extents */
    struct op *op;
    size_t n_ops;
    uint8_t fill[16]; /* src == -1: one element of the target dtype, little-endian */
};
struct recipe {
    struct part *part; /* NULL for aliases */
    size_t n_parts;
};
/* Why a target tensor is what it is: printed by --dry-run and kept in reports. */
struct reason {
    uint32_t dst;
    struct str text; /* "h.0.attn.c_attn.weight: linear [O,I] -> [I,O] (name rule)" */
};
enum ledger_kind {
    LEDGER_DROP,
    LEDGER_SYNTH,
    LEDGER_RENAME, /* by --upgrade: loses nothing */
    LEDGER_VALUE   /* folded or merged, as asked */
};
enum ledger_what {
    LEDGER_TENSOR,
    LEDGER_STRUCTURE,
    LEDGER_VERSION, /* of a module, below a state_dict's _metadata: a structure, too */
    LEDGER_TIE,
    LEDGER_ATTACHMENT,
    LEDGER_METADATA
};
struct ledger_line {
    enum ledger_kind kind;
    enum ledger_what what;
    bool harmless;   /* a rule says so; printed, exit 0 */
    struct str name; /* of the tensor, the structure, the attachment; a key */
    uint64_t n_elems;
    uint64_t n_bytes; /* of the attachment; of key and value */
    struct str why;
};
/* What the target's own default would change in a layer whose weights are carried as they are: the
 * epsilon of a norm, a padding (framework/defaults.h). Nothing in the plan depends on it. */
struct plan_note {
    struct str layer, text;
    const char *of, *setting;
    struct str source, target; /* what it means; target empty: it must be given */
    struct str set;            /* "eps=0.001": what makes the target do it; empty: not known */
    bool known;                /* the source's value is told, and no default */
    bool special;              /* the text holds more than the above */
};
struct plan {
    const struct model *src;
    struct model dst;      /* target; tensors have no storage */
    struct recipe *recipe; /* dst.n_tensors */
    struct reason *reason;
    size_t n_reasons;
    struct ledger_line *line;
    size_t n_lines;
    struct plan_note *note; /* one a layer; layers alike have one text */
    size_t n_notes;
    struct buf spelling; /* what dst.spelling is, where the mapping wrote it */
    uint64_t n_looked;   /* tiles and streams that mapping has decoded, to look at a bias */
    uint64_t elems_read, elems_dropped, elems_written, elems_synth;
};
static inline bool op_reads(const struct op *op)
{
    return op->kind == OP_ADD || op->kind == OP_MUL;
}
/* Do blocks come out of the source as float32? */
static inline bool part_unpacks(const struct part *q)
{
    return q->n_ops > 0 && q->op[0].kind == OP_UNPACK;
}
/* A part's view, and a box of its dims at the target's origin. `k` outlives the part; the other
 * keeps v in `a`. */
void part_share_view(struct part *q, const struct view_kept *k);
MUSTCHECK enum status part_set_view(struct part *q, struct arena *a, const struct view *v,
                                    struct err *e);
/* Moves the box to `at` along an axis; the other axes stay. */
MUSTCHECK enum status part_move(struct part *q, struct arena *a, size_t axis, uint64_t at,
                                struct err *e);
void plan_init(struct plan *p, const struct model *src);
void plan_free(struct plan *p);
/* The target is written: lets go of the spelling the mapping wrote, which can be large. */
void plan_written(struct plan *p);
/* Gives a target tensor the shape of `like`, a view of the source or the plan; shares it where it
 * is in C order already. */
MUSTCHECK enum status plan_shape(struct plan *p, struct tensor *t, const struct view_kept *like,
                                 struct err *e);
/* The identity: every tensor under its own name, axes and dtype; tree, attachments, meta shared
 * with the source. Base of hashing, comparing and container changes. */
MUSTCHECK enum status plan_identity(struct plan *p, struct err *e);
/* Target tensors of block types become float32, unpacked: for comparing and computing. Before
 * plan_prove; recipes that pack stay as they are. */
MUSTCHECK enum status plan_unpack(struct plan *p, struct err *e);
/* Proves every recipe: boxes tile the target exactly once, views have the boxes' dims and lie
 * inside their storages, op chains end in the target dtype; fills the ledger's element counts.
 * ST_CANNOT "block-view" where blocks would have to be cut or turned, "block-shape" where a
 * target's rows do not fill its blocks. ST_BUG when a mapping broke its promise; ST_INPUT
 * "output-too-big" when the target passes max_output (0 = the larger of 1 GiB and 64 times the
 * input). */
MUSTCHECK enum status plan_prove(struct plan *p, uint64_t max_output, struct err *e);
#endif

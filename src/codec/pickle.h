/* Pickles as data. The reader is a virtual machine that calls nothing: it turns protocols 0 to 5
 * into an inert graph of values in which every global is a name with a tag, and every call
 * (REDUCE, NEWOBJ, INST, OBJ) a node that holds what would have been called with what. Opcodes it
 * does not know are refused. Names in modules that run code are refused where they stand; other
 * names off the caller's list get tag 0 and are data like the rest.
 *
 * After pickle_read the graph has no cycle, no path longer than PICKLE_DEPTH and no dict with one
 * key twice. Values are known by index (0 = none); shared values are shared indexes.
 * Source of the opcodes: CPython Lib/pickletools.py.
 */
#ifndef CODEC_PICKLE_H
#define CODEC_PICKLE_H
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include <limits.h>

#define PICKLE_DEPTH 1000                      /* nested values, and open marks */
#define PICKLE_BYTES_MAX ((uint64_t)512 << 20) /* longer pickles in memory are ST_LIMIT */
#define PICKLE_FILE_MAX ((uint64_t)1 << 43)    /* ... and in files */
/* Byte strings and texts of a file that are longer than this stay there: see pk_far. */
#define PICKLE_NEAR_MAX 2048u

enum pk_kind {
    PK_NONE,
    PK_BOOL,
    PK_INT,
    PK_LONG, /* beyond 64 bits: text is two's complement, little-endian */
    PK_FLOAT,
    PK_STR,   /* valid UTF-8; Python 2 byte strings too, when they are */
    PK_BYTES, /* bytes, and Python 2 byte strings that are no UTF-8 */
    PK_BYTEARRAY,
    PK_TUPLE,
    PK_LIST,
    PK_SET,
    PK_FROZENSET,
    PK_DICT,   /* cells alternate key, value */
    PK_GLOBAL, /* a name */
    PK_CALL,   /* REDUCE: call.fn applied to the tuple call.args */
    PK_NEW,    /* NEWOBJ(_EX), INST, OBJ: an instance of call.fn (GLOBAL or PERSID), call.args */
    PK_PERSID  /* persistent id; ref = its value */
};
/* How a string that stayed in the file is spelled there. */
enum pk_spelling {
    PK_NEAR,    /* it did not stay: pk_text has it */
    PK_RAW,     /* its bytes */
    PK_UTF8,    /* text; not yet proven to be UTF-8 */
    PK_ESCAPED, /* opcode V: Latin-1 with \\u and \\U escapes */
    PK_QUOTED   /* opcode S: a Python 2 string with its quotes and escapes */
};
struct pk_far {
    enum pk_spelling spelling;
    uint64_t offset, bytes; /* in the file */
};
struct pk_seq {
    uint32_t head, tail, n; /* first and last cell, number of cells */
};
struct pk_call {
    uint32_t fn, args;
    uint32_t more; /* index into pickle.more, 0 = none */
};
struct pk_val {
    uint64_t kind : 6;
    uint64_t mark_ : 2; /* private to pickle_read */
    uint64_t height_ : 10;
    uint64_t spelling : 3; /* enum pk_spelling */
    uint64_t at : 43;      /* offset of its opcode in the pickle */
    union {
        int64_t i;           /* BOOL, INT */
        uint64_t bits;       /* FLOAT: IEEE double */
        struct pk_seq seq;   /* TUPLE LIST SET FROZENSET DICT */
        struct pk_call call; /* CALL NEW */
        uint32_t ref;        /* GLOBAL: index into pickle.global; PERSID: value */
        struct {
            const char *p;
            uint32_t n;
        } text; /* STR BYTES BYTEARRAY LONG */
        struct {
            uint64_t offset, bytes;
        } far; /* the same, spelling != PK_NEAR; offset counts from the pickle's start */
    };
};
struct pk_cell {
    uint32_t val, next;
};
/* What later opcodes did to an instance. */
struct pk_more {
    uint32_t state;             /* BUILD */
    uint32_t kwargs;            /* NEWOBJ_EX */
    struct pk_seq items, pairs; /* APPEND(S)/ADDITEMS; SETITEM(S), cells alternate */
};
struct pk_global {
    struct str module, name;
    int tag; /* of the caller's table; 0 = not on it */
    bool runs_code;
    uint64_t at; /* first place that names it */
};
struct pickle {
    const uint8_t *bytes; /* borrowed: must outlive the pickle; NULL where it lies in a file */
    uint64_t n_bytes;
    uint64_t far_bytes; /* of n_bytes: strings that stayed in the file, raw data between opcodes */
    struct pk_val *val;
    struct pk_cell *cell;
    struct pk_more *more;
    struct pk_global *global;
    uint32_t n_val, n_cell, n_more, n_global;
    uint32_t root;
    uint64_t end; /* bytes up to and including STOP */
    size_t cap_val_, cap_cell_, cap_more_, cap_global_;
    struct arena arena;
    const char *file;
    uint64_t base;
};
/* One allowed name; matching is byte-exact. tag > 0. */
struct pk_allow {
    const char *module, *name;
    int tag;
};
/* A member of an enum, fetched by builtins.getattr(class, "member"): so early releases of
 * Python 3.11 pickle it. getattr anywhere else stays what it is: pickle-runs-code. */
struct pk_member {
    const char *module, *name, *member;
};
#define PICKLE_GETATTR INT_MAX /* the tag of getattr in a pickle that uses it only so */
struct pickle_opt {
    const char *file; /* for messages */
    uint64_t base;    /* file offset of the pickle's first byte, for messages */
    const struct pk_allow *allow;
    size_t n_allow;
    const struct pk_member *member; /* classes must be on the allow-list too */
    size_t n_members;
    bool tail;       /* bytes behind STOP are the caller's business (else "pickle-tail") */
    bool scan;       /* do not refuse names that run code, only flag them */
    uint64_t budget; /* bytes of values; 0 = the larger of 48 MiB and 4 times the pickle, without
                        what stays in the file */
    /* Called after each BUILD, whose instance is v; NULL: not. Streams of joblib hold raw data
     * there, outside of any opcode: *skip is how many bytes, from `at` (of the pickle) on. */
    enum status (*built)(void *ctx, const struct pickle *p, uint32_t v, uint64_t at, uint64_t *skip,
                         struct err *e);
    void *ctx;
};
/* ST_INPUT pickle-*; ST_LIMIT "pickle-budget". Free also after a failure. */
MUSTCHECK enum status pickle_read(struct pickle *p, const void *bytes, size_t n,
                                  const struct pickle_opt *o, struct err *e);
/* The same for bytes [off, off + n) of a file, which are read through a sliding window; o->file and
 * o->base are the file's path and off. Long strings stay where they are (pk_far). */
MUSTCHECK enum status pickle_read_file(struct pickle *p, struct file *f, uint64_t off, uint64_t n,
                                       const struct pickle_opt *o, struct err *e);
void pickle_free(struct pickle *p);
/* Length of the pickle that begins at `at` in f, up to and including STOP: ST_INPUT "truncated",
 * "pickle-opcode". */
MUSTCHECK enum status pickle_span(struct file *f, uint64_t at, uint64_t *bytes, struct err *e);

static inline const struct pk_val *pk_at(const struct pickle *p, uint32_t v)
{
    return &p->val[v];
}
static inline enum pk_kind pk_kind(const struct pickle *p, uint32_t v)
{
    return (enum pk_kind)p->val[v].kind;
}
/* Text of STR, BYTES, BYTEARRAY, LONG; else, and where it stayed in the file, empty with p == NULL.
 */
struct str pk_text(const struct pickle *p, uint32_t v);
/* True when v is a STR, BYTES or BYTEARRAY that stayed in the file; *out says where. */
bool pk_far(const struct pickle *p, uint32_t v, struct pk_far *out);
bool pk_is_text(const struct pickle *p, uint32_t v, const char *z); /* a STR that says z */
bool pk_u64(const struct pickle *p, uint32_t v, uint64_t *out);     /* INT >= 0, LONG in range */
bool pk_i64(const struct pickle *p, uint32_t v, int64_t *out);      /* INT */
/* Tag of a GLOBAL; -1 for other values. */
int pk_tag(const struct pickle *p, uint32_t v);
/* Tag of the global a CALL or NEW applies; -1 for other values. */
int pk_call_tag(const struct pickle *p, uint32_t v);
/* Element i of a TUPLE or LIST, 0 when absent. */
uint32_t pk_elem(const struct pickle *p, uint32_t v, uint32_t i);
uint32_t pk_count(const struct pickle *p, uint32_t v); /* cells of a sequence or dict; else 0 */
/* Value under a text key of a DICT, 0 when absent. */
uint32_t pk_get(const struct pickle *p, uint32_t dict, const char *key);
/* What BUILD etc. left on an instance; zeros where nothing. */
struct pk_more pk_more(const struct pickle *p, uint32_t v);
/* A refusal at a value. Returns ST_INPUT. */
enum status pickle_fail(const struct pickle *p, uint32_t v, const char *code, struct err *e,
                        const char *fmt, ...) PRINTF(5, 6);

/* Does this name give code to run? Modules by their path, builtins by name, dotted names by part.
 */
bool pickle_runs_code(struct str module, struct str name);

/* ---- writing: protocol 2, only opcodes the weights-only unpickler of PyTorch takes ---- */
void pw_proto(struct buf *b);
void pw_stop(struct buf *b);
void pw_op(struct buf *b, char op); /* an opcode without argument: ( t ) ] } e u R b Q N ... */
void pw_global(struct buf *b, const char *module, const char *name);
void pw_none(struct buf *b);
void pw_bool(struct buf *b, bool v);
void pw_int(struct buf *b, int64_t v);
void pw_u64(struct buf *b, uint64_t v);
/* Any integer: n bytes of two's complement, little-endian, minimal; n <= 255. */
void pw_long(struct buf *b, const void *p, uint8_t n);
void pw_float(struct buf *b, uint64_t bits);
void pw_str(struct buf *b, struct str s);   /* UTF-8 */
void pw_bytes(struct buf *b, struct str s); /* as _codecs.encode(text, "latin1") */
/* Tuple of n <= 3 elements on the stack, or closes a mark when n > 3. */
void pw_tuple(struct buf *b, size_t n);

/* ---- writing: protocols 3 and 4, for pickle.load ---- */
void pw_proto_n(struct buf *b, uint8_t version);
/* The opcode and length of a byte string whose n bytes the caller puts behind it; above 4 GiB it
 * needs protocol 4. */
void pw_bytes_head(struct buf *b, uint64_t n);
void pw_put(struct buf *b, uint32_t memo); /* memoizes the top of the stack */
void pw_get(struct buf *b, uint32_t memo);
#endif

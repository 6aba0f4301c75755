/* JSON: a pull reader over a cursor and a canonical writer onto a buffer. The reader holds one
 * token and a bit per open container, whatever the size of the text; it never recurses, never
 * goes through floating point, and takes RFC 8259 literally: strict UTF-8, no lone surrogates, no
 * raw control bytes, no leading zeros, no trailing commas. Whether a key may stand twice is the
 * caller's to say (it knows which keys matter).
 *
 * Codes: json-syntax, json-truncated, json-utf8, json-surrogate, json-control, json-depth,
 * json-too-long, json-trailing.
 */
#ifndef CODEC_JSON_H
#define CODEC_JSON_H
#include "base/buf.h"
#include "base/cursor.h"

#define JSON_MAX_DEPTH 256

enum json_kind {
    JSON_NONE, /* before the first token */
    JSON_OBJECT,
    JSON_OBJECT_END,
    JSON_ARRAY,
    JSON_ARRAY_END,
    JSON_KEY,    /* text: unescaped; its value is the next token */
    JSON_STRING, /* text: unescaped */
    JSON_NUMBER, /* text: as written */
    JSON_BOOL,   /* truth */
    JSON_NULL,
    JSON_END /* the top value is complete */
};
struct json {
    struct cursor *c;
    size_t max_text; /* longest string or number taken, in bytes */
    /* the current token */
    enum json_kind kind;
    uint64_t at;     /* where it starts, in the cursor's range */
    struct str text; /* valid until the next call */
    bool truth;
    bool is_int;  /* NUMBER: no fraction, no exponent */
    bool has_nul; /* KEY, STRING: holds U+0000 */
    unsigned depth;
    /* private */
    const uint8_t *p_, *hi_, *block_;
    uint64_t block_at_;
    struct buf buf_;
    uint64_t open_[JSON_MAX_DEPTH / 64]; /* bit set: object */
    int state_;
};
/* The cursor stands at the first byte of the text and is the reader's until json_free; the text
 * reaches to the end of the cursor's range. max_text 0 = 1 MiB. */
void json_init(struct json *j, struct cursor *c, size_t max_text);
void json_free(struct json *j);
/* Reads the next token into *j. After JSON_END more calls give JSON_END. */
MUSTCHECK enum status json_next(struct json *j, struct err *e);
/* json_next, and ST_INPUT json-syntax when the token is of another kind; what names the place. */
MUSTCHECK enum status json_expect(struct json *j, enum json_kind kind, const char *what,
                                  struct err *e);
/* The current token begins a value: passes to its last token. */
MUSTCHECK enum status json_skip(struct json *j, struct err *e);
/* After JSON_END: only bytes of the set `blanks` may follow, to the end of the range; else ST_INPUT
 * json-trailing. */
MUSTCHECK enum status json_finish(struct json *j, const char *blanks, struct err *e);
/* ST_INPUT at the current token. */
enum status json_fail(struct json *j, struct err *e, const char *code, const char *fmt, ...)
    PRINTF(4, 5);
/* The current NUMBER; false when it is not an integer that fits ("1.0", "1e3" and "-0" do not). */
bool json_u64(const struct json *j, uint64_t *out);
bool json_i64(const struct json *j, int64_t *out);
/* ... as the nearest double; false when it is too large for one, or longer than any that needs it.
 */
bool json_double(const struct json *j, double *out);
/* The nearest double of a number's text, which must be one of at most 63 bytes; else 0. */
double json_text_double(struct str number);

/* Writer. Appends to *b; failures stick in the buffer (buf_ok). Keys are written in the order
 * given: sorted keys are the caller's duty. indent 0 = compact, else that many blanks a level in
 * the manner of Python's json.dumps(indent=). */
struct json_w {
    struct buf *b;
    unsigned indent, depth;
    bool any;       /* the open container has an element */
    bool after_key; /* a value follows on the same line */
};
void json_w_init(struct json_w *w, struct buf *b, unsigned indent);
void json_w_object(struct json_w *w);
void json_w_object_end(struct json_w *w);
void json_w_array(struct json_w *w);
void json_w_array_end(struct json_w *w);
void json_w_key(struct json_w *w, struct str key);
/* Bytes that are not UTF-8 become U+FFFD each. */
void json_w_str(struct json_w *w, struct str s);
void json_w_u64(struct json_w *w, uint64_t v);
void json_w_i64(struct json_w *w, int64_t v);
/* Shortest decimal text that reads back as the same double; NaN and infinities are null. */
void json_w_double(struct json_w *w, double v);
void json_w_bool(struct json_w *w, bool v);
void json_w_null(struct json_w *w);
/* A value that is JSON text already. */
void json_w_raw(struct json_w *w, struct str text);
#endif

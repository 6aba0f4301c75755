/* How long a pickle is, without making anything of it: opcodes and their arguments are stepped
 * over, so that one of several pickles in a row can be read from its own bytes alone.
 * Source of the opcodes: CPython Lib/pickletools.py.
 */
#include "base/cursor.h"
#include "codec/pickle.h"

/* Behind an opcode: N bytes; a count of 1, 4 or 8 bytes and as many bytes; lines. */
enum { COUNT1 = 0x10, COUNT4 = 0x11, COUNT8 = 0x12, LINE = 0x20, LINES2 = 0x21, NONE = 0xff };

static uint8_t argument(uint8_t op)
{
    switch (op) {
    case '(':
    case '.':
    case '0':
    case '1':
    case '2':
    case 'N':
    case 'Q':
    case 'R':
    case ']':
    case 'a':
    case 'b':
    case 'd':
    case '}':
    case 'e':
    case 'l':
    case ')':
    case 'o':
    case 's':
    case 't':
    case 'u':
    case 0x81:
    case 0x85:
    case 0x86:
    case 0x87:
    case 0x88:
    case 0x89:
    case 0x8f:
    case 0x90:
    case 0x91:
    case 0x92:
    case 0x93:
    case 0x94:
    case 0x97:
    case 0x98:
        return 0;
    case 'K':
    case 'h':
    case 'q':
    case 0x80:
    case 0x82:
        return 1;
    case 'M':
    case 0x83:
        return 2;
    case 'J':
    case 'j':
    case 'r':
    case 0x84:
        return 4;
    case 'G':
    case 0x95:
        return 8;
    case 'U':
    case 'C':
    case 0x8a:
    case 0x8c:
        return COUNT1;
    case 'T':
    case 'X':
    case 'B':
    case 0x8b:
        return COUNT4;
    case 0x8d:
    case 0x8e:
    case 0x96:
        return COUNT8;
    case 'F':
    case 'I':
    case 'L':
    case 'P':
    case 'S':
    case 'V':
    case 'g':
    case 'p':
        return LINE;
    case 'c':
    case 'i':
        return LINES2;
    default:
        return NONE;
    }
}

static void skip_lines(struct cursor *c, int n)
{
    while (n > 0 && !cur_failed(c))
        n -= cur_u8(c) == '\n';
}

enum status pickle_span(struct file *f, uint64_t at, uint64_t *bytes, struct err *e)
{
    struct cursor c;
    uint8_t op = 0;
    uint64_t left = file_size(f) - (at < file_size(f) ? at : file_size(f));
    cur_file(&c, f, at, left < PICKLE_BYTES_MAX ? left : PICKLE_BYTES_MAX);
    while (op != '.' && !cur_failed(&c)) {
        uint64_t here = c.pos;
        op = cur_u8(&c);
        if (cur_failed(&c))
            break;
        uint8_t arg = argument(op);
        if (arg == NONE)
            (void)cur_fail(&c, here, "pickle-opcode", "unknown opcode 0x%02x", op);
        else if (arg >= LINE)
            skip_lines(&c, arg - LINE + 1);
        else
            cur_skip(&c, arg == COUNT1   ? cur_u8(&c)
                         : arg == COUNT4 ? cur_u32(&c)
                         : arg == COUNT8 ? cur_u64(&c)
                                         : arg);
    }
    *bytes = c.pos;
    enum status st = cur_ok(&c, e);
    cur_close(&c);
    return st;
}

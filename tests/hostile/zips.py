"""Zip and pickle files byte by byte, for hostile cases: every field can be set wrong.
Standard library only."""

import struct
import zlib


class Member:
    """One record. Fields left None are what they should be."""

    def __init__(self, name, data=b"", method=0, stored=None, crc=None, flags=0x0800, local=None,
                 central=None, local_extra=b"", central_extra=b"", header=None, skip_local=False,
                 skip_central=False, before=b"", after=b"", pad=True):
        self.name = name if isinstance(name, bytes) else name.encode()
        self.data, self.method, self.flags = data, method, flags
        if stored is None:
            stored = data
            if method == 8:
                c = zlib.compressobj(9, zlib.DEFLATED, -15)
                stored = c.compress(data) + c.flush()
        self.stored = stored
        self.crc = zlib.crc32(data) if crc is None else crc
        self.local = local or {}       # overrides: name method flags crc stored raw name_n extra_n
        self.central = central or {}   # the same, and header
        self.local_extra, self.central_extra = local_extra, central_extra
        self.header = header           # central: another offset
        self.skip_local, self.skip_central = skip_local, skip_central
        self.before, self.after = before, after
        self.pad = pad


def local_header(m, at):
    g = m.local.get
    name, extra = g("name", m.name), m.local_extra
    if m.pad and m.method == 0 and not extra:
        room = -(at + 30 + len(name) + 4) % 64
        extra = b"FB" + struct.pack("<H", room) + b"Z" * room
    return struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, g("flags", m.flags),
                       g("method", m.method), 0, 0x21, g("crc", m.crc),
                       g("stored", len(m.stored)), g("raw", len(m.data)),
                       g("name_n", len(name)), g("extra_n", len(extra))) + name + extra


def central_record(m, at):
    g = m.central.get
    name = g("name", m.name)
    return struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, g("flags", m.flags),
                       g("method", m.method), 0, 0x21, g("crc", m.crc),
                       g("stored", len(m.stored)), g("raw", len(m.data)), g("name_n", len(name)),
                       g("extra_n", len(m.central_extra)), 0, 0, 0, 0,
                       at if m.header is None else m.header) + name + m.central_extra


def zip_bytes(members, prefix=b"", shift=0, count=None, cd_shift=0, cd_more=0, comment=b"",
              comment_n=None, gap=b"", tail=b""):
    """prefix: bytes in front. shift: added to every offset written. count: what the end record
    says. cd_shift, cd_more: added to the directory's offset and size there. gap: bytes between
    records and directory. tail: bytes behind all."""
    out, places = bytearray(prefix), []
    for m in members:
        out += m.before
        places.append(len(out) + shift)
        if not m.skip_local:
            out += local_header(m, len(out)) + m.stored + m.after
    out += gap
    cd = len(out)
    listed = [(m, p) for m, p in zip(members, places) if not m.skip_central]
    for m, p in listed:
        out += central_record(m, p)
    n = len(listed) if count is None else count
    out += struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, n, n, len(out) - cd + cd_more,
                       cd + shift + cd_shift, len(comment) if comment_n is None else comment_n)
    return bytes(out) + comment + tail


def place_of(blob, what, nth=0):
    """Offset of the nth occurrence."""
    at = -1
    for _ in range(nth + 1):
        at = blob.index(what, at + 1)
    return at


# ---- pickles ----

def text(s):
    b = s if isinstance(s, bytes) else s.encode()
    return b"X" + struct.pack("<I", len(b)) + b


def integer(n):
    if 0 <= n < 256:
        return b"K" + bytes([n])
    if 0 <= n < 65536:
        return b"M" + struct.pack("<H", n)
    if -2**31 <= n < 2**31:
        return b"J" + struct.pack("<i", n)
    b = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(b)]) + b


def name(module, what):
    return b"c" + module.encode() + b"\n" + what.encode() + b"\n"


def tup(*parts):
    return b"(" + b"".join(parts) + b"t"


ORDERED = name("collections", "OrderedDict") + b")R"


def persid(key="0", numel=2, cls=("torch", "FloatStorage"), device="cpu", parts=None):
    parts = parts if parts is not None else (text("storage"), name(*cls), text(key), text(device),
                                             integer(numel))
    return tup(*parts) + b"Q"


def tensor(storage=None, offset=0, shape=(2,), stride=(1,), grad=b"\x89", hooks=ORDERED,
           func=("torch._utils", "_rebuild_tensor_v2"), args=None):
    if args is None:
        args = (storage or persid(), integer(offset), tup(*map(integer, shape)),
                tup(*map(integer, stride)), grad, hooks)
    return name(*func) + tup(*args) + b"R"


def state_dict(*items, tail=b""):
    """items: (key, pickled value)."""
    return b"\x80\x02" + ORDERED + b"(" + b"".join(text(k) + v for k, v in items) + b"u" + tail + b"."


DATA = struct.pack("<2f", 1.5, -2.0)


def torch_members(pickle=None, data=DATA, prefix="a", more=(), **pickle_fields):
    pickle = state_dict(("w", tensor())) if pickle is None else pickle
    return [Member(prefix + "/data.pkl", pickle, **pickle_fields),
            Member(prefix + "/byteorder", b"little"),
            Member(prefix + "/data/0", data),
            Member(prefix + "/version", b"3\n"), *more]


def torch_zip(pickle=None, **kw):
    return zip_bytes(torch_members(pickle, **kw))


def pickle_at(blob):
    """File offset of the pickle's first byte in a zip of torch_members."""
    n, x = struct.unpack_from("<HH", blob, 26)
    return 30 + n + x

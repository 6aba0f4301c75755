"""Registry of hostile inputs: the contract between cases_*.py and run.py.

A case file says `from lib import case` and calls case() once per hostile file
or folder. Standard library only; nothing here knows a format.

    case("S05", "wrap.safetensors", 3, "shape-overflow", 8,
         build=lambda d: bytes_of_the_file, twin=lambda d: bytes_of_the_control)

id            unique; the letters and digits of the catalogue, with a suffix where
              one entry has several files ("S01-len7")
file          name of the input inside its folder; what the command is given
expect_exit   int, or {command: int} where commands differ ("inspect": 0, "convert": 4)
expect_code   the kebab code, or {command: code}; None: any code
expect_offset int: this byte. None: an offset must be there. False: it may be absent.
              Or {command: one of these}. Looked at only where the exit is not 0.
args          argument lists, run one after another on the same input, each with an empty
              output folder; "{file}" "{out}" "{dir}" "{outside}" are replaced.
              Default: inspect and convert to safetensors.
build         bytes, or callable(folder) that returns bytes (written to folder/file) or
              makes the input itself and returns None. folder is a pathlib.Path; its
              sibling folder/"../outside" exists, and whatever opens a file in it fails
              the case.
twin          the valid control, as `build`; every command must exit 0 on it
twin_args     as args, where the control needs others
no_twin       why there is no control (needed when twin is None and an exit is not 0)
expect_warn   a code that stderr must name although the exit is 0 (outcome W)
expect_tensors {name: bytes}: data that convert's output must hold, bit for bit (outcome A)
metadata_bytes size of the input's metadata: the memory limit is the larger of 64 MiB
              and four times this
"""

import json
import struct

DEFAULT_ARGS = (
    ("inspect", "{file}"),
    ("convert", "{file}", "-o", "{out}/OUT.safetensors", "--format", "safetensors"),
)

CASES = []


class Case:
    def __init__(self, id, file, expect_exit=3, expect_code=None, expect_offset=None,
                 args=DEFAULT_ARGS, *, build, twin=None, twin_args=None, no_twin=None,
                 expect_warn=None, expect_tensors=None, metadata_bytes=0):
        self.id = id
        self.file = file
        self.expect_exit = expect_exit
        self.expect_code = expect_code
        self.expect_offset = expect_offset
        self.args = tuple(tuple(a) for a in args)
        self.build = build
        self.twin = twin
        self.twin_args = tuple(tuple(a) for a in (twin_args or args))
        self.no_twin = no_twin
        self.expect_warn = expect_warn
        self.expect_tensors = expect_tensors
        self.metadata_bytes = metadata_bytes
        exits = expect_exit.values() if isinstance(expect_exit, dict) else [expect_exit]
        if twin is None and not no_twin and any(e != 0 for e in exits):
            raise ValueError(f"case {id}: no valid twin and no reason for it")
        if not self.args:
            raise ValueError(f"case {id}: no command")


def case(*args, **kwargs):
    """Register one case; see the top of this file."""
    c = Case(*args, **kwargs)
    if any(other.id == c.id for other in CASES):
        raise ValueError(f"case {c.id}: registered twice")
    CASES.append(c)
    return c


def for_command(value, argv):
    """The part of a per-command value that belongs to this argument list."""
    if isinstance(value, dict):
        if argv[0] not in value:
            raise KeyError(f"nothing expected for command {argv[0]!r}")
        return value[argv[0]]
    return value


def build_into(builder, folder, name):
    """Run one builder; leaves the input at folder/name."""
    data = builder if isinstance(builder, (bytes, bytearray)) else builder(folder)
    if data is not None:
        (folder / name).write_bytes(data)


def safetensors_bytes(tensors):
    """A plain valid file from [(name, dtype, shape, bytes)], for twins and controls."""
    header, at, body = {}, 0, b""
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def read_safetensors(blob):
    """{name: bytes} of a file that we wrote; raises on anything odd."""
    (n,) = struct.unpack_from("<Q", blob)
    header = json.loads(blob[8:8 + n])
    header.pop("__metadata__", None)
    return {k: blob[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]]
            for k, v in header.items()}

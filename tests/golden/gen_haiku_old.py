#!/usr/bin/env python3
"""Makes the Haiku goldens of generations that no current Python can run: gen_haiku_old.py FOLDER.

Each file holds the opcodes that generation's own __reduce__ gives, spelled through stand-ins that
bear its names; pickle itself then writes them:

    jax 0.2 to 0.2.21    DeviceArray.__reduce__ = ndarray's (jax/interpreters/xla.py): numpy's own
    jax 0.2.22 to 0.3    (reconstruct_device_array, (fun, args, state, aval_state)), aval_state =
                         {'weak_type', 'named_shape'} (jax/_src/device_array.py)
    bfloat16 there       the type bfloat16 of jaxlib.xla_extension (its tp_name was bare before, and
                         pickled as builtins.bfloat16)
    dm-haiku 0.0.1       frozendict.__reduce__ = (frozendict, (dict,))
                         (haiku/_src/data_structures.py)
    Python 2             byte strings are opcodes S, U and T; numpy's names are
                         numpy.core.multiarray (CPython 2.7 Lib/pickle.py)

Needs numpy alone.
"""

import io
import pathlib
import pickle
import struct
import sys
import types

import numpy as np

import expected
from gen_haiku import canonical, dtype_name, leaves


def stand_in(module, name, kind=None):
    """A global that pickle writes as module.name."""
    parts = module.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    thing = kind or (lambda *a: None)
    thing.__module__, thing.__name__, thing.__qualname__ = module, name, name
    setattr(sys.modules[module], name, thing)
    return thing


class Jax:
    """An array as jax.numpy's would pickle."""

    def __init__(self, array, how, aval):
        self.array, self.how, self.aval = array, how, aval

    def __reduce__(self):
        fun, args, state = self.array.__reduce__()
        return self.how, (fun, args, state, self.aval)


class Frozen:
    def __init__(self, how, tree):
        self.how, self.tree = how, tree

    def __reduce__(self):
        return self.how, (self.tree,)


class OldPickler(pickle._Pickler):
    """numpy 1's names, whatever numpy runs; and the types of before ml_dtypes."""

    def __init__(self, f, protocol, renamed=()):
        super().__init__(f, protocol)
        self.renamed = dict(renamed)

    def save_global(self, obj, name=None):
        where = {"numpy._core.multiarray": "numpy.core.multiarray",
                 "numpy._core.numeric": "numpy.core.numeric"}.get(
                     getattr(obj, "__module__", None))
        text = f"{where}\n{obj.__name__}\n" if where else self.renamed.get(obj)
        if not text:
            return super().save_global(obj, name)
        self.write(b"c" + text.encode())
        self.memoize(obj)

    dispatch = dict(pickle._Pickler.dispatch)
    dispatch[types.FunctionType] = save_global
    dispatch[type] = lambda self, obj: (OldPickler.save_global(self, obj) if obj in self.renamed
                                        else pickle._Pickler.save_type(self, obj))


def dumps(tree, protocol, renamed=()):
    out = io.BytesIO()
    OldPickler(out, protocol, renamed).dump(tree)
    return out.getvalue()


def plain(tree):
    if isinstance(tree, Frozen):
        return plain(tree.tree)
    if isinstance(tree, Jax):
        return tree.array
    if isinstance(tree, dict):
        return {k: plain(v) for k, v in tree.items()}
    return tree


def save(path, made_by, tree, protocol, renamed=()):
    path.write_bytes(dumps(tree, protocol, renamed))
    expected.write(path, made_by, [(n, dtype_name(a), a.shape, canonical(a))
                                   for n, a in leaves(plain(tree))])


def python2(array, protocol):
    """{'m': {'w': array}} as cPickle of Python 2.7 spells it."""
    raw = array.tobytes()
    if protocol == 0:
        text = lambda s: b"S" + repr(s)[1:].encode() + b"\n"  # noqa: E731
        integer = lambda i: b"I%d\n" % i  # noqa: E731
        return (b"(dp1\n" + text(b"m") + b"p2\n(dp3\n" + text(b"w") + b"p4\n"
                b"cnumpy.core.multiarray\n_reconstruct\np5\n(cnumpy\nndarray\np6\n"
                b"(" + integer(0) + b"tp7\n" + text(b"b") + b"p8\ntp9\nRp10\n("
                + integer(1) + b"(" + b"".join(map(integer, array.shape)) + b"tp11\n"
                b"cnumpy\ndtype\np12\n(" + text(array.dtype.str[1:].encode())
                + b"p13\nI0\nI1\ntp14\nRp15\n(I3\n" + text(b"<") + b"p16\nNNNI-1\nI-1\nI0\ntp17\nb"
                b"I00\n" + text(raw) + b"p18\ntp19\nbss.")
    short = lambda s: (b"U" + bytes([len(s)]) if len(s) < 256  # noqa: E731
                       else b"T" + struct.pack("<i", len(s))) + s
    shape = b"".join(b"K" + bytes([n]) for n in array.shape)
    return (b"\x80\x02}q\1" + short(b"m") + b"q\2}q\3" + short(b"w") + b"q\4"
            b"cnumpy.core.multiarray\n_reconstruct\nq\5cnumpy\nndarray\nq\6K\0\x85q\7"
            + short(b"b") + b"q\x08\x87q\x09Rq\x0a(K\1" + b"(" + shape + b"tq\x0b"
            b"cnumpy\ndtype\nq\x0c" + short(array.dtype.str[1:].encode()) + b"q\x0dK\0K\1\x87q\x0e"
            b"Rq\x0f(K\3" + short(b"<") + b"q\x10NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tq\x11b"
            b"\x89" + short(raw) + b"q\x12tq\x13bss.")


def main(folder):
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(12)
    w = rng.normal(size=(3, 4)).astype(np.float32)
    b = np.arange(4, dtype=np.float32)
    import ml_dtypes  # its values only; its name does not come into the files
    h = np.arange(6).astype(ml_dtypes.bfloat16).reshape(2, 3)
    device = stand_in("jax._src.device_array", "reconstruct_device_array")
    frozen = stand_in("haiku._src.data_structures", "frozendict", type("frozendict", (), {}))
    aval = {"weak_type": False, "named_shape": {}}
    tree = {"mlp/~/linear_0": {"w": w, "b": b}}
    jax_tree = {"mlp/~/linear_0": {"w": Jax(w, device, aval), "b": Jax(b, device, aval)}}
    for protocol in (2, 3, 4):
        save(out / f"jax02_{protocol}.pkl", "jax 0.2, spelled by hand", tree, protocol)
        save(out / f"jax03_{protocol}.pkl", "jax 0.3, spelled by hand", jax_tree, protocol)
    for name, text in (("jaxlib", "jaxlib.xla_extension\nbfloat16\n"),
                       ("builtins", "builtins\nbfloat16\n")):
        save(out / f"bfloat16_{name}.pkl", "jax 0.3, spelled by hand",
             {"m": {"w": Jax(h, device, aval)}}, 3, {ml_dtypes.bfloat16: text})
    save(out / "frozendict.pkl", "dm-haiku 0.0.1, spelled by hand",
         Frozen(frozen, {"m": Frozen(frozen, {"w": w, "b": b})}), 3)
    long = rng.integers(0, 256, (20, 150), dtype=np.uint8)
    for name, array in (("small", w), ("long", long)):
        for protocol in (0, 2):
            path = out / f"python2_{name}{protocol}.pkl"
            path.write_bytes(python2(array, protocol))
            back = pickle.loads(path.read_bytes(), encoding="latin1")["m"]["w"]
            assert back.tobytes() == array.tobytes() and back.shape == array.shape
            expected.write(path, "Python 2.7, spelled by hand",
                           [("m.w", array.dtype.name, array.shape, array.tobytes())])


if __name__ == "__main__":
    main(sys.argv[1])

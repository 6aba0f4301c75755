#!/usr/bin/env python3
"""Makes the npy and npz goldens with numpy (and ml_dtypes where there is one): gen_numpy.py FOLDER.

A .npy holds one array without a name; the expected name is empty and means any."""

import pathlib
import sys

import numpy as np

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None

import expected

MADE_BY = f"numpy {np.__version__}"


def canonical(a):
    a = np.ascontiguousarray(a)
    return a.astype(a.dtype.newbyteorder("<"), copy=False).tobytes()


def npy(path, a, dtype=None, version=None):
    with open(path, "wb") as f:
        np.lib.format.write_array(f, a, version=version, allow_pickle=False)
    if a.dtype.kind != "V":
        back = np.load(path, allow_pickle=False)
        assert back.shape == a.shape and canonical(back) == canonical(a)
    expected.write(path, MADE_BY, [("", dtype or a.dtype.name, a.shape, canonical(a))])


def special(dtype):
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.array([[True, False, True], [False, False, True]])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.array([[info.min, info.max, 1], [2, 3, 0]], dtype)
    part = {8: np.uint64, 4: np.uint32, 2: np.uint16}[
        dtype.itemsize // (2 if dtype.kind == "c" else 1)]
    bits = {8: [1 << 63, 1, 0x7ff0000000000000, 0x7ff8000000001234, 0xfff0000000000001, 5],
            4: [1 << 31, 1, 0x7f800000, 0x7fc01234, 0xff800001, 5],
            2: [1 << 15, 1, 0x7c00, 0x7e12, 0xfc01, 5]}[np.dtype(part).itemsize]
    raw = np.array(bits * (2 if dtype.kind == "c" else 1), part)
    return raw.view(dtype).reshape(2, 3)


ALL = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
       "float16", "float32", "float64", "complex64", "complex128"]


def main(folder):
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    npy(out / "float32.npy", special("float32"))
    npy(out / "fortran.npy", np.asfortranarray(np.arange(24, dtype="<i2").reshape(2, 3, 4)))
    npy(out / "big.npy", np.arange(6, dtype=">f8").reshape(3, 2), "float64")
    npy(out / "big_fortran.npy", np.asfortranarray(np.arange(6, dtype=">u4").reshape(3, 2)),
        "uint32")
    npy(out / "big_complex.npy", special("complex64").astype(">c8"), "complex64")
    npy(out / "scalar.npy", np.array(-7, np.int32))
    npy(out / "zero_size.npy", np.zeros((0, 5), np.float16))
    npy(out / "v2.npy", np.arange(3.0), version=(2, 0))
    npy(out / "v3.npy", np.arange(3.0), version=(3, 0))
    npy(out / "bool.npy", special("bool"))
    if ml_dtypes:
        bf16 = np.array([[1.5, -0.0, np.inf], [np.nan, 3e38, 1e-40]], ml_dtypes.bfloat16)
        npy(out / "bfloat16.npy", bf16, "bfloat16")

    arrays = {d: special(d) for d in ALL}
    arrays["fortran"] = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    arrays["big"] = np.arange(4, dtype=">i4")
    arrays["scalar"] = np.array(2.5)
    arrays["layer/0:w"] = np.ones((2, 2), np.float32)
    arrays["zero"] = np.zeros((2, 0))
    for name, save in (("stored.npz", np.savez), ("deflated.npz", np.savez_compressed)):
        save(out / name, **arrays)
        with np.load(out / name, allow_pickle=False) as back:
            assert sorted(back.files) == sorted(arrays)
            expected.write(out / name, MADE_BY, [
                (k, back[k].dtype.newbyteorder("=").name, back[k].shape, canonical(back[k]))
                for k in back.files])
    np.savez(out / "positional.npz", np.arange(3), np.ones((2, 1)))
    expected.write(out / "positional.npz", MADE_BY, [
        ("arr_0", "int64", (3,), canonical(np.arange(3))),
        ("arr_1", "float64", (2, 1), canonical(np.ones((2, 1))))])


if __name__ == "__main__":
    main(sys.argv[1])

#!/usr/bin/env python3
"""Makes the HDF5 and Keras goldens: gen_keras.py FOLDER keras|tf-keras|h5py. The names in the
record are paths with '.' between parts, dots inside a part escaped; of a whole legacy model those
below model_weights."""

import os
import pathlib
import sys
import zipfile

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py  # noqa: E402
import numpy as np  # noqa: E402

import expected  # noqa: E402


def flat(path):
    parts = []
    for p in path.split("/"):
        out = ""
        for i, ch in enumerate(p):
            nxt = p[i + 1:i + 2]
            out += "\\" + ch if ch == "." or (ch == "\\" and nxt in ("", ".", "\\")) else ch
        parts.append(out)
    return ".".join(parts)


def tensors(f, drop=""):
    """[(name, dtype, shape, bytes)] of every dataset of an open file, in no order of note."""
    found, todo = [], [("", f)]
    while todo:
        path, o = todo.pop()
        if isinstance(o, h5py.Group):
            todo += [(f"{path}/{k}" if path else k, o[k]) for k in o]
        if not isinstance(o, h5py.Dataset):
            continue
        a = o[()]
        dtype = o.attrs["dtype"] if a.dtype.kind == "V" else a.dtype.newbyteorder("=").name
        data = np.ascontiguousarray(a)
        data = data.astype(data.dtype.newbyteorder("<"), copy=False)
        found.append((flat(path.removeprefix(drop)), dtype, o.shape, data.tobytes()))
    return found


def record(path, made_by, drop="", member=None, aliases=()):
    import io
    source = io.BytesIO(zipfile.ZipFile(path).read(member)) if member else path
    with h5py.File(source) as f:
        expected.write(path, made_by, tensors(f, drop), aliases=aliases)


def small(keras, *more):
    keras.utils.set_random_seed(7)
    m = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2, name="first"), *more])
    m.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    return m


def keras3(out):
    import keras
    made = f"keras {keras.__version__}, h5py {h5py.__version__}"
    m = small(keras)
    m.save(out / "model.keras")
    record(out / "model.keras", made, member="model.weights.h5")
    with zipfile.ZipFile(out / "model.keras") as z, \
            zipfile.ZipFile(out / "deflated.keras", "w", zipfile.ZIP_DEFLATED) as to:
        for name in z.namelist():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            to.writestr(info, z.read(name))
    record(out / "deflated.keras", made, member="model.weights.h5")
    m.save(out / "whole.h5")
    record(out / "whole.h5", made, drop="model_weights/")
    m = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2, name="first"),
                          keras.layers.Dense(2, name="a_second")])
    m.save_weights(out / "only.weights.h5")
    record(out / "only.weights.h5", made)
    b = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(2, dtype="bfloat16")])
    b.save_weights(out / "bfloat16.weights.h5")
    record(out / "bfloat16.weights.h5", made)


def keras2(out):
    try:
        import tf_keras as keras
        made = f"tf-keras {keras.__version__}, h5py {h5py.__version__}"
    except ImportError:  # when it was Keras itself
        import keras
        made = f"keras {keras.__version__}, h5py {h5py.__version__}"
    m = small(keras)
    m.save(out / "whole.h5")
    record(out / "whole.h5", made, drop="model_weights/")
    m.save(out / "model.keras", save_format="keras_v3" if made.startswith("keras") else "keras")
    record(out / "model.keras", made, member="model.weights.h5")
    m = small(keras, keras.layers.Activation("relu"), keras.layers.Dense(2, name="a_second"))
    m.save_weights(out / "only.h5")
    record(out / "only.h5", made)
    m.save_weights(out / "only.weights.h5")
    record(out / "only.weights.h5", made)


def ramp(dtype, shape):
    return np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)


def plain(out):
    made = f"h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}"

    def file(name, fill, **kw):
        with h5py.File(out / name, "w", **kw) as f:
            fill(f)
        record(out / name, made, aliases=ties.get(name, ()))

    ties = {"links.h5": [["a.w", "b.c.w", "w"]]}

    def dtypes(f):
        for d in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
                  "float16", "float32", "float64", "complex64", "complex128"):
            f[d] = ramp(d, (2, 3))
        f["big"] = np.arange(6, dtype=">f8").reshape(3, 2)
        f["scalar"] = np.float32(2.5)
        f["zero"] = np.zeros((0, 4), np.int16)
        f["with.dot/ünï"] = ramp("float32", (1, 1, 2, 1, 1, 2))

    def links(f):
        f["w"] = ramp("float32", (2, 2))
        f["a/w"] = f["w"]
        f.create_group("b/c")["w"] = f["w"]
        f["other"] = ramp("float32", (2, 2))
        f["committed"] = np.dtype("<f4")
        f.create_dataset("of_committed", data=ramp("float32", (3,)), dtype=f["committed"])

    def many(f):
        for i in range(11):
            f[f"g/{i}"] = np.int16(i)
            f["g"].attrs[f"attribute {i}"] = f"text {i}"
        f.create_group("empty")

    def filters(f):
        a = ramp("float32", (7, 5))
        f.create_dataset("deflate", data=a, chunks=(3, 2), compression="gzip")
        f.create_dataset("shuffle", data=a, chunks=(7, 5), compression="gzip", shuffle=True,
                         fletcher32=True)
        f.create_dataset("lzf", data=np.zeros((8, 8), np.int32), chunks=(4, 8),
                         compression="lzf")

    def chunks(f):
        a = ramp("float32", (7, 5))
        f.create_dataset("plain", data=a, chunks=(2, 2))
        f.create_dataset("fill", shape=(4, 4), dtype="int32", chunks=(2, 2), fillvalue=-3)[0, 0] = 9
        f.create_dataset("never", shape=(2, 2), dtype="float64", fillvalue=1.5)

    def resized(f):
        d = f.create_dataset("grown", shape=(3, 4), maxshape=(None, 6), chunks=(2, 3),
                             dtype="int16")
        d.resize((5, 4))
        d[:] = ramp("int16", (5, 4))
        d = f.create_dataset("turned", shape=(3, 4), maxshape=(6, None), chunks=(2, 3),
                             dtype="int16", compression="gzip")
        d[:] = ramp("int16", (3, 4))
        d = f.create_dataset("both", shape=(3, 4), maxshape=(None, None), chunks=(2, 3),
                             dtype="int16", compression="gzip")
        d[:] = ramp("int16", (3, 4))

    def early(f):
        space = h5py.h5s.create_simple((4, 6))
        p = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        p.set_chunk((2, 4))
        p.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        d = h5py.h5d.create(f.id, b"implicit", h5py.h5t.NATIVE_INT16, space, p)
        d.write(h5py.h5s.ALL, h5py.h5s.ALL, ramp("int16", (4, 6)))
        p = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        p.set_layout(h5py.h5d.COMPACT)
        d = h5py.h5d.create(f.id, b"compact", h5py.h5t.NATIVE_INT16, space, p)
        d.write(h5py.h5s.ALL, h5py.h5s.ALL, ramp("int16", (4, 6)))

    for tag, libver in (("earliest", "earliest"), ("latest", "latest")):
        for fill in (dtypes, links, filters, chunks, resized, early, many):
            name = f"{fill.__name__}_{tag}.h5"
            ties[name] = ties["links.h5"] if fill is links else ()
            file(name, fill, libver=libver, track_order=False)
    file("user_block.h5", lambda f: f.create_dataset("w", data=ramp("int32", (2, 3))),
         userblock_size=512)
    file("v108.h5", dtypes, libver=("v108", "v108"))


def refused(out):
    """Files that lead to others, or back: no records, the unit test names the codes."""
    with h5py.File(out / "soft.h5", "w") as f:
        f["w"] = ramp("float32", (2,))
        f["a"] = h5py.SoftLink("/b")
        f["b"] = h5py.SoftLink("/a")
    with h5py.File(out / "external.h5", "w") as f:
        f["w"] = h5py.ExternalLink("/etc/passwd", "/w")
    with h5py.File(out / "storage.h5", "w") as f:
        f.create_dataset("w", (2,), "float32", external=[("/etc/passwd", 0, 8)])
    with h5py.File(out / "virtual.h5", "w") as f:
        layout = h5py.VirtualLayout((2,), "float32")
        layout[:] = h5py.VirtualSource("other.h5", "w", (2,))
        f.create_virtual_dataset("w", layout)
    with h5py.File(out / "text.h5", "w") as f:
        f["w"] = ["a", "b"]
    with h5py.File(out / "scaleoffset.h5", "w") as f:
        f.create_dataset("w", data=ramp("int32", (8,)), scaleoffset=0)


MAKE = {"keras": keras3, "tf-keras": keras2, "h5py": plain, "h5py-refused": refused}
if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    MAKE[sys.argv[2]](folder)

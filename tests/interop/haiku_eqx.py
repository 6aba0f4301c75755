"""Haiku pickles, joblib and Equinox: the real packages read what nnferry wrote, and the other way.

What nnferry writes as a pickle must load with numpy alone: a child process in which jax, haiku and
ml_dtypes cannot be imported says so. Everything is compared bit for bit.
"""

import hashlib
import json
import os
import pickle
import subprocess
import sys

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import joblib
import ml_dtypes
import numpy as np
import optax
import torch

import safetensors.torch
from common import OLD_PYTHON, arrays, convert, fresh, need, nnferry, same_tensors

NUMPY_ALONE = r"""
import hashlib, json, pickle, sys
class No:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib", "haiku", "ml_dtypes", "optax", "flax"):
            raise ImportError(name)
sys.meta_path.insert(0, No())
import numpy as np
out = {}
def walk(x, where):
    if isinstance(x, (np.ndarray, np.generic)):
        a = np.asarray(x)
        out[".".join(where)] = [a.dtype.str, list(a.shape), hashlib.sha256(a.tobytes()).hexdigest()]
    elif isinstance(x, dict):
        for k, v in x.items():
            walk(v, where + (str(k),))
    elif isinstance(x, (list, tuple)):
        for i, v in enumerate(x):
            walk(v, where + (str(i),))
with open(sys.argv[1], "rb") as f:
    walk(pickle.load(f), ())
print(json.dumps([np.__version__, out]))
"""


def flat(x, where=()):
    """{name: array} of nested containers; named tuples by their fields."""
    if isinstance(x, (np.ndarray, np.generic, jax.Array)):
        return {".".join(where): np.asarray(x)}
    if hasattr(x, "_fields"):
        x = {k: getattr(x, k) for k in x._fields}
    if isinstance(x, (list, tuple)):
        x = dict(enumerate(x))
    out = {}
    if hasattr(x, "items"):
        for k, v in x.items():
            out.update(flat(v, where + (str(k),)))
    return out


def net():
    def f(x, training):
        x = hk.Conv2D(3, 3, name="conv")(x)
        x = hk.BatchNorm(True, True, 0.9, name="norm")(x, training)
        return hk.nets.MLP([5, 4], name="mlp")(x.reshape(x.shape[0], -1))
    return hk.transform_with_state(f)


def trained():
    """params, state, optimizer state after two steps, and an input."""
    f = net()
    x = jax.random.normal(jax.random.PRNGKey(1), (2, 4, 4, 2))
    params, state = f.init(jax.random.PRNGKey(0), x, True)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))
    opt = tx.init(params)
    for _ in range(2):
        grads = jax.tree_util.tree_map(lambda p: p * 0.1 + 1, params)
        updates, opt = tx.update(grads, opt, params)
        params = optax.apply_updates(params, updates)
    return params, state, opt, x


def haiku_apply():
    """A trained net through a pickle of ours gives the same output bits."""
    where = fresh("haiku")
    params, state, opt, x = trained()
    with open(where / "in.pkl", "wb") as f:
        pickle.dump({"params": params, "state": state, "opt_state": opt}, f)
    convert(where / "in.pkl", where / "mid.tar.zst", "--as-is")
    convert(where / "mid.tar.zst", where / "out.pkl", "--format", "haiku")
    with open(where / "out.pkl", "rb") as f:
        got = pickle.load(f)
    same_tensors(arrays(flat(got)), arrays(flat({"params": params, "state": state,
                                                "opt_state": opt})), "pickle.load")
    f = net()
    a, _ = f.apply(params, state, None, x, False)
    b, _ = f.apply(got["params"], got["state"], None, x, False)
    need(np.asarray(a).tobytes() == np.asarray(b).tobytes(), "apply gives other bits")
    need(type(got["opt_state"]) is tuple and type(got["params"]) is dict, "other containers")
    return f"dm-haiku {hk.__version__}, optax {optax.__version__}"


def numpy_alone(python):
    where = fresh("haiku")
    rng = np.random.default_rng(3)
    tree = {"m/~/linear": {"w": rng.normal(size=(3, 5)).astype(np.float32), "b": np.zeros(5),
                           "f": np.asfortranarray(rng.normal(size=(2, 3)))},
            "n": {"i": np.arange(300, dtype=np.int16), "zero_d": np.array(2.5),
                  "empty": np.zeros((0, 3), np.uint8), "c": np.ones((1, 2, 3, 4), np.complex64),
                  "bool": np.array([True, False])},
            "b": {"w": np.arange(4).astype(ml_dtypes.bfloat16)}}
    with open(where / "in.pkl", "wb") as f:
        pickle.dump(tree, f)
    convert(where / "in.pkl", where / "out.pkl", "--as-is")
    convert(where / "in.pkl", where / "mid.npz", "--as-is")
    convert(where / "mid.npz", where / "flat.pkl", "--as-is")
    for name in ("out.pkl", "flat.pkl"):
        got = subprocess.run([python, "-c", NUMPY_ALONE, where / name], capture_output=True,
                             text=True)
        need(got.returncode == 0, f"{name} does not load: {got.stderr.strip()[-400:]}")
        version, loaded = json.loads(got.stdout)
        for k, a in flat(tree).items():
            descr = "|V2" if a.dtype == ml_dtypes.bfloat16 else a.dtype.str
            want = [descr, list(a.shape), hashlib.sha256(a.tobytes()).hexdigest()]
            need(loaded.get(k) == want, f"{name}: {k}: {loaded.get(k)} not {want}")
        need(len(loaded) == len(flat(tree)), f"{name}: other arrays: {sorted(loaded)}")
    return f"numpy {version}"


def joblib_reads():
    where = fresh("haiku")
    params, _, _, _ = trained()
    with open(where / "in.pkl", "wb") as f:
        pickle.dump(params, f)
    convert(where / "in.pkl", where / "out.joblib")
    same_tensors(arrays(flat(joblib.load(where / "out.joblib"))), arrays(flat(params)),
                 "joblib.load")
    return f"joblib {joblib.__version__}"


def read_all():
    """Every protocol, and joblib in every wrapping that is read: the bits by way of npz."""
    where = fresh("haiku")
    rng = np.random.default_rng(4)
    tree = {}
    for name in ("float64", "float32", "float16", "complex64", "complex128", "int8", "int16",
                 "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        dt = np.dtype(name)
        for n in (1, 700, 3000):
            raw = rng.integers(0, 256, n * dt.itemsize, dtype=np.uint8)
            tree[f"{name}_{n}"] = raw.view(dt)
    tree["bool"] = rng.integers(0, 2, (3, 5)).astype(bool)
    tree["fortran"] = np.asfortranarray(rng.normal(size=(40, 30, 2)))
    tree["sliced"] = rng.normal(size=(40, 30))[::2, ::-1]
    tree["jax"] = jnp.arange(900, dtype=jnp.float32).reshape(30, 30)
    tree = {"some/~/module": tree}
    files = []
    for protocol in range(6):
        files.append(where / f"p{protocol}.pkl")
        files[-1].write_bytes(pickle.dumps(tree, protocol))
    plain = {k: {n: np.asarray(a) for n, a in v.items()} for k, v in tree.items()}
    for name, compress in (("plain", 0), ("zlib", ("zlib", 1)), ("gzip", ("gzip", 9))):
        files.append(where / f"{name}.joblib")
        joblib.dump(plain, files[-1], compress=compress)
    want = arrays(flat(tree))
    for path in files:
        convert(path, where / "out.npz")
        with np.load(where / "out.npz") as z:
            same_tensors(arrays({k: z[k] for k in z.files}), want, path.name)
    for compress in ("bz2", "xz", "lzma"):
        joblib.dump(plain, where / "no.joblib", compress=(compress, 1))
        said = nnferry("inspect", where / "no.joblib", exit=3).stderr
        need("joblib-compression" in said, f"{compress}: {said.strip()}")
    return f"{len(files)} files, {len(want)} arrays"


# ---- Equinox ----

class Net(eqx.Module):
    first: eqx.nn.Linear
    drop: eqx.nn.Dropout
    norm: eqx.nn.LayerNorm
    second: eqx.nn.Linear
    rate: float
    on: bool

    def __init__(self, key):
        a, b = jax.random.split(key)
        self.first = eqx.nn.Linear(3, 6, key=a)
        self.drop = eqx.nn.Dropout(0.25)
        self.norm = eqx.nn.LayerNorm(6)
        self.second = eqx.nn.Linear(6, 2, key=b)
        self.rate, self.on = 0.125, True

    def __call__(self, x):
        return self.second(self.norm(jax.nn.relu(self.first(x))))


def leaf_bits(tree):
    return [(np.asarray(x).dtype.name, np.asarray(x).shape, np.asarray(x).tobytes())
            for x in jax.tree_util.tree_leaves(tree)
            if isinstance(x, (bool, int, float, complex, np.ndarray, jax.Array))]


def eqx_skeleton():
    """A torch model into the leaves of a skeleton: loaded by equinox, it computes the same."""
    where = fresh("equinox")
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.ReLU(), torch.nn.LayerNorm(6),
                                torch.nn.Linear(6, 2))
    torch.save(model.state_dict(), where / "in.pt")
    skeleton = Net(jax.random.PRNGKey(0))
    with open(where / "skeleton.eqx", "wb") as f:
        f.write(b'{"size": 6}\n')
        eqx.tree_serialise_leaves(f, skeleton)
    convert(where / "in.pt", where / "out.eqx", "--like", where / "skeleton.eqx")
    with open(where / "out.eqx", "rb") as f:
        need(json.loads(f.readline()) == {"size": 6}, "other hyper-parameters")
        got = eqx.tree_deserialise_leaves(f, skeleton)
    sd = model.state_dict()
    for name, leaf in (("0.weight", got.first.weight), ("0.bias", got.first.bias),
                       ("2.weight", got.norm.weight), ("2.bias", got.norm.bias),
                       ("3.weight", got.second.weight), ("3.bias", got.second.bias)):
        need(np.asarray(leaf).tobytes() == sd[name].numpy().tobytes(), f"{name}: other bits")
    need((got.rate, got.on, got.drop.p) == (0.125, True, 0.25), "the skeleton's numbers are lost")
    x = np.linspace(-1, 1, 3, dtype=np.float32)
    with torch.no_grad():
        want = model(torch.tensor(x)).numpy()
    need(np.allclose(np.asarray(got(jnp.asarray(x))), want, 1e-5, 1e-6), "other output")
    return f"equinox {eqx.__version__}"


def eqx_ambiguous():
    """Alike layers whose names tell nothing are asked about, and the answers are followed."""
    where = fresh("equinox")
    sd = {f"{n}.{k}": torch.randn(4, 4) if k == "weight" else torch.randn(4)
          for n in ("b", "a") for k in ("weight", "bias")}
    safetensors.torch.save_file(sd, where / "in.safetensors")
    keys = jax.random.split(jax.random.PRNGKey(0))
    skeleton = [eqx.nn.Linear(4, 4, key=k) for k in keys]
    eqx.tree_serialise_leaves(where / "skeleton.eqx", skeleton)
    said = convert(where / "in.safetensors", where / "out.eqx", "--like", where / "skeleton.eqx",
                   exit=4)
    need('"a.weight" -> ?' in said.stdout and "leaves 0, 2" in said.stdout,
         f"no candidates: {said.stdout}")
    (where / "map").write_text('# nnferry-map 1\n"b.weight" -> "0"\n"b.bias" -> "1"\n')
    convert(where / "in.safetensors", where / "out.eqx", "--like", where / "skeleton.eqx", "--map",
            where / "map")
    got = eqx.tree_deserialise_leaves(where / "out.eqx", skeleton)
    for i, n in enumerate("ba"):
        need(np.asarray(got[i].weight).tobytes() == sd[f"{n}.weight"].numpy().tobytes(),
             f"{n}.weight is elsewhere")


def eqx_round():
    """Train state, scalars, bfloat16: through another format and back, the same leaves."""
    where = fresh("equinox")
    model = Net(jax.random.PRNGKey(2))
    half = jax.tree_util.tree_map(
        lambda x: x.astype(jnp.bfloat16) if eqx.is_inexact_array(x) else x, model)
    tx = optax.adam(1e-3)
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))
    for name, tree in (("model", model), ("half", half), ("train", (model, state, 7)),
                       ("complex", {"a": np.arange(3) + 1j, "b": 2 + 3j})):
        path = where / f"{name}.eqx"
        eqx.tree_serialise_leaves(path, tree)
        convert(path, where / "mid.tar.zst", "--as-is")
        convert(where / "mid.tar.zst", where / "back.eqx", "--format", "equinox")
        need(path.read_bytes() == (where / "back.eqx").read_bytes(), f"{name}: other bytes")
        back = eqx.tree_deserialise_leaves(where / "back.eqx", tree)
        need(leaf_bits(back) == leaf_bits(tree), f"{name}: other leaves")


def eqx_leaf_list():
    """Without a skeleton: the names go into the first line, which equinox's users step over."""
    where = fresh("equinox")
    model = eqx.nn.MLP(2, 3, 4, 2, key=jax.random.PRNGKey(3))
    arrays_of = [x for x in jax.tree_util.tree_leaves(model) if eqx.is_array(x)]
    torch.save({f"p{i}": torch.tensor(np.asarray(x)) for i, x in enumerate(arrays_of)},
               where / "in.pt")
    convert(where / "in.pt", where / "out.eqx")
    with open(where / "out.eqx", "rb") as f:
        line = json.loads(f.readline())
        back = eqx.tree_deserialise_leaves(f, model)
    need(line == {"nnferry.leaves": [f"p{i}" for i in range(len(arrays_of))]}, f"line: {line}")
    need(leaf_bits(back) == leaf_bits(model), "other leaves")


def run(tally):
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    tally.run("haiku apply", haiku_apply)
    tally.run("numpy alone", numpy_alone, sys.executable)
    has = subprocess.run([OLD_PYTHON, "-c", "import numpy"], capture_output=True)
    if has.returncode == 0:
        tally.run("old numpy alone", numpy_alone, OLD_PYTHON)
    else:
        print(f"old numpy: not tried, {OLD_PYTHON} has none (Debian: python3-numpy)", flush=True)
    tally.run("joblib.load", joblib_reads)
    tally.run("read every protocol", read_all)
    tally.run("equinox skeleton", eqx_skeleton)
    tally.run("equinox ambiguous", eqx_ambiguous)
    tally.run("equinox round trip", eqx_round)
    tally.run("equinox leaf list", eqx_leaf_list)

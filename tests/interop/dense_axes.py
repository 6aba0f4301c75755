"""Dense layers over several axes, in the real frameworks.

A net reads [N,T,H,D]: one layer gives [N,T,H,D] to [N,T,P,Q], the next contracts P,Q to E. Linen has
it as DenseGeneral, NNX as LinearGeneral, Keras as EinsumDense with kernels in another order of axes,
PyTorch and Equinox as Linear over flattened axes, Haiku likewise. From each to each the outputs are
equal (float32 rtol 1e-5, atol 1e-6; float64 rtol 1e-9), back every tensor is the same bit for bit,
and validate calls each layer equal. A kernel without a bias is told by the skeleton; batch dims meet
a list of layers; a map that is read by its axes is turned for PyTorch.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from flax import nnx, serialization  # noqa: E402
from flax.traverse_util import flatten_dict  # noqa: E402

from common import arrays, convert, entries, fresh, json_output, need, nnferry, same_tensors  # noqa: E402

H, D, P, Q, E = 2, 3, 4, 5, 7
TOLERANCE = {"float32": (1e-5, 1e-6), "float64": (1e-9, 1e-12)}


def close(got, ref, precision, what):
    rtol, atol = TOLERANCE[precision]
    got, ref = np.asarray(got), np.asarray(ref)
    need(got.shape == ref.shape, f"{what}: shape {got.shape}, expected {ref.shape}")
    need(got.dtype == np.dtype(precision), f"{what}: computed in {got.dtype}")
    need(np.allclose(got, ref, rtol=rtol, atol=atol),
         f"{what}: outputs differ by {np.abs(got - ref).max():.3g}")


def randomly(tree, seed):
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(draw.normal(size=a.shape), a.dtype), tree)


# ---- the net in each framework: an untrained one to a file, and what a file computes ----


class Linen(nn.Module):
    dtype: str

    @nn.compact
    def __call__(self, x):
        x = nn.DenseGeneral((P, Q), axis=(-2, -1), param_dtype=self.dtype)(x)
        return nn.DenseGeneral(E, axis=(-2, -1), param_dtype=self.dtype)(jnp.tanh(x))


def linen_save(path, precision, seed):
    tree = Linen(precision).init(jax.random.key(0), jnp.zeros((1, 1, H, D), precision))
    path.write_bytes(serialization.to_bytes(randomly(tree, seed)))


def linen_run(path, x):
    return Linen(x.dtype.name).apply(serialization.msgpack_restore(path.read_bytes()), x)


class Nnx(nnx.Module):
    def __init__(self, dtype):
        own = {"param_dtype": dtype, "rngs": nnx.Rngs(0)}
        self.up = nnx.LinearGeneral((H, D), (P, Q), axis=(-2, -1), **own)
        self.down_fc = nnx.LinearGeneral((P, Q), E, axis=(-2, -1), **own)

    def __call__(self, x):
        return self.down_fc(jnp.tanh(self.up(x)))


def nnx_save(path, precision, seed):
    state = randomly(nnx.state(Nnx(precision), nnx.Param), seed)
    path.write_bytes(serialization.msgpack_serialize(nnx.to_pure_dict(state)))


def nnx_run(path, x):
    net = Nnx(x.dtype.name)
    state = nnx.state(net, nnx.Param)
    nnx.replace_by_pure_dict(state, serialization.msgpack_restore(path.read_bytes()))
    nnx.update(net, state)
    return net(x)


def keras_net(precision):
    import keras
    keras.config.set_dtype_policy(precision)
    return keras.Sequential([
        keras.layers.Input((None, H, D), dtype=precision),
        keras.layers.EinsumDense("bthd,qdhp->btpq", (None, P, Q), bias_axes="pq", name="up"),
        keras.layers.Activation("tanh"),
        keras.layers.EinsumDense("btpq,eqp->bte", (None, E), bias_axes="e", name="down_fc"),
    ])


def keras_save(path, precision, seed):
    net, draw = keras_net(precision), np.random.default_rng(seed)
    net.set_weights([draw.normal(size=w.shape).astype(precision) for w in net.get_weights()])
    net.save(path)


def keras_run(path, x):
    import keras
    keras.config.set_dtype_policy(x.dtype.name)
    return keras.models.load_model(path, compile=False)(x)


class Torch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up = torch.nn.Linear(H * D, P * Q)
        self.down_fc = torch.nn.Linear(P * Q, E)

    def forward(self, x):
        return self.down_fc(torch.tanh(self.up(x.flatten(-2))))


def torch_save(path, precision, seed):
    torch.manual_seed(seed)
    torch.save(Torch().to(getattr(torch, precision)).state_dict(), path)


def torch_run(path, x):
    net = Torch().to(getattr(torch, x.dtype.name))
    net.load_state_dict(torch.load(path, weights_only=True))
    with torch.no_grad():
        return net(torch.from_numpy(x)).numpy()


def equinox_net(precision):
    import equinox as eqx

    class Equinox(eqx.Module):
        up: eqx.nn.Linear
        down_fc: eqx.nn.Linear

        def __init__(self):
            key = jax.random.key(0)
            self.up = eqx.nn.Linear(H * D, P * Q, key=key, dtype=precision)
            self.down_fc = eqx.nn.Linear(P * Q, E, key=key, dtype=precision)

        def __call__(self, x):
            return self.down_fc(jnp.tanh(self.up(x.reshape(-1))))
    return Equinox()


def equinox_save(path, precision, seed):
    import equinox as eqx
    eqx.tree_serialise_leaves(path, randomly(equinox_net(precision), seed))


def equinox_run(path, x):
    import equinox as eqx
    net = eqx.tree_deserialise_leaves(path, equinox_net(x.dtype.name))
    return jax.vmap(jax.vmap(net))(x)


FRAMEWORKS = {
    "flax": ("msgpack", linen_save, linen_run),
    "nnx": ("msgpack", nnx_save, nnx_run),
    "keras": ("keras", keras_save, keras_run),
    "pytorch": ("pt", torch_save, torch_run),
    "equinox": ("eqx", equinox_save, equinox_run),
}


def tensors(path, suffix):
    """Of a container that the readers of tests/lib do not know, by its own framework."""
    if suffix == "msgpack":
        tree = serialization.msgpack_restore(path.read_bytes())
        return arrays({".".join(k): np.asarray(v) for k, v in flatten_dict(tree).items()})
    if suffix == "keras":
        import keras
        net = keras.models.load_model(path, compile=False)
        return arrays({w.path: w.numpy() for w in net.weights})
    return entries(path)


def dense_rule(where, source, target):
    """What a name of the user's own does not tell of a bias of one axis, and no other side does."""
    if {source, target} not in ({"nnx", "equinox"}, {"nnx", "alone"}):
        return []
    (where / "rules.map").write_text("# nnferry-map 1\nkind down_fc = linear\n")
    return ["--map", where / "rules.map"]


def pair(source, target, precision):
    """source -> target's skeleton -> back; outputs at each stop, bits at the end."""
    where = fresh("dense_axes")
    (a, save_a, run_a), (b, save_b, run_b) = FRAMEWORKS[source], FRAMEWORKS[target]
    first, like, there, back = (where / f"{n}.{s}" for n, s in
                                (("in", a), ("like", b), ("there", b), ("back", a)))
    x = np.random.default_rng(5).normal(size=(2, 3, H, D)).astype(precision)
    save_a(first, precision, 3)
    save_b(like, precision, 4)
    ref = run_a(first, x)
    rule = dense_rule(where, source, target)
    convert(first, there, "--like", like, "--from", source, "--to", target, *rule)
    close(run_b(there, x), ref, precision, target)
    convert(there, back, "--like", first, "--from", target, "--to", source, *rule)
    close(run_a(back, x), ref, precision, source)
    same_tensors(tensors(back, a), tensors(first, a), "back")
    if "equinox" not in (source, target):  # whose files have no names
        report = json_output("validate", first, there, "--from", source, "--to", target, "--device",
                             "native", "--json")
        need(report["result"] == "ok", f"validate says {report['result']}")


def renamed(path):
    """Linen's own names are not those of the net in PyTorch."""
    sd = torch.load(path, weights_only=True)
    own = {"DenseGeneral_0": "up", "DenseGeneral_1": "down_fc"}
    torch.save({f"{own.get(k.rsplit('.')[0], k.rsplit('.')[0])}.{k.rsplit('.')[1]}": v
                for k, v in sd.items()}, path)
    return path


def alone(source, precision):
    """Without a skeleton: PyTorch's own layers over flattened axes; an archive gives back the axes."""
    where, (suffix, save, run) = fresh("dense_axes"), FRAMEWORKS[source]
    first, there, archive, back = (where / n for n in (f"in.{suffix}", "there.pt", "a.tar.zst",
                                                       f"back.{suffix}"))
    x = np.random.default_rng(5).normal(size=(2, 3, H, D)).astype(precision)
    save(first, precision, 3)
    rule = dense_rule(where, source, "alone")
    convert(first, there, "--from", source, "--to", "pytorch", *rule)
    close(torch_run(renamed(there), x), run(first, x), precision, "pytorch")
    convert(first, archive, "--from", source, *rule)
    nnferry("verify", archive)
    convert(archive, back, "--to", "source")
    same_tensors(tensors(back, suffix), tensors(first, suffix), "back")


def keeps_axes(precision):
    """Flax to NNX and Keras's to Flax's, without a skeleton."""
    where = fresh("dense_axes")
    x = np.random.default_rng(5).normal(size=(2, 3, H, D)).astype(precision)
    linen_save(where / "in.msgpack", precision, 3)
    names = ("up -> DenseGeneral_0", "down_fc -> DenseGeneral_1")
    for name, lines in (("there", [" -> ".join(n.split(" -> ")[::-1]) for n in names]),
                        ("back", names)):
        (where / f"{name}.map").write_text("# nnferry-map 1\n" + "\n".join(lines) + "\n")
    convert(where / "in.msgpack", where / "nnx.msgpack", "--from", "flax", "--to", "nnx", "--map",
            where / "there.map")
    close(nnx_run(where / "nnx.msgpack", x), linen_run(where / "in.msgpack", x), precision, "nnx")
    keras_save(where / "in.keras", precision, 3)
    convert(where / "in.keras", where / "flax.msgpack", "--to", "flax", "--map", where / "back.map")
    close(linen_run(where / "flax.msgpack", x), keras_run(where / "in.keras", x), precision, "flax")


def without_bias():
    where = fresh("dense_axes")
    net = nn.DenseGeneral((P, Q), axis=(-2, -1), use_bias=False)
    x = np.random.default_rng(5).normal(size=(2, H, D)).astype(np.float32)
    tree = {"params": {"DenseGeneral_0": net.init(jax.random.key(1), x)["params"]}}
    (where / "in.msgpack").write_bytes(serialization.to_bytes(tree))
    torch.save({"up.weight": torch.zeros(P * Q, H * D)}, where / "like.pt")
    got = convert(where / "in.msgpack", where / "kept.pt", "--to", "pytorch")
    need("no rule for such a layer" in got.stdout + got.stderr, "kept without a note")
    convert(where / "in.msgpack", where / "out.pt", "--like", where / "like.pt")
    w = torch.load(where / "out.pt", weights_only=True)["up.weight"].numpy()
    y = net.apply({"params": tree["params"]["DenseGeneral_0"]}, x)
    close(x.reshape(2, -1) @ w.T, np.asarray(y).reshape(2, -1), "float32", "pytorch")
    convert(where / "out.pt", where / "back.msgpack", "--like", where / "in.msgpack")
    same_tensors(tensors(where / "back.msgpack", "msgpack"),
                 tensors(where / "in.msgpack", "msgpack"), "back")


def batches():
    where = fresh("dense_axes")
    net = nn.DenseGeneral(Q, axis=-1, batch_dims=(0,), bias_init=nn.initializers.normal())
    x = np.random.default_rng(5).normal(size=(P, H, D)).astype(np.float32)
    tree = {"params": {"DenseGeneral_0": net.init(jax.random.key(1), x)["params"]}}
    (where / "in.msgpack").write_bytes(serialization.to_bytes(tree))
    layers = torch.nn.ModuleDict({"fc": torch.nn.ModuleList(torch.nn.Linear(D, Q) for _ in range(P))})
    torch.save(layers.state_dict(), where / "like.pt")
    convert(where / "in.msgpack", where / "out.pt", "--like", where / "like.pt")
    layers.load_state_dict(torch.load(where / "out.pt", weights_only=True))
    with torch.no_grad():
        y = torch.stack([layer(torch.from_numpy(v)) for layer, v in zip(layers["fc"], x)]).numpy()
    close(y, net.apply({"params": tree["params"]["DenseGeneral_0"]}, x), "float32", "pytorch")


def a_map():
    """[H,W,C] read by its axes; PyTorch flattens [C,H,W]."""
    where = fresh("dense_axes")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.tanh(nn.Conv(4, (3, 3), bias_init=nn.initializers.normal())(x))
            return nn.DenseGeneral(E, axis=(-3, -2, -1), bias_init=nn.initializers.normal())(x)
    x = np.random.default_rng(5).normal(size=(2, 5, 6, 3)).astype(np.float32)
    tree = Net().init(jax.random.key(1), x)
    (where / "in.msgpack").write_bytes(serialization.to_bytes(tree))
    got = convert(where / "in.msgpack", where / "out.pt", "--to", "pytorch", exit=4)
    need("flatten" in got.stderr + got.stdout, "not asked about")
    (where / "rules.map").write_text("# nnferry-map 1\nflatten DenseGeneral_0 = 4\n")
    convert(where / "in.msgpack", where / "out.pt", "--to", "pytorch", "--map", where / "rules.map")
    sd = torch.load(where / "out.pt", weights_only=True)
    y = torch.tanh(torch.nn.functional.conv2d(torch.from_numpy(x).permute(0, 3, 1, 2),
                                              sd["Conv_0.weight"], sd["Conv_0.bias"], padding=1))
    y = torch.nn.functional.linear(y.flatten(1), sd["DenseGeneral_0.weight"],
                                   sd["DenseGeneral_0.bias"])
    close(y.numpy(), Net().apply(tree, x), "float32", "pytorch")


def run(tally):
    jax.config.update("jax_enable_x64", True)
    for n, (source, target) in enumerate((s, t) for s in FRAMEWORKS for t in FRAMEWORKS if s != t):
        if {source, target} == {"pytorch", "equinox"}:
            continue
        precision = ("float32", "float64")[n % 2]
        tally.run(f"{source} to {target} {precision}", pair, source, target, precision)
    for source in ("flax", "nnx", "keras"):
        tally.run(f"{source} alone", alone, source, "float64")
    tally.run("axes kept", keeps_axes, "float32")
    tally.run("without a bias", without_bias)
    tally.run("batch dims", batches)
    tally.run("a map by its axes", a_map)

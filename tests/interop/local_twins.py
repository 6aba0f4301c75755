"""Layers with a kernel for each position: Flax's ConvLocal and Keras 2's LocallyConnected1D and 2D.

The real frameworks run what nnferry wrote, both ways: equal outputs, and equal bits on the way
back. What a file does not tell (the channels of a window, the rows of positions) is asked about;
what nnferry has no rule for (Keras's implementations 2 and 3, channels first), and frameworks
without such a layer, keep the tensors, and a note says so.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import flax
import flax.linen as nn
import h5py
import jax
import numpy as np
import tensorflow as tf
import tf_keras

from common import arrays, convert, entries, fresh, json_output, need, nnferry, same_tensors

RTOL, ATOL = 1e-5, 1e-6  # of the largest value
LINE, MAP = (7, 2), (5, 8, 3)  # no two extents alike: a wrong order shows
NAMES, BARE = ("line", "map", "head"), ("local1", "local2", "head")  # which tell nothing, or all


class Twin(nn.Module):
    bias: bool = True
    names: tuple = NAMES

    @nn.compact
    def __call__(self, line, image):
        a = nn.ConvLocal(5, (3,), strides=2, padding="VALID", use_bias=self.bias,
                         name=self.names[0])(line)
        b = nn.ConvLocal(4, (2, 3), strides=(1, 2), padding="VALID", use_bias=self.bias,
                         name=self.names[1])(image)
        return a, nn.Dense(6, name=self.names[2])(b.reshape(b.shape[0], -1))


def keras(bias=True, names=NAMES, implementation=1, data_format="channels_last"):
    tf_keras.backend.clear_session()
    turn = (lambda s: s) if data_format == "channels_last" else (lambda s: s[-1:] + s[:-1])
    kind = {"use_bias": bias, "implementation": implementation, "data_format": data_format}
    line, image = tf_keras.Input(turn(LINE)), tf_keras.Input(turn(MAP))
    a = tf_keras.layers.LocallyConnected1D(5, 3, strides=2, name=names[0], **kind)(line)
    b = tf_keras.layers.LocallyConnected2D(4, (2, 3), strides=(1, 2), name=names[1], **kind)(image)
    head = tf_keras.layers.Dense(6, name=names[2])(tf_keras.layers.Flatten()(b))
    return tf_keras.Model([line, image], [a, head])


def fill(shapes, rng):
    return [rng.uniform(-1, 1, shape).astype("float32") for shape in shapes]


class Sides:
    """Both nets with weights of their own, in files, and an input."""

    def __init__(self, folder, bias=True, names=NAMES):
        rng = np.random.default_rng(5)
        self.folder, self.net, self.keras = folder, Twin(bias, names), keras(bias, names)
        self.x = tuple(rng.standard_normal((3,) + s).astype("float32") for s in (LINE, MAP))
        zeros = self.net.init(jax.random.PRNGKey(0), *self.x)
        self.variables = jax.tree_util.tree_map(lambda v: fill([v.shape], rng)[0], zeros)
        self.flax_file, self.h5 = folder / "a.msgpack", folder / "a.h5"
        self.flax_file.write_bytes(flax.serialization.to_bytes(self.variables))
        self.keras.set_weights(fill([w.shape for w in self.keras.get_weights()], rng))
        self.keras.save(self.h5)

    def run_flax(self, path):
        zeros = jax.tree_util.tree_map(np.zeros_like, self.variables)
        return self.net.apply(flax.serialization.from_bytes(zeros, path.read_bytes()), *self.x)

    def run_keras(self, path, **how):
        self.keras.load_weights(path, **how)
        return [y.numpy() for y in self.keras(list(self.x))]


def stored(path):
    if path.suffix != ".h5":
        return entries(path)
    found = {}
    with h5py.File(path) as f:
        f.visititems(lambda name, x: found.update({name: x[()]}) if isinstance(x, h5py.Dataset)
                     else None)
    return arrays(found)


def near(got, want):
    for g, w in zip(got, want, strict=True):
        diff = np.abs(np.asarray(g) - np.asarray(w)).max()
        need(np.allclose(g, w, rtol=RTOL, atol=ATOL * np.abs(w).max()), f"outputs differ by {diff}")


def proven(a, b, *options):
    verdict = json_output("validate", a, b, "--json", *options)
    need(verdict["exit"] == 0, f"validate: {verdict['result']}")


def from_keras(s, source):
    want, out = s.run_keras(s.h5), s.folder / "k.msgpack"
    convert(source, out, "--to", "flax")
    near(s.run_flax(out), want)
    if source == s.h5:
        proven(source, out)
    back = s.folder / "back.h5"
    convert(out, back, "--like", s.h5)
    same_tensors(stored(back), stored(s.h5), "there and back")


def files_of_keras(s):
    s.run_keras(s.h5)
    s.keras.save(s.folder / "a.keras")
    from_keras(s, s.folder / "a.keras")


def from_flax(s):
    want, out, back = s.run_flax(s.flax_file), s.folder / "f.h5", s.folder / "f.msgpack"
    convert(s.flax_file, out, "--like", s.h5)
    near(s.run_keras(out), want)
    proven(s.flax_file, out)
    convert(out, back, "--like", s.flax_file)
    same_tensors(entries(back), entries(s.flax_file), "there and back")


def asked(s, *argv):
    got = convert(*argv, exit=4)
    need("?" in got.stdout, "nothing was asked")
    return [line for line in got.stdout.splitlines() if not line.startswith("#")]


def by_rules(s):
    """Without a config nothing tells a window's channels."""
    want, out = s.run_flax(s.flax_file), s.folder / "r.h5"
    lines = asked(s, s.flax_file, out, "--to", "keras")
    need(lines == ['kind "map" = ?'], f"asked: {lines}")  # line may be dense layers in a stack
    rules = s.folder / "rules"
    rules.write_text("kind line = conv_local\nkind map = conv_local\n"
                     "flatten line = 2\nflatten map = 3\n")
    convert(s.flax_file, out, "--to", "keras", "--map", rules)
    near(s.run_keras(out, by_name=True), want)


def checkpoint(s):
    """Of tf_keras: names of attributes, no config."""
    want, out = s.run_keras(s.h5), s.folder / "c.msgpack"
    source = tf.train.Checkpoint(model=s.keras).save(str(s.folder / "ck" / "m"))
    rules = s.folder / "ckrules"
    lines = asked(s, source + ".index", out, "--like", s.flax_file)
    need(sum(l.startswith("flatten ") for l in lines) == 2, f"asked: {lines}")
    rules.write_text("".join(f"{l.removesuffix('?')}{n}\n" for l, n in
                             zip(sorted(lines), (2, 3))))
    convert(source + ".index", out, "--like", s.flax_file, "--map", rules)
    near(s.run_flax(out), want)
    proven(source + ".index", out, "--map", rules)


def archives(s):
    for source, back in ((s.flax_file, "b.msgpack"), (s.h5, "b.h5")):
        kept = s.folder / (source.name + ".tar.zst")
        convert(source, kept)
        convert(kept, s.folder / back, "--to", "source")
        same_tensors(stored(s.folder / back), stored(source), "through an archive")
    want, out = s.run_keras(s.h5), s.folder / "z.msgpack"
    convert(s.folder / "a.h5.tar.zst", out, "--to", "flax")
    near(s.run_flax(out), want)


def rows_asked(s):
    """Without biases nothing tells how many rows of positions there are, but a skeleton."""
    want, out = s.run_keras(s.h5), s.folder / "n.msgpack"
    lines = asked(s, s.h5, out, "--to", "flax")
    need(lines == ['positions "local2" = ?'], f"asked: {lines}")
    convert(s.h5, out, "--like", s.flax_file)
    near(s.run_flax(out), want)
    rules = s.folder / "rules"
    rules.write_text("positions local2 = 4,3\n")
    convert(s.h5, out, "--to", "flax", "--map", rules)
    near(s.run_flax(out), want)
    back = s.folder / "nback.h5"
    convert(out, back, "--like", s.h5)
    same_tensors(stored(back), stored(s.h5), "there and back")


def kept(s, source, target):
    out = s.folder / "kept.safetensors"
    got = convert(source, out, "--to", target)
    need("no rule for such a layer" in got.stderr, f"no note: {got.stderr}")


def other_forms(s, said, **how):
    net = keras(**how)
    source = s.folder / "other.h5"
    net.save(source)
    got = nnferry("convert", source, "-o", s.folder / "other.msgpack", "-f", "--to", "flax")
    need(said in got.stderr, f"not named: {got.stderr}")


def run(tally):
    folder = fresh("local_twins")
    s = Sides(folder)
    bare = fresh("local_twins_bare")
    tally.run("keras h5", from_keras, s, s.h5)
    tally.run("keras files", files_of_keras, s)
    tally.run("flax", from_flax, s)
    tally.run("flax by rules", by_rules, s)
    tally.run("checkpoint", checkpoint, s)
    tally.run("archives", archives, s)
    for target in ("pytorch", "haiku", "nnx", "equinox"):
        tally.run(f"{target} has none", kept, s, s.h5, target)
    not_1 = "not as implementation 1 stores its kernel"
    tally.run("implementation 2", lambda: other_forms(s, not_1, implementation=2))
    tally.run("implementation 3", lambda: other_forms(s, not_1, implementation=3))
    tally.run("channels first",
              lambda: other_forms(s, "channels first", data_format="channels_first"))
    tally.run("no biases", lambda: rows_asked(Sides(bare, False, BARE)))

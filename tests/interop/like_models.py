"""--like without hints between libraries' models and the same networks written by other hands.

Each case converts random weights with the skeleton alone. Where the structure leaves something
open (exit 4), the rules file that was written is completed from the case's own table, and the
conversion must then pass; at least 95 % of the layers must have been paired without it. The
outputs of both models must agree, which no wrong pair survives, since every weight is random and
takes part.
"""

import json
import os
import pickle
import re

os.environ["KERAS_BACKEND"] = "jax"  # its usual one does not share a process with torch's compiler

import equinox as eqx
import jax
import jax.numpy as jnp
import keras
import numpy as np
import torch
from flax import nnx, serialization
from timm.models.convnext import ConvNeXt
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torchvision.models.vision_transformer import VisionTransformer
from transformers import GPT2Config, GPT2LMHeadModel, ViTConfig, ViTForImageClassification

import like_nets
from common import fresh, need, nnferry

QUESTION = re.compile(r'^"(.*)" -> \?$', re.M)


def randomise(net, seed):
    g = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=g) * 0.3
    return net.eval()


def random_tree(tree, seed):
    leaves, shape = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    leaves = [jnp.asarray(rng.normal(size=v.shape, scale=0.3), v.dtype) for v in leaves]
    return jax.tree.unflatten(shape, leaves)


def close(got, want, what):
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    need(got.shape == want.shape, f"{what}: shapes {got.shape} and {want.shape}")
    worst, scale = float(np.abs(got - want).max()), float(np.abs(want).max())
    need(scale > 1e-3 and np.isfinite(scale), f"{what}: outputs say nothing ({scale})")
    need(worst <= 1e-4 * scale, f"{what}: outputs differ by {worst} of {scale}")
    return worst / scale


def carry(source, skeleton, target, layers, answers, *options):
    """Converts; returns the share of layers that were paired without an answer."""
    argv = ("convert", source, "-o", target, "-f", "--like", skeleton, *options)
    got = nnferry(*argv, exit=None)
    if got.returncode == 0:
        return 1.0
    need(got.returncode == 4, f"exit {got.returncode}: {got.stderr.strip()[-400:]}")
    need(not target.exists(), "exit 4 but a file was written")
    asked = QUESTION.findall(got.stdout)
    need(asked, f"exit 4 without a question: {got.stderr.strip()[-400:]}")
    unknown = [a for a in asked if a not in answers]
    need(not unknown, f"asked about {unknown}\n{got.stdout}")
    rules = target.with_suffix(".map")
    rules.write_text(QUESTION.sub(lambda m: f'"{m[1]}" -> "{answers[m[1]]}"', got.stdout))
    nnferry(*argv, "--map", rules)
    return 1.0 - len(asked) / layers


def enough(share):
    need(share >= 0.95, f"only {share:.1%} of the layers were paired without an answer")
    return f"{share:.1%} by itself"


def layers_of(names):
    return len({n.rpartition(".")[0] for n in names})


def convnext(back):
    where = fresh("like")
    depths, dims = (2, 2, 3, 2), (16, 32, 64, 128)
    ours = ConvNeXt(num_classes=10, depths=depths, dims=dims)
    theirs = like_nets.OriginalConvNeXt(10, depths, dims)
    a, b = (theirs, ours) if back else (ours, theirs)
    randomise(a, 1)
    torch.save(a.state_dict(), where / "in.pt")
    torch.save(randomise(b, 2).state_dict(), where / "skeleton.pt")
    share = carry(where / "in.pt", where / "skeleton.pt", where / "out.pt",
                  layers_of(a.state_dict()), {})
    b.load_state_dict(torch.load(where / "out.pt", weights_only=True))
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        close(b(x), a(x), "ConvNeXt")
    return enough(share)


VIT = {"patch": 8, "width": 32, "wide": 80, "heads": 4, "depth": 3}


def vit_torch():
    return VisionTransformer(image_size=24, patch_size=VIT["patch"], num_layers=VIT["depth"],
                             num_heads=VIT["heads"], hidden_dim=VIT["width"],
                             mlp_dim=VIT["wide"], num_classes=7)


def vit(how, back):
    where = fresh("like")
    net, flax_net = randomise(vit_torch(), 4), like_nets.FlaxViT(how, 7, **VIT)
    image = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(5))
    x = jnp.asarray(image.permute(0, 2, 3, 1).numpy())
    variables = flax_net.init(jax.random.PRNGKey(6), x)
    variables = random_tree(variables, 7)
    sd = net.state_dict()
    (where / "flax.msgpack").write_bytes(serialization.to_bytes(variables))
    torch.save(sd, where / "torch.pt")
    if back:
        share = carry(where / "flax.msgpack", where / "torch.pt", where / "out.pt",
                      layers_of(sd), {})
        net.load_state_dict(torch.load(where / "out.pt", weights_only=True))
    else:
        share = carry(where / "torch.pt", where / "flax.msgpack", where / "out.msgpack",
                      layers_of(sd), {})
        variables = serialization.from_bytes(variables, (where / "out.msgpack").read_bytes())
    with torch.no_grad():
        want = net(image)
    close(flax_net.apply(variables, x), want, "ViT")
    return enough(share)


def vit_timm(back):
    """q, k and v joined in timm, apart in transformers"""
    where = fresh("like")
    ours = TimmViT(img_size=24, patch_size=8, embed_dim=32, depth=3, num_heads=4, mlp_ratio=2.5,
                   num_classes=7)
    theirs = ViTForImageClassification(ViTConfig(
        image_size=24, patch_size=8, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=80, num_labels=7, layer_norm_eps=1e-6))
    a, b = (theirs, ours) if back else (ours, theirs)
    torch.save(randomise(a, 8).state_dict(), where / "in.pt")
    torch.save(randomise(b, 9).state_dict(), where / "skeleton.pt")
    share = carry(where / "in.pt", where / "skeleton.pt", where / "out.pt",
                  layers_of(a.state_dict()), {}, "--from", "pytorch", "--to", "pytorch")
    b.load_state_dict(torch.load(where / "out.pt", weights_only=True))
    x = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(10))
    with torch.no_grad():
        outputs = [getattr(y, "logits", y) for y in (a(x), b(x))]
    close(outputs[1], outputs[0], "ViT")
    return enough(share)


def towers(linen_axis, nnx_axis):
    """PyTorch's list of blocks into nn.scan's stack, that into nnx.vmap's, and back again"""
    where = fresh("like")
    net = randomise(like_nets.TorchTower(6, 10, 4), 20)
    linen = like_nets.FlaxTower(10, 4, linen_axis)
    tower = like_nets.NnxTower(6, 10, 4, nnx_axis, nnx.Rngs(0))
    image = torch.randn(5, 6, generator=torch.Generator().manual_seed(21))
    x = jnp.asarray(image.numpy())
    variables = random_tree(linen.init(jax.random.PRNGKey(22), x), 23)
    graph, state = nnx.split(tower)
    pure = nnx.to_pure_dict(random_tree(state, 24))
    (where / "linen.msgpack").write_bytes(serialization.to_bytes(variables))
    (where / "nnx.msgpack").write_bytes(serialization.to_bytes(pure))
    torch.save(net.state_dict(), where / "in.pt")
    with torch.no_grad():
        want = net(image)
    layers = layers_of(net.state_dict())
    carry(where / "in.pt", where / "linen.msgpack", where / "a.msgpack", layers, {})
    variables = serialization.from_bytes(variables, (where / "a.msgpack").read_bytes())
    close(linen.apply(variables, x), want, "nn.scan")
    carry(where / "a.msgpack", where / "nnx.msgpack", where / "b.msgpack", layers, {}, "--to", "nnx")
    pure = serialization.from_bytes(pure, (where / "b.msgpack").read_bytes())
    nnx.replace_by_pure_dict(state, pure)
    close(nnx.merge(graph, state)(x), want, "nnx.vmap")
    carry(where / "b.msgpack", where / "in.pt", where / "out.pt", layers, {}, "--from", "nnx")
    back = torch.load(where / "out.pt", weights_only=True)
    for name, value in net.state_dict().items():
        need(torch.equal(back[name], value), f"{name} differs after the way there and back")


def square_tower():
    """As many blocks as every layer is wide: asked about, and what is said is done"""
    where = fresh("like")
    net = randomise(like_nets.TorchTower(4, 4, 4), 25)
    linen = like_nets.FlaxTower(4, 4, 1)
    image = torch.randn(5, 4, generator=torch.Generator().manual_seed(26))
    x = jnp.asarray(image.numpy())
    variables = random_tree(linen.init(jax.random.PRNGKey(27), x), 28)
    (where / "linen.msgpack").write_bytes(serialization.to_bytes(variables))
    torch.save(net.state_dict(), where / "in.pt")
    argv = ("convert", where / "in.pt", "-o", where / "a.msgpack", "--like", where / "linen.msgpack")
    got = nnferry(*argv, exit=4)
    need('restack "tower" = ?' in got.stdout, f"not asked about the axis: {got.stdout}")
    (where / "axis.map").write_text(got.stdout.replace("= ?", "= 1"))
    nnferry(*argv, "--map", where / "axis.map")
    variables = serialization.from_bytes(variables, (where / "a.msgpack").read_bytes())
    with torch.no_grad():
        close(linen.apply(variables, x), net(image), "square blocks")


def gpt():
    """Hugging Face's GPT-2 into a GPT of Haiku's that was written by another hand"""
    where = fresh("like")
    net = randomise(GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=16, n_embd=24, n_layer=3,
                                               n_head=4)), 11)
    run_it = like_nets.haiku_gpt(50, 16, 24, 4, 3)
    ids = np.random.default_rng(12).integers(0, 50, (2, 9))
    params = run_it.init(jax.random.PRNGKey(13), jnp.asarray(ids))
    torch.save(net.state_dict(), where / "in.pt")
    with open(where / "skeleton.pkl", "wb") as f:
        pickle.dump(jax.tree.map(np.asarray, params), f)
    share = carry(where / "in.pt", where / "skeleton.pkl", where / "out.pkl",
                  layers_of(net.state_dict()), {}, "--to", "haiku", "--format", "haiku")
    with open(where / "out.pkl", "rb") as f:
        params = pickle.load(f)
    with torch.no_grad():
        want = net(torch.from_numpy(ids)).logits
    close(run_it.apply(params, jnp.asarray(ids)), want, "GPT")
    return enough(share)


def leaf_names(model):
    """Of (model, state): attributes' paths, in the order in which Equinox writes the leaves."""
    def is_index(x):
        return isinstance(x, eqx.nn.StateIndex)

    def text(path):
        return ".".join(str(getattr(k, "name", getattr(k, "idx", None))) for k in path)
    own, states = [], []
    for path, leaf in jax.tree_util.tree_flatten_with_path(model, is_leaf=is_index)[0]:
        if is_index(leaf):
            n = len(jax.tree.leaves(leaf.init))
            states += [text(path)] if n == 1 else [f"{text(path)}.{i}" for i in range(n)]
        elif eqx.is_array(leaf) or isinstance(leaf, (bool, int, float, complex)):
            own.append(text(path))
    return own + states


def keras_equinox(named):
    """An application of Keras into the same network of Equinox's, whose skeleton has names or, as
    Equinox itself saves it, none: then Keras's config has the order of the layers."""
    where = fresh("like")
    net = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=10,
                                         alpha=0.35, classifier_activation=None)
    rng = np.random.default_rng(14)
    net.set_weights([np.abs(rng.normal(size=w.shape, scale=0.4)).astype(np.float32) + 0.2
                     if "variance" in w.path else
                     rng.normal(size=w.shape, scale=0.4).astype(np.float32) for w in net.weights])
    net.save(where / "in.keras")
    model, state = eqx.nn.make_with_state(like_nets.MobileNet)(10, key=jax.random.PRNGKey(15))
    names = {"nnferry.leaves": leaf_names(like_nets.MobileNet(10, key=jax.random.PRNGKey(15)))}
    with open(where / "skeleton.eqx", "wb") as f:
        f.write(json.dumps(names).encode() + b"\n" if named else b"")
        eqx.tree_serialise_leaves(f, (model, state))
    share = carry(where / "in.keras", where / "skeleton.eqx", where / "out.eqx",
                  len(net.layers), {}, "--to", "equinox")
    with open(where / "out.eqx", "rb") as f:
        if named:
            f.readline()
        model, state = eqx.tree_deserialise_leaves(f, (model, state))
    x = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    run_it = jax.vmap(eqx.nn.inference_mode(model), axis_name="batch", in_axes=(0, None),
                      out_axes=(0, None))
    close(run_it(jnp.asarray(x.transpose(0, 3, 1, 2)), state)[0], np.asarray(net(x)), "MobileNet")
    return enough(share)


def run(tally):
    torch.manual_seed(0)
    tally.run("GPT-2 Hugging Face Haiku", gpt)
    for named in (True, False):
        tally.run(f"MobileNetV2 Keras Equinox{'' if named else ' without names'}", keras_equinox,
                  named)
    for axes in ((1, 0), (-1, 1), (0, -1), (1, 1)):
        tally.run("blocks along axis %d in Flax, %d in NNX" % axes, towers, *axes)
    tally.run("blocks as many as each is wide", square_tower)
    for back in (False, True):
        arrow = "back" if back else "there"
        tally.run(f"ConvNeXt timm original {arrow}", convnext, back)
        tally.run(f"ViT timm Hugging Face {arrow}", vit_timm, back)
        for how in ("attention", "joined", "scan 0", "scan -1" if back else "scan 1"):
            tally.run(f"ViT torchvision flax {how} {arrow}", vit, how, back)

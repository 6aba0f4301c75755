"""The networks of the grid, each written once against a frame's operations.

`f` makes layers by name: f.conv(name, x, out, kernel, stride, pad, groups, bias), f.up (transposed
convolution whose stride is its kernel), f.depthwise, f.bn, f.ln, f.gn, f.dense, f.embed, f.mha,
f.plus (adds a bare parameter), f.token (puts a learned token before a sequence), f.lstm, f.gru,
f.rnn, f.bigru, f.conv_lstm, f.blocks (equal blocks in a row, which Flax and NNX keep as one where stacked says
so). Without weights: relu, tanh, gelu (the tanh form), flatten, gap, concat (channels), patches (a
map as a sequence), reshape, swap, matmul, softmax, const, first (a map's channels back in front),
and the operators + - * /. Inputs and outputs are arrays, or arrays by name.
"""

import numpy as np

IMAGE = (2, 3, 8, 10)
TOKENS = (2, 6)
VOCAB = 11


def image(rng):
    return rng.normal(size=IMAGE)


def small_image(rng):
    return rng.normal(size=(2, 3, 8, 8))


def tokens(rng):
    return rng.integers(0, VOCAB, size=TOKENS)


def cnn(f, x):
    x = f.relu(f.bn("bn1", f.conv("conv1", x, 8, (3, 3), pad=1)))
    x = f.relu(f.bn("bn2", f.conv("conv2", x, 6, (3, 2), stride=2, groups=2, bias=False)))
    x = f.tanh(f.dense("fc1", f.flatten(x), 9))
    return f.dense("fc2", x, 4)


def resnet18(f, x):
    x = f.relu(f.bn("bn1", f.conv("conv1", x, 4, (3, 3), pad=1, bias=False)))
    width = 4
    for stage in range(1, 5):
        for block in range(2):
            out, stride = 4 * stage, 2 if stage > 1 and block == 0 else 1
            at = f"layer{stage}.{block}"
            y = f.conv(f"{at}.conv1", x, out, (3, 3), stride=stride, pad=1, bias=False)
            y = f.relu(f.bn(f"{at}.bn1", y))
            y = f.bn(f"{at}.bn2", f.conv(f"{at}.conv2", y, out, (3, 3), pad=1, bias=False))
            if stride != 1 or width != out:
                x = f.conv(f"{at}.downsample_conv", x, out, (1, 1), stride=stride, bias=False)
                x = f.bn(f"{at}.downsample_bn", x)
            x, width = f.relu(x + y), out
    return f.dense("fc", f.gap(x), 5)


class Unrolled:
    """Blocks as layers of their own, for every frame's Ops."""

    def blocks(self, name, n, body, x, stacked=False):
        for i in range(n):
            x = body(self, f"{name}.{i}.", x)
        return x


def encoder_block(f, at, x):
    x = f.ln(at + "norm1", x + f.mha(at + "attn", x, 3))
    y = f.dense(at + "fc2", f.gelu(f.dense(at + "fc1", x, 20)), 12)
    return f.ln(at + "norm2", x + y)


def encoder(f, ids, n=2, stacked=False):
    x = f.plus("position", f.embed("embed", ids, VOCAB, 12), (TOKENS[1], 12))
    return f.dense("head", f.blocks("blocks", n, encoder_block, x, stacked), 5)


def scanned(f, ids):
    """The encoder, its blocks in one: nn.scan of Linen, nnx.scan."""
    return encoder(f, ids, 3, True)


def bert(f, x):
    """The encoder as BERT begins it: three tables and a norm."""
    y = f.embed("words", x["ids"], VOCAB, 12) + f.embed("types", x["sorts"], 2, 12)
    y = f.ln("norm", y + f.embed("positions", x["places"], TOKENS[1], 12))
    return f.dense("head", f.blocks("blocks", 2, encoder_block, y), 5)


def bert_inputs(rng):
    return {"ids": tokens(rng), "sorts": rng.integers(0, 2, size=TOKENS),
            "places": np.tile(np.arange(TOKENS[1]), (TOKENS[0], 1))}


def rotate(f, x, width):
    """Rotary positions, halves apart, over the last axis of [.., T, width]."""
    t = x.shape[-2]
    angle = np.arange(t)[:, None] / 100.0 ** (np.arange(width // 2) * 2.0 / width)
    cos, sin = (f.const(np.concatenate([g(angle)] * 2, 1)) for g in (np.cos, np.sin))
    half = f.matmul(x, f.const(np.block([
        [np.zeros((width // 2, width // 2)), np.eye(width // 2)],
        [-np.eye(width // 2), np.zeros((width // 2, width // 2))]])))
    return x * cos + half * sin


def decoder(f, ids):
    """Grouped queries (4 heads on 2), rotary positions, RMS norms, a gate, no biases."""
    heads, shared, width = 4, 2, 6
    x = f.embed("embed", ids, VOCAB, 16)
    for i in range(2):
        at = f"layers.{i}"
        y = f.rms(f"{at}.norm1", x)
        n, t = y.shape[0] if len(y.shape) == 3 else None, y.shape[-2]

        def split(name, count):
            z = f.dense(f"{at}.{name}", y, count * width, bias=False)
            return f.swap(f.reshape(z, ([] if n is None else [n]) + [t, count, width]), -2, -3)
        q = rotate(f, split("q_proj", heads), width)
        k, v = rotate(f, split("k_proj", shared), width), split("v_proj", shared)
        repeat = f.const(np.repeat(np.eye(shared), heads // shared, 0))
        spread = []
        for z in (k, v):  # [.., shared, t*width] -> [.., heads, t*width]
            lead = [] if n is None else [n]
            z = f.matmul(repeat, f.reshape(z, lead + [shared, t * width]))
            spread.append(f.reshape(z, lead + [heads, t, width]))
        k, v = spread
        score = f.matmul(q, f.swap(k, -1, -2)) / width ** 0.5
        score = score + f.const(np.triu(np.full((t, t), -1e9), 1))
        z = f.swap(f.matmul(f.softmax(score), v), -2, -3)
        z = f.reshape(z, ([] if n is None else [n]) + [t, heads * width])
        x = x + f.dense(f"{at}.o_proj", z, 16, bias=False)
        y = f.rms(f"{at}.norm2", x)
        g = f.dense(f"{at}.gate_proj", y, 24, bias=False)
        u = f.dense(f"{at}.up_proj", y, 24, bias=False)
        x = x + f.dense(f"{at}.down_proj", f.gelu(g) * u, 16, bias=False)
    return f.dense("lm_head", f.rms("norm", x), VOCAB, bias=False)


def lstm(f, ids):
    return f.dense("head", f.lstm("lstm", f.embed("embed", ids, VOCAB, 7), 5), 4)


def bigru(f, ids):
    return f.dense("head", f.bigru("rnn", f.embed("embed", ids, VOCAB, 7), 5), 4)


def unet(f, x):
    a = f.relu(f.gn("down1.norm", f.conv("down1.conv", x, 6, (3, 3), pad=1), 3))
    b = f.relu(f.gn("down2.norm", f.conv("down2.conv", a, 8, (2, 2), stride=2), 4))
    c = f.relu(f.conv("mid", b, 10, (3, 3), pad=1))
    y = f.relu(f.up("up1.upconv", c, 6, (2, 2)))
    y = f.relu(f.conv("up1.conv", f.concat([a, y]), 6, (3, 3), pad=1))
    return f.gap(f.conv("out", y, 4, (1, 1)) * f.conv("gate", y, 4, (1, 1)))


def separable(f, x):
    x = f.relu(f.bn("stem_bn", f.conv("stem", x, 6, (3, 3), pad=1, bias=False)))
    for i in range(2):
        x = f.relu(f.bn(f"b{i}.bn1", f.depthwise(f"b{i}.depthwise", x, (3, 3))))
        x = f.relu(f.bn(f"b{i}.bn2", f.conv(f"b{i}.pointwise", x, 8 + i, (1, 1), bias=False)))
    return f.dense("fc", f.gap(x), 5)


def vit(f, x, lead=()):
    x = f.patches(f.conv("patch_embed", x, 12, (4, 4), stride=4))
    x = f.plus("position", f.token("cls_token", x, lead + (1, 12)), lead + (5, 12))
    for i in range(2):
        y = f.ln(f"blocks.{i}.norm1", x)
        x = x + f.mha(f"blocks.{i}.attn", y, 3)
        y = f.dense(f"blocks.{i}.fc1", f.ln(f"blocks.{i}.norm2", x), 20)
        x = x + f.dense(f"blocks.{i}.fc2", f.gelu(y), 12)
    return f.dense("head", f.ln("norm", x), 5)


def vit_hf(f, x):
    """The same with Hugging Face's axes of a token and of positions: a first one of extent 1."""
    return vit(f, x, (1,))


def one(f, x):
    """Every kind of layer that all frameworks have, each on an input of its own."""
    conv = {f"conv{n}d": f.conv(f"conv{n}d", x[f"map{n}"], 5, (3, 2, 4)[:n]) for n in (1, 2, 3)}
    up = {f"deconv{n}d": f.up(f"deconv{n}d", x[f"map{n}"], 5, (3, 2, 4)[:n], 2) for n in (1, 2, 3)}
    maps = {
        **conv, **up,
        "grouped": f.conv("grouped_conv", x["map2"], 6, (3, 2), groups=2),
        "depthwise": f.depthwise("depthwise_conv", x["map2"], (3, 2)),
        "bn": f.bn("bn", x["map2"]),
        "gn": f.gn("gn", x["map2"], 2),
    }
    return {**{k: f.first(y) for k, y in maps.items()},
            "dense": f.dense("dense", x["rows"], 6),
            "ln": f.ln("ln", x["rows"]),
            "rms": f.rms("rms_norm", x["rows"]),
            "mha": f.mha("attn", x["rows"], 2),
            "lstm": f.lstm("lstm", x["rows"], 6),
            "embed": f.embed("embed", x["ids"], VOCAB, 6)}


def inputs(rng):
    return {**{f"map{n}": rng.normal(size=(2, 4, 5, 6, 7)[:n + 2]) for n in (1, 2, 3)},
            # heads of 4: tf-keras rounds the root of the width to float32
            "rows": rng.normal(size=(2, 5, 8)), "ids": tokens(rng)}


def rows(rng):
    return rng.normal(size=(2, 6, 7))


def one_gru(f, x):
    return f.gru("gru", x, 5)


def one_rnn(f, x):
    return f.rnn("rnn", x, 5)


def sequences(rng):
    """Maps over time, as the others have their spatial axes: the channels before it."""
    return {f"map{n}": rng.normal(size=(2, 3, 4, 5, 4, 3)[:n + 3]) for n in (1, 2, 3)}


def one_conv_lstm(f, x):
    return {f"conv_lstm{n}d": f.conv_lstm(f"conv_lstm{n}d", x[f"map{n}"], 2, (3, 2, 3)[:n])
            for n in (1, 2, 3)}


# name: function, input, lines of a rules file that names and shapes cannot tell
HEADS = ('heads "blocks?0?attn" = 3', 'heads "blocks?1?attn" = 3')
MODELS = {
    "cnn": (cnn, image, ('flatten "fc1" = 6',)),
    "resnet18": (resnet18, image, ()),
    "encoder": (encoder, tokens, HEADS),
    "bert": (bert, bert_inputs, HEADS),
    "decoder": (decoder, tokens, ()),
    "lstm": (lstm, tokens, ()),
    "bigru": (bigru, tokens, ()),
    "unet": (unet, image, tuple(f'kind "{name}" = conv' for name in
                                ("down1?conv", "down2?conv", "mid", "up1?conv", "out", "gate")) +
             ('kind "up1?upconv" = conv_transpose',)),
    "separable": (separable, image, ()),
    "vit": (vit, small_image, HEADS + ('kind "patch_embed" = conv',)),
    "vit_hf": (vit_hf, small_image, HEADS + ('kind "patch_embed" = conv',)),
    "scanned": (scanned, tokens, HEADS + ('heads "blocks?2?attn" = 3',)),
    "one": (one, inputs, ('heads "attn" = 2',)),
    "one_gru": (one_gru, rows, ()),
    "one_rnn": (one_rnn, rows, ()),
    "one_conv_lstm": (one_conv_lstm, sequences, ()),
}


def data(name, each=lambda x: x):
    """The input of a network, always the same: each(array), or that by name."""
    x = MODELS[name][1](np.random.default_rng(5))
    return {k: each(v) for k, v in x.items()} if isinstance(x, dict) else each(x)


def every(f, x):
    """f of an array, or of arrays by name."""
    return {k: f(v) for k, v in x.items()} if isinstance(x, dict) else f(x)


def randomised(shape, rng, kind):
    """Weights that are neither 0 nor 1 after a reset."""
    if kind == "var":
        return rng.uniform(0.5, 1.5, size=shape)
    scale = 1.0 if kind == "scale" else 0.3
    return rng.normal(size=shape) * 0.3 + (scale if kind == "scale" else 0.0)

#!/usr/bin/env python3
"""Makes goldens with the gguf package of 2023, the last that wrote version 2 of the format:
gen_gguf_old.py FOLDER, with OLD_GGUF (gguf 0.3.3, by `pip install --no-deps --target`) in
PYTHONPATH."""

import importlib.metadata
import pathlib
import sys

import gguf
import numpy as np

import expected


def main(out):
    version = importlib.metadata.version("gguf")
    if gguf.GGUF_VERSION != 2:
        raise SystemExit("gguf %s writes version %d" % (version, gguf.GGUF_VERSION))
    out.mkdir(exist_ok=True)
    path = out / "llama.gguf"
    w = gguf.GGUFWriter(str(path), "llama")
    w.add_name("golden")
    w.add_context_length(64)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_tokenizer_model("llama")
    w.add_token_list([b"<s>", "größe".encode(), b"\xe2\x96\x81a", b"\xff"])
    w.add_token_scores([0.0, -1.5, -2.0, -3.0])
    w.add_token_types([3, 1, 1, 6])
    rng, tensors = np.random.default_rng(7), []
    for name, kind, shape in (("token_embd.weight", "float32", (4, 6)),
                              ("blk.0.attn_q.weight", "float16", (6, 6)),
                              ("blk.0.attn_norm.weight", "float32", (6,)),
                              ("output.weight", "float16", (4, 6))):
        a = rng.standard_normal(shape).astype(kind)
        w.add_tensor(name, a)
        tensors.append((name, kind, shape, a.tobytes()))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    expected.write(path, "gguf " + version, tensors)


main(pathlib.Path(sys.argv[1]))

"""Hugging Face Transformers: its own model code with the configuration that makes it the network of
models.py, in a folder as save_pretrained leaves it. In float64 the two places that compute in
float32 whatever they are given (Llama's norm, its rotary angles) are computed in float64.
"""

import types

import torch
from safetensors.torch import load_file
from transformers import (BertConfig, BertForTokenClassification, LlamaConfig, LlamaForCausalLM,
                          ViTConfig, ViTForImageClassification)
from transformers.utils import logging

from frames.models import MODELS, TOKENS, VOCAB, data

NAME = "hf"
SUFFIX = ""
logging.disable_progress_bar()
OPTIONS = ("--format", "safetensors", "--max-shard-size", "1G")


def llama():
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=6, hidden_act="gelu_pytorch_tanh",
        max_position_embeddings=16, rms_norm_eps=1e-5, pad_token_id=None, bos_token_id=1,
        eos_token_id=2, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0}))


def vit():
    return ViTForImageClassification(ViTConfig(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20,
        hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-5, image_size=8, patch_size=4,
        num_labels=5))


def bert():
    return BertForTokenClassification(BertConfig(
        vocab_size=VOCAB, hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=20, hidden_act="gelu_pytorch_tanh", max_position_embeddings=TOKENS[1],
        type_vocab_size=2, layer_norm_eps=1e-5, pad_token_id=None, num_labels=5))


# what gives the network's output out of the model
NETS = {"bert": (bert, lambda net, x: net(input_ids=x["ids"], token_type_ids=x["sorts"],
                                          position_ids=x["places"]).logits),
        "decoder": (llama, lambda net, x: net(x, use_cache=False).logits),
        "vit_hf": (vit, lambda net, x: net.classifier(net.vit(x).last_hidden_state))}
LACKS = tuple(m for m in MODELS if m not in NETS)


def norm(self, x):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.variance_epsilon) * self.weight


def angles(self, x, position_ids):
    width = 2 * self.inv_freq.numel()
    steps = 100.0 ** (-torch.arange(0, width, 2, dtype=x.dtype) / width)
    both = torch.cat([position_ids[..., None].to(x.dtype) * steps] * 2, -1)
    return both.cos(), both.sin()


class Net:
    def __init__(self, model, dtype):
        self.model, self.dtype = model, getattr(torch, dtype)
        self.make, self.call = NETS[model]
        self.adopt(self.make())
        self.x = data(model, lambda x: torch.from_numpy(x).to(
            self.dtype if x.dtype.kind == "f" else torch.int64))
        self.reset(1)

    def adopt(self, net):
        self.net = net.to(self.dtype).eval()
        for part in self.net.modules() if self.dtype == torch.float64 else ():
            exact = {"LlamaRMSNorm": norm, "LlamaRotaryEmbedding": angles}.get(type(part).__name__)
            if exact:
                part.forward = types.MethodType(exact, part)

    def reset(self, seed):
        g = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for t in self.net.parameters():
                t.add_(torch.randn(t.shape, generator=g, dtype=t.dtype) * 0.1)

    def train_steps(self, steps):
        opt = torch.optim.SGD(self.net.parameters(), lr=0.05)
        for _ in range(steps):
            opt.zero_grad()
            ((self.call(self.net, self.x) - 0.5) ** 2).mean().backward()
            opt.step()

    def save(self, path):
        self.net.save_pretrained(path)

    def load(self, path):
        net, told = type(self.net).from_pretrained(path, dtype=self.dtype,
                                                   output_loading_info=True)
        wrong = {k: v for k, v in told.items() if v}
        if wrong:
            raise ValueError(f"from_pretrained says {wrong}")
        self.adopt(net)

    def run(self):
        with torch.no_grad():
            return self.call(self.net, self.x).numpy()

    def leaves(self):
        return {k: v.numpy() for k, v in self.net.state_dict().items()}

    def cast(self, dtype):
        other = Net(self.model, dtype)
        other.net.load_state_dict(self.net.state_dict())
        return other


def bits(path):
    return {k: (str(v.dtype), tuple(v.shape), v.numpy().tobytes())
            for k, v in load_file(f"{path}/model.safetensors").items()}

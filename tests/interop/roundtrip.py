"""PyTorch -> archive -> PyTorch: every bit, every tie.

State_dicts of a ResNet-18, a BERT-base with its tied head and a GPT-2 made by the real
libraries, and a file of awkward views, go through .tar.zst and back with `--to source`;
torch.load(weights_only=True) must give equal bits and share storage where the source did.
"""

import collections

import torch

from common import ROOT, convert, fresh, need

TORCH_GOLDENS = ROOT / "tests" / "golden" / "torch"


def shaken(sd, seed=1):
    """Statistics and norms that are not their defaults, in place."""
    g = torch.Generator().manual_seed(seed)
    for name, t in sd.items():
        if name.endswith("running_var"):
            t.copy_(torch.rand(t.shape, generator=g) + 0.5)
        elif name.endswith("running_mean"):
            t.copy_(torch.randn(t.shape, generator=g))
        elif name.endswith("num_batches_tracked"):
            t.fill_(1234)
    return sd


def resnet18():
    from torchvision.models import resnet18 as make
    return shaken(make(weights=None).state_dict())


def bert_base():
    from transformers import BertConfig, BertForMaskedLM
    return BertForMaskedLM(BertConfig()).state_dict()


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel
    return GPT2LMHeadModel(GPT2Config()).state_dict()


def bits(t):
    t = t.detach().contiguous()
    return t.view(torch.uint8) if t.dim() else t.reshape(1).view(torch.uint8)


def key(t):
    """What two tensors must share to be one."""
    return (t.untyped_storage().data_ptr(), t.storage_offset(), tuple(t.shape), t.stride(),
            t.dtype)


def flatten(x, where=()):
    if isinstance(x, torch.Tensor):
        yield ".".join(map(str, where)), x
    elif isinstance(x, dict):
        for k, v in x.items():
            yield from flatten(v, where + (k,))
    elif isinstance(x, (list, tuple)):
        for i, v in enumerate(x):
            yield from flatten(v, where + (i,))


def compare(a, b, what):
    a, b = collections.OrderedDict(flatten(a)), collections.OrderedDict(flatten(b))
    need(list(a) == list(b), f"{what}: names or their order differ: "
         f"{[n for n in a if n not in b][:5]} missing, {[n for n in b if n not in a][:5]} new")
    groups_a, groups_b = collections.defaultdict(list), {}
    for name, t in a.items():
        u = b[name]
        need(t.dtype == u.dtype and t.shape == u.shape,
             f"{what}: {name}: {u.dtype} {tuple(u.shape)}, expected {t.dtype} {tuple(t.shape)}")
        need(torch.equal(bits(t), bits(u)), f"{what}: {name}: other bits")
        if t.numel():
            groups_a[key(t)].append(name)
            groups_b[name] = u.data_ptr()
    ties = 0
    for names in groups_a.values():
        if len(names) > 1:
            ties += 1
            need(len({groups_b[n] for n in names}) == 1, f"{what}: {names} are no longer tied")
    tied = {n for names in groups_a.values() for n in names if len(names) > 1}
    owners = collections.defaultdict(list)
    for n, p in groups_b.items():
        if n not in tied and b[n].numel():
            owners[b[n].untyped_storage().data_ptr(), b[n].storage_offset()].append(n)
    return len(a), ties


def through_archive(name, source, *options):
    where = source.parent
    convert(source, where / f"{name}.tar.zst", *options)
    convert(where / f"{name}.tar.zst", where / f"{name}.back.pt", "--to", "source")
    a = torch.load(source, weights_only=True, map_location="cpu")
    b = torch.load(where / f"{name}.back.pt", weights_only=True, map_location="cpu")
    n, ties = compare(a, b, name)
    for f in where.glob(f"{name}.*"):
        if f != source:
            f.unlink()
    return f"{n} tensors, {ties} ties"


def model(make, name, *options):
    where = fresh("roundtrip")
    sd = make()
    torch.save(sd, where / f"{name}.pt")
    return through_archive(name, where / f"{name}.pt", *options)


def golden(name, *options):
    where = fresh("roundtrip")
    source = where / f"{name}.pt"
    source.write_bytes((TORCH_GOLDENS / f"{name}.pt").read_bytes())
    return through_archive(name, source, *options)


def run(tally):
    for name, make in (("resnet18", resnet18), ("bert-base", bert_base), ("gpt2", gpt2)):
        tally.run(name, model, make, name)
    for name in ("views", "state_dict", "nested", "adam", "sgd", "dtypes"):
        tally.run(name, golden, name)
        tally.run(f"{name} as is", golden, name, "--as-is")

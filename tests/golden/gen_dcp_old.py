#!/usr/bin/env python3
"""Makes a golden of distributed checkpoints as torch 1.13 wrote them, from a package that was then
private: gen_dcp_old.py FOLDER, with that torch. One process, tensors whole.

That torch was made for Pythons up to 3.10. Where it runs in a newer one, what changed there is put
back: dataclasses took mutable defaults, and members of enums were pickled as class and value."""

import dataclasses
import enum
import pathlib
import shutil
import sys

_plain = dataclasses.dataclass


def _hashed(cls=None, **kw):
    def wrap(c):
        more = {} if "__hash__" in vars(c) else {"unsafe_hash": True}
        return _plain(c, **{**more, **kw})
    return wrap if cls is None else wrap(cls)


if sys.version_info >= (3, 11):
    dataclasses.dataclass = _hashed
    enum.Enum.__reduce_ex__ = lambda self, protocol: (self.__class__, (self._value_,))

import torch  # noqa: E402
import torch.distributed._shard.checkpoint as dcp  # noqa: E402

import expected  # noqa: E402
import gen_torch  # noqa: E402

out = pathlib.Path(sys.argv[1]) / "dcp"
shutil.rmtree(out, ignore_errors=True)
g = torch.Generator().manual_seed(29)
tensors = {"matrix": torch.randn(3, 4, generator=g), "half": torch.randn(5, generator=g).half(),
           "brain": torch.randn(2, 2, 2, generator=g).to(torch.bfloat16), "count": torch.tensor(7),
           "flag": torch.tensor([True, False]), "none": torch.zeros(0, 3)}
dcp.save_state_dict({**tensors, "step": 5, "name": "golden"}, dcp.FileSystemWriter(str(out)),
                    no_dist=True)
expected.write(out, gen_torch.MADE_BY,
               [(n, gen_torch.NAME_OF[t.dtype], tuple(t.shape), gen_torch.canonical(t))
                for n, t in tensors.items()], values=True)

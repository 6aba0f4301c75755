#!/usr/bin/env python3
"""Fifty thousand small tensors in a --memory of a few times their metadata: a tensor's cost is what
its name and axes need, not what the largest tensor would; and time grows with their number."""
import os
import resource

from common import check, main, one_error, read_safetensors, run, write_safetensors

N = 50000


def model(path, n):
    write_safetensors(path, [("model.layers.%d.mlp.experts.%d.down_proj.weight" % (i // 256, i % 256),
                              "BF16", [4, 4], bytes([i % 251, 0x3c]) * 16) for i in range(n)])


def many(work):
    src, few = os.path.join(work, "many.safetensors"), os.path.join(work, "few.safetensors")
    model(src, N)
    model(few, N // 5)
    r = run("inspect", "--memory", "48M", src)
    check("inspect in 48 MiB", r.returncode == 0, r.stderr)
    for name, memory in (("m.npz", "112M"), ("m.tar.zst", "160M")):
        out = os.path.join(work, name)
        r = run("convert", src, "-o", out, "--memory", memory)
        check("%s in %s" % (name, memory), r.returncode == 0, r.stderr)
    again = os.path.join(work, "again.safetensors")
    r = run("convert", os.path.join(work, "m.tar.zst"), "-o", again, "--to", "source", "--memory", "192M")
    check("and back", r.returncode == 0 and read_safetensors(again) == read_safetensors(src), r.stderr)
    r = run("convert", src, "-o", os.path.join(work, "no.npz"), "--memory", "48M")
    check("too little is said to be", one_error(r, 8, "memory"), r.stderr)
    took = []  # of the processors' time: who else is at work here does not count
    for path in (few, src):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        r = run("convert", path, "-o", path + ".npz")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        check("converted for the time it takes", r.returncode == 0, r.stderr)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    check("linear in the number of tensors", took[1] < 15 * took[0] + 1, took)


main(many)

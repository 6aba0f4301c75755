#!/usr/bin/env python3
"""Offline for certain: the binary is static, and no command opens a socket but the pairs between
the program and its own OpenCL worker."""
import os
import re
import struct
import subprocess

from common import BINARY, ROOT, check, main

MODEL = os.path.join(ROOT, "tests/golden/torch/sgd.pt")
CALL = re.compile(r"(?:\[pid +\d+\] )?(\w+)\(")
RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
PAIR_ONLY = {"sendto", "sendmsg", "recvfrom", "recvmsg", "shutdown"}


def static(_):
    with open(BINARY, "rb") as f:
        data = f.read()
    check("ELF, 64 bits, little-endian", data[:6] == b"\x7fELF\x02\x01")
    at, size, n = struct.unpack_from("<Q", data, 32) + struct.unpack_from("<HH", data, 54)
    kinds = [struct.unpack_from("<I", data, at + i * size)[0] for i in range(n)]
    check("no interpreter, no dynamic section", n > 0 and not {2, 3} & set(kinds), kinds)
    said = subprocess.run(["file", BINARY], stdout=subprocess.PIPE, text=True).stdout
    check("file calls it static", "statically linked" in said, said)


def calls(argv, trace):
    """Every network call of the command and of all its children."""
    r = subprocess.run(["strace", "-f", "-qq", "-e", "trace=network", "-e", "signal=none", "-o", trace, BINARY] + argv,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
    found = []
    with open(trace) as f:
        for line in f:
            text = line.split(None, 1)[1]
            m = CALL.match(text)
            if m:
                found.append((m.group(1), text.strip()))
            else:
                check("a line of strace is understood", RESUMED.match(text), text)
    os.remove(trace)
    return r, found


def no_sockets(work):
    trace = os.path.join(work, "trace")
    # the trace sees what it shall: Python opens a socket
    r = subprocess.run(["strace", "-f", "-qq", "-e", "trace=network", "-o", trace, "python3", "-c",
                        "import socket; socket.socket()"], stderr=subprocess.PIPE, text=True)
    with open(trace) as f:
        check("strace works here", r.returncode == 0 and "socket(AF_INET" in f.read(), r.stderr)
    archive, flax = os.path.join(work, "a.tar.zst"), os.path.join(work, "f.msgpack")
    back = os.path.join(work, "b.pt")
    for argv in (["convert", MODEL, "-o", archive, "--as-is"], ["convert", archive, "-o", back], ["inspect", back],
                 ["convert", archive, "-o", flax], ["verify", archive], ["id", archive], ["scan", MODEL],
                 ["diff", MODEL, back], ["formats"], ["inspect", "/nonexistent"]):
        r, found = calls(argv, trace)
        check("%s: exit" % argv[0], r.returncode == (3 if "/nonexistent" in argv else 0), r.stderr)
        check("%s: no network call at all" % " ".join(argv[:1]), not found, found[:3])
    pairs = 0
    for argv in (["devices"], ["validate", MODEL, archive], ["validate", MODEL, back, "--level", "tensor"]):
        r, found = calls(argv, trace)
        check("%s: exit" % " ".join(argv), r.returncode in (0, 1), r.stderr)
        for name, text in found:
            if name == "socketpair":
                pairs += 1
                check("a pair is local", text.split("(")[1].startswith("AF_UNIX, SOCK_SEQPACKET"), text)
            else:
                # over the pair: no call names an address
                check("%s: only its own pair" % argv[0], name in PAIR_ONLY and "sa_family" not in text, text)
    check("the worker's pairs were seen", pairs >= 2, pairs)


main(static, no_sockets)

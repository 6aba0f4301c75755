#!/usr/bin/env python3
"""The command line's contract: options, exits, one-line errors, JSON, completion, manual."""
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.environ.get("NNFERRY_ROOT", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BINARY = os.environ.get("NNFERRY", os.path.join(ROOT, "build/nnferry"))
GOLDEN = os.path.join(ROOT, "tests/golden")
COMMANDS = sorted(re.findall(r"^COMMAND\((\w+)\)", open(os.path.join(ROOT, "src/cli/list.h")).read(), re.M))

passed = failed = 0


def run(*argv, env=None, stdout=subprocess.PIPE, cwd=None):
    return subprocess.run([BINARY, *argv], stdout=stdout, stderr=subprocess.PIPE, text=True, env=env,
                          cwd=cwd, timeout=120)


def check(what, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print("FAILED: %s %s" % (what, detail))


def one_line(r, code):
    lines = r.stderr.splitlines()
    return r.returncode == code and len(lines) == 1 and lines[0].startswith("nnferry: ")


def safetensors(path, tensors):
    header, body = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + body)


def options(d):
    for c in COMMANDS:
        r = run(c, "--help")
        check("%s --help" % c, r.returncode == 0 and r.stdout.startswith("Usage: nnferry %s" % c) and not r.stderr)
        check("%s -h" % c, run(c, "-h").stdout == r.stdout)
        check("%s --nonsense" % c, one_line(run(c, "--nonsense"), 2))
    check("no command", run().returncode == 2)
    check("--help", run("--help").returncode == 0)
    check("--version", re.fullmatch(r"nnferry \d+\.\d+\.\d+\n", run("--version").stdout) is not None)
    r = run("inspct", "x")
    check("near command", one_line(r, 2) and "inspect" in r.stderr, r.stderr)
    r = run("inspect", "--treee", "x")
    check("near option", one_line(r, 2) and "--tree" in r.stderr, r.stderr)
    check("missing argument", one_line(run("inspect"), 2))
    check("too many arguments", one_line(run("inspect", "a", "b"), 2))
    got = run("convert", os.path.join(GOLDEN, "torch/script.pt"), "-o", os.path.join(d, "x.foo"))
    check("a suffix of nobody's", one_line(got, 2) and "nnferry formats" in got.stderr, got.stderr)
    got = run("convert", os.path.join(GOLDEN, "torch/script.pt"), "-o", os.path.join(d, "x.pb"))
    check("a suffix that is not written", one_line(got, 2) and "graphdef is read" in got.stderr,
          got.stderr)
    check("dash as source", one_line(run("inspect", "-"), 2))
    check("dash as target", one_line(run("convert", "a", "-o", "-"), 2))
    check("value missing", one_line(run("inspect", "a", "--memory"), 2))
    check("memory too small", one_line(run("inspect", "a", "--memory", "1M"), 2))
    check("bad size", one_line(run("inspect", "a", "--memory", "lots"), 2))
    check("bad choice", one_line(run("inspect", "a", "--io", "magic"), 2))
    check("flag with a value", one_line(run("inspect", "a", "--tree=yes"), 2))
    check("unknown format", one_line(run("convert", "a", "-o", os.path.join(d, "b.zzz")), 2))
    check("unknown format named", one_line(run("convert", "a", "-o", "b", "--format", "zzz"), 2))


def errors(d):
    missing = os.path.join(d, "missing.pt")
    r = run("inspect", missing)
    check("missing file", one_line(r, 3) and missing in r.stderr, r.stderr)
    check("folder without weights", one_line(run("inspect", d), 3))
    fifo = os.path.join(d, "fifo")
    os.mkfifo(fifo)
    check("FIFO", one_line(run("inspect", fifo), 3))
    text = os.path.join(d, "text.pt")
    open(text, "w").write("hello, this is no checkpoint\n" * 10)
    r = run("inspect", text)
    check("text file", one_line(r, 3) and text in r.stderr, r.stderr)
    evil = os.path.join(d, "evil\x1b[31m.pt")
    r = run("inspect", evil)
    check("control bytes escaped", one_line(r, 3) and "\x1b" not in r.stderr and "\\x1b" in r.stderr, r.stderr)
    r = run("inspect", missing, "--json")
    j = json.loads(r.stdout)
    check("JSON error", r.returncode == 3 and j["exit"] == 3 and j["result"] == "input" and j["error"]["file"] == missing, r.stdout)
    r = run("inspect", missing, "--log", "json")
    check("JSON log", json.loads(r.stderr)["level"] == "error")


def results(d):
    src = os.path.join(d, "a.safetensors")
    data = bytes(range(24))
    safetensors(src, {"w": ("F32", [2, 3], data), "b": ("F32", [], b"\0\0\x80\x3f")})
    r = run("inspect", src, "--json")
    j = json.loads(r.stdout)
    check("inspect --json", r.returncode == 0 and j["format"] == "safetensors" and j["result"] == "ok" and j["exit"] == 0
          and {t["name"]: (t["dtype"], t["shape"], t["bytes"], t["role"]) for t in j["tensors"]}
          == {"w": ("float32", [2, 3], 24, "parameter"), "b": ("float32", [], 4, "parameter")}
          and isinstance(j["metadata"], dict) and "framework" in j, r.stdout)
    r = run("inspect", src, "--stats", "--json")
    b = [t for t in json.loads(r.stdout)["tensors"] if t["name"] == "b"][0]
    check("inspect --stats", b["stats"]["min"] == 1 and b["stats"]["max"] == 1, r.stdout)
    with open("/dev/full", "w") as full:
        check("stdout full", run("inspect", src, stdout=full).returncode == 7)
    for suffix in ("npz", "msgpack", "pt", "tar.zst", "safetensors"):
        dst = os.path.join(d, "out." + suffix)
        r = run("convert", src, "-o", dst)
        check("convert to " + suffix, r.returncode == 0 and os.path.exists(dst), r.stderr)
        r2 = run("convert", src, "-o", dst)
        check("exists: " + suffix, one_line(r2, 7), r2.stderr)
        before = open(dst, "rb").read() if os.path.exists(dst) else b""
        r3 = run("convert", src, "-o", dst, "-f")
        check("-f: " + suffix, r3.returncode == 0 and open(dst, "rb").read() == before, r3.stderr)
        a, b = run("id", src), run("id", dst)
        check("id of " + suffix, a.returncode == 0 and a.stdout == b.stdout and a.stdout.startswith("nnf1:"), a.stdout + b.stdout + b.stderr)
        check("diff of " + suffix, run("diff", src, dst).returncode == 0)
    check("nothing left behind", not [n for n in os.listdir(d) if ".nnferry-" in n], os.listdir(d))
    r = run("convert", src, "-o", os.path.join(d, "dry.npz"), "--dry-run", "--json")
    j = json.loads(r.stdout)
    check("dry run", r.returncode == 0 and not os.path.exists(os.path.join(d, "dry.npz"))
          and j["cost"]["write_bytes"] == 28 and j["cost"]["threads"] >= 1, r.stdout)
    other = os.path.join(d, "b.safetensors")
    changed = bytearray(data)
    changed[5] ^= 1
    safetensors(other, {"w": ("F32", [2, 3], bytes(changed)), "c": ("F32", [], b"\0\0\x80\x3f")})
    r = run("diff", src, other, "--json")
    j = json.loads(r.stdout)
    names = {x["name"]: x for x in j["differences"]}
    check("diff finds", r.returncode == 1 and j["exit"] == 1 and names["w"]["unequal"] == 1 and names["w"]["first"] == 1
          and names["b"]["only_in"] == "A" and names["c"]["only_in"] == "B", r.stdout)
    many = os.path.join(d, "many")
    os.mkdir(many)
    r = run("convert", src, other, "-o", many, "--format", "npz")
    check("several sources", r.returncode == 0 and sorted(os.listdir(many)) == ["a.npz", "b.npz"], r.stderr)
    hub = os.path.join(d, "hub")  # what lies beside weights: a vocabulary is no second set of them
    os.mkdir(hub)
    shutil.copy(src, hub)
    with open(os.path.join(hub, "vocab.pkl"), "wb") as f:
        f.write(b"\x80\x04]\x94(\x8c\x01x\x94\x8c\x01y\x94e.")
    with open(os.path.join(hub, "spiece.model"), "wb") as f:
        f.write(b"\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02" * 40)
    r = run("inspect", hub)
    check("a vocabulary beside the weights", r.returncode == 0 and "safetensors" in r.stdout, r.stderr)
    check("several sources need a folder", one_line(run("convert", src, other, "-o", os.path.join(d, "x.npz")), 2))
    broken = os.path.join(d, "broken.safetensors")
    open(broken, "wb").write(b"\0" * 4)
    r = run("convert", broken, src, "-o", many, "--format", "msgpack")
    check("several sources stop at the first failure", one_line(r, 3) and "a.msgpack" not in os.listdir(many), r.stderr)
    r = run("convert", broken, src, "-o", many, "--format", "msgpack", "--keep-going")
    check("--keep-going goes on", r.returncode == 4 and "a.msgpack" in os.listdir(many), r.stderr)
    archive = os.path.join(d, "out.tar.zst")
    check("verify", run("verify", archive).returncode == 0)
    check("verify of no archive", one_line(run("verify", src), 3))
    check("output is input", one_line(run("convert", src, "-o", src, "-f"), 3) and open(src, "rb").read(8) != b"")
    link = os.path.join(d, "link.safetensors")
    os.link(src, link)
    check("output is a hard link to the input", one_line(run("convert", src, "-o", link, "-f"), 3))


def environment(d):
    src = os.path.join(d, "a.safetensors")
    env = dict(os.environ, OMP_NUM_THREADS="1")
    r = run("inspect", src, env=env)
    lines = r.stderr.splitlines()
    check("OMP_NUM_THREADS is named", r.returncode == 0 and (os.cpu_count() == 1 or any("OMP_NUM_THREADS" in l for l in lines)), r.stderr)
    env = dict(os.environ, OMP_PROC_BIND="true", OMP_PLACES="cores")
    env.pop("OMP_NUM_THREADS", None)
    dst = os.path.join(d, "bind.npz")
    r = run("convert", src, "-o", dst, env=env)
    check("OMP_PROC_BIND: nothing printed", r.returncode == 0 and r.stderr == "" and r.stdout == "", r.stderr)
    outs = []
    for i, extra in enumerate((["-j", "1"], ["-j", "2"], ["-j", "8"], ["--simd", "scalar"], ["--io", "read"], ["--io", "mmap"], ["--memory", "48M"])):
        dst = os.path.join(d, "same%d" % i, "x.tar.zst")
        os.mkdir(os.path.dirname(dst))
        env = dict(os.environ, LC_ALL="C" if i % 2 else "tr_TR.UTF-8", TZ="Asia/Tokyo" if i % 2 else "UTC")
        r = run("convert", src, "-o", dst, *extra, env=env)
        outs.append(open(dst, "rb").read() if r.returncode == 0 else r.stderr)
    check("same bytes for threads, folders, locales, io, memory and scalar code", len(set(outs)) == 1 and isinstance(outs[0], bytes), outs[0][:200])
    cwd = os.path.join(d, "gone")
    os.mkdir(cwd)
    r = subprocess.run(["sh", "-c", 'cd "$1" && rmdir "$1" && exec "$2" inspect "$3"', "sh", cwd, BINARY, src], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    check("current folder deleted", r.returncode == 0, r.stderr)


def colors(d):
    """Colour on a terminal, on request, never in JSON; without it the bytes are the same."""
    src, other = os.path.join(d, "a.safetensors"), os.path.join(d, "b.safetensors")
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")}
    env["TERM"] = "xterm"

    def on_terminal(*argv, **more):
        leader, follower = pty.openpty()
        subprocess.run([BINARY, *argv], stdout=follower, stderr=follower, env=dict(env, **more))
        os.close(follower)
        out = b""
        try:
            while block := os.read(leader, 65536):
                out += block
        except OSError:  # the other end is closed
            pass
        os.close(leader)
        return out

    plain = run("diff", src, other).stdout
    always = run("diff", src, other, "--color", "always").stdout
    check("no colour in a pipe", "\033" not in plain and "differs" in plain)
    check("--color always", "\033[31mdiffers\033[m" in always and re.sub("\033\\[[0-9]*m", "", always) == plain, always)
    check("no colour in JSON", "\033" not in run("diff", src, other, "--color", "always", "--json").stdout)
    check("colour on a terminal", b"\033[31mdiffers" in on_terminal("diff", src, other))
    check("--color never", b"\033" not in on_terminal("diff", src, other, "--color", "never"))
    check("NO_COLOR", b"\033" not in on_terminal("diff", src, other, NO_COLOR="1"))
    check("a dumb terminal", b"\033" not in on_terminal("diff", src, other, TERM="dumb"))
    error = run("inspect", os.path.join(d, "nowhere"), "--color", "always").stderr
    check("a coloured error", error.startswith("\033[31mnnferry:\033[m ") and error.count("\n") == 1, error)


def texts(d):
    for shell, program in (("bash", "bash"), ("zsh", "zsh"), ("fish", "fish")):
        r = run("completion", shell)
        check("completion " + shell, r.returncode == 0 and all(c in r.stdout for c in COMMANDS) and "max-shard-size" in r.stdout)
        if shutil.which(program):
            path = os.path.join(d, "completion." + shell)
            open(path, "w").write(r.stdout)
            n = subprocess.run([program, "-n", path], stderr=subprocess.PIPE, text=True)
            check("%s takes its completion" % shell, n.returncode == 0, n.stderr)
    script = run("completion", "bash").stdout + '\nCOMP_WORDS=(nnferry convert --max); COMP_CWORD=2; _nnferry; echo "${COMPREPLY[*]}"\n'
    r = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    check("bash completes an option", r.stdout.split() == ["--max-shard-size", "--max-output"], r.stdout + r.stderr)
    check("completion of no shell", one_line(run("completion", "tcsh"), 2))
    pages = run("man").stdout.split()
    check("man lists", set("nnferry-%s.1" % c for c in COMMANDS) < set(pages), pages)
    for p in pages:
        stem, section = p.rsplit(".", 1)
        r = run("man", section, stem)
        check("man " + p, r.returncode == 0 and "NAME" in r.stdout and "\x08" not in r.stdout, r.stderr)
        check("man --source " + p, run("man", "--source", section, stem).stdout == open(os.path.join(ROOT, "man", p)).read())
    check("man convert", "nnferry-convert" in run("man", "convert").stdout)
    check("man of no page", one_line(run("man", "nothing"), 2))
    j = json.loads(run("formats", "--json").stdout)
    listed = {f["name"] for f in j["formats"]}
    text = run("formats").stdout
    check("formats", j["exit"] == 0 and all(n in text for n in listed) and "safetensors" in listed)


with tempfile.TemporaryDirectory() as folder:
    for part in (options, errors, results, environment, colors, texts):
        part(folder)
print("# cases %d passed, %d failed" % (passed, failed))
sys.exit(1 if failed else 0)

#!/bin/sh
# Interop tests with the real frameworks: run.sh [[--keep] SUITE...]
# timeout: 3000
#
# Makes a virtual environment under build/venv (once; several GB, torch brings its CUDA
# libraries) and runs main.py in it. NNFERRY_PYTHON names an interpreter that has the
# packages of requirements.txt already; then nothing is installed. Wheels come from
# third_party/cache/wheels where that exists. Exit 77, with the reason, only where nothing
# can be installed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
want=$(cksum < "$here/requirements.txt")
export JAX_PLATFORMS=cpu PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=ignore
export HF_HUB_OFFLINE=1 CUDA_VISIBLE_DEVICES=

if [ ! -x "${NNFERRY:-$root/build/nnferry}" ]; then
    echo "interop: ${NNFERRY:-$root/build/nnferry} is not there" >&2
    exit 1
fi
from=
wheels=$root/third_party/cache/wheels
if [ -d "$wheels" ]; then
    from="--no-index --find-links=$wheels"
fi
python=${NNFERRY_PYTHON:-}
if [ -z "$python" ]; then
    venv=$root/build/venv
    python=$venv/bin/python
    if [ "$(cat "$venv/made-of" 2>/dev/null || true)" != "$want" ]; then
        mkdir -p "$root/build"
        rm -rf "$venv"
        if ! python3 -m venv "$venv" > "$root/build/venv.log" 2>&1; then
            echo "interop: skipped: python3 -m venv failed (Debian: python3-venv):" \
                "$(tail -n 1 "$root/build/venv.log")" >&2
            exit 77
        fi
        echo "interop: installing the frameworks into build/venv" >&2
        # shellcheck disable=SC2086 # two words, or none
        if ! "$python" -m pip install -q $from -r "$here/requirements.txt" \
            > "$root/build/venv.log" 2>&1; then
            echo "interop: skipped: pip could not install the frameworks:" \
                "$(grep -v '^ *$' "$root/build/venv.log" | tail -n 1)" >&2
            exit 77
        fi
        echo "$want" > "$venv/made-of"
    fi
fi
# Hugging Face's models in Flax: their last release, in an environment of its own
if [ -z "${NNFERRY_HF_PYTHON:-}" ]; then
    other=$root/build/venv-hf
    NNFERRY_HF_PYTHON=$other/bin/python
    export NNFERRY_HF_PYTHON
    want=$(cksum < "$here/requirements-hf.txt")
    if [ "$(cat "$other/made-of" 2>/dev/null || true)" != "$want" ]; then
        rm -rf "$other"
        echo "interop: installing transformers with Flax models into build/venv-hf" >&2
        # shellcheck disable=SC2086 # two words, or none
        if python3 -m venv "$other" > "$root/build/venv-hf.log" 2>&1 &&
            "$NNFERRY_HF_PYTHON" -m pip install -q $from -r "$here/requirements-hf.txt" \
                >> "$root/build/venv-hf.log" 2>&1; then
            echo "$want" > "$other/made-of"
        else
            echo "interop: no such environment:" \
                "$(grep -v '^ *$' "$root/build/venv-hf.log" | tail -n 1)" >&2
        fi
    fi
fi
# peft beside the frameworks: a folder of its own, see requirements-peft.txt
if [ -z "${NNFERRY_PEFT:-}" ]; then
    NNFERRY_PEFT=$root/build/peft
    export NNFERRY_PEFT
    want=$(cksum < "$here/requirements-peft.txt")
    if [ "$(cat "$NNFERRY_PEFT/made-of" 2>/dev/null || true)" != "$want" ]; then
        rm -rf "$NNFERRY_PEFT"
        echo "interop: installing peft into build/peft" >&2
        # shellcheck disable=SC2086 # two words, or none
        if "$python" -m pip install -q --no-deps $from --target "$NNFERRY_PEFT" \
            -r "$here/requirements-peft.txt" > "$root/build/peft.log" 2>&1; then
            echo "$want" > "$NNFERRY_PEFT/made-of"
        else
            echo "interop: no peft: $(grep -v '^ *$' "$root/build/peft.log" | tail -n 1)" >&2
        fi
    fi
fi
exec nice "$python" "$here/main.py" "$@"

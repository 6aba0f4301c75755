#!/bin/sh
# Makes every golden again: sh generate.sh PYTHON [OLD_PYTHON], interpreters that have the
# frameworks (torch, safetensors, ml_dtypes, flax, optax) and an old torch. The files are
# committed; run this only to add some.
set -eu
cd "$(dirname "$0")"
export PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0
"$1" gen_torch.py torch
"$1" gen_script.py torch
"$1" gen_safetensors.py safetensors
"$1" gen_numpy.py numpy
"$1" gen_flax.py flax
if [ $# -gt 1 ]; then
    "$2" gen_torch.py torch-1.13
    "$2" gen_torch_old.py torch-1.13
    "$2" gen_script.py torch-1.13
fi

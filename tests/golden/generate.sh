#!/bin/sh
# Makes every golden again: sh generate.sh PYTHON [OLD_PYTHON], interpreters that have the
# frameworks (torch, pytorch_lightning, safetensors, ml_dtypes, flax, optax, onnx, gguf) and an old
# torch; ONNX_PYTHON names one with onnx 1.13. The files are committed; run this only to add some.
set -eu
cd "$(dirname "$0")"
export PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0
"$1" gen_torch.py torch
"$1" gen_script.py torch
"$1" gen_dcp.py torch
"$1" gen_lightning.py torch
"$1" gen_safetensors.py safetensors
"$1" gen_numpy.py numpy
"$1" gen_flax.py flax
"$1" gen_onnx.py onnx
if [ -n "${ONNX_PYTHON:-}" ]; then
    "$ONNX_PYTHON" gen_onnx.py onnx-1.13
fi
"$1" gen_gguf.py gguf
if [ $# -gt 1 ]; then
    "$2" gen_torch.py torch-1.13
    "$2" gen_torch_old.py torch-1.13
    "$2" gen_script.py torch-1.13
fi

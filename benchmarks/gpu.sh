#!/bin/sh
# On a machine with a GPU: the whole test suite with cuda, then the GPU's comparisons.
# Writes benchmarks/results/<device>.json, which the pages read.
set -eu
cd "$(dirname "$0")/.."
make .venv/.ready
.venv/bin/python - <<'CHECK'
import sys

import torch

if not torch.cuda.is_available():
    sys.exit("torch finds no CUDA GPU here; make bench compares on the CPU")
print(torch.cuda.get_device_name(), "torch", torch.__version__)
CHECK
make test
.venv/bin/python benchmarks/run.py --device cuda

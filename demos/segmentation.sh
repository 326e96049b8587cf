#!/usr/bin/env bash
# `make demo-segmentation`: real photographs cut into nested regions, without a label or a download.
set -euo pipefail
cd "$(dirname "$0")/.."
out=outputs/demo-segmentation
step() { printf '\n\033[1m%s\033[0m\n' "$1"; shift; printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }

rm -rf "$out"
mkdir -p "$out/photographs"
.venv/bin/python -c "
import shutil, sys
from primum.segmentation.data.packaged import HELD_OUT, photographs
for file in photographs(HELD_OUT):
    shutil.copy(file, sys.argv[1])
" "$out/photographs"

step "Regions of photographs, on EfficientNet-Lite0: its ImageNet weights were made with labels (supervised init)" \
  .venv/bin/primum segment "$out/photographs" -o "$out/masks" --backbone package:efficientnet_lite0

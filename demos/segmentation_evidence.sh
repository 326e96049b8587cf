#!/usr/bin/env bash
# Three seeds of segmentation/quickstart, each judged on 200 held-out scenes against UniAP on the run's own final
# features, on untrained features and on raw Lab colours. `demos/segmentation_evidence.sh 0` runs seed 0 alone.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=${PRIMUM_EVIDENCE:-evidence-$(date -u +%Y%m%d-%H%M%S)}
python=.venv/bin/python
seeds=("${@:-0}")
[ $# -gt 0 ] || seeds=(0 1 2)

runs=()
for seed in "${seeds[@]}"; do
  run=outputs/segmentation/quickstart/$stamp-seed$seed
  if [ ! -f "$run/manifest.yaml" ]; then
    start=$SECONDS
    PRIMUM_RUN_ID=$stamp-seed$seed $python train.py +experiment=segmentation/quickstart seed="$seed"
    echo "seed $seed: trained in $((SECONDS - start)) s of wall clock"
  fi
  runs+=("$run")
done
$python demos/segmentation_bounds.py "outputs/demo/segmentation/$stamp" "${runs[@]}"

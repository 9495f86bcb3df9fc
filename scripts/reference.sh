#!/usr/bin/env bash
# Trains the runs behind the README's table and writes it to results/reference/: the recipe with five activations
# and one learning rate that kills units, 8 seeds each. About nine minutes on 2 cores; running it again goes on.
# Usage: scripts/reference.sh [TRAIN OPTIONS]
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
configs=()
for name in relu leaky_relu silu tanh sigmoid relu_high_lr; do configs+=(--config "configs/$name.yaml"); done
./scripts/actbench train "${configs[@]}" --seeds 8 --results results/reference-runs "$@"
mkdir -p results/reference
cp results/reference-runs/runs.csv results/reference/recipe.csv
compare() { ./scripts/actbench compare results/reference-runs --by name --baseline relu "$@"; }
compare --format md > results/reference/recipe.md
compare --epoch 1 --format md > results/reference/recipe-epoch-1.md
compare --metric dead_ratio --format md > results/reference/recipe-dead.md
compare

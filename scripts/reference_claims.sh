#!/usr/bin/env bash
# Trains the study behind the README's table of claims. Writes every verdict with its evidence, the runs, a report and two
# pictures to results/reference/. Takes about two hours on 2 cores. To resume, run it again; finished runs are skipped.
# Usage: scripts/reference_claims.sh [CLAIMS OPTIONS]
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
runs=results/reference-claims-runs out=results/reference
mkdir -p "$out"
./scripts/actbench claims --results "$runs" --format json "$@" > "$out/claims.json.new"
mv "$out/claims.json.new" "$out/claims.json"
cp "$runs/runs.csv" "$out/claims.csv"
.venv/bin/python scripts/claims_table.py --evidence > "$out/claims.md"
./scripts/actbench report "$runs" --by name -o "$out/claims.html"
recipe='activation == "relu" and init == "he_normal" and batch_norm == false and bias_init == none and weight_decay == 0.0'
./scripts/actbench plot dead "$runs" --by lr,optimizer -o "$out/claims-dead.svg" \
    --filter "$recipe and hidden == '512' and epochs == 5 and optimizer in ('adam', 'sgd')"
./scripts/actbench plot curves "$runs" --by name -o "$out/claims-ways.svg" \
    --filter "name in ('relu', 'relu dropout=0.2', 'relu schedule=cosine', 'relu augment=rotation=10, shift=2',
        'relu hidden=512x512', 'relu network=cnn epochs=2')"
.venv/bin/python scripts/claims_table.py

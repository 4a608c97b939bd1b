#!/usr/bin/env bash
# Simulates whole machines with the real kernel on them, one for each seed, and shows the first that
# breaks a promise, made small. Arguments: ./x sim --help. Built as the tests are, so that it is
# there when they are.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/packages.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

need_packages c
cargo build --quiet --locked --package aosk-sim >&2
exec "${CARGO_TARGET_DIR:-target}/debug/aosk-sim" "$@"

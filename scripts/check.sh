#!/usr/bin/env bash
# All that must hold before a change lands, cheapest first. CI runs exactly this.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/packages.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() { printf '\n== %s\n' "$*" >&2; }

need_packages c
step cargo fmt
cargo fmt --all --check
step cargo clippy
cargo clippy --workspace --all-targets --locked -- --deny warnings
step cargo deny
scripts/cargo-deny.sh
step cargo doc
RUSTDOCFLAGS='--deny warnings' cargo doc --workspace --no-deps --locked --document-private-items
step cargo test
scripts/test.sh

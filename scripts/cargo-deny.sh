#!/usr/bin/env bash
# What other people's crates may bring in, as deny.toml says it. Installs cargo-deny into the build
# folder: without optimisation it compiles in a minute and takes 2 seconds for its work.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.20.2
tools="$(mkdir -p "${CARGO_TARGET_DIR:-target}/tools" && cd "${CARGO_TARGET_DIR:-target}/tools" && pwd)"
deny="$tools/bin/cargo-deny"

if [ "$("$deny" --version 2>/dev/null)" != "cargo-deny $version" ]; then
  echo "Installs cargo-deny $version: about 2 minutes, 15 MB." >&2
  # Built outside the workspace's own folder, and without debug information: a tenth of the space.
  CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR="$tools/build" cargo install --quiet --locked --debug \
    --root "$tools" "cargo-deny@$version"
  rm -rf "$tools/build"
fi

"$deny" --locked check --hide-inclusion-graph bans licenses sources

# Known vulnerabilities: their list must be fetched, and a machine without that way out can still
# check everything else.
if GIT_TERMINAL_PROMPT=0 timeout 120 "$deny" --log-level off fetch db >/dev/null 2>&1; then
  "$deny" --locked check --disable-fetch --hide-inclusion-graph advisories
else
  echo "advisories NOT checked: the list of known vulnerabilities could not be fetched" >&2
fi

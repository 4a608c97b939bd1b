#!/usr/bin/env bash
# Records what `aosk demo` plays: the agents of examples/first-run, answered by the local model.
# Needed when what they are told changes: their manifests, the tools' descriptions or results, or
# how a prompt is rendered. A test of the demo fails then.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../../scripts/local-llm.sh"

agents="$(mktemp -d)"
clean_up() {
  local_llm_stop
  rm -rf "$agents"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if ! local_llm_is_installed; then
  echo "Installs the local LLM: downloads $LOCAL_LLM_DOWNLOAD_MB MB, takes about 1 minute." >&2
  need_packages python
  local_llm_install
fi
cargo build --locked --package aosk-cli
aosk="$(realpath "${CARGO_TARGET_DIR:-target}/debug/aosk")"
mkdir "$agents/files"
cp examples/first-run/*.toml "$agents"
cp examples/first-run/files/{bus,meeting}.txt "$agents/files"
local_llm_start
# Nothing of the user's own settings plays a part.
env -i PATH="$PATH" HOME="$agents" OPENAI_BASE_URL="$LOCAL_LLM_URL/v1" \
  "$aosk" run "$agents/sums.toml" --with "$agents/reader.toml" --with "$agents/writer.toml" \
  --data-dir "$agents/data" --record "$agents/replies.jsonl"
cp "$agents/replies.jsonl" crates/aosk-cli/demo/replies.jsonl
echo "Recorded crates/aosk-cli/demo/replies.jsonl."

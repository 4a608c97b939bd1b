#!/usr/bin/env bash
# The first run: three agents at once on a real LLM, from nothing. Says what it installs before it
# installs anything. Uses a small local model, or the provider whose key or address is in the
# environment. Ctrl-C stops the agents between two steps and leaves nothing running.
#
#   OPENAI_API_KEY, OPENAI_BASE_URL, ANTHROPIC_API_KEY
#                                     use this provider in place of the local model
#   AOSK_RUN_MODEL                    the model to ask there
#   AOSK_RUN_MAX_SPEND_USD            what the run may cost there at most (0.10)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/local-llm.sh"

build="${CARGO_TARGET_DIR:-target}"
aosk="$build/release/aosk"
data="$build/first-run/data"
agents=examples/first-run
options=()
running=''

main() {
  case "${1:-}" in
    '') ;;
    -h | --help)
      sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      return 0
      ;;
    *)
      echo "./x run takes no arguments; to run an agent of your own: $aosk run AGENT.toml" >&2
      return 2
      ;;
  esac
  if ! command -v cargo >/dev/null; then
    echo "Rust is missing: install cargo (with rustup, say), then say ./x run again." >&2
    return 1
  fi
  trap local_llm_stop EXIT
  trap interrupted INT
  trap 'exit 143' TERM

  if has_provider; then use_provider; else use_local_llm; fi
  plan
  install
  if ! has_provider; then
    local_llm_start
    export OPENAI_BASE_URL="$LOCAL_LLM_URL/v1"
    echo "The local model answers at $OPENAI_BASE_URL."
  fi
  echo
  run_agents
}

has_provider() { [ -n "${OPENAI_API_KEY:-}${provider_url:-}${ANTHROPIC_API_KEY:-}" ]; }

# The provider of the environment: says who is asked and what it may cost.
use_provider() {
  local model="${AOSK_RUN_MODEL:-}" ceiling="${AOSK_RUN_MAX_SPEND_USD:-0.10}"
  if [ -z "${OPENAI_API_KEY:-}$provider_url" ]; then
    model="${model:-claude-haiku-5-5}"
    provider_url="${ANTHROPIC_BASE_URL:-Anthropic}"
    without_crutches
  else
    choose_openai_model
  fi
  # An address may carry a password.
  echo "Uses the provider in your environment: $(sed 's#//[^/]*@#//#' <<<"${provider_url:-OpenAI}")"
  echo "  model          $model (change: AOSK_RUN_MODEL)"
  echo "  spend ceiling  \$$ceiling for the whole run (change: AOSK_RUN_MAX_SPEND_USD)"
  options=(--model "$model" --max-spend-usd "$ceiling")
}

choose_openai_model() {
  case "$provider_url" in
    '') model="${model:-gpt-4.1-nano}" ;;
    http://127.0.0.1[:/]* | http://localhost[:/]* | http://\[::1\]*) model="${model:-local}" ;;
    *)
      if [ -z "$model" ]; then
        echo "OPENAI_BASE_URL is set: say with AOSK_RUN_MODEL which of its models to use." >&2
        exit 2
      fi
      ;;
  esac
}

# The agents without what only a very small model needs, and what this interface has no word for.
without_crutches() {
  local from="$agents"
  agents="$build/first-run/agents"
  rm -rf "$agents"
  mkdir -p "$build/first-run"
  cp -R "$from" "$agents"
  sed -i.bak -e '/^tool_calls = /d' -e '/^temperature = /d' -e '/^seed = /d' "$agents"/*.toml
  rm -f "$agents"/*.bak
}

use_local_llm() {
  echo "Uses SmolLM2-135M on this machine: a very small model, for the demonstration. It costs nothing"
  echo "and sends nothing anywhere. Real work wants a larger one: set OPENAI_API_KEY or ANTHROPIC_API_KEY."
}

needs() {
  local needs=(c)
  if ! has_provider && ! local_llm_is_installed; then needs+=(python); fi
  echo "${needs[@]}"
}

# Says what is about to be installed, and how much of it.
plan() {
  local packages lines=()
  # shellcheck disable=SC2046 # a list of words
  packages="$(missing_packages $(needs))"
  if [ -n "$packages" ]; then
    # shellcheck disable=SC2086 # a list of names
    lines+=("$packages|apt|$(packages_mb $packages)|1")
  fi
  if ! has_provider && ! local_llm_is_installed; then
    lines+=("the local model and its server|$LOCAL_LLM_HOME|$LOCAL_LLM_DOWNLOAD_MB|1")
  fi
  if [ ! -x "$aosk" ]; then
    lines+=("aosk, built from source with its crates|$build|40|6")
  fi
  if [ "${#lines[@]}" -eq 0 ]; then return 0; fi
  echo
  echo "Installs what is missing, and removes nothing (minutes for 2 cores and 100 Mbit/s):"
  printf '  %-45s %-20s %5s %5s\n' what where MB min
  local line what where mb minutes
  for line in "${lines[@]}"; do
    IFS='|' read -r what where mb minutes <<<"$line"
    printf '  %-45s %-20s %5s %5s\n' "$what" "$where" "$mb" "$minutes"
  done
  echo
}

install() {
  # shellcheck disable=SC2046 # a list of words
  need_packages $(needs)
  if ! has_provider; then local_llm_install; fi
  cargo build --release --locked --package aosk-cli
}

# After Ctrl-C: the agents have stopped by themselves, and can go on.
interrupted() {
  if [ -n "$running" ]; then
    echo
    echo "What they did is kept in $data. To go on where they were:"
    if ! has_provider; then
      echo "  scripts/local-llm.sh 8080, and in another terminal:"
      echo "  export OPENAI_BASE_URL=http://127.0.0.1:8080/v1"
    fi
    echo "  $aosk run --resume --data-dir $data"
  fi
  exit 130
}

run_agents() {
  local code=0 pid
  mkdir -p "$data"
  running=yes
  ${as_child[@]+"${as_child[@]}"} "$aosk" run "$agents/sums.toml" --with "$agents/reader.toml" --with "$agents/writer.toml" \
    --data-dir "$data" ${options[@]+"${options[@]}"} || code=$?
  running=''
  pid="$("$aosk" ps --all --json --data-dir "$data" | sed -n 's/^{.*"pid":"\([^"]*\)".*/\1/p' | tail -n 1)"
  cat <<TEXT

All that they did is kept in $data. Look at it:
  $aosk ps --all --data-dir $data
  $aosk show ${pid:-PID} --data-dir $data
  $aosk logs --contents ${pid:-PID} --data-dir $data
TEXT
  if [ "$code" -ne 0 ]; then echo "Start the three afresh: ./x run"; fi
  if ! has_provider; then
    cat <<TEXT
Run an agent of your own on the local model, which this command serves until Ctrl-C:
  scripts/local-llm.sh 8080
and in another terminal:
  export OPENAI_BASE_URL=http://127.0.0.1:8080/v1
TEXT
  else
    echo "Run an agent of your own:"
  fi
  cat <<TEXT
  $aosk init my-agent.toml
  $aosk run my-agent.toml "What is 17 * 23?"
TEXT
  return "$code"
}

# Before this script sets OPENAI_BASE_URL to the local model's own.
provider_url="${OPENAI_BASE_URL:-}"
# Ends the agents with this script even where it is killed; not every system has the command.
as_child=()
if command -v setpriv >/dev/null && setpriv --pdeathsig TERM true 2>/dev/null; then
  as_child=(setpriv --pdeathsig TERM)
fi

main "$@"

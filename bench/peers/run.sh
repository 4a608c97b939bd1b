#!/usr/bin/env bash
# Runs a peer's durable steps on this machine and prints one JSON object on standard output.
#
#   bench/peers/run.sh bare [--store sqlite|postgres] [ARGS]
#   bench/peers/run.sh langgraph [--store sqlite|postgres] [--channel delta|classic] [ARGS]
#   bench/peers/run.sh dbos [ARGS]
#   bench/peers/run.sh restate [ARGS]
#
# ARGS: --agents N (64), --steps N (200), --payload BYTES (2048), --postgres URL. Without a URL a
# server of the tests' PostgreSQL is started in a temporary folder, with fsync on, and stopped. What
# a peer needs is installed below the build folder at its first run, in the versions pinned here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source scripts/postgres.sh

usage() {
  sed -n 's/^# \{0,1\}//; 2,11p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

peer="${1:-}"
[ $# -eq 0 ] || shift
home="${CARGO_TARGET_DIR:-target}/peers"
mkdir -p "$home"
store=sqlite url=''
for ((at = 1; at <= $#; at++)); do
  next=$((at + 1))
  case "${!at}" in
    --store) store="${!next:-}" ;;
    --postgres) url="${!next:-}" ;;
  esac
done

folder='' bin=''
stop_server() {
  [ -z "$folder" ] || as_server pg_ctl -D "$folder/data" -m fast -w stop >/dev/null || true
  [ -z "$folder" ] || rm -rf "$folder"
}

# PostgreSQL refuses to be run by root.
as_server() {
  local program="$1"
  shift
  if [ "$(id -u)" = 0 ]; then
    (cd "$folder" && setpriv --reuid=65534 --regid=65534 --clear-groups "$bin/$program" "$@")
  else
    (cd "$folder" && "$bin/$program" "$@")
  fi
}

# Starts one, unless a URL was given; sets `url`.
start_server() {
  local port
  [ -z "$url" ] || return 0
  postgres_install
  # Where `nobody` may read: a build folder may stand in a home that others cannot enter.
  folder="$(mktemp -d)"
  trap stop_server EXIT
  cp -r "$POSTGRES_HOME/current" "$folder/server"
  bin="$folder/server/${POSTGRES_FOLDER#"$POSTGRES_HOME/current/"}/bin"
  chmod 755 "$folder"
  mkdir -m 700 "$folder/data"
  [ "$(id -u)" != 0 ] || chown 65534:65534 "$folder" "$folder/data"
  port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
  as_server initdb -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 >/dev/null
  as_server pg_ctl -D "$folder/data" -l "$folder/log" -w \
    -o "-p $port -c listen_addresses=127.0.0.1 -k $folder" start >/dev/null
  url="postgresql://postgres@127.0.0.1:$port/postgres"
  set_url=(--postgres "$url")
}

set_url=()
case "$peer" in
  bare | langgraph)
    if ! cmp -s "bench/peers/$peer/requirements.txt" "$home/$peer/installed"; then
      rm -rf "${home:?}/$peer"
      python3 -m venv "$home/$peer" >&2
      "$home/$peer/bin/pip" install --quiet --disable-pip-version-check \
        -r "bench/peers/$peer/requirements.txt" >&2
      cp "bench/peers/$peer/requirements.txt" "$home/$peer/installed"
    fi
    [ "$store" != postgres ] || start_server
    "$home/$peer/bin/python" "bench/peers/$peer/steps.py" "$@" "${set_url[@]}"
    ;;
  dbos)
    cargo build --release --locked --manifest-path bench/peers/dbos/Cargo.toml \
      --target-dir "$home/dbos" >&2
    start_server
    "$home/dbos/release/dbos-steps" "$@" "${set_url[@]}"
    ;;
  restate)
    if ! cmp -s bench/peers/restate/package-lock.json "$home/restate/installed"; then
      rm -rf "$home/restate"
      mkdir -p "$home/restate"
      cp bench/peers/restate/package*.json "$home/restate"
      npm ci --silent --no-audit --no-fund --prefix "$home/restate" >&2
      cp bench/peers/restate/package-lock.json "$home/restate/installed"
    fi
    cp bench/peers/restate/steps.mjs "$home/restate"
    PATH="$PWD/$home/restate/node_modules/.bin:$PATH" RESTATE_LOGGING=ERROR node "$home/restate/steps.mjs" "$@"
    ;;
  *) usage ;;
esac

#!/usr/bin/env bash
# What the system must have, and how it gets there. Sourced by the other scripts. Nothing is
# installed that is already there, and nothing is ever removed.

# Prints a Python of 3.10 or newer that can make virtual environments.
find_python() {
  local python
  for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
    if command -v "$python" >/dev/null &&
      "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      echo "$python"
      return 0
    fi
  done
  return 1
}

# The Debian packages that are missing for the needs named: c, ext4, python, strace.
missing_packages() {
  local need missing=()
  for need in "$@"; do
    case "$need" in
      c) command -v cc >/dev/null || missing+=(build-essential) ;;
      python)
        find_python >/dev/null || missing+=(python3 python3-venv)
        # The server's threads: every C compiler brings the library, a bare system has it not.
        [ "$(uname -s)" != Linux ] || has_library libgomp.so.1 || missing+=(libgomp1)
        ;;
      ext4) [ "$(uname -s)" != Linux ] || command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs) ;;
      strace) [ "$(uname -s)" != Linux ] || command -v strace >/dev/null || missing+=(strace) ;;
      *)
        echo "packages.sh: no need \"$need\"" >&2
        return 2
        ;;
    esac
  done
  echo "${missing[*]-}"
}

has_library() {
  local folder
  for folder in /lib /lib64 /usr/lib /usr/lib64 /usr/lib/*-linux-gnu /lib/*-linux-gnu; do
    [ ! -e "$folder/$1" ] || return 0
  done
  return 1
}

# About how many megabytes the packages named download, with what they need themselves.
packages_mb() {
  local package sum=0
  for package in "$@"; do
    case "$package" in
      build-essential) sum=$((sum + 75)) ;;
      python3) sum=$((sum + 25)) ;;
      *) sum=$((sum + 2)) ;;
    esac
  done
  echo "$sum"
}

# Installs what is missing for the needs named, or says how and fails.
need_packages() {
  local missing as_root=()
  missing="$(missing_packages "$@")"
  [ -n "$missing" ] || return 0
  if ! command -v apt-get >/dev/null; then
    echo "Please install these first (Debian's names): $missing" >&2
    return 1
  fi
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "Please run this as root first: apt-get install $missing" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  # shellcheck disable=SC2086 # a list of names
  echo "Installs $missing with apt-get: about $(packages_mb $missing) MB, 1 minute." >&2
  ${as_root[@]+"${as_root[@]}"} apt-get update -qq >&2
  # shellcheck disable=SC2086 # a list of names
  ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends --no-remove $missing >&2
}

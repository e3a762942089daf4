#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes .venv in the checkout from the pinned requirements; does nothing when it is there and up to date.
set -eu
cd "$(dirname "$0")/.."
wanted=$(cat requirements.txt requirements-dev.txt constraints.txt | sha256sum | cut -d' ' -f1)
stamp=.venv/.requirements
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then exit 0; fi

# The newest Python of the versions that the pinned ansible-core runs on.
python=
for candidate in python3.13 python3.12 python3.11 python3; do
  if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "Python 3.11, 3.12 or 3.13 is needed for the controller and none was found on PATH." >&2
  exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  echo "Installing the Debian package python3-venv (the interpreter has no ensurepip) ..."
  apt-get install -y -qq python3-venv >/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; }
fi
start=$(date +%s)
echo "Installing the pinned Python packages into .venv (about 40 s) ..."
rm -f "$stamp"
"$python" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
printf '%s' "$wanted" > "$stamp"
echo "Python packages ready after $(($(date +%s) - start)) s."

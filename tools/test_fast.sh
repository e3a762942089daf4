#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Lint, types, unit tests and a sample of the integration tests side by side; a failure shows its whole output.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH" ANSIBLE_CONFIG="$PWD/ansible.cfg" PYTHONPATH="$PWD/.tree"
SECONDS=0
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
declare -A jobs=()
start() { # NAME COMMAND...
  local name=$1
  shift
  "$@" >"$logs/$name" 2>&1 &
  jobs[$name]=$!
}
start ruff sh -c 'ruff check . && ruff format --check .'
start types mypy
# Two processes: the modules' tests run modules in children of pytest, which must not have loaded the controller's side.
start unit python -m pytest tests/unit -m 'not full and not slow' -n 2
start modules python -m pytest tests/integration -m 'not full and not slow'
failed=0
for name in "${!jobs[@]}"; do
  if wait "${jobs[$name]}"; then
    echo "ok      $name  $(tail -n 1 "$logs/$name")"
  else
    failed=1
    echo "FAILED  $name"
    cat "$logs/$name"
  fi
done
echo "make test-fast took ${SECONDS} s."
exit "$failed"

#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# make test: what needs no lab runs beside what does (which waits for kubelets half of its time), and then molecule in a
# lab of its own. The first lab's steps show what they do; the others one line each, or all of their output where they fail.
set -euo pipefail
cd "$(dirname "$0")/.."
SECONDS=0
export GPUFLEET_TEST_RUN=$$ # what `make lab-down` finds the steps by where this script was killed
logs=$(mktemp -d)
finish() { # process groups: with all their children
  for job in $(jobs -p); do kill -- "-$job" 2>/dev/null || true; done
  rm -rf "$logs"
}
trap finish EXIT
trap 'exit 130' INT TERM

lab=(.venv/bin/python tests/lab/lab.py)

quietly() { # STEP COMMAND...
  local step=$1 begun=$SECONDS
  shift
  if ! "$@" >"$logs/$step" 2>&1; then
    echo "== FAILED $step =="
    cat "$logs/$step"
    return 1
  fi
  echo "== $step passed in $((SECONDS - begun)) s: $(tail -n 1 "$logs/$step") =="
}

second_chain() {
  local step
  for step in lint types unit integration artifact sanity; do
    quietly "$step" nice make --no-print-directory "$step" || return 1
  done
  quietly molecule "${lab[@]}" beside molecule make --no-print-directory molecule || return 1
  "${lab[@]}" beside molecule
}

set -m # each job a process group
second_chain &
second=$!
for step in lab-test drills-quick; do
  begun=$SECONDS
  make --no-print-directory "$step" & # a trap waits for no job in the foreground
  wait $!
  echo "== $step passed in $((SECONDS - begun)) s =="
  # what has failed beside need not be waited for
  kill -0 "$second" 2>/dev/null || wait "$second"
done
wait "$second"
echo "All of make test passed after ${SECONDS} s."

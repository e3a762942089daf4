#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# make test: what needs no lab runs beside what does (which waits for kubelets half of its time). The lab's steps show
# what they do; the others one line each, or all of their output where they fail.
set -euo pipefail
cd "$(dirname "$0")/.."
SECONDS=0
logs=$(mktemp -d)
finish() { # process groups: with all their children
  for job in $(jobs -p); do kill -- "-$job" 2>/dev/null || true; done
  rm -rf "$logs"
}
trap finish EXIT
trap 'exit 130' INT TERM

without_lab() {
  local step begun
  for step in lint types unit integration artifact sanity; do
    begun=$SECONDS
    if ! nice make --no-print-directory "$step" >"$logs/$step" 2>&1; then
      echo "== FAILED $step =="
      cat "$logs/$step"
      return 1
    fi
    echo "== $step passed in $((SECONDS - begun)) s: $(tail -n 1 "$logs/$step") =="
  done
}

set -m # each job a process group
without_lab &
beside=$!
for step in lab-test drills-quick molecule; do
  begun=$SECONDS
  make --no-print-directory "$step" & # a trap waits for no job in the foreground
  wait $!
  echo "== $step passed in $((SECONDS - begun)) s =="
  # what has failed beside need not be waited for
  kill -0 "$beside" 2>/dev/null || wait "$beside"
done
wait "$beside"
echo "All of make test passed after ${SECONDS} s."

#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Run every tests/benchmarks/bench_*.py (or those named) and print one table. Each prints one JSON object per figure:
# name, value, unit, target (null: none), ok. MIG_PARTED=PATH measures nvidia-mig-parted beside. Fails when a benchmark
# fails or misses its target.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD/.tree:$PWD/tests" ANSIBLE_CONFIG="$PWD/ansible.cfg"
figures=$(mktemp)
trap 'rm -f "$figures"' EXIT

if [ $# -eq 0 ]; then set -- tests/benchmarks/bench_*.py; fi
failed=()
for script in "$@"; do
  begun=$SECONDS
  printf '%s ... ' "$script" >&2
  if .venv/bin/python "$script" >>"$figures"; then
    printf 'done after %s s\n' "$((SECONDS - begun))" >&2
  else
    printf 'FAILED after %s s\n' "$((SECONDS - begun))" >&2
    failed+=("$script")
  fi
done

.venv/bin/python - "$figures" <<'PY'
import json
import os
import sys
from pathlib import Path

print(f"\nFigures of this run on {os.cpu_count()} CPUs, Python {sys.version.split()[0]}")
figures = [json.loads(line) for line in Path(sys.argv[1]).read_text("utf-8").splitlines() if line.startswith("{")]
rows = [("figure", "value", "target", "")]
for one in figures:
    target = "" if one.get("target") is None else f"<= {one['target']:g}"
    rows.append((one["name"], f"{one['value']:g} {one['unit']}", target, "" if one.get("ok", True) else "MISSED"))
widths = [max(len(row[column]) for row in rows) for column in range(4)]
for row in rows:
    print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
PY

if [ ${#failed[@]} -gt 0 ]; then
  printf '\nFailed or missed a target: %s\n' "${failed[*]}" >&2
  exit 1
fi

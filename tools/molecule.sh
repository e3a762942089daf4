#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs the molecule scenarios on the running lab: tools/molecule.sh [SCENARIO...]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH" ANSIBLE_CONFIG="$PWD/ansible.cfg" ANSIBLE_HOST_PATTERN_MISMATCH=error
scenarios=("$@")
[ ${#scenarios[@]} -gt 0 ] || scenarios=(none single mixed change)
for scenario in "${scenarios[@]}"; do
  begin=$SECONDS
  molecule test -s "$scenario"
  echo "== molecule scenario $scenario passed in $((SECONDS - begin)) s"
done

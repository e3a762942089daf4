#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Molecule scenarios on the running lab, or on the running hosts with systemd: tools/molecule.sh [hosts | SCENARIO...]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH" ANSIBLE_CONFIG="$PWD/ansible.cfg" ANSIBLE_HOST_PATTERN_MISMATCH=error
scenarios=("$@")
[ ${#scenarios[@]} -gt 0 ] || scenarios=(none single mixed change)
[ "${scenarios[*]}" != hosts ] || scenarios=(host_bare host_reboot host_refresh host_pending host_swap host_upgrade host_power_cut)
state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT
for scenario in "${scenarios[@]}"; do
  begin=$SECONDS
  # A state of its own: with that of an earlier run molecule would leave out prepare.
  MOLECULE_EPHEMERAL_DIRECTORY="$state/$scenario" molecule test -s "$scenario"
  echo "== molecule scenario $scenario passed in $((SECONDS - begin)) s"
done

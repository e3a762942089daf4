#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The whole demo: build what is missing, start the lab, partition four GPU hosts from one inventory, show the result.
# Runs again at any time and goes on where it was; `make lab-down` removes what it started.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH" ANSIBLE_CONFIG="$PWD/ansible.cfg"
SECONDS=0
lab=${GPUFLEET_LAB_DIR:-/var/lib/gpufleet-lab}

if [ "$(id -u)" != 0 ]; then
  echo "make demo needs root: it makes network, mount and process namespaces for the simulated GPU hosts." >&2
  exit 1
fi
tools/bootstrap.sh
.venv/bin/python tests/lab/lab.py build
.venv/bin/python tests/lab/lab.py up
echo "== the lab is up after ${SECONDS} s; running ansible-playbook -i inventories/demo site.yml"
ansible-playbook -i inventories/demo site.yml
cat <<TEXT

The demo took ${SECONDS} s. The lab is still running.
  look: KUBECONFIG=$lab/kubeconfig $lab/bin/kubectl describe node a100-mixed
  stop: make lab-down
TEXT

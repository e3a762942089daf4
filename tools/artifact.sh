#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Builds the collection artifact, installs it into an empty folder and checks that it is whole and documented there.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
export PATH="$root/.venv/bin:$PATH"
rm -rf build/artifact && mkdir -p build/artifact/installed
ansible-galaxy collection build --force --output-path build/artifact . >/dev/null
tarball=$(ls build/artifact/gpufleet-mig-*.tar.gz)
unset ANSIBLE_CONFIG PYTHONPATH # the checkout itself must not be found: its collection would pass for the installed one
cd build/artifact
export ANSIBLE_COLLECTIONS_PATH="$PWD/installed"
ansible-galaxy collection install --offline --no-deps -p installed "$root/$tarball" >/dev/null
echo "artifact: $(basename "$tarball"), $(stat -c %s "$root/$tarball") bytes, top level: $(tar -tzf "$root/$tarball" | cut -d/ -f1 | sort -u | tr '\n' ' ')"

plugins() { find "installed/ansible_collections/gpufleet/mig/plugins/$1" -name '[a-z]*.py' -exec basename {} .py \;; }
documented=0
for kind in module filter role; do
  case $kind in
    module) names=$(plugins modules) ;;
    filter) names=$(plugins filter) ;;
    role) names=$(cd installed/ansible_collections/gpufleet/mig/roles && ls) ;;
  esac
  for name in $names; do
    ansible-doc -t "$kind" "gpufleet.mig.$name" >"doc.out" 2>&1 || { cat doc.out; echo "ansible-doc -t $kind gpufleet.mig.$name failed"; exit 1; }
    grep -qi "$name" doc.out || { echo "ansible-doc -t $kind gpufleet.mig.$name says nothing"; exit 1; }
    documented=$((documented + 1))
  done
done
echo "ansible-doc answers for $documented plugins and roles of the installed collection"
for playbook in installed/ansible_collections/gpufleet/mig/playbooks/*.yml; do
  name=$(basename "$playbook" .yml)
  ansible-playbook --syntax-check -i localhost, "gpufleet.mig.$name" >/dev/null
  echo "gpufleet.mig.$name: syntax ok from the installed collection"
done

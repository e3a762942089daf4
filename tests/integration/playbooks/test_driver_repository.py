# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which repository and which of NVIDIA's keys role driver takes for a release of a distribution."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
OLD = "EB693B3035CD5710E231E123A4B469963BF863CC"
# Repository and key as NVIDIA's installation guides and those who mirror them have them (docs/hosts.md).
KEYS = {
    "debian 12": ("debian12", "3bf863cc.pub", OLD),
    "debian 13": ("debian13", "8793F200.pub", "02182E60104FCDC26EAE1B8597A5D4CB8793F200"),
    "ubuntu 24.04": ("ubuntu2404", "3bf863cc.pub", OLD),
    "ubuntu 26.04": ("ubuntu2604", "60DF8A40.pub", "14BAFBC7562AD710CA04E69905FBB6DA60DF8A40"),
    "redhat 9.6": ("rhel9", "D42D0685.pub", "610C7B14E068A878070DA4E99CD0A493D42D0685"),
}
PLAYBOOK = f"""
- hosts: all
  connection: local
  gather_facts: false
  vars_files: ["{ROOT}/roles/driver/defaults/main.yml"]
  tasks:
    - include_vars: {{dir: "{ROOT}/roles/driver/vars/main"}}
    - copy:
        content: "{{{{ [__driver_from, this.key, this.fingerprint, this.files[0][2]] | to_json }}}}"
        dest: "{{{{ folder }}}}/{{{{ inventory_hostname }}}}"
      vars: {{this: "{{{{ __driver_family }}}}"}}
"""


def test_each_release_gets_its_own_repository_and_key(tmp_path: Path) -> None:
    hosts = {}
    for name in KEYS:
        family, version = name.split()
        distribution = {"family": family, "version": version}
        hosts[name.replace(" ", "-")] = {"driver_host": {"distribution": distribution, "architecture": "x86_64"}}
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": {"folder": str(tmp_path)}}}))
    done = subprocess.run(
        ["ansible-playbook", "-i", tmp_path / "hosts.json", tmp_path / "play.yml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_INVENTORY_ENABLED": "yaml"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for name, (folder, key, fingerprint) in KEYS.items():
        repository = f"https://developer.download.nvidia.com/compute/cuda/repos/{folder}/x86_64"
        written = json.loads((tmp_path / name.replace(" ", "-")).read_text())
        assert written[:3] == [repository, f"{repository}/{key}", fingerprint]
        assert repository in written[3]

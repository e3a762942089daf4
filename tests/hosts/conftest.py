# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Hosts with systemd as a user sees them: ansible-playbook and ssh."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lab.gpufleet_lab import packages, realhosts

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = """
- hosts: "{host}"
  gather_facts: false
  roles: [{roles}]
"""


@dataclass(frozen=True)
class Play:
    """One ansible-playbook run: exit code, what it printed, and how many changes it reported."""

    rc: int
    output: str
    changed: int


@dataclass
class Host:
    """A host, what the inventory says of it beside the lab's own variables, and where its playbooks lie."""

    host: realhosts.RealHost
    folder: Path
    variables: dict[str, Any] = field(default_factory=dict)

    def play(self, *roles: str, check: bool = False, ok: bool = True, playbook: str = "", **more: Any) -> Play:
        file = self.folder / "play.yml"
        file.write_text(PLAYBOOK.format(host=self.host.name, roles=", ".join(f"gpufleet.mig.{role}" for role in roles)))
        words = ["ansible-playbook", "-i", str(ROOT / "tests/hosts/inventory"), playbook or str(file)]
        words += ["--limit", self.host.name, "-e", json.dumps({**self.variables, **more})]
        done = subprocess.run(
            [*words, *(["--check"] if check else [])],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=900,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        )  # fmt: skip
        output = done.stdout + done.stderr
        recap = re.search(rf"^{re.escape(self.host.name)}\s.*changed=(\d+)", output, re.MULTILINE)
        if ok and done.returncode != 0:
            raise AssertionError(f"{' '.join(words)} exited {done.returncode}\n{output[-6000:]}")
        return Play(done.returncode, output, int(recap[1]) if recap else -1)

    def sh(self, script: str) -> str:
        """As root, over SSH, apart from Ansible."""
        return realhosts.ssh(self.host, "sudo", "sh", "-c", f"'{script}'").strip()

    def simctl(self, *words: str) -> str:
        return self.sh(f"/usr/local/lib/gpufleet-lab/simctl --state /proc/driver/nvidia-sim/state {' '.join(words)}")

    def boot_id(self) -> str:
        return self.sh("cat /proc/sys/kernel/random/boot_id")

    def instances(self) -> list[str]:
        """Profile and place of all GPU instances, as the board itself knows them."""
        return re.findall(r"^gpu (?:\d+)|gi \d+ (\S+ start=\d+)", self.simctl("show"), re.MULTILINE)


def inventory_of_lab() -> dict[str, Any]:
    return {
        "driver_manage": True,
        "driver_repository_url": "file:///srv/packages/cuda",
        "driver_key_url": "file:///srv/packages/cuda/key.asc",
        "driver_key_fingerprint": packages.fingerprint(),
        "container_toolkit_repository_url": "file:///srv/packages/toolkit",
        "container_toolkit_key_url": "file:///srv/packages/toolkit/key.asc",
        "container_toolkit_key_fingerprint": packages.fingerprint(),
        # Of both: the lab's hosts are back in a second or two.
        "driver_reboot_timeout": 120,
        "mig_reboot_timeout": 120,
    }


@pytest.fixture(scope="session")
def running() -> None:
    realhosts.up([])


@pytest.fixture
def bare(running: None, tmp_path: Path) -> Callable[[str], Host]:
    """Give a freshly installed host of that name."""

    def give(name: str) -> Host:
        host = realhosts.by_name(name)
        realhosts.reinstall(host)
        return Host(host, tmp_path, inventory_of_lab())

    return give

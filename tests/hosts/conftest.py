# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Hosts with systemd as a user sees them: ansible-playbook and ssh."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lab.gpufleet_lab import realhosts
from lab.gpufleet_lab.settings import LabError
from lab.gpufleet_lab.shell import wait_until

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = """
- hosts: "{host}"
  gather_facts: false
  roles: [{roles}]
"""


def environment() -> dict[str, str]:
    return {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}


@dataclass(frozen=True)
class Play:
    """One ansible-playbook run: exit code, what it printed, and how many changes it reported."""

    rc: int
    output: str
    changed: int


@dataclass
class Host:
    """A host, where its playbooks lie, and what its variables say beside those of the inventory."""

    host: realhosts.RealHost
    folder: Path
    variables: dict[str, Any] = field(default_factory=lambda: {"driver_manage": True})

    def play(self, *roles: str, check: bool = False, ok: bool = True, playbook: str = "", **more: Any) -> Play:
        words = self.command(*roles, check=check, playbook=playbook, **more)
        done = subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900, env=environment()
        )
        output = done.stdout + done.stderr
        recap = re.search(rf"^{re.escape(self.host.name)}\s.*changed=(\d+)", output, re.MULTILINE)
        if ok and done.returncode != 0:
            raise AssertionError(f"{' '.join(words)} exited {done.returncode}\n{output[-6000:]}")
        return Play(done.returncode, output, int(recap[1]) if recap else -1)

    @contextmanager
    def playing(self, *roles: str, **more: Any) -> Iterator[None]:
        """A run that goes on meanwhile and is ended afterwards."""
        with subprocess.Popen(
            self.command(*roles, **more),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(),
        ) as run:
            yield
            run.terminate()

    def command(self, *roles: str, check: bool = False, playbook: str = "", **more: Any) -> list[str]:
        file = self.folder / "play.yml"
        file.write_text(PLAYBOOK.format(host=self.host.name, roles=", ".join(f"gpufleet.mig.{role}" for role in roles)))
        inventories = [word for name in ("inventory", "on_demand") for word in ("-i", str(ROOT / "tests/hosts" / name))]
        words = ["ansible-playbook", *inventories, playbook or str(file)]
        words += ["--limit", self.host.name, "-e", json.dumps({**self.variables, **more})]
        return [*words, *(["--check"] if check else [])]

    def sh(self, script: str) -> str:
        """As root, over SSH, apart from Ansible."""
        return realhosts.ssh(self.host, "sudo", "sh", "-c", f"'{script}'").strip()

    def simctl(self, *words: str) -> str:
        return self.sh(f"/usr/local/lib/gpufleet-lab/simctl --state /proc/driver/nvidia-sim/state {' '.join(words)}")

    def boot_id(self) -> str:
        return self.sh("cat /proc/sys/kernel/random/boot_id")

    def shown(self, unit: str, *properties: str) -> list[str]:
        """What systemd says of a unit, in the order of the properties."""
        told = dict(line.partition("=")[::2] for line in self.sh(f"systemctl show {unit}").splitlines())
        return [told[name] for name in properties]

    def journal(self, unit: str) -> str:
        """What a unit said since this boot, as one line."""
        return " ".join(self.sh(f"journalctl -b -o cat --no-pager -u {unit}").split())

    def reboot(self) -> None:
        """systemctl reboot; returns when the host has started whatever starts at boot."""
        before = self.boot_id()
        self.sh("systemd-run --collect systemctl reboot")
        self._wait_started(before)

    def power_cycle(self) -> None:
        """Pull the plug and put it in again."""
        before = self.boot_id()
        realhosts.power_cut(self.host)
        self.start(before)

    def restored_before_containerd(self) -> None:
        """Of this boot: the unit changed something, and layout and CDI specification were there for the runtime."""
        unit = "gpufleet-mig.service"
        assert self.shown(unit, "ActiveState", "Result") == ["active", "success"]
        assert "changed" in self.journal(unit)
        (begun,) = self.shown("containerd", "ExecMainStartTimestampMonotonic")
        assert int(self.shown(unit, "ActiveEnterTimestampMonotonic")[0]) <= int(begun)
        # The device files of an instance may be others after a boot, and containers get those that the file names.
        assert self.sh("nvidia-ctk --quiet cdi generate | cmp - /etc/cdi/nvidia.yaml") == ""
        assert int(self.shown("gpufleet-cdi", "ExecMainExitTimestampMonotonic")[0]) <= int(begun)

    def start(self, before: str = "") -> None:
        realhosts.start(self.host)
        self._wait_started(before)

    def _wait_started(self, before: str) -> None:
        def started() -> bool:
            try:
                return self.boot_id() != before and bool(self.sh("systemctl is-system-running --wait || true"))
            except LabError:
                return False  # sshd has ended already, or does not answer yet

        wait_until(started, f"{self.host.name}: booted again", 90, every_s=0.2)

    def instances(self) -> list[str]:
        """Profile and place of all GPU instances, as the board itself knows them."""
        return re.findall(r"^gpu (?:\d+)|gi \d+ (\S+ start=\d+)", self.simctl("show"), re.MULTILINE)

    def listed(self) -> list[str]:
        """GPU, profile and place of all GPU instances, as nvidia-smi lists them to a person."""
        rows = re.findall(
            r"^\|\s+(\d+)\s+MIG (\S+)\s.*\s(\d+:\d+)\s+\|$", self.sh("nvidia-smi mig -lgi || test $? = 6"), re.MULTILINE
        )
        return sorted(f"{gpu} {profile}@{place}" for gpu, profile, place in rows)

    def modes(self) -> list[str]:
        """The MIG mode of each GPU."""
        return self.sh("nvidia-smi --query-gpu=mig.mode.current --format=csv,noheader").split()


@pytest.fixture(scope="session")
def running() -> None:
    realhosts.up([])


@pytest.fixture
def bare(running: None, tmp_path: Path) -> Callable[[str], Host]:
    """Give a freshly installed host of that name."""

    def give(name: str) -> Host:
        host = realhosts.by_name(name)
        realhosts.reinstall(host)
        return Host(host, tmp_path)

    return give

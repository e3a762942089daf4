# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated host with file system parts of its own, on which playbooks run and which outlive a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from integration.modules.simulated_host import ROOT, SimulatedHost
from integration.playbooks.playbook_run import on_this_machine

HERE = Path(__file__).parent

PARTS = """
mount -t tmpfs none "$1" && mkdir "$1"/upper "$1"/work "$1"/run
mount -t overlay overlay -o lowerdir=/etc,upperdir="$1"/upper,workdir="$1"/work /etc
for part in /usr/local/lib /var/lib /run; do mount -t tmpfs none "$part"; done
mkdir -p /run/systemd/system /run/metrics
echo ready
exec sleep infinity
"""
"""/etc with changes of its own, empty folders where the roles write, and systemd's sign that it is the init."""


class Played(NamedTuple):
    """Exit code, output, and the numbers of the recap."""

    code: int
    printed: str

    @property
    def changed(self) -> int:
        return int(self.printed.rsplit("changed=", 1)[1].split()[0])


class RoleHost:
    """`play` runs a playbook of the collection on the host, `inside` a program there."""

    def __init__(self, simulated: SimulatedHost, namespace: int, folder: Path) -> None:
        self.simulated = simulated
        self.namespace = namespace
        self.folder = folder

    @property
    def environment(self) -> dict[str, str]:
        found = self.simulated.environment
        return {**found, "PATH": f"{self.folder / 'bin'}{os.pathsep}{found['PATH']}"}

    def inside(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", "-t", str(self.namespace), "-m", f"--wd={ROOT}", *command],
            capture_output=True,
            text=True,
            env={**self.environment, **environment},
            check=False,
        )

    def play(self, playbook: str, *options: str, **variables: Any) -> Played:
        inventory = self.folder / "inventory.json"
        inventory.write_text(json.dumps({"all": {"hosts": {"here": {**on_this_machine(), **variables}}}}))
        done = self.inside(
            str(Path(sys.executable).with_name("ansible-playbook")),
            "-i",
            str(inventory),
            playbook if playbook.endswith(".yml") else f"gpufleet.mig.{playbook}",
            *options,
            ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
            ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".tree"),
            ANSIBLE_NOCOLOR="1",
        )
        return Played(done.returncode, done.stdout + done.stderr)

    def files(self) -> dict[str, str]:
        """All files, links and folders of the host's own parts, with the digests of what is in files.

        Of /etc what differs from this machine's, which is below it.
        """
        upper = str(self.folder / "parts" / "upper")
        listed = self.inside("find", upper, "/usr/local/lib", "/var/lib", "/run/metrics", "-mindepth", "1")
        paths = [path.replace(upper, "/etc") for path in listed.stdout.split()]
        return {path: self.digest(path) for path in paths if not (path.startswith("/etc") and Path(path).is_dir())}

    def digest(self, path: str) -> str:
        """ "" for a folder, and where there is nothing."""
        return self.inside("sha256sum", path).stdout.partition(" ")[0]

    def reads(self, path: str) -> str:
        done = self.inside("cat", path)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def role_host(simulated: SimulatedHost) -> Iterator[RoleHost]:
    with tempfile.TemporaryDirectory(prefix="role-host-") as name:
        folder = Path(name)
        (folder / "parts").mkdir()
        (folder / "bin").mkdir()
        for program in ("systemctl", "scontrol"):
            starter = folder / "bin" / program
            starter.write_text(f'#!/bin/sh\nexec /usr/bin/python3 {HERE / program}.py "$@"\n')
            starter.chmod(0o755)
        command = ["unshare", "--mount", "sh", "-euc", PARTS, "sh", str(folder / "parts")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as keeper:
            try:
                assert keeper.stdout is not None
                assert keeper.stdout.readline() == "ready\n"
                yield RoleHost(simulated, keeper.pid, folder)
            finally:
                keeper.kill()

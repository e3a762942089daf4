# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of simulated hosts that ansible-playbook reaches by a local connection, and its playbooks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from integration.modules.simulated_host import BUILD, ROOT, SimulatedHost, build_simulator, own_etc


class Fleet:
    """An inventory folder with simulated hosts; `variables` are those of all hosts."""

    def __init__(self, folder: Path, hosts: dict[str, list[Any]], **variables: Any) -> None:
        self.folder = folder
        self.inventory = folder / "inventory"
        self.inventory.mkdir()
        self.hosts = {name: SimulatedHost(folder / name, gpus) for name, gpus in hosts.items()}
        self.variables = variables
        self.write()

    def write(self) -> None:
        """The inventory file. A wrapper is the hosts' Python: it gives each its simulated driver, /var/lib and /etc."""
        entries = {}
        for name, host in self.hosts.items():
            wrapper = self.folder / f"python-{name}"
            (host.folder / "var-lib").mkdir(exist_ok=True)
            files = host.folder / "root"  # of `simctl files`, where a test had them made
            alone = f"{ROOT}/tests/simulator/enter.sh {files}" if files.exists() else "unshare --mount"
            mounts = f"mount --bind {host.folder / 'var-lib'} /var/lib && {own_etc(host.folder / 'etc')}"
            wrapper.write_text(
                "#!/bin/sh\n"
                f"export NVML_SIM_STATE={host.state} LD_LIBRARY_PATH={BUILD} PATH={BUILD}:$PATH\n"
                f"exec {alone} sh -c '{mounts} && exec \"$@\"' "
                f'sh {sys.executable} "$@"\n'
            )
            wrapper.chmod(0o755)
            entries[name] = {"ansible_connection": "local", "ansible_python_interpreter": str(wrapper)}
        base = {"mig_kubernetes": False, "mig_install_pynvml": False, "ansible_become": False}
        document = {"all": {"hosts": entries, "vars": {**base, **self.variables}}}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(document))

    def play(self, playbook: str, *words: str, ok: bool = True, inventory: str | None = None, **extra: Any) -> str:
        """The output of one of the collection's playbooks."""
        command = self._command(playbook, *words, inventory=inventory, **extra)
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=self._environment())
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout + done.stderr

    def start(self, playbook: str, *words: str, **extra: Any) -> subprocess.Popen[bytes]:
        """The same still at work, in a process group of its own."""
        return subprocess.Popen(
            self._command(playbook, *words, **extra),
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
            env=self._environment(),
            start_new_session=True,
        )

    def _command(self, playbook: str, *words: str, inventory: str | None = None, **extra: Any) -> list[str]:
        source = inventory or str(self.inventory / "hosts.yml")
        command = [
            "ansible-playbook",
            "-i",
            source,
            playbook if playbook.endswith(".yml") else f"gpufleet.mig.{playbook}",
            *words,
        ]
        if extra:
            command += ["-e", json.dumps(extra)]
        return command

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }


@pytest.fixture(scope="session")
def simulator() -> Path:
    return build_simulator()


@pytest.fixture
def folder(simulator: Path) -> Iterator[Path]:
    """A short path: Ansible's control sockets and the simulator's states lie in it."""
    assert (simulator / "libnvidia-ml.so.1").is_file()
    made = Path(tempfile.mkdtemp(prefix="mig-fleet-"))
    yield made
    shutil.rmtree(made)

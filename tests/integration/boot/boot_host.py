# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated host that has the command gpufleet-mig and nothing else of the collection, and what a boot does to it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pynvml
from integration.modules.simulated_host import ROOT, SimulatedHost

from ansible_collections.gpufleet.mig.plugins.module_utils import _archive

BARE = "/usr/bin/python3"
"""The system's interpreter: it has neither pynvml nor Ansible."""

SOURCES = ROOT / "plugins" / "module_utils"


class Done(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@cache
def packed() -> bytes:
    """The command, packed once for all tests."""
    return _archive.pack(SOURCES, Path(pynvml.__file__), BARE)


class BootHost(SimulatedHost):
    """`command` runs gpufleet-mig; its layout, journal and metrics stay in the host's folder."""

    def __init__(self, folder: Path, gpus: Sequence[str | dict[str, Any]], **host: Any) -> None:
        super().__init__(folder, gpus, **host)
        self.program = folder / "gpufleet-mig.pyz"
        self.program.write_bytes(packed())
        self.layout = folder / "layout.json"
        self.metrics = folder / "metrics"
        self.metrics.mkdir()

    def command(self, *words: str, python: str = BARE, **environment: str) -> Done:
        own = [] if words[0] == "compile" else ["--journal", str(self.journal)]
        if words[0] not in ("export", "compile") and "--layout" not in words:
            own += ["--layout", str(self.layout)]
        done = subprocess.run(
            [python, "-I", str(self.program), *words, *own],
            capture_output=True,
            text=True,
            env={**self.environment, **environment},
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def partition(self, layout: Any) -> list[str]:
        """Bring the host to a layout and keep it for the next boot; what stands then."""
        answer = self.run("mig_layout", layout=layout)
        assert not answer.get("failed"), answer
        exported = self.command("export")
        assert exported.code == 0, exported.err
        self.layout.write_text(exported.out)
        return self.lines()

    def kept(self) -> dict[str, Any]:
        """The layout for the next boot."""
        found: dict[str, Any] = json.loads(self.layout.read_text())
        return found

    def keep(self, document: dict[str, Any]) -> None:
        self.layout.write_text(json.dumps(document))

    def reboot(self) -> None:
        self.simctl("reboot")
        self.forget_calls()

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Process identity that survives pid reuse, and the end of a whole pid namespace."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

from . import cgroups
from .console import say
from .settings import CGROUP, LabError
from .shell import wait_until, write


@dataclass(frozen=True)
class Init:
    """Process 1 of a host or of the control plane, as the machine sees it, and what it was started from."""

    pid: int
    started: int
    digest: str

    def alive(self) -> bool:
        return start_time(self.pid) == self.started

    def save(self, path: Path) -> None:
        write(path, json.dumps(asdict(self)))


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which a process started (proc(5) stat, field 22); None when gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def load(path: Path) -> Init | None:
    """The recorded process if it still runs."""
    try:
        init = Init(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    return init if init.alive() else None


def end_marked(variable: str) -> None:
    """End every process that has the variable in the environment that it was started with; not where we have it too."""
    if variable in os.environ:
        return
    mark = f"{variable}=".encode()

    def marked(pid: int) -> bool:
        try:
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False
        return start_time(pid) is not None and any(word.startswith(mark) for word in words)

    def ended() -> bool:
        return _killed({pid for pid in (int(path.name) for path in Path("/proc").glob("[0-9]*")) if marked(pid)})

    wait_until(ended, f"end of all processes with {variable}", 30, every_s=0.05)


def end_group(name: str, record: Path, grace_s: float = 0, parent: str = CGROUP) -> None:
    """End process 1 (politely first when `grace_s`), then whatever is left in the control group, then the group.

    Process 1 of a pid namespace takes all others with it; the sweep catches what was started halfway.
    """
    init = load(record)
    if init and grace_s:
        os.kill(init.pid, signal.SIGTERM)
        try:
            wait_until(lambda: not init.alive(), f"{name} to stop by itself", grace_s, every_s=0.05)
        except LabError:
            say(f"{name} did not stop within {grace_s:.0f} s and is killed")
    if init and init.alive():
        os.kill(init.pid, signal.SIGKILL)

    def swept() -> bool:
        return _killed({pid for pid in cgroups.processes(name, parent) if start_time(pid) is not None})

    wait_until(swept, f"end of all processes of {name}", 30, every_s=0.05)
    cgroups.remove(name, parent)
    record.unlink(missing_ok=True)


def _killed(pids: set[int]) -> bool:
    """Kill them; whether there was none to kill."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return not pids

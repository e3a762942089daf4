# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Which process a run is, so that another run on the same machine can tell whether it still lives. Reads /proc only.

A process id alone says nothing: it is used again, means another process in another container, and nothing on another
machine. Together with the start time, the PID namespace and the boot it is one process for ever.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PROC = Path("/proc")
RUNNERS = {"ansible-playbook", "ansible", "ansible-pull", "ansible-console"}


@dataclass(frozen=True)
class Process:
    """``pid`` 0: not known, so nobody can say that it is dead. ``started``: clock ticks after boot."""

    host: str
    boot_id: str
    namespace: str
    pid: int
    started: str

    def plain(self) -> dict[str, Any]:
        """As a dictionary for JSON."""
        return asdict(self)

    @classmethod
    def parse(cls, told: object) -> Process | None:
        """The reverse of plain(); None for anything else."""
        if not isinstance(told, Mapping):
            return None
        try:
            return cls(
                str(told["host"]), str(told["boot_id"]), str(told["namespace"]), int(told["pid"]), str(told["started"])
            )
        except (KeyError, TypeError, ValueError):
            return None


def find(pid: int | None = None, proc: Path = PROC) -> Process:
    """The process that a run stands and falls with: ``pid``, or the ansible-playbook above this process.

    Where there is neither (a module started by hand, or on a host that Ansible reached through SSH) the pid is 0.
    """
    pid = _runner(proc) if pid is None else pid
    found = _stat(pid, proc) if pid else None
    started = found[2] if found else ""
    return Process(
        host=socket.gethostname(),
        boot_id=_text(proc / "sys/kernel/random/boot_id"),
        namespace=_namespace(proc),
        pid=pid if started else 0,
        started=started,
    )


def is_dead(holder: Process | None, proc: Path = PROC) -> bool:
    """Is it certain that this process has ended? Only asked of processes of this machine, boot and PID namespace."""
    if holder is None or not holder.pid or not holder.boot_id or not holder.namespace:
        return False
    here = (socket.gethostname(), _text(proc / "sys/kernel/random/boot_id"), _namespace(proc))
    if (holder.host, holder.boot_id, holder.namespace) != here:
        return False
    found = _stat(holder.pid, proc)
    # a zombie was killed and only waits for its parent to look
    return found is None or found[2] != holder.started or found[0] in ("Z", "X")


def _runner(proc: Path) -> int:
    """The first ancestors in a row that are Ansible are workers and their main process; the topmost is that one."""
    chosen = 0
    found = _stat_self(proc)
    while found is not None and found[1] > 1:
        pid = found[1]
        if _is_runner(pid, proc):
            chosen = pid
        elif chosen:
            break
        found = _stat(pid, proc)
    return chosen


def _is_runner(pid: int, proc: Path) -> bool:
    try:
        words = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")[:2]
    except OSError:
        return False
    return any(Path(word.decode("utf-8", "replace")).name in RUNNERS for word in words)


def _stat_self(proc: Path) -> tuple[str, int, str] | None:
    return _parse_stat(_text(proc / "self/stat"))


def _stat(pid: int, proc: Path) -> tuple[str, int, str] | None:
    return _parse_stat(_text(proc / str(pid) / "stat"))


def _parse_stat(text: str) -> tuple[str, int, str] | None:
    """(state, parent, start time) of proc(5)'s stat: fields 3, 4 and 22; field 2 may hold spaces and brackets."""
    fields = text.rpartition(")")[2].split()
    return (fields[0], int(fields[1]), fields[19]) if len(fields) > 19 else None


def _namespace(proc: Path) -> str:
    try:
        return str((proc / "self/ns/pid").readlink())
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""

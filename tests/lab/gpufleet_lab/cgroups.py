# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""One control group per host and one for the control plane, in every hierarchy of the machine (v1, hybrid or v2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .settings import CGROUP
from .shell import wait_until


@dataclass(frozen=True)
class Hierarchy:
    """A mounted cgroup hierarchy; `options` are those to mount it again (empty for v2)."""

    mountpoint: Path
    options: str

    @property
    def is_v2(self) -> bool:
        return not self.options


_V1_WORDS = ("rw", "ro", "xattr", "clone_children", "noprefix", "release_agent")


@cache
def hierarchies() -> tuple[Hierarchy, ...]:
    """Hierarchies under /sys/fs/cgroup, from /proc/self/mountinfo."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mountpoint = before.split()[4]
        kind, _, options = after.split()[:3]
        if not mountpoint.startswith("/sys/fs/cgroup"):
            continue
        if kind == "cgroup2":
            found.append(Hierarchy(Path(mountpoint), ""))
        elif kind == "cgroup":
            kept = [word for word in options.split(",") if word.split("=")[0] not in _V1_WORDS]
            if any(word.startswith("name=") for word in kept):
                kept.insert(0, "none")
            found.append(Hierarchy(Path(mountpoint), ",".join(kept)))
    return tuple(found)


def folders(name: str, parent: str = CGROUP) -> list[Path]:
    """The folder of one group (`a100-none`, `control-plane`) in each hierarchy."""
    return [hierarchy.mountpoint / parent / name for hierarchy in hierarchies()]


def create(name: str, parent: str = CGROUP) -> list[Path]:
    """Make a group ready to take processes; returns the folders whose cgroup.procs they join."""
    for hierarchy in hierarchies():
        above = hierarchy.mountpoint / parent
        (above / name).mkdir(parents=True, exist_ok=True)
        if hierarchy.is_v2 and len(hierarchies()) > 1:
            continue  # hybrid: the v1 hierarchies have the controllers, the machine's v2 tree is left as it is
        if hierarchy.is_v2:
            for folder in (hierarchy.mountpoint, above):
                available = (folder / "cgroup.controllers").read_text().split()
                (folder / "cgroup.subtree_control").write_text(" ".join(f"+{word}" for word in available))
        elif "cpuset" in hierarchy.options.split(","):
            # A new v1 cpuset is empty, and no process may enter an empty one.
            for folder in (above, above / name):
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (folder / file).write_text((folder.parent / file).read_text())
    return folders(name, parent)


def processes(name: str, parent: str = CGROUP) -> set[int]:
    """Pids (as the machine sees them) of every process in a group and its descendants."""
    found: set[int] = set()
    for folder in folders(name, parent):
        if not folder.exists():
            continue
        for file in folder.rglob("cgroup.procs"):
            try:
                found.update(int(pid) for pid in file.read_text().split())
            except OSError:
                continue  # the group went away, or it is a threaded v2 group whose processes its parent lists
    return found


def remove(name: str = "", parent: str = CGROUP) -> None:
    """Remove a group and all below it (everything of the lab without a name); its processes must be gone."""
    tops = folders(name, parent)

    def gone() -> bool:
        for top in tops:
            if not top.exists():
                continue
            below = sorted((path for path in top.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
            for folder in [*below, top]:
                try:
                    folder.rmdir()
                except OSError:
                    break  # a process that was just killed still counts for a moment
        return not any(top.exists() for top in tops)

    wait_until(gone, f"removal of the control groups {parent}/{name}", 20, every_s=0.05)


def memory_mib(name: str) -> float:
    """Memory of a group without page cache that the kernel can drop (kubelet's working set), in MiB."""
    for hierarchy in hierarchies():
        folder = hierarchy.mountpoint / CGROUP / name
        usage = folder / ("memory.current" if hierarchy.is_v2 else "memory.usage_in_bytes")
        if not usage.exists():
            continue
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        droppable = int(statistics.get("inactive_file" if hierarchy.is_v2 else "total_inactive_file", 0))
        return max(0, int(usage.read_text()) - droppable) / 2**20
    return 0.0


def left() -> list[Path]:
    """Folders of the lab that exist in any hierarchy."""
    return [path for hierarchy in hierarchies() if (path := hierarchy.mountpoint / CGROUP).exists()]

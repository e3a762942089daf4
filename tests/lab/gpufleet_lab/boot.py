#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""From a process of this machine to process 1 of a host (or of the control plane).

Stands alone (standard library only). Usage: boot.py SPEC.json. It enters the control groups, makes the namespaces,
forks, prints the child's pid and ends. The child waits for a line on standard input (meanwhile the caller gives it its
network cable; end of file means that the caller died), makes its root file system and becomes `init`. SPEC:
    name, console (log file), cgroup_procs [files], namespaces [names], init [command], environment {of init}
    attached: true     stay instead: init ends with us and we with our parent; exit REBOOT when init asked for a reboot
    root {mountpoint, lower [folders], upper, work, binds [[source, target]...], cgroups [[folder name, options]...],
          sysctls {name: value}, read_only [folders]}     without it the machine's file system stays
    network [lines for `ip -batch`], before [commands to run in the new root first]
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_NAMESPACES = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 4, 8, 32
_MS_BIND, _MS_REC, _MS_PRIVATE, _MS_SHARED = 0x1000, 0x4000, 0x40000, 0x100000
_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1
REBOOT = 3
# mem(4) device numbers that every Linux has.
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


def _call(function: str, *arguments: object) -> None:
    """Call a libc function that returns 0 or sets errno."""
    ready = [item.encode() if isinstance(item, str) else item for item in arguments]
    if getattr(_LIBC, function)(*ready) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}{arguments}: {os.strerror(number)}")


def _mount(source: str, target: Path, kind: str | None = None, flags: int = 0, options: str = "") -> None:
    _call("mount", source, str(target), kind, ctypes.c_ulong(flags), options or None)


def _bind(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _mount(str(source), target, None, _MS_BIND | _MS_REC)


def _make_devices(dev: Path) -> None:
    _mount("tmpfs", dev, "tmpfs", _MS_NOSUID, "mode=755,size=64m")
    os.umask(0)
    for name, numbers in _DEVICES.items():
        os.mknod(dev / name, 0o666 | stat.S_IFCHR, os.makedev(*numbers))
    os.mknod(dev / "kmsg", 0o644 | stat.S_IFCHR, os.makedev(1, 11))
    os.umask(0o022)
    for name in ("pts", "shm", "mqueue"):
        (dev / name).mkdir()
    _mount("devpts", dev / "pts", "devpts", _MS_NOSUID | _MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5")
    _mount("tmpfs", dev / "shm", "tmpfs", _MS_NOSUID | _MS_NODEV)
    _mount("mqueue", dev / "mqueue", "mqueue", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    for name, points_to in (
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ):
        (dev / name).symlink_to(points_to)


def _mount_cgroups(folder: Path, hierarchies: list[list[str]]) -> None:
    """The host's own view of its control groups: v1 hierarchies under a tmpfs, or v2 alone."""
    if hierarchies == [["", ""]]:
        _mount("cgroup2", folder, "cgroup2")
        # v2 lets no group have both processes and children with controllers: process 1 moves one down.
        (folder / "init").mkdir(exist_ok=True)
        (folder / "init" / "cgroup.procs").write_text(str(os.getpid()))
        available = (folder / "cgroup.controllers").read_text().split()
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{word}" for word in available))
        return
    _mount("tmpfs", folder, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "mode=755")
    for name, options in hierarchies:
        (folder / name).mkdir()
        _mount("cgroup", folder / name, "cgroup" if options else "cgroup2", 0, options)
        for controller in name.split(",") if "," in name else []:
            (folder / controller).symlink_to(name)


def _make_root(spec: dict[str, Any], name: str) -> None:
    root = Path(spec["mountpoint"])
    for folder in (root, Path(spec["upper"]), Path(spec["work"])):
        folder.mkdir(parents=True, exist_ok=True)
    layers = f"lowerdir={':'.join(spec['lower'])},upperdir={spec['upper']},workdir={spec['work']}"
    _mount("overlay", root, "overlay", 0, layers)
    for name_in_root in ("proc", "sys", "dev", "run", "tmp"):
        (root / name_in_root).mkdir(exist_ok=True)
    _mount("proc", root / "proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _mount("sysfs", root / "sys", "sysfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _mount_cgroups(root / "sys/fs/cgroup", spec["cgroups"])
    _make_devices(root / "dev")
    _mount("tmpfs", root / "run", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755")
    _mount("tmpfs", root / "tmp", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=1777")
    (root / "run/lock").mkdir()
    (root / "run/sshd").mkdir(mode=0o755)
    for source, target in spec["binds"]:
        # sysfs and procfs take no new files: what this kernel does not have cannot be covered.
        on = root / target.lstrip("/")
        if on.exists() or not target.startswith(("/proc/", "/sys/")):
            _bind(Path(source), on)
    (root / "proc/sys/net/ipv4/ip_forward").write_text("1")
    # Files of the host over sysctls that belong to the whole machine, so that kubelet leaves the machine's alone.
    covers = root / "run/gpufleet-lab/sysctl"
    covers.mkdir(parents=True)
    for key, value in spec["sysctls"].items():
        covered = root / "proc/sys" / key
        if covered.exists():
            cover = covers / key.replace("/", ".")
            cover.write_text(f"{value}\n")
            _bind(cover, covered)
    for folder in spec.get("read_only", []):
        _bind(root / folder.lstrip("/"), root / folder.lstrip("/"))
        _mount("none", root / folder.lstrip("/"), None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY)
    socket.sethostname(name)
    os.chdir(root)
    _call("pivot_root", ".", ".")
    _call("umount2", ".", ctypes.c_int(_MNT_DETACH))
    os.chdir("/")
    # As systemd does: a pod with Bidirectional propagation must be able to hand mounts to the host.
    _mount("none", Path("/"), None, _MS_REC | _MS_SHARED)


def _become_init(spec: dict[str, Any]) -> None:
    if sys.stdin.readline() != "go\n":
        os._exit(1)
    os.setsid()
    console = os.open(spec["console"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, source in enumerate((nothing, console, console)):
        os.dup2(source, number)
    os.closerange(3, 256)
    _mount("none", Path("/"), None, _MS_REC | _MS_PRIVATE)
    if spec.get("network"):
        ip = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "ip"
        subprocess.run([ip, "-batch", "-"], input="\n".join(spec["network"]) + "\n", text=True, check=True)
    if "root" in spec:
        _make_root(spec["root"], spec["name"])
        os.environ.clear()
        os.environ.update(
            PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            HOME="/root",
            LANG="C.UTF-8",
            **spec.get("environment", {}),
        )
    else:
        _mount("proc", Path("/proc"), "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    for command in spec.get("before", []):
        subprocess.run(command, check=True)
    os.execvp(spec["init"][0], spec["init"])  # noqa: S606


def _end_with_parent() -> None:
    _call("prctl", ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(signal.SIGKILL))


def _stay(child: int) -> None:
    """Wait for process 1 of a host. The kernel ends it with SIGHUP for reboot(2), with SIGINT for power off."""
    _, status = os.waitpid(child, 0)
    os._exit(REBOOT if os.waitstatus_to_exitcode(status) == -signal.SIGHUP else 0)


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    for file in spec["cgroup_procs"]:
        Path(file).write_text(str(os.getpid()))
    flags = 0
    for name in spec["namespaces"]:
        flags |= _NAMESPACES[name]
    _call("unshare", ctypes.c_int(flags))
    if spec.get("attached"):
        _end_with_parent()
    child = os.fork()
    if child:
        print(child, flush=True)
        if spec.get("attached"):
            _stay(child)
        os._exit(0)
    try:
        if spec.get("attached"):
            _end_with_parent()
        _become_init(spec)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"boot of {spec['name']}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


if __name__ == "__main__":
    main()

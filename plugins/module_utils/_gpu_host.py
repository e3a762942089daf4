# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a GPU host is before and beside its driver: boards on the PCI bus, kernel modules, packages, files, units."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RUNTIMES = {
    "k3s.service": "k3s",
    "k3s-agent.service": "k3s",
    "rke2-server.service": "rke2",
    "rke2-agent.service": "rke2",
    "crio.service": "crio",
    "containerd.service": "containerd",
    "docker.service": "docker",
}
"""Units that run containers, the most special first: k3s and RKE2 have a containerd of their own.

Theirs: k3s and k3s-agent (k3s-io/k3s 0136cf258954, install.sh: k3s-NAME with INSTALL_K3S_NAME), rke2-server and
rke2-agent (rancher/rke2 v1.36.0+rke2r1, bundle/lib/systemd/system); RKE2's tarball brings both of them to every host.
"""
_NVIDIA = "0x10de"
_MODULES = ("nvidia", "nvidia_uvm", "nvidia_modeset", "nvidia_drm", "nouveau")
_SECURE_BOOT = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_FAMILIES = {"debian": "debian", "ubuntu": "ubuntu", "rhel": "redhat", "fedora": "redhat", "centos": "redhat"}


def read(packages: Sequence[str], files: Sequence[str], units: Sequence[str]) -> dict[str, Any]:
    """All of it; works on a host without a driver and for any user, but for what only root may see."""
    kernel = os.uname().release
    return {
        "distribution": _distribution(_text(Path("/etc/os-release"))),
        "kernel": kernel,
        "architecture": os.uname().machine,
        "headers": Path("/lib/modules", kernel, "build").exists(),
        **boards(),
        **_driver(_text(Path("/proc/driver/nvidia/version"))),
        "modules": {name: _users(name) for name in _MODULES if Path("/sys/module", name).is_dir()},
        "display": _display_processes(),
        "secure_boot": _secure_boot(Path("/sys/firmware/efi/efivars") / _SECURE_BOOT),
        "signed": _signed(),
        "packages": _packages(packages),
        "initramfs_stale": any(_newer_than_initramfs(Path(path), kernel) for path in files),
        "files": {path: _text(Path(path), None) for path in files},
        "units": (found := _units(units)),
        "container_runtimes": container_runtimes(found),
    }


def container_runtimes(units: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Kind and unit of each container runtime among the units, the one in use first.

    A unit that is only there may be that of another kind of node: one that runs comes first, then one that boots.
    """
    there = [units[name] for name in RUNTIMES if name in units]
    ranked = sorted(there, key=lambda unit: 0 if unit["active"] else 1 if unit["enabled"] else 2)
    return [{"kind": RUNTIMES[unit["name"]], "unit": unit["name"]} for unit in ranked]


def _text(path: Path, otherwise: Any = "") -> Any:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return otherwise


def _distribution(release: str) -> dict[str, Any]:
    """Name and version, and the family whose packages it takes (None: one that is not known here)."""
    values = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', release, re.MULTILINE))
    kinds = [values.get("ID", ""), *values.get("ID_LIKE", "").split()]
    family = next((_FAMILIES[kind] for kind in kinds if kind in _FAMILIES), None)
    return {
        "id": values.get("ID", ""),
        "version": values.get("VERSION_ID", ""),
        "name": values.get("PRETTY_NAME", "an unknown system"),
        "family": family,
    }


def boards() -> dict[str, Any]:
    """GPUs (display or 3D controllers) and the number of NVSwitches (bridges) of NVIDIA's on the PCI bus."""
    bus = Path("/sys/bus/pci/devices")
    gpus, switches = [], 0
    for folder in sorted(bus.iterdir()) if bus.is_dir() else []:
        if _text(folder / "vendor").strip() != _NVIDIA:
            continue
        kind = _text(folder / "class").strip()
        if kind.startswith("0x03"):
            device = _text(folder / "device").strip()[2:].upper()
            gpus.append({"pci_bus_id": folder.name, "pci_device_id": f"0x{device}10DE"})
        elif kind.startswith("0x0680"):
            switches += 1
    return {"gpus": gpus, "nvswitches": switches}


def _driver(version: str) -> dict[str, Any]:
    """The driver whose kernel module is loaded."""
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", version)
    flavour = "open" if "Open Kernel Module" in version else "proprietary"
    return {"loaded": {"version": found[1], "kernel_modules": flavour} if found else None}


def _users(module: str) -> int:
    return int(_text(Path("/sys/module", module, "refcnt")).strip() or 0)


def _display_processes() -> list[str]:
    """Programs that drive a display through nvidia_drm: they have its devices open."""
    found = set()
    if not Path("/sys/module/nvidia_drm").is_dir():
        return []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            opened = {str(link.readlink()) for link in (folder / "fd").iterdir()}
        except OSError:
            continue
        if any(path == "/dev/nvidia-modeset" or path.startswith("/dev/dri/card") for path in opened):
            found.add(_text(folder / "comm").strip())
    return sorted(found)


def _secure_boot(variable: Path) -> bool:
    """The last byte of the EFI variable says it; a host without EFI has none."""
    try:
        return variable.read_bytes()[-1:] == b"\x01"
    except OSError:
        return False


def _signed() -> bool:
    """Whether the kernel takes the driver's module under Secure Boot: it has a signer, or DKMS's key is enrolled."""
    if _run("modinfo", "--field", "signer", "nvidia").strip():
        return True
    return "is already enrolled" in _run("mokutil", "--test-key", "/var/lib/dkms/mok.pub")


def _newer_than_initramfs(path: Path, kernel: str) -> bool:
    """A file about modules that the initramfs does not have yet: its build failed, or the run ended before it."""
    images = (Path("/boot", f"initrd.img-{kernel}"), Path("/boot", f"initramfs-{kernel}.img"))
    built = [image.stat().st_mtime for image in images if image.exists()]
    is_about_modules = path.parent == Path("/etc/modprobe.d") and path.exists()
    return is_about_modules and bool(built) and path.stat().st_mtime > max(built)


def _run(*command: str) -> str:
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        return ""
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        [program, *command[1:]], capture_output=True, text=True, check=False, env=environment, timeout=60
    )
    return done.stdout


def _packages(patterns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Installed packages whose names match, with version (without epoch) and whether they are held."""
    if not patterns:
        return {}
    if shutil.which("dpkg-query"):
        lines = _run("dpkg-query", "--show", "--showformat", "${Package}\t${Version}\t${db:Status-Abbrev}\n")
        rows = [line.split("\t") for line in lines.splitlines()]
        found = {row[0]: (row[1], row[2].startswith("h")) for row in rows if row[2][1:2] == "i"}
    else:
        lines = _run("rpm", "--query", "--all", "--queryformat", "%{NAME}\t%{VERSION}-%{RELEASE}\n")
        locked = _text(Path("/etc/dnf/plugins/versionlock.list"))
        rows = [line.split("\t") for line in lines.splitlines()]
        found = {row[0]: (row[1], re.search(rf"^{re.escape(row[0])}-", locked, re.M) is not None) for row in rows}
    return {
        name: {"version": version.rpartition(":")[2], "held": held}
        for name, (version, held) in sorted(found.items())
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


def _units(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of each unit that systemd knows: whether it runs, whether it is started at boot, and its processes."""
    if not names:
        return {}
    shown = _run("systemctl", "show", "--property=Id,LoadState,ActiveState,UnitFileState,ControlGroup", *names)
    blocks: list[Mapping[str, str]] = [
        dict(line.partition("=")[::2] for line in block.splitlines()) for block in shown.split("\n\n")
    ]
    return {
        block["Id"]: {
            "name": block["Id"],
            "active": block.get("ActiveState") in ("active", "activating"),
            "enabled": block.get("UnitFileState") == "enabled",
            "pids": _processes(block.get("ControlGroup", "")),
        }
        for block in blocks
        if block.get("Id") and block.get("LoadState") == "loaded"
    }


def _processes(group: str) -> list[int]:
    """Of a unit's control group, where systemd has it on v2 or on v1."""
    for hierarchy in ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd"):
        text = _text(Path(f"{hierarchy}{group}/cgroup.procs")) if group else ""
        if text:
            return [int(pid) for pid in text.split()]
    return []

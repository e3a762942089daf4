# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host itself says about its GPUs beside NVML: machine, PCI, processes, and resetting from outside."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODES = {0x0300: "graphics", 0x0302: "compute"}
"""PCI base and sub class of a display controller, and what such a GPU is used for (GPU feature discovery's words)."""

RESET_SECONDS = 300
"""How long nvidia-smi may take for a reset; eight GPUs with NVLink take well under a minute."""


def machine() -> str:
    """The product name in the host's firmware tables, "unknown" where it has none."""
    return _read(Path("/sys/class/dmi/id/product_name")) or "unknown"


def has_systemd() -> bool:
    """Whether systemd is the init of this host (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def runs(program: str) -> bool:
    """Whether a process of this name runs in this PID namespace. The kernel keeps 15 characters of it."""
    return any(_read(folder / "comm") == program[:15] for folder in Path("/proc").glob("[0-9]*"))


def digest(path: str) -> str | None:
    """The SHA-256 of a file, None where there is none."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None


def gpu_mode(pci_bus_id: str) -> str:
    """compute, graphics or unknown, by the PCI class of the GPU."""
    found = _read(_pci_folder(pci_bus_id) / "class")
    return MODES.get(int(found, 16) >> 8, "unknown") if found else "unknown"


def process_name(pid: int) -> str | None:
    """The name of a process of this PID namespace; None where it has gone or belongs to another."""
    return _read(Path(f"/proc/{pid}/comm")) or None


def openers(minor: int) -> list[dict[str, Any]]:
    """Processes of this PID namespace that hold /dev/nvidia<minor> open, as {pid, name}; needs root to see all."""
    node = Path(f"/dev/nvidia{minor}")
    if not node.exists():
        return []
    wanted = node.stat().st_rdev
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and _holds(folder / "fd", wanted):
            found.append({"pid": int(folder.name), "name": process_name(int(folder.name))})
    return sorted(found, key=lambda process: int(process["pid"]))


def _holds(folder: Path, device: int) -> bool:
    try:
        return any(link.stat().st_rdev == device for link in folder.iterdir())
    except OSError:  # the process or one of its files went away, or belongs to another user
        return False


@dataclass(frozen=True)
class Reset:
    """The outcome of a reset from outside: `done`, and what nvidia-smi said."""

    done: bool
    said: str


def reset_gpus(pci_bus_ids: Sequence[str]) -> Reset:
    """Reset the GPUs in one command: GPUs joined by NVLink may have to be reset together.

    NVML has no function for it. Nothing may hold the GPUs meanwhile, this process's NVML neither.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return Reset(False, "nvidia-smi is not installed on this host")
    command = [program, "--gpu-reset", "-i", ",".join(pci_bus_ids)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=RESET_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Reset(False, f"nvidia-smi --gpu-reset did not end within {RESET_SECONDS} s")
    return Reset(ended.returncode == 0, " ".join(f"{ended.stdout} {ended.stderr}".split()))


def _pci_folder(pci_bus_id: str) -> Path:
    """NVML writes the domain with eight digits, the kernel with four."""
    domain, rest = pci_bus_id.lower().split(":", 1)
    return Path(f"/sys/bus/pci/devices/{int(domain, 16):04x}:{rest}")


def _read(path: Path) -> str:
    """The text of a small file, "" where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""

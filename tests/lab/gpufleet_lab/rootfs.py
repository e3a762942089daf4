# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Read-only layers that all hosts share: a Debian tree, Kubernetes' programs, the simulated driver."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from . import binaries
from .console import step
from .settings import CACHE, DEBIAN_SUITE, DRIVER_VERSION, HOST_PACKAGES, LAB_SOURCE, LabError
from .shell import digest_of, run, whole_folder

_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_HOST_PROGRAMS = {
    "usr/bin": (
        "kubelet",
        "kubectl",
        "containerd",
        "containerd-shim-runc-v2",
        "ctr",
        "runc",
        "nvidia-ctk",
        "nvidia-cdi-hook",
        "nvidia-container-runtime",
        "nvidia-container-runtime.cdi",
    ),
    "opt/cni/bin": ("bridge", "host-local", "loopback"),
}


def base_tree(packages: tuple[str, ...] = HOST_PACKAGES, suite: str = DEBIAN_SUITE) -> Path:
    """The Debian tree of a GPU host; made once per suite and package list."""
    return CACHE / "base" / f"{suite}-{digest_of([suite, *packages])}"


def build_base_tree(packages: tuple[str, ...] = HOST_PACKAGES, suite: str = DEBIAN_SUITE) -> None:
    target = base_tree(packages, suite)
    if target.exists():
        return
    with step(f"making the Debian {suite} tree of the GPU hosts", 120), whole_folder(target) as scratch:
        run(
            "nice", "debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, scratch,
            env={"LC_ALL": "C"}, whole_tree=True,
        )  # fmt: skip
        for leftover in (scratch / "var/cache/apt/archives").glob("*.deb"):
            leftover.unlink()
        shutil.rmtree(scratch / "var/lib/apt/lists")
        # Each host brings its own: a shared one would make two hosts look like one machine.
        (scratch / "etc/machine-id").unlink(missing_ok=True)
        for key in (scratch / "etc/ssh").glob("ssh_host_*"):
            key.unlink()


def programs_layer() -> Path:
    """Kubernetes node programs, the toolkit and the lab's own supervisor, as they lie on a host."""
    built = [str(binaries.program(name)) for names in _HOST_PROGRAMS.values() for name in names]
    return CACHE / "layers" / f"programs-{digest_of([*built, _supervisor(), _service_command()])}"


def build_programs_layer() -> None:
    target = programs_layer()
    if target.exists():
        return
    with whole_folder(target) as scratch:
        for folder, names in _HOST_PROGRAMS.items():
            (scratch / folder).mkdir(parents=True)
            for name in names:
                os.link(binaries.program(name), scratch / folder / name)
        lab = scratch / "usr/local/lib/gpufleet-lab"
        lab.mkdir(parents=True)
        shutil.copy(_supervisor(), lab / "supervisor.py")
        (scratch / "usr/local/sbin").mkdir(parents=True)
        shutil.copy(_service_command(), scratch / "usr/local/sbin/lab-service")
        (scratch / "usr/local/sbin/lab-service").chmod(0o755)


def _supervisor() -> Path:
    return LAB_SOURCE / "gpufleet_lab" / "supervisor.py"


def _service_command() -> Path:
    return LAB_SOURCE / "gpufleet_lab" / "lab_service.py"


def driver_layer(simulator: Path) -> Path:
    """The simulated driver's files where a Debian installation of the real one has them.

    `simulator` is a finished build of tests/simulator; its folder name carries the digest of its sources.
    """
    return CACHE / "layers" / f"driver-{simulator.name}-{DRIVER_VERSION}"


def build_driver_layer(simulator: Path) -> None:
    target = driver_layer(simulator)
    if target.exists():
        return
    for name in ("libnvidia-ml.so.1", "libcuda.so.1", "nvidia-smi", "simctl"):
        if not (simulator / name).is_file():
            raise LabError(f"The simulator's build has no {name} ({simulator}).")
    with whole_folder(target) as scratch:
        libraries = scratch / _LIBRARIES
        libraries.mkdir(parents=True)
        for stem in ("libnvidia-ml.so", "libcuda.so"):
            shutil.copy(simulator / f"{stem}.1", libraries / f"{stem}.{DRIVER_VERSION}")
            (libraries / f"{stem}.1").symlink_to(f"{stem}.{DRIVER_VERSION}")
        (scratch / "usr/bin").mkdir(parents=True)
        for name in ("nvidia-smi", "simctl"):
            shutil.copy(simulator / name, scratch / "usr/bin" / name)
            (scratch / "usr/bin" / name).chmod(0o755)

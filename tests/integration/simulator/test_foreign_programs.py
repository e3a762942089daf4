# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Programs that know nothing of the simulation, on its library and host files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from integration.modules.simulated_host import BUILD, ROOT
from integration.simulator.conftest import MakeHost
from integration.simulator.nvml_host import A100, H100, NvmlHost, gpu
from lab.gpufleet_lab.binaries import build_group, group, program

ENDS = ("access", "ci0/access")
LIBRARIES = "usr/lib/x86_64-linux-gnu"


@pytest.fixture
def host(make_host: MakeHost) -> NvmlHost:
    """An A100 with three instances and an H100 without MIG, with their files under root/."""
    host = make_host({"product": A100, "mig": "enabled"}, H100)
    assert host.smi("mig", "-i", 0, "-cgi", "9,14,19", "-C").returncode == 0
    host.simctl("files", str(host.folder / "root"))
    return host


def inside(host: NvmlHost, *words: str) -> str:
    """What a program prints where the simulated files cover the kernel's."""
    enter = [str(ROOT / "tests/simulator/enter.sh"), str(host.folder / "root")]
    done = subprocess.run([*enter, *words], capture_output=True, text=True, env=host.environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_driver_and_its_gpus_are_found_where_a_kernel_has_them(host: NvmlHost) -> None:
    modules = inside(host, "cat", "/proc/modules").splitlines()
    assert "nvidia" in [line.split(" ")[0] for line in modules]
    assert inside(host, "ls", "/sys/bus/pci/devices").split() == ["0000:07:00.0", "0000:0f:00.0"]
    assert "580.82.07" in inside(host, "cat", "/proc/driver/nvidia/version")
    assert inside(host, "cat", "/proc/self/comm") == "cat\n"  # the rest of /proc is the kernel's
    assert (
        not Path("/proc/driver/nvidia").exists() or "simulated" not in Path("/proc/driver/nvidia/version").read_text()
    )


def driver_root(host: NvmlHost) -> Path:
    """The simulated driver's files under root/, as a Debian installation of the real one has them."""
    root = host.folder / "root"
    libraries = root / LIBRARIES
    libraries.mkdir(parents=True)
    for stem in ("libnvidia-ml.so", "libcuda.so"):
        shutil.copy(BUILD / f"{stem}.1", libraries / f"{stem}.580.82.07")
        (libraries / f"{stem}.1").symlink_to(f"{stem}.580.82.07")
    (root / "usr/bin").mkdir(parents=True)
    shutil.copy(BUILD / "nvidia-smi", root / "usr/bin/nvidia-smi")
    return root


def nodes(device: dict[str, Any]) -> set[str]:
    return {node["path"] for node in device["containerEdits"]["deviceNodes"]}


@pytest.mark.slow
def test_nvidia_ctk_describes_the_devices_for_cdi(host: NvmlHost) -> None:
    """NVIDIA's container toolkit, unmodified: a device per instance with its two capability nodes, whole GPUs, all."""
    build_group(group("nvidia"))
    root = driver_root(host)
    roots = [f"--driver-root={root}", f"--dev-root={root}"]
    written = yaml.safe_load(inside(host, str(program("nvidia-ctk")), "cdi", "generate", *roots))
    devices = {device["name"]: nodes(device) for device in written["devices"]}
    uuids = host.ask(lambda: gpu().uuids())
    whole = {name for name in devices if name.startswith("GPU-")}
    assert len(whole) == 1  # the H100; the A100 is in parts
    assert devices.keys() == {"0:0", "0:1", "0:2", "1", "all", *uuids, *whole}
    assert written["kind"] == "nvidia.com/gpu"

    minors = dict(
        line.rsplit(" ", 1) for line in (root / "proc/driver/nvidia-caps/mig-minors").read_text().splitlines()
    )
    wanted = [
        {"/dev/nvidia0", *(f"/dev/nvidia-caps/nvidia-cap{minors[f'gpu0/gi{number}/{end}']}" for end in ENDS)}
        for number in host.ask(lambda: [one.info.id for one in gpu().instances()])
    ]
    assert sorted(map(sorted, (devices[uuid] for uuid in uuids))) == sorted(map(sorted, wanted))
    assert devices["1"] == {"/dev/nvidia1"}

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The files that NVIDIA's driver and the kernel have beside the library, which other programs read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pynvml
import pytest
from integration.simulator.conftest import MakeHost
from integration.simulator.nvml_host import A100, H100, gpu


@pytest.fixture
def root(make_host: MakeHost) -> Path:
    """The files of a host with an A100 that holds one instance of id `instance`, and an H100."""
    host = make_host({"product": A100, "mig": "enabled"}, H100)

    def fill() -> int:
        made = gpu().create(9, 0)
        made.fill(2)
        return int(made.info.id)

    instance = host.ask(fill)
    files = host.folder / "root"
    host.simctl("files", str(files))
    (files / "instance").write_text(str(instance))
    return files


def minors(root: Path) -> dict[str, int]:
    lines = (root / "proc/driver/nvidia-caps/mig-minors").read_text().splitlines()
    return {name: int(number) for name, number in (line.rsplit(" ", 1) for line in lines)}


def test_minors_have_the_published_numbers(root: Path) -> None:
    """NVIDIA's guide: config 1, monitor 2, gpu0/gi0 3, then nine per GPU instance: gi2 21, gi3 30, gi9 84."""
    found = minors(root)
    wanted = {"config": 1, "monitor": 2, "gpu0/gi0/access": 3, "gpu0/gi0/ci0/access": 4, "gpu0/gi9/access": 84}
    wanted |= {"gpu0/gi2/access": 21, "gpu0/gi3/access": 30}
    assert {name: found[name] for name in wanted} == wanted
    assert len(set(found.values())) == len(found), "no number twice, on no GPU"
    assert "gpu1/gi0/access" in found


def test_every_pci_device_is_an_nvidia_display_controller(root: Path) -> None:
    devices = sorted((root / "sys/bus/pci/devices").iterdir())
    assert [device.name for device in devices] == ["0000:07:00.0", "0000:0f:00.0"]
    for device, product in zip(devices, ("0x20b0", "0x2330"), strict=True):
        assert (device / "vendor").read_text() == "0x10de\n"
        assert (device / "device").read_text() == f"{product}\n"
        assert (device / "class").read_text() == "0x030200\n"
        assert int((device / "numa_node").read_text()) >= 0
        config = (device / "config").read_bytes()
        assert config[:4] == bytes.fromhex("de10") + int(product, 16).to_bytes(2, "little")


def test_the_driver_is_described_where_programs_look(root: Path) -> None:
    assert "580.82.07" in (root / "proc/driver/nvidia/version").read_text()
    about = (root / "proc/driver/nvidia/gpus/0000:07:00.0/information").read_text()
    assert "NVIDIA A100-SXM4-40GB" in about
    assert "GPU-" in about


@pytest.mark.skipif(os.geteuid() != 0, reason="making device nodes needs root")
def test_device_nodes_are_there_for_what_exists(root: Path) -> None:
    found = minors(root)
    instance = int((root / "instance").read_text())
    wanted = {
        found[name] for name in ("config", "monitor", f"gpu0/gi{instance}/access", f"gpu0/gi{instance}/ci0/access")
    }
    caps = {int(node.name.removeprefix("nvidia-cap")): node for node in (root / "dev/nvidia-caps").iterdir()}
    assert caps.keys() == wanted
    for minor, node in caps.items():
        assert stat.S_ISCHR(node.stat().st_mode)
        assert os.minor(node.stat().st_rdev) == minor
    assert stat.S_IMODE(caps[1].stat().st_mode) == 0o400
    assert stat.S_IMODE(caps[2].stat().st_mode) == 0o444
    for name, minor in (("nvidia0", 0), ("nvidia1", 1), ("nvidiactl", 255)):
        device = (root / "dev" / name).stat().st_rdev
        assert (os.major(device), os.minor(device)) == (195, minor)


def test_where_two_gpus_meet_is_told_as_their_numa_nodes_are(make_host: MakeHost) -> None:
    """The device plugin chooses among whole GPUs by it, and refuses the pod where it cannot ask."""
    host = make_host(*[H100] * 8)

    def common(one: int, other: int) -> int:
        pair = (pynvml.nvmlDeviceGetHandleByIndex(index) for index in (one, other))
        return int(pynvml.nvmlDeviceGetTopologyCommonAncestor(*pair))

    levels = host.ask(lambda: (common(2, 2), common(0, 3), common(0, 4)))
    assert levels == (pynvml.NVML_TOPOLOGY_INTERNAL, pynvml.NVML_TOPOLOGY_NODE, pynvml.NVML_TOPOLOGY_SYSTEM)

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Another release of the distribution: another Python, systemd and apt under the same roles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from lab.gpufleet_lab import packages, realhosts

from .conftest import Host

pytestmark = pytest.mark.full

LAYOUT = [{"gpus": "all", "instances": [{"profile": "3g.20gb", "start": 4}, {"profile": "1g.5gb", "start": 2}]}]
STANDS = ["0 1g.5gb@2:1", "0 3g.20gb@4:4", "1 1g.5gb@2:1", "1 3g.20gb@4:4"]
SITE: dict[str, Any] = {"playbook": "site.yml", "mig_layout": LAYOUT, "container_toolkit_manage": True}


@pytest.fixture
def trixie(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Freshly installed, and off again afterwards: the host is there for these tests only."""
    real = realhosts.by_name("bare-a100-trixie")
    realhosts.up([real.name])
    realhosts.reinstall(real)
    yield Host(real, tmp_path_factory.mktemp(real.name))
    realhosts.power_cut(real)


def test_debian_13_from_a_bare_host_to_a_layout_that_comes_back(trixie: Host) -> None:
    host = trixie
    assert host.sh(". /etc/os-release; echo $ID$VERSION_ID; python3 -V; command -v sqv").split("\n") == [
        "debian13",
        host.sh("python3 -V"),
        "/usr/bin/sqv",  # apt's verification, which takes fewer keys than gpgv
    ]
    assert "Python 3.13." in host.sh("python3 -V")
    assert host.sh("systemctl --failed --no-legend") == ""

    boot = host.boot_id()
    tried = host.play(check=True, **SITE)
    assert tried.changed > 0
    assert "nvidia-driver-cuda" in tried.output
    assert host.sh("dpkg-query -W | grep -e nvidia -e libcuda || true") == ""
    assert host.sh("ls /etc/apt/sources.list.d /etc/apt/keyrings") == "/etc/apt/keyrings:\n\n/etc/apt/sources.list.d:"
    assert host.boot_id() == boot

    host.play(**SITE)
    assert host.boot_id() != boot
    assert host.sh("cat /sys/module/nvidia/version") == packages.DRIVERS[-1]
    assert host.listed() == STANDS
    assert host.sh("systemctl is-active nvidia-persistenced containerd") == "active\nactive"
    assert "runtimes.nvidia.options" in host.sh("containerd config dump")
    assert host.sh("nvidia-ctk cdi list").count("nvidia.com/gpu=") > 4
    held = set(host.sh("apt-mark showhold").split())
    assert {"nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-container-toolkit"} <= held

    settled = host.boot_id()
    assert host.play(**SITE).changed == 0
    assert host.play(check=True, **SITE).changed == 0
    assert host.boot_id() == settled

    for again in (host.reboot, host.power_cycle):
        again()
        assert host.listed() == STANDS
        host.restored_before_containerd()
    assert host.sh("systemctl --failed --no-legend") == ""
    assert host.play(**SITE).changed == 0


def test_debian_13_gets_rid_of_it_all(trixie: Host) -> None:
    host = trixie
    host.play(**SITE)
    uninstall = {
        **SITE,
        "playbook": "gpufleet.mig.uninstall",
        "mig_confirm_uninstall": True,
        "mig_uninstall_layout": True,
        "container_toolkit_state": "absent",
        "driver_state": "absent",
    }
    assert host.play(check=True, **uninstall).changed > 0
    assert host.listed() == STANDS
    assert "nvidia-container-toolkit" in host.sh("apt-mark showhold")
    said = host.play(**uninstall).output
    assert f"The driver goes from {host.host.name}, which reboots." in said
    assert host.sh("dpkg-query -W | grep -e nvidia -e libcuda || true") == ""
    assert host.sh("find /etc -name *gpufleet* -not -path /etc/gpufleet-lab*") == ""
    assert host.sh("ls /sys/module") == "nouveau"
    assert host.sh("systemctl --failed --no-legend") == ""

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The container toolkit comes, follows the layout, and goes without a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Host

Bare = Callable[[str], Host]


@pytest.mark.full
def test_toolkit_comes_and_goes(bare: Bare) -> None:
    host = bare("bare-h100")
    toolkit: dict[str, Any] = {"container_toolkit_manage": True}
    before = host.sh("cat /etc/containerd/config.toml")
    host.play("driver")
    pid = host.sh("systemctl show -P MainPID containerd")

    assert host.play("container_toolkit", check=True, **toolkit).changed > 0
    assert host.sh("cat /etc/containerd/config.toml") == before
    host.play("container_toolkit", **toolkit)
    dump = host.sh("containerd config dump")
    assert "runtimes.nvidia.options" in dump
    assert "restrict_oom_score_adj = true" in dump
    assert host.sh("systemctl show -P MainPID containerd") != pid
    settings = host.sh("cat /etc/nvidia-container-runtime/config.toml")
    assert "\naccept-nvidia-visible-devices-envvar-when-unprivileged = false" in settings
    assert host.sh("apt-mark showhold").count("nvidia-container-toolkit") == 2

    pid = host.sh("systemctl show -P MainPID containerd")
    assert host.play("container_toolkit", **toolkit).changed == 0
    host.sh("rm /etc/cdi/nvidia.yaml")
    assert host.play("container_toolkit", **toolkit).changed == 1
    assert host.sh("systemctl show -P MainPID containerd") == pid

    unit = "gpufleet-cdi.service"
    assert host.sh(f"systemd-analyze verify --man=no /etc/systemd/system/{unit} 2>&1") == ""
    assert host.play("container_toolkit", container_toolkit_cdi=False, **toolkit).changed > 0
    assert host.sh("find /etc/systemd -name gpufleet*") == ""
    assert host.play("container_toolkit", check=True, **toolkit).changed == 1
    host.play("container_toolkit", **toolkit)
    assert host.sh(f"systemctl is-enabled {unit}") == "enabled"

    host.play("container_toolkit", container_toolkit_state="absent", **toolkit)
    assert host.sh("cat /etc/containerd/config.toml") == before
    assert host.sh("ls /etc/cdi /etc/containerd/conf.d") == "/etc/cdi:\n\n/etc/containerd/conf.d:"
    assert host.sh("dpkg-query -W | grep container-toolkit || true") == ""
    assert host.sh("find /etc/systemd -name gpufleet*") == ""
    assert host.play("container_toolkit", container_toolkit_state="absent", **toolkit).changed == 0

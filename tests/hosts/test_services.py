# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A change of the MIG mode on a host where services hold the GPUs, and one that takes effect only at a reboot."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import Host

Bare = Callable[[str], Host]
LAYOUT = [{"gpus": 0, "instances": {"1g.5gb": 3}}]


@pytest.mark.full
def test_services_make_way_and_come_back(bare: Bare) -> None:
    host = bare("bare-a100")
    host.play("driver")
    host.sh("apt-get install -y datacenter-gpu-manager-4-core >/dev/null && systemctl enable --now nvidia-dcgm")
    before = host.sh("systemctl show -P MainPID nvidia-dcgm")

    host.play("mig", mig_layout=LAYOUT)
    assert len([found for found in host.instances() if found]) == 3
    after = host.sh("systemctl show -P MainPID nvidia-dcgm")
    assert host.sh("systemctl is-active nvidia-dcgm nvidia-persistenced") == "active\nactive"
    assert after not in ("0", before)

    # Without a change of the mode nothing is stopped.
    host.play("mig", mig_layout=[{"gpus": 1, "mig": "disabled"}])
    assert host.sh("systemctl show -P MainPID nvidia-dcgm") == after

    # It holds one of the instances that go now.
    assert "nv-hostengine gi=" in host.simctl("show")
    host.play("mig", mig_layout=[{"gpus": 0, "instances": {"3g.20gb": 2}}])
    assert host.instances().count("3g.20gb start=0") == host.instances().count("3g.20gb start=4") == 1
    assert host.sh("systemctl is-active nvidia-dcgm nvidia-persistenced") == "active\nactive"


@pytest.mark.full
def test_services_come_back_when_the_change_fails(bare: Bare) -> None:
    host = bare("bare-a100")
    host.play("driver")
    host.sh("apt-get install -y datacenter-gpu-manager-4-core >/dev/null && systemctl enable --now nvidia-dcgm")
    host.simctl("fault", "nvmlDeviceSetMigMode", "--calls", "1-", "--return", "999")
    assert host.play("mig", mig_layout=LAYOUT, ok=False).rc == 2
    assert host.sh("systemctl is-active nvidia-dcgm nvidia-persistenced") == "active\nactive"
    host.simctl("clear-faults")


@pytest.mark.full
def test_a_mode_that_needs_a_reboot(bare: Bare) -> None:
    host = bare("bare-a100")
    host.play("driver")
    host.simctl("passthrough", "0", "on")
    boot = host.boot_id()
    stopped = host.play("mig", mig_layout=LAYOUT, mig_mode_changes=["reboot"], ok=False)
    assert "takes effect only after a reboot" in " ".join(stopped.output.split())
    assert host.boot_id() == boot
    host.play("mig", mig_layout=LAYOUT, mig_mode_changes=["reboot"], mig_reboot="if_needed")
    assert host.boot_id() != boot
    assert len([found for found in host.instances() if found]) == 3
    assert host.play("mig", mig_layout=LAYOUT, mig_mode_changes=["reboot"], mig_reboot="if_needed").changed == 0

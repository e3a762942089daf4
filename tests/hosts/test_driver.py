# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""From a host without a driver to one with a layout, and what a user then does with the driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from lab.gpufleet_lab import packages, realhosts

from .conftest import Host

Bare = Callable[[str], Host]
OLD, NEW = packages.DRIVERS


def installed(host: Host) -> dict[str, str]:
    """Package to version, of NVIDIA's."""
    shown = host.sh("dpkg-query -W | grep -e nvidia -e libcuda || true")
    return dict(line.split("\t") for line in shown.splitlines())


def loaded(host: Host) -> str:
    return host.sh("cat /sys/module/nvidia/version 2>/dev/null || true")


def test_bare_host_to_layout(bare: Bare) -> None:
    host = bare("bare-a100")
    boot = host.boot_id()
    assert host.sh("ls /sys/module") == "nouveau"
    layout = [{"gpus": "all", "instances": {"3g.20gb": 2}}]
    site: dict[str, Any] = {"playbook": "site.yml", "mig_layout": layout, "container_toolkit_manage": True}

    for count, why in ((3, "cannot hold 3 x 3g.20gb"), ("two", "wants two instances of 3g.20gb")):
        wrong = {**site, "mig_layout": [{"gpus": "all", "instances": {"3g.20gb": count}}]}
        refused = " ".join(host.play(ok=False, **wrong).output.split())
        assert why in refused
        assert "Nothing was changed" in refused
    tried = host.play(check=True, **site)
    assert "nvidia-driver-cuda" in tried.output
    assert installed(host) == {}
    assert host.boot_id() == boot
    assert host.sh("ls /etc/apt/sources.list.d") == ""

    host.play(**site)
    assert loaded(host) == NEW
    assert host.boot_id() != boot
    assert host.instances().count("3g.20gb start=0") == host.instances().count("3g.20gb start=4") == 2
    assert {"nvidia-driver-cuda", "nvidia-kernel-open-dkms"} <= set(host.sh("apt-mark showhold").split())
    assert "nvidia-fabricmanager" not in installed(host)
    assert host.sh("systemctl is-active nvidia-persistenced") == "active"
    assert host.sh("nvidia-ctk cdi list").count("nvidia.com/gpu=0:") == 2
    settled = host.boot_id()

    assert host.play(**site).changed == 0
    assert host.play(check=True, **site).changed == 0
    assert host.boot_id() == settled


@pytest.mark.full
def test_upgrade_and_downgrade_under_a_layout(bare: Bare) -> None:
    host = bare("bare-h100")
    site: dict[str, Any] = {
        "playbook": "site.yml",
        "mig_layout": [{"gpus": 0, "instances": [{"profile": "3g.40gb", "start": 4}]}],
    }
    host.play(driver_version=OLD, driver_kernel_modules="proprietary", **site)
    assert loaded(host) == OLD
    assert "nvidia-fabricmanager-570" in installed(host)
    assert "Open" not in host.sh("cat /proc/driver/nvidia/version")
    assert host.sh("systemctl is-active nvidia-fabricmanager") == "active"
    stood = host.instances()
    assert "3g.40gb start=4" in stood
    boot = host.boot_id()

    refused = host.play("driver", driver_version="580", driver_reboot="never", ok=False)
    assert "needs a reboot" in refused.output
    assert "Nothing was changed" in refused.output
    assert loaded(host) == OLD
    assert host.boot_id() == boot

    host.play(driver_version="580", **site)
    assert loaded(host) == NEW
    assert "Open" in host.sh("cat /proc/driver/nvidia/version")
    assert set(installed(host).values()) == {f"{NEW}-1"}
    assert host.sh("systemctl is-active nvidia-fabricmanager") == "active"
    assert host.instances() == stood
    assert host.play(driver_version="580", **site).changed == 0

    host.play(driver_version="570", **site)
    assert loaded(host) == OLD
    assert "nvidia-fabricmanager-570" in installed(host)
    assert host.instances() == stood

    host.play("driver", driver_state="absent")
    assert installed(host) == {}
    assert loaded(host) == ""
    assert host.sh("ls /sys/module") == "nouveau"
    assert host.sh("ls /etc/apt/sources.list.d /etc/apt/preferences.d /etc/modprobe.d | grep gpufleet || true") == ""
    assert host.play("driver", driver_state="absent").changed == 0


@pytest.mark.full
def test_what_cannot_be_is_refused_before_anything_is_touched(bare: Bare) -> None:
    host = bare("bare-h100")
    refusals: dict[str, dict[str, Any]] = {
        "525.85.12": {"driver_version": "515"},
        "driver_manage to true": {"driver_manage": False},
        "is expected": {"driver_key_fingerprint": "0" * 40},
    }
    for words, variables in refusals.items():
        refused = host.play("driver", ok=False, **variables)
        assert refused.rc == 2
        assert words in " ".join(refused.output.split())
    variable = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    host.sh("mount -t tmpfs none /sys/firmware && mkdir -p /sys/firmware/efi/efivars")
    host.sh(f'python3 -c "open(\\"{variable}\\", \\"wb\\").write(bytes([6, 0, 0, 0, 1]))"')
    assert "mokutil --import" in host.play("driver", ok=False).output
    host.sh("umount /sys/firmware")
    host.sh("sed -i s/^ID=.*/ID=plan9/ /etc/os-release")
    assert "knows Debian, Ubuntu and the RHEL family" in " ".join(host.play("driver", ok=False).output.split())
    assert installed(host) == {}
    assert "gpufleet-n" not in host.sh("find /etc")


@pytest.mark.full
def test_versions_and_keys_that_are_not_there_leave_what_is_held(bare: Bare) -> None:
    """What is on hold stays so, or whatever upgrades the host would replace the driver under the running one."""
    host = bare("bare-a100")
    managed: dict[str, Any] = {"container_toolkit_manage": True}
    host.play("driver", "container_toolkit", driver_version=OLD, **managed)
    held = host.sh("apt-mark showhold").split()
    assert {"nvidia-driver-cuda", "nvidia-container-toolkit"} <= set(held)

    refused = host.play("driver", ok=False, driver_version="580.1.1")
    assert f"{host.host.name}: driver 580.1.1 was not installed (no available installation" in " ".join(
        refused.output.split()
    )
    assert host.sh("apt-mark showhold").split() == held
    refused = host.play("driver", ok=False, driver_version=NEW, driver_key_fingerprint="0" * 40)
    assert "is expected. Nothing was changed" in " ".join(refused.output.split())
    refused = host.play("container_toolkit", ok=False, container_toolkit_version="1.99.0", **managed)
    assert "the container runtime was left alone" in " ".join(refused.output.split())
    assert host.sh("apt-mark showhold").split() == held
    assert loaded(host) == OLD

    host.play("driver", driver_version=NEW)
    assert set(host.sh("apt-mark showhold").split()) == set(held)
    assert host.sh("apt-get -s upgrade | grep -c ^Inst || true") == "0"


@pytest.mark.full
def test_a_run_that_failed_and_a_power_cut_are_mended_by_the_next_run(bare: Bare) -> None:
    host = bare("bare-a100")
    host.sh(
        'printf "#!/bin/sh\\nexit 1\\n" > /usr/local/sbin/update-initramfs && chmod +x /usr/local/sbin/update-initramfs'
    )
    assert host.play("driver", ok=False).rc == 2
    realhosts.power_cut(host.host)
    realhosts.start(host.host)
    host.sh("rm /usr/local/sbin/update-initramfs")
    host.play("driver")
    assert loaded(host) == NEW

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What comes back after reboots and power cuts, by gpufleet-mig.service on hosts with systemd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from lab.gpufleet_lab import realhosts
from lab.gpufleet_lab.shell import wait_until

from .conftest import Host

pytestmark = pytest.mark.full

UNIT = "gpufleet-mig.service"
A100, H100 = "bare-a100", "bare-h100"
TIMEOUT_S = 10
PLACES: dict[str, list[dict[str, Any]]] = {
    A100: [{"profile": "3g.20gb", "start": 4}, {"profile": "1g.5gb", "start": 2}],
    H100: [{"profile": "1g.10gb", "start": 6}, {"profile": "3g.40gb", "start": 0}],
}
STANDS = {
    A100: ["0 1g.5gb@2:1", "0 3g.20gb@4:4", "1 1g.5gb@2:1", "1 3g.20gb@4:4"],
    H100: ["0 1g.10gb@6:1", "0 3g.40gb@0:4", "1 1g.10gb@6:1", "1 3g.40gb@0:4"],
}
LaidOut = Callable[[str], Host]


@pytest.fixture(scope="module")
def laid_out(running: None, tmp_path_factory: pytest.TempPathFactory) -> LaidOut:
    """Give a host of that name with driver, toolkit and layout; it is made from a bare one when first asked for."""
    made: dict[str, Host] = {}

    def give(name: str) -> Host:
        if name not in made:
            realhosts.reinstall(realhosts.by_name(name))
            host = Host(realhosts.by_name(name), tmp_path_factory.mktemp(name))
            host.variables.update(
                mig_layout=[{"gpus": "all", "instances": PLACES[name]}],
                mig_boot_timeout=TIMEOUT_S,
                container_toolkit_manage=True,
            )
            host.play(playbook="site.yml")
            made[name] = host
        assert made[name].listed() == STANDS[name]
        return made[name]

    return give


def seconds(host: Host, unit: str = UNIT) -> float:
    """From the start of the unit's command to its end."""
    begin, end = host.shown(unit, "ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic")
    return (int(end) - int(begin)) / 1e6


@pytest.mark.parametrize(("name", "mode_after_boot"), [(A100, "Enabled"), (H100, "Disabled")])
def test_a_reboot_takes_instances_and_they_are_back_before_the_container_runtime(
    laid_out: LaidOut, name: str, mode_after_boot: str
) -> None:
    host = laid_out(name)
    host.sh(f"systemctl disable {UNIT}")
    host.reboot()
    assert (host.listed(), host.modes()) == ([], [mode_after_boot] * 2)
    host.sh(f"systemctl enable {UNIT}")
    for again in (host.reboot, host.power_cycle):
        again()
        assert host.listed() == STANDS[name]
        host.restored_before_containerd()
        print(f"{name}, {again.__name__}: {seconds(host):.2f} s from the unit's start to the layout restored")
    assert host.sh("systemctl --failed --no-legend") == ""


def test_power_fails_in_the_middle_of_a_change(laid_out: LaidOut) -> None:
    """What stood before comes back, since the change did not end; the next run makes it."""
    host = laid_out(H100)
    for gpu in (0, 1):
        host.simctl("delay", str(gpu), "1500")
    other = [{"gpus": "all", "instances": {"1g.10gb": 7}}]
    with host.playing("mig", mig_layout=other):
        wait_until(lambda: any("1g.10gb@0" in one for one in host.listed()), "the change is under way", 60)
        host.sh("test -e /var/lib/gpufleet-mig/journal.json")
        realhosts.power_cut(host.host)
    host.start()
    assert host.listed() == STANDS[H100]
    assert "An earlier change of GPU 0, 1" in host.journal(UNIT)
    host.sh("test ! -e /var/lib/gpufleet-mig/journal.json")
    for gpu in (0, 1):
        host.simctl("delay", str(gpu), "0")


def test_a_hang_is_ended_and_the_boot_goes_on(laid_out: LaidOut) -> None:
    host = laid_out(H100)
    host.simctl("fault", "nvmlDeviceSetMigMode", "--gpu", "0", "--calls", "1-", "--delay", "600000")
    host.reboot()
    assert host.shown(UNIT, "ActiveState", "Result") == ["failed", "timeout"]
    assert TIMEOUT_S - 1 <= seconds(host) <= TIMEOUT_S + 5
    assert host.sh("systemctl is-active containerd multi-user.target") == "active\nactive"
    host.simctl("clear-faults")
    host.play(playbook="site.yml")
    assert host.listed() == STANDS[H100]
    assert host.sh("systemctl --failed --no-legend") == ""


def test_a_board_of_another_model(laid_out: LaidOut) -> None:
    """The last test of this host: its boards are others afterwards."""
    host = laid_out(A100)
    uuids = host.sh("nvidia-smi --query-gpu=uuid --format=csv,noheader").split()
    realhosts.power_cut(host.host)
    first = {"product": "a100-sxm4-40gb", "uuid": uuids[0], "mig": "enabled"}
    realhosts.swap(host.host, [first, {"product": "a100-sxm4-80gb"}])
    host.start()
    assert host.listed() == [one for one in STANDS[A100] if one.startswith("0 ")]
    assert host.modes() == ["Enabled", "Disabled"]
    told = host.journal(UNIT)
    assert f"NVIDIA A100-SXM4-40GB {uuids[1]}" in told
    assert "was replaced by a NVIDIA A100-SXM4-80GB (GPU 1), which is left as it is." in told
    assert host.shown(UNIT, "ActiveState", "ExecMainStatus") == ["failed", "3"]
    assert UNIT in host.sh("systemctl --failed --no-legend")
    assert host.sh("systemctl is-active containerd multi-user.target") == "active\nactive"

# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gpufleet.mig.plan says what becomes of the driver: in the turn of the node, at once, or refused; and only reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from integration.boot.role_host import RoleHost, role_host
from integration.modules.conftest import MakeHost

pytestmark = pytest.mark.slow

SEVEN = [{"gpus": 0, "instances": {"1g.5gb": 7}}]
WANTED = {"mig_kubernetes": True, "mig_layout": SEVEN, "driver_manage": True, "driver_version": "590"}
FILES = """
mount --bind "$1"/proc/driver /proc/driver
mount --bind "$1"/sys/bus/pci/devices /sys/bus/pci/devices
"""


@pytest.fixture
def host(make_host: MakeHost) -> Iterator[RoleHost]:
    """A host with driver 580.82.07 whose GPU stands as wanted."""
    simulated = make_host({"product": "a100-sxm4-40gb", "mig": "enabled"})
    simulated.run("mig_layout", layout=SEVEN)
    with role_host(simulated) as found:
        simulated.simctl("files", str(found.folder / "shown"))
        found.inside("sh", "-euc", FILES, "sh", str(found.folder / "shown"))
        yield found


def planned(host: RoleHost, code: int, **variables: Any) -> tuple[dict[str, Any], str]:
    output = host.folder / "plan"
    before, files = host.simulated.lines(), host.files()
    run = host.play("plan", "-e", "mig_plan_fail_on=drift", mig_plan_output=str(output), **{**WANTED, **variables})
    assert run.code == code, run.printed
    assert (host.simulated.lines(), host.files()) == (before, files)
    plan: dict[str, Any] = json.loads((output / "plan.json").read_text())
    return plan, " ".join(run.printed.split())  # the callback folds long lines


def test_a_loaded_driver_of_another_branch_is_replaced_in_the_turn_of_its_node(host: RoleHost) -> None:
    plan, printed = planned(host, 2)
    (found,) = plan["hosts"]
    assert (found["status"], found["instances"]) == ("changes", {"keep": 7, "destroy": 0, "create": 0})
    assert (found["driver"]["from"]["version"], found["driver"]["to"]["version"]) == ("580.82.07", "590")
    assert (found["driver"]["in_turn"], found["driver"]["reboot"]) == (True, True)
    assert [wave["hosts"] for wave in plan["waves"]["waves"]] == [["here"]]
    assert plan["fleet"]["reboots"] == 1
    assert "driver 580.82.07 -> 590 in the turn of the node: all its GPU pods go, then packages, a reboot" in printed


@pytest.mark.full
def test_without_a_driver_it_comes_at_once_and_no_reboot_may_be_a_refusal(host: RoleHost) -> None:
    plan, printed = planned(host, 2, driver_reboot="never")
    assert "driver 590 needs a reboot" in plan["refused"][0]["reason"]
    assert "driver_reboot is never" in printed
    host.inside("umount", "/proc/driver")
    plan, printed = planned(host, 2, mig_gpus=[{"model": "A100-SXM4-40GB", "instances": {"1g.5gb": 7}}])
    assert plan["hosts"][0]["driver"]["from"] is None
    assert plan["waves"]["waves"] == []
    assert "planned from mig_gpus, because the host could not be read: no NVIDIA driver is loaded" in printed
    assert "driver none -> 590 at once, before the turn of any node" in printed
    plan, printed = planned(host, 2)
    assert (plan["hosts"][0]["source"], plan["hosts"][0]["instances"]["create"]) == ("bus", 7)
    assert "planned from the boards on its PCI bus, because no NVIDIA driver is loaded" in printed
    plan, printed = planned(host, 2, mig_layout=[{"gpus": 0, "instances": {"3g.20gb": 3}}])
    assert "cannot hold 3 x 3g.20gb" in plan["refused"][0]["reason"]
    plan, printed = planned(host, 2, mig_layout=[{"gpus": {"uuid": "GPU-1"}, "instances": {"1g.5gb": 7}}])
    assert "selects GPUs by uuid, which is known only once the host has its driver" in plan["not_planned"][0]["reason"]
    for device in (host.folder / "shown/sys/bus/pci/devices").glob("*/device"):
        device.write_text("0x1eb8\n")  # no board of the facts
    plan, printed = planned(host, 2)
    assert plan["not_planned"][0]["reason"].startswith("no NVIDIA driver is loaded; driver 590 comes at once")


@pytest.mark.full
def test_a_driver_that_others_bring_is_only_judged(host: RoleHost) -> None:
    plan, printed = planned(host, 0, driver_manage=False)
    assert [one["status"] for one in plan["hosts"]] == ["unchanged"]
    assert "Drivers" not in printed

# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gpufleet.mig.site keeps the layout over reboots, with metrics where asked, and uninstall takes all of it away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from integration.boot.role_host import RoleHost, role_host
from integration.modules.conftest import MakeHost

pytestmark = pytest.mark.slow

LAYOUT = [{"gpus": 0, "instances": [{"profile": "3g.40gb", "start": 4}]}, {"gpus": 1, "instances": {"1g.5gb": 7}}]
ARCHIVE = "/usr/local/lib/gpufleet-mig/gpufleet-mig.pyz"
KEPT = "/etc/gpufleet-mig/layout.json"
UNIT = "/etc/systemd/system/gpufleet-mig.service"


@pytest.fixture
def host(make_host: MakeHost) -> Iterator[RoleHost]:
    with role_host(make_host("h100-sxm5-80gb", {"product": "a100-sxm4-40gb", "mig": "enabled"})) as found:
        yield found


def test_from_site_over_a_reboot_to_uninstall(host: RoleHost) -> None:
    found, before = host.files(), host.simulated.lines()
    foretold = host.play("site", "--check", mig_layout=LAYOUT)
    assert foretold.code == 0, foretold.printed
    assert (host.files(), host.simulated.lines()) == (found, before)
    run = host.play("site", mig_layout=LAYOUT)
    assert run.code == 0, run.printed
    assert run.changed >= foretold.changed > 0
    stood, files = host.simulated.lines(), host.files()
    assert [record["wanted"] for record in json.loads(host.reads(KEPT))["gpus"]] == [
        {"instances": [{"profile": "3g.40gb", "start": 4}]},
        {"instances": [{"profile": "1g.5gb", "start": start} for start in range(7)]},
    ]
    again = host.play("site", mig_layout=LAYOUT)
    assert (again.code, again.changed) == (0, 0), again.printed

    host.simulated.simctl("reboot")
    assert host.inside("systemctl", "start", "gpufleet-mig.service").returncode == 0
    assert host.simulated.lines() == stood

    unanswered = host.play("uninstall", mig_layout=LAYOUT)
    assert unanswered.code == 2
    assert "From here go the boot unit, its layout and command" in unanswered.printed
    assert "set mig_confirm_uninstall to true" in unanswered.printed
    assert (host.simulated.lines(), host.files()) == (stood, files)
    yes = ("-e", "mig_confirm_uninstall=true")
    gone = host.play("uninstall", *yes, mig_layout=LAYOUT)
    assert gone.code == 0, gone.printed
    assert (host.simulated.lines(), host.files()) == (stood, found)
    again = host.play("uninstall", *yes, mig_layout=LAYOUT)
    assert (again.code, again.changed) == (0, 0), again.printed


def test_metrics_come_and_go_and_systemd_finds_nothing_wrong_with_the_units(host: RoleHost) -> None:
    warned = host.play("plan", mig_layout=LAYOUT, mig_metrics_dir="/run/nowhere")
    assert "gpufleet_mig_layout.prom cannot be written" in " ".join(warned.printed.split())
    run = host.play("site", mig_layout=LAYOUT, mig_metrics_dir="/run/metrics")
    assert run.code == 0, run.printed
    assert "cannot be written" not in run.printed
    units = [UNIT, UNIT.replace("mig.service", "mig-metrics.service"), UNIT.replace("mig.service", "mig-metrics.timer")]
    real = shutil.which("systemd-analyze", path="/usr/bin:/bin")
    assert real, "systemd-analyze is needed (package systemd)"
    checked = host.inside(real, "verify", "--man=no", *units)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")

    assert "gpufleet_mig_layout_drift 0\n" in host.reads("/run/metrics/gpufleet_mig_layout.prom")
    assert "gpufleet_mig_last_apply_success 1\n" in host.reads("/run/metrics/gpufleet_mig_apply.prom")
    host.simulated.run("mig_layout", layout=[{"gpus": 1, "mig": "enabled"}])
    assert host.inside("systemctl", "start", "gpufleet-mig-metrics.service").returncode == 0
    shown = host.reads("/run/metrics/gpufleet_mig_layout.prom")
    assert "gpufleet_mig_layout_drift 1\n" in shown
    assert 'profile="1g.5gb"' not in shown
    off = host.play("site", mig_layout=LAYOUT)
    assert off.code == 0, off.printed
    assert not [path for path in host.files() if "mig-metrics" in path]
    assert "--metrics" not in host.reads(UNIT)


@pytest.mark.full
def test_uninstall_puts_the_gpus_back_when_asked_to(host: RoleHost) -> None:
    host.simulated.run("mig_layout", layout=[{"gpus": 1, "instances": {"3g.20gb": 1}}])
    found, files = host.simulated.lines(), host.files()
    assert host.play("site", mig_layout=LAYOUT).code == 0
    command = host.digest(ARCHIVE)
    assert host.play("site", mig_layout="all-disabled").code == 0
    assert [record["wanted"] for record in json.loads(host.reads(KEPT))["gpus"]] == [{"mig": "disabled"}] * 2
    assert host.digest(ARCHIVE) == command
    yes = ("-e", "mig_confirm_uninstall=true", "-e", "mig_uninstall_layout=true")
    run = host.play("uninstall", *yes, mig_layout=LAYOUT)
    assert run.code == 0, run.printed
    assert (host.simulated.lines(), host.files()) == (found, files)


@pytest.mark.full
def test_a_host_without_systemd_is_partitioned_all_the_same(host: RoleHost) -> None:
    host.inside("rmdir", "/run/systemd/system")
    run = host.play("site", mig_layout=LAYOUT)
    assert run.code == 0, run.printed
    assert host.digest(UNIT) == ""
    assert host.simulated.lines()[1].endswith("1g.5gb@6")


@pytest.mark.full
def test_a_mode_that_waits_for_a_reboot_and_its_instances_are_there_after_it(make_host: MakeHost) -> None:
    with role_host(make_host({"product": "a100-sxm4-40gb", "passthrough": True})) as host:
        run = host.play("site", mig_layout="all-1g.5gb", mig_mode_changes=["reboot"])
        assert run.code == 2
        assert "takes effect only after a reboot" in run.printed
        assert host.simulated.lines()[0].endswith("MIG disabled (enabled is pending)")
        host.simulated.simctl("reboot")
        assert host.inside("systemctl", "start", "gpufleet-mig.service").returncode == 0
        assert host.simulated.lines()[0].endswith("1g.5gb@6")
        again = host.play("site", mig_layout="all-1g.5gb", mig_mode_changes=["reboot"])
        assert (again.code, again.changed) == (0, 0), again.printed

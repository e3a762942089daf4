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


def test_site_keeps_the_layout_over_reboots(host: RoleHost) -> None:
    before = host.files()
    foretold = host.play("site", "--check", mig_layout=LAYOUT)
    assert foretold.code == 0, foretold.printed
    assert host.files() == before
    run = host.play("site", mig_layout=LAYOUT)
    assert run.code == 0, run.printed
    assert run.changed >= foretold.changed > 0
    stood = host.simulated.lines()
    assert [record["wanted"] for record in json.loads(host.reads(KEPT))["gpus"]] == [
        {"instances": [{"profile": "3g.40gb", "start": 4}]},
        {"instances": [{"profile": "1g.5gb", "start": start} for start in range(7)]},
    ]
    again = host.play("site", mig_layout=LAYOUT)
    assert (again.code, again.changed) == (0, 0), again.printed

    host.simulated.simctl("reboot")
    assert host.inside("systemctl", "start", "gpufleet-mig.service").returncode == 0
    assert host.simulated.lines() == stood

    # another layout goes into the file as well; the command is the same
    command = host.digest(ARCHIVE)
    other = host.play("site", mig_layout="all-disabled")
    assert other.code == 0, other.printed
    assert [record["wanted"] for record in json.loads(host.reads(KEPT))["gpus"]] == [{"mig": "disabled"}] * 2
    assert host.digest(ARCHIVE) == command


def test_systemd_finds_nothing_wrong_with_the_unit(host: RoleHost) -> None:
    run = host.play("site", mig_layout=LAYOUT, mig_metrics_dir="/run/metrics")
    assert run.code == 0, run.printed
    units = [UNIT, UNIT.replace("mig.service", "mig-metrics.service"), UNIT.replace("mig.service", "mig-metrics.timer")]
    real = shutil.which("systemd-analyze", path="/usr/bin:/bin")
    assert real, "systemd-analyze is needed (package systemd)"
    checked = host.inside(real, "verify", "--man=no", *units)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_metrics_come_and_go(host: RoleHost) -> None:
    on = {"mig_layout": LAYOUT, "mig_metrics_dir": "/run/metrics"}
    run = host.play("site", **on)
    assert run.code == 0, run.printed
    assert host.play("site", **on).changed == 0
    assert "gpufleet_mig_layout_drift 0\n" in host.reads("/run/metrics/gpufleet_mig_layout.prom")
    assert "gpufleet_mig_last_apply_success 1\n" in host.reads("/run/metrics/gpufleet_mig_apply.prom")
    host.simulated.run("mig_layout", layout=[{"gpus": 1, "instances": {}, "mig": "enabled"}])
    assert host.inside("systemctl", "start", "gpufleet-mig-metrics.service").returncode == 0
    shown = host.reads("/run/metrics/gpufleet_mig_layout.prom")
    assert "gpufleet_mig_layout_drift 1\n" in shown
    assert 'profile="1g.5gb"' not in shown
    off = host.play("site", mig_layout=LAYOUT)
    assert off.code == 0, off.printed
    assert not [path for path in host.files() if "mig-metrics" in path]
    assert "--metrics" not in host.reads(UNIT)


def test_a_host_without_systemd_is_partitioned_all_the_same(host: RoleHost) -> None:
    host.inside("rmdir", "/run/systemd/system")
    run = host.play("site", mig_layout=LAYOUT)
    assert run.code == 0, run.printed
    assert host.digest(UNIT) == ""
    assert host.simulated.lines()[1].endswith("1g.5gb@6")

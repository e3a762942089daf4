# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gpufleet.mig.adopt on hosts that were partitioned by hand: site.yml right after it changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from integration.report.conftest import Fleet

A100, H100 = "a100-sxm4-40gb", "h100-sxm5-80gb"
pytestmark = pytest.mark.slow

BY_HAND = [
    {"gpus": [0, 1], "instances": [{"profile": "1g.10gb", "start": start} for start in (1, 2, 5)]},
    {"gpus": 2, "instances": [{"profile": "3g.40gb", "start": 4, "compute_instances": ["1c.3g.40gb"]}]},
    {"gpus": 3, "instances": [{"profile": "2g.20gb", "start": 2, "compute_instances": []}]},
]


def test_a_fleet_partitioned_by_hand_comes_under_the_inventory(folder: Path) -> None:
    fleet = Fleet(folder, {"one": [*[H100] * 4], "two": [A100, A100]}, mig_unlisted_gpus="fail")
    fleet.hosts["one"].run("mig_layout", layout=BY_HAND)
    fleet.hosts["two"].run("mig_layout", layout=[{"gpus": 1, "mig": "enabled"}])
    before = {name: (host.lines(), host.uuids()) for name, host in fleet.hosts.items()}
    for host in fleet.hosts.values():
        host.forget_calls()

    dry = fleet.play("adopt", "--check", "--diff")
    assert "would be written to" in dry
    assert "{profile: 1g.10gb, start: 5}" in dry
    assert not (fleet.inventory / "host_vars").exists()

    assert "changed=1" in fleet.play("adopt")
    written = yaml.safe_load((fleet.inventory / "host_vars" / "one.yml").read_text())
    assert [entry["gpus"] for entry in written["mig_layout"]] == [[0, 1], 2, 3]
    assert "changed=0" in fleet.play("adopt")

    after = fleet.play("site")
    assert "changed=0" in after
    assert "changed=1" not in after
    assert {name: (host.lines(), host.uuids()) for name, host in fleet.hosts.items()} == before
    assert all(host.writes() == [] for host in fleet.hosts.values())


@pytest.mark.full
def test_a_layout_that_stands_is_kept_and_a_pending_mode_left_out(folder: Path) -> None:
    fleet = Fleet(folder, {"one": [A100], "two": [{"product": A100, "passthrough": True}, A100]})
    own = fleet.inventory / "host_vars"
    own.mkdir()
    (own / "one.yml").write_text("# ours\nmig_layout: all-enabled\n")
    # the reset that the mode takes cannot be done from within a virtual machine
    fleet.hosts["two"].run("mig_mode", gpus=0, mode="enabled", mode_changes=["reboot"])
    said = fleet.play("adopt")
    assert "has another mig_layout in its host_vars, which stays" in said
    assert (own / "one.yml").read_text() == "# ours\nmig_layout: all-enabled\n"
    assert "GPU 0 (NVIDIA A100-SXM4-40GB) is left out, so that it stays as it is" in said
    assert yaml.safe_load((own / "two.yml").read_text()) == {
        "mig_layout": [{"gpus": 1, "mig": "disabled"}],
        "mig_unlisted_gpus": "keep",
    }
    fleet.play("adopt", mig_adopt_overwrite=True)
    assert yaml.safe_load((own / "one.yml").read_text())["mig_layout"] == [{"gpus": 0, "mig": "disabled"}]


@pytest.mark.full
def test_an_inventory_without_a_file_needs_a_folder(folder: Path) -> None:
    fleet = Fleet(folder, {"one": [A100]})
    everything = yaml.safe_load((fleet.inventory / "hosts.yml").read_text())["all"]
    variables = {**everything["vars"], **everything["hosts"]["one"]}
    assert "set mig_adopt_output" in fleet.play("adopt", ok=False, inventory="one,", **variables)
    fleet.play("adopt", inventory="one,", **variables, mig_adopt_output=str(folder / "vars"))
    assert yaml.safe_load((folder / "vars" / "one.yml").read_text())["mig_layout"] == [{"gpus": 0, "mig": "disabled"}]

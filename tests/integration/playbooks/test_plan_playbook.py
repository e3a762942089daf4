# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gpufleet.mig.plan as a user sees it: what is printed and written, exit codes, and that nothing is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.modules.conftest import MakeHost
from integration.playbooks.playbook_run import on_this_machine, play
from unit.kube_server import Api, node

pytestmark = pytest.mark.slow

FLEET: dict[str, dict[str, Any]] = {
    "gpu-01": {
        "mig_gpus": [{"model": "A100-SXM4-80GB", "count": 2}],
        "mig_layout": "all-balanced",
        "mig_strategy": "mixed",
    },
    "gpu-02": {
        "mig_gpus": [{"model": "h100-sxm5-80gb", "count": 2, "instances": {"1g.10gb": 7}}],
        "mig_layout": [{"gpus": 1, "instances": {"3g.40gb": 2}}],
    },
    "gpu-03": {
        "mig_gpus": [{"model": "A30", "instances": {"1g.6gb": 4}}],
        "mig_layout": "all-1g.6gb",
        "mig_strategy": "single",
    },
}
BAD = {"mig_gpus": [{"model": "A30"}], "mig_layout": [{"gpus": 0, "instances": {"2g.12gb": 3}}]}


def test_a_fleet_that_does_not_exist_is_planned_from_the_inventory(tmp_path: Path) -> None:
    run = play(tmp_path, "plan", FLEET, mig_offline=True)
    assert run.code == 0, run.printed
    assert [(host["host"], host["status"]) for host in run.plan["hosts"]] == [
        ("gpu-01", "changes"),
        ("gpu-02", "changes"),
        ("gpu-03", "unchanged"),
    ]
    # by hand, from NVIDIA's tables: two balanced A100 are 2 x 1g, 2g, 3g each; one H100 of seven 1g becomes two 3g
    assert run.plan["fleet"]["resources"] == {
        "nvidia.com/gpu": {"before": 6, "after": 4},
        "nvidia.com/mig-1g.10gb": {"before": 14, "after": 11},
        "nvidia.com/mig-2g.20gb": {"before": 0, "after": 2},
        "nvidia.com/mig-3g.40gb": {"before": 0, "after": 4},
    }
    assert run.plan["fleet"]["resets"] == 2
    assert run.plan["destroy"]["count"] == 7
    assert [wave["hosts"] for wave in run.plan["waves"]["waves"]] == [["gpu-01"], ["gpu-02"]]
    for line in (
        "3 hosts: 2 to change, 1 as wanted. Nothing was touched.",
        "nvidia-smi -i 0 -mig 1",
        "nvidia-smi mig -i 1 -cgi 19:0,19:1,14:2,9:4 -C",
        "|1g.10gb|1g.10gb|2g.20gb........|3g.40gb........................|",
        "allocatable nvidia.com/mig-1g.10gb 14 -> 7",
        "as wanted: gpu-03",
    ):
        assert line in run.printed, line
    assert "## Instances that go" in (tmp_path / "output" / "plan.md").read_text()


@pytest.mark.full
def test_one_bad_host_is_refused_and_the_rest_is_planned(tmp_path: Path) -> None:
    broken = {"mig_gpus": [{"model": "A30"}], "mig_layout": "{{ nowhere }}"}
    run = play(tmp_path, "plan", {"bad": BAD, "broken": broken, **FLEET}, mig_offline=True)
    assert run.code == 2
    assert [refused["host"] for refused in run.plan["refused"]] == ["bad", "broken"]
    assert "cannot hold 3 x 2g.12gb" in run.plan["refused"][0]["reason"]
    assert "'nowhere' is undefined" in run.plan["refused"][1]["reason"]
    assert run.plan["fleet"]["hosts"]["changes"] == 2
    assert "of 5 hosts 2 (bad, broken) are not as wanted (refused)" in run.printed


@pytest.mark.parametrize(
    ("hosts", "fail_on", "code"),
    [
        (["gpu-03"], "drift", 0),
        (["gpu-02", "gpu-03"], "drift", 2),
        (["bad"], "never", 0),
        (["gpu-03"], "drfit", 2),
    ],
)
@pytest.mark.slow
@pytest.mark.full
def test_the_exit_code_is_what_was_asked_for(tmp_path: Path, hosts: list[str], fail_on: str, code: int) -> None:
    chosen = {name: {**FLEET, "bad": BAD}[name] for name in hosts}
    run = play(tmp_path, "plan", chosen, "-e", f"mig_plan_fail_on={fail_on}", mig_offline=True)
    assert run.code == code, run.printed


@pytest.mark.full
def test_a_minimum_that_no_order_holds_is_refused(tmp_path: Path) -> None:
    hosts = {"gpu-02": FLEET["gpu-02"]}
    least = {"nvidia.com/mig-1g.10gb": 1}
    run = play(tmp_path, "plan", hosts, mig_offline=True, mig_min_available=least)
    assert run.code == 2
    assert run.plan["hosts"][0]["status"] == "changes"
    assert "the roll-out is refused. No order of the 1 nodes keeps 1 nvidia.com/mig-1g.10gb available" in run.printed
    never = play(tmp_path, "plan", hosts, "-e", "mig_plan_fail_on=never", mig_offline=True, mig_min_available=least)
    assert never.code == 0


@pytest.mark.slow
@pytest.mark.full
def test_a_host_that_does_not_answer_is_planned_from_the_inventory_or_named(tmp_path: Path) -> None:
    silent = {"ansible_host": "127.0.0.1", "ansible_port": 1, "mig_layout": "all-disabled"}
    hosts = {
        "silent": silent,
        "described": {**silent, **FLEET["gpu-01"]},
        "gpu-03": {**FLEET["gpu-03"], "mig_offline": True},
    }
    run = play(tmp_path, "plan", hosts)
    assert run.code == 0, run.printed
    assert [host["status"] for host in run.plan["hosts"]] == ["not_planned", "changes", "unchanged"]
    assert run.plan["not_planned"][0]["reason"].startswith("unreachable: ")
    assert "unreachable" in run.plan["hosts"][1]["notes"][0]
    assert play(tmp_path, "plan", hosts, "-e", "mig_plan_fail_on=drift").code == 2


@pytest.mark.full
def test_a_host_that_is_read_is_planned_as_it_stands_and_not_touched(tmp_path: Path, make_host: MakeHost) -> None:
    host = make_host({"product": "h100-sxm5-80gb", "mig": "enabled"}, "h100-sxm5-80gb")
    host.run("mig_layout", layout=[{"gpus": 0, "instances": {"1g.10gb": 7}}])
    before, ids = host.lines(), {one["start"]: one["gi_id"] for one in host.gpus()[0]["instances"]}
    host.forget_calls()
    wish = [{"gpus": 0, "instances": {"1g.10gb": 3, "3g.40gb": 1}}]
    run = play(tmp_path, "plan", {"here": {**on_this_machine(), "mig_layout": wish}}, simulated=host)
    assert run.code == 0, run.printed
    assert host.writes() == []
    assert host.lines() == before
    (report,) = run.plan["hosts"]
    assert (report["source"], report["instances"]) == ("hardware", {"keep": 3, "destroy": 4, "create": 1})
    assert report["resources"] is None
    gone = [one["start"] for one in report["gpus"][0]["destroy"]]
    for start in gone:
        assert f"nvidia-smi mig -i 0 -dgi -gi {ids[start]}" in run.printed
    assert "GPU 1: as before" in run.printed


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    server = Api(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.full
def test_what_the_cluster_shows_is_compared_and_not_touched(tmp_path: Path, make_host: MakeHost, api: Api) -> None:
    host = make_host({"product": "h100-sxm5-80gb", "mig": "enabled"})
    host.run("mig_layout", layout="all-1g.10gb")
    api.put(node("right-node", {"nvidia.com/mig-1g.10gb": 7}), node("stale", {"nvidia.com/mig-1g.10gb": 6}))
    common = {
        **on_this_machine(),
        "mig_kubernetes": True,
        "mig_kubeconfig": api.kubeconfig(),
        "mig_gpu_feature_discovery": False,
        "mig_layout": "all-1g.10gb",
    }
    hosts = {
        "right": {**common, "mig_node_name": "right-node"},
        "stale": common,
        "missing": common,
        "elsewhere": {**common, "mig_kubeconfig": api.kubeconfig(server="http://127.0.0.1:1")},
        "offline": {**FLEET["gpu-03"], "mig_offline": True, "mig_kubeconfig": "/nonexistent"},
    }
    run = play(tmp_path, "plan", hosts, simulated=host)
    assert run.code == 0, run.printed
    found = {one["host"]: one for one in run.plan["hosts"]}
    assert {name: one["status"] for name, one in found.items()} == {
        "right": "unchanged",
        "stale": "unpublished",
        "missing": "unchanged",
        "elsewhere": "unchanged",
        "offline": "unchanged",
    }
    assert found["stale"]["resources"] == {"nvidia.com/mig-1g.10gb": {"before": 7, "after": 7, "now": 6}}
    assert found["missing"]["notes"] == ["the cluster has no node missing"]
    assert found["elsewhere"]["notes"][0].startswith("the cluster was not read: ")
    assert found["offline"]["notes"] == []
    assert "nvidia.com/mig-1g.10gb is 6 and will be 7" in run.printed
    assert api.writes() == []


@pytest.mark.full
def test_a_slip_in_the_inventory_stops_before_anything_is_touched(tmp_path: Path, make_host: MakeHost) -> None:
    host = make_host({"product": "h100-sxm5-80gb", "mig": "enabled"})
    host.run("mig_layout", layout="all-1g.10gb")
    before = host.lines()
    host.forget_calls()
    hosts = {"here": {**on_this_machine(), "mig_layout": "all-enabled", "mig_max_destroy": 6}}
    stopped = play(tmp_path, "site", hosts, simulated=host)
    assert stopped.code == 2
    assert "This run would destroy 7 instances and mig_max_destroy is 6" in stopped.printed
    assert all(f"here GPU 0: 1g.10gb at {start}" in stopped.printed for start in range(7))
    assert "mig_confirm_destroy" in play(tmp_path, "plan", hosts, simulated=host).printed
    assert (host.writes(), host.lines()) == ([], before)
    confirmed = play(tmp_path, "site", hosts, "-e", "mig_confirm_destroy=true", simulated=host)
    assert confirmed.code == 0, confirmed.printed
    assert host.gpus()[0]["instances"] == []

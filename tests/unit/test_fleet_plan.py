# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a fleet: what each host's state is, what it sums up to, and what a person reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from unit.kube_server import node
from unit.planner_support import gpu, instance, standing

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._fleet_plan import plan_fleet
from ansible_collections.gpufleet.mig.plugins.module_utils._plan_document import markdown, text
from ansible_collections.gpufleet.mig.plugins.module_utils._publishers import describe

FACTS = {"driver_version": "580.82.07", "cuda_version": "13.0", "machine": "DGX", "gpu_mode": "compute"}
A100 = "a100-sxm4-80gb"
SEVEN = [{"gpus": "all", "instances": {"1g.10gb": 7}}]
HALVES = [{"gpus": "all", "instances": {"3g.40gb": 2}}]


def seven(index: int, *, busy: int | None = None) -> dict[str, Any]:
    on = gpu(A100, index)
    return standing(on, *(instance(on, "1g.10gb", start, busy=start == busy) for start in range(7)))


def host(name: str, **more: Any) -> dict[str, Any]:
    """A host that was read: two GPUs of seven instances each, wanted as they stand."""
    return {"host": name, "gpus": [seven(0), seven(1)], "facts": FACTS, "layout": SEVEN, **more}


def one(**more: Any) -> dict[str, Any]:
    (found,) = plan_fleet([host("gpu-01", **more)])["hosts"]
    return dict(found)


def test_as_wanted_is_no_drift() -> None:
    plan = plan_fleet([host("gpu-01"), host("gpu-02", kubernetes=False, layout=None)])
    assert not plan["drift"]
    assert [each["status"] for each in plan["hosts"]] == ["unchanged", "unchanged"]
    assert plan["waves"]["waves"] == []
    assert plan["fleet"]["resources"] == {"nvidia.com/mig-1g.10gb": {"before": 14, "after": 14}}
    assert plan["fleet"]["instances"] == {"keep": 28, "destroy": 0, "create": 0}
    assert "2 hosts: 2 as wanted." in text(plan)


def test_a_change_says_what_goes_what_comes_and_what_kubernetes_will_show() -> None:
    found = one(layout=[{"gpus": 1, "instances": {"3g.40gb": 1, "1g.10gb": 3}}])
    assert found["status"] == "changes"
    assert found["instances"] == {"keep": 10, "destroy": 4, "create": 1}
    assert [part["changes"] for part in found["gpus"]] == [False, True]
    assert found["resources"] == {
        "nvidia.com/mig-1g.10gb": {"before": 14, "after": 10, "now": None},
        "nvidia.com/mig-3g.40gb": {"before": 0, "after": 1, "now": None},
    }
    assert found["labels"]["nvidia.com/mig-1g.10gb.count"] == {"before": "14", "after": "10"}
    assert found["labels"]["nvidia.com/mig-3g.40gb.count"] == {"before": None, "after": "1"}
    drawn = found["gpus"][1]["map"]
    assert drawn["before"].count("1g.10gb") == 7
    assert (drawn["after"].count("1g.10gb"), drawn["after"].count("3g.40gb")) == (3, 1)


def test_a_process_in_the_way_blocks_and_is_named() -> None:
    plan = plan_fleet([host("gpu-01", gpus=[seven(0, busy=2), seven(1)], layout=HALVES)])
    (found,) = plan["hosts"]
    assert found["status"] == "blocked"
    assert plan["fleet"]["blockers"] == 1
    assert "gpu-01 GPU 0: 1g.10gb at 2 (in use)" in plan["destroy"]["instances"]
    assert "process 4200 (python)" in text(plan)


def test_a_refused_host_counts_as_it_stands_and_does_not_stop_the_others() -> None:
    plan = plan_fleet(
        [host("gpu-01", layout=[{"gpus": "all", "instances": {"3g.40gb": 3}}]), host("gpu-02", layout=HALVES)]
    )
    assert [each["status"] for each in plan["hosts"]] == ["refused", "changes"]
    assert plan["refused"][0]["host"] == "gpu-01"
    assert "GPU 0-1 (NVIDIA A100-SXM4-80GB) cannot hold 3 x 3g.40gb" in plan["refused"][0]["reason"]
    assert plan["destroy"]["count"] == 14
    assert plan["fleet"]["resources"]["nvidia.com/mig-1g.10gb"] == {"before": 28, "after": 14}
    assert plan["waves"]["waves"][0]["hosts"] == ["gpu-02"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"layout": [{"gpus": 9, "instances": {}}]}, "selects GPU 9"),
        ({"strategy": "mixt"}, "no MIG strategy 'mixt'"),
        ({"unlisted_gpus": "drop", "layout": SEVEN}, "not 'drop'"),
        ({"gpus": None, "mig_gpus": [{"model": "A100"}]}, "model A100"),
        ({"strategy": "single", "layout": [{"gpus": 0, "instances": {"3g.40gb": 1}}]}, "cannot be published"),
        ({"gpus": None, "invalid": "'site' is undefined"}, "'site' is undefined"),
        ({"plugin_config": "text"}, "config"),
    ],
)
def test_what_is_wrong_with_a_host_is_its_reason(wrong: dict[str, Any], said: str) -> None:
    found = one(**wrong)
    assert found["status"] == "refused"
    assert said in found["reason"]
    assert said in text(plan_fleet([host("gpu-01", **wrong)]))


def test_a_host_that_nobody_knows_is_not_planned_and_counts_as_drift() -> None:
    plan = plan_fleet([host("gpu-01", gpus=None, unread="unreachable: no route"), host("gpu-02")])
    assert plan["not_planned"] == [{"host": "gpu-01", "reason": "unreachable: no route"}]
    assert plan["drift"]
    assert plan["fleet"]["hosts"]["unchanged"] == 1


def test_what_was_read_wins_over_what_the_inventory_says_of_the_hardware() -> None:
    described = {"mig_gpus": [{"model": "A30", "count": 4}]}
    assert one(**described)["source"] == "hardware"
    found = one(**described, gpus=None, unread="unreachable", layout="all-1g.6gb")
    assert (found["source"], found["status"]) == ("inventory", "changes")
    assert "unreachable" in found["notes"][0]
    assert found["resources"]["nvidia.com/mig-1g.6gb"]["after"] == 16


def asked(allocatable: dict[str, int], labels: dict[str, str] | None = None) -> list[Any]:
    node = {"exists": True, "allocatable": allocatable, "labels": labels}
    return [(["prod", ""], {"nodes": {"gpu-01": node}})]


def test_a_cluster_that_does_not_show_the_hardware_is_to_be_published() -> None:
    right = {"nvidia.com/mig-1g.10gb": 14, "nvidia.com/gpu": 0}
    known = host("gpu-01", cluster=["prod", ""])
    (found,) = plan_fleet([known], clusters=asked(right))["hosts"]
    assert found["status"] == "unchanged"
    (found,) = plan_fleet([known], clusters=asked({"nvidia.com/mig-1g.10gb": 13}))["hosts"]
    assert found["status"] == "unpublished"
    assert "nvidia.com/mig-1g.10gb is 13 and will be 14" in found["reason"]
    (found,) = plan_fleet([known], clusters=asked(right, {"nvidia.com/mig-1g.10gb.count": "13"}))["hosts"]
    assert found["status"] == "unpublished"
    assert found["labels"]["nvidia.com/mig-1g.10gb.count"] == {"before": "13", "after": "14"}


@pytest.mark.parametrize("answer", [{"msg": "connection refused"}, {"nodes": {"gpu-01": {"exists": False}}}])
def test_without_an_answer_of_the_cluster_the_hardware_is_planned(answer: dict[str, Any]) -> None:
    (found,) = plan_fleet([host("gpu-01", cluster=["prod", ""])], clusters=[(["prod", ""], answer)])["hosts"]
    assert found["status"] == "unchanged"
    assert found["notes"]


def test_the_smallest_limit_of_any_host_is_that_of_the_run() -> None:
    hosts = [host("gpu-01", layout=HALVES, max_destroy=100), host("gpu-02", max_destroy="13")]
    plan = plan_fleet(hosts)
    assert (plan["destroy"]["count"], plan["destroy"]["most"], plan["destroy"]["stops"]) == (14, 13, True)
    assert "mig_confirm_destroy" in text(plan)
    hosts[1]["max_destroy"] = 14
    assert not plan_fleet(hosts)["destroy"]["stops"]
    hosts[1]["max_destroy"] = "some"
    with pytest.raises(MigError, match="mig_max_destroy is 'some'"):
        plan_fleet(hosts)


SMALL = "nvidia.com/mig-1g.10gb"


def halves(name: str, **more: Any) -> dict[str, Any]:
    """A host of four halves that becomes one of fourteen 1g.10gb."""
    parts = []
    for index in (0, 1):
        on = gpu(A100, index)
        parts.append(standing(on, *(instance(on, "3g.40gb", start) for start in (0, 4))))
    return host(name, gpus=parts, **more)


def order_of(plan: dict[str, Any]) -> list[list[str]]:
    return [wave["hosts"] for wave in plan["waves"]["waves"]]


def test_who_gains_goes_first_where_that_holds_the_minimum() -> None:
    hosts = [host("loses", layout=HALVES), halves("gains"), host("stays")]
    assert order_of(plan_fleet(hosts)) == [["loses"], ["gains"]]
    assert order_of(plan_fleet(hosts, min_available={SMALL: 14})) == [["loses"], ["gains"]]
    plan = plan_fleet(hosts, min_available={SMALL: 28})
    assert order_of(plan) == [["gains"], ["loses"]]
    assert [wave["left"][SMALL] for wave in plan["waves"]["waves"]] == [28, 28]
    assert plan["waves"]["refused"] == []


def test_a_minimum_that_no_order_holds_is_refused() -> None:
    plan = plan_fleet([host("loses", layout=HALVES), halves("gains"), host("stays")], min_available={SMALL: "29"})
    (reason,) = plan["waves"]["refused"]
    assert "No order of the 2 nodes keeps 29 nvidia.com/mig-1g.10gb available" in reason
    assert f"The roll-out is refused: {reason}" in text(plan)
    assert f"The roll-out is refused: {reason}" in markdown(plan)
    with pytest.raises(MigError, match="mig_min_available"):
        plan_fleet([host("stays")], min_available=[SMALL])


def test_what_the_nodes_show_counts_in_the_order() -> None:
    """A node that is out already takes nothing away; one that an earlier run left in the middle comes first."""

    def first(**of_left: Any) -> list[list[str]]:
        shown = {"exists": True, "ready": True, "schedulable": True, "allocatable": {SMALL: 14}, "labels": None}
        nodes = {"loses": shown, "left": {**shown, **of_left}}
        hosts = [host(name, layout=HALVES, cluster=["prod", ""]) for name in nodes]
        return order_of(plan_fleet(hosts, clusters=[(["prod", ""], {"nodes": nodes})], min_available={SMALL: 0}))

    assert first() == [["loses"], ["left"]]
    assert first(rollout={"run": "1", "phase": "cordoned", "failed": False}, schedulable=False) == [["left"], ["loses"]]


def test_labels_of_the_nodes_count_in_the_order() -> None:
    """Names are those of the roll-out's own test: a node with the skip label is in no wave, zones take turns."""

    def planned(key: str | None, **labels: dict[str, str]) -> dict[str, Any]:
        api_nodes = [node(name, {SMALL: 14}, of_node) for name, of_node in labels.items()]
        shown = {one["metadata"]["name"]: {**describe(one, [], key), "labels": None} for one in api_nodes}
        hosts = [host(name, layout=HALVES, cluster=["prod", ""]) for name in labels]
        return plan_fleet(hosts, waves=[1, "100%"], topology_key=key, clusters=[(["prod", ""], {"nodes": shown})])

    three: dict[str, dict[str, str]] = {"a": {"zone": "x"}, "b": {"zone": "x"}, "c": {"zone": "y"}}
    assert order_of(planned(None, **three)) == [["a"], ["b", "c"]]
    assert order_of(planned("zone", **three)) == [["a"], ["c", "b"]]
    (refused,) = planned("zoen", **three)["waves"]["refused"]
    assert "none of the 3 nodes that change carries that label" in refused
    plan = planned("zone", **{**three, "c": {"zone": "y", "gpufleet.io/skip": "ticket-815"}})
    assert order_of(plan) == [["a"], ["b"]]
    assert "leaves it as it is: node c carries the label gpufleet.io/skip=ticket-815" in text(plan)


def test_every_cluster_is_for_itself() -> None:
    east, west = {"cluster": ["east", ""], "layout": HALVES}, {"cluster": ["west", ""], "layout": HALVES}
    hosts = [host("e1", **east), host("w1", **west), host("e2", **east), host("slurm", kubernetes=False, layout=HALVES)]
    plan = plan_fleet(hosts, waves=["100%"], max_unavailable="100%", min_available={SMALL: 14})
    assert [(wave["number"], wave["hosts"], wave["out"]) for wave in plan["waves"]["waves"]] == [
        (1, ["e1", "e2"], 2),
        (2, ["w1"], 1),
        (3, ["slurm"], 1),
    ]
    assert len(plan["waves"]["refused"]) == 2
    one_at_a_time = plan_fleet(hosts, waves=["100%"], min_available={SMALL: 14})["waves"]["refused"]
    assert len(one_at_a_time) == 2, "e2 cannot go when e1 has lost its own"


def given(**devices: list[str]) -> dict[str, Any]:
    """What the kubelet gave to pods, by UID."""
    entries = [
        {"pod_uid": uid, "container": "main", "resource": "nvidia.com/mig-1g.10gb", "devices": held}
        for uid, held in devices.items()
    ]
    checkpoint: dict[str, Any] = {"state": "read", "error": None, "entries": entries, "registered": {}}
    return {"checkpoint": checkpoint, "processes": []}


def pod(uid: str) -> dict[str, Any]:
    more: dict[str, Any] = {
        "owner": None,
        "phase": "Running",
        "reason": None,
        "finished": False,
        "ending": False,
        "requests": {},
    }
    return {"uid": uid, "kubelet_uid": uid, "namespace": "ml", "name": f"pod-{uid}", **more}


def test_only_pods_on_what_goes_have_to_move() -> None:
    held = given(stays=["MIG-0-0-0"], goes=["MIG-0-1-0", "MIG-1-6-0"])
    node = {"exists": True, "allocatable": {}, "labels": None, "pods": [pod("stays"), pod("goes")]}
    asked_too = [(["prod", ""], {"nodes": {"gpu-01": node}})]

    def moving(layout: Any, clusters: Any = asked_too) -> dict[str, Any]:
        known = host("gpu-01", layout=layout, pod_devices=held, cluster=["prod", ""])
        return dict(plan_fleet([known], clusters=clusters)["hosts"][0])

    wish = [{"gpus": 1, "instances": {"1g.10gb": 3, "3g.40gb": 1}}]
    assert moving(wish)["pods"] == ["ml/pod-goes"]
    assert moving("all-disabled")["pods"] == ["ml/pod-goes", "ml/pod-stays"]
    assert moving(SEVEN)["pods"] == []
    nobody_asked = moving(wish, ())
    assert nobody_asked["pods"] == ["UID goes"]
    assert nobody_asked["notes"]


def driver(version: str | None, *steps: str, **more: Any) -> dict[str, Any]:
    """What the filter driver_plan says of a host that is to have 580."""
    there = version and {"version": version, "kernel_modules": "open"}
    replaces = bool(version) and not {"packages", "reboot"}.isdisjoint(steps)
    comes = {"version": "580", "kernel_modules": "open"}
    steady: dict[str, Any] = {"reason": None, "stops": None, "packages": [], "wanted": comes}
    return {**steady, "changes": list(steps), "loaded": there, "replaces": replaces, "waits": replaces, **more}


OLD = driver("575.57.08", "packages", "units", "reboot")


def test_a_driver_that_is_replaced_makes_its_node_one_that_changes() -> None:
    held = given(one=["MIG-0-0-0"], other=["MIG-1-6-0"])
    node = {"exists": True, "allocatable": {}, "labels": None, "pods": [pod("one"), pod("other")]}
    changes = host("gpu-01", driver=OLD, pod_devices=held, cluster=["prod", ""])
    plan = plan_fleet([changes, host("gpu-02")], clusters=[(["prod", ""], {"nodes": {"gpu-01": node}})])
    found = plan["hosts"][0]
    assert (found["status"], plan["drift"]) == ("changes", True)
    assert found["driver"] == {
        "from": {"version": "575.57.08", "kernel_modules": "open"},
        "to": {"version": "580", "kernel_modules": "open"},
        "steps": ["packages", "units", "reboot"],
        "in_turn": True,
        "reboot": True,
    }
    assert found["pods"] == ["ml/pod-one", "ml/pod-other"]
    assert found["instances"] == {"keep": 14, "destroy": 0, "create": 0}
    assert (plan["fleet"]["reboots"], plan["fleet"]["drivers"]) == (1, {"in_turn": 1, "at_once": 0})
    assert [wave["hosts"] for wave in plan["waves"]["waves"]] == [["gpu-01"]]
    read = text(plan)
    said = (
        "driver 575.57.08 -> 580 in the turn of the node: all its GPU pods go, then packages, a reboot, and every "
        "instance is made anew"
    )
    assert said in read
    assert said in markdown(plan)
    assert "as before, their instances made anew" in read
    assert "2 hosts: 1 to change, 1 as wanted. Nothing was touched." in read
    assert "Drivers: 1 replaced when the turn of the node comes, 0 at once." in read


@pytest.mark.parametrize(
    ("of_host", "said"),
    [
        (driver("575.57.08", "reboot", waits=False), "580 at once, before the turn of any node, with a reboot\n"),
        (driver("580.82.07", "packages"), "then packages, a reboot if another version comes, and every instance"),
        (driver("580.82.07", "hold", "units"), "driver 580.82.07: hold, units at once"),
        (driver(None, "packages", "load"), "driver none -> 580 at once, before the turn of any node\n"),
        (driver(None, "packages", "reboot"), "none -> 580 at once, before the turn of any node, with a reboot\n"),
        (
            driver("580.82.07", "reboot", loaded={"version": "580.82.07", "kernel_modules": "proprietary"}),
            "driver 580.82.07 (proprietary) -> 580 (open) in the turn",
        ),
    ],
)  # fmt: skip
def test_what_is_done_about_a_driver_is_said(of_host: dict[str, Any], said: str) -> None:
    plan = plan_fleet([host("gpu-01", driver=of_host)])
    assert plan["hosts"][0]["status"] == "changes"
    assert said in text(plan)
    # What comes at once is there before the first wave.
    assert bool(plan["waves"]["waves"]) == of_host["waits"]


def test_a_host_without_a_driver_is_planned_from_the_inventory_or_named() -> None:
    bare = {"gpus": None, "unread": "no NVIDIA driver is loaded", "driver": driver(None, "packages", "load")}
    described = {**bare, "mig_gpus": [{"model": A100, "instances": {"1g.10gb": 7}}]}
    plan = plan_fleet([host("gpu-01", **bare), host("gpu-02", **described)])
    assert [one["status"] for one in plan["hosts"]] == ["not_planned", "changes"]
    assert plan["not_planned"][0]["reason"] == (
        "no NVIDIA driver is loaded; driver 580 comes at once, its GPUs are known then, or now by mig_gpus"
    )
    assert plan["fleet"]["drivers"] == {"in_turn": 0, "at_once": 2}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"driver": {**OLD, "changes": [], "waits": False, "reason": "there is no GPU"}}, "there is no GPU."),
        ({"driver": {**OLD, "stops": "driver 580 needs a reboot"}}, "driver 580 needs a reboot."),
        ({"driver": OLD, "kubernetes": False}, "then set driver_drained to true."),
    ],
)  # fmt: skip
def test_what_the_role_driver_refuses_is_refused(more: dict[str, Any], said: str) -> None:
    found = one(**more)
    assert (found["status"], found["driver"]) == ("refused", None)
    assert found["reason"].endswith(said)


def test_a_process_in_no_pod_is_in_the_way_of_another_driver() -> None:
    gpus = [seven(0, busy=2), seven(1)]
    held = {**given(), "processes": [{"pid": 4200, "where": "host", "pod_uid": None}]}
    assert one(gpus=gpus, pod_devices=held)["status"] == "unchanged"
    found = one(gpus=gpus, pod_devices=held, driver=OLD)
    assert found["status"] == "blocked"
    assert (
        "process 4200 (python) uses a GPU and runs in no pod: stop it before the driver is replaced" in found["notes"]
    )


def test_the_document_of_a_review_has_every_host_and_the_json_is_plain() -> None:
    plan = plan_fleet([host("gpu-01", layout=HALVES), host("gpu-02"), host("gpu-03", gpus=None)])
    read = markdown(plan)
    assert "| gpu-02 | as wanted |" in read
    assert "| gpu-03 | not planned |" in read
    assert "nvidia-smi mig -i 1 -cgi 9:0,9:4 -C" in read
    assert read.count("```") % 2 == 0
    assert json.loads(json.dumps(plan)) == plan

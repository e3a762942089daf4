# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds what: three witnesses, what they disagree on, and whom a plan takes something from."""

from __future__ import annotations

from typing import Any

from unit.planner_support import Gpu, gpu, instance, standing

from ansible_collections.gpufleet.mig.plugins.module_utils._holders import affected, holders
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host

A, B = "0b9d1f2e-5a1c-4a57-9d55-0d6f7a1f000a", "0b9d1f2e-5a1c-4a57-9d55-0d6f7a1f000b"
ON = gpu("h100-sxm5-80gb")
FIRST, SECOND, LAST = "MIG-0-0-0", "MIG-0-1-0", "MIG-0-4-0"
KEY = "nvidia.com/mig-1g.10gb"


def host(*busy: int) -> list[Gpu]:
    """1g at 0 and 1 and 3g at 4; those at `busy` have process 4000 + 100 * start."""
    return [
        standing(
            ON,
            instance(ON, "1g.10gb", 0, busy=0 in busy),
            instance(ON, "1g.10gb", 1, busy=1 in busy),
            instance(ON, "3g.40gb", 4, busy=4 in busy),
        )
    ]


def entry(uid: str, *devices: str, resource: str = KEY, container: str = "main") -> dict[str, Any]:
    return {"pod_uid": uid, "container": container, "resource": resource, "devices": list(devices)}


def given(*entries: dict[str, Any], owners: dict[int, str | None] | None = None) -> dict[str, Any]:
    """What pod_devices_info returns; an owner of None is the host."""
    return {
        "checkpoint": {"state": "read", "error": None, "entries": list(entries), "registered": {}},
        "processes": [
            {"pid": pid, "where": "pod" if uid else "host", "pod_uid": uid, "container_id": None}
            for pid, uid in (owners or {}).items()
        ],
    }


def pod(uid: str, name: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "uid": uid,
        "kubelet_uid": uid,
        "namespace": "ml",
        "name": name,
        "owner": {"kind": "ReplicaSet", "name": "rs", "uid": "rs"},
        "phase": "Running",
        "reason": None,
        "finished": False,
        "ending": False,
        "requests": {"main": {KEY: count}} if count else {},
        **more,
    }


def kinds(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["kind"], one["blocks"]) for one in answer["disagreements"]]


def test_witnesses_that_agree() -> None:
    answer = holders(host(0), given(entry(A, FIRST), owners={4000: A}), [pod(A, "train")])
    assert answer["disagreements"] == []
    assert answer["complete"] is True
    assert answer["devices"][FIRST]["pods"] == [A]
    assert answer["devices"][FIRST]["processes"] == [{"pid": 4000, "name": "python", "where": "pod", "pod_uid": A}]
    assert answer["devices"][SECOND]["pods"] == []
    assert (answer["pods"][A]["namespace"], answer["pods"][A]["name"]) == ("ml", "train")
    assert answer["pods"][A]["devices"] == [FIRST]


def test_an_entry_of_a_pod_that_has_ended_is_stale_and_blocks_nothing() -> None:
    for pods in ([], [pod(A, "train", finished=True, phase="Succeeded")]):
        answer = holders(host(), given(entry(A, FIRST)), pods)
        assert kinds(answer) == [("stale", "nothing")]
        assert answer["devices"][FIRST]["pods"] == []
        assert answer["complete"] is True


def test_a_stale_entry_with_a_living_process_is_not_free() -> None:
    answer = holders(host(0), given(entry(A, FIRST), owners={4000: A}), [])
    assert kinds(answer) == [("stale", "nothing"), ("not_given", "device")]
    assert answer["complete"] is False


def test_an_ending_pod_still_holds() -> None:
    answer = holders(host(), given(entry(A, FIRST)), [pod(A, "train", ending=True)])
    assert answer["devices"][FIRST]["pods"] == [A]


def test_a_pod_without_entry_blocks_everything() -> None:
    answer = holders(host(), given(), [pod(A, "new")])
    assert kinds(answer) == [("no_entry", "all")]
    assert "pod ml/new wants 1 nvidia.com/mig-1g.10gb" in answer["disagreements"][0]["message"]
    assert kinds(holders(host(), given(entry(A, FIRST)), [pod(A, "two", 2)])) == [("no_entry", "all")]


def test_a_device_that_does_not_exist_any_more() -> None:
    answer = holders(host(), given(entry(A, "MIG-gone")), [pod(A, "train")])
    assert kinds(answer) == [("dead", "all")]
    assert "pod ml/train holds MIG-gone" in answer["disagreements"][0]["message"]


def test_processes_that_no_pod_was_given_the_device_for() -> None:
    owners: dict[int, str | None] = {4000: B, 4100: None}
    answer = holders(host(0, 1, 4), given(entry(B, LAST, resource="nvidia.com/mig-3g.40gb"), owners=owners), None)
    assert kinds(answer) == [
        ("api", "all"),
        ("not_given", "device"),
        ("host_process", "device"),
        ("unknown_process", "device"),
    ]
    assert (
        "process 4100 (python) uses 1g.10gb at 1 of GPU 0 and runs in no pod" in answer["disagreements"][2]["message"]
    )


def test_a_checkpoint_that_was_not_read_is_unknown() -> None:
    devices = {"checkpoint": {"state": "missing", "error": "it is not there", "entries": None}, "processes": []}
    answer = holders(host(), devices, [pod(A, "train")])
    assert kinds(answer) == [("checkpoint", "all")]
    plan = plan_host(host(), [{"gpus": 0, "instances": {"1g.10gb": 2}}])
    assert affected(plan, answer)["unknown"] == ["which pod holds what is unknown: it is not there"]
    assert affected(plan_host(host(), None), answer) == {
        "scope": "none", "devices": [], "pods": [], "processes": [], "unknown": []
    }  # fmt: skip


def test_busy_without_a_process_is_told() -> None:
    hidden = host()
    hidden[0]["instances"][2]["busy"] = True
    assert kinds(holders(hidden, given(), [])) == [("unseen", "device")]


def test_replicas_and_whole_gpus() -> None:
    uuid = ON["uuid"]
    entries = [entry(A, f"{uuid}::0", resource="nvidia.com/gpu.shared"), entry(B, f"{uuid}::1", resource="renamed/gpu")]
    pods = [pod(A, "a", requests={}), pod(B, "b", requests={})]
    answer = holders(host(0), given(*entries, owners={4000: A}), pods)
    assert answer["devices"][uuid]["pods"] == [A, B]
    assert answer["disagreements"] == []  # a pod with the GPU may use an instance of it
    gone = affected(plan_host(host(0), [{"gpus": 0, "instances": {"3g.40gb": 1}}]), answer)
    assert [one["name"] for one in gone["pods"]] == ["a", "b"]


def test_other_plugins_devices_are_none_of_ours() -> None:
    answer = holders(host(), given(entry(A, "0000:3b:02.1", resource="example.com/nic")), [])
    assert (answer["pods"], answer["disagreements"]) == ({}, [])


def test_a_host_in_no_cluster_has_processes_only() -> None:
    answer = holders(host(1))
    assert answer["devices"][SECOND]["processes"] == [{"pid": 4100, "name": "python", "where": None, "pod_uid": None}]
    assert answer["complete"] is True


# affected


def everyone() -> dict[str, Any]:
    entries = [entry(A, FIRST), entry(B, LAST, resource="nvidia.com/mig-3g.40gb")]
    pods = [pod(A, "small"), pod(B, "large", requests={}, owner={"kind": "DaemonSet", "name": "ds", "uid": "ds"})]
    return holders(host(0, 4), given(*entries, owners={4000: A, 4400: B}), pods)


def test_only_the_pods_on_instances_that_go() -> None:
    plan = plan_host(host(), [{"gpus": 0, "instances": {"1g.10gb": 2, "2g.20gb": 1}}])
    found = affected(plan, everyone())
    assert (found["scope"], found["devices"]) == ("instances", [LAST])
    assert [(one["name"], one["daemonset"], one["devices"]) for one in found["pods"]] == [("large", True, [LAST])]
    assert found["unknown"] == []


def test_a_compute_instance_that_goes_inside_an_instance_that_stays() -> None:
    inside = [("1c.3g.40gb", 0, False), ("2c.3g.40gb", 1, False)]
    gpus = [standing(ON, instance(ON, "3g.40gb", 0, compute=inside))]
    entries = [entry(A, "MIG-0-0-0"), entry(B, "MIG-0-0-1")]
    held = holders(gpus, given(*entries), [pod(A, "a"), pod(B, "b")])
    wanted = [{"profile": "3g.40gb", "start": 0, "compute_instances": [{"profile": "1c.3g.40gb", "start": 0}]}]
    assert [one["name"] for one in affected(plan_host(gpus, [{"gpus": 0, "instances": wanted}]), held)["pods"]] == ["b"]


def test_a_mode_change_takes_the_gpu_and_a_reboot_the_node() -> None:
    plan = plan_host(host(), [{"gpus": 0, "mig": "disabled"}])
    found = affected(plan, everyone())
    assert found["scope"] == "gpus"
    assert [one["name"] for one in found["pods"]] == ["large", "small"]
    old = gpu("a100-sxm4-40gb", mode="disabled", nvml=False)
    other = {**standing(ON, instance(ON, "1g.10gb", 0)), "index": 1, "uuid": "GPU-other"}
    reboot = plan_host([old, other], [{"gpus": 0, "mig": "enabled"}], allow=["reboot"])
    held = holders([old, other], given(entry(A, FIRST)), [pod(A, "a")])
    assert affected(reboot, held)["scope"] == "node"
    assert [one["name"] for one in affected(reboot, held)["pods"]] == ["a"]


def test_a_disagreement_blocks_only_where_it_matters() -> None:
    """A process of nobody on the 1g at 1 does not keep the 3g from going, and does keep itself."""
    held = holders(host(1), given(owners={4100: None}), [])
    elsewhere = plan_host(host(1), [{"gpus": 0, "instances": {"1g.10gb": 2}}])
    here = plan_host(host(1), [{"gpus": 0, "instances": {"3g.40gb": 1}}])
    assert affected(elsewhere, held)["unknown"] == []
    assert affected(elsewhere, held)["processes"] == []
    assert "process 4100" in affected(here, held)["unknown"][0]
    assert [one["pid"] for one in affected(here, held)["processes"]] == [4100]

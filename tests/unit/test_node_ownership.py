# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Whose a node is and which pods go: the decisions alone, from API objects."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from ansible_collections.gpufleet.mig.plugins.module_utils import _eviction, _ownership
from ansible_collections.gpufleet.mig.plugins.module_utils._eviction import Allowed


def node(schedulable: bool = True, labels: dict[str, str] | None = None, **annotations: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "a", "labels": labels or {}, "annotations": {"theirs": "1", **annotations}},
        "spec": {} if schedulable else {"unschedulable": True},
    }


def patched(target: Any, patch: Any) -> Any:
    """RFC 7386, as the API does it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = patched(result.get(key), value)
    return result


def unschedulable(found: dict[str, Any]) -> bool:
    return bool(found["spec"].get("unschedulable", False))


def layout(run: str) -> dict[str, Any]:
    return {"layout": [{"gpus": 0, "mig": "disabled"}], "strategy": "none", "run": run}


@pytest.mark.parametrize("crashes", range(3))
def test_previous_is_what_stood_when_the_change_began_however_often_a_run_dies(crashes: int) -> None:
    now = node()
    for run in range(crashes + 1):
        now = patched(now, _ownership.cordon(now, f"r{run}"))
        # a later run finds the half-made change of the one before
        now = patched(now, _ownership.mark(now, "changing", None, layout(f"before r{run}"), untaint=False))
    now = patched(now, _ownership.restore(now, "done", "d", layout("made"), layout("half made")))
    assert _ownership.layouts(now) == {"made": layout("made"), "previous": layout("before r0")}
    assert "gpufleet.io/before" not in now["metadata"]["annotations"]
    # the next change and its undoing leave both as they are
    again = patched(now, _ownership.cordon(now, "r9"))
    again = patched(again, _ownership.mark(again, "changing", None, layout("r9"), untaint=False))
    undone = patched(again, _ownership.restore(again))
    assert _ownership.layouts(undone) == _ownership.layouts(now)
    assert "gpufleet.io/before" not in undone["metadata"]["annotations"]


def test_a_layout_that_is_too_long_leaves_no_older_one_behind() -> None:
    now = patched(node(), _ownership.restore(node(), made=layout("made"), before=layout("before")))
    long = {"layout": [{"gpus": 0, "name": "x" * _ownership.KEPT_BYTES}]}
    now = patched(now, _ownership.restore(now, made=long, before=long))
    assert _ownership.layouts(now) == {"made": None, "previous": None}


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', '{"layout": 1}'])
def test_what_somebody_else_wrote_there_is_no_layout(text: str) -> None:
    theirs: dict[str, Any] = {"gpufleet.io/layout": text, "gpufleet.io/previous": text}
    found = _ownership.layouts(node(**theirs))
    assert found == {"made": None, "previous": None}
    begun: dict[str, Any] = {"gpufleet.io/before": text}
    assert _ownership.begun(node(**begun)) is None


@pytest.mark.parametrize("schedulable", [True, False])
@pytest.mark.parametrize("crashes", range(3))
@pytest.mark.parametrize("failed", [False, True])
def test_however_often_a_run_dies_the_node_ends_as_a_person_left_it(
    schedulable: bool, crashes: int, failed: bool
) -> None:
    now = node(schedulable)
    for run in range(crashes + 1):
        now = patched(now, _ownership.cordon(now, f"r{run}", "cordoned", "d1"))
        assert unschedulable(now)
        assert _ownership.not_ours(now, "a", f"r{run}") is None
        if failed:
            now = patched(now, _ownership.fail(now, f"r{run}", "NVML said no"))
            assert now["metadata"]["labels"] == {"gpufleet.io/mig-state": "failed"}
            assert unschedulable(now)
    now = patched(now, _ownership.taint(now))
    now = patched(now, _ownership.restore(now))
    assert now == node(schedulable)
    assert _ownership.restore(now) == {}


def test_what_a_successful_run_leaves_is_not_written_twice() -> None:
    now = node()
    now = patched(now, _ownership.cordon(now, "r1"))
    now = patched(now, _ownership.restore(now, "done", "d1"))
    left: dict[str, Any] = {"gpufleet.io/phase": "done", "gpufleet.io/target": "d1"}
    assert now == node(**left)
    assert _ownership.restore(now, "done", "d1") == {}
    assert _ownership.restore(now) == {}


def test_a_cordon_that_somebody_lifted_meanwhile_is_not_put_back_in_the_end() -> None:
    now = patched(node(False), _ownership.cordon(node(False), "r1"))
    now["spec"].pop("unschedulable")  # kubectl uncordon
    assert "made schedulable by somebody else" in str(_ownership.not_ours(now, "a", "r1"))
    now = patched(now, _ownership.cordon(now, "r2"))
    assert patched(now, _ownership.restore(now)) == node(True)


def test_each_way_to_lose_a_node_is_told() -> None:
    ours = patched(node(), _ownership.cordon(node(), "r1"))
    assert "not in the cluster" in str(_ownership.not_ours(None, "a", "r1"))
    assert "does not carry the mark" in str(_ownership.not_ours(node(False), "a", "r1"))
    assert "taken over by run r1" in str(_ownership.not_ours(ours, "a", "r2"))
    assert _ownership.not_ours(ours, "a", "r1") is None


def test_taints_of_others_stay() -> None:
    now = node()
    now["spec"]["taints"] = [{"key": "theirs", "effect": "NoSchedule"}]
    tainted = patched(now, _ownership.taint(now))
    assert [each["key"] for each in tainted["spec"]["taints"]] == ["theirs", "gpufleet.io/mig-change"]
    assert _ownership.taint(tainted) == {}
    assert patched(tainted, _ownership.mark(tainted, None, None, untaint=True)) == now


# other controllers


def agent(name: str, labels: dict[str, str], selector: dict[str, str], container: str = "c") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "gpu", "uid": f"uid-{name}", "labels": labels},
        "spec": {"containers": [{"name": container}], "nodeSelector": selector},
        "status": {"phase": "Running"},
    }


OPERATOR = agent("mm-1", {"app": "nvidia-mig-manager"}, {"nvidia.com/gpu.deploy.mig-manager": "true"})
DRA = agent(
    "dra-1",
    {"dra-driver-nvidia-gpu-component": "kubelet-plugin"},
    {"nvidia.com/dra-kubelet-plugin": "true"},
    "gpus",
)


def test_labels_that_an_uninstalled_operator_left_do_not_make_a_manager() -> None:
    left = node(labels={"nvidia.com/mig.config": "all-1g.5gb", "nvidia.com/gpu.deploy.mig-manager": "true"})
    assert _ownership.managers(left, []) == []
    ended = {**OPERATOR, "status": {"phase": "Failed"}}
    assert _ownership.managers(left, [ended]) == []


def test_managers_are_named_with_the_way_to_switch_them_off() -> None:
    found = _ownership.managers(node(labels={"nos.nebuly.com/gpu-partitioning": "mig"}), [OPERATOR, DRA])
    assert [each.name for each in found] == ["GPU operator's mig-manager", "NVIDIA's DRA driver", "nos"]
    assert [dict(each.off) for each in found] == [
        {"nvidia.com/gpu.deploy.mig-manager": "false"},
        {"nvidia.com/dra-kubelet-plugin": "false"},
        {"nos.nebuly.com/gpu-partitioning": None},
    ]
    assert [each.obstacle for each in found] == [None, None, None]
    sentence = _ownership.refusal("a", found)
    assert all(each.name in sentence for each in found)
    assert "gpu/mm-1" in sentence


def test_what_cannot_be_switched_off_for_one_node_or_is_busy_is_said() -> None:
    everywhere = {**DRA, "spec": {**DRA["spec"], "nodeSelector": {}}}
    (found,) = _ownership.managers(node(), [everywhere])
    assert "is not selected by the node label" in str(found.obstacle)
    (found,) = _ownership.managers(node(labels={"nvidia.com/mig.config.state": "pending"}), [OPERATOR])
    assert "in the middle of a change" in str(found.obstacle)


def test_a_dra_driver_for_compute_domains_alone_does_no_harm() -> None:
    domains = {**DRA, "spec": {**DRA["spec"], "containers": [{"name": "compute-domains"}]}}
    assert _ownership.managers(node(), [domains]) == []


# eviction


def pod(name: str, owner: str | None = "ReplicaSet", gpu: str = "1", phase: str = "Running", **more: Any) -> Any:
    metadata: dict[str, Any] = {"name": name, "namespace": "shop", "uid": f"uid-{name}", **more.pop("metadata", {})}
    if owner:
        metadata["ownerReferences"] = [{"kind": owner, "name": f"o-{name}", "uid": "o", "controller": True}]
    container = {"name": "c", "resources": {"limits": {"nvidia.com/mig-1g.10gb": gpu} if gpu else {"cpu": "1"}}}
    return {"metadata": metadata, "spec": {"containers": [container], **more}, "status": {"phase": phase}}


def names(pods: Any) -> list[str]:
    return [each["metadata"]["name"] for each in pods]


SCRATCH: dict[str, Any] = {
    "volumes": [{"name": "scratch", "emptyDir": {"medium": "Memory"}}, {"name": "conf", "configMap": {}}]
}
MIRROR: dict[str, Any] = {"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}


def test_only_the_pods_named_go_and_other_gpu_pods_are_said_to_stay() -> None:
    pods = [pod("goes"), pod("stays"), pod("no-gpu", gpu=""), pod("none", gpu="0"), pod("over", phase="Failed")]
    found = _eviction.decide(pods, ["uid-goes", "uid-long-gone", "uid-over"], Allowed())
    assert names(found.evict) == ["goes"]
    assert names(found.stay) == ["stays"]
    assert found.blockers == ()


def test_without_names_every_gpu_pod_goes_also_one_that_asks_in_an_init_container() -> None:
    early = pod("early", gpu="")
    early["spec"]["initContainers"] = [{"name": "i", "resources": {"requests": {"nvidia.com/gpu": "1"}}}]
    found = _eviction.decide([early, pod("web"), pod("no-gpu", gpu="")], None, Allowed())
    assert names(found.evict) == ["early", "web"]


def test_every_reason_of_every_pod_is_listed_at_once() -> None:
    pods = [
        pod("bare", None, **SCRATCH),
        pod("cache", **SCRATCH),
        pod("daemon", "DaemonSet"),
        pod("fine"),
        pod("static", "Node", **MIRROR),
    ]
    found = _eviction.decide(pods, None, Allowed())
    assert [(each.pod, each.why) for each in found.blockers] == [
        ("shop/bare", "unmanaged"),
        ("shop/bare", "emptydir"),
        ("shop/cache", "emptydir"),
        ("shop/daemon", "daemonset"),
        ("shop/static", "mirror"),
    ]
    sentence = _eviction.told(found.blockers)
    for words in ("scratch", "o-daemon", "mig_evict_unmanaged", "mig_evict_emptydir", "mig_evict_daemonsets"):
        assert words in sentence


@pytest.mark.parametrize(("unmanaged", "emptydir"), list(itertools.product([False, True], repeat=2)))
def test_an_unmanaged_pod_with_data_needs_both_opt_ins(unmanaged: bool, emptydir: bool) -> None:
    found = _eviction.decide([pod("bare", None, **SCRATCH)], None, Allowed(unmanaged, emptydir))
    assert (names(found.evict) == ["bare"]) == (unmanaged and emptydir)
    assert len(found.blockers) == (not unmanaged) + (not emptydir)


def test_daemonset_pods_are_deleted_only_with_the_opt_in_and_orphans_count_as_unmanaged() -> None:
    daemon = pod("daemon", "DaemonSet")
    assert names(_eviction.decide([daemon], None, Allowed(daemonsets=True)).delete) == ["daemon"]
    orphan = _eviction.decide([daemon], None, Allowed(daemonsets=True), {"uid-daemon"})
    assert [each.why for each in orphan.blockers] == ["unmanaged"]
    assert names(_eviction.decide([daemon], None, Allowed(unmanaged=True), {"uid-daemon"}).evict) == ["daemon"]


def test_a_pod_on_its_way_out_is_waited_for_whatever_it_is() -> None:
    ending = pod("bare", None, metadata={"deletionTimestamp": "now"}, **SCRATCH)
    found = _eviction.decide([ending], None, Allowed())
    assert (names(found.ending), found.evict, found.blockers) == (["bare"], (), ())


def test_newcomers_are_gpu_pods_that_nobody_announced() -> None:
    pods = [pod("known"), pod("new"), pod("no-gpu", gpu=""), pod("over", phase="Succeeded")]
    assert names(_eviction.newcomers(pods, ["uid-known"])) == ["new"]


def test_blockers_are_plain_data() -> None:
    (blocker,) = _eviction.decide([pod("bare", None)], None, Allowed()).blockers
    assert json.loads(json.dumps(blocker.plain()))["kind"] == "pod"

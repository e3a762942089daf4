# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""node_maintenance against an API server over real HTTP: what stands on the node and in the cluster afterwards."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.kube_server import ROOT, Api, node, run_here
from unit.maintenance_support import LEASE, cordoned, gpu_pod, marks, there, work

from ansible_collections.gpufleet.mig.plugins.module_utils import _rights


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    server = Api(tmp_path)
    server.put(node("a", {}), node("b", {}))
    yield server
    server.shutdown()
    server.server_close()


# cordon and give back


def test_four_steps_of_a_cordon(api: Api) -> None:
    wish = {"a": {"target": "d1"}}
    predicted = work(api, "cordoned", wish, check=True, phase="cordoned")
    assert not api.writes()
    done = work(api, "cordoned", wish, phase="cordoned")
    assert [line.split("?")[0] for line in api.writes()] == ["PATCH /api/v1/nodes/a"]
    assert cordoned(api)
    assert marks(api) == {"run": "r1", "was-schedulable": "true", "phase": "cordoned", "target": "d1"}
    assert predicted["diff"] == done["diff"]
    assert "node a: unschedulable: true" in done["diff"]["after"]
    for check in (False, True):
        again = work(api, "cordoned", wish, check=check, phase="cordoned")
        assert (again["changed"], again["nodes"]["a"]["found_schedulable"]) == (False, True)
    assert len(api.writes()) == 1
    assert [(each["node"], each["phase"], each["blockers"]) for each in done["gpufleet"]] == [("a", "cordoned", [])]


def test_a_crashed_runs_cordon_is_given_back_and_a_persons_stays(api: Api) -> None:
    api.put(node("b", {}, unschedulable=True))
    both: dict[str, Any] = {"a": {}, "b": None}
    work(api, "cordoned", both, run="r1")
    work(api, "cordoned", both, run="r2")
    assert marks(api)["run"] == marks(api, "b")["run"] == "r2"
    done = work(api, "restored", both, run="r2")
    assert (cordoned(api, "a"), cordoned(api, "b")) == (False, True)
    assert (marks(api, "a"), marks(api, "b")) == ({}, {})
    assert [done["nodes"][name]["found_schedulable"] for name in "ab"] == [True, False]
    before = len(api.writes())
    assert work(api, "restored", both, run="r2")["changed"] is False
    assert len(api.writes()) == before


def test_pods_that_the_kubelet_refused_go_only_when_asked_and_only_they(api: Api) -> None:
    refused = {"status": {"phase": "Failed", "reason": "UnexpectedAdmissionError"}}
    runs, dead = gpu_pod(api, "runs"), gpu_pod(api, "dead")
    api.put({**gpu_pod(api, "refused"), **refused}, {**gpu_pod(api, "elsewhere", node_name="b"), **refused})
    other_device = {**gpu_pod(api, "network-card"), **refused}
    other_device["spec"]["containers"][0]["resources"] = {"limits": {"vendor.example/nic": "1"}}
    api.put({**dead, "status": {"phase": "Failed", "reason": "Evicted"}}, runs, other_device)
    everyone = there(api)
    work(api, "cordoned")
    assert work(api, "restored")["nodes"]["a"]["cleaned"] == []
    assert there(api) == everyone
    predicted = work(api, "restored", clean_failed=True, check=True)
    assert there(api) == everyone
    done = work(api, "restored", clean_failed=True)
    for answer in (predicted, done):
        assert [pod["name"] for pod in answer["nodes"]["a"]["cleaned"]] == ["shop/refused"]
    assert (predicted["changed"], done["changed"]) == (True, True)
    assert "pod shop/refused" in done["diff"]["before"]
    assert there(api) == [name for name in everyone if name != "refused"]
    assert work(api, "restored", clean_failed=True)["changed"] is False


def test_only_the_lock_holder_gives_back_what_another_run_left(api: Api) -> None:
    work(api, "cordoned", run="r1")
    assert "cordoned by run r1" in work(api, "restored", run="r2")["msg"]
    assert cordoned(api)
    told = run_here("rollout_lock", kubeconfig=api.kubeconfig(), run="r2")["lock"]
    work(api, "restored", run="r2", lock=told)
    assert (cordoned(api), marks(api)) == (False, {})


def test_a_write_in_between_is_read_again_not_overwritten(api: Api) -> None:
    api.conflicts["/api/v1/nodes/a"] = 3
    work(api, "cordoned")
    assert cordoned(api)
    api.conflicts["/api/v1/nodes/a"] = 100
    assert "changes so often" in work(api, "restored")["msg"]


def test_a_node_that_does_not_exist_does_not_keep_the_others_back(api: Api) -> None:
    answer = work(api, "cordoned", {"gone": {}, "a": {}})
    assert "has no node gone" in answer["msg"]
    assert answer["nodes"]["a"]["error"] is None
    assert cordoned(api)


# the last look


def test_each_thing_that_changed_since_stops_the_change(api: Api) -> None:
    keeps = gpu_pod(api, "keeps")
    wish = {"a": {"keep": [keeps["metadata"]["uid"]], "target": "d1"}}
    work(api, "cordoned")
    work(api, "checked", wish, phase="changing")
    assert (marks(api)["phase"], marks(api)["target"]) == ("changing", "d1")
    gpu_pod(api, "new")
    answer = work(api, "checked", wish, phase="changing")
    assert "shop/new uses a GPU and was not there" in answer["msg"]
    assert answer["nodes"]["a"]["blockers"][0]["name"] == "shop/new"
    api.delete("/api/v1/namespaces/shop/pods/new")
    assert "taken over by run r1" in work(api, "checked", wish, run="r0")["msg"]
    api.objects["/api/v1/nodes/a"]["spec"].pop("unschedulable")
    assert "made schedulable by somebody else" in work(api, "checked", wish)["msg"]
    api.put(node("a", {}, unschedulable=True))
    assert "was it made anew" in work(api, "checked", wish)["msg"]


def test_the_last_look_proves_the_lock(api: Api) -> None:
    told = run_here("rollout_lock", kubeconfig=api.kubeconfig(), run="r1")["lock"]
    work(api, "cordoned", lock=told)
    renewed = api.objects[LEASE]["spec"]["renewTime"]
    work(api, "checked", lock=told)
    assert api.objects[LEASE]["spec"]["renewTime"] > renewed
    run_here("rollout_lock", kubeconfig=api.kubeconfig(), run="r2", force=True)
    before = len(api.writes())
    assert "is not r1@" in work(api, "checked", lock=told, phase="changing")["msg"]
    assert len(api.writes()) == before


# failed


def test_a_failed_node_stays_out_with_label_reason_and_event(api: Api) -> None:
    work(api, "cordoned")
    wish = {"a": {"reason": "GPU 3 refused 3g.40gb; the old layout could not be put back.", "next": "run rollback"}}
    assert work(api, "failed", wish, check=True)["changed"]
    assert len(api.writes()) == 1
    work(api, "failed", wish)
    work(api, "failed", wish)
    assert cordoned(api)
    assert marks(api) == {
        "run": "r1",
        "was-schedulable": "true",
        "phase": "failed",
        "mig-state": "failed",
        "reason": "GPU 3 refused 3g.40gb; the old layout could not be put back. Next: run rollback",
    }
    (event,) = [each for each in api.objects.values() if each["kind"] == "Event"]
    assert event["regarding"]["name"] == "a"
    assert (event["type"], event["note"]) == ("Warning", marks(api)["reason"])
    work(api, "restored")
    assert (cordoned(api), marks(api)) == (False, {})


def test_a_failed_node_is_marked_even_where_events_are_forbidden(api: Api) -> None:
    api.forbidden.add(("POST", "/apis/events.k8s.io/v1/namespaces/default/events"))
    answer = work(api, "failed", {"a": {"reason": "x" * 3000}})
    assert marks(api)["mig-state"] == "failed"
    assert "no Event could be written" in str(answer["warnings"])


# other controllers


def test_a_node_of_mig_manager_is_refused_until_takeover_switches_it_off(api: Api) -> None:
    key = "nvidia.com/gpu.deploy.mig-manager"
    agent = gpu_pod(api, "nvidia-mig-manager-x", "DaemonSet", labels={"app": "nvidia-mig-manager"})
    agent["spec"].update(nodeSelector={key: "true"}, containers=[{"name": "nvidia-mig-manager"}])
    api.objects["/api/v1/nodes/a"]["metadata"]["labels"][key] = "true"
    answer = work(api, "cordoned")
    assert "managed by GPU operator's mig-manager (pod shop/nvidia-mig-manager-x)" in answer["msg"]
    assert not api.writes()
    stuck = work(api, "cordoned", takeover=True, timeout=0.3)
    assert "shop/nvidia-mig-manager-x still runs" in stuck["msg"]
    assert not cordoned(api)

    def operator() -> None:
        while api.objects["/api/v1/nodes/a"]["metadata"]["labels"][key] != "false":
            time.sleep(0.01)
        api.delete("/api/v1/namespaces/shop/pods/nvidia-mig-manager-x")

    api.objects["/api/v1/nodes/a"]["metadata"]["labels"][key] = "true"
    threading.Thread(target=operator).start()
    done = work(api, "cordoned", takeover=True)
    assert done["nodes"]["a"]["taken_over"] == ["GPU operator's mig-manager"]
    assert cordoned(api)


# rights and bad input


def test_missing_rights_are_one_sentence_and_the_role_in_the_docs_grants_all(api: Api) -> None:
    assert "failed" not in work(api, "preflight")
    api.denied |= {"create pods/eviction", "patch leases"}
    answer = work(api, "preflight")
    assert answer["missing"] == ["create pods/eviction", "patch leases.coordination.k8s.io in namespace kube-system"]
    assert all(line in answer["msg"] for line in answer["missing"])
    granted = set()
    for document in yaml.safe_load((ROOT / "docs/cluster_role.yaml").read_text())["items"]:
        for rule in document.get("rules") or []:
            for part in itertools.product(rule["verbs"], rule["apiGroups"], rule["resources"]):
                granted.add((*part, document["metadata"].get("namespace")))
    wanted = {
        (each.verb, each.group, each.resource, each.namespace)
        for each in _rights.needed("kube-system", "nvidia-device-plugin")
    }
    assert granted == wanted


@pytest.mark.parametrize(
    ("nodes", "word"),
    [
        ({"a": {"pods": "uid"}}, "must be a list"),
        ({"a": {"pods": [1]}}, "list of pod uids"),
        ({"a": {"pod": []}}, "unknown key pod"),
        ({"a": ["x"]}, "must be a dictionary"),
        ({"a": {}}, "its pods must be given"),
    ],
)
def test_a_typing_error_evicts_nothing(api: Api, nodes: Any, word: str) -> None:
    gpu_pod(api, "web-1")
    assert word in work(api, "evicted", nodes)["msg"]
    assert not api.requests


def test_a_layout_that_cannot_be_kept_is_a_warning_and_not_a_failure(api: Api) -> None:
    long = {"layout": [{"gpus": 0, "name": "x" * 70_000}]}
    answer = work(api, "restored", {"a": {"made": long}}, wave=2)
    assert not answer.get("failed")
    assert "Node a: its layout is too long" in answer["warnings"][0]
    assert answer["gpufleet"][0]["wave"] == 2
    assert "gpufleet.io/layout" not in api.objects["/api/v1/nodes/a"]["metadata"].get("annotations", {})

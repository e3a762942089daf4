# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""node_gpu_info and node_publishers against an API server over real HTTP, each run as Ansible runs it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.kube_server import GFD, NAMESPACE, PLUGIN, Api, node, pod, run_here, run_module

CONFIG = "nvidia.com/device-plugin.config"
SEVEN = {"nvidia.com/mig-1g.10gb": 7}
LABELS = {"nvidia.com/gpu.count": "1", "nvidia.com/mig.strategy": "mixed"}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    server = Api(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


def ready_node(api: Api, name: str, allocatable: dict[str, int], labels: dict[str, str] | None = None) -> None:
    api.put(node(name, allocatable, labels), pod(PLUGIN, name), pod(GFD, name))


def info(api: Api, *names: str, **params: Any) -> dict[str, Any]:
    return run_here("node_gpu_info", kubeconfig=api.kubeconfig(), nodes=list(names), **params)


def publishers(api: Api, check: bool = False, **params: Any) -> dict[str, Any]:
    return run_here("node_publishers", check=check, kubeconfig=api.kubeconfig(), **params)


# node_gpu_info


def test_shows_every_nvidia_key_and_which_pod_is_which(api: Api) -> None:
    ready_node(api, "a", {**SEVEN, "nvidia.com/gpu": 0}, {**LABELS, CONFIG: "mixed"})
    api.put(node("b", {}, unschedulable=True))
    answer = info(api, "a", "b", "c")["nodes"]
    assert answer["a"]["allocatable"] == {**SEVEN, "nvidia.com/gpu": 0}
    assert answer["a"]["labels"] == {**LABELS, CONFIG: "mixed"}
    assert sorted((each["app"], each["ready"]) for each in answer["a"]["publishers"]) == [(GFD, True), (PLUGIN, True)]
    assert (answer["a"]["exists"], answer["a"]["ready"], answer["a"]["schedulable"]) == (True, True, True)
    assert (answer["b"]["exists"], answer["b"]["schedulable"], answer["b"]["publishers"]) == (True, False, [])
    assert answer["c"]["exists"] is False
    assert not api.writes()


def test_other_nodes_that_are_configured(api: Api) -> None:
    for name in ("c", "b", "a"):
        api.put(node(name, {}, {CONFIG: "mixed"}))
    api.put(node("bare", {}))
    assert info(api, "a", others=True)["others"] == ["b", "c"]
    assert "others" not in info(api, "a")


def gpu_pod(name: str, on: str, count: int, *, namespace: str = "ml", **status: Any) -> dict[str, Any]:
    """A bare pod of a user with an init container and a limit, as the API server stores it."""
    amounts = {"cpu": "1", **({"nvidia.com/mig-1g.10gb": str(count)} if count else {})}
    container = {"name": "main", "resources": {"limits": amounts, "requests": amounts}}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}"},
        "spec": {"nodeName": on, "initContainers": [{"name": "fetch"}], "containers": [container]},
        "status": {"phase": "Running", **status},
    }


def test_the_gpu_pods_of_each_node_and_those_named(api: Api) -> None:
    api.put(node("a", SEVEN), node("b", SEVEN))
    mirror = gpu_pod("static-a", "a", 2, namespace="kube-system")
    mirror["metadata"]["annotations"] = {
        "kubernetes.io/config.mirror": "5f" * 16,
        "kubernetes.io/config.hash": "5f" * 16,
    }
    api.put(gpu_pod("train", "a", 1), gpu_pod("web", "a", 0), gpu_pod("metrics", "a", 0), gpu_pod("other", "b", 1))
    api.put(mirror, gpu_pod("done", "a", 1, phase="Failed", reason="UnexpectedAdmissionError"))
    pods = info(api, "a", pods=True, pod_uids=["uid-metrics"])["nodes"]["a"]["pods"]
    assert [pod["name"] for pod in pods] == ["static-a", "done", "metrics", "train"]
    assert [pod["finished"] for pod in pods] == [False, True, False, False]
    static, done, metrics, train = pods
    assert (static["uid"], static["kubelet_uid"]) == ("uid-static-a", "5f" * 16)
    assert (done["phase"], done["reason"]) == ("Failed", "UnexpectedAdmissionError")
    assert metrics["requests"] == {}
    assert train["requests"] == {"main": {"nvidia.com/mig-1g.10gb": 1}}
    assert train["owner"] is None
    assert [pod["name"] for pod in info(api, "a", "b", pods=True)["nodes"]["b"]["pods"]] == ["other"]
    assert "pods" not in info(api, "a")["nodes"]["a"]
    assert not api.writes()


def test_what_a_change_left_behind_is_told(api: Api) -> None:
    """The kubelet keeps the capacity of a resource that nobody offers; pods that it refused stay as Failed."""
    api.put(node("a", {**SEVEN, "nvidia.com/gpu": 0}), node("b", SEVEN))
    api.objects["/api/v1/nodes/a"]["status"]["capacity"].update({"nvidia.com/gpu": "1", "nvidia.com/mig-2g.20gb": "3"})
    refused = {"phase": "Failed", "reason": "UnexpectedAdmissionError"}
    api.put(gpu_pod("old", "a", 1, **refused), gpu_pod("far", "b", 1, **refused), gpu_pod("runs", "a", 1))
    api.put(gpu_pod("failed", "a", 1, phase="Failed"), gpu_pod("nic", "a", 0, **refused))
    told = info(api, "a", refused=True)["nodes"]["a"]
    assert told["stale"] == ["nvidia.com/gpu", "nvidia.com/mig-2g.20gb"]
    assert told["refused"] == ["ml/old"]
    both = info(api, "a", "b", refused=True)["nodes"]
    assert [both[name]["refused"] for name in "ab"] == [["ml/old"], ["ml/far"]]
    assert "refused" not in info(api, "a")["nodes"]["a"]
    expect = {"resources": SEVEN, "capacity": SEVEN}
    wrong = info(api, "a", expect={"a": expect}, publishers=[], fail_on_mismatch=False)["nodes"]["a"]["mismatch"]
    assert wrong == [
        "node a: capacity nvidia.com/gpu is 1, wanted is no such key",
        "node a: capacity nvidia.com/mig-2g.20gb is 3, wanted is no such key",
    ]
    api.put(node("a", {**SEVEN, "nvidia.com/gpu": 0}))
    assert info(api, "a", expect={"a": expect}, publishers=[])["nodes"]["a"]["stale"] == []


def test_as_expected_passes_at_once_and_ignores_keys_at_zero(api: Api) -> None:
    ready_node(api, "a", {**SEVEN, "nvidia.com/gpu": 0}, {**LABELS, CONFIG: "mixed"})
    answer = info(api, "a", expect={"a": {"resources": {**SEVEN, "nvidia.com/x": 0}, "labels": LABELS}}, timeout=30)
    assert answer["nodes"]["a"]["mismatch"] == []
    assert answer["elapsed"] < 5


def test_a_key_that_should_not_be_there_is_a_difference(api: Api) -> None:
    ready_node(api, "a", {**SEVEN, "nvidia.com/gpu": 1})
    answer = info(api, "a", expect={"a": {"resources": {"nvidia.com/mig-1g.10gb": 5, "nvidia.com/mig-2g.20gb": 1}}})
    assert answer["failed"]
    assert answer["nodes"]["a"]["mismatch"] == [
        "node a: allocatable nvidia.com/gpu is 1, wanted is no such key",
        "node a: allocatable nvidia.com/mig-1g.10gb is 7, wanted is 5",
        "node a: allocatable nvidia.com/mig-2g.20gb is absent, wanted is 1",
    ]
    assert all(sentence in answer["msg"] for sentence in answer["nodes"]["a"]["mismatch"])


def test_resources_may_equal_an_alternative(api: Api) -> None:
    ready_node(api, "a", SEVEN)
    eight = {"nvidia.com/mig-1g.10gb": 8}
    expect = {"resources": eight, "resource_alternatives": [SEVEN]}
    assert info(api, "a", expect={"a": expect})["nodes"]["a"]["mismatch"] == []
    expect = {"resources": eight, "resource_alternatives": [{"nvidia.com/mig-1g.10gb": 9}]}
    wrong = info(api, "a", expect={"a": expect}, fail_on_mismatch=False)["nodes"]["a"]["mismatch"]
    assert wrong == ["node a: allocatable nvidia.com/mig-1g.10gb is 7, wanted is 8"]


def test_labels_may_equal_an_alternative_and_are_compared_both_ways(api: Api) -> None:
    ready_node(api, "a", {}, {**LABELS, "nvidia.com/gpu.product": "B", CONFIG: "mixed", "nvidia.com/mig.config": "x"})
    one, two = {**LABELS, "nvidia.com/gpu.product": "A"}, {**LABELS, "nvidia.com/gpu.product": "B"}
    assert info(api, "a", expect={"a": {"labels": one, "alternatives": [two]}})["nodes"]["a"]["mismatch"] == []
    answer = info(api, "a", expect={"a": {"labels": {"nvidia.com/gpu.count": "2"}}}, fail_on_mismatch=False)
    assert "failed" not in answer
    assert answer["nodes"]["a"]["mismatch"] == [
        "node a: label nvidia.com/gpu.count is '1', wanted is '2'",
        "node a: label nvidia.com/gpu.product is 'B', wanted is absent",
        "node a: label nvidia.com/mig.strategy is 'mixed', wanted is absent",
    ]


def test_waits_until_the_node_shows_what_is_expected(api: Api) -> None:
    ready_node(api, "a", SEVEN)
    api.put(node("b", {}), pod(PLUGIN, "b"), pod(GFD, "b"))

    def kubelet() -> None:
        time.sleep(1)
        api.put(node("b", SEVEN))

    threading.Thread(target=kubelet).start()
    answer = info(api, "a", "b", expect={name: {"resources": SEVEN} for name in "ab"}, timeout=20)
    assert [each["mismatch"] for each in answer["nodes"].values()] == [[], []]
    assert 0.5 < answer["elapsed"] < 10


@pytest.mark.slow
@pytest.mark.parametrize("watching", [True, False])
def test_waiting_takes_few_requests_and_survives_an_old_version(api: Api, watching: bool) -> None:
    """Node first, then its pods; where the API calls every version too old, it lists again now and then."""
    api.put(node("a", {}), node("other", {}), pod(PLUGIN, "a"), pod(GFD, "a", ready=False))
    api.watching = watching
    gfd = next(each for each in api.objects.values() if each["kind"] == "Pod" and GFD in each["metadata"]["name"])

    def kubelet() -> None:
        for number in range(20):
            time.sleep(0.05)
            api.put(node("a", {"nvidia.com/mig-1g.10gb": number % 7}), node("other", {}))
        api.put(node("a", SEVEN))
        time.sleep(1)
        api.put({**pod(GFD, "a"), "metadata": gfd["metadata"]})

    threading.Thread(target=kubelet).start()
    answer = info(api, "a", expect={"a": {"resources": SEVEN}}, timeout=20)
    assert answer["nodes"]["a"]["mismatch"] == []
    assert answer["elapsed"] < 10
    reads = [line for line in api.requests if "watch=true" not in line]
    assert len(reads) <= (4 if watching else 20)


def test_a_node_that_is_made_anew_while_one_waits_is_the_one_that_counts(api: Api) -> None:
    ready_node(api, "a", {})

    def replace() -> None:
        time.sleep(0.3)
        api.stamp(api.objects.pop("/api/v1/nodes/a"), "DELETED")
        new = node("a", SEVEN)
        new["metadata"]["uid"] = "another"
        api.put(new)

    threading.Thread(target=replace).start()
    answer = info(api, "a", expect={"a": {"resources": SEVEN}}, timeout=20)
    assert answer["nodes"]["a"]["mismatch"] == []
    assert answer["elapsed"] < 10


def test_at_timeout_names_the_pod_its_reason_and_its_last_words(api: Api) -> None:
    crash = {
        "name": "nvidia-device-plugin-ctr",
        "ready": False,
        "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
    }
    bad = pod(PLUGIN, "a", ready=False, containerStatuses=[crash])
    api.put(node("a", {}), bad)
    api.logs[bad["metadata"]["name"]] = "I1 starting\nE1 more than one MIG device type present on node\n"
    answer = info(api, "a", expect={"a": {}}, timeout=1)
    name = bad["metadata"]["name"]
    assert answer["nodes"]["a"]["mismatch"] == [
        f"node a: pod {NAMESPACE}/{name} on node a is not ready: container nvidia-device-plugin-ctr waits "
        "(CrashLoopBackOff), it ended with exit code 1, its last words: I1 starting | "
        "E1 more than one MIG device type present on node",
        "node a: no gpu-feature-discovery pod runs on it, wanted is one that is ready",
    ]
    assert answer["failed"]
    assert "after 1 s" in answer["msg"]


def test_failed_pods_that_a_daemonset_replaced_mean_nothing(api: Api) -> None:
    ready_node(api, "a", SEVEN)
    api.put(pod(PLUGIN, "a", ready=False, phase="Failed", reason="UnexpectedAdmissionError"))
    assert info(api, "a", expect={"a": {"resources": SEVEN}})["nodes"]["a"]["mismatch"] == []


def test_many_nodes_take_few_requests_and_all_pages_are_read(api: Api) -> None:
    names = [f"n{number:03}" for number in range(40)]
    for name in names:
        ready_node(api, name, SEVEN)
    api.page = 30
    answer = info(api, *names, expect={name: {"resources": SEVEN} for name in names})
    assert all(len(answer["nodes"][name]["publishers"]) == 2 for name in names)
    assert len(api.requests) == 2 + 3


@pytest.mark.parametrize(
    ("expect", "word"),
    [
        ({"b": {}}, "nodes does not list"),
        ({"a": {"resource": {}}}, "unknown key resource"),
        ({"a": {"resources": {"nvidia.com/gpu": "many"}}}, "whole number"),
        ({"a": {"resources": {"gpu": 1}}}, "nvidia.com key"),
        ({"a": {"labels": []}}, "labels must be a dict"),
    ],
)
def test_a_typing_error_in_expect_is_no_success(api: Api, expect: dict[str, Any], word: str) -> None:
    ready_node(api, "a", {})
    answer = info(api, "a", expect=expect)
    assert answer["failed"]
    assert word in answer["msg"]


# node_publishers


def test_label_is_set_where_it_differs_and_only_there(api: Api) -> None:
    ready_node(api, "a", {}, {CONFIG: "single"})
    ready_node(api, "b", {}, {CONFIG: "mixed"})
    wish = {"a": {"config": "mixed"}, "b": {"config": "mixed"}}
    predicted = publishers(api, check=True, nodes=wish)
    assert not api.writes()
    done = publishers(api, nodes=wish)
    assert {**predicted, "gpufleet": done["gpufleet"]} == done
    assert done["changed"]
    assert done["nodes"]["a"]["config"] == {"before": "single", "after": "mixed"}
    assert done["nodes"]["b"] == {"changed": False, "config": None, "restarted": []}
    assert done["diff"] == {"before": f"node a: {CONFIG}=single\n", "after": f"node a: {CONFIG}=mixed\n"}
    assert [line.split("?")[0] for line in api.writes()] == ["PATCH /api/v1/nodes/a"]
    assert publishers(api, nodes=wish)["changed"] is False
    assert publishers(api, check=True, nodes=wish)["changed"] is False


def test_an_empty_config_removes_the_label_and_other_labels_stay(api: Api) -> None:
    ready_node(api, "a", {}, {CONFIG: "single", "nvidia.com/gpu.count": "1"})
    publishers(api, nodes={"a": {"config": ""}})
    assert api.objects["/api/v1/nodes/a"]["metadata"]["labels"] == {
        "kubernetes.io/hostname": "a",
        "nvidia.com/gpu.count": "1",
    }


def test_restart_replaces_both_pods_of_that_node_and_waits_for_new_ones(api: Api) -> None:
    ready_node(api, "a", {}, {CONFIG: "mixed"})
    ready_node(api, "b", {}, {CONFIG: "mixed"})
    api.put(pod("workload", "a"))
    old = {each["uid"] for shown in info(api, "a", "b")["nodes"].values() for each in shown["publishers"]}
    predicted = publishers(api, check=True, nodes={"a": {"restart": True}, "b": {}})
    asked = len(api.requests)
    done = publishers(api, nodes={"a": {"restart": True}, "b": {}})
    lines = done["nodes"]["a"]["restarted"]
    assert [each["app"] for each in lines] == [GFD, PLUGIN]
    assert all(each["replaced_by"]["uid"] not in old for each in lines)
    assert [{**each, "replaced_by": None} for each in lines] == predicted["nodes"]["a"]["restarted"]
    assert not done["nodes"]["b"]["changed"]
    assert len(api.writes()) == 2
    assert sum("watch=true" not in line for line in api.requests) - asked <= 6
    shown = info(api, "a", "b")["nodes"]
    assert all(each["ready"] for name in "ab" for each in shown[name]["publishers"])
    assert {each["uid"] for each in shown["b"]["publishers"]} <= old


@pytest.mark.slow
def test_replacement_that_does_not_come_up_is_named(api: Api) -> None:
    ready_node(api, "a", {})
    api.replacement = {
        "status": {
            "phase": "Pending",
            "conditions": [{"type": "Ready", "status": "False"}],
            "initContainerStatuses": [
                {
                    "name": "init",
                    "ready": False,
                    "restartCount": 0,
                    "state": {"waiting": {"reason": "ErrImagePull", "message": "no such host"}},
                }
            ],
        }
    }
    answer = publishers(api, nodes={"a": {"restart": True}}, timeout=2)
    assert answer["failed"]
    assert "not back after 2 s" in answer["msg"]
    assert "init container init waits (ErrImagePull): no such host" in answer["msg"]
    assert len(answer["not_ready"]) == 2


def test_nothing_is_touched_when_a_node_an_owner_or_an_entry_is_missing(api: Api) -> None:
    ready_node(api, "a", {}, {CONFIG: "single"})
    wish = {"a": {"config": "mixed", "restart": True}}
    answer = publishers(api, nodes={**wish, "gone": {"config": "mixed"}})
    assert "no node gone" in answer["msg"]
    api.put(
        {
            "kind": "Configmap",
            "metadata": {"name": "nvidia-device-plugin-configs", "namespace": NAMESPACE},
            "data": {"none": "", "single": ""},
        }
    )
    assert "no entry 'mixed', it has none, single" in publishers(api, nodes=wish)["msg"]
    api.objects = {path: each for path, each in api.objects.items() if "configmaps" not in path}
    api.put(pod(PLUGIN, "a", owner=False))
    assert "belongs to no DaemonSet" in publishers(api, nodes=wish)["msg"]
    assert not api.writes()


@pytest.mark.parametrize(
    ("wish", "word"),
    [
        ({"config": 3}, "must be a string"),
        ({"restart": "yes"}, "must be true or false"),
        ({"strategy": "mixed"}, "unknown key strategy"),
    ],
)
def test_a_typing_error_in_nodes_is_told(api: Api, wish: dict[str, Any], word: str) -> None:
    assert word in publishers(api, nodes={"a": wish})["msg"]


# reaching the API


@pytest.mark.slow
def test_each_way_not_to_reach_the_api_is_one_sentence(api: Api, tmp_path: Path) -> None:
    ready_node(api, "a", {})

    def message(**params: Any) -> str:
        env = params.pop("env", None)
        answer = run_module("node_gpu_info", nodes=["a"], env=env, **params)
        assert answer["failed"]
        assert "Traceback" not in str(answer)
        return str(answer["msg"])

    assert "does not accept the credentials" in message(kubeconfig=api.kubeconfig(token="wrong"))  # noqa: S106
    assert "has no context third: it has main, other; set context (mig_kube_context)" in message(
        kubeconfig=api.kubeconfig(), context="third"
    )
    assert "does not exist on the machine that runs this module: set kubeconfig (mig_kubeconfig)" in message(
        kubeconfig=str(tmp_path / "nothing")
    )
    (tmp_path / "broken").write_text("{]")
    assert "is not a kubeconfig" in message(kubeconfig=str(tmp_path / "broken"))
    closed = api.kubeconfig(server="http://127.0.0.1:9")
    silent = message(kubeconfig=closed)
    assert "does not answer: Connection refused" in silent
    assert "or set kubeconfig (mig_kubeconfig) or context (mig_kube_context) to another one" in silent
    assert "No kubeconfig" in message(env={"HOME": str(tmp_path), "KUBECONFIG": ""})
    api.forbidden.add(("GET", "/api/v1/nodes"))
    assert 'does not let user "dev" get nodes at the cluster scope (403): give its role that verb' in message(
        kubeconfig=api.kubeconfig()
    )


def test_kubeconfig_of_the_environment_is_used(api: Api) -> None:
    ready_node(api, "a", {})
    answer = run_module("node_gpu_info", nodes=["a"], context="other", env={"KUBECONFIG": api.kubeconfig()})
    assert answer["nodes"]["a"]["exists"]


def test_missing_client_library_is_named(api: Api, tmp_path: Path) -> None:
    (tmp_path / "kubernetes.py").write_text("raise ImportError('No module named kubernetes')\n")
    path = f"{tmp_path}:{Path(__file__).resolve().parents[2] / '.tree'}"
    answer = run_module("node_gpu_info", nodes=["a"], kubeconfig=api.kubeconfig(), env={"PYTHONPATH": path})
    assert "Python package kubernetes cannot be imported" in answer["msg"]
    assert "pip install kubernetes" in answer["msg"]

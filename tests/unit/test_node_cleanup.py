# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""node_cleanup against an API server over real HTTP: what goes from a node, and that all else stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.kube_server import GFD, NAMESPACE, PLUGIN, Api, node, path_of, pod, run_here

CONFIG = "nvidia.com/device-plugin.config"
FEATURES = {"nvidia.com/gpu.count": "1", "nvidia.com/mig.strategy": "mixed", "nvidia.com/gfd.timestamp": "1795000000"}
OTHERS = {"nvidia.com/gpu.present": "true", "nvidia.com/mig.config": "all-disabled", "example.com/rack": "7"}
MARKS = {"gpufleet.io/target": "abc", "gpufleet.io/phase": "done"}
NFD = "nfd.node.kubernetes.io/feature-labels"
ALL = ["strategy", "features", "marks"]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    server = Api(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


def cleanup(api: Api, *names: str, check: bool = False, **params: Any) -> dict[str, Any]:
    return run_here("node_cleanup", check=check, kubeconfig=api.kubeconfig(), nodes=list(names), **params)


def labelled(name: str, labels: dict[str, str], annotations: dict[str, str], **spec: Any) -> dict[str, Any]:
    document = node(name, {}, labels, **spec)
    document["metadata"]["annotations"] = annotations
    return document


def on(api: Api, name: str) -> tuple[dict[str, str], dict[str, str], bool]:
    document = api.objects[f"/api/v1/nodes/{name}"]
    labels = {key: value for key, value in document["metadata"]["labels"].items() if key != "kubernetes.io/hostname"}
    return labels, document["metadata"]["annotations"], document["spec"].get("unschedulable") or False


def test_all_of_ours_goes_and_nothing_else(api: Api) -> None:
    listed = {NFD: ",".join(FEATURES)}
    api.put(labelled("a", {**FEATURES, **OTHERS, CONFIG: "mixed"}, {**MARKS, **listed, "example.com/note": "x"}))
    foretold = cleanup(api, "a", "gone", parts=ALL, check=True)
    assert not api.writes()
    done = cleanup(api, "a", "gone", parts=ALL)
    assert foretold == done
    assert done["changed"]
    assert sorted(done["nodes"]["a"]["labels"]) == sorted([*FEATURES, CONFIG])
    assert on(api, "a") == (OTHERS, {"example.com/note": "x"}, False)
    assert cleanup(api, "a", "gone", parts=ALL)["changed"] is False


@pytest.mark.parametrize(
    ("parts", "stays"),
    [
        (["strategy"], {**FEATURES, "gpufleet.io/mig-state": "failed"}),
        (["features"], {CONFIG: "mixed", "gpufleet.io/mig-state": "failed"}),
        (["marks"], {CONFIG: "mixed", **FEATURES}),
    ],
)
def test_only_what_is_asked_for_goes(api: Api, parts: list[str], stays: dict[str, str]) -> None:
    api.put(labelled("a", {CONFIG: "mixed", **FEATURES, "gpufleet.io/mig-state": "failed"}, {}))
    assert cleanup(api, "a", parts=parts)["changed"]
    assert on(api, "a")[0] == stays


@pytest.mark.parametrize(("was", "unschedulable"), [("true", False), ("false", True)])
def test_a_node_that_a_run_left_cordoned_becomes_as_it_was_found(api: Api, was: str, unschedulable: bool) -> None:
    marks = {"gpufleet.io/run": "one", "gpufleet.io/was-schedulable": was}
    api.put(labelled("a", {}, marks, unschedulable=True))
    assert cleanup(api, "a", parts=["marks"])["changed"]
    assert on(api, "a") == ({}, {}, unschedulable)


def test_pods_that_the_kubelet_refused_go(api: Api) -> None:
    """Of these nodes and with devices only, and none that ran and failed."""
    refused = {"phase": "Failed", "reason": "UnexpectedAdmissionError"}

    def put(name: str, status: dict[str, str], resource: str = "nvidia.com/gpu", on: str = "a") -> str:
        containers = [{"name": "main", "resources": {"limits": {resource: "1"}}}]
        metadata = {"name": name, "namespace": "shop", "uid": name}
        made = {"kind": "Pod", "metadata": metadata, "spec": {"nodeName": on, "containers": containers}}
        api.put({**made, "status": status})
        return path_of(made)

    api.put(labelled("a", {CONFIG: "mixed"}, MARKS), node("b", {}))
    goes = put("web", refused)
    stays = [
        put("ran", {"phase": "Failed", "reason": "Error"}),
        put("cpu", refused, "cpu"),
        put("elsewhere", refused, on="c"),
        put("runs", {"phase": "Running"}),
    ]
    foretold = cleanup(api, "a", "b", "gone", parts=["refused_pods"], check=True)
    assert not api.writes()
    done = cleanup(api, "a", "b", "gone", parts=["refused_pods"])
    assert foretold == done
    assert (done["changed"], done["nodes"]["a"]["pods"], done["nodes"]["b"]["pods"]) == (True, ["shop/web"], [])
    assert goes not in api.objects
    assert set(stays) <= set(api.objects)
    assert on(api, "a") == ({CONFIG: "mixed"}, MARKS, False)
    assert cleanup(api, "a", parts=["refused_pods"])["changed"] is False


def test_a_cordon_of_a_person_stays(api: Api) -> None:
    api.put(labelled("a", {}, MARKS, unschedulable=True))
    cleanup(api, "a", parts=ALL)
    assert on(api, "a") == ({}, {}, True)


def test_labels_stay_while_a_pod_would_set_them_again(api: Api) -> None:
    pods = [pod(PLUGIN, "a"), pod(GFD, "a")]
    api.put(labelled("a", FEATURES, {}), *pods)
    refused = cleanup(api, "a", parts=["features"], timeout=0.2)
    assert refused["failed"]
    assert f"{NAMESPACE}/{GFD}" in refused["msg"]
    assert not api.writes()
    for each in pods:
        api.end(path_of(each), after=0.3)
    assert cleanup(api, "a", parts=["features"], timeout=20)["changed"]
    assert on(api, "a")[0] == {}


def test_an_annotation_that_lists_labels_of_others_too_stays(api: Api) -> None:
    annotations = {NFD: "nvidia.com/gpu.count,cpu-model.family"}
    api.put(labelled("a", {"nvidia.com/gpu.count": "1"}, annotations))
    cleanup(api, "a", parts=["features"])
    assert on(api, "a") == ({}, annotations, False)

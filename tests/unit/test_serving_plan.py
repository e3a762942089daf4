# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user is told before Triton is deployed: how many replicas fit, and what would fail."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.gpufleet.mig.plugins.filter.serving_plan import serving_plan

SMALL, LARGE, WHOLE = "nvidia.com/mig-1g.5gb", "nvidia.com/mig-3g.20gb", "nvidia.com/gpu"
PYTHON = {"config": 'name: "net"\nbackend: "python"\n', "versions": ["1"], "files": ["config.pbtxt", "1/model.py"]}


def node(labels: dict[str, str] | None = None, pods: Any = (), **allocatable: int) -> dict[str, Any]:
    keys = {"small": SMALL, "large": LARGE, "whole": WHOLE}
    return {
        "exists": True,
        "ready": True,
        "schedulable": True,
        "allocatable": {keys[name]: count for name, count in allocatable.items()},
        "labels": labels or {},
        "pods": list(pods),
    }


def pod(resource: str, count: int = 1, *, owner: str = "other-6c4f", finished: bool = False) -> dict[str, Any]:
    return {
        "namespace": "triton" if owner.startswith("triton") else "default",
        "owner": {"kind": "ReplicaSet", "name": owner, "uid": "u"},
        "finished": finished,
        "requests": {"main": {resource: count}},
    }


def group(**more: Any) -> dict[str, Any]:
    return {"name": "small", "resource": SMALL, **more}


def planned(groups: list[dict[str, Any]], nodes: dict[str, Any], models: Any = None, **more: Any) -> dict[str, Any]:
    return serving_plan(groups, nodes, models, image="image:1", backends=["python"], **more)


def problems(groups: list[dict[str, Any]], nodes: dict[str, Any], models: Any = None) -> str:
    return "\n".join(planned(groups, nodes, models)["problems"])


def test_fill_takes_every_free_instance_and_those_of_its_own_release() -> None:
    pods = [pod(SMALL, 2), pod(SMALL, owner="triton-small-7d9"), pod(SMALL, finished=True)]
    nodes = {"a": node(small=7, pods=pods), "b": node(small=1), "c": node(large=1)}
    assert planned([group(fill=True, values={"args": ["--log-verbose=1"]})], nodes)["values"] == [
        {"name": "small", "resource": SMALL, "replicas": 6, "args": ["--log-verbose=1"]}
    ]
    assert not problems([group(fill=True)], nodes)
    assert planned([group(fill=True, nodes=["a"])], nodes)["groups"][0]["replicas"] == 5


def test_groups_that_fill_take_what_the_others_leave() -> None:
    nodes = {"a": node(small=7)}
    filling, fixed = group(name="rest", fill=True), group(name="three", replicas=3)
    assert planned([filling, fixed], nodes)["groups"][0]["replicas"] == 4
    assert "group rest: no nvidia.com/mig-1g.5gb is free on a" in problems([filling, group(replicas=7)], nodes)


def test_a_cordoned_node_gets_no_replica_and_is_named_where_it_is_the_only_one() -> None:
    cordoned = {**node(small=7), "schedulable": False}
    assert planned([group(fill=True)], {"a": cordoned, "b": node(small=1)})["groups"][0]["replicas"] == 1
    assert "only on a, not Ready or cordoned" in problems([group()], {"a": cordoned})


def test_more_replicas_than_free_instances_is_told_with_both_numbers() -> None:
    said = problems([group(replicas=7)], {"a": node(small=7, pods=[pod(SMALL, 3)])})
    assert said == "group small wants 7 replicas, but nvidia.com/mig-1g.5gb is free for 4 on a"
    scaled = group(autoscaling={"kind": "hpa", "max": 8})
    assert "wants 8 replicas" in problems([scaled], {"a": node(small=7)})


def test_a_resource_that_no_node_offers_is_told_with_what_they_offer() -> None:
    said = problems([group(resource="nvidia.com/mig-1g.10gb")], {"a": node(small=7, whole=0), "b": node(large=2)})
    assert "no node offers nvidia.com/mig-1g.10gb: a has nvidia.com/mig-1g.5gb; b has nvidia.com/mig-3g.20gb" in said
    assert "node c is none of this run's hosts" in problems([group(nodes=["c"])], {"a": node(small=1)})


@pytest.mark.parametrize("declared", [4864, 4865])
def test_declared_memory_is_held_against_the_label_of_the_instance(declared: int) -> None:
    cut = node({f"{WHOLE}.memory": "4864", f"{WHOLE}.product": "A100-MIG-1g.5gb"}, whole=7)
    whole = node({f"{WHOLE}.memory": "40960"}, whole=1)
    said = problems([group(resource=WHOLE, memory_mib=declared)], {"cut": cut, "whole": whole})
    assert ("nvidia.com/gpu of node cut has 4864 MiB: name its nodes: [whole]" in said) == (declared == 4865)


def test_without_labels_the_profile_s_name_says_how_much_memory_there_is_at_most() -> None:
    assert "has 5120 MiB: choose a larger partition" in problems([group(memory_mib=6000)], {"a": node(small=1)})
    assert not problems([group(memory_mib=5000)], {"a": node(small=1)})


@pytest.mark.parametrize(
    ("config", "files", "said"),
    [
        ('backend: "onnxruntime"', ["1/model.onnx"], "needs the backend onnxruntime, which image:1 does not have"),
        ('platform: "tensorrt_plan"', ["1/model.plan"], "needs the backend tensorrt, which image:1 does not have"),
        (None, ["1/model.onnx"], "needs the backend onnxruntime"),
        (None, ["1/model.py"], ""),
        ("max_batch_size: 8", ["1/weights.bin"], "neither config.pbtxt (backend, platform) nor a file"),
        ('name: "other" backend: "python"', ["1/model.py"], "config.pbtxt calls it 'other'"),
        ('backend: "python"\ninput [ {', ["1/model.py"], "config.pbtxt cannot be read: line 2: the end of the file"),
        ('platform: "ensemble" ensemble_scheduling { step [ {model_name: "gone"} ] }', ["1/x"], "calls model gone"),
        ('backend: "python" instance_group { kind: KIND_GPU gpus: [ 0, 1 ] }', ["1/model.py"], "names GPU 1, but"),
        ('backend: "python" instance_group [{gpus: 1}]', ["1/model.py"], "sees GPU 0 only"),
        ('backend: "python" instance_group [{kind: KIND_GPU count: 4 gpus: [0]}]', ["1/model.py"], ""),
        ('backend: "python" instance_group [{kind: KIND_CPU gpus: [3]}]', ["1/model.py"], ""),
    ],
)
def test_a_model_that_cannot_run_is_told(config: str | None, files: list[str], said: str) -> None:
    found = problems([group()], {"a": node(small=1)}, {"net": {"config": config, "versions": ["1"], "files": files}})
    assert (said in found) if said else not found


def test_models_of_a_group_must_be_in_the_repository_and_only_those_count() -> None:
    broken = {"config": 'backend: "gone"', "versions": [], "files": []}
    nodes = {"a": node(small=1)}
    assert not problems([group(models=["net"])], nodes, {"net": PYTHON, "broken": broken})
    assert "has no version" in problems([group()], nodes, {"net": PYTHON, "broken": broken})
    assert "has no model nett, it has net" in problems([group(models=["nett"])], nodes, {"net": PYTHON})
    assert "holds no model" in problems([group()], nodes, {})


def test_two_whole_gpus_may_serve_one_replica_but_not_two_instances() -> None:
    two = {"net": {**PYTHON, "config": 'backend: "python" instance_group { gpus: [0, 1] }'}}
    whole = node({f"{WHOLE}.product": "NVIDIA-H100-80GB-HBM3"}, whole=2)
    assert not problems([group(resource=WHOLE, count=2)], {"h": whole}, two)
    assert "one MIG instance only" in problems([group(count=2)], {"a": node(small=7)})
    single = node({f"{WHOLE}.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"}, whole=7)
    assert "one MIG instance only" in problems([group(resource=WHOLE, count=2)], {"s": single})

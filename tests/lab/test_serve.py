# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Triton on partitions: replicas on instances of their own, one Service, and no failed request while things change."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.conftest import LAB, ROOT, PlayResult, kubectl, on_host, play, run
from lab.serving_lab import (
    CLIENT,
    ENVIRONMENT,
    KUBECTL,
    NAMESPACE,
    Load,
    address,
    ask,
    asking,
    client,
    pods,
    prepare,
    remove,
    serve,
)

MODELS = ROOT / "tests" / "lab" / "serving" / "models"
MIXED: list[dict[str, Any]] = [
    {"name": "large", "resource": "nvidia.com/mig-3g.20gb", "nodes": ["a100-mixed"], "memory_mib": 15000},
    {"name": "small", "resource": "nvidia.com/mig-1g.5gb", "nodes": ["a100-mixed"]},
]


@pytest.fixture(scope="module")
def serving(converged: PlayResult) -> Iterator[None]:
    prepare()
    with client():
        yield
    remove()


def instances(host: str) -> dict[str, str]:
    """Profile by UUID of every instance, as nvidia-smi on the host lists them."""
    listed = on_host(host, "nvidia-smi", "-L")
    return {uuid: profile for profile, uuid in re.findall(r"MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)", listed)}


def evenly(load: Load) -> float:
    """Answers of the busiest replica for each of the idlest."""
    return max(load.answers.values()) / min(load.answers.values())


def test_seven_replicas_on_one_gpu_answer_through_one_service(serving: None) -> None:
    first = serve()
    assert "small 7 x nvidia.com/gpu" in re.sub(r"\s+", " ", first.output)
    load = ask(350)
    assert load.failures == []
    assert set(load.answers) == set(instances("a100-single")), "each instance of the GPU answers, and nothing else"
    assert len(load.answers) == len(load.pairs) == 7, "each replica has an instance of its own"
    assert evenly(load) < 3, load.answers
    assert serve().changed() == {}


def test_grpc_is_balanced_by_the_client_over_all_replicas(serving: None) -> None:
    serve()
    load = ask(350, protocol="grpc")
    assert load.failures == []
    assert set(load.answers) == set(instances("a100-single"))
    assert evenly(load) < 1.5, load.answers


def test_the_second_model_reads_every_digit(serving: None) -> None:
    """The seven-segment table is written out here once more: segments a to g of 0 to 9."""
    serve()
    rows = [
        "1111110",
        "0110000",
        "1101101",
        "1111001",
        "0110011",
        "1011011",
        "1011111",
        "1110000",
        "1111111",
        "1111011",
    ]
    body = {
        "inputs": [
            {
                "name": "SEGMENTS",
                "shape": [10, 7],
                "datatype": "FP32",
                "data": [float(segment) for row in rows for segment in row],
            }
        ],
        "outputs": [{"name": "DIGIT"}],
    }
    script = (
        "import sys, urllib.request as u;"
        "print(u.urlopen(u.Request(sys.argv[1], sys.argv[2].encode()), timeout=10).read().decode())"
    )
    where = f"http://{address()}/v2/models/segments/infer"
    told = kubectl("exec", CLIENT, "--", "python3", "-c", script, where, json.dumps(body))
    assert json.loads(told)["outputs"][0]["data"] == list(range(10))


@pytest.mark.full
def test_groups_on_a_large_and_a_small_instance_answer_through_one_service(serving: None) -> None:
    serve(MIXED)
    load = ask(100)
    known = instances("a100-mixed")
    assert load.failures == []
    assert sorted(known[uuid] for uuid in load.answers) == ["1g.5gb", "3g.20gb"]


@pytest.mark.full
def test_no_request_fails_while_the_other_part_of_the_gpu_is_cut_anew(serving: None) -> None:
    serve(MIXED)
    before = {pod["metadata"]["uid"] for pod in pods()}
    layout = [{"gpus": "all", "instances": {"3g.20gb": 1, "1g.5gb": 3}}]
    try:
        with asking() as seen:
            play("playbooks/rollout.yml", "--limit", "a100-mixed", "-e", json.dumps({"mig_layout": layout}))
    finally:
        play("playbooks/rollout.yml", "--limit", "a100-mixed")
    (load,) = seen
    assert len(load.seconds) > 50
    assert load.failures == []
    assert {pod["metadata"]["uid"] for pod in pods()} == before


@pytest.mark.full
def test_a_replica_that_is_deleted_leaves_without_a_failed_request_and_is_replaced(serving: None) -> None:
    serve()
    victim = pods()[0]["metadata"]["name"]
    with asking() as seen:
        kubectl("delete", "pod", victim, "-n", NAMESPACE, "--wait=true")
        kubectl("rollout", "status", "deployment/triton-small", "-n", NAMESPACE, "--timeout=90s")
    (load,) = seen
    assert load.failures == []
    assert set(load.answers) == set(instances("a100-single"))


@contextmanager
def available(deployment: str) -> Iterator[list[int]]:
    """Available replicas as they change while the block runs; the list is complete once it has ended."""
    counts: list[int] = []
    shown = ["-n", NAMESPACE, "-w", "-o", "jsonpath={.status.availableReplicas} "]
    watch = subprocess.Popen(
        [*KUBECTL, "get", "deployment", deployment, *shown], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    try:
        yield counts
    finally:
        watch.terminate()
        counts += map(int, watch.communicate()[0].split())


@pytest.mark.full
def test_a_node_is_drained_without_a_failed_request(serving: None) -> None:
    """Two replicas on whole GPUs of h100-mixed move to free instances of a100-single, one after the other."""
    node, moved = "h100-mixed", {"h100-mixed": 2, "a100-single": 2}
    serve([{"name": "small", "resource": "nvidia.com/gpu", "nodes": [*moved], "replicas": 4}])
    assert Counter(pod["spec"]["nodeName"] for pod in pods()) == moved
    try:
        with asking() as seen, available("triton-small") as counts:
            drain = ["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=240s"]
            told = run(*KUBECTL, *drain)
            kubectl("rollout", "status", "deployment/triton-small", "-n", NAMESPACE, "--timeout=90s")
    finally:
        kubectl("uncordon", node)
    (load,) = seen
    assert load.failures == []
    assert "would violate the pod's disruption budget" in told.stderr
    assert min(counts) == 3, counts
    assert {pod["spec"]["nodeName"] for pod in pods()} == {"a100-single"}
    assert any(uuid.startswith("GPU-") for uuid in load.answers), "requests came to the node while it was drained"


def _changed_copy(folder: Path, file: str, content: str) -> str:
    copy = folder / "models"
    shutil.copytree(MODELS, copy)
    (copy / file).write_text(content)
    return str(copy)


def deployed() -> str:
    return run(LAB / "bin" / "helm", "list", "-n", NAMESPACE, "-q").stdout.strip()


@pytest.mark.full
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"triton_groups": [{**MIXED[1], "memory_mib": 9000}]}, "needs 9000 MiB for a replica, but"),
        ({"triton_groups": [{**MIXED[1], "replicas": 2}]}, "wants 2 replicas, but nvidia.com/mig-1g.5gb is free for 1"),
        (
            {"triton_groups": [{**MIXED[1], "resource": "nvidia.com/mig-1g.6gb"}]},
            "no node offers nvidia.com/mig-1g.6gb",
        ),
        ({"triton_backends": ["onnxruntime"]}, "needs the backend python, which nvcr.io/nvidia/tritonserver:24.10-py3"),
        ({"file": ("segments/config.pbtxt", "name: ")}, "model segments: config.pbtxt cannot be read: line 1"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_deployed(
    serving: None, tmp_path: Path, variables: dict[str, Any], said: str
) -> None:
    remove()
    variables = dict(variables)
    if "file" in variables:
        variables["triton_models"] = _changed_copy(tmp_path, *variables.pop("file"))
    refused = play("playbooks/serve.yml", "-e", json.dumps(variables), check=False)
    assert refused.rc == 2
    assert said in re.sub(r"\s+", " ", refused.output)
    assert "Nothing was deployed" in refused.output
    assert deployed() == ""


@pytest.mark.full
def test_a_model_that_fails_while_it_loads_is_told_in_its_own_words(serving: None, tmp_path: Path) -> None:
    broken = _changed_copy(tmp_path, "segments/1/model.py", "raise RuntimeError('no such weights')\n")
    failed = serve([MIXED[1]], check=False, triton_models=broken, triton_timeout=40)
    assert failed.rc == 2
    told = re.sub(r"\s+", " ", failed.output)
    assert re.search(r"Deployment triton/triton-small has 0 of 1 pods available \(pod triton/triton-small-\S+", told)
    assert "failed to load all models" in told

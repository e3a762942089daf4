# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A node is changed under running pods: who may stay keeps running, and the node comes back as it was found."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from lab.conftest import LAB, PlayResult, allocatable, kubectl, kubectl_json, on_host, play

NODE = "h100-mixed"
SMALL = "nvidia.com/mig-1g.10gb"
OTHERS = [
    {"gpus": [2, 3], "preset": "all-balanced"},
    {"gpus": [4], "instances": {"3g.40gb": 2}},
    {"gpus": [5], "instances": {"1g.20gb": 4}},
    {"gpus": "rest", "mig": "disabled"},
]
MOVED = [{"gpus": 0, "instances": {"1g.10gb": 7}}, {"gpus": 1, "instances": {"3g.40gb": 2}}, *OTHERS]
"""GPU 1 from 7 x 1g.10gb to 2 x 3g.40gb; GPU 0 and the two 1g.10gb on each of GPU 2 and 3 stay."""


def workload(replicas: int) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": "gpufleet.io/lab/workload:1",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "3600"],
        "resources": {"limits": {SMALL: "1"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "holders", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "holders"}},
            "template": {
                "metadata": {"labels": {"app": "holders"}},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "nodeSelector": {"kubernetes.io/hostname": NODE},
                    "containers": [container],
                },
            },
        },
    }


def pods() -> dict[str, dict[str, Any]]:
    return {pod["metadata"]["uid"]: pod for pod in kubectl_json("get", "pods", "-l", "app=holders")["items"]}


def containers(pod: dict[str, Any]) -> list[tuple[str, str]]:
    """Id and start of each container."""
    return [(one["containerID"], one["state"]["running"]["startedAt"]) for one in pod["status"]["containerStatuses"]]


@pytest.fixture(scope="module")
def deployed(converged: PlayResult) -> Iterator[None]:
    """A Deployment for every 1g.10gb instance of the node; afterwards the node is as the demo wants it."""
    command = [str(LAB / "bin" / "kubectl"), "apply", "-f", "-"]
    environment = {**os.environ, "KUBECONFIG": str(LAB / "kubeconfig")}
    subprocess.run(command, input=json.dumps(workload(18)), text=True, check=True, env=environment)
    yield
    kubectl("delete", "deployment", "holders", "--cascade=foreground", "--now", "--wait=true")
    play("site.yml", "--limit", NODE)


@pytest.fixture
def eighteen_pods(deployed: None) -> dict[str, dict[str, Any]]:
    """All of them running."""
    kubectl("rollout", "status", "deployment/holders", "--timeout=120s")
    return pods()


def test_a_budget_that_stays_exhausted_fails_the_node_and_names_pod_and_budget(
    eighteen_pods: dict[str, dict[str, Any]],
) -> None:
    kubectl("create", "poddisruptionbudget", "holders", "--selector=app=holders", "--min-available=18")
    on_host(NODE, "simctl", "clear-log")
    try:
        result = play(
            "playbooks/rollout.yml", "--limit", NODE,
            "-e", json.dumps({"mig_layout": MOVED, "mig_evict_timeout": 5}), check=False,
        )  # fmt: skip
        assert result.rc == 2
        said = " ".join(result.output.split())
        assert "PodDisruptionBudget default/holders" in said, said[-3000:]
        assert "h100-mixed was not changed" in said
        assert on_host(NODE, "simctl", "log", "--writes").strip() == ""
        assert pods().keys() == eighteen_pods.keys()
        assert "unschedulable" not in kubectl_json("get", "node", NODE)["spec"]
    finally:
        kubectl("delete", "poddisruptionbudget", "holders")


def test_a_change_that_cannot_be_verified_is_put_back(eighteen_pods: dict[str, dict[str, Any]]) -> None:
    """The driver refuses to make the new instance: the old layout stands again, and the node is given back."""
    fault = ["--gpu", "1", "--calls", "2", "--return", "999"]
    on_host(NODE, "simctl", "fault", "nvmlDeviceCreateGpuInstanceWithPlacement", *fault)
    try:
        result = play("playbooks/rollout.yml", "--limit", NODE, "-e", json.dumps({"mig_layout": MOVED}), check=False)
    finally:
        on_host(NODE, "simctl", "clear-faults")
    assert result.rc == 2
    assert "h100-mixed was put back as it was" in " ".join(result.output.split()), result.output[-3000:]
    assert allocatable(NODE)[SMALL] == 18
    node = kubectl_json("get", "node", NODE)
    assert "unschedulable" not in node["spec"]
    assert "gpufleet.io/mig-state" not in node["metadata"]["labels"]


def test_only_the_pods_whose_instance_goes_are_evicted(eighteen_pods: dict[str, dict[str, Any]]) -> None:
    uuids = {
        uid: kubectl("exec", pod["metadata"]["name"], "--", "nvidia-smi", "-L")
        for uid, pod in list(eighteen_pods.items())
    }
    on_host(NODE, "simctl", "clear-log")

    play("playbooks/rollout.yml", "--limit", NODE, "-e", json.dumps({"mig_layout": MOVED}))

    now = pods()
    stayed = eighteen_pods.keys() & now.keys()
    assert len(stayed) == 11
    for uid in stayed:
        assert containers(now[uid]) == containers(eighteen_pods[uid])
        assert kubectl("exec", now[uid]["metadata"]["name"], "--", "nvidia-smi", "-L") == uuids[uid]
    assert {pod["status"].get("reason") for pod in now.values()} == {None}, "no pod was admitted with a dead device"
    assert sum(pod["status"]["phase"] == "Pending" for pod in now.values()) == 7
    assert allocatable(NODE)[SMALL] == 11

    node = kubectl_json("get", "node", NODE)
    assert "unschedulable" not in node["spec"]
    assert node["metadata"]["annotations"]["gpufleet.io/phase"] == "done"
    assert not kubectl_json("get", "lease", "-n", "kube-system", "gpufleet-rollout")["spec"].get("holderIdentity")

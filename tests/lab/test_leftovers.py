# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What a change leaves behind: resources that nobody offers any more, and pods that the kubelet refused."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab.conftest import LAB, PlayResult, kubectl, kubectl_json, play

NODE = "a100-mixed"
KEPT, GONE = "nvidia.com/mig-3g.20gb", "nvidia.com/mig-2g.10gb"
LAYOUT = [{"gpus": "all", "instances": {"3g.20gb": 1, "1g.5gb": 3}}]
CURE = {
    "mig_clean_failed_pods": True,
    "mig_restart_kubelet": True,
    "mig_kubelet_restart_command": ["lab-service", "restart", "kubelet"],
}


@pytest.fixture
def demo_afterwards(converged: PlayResult) -> Iterator[None]:
    yield
    kubectl("delete", "pod", "refused", "--now", "--ignore-not-found")
    play("site.yml", "--limit", NODE)


@pytest.fixture
def refused(demo_afterwards: None) -> None:
    """A pod put onto the node past the scheduler that wants more than the device plugin has."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "refused", "namespace": "default"},
        "spec": {
            "nodeName": NODE,
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "main",
                    "image": "gpufleet.io/lab/workload:1",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "3600"],
                    "resources": {"limits": {GONE: "2"}},
                }
            ],
        },
    }
    environment = {**os.environ, "KUBECONFIG": str(LAB / "kubeconfig")}
    subprocess.run(
        [str(LAB / "bin" / "kubectl"), "apply", "-f", "-"],
        input=json.dumps(manifest), text=True, check=True, env=environment,
    )  # fmt: skip
    kubectl("wait", "pod/refused", "--for=jsonpath={.status.phase}=Failed", "--timeout=30s")
    assert kubectl_json("get", "pod", "refused")["status"]["reason"] == "UnexpectedAdmissionError"


def roll_out(**extra: Any) -> PlayResult:
    return play("playbooks/rollout.yml", "--limit", NODE, "-e", json.dumps(extra))


def capacity(key: str) -> int:
    return int(kubectl_json("get", "node", NODE)["status"]["capacity"].get(key, 0))


def test_leftovers_are_shown_and_removed_when_asked(refused: None, pod_on: Any) -> None:
    pod_on(NODE, KEPT, name="keeps")
    before = kubectl_json("get", "pod", "keeps")["status"]["containerStatuses"]

    shown = " ".join(roll_out(mig_layout=LAYOUT).output.split())
    assert "pod default/refused was refused by the kubelet" in shown
    assert f"{GONE} is still in the capacity of node {NODE}" in shown
    assert capacity(GONE) == 1

    demo = [{"gpus": "all", "instances": {"3g.20gb": 1, "2g.10gb": 1, "1g.5gb": 1}}]
    roll_out(mig_layout=demo)
    begun = time.monotonic()
    cured = " ".join(roll_out(mig_layout=LAYOUT, **CURE).output.split())
    assert time.monotonic() - begun < 290, "so late the kubelet would have forgotten it by itself"
    assert "was refused by the kubelet" not in cured
    assert "is still in the capacity" not in cured
    assert capacity(GONE) == 0
    assert "refused" not in kubectl("get", "pods", "-o", "name")
    assert kubectl_json("get", "pod", "keeps")["status"]["containerStatuses"] == before
    assert "unschedulable" not in kubectl_json("get", "node", NODE)["spec"]

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A node of the running lab, two pods on two of its instances, and a change that takes the instance of one of them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lab.conftest import LAB, ROOT, PlayResult, allocatable, kubectl, kubectl_json, on_host, play

NODE = "a100-mixed"
OLD = {"nvidia.com/mig-3g.20gb": 1, "nvidia.com/mig-2g.10gb": 1, "nvidia.com/mig-1g.5gb": 1}
CHANGE = [{"gpus": "all", "instances": {"3g.20gb": 1, "1g.5gb": 3}}]
"""2g.10gb goes for two more 1g.5gb; 3g.20gb and the first 1g.5gb stay."""
NEW = {"nvidia.com/mig-3g.20gb": 1, "nvidia.com/mig-1g.5gb": 3}
KUBECTL = f"{LAB}/bin/kubectl --kubeconfig {LAB}/kubeconfig"
HOST = f"python3 {ROOT}/tests/lab/lab.py"


def until(what: str, holds: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for a condition; what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(0.2)


def apply(*documents: dict[str, Any]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})
    subprocess.run([*KUBECTL.split(), "apply", "-f", "-"], input=text, text=True, check=True, stdout=subprocess.DEVNULL)


def pod_template(resource: str | None, **spec: Any) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "main",
        "image": "gpufleet.io/lab/workload:1",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "3600"],
    }
    if resource:
        container["resources"] = {"limits": {resource: "1"}}
    return {
        "terminationGracePeriodSeconds": 0,
        "nodeSelector": {"kubernetes.io/hostname": NODE},
        "containers": [container],
        **spec,
    }


def deployment(name: str, resource: str) -> dict[str, Any]:
    labels = {"app": name, "drill": "yes"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default", "labels": {"drill": "yes"}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_template(resource)},
        },
    }


def bare_pod(name: str, resource: str | None, **spec: Any) -> dict[str, Any]:
    """A pod that no controller brings back."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name, "drill": "yes"}},
        "spec": pod_template(resource, restartPolicy="Never", **spec),
    }


def budget(name: str, least: int) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "default", "labels": {"drill": "yes"}},
        "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": name}}},
    }


def running(app: str) -> dict[str, Any] | None:
    """The running pod of this name or Deployment."""
    for pod in kubectl_json("get", "pods", "-l", f"app={app}")["items"]:
        ready = (pod["status"].get("containerStatuses") or [{}])[0].get("ready")
        if pod["status"].get("phase") == "Running" and ready and "deletionTimestamp" not in pod["metadata"]:
            return dict(pod)
    return None


def container_of(app: str) -> tuple[str, str]:
    """Id and start of the container; what a pod that was left alone keeps."""
    pod = until(f"a running pod of {app}", lambda: running(app))
    status = pod["status"]["containerStatuses"][0]
    return status["containerID"], status["state"]["running"]["startedAt"]


def node_now(name: str = NODE) -> dict[str, Any]:
    return dict(kubectl_json("get", "node", name))


def writes() -> str:
    """NVML calls that changed something since the drill began."""
    return on_host(NODE, "simctl", "log", "--writes").strip()


def rollout(
    at: str | None = None, when: str = "begins", do: str = "", nodes: str = NODE, **variables: Any
) -> PlayResult:
    """Roll CHANGE out on the node(s); `do` runs when the task named `at` begins (or runs in its worker)."""
    fault = {"DRILL_TASK": at, "DRILL_WHEN": when, "DRILL_COMMAND": do} if at else {}
    said = {
        "mig_layout": CHANGE,
        "mig_evict_timeout": 20,
        "mig_publish_timeout": 60,
        "mig_gate_timeout": 5,
        **variables,
    }
    result = play(
        "playbooks/rollout.yml", "--limit", nodes, "-e", json.dumps(said), check=False,
        ANSIBLE_CALLBACK_PLUGINS=str(ROOT / "tests" / "drills" / "callback_plugins"),
        ANSIBLE_CALLBACKS_ENABLED="at_task", **fault,
    )  # fmt: skip
    assert not at or "DRILL: " in result.output, f"the run never came to {at}:\n{result.output[-4000:]}"
    return result


def words(result: PlayResult) -> str:
    return " ".join(result.output.split())


def given_back(name: str = NODE) -> None:
    """Nothing of ours is left on the node, and it is schedulable."""
    node = node_now(name)
    assert "unschedulable" not in node["spec"]
    assert "gpufleet.io/mig-state" not in node["metadata"]["labels"]
    assert "gpufleet.io/run" not in node["metadata"].get("annotations", {})
    assert not [each for each in node["spec"].get("taints", []) if each["key"].startswith("gpufleet.io/")]


def kept_as_failed() -> dict[str, Any]:
    """The node is cordoned and says why; its annotations."""
    node = node_now()
    assert node["spec"].get("unschedulable") is True
    assert node["metadata"]["labels"].get("gpufleet.io/mig-state") == "failed"
    assert node["metadata"]["annotations"]["gpufleet.io/reason"]
    return dict(node["metadata"]["annotations"])


def as_before() -> None:
    """The old layout, offered and schedulable; no instance was touched."""
    assert writes() == ""
    assert allocatable(NODE) == OLD
    given_back()


def as_wanted() -> None:
    """The new layout, offered and schedulable, no pod refused, and the lock free."""
    assert allocatable(NODE) == NEW
    given_back()
    refused = [pod for pod in kubectl_json("get", "pods", "-l", "drill")["items"] if pod["status"]["phase"] == "Failed"]
    assert not refused, [pod["status"] for pod in refused]
    lease = kubectl_json("get", "lease", "-n", "kube-system", "gpufleet-rollout")
    assert not lease["spec"].get("holderIdentity")


@pytest.fixture(scope="session")
def lab() -> None:
    if not (LAB / "kubeconfig").exists():
        raise AssertionError("The lab is not running: start it with `make lab-up`.")


def _settle() -> None:
    """The node as the demo wants it, with nothing of a drill left."""
    kinds = "deployments,jobs,pods,poddisruptionbudgets"
    kubectl("delete", kinds, "-l", "drill", "--now", "--ignore-not-found", "--wait=true")
    if allocatable(NODE) != OLD or "unschedulable" in node_now()["spec"]:
        play("site.yml", "--limit", NODE)


@pytest.fixture
def stays(lab: None) -> Iterator[tuple[str, str]]:
    """The node stands as in the demo, with a pod on 3g.20gb (which stays) and one on 2g.10gb (which goes)."""
    _settle()
    apply(deployment("stays", "nvidia.com/mig-3g.20gb"), deployment("goes", "nvidia.com/mig-2g.10gb"))
    container_of("goes")
    on_host(NODE, "simctl", "clear-log")
    yield container_of("stays")
    _settle()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One line per drill."""
    if report.when == "call":
        name = report.nodeid.rsplit("::", 1)[-1].removeprefix("test_").replace("_", " ")
        print(f"\ndrill: {name}: {'held' if report.passed else 'BROKEN'} ({report.duration:.0f} s)", flush=True)

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Triton in the lab as its users see it: the playbook, and requests from a pod on another node through the Service."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.conftest import LAB, PlayResult, kubectl, kubectl_json, play, run

NAMESPACE = "triton"
CLIENT = "serving-client"
CLIENT_NODE = "a100-none"
IMAGE = "nvcr.io/nvidia/tritonserver:24.10-py3-sdk"
SCRIPT = Path(__file__).with_name("serving_client.py")
KUBECTL = [str(LAB / "bin" / "kubectl")]
ENVIRONMENT = {**os.environ, "KUBECONFIG": str(LAB / "kubeconfig")}


@dataclass(frozen=True)
class Load:
    """What the client saw: answers per partition, (partition, replica), seconds of each request, failures."""

    answers: dict[str, int]
    pairs: list[list[str]]
    seconds: list[float]
    failures: list[str]
    took: float


def serve(groups: list[dict[str, Any]] | None = None, check: bool = True, **variables: Any) -> PlayResult:
    """The playbook with these groups instead of the inventory's."""
    more = {**variables, **({} if groups is None else {"triton_groups": groups})}
    return play("playbooks/serve.yml", "-e", json.dumps(more), check=check)


def pods() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = kubectl_json("get", "pods", "-n", NAMESPACE)["items"]
    return found


def address(protocol: str = "http", service: str = "triton") -> str:
    """What the name of the Service, over gRPC of the headless one, would resolve to: the lab has no DNS."""
    if protocol == "http":
        return f"{kubectl_json('get', 'service', service, '-n', NAMESPACE)['spec']['clusterIP']}:8000"
    label = f"kubernetes.io/service-name={service}-headless"
    slices = kubectl_json("get", "endpointslices", "-n", NAMESPACE, "-l", label)["items"]
    ready = [each for part in slices for each in part["endpoints"] if each["conditions"]["ready"]]
    return "ipv4:" + ",".join(f"{each['addresses'][0]}:8001" for each in ready)


@contextmanager
def client() -> Iterator[None]:
    """A pod on a node that serves nothing, with NVIDIA's client."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": CLIENT},
        "spec": {
            "nodeName": CLIENT_NODE,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "main",
                    "image": IMAGE,
                    "command": ["python3", "-c", "import time; time.sleep(3600)"],
                    "resources": {"limits": {"memory": "512Mi"}},
                }
            ],
        },
    }
    _apply(pod)
    kubectl("wait", f"pod/{CLIENT}", "--for=condition=Ready", "--timeout=60s")
    try:
        yield
    finally:
        kubectl("delete", "pod", CLIENT, "--now", "--wait=true")


def _apply(manifest: dict[str, Any]) -> None:
    subprocess.run(
        [*KUBECTL, "apply", "-f", "-"], input=json.dumps(manifest), text=True, check=True, env=ENVIRONMENT,
        capture_output=True,
    )  # fmt: skip


def _command(*arguments: str) -> list[str]:
    return [*KUBECTL, "exec", "-i", CLIENT, "--", "python3", "-", *arguments]


def ask(requests: int, threads: int = 2, protocol: str = "http") -> Load:
    """Ask that many times; over HTTP every request is a connection of its own."""
    command = _command(protocol, address(protocol), "partition", str(requests), str(threads))
    done = subprocess.run(
        command, input=SCRIPT.read_text(), text=True, capture_output=True, check=True, env=ENVIRONMENT, timeout=300
    )
    return Load(**json.loads(done.stdout))


@contextmanager
def asking() -> Iterator[list[Load]]:
    """Requests flow while the block runs; the list holds what the client saw once it has ended."""
    stop = "/tmp/stop"
    seen: list[Load] = []
    running = subprocess.Popen(
        _command("http", address(), "partition", "0", "2", stop),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert running.stdin is not None
    running.stdin.write(SCRIPT.read_text())
    running.stdin.close()
    try:
        yield seen
    finally:
        script = f"import pathlib; pathlib.Path({stop!r}).touch()"
        kubectl("exec", CLIENT, "--", "python3", "-c", script)
        assert running.stdout is not None
        told = running.stdout.read()
        running.wait(timeout=60)
        kubectl("exec", CLIENT, "--", "python3", "-c", f"import os; os.unlink({stop!r})")
        seen.append(Load(**json.loads(told)))


def remove() -> None:
    """Nothing of it is left in the cluster."""
    serve([], triton_state="absent")
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")


def prepare() -> None:
    """kube-proxy and the image."""
    run("python3", "tests/lab/lab.py", "serving", timeout=900)

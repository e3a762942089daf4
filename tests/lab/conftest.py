# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The running lab as a user sees it: kubectl, ansible-playbook and ssh, nothing of the collection imported."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAB = Path(os.environ.get("GPUFLEET_LAB_DIR", "/var/lib/gpufleet-lab"))
DEMO_HOSTS = ("a100-none", "a100-single", "a100-mixed", "h100-mixed")


@dataclass(frozen=True)
class PlayResult:
    """One ansible-playbook run: exit code, everything it printed, and the recap per host."""

    rc: int
    output: str
    recap: dict[str, dict[str, int]]

    def changed(self) -> dict[str, int]:
        return {host: counts["changed"] for host, counts in self.recap.items() if counts["changed"]}


def run(*command: str | Path, check: bool = True, timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, "KUBECONFIG": str(LAB / "kubeconfig"), **env},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and result.returncode != 0:
        raise AssertionError(
            f"{' '.join(map(str, command))} exited {result.returncode}\n{result.stdout}\n{result.stderr}"
        )
    return result


def kubectl(*args: str, check: bool = True) -> str:
    return run(LAB / "bin" / "kubectl", *args, check=check).stdout


def kubectl_json(*args: str) -> Any:
    return json.loads(kubectl(*args, "-o", "json"))


def on_host(host: str, *command: str) -> str:
    """Run a command on a lab host, outside of Ansible."""
    return run("python3", "tests/lab/lab.py", "exec", host, "--", *command).stdout


def play(*args: str, check: bool = True, inventory: str = "inventories/demo", **env: str) -> PlayResult:
    result = run(
        "ansible-playbook", "-i", inventory, *args, check=False, timeout=600,
        ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_NOCOLOR="1", **env,
    )  # fmt: skip
    output = result.stdout + result.stderr
    recap = {
        match["host"]: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", match["counts"])}
        for match in re.finditer(r"^(?P<host>[\w.-]+)\s+: (?P<counts>ok=\d+.*)$", output, re.MULTILINE)
    }
    if check and result.returncode != 0:
        raise AssertionError(f"ansible-playbook {' '.join(args)} exited {result.returncode}\n{output[-6000:]}")
    return PlayResult(result.returncode, output, recap)


def allocatable(node: str) -> dict[str, int]:
    """nvidia.com keys of the node that are not 0, as plain kubectl shows them."""
    found = kubectl_json("get", "node", node)["status"]["allocatable"]
    return {key: int(value) for key, value in found.items() if key.startswith("nvidia.com/") and int(value)}


def publisher_pods() -> dict[str, str]:
    pods = kubectl_json("get", "pods", "-n", "nvidia-device-plugin")["items"]
    return {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in pods}


@pytest.fixture(scope="session")
def converged() -> PlayResult:
    """The demo inventory applied once for the whole session."""
    if not (LAB / "kubeconfig").exists():
        raise AssertionError("The lab is not running: start it with `make lab-up`.")
    return play("site.yml")


@pytest.fixture
def pod_on() -> Any:
    """Start a workload pod on a node that asks for one of a resource (or for none); gone after the test."""
    started: list[str] = []

    def start(
        node: str, resource: str = "", name: str = "", environment: dict[str, str] | None = None, **more: Any
    ) -> Callable[[str], subprocess.CompletedProcess[str]]:
        name = name or f"probe-{node}-{resource.split('/')[-1].replace('.', '-')}"
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": node},
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "main",
                        "image": "gpufleet.io/lab/workload:1",
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["sleep", "3600"],
                        "resources": {"limits": {resource: "1"} if resource else {}},
                        "env": [{"name": key, "value": value} for key, value in (environment or {}).items()],
                    }
                ],
                **more,
            },
        }
        subprocess.run(
            [str(LAB / "bin" / "kubectl"), "apply", "-f", "-"],
            input=json.dumps(manifest), text=True, check=True,
            env={**os.environ, "KUBECONFIG": str(LAB / "kubeconfig")},
        )  # fmt: skip
        started.append(name)
        kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s")

        def execute(script: str) -> subprocess.CompletedProcess[str]:
            return run(LAB / "bin" / "kubectl", "exec", name, "--", "sh", "-c", script, check=False)

        return execute

    yield start
    for name in started:
        kubectl("delete", "pod", name, "--now", "--wait=true")

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The playbook serve against a real API server: what a person types, sees, and finds in the cluster afterwards."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.helm.helm_cluster import NODE, Cluster

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
SMALL = "nvidia.com/mig-1g.5gb"
RUNTIME_CLASS = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "nvidia"},
    "handler": "nvidia",
}
CONFIG = 'name: "net"\nbackend: "python"\ninstance_group [ { kind: KIND_GPU } ]\n'


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("serving"))
    try:
        found.up()
        found.call("POST", "/apis/node.k8s.io/v1/runtimeclasses", RUNTIME_CLASS)
        found.node_status({"pods": "110", "cpu": "8", "memory": "8Gi", SMALL: "7"})
        yield found
    finally:
        found.down()


class User:
    """Somebody with an inventory of one host and a folder of models."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.model("net", {"config.pbtxt": CONFIG, "1/model.py": "pass\n"})

    def model(self, name: str, files: dict[str, str]) -> None:
        for file, text in files.items():
            path = self.folder / "models" / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def serve(self, *options: str, **variables: Any) -> tuple[int, str]:
        """Exit code and all that was printed, on one line."""
        host = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "mig_strategy": "mixed",
        }
        everywhere = {
            "mig_kubeconfig": self.cluster.kubeconfig(),
            "mig_helm_binary": self.cluster.helm,
            "triton_models": str(self.folder / "models"),
            "triton_groups": [{"name": "small", "resource": SMALL, "fill": True}],
            "triton_timeout": 60,
            **variables,
        }
        inventory = self.folder / "inventory.yml"
        inventory.write_text(json.dumps({"all": {"hosts": {NODE: host}, "vars": everywhere}}))
        ansible = str(Path(sys.executable).with_name("ansible-playbook"))
        done = subprocess.run(
            [ansible, "-i", str(inventory), "gpufleet.mig.serve", *options],
            capture_output=True, text=True, check=False, cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        )  # fmt: skip
        return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)

    def find(self, plural: str, name: str, group: str = "/api/v1") -> Any:
        return self.cluster.find(f"{group}/namespaces/triton/{plural}/{name}")


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> Iterator[User]:
    found = User(cluster, tmp_path)
    yield found
    code, printed = found.serve(triton_state="absent")
    assert code == 0, printed
    assert found.find("deployments", "triton-small", "/apis/apps/v1") is None


def test_a_run_fills_the_node_a_second_one_changes_nothing_and_a_changed_model_is_rolled_out(user: User) -> None:
    code, printed = user.serve("--check")
    assert code == 0, printed
    assert "changed=1" in printed
    assert user.cluster.find("/api/v1/namespaces/triton") is None

    code, printed = user.serve()
    assert code == 0, printed
    assert f"small 7 x {SMALL}" in printed
    deployed = user.find("deployments", "triton-small", "/apis/apps/v1")
    assert (deployed["spec"]["replicas"], deployed["status"]["availableReplicas"]) == (7, 7)
    for plural, name, group in (
        ("services", "triton", "/api/v1"),
        ("services", "triton-small-headless", "/api/v1"),
        ("poddisruptionbudgets", "triton-small", "/apis/policy/v1"),
        ("networkpolicies", "triton", "/apis/networking.k8s.io/v1"),
    ):
        assert user.find(plural, name, group), (plural, name)

    code, printed = user.serve()
    assert code == 0, printed
    assert "changed=0" in printed, "its own seven pods hold every instance, and still all seven are for it"

    user.model("net", {"1/model.py": "pass  # better\n"})
    code, printed = user.serve()
    assert code == 0, printed
    assert "changed=1" in printed
    changed = user.find("deployments", "triton-small", "/apis/apps/v1")
    assert changed["metadata"]["generation"] == deployed["metadata"]["generation"] + 1


def test_everything_that_would_fail_is_told_at_once_and_nothing_is_deployed(user: User) -> None:
    user.model("other", {"config.pbtxt": 'backend: "vllm"\ninstance_group [ { gpus: [ 0, 1 ] } ]\n', "1/x": ""})
    code, printed = user.serve(triton_groups=[{"name": "small", "resource": SMALL, "replicas": 8, "memory_mib": 9000}])
    assert code == 2
    for sentence in (
        "model other needs the backend vllm, which nvcr.io/nvidia/tritonserver:24.10-py3 does not have",
        "model other: instance_group names GPU 1, but a replica of group small",
        f"group small needs 9000 MiB for a replica, but {SMALL} of node {NODE} has 5120 MiB",
        f"group small wants 8 replicas, but {SMALL} is free for 7 on {NODE}",
        "Nothing was deployed.",
    ):
        assert sentence in printed, printed[-3000:]
    assert user.find("deployments", "triton-small", "/apis/apps/v1") is None


@pytest.mark.full
def test_models_on_the_hosts_are_read_there_and_checked(user: User) -> None:
    where = {"hostPath": str(user.folder / "models")}
    code, printed = user.serve("--check", triton_models="", triton_model_repository=where)
    assert code == 0, printed
    user.model("net", {"config.pbtxt": "backend"})
    code, printed = user.serve("--check", triton_models="", triton_model_repository=where)
    assert code == 2
    assert "model net: config.pbtxt cannot be read: line 1" in printed


@pytest.mark.full
def test_without_models_and_with_too_many_for_a_config_map_the_run_says_what_to_do(user: User) -> None:
    code, printed = user.serve(triton_models="")
    assert code == 2
    assert "neither triton_models nor triton_model_repository says where the models are" in printed
    user.model("net", {"1/weights.bin": "x" * 900_000})
    code, printed = user.serve()
    assert code == 2
    assert "more than the 900000 that fit into a ConfigMap: put it on a volume, the hosts or S3" in printed

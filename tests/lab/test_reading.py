# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""plan, report and adopt: they only read, and what they say is what stands and what site.yml then does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.conftest import DEMO_HOSTS, LAB, ROOT, PlayResult, allocatable, kubectl, kubectl_json, on_host, play

HOST = "a100-mixed"
EDITED = {"mig_strategy": "mixed", "mig_layout": [{"gpus": "all", "instances": {"3g.20gb": 1, "1g.5gb": 3}}]}
"""The demo has 3g.20gb, 2g.10gb and 1g.5gb there: the 2g goes, two 1g come."""

READER: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "namespace": "default"}},
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "gpufleet-reader"},
        "rules": [{"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["get", "list"]}],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "gpufleet-reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "gpufleet-reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
    },
]


@pytest.fixture(scope="module")
def read_only(converged: PlayResult, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A kubeconfig of someone who may get and list nodes and pods, and nothing else."""
    folder = tmp_path_factory.mktemp("reader")
    manifest = folder / "reader.json"
    manifest.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": READER}))
    kubectl("apply", "-f", str(manifest))
    kubeconfig = yaml.safe_load((LAB / "kubeconfig").read_text())
    token = kubectl("create", "token", "reader", "--duration=1h").strip()
    for user in kubeconfig["users"]:
        user["user"] = {"token": token}
    (folder / "kubeconfig").write_text(json.dumps(kubeconfig))
    yield str(folder / "kubeconfig")
    kubectl("delete", "-f", str(manifest))


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the demo's inventory, to edit."""
    monkeypatch.setenv("GPUFLEET_LAB_OFFICIAL_CHART", str(ROOT / "tests" / "lab" / "chart" / "nvidia-device-plugin"))
    shutil.copytree(ROOT / "inventories" / "demo", tmp_path / "inventory")
    return tmp_path / "inventory"


class Untouched:
    """What stands at hosts, nodes and publishers; what the kubelet says of nodes and pods by itself does not count."""

    def __init__(self) -> None:
        for host in DEMO_HOSTS:
            on_host(host, "simctl", "clear-log")
        self.before = self.now()

    @staticmethod
    def now() -> dict[str, Any]:
        found: dict[str, Any] = {host: on_host(host, "simctl", "log", "--writes") for host in DEMO_HOSTS}
        for node in kubectl_json("get", "nodes")["items"]:
            meta = node["metadata"]
            seen = (meta["labels"], meta["annotations"], node["spec"], node["status"]["allocatable"])
            found[f"node {meta['name']}"] = seen
        for pod in kubectl_json("get", "pods", "-A")["items"]:
            meta = pod["metadata"]
            marks = ("uid", "generation", "labels", "annotations", "finalizers", "deletionTimestamp")
            found[f"pod {meta['name']}"] = ({mark: meta.get(mark) for mark in marks}, pod["spec"])
        return found


def standing(host: str) -> set[tuple[int, str, int]]:
    """(GPU, profile, start) of each instance, as nvidia-smi lists them."""
    listed = subprocess.run(
        ["python3", "tests/lab/lab.py", "exec", host, "--", "nvidia-smi", "mig", "-lgi"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    rows = re.findall(r"\|\s+(\d+)\s+MIG (\S+)\s+\d+\s+\d+\s+(\d+):\d+\s+\|", listed)
    return {(int(gpu), profile, int(start)) for gpu, profile, start in rows}


def planned(inventory: Path, output: Path, *words: str) -> dict[str, Any]:
    """What plan.yml writes of the one host that is edited; the others are as wanted."""
    play("playbooks/plan.yml", *words, "-e", f"mig_plan_output={output}", inventory=str(inventory))
    hosts = json.loads((output / "plan.json").read_text())["hosts"]
    assert {host["host"] for host in hosts if host["status"] == "unchanged"} == {*DEMO_HOSTS} - {HOST}
    (found,) = (host for host in hosts if host["host"] == HOST)
    return dict(found)


def places(host: dict[str, Any], what: str) -> set[tuple[int, str, int]]:
    return {(gpu["index"], one["profile"], one["start"]) for gpu in host["gpus"] for one in gpu[what]}


def test_plan_and_report_name_the_pod_and_need_no_more_than_to_read(
    converged: PlayResult, read_only: str, inventory: Path, tmp_path: Path, pod_on: Any
) -> None:
    (inventory / "host_vars" / f"{HOST}.yml").write_text(yaml.safe_dump(EDITED))
    pod_on(HOST, "nvidia.com/mig-2g.10gb", "trainer")
    untouched = Untouched()

    plan = planned(inventory, tmp_path, "-e", f"mig_kubeconfig={read_only}")
    assert plan["status"] == "changes"
    assert plan["pods"] == ["default/trainer"]
    assert plan["notes"] == []
    assert plan["resources"]["nvidia.com/mig-2g.10gb"] == {"before": 1, "after": 0, "now": 1}

    words = ("-e", f"mig_kubeconfig={read_only}", "-e", f"mig_report_output={tmp_path}")
    play("playbooks/report.yml", *words, inventory=str(inventory))
    hosts = json.loads((tmp_path / "report.json").read_text())["hosts"]
    held = {
        (host["host"], one["profile"]): ci["pods"]
        for host in hosts
        for gpu in host["gpus"]
        for one in gpu["instances"]
        for ci in one["compute_instances"]
        if ci["pods"]
    }
    assert held == {(HOST, "2g.10gb"): ["default/trainer"]}
    assert {host["host"]: host["drift"]["state"] for host in hosts} == {
        **dict.fromkeys(DEMO_HOSTS, "none"),
        HOST: "drift",
    }
    assert untouched.now() == untouched.before


@pytest.mark.full
def test_site_does_what_plan_said(converged: PlayResult, inventory: Path, tmp_path: Path) -> None:
    """The plan goes by the hardware alone here: without a kubeconfig."""
    (inventory / "host_vars" / f"{HOST}.yml").write_text(yaml.safe_dump(EDITED))
    untouched, before = Untouched(), standing(HOST)
    plan = planned(inventory, tmp_path, "-e", "mig_kubeconfig=")
    assert untouched.now() == untouched.before
    try:
        play("site.yml", "--limit", HOST, inventory=str(inventory))
        after = standing(HOST)
        assert before - after == places(plan, "destroy")
        assert after - before == places(plan, "create")
        assert before & after == places(plan, "keep")
        offered = {key: sides["after"] for key, sides in plan["resources"].items() if sides["after"]}
        assert allocatable(HOST) == offered == {"nvidia.com/mig-3g.20gb": 1, "nvidia.com/mig-1g.5gb": 3}
        shown = kubectl_json("get", "node", HOST)["metadata"]["labels"]
        assert plan["labels"]
        assert {key: shown.get(key) for key in plan["labels"]} == {
            key: sides["after"] for key, sides in plan["labels"].items()
        }
    finally:
        play("site.yml", "--limit", HOST)
    assert standing(HOST) == before


@pytest.mark.full
def test_adopt_writes_what_site_leaves_alone(converged: PlayResult, inventory: Path, read_only: str) -> None:
    shutil.rmtree(inventory / "host_vars")
    untouched = Untouched()
    play("playbooks/adopt.yml", "-e", f"mig_kubeconfig={read_only}", inventory=str(inventory))
    written = {path.stem: yaml.safe_load(path.read_text()) for path in (inventory / "host_vars").iterdir()}
    assert {host: variables["mig_strategy"] for host, variables in written.items()} == {
        "a100-none": "none", "a100-single": "single", "a100-mixed": "mixed", "h100-mixed": "mixed"
    }  # fmt: skip
    assert play("site.yml", inventory=str(inventory)).changed() == {}
    assert untouched.now() == untouched.before

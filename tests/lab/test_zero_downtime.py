# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A Deployment with a PodDisruptionBudget, seen from outside ten times a second while its three nodes are changed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.conftest import PlayResult, kubectl, kubectl_json, play
from lab.looking import EVERY_S, looked

NODES = ("a100-none", "a100-single", "h100-mixed")
"""All three offer nvidia.com/gpu, whole GPUs or instances."""
PODS = "/api/v1/namespaces/default/pods?labelSelector=app%3Dsteady"
LABELS = {"app": "steady"}
WORKLOAD: list[dict[str, Any]] = [
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "steady", "namespace": "default"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": LABELS},
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "topologySpreadConstraints": [
                        {
                            "maxSkew": 1,
                            "topologyKey": "kubernetes.io/hostname",
                            "whenUnsatisfiable": "ScheduleAnyway",
                            "labelSelector": {"matchLabels": LABELS},
                        }
                    ],
                    "containers": [
                        {
                            "name": "main",
                            "image": "gpufleet.io/lab/workload:1",
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["sleep", "3600"],
                            "resources": {"limits": {"nvidia.com/gpu": "1"}},
                        }
                    ],
                },
            },
        },
    },
    {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "steady", "namespace": "default"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": LABELS}},
    },
]


def healthy(pods: list[dict[str, Any]]) -> dict[str, str]:
    """Node by name of the pods that count for a budget: ready, and not about to end."""
    return {
        pod["metadata"]["name"]: pod["spec"]["nodeName"]
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        and any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))
    }


def steady() -> dict[str, str]:
    return healthy(kubectl_json("get", "pods", "-l", "app=steady")["items"])


@pytest.fixture
def spread(converged: PlayResult, tmp_path: Path) -> Iterator[None]:
    """One replica on each of the three nodes."""
    manifest = tmp_path / "steady.json"
    manifest.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": WORKLOAD}))
    kubectl("apply", "-f", str(manifest))
    try:
        kubectl("rollout", "status", "deployment/steady", "--timeout=60s")
        assert sorted(steady().values()) == sorted(NODES)
        yield
    finally:
        kubectl("delete", "-f", str(manifest), "--wait=true", "--cascade=foreground")
        play("site.yml")


@pytest.mark.full
def test_the_budget_holds_while_every_node_of_it_is_changed(
    spread: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = steady()
    changed = {
        "a100-none": {"mig_strategy": "single", "mig_layout": "all-1g.5gb"},
        "a100-single": {"mig_layout": "all-2g.10gb"},
        "h100-mixed": {"mig_layout": [{"gpus": "6-7", "instances": {"7g.80gb": 1}}]},
    }
    (tmp_path / "host_vars").mkdir()
    for host, variables in changed.items():
        (tmp_path / "host_vars" / f"{host}.json").write_text(json.dumps(variables))
    hosts = tmp_path / "hosts.json"  # a second inventory: what stands beside it wins over the first
    hosts.write_text(json.dumps({"all": {"hosts": {host: {} for host in changed}}}))
    begun = time.monotonic()
    with looked(PODS, lambda answer: len(healthy(answer["items"]))) as seen:
        play("playbooks/rollout.yml", "-i", str(hosts), "--limit", ",".join(NODES))
    took = time.monotonic() - begun
    kubectl("rollout", "status", "deployment/steady", "--timeout=60s")
    assert not set(steady()) & set(before), "each node was changed, so each of the three pods had to move"
    assert len(seen) > took / EVERY_S / 3, f"only {len(seen)} looks in {took:.0f} s"
    fewest = min(number for _when, number in seen)
    assert fewest >= 2
    with capsys.disabled():
        print(f"\nbudget of 2 of 3: {len(seen)} looks in {took:.0f} s, never fewer than {fewest} healthy")

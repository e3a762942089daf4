# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Every option of the chart of the role triton gives objects that a real API server takes, field by field."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from lab.conftest import LAB, ROOT

CHART = ROOT / "roles" / "triton" / "files" / "triton"
GROUP: dict[str, Any] = {"name": "small", "resource": "nvidia.com/mig-1g.5gb", "replicas": 7}
HPA = {"kind": "hpa", "min": 1, "max": 7, "target": "5"}
KEDA = {"kind": "keda", "min": 1, "max": 7, "target": "5", "prometheus": "http://prometheus.monitoring:9090"}
PVC = {"pvc": {"claimName": "models", "path": "production"}}
OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "hpa": ({"groups": [{**GROUP, "autoscaling": HPA}]}, "HorizontalPodAutoscaler"),
    "keda": ({"groups": [{**GROUP, "autoscaling": KEDA}]}, "ScaledObject"),
    "service monitor": ({"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}, "ServiceMonitor"),
    "network policy": (
        {
            "networkPolicy": {
                "from": [{"podSelector": {"matchLabels": {"app": "client"}}}],
                "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 9000}]}],
            }
        },
        "NetworkPolicy",
    ),
    "no network policy": ({"networkPolicy": {"enabled": False}}, "Service"),
    "topology spread off": ({"topologySpread": False}, "Deployment"),
    "disruption budget": ({"podDisruptionBudget": {"maxUnavailable": "25%"}}, "PodDisruptionBudget"),
    "s3 with credentials": (
        {
            "modelRepository": {"s3": "s3://bucket/models"},
            "s3Credentials": {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "123456"},
        },
        "Secret",
    ),
    "s3 with a Secret": ({"modelRepository": {"s3": "s3://bucket/models"}, "s3Secret": "mine"}, "Deployment"),
    "claim": ({"modelRepository": PVC}, "Deployment"),
    "files": ({"modelRepository": {"files": {"net/config.pbtxt": "bmFtZQ==", "net/1/a.py": "cGFzcw=="}}}, "ConfigMap"),
    "two groups": (
        {
            "groups": [
                {
                    **GROUP,
                    "nodes": ["a100-mixed"],
                    "models": ["net"],
                    "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
                    "args": ["--log-verbose=1"],
                    "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
                },
                {"name": "large", "resource": "nvidia.com/gpu", "count": 2},
            ],
            "imagePullSecrets": [{"name": "registry"}],
            "podAnnotations": {"example.com/team": "vision"},
            "priorityClassName": "serving",
            "service": {"type": "LoadBalancer"},
        },
        "Service",
    ),
}
# Kinds of CustomResourceDefinitions that the lab does not have.
FOREIGN = {"ScaledObject", "ServiceMonitor"}


@pytest.mark.parametrize("option", OPTIONS)
def test_the_api_server_takes_every_object(option: str) -> None:
    values, kind = OPTIONS[option]
    values = {"groups": [GROUP], "modelRepository": {"hostPath": "/srv/models"}, **values}
    rendered = _run([LAB / "bin" / "helm", "template", "models", CHART, "--values", "-"], json.dumps(values))
    objects = [each for each in yaml.safe_load_all(rendered) if each]
    assert kind in {each["kind"] for each in objects}
    known = [each for each in objects if each["kind"] not in FOREIGN]
    command = [LAB / "bin" / "kubectl", "apply", "--dry-run=server", "--validate=strict", "-f", "-", "-o", "name"]
    taken = _run(command, yaml.safe_dump_all(known)).split()
    assert {name.rpartition("/")[2] for name in taken} == {each["metadata"]["name"] for each in known}
    assert len(taken) == len(known)


def _run(command: Sequence[object], given: str) -> str:
    environment = {**os.environ, "KUBECONFIG": str(LAB / "kubeconfig")}
    done = subprocess.run(
        [str(word) for word in command], input=given, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

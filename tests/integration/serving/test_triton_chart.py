# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The chart of the role triton, rendered: what a user who wrote these values must find in the cluster."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab.gpufleet_lab.binaries import build_group, group, program

pytestmark = pytest.mark.slow

CHART = Path(__file__).resolve().parents[3] / "roles" / "triton" / "files" / "triton"
FILES = {"net/config.pbtxt": "bmFtZQ==", "net/1/model.py": "cGFzcw==", "other/1/model.py": "cGFzcw=="}
SMALL = {"name": "small", "resource": "nvidia.com/mig-1g.5gb", "replicas": 7}
LARGE = {"name": "large", "resource": "nvidia.com/mig-3g.20gb"}
VALUES: dict[str, Any] = {"groups": [SMALL, LARGE], "modelRepository": {"files": FILES}}


@pytest.fixture(scope="module")
def helm() -> str:
    build_group(group("helm"))
    return str(program("helm"))


def template(helm: str, values: dict[str, Any]) -> Any:
    """Objects by kind and name, or what helm says where it refuses."""
    command = [helm, "template", "models", str(CHART), "--values", "-", "--namespace", "serving"]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout) if each}


def pod(objects: Any, name: str) -> Any:
    return objects["Deployment", name]["spec"]["template"]["spec"]


def test_the_chart_passes_lint(helm: str) -> None:
    done = subprocess.run(
        [helm, "lint", "--strict", str(CHART), "--values", "-"],
        input=json.dumps(VALUES), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_group_has_its_replicas_and_each_replica_one_partition(helm: str) -> None:
    objects = template(helm, VALUES)
    for name, resource, replicas in (("small", SMALL["resource"], 7), ("large", LARGE["resource"], 1)):
        deployment = objects["Deployment", f"models-{name}"]
        assert deployment["spec"]["replicas"] == replicas
        (container,) = pod(objects, f"models-{name}")["containers"]
        assert container["resources"] == {"limits": {resource: 1}}
        # a replica more than there are partitions could never start during an update
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
        assert objects["PodDisruptionBudget", f"models-{name}"]["spec"]["maxUnavailable"] == 1


def test_replicas_run_without_privileges_on_a_read_only_root(helm: str) -> None:
    spec = pod(template(helm, VALUES), "models-small")
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["runtimeClassName"] == "nvidia"
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp", "/dev/shm"}
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
    # what is in flight may end: Triton's own patience lies within the kubelet's
    patience = int(next(each.split("=")[1] for each in container["args"] if each.startswith("--exit-timeout-secs")))
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] + patience < spec["terminationGracePeriodSeconds"]


def test_files_of_small_models_arrive_where_triton_looks_for_them(helm: str) -> None:
    objects = template(helm, VALUES)
    spec = pod(objects, "models-small")
    data = objects["ConfigMap", "models-models"]["binaryData"]
    (volume,) = [each for each in spec["volumes"] if each["name"] == "models"]
    arrives = {each["path"]: base64.b64decode(data[each["key"]]) for each in volume["configMap"]["items"]}
    assert arrives == {path: base64.b64decode(content) for path, content in FILES.items()}
    mounts = {each["mountPath"]: each["subPath"] for each in spec["containers"][0]["volumeMounts"] if "subPath" in each}
    assert mounts == {"/models/net": "net", "/models/other": "other"}


def test_a_changed_model_replaces_the_replicas_and_other_values_do_not(helm: str) -> None:
    def pods(values: dict[str, Any]) -> Any:
        return template(helm, values)["Deployment", "models-small"]["spec"]["template"]

    changed = {**FILES, "net/1/model.py": "cGFzczE="}
    assert pods({**VALUES, "modelRepository": {"files": changed}}) != pods(VALUES)
    assert pods({**VALUES, "groups": [{**SMALL, "replicas": 3}, LARGE], "serviceMonitor": {"enabled": True}}) == pods(
        VALUES
    )


@pytest.mark.parametrize(
    ("repository", "argument", "volume"),
    [
        ({"pvc": {"claimName": "m", "path": "/a"}}, "/models/a", {"claimName": "m", "readOnly": True}),
        ({"hostPath": "/srv/models"}, "/models", {"path": "/srv/models", "type": "Directory"}),
        ({"s3": "s3://bucket/models"}, "s3://bucket/models", None),
    ],
)
def test_other_places_of_a_repository(helm: str, repository: Any, argument: str, volume: Any) -> None:
    spec = pod(template(helm, {"groups": [SMALL], "modelRepository": repository}), "models-small")
    assert f"--model-repository={argument}" in spec["containers"][0]["args"]
    found = [each for each in spec["volumes"] if each["name"] == "models"]
    assert [next(value for key, value in each.items() if key != "name") for each in found] == (
        [volume] if volume else []
    )


def test_s3_credentials_come_from_a_secret_only(helm: str) -> None:
    base = {"groups": [SMALL], "modelRepository": {"s3": "s3://b/m"}}
    objects = template(helm, {**base, "s3Credentials": {"AWS_ACCESS_KEY_ID": "id"}})
    assert objects["Secret", "models-s3"]["stringData"] == {"AWS_ACCESS_KEY_ID": "id"}
    (container,) = pod(objects, "models-small")["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "models-s3"}}]
    existing = template(helm, {**base, "s3Secret": "mine"})
    assert ("Secret", "models-s3") not in existing
    assert pod(existing, "models-small")["containers"][0]["envFrom"] == [{"secretRef": {"name": "mine"}}]


def test_one_service_answers_for_all_groups_only_where_they_serve_the_same_models(helm: str) -> None:
    same = template(helm, VALUES)
    assert same["Service", "models"]["spec"]["selector"].get("gpufleet.io/group") is None
    assert same["Service", "models-headless"]["spec"]["clusterIP"] == "None"
    differ = template(helm, {**VALUES, "groups": [{**SMALL, "models": ["net"]}, {**LARGE, "models": ["other"]}]})
    assert {name for kind, name in differ if kind == "Service"} == {
        "models-small", "models-small-headless", "models-large", "models-large-headless",
    }  # fmt: skip
    assert "--load-model=net" in pod(differ, "models-small")["containers"][0]["args"]
    ports = {each["name"]: each["port"] for each in same["Service", "models"]["spec"]["ports"]}
    assert ports == {"http": 8000, "grpc": 8001, "metrics": 8002}


def test_scaling_on_the_queue_leaves_the_number_of_replicas_to_the_scaler(helm: str) -> None:
    hpa = template(helm, {**VALUES, "groups": [{**SMALL, "autoscaling": {"kind": "hpa", "max": 7}}]})
    assert "replicas" not in hpa["Deployment", "models-small"]["spec"]
    scaler = hpa["HorizontalPodAutoscaler", "models-small"]["spec"]
    assert (scaler["maxReplicas"], scaler["scaleTargetRef"]["name"]) == (7, "models-small")
    assert scaler["metrics"][0]["pods"]["metric"]["name"] == "nv_inference_pending_request_count"
    keda = {"kind": "keda", "max": 7, "prometheus": "http://prometheus:9090"}
    trigger = template(helm, {**VALUES, "groups": [{**SMALL, "autoscaling": keda}]})["ScaledObject", "models-small"]
    assert trigger["spec"]["triggers"][0]["metadata"]["serverAddress"] == "http://prometheus:9090"


def test_network_policy_and_service_monitor(helm: str) -> None:
    objects = template(helm, {**VALUES, "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}})
    policy = objects["NetworkPolicy", "models"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert {each["port"] for each in policy["ingress"][0]["ports"]} == {"http", "grpc", "metrics"}
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53}
    monitor = objects["ServiceMonitor", "models"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    chosen = [
        name
        for (kind, name), each in objects.items()
        if kind == "Service"
        and monitor["spec"]["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
    ]
    assert sorted(chosen) == ["models-large", "models-small"], "each replica is scraped once"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"groups": [SMALL], "modelRepository": {}}, "needs exactly one of files, pvc, hostPath and s3; given: none"),
        ({"groups": [SMALL], "modelRepository": {"s3": "s3://b", "hostPath": "/m"}}, "given: hostPath, s3"),
        ({**VALUES, "groups": [SMALL, SMALL]}, "Two groups have the same name: small, small"),
        ({**VALUES, "groups": [{**SMALL, "autoscaling": {"kind": "keda", "max": 2}}]}, "needs autoscaling.prometheus"),
        ({**VALUES, "groups": [{**SMALL, "replica": 2}]}, "additional properties 'replica' not allowed"),
        ({**VALUES, "groups": [{**SMALL, "name": "Small"}]}, "does not match pattern"),
        ({**VALUES, "user": 0}, "minimum"),
    ],
)
def test_values_that_cannot_work_are_refused_with_the_reason(helm: str, values: dict[str, Any], said: str) -> None:
    refused = template(helm, values)
    assert isinstance(refused, str)
    assert said in refused

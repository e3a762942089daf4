# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""One private API server for the tests of this folder, a namespace of its own for each test, and a chart to install."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.helm.helm_cluster import Cluster
from unit.kube_server import run_module

CHART = {
    "Chart.yaml": "apiVersion: v2\nname: sample\nversion: 1.0.0\nappVersion: '1'\n",
    "values.yaml": "greeting: hello\nimage: ready\nword: sesame\n",
    "templates/config.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}'}\n"
        "data: {greeting: '{{ .Values.greeting }}'}\n"
    ),
    "templates/secret.yaml": (
        "apiVersion: v1\nkind: Secret\nmetadata: {name: '{{ .Release.Name }}'}\n"
        "stringData: {word: '{{ .Values.word }}'}\n"
    ),
    "templates/daemonset.yaml": (
        '{{- if eq .Release.Namespace "default" }}{{ fail "not in namespace default, please" }}{{ end }}\n'
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: '{{ .Release.Name }}'}\n"
        "spec:\n  selector: {matchLabels: {app: sample}}\n  template:\n    metadata: {labels: {app: sample}}\n"
        "    spec: {containers: [{name: main, image: '{{ .Values.image }}'}]}\n"
    ),
}


class Release:
    """The module with the parameters that all tests share; a call gives the module's answer."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.chart = folder / "sample"
        self.write(CHART)
        self.namespace = f"helm-test-{uuid.uuid4().hex[:8]}"
        self.params: dict[str, Any] = {
            "name": "sample",
            "namespace": self.namespace,
            "create_namespace": True,
            "helm_binary": cluster.helm,
            "kubeconfig": cluster.kubeconfig(),
            "timeout": 20,
        }

    def write(self, files: dict[str, str]) -> None:
        """Add or replace files of the chart."""
        for name, text in files.items():
            path = self.chart / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def __call__(self, *, check: bool = False, env: dict[str, str] | None = None, **params: Any) -> dict[str, Any]:
        merged = {"chart": str(self.chart), **self.params, **params}
        if merged.get("state", "present") != "present":
            del merged["chart"], merged["create_namespace"]
        return run_module("helm_release", check=check, env=env, **merged)

    def get(self, plural: str, name: str = "sample", group: str = "/api/v1") -> Any:
        """An object of the test's namespace, None where there is none."""
        return self.cluster.find(f"{group}/namespaces/{self.namespace}/{plural}/{name}")

    def helm(self, *arguments: str, check: bool = True) -> str:
        """helm in the test's namespace."""
        return str(self.cluster.run_helm("--namespace", self.namespace, *arguments, check=check).stdout)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        found.up()
        yield found
    finally:
        found.down()


@pytest.fixture
def release(cluster: Cluster, tmp_path: Path) -> Iterator[Release]:
    found = Release(cluster, tmp_path)
    yield found
    if cluster.find(f"/api/v1/namespaces/{found.namespace}") is not None:
        cluster.call("DELETE", f"/api/v1/namespaces/{found.namespace}")

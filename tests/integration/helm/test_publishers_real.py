# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""node_publishers and node_gpu_info with real DaemonSets that share their labels, as those of chart 0.20.0."""

from __future__ import annotations

from typing import Any

import pytest
from integration.helm.conftest import Release
from integration.helm.helm_cluster import LAST_WORDS, NODE
from unit.kube_server import run_module

pytestmark = pytest.mark.slow

CONFIG = "nvidia.com/device-plugin.config"
PUBLISHERS = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-configs"}
data: {none: "a", single: "b", mixed: "c"}
{{- range $app := list "nvidia-device-plugin" "gpu-feature-discovery" }}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: "{{ $.Release.Name }}-{{ $app }}"}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: nvidia-device-plugin}}
  template:
    metadata:
      labels: {app.kubernetes.io/name: nvidia-device-plugin, app.kubernetes.io/instance: "{{ $.Release.Name }}"}
    spec:
      containers:
        - {name: "{{ $app }}-ctr", image: '{{ index $.Values.images $app | default "ready" }}', command: ["{{ $app }}"]}
      volumes:
        - {name: available-configs, configMap: {name: "{{ $.Release.Name }}-configs"}}
{{- end }}
"""


@pytest.fixture
def publishers(release: Release) -> Release:
    for path in (release.chart / "templates").iterdir():
        path.unlink()
    release.write({"templates/all.yaml": PUBLISHERS, "values.yaml": "images: {}\n"})
    release.params["name"] = "plugin"
    return release


def run(release: Release, module: str, *, check: bool = False, **params: Any) -> dict[str, Any]:
    common = {"kubeconfig": release.params["kubeconfig"], "namespace": release.namespace}
    return run_module(module, check=check, **{**common, **params})


def test_restart_of_real_daemonset_pods(publishers: Release) -> None:
    assert publishers()["changed"]
    publishers.cluster.node_status({"nvidia.com/mig-1g.5gb": "7", "nvidia.com/gpu": "0"})
    expect = {NODE: {"resources": {"nvidia.com/mig-1g.5gb": 7}}}
    before = run(publishers, "node_gpu_info", nodes=[NODE], expect=expect, timeout=10)["nodes"][NODE]
    assert sorted(each["app"] for each in before["publishers"]) == ["gpu-feature-discovery", "nvidia-device-plugin"]

    wish = {NODE: {"config": "mixed", "restart": True}}
    predicted = run(publishers, "node_publishers", check=True, nodes=wish)
    again = run(publishers, "node_gpu_info", nodes=[NODE])["nodes"][NODE]
    assert again["publishers"] == before["publishers"]
    assert CONFIG not in again["labels"]

    done = run(publishers, "node_publishers", nodes=wish)["nodes"][NODE]
    assert done["config"] == predicted["nodes"][NODE]["config"] == {"before": None, "after": "mixed"}
    assert [each["uid"] for each in done["restarted"]] == [each["uid"] for each in before["publishers"]]
    after = run(publishers, "node_gpu_info", nodes=[NODE], expect=expect)["nodes"][NODE]
    assert after["labels"][CONFIG] == "mixed"
    assert {each["uid"] for each in after["publishers"]} == {each["replaced_by"]["uid"] for each in done["restarted"]}
    assert all(each["ready"] for each in after["publishers"])
    assert run(publishers, "node_publishers", nodes={NODE: {"config": "mixed"}})["changed"] is False

    answer = run(publishers, "node_publishers", nodes={NODE: {"config": "bogus"}})
    assert "has no entry 'bogus', it has mixed, none, single" in answer["msg"]
    assert run(publishers, "node_publishers", nodes={NODE: {"config": ""}})["changed"]


def test_a_crashing_feature_discovery_is_told_from_a_healthy_plugin(publishers: Release) -> None:
    values = {"images": {"gpu-feature-discovery": "crash"}}
    said = publishers(values=values, timeout=3)["msg"]
    assert f"DaemonSet {publishers.namespace}/plugin-gpu-feature-discovery has 0 of 1 pods available" in said
    assert "plugin-nvidia-device-plugin" not in said
    shown = run(publishers, "node_gpu_info", nodes=[NODE], expect={NODE: {}}, timeout=1, fail_on_mismatch=False)
    (sentence,) = shown["nodes"][NODE]["mismatch"]
    assert "container gpu-feature-discovery-ctr waits (CrashLoopBackOff)" in sentence
    assert LAST_WORDS in sentence
    assert shown["nodes"][NODE]["publishers"][0]["restarts"] == 3

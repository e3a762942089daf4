# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Publishers that somebody else installed are found in any namespace, restarted and waited for as they are.

The pods are cut down from the DaemonSets of NVIDIA's GPU operator (commit a22dbf67) and of NVIDIA's static manifest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.kube_server import GFD, PLUGIN, Api, node, pod, run_here

CONFIG = "nvidia.com/device-plugin.config"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    server = Api(tmp_path)
    server.put(node("a", {"nvidia.com/gpu": 8}))
    yield server
    server.shutdown()
    server.server_close()


def foreign(app: str, namespace: str, labels: dict[str, str], *containers: str, config: str = "") -> dict[str, Any]:
    """A pod of another installer on node a."""
    made = pod(app, "a")
    made["metadata"].update(namespace=namespace, labels=labels)
    mounts = [{"name": config, "mountPath": "/available-configs"}] if config else []
    made["spec"]["containers"] = [
        {"name": name, "command": ["/bin/sh", "-c"], "volumeMounts": mounts} for name in containers
    ]
    made["spec"]["volumes"] = [{"name": config, "configMap": {"name": config}}] if config else []
    return made


def operator(config: str = "") -> list[dict[str, Any]]:
    sidecar = ["config-manager"] if config else []
    plugin = {"app": "nvidia-device-plugin-daemonset"}
    discovery = {"app": "gpu-feature-discovery", "app.kubernetes.io/part-of": "nvidia-gpu"}
    mps = {"app": "nvidia-device-plugin-mps-control-daemon"}
    return [
        foreign(PLUGIN, "gpu-operator", plugin, "nvidia-device-plugin", *sidecar, config=config),
        foreign(GFD, "gpu-operator", discovery, "gpu-feature-discovery", *sidecar, config=config),
        foreign("mps", "gpu-operator", mps, "mps-control-daemon-ctr", *sidecar, config=config),
        foreign("v", "gpu-operator", {"app": "nvidia-operator-validator"}, "nvidia-operator-validator"),
    ]


def config_map(*entries: str) -> dict[str, Any]:
    metadata = {"name": "time-slicing", "namespace": "gpu-operator"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": dict.fromkeys(entries, "version: v1"),
    }


def found(api: Api, **params: Any) -> list[tuple[str, str]]:
    answer = run_here("node_gpu_info", kubeconfig=api.kubeconfig(), nodes=["a"], namespace="", **params)
    return [(each["namespace"], each["app"]) for each in answer["nodes"]["a"]["publishers"]]


def restart(api: Api, check: bool = False, **wish: Any) -> dict[str, Any]:
    return run_here(
        "node_publishers",
        check=check,
        kubeconfig=api.kubeconfig(),
        nodes={"a": {"restart": True, **wish}},
        namespace="",
        managed=False,
        timeout=20,
    )


def label(api: Api) -> str | None:
    labels: dict[str, str] = api.objects["/api/v1/nodes/a"]["metadata"]["labels"]
    return labels.get(CONFIG)


def test_the_operators_two_programs_are_told_from_its_other_pods(api: Api) -> None:
    api.put(*operator())
    assert sorted(found(api)) == [("gpu-operator", GFD), ("gpu-operator", PLUGIN)]
    expect = {"a": {"resources": {"nvidia.com/gpu": 8}}}
    assert len(found(api, expect=expect, timeout=20)) == 2
    ours = run_here("node_gpu_info", kubeconfig=api.kubeconfig(), nodes=["a"], expect=expect)
    assert "no nvidia-device-plugin pod runs on it" in ours["msg"], "in our namespace there is none"


@pytest.mark.parametrize(
    ("labels", "app"),
    [
        ({"name": "nvidia-device-plugin-ds"}, PLUGIN),
        ({"app": "nvidia-device-plugin-daemonset"}, PLUGIN),
        ({"app": "gpu-feature-discovery"}, GFD),
        ({"app.kubernetes.io/name": "gpu-feature-discovery"}, GFD),
    ],
)
def test_labels_tell_where_containers_are_called_anything(api: Api, labels: dict[str, str], app: str) -> None:
    api.put(foreign("any", "kube-system", labels, "main"), foreign("other", "kube-system", {"app": "web"}, "main"))
    assert found(api) == [("kube-system", app)]


def test_they_are_restarted_and_waited_for_and_nothing_else_is_touched(api: Api) -> None:
    api.put(*operator())
    before = {path for path in api.objects if "/pods/" in path}
    predicted = restart(api, check=True, config="mixed")
    assert not api.writes()
    done = restart(api, config="mixed")
    assert [each["app"] for each in done["nodes"]["a"]["restarted"]] == [GFD, PLUGIN]
    assert all(each["replaced_by"] for each in done["nodes"]["a"]["restarted"])
    assert [len(predicted["nodes"]["a"]["restarted"]), predicted["nodes"]["a"]["config"]] == [2, None]
    gone = before - set(api.objects)
    assert sorted(path.split("/")[4] for path in gone) == ["gpu-operator", "gpu-operator"]
    assert sorted(line.split()[0] for line in api.writes()) == ["DELETE", "DELETE"]
    assert label(api) is None


def test_the_label_is_set_where_their_configuration_has_the_entry(api: Api) -> None:
    api.put(*operator("time-slicing"), config_map("default", "mixed"))
    done = restart(api, config="mixed")
    assert done["nodes"]["a"]["config"] == {"before": None, "after": "mixed"}
    assert label(api) == "mixed"
    assert restart(api, config="")["nodes"]["a"]["config"] == {"before": "mixed", "after": None}
    assert label(api) is None


def test_an_entry_that_they_lack_leaves_the_label_as_it_is_and_ours_is_refused(api: Api) -> None:
    api.put(*operator("time-slicing"), config_map("default"))
    refused = run_here("node_publishers", kubeconfig=api.kubeconfig(), nodes={"a": {"config": "mixed"}}, namespace="")
    assert "config map gpu-operator/time-slicing of the device plugin has no entry 'mixed'" in refused["msg"]
    assert restart(api, config="mixed")["nodes"]["a"]["config"] is None
    assert label(api) is None

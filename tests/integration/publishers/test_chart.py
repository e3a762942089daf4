# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The lab's chart has the values, names and refusals of NVIDIA's chart 0.20.0, as far as the roles rely on them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import yaml
from lab.gpufleet_lab.binaries import build_group, group, program
from lab.gpufleet_lab.settings import LAB_SOURCE

pytestmark = pytest.mark.slow

CHART = LAB_SOURCE / "chart" / "nvidia-device-plugin"
STRATEGIES = {name: f"version: v1\nflags:\n  migStrategy: {name}\n" for name in ("none", "single", "mixed")}
PER_NODE: dict[str, Any] = {
    "config": {"map": STRATEGIES, "default": "none"},
    "deviceListStrategy": "cdi-cri",
    "nvidiaDriverRoot": "/",
    "runtimeClassName": "nvidia",
    "gfd": {"enabled": True},
    "nfd": {"enabled": False},
}


@pytest.fixture(scope="module")
def helm() -> str:
    build_group(group("helm"))
    return str(program("helm"))


def template(helm: str, values: dict[str, Any], *arguments: str, release: str = "nvidia-device-plugin") -> Any:
    """Objects by kind and name, or what helm says where it refuses."""
    command = [helm, "template", release, str(CHART), "--values", "-", "--namespace", "gpus", *arguments]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr
    found = [each for each in yaml.safe_load_all(done.stdout) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def pod(objects: Any, name: str) -> Any:
    return objects["DaemonSet", name]["spec"]["template"]["spec"]


def container(spec: Any, name: str) -> tuple[Any, dict[str, str]]:
    (found,) = [each for each in spec["containers"] + spec.get("initContainers", []) if each["name"] == name]
    return found, {each["name"]: each.get("value", "") for each in found.get("env") or []}


def test_objects_of_the_per_node_strategy(helm: str) -> None:
    objects = template(helm, PER_NODE)
    plugin = pod(objects, "nvidia-device-plugin")
    discovery = pod(objects, "nvidia-device-plugin-gpu-feature-discovery")
    assert objects["ConfigMap", "nvidia-device-plugin-configs"]["data"].keys() == STRATEGIES.keys()
    for spec, name in ((plugin, "nvidia-device-plugin"), (discovery, "gpu-feature-discovery")):
        assert spec["runtimeClassName"] == "nvidia"
        assert spec["shareProcessNamespace"] is True
        _, environment = container(spec, f"{name}-ctr")
        assert environment["CONFIG_FILE"] == "/config/config.yaml"
        assert environment["NVIDIA_MIG_MONITOR_DEVICES"] == "all"
        assert "MIG_STRATEGY" not in environment
        _, init = container(spec, f"{name}-init")
        _, sidecar = container(spec, f"{name}-sidecar")
        assert (init["ONESHOT"], sidecar["ONESHOT"]) == ("true", "false")
        assert sidecar["PROCESS_TO_SIGNAL"] == name
        assert sidecar["DEFAULT_CONFIG"] == "none"
    main, environment = container(plugin, "nvidia-device-plugin-ctr")
    assert environment["DEVICE_LIST_STRATEGY"] == "cdi-cri"
    assert main["image"] == "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"
    assert main["securityContext"] == {"capabilities": {"add": ["SYS_ADMIN"]}}
    mounts = {each["mountPath"] for each in main["volumeMounts"]}
    assert {"/driver-root", "/var/run/cdi", "/var/lib/kubelet/device-plugins"} <= mounts


def test_a_strategy_in_the_values_beats_the_configuration(helm: str) -> None:
    objects = template(helm, {**PER_NODE, "migStrategy": "single"})
    for name in ("nvidia-device-plugin", "gpu-feature-discovery"):
        spec = pod(
            objects, "nvidia-device-plugin" if name == "nvidia-device-plugin" else f"nvidia-device-plugin-{name}"
        )
        assert container(spec, f"{name}-ctr")[1]["MIG_STRATEGY"] == "single"


def test_without_mig_no_privileges_and_no_access_to_nodes(helm: str) -> None:
    objects = template(helm, {}, release="gpus")
    assert [kind for kind, _ in objects] == ["DaemonSet"]
    main, environment = container(pod(objects, "gpus-nvidia-device-plugin"), "nvidia-device-plugin-ctr")
    assert main["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert environment.keys() == {"NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"}


def test_sleep_interval_is_read_at_the_top_level_only(helm: str) -> None:
    name = "nvidia-device-plugin-gpu-feature-discovery"
    inner = template(helm, {**PER_NODE, "gfd": {"enabled": True, "sleepInterval": "5s"}})
    assert "GFD_SLEEP_INTERVAL" not in container(pod(inner, name), "gpu-feature-discovery-ctr")[1]
    outer = template(helm, {**PER_NODE, "sleepInterval": "5s"})
    assert container(pod(outer, name), "gpu-feature-discovery-ctr")[1]["GFD_SLEEP_INTERVAL"] == "5s"


@pytest.mark.parametrize(
    ("values", "arguments", "said"),
    [
        ({}, ["--namespace", "default"], "'default' namespace is not recommended"),
        ({"config": {"map": STRATEGIES}}, [], "config.default must name one"),
        ({"config": {"map": STRATEGIES, "default": "gone"}}, [], "config.default is 'gone'"),
        ({"config": {"map": STRATEGIES, "default": "none", "name": "other"}}, [], "not both"),
        ({"nfd": {"enabled": True}}, [], "no node feature discovery"),
    ],
)
def test_refusals(helm: str, values: dict[str, Any], arguments: list[str], said: str) -> None:
    assert said in template(helm, values, *arguments)


def test_namespace_default_where_it_is_allowed_and_a_strategy_that_nobody_checks(helm: str) -> None:
    objects = template(helm, {"allowDefaultNamespace": True, "migStrategy": "bogus"}, "--namespace", "default")
    assert container(pod(objects, "nvidia-device-plugin"), "nvidia-device-plugin-ctr")[1]["MIG_STRATEGY"] == "bogus"

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What the cluster shows of GPU nodes, and whether that equals what is expected. Pure: API objects in, plain data out.

The publishers are the two programs that make GPUs visible: the device plugin and GPU feature discovery (GFD).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _ownership, _pods
from ansible_collections.gpufleet.mig.plugins.module_utils._prediction import gfd_labels

PREFIX = "nvidia.com/"
CONFIG_LABEL = "nvidia.com/device-plugin.config"
DEVICE_PLUGIN = "nvidia-device-plugin"
FEATURE_DISCOVERY = "gpu-feature-discovery"


AVAILABLE_CONFIGS = "/available-configs"
# Labels of pods whose containers may be called anything: GPU operator a22dbf67, and NVIDIA's static manifest.
LABELS = {
    ("app", "nvidia-device-plugin-daemonset"): DEVICE_PLUGIN,
    ("name", "nvidia-device-plugin-ds"): DEVICE_PLUGIN,
    ("app", "gpu-feature-discovery"): FEATURE_DISCOVERY,
    ("app.kubernetes.io/name", "gpu-feature-discovery"): FEATURE_DISCOVERY,
}


def app_of(pod: Mapping[str, Any]) -> str | None:
    """Which publisher a pod is, None for any other pod.

    By what its containers are called and run, as chart 0.20.0 gives both DaemonSets the same labels and selectors; then
    by the labels of other installers.
    """
    words: list[str] = []
    for container in pod.get("spec", {}).get("containers") or []:
        words.append(str(container.get("name", "")))
        words.extend(str(part).rpartition("/")[2] for part in (container.get("command") or [])[:1])
    if any("mps-control-daemon" in word for word in words):
        return None
    if any(FEATURE_DISCOVERY in word for word in words):
        return FEATURE_DISCOVERY
    if any(DEVICE_PLUGIN in word for word in words):
        return DEVICE_PLUGIN
    labels = pod.get("metadata", {}).get("labels") or {}
    return next((app for (key, value), app in LABELS.items() if labels.get(key) == value), None)


def config_maps(pod: Mapping[str, Any]) -> list[str]:
    """Names of the configuration maps from which the node label picks an entry for this pod.

    The chart calls the volume available-configs, GPU operator calls it like the config map.
    """
    spec = pod.get("spec", {})
    mounts = [mount for container in spec.get("containers") or [] for mount in container.get("volumeMounts") or []]
    names = {str(mount.get("name")) for mount in mounts if mount.get("mountPath") == AVAILABLE_CONFIGS}
    names.add(AVAILABLE_CONFIGS.strip("/"))
    volumes = [volume for volume in spec.get("volumes") or [] if volume.get("name") in names]
    return [str(volume["configMap"]["name"]) for volume in volumes if volume.get("configMap")]


def by_node(pods: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The publisher pods among ``pods``, per node name, in the order of their names.

    Pods that ended for good (Failed, Succeeded) are left out: a DaemonSet replaces them, the remains mean nothing.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for pod in sorted(pods, key=_pods.full_name):
        node = pod.get("spec", {}).get("nodeName")
        over = pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
        if node and not over and app_of(pod):
            found.setdefault(node, []).append(pod)
    return found


def describe(
    node: dict[str, Any] | None, pods: Iterable[dict[str, Any]], topology_key: str | None = None
) -> dict[str, Any]:
    """The module's public shape of one node; ``node`` is None where the cluster has no such node."""
    labels: Mapping[str, str] = (node or {}).get("metadata", {}).get("labels") or {}
    status: Mapping[str, Any] = (node or {}).get("status", {})
    allocatable, capacity = _quantities(status.get("allocatable")), _quantities(status.get("capacity"))
    return {
        "exists": node is not None,
        "ready": any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or []),
        "schedulable": node is not None and not node.get("spec", {}).get("unschedulable", False),
        "rollout": _rollout(node),
        "skipped": None if node is None else _ownership.skipped(node),
        "zone": labels.get(topology_key) if topology_key else None,
        **_ownership.layouts(node or {"metadata": {}}),
        "before": None if node is None else _ownership.begun(node),
        "allocatable": allocatable,
        "capacity": capacity,
        # nobody offers it any more: kubelet 1.36 keeps the capacity for 5 minutes (devicemanager/types.go), then 0
        "stale": [key for key, count in capacity.items() if count and not allocatable.get(key)],
        "labels": {key: value for key, value in sorted(labels.items()) if key.startswith(PREFIX)},
        "publishers": [
            {
                "name": pod["metadata"]["name"],
                "namespace": pod["metadata"].get("namespace", "default"),
                "uid": pod["metadata"]["uid"],
                "app": app_of(pod),
                "ready": _pods.is_ready(pod),
                "ending": _pods.is_ending(pod),
                "restarts": _pods.restarts(pod),
                "controller": _pods.controller(pod),
            }
            for pod in pods
        ],
    }


def _rollout(node: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a roll-out left on the node: its run, phase, and whether it failed there. None where nothing is left."""
    mark = None if node is None else _ownership.read(node)
    if mark is None or (mark.run is None and not mark.failed):
        return None
    return {"run": mark.run, "phase": mark.phase, "failed": mark.failed}


def _quantities(amounts: Mapping[str, str] | None) -> dict[str, int]:
    """Extended resources are whole numbers in the API; other resources (cpu: 1500m) are not ours."""
    return {key: int(value) for key, value in sorted((amounts or {}).items()) if key.startswith(PREFIX)}


def mismatches(
    name: str,
    shown: Mapping[str, Any],
    pods: Iterable[dict[str, Any]],
    expect: Mapping[str, Any],
    publishers: Iterable[str],
    logs: _pods.Logs | None = None,
) -> list[str]:
    """Sentences that say where the node differs from ``expect``; [] when it is as wanted.

    ``expect``: ``resources`` {key: count}, ``resource_alternatives`` [others that are right too], ``labels`` {key:
    value}, ``alternatives`` [other label sets that are right too], ``capacity`` {key: count}; a part that is absent is
    not compared. ``publishers`` are the programs that must have a ready pod on the node.
    """
    if not shown["exists"]:
        return [f"node {name}: the cluster has no node of this name"]
    found: list[str] = []
    if not shown["ready"]:
        found.append(f"node {name}: the node is not Ready, what it shows may be old")
    found.extend(publisher_mismatches(name, pods, publishers, logs))
    if expect.get("resources") is not None:
        choices = (expect["resources"], *(expect.get("resource_alternatives") or []))
        found.extend(_nearest(resource_mismatches(name, "allocatable", shown["allocatable"], one) for one in choices))
    if expect.get("capacity") is not None:
        found.extend(resource_mismatches(name, "capacity", shown["capacity"], expect["capacity"]))
    if expect.get("labels") is not None:
        found.extend(label_mismatches(name, shown["labels"], expect["labels"], expect.get("alternatives") or []))
    return found


def publisher_mismatches(
    name: str, pods: Iterable[dict[str, Any]], publishers: Iterable[str], logs: _pods.Logs | None = None
) -> list[str]:
    """As mismatches(), of the programs only."""
    alive = [pod for pod in pods if not _pods.is_ending(pod)]
    found: list[str] = []
    for app in publishers:
        mine = [pod for pod in alive if app_of(pod) == app]
        if not mine:
            found.append(f"node {name}: no {app} pod runs on it, wanted is one that is ready")
        found += [f"node {name}: {_pods.why_not_ready(pod, logs)}" for pod in mine if not _pods.is_ready(pod)]
    return found


def resource_mismatches(name: str, kind: str, amounts: Mapping[str, int], wanted: Mapping[str, Any]) -> list[str]:
    """Every nvidia.com key counts, in both directions; 0 is the same as absent (old keys stay in node status at 0)."""
    sentences = []
    expected = {key: int(count) for key, count in wanted.items()}
    for key in sorted({*amounts, *expected}):
        there, right = amounts.get(key, 0), expected.get(key, 0)
        if there != right:
            sentences.append(
                f"node {name}: {kind} {key} is {there if key in amounts else 'absent'}, wanted is "
                f"{right if key in expected else 'no such key'}"
            )
    return sentences


def label_mismatches(
    name: str, labels: Mapping[str, str], wanted: Mapping[str, Any], alternatives: Iterable[Mapping[str, Any]]
) -> list[str]:
    """GFD's labels must equal ``wanted`` or one of the alternatives; else the differences from the nearest of these."""
    shown = gfd_labels(dict(labels))

    def differences(choice: Mapping[str, Any]) -> list[str]:
        expected = {key: str(value) for key, value in gfd_labels(dict(choice)).items()}
        return [
            f"node {name}: label {key} is {_shown(shown.get(key))}, wanted is {_shown(expected.get(key))}"
            for key in sorted({*shown, *expected})
            if shown.get(key) != expected.get(key)
        ]

    return _nearest(differences(choice) for choice in (wanted, *alternatives))


def _nearest(choices: Iterable[list[str]]) -> list[str]:
    """The differences from that choice from which there are fewest; [] where one is met."""
    return min(choices, key=len)


def _shown(value: str | None) -> str:
    return "absent" if value is None else repr(value)

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What is left on the nodes of a cluster, of this collection and of pods that never ran, and taking it away."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _nodes, _ownership, _pods, _publishers
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._kube import Kube, KubeError, node_path, pods_path
from ansible_collections.gpufleet.mig.plugins.module_utils._prediction import gfd_labels

PARTS = ("strategy", "features", "marks", "refused_pods")
TIMESTAMP_LABEL = "nvidia.com/gfd.timestamp"
NFD_ANNOTATION = "nfd.node.kubernetes.io/feature-labels"
"""Where node feature discovery keeps which labels it has set."""
POLL_S = 0.5
CONFLICTS = 10


@dataclass
class Left:
    """What goes from one node: keys of labels and annotations (as `patch` for the API), and namespace/name of pods."""

    labels: list[str] = field(default_factory=list)
    annotations: list[str] = field(default_factory=list)
    pods: list[str] = field(default_factory=list)
    patch: dict[str, Any] = field(default_factory=dict)


def left_on(node: Mapping[str, Any], parts: Collection[str]) -> Left:
    """What of the parts is on a node. A node that a run left cordoned becomes as that run found it."""
    metadata = node.get("metadata", {})
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    left = Left()
    if "strategy" in parts:
        left.labels += [key for key in labels if key == _publishers.CONFIG_LABEL]
    if "features" in parts:
        left.labels += [key for key in labels if _is_feature(key)]
        listed = annotations.get(NFD_ANNOTATION)
        if listed is not None and all(_is_feature(key) for key in listed.split(",") if key):
            left.annotations.append(NFD_ANNOTATION)
    spec: dict[str, Any] = {}
    if "marks" in parts:
        left.labels += [key for key in labels if key.startswith(_ownership.PREFIX)]
        left.annotations += [key for key in annotations if key.startswith(_ownership.PREFIX)]
        spec = _ownership.restore(node).get("spec", {})
    gone = {"labels": dict.fromkeys(left.labels), "annotations": dict.fromkeys(left.annotations)}
    if left.labels or left.annotations or spec:
        left.patch = {"metadata": gone, **({"spec": spec} if spec else {})}
    return left


def _is_feature(key: str) -> bool:
    return key == TIMESTAMP_LABEL or bool(gfd_labels({key: ""}))


def clean(
    kube: Kube, names: Sequence[str], parts: Collection[str], namespace: str | None, timeout: float, *, dry: bool
) -> dict[str, Left]:
    """Take it away from each node; a node that the cluster does not have has nothing left.

    Labels of feature discovery go only once no pod of it is there, which would set them again.
    """
    found = {name: _left(kube, name, parts) for name in names}
    if not dry:
        found = _take_away(kube, found, parts, namespace, timeout)
    if "refused_pods" in parts and names:
        for name, pods in _nodes.remove_refused(kube, names, dry=dry).items():
            found[name].pods = [_pods.full_name(pod) for pod in pods]
    return found


def _take_away(
    kube: Kube, found: Mapping[str, Left], parts: Collection[str], namespace: str | None, timeout: float
) -> dict[str, Left]:
    if any(_is_feature(key) for left in found.values() for key in left.labels):
        _wait(kube, set(found), namespace, timeout)
    return {name: _clean(kube, name, parts, left) for name, left in found.items()}


def _left(kube: Kube, name: str, parts: Collection[str]) -> Left:
    node = kube.find(node_path(name))
    return Left() if node is None else left_on(node, parts)


def _clean(kube: Kube, name: str, parts: Collection[str], left: Left) -> Left:
    for _attempt in range(CONFLICTS):
        if not left.patch:
            return left
        node = kube.get(node_path(name))
        left = left_on(node, parts)
        version = {"resourceVersion": node["metadata"]["resourceVersion"]}
        try:
            kube.merge_patch(node_path(name), {**left.patch, "metadata": {**left.patch["metadata"], **version}})
        except KubeError as error:
            if error.status != 409:
                raise
            continue
        return left
    raise MigError(f"Node {name} changes so often that it could not be written {CONFLICTS} times; run again.")


def _wait(kube: Kube, names: Collection[str], namespace: str | None, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        pods = _publishers.by_node(kube.items(pods_path(namespace)))
        there = [_pods.full_name(pod) for name in sorted(names) for pod in pods.get(name, [])]
        if not there:
            return
        if time.monotonic() >= deadline:
            raise MigError(
                f"The labels of GPU feature discovery stay: after {timeout:g} s pod {', '.join(there)} is still there "
                "and would set them again. Uninstall its release, then run again."
            )
        time.sleep(POLL_S)

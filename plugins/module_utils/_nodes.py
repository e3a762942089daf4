# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""GPU nodes of one cluster: read many at once and wait for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _lock, _pods, _publishers
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._kube import (
    Kube,
    KubeUnreachable,
    node_path,
    pod_path,
    pods_path,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._watch import Watched

PAUSE_S = 0.5
# Above this many nodes one list of all nodes is cheaper than a request for each.
SINGLE_READS = 30


@dataclass(frozen=True)
class Where:
    """Which pods are looked at: a namespace (None: all), a label selector, a Helm release."""

    namespace: str | None
    selector: str | None = None
    release: str | None = None

    @property
    def label_selector(self) -> str | None:
        """The selector for the API, None for every pod of the namespace."""
        parts = [self.selector] if self.selector else []
        if self.release:
            parts.append(f"app.kubernetes.io/instance={self.release}")
        return ",".join(parts) or None


class View:
    """Some nodes and the publisher pods on them. What is waited for is watched."""

    def __init__(self, kube: Kube, names: Iterable[str], where: Where) -> None:
        self._kube = kube
        self.names = list(names)
        alone = self.names[0] if len(self.names) == 1 else None
        self._nodes = Watched(
            kube, "/api/v1/nodes", PAUSE_S, fieldSelector=None if alone is None else f"metadata.name={alone}"
        )
        self._pods = Watched(
            kube,
            pods_path(where.namespace),
            PAUSE_S,
            labelSelector=where.label_selector,
            fieldSelector=None if alone is None else f"spec.nodeName={alone}",
        )

    def look(self) -> None:
        """Both, as the API shows them now."""
        self.look_at_nodes()
        self.look_at_pods()

    def look_at_nodes(self) -> None:
        """The nodes only."""
        if 1 < len(self.names) <= SINGLE_READS:
            self._nodes.hold([node for name in self.names if (node := self._kube.find(node_path(name)))])
        elif self.names:
            self._nodes.refresh()

    def look_at_pods(self) -> None:
        """The pods only."""
        if self.names:
            self._pods.refresh()

    def nodes(self) -> dict[str, dict[str, Any] | None]:
        """As last seen, per name; None where the cluster has no such node."""
        found = {node["metadata"]["name"]: node for node in self._nodes.all()}
        return {name: found.get(name) for name in self.names}

    def pods(self) -> dict[str, list[dict[str, Any]]]:
        """The publisher pods as last seen, per node name."""
        return _publishers.by_node(self._pods.all())

    def follow_nodes(self, seconds: float, done: Callable[[], bool]) -> None:
        """Take in what happens to the nodes, until ``done`` or ``seconds`` have passed."""
        self._nodes.follow(seconds, done)

    def follow_pods(self, seconds: float, done: Callable[[], bool]) -> None:
        """As follow_nodes, for the pods."""
        self._pods.follow(seconds, done)


def check_expectations(expect: Mapping[str, Any], nodes: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The ``expect`` option with its shape checked; a typing error there must not look like "as expected"."""
    parts = {"resources": dict, "resource_alternatives": list, "labels": dict, "alternatives": list, "capacity": dict}
    stray = sorted(set(expect) - set(nodes))
    if stray:
        raise MigError(f"expect names {', '.join(stray)}, which nodes does not list.")
    for name, wanted in expect.items():
        if not isinstance(wanted, Mapping):
            raise MigError(f"expect for node {name} must be a dictionary with {', '.join(parts)}.")
        for key, value in wanted.items():
            if key not in parts and key != "error":
                raise MigError(f"expect for node {name} has the unknown key {key}: it takes {', '.join(parts)}.")
            if key in parts and value is not None and not isinstance(value, parts[key]):
                raise MigError(f"expect for node {name}: {key} must be a {parts[key].__name__}.")
        for key, count in [*(wanted.get("resources") or {}).items(), *(wanted.get("capacity") or {}).items()]:
            if not key.startswith(_publishers.PREFIX) or isinstance(count, bool) or not str(count).isdigit():
                raise MigError(
                    f"expect for node {name}: resource {key}: {count!r} must be an nvidia.com key with a whole number."
                )
    return {name: dict(wanted) for name, wanted in expect.items()}


def read_nodes(
    kube: Kube,
    names: Iterable[str],
    where: Where,
    expect: Mapping[str, Mapping[str, Any]],
    publishers: Iterable[str],
    timeout: float,
    keep: Callable[[], None],
    topology_key: str | None = None,
) -> dict[str, dict[str, Any]]:
    """The public shape per node, with ``mismatch``; returns when all is as expected or after ``timeout`` s.

    ``keep`` is called again and again while it waits; what it raises ends the wait (the roll-out lock was lost).
    """
    publishers = list(publishers)
    view = View(kube, dict.fromkeys(names), where)
    answers: dict[str, dict[str, Any]] = {}
    pending = list(view.names)
    deadline = time.monotonic() + timeout

    def compare(logs: Kube | None) -> None:
        nodes, pods = view.nodes(), view.pods()
        for name in list(pending):
            here, wanted = pods.get(name, []), expect.get(name)
            shown = _publishers.describe(nodes[name], here, topology_key)
            shown["mismatch"] = (
                [] if wanted is None else _publishers.mismatches(name, shown, here, wanted, publishers, logs)
            )
            answers[name] = shown
            if not shown["mismatch"]:
                pending.remove(name)

    def nodes_right() -> bool:
        """All that is pending, but for its pods."""
        nodes = view.nodes()
        return not any(
            _publishers.mismatches(name, _publishers.describe(nodes[name], []), [], expect[name], ())
            for name in pending
        )

    def pods_right() -> bool:
        pods = view.pods()
        return not any(_publishers.publisher_mismatches(name, pods.get(name, []), publishers) for name in pending)

    keep()
    view.look()
    compare(kube if timeout <= 0 else None)
    while pending and (left := deadline - time.monotonic()) > 0:
        keep()
        left = min(left, _lock.between(keep))
        try:
            # What is not watched is read again: in the end both were right at the same time.
            if not nodes_right():
                view.follow_nodes(left, nodes_right)
                view.look_at_pods()
            else:
                view.follow_pods(left, pods_right)
                view.look_at_nodes()
        except KubeUnreachable:
            continue  # an API server may restart while we wait
        compare(None)
    if pending and timeout > 0:
        view.look()
        compare(kube)
    return answers


def gpu_pods(kube: Kube, names: Iterable[str], also: Iterable[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """The pods on each node that ask for an nvidia.com resource, and those whose UID is in `also`, by their names.

    Pods of all namespaces, finished ones too: `_pods.describe` has the shape.
    """
    names, also = list(dict.fromkeys(names)), set(also)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    # The API server keeps an index of pods by node, so a few nodes cost little each.
    selectors = [f"spec.nodeName={name}" for name in names] if len(names) <= SINGLE_READS else [None]
    for selector in selectors:
        for pod in kube.items(pods_path(None), fieldSelector=selector):
            shown = _pods.describe(pod, _publishers.PREFIX)
            node = pod.get("spec", {}).get("nodeName")
            if node in found and (shown["requests"] or also.intersection((shown["uid"], shown["kubelet_uid"]))):
                found[node].append(shown)
    for pods in found.values():
        pods.sort(key=lambda pod: (pod["namespace"], pod["name"]))
    return found


def others(kube: Kube, names: Iterable[str]) -> list[str]:
    """Nodes beside these with the label by which the device plugin picks its configuration."""
    labelled = kube.items("/api/v1/nodes", labelSelector=_publishers.CONFIG_LABEL)
    return sorted({node["metadata"]["name"] for node in labelled} - set(names))


def refused_pods(kube: Kube, names: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """GPU pods on each node that the kubelet refused and that nobody removed."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    alone = f",spec.nodeName={next(iter(found))}" if len(found) == 1 else ""
    for pod in kube.items(pods_path(None), fieldSelector=f"status.phase=Failed{alone}"):
        node = pod.get("spec", {}).get("nodeName")
        if node in found and _pods.is_refused(pod) and _pods.requests(pod, _publishers.PREFIX):
            found[node].append(pod)
    return found


def remove_refused(kube: Kube, names: Iterable[str], *, dry: bool) -> dict[str, list[dict[str, Any]]]:
    """Delete them; what was there."""
    found = refused_pods(kube, names)
    for pod in () if dry else (pod for pods in found.values() for pod in pods):
        metadata = pod["metadata"]
        kube.delete(pod_path(metadata["namespace"], metadata["name"]), uid=metadata["uid"])
    return found

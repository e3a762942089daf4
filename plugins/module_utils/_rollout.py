# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Wait until the workloads of a manifest are rolled out, and say what is missing when patience ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from ansible_collections.gpufleet.mig.plugins.module_utils import _pods
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._kube import (
    Kube,
    KubeError,
    KubeUnreachable,
    node_path,
    pods_path,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._manifests import Objects, Ref

POLL_S = 0.5
PLURALS = {"DaemonSet": "daemonsets", "Deployment": "deployments", "StatefulSet": "statefulsets"}
EXPLAINED_PODS = 5


def workloads(objects: Objects, namespace: str) -> list[Ref]:
    """The objects that run pods, their namespace filled in."""
    return [
        Ref(key.kind, key.name, key.namespace or namespace, key.api_version)
        for key in sorted(objects)
        if key.kind in PLURALS and key.api_version == "apps/v1"
    ]


def wait(kube: Kube, targets: Iterable[Ref], timeout: float, keep: Callable[[], None]) -> list[str]:
    """Returns when all are rolled out, with warnings about DaemonSet pods on dead nodes, which are not waited for.

    ``keep`` is called again and again meanwhile. Raises MigError naming workload, pod and reason after ``timeout``
    seconds.
    """
    deadline = time.monotonic() + timeout
    pending = list(targets)
    warnings: list[str] = []
    while pending:
        keep()
        last_look = time.monotonic() >= deadline
        problems: list[str] = []
        try:
            for target in list(pending):
                found = kube.find(_path(target))
                problem = "does not exist" if found is None else unfinished(found)
                excuse = None
                if problem is not None and found is not None and found["kind"] == "DaemonSet":
                    excuse = _only_dead_nodes_lack(kube, found)
                if problem is None or excuse is not None:
                    pending.remove(target)
                    warnings += [f"{_short(target)} {problem}: {excuse}"] if excuse else []
                elif last_look:
                    problems.append(f"{_short(target)} {problem}" + _explain(kube, found))
        except KubeUnreachable:
            if last_look:
                raise
        if problems:
            raise MigError(
                f"Not rolled out after {timeout:g} s: {'; '.join(problems)}. The release stays as it is; repair the "
                "cause and run again, or roll back.",
                not_ready=problems,
            )
        if pending:
            time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))
    return warnings


def unfinished(found: dict[str, Any]) -> str | None:
    """What a DaemonSet, Deployment or StatefulSet still lacks; None when its pods are all new and available."""
    spec, status = found.get("spec", {}), found.get("status", {})
    if int(status.get("observedGeneration") or 0) < int(found["metadata"].get("generation") or 0):
        return "was not looked at by its controller yet"
    if found["kind"] == "DaemonSet":
        wanted = int(status.get("desiredNumberScheduled") or 0)
        updated = int(status.get("updatedNumberScheduled") or 0)
        available = int(status.get("numberAvailable") or 0)
        on_delete = (spec.get("updateStrategy") or {}).get("type") == "OnDelete"
    else:
        wanted = int(spec.get("replicas") if spec.get("replicas") is not None else 1)
        updated = int(status.get("updatedReplicas") or 0)
        available = int(status.get("availableReplicas") or 0)
        on_delete = (spec.get("updateStrategy") or {}).get("type") == "OnDelete"
        if found["kind"] == "Deployment" and int(status.get("replicas") or 0) > updated:
            return f"still has {int(status['replicas']) - updated} pod(s) of the revision before"
    if updated < wanted and not on_delete:
        return f"has {updated} of {wanted} pods of the new revision"
    if available < wanted:
        return f"has {available} of {wanted} pods available"
    return None


def _path(target: Ref) -> str:
    return (
        f"/apis/{target.api_version}/namespaces/{quote(target.namespace)}/{PLURALS[target.kind]}/{quote(target.name)}"
    )


def _short(target: Ref) -> str:
    return f"{target.kind} {target.namespace}/{target.name}"


def _explain(kube: Kube, found: dict[str, Any] | None) -> str:
    """Sentences about the workload's pods that are not ready."""
    if found is None:
        return ""
    bad = [_pods.why_not_ready(pod, kube) for pod in _own_pods(kube, found) if not _pods.is_ready(pod)]
    more = f", and {len(bad) - EXPLAINED_PODS} more pods" if len(bad) > EXPLAINED_PODS else ""
    return f" ({'; '.join(bad[:EXPLAINED_PODS])}{more})" if bad else ""


def _own_pods(kube: Kube, found: dict[str, Any]) -> list[dict[str, Any]]:
    """By owner: two workloads may share labels (those of chart 0.20.0 do), so the selector alone says too much."""
    owners = {str(found["metadata"]["uid"])}
    namespace = found["metadata"]["namespace"]
    labels = (found.get("spec", {}).get("selector") or {}).get("matchLabels") or {}
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    if found["kind"] == "Deployment":
        sets = kube.items(f"/apis/apps/v1/namespaces/{quote(namespace)}/replicasets", labelSelector=selector)
        owners = {str(each["metadata"]["uid"]) for each in sets if (_pods.controller(each) or {}).get("uid") in owners}
    pods = kube.items(pods_path(namespace), labelSelector=selector)
    return [pod for pod in pods if (_pods.controller(pod) or {}).get("uid") in owners]


def _only_dead_nodes_lack(kube: Kube, daemon_set: dict[str, Any]) -> str | None:
    """The nodes that explain what is missing because they are not Ready; None where something else is missing too.

    One dead host must not hold up a whole fleet: its pod comes when the node does.
    """
    status = daemon_set.get("status", {})
    if int(status.get("observedGeneration") or 0) < int(daemon_set["metadata"].get("generation") or 0):
        return None
    suspects = {
        str(pod["spec"]["nodeName"])
        for pod in _own_pods(kube, daemon_set)
        if not _pods.is_ready(pod) and pod["spec"].get("nodeName")
    }
    if not suspects:
        return None
    dead = set()
    for name in suspects:
        try:
            node = kube.find(node_path(name))
        except KubeError as error:
            if error.status != 403:
                raise
            return None  # a user who may not see nodes waits for all of them
        conditions = (node or {}).get("status", {}).get("conditions") or []
        if not any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions):
            dead.add(name)
    wanted = int(status.get("desiredNumberScheduled") or 0)
    there = min(int(status.get(key) or 0) for key in ("updatedNumberScheduled", "numberAvailable"))
    if wanted - there > len(dead):
        return None
    return f"not waited for node {', '.join(sorted(dead))}, which is not Ready"

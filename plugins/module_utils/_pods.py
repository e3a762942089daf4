# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What a pod's status says: ready or not, and the reason in words. Pods are the API's JSON objects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class Logs(Protocol):
    """Where the end of a container's log comes from (``_kube.Kube`` has it)."""

    def last_log_lines(self, namespace: str, pod: str, container: str, *, previous: bool, lines: int = 5) -> list[str]:
        """The last lines, oldest first; [] where there are none."""


def is_ready(pod: dict[str, Any]) -> bool:
    """Ready and not on its way out."""
    return not is_ending(pod) and any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in pod.get("status", {}).get("conditions") or []
    )


def is_ending(pod: dict[str, Any]) -> bool:
    """Deleted, its containers not all stopped yet."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def restarts(pod: dict[str, Any]) -> int:
    """Container restarts since the pod was made, sidecars included."""
    return sum(int(status.get("restartCount") or 0) for status in pod.get("status", {}).get("containerStatuses") or [])


def controller(pod: dict[str, Any]) -> dict[str, str] | None:
    """The owner that makes a new pod when this one goes: {kind, name, uid}; None for a bare pod."""
    for owner in pod["metadata"].get("ownerReferences") or []:
        if owner.get("controller"):
            return {"kind": str(owner["kind"]), "name": str(owner["name"]), "uid": str(owner["uid"])}
    return None


def full_name(pod: dict[str, Any]) -> str:
    """namespace/name"""
    return f"{pod['metadata'].get('namespace', 'default')}/{pod['metadata']['name']}"


def is_finished(pod: dict[str, Any]) -> bool:
    """Its containers have ended for good: the kubelet gives its devices to others. A pod that is ending still runs."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_refused(pod: dict[str, Any]) -> bool:
    """The kubelet could not give it its devices (after a reboot, or while the device plugin was away): never started.

    Nothing starts such a pod again and nothing removes it; its owner has made another one.
    """
    status = pod.get("status", {})
    return bool(status.get("phase") == "Failed" and status.get("reason") == "UnexpectedAdmissionError")


def requests(pod: dict[str, Any], prefix: str) -> dict[str, dict[str, int]]:
    """The extended resources whose name starts with `prefix`, as {container: {resource: count}}; init ones included."""
    found: dict[str, dict[str, int]] = {}
    spec = pod.get("spec", {})
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        resources = container.get("resources") or {}
        # the API server sets the request of an extended resource to its limit
        amounts = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        wanted = {key: int(count) for key, count in sorted(amounts.items()) if key.startswith(prefix) and int(count)}
        if wanted:
            found[str(container["name"])] = wanted
    return found


def kubelet_uid(pod: dict[str, Any]) -> str:
    """The UID under which the kubelet knows the pod: of a static pod the API shows a mirror with another one."""
    annotations = pod["metadata"].get("annotations") or {}
    if "kubernetes.io/config.mirror" in annotations:
        return str(annotations.get("kubernetes.io/config.hash") or annotations["kubernetes.io/config.mirror"])
    return str(pod["metadata"]["uid"])


def describe(pod: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The public shape of a pod that may hold devices; `prefix` is that of the resources that count."""
    status = pod.get("status", {})
    return {
        "uid": str(pod["metadata"]["uid"]),
        "kubelet_uid": kubelet_uid(pod),
        "namespace": pod["metadata"].get("namespace", "default"),
        "name": pod["metadata"]["name"],
        "owner": controller(pod),
        "phase": status.get("phase", "Unknown"),
        "reason": status.get("reason"),
        "finished": is_finished(pod),
        "ending": is_ending(pod),
        "requests": requests(pod, prefix),
    }


def why_not_ready(pod: dict[str, Any], logs: Logs | None = None) -> str:
    """One sentence without a full stop: which pod, on which node, what it waits for, its last words.

    ``logs`` is asked for the log of a container that crashed; without it the status alone speaks.
    """
    node = pod.get("spec", {}).get("nodeName")
    where = f"pod {full_name(pod)}" + (f" on node {node}" if node else "")
    if is_ending(pod):
        return f"{where} is still ending"
    status = pod.get("status", {})
    reasons = [reason for reason in _container_reasons(pod, logs) if reason]
    if status.get("phase") == "Failed":
        told = ": ".join(str(part) for part in (status.get("reason"), status.get("message")) if part)
        reasons.insert(0, f"it failed ({told})" if told else "it failed")
    if not reasons:
        reasons = list(_condition_reasons(status)) or [f"its phase is {status.get('phase', 'unknown')}"]
    return f"{where} is not ready: " + "; ".join(reasons)


def _container_reasons(pod: dict[str, Any], logs: Logs | None) -> Iterator[str]:
    status = pod.get("status", {})
    for entry in status.get("initContainerStatuses") or []:
        ended = (entry.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode") == 0 or entry.get("ready"):
            continue
        yield _one_container(pod, entry, "init container", logs)
        return  # what comes after it has not started
    for entry in status.get("containerStatuses") or []:
        if not entry.get("ready"):
            yield _one_container(pod, entry, "container", logs)


def _one_container(pod: dict[str, Any], entry: dict[str, Any], kind: str, logs: Logs | None) -> str:
    name = str(entry["name"])
    state = entry.get("state") or {}
    waiting, ended = state.get("waiting"), state.get("terminated")
    before = (entry.get("lastState") or {}).get("terminated")
    if waiting:
        reason = str(waiting.get("reason") or "waiting")
        if reason in ("PodInitializing", "ContainerCreating") and not before:
            return f"{kind} {name} is being made ({reason})"
        text = f"{kind} {name} waits ({reason})"
        # the message of a back-off only repeats the pod's name and the delay
        if waiting.get("message") and not before:
            text += f": {_one_line(waiting['message'])}"
    elif ended:
        text = f"{kind} {name} {_end(ended)}"
    elif kind == "init container":
        text = f"{kind} {name} still runs"
    else:
        text = f"{kind} {name} runs but does not report ready"
    if waiting and before:
        text += f", it {_end(before)}"
    crashed = before or ended
    if crashed and crashed.get("exitCode") != 0 and not crashed.get("message") and logs is not None:
        metadata = pod["metadata"]
        lines = logs.last_log_lines(
            metadata.get("namespace", "default"), metadata["name"], name, previous=bool(before) and not ended
        )
        if lines:
            text += ", its last words: " + " | ".join(lines)
    return text


def _end(ended: dict[str, Any]) -> str:
    text = f"ended with exit code {ended.get('exitCode')}"
    if ended.get("reason") and ended["reason"] not in ("Error", "Completed"):
        text += f" ({ended['reason']})"
    if ended.get("message"):
        text += f": {_one_line(ended['message'])}"
    return text


def _condition_reasons(status: dict[str, Any]) -> Iterator[str]:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield f"no node takes it ({condition.get('message') or condition.get('reason')})"
            return
    for condition in status.get("conditions") or []:
        if condition.get("status") == "False" and condition.get("message"):
            yield str(condition["message"])


def _one_line(text: object) -> str:
    return " | ".join(line.strip() for line in str(text).splitlines() if line.strip())[-600:]

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Whose a node is: our marks on it, and other controllers that partition its GPUs. Pure: API objects in, patches out.

Every change of a node is one merge patch, so that no crash can leave a cordon without the mark that says whose it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _pods

PREFIX = "gpufleet.io/"
RUN = "gpufleet.io/run"
# So begins the run of a node that its own host holds over a boot, and gives back by itself.
BOOT = "boot-"
WAS_SCHEDULABLE = "gpufleet.io/was-schedulable"
PHASE = "gpufleet.io/phase"
TARGET = "gpufleet.io/target"
REASON = "gpufleet.io/reason"
# What stood when a change began. A later run keeps it where a run before was stopped in the middle.
BEFORE = "gpufleet.io/before"
ANNOTATIONS = (RUN, WAS_SCHEDULABLE, PHASE, TARGET, REASON, BEFORE)
# These stay: what we made last, and what stood before it.
LAYOUT = "gpufleet.io/layout"
PREVIOUS = "gpufleet.io/previous"
KEPT_BYTES = 64 * 1024
"""All annotations of an object together may have 256 KiB; the layout of 8 GPUs with 7 instances each takes 2 KiB."""
STATE_LABEL = "gpufleet.io/mig-state"
# Of a node that is left as it is.
SKIP_LABEL = "gpufleet.io/skip"
FAILED = "failed"
# Keeps DaemonSet pods away: their controller ignores a cordon, but not a taint that they do not tolerate.
TAINT = "gpufleet.io/mig-change"

Patch = dict[str, Any]


@dataclass(frozen=True)
class Mark:
    """What a run of ours wrote on a node; ``run`` None: nothing of ours is there."""

    run: str | None
    was_schedulable: bool
    schedulable: bool
    phase: str | None
    target: str | None
    failed: bool


def read(node: Mapping[str, Any]) -> Mark:
    """Our marks and the cordon. A node without our mark was found as it is now."""
    annotations = node["metadata"].get("annotations") or {}
    schedulable = not node.get("spec", {}).get("unschedulable", False)
    run = annotations.get(RUN) if WAS_SCHEDULABLE in annotations else None
    return Mark(
        run=run,
        was_schedulable=annotations.get(WAS_SCHEDULABLE) == "true" if run is not None else schedulable,
        schedulable=schedulable,
        phase=annotations.get(PHASE),
        target=annotations.get(TARGET),
        failed=(node["metadata"].get("labels") or {}).get(STATE_LABEL) == FAILED,
    )


def skipped(node: Mapping[str, Any]) -> str | None:
    """The label that keeps us off a node; None where there is none."""
    value = (node["metadata"].get("labels") or {}).get(SKIP_LABEL)
    if value is None or value == "false":
        return None
    return f"node {node['metadata']['name']} carries the label {SKIP_LABEL}={value}"


def kept(layout: Mapping[str, Any] | None) -> str | None:
    """A layout as an annotation; None where there is none or it is too long to be kept on a node."""
    text = None if layout is None else json.dumps(layout, separators=(",", ":"), sort_keys=True)
    return None if text is None or len(text.encode()) > KEPT_BYTES else text


def layouts(node: Mapping[str, Any]) -> dict[str, dict[str, Any] | None]:
    """What we made last on the node (``made``) and what stood before it (``previous``)."""
    annotations = node["metadata"].get("annotations") or {}
    return {"made": _layout(annotations.get(LAYOUT)), "previous": _layout(annotations.get(PREVIOUS))}


def begun(node: Mapping[str, Any]) -> dict[str, Any] | None:
    """What stood when a change began that did not end."""
    return _layout((node["metadata"].get("annotations") or {}).get(BEFORE))


def _layout(text: str | None) -> dict[str, Any] | None:
    """None also where somebody else wrote something there."""
    try:
        found = json.loads(text or "null")
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("layout"), list) else None


def cordon(node: Mapping[str, Any], run: str, phase: str | None = None, target: str | None = None) -> Patch:
    """Make the node ours and unschedulable.

    A cordon of a run before (crashed) is taken over with what it remembers of the node. Where somebody has made the
    node schedulable since, that is how it was found.
    """
    mark = read(node)
    was = True if mark.schedulable else mark.was_schedulable
    annotations = {RUN: run, WAS_SCHEDULABLE: "true" if was else "false", **_given(phase, target)}
    return _differing(node, {"spec": {"unschedulable": True}, "metadata": {"annotations": annotations}})


def mark(
    node: Mapping[str, Any],
    phase: str | None,
    target: str | None,
    before: Mapping[str, Any] | None = None,
    *,
    untaint: bool,
) -> Patch:
    """Phase, target digest and what stood before; with ``untaint`` DaemonSet pods may come back."""
    spec = _untainted(node) if untaint else {}
    annotations = _given(phase, target)
    stood = kept(before)
    if stood is not None and BEFORE not in (node["metadata"].get("annotations") or {}):
        annotations[BEFORE] = stood
    return _differing(node, {"spec": spec, "metadata": {"annotations": annotations}})


def taint(node: Mapping[str, Any]) -> Patch:
    """Keep new DaemonSet pods off the node until mark(), restore() or fail()."""
    taints = list(node.get("spec", {}).get("taints") or [])
    if any(each.get("key") == TAINT for each in taints):
        return {}
    return {"spec": {"taints": [*taints, {"key": TAINT, "effect": "NoSchedule"}]}}


def restore(
    node: Mapping[str, Any],
    phase: str | None = None,
    target: str | None = None,
    made: Mapping[str, Any] | None = None,
    before: Mapping[str, Any] | None = None,
) -> Patch:
    """Leave the node as it was found; {} where nothing of ours is on it.

    Of our marks only a phase and target that are given here stay, or those that an earlier restore() left. With `made`
    the change succeeded: that is kept, and as previous what stood when it began, or else `before`.
    """
    found = read(node)
    annotations: dict[str, str | None] = dict.fromkeys(ANNOTATIONS if found.run is not None or found.failed else ())
    annotations.update(_given(phase, target))
    if made is not None:
        previous = (node["metadata"].get("annotations") or {}).get(BEFORE) or kept(before)
        # A layout that is too long leaves none behind: an older one would be wrong.
        annotations[LAYOUT] = kept(made)
        if previous is not None or before is not None:
            annotations[PREVIOUS] = previous
    spec = _untainted(node)
    if found.run is not None and found.was_schedulable:
        spec["unschedulable"] = None
    return _differing(node, {"spec": spec, "metadata": {"annotations": annotations, "labels": {STATE_LABEL: None}}})


def fail(node: Mapping[str, Any], run: str, reason: str, target: str | None = None) -> Patch:
    """Keep pods off a node whose change failed, and say so on it."""
    patch = cordon(node, run, FAILED, target)
    return merged(
        patch,
        _differing(
            node,
            {
                "spec": _untainted(node),
                "metadata": {"annotations": {REASON: reason}, "labels": {STATE_LABEL: FAILED}},
            },
        ),
    )


def not_ours(node: Mapping[str, Any] | None, name: str, run: str) -> str | None:
    """Why a run must not go on with a node that it cordoned; None where all is as it left it."""
    if node is None:
        return f"Node {name} is not in the cluster any more"
    found = read(node)
    if found.run is None:
        return f"Node {name} does not carry the mark of run {run} any more (was it made anew?)"
    if found.run != run:
        return f"Node {name} was taken over by run {found.run}"
    if found.schedulable:
        return f"Node {name} was made schedulable by somebody else while run {run} was at work on it"
    return None


def in_the_middle(nodes: Iterable[Mapping[str, Any]], run: str) -> dict[str, str]:
    """Nodes that another roll-out than ``run`` took and neither gave back nor marked as failed: {node: its run}."""
    marks = {str(node["metadata"]["name"]): read(node) for node in nodes}
    return {
        name: mark.run
        for name, mark in marks.items()
        if mark.run is not None and mark.run != run and not mark.failed and not mark.run.startswith(BOOT)
    }


def _given(phase: str | None, target: str | None) -> dict[str, str | None]:
    """An empty string takes the annotation away."""
    return {key: value or None for key, value in ((PHASE, phase), (TARGET, target)) if value is not None}


def _untainted(node: Mapping[str, Any]) -> dict[str, Any]:
    taints = node.get("spec", {}).get("taints") or []
    kept = [each for each in taints if each.get("key") != TAINT]
    return {} if len(kept) == len(taints) else {"taints": kept or None}


def _differing(current: Mapping[str, Any], patch: Mapping[str, Any]) -> Patch:
    """The part of a merge patch that would change the object; {} where none would."""
    kept: Patch = {}
    for key, value in patch.items():
        if isinstance(value, Mapping):
            inner = _differing(current.get(key) or {}, value)
            if inner:
                kept[key] = inner
        elif current.get(key) != value:
            kept[key] = value
    return kept


def merged(one: Patch, two: Mapping[str, Any]) -> Patch:
    """Two merge patches as one; the second wins."""
    result = dict(one)
    for key, value in two.items():
        result[key] = merged(result.get(key) or {}, value) if isinstance(value, Mapping) else value
    return result


def facets(node: Mapping[str, Any], patch: Mapping[str, Any] | None = None) -> list[str]:
    """The lines of a diff: what is ours to change on a node, as it is or as it will be after ``patch``."""
    patch = patch or {}
    spec = {**node.get("spec", {}), **patch.get("spec", {})}
    changed = patch.get("metadata", {})
    lines = [f"unschedulable: {str(bool(spec.get('unschedulable'))).lower()}"]
    for word in ("annotations", "labels"):
        values = {**(node["metadata"].get(word) or {}), **changed.get(word, {})}
        shown = {key for key in values if key.startswith(PREFIX)} | set(changed.get(word, {}))
        lines += [f"{word[:-1]} {key}: {values[key]}" for key in sorted(shown) if values[key] is not None]
    lines += [f"taint {each['key']}" for each in spec.get("taints") or [] if each.get("key") == TAINT]
    return lines


# other controllers

MIG_MANAGER = "nvidia.com/gpu.deploy.mig-manager"
MIG_CONFIG_STATE = "nvidia.com/mig.config.state"
DRA_NODES = "nvidia.com/dra-kubelet-plugin"
NOS = "nos.nebuly.com/gpu-partitioning"
# labels of the DRA driver's pods: charts from 2026 on, and before
DRA_COMPONENTS = ("dra-driver-nvidia-gpu-component", "nvidia-dra-driver-gpu-component")


@dataclass(frozen=True)
class Manager:
    """Another controller that would undo or disturb our partitioning.

    ``off`` are the node labels that switch it off on this node; ``obstacle`` says why that is not possible; ``pods``
    are the uids that must then go.
    """

    name: str
    sign: str
    off: Mapping[str, str | None]
    pods: tuple[str, ...]
    obstacle: str | None


def managers(node: Mapping[str, Any], pods: Iterable[dict[str, Any]]) -> list[Manager]:
    """Who else manages this node's GPUs. ``pods``: all pods of the node."""
    pods = [pod for pod in pods if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")]
    labels = node["metadata"].get("labels") or {}
    found = []
    agents = [pod for pod in pods if _is_mig_manager(pod)]
    if agents:
        state = labels.get(MIG_CONFIG_STATE)
        busy = None
        if state in ("pending", "rebooting"):
            busy = f"it is in the middle of a change ({MIG_CONFIG_STATE}={state}); let it end first"
        # GPU operator keeps a "false" that somebody else set: it only adds the label where it is missing.
        found.append(_manager("GPU operator's mig-manager", agents, MIG_MANAGER, "false", busy))
    drivers = [pod for pod in pods if _is_dra_driver(pod)]
    if drivers:
        found.append(_manager("NVIDIA's DRA driver", drivers, DRA_NODES, "false", None))
    if NOS in labels:
        own = [pod for pod in pods if NOS in (pod.get("spec", {}).get("nodeSelector") or {})]
        found.append(
            Manager(
                "nos", f"label {NOS}={labels[NOS]}", {NOS: None}, tuple(str(p["metadata"]["uid"]) for p in own), None
            )
        )
    return found


def _manager(name: str, pods: list[dict[str, Any]], key: str, value: str, busy: str | None) -> Manager:
    fixed = [pod for pod in pods if key not in (pod.get("spec", {}).get("nodeSelector") or {})]
    obstacle = busy
    if fixed and not busy:
        obstacle = f"pod {_pods.full_name(fixed[0])} is not selected by the node label {key}; keep it off by hand"
    return Manager(
        name,
        "pod " + ", ".join(_pods.full_name(pod) for pod in pods),
        {key: value},
        tuple(str(pod["metadata"]["uid"]) for pod in pods),
        obstacle,
    )


def _is_mig_manager(pod: Mapping[str, Any]) -> bool:
    labels = pod["metadata"].get("labels") or {}
    names = {container.get("name") for container in pod.get("spec", {}).get("containers") or []}
    return labels.get("app") == "nvidia-mig-manager" or "nvidia-mig-manager" in names


def _is_dra_driver(pod: Mapping[str, Any]) -> bool:
    """The part that hands out GPUs and removes MIG devices that it did not make; compute domains alone do no harm."""
    labels = pod["metadata"].get("labels") or {}
    names = {container.get("name") for container in pod.get("spec", {}).get("containers") or []}
    return any(labels.get(key) == "kubelet-plugin" for key in DRA_COMPONENTS) and "gpus" in names


def switch_off(node: Mapping[str, Any], found: Iterable[Manager]) -> Patch:
    """Set the labels that keep them off this node; {} where they are set."""
    labels = {key: value for each in found for key, value in each.off.items()}
    return _differing(node, {"metadata": {"labels": labels}})


def refusal(name: str, found: Iterable[Manager]) -> str:
    """The sentence for a node that somebody else manages."""
    signs = "; ".join(f"{each.name} ({each.sign})" for each in found)
    return (
        f"Node {name} is managed by {signs}. Nothing was changed on it: switch that off for this node, or give "
        "takeover: true (mig_takeover) to have it switched off."
    )

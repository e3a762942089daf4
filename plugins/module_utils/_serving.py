# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Groups of Triton replicas on partitions: how many fit where, and what would fail, before anything is deployed. Pure.

Nodes are what node_gpu_info returns with ``pods``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._triton_model import BUILT_IN, Model, read_model

_NOMINAL = re.compile(r"nvidia\.com/mig-(?:\d+c\.)?\d+g\.(\d+)gb")


@dataclass(frozen=True)
class Image:
    """What is deployed: the image's name, for messages, and the backends in it."""

    name: str
    backends: tuple[str, ...]


@dataclass(frozen=True)
class Ours:
    """How pods of this release are told: they make room for themselves when they are replaced."""

    namespace: str
    release: str

    def owns(self, pod: Mapping[str, Any]) -> bool:
        owner = pod.get("owner") or {}
        return (
            pod["namespace"] == self.namespace
            and owner.get("kind") == "ReplicaSet"
            and str(owner.get("name")).startswith(f"{self.release}-")
        )


@dataclass
class Plan:
    """The groups with their replicas, and one sentence per thing that would fail."""

    groups: list[dict[str, Any]]
    problems: list[str]

    def chart_groups(self) -> list[dict[str, Any]]:
        """`groups` as the role's chart takes them."""
        kept = ("name", "resource", "count", "replicas", "nodes", "models", "autoscaling")
        found = [{key: group[key] for key in kept if group.get(key)} for group in self.groups]
        return [{**ours, **(group.get("values") or {})} for ours, group in zip(found, self.groups)]


def plan_serving(
    groups: Iterable[Mapping[str, Any]],
    models: Mapping[str, Mapping[str, Any]] | None,
    image: Image,
    nodes: Mapping[str, Mapping[str, Any]],
    ours: Ours,
) -> Plan:
    """``models`` is what triton_models_info returns; None: the repository cannot be seen from here."""
    wanted = [dict(group) for group in groups]
    known = None if models is None else {name: _model(name, found) for name, found in models.items()}
    problems = [] if wanted else ["no group is wanted: triton_groups is empty"]
    names = [str(group["name"]) for group in wanted]
    problems += [f"two groups are called {name}" for name in sorted({each for each in names if names.count(each) > 1})]
    served: dict[str, None] = {}
    for group in wanted:
        if known is not None:
            problems += _unknown_models(group, known)
            mine = [known[name] for name in group.get("models") or sorted(known) if name in known]
            served.update(dict.fromkeys(model.name for model in mine))
            problems += [sentence for model in mine for sentence in _gpu_problems(group, model)]
            problems += _missing_steps(group, mine)
    for name in served:
        problems += [*(known or {})[name].problems, *_backend_problems((known or {})[name], image)]
    problems += _place(wanted, nodes, ours)
    return Plan(wanted, list(dict.fromkeys(problems)))


def _model(name: str, found: Mapping[str, Any]) -> Model:
    return read_model(name, found.get("config"), found.get("versions") or (), found.get("files") or ())


def _unknown_models(group: Mapping[str, Any], known: Mapping[str, Model]) -> list[str]:
    if not known:
        return [f"group {group['name']}: the model repository holds no model"]
    return [
        f"group {group['name']}: the repository has no model {name}, it has {', '.join(sorted(known))}"
        for name in group.get("models") or []
        if name not in known
    ]


def _backend_problems(model: Model, image: Image) -> list[str]:
    if model.backend is None or model.backend in (*image.backends, *BUILT_IN):
        return []
    return [
        f"model {model.name} needs the backend {model.backend}, which {image.name} does not have: it has "
        f"{', '.join(image.backends)} (triton_backends)"
    ]


def _missing_steps(group: Mapping[str, Any], models: Iterable[Model]) -> list[str]:
    """An ensemble runs its steps in its own server."""
    models = list(models)
    there = {model.name for model in models}
    return [
        f"group {group['name']}: ensemble {model.name} calls model {step}, which the group does not serve"
        for model in models
        for step in model.steps
        if step not in there
    ]


def _gpu_problems(group: Mapping[str, Any], model: Model) -> list[str]:
    count = int(group.get("count") or 1)
    beyond = [index for index in model.gpus if index >= count]
    if not beyond:
        return []
    seen = f"GPU 0 to {count - 1}" if count > 1 else "GPU 0 only"
    return [
        f"model {model.name}: instance_group names GPU {', '.join(map(str, beyond))}, but a replica of group "
        f"{group['name']} ({group['resource']}: {count}) sees {seen}: leave gpus out, or choose another resource"
    ]


def _place(groups: list[dict[str, Any]], nodes: Mapping[str, Mapping[str, Any]], ours: Ours) -> list[str]:
    """Give each group its replicas; those with the fewest nodes choose first, those that fill come last."""
    problems: list[str] = []
    free: dict[tuple[str, str], int] = {}
    for name, node in nodes.items():
        for resource, count in (node.get("allocatable") or {}).items():
            free[name, resource] = int(count) - _held(node, resource, ours)
    order = sorted(groups, key=lambda group: (bool(group.get("fill")), len(_candidates(group, nodes))))
    for group in order:
        unknown = [name for name in group.get("nodes") or [] if not (nodes.get(name) or {}).get("exists")]
        problems += [f"group {group['name']}: node {name} is none of this run's hosts" for name in unknown]
        candidates = _candidates(group, nodes)
        if not candidates:
            problems += [] if unknown else [_nowhere(group, nodes)]
            continue
        problems += _too_small(group, candidates, nodes)
        problems += _too_many(group, candidates, nodes)
        problems += _take(group, candidates, free)
    return problems


def _candidates(group: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Nodes that offer the resource and take pods."""
    chosen = group.get("nodes") or list(nodes)
    return [
        name
        for name in chosen
        if (node := nodes.get(name)) is not None
        and node.get("ready")
        and node.get("schedulable")
        and int((node.get("allocatable") or {}).get(str(group["resource"]), 0)) > 0
    ]


def _held(node: Mapping[str, Any], resource: str, ours: Ours) -> int:
    return sum(
        int(wanted.get(resource, 0))
        for pod in node.get("pods") or []
        if not pod["finished"] and not ours.owns(pod)
        for wanted in pod["requests"].values()
    )


def _take(group: dict[str, Any], candidates: list[str], free: dict[tuple[str, str], int]) -> list[str]:
    resource, count = str(group["resource"]), int(group.get("count") or 1)
    room = {name: max(0, free[name, resource]) // count for name in candidates}
    fits = sum(room.values())
    ceiling = dict(group.get("autoscaling") or {}).get("max")
    wanted = fits if group.get("fill") else int(ceiling or group.get("replicas") or 1)
    for name in sorted(room, key=lambda name: (-room[name], name)):
        taken = min(room[name], wanted)
        free[name, resource] -= taken * count
        wanted -= taken
    if group.get("fill"):
        group["replicas"] = fits
    where = f"on {', '.join(candidates)}"
    if fits == 0:
        return [f"group {group['name']}: no {resource} is free {where}, other pods or groups hold them all"]
    if wanted > 0:
        asked = fits + wanted
        each = f", {count} for each" if count > 1 else ""
        return [f"group {group['name']} wants {asked} replicas{each}, but {resource} is free for {fits} {where}"]
    return []


def _nowhere(group: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> str:
    """Nobody offers it: say what is offered instead, or which node that does takes no pods."""
    chosen = [name for name in group.get("nodes") or nodes if name in nodes]
    resource = str(group["resource"])
    closed = [name for name in chosen if int((nodes[name].get("allocatable") or {}).get(resource, 0)) > 0]
    if closed:
        return f"group {group['name']}: {resource} is only on {', '.join(closed)}, not Ready or cordoned"
    offered = []
    for name in chosen:
        keys = sorted(key for key, count in (nodes[name].get("allocatable") or {}).items() if int(count))
        offered.append(f"{name} has {', '.join(keys) or 'none'}")
    return f"group {group['name']}: no node offers {resource}: {'; '.join(offered) or 'there are no nodes'}"


def _memory(node: Mapping[str, Any], resource: str) -> int | None:
    """MiB of one device: the label of feature discovery, else what the profile's name promises at most."""
    label = (node.get("labels") or {}).get(f"{resource}.memory")
    if label is not None and str(label).isdigit():
        return int(label)
    nominal = _NOMINAL.match(resource)
    return int(nominal[1]) * 1024 if nominal else None


def _too_small(group: Mapping[str, Any], candidates: list[str], nodes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    needed, resource, count = int(group.get("memory_mib") or 0), str(group["resource"]), int(group.get("count") or 1)
    if not needed:
        return []
    memory = {name: _memory(nodes[name], resource) for name in candidates}
    fits = [name for name, each in memory.items() if each is None or each * count >= needed]
    hint = f"name its nodes: [{', '.join(fits)}]" if fits else "choose a larger partition"
    return [
        f"group {group['name']} needs {needed} MiB for a replica, but {resource} of node {name} has {each} MiB: {hint}"
        for name, each in memory.items()
        if each is not None and each * count < needed
    ]


def _too_many(group: Mapping[str, Any], candidates: list[str], nodes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """CUDA uses one MIG instance in a process (NVIDIA's MIG user guide, CUDA device enumeration)."""
    resource, count = str(group["resource"]), int(group.get("count") or 1)
    cut = resource.startswith("nvidia.com/mig-") or any(
        "-MIG-" in str((nodes[name].get("labels") or {}).get("nvidia.com/gpu.product", "")) for name in candidates
    )
    if count == 1 or not cut:
        return []
    return [
        f"group {group['name']} asks for {count} x {resource} in a replica, but a process can use one MIG instance "
        "only: set count to 1 and raise replicas"
    ]

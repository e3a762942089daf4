# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of one GPU in the public shape: what a transition means for the GPU that NVML describes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import (
    ComputeProfile,
    describe,
    facts_profiles,
    product_of,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._transition import Placed, Transition

Gpu = dict[str, Any]

WAYS = ("reset", "reboot", "set_back")
"""How a GPU may get its mode: a reset, a reboot where there is no reset, and undoing a mode that is only pending."""


@dataclass(frozen=True)
class GpuPlan:
    """The plan of one GPU, the GPU as it will be, and how much is disturbed.

    `cost` is compared from the left: cannot be done; busy instances, GPU instances, compute instances destroyed; resets
    (a reboot counts as two); mode changes; GPU instances, compute instances created.
    """

    public: dict[str, Any]
    after: Gpu
    cost: tuple[int, ...]

    @property
    def changes(self) -> bool:
        return any(self.cost[1:])


def kept(gpu: Gpu) -> GpuPlan:
    """The GPU as it stands: nothing is touched, a pending mode neither."""
    public = _frame(gpu, gpu["mig_mode"]["current"])
    public["mode"]["set"] = False
    public["keep"] = [
        {
            **_instance_there(instance),
            "compute": {"keep": [_ci_there(ci) for ci in instance["compute_instances"]], "destroy": [], "create": []},
        }
        for instance in sorted(gpu["instances"], key=lambda instance: int(instance["start"]))
    ]
    return GpuPlan(public, gpu, (0,) * 8)


def refused(gpu: Gpu, reason: str) -> GpuPlan:
    """The GPU as it stands, because what is wanted of it cannot be."""
    return GpuPlan({**kept(gpu).public, "feasible": False, "reason": reason}, gpu, (1, *(0,) * 7))


def dressed(gpu: Gpu, mode: str, found: Transition, allow: Collection[str] = WAYS) -> GpuPlan:
    """A transition as the public plan. A mode change destroys every instance: `found` then keeps none."""
    instances = gpu["instances"]
    public = _frame(gpu, mode)
    if public["reset"] and "reset" not in allow:
        public["reset"], public["reboot"] = False, True
    set_back = public["mode"]["set"] and public["mode"]["from"] == mode
    if (public["reboot"] and "reboot" not in allow) or (set_back and "set_back" not in allow):
        return refused(gpu, _no_way(gpu, mode))
    after = []
    for one in found.placed:
        standing = None if one.standing is None else instances[one.standing]
        if standing is None:
            public["create"].append(_created(one))
        else:
            public["keep"].append(_stays(one, standing))
        after.append(_instance_after(one, standing))
    gone = sorted((instances[number] for number in found.destroy), key=lambda instance: int(instance["start"]))
    public["destroy"] = [{**_instance_there(instance), "busy": is_busy(instance)} for instance in gone]
    hurt = [
        (instances[one.standing], number)
        for one in found.placed
        if one.standing is not None
        for number in one.compute.destroy
        if _is_busy_ci(instances[one.standing], number)
    ]
    public["blockers"] = _blockers(gpu, gone, hurt, switched=public["mode"]["from"] != mode)
    cost = (
        0,
        sum(instance["busy"] for instance in public["destroy"])
        + len({instance["start"] for instance, _number in hurt}),
        len(gone),
        sum(len(instance["compute_instances"]) for instance in gone)
        + sum(len(one["compute"]["destroy"]) for one in public["keep"]),
        int(public["reset"]) + 2 * int(public["reboot"]),
        int(public["mode"]["set"]),
        len(public["create"]),
        sum(len(one["compute"]["create"]) for one in public["keep"]),
    )
    changed = {**gpu, "mig_mode": {"current": mode, "pending": mode}, "instances": after}
    product = product_of(gpu)
    if mode == "enabled" and not gpu.get("profiles") and product is not None:
        changed["profiles"] = facts_profiles(product)
    return GpuPlan(public, changed, cost)


def _no_way(gpu: Gpu, mode: str) -> str:
    current, pending = gpu["mig_mode"]["current"], gpu["mig_mode"]["pending"]
    now = f"{describe(gpu)}: MIG is {current}" + (f" and {pending} is pending" if pending != current else "")
    if current == mode:
        return f"{now}; setting it back to {mode} is not allowed: allow that, or want mig: {pending}."
    return (
        f"{now}; to have it {mode} takes a reset or a reboot, and neither is allowed: "
        f"allow one of them, or want mig: {current}."
    )


def _frame(gpu: Gpu, mode: str) -> dict[str, Any]:
    """`set` says that the mode is to be set: it differs, or another one is pending. An Ampere GPU resets with it."""
    current, pending = gpu["mig_mode"]["current"], gpu["mig_mode"]["pending"]
    switched = current != mode
    return {
        "index": gpu["index"],
        "uuid": gpu.get("uuid"),
        "mode": {"from": current, "to": mode, "pending": pending, "set": switched or pending != mode},
        "reset": switched and not gpu.get("resetless_mode_change"),
        "reboot": False,
        "keep": [],
        "destroy": [],
        "create": [],
        "blockers": [],
        "feasible": True,
        "reason": None,
    }


def is_busy(instance: Mapping[str, Any]) -> bool:
    """Whether a process holds the GPU instance: NVML says so, or one is known on a compute instance in it."""
    return bool(instance.get("busy")) or any(ci.get("processes") for ci in instance["compute_instances"])


def _is_busy_ci(instance: Mapping[str, Any], number: int) -> bool:
    """Whether a compute instance is or may be the busy one: a process may be known on the GPU instance only."""
    known = any(ci.get("processes") for ci in instance["compute_instances"])
    return bool(instance["compute_instances"][number].get("processes")) if known else is_busy(instance)


def _instance_there(instance: Mapping[str, Any]) -> dict[str, Any]:
    return {key: instance.get(key) for key in ("profile", "start", "size", "gi_id")}


def _ci_there(ci: Mapping[str, Any]) -> dict[str, Any]:
    return {key: ci.get(key) for key in ("profile", "start", "size", "ci_id")}


def _ci_made(ci: tuple[ComputeProfile, int]) -> dict[str, Any]:
    return {"profile": ci[0].name, "profile_id": ci[0].id, "start": ci[1], "size": ci[0].slices}


def _stays(one: Placed, instance: Mapping[str, Any]) -> dict[str, Any]:
    there = instance["compute_instances"]
    return {
        **_instance_there(instance),
        "profile": one.profile.name,
        "compute": {
            "keep": [_ci_there(there[number]) for number in one.compute.keep],
            "destroy": [_ci_there(there[number]) for number in one.compute.destroy],
            "create": [_ci_made(ci) for ci in one.compute.create],
        },
    }


def _created(one: Placed) -> dict[str, Any]:
    return {
        "profile": one.profile.name,
        "profile_id": one.profile.id,
        "start": one.start,
        "size": one.size,
        "compute_instances": [_ci_made(ci) for ci in one.compute.create],
    }


def _instance_after(one: Placed, standing: Mapping[str, Any] | None) -> dict[str, Any]:
    compute: list[dict[str, Any]] = [
        {
            "profile": ci.name,
            "ci_id": None,
            "uuid": None,
            "start": start,
            "size": ci.slices,
            "multiprocessors": ci.multiprocessors,
            "processes": [],
        }
        for ci, start in one.compute.create
    ]
    if standing is None:
        base = {"profile": one.profile.name, "start": one.start, "size": one.size, "gi_id": None, "busy": False}
        return {**base, "compute_instances": compute}
    compute += [standing["compute_instances"][number] for number in one.compute.keep]
    busy = is_busy(standing) and not any(_is_busy_ci(standing, number) for number in one.compute.destroy)
    compute.sort(key=lambda ci: int(ci["start"]))
    return {**standing, "profile": one.profile.name, "busy": busy, "compute_instances": compute}


def _blockers(
    gpu: Gpu, gone: list[dict[str, Any]], hurt: list[tuple[dict[str, Any], int]], *, switched: bool
) -> list[dict[str, Any]]:
    """The processes that would lose their instance, and at a mode change those on the whole GPU."""
    victims = [(instance, ci) for instance in gone for ci in instance["compute_instances"]]
    victims += [(instance, instance["compute_instances"][number]) for instance, number in hurt]
    blockers = [
        _blocker(process, f"{instance['profile']} at {instance['start']} of GPU {gpu['index']}")
        for instance, ci in victims
        for process in ci.get("processes") or ()
    ]
    for instance in [*gone, *(instance for instance, _number in hurt)]:
        if is_busy(instance) and not any(ci.get("processes") for ci in instance["compute_instances"]):
            blockers.append(_blocker({}, f"{instance['profile']} at {instance['start']} of GPU {gpu['index']}"))
    if switched:
        blockers += [_blocker(process, f"GPU {gpu['index']}") for process in gpu.get("processes") or ()]
    return blockers


def _blocker(process: Mapping[str, Any], instance: str) -> dict[str, Any]:
    name, pid = process.get("name"), process.get("pid")
    who = f"process {pid} ({name or 'name unknown'})" if pid is not None else "whatever uses it (NVML names no process)"
    return {
        "kind": "process",
        "name": name,
        "pid": pid,
        "instance": instance,
        "remedy": f"stop {who} on {instance}, or move the pod that it runs in to another node",
    }

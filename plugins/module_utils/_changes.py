# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan in other forms: what stands after it, what is done one by one, a diff to read, and why it may not be applied.

Pure: no I/O, no Ansible, no NVML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import board_of, describe

Gpu = dict[str, Any]
Place = tuple[str, int, int]


def place(instance: Mapping[str, Any]) -> Place:
    """What makes two instances, GPU or compute, the same one."""
    return str(instance["profile"]), int(instance["start"]), int(instance["size"])


def shape(gpu: Gpu) -> tuple[Any, ...]:
    """All that a layout can say of a GPU: mode, and profile and place of everything on it. No UUIDs, ids, processes."""
    instances = sorted(
        (place(instance), tuple(sorted(place(ci) for ci in instance["compute_instances"])))
        for instance in gpu["instances"]
    )
    return gpu["mig_mode"]["current"], gpu["mig_mode"]["pending"], tuple(instances)


def differing(before: Sequence[Gpu], after: Sequence[Gpu]) -> bool:
    """Whether any GPU is not as it was."""
    return [shape(gpu) for gpu in before] != [shape(gpu) for gpu in after]


def preview(before: Sequence[Gpu], plan: Mapping[str, Any]) -> list[Gpu]:
    """The GPUs as they will stand when the plan has been applied: a mode that waits for a reboot is pending then."""
    ordered = sorted(before, key=lambda gpu: int(gpu["index"]))
    return [
        waiting(gpu, after) if part["reboot"] else after
        for gpu, part, after in zip(ordered, plan["gpus"], plan["after"])
    ]


def waiting(gpu: Gpu, after: Gpu) -> Gpu:
    """A GPU whose wanted mode is only pending: its instances are gone, what is wanted cannot be made yet."""
    mode = {"current": gpu["mig_mode"]["current"], "pending": after["mig_mode"]["current"]}
    return {**gpu, "mig_mode": mode, "instances": []}


def instance_text(instance: Mapping[str, Any]) -> str:
    """3g.20gb@4, with what is inside where that is not one compute instance that fills it."""
    at = "?" if instance["start"] is None else instance["start"]
    inside = [str(ci["profile"]) for ci in instance["compute_instances"]]
    if inside == [instance["profile"]]:
        return f"{instance['profile']}@{at}"
    return f"{instance['profile']}@{at}[{', '.join(inside)}]"


def line(gpu: Gpu) -> str:
    """One GPU in one line: mode, and instances with their places."""
    current, pending = gpu["mig_mode"]["current"], gpu["mig_mode"]["pending"]
    mode = f"MIG {current}" + (f" ({pending} is pending)" if pending != current else "")
    here = " ".join(instance_text(instance) for instance in gpu["instances"])
    if current == "enabled":
        mode += f": {here or 'no instances'}"
    return f"{describe(gpu)}: {mode}"


def readable(gpus: Sequence[Gpu]) -> str:
    """All GPUs as text for a diff."""
    return "".join(f"{line(gpu)}\n" for gpu in gpus)


def actions(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps of a plan in their order on each GPU, as data."""
    steps: list[dict[str, Any]] = []
    for part in plan["gpus"] if plan["feasible"] else ():
        steps += [{"gpu": part["index"], **step} for step in _steps(part)]
    return steps


def _steps(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    for instance in part["keep"]:
        where = {"profile": instance["profile"], "start": instance["start"]}
        for ci in instance["compute"]["destroy"]:
            steps.append({"action": "destroy_compute_instance", **where, "compute_instance": ci["profile"]})
    for instance in part["destroy"]:
        steps.append({"action": "destroy", "profile": instance["profile"], "start": instance["start"]})
    if part["mode"]["set"]:
        steps.append({"action": "set_mode", "mode": part["mode"]["to"], "reset": part["reset"]})
    for instance in part["create"]:
        inside = [ci["profile"] for ci in instance["compute_instances"]]
        where = {"profile": instance["profile"], "start": instance["start"]}
        steps.append({"action": "create", **where, "compute_instances": inside})
    for instance in part["keep"]:
        where = {"profile": instance["profile"], "start": instance["start"]}
        for ci in instance["compute"]["create"]:
            steps.append({"action": "create_compute_instance", **where, "compute_instance": ci["profile"]})
    return steps


def differences(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence per planned GPU that is not as wanted: what there is too much, what is missing, which mode."""
    return [f"GPU {part['index']} {said}" for part in parts if (said := _differs(part))]


def _differs(part: Mapping[str, Any]) -> str:
    said, mode = [], part["mode"]
    if mode["set"]:
        pending = f" with {mode['pending']} pending" if mode["pending"] != mode["from"] else ""
        said.append(f"has MIG {mode['from']}{pending}, wanted is {mode['to']}")
    for verb, instances in (("has", part["destroy"]), ("lacks", part["create"])):
        if instances:
            said.append(f"{verb} {', '.join(_at(instance) for instance in instances)}")
    for instance in part["keep"]:
        for verb, inside in (("has", instance["compute"]["destroy"]), ("lacks", instance["compute"]["create"])):
            if inside:
                said.append(f"{verb} {', '.join(str(ci['profile']) for ci in inside)} in {_at(instance)}")
    return " and ".join(said)


def _at(instance: Mapping[str, Any]) -> str:
    return f"{instance['profile']}@{instance['start']}"


def refuse_unsafe(plan: Mapping[str, Any]) -> None:
    """MigError where a plan cannot be, or would take an instance from somebody who uses it."""
    if not plan["feasible"]:
        raise MigError(f"{plan['reason']} Nothing was changed.", plan=plan)
    blockers = [blocker for part in plan["gpus"] for blocker in part["blockers"]]
    if blockers:
        who = "; ".join(f"{_user(blocker)} uses {blocker['instance']}" for blocker in blockers)
        remedies = "; ".join(dict.fromkeys(blocker["remedy"] for blocker in blockers))
        raise MigError(
            f"What has to go is in use: {who}. Nothing was changed. To go on, {remedies}; then run this again.",
            plan=plan,
            blockers=blockers,
        )


def _user(blocker: Mapping[str, Any]) -> str:
    if blocker["pid"] is None:
        return "something that NVML does not name"
    return f"process {blocker['pid']} ({blocker['name'] or 'name unknown'})"


def in_words_of(gpu: Gpu, after: Gpu) -> Gpu:
    """`after` with the profile names of the table that `gpu` has now.

    Before MIG is on, an Ampere GPU hides its table, and the plan was made from the product facts. MigError where the
    two do not mean the same: nothing has been created then.
    """
    if not after["instances"]:
        return after
    board = board_of(gpu)
    renamed = []
    for instance in after["instances"]:
        profile = board.find(instance["profile"])
        if profile is None or profile.size != instance["size"] or instance["start"] not in profile.starts:
            raise MigError(
                f"{describe(gpu)}: now that MIG is on, NVML has no profile {instance['profile']} at "
                f"{instance['start']} of size {instance['size']}, as the product facts have it.",
                gpu=gpu["index"],
            )
        names = {ci.slices: ci.name for ci in profile.compute}
        inside = [{**ci, "profile": names.get(ci["size"], ci["profile"])} for ci in instance["compute_instances"]]
        renamed.append({**instance, "profile": profile.name, "compute_instances": inside})
    return {**after, "instances": renamed}

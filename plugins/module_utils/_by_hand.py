# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nvidia-smi commands that do by hand what the plan of one GPU says, in their order. Pure.

Options as NVIDIA's MIG user guide has them: -mig, and of `nvidia-smi mig` -cgi (PROFILE:START), -C, -cci, -dci, -dgi,
-gi, -ci, -lgi. GPU instances are always made at the planned place. nvidia-smi has no place for compute instances: where
an instance gets several, the driver chooses inside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._plan_words import places

UNKNOWN_ID = "ID"
"""Stands for the number of a GPU instance that only the driver gives, or that was not read."""


def by_hand(part: Mapping[str, Any], gpu: Mapping[str, Any]) -> list[dict[str, str]]:
    """[{command, note}] for one entry of a plan's `gpus` and the GPU as it stands; [] where nothing is to be done.

    `note` says in words what the command does, and where to read an ID.
    """
    if not part["feasible"]:
        return []
    smi = f"nvidia-smi mig -i {part['index']}"
    steps = [
        *_look_up(smi, part),
        *_inside_that_stay(smi, part),
        *_destroyed(smi, part, gpu),
        *_mode(part),
        *_created(smi, part),
    ]
    for instance in part["keep"]:
        steps += _compute(smi, _id(instance), _where(instance), instance["compute"]["create"])
    return steps


def _look_up(smi: str, part: Mapping[str, Any]) -> list[dict[str, str]]:
    """How to find the IDs of instances that are touched one by one and were not read."""
    named = [one for one in part["keep"] if one["compute"]["destroy"] or one["compute"]["create"]]
    named += part["destroy"] if part["keep"] else []
    unknown = any(one.get("gi_id") is None for one in named)
    inside = any(ci.get("ci_id") is None for one in part["keep"] for ci in one["compute"]["destroy"])
    steps = [_step(f"{smi} -lgi", "shows the ID of each GPU instance beside its place")] if unknown else []
    return [*steps, _step(f"{smi} -lci", "shows those of the compute instances")] if inside else steps


def _step(command: str, note: str) -> dict[str, str]:
    return {"command": command, "note": note}


def _id(instance: Mapping[str, Any]) -> str:
    return UNKNOWN_ID if instance.get("gi_id") is None else str(instance["gi_id"])


def _where(instance: Mapping[str, Any]) -> str:
    return f"{instance['profile']} at {instance['start']}"


def _inside_that_stay(smi: str, part: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        _step(
            f"{smi} -dci -gi {_id(instance)} -ci {UNKNOWN_ID if ci.get('ci_id') is None else ci['ci_id']}",
            f"destroy {ci['profile']} inside {_where(instance)}",
        )
        for instance in part["keep"]
        for ci in instance["compute"]["destroy"]
    ]


def _destroyed(smi: str, part: Mapping[str, Any], gpu: Mapping[str, Any]) -> list[dict[str, str]]:
    """Compute instances first: a GPU instance with one in it is in use."""
    inside = {(one["profile"], one["start"]): one["compute_instances"] for one in gpu["instances"]}
    full = [one for one in part["destroy"] if inside.get((one["profile"], one["start"]))]
    if not part["keep"] and len(part["destroy"]) > 1:
        emptied = [_step(f"{smi} -dci", "destroy all compute instances")] if full else []
        return [*emptied, _step(f"{smi} -dgi", f"destroy all GPU instances: {places(part['destroy'])}")]
    steps = []
    for instance in part["destroy"]:
        if instance in full:
            steps.append(_step(f"{smi} -dci -gi {_id(instance)}", f"empty {_where(instance)}"))
        steps.append(_step(f"{smi} -dgi -gi {_id(instance)}", f"destroy {_where(instance)}"))
    return steps


def _mode(part: Mapping[str, Any]) -> list[dict[str, str]]:
    if not part["mode"]["set"]:
        return []
    wanted, effect = part["mode"]["to"], "no reset"
    if part["reset"]:
        effect = "the driver resets the GPU, nothing may use it"
    if part["reboot"]:
        effect = "pending until the reboot"
    steps = [_step(f"nvidia-smi -i {part['index']} -mig {int(wanted == 'enabled')}", f"MIG {wanted}; {effect}")]
    return [*steps, _step("reboot", "once for all GPUs of the host")] if part["reboot"] else steps


def _created(smi: str, part: Mapping[str, Any]) -> list[dict[str, str]]:
    """Instances that are filled by one compute instance come in one command, the others each with what is inside."""
    whole = [one for one in part["create"] if [ci["profile"] for ci in one["compute_instances"]] == [one["profile"]]]
    steps = []
    if whole:
        steps.append(_step(f"{smi} -cgi {','.join(map(_place, whole))} -C", f"create {places(whole)}"))
    for one in part["create"]:
        if one in whole:
            continue
        empty = "" if one["compute_instances"] else ", without compute instance"
        where = _where(one)
        steps.append(_step(f"{smi} -cgi {_place(one)}", f"create {where}{empty}"))
        steps += _compute(smi, UNKNOWN_ID, f"{where}; the command before prints its ID", one["compute_instances"])
    return steps


def _place(instance: Mapping[str, Any]) -> str:
    """PROFILE:START with the profile's id of this board, its name where no source gives the id."""
    identity = instance.get("profile_id")
    return f"{instance['profile'] if identity is None else identity}:{instance['start']}"


def _compute(smi: str, instance_id: str, where: str, wanted: list[Mapping[str, Any]]) -> list[dict[str, str]]:
    if not wanted:
        return []
    ids = ",".join(str(ci["profile"] if ci.get("profile_id") is None else ci["profile_id"]) for ci in wanted)
    said = ", ".join(str(ci["profile"]) for ci in wanted)
    return [_step(f"{smi} -cci {ids} -gi {instance_id}", f"create {said} inside {where}")]

# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands on a host as the layout that would leave it exactly so. Pure.

Each GPU's entry is proved with the planner itself: a GPU for which the entry would change anything (a pending mode, an
instance that the board's profile table does not know) is left out of the layout, and so stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError, MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host
from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import describe
from ansible_collections.gpufleet.mig.plugins.module_utils._selectors import is_mig_capable

Gpu = dict[str, Any]
Layout = list[dict[str, Any]]

STRATEGY_LABEL = "nvidia.com/mig.strategy"
STRATEGIES = ("none", "single", "mixed")


def adopted_layout(gpus: Sequence[Gpu]) -> Layout:
    """The layout, one entry for all GPUs that are alike; instances with their places.

    GPUs without MIG, and those of `left_out`, are not in it. MigError where the places of instances were not read.
    """
    groups: dict[str, tuple[dict[str, Any], list[int]]] = {}
    for gpu, says in adopted_entries(gpus):
        groups.setdefault(repr(says), (says, []))[1].append(int(gpu["index"]))
    return [{"gpus": _selector(indices), **says} for says, indices in groups.values()]


def adopted_entries(gpus: Sequence[Gpu]) -> list[tuple[Gpu, dict[str, Any]]]:
    """Each GPU of the layout with its entry, but for the selector."""
    return [(gpu, _says(gpu)) for gpu in _ordered(gpus) if is_mig_capable(gpu) and _why_not(gpu) is None]


def left_out(gpus: Sequence[Gpu]) -> list[str]:
    """One sentence per MIG-capable GPU that no layout can leave as it stands."""
    reasons = ((gpu, _why_not(gpu)) for gpu in _ordered(gpus) if is_mig_capable(gpu))
    return [f"{describe(gpu)} is left out, so that it stays as it is: {reason}" for gpu, reason in reasons if reason]


def adopted_vars(gpus: Sequence[Gpu], labels: dict[str, str] | None = None) -> dict[str, Any]:
    """The host's variables: mig_layout, mig_strategy where the node's labels say one, and mig_unlisted_gpus where a GPU
    is left out, because the inventory may say elsewhere that such GPUs are disabled or refused."""
    found: dict[str, Any] = {"mig_layout": adopted_layout(gpus)}
    strategy = (labels or {}).get(STRATEGY_LABEL)
    if strategy in STRATEGIES:
        found["mig_strategy"] = strategy
    if left_out(gpus):
        found["mig_unlisted_gpus"] = "keep"
    return found


def _ordered(gpus: Sequence[Gpu]) -> list[Gpu]:
    ordered = sorted(gpus, key=lambda gpu: int(gpu["index"]))
    for gpu in ordered:
        if any(instance["start"] is None for instance in gpu["instances"]):
            raise MigError(
                f"{describe(gpu)}: the places of its instances were not read, only root may read them (become: true). "
                "Nothing was written.",
                gpu=gpu["index"],
            )
    return ordered


def _says(gpu: Gpu) -> dict[str, Any]:
    """The entry of one GPU without its selector."""
    if gpu["mig_mode"]["current"] != "enabled":
        return {"mig": "disabled"}
    if not gpu["instances"]:
        return {"mig": "enabled"}
    return {"instances": [_instance(one) for one in sorted(gpu["instances"], key=lambda one: int(one["start"]))]}


def _instance(instance: dict[str, Any]) -> dict[str, Any]:
    placed = {"profile": instance["profile"], "start": instance["start"]}
    inside = [{"profile": ci["profile"], "start": ci["start"]} for ci in instance["compute_instances"]]
    if inside == [{"profile": instance["profile"], "start": 0}]:
        return placed
    return {**placed, "compute_instances": inside}


def _why_not(gpu: Gpu) -> str | None:
    """Why no entry can leave the GPU as it stands; None where its entry does."""
    current, pending = gpu["mig_mode"]["current"], gpu["mig_mode"]["pending"]
    if pending != current:
        return f"its MIG mode is {current} and {pending} is pending, reset the GPU or reboot the host first"
    try:
        plan = plan_host([gpu], [{"gpus": gpu["index"], **_says(gpu)}])
    except LayoutError as error:
        return str(error).rstrip(".")
    if plan["feasible"] and not plan["changed"]:
        return None
    return (plan["reason"] or "this board's profile table does not describe what stands on it").rstrip(".")


def _selector(indices: list[int]) -> int | str | list[int]:
    """2, "0-3" or [0, 2, 5]: the shortest that a layout takes."""
    if len(indices) == 1:
        return indices[0]
    if indices == list(range(indices[0], indices[-1] + 1)) and len(indices) > 2:
        return f"{indices[0]}-{indices[-1]}"
    return indices

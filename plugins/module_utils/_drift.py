# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody changed on GPUs since a roll-out of ours made them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._changes import instance_text, shape
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host

Gpu = dict[str, Any]


def drift(gpus: Sequence[Gpu], made: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence per GPU that is not as `made`, the layout that we made last, says. GPUs outside of it may differ."""
    try:
        plan = plan_host(list(gpus), [dict(entry) for entry in made])
    except MigError as error:
        return [f"what we made cannot be compared any more: {error}"]
    if not plan["feasible"]:
        return [f"what we made cannot be any more: {plan['reason']}"]
    return [
        f"GPU {now['index']}: made by us {was}, now {has}"
        for was_gpu, now in zip(plan["after"], sorted(gpus, key=lambda gpu: int(gpu["index"])))
        if shape(was_gpu) != shape(now)
        for was, has in [_two(was_gpu, now)]
    ]


def _two(was: Gpu, now: Gpu) -> tuple[str, str]:
    """By counts, and by places where only these differ."""
    counts = words(was), words(now)
    return counts if counts[0] != counts[1] else (_places(was), _places(now))


def words(gpu: Gpu) -> str:
    """7 x 1g.10gb; MIG disabled; no instances."""
    mode = gpu["mig_mode"]
    pending = f" with {mode['pending']} pending" if mode["pending"] != mode["current"] else ""
    if mode["current"] != "enabled":
        return f"MIG {mode['current']}{pending}"
    counts = Counter(instance_text(one).replace(f"@{one['start']}", "") for one in gpu["instances"])
    return (" + ".join(f"{count} x {name}" for name, count in counts.items()) or "no instances") + pending


def _places(gpu: Gpu) -> str:
    inside = sorted(gpu["instances"], key=lambda one: int(one["start"]))
    return " ".join(f"{instance_text(one)}{_inner(one)}" for one in inside)


def _inner(instance: Mapping[str, Any]) -> str:
    starts = [str(ci["start"]) for ci in instance["compute_instances"]]
    return f" (inside at {', '.join(starts)})" if len(starts) > 1 else ""

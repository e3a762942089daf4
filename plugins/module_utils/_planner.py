# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of one host: what stays, goes and comes on each GPU to get from what stands to the wanted layout.

Pure: no I/O, no Ansible, no NVML. `plan_host` is the only entry. Input is never changed; parts of it that do not change
are shared with `after`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._assignment import Disturbance, assign
from ansible_collections.gpufleet.mig.plugins.module_utils._changes import differences
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError
from ansible_collections.gpufleet.mig.plugins.module_utils._explain import explain
from ansible_collections.gpufleet.mig.plugins.module_utils._gpu_plan import (
    WAYS,
    GpuPlan,
    dressed,
    is_busy,
    kept,
    refused,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._layout import Wish, built_in_instances
from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import Board, board_of, describe, ranges
from ansible_collections.gpufleet.mig.plugins.module_utils._transition import (
    Kind,
    Standing,
    StandingCompute,
    Transition,
    kinds_of,
    transition,
)

Gpu = dict[str, Any]


def plan_host(
    gpus: Sequence[Gpu],
    layout: Any,
    *,
    layouts: Mapping[str, Any] | None = None,
    unlisted: str = "keep",
    allow: Collection[str] = WAYS,
    stood: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The plan that takes `gpus` (as mig_info returns them) to `layout`, in the shape of the design's section 5.

    `layout` is a preset's name, a list of entries, or None: the host is left alone. `layouts` are the user's own
    presets. `unlisted` says what happens to GPUs that no entry selects: keep, disable or fail. `allow` names the
    ways in which a GPU may get its mode. `stood` is a layout from before a reboot: it comes back on GPUs that no
    entry selects, that are to be kept, and that have nothing on them now. A layout that cannot be placed gives
    feasible False with the reason; LayoutError is raised for one that is wrong as written.
    """
    if unlisted not in ("keep", "disable", "fail"):
        raise LayoutError(
            f"GPUs that no entry selects can be kept, disabled or failed on (keep, disable, fail), not {unlisted!r}."
        )
    ordered = sorted(gpus, key=lambda gpu: int(gpu["index"]))

    def disturbance(gpu: Gpu, wish: Wish | None) -> tuple[int, ...]:
        return plan_gpu(gpu, wish, allow).cost

    wishes = assign(ordered, layout, layouts or {}, unlisted, disturbance) if layout is not None else {}
    if stood and unlisted == "keep":
        wishes = {**_lost(ordered, stood, disturbance, {*wishes}), **wishes}
    plans = [plan_gpu(gpu, wishes.get(gpu["index"]), allow) for gpu in ordered]
    reasons = [(gpu, str(plan.public["reason"])) for gpu, plan in zip(ordered, plans) if not plan.public["feasible"]]
    feasible = not reasons
    return {
        "feasible": feasible,
        "changed": feasible and any(plan.changes for plan in plans),
        "reason": _once(reasons) or None,
        "differences": differences([plan.public for plan in plans]),
        "gpus": [plan.public for plan in plans],
        "reboot_required": feasible and any(plan.public["reboot"] for plan in plans),
        "after": [plan.after for plan in plans] if feasible else list(ordered),
    }


def _lost(
    gpus: Sequence[Gpu], stood: Sequence[Mapping[str, Any]], disturbance: Disturbance, selected: Collection[int]
) -> dict[int, Wish]:
    says = [{**entry, "optional": True, "name": "layout from before the reboot"} for entry in stood]
    empty = {gpu["index"] for gpu in gpus if gpu["index"] not in selected and not gpu["instances"]}
    wishes = assign(gpus, says, {}, "keep", disturbance)
    return {index: wish for index, wish in wishes.items() if index in empty and wish.instances}


def _once(reasons: Sequence[tuple[Gpu, str]]) -> str:
    """The sentences, one for all GPUs of a model that are refused for the same reason."""
    same: dict[tuple[str, str], list[int]] = {}
    for gpu, reason in reasons:
        who = describe(gpu)
        rest = reason[len(who) :] if reason.startswith(who) else ""
        same.setdefault((str(gpu.get("name")), rest) if rest else (reason, ""), []).append(int(gpu["index"]))
    sentences = []
    for (name, rest), indices in same.items():
        sentences.append(describe({"index": ranges(indices), "name": name}) + rest if rest else name)
    return " ".join(sentences)


def plan_gpu(gpu: Gpu, wish: Wish | None, allow: Collection[str] = WAYS) -> GpuPlan:
    """The plan of one GPU; a wish of None leaves it as it stands, a pending mode too."""
    current = gpu["mig_mode"]["current"]
    if wish is None or (current == "unsupported" and not wish.enabled):
        return kept(gpu)
    if current == "unsupported":
        raise LayoutError(f"{describe(gpu)} has no MIG, but the {wish.label} wants it.", gpu=gpu["index"])
    everything = Transition((), tuple(range(len(gpu["instances"]))), (0, 0, 0))
    if not wish.enabled:
        return dressed(gpu, "disabled", everything, allow)
    if not wish.instances and wish.built_in in (None, "all-enabled"):
        return dressed(gpu, "enabled", everything, allow)
    board, who = board_of(gpu), describe(gpu)
    instances = built_in_instances(wish.built_in, board, who) if wish.built_in else wish.instances
    try:
        kinds, counts = kinds_of(board, who, instances)
    except LayoutError as error:
        raise LayoutError(f"{error} The {wish.label} wants it.", gpu=gpu["index"], **error.context) from error
    standing = standing_on(gpu, board) if current == "enabled" else ()
    _check_starts(kinds, standing, who, wish.label)
    found = transition(board, kinds, counts, standing)
    if found is None:
        return refused(gpu, explain(board, who, kinds, counts))
    return dressed(gpu, "enabled", found, allow)


def _check_starts(kinds: Sequence[Kind], standing: Sequence[Standing], who: str, label: str) -> None:
    here = {(instance.profile, instance.start) for instance in standing}
    for kind in kinds:
        if kind.start is not None and kind.start not in kind.profile.starts and (kind.profile, kind.start) not in here:
            starts = " or ".join(str(start) for start in kind.profile.starts)
            raise LayoutError(
                f"{who}: the {label} wants {kind.profile.name} at {kind.start}; it can start at {starts}.",
                profile=kind.profile.name,
            )


def standing_on(gpu: Gpu, board: Board) -> tuple[Standing, ...]:
    """The instances of a GPU in the planner's terms, in the order of gpu["instances"]."""
    result = []
    for instance in gpu["instances"]:
        profile = board.find(str(instance["profile"]))
        names = {ci.slices: ci.name for ci in profile.compute} if profile else {}
        compute = tuple(
            # by its size: the same compute profile may bear another driver's name
            StandingCompute(names.get(ci["size"], ci["profile"]), ci["start"], ci["size"], bool(ci.get("processes")))
            for ci in instance["compute_instances"]
        )
        result.append(Standing(profile, instance["start"], instance["size"], is_busy(instance), compute))
    return tuple(result)

# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A GPU's memory slices as one line of text: which instance stands where, and what is free. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError, MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import ProfileName, board_of

Gpu = Mapping[str, Any]

NARROWEST = 2
"""Characters of one slice at least, without its border."""


def slice_map(gpu: Gpu, cell: int = NARROWEST) -> str:
    """The picture of one GPU: ``|1g.10gb|1g.10gb|2g.20gb........|-------|-------|-------|-------|``.

    `cell` is the width of a slice; `cell_width` gives the one at which every name of some GPUs can be read.
    """
    mode, pending = gpu["mig_mode"]["current"], gpu["mig_mode"].get("pending", gpu["mig_mode"]["current"])
    if mode == "unsupported":
        return "no MIG"
    note = f" ({pending} pending)" if pending != mode else ""
    if mode != "enabled":
        return f"MIG {mode}{note}"
    slices = slices_of(gpu)
    if not slices:
        return f"MIG {mode}, places unknown{note}"
    parts, at = [], 0
    for instance in _by_start(gpu):
        parts += ["-" * cell] * (instance["start"] - at)
        parts.append(_label(instance).ljust(instance["size"] * (cell + 1) - 1, "."))
        at = instance["start"] + instance["size"]
    parts += ["-" * cell] * (slices - at)
    return f"|{'|'.join(parts)}|{note}"


def cell_width(gpus: Sequence[Gpu]) -> int:
    """The narrowest slice at which no label of these GPUs is wider than its place, so that their pictures line up."""
    labels = ((len(_label(one)), int(one["size"])) for gpu in gpus for one in _by_start(gpu))
    return max([NARROWEST, *(-(-(length + 1) // size) - 1 for length, size in labels)])


def _by_start(gpu: Gpu) -> list[dict[str, Any]]:
    if gpu["mig_mode"]["current"] != "enabled":
        return []
    return sorted(gpu.get("instances") or [], key=lambda instance: int(instance["start"]))


def slices_of(gpu: Gpu) -> int:
    """Memory slices of the board; of a board that no one knows, those that its instances cover."""
    rows = gpu.get("profiles")
    known: int
    if rows:
        known = max(start + row["size"] for row in rows for start in row["starts"])
    else:
        try:
            known = board_of(dict(gpu)).slices
        except LayoutError:
            known = 0
    return max([known, *(int(instance["start"] + instance["size"]) for instance in _by_start(gpu))])


def _label(instance: Mapping[str, Any]) -> str:
    """The profile, what is inside where that is not one compute instance that fills it, and * for a busy one."""
    inside = [ci["profile"] for ci in instance.get("compute_instances") or []]
    busy = instance.get("busy") or any(ci.get("processes") for ci in instance.get("compute_instances") or [])
    whole = inside == [instance["profile"]]
    return f"{instance['profile']}{'' if whole else _compute(inside)}{'*' if busy else ''}"


def _compute(inside: Sequence[str]) -> str:
    parts = [ProfileName.parse(name) for name in inside]
    return f"({'+'.join(f'{part.compute or part.slices}c' for part in parts if part) or '0c'})"


def slice_maps(gpus: Sequence[Gpu], after: Sequence[Gpu] | None = None) -> list[Any]:
    """One picture for each GPU; with `after`, {"before": ..., "after": ...} for each, all at one scale."""
    if after is None:
        cell = cell_width(gpus)
        return [slice_map(gpu, cell) for gpu in gpus]
    later = {gpu["index"]: gpu for gpu in after}
    if sorted(later) != sorted(gpu["index"] for gpu in gpus):
        raise MigError(
            f"slice_map compares the same GPUs before and after, but got {_indices(gpus)} before and "
            f"{_indices(after)} after: give it the gpus and the after of one plan."
        )
    cell = cell_width([*gpus, *after])
    return [{"before": slice_map(gpu, cell), "after": slice_map(later[gpu["index"]], cell)} for gpu in gpus]


def _indices(gpus: Sequence[Gpu]) -> str:
    return "GPU " + ", ".join(str(gpu["index"]) for gpu in gpus) if gpus else "no GPU"

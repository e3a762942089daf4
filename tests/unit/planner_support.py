# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs for planner tests, made from the facts file itself, and an independent brute force to compare the planner with.

Nothing of the planner is used here: tables come from facts/mig_products.yaml, every way to place the wanted instances
is written down and measured, and the best one is taken by the words of the design.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

Gpu = dict[str, Any]
FACTS: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "facts" / "mig_products.yaml").read_text("utf-8"))
PRODUCTS: dict[str, dict[str, Any]] = {product["key"]: product for product in FACTS["products"]}
PLANNABLE = [key for key, product in PRODUCTS.items() if product["gi_profiles"][0]["placements"]]


def profiles_of(key: str) -> list[dict[str, Any]]:
    """The `profiles` list that mig_info returns for a product."""
    product = PRODUCTS[key]
    return [
        {
            "name": row["name"],
            "id": row["id"],
            "size": row["placements"]["size"],
            "starts": list(row["placements"]["starts"]),
            "count": row["count"],
            "compute_slices": row["slices"],
            "memory_mib": row["memory_mib"],
            "multiprocessors": row["sm"],
            "copy_engines": row["ce"],
            "decoders": row["dec"],
            "encoders": row["enc"],
            "jpeg_engines": row["jpeg"],
            "ofa_engines": row["ofa"],
            "media_extensions": row["media_extensions"],
            "gfx": row["gfx"],
            "compute_profiles": [
                {key: ci[key] for key in ("name", "id", "slices", "count")} | {"multiprocessors": ci["sm"]}
                for ci in product["ci_profiles"][row["name"]]
            ],
        }
        for row in product["gi_profiles"]
    ]


def gpu(key: str, index: int = 0, *, mode: str = "enabled", pending: str | None = None, nvml: bool = True) -> Gpu:
    """A GPU without instances as mig_info returns it; without `nvml`, NVML lists no profiles (Ampere with MIG off)."""
    product = PRODUCTS[key]
    return {
        "index": index,
        "uuid": f"GPU-{index:08d}",
        "pci_bus_id": f"00000000:{index + 7:02X}:00.0",
        "pci_device_id": (product["pci_device_ids"] or ["0x000010DE"])[0],
        "name": product["name"] or key,
        "architecture": product["arch"],
        "compute_capability": product["compute_capability"],
        "memory_mib": product["memory_mib"],
        "mig_mode": {"current": mode, "pending": pending or mode},
        "resetless_mode_change": not product["mode_change"]["needs_gpu_reset"],
        "profiles": profiles_of(key) if nvml else [],
        "instances": [],
    }


def no_mig_gpu(index: int = 0) -> Gpu:
    """A GPU that cannot do MIG."""
    return {
        "index": index,
        "uuid": f"GPU-{index:08d}",
        "pci_bus_id": f"00000000:{index + 7:02X}:00.0",
        "pci_device_id": "0x1EB810DE",
        "name": "Tesla T4",
        "memory_mib": 15360,
        "mig_mode": {"current": "unsupported", "pending": "unsupported"},
        "resetless_mode_change": False,
        "profiles": [],
        "instances": [],
    }


def instance(
    on: Gpu, profile: str, start: int, *, busy: bool = False, compute: Sequence[tuple[str, int, bool]] | None = None
) -> dict[str, Any]:
    """A GPU instance as mig_info returns it; `compute` are (profile, start, busy), None is one that fills it."""
    row = next(row for row in on["profiles"] if row["name"] == profile)
    inside = [(profile, 0, busy)] if compute is None else list(compute)
    slices = {ci["name"]: ci["slices"] for ci in row["compute_profiles"]}
    return {
        "profile": profile,
        "start": start,
        "size": row["size"],
        "gi_id": 20 + start,
        "busy": busy or any(held for _name, _start, held in inside),
        "compute_instances": [
            {
                "profile": name,
                "ci_id": number,
                "uuid": f"MIG-{on['index']}-{start}-{number}",
                "start": at,
                "size": slices[name],
                "multiprocessors": None,
                "processes": [{"pid": 4000 + 100 * start + number, "name": "python"}] if held else [],
            }
            for number, (name, at, held) in enumerate(inside)
        ],
    }


def standing(on: Gpu, *instances: dict[str, Any]) -> Gpu:
    """The GPU with these instances."""
    return {**on, "instances": list(instances)}


class Wanted(NamedTuple):
    """One wanted instance; start None is anywhere, compute None one compute instance that fills it."""

    profile: str
    start: int | None = None
    compute: tuple[str, ...] | None = None


class Best(NamedTuple):
    """What the brute force found: (busy, GPU, compute instances destroyed), what still fits, and the places."""

    destroyed: tuple[int, int, int]
    fits_beside: tuple[tuple[int, int], ...]
    places: tuple[tuple[int, str, tuple[str, ...]], ...]


def brute_force(on: Gpu, wanted: Sequence[Wanted]) -> Best | None:
    """The best way to have exactly `wanted` on a GPU with MIG on; None where there is none."""
    rows = {row["name"]: row for row in on["profiles"]}
    if not allowed(rows, [one.profile for one in wanted]):
        return None
    best: tuple[Any, ...] | None = None
    for starts in every_place(on, rows, wanted):
        taken = [
            cell for one, start in zip(wanted, starts, strict=True) for cell in cells(on, rows, one.profile, start)
        ]
        if len(set(taken)) < len(taken):
            continue
        destroyed = destruction(on, rows, wanted, starts)
        beside = what_fits(table(rows), frozenset(range(board_size(on, rows))) - set(taken))
        places = tuple(sorted((start, one.profile, inside_of(one)) for one, start in zip(wanted, starts, strict=True)))
        key = (destroyed, [*((-size, -slices) for size, slices in beside), (1, 1)], places)  # the longer list first
        if best is None or key < best[0]:
            best = (key, Best(destroyed, beside, places))
    return best[1] if best else None


def inside_of(one: Wanted) -> tuple[str, ...]:
    return (one.profile,) if one.compute is None else tuple(sorted(one.compute))


def allowed(rows: dict[str, Any], names: Sequence[str]) -> bool:
    """Numbers per profile, one +me instance, and only -me ones beside +me.all."""
    if any(count > rows[name]["count"] for name, count in Counter(names).items()):
        return False
    media = [name for name in names if "+me" in name]
    others = [name for name in names if "+me" not in name and "-me" not in name]
    return len(media) <= 1 and not (media and "+me.all" in media[0] and others)


def cells(on: Gpu, rows: dict[str, Any], profile: str, start: int) -> range:
    there = [one for one in on["instances"] if (one["profile"], one["start"]) == (profile, start)]
    return range(start, start + (there[0]["size"] if there else rows[profile]["size"]))


def every_place(on: Gpu, rows: dict[str, Any], wanted: Sequence[Wanted]) -> Iterator[tuple[int, ...]]:
    """Every choice of a start per wanted instance; of equal neighbours only the ascending choices."""
    choices = []
    for one in wanted:
        starts = {*rows[one.profile]["starts"], *(i["start"] for i in on["instances"] if i["profile"] == one.profile)}
        choices.append([start for start in sorted(starts) if one.start in (None, start)])
    for chosen in itertools.product(*choices):
        if all(chosen[n] > chosen[n - 1] for n in range(1, len(wanted)) if wanted[n] == wanted[n - 1]):
            yield chosen


def destruction(on: Gpu, rows: dict[str, Any], wanted: Sequence[Wanted], starts: Sequence[int]) -> tuple[int, int, int]:
    """Busy instances, GPU instances and compute instances that go when `wanted` stands at `starts`."""
    busy = whole = compute = 0
    for one in on["instances"]:
        stays = [
            w for w, start in zip(wanted, starts, strict=True) if (w.profile, start) == (one["profile"], one["start"])
        ]
        if stays:
            hurt, gone = compute_destruction(rows[one["profile"]], one, inside_of(stays[0]))
            busy, compute = busy + hurt, compute + gone
        else:
            busy, whole, compute = busy + one["busy"], whole + 1, compute + len(one["compute_instances"])
    return busy, whole, compute


def compute_destruction(row: dict[str, Any], there: dict[str, Any], names: Sequence[str]) -> tuple[int, int]:
    """The same inside one GPU instance that stays: (1 when something busy in it goes, compute instances that go)."""
    slices = {ci["name"]: ci["slices"] for ci in row["compute_profiles"]}
    known = any(ci["processes"] for ci in there["compute_instances"])
    step = {1: 1, 2: 2, 3: 4, 4: 4, 7: 8}
    choices = []
    for name in names:
        free = range(0, row["compute_slices"] - slices[name] + 1, step[slices[name]])
        choices.append(sorted({*free, *(ci["start"] for ci in there["compute_instances"] if ci["profile"] == name)}))
    results = []
    for starts in itertools.product(*choices):
        taken = [n for name, start in zip(names, starts, strict=True) for n in range(start, start + slices[name])]
        if len(set(taken)) == len(taken):
            here = set(zip(names, starts, strict=True))
            gone = [ci for ci in there["compute_instances"] if (ci["profile"], ci["start"]) not in here]
            processes = sum(bool(ci["processes"]) for ci in gone) if known else 0
            results.append((processes, len(gone), bool(there["busy"] and (processes if known else gone))))
    _processes, gone_best, hurt = min(results)
    return int(hurt), gone_best


def board_size(on: Gpu, rows: dict[str, Any]) -> int:
    ends = [start + row["size"] for row in rows.values() for start in row["starts"]]
    return max([*map(int, ends), *(int(one["start"] + one["size"]) for one in on["instances"])])


Table = tuple[tuple[int, int, tuple[int, ...]], ...]


def table(rows: dict[str, Any]) -> Table:
    """(size, compute slices, starts) of what may be made beside: +me has its own limit and is left out."""
    plain = [row for name, row in rows.items() if "+me" not in name]
    return tuple(sorted({(row["size"], row["compute_slices"], tuple(row["starts"])) for row in plain}))


@cache
def what_fits(shapes: Table, free: frozenset[int]) -> tuple[tuple[int, int], ...]:
    """The lexicographically largest list (size, compute slices), largest first, of what fits into the free slices."""
    lists: list[tuple[tuple[int, int], ...]] = [()]
    for size, slices, starts in shapes:
        for start in starts:
            place = frozenset(range(start, start + size))
            if place <= free:
                rest = what_fits(shapes, free - place)
                lists.append(tuple(sorted([(size, slices), *rest], reverse=True)))
    return max(lists)

# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a GPU can be cut into: profile names, the profiles of one board, and names that other drivers use.

NVML's own profile table wins; the product facts answer only where NVML cannot (Ampere with MIG off).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError
from ansible_collections.gpufleet.mig.plugins.module_utils._products import PRODUCTS, ROWS

NAME = re.compile(r"(?:(?P<c>[1-9]\d*)c\.)?(?P<g>[1-9]\d*)g\.(?P<gb>\d+)gb(?P<attributes>(?:[+-][a-z]+(?:\.[a-z]+)?)*)")
"""Names as NVML gives them: [<c>c.]<g>g.<GB>gb[+attribute|-attribute]."""

TOTAL_DRIFT = 0.03
"""How far apart two drivers' ideas of one board's memory may be (A100-80GB: 78 to 80 GB) for a name to be an alias."""


@dataclass(frozen=True)
class ProfileName:
    """A profile name taken apart; `compute` is the c part of a compute-instance profile, None where there is none."""

    compute: int | None
    slices: int
    gigabytes: int
    attributes: str

    @staticmethod
    @lru_cache(maxsize=4096)
    def parse(text: str) -> ProfileName | None:
        match = NAME.fullmatch(text)
        if match is None:
            return None
        compute = int(match["c"]) if match["c"] else None
        return ProfileName(compute, int(match["g"]), int(match["gb"]), match["attributes"])


@dataclass(frozen=True)
class ComputeProfile:
    """A compute-instance profile of one GPU-instance profile; `slices` are compute slices."""

    name: str
    id: int | None
    slices: int
    most: int
    multiprocessors: int | None


@dataclass(frozen=True, eq=False)
class Profile:
    """A GPU-instance profile of one board; `size` and `starts` are memory slices, `most` how many fit at once.

    Compared by identity, as a board is.
    """

    name: str
    id: int | None
    size: int
    starts: tuple[int, ...]
    most: int
    slices: int
    multiprocessors: int | None
    compute: tuple[ComputeProfile, ...]
    attributes: str = field(init=False)

    def __post_init__(self) -> None:
        parsed = ProfileName.parse(self.name)
        object.__setattr__(self, "attributes", parsed.attributes if parsed else "")

    @property
    def shape(self) -> tuple[int, int]:
        """What makes one profile larger than another: memory slices, then compute slices."""
        return self.size, self.slices

    def filling(self) -> ComputeProfile:
        """The compute profile that fills the whole instance and bears its name."""
        return next(ci for ci in self.compute if ci.name == self.name)


class Board:
    """The profiles of one GPU. Compared by identity: `board_of` gives the same object for the same profiles."""

    def __init__(self, profiles: tuple[Profile, ...], totals: frozenset[int]) -> None:
        self.profiles = profiles
        self.by_name = {profile.name: profile for profile in profiles}
        self.slices = max(start + profile.size for profile in profiles for start in profile.starts)
        whole = max(profiles, key=lambda profile: profile.shape)
        parsed = ProfileName.parse(whole.name)
        own = parsed.gigabytes * self.slices // whole.size if parsed else 0
        near = range(ceil(own * (1 - TOTAL_DRIFT)), int(own * (1 + TOTAL_DRIFT)) + 1)
        self.totals = totals | frozenset(near)
        self._resolved: dict[str, Profile | None] = {}

    def find(self, name: str) -> Profile | None:
        """The profile of this name, or the one that another driver calls so; None when the board has no such thing.

        Drivers name a profile floor(eighths of the memory * board GB + 0.5), and differ in the board's GB.
        """
        if name not in self._resolved:
            self._resolved[name] = self.by_name.get(name) or self._by_meaning(name)
        return self._resolved[name]

    def _by_meaning(self, name: str) -> Profile | None:
        parsed = ProfileName.parse(name)
        if parsed is None or parsed.compute is not None:
            return None
        for profile in self.profiles:
            if (profile.slices, profile.attributes) == (parsed.slices, parsed.attributes):
                eighths = profile.size * 8 // self.slices
                if any((eighths * total * 2 + 8) // 16 == parsed.gigabytes for total in self.totals):
                    return profile
        return None

    def nearest(self, name: str) -> list[str]:
        """At most three names of this board that a person may have meant, the likeliest first."""
        names = [profile.name for profile in self.profiles]
        parsed = ProfileName.parse(name.lower())
        if parsed is None:
            return difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.3) or names[:3]

        def distance(other: str) -> tuple[float, ...]:
            theirs = ProfileName.parse(other)
            if theirs is None:
                return (99.0,)
            return (
                abs(theirs.slices - parsed.slices) + abs(theirs.gigabytes - parsed.gigabytes) / (parsed.gigabytes + 1),
                float(theirs.attributes != parsed.attributes),
            )

        return sorted(names, key=distance)[:3]


def product_of(gpu: dict[str, Any]) -> dict[str, Any] | None:
    """The product facts of a GPU, found by PCI device id, else by NVML name; None where no fact describes it."""
    return _product(str(gpu.get("pci_device_id") or "").lower(), str(gpu.get("name") or ""))


@lru_cache(maxsize=256)
def _product(pci_device_id: str, name: str) -> dict[str, Any] | None:
    for product in PRODUCTS.values():
        if pci_device_id in (known.lower() for known in product["pci_device_ids"]):
            return product
    return next((product for product in PRODUCTS.values() if name and product["name"] == name), None)


def product_key(gpu: dict[str, Any]) -> str | None:
    """The key of the GPU's product in the facts, such as h100-sxm5-80gb."""
    product = product_of(gpu)
    return next((key for key, value in PRODUCTS.items() if value is product), None)


def facts_profiles(product: dict[str, Any]) -> list[dict[str, Any]]:
    """The `profiles` list of a GPU as NVML would give it, from the facts; without profiles whose places are unknown."""
    result = []
    for row in (ROWS[key] for key in product["rows"]):
        (
            name,
            identity,
            _index,
            slices,
            memory,
            processors,
            ce,
            dec,
            enc,
            jpeg,
            ofa,
            most,
            size,
            starts,
            media,
            gfx,
            compute,
        ) = row
        if starts is None:
            continue
        result.append(
            {
                "name": name,
                "id": identity,
                "size": size,
                "starts": list(starts),
                "count": most,
                "compute_slices": slices,
                "memory_mib": memory,
                "multiprocessors": processors,
                "copy_engines": ce,
                "decoders": dec,
                "encoders": enc,
                "jpeg_engines": jpeg,
                "ofa_engines": ofa,
                "media_extensions": media,
                "gfx": gfx,
                "compute_profiles": [
                    {
                        "name": name if ci_slices == slices else f"{ci_slices}c.{name}",
                        "id": ci_id,
                        "slices": ci_slices,
                        "count": ci_most,
                        "multiprocessors": ci_processors,
                    }
                    for ci_id, ci_slices, ci_most, ci_processors in compute
                ],
            }
        )
    return result


def board_of(gpu: dict[str, Any]) -> Board:
    """The board that NVML's profile table describes, else the facts. LayoutError where neither knows the places."""
    product = product_of(gpu)
    rows = gpu.get("profiles") or []
    if not rows:
        if product is None:
            raise LayoutError(
                f"{describe(gpu)}: NVML lists no profiles and no product fact describes this model "
                f"(PCI device id {gpu.get('pci_device_id')}), so nothing can be planned on it; "
                "enable MIG on it by hand once, so that NVML can list its profiles.",
                gpu=gpu.get("index"),
            )
        board = _facts_board(next(key for key, value in PRODUCTS.items() if value is product))
        if board is None:
            raise LayoutError(
                f"{describe(gpu)}: NVML lists no profiles while MIG is off and where this model's instances can be "
                "placed is not known from any document, so nothing can be planned on it; "
                "enable MIG on it first (mig: enabled), so that NVML can list its profiles.",
                gpu=gpu.get("index"),
            )
        return board
    return _board(tuple(_row_key(row) for row in rows), _totals(product))


def _row_key(row: dict[str, Any]) -> tuple[Any, ...]:
    compute = tuple(
        (ci["name"], ci.get("id"), ci["slices"], ci["count"], ci.get("multiprocessors"))
        for ci in row.get("compute_profiles") or ()
    )
    return (
        row["name"],
        row.get("id"),
        row["size"],
        tuple(row["starts"]),
        row["count"],
        row["compute_slices"],
        row.get("multiprocessors"),
        compute,
    )


def _totals(product: dict[str, Any] | None) -> frozenset[int]:
    """Board sizes in GB that drivers are known to put into this product's profile names."""
    if product is None:
        return frozenset()
    parsed = (ProfileName.parse(ROWS[key][0]) for key in product["rows"])
    return frozenset(product["alias_totals"]) | {max(name.gigabytes for name in parsed if name)}


@lru_cache(maxsize=64)
def _facts_board(key: str) -> Board | None:
    rows = tuple(_row_key(row) for row in facts_profiles(PRODUCTS[key]))
    return _board(rows, _totals(PRODUCTS[key])) if rows else None


@lru_cache(maxsize=256)
def _board(rows: tuple[tuple[Any, ...], ...], totals: frozenset[int]) -> Board:
    profiles = []
    for name, identity, size, starts, most, slices, processors, compute in rows:
        ours = tuple(ComputeProfile(*ci) for ci in compute)
        if not any(ci.name == name for ci in ours):  # a caller that gives no compute profiles still gets the full one
            ours = (*ours, ComputeProfile(name, None, slices, 1, processors))
        profiles.append(Profile(name, identity, size, tuple(sorted(starts)), most, slices, processors, ours))
    return Board(tuple(profiles), totals)


def describe(gpu: dict[str, Any]) -> str:
    """How sentences name a GPU: GPU 0 (NVIDIA A30)."""
    return f"GPU {gpu['index']} ({gpu.get('name') or 'unnamed'})"


def ranges(numbers: Iterable[int]) -> str:
    """0, 2-5 for 0, 2, 3, 4, 5."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def resolve(board: Board, who: str, name: str) -> Profile:
    """The profile that a user means on the GPU `who`. LayoutError names the nearest ones where there is none."""
    found = board.find(name)
    if found is not None:
        return found
    nearest = board.nearest(name)
    raise LayoutError(
        f"{who} has no profile {name!r}: did you mean {' or '.join(nearest)}? "
        f"It has {', '.join(profile.name for profile in board.profiles)}.",
        profile=name,
        nearest=nearest,
    )


def resolve_compute(board: Board, who: str, profile: Profile, name: str) -> ComputeProfile:
    """The compute-instance profile that a user means inside instances of `profile`; LayoutError where there is none."""
    parsed = ProfileName.parse(name)
    bare = name.split("c.", 1)[1] if parsed and parsed.compute else name
    for ci in profile.compute:
        if ci.name == name or (
            parsed and board.find(bare) is profile and ci.slices == (parsed.compute or profile.slices)
        ):
            return ci
    raise LayoutError(
        f"{who}: {profile.name} has no compute instance {name!r}; "
        f"it can hold {', '.join(ci.name for ci in profile.compute)}.",
        profile=name,
    )

# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One GPU from the instances that stand to the instances that are wanted, with the least destroyed: exact.

Best in this order: fewest busy instances destroyed; fewest GPU instances, then compute instances destroyed; the largest
list of profiles that still fit beside; the lowest sorted list of (start, profile).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError
from ansible_collections.gpufleet.mig.plugins.module_utils._layout import WantedInstance
from ansible_collections.gpufleet.mig.plugins.module_utils._placement import Leftover, Option, Search, Shape
from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import (
    Board,
    ComputeProfile,
    Profile,
    resolve,
    resolve_compute,
)

BUSY, WHOLE = 1 << 16, 1 << 8
"""Weights of one busy instance and of one GPU instance in a gain; a compute instance weighs 1. They cannot carry over:
a board has at most 12 slices."""


@dataclass(frozen=True)
class Kind:
    """Equal wanted instances: profile, first memory slice, compute instances inside. A start of None means anywhere."""

    profile: Profile
    start: int | None
    compute: tuple[tuple[ComputeProfile, int | None], ...]

    @property
    def order(self) -> tuple[Any, ...]:
        compute = tuple((ci.name, -1 if start is None else start) for ci, start in self.compute)
        return self.profile.name, compute, -1 if self.start is None else self.start


@dataclass(frozen=True)
class StandingCompute:
    """A compute instance that exists: `name` as its board calls the profile, places in compute slices."""

    name: str
    start: int
    size: int
    busy: bool


@dataclass(frozen=True)
class Standing:
    """A GPU instance that exists. `profile` is None when the board has no such profile: it can only be destroyed."""

    profile: Profile | None
    start: int
    size: int
    busy: bool
    compute: tuple[StandingCompute, ...]


@dataclass(frozen=True)
class ComputePlan:
    """What happens inside one GPU instance: numbers of the standing ones that stay and go, (profile, start) to make.

    `busy` is how many of those that go have a process.
    """

    keep: tuple[int, ...]
    destroy: tuple[int, ...]
    create: tuple[tuple[ComputeProfile, int], ...]
    busy: int


@dataclass(frozen=True)
class Placed:
    """A wanted instance at its place; `standing` is the number of the one that stays there, None where one is made."""

    profile: Profile
    start: int
    size: int
    standing: int | None
    compute: ComputePlan


@dataclass(frozen=True)
class Transition:
    """Wanted instances by start, numbers of the standing ones that go, and (busy, GPU, compute instances destroyed)."""

    placed: tuple[Placed, ...]
    destroy: tuple[int, ...]
    cost: tuple[int, int, int]


@lru_cache(maxsize=4096)
def kinds_of(board: Board, who: str, wanted: tuple[WantedInstance, ...]) -> tuple[tuple[Kind, ...], tuple[int, ...]]:
    """The wanted instances on this board, equal ones together and in the order that decides ties, and how many of each.

    LayoutError where the board has no such profile or an instance cannot hold what is wanted inside.
    """
    counts: dict[Kind, int] = {}
    for instance in wanted:
        profile = resolve(board, who, instance.profile)
        if instance.compute is None:
            compute: tuple[tuple[ComputeProfile, int | None], ...] = ((profile.filling(), None),)
        else:
            inside = [(resolve_compute(board, who, profile, ci.profile), ci.start) for ci in instance.compute]
            compute = tuple(sorted(inside, key=lambda item: (item[0].name, -1 if item[1] is None else item[1])))
            if compute_plan(profile, compute, ()) is None:
                raise LayoutError(
                    f"{who}: the compute instances {', '.join(_inside(*ci) for ci in compute)} do not fit together "
                    f"into {profile.name}, which has {profile.slices} compute slices.",
                    profile=profile.name,
                )
        kind = Kind(profile, instance.start, compute)
        counts[kind] = counts.get(kind, 0) + instance.count
    kinds = tuple(sorted(counts, key=lambda kind: kind.order))
    return kinds, tuple(counts[kind] for kind in kinds)


def _inside(ci: ComputeProfile, start: int | None) -> str:
    return ci.name if start is None else f"{ci.name} at {start}"


@lru_cache(maxsize=65536)
def compute_plan(
    profile: Profile, wanted: tuple[tuple[ComputeProfile, int | None], ...], standing: tuple[StandingCompute, ...]
) -> ComputePlan | None:
    """What to change inside one GPU instance; None where what is wanted does not fit.

    No document gives the places of compute instances. They are put where a GPU instance of that many slices could be
    (two slices at even starts, three and four at multiples of four): that suits every count that NVML reports, and also
    a driver that takes any place.
    """
    counts: dict[tuple[ComputeProfile, int | None], int] = {}
    for item in wanted:
        counts[item] = counts.get(item, 0) + 1
    kept: dict[tuple[str, int, int], int] = {(ci.name, ci.start, ci.size): number for number, ci in enumerate(standing)}
    options = []
    for ci, pinned in counts:
        step = 1 << (ci.slices - 1).bit_length()
        starts = range(0, profile.slices - ci.slices + 1, step) if pinned is None else [pinned]
        places = {(start, ci.slices): 0 for start in starts if start + ci.slices <= profile.slices}
        for (name, start, size), number in kept.items():
            if name == ci.name and pinned in (None, start):
                places[(start, size)] = WHOLE * standing[number].busy + 1
        options.append(tuple(Option(start, size, gain) for (start, size), gain in sorted(places.items())))
    if any(sum(n for (ci, _pin), n in counts.items() if ci is each) > each.most for each, _pin in counts):
        return None
    found = Search(tuple(options)).best(tuple(counts.values()), lambda _mask: ())
    if found is None:
        return None
    profiles = [ci for ci, _pinned in counts]
    keep: list[int] = []
    create: list[tuple[ComputeProfile, int]] = []
    for start, size, kind in found:
        there = kept.get((profiles[kind].name, start, size))
        if there is None:
            create.append((profiles[kind], start))
        else:
            keep.append(there)
    gone = tuple(number for number in range(len(standing)) if number not in keep)
    return ComputePlan(tuple(keep), gone, tuple(create), sum(standing[number].busy for number in gone))


@lru_cache(maxsize=65536)
def transition(
    board: Board, kinds: tuple[Kind, ...], counts: tuple[int, ...], standing: tuple[Standing, ...]
) -> Transition | None:
    """The best way from `standing` to `counts[k]` of each kind; None where they do not fit on the board together."""
    if broken_limit(totals_of(kinds, counts)) is not None:
        return None
    options = tuple(_options(kind, standing) for kind in kinds)
    found = Search(options).best(counts, _leftover(board, kinds, counts, standing))
    if found is None:
        return None
    here = {(instance.profile, instance.start, instance.size): number for number, instance in enumerate(standing)}
    placed: list[Placed] = []
    cost = [sum(instance.busy for instance in standing), len(standing), sum(len(one.compute) for one in standing)]
    for start, size, kind in found:
        profile = kinds[kind].profile
        stays = here.get((profile, start, size))
        inside = standing[stays].compute if stays is not None else ()
        plan = compute_plan(profile, kinds[kind].compute, inside)
        if plan is None:  # kinds_of has refused what does not fit, and keeping an instance changes nothing about that
            raise AssertionError(f"no compute plan for {profile.name}")
        if stays is not None:
            cost[0] -= _stays_unhurt(standing[stays], plan)
            cost[1] -= 1
            cost[2] -= len(plan.keep)
        placed.append(Placed(profile, start, size, stays, plan))
    kept = {one.standing for one in placed}
    gone = tuple(number for number in range(len(standing)) if number not in kept)
    return Transition(tuple(placed), gone, (cost[0], cost[1], cost[2]))


def _options(kind: Kind, standing: tuple[Standing, ...]) -> tuple[Option, ...]:
    profile = kind.profile
    starts = profile.starts if kind.start is None else tuple(start for start in profile.starts if start == kind.start)
    places = {(start, profile.size): 0 for start in starts}
    for instance in standing:
        if instance.profile is profile and kind.start in (None, instance.start):
            plan = compute_plan(profile, kind.compute, instance.compute)
            if plan is not None:
                gain = BUSY * _stays_unhurt(instance, plan) + WHOLE + len(plan.keep)
                places[(instance.start, instance.size)] = gain
    return tuple(Option(start, size, gain) for (start, size), gain in sorted(places.items()))


def _stays_unhurt(instance: Standing, plan: ComputePlan) -> int:
    """1 for a busy instance that stays with everything busy in it, else 0.

    Where a process is known on the GPU instance but on none of its compute instances, each of them may be the busy one.
    """
    if not instance.busy:
        return 0
    known = any(ci.busy for ci in instance.compute)
    return int(not plan.busy if known else not plan.destroy)


def totals_of(kinds: Sequence[Kind], counts: Sequence[int]) -> dict[Profile, int]:
    """How many of each profile are wanted, without those of which none is, in the order of the kinds."""
    totals: dict[Profile, int] = {}
    for kind, count in zip(kinds, counts):
        if count:
            totals[kind.profile] = totals.get(kind.profile, 0) + count
    return totals


def broken_limit(wanted: Mapping[Profile, int]) -> str | None:
    """The sentence of a rule beside the places that the wanted instances break; None where they break none.

    Media extensions exist once: one +me instance, and beside +me.all only -me ones (NVIDIA's MIG guide and nvml.h).
    """
    media = {profile: count for profile, count in wanted.items() if "+me" in profile.attributes}
    if sum(media.values()) > 1:
        listed = " + ".join(f"{count} x {profile.name}" for profile, count in media.items())
        return f"{listed} want the media extensions, which one instance of a GPU can have"
    everything = next((profile for profile in media if "+me.all" in profile.attributes), None)
    if everything is not None:
        others = ", ".join(one.name for one in wanted if one is not everything and "-me" not in one.attributes)
        if others:
            return f"{everything.name} takes all media engines and can stand only beside -me profiles, not {others}"
    for profile, count in wanted.items():
        if count > profile.most:
            return f"{count} x {profile.name} are wanted and the board can have {profile.most}"
    return None


@lru_cache(maxsize=256)
def _shapes(board: Board) -> tuple[Leftover, tuple[tuple[Profile, ...], ...], tuple[int | None, ...]]:
    """What still fits is counted in shapes: equal size, compute slices and starts; +me is left to its own limit.

    A limit on a number can only bind where the board has fewer of a shape than places for it.
    """
    groups: dict[tuple[int, int, tuple[int, ...]], list[Profile]] = {}
    for profile in board.profiles:
        if "+me" not in profile.attributes:
            groups.setdefault((profile.size, profile.slices, profile.starts), []).append(profile)
    ordered = sorted(groups.items())
    limits: list[int | None] = []
    for (size, _slices, starts), profiles in ordered:
        most = sum(profile.most for profile in profiles)
        apart, end = 0, 0
        for start in starts:
            if start >= end:
                apart, end = apart + 1, start + size
        limits.append(most if most < apart else None)
    shapes = tuple(Shape(size, starts) for (size, _slices, starts), _profiles in ordered)
    return Leftover(shapes), tuple(tuple(profiles) for _key, profiles in ordered), tuple(limits)


def _leftover(board: Board, kinds: tuple[Kind, ...], counts: tuple[int, ...], standing: tuple[Standing, ...]) -> Any:
    leftover, groups, limits = _shapes(board)
    caps = tuple(
        None if limit is None else max(0, limit - sum(n for kind, n in zip(kinds, counts) if kind.profile in group))
        for group, limit in zip(groups, limits)
    )
    slices = max([board.slices, *(instance.start + instance.size for instance in standing)])
    whole = (1 << slices) - 1
    return lambda mask: leftover.of(whole & ~mask, caps)

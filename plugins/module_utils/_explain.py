# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why wanted instances do not fit on a board, and what would: one sentence, found exactly."""

from __future__ import annotations

from functools import lru_cache
from operator import mul

from ansible_collections.gpufleet.mig.plugins.module_utils._placement import Option, Search, bits
from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import Board, Profile
from ansible_collections.gpufleet.mig.plugins.module_utils._transition import Kind, broken_limit, transition

Bag = tuple[tuple[Profile, int], ...]
"""Profiles and how many of each, in the order of the board, none with 0."""

SHOWN = 3
"""How many of the nearest layouts are named."""


def explain(board: Board, who: str, kinds: tuple[Kind, ...], counts: tuple[int, ...]) -> str:
    """The sentence for wanted instances that `transition` has found impossible."""
    bag = _bag(board, kinds, counts)
    if _fits(board, bag):
        places = _places(board, bag)
        return f"{who} cannot hold this layout: {_pinned_conflict(board, kinds, counts)}; it fits as {places}."
    nearest = "; or ".join(_text(near) for near in nearest_layouts(board, bag)[:SHOWN])
    return f"{who} cannot hold {_text(bag)}: {_conflict(board, bag)}; nearest that fits: {nearest}."


def _bag(board: Board, kinds: tuple[Kind, ...], counts: tuple[int, ...]) -> Bag:
    totals = dict.fromkeys(board.profiles, 0)
    for kind, count in zip(kinds, counts):
        totals[kind.profile] += count
    return tuple((profile, count) for profile, count in totals.items() if count)


def _text(bag: Bag) -> str:
    ordered = sorted(bag, key=lambda item: item[0].shape, reverse=True)
    return " + ".join(f"{count} x {profile.name}" for profile, count in ordered) or "no instance"


def _free_kinds(bag: Bag) -> tuple[tuple[Kind, ...], tuple[int, ...]]:
    ordered = sorted(bag, key=lambda item: item[0].name)
    return tuple(Kind(profile, None, ()) for profile, _count in ordered), tuple(count for _profile, count in ordered)


@lru_cache(maxsize=256)
def _shape_search(board: Board) -> tuple[Search, dict[Profile, int], int]:
    """Profiles that cover the same places are one kind here, so that few searches answer for all variants."""
    shapes: dict[tuple[int, tuple[int, ...]], int] = {}
    number = {profile: shapes.setdefault((profile.size, profile.starts), len(shapes)) for profile in board.profiles}
    options = tuple(tuple(Option(start, size) for start in starts) for size, starts in shapes)
    return Search(options), number, len(shapes)


@lru_cache(maxsize=65536)
def _fits(board: Board, bag: Bag) -> bool:
    """Whether the profiles fit on the empty board together, wherever they may be put."""
    if sum(profile.size * count for profile, count in bag) > board.slices:
        return False
    if broken_limit(dict(bag)) is not None:
        return False
    search, number, shapes = _shape_search(board)
    counts = [0] * shapes
    for profile, count in bag:
        counts[number[profile]] += count
    return bool(search.masks(tuple(counts)))


def _places(board: Board, bag: Bag) -> str:
    found = transition(board, *_free_kinds(bag), ())
    return ", ".join(f"{one.profile.name} at {one.start}" for one in found.placed) if found else ""


def _pinned_conflict(board: Board, kinds: tuple[Kind, ...], counts: tuple[int, ...]) -> str:
    """Which given starts are in each other's way, or leave no room for the others."""
    pinned = [
        (kind.profile, kind.start) for kind, n in zip(kinds, counts) if kind.start is not None for _same in range(n)
    ]
    for number, (profile, start) in enumerate(pinned):
        for other, at in pinned[:number]:
            if bits(start, profile.size) & bits(at, other.size):
                return (
                    f"{other.name} at {at} ({_slices(at, other.size)}) overlaps "
                    f"{profile.name} at {start} ({_slices(start, profile.size)})"
                )
    taken = ", ".join(f"{profile.name} at {start} ({_slices(start, profile.size)})" for profile, start in pinned)
    free = _text(_bag(board, *_unpinned(kinds, counts)))
    return f"the given starts, {taken}, leave no room for {free}"


def _unpinned(kinds: tuple[Kind, ...], counts: tuple[int, ...]) -> tuple[tuple[Kind, ...], tuple[int, ...]]:
    kept = [(kind, count) for kind, count in zip(kinds, counts) if kind.start is None]
    return tuple(kind for kind, _count in kept), tuple(count for _kind, count in kept)


def _slices(start: int, size: int) -> str:
    return f"slice {start}" if size == 1 else f"slices {start}-{start + size - 1}"


def _conflict(board: Board, bag: Bag) -> str:
    """The smallest part of the bag that does not fit by itself, and what its profiles need."""
    limit = broken_limit(dict(sorted(bag, key=lambda item: item[0].name)))
    if limit is not None:
        many = [profile for profile, count in bag if count > profile.most and "+me" not in profile.attributes]
        return f"{limit} ({_needs(many[0])})" if many and many[0].name in limit else limit
    core = {profile: min(count, board.slices + 1) for profile, count in bag}
    for profile in sorted(core, key=lambda profile: profile.shape):
        while core[profile] and not _fits(board, _trimmed(core, profile)):
            core[profile] -= 1
    part = tuple((profile, count) for profile, count in core.items() if count)
    need = sum(profile.size * count for profile, count in part)
    where = ", ".join(_needs(profile) for profile, _count in part)
    them = "they" if frozenset(part) == frozenset(bag) else _text(part)
    if need > board.slices:
        return f"{them} need {need} of its {board.slices} memory slices ({where})"
    return f"{them} overlap wherever they are put ({where})"


def _trimmed(core: dict[Profile, int], profile: Profile) -> Bag:
    return tuple((one, count - (one is profile)) for one, count in core.items() if count - (one is profile))


def _needs(profile: Profile) -> str:
    if profile.size == 1:
        return f"{profile.name} takes one of slices {', '.join(map(str, profile.starts))}"
    places = " or ".join(f"{start}-{start + profile.size - 1}" for start in profile.starts)
    return f"{profile.name} takes slices {places}"


def nearest_layouts(board: Board, bag: Bag) -> list[Bag]:
    """The layouts that fit with the fewest profiles changed (one put in the place of another, or left out).

    Of these only the ones to which nothing of what was left out can be added, and the likest first: the same number of
    compute slices, of memory slices, of extra attributes.
    """
    wanted = sum(count for _profile, count in bag)
    parts = _grown(board, [()], dict(bag), board.slices)
    largest = sum(count for _profile, count in parts[0])
    everything = dict.fromkeys(board.profiles, board.slices)
    found = {frozenset(near): near for part in parts for near in _grown(board, [part], everything, wanted - largest)}
    return sorted(found.values(), key=lambda near: _unlikeness(bag, near))


def _grown(board: Board, seeds: list[Bag], supply: dict[Profile, int], room: int) -> list[Bag]:
    """All the largest bags that fit and are a seed with at most `room` profiles of `supply` added."""
    profiles = tuple(supply)
    most = tuple(min(count, profile.most) for profile, count in supply.items())
    sizes = tuple(profile.size for profile in profiles)
    level = [tuple(dict(seed).get(profile, 0) for profile in profiles) for seed in seeds]
    for _added in range(room):
        larger: list[tuple[int, ...]] = []
        tried: set[tuple[int, ...]] = set()
        for counts in level:
            free = board.slices - sum(map(mul, counts, sizes))
            for at, count in enumerate(counts):
                if count == most[at] or sizes[at] > free:
                    continue
                more = (*counts[:at], count + 1, *counts[at + 1 :])
                if more not in tried:
                    tried.add(more)
                    if _fits(board, _bag_of(profiles, more)):
                        larger.append(more)
        if not larger:
            break
        level = larger
    return [_bag_of(profiles, counts) for counts in level]


def _bag_of(profiles: tuple[Profile, ...], counts: tuple[int, ...]) -> Bag:
    return tuple((profile, count) for profile, count in zip(profiles, counts) if count)


def _unlikeness(bag: Bag, near: Bag) -> tuple[object, ...]:
    def totals(of: Bag) -> tuple[int, int, int]:
        return (
            sum(profile.slices * count for profile, count in of),
            sum(profile.size * count for profile, count in of),
            sum(bool(profile.attributes) * count for profile, count in of),
        )

    apart = tuple(abs(one - other) for one, other in zip(totals(bag), totals(near)))
    return (*apart, sorted((profile.name, count) for profile, count in near))

# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put things of fixed size at allowed starts of a small board so that nothing overlaps: exact, and best by what stays.

A mask is a set of slices as the bits of an int. The search walks the slices from left to right; at each it leaves the
slice free or starts one thing there, and equal remainders are solved once. Boards have at most 12 slices.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from operator import mul
from typing import Callable

Counts = tuple[int, ...]


@dataclass(frozen=True)
class Option:
    """One place where a thing may be: `start` and `size` in slices, `gain` what is saved by having it just there."""

    start: int
    size: int
    gain: int = 0


def bits(start: int, size: int) -> int:
    """The mask of `size` slices from `start`."""
    return ((1 << size) - 1) << start


class Search:
    """All ways to place `counts[k]` things of each kind k at the options of that kind."""

    def __init__(self, options: tuple[tuple[Option, ...], ...]) -> None:
        starts = sorted({option.start for ours in options for option in ours})
        self._starts = starts
        self._here: list[list[tuple[int, Option, int]]] = [[] for _start in starts]
        for kind, ours in enumerate(options):
            for option in ours:
                # the index of the first start behind the thing that is placed here
                behind = bisect_left(starts, option.start + option.size)
                self._here[starts.index(option.start)].append((kind, option, behind))
        self._known: dict[tuple[int, Counts], dict[int, int]] = {}
        self._least = tuple(min((option.size for option in ours), default=1) for ours in options)
        end = max((option.start + option.size for ours in options for option in ours), default=0)
        self._left = [end - start for start in starts]

    def masks(self, counts: Counts, at: int = 0) -> dict[int, int]:
        """The masks that the things can cover from the start number `at` on, each with the most gain; empty: no way."""
        if not any(counts):
            return {0: 0}
        if at == len(self._starts):
            return {}
        known = self._known.get((at, counts))
        if known is not None:
            return known
        if sum(map(mul, counts, self._least)) > self._left[at]:
            return {}
        found = dict(self.masks(counts, at + 1))
        for kind, option, behind in self._here[at]:
            if not counts[kind]:
                continue
            mask, gain = bits(option.start, option.size), option.gain
            for rest, more in self.masks(_less(counts, kind), behind).items():
                if gain + more > found.get(mask | rest, -1):
                    found[mask | rest] = gain + more
        self._known[(at, counts)] = found
        return found

    def best(self, counts: Counts, leftover: Callable[[int], tuple[int, ...]]) -> list[tuple[int, int, int]] | None:
        """The best way as [(start, size, kind)] by start, None where there is no way.

        Most gain first, then the largest `leftover(mask)`, then the lowest [(start, kind)].
        """
        found = self.masks(counts)
        if not found:
            return None
        gain = max(found.values())
        targets = [mask for mask, worth in found.items() if worth == gain]
        if len(targets) > 1:
            ranked = [(leftover(mask), mask) for mask in targets]
            largest = max(rank for rank, _mask in ranked)
            targets = [mask for rank, mask in ranked if rank == largest]
        return self._lowest(counts, set(targets), gain)

    def _lowest(self, counts: Counts, targets: set[int], gain: int) -> list[tuple[int, int, int]]:
        """The lowest [(start, size, kind)] whose mask is one of `targets` and that gains `gain`; one must exist."""
        placed: list[tuple[int, int, int]] = []
        at = 0
        while any(counts):
            for kind, option, behind in self._here[at]:
                if not counts[kind]:
                    continue
                mask, less = bits(option.start, option.size), _less(counts, kind)
                rest = self.masks(less, behind)
                left = {target & ~mask for target in targets if target & mask == mask}
                left = {target for target in left if rest.get(target) == gain - option.gain}
                if left:
                    placed.append((option.start, option.size, kind))
                    counts, targets, gain, at = less, left, gain - option.gain, behind
                    break
            else:
                at += 1
        return placed


def _less(counts: Counts, kind: int) -> Counts:
    return (*counts[:kind], counts[kind] - 1, *counts[kind + 1 :])


@dataclass(frozen=True)
class Shape:
    """Profiles that cover the same places, in slices."""

    size: int
    starts: tuple[int, ...]


class Leftover:
    """What still fits into free slices: the lexicographically largest list of shapes, the largest shape first.

    `shapes` are given from small to large; a list names each by its place in there.
    """

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        self._shapes = shapes
        self._places = [[bits(start, shape.size) for start in shape.starts] for shape in shapes]
        self._known: dict[tuple[int, tuple[int | None, ...]], tuple[int, ...]] = {}

    def of(self, free: int, caps: tuple[int | None, ...]) -> tuple[int, ...]:
        """The list for the mask `free` when at most `caps[n]` of shape n may still be made (None: no limit)."""
        known = self._known.get((free, caps))
        if known is None:
            known = self._known[(free, caps)] = self._largest(free, caps)
        return known

    def _largest(self, free: int, caps: tuple[int | None, ...]) -> tuple[int, ...]:
        for number in range(len(self._shapes) - 1, -1, -1):
            cap = caps[number]
            fitting = [place for place in self._places[number] if place & free == place]
            if fitting and cap != 0:
                fewer = caps if cap is None else (*caps[:number], cap - 1, *caps[number + 1 :])
                return (number, *max(self.of(free & ~place, fewer) for place in fitting))
        return ()

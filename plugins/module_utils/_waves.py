# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order nodes are changed, how many at a time, and what capacity is left meanwhile. Pure.

Gates are cumulative: ``[1, "10%", "25%", "100%"]`` on 40 nodes means that 1, then 4, then 10, then 40 nodes are done.
Only nodes that change are counted; what is already as wanted belongs to no wave.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

Node = TypeVar("Node")
Capacity = Mapping[str, int]
"""Resource key and how many the node offers."""

DEFAULT_GATES = (1, "10%", "25%", "100%")
_GATE = re.compile(r"(\d+)\s*(%?)")


def read_waves(raw: Any, total: int) -> list[int]:
    """How many of `total` nodes are done at the end of each wave, rising, the last one `total`; [] for no node.

    A share is rounded up. A gate that an earlier one has already reached falls away (10 % of 5 nodes behind a canary),
    and what lies beyond the last gate is a wave of its own. MigError where a gate cannot be read, is 0 or over 100 %,
    or where one is lower than another of its kind before it.
    """
    if isinstance(raw, (str, bytes, Mapping)) or not isinstance(raw, Sequence) or not raw:
        raise MigError(f'mig_waves is a list of gates such as [1, "10%", "100%"], not {raw!r}. Nothing was changed.')
    highest = {"": 0, "%": 0}
    gates: list[int] = []
    for gate in raw:
        number, unit = _read(gate)
        if number < highest[unit]:
            raise MigError(
                f"mig_waves counts what is done in all, so it cannot go down from {highest[unit]}{unit} to {gate}: "
                "write the gates in rising order. Nothing was changed."
            )
        highest[unit] = number
        done = min(total, -(-total * number // 100) if unit else number)
        if done > (gates[-1] if gates else 0):
            gates.append(done)
    if total > (gates[-1] if gates else 0):
        gates.append(total)
    return gates


def _read(gate: Any) -> tuple[int, str]:
    found = None if isinstance(gate, (bool, float)) else _GATE.fullmatch(str(gate).strip())
    if found is None:
        raise MigError(
            f'mig_waves has {gate!r}, which is neither a number of nodes nor a share such as "10%". '
            "Nothing was changed."
        )
    number, unit = int(found[1]), found[2]
    if number == 0 or (unit and number > 100):
        raise MigError(
            f"mig_waves has {gate!r}; a gate is at least one node, or more than 0% and at most 100%. "
            "Nothing was changed."
        )
    return number, unit


def split(nodes: Sequence[Node], gates: Sequence[int]) -> list[list[Node]]:
    """The nodes of each wave, in their order, for gates as `read_waves` gives them for ``len(nodes)``."""
    return [list(nodes[begin:end]) for begin, end in zip([0, *gates], gates)]


def batch_sizes(gates: Sequence[int], at_once: int) -> list[int]:
    """How many nodes go at a time, one after the other: at most `at_once`, and none across a gate."""
    sizes: list[int] = []
    for begin, end in zip([0, *gates], gates):
        sizes += [min(at_once, end - at) for at in range(begin, end, at_once)]
    return sizes


def behind(sizes: Sequence[int], places: int) -> list[int]:
    """What is left of the batches behind the first `places`."""
    rest = []
    for size in sizes:
        taken = min(size, places)
        places -= taken
        if size > taken:
            rest.append(size - taken)
    return rest


def spread(nodes: Sequence[Node], sizes: Sequence[int], zone: Callable[[Node], str]) -> list[Node]:
    """`nodes` so that the nodes of a batch, or single ones that follow each other, are of different zones if possible.

    Taking from the zones that have most left leaves what comes later the most choice: if all batches can be without two
    of a zone, they are. Within a zone the order stays.
    """
    alone = max(sizes, default=1) == 1
    left: dict[str, list[Node]] = {}
    for node in nodes:
        left.setdefault(zone(node), []).append(node)
    result: list[Node] = []
    for size in sizes:
        used: dict[str, int] = {}
        for _place in range(size):
            last = zone(result[-1]) if result and alone else None
            # of equals the zone whose node comes first
            chosen = min(left, key=lambda name: (used.get(name, 0), name == last, -len(left[name])))
            used[chosen] = used.get(chosen, 0) + 1
            result.append(left[chosen].pop(0))
            if not left[chosen]:
                del left[chosen]
    return result


def capacity_left(
    waves: Sequence[Sequence[str]],
    others: Sequence[str],
    before: Mapping[str, Capacity],
    after: Mapping[str, Capacity],
    max_unavailable: int,
) -> list[dict[str, int]]:
    """For each wave the least that new pods can count on per resource key while it is worked on.

    `others` are nodes that do not change. `before` and `after` say what each node offers. Within a wave the order is
    left open: each node counts with the smaller of the two, and the `max_unavailable` largest of these are out.
    """
    keys = sorted({key for side in (before, after) for offered in side.values() for key in offered})
    result = []
    for number, wave in enumerate(waves):
        done = [node for earlier in waves[:number] for node in earlier]
        still = [node for later in waves[number + 1 :] for node in later]
        left = {}
        for key in keys:
            here = sorted(min(_of(before, node, key), _of(after, node, key)) for node in wave)
            left[key] = (
                sum(_of(before, node, key) for node in [*others, *still])
                + sum(_of(after, node, key) for node in done)
                + sum(here[: max(0, len(here) - max_unavailable)])
            )
        result.append(left)
    return result


def _of(side: Mapping[str, Capacity], node: str, key: str) -> int:
    return int(side.get(node, {}).get(key, 0))

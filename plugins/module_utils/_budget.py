# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many nodes may be out at a time, and what must stay available meanwhile. Pure.

Counted over the whole fleet of a cluster, never over the hosts of a run: a run with --limit has the same budget. A node
that is not Ready or is cordoned by anybody is out already. Resources are whole nvidia.com counts, as node status has
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

Offers = Mapping[str, int]


@dataclass(frozen=True)
class Node:
    """What one node gives to the fleet now: `offers` {resource key: count} while it is ready and schedulable."""

    name: str
    ready: bool
    schedulable: bool
    offers: Offers

    @property
    def out(self) -> bool:
        return not (self.ready and self.schedulable)


@dataclass(frozen=True)
class Change:
    """One node of the roll-out: what it offers before its change and after it."""

    name: str
    before: Offers
    after: Offers


def read_max_unavailable(raw: Any, fleet: int) -> int:
    """How many of `fleet` nodes may be out: a number from 1 on, or a share such as "10%", rounded down but at least 1.

    MigError where it is neither.
    """
    text = str(raw).strip()
    share = text[:-1] if text.endswith("%") else text
    if isinstance(raw, bool) or not share.isdigit() or int(share) < 1 or (text.endswith("%") and int(share) > 100):
        raise MigError(
            f"mig_max_unavailable is {raw!r}; write a number of nodes from 1 on, or a share from 1% to 100%. "
            "Nothing was changed."
        )
    return max(1, fleet * int(share) // 100) if text.endswith("%") else int(share)


def read_min_available(raw: Any) -> dict[str, int]:
    """The minimum per resource key; MigError where it is no mapping of nvidia.com keys to numbers."""
    if not isinstance(raw or {}, Mapping):
        raise MigError(f"mig_min_available is {raw!r}; write {{nvidia.com/gpu: 8}}. Nothing was changed.")
    for key, least in (raw or {}).items():
        if not str(key).startswith("nvidia.com/") or isinstance(least, bool) or not str(least).isdigit():
            raise MigError(
                f"mig_min_available says {key}: {least!r}; write nvidia.com keys with whole numbers. "
                "Nothing was changed."
            )
    return {str(key): int(least) for key, least in (raw or {}).items()}


def offered(nodes: Iterable[Node]) -> dict[str, int]:
    """What the nodes that are not out offer together, per key."""
    total: dict[str, int] = {}
    for node in nodes:
        for key, count in () if node.out else node.offers.items():
            total[key] = total.get(key, 0) + count
    return total


def objections(
    fleet: Sequence[Node], taking: Iterable[str], max_unavailable: int, min_available: Mapping[str, int]
) -> list[str]:
    """Why the nodes `taking` may not be taken out now; [] where they may."""
    chosen = set(taking)
    out = sorted(node.name for node in fleet if node.out and node.name not in chosen)
    found = []
    if len(out) + len(chosen) > max_unavailable:
        found.append(
            f"{len(chosen)} more of {len(fleet)} GPU nodes would be out beside {_some(out)} "
            f"(not Ready or cordoned), and mig_max_unavailable is {max_unavailable}"
        )
    left = offered(node for node in fleet if node.name not in chosen)
    for key, least in sorted(min_available.items()):
        if left.get(key, 0) < least:
            found.append(
                f"without {_some(sorted(chosen))} the fleet offers {left.get(key, 0)} {key}, "
                f"and mig_min_available is {least}"
            )
    return found


def order(
    fleet: Sequence[Node],
    changes: Sequence[Change],
    sizes: Sequence[int],
    minimum: Mapping[str, int],
    arrange: Callable[[Sequence[Change]], Sequence[Change]] = list,
) -> list[str]:
    """The names of `changes` in an order in which the fleet never falls under `minimum`: the given one if it holds.

    The nodes of one batch (`sizes`, as batches follow each other) are out together. Nodes that are out now and are not
    changed stay out. `arrange` puts changes into an order that is better for another reason; it is taken where the
    minimum permits. MigError where there is no order. For one key and one node at a time the orders tried hold the best
    there is, and "no order" is exact; for several keys, or several nodes at a time, each key's best order is tried.
    """
    tries = [list(changes), *(_best(changes, key) for key in sorted(minimum))]
    tries = [*(list(arrange(tried)) for tried in tries), *tries]
    failures = [(_first_shortage(fleet, tried, sizes, minimum), tried) for tried in tries]
    for shortage, tried in failures:
        if shortage is None:
            return [change.name for change in tried]
    for key in sorted(minimum):
        lone = _first_shortage(fleet, _best(changes, key), [1] * len(changes), {key: minimum[key]})
        if lone is not None:
            raise MigError(
                f"No order of the {len(changes)} nodes keeps {minimum[key]} {key} available: with {_some(lone[1])} "
                f"out there are {lone[2]}. Lower mig_min_available, change fewer nodes or add capacity first; "
                "nothing was changed."
            )
    key, names, left = failures[0][0] or ("", [], 0)
    raise MigError(
        f"No order was found that keeps all of mig_min_available at once: in the order of the inventory {key} falls to "
        f"{left} with {_some(names)} out. Lower mig_min_available or change fewer nodes at a time; nothing was changed."
    )


def _best(changes: Sequence[Change], key: str) -> list[Change]:
    """Nodes that gain of the key first, those with the least to take out leading; then losers, the least loss last.

    The exchange argument of two-phase job orders: gainers by what they take out (before), losers by what they give back
    (after), largest first.
    """
    gains = [change for change in changes if change.after.get(key, 0) >= change.before.get(key, 0)]
    loses = [change for change in changes if change.after.get(key, 0) < change.before.get(key, 0)]
    gains.sort(key=lambda change: change.before.get(key, 0))
    loses.sort(key=lambda change: -change.after.get(key, 0))
    return [*gains, *loses]


def _first_shortage(
    fleet: Sequence[Node], changes: Sequence[Change], sizes: Sequence[int], minimum: Mapping[str, int]
) -> tuple[str, list[str], int] | None:
    """(key, nodes that are out, what is left then) where the order first falls under the minimum."""
    changed = {change.name for change in changes}
    now = offered(node for node in fleet if node.name not in changed)
    for change in changes:
        for key, count in change.before.items():
            now[key] = now.get(key, 0) + count
    at = 0
    for size in sizes:
        batch = changes[at : at + size]
        at += size
        for change in batch:
            for key, count in change.before.items():
                now[key] -= count
        for key, least in sorted(minimum.items()):
            if now.get(key, 0) < least:
                return key, [change.name for change in batch], now.get(key, 0)
        for change in batch:
            for key, count in change.after.items():
                now[key] = now.get(key, 0) + count
    return None


def _some(names: Sequence[str]) -> str:
    """A few names for a sentence."""
    if not names:
        return "none"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

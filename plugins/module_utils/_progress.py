# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines under the key `gpufleet` of a roll-out's results, and what a person reads of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

ENDS = {
    "done": "done",
    "skipped": "passed over",
    "put_back": "failed, was put back as it was",
    "not_changed": "failed, was not changed",
    "failed": "failed, was left cordoned",
}
"""Phases in which a node is done with, as people read them."""

GOOD_ENDS = ("done", "skipped")

STEPS = {
    "looking": "is read again",
    "changing": "its instances are changed",
    "publishing": "its publishers start anew",
    "undoing": "is put back",
}


def line(
    node: str | None,
    phase: str,
    *,
    seconds: float = 0.0,
    wave: int | None = None,
    digests: Mapping[str, str | None] | None = None,
    blockers: Iterable[Mapping[str, Any]] = (),
    evicted: Iterable[str] = (),
    error: str | None = None,
) -> dict[str, Any]:
    """One node's entry. `digests` are those of the layout before and of the target, as far as they are known."""
    known = digests or {}
    return {
        "node": node,
        "phase": phase,
        "wave": wave,
        "digests": {"before": known.get("before"), "target": known.get("target")},
        "blockers": [dict(blocker) for blocker in blockers],
        "evicted": list(evicted),
        "seconds": round(seconds, 2),
        "error": error,
    }


def duration(seconds: float) -> str:
    """42 s, 4 min 10 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Progress:
    """Turns lines into sentences; remembers which nodes there are and how long those took that are done."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._ended: set[str] = set()
        self._places: dict[str, Mapping[str, Any]] = {}

    def feed(self, said: Mapping[str, Any], now: float) -> str | None:
        """The sentence for the terminal, None where the line is only for the log."""
        node = str(said["node"])
        if said["phase"] == "waiting":
            self._started = now if self._started is None else self._started
            self._places[node] = said
            return None
        if node not in self._places:
            return None  # a call outside of a roll-out
        words = self._words(said) if "number" in said else self._in_the_way(said)
        if words is None:
            return None
        if said["phase"] in ENDS and "number" in said:
            self._ended.add(node)
        place = self._places[node]
        where = f"[wave {place['wave']}/{place['waves']}] node {place['number']}/{place['of']} {node}"
        return f"{where} {words} ({self._times(now)})"

    @staticmethod
    def _words(said: Mapping[str, Any]) -> str | None:
        phase = said["phase"]
        if phase in ENDS:
            return f"{ENDS[phase]} after {duration(said['seconds'])}"
        if phase == "evicting":
            pods = len(said["evicting"])
            return f"evicting {pods} pod{'' if pods == 1 else 's'}" if pods else "no pod has to go"
        return STEPS.get(phase)

    @staticmethod
    def _in_the_way(said: Mapping[str, Any]) -> str | None:
        """Lines of modules, which have no place among the nodes, are for the log except for what blocked them."""
        found = [f"{one['name']} {one['reason']}" for one in said["blockers"]]
        return f"blocked: {'; '.join(found)}" if found else None

    def _times(self, now: float) -> str:
        elapsed = 0.0 if self._started is None else now - self._started
        said = f"{duration(elapsed)} elapsed"
        left = len(self._places) - len(self._ended)
        if self._ended and left:
            said += f", about {_about(elapsed / len(self._ended) * left)} left"
        return said


def _about(seconds: float) -> str:
    """An estimate: no seconds where there are minutes."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Maintenance windows: days, hours and a time zone, over midnight and through changes of summer time. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})")
_HINT = 'write {days: [sat, sun], from: "22:00", to: "04:00", timezone: Europe/Berlin}. Nothing was changed.'


@dataclass(frozen=True)
class Window:
    """It opens on `days` (0 is Monday) at minute `begin` of the day, and closes at the next minute `end` of a day."""

    days: frozenset[int]
    begin: int
    end: int
    zone: ZoneInfo


def read_windows(raw: Any) -> list[Window]:
    """One window or a list of them; [] where there is none, which means at any time. MigError for anything else."""
    if raw is None or raw in ("", [], {}):
        return []
    return [_read(one) for one in (raw if isinstance(raw, Sequence) and not isinstance(raw, str) else [raw])]


def _read(raw: Any) -> Window:
    if not isinstance(raw, Mapping):
        raise MigError(f"mig_window has {raw!r}; {_HINT}")
    unknown = sorted(set(map(str, raw)) - {"days", "from", "to", "timezone"})
    if unknown:
        raise MigError(f"mig_window has the unknown key {', '.join(unknown)}; {_HINT}")
    days = raw.get("days", list(DAYS))
    names = [str(day).lower()[:3] for day in days] if isinstance(days, Sequence) and not isinstance(days, str) else []
    if not names or not set(names) <= set(DAYS):
        raise MigError(f"mig_window has days: {days!r}, which is no list of mon, tue, wed, thu, fri, sat, sun; {_HINT}")
    begin, end = _minute(raw.get("from", "00:00")), _minute(raw.get("to", "24:00"))
    if begin in (end, DAY_MINUTES):
        raise MigError(f"mig_window opens at {raw.get('from')} and closes at {raw.get('to')}; {_HINT}")
    zone = str(raw.get("timezone", "UTC"))
    try:
        return Window(frozenset(map(DAYS.index, names)), begin, end, ZoneInfo(zone))
    except (KeyError, ValueError, OSError) as error:
        raise MigError(
            f"mig_window has timezone: {zone}, which the controller does not know; write a name such as Europe/Berlin, "
            "and install tzdata on the controller where it lacks time zones. Nothing was changed."
        ) from error


def _minute(raw: Any) -> int:
    """YAML reads 22:00 without quotes as 1320, which is the minute of the day."""
    if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw <= DAY_MINUTES:
        return raw
    found = _CLOCK.fullmatch(str(raw).strip())
    minute = int(found[1]) * 60 + int(found[2]) if found and int(found[2]) < 60 else -1
    if not 0 <= minute <= DAY_MINUTES:
        raise MigError(f"mig_window has the time {raw!r}; {_HINT}")
    return minute


def opens_in(windows: Sequence[Window], now: datetime) -> float:
    """Seconds until one of the windows is open, 0.0 where one is. `now` has a time zone."""
    return max(
        0.0, min(((begin - now).total_seconds() for begin, end in _turns(windows, now) if end > now), default=0.0)
    )


def next_opening(windows: Sequence[Window], now: datetime) -> str:
    """When the next one opens, in words and in its own time zone."""
    begin, window = min(
        ((begin, window) for window in windows for begin, end in _turns([window], now) if end > now),
        key=lambda turn: turn[0],
    )
    local = begin.astimezone(window.zone)
    return f"{DAYS[local.weekday()].capitalize()} {local:%Y-%m-%d %H:%M} {window.zone.key}"


def _turns(windows: Sequence[Window], now: datetime) -> list[tuple[datetime, datetime]]:
    """Every opening and closing from the day before to a week later."""
    turns = []
    for window in windows:
        today = now.astimezone(window.zone).date()
        for day in (today + timedelta(days=offset) for offset in range(-1, 9)):
            if day.weekday() in window.days:
                closes = day if window.end > window.begin else day + timedelta(days=1)
                turns.append((_instant(day, window.begin, window.zone), _instant(closes, window.end, window.zone)))
    return [(begin, end) for begin, end in turns if begin < end]  # clocks put forward may go past a whole window


def _instant(day: date, minute: int, zone: ZoneInfo) -> datetime:
    """When clocks in the zone first show that minute, or go past it because they are put forward."""
    wall = datetime.combine(day, time()) + timedelta(minutes=minute)
    found = min(wall.replace(tzinfo=zone, fold=fold).astimezone(timezone.utc) for fold in (0, 1))
    while found.astimezone(zone).replace(tzinfo=None) < wall:
        found += timedelta(minutes=1)
    return found

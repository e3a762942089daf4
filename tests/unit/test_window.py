# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""When a maintenance window is open, against a clock that is watched through the days around a change of time."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._window import next_opening, opens_in, read_windows

BERLIN = "Europe/Berlin"
CHANGES = [
    (BERLIN, date(2026, 3, 29)),  # 2:00 becomes 3:00
    (BERLIN, date(2026, 10, 25)),  # 3:00 becomes 2:00
    ("Australia/Lord_Howe", date(2026, 10, 4)),  # half an hour forward at 2:00
    ("Asia/Kolkata", date(2026, 1, 1)),
]
HOURS = [("22:00", "04:00"), ("02:30", "05:00"), ("01:00", "02:30"), ("02:15", "02:45"), ("00:00", "24:00")]


def utc(year: int, month: int, day: int, hour: int = 0) -> datetime:
    return datetime(year, month, day, hour, tzinfo=timezone.utc)


@pytest.mark.parametrize(("zone", "day"), CHANGES)
@pytest.mark.parametrize(("begin", "end"), HOURS)
def test_it_opens_and_closes_when_a_clock_first_shows_the_time(zone: str, day: date, begin: str, end: str) -> None:
    """The watched clock is never put back: what it has shown it has shown."""
    opening_day = day - timedelta(days=1) if begin == "22:00" else day
    (window,) = read_windows(
        {"days": [opening_day.strftime("%a")], "from": begin, "to": end, "timezone": zone},
    )
    opens, closes = (
        datetime.combine(opening_day, time()) + timedelta(hours=int(clock[:2]), minutes=int(clock[3:]))
        for clock in (begin, end)
    )
    if closes < opens:
        closes += timedelta(days=1)
    now = datetime.combine(opening_day, time(12), tzinfo=timezone.utc) - timedelta(days=1)
    shown = datetime.min
    seen = set()
    for _quarter in range(4 * 60):
        shown = max(shown, now.astimezone(ZoneInfo(zone)).replace(tzinfo=None))
        is_open = opens_in([window], now) == 0.0
        assert is_open == (opens <= shown < closes), (now, shown)
        seen.add(is_open)
        now += timedelta(minutes=15)
    in_the_gap = (zone, day, begin) == (BERLIN, CHANGES[0][1], "02:15")  # no clock showed that half-hour
    assert seen == ({False} if in_the_gap else {True, False})


def test_it_says_when_it_opens() -> None:
    windows = read_windows(
        [
            {"days": ["sat", "sun"], "from": "22:00", "to": "04:00", "timezone": BERLIN},
            {"days": ["fri"], "from": 1320, "to": "23:00"},  # 1320 is how YAML reads 22:00 without quotes
        ]
    )
    wednesday = utc(2026, 11, 25, 15)
    assert next_opening(windows[:1], wednesday) == "Sat 2026-11-28 22:00 Europe/Berlin"
    assert opens_in(windows[:1], wednesday) == timedelta(days=3, hours=6).total_seconds()
    assert next_opening(windows, wednesday) == "Fri 2026-11-27 22:00 UTC"
    assert opens_in(windows, utc(2026, 11, 30, 2)) == 0.0  # Sunday's, on Monday at 3:00 in Berlin
    assert opens_in(windows, utc(2026, 11, 30, 3)) > 0


@pytest.mark.parametrize("raw", [None, [], {}, ""])
def test_without_a_window_it_is_always_open(raw: Any) -> None:
    assert read_windows(raw) == []
    assert opens_in([], utc(2026, 1, 1)) == 0.0


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("at night", "'at night'"),
        ([{"from": "22:00"}, 7], "has 7"),
        ({"form": "22:00"}, "unknown key form"),
        ({"days": ["someday"]}, "days: ['someday']"),
        ({"days": "sat"}, "days: 'sat'"),
        ({"days": []}, "days: []"),
        ({"from": "25:00"}, "'25:00'"),
        ({"from": "12:60"}, "'12:60'"),
        ({"from": 79230}, "79230"),
        ({"from": True}, "True"),
        ({"from": "10:00", "to": "10:00"}, "opens at 10:00 and closes at 10:00"),
        ({"from": "24:00", "to": "10:00"}, "opens at 24:00"),
        ({"timezone": "Europe/Berlln"}, "timezone: Europe/Berlln"),
        ({"timezone": "../../etc/passwd"}, "timezone: ../../etc/passwd"),
    ],
)
def test_what_is_no_window_is_refused(raw: Any, said: str) -> None:
    with pytest.raises(MigError, match=r"^mig_window .*Nothing was changed\.$") as refusal:
        read_windows(raw)
    assert said in str(refusal.value)

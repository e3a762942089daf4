# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a layout cannot be, and the nearest ones that can: compared with a list of all layouts of the board."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.planner_support import PLANNABLE, allowed, gpu

from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host

BOARDS = ["a100-sxm4-40gb", "h100-sxm5-80gb", "a30", "rtx-pro-6000-server"]
Bag = frozenset[tuple[str, int]]


@cache
def every_layout(key: str) -> frozenset[Bag]:
    """All multisets of profiles that fit on the empty board: placement by placement, with no cleverness."""
    rows = {row["name"]: row for row in gpu(key)["profiles"]}
    states: set[tuple[frozenset[int], Bag]] = {(frozenset(), frozenset())}
    fresh = set(states)
    while fresh:
        grown = set()
        for taken, bag in fresh:
            for name, row in rows.items():
                for start in row["starts"]:
                    place = frozenset(range(start, start + row["size"]))
                    if place & taken:
                        continue
                    more = Counter(dict(bag))
                    more[name] += 1
                    if allowed(rows, list(more.elements())):
                        grown.add((taken | place, frozenset(more.items())))
        fresh = grown - states
        states |= fresh
    return frozenset(bag for _taken, bag in states)


def named(text: str) -> Counter[str]:
    if text == "no instance":
        return Counter()
    return Counter({name: int(count) for count, name in re.findall(r"(\d+) x (\S+?)(?= \+|$)", text)})


def nearest_of(reason: str) -> list[Counter[str]]:
    listed = reason.split("nearest that fits: ", 1)[1].rstrip(".")
    return [named(one) for one in listed.split("; or ")]


def compare(key: str, wanted: Counter[str]) -> None:
    """The planner's verdict on counts, and that nothing nearer than what it names fits."""
    plan = plan_host([gpu(key)], [{"gpus": 0, "instances": dict(wanted)}])
    layouts = every_layout(key)
    assert plan["feasible"] is (frozenset(wanted.items()) in layouts)
    if plan["feasible"]:
        return
    reason = plan["reason"]
    assert reason.startswith(f"GPU 0 ({gpu(key)['name']}) cannot hold ")
    assert named(reason.split("cannot hold ", 1)[1].split(":", 1)[0]) == wanted
    size = wanted.total()

    fitting = [bag for bag in (Counter(dict(one)) for one in layouts) if bag.total() <= size]
    stay = max((wanted & bag).total() for bag in fitting)
    offered = nearest_of(reason)
    assert 1 <= len(offered) <= 3
    for bag in offered:
        assert frozenset(bag.items()) in layouts
        assert (wanted & bag).total() == stay
        # what could not be as wanted is replaced where something fits in its place, not just left out
        assert not any(bag < larger for larger in fitting)
        assert plan_host([gpu(key)], [{"gpus": 0, "instances": dict(bag)}])["feasible"]
    assert len({frozenset(bag.items()) for bag in offered}) == len(offered)


@st.composite
def counts(draw: st.DrawFn) -> tuple[str, Counter[str]]:
    key = draw(st.sampled_from(BOARDS))
    names = [row["name"] for row in gpu(key)["profiles"]]
    return key, Counter(draw(st.lists(st.sampled_from(names), min_size=1, max_size=6)))


@settings(max_examples=60, deadline=None)
@given(counts())
def test_nothing_nearer_than_what_is_named_fits(drawn: tuple[str, Counter[str]]) -> None:
    compare(*drawn)


@pytest.mark.full
@settings(max_examples=3000, deadline=None)
@given(counts())
def test_nothing_nearer_for_very_many(drawn: tuple[str, Counter[str]]) -> None:
    compare(*drawn)


@pytest.mark.full
@pytest.mark.parametrize("key", PLANNABLE)
def test_verdict_on_every_multiset_of_up_to_five_plain_profiles(key: str) -> None:
    names = [row["name"] for row in gpu(key)["profiles"] if not re.search(r"[+-]", row["name"])]
    layouts = every_layout(key)
    for size in range(1, 6):
        for bag in itertools.combinations_with_replacement(names, size):
            wanted = Counter(bag)
            plan = plan_host([gpu(key)], [{"gpus": 0, "instances": dict(wanted)}])
            assert plan["feasible"] is (frozenset(wanted.items()) in layouts), wanted


@pytest.mark.parametrize(
    ("key", "instances", "parts"),
    [
        (
            "h100-sxm5-80gb",
            {"3g.40gb": 2, "1g.10gb": 1},
            ["they need 9 of its 8 memory slices", "3g.40gb takes slices 0-3 or 4-7", "nearest that fits: "],
        ),
        ("h100-sxm5-80gb", {"2g.20gb": 4}, ["4 x 2g.20gb are wanted and the board can have 3"]),
        ("h100-sxm5-80gb", {"4g.40gb": 2}, ["2 x 4g.40gb are wanted and the board can have 1"]),
        ("h100-sxm5-80gb", {"1g.10gb": 1000000}, ["the board can have 7", "nearest that fits: 7 x 1g.10gb"]),
        ("a30", {"4g.24gb": 1, "1g.6gb": 1}, ["they need 5 of its 4 memory slices"]),
        ("h100-sxm5-80gb", {"1g.10gb+me": 2}, ["2 x 1g.10gb+me want the media extensions, which one instance"]),
        (
            "rtx-pro-6000-server",
            {"1g.24gb+me.all": 1, "1g.24gb": 1},
            ["1g.24gb+me.all takes all media engines and can stand only beside -me profiles, not 1g.24gb"],
        ),
    ],
)
def test_the_sentence_names_the_conflict(key: str, instances: dict[str, int], parts: list[str]) -> None:
    plan = plan_host([gpu(key)], [{"gpus": 0, "instances": instances}])
    assert plan["feasible"] is False
    assert plan["changed"] is False
    assert plan["gpus"][0]["reason"] == plan["reason"]
    for part in parts:
        assert part in plan["reason"]
    assert plan["reason"].endswith(".")


@pytest.mark.parametrize(
    ("items", "part"),
    [
        (
            [{"profile": "3g.40gb", "start": 0}, {"profile": "2g.20gb", "start": 2}],
            "3g.40gb at 0 (slices 0-3)",
        ),
        (
            [{"profile": "1g.10gb", "start": 5}, {"profile": "1g.10gb", "start": 1}, {"profile": "3g.40gb"}],
            "1g.10gb at 5 (slice 5), leave no room for 1 x 3g.40gb",
        ),
        ([{"profile": "1g.10gb", "start": 5}, {"profile": "1g.10gb", "start": 5}], "1g.10gb at 5 (slice 5) overlaps"),
    ],
)
def test_given_starts_that_conflict_come_with_places_that_fit(items: list[dict[str, Any]], part: str) -> None:
    plan = plan_host([gpu("h100-sxm5-80gb")], [{"gpus": 0, "instances": items}])
    assert part in plan["reason"]
    places = re.findall(r"(\S+) at (\d+)", plan["reason"].split("it fits as ", 1)[1])
    placed = [{"profile": name, "start": int(start)} for name, start in places]
    assert sorted(one["profile"] for one in placed) == sorted(one["profile"] for one in items)
    assert plan_host([gpu("h100-sxm5-80gb")], [{"gpus": 0, "instances": placed}])["feasible"]


def test_gpus_that_cannot_for_the_same_reason_share_a_sentence() -> None:
    gpus = [gpu("h100-sxm5-80gb", index) for index in range(3)]
    plan = plan_host(gpus, [{"gpus": [0, 2], "instances": {"7g.80gb": 2}}, {"gpus": 1, "instances": {"1g.10gb": 1}}])
    assert [one["feasible"] for one in plan["gpus"]] == [False, True, False]
    assert plan["reason"].startswith("GPU 0, 2 (NVIDIA H100 80GB HBM3) cannot hold 2 x 7g.80gb: ")
    assert plan["reason"].count("cannot hold") == 1
    assert "the board can have 1 (7g.80gb takes slices 0-7)" in plan["reason"]
    assert plan["after"] == gpus

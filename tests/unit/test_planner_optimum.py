# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner against an independent brute force: nothing that could stay is destroyed, and ties fall as documented."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.planner_support import (
    FACTS,
    Best,
    Gpu,
    Wanted,
    board_size,
    brute_force,
    gpu,
    instance,
    standing,
    table,
    what_fits,
)

from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host

GEOMETRIES = {"seven_slice_with_double": "a100-sxm4-40gb", "a30": "a30", "rtx_pro_6000": "rtx-pro-6000-server"}


def as_layout(wanted: list[Wanted]) -> list[dict[str, Any]]:
    """The layout that a user would write for these instances."""
    items = []
    for one in wanted:
        item: dict[str, Any] = {"profile": one.profile}
        if one.start is not None:
            item["start"] = one.start
        if one.compute is not None:
            item["compute_instances"] = list(one.compute)
        items.append(item)
    return [{"gpus": 0, "instances": items}]


def measured(on: Gpu, plan: dict[str, Any]) -> Best:
    """What a plan does, read from its public shape alone."""
    public, after = plan["gpus"][0], plan["after"][0]
    there = {(one["profile"], one["start"]): one for one in on["instances"]}
    busy = sum(one["busy"] for one in public["destroy"])
    compute = sum(len(there[(one["profile"], one["start"])]["compute_instances"]) for one in public["destroy"])
    for one in public["keep"]:
        old = there[(one["profile"], one["start"])]
        gone = {ci["ci_id"] for ci in one["compute"]["destroy"]}
        held = {ci["ci_id"] for ci in old["compute_instances"] if ci["processes"]}
        busy += bool(gone & held if held else old["busy"] and gone)
        compute += len(gone)
    taken = {n for one in after["instances"] for n in range(one["start"], one["start"] + one["size"])}
    rows = {row["name"]: row for row in on["profiles"]}
    places = sorted(
        (one["start"], one["profile"], tuple(sorted(ci["profile"] for ci in one["compute_instances"])))
        for one in after["instances"]
    )
    beside = what_fits(table(rows), frozenset(range(board_size(on, rows))) - taken)
    return Best((busy, len(public["destroy"]), compute), beside, tuple(places))


def compare(on: Gpu, wanted: list[Wanted]) -> None:
    plan = plan_host([on], as_layout(wanted))
    best = brute_force(on, sorted(wanted, key=repr))
    assert plan["feasible"] == (best is not None), plan["reason"]
    if best is not None:
        assert measured(on, plan) == best
        assert plan_host(plan["after"], as_layout(wanted))["changed"] is False
        assert plan["changed"] == bool(
            best.destroyed[1] or best.destroyed[2] or plan["gpus"][0]["create"] or creates_inside(plan)
        )


def creates_inside(plan: dict[str, Any]) -> bool:
    return any(one["compute"]["create"] for one in plan["gpus"][0]["keep"])


def maximal_layouts(geometry: str) -> list[list[tuple[str, int]]]:
    """The facts' list of full layouts with this product's names: [("3g.20gb", 0), ...]."""
    on = gpu(GEOMETRIES[geometry])
    plain = [row for row in on["profiles"] if not re.search(r"[+-]", row["name"])]
    smallest = {}
    for row in sorted(plain, key=lambda row: -row["size"]):
        smallest[f"{row['compute_slices']}g"] = row["name"]
    double = [
        row["name"] for row in plain if row["compute_slices"] == 1 and row["size"] == 2 and len(row["starts"]) == 4
    ]
    names = {**smallest, "1g.double": double[0] if double else ""}
    layouts = []
    for layout in FACTS["valid_full_layouts"][geometry]["layouts"]:
        pairs = [item.split("@") for item in layout]
        layouts.append([(names[name], int(start)) for name, start in pairs])
    return layouts


def compare_transitions(geometry: str, every: int) -> int:
    """Every n-th pair of maximal layouts: from the first at its places to the second's profiles."""
    layouts = maximal_layouts(geometry)
    targets = list({frozenset(Counter(name for name, _start in layout).items()) for layout in layouts})
    targets.sort(key=lambda target: sorted(target))
    number = 0
    for source in layouts:
        for target in targets:
            number += 1
            if number % every == 0:
                empty = gpu(GEOMETRIES[geometry])
                on = standing(empty, *(instance(empty, name, start) for name, start in source))
                compare(on, [Wanted(name) for name, count in sorted(target) for _ in range(count)])
    return number


@pytest.mark.parametrize(("geometry", "every"), [("seven_slice_with_double", 61), ("a30", 1), ("rtx_pro_6000", 1)])
def test_transitions_between_maximal_layouts(geometry: str, every: int) -> None:
    assert compare_transitions(geometry, every) >= 20


@pytest.mark.full
def test_all_transitions_between_maximal_layouts() -> None:
    assert compare_transitions("seven_slice_with_double", 1) == 78 * 38


@st.composite
def compute_inside(draw: st.DrawFn, row: dict[str, Any]) -> list[tuple[str, int, bool]]:
    """Compute instances of one GPU instance, also at places where the planner would not put them."""
    inside, at = [], 0
    while at < row["compute_slices"] and draw(st.booleans()):
        fitting = [ci for ci in row["compute_profiles"] if at + ci["slices"] <= row["compute_slices"]]
        ci = draw(st.sampled_from(fitting))
        inside.append((ci["name"], at, draw(st.booleans())))
        at += ci["slices"]
    return inside


@st.composite
def packing(draw: st.DrawFn, on: Gpu) -> list[tuple[dict[str, Any], int]]:
    """Some profiles at places where they do not overlap, few or as many as fit."""
    placed: list[tuple[dict[str, Any], int]] = []
    free = set(range(12))
    rows = sorted(on["profiles"], key=lambda row: row["size"])
    for _ in range(draw(st.integers(0, 9))):
        row = rows[draw(st.integers(0, len(rows) - 1))]
        start = draw(st.sampled_from(row["starts"]))
        place = set(range(start, start + row["size"]))
        if place <= free:
            free -= place
            placed.append((row, start))
    return placed


@st.composite
def gpus(draw: st.DrawFn) -> Gpu:
    """A GPU with a random layout, some of it busy, some without compute instances."""
    on = gpu(draw(st.sampled_from([*GEOMETRIES.values(), "h200-141gb"])))
    instances = []
    for row, start in draw(packing(on)):
        inside = None if draw(st.booleans()) else draw(compute_inside(row))
        instances.append(instance(on, row["name"], start, busy=draw(st.booleans()), compute=inside))
    return standing(on, *instances)


@st.composite
def wishes(draw: st.DrawFn, on: Gpu) -> list[Wanted]:
    """What may fit (another packing, most of it without places), or be there in part, or anything at all."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        rows = draw(st.lists(st.sampled_from(on["profiles"]), min_size=1, max_size=5))
        places = [(row, draw(st.sampled_from(row["starts"]))) for row in rows]
    else:
        places = draw(packing(on))
    if kind == 3:
        by_name = {row["name"]: row for row in on["profiles"]}
        there = [(by_name[one["profile"]], one["start"]) for one in on["instances"]]
        places = places[:2] + there[: draw(st.integers(0, len(there)))]
    wanted = []
    for row, start in places[:6]:
        compute: tuple[str, ...] | None = None
        if draw(st.integers(0, 2)) == 0:
            compute = tuple(sorted(name for name, _at, _busy in draw(compute_inside(row))))
        wanted.append(Wanted(row["name"], start if draw(st.integers(0, 4)) == 0 else None, compute))
    return wanted


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_random_partial_layouts(data: st.DataObject) -> None:
    on = data.draw(gpus())
    compare(on, data.draw(wishes(on)))


@pytest.mark.full
@settings(max_examples=20000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_very_many_random_partial_layouts(data: st.DataObject) -> None:
    on = data.draw(gpus())
    compare(on, data.draw(wishes(on)))


def test_free_slices_keep_room_for_the_largest_profile() -> None:
    """Anti-fragmentation: three 1g could stand anywhere; they stand where a 4g still fits beside them."""
    plan = plan_host([gpu("h100-sxm5-80gb")], [{"gpus": "all", "instances": {"1g.10gb": 3}}])
    assert [one["start"] for one in plan["gpus"][0]["create"]] == [4, 5, 6]


def test_a_busy_instance_outweighs_any_number_of_idle_ones() -> None:
    on = gpu("h100-sxm5-80gb")
    busy = instance(on, "1g.10gb", 1, busy=True)
    on = standing(on, busy, *(instance(on, "1g.10gb", start) for start in (4, 5, 6)))
    plan = plan_host([on], [{"gpus": 0, "instances": {"1g.10gb": 3, "3g.40gb": 1}}])["gpus"][0]
    assert [one["start"] for one in plan["keep"]] == [1]
    assert [one["start"] for one in plan["destroy"]] == [4, 5, 6]
    assert plan["blockers"] == []


def test_an_instance_that_must_go_is_no_dead_end() -> None:
    """Found by the random sweep: what the smaller instance would save at its place is one more than all there is."""
    on = gpu("a100-sxm4-40gb")
    on = standing(on, instance(on, "1g.5gb", 0), instance(on, "1g.5gb+me", 4))
    compare(on, [Wanted("1g.5gb+me", 4, ()), Wanted("2g.10gb", 0), Wanted("1g.5gb")])

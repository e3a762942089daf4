# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""{count: n} against a brute force over every assignment of GPUs to entries."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from unit.planner_support import Gpu, gpu, instance, no_mig_gpu, standing

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host

Entry = dict[str, Any]

WISHES: list[Entry] = [
    {"mig": "disabled"},
    {"mig": "enabled"},
    {"preset": "all-balanced"},
    {"preset": "all-1g.10gb"},
    {"instances": {"1g.10gb": 2}},
    {"instances": {"1g.10gb": 1, "3g.40gb": 1}},
    {"instances": [{"profile": "3g.40gb", "start": 4}]},
    {"instances": [{"profile": "4g.40gb", "compute_instances": ["1c.4g.40gb", "2c.4g.40gb"]}]},
    {"instances": {"2g.20gb": 4}},  # nowhere: three fit
]


def cost(plan: dict[str, Any]) -> tuple[int, ...]:
    """How much a host is disturbed, in the order of the design, read from the plan's public shape."""
    total = [0] * 8
    for one in plan["gpus"]:
        inside = [kept["compute"] for kept in one["keep"]]
        busy_inside = {blocker["instance"] for blocker in one["blockers"]} - {
            f"{gone['profile']} at {gone['start']} of GPU {one['index']}" for gone in one["destroy"]
        }
        parts = (
            not one["feasible"],
            sum(gone["busy"] for gone in one["destroy"]) + len(busy_inside),
            len(one["destroy"]),
            one["_compute_gone"] + sum(len(compute["destroy"]) for compute in inside),
            one["reset"] + 2 * one["reboot"],
            one["mode"]["set"],
            len(one["create"]),
            sum(len(compute["create"]) for compute in inside),
        )
        total = [a + b for a, b in zip(total, parts, strict=True)]
    return tuple(total)


def priced(gpus: Sequence[Gpu], plan: dict[str, Any]) -> tuple[int, ...]:
    """The cost of a plan; how many compute instances go with a GPU instance stands in the GPUs before."""
    there = {(on["index"], one["start"]): len(one["compute_instances"]) for on in gpus for one in on["instances"]}
    for one in plan["gpus"]:
        one["_compute_gone"] = sum(there[(one["index"], gone["start"])] for gone in one["destroy"])
    return cost(plan)


def candidates(gpus: Sequence[Gpu], entries: Sequence[Entry]) -> Iterator[tuple[int | None, ...]]:
    """Every way to give each GPU one of the counted entries or none, with exactly the numbers wanted."""
    for picks in itertools.product([None, *range(len(entries))], repeat=len(gpus)):
        if all(picks.count(number) == entry["gpus"]["count"] for number, entry in enumerate(entries)):
            yield picks


def explicit(gpus: Sequence[Gpu], entries: Sequence[Entry], picks: Sequence[int | None], rest: Entry | None) -> Any:
    """The layout that says by index what `picks` says."""
    layout = [{**entries[pick], "gpus": on["index"]} for on, pick in zip(gpus, picks, strict=True) if pick is not None]
    left = [on["index"] for on, pick in zip(gpus, picks, strict=True) if pick is None and capable(on)]
    if rest is not None and left:
        layout.append({**rest, "gpus": left})
    return layout


def capable(on: Gpu) -> bool:
    return bool(on["mig_mode"]["current"] != "unsupported")


def cheapest(
    gpus: Sequence[Gpu], entries: Sequence[Entry], rest: Entry | None
) -> tuple[tuple[int, ...], list[tuple[int | None, ...]]] | None:
    """The least cost of any assignment and those that have it; None where no assignment is possible at all."""
    found: dict[tuple[int, ...], list[tuple[int | None, ...]]] = {}
    for picks in candidates(gpus, entries):
        pairs = list(zip(gpus, picks, strict=True))
        left = [on for on, pick in pairs if pick is None and capable(on)]
        if not all(fits_model(on, entries[pick]) for on, pick in pairs if pick is not None):
            continue
        if rest and rest.get("mig") != "disabled" and not left:  # an entry that hits no GPU is an error
            continue
        try:
            plan = plan_host(gpus, explicit(gpus, entries, picks, rest))
        except LayoutError:
            continue
        found.setdefault(priced(gpus, plan), []).append(picks)
    if not found:
        return None
    least = min(found)
    return least, found[least]


def fits_model(on: Gpu, entry: Entry) -> bool:
    return "model" not in entry["gpus"] or entry["gpus"]["model"] == on["name"].replace("NVIDIA ", "")


@st.composite
def hosts(draw: st.DrawFn) -> list[Gpu]:
    gpus: list[Gpu] = []
    for index in range(draw(st.integers(2, 5))):
        key = draw(st.sampled_from(["h100-sxm5-80gb", "h100-sxm5-80gb", "a100-sxm4-80gb", "a30", ""]))
        mode = draw(st.sampled_from(["enabled", "enabled", "disabled"]))
        if not key:
            gpus.append(no_mig_gpu(index))
            continue
        on = gpu(key, index, mode=mode, pending=draw(st.sampled_from([None, None, "enabled"])))
        instances, at = [], 0
        rows = {row["name"]: row for row in on["profiles"]}
        while mode == "enabled" and at < 8 and draw(st.booleans()):
            here = [row for row in rows.values() if at in row["starts"] and "+" not in row["name"]]
            if not here:
                break
            row = draw(st.sampled_from(here))
            instances.append(instance(on, row["name"], at, busy=draw(st.booleans())))
            at += row["size"]
        gpus.append(standing(on, *instances))
    return gpus


@st.composite
def counted(draw: st.DrawFn) -> list[Entry]:
    entries = []
    for _ in range(draw(st.integers(1, 2))):
        selector: dict[str, Any] = {"count": draw(st.sampled_from([1, 1, 2]))}
        if draw(st.integers(0, 4)) == 0:
            selector["model"] = draw(st.sampled_from(["H100 80GB HBM3", "A100-SXM4-80GB"]))
        entries.append({**draw(st.sampled_from(WISHES)), "gpus": selector})
    return entries


def compare(gpus: list[Gpu], entries: list[Entry], rest: Entry | None) -> None:
    layout = [*entries, *([{**rest, "gpus": "rest"}] if rest else [])]
    best = cheapest(gpus, entries, rest)
    if best is None:
        with pytest.raises(LayoutError):
            plan_host(gpus, layout)
        event("refused")
        return
    plan = plan_host(gpus, layout)
    event("planned" if len(best[1]) == 1 else "planned, by index among equals")
    assert priced(gpus, plan) == best[0]
    if len(entries) == 1:
        # of equally cheap choices the one with the lowest indices
        lowest = min(best[1], key=lambda picks: [on["index"] for on, p in zip(gpus, picks, strict=True) if p == 0])
        assert plan_host(gpus, explicit(gpus, entries, lowest, rest))["after"] == plan["after"]
    for other in itertools.permutations(layout):
        assert plan_host(gpus, list(other)) == plan_host(gpus, layout)
    if plan["feasible"]:
        assert plan_host(plan["after"], layout)["changed"] is False


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(hosts(), counted(), st.sampled_from([None, {"mig": "disabled"}, {"instances": {"1g.10gb": 1}}]))
def test_counts_are_placed_where_they_disturb_least(gpus: list[Gpu], entries: list[Entry], rest: Entry | None) -> None:
    compare(gpus, entries, rest)


@pytest.mark.full
@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(hosts(), counted(), st.sampled_from([None, {"mig": "disabled"}, {"instances": {"1g.10gb": 1}}]))
def test_very_many_counts(gpus: list[Gpu], entries: list[Entry], rest: Entry | None) -> None:
    compare(gpus, entries, rest)


def h100(index: int, *instances: tuple[str, int, bool]) -> Gpu:
    on = gpu("h100-sxm5-80gb", index)
    return standing(on, *(instance(on, name, start, busy=busy) for name, start, busy in instances))


def test_a_gpu_that_is_right_already_is_picked() -> None:
    gpus = [h100(0), h100(1, ("3g.40gb", 0, True), ("3g.40gb", 4, False)), h100(2)]
    plan = plan_host(gpus, [{"gpus": {"count": 1}, "instances": {"3g.40gb": 2}}])
    assert plan["changed"] is False


def test_a_busy_gpu_is_left_over_where_the_rest_may_keep() -> None:
    gpus = [h100(0, ("7g.80gb", 0, True)), h100(1, ("7g.80gb", 0, False)), h100(2, ("1g.10gb", 0, False))]
    plan = plan_host(gpus, [{"gpus": {"count": 2}, "instances": {"2g.20gb": 3}}])
    assert [bool(one["destroy"]) for one in plan["gpus"]] == [False, True, True]
    assert all(not one["blockers"] for one in plan["gpus"])


def test_what_the_rest_becomes_counts_too() -> None:
    """GPU 0 costs as much as GPU 1 for the count, but as rest it would lose its busy instance."""
    gpus = [h100(0, ("7g.80gb", 0, True)), h100(1)]
    layout = [{"gpus": {"count": 1}, "instances": {"7g.80gb": 1}}, {"gpus": "rest", "mig": "disabled"}]
    plan = plan_host(gpus, layout)
    assert [one["mode"]["to"] for one in plan["gpus"]] == ["enabled", "disabled"]
    assert plan["gpus"][0]["destroy"] == []


def test_more_gpus_wanted_than_there_are() -> None:
    with pytest.raises(LayoutError, match=r"wants 3 GPUs, but only 2 that it could take are free\."):
        plan_host([h100(0), h100(1), no_mig_gpu(2)], [{"gpus": {"count": 3}, "instances": {"1g.10gb": 1}}])
    with pytest.raises(LayoutError, match="want 3 GPUs together, more than are free"):
        plan_host(
            [h100(0), h100(1)],
            [
                {"gpus": {"count": 2}, "instances": {"1g.10gb": 1}},
                {"gpus": {"count": 1}, "instances": {"2g.20gb": 1}},
            ],
        )


def test_gpus_named_by_others_are_not_picked() -> None:
    layout = [{"gpus": {"count": 1}, "instances": {"1g.10gb": 1}}, {"gpus": 0, "mig": "disabled"}]
    plan = plan_host([h100(0), h100(1)], layout)
    assert [len(one["create"]) for one in plan["gpus"]] == [0, 1]

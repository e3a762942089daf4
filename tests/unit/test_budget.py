# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""How many nodes may be out, what must stay available, and in which order nodes go."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from ansible_collections.gpufleet.mig.plugins.module_utils._budget import (
    Change,
    Node,
    objections,
    order,
    read_max_unavailable,
    read_min_available,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

GPU, SMALL = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"


def node(name: str, gpus: int = 8, *, ready: bool = True, schedulable: bool = True) -> Node:
    return Node(name, ready, schedulable, {GPU: gpus})


def test_nodes_that_others_took_out_count() -> None:
    fleet = [node("a"), node("b", schedulable=False), node("c", ready=False), node("d")]
    said = objections(fleet, ["a"], 2, {})
    assert len(said) == 1
    assert "b, c" in said[0]
    assert "mig_max_unavailable is 2" in said[0]
    assert objections(fleet, ["a"], 3, {}) == []


def test_a_node_that_is_out_already_is_counted_once_when_it_is_the_one_to_change() -> None:
    fleet = [node("a", ready=False), node("b")]
    assert objections(fleet, ["a"], 1, {GPU: 8}) == []
    assert objections(fleet, ["b"], 1, {}) != []


def test_the_minimum_is_what_stays_without_the_nodes_taken_and_without_those_that_are_out() -> None:
    fleet = [node("a"), node("b"), node("c", schedulable=False)]
    assert objections(fleet, ["a"], 9, {GPU: 8}) == []
    said = objections(fleet, ["a"], 9, {GPU: 9})
    assert said == ["without a the fleet offers 8 nvidia.com/gpu, and mig_min_available is 9"]
    assert objections(fleet, ["a"], 9, {SMALL: 1})  # a key that nobody offers is a minimum that is not held


@pytest.mark.parametrize(("raw", "count"), [(1, 1), ("3", 3), ("10%", 10), ("1%", 1), ("100%", 100), (" 5 ", 5)])
def test_numbers_and_shares(raw: Any, count: int) -> None:
    assert read_max_unavailable(raw, 100) == count
    assert read_max_unavailable("1%", 10) == 1  # never nothing at all: the roll-out could not go on


@pytest.mark.parametrize("raw", [0, -1, "0%", "101%", "many", True, None, 1.5])
def test_what_is_no_number_is_refused(raw: Any) -> None:
    with pytest.raises(MigError, match=r"mig_max_unavailable .* Nothing was changed"):
        read_max_unavailable(raw, 10)


@pytest.mark.parametrize("raw", [{"gpu": 8}, {GPU: "8 or so"}, {GPU: -1}, {GPU: True}, [GPU]])
def test_a_minimum_that_cannot_be_read_is_refused(raw: Any) -> None:
    with pytest.raises(MigError, match=r"mig_min_available .* Nothing was changed"):
        read_min_available(raw)
    assert read_min_available(None) == {}


def lowest(changes: tuple[Change, ...], key: str, base: int) -> int:
    """The least that is there at any time when the nodes go one by one in this order."""
    now = base + sum(change.before.get(key, 0) for change in changes)
    least = now
    for change in changes:
        least = min(least, now - change.before.get(key, 0))
        now += change.after.get(key, 0) - change.before.get(key, 0)
    return least


def test_the_order_is_as_good_as_the_best_of_all_orders() -> None:
    chance = random.Random(7)
    for _case in range(300):
        changes = [
            Change(f"n{number}", {GPU: chance.randint(0, 8)}, {GPU: chance.randint(0, 8)})
            for number in range(chance.randint(1, 5))
        ]
        base = chance.randint(0, 6)
        fleet = [node("other", base), *(Node(one.name, True, True, one.before) for one in changes)]
        best = max(lowest(tried, GPU, base) for tried in itertools.permutations(changes))
        names = order(fleet, changes, [1] * len(changes), {GPU: best})
        by_name = {one.name: one for one in changes}
        assert lowest(tuple(by_name[name] for name in names), GPU, base) >= best
        with pytest.raises(MigError, match=r"No order .* nothing was changed"):
            order(fleet, changes, [1] * len(changes), {GPU: best + 1})


def test_the_given_order_stays_where_it_holds() -> None:
    changes = [Change(name, {GPU: 1}, {GPU: 1}) for name in "cab"]
    fleet = [Node(one.name, True, True, one.before) for one in changes]
    assert order(fleet, changes, [1, 1, 1], {GPU: 2}) == ["c", "a", "b"]
    assert order(fleet, changes, [2, 1], {GPU: 1}) == ["c", "a", "b"]
    with pytest.raises(MigError, match=r"1 nvidia|falls to 1 with c, a out"):
        order(fleet, changes, [2, 1], {GPU: 2})

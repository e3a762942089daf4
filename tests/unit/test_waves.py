# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waves: gates over what is done in all, and the least that is left, compared with every order that can happen."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._waves import capacity_left, read_waves, split

USUAL = [1, "10%", "25%", "100%"]


@pytest.mark.parametrize(
    ("gates", "total", "done"),
    [
        (USUAL, 0, []),
        (USUAL, 1, [1]),
        (USUAL, 3, [1, 3]),  # 10 % and 25 % of three are the canary again
        (USUAL, 40, [1, 4, 10, 40]),
        (USUAL, 1250, [1, 125, 313, 1250]),  # 312.5 is rounded up
        ([5, "10%"], 20, [5, 20]),  # 10 % of 20 is already done, and what is left is a wave
        (["100%"], 7, [7]),
        ([2, 4], 3, [2, 3]),
        (["2", "50 %"], 10, [2, 5, 10]),  # as -e gives them
    ],
)
def test_gates_count_what_is_done_in_all(gates: list[Any], total: int, done: list[int]) -> None:
    assert read_waves(gates, total) == done


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        (["0%", "100%"], "'0%'; a gate is at least one node"),
        ([0], "0; a gate is at least one node"),
        (["150%"], "at most 100%"),
        (["25%", "10%"], "cannot go down from 25% to 10%"),
        ([4, 2], "cannot go down from 4 to 2"),
        (["ten"], "neither a number of nodes nor a share"),
        ([True], "neither a number"),
        ([0.5], "neither a number"),
        ([-1], "neither a number"),
        ([], "is a list of gates"),
        ("10%", "is a list of gates"),
        (None, "is a list of gates"),
    ],
)
def test_gates_that_cannot_be_read_are_refused_in_a_sentence(gates: Any, said: str) -> None:
    with pytest.raises(MigError, match="mig_waves") as refusal:
        read_waves(gates, 10)
    assert said in str(refusal.value)


@given(total=st.integers(0, 2000), shares=st.lists(st.integers(1, 100), min_size=1, max_size=6))
def test_waves_are_the_nodes_in_their_order(total: int, shares: list[int]) -> None:
    gates = read_waves([f"{share}%" for share in sorted(shares)], total)
    waves = split(range(total), gates)
    assert [node for wave in waves for node in wave] == list(range(total))
    assert all(waves)
    for share in shares:  # each gate lies where a share of what is to be done is done, and not later
        assert any(100 * done >= share * total for done in gates) or not total


def least_left(
    waves: list[list[str]], others: list[str], before: dict[str, int], after: dict[str, int], at_once: int
) -> list[int]:
    """Every order of each wave's nodes in batches of `at_once` is played; the least that was ever offered."""
    done: set[str] = set()
    found = []
    everyone = [*others, *(node for wave in waves for node in wave)]
    for wave in waves:
        least = None
        for order in itertools.permutations(wave):
            finished = set(done)
            for begin in range(0, len(order), at_once):
                out = set(order[begin : begin + at_once])
                offered = sum((after if node in finished else before)[node] for node in everyone if node not in out)
                least = offered if least is None else min(least, offered)
                finished |= out
        done |= set(wave)
        found.append(least or 0)
    return found


@settings(max_examples=150, deadline=None)
@given(
    sides=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=6),
    canary=st.integers(1, 3),
    at_once=st.integers(1, 3),
)
def test_no_order_ever_leaves_less_than_the_plan_says(sides: list[tuple[int, int]], canary: int, at_once: int) -> None:
    names = [f"gpu-{number}" for number in range(len(sides))]
    before = {name: {"nvidia.com/gpu": side[0]} for name, side in zip(names, sides, strict=True)}
    after = {name: {"nvidia.com/gpu": side[1]} for name, side in zip(names, sides, strict=True)}
    changing, others = names[:-1], names[-1:]
    after[others[0]] = before[others[0]]
    waves = split(changing, read_waves([canary, "100%"], len(changing)))
    said = [left.get("nvidia.com/gpu", 0) for left in capacity_left(waves, others, before, after, at_once)]
    played = least_left(
        waves,
        others,
        {name: offers["nvidia.com/gpu"] for name, offers in before.items()},
        {name: offers["nvidia.com/gpu"] for name, offers in after.items()},
        at_once,
    )
    assert all(promise <= real for promise, real in zip(said, played, strict=True)), (said, played)
    if at_once == 1 and sides[:-1] == [(b, b) for b, _a in sides[:-1]]:
        assert said == played  # where nothing changes but the absence, the figure is exact


def test_a_resource_that_only_comes_is_not_promised_before_it_is_there() -> None:
    before = {"a": {"nvidia.com/gpu": 8}, "b": {"nvidia.com/gpu": 8}}
    after: dict[str, dict[str, int]] = {name: {"nvidia.com/mig-1g.10gb": 56} for name in before}
    first, second = capacity_left([["a"], ["b"]], [], before, after, 1)
    assert first == {"nvidia.com/gpu": 8, "nvidia.com/mig-1g.10gb": 0}
    assert second == {"nvidia.com/gpu": 0, "nvidia.com/mig-1g.10gb": 56}

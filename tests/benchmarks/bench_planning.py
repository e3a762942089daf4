# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning time of one GPU: the worst case of every product, every cache of the planner emptied before each case.

Prints one JSON line per figure for tools/bench.sh. The naive figure writes down every way to place the wanted instances
and takes the best (the oracle of the unit tests), in the same process on the same cases.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections import Counter
from typing import Any

from benchmarks.figures import figure, packing
from unit.planner_support import PLANNABLE, Gpu, Wanted, brute_force, gpu, instance, standing

from ansible_collections.gpufleet.mig.plugins.module_utils import (
    _explain,
    _profiles,
    _transition,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host

TARGET_MS = 5.0
PAIRS = 4000
ABSURD = 30
NAIVE_CASES = 12
NAIVE_INSTANCES = 5
Case = tuple[Gpu, list[dict[str, Any]]]


def cold() -> None:
    """Forget everything that an earlier case left behind: a module run plans once, with nothing known."""
    for module in (_profiles, _transition, _explain):
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()


def case_of(key: str, rng: random.Random) -> Case:
    """What stands (some of it busy) and what is wanted: another packing, by counts or with some places given."""
    on = gpu(key)
    there = [instance(on, name, start, busy=rng.random() < 0.3) for name, start in packing(on["profiles"], rng)]
    wanted: list[dict[str, Any]] = []
    for name, start in packing(on["profiles"], rng):
        item: dict[str, Any] = {"profile": name}
        if rng.random() < 0.2:
            item["start"] = start
        row = next(row for row in on["profiles"] if row["name"] == name)
        if rng.random() < 0.2 and row["compute_slices"] > 1:
            item["compute_instances"] = [row["compute_profiles"][0]["name"]] * row["compute_slices"]
        wanted.append(item)
    if rng.random() < 0.15:  # one too many: the explanation is part of the time that a user waits
        wanted.append({"profile": rng.choice(on["profiles"])["name"]})
    return standing(on, *there), [{"gpus": 0, "instances": wanted}]


def fixed_cases(key: str) -> list[Case]:
    """Layouts that people use, on an empty board and on one full of the smallest profile."""
    on = gpu(key)
    smallest = min(on["profiles"], key=lambda row: int(row["size"]))
    full, at = [], 0
    for start in smallest["starts"]:
        if start >= at:
            full.append(instance(on, smallest["name"], start, busy=start % 2 == 0))
            at = start + smallest["size"]
    layouts: list[dict[str, Any]] = [{"gpus": 0, "preset": "all-balanced"}]
    layouts += [{"gpus": 0, "preset": f"all-{row['name']}"} for row in on["profiles"]]
    layouts += [{"gpus": 0, "instances": {row["name"]: 1 for row in on["profiles"]}}]
    layouts += [{"gpus": 0, "instances": {row["name"]: row["count"] + 1}} for row in on["profiles"]]
    return [(state, [layout]) for state in (on, standing(on, *full)) for layout in layouts]


def absurd_case(key: str, rng: random.Random) -> Case:
    """Counts far beyond the board: the search for the nearest layouts that fit is the longest work there is."""
    counts = {row["name"]: rng.choice([0, 0, 1, 1, 2, 3, 7, 50]) for row in gpu(key)["profiles"]}
    return gpu(key), [{"gpus": 0, "instances": counts}]


def measured(case: Case) -> float:
    """Milliseconds of one cold planning: the best of three, each cold, so that a pause of the machine is no figure."""
    best = float("inf")
    for _ in range(3):
        cold()
        begun = time.perf_counter()
        plan_host([case[0]], case[1])
        best = min(best, time.perf_counter() - begun)
    return best * 1000


def naive_ratio() -> tuple[float, float, float]:
    """Sums of milliseconds on equal cases: planner (cold), brute force, and how many times as long the latter takes."""
    rng = random.Random(7)
    ours = naive = 0.0
    done = 0
    while done < NAIVE_CASES:
        on = gpu(("a100-sxm4-40gb", "h100-sxm5-80gb")[done % 2])
        there = [instance(on, name, start) for name, start in packing(on["profiles"], rng)]
        wanted = Counter(name for name, _start in packing(on["profiles"], rng))
        if wanted.total() < NAIVE_INSTANCES:
            continue
        done += 1
        state = standing(on, *there)
        ours += measured((state, [{"gpus": 0, "instances": dict(wanted)}]))
        begun = time.perf_counter()
        brute_force(state, [Wanted(name) for name in sorted(wanted.elements())])
        naive += (time.perf_counter() - begun) * 1000
    return ours, naive, naive / ours


def main() -> int:
    gc.disable()  # of the measured part only the planner's own work is to be seen; a module run hardly collects
    rng = random.Random(20260101)
    everything: list[float] = []
    worst: tuple[float, str, Any] = (0.0, "", None)
    for key in PLANNABLE:
        random_cases = [case_of(key, rng) for _ in range(PAIRS // len(PLANNABLE) + 1)]
        for case in [*fixed_cases(key), *random_cases, *(absurd_case(key, rng) for _ in range(ABSURD))]:
            taken = measured(case)
            everything.append(taken)
            if taken > worst[0]:
                worst = (taken, key, case[1])
    gc.enable()
    good = figure("plan one GPU, worst", worst[0], "ms", TARGET_MS, product=worst[1], layout=worst[2])
    figure("plan one GPU, median", statistics.median(everything), "ms", cases=len(everything))
    figure("plan one GPU, 99 of 100 within", statistics.quantiles(everything, n=100)[98], "ms")
    eight = [{**gpu("h100-sxm5-80gb", index), "instances": []} for index in range(8)]
    cold()
    begun = time.perf_counter()
    plan_host(eight, [{"gpus": {"count": 4}, "instances": {"1g.10gb": 7}}, {"gpus": "rest", "preset": "all-balanced"}])
    figure("plan 8 GPUs with a count, cold", (time.perf_counter() - begun) * 1000, "ms")
    ours, naive, ratio = naive_ratio()
    figure("naive search of the same cases", ratio, "times", planner_ms=round(ours, 2), naive_ms=round(naive, 2))
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())

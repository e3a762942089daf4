# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning a whole fleet in one filter call: 1,250 hosts of 8 GPUs, each with other instances standing and wanted.

Prints one JSON line per figure for tools/bench.sh. The call plans, predicts resources and labels before and after,
draws the slices and lays out the waves; the input is made before the clock starts, and every cache is cold.
"""

from __future__ import annotations

import random
import time
from typing import Any

from benchmarks.figures import figure, packing
from unit.planner_support import gpu, instance, standing

from ansible_collections.gpufleet.mig.plugins.filter.fleet_plan import fleet_plan
from ansible_collections.gpufleet.mig.plugins.filter.plan_document import plan_document

HOSTS, GPUS = 1250, 8
TARGET_S = 10.0
PRODUCTS = ("a100-sxm4-40gb", "a100-sxm4-80gb", "h100-sxm5-80gb", "h200-141gb", "b200-180gb", "a30")
FACTS = {"driver_version": "580.82.07", "cuda_version": "13.0", "machine": "unknown", "gpu_mode": "compute"}


def some_host(number: int, rng: random.Random) -> dict[str, Any]:
    product = rng.choice(PRODUCTS)
    gpus, layout = [], []
    for index in range(GPUS):
        on = {**gpu(product, index), "uuid": f"GPU-{number}-{index}"}
        there = [instance(on, name, start, busy=rng.random() < 0.1) for name, start in packing(on["profiles"], rng)]
        gpus.append(standing(on, *there))
        wanted: dict[str, int] = {}
        for name, _start in packing(on["profiles"], rng):
            wanted[name] = wanted.get(name, 0) + 1
        layout.append({"gpus": index, "instances": wanted})
    return {"host": f"gpu-{number:04d}", "gpus": gpus, "facts": FACTS, "layout": layout}


def main() -> int:
    rng = random.Random(20260101)
    hosts = [some_host(number, rng) for number in range(HOSTS)]
    begun, worked = time.perf_counter(), time.process_time()
    plan = fleet_plan(hosts)
    took, cpu = time.perf_counter() - begun, time.process_time() - worked
    states = {state: number for state, number in plan["fleet"]["hosts"].items() if number}
    good = figure(f"plan {HOSTS} hosts x {GPUS} GPUs, one filter call", took, "s", TARGET_S, **states)
    figure("  of that, CPU time", cpu, "s", **plan["fleet"]["instances"])
    begun = time.perf_counter()
    length = len(plan_document(plan)) + len(plan_document(plan, "markdown"))
    figure("  its text and Markdown", time.perf_counter() - begun, "s", megabytes=round(length / 1e6, 1))
    refused = plan["fleet"]["hosts"]["refused"]
    return 0 if good and not refused else 1


if __name__ == "__main__":
    raise SystemExit(main())

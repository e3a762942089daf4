# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks share: how a figure is printed, GPUs cut at random, mig_layout as a user starts it.

tools/bench.sh runs them, with the collection and tests/ on Python's path.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from integration.modules.simulated_host import MODULES, ROOT, SimulatedHost

STOPWATCH = f"""
import sys, time
from {MODULES} import mig_layout
begun = time.perf_counter()
try:
    mig_layout.main()
finally:
    print(time.perf_counter() - begun, file=sys.stderr)
"""


def figure(name: str, value: float, unit: str, target: float | None = None, **more: Any) -> bool:
    """Print one figure for tools/bench.sh; whether it is within its target."""
    good = target is None or value <= target
    print(json.dumps({"name": name, "value": round(value, 3), "unit": unit, "target": target, "ok": good, **more}))
    return good


def packing(rows: list[dict[str, Any]], rng: random.Random) -> list[tuple[str, int]]:
    """Some instances at places where they do not overlap; how full the board gets is left to chance."""
    free, placed, media = set(range(16)), [], False
    for _ in range(rng.randint(0, 12)):
        row = rng.choice(rows)
        start = rng.choice(row["starts"])
        place = set(range(start, start + row["size"]))
        if place <= free and not (media and "+me" in row["name"]):
            media = media or "+me" in row["name"]
            free -= place
            placed.append((row["name"], start))
    return placed


@dataclass(frozen=True)
class Run:
    """One run of mig_layout in a process of its own: its answer, seconds from main() to exit, and of the process."""

    answer: dict[str, Any]
    main_s: float
    process_s: float


def run_layout(host: SimulatedHost, layout: Any) -> Run:
    """mig_layout on a simulated host, alone, as ansible-core's developers' guide says."""
    file = host.folder / "args.json"
    file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": {"layout": layout, "journal": str(host.journal)}}))
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", STOPWATCH, str(file)],
        capture_output=True,
        text=True,
        env={**host.environment, "PYTHONPATH": str(ROOT / ".tree")},
        check=False,
    )
    process_s = time.perf_counter() - begun
    answer = json.loads(done.stdout) if done.stdout else {"failed": True, "msg": done.stderr}
    if answer.get("failed"):
        raise SystemExit(f"mig_layout failed: {answer['msg']}")
    return Run(answer, float(done.stderr.splitlines()[-1]), process_s)

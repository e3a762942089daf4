# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change of layout costs: instances that go against the exact optimum, NVML calls, wall time.

The optimum comes from every way to place instances on the board, written down from the facts: of all placements of what
is wanted, the one that shares most with what stands. Nothing of the planner is used for it.

With MIG_PARTED=PATH the same changes are made by nvidia-mig-parted, on hosts of the same simulated library.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from benchmarks.figures import figure, run_layout
from integration.modules.simulated_host import ROOT, SimulatedHost, build_simulator
from unit.planner_support import PRODUCTS, gpu, instance, standing

from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host

BOARDS = {
    "A100": "a100-sxm4-40gb",
    "H100": "h100-sxm5-80gb",
    "A30": "a30",
    "RTX PRO 6000": "rtx-pro-6000-server",
}
PER_HOST = 16
"""GPUs of a simulated host: so many transitions are made by one run."""
SAMPLE = 96
"""Transitions per board that are made on the simulator, where it has more; planned are all of them."""
DELAY_MS = 50
FULL_HOSTS = 3
"""Hosts of eight H100 whose every GPU changes, with a delay on each writing call."""
MIG_PARTED = os.environ.get("MIG_PARTED")

Placed = frozenset[tuple[str, int]]
Multiset = tuple[tuple[str, int], ...]


def counts(placed: Placed) -> Multiset:
    return tuple(sorted(Counter(name for name, _start in placed).items()))


@cache
def placements(board: str) -> tuple[Placed, ...]:
    """Every way to put instances on the board, without media extensions (they change no geometry)."""
    rows = [
        (row["name"], start, frozenset(range(start, start + row["placements"]["size"])))
        for row in PRODUCTS[board]["gi_profiles"]
        if not row["media_extensions"] and "-me" not in row["name"]
        for start in row["placements"]["starts"]
    ]
    found: list[Placed] = []

    def go_on(first: int, placed: Placed, taken: frozenset[int]) -> None:
        found.append(placed)
        for number in range(first, len(rows)):
            name, start, place = rows[number]
            if not place & taken:
                go_on(number + 1, placed | {(name, start)}, taken | place)

    go_on(0, frozenset(), frozenset())
    return tuple(found)


@cache
def maximal(board: str) -> tuple[Placed, ...]:
    """The placements to which nothing can be added."""
    everything = set(placements(board))
    grown = {placed - {one} for placed in everything for one in placed}
    return tuple(sorted(everything - grown, key=sorted))


@cache
def ways(board: str) -> dict[Multiset, list[Placed]]:
    """All placements by what they hold."""
    found = defaultdict(list)
    for placed in placements(board):
        found[counts(placed)].append(placed)
    return found


def must_go(board: str, stands: Placed, wanted: Multiset) -> int:
    """The fewest instances that have to be destroyed: the exact optimum."""
    return min(len(stands - placed) for placed in ways(board)[wanted])


Transition = tuple[Placed, Multiset]


def transitions(board: str) -> list[Transition]:
    """From every maximal layout to the profiles of every maximal layout."""
    return [(stands, wanted) for stands in maximal(board) for wanted in sorted({counts(p) for p in maximal(board)})]


def planned(name: str) -> bool:
    """All transitions of a board through the planner alone."""
    board = BOARDS[name]
    gone = optimum = 0
    pairs = transitions(board)
    for stands, wanted in pairs:
        on = gpu(board)
        there = standing(on, *(instance(on, name, start) for name, start in sorted(stands)))
        plan = plan_host([there], [{"gpus": 0, "instances": dict(wanted)}])
        gone += len(plan["gpus"][0]["destroy"])
        optimum += must_go(board, stands, wanted)
    say = f"{name}: destroyed / optimum, all {len(pairs)} transitions planned"
    return figure(say, gone / optimum, "", 1.0, optimum=optimum)


@dataclass
class Cost:
    """What changes did, from the simulator's log of calls that succeeded or failed."""

    lost: int = 0  # instances that stood before and were destroyed
    optimum: int = 0
    needed: int = 0  # instances that had to be made: wanted ones beyond the optimum's kept ones
    calls: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    wrong: int = 0  # GPUs that do not hold what was wanted afterwards

    def add(self, other: Cost) -> None:
        self.lost += other.lost
        self.optimum += other.optimum
        self.needed += other.needed
        self.calls += other.calls
        self.seconds += other.seconds
        self.wrong += other.wrong


LINE = re.compile(r"W pid=\d+ (?P<function>\w+) gpu=(?P<gpu>\d+) (?P<detail>.*?)-> (?P<result>\d+)$")
KINDS = {
    "nvmlGpuInstanceDestroy": "destroy",
    "nvmlDeviceCreateGpuInstance": "create",
    "nvmlDeviceCreateGpuInstanceWithPlacement": "create",
    "nvmlComputeInstanceDestroy": "destroy compute",
    "nvmlGpuInstanceCreateComputeInstance": "create compute",
    "nvmlGpuInstanceCreateComputeInstanceWithPlacement": "create compute",
}


def writes(host: SimulatedHost) -> Iterator[tuple[str, int, str, int]]:
    """(kind, GPU, detail, NVML's result) of every writing call since the log was cleared."""
    for text in host.simctl("log", "--writes").splitlines():
        found = LINE.search(text)
        if found and found["function"] in KINDS:
            yield KINDS[found["function"]], int(found["gpu"]), found["detail"], int(found["result"])


def cost_of(host: SimulatedHost, board: str, changes: Sequence[Transition], seconds: float) -> Cost:
    """What the run that just ended did, compared with what had to be done."""
    names = {row["id"]: row["name"] for row in PRODUCTS[board]["gi_profiles"]}
    cost = Cost(seconds=seconds)
    destroyed: dict[int, set[tuple[str, int]]] = defaultdict(set)
    for kind, index, detail, result in writes(host):
        cost.calls[kind] += 1
        if kind == "destroy" and result == 0:
            words = dict(word.split("=") for word in detail.split())
            destroyed[index].add((names[int(words["profile"])], int(words["start"])))
    for gpu_now, (stands, wanted) in zip(host.gpus(), changes, strict=True):
        least = must_go(board, stands, wanted)
        cost.lost += len(destroyed[gpu_now["index"]] & stands)
        cost.optimum += least
        cost.needed += sum(number for _name, number in wanted) - (len(stands) - least)
        held = Counter(one["profile"] for one in gpu_now["instances"])
        cost.wrong += tuple(sorted(held.items())) != wanted
    return cost


def host_with(folder: Path, board: str, changes: Sequence[Transition]) -> SimulatedHost:
    """A host with one GPU per change, on which stands what is to be changed."""
    host = SimulatedHost(folder, [{"product": board, "mig": "enabled"}] * len(changes))
    layout = [
        {"gpus": index, "instances": [{"profile": name, "start": start} for name, start in sorted(stands)]}
        for index, (stands, _wanted) in enumerate(changes)
    ]
    answer = host.run("mig_layout", layout=layout)
    assert not answer.get("failed"), answer
    host.forget_calls()
    return host


def ours(host: SimulatedHost, changes: Sequence[Transition]) -> tuple[float, float]:
    """Seconds of the process and from main() to exit."""
    layout = [{"gpus": index, "instances": dict(wanted)} for index, (_stands, wanted) in enumerate(changes)]
    run = run_layout(host, layout)
    return run.process_s, run.main_s


def theirs(host: SimulatedHost, changes: Sequence[Transition]) -> tuple[float, float]:
    """The same with nvidia-mig-parted's apply: seconds of the process, twice."""
    entries = [
        {"devices": [index], "mig-enabled": True, "mig-devices": dict(wanted)}
        for index, (_stands, wanted) in enumerate(changes)
    ]
    config = host.folder / "config.json"
    config.write_text(json.dumps({"version": "v1", "mig-configs": {"wanted": entries}}))
    root = host.folder / "root"
    host.simctl("files", str(root))
    enter = [str(ROOT / "tests/simulator/enter.sh"), str(root)]
    begun = time.perf_counter()
    done = subprocess.run(
        [*enter, str(MIG_PARTED), "apply", "-f", str(config), "-c", "wanted"],
        capture_output=True,
        text=True,
        env=host.environment,
        check=False,
    )
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        raise SystemExit(f"nvidia-mig-parted failed: {done.stderr[-600:]}")
    return seconds, seconds


Tool = Callable[[SimulatedHost, Sequence[Transition]], tuple[float, float]]
TOOLS: dict[str, Tool] = {"mig_layout": ours, **({"nvidia-mig-parted": theirs} if MIG_PARTED else {})}


def sampled(name: str, folder: Path, rng: random.Random) -> bool:
    """Transitions of a board, really made by runs on hosts of PER_HOST GPUs: all of them, or a sample of SAMPLE."""
    board = BOARDS[name]
    pairs = transitions(board)
    chosen = rng.sample(pairs, min(SAMPLE, len(pairs)))
    groups = [chosen[first : first + PER_HOST] for first in range(0, len(chosen), PER_HOST)]
    good = True
    for tool, change in TOOLS.items():
        total = Cost()
        for number, changes in enumerate(groups):
            host = host_with(folder / f"{board}-{tool}-{number}", board, changes)
            seconds, _main = change(host, changes)
            total.add(cost_of(host, board, changes, seconds))
        mine = tool == "mig_layout"
        say = f"{name}: {tool}, {len(chosen)} of {len(pairs)} transitions made"
        good &= figure(f"{say}: destroyed / optimum", total.lost / total.optimum, "", 1.0 if mine else None)
        good &= figure(f"{say}: creates / created", total.calls["create"] / total.needed, "", 1.0 if mine else None)
        figure(f"{say}: GPU instance create calls", total.calls["create"], "", needed=total.needed)
        figure(f"{say}: GPU instance destroy calls", total.calls["destroy"], "", had_to_go=total.optimum)
        figure(f"{say}: compute instance calls", total.calls["create compute"] + total.calls["destroy compute"], "")
        figure(f"{say}: wall time of all {len(groups)} runs", total.seconds, "s")
        good &= figure(f"{say}: GPUs not as wanted", total.wrong, "", 0 if mine else None)
    return good


def delayed(folder: Path, rng: random.Random) -> bool:
    """Eight H100 that all change, each writing call taking DELAY_MS longer."""
    board = BOARDS["H100"]
    pairs = [pair for pair in transitions(board) if must_go(board, *pair) > 0]
    groups = [[rng.choice(pairs) for _ in range(8)] for _ in range(FULL_HOSTS)]
    good = True
    walls: dict[str, list[float]] = {}
    for tool, change in TOOLS.items():
        total, beyond, walls[tool] = Cost(), [], []
        for number, changes in enumerate(groups):
            host = host_with(folder / f"delayed-{tool}-{number}", board, changes)
            for index in range(len(changes)):
                host.simctl("delay", index, DELAY_MS)
            seconds, main_s = change(host, changes)
            calls = Counter(index for _kind, index, _detail, _result in writes(host))
            walls[tool].append(seconds)
            beyond.append(main_s - max(calls.values()) * DELAY_MS / 1000)
            total.add(cost_of(host, board, changes, seconds))
        mine = tool == "mig_layout"
        say = f"8 x H100 at {DELAY_MS} ms per call, {tool}"
        figure(f"{say}: wall time, shortest", min(walls[tool]), "s")
        figure(f"{say}: wall time, longest", max(walls[tool]), "s")
        if mine:
            good &= figure(f"{say}: main() beyond the slowest GPU's calls, longest", max(beyond), "s", 0.3)
        good &= figure(f"{say}: destroyed / optimum", total.lost / total.optimum, "", 1.0 if mine else None)
        good &= figure(f"{say}: creates / created", total.calls["create"] / total.needed, "", 1.0 if mine else None)
        figure(f"{say}: GPU instance destroy calls", total.calls["destroy"], "", had_to_go=total.optimum)
        good &= figure(f"{say}: GPUs not as wanted", total.wrong, "", 0 if mine else None)
    if MIG_PARTED:
        ratios = [mine / peer for mine, peer in zip(walls["mig_layout"], walls["nvidia-mig-parted"], strict=True)]
        good &= figure("8 x H100: mig_layout / nvidia-mig-parted wall time, worst", max(ratios), "", 1 / 6)
    return good


def main() -> int:
    assert (build_simulator() / "libnvidia-ml.so.1").is_file()
    rng = random.Random(20260102)
    good = True
    for board in BOARDS:
        good &= planned(board)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for board in BOARDS:
            good &= sampled(board, Path(folder), rng)
        good &= delayed(Path(folder), rng)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())

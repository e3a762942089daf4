# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the start of gpufleet-mig apply --boot to the layout restored: eight GPUs, 100 ms per call that changes one."""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.figures import figure
from integration.boot.boot_host import BootHost
from integration.modules.simulated_host import build_simulator

RUNS = 5
GPUS = 8
CALL_S = 0.1
BEYOND_S = 0.5


def main() -> int:
    assert (build_simulator() / "libnvidia-ml.so.1").is_file()
    good = True
    for product in ("h100-sxm5-80gb", "a100-sxm4-40gb"):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            host = BootHost(Path(folder), [{"product": product, "mig": "enabled"}] * GPUS)
            stood = host.partition("all-balanced")
            host.command("compile")
            for gpu in range(GPUS):
                host.simctl("delay", gpu, int(CALL_S * 1000))
            runs = [_restore(host, stood) for _ in range(RUNS)]
        say = f"apply --boot, {GPUS} x {product}, {CALL_S:g} s per call that changes"
        figure(f"{say}: start to restored, median", statistics.median(seconds for seconds, _own in runs), "s")
        beyond = statistics.median(seconds - own for seconds, own in runs)
        good &= figure(
            f"{say}: beyond the slowest GPU's {runs[0][1]:g} s of its own calls, median", beyond, "s", BEYOND_S
        )
    return 0 if good else 1


def _restore(host: BootHost, stood: list[str]) -> tuple[float, float]:
    """Seconds of a restore, and of what the calls on the GPU with most of them take."""
    host.reboot()
    begun = time.perf_counter()
    done = host.command("apply", "--boot")
    seconds = time.perf_counter() - begun
    calls = Counter(match[1] for call in host.writes() if (match := re.search(r"\bgpu=(\d+)", call)))
    if done.code or host.lines() != stood:
        raise SystemExit(f"the layout did not come back: {done.err}")
    return seconds, max(calls.values()) * CALL_S


if __name__ == "__main__":
    raise SystemExit(main())

# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the start of gpufleet-mig apply --boot to the layout restored: eight GPUs, 100 ms for each call that creates."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.figures import figure
from integration.boot.boot_host import BootHost
from integration.modules.simulated_host import build_simulator

RUNS = 5
GPUS = 8
CREATE_MS = 100
BEYOND_S = 0.5
CREATES = ("nvmlDeviceCreateGpuInstanceWithPlacement", "nvmlGpuInstanceCreateComputeInstanceWithPlacement")


def main() -> int:
    assert (build_simulator() / "libnvidia-ml.so.1").is_file()
    good = True
    for product, calls in (("h100-sxm5-80gb", 8), ("a100-sxm4-40gb", 8)):  # 2 x 1g, 2g, 3g, each with what fills it
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            host = BootHost(Path(folder), [{"product": product, "mig": "enabled"}] * GPUS)
            stood = host.partition("all-balanced")
            host.command("compile")
            for function in CREATES:
                host.simctl("fault", function, "--delay", CREATE_MS)
            seconds = [_restore(host, stood) for _ in range(RUNS)]
        own = calls * CREATE_MS / 1000
        say = f"apply --boot, {GPUS} x {product}, {CREATE_MS} ms per create"
        median = statistics.median(seconds)
        figure(f"{say}: start to restored, median", median, "s")
        good &= figure(f"{say}: beyond one GPU's own calls ({own:g} s), median", median - own, "s", BEYOND_S)
    return 0 if good else 1


def _restore(host: BootHost, stood: list[str]) -> float:
    host.reboot()
    begun = time.perf_counter()
    done = host.command("apply", "--boot")
    seconds = time.perf_counter() - begun
    if done.code or host.lines() != stood:
        raise SystemExit(f"the layout did not come back: {done.err}")
    return seconds


if __name__ == "__main__":
    raise SystemExit(main())

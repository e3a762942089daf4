# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""mig_layout on eight GPUs that are already right: seconds from main() to exit, and that nothing is written."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from benchmarks.figures import figure, run_layout
from integration.modules.simulated_host import SimulatedHost, build_simulator

RUNS = 9
TARGET_S = 0.5
LAYOUTS = {"8 x H100, 7 x 1g.10gb each": "all-1g.10gb", "8 x H100, balanced": "all-balanced"}


def main() -> int:
    assert (build_simulator() / "libnvidia-ml.so.1").is_file()
    good = True
    for name, layout in LAYOUTS.items():
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            host = SimulatedHost(Path(folder), ["h100-sxm5-80gb"] * 8)
            run_layout(host, layout)
            host.forget_calls()
            runs = [run_layout(host, layout) for _ in range(RUNS)]
            changes = sum(run.answer["changed"] for run in runs)
            writes = len(host.writes())
        say = f"mig_layout on right GPUs ({name})"
        good &= figure(f"{say}: main() to exit, median", statistics.median(r.main_s for r in runs), "s", TARGET_S)
        figure(f"{say}: main() to exit, longest of {RUNS}", max(run.main_s for run in runs), "s")
        figure(f"{say}: whole process, median", statistics.median(run.process_s for run in runs), "s")
        good &= figure(f"{say}: runs that report a change", changes, "", 0)
        good &= figure(f"{say}: NVML calls that write", writes, "", 0)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())

# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host costs the controller in a run that changes nothing, in a small fleet and in a larger one.

playbooks/rollout.yml on simulated hosts, as in bench_api. Processor time, so that what else the machine does counts
less; the simulated hosts' own share is in it, and the same in both.
"""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

from benchmarks.bench_api import Fleet
from benchmarks.figures import figure
from integration.modules.simulated_host import build_simulator

SMALL, LARGE = 8, 32
MORE = 1.4
"""What looks at all hosts for each host would take twice the seconds per host here. Some more are Ansible's own: each
of its processes begins with what is kept of all hosts, and Python's garbage collector walks through that."""


def seconds(hosts: int) -> float:
    """Processor seconds of a whole run on that many hosts."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        fleet = Fleet(Path(folder), hosts, hosts)
        try:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            fleet.roll_out()
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        finally:
            fleet.down()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    assert (build_simulator() / "libnvidia-ml.so.1").is_file()
    small, middle, large = (seconds(hosts) for hosts in (SMALL, 2 * SMALL, LARGE))
    first = (middle - small) / SMALL
    each = (large - middle) / (LARGE - 2 * SMALL)
    figure(f"roll-out, all nodes match: processor time per host beyond {SMALL}", first, "s")
    figure(f"roll-out, all nodes match: processor time per host beyond {2 * SMALL}", each, "s")
    say = f"roll-out, all nodes match: a host's share among {LARGE} / among {2 * SMALL}"
    return 0 if figure(say, each / first, "", MORE) else 1


if __name__ == "__main__":
    raise SystemExit(main())

# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host costs that is right: modules that each role starts on it, and site.yml beside as many ping modules.

Needs the hosts with systemd (make hosts-up); without them, it says so and measures nothing. The host's Python counts
the modules: nothing of the collection counts itself.
"""

from __future__ import annotations

import base64
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import figure
from hosts.conftest import Host
from lab.gpufleet_lab import realhosts

NAME = "bare-h100"
LAYOUT = [{"gpus": "all", "instances": [{"profile": "1g.10gb", "start": 6}, {"profile": "3g.40gb", "start": 0}]}]
LIMITS = {"mig": 2, "driver": 8, "container_toolkit": 8}
RUNS = 3
TIMES_PINGS = 2
FOLDER = "/run/gpufleet-bench"
COUNTING = f'#!/bin/sh\necho >> {FOLDER}/starts\nexec /usr/bin/python3 "$@"\n'


def counted(host: Host, *roles: str, playbook: str = "") -> tuple[int, float]:
    """Modules started on the host by a run that changes nothing, and its seconds."""
    host.sh(f": > {FOLDER}/starts")
    begun = time.perf_counter()
    run = host.play(*roles, playbook=playbook, ansible_python_interpreter=f"{FOLDER}/python3")
    seconds = time.perf_counter() - begun
    if run.changed:
        raise SystemExit(f"{roles or playbook} changed {run.changed} things on a host that is right:\n{run.output}")
    return int(host.sh(f"wc -l < {FOLDER}/starts")), seconds


def median(host: Host, playbook: str) -> tuple[int, float]:
    runs = [counted(host, playbook=playbook) for _ in range(RUNS)]
    return runs[0][0], statistics.median(seconds for _starts, seconds in runs)


def main() -> int:
    real = realhosts.by_name(NAME)
    if not realhosts.listens(real):
        print(f"bench_hosts: {NAME} is not up (make hosts-up): nothing was measured.", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        host = Host(real, Path(folder))
        host.variables.update(mig_layout=LAYOUT, container_toolkit_manage=True)
        host.play(playbook="site.yml")
        words = base64.b64encode(COUNTING.encode()).decode()
        host.sh(f"mkdir -p {FOLDER} && echo {words} | base64 -d > {FOLDER}/python3 && chmod 755 {FOLDER}/python3")

        good = True
        for role, limit in LIMITS.items():
            starts, _seconds = counted(host, role)
            good &= figure(f"converged host: modules that role {role} starts on it", starts, "", limit)
        starts, whole = median(host, "site.yml")
        figure("converged host: modules that site.yml starts on it", starts, "")
        pings = host.folder / "pings.yml"
        tasks = "\n".join("    - ansible.builtin.ping:" for _ in range(starts))
        pings.write_text(f"- hosts: {NAME}\n  gather_facts: false\n  tasks:\n{tasks}\n")
        _starts, as_many = median(host, str(pings))
        figure(f"converged host: {starts} pings, median of {RUNS}", as_many, "s")
        figure(f"converged host: site.yml, median of {RUNS}", whole, "s")
        good &= figure("converged host: site.yml / as many pings", whole / as_many, "", TIMES_PINGS)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())

# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host costs that is right: modules that each role starts on it, and site.yml beside as many ping modules.

Needs the hosts with systemd (make hosts-up); without them, it says so and measures nothing. The host's Python counts
the modules: nothing of the collection counts itself. What Ansible itself does for a task, also for one that it skips,
is most of the whole run, and is shown beside it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import figure
from hosts.conftest import Host
from lab.gpufleet_lab import realhosts

NAME = "bare-h100"
LAYOUT = [{"gpus": "all", "instances": [{"profile": "1g.10gb", "start": 6}, {"profile": "3g.40gb", "start": 0}]}]
LIMITS = {"mig": 2, "driver": 8, "container_toolkit": 8}
# As a user's inventory has them: the lab's computes them anew in every task.
CONNECTION = {
    "ansible_ssh_private_key_file": str(realhosts.SSH_KEY),
    "ansible_ssh_common_args": f"-o UserKnownHostsFile={realhosts.KNOWN_HOSTS} -o StrictHostKeyChecking=yes",
}
MODULES = r"gpufleet[.]mig[.].*|ansible[.]builtin[.]ping"
RUNS = 7
ASSERTS = 100
TIMES_PINGS = 2
FOLDER = "/run/gpufleet-bench"
COUNTING = f'#!/bin/sh\necho >> {FOLDER}/starts\nexec /usr/bin/python3 "$@"\n'


@dataclass(frozen=True)
class Run:
    """A run that changed nothing: modules started on the host, their seconds, and those of the whole run."""

    starts: int
    modules_s: float
    whole_s: float


def run(host: Host, *roles: str, playbook: str = "") -> Run:
    host.sh(f": > {FOLDER}/starts")
    lines = host.folder / "seconds"
    lines.write_text("")
    begun = time.perf_counter()
    done = host.play(*roles, playbook=playbook, ansible_python_interpreter=f"{FOLDER}/python3")
    whole = time.perf_counter() - begun
    if done.changed:
        raise SystemExit(f"{roles or playbook} changed {done.changed} things on a host that is right:\n{done.output}")
    tasks = [json.loads(line) for line in lines.read_text().splitlines()]
    modules = [one["seconds"] for one in tasks if re.fullmatch(MODULES, one["action"])]
    return Run(int(host.sh(f"wc -l < {FOLDER}/starts")), sum(modules), whole)


def tasks(host: Host, name: str, words: str, count: int) -> str:
    """A playbook of as many tasks."""
    file = host.folder / name
    lines = "\n".join(f"    - {words}" for _ in range(count))
    file.write_text(f"- hosts: {NAME}\n  gather_facts: false\n  tasks:\n{lines}\n")
    return str(file)


def main() -> int:
    real = realhosts.by_name(NAME)
    if not realhosts.listens(real):
        print(f"bench_hosts: {NAME} is not up (make hosts-up): nothing was measured.", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        host = Host(real, Path(folder))
        host.variables.update(mig_layout=LAYOUT, container_toolkit_manage=True, **CONNECTION)
        host.play(playbook="site.yml")
        words = base64.b64encode(COUNTING.encode()).decode()
        host.sh(f"mkdir -p {FOLDER} && echo {words} | base64 -d > {FOLDER}/python3 && chmod 755 {FOLDER}/python3")

        os.environ.update(
            ANSIBLE_CALLBACK_PLUGINS=str(Path(__file__).parent / "callback_plugins"),
            ANSIBLE_CALLBACKS_ENABLED="task_seconds",
            TASK_SECONDS=str(host.folder / "seconds"),
        )
        say, good = "host that is right", True
        for role, limit in LIMITS.items():
            good &= figure(f"{say}: modules that role {role} starts on it", run(host, role).starts, "", limit)
        starts = run(host, playbook="site.yml").starts
        pings = tasks(host, "pings.yml", "ansible.builtin.ping:", starts)
        asserts = tasks(host, "asserts.yml", "ansible.builtin.assert: {that: true}", ASSERTS)
        # In turn: the machine is not as fast in every minute.
        pairs = [(run(host, playbook="site.yml"), run(host, playbook=pings)) for _ in range(RUNS)]
        say_runs = f"median of {RUNS}"
        figure(f"{say}: modules that site.yml starts on it", starts, "")
        figure(f"{say}: these modules, {say_runs}", statistics.median(site.modules_s for site, _ in pairs), "s")
        figure(f"{say}: as many pings, {say_runs}", statistics.median(ping.modules_s for _, ping in pairs), "s")
        modules = statistics.median(site.modules_s / ping.modules_s for site, ping in pairs)
        good &= figure(f"{say}: these modules / as many pings, {say_runs}", modules, "", TIMES_PINGS)
        figure(f"{say}: whole run of site.yml, {say_runs}", statistics.median(site.whole_s for site, _ in pairs), "s")
        whole = statistics.median(site.whole_s / ping.whole_s for site, ping in pairs)
        good &= figure(f"{say}: whole run of site.yml / that of as many pings, {say_runs}", whole, "", TIMES_PINGS)
        most = run(host, playbook=asserts).whole_s
        figure(f"{say}: whole run of {ASSERTS} asserts, which start no module", most, "s")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())

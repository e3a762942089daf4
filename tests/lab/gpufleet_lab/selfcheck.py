# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Does the lab keep its promises? Of a running lab, and (--cycle) of a whole life from nothing to nothing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import cgroups, controlplane, hosts, network, procs
from .console import say, step
from .settings import CACHE, CGROUP, DRIVER_VERSION, HOSTS, RUN_DIR, HostSpec, LabError
from .shell import run, wait_until

MEMORY_LIMIT_MIB = 3 * 1024


@dataclass(frozen=True)
class Traces:
    """What a process leaves on a machine, as the machine's own tools show it."""

    mounts: frozenset[str]
    links: frozenset[str]
    routes: frozenset[str]
    addresses: frozenset[str]
    control_groups: frozenset[str]
    processes: frozenset[str]


def _of_lab(pid: int) -> str:
    """Command of a process that is the lab's by its program, its arguments or its control group; else nothing."""
    try:
        program = str(Path(f"/proc/{pid}/exe").readlink())
        command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
        group = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""
    ours = program.startswith((f"{CACHE}/bin/", f"{CACHE}/layers/", f"{RUN_DIR}/")) or f"{RUN_DIR}/" in command
    return command if ours or f"/{CGROUP}" in group else ""


def namespaces(of_lab: bool) -> set[str]:
    """Namespaces in use on this machine, other than our own: those of the lab's processes, or of any process."""
    found: set[str] = set()
    kinds = ("mnt", "net", "pid", "uts", "ipc", "cgroup")
    for entry in Path("/proc").iterdir():
        # An ended process that waits to be collected by its parent still shows its namespaces.
        if not entry.name.isdigit() or procs.start_time(int(entry.name)) is None:
            continue
        if not of_lab or _of_lab(int(entry.name)):
            for kind in kinds:
                try:
                    found.add(str((entry / "ns" / kind).readlink()))
                except OSError:
                    continue  # it ended meanwhile
    return found - {str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in kinds}


def traces() -> Traces:
    mounts: set[str] = set()
    processes: set[str] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        command = _of_lab(int(entry.name))
        if command:
            processes.add(f"{entry.name} {command[:100]}")
        try:
            table = (entry / "mountinfo").read_text()
        except OSError:
            continue
        mounts.update(line.split()[4] for line in table.splitlines() if str(RUN_DIR) in line)
    shown = {what: json.loads(run("ip", "-json", what, "show")) for what in ("link", "route", "address")}
    return Traces(
        frozenset(mounts),
        frozenset(link["ifname"] for link in shown["link"]),
        frozenset(f"{route['dst']} dev {route.get('dev')}" for route in shown["route"]),
        frozenset(entry["local"] for link in shown["address"] for entry in link.get("addr_info", [])),
        frozenset(str(path) for path in cgroups.left()),
        frozenset(processes),
    )


def _expect(holds: bool, promise: str) -> None:
    if not holds:
        raise LabError(f"selfcheck: not so: {promise}")
    say(f"ok: {promise}")


def _check_host(host: HostSpec) -> None:
    name = host.name
    _expect(hosts.ssh(host, "hostname").strip() == name, f"{name}: ssh with the lab's key and known_hosts")
    shown = hosts.ssh(host, "containerd config dump")
    _expect("enable_cdi = true" in shown, f"{name}: containerd has CDI on")
    handlers = json.loads(controlplane.kubectl("get", "node", name, "-o", "json"))["status"]["runtimeHandlers"]
    _expect("nvidia" in {item["name"] for item in handlers}, f"{name}: runtime handler nvidia")
    listed = hosts.ssh(host, "nvidia-smi", "-L")
    _expect(len(re.findall(r"^GPU \d+:", listed, re.M)) == len(host.gpus), f"{name}: nvidia-smi lists its GPUs")
    version = hosts.ssh(host, "cat /proc/driver/nvidia/version")
    _expect(DRIVER_VERSION in version, f"{name}: driver {DRIVER_VERSION} in /proc/driver/nvidia/version")
    processes = hosts.ssh(host, "ps -e -o comm=").split()
    _expect("etcd" not in processes and processes.count("kubelet") == 1, f"{name}: sees only its own processes")


def check_running() -> None:
    """Promises of a lab that is up; LabError names the first that does not hold."""
    for host in HOSTS:
        _expect(hosts.running(host) is not None and hosts.node_ready(host), f"{host.name}: runs and its node is Ready")
        _check_host(host)
    boots = {hosts.ssh(host, "cat /proc/sys/kernel/random/boot_id") for host in HOSTS}
    _expect(len(boots) == len(HOSTS), "each host has a boot id of its own")
    total = cgroups.memory_mib(controlplane.NAME) + sum(cgroups.memory_mib(host.name) for host in HOSTS)
    _expect(total < MEMORY_LIMIT_MIB, f"memory of the lab is {total:.0f} MiB, under {MEMORY_LIMIT_MIB}")


def check_cycle(up: Callable[[list[str]], None], down: Callable[[], None]) -> None:
    """From nothing to nothing: up, promises, power cut, a service's restart, down, no traces."""
    down()
    before = traces()
    _expect(not before.processes and not before.control_groups, "nothing of the lab is there at first")
    up([])
    check_running()
    victim = HOSTS[0]
    boot = hosts.ssh(victim, "cat /proc/sys/kernel/random/boot_id")
    with step("power cut"):
        hosts.stop(victim)
        _expect(hosts.running(victim) is None, f"{victim.name}: power cut ends it")
        hosts.start_again(victim)
    _expect(hosts.ssh(victim, "cat /proc/sys/kernel/random/boot_id") != boot, f"{victim.name}: a new boot id")
    hosts.ssh(victim, "lab-service restart kubelet")
    wait_until(lambda: hosts.node_ready(victim), f"{victim.name}: Ready after a restart of kubelet", 60)
    used = namespaces(of_lab=True)
    _expect(len(used) >= 6 * len(HOSTS), f"hosts and control plane live in {len(used)} namespaces of their own")
    down()
    # A killed process 1 is seen until this machine's own process 1 has collected it.
    wait_until(lambda: not traces().processes, "no process of the lab", 20)
    after = traces()
    for kind in ("mounts", "links", "routes", "addresses", "control_groups", "processes"):
        left = getattr(after, kind) - getattr(before, kind)
        _expect(not left, f"down leaves no {kind.replace('_', ' ')}{': ' + ', '.join(sorted(left)) if left else ''}")
    _expect(not used & namespaces(of_lab=False), "down leaves no namespace")
    _expect(not network.bridge_exists(), "down leaves no bridge")

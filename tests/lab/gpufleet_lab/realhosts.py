# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Hosts that are whole systems: a Debian tree with systemd as process 1, sshd, a sudo user and no driver yet.

They need neither the cluster nor its hosts, and the cluster does not need them: own bridge, addresses, control groups
and state folder. `joining` makes one a node of the cluster all the same. Each has a power supply, a process of this
machine (`supply`) that boots it again when it asks for that. To end the supply is to pull the plug.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import artifacts, boot, cgroups, controlplane, hostfiles, network, packages, procs, realfiles, rootfs
from .console import say, step
from .settings import CACHE, DEBIAN_SUITE, LAB_SOURCE, LabError
from .shell import digest_of, locked, run, succeeds, wait_until, write

HOSTS_DIR = Path(os.environ.get("GPUFLEET_HOSTS_DIR", "/var/lib/gpufleet-hosts"))
BRIDGE = "gpufleet1"
BRIDGE_ADDRESS = "10.78.0.1"
# Of the folder, so that hosts of another folder are not ended with these.
CGROUP = HOSTS_DIR.name
SSH_KEY = HOSTS_DIR / "ssh" / "id_ed25519"
KNOWN_HOSTS = HOSTS_DIR / "ssh" / "known_hosts"
_DATA = {
    # The simulated boards (simctl's state), what the driver shows of them, and modules: all of it outlives a boot.
    "proc-driver": "/proc/driver",
    "pci-devices": "/sys/bus/pci/devices",
    "modules": "/sys/module",
    "containerd": "/var/lib/containerd",
}
_BUSY = "another command changes the hosts; waiting for it"


@dataclass(frozen=True)
class RealHost:
    """One host: its boards by product key, how many NVSwitches they hang on, and its release of Debian."""

    name: str
    number: int
    gpus: tuple[str, ...]
    nvswitches: int = 0
    suite: str = DEBIAN_SUITE

    @property
    def address(self) -> str:
        return f"10.78.0.{10 + self.number}"

    @property
    def pod_cidr(self) -> str:
        return f"10.244.{10 + self.number}.0/24"

    @property
    def interface(self) -> str:
        return f"{BRIDGE}-{self.number}"

    @property
    def folder(self) -> Path:
        return HOSTS_DIR / "hosts" / self.name

    @property
    def record(self) -> Path:
        return self.folder / "supply.json"

    @property
    def parts(self) -> Path:
        return self.folder / "parts.json"

    @property
    def console(self) -> Path:
        return HOSTS_DIR / "logs" / f"{self.name}.log"


HOSTS = (
    RealHost("bare-a100", 1, ("a100-sxm4-40gb",) * 2),
    RealHost("bare-h100", 2, ("h100-sxm5-80gb",) * 2, nvswitches=4),
)
# Started only by name (tests/hosts/on_demand has them in an inventory).
ON_DEMAND = (RealHost("bare-a100-trixie", 3, ("a100-sxm4-40gb",) * 2, suite="trixie"),)
_KNOWN = HOSTS + ON_DEMAND


def by_name(name: str) -> RealHost:
    for host in _KNOWN:
        if host.name == name:
            return host
    raise LabError(f"No host is called {name!r}; there are {', '.join(host.name for host in _KNOWN)}.")


def build(hosts: Iterable[RealHost]) -> None:
    """What the hosts are made of; of the cluster's parts only the simulator and the container programs."""
    if not artifacts.parts_built():
        with locked(CACHE / ".build.lock", "another command is building; waiting for it"):
            artifacts.build_parts()
    with locked(CACHE / ".hosts-build.lock", "another command is building; waiting for it"):
        for suite in sorted({host.suite for host in hosts}):
            rootfs.build_base_tree(realfiles.PACKAGES, suite)
        realfiles.build_programs_layer()
        packages.build()


def up(names: list[str]) -> None:
    """Start what does not run, with fresh boards and an empty disk."""
    chosen = [by_name(name) for name in names] if names else list(HOSTS)
    build(chosen)
    HOSTS_DIR.mkdir(parents=True, exist_ok=True)
    HOSTS_DIR.chmod(0o700)
    with locked(CACHE / ".hosts.lock", _BUSY):
        _ensure_bridge()
        _ensure_keys()
        write(HOSTS_DIR / "fingerprint", packages.fingerprint())
        with ThreadPoolExecutor(max_workers=len(chosen)) as pool:
            list(pool.map(_ensure_running, chosen))
    say(f"the hosts are up: ansible -i tests/hosts/inventory all -m ping, or ssh -i {SSH_KEY} ops@{chosen[0].address}")


def down() -> None:
    """End all and remove every trace."""
    with locked(CACHE / ".hosts.lock", _BUSY):
        for host in _KNOWN:
            power_cut(host)
            leave(host)
        cgroups.remove(parent=CGROUP)
        network.remove(BRIDGE)
        if HOSTS_DIR.exists():
            shutil.rmtree(HOSTS_DIR)


def power_cut(host: RealHost) -> None:
    """Pull the plug; the disk and what the boards keep stay."""
    procs.end_group(host.name, host.record, parent=CGROUP)


def reinstall(host: RealHost) -> None:
    """Off, an empty disk and fresh boards, on."""
    power_cut(host)
    leave(host)
    for name in ("upper", "work", "root", "data", "files"):
        if (host.folder / name).exists():
            shutil.rmtree(host.folder / name)
    for name in _DATA:
        (host.folder / "data" / name).mkdir(parents=True)
    # A boot long after this goes on with what the host was installed from.
    write(host.parts, json.dumps({"lower": list(map(str, _layers(host))), "packages": str(packages.folder())}))
    realfiles.write(host, SSH_KEY)
    start(host)


def swap(host: RealHost, boards: list[dict[str, Any]]) -> None:
    """Other boards in the slots of a host that is off, as simctl init takes them."""
    if procs.load(host.record) is not None:
        raise LabError(f"{host.name} is on.")
    write(host.folder / "boards.json", json.dumps({"gpus": boards}))
    state = host.folder / "data/proc-driver/nvidia-sim/state"
    run(str(artifacts.simulator() / "simctl"), "--state", str(state), "init", str(host.folder / "boards.json"))


def joined(host: RealHost) -> Path:
    """This file says that the host was made a node of the cluster."""
    return host.folder / "joined"


def leave(host: RealHost) -> None:
    """Take the node of a host that is off out of the cluster."""
    if joined(host).exists():
        if controlplane.runs():
            controlplane.kubectl("delete", "node", host.name, "--ignore-not-found", "--wait=true")
            where = ("--all-namespaces", f"--field-selector=spec.nodeName={host.name}")
            controlplane.kubectl("delete", "pods", *where, "--force", "--grace-period=0")
        joined(host).unlink()


def route(host: RealHost) -> None:
    """Let this machine find the host's pods; the route goes with the bridge."""
    run("ip", "route", "replace", host.pod_cidr, "via", host.address, "dev", BRIDGE)


def start(host: RealHost) -> None:
    """Switch on: the supply goes on by itself, and sshd answers when this returns."""
    if procs.load(host.record) is not None:
        raise LabError(f"{host.name} is on.")
    host.console.parent.mkdir(parents=True, exist_ok=True)
    begin = host.console.stat().st_size if host.console.exists() else 0
    with host.console.open("a") as log:
        process = subprocess.Popen(
            [sys.executable, str(LAB_SOURCE / "lab.py"), "hosts", "supply", host.name],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
        )  # fmt: skip
    started = procs.start_time(process.pid)
    if started is None:
        raise LabError(f"The power supply of {host.name} ended at once; see {host.console}.")
    procs.Init(process.pid, started, _digest(host)).save(host.record)

    def answers() -> bool:
        if process.poll() is not None:
            with host.console.open(errors="replace") as console:
                console.seek(begin)
                raise LabError(f"{host.name} ended while it was starting:\n{console.read()[-3000:]}")
        return listens(host)

    wait_until(answers, f"{host.name}: sshd answers", 60, f"{host.console} may say why.")


def listens(host: RealHost) -> bool:
    try:
        with socket.create_connection((host.address, 22), timeout=1):
            return True
    except OSError:
        return False


def supply(host: RealHost) -> None:
    """The power supply: boot, and boot again for as long as the host asks for that. Ends when it powers off."""
    fresh = not (host.folder / "data/proc-driver/nvidia-sim").exists()
    while _boot_once(host, fresh):
        procs.end_group(host.name, host.folder / "init.json", parent=CGROUP)
        fresh = False


def _boot_once(host: RealHost, fresh: bool) -> bool:
    """One boot from power-on to its end; whether the host wants another."""
    groups = [str(folder / "cgroup.procs") for folder in cgroups.create(host.name, CGROUP)]
    file = host.folder / "boot.json"
    write(file, json.dumps(_spec(host, groups, fresh), indent=1), 0o600)
    with subprocess.Popen(
        [sys.executable, boot.__file__, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise LabError("boot.py was started without pipes.")
        told = process.stdout.readline().strip()
        if told:
            network.plug(int(told), host.interface, BRIDGE)
            process.stdin.write("go\n")
        process.stdin.close()
        return process.wait() == boot.REBOOT


def _spec(host: RealHost, groups: list[str], fresh: bool) -> dict[str, Any]:
    hierarchies = cgroups.hierarchies()
    mounted = [["", ""]] if len(hierarchies) == 1 else [[each.mountpoint.name, each.options] for each in hierarchies]
    parts = json.loads(host.parts.read_text())
    binds = [[str(host.folder / "data" / name), target] for name, target in _DATA.items()]
    return {
        "name": host.name,
        "attached": True,
        "console": str(host.console),
        "cgroup_procs": groups,
        "namespaces": ["net", "mount", "uts", "ipc", "pid", "cgroup"],
        "network": [
            "link set lo up",
            # The same at each boot, as a real one: the machine goes on with what it knows of the address.
            f"link set eth0 address 02:67:66:00:01:{10 + host.number:02x}",
            "link set eth0 up",
            f"address add {host.address}/24 dev eth0",
            f"route add default via {BRIDGE_ADDRESS}",
        ],
        "root": {
            "mountpoint": str(host.folder / "root"),
            "lower": [str(host.folder / "files"), *parts["lower"]],
            "upper": str(host.folder / "upper"),
            "work": str(host.folder / "work"),
            "binds": [*binds, [parts["packages"], "/srv/packages"]],
            "cgroups": mounted,
            "sysctls": {**hostfiles.SYSCTLS, "kernel/random/boot_id": str(uuid.uuid4())},
            # They are the whole machine's.
            "read_only": ["/proc/sys/kernel", "/proc/sys/vm", "/proc/sys/fs"],
        },
        "before": [["/usr/local/lib/gpufleet-lab/kernel", "boot", *(["fresh"] if fresh else [])]],
        "environment": {"container": "gpufleet-lab"},
        "init": ["/sbin/init"],
    }


def _layers(host: RealHost) -> list[Path]:
    return [realfiles.programs_layer(), rootfs.base_tree(realfiles.PACKAGES, host.suite)]


def _digest(host: RealHost) -> str:
    """Of all that a host is made from: another one means that it has to be made anew."""
    return digest_of(
        [*map(str, _layers(host)), str(packages.folder()), realfiles.digest(), *host.gpus, str(host.nvswitches)]
    )


def _ensure_running(host: RealHost) -> None:
    supply_process = procs.load(host.record)
    if supply_process is not None and supply_process.digest == _digest(host) and listens(host):
        say(f"{host.name}: runs already")
        return
    with step(f"{host.name}: starting", 5):
        reinstall(host)


def _ensure_bridge() -> None:
    if not network.bridge_exists(BRIDGE):
        network.add_bridge(BRIDGE, "02:67:66:00:01:01")
        run("ip", "address", "add", f"{BRIDGE_ADDRESS}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")


def _ensure_keys() -> None:
    SSH_KEY.parent.mkdir(parents=True, exist_ok=True)
    SSH_KEY.parent.chmod(0o700)
    lines = []
    for key in (SSH_KEY, *(host.folder / "ssh_host_ed25519_key" for host in _KNOWN)):
        key.parent.mkdir(parents=True, exist_ok=True)
        if not key.with_suffix(".pub").exists():
            key.unlink(missing_ok=True)
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key.parent.name, "-f", key)
    for host in _KNOWN:
        kind, public, _ = (host.folder / "ssh_host_ed25519_key.pub").read_text().split()
        lines.append(f"{host.address},{host.name} {kind} {public}\n")
    write(KNOWN_HOSTS, "".join(lines))


def status() -> None:
    for host in _KNOWN:
        state = "on" if procs.load(host.record) is not None else "off"
        print(f"{host.name}  {host.address}  {state}{'' if not listens(host) else ', sshd answers'}")


def ssh(host: RealHost, *command: str) -> str:
    """Run a command as the host's sudo user does it."""
    return run(*ssh_command(host), *command)


def ssh_command(host: RealHost) -> list[str]:
    return [
        "ssh", "-i", str(SSH_KEY), "-o", f"UserKnownHostsFile={KNOWN_HOSTS}", "-o", "BatchMode=yes",
        "-o", "ConnectTimeout=5", f"{realfiles.USER}@{host.address}",
    ]  # fmt: skip


def clean() -> bool:
    """Whether nothing of the hosts is left on the machine."""
    groups = [path for path in cgroups.folders("", CGROUP) if path.exists()]
    return not groups and not network.bridge_exists(BRIDGE) and not HOSTS_DIR.exists() and not _mounted()


def _mounted() -> bool:
    return succeeds("grep", "-q", str(HOSTS_DIR), "/proc/self/mountinfo")

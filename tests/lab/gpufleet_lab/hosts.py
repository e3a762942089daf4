# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Life of a simulated GPU host: start, stop, power cut, commands inside."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import uuid
from pathlib import Path
from typing import Any

from . import cgroups, controlplane, hostfiles, launch, network, procs, rootfs
from .console import say, step
from .settings import KNOWN_HOSTS, SSH_KEY, HostSpec, LabError
from .shell import digest_of, ending_with_us, locked, run, wait_until, write

_DATA = {
    # containerd's overlays cannot lie on the host's own overlay.
    "containerd": "/var/lib/containerd",
    "kubelet": "/var/lib/kubelet",
    "pods": "/var/log/pods",
    # The simulated driver's proc and PCI files: simctl fills them, the folders cover the kernel's.
    "proc-driver": "/proc/driver",
    "pci-devices": "/sys/bus/pci/devices",
}
_SSH = (
    "ssh", "-i", str(SSH_KEY), "-o", f"UserKnownHostsFile={KNOWN_HOSTS}", "-o", "BatchMode=yes",
    "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=5",
)  # fmt: skip
_PRODUCT_NAME = "/sys/class/dmi/id/product_name"
_NODE_READY = 'jsonpath={.status.conditions[?(@.type=="Ready")].status} {.status.nodeInfo.bootID}'


def record_of(host: HostSpec) -> Path:
    return host.folder / "init.json"


def running(host: HostSpec) -> procs.Init | None:
    return procs.load(record_of(host))


def layers(simulator: Path) -> list[Path]:
    """Read-only layers under a host's own files, topmost first."""
    return [rootfs.driver_layer(simulator), rootfs.programs_layer(), rootfs.base_tree()]


def _spec(host: HostSpec, lower: list[Path], boot_id: str, fresh: bool) -> dict[str, Any]:
    folder = host.folder
    binds = [[str(folder / "data" / name), target] for name, target in _DATA.items()]
    product_name = folder / "product_name"
    product_name.write_text("SimServer-1\n")
    binds.append([str(product_name), _PRODUCT_NAME])
    hierarchies = cgroups.hierarchies()
    if len(hierarchies) == 1:
        mounted = [["", ""]]
    else:
        mounted = [[hierarchy.mountpoint.name, hierarchy.options] for hierarchy in hierarchies]
    simctl = ["/usr/bin/simctl", "--state", hostfiles.STATE]
    begin = [*simctl, "init", "/etc/gpufleet-lab/gpus.json"] if fresh else [*simctl, "reboot"]
    return {
        "namespaces": ["net", "mount", "uts", "ipc", "pid", "cgroup"],
        "network": network.host_commands(host),
        "root": {
            "mountpoint": str(folder / "root"),
            "lower": [str(folder / "files"), *map(str, lower)],
            "upper": str(folder / "upper"),
            "work": str(folder / "work"),
            "binds": binds,
            "cgroups": mounted,
            "sysctls": {**hostfiles.SYSCTLS, "kernel/random/boot_id": boot_id},
        },
        "before": [begin, [*simctl, "files", "/"]],
        "init": ["/usr/bin/python3", "/usr/local/lib/gpufleet-lab/supervisor.py", "/etc/gpufleet-lab/services.json"],
    }


def ensure_running(host: HostSpec, simulator: Path) -> None:
    """Start a host with fresh GPUs and an empty disk, or leave it when it runs from the same files."""
    files = hostfiles.render(host)
    lower = layers(simulator)
    rendered = [f"{path}\0{file.mode}\0{file.content}" for path, file in sorted(files.items())]
    digest = digest_of([*rendered, *map(str, lower), *host.gpus])
    init = running(host)
    if init and init.digest == digest:
        # An earlier command may have been cut off while the host was booting.
        _wait_ready(host, boot_id_of(host))
        say(f"{host.name}: runs already")
        return
    with step(f"{host.name}: starting{' again, its files have changed' if init else ''}", 8):
        stop(host)
        _wipe(host)
        controlplane.kubectl("delete", "node", host.name, "--ignore-not-found", "--wait=true")
        hostfiles.write_layer(files, host.folder / "files")
        _boot(host, digest, lower, fresh=True)


def start_again(host: HostSpec) -> None:
    """Boot a host that was stopped or lost power: its disk and what its GPUs keep over a reboot are as they were."""
    if running(host):
        raise LabError(f"{host.name} is running.")
    boot = host.folder / "boot.json"
    if not boot.exists():
        raise LabError(f"{host.name} was never started; `lab.py up {host.name}` does that.")
    lower = [Path(layer) for layer in json.loads(boot.read_text())["root"]["lower"][1:]]
    with step(f"{host.name}: booting", 8):
        procs.end_group(host.name, record_of(host))
        _boot(host, (host.folder / "digest").read_text(), lower, fresh=False)


def _boot(host: HostSpec, digest: str, lower: list[Path], fresh: bool) -> None:
    for name in _DATA:
        (host.folder / "data" / name).mkdir(parents=True, exist_ok=True)
    (host.folder / "digest").write_text(digest)
    boot_id = str(uuid.uuid4())
    spec = _spec(host, lower, boot_id, fresh)
    begin = launch.console_of(host.name).stat().st_size if launch.console_of(host.name).exists() else 0
    launch.launch(host.name, record_of(host), digest, spec, lambda pid: network.plug(pid, host.interface))
    _wait_ready(host, boot_id, begin)


def boot_id_of(host: HostSpec) -> str:
    """The boot id that a running host was started with."""
    return str(json.loads((host.folder / "boot.json").read_text())["root"]["sysctls"]["kernel/random/boot_id"])


def _wait_ready(host: HostSpec, boot_id: str, begin: int = 0) -> None:
    """Wait for sshd and for the node; `begin` is where this boot's words begin in the console log."""

    def alive() -> None:
        if running(host) is None:
            with launch.console_of(host.name).open(errors="replace") as console:
                console.seek(begin)
                raise LabError(f"{host.name} ended while it was starting:\n{console.read()[-3000:]}")

    def listens() -> bool:
        alive()
        try:
            with socket.create_connection((host.address, 22), timeout=1):
                return True
        except OSError:
            return False

    def ready() -> bool:
        alive()
        return node_ready(host, boot_id)

    hint = f"`lab.py exec {host.name} -- tail /var/log/kubelet.log` may say why."
    wait_until(listens, f"{host.name}: sshd answers", 30)
    wait_until(ready, f"{host.name}: node Ready", 90, hint, every_s=0.3)


def node_ready(host: HostSpec, boot_id: str = "") -> bool:
    """Whether the node is Ready; with `boot_id`: and said so since that boot (the API keeps an old word)."""
    shown = controlplane.kubectl("get", "node", host.name, "--ignore-not-found", "-o", _NODE_READY)
    ready, _, told_by = shown.partition(" ")
    return ready == "True" and boot_id in told_by


def stop(host: HostSpec, grace_s: float = 0) -> None:
    """End a host: politely with `grace_s`, else as if its power were cut. Its disk stays."""
    procs.end_group(host.name, record_of(host), grace_s)


def _wipe(host: HostSpec) -> None:
    for name in ("upper", "work", "root", "data", "files", "imported", "imported-serving"):
        path = host.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _enter(host: HostSpec) -> list[str]:
    """Command prefix that runs the rest inside the host, in all its namespaces and its control group."""
    init = running(host)
    if init is None:
        raise LabError(f"{host.name} is not running; `lab.py up {host.name}` starts it.")
    for folder in cgroups.folders(host.name):
        # On v2 process 1 made this one for processes; on v1 there is none and any group takes them.
        target = folder / "init" if (folder / "init").exists() else folder
        (target / "cgroup.procs").write_text(str(os.getpid()))
    return [
        "nsenter", f"--target={init.pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd",
        "/usr/bin/env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
        "LANG=C.UTF-8", f"TERM={os.environ.get('TERM', 'dumb')}",
    ]  # fmt: skip


def execute(host: HostSpec, command: list[str]) -> int:
    """Run a command inside a host with our own standard streams; returns its exit status."""
    return subprocess.call([*_enter(host), *command])


def ssh(host: HostSpec, *command: str) -> str:
    """Run a command over SSH, as Ansible would."""
    return run(*_SSH, f"root@{host.address}", *command)


def import_images(host: HostSpec, images: dict[str, Path], record_name: str = "imported") -> None:
    """Hand image archives to a host's containerd, each only once per content."""
    record = host.folder / record_name
    known = set(record.read_text().split()) if record.exists() else set()
    missing = {digest: image for digest, image in images.items() if digest not in known}
    if not missing:
        return
    with locked(host.folder / "import.lock", f"{host.name}: another command imports images"):
        for digest, image in missing.items():
            with image.open("rb") as archive:
                result = subprocess.run(
                    ending_with_us([*_SSH, f"root@{host.address}", "ctr -n k8s.io images import --local -"]),
                    stdin=archive,
                    capture_output=True,
                    text=True,
                    check=False,
                )
            if result.returncode != 0:
                raise LabError(f"{host.name}: import of {image.name} failed: {result.stderr.strip()}")
            known.add(digest)
            # Only what the host should have: an archive that is wanted again later may bring a tag that was moved.
            write(record, "\n".join(sorted(known & set(images))) + "\n")
    say(f"{host.name}: images {', '.join(sorted(image.stem for image in missing.values()))}")

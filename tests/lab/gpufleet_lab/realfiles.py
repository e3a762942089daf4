# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The files of a host with systemd: names, keys, sudo user, the part that plays the kernel, containerd as a unit."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from . import artifacts, binaries, rootfs
from .settings import CACHE, LAB_SOURCE
from .shell import digest_of, whole_folder
from .shell import write as write_file

if TYPE_CHECKING:
    from .realhosts import RealHost

USER = "ops"
_USER_ID = 1000
# What a freshly installed Debian server has.
PACKAGES = (
    "python3",
    "python3-apt",
    "openssh-server",
    "iproute2",
    "procps",
    "kmod",
    "ca-certificates",
    "libseccomp2",
    "pciutils",
    "systemd",
    "systemd-sysv",
    "dbus",
    "sudo",
    "initramfs-tools",
    "gpgv",
    "udev",
)
_CONTAINER_PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr", "runc")
_LIB = "usr/local/lib/gpufleet-lab"
_PLAYS_KERNEL = (LAB_SOURCE / "host" / "kernel", LAB_SOURCE / "host" / "modprobe")

# These would set sysctls and devices of the whole machine, or need a console.
_MASKED = (
    "systemd-sysctl",
    "systemd-udevd",
    "systemd-udev-trigger",
    "systemd-modules-load",
    "getty@tty1",
    "e2scrub_reap",
)

_SSHD = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
UsePAM no
PrintMotd no
MaxStartups 100
AcceptEnv LANG LC_*
Subsystem sftp /usr/lib/openssh/sftp-server
"""
_CONTAINERD_UNIT = """\
[Unit]
Description=containerd container runtime
After=network.target

[Service]
Type=notify
ExecStart=/usr/bin/containerd
KillMode=process
Restart=always

[Install]
WantedBy=multi-user.target
"""
# A line of the administrator's that whoever configures the runtime must keep.
_CONTAINERD = """\
version = 3

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
"""


def programs_layer() -> Path:
    built = [str(binaries.program(name)) for name in _CONTAINER_PROGRAMS]
    return CACHE / "layers" / f"containers-{digest_of(built)}"


def build_programs_layer() -> None:
    target = programs_layer()
    if target.exists():
        return
    with whole_folder(target) as scratch:
        (scratch / "usr/bin").mkdir(parents=True)
        for name in _CONTAINER_PROGRAMS:
            os.link(binaries.program(name), scratch / "usr/bin" / name)


def digest() -> str:
    return digest_of([Path(__file__), *_PLAYS_KERNEL, str(artifacts.simulator())])


def write(host: RealHost, key: Path) -> None:
    """Write the layer of one host; it must be off."""
    target = host.folder / "files"
    public = key.with_suffix(".pub").read_text()
    host_key = host.folder / "ssh_host_ed25519_key"
    passwd = f"{USER}:x:{_USER_ID}:{_USER_ID}::/home/{USER}:/bin/bash\n"
    tree = {
        "etc/hostname": f"{host.name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n{host.address} {host.name}\n",
        "etc/machine-id": f"{uuid.uuid4().hex}\n",
        "etc/ssh/sshd_config": _SSHD,
        "etc/apt/sources.list": "# The host has no way to Debian's mirrors.\n",
        "etc/containerd/config.toml": _CONTAINERD,
        "etc/systemd/system/containerd.service": _CONTAINERD_UNIT,
        "etc/gpufleet-lab/gpus.json": json.dumps({"gpus": [{"product": product} for product in host.gpus]}),
    }
    for path, content in tree.items():
        write_file(target / path, content)
    base = rootfs.base_tree(PACKAGES, host.suite)
    for file, line in (
        ("etc/passwd", passwd),
        ("etc/group", f"{USER}:x:{_USER_ID}:\n"),
        ("etc/shadow", f"{USER}:*:20000:0:99999:7:::\n"),
    ):
        write_file(target / file, (base / file).read_text() + line, (base / file).stat().st_mode & 0o777)
    os.chown(target / "etc/shadow", 0, (base / "etc/shadow").stat().st_gid)
    write_file(target / f"etc/sudoers.d/{USER}", f"{USER} ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    write_file(target / "etc/ssh/ssh_host_ed25519_key", host_key.read_text(), 0o600)
    write_file(target / "etc/ssh/ssh_host_ed25519_key.pub", host_key.with_suffix(".pub").read_text())
    write_file(target / f"home/{USER}/.ssh/authorized_keys", public, 0o600)
    home = target / "home" / USER
    for owned in (home, *home.rglob("*")):
        os.chown(owned, _USER_ID, _USER_ID)
    for number in range(host.nvswitches):
        pci = target / f"etc/gpufleet-lab/pci/0000:{0xC0 + number:02x}:00.0"
        for file, value in (("vendor", "0x10de"), ("device", "0x22a3"), ("class", "0x068000")):
            write_file(pci / file, f"{value}\n")
    for empty in ("etc/gpufleet-lab/pci", "var/lib/apt/lists/partial"):
        (target / empty).mkdir(parents=True, exist_ok=True)
    (target / _LIB).mkdir(parents=True)
    shutil.copy(artifacts.simulator() / "simctl", target / _LIB / "simctl")
    shutil.copy(_PLAYS_KERNEL[0], target / _LIB / "kernel")
    (target / "usr/local/sbin").mkdir(parents=True)
    shutil.copy(_PLAYS_KERNEL[1], target / "usr/local/sbin/modprobe")
    units = target / "etc/systemd/system"
    for unit in _MASKED:
        (units / f"{unit}.service").symlink_to("/dev/null")
    (units / "multi-user.target.wants").mkdir()
    for unit in ("/etc/systemd/system/containerd.service", "/lib/systemd/system/ssh.service"):
        (units / "multi-user.target.wants" / Path(unit).name).symlink_to(unit)
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")

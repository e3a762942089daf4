# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Debian's Slurm on a host: gres.conf as slurmd reads it, and a node that slurmctld refuses and takes again."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab.gpufleet_lab import realhosts
from lab.gpufleet_lab.shell import wait_until

from .conftest import Host

pytestmark = pytest.mark.full

NAME = "bare-a100"
SMALL = [{"gpus": "all", "instances": {"1g.5gb": 7}}]
MIXED = [{"gpus": 0, "instances": {"1g.5gb": 7}}, {"gpus": 1, "instances": {"3g.20gb": 2}}]
CONF = f"""
ClusterName=lab
SlurmctldHost={NAME}
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmUser=slurm
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/lib/slurm/slurmd
SelectType=select/cons_tres
GresTypes=gpu
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
NodeName={NAME} CPUs=2 RealMemory=1000 Gres=@GRES@ State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def install(host: Host, folder: Path) -> None:
    """The host has no way to Debian's repositories, the machine has."""
    (folder / "partial").mkdir(parents=True)
    status = folder / "status"
    status.write_text(host.sh("cat /var/lib/dpkg/status") + "\n")
    get = ["apt-get", "-q", "-y", "--no-install-recommends", "--download-only"]
    get += ["-o", f"Dir::State::status={status}", "-o", f"Dir::Cache::archives={folder}"]
    subprocess.run([*get, "install", "slurmctld", "slurmd", "slurm-client", "munge"], check=True, capture_output=True)
    packed = subprocess.run(["tar", "-C", folder, "-cf", "-", "."], check=True, capture_output=True).stdout
    unpack = ["sudo", "sh", "-c", "'mkdir /root/slurm && tar -C /root/slurm -xf -'"]
    subprocess.run([*realhosts.ssh_command(host.host), *unpack], input=packed, check=True)
    host.sh("DEBIAN_FRONTEND=noninteractive dpkg -i /root/slurm/*.deb >/dev/null")
    host.sh("mkdir -p /var/lib/slurm/slurmctld /var/lib/slurm/slurmd && chown slurm /var/lib/slurm/slurmctld")


def says(host: Host, gres: str) -> None:
    """slurm.conf says so, and the controller has read it."""
    text = CONF.replace("@GRES@", gres)
    host.sh(f'echo "{text}" > /etc/slurm/slurm.conf; systemctl restart slurmctld; systemctl restart slurmd')


def state(host: Host) -> str:
    shown = host.sh(f"scontrol show node {NAME} --oneliner")
    return re.search(r"State=(\S+)", shown)[1]  # type: ignore[index]


def shows(host: Host, wanted: str) -> None:
    wait_until(lambda: re.fullmatch(wanted, state(host)) is not None, f"Slurm shows {wanted}", 30)


@pytest.mark.skipif(not Path("/usr/bin/apt-get").exists() or os.geteuid() != 0, reason="needs root on Debian")
def test_slurm_takes_what_the_gpus_offer(bare: Callable[[str], Host], tmp_path: Path) -> None:
    host = bare(NAME)
    site: dict[str, Any] = {
        "playbook": "site.yml",
        "mig_slurm": True,
        "mig_slurm_poll": 1,
        "mig_slurm_gres_conf": "/etc/slurm/gres.conf",
        "mig_slurm_autodetect": False,  # Debian's Slurm has no NVML
    }
    # The host is partitioned before it has Slurm.
    host.play(playbook="site.yml", mig_layout=MIXED)
    install(host, tmp_path / "slurm")
    says(host, "gpu:nvidia_a100_1g.5gb:7,gpu:nvidia_a100_3g.20gb:2")
    shows(host, r".*DRAIN\+INVALID_REG")
    host.play(mig_layout=MIXED, **site)
    shows(host, "IDLE")
    assert host.play(mig_layout=MIXED, **site).changed == 0
    assert len(host.sh("srun --gres=gpu:nvidia_a100_1g.5gb:3 printenv CUDA_VISIBLE_DEVICES").split(",")) == 3

    # slurm.conf first: the node is refused until it offers as many.
    says(host, "gpu:nvidia_a100_1g.5gb:14")
    shows(host, r".*DRAIN\+INVALID_REG")
    host.play(mig_layout=SMALL, **site)
    shows(host, "IDLE")

    # The GPUs first.
    again: dict[str, Any] = {"mig_layout": [{"gpus": "all", "instances": {"1g.5gb": 2}}], **site}
    refused = host.play(ok=False, **again)
    assert refused.rc == 2
    assert "set Gres=gpu:nvidia_a100_1g.5gb:4 there and restart slurmctld" in " ".join(refused.output.split())
    assert "DRAIN" in state(host)
    says(host, "gpu:nvidia_a100_1g.5gb:4")
    host.play(**again)
    shows(host, "IDLE")
    assert host.play(**again).changed == 0

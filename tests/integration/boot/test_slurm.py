# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of Slurm: drained while they are changed, given back as they were found, gres.conf as the GPUs stand."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from integration.boot.role_host import RoleHost, role_host
from integration.modules.conftest import MakeHost

pytestmark = pytest.mark.slow

ON = {"mig_slurm": True, "mig_slurm_poll": 0.2, "mig_slurm_timeout": 60, "mig_slurm_gres_conf": "/run/gres.conf"}
FOUND = {"name": "here", "drained": False, "reason": "", "jobs": [], "history": []}
SLURMD = "[Unit]\nDescription=Slurm node daemon\n[Service]\nType=oneshot\nExecStart=/bin/cp /run/gres.conf /run/read\n"


@pytest.fixture
def host(make_host: MakeHost) -> Iterator[RoleHost]:
    with role_host(make_host({"product": "a100-sxm4-40gb", "mig": "enabled"}, "h100-sxm5-80gb")) as found:
        found.inside(
            "sh", "-c", f"mkdir -p /etc/systemd/system; printf '{SLURMD}' > /etc/systemd/system/slurmd.service"
        )
        yield found


def has(host: RoleHost, **state: Any) -> None:
    host.inside("sh", "-c", f"echo '{json.dumps({**FOUND, **state})}' > /run/slurm-node.json")


def state(host: RoleHost) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.reads("/run/slurm-node.json"))
    return found


def test_a_job_ends_before_the_gpus_change_and_the_node_is_given_back(host: RoleHost) -> None:
    layout = [{"gpus": 0, "instances": [{"profile": "3g.20gb", "start": 4}, {"profile": "3g.20gb", "start": 0}]}]
    with subprocess.Popen(["sleep", "6"]) as job:
        has(host, jobs=[job.pid])
        run = host.play("site", mig_layout=layout, **ON)
        assert run.code == 0, run.printed
        assert job.poll() == 0
    assert (state(host)["drained"], state(host)["history"]) == (False, ["DRAIN", "RESUME"])
    assert host.reads("/run/gres.conf").endswith("\nAutoDetect=nvml\n")
    assert host.reads("/run/read") == host.reads("/run/gres.conf")  # slurmd was started anew, behind the file
    has(host)
    again = host.play("site", mig_layout=layout, **ON)
    assert (again.code, again.changed, state(host)["history"]) == (0, 0, []), again.printed
    has(host, drained=True, reason="gpufleet.mig failed at Have slurmd look again")
    finished = host.play("site", mig_layout=layout, **ON)
    assert (finished.code, state(host)["history"]) == (0, ["RESUME"]), finished.printed


def test_a_job_that_does_not_end_leaves_the_gpus_and_the_node_drained_with_the_reason(host: RoleHost) -> None:
    before = host.simulated.lines()
    with subprocess.Popen(["sleep", "600"]) as job:
        try:
            has(host, jobs=[job.pid])
            run = host.play("site", mig_layout="all-balanced", **{**ON, "mig_slurm_timeout": 1})
        finally:
            job.kill()
    assert run.code == 2
    assert "here: its jobs did not end within 1 s; nothing was changed." in run.printed
    assert host.simulated.lines() == before
    assert (state(host)["drained"], "gpufleet.mig failed at" in state(host)["reason"]) == (True, True)


@pytest.mark.full
def test_a_node_that_an_operator_drained_stays_drained(host: RoleHost) -> None:
    has(host, drained=True, reason="disk is full")
    run = host.play("site", mig_layout="all-balanced", **ON)
    assert run.code == 0, run.printed
    assert (state(host)["drained"], state(host)["reason"], state(host)["history"]) == (True, "disk is full", [])


def test_a_gpu_on_which_slurmd_would_not_start_is_refused_before_anything_is_touched(host: RoleHost) -> None:
    has(host)
    run = host.play("site", mig_layout="all-enabled", **ON)
    assert run.code == 2
    assert "GPU 0 (NVIDIA A100-SXM4-40GB) has MIG enabled and nothing on it that a job can use" in run.printed
    assert state(host)["history"] == []

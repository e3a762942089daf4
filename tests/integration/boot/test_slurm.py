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
    host.inside("sh", "-c", "echo AutoDetect=off > /run/gres.conf")
    mended = host.play("site", mig_layout=layout, **ON)
    assert (mended.code, state(host)["history"]) == (0, ["DRAIN", "RESUME"]), mended.printed
    assert host.reads("/run/read").endswith("\nAutoDetect=nvml\n")
    has(host, drained=True, reason="gpufleet.mig failed at Have slurmd look again")
    finished = host.play("site", mig_layout=layout, **ON)
    assert (finished.code, state(host)["history"][-1]) == (0, "RESUME"), finished.printed


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


def test_a_controller_that_goes_away_is_named_and_the_next_run_finishes(host: RoleHost) -> None:
    has(host)
    dies = SLURMD.replace("/bin/cp /run/gres.conf /run/read", "/bin/cp /run/gres.conf /run/slurm-away")
    host.inside("sh", "-c", f"printf '{dies}' > /etc/systemd/system/slurmd.service")
    run = host.play("site", mig_layout="all-balanced", **{**ON, "__mig_slurm_report": 1})
    said = " ".join(run.printed.split())
    assert run.code == 2, said
    assert "here: scontrol show failed (Unable to contact slurm controller (connect failure)); its GPUs are" in said
    assert state(host)["drained"]
    changed = host.simulated.lines()
    away = host.play("site", mig_layout="all-disabled", **ON)
    assert away.code == 2
    assert "Slurm does not tell how node here stands (Unable to contact slurm controller" in " ".join(
        away.printed.split()
    )
    assert host.simulated.lines() == changed
    host.inside("sh", "-c", f"rm /run/slurm-away; printf '{SLURMD}' > /etc/systemd/system/slurmd.service")
    finished = host.play("site", mig_layout="all-balanced", **ON)
    assert (finished.code, state(host)["history"]) == (0, ["DRAIN", "DRAIN", "RESUME"]), finished.printed


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


def test_uninstall_drains_and_puts_gpus_and_gres_conf_back(host: RoleHost) -> None:
    """gres.conf describes the GPUs: it stays with a layout that stays, and is as it was where that is."""
    layout = [{"gpus": 1, "instances": {"3g.40gb": 2}}, {"gpus": 0, "instances": {"1g.5gb": 7}}]
    gone = {"mig_confirm_uninstall": True, "mig_uninstall_layout": True}
    found = host.simulated.lines()
    host.inside("sh", "-euc", "echo 'Name=gpu File=/dev/nvidia[0-1]' > /run/gres.conf; chmod 640 /run/gres.conf")
    stood = host.inside("stat", "-c", "%A %u %g", "/run/gres.conf").stdout
    has(host)
    run = host.play("site", mig_layout=layout, **ON)
    assert run.code == 0, run.printed
    assert "AutoDetect=nvml" in host.reads("/run/read")
    with subprocess.Popen(["sleep", "6"]) as job:
        has(host, jobs=[job.pid])
        run = host.play("uninstall", mig_layout=layout, **ON, **gone)
        assert run.code == 0, run.printed
        assert job.poll() == 0
    assert (host.simulated.lines(), state(host)["history"]) == (found, ["DRAIN", "RESUME"])
    assert host.reads("/run/gres.conf") == "Name=gpu File=/dev/nvidia[0-1]\n"
    assert host.inside("stat", "-c", "%A %u %g", "/run/gres.conf").stdout == stood
    assert host.reads("/run/read") == host.reads("/run/gres.conf")  # slurmd was started anew, behind the file
    assert not [path for path in host.files() if "gpufleet" in path]
    has(host)
    again = host.play("uninstall", mig_layout=layout, **ON, **gone)
    assert (again.code, again.changed, state(host)["history"]) == (0, 0, []), again.printed


@pytest.mark.full
@pytest.mark.parametrize("before", ["nothing", "link", "taken over"])
def test_uninstall_leaves_no_gres_conf_a_link_or_what_somebody_wrote_since(host: RoleHost, before: str) -> None:
    layout = [{"gpus": 1, "instances": {"3g.40gb": 2}}, {"gpus": 0, "instances": {"1g.5gb": 7}}]
    if before == "link":
        host.inside("sh", "-euc", "echo AutoDetect=off > /run/shared.conf; ln -s shared.conf /run/gres.conf")
    has(host)
    assert host.play("site", mig_layout=layout, **ON).code == 0
    if before == "taken over":
        host.inside("sh", "-euc", "echo AutoDetect=nvidia > /run/gres.conf")
    plain = host.play("uninstall", mig_layout=layout, mig_confirm_uninstall=True, mig_uninstall_layout=True, **ON)
    assert (plain.code == 0) == (before != "nothing"), plain.printed  # slurmd of these tests wants the file
    kept = host.inside("sh", "-c", "readlink /run/gres.conf || cat /run/gres.conf")
    assert kept.stdout == {"nothing": "", "link": "shared.conf\n", "taken over": "AutoDetect=nvidia\n"}[before]
    assert ("was written by somebody else since" in plain.printed) == (before == "taken over")


@pytest.mark.full
def test_a_layout_that_stays_keeps_its_gres_conf(host: RoleHost) -> None:
    layout = [{"gpus": 1, "instances": {"3g.40gb": 2}}, {"gpus": 0, "instances": {"1g.5gb": 7}}]
    has(host)
    assert host.play("site", mig_layout=layout, **ON).code == 0
    written, stood = host.reads("/run/gres.conf"), host.simulated.lines()
    has(host)
    run = host.play("uninstall", mig_layout=layout, mig_confirm_uninstall=True, **ON)
    assert run.code == 0, run.printed
    assert (host.reads("/run/gres.conf"), host.simulated.lines(), state(host)["history"]) == (written, stood, [])

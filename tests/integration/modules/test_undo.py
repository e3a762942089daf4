# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands after a call failed, after the module was killed, and after a GPU was lost in the middle of a change."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from integration.modules.conftest import MakeHost
from integration.modules.simulated_host import SimulatedHost

from ansible_collections.gpufleet.mig.plugins.module_utils._changes import shape

A100, H100, A30 = "a100-sxm4-40gb", "h100-sxm5-80gb", "a30"
UNKNOWN, IN_USE, LOST, INSUFFICIENT = 999, 19, 15, 23
GI_DESTROY, CI_DESTROY = "nvmlGpuInstanceDestroy", "nvmlComputeInstanceDestroy"

INSIDE = {"profile": "3g.20gb", "start": 4, "compute_instances": ["1c.3g.20gb", "2c.3g.20gb"]}
# hosts, what stands before, and what is wanted then
SMALL = (
    [A100],
    [{"gpus": 0, "instances": {"1g.5gb": 3, "2g.10gb": 1}}],
    [{"gpus": 0, "instances": {"3g.20gb": 1, "1g.5gb": 2}}],
)
CHANGES: dict[str, tuple[list[str], Any, Any]] = {
    "two GPUs": (
        [H100, H100],
        [{"gpus": 0, "instances": {"1g.10gb": 7}}, {"gpus": 1, "instances": {"3g.40gb": 2}}],
        [{"gpus": 0, "instances": {"3g.40gb": 1, "1g.10gb": 3}}, {"gpus": 1, "instances": {"1g.20gb": 4}}],
    ),
    "mode on, Ampere": ([A100], "all-disabled", "all-balanced"),
    "mode off, Ampere": ([A100], "all-balanced", "all-disabled"),
    "mode both ways, Hopper": (
        [H100, H100],
        [{"gpus": 0, "mig": "disabled"}, {"gpus": 1, "instances": {"3g.40gb": 1}}],
        [{"gpus": 0, "instances": {"7g.80gb": 1}}, {"gpus": 1, "mig": "disabled"}],
    ),
    "compute instances": (
        [A100],
        [{"gpus": 0, "instances": [INSIDE]}],
        [{"gpus": 0, "instances": [{**INSIDE, "compute_instances": ["1c.3g.20gb"] * 3}]}],
    ),
    "A30": ([A30], "all-1g.6gb", "all-balanced"),
}


def standing(host: SimulatedHost) -> list[Any]:
    return [shape(gpu) for gpu in host.gpus()]


def sweep(make_host: MakeHost, change: tuple[list[str], Any, Any], *how: str | int, parallel: bool = True) -> int:
    """Let the first, second, ... writing call of a change fail until the change gets through; how many failed."""
    gpus, first, then = change
    for call in range(1, 200):
        host = make_host(*gpus)
        host.run("mig_layout", layout=first)
        before, uuids = standing(host), host.uuids()
        host.simctl("fault", "writes", "--calls", call, *how)
        answer = host.run("mig_layout", layout=then, parallel=parallel)
        host.clear_faults()
        if not answer.get("failed"):
            assert host.run("mig_layout", layout=then)["changed"] is False
            return call - 1
        assert standing(host) == before, answer["msg"]
        stayed = {key for key in host.uuids() if key in uuids and host.uuids()[key] == uuids[key]}
        touched = {
            (step["gpu"], step["start"])
            for step in host.run("mig_layout", layout=then, check=True)["actions"]
            if step["action"] in ("destroy", "destroy_compute_instance")
        }
        assert stayed >= set(uuids) - touched, answer["msg"]
        assert "again as before" in answer["msg"]
        assert answer["undone"]["not_back"] == []
        assert not host.journal.exists()
        assert host.run("mig_layout", layout=then)["changed"]
    pytest.fail("the change never got through")


def test_any_call_that_fails_is_undone(make_host: MakeHost) -> None:
    assert sweep(make_host, SMALL, "--return", UNKNOWN) >= 6


@pytest.mark.full
@pytest.mark.parametrize("parallel", [True, False], ids=["parallel", "one by one"])
@pytest.mark.parametrize("code", [UNKNOWN, IN_USE, INSUFFICIENT])
@pytest.mark.parametrize("name", CHANGES)
def test_any_call_of_any_change_that_fails_is_undone(make_host: MakeHost, name: str, code: int, parallel: bool) -> None:
    assert sweep(make_host, CHANGES[name], "--return", code, parallel=parallel) >= 2


@pytest.mark.full
@pytest.mark.parametrize("name", CHANGES)
def test_a_call_that_did_its_work_and_still_fails_is_undone(make_host: MakeHost, name: str) -> None:
    assert sweep(make_host, CHANGES[name], "--return", UNKNOWN, "--after") >= 2


def killed(make_host: MakeHost, change: tuple[list[str], Any, Any], *how: str) -> int:
    """Kill the module at its first, second, ... writing call until it gets through; how often it was killed."""
    gpus, first, then = change
    for call in range(1, 200):
        host = make_host(*gpus)
        host.run("mig_layout", layout=first)
        before = [gpu["instances"] for gpu in host.gpus()]
        host.simctl("fault", "writes", "--calls", call, "--kill", *how)
        status, answer = host.try_to_run("mig_layout", layout=then)
        host.clear_faults()
        if answer is not None:
            return call - 1
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert host.journal.exists()
        foretold = host.run("mig_layout", layout=then, check=True)
        assert host.journal.exists()
        again = host.run("mig_layout", layout=then)
        assert not again.get("failed"), again["msg"]
        assert "An earlier change of GPU " in str(again["warnings"])
        assert any(gpu["before"]["instances"] in before for gpu in again["interrupted"]["gpus"])
        assert again["diff"] == foretold["diff"]
        assert not host.journal.exists()
        after = host.run("mig_layout", layout=then)
        assert (after["changed"], after["interrupted"]) == (False, None)
    pytest.fail("the change never got through")


def test_a_killed_run_is_finished_by_the_next(make_host: MakeHost) -> None:
    assert killed(make_host, SMALL) >= 6


@pytest.mark.full
@pytest.mark.parametrize("how", [(), ("--after",)], ids=["before the call", "after it"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_killed_run_of_any_change_is_finished_by_the_next(
    make_host: MakeHost, name: str, how: tuple[str, ...]
) -> None:
    assert killed(make_host, CHANGES[name], *how) >= 2


def test_a_gpu_instance_that_is_in_use_after_its_compute_instance_went_gets_it_back(make_host: MakeHost) -> None:
    host = make_host(A100)
    host.run("mig_layout", layout="all-balanced")
    before = standing(host)
    host.simctl("fault", GI_DESTROY, "--calls", "1-", "--return", IN_USE)
    host.forget_calls()
    answer = host.run("mig_layout", layout=[{"gpus": 0, "instances": {"7g.40gb": 1}}])
    assert answer["failed"]
    assert "GPU 0 (NVIDIA A100-SXM4-40GB): destroying 1g.5gb at 0 failed (nvmlGpuInstanceDestroy: " in answer["msg"]
    assert "fuser -v /dev/nvidia0" in answer["msg"]
    assert any(call.startswith(CI_DESTROY) for call in host.writes())
    assert standing(host) == before


def test_the_message_names_gpu_profile_call_and_what_is_next(make_host: MakeHost) -> None:
    host = make_host(H100, H100)
    host.simctl("fault", "nvmlDeviceCreateGpuInstanceWithPlacement", "--gpu", 1, "--calls", 2, "--return", INSUFFICIENT)
    answer = host.run("mig_layout", layout="all-balanced")
    for words in (
        "GPU 1 (NVIDIA H100 80GB HBM3): creating 1g.10gb at 1 failed (nvmlDeviceCreateGpuInstanceWithPlacement: ",
        "GPU 0 and GPU 1 are again as before",
        "Next: compare the layout with the profiles and places",
    ):
        assert words in answer["msg"]
    assert (answer["gpu"], answer["nvml_code"], answer["undone"]) == (1, INSUFFICIENT, {"back": [0, 1], "not_back": []})


def test_what_cannot_be_undone_is_said_and_kept_in_the_journal(make_host: MakeHost) -> None:
    host = make_host(A100)
    host.run("mig_layout", layout="all-1g.5gb")
    host.simctl("fault", "nvmlDeviceCreateGpuInstanceWithPlacement", "--calls", "1-", "--return", UNKNOWN)
    answer = host.run("mig_layout", layout=[{"gpus": 0, "instances": {"3g.20gb": 2}}])
    assert answer["failed"]
    assert "could not be put back" in answer["msg"]
    assert str(host.journal) in answer["msg"]
    assert answer["undone"] == {"back": [], "not_back": [0]}
    host.clear_faults()
    again = host.run("mig_layout", layout="all-1g.5gb")
    assert "An earlier change of GPU " in str(again["warnings"])
    assert len(again["interrupted"]["gpus"][0]["before"]["instances"]) == 7
    assert len(host.uuids()) == 7


def test_a_gpu_lost_in_the_middle_and_the_others_go_back(make_host: MakeHost) -> None:
    host = make_host(H100, H100)
    host.run("mig_layout", layout="all-1g.10gb")
    before = standing(host)
    # from its third destroyed instance on, nothing answers for GPU 1 any more
    host.simctl("fault", "writes", "--gpu", 1, "--calls", "5-", "--return", LOST)
    host.simctl("fault", "nvmlDeviceGetMigMode", "--gpu", 1, "--calls", "2-", "--return", LOST)
    answer = host.run("mig_layout", layout=[{"gpus": "all", "instances": {"3g.40gb": 2}}])
    assert answer["failed"]
    assert "GPU 1 (NVIDIA H100 80GB HBM3): destroying" in answer["msg"]
    assert "GPU 0 is again as before" in answer["msg"]
    assert "GPU 1 (NVIDIA H100 80GB HBM3) could not be put back" in answer["msg"]
    assert "reboot the host" in answer["msg"]
    assert answer["undone"] == {"back": [0], "not_back": [1]}
    host.clear_faults()
    assert standing(host)[0] == before[0]

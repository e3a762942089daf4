# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MIG modes: GPUs that take one at once, reset themselves, have to be reset from outside, or wait for a reboot."""

from __future__ import annotations

from typing import Any

import pytest
from integration.modules.conftest import MakeHost
from integration.modules.simulated_host import SimulatedHost, place_of

A100, H100 = "a100-sxm4-40gb", "h100-sxm5-80gb"
PASSED_THROUGH = {"product": A100, "passthrough": True}
SET_MODE, RESET = "nvmlDeviceSetMigMode", "simReset"
IN_USE = 19


def modes(host: SimulatedHost) -> list[tuple[str, str]]:
    return [(gpu["mig_mode"]["current"], gpu["mig_mode"]["pending"]) for gpu in host.gpus()]


def calls(host: SimulatedHost, function: str) -> list[str]:
    return [call for call in host.writes() if place_of(call) == function]


@pytest.fixture
def no_resets(make_host: MakeHost) -> MakeHost:
    """Hosts whose nvidia-smi cannot reset."""

    def make(*gpus: Any, **settings: Any) -> SimulatedHost:
        host = make_host(*gpus, **settings)
        host.simctl("fault", RESET, "--calls", "1-", "--return", IN_USE)
        return host

    return make


def test_an_idle_ampere_resets_itself_and_others_are_not_reset(make_host: MakeHost) -> None:
    host = make_host(A100, {"product": A100, "mig": "enabled"})
    host.run("mig_layout", layout=[{"gpus": 1, "instances": {"1g.5gb": 7}}])
    uuids = host.uuids()
    host.forget_calls()
    answer = host.run("mig_layout", layout=[{"gpus": 0, "instances": {"3g.20gb": 2}}])
    assert answer["changed"]
    assert answer["plan"]["gpus"][0]["reset"]
    assert calls(host, SET_MODE) == ["nvmlDeviceSetMigMode gpu=0 mode=1 -> 0"]
    assert calls(host, RESET) == []
    assert {key: uuid for key, uuid in host.uuids().items() if key[0] == 1} == uuids


def test_passed_through_gpus_are_reset_from_outside_together_and_only_they(make_host: MakeHost) -> None:
    host = make_host(PASSED_THROUGH, A100, PASSED_THROUGH, H100)
    answer = host.run("mig_layout", layout="all-enabled")
    assert answer["changed"], answer
    assert not answer["reboot_required"]
    assert calls(host, RESET) == ["simReset gpu=-1 reset=0 reset=2 -> 0"]
    assert modes(host) == [("enabled", "enabled")] * 4


def test_instances_are_created_after_a_reset_from_outside(make_host: MakeHost) -> None:
    host = make_host(PASSED_THROUGH, A100)
    foretold = host.run("mig_layout", layout="all-balanced", check=True)
    answer = host.run("mig_layout", layout="all-balanced")
    assert answer["diff"] == foretold["diff"]
    assert len(host.uuids()) == 8
    assert host.run("mig_layout", layout="all-balanced")["changed"] is False


def test_without_a_reset_the_mode_waits_for_a_reboot_and_then_the_layout_is_finished(no_resets: MakeHost) -> None:
    host = no_resets(PASSED_THROUGH, A100)
    answer = host.run("mig_layout", layout="all-balanced")
    assert answer["changed"]
    assert answer["reboot_required"]
    assert modes(host) == [("disabled", "enabled"), ("enabled", "enabled")]
    assert "A reboot of the host brings it" in str(answer["warnings"])
    assert "GPU 0 (NVIDIA A100-SXM4-40GB): MIG disabled (enabled is pending)" in answer["diff"]["after"]
    assert len(host.uuids()) == 4  # the other GPU is finished
    assert not host.journal.exists()

    again = host.run("mig_layout", layout="all-balanced")
    assert (again["changed"], again["reboot_required"]) == (False, True)

    host.simctl("reboot")
    after = host.run("mig_layout", layout="all-balanced")
    assert (after["changed"], after["reboot_required"]) == (True, False)
    assert len(host.uuids()) == 8


def test_where_a_reset_is_not_allowed_none_is_tried_and_a_check_foretells_that(make_host: MakeHost) -> None:
    host = make_host({"product": A100, "passthrough": True, "mig": "enabled"})
    host.run("mig_layout", layout="all-balanced")
    host.forget_calls()
    ways: dict[str, Any] = {"layout": "all-disabled", "mode_changes": ["reboot"]}
    foretold = host.run("mig_layout", **ways, check=True)
    answer = host.run("mig_layout", **ways)
    for key in ("changed", "diff", "actions", "reboot_required"):
        assert answer[key] == foretold[key], key
    assert answer["reboot_required"]
    assert modes(host) == [("enabled", "disabled")]
    assert calls(host, RESET) == []
    host.forget_calls()
    for check in (False, True):
        again = host.run("mig_layout", **ways, check=check)
        assert (again["changed"], again["reboot_required"]) == (False, True)
    assert host.writes() == []


def test_where_reset_and_reboot_are_forbidden_nothing_is_touched(make_host: MakeHost) -> None:
    host = make_host(A100)
    answer = host.run("mig_layout", layout="all-balanced", mode_changes=[])
    assert answer["failed"]
    assert "takes a reset or a reboot, and neither is allowed" in answer["msg"]
    assert host.writes() == []


def test_a_reset_that_does_not_work_is_undone_where_a_reboot_is_forbidden(no_resets: MakeHost) -> None:
    host = no_resets(PASSED_THROUGH, A100)
    answer = host.run("mig_layout", layout="all-balanced", mode_changes=["reset"])
    assert answer["failed"]
    assert "MIG enabled is only pending" in answer["msg"]
    assert "GPU 0 and GPU 1 are again as before" in answer["msg"]
    assert modes(host) == [("disabled", "disabled")] * 2


def test_a_pending_mode_is_set_back_and_instances_stay(make_host: MakeHost) -> None:
    host = make_host({"product": A100, "mig": "enabled", "passthrough": True})
    host.run("mig_layout", layout="all-balanced")
    uuids = host.uuids()
    # another program asks for MIG off, and the GPU waits for a reset
    host.simctl("fault", RESET, "--calls", "1-", "--return", IN_USE)
    host.run("mig_mode", mode="disabled", destroy_instances=True, mode_changes=["reboot"])
    host.clear_faults()
    assert modes(host) == [("enabled", "disabled")]
    assert host.run("mig_layout", layout="all-balanced", mode_changes=["reset", "reboot"])["failed"]
    host.forget_calls()
    answer = host.run("mig_layout", layout="all-balanced")
    assert answer["changed"]
    assert modes(host) == [("enabled", "enabled")]
    assert len(host.uuids()) == len(uuids)
    assert calls(host, RESET) == []


def test_unlisted_gpus_keep_a_pending_mode(make_host: MakeHost) -> None:
    host = make_host(PASSED_THROUGH, H100)
    host.run("mig_mode", gpus=0, mode="enabled", mode_changes=["reboot"])
    assert modes(host)[0] == ("disabled", "enabled")
    host.forget_calls()
    answer = host.run("mig_layout", layout=[{"gpus": 1, "instances": {"7g.80gb": 1}}])
    assert answer["changed"]
    assert not answer["reboot_required"]
    assert modes(host)[0] == ("disabled", "enabled")
    assert {call.split("gpu=")[1][0] for call in host.writes()} == {"1"}


def test_a_process_on_the_whole_gpu_stops_a_mode_change(make_host: MakeHost) -> None:
    host = make_host(H100)
    host.simctl("busy", 0, "--pid", 77, "--name", "trainer")
    answer = host.run("mig_layout", layout="all-balanced")
    assert answer["failed"]
    assert "process 77 (trainer) uses GPU 0" in answer["msg"]
    assert host.writes() == []


def test_a_client_that_nvml_does_not_list_leaves_the_mode_pending(make_host: MakeHost) -> None:
    host = make_host(A100)
    host.simctl("busy", 0)
    host.simctl("fault", "nvmlDeviceGetComputeRunningProcesses_v3", "--calls", "1-", "--return", 3)
    answer = host.run("mig_mode", mode="enabled")
    assert answer["changed"]
    assert answer["reboot_required"]
    assert "because it is in use" in str(answer["warnings"])
    assert modes(host) == [("disabled", "enabled")]


@pytest.mark.parametrize("product", [A100, H100])
def test_mig_mode_check_run_run_check(make_host: MakeHost, product: str) -> None:
    host = make_host(product, product)
    for mode in ("enabled", "disabled"):
        foretold = host.run("mig_mode", mode=mode, gpus=[1], check=True)
        done = host.run("mig_mode", mode=mode, gpus=[1])
        for key in ("changed", "diff", "actions", "plan", "reboot_required"):
            assert done[key] == foretold[key], key
        assert done["changed"]
        assert done["actions"] == [{"gpu": 1, "action": "set_mode", "mode": mode, "reset": product == A100}]
        host.forget_calls()
        for check in (False, True):
            again = host.run("mig_mode", mode=mode, gpus=[1], check=check)
            assert again["changed"] is False
        assert host.writes() == []
        assert modes(host) == [("disabled", "disabled"), (mode, mode)]


def test_mig_mode_keeps_instances_and_never_takes_them_unasked(make_host: MakeHost) -> None:
    host = make_host(H100, H100)
    host.run("mig_layout", layout=[{"gpus": 0, "instances": {"3g.40gb": 2}}])
    uuids = host.uuids()
    host.forget_calls()
    assert host.run("mig_mode", mode="enabled")["changed"]  # GPU 1
    assert host.uuids() == uuids
    assert calls(host, SET_MODE) == ["nvmlDeviceSetMigMode gpu=1 mode=1 -> 0"]
    host.forget_calls()
    for check in (True, False):
        refused = host.run("mig_mode", mode="disabled", check=check)
        assert refused["failed"]
        assert "GPU 0 (NVIDIA H100 80GB HBM3) has instances (3g.40gb@0, 3g.40gb@4)" in refused["msg"]
        assert "destroy_instances: true" in refused["msg"]
    assert host.writes() == []
    allowed = host.run("mig_mode", mode="disabled", destroy_instances=True)
    assert allowed["changed"]
    assert modes(host) == [("disabled", "disabled")] * 2


def test_mig_mode_never_destroys_what_is_busy(make_host: MakeHost) -> None:
    host = make_host(H100)
    host.run("mig_layout", layout=[{"gpus": 0, "instances": {"7g.80gb": 1}}])
    host.simctl("busy", 0, "--gi", host.gpus()[0]["instances"][0]["gi_id"], "--pid", 5, "--name", "server")
    answer = host.run("mig_mode", mode="disabled", destroy_instances=True)
    assert answer["failed"]
    assert "process 5 (server) uses 7g.80gb at 0 of GPU 0" in answer["msg"]


def test_mig_mode_with_a_selector_that_hits_nothing(make_host: MakeHost) -> None:
    host = make_host(A100)
    answer = host.run("mig_mode", mode="enabled", gpus={"model": "H200"})
    assert answer["failed"]
    assert "hits no GPU" in answer["msg"]
    assert host.writes() == []

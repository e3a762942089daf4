# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules refuse, in which words, and that nothing has been touched then."""

from __future__ import annotations

from typing import Any

import pytest
from integration.modules.conftest import MakeHost
from integration.modules.simulated_host import NOBODY

from ansible_collections.gpufleet.mig.plugins.module_utils._journal import Journal

A100, H100 = "a100-sxm4-40gb", "h100-sxm5-80gb"

WRONG: list[tuple[str, Any, tuple[str, ...]]] = [
    ("unknown profile", [{"gpus": 0, "instances": {"3g.30gb": 1}}], ("no profile '3g.30gb'", "did you mean 3g.20gb")),
    ("impossible", [{"gpus": 0, "instances": {"4g.20gb": 2}}], ("cannot hold 2 x 4g.20gb", "nearest that fits: ")),
    ("no such index", [{"gpus": 7, "instances": {}}], ("selects GPU 7", "not there", "there is 0, 1")),
    ("no such model", [{"gpus": {"model": "H100*"}, "mig": "enabled"}], ("hits no GPU", "H100*", "A100-SXM4-40GB")),
    ("no such uuid", [{"gpus": {"uuid": "GPU-1"}, "mig": "enabled"}], ("hits no GPU", "GPU-1")),
    (
        "selected twice",
        [{"gpus": 0, "mig": "enabled"}, {"gpus": "0-1", "mig": "disabled"}],
        ("GPU 0 is selected twice", "entry 1", "entry 2"),
    ),
    ("named twice", [{"gpus": [0, 0], "mig": "enabled"}], ("names GPU 0 twice",)),
    (
        "instances without MIG",
        [{"gpus": 0, "mig": "disabled", "instances": {"1g.5gb": 1}}],
        ("wants instances with mig: disabled", "remove one of the two"),
    ),
    ("no such preset", "all-blanced", ("'all-blanced'", "all-balanced")),
    (
        "a place that is none",
        [{"gpus": 0, "instances": [{"profile": "2g.10gb", "start": 3}]}],
        ("it can start at 0 or",),
    ),
]


@pytest.mark.parametrize("check", [True, False], ids=["check", "run"])
@pytest.mark.parametrize(
    ("layout", "words"), [(layout, words) for _name, layout, words in WRONG], ids=[w[0] for w in WRONG]
)
def test_a_wrong_layout_is_refused_before_anything_is_touched(
    make_host: MakeHost, layout: Any, words: tuple[str, ...], check: bool
) -> None:
    host = make_host(A100, {"product": A100, "mig": "enabled"})
    before = host.gpus()
    answer = host.run("mig_layout", layout=layout, check=check)
    assert answer["failed"]
    for word in words:
        assert word in answer["msg"]
    assert host.writes() == []
    assert host.gpus() == before


def test_a_gpu_without_mig(make_host: MakeHost) -> None:
    host = make_host("l40s", A100)
    board = host.gpus()[0]
    assert board["mig_mode"] == {"current": "unsupported", "pending": "unsupported"}
    assert (board["name"], board["memory_mib"], board["profiles"]) == ("NVIDIA L40S", 46068, [])
    answer = host.run("mig_layout", layout=[{"gpus": 0, "instances": {"1g.5gb": 1}}])
    assert answer["failed"]
    assert "GPU 0 (NVIDIA L40S) has no MIG" in answer["msg"]
    assert host.run("mig_layout", layout=[{"gpus": 0, "mig": "disabled"}])["changed"] is False
    assert host.writes() == []
    host.run("mig_layout", layout="all-1g.5gb")  # all and presets mean the boards with MIG
    assert [len(gpu["instances"]) for gpu in host.gpus()] == [0, 7]


@pytest.mark.parametrize("check", [True, False], ids=["check", "run"])
def test_a_busy_instance_that_has_to_go(make_host: MakeHost, check: bool) -> None:
    host = make_host(A100)
    host.run("mig_layout", layout="all-1g.5gb")
    for instance in host.gpus()[0]["instances"]:
        host.simctl("busy", 0, "--gi", instance["gi_id"], "--pid", 4000 + instance["start"], "--name", "python3")
    host.forget_calls()
    answer = host.run("mig_layout", layout=[{"gpus": 0, "instances": {"7g.40gb": 1}}], check=check)
    assert answer["failed"]
    assert "process 4003 (python3) uses 1g.5gb at 3 of GPU 0" in answer["msg"]
    assert "Nothing was changed. To go on, stop process 4000 (python3)" in answer["msg"]
    assert len(answer["blockers"]) == 7
    assert answer["plan"]["feasible"]
    assert host.writes() == []


def test_a_plan_goes_round_what_is_busy(make_host: MakeHost) -> None:
    host = make_host(A100)
    host.run("mig_layout", layout="all-1g.5gb")
    busy = next(instance for instance in host.gpus()[0]["instances"] if instance["start"] == 6)
    host.simctl("busy", 0, "--gi", busy["gi_id"])
    before = host.uuids()
    answer = host.run("mig_layout", layout=[{"gpus": 0, "instances": {"3g.20gb": 1, "1g.5gb": 1}}])
    assert answer["changed"], answer
    assert answer["diff"]["after"].rstrip().endswith("3g.20gb@0 1g.5gb@6")
    assert host.uuids()[(0, 6)] == before[(0, 6)]


def test_a_driver_that_is_too_old_is_refused_with_the_version_wanted(make_host: MakeHost) -> None:
    host = make_host(A100, driver_version="470.82.01")
    for check in (True, False):
        answer = host.run("mig_layout", layout="all-1g.5gb", check=check)
        assert answer["failed"]
        assert "driver 470.82.01 of this host is too old" in answer["msg"]
        assert "525.60.13 or newer" in answer["msg"]
    assert host.writes() == []
    assert host.run("mig_layout", layout="all-disabled")["changed"] is False  # nothing to do: nothing is missing


def test_not_root(make_host: MakeHost) -> None:
    host = make_host({"product": A100, "mig": "enabled"})
    for check in (True, False):
        answer = host.run("mig_layout", layout="all-1g.5gb", user=NOBODY, check=check)
        assert answer["failed"]
        assert "root" in answer["msg"]
        assert "become: true" in answer["msg"]
    assert host.writes() == []


def test_the_driver_is_not_loaded(make_host: MakeHost) -> None:
    host = make_host(A100)
    host.simctl("driver", "unload")
    calls: dict[str, dict[str, Any]] = {"mig_info": {}, "mig_layout": {"layout": []}, "mig_mode": {"mode": "enabled"}}
    for module, arguments in calls.items():
        answer = host.run(module, **arguments)
        assert answer["failed"]
        assert "driver is not loaded" in answer["msg"]
        assert "modprobe nvidia" in answer["msg"]
    assert not host.journal.parent.exists()


def test_a_lost_gpu_is_named_and_the_others_are_left_alone(make_host: MakeHost) -> None:
    host = make_host(H100, H100)
    host.simctl("lose", 1)
    calls: dict[str, dict[str, Any]] = {"mig_info": {}, "mig_layout": {"layout": "all-1g.10gb"}}
    for module, arguments in calls.items():
        answer = host.run(module, **arguments)
        assert answer["failed"]
        assert "GPU 1 of this host is lost" in answer["msg"]
    assert host.writes() == []


def test_two_runs_on_one_host_exclude_each_other(make_host: MakeHost) -> None:
    host = make_host(A100)
    with Journal(host.journal).locked():
        answer = host.run("mig_layout", layout="all-1g.5gb")
        assert answer["failed"]
        assert "Another run is changing the GPUs" in answer["msg"]
        assert host.run("mig_layout", layout="all-1g.5gb", check=True)["changed"]
    assert host.writes() == []

# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mig_layout on hosts of the simulated NVML: what it changes, what it leaves alone, and that it says so beforehand."""

from __future__ import annotations

from typing import Any

import pytest
from integration.modules.conftest import MakeHost
from integration.modules.simulated_host import SimulatedHost, place_of

A100, H100, A30 = "a100-sxm4-40gb", "h100-sxm5-80gb", "a30"
PRO, B200 = "rtx-pro-6000-server", "b200-180gb"
CREATE = ("nvmlDeviceCreateGpuInstanceWithPlacement", "nvmlGpuInstanceCreateComputeInstanceWithPlacement")
DEMO_H100 = [
    {"gpus": "0-1", "instances": {"1g.10gb": 7}},
    {"gpus": [2, 3], "preset": "all-balanced"},
    {"gpus": 4, "instances": {"3g.40gb": 2}},
    {"gpus": 5, "instances": {"1g.20gb": 4}},
    {"gpus": "rest", "mig": "disabled"},
]
ONE_INSIDE = [{"profile": "3g.20gb", "start": 0, "compute_instances": ["1c.3g.20gb", "2c.3g.20gb"]}]

# host, layout, and how the GPUs stand then: MIG mode and instances with places, by hand from NVIDIA's MIG guide
LAYOUTS: list[tuple[list[str], Any, list[str]]] = [
    ([A100], "all-1g.5gb", ["enabled: " + " ".join(f"1g.5gb@{start}" for start in range(7))]),
    ([A100], "all-balanced", ["enabled: 1g.5gb@0 1g.5gb@1 2g.10gb@2 3g.20gb@4"]),
    ([A100], "all-enabled", ["enabled: no instances"]),
    ([A100], "all-disabled", ["disabled"]),
    ([A100], [{"gpus": 0, "instances": {"7g.40gb": 1}}], ["enabled: 7g.40gb@0"]),
    ([A100], [{"gpus": 0, "instances": {"4g.20gb": 1, "3g.20gb": 1}}], ["enabled: 4g.20gb@0 3g.20gb@4"]),
    ([A100], [{"gpus": 0, "instances": {"1g.10gb": 4}}], ["enabled: 1g.10gb@0 1g.10gb@2 1g.10gb@4 1g.10gb@6"]),
    ([A100], [{"gpus": 0, "instances": ONE_INSIDE}], ["enabled: 3g.20gb@0[2c.3g.20gb, 1c.3g.20gb]"]),
    (
        [A100],
        [{"gpus": 0, "instances": [{"profile": "2g.10gb", "start": 4, "compute_instances": []}]}],
        ["enabled: 2g.10gb@4[]"],
    ),
    (
        [H100] * 8,
        DEMO_H100,
        [
            *["enabled: " + " ".join(f"1g.10gb@{start}" for start in range(7))] * 2,
            *["enabled: 1g.10gb@0 1g.10gb@1 2g.20gb@2 3g.40gb@4"] * 2,
            "enabled: 3g.40gb@0 3g.40gb@4",
            "enabled: 1g.20gb@0 1g.20gb@2 1g.20gb@4 1g.20gb@6",
            *["disabled"] * 2,
        ],
    ),
    ([A30], "all-balanced", ["enabled: 1g.6gb@0 1g.6gb@1 2g.12gb@2"]),
    ([A30], [{"gpus": 0, "instances": {"2g.12gb+me": 1, "1g.6gb": 2}}], ["enabled: 1g.6gb@0 1g.6gb@1 2g.12gb+me@2"]),
    (
        [PRO],
        [{"gpus": 0, "instances": {"1g.24gb+me.all": 1, "1g.24gb-me": 3}}],
        ["enabled: 1g.24gb+me.all@0 1g.24gb-me@3 1g.24gb-me@6 1g.24gb-me@9"],
    ),
    ([PRO], [{"gpus": 0, "instances": {"2g.48gb+gfx": 1, "1g.24gb": 1}}], ["enabled: 1g.24gb@0 2g.48gb+gfx@6"]),
    ([B200], [{"gpus": 0, "instances": {"1g.23gb": 1, "3g.90gb": 1}}], ["enabled: 1g.23gb@0 3g.90gb@4"]),
]


def states(host: SimulatedHost) -> list[str]:
    """The lines of the host after the name of the GPU."""
    return [line.split(": MIG ", 1)[1] for line in host.lines()]


@pytest.mark.parametrize(
    ("gpus", "layout", "wanted"), LAYOUTS, ids=[f"{one[0][0]}-{number}" for number, one in enumerate(LAYOUTS)]
)
def test_check_run_run_check(make_host: MakeHost, gpus: list[str], layout: Any, wanted: list[str]) -> None:
    host = make_host(*gpus)
    before = host.gpus()
    foretold = host.run("mig_layout", check=True, layout=layout)
    assert host.writes() == []
    assert host.gpus() == before
    assert not host.journal.parent.exists()

    done = host.run("mig_layout", layout=layout)
    assert {key: done.get(key) for key in ("changed", "diff", "actions", "plan", "reboot_required")} == {
        key: foretold.get(key) for key in ("changed", "diff", "actions", "plan", "reboot_required")
    }
    assert states(host) == wanted
    assert done["gpus"] == host.gpus()
    assert done["changed"] is (wanted != ["disabled"])
    assert not done["reboot_required"]
    assert {place_of(call) for call in host.writes()} <= {"nvmlDeviceSetMigMode", *CREATE}
    assert not host.journal.exists()

    host.forget_calls()
    again = host.run("mig_layout", layout=layout)
    again_foretold = host.run("mig_layout", check=True, layout=layout)
    assert host.writes() == []
    for answer in (again, again_foretold):
        assert answer["changed"] is False
        assert answer["actions"] == []
        assert answer["diff"]["before"] == answer["diff"]["after"] == done["diff"]["after"]
        assert answer["gpus"] == done["gpus"]


def test_only_the_gpu_that_differs_is_touched(make_host: MakeHost) -> None:
    host = make_host(H100, H100, H100)
    host.run("mig_layout", layout="all-1g.10gb")
    kept = {key: uuid for key, uuid in host.uuids().items() if key[0] != 1}
    host.forget_calls()
    answer = host.run(
        "mig_layout",
        layout=[{"gpus": [0, 2], "instances": {"1g.10gb": 7}}, {"gpus": 1, "instances": {"3g.40gb": 2}}],
    )
    assert answer["changed"]
    assert {call.split("gpu=", 1)[1][0] for call in host.writes()} == {"1"}
    assert {key: uuid for key, uuid in host.uuids().items() if key[0] != 1} == kept
    assert states(host)[1] == "enabled: 3g.40gb@0 3g.40gb@4"
    assert answer["diff"]["before"].splitlines()[0] == answer["diff"]["after"].splitlines()[0]
    assert answer["diff"]["before"].splitlines()[1] != answer["diff"]["after"].splitlines()[1]


@pytest.mark.parametrize("uuids", ["new", "stable"])
def test_instances_that_can_stay_keep_their_uuid(make_host: MakeHost, uuids: str) -> None:
    host = make_host(A100, uuids=uuids)
    host.run("mig_layout", layout="all-1g.5gb")
    before = host.uuids()
    host.forget_calls()
    host.run("mig_layout", layout=[{"gpus": 0, "instances": {"1g.5gb": 3, "3g.20gb": 1}}])
    after = host.uuids()
    stay = [key for key in after if key in before and key[1] < 3]
    assert len(stay) == 3
    assert all(before[key] == after[key] for key in stay)
    destroyed = [call for call in host.writes() if place_of(call) == "nvmlGpuInstanceDestroy"]
    assert len(destroyed) == 4


def test_inside_an_instance_only_the_compute_instances_that_differ_change(make_host: MakeHost) -> None:
    host = make_host(A100)
    thirds = ["1c.3g.20gb", "1c.3g.20gb", "1c.3g.20gb"]
    host.run("mig_layout", layout=[{"gpus": 0, "instances": [{"profile": "3g.20gb", "compute_instances": thirds}]}])
    before = host.gpus()[0]["instances"][0]
    host.forget_calls()
    two = ["1c.3g.20gb", "2c.3g.20gb"]
    host.run("mig_layout", layout=[{"gpus": 0, "instances": [{"profile": "3g.20gb", "compute_instances": two}]}])
    after = host.gpus()[0]["instances"][0]
    assert after["gi_id"] == before["gi_id"]
    assert [ci["profile"] for ci in after["compute_instances"]] == ["2c.3g.20gb", "1c.3g.20gb"]
    assert after["compute_instances"][-1]["uuid"] == before["compute_instances"][-1]["uuid"]
    assert sorted(place_of(call) for call in host.writes()) == [
        "nvmlComputeInstanceDestroy",
        "nvmlComputeInstanceDestroy",
        "nvmlGpuInstanceCreateComputeInstanceWithPlacement",
    ]


def test_one_by_one_gives_the_same_as_in_parallel(make_host: MakeHost) -> None:
    results = []
    for parallel in (True, False):
        host = make_host(*[H100] * 8)
        answer = host.run("mig_layout", layout=DEMO_H100, parallel=parallel)
        calls = sorted(host.writes())
        order = [call.split("gpu=", 1)[1][0] for call in host.writes() if "Create" in call]
        results.append((states(host), answer["actions"], calls))
    assert results[0] == results[1]
    assert order == sorted(order)  # the last host: one after the other


def test_gpus_are_changed_at_the_same_time(make_host: MakeHost) -> None:
    host = make_host(*[H100] * 4)
    for gpu in range(4):
        host.simctl("delay", gpu, 100)
    host.run("mig_layout", layout="all-1g.10gb")
    order = [call.split("gpu=", 1)[1][0] for call in host.writes() if "Create" in call]
    assert len(order) == 4 * 14
    # with a delay after each call, threads that run beside each other take turns
    assert order != sorted(order)


def test_user_presets_counts_and_unlisted_gpus(make_host: MakeHost) -> None:
    host = make_host(H100, H100, H100)
    host.run("mig_layout", layout=[{"gpus": 1, "instances": {"3g.40gb": 2}}])
    arguments: dict[str, Any] = {
        "layout": [{"gpus": {"count": 1}, "preset": "inference"}],
        "layouts": {"inference": [{"gpus": "all", "instances": {"3g.40gb": 2}}]},
    }
    kept = host.run("mig_layout", **arguments)
    assert kept["changed"] is False  # GPU 1 is so already
    refused = host.run("mig_layout", **arguments, unlisted_gpus="fail")
    assert refused["failed"]
    assert "No entry of the layout selects GPU 0, 2" in refused["msg"]
    host.run(
        "mig_layout",
        layout=[{"gpus": 0, "instances": {"1g.10gb": 1}}, {"gpus": 1, "preset": "inference"}],
        layouts=arguments["layouts"],
    )
    off = host.run("mig_layout", **arguments, unlisted_gpus="disable")
    assert off["changed"]
    assert states(host) == ["disabled", "enabled: 3g.40gb@0 3g.40gb@4", "disabled"]


def test_no_layout_leaves_the_host_alone(make_host: MakeHost) -> None:
    host = make_host(A100)
    answer = host.run("mig_layout", layout=None)
    assert answer["changed"] is False
    assert host.writes() == []


def test_names_of_another_driver_are_answered_in_the_present_ones(make_host: MakeHost) -> None:
    host = make_host("a100-sxm4-80gb")
    answer = host.run("mig_layout", layout=[{"gpus": 0, "instances": {"3g.39gb": 2}}])  # as drivers 535 and 545 say
    assert answer["changed"]
    assert states(host) == ["enabled: 3g.40gb@0 3g.40gb@4"]
    assert host.run("mig_layout", layout=[{"gpus": 0, "instances": {"3g.39gb": 2}}])["changed"] is False


@pytest.mark.full
@pytest.mark.parametrize("product", [A100, A30, "a100-sxm4-80gb", H100, "h200-141gb", PRO, B200, "gb200", "gb300"])
def test_every_profile_alone_and_as_often_as_it_fits(make_host: MakeHost, product: str) -> None:
    host = make_host(product)
    host.run("mig_layout", layout="all-enabled")
    for row in host.gpus()[0]["profiles"]:
        layout = [{"gpus": 0, "instances": {row["name"]: row["count"]}}]
        answer = host.run("mig_layout", layout=layout)
        assert not answer.get("failed"), answer
        standing = host.gpus()[0]["instances"]
        assert [instance["profile"] for instance in standing] == [row["name"]] * row["count"]
        assert host.run("mig_layout", layout=layout)["changed"] is False


def test_a_compute_instance_has_the_size_of_its_profile_whatever_its_place(make_host: MakeHost) -> None:
    """NVML's place of the one that fills a 3g of an H100 is 0:4 (published listings)."""
    host = make_host(H100)
    host.run("mig_layout", layout=[{"gpus": 0, "instances": {"3g.40gb": 2}}])
    inside = [ci for instance in host.gpus()[0]["instances"] for ci in instance["compute_instances"]]
    assert [(ci["profile"], ci["start"], ci["size"]) for ci in inside] == [("3g.40gb", 0, 3)] * 2
    created = [line for line in host.writes() if place_of(line) == CREATE[1]]
    assert len(created) == 2
    assert host.run("mig_layout", layout=[{"gpus": 0, "instances": {"3g.40gb": 2}}])["changed"] is False

# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""MIG mode: changes, pending modes, resets, reboots, and who is in the way of them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from unit.planner_support import Gpu, gpu, instance, no_mig_gpu, standing

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host

AMPERE, HOPPER = "a100-sxm4-40gb", "h100-sxm5-80gb"
SMALL = {AMPERE: "1g.5gb", HOPPER: "1g.10gb"}
ALL_WAYS = ("reset", "reboot", "set_back")


def planned(on: Gpu, layout: Any, **more: Any) -> dict[str, Any]:
    plan = plan_host([on], layout, **more)
    return {**plan["gpus"][0], "plan": plan}


def cut(key: str, *, busy: bool = False, **mode: Any) -> Gpu:
    on = gpu(key, **mode)
    return standing(on, instance(on, SMALL[key], 0, busy=busy), instance(on, SMALL[key], 3))


@pytest.mark.parametrize("key", [AMPERE, HOPPER])
@pytest.mark.parametrize(("current", "wanted"), list(itertools.product(["enabled", "disabled"], repeat=2)))
def test_mode_is_set_only_where_it_differs_and_reset_only_on_ampere(key: str, current: str, wanted: str) -> None:
    one = planned(gpu(key, mode=current), f"all-{wanted}")
    differs = current != wanted
    assert one["mode"] == {"from": current, "to": wanted, "pending": current, "set": differs}
    assert one["reset"] is (differs and key == AMPERE)
    assert one["reboot"] is one["plan"]["reboot_required"] is False
    assert one["plan"]["changed"] is differs
    assert one["plan"]["after"][0]["mig_mode"] == {"current": wanted, "pending": wanted}


@pytest.mark.parametrize("key", [AMPERE, HOPPER])
def test_switching_off_destroys_everything_and_names_who_is_in_the_way(key: str) -> None:
    one = planned(cut(key, busy=True), "all-disabled")
    assert [(gone["start"], gone["busy"]) for gone in one["destroy"]] == [(0, True), (3, False)]
    assert [(who["kind"], who["pid"], who["name"]) for who in one["blockers"]] == [("process", 4000, "python")]
    assert f"{SMALL[key]} at 0 of GPU 0" in one["blockers"][0]["remedy"]
    assert one["feasible"] is True
    assert one["plan"]["after"][0]["instances"] == []


def test_processes_on_the_whole_gpu_block_a_mode_change_only() -> None:
    off = {**gpu(HOPPER, mode="disabled"), "processes": [{"pid": 77, "name": "Xorg"}]}
    assert [who["pid"] for who in planned(off, "all-enabled")["blockers"]] == [77]
    assert planned(off, "all-disabled")["blockers"] == []
    on = {**gpu(HOPPER), "processes": [{"pid": 77, "name": "dcgm"}]}
    assert planned(on, [{"gpus": 0, "instances": {"1g.10gb": 1}}])["blockers"] == []


@pytest.mark.parametrize("allow", [ways for n in range(4) for ways in itertools.combinations(ALL_WAYS, n)])
def test_a_mode_change_takes_the_gentlest_way_that_is_allowed(allow: tuple[str, ...]) -> None:
    one = planned(gpu(AMPERE, mode="disabled"), "all-enabled", allow=allow)
    assert one["feasible"] is ("reset" in allow or "reboot" in allow)
    if one["feasible"]:
        assert one["reset"] is ("reset" in allow)
        assert one["plan"]["reboot_required"] is ("reset" not in allow)
    else:
        assert "takes a reset or a reboot, and neither is allowed" in one["reason"]
        assert one["plan"]["changed"] is False
        assert one["plan"]["after"][0]["mig_mode"]["current"] == "disabled"


@pytest.mark.parametrize("allow", [ways for n in range(4) for ways in itertools.combinations(ALL_WAYS, n)])
@pytest.mark.parametrize(("current", "wanted"), list(itertools.product(["enabled", "disabled"], repeat=2)))
def test_a_pending_mode_is_taken_or_set_back(current: str, wanted: str, allow: tuple[str, ...]) -> None:
    pending = "disabled" if current == "enabled" else "enabled"
    on = cut(AMPERE, pending=pending) if current == "enabled" else gpu(AMPERE, mode=current, pending=pending)
    one = planned(on, f"all-{wanted}", allow=allow)
    assert one["mode"]["pending"] == pending
    if current == wanted:
        assert one["feasible"] is ("set_back" in allow)
        assert one["reset"] is one["reboot"] is False
    else:
        assert one["feasible"] is bool({"reset", "reboot"} & set(allow))
    if one["feasible"]:
        assert one["mode"]["set"] is True
        after = one["plan"]["after"][0]["mig_mode"]
        assert after == {"current": wanted, "pending": wanted}
        assert plan_host(one["plan"]["after"], f"all-{wanted}")["changed"] is False
    else:
        assert "pending" in one["reason"]
        assert "allow" in one["reason"]
        assert one["destroy"] == []


def test_setting_back_keeps_the_instances() -> None:
    one = planned(cut(AMPERE, busy=True, pending="disabled"), [{"gpus": 0, "instances": {"1g.5gb": 2}}])
    assert len(one["keep"]) == 2
    assert one["destroy"] == one["create"] == one["blockers"] == []
    assert (one["mode"]["set"], one["reset"]) == (True, False)


def test_a_gpu_that_is_left_alone_keeps_its_pending_mode() -> None:
    on = cut(AMPERE, pending="disabled")
    for layout in (None, [{"gpus": 1, "mig": "disabled"}]):
        plan = plan_host([on, gpu(AMPERE, 1, mode="disabled")], layout)
        assert plan["changed"] is False
        assert plan["after"][0] is on
        assert plan["gpus"][0]["mode"]["set"] is False


def test_instances_are_planned_on_an_ampere_gpu_that_lists_no_profiles_yet() -> None:
    one = planned(gpu(AMPERE, mode="disabled", nvml=False), [{"gpus": 0, "instances": {"1g.5gb": 7}}])
    assert [made["start"] for made in one["create"]] == list(range(7))
    after = one["plan"]["after"][0]
    assert {row["name"] for row in after["profiles"]} >= {"1g.5gb", "7g.40gb"}


def test_a_gpu_without_mig() -> None:
    for layout in (
        "all-disabled",
        [{"gpus": 0, "mig": "disabled"}],
        [{"gpus": {"model": "tesla*"}, "mig": "disabled"}],
    ):
        assert plan_host([no_mig_gpu()], layout)["changed"] is False
    for layout in ("all-1g.10gb", "all-enabled", "all-balanced"):
        with pytest.raises(LayoutError, match="none of Tesla T4 can do MIG"):
            plan_host([no_mig_gpu()], layout)
    with pytest.raises(
        LayoutError, match=r"GPU 0 \(Tesla T4\) has no MIG, but the layout entry 1 \(gpus: 0\) wants it"
    ):
        plan_host([no_mig_gpu()], [{"gpus": 0, "instances": {"1g.10gb": 1}}])
    mixed = [no_mig_gpu(0), gpu(HOPPER, 1)]
    assert [len(one["create"]) for one in plan_host(mixed, "all-balanced")["gpus"]] == [0, 4]


@pytest.mark.parametrize("unlisted", ["keep", "disable", "fail"])
def test_gpus_that_no_entry_selects(unlisted: str) -> None:
    gpus = [cut(HOPPER), {**cut(HOPPER), "index": 1}, no_mig_gpu(2)]
    layout = [{"gpus": 0, "mig": "enabled"}]
    if unlisted == "fail":
        with pytest.raises(
            LayoutError, match="No entry of the layout selects GPU 1, and unlisted GPUs are set to fail"
        ):
            plan_host(gpus, layout, unlisted=unlisted)
        return
    plan = plan_host(gpus, layout, unlisted=unlisted)
    assert [len(one["destroy"]) for one in plan["gpus"]] == [2, 0 if unlisted == "keep" else 2, 0]
    assert plan["gpus"][1]["mode"]["to"] == ("enabled" if unlisted == "keep" else "disabled")
    assert plan_host(gpus, None, unlisted=unlisted)["changed"] is False


def test_a_wrong_word_for_unlisted_gpus() -> None:
    with pytest.raises(LayoutError, match="not 'drop'"):
        plan_host([gpu(HOPPER)], "all-balanced", unlisted="drop")


def test_a_process_known_on_the_instance_only_blocks_too() -> None:
    on = gpu(HOPPER)
    held = instance(on, "1g.10gb", 0, compute=[("1g.10gb", 0, False)])
    one = planned(standing(on, {**held, "busy": True}), "all-enabled")
    assert [(who["pid"], who["instance"]) for who in one["blockers"]] == [(None, "1g.10gb at 0 of GPU 0")]
    assert "names no process" in one["blockers"][0]["remedy"]


def test_what_differs_is_said_per_gpu() -> None:
    off = {**gpu(HOPPER, mode="disabled"), "index": 1}
    waiting = {**gpu(AMPERE, mode="enabled"), "index": 2, "mig_mode": {"current": "enabled", "pending": "disabled"}}
    right = {**cut(HOPPER), "index": 3}
    layout = [
        {"gpus": 0, "instances": [{"profile": "1g.10gb", "start": 0, "compute_instances": []}, {"profile": "3g.40gb"}]},
        {"gpus": 1, "instances": {"3g.40gb": 1}},
        {"gpus": 2, "mig": "enabled"},
        {"gpus": 3, "instances": {"1g.10gb": 2}},
    ]
    assert plan_host([cut(HOPPER), off, waiting, right], layout)["differences"] == [
        "GPU 0 has 1g.10gb@3 and lacks 3g.40gb@4 and has 1g.10gb in 1g.10gb@0",
        "GPU 1 has MIG disabled, wanted is enabled and lacks 3g.40gb@4",
        "GPU 2 has MIG enabled with disabled pending, wanted is enabled",
    ]


def test_what_a_reboot_took_comes_back_where_no_entry_selects_the_gpu_and_nothing_stands() -> None:
    """GPUs 0 to 3: selected, lost with its mode, cut anew since, empty before too."""
    stood: list[dict[str, Any]] = [
        {"gpus": "0-2", "instances": [{"profile": "3g.40gb", "start": 4}]},
        {"gpus": 3, "mig": "enabled"},
    ]
    cut_anew = gpu(HOPPER, 2)
    gpus = [gpu(HOPPER, 0), gpu(HOPPER, 1, mode="disabled"), standing(cut_anew, instance(cut_anew, "1g.10gb", 0))]
    gpus.append(gpu(HOPPER, 3))
    missing = {"gpus": 7, "instances": [{"profile": "3g.40gb", "start": 4}]}  # a board that is gone
    wish = [{"gpus": 0, "instances": [{"profile": "1g.10gb", "start": 0}]}]

    def after(**more: Any) -> list[list[tuple[str, int]]]:
        plan = plan_host(gpus, wish, **more)
        assert plan["feasible"], plan["reason"]
        return [[(one["profile"], one["start"]) for one in each["instances"]] for each in plan["after"]]

    kept = [[("1g.10gb", 0)], [], [("1g.10gb", 0)], []]
    assert after() == after(stood=[]) == kept
    assert after(stood=[*stood, missing]) == [*kept[:1], [("3g.40gb", 4)], *kept[2:]]
    assert after(stood=stood, unlisted="disable") == [*kept[:2], [], []]
    lost = plan_host(gpus, None, stood=stood)
    assert [part["mode"]["set"] for part in lost["gpus"]] == [False, True, False, False]
    assert [len(part["create"]) for part in lost["gpus"]] == [1, 1, 0, 0]

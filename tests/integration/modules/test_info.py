# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mig_info, and hosts on which there is nothing to do."""

from __future__ import annotations

from integration.modules.conftest import MakeHost
from integration.modules.simulated_host import NOBODY

A100, H100, A30 = "a100-sxm4-40gb", "h100-sxm5-80gb", "a30"


def test_all_of_a_host(make_host: MakeHost) -> None:
    host = make_host({"product": H100, "mig": "enabled"}, A100)
    host.run("mig_layout", layout=[{"gpus": 0, "instances": [{"profile": "3g.40gb", "start": 4}]}])
    gi_id = host.gpus()[0]["instances"][0]["gi_id"]
    host.simctl("busy", 0, "--gi", gi_id, "--pid", 4242, "--name", "/usr/bin/python3 serve.py")
    host.forget_calls()
    answer = host.run("mig_info")
    assert host.writes() == []
    assert (answer["changed"], answer["complete"], answer["missing"]) == (False, True, [])
    assert answer["host"]["driver_version"] == "580.82.07"
    assert answer["host"]["cuda_version"] == "13.0"
    hopper, ampere = answer["gpus"]
    # nvidia-smi -q -x of an H100 80GB HBM3, as the facts have it
    assert hopper["name"] == "NVIDIA H100 80GB HBM3"
    assert hopper["pci_device_id"] == "0x233010DE"
    assert (hopper["architecture"], hopper["compute_capability"]) == ("hopper", "9.0")
    assert hopper["mig_mode"] == {"current": "enabled", "pending": "enabled"}
    assert (hopper["resetless_mode_change"], ampere["resetless_mode_change"]) == (True, False)
    rows = {row["name"]: row for row in hopper["profiles"]}
    assert (rows["1g.10gb"]["starts"], rows["1g.10gb"]["count"]) == ([0, 1, 2, 3, 4, 5, 6], 7)
    assert (rows["3g.40gb"]["size"], rows["3g.40gb"]["multiprocessors"]) == (4, 60)
    instance = hopper["instances"][0]
    assert (instance["profile"], instance["start"], instance["size"], instance["busy"]) == ("3g.40gb", 4, 4, True)
    assert instance["compute_instances"][0]["processes"] == [{"pid": 4242, "name": "python3"}]
    assert instance["compute_instances"][0]["uuid"].startswith("MIG-")
    assert ampere["mig_mode"] == {"current": "disabled", "pending": "disabled"}
    assert (ampere["profiles"], ampere["instances"]) == ([], [])  # hidden while MIG is off


def test_a_user_without_privilege_sees_what_nvml_shows_and_what_is_missing(make_host: MakeHost) -> None:
    host = make_host(A100)
    layout = [{"gpus": 0, "instances": [{"profile": "3g.20gb"}, {"profile": "2g.10gb", "compute_instances": []}]}]
    host.run("mig_layout", layout=layout)
    everything = host.gpus()[0]
    answer = host.run("mig_info", user=NOBODY)
    assert answer["complete"] is False
    assert "only root may read" in answer["missing"][0]
    gpu = answer["gpus"][0]
    assert gpu["mig_mode"] == {"current": "enabled", "pending": "enabled"}
    assert [row["name"] for row in gpu["profiles"]] == [row["name"] for row in everything["profiles"]]
    assert [row["starts"] for row in gpu["profiles"]] == [row["starts"] for row in everything["profiles"]]
    assert [(one["profile"], one["start"]) for one in gpu["instances"]] == [("3g.20gb", None)]
    seen = next(one for one in everything["instances"] if one["profile"] == "3g.20gb")
    assert gpu["instances"][0]["compute_instances"][0]["uuid"] == seen["compute_instances"][0]["uuid"]


def test_the_count_of_an_a30_is_right(make_host: MakeHost) -> None:
    host = make_host({"product": A30, "mig": "enabled"})
    counts = {row["name"]: row["count"] for row in host.gpus()[0]["profiles"]}
    assert counts == {"1g.6gb": 4, "1g.6gb+me": 1, "2g.12gb": 2, "2g.12gb+me": 1, "4g.24gb": 1}


def test_a_host_without_gpus(make_host: MakeHost) -> None:
    host = make_host()
    assert host.gpus() == []
    assert host.run("mig_layout", layout=[])["changed"] is False
    answer = host.run("mig_layout", layout="all-balanced")
    assert answer["failed"]
    assert "hits no GPU" in answer["msg"]


def test_eight_gpus_that_are_right_are_only_read(make_host: MakeHost) -> None:
    host = make_host(*[H100] * 8)
    host.run("mig_layout", layout="all-1g.10gb")
    host.forget_calls()
    answer = host.run("mig_layout", layout="all-1g.10gb")
    assert answer["changed"] is False
    assert answer["actions"] == []
    assert host.writes() == []

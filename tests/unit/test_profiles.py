# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Profile names on the boards of the facts, and the names that other drivers gave to the same thing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from unit.planner_support import PLANNABLE, PRODUCTS, gpu, instance, profiles_of, standing

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host
from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import (
    ProfileName,
    board_of,
    facts_profiles,
    product_key,
    product_of,
)

ROOT = Path(__file__).parents[2]

ALIASES = [(key, alias) for key, product in PRODUCTS.items() for alias in product.get("profile_name_aliases") or {}]


def test_product_table_is_what_the_facts_say() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "generate_products.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("key", PLANNABLE)
def test_static_profiles_are_those_of_the_facts(key: str) -> None:
    product = product_of(gpu(key, nvml=False))
    assert product is not None
    ours = facts_profiles(product)
    theirs = profiles_of(key)
    assert [{name: row[name] for name in theirs[0]} for row in ours] == theirs
    assert {(row["copy_engines"], row["decoders"], row["jpeg_engines"], row["ofa_engines"]) for row in ours} == {
        (row["ce"], row["dec"], row["jpeg"], row["ofa"]) for row in PRODUCTS[key]["gi_profiles"]
    }


@pytest.mark.parametrize("key", PLANNABLE)
def test_every_profile_is_found_by_its_own_name(key: str) -> None:
    board = board_of(gpu(key))
    for row in PRODUCTS[key]["gi_profiles"]:
        found = board.find(row["name"])
        assert found is not None
        assert (found.name, found.id) == (row["name"], row["id"])


def test_products_are_known_by_pci_id_or_by_name() -> None:
    assert product_key({"pci_device_id": "0x233010de", "name": "NVIDIA H100 80GB HBM3"}) == "h100-sxm5-80gb"
    assert product_key({"pci_device_id": None, "name": "NVIDIA A30"}) == "a30"
    assert product_key({"pci_device_id": "0x1EB810DE", "name": "Tesla T4"}) is None


@pytest.mark.parametrize(("key", "alias"), ALIASES)
def test_alias_of_another_driver_means_the_same_profile(key: str, alias: str) -> None:
    """`3g.39gb` on A100-80GB is 3g.40gb; the answer bears the present driver's name."""
    meaning = PRODUCTS[key]["profile_name_aliases"][alias]  # "3g.40gb (drivers ...)" or "id 9 on driver 61x"
    by_id = re.match(r"id (\d+) ", meaning)
    row = next(
        row
        for row in PRODUCTS[key]["gi_profiles"]
        if (row["id"] == int(by_id[1]) if by_id else row["name"] == meaning.split()[0])
    )
    plan = plan_host([gpu(key)], [{"gpus": "all", "instances": {alias: 1}}])
    assert [(one["profile"], one["profile_id"]) for one in plan["gpus"][0]["create"]] == [(row["name"], row["id"])]


@pytest.mark.parametrize(
    ("key", "names"),
    [
        # the names that drivers 61x give on GB300 (NVIDIA/dgx-spark-playbooks); wanted by the names of 59x
        ("gb300", {"1g.35gb": "1g.31gb", "1g.70gb": "1g.63gb", "2g.70gb": "2g.63gb", "3g.139gb": "3g.126gb",
                   "4g.139gb": "4g.126gb", "7g.278gb": "7g.251gb", "1g.35gb+me": "1g.31gb+me"}),
        # pre-production GB200 drivers (NVIDIA/mig-parted#227)
        ("gb200", {"1g.23gb": "1g.24gb", "3g.93gb": "3g.95gb", "4g.93gb": "4g.95gb", "7g.186gb": "7g.189gb",
                   "1g.23gb+me": "1g.24gb+me", "2g.47gb": "2g.47gb", "1g.47gb": "1g.47gb"}),
        ("a100-sxm4-80gb", {"3g.40gb": "3g.39gb", "4g.40gb": "4g.39gb", "7g.80gb": "7g.79gb"}),
    ],
)  # fmt: skip
def test_both_directions_when_the_driver_has_the_other_names(key: str, names: dict[str, str]) -> None:
    """NVML wins: a driver with the other names answers in its own; instances that stand are recognised, not remade."""
    on = gpu(key)
    for row in on["profiles"]:
        row["name"] = names.get(row["name"], row["name"])
        row["compute_profiles"] = [
            {**ci, "name": ci["name"].replace(old, new)}
            for ci in row["compute_profiles"]
            for old, new in names.items()
            if new == row["name"]
        ] or row["compute_profiles"]
    for wanted, answer in names.items():
        plan = plan_host([on], [{"gpus": 0, "instances": {wanted: 1}}])
        assert [one["profile"] for one in plan["gpus"][0]["create"]] == [answer]
        there = standing(on, instance(on, answer, plan["gpus"][0]["create"][0]["start"]))
        assert plan_host([there], [{"gpus": 0, "instances": {wanted: 1}}])["changed"] is False


def test_instances_of_an_older_driver_are_kept() -> None:
    on = gpu("a100-sxm4-80gb")
    old = {**instance(on, "3g.40gb", 4), "profile": "3g.39gb"}
    old["compute_instances"] = [{**ci, "profile": "3g.39gb"} for ci in old["compute_instances"]]
    plan = plan_host([standing(on, old)], [{"gpus": 0, "instances": {"3g.40gb": 1}}])
    assert plan["changed"] is False
    assert plan["gpus"][0]["keep"][0]["profile"] == "3g.40gb"


def test_compute_profiles_are_found_under_other_names_too() -> None:
    layout = [{"gpus": 0, "instances": [{"profile": "3g.39gb", "compute_instances": ["1c.3g.39gb", "2c.3g.40gb"]}]}]
    plan = plan_host([gpu("a100-sxm4-80gb")], layout)
    made = plan["gpus"][0]["create"][0]["compute_instances"]
    assert {(ci["profile"], ci["profile_id"], ci["size"]) for ci in made} == {
        ("1c.3g.40gb", 0, 1),
        ("2c.3g.40gb", 1, 2),
    }


@pytest.mark.parametrize(
    ("key", "name", "nearest"),
    [
        ("a100-sxm4-40gb", "1g.6gb", "1g.5gb"),
        ("h100-sxm5-80gb", "1g.5gb", "1g.10gb"),
        ("h100-sxm5-80gb", "3g.71gb", "3g.40gb"),
        ("a30", "1g.6gb+gfx", "1g.6gb"),
        ("h100-sxm5-80gb", "1G.10GB", "1g.10gb"),
        ("h100-sxm5-80gb", "1g10gb", "1g.10gb"),
        ("rtx-pro-6000-server", "2g.48gb+mee", "2g.48gb"),
        ("h200-141gb", "nonsense", "1g.18gb"),
    ],
)
def test_an_unknown_profile_is_refused_with_the_nearest_names(key: str, name: str, nearest: str) -> None:
    with pytest.raises(LayoutError) as caught:
        plan_host([gpu(key)], [{"gpus": "all", "instances": {name: 1}}])
    message = str(caught.value)
    assert message.startswith(f"GPU 0 ({PRODUCTS[key]['name']}) has no profile {name!r}: did you mean {nearest}")
    assert caught.value.context["nearest"][0] == nearest
    assert all(row["name"] in message for row in PRODUCTS[key]["gi_profiles"])


@pytest.mark.parametrize("key", ["rtx-pro-5000", "rtx-pro-4500"])
def test_a_product_whose_places_nobody_has_published_is_refused_by_name(key: str) -> None:
    with pytest.raises(LayoutError, match=f"GPU 0 \\({PRODUCTS[key]['name']}\\).*not known from any document"):
        plan_host([gpu(key, nvml=False)], "all-balanced")


def test_such_a_product_can_be_emptied_switched_off_and_planned_when_nvml_knows_the_places() -> None:
    off = gpu("rtx-pro-5000", nvml=False, mode="disabled")
    assert plan_host([off], "all-enabled")["gpus"][0]["mode"]["to"] == "enabled"
    assert plan_host([off], "all-disabled")["changed"] is False
    row = {"name": "1g.24gb", "id": 14, "size": 6, "starts": [0, 6], "count": 2, "compute_slices": 1}
    known = {
        **off,
        "profiles": [
            row,
            {**row, "name": "2g.48gb", "id": 5, "size": 12, "starts": [0], "count": 1, "compute_slices": 2},
        ],
    }
    plan = plan_host([known], [{"gpus": 0, "instances": {"1g.24gb": 2}}])
    assert [one["start"] for one in plan["gpus"][0]["create"]] == [0, 6]
    with pytest.raises(LayoutError, match="all-balanced is not defined for this board"):
        plan_host([known], "all-balanced")


def test_a_model_that_no_fact_describes_is_refused_with_its_pci_id() -> None:
    unknown = {**gpu("a30", nvml=False), "name": "NVIDIA B999", "pci_device_id": "0x999910DE"}
    with pytest.raises(LayoutError, match=r"GPU 0 \(NVIDIA B999\): NVML lists no profiles.*0x999910DE"):
        plan_host([unknown], "all-balanced")


def test_nvml_wins_over_the_facts() -> None:
    """A board whose NVML table differs from the facts is planned by NVML's table."""
    on = gpu("h100-sxm5-80gb")
    on["profiles"] = [{**row, "starts": [4, 5, 6]} if row["name"] == "1g.10gb" else row for row in on["profiles"]]
    plan = plan_host([on], [{"gpus": 0, "instances": {"1g.10gb": 4}}])
    assert plan["feasible"] is False


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1g.5gb", (None, 1, 5, "")),
        ("1c.3g.20gb+me", (1, 3, 20, "+me")),
        ("1g.24gb+me.all", (None, 1, 24, "+me.all")),
        ("1g.24gb-me", (None, 1, 24, "-me")),
    ],
)
def test_names_taken_apart(text: str, parts: tuple[Any, ...]) -> None:
    parsed = ProfileName.parse(text)
    assert parsed is not None
    assert (parsed.compute, parsed.slices, parsed.gigabytes, parsed.attributes) == parts


@pytest.mark.parametrize("text", ["", "1g", "1g.5", "g.5gb", "0g.5gb", "1g.5gb+", "MIG 1g.5gb", "1g.5gb ", "1c.1g"])
def test_what_is_no_profile_name(text: str) -> None:
    assert ProfileName.parse(text) is None

# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""nvidia-mig-parted's files: every published configuration does what it does there, round trips, and bad files."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.mig_parted_support import BOARD_OF_ID, aliases, as_v1, boards_of, grouped, host_of, published, stands, walked
from unit.planner_support import PRODUCTS, no_mig_gpu

from ansible_collections.gpufleet.mig.plugins.filter.from_mig_parted import from_mig_parted
from ansible_collections.gpufleet.mig.plugins.filter.to_mig_parted import to_mig_parted
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host

PUBLISHED = list(published())


def each(choice: Callable[[str, dict[str, Any]], bool] = lambda _name, _config: True) -> pytest.MarkDecorator:
    """Runs a test for the published configurations that `choice` takes."""
    chosen = [pytest.param(name, config, id=label) for label, name, config in PUBLISHED if choice(name, config)]
    assert chosen
    return pytest.mark.parametrize(("name", "config"), chosen)


def present(key: str, counts: dict[str, int]) -> dict[str, int]:
    """Counts by the names that the board's present driver gives."""
    return {aliases(key).get(profile, profile): count for profile, count in counts.items()}


@each()
def test_every_published_configuration_plans_on_its_boards(name: str, config: dict[str, Any]) -> None:
    v1 = as_v1(name, config)
    layout = from_mig_parted(yaml.safe_dump(v1), name, "config.yaml")
    boards = boards_of(config)
    assert boards
    for key in boards:
        # as many GPUs as any index in the published files, with MIG off and NVML silent about profiles as on Ampere
        for how in ({}, {"mode": "disabled", "nvml": False}):
            host = host_of(*[key] * 8, **how)
            plan = plan_host(host, layout)
            assert plan["feasible"], plan["reason"]
            for index, wanted in walked(v1["mig-configs"][name], host).items():
                after = plan["after"][index]
                assert after["mig_mode"]["current"] == ("disabled" if wanted is None else "enabled")
                assert stands(after) == present(key, wanted or {})


@each(lambda _name, config: any("filter" in entry for entry in config["entries"]))
def test_boards_of_a_mixed_host_get_their_own_rows(name: str, config: dict[str, Any]) -> None:
    v1 = as_v1(name, config)
    boards = sorted(BOARD_OF_ID)
    host = [*host_of(*boards), no_mig_gpu(len(boards))]
    plan = plan_host(host, from_mig_parted(v1, name))
    expected = walked(v1["mig-configs"][name], host)
    assert plan["feasible"], plan["reason"]
    assert expected
    for index, key in enumerate(boards):
        assert stands(plan["after"][index]) == present(key, expected.get(index) or {})


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("all-balancd", "all-balanced"), ("all-1g.10gb+me", "all-1g.10gb.me"), ("costum-config", "custom-config")],
)
def test_the_nearest_configuration_is_suggested(asked: str, meant: str) -> None:
    known = {name: as_v1(name, config)["mig-configs"][name] for _label, name, config in PUBLISHED}
    with pytest.raises(AnsibleFilterError) as caught:
        from_mig_parted({"version": "v1", "mig-configs": known}, asked, "c.yaml")
    assert str(caught.value).startswith(f"c.yaml has no configuration {asked}: did you mean {meant}")


def test_a_dgx_station_with_its_display_gpu() -> None:
    """Device ids and indices together; GPU 3 is the display's, which has no MIG."""
    _label, name, config = next(each for each in PUBLISHED if each[1] == "balanced-k8s-dgx-station-80")
    host = host_of(*["a100-sxm4-80gb"] * 5)
    host[3] = {**no_mig_gpu(3), "pci_device_id": "0x1FB010DE"}
    plan = plan_host(host, from_mig_parted(as_v1(name, config)))
    assert plan["feasible"]
    assert [stands(on) for on in plan["after"]] == [
        {},
        {"3g.40gb": 2},
        {"2g.20gb": 3, "1g.10gb": 1},
        {},
        {"1g.10gb": 7},
    ]
    assert plan["after"][0]["mig_mode"]["current"] == "disabled"


@each(lambda name, _config: name.startswith("all-") and not name.endswith("dgx-station-80"))
def test_presets_of_the_same_name_are_what_nvidia_publishes(name: str, config: dict[str, Any]) -> None:
    for key in boards_of(config):
        host = host_of(key)
        expected = walked(as_v1(name, config)["mig-configs"][name], host)[0]
        after = plan_host(host, name)["after"][0]
        per_entry = plan_host(host, [{"gpus": 0, "preset": name}])["after"][0]
        own = plan_host(host, "mine", layouts={"mine": "yours", "yours": [{"gpus": "all", "preset": name}]})["after"][0]
        assert per_entry == own == after
        assert after["mig_mode"]["current"] == ("disabled" if expected is None else "enabled")
        if expected == {"1g.12gb": 1, "2g.24gb": 1, "3g.47gb": 1}:
            # one of NVIDIA's files leaves a slice of H100 NVL unused; its two newer files have 2 x 1g.12gb there
            assert config["in"] == [0]
            expected = {**expected, "1g.12gb": 2}
        assert stands(after) == present(key, expected or {})


@each()
def test_round_trip_of_published_configurations(name: str, config: dict[str, Any]) -> None:
    v1 = as_v1(name, config)
    layout = from_mig_parted(v1)
    assert to_mig_parted({name: layout}) == v1
    assert from_mig_parted(to_mig_parted({name: layout})) == layout


PROFILES = ["1g.10gb", "1g.10gb+me", "1g.24gb-me", "1g.24gb+me.all", "2g.48gb+gfx", "3g.40gb"]
PARTS = ["1c.2g.20gb", "1c.3g.40gb", "2c.3g.40gb", "1c.7g.80gb", "2c.7g.80gb", "3c.7g.80gb", "4c.7g.80gb"]
IDS = ["0x233010DE", "0x20B010DE", "0x20B710DE"]
wanted = st.dictionaries(st.sampled_from([*PROFILES, *PARTS]), st.integers(1, 4), max_size=4)
rows = st.fixed_dictionaries(
    {
        "devices": st.just("all") | st.lists(st.integers(0, 7), min_size=1, unique=True),
        "mig-enabled": st.just(value=True),
        "mig-devices": wanted,
    },
    optional={"device-filter": st.sampled_from(IDS) | st.lists(st.sampled_from(IDS), min_size=1, unique=True)},
) | st.fixed_dictionaries({"devices": st.just("all"), "mig-enabled": st.just(value=False)})


@settings(max_examples=200, deadline=None)
@given(st.lists(rows, min_size=1, max_size=4))
def test_round_trip_of_any_configuration(config: list[dict[str, Any]]) -> None:
    v1 = {"version": "v1", "mig-configs": {"any": config}}
    try:
        layout = from_mig_parted(v1)
    except AnsibleFilterError as error:
        assert "contradicts an entry above it in mig-enabled" in str(error)  # noqa: PT017
        assert len({row["mig-enabled"] for row in config}) == 2
        return
    assert to_mig_parted({"any": layout}) == v1
    assert from_mig_parted(to_mig_parted({"any": layout})) == layout


def test_other_spellings_of_the_same() -> None:
    """mig-devices {} where MIG is off, counts of 0, parts that are the whole, an index twice, filters of no text."""
    v1 = {
        "version": "v1",
        "mig-configs": {
            "one": [
                {"devices": "all", "device-filter": [], "mig-enabled": False, "mig-devices": {}},
                {
                    "devices": [4, 4],
                    "device-filter": "",
                    "mig-enabled": True,
                    "mig-devices": {"3c.3g.40gb": 1, "2g.20gb": 0},
                },
            ]
        },
    }
    assert from_mig_parted(v1) == [
        {"name": "one", "gpus": "all", "mig": "disabled"},
        {"name": "one", "gpus": [4], "optional": True, "instances": {"3g.40gb": 1}},
    ]


def test_layouts_of_the_inventory_become_a_file() -> None:
    presets = {"small": [{"gpus": "all", "instances": {"1g.10gb": 7}}]}
    layouts = {
        "a": [{"gpus": "0-1", "preset": "small"}, {"gpus": {"device_id": "0x20B210DE", "index": 2}, "mig": "enabled"}],
        "off": "all-disabled",
        "small": "small",
    }
    with pytest.raises(AnsibleFilterError, match="small -> small refer to each other in a circle"):
        to_mig_parted(layouts, presets)  # the layout of this name hides the preset and refers to itself
    del layouts["small"]
    assert to_mig_parted(layouts, presets) == {
        "version": "v1",
        "mig-configs": {
            "a": [
                {"devices": [0, 1], "mig-enabled": True, "mig-devices": {"1g.10gb": 7}},
                {"device-filter": "0x20B210DE", "devices": [2], "mig-enabled": True, "mig-devices": {}},
            ],
            "off": [{"devices": "all", "mig-enabled": False}],
        },
    }


@pytest.mark.parametrize(
    ("profile", "slices", "most"), [("2g.10gb", 2, 3), ("3g.20gb", 3, 2), ("4g.20gb", 4, 1), ("7g.40gb", 7, 1)]
)
def test_compute_instances_share_gpu_instances_as_in_nvidia_mig_parted(profile: str, slices: int, most: int) -> None:
    """Every count of parts that the board can hold, against the peer's trial of orders; A100 40GB."""
    parts = [ci["slices"] for ci in PRODUCTS["a100-sxm4-40gb"]["ci_profiles"][profile]]
    tried = 0
    for number in range(1, slices * most + 1):
        for sizes in itertools.combinations_with_replacement(parts, number):
            if sum(sizes) > slices * most or sum(sizes) > 7:
                continue
            expected = grouped(list(sizes), slices, most)
            if expected is None:
                continue
            tried += 1
            counts = {f"{size}c.{profile}": sizes.count(size) for size in sizes}
            v1 = {
                "version": "v1",
                "mig-configs": {"x": [{"devices": "all", "mig-enabled": True, "mig-devices": counts}]},
            }
            plan = plan_host(host_of("a100-sxm4-40gb"), from_mig_parted(v1))
            assert plan["feasible"], plan["reason"]
            made = [
                tuple(sorted(ci["size"] for ci in one["compute_instances"])) for one in plan["after"][0]["instances"]
            ]
            assert sorted(made) == expected
    assert tried >= 3


ROW: dict[str, Any] = {"devices": "all", "mig-enabled": True, "mig-devices": {"1g.10gb": 7}}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({**ROW, "devices": 7}, "has devices: 7; write all or [7]."),
        ({**ROW, "devices": "some"}, "has devices: some; write all or a list of GPU indices such as [0, 1]."),
        ({**ROW, "devices": []}, "has devices: []; write all or a list"),
        ({**ROW, "devices": [True]}, "has devices: [true]; write all or a list"),
        ({**ROW, "devices": [-1]}, "has devices: [-1]; write all or a list"),
        ({**ROW, "gpus": 0}, "has the unknown key gpus; v1 knows device-filter, devices, mig-enabled, mig-devices."),
        ({"mig-enabled": False}, "does not say devices: add it."),
        ({"devices": "all"}, "does not say mig-enabled: add it."),
        ({**ROW, "mig-enabled": "yes"}, "says mig-enabled: yes; write true or false."),
        ({**ROW, "mig-enabled": False}, "has mig-devices with mig-enabled: false; remove one of the two."),
        ({"devices": "all", "mig-enabled": True}, "has mig-enabled: true without mig-devices; add them ({} leaves"),
        ({**ROW, "mig-devices": ["1g.10gb"]}, "has mig-devices: [1g.10gb]; write counts"),
        ({**ROW, "mig-devices": {"1g10gb": 1}}, "wants 1g10gb, which is no profile's name; write it as 1g.5gb."),
        ({**ROW, "mig-devices": {"1g.10gb": "7"}}, "wants 7 of 1g.10gb; write a number from 0 on."),
        ({**ROW, "mig-devices": {"1g.10gb": 0}}, "counts 0 of every profile; write mig-devices: {} for an empty GPU."),
        ({**ROW, "mig-devices": {"4c.3g.40gb": 1}}, "wants 4c.3g.40gb, which has more compute slices than its GPU"),
        ({**ROW, "device-filter": 0x20B010DE}, "has device-filter: 548409566; write PCI ids in quotes"),
        ({**ROW, "device-filter": ["A100"]}, 'filters by the device id A100; write it as "0x20B010DE".'),
        ({**ROW, "device-filter": "0x20B010DE:0x134F10DE"}, "(subsystem ids are not known of a GPU here); write it as"),
        ("all", "is all; write a mapping of device-filter, devices, mig-enabled, mig-devices."),
    ],
)
def test_a_bad_entry_is_named_with_its_remedy(row: Any, sentence: str) -> None:
    v1 = {"version": "v1", "mig-configs": {"good": [ROW], "bad": [ROW, row]}}
    with pytest.raises(AnsibleFilterError) as caught:
        from_mig_parted(v1, "good", "config.yaml")  # as in nvidia-mig-parted the whole file counts
    message = str(caught.value)
    assert message.startswith("config.yaml, configuration bad, entry 2 ")
    assert sentence in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"version": "v2", "mig-configs": {"a": [ROW]}}, "f.yaml has the version v2; only version: v1 can be read."),
        ({"mig-configs": {"a": [ROW]}}, "f.yaml has no version; only version: v1 can be read."),
        ({"version": "v1", "configs": {}}, "f.yaml has the unknown key configs; remove it (v1 has mig-configs)."),
        ({"version": "v1"}, "f.yaml has no configurations; add at least one to mig-configs."),
        ({"version": "v1", "mig-configs": {"a": []}}, "f.yaml, configuration a: its entries are []; write a list"),
        (
            {"version": "v1", "mig-configs": {"a": [ROW], "b": [ROW]}},
            "f.yaml has several configurations: name one of a, b.",
        ),
        (
            "version: v1\nmig-configs: [",
            "f.yaml is no YAML: expected the node content, but found '<stream end>' in line 2",
        ),
        ("", "f.yaml is nothing; it must be a mapping with version and mig-configs."),
    ],
)
def test_a_bad_file_is_named_with_its_remedy(source: Any, sentence: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        from_mig_parted(source, None, "f.yaml")
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_a_profile_that_the_board_lacks_is_found_when_planned() -> None:
    v1 = {
        "version": "v1",
        "mig-configs": {"a": [{**ROW, "devices": [0]}, {**ROW, "mig-devices": {"1g.5gb": 7}, "devices": [1]}]},
    }
    with pytest.raises(LayoutError) as caught:
        plan_host(host_of("h100-sxm5-80gb", "h100-sxm5-80gb"), from_mig_parted(v1, "a", "config.yaml"))
    message = str(caught.value)
    assert message.startswith("GPU 1 (NVIDIA H100 80GB HBM3) has no profile '1g.5gb': did you mean 1g.10gb")
    assert message.endswith("The layout entry 2 (a of config.yaml, gpus: [1]) wants it.")


def test_a_later_entry_wins_and_a_filter_that_hits_nothing_is_fine() -> None:
    config = [
        {"devices": "all", "mig-enabled": True, "mig-devices": {"7g.80gb": 1}},
        {"devices": [0, 1, 9], "mig-enabled": True, "mig-devices": {"3g.40gb": 2}},
        {"device-filter": "0x20B710DE", "devices": "all", "mig-enabled": True, "mig-devices": {"4g.24gb": 1}},
        {"device-filter": ["0x233010de", "0x20B710DE"], "devices": [1], "mig-enabled": True, "mig-devices": {}},
    ]
    layout = from_mig_parted({"version": "v1", "mig-configs": {"a": config}})
    plan = plan_host(host_of(*["h100-sxm5-80gb"] * 3), layout)
    assert [stands(on) for on in plan["after"]] == [{"3g.40gb": 2}, {}, {"7g.80gb": 1}]
    one_gpu = plan_host(host_of("h100-sxm5-80gb"), layout)  # the first entry loses its only GPU
    assert stands(one_gpu["after"][0]) == {"3g.40gb": 2}


def test_entries_that_contradict_each_other_are_refused_on_the_hosts_where_they_do() -> None:
    """nvidia-mig-parted fails there after changing the mode; a display GPU that only the second one means is fine."""
    config = [ROW, {"device-filter": ["0x1EB810DE", "0x233010DE"], "devices": [1], "mig-enabled": False}]
    layout = from_mig_parted({"version": "v1", "mig-configs": {"a": config}}, "a", "config.yaml")
    assert plan_host([*host_of("h100-sxm5-80gb"), no_mig_gpu(1)], layout)["feasible"]
    with pytest.raises(LayoutError) as caught:
        plan_host(host_of("h100-sxm5-80gb", "h100-sxm5-80gb"), layout)
    assert str(caught.value).startswith(
        "GPU 1 is selected twice: by the layout entry 1 (a of config.yaml, gpus: all) and by the layout entry 2 (a of "
        "config.yaml, gpus: {device_id: "
    )
    third = {"devices": [1], "mig-enabled": True, "mig-devices": {}}
    with pytest.raises(AnsibleFilterError, match=r"^config\.yaml, configuration a, entry 3 contradicts an entry above"):
        from_mig_parted({"version": "v1", "mig-configs": {"a": [*config, third]}}, "a", "config.yaml")


PART = {"profile": "3g.40gb", "compute_instances": ["1c.3g.40gb"]}


@pytest.mark.parametrize(
    ("layout", "sentence"),
    [
        (
            [{"gpus": {"uuid": "GPU-1"}, "mig": "enabled"}],
            "a selection by uuid; a mig-parted file has no words for that",
        ),
        ([{"gpus": {"model": "H100*"}, "mig": "enabled"}], "a selection by model;"),
        ([{"gpus": {"pci": "07:00.0"}, "mig": "enabled"}], "a selection by pci;"),
        ([{"gpus": {"count": 2}, "mig": "enabled"}], "a selection by count;"),
        ([{"gpus": "rest", "mig": "enabled"}], "a selection by rest;"),
        ([{"gpus": 0, "instances": [{"profile": "3g.40gb", "start": 4}]}], "the place of 3g.40gb;"),
        (
            [{"gpus": 0, "instances": [{"profile": "3g.40gb", "compute_instances": []}]}],
            "3g.40gb without compute instances",
        ),
        ([{"gpus": 0, "instances": [PART, PART]}], "these groups of compute instances, as v1 only counts them;"),
        ([{"gpus": 0, "preset": "all-balanced"}], "all-balanced, which is computed for the board;"),
        ("all-1g.10gb", "all-1g.10gb, which is computed for the board;"),
        ([{"gpus": 0, "preset": "uneven"}], "a preset that tells GPUs apart;"),
        (
            [{"gpus": "all", "mig": "enabled"}, {"gpus": 0, "mig": "disabled", "override": True}],
            "another mode than that",
        ),
        ([{"gpus": 0, "instances": {"small": 1}}], "wants small, which is no profile"),
        ([{"gpus": {"device_id": "H100"}, "mig": "enabled"}], "filters by the device id H100; write it as"),
        ([{"gpus": 0}], "says nothing to do"),
    ],
)
def test_what_v1_has_no_words_for_is_refused(layout: Any, sentence: str) -> None:
    uneven = [{"gpus": 0, "mig": "enabled"}, {"gpus": 1, "mig": "disabled"}]
    with pytest.raises(AnsibleFilterError) as caught:
        to_mig_parted({"mine": layout}, {"uneven": uneven})
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("The layout 'mine'")


@pytest.mark.parametrize("layouts", ["all-balanced", [], {}, [{"gpus": "all", "mig": "enabled"}]])
def test_layouts_need_names(layouts: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="A mig-parted file is made from a mapping of names to layouts, not"):
        to_mig_parted(layouts)

# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What selectors hit, what presets mean, that order does not matter, and the sentence for each way to err."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from unit.planner_support import PLANNABLE, PRODUCTS, Gpu, gpu, instance, no_mig_gpu, standing

from ansible_collections.gpufleet.mig.plugins.filter.plan import plan as plan_filter
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host

ONE = {"1g.10gb": 1}


def host() -> list[Gpu]:
    return [
        gpu("h100-sxm5-80gb", 0),
        gpu("h100-sxm5-80gb", 1),
        gpu("a100-sxm4-80gb", 2),
        no_mig_gpu(3),
        gpu("h200-141gb", 4),
    ]


@pytest.mark.parametrize(
    ("selector", "hit"),
    [
        (0, [0]),
        ("1", [1]),
        ("0-2", [0, 1, 2]),
        ("0,2", [0, 2]),
        ("0, 1-2", [0, 1, 2]),
        ([2, 0], [0, 2]),
        (["0-1", 2], [0, 1, 2]),
        ({"index": "0-1"}, [0, 1]),
        ({"uuid": "GPU-00000002"}, [2]),
        ({"uuid": "gpu-00000002"}, [2]),
        ({"uuid": ["GPU-00000000", "GPU-00000001"]}, [0, 1]),
        ({"pci": "00000000:07:00.0"}, [0]),
        ({"pci": "0000:08:00.0"}, [1]),
        ({"pci": "09:00.0"}, [2]),
        ({"model": "H100*"}, [0, 1]),
        ({"model": "h100 80GB hbm3"}, [0, 1]),
        ({"model": "NVIDIA H100*"}, [0, 1]),
        ({"model": "a100-sxm4-80gb"}, [2]),
        ({"model": ["H100*", "A100*"]}, [0, 1, 2]),
        ({"model": "H100*", "index": "1-2"}, [1]),
        ({"count": 1, "model": "A100*"}, [2]),
        ({"device_id": "0x20B210DE"}, [2]),
        ({"device_id": "0x20b210de"}, [2]),
        ({"device_id": ["0x20B210DE", "0x233010DE"], "index": "1-3"}, [1, 2]),
        ({"count": 1, "device_id": "0x233010DE"}, [0]),
    ],
)
def test_a_selector_hits(selector: Any, hit: list[int]) -> None:
    plan = plan_host(host(), [{"gpus": selector, "instances": ONE}])
    assert [one["index"] for one in plan["gpus"] if one["create"]] == hit


def test_all_and_rest_mean_gpus_that_can_do_mig() -> None:
    assert [len(one["create"]) for one in plan_host(host(), "all-balanced")["gpus"]] == [4, 4, 4, 0, 4]
    plan = plan_host(host(), [{"gpus": "rest", "mig": "enabled"}, {"gpus": "0-1", "instances": ONE}])
    assert [len(one["create"]) for one in plan["gpus"]] == [1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("layout", "sentence"),
    [
        ([{"gpus": 7, "instances": ONE}], r"selects GPU 7, which is not there; there is 0, 1, 2, 3, 4"),
        ([{"gpus": {"uuid": "GPU-9"}, "instances": ONE}], r"hits no GPU: none has the uuid 'GPU-9'; there are GPU-00"),
        ([{"gpus": {"pci": "ff:00.0"}, "instances": ONE}], r"none has the pci 'ff:00\.0'; there are 00000000:07:00\.0"),
        ([{"gpus": {"model": "B200*"}, "instances": ONE}], r"none has the model 'B200\*'; there are NVIDIA H100"),
        (
            [{"gpus": {"device_id": "0x20B010DE"}, "mig": "enabled"}],
            r"none has the device_id '0x20B010DE'; there are 0x23",
        ),
        ([{"gpus": {"device_id": "A100"}, "mig": "enabled"}], r"by device_id 'A100'; write .* as \"0x233010DE\""),
        ([{"gpus": {"device_id": 0x20B210DE}, "mig": "enabled"}], r"by device_id 548540638; write text"),
        ([{"gpus": {"device_id": "A100"}, "mig": "enabled", "optional": True}], r"by device_id 'A100'; write"),
        ([{"gpus": {"count": 1}, "mig": "enabled", "optional": True}], r"a number of GPUs, so it cannot be optional"),
        (
            [{"gpus": {"count": 1}, "mig": "enabled", "override": True}],
            r"what other entries leave, so it cannot override",
        ),
        ([{"gpus": "rest", "mig": "enabled", "override": True}], r"what other entries leave, so it cannot override"),
        ([{"gpus": 0, "mig": "enabled", "override": "yes"}], r"says override: yes; it can be true or false"),
        ([{"gpus": 0, "mig": "enabled", "optional": None}], r"says optional: nothing; it can be true or false"),
        ([{"gpus": 0, "mig": "enabled", "name": 7}], r"layout entry 1 has the name 7; a name is text"),
        (
            [{"gpus": 9, "mig": "enabled", "name": "training"}],
            r"layout entry 1 \(training, gpus: 9\) selects GPU 9, which",
        ),
        ([{"gpus": 0, "mig": "enabled", "override": True}, {"gpus": 0, "instances": ONE}], r"GPU 0 is selected twice"),
        ([{"gpus": {"model": "H100*", "index": 2}, "instances": ONE}], r"hits no GPU"),
        ([{"gpus": [0, 0], "instances": ONE}], r"names GPU 0 twice"),
        (
            [{"gpus": "0-1", "instances": ONE}, {"gpus": {"model": "H100*"}, "mig": "enabled"}],
            r"GPU 0 is selected twice: by the layout entry 1 \(gpus: 0-1\) and by the layout entry 2",
        ),
        (
            [{"gpus": "all", "mig": "enabled"}, {"gpus": "rest", "mig": "enabled"}],
            r"entry 2 \(gpus: rest\) hits no GPU",
        ),
        ([{"gpus": "rest", "mig": "enabled"}, {"gpus": "rest", "instances": ONE}], r"both take the rest; only one can"),
        ([{"gpus": "3-1", "instances": ONE}], r"does not select GPUs by 3-1"),
        ([{"gpus": "everything", "instances": ONE}], r"does not select GPUs by everything; write all, rest, an index"),
        ([{"gpus": True, "instances": ONE}], r"does not select GPUs by true"),
        ([{"gpus": [], "instances": ONE}], r"does not select GPUs by \[\]"),
        (
            [{"gpus": {}, "instances": ONE}],
            r"selects GPUs by nothing; known keys are index, uuid, pci, device_id, model, count",
        ),
        ([{"gpus": {"name": "x"}, "instances": ONE}], r"selects GPUs by name; known keys"),
        ([{"gpus": {"model": 5}, "instances": ONE}], r"selects GPUs by model 5; write text"),
        ([{"gpus": {"count": 0}, "instances": ONE}], r"wants 0 GPUs; write a number from 1 on"),
        ([{"gpus": {"count": "two"}, "instances": ONE}], r"wants two GPUs"),
        ([{"instances": ONE}], r"entry 1 does not say which GPUs it is for"),
        ([{"gpus": 0}], r"says nothing to do: add instances, mig or preset"),
        ([{"gpus": 0, "mig": "on"}], r"says mig: on; it can be enabled or disabled"),
        ([{"gpus": 0, "mig": True}], r"says mig: true; it can be"),
        ([{"gpus": 0, "mig": "disabled", "instances": ONE}], r"wants instances with mig: disabled; remove one"),
        ([{"gpus": 0, "preset": "all-balanced", "mig": "enabled"}], r"has a preset and says mig or instances"),
        ([{"gpus": 0, "instance": ONE}], r"has the unknown key instance; known are gpus, mig, instances, preset"),
        ([{"gpus": 0, "instances": {"1g.10gb": -1}}], r"wants -1 instances of 1g\.10gb; write a number from 0 on"),
        ([{"gpus": 0, "instances": {"1g.10gb": "7"}}], r"wants 7 instances of 1g\.10gb; write a number"),
        ([{"gpus": 0, "instances": {"1g.10gb": True}}], r"wants true instances of"),
        ([{"gpus": 0, "instances": {7: 1}}], r"names a profile by 7; a profile's name is text"),
        ([{"gpus": 0, "instances": "1g.10gb"}], r"gives instances as 1g\.10gb; write counts"),
        (
            [{"gpus": 0, "instances": ["1g.10gb"]}],
            r"lists the instance 1g\.10gb; write it as \{profile: 1g\.10gb, start",
        ),
        ([{"gpus": 0, "instances": [{"profile": "1g.10gb", "at": 3}]}], r"instance 1g\.10gb has the unknown key at"),
        ([{"gpus": 0, "instances": [{"profile": "1g.10gb", "start": -1}]}], r"starts at -1; a start is the number"),
        (
            [{"gpus": 0, "instances": [{"profile": "3g.40gb", "start": 2}]}],
            r"wants 3g\.40gb at 2; it can start at 0 or 4",
        ),
        (
            [{"gpus": 0, "instances": {"1c.3g.40gb": 1}}],
            r"wants 1c\.3g\.40gb, which is a compute instance inside a GPU",
        ),
        (
            [{"gpus": 0, "instances": [{"profile": "1g.10gb", "compute_instances": ["2c.3g.40gb"]}]}],
            r"GPU 0 .*: 1g\.10gb has no compute instance '2c\.3g\.40gb'; it can hold 1g\.10gb",
        ),
        (
            [{"gpus": 0, "instances": [{"profile": "3g.40gb", "compute_instances": ["2c.3g.40gb", "2c.3g.40gb"]}]}],
            r"2c\.3g\.40gb, 2c\.3g\.40gb do not fit together into 3g\.40gb, which has 3 compute slices",
        ),
        ([{"gpus": 0, "instances": [{"profile": "3g.40gb", "compute_instances": "3g.40gb"}]}], r"write a list"),
        (["all"], r"layout entry 1 must be a mapping with gpus and instances, mig or preset, not all"),
        ({"gpus": 0}, r"must be the name of a preset or a list of entries, not \{gpus: 0\}"),
        (7, r"must be the name of a preset or a list of entries, not 7"),
        ("all-nothing", r"names the preset 'all-nothing', which is not one of all-balanced, all-enabled"),
        ("mine", r"presets mine -> yours -> mine refer to each other in a circle"),
        ([{"gpus": {"count": 2}, "preset": "uneven"}], r"uses the preset 'uneven' with a count of GPUs; there it must"),
        ([{"gpus": 0, "preset": 5}], r"names a preset by 5; a preset's name is text"),
        ("all-9g.99gb", r"GPU 0 \(NVIDIA H100 80GB HBM3\) has no profile '9g\.99gb': did you mean"),
    ],
)
def test_what_is_wrong_as_written_is_said_in_one_sentence(layout: Any, sentence: str) -> None:
    presets = {
        "mine": "yours",
        "yours": [{"gpus": "all", "preset": "mine"}],
        "uneven": [{"gpus": 0, "mig": "enabled"}, {"gpus": 1, "mig": "disabled"}],
    }
    gpus = host()
    untouched = copy.deepcopy(gpus)
    with pytest.raises(LayoutError, match=sentence) as caught:
        plan_host(gpus, layout, layouts=presets)
    assert "\n" not in str(caught.value)
    plan = plan_filter(gpus, layout, presets)
    assert (plan["feasible"], plan["changed"], plan["reason"]) == (False, False, str(caught.value))
    assert plan["after"] == gpus == untouched


@pytest.mark.parametrize(
    "selector",
    [9, "8-9", [8, 9], {"uuid": "GPU-9"}, {"pci": "ff:00.0"}, {"model": "B200*"}, {"device_id": "0x20B010DE"},
     {"model": "H100*", "index": 2}],
)  # fmt: skip
def test_an_optional_entry_may_hit_nothing(selector: Any) -> None:
    layout = [{"gpus": selector, "instances": ONE, "optional": True}]
    assert plan_host(host(), layout)["changed"] is False
    assert plan_host(host(), [{"gpus": selector, "preset": "own", "optional": True}], layouts={"own": layout})[
        "feasible"
    ]


def test_an_optional_entry_takes_what_is_there() -> None:
    plan = plan_host(host(), [{"gpus": {"model": ["A100*", "B200*"]}, "instances": ONE, "optional": True}])
    assert [one["index"] for one in plan["gpus"] if one["create"]] == [2]
    nothing_left = [{"gpus": "all", "mig": "enabled"}, {"gpus": "rest", "instances": ONE, "optional": True}]
    assert plan_host(host(), nothing_left)["feasible"]
    assert plan_host([no_mig_gpu()], [{"gpus": "all", "preset": "all-balanced", "optional": True}])["changed"] is False
    counted = [{"gpus": {"count": 4}, "preset": "all-balanced"}, {"gpus": "rest", "mig": "enabled", "optional": True}]
    assert [len(one["create"]) for one in plan_host(host(), counted)["gpus"]] == [4, 4, 4, 0, 4]


def test_a_later_entry_overrides_the_ones_before_it() -> None:
    layout = [
        {"gpus": "all", "preset": "mine"},
        {"gpus": "0-1", "instances": {"3g.40gb": 2}, "override": True},
        {"gpus": {"model": "H100*", "index": 1}, "mig": "disabled", "override": True},
    ]
    plan = plan_host(host()[:4], layout, layouts={"mine": [{"gpus": "all", "instances": ONE}]})
    made = [[one["profile"] for one in each["create"]] for each in plan["gpus"]]
    assert made == [["3g.40gb", "3g.40gb"], [], ["1g.10gb"], []]
    assert plan["gpus"][1]["mode"]["to"] == "disabled"


def test_the_filter_wants_gpus() -> None:
    with pytest.raises(AnsibleFilterError, match="works on the list of GPUs that"):
        plan_filter("gpus", "all-balanced")  # type: ignore[arg-type]


@pytest.mark.parametrize("key", PLANNABLE)
def test_presets_of_every_product(key: str) -> None:
    """all-PROFILE is as many as NVML's own count, all-balanced nvidia-mig-parted's row for the board."""
    product = PRODUCTS[key]
    for row in product["gi_profiles"]:
        for name in {row["name"], row["name"].replace("+", ".")}:
            plan = plan_host([gpu(key)], f"all-{name}")
            assert plan["feasible"], plan["reason"]
            assert [one["profile"] for one in plan["gpus"][0]["create"]] == [row["name"]] * row["count"]
    balanced = sorted(
        one["profile"].split(".")[0] for one in plan_host([gpu(key)], "all-balanced")["gpus"][0]["create"]
    )
    assert balanced == (["1g", "1g", "2g", "3g"] if product["compute_slices"] == 7 else ["1g", "1g", "2g"])


def test_own_presets_hide_ours_and_may_use_each_other() -> None:
    presets = {
        "all-balanced": [{"gpus": "all", "instances": {"1g.10gb": 2}}],
        "small": "all-balanced",
        "split": [{"gpus": 0, "preset": "small"}, {"gpus": "rest", "mig": "disabled"}],
    }
    gpus = [gpu("h100-sxm5-80gb", index) for index in range(3)]
    assert [len(one["create"]) for one in plan_host(gpus, "small", layouts=presets)["gpus"]] == [2, 2, 2]
    plan = plan_host(gpus, "split", layouts=presets)
    assert [len(one["create"]) for one in plan["gpus"]] == [2, 0, 0]
    assert [one["mode"]["to"] for one in plan["gpus"]] == ["enabled", "disabled", "disabled"]


def test_a_count_of_zero_wants_nothing() -> None:
    on = gpu("h100-sxm5-80gb")
    plan = plan_host([standing(on, instance(on, "1g.10gb", 0))], [{"gpus": 0, "instances": {"1g.10gb": 0}}])
    assert len(plan["gpus"][0]["destroy"]) == 1


def test_neither_the_order_of_gpus_nor_of_entries_nor_of_keys_matters() -> None:
    entries: list[dict[str, Any]] = [
        {"gpus": 0, "instances": {"3g.40gb": 1, "1g.10gb": 2}},
        {"gpus": {"count": 1}, "instances": {"2g.20gb": 1, "1g.10gb": 1}},
        {"gpus": {"count": 1}, "mig": "enabled"},
        {"gpus": "rest", "mig": "disabled"},
    ]
    gpus = [gpu("h100-sxm5-80gb", index) for index in range(4)]
    first = plan_host(gpus, entries)
    for order in itertools.permutations(entries):
        turned = [
            {**one, "instances": dict(reversed(one["instances"].items()))} if "instances" in one else one
            for one in order
        ]
        assert plan_host(gpus[::-1], turned) == first


def test_the_order_of_listed_instances_does_not_matter() -> None:
    on = gpu("h100-sxm5-80gb")
    on = standing(on, instance(on, "1g.10gb", 5), instance(on, "2g.20gb", 2))
    items: list[dict[str, Any]] = [
        {"profile": "1g.10gb"},
        {"profile": "3g.40gb", "compute_instances": ["1c.3g.40gb", "2c.3g.40gb"]},
        {"profile": "1g.10gb", "start": 2},
        {"profile": "1g.10gb"},
    ]
    plans = [plan_host([on], [{"gpus": 0, "instances": list(order)}]) for order in itertools.permutations(items)]
    assert plans[0]["feasible"]
    assert all(plan == plans[0] for plan in plans)


@pytest.mark.slow
def test_the_same_plan_whatever_the_hash_seed() -> None:
    """Sets and dictionaries of other processes have another order; the plan has not."""
    program = (
        "import json, sys\n"
        "from unit.planner_support import gpu, instance, standing\n"
        "from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host\n"
        "on = gpu('rtx-pro-6000-server')\n"
        "on = standing(on, instance(on, '1g.24gb', 3), instance(on, '2g.48gb', 6))\n"
        "wanted = {'1g.24gb+gfx': 1, '1g.24gb-me': 1, '1g.24gb+me.all': 1, '1g.24gb': 3}\n"
        "plans = [plan_host([on], [{'gpus': 0, 'instances': i}]) for i in (wanted, {'1g.24gb': 3, '1g.24gb+gfx': 1})]\n"
        "print(json.dumps(plans))\n"
    )
    root = Path(__file__).parents[2]
    answers = set()
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": f"{root / '.tree'}:{root / 'tests'}", "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        answers.add(done.stdout)
    assert len(answers) == 1
    refused, planned = json.loads(answers.pop())
    assert refused["feasible"] is False
    assert planned["feasible"] is True


def test_input_is_never_changed() -> None:
    on = gpu("h100-sxm5-80gb")
    gpus = [standing(on, instance(on, "1g.10gb", 0, busy=True), instance(on, "3g.40gb", 4)), gpu("a30", 1)]
    layout: list[dict[str, Any]] = [
        {"gpus": 0, "instances": {"4g.40gb": 1}},
        {"gpus": "rest", "preset": "all-balanced"},
    ]
    before = copy.deepcopy((gpus, layout))
    assert plan_host(gpus, layout)["changed"] is True
    assert (gpus, layout) == before
    with pytest.raises(LayoutError):
        plan_host(gpus, [{"gpus": "all", "instances": {"1g.10gb": 1}}])
    assert (gpus, layout) == before

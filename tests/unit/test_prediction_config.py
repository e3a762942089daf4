# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plugin's config entry changes in the prediction, input that cannot be read, and what follows a plan."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from unit.planner_support import PLANNABLE, PRODUCTS, Gpu, gpu, instance, no_mig_gpu, standing

from ansible_collections.gpufleet.mig.plugins.filter import expected_resources as resources_filter
from ansible_collections.gpufleet.mig.plugins.filter.expected_labels import expected_labels
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host
from ansible_collections.gpufleet.mig.plugins.module_utils._prediction import gfd_labels

HOST = {"driver_version": "580.82.07", "cuda_version": "13.0", "machine": "DGXA100 (920-23687)", "gpu_mode": "compute"}


def whole(count: int = 2) -> list[Gpu]:
    return [gpu("h100-sxm5-80gb", index, mode="disabled") for index in range(count)]


def cut(*profiles: tuple[str, int], index: int = 0) -> Gpu:
    on = gpu("h100-sxm5-80gb", index)
    return standing(on, *(instance(on, name, start) for name, start in profiles))


def slicing(*resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"version": "v1", "sharing": {"timeSlicing": {"resources": list(resources), **more}}}


def expected_resources(*arguments: Any) -> dict[str, Any]:
    """The filter's answer where there is no other right one."""
    said = resources_filter.expected_resources(*arguments)
    assert said.pop("resource_alternatives") == []
    return said


def labels_of(gpus: list[Gpu], strategy: str, config: dict[str, Any] | None = None) -> dict[str, str]:
    said = expected_labels(gpus, strategy, HOST, config)
    assert said["error"] is None
    return {key.split("/", 1)[1]: value for key, value in said["labels"].items()}


def test_time_slicing_multiplies_and_marks_the_product() -> None:
    config = slicing({"name": "nvidia.com/gpu", "replicas": 10})
    assert expected_resources(whole(), "none", config) == {"resources": {"nvidia.com/gpu": 20}, "error": None}
    labels = labels_of(whole(), "none", config)
    assert labels["gpu.product"] == "NVIDIA-H100-80GB-HBM3-SHARED"
    assert (labels["gpu.count"], labels["gpu.replicas"], labels["gpu.sharing-strategy"]) == ("2", "10", "time-slicing")


def test_renamed_resources_have_another_key_and_the_plain_product() -> None:
    config = slicing({"name": "nvidia.com/gpu", "replicas": 3}, renameByDefault=True)
    assert expected_resources(whole(), "none", config)["resources"] == {"nvidia.com/gpu.shared": 6}
    labels = labels_of(whole(), "none", config)
    assert (labels["gpu.product"], labels["gpu.replicas"]) == ("NVIDIA-H100-80GB-HBM3", "3")


def test_sharing_of_one_profile_leaves_the_others_alone() -> None:
    config = slicing({"name": "mig-1g.10gb", "replicas": 4})  # the prefix nvidia.com/ may be left away
    gpus = [cut(("1g.10gb", 0), ("1g.10gb", 1), ("3g.40gb", 4)), gpu("h100-sxm5-80gb", 1, mode="disabled")]
    assert expected_resources(gpus, "mixed", config)["resources"] == {
        "nvidia.com/gpu": 1,
        "nvidia.com/mig-1g.10gb": 8,
        "nvidia.com/mig-3g.40gb": 1,
    }
    labels = labels_of(gpus, "mixed", config)
    assert labels["mig-1g.10gb.product"] == "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb-SHARED"
    assert (labels["mig-1g.10gb.count"], labels["mig-1g.10gb.replicas"]) == ("2", "4")
    assert (labels["mig-3g.40gb.product"], labels["mig-3g.40gb.replicas"]) == (
        "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb",
        "1",
    )
    assert labels["mig-3g.40gb.sharing-strategy"] == "none"


def test_in_single_the_shares_are_those_of_nvidia_com_gpu() -> None:
    config = slicing({"name": "nvidia.com/gpu", "replicas": 2}, {"name": "nvidia.com/mig-3g.40gb", "replicas": 9})
    gpus = [cut(("3g.40gb", 0), ("3g.40gb", 4))]
    assert expected_resources(gpus, "single", config)["resources"] == {"nvidia.com/gpu": 4}
    assert labels_of(gpus, "single", config)["gpu.product"] == "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb-SHARED"


def test_renames_and_selected_devices_of_one_resource_are_ignored_by_the_programs() -> None:
    config = slicing({"name": "nvidia.com/gpu", "rename": "nvidia.com/slow-gpu", "devices": [0], "replicas": 2})
    assert expected_resources(whole(), "none", config)["resources"] == {"nvidia.com/gpu": 4}


def test_mps_shares_whole_gpus_only() -> None:
    config = {"sharing": {"mps": {"resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}}}
    assert expected_resources(whole(), "none", config)["resources"] == {"nvidia.com/gpu": 8}
    labels = labels_of(whole(), "none", config)
    assert (labels["mps.capable"], labels["gpu.sharing-strategy"]) == ("true", "mps")
    assert expected_resources(whole(), "mixed", config) == {
        "resources": {},
        "error": "using --mig-strategy=mixed is not supported with MPS",
    }
    mig = [cut(("1g.10gb", 0))]
    assert expected_resources(mig, "single", config)["error"] == "sharing using MPS is not supported for MIG devices"
    assert expected_labels(mig, "single", HOST, config) == {
        "labels": {},
        "alternatives": [],
        "error": "failed to check MPS-capable: MPS sharing is not supported for mig devices",
    }


def test_cdi_without_any_device_is_an_error_of_the_plugin_alone() -> None:
    empty = [gpu("h100-sxm5-80gb")]
    for config in ({"deviceListStrategy": "cdi-cri"}, {"flags": {"plugin": {"deviceListStrategy": ["cdi-cri"]}}}):
        said = expected_resources(empty, "mixed", config)
        assert said == {"resources": {}, "error": "invalid CDI Spec: invalid spec, no devices"}
    assert expected_resources(empty, "mixed") == {"resources": {}, "error": None}
    # what a device plugin sees whose container was made when there was nothing to give
    assert expected_resources([], "mixed", {"deviceListStrategy": "cdi-cri"})["error"]
    assert expected_resources([*empty, *whole(2)[1:]], "mixed", {"deviceListStrategy": "cdi-cri"})["error"] is None
    # the chart's value wins over the entry's
    both = {"deviceListStrategy": "envvar", "flags": {"plugin": {"deviceListStrategy": "cdi-cri"}}}
    assert expected_resources(empty, "mixed", both)["error"] is None


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"version": "v2"}, "unknown version: v2"),
        (slicing(), "no resources specified"),
        (slicing({"replicas": 2}), "no resource name specified"),
        (slicing({"name": "gpu"}), "no replicas specified"),
        (slicing({"name": "gpu", "replicas": 1}), "number of replicas must be >= 2"),
        (slicing({"name": "gpu", "replicas": "4"}), "cannot unmarshal replicas: '4' is not a whole number"),
        (slicing({"name": "GPU", "replicas": 2}), "incorrect format for resource name 'nvidia.com/GPU'"),
        (slicing({"name": "g" * 60, "replicas": 2}), "fully-qualified resource name must be 63 characters or less"),
        (slicing({"name": "gpu", "replicas": 2, "devices": 0}), "devices set as '0' but a count of devices must be"),
        (slicing({"name": "gpu", "replicas": 2, "devices": "some"}), "only valid string input is 'all'"),
        (slicing({"name": "gpu", "replicas": 2, "devices": ["GPU-1"]}), "unsupported type for device in devices list"),
        ({"sharing": 7}, "cannot unmarshal sharing"),
    ],
)
def test_an_entry_that_both_programs_refuse(config: dict[str, Any], error: str) -> None:
    said = expected_resources(whole(), "none", config)
    assert said["resources"] == {}
    assert error in said["error"]
    labels = expected_labels(whole(), "none", HOST, config)
    assert labels == {"labels": {}, "alternatives": [], "error": said["error"]}


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ({"plugin": {"deviceListStrategy": "cdi"}}, "invalid --device-list-strategy option: invalid strategy: cdi"),
        ({"plugin": {"deviceIDStrategy": "name"}}, "invalid --device-id-strategy option: name"),
        ({"plugin": {"sharedDevicesAllocationPolicy": "x"}}, "invalid --shared-devices-allocation-policy option: x"),
        ({"deviceDiscoveryStrategy": "pci"}, "invalid --device-discovery-strategy option pci"),
    ],
)
def test_a_flag_that_the_plugin_alone_refuses(flags: dict[str, Any], error: str) -> None:
    assert expected_resources(whole(), "none", {"flags": flags}) == {"resources": {}, "error": error}
    assert labels_of(whole(), "none", {"flags": flags})["gpu.count"] == "2"


def test_a_host_without_gpus_or_with_gpus_that_have_no_mig() -> None:
    assert expected_resources([], "mixed") == {"resources": {}, "error": None}
    assert expected_labels([], "mixed", HOST)["labels"] == {"nvidia.com/vgpu.present": "false"}
    assert expected_resources([no_mig_gpu()], "single") == {"resources": {"nvidia.com/gpu": 1}, "error": None}
    labels = labels_of([{**no_mig_gpu(), "compute_capability": "7.5"}], "single")
    assert (labels["mig.capable"], labels["gpu.family"], labels["mig.strategy"]) == ("false", "turing", "single")


def test_machine_names_become_label_values() -> None:
    assert labels_of(whole(), "none")["gpu.machine"] == "DGXA100-920-23687"


def test_a_display_gpu_is_no_gpu() -> None:
    display = {**no_mig_gpu(2), "name": "NVIDIA DGX Display"}
    assert expected_resources([*whole(), display], "none")["resources"] == {"nvidia.com/gpu": 2}
    assert labels_of([*whole(), display], "none")["gpu.count"] == "2"


def test_what_is_not_known_is_called_so() -> None:
    on = gpu("rtx-pro-6000-workstation", mode="disabled")
    assert on["memory_mib"] is None
    assert labels_of([on], "none")["gpu.memory"] == "unknown"


def test_labels_of_others_are_not_compared() -> None:
    ours = expected_labels([cut(("1g.10gb", 0))], "mixed", HOST)["labels"]
    others = {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.deploy.driver": "true",
        "nvidia.com/mig.config": "all-1g.10gb",
        "nvidia.com/mig.config.state": "success",
        "nvidia.com/device-plugin.config": "mixed",
        "nvidia.com/gfd.timestamp": "1605312111",
        "nvidia.com/gpu.clique": "a.b",
        "kubernetes.io/hostname": "gpu-07",
    }
    assert gfd_labels({**ours, **others}) == ours
    assert gfd_labels({"nvidia.com/gpu.product": "x" * 64}) == {}


@pytest.mark.parametrize("strategy", ["bogus", "Mixed", "", None])
def test_a_strategy_that_does_not_exist(strategy: Any) -> None:
    sentence = r"There is no MIG strategy .*none, single or mixed"
    with pytest.raises(AnsibleFilterError, match=sentence):
        expected_resources(whole(), strategy)
    with pytest.raises(AnsibleFilterError, match=sentence):
        expected_labels(whole(), strategy, HOST)


@pytest.mark.parametrize("wrong", [None, "gpus", {"index": 0}, [1], [{"index": 0}]])
def test_something_else_than_gpus(wrong: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="works on the list of GPUs that"):
        expected_resources(wrong, "none")


def test_host_facts_that_are_missing_are_named() -> None:
    with pytest.raises(AnsibleFilterError, match="need cuda_version of the host"):
        expected_labels(whole(), "none", {"driver_version": "580.82.07"})
    with pytest.raises(AnsibleFilterError, match="facts of the host"):
        expected_labels(whole(), "none", None)  # type: ignore[arg-type]
    with pytest.raises(AnsibleFilterError, match="pass it through from_yaml"):
        expected_resources(whole(), "none", "version: v1")


def test_an_instance_whose_profile_is_not_listed_is_not_guessed() -> None:
    broken = {**cut(("1g.10gb", 0)), "profiles": []}
    with pytest.raises(AnsibleFilterError, match=r"GPU 0 has an instance 1g\.10gb, but no such profile"):
        expected_resources([broken], "mixed")


@pytest.mark.parametrize("key", PLANNABLE)
def test_the_prediction_of_a_plan_is_that_of_the_host_as_it_then_stands(key: str) -> None:
    """`after` of a plan gives the same answer as the instances read back from NVML, for every profile of a product."""
    for row in PRODUCTS[key]["gi_profiles"]:
        off = gpu(key, mode="disabled", nvml=False)
        plan = plan_host([off], [{"gpus": 0, "instances": {row["name"]: 1}}])
        place = plan["gpus"][0]["create"][0]["start"]
        on = gpu(key)
        real = standing(on, instance(on, row["name"], place))
        for strategy in ("none", "single", "mixed"):
            assert expected_resources(plan["after"], strategy) == expected_resources([real], strategy)
            assert expected_labels(plan["after"], strategy, HOST) == expected_labels([real], strategy, HOST)
        resource = f"nvidia.com/mig-{row['name'].replace('+', '.')}"
        assert expected_resources([real], "mixed")["resources"] == {resource: 1}


def test_the_four_demo_hosts() -> None:
    """The table of what the demonstration shows, from nothing but the layouts of its inventory."""

    def offered(gpus: list[Gpu], layout: Any, strategy: str) -> dict[str, int]:
        said = expected_resources(plan_host(gpus, layout)["after"], strategy)
        assert said["error"] is None
        return dict(said["resources"])

    a100 = [gpu("a100-sxm4-40gb", mode="disabled", nvml=False)]
    assert offered(a100, "all-disabled", "none") == {"nvidia.com/gpu": 1}
    assert offered(a100, [{"gpus": "all", "instances": {"1g.5gb": 7}}], "single") == {"nvidia.com/gpu": 7}
    three = [{"gpus": "all", "instances": {"3g.20gb": 1, "2g.10gb": 1, "1g.5gb": 1}}]
    assert offered(a100, three, "mixed") == dict.fromkeys(
        ("nvidia.com/mig-3g.20gb", "nvidia.com/mig-2g.10gb", "nvidia.com/mig-1g.5gb"), 1
    )
    eight = [gpu("h100-sxm5-80gb", index, mode="disabled") for index in range(8)]
    layout = [
        {"gpus": "0-1", "instances": {"1g.10gb": 7}},
        {"gpus": [2, 3], "preset": "all-balanced"},
        {"gpus": 4, "instances": {"3g.40gb": 2}},
        {"gpus": 5, "instances": {"1g.20gb": 4}},
        {"gpus": "rest", "mig": "disabled"},
    ]
    assert offered(eight, layout, "mixed") == {
        "nvidia.com/gpu": 2,
        "nvidia.com/mig-1g.10gb": 18,
        "nvidia.com/mig-1g.20gb": 4,
        "nvidia.com/mig-2g.20gb": 2,
        "nvidia.com/mig-3g.40gb": 4,
    }

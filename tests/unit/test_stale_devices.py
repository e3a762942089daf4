# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A device plugin that was not restarted after a change gives out devices that are gone."""

from __future__ import annotations

from typing import Any

from unit.planner_support import gpu, instance, standing

from ansible_collections.gpufleet.mig.plugins.filter.stale_devices import stale_devices

HOPPER = "h100-sxm5-80gb"


def cut() -> list[dict[str, Any]]:
    """One GPU with one instance, whose UUID the kubelet shall know."""
    on = standing(gpu(HOPPER), instance(gpu(HOPPER), "1g.10gb", 0))
    on["uuid"] = "GPU-1"
    on["instances"][0]["compute_instances"][0]["uuid"] = "MIG-new"
    return [on]


def test_what_exists_is_right_replicas_and_other_vendors_too() -> None:
    known = {"nvidia.com/mig-1g.10gb": ["MIG-new::0", "MIG-new::1"], "nvidia.com/gpu": ["GPU-1"], "amd.com/gpu": ["x"]}
    assert stale_devices(cut(), {"checkpoint": {"registered": known}}) == []


def test_each_device_that_is_gone_is_named_once() -> None:
    known = {"nvidia.com/mig-1g.10gb": ["MIG-new", "MIG-old::0", "MIG-old::1"], "nvidia.com/gpu": ["GPU-gone"]}
    said = stale_devices(cut(), {"checkpoint": {"registered": known}})
    assert [sentence.split(" as ")[0].split()[-1] for sentence in said] == ["GPU-gone", "MIG-old"]
    assert all("restart the device plugin" in sentence for sentence in said)


def test_without_a_checkpoint_nothing_is_claimed() -> None:
    for unknown in (None, {}, {"checkpoint": {"registered": None}}):
        assert stale_devices(cut(), unknown) == []

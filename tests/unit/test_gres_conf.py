# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter gres_conf: types as Slurm detects them, and device files by the host's own numbers."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.filter.gres_conf import gres_conf

# From published listings: an H100's 7g.80gb has 81153 MiB, an A100's 1g.5gb 4864, 3g.20gb 20096, 7g.40gb 40192.
A100 = [("1g.5gb", 1, 4864), ("3g.20gb", 3, 20096), ("7g.40gb", 7, 40192)]
MINORS = "config 1\nmonitor 2\ngpu4/gi7/access 606\ngpu4/gi7/ci0/access 607\ngpu4/gi7/ci1/access 608\n"


def gpu(
    index: int, *instances: tuple[str, int, int], minor: int | None = None, mode: str = "enabled"
) -> dict[str, Any]:
    """(profile, GPU instance id, compute instances)"""
    return {
        "index": index,
        "minor": index if minor is None else minor,
        "name": "NVIDIA A100-SXM4-40GB",
        "mig_mode": {"current": mode, "pending": mode},
        "profiles": [{"name": name, "compute_slices": slices, "memory_mib": size} for name, slices, size in A100],
        "instances": [
            {"profile": name, "gi_id": gi, "compute_instances": [{"ci_id": number} for number in range(inside)]}
            for name, gi, inside in instances
        ],
    }


def test_types_are_those_that_slurm_detects() -> None:
    found = gres_conf([gpu(1, mode="disabled"), gpu(0, ("3g.20gb", 1, 1), ("3g.20gb", 2, 1), ("1g.5gb", 9, 1))])
    # slurmd cuts the name at the hyphen for instances only
    assert found["gres"] == "gpu:nvidia_a100_3g.20gb:2,gpu:nvidia_a100_1g.5gb:1,gpu:nvidia_a100-sxm4-40gb:1"
    assert found["text"].splitlines()[1:] == ["AutoDetect=nvml"]


def test_memory_is_rounded_as_slurm_rounds_it() -> None:
    assert gres_conf([gpu(0, ("7g.40gb", 0, 1))])["gres"] == "gpu:nvidia_a100_7g.39gb:1"


def test_without_detection_every_device_file_is_listed_by_the_minor_number() -> None:
    found = gres_conf([gpu(0, ("1g.5gb", 7, 2), minor=4), gpu(1, mode="disabled", minor=0)], MINORS)
    assert found["text"].splitlines()[1:] == [
        "AutoDetect=off",
        "Name=gpu Type=nvidia_a100_1g.5gb "
        "MultipleFiles=/dev/nvidia4,/dev/nvidia-caps/nvidia-cap606,/dev/nvidia-caps/nvidia-cap607",
        "Name=gpu Type=nvidia_a100_1g.5gb "
        "MultipleFiles=/dev/nvidia4,/dev/nvidia-caps/nvidia-cap606,/dev/nvidia-caps/nvidia-cap608",
        "Name=gpu Type=nvidia_a100-sxm4-40gb File=/dev/nvidia0",
    ]


@pytest.mark.parametrize(
    ("gpus", "minors", "said"),
    [
        ([gpu(3)], None, "GPU 3 .* has MIG enabled and nothing on it"),
        ([gpu(3, ("1g.5gb", 7, 0))], None, "GPU 3 .* has MIG enabled and nothing on it"),
        ([gpu(4, ("1g.5gb", 8, 1))], MINORS, "GPU 4 .* mig-minors has no gpu4/gi8/access and no gpu4/gi8/ci0/access"),
        ([gpu(0, ("2g.10gb", 3, 1))], None, "has no profile 2g.10gb"),
        ("gpus", None, "works on the list of GPUs"),
    ],
)
def test_what_slurmd_would_refuse_is_an_error(gpus: Any, minors: str | None, said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=said):
        gres_conf(gpus, minors)

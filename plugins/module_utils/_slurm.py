# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The GPUs of a host as Slurm's generic resources. Pure.

Types and files are those that Slurm's own detection gives (src/plugins/gpu/nvml/gpu_nvml.c of SchedMD/slurm): the name
in lower case with underscores, for an instance cut at the first hyphen and followed by its slices and its memory in
GiB, rounded; each compute instance is one resource with three device files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import describe

Gpu = Mapping[str, Any]

HEADING = "# Written by gpufleet.mig; what stands here is lost at its next run."


def gres(gpus: Sequence[Gpu]) -> str:
    """What slurm.conf says of the node: gpu:TYPE:COUNT, one per type. MigError where slurmd would not start."""
    counts = Counter(kind for kind, _files in _resources(gpus, None))
    return ",".join(f"gpu:{kind}:{count}" for kind, count in counts.items())


def gres_conf(gpus: Sequence[Gpu], minors: str | None) -> str:
    """gres.conf of the host: with Slurm's detection where `minors` is None, else with every device file.

    `minors` is the text of /proc/driver/nvidia-caps/mig-minors.
    """
    resources = _resources(gpus, None if minors is None else _read_minors(minors))
    if minors is None:
        return f"{HEADING}\nAutoDetect=nvml\n"
    lines = [HEADING, "AutoDetect=off"]
    for kind, files in resources:
        key = "File" if len(files) == 1 else "MultipleFiles"
        lines.append(f"Name=gpu Type={kind} {key}={','.join(files)}")
    return "\n".join(lines) + "\n"


def _resources(gpus: Sequence[Gpu], minors: Mapping[str, int] | None) -> list[tuple[str, list[str]]]:
    """Type and device files of each resource, in the order of the GPUs. No files where `minors` is None."""
    found = []
    for gpu in sorted(gpus, key=lambda gpu: int(gpu["index"])):
        name = str(gpu["name"]).lower().replace(" ", "_")
        node = f"/dev/nvidia{gpu.get('minor')}"
        if gpu["mig_mode"]["current"] != "enabled":
            found.append((name, [node]))
            continue
        inside = [(instance, ci) for instance in gpu["instances"] for ci in instance["compute_instances"]]
        if not inside:
            raise MigError(
                f"{describe(dict(gpu))} has MIG enabled and nothing on it that a job can use; slurmd does not start "
                "then. Give it instances, or mig: disabled.",
                gpu=gpu["index"],
            )
        for instance, ci in inside:
            kind = f"{name.partition('-')[0]}_{_size(gpu, instance)}"
            found.append((kind, [node, *_caps(gpu, instance, ci, minors)]))
    return found


def _size(gpu: Gpu, instance: Mapping[str, Any]) -> str:
    row = next((row for row in gpu["profiles"] if row["name"] == instance["profile"]), None)
    if row is None:
        raise MigError(f"{describe(dict(gpu))}: its table has no profile {instance['profile']}.", gpu=gpu["index"])
    return f"{row['compute_slices']}g.{round(row['memory_mib'] / 1024)}gb"


def _caps(gpu: Gpu, instance: Mapping[str, Any], ci: Mapping[str, Any], minors: Mapping[str, int] | None) -> list[str]:
    if minors is None:
        return []
    here = f"gpu{gpu.get('minor')}/gi{instance['gi_id']}"
    keys = [f"{here}/access", f"{here}/ci{ci['ci_id']}/access"]
    missing = [key for key in keys if key not in minors]
    if missing:
        raise MigError(f"{describe(dict(gpu))}: mig-minors has no {' and no '.join(missing)}.", gpu=gpu["index"])
    return [f"/dev/nvidia-caps/nvidia-cap{minors[key]}" for key in keys]


def _read_minors(text: str) -> dict[str, int]:
    rows = (line.split() for line in text.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}

# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan that sets only the MIG mode of some GPUs. Pure: no I/O, no Ansible, no NVML."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._assignment import assign
from ansible_collections.gpufleet.mig.plugins.module_utils._changes import instance_text
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._gpu_plan import WAYS
from ansible_collections.gpufleet.mig.plugins.module_utils._layout import Wish
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_gpu, plan_host
from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import describe

Gpu = dict[str, Any]


def plan_mode(
    gpus: Sequence[Gpu], selector: Any, mode: str, *, destroy_instances: bool, allow: Collection[str] = WAYS
) -> dict[str, Any]:
    """The plan that gives the selected GPUs this mode; those that have it keep their instances.

    MigError where instances would go and may not.
    """
    ordered = sorted(gpus, key=lambda gpu: int(gpu["index"]))

    def disturbance(gpu: Gpu, wish: Wish | None) -> tuple[int, ...]:
        has_it = wish is not None and gpu["mig_mode"]["current"] == mode
        return plan_gpu(gpu, None if has_it else wish, allow).cost

    chosen = assign(ordered, [{"gpus": selector, "mig": mode}], {}, "keep", disturbance)
    layout = []
    for gpu in ordered:
        current, pending = gpu["mig_mode"]["current"], gpu["mig_mode"]["pending"]
        if gpu["index"] not in chosen or current == pending == mode:
            continue
        entry: dict[str, Any] = {"gpus": gpu["index"], "mig": mode}
        if current == mode == "enabled":  # only pending off: setting it back keeps what stands
            entry["instances"] = [_as_wanted(instance) for instance in gpu["instances"]]
        elif gpu["instances"] and not destroy_instances:
            here = ", ".join(instance_text(instance) for instance in gpu["instances"])
            raise MigError(
                f"{describe(gpu)} has instances ({here}), which go when MIG is {mode}. Nothing was changed; "
                "set destroy_instances: true if they may go.",
                gpu=gpu["index"],
            )
        layout.append(entry)
    return plan_host(ordered, layout, allow=allow)


def _as_wanted(instance: Gpu) -> dict[str, Any]:
    inside = [{"profile": ci["profile"], "start": ci["start"]} for ci in instance["compute_instances"]]
    return {"profile": instance["profile"], "start": instance["start"], "compute_instances": inside}

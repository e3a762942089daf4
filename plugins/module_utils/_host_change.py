# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that change GPUs share: open the host, refuse what is unsafe, apply or foretell, report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._apply import apply
from ansible_collections.gpufleet.mig.plugins.module_utils._changes import (
    actions,
    differing,
    preview,
    readable,
    refuse_unsafe,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._gpu_plan import WAYS
from ansible_collections.gpufleet.mig.plugins.module_utils._gpu_reader import Reading, read_host
from ansible_collections.gpufleet.mig.plugins.module_utils._journal import DEFAULT_PATH, Journal, left_behind
from ansible_collections.gpufleet.mig.plugins.module_utils._nvml import Nvml

ARGUMENT_SPEC: dict[str, Any] = {
    "mode_changes": {"type": "list", "elements": "str", "choices": list(WAYS), "default": list(WAYS)},
    "parallel": {"type": "bool", "default": True},
    "journal": {"type": "path", "default": DEFAULT_PATH},
}


@dataclass
class HostChange:
    """One change of one host, from the options of a module. `warnings` are sentences for the user, `failure` what
    became of GPUs that failed where each is changed alone."""

    nvml: Nvml
    journal: Journal
    reading: Reading
    params: Mapping[str, Any]
    check_mode: bool
    interrupted: dict[str, Any] | None
    warnings: list[str] = field(default_factory=list)
    failure: MigError | None = None

    @classmethod
    @contextmanager
    def begin(cls, params: Mapping[str, Any], check_mode: bool, lost: list[str] | None = None) -> Iterator[HostChange]:
        """Lock the host against other changes, open NVML and read all GPUs. Check mode leaves no trace.

        Given a list `lost`, GPUs that cannot be read are named there and left out.
        """
        journal = Journal(params["journal"])
        with ExitStack() as stack:
            nvml = stack.enter_context(Nvml.open())
            if not check_mode:
                stack.enter_context(journal.locked())
            reading = read_host(nvml, lost)
            if not reading.complete:
                raise MigError("The GPUs of this host can only be changed by root: run this as root (become: true).")
            interrupted = journal.read()
            change = cls(nvml, journal, reading, params, check_mode, interrupted)
            if interrupted is not None:
                change.warnings.append(left_behind(interrupted))
            yield change

    def _refuse_reset_of_peers(self, plan: Mapping[str, Any]) -> None:
        """Without the Fabric Manager no GPU behind NVSwitches can be reset alone (nvidia-smi's manual, --gpu-reset)."""
        resets = [str(part["index"]) for part in plan["gpus"] if part["reset"]]
        if resets and self.reading.host["fabric_manager"] is False:
            raise MigError(
                f"GPU {', '.join(resets)} has to be reset for its MIG mode, and on this host with NVSwitches the "
                "Fabric Manager does not run, so that all GPUs would be reset with it. Nothing was changed; start "
                "nvidia-fabricmanager, then run again."
            )

    def carry_out(self, plan: Mapping[str, Any], each_alone: bool = False) -> dict[str, Any]:
        """Apply the plan, or foretell it in check mode; the module's return values."""
        refuse_unsafe(plan)
        self._refuse_reset_of_peers(plan)
        before = self.reading.gpus
        after = preview(before, plan)
        if differing(before, after):
            self.nvml.check_can_change()
            if not self.check_mode:
                ways, parallel = self.params["mode_changes"], self.params["parallel"]
                outcome = apply(self.nvml, before, plan, self.journal, ways, parallel, each_alone)
                self.warnings += outcome.waiting.values()
                self.failure = outcome.failure
                after = [outcome.gpus.get(gpu["uuid"], gpu) for gpu in before]
        if self.interrupted is not None and not self.check_mode and self.failure is None:
            self.journal.remove()
        return {
            "changed": differing(before, after),
            "plan": plan,
            "actions": actions(plan),
            "gpus": after,
            "host": self.reading.host,
            "reboot_required": _reboot_required(plan, after),
            "interrupted": self.interrupted,
            "diff": {"before": readable(before), "after": readable(after)},
        }


def _reboot_required(plan: Mapping[str, Any], after: list[dict[str, Any]]) -> bool:
    """Whether a GPU has not the mode that the plan gives it."""
    modes = {gpu["uuid"]: gpu["mig_mode"]["current"] for gpu in after}
    wanted = {gpu["uuid"]: gpu["mig_mode"]["current"] for gpu in plan["after"]}
    return any(modes.get(uuid) != mode for uuid, mode in wanted.items())

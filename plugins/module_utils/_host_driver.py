# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of the driver of one host, for its part of the fleet's plan: _driver_plan decides. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError


def coming(host: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the roll-out does about the driver, by the role driver's own plan; None where that is nothing.

    MigError where the role would refuse. `reboot` is None where only the repository knows which version comes.
    """
    plan = host.get("driver")
    if plan is None:
        return None
    why = plan["reason"] or plan["stops"]
    if not why and plan["waits"] and host.get("kubernetes", True) is False:
        why = (
            f"a driver ({plan['loaded']['version']}) is loaded and would be replaced under what uses it; drain the "
            "host, then set driver_drained to true"
        )
    if why:
        raise MigError(f"{why}.")
    if not plan["changes"]:
        return None
    needed = "reboot" in plan["changes"]
    return {
        "from": plan["loaded"],
        "to": plan["wanted"],
        "steps": list(plan["changes"]),
        "in_turn": bool(plan["waits"]),
        "reboot": True if needed else None if plan["replaces"] else False,
    }


def until_it_comes(found: Mapping[str, Any]) -> str:
    """Why a host is not planned, which may be that it gets its driver first."""
    driver, reason = found["driver"], str(found["reason"])
    if driver is None or driver["from"] is not None:
        return reason
    return f"{reason}; driver {driver['to']['version']} comes at once, its GPUs are known then, or now by mig_gpus"


def blocking(processes: Iterable[Mapping[str, Any]]) -> list[str]:
    """The roll-out evicts pods before a driver is replaced, and stops nothing else."""
    return [
        f"process {one['pid']} ({one['name'] or 'name unknown'}) uses a GPU and runs in no pod: stop it before the "
        "driver is replaced"
        for one in processes
    ]

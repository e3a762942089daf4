# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a whole fleet as data: a report per host, totals, what would be refused, and the waves. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._host_plan import PENDING, report
from ansible_collections.gpufleet.mig.plugins.module_utils._wave_plan import plan_waves
from ansible_collections.gpufleet.mig.plugins.module_utils._waves import DEFAULT_GATES

Report = dict[str, Any]

STATES = ("changes", "blocked", "unpublished", "refused", "not_planned", "unchanged")


def plan_fleet(
    hosts: Sequence[Mapping[str, Any]],
    *,
    waves: Any = DEFAULT_GATES,
    max_unavailable: Any = 1,
    min_available: Any = None,
    topology_key: str | None = None,
    clusters: Iterable[tuple[Sequence[str], Mapping[str, Any]]] = (),
) -> Report:
    """The plan of the fleet; the filter fleet_plan documents its shape. MigError for settings that cannot be read."""
    answers = {tuple(name): answer for name, answer in clusters}
    reports = [report(host, answers.get(tuple(host.get("cluster") or ()))) for host in hosts]
    going = [line for one in reports if one["status"] in PENDING for line in destroyed(one["host"], one["gpus"])]
    return {
        "drift": any(one["status"] != "unchanged" for one in reports),
        "fleet": _totals(reports),
        "destroy": _against_limit(going, hosts),
        "refused": _with_reason(reports, "refused"),
        "not_planned": _with_reason(reports, "not_planned"),
        "waves": plan_waves(_by_cluster(hosts, reports, answers), waves, max_unavailable, min_available, topology_key),
        "hosts": reports,
    }


def guard(plans: Mapping[str, Mapping[str, Any]], variables: Mapping[str, Mapping[str, Any]]) -> Report:
    """{count, most, instances, stops} for the plans of single hosts by host, and the variables of these hosts."""
    going = [line for host, plan in plans.items() if plan["feasible"] for line in destroyed(host, plan["gpus"])]
    limits = [{"max_destroy": of_host.get("mig_max_destroy")} for of_host in variables.values()]
    return _against_limit(going, limits)


def _against_limit(going: list[str], hosts: Iterable[Mapping[str, Any]]) -> Report:
    """A limit is for the whole run: the smallest that any host of it has. MigError for one that is no number."""
    limits = [_limit(host["max_destroy"]) for host in hosts if host.get("max_destroy") not in (None, "")]
    most = min(limits, default=None)
    return {"count": len(going), "most": most, "stops": most is not None and len(going) > most, "instances": going}


def _limit(value: Any) -> int:
    if isinstance(value, (bool, float)) or not str(value).strip().isdigit():
        raise MigError(f"mig_max_destroy is {value!r}; write how many instances a run may destroy, from 0 on.")
    return int(value)


def destroyed(host: str, parts: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each instance that goes by the `gpus` of a plan: GPU instances, and compute instances of those that
    stay."""
    lines = []
    for part in parts:
        where = f"{host} GPU {part['index']}"
        for instance in part["destroy"]:
            busy = " (in use)" if instance["busy"] else ""
            lines.append(f"{where}: {instance['profile']} at {instance['start']}{busy}")
        for instance in part["keep"]:
            for ci in instance["compute"]["destroy"]:
                lines.append(f"{where}: {ci['profile']} inside {instance['profile']} at {instance['start']}")
    return lines


def _with_reason(reports: Iterable[Report], status: str) -> list[dict[str, str]]:
    return [{"host": one["host"], "reason": one["reason"]} for one in reports if one["status"] == status]


def _totals(reports: Sequence[Report]) -> Report:
    """Sums over the hosts; what is refused counts as it stands, because nothing of it is done."""
    pending = [one for one in reports if one["status"] in PENDING]
    parts = [part for one in pending for part in one["gpus"]]
    standing = [part for one in reports for part in one["gpus"]]
    drivers = [one["driver"] for one in reports if one["driver"]]
    resources: dict[str, dict[str, int]] = {}
    for one in reports:
        for key, sides in (one["resources"] or {}).items():
            total = resources.setdefault(key, {"before": 0, "after": 0})
            total["before"] += sides["before"]
            total["after"] += sides["after"]
    return {
        "hosts": {"all": len(reports), **{state: sum(one["status"] == state for one in reports) for state in STATES}},
        "gpus": {"all": len(standing), "change": sum(part["changes"] for part in parts)},
        "instances": {
            "keep": sum(len(part["keep"]) for part in standing),
            "destroy": sum(len(part["destroy"]) for part in parts),
            "create": sum(len(part["create"]) for part in parts),
        },
        "compute_instances": {
            what: sum(one["compute_instances"][what] for one in pending) for what in ("destroy", "create")
        },
        "mode_changes": sum(part["mode"]["set"] for part in parts),
        "resets": sum(part["reset"] for part in parts),
        "reboots": sum(_reboots(one) for one in pending),
        "drivers": {
            "in_turn": sum(driver["in_turn"] for driver in drivers),
            "at_once": sum(not driver["in_turn"] for driver in drivers),
        },
        "blockers": sum(len(part["blockers"]) for part in parts),
        "resources": dict(sorted(resources.items())),
    }


def _reboots(report: Report) -> bool:
    by_driver = report["driver"] and report["driver"]["reboot"]
    return bool(by_driver) or any(part["reboot"] for part in report["gpus"])


def _by_cluster(
    hosts: Sequence[Mapping[str, Any]], reports: Sequence[Report], answers: Mapping[tuple[str, ...], Mapping[str, Any]]
) -> list[list[tuple[Report, Mapping[str, Any]]]]:
    """The reports of each cluster with what their nodes show; hosts of which no cluster was asked are one of them."""
    found: dict[tuple[str, ...], list[tuple[Report, Mapping[str, Any]]]] = {}
    for host, one in zip(hosts, reports):
        name = tuple(host.get("cluster") or ())
        node = ((answers.get(name) or {}).get("nodes") or {}).get(one["node"]) or {}
        found.setdefault(name, []).append((one, node if node.get("exists") else {}))
    return list(found.values())

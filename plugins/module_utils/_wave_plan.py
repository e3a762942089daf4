# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The waves of a fleet's plan: each cluster by itself, in the order of the roll-out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _budget
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._host_plan import turn_comes
from ansible_collections.gpufleet.mig.plugins.module_utils._order import zones_of
from ansible_collections.gpufleet.mig.plugins.module_utils._waves import (
    batch_sizes,
    behind,
    capacity_left,
    read_waves,
    split,
    spread,
)

Report = dict[str, Any]
Part = Mapping[str, Any]


def plan_waves(
    clusters: Sequence[Sequence[tuple[Report, Part]]],
    raw: Any,
    unavailable: Any,
    min_available: Any,
    topology_key: str | None = None,
) -> Report:
    """{waves: [{number, hosts, out, left}], refused}: of the hosts that change, by their names.

    `clusters` has the reports on the hosts of each, in the order of the inventory, and beside each what its node shows
    ({} where that is not known). `refused` are sentences, one per cluster in which no order holds `min_available` or
    no node that changes has the label `topology_key`.
    MigError for settings that cannot be read.
    """
    minimum = _budget.read_min_available(min_available)
    read_waves(raw, 0)
    waves: list[Report] = []
    refused = []
    for hosts in clusters:
        pending = [report["host"] for report, shown in hosts if _goes(report, shown)]
        gates = read_waves(raw, len(pending))
        out = _budget.read_max_unavailable(unavailable, len(hosts))
        try:
            pending = _order(hosts, batch_sizes(gates, out), minimum, topology_key)
        except MigError as error:
            refused.append(str(error))
        waves += _waves(hosts, split(pending, gates), out)
    return {"waves": [{"number": number, **wave} for number, wave in enumerate(waves, 1)], "refused": refused}


def _goes(report: Report, shown: Part) -> bool:
    """Whether the roll-out takes the node: one that carries the skip label is left as it is."""
    return turn_comes(report) and not shown.get("skipped")


def _order(
    hosts: Sequence[tuple[Report, Part]], sizes: Sequence[int], minimum: Mapping[str, int], topology_key: str | None
) -> list[str]:
    """The pending hosts as the roll-out takes them: those that an earlier run left in the middle come first."""
    fleet, left, changes = [], [], []
    for report, shown in hosts:
        before, after = _sides(report, "before"), _sides(report, "after")
        pending = _goes(report, shown)
        ready, schedulable = bool(shown.get("ready", True)), bool(shown.get("schedulable", True))
        if pending and shown.get("rollout") is not None:
            left.append(report["host"])
            fleet.append(_budget.Node(report["host"], True, True, after))
            continue
        now = _budget.Node(report["host"], ready, schedulable, shown.get("allocatable") or before)
        fleet.append(now)
        if pending:
            changes.append(_budget.Change(now.name, {}, {}) if now.out else _budget.Change(now.name, now.offers, after))
    inside = any(report["resources"] is not None for report, _shown in hosts)
    # Without an answer of the cluster the zones are not known.
    labels = {report["host"]: shown.get("zone") for report, shown in hosts if _goes(report, shown)}
    zones = zones_of(labels, topology_key) if all(shown for _report, shown in hosts) else {}
    places = behind(sizes, len(left))

    def arrange(tried: Sequence[_budget.Change]) -> Sequence[_budget.Change]:
        return spread(tried, places, lambda change: zones[change.name])

    return left + _budget.order(fleet, changes, places, minimum if inside else {}, arrange if zones else list)


def _waves(hosts: Sequence[tuple[Report, Part]], waves: Sequence[Sequence[str]], out: int) -> list[Report]:
    others = [report["host"] for report, shown in hosts if not _goes(report, shown)]
    before = {report["host"]: _sides(report, "before") for report, _shown in hosts}
    after = {report["host"]: _sides(report, "after") for report, _shown in hosts}
    left = capacity_left(waves, others, before, after, out)
    return [{"hosts": wave, "out": min(out, len(wave)), "left": keys} for wave, keys in zip(waves, left)]


def _sides(report: Report, side: str) -> dict[str, int]:
    return {key: sides[side] for key, sides in (report["resources"] or {}).items()}

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The order of a cluster's nodes in a roll-out, from what the API shows of them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _budget, _ownership, _publishers, _waves
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

PRESENT = "nvidia.com/gpu.present"
"""Label of GPU nodes, by the GPU operator and by node feature discovery's rule (NVIDIA GPU operator documentation)."""

Node = Mapping[str, Any]


@dataclass(frozen=True)
class Order:
    """`names` in their order; how many of them each wave and each batch has; nodes that are left as they are."""

    names: list[str]
    waves: list[int]
    batches: list[int]
    skipped: dict[str, str]


def fleet(nodes: Iterable[Node], ours: Collection[str]) -> list[_budget.Node]:
    """The GPU nodes of a cluster: those that show an nvidia.com resource, carry the label, or are `ours`."""
    found = []
    for node in nodes:
        shown = _publishers.describe(dict(node), [])
        name = str(node["metadata"]["name"])
        if name in ours or PRESENT in shown["labels"] or any(shown["capacity"].values()):
            found.append(_budget.Node(name, shown["ready"], shown["schedulable"], shown["allocatable"]))
    return sorted(found, key=lambda node: node.name)


def put(
    nodes: Sequence[Node],
    after: Mapping[str, _budget.Offers],
    waves: Any,
    max_unavailable: Any,
    min_available: Any,
    topology_key: str | None,
) -> Order:
    """The order of the nodes that change. `nodes` are all of the cluster; `after` is what each that changes will offer.

    Nodes that an earlier run left in the middle of their change come first: they are out of service already. For the
    others `after` has the order that is kept where nothing speaks against it. MigError says which setting cannot be
    read, or which minimum no order holds.
    """
    _waves.read_waves(waves, 0)
    minimum = _budget.read_min_available(min_available)
    everything = {str(node["metadata"]["name"]): node for node in nodes}
    now = {node.name: node for node in fleet(nodes, after)}
    at_once = _budget.read_max_unavailable(max_unavailable, len(now))
    absent = [name for name in after if name not in everything]
    if absent:
        raise MigError(f"The cluster has no node {', '.join(absent)}. Nothing was changed.")
    reasons = {name: reason for name, node in everything.items() if (reason := _ownership.skipped(node))}
    going = [name for name in after if name not in reasons]
    marks = {name: _ownership.read(everything[name]) for name in going}
    left = [name for name in going if marks[name].run is not None or marks[name].failed]
    others = [name for name in going if name not in left]
    for name in left:
        back = now[name].ready and marks[name].was_schedulable
        now[name] = _budget.Node(name, back, back, after[name])
    changes = [_budget.Change(name, {}, {}) if now[name].out else _change(now[name], after[name]) for name in others]
    gates = _waves.read_waves(waves, len(going))
    sizes = _waves.batch_sizes(gates, at_once)
    behind = _waves.behind(sizes, len(left))
    labels = {name: _labels(everything[name]).get(topology_key or "") for name in going}
    zones = zones_of(labels, topology_key)

    def arrange(tried: Sequence[_budget.Change]) -> Sequence[_budget.Change]:
        return _waves.spread(tried, behind, lambda change: zones[change.name])

    names = left + _budget.order(list(now.values()), changes, behind, minimum, arrange if zones else list)
    return Order(names, [end - begin for begin, end in zip([0, *gates], gates)], sizes, reasons)


def _change(node: _budget.Node, after: _budget.Offers) -> _budget.Change:
    return _budget.Change(node.name, node.offers, after)


def zones_of(labels: Mapping[str, str | None], key: str | None) -> dict[str, str]:
    """The zone of each node that changes, by the value of its label; {} where no `key` is given.

    Nodes without the label count as one zone. MigError where none has it.
    """
    if not key or not labels:
        return {}
    zones = {name: str(value or "") for name, value in labels.items()}
    if not any(zones.values()):
        raise MigError(
            f"mig_topology_key is {key!r}, and none of the {len(labels)} nodes that change carries that label: correct "
            "the name, or leave it out. Nothing was changed."
        )
    return zones


def _labels(node: Node) -> Mapping[str, str]:
    return node["metadata"].get("labels") or {}

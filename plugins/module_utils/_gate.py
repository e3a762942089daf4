# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate before each batch of nodes: wait until the whole fleet can spare them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Callable

from ansible_collections.gpufleet.mig.plugins.module_utils import _budget, _lock, _publishers
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._kube import Kube
from ansible_collections.gpufleet.mig.plugins.module_utils._watch import Watched

PAUSE_S = 1.0
PRESENT = "nvidia.com/gpu.present"
"""Label of GPU nodes, by the GPU operator and by node feature discovery's rule (NVIDIA GPU operator documentation)."""


def fleet(nodes: Iterable[Mapping[str, Any]], ours: Collection[str]) -> list[_budget.Node]:
    """The GPU nodes of a cluster: those that show an nvidia.com resource, carry the label, or are `ours`."""
    found = []
    for node in nodes:
        shown = _publishers.describe(dict(node), [])
        name = str(node["metadata"]["name"])
        if name in ours or PRESENT in shown["labels"] or any(shown["capacity"].values()):
            found.append(_budget.Node(name, shown["ready"], shown["schedulable"], shown["allocatable"]))
    return sorted(found, key=lambda node: node.name)


def wait(
    kube: Kube,
    taking: Collection[str],
    max_unavailable: Any,
    min_available: Mapping[str, int],
    timeout: float,
    keep: Callable[[], None],
) -> list[_budget.Node]:
    """The fleet, once the nodes `taking` may be taken out. MigError with every objection after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    nodes = Watched(kube, "/api/v1/nodes", PAUSE_S)

    def look() -> tuple[list[_budget.Node], list[str]]:
        now = fleet(nodes.all(), taking)
        most = _budget.read_max_unavailable(max_unavailable, len(now))
        return now, _budget.objections(now, taking, most, min_available)

    keep()
    nodes.refresh()
    while (found := look())[1] and (left := deadline - time.monotonic()) > 0:
        nodes.follow(min(left, _lock.between(keep)), lambda: not look()[1])
        keep()
    if found[1] and timeout > 0:
        nodes.refresh()
        found = look()
    now, said = found
    if said:
        raise MigError(
            f"Node {', '.join(sorted(taking))} cannot be spared (waited {timeout:g} s): {'; '.join(said)}. "
            "It was not touched; bring the other nodes back, or allow more, and run again.",
            objections=said,
        )
    return now

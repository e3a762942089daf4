# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The batches of a roll-out as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_batches
short_description: How many nodes each batch of a roll-out has
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Cuts the nodes that change into waves, and each wave into batches of as many nodes as may be out at a time. No batch
    crosses a gate between waves.
positional: waves, max_unavailable, fleet
options:
  _input:
    description: The nodes that change, in their order.
    type: list
    elements: str
    required: true
  waves:
    description: Gates over what is done in all, numbers of nodes or shares, such as V([1, "10%", "25%", "100%"]).
    type: list
    elements: raw
    required: true
  max_unavailable:
    description: How many nodes may be out at a time, a number or a share of O(fleet).
    type: raw
    required: true
  fleet:
    description: How many nodes there are in all.
    type: int
    required: true
seealso:
  - module: gpufleet.mig.rollout_gate
"""

EXAMPLES = r"""
- name: Say in which batches the nodes go
  ansible.builtin.debug:
    msg: "{{ ['gpu-01', 'gpu-02', 'gpu-03'] | gpufleet.mig.rollout_batches([1, '100%'], 2, 40) }}"  # [1, 2]
"""

RETURN = r"""
_value:
  description: Sizes, which C(serial) of a play takes.
  type: list
  elements: int
"""

from collections.abc import Sequence
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils._budget import read_max_unavailable
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._waves import read_waves, split


def rollout_batches(nodes: Sequence[str], waves: Any, max_unavailable: Any, fleet: int) -> list[int]:
    """See DOCUMENTATION. AnsibleFilterError carries the sentence for gates or shares that cannot be read."""
    try:
        at_once = read_max_unavailable(max_unavailable, int(fleet))
        gates = read_waves(waves, len(nodes))
    except MigError as error:
        raise AnsibleFilterError(str(error)) from error
    sizes = []
    for wave in split(list(nodes), gates):
        sizes += [len(wave[at : at + at_once]) for at in range(0, len(wave), at_once)]
    return sizes


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"rollout_batches": rollout_batches}

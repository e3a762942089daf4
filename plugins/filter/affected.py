# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a plan takes something from, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: affected
short_description: Which pods and processes a plan takes their GPU or instance from
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Names the pods on instances that go, on GPUs whose mode changes or that are reset, and all of them at a reboot. Pods
    on instances that stay are not among them.
  - While C(unknown) has a sentence, it is not known who would be hurt, and nothing may be changed.
positional: holders
options:
  _input:
    description: The plan of one host as P(gpufleet.mig.plan#filter) gives it.
    type: dict
    required: true
  holders:
    description: Who holds what on the same host, as P(gpufleet.mig.holders#filter) gives it.
    type: dict
    required: true
seealso:
  - plugin: gpufleet.mig.plan
    plugin_type: filter
  - plugin: gpufleet.mig.holders
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Which pods have to move?
  ansible.builtin.debug:
    msg: "{{ mig_plan | gpufleet.mig.affected(host.gpus | gpufleet.mig.holders(devices, pods)) }}"
"""

RETURN = r"""
_value:
  description: Whom the plan takes something from.
  type: dict
  contains:
    scope:
      description:
        - V(none), V(instances), V(gpus) (a GPU at least changes its mode or is reset) or V(node) (a reboot, so that
          every pod of the node goes, those without a GPU too).
      type: str
    devices:
      description: UUIDs that go, or are out of use meanwhile.
      type: list
      elements: str
    pods:
      description: Pods that hold one of them, as in P(gpufleet.mig.holders#filter).
      type: list
      elements: dict
    processes:
      description: Processes on them that run in no pod, with C(pid), C(name) and C(uuid).
      type: list
      elements: dict
    unknown:
      description: Sentences that say what is not known. Empty where all is.
      type: list
      elements: str
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils import _holders


def affected(plan: Any, holders: Any) -> dict[str, Any]:
    """See DOCUMENTATION. AnsibleFilterError where something else is given."""
    if not isinstance(plan, Mapping) or "reboot_required" not in plan:
        raise AnsibleFilterError("gpufleet.mig.affected works on a plan of gpufleet.mig.plan.")
    if not isinstance(holders, Mapping) or "disagreements" not in holders:
        raise AnsibleFilterError("gpufleet.mig.affected takes what gpufleet.mig.holders gives.")
    return _holders.affected(plan, holders)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"affected": affected}

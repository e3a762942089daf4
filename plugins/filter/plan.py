# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner as a filter: what a layout would change on the GPUs of one host, before anything is touched."""

from __future__ import annotations

DOCUMENTATION = r"""
name: plan
short_description: What a layout would change on the GPUs of one host
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Plans how the GPUs of one host get from the instances that stand to the wanted layout, with the fewest instances
    destroyed. The plan is exact and always the same for the same input.
  - A layout that is wrong as written is not feasible; its sentence is the reason.
  - Nothing is touched. The filter needs no GPU, no driver and no cluster, only the list that M(gpufleet.mig.mig_info)
    returns.
  - Best means, in this order, the fewest busy instances destroyed, the fewest GPU instances and then compute instances
    destroyed, the largest profiles that still fit beside the layout, and the lowest starts.
positional: layout, layouts, unlisted_gpus, stood
options:
  _input:
    description: The list of GPUs as RV(gpufleet.mig.mig_info#module:gpus).
    type: list
    elements: dict
    required: true
  stood:
    description:
      - A layout as P(gpufleet.mig.adopted_layout#filter) gives it, from before a reboot that took the instances. It
        comes back on GPUs that no entry selects, that are to be kept, and that have nothing on them now.
    type: list
    elements: dict
extends_documentation_fragment: gpufleet.mig.layout
seealso:
  - module: gpufleet.mig.mig_info
  - module: gpufleet.mig.mig_layout
"""

EXAMPLES = r"""
- name: Read the GPUs of the host
  gpufleet.mig.mig_info:
  register: host

- name: Say what the layout of the inventory would change
  ansible.builtin.debug:
    msg: "{{ host.gpus | gpufleet.mig.plan(mig_layout, mig_layouts | default({})) }}"

- name: Stop where it cannot be
  ansible.builtin.assert:
    that: plan.feasible
    fail_msg: "{{ plan.reason }}"
  vars:
    plan: "{{ host.gpus | gpufleet.mig.plan([{'gpus': 'all', 'instances': {'3g.40gb': 1, '1g.10gb': 4}}]) }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    feasible:
      description: Whether every GPU can be what is wanted of it.
      type: bool
    changed:
      description: Whether anything is to be done. V(false) where the plan is not feasible.
      type: bool
    reason:
      description:
        - Which GPU cannot, what is in the way, and the nearest layouts that fit; or what is wrong in the layout as
          written. V(null) where feasible.
      type: str
    differences:
      description: One sentence per GPU that is not as wanted, with what it has too much and what it lacks.
      type: list
      elements: str
      sample: ["GPU 1 has 1g.10gb@0, 1g.10gb@1 and lacks 2g.20gb@0"]
    reboot_required:
      description: Whether a mode change takes effect only after a reboot.
      type: bool
    gpus:
      description: The plan of each GPU, by index. Empty where the layout is wrong as written.
      type: list
      elements: dict
      contains:
        index:
          description: NVML's index of the GPU.
          type: int
        uuid:
          description: UUID of the GPU.
          type: str
        mode:
          description:
            - The MIG mode, with C(from) (what it is), C(to) (what it will be), C(pending) (what NVML has pending) and
              C(set) (whether it is to be set).
          type: dict
        reset:
          description: Whether the mode change resets the GPU.
          type: bool
        keep:
          description: GPU instances that stay, each with what happens to the compute instances inside.
          type: list
          elements: dict
        destroy:
          description: GPU instances that go.
          type: list
          elements: dict
        create:
          description: GPU instances that come, with their places and compute instances.
          type: list
          elements: dict
        blockers:
          description: Processes that must stop before anything is destroyed under them, each with a remedy.
          type: list
          elements: dict
        feasible:
          description: Whether this GPU can be what is wanted of it.
          type: bool
        reason:
          description: Why not.
          type: str
    after:
      description: The list of GPUs as it will be. UUIDs and ids of what is created are V(null).
      type: list
      elements: dict
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host


def plan(
    gpus: list[dict[str, Any]],
    layout: Any,
    layouts: Mapping[str, Any] | None = None,
    unlisted_gpus: str = "keep",
    stood: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """See DOCUMENTATION. AnsibleFilterError for a list that is none of GPUs."""
    if not isinstance(gpus, list) or not all(isinstance(gpu, Mapping) and "mig_mode" in gpu for gpu in gpus):
        raise AnsibleFilterError(
            "gpufleet.mig.plan works on the list of GPUs that gpufleet.mig.mig_info returns as gpus."
        )
    try:
        return plan_host(gpus, layout, layouts=layouts, unlisted=unlisted_gpus, stood=stood)
    except LayoutError as error:
        return {
            "feasible": False,
            "changed": False,
            "reason": str(error),
            "differences": [],
            "gpus": [],
            "reboot_required": False,
            "after": gpus,
        }


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"plan": plan}

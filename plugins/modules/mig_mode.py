#!/usr/bin/python
# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module mig_mode: switch the MIG mode of GPUs, and nothing else."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mig_mode
short_description: Switch the MIG mode of GPUs on or off
version_added: "0.1.0"
description:
  - Sets the MIG mode of the selected GPUs where it differs. GPUs that have the mode keep their instances.
  - Instances go with the mode, so switching it off is refused while there are any, unless O(destroy_instances) is true.
    An instance that a process uses is never destroyed.
  - To set the mode and create instances in one go, use M(gpufleet.mig.mig_layout).
author:
  - gpufleet.mig maintainers (@gpufleet)
options:
  mode:
    description: The mode that is wanted. A GPU without MIG is as good as one with MIG V(disabled).
    type: str
    choices: [enabled, disabled]
    required: true
  gpus:
    description:
      - Which GPUs, in the same ways as C(gpus) in an entry of O(gpufleet.mig.mig_layout#module:layout).
      - V(all) means those that can do MIG.
    type: raw
    default: all
  destroy_instances:
    description: Destroy the instances of GPUs whose mode is switched off.
    type: bool
    default: false
extends_documentation_fragment:
  - gpufleet.mig.mig_host
  - gpufleet.mig.mig_host.change
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: Foretells the same as a run does, and calls nothing that changes a GPU.
  diff_mode:
    support: full
  platform:
    platforms: posix
seealso:
  - module: gpufleet.mig.mig_info
  - module: gpufleet.mig.mig_layout
"""

EXAMPLES = r"""
- name: Switch MIG on, so that NVML lists the profiles of an Ampere GPU
  gpufleet.mig.mig_mode:
    mode: enabled
  become: true

- name: Give two GPUs back whole
  gpufleet.mig.mig_mode:
    gpus: [6, 7]
    mode: disabled
    destroy_instances: true
  become: true
"""

RETURN = r"""
plan:
  description: What happens on each GPU, as the filter P(gpufleet.mig.plan#filter) returns it.
  returned: when it could be planned
  type: dict
actions:
  description: The steps of the plan in their order on each GPU.
  returned: success
  type: list
  elements: dict
  sample: [{gpu: 0, action: set_mode, mode: enabled, reset: true}]
gpus:
  description: The GPUs after the change, as RV(gpufleet.mig.mig_info#module:gpus). In check mode as they would be.
  returned: success
  type: list
  elements: dict
host:
  description: The host, as RV(gpufleet.mig.mig_info#module:host).
  returned: success
  type: dict
reboot_required:
  description: A MIG mode takes effect only after a reboot.
  returned: success
  type: bool
interrupted:
  description: The journal of an earlier run that did not end, with what stood before it. V(null) where there is none.
  returned: success
  type: dict
blockers:
  description: What uses a GPU or an instance that has to go, each with a remedy.
  returned: when the change is refused because of them
  type: list
  elements: dict
undone:
  description: After a failure, the GPUs that are again as before (C(back)) and those that are not (C(not_back)).
  returned: when a change failed half-way
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.mig.plugins.module_utils import _host_change
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._mode_plan import plan_mode

ARGUMENT_SPEC: dict[str, Any] = {
    **_host_change.ARGUMENT_SPEC,
    "mode": {"type": "str", "choices": ["enabled", "disabled"], "required": True},
    "gpus": {"type": "raw", "default": "all"},
    "destroy_instances": {"type": "bool", "default": False},
}


def main() -> None:
    """Read, plan, apply, report."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    params = module.params
    try:
        with _host_change.HostChange.begin(params, module.check_mode) as change:
            plan = plan_mode(
                change.reading.gpus,
                params["gpus"],
                params["mode"],
                destroy_instances=params["destroy_instances"],
                allow=params["mode_changes"],
            )
            result = change.carry_out(plan)
    except MigError as error:
        module.fail_json(msg=str(error), **error.context)
    for sentence in change.warnings:
        module.warn(sentence)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands on a host as its inventory variables, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: adopted_vars
short_description: What stands on a host as its inventory variables
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Gives the variables that take a host under the inventory without any change, and says which GPUs they leave out.
positional: labels
options:
  _input:
    description: The list of GPUs as RV(gpufleet.mig.mig_info#module:gpus), read by root.
    type: list
    elements: dict
    required: true
  labels:
    description:
      - Labels of the host's node, of which C(nvidia.com/mig.strategy) gives C(mig_strategy). Feature discovery sets no
        such label for V(none).
    type: dict
    default: {}
seealso:
  - plugin: gpufleet.mig.adopted_layout
    plugin_type: filter
  - module: gpufleet.mig.inventory_vars
"""

EXAMPLES = r"""
- name: Take over what stands on the host
  gpufleet.mig.inventory_vars:
    path: "{{ inventory_dir }}/host_vars"
    hosts: "{{ {inventory_hostname: (host.gpus | gpufleet.mig.adopted_vars).variables} }}"
  delegate_to: localhost
"""

RETURN = r"""
_value:
  description: The variables and what they leave out.
  type: dict
  contains:
    variables:
      description:
        - C(mig_layout), C(mig_strategy) where a label gives it, and C(mig_unlisted_gpus) (V(keep)) where a GPU is left
          out.
      type: dict
    left_out:
      description: One sentence per MIG-capable GPU that no layout can leave as it stands.
      type: list
      elements: str
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils import _adopt
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError


def adopted_vars(gpus: Any, labels: Any = None) -> dict[str, Any]:
    """See DOCUMENTATION. AnsibleFilterError where something else is given, or places were not read."""
    if not isinstance(gpus, list) or not all(isinstance(gpu, Mapping) and "mig_mode" in gpu for gpu in gpus):
        raise AnsibleFilterError(
            "gpufleet.mig.adopted_vars works on the list of GPUs that gpufleet.mig.mig_info returns as gpus."
        )
    try:
        return {"variables": _adopt.adopted_vars(gpus, labels), "left_out": _adopt.left_out(gpus)}
    except MigError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"adopted_vars": adopted_vars}

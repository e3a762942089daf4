# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands on the GPUs of a host as a layout, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: adopted_layout
short_description: What stands on the GPUs of a host as a layout that changes nothing
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Gives the layout that leaves the GPUs exactly as they stand, with the places of all instances and of what is inside.
    GPUs that are alike share an entry. P(gpufleet.mig.plan#filter) with it never finds anything to do.
  - GPUs without MIG are not in it, nor are those that no layout can leave as they stand, such as one with a pending
    mode. P(gpufleet.mig.adopted_vars#filter) names these.
options:
  _input:
    description: The list of GPUs as RV(gpufleet.mig.mig_info#module:gpus), read by root.
    type: list
    elements: dict
    required: true
seealso:
  - plugin: gpufleet.mig.adopted_vars
    plugin_type: filter
  - plugin: gpufleet.mig.plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what stands as a layout
  ansible.builtin.debug:
    msg: "{{ host.gpus | gpufleet.mig.adopted_layout }}"
"""

RETURN = r"""
_value:
  description: A list of entries for C(mig_layout).
  type: list
  elements: dict
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils import _adopt
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError


def adopted_layout(gpus: Any) -> list[dict[str, Any]]:
    """See DOCUMENTATION. AnsibleFilterError where something else is given, or places were not read."""
    if not isinstance(gpus, list) or not all(isinstance(gpu, Mapping) and "mig_mode" in gpu for gpu in gpus):
        raise AnsibleFilterError(
            "gpufleet.mig.adopted_layout works on the list of GPUs that gpufleet.mig.mig_info returns as gpus."
        )
    try:
        return _adopt.adopted_layout(gpus)
    except MigError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"adopted_layout": adopted_layout}

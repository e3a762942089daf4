# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands on the GPUs of a host as the file that brings it back after a reboot, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: boot_layout
short_description: What stands on the GPUs of a host, as the command gpufleet-mig reads it
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Gives the document that C(gpufleet-mig apply) brings back after a reboot, with the identity of each GPU, the places
    of all instances and of what is inside, and a digest of the whole.
  - GPUs that no layout can leave as they stand, such as one with a pending mode, are not in it.
options:
  _input:
    description: The list of GPUs as RV(gpufleet.mig.mig_info#module:gpus), read by root.
    type: list
    elements: dict
    required: true
seealso:
  - plugin: gpufleet.mig.adopted_layout
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Keep what stands
  ansible.builtin.copy:
    content: "{{ host.gpus | gpufleet.mig.boot_layout | to_nice_json }}"
    dest: /etc/gpufleet-mig/layout.json
    mode: "0600"
"""

RETURN = r"""
_value:
  description: The digest of the layout, and one record per GPU.
  type: dict
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils import _boot
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError


def boot_layout(gpus: Any) -> dict[str, Any]:
    """See DOCUMENTATION. AnsibleFilterError where something else is given, or places were not read."""
    if not isinstance(gpus, list) or not all(isinstance(gpu, Mapping) and "mig_mode" in gpu for gpu in gpus):
        raise AnsibleFilterError(
            "gpufleet.mig.boot_layout works on the list of GPUs that gpufleet.mig.mig_info returns as gpus."
        )
    try:
        return _boot.boot_layout(gpus)
    except MigError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"boot_layout": boot_layout}

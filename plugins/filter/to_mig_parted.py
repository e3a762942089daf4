# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layouts as a configuration file of nvidia-mig-parted, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: to_mig_parted
short_description: Layouts as a configuration file of nvidia-mig-parted
version_added: 0.1.0
author:
  - gpufleet.mig maintainers (@gpufleet)
description:
  - Writes named layouts as the configurations of one file of nvidia-mig-parted (C(version=v1)).
  - That format has counts per profile, device ids and indices. Whatever else a layout says (places, GPUs by UUID, PCI
    address, model or number, the rest, presets that are computed for a board) is refused with one sentence.
  - A file cannot say that an entry must find its GPUs, so C(optional) is what every entry becomes. C(name) is left
    away.
positional: layouts
options:
  _input:
    description: Layouts by the name of their configuration.
    type: dict
    required: true
  layouts:
    description: Presets of your own that the layouts refer to.
    type: dict
    default: {}
seealso:
  - plugin: gpufleet.mig.from_mig_parted
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Write the layouts of the inventory for hosts that nvidia-mig-parted manages
  ansible.builtin.copy:
    content: "{{ mig_layouts | gpufleet.mig.to_mig_parted | ansible.builtin.to_nice_yaml }}"
    dest: config.yaml
    mode: "0644"
  delegate_to: localhost
  run_once: true

- name: Show the layout of one host as a configuration
  ansible.builtin.debug:
    msg: "{{ {inventory_hostname: mig_layout} | gpufleet.mig.to_mig_parted(mig_layouts | default({})) }}"
"""

RETURN = r"""
_value:
  description: The file, to be written as YAML or JSON.
  type: dict
  sample:
    version: v1
    mig-configs:
      small:
        - devices: all
          mig-enabled: true
          mig-devices: {1g.10gb: 7}
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.mig.plugins.module_utils import _mig_parted
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError


def to_mig_parted(layouts_by_name: Any, layouts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """See DOCUMENTATION. AnsibleFilterError says which entry the format has no words for."""
    try:
        return _mig_parted.to_mig_parted(layouts_by_name, layouts)
    except MigError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"to_mig_parted": to_mig_parted}
